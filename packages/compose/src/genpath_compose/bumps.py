r"""Bumps: what is added to an exponent between the ends of time.

    quadratic      B t (end − t)
    ramp           B softmin(t, τ(end − t)) = B t τ(end − t)/[t^p + (τ(end − t))^p]^{1/p}

Both are 0 at t = 0 and at `end`, and have exact rates: γ̇ enters the weights of particles. The ramp
rises at once, which helps where C falls soon after t = 0; p smooths the kink of the minimum, and
p = ∞ keeps it (course, L8.13).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.schedules import Scalar

from .exponents import Exponent

__all__ = ["Bump", "Shape", "bump", "quadratic", "ramp"]


@dataclass(frozen=True)
class Shape:
    """A bump of size 1: b ≥ 0 with b(0) = b(end) = 0, and 0 from there on.

    Args:
        name: what reports call it.
        scalar: b, with its rate.
        end: where it vanishes again.

    Raises:
        DomainError: b does not vanish at an end, is negative, or is 0 everywhere.

    Example:
        >>> wave = Shape("wave", Scalar(lambda t: torch.sin(math.pi * t) ** 2))
        >>> Shape("line", Scalar(lambda t: t))  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        genpath.errors.DomainError: Shape: a bump vanishes at both ends.
    """

    name: str
    scalar: Scalar
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.end <= 1:
            raise DomainError("Shape", "0 < end ≤ 1.", got=f"end {self.end:g}")
        values = self.scalar(torch.linspace(0, self.end, 1001, dtype=torch.float64))
        top = float(values.max())
        edges = max(abs(float(values[0])), abs(float(values[-1])))
        if not edges <= 1e-12 * max(1.0, top):
            got = f"b(0) = {float(values[0]):g}, b({self.end:g}) = {float(values[-1]):g}"
            raise DomainError("Shape", "a bump vanishes at both ends.", got=got)
        if float(values.min()) < -1e-12 or not top > 0:
            got = f"between {float(values.min()):g} and {top:g}"
            raise DomainError("Shape", "a bump is not negative, and somewhere positive.", got=got)

    def __call__(self, t: Tensor) -> Tensor:
        return self.scalar(t)


def quadratic(end: float = 1.0) -> Shape:
    """b(t) = t (end − t).

    Example:
        >>> shape, t = quadratic(), torch.tensor([0.0, 0.25, 1.0])
        >>> shape(t), shape.scalar.rate(t)
        (tensor([0.0000, 0.1875, 0.0000]), tensor([ 1.0000,  0.5000, -1.0000]))
    """

    def value(t: Tensor) -> Tensor:
        return t * (end - t).clamp_min(0)

    def rate(t: Tensor) -> Tensor:
        return torch.where(t <= end, end - 2 * t, 0.0)

    return Shape("quadratic", Scalar(value, rate), end)


def ramp(tau: float = 0.1, end: float = 1.0, sharpness: float = 8.0) -> Shape:
    """b(t) = softmin(t, τ(end − t)): up at slope 1, down at slope τ.

    Args:
        tau: τ > 0; the top is near t = τ end/(1 + τ).
        end: where it vanishes again.
        sharpness: p ≥ 1 of softmin(a, b) = ab/(a^p + b^p)^{1/p} ≤ min(a, b); infinite for the
            minimum itself, whose rate jumps.

    Raises:
        DomainError: τ is not positive, or p < 1.

    Example:
        >>> t = torch.tensor([0.0, 0.05, 0.5, 1.0])
        >>> ramp(0.1)(t)
        tensor([0.0000, 0.0500, 0.0500, 0.0000])
        >>> ramp(0.1, sharpness=math.inf).scalar.rate(t)
        tensor([ 1.0000,  1.0000, -0.1000, -0.1000])
    """
    if not tau > 0 or not sharpness >= 1:
        raise DomainError("ramp", "τ > 0 and p ≥ 1.", got=f"tau {tau:g}, sharpness {sharpness:g}")

    def sides(t: Tensor) -> tuple[Tensor, Tensor]:
        return t, tau * (end - t).clamp_min(0)

    def value(t: Tensor) -> Tensor:
        up, down = sides(t)
        if sharpness == math.inf:
            return torch.minimum(up, down)
        return up * down / (up**sharpness + down**sharpness) ** (1 / sharpness)

    def rate(t: Tensor) -> Tensor:
        up, down = sides(t)
        if sharpness == math.inf:
            slope = torch.where(up <= down, 1.0, -tau)
        else:
            power = sharpness + 1
            total = (up**sharpness + down**sharpness) ** (power / sharpness)
            slope = (down**power - tau * up**power) / total
        return torch.where(t <= end, slope, 0.0).to(t)

    return Shape("ramp", Scalar(value, rate), end)


@dataclass(frozen=True)
class Bump:
    """B · shape, added to the exponent of one term.

    Args:
        index: of the term.
        shape: b.
        size: B ≥ 0.
        name: of the term's expert.
    """

    index: int
    shape: Shape
    size: float
    name: str = "expert"

    @property
    def exponent(self) -> Exponent:
        """B · shape."""
        return Exponent(0.0, self.shape.scalar) * self.size

    def words(self) -> str:
        """``name + B shape``."""
        return f"{self.name} + {self.size:.6g} {self.shape.name}"


def bump(
    size: float, ramp_size: float = 0.0, tau: float = 0.1, end: float = 1.0, sharpness: float = 8.0
) -> Exponent:
    """B1 t(end − t) + B2 softmin(t, τ(end − t)): to be added to an exponent.

    Args:
        size, ramp_size: B1 and B2.
        tau, end, sharpness: as of `ramp`.

    Example:
        >>> raised = Exponent(1.0) + bump(3.0)
        >>> t = torch.tensor([0.0, 0.5, 1.0])
        >>> raised(t), raised.rate(t)
        (tensor([1.0000, 1.7500, 1.0000]), tensor([ 3.,  0., -3.]))
    """
    first = Exponent(0.0, quadratic(end).scalar) * size
    return first + Exponent(0.0, ramp(tau, end, sharpness).scalar) * ramp_size
