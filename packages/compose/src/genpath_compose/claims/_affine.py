r"""The exact law of a weighted Euler scheme: affine drifts, quadratic potentials, on the line.

    p̃ ∝ e^{ℓ} N(m, V)    × e^{h g(x)}, g = g0 + g1 x + ½ g2 x²    X ← x + h (c + k x) + σ√h ξ

keeps the form: with P = 1/V − h g2 and b = m/V + h g1,

    m ← b/P      V ← 1/P      ℓ ← ℓ + h g0 + ½ (b²/P − m²/V) − ½ log(V P)        (weight)
    m ← m + h (c + k m)      V ← (1 + h k)² V + h σ²                              (move)

The coefficients are read off the generator at x = −1, 0, 1. No particle is drawn, so claims about
terminal laws have no Monte-Carlo error: only that of the step, which is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.schedules import AffineSchedule, Scalar
from genpath.spaces import Euclidean
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.schedules import (
    linear_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

from ..compositions import Composition
from ..experts import ExactExpert
from ..exponents import Exponent
from ..normals import Normal
from ..tails import mixture_tail

__all__ = ["Weighted", "collapse_toy", "normal_expert", "plane", "terminal"]

DOUBLE = torch.float64


@dataclass(frozen=True)
class Weighted:
    """A normal law with the log of its mass, both of the scheme at its last time."""

    mean: float
    variance: float
    log_mass: float


def terminal(
    gen: MarkovGenerator,
    start: Normal,
    steps: int,
    end: float = 1.0,
    extra: Callable[[Tensor, Tensor], dict[str, Tensor]] | None = None,
) -> Weighted:
    """The weighted law of `Euler` on a uniform grid from 0, from a normal law on the line.

    Args:
        gen: on states {"x": ``(n, 1)``}, or with log-densities that ``extra`` gives.
        start: of X.
        steps, end: of the grid.
        extra: ``(t, x) -> leaves`` that the state also has.
    """
    points = torch.tensor([[-1.0], [0.0], [1.0]], dtype=DOUBLE)
    mean, variance, mass = float(start.mean), float(1 / start.precision), 0.0
    h = end / steps
    for index in range(steps):
        t = torch.full((3,), index * h, dtype=DOUBLE)
        state = {"x": points} | (extra(t, points) if extra is not None else {})
        parts = gen.evaluate(t, state)
        assert parts.velocity is not None
        low, c, high = parts.velocity["x"][:, 0].tolist()
        k = 0.5 * (high - low)
        if parts.potential is not None:
            g = parts.potential.tolist()
            g0, g1, g2 = g[1], 0.5 * (g[2] - g[0]), g[2] - 2 * g[1] + g[0]
            precision, shift = 1 / variance - h * g2, mean / variance + h * g1
            if not precision > 0:
                return Weighted(math.nan, math.nan, math.nan)  # the weighted law has no mass
            mass += h * g0 + 0.5 * (shift**2 / precision - mean**2 / variance)
            mass -= 0.5 * math.log(variance * precision)
            mean, variance = shift / precision, 1 / precision
        noise = 0.0
        if parts.diffusion is not None:
            noise = sum(float(col["x"][0].square()) for col in _columns(parts, state, index))
        mean, variance = mean + h * (c + k * mean), (1 + h * k) ** 2 * variance + h * noise
    return Weighted(mean, variance, mass)


def _columns(parts: object, state: dict[str, Tensor], index: int) -> list[dict[str, Tensor]]:
    from genpath.spaces import Product

    noise = parts.diffusion  # type: ignore[attr-defined]
    space = Product({name: Euclidean(*leaf.shape[1:]) for name, leaf in state.items()})
    stacks = noise.columns(space, state)
    return [{"x": stack["x"][i, 0]} for stack in stacks for i in range(len(stack["x"]))]


def normal_expert(
    mean: float, std: float, schedule: AffineSchedule, name: str, size: int = 1
) -> ExactExpert:
    """x_t = α x0 + β x1 with x1 ~ N(mean, std² I), exactly, in float64."""
    path = LinearPath(Euclidean(size), schedule, base="gaussian")
    one = torch.ones(1, dtype=DOUBLE)
    law = GaussianMixture(one, torch.full((1, size), mean, dtype=DOUBLE), std * one)
    start = Normal.isotropic((size,))
    return ExactExpert(
        MixtureMarginal(path, law),
        (size,),
        name,
        tail=mixture_tail(schedule, law),
        start=Normal(start.mean, start.precision, DOUBLE),
    )


def collapse_toy(omega: float = 0.7, bump: float = 3.0) -> Composition:
    """F8: a trigonometric numerator N(1, 1), a linear denominator N(.4, 1), exponents 1, −ω.

    With data of unit variance P(t) = 1 + B t(1 − t) − ω/((1 − t)² + t²) for a bump B; the target at
    t = 1 is N((1 − .4 ω)/(1 − ω), 1/(1 − ω)).
    """
    top = normal_expert(1.0, 1.0, trigonometric_schedule(), "top")
    bottom = normal_expert(0.4, 1.0, linear_schedule(), "bottom")
    moving = Scalar(lambda t: bump * t * (1 - t), lambda t: bump * (1 - 2 * t))
    return top ** Exponent(1.0, moving if bump else None) * bottom**-omega


def plane() -> Composition:
    """Three experts with three schedules on a plane, two of them on one axis, exponents moving."""
    a = normal_expert(0.5, 0.8, trigonometric_schedule(), "a")
    b = normal_expert(-0.3, 1.2, variance_preserving_schedule(), "b", 2)
    c = normal_expert(0.2, 1.0, linear_schedule(), "c")
    swing = Exponent(1.0, Scalar(lambda t: torch.sin(3 * t), lambda t: 3 * torch.cos(3 * t)))
    return a.on(0) ** swing * b.on(0, 1) ** 1.3 / c.on(1) ** 0.4
