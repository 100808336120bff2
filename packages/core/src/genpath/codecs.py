r"""Codecs: from data to states and back, with the log-density that the way costs.

    log p(y) = log p_state(encode(y)) + log |det encode′(y)|

A codec owes ``encode(y, rng) → (state, log_det)`` and ``decode(state) → y``. Dequantisation is a
codec whose encoding is random: then the left side is bounded below by the mean of the right side
(its bits per dimension are an upper bound), and `Codec.exact` is False.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .errors import CapabilityError, DomainError
from .spaces import Euclidean, Space
from .states import batch_size, device_of, dtype_of

__all__ = ["Chain", "Codec", "Dequantise", "Identity", "Standardise"]


@runtime_checkable
class Codec(Protocol):
    """Data ↔ state."""

    @property
    def exact(self) -> bool:
        """Whether the encoding is a deterministic bijection, so that log-densities are exact."""
        ...

    def space(self, data_space: Space) -> Space:
        """The space of states for data on ``data_space``."""
        ...

    def encode(self, y: Any, rng: torch.Generator) -> tuple[Any, Tensor]:
        """The state of each datum and log |det encode′| ``(batch,)``."""
        ...

    def decode(self, state: Any) -> Any:
        """The datum of each state."""
        ...


@dataclass(frozen=True)
class Identity:
    """States are the data, with log-determinants 0 ``(batch,)``: the component ``codec.identity``.

    Example:
        >>> Identity().encode(torch.tensor([[5.0, 7.0]]), torch.Generator())
        (tensor([[5., 7.]]), tensor([0.]))
    """

    exact: bool = True

    def space(self, data_space: Space) -> Space:
        return data_space

    def encode(self, y: Any, rng: torch.Generator) -> tuple[Any, Tensor]:
        return y, torch.zeros(batch_size(y), dtype=dtype_of(y), device=device_of(y))

    def decode(self, state: Any) -> Any:
        return state


@dataclass(frozen=True)
class Standardise:
    """(y − mean)/std, coordinate by coordinate, on R^d: the component ``codec.standardise``.

    Args:
        mean, std: of the event's shape, or numbers; ``std`` positive.

    Example:
        >>> codec = Standardise(torch.tensor(1.0), torch.tensor(2.0))
        >>> codec.encode(torch.tensor([[5.0]]), torch.Generator())
        (tensor([[2.]]), tensor([-0.6931]))
    """

    mean: Tensor
    std: Tensor
    exact: bool = True

    def __post_init__(self) -> None:
        if not bool((self.std > 0).all()):
            raise DomainError(
                "Standardise",
                "every std is positive.",
                got=f"{float(self.std.min()):g}",
                fix="drop constant coordinates, or set `floor`",
            )

    @staticmethod
    def fit(rows: Tensor, floor: float = 1e-6) -> Standardise:
        """Mean and standard deviation of training rows; ``floor`` bounds the latter from below."""
        return Standardise(rows.mean(0), rows.std(0, correction=0).clamp_min(floor))

    def space(self, data_space: Space) -> Space:
        return _flat(data_space, "Standardise")

    def encode(self, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, std = self.mean.to(y), self.std.to(y)
        log_det = -std.log().expand(y.shape[1:]).sum()
        return (y - mean) / std, log_det.expand(y.shape[0])

    def decode(self, state: Tensor) -> Tensor:
        return state * self.std.to(state) + self.mean.to(state)


@dataclass(frozen=True)
class Dequantise:
    """Uniform dequantisation of integer levels onto [−scale, scale]: ``codec.dequantise``.

    y ∈ {0, …, levels − 1} ↦ scale · (2 (y + u)/levels − 1), u ~ U[0, 1). The density of y + u on
    cells of width 1 bounds the mass of y: log P(y) ≥ E_u log p(y + u) (Theis et al. 2016,
    arXiv 1511.01844), so log_det = d log(2 scale/levels).

    Args:
        levels: the number of integer levels.
        scale: half the width of the range of states.

    Example:
        >>> codec = Dequantise(levels=2)
        >>> codec.decode(torch.tensor([[-0.9, 0.1, 5.0]]))
        tensor([[0., 1., 1.]])
    """

    levels: int
    scale: float = 1.0
    exact: bool = False

    def __post_init__(self) -> None:
        if self.levels < 2 or not self.scale > 0:
            raise DomainError(
                "Dequantise",
                "levels ≥ 2 and scale > 0.",
                got=f"levels {self.levels}, scale {self.scale:g}",
            )

    def space(self, data_space: Space) -> Space:
        return _flat(data_space, "Dequantise")

    def encode(self, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        u = torch.rand(y.shape, generator=rng, device=y.device, dtype=y.dtype)
        state = self.scale * (2 * (y + u) / self.levels - 1)
        log_det = math.prod(y.shape[1:]) * math.log(2 * self.scale / self.levels)
        return state, torch.full((y.shape[0],), log_det, dtype=y.dtype, device=y.device)

    def decode(self, state: Tensor) -> Tensor:
        level = torch.floor((state / self.scale + 1) * (self.levels / 2))
        return level.clamp(0, self.levels - 1)


@dataclass(frozen=True)
class Chain:
    """Codecs one after another: the first acts on the data; log-determinants ``(batch,)`` add.

    Example:
        >>> halve = Standardise(torch.tensor(0.0), torch.tensor(2.0))
        >>> codec = Chain([halve, halve])
        >>> codec.encode(torch.tensor([[8.0]]), torch.Generator())  # log-determinants add: −2 log 2
        (tensor([[2.]]), tensor([-1.3863]))
        >>> codec.decode(torch.tensor([[2.0]]))
        tensor([[8.]])
    """

    codecs: Sequence[Codec]

    @property
    def exact(self) -> bool:
        return all(codec.exact for codec in self.codecs)

    def space(self, data_space: Space) -> Space:
        for codec in self.codecs:
            data_space = codec.space(data_space)
        return data_space

    def encode(self, y: Any, rng: torch.Generator) -> tuple[Any, Tensor]:
        total = torch.zeros(batch_size(y), dtype=dtype_of(y), device=device_of(y))
        for codec in self.codecs:
            y, log_det = codec.encode(y, rng)
            total = total + log_det
        return y, total

    def decode(self, state: Any) -> Any:
        for codec in reversed(self.codecs):
            state = codec.decode(state)
        return state


def _flat(space: Space, where: str) -> Space:
    if not isinstance(space, Euclidean):
        raise CapabilityError(
            where,
            "it acts on points of R^d.",
            got=repr(space),
            fix="choose codec: identity for this data",
        )
    return space
