"""Binding: from plain values to options, and from names to components, with every problem taken
down.

Nothing heavy is imported: a component is looked up in the registry, and its options class comes
from a torch-free module. A problem does not end the work; the others are still found.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from genpath.config.bound import Bound
from genpath.config.convert import convert
from genpath.config.options import COMPONENT
from genpath.config.problems import INVALID, Problems, describe
from genpath.errors import ComponentLoadError, UnknownComponentError
from genpath.plugins.components import Component
from genpath.plugins.registry import Registry
from genpath.plugins.words import article, nearest

__all__ = ["Binder", "bind_component", "field_types", "join"]

_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", lambda value, bound: value >= bound),
    "maximum": ("at most", lambda value, bound: value <= bound),
    "above": ("above", lambda value, bound: value > bound),
    "below": ("below", lambda value, bound: value < bound),
}

Options = TypeVar("Options")


def join(key: str, name: object) -> str:
    """A key path, one step longer."""
    return f"{key}.{name}" if key else str(name)


def field_types(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields; one that cannot be resolved counts as anything."""
    try:
        return get_type_hints(cls)
    except Exception:  # a name under TYPE_CHECKING: `genpath plugins --check` reports it
        return {}


def bind_component(component: Component, options: Any = None) -> Bound:
    """A component with options given in Python.

    Args:
        component: the component.
        options: an instance of its options class, a mapping, or None for the defaults.

    Returns:
        The bound component, its slots bound too.

    Raises:
        ConfigError: an option is unknown, missing, or of the wrong type or value.
    """
    problems = Problems(source=f"{component.kind} {component.name!r}")
    binder = Binder(problems)
    if options is None or isinstance(options, Mapping):
        bound = binder.bind_node(component, dict(options or {}), "")
    elif (cls := component.options_class()) is None or not isinstance(options, cls):
        expected = "no options" if cls is None else f"a mapping or {cls.__name__}(...)"
        problems.add("", expected, describe(options))
        bound = INVALID
    else:
        bound = Bound(component, binder.settle(options, ""), component.kind)
    problems.stop()
    assert isinstance(bound, Bound)
    return bound


