r"""Schedules: the scalars of a path, as functions of time.

A `Scalar` is a function of time with its rate; the rate is derived by forward-mode differentiation
unless a closed form is given. A `Schedule` is a set of named scalars and the `Boundary` that it
declares; it is checked against that declaration when it is built. Two kinds serve the three state
spaces of the core's users:

    AffineSchedule   x_t = α(t) x0 + β(t) x1 + γ(t) z          states α, β and γ²
    KeepSchedule     κ(t) = P(a coordinate already has its data value), κ(0) = 0, κ(1) = 1
                     hazard κ̇/(1−κ),  integrated hazard log((1−κ(s))/(1−κ(t))) over [s, t]

γ is given by its square: γγ̇ = ½ d(γ²)/dt stays finite where γ̇ does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .errors import DomainError

__all__ = [
    "MIRROR",
    "ONE_SIDED",
    "TWO_SIDED",
    "AffineSchedule",
    "Boundary",
    "KeepSchedule",
    "Scalar",
    "Schedule",
    "check_boundary",
    "cosine_keep",
    "linear_keep",
    "power_keep",
]

TimeFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scalar:
    """A function of time with its rate.

    Args:
        value: maps times ``(batch,)`` to values ``(batch,)``, elementwise.
        closed_rate: its derivative in closed form; derived by `torch.func.jvp` when None.

    Example:
        >>> square = Scalar(lambda t: t * t)
        >>> square.rate(torch.tensor([0.5]))
        tensor([1.])
    """

    value: TimeFunction
    closed_rate: TimeFunction | None = None

    def __call__(self, t: Tensor) -> Tensor:
        return self.value(t)

    def rate(self, t: Tensor) -> Tensor:
        """d/dt of the value, shape ``(batch,)``."""
        if self.closed_rate is not None:
            return self.closed_rate(t)
        # a constant function returns a tensor without tangent; adding 0·t keeps jvp defined.
        # jvp writes into its inputs' layout, so an expanded scalar is made contiguous first
        times = t.contiguous()
        derivative: Tensor = torch.func.jvp(
            lambda s: self.value(s) + 0 * s, (times,), (torch.ones_like(times),)
        )[1]
        return derivative


def scalar(function: TimeFunction | Scalar) -> Scalar:
    """A scalar from a function, or the scalar itself."""
    return function if isinstance(function, Scalar) else Scalar(function)


@dataclass(frozen=True)
class Boundary:
    """What a schedule declares at the two ends of time.

    Args:
        start: name → value at t = 0.
        end: name → value at t = 1.
        base_variance: for a *truncated* schedule, whose path does not start exactly at the base
            law: the variance of the normal law that it starts from instead. None when exact.
        kind: a word for it: "two-sided", "one-sided" or "mirror".

    Example:
        >>> Boundary({"kappa": 0.0}, {"kappa": 1.0}).exact
        True
    """

    start: Mapping[str, float]
    end: Mapping[str, float]
    base_variance: float | None = None
    kind: str = "two-sided"

    @property
    def exact(self) -> bool:
        """Whether the path starts exactly at the base law."""
        return self.base_variance is None


@runtime_checkable
class Schedule(Protocol):
    """Named scalars and the boundary that they declare."""

    @property
    def boundary(self) -> Boundary: ...

    def scalars(self) -> Mapping[str, Scalar]:
        """The schedule's functions by name."""
        ...


def check_boundary(schedule: Schedule, tolerance: float = 1e-6) -> None:
    """Compare a schedule with the boundary that it declares.

    Raises:
        DomainError: a scalar has another value at t = 0 or t = 1 than declared.

    Example:
        >>> check_boundary(KeepSchedule(lambda t: t))  # κ(0) = 0 and κ(1) = 1, as declared
        >>> check_boundary(KeepSchedule(lambda t: t / 2))  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        genpath.errors.DomainError: kappa is 1 at t = 1, as its boundary declares.
    """
    ends = ((0.0, schedule.boundary.start), (1.0, schedule.boundary.end))
    for time, declared in ends:
        for name, expected in declared.items():
            got = float(schedule.scalars()[name](torch.tensor([time], dtype=torch.float64)))
            if not math.isclose(got, expected, abs_tol=tolerance):
                raise DomainError(
                    type(schedule).__name__,
                    f"{name} is {expected:g} at t = {time:g}, as its boundary declares.",
                    got=f"{name} = {got:g}",
                    fix="correct the function, or declare the boundary that it has",
                )


