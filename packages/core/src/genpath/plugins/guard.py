"""A guard around imports: what an import does to torch's global state is undone and named.

Four things are global in torch and silently change everybody's numbers: the default dtype, the
default device, the number of threads and the random state. They are compared before and after,
without importing torch: where the guarded code is the first to import it, the state is taken the
moment torch's own import ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any

__all__ = ["HEAVY", "heavy_imports", "torch_guard"]

HEAVY = ("torch", "omegaconf", "rich", "numpy", "scipy", "matplotlib")
"""Libraries that listing must not import: each costs tens of milliseconds to seconds."""


def heavy_imports() -> set[str]:
    """The heavy libraries that are imported by now."""
    return {name for name in HEAVY if name in sys.modules}


class _State:
    """Torch's global state at one moment."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.dtype = torch.get_default_dtype()
        self.device = torch.get_default_device()
        self.threads = torch.get_num_threads()
        self.rng = torch.get_rng_state()

    def restore(self) -> list[str]:
        """Put everything back, and say what had changed."""
        torch, changes = self.torch, []
        if (dtype := torch.get_default_dtype()) != self.dtype:
            changes.append(f"the default dtype from {self.dtype} to {dtype}")
            torch.set_default_dtype(self.dtype)
        if (device := torch.get_default_device()) != self.device:
            changes.append(f"the default device from {self.device} to {device}")
            plain = self.device.type == "cpu" and self.device.index is None
            torch.set_default_device(None if plain else self.device)
        if (threads := torch.get_num_threads()) != self.threads:
            changes.append(f"the number of threads from {self.threads} to {threads}")
            torch.set_num_threads(self.threads)
        if not torch.equal(torch.get_rng_state(), self.rng):
            changes.append("the random state")
            torch.set_rng_state(self.rng)
        return changes


class _TorchWatcher:
    """A finder that lets torch import as usual and takes its state when that import ends."""

    state: _State | None = None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        self.stop()
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            vars(loader).pop("exec_module", None)  # guards may be nested
            execute(module)
            self.state = _State(module)

        loader.exec_module = exec_module
        return spec

    def start(self) -> None:
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)


@contextmanager
def torch_guard() -> Iterator[list[str]]:
    """Run the body, then undo what it did to torch's global state.

    Yields:
        A list that is filled, when the body ends, with what had changed, in words.

    Example:
        >>> with torch_guard() as changes:
        ...     import json
        >>> changes
        []
    """
    changes: list[str] = []
    watcher = _TorchWatcher()
    torch = sys.modules.get("torch")
    if torch is None:
        watcher.start()
    else:
        watcher.state = _State(torch)
    try:
        yield changes
    finally:
        watcher.stop()
        if watcher.state is not None:
            changes.extend(watcher.state.restore())
