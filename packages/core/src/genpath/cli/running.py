"""Commands that compute: run, train, sample, evaluate, report; handed over to ``genpath.run``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

__all__ = ["evaluate", "report", "run", "sample", "train"]


def _console() -> Any:
    from rich.console import Console

    return Console()


def _run(command: Namespace, only: tuple[str, ...] | None = None) -> int:
    from genpath.config import load_config
    from genpath.plugins import discover, using

    with using(discover(without=command.without)):
        config = load_config(command.config, command.overrides)

        from genpath.run import default_folder, run_config

        out = Path(command.out) if command.out else default_folder(config, command.config)
        run_config(config, out, _console(), only)
    return 0


def run(command: Namespace) -> int:
    """``genpath run CONFIG [key=value ...] [--out DIR]``."""
    return _run(command)


def train(command: Namespace) -> int:
    """``genpath train CONFIG [key=value ...] [--out DIR]``: into the folder of ``genpath run``."""
    return _run(command, ("train",))


def sample(command: Namespace) -> int:
    """``genpath sample RUN [--count N] [--seed S] [--out FILE.npz]``."""
    from genpath.plugins import discover, using

    with using(discover(without=command.without)):
        from genpath.run import sample_run

        out = Path(command.out) if command.out is not None else None
        sample_run(Path(command.folder), command.count, command.seed, out)
    return 0


def evaluate(command: Namespace) -> int:
    """``genpath evaluate RUN``."""
    from genpath.plugins import discover, using

    with using(discover(without=command.without)):
        from genpath.run import evaluate_run

        evaluate_run(Path(command.folder))
    return 0


def report(command: Namespace) -> int:
    """``genpath report RUN``."""
    from genpath.plugins import discover, using

    with using(discover(without=command.without)):
        from genpath.run import report_run

        report_run(Path(command.folder))
    return 0
