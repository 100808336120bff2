r"""Schedules of the linear interpolant.

    α = 1 − t     β = t     γ² = 0,  a·t(1−t)  or  a·t²(1−t)²

γ vanishes at both ends, so that x_0 = x0 and x_1 = x1. γγ̇ = ½ d(γ²)/dt is in closed form and finite
on [0, 1]. γ̇ = γγ̇/γ is not: for γ² = a·t(1−t) it grows like t^{−1/2} at both ends, while γγ̇ → ±a/2,
and the marginal velocity, where γ̇ meets E[z | x_t] = O(γ), stays finite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from genpath.errors import DomainError
from genpath.schedules import AffineSchedule, Scalar

__all__ = ["GAMMAS", "linear_schedule"]


def _none(a: float) -> Scalar:
    return Scalar(lambda t: 0 * t, torch.zeros_like)


def _sqrt(a: float) -> Scalar:
    return Scalar(lambda t: a * t * (1 - t), lambda t: a * (1 - 2 * t))


def _quadratic(a: float) -> Scalar:
    return Scalar(lambda t: a * (t * (1 - t)) ** 2, lambda t: 2 * a * t * (1 - t) * (1 - 2 * t))


GAMMAS: Mapping[str, Callable[[float], Scalar]] = {
    "none": _none,
    "sqrt": _sqrt,
    "quadratic": _quadratic,
}
"""Name → a ↦ γ²."""


def linear_schedule(gamma: str = "none", gamma_scale: float = 1.0) -> AffineSchedule:
    """α = 1 − t, β = t and the named γ².

    Source: Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, sections 2 and 4.

    Args:
        gamma: a name of `GAMMAS`.
        gamma_scale: a > 0; a = 2 with ``sqrt`` keeps the covariance of standardised independent
            ends.

    Raises:
        DomainError: an unknown name, or a ≤ 0.

    Example:
        >>> linear_schedule("sqrt").gamma_gamma_rate(torch.tensor([0.0, 1.0]))
        tensor([ 0.5000, -0.5000])
    """
    if gamma not in GAMMAS:
        raise DomainError(
            "linear_schedule", "gamma is one of " + ", ".join(GAMMAS) + ".", got=repr(gamma)
        )
    if not gamma_scale > 0:
        raise DomainError(
            "linear_schedule",
            "gamma_scale > 0.",
            got=f"gamma_scale {gamma_scale:g}",
            fix="write gamma: none for a path without latent noise",
        )
    alpha = Scalar(lambda t: 1 - t, lambda t: -torch.ones_like(t))
    beta = Scalar(lambda t: t, torch.ones_like)
    return AffineSchedule(alpha, beta, GAMMAS[gamma](gamma_scale))
