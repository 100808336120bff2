r"""Exact experts of the checkerboard: uniform laws on squares and half squares, noised.

Data on [−4, 4]², from U, U' ~ U[0, 1] and a coin (the setting of arXiv 2512.10339):

    x1 = 4U − 2     x2 = U' − 2·coin + (⌊x1⌋ mod 2)     (X, Y) = 2(x1, x2),  X ← (X + 2) mod 8 − 4

It is uniform on the eight squares (i, j) of side 2 with i + j odd, counted from the lower left.
With A = {X ≥ 0} and B = {X + Y ≥ 0}

    p(X)          uniform on [−4, 4]
    p(X|A)        uniform on [0, 4]
    p(X, Y|B)     uniform on two whole squares and four halves, which stand on the line x + y = 0
    p(X|A) p(X, Y|B)/p(X) ∝ p(X, Y|A, B)     two whole squares and two halves

With x_t = α x0 + β x1, x0 ~ N(0, I), ξ = (x_t − β x1)/α, R = E[ξ|x], S = tr Cov(ξ|x) and
T = tr Cov(x1|x) = α² S/β²

    s = −R/α     div s = (S − d)/α²     v = β̇ E[x1|x] − ½(α²)˙ s     div v = β̇ β T/α² − ½(α²)˙ div s

so that nothing is divided by β, which vanishes at t = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genpath.schedules import ONE_SIDED, AffineSchedule, Boundary, Scalar
from genpath_compose.experts import FIELDS, Expert
from genpath_compose.normals import Normal
from genpath_compose.tails import Tail, affine_tail
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

from ._regions import ROOT, Region, given

__all__ = [
    "LISTED",
    "NoisedRegion",
    "ddpm_schedule",
    "experts",
    "raw_checkerboard",
    "target",
]

# -- schedules -------------------------------------------------------------------------------------

LISTED: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda t: 1 - t,
    "quadratic": lambda t: 1 - t * t,
    "softplus": lambda t: torch.sqrt(
        -torch.expm1(-((20 / 12) * torch.nn.functional.softplus(12 * (0.5 - t)) + 0.001 * (1 - t)))
    ),
    "exponential": lambda t: torch.exp(-0.25 * (0.1 * t + 9.95 * t * t)),
    "cosine": lambda t: torch.sin(0.5 * math.pi * (1 - t)),
}
"""Five noise levels α(t). "exponential", √exp(−½(0.1t + 9.95t²)), is the root of the signal of DDPM
at noising time t, used as a noise level in our time: α(1) = 0.081, so that noise is left in the
data; "softplus" leaves 0.064. `ddpm_schedule` is the noising process of DDPM itself: α(1) = 0."""


def ddpm_schedule() -> AffineSchedule:
    """DDPM with β_noise from 0.1 to 20: β = exp(−½(0.1s + 9.95s²)), α² = 1 − β², s = 1 − t.

    Truncated: β(0) = 0.0066 of the data is left at t = 0.
    """

    def spent(t: Tensor) -> Tensor:
        s = 1 - t
        return 0.1 * s + 9.95 * s * s

    def speed(t: Tensor) -> Tensor:
        return 0.1 + 19.9 * (1 - t)

    square = Scalar(lambda t: -torch.expm1(-spent(t)), lambda t: -speed(t) * torch.exp(-spent(t)))
    return variance_preserving(
        square,
        Scalar(
            lambda t: torch.exp(-0.5 * spent(t)),
            lambda t: 0.5 * speed(t) * torch.exp(-0.5 * spent(t)),
        ),
    )


def exponential_schedule() -> AffineSchedule:
    """The listed α(t) = √exp(−½(0.1t + 9.95t²)) with β = √(1 − α²); α(1) = 0.081."""

    def spent(t: Tensor) -> Tensor:
        return 0.5 * (0.1 * t + 9.95 * t * t)

    def speed(t: Tensor) -> Tensor:
        return 0.05 + 9.95 * t

    def beta(t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-spent(t)))

    square = Scalar(lambda t: torch.exp(-spent(t)), lambda t: -speed(t) * torch.exp(-spent(t)))
    rate = Scalar(beta, lambda t: 0.5 * speed(t) * torch.exp(-spent(t)) / beta(t))
    return variance_preserving(square, rate)


def variance_preserving(square: Scalar, beta: Scalar) -> AffineSchedule:
    """The schedule of α² and β with the boundary that they have."""
    alpha = Scalar(
        lambda t: square(t).clamp_min(0).sqrt(), lambda t: 0.5 * square.rate(t) / square(t).sqrt()
    )
    ends = [torch.tensor([end], dtype=torch.float64) for end in (0.0, 1.0)]
    first, last = (
        {"alpha": float(alpha(end)), "beta": float(beta(end)), "gamma_squared": 0.0} for end in ends
    )
    exact = first["beta"] == 0
    boundary = Boundary(first, last, None if exact else 1.0, ONE_SIDED.kind)
    return AffineSchedule(alpha, beta, lambda t: 0 * t, boundary, square)


# -- laws ---------------------------------------------------------------------------------------

WHOLE = ((0.0, 2.0), (2.0, 0.0)), ((2.0, 4.0), (4.0, 2.0))
"""Corners of the two whole squares above the line x + y = 0."""

ON_A = Region(((0.0,),), ((4.0,),))
ON_B = Region(*WHOLE, (-3 * ROOT, -ROOT, ROOT, 3 * ROOT))
ON_X = Region(((-4.0,),), ((4.0,),))


def target() -> Region:
    """p(X, Y | A, B), what p(X|A) p(X, Y|B)/p(X) is at t = 1."""
    return Region(*WHOLE, (-3 * ROOT, -ROOT))


def raw_checkerboard(count: int, rng: torch.Generator) -> Tensor:
    """Draws of (X, Y) by the formulas at the top of this module."""
    u, v = torch.rand(2, count, generator=rng, dtype=torch.float64)
    coin = torch.randint(2, (count,), generator=rng)
    x1 = 4 * u - 2
    x2 = v - 2 * coin + x1.floor() % 2
    return torch.stack([(2 * x1 + 2) % 8 - 4, 2 * x2], 1)


# -- experts ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class NoisedRegion(Expert):
    """The marginals of x_t = α x0 + β x1, x1 uniform on a region, as an expert with exact fields.

    Args:
        region: of x1.
        schedule: one-sided.
        name: what reports call it.
        nodes: at most, of the integral over p: as many are taken as the window is wide. 44 leave
            errors below 1e-11 of a field's mean size, 24 below 1e-3 in the worst point.
        rows: evaluated at once.
    """

    region: Region
    schedule: AffineSchedule
    name: str = "expert"
    nodes: int = 44
    rows: int = 500
    has: frozenset[str] = frozenset(FIELDS)
    event_shape: tuple[int, ...] = field(init=False)
    tail: Tail | None = field(init=False)
    start: Normal | None = field(init=False)
    support: Callable[[Tensor], Tensor] | None = field(init=False)
    affine: AffineSchedule | None = field(init=False)

    def __post_init__(self) -> None:
        shape = self.region.event_shape
        radius = 4.0 * math.sqrt(shape[0])
        for key, value in {
            "event_shape": shape,
            "tail": affine_tail(self.schedule, 1.0, radius),
            "start": Normal.isotropic(shape),
            "support": self.region.contains,
            "affine": self.schedule,
        }.items():
            object.__setattr__(self, key, value)

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Several fields from one pass, in float64; divergences are always exact."""
        wanted, times, points = self.wanted(names), t.double(), x.double()
        pairs = zip(times.split(self.rows), points.split(self.rows), strict=True)
        parts = [self._fields(wanted, *pair) for pair in pairs]
        return {name: torch.cat([part[name] for part in parts]).to(x.dtype) for name in wanted}

    def _fields(self, names: tuple[str, ...], t: Tensor, x: Tensor) -> dict[str, Tensor]:
        schedule = self.schedule
        found = given(self.region, x, schedule.alpha(t), schedule.beta(t), self.nodes)
        square, slope = schedule.alpha_squared(t), 0.5 * schedule.alpha_squared.rate(t)
        beta, rate = schedule.beta(t), schedule.beta.rate(t)
        score = -torch.stack(found.noise, 1) / schedule.alpha(t)[:, None]
        bend = (found.noise_variance - x.shape[1]) / square
        makers: dict[str, Callable[[], Tensor]] = {
            "log_prob": lambda: found.log_prob,
            "score": lambda: score,
            "score_divergence": lambda: bend,
            "velocity": lambda: rate[:, None] * torch.stack(found.data, 1) - slope[:, None] * score,
            "velocity_divergence": lambda: (
                rate * beta * found.data_variance / square - slope * bend
            ),
        }
        return {name: makers[name]() for name in names}


def experts(nodes: int = 24, noise: str = "ddpm") -> tuple[NoisedRegion, ...]:
    """p(X|A) with the cosine schedule, p(X, Y|B) with DDPM-linear, p(X) with the linear one.

    Args:
        nodes: of the second.
        noise: "ddpm", or "exponential" for the fourth listed noise level.
    """
    second = ddpm_schedule() if noise == "ddpm" else exponential_schedule()
    return (
        NoisedRegion(ON_A, trigonometric_schedule(), "p(X|A)"),
        NoisedRegion(ON_B, second, "p(X,Y|B)", nodes),
        NoisedRegion(ON_X, linear_schedule(), "p(X)"),
    )
