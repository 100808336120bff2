r"""The Fokker–Planck equation on an interval, against laws that are known.

dX = (kX + c) dt + √(2ε) dW:   m' = k m + c,   V' = 2kV + 2ε
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.states import Field
from genpath.testing import Claim, Control, Evidence, Trial, dial, equal, near, order

from ..finite_volume import FiniteVolume, GridDensity, solve_tridiagonal
from ..mixtures import MixtureMarginal
from ..presets import linear
from .cases import DOUBLE, LINE, normal, single

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of the topic ``interpolants.finite_volume``."""
    return (solver(), model_law(), system())


Solve = Callable[..., GridDensity]
FLUXES: tuple[Literal["exponential", "central"], ...] = ("exponential", "central")


@dataclass(frozen=True)
class Grids:
    """The solver under test, by its parameters."""

    solve: Solve


def _make() -> Grids:
    def solve(
        solver: FiniteVolume,
        drift: Field,
        eps: float,
        start: Any,
        steps: int,
        growth: Field | None = None,
    ) -> GridDensity:
        return solver.solve(drift, eps, start, TimeGrid.uniform(steps), growth=growth)

    return Grids(solve)


def louder(grids: Grids, size: float) -> Grids:
    """Noise ε (1 + δ)."""

    def solve(solver: FiniteVolume, drift: Field, eps: float, *given: Any) -> GridDensity:
        return grids.solve(solver, drift, (1 + size) * eps, *given)

    return Grids(solve)


def off_centre(grids: Grids, size: float) -> Grids:
    """The drift read δ of a cell to the right of the face: first order."""

    def solve(solver: FiniteVolume, drift: Field, *given: Any) -> GridDensity:
        return grids.solve(solver, lambda t, x: drift(t, x + size * solver.width), *given)

    return Grids(solve)


def leaky(grids: Grids, size: float) -> Grids:
    """Mass that grows at rate δ."""

    def solve(*given: Any) -> GridDensity:
        return grids.solve(*given, growth=lambda t, x: size + 0 * t)

    return Grids(solve)


def half_score(grids: Grids) -> Grids:
    """Drift f − ε s/2, for the model of `model_law`."""
    exact = _exact()

    def solve(solver: FiniteVolume, drift: Field, eps: float, *given: Any) -> GridDensity:
        def wrong(t: Tensor, x: Any) -> Tensor:
            found: Tensor = drift(t, x) - 0.5 * eps * exact.score(t, x)
            return found

        return grids.solve(solver, wrong, eps, *given)

    return Grids(solve)


def _exact() -> MixtureMarginal:
    path = linear(LINE, "sqrt", 1.0, "gaussian")
    return MixtureMarginal(path, single(0.0, math.sqrt(0.2)))


def solver() -> Claim[Grids]:
    """Second order in the cells, and mass to rounding."""
    k, c, eps, m, v = -0.8, 0.4, 0.3, 1.0, 0.49

    def drift(t: Tensor, x: Tensor) -> Tensor:
        return k * x + c

    def check(grids: Grids, trial: Trial) -> Iterator[Evidence]:
        grow = math.exp(k)
        spread = math.sqrt(grow**2 * v + eps * (grow**2 - 1) / k)
        end = Normal(grow * m + c * (grow - 1) / k, spread)
        start = Gaussian((1,), m, math.sqrt(v), DOUBLE).log_prob
        sizes = (24, 34, 48, 68) if trial.fast else (32, 45, 64, 90)
        for flux in FLUXES:
            errors = []
            for cells in sizes:
                found = grids.solve(
                    FiniteVolume(-6.0, 7.0, cells, flux), drift, eps, start, cells // 2
                )
                true = end.log_prob(found.centres).exp()
                errors.append(float((found.values - true).abs().sum()) * found.width)
                lost = abs(float(found.mass) - 1)
                words = f"{flux}, {cells} cells: ∫ p"
                because = "rounding: 1e-16 per step and cell; 1e-13 lies outside the interval"
                yield near(words, 1 + lost, 1.0, 1e-12, because)
            steps = [13 / cells for cells in sizes]
            yield order(f"{flux}: order in Δ", steps, errors, 2.0)

    return Claim(
        "fokker-planck",
        "On an interval the solver's density converges to that of a linear SDE at second order in "
        "the cells, and keeps its mass to 1e-12.",
        _make,
        check,
        (
            dial("drift read δ of a cell off", off_centre, 0.25),
            dial("noise ε (1 + δ)", louder, 0.1),
            dial("mass grows at rate δ", leaky, 0.01),
        ),
        formula=r"\partial_t\hat\rho + \nabla\cdot((\hat b + \varepsilon\hat s)\hat\rho) "
        r"= \varepsilon\Delta\hat\rho",
        entries=("L3.4",),
        owes="density",
    )


