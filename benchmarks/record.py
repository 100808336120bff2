"""What is written down: the measurements of an entry, with machine and versions, as JSON.

A file is replaced at once or not at all.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import torch

from .runner import OURS, Entry, Measured

__all__ = ["RESULTS", "describe", "machine", "read", "versions", "write"]

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """The processor, how busy it was in the last five minutes, and the system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[1] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    fields = (line.partition(":") for line in lines)
    found = {name.strip(): value.strip() for name, _, value in fields if value}
    return found.get("model name", platform.processor() or "unknown")


def versions(peers: Iterable[str]) -> dict[str, str]:
    """Versions of torch, of our packages and of the peers; the commit of our code."""
    installed = {d.metadata["Name"] for d in distributions()}
    ours = sorted(name for name in installed if name == OURS or name.startswith(f"{OURS}-"))
    found = {name: version(name) for name in ["torch", "numpy", *ours, *peers]}
    commit = _git("rev-parse", "--short=10", "HEAD")
    if commit:
        found["commit"] = commit + (" with changes" if _git("diff", "HEAD", "packages") else "")
    return found


def _git(*arguments: str) -> str:
    """What git says of the repository; nothing where there is no git or no repository."""
    command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def describe(
    name: str, title: str, entry: Entry, measured: Sequence[Measured], versions: dict[str, str]
) -> dict[str, Any]:
    """An entry's results as plain data; times are in seconds.

    ``versions`` are those from before the run: what a file or a commit is afterwards was not timed.
    """
    return {
        "entry": name,
        "title": title,
        "clock": entry.clock,
        "notes": list(entry.notes),
        "machine": machine(),
        "versions": versions,
        "cases": [asdict(row) for row in measured],
    }


def write(results: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write the results of an entry to ``folder/NAME.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{results['entry']}.json"
    partial = path.with_suffix(".json.partial")
    text = json.dumps(rounded(results), indent=1, ensure_ascii=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def rounded(value: Any) -> Any:
    """The same data with floats to five digits; what is not a number becomes null."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if value == value else None
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def read(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """All stored results, by name."""
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))]
