"""Discovery: from entry points to a registry, with every plugin on its own.

Whatever a plugin does wrong ends as one record; the others work on. What makes the result
independent of the order of installation:

- Entry points are read in the order of distribution name, then prefix.
- A prefix belongs to one distribution. Where several claim it, the one that is named after it
  (``genpath-flows`` for ``flows``) comes first, then by distribution name; the first keeps the
  prefix even if it fails to load, the others are disabled with state ``clash``. The prefix or the
  distribution can be disabled to settle it.
- ``core`` is the prefix of the distribution ``genpath``; its names stay bare. That is all that the
  core has for itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import pluggy

from genpath.errors import PluginError
from genpath.plugins import hooks
from genpath.plugins.components import Collector
from genpath.plugins.guard import heavy_imports, torch_guard
from genpath.plugins.registry import PluginRecord, Registry, State
from genpath.plugins.words import listed, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["DISABLE_VARIABLE", "discover", "registry", "using"]

DISABLE_VARIABLE: Final = "GENPATH_DISABLE_PLUGINS"
CORE: Final = "core"
CORE_DISTRIBUTION: Final = "genpath"


class _Refused(Exception):
    """A plugin that is turned away: state and reason."""

    def __init__(self, state: State, reason: str) -> None:
        self.state: State = state
        super().__init__(reason)


class _Candidate:
    """One entry point with its distribution."""

    def __init__(self, entry_point: EntryPoint) -> None:
        import re

        self.entry_point, self.prefix = entry_point, entry_point.name
        distribution: Any = entry_point.dist
        self.distribution = distribution.name if distribution is not None else "unknown"
        self.version = distribution.version if distribution is not None else ""
        self.project = re.sub(r"[-_.]+", "-", self.distribution).lower()

    @property
    def seniority(self) -> tuple[bool, str, str]:
        named_after_it = self.project == f"genpath-{self.prefix}"
        return (not named_after_it, self.project, self.entry_point.value)

    def record(self, state: State, reason: str = "", **more: Any) -> PluginRecord:
        return PluginRecord(self.prefix, self.distribution, self.version, state, reason, **more)


def discover(
    *, without: Iterable[str] = (), entry_points: Iterable[EntryPoint] | None = None
) -> Registry:
    """Find the installed plugins and ask each for its components.

    Args:
        without: prefixes or distributions to leave out, beside those in
            ``GENPATH_DISABLE_PLUGINS``.
        entry_points: the entry points to read instead of the installed ones of group ``genpath``.

    Returns:
        The registry. A plugin that cannot be used is in ``registry.plugins()`` with its reason, and
        nowhere else.

    Raises:
        PluginError: ``without`` names a plugin that is not installed.

    Example:
        >>> discover(entry_points=()).plugins()
        ()
    """
    if entry_points is None:
        from importlib.metadata import entry_points as installed

        entry_points = installed(group=hooks.ENTRY_POINT_GROUP)
    candidates = sorted(map(_Candidate, entry_points), key=lambda c: (c.project, c.prefix))
    off, notes = _disabled(candidates, without)
    records: list[PluginRecord] = []
    collectors: list[Collector] = []
    owners = _owners([c for c in candidates if not {c.prefix, c.project} & off])
    manager = pluggy.PluginManager("genpath")
    manager.add_hookspecs(hooks)
    for candidate in candidates:
        if {candidate.prefix, candidate.project} & off:
            records.append(candidate.record("disabled", "left out on request"))
        elif clash := _clash(candidate, owners):
            records.append(candidate.record("clash", clash))
        else:
            record, found = _read(manager, candidate)
            records.append(record)
            collectors += [found] if found is not None else []
    records.sort(key=lambda record: (record.prefix != CORE, record.prefix, record.distribution))
    components = [component for found in collectors for component in found.components]
    topics = [topic for found in collectors for topic in found.topics]
    return Registry(components, records, notes, topics)


def _disabled(candidates: list[_Candidate], without: Iterable[str]) -> tuple[set[str], list[str]]:
    variable = os.environ.get(DISABLE_VARIABLE, "")
    by_variable = {word for part in variable.split(",") if (word := part.strip())}
    asked = {word for part in without for word in part.split(",") if word}
    names = {c.prefix for c in candidates} | {c.project for c in candidates}
    for word in sorted(asked - names):
        near = nearest(word, names)
        prefixes = ", ".join(sorted({c.prefix for c in candidates}))
        fix = f"did you mean {near!r}?" if near else f"installed: {prefixes or 'none'}"
        raise PluginError("--without", f"no plugin {word!r} is installed.", got=repr(word), fix=fix)
    notes = [
        f"{DISABLE_VARIABLE} names {word!r}, which is not installed"
        for word in sorted(by_variable - names)
    ]
    return by_variable | asked, notes


def _owners(candidates: list[_Candidate]) -> dict[str, list[_Candidate]]:
    """The claimants of every prefix, the owner first."""
    owners: dict[str, list[_Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: c.seniority):
        if candidate.prefix != CORE or candidate.project == CORE_DISTRIBUTION:
            owners.setdefault(candidate.prefix, []).append(candidate)
    return owners


def _clash(candidate: _Candidate, owners: dict[str, list[_Candidate]]) -> str:
    claimants = owners.get(candidate.prefix, [])
    if candidate.prefix == CORE and candidate not in claimants:
        return (
            f"the prefix 'core' is {CORE_DISTRIBUTION}'s; {candidate.distribution} cannot have it"
        )
    owner = claimants[0]
    if owner is candidate:
        return ""
    return (
        f"{owner.distribution} {owner.version} and {candidate.distribution} {candidate.version} "
        f"both claim the prefix {candidate.prefix!r}; {owner.distribution} keeps it "
        f"(uninstall one, or leave one out by --without {owner.project})"
    )


def _read(
    manager: pluggy.PluginManager, candidate: _Candidate
) -> tuple[PluginRecord, Collector | None]:
    """Import one plugin and collect what it brings; any fault ends as a record."""
    before, start = heavy_imports(), perf_counter()
    state: State = "ok"
    reason = trace = ""
    found: Collector | None = None
    try:
        with torch_guard() as changes:
            found = _collect(manager, candidate)
        if changes:
            raise _Refused(
                "failed", f"importing it changed {listed(changes, 'and')} of torch (put back)"
            )
    except KeyboardInterrupt:
        raise
    except _Refused as refusal:
        state, reason, found = refusal.state, str(refusal), None
    except BaseException as error:  # a plugin may also call sys.exit, or skip a test, at import
        import traceback

        state, found = "failed", None
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        trace = "".join(traceback.format_exception(error))
    seconds = perf_counter() - start
    heavy = sorted(heavy_imports() - before)
    if state == "ok" and heavy:
        state, reason = "slow", f"listing it imports {listed(heavy, 'and')} ({seconds:.1f} s)"
    record = candidate.record(
        state,
        reason,
        traceback=trace,
        seconds=round(seconds, 4),
        components=0 if found is None else len(found.components),
    )
    return record, found


def _collect(manager: pluggy.PluginManager, candidate: _Candidate) -> Collector:
    plugin = candidate.entry_point.load()
    version = _hook_version(plugin, candidate)
    try:
        manager.register(plugin, name=candidate.prefix)
        manager.check_pending()
        others = [other for other in manager.get_plugins() if other is not plugin]
        caller = manager.subset_hook_caller(hooks.HOOK_NAME, others)
        if not caller.get_hookimpls():
            raise _Refused(
                "failed",
                f"it has no hook: define {hooks.HOOK_NAME}(registry) and mark it @hookimpl",
            )
        return _CALLS[version](caller, candidate)
    except pluggy.PluginValidationError as error:
        near = nearest(
            str(error).partition("unknown hook '")[2].partition("'")[0], [hooks.HOOK_NAME]
        )
        hint = f" (did you mean {near!r}?)" if near else ""
        raise _Refused("failed", " ".join(str(error).split()) + hint) from error
    finally:
        if manager.is_registered(plugin):
            manager.unregister(plugin)


def _hook_version(plugin: Any, candidate: _Candidate) -> int:
    oldest, newest = hooks.OLDEST_HOOK_VERSION, hooks.HOOK_VERSION
    speaks = f"{newest}" if oldest == newest else f"{oldest} to {newest}"
    version = getattr(plugin, hooks.HOOK_VERSION_NAME, None)
    if type(version) is not int:
        got = "does not say which" if version is None else f"says {version!r}"
        reason = (
            f"it {got} hook version it is written for: set {hooks.HOOK_VERSION_NAME} = {newest}"
        )
        raise _Refused("incompatible", reason)
    if not oldest <= version <= newest:
        old = candidate.distribution if version < oldest else CORE_DISTRIBUTION
        reason = (
            f"it is written for hook version {version}, this genpath speaks {speaks}: upgrade {old}"
        )
        raise _Refused("incompatible", reason)
    return version


def _call_version_1(caller: pluggy.HookCaller, candidate: _Candidate) -> Collector:
    prefix = "" if candidate.prefix == CORE else candidate.prefix
    collector = Collector(prefix, candidate.prefix, candidate.distribution, candidate.version)
    caller(registry=collector)
    return collector


_CALLS: Final = {1: _call_version_1}
"""How each honoured hook version is called: a new version adds a line, an old one is translated."""

_lock = threading.RLock()
_current: Registry | None = None


def registry() -> Registry:
    """The registry of this process, discovered when first asked for.

    Example:
        >>> registry() is registry()
        True
    """
    global _current
    with _lock:
        if _current is None:
            _current = discover()
        return _current


@contextmanager
def using(replacement: Registry) -> Iterator[Registry]:
    """Make ``replacement`` the registry of this process for the length of a ``with`` block.

    Example:
        >>> with using(Registry()):
        ...     registry().components()
        ()
    """
    global _current
    with _lock:
        before, _current = _current, replacement
    try:
        yield replacement
    finally:
        with _lock:
            _current = before
