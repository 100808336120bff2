"""Plugins: how they are found, and what they bring.

    from genpath.plugins import registry

    registry().get("path", "interpolants.linear").build(...)

A plugin author reads ``genpath.plugins.hooks``; the rules of discovery are in
``genpath.plugins.discovery``.
"""

from genpath.plugins.components import Collector, Component, Topic
from genpath.plugins.discovery import discover, registry, using
from genpath.plugins.hooks import HOOK_VERSION, OLDEST_HOOK_VERSION, hookimpl, hookspec
from genpath.plugins.kinds import KINDS
from genpath.plugins.registry import Fault, PluginRecord, Registry

__all__ = [
    "HOOK_VERSION",
    "KINDS",
    "OLDEST_HOOK_VERSION",
    "Collector",
    "Component",
    "Fault",
    "PluginRecord",
    "Registry",
    "Topic",
    "discover",
    "hookimpl",
    "hookspec",
    "registry",
    "using",
]
