r"""Paths through a Gaussianising map: mix normal points, then map them to the data.

    x_t = T(t, y_t),  y_t = α ξ0 + β ξ1 + γ z,  ξ0 = T⁻¹(0, x0), ξ1 = T⁻¹(1, x1),  α² + β² + γ² = 1

Where T(t, ·) is invertible and carries N(0, I) to ρ(t), and x0, x1 are independent, x_t ~ ρ(t) and
the ends are exact: any path of laws that a map is known for is a path of an interpolant (Albergo,
Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 3.4). The velocity's target is
ẋ_t = ∂_t T + ∇T ẏ_t. Since (y_t, ẏ_t) are then uncorrelated normal vectors, E[ẋ_t | x_t = x] =
∂_t T(t, T⁻¹(t, x)), the flow of T itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator, flow
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean, Space

from .endpoints import MEANINGS, paired_times
from .paths import LinearPath
from .schedules import is_covariance_preserving, linear_schedule

__all__ = ["GaussianisedPath"]

TimedMap = Callable[[Tensor, Tensor], Tensor]
"""``T(t, y)``: t ``(batch,)``, points ``(batch, *event)``."""


@dataclass(frozen=True, eq=False)
class GaussianisedPath:
    """x_t = T(t, α ξ0 + β ξ1 + γ z) with ξ_i = T⁻¹(i, x_i).

    Args:
        state_space: a `Euclidean` space.
        forward: T, differentiable; it may be an `nn.Module`.
        inverse: T⁻¹, in the same form.
        schedule: α, β and γ² with α² + β² + γ² = 1; 1 − t, t and 2t(1−t) if None.

    Raises:
        CapabilityError: the space is not Euclidean.
        DomainError: the squares do not add up to 1, or T(i, T⁻¹(i, x)) is not x at an end.

    Example:
        >>> wide = lambda t, y: (1 + t)[:, None] * y  # N(0, 1) to N(0, (1+t)²)
        >>> path = GaussianisedPath(Euclidean(1), wide, lambda t, x: x / (1 + t)[:, None])
        >>> x0, x1 = torch.ones(1, 1), torch.ones(1, 1)
        >>> path.draw(1.0, x0, x1, torch.Generator()).state
        tensor([[1.]])
    """

    state_space: Space
    forward: TimedMap
    inverse: TimedMap
    schedule: AffineSchedule = field(default_factory=lambda: linear_schedule("sqrt", 2.0))

    def __post_init__(self) -> None:
        where = "GaussianisedPath"
        if not isinstance(self.state_space, Euclidean):
            raise CapabilityError(where, "it lives on R^d.", got=repr(self.state_space))
        if not is_covariance_preserving(self.schedule):
            raise DomainError(
                where,
                "α² + β² + γ² = 1, so that the mixed points stay N(0, I).",
                fix="choose linear_schedule('sqrt', 2.0), a rescaled schedule, or γ = 0 with "
                "trigonometric_schedule()",
            )
        x = torch.randn(
            (8, *self.state_space.event_shape), generator=torch.Generator().manual_seed(0)
        )
        for end in (0.0, 1.0):
            t = torch.full((8,), end)
            with torch.no_grad():
                gap = float((self.forward(t, self.inverse(t, x)) - x).abs().max())
            if not gap <= 1e-3:
                raise DomainError(
                    where, f"T(t, T⁻¹(t, x)) = x at t = {end:g}.", got=f"off by up to {gap:.3g}"
                )

    @property
    def space(self) -> Space:
        """Where x_t lives."""
        return self.state_space

    @cached_property
    def mixed(self) -> LinearPath:
        """The path of y_t."""
        return LinearPath(self.state_space, self.schedule)

    @property
    def latent(self) -> bool:
        """Whether γ ≠ 0."""
        return self.mixed.latent

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """Those of the schedule."""
        return self.schedule.breakpoints

    @cached_property
    def predictions(self) -> Mapping[str, Prediction]:
        """The velocity, and the means of both ends."""
        assert isinstance(self.state_space, Euclidean)
        shape = self.state_space.event_shape
        names = ("velocity", "denoiser", "base_denoiser")
        return {name: Prediction(name, shape, *MEANINGS[name]) for name in names}

    @property
    def rules(self) -> tuple[Rule, ...]:
        """None: x_t is no sum of its ends."""
        return ()

    def draw(self, t: Tensor | float, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        """x_t for each triple (t, x0, x1).

        Raises:
            ShapeError: x0 and x1 do not pair up, or there is not one time per pair.
            DomainError: integer tensors, or x0 and x1 of two dtypes or devices.
        """
        times = paired_times(self.state_space, t, x0, x1, "GaussianisedPath.draw")
        inner = self.mixed.draw(times, *self._whitened(x0, x1), rng)
        return Draw(times, self.forward(times, inner.state), x0, x1, inner.latent)

    def target(self, name: str, draw: Draw) -> Tensor:
        """ẋ_t, x1 or x0.

        Raises:
            CapabilityError: the path has no such prediction.
        """
        if name == "denoiser":
            return draw.x1  # type: ignore[no-any-return]
        if name == "base_denoiser":
            return draw.x0  # type: ignore[no-any-return]
        if name != "velocity":
            raise CapabilityError(
                "GaussianisedPath.target",
                f"there is no prediction {name!r} for this path.",
                fix="choose one of " + ", ".join(self.predictions),
            )
        y = self.inverse(draw.t, draw.state)
        inner = Draw(draw.t, y, *self._whitened(draw.x0, draw.x1), draw.latent)
        return self._pushed(draw.t, y, self.mixed.target("velocity", inner))

    def conditional_generator(self, x0: Tensor, x1: Tensor) -> MarkovGenerator:
        """The flow that carries the law of T(t, m_t + γ z) for fixed endpoints."""
        inner = self.mixed.conditional_generator(*self._whitened(x0, x1))

        def velocity(t: Tensor, x: Any) -> Tensor:
            y = self.inverse(t, x)
            return self._pushed(t, y, inner.evaluate(t, y).velocity)

        return flow(self.state_space, velocity)

    def map_velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """∂_t T(t, T⁻¹(t, x)): the exact velocity where T(i, ·) carries N(0, I) to both ends and
        x0 and x1 are independent. ``(batch, *event)``.
        """
        y = self.inverse(t, x)
        return self._pushed(t, y, torch.zeros_like(y))

    def _whitened(self, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        start, end = x0.new_zeros(x0.shape[0]), x1.new_ones(x1.shape[0])
        return self.inverse(start, x0), self.inverse(end, x1)

    def _pushed(self, t: Tensor, y: Tensor, rate: Tensor) -> Tensor:
        """∂_t T + ∇T · rate at y."""
        times = t.contiguous()
        found: Tensor = torch.func.jvp(self.forward, (times, y), (torch.ones_like(times), rate))[1]
        return found