TWO_SIDED = Boundary(
    {"alpha": 1.0, "beta": 0.0, "gamma_squared": 0.0},
    {"alpha": 0.0, "beta": 1.0, "gamma_squared": 0.0},
)
"""x_0 = x0 and x_1 = x1."""

ONE_SIDED = Boundary(
    {"alpha": 1.0, "beta": 0.0, "gamma_squared": 0.0},
    {"alpha": 0.0, "beta": 1.0, "gamma_squared": 0.0},
    kind="one-sided",
)
"""x_0 = x0, a normal latent, and x_1 = x1; there is no second latent (γ = 0)."""

MIRROR = Boundary(
    {"alpha": 0.0, "beta": 1.0, "gamma_squared": 0.0},
    {"alpha": 0.0, "beta": 1.0, "gamma_squared": 0.0},
    kind="mirror",
)
"""x_0 = x_1 = x1: both ends are the data."""


@dataclass(frozen=True)
class AffineSchedule:
    """α, β and γ² of x_t = α x0 + β x1 + γ z.

    Args:
        alpha, beta, gamma_squared: functions of time, or `Scalar`s with rates in closed form.
        boundary: their values at both ends; x_0 = x0 and x_1 = x1 unless declared otherwise. A
            one-sided schedule has γ = 0: its x0 is the latent noise.
        alpha_squared: α², where its rate is finite and that of α is not (α = √(1−t²)); derived
            from α if None.
        breakpoints: times in (0, 1) at which a second derivative jumps; integrators step on them.

    Raises:
        DomainError: the functions do not have the declared boundary, γ² is negative on a grid, a
            one-sided schedule has γ ≠ 0, or a breakpoint is not inside (0, 1).

    Example:
        >>> linear = AffineSchedule(lambda t: 1 - t, lambda t: t, lambda t: 0 * t)
        >>> linear.beta.rate(torch.tensor([0.3]))
        tensor([1.])
    """

    alpha: Scalar
    beta: Scalar
    gamma_squared: Scalar
    boundary: Boundary = TWO_SIDED
    alpha_squared: Scalar = None  # type: ignore[assignment]  # derived in __init__
    breakpoints: tuple[float, ...] = ()

    def __init__(
        self,
        alpha: TimeFunction | Scalar,
        beta: TimeFunction | Scalar,
        gamma_squared: TimeFunction | Scalar,
        boundary: Boundary = TWO_SIDED,
        alpha_squared: TimeFunction | Scalar | None = None,
        breakpoints: tuple[float, ...] = (),
    ) -> None:
        for name, function in (("alpha", alpha), ("beta", beta), ("gamma_squared", gamma_squared)):
            object.__setattr__(self, name, scalar(function))
        square = _squared(self.alpha) if alpha_squared is None else scalar(alpha_squared)
        object.__setattr__(self, "alpha_squared", square)
        object.__setattr__(self, "boundary", boundary)
        object.__setattr__(self, "breakpoints", tuple(breakpoints))
        check_boundary(self)
        self._check_between()

    def _check_between(self) -> None:
        grid = torch.linspace(0, 1, 101, dtype=torch.float64)
        square = self.gamma_squared(grid)
        if float(square.min()) < -1e-12:
            raise DomainError(
                "AffineSchedule", "γ² ≥ 0 on [0, 1].", got=f"minimum {float(square.min()):g}"
            )
        if self.boundary.kind == "one-sided" and float(square.max()) > 0:
            raise DomainError(
                "AffineSchedule",
                "a one-sided schedule has γ = 0: x0 is its latent.",
                got=f"γ² up to {float(square.max()):g}",
                fix="declare boundary TWO_SIDED, or put the noise into α",
            )
        gap = (self.alpha_squared(grid) - self.alpha(grid) ** 2).abs().max()
        if float(gap) > 1e-6:
            raise DomainError(
                "AffineSchedule", "alpha_squared is the square of alpha.", got=f"{float(gap):g} off"
            )
        if not all(0 < point < 1 for point in self.breakpoints):
            got = ", ".join(f"{point:g}" for point in self.breakpoints)
            raise DomainError("AffineSchedule", "breakpoints lie inside (0, 1).", got=got)

    def scalars(self) -> Mapping[str, Scalar]:
        """α, β and γ² by name."""
        return {"alpha": self.alpha, "beta": self.beta, "gamma_squared": self.gamma_squared}

    def gamma(self, t: Tensor) -> Tensor:
        """γ(t) ≥ 0."""
        return self.gamma_squared(t).clamp_min(0).sqrt()

    def gamma_gamma_rate(self, t: Tensor) -> Tensor:
        """γγ̇ = ½ d(γ²)/dt, finite at both ends where γ² is differentiable."""
        return 0.5 * self.gamma_squared.rate(t)


