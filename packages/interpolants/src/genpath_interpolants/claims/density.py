r"""Density equations: the exact velocity carries p_t, alone and with noise, forward and backward.

    ∂_t log p = (L_t* p)/p         L = (b + ε s)·∇ + ε Δ,  ε ≥ 0
    ∂_s log p_{1−s} = (L̃* p)/p     L̃ = −(b − ε s)·∇ + ε Δ,  s = 1 − t

The density is that of the distributions of torch, the derivatives are automatic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.models import ODE, SDE, Dynamics
from genpath.reversal import reverse
from genpath.schedules import Scalar
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, exact, mean, near

from ..paths import LinearPath
from ..presets import linear
from .cases import (
    DOUBLE,
    LINE,
    Case,
    Cases,
    at,
    cases,
    changed_rules,
    each,
    interior,
    log_density,
    normal,
    scaled_field,
    score_at,
    seeded,
    single,
)

__all__ = ["claims"]

ROUNDINGS = 4096
"""Second derivatives of a sum of exponentials, over a variance that goes down to 0.05."""


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (forward(), reversal(), weak(), endpoints(), singular())


def made(case: Case, dynamics: Dynamics) -> MarkovGenerator:
    """The generator from the exact velocity, by the path's rules."""
    return dynamics.generator(case.path, "velocity", case.marginal.field("velocity"))


def rate_of(case: Case, t: Tensor, x: Tensor) -> Tensor:
    """∂_t log p_t(x)."""
    rate: Tensor = torch.func.grad(lambda s: log_density(case, s, x).sum())(t)
    return rate


def without_score(case: Case) -> Case:
    """v = E[x1 − x0 | x] in place of b."""

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        rate = case.path.schedule.gamma_gamma_rate(t)[:, None]
        return case.marginal.velocity(t, x) + rate * case.marginal.score(t, x)

    return replace(case, marginal=but(case.marginal, velocity=velocity))


def turned_score(case: Case) -> Case:
    """The rules give −s."""
    return replace(case, path=changed_rules(case.path, torch.neg, "score"))


