"""The entries, one per file: each file's ``ENTRY`` says what is measured beside which peers."""

from __future__ import annotations

import importlib
import pkgutil

from ..runner import Entry

__all__ = ["load", "names"]


def names() -> list[str]:
    """The names of all entries: those of the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Entry:
    """The entry of a name, and no other file."""
    entry: Entry = importlib.import_module(f"{__name__}.{name}").ENTRY
    return entry


def title(name: str) -> str:
    """The first line of the entry's file."""
    text = importlib.import_module(f"{__name__}.{name}").__doc__ or name
    return text.splitlines()[0].rstrip(".")
