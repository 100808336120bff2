"""A bound component: a component with its options checked, ready to be built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from genpath.errors import BuildError, GenpathError
from genpath.plugins.components import Component

__all__ = ["Bound", "plain"]


@dataclass(frozen=True)
class Bound:
    """A component, its options, and where in the config it stands.

    Args:
        component: the component.
        options: an instance of its options class, whose slots hold ``Bound``; None where it has no
            options.
        node: the key path, such as ``path.schedule`` or ``evaluate[0]``.

    Example:
        >>> box = Component("law", "waves.box", "builtins:dict", needs=("space",))
        >>> Bound(box, None, "base").build(space="R2")
        {'space': 'R2'}
    """

    component: Component
    options: Any = None
    node: str = ""

    @property
    def kind(self) -> str:
        """The component's kind."""
        return self.component.kind

    @property
    def name(self) -> str:
        """The component's full name."""
        return self.component.name

    def build(self, **context: Any) -> Any:
        """Build the nested slots, then the component: ``target(**options, **needs)``.

        A target with ``slot_context(slot, context) -> context`` says what the component in a slot
        is built from, where that is not the same: a network of two halves gives each its half of
        the prediction.

        Args:
            context: built things by name; each component takes what it needs and leaves the rest.

        Returns:
            What the target returned.

        Raises:
            BuildError: a needed thing is not in ``context``.
            ComponentLoadError: the code does not import.
        """
        target = self.component.load()
        inner = getattr(target, "slot_context", lambda slot, given: given)
        values = {
            name: _built(value, inner(name, context) if _holds_bound(value) else context)
            for name, value in _values(self.options).items()
        }
        needed = {name: self._need(name, context, values) for name in self.component.needs}
        try:
            return target(**values, **needed)
        except Exception as error:
            if not isinstance(error, GenpathError):
                error.add_note(f"while building {self}")
            raise

    def to_dict(self) -> dict[str, Any]:
        """The node as plain values, defaults included: ``{"name": ..., **options}``."""
        return {"name": self.name} | {k: plain(v) for k, v in _values(self.options).items()}

    def __str__(self) -> str:
        return f"{self.node or self.kind} ({self.kind} {self.name!r})"

    def _need(self, name: str, context: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        if name in values:
            fix = f"this is a fault of {self.component.origin}"
            raise BuildError(str(self), f"{name!r} is both an option and a need.", fix=fix)
        if name not in context:
            raise BuildError(
                str(self),
                f"it needs {name!r}.",
                got=f"only {', '.join(context) or 'nothing'}",
                fix=f"pass {name}=..., or have the config name what {name!r} is built from",
            )
        return context[name]


def _values(options: Any) -> dict[str, Any]:
    if options is None:
        return {}
    return {field.name: getattr(options, field.name) for field in fields(options) if field.init}


def _holds_bound(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value
    inside = isinstance(value, (list, tuple, dict)) and any(isinstance(i, Bound) for i in items)
    return isinstance(value, Bound) or inside


def _built(value: Any, context: Mapping[str, Any]) -> Any:
    if isinstance(value, Bound):
        return value.build(**context)
    if isinstance(value, (list, tuple)) and any(isinstance(item, Bound) for item in value):
        return type(value)(_built(item, context) for item in value)
    if isinstance(value, dict) and any(isinstance(item, Bound) for item in value.values()):
        return {key: _built(item, context) for key, item in value.items()}
    return value


def plain(value: Any) -> Any:
    """A checked value as what YAML can hold: mappings, lists, numbers, text, null."""
    if isinstance(value, Bound):
        return value.to_dict()
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in _values(value).items()}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
