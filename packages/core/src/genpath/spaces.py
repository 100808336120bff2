r"""Spaces: where a state lives.

A `Space` says which points belong to it, returns a point to it, and measures distances. A
`SmoothSpace` also has tangents, and one rule to move along them:

    x ← step(x, v)         addition on R^d, the exponential map on a manifold

Everything that a sampler or a generator does on a smooth space is written with `step`, so the same
code serves R^d, the sphere and their products. Derivatives come from it too:

    (u·∇f)(x) = d/dh f(step(x, h u)) |₀        Hess f(v, v) = d²/dh² f(step(x, h v)) |₀

so ``step`` must be twice differentiable in ``v`` at 0. Points and tangents are *ambient* arrays.
A `FiniteSpace` can list the neighbours of a point. A `Product` has a dict of factors; leaves of a
state that it does not name are facts, which nothing moves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from .errors import CapabilityError, ShapeError
from .states import State, batch_size, describe

__all__ = ["Euclidean", "FiniteSpace", "Product", "SmoothSpace", "Space", "as_smooth", "is_smooth"]


@runtime_checkable
class Space(Protocol):
    """Where a state lives: membership, projection and distance.

    ``event_shape`` is the shape of one point (for a `Product`, a dict of shapes).
    """

    @property
    def event_shape(self) -> Any: ...

    def contains(self, x: Any, tolerance: float = 1e-4) -> Tensor:
        """Whether each row is a point of the space: bool ``(batch,)``."""
        ...

    def project(self, x: Any) -> Any:
        """The nearest point of the space (identity on points of it)."""
        ...

    def distance(self, x: Any, y: Any) -> Tensor:
        """The distance of each pair of rows: ``(batch,)``."""
        ...


@runtime_checkable
class SmoothSpace(Space, Protocol):
    """A space with tangents: R^d, a manifold, or a product of them.

    ``dimension`` is the number of directions at a point; tangents are ambient arrays.
    """

    @property
    def dimension(self) -> int: ...

    def project_tangent(self, x: Any, v: Any) -> Any:
        """The tangent at ``x`` that is nearest to the ambient array ``v``."""
        ...

    def inner(self, x: Any, u: Any, v: Any) -> Tensor:
        """The inner product ⟨u, v⟩ at ``x``: ``(batch,)``."""
        ...

    def step(self, x: Any, v: Any) -> Any:
        """The point reached from ``x`` along the tangent ``v``: the exponential map."""
        ...

    def log(self, x: Any, y: Any) -> Any:
        """The tangent ``v`` at ``x`` with ``step(x, v) = y``, shortest where there are several."""
        ...

    def tangent_noise(self, x: Any, rng: torch.Generator) -> Any:
        """A standard normal tangent: variance 1 in each orthonormal direction."""
        ...

    def tangent_basis(self, x: Any) -> Any:
        """An orthonormal basis of the tangents: ``(dimension, batch, *event)``."""
        ...


@runtime_checkable
class FiniteSpace(Space, Protocol):
    """A space whose points change one site at a time among finitely many letters."""

    def neighbours(self, x: Tensor) -> Tensor:
        """All states that differ from ``x`` in one site: ``(count, batch, *event)``."""
        ...


def is_smooth(space: Space) -> TypeGuard[SmoothSpace]:
    """Whether a space has tangents: ``isinstance(space, SmoothSpace)``, remembered by class.

    The check of a protocol looks at every member anew and costs 25 µs; samplers and objectives ask
    at every call.

    Example:
        >>> is_smooth(Euclidean(2))
        True
    """
    return _has_all_members(type(space)) or isinstance(space, SmoothSpace)


@cache
def _has_all_members(kind: type) -> bool:
    members = [name for name in dir(SmoothSpace) if not name.startswith("_")]
    return all(hasattr(kind, name) for name in members)


def as_smooth(space: Space, where: str) -> SmoothSpace:
    """The space as a smooth one, or an error that names who needed it.

    Raises:
        CapabilityError: the space has no tangents.

    Example:
        >>> as_smooth(Euclidean(2), "drift").tangent_basis(torch.zeros(5, 2)).shape
        torch.Size([2, 5, 2])
    """
    if is_smooth(space):
        return space
    raise CapabilityError(
        where,
        "it moves along tangents, so it needs a smooth space.",
        got=f"{type(space).__name__}, which has none",
        fix="use a jump part on this space, or a smooth factor of a Product",
    )


def _sum_event(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1) if x.dim() > 1 else x


@dataclass(frozen=True)
class Euclidean:
    """R^d with points of any shape; ``step`` is addition.

    Args:
        *event_shape: the shape of one point; ``Euclidean()`` is the real line, one number a row.

    Example:
        >>> plane = Euclidean(2)
        >>> plane.step(torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    event_shape: tuple[int, ...] = field(default=())

    def __init__(self, *event_shape: int) -> None:
        object.__setattr__(self, "event_shape", tuple(event_shape))

    @property
    def dimension(self) -> int:
        return math.prod(self.event_shape)

    def contains(self, x: Tensor, tolerance: float = 1e-4) -> Tensor:
        self.check(x, "Euclidean.contains")
        return torch.isfinite(x).flatten(1).all(1) if x.dim() > 1 else torch.isfinite(x)

    def project(self, x: Tensor) -> Tensor:
        return x

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        return _sum_event((x - y) ** 2).sqrt()

    def project_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return _sum_event(u * v)

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x

    def tangent_noise(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=rng)

    def tangent_basis(self, x: Tensor) -> Tensor:
        eye = torch.eye(self.dimension, dtype=x.dtype, device=x.device)
        shape = (self.dimension, 1, *self.event_shape)
        return eye.reshape(shape).expand(self.dimension, x.shape[0], *self.event_shape)

    def check(self, x: Tensor, where: str) -> None:
        """Refuse a batch whose event shape is not the space's."""
        if tuple(x.shape[1:]) != self.event_shape or x.dim() == 0:
            raise ShapeError(
                where,
                f"a batch of points has shape (batch, {', '.join(map(str, self.event_shape))}).",
                got=str(tuple(x.shape)),
                fix="add the batch axis, or build the space for this shape",
            )

    def __repr__(self) -> str:
        return f"Euclidean({', '.join(map(str, self.event_shape))})"


@dataclass(frozen=True)
class Product:
    """A product of spaces: a state is a dict with one leaf per factor, and facts.

    Tangents are dicts over smooth factors; an operation acts on the leaves that the tangent has,
    and passes every other leaf on. Squared distances add over factors.

    Args:
        factors: name → space. Leaves of a state with other names are facts of their row.

    Example:
        >>> space = Product({"x": Euclidean(2), "y": Euclidean()})
        >>> space.step({"x": torch.zeros(1, 2), "y": torch.ones(1)}, {"y": torch.ones(1)})
        {'x': tensor([[0., 0.]]), 'y': tensor([2.])}
    """

    factors: Mapping[str, Space]

    def __post_init__(self) -> None:
        nested = [n for n, s in self.factors.items() if isinstance(s, Product)]
        if nested:
            raise CapabilityError(
                "Product",
                "factors are not products themselves; a product is flat.",
                got=f"Product at {', '.join(nested)}",
                fix="name the inner factors beside the others",
            )

    @property
    def event_shape(self) -> dict[str, Any]:
        return {name: space.event_shape for name, space in self.factors.items()}

    @property
    def smooth(self) -> dict[str, SmoothSpace]:
        """The factors that have tangents."""
        return {n: s for n, s in self.factors.items() if isinstance(s, SmoothSpace)}

    @property
    def dimension(self) -> int:
        return sum(s.dimension for s in self.smooth.values())

    def contains(self, x: Mapping[str, Tensor], tolerance: float = 1e-4) -> Tensor:
        self.check(x, "Product.contains")
        inside = [s.contains(x[n], tolerance) for n, s in self.factors.items()]
        return torch.stack(inside).all(0)

    def project(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**x, **{n: s.project(x[n]) for n, s in self.factors.items()}}

    def distance(self, x: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Tensor:
        squares = [s.distance(x[n], y[n]) ** 2 for n, s in self.factors.items()]
        return torch.stack(squares).sum(0).sqrt()

    def project_tangent(
        self, x: Mapping[str, Tensor], v: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        smooth = self.smooth
        return {n: smooth[n].project_tangent(x[n], leaf) for n, leaf in v.items()}

    def inner(
        self, x: Mapping[str, Tensor], u: Mapping[str, Tensor], v: Mapping[str, Tensor]
    ) -> Tensor:
        smooth, total = self.smooth, None
        for name in u:
            if name in v:
                term = smooth[name].inner(x[name], u[name], v[name])
                total = term if total is None else total + term
        return x[next(iter(x))].new_zeros(batch_size(x)) if total is None else total

    def step(self, x: Mapping[str, Tensor], v: Mapping[str, Tensor]) -> dict[str, Tensor]:
        smooth = self.smooth
        return {**x, **{n: smooth[n].step(x[n], leaf) for n, leaf in v.items()}}

    def log(self, x: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: s.log(x[n], y[n]) for n, s in self.smooth.items()}

    def tangent_noise(self, x: Mapping[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        return {n: s.tangent_noise(x[n], rng) for n, s in self.smooth.items()}

    def tangent_basis(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        blocks = {n: s.tangent_basis(x[n]) for n, s in self.smooth.items()}
        total, start, basis = self.dimension, 0, {}
        for name, block in blocks.items():
            full = block.new_zeros(total, *block.shape[1:])
            full[start : start + block.shape[0]] = block
            basis[name], start = full, start + block.shape[0]
        return basis

    def neighbours(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All states that differ in one site of one finite factor, all leaves stacked first."""
        moved = {
            n: s.neighbours(x[n]) for n, s in self.factors.items() if isinstance(s, FiniteSpace)
        }
        stacked: dict[str, list[Tensor]] = {name: [] for name in x}
        for name, states in moved.items():
            for leaf in x:
                same = x[leaf].expand(states.shape[0], *x[leaf].shape)
                stacked[leaf].append(states if leaf == name else same)
        return {name: torch.cat(parts) for name, parts in stacked.items()}

    def check(self, x: State, where: str) -> None:
        """Refuse a state without a leaf for each factor."""
        missing = [] if isinstance(x, Mapping) else list(self.factors)
        missing = missing or [n for n in self.factors if n not in x]
        if missing:
            raise ShapeError(
                where,
                f"a state of this product is a dict with leaves {', '.join(self.factors)}.",
                got=describe(x),
                fix=f"add the missing leaves: {', '.join(missing)}",
            )
        batch_size(x)