def forward() -> Claim[Cases]:
    """Continuity and Fokker–Planck equations."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in found:
            t, x = interior(trial.rng(), trial.count(40), 2)
            rate = rate_of(case, t, x)
            size = float(rate.abs().max())
            for dynamics in (ODE(), SDE(0.5), SDE(2.0)):
                change = made(case, dynamics).adjoint(at(case, t), t, x)
                yield equal(
                    f"{case.words}, {dynamics}", change, rate, operations=ROUNDINGS, scale=size
                )

    return Claim(
        "fokker-planck",
        "The exact velocity carries the density of the path, and b + εs with noise √(2ε) carries "
        "the same density for every ε ≥ 0.",
        cases(),
        check,
        (
            dial("b × (1 + δ)", scaled_field("velocity")),
            Control("E[x1 − x0 | x] in place of b", each(without_score)),
            Control("−s in place of s", each(turned_score)),
        ),
        formula=r"\partial_t\rho + \nabla\cdot\big((b + \varepsilon s)\rho\big) "
        r"= \varepsilon\Delta\rho",
        entries=("L1.8", "L2.14"),
        owes="density",
    )


def reversal() -> Claim[Cases]:
    """The reversed process, and b and s from the two drifts."""
    eps = 0.7

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in found:
            t, x = interior(trial.rng(), trial.count(40), 2)
            gen = made(case, SDE(eps))
            back = reverse(gen, score=case.marginal.field("score"))
            rate = -rate_of(case, t, x)
            change = back.adjoint(at(case, t), 1 - t, x)
            size = float(rate.abs().max())
            yield equal(f"{case.words}: ∂_s log p", change, rate, operations=ROUNDINGS, scale=size)
            ahead, behind = gen(t, x).velocity, -back(1 - t, x).velocity
            slope = score_at(case, t, x)
            flow = made(case, ODE())(t, x).velocity
            yield equal(f"{case.words}: b", (ahead + behind) / 2, flow, operations=ROUNDINGS)
            score = (ahead - behind) / (2 * eps)
            yield equal(f"{case.words}: s", score, slope, operations=ROUNDINGS)

    return Claim(
        "reversal",
        "Run backwards, the process with noise has drift b − εs and the same laws; b and s are "
        "half the sum and half the difference of the two drifts.",
        cases(),
        check,
        (
            dial("s × (1 + δ)", scaled_field("score")),
            dial("b × (1 + δ)", scaled_field("velocity")),
        ),
        formula=r"\partial_t\rho + \nabla\cdot\big((b - \varepsilon s)\rho\big) "
        r"= -\varepsilon\Delta\rho, \quad b = \tfrac12(b_F + b_B), \; "
        r"s = \tfrac{1}{2\varepsilon}(b_F - b_B)",
        entries=("L2.14",),
        owes="reverse",
    )


def weak() -> Claim[Cases]:
    """d/dt E φ(x_t) = E Lφ(x_t), on draws."""
    directions = ((0.9, 0.2), (-0.3, 1.1), (1.2, -0.7))

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(40_000, 20_000)
        for case in found:
            rng = trial.rng(case.words)
            x0, x1 = normal(count, 2, rng=rng), case.law.sample(count, rng)
            t = torch.full((count,), 0.6, dtype=DOUBLE)

            def state(t: Tensor, case: Case = case, pair: Any = (x0, x1)) -> Tensor:
                found: Tensor = case.path.draw(t, pair[0], pair[1], seeded(trial.seed)).state
                return found

            x, speed = torch.func.jvp(state, (t,), (torch.ones_like(t),))[:2]
            for dynamics in (ODE(), SDE(1.0)):
                gen, gaps = made(case, dynamics), []
                for k in directions:
                    wave = torch.tensor(k, dtype=DOUBLE)
                    motion = (speed @ wave) * (x @ wave).cos()  # d/dt of sin k·x_t, draw by draw
                    gaps.append(motion - gen.apply(lambda y: (y @ wave).sin(), t, x))  # noqa: B023
                yield mean(f"{case.words}, {dynamics}", torch.stack(gaps, 1), 0.0)

    return Claim(
        "weak-form",
        "On draws of the path, the mean of φ changes at the rate that b prescribes, and b + εs "
        "with its noise, for waves φ.",
        cases(),
        check,
        (
            dial("b × (1 + δ)", scaled_field("velocity"), 0.5),
            Control("−s in place of s", each(turned_score)),
        ),
        formula=r"\tfrac{d}{dt}\int\phi\,\rho = \int\nabla\phi\cdot b\,\rho "
        r"+ \varepsilon\int\Delta\phi\,\rho",
        entries=("L1.1",),
        owes="density",
    )


# -- the ends of time ----------------------------------------------------------------------------


def endpoints() -> Claim[Cases]:
    """b at t = 0 and 1, where γ̇ is infinite."""
    mean, std, scale = 0.8, 0.6, 1.7

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-2, 2, 9, dtype=DOUBLE)[:, None]
        for case in found:
            half = scale / 2 if case.gamma == "sqrt" else 0.0
            start = (mean - x) + half * x  # the score of N(0, 1) is −x
            end = x - half * (x - mean) / std**2
            for t, exactly in ((0.0, start), (1.0, end)):
                words = f"{case.words}: b({t:g}, x)"
                yield equal(words, case.marginal.velocity(t, x), exactly)
                inside = t + (1e-9 if t == 0 else -1e-9)
                near_end = case.marginal.velocity(inside, x)
                because = "1e-9 times a bound 50 on |∂_t b|"
                yield near(f"{case.words}: b near {t:g}", near_end, exactly, 5e-8, because)
            told = {"denoiser": torch.full_like(x, mean)}  # E[x1 | x0] = E[x1]
            found_b = case.path.convert("velocity", told, 0.0, x)
            yield equal(f"{case.words}: b(0, x) from E[x1]", found_b, start)

    def halved(case: Case, size: float) -> Case:
        square = case.path.schedule.gamma_squared
        rate = Scalar(square.value, lambda t: (1 + size) * square.rate(t))
        path = but(case.path, schedule=but(case.path.schedule, gamma_squared=rate))
        return replace(case, path=path, marginal=replace(case.marginal, path=path))

    def without(case: Case) -> Case:
        def velocity(t: float, x: Tensor) -> Tensor:
            return without_score(case).marginal.velocity(torch.full((len(x),), t, dtype=DOUBLE), x)

        return replace(case, marginal=but(case.marginal, velocity=velocity))

    return Claim(
        "endpoint-velocity",
        "At the ends b is finite; γ² = a t(1−t) adds −(a/2) times the score at t = 0 and +(a/2) "
        "times it at t = 1, and γ² = a t²(1−t)² adds nothing.",
        cases("sqrt", "quadratic", law=lambda: single(mean, std), scale=scale),
        check,
        (
            dial("γγ̇ × (1 + δ)", each(halved)),
            Control("no term of the score", each(without)),
        ),
        formula=r"b(0,x) = \mathbb E[x_1|x_0{=}x] - x - \tfrac a2 s_0(x), \quad "
        r"b(1,x) = x - \mathbb E[x_0|x_1{=}x] + \tfrac a2 s_1(x)",
        entries=("L2.6", "L5.11", "H2.3"),
    )


def singular() -> Claim[LinearPath]:
    """γγ̇ and its gradient at both ends."""
    a = 1.7

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        product = path.schedule.gamma_gamma_rate
        for t, value in ((0.0, a / 2), (1.0, -a / 2)):
            time = torch.tensor([t], dtype=DOUBLE)
            yield equal(f"γγ̇ at {t:g}", product(time), torch.full_like(time, value))
            slope = torch.func.grad(lambda s: product(s).sum())(time)
            yield equal(f"its slope at {t:g}", slope, torch.full_like(time, -a))
        times = torch.linspace(0.01, 0.99, 21, dtype=DOUBLE)
        rate = torch.func.grad(lambda s: path.schedule.gamma(s).sum())(times)
        yield equal("γ times dγ/dt inside", product(times), path.schedule.gamma(times) * rate)
        steep = torch.func.grad(lambda s: path.schedule.gamma(s).sum())(times[:1] * 0)
        yield exact("dγ/dt at 0 is not finite", bool(steep.isfinite().all()), False)

    def wrong(path: LinearPath, size: float) -> LinearPath:
        square = path.schedule.gamma_squared
        scalar = Scalar(square.value, lambda t: (1 + size) * square.rate(t))
        return but(path, schedule=but(path.schedule, gamma_squared=scalar))

    return Claim(
        "singular-latent",
        "For γ² = a t(1−t), γγ̇ and its slope are finite at both ends although γ̇ is not.",
        lambda: linear(LINE, "sqrt", a),
        check,
        (dial("γγ̇ × (1 + δ)", wrong),),
        formula=r"\gamma\dot\gamma = \tfrac a2(1 - 2t) \to \pm\tfrac a2",
        entries=("L1.23",),
    )
