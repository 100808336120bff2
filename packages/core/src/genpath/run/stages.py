"""Stages: what a run does, one after the other.

A stage is a component of kind ``stage``: built from its options, called with the `Run`. It leaves
what it made in the run's folder, so that it can be skipped when the run goes on, and so that the
next stage may be run by another process.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from genpath.errors import ConfigError
from genpath.evaluation import Figure, Findings, Scene
from genpath.run import training
from genpath.run.assembly import default_dtype
from genpath.run.checkpoints import (
    CHECKPOINT,
    find_checkpoint,
    load_weights,
    model_tensors,
    read_checkpoint,
)
from genpath.run.files import write_bytes, write_json
from genpath.run.folder import FINDINGS, SAMPLES, Run
from genpath.run.report import write_report
from genpath.run.samples import draw, read_samples, write_samples

__all__ = ["Evaluate", "Report", "Sample", "Stage", "Train", "figure_png", "write_findings"]


@runtime_checkable
class Stage(Protocol):
    """One step of a run."""

    def __call__(self, run: Run) -> None:
        """Do it, and leave the result in ``run.folder``."""
        ...


@dataclass(frozen=True)
class Train:
    """Fit the network: the component ``stage.train``."""

    def __call__(self, run: Run) -> None:
        training.train(run)


@dataclass(frozen=True)
class Sample:
    """Draw the config's number of samples: the component ``stage.sample``."""

    def __call__(self, run: Run) -> None:
        load_trained(run)
        options = run.config.sample
        samples = draw(run.assembly, options.count, run.config.seed, run.display)
        write_samples(run.folder / SAMPLES, samples)


@dataclass(frozen=True)
class Evaluate:
    """Measure what the config's ``evaluate`` names: the component ``stage.evaluate``."""

    def __call__(self, run: Run) -> None:
        load_trained(run)
        if not (run.folder / SAMPLES).exists() and run.config.sample.count and run.config.sampler:
            Sample()(run)
        found, pictures = Findings(), list[Figure]()
        metrics: dict[str, float] = {}
        for index, evaluation in enumerate(run.assembly.evaluations):
            bound = run.config.evaluate[index]
            with run.display.evaluation(bound.name) as progress, default_dtype(run.config):
                new = evaluation(_scene(run, index, progress, metrics))
            twice = sorted(metrics.keys() & new.metrics.keys())
            if twice:
                raise ConfigError(
                    bound.node or bound.name,
                    "a metric is measured once.",
                    got=f"a second {', '.join(twice)}",
                    fix="leave one of the evaluations out",
                )  # fmt: skip
            metrics |= dict(new.metrics)
            pictures += new.figures
            found = Findings(
                metrics, {**found.measured, **new.measured}, (), found.texts + new.texts
            )
        write_findings(run, "evaluate", found, pictures)


@dataclass(frozen=True)
class Report:
    """Write report.html: the component ``stage.report``."""

    def __call__(self, run: Run) -> None:
        write_report(run)


def load_trained(run: Run) -> None:
    """Put the kept weights of the folder's checkpoint into the run's network.

    Raises:
        RunError: there is no checkpoint, and the config trains.
    """
    assembly = run.assembly
    if run.config.train.steps or (run.folder / CHECKPOINT).exists():
        checkpoint = read_checkpoint(find_checkpoint(run.folder))
        load_weights(assembly, checkpoint, model_tensors(checkpoint))
    assembly.network.eval()


def _scene(run: Run, index: int, progress: Any, metrics: Mapping[str, float]) -> Scene:
    assembly, path = run.assembly, run.folder / SAMPLES
    return Scene(
        model=assembly.guided(),
        data=assembly.data,
        samples=read_samples(path) if path.exists() else None,
        dynamics=assembly.dynamics,
        solver=assembly.solver,
        likelihood=assembly.likelihood,
        rng=run.rng("evaluate", index),
        device=assembly.device,
        progress=progress,
        metrics=dict(metrics),
    )


def write_findings(run: Run, stage: str, found: Findings, figures: list[Figure]) -> None:
    """What a stage found: figures as PNG files, texts as JSON, numbers beside the training's.

    Args:
        run: whose folder they go into.
        stage: by whom; its earlier numbers are replaced.
        found: metrics and texts.
        figures: for the report.
    """
    folder = run.folder / "figures"
    listed = []
    for figure in figures:
        png = figure_png(figure)
        if png is None:
            hint = "figures need matplotlib: pip install 'genpath[report]'"
            run.console.print(hint, highlight=False, markup=False)
            break
        folder.mkdir(exist_ok=True)
        write_bytes(folder / f"{figure.name}.png", png)
        listed.append(
            {"file": f"figures/{figure.name}.png", "title": figure.title, "caption": figure.caption}
        )
    texts = [{"title": text.title, "body": text.body} for text in found.texts]
    write_json(run.folder / FINDINGS, {"figures": listed, "texts": texts})
    run.add_metrics(stage, found.metrics, found.measured)
    lines = [line for line in run.lines.read() if line.get("stage") != stage]
    run.lines.replace(lines + ([{"stage": stage, **found.metrics}] if found.metrics else []))


def figure_png(figure: Figure) -> bytes | None:
    """A figure as PNG bytes, the same for the same drawing; None without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        return None
    canvas = Canvas(figsize=figure.size, dpi=130, layout="constrained")
    FigureCanvasAgg(canvas)
    figure.draw(canvas)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
