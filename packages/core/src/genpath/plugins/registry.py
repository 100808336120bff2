"""The registry: which components there are, and which plugins they came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from genpath.errors import UnknownComponentError
from genpath.plugins.components import Component, Topic
from genpath.plugins.kinds import KINDS
from genpath.plugins.words import article, listed, nearest, suggestion

__all__ = ["Fault", "PluginRecord", "Registry", "State"]

State = Literal["ok", "slow", "disabled", "incompatible", "failed", "clash"]


@dataclass(frozen=True)
class PluginRecord:
    """What became of one plugin at discovery.

    Args:
        prefix: the entry point's name, in front of its components' names.
        distribution: the distribution that brings it.
        version: that distribution's version.
        state: ``ok``; ``slow``: works, but imports heavy libraries when listed; ``disabled`` on
            request; ``incompatible``: another hook version; ``failed``; ``clash``: its prefix
            belongs to another distribution.
        reason: why, in one sentence; empty where there is nothing to say.
        traceback: of the exception, where there was one.
        seconds: what reading it took.
        components: how many components it brought.
    """

    prefix: str
    distribution: str
    version: str
    state: State
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0
    components: int = 0

    @property
    def loaded(self) -> bool:
        """Whether its components are in the registry."""
        return self.state in ("ok", "slow")

    def __str__(self) -> str:
        text = f"{self.prefix} ({self.distribution} {self.version}): {self.state}"
        return f"{text}: {self.reason}" if self.reason else text

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Fault:
    """Something that ``Registry.check`` found: where, and what is wrong."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class Registry:
    """Components by kind and name, and the record of every plugin.

    Args:
        components: the components of the plugins that loaded.
        records: one per plugin found.
        notes: remarks on the search itself, such as a disabled name that no plugin has.
        topics: those of the plugins that loaded.

    Example:
        >>> registry = Registry([Component("law", "waves.box", "collections:Counter")])
        >>> registry.get("law", "waves.box").target
        'collections:Counter'
    """

    def __init__(
        self,
        components: Iterable[Component] = (),
        records: Iterable[PluginRecord] = (),
        notes: Iterable[str] = (),
        topics: Iterable[Topic] = (),
    ) -> None:
        order = {kind: index for index, kind in enumerate(KINDS)}
        ordered = sorted(components, key=lambda c: (order[c.kind], "." in c.name, c.name))
        self._components = {(component.kind, component.name): component for component in ordered}
        self._records = tuple(records)
        self._topics = tuple(sorted(topics, key=lambda t: (t.plugin != "core", t.name)))
        self.notes = tuple(notes)

    def components(self, kind: str | None = None) -> tuple[Component, ...]:
        """All components, or those of one kind; bare names first, then by name.

        Raises:
            UnknownComponentError: there is no such kind.
        """
        if kind is not None and kind not in KINDS:
            fix = suggestion(kind, KINDS) or f"the kinds are {', '.join(KINDS)}"
            raise UnknownComponentError(
                "kinds", f"there is no kind {kind!r}.", got=repr(kind), fix=fix
            )
        return tuple(c for c in self._components.values() if kind in (None, c.kind))

    def names(self, kind: str) -> tuple[str, ...]:
        """The names known for a kind."""
        return tuple(component.name for component in self.components(kind))

    def get(self, kind: str, name: str) -> Component:
        """The component of that kind and name.

        Raises:
            UnknownComponentError: there is none; the nearest name, the known names and the plugins
                that did not load are named.
        """
        found = self._components.get((kind, name))
        if found is not None:
            return found
        known = self.names(kind)
        raise UnknownComponentError(
            f"{kind} {name!r}",
            f"no {kind} has this name.",
            got=repr(name),
            fix=self.advice(kind, name) or f"known: {', '.join(known) or f'no {kind} at all'}",
        )

    def advice(self, kind: str, name: str) -> str:
        """What to say to somebody who asked for a name that is not there."""
        known = self.names(kind)
        parts = []
        if near := nearest(name, known):
            parts.append(f"did you mean {near!r}?")
        elif others := [c.kind for c in self._components.values() if c.name == name]:
            parts.append(f"{name!r} is {listed(map(article, others), 'and')}, not {article(kind)}")
        parts.append(f"known: {', '.join(known) if known else f'no {kind} at all'}")
        missing = [record for record in self._records if not record.loaded]
        prefix = name.partition(".")[0]
        if "." in name and prefix not in {record.prefix for record in self._records}:
            install = f": pip install 'genpath[{prefix}]'" if prefix in _extras() else ""
            parts.append(f"no plugin {prefix!r} is installed{install}")
        if missing:
            parts.append(f"plugins that did not load: {'; '.join(map(str, missing))}")
        return "\n        ".join(parts)

    def plugins(self) -> tuple[PluginRecord, ...]:
        """The record of every plugin found: the core first, then by prefix and distribution."""
        return self._records

    def topics(self) -> tuple[Topic, ...]:
        """What has claims and no name in a config: the core's first, then by name."""
        return self._topics

    def check(self) -> list[Fault]:
        """Resolve every lazy target and options class.

        Returns:
            What is wrong, in words: plugins that did not load, code that does not import, options
            that a config cannot hold, targets that do not take what they would be given. Empty
            where all is well.
        """
        from genpath.plugins.check import check_registry

        return check_registry(self)

    def by_kind(self) -> Mapping[str, tuple[Component, ...]]:
        """The components of every kind that has any."""
        grouped = {kind: self.components(kind) for kind in KINDS}
        return {kind: found for kind, found in grouped.items() if found}


def _extras() -> list[str]:
    """The extras of the core: the plugins that come from the same house."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        return metadata("genpath").get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return []