class Binder:
    """Binds plain values, and keeps the problems.

    Args:
        problems: where problems are taken down.
        registry: where components are looked up; the process's own if None.
    """

    def __init__(self, problems: Problems | None = None, registry: Registry | None = None) -> None:
        self.problems = Problems() if problems is None else problems
        self._registry = registry

    @property
    def registry(self) -> Registry:
        """Where components are looked up."""
        if self._registry is None:
            from genpath.plugins.discovery import registry

            self._registry = registry()
        return self._registry

    def trial(self) -> Binder:
        """A binder whose problems count for nothing."""
        return Binder(Problems(), self._registry)

    def bind_options(
        self, cls: type[Options], node: Mapping[str, Any], key: str, owner: str = ""
    ) -> Options | Any:
        """A mapping as an instance of an options class, or ``INVALID``."""
        before = len(self.problems.found)
        known = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
        hints = field_types(cls)
        for name in node:
            if name not in known:
                self._unknown_key(name, known, hints, key, owner)
        values: dict[str, Any] = {}
        for name, field in known.items():
            where, annotation = join(key, name), hints.get(name, Any)
            if name in node:
                values[name] = self._bind_value(node[name], field, annotation, where)
            elif (default := _default(field)) is not MISSING:
                values[name] = self._bind_default(default, field, annotation, where)
            else:
                from genpath.config.convert import type_words

                self.problems.add(where, type_words(annotation), "nothing: it has no default")
        if len(self.problems.found) > before or any(map(_has_invalid, values.values())):
            return INVALID
        try:
            return cls(**values)
        except Exception as error:
            expected = f"options that {owner or cls.__name__} accepts"
            self.problems.add(key, expected, f"{type(error).__name__}: {error}")
            return INVALID

    def bind_slot(self, kind: str, value: Any, key: str, default: Any = MISSING) -> Any:
        """A name or node as a bound component, None where the slot may be empty, or ``INVALID``."""
        if value is INVALID or isinstance(value, Bound) or (value is None and default is None):
            return value
        node: dict[str, Any] = {}
        if isinstance(value, str):
            name: Any = value
        elif isinstance(value, Mapping):
            node = dict(value)
            if "name" not in node and isinstance(default, (str, Mapping)):
                node = ({"name": default} if isinstance(default, str) else dict(default)) | node
            name = node.pop("name", None)
        elif value is None or isinstance(value, (bool, int, float, list, tuple)):
            name = None
        else:
            return value  # built already, in Python
        if name is INVALID:
            return INVALID
        where = join(key, "name") if isinstance(value, Mapping) else key
        if not isinstance(name, str):
            known = ", ".join(self.registry.names(kind)) or f"no {kind} at all"
            given = isinstance(value, Mapping) and "name" in value
            got = describe(name if given else value)
            self.problems.add(
                where, f"{article(kind)}: NAME or {{name: NAME, ...}}", got, f"known: {known}"
            )
            return INVALID
        try:
            component = self.registry.get(kind, name)
        except UnknownComponentError:
            advice = self.registry.advice(kind, name)
            self.problems.add(where, f"the name of {article(kind)}", repr(name), advice)
            return INVALID
        return self.bind_node(component, node, key)

    def bind_node(self, component: Component, node: Mapping[str, Any], key: str) -> Any:
        """A component with the options in ``node``, or ``INVALID``."""
        try:
            cls = component.options_class()
        except ComponentLoadError as error:
            expected = f"options of {component.kind} {component.name!r} that can be imported"
            self.problems.add(key, expected, str(error.got), str(error.fix))
            return INVALID
        owner = f"{component.kind} {component.name!r}"
        if cls is None:
            for name in node:
                self._unknown_key(name, {}, {}, key, owner)
            return INVALID if node else Bound(component, None, key or component.kind)
        options = self.bind_options(cls, node, key, owner)
        return INVALID if options is INVALID else Bound(component, options, key or component.kind)

    def settle(self, options: Any, key: str) -> Any:
        """An options instance whose slots are bound."""
        hints, changes = field_types(type(options)), {}
        for field in dataclasses.fields(options):
            value = getattr(options, field.name)
            where, annotation = join(key, field.name), hints.get(field.name, Any)
            bound = self._bind_default(value, field, annotation, where)
            if field.init and bound is not value:
                changes[field.name] = bound
        return dataclasses.replace(options, **changes) if changes else options

    def _bind_default(self, value: Any, field: Field[Any], annotation: Any, key: str) -> Any:
        if COMPONENT in field.metadata:
            return self._bind_value(value, field, annotation, key)
        if dataclasses.is_dataclass(value) and not isinstance(value, (type, Bound)):
            return self.settle(value, key)
        return value

    def _bind_value(self, value: Any, field: Field[Any], annotation: Any, key: str) -> Any:
        kind = field.metadata.get(COMPONENT)
        if value is INVALID:
            return INVALID
        if kind is None:
            found = convert(value, annotation, key, self)
            return found if found is INVALID else self._within(found, field, key)
        if value is None and field.default is None:
            return None
        shape = _shape(annotation)
        if shape is dict:
            if isinstance(value, Mapping):
                return {k: self.bind_slot(kind, v, join(key, k)) for k, v in value.items()}
            self.problems.add(key, f"a mapping, each value {article(kind)}", describe(value))
            return INVALID
        if shape is not None:
            if isinstance(value, (list, tuple)):
                return shape(self.bind_slot(kind, v, f"{key}[{i}]") for i, v in enumerate(value))
            fix = f"write [{value}]" if isinstance(value, str) else ""
            self.problems.add(key, f"a list, each {article(kind)}", describe(value), fix)
            return INVALID
        return self.bind_slot(kind, value, key, _default(field))

    def _within(self, value: Any, field: Field[Any], key: str) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            limits = {name: field.metadata[name] for name in _BOUNDS if name in field.metadata}
            if not all(_BOUNDS[name][1](value, bound) for name, bound in limits.items()):
                words = " and ".join(
                    f"{_BOUNDS[name][0]} {bound}" for name, bound in limits.items()
                )
                self.problems.add(key, f"a number {words}", describe(value))
                return INVALID
        return value

    def _unknown_key(
        self, name: object, known: Mapping[str, Any], hints: Mapping[str, Any], key: str, owner: str
    ) -> None:
        listed = ", ".join(known)
        expected = f"one of the {f'options of {owner}' if owner else 'keys'}: {listed}"
        if not known:
            expected = f"no option: {owner} takes none"
        fixes = []
        if near := nearest(str(name), known):
            fixes.append(f"did you mean {near!r}?")
        else:
            inside = [
                f"{outer}.{name}"
                for outer, hint in hints.items()
                if dataclasses.is_dataclass(hint) and hint is not Bound
                if str(name) in {field.name for field in dataclasses.fields(hint)}
            ]
            fixes += [f"did you mean {each!r}?" for each in inside[:1]]
        if owner and self.problems.place(join(key, "name")).startswith("override"):
            fixes.append(
                f"{key}.name=NAME keeps the options written for the component before; "
                f"{key}=NAME leaves them out"
            )
        self.problems.add(join(key, name), expected, repr(name), "\n        ".join(fixes))


def _has_invalid(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_invalid, value))
    if isinstance(value, dict):
        return any(map(_has_invalid, value.values()))
    return value is INVALID


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _shape(annotation: Any) -> type | None:
    """list, tuple or dict for a field of several slots, None for a single one."""
    if get_origin(annotation) in (Union, types.UnionType):
        shapes = [_shape(argument) for argument in get_args(annotation)]
        return next((shape for shape in shapes if shape is not None), None)
    origin = get_origin(annotation) or annotation
    if origin in (list, Sequence):
        return list
    if origin is tuple:
        return tuple
    return dict if origin in (dict, Mapping) else None