def _squared(factor: Scalar) -> Scalar:
    return Scalar(lambda t: factor(t) ** 2, lambda t: 2 * factor(t) * factor.rate(t))


@dataclass(frozen=True)
class KeepSchedule:
    """κ(t): the probability that a coordinate already carries its data value.

    Args:
        kappa: increasing, κ(0) = 0, κ(1) = 1; a function of time or a `Scalar`.

    Raises:
        DomainError: κ has other end values, or decreases on a grid.

    Example:
        >>> KeepSchedule(lambda t: t).integrated_hazard(torch.tensor(0.0), torch.tensor(0.5))
        tensor(0.6931)
    """

    kappa: Scalar
    boundary: Boundary = Boundary({"kappa": 0.0}, {"kappa": 1.0})

    def __init__(self, kappa: TimeFunction | Scalar) -> None:
        object.__setattr__(self, "kappa", scalar(kappa))
        object.__setattr__(self, "boundary", Boundary({"kappa": 0.0}, {"kappa": 1.0}))
        check_boundary(self)
        values = self.kappa(torch.linspace(0, 1, 101, dtype=torch.float64))
        if float(values.diff().min()) < -1e-12:
            raise DomainError("KeepSchedule", "κ does not decrease on [0, 1].", got="it does")

    def scalars(self) -> Mapping[str, Scalar]:
        """κ by name."""
        return {"kappa": self.kappa}

    def hazard(self, t: Tensor) -> Tensor:
        """κ̇/(1−κ): the rate at which a coordinate takes its data value; infinite at t = 1."""
        return self.kappa.rate(t) / (1 - self.kappa(t))

    def integrated_hazard(self, t: Tensor, t_next: Tensor) -> Tensor:
        """∫ hazard over [t, t_next] = log((1−κ(t))/(1−κ(t_next))); +inf when t_next = 1."""
        return torch.log1p(-self.kappa(t)) - torch.log1p(-self.kappa(t_next))


def linear_keep() -> KeepSchedule:
    """κ(t) = t: the component ``schedule.linear``.

    Example:
        >>> schedule, t = linear_keep(), torch.tensor([0.0, 0.5])
        >>> schedule.kappa(t), schedule.hazard(t)
        (tensor([0.0000, 0.5000]), tensor([1., 2.]))
    """
    return KeepSchedule(Scalar(lambda t: t, torch.ones_like))


def cosine_keep() -> KeepSchedule:
    """κ(t) = sin²(πt/2): the component ``schedule.cosine``.

    Example:
        >>> cosine_keep().kappa(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    return KeepSchedule(lambda t: torch.sin(0.5 * math.pi * t) ** 2)


def power_keep(exponent: float = 2.0) -> KeepSchedule:
    """κ(t) = t^exponent, exponent ≥ 1: the component ``schedule.power``.

    Raises:
        DomainError: the exponent is below 1, where κ̇ is infinite at t = 0.

    Example:
        >>> schedule, t = power_keep(3.0), torch.tensor([0.5])
        >>> schedule.kappa(t), schedule.kappa.rate(t)
        (tensor([0.1250]), tensor([0.7500]))
    """
    if exponent < 1:
        raise DomainError("schedule.power", "exponent ≥ 1.", got=f"exponent {exponent:g}")
    return KeepSchedule(Scalar(lambda t: t**exponent, lambda t: exponent * t ** (exponent - 1)))
