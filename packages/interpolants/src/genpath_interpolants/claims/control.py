r"""Control: what the errors of fields do to the law, and the bound with its right constant.

For a model with drift b̂ + ε ŝ and the path's start, with the losses L of this library (½|·|²),

    d/dt KL(p_t ‖ p̂_t) = E a·(b̂_F − b_F) − ε E|a|²,     a = ∇log p̂ − ∇log p
    KL(p_1 ‖ p̂_1) ≤ (1/4ε) ∫ E|b̂_F − b_F|² dt ≤ ΔL_b/ε + ε ΔL_s

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, Lemmas 21 and 22; the printed last line
is half of this, which is no bound.) The models here are linear, so that their laws are normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.laws import Gaussian
from genpath.models import ODE, SDE, Dynamics, Model
from genpath.noises import ScalarNoise
from genpath.objectives import squared
from genpath.parts import Parts
from genpath.predictions import Rule
from genpath.states import Field
from genpath.testing import Claim, Control, Evidence, Trial, at_most, but, dial, mean, near

from ..mixtures import MixtureMarginal
from ..paths import LinearPath
from ..presets import linear
from .cases import DOUBLE, LINE, affine_moments, kl_normal, normal, single

__all__ = ["claims"]

STEPS = 200
TRUNCATION = "h⁴ of the Runge–Kutta and Simpson rules, h = 1/200, times derivatives up to 1e4"


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (rate(), bound(), best(), sweep())


@dataclass(frozen=True)
class World:
    """How a generator is made of two fields, and how an error is scored.

    Args:
        dynamics: ε to the dynamics under test.
        score: the objective's value of a prediction against a target, per row.
        factor: what the bound is multiplied with.
    """

    dynamics: Callable[[float], Dynamics] = lambda eps: SDE(eps) if eps else ODE()
    score: Callable[..., Tensor] = squared
    factor: float = 1.0


def of_fields(
    world: World, path: LinearPath, eps: float, velocity: Field, score: Field
) -> MarkovGenerator:
    """The generator from a velocity and a score that were found separately."""
    known = but(path, rules=(Rule("score", ("velocity",), lambda t, x, u: score(t, x)),))
    return world.dynamics(eps).generator(known, "velocity", velocity)


def quieter(world: World, size: float) -> World:
    """Noise √(2ε/(1+δ))."""
    return _scaled_noise(world, 1 / math.sqrt(1 + size))


def less_score(world: World, size: float) -> World:
    """Drift b + (1 − δ) ε s."""
    right = world.dynamics

    def dynamics(eps: float) -> Dynamics:
        made = right(eps)
        return but(
            made,
            generator=lambda path, name, field: _mixed(
                made.generator(path, name, field), ODE().generator(path, name, field), size
            ),
        )

    return replace(world, dynamics=dynamics)


def _mixed(full: MarkovGenerator, plain: MarkovGenerator, size: float) -> MarkovGenerator:
    def evaluate(t: Tensor, x: Any) -> Parts:
        parts, flow = full.evaluate(t, x), cast(Tensor, plain.evaluate(t, x).velocity)
        drift = cast(Tensor, parts.velocity)
        return replace(parts, velocity=drift - size * (drift - flow))

    return replace(full, evaluate=evaluate)


def _scaled_noise(world: World, factor: float) -> World:
    right = world.dynamics

    def dynamics(eps: float) -> Dynamics:
        made = right(eps)

        def generator(*given: Any) -> MarkovGenerator:
            gen = made.generator(*given)

            def evaluate(t: Tensor, x: Any) -> Parts:
                parts = gen.evaluate(t, x)
                if parts.diffusion is None:
                    return parts
                return replace(parts, diffusion=parts.diffusion.scaled(factor))

            return replace(gen, evaluate=evaluate)

        return but(made, generator=generator)

    return replace(world, dynamics=dynamics)


# -- the rate ------------------------------------------------------------------------------------


def rate() -> Claim[World]:
    """The rate of KL for wrong fields, and its integral."""
    centre, std = 0.8, 0.6

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        path = linear(LINE, "sqrt", 1.0, "gaussian")
        exact = MixtureMarginal(path, single(centre, std))
        velocity, score = exact.field("velocity"), exact.field("score")
        t = torch.linspace(0, 1, STEPS + 1, dtype=DOUBLE)
        m = t * centre
        v = (1 - t) ** 2 + t**2 * std**2 + t * (1 - t)
        for eps in (0.0, 0.5, 2.0):
            true = of_fields(world, path, eps, velocity, score)
            model = of_fields(
                world,
                path,
                eps,
                lambda t, x: 1.2 * velocity(t, x) + 0.3,
                lambda t, x: 0.7 * score(t, x),
            )
            n, w = affine_moments(model, 0.0, 1.0, STEPS)
            shift, slope = _difference(model, true, t)
            # a = (x − m)/v − (x − n)/w at x = m + √v ξ: constant and factor of ξ
            const, factor = -(m - n) / w, v.sqrt() / v - v.sqrt() / w
            cross = const * (shift + slope * m) + factor * slope * v.sqrt()
            told = cross - eps * (const**2 + factor**2)
            divergence = kl_normal(m, v, n, w)
            d = divergence
            slopes = (d[:-4] - 8 * d[1:-3] + 8 * d[3:-1] - d[4:]) * STEPS / 12
            words = f"ε = {eps:g}"
            yield near(f"{words}: d/dt KL", told[2:-2], slopes, 1e-4, TRUNCATION)
            yield near(f"{words}: KL at t = 1", _simpson(told), divergence[-1], 1e-5, TRUNCATION)
            if eps:
                gap = (shift + slope * m) ** 2 + slope**2 * v
                limit = float(_simpson(gap)) / (4 * eps)
                yield at_most(f"{words}: KL ≤ ∫E|Δb_F|²/4ε", divergence[-1], limit, "Lemma 22")

    return Claim(
        "kl-rate",
        "With fields that are wrong by known amounts, KL grows at the rate of the two lemmas, "
        "for the flow and with noise, and stays under the bound of the second.",
        World,
        check,
        (
            dial("drift b + (1 − δ) ε s", less_score),
            dial("noise √(2ε/(1+δ))", quieter),
        ),
        formula=r"\tfrac{d}{dt}\mathrm{KL}(\rho\|\hat\rho) = \int a\cdot(\hat b_F - b_F)\,\rho "
        r"- \varepsilon\int |a|^2\rho",
        entries=("L3.5", "L3.6", "L3.8"),
        owes="control",
    )


def _difference(model: MarkovGenerator, true: MarkovGenerator, t: Tensor) -> tuple[Tensor, Tensor]:
    """Value at 0 and slope of the difference of two linear drifts."""
    zero = torch.zeros(len(t), 1, dtype=DOUBLE)

    def gap(x: Tensor) -> Tensor:
        return (cast(Tensor, model(t, x).velocity) - cast(Tensor, true(t, x).velocity))[:, 0]

    return gap(zero), gap(zero + 1) - gap(zero)


def _simpson(values: Tensor) -> Tensor:
    return (values[0] + values[-1] + 4 * values[1::2].sum() + 2 * values[2:-1:2].sum()) / (
        3 * (len(values) - 1)
    )


# -- the bound -----------------------------------------------------------------------------------

THETA, EPS = 3.0, 0.5
STATIONARY = EPS / THETA


def stationary() -> LinearPath:
    """N(0, ε/θ) at every time: γ² = 2(ε/θ) t(1−t) fills in what the ends leave."""
    return linear(LINE, "sqrt", 2 * STATIONARY)


def push(t: Tensor, x: Any) -> Tensor:
    """u = e^{−θ(1−t)}: how wrong the velocity is."""
    found: Tensor = torch.exp(-THETA * (1 - t))[:, None] + 0 * x
    return found


def still(t: Tensor, x: Any) -> Tensor:
    """b = 0."""
    found: Tensor = 0 * x
    return found


def slope(t: Tensor, x: Any) -> Tensor:
    """s = −x θ/ε."""
    found: Tensor = -x / STATIONARY
    return found


def bound() -> Claim[World]:
    """The printed numbers of the counterexample, on a path whose law does not move."""

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        path, rng = stationary(), trial.rng()
        ends = math.sqrt(STATIONARY) * normal(2, trial.count(40_000), 1, rng=rng)
        draw = path.draw(0.3, ends[0], ends[1], rng)
        square = torch.cat([draw.state**2, path.target("velocity", draw) * draw.state], 1)
        level = torch.tensor([STATIONARY, 0.0])
        yield mean("the law stays, and b = 0", square, level)
        gen = of_fields(world, path, EPS, push, lambda t, x: slope(t, x) + push(t, x) / EPS)
        n, w = affine_moments(gen, 0.0, STATIONARY, STEPS)
        divergence = float(kl_normal(0.0, STATIONARY, n[-1], w[-1]))
        t = torch.linspace(0, 1, STEPS + 1, dtype=DOUBLE)
        x = torch.zeros(STEPS + 1, 1, dtype=DOUBLE)
        base = Gaussian((1,), dtype=DOUBLE)
        model = Model(push, path, base)
        loss_b = float(_simpson(world.score(model, x, still(t, x), push(t, x))))
        model = Model(slope, path, base, "score")
        loss_s = float(_simpson(world.score(model, x, still(t, x), push(t, x) / EPS)))
        limit = world.factor * (loss_b / EPS + EPS * loss_s)
        yield near("KL", divergence, 0.3317, 5e-5, "its four printed digits")
        yield near("ΔL_b/ε + ε ΔL_s", limit, 0.3325, 5e-5, "its four printed digits")
        yield at_most("KL ≤ ΔL_b/ε + ε ΔL_s", divergence, limit, "Theorem 23, corrected")
        yield near(
            "KL over the bound", divergence / limit, 1 - math.exp(-2 * THETA), 1e-6, TRUNCATION
        )

    def smaller(world: World, size: float) -> World:
        return replace(world, factor=1 - size)

    def scored(world: World, size: float) -> World:
        right = world.score
        return replace(world, score=lambda *given: right(*given) / (1 + size))

    return Claim(
        "kl-bound",
        "KL is at most ΔL_b/ε + ε ΔL_s in losses with their ½, and nearly that much in an "
        "example; half of it, as printed in places, is no bound.",
        World,
        check,
        (
            dial("the bound × (1 − δ), δ = ½ as printed", smaller, 0.5),
            dial("losses / (1 + δ)", scored),
            dial("noise √(2ε/(1+δ))", quieter),
            dial("drift b + (1 − δ) ε s", less_score),
        ),
        formula=r"\mathrm{KL}(\rho_1\|\hat\rho_1) \le \frac{\Delta L_b}{\varepsilon} "
        r"+ \varepsilon\,\Delta L_s",
        entries=("X1", "L3.9", "L3.8"),
        owes="control",
    )


def best() -> Claim[World]:
    """The ε that makes the bound least."""

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        path = stationary()
        grid = torch.linspace(0.3, 0.9, 61, dtype=DOUBLE)
        found = torch.stack([_girsanov(world, path, float(eps)) for eps in grid])
        least = int(found.argmin())
        because = "the grid's step"
        yield near("argmin", grid[least], EPS, 0.01, because)
        norm = (1 - math.exp(-2 * THETA)) / (2 * THETA)  # ∫ u²
        value = norm / EPS  # (‖Δb‖ ‖Δs‖ + ⟨Δb, Δs⟩)/2 with Δs = Δb/ε
        yield near("the least value", found[least], value, 1e-6, TRUNCATION)

    return Claim(
        "best-noise",
        "In the same example, KL's bound from the drifts is least at ε = ‖Δb‖/‖Δs‖.",
        World,
        check,
        (
            dial("drift b + (1 − δ) ε s", less_score, 0.5),
            Control("noise √ε", lambda world: quieter(world, 1.0)),
        ),
        formula=r"\varepsilon^* = \frac{\|\hat b - b\|}{\|\hat s - s\|} "
        r"= \sqrt{\Delta L_b/\Delta L_s}",
        entries=("A9", "L3.11"),
    )


def _girsanov(world: World, path: LinearPath, eps: float) -> Tensor:
    """∫ E|Δb_F|²/(2σ²) dt, which is over 4ε where the noise is √(2ε)."""
    t = torch.linspace(0, 1, STEPS + 1, dtype=DOUBLE)
    true = of_fields(world, path, eps, still, slope)
    model = of_fields(world, path, eps, push, lambda t, x: slope(t, x) + push(t, x) / EPS)
    shift, _ = _difference(model, true, t)  # the difference does not depend on x
    noise = cast(ScalarNoise, model(t[:1], torch.zeros(1, 1, dtype=DOUBLE)).diffusion)
    return _simpson(shift**2) / (2 * noise.sigma**2)


# -- a sweep over ε ------------------------------------------------------------------------------


def sweep() -> Claim[World]:
    """KL of a model whose velocity is too large and whose score is too small."""
    printed = {0.0: 0.0289, 0.1: 0.0059, 0.25: 0.0, 0.5: 0.0053, 1.0: 0.0152, 20.0: 0.0277}

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        path = linear(LINE, "sqrt", 1.0, "gaussian")
        exact = MixtureMarginal(path, single(0.0, math.sqrt(0.2)))
        velocity, score = exact.field("velocity"), exact.field("score")
        for eps, divergence in printed.items():
            gen = of_fields(
                world,
                path,
                eps,
                lambda t, x: 1.2 * velocity(t, x),
                lambda t, x: 0.7 * score(t, x),
            )
            n, w = affine_moments(gen, 0.0, 1.0, 2 * STEPS)
            found = kl_normal(0.0, 0.2, n[-1], w[-1])
            yield near(f"KL at ε = {eps:g}", found, divergence, 5e-5, "its four printed digits")

    return Claim(
        "noise-sweep",
        "With velocity × 1.2 and score × 0.7, KL falls and rises again as ε grows.",
        World,
        check,
        (
            dial("drift b + (1 − δ) ε s", less_score),
            dial("noise √(2ε/(1+δ))", quieter),
        ),
        formula=r"\hat V' = 2(1.2\,k_b + 0.7\,\varepsilon k_s)\hat V + 2\varepsilon",
        entries=("E5",),
    )
