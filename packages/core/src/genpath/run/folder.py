"""The folder of a run: what a stage is given, and the record of what is done."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genpath.errors import ConfigError, RunError
from genpath.run.files import JSONLines, guarded, read_json, write_json, write_text
from genpath.run.progress import Display
from genpath.run.seeds import generator_for

if TYPE_CHECKING:
    from rich.console import Console

    from genpath.config import Config
    from genpath.run.assembly import Assembly

__all__ = ["CONFIG", "Run", "environment", "open_folder"]

CONFIG, STATE, ENVIRONMENT = "config.yaml", "state.json", "environment.json"
METRICS, FINDINGS, SAMPLES = "metrics.json", "findings.json", "samples.npz"


@dataclass(frozen=True)
class Run:
    """One config in one folder: what a stage works on.

    Args:
        config: the resolved config.
        folder: where everything goes; it exists.
        console: where a person reads what happens.
    """

    config: Config
    folder: Path
    console: Console
    display: Display = field(repr=False)

    @cached_property
    def assembly(self) -> Assembly:
        """What the config names, built when first asked for."""
        from genpath.run.assembly import assemble

        return assemble(self.config)

    @property
    def device(self) -> torch.device:
        """Where the run computes; a config without data names no model, and asks its own device."""
        from genpath.run.assembly import find_device

        if self.config.data is None:
            return find_device(self.config.device)
        return self.assembly.device

    def rng(self, purpose: str, step: int = 0) -> torch.Generator:
        """The random generator of one step of one purpose, on the run's device."""
        return generator_for(self.config.seed, purpose, step, self.device)

    @property
    def lines(self) -> JSONLines:
        """metrics.jsonl."""
        return JSONLines(self.folder / "metrics.jsonl")

    def metrics(self) -> dict[str, dict[str, Any]]:
        """{"metrics": name → number, "measured": name → how}, as far as the run has come."""
        found = read_json(self.folder / METRICS, {})
        return {"metrics": found.get("metrics", {}), "measured": found.get("measured", {})}

    def add_metrics(
        self, stage: str, metrics: Mapping[str, float], measured: Mapping[str, str]
    ) -> None:
        """Put a stage's numbers into metrics.json, in the place of those that it gave before."""
        stored = read_json(self.folder / METRICS, {})
        by_stage = stored.get("stages", {})
        old = set(by_stage.get(stage, []))
        kept = {k: v for k, v in stored.get("metrics", {}).items() if k not in old}
        words = {k: v for k, v in stored.get("measured", {}).items() if k not in old}
        numbers = {name: float(value) for name, value in metrics.items()}
        write_json(
            self.folder / METRICS,
            {
                "metrics": kept | numbers,
                "measured": words | dict(measured),
                "stages": by_stage | {stage: list(numbers)},
            },
        )

    def state(self) -> dict[str, Any]:
        """state.json: the stages that are done and the seconds that each took."""
        found = read_json(self.folder / STATE, {})
        return {"finished": found.get("finished", []), "seconds": found.get("seconds", {})}

    def finish(self, stage: str, seconds: float) -> None:
        """Record that a stage is done, and the seconds that it took since it was begun."""
        state = self.state()
        before = 0.0 if stage in state["finished"] else state["seconds"].get(stage, 0.0)
        state["finished"] = [*(s for s in state["finished"] if s != stage), stage]
        state["seconds"][stage] = round(before + seconds, 3)
        write_json(self.folder / STATE, state)

    def stop(self, stage: str, seconds: float) -> None:
        """Record the seconds of a stage that was stopped."""
        state = self.state()
        state["seconds"][stage] = round(state["seconds"].get(stage, 0.0) + seconds, 3)
        write_json(self.folder / STATE, state)


def environment(config: Config, device: torch.device | None = None) -> dict[str, Any]:
    """Versions, device and seeds; nothing about the machine's name, its user or its paths."""
    from genpath.plugins import registry

    distributions = {"genpath": _version("genpath")}
    for record in registry().plugins():
        if record.loaded:
            distributions[record.distribution] = record.version
    libraries = {
        name: found
        for name in (
            "torch",
            "numpy",
            "safetensors",
            "omegaconf",
            "matplotlib",
            "scikit-learn",
        )
        if (found := _version(name, None)) is not None
    }
    device = device or torch.device("cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "python": platform.python_version(),
        "distributions": dict(sorted(distributions.items())),
        "libraries": libraries,
        "device": {"type": device.type, "name": name},
        "threads": torch.get_num_threads(),
        "seeds": {
            "seed": config.seed,
            "derivation": "genpath.run.seeds.derive_seed(seed, purpose, step)",
        },
    }


def _version(distribution: str, default: str | None = "") -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        if distribution == "genpath":
            from genpath import __version__

            return __version__
        return default


def open_folder(config: Config, folder: Path) -> None:
    """Make a run folder, or see that the one that is there belongs to the same config.

    Raises:
        ConfigError: it belongs to another config; the keys that differ are named.
        RunError: it cannot be written, or holds something else.
    """
    stored = folder / CONFIG
    with guarded(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
        strangers = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    if stored.exists():
        _same_config(config, stored)
    elif strangers:
        raise RunError(
            str(folder),
            "a run gets an empty folder.",
            got="it holds "
            + ", ".join(sorted(strangers)[:3])
            + (", …" if len(strangers) > 3 else ""),
            fix="choose another folder: --out DIR",
        )
    else:
        write_text(stored, config.to_yaml())


def _same_config(config: Config, stored: Path) -> None:
    from genpath.config.yaml_text import parse

    with guarded(stored, "read"):
        text = stored.read_text(encoding="utf-8")
    if text == config.to_yaml():
        return
    old, new = _flat(parse(text, str(stored))[0]), _flat(parse(config.to_yaml(), "config")[0])
    differ = [key for key in {**old, **new} if old.get(key, _NOTHING) != new.get(key, _NOTHING)]
    if differ:
        shown = [
            f"{k}: {old.get(k, _NOTHING)!r} there, {new.get(k, _NOTHING)!r} now" for k in differ
        ]
        raise ConfigError(
            str(stored.parent),
            "a run goes on with the config that it began with.",
            got="; ".join(shown[:8]) + (f"; and {len(shown) - 8} more" if len(shown) > 8 else ""),
            fix="choose another folder (--out DIR), delete this one, or put the keys back",
        )


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Key path → value."""
    if isinstance(value, dict) and value:
        pairs = [(f"{key}.{name}" if key else str(name), item) for name, item in value.items()]
    elif isinstance(value, list) and value:
        pairs = [(f"{key}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {key: value}
    flat: dict[str, Any] = {}
    for name, item in pairs:
        flat |= _flat(item, name)
    return flat
