"""Finding claims: those of a plugin, a component, a topic, a ledger entry, or one by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from genpath.errors import PluginError, UnknownComponentError
from genpath.plugins import Component, Registry, Topic, registry
from genpath.plugins.words import suggestion

from .claims import Claim
from .running import Bound

__all__ = ["claims_of", "find"]

_ENTRY = re.compile(r"[A-Z](-?F)?[\d.]+")


def claims_of(*targets: str, among: Registry | None = None) -> list[Bound]:
    """The claims that the targets name; all of them where there is no target.

    Args:
        targets: a plugin (``discrete``), a component (``path.discrete.masked``), a topic
            (``core.generators``), a claim (``path.discrete.masked/forward-equation``, with the
            plugin alone before the stroke, or without) or an entry of the theory ledger (``D.17``).
        among: the registry; that of the process if None.

    Raises:
        UnknownComponentError: a target names nothing; the nearest name is given.
        PluginError: a component's claims are not claims.

    Example:
        >>> claims_of(among=Registry())
        []
    """
    known = among if among is not None else registry()
    every = [bound for source in find(known, targets) for bound in _all(source)]
    for target in targets:
        if not any(_about(bound, target) for bound in every):
            names = [bound.name for bound in every]
            fix = suggestion(target, names) or f"its claims: {', '.join(names)}"
            raise UnknownComponentError(
                target, f"{target.partition('/')[0]} has no such claim.", fix=fix
            )
    return [b for b in every if not targets or any(_about(b, target) for target in targets)]


def find(known: Registry, targets: Sequence[str]) -> list[Component | Topic]:
    """The sources of claims that may hold the targets, in the registry's order; no import.

    Raises:
        UnknownComponentError: a target cannot be found.
    """
    sources: list[Component | Topic] = [*known.topics()]
    sources += [component for component in known.components() if component.claims is not None]
    if not targets:
        return sources
    chosen: dict[str, Component | Topic] = {}
    for target in targets:
        head, _, slug = target.partition("/")
        hits = [s for s in sources if head in (s.subject, s.plugin)]
        if not hits and not slug:  # an entry of the ledger, or a claim without its subject
            wide = _ENTRY.fullmatch(target) or re.fullmatch(r"[a-z0-9-]+", target)
            hits = [s for s in sources if wide and any(_about(b, target) for b in _all(s))]
        if not hits:
            raise _unknown(known, target, sources)
        chosen |= {source.subject: source for source in hits}
    return [source for source in sources if source.subject in chosen]


def _about(bound: Bound, target: str) -> bool:
    claim = bound.claim
    short = f"{bound.plugin}/{claim.name}"
    return target in (bound.subject, bound.plugin, bound.name, short, claim.name, *claim.entries)


def _all(source: Component | Topic) -> list[Bound]:
    """The claims of a component or topic, each with its full name."""
    made: Any = source.load_claims()
    found = made() if callable(made) else made
    claims = tuple(found) if isinstance(found, Iterable) else (found,)
    names = [claim.name if isinstance(claim, Claim) else None for claim in claims]
    if not names or None in names or len(set(names)) < len(names):
        raise PluginError(
            f"{source.subject} ({source.origin})",
            "its claims are different `genpath.testing.Claim`s, one or more.",
            got=f"{source.claims!r} gave {[getattr(c, 'name', c) for c in claims]}",
            fix="return a tuple of claims with different names",
        )
    origin = (source.subject, source.plugin, source.distribution, source.version)
    return [Bound(claim, *origin) for claim in claims]


def _unknown(
    known: Registry, target: str, sources: Sequence[Component | Topic]
) -> UnknownComponentError:
    unclaimed = [c.subject for c in known.components() if c.claims is None]
    if target in unclaimed:
        return UnknownComponentError(
            target, "it has no claims.", fix="nobody has justified it yet; it works all the same"
        )
    plugins = list(dict.fromkeys(source.plugin for source in sources))
    names = [*plugins, *(source.subject for source in sources)]
    records = {record.prefix: record for record in known.plugins()}
    if target in records and not records[target].loaded:
        return UnknownComponentError(target, "this plugin did not load.", got=str(records[target]))
    return UnknownComponentError(
        target,
        "no plugin, component, topic, claim or ledger entry with claims has this name.",
        fix=suggestion(target, [*names, *unclaimed])
        or f"the plugins are {', '.join(plugins)}; `genpath components` lists what they bring",
    )
