r"""Sampling: flows and processes with noise run from the base to the data and back.

    X' = b     dX = (b + ε s) dt + √(2ε) dW     its reversal, from the data     all have the law p_t

The exact fields are the mixture's, so that what is left is the error of the sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.models import ODE, SDE, Dynamics
from genpath.reversal import reverse
from genpath.samplers import AdamsBashforth, Euler, RungeKutta, Sampler, integrate
from genpath.tableaus import HEUN, RK4
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    dial,
    equal,
    frequencies,
    mean,
    near,
    order,
)

from ..mixtures import MixtureMarginal
from ..presets import linear
from .cases import (
    DOUBLE,
    LINE,
    Case,
    Cases,
    affine_moments,
    cases,
    changed_rules,
    each,
    line_mixture,
    normal,
    scaled_field,
    seeded,
    single,
)
from .control import World, less_score, quieter

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (
        flow_law(),
        noisy_law(),
        round_trip(),
        same_samples(),
        ensembles(),
        flow_map(),
    )


def generator(case: Case, dynamics: Dynamics) -> MarkovGenerator:
    """From the exact velocity, by the path's rules."""
    return dynamics.generator(case.path, "velocity", case.marginal.field("velocity"))


def cells(case: Case, t: float, x: Tensor, count: int = 20) -> Tensor:
    """How many rows fall between the quantiles of p_t on the line, by its distribution function."""
    law, square = case.law, 1.3 * t * (1 - t) if case.gamma == "sqrt" else 0.0
    spread = (t**2 * law.stds**2 + (1 - t) ** 2 + square).sqrt()
    below = Normal(t * law.means[:, 0], spread[:, 0]).cdf(x) @ law.weights
    return torch.bincount((below * count).long().clamp(0, count - 1), minlength=count)


# -- laws of samplers ----------------------------------------------------------------------------


