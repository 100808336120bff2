r"""Tails: how fast a law path falls off at infinity.

    −2 log q_t(r u)/r²  →  κ_t(u) = min_j uᵀ P_j(t) u          as r → ∞, |u| = 1

    compact data, x_t = α x0 + β x1 + γ z, x0 ~ N(0, σ² I)    P = 1/(α² σ² + γ²)
    a normal law                                              P = its precision
    a mixture of normal laws                                  a P_j each: the widest wins

The first is the Gaussian envelope of lecture 8, for data in a ball of radius R and B = |β| R/α²:
c e^{−|x|²/2α² − B|x|} ≤ q_t ≤ C e^{−|x|²/2α² + B|x|}. Whether a product of powers can be normalised
is decided by the sum of the tails times their exponents (`genpath_compose.certificates`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.schedules import AffineSchedule

__all__ = ["Tail", "affine_tail", "flat_tail", "mixture_tail"]


@dataclass(frozen=True)
class Tail:
    """The quadratic rate at which −log q_t grows, direction by direction.

    Args:
        precisions: times ``(T,)`` → P_j, in one of three shapes: ``(T, J, 1)`` for multiples of the
            identity, ``(T, J, d)`` for diagonal ones, ``(T, J, d, d)`` for matrices.
        linear: times ``(T,)`` → B ``(T,)``: log q_t differs from the quadratic by at most B |x| +
            constant; None where it is not known. Only bounds of radii use it.

    Example:
        >>> wide = Tail(lambda t: torch.full((len(t), 1, 1), 0.25))  # N(0, 4 I)
        >>> wide.precisions(torch.zeros(3)).shape
        torch.Size([3, 1, 1])
    """

    precisions: Callable[[Tensor], Tensor]
    linear: Callable[[Tensor], Tensor] | None = None


def affine_tail(
    schedule: AffineSchedule, base_std: float = 1.0, radius: float | None = None
) -> Tail:
    """The tail of x_t = α x0 + β x1 + γ z for data of compact support: P = 1/(α² σ² + γ²).

    Args:
        schedule: α, β and γ².
        base_std: σ of x0 ~ N(0, σ² I).
        radius: R with |x1| ≤ R, for B = |β| R/(α² σ² + γ²).

    P is infinite where α = γ = 0, at t = 1.

    Example:
        >>> from genpath_interpolants.schedules import linear_schedule
        >>> affine_tail(linear_schedule()).precisions(torch.tensor([0.5])).flatten()
        tensor([4.])
    """

    def precision(t: Tensor) -> Tensor:
        return 1 / (base_std**2 * schedule.alpha_squared(t) + schedule.gamma_squared(t))

    linear = None
    if radius is not None:
        size = radius

        def linear(t: Tensor) -> Tensor:
            return schedule.beta(t).abs() * size * precision(t)

    return Tail(lambda t: precision(t)[:, None, None], linear)


def flat_tail() -> Tail:
    """The tail of a factor that grows and falls slower than any e^{c|x|²}: a bounded reward.

    Example:
        >>> flat_tail().precisions(torch.zeros(1))
        tensor([[[0.]]])
    """
    return Tail(lambda t: torch.zeros_like(t)[:, None, None])


def mixture_tail(schedule: AffineSchedule, law: Any, base_std: float = 1.0) -> Tail:
    """The tail of x_t = α x0 + β x1 + γ z for a mixture of normal laws: a precision per component.

    Args:
        schedule: α, β and γ².
        law: a `genpath_interpolants.GaussianMixture`.
        base_std: σ of x0 ~ N(0, σ² I).

    Example:
        >>> from genpath_interpolants import GaussianMixture
        >>> from genpath_interpolants.schedules import linear_schedule
        >>> law = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([2.0]))
        >>> mixture_tail(linear_schedule(), law).precisions(torch.tensor([0.0, 1.0])).flatten()
        tensor([1.0000, 0.2500])
    """
    variances = law.variances()
    spread = variances[:, None] if variances.dim() == 1 else variances

    def precisions(t: Tensor) -> Tensor:
        noise = base_std**2 * schedule.alpha_squared(t) + schedule.gamma_squared(t)
        beta = schedule.beta(t).square()
        found: Tensor = 1 / (noise[:, None, None] + beta[:, None, None] * spread.to(t))
        return found

    return Tail(precisions)
