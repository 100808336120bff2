r"""Geodesic paths: from x0 to x1 along the shortest curve, on any smooth space.

    x_t = exp_{x1}((1 − κ(t)) log_{x1} x0),     κ(0) = 0, κ(1) = 1
    u_t(x | x1) = κ̇/(1 − κ) log_x(x1)

(Chen & Lipman 2023, arXiv 2302.03660, eq. 13 with the geodesic premetric and κ_there = 1 − κ;
semester II, R.16). Along the curve the speed is κ̇ d(x0, x1): the regression target is computed as

    u = κ̇ · (d/dκ) x_t = κ̇ · displacement

by differentiating the curve (or by the space's ``geodesic_velocity``, where it has one), so nothing
is divided by 1 − κ and the target is exact up to t = 1.
The *displacement* is log_{x0} x1, transported to x_t; on R^d it is x1 − x0. A network that predicts
the displacement has targets of the same size at all times, whatever the schedule; the schedule then
says where on the curve training and solving spend their effort (`late`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.generators import MarkovGenerator, flow
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule
from genpath.schedules import KeepSchedule, Scalar, linear_keep
from genpath.spaces import SmoothSpace, as_smooth
from genpath.states import map_state, per_row, row_times

__all__ = ["GeodesicPath", "late"]


@dataclass(frozen=True)
class GeodesicPath:
    """The geodesic path of a smooth space: the component ``path.manifold.geodesic``.

    Predictions are ``displacement`` and ``velocity`` = κ̇ · displacement, both tangents at x_t. For
    antipodal endpoints, which have probability 0 when the base has a density, the curve is the one
    that the space's ``log`` chooses.

    Args:
        state_space: a smooth space: a sphere, R^d, or a product of such.
        schedule: κ; linear by default.

    Raises:
        CapabilityError: the space has no tangents.

    Example:
        >>> from genpath_manifold import Sphere
        >>> path = GeodesicPath(Sphere(2))
        >>> x0, x1 = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> draw = path.draw(torch.tensor([1.0]), x0, x1, torch.Generator())
        >>> path.target("velocity", draw).norm(dim=-1)  # the speed is the distance
        tensor([1.5708])
    """

    state_space: SmoothSpace
    schedule: KeepSchedule = field(default_factory=linear_keep)

    def __post_init__(self) -> None:
        as_smooth(self.state_space, "GeodesicPath")

    @property
    def space(self) -> SmoothSpace:
        """Where x_t lives: the space of the endpoints."""
        return self.state_space

    @property
    def predictions(self) -> Mapping[str, Prediction]:
        shape = self.state_space.event_shape
        return {
            "velocity": Prediction("velocity", shape, True, "E[κ̇ dx_t/dκ | x_t = x]"),
            "displacement": Prediction("displacement", shape, True, "E[dx_t/dκ | x_t = x]"),
        }

    @property
    def rules(self) -> tuple[Rule, ...]:
        """velocity = κ̇ · displacement; not the other way, where κ̇ may vanish."""

        def velocity(t: Tensor, x: Any, displacement: Any) -> Any:
            rate = self.schedule.kappa.rate(t)
            return map_state(lambda leaf: per_row(rate, leaf) * leaf, displacement)

        return (Rule("velocity", ("displacement",), velocity),)

    def draw(self, t: Tensor | float, x0: Any, x1: Any, rng: torch.Generator) -> Draw:
        """x_t on the geodesic; nothing is random given the endpoints."""
        t = row_times(t, x1, "GeodesicPath.draw")
        remaining = 1 - self.schedule.kappa(t)
        back = self.state_space.log(x1, x0)
        state = self.state_space.step(
            x1, map_state(lambda leaf: per_row(remaining, leaf) * leaf, back)
        )
        return Draw(t, state, x0, x1)

    def target(self, name: str, draw: Draw) -> Any:
        """The displacement at x_t, or κ̇ times it; exact at both ends."""
        displacement = self._displacement(draw.t, draw.x0, draw.x1)
        if name == "displacement":
            return displacement
        rate = self.schedule.kappa.rate(draw.t)
        return map_state(lambda leaf: per_row(rate, leaf) * leaf, displacement)

    def conditional_generator(self, x0: Any, x1: Any) -> MarkovGenerator:
        """The flow κ̇/(1 − κ) log_x(x1), for fixed endpoints, as a field of x.

        Where κ = 1 the field has no value off x1, and at x1 it is 0/0; the value given there is its
        limit along the curve from ``x0``, κ̇ · displacement.
        """
        space, schedule = self.state_space, self.schedule

        def velocity(t: Tensor, x: Any) -> Any:
            remaining, rate = 1 - schedule.kappa(t), schedule.kappa.rate(t)
            before = remaining > 0
            hazard = rate / torch.where(before, remaining, 1)
            limit = self._displacement(torch.ones_like(t), x0, x1)

            def leaf(towards: Tensor, end: Tensor) -> Tensor:
                inside = per_row(hazard, towards) * towards
                return torch.where(per_row(before, end), inside, per_row(rate, end) * end)  # type: ignore[arg-type]

            return map_state(leaf, space.log(x, x1), limit)

        return flow(space, velocity)

    def _displacement(self, t: Tensor, x0: Any, x1: Any) -> Any:
        remaining = 1 - self.schedule.kappa(t)
        back = self.state_space.log(x1, x0)
        closed = getattr(self.state_space, "geodesic_velocity", None)
        if closed is not None:
            return -closed(x1, back, remaining)

        def curve(r: Tensor) -> Any:
            return self.state_space.step(x1, map_state(lambda leaf: per_row(r, leaf) * leaf, back))

        return torch.func.jvp(curve, (remaining,), (-torch.ones_like(remaining),))[1]


def late(epsilon: float = 0.02) -> KeepSchedule:
    r"""1 − κ(t) = ε ((1 + 1/ε)^{1−t} − 1): the component ``schedule.manifold.late``.

    log(1 − κ + ε) is linear in t, so equal steps of t are equal ratios of the distance to go, down
    to a fraction ε of it: training and solver spend their effort where data have fine detail.

    Args:
        epsilon: ε > 0; linear as ε → ∞.

    Raises:
        DomainError: ε is not positive.

    Example:
        >>> late(0.02).kappa(torch.tensor([0.0, 0.5, 1.0])).abs()
        tensor([0.0000, 0.8772, 1.0000])
    """
    if not epsilon > 0:
        raise DomainError("schedule.manifold.late", "ε is positive.", got=f"epsilon {epsilon:g}")
    rate = math.log1p(1 / epsilon)
    return KeepSchedule(
        Scalar(
            lambda t: 1 - epsilon * torch.expm1(rate * (1 - t)),
            lambda t: epsilon * rate * torch.exp(rate * (1 - t)),
        )
    )