def flow_law() -> Claim[Cases]:
    """The flow's law at several times, by its quantiles."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in found:
            rng, steps = trial.rng(case.words), 16
            start = normal(trial.count(20_000, 8_000), 1, rng=rng)
            gen, grid = generator(case, ODE()), TimeGrid.uniform(steps)
            kept = (steps // 4, steps // 2, steps)
            solved = integrate(RungeKutta(RK4), gen, start, grid, rng, record=kept)
            for t, x in zip(solved.times, solved.trajectory, strict=True):
                level = torch.full((20,), 1 / 20, dtype=DOUBLE)
                yield frequencies(f"{case.words}: law at t = {t:g}", cells(case, t, x), level)

    return Claim(
        "flow-law",
        "The flow carries the base through the law of the path at every time.",
        cases("none", "sqrt", law=line_mixture),
        check,
        (
            Control("b × 1.2", lambda found: scaled_field("velocity")(found, 0.2)),
            Control("b × 0.8", lambda found: scaled_field("velocity")(found, -0.2)),
        ),
        formula=r"\dot X_t = b(t, X_t),\; X_0\sim\rho_0 \;\Rightarrow\; X_t\sim\rho_t",
        entries=("L0.1", "L3.1", "L4.9"),
        owes="density",
    )


def noisy_law() -> Claim[Cases]:
    """The laws of the process with noise, from the base and back from the data."""
    waves = torch.tensor([0.7, 1.4, 2.1], dtype=DOUBLE)

    def features(x: Tensor) -> Tensor:
        return torch.cat([(x * waves).cos(), (x * waves).sin()], 1)

    def exactly(case: Case, t: float) -> Tensor:
        law, square = case.law, 1.3 * t * (1 - t) if case.gamma == "sqrt" else 0.0
        spread = t**2 * law.stds**2 + (1 - t) ** 2 + square
        decay = torch.exp(-0.5 * waves**2 * spread)
        angle = t * law.means * waves
        return torch.cat([law.weights @ (decay * angle.cos()), law.weights @ (decay * angle.sin())])

    def solve(gen: MarkovGenerator, start: Tensor, steps: int, rng: torch.Generator) -> Any:
        kept = (steps // 4, steps // 2, steps)
        solved = integrate(Euler(), gen, start, TimeGrid.uniform(steps), rng, record=kept)
        return [features(x) for x in solved.trajectory]

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(16_000, 8_000)
        for case in found:
            rng, gen = trial.rng(case.words), generator(case, SDE(0.8))
            runs = [("from the base", gen, 0.0)]
            if case.gamma == "sqrt":
                runs.append(
                    ("from the data", reverse(gen, score=case.marginal.field("score")), 1.0)
                )
            for words, process, begin in runs:
                ends = [case.law.sample(count, rng) if begin else normal(count, 1, rng=rng)]
                ends.append(case.law.sample(count, rng) if begin else normal(count, 1, rng=rng))
                coarse = solve(process, ends[0], 16, rng)
                fine = solve(process, ends[1], 32, rng)
                for s, a, b in zip((0.25, 0.5, 1.0), coarse, fine, strict=True):
                    t = 1 - s if begin else s
                    yield mean(
                        f"{case.words}, {words}: waves at t = {t:g}",
                        2 * b - a,  # the error of order h cancels
                        exactly(case, t),
                        allowance=8e-3,
                        because="4 h² of Richardson's rule, h = 1/32, times a constant 2",
                    )

    return Claim(
        "noisy-law",
        "With noise the process has the laws of the path too, run from the base or, reversed, "
        "from the data.",
        cases("none", "sqrt", law=line_mixture),
        check,
        (
            Control("no ε s", each(_no_score)),
            Control("−s in the reversal", each(_turned)),
        ),
        formula=r"dX = (b + \varepsilon s)\,dt + \sqrt{2\varepsilon}\,dW \;\Rightarrow\; "
        r"X_t\sim\rho_t",
        entries=("L0.1", "L3.1", "L4.9"),
        owes="reverse",
    )


def _no_score(case: Case) -> Case:
    return replace(case, path=changed_rules(case.path, torch.zeros_like, "score"))


def _turned(case: Case) -> Case:
    score = case.marginal.score
    return replace(case, marginal=but(case.marginal, score=lambda t, x: -score(t, x)))


def round_trip() -> Claim[Solvers]:
    """The flow there and back."""

    def check(thing: Solvers, trial: Trial) -> Iterator[Evidence]:
        gen, (sampler, _) = generator(thing.case, ODE()), thing.samplers["Runge–Kutta"]
        rng, errors = trial.rng(), []
        start = normal(50, 1, rng=rng)
        for steps in (10, 20):
            grid = TimeGrid.uniform(steps)
            there = integrate(sampler, gen, start, grid, rng).state
            back = integrate(sampler, gen, there, grid.reversed(), rng).state
            errors.append((back - start).abs().max())
        yield at_most("error with 20 steps", errors[1], errors[0] / 8, "order 4 gives 1/16")

    def longer(thing: Solvers, size: float) -> Solvers:
        sampler, expected = thing.samplers["Runge–Kutta"]

        def step(gen: Any, carry: Any, t: float, t_next: float, rng: torch.Generator) -> Any:
            stretch = 1 + size if t_next < t else 1.0
            return sampler.step(gen, carry, t, t + stretch * (t_next - t), rng)

        return replace(thing, samplers={"Runge–Kutta": (but(sampler, step=step), expected)})

    return Claim(
        "round-trip",
        "The flow from the base to the data and back returns every point.",
        lambda: Solvers(cases("sqrt", law=line_mixture)()[0]),
        check,
        (dial("steps × (1 + δ) on the way back", longer, 0.5),),
        formula=r"X_{1,0}\circ X_{0,1} = \mathrm{id}",
        entries=("L3.1",),
    )


def same_samples() -> Claim[Cases]:
    """What is predicted does not matter where the prediction is exact."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in found:
            start = normal(30, 2, rng=trial.rng())
            grid = TimeGrid.uniform(8, 0.1, 0.9)
            for dynamics, sampler in ((ODE(), RungeKutta(HEUN)), (SDE(0.5), Euler())):
                ends: dict[str, Tensor] = {}
                for name in case.path.predictions:
                    known = case.marginal.field(name)
                    gen = dynamics.generator(case.path, name, known)
                    ends[name] = integrate(sampler, gen, start, grid, seeded()).state
                for name, x in ends.items():
                    words = f"{case.words}, {dynamics}: {name} and velocity"
                    # each of 8 steps multiplies an error by at most 1 + h |∇b| < 2
                    yield equal(words, x, ends["velocity"], operations=2**20)

    def rules(gives: str) -> Any:
        def plant(case: Case, size: float) -> Case:
            path = changed_rules(case.path, lambda value: (1 + size) * value, gives)
            return replace(case, path=path)

        return each(plant)

    return Claim(
        "same-samples",
        "With exact fields, every prediction gives the same samples from the same noise.",
        cases(),
        check,
        (
            dial("rules of u × (1 + δ)", rules("velocity")),
            dial("rules of s × (1 + δ)", rules("score")),
        ),
        formula=r"b,\; \eta_0,\; \eta_1,\; \eta_z,\; s \;\mapsto\; X_t",
        entries=("L5.23", "L5.5"),
    )


