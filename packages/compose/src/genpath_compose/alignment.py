r"""Alignment: an expert of one schedule run as an expert of another, without training.

    x_t = α x0 + β x1, x0 ~ N(0, I)          θ(t) = atan2(β, α) from 0 to π/2
    y_t = c(t) x_{τ(t)}     θ(τ(t)) = θ'(t)     c = α'(t)/α(τ(t)) = |(α', β')(t)|/|(α, β)(τ(t))|

is α' x0 + β' x1 in law: two schedules with one ratio β/α differ by a clock and a scale. A scaled
expert has

    log q' = log q(y/c) − d log c    s' = s/c    v' = (ċ/c) y + c v    div s' = div s/c²

all at y/c. With one schedule for all, C_k(t) = Σ γ_i/α²: the path exists where the exponents that
see a coordinate have a positive sum, at all times at once, and the numerator's edges stay where the
denominator's are. A clock alone does that for schedules of one norm (variance preserving ones); it
never changes the exponents, which still decide (course, L8.26; Karras et al. 2022, arXiv
2206.00364, for the change of schedule).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.schedules import AffineSchedule, Scalar
from genpath.states import flat_event, per_row

from .compositions import Composition
from .experts import Expert, Reward
from .lifted import Reparameterised, Seen
from .normals import Normal
from .tails import Tail

__all__ = ["Rescaled", "align", "aligned", "matching_clock"]

KNOTS, NEWTON = 2049, 4


@dataclass(frozen=True, eq=False)
class Rescaled(Seen):
    """The law of c(t) x_t for x_t of an expert.

    Args:
        expert: any.
        scale: c > 0, with its rate.
        affine: the schedule that the scaled expert has, if it is known to have one.

    Raises:
        DomainError: c is not positive.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> inner = FieldExpert(lambda t, x: (0 * x, -x), (1,), "normal")
        >>> wide = Rescaled(inner, Scalar(lambda t: 1 + t))  # N(0, (1 + t)²)
        >>> t, x = torch.ones(1), torch.full((1, 1), 4.0)
        >>> wide.score(t, x), wide.velocity(t, x)  # −x/4 and x/(1 + t)
        (tensor([[-1.]]), tensor([[2.]]))
    """

    scale: Scalar
    affine: AffineSchedule | None = None
    tail: Tail | None = field(init=False)
    start: Normal | None = field(init=False)

    def __post_init__(self) -> None:
        low, high = self.expert.times
        grid = torch.linspace(low, high, 101, dtype=torch.float64)
        inside = self.scale(grid[1:-1])
        if not bool(((inside > 0) & inside.isfinite()).all()):
            got = f"between {float(inside.min()):g} and {float(inside.max()):g}"
            raise DomainError(f"expert {self.expert.name}", "a scale is positive.", got=got)
        tail, law, scale = self.expert.tail, self.expert.start, self.scale
        if tail is not None:
            tail = _scaled_tail(tail, scale)
        if law is not None:
            first = float(scale(grid[:1]))
            law = Normal(first * law.mean, law.precision / first**2, law.dtype)
        for name, value in (("tail", tail), ("start", law), ("times", self.expert.times)):
            object.__setattr__(self, name, value)

    @property
    def support(self) -> Callable[[Tensor], Tensor] | None:  # type: ignore[override]
        """The expert's, scaled by c(1)."""
        inner = self.expert.support
        if inner is None:
            return None
        last = float(self.scale(torch.ones(1, dtype=torch.float64)))
        return inner if last == 1 else lambda x: inner(x / last)

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        c, rate = self.scale(t), self.scale.rate(t)
        found = dict(self.expert.fields(names, t, x / per_row(c, x), probe))
        size = flat_event(x).shape[1] if probe is None else flat_event(probe * probe).sum(1)
        if "velocity" in found:
            found["velocity"] = per_row(c, x) * found["velocity"] + per_row(rate / c, x) * x
        if "score" in found:
            found["score"] = found["score"] / per_row(c, x)
        if "velocity_divergence" in found:
            found["velocity_divergence"] = found["velocity_divergence"] + size * rate / c
        if "score_divergence" in found:
            found["score_divergence"] = found["score_divergence"] / c**2
        if "log_prob" in found:
            found["log_prob"] = found["log_prob"] - flat_event(x).shape[1] * c.log()
        return found


def _scaled_tail(tail: Tail, scale: Scalar) -> Tail:
    inner, linear = tail.precisions, tail.linear

    def precisions(t: Tensor) -> Tensor:
        found = inner(t)
        return found / scale(t).square().reshape(-1, *([1] * (found.dim() - 1)))

    return Tail(precisions, None if linear is None else lambda t: linear(t) / scale(t))


@dataclass(frozen=True, eq=False)
class _Clock:
    """τ with θ(τ(t)) = θ'(t), by a table and Newton's method; τ̇ = θ̇'(t)/θ̇(τ)."""

    source: AffineSchedule
    target: AffineSchedule

    @cached_property
    def table(self) -> tuple[Tensor, Tensor]:
        times = torch.linspace(0, 1, KNOTS, dtype=torch.float64)
        return _angle(self.source, times), times

    def value(self, t: Tensor) -> Tensor:
        """τ."""
        angles, times = (part.to(t.device) for part in self.table)
        goal = _angle(self.target, t.double())
        place = torch.searchsorted(angles, goal.detach().contiguous()).clamp(1, KNOTS - 1)
        low, high = angles[place - 1], angles[place]
        share = ((goal - low) / (high - low)).clamp(0, 1)
        left, right = times[place - 1], times[place]
        found = left + share * (right - left)
        for _ in range(NEWTON):
            slope = _turn(self.source, found)
            step = (goal - _angle(self.source, found)) / slope
            step = torch.where(step.isfinite(), step, 0.0)
            found = (found + step).clamp(left, right)
        return found.to(t.dtype)

    def rate(self, t: Tensor) -> Tensor:
        """τ̇."""
        wide = t.double()
        return (_turn(self.target, wide) / _turn(self.source, self.value(wide))).to(t.dtype)


