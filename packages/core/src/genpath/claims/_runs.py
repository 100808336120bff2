"""A small world for claims of stages: straight paths on the plane, and a constant velocity."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from genpath.config import Config
from genpath.config.load import read_config
from genpath.datasets import Dataset
from genpath.evaluation import Findings, Scene, Text
from genpath.generators import MarkovGenerator, flow
from genpath.paths import Draw
from genpath.plugin import genpath_components
from genpath.plugins import Collector, Registry, using
from genpath.predictions import Prediction, Rule
from genpath.run.folder import Run
from genpath.run.progress import Display
from genpath.spaces import Euclidean

__all__ = ["BODY", "POINT", "TINY", "VELOCITY", "changed", "new_run", "small_world"]

POINT, VELOCITY = (1.0, -2.0), (0.5, -0.25)
TINY, BODY = 3.0e-300, "a < b & c\n<i>d</i>"

CONFIG = """
seed: 7
device: cpu
threads: 1
precision: float64
data: claims.rows
base: gaussian
path: claims.straight
network: claims.constant
objective: regression
train: {steps: 0}
dynamics: ode
sampler: {name: euler, steps: 4}
sample: {count: 40, chunk: 15}
"""


@dataclass(frozen=True)
class Straight:
    """x_t = (1 − t) x0 + t x1 on the plane."""

    space: Euclidean = Euclidean(2)  # noqa: RUF009
    rules: tuple[Rule, ...] = ()

    @property
    def predictions(self) -> Mapping[str, Prediction]:
        return {"velocity": Prediction("velocity", (2,), True, "E[x1 − x0 | x_t]")}

    def draw(self, t: Tensor, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        return Draw(t, torch.lerp(x0, x1, t[:, None]), x0, x1)

    def target(self, name: str, draw: Draw) -> Any:
        return draw.x1 - draw.x0

    def conditional_generator(self, x0: Any, x1: Any) -> MarkovGenerator:
        return flow(self.space, lambda t, x: x1 - x0)


class Constant(nn.Module):
    """The same velocity everywhere: two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.velocity = nn.Parameter(torch.tensor(VELOCITY))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.velocity.expand_as(x)


def one_point() -> Dataset:
    """The same point again and again."""
    rows = torch.tensor(POINT, dtype=torch.float64).expand(4, 2).contiguous()
    return Dataset("one point", Euclidean(2), rows, rows, rows, "made up")


def normal_rows() -> Dataset:
    """Rows of N((1, −2), diag(0.5², 2²)), nearly."""
    z = torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.tensor(POINT) + torch.tensor([0.5, 2.0]) * z
    return Dataset("normal rows", Euclidean(2), rows[:40], rows[40:50], rows[50:], "made up")


@dataclass(frozen=True)
class Shown:
    """Three numbers and a text."""

    def __call__(self, scene: Scene) -> Findings:
        found = {"test/sum": float(scene.samples.sum()), "test/third": 1 / 3, "test/tiny": TINY}
        return Findings(found, {"test/third": "1/3"}, texts=(Text("A text", BODY),))


@contextmanager
def small_world() -> Iterator[Path]:
    """The core and this world's components as the registry, and an empty folder."""
    core, here = (
        Collector("", "core", "genpath", "0"),
        Collector("claims", "claims", "genpath", "0"),
    )
    genpath_components(core)
    for kind, name, target in (
        ("path", "straight", "Straight"),
        ("network", "constant", "Constant"),
        ("data", "point", "one_point"),
        ("data", "rows", "normal_rows"),
        ("evaluation", "shown", "Shown"),
    ):
        here.add(kind, name, f"genpath.claims._runs:{target}", summary=name)
    found = Registry([*core.components, *here.components])
    with using(found), TemporaryDirectory() as folder:
        yield Path(folder)


def new_run(folder: Path, *changes: str, display: type[Display] = Display) -> Run:
    """A run in a folder that is made, with changes such as ``"seed=3"``; silent."""
    from rich.console import Console

    folder.mkdir(exist_ok=True)
    console = Console(file=io.StringIO())
    return Run(read_config(CONFIG, list(changes)), folder, console, display(console))


def changed(run: Run, **fields: Any) -> Run:
    """The same run, with other fields of its config."""
    config: Config = replace(run.config, **fields)
    return Run(config, run.folder, run.console, run.display)
