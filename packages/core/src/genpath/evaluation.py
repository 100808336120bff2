"""Evaluations: what a run measures and shows of a trained model.

An `Evaluation` sees a `Scene` and returns `Findings`: metrics with how they were measured, figures
and texts. Figures are functions that draw on a matplotlib figure, so that matplotlib is imported
only when a report is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch

from .datasets import Dataset
from .likelihoods import Likelihood
from .models import Dynamics, Model
from .samplers import Solver

__all__ = ["Evaluation", "Figure", "Findings", "Scene", "Text"]

Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)``: told about long work."""


@dataclass(frozen=True)
class Scene:
    """What an evaluation may look at.

    Args:
        model: in evaluation mode, with averaged weights where the run averages.
        data: all three splits, in the data's units.
        samples: rows that the model generated, decoded to the data's units.
        dynamics, solver: how they were generated.
        likelihood: how data are scored; None when the config has none.
        rng: for all randomness of the evaluation.
        device: where the model lives.
        progress: to be told about long work.
        metrics: what earlier evaluations of the same run found.
    """

    model: Model
    data: Dataset
    samples: Any
    dynamics: Dynamics
    solver: Solver
    likelihood: Likelihood | None
    rng: torch.Generator
    device: torch.device
    progress: Progress = lambda what, done, total: None
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """One picture: ``draw`` gets an empty ``matplotlib.figure.Figure``.

    Args:
        name: file name without suffix.
        title, caption: what the reader sees; the caption says what to look for.
        draw: draws on the figure.
        size: width and height in inches.

    Example:
        >>> line = Figure("line", "A line", "It rises.", lambda f: f.subplots().plot([0, 1]))
        >>> line.name, line.size
        ('line', (8.0, 4.0))
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (8.0, 4.0)


@dataclass(frozen=True)
class Text:
    """One block of plain text in the report, shown as it is.

    Example:
        >>> Text("Sample 1", "to be or not").body
        'to be or not'
    """

    title: str
    body: str


@dataclass(frozen=True)
class Findings:
    """What an evaluation found.

    Args:
        metrics: name → number; ``test/nll`` and ``baseline/nll`` are in nats per example.
        measured: name → how it was measured, one line, for the names that need it.
        figures, texts: for the report.

    Example:
        >>> found = Findings({"test/nll": 1.5}, {"test/nll": "nats, over 100 test rows"})
        >>> found.metrics["test/nll"], found.figures
        (1.5, ())
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    texts: tuple[Text, ...] = ()


@runtime_checkable
class Evaluation(Protocol):
    """Measures something of a scene."""

    def __call__(self, scene: Scene) -> Findings:
        """Metrics, figures and texts."""
        ...
