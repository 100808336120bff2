r"""Laws of the training time: where in t an objective looks, without changing its mean.

    1/(t₁ − t₀) ∫ ℓ(t) dt = E [ ℓ(t)/q(τ) ],     u ~ U(0, 1)   τ = Q(u)   t = t₀ + (t₁ − t₀) τ

q is a density on [0, 1] and Q maps uniform numbers to its law, piecewise increasing, so that
stratified u give stratified τ. The weight 1/q keeps the mean; the variance is least for
q ∝ √(E ℓ²) (`adapted`).

    `Uniform`       q = 1
    `Arcsine`       q = 1/(π √(τ(1−τ)))       more often near both ends
    `Power`         q = τ^{1/k − 1}/k         τ = u^k, more often near one end
    `LogitNormal`   q of a logistic normal    more often in the middle, never 1/q > 1/share
    `Tabulated`     q constant on bins        from a measured loss

The density of `LogitNormal` vanishes at the ends faster than any power, so that 1/q has no finite
mean square; it is mixed with a share of uniform times (a defensive mixture, Hesterberg 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError

__all__ = [
    "TIME_LAWS",
    "Arcsine",
    "LogitNormal",
    "Power",
    "Tabulated",
    "TimeLaw",
    "Uniform",
    "adapted",
    "importance_times",
    "time_law",
]


@runtime_checkable
class TimeLaw(Protocol):
    """A law on [0, 1] with a positive density."""

    def times(self, u: Tensor) -> Tensor:
        """Q(u): times of this law from uniform numbers in [0, 1], ``(batch,)``."""
        ...

    def density(self, tau: Tensor) -> Tensor:
        """q(τ): ``(batch,)``."""
        ...


@dataclass(frozen=True)
class Uniform:
    """q = 1.

    Example:
        >>> Uniform().times(torch.tensor([0.3]))
        tensor([0.3000])
    """

    def times(self, u: Tensor) -> Tensor:
        return u

    def density(self, tau: Tensor) -> Tensor:
        return torch.ones_like(tau)


@dataclass(frozen=True)
class Arcsine:
    """q = 1/(π √(τ(1−τ))), τ = sin²(πu/2): the law Beta(½, ½).

    The weight π √(τ(1−τ)) vanishes at both ends, like γ of √(t(1−t)).

    Example:
        >>> law, u = Arcsine(), torch.tensor([0.0, 0.5, 1.0])
        >>> law.times(u), 1 / law.density(law.times(u))
        (tensor([0.0000, 0.5000, 1.0000]), tensor([0.0000, 1.5708, 0.0000]))
    """

    def times(self, u: Tensor) -> Tensor:
        return torch.sin(0.5 * math.pi * u) ** 2

    def density(self, tau: Tensor) -> Tensor:
        return 1 / (math.pi * (tau * (1 - tau)).clamp_min(0).sqrt())


@dataclass(frozen=True)
class Power:
    """τ = u^k or 1 − (1−u)^k: q = s^{1/k − 1}/k at the distance s to the end.

    Args:
        exponent: k ≥ 1; 1 is uniform.
        end: 0 or 1, the end where times are drawn more often.

    Raises:
        DomainError: exponent < 1, or another end.

    Example:
        >>> Power(2.0).times(torch.tensor([0.5])), Power(2.0).density(torch.tensor([0.25]))
        (tensor([0.2500]), tensor([1.]))
    """

    exponent: float = 2.0
    end: Literal[0, 1] = 0

    def __post_init__(self) -> None:
        if not self.exponent >= 1 or self.end not in (0, 1):
            got = f"exponent {self.exponent:g}, end {self.end}"
            raise DomainError("Power", "exponent ≥ 1, and end is 0 or 1.", got=got)

    def times(self, u: Tensor) -> Tensor:
        return u**self.exponent if self.end == 0 else 1 - (1 - u) ** self.exponent

    def density(self, tau: Tensor) -> Tensor:
        distance = tau if self.end == 0 else 1 - tau
        return distance ** (1 / self.exponent - 1) / self.exponent


@dataclass(frozen=True)
class LogitNormal:
    """logit τ ~ N(mean, std²), mixed with a share of uniform times: q = share + (1 − share) q₀.

    Used without weights by Esser et al. 2024 (arXiv 2403.03206, eq. 19), where it changes the
    loss; with the weights here it changes only the variance. Uniform numbers below ``share``
    become the uniform times, the others those of the logistic normal.

    Args:
        mean: of logit τ; negative is nearer to t = 0.
        std: of logit τ, > 0.
        share: of uniform times, in (0, 1]; no weight exceeds 1/share.

    Raises:
        DomainError: std ≤ 0, or a share outside (0, 1].

    Example:
        >>> law = LogitNormal(share=0.5)
        >>> law.times(torch.tensor([0.25, 0.75]))  # the middle of the uniform part, and of q₀
        tensor([0.5000, 0.5000])
    """

    mean: float = 0.0
    std: float = 1.0
    share: float = 0.1

    def __post_init__(self) -> None:
        if not self.std > 0 or not 0 < self.share <= 1:
            got = f"std {self.std:g}, share {self.share:g}"
            raise DomainError("LogitNormal", "std > 0, and 0 < share ≤ 1.", got=got)

    def times(self, u: Tensor) -> Tensor:
        if self.share == 1:
            return u
        inner = ((u - self.share) / (1 - self.share)).clamp(1e-7, 1 - 1e-7)
        normal = torch.sigmoid(self.mean + self.std * torch.special.ndtri(inner))
        return torch.where(u < self.share, u / self.share, normal)

    def density(self, tau: Tensor) -> Tensor:
        logit = torch.logit(tau, eps=1e-12 if tau.dtype == torch.float64 else 1e-7)
        square = ((logit - self.mean) / self.std) ** 2
        slope = torch.sigmoid(logit) * torch.sigmoid(-logit)
        normal = torch.exp(-0.5 * square) / (math.sqrt(2 * math.pi) * self.std * slope)
        return self.share + (1 - self.share) * normal


@dataclass(frozen=True)
class Tabulated:
    """q constant on equal bins of [0, 1], proportional to given heights.

    Args:
        heights: positive numbers, one per bin; their scale does not matter.

    Raises:
        DomainError: no heights, or one that is not positive and finite.

    Example:
        >>> law = Tabulated((1.0, 3.0))
        >>> law.times(torch.tensor([0.25, 0.5])), law.density(torch.tensor([0.1, 0.9]))
        (tensor([0.5000, 0.6667]), tensor([0.5000, 1.5000]))
    """

    heights: tuple[float, ...]

    def __post_init__(self) -> None:
        heights = tuple(float(h) for h in self.heights)
        if not heights or not all(0 < h < math.inf for h in heights):
            raise DomainError(
                "Tabulated", "heights are positive, one per bin.", got=repr(self.heights)
            )
        total = math.fsum(heights)
        object.__setattr__(self, "heights", tuple(h * len(heights) / total for h in heights))

    def times(self, u: Tensor) -> Tensor:
        level = u.new_tensor(self.heights)
        edge = torch.cat([level.new_zeros(1), level.cumsum(0) / len(level)])
        index = torch.searchsorted(edge[1:-1].contiguous(), u.contiguous(), right=True)
        tau = index / len(level) + (u - edge[index]) / level[index]
        return tau.to(u.dtype).clamp(0, 1)

    def density(self, tau: Tensor) -> Tensor:
        level = tau.new_tensor(self.heights)
        return level[(tau * len(level)).long().clamp(0, len(level) - 1)]


def adapted(t: Tensor, values: Tensor, bins: int = 20, floor: float = 0.1) -> Tabulated:
    """The law of least variance for losses that were measured: q ∝ √(E ℓ²) on each bin.

    Args:
        t: times in [0, 1], ``(batch,)``.
        values: the loss at each, unweighted, ``(batch,)``.
        bins: how many equal bins.
        floor: the least height, as a share of the mean one, > 0; bins without a time have the mean.

    Raises:
        ShapeError: t and values do not pair up.
        DomainError: no bin, or floor ≤ 0.

    Example:
        >>> t = torch.tensor([0.2, 0.3, 0.7, 0.8])
        >>> adapted(t, torch.tensor([1.0, -1.0, 3.0, 3.0]), bins=2).heights
        (0.5, 1.5)
    """
    if t.dim() != 1 or t.shape != values.shape:
        raise ShapeError(
            "adapted",
            "there is one loss per time.",
            got=f"t {tuple(t.shape)}, values {tuple(values.shape)}",
        )
    if bins < 1 or not floor > 0:
        raise DomainError("adapted", "bins ≥ 1 and floor > 0.", got=f"bins {bins}, floor {floor:g}")
    index = (t * bins).long().clamp(0, bins - 1)
    count = torch.bincount(index, minlength=bins)
    square = values.detach().double().square()
    total = torch.zeros(bins, dtype=torch.float64, device=t.device).index_add_(0, index, square)
    height = (total / count.clamp_min(1)).sqrt()
    seen = count > 0
    mean = float(height[seen].mean()) if bool(seen.any()) else 1.0
    mean = mean if mean > 0 else 1.0
    height = torch.where(seen, height.clamp_min(floor * mean), mean)
    return Tabulated(tuple(height.tolist()))


TIME_LAWS: dict[str, TimeLaw] = {
    "uniform": Uniform(),
    "arcsine": Arcsine(),
    "logit_normal": LogitNormal(),
}
"""Name → law, for a config."""


def time_law(law: str | TimeLaw) -> TimeLaw:
    """A law by its name; a law is passed through.

    Raises:
        DomainError: an unknown name.

    Example:
        >>> time_law("arcsine")
        Arcsine()
    """
    if not isinstance(law, str):
        return law
    if law not in TIME_LAWS:
        raise DomainError("time_law", "time is one of " + ", ".join(TIME_LAWS) + ".", got=repr(law))
    return TIME_LAWS[law]


def importance_times(
    law: str | TimeLaw, u: Tensor, t_min: float = 0.0, t_max: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Times of a law on [t_min, t_max], and the weights that keep the mean over that interval.

    Args:
        law: a `TimeLaw`, or a name of `TIME_LAWS`.
        u: uniform numbers in [0, 1], ``(batch,)``.
        t_min, t_max: the interval, 0 ≤ t_min < t_max ≤ 1.

    Returns:
        t ``(batch,)`` and the weights 1/q ``(batch,)``.

    Example:
        >>> t, weight = importance_times("uniform", torch.tensor([0.5]), 0.2, 0.4)
        >>> t, weight
        (tensor([0.3000]), tensor([1.]))
    """
    found = time_law(law)
    if isinstance(found, Uniform):
        return t_min + (t_max - t_min) * u, torch.ones_like(u)
    tau = found.times(u)
    return t_min + (t_max - t_min) * tau, 1 / found.density(tau)
