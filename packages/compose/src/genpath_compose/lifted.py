r"""Experts seen otherwise: on some coordinates of a larger state, or run by another clock.

    q̃_t(x) = q_t(x_I)      score and velocity 0 outside I, divergences those of q
    q_{τ(t)}               velocity τ̇ v_{τ(t)}

(Course, L8.2 and L8.26.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError
from genpath.schedules import Scalar
from genpath.states import per_row

from .experts import Expert
from .normals import Normal
from .tails import Tail

__all__ = ["Lifted", "Reparameterised"]


@dataclass(frozen=True, eq=False)
class Seen(Expert):
    """An expert through which another is seen: it has the other's name, points, fields and support.

    Args:
        expert: the other.
    """

    expert: Expert

    def named(self, name: str) -> Expert:
        return replace(self, expert=self.expert.named(name))

    @property
    def name(self) -> str:  # type: ignore[override]
        """The expert's name."""
        return self.expert.name

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The expert's."""
        return self.expert.event_shape

    @property
    def has(self) -> frozenset[str]:  # type: ignore[override]
        """What the expert has."""
        return self.expert.has

    @property
    def support(self) -> Callable[[Tensor], Tensor] | None:  # type: ignore[override]
        """The expert's."""
        return self.expert.support


@dataclass(frozen=True, eq=False)
class Lifted(Seen):
    """An expert on some coordinates of a larger space: q̃(x) = q(x_I).

    Score and velocity are 0 outside I, divergences are those of the expert (course, L8.2).

    Args:
        expert: on R^k, points of shape ``(k,)``.
        coordinates: I, k different indices.
        size: d of the larger space.

    Raises:
        ShapeError: the expert's points are no vectors of length k.
        DomainError: an index twice, or outside 0 … d − 1.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> inner = FieldExpert(lambda t, x: (x, -x), (1,), "a")
        >>> Lifted(inner, (1,), 2).score(torch.zeros(1), torch.tensor([[5.0, 3.0]]))
        tensor([[ 0., -3.]])
    """

    coordinates: tuple[int, ...]
    size: int
    tail: Tail | None = field(init=False)
    start: Normal | None = field(init=False)

    def __post_init__(self) -> None:
        where, index = f"expert {self.expert.name}", tuple(self.coordinates)
        if self.expert.event_shape != (len(index),):
            raise ShapeError(
                where,
                "coordinates name one axis of the state for each axis of the expert.",
                got=f"points {self.expert.event_shape}, coordinates {index}",
            )
        if len(set(index)) < len(index) or not all(0 <= k < self.size for k in index):
            raise DomainError(
                where,
                f"coordinates are different indices below {self.size}.",
                got=str(index),
                fix="give the composition a larger size, or correct the indices",
            )
        for name in ("tail", "start", "times", "affine"):
            object.__setattr__(self, name, getattr(self.expert, name))

    @property
    def name(self) -> str:  # type: ignore[override]
        """The expert's name with its coordinates."""
        return f"{self.expert.name}[{', '.join(map(str, self.coordinates))}]"

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """``(d,)``."""
        return (self.size,)

    @property
    def support(self) -> Callable[[Tensor], Tensor] | None:  # type: ignore[override]
        """The cylinder over the expert's support."""
        inner = self.expert.support
        return None if inner is None else lambda x: inner(x[:, list(self.coordinates)])

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        index = list(self.coordinates)
        part = None if probe is None else probe[:, index]
        found = self.expert.fields(names, t, x[:, index], part)
        return {name: self._embedded(value, x) for name, value in found.items()}

    def _embedded(self, value: Tensor, x: Tensor) -> Tensor:
        if value.dim() == 1:
            return value
        if list(self.coordinates) == list(range(self.size)):
            return value
        whole = value.new_zeros(len(value), self.size)
        whole[:, list(self.coordinates)] = value
        return whole


@dataclass(frozen=True, eq=False)
class Reparameterised(Seen):
    """An expert run by another clock: q_{τ(t)}, with velocity τ̇ v_{τ(t)} (course, L8.26).

    Aligning the clocks of two experts does not make a composition exist: their noise levels at a
    time may agree, their exponents still decide.

    Args:
        expert: any.
        clock: τ, increasing, from [0, 1] to [0, 1].

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> inner = FieldExpert(lambda t, x: (t[:, None] + 0 * x, -x), (1,), "a")
        >>> slow = Reparameterised(inner, Scalar(lambda t: t * t))
        >>> slow.velocity(torch.tensor([0.5]), torch.zeros(1, 1))  # 2t · t²
        tensor([[0.2500]])
    """

    clock: Scalar
    tail: Tail | None = field(init=False)
    start: Normal | None = field(init=False)

    def __post_init__(self) -> None:
        ends = self.clock(torch.tensor([0.0, 1.0], dtype=torch.float64))
        grid = self.clock(torch.linspace(0, 1, 101, dtype=torch.float64))
        low, high = self.expert.times
        if float(grid.diff().min()) < 0 or float(ends[0]) < low or float(ends[1]) > high + 1e-9:
            raise DomainError(
                f"expert {self.expert.name}",
                f"a clock increases, within the times [{low:g}, {high:g}] of its expert.",
                got=f"from {float(ends[0]):g} to {float(ends[1]):g}",
            )
        tail, clock = self.expert.tail, self.clock
        if tail is not None:
            inner, linear = tail.precisions, tail.linear
            tail = Tail(
                lambda t: inner(clock(t)),
                None if linear is None else lambda t: linear(clock(t)),
            )
        object.__setattr__(self, "tail", tail)
        start = self.expert.start if float(ends[0]) == 0 else None
        object.__setattr__(self, "start", start)

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        rate = self.clock.rate(t)
        found = dict(self.expert.fields(names, self.clock(t), x, probe))
        for name in ("velocity", "velocity_divergence"):
            if name in found:
                found[name] = per_row(rate, found[name]) * found[name]
        return found