def _angle(schedule: AffineSchedule, t: Tensor) -> Tensor:
    return torch.atan2(schedule.beta(t), schedule.alpha_squared(t).clamp_min(0).sqrt())


def _turn(schedule: AffineSchedule, t: Tensor) -> Tensor:
    """θ̇ = (β̇ α² − ½ (α²)˙ β)/(α (α² + β²)); α̇ itself may be infinite at t = 1."""
    square, beta = schedule.alpha_squared(t), schedule.beta(t)
    top = schedule.beta.rate(t) * square - 0.5 * schedule.alpha_squared.rate(t) * beta
    return top / (square.sqrt() * (square + beta**2))


def matching_clock(source: AffineSchedule, target: AffineSchedule) -> tuple[Scalar, Scalar]:
    """The clock τ and the scale c with c(t) x_{τ(t)} = α' x0 + β' x1 in law.

    Args:
        source: of x_t.
        target: α', β'.

    Returns:
        τ and c, functions of times in [0, 1). At t = 1 their rates may be infinite or 0/0.

    Raises:
        DomainError: γ ≠ 0 in one of them, or β/α does not increase.

    Example:
        >>> from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule
        >>> clock, scale = matching_clock(linear_schedule(), trigonometric_schedule())
        >>> t = torch.tensor([0.5], dtype=torch.float64)
        >>> clock(t), scale(t)  # sin = cos at ½, and (½, ½) has the norm 1/√2
        (tensor([0.5000], dtype=torch.float64), tensor([1.4142], dtype=torch.float64))
    """
    grid = torch.linspace(0, 1, 201, dtype=torch.float64)
    for schedule in (source, target):
        latent, angles = float(schedule.gamma_squared(grid).abs().max()), _angle(schedule, grid)
        if latent > 0:
            got = f"γ² up to {latent:g}"
            raise DomainError("matching_clock", "schedules of one noise have γ = 0.", got=got)
        if float(angles.diff().min()) <= 0:
            raise DomainError("matching_clock", "β/α increases with time.", got="it falls")
    clock = _Clock(source, target)
    tau = Scalar(clock.value, clock.rate)

    def norm(schedule: AffineSchedule, t: Tensor) -> Tensor:
        return (schedule.alpha_squared(t) + schedule.beta(t) ** 2).sqrt()

    def norm_rate(schedule: AffineSchedule, t: Tensor) -> Tensor:
        half = 0.5 * schedule.alpha_squared.rate(t) + schedule.beta(t) * schedule.beta.rate(t)
        return half / norm(schedule, t)

    def value(t: Tensor) -> Tensor:
        return norm(target, t) / norm(source, tau(t))

    def rate(t: Tensor) -> Tensor:
        s = tau(t)
        inner, outer = norm(source, s), norm(target, t)
        return norm_rate(target, t) / inner - outer * norm_rate(source, s) * tau.rate(t) / inner**2

    return tau, Scalar(value, rate)


def aligned(expert: Expert, target: AffineSchedule, source: AffineSchedule | None = None) -> Expert:
    """An expert of one schedule as an expert of another: the same data, another road to them.

    A `Reward` has no schedule and stays as it is.

    Args:
        expert: of x_t = α x0 + β x1 with x0 ~ N(0, I).
        target: the schedule that it gets.
        source: its schedule; the one that it states (``affine``) if None.

    Raises:
        CapabilityError: the expert states none, and none is given.
        DomainError: γ ≠ 0, or β/α does not increase.

    Example:
        >>> from genpath_compose.components import boxes
        >>> from genpath_interpolants.schedules import trigonometric_schedule
        >>> linear = boxes([[-1.0]], [[1.0]], None, "linear")
        >>> found = aligned(linear, trigonometric_schedule())
        >>> other = boxes([[-1.0]], [[1.0]], None, "trigonometric")
        >>> t, x = torch.tensor([0.3]), torch.tensor([[0.8]])
        >>> found.velocity(t, x), other.velocity(t, x)
        (tensor([[-0.3840]]), tensor([[-0.3840]]))
    """
    if isinstance(expert, Reward) or source is target:
        return expert
    own = expert.affine if source is None else source
    if own is None:
        raise CapabilityError(
            f"expert {expert.name}",
            "an expert is aligned from a schedule that is known.",
            got="no affine schedule from N(0, I)",
            fix="pass source=…, if its law is that of α x0 + β x1 with x0 ~ N(0, I)",
        )
    if own is target:
        return expert
    clock, scale = matching_clock(own, target)
    return Rescaled(Reparameterised(expert, clock), scale, target)


def align(composition: Composition, target: AffineSchedule) -> Composition:
    """A composition with all its experts on one schedule, exponents and coordinates as they were.

    It exists where the exponents that see a coordinate have a positive sum, and ends in the same
    law: all that it changes is the way there.

    Raises:
        CapabilityError: an expert whose schedule is not known.

    Example:
        >>> from genpath_compose.certificates import certify
        >>> from genpath_compose.components import boxes
        >>> from genpath_interpolants.schedules import linear_schedule
        >>> a, b = (boxes([[-1.0]], [[1.0]], None, s) for s in ("trigonometric", "linear"))
        >>> certify(a / b**0.7).status, certify(align(a / b**0.7, linear_schedule())).status
        ('collapses', 'exists')
    """
    terms = tuple(replace(t, expert=aligned(t.expert, target)) for t in composition.terms)
    return replace(composition, terms=terms)
