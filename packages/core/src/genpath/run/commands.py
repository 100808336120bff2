"""What the command line calls: run, sample, evaluate, report. Each works from a folder alone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genpath.errors import ConfigError, RunError
from genpath.memory import keep_freed_blocks
from genpath.run.checkpoints import load_assembly
from genpath.run.files import clean, guarded, lock, write_json
from genpath.run.folder import CONFIG, ENVIRONMENT, Run, environment, open_folder
from genpath.run.progress import Display
from genpath.run.samples import draw, write_samples
from genpath.run.tables import metric_table
from genpath.run.training import Stopped

if TYPE_CHECKING:
    from rich.console import Console

    from genpath.config import Config

__all__ = ["default_folder", "evaluate_run", "report_run", "run_config", "sample_run"]


def default_folder(config: Config, source: str | Path | None = None) -> Path:
    """runs/STEM-DIGEST: the config file's name (or its title) and eight letters of its digest.

    Example:
        >>> from genpath.config import Config
        >>> default_folder(Config(), "configs/moons.yaml").name.rpartition("-")[0]
        'moons'
    """
    name = Path(source).stem if source is not None else (config.title or "run")
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-").lower() or "run"
    return Path("runs") / f"{stem}-{config.digest()[:8]}"


def run_config(
    config: Config | str | Path,
    out: str | Path | None = None,
    console: Console | None = None,
    only: Iterable[str] | None = None,
) -> Run:
    """Do the stages of a config, or go on with them.

    Args:
        config: a resolved config, or a config file.
        out: the run's folder; `default_folder` if None.
        console: where to show progress; standard output if None.
        only: names of the stages to do; those already done are then done again. All if None.

    Returns:
        The run: ``run.folder``, ``run.metrics()``.

    Raises:
        ConfigError: the folder belongs to another config; the keys that differ are named.
        RunError: the folder cannot be written, or another process runs in it.
        NumericalError: training left the finite numbers.
        KeyboardInterrupt: on Ctrl-C, after a checkpoint was written and a message shown.
    """
    source = None
    if not hasattr(config, "slots"):
        from genpath.config import load_config

        source = Path(config)
        config = load_config(source)
    assert not isinstance(config, (str, Path))
    folder = default_folder(config, source) if out is None else Path(out)
    console = _console(console)
    open_folder(config, folder)
    with lock(folder), _machine(config):
        clean(folder)
        run = Run(config, folder, console, Display(console))
        _stages(run, None if only is None else tuple(only))
    _print_table(run)
    return run


def _stages(run: Run, only: tuple[str, ...] | None) -> None:
    names = [bound.name for bound in run.config.stages]
    for name in only or ():
        if name not in names:
            fix = f"choose among {', '.join(names)}"
            raise ConfigError(
                "stages", f"the config has the stage {name!r}.", got=", ".join(names), fix=fix
            )
    finished = run.state()["finished"]
    todo = [
        (f"{index}:{bound.name}", bound)
        for index, bound in enumerate(run.config.stages)
        if (f"{index}:{bound.name}" not in finished if only is None else bound.name in only)
    ]
    if todo:
        write_json(run.folder / ENVIRONMENT, environment(run.config, run.device))
    for key, bound in todo:
        start = time.monotonic()
        try:
            bound.build()(run)
        except KeyboardInterrupt as stop:
            run.stop(key, time.monotonic() - start)
            where = (
                f"step {stop.step}, checkpoint written"
                if isinstance(stop, Stopped)
                else f"stage {bound.name}"
            )
            run.console.print(
                f"stopped at {where}; run the same command again to go on ({run.folder})",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip
            raise
        run.finish(key, time.monotonic() - start)


def sample_run(
    folder: str | Path,
    count: int | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    console: Console | None = None,
) -> Path:
    """Draw samples from the model in a run folder.

    Args:
        folder: the run folder.
        count: how many; as many as the config says if None.
        seed: from which they follow; the config's if None, which gives the run's own samples.
        out: the .npz file; ``samples-COUNT-SEED.npz`` in the run folder if None.
        console: where to show progress.

    Returns:
        The file.

    Raises:
        RunError: there is no checkpoint, or the file cannot be written.
        CheckpointError: what the checkpoint needs is not installed.
    """
    folder = Path(folder)
    if out is not None and Path(out).suffix != ".npz":
        raise RunError(str(out), "samples are written as .npz.", fix=f"write --out {out}.npz")
    if count is not None and count < 0:
        raise RunError("sample", "the number of samples is not negative.", got=str(count))
    console = _console(console)
    assembly = load_assembly(folder)
    count = assembly.config.sample.count if count is None else count
    seed = assembly.config.seed if seed is None else seed
    path = folder / f"samples-{count}-{seed}.npz" if out is None else Path(out)
    with _machine(assembly.config):
        samples = draw(assembly, count, seed, Display(console))
    with guarded(path.parent, "create"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_samples(path, samples)
    console.print(str(path), highlight=False, markup=False, soft_wrap=True)
    return path


def evaluate_run(folder: str | Path, console: Console | None = None) -> Run:
    """Measure the model in a run folder anew.

    Raises:
        RunError: it is no run folder, or holds no checkpoint.
    """
    return _again(folder, "evaluate", console)


def report_run(folder: str | Path, console: Console | None = None) -> Path:
    """Write the report of a run folder anew.

    Returns:
        The HTML file.
    """
    return _again(folder, "report", console).folder / "report.html"


def _again(folder: str | Path, stage: str, console: Console | None) -> Run:
    from genpath.plugins import registry

    folder, console = Path(folder), _console(console)
    config = _stored(folder)
    with lock(folder), _machine(config):
        run = Run(config, folder, console, Display(console))
        start = time.monotonic()
        registry().get("stage", stage).build()(run)
        key = next((f"{i}:{b.name}" for i, b in enumerate(config.stages) if b.name == stage), stage)
        run.finish(key, time.monotonic() - start)
    if stage == "evaluate":
        _print_table(run)
    return run


def _stored(folder: Path) -> Config:
    """The config of a run folder, as its checkpoint has it or as it was written.

    Raises:
        RunError: it is no run folder.
        CheckpointError: a component's distribution is not installed.
    """
    from genpath.config import Config as ConfigType
    from genpath.run.checkpoints import CHECKPOINT, TRAINING, read_checkpoint, stored_config

    if not (folder / CONFIG).exists():
        got = "no config.yaml" if folder.is_dir() else "no such folder"
        fix = "give a folder that `genpath run` made"
        raise RunError(str(folder), "it is a run folder.", got=got, fix=fix)
    for name in (CHECKPOINT, TRAINING):
        if (folder / name).exists():
            found = read_checkpoint(folder / name)
            return stored_config(
                found.metadata["config"], found.metadata["components"], str(folder / name)
            )
    return ConfigType.from_yaml(folder / CONFIG)


def _console(console: Console | None) -> Console:
    if console is not None:
        return console
    from rich.console import Console as ConsoleType

    return ConsoleType()


def _print_table(run: Run) -> None:
    found = run.metrics()
    if found["metrics"]:
        title = run.config.title or str(run.folder)
        run.console.print(metric_table(found["metrics"], found["measured"], title))
    extra: Any = "report.html" if (run.folder / "report.html").exists() else ""
    run.console.print(str(run.folder / extra), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _machine(config: Config) -> Iterator[None]:
    """The config's number of CPU threads inside the block, and freed memory kept."""
    before = torch.get_num_threads()
    keep_freed_blocks()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