def ensembles() -> Claim[World]:
    """ε changes where a point goes, not the law."""
    std, mean = 0.6, 0.8

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        t = torch.linspace(0, 1, 201, dtype=DOUBLE)
        spreads = []
        for scale in (0.5, 2.0):
            path = linear(LINE, "sqrt", scale, "gaussian")
            marginal = MixtureMarginal(path, single(mean, std))
            level = (1 - t) ** 2 + t**2 * std**2 + scale * t * (1 - t)
            weights = torch.tensor([1.0, 4.0] * 100 + [1.0], dtype=DOUBLE)
            weights[2:-1:2] = 2.0
            clock = float((weights / level).sum() / 600)  # ∫ dt/V_t, by Simpson's rule
            because = "h⁴, h = 1/200, times derivatives up to 1e3"
            for eps in (0.0, 0.3, 1.0):
                gen = world.dynamics(eps).generator(path, "velocity", marginal.field("velocity"))
                words = f"a = {scale:g}, ε = {eps:g}"
                m, v = affine_moments(gen, 0.0, 1.0)
                yield near(f"{words}: mean", m, mean * t, 1e-6, because)
                yield near(f"{words}: variance", v, level, 1e-6, because)
                alone = affine_moments(gen, 0.4, 0.0)[1][-1]
                spread = std**2 * -torch.expm1(torch.tensor(-2 * eps * clock))
                yield near(f"{words}: variance from a point", alone, spread, 1e-5, because)
                spreads.append(float(alone))
        yield at_most("a point's spread grows with ε", spreads[1], spreads[2], "formula")
        yield at_most("and is 0 for the flow", abs(spreads[0]), 1e-12, "rounding")

    return Claim(
        "point-to-ensemble",
        "For normal data the law at every time is that of the path for every ε, and depends on "
        "γ; the spread from one starting point grows with ε from 0.",
        World,
        check,
        (
            dial("drift b + (1 − δ) ε s", less_score),
            dial("noise √(2ε/(1+δ))", quieter),
        ),
        formula=r"\mathrm{Var}(X_1|x_0) = v_1\big(1 - e^{-2\varepsilon\int dt/V_t}\big)",
        entries=("L5.12", "E6", "L2.17"),
    )


# -- orders --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solvers:
    """Samplers with the field that they solve."""

    case: Case
    samplers: dict[str, tuple[Sampler, float]] = field(
        default_factory=lambda: {
            "Euler": (Euler(), 1.0),
            "Heun": (RungeKutta(HEUN), 2.0),
            "Adams–Bashforth": (AdamsBashforth(), 2.0),
            "Runge–Kutta": (RungeKutta(RK4), 4.0),
        }
    )


def flow_map() -> Claim[Solvers]:
    """X_1 = M_1 + √(V_1/V_0)(x − m_0), and the orders of the samplers."""
    mean, std = 0.8, 0.6

    def check(thing: Solvers, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-2, 2, 9, dtype=DOUBLE)[:, None]
        gen = generator(thing.case, ODE())
        for words, (sampler, expected) in thing.samplers.items():
            steps = tuple((16 if expected > 2 else 8) * 2**j for j in range(4))
            errors = [
                float(
                    (
                        integrate(sampler, gen, x, TimeGrid.uniform(n), seeded()).state
                        - (mean + std * x)
                    )
                    .abs()
                    .max()
                )
                for n in steps
            ]
            yield order(words, [1 / n for n in steps], errors, expected)

    def faster(thing: Solvers, size: float) -> Solvers:
        return replace(thing, case=scaled_field("velocity")((thing.case,), size)[0])

    def plain(thing: Solvers) -> Solvers:
        samplers: dict[str, tuple[Sampler, float]] = {**thing.samplers, "Heun": (Euler(), 2.0)}
        return replace(thing, samplers=samplers)

    make: Callable[[], Cases] = cases("sqrt", law=lambda: single(mean, std), scale=1.0)
    return Claim(
        "flow-map",
        "Between normal laws the flow is linear, and the samplers approach it with orders 1, 2 "
        "and 4.",
        lambda: Solvers(make()[0]),
        check,
        (
            dial("b × (1 + δ)", faster),
            Control("Heun's method without its second stage", plain),
        ),
        formula=r"X_t(x) = M_t + \sqrt{V_t/V_0}\,(x - m_0)",
        entries=("A7", "F1"),
    )
