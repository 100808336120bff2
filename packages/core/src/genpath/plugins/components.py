"""A component: what a plugin registers, by kind and name, without importing it.

A component is data: an import path, the dataclass of its options, the things it needs, a summary
and where its claims are. Code is imported when it is asked for, and an import that fails says which
plugin, distribution and version it came from. A topic has claims only: what a plugin offers to
Python and not to configs is justified there.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from typing import Any

from genpath.errors import ComponentLoadError, PluginError
from genpath.plugins.guard import torch_guard
from genpath.plugins.kinds import KINDS
from genpath.plugins.words import listed, suggestion

__all__ = ["Collector", "Component", "Topic"]

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Component:
    """Something that a config can name: its kind and name, where its code is, and what it takes.

    Args:
        kind: one of ``KINDS``.
        name: the full name, ``prefix.component``, or bare for the core.
        target: the import path ``module:attr`` of a callable.
        options: the import path of the dataclass of its options, or None where it has none.
        needs: names of the built things that the target takes as keywords beside its options.
        summary: one line.
        claims: the import path of a function without arguments that returns the claims that justify
            it, or None where nobody has justified it yet.
        distribution: the distribution that it came with.
        version: that distribution's version.
        plugin: the plugin's prefix.

    Example:
        >>> Component("law", "waves.box", "collections:Counter", summary="an example").load()
        <class 'collections.Counter'>
    """

    kind: str
    name: str
    target: str
    options: str | None = None
    needs: tuple[str, ...] = ()
    summary: str = ""
    claims: str | None = None
    distribution: str = ""
    version: str = ""
    plugin: str = ""

    @property
    def subject(self) -> str:
        """``KIND.NAME``: what its claims are about."""
        return f"{self.kind}.{self.name}"

    @property
    def origin(self) -> str:
        """Plugin, distribution and version, in words."""
        return _origin(self)

    def load(self) -> Callable[..., Any]:
        """Import the target.

        Returns:
            The callable that builds the component.

        Raises:
            ComponentLoadError: the module does not import, or has no such callable; plugin,
                distribution, version, target and reason are named.
        """
        return _resolve_callable(self, self.target, "target")

    def load_claims(self) -> Callable[[], Any]:
        """Import the function that returns its claims.

        Raises:
            ComponentLoadError: it does not import, or there is none.
        """
        return _load_claims(self)

    def options_class(self) -> type | None:
        """Import the dataclass of the options.

        Returns:
            The dataclass, or None where the component has no options.

        Raises:
            ComponentLoadError: it does not import, or is no dataclass.
        """
        if self.options is None:
            return None
        cls = _resolve(self, self.options, "options")
        if not (isinstance(cls, type) and is_dataclass(cls)):
            raise _broken(self, "options", self.options, "it is no dataclass")
        return cls

    def build(self, options: Any = None, /, **needs: Any) -> Any:
        """Build the component: ``target(**fields of options, **needs)``.

        Nested components among the options are built first, from the same things.

        Args:
            options: an instance of the options class, a mapping of option names to values, or None
                for the defaults.
            needs: built things by name; what neither this component nor a nested one needs is left
                aside.

        Raises:
            ConfigError: an option is unknown, missing, or of the wrong type or value.
            BuildError: a needed thing is not among ``needs``.
            ComponentLoadError: the code does not import.

        Example:
            >>> Component("law", "waves.pair", "builtins:dict", needs=("space",)).build(space="R2")
            {'space': 'R2'}
        """
        from genpath.config.binding import bind_component

        return bind_component(self, options).build(**needs)


@dataclass(frozen=True)
class Topic:
    """What a plugin offers to Python only, with the claims that justify it.

    Args:
        name: the full name, ``PLUGIN.TOPIC``.
        claims: the import path of a function without arguments that returns the claims.
        summary: one line.
        distribution, version, plugin: where it came from.

    Example:
        >>> Topic("waves.tides", "genpath_waves.claims:tides").subject
        'waves.tides'
    """

    name: str
    claims: str
    summary: str = ""
    distribution: str = ""
    version: str = ""
    plugin: str = ""

    @property
    def subject(self) -> str:
        """What its claims are about: its name."""
        return self.name

    @property
    def origin(self) -> str:
        """Plugin, distribution and version, in words."""
        return _origin(self)

    def load_claims(self) -> Callable[[], Any]:
        """Import the function that returns its claims.

        Raises:
            ComponentLoadError: it does not import.
        """
        return _load_claims(self)


def _origin(source: Component | Topic) -> str:
    words = f"plugin {source.plugin!r}, distribution {source.distribution} {source.version}"
    return words.rstrip()


def _load_claims(source: Component | Topic) -> Callable[[], Any]:
    if source.claims is None:
        raise _broken(source, "claims", "", "it has no claims")
    return _resolve_callable(source, source.claims, "claims")


def _resolve_callable(source: Component | Topic, path: str, role: str) -> Callable[..., Any]:
    found = _resolve(source, path, role)
    if not callable(found):
        kind = type(found).__name__
        raise _broken(source, role, path, f"it is a {kind}, which nobody can call")
    return found  # type: ignore[no-any-return]


def _resolve(source: Component | Topic, path: str, role: str) -> Any:
    module_name, _, attribute = path.partition(":")
    with torch_guard() as changes:
        try:
            found: Any = import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
        except Exception as error:
            raise _broken(source, role, path, f"{type(error).__name__}: {error}") from error
    if changes:
        warnings.warn(
            f"importing {path!r} for {_what(source)} ({source.origin}) changed "
            f"{listed(changes, 'and')} of torch; put back",
            stacklevel=4,
        )
    return found


def _what(source: Component | Topic) -> str:
    kind = source.kind if isinstance(source, Component) else "topic"
    return f"{kind} {source.name!r}"


def _broken(source: Component | Topic, role: str, path: str, reason: str) -> ComponentLoadError:
    return ComponentLoadError(
        _what(source),
        f"its {role} {path!r} cannot be had.",
        got=reason,
        fix=f"see {source.origin}; `genpath plugins --check` lists all such faults",
    )


class Collector:
    """What a plugin's hook is given: takes its components, and refuses a wrong one on the spot.

    Args:
        prefix: the plugin's prefix, or "" where names stay bare.
        plugin: the entry point's name.
        distribution: the plugin's distribution.
        version: that distribution's version.

    Example:
        >>> collector = Collector("waves", "waves", "genpath-waves", "1.0")
        >>> collector.add("path", "standing", "genpath_waves.paths:Wave", summary="it stays")
        >>> [component.name for component in collector.components]
        ['waves.standing']
    """

    def __init__(self, prefix: str, plugin: str, distribution: str, version: str) -> None:
        self.components: list[Component] = []
        self.topics: list[Topic] = []
        self._prefix, self._origin = prefix, (distribution, version, plugin)

    def add(
        self,
        kind: str,
        name: str,
        target: str,
        *,
        summary: str,
        options: str | None = None,
        needs: Iterable[str] = (),
        claims: str | None = None,
    ) -> None:
        """Add one component.

        Args:
            kind: one of ``genpath.plugins.KINDS``.
            name: its name without the prefix: lower-case words joined by ``-`` or ``_``.
            target: ``"module:attr"`` of a callable; not imported here.
            summary: one line.
            options: ``"module:Dataclass"`` in a module that does not import torch, or None for no
                options.
            needs: names of built things that the target takes as keywords beside its options.
            claims: ``"module:function"`` that returns the claims that justify it, or None.

        Raises:
            PluginError: any of these is not as said, or kind and name were added before.
        """
        where = f"{kind} {name!r}"
        if kind not in KINDS:
            fix = suggestion(str(kind), KINDS) or f"the kinds are {', '.join(KINDS)}"
            raise PluginError(
                where, "a component has one of the known kinds.", got=f"kind {kind!r}", fix=fix
            )
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            fix = "lower-case words joined by - or _, without the plugin's prefix"
            raise PluginError(where, "a component's name is a plain word.", got=repr(name), fix=fix)
        _paths(where, target=target, options=options, claims=claims)
        _one_line(where, summary)
        full = f"{self._prefix}.{name}" if self._prefix else name
        if any((known.kind, known.name) == (kind, full) for known in self.components):
            raise PluginError(
                where, "a plugin adds a kind and name once.", got=f"a second {kind} {full!r}"
            )
        self.components.append(
            Component(
                kind, full, target, options, _words(where, "needs", needs), summary.strip(),
                claims, *self._origin,
            )
        )  # fmt: skip

    def topic(self, name: str, claims: str, *, summary: str) -> None:
        """Add claims about something that no config names: a function, a theorem, an oracle.

        Args:
            name: a plain word; its full name has the plugin's prefix, also for the core.
            claims: ``"module:function"`` that returns the claims.
            summary: one line.

        Raises:
            PluginError: any of these is not as said, or the topic was added before.
        """
        where = f"topic {name!r}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            fix = "lower-case words joined by - or _, without the plugin's prefix"
            raise PluginError(where, "a topic's name is a plain word.", got=repr(name), fix=fix)
        _paths(where, claims=claims)
        _one_line(where, summary)
        full = f"{self._origin[2]}.{name}"
        if any(known.name == full for known in self.topics):
            raise PluginError(where, "a plugin adds a topic once.", got=f"a second {full!r}")
        self.topics.append(Topic(full, claims, summary.strip(), *self._origin))


def _paths(where: str, **paths: str | None) -> None:
    for role, path in paths.items():
        if path is not None and not (isinstance(path, str) and _TARGET.fullmatch(path)):
            fix = "name it, do not import it: 'package.module:Name'"
            raise PluginError(where, f"{role} is an import path.", got=repr(path), fix=fix)


def _one_line(where: str, summary: str) -> None:
    if not isinstance(summary, str) or not summary.strip() or "\n" in summary:
        raise PluginError(where, "summary is one line of text.", got=repr(summary))


def _words(where: str, role: str, words: Iterable[str]) -> tuple[str, ...]:
    if isinstance(words, str):
        fix = f"write {role}=({words!r},)"
        raise PluginError(where, f"{role} is a tuple of words.", got=repr(words), fix=fix)
    found = tuple(words)
    if not all(isinstance(word, str) and word for word in found) or len(set(found)) < len(found):
        raise PluginError(where, f"{role} is a tuple of different words.", got=repr(found))
    if role == "needs" and not all(word.isidentifier() for word in found):
        raise PluginError(where, "needs are names of keyword arguments.", got=repr(found))
    return found
