"""Reading a config: YAML, overrides, references, binding; all problems in one error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genpath.config.binding import Binder
from genpath.config.bound import plain
from genpath.config.options import COMPONENT
from genpath.config.problems import Problems, describe
from genpath.config.schema import Config
from genpath.errors import ConfigError

if TYPE_CHECKING:
    from genpath.plugins.registry import Registry

__all__ = ["load_config", "read_config"]


def load_config(
    path: str | Path, overrides: Sequence[str] = (), *, registry: Registry | None = None
) -> Config:
    """Read a config file.

    Args:
        path: a YAML file.
        overrides: texts ``key=value``; the key is a path such as ``path.schedule.power`` or
            ``evaluate.0``, the value is YAML. ``path=NAME`` replaces the whole node,
            ``path.name=NAME`` keeps its other options.
        registry: where components are looked up; the process's own if None.

    Returns:
        The config: components bound, values checked, defaults filled in.

    Raises:
        ConfigError: with all problems of the file and the overrides, each with its line, key path,
            what was expected, what came, and the nearest valid spelling.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        got = f"{error.strerror}: {path}"
        raise ConfigError("config", "the config file must be readable.", got=got) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "a config file is UTF-8 text.", got=str(error)) from None
    return read_config(text, overrides, registry=registry, source=str(path))


def read_config(
    text: str,
    overrides: Sequence[str] = (),
    *,
    registry: Registry | None = None,
    source: str = "config",
) -> Config:
    """Read a config from text.

    Args:
        text: YAML.
        overrides: as for ``load_config``.
        registry: where components are looked up; the process's own if None.
        source: what to call it in messages.

    Raises:
        ConfigError: as for ``load_config``.

    Example:
        >>> from genpath.plugins import Registry
        >>> text = "{stages: [], train: {steps: 10}}"
        >>> read_config(text, ["seed=1"], registry=Registry()).train.steps
        10
    """
    from genpath.config.yaml_text import parse

    data, lines = parse(text, source)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(source, "a config is a mapping of keys to values.", got=describe(data))
    draft = _Draft(data, {key: f"{source}:{line}" for key, line in lines.items()}, source)
    for override in overrides:
        draft.override(override)
    return draft.bind(registry)


class _Draft:
    """A config on its way: plain values, and where each was written."""

    def __init__(self, data: dict[str, Any], places: dict[str, str], source: str) -> None:
        self.data, self.places, self.source = data, places, source
        self.problems = Problems(self.locate, source)

    def locate(self, key: str) -> str:
        """The place of a key, or of the nearest key above it."""
        while key:
            if key in self.places:
                return self.places[key]
            key = re.sub(r"(^|\.)[^.\[\]]+$|\[\d+\]$", "", key)
        return self.source

    def override(self, text: str) -> None:
        """Apply one ``key=value``."""
        place = f"override {text!r}"
        key, equals, value_text = text.partition("=")
        steps = re.findall(r"[^.\[\]]+", key.strip())
        if not equals or not steps or not value_text.strip():
            fix = (
                f"write {key}=null for nothing, {key}='' for empty text" if equals and steps else ""
            )
            self.problems.add("", "key=value", repr(text), fix, place=place)
            return
        from genpath.config.yaml_text import parse_value

        try:
            value = parse_value(value_text)
        except ConfigError as error:
            expected, fix = f"{key}=VALUE in YAML", str(error.fix or "")
            self.problems.add("", expected, str(error.got), fix, place=place)
            return
        where = self._put(steps, value, place)
        if where is not None:
            inside = (f"{where}.", f"{where}[")
            self.places = {k: p for k, p in self.places.items() if not k.startswith(inside)}
            self.places[where] = place

    def _put(self, steps: list[str], value: Any, place: str) -> str | None:
        """Put a value where the steps lead; the key path, or None with a problem taken down."""
        node: Any = self.data
        where = ""
        for index, step in enumerate(steps):
            last = index == len(steps) - 1
            if isinstance(node, list):
                if not (step.isdigit() and int(step) < len(node)):
                    expected = (
                        f"an index below {len(node)} in {where}" if node else f"{where}=[...]"
                    )
                    self.problems.add("", expected, repr(step), place=place)
                    return None
                at: Any = int(step)
                where = f"{where}[{step}]"
                below = node[at]
            else:
                at, where = step, f"{where}.{step}" if where else step
                below = node.get(step)
            if last:
                node[at] = value
                return where
            if below is None:
                below = {}
                self.places[where] = place
            elif isinstance(below, str) and "${" not in below:
                below = {"name": below}  # the short form of a component
            elif not isinstance(below, (dict, list)):
                expected, got = f"keys below {where}", f"{where} is {describe(below)}"
                fix = f"set the whole: {where}=..."
                self.problems.add("", expected, got, fix, place=place)
                return None
            node[at] = node = below
        return None

    def bind(self, registry: Registry | None) -> Config:
        """Resolve references, bind, and raise all problems together."""
        from genpath.config.references import resolve

        data = resolve(_with_defaults(self.data), self.problems)
        config = Binder(self.problems, registry).bind_options(Config, data, "")
        self.problems.stop()
        assert isinstance(config, Config)
        return config


def _with_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data over the defaults of all plain keys, so that references find them."""
    filled = dict(data)
    for field in fields(Config):
        if COMPONENT in field.metadata:
            continue
        factory = field.default_factory
        default = plain(field.default if factory is MISSING else factory())
        given = data.get(field.name, default)
        both = isinstance(default, dict) and isinstance(given, dict)
        filled[field.name] = default | given if both else given
    return filled
