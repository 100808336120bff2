r"""Couplings: laws on pairs of endpoints (x0, x1).

Three cases, one obligation, ``pairs(count, rng)``:

    `Independent`   in-batch pairing: x0 from the base, x1 from the data, paired as drawn
    `Stored`        pairs that exist already: paired data, reflow
    `Simulated`     pairs made by a model: x1 from the data, x0 (or the reverse) from a sampler,
                    as in bridge matching

Whatever the pairing, both marginals stay what they are. Facts of a row belong to x1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from .errors import ShapeError
from .laws import Law
from .states import State, batch_size, describe, device_of, gather

__all__ = ["Coupling", "Independent", "Pairs", "Simulated", "Stored"]


@dataclass(frozen=True)
class Pairs:
    """Endpoint pairs: row i of ``x0`` goes with row i of ``x1``, each ``(batch, *event)``.

    Example:
        >>> pairs = Pairs(torch.zeros(3, 2), torch.ones(3, 2))
        >>> (pairs.x1 - pairs.x0).shape
        torch.Size([3, 2])
    """

    x0: State
    x1: State


@runtime_checkable
class Coupling(Protocol):
    """A law on pairs of endpoints."""

    def pairs(self, count: int, rng: torch.Generator) -> Pairs:
        """``count`` pairs."""
        ...


@dataclass(frozen=True)
class Independent:
    """ρ0 × ρ1: base and data drawn apart.

    Example:
        >>> from genpath.laws import Gaussian
        >>> pairs = Independent(Gaussian((2,)), Gaussian((2,))).pairs(3, torch.Generator())
        >>> pairs.x0.shape
        torch.Size([3, 2])
    """

    base: Law
    data: Law

    def pairs(self, count: int, rng: torch.Generator) -> Pairs:
        x1 = self.data.sample(count, rng)
        return Pairs(self.base.sample(count, rng), x1)


@dataclass(frozen=True)
class Stored:
    """Stored pairs ``(rows, *event)``, drawn with replacement.

    Raises:
        ShapeError: the two sides have different numbers of rows.

    Example:
        >>> stored = Stored(torch.tensor([0.0, 1.0]), torch.tensor([10.0, 11.0]))
        >>> pairs = stored.pairs(4, torch.Generator().manual_seed(0))
        >>> pairs.x1 - pairs.x0  # each x0 comes with its own x1
        tensor([10., 10., 10., 10.])
    """

    x0: State
    x1: State

    def __post_init__(self) -> None:
        if batch_size(self.x0) != batch_size(self.x1):
            raise ShapeError(
                "Stored",
                "pairs have as many x0 as x1.",
                got=f"x0 {describe(self.x0)}, x1 {describe(self.x1)}",
            )

    def pairs(self, count: int, rng: torch.Generator) -> Pairs:
        index = torch.randint(batch_size(self.x0), (count,), generator=rng, device=rng.device)
        index = index.to(device_of(self.x0))
        return Pairs(gather(self.x0, index), gather(self.x1, index))


@dataclass(frozen=True)
class Simulated:
    """Pairs (x, simulate(x)) made by a model from draws of a law.

    Args:
        start: the law of the end that is drawn.
        simulate: ``simulate(state, rng) -> state`` runs the model to the other end.
        start_is_base: whether the drawn end is x0 (else x1).

    The simulated end is detached: the coupling is data for the next model.

    Example:
        >>> from genpath.laws import Gaussian
        >>> coupling = Simulated(Gaussian((2,)), lambda x, rng: -x)
        >>> pairs = coupling.pairs(3, torch.Generator().manual_seed(0))
        >>> pairs.x1.shape, torch.equal(pairs.x1, -pairs.x0)
        (torch.Size([3, 2]), True)
    """

    start: Law
    simulate: Callable[[Any, torch.Generator], Any]
    start_is_base: bool = True

    def pairs(self, count: int, rng: torch.Generator) -> Pairs:
        with torch.no_grad():
            drawn = self.start.sample(count, rng)
            made = self.simulate(drawn, rng)
        return Pairs(drawn, made) if self.start_is_base else Pairs(made, drawn)
