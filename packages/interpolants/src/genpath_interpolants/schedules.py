r"""Schedules of spatially linear interpolants: α, β and γ² of x_t = α x0 + β x1 + γ z.

| schedule | α | β | γ² | boundary |
|---|---|---|---|---|
| linear | 1 − t | t | named | two-sided |
| trigonometric | cos(πt/2) | sin(πt/2) | named | two-sided |
| rescaled trigonometric | √(1−γ²) cos(πt/2) | √(1−γ²) sin(πt/2) | a t(1−t), a ≤ 4 | two-sided |
| squared trigonometric | cos²(πt/2) | sin²(πt/2) | ½ sin²(πt) | two-sided |
| encoding–decoding | cos²(πt) for t < ½ | cos²(πt) for t > ½ | sin²(πt) | two-sided |
| variance preserving | √(1−t²) | t | 0 | one-sided |
| Ornstein–Uhlenbeck | √(1−e^{−2T(1−t)}) | e^{−T(1−t)} | 0 | one-sided, truncated |
| mirror | 0 | 1 | named | mirror |

named γ²: none 0; sqrt a t(1−t); quadratic a t²(1−t)²; sine a sin²(πt).

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 4 and table 8. There the one-sided
rows are printed with γ; here a one-sided schedule has γ = 0, and its x0 is the latent.)

γ vanishes at both ends, so that x_0 = x0 and x_1 = x1. γγ̇ = ½ d(γ²)/dt is in closed form and finite
on [0, 1]. γ̇ = γγ̇/γ is not: for γ² = a·t(1−t) it grows like t^{−1/2} at both ends, while γγ̇ → ±a/2,
and the marginal velocity, where γ̇ meets E[z | x_t] = O(γ), stays finite.

For independent, centred ends of unit covariance, Cov x_t = (α² + β² + γ²) I. It is I at every t
(`is_covariance_preserving`) for linear with sqrt and a = 2, trigonometric without latent, rescaled
and squared trigonometric, variance preserving and Ornstein–Uhlenbeck.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.schedules import MIRROR, ONE_SIDED, AffineSchedule, Boundary, Scalar

__all__ = [
    "GAMMAS",
    "encoding_decoding_schedule",
    "is_covariance_preserving",
    "linear_schedule",
    "mirror_schedule",
    "named_gamma",
    "ornstein_uhlenbeck_schedule",
    "rescaled_trigonometric_schedule",
    "squared_trigonometric_schedule",
    "trigonometric_schedule",
    "variance_preserving_schedule",
]

HALF_PI = 0.5 * math.pi


def _none(a: float) -> Scalar:
    return Scalar(lambda t: 0 * t, torch.zeros_like)


def _sqrt(a: float) -> Scalar:
    return Scalar(lambda t: a * t * (1 - t), lambda t: a * (1 - 2 * t))


def _quadratic(a: float) -> Scalar:
    return Scalar(lambda t: a * (t * (1 - t)) ** 2, lambda t: 2 * a * t * (1 - t) * (1 - 2 * t))


def _sine(a: float) -> Scalar:
    return Scalar(lambda t: a * _sin_pi(t) ** 2, lambda t: a * math.pi * torch.sin(2 * math.pi * t))


GAMMAS: Mapping[str, Callable[[float], Scalar]] = {
    "none": _none,
    "sqrt": _sqrt,
    "quadratic": _quadratic,
    "sine": _sine,
}
"""Name → a ↦ γ²."""


def named_gamma(gamma: str, gamma_scale: float = 1.0) -> Scalar:
    """γ² by its name, with its rate.

    Args:
        gamma: a name of `GAMMAS`.
        gamma_scale: a > 0.

    Raises:
        DomainError: an unknown name, or a ≤ 0.

    Example:
        >>> named_gamma("sqrt", 2.0)(torch.tensor([0.5]))
        tensor([0.5000])
    """
    if gamma not in GAMMAS:
        raise DomainError(
            "named_gamma", "gamma is one of " + ", ".join(GAMMAS) + ".", got=repr(gamma)
        )
    if not gamma_scale > 0:
        raise DomainError(
            "named_gamma",
            "gamma_scale > 0.",
            got=f"gamma_scale {gamma_scale:g}",
            fix="write gamma: none for a path without latent noise",
        )
    return GAMMAS[gamma](gamma_scale)


@cache
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
    alpha = Scalar(lambda t: 1 - t, lambda t: -torch.ones_like(t))
    beta = Scalar(lambda t: t, torch.ones_like)
    return AffineSchedule(alpha, beta, named_gamma(gamma, gamma_scale))


@cache
def trigonometric_schedule(gamma: str = "none", gamma_scale: float = 1.0) -> AffineSchedule:
    """α = cos(πt/2), β = sin(πt/2) and the named γ².

    Source: Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 4. With γ = 0 it keeps
    the covariance; with a latent it does not: α² + β² + γ² = 1 + γ².

    Raises:
        DomainError: an unknown name, or a ≤ 0.

    Example:
        >>> trigonometric_schedule().beta(torch.tensor([0.5]))
        tensor([0.7071])
    """
    alpha, beta = _cosine(), _sine_wave()
    return AffineSchedule(alpha, beta, named_gamma(gamma, gamma_scale))


@cache
def rescaled_trigonometric_schedule(gamma_scale: float = 1.0) -> AffineSchedule:
    """α = √(1−γ²) cos(πt/2), β = √(1−γ²) sin(πt/2), γ² = a t(1−t): α² + β² + γ² = 1.

    Raises:
        DomainError: a is not in (0, 4]: γ² would exceed 1 at t = ½.

    Example:
        >>> is_covariance_preserving(rescaled_trigonometric_schedule(2.0))
        True
    """
    if not 0 < gamma_scale <= 4:
        raise DomainError(
            "rescaled_trigonometric_schedule",
            "0 < gamma_scale ≤ 4, so that γ² = a t(1−t) ≤ 1.",
            got=f"gamma_scale {gamma_scale:g}",
        )
    square = _sqrt(gamma_scale)

    def product(wave: Scalar) -> Scalar:
        def value(t: Tensor) -> Tensor:
            return (1 - square(t)).clamp_min(0).sqrt() * wave(t)

        def rate(t: Tensor) -> Tensor:
            root = (1 - square(t)).clamp_min(1e-30).sqrt()
            return root * wave.rate(t) - 0.5 * square.rate(t) / root * wave(t)

        return Scalar(value, rate)

    return AffineSchedule(product(_cosine()), product(_sine_wave()), square)


@cache
def squared_trigonometric_schedule() -> AffineSchedule:
    """α = cos²(πt/2), β = sin²(πt/2), γ² = ½ sin²(πt): α² + β² + γ² = 1 and γ is smooth.

    γγ̇ = (π/4) sin(2πt) vanishes at both ends, so that no score enters the velocity there.

    Example:
        >>> squared_trigonometric_schedule().gamma_gamma_rate(torch.tensor([0.0, 0.25]))
        tensor([0.0000, 0.7854])
    """

    def rate(t: Tensor) -> Tensor:
        return HALF_PI * torch.sin(math.pi * t)

    alpha = Scalar(lambda t: _cos_half_pi(t) ** 2, lambda t: -rate(t))
    beta = Scalar(lambda t: torch.sin(HALF_PI * t) ** 2, rate)
    return AffineSchedule(alpha, beta, _sine(0.5))


@cache
def encoding_decoding_schedule() -> AffineSchedule:
    """x0 becomes noise at t = ½, and the noise becomes x1: α = cos²(πt) for t < ½ and 0 after it,
    β = 0 before ½ and cos²(πt) after it, γ² = sin²(πt).

    α and β are once continuously differentiable; their second derivatives jump by 2π² at ½, which
    is a breakpoint. Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 4.

    Example:
        >>> schedule, t = encoding_decoding_schedule(), torch.tensor([0.25, 0.5, 0.75])
        >>> schedule.alpha(t), schedule.breakpoints
        (tensor([0.5000, 0.0000, 0.0000]), (0.5,))
    """

    def half(early: bool) -> Scalar:
        def on(t: Tensor) -> Tensor:
            return t < 0.5 if early else t > 0.5

        def value(t: Tensor) -> Tensor:
            return torch.where(on(t), torch.cos(math.pi * t) ** 2, 0.0)

        def rate(t: Tensor) -> Tensor:
            return torch.where(on(t), -math.pi * torch.sin(2 * math.pi * t), 0.0)

        return Scalar(value, rate)

    return AffineSchedule(half(True), half(False), _sine(1.0), breakpoints=(0.5,))


@cache
def variance_preserving_schedule() -> AffineSchedule:
    """α = √(1−t²), β = t, γ = 0: the Ornstein–Uhlenbeck process in the time t = e^{−τ}.

    One-sided: x0 ~ N(0, I) is the latent. α̇ is infinite at t = 1, αα̇ = −t is not.

    Source: Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 5.1.

    Example:
        >>> variance_preserving_schedule().alpha_squared.rate(torch.tensor([1.0]))
        tensor([-2.])
    """
    square = Scalar(lambda t: (1 - t) * (1 + t), lambda t: -2 * t)
    alpha = _root(square)
    beta = Scalar(lambda t: t, torch.ones_like)
    return AffineSchedule(alpha, beta, _none(1.0), ONE_SIDED, square)


@cache
def ornstein_uhlenbeck_schedule(horizon: float = 5.0) -> AffineSchedule:
    """α = √(1−e^{−2τ}), β = e^{−τ} with τ = T(1−t): noising for a finite time T.

    One-sided and truncated: at t = 0 the path still holds e^{−T} of the data; it is sampled from
    N(0, I), an error of KL ≤ ½ β² E|x1|² + ½ d (−β² − log(1−β²)) with β = e^{−T}: KL is convex.

    Args:
        horizon: T > 0.

    Raises:
        DomainError: T ≤ 0.

    Example:
        >>> schedule = ornstein_uhlenbeck_schedule(5.0)
        >>> schedule.boundary.exact, schedule.beta(torch.tensor([0.0]))
        (False, tensor([0.0067]))
    """
    if not horizon > 0:
        raise DomainError("ornstein_uhlenbeck_schedule", "horizon > 0.", got=f"horizon {horizon:g}")

    def beta(t: Tensor) -> Tensor:
        return torch.exp(-horizon * (1 - t))

    square = Scalar(
        lambda t: -torch.expm1(-2 * horizon * (1 - t)), lambda t: -2 * horizon * beta(t) ** 2
    )
    left = math.exp(-horizon)
    boundary = Boundary(
        {"alpha": math.sqrt(-math.expm1(-2 * horizon)), "beta": left, "gamma_squared": 0.0},
        {"alpha": 0.0, "beta": 1.0, "gamma_squared": 0.0},
        base_variance=1.0,
        kind="one-sided",
    )
    beta_scalar = Scalar(beta, lambda t: horizon * beta(t))
    return AffineSchedule(_root(square), beta_scalar, _none(1.0), boundary, square)


@cache
def mirror_schedule(gamma: str = "sqrt", gamma_scale: float = 1.0) -> AffineSchedule:
    """α = 0, β = 1 and the named γ²: x_t = x1 + γ z, the data at both ends.

    Source: Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 3.3.

    Raises:
        DomainError: gamma is "none" (nothing would move), unknown, or a ≤ 0.

    Example:
        >>> mirror_schedule().boundary.kind
        'mirror'
    """
    if gamma == "none":
        raise DomainError(
            "mirror_schedule", "a mirror has a latent noise.", got="gamma none", fix="write sqrt"
        )
    zero = _none(1.0)
    one = Scalar(torch.ones_like, torch.zeros_like)
    return AffineSchedule(zero, one, named_gamma(gamma, gamma_scale), MIRROR)


def is_covariance_preserving(schedule: AffineSchedule, tolerance: float = 1e-6) -> bool:
    """Whether α² + β² + γ² = 1 on [0, 1]: the covariance of standardised independent ends stays I.

    Example:
        >>> is_covariance_preserving(linear_schedule("sqrt", 2.0))
        True
        >>> is_covariance_preserving(trigonometric_schedule("sqrt"))
        False
    """
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    total = schedule.alpha_squared(t) + schedule.beta(t) ** 2 + schedule.gamma_squared(t)
    return bool(((total - 1).abs() <= tolerance).all())


def _cos_half_pi(t: Tensor) -> Tensor:
    """cos(πt/2) as sin(π(1−t)/2): exactly 0 at t = 1, and accurate near it."""
    return torch.sin(HALF_PI * (1 - t))


def _sin_pi(t: Tensor) -> Tensor:
    """sin(πt) by the nearer end: exactly 0 at t = 0 and 1."""
    return torch.sin(math.pi * torch.where(t < 0.5, t, 1 - t))


def _cosine() -> Scalar:
    return Scalar(_cos_half_pi, lambda t: -HALF_PI * torch.sin(HALF_PI * t))


def _sine_wave() -> Scalar:
    return Scalar(lambda t: torch.sin(HALF_PI * t), lambda t: HALF_PI * _cos_half_pi(t))


def _root(square: Scalar) -> Scalar:
    """√ of a non-negative scalar; its rate is infinite where it vanishes."""

    def value(t: Tensor) -> Tensor:
        return square(t).clamp_min(0).sqrt()

    return Scalar(value, lambda t: 0.5 * square.rate(t) / value(t))
