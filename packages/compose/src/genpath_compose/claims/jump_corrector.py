r"""Births and deaths against the forward equation, and against the mean-field law on a lattice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.parts import Parts
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, mean, near

from ..jump_corrector import JumpCorrector, jump_rates
from ..smc import run_particles
from .weighted_steps import KAPPA, LINE, V0, heat, limit

__all__ = ["jumps"]

DOUBLE = torch.float64

Rates = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def jumps() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (forward_equation(), one_step(), population_law())


def forward_equation() -> Claim[Rates]:
    """On a finite set: Qᵀp = c p, for the matrix Q of the jumps."""

    def check(rates: Rates, trial: Trial) -> Iterator[Evidence]:
        for count in (2, 5, 40):
            rng = trial.rng(str(count))
            g = torch.randn(count, generator=rng, dtype=DOUBLE)
            law = torch.rand(count, generator=rng, dtype=DOUBLE)
            law = law / law.sum()
            average, deaths, births = rates(g, law)
            leaves = deaths[:, None] * births[None, :]
            matrix = leaves - torch.diag(leaves.sum(1))
            # by sums over pairs: c_i = Σ_j p_j (g_i − g_j)
            excess = ((g[:, None] - g[None, :]) * law).sum(1)
            size = float((excess * law).abs().max())
            yield equal(
                f"{count} states: Qᵀp = c p",
                law @ matrix,
                excess * law,
                operations=4.0 * count + 16,
                scale=max(size, float(law.max())),
            )
            yield equal(f"{count} states: ∫ J = 1", births.sum(), 1.0)
            yield equal(f"{count} states: E g", average, torch.dot(law, g))
        even = rates(torch.full((3,), 2.0, dtype=DOUBLE), torch.full((3,), 1 / 3, dtype=DOUBLE))
        yield equal("a constant moves nobody", even[1], torch.zeros(3, dtype=DOUBLE))
        yield equal("and has no births", even[2] * even[1].sum(), torch.zeros(3, dtype=DOUBLE))

    def unweighted(rates: Rates) -> Rates:
        def planted(g: Tensor, law: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            average, deaths, _ = rates(g, law)
            births = (g - average).clamp(min=0)
            return average, deaths, births / births.sum().clamp(min=1e-300)

        return planted

    def faster(rates: Rates, size: float) -> Rates:
        def planted(g: Tensor, law: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            average, deaths, births = rates(g, law)
            return average, (1 + size) * deaths, births

        return planted

    return Claim(
        "forward-equation",
        "Births less deaths are (g − E g) p, whatever the law and the potential are.",
        lambda: jump_rates,
        check,
        (
            dial("λ = (1 + δ) c⁻", faster, 0.5),
            Control("births ∝ c⁺, without p", unweighted),
            Control(
                "E g without weights",
                lambda rates: lambda g, law: rates(g, torch.full_like(law, 1 / len(law))),
            ),
        ),
        formula=r"\mathrm{J}\int\lambda p-\lambda p=(c^+-c^-)\,p=c\,p",
        entries=("L7.25", "H7.4"),
    )


def clocks(one: JumpCorrector, size: float) -> JumpCorrector:
    """Clocks that run 1 + δ times as fast."""

    def lives(potential: Tensor, law: Tensor, h: float, rng: Any) -> tuple[Tensor, Tensor]:
        index, gain = one._lives(potential, law, (1 + size) * h, rng)
        return index, gain / (1 + size)

    return but(one, _lives=lives)


def anyone(one: JumpCorrector) -> JumpCorrector:
    """Copies of anyone, in place of those with c⁺ > 0."""

    def lives(potential: Tensor, law: Tensor, h: float, rng: Any) -> tuple[Tensor, Tensor]:
        index, gain = one._lives(potential, law, h, rng)
        rows = torch.arange(len(law))
        other = torch.randint(len(law), (len(law),), generator=rng)
        return torch.where(index == rows, rows, other), gain

    return but(one, _lives=lives)


def unbooked(one: JumpCorrector) -> JumpCorrector:
    """log Ẑ grows at twice the rate."""

    def lives(potential: Tensor, law: Tensor, h: float, rng: Any) -> tuple[Tensor, Tensor]:
        index, gain = one._lives(potential, law, h, rng)
        return index, 2 * gain

    return but(one, _lives=lives)


def one_step() -> Claim[JumpCorrector]:
    """Given the population, each row has the law of one step of the jump process."""

    def check(one: JumpCorrector, trial: Trial) -> Iterator[Evidence]:
        def parts(t: Tensor, x: Tensor) -> Parts:
            return Parts(potential=torch.sin(3 * x[:, 0]) - x[:, 0] ** 2)

        gen, h = MarkovGenerator(LINE, parts, frozenset({"potential"})), 0.4
        x = torch.randn(trial.count(200_000), 1, generator=trial.rng("x"), dtype=DOUBLE)
        found = one.step(gen, one.init(gen, x), 0.0, h, trial.rng("jumps"))
        excess = parts(x, x).potential
        assert excess is not None
        average = excess.mean()
        excess = excess - average
        dies, births = 1 - torch.exp(h * excess.clamp(max=0)), excess.clamp(min=0)
        y, new = x[:, 0], found.state[:, 0]
        pairs = {"x": (y, new), "x²": (y**2, new**2), "cos 2x": ((2 * y).cos(), (2 * new).cos())}
        for name, (before, after) in pairs.items():
            born = (births * before).sum() / births.sum()
            yield mean(f"E {name}", after - (1 - dies) * before - dies * born, 0.0)
        gain = found.memory["smc.log_normaliser"][0]
        yield equal("log Ẑ", gain, h * average, operations=len(x))

    return Claim(
        "one-step",
        "A row dies with probability 1 − exp(−h c⁻) and becomes a copy of one drawn ∝ c⁺.",
        JumpCorrector,
        check,
        (
            dial("clocks × (1 + δ)", clocks, 0.5),
            Control("copies of anyone", anyone),
            Control("log Ẑ at twice the rate", unbooked),
        ),
        formula=r"\mathbb E f(X')=(1-d)f(x)+d\int f\,dJ,\quad d=1-e^{-hc^-}",
        entries=("L7.25",),
    )


def on_lattice(steps: int, points: int = 241) -> tuple[float, float]:
    """log Z and variance of infinitely many particles, by quadrature on [−9, 9].

    Each step: births and deaths under the potential before the move, then the heat kernel. The
    trapezoidal rule of these smooth laws has no error beside rounding but at the kinks of c⁺, c⁻.
    """
    x = torch.linspace(-9, 9, points, dtype=DOUBLE)
    h, g = 1 / steps, -KAPPA / 2 * x**2
    kernel = torch.exp(-((x[:, None] - x[None, :]) ** 2) / (2 * h))
    kernel = kernel / kernel.sum(0)
    law = torch.exp(-(x**2) / (2 * V0))
    law, log_mass = law / law.sum(), 0.0
    for _ in range(steps):
        average = float((law * g).sum())
        log_mass += h * average
        excess = g - average
        kept = law * torch.exp(h * excess.clamp(max=0))
        births = law * excess.clamp(min=0)
        law = kernel @ (kept + (1 - kept.sum()) * births / births.sum())
    return log_mass, float((law * x**2).sum())


def population_law() -> Claim[JumpCorrector]:
    """Mass and variance of the weighted heat flow, of the steps taken and in the limit."""
    steps = 6

    def check(one: JumpCorrector, trial: Trial) -> Iterator[Evidence]:
        coarse, right = (torch.tensor(on_lattice(steps, n), dtype=DOUBLE) for n in (601, 1201))
        kinks = 2 * (coarse - right).abs()
        found = [
            2 * _run(one, 1000, steps, trial.rng(f"a{k}"))
            - _run(one, 500, steps, trial.rng(f"b{k}"))
            for k in range(trial.count(320, 90))
        ]
        because = "what the lattice leaves at the kinks of c±, twice its last change"
        yield mean(
            "log Ẑ and variance", torch.stack(found), right, allowance=kinks, because=because
        )
        mass, variance = limit(1.0)
        limits = torch.tensor([math.log(mass), variance], dtype=DOUBLE)
        once, twice, four = (torch.tensor(on_lattice(n, 481), dtype=DOUBLE) for n in (30, 60, 120))
        rough, fine = 2 * twice - once, 2 * four - twice
        because = "extrapolated twice: c h² is left, and 3 c h² is the last change"
        yield near("as h → 0", fine, limits, (fine - rough).abs(), because)

    return Claim(
        "population",
        "Births and deaths give mass and variance of the weighted heat flow, with uniform weights.",
        JumpCorrector,
        check,
        (
            dial("clocks × (1 + δ)", clocks, 0.5),
            Control("copies of anyone", anyone),
            Control("log Ẑ at twice the rate", unbooked),
        ),
        formula=r"\log Z_T=\int_0^T\mathbb E_{p_t}g\,dt",
        entries=("L7.25", "H7.4", "H7.1"),
    )


def _run(one: JumpCorrector, count: int, steps: int, rng: torch.Generator) -> Tensor:
    """log Ẑ and mean square of one population; a bias of order 1/n cancels in 2 f(n) − f(n/2)."""
    start = math.sqrt(V0) * torch.randn(count, 1, generator=rng, dtype=DOUBLE)
    run = run_particles(heat(), start, TimeGrid.uniform(steps), rng, sampler=one)
    return torch.stack([run.log_normaliser, (run.state**2).mean()])
