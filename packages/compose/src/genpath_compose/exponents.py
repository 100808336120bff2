r"""Exponents of a ratio path, as functions of time with their rates.

    γ(t) = c + m(t)          γ̇(t) = ṁ(t)

The rate enters the weight of a particle (it meets the log-density of its expert), so it is exact:
in closed form, or by forward differentiation. An exponent without m is *constant*, and its expert's
log-density is never needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.schedules import Scalar

__all__ = ["Exponent", "exponent"]


@dataclass(frozen=True)
class Exponent:
    """γ(t) = c + m(t).

    Args:
        constant: c.
        moving: m, a `Scalar` of times ``(batch,)``; None for a constant exponent.

    Raises:
        DomainError: c is not finite.

    Example:
        >>> bumped = Exponent(1.0, Scalar(lambda t: 4 * t * (1 - t)))
        >>> t = torch.tensor([0.0, 0.25])
        >>> bumped(t), bumped.rate(t)
        (tensor([1.0000, 1.7500]), tensor([4., 2.]))
        >>> (2 * Exponent(0.5))(t), (2 * Exponent(0.5)).is_constant
        (tensor([1., 1.]), True)
    """

    constant: float = 1.0
    moving: Scalar | None = None

    def __post_init__(self) -> None:
        if not abs(float(self.constant)) < float("inf"):
            raise DomainError("Exponent", "an exponent is finite.", got=repr(self.constant))

    @property
    def is_constant(self) -> bool:
        """Whether γ̇ = 0 at all times."""
        return self.moving is None

    def __call__(self, t: Tensor) -> Tensor:
        """γ at times ``(batch,)``."""
        if self.moving is None:
            return torch.full_like(t, self.constant)
        return self.constant + self.moving(t)

    def rate(self, t: Tensor) -> Tensor:
        """γ̇ at times ``(batch,)``."""
        return torch.zeros_like(t) if self.moving is None else self.moving.rate(t)

    def __add__(self, other: Exponent | float) -> Exponent:
        """The sum: of exponents on the same expert."""
        if not isinstance(other, Exponent):
            return Exponent(self.constant + float(other), self.moving)
        first, second = self.moving, other.moving
        if first is None or second is None:
            return Exponent(self.constant + other.constant, first or second)
        total = Scalar(lambda t: first(t) + second(t), lambda t: first.rate(t) + second.rate(t))
        return Exponent(self.constant + other.constant, total)

    def __mul__(self, factor: Exponent | float) -> Exponent:
        """The product: of a power of a power."""
        if not isinstance(factor, Exponent):
            size = float(factor)
            moving = self.moving
            if moving is None or size == 0:
                return Exponent(size * self.constant)
            scaled = Scalar(lambda t: size * moving(t), lambda t: size * moving.rate(t))
            return Exponent(size * self.constant, scaled)
        if factor.is_constant:
            return self * factor.constant
        if self.is_constant:
            return factor * self.constant
        both = Scalar(
            lambda t: self(t) * factor(t),
            lambda t: self.rate(t) * factor(t) + self(t) * factor.rate(t),
        )
        return Exponent(0.0, both)

    __rmul__ = __mul__
    __radd__ = __add__

    def __neg__(self) -> Exponent:
        return self * -1.0

    def words(self) -> str:
        """The exponent as text: "1.4", or "1 + m(t)" where it moves."""
        number = f"{self.constant:g}"
        return number if self.moving is None else f"{number} + m(t)"


def exponent(value: float | Exponent | Scalar | Callable[[Tensor], Tensor]) -> Exponent:
    """An `Exponent` from a number, a function of times, or itself.

    Example:
        >>> exponent(2).words(), exponent(lambda t: t).rate(torch.tensor([0.5]))
        ('2', tensor([1.]))
    """
    if isinstance(value, Exponent):
        return value
    if isinstance(value, Scalar):
        return Exponent(0.0, value)
    if callable(value):
        return Exponent(0.0, Scalar(value))
    return Exponent(float(value))