def model_law() -> Claim[Grids]:
    """Exact fields give p_t for every ε; wrong ones a law that depends on ε."""

    def check(grids: Grids, trial: Trial) -> Iterator[Evidence]:
        exact = _exact()
        start = Gaussian((1,), dtype=DOUBLE).log_prob
        steps = trial.count(32, 24)

        def law(eps: float, b: float, s: float) -> GridDensity:
            def drift(t: Tensor, x: Tensor) -> Tensor:
                return b * exact.velocity(t, x) + eps * s * exact.score(t, x)

            return grids.solve(FiniteVolume(-7.0, 7.0, 220), drift, eps, start, steps)

        because = "numerical diffusion E f² Δ²/(12 ε) of the fluxes, Δ = 0.064, at ε = 0.1"
        for eps in (0.1, 1.0):
            words = f"variance at ε = {eps:g}"
            yield near(f"{words}, exact fields", law(eps, 1.0, 1.0).variance, 0.2, 6e-3, because)
            true = _variance(eps, 1.2, 0.7)
            found = law(eps, 1.2, 0.7).variance
            yield near(f"{words}, 1.2 b and 0.7 s", found, true, 6e-3, because)

    return Claim(
        "model-law",
        "With exact velocity and score the law at t = 1 is the data's for every ε; with wrong ones "
        "it depends on ε, as the moments of the linear SDE do.",
        _make,
        check,
        (
            dial("noise ε (1 + δ)", louder, 0.5),
            Control("drift b + ε s/2", half_score),
        ),
        entries=("L3.4",),
    )


def _variance(eps: float, b: float, s: float) -> float:
    """V' = 2(b k_b + ε s k_s)V + 2ε with k_b = v'/2v, k_s = −1/v, v = (1−t)² + t²/5 + t(1−t)."""
    steps = 2000
    t = torch.linspace(0, 1, steps + 1, dtype=DOUBLE)
    v = (1 - t) ** 2 + 0.2 * t**2 + t * (1 - t)
    rate = 2 * (b * (-2 * (1 - t) + 0.4 * t + 1 - 2 * t) / (2 * v) - eps * s / v)
    total = torch.cat([t[:1], torch.cumulative_trapezoid(rate, t)])  # V = e^R (1 + 2ε ∫ e^{−R})
    inner = torch.trapezoid(torch.exp(total[-1] - total), t)
    return float(torch.exp(total[-1]) + 2 * eps * inner)


def system() -> Claim[Callable[..., Tensor]]:
    """The tridiagonal systems, against a dense solve."""

    def check(solve: Callable[..., Tensor], trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        for n in (1, 2, 3, 64, 101):
            lower, upper, right = normal(3, 5, n, rng=rng)
            diagonal = 2.5 + lower.abs() + upper.abs()
            dense = torch.diag_embed(diagonal)
            if n > 1:
                dense += torch.diag_embed(upper[:, :-1], 1) + torch.diag_embed(lower[:, 1:], -1)
            true = torch.linalg.solve(dense, right[..., None])[..., 0]
            found = solve(lower, diagonal, upper, right)
            yield equal(f"{n} unknowns", found, true, operations=200)

    def asymmetric(solve: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda lower, diagonal, upper, right: solve(upper, diagonal, lower, right)

    return Claim(
        "tridiagonal",
        "Cyclic reduction solves tridiagonal systems with a dominant diagonal.",
        lambda: solve_tridiagonal,
        check,
        (
            Control("lower and upper exchanged", asymmetric),
            dial(
                "diagonal × (1 + δ)",
                lambda solve, size: lambda a, b, c, d: solve(a, (1 + size) * b, c, d),
                0.01,
            ),
        ),
    )
