r"""Spaces of letters: points are arrays of indices into a finite alphabet.

    x ∈ {0, …, V − 1}^sites               V real letters
    x ∈ {0, …, V − 1, V}^sites            with a mask: the letter V, which no datum holds

A Markov chain on such a space moves one site at a time, so the neighbours of x are the states that
differ from it in one site: sites · (size − 1) of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError

__all__ = ["Categorical"]


@dataclass(frozen=True)
class Categorical:
    """Arrays of letters, int64; a finite space, and a factor of a product.

    Args:
        letters: V ≥ 1, the number of real letters.
        event_shape: the shape of one point; () is one letter a row.
        mask: whether the letter V, "not known yet", belongs to the space too.

    Raises:
        DomainError: fewer than one letter.

    Example:
        >>> space = Categorical(3, (2,), mask=True)
        >>> space.mask_id, space.size
        (3, 4)
        >>> space.contains(torch.tensor([[0, 3], [0, 4]]))
        tensor([ True, False])
    """

    letters: int
    event_shape: tuple[int, ...] = ()
    mask: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "event_shape", tuple(self.event_shape))
        if self.letters < 1:
            raise DomainError("Categorical", "there is a letter.", got=f"letters {self.letters}")

    @property
    def size(self) -> int:
        """How many values a site can take, the mask counted."""
        return self.letters + self.mask

    @property
    def sites(self) -> int:
        """How many sites a point has."""
        return math.prod(self.event_shape)

    @property
    def mask_id(self) -> int:
        """The index of the mask.

        Raises:
            CapabilityError: the space has none.
        """
        if not self.mask:
            raise CapabilityError(
                "Categorical.mask_id",
                "the space has a mask.",
                got=repr(self),
                fix="use the masked path's own space, or set mask=True",
            )
        return self.letters

    def with_mask(self, mask: bool = True) -> Categorical:
        """The same letters, with or without the mask."""
        return Categorical(self.letters, self.event_shape, mask)

    def contains(self, x: Tensor, tolerance: float = 1e-4) -> Tensor:
        """Whether every site holds an index of the alphabet; floating arrays are no points."""
        self.check(x, "Categorical.contains")
        if x.is_floating_point() or x.dtype == torch.bool:
            return torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
        inside = (x >= 0) & (x < self.size)
        return inside.flatten(1).all(1) if x.dim() > 1 else inside

    def project(self, x: Tensor) -> Tensor:
        """The nearest index at every site: rounded, then clamped to the alphabet."""
        nearest = x.round() if x.is_floating_point() else x
        return nearest.clamp(0, self.size - 1).long()

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The Hamming distance: how many sites differ."""
        differ = (x != y).to(torch.get_default_dtype())
        return differ.flatten(1).sum(1) if differ.dim() > 1 else differ

    def neighbours(self, x: Tensor) -> Tensor:
        """All states that differ from ``x`` in one site: ``(sites · (size − 1), batch, *event)``.

        Example:
            >>> Categorical(3).neighbours(torch.tensor([1]))
            tensor([[2],
                    [0]])
        """
        batch, others = x.shape[0], self.size - 1
        found = x.reshape(1, batch, self.sites).repeat(self.sites * others, 1, 1)
        site = torch.arange(self.sites, device=x.device).repeat_interleave(others)
        shift = torch.arange(1, self.size, device=x.device).repeat(self.sites)
        index = site.reshape(-1, 1, 1).expand(-1, batch, 1)
        moved = (found.gather(2, index) + shift.reshape(-1, 1, 1)) % self.size
        return found.scatter(2, index, moved).reshape(len(site), batch, *self.event_shape)

    def check(self, x: Tensor, where: str) -> None:
        """Refuse a batch whose event shape is not the space's."""
        if x.dim() == 0 or tuple(x.shape[1:]) != self.event_shape:
            raise ShapeError(
                where,
                f"a batch of points has shape (batch, {', '.join(map(str, self.event_shape))}).",
                got=str(tuple(x.shape)),
                fix="add the batch axis, or build the space for this shape",
            )
