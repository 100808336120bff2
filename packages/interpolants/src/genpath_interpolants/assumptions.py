r"""What the theorems ask of an interpolant, measured on pairs.

    I is C² in time      max |∂_t² I(t + h) − ∂_t² I(t)| falls with h; at a kink it does not
    growth               |∂_t I(t, x0, x1)| ≤ C |x0 − x1|: 0 where x0 = x1
    moments              E|∂_t I|⁴ and E|∂_t² I|² are bounded over t
    γ² is C² in time     as for I

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 2.2.) The growth condition holds
for α + β = 1 and fails for the trigonometric and the encoding–decoding interpolants, for which the
theorems hold all the same where I is C²: what their proofs use are the moments. So a path `holds`
by its moments; ``growth`` is reported beside. One-sided paths and mirrors are asked the same of J
and K alone, with |x1| in place of |x0 − x1|.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.errors import CapabilityError, DomainError
from genpath.schedules import AffineSchedule, Scalar

from .general import InterpolantPath

__all__ = ["Assumptions", "check_assumptions"]

STEPS = (1 / 256, 1 / 512)
"""Two spacings of the times at which derivatives are compared."""
KEPT = 0.75
"""A jump of a derivative keeps its size as h halves; a modulus h^p falls to 2^{−p} of it."""


@dataclass(frozen=True)
class Assumptions:
    """What was found.

    Args:
        kinks: times near which ∂_t² I jumps.
        growth: the largest |∂_t I|/|x0 − x1| over pairs and times; infinite where ∂_t I does not
            vanish for x0 = x1.
        rate_moment: the largest E|∂_t I|⁴ over times; infinite where it grows towards an end.
        curvature_moment: the largest E|∂_t² I|² over times, in the same sense.
        gamma_kinks: times near which d²(γ²)/dt² jumps.

    Example:
        >>> Assumptions((), 1.0, 2.0, 0.0, ()).holds
        True
    """

    kinks: tuple[float, ...]
    growth: float
    rate_moment: float
    curvature_moment: float
    gamma_kinks: tuple[float, ...]

    @property
    def smooth(self) -> bool:
        """Whether I and γ² are C² in time."""
        return not self.kinks and not self.gamma_kinks

    @property
    def bounded_growth(self) -> bool:
        """Whether |∂_t I| ≤ C |x0 − x1|."""
        return math.isfinite(self.growth)

    @property
    def moments(self) -> bool:
        """Whether both moments are bounded."""
        return math.isfinite(self.rate_moment) and math.isfinite(self.curvature_moment)

    @property
    def holds(self) -> bool:
        """Whether the theorems apply: smooth in time, with moments."""
        return self.smooth and self.moments


def check_assumptions(path: Any, pairs: Pairs) -> Assumptions:
    """Measure what the theorems ask of a path or a schedule.

    Args:
        path: a path with a schedule, an `InterpolantPath`, or an `AffineSchedule`.
        pairs: endpoints ``(rows, *event)``, a few dozen or more; the moments are means over them.

    Returns:
        `Assumptions`.

    Raises:
        CapabilityError: a path of another kind.
        DomainError: no pairs.

    Example:
        >>> from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule
        >>> rng = torch.Generator().manual_seed(0)
        >>> pairs = Pairs(*torch.randn(2, 64, 2, generator=rng))
        >>> check_assumptions(linear_schedule("sqrt"), pairs).bounded_growth
        True
        >>> found = check_assumptions(trigonometric_schedule(), pairs)
        >>> found.bounded_growth, found.holds
        (False, True)
    """
    left, right = pairs.x0, pairs.x1
    if not isinstance(left, Tensor) or not isinstance(right, Tensor) or right.shape[0] == 0:
        raise DomainError("check_assumptions", "a mean needs pairs, as tensors.", got="none")
    x0, x1 = left.double(), right.double()
    rate, square, one_end = _parts(path)
    if one_end:  # what is left of I without x0 is J or K
        x0 = torch.zeros_like(x0)
    coarse, fine = (_measured(rate, x0, x1, step) for step in STEPS)
    kinks = _kinks(coarse.jumps, fine)
    gamma = [_gamma_jumps(square, step) for step in STEPS]
    return Assumptions(
        kinks,
        _growth(rate, x0, x1, 0 * x1 if one_end else x1),
        _bounded(coarse.fourth, fine.fourth),
        math.inf if kinks and not math.isfinite(fine.second) else _bounded(
            coarse.second, fine.second
        ),
        _kinks(gamma[0].jumps, gamma[1]),
    )  # fmt: skip


@dataclass(frozen=True)
class _Measured:
    """At one spacing: jumps of the second derivative with their times, and moments."""

    times: Tensor
    jumps: Tensor
    fourth: float = 0.0
    second: float = 0.0


Rate = Callable[[Tensor, Tensor, Tensor], Tensor]


def _parts(path: Any) -> tuple[Rate, Scalar | None, bool]:
    """∂_t I, γ², and whether x0 is no end of I."""
    alone = ("one-sided", "mirror")
    if isinstance(path, InterpolantPath):
        noise: Any = path.noise
        square = None if noise is None else noise.gamma_squared
        return path.interpolation_rate, square, path.kind in alone
    schedule = getattr(path, "schedule", path)
    if not isinstance(schedule, AffineSchedule):
        inner = getattr(path, "marginal", None)
        if inner is not None:
            return _parts(inner)
        raise CapabilityError(
            "check_assumptions",
            "it reads I and γ² of a path.",
            got=type(path).__name__,
            fix="pass a schedule, a path that has one, or an InterpolantPath",
        )

    def rate(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (x0.dim() - 1)
        alpha, beta = schedule.alpha.rate(t), schedule.beta.rate(t)
        return alpha.reshape(shape) * x0 + beta.reshape(shape) * x1

    return rate, schedule.gamma_squared, schedule.boundary.kind in alone


def _on_grid(rate: Rate, x0: Tensor, x1: Tensor, times: Tensor) -> Tensor:
    """∂_t I at every time and pair: ``(times, rows, size)``."""
    count, rows = len(times), x0.shape[0]
    each = times.repeat_interleave(rows)
    left, right = (x.repeat(count, *([1] * (x.dim() - 1))) for x in (x0, x1))
    with torch.no_grad():
        return rate(each, left, right).reshape(count, rows, -1)


def _measured(rate: Rate, x0: Tensor, x1: Tensor, step: float) -> _Measured:
    rows = min(x0.shape[0], 64)
    times = _inside(step)
    values = _on_grid(rate, x0[:rows], x1[:rows], times)
    slopes = values.diff(dim=0) / step
    jumps = slopes.diff(dim=0).square().sum(2).mean(1).sqrt()
    fourth = values.square().sum(2).square().mean(1)
    second = slopes.square().sum(2).mean(1)
    return _Measured(times[1:-1], jumps, float(fourth.max()), float(second.max()))


def _gamma_jumps(square: Scalar | None, step: float) -> _Measured:
    times = _inside(step)
    if square is None:
        return _Measured(times[1:-1], torch.zeros(len(times) - 2))
    slopes = square.rate(times).diff() / step
    return _Measured(times[1:-1], slopes.diff().abs())


def _inside(step: float) -> Tensor:
    """Midpoints of the cells of [0, 1]: the ends, where a rate may be infinite, are approached."""
    count = round(1 / step)
    return (torch.arange(count, dtype=torch.float64) + 0.5) * step


def _kinks(coarse: Tensor, fine: _Measured) -> tuple[float, ...]:
    """Where the jumps at the finer spacing are as large as at the coarser."""
    largest = float(coarse.max())
    scale = max(float(fine.jumps.sum()), 1e-300)
    if not largest > 1e-6 * max(scale, 1.0) or float(fine.jumps.max()) < KEPT * largest:
        return ()
    peak = float(fine.jumps.max())
    found = fine.times[fine.jumps > 0.5 * KEPT * peak]
    groups: list[float] = []
    for time in found.tolist():
        if not groups or time - groups[-1] > 8 * STEPS[1]:
            groups.append(time)
    return tuple(round(time, 2) for time in groups)


def _bounded(coarse: float, fine: float) -> float:
    """The finer value, or ∞ where half the distance to the ends makes it larger by 20 %."""
    growing = not math.isfinite(fine) or fine > 1.2 * max(coarse, 1e-12)
    return math.inf if growing and fine > 1e-9 else fine


def _growth(rate: Rate, x0: Tensor, x1: Tensor, same_x: Tensor) -> float:
    """max |∂_t I|/|x0 − x1| on the pairs, infinite if ∂_t I(t, x, x) ≠ 0."""
    times = _inside(1 / 64)
    same = _on_grid(rate, same_x[:16], same_x[:16], times).norm(dim=2)
    size = float(x1[:16].abs().max()) + 1e-300
    if float(same.max()) > 1e-6 * size:
        return math.inf
    rates = _on_grid(rate, x0[:64], x1[:64], times).norm(dim=2)
    gaps = (x0 - x1)[:64].flatten(1).norm(dim=1)
    return float((rates / gaps.clamp_min(1e-300)).max())
