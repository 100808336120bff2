"""Options: the dataclass fields that a config can set.

The options of a component are a plain dataclass in a module that imports no torch. Its field types
are what a config can hold: bool, int, float, str, Enum, Literal, Optional and unions of these,
list, tuple and dict, and dataclasses of the same. Two helpers add what a type cannot say; both are
``dataclasses.field`` with metadata:

    @dataclass(frozen=True)
    class Linear:
        gamma: str | None = option(None, help="noise between the endpoints")
        width: int = option(64, help="channels", minimum=1)
        schedule: Slot = slot("schedule", "trigonometric", help="α and β")

A slot names another component, nested in this one. A type ``list[Slot]`` or ``dict[str, Slot]``
makes it several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, field
from typing import Any, TypeAlias

__all__ = ["COMPONENT", "Slot", "option", "slot"]

COMPONENT = "component"
"""The metadata key that makes a field a slot; its value is the kind."""

Slot: TypeAlias = Any
"""The type of a slot: a name or node in a config, and what it built when the target is called."""


def option(
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] | Any = MISSING,
    help: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field with a line of help and, for numbers, a range.

    Args:
        default: the default; a field without one must be given.
        factory: makes the default, where it is mutable.
        help: one line, shown by ``genpath show``.
        minimum: the least value.
        maximum: the greatest value.
        above: a value that it must exceed.
        below: a value that it must stay under.

    Example:
        >>> option(64, help="channels", minimum=1).metadata["minimum"]
        1
    """
    bounds = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    metadata = {"help": help} | {name: bound for name, bound in bounds.items() if bound is not None}
    return _field(default, factory, metadata)


def slot(
    kind: str, default: Any = MISSING, *, factory: Callable[[], Any] | Any = MISSING, help: str = ""
) -> Any:
    """A field that names a component of a kind.

    Args:
        kind: one of ``genpath.plugins.KINDS``.
        default: a component's name, a node ``{"name": ...}``, or None where it may stay empty.
        factory: makes the default, where it is mutable.
        help: one line.

    Example:
        >>> slot("schedule", "trigonometric").metadata["component"]
        'schedule'
    """
    return _field(default, factory, {"help": help, COMPONENT: kind})


def _field(default: Any, factory: Any, metadata: dict[str, Any]) -> Any:
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    if isinstance(default, (list, dict, set)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)
