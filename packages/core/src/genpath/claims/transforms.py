r"""Claims of the transforms that are applied between a sampler's steps.

Euler's step of ẋ = J x turns a point of the plane by arctan h and moves it out by √(1 + h²);
returned to the circle after each step, x_n is x_0 turned by n arctan h.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import flow
from genpath.grids import TimeGrid
from genpath.samplers import Carry, Euler, integrate
from genpath.spaces import Euclidean, Product
from genpath.testing import Claim, Control, Evidence, Trial, at_most, dial, equal, exact, near
from genpath.transforms import Clamp, Project

__all__ = ["clamp", "project"]

DOUBLE = torch.float64
BOX = 1.25


class _Circle(Euclidean):
    """Unit vectors of the plane, with the projection of the circle alone."""

    def project(self, x: Tensor) -> Tensor:
        unit: Tensor = x / x.norm(dim=-1, keepdim=True)
        return unit


def _state(rng: torch.Generator) -> dict[str, Tensor]:
    """Points of the plane, and two facts of each."""
    return {
        "x": 2 * torch.randn(64, 2, generator=rng, dtype=DOUBLE),
        "row": torch.arange(64),
        "mark": torch.arange(64) % 3 == 0,
    }


def _beside(transform: Any, name: str, change: Any) -> Any:
    """The transform, with one leaf of what it returns changed."""

    def call(carry: Carry, t: float, rng: torch.Generator) -> Carry:
        after: Carry = transform(carry, t, rng)
        return replace(after, state={**after.state, name: change(after.state[name])})

    return call


# -- project -----------------------------------------------------------------------------------


def project() -> tuple[Claim[Any], ...]:
    """Claims of ``transform.project``."""
    return (_turned(), _returned())


def _turned() -> Claim[Any]:
    steps = 40

    def check(transform: Any, trial: Trial) -> Evidence:
        angle = 2 * math.pi * torch.rand(20, generator=trial.rng(), dtype=DOUBLE)
        start = torch.stack([angle.cos(), angle.sin()], 1)
        turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=DOUBLE)
        gen = flow(Euclidean(2), lambda t, x: torch.as_tensor(x) @ turn)
        grid = TimeGrid.uniform(steps)
        end = integrate(Euler(), gen, start, grid, trial.rng(), transforms=(transform,)).state
        angle = angle + steps * math.atan(1 / steps)
        true = torch.stack([angle.cos(), angle.sin()], 1)
        return equal("the end of the solve", end, true, operations=8 * steps)

    def short(transform: Any, size: float) -> Any:
        def call(carry: Carry, t: float, rng: torch.Generator) -> Carry:
            after: Carry = transform(carry, t, rng)
            return replace(after, state=torch.lerp(after.state, carry.state, size))

        return call

    return Claim(
        "after-each-step",
        "With it after each step, Euler's solve of a rotation stays on the circle: n steps of size "
        "h turn a point by n arctan h.",
        lambda: Project(_Circle(2)),
        check,
        (
            dial("a share δ of the way back is left", short),
            Control("nothing is returned", lambda transform: lambda carry, t, rng: carry),
        ),
        formula=r"x_n = e^{n \arctan(h)\, J} x_0",
    )


def _returned() -> Claim[Any]:
    def check(transform: Any, trial: Trial) -> Iterator[Evidence]:
        state, weight = _state(trial.rng()), torch.arange(64, dtype=DOUBLE)
        state["y"] = torch.randn(64, 3, generator=trial.rng("y"), dtype=DOUBLE)
        once = transform(Carry(state, weight), 0.5, trial.rng())
        twice = transform(once, 0.5, trial.rng())
        one = torch.ones(64, dtype=DOUBLE)
        yield equal("distance from the centre", once.state["x"].norm(dim=1), one, operations=4)
        yield equal("applied twice", twice.state["x"], once.state["x"], operations=4)
        for name in ("y", "row", "mark"):
            yield exact(f"{name} is the same", once.state[name], state[name])
        yield exact("weights are the same", once.log_weight, weight)

    def smaller(transform: Any, size: float) -> Any:
        return _beside(transform, "x", lambda x: (1 - size) * x)

    return Claim(
        "each-factor",
        "In a product each factor returns to its own space and stays there when it is returned "
        "again; points of R^d, facts and weights are passed on as they are.",
        lambda: Project(Product({"x": _Circle(2), "y": Euclidean(3)})),
        check,
        (
            dial("x × (1 − δ)", smaller, 0.5),
            Control("rows of a fact are shifted by one",
                    lambda transform: _beside(transform, "row", lambda x: x.roll(1))),
        ),
        formula=r"P(P(x)) = P(x)",
    )  # fmt: skip


# -- clamp -------------------------------------------------------------------------------------


def clamp() -> tuple[Claim[Any], ...]:
    """Claims of ``transform.clamp``."""
    return (_nearest(),)


def _nearest() -> Claim[Any]:
    """Of a convex set, P is the nearest point: ⟨x − P x, y − P x⟩ ≤ 0 for all its points y."""

    def check(transform: Any, trial: Trial) -> Iterator[Evidence]:
        state, weight = _state(trial.rng()), torch.arange(64, dtype=DOUBLE)
        carry = transform(Carry(state, weight), 0.5, trial.rng())
        x, found = state["x"], carry.state["x"]
        corners = BOX * torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]], dtype=DOUBLE)
        angle = ((x - found)[:, None] * (corners - found[:, None])).sum(-1)
        yield at_most("⟨x − P x, y − P x⟩ at corners y", angle, torch.zeros_like(angle), "convex")
        yield at_most("|P x|", found.abs().max(), BOX, "it lies in the box")
        inside = (x.abs() < BOX).all(1)
        yield exact("points inside", found[inside], x[inside])
        low = int((~inside).sum())
        yield near("points that were moved", float((found != x).any(1).sum()), low, 0, "all others")
        for name in ("row", "mark"):
            yield exact(f"{name} is the same", carry.state[name], state[name])
        yield exact("weights are the same", carry.log_weight, weight)

    def wider(transform: Any, size: float) -> Any:
        return Clamp(transform.low, (1 + size) * transform.high)

    def narrower(transform: Any, size: float) -> Any:
        return Clamp((1 - size) * transform.low, transform.high)

    def all_leaves(transform: Any) -> Any:
        return _beside(transform, "row", lambda x: x.clamp(transform.low, transform.high).long())

    return Claim(
        "nearest-point",
        "Each point becomes the nearest point of the box; points inside, whole numbers, truth "
        "values and weights are passed on as they are.",
        lambda: Clamp(-BOX, BOX),
        check,
        (
            dial("the upper bound × (1 + δ)", wider),
            dial("the lower bound × (1 − δ)", narrower, 0.5),
            Control("whole numbers are clamped too", all_leaves),
        ),
        formula=r"\langle x - Px,\; y - Px\rangle \le 0, \quad y \in [a, b]^d",
    )
