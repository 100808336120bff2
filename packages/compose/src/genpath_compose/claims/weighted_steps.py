r"""One weighted step: its weak order, without a random number.

The model is dX = dW from N(0, v0) with g = −κ x²/2, run on all paths of three-point noise from
Gauss–Hermite nodes, against the solution of its Riccati equation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.noises import MatrixFreeNoise, ScalarNoise
from genpath.parts import Parts
from genpath.samplers import Carry, Euler, Sampler, integrate
from genpath.spaces import Euclidean
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, order

from ..smc import TrapezoidEuler

__all__ = ["KAPPA", "LINE", "V0", "heat", "limit", "steps"]

DOUBLE = torch.float64
KAPPA, V0 = 0.9, 1.5
LINE = Euclidean(1)
WEIGHED = frozenset({"diffusion", "potential"})


def steps() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (weak_order(), trapezoid())


def heat(kappa: float = KAPPA) -> MarkovGenerator:
    """Brownian motion weighted by g = −κ x²/2."""

    def parts(t: Tensor, x: Tensor) -> Parts:
        return Parts(diffusion=ScalarNoise(1.0), potential=-kappa / 2 * x[:, 0] ** 2)

    return MarkovGenerator(LINE, parts, WEIGHED)


def limit(end: float) -> tuple[float, float]:
    """Z and variance of the weighted heat flow at time ``end``: a Riccati equation, solved."""
    root, first = math.sqrt(KAPPA), 1 / V0
    grow = root * math.tanh(root * end)
    precision = root * (first + grow) / (root + first * math.tanh(root * end))
    # ℓ̇ = −P/2 integrates to −½ log(cosh qT + (P0/q) sinh qT)
    log_mass = -0.5 * math.log(math.cosh(root * end) + first / root * math.sinh(root * end))
    return math.exp(log_mass) * math.sqrt(first / precision), 1 / precision


def all_paths(steps: int, end: float) -> tuple[MarkovGenerator, Tensor, Tensor]:
    """The model on all paths of three-point noise: generator, starts and log-probabilities.

    (−√3, 0, √3) with probabilities ⅙, ⅔, ⅙ has the first five moments of a normal number, so the
    paths add O(h²) to what a step makes of its mean (Kloeden & Platen 1992, 14.2). The starts are
    Gauss–Hermite nodes. No number is random.
    """
    digits = torch.tensor(list(itertools.product((0, 1, 2), repeat=steps)))
    nodes, weights = _hermite(20)
    kicks = torch.tensor([-math.sqrt(3), 0.0, math.sqrt(3)], dtype=DOUBLE)[digits]
    chance = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=DOUBLE).log()[digits].sum(1)
    start = math.sqrt(V0) * nodes.repeat_interleave(len(digits))
    weight = weights.log().repeat_interleave(len(digits)) + chance.repeat(len(nodes))
    kicks = kicks.repeat(len(nodes), 1)

    def parts(t: Tensor, x: Tensor) -> Parts:
        step = min(round(float(t[0]) * steps / end), steps - 1)
        noise = MatrixFreeNoise(lambda z: kicks[:, step : step + 1])
        return Parts(diffusion=noise, potential=-KAPPA / 2 * x[:, 0] ** 2)

    return MarkovGenerator(LINE, parts, WEIGHED), start[:, None], weight


def _hermite(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of N(0, 1), by the eigenvalues of its Jacobi matrix."""
    side = torch.arange(1, count, dtype=DOUBLE).sqrt()
    values, vectors = torch.linalg.eigh(torch.diag(side, 1) + torch.diag(side, -1))
    return values, vectors[0] ** 2


def errors(
    sampler: Sampler, counts: tuple[int, ...], end: float
) -> tuple[list[float], list[float]]:
    """|Z − limit| and |variance − limit| of the weak scheme on each grid, without randomness."""
    masses, spreads = [], []
    for steps in counts:
        gen, start, weight = all_paths(steps, end)
        grid = TimeGrid.uniform(steps, 0.0, end)
        found = integrate(sampler, gen, start, grid, torch.Generator())
        assert found.log_weight is not None
        share = (found.log_weight + weight).exp()
        mass, spread = limit(end)
        masses.append(abs(float(share.sum()) - mass))
        second = float((share * found.state[:, 0] ** 2).sum() / share.sum())
        spreads.append(abs(second - spread))
    return masses, spreads


