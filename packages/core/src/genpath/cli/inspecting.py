"""Commands that look and do not compute: components, show, config, plugins; plain aligned text."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import MISSING, Field, fields
from typing import Any

from genpath.plugins import KINDS, Component, Registry, discover, using
from genpath.plugins.words import table

__all__ = ["components", "config", "discovered", "plugins", "show"]


def discovered(command: Namespace) -> Registry:
    """The registry without the plugins that the command leaves out; remarks go to stderr."""
    registry = discover(without=command.without)
    for note in registry.notes:
        print(f"note: {note}", file=sys.stderr)
    return registry


def components(command: Namespace) -> int:
    """``genpath components [KIND]``: with what is claimed of each, and what is verified."""
    from genpath.testing.records import read_records, standing

    registry, records = discovered(command), read_records()
    kinds = registry.by_kind()
    if command.kind is not None:
        kinds = {command.kind: registry.components(command.kind)}
    for kind, found in kinds.items():
        print(f"{kind}: {KINDS[kind]}")
        rows = [[c.name, standing(c, records), c.summary] for c in found]
        print(table(rows, indent="  ") or "  none registered")
    return 0


def show(command: Namespace) -> int:
    """``genpath show KIND NAME``."""
    from genpath.testing.records import standing

    registry = discovered(command)
    component = registry.get(command.kind, command.name)
    print(f"{component.kind} {component.name}: {component.summary}\n")
    rows = [
        ["plugin", component.plugin],
        ["distribution", f"{component.distribution} {component.version}"],
        ["target", component.target],
        ["needs", ", ".join(component.needs) or "nothing"],
        ["claims", standing(component)],
    ]
    print(table(rows))
    print()
    print(_options_text(component))
    return 0


def _options_text(component: Component) -> str:
    cls = component.options_class()
    if cls is None:
        return "It has no options."
    from genpath.config.binding import field_types

    hints = field_types(cls)
    rows = [_option_row(field, hints.get(field.name, Any)) for field in fields(cls) if field.init]
    return "options\n" + table(rows, indent="  ") if rows else "It has no options."


def _option_row(field: Field[Any], hint: Any) -> list[str]:
    import json

    from genpath.config.bound import plain
    from genpath.config.convert import type_words
    from genpath.config.options import COMPONENT

    kind = field.metadata.get(COMPONENT)
    words = f"component: {kind}" if kind else type_words(hint)
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if default is MISSING:
        return [field.name, words, "required", field.metadata.get("help", "")]
    value = plain(default)
    shown = value if isinstance(value, str) and value else json.dumps(value, default=repr)
    return [field.name, words, f"= {shown}", field.metadata.get("help", "")]


def config(command: Namespace) -> int:
    """``genpath config CONFIG [key=value ...]``."""
    from genpath.config import load_config

    with using(discovered(command)):
        found = load_config(command.config, command.overrides)
    print(found.to_yaml(), end="")
    return 0


def plugins(command: Namespace) -> int:
    """``genpath plugins [--check] [--json]``."""
    registry = discovered(command)
    faults = registry.check() if command.check else []
    if command.json:
        import json

        data: dict[str, Any] = {"plugins": [record.to_dict() for record in registry.plugins()]}
        if command.check:
            data["faults"] = [{"where": fault.where, "reason": fault.reason} for fault in faults]
        print(json.dumps(data, indent=2))
        return 1 if faults else 0
    rows = [["plugin", "state", "components", "claims", "ms", "distribution"]]
    for record in registry.plugins():
        distribution = f"{record.distribution} {record.version}".rstrip()
        milliseconds = f"{1000 * record.seconds:.0f}"
        claims = _claims(registry, record.prefix)
        rows.append(
            [
                record.prefix,
                record.state,
                str(record.components),
                claims,
                milliseconds,
                distribution,
            ]
        )
    print(table(rows))
    for record in registry.plugins():
        if record.reason:
            print(f"\n{record}")
            if getattr(command, "traceback", False) and record.traceback:
                print(record.traceback.rstrip())
    if command.check:
        count, number = len(registry.components()), len(faults) or "no"
        print(f"\n{count} components checked, {number} {'fault' if number == 1 else 'faults'}")
        for fault in faults:
            print(f"  {fault}")
    return 1 if faults else 0


def _claims(registry: Registry, plugin: str) -> str:
    """How many of a plugin's components have no claim, are claimed, are verified."""
    from genpath.testing.records import read_records, standing

    records = read_records()
    found = [standing(c, records) for c in registry.components() if c.plugin == plugin]
    if not found:
        return "-"
    counts = {
        word: sum(state.startswith(word) for state in found)
        for word in ("verified", "failed", "claimed", "no claim")
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
