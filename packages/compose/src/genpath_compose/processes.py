r"""Noising processes: the drift f and noise σ that diffusion experts may share.

    ∂_t q = div(f q) − ½σ² Δq           in our time: data at t = 1, sampling runs forward

The closed forms of `genpath_compose.correctors` hold for experts of *one* process: with f_i or σ_i
that differ, terms that should cancel do not (course, X8). `shared` says whether they do.

A one-sided interpolant expert, x_t = α x0 + β x1, has a process of its own: `diffusion_form`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.divergences import exact_divergence
from genpath.errors import CapabilityError, DomainError
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean
from genpath.states import per_row

from .experts import DiffusionExpert, Expert, noising

__all__ = ["LinearDrift", "NoisingProcess", "diffusion_form", "shared"]

TIMES = (0.07, 0.23, 0.41, 0.58, 0.76, 0.93)
"""Where processes are compared: inside (0, 1), since those of interpolants are infinite at 0."""


@dataclass(frozen=True)
class LinearDrift:
    """f(t, x) = k(t) x, whose divergence k d needs no derivative.

    Args:
        slope: k, a number or a function of times ``(batch,)``.

    Example:
        >>> drift = LinearDrift(-0.5)
        >>> x = torch.ones(1, 2)
        >>> drift(torch.zeros(1), x), drift.divergence(torch.zeros(1), x)
        (tensor([[-0.5000, -0.5000]]), tensor([-1.]))
    """

    slope: float | Callable[[Tensor], Tensor]

    def _at(self, t: Tensor) -> Tensor:
        return self.slope(t) if callable(self.slope) else torch.full_like(t, self.slope)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return per_row(self._at(t), x) * x

    def divergence(self, t: Tensor, x: Tensor) -> Tensor:
        """div f, ``(batch,)``."""
        found: Tensor = math.prod(x.shape[1:]) * self._at(t)
        return found


@dataclass(frozen=True)
class NoisingProcess:
    """f and σ, in our time.

    Args:
        drift: f, ``(t, x) -> (batch, *event)``; its ``divergence(t, x)`` is used where it has one.
        sigma: σ of times ``(batch,)``.

    Example:
        >>> process = NoisingProcess(lambda t, x: -x, lambda t: 1 + t)
        >>> process.divergence(torch.zeros(1), torch.ones(1, 3))
        tensor([-3.])
    """

    drift: Callable[[Tensor, Tensor], Tensor]
    sigma: Callable[[Tensor], Tensor]

    def divergence(self, t: Tensor, x: Tensor) -> Tensor:
        """div f, ``(batch,)``: in closed form, or by one forward derivative per coordinate."""
        own = getattr(self.drift, "divergence", None)
        if own is not None:
            found: Tensor = own(t, x)
            return found
        return exact_divergence(Euclidean(*x.shape[1:]), _field(self.drift), t, x)[1]


def _field(drift: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    return lambda t, x: drift(t, x)


def shared(experts: Sequence[DiffusionExpert], tolerance: float = 1e-6) -> NoisingProcess:
    """The one noising process of several experts.

    Drifts and noises that are not the same object are compared at a few times and points, relative
    to their size.

    Args:
        experts: with ``drift`` and ``sigma``.
        tolerance: the relative difference that is allowed.

    Raises:
        CapabilityError: an expert has no noising process.
        DomainError: two of them differ; both are named.

    Example:
        >>> make = lambda s, n: DiffusionExpert(lambda t, x: -x, LinearDrift(-1.0),
        ...     lambda t: s + t, (1,), n)
        >>> shared([make(1.0, "a"), make(1.0, "b")]).sigma(torch.zeros(1))
        tensor([1.])
        >>> shared([make(1.0, "a"), make(2.0, "b")])  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        genpath.errors.DomainError: correctors: experts share one noising process.
    """
    for expert in experts:
        if not (hasattr(expert, "drift") and hasattr(expert, "sigma")):
            raise CapabilityError(
                f"expert {expert.name}",
                "a corrector in closed form needs the noising process of its experts.",
                got=type(expert).__name__,
                fix="use genpath_compose.processes.diffusion_form for a one-sided interpolant, or "
                "Composed, which needs velocity and score only",
            )
    first = experts[0]
    t, x = _probes(first.event_shape)
    for other in experts[1:]:
        names = f"{first.name} and {other.name}"
        if other.sigma is not first.sigma:
            _same(f"σ of {names}", first.sigma(t), other.sigma(t), t, tolerance)
        if other.drift is not first.drift:
            _same(f"f of {names}", first.drift(t, x), other.drift(t, x), t, tolerance)
    return NoisingProcess(first.drift, first.sigma)


def _probes(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Times, and points with coordinates of every sign and size about 1."""
    t = torch.tensor(TIMES, dtype=torch.float64)
    count = len(t) * math.prod(shape)
    waves = 1.7 * torch.sin(1 + 2.4 * torch.arange(count, dtype=torch.float64))
    return t, waves.reshape(len(t), *shape)


def _same(what: str, one: Tensor, two: Tensor, t: Tensor, tolerance: float) -> None:
    gap = (one - two).abs().reshape(len(t), -1).amax(1)
    size = torch.maximum(one.abs(), two.abs()).reshape(len(t), -1).amax(1)
    if bool((gap <= tolerance * size + 1e-12).all()):
        return
    worst = int(gap.nan_to_num(nan=torch.inf).argmax())
    raise DomainError(
        "correctors",
        "experts share one noising process: with different drifts f or noises σ the closed forms "
        "do not hold.",
        got=f"{what} differ by {float(gap[worst]):.3g} at t = {float(t[worst]):g}",
        fix="use Composed(composition), whose weights hold for experts of any schedules",
    )


def diffusion_form(expert: Expert, schedule: AffineSchedule) -> DiffusionExpert:
    r"""A one-sided interpolant expert as a diffusion expert: the same law path, f and σ named.

        f = −(β̇/β) x          σ² = 2α² d/dt log(β/α)

    Its velocity −f + ½σ² s is the expert's own, where that one is exact. Both f and σ are infinite
    at t = 0, where β = 0: start at a small t (course, L7.13, L7.27).

    Args:
        expert: of x_t = α x0 + β x1 with x0 ~ N(0, I).
        schedule: of it; γ = 0.

    Raises:
        DomainError: γ ≠ 0.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> from genpath_interpolants.schedules import variance_preserving_schedule
        >>> normal = FieldExpert(lambda t, x: (0 * x, -x), (1,), "normal")  # N(0, 1) stays
        >>> form = diffusion_form(normal, variance_preserving_schedule())
        >>> form.velocity(torch.tensor([0.5]), torch.tensor([[3.0]])) + 0.0
        tensor([[0.]])
    """
    grid = torch.linspace(0, 1, 21, dtype=torch.float64)
    latent = float(schedule.gamma_squared(grid).abs().max())
    if latent > 0:
        raise DomainError(
            f"expert {expert.name}",
            "a one-sided interpolant has γ = 0.",
            got=f"γ² up to {latent:g}",
            fix="use Composed, which needs velocity and score only",
        )
    rate, variance = noising(schedule)
    return DiffusionExpert(
        expert.score,
        LinearDrift(lambda t: -rate(t)),
        lambda t: variance(t).clamp_min(0).sqrt(),
        expert.event_shape,
        expert.name,
        tail=expert.tail,
        start=expert.start,
        support=expert.support,
        log_density=expert.log_prob if "log_prob" in expert.has else None,
    )
