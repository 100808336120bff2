"""Words for messages: lists, and the nearest valid spelling."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["article", "listed", "nearest", "suggestion", "table"]


def article(noun: str) -> str:
    """A noun with its indefinite article.

    Example:
        >>> article("path"), article("objective")
        ('a path', 'an objective')
    """
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def listed(words: Iterable[object], last: str = "or") -> str:
    """Words as a list in a sentence.

    Example:
        >>> listed(["ode", "sde", "jumps"])
        'ode, sde or jumps'
    """
    found = [str(word) for word in words]
    return f" {last} ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is spelt most like ``word``, or None where none is near.

    A bare name is near its qualified form: ``linear`` to ``interpolants.linear``.

    Example:
        >>> nearest("stepz", ["steps", "width"])
        'steps'
        >>> nearest("linear", ["interpolants.linear"])
        'interpolants.linear'
    """
    from difflib import get_close_matches

    candidates = list(known)
    lowered = {candidate.lower(): candidate for candidate in candidates}
    for found in get_close_matches(word.lower(), lowered, n=1, cutoff=0.6):
        return lowered[found]
    tails = {candidate.lower().rpartition(".")[2]: candidate for candidate in candidates}
    tail = word.lower().rpartition(".")[2]
    for found in get_close_matches(tail, tails, n=1, cutoff=0.75):
        return tails[found]
    return None


def suggestion(word: str, known: Iterable[str]) -> str:
    """ "did you mean ...?", or nothing."""
    found = nearest(word, known)
    return f"did you mean {found!r}?" if found is not None else ""


def table(rows: Iterable[Iterable[object]], *, indent: str = "") -> str:
    """Rows as aligned columns of plain text.

    Example:
        >>> print(table([["core", "ok"], ["waves", "failed"]]))
        core   ok
        waves  failed
    """
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        return ""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(indent + line.rstrip() for line in lines)
