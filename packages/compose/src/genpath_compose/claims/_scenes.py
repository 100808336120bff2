"""Scenes that several claims share: normal experts, the collapse toy, three experts on a plane."""

from __future__ import annotations

import torch

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

__all__ = ["DOUBLE", "collapse_toy", "normal_expert", "plane"]

DOUBLE = torch.float64


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
