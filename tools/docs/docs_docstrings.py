"""A Griffe extension: what our docstrings write a little otherwise than Google's style.

Example:           is a section of runnable lines here, as Examples: is there
a, b: meaning      in Args is two parameters with one meaning
"""

import re

import griffe

EXAMPLE = re.compile(r"^(\s*)Example:[ \t]*$", re.MULTILINE)


def rewritten(text):
    """The docstring in the words that the parser knows."""
    return EXAMPLE.sub(r"\1Examples:", text)


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)
