"""The hook that a plugin implements, and the handshake that guards it.

A plugin is one light module, named by an entry point of the group ``genpath``:

    # pyproject.toml                              # genpath_waves/plugin.py
    [project.entry-points.genpath]                from genpath.plugins import hookimpl
    waves = "genpath_waves.plugin"
                                                  GENPATH_HOOK = 1

                                                  @hookimpl
                                                  def genpath_components(registry):
                                                      registry.add(
                                                          "path", "standing",
                                                          "genpath_waves.paths:StandingWave",
                                                          options="genpath_waves.options:Wave",
                                                          summary="a path that stays where it is",
                                                      )

The entry point's name is the prefix of every component (``waves.standing``). ``GENPATH_HOOK`` is
the hook version that the plugin was written for: pip cannot see an editable or a stale install, the
handshake can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from genpath.plugins.components import Collector

__all__ = [
    "ENTRY_POINT_GROUP",
    "HOOK_NAME",
    "HOOK_VERSION",
    "HOOK_VERSION_NAME",
    "OLDEST_HOOK_VERSION",
    "hookimpl",
    "hookspec",
]

ENTRY_POINT_GROUP: Final = "genpath"

HOOK_NAME: Final = "genpath_components"

HOOK_VERSION_NAME: Final = "GENPATH_HOOK"

HOOK_VERSION: Final = 1
"""The version of the hook: one more whenever a plugin written for the one before would break."""

OLDEST_HOOK_VERSION: Final = 1
"""The oldest version honoured: the one before, for one minor release."""

hookspec = pluggy.HookspecMarker("genpath")
hookimpl = pluggy.HookimplMarker("genpath")


@hookspec
def genpath_components(registry: Collector) -> None:
    """Name the plugin's components, one ``registry.add(...)`` each; import none of them."""
