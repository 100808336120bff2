r"""Supports: where the laws of data can be positive, and whether a ratio of them is a law.

    supp Π_{γ>0} q_1^{(i)} ⊂ supp Π_{γ<0} q_1^{(i)}        (up to volume 0)

or else the target at t = 1 divides by zero on a set that its numerator charges (course, L8.4). An
expert's ``support`` is a predicate on points. For unions of axis-aligned boxes inclusion is
decided: their faces cut space into cells, each wholly inside or outside of every box. For other
predicates points are tried: a counterexample decides, none found does not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genpath.errors import ShapeError

from .compositions import Composition, Term
from .lifted import Lifted

__all__ = ["Boxes", "Everything", "Inclusion", "check_supports"]

CELLS = 200_000
"""More cells than this, and points are tried in place of cells."""


@dataclass(frozen=True)
class Everything:
    """The support of a law that is positive everywhere.

    Example:
        >>> Everything()(torch.zeros(2, 3))
        tensor([True, True])
    """

    def __call__(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)


@dataclass(frozen=True)
class Boxes:
    """The union of the boxes Π_i [l_ki, u_ki].

    Args:
        lower, upper: corners ``(k, d)``, lower < upper; infinite ones are allowed.

    Raises:
        ShapeError: the two are not of one shape ``(k, d)``, or a box is empty.

    Example:
        >>> Boxes(torch.tensor([[0.0]]), torch.tensor([[0.5]]))(torch.tensor([[0.2], [0.7]]))
        tensor([ True, False])
    """

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        alike = self.lower.shape == self.upper.shape and self.lower.dim() == 2
        if not alike or not bool((self.lower < self.upper).all()):
            got = f"lower {tuple(self.lower.shape)}, upper {tuple(self.upper.shape)}"
            raise ShapeError("Boxes", "corners are (boxes, d), lower below upper.", got=got)

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.reshape(len(x), 1, -1)
        inside = (flat >= self.lower.to(flat)) & (flat <= self.upper.to(flat))
        return inside.all(2).any(1)


Support = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Inclusion:
    """Whether the numerators' supports lie in the denominators'.

    Args:
        status: "included", "violated" or "undecided".
        words: why, in one sentence.
        point: a point in the numerators' supports and outside a denominator's, or None.
    """

    status: Literal["included", "violated", "undecided"]
    words: str
    point: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Cylinder:
    """A support on some coordinates: of which expert, and what is known of it."""

    name: str
    support: Support | None
    coordinates: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        assert self.support is not None
        return self.support(x[:, list(self.coordinates)])


def check_supports(
    composition: Composition, t: float = 1.0, points: Tensor | None = None, count: int = 20_000
) -> Inclusion:
    """Whether the target of a composition divides by zero where its numerator is positive.

    Args:
        composition: its experts' ``support`` are looked at; those without count as unknown.
        t: when the signs of the exponents are read.
        points: candidates ``(n, d)`` to try where the supports are not all boxes; drawn from the
            boxes there are if None.
        count: how many to draw.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> def uniform(name, end):
        ...     box = Boxes(torch.tensor([[0.0]]), torch.tensor([[end]]))
        ...     return FieldExpert(lambda t, x: (x, x), (1,), name, support=box)
        >>> check_supports(uniform("a", 1.0) / uniform("b", 0.5)).status
        'violated'
        >>> check_supports(uniform("a", 1.0) / uniform("b", 2.0)).status
        'included'
    """
    size = math.prod(composition.event_shape)
    powers = composition.powers(t)
    known = [_cylinder(term, size) for term in composition.terms]
    over = [c for c, g in zip(known, powers, strict=True) if g > 0]
    under = [c for c, g in zip(known, powers, strict=True) if g < 0]
    under = [c for c in under if not isinstance(c.support, Everything)]
    if not under:
        return Inclusion("included", "no denominator vanishes anywhere.")
    lost = [c.name for c in under if c.support is None]
    if lost:
        return Inclusion("undecided", f"the support of {', '.join(lost)} is not known.")
    unknown = [c.name for c in over if c.support is None]
    told = [c for c in over if c.support is not None]
    boxes = all(isinstance(c.support, (Boxes, Everything)) for c in told + under)
    if boxes and not unknown:
        cells = _cells([c for c in told + under if isinstance(c.support, Boxes)], size)
        if cells is not None:
            return _decided(cells, told, under)
    return _tried(told, under, unknown, size, points, count)


def _cylinder(term: Term, size: int) -> Cylinder:
    expert, index = term.expert, term.coordinates
    while isinstance(expert, Lifted):
        index = expert.coordinates if index is None else tuple(index[k] for k in expert.coordinates)
        expert = expert.expert
    return Cylinder(term.expert.name, expert.support, index or tuple(range(size)))


def _cells(cylinders: Sequence[Cylinder], size: int) -> Tensor | None:
    """One point inside each cell that the faces of boxes cut; None if there are too many."""
    faces: list[set[float]] = [set() for _ in range(size)]
    for c in cylinders:
        assert isinstance(c.support, Boxes)
        for axis, k in enumerate(c.coordinates):
            both = torch.cat([c.support.lower[:, axis], c.support.upper[:, axis]])
            faces[k] |= {float(v) for v in both if math.isfinite(float(v))}
    if math.prod(len(f) + 1 for f in faces) > CELLS:
        return None
    marks = []
    for found in faces:
        edges = sorted(found)
        between = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
        marks.append([edges[0] - 1, *between, edges[-1] + 1] if edges else [0.0])
    return torch.cartesian_prod(*(torch.tensor(m, dtype=torch.float64) for m in marks)).reshape(
        -1, size
    )


def _decided(cells: Tensor, over: Sequence[Cylinder], under: Sequence[Cylinder]) -> Inclusion:
    found = _first_outside(cells, over, under)
    if found is None:
        return Inclusion("included", "the numerators' boxes lie in the denominators'.")
    return found


def _tried(
    over: Sequence[Cylinder],
    under: Sequence[Cylinder],
    unknown: Sequence[str],
    size: int,
    points: Tensor | None,
    count: int,
) -> Inclusion:
    if unknown:
        return Inclusion("undecided", f"the support of {', '.join(unknown)} is not known.")
    tried = _draws(over, size, count) if points is None else points.reshape(len(points), -1)
    if tried is None:
        return Inclusion("undecided", "no numerator has bounded boxes to draw points from.")
    inside = torch.stack([c(tried) for c in over]).all(0) if over else torch.ones(len(tried)) > 0
    found = _first_outside(tried, over, under)
    words = f"none of {int(inside.sum())} points of the numerators' support is outside."
    return Inclusion("undecided", words) if found is None else found


def _draws(over: Sequence[Cylinder], size: int, count: int) -> Tensor | None:
    """Points of boxes of the numerators, in every coordinate."""
    rng = torch.Generator().manual_seed(0)
    drawn = torch.full((count, size), math.nan, dtype=torch.float64)
    for c in over:
        if not isinstance(c.support, Boxes):
            continue
        low, high = c.support.lower.double(), c.support.upper.double()
        box = torch.randint(len(low), (count,), generator=rng)
        share = torch.rand(count, low.shape[1], generator=rng, dtype=torch.float64)
        drawn[:, list(c.coordinates)] = low[box] + share * (high - low)[box]
    return drawn if bool(drawn.isfinite().all()) else None


def _first_outside(
    points: Tensor, over: Sequence[Cylinder], under: Sequence[Cylinder]
) -> Inclusion | None:
    inside = torch.ones(len(points), dtype=torch.bool)
    for c in over:
        inside &= c(points)
    for c in under:
        bad = (inside & ~c(points)).nonzero()
        if len(bad):
            point = tuple(float(v) for v in points[int(bad[0])])
            where = ", ".join(f"{v:g}" for v in point[:6])
            words = f"the numerators are positive at ({where}), where {c.name} is 0."
            return Inclusion("violated", words, point)
    return None
