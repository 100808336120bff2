"""From a plain value to a field's type, with one problem for every misfit.

Nothing is guessed: quoted numbers stay text, true is no integer. Two conversions lose nothing and
are made: an integer where a number is due, and a number without fraction (``1e5``) where an integer
is due.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from genpath.config.problems import INVALID, describe
from genpath.plugins.words import listed, nearest

if TYPE_CHECKING:
    from genpath.config.binding import Binder

__all__ = ["convert", "is_supported", "type_words"]

_SCALARS = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
_LISTS = (list, Sequence, typing.Sequence)
_MAPPINGS = (dict, Mapping, typing.Mapping)


def type_words(annotation: Any) -> str:
    """A type in the words of a config.

    Example:
        >>> type_words(float | None), type_words(Literal["a", "b"]), type_words(list[int])
        ('a number or null', "'a' or 'b'", 'a list, each an integer')
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if annotation in (None, type(None)):
        return "null"
    if annotation is Any:
        return "anything"
    if origin is Literal:
        return listed(repr(value) for value in arguments)
    if origin in (Union, types.UnionType):
        ordered = sorted(arguments, key=lambda argument: argument is type(None))
        return listed(type_words(argument) for argument in ordered)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: {'; '.join(map(type_words, arguments))}"
    if origin in (*_LISTS, tuple) or annotation in (list, tuple):
        return f"a list, each {type_words(arguments[0])}" if arguments else "a list"
    if origin in _MAPPINGS or annotation is dict:
        return f"a mapping, each value {type_words(arguments[1])}" if arguments else "a mapping"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return listed(repr(member.name) for member in annotation)
    if is_dataclass(annotation):
        return "a mapping"
    return str(annotation)


def is_supported(annotation: Any) -> bool:
    """Whether a config can hold this type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal or annotation in (*_SCALARS, None, type(None), Any, list, tuple, dict):
        return True
    if origin in (Union, types.UnionType, tuple, *_LISTS, *_MAPPINGS):
        return all(is_supported(each) for each in arguments if each is not Ellipsis)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return True
    return isinstance(annotation, type) and is_dataclass(annotation)


def convert(value: Any, annotation: Any, key: str, binder: Binder) -> Any:
    """A plain value as a field's type, or ``INVALID`` with a problem taken down.

    Example:
        >>> from genpath.config.binding import Binder
        >>> binder = Binder()
        >>> convert(3, float, "lr", binder), convert("3", float, "lr", binder)
        (3.0, INVALID)
        >>> print(binder.problems.found[0])
        the config: lr
          expected  a number
          got       the text '3'
          fix       leave out the quotes
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any or value is INVALID:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(value, annotation, key, binder)
    if isinstance(annotation, type) and is_dataclass(annotation):
        return _convert_dataclass(value, annotation, key, binder)
    if origin is tuple or annotation is tuple:
        return _convert_tuple(value, annotation, key, binder)
    if origin in _LISTS or annotation is list:
        return _convert_list(value, arguments[0] if arguments else Any, annotation, key, binder)
    if origin in _MAPPINGS or annotation is dict:
        return _convert_mapping(value, annotation, key, binder)
    found = _scalar(value, annotation)
    if found is INVALID:
        binder.problems.add(
            key, type_words(annotation), describe(value), _scalar_fix(value, annotation)
        )
    return found


def _scalar(value: Any, annotation: Any) -> Any:
    """A value as a type without parts, or ``INVALID``."""
    if annotation in (None, type(None)):
        return None if value is None else INVALID
    if get_origin(annotation) is Literal:
        for allowed in get_args(annotation):
            if type(value) is type(allowed) and value == allowed:
                return allowed
        return INVALID
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        if isinstance(value, annotation):
            return value
        return annotation.__members__.get(value, INVALID) if isinstance(value, str) else INVALID
    if annotation is int and type(value) is float and value.is_integer():
        return int(value)
    if annotation is float and type(value) in (int, float):
        return INVALID if math.isnan(value) else float(value)
    return value if annotation in _SCALARS and type(value) is annotation else INVALID


def _scalar_fix(value: Any, annotation: Any) -> str:
    if isinstance(value, str):
        names: list[str] = []
        if get_origin(annotation) is Literal:
            names = [each for each in get_args(annotation) if isinstance(each, str)]
        elif isinstance(annotation, type) and issubclass(annotation, Enum):
            names = list(annotation.__members__)
        if near := nearest(value, names):
            return f"did you mean {near!r}?"
        if annotation in (int, float) and value.replace(".", "", 1).lstrip("+-").isdigit():
            return "leave out the quotes"
        if annotation is bool and value.lower() in ("yes", "no", "on", "off", "true", "false"):
            return f"write {'true' if value.lower() in ('yes', 'on', 'true') else 'false'}"
    elif annotation is str and value is not None and not isinstance(value, (dict, list)):
        return "put it in quotes"
    return ""


def _convert_union(value: Any, annotation: Any, key: str, binder: Binder) -> Any:
    members = get_args(annotation)
    # exactly fitting members first, so that 1 stays an integer in int | float and in float | int
    for exact in sorted(members, key=lambda member: member is not type(value)):
        attempt = binder.trial()
        found = convert(value, exact, key, attempt)
        if not attempt.problems.found:
            return found
    rest = [member for member in members if member is not type(None)]
    if len(rest) == 1 and value is not None and type_words(rest[0]) not in _SCALARS.values():
        return convert(value, rest[0], key, binder)  # its own problem says more
    fixes = [fix for member in members if (fix := _scalar_fix(value, member))]
    binder.problems.add(key, type_words(annotation), describe(value), fixes[0] if fixes else "")
    return INVALID


def _convert_dataclass(value: Any, annotation: type, key: str, binder: Binder) -> Any:
    if isinstance(value, annotation):
        return value
    if not isinstance(value, Mapping):
        binder.problems.add(key, "a mapping of options", describe(value))
        return INVALID
    return binder.bind_options(annotation, value, key)


def _convert_tuple(value: Any, annotation: Any, key: str, binder: Binder) -> Any:
    arguments = get_args(annotation)
    if not arguments or arguments[-1] is Ellipsis:
        element = arguments[0] if arguments else Any
        found = _convert_list(value, element, annotation, key, binder)
        return found if found is INVALID else tuple(found)
    if not isinstance(value, (list, tuple)) or len(value) != len(arguments):
        binder.problems.add(key, type_words(annotation), describe(value))
        return INVALID
    pairs = zip(value, arguments, strict=True)
    parts = [convert(v, a, f"{key}[{i}]", binder) for i, (v, a) in enumerate(pairs)]
    return INVALID if any(part is INVALID for part in parts) else tuple(parts)


def _convert_list(value: Any, element: Any, annotation: Any, key: str, binder: Binder) -> Any:
    if not isinstance(value, (list, tuple)):
        binder.problems.add(key, type_words(annotation), describe(value), f"write [{value}]")
        return INVALID
    parts = [convert(each, element, f"{key}[{i}]", binder) for i, each in enumerate(value)]
    return INVALID if any(part is INVALID for part in parts) else parts


def _convert_mapping(value: Any, annotation: Any, key: str, binder: Binder) -> Any:
    if not isinstance(value, Mapping):
        binder.problems.add(key, type_words(annotation), describe(value))
        return INVALID
    keys, values = get_args(annotation) or (Any, Any)
    found: dict[Any, Any] = {}
    for name, each in value.items():
        name = convert(name, keys, f"{key}.{name}", binder)
        found[name] = convert(each, values, f"{key}.{name}", binder)
    return INVALID if any(each is INVALID for pair in found.items() for each in pair) else found
