"""The full check of a registry: every lazy target and options class is resolved.

Listing believes what plugins say; this is where it is seen whether it is true. Options come before
targets, so that an options module that imports torch is seen to do so.
"""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any

from genpath.errors import ComponentLoadError
from genpath.plugins.components import Component, Topic
from genpath.plugins.guard import heavy_imports
from genpath.plugins.kinds import KINDS
from genpath.plugins.registry import Fault, Registry
from genpath.plugins.words import listed

__all__ = ["check_registry"]


def check_registry(registry: Registry) -> list[Fault]:
    """What is wrong with the plugins and components of a registry, in words."""
    faults = [
        Fault(f"plugin {record.prefix} ({record.distribution} {record.version})", record.reason)
        for record in registry.plugins()
        if record.state in ("failed", "incompatible", "clash")
    ]
    options: dict[Component, type | None] = {}
    for component in registry.components():
        reasons, cls = _check_options(component, registry)
        faults += [_fault(component, reason) for reason in reasons]
        options[component] = cls
    for component in registry.components():
        faults += [
            _fault(component, reason) for reason in _check_target(component, options[component])
        ]
    sources: list[Component | Topic] = [*registry.topics(), *registry.components()]
    for source in sources:
        if source.claims is not None:
            faults += [_fault(source, reason) for reason in _observed(source.load_claims)[1]]
    return faults


def _fault(source: Component | Topic, reason: str) -> Fault:
    kind = source.kind if isinstance(source, Component) else "topic"
    return Fault(f"{kind} {source.name} ({source.origin})", reason)


def _observed(action: Callable[[], Any]) -> tuple[Any, list[str]]:
    """The result of an import, and what is wrong with it."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result, reasons = action(), []
        except ComponentLoadError as error:
            result, reasons = None, [f"{error.rule} {error.got}"]
    reasons += [str(w.message) for w in seen if "of torch; put back" in str(w.message)]
    return result, reasons


def _check_options(component: Component, registry: Registry) -> tuple[list[str], type | None]:
    before = heavy_imports()
    cls, reasons = _observed(component.options_class)
    if heavy := sorted(heavy_imports() - before):
        reasons.append(
            f"its options module imports {listed(heavy, 'and')}; checking a config must not"
        )
    if cls is None:
        return reasons, None
    try:
        hints = typing.get_type_hints(cls)
    except Exception as error:
        return [*reasons, f"the types of its options cannot be resolved: {error}"], cls
    for field in fields(cls):
        reasons += _check_field(field, hints[field.name], component, registry)
    return reasons, cls


def _check_field(
    field: Field[Any], hint: Any, component: Component, registry: Registry
) -> list[str]:
    from genpath.config.convert import is_supported
    from genpath.config.options import COMPONENT

    reasons = []
    if field.name == "name":
        reasons.append("an option cannot be called 'name': that key picks the component")
    if field.name in component.needs:
        reasons.append(f"{field.name!r} is both an option and a need")
    kind = field.metadata.get(COMPONENT)
    if kind is None:
        if not is_supported(hint):
            reasons.append(f"option {field.name!r} has a type that a config cannot hold: {hint}")
    elif kind not in KINDS:
        reasons.append(f"option {field.name!r} is a slot of the unknown kind {kind!r}")
    elif isinstance(field.default, str) and field.default not in registry.names(kind):
        reasons.append(
            f"option {field.name!r} defaults to {field.default!r}, and no {kind} has this name"
        )
    return reasons


def _check_target(component: Component, options: type | None) -> list[str]:
    target, reasons = _observed(component.load)
    if target is None:
        return reasons
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return reasons
    names = [field.name for field in fields(options) if field.init] if options is not None else []
    try:
        signature.bind(**dict.fromkeys([*names, *component.needs], MISSING))
    except TypeError as error:
        given = ", ".join([*names, *component.needs]) or "nothing"
        reasons.append(
            f"its target {component.target!r} does not take what it is given ({given}): {error}"
        )
    return reasons
