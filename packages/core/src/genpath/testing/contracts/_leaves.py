"""Helpers of the contracts: states as flat rows, faults of states, random test functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from genpath.states import State, flat_event, leaves, map_state

__all__ = ["between", "flat", "only", "repeated", "scaled", "waves"]


def flat(state: State, leading: int = 1) -> Tensor:
    """All leaves side by side in float64: ``(*leading, k)``.

    Example:
        >>> flat({"x": torch.zeros(4, 2, 3), "label": torch.arange(4)}).shape
        torch.Size([4, 7])
    """
    return torch.cat([flat_event(leaf, leading).double() for leaf in leaves(state)], -1)


def scaled(state: State, factor: float) -> Any:
    """Floating leaves times a factor; letters stay as they are.

    Example:
        >>> scaled(torch.tensor([1.0, 2.0]), 3.0)
        tensor([3., 6.])
    """
    return map_state(lambda leaf: factor * leaf if leaf.is_floating_point() else leaf, state)


def between(x: State, y: State, share: float) -> Any:
    """x + share · (y − x) on floating leaves; letters are those of x.

    Example:
        >>> between(torch.tensor([0.0]), torch.tensor([4.0]), 0.25)
        tensor([1.])
    """

    def move(a: Tensor, b: Tensor) -> Tensor:
        return a + share * (b - a) if a.is_floating_point() else a

    return map_state(move, x, y)


def only(state: State, like: State) -> Any:
    """The leaves that ``like`` has; a tensor is passed through.

    Example:
        >>> only({"x": torch.ones(1), "label": torch.ones(1)}, {"x": torch.zeros(1)})
        {'x': tensor([1.])}
    """
    if isinstance(state, Mapping) and isinstance(like, Mapping):
        return {name: state[name] for name in like}
    return state


def repeated(state: State, share: float, key: int = 0) -> Any:
    """The state with its first row in the place of a share of the others.

    Example:
        >>> repeated(torch.tensor([7, 8, 9]), 1.0)
        tensor([7, 7, 7])
    """
    rows = leaves(state)[0].shape[0]
    rng = torch.Generator().manual_seed(key)
    chosen = torch.rand(rows, generator=rng) < share
    index = torch.where(chosen, 0, torch.arange(rows)) if rows else torch.arange(0)
    return map_state(lambda leaf: leaf[index], state)


def waves(like: Tensor, count: int, rng: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Random functions cos(b·x + c) of rows ``(n, k)``, about one wave over the rows of ``like``.

    Returns:
        A function ``(n, k) → (n, count)``.

    Example:
        >>> rows = torch.randn(50, 3, dtype=torch.float64)
        >>> waves(rows, 4, torch.Generator())(rows).shape
        torch.Size([50, 4])
    """
    size = like.shape[-1]
    spread = float(like.std(0).square().mean().sqrt()) if len(like) > 1 else 1.0
    width = spread * math.sqrt(size) if spread > 0 else 1.0
    b = torch.randn(size, count, generator=rng, dtype=torch.float64) * (1.5 / width)
    c = 2 * math.pi * torch.rand(count, generator=rng, dtype=torch.float64)
    return lambda x: torch.cos(x @ b + c)
