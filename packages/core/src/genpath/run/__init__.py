"""Runs: one config, one folder, and everything that came of it.

    run_config(config, "runs/first")            train, sample, evaluate, report; or go on
    sample_run("runs/first", 1000, seed=1)      more samples, in another process, on another day
    load_model("runs/first")                    the trained model, to use in Python

A run folder holds

    config.yaml          the resolved config, defaults included
    environment.json     versions, device, seeds
    metrics.jsonl        one line per logged step
    metrics.json         the final numbers, and how each was measured
    checkpoint.safetensors   the model's weights, with what they belong to
    training.safetensors     what training needs to go on
    samples.npz   figures/*.png   findings.json   report.html
    state.json           which stages are done

Killed at any moment, the same command goes on and ends with the same numbers: files are replaced
atomically, and the randomness of every step follows from the seed and the step alone
(`genpath.run.seeds`). Importing this package imports nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "assembly": ("Assembly", "assemble"),
    "checkpoints": ("load_model", "read_checkpoint"),
    "commands": ("default_folder", "evaluate_run", "report_run", "run_config", "sample_run"),
    "folder": ("Run",),
    "seeds": ("derive_seed", "generator_for"),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Assembly",
    "Run",
    "assemble",
    "default_folder",
    "derive_seed",
    "evaluate_run",
    "generator_for",
    "load_model",
    "read_checkpoint",
    "report_run",
    "run_config",
    "sample_run",
]

if TYPE_CHECKING:
    from genpath.run.assembly import Assembly as Assembly, assemble as assemble
    from genpath.run.checkpoints import load_model as load_model, read_checkpoint as read_checkpoint
    from genpath.run.commands import (
        default_folder as default_folder,
        evaluate_run as evaluate_run,
        report_run as report_run,
        run_config as run_config,
        sample_run as sample_run,
    )
    from genpath.run.folder import Run as Run
    from genpath.run.seeds import derive_seed as derive_seed, generator_for as generator_for


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(f"genpath.run.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'genpath.run' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
