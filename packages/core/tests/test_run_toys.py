"""A toy plugin for the tests of runs: a straight path on R^d, and data whose law is known."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genpath.config import Config
from genpath.config.load import read_config
from genpath.datasets import Dataset
from genpath.evaluation import Figure, Findings, Scene, Text
from genpath.generators import MarkovGenerator, flow
from genpath.paths import Draw
from genpath.plugin import genpath_components
from genpath.plugins import Collector, Registry, using
from genpath.predictions import Prediction, Rule
from genpath.spaces import Euclidean
from genpath.states import per_row, row_times

sys.modules["genpath_run_toys"] = sys.modules[__name__]

MEAN, STD = (1.0, -2.0), (0.5, 2.0)


@dataclass(frozen=True)
class Straight:
    """x_t = (1 − t) x0 + t x1 on R^d."""

    state_space: Euclidean

    @property
    def space(self) -> Euclidean:
        return self.state_space

    @property
    def predictions(self) -> dict[str, Prediction]:
        return {
            "velocity": Prediction("velocity", self.space.event_shape, True, "E[x1 − x0 | x_t]")
        }

    @property
    def rules(self) -> tuple[Rule, ...]:
        return ()

    def draw(self, t: Any, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        t = row_times(t, x1)
        return Draw(t, torch.lerp(x0, x1, per_row(t, x1)), x0, x1)

    def target(self, name: str, draw: Draw) -> Tensor:
        return draw.x1 - draw.x0

    def conditional_generator(self, x0: Tensor, x1: Tensor) -> MarkovGenerator:
        return flow(self.space, lambda t, x: x1 - x0)


def normal_rows(rows: int = 600, poison: bool = False) -> Dataset:
    """Independent normal coordinates with means MEAN and deviations STD."""
    rng = torch.Generator().manual_seed(5)
    x = torch.randn(rows, 2, generator=rng) * torch.tensor(STD) + torch.tensor(MEAN)
    first, second = rows // 2, 3 * rows // 4
    train = x[:first].clone()
    if poison:
        train[0, 0] = float("nan")
    return Dataset("normal rows", Euclidean(2), train, x[first:second], x[second:], "made up",
                   bits_per=("dimension", 2))  # fmt: skip


def poisoned() -> Dataset:
    """The same with one number missing."""
    return normal_rows(poison=True)


@dataclass(frozen=True)
class Shown:
    """One number, one figure and one text."""

    def __call__(self, scene: Scene) -> Findings:
        def draw(figure: Any) -> None:
            figure.subplots().plot([0, 1], [0, 1])

        value = float(scene.samples.mean())
        return Findings(
            {"test/mean": value},
            {"test/mean": "mean of <all> entries"},
            (Figure("line", "A line", "it rises", draw, (2.0, 1.0)),),
            (Text("A text", "a < b & c"),),
        )


def toys(registry: Collector) -> None:
    """The plugin's components."""
    where = "genpath_run_toys"
    registry.add(
        "path", "straight", f"{where}:Straight", needs=("state_space",), summary="straight"
    )
    registry.add("data", "normal", f"{where}:normal_rows", summary="normal rows")
    registry.add("data", "poisoned", f"{where}:poisoned", summary="one row is no number")
    registry.add("evaluation", "shown", f"{where}:Shown", summary="a number, a figure, a text")


def toy_registry(*, with_toys: bool = True) -> Registry:
    """The core and the toy plugin, as discovery would register them."""
    core = Collector("", "core", "genpath", "0.0")
    genpath_components(core)
    found = list(core.components)
    if with_toys:
        toy = Collector("toy", "toy", "genpath-toy", "1.2")
        toys(toy)
        found += toy.components
    return Registry(found)


CONFIG = """
title: A toy <run>
description: "first line\\nsecond line"
seed: 11
device: cpu
threads: 1
data: toy.normal
codec: standardise
base: gaussian
path: toy.straight
network: {name: mlp, width: 16, depth: 1, time_features: 4, dropout: 0.1}
objective: regression
train: {steps: 240, batch: 32, warmup: 10, lr: 0.01, ema: 0.9, log_every: 7, checkpoint_every: 25,
        validate_every: 60, validation_batches: 2, keep_best: true}
dynamics: ode
sampler: {name: heun, steps: 4}
likelihood: {name: ode, steps: 4}
sample: {count: 50, chunk: 20}
evaluate: [toy.shown, {name: nll, max_examples: 20}]
"""


def toy_config(*overrides: str) -> Config:
    """The toy config, inside `using(toy_registry())`."""
    return read_config(CONFIG, overrides)


@contextmanager
def toy_world() -> Iterator[None]:
    """The registry of the tests, and one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with using(toy_registry()):
        yield
    torch.set_num_threads(threads)


def quiet() -> Any:
    """A console that nobody sees."""
    from rich.console import Console

    return Console(file=open(os.devnull, "w"), width=100)


def results(folder: Path) -> dict[str, bytes]:
    """What must be the same however often a run was killed."""
    names = (
        "metrics.jsonl",
        "metrics.json",
        "checkpoint.safetensors",
        "samples.npz",
        "config.yaml",
    )
    return {name: (folder / name).read_bytes() for name in names}


def test_the_toy_path_keeps_its_ends() -> None:
    x0, x1 = torch.zeros(2, 2), torch.ones(2, 2)
    path = Straight(Euclidean(2))
    ends = [path.draw(t, x0, x1, torch.Generator()).state for t in (0.0, 1.0)]
    assert torch.equal(ends[0], x0) and torch.equal(ends[1], x1)
