"""Fake distributions on disk: what pip would have left behind, written by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"

HEAD = "from genpath.plugins import hookimpl\nGENPATH_HOOK = 1\n"
HOOK = HEAD + "@hookimpl\ndef genpath_components(registry):\n"


def plugin(*lines: str) -> str:
    """A plugin module whose hook does these lines."""
    return HOOK + "".join(f"    {line}\n" for line in lines or ("pass",))


def add(kind: str, name: str, target: str = "builtins:dict", more: str = "") -> str:
    """One line of a hook."""
    return f"registry.add({kind!r}, {name!r}, {target!r}, summary='{name}'{more})"


def install(
    root: Path, name: str, prefix: str, source: str, *, version: str = "1.0", module: str = ""
) -> str:
    """Write a distribution with one plugin; the name of its module."""
    module = module or f"{root.name}_{name}_{prefix}_plugin".replace("-", "_")
    (root / f"{module}.py").write_text(source)
    info = root / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[genpath]\n{prefix} = {module}\n")
    return module


def entry_points(root: Path) -> list[EntryPoint]:
    """The entry points of the distributions under a folder."""
    return [point for dist in distributions(path=[str(root)]) for point in dist.entry_points]


def python(
    root: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python with the fake distributions installed."""
    full = {key: value for key, value in os.environ.items() if not key.startswith("GENPATH")}
    full |= {"PYTHONPATH": os.pathsep.join([str(root), str(SOURCE)])} | dict(env or {})
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=full, timeout=60
    )


def test_a_fake_distribution_is_found(tmp_path: Path) -> None:
    install(tmp_path, "genpath-waves", "waves", plugin())
    (point,) = entry_points(tmp_path)
    assert (point.name, point.group, point.dist.name) == ("waves", "genpath", "genpath-waves")