def gained(factor: float) -> Callable[[Sampler], Sampler]:
    """The sampler whose log-weight grows by ``factor`` of what it should."""

    def plant(sampler: Sampler) -> Sampler:
        def step(gen: Any, carry: Carry, t: float, t_next: float, rng: Any) -> Carry:
            moved = sampler.step(gen, carry, t, t_next, rng)
            assert moved.log_weight is not None and carry.log_weight is not None
            gain = factor * (moved.log_weight - carry.log_weight)
            return replace(moved, log_weight=carry.log_weight + gain)

        return but(sampler, step=step)

    return plant


def weak_order() -> Claim[Sampler]:
    """Euler's weighted step has weak order 1, with the weight taken before the move."""

    def check(sampler: Sampler, trial: Trial) -> Iterator[Evidence]:
        counts, end = (3, 4, 6, 8), 0.25
        steps = [end / n for n in counts]
        masses, spreads = errors(sampler, counts, end)
        yield order("|E e^A − Z|", steps, masses, 1.0)
        yield order("|Var − limit|", steps, spreads, 1.0)
        gen, x = heat(), torch.tensor([[2.0], [-1.0]], dtype=DOUBLE)
        carry = sampler.step(gen, sampler.init(gen, x), 0.0, 0.25, trial.rng())
        assert carry.log_weight is not None
        before = -KAPPA / 2 * 0.25 * x[:, 0] ** 2
        yield equal("a = h g before the move", carry.log_weight, before)

    def after(sampler: Sampler) -> Sampler:
        def step(gen: Any, carry: Carry, t: float, t_next: float, rng: Any) -> Carry:
            moved = sampler.step(gen, carry, t, t_next, rng)
            late = gen(t_next, moved.state).potential
            return replace(moved, log_weight=carry.log_weight + (t_next - t) * late)

        return but(sampler, step=step)

    return Claim(
        "weak-order",
        "Mass and variance of the weighted Euler step are off by O(h).",
        Euler,
        check,
        (
            dial("da = (1 + δ) g dt", lambda sampler, d: gained(1 + d)(sampler), 0.5),
            Control("the sign of the potential", gained(-1.0)),
            Control("the potential after the move", after),
        ),
        formula=r"A\mathrel{+}=g(X_{t_n})\,\Delta t",
        entries=("L7.20", "L7.7", "H7.1"),
    )


def trapezoid() -> Claim[Sampler]:
    """The trapezoid has order 2 in the weight."""

    def check(sampler: Sampler, trial: Trial) -> Iterator[Evidence]:
        counts, end = (3, 4, 6, 8), 0.5
        masses, spreads = errors(sampler, counts, end)
        steps = [end / n for n in counts]
        yield order("Brownian motion: |E e^A − Z|", steps, masses, 2.0)
        yield order("Brownian motion: |Var − limit|", steps, spreads, 2.0)
        grids, off = (8, 16, 32, 64), []

        def parts(t: Tensor, x: Tensor) -> Parts:
            return Parts(torch.ones_like(x), potential=torch.sin(3 * x[:, 0]) * (1 + t))

        gen = MarkovGenerator(LINE, parts, frozenset({"velocity", "potential"}))
        # ∫ sin(3(x + t)) (1 + t) dt from 0 to 1, by parts
        x = torch.tensor([0.3], dtype=DOUBLE)
        ends = [-(1 + t) * torch.cos(3 * (x + t)) / 3 + torch.sin(3 * (x + t)) / 9 for t in (0, 1)]
        for steps_taken in grids:
            grid = TimeGrid.uniform(steps_taken)
            found = integrate(sampler, gen, x[:, None], grid, trial.rng()).log_weight
            assert found is not None
            off.append(float((found - ends[1] + ends[0]).abs()))
        yield order("∫ g along a line", [1 / n for n in grids], off, 2.0)

    def euler(sampler: Sampler) -> Sampler:
        return but(sampler, step=Euler().step)

    return Claim(
        "trapezoid",
        "The trapezoid's log-weight is off by O(h²) along the path of the particles.",
        TrapezoidEuler,
        check,
        (
            Control("Euler's weight", euler),
            dial("da = (1 + δ) g dt", lambda sampler, d: gained(1 + d)(sampler), 0.25),
        ),
        formula=r"A\mathrel{+}=\tfrac12\left(g(X_{t_n})+g(X_{t_{n+1}})\right)\Delta t",
        entries=("L7.20",),
    )
