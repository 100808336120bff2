r"""Radii: how far out a law with a known tail has its mass, and the tails of compact data.

    p(x) ≤ A exp(−½ C |x|² + B |x|)  on R^d
    P(|X| > R) ≤ A (8π/C)^{d/2} exp(−C R²/8)                    for R ≥ 4B/C
    R_ε ≤ max(4B/C, √(8 log(A (8π/C)^{d/2}/ε)/C))               with P(|X| > R_ε) ≤ ε

since beyond 4B/C the linear term is at most a quarter of C|x|². Small C lets a law spread: R_ε is
of order C^{−1/2} while B is negligible, and of order B/C when it is not. For data in a ball of
radius R carried by x_t = α x0 + β x1 + γ z, x0 ~ N(0, σ² I), the constants are known: with
v = α² σ² + γ² and B = |β| R/v,

    (2πv)^{−d/2} e^{−β² R²/2v} e^{−|x|²/2v − B|x|} ≤ q_t(x) ≤ (2πv)^{−d/2} e^{−|x|²/2v + B|x|}

(course, L8.7, L8.8, L8.11, H8.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.schedules import AffineSchedule

__all__ = ["Envelope", "envelope", "tail_mass_bound", "tail_radius_bound"]


def tail_mass_bound(radius: float, a: float, b: float, c: float, dimension: int) -> float:
    """A (8π/C)^{d/2} exp(−C R²/8), a bound of P(|X| > R); 1 where R < 4B/C or it is larger.

    Args:
        radius: R ≥ 0.
        a, b, c: A > 0, B ≥ 0 and C > 0 of the bound of the density.
        dimension: d.

    Raises:
        DomainError: a constant is outside its range.

    Example:
        >>> tail_mass_bound(10.0, a=0.4, b=0.0, c=1.0, dimension=1) < 1e-4  # N(0, 1)
        True
    """
    _check(a, b, c, dimension)
    if radius < 4 * b / c:
        return 1.0
    log_mass = math.log(a) + 0.5 * dimension * math.log(8 * math.pi / c) - c * radius**2 / 8
    return min(1.0, math.exp(min(log_mass, 0.0)))


def tail_radius_bound(a: float, b: float, c: float, dimension: int, eps: float) -> float:
    """max(4B/C, √(8 log(A (8π/C)^{d/2}/ε)/C)): a radius with P(|X| > R) ≤ ε.

    Args:
        a, b, c: A > 0, B ≥ 0 and C > 0 of the bound of the density.
        dimension: d.
        eps: ε in (0, 1).

    Raises:
        DomainError: a constant is outside its range.

    Example:
        >>> wide, narrow = (tail_radius_bound(0.4, 0.0, c, 1, 0.01) for c in (0.25, 1.0))
        >>> wide > narrow > 2.58  # the radius of N(0, 1) itself
        True
    """
    _check(a, b, c, dimension)
    if not 0 < eps < 1:
        raise DomainError("tail_radius_bound", "0 < ε < 1.", got=f"eps {eps:g}")
    excess = math.log(a) + 0.5 * dimension * math.log(8 * math.pi / c) - math.log(eps)
    return max(4 * b / c, math.sqrt(8 * max(excess, 0.0) / c))


def _check(a: float, b: float, c: float, dimension: int) -> None:
    if not (a > 0 and b >= 0 and c > 0 and dimension >= 1):
        raise DomainError(
            "bound of a tail",
            "A > 0, B ≥ 0, C > 0 and d ≥ 1.",
            got=f"a {a:g}, b {b:g}, c {c:g}, dimension {dimension}",
            fix="where C ≤ 0 the law does not exist: genpath_compose.certify" if c <= 0 else None,
        )


@dataclass(frozen=True)
class Envelope:
    """Bounds of log q_t(x) from both sides, in r = |x|.

    Args:
        precision: P of −½ P r².
        linear: B ≥ 0 of ± B r.
        lower, upper: the constants.
    """

    precision: float
    linear: float
    lower: float
    upper: float

    def log_bounds(self, radius: Tensor) -> tuple[Tensor, Tensor]:
        """From below and above, at r."""
        curve = -0.5 * self.precision * radius.square()
        return curve - self.linear * radius + self.lower, curve + self.linear * radius + self.upper


def envelope(
    schedule: AffineSchedule, t: float, radius: float, dimension: int = 1, base_std: float = 1.0
) -> Envelope:
    """The envelope of the law of x_t for data in a ball.

    Args:
        schedule: α, β and γ².
        t: a time with α² σ² + γ² > 0.
        radius: R with |x1| ≤ R.
        dimension: d.
        base_std: σ of x0 ~ N(0, σ² I).

    Raises:
        DomainError: α = γ = 0 there.

    Example:
        >>> from genpath_interpolants.schedules import linear_schedule
        >>> found = envelope(linear_schedule(), 0.5, radius=1.0)
        >>> found.precision, found.linear
        (4.0, 2.0)
    """
    at = torch.tensor([t], dtype=torch.float64)
    variance = float(base_std**2 * schedule.alpha_squared(at) + schedule.gamma_squared(at))
    if not variance > 1e-24:
        raise DomainError("envelope", "α² σ² + γ² > 0.", got=f"{variance:g} at t = {t:g}")
    reach = abs(float(schedule.beta(at))) * radius
    constant = -0.5 * dimension * math.log(2 * math.pi * variance)
    return Envelope(1 / variance, reach / variance, constant - reach**2 / (2 * variance), constant)
