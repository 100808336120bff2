r"""Functions that tell two laws on a space apart, and residuals weighted by them.

    a smooth space     sin(ω·x + φ) in ambient coordinates, ω at the scale of the points
    letters            random tables: T(x_i) of one site, T(x_i) T'(x_j) of two
    a product          functions of single factors, and products of those of two

Each takes a batch of states to one number per row, ``(batch, …) → (batch,)``, is bounded, and is
smooth where the space is: what `genpath.generators.MarkovGenerator.apply` asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from genpath.spaces import FiniteSpace, Product, Space
from genpath.states import flat_event

__all__ = ["Probe", "probes", "values"]

Probe = Callable[[Any], Tensor]


def probes(space: Space, points: Any, rng: torch.Generator, count: int = 6) -> tuple[Probe, ...]:
    """``count`` random functions on a space, at the scale of some points of it.

    Args:
        space: where the states live.
        points: states that show the scale ``(batch, *event)``; of letters, the alphabet in use.
        rng: for drawing the functions.
        count: how many.

    Example:
        >>> from genpath import Euclidean
        >>> rng, points = torch.Generator().manual_seed(0), torch.zeros(5, 2).double()
        >>> [f(points).shape for f in probes(Euclidean(2), points, rng, 2)]
        [torch.Size([5]), torch.Size([5])]
    """
    if isinstance(space, Product):
        return _of_product(space, points, rng, count)
    if isinstance(space, FiniteSpace):
        return tuple(_table(_letters(space, points), points, k, rng) for k in range(count))
    return tuple(_wave(points, rng) for _ in range(count))


def values(functions: Sequence[Probe], state: Any) -> Tensor:
    """All functions at each row: ``(batch, functions)``."""
    return torch.stack([f(state) for f in functions], 1)


def _wave(points: Tensor, rng: torch.Generator) -> Probe:
    flat = flat_event(points).double()
    spread = flat.std(0).mean() if len(flat) > 1 else flat.new_ones(())
    scale = 1.0 / (math.sqrt(flat.shape[1]) * float(spread.clamp_min(0.1)))
    omega = scale * torch.randn(flat.shape[1], generator=rng, dtype=torch.float64)
    phase = 2 * math.pi * float(torch.rand((), generator=rng, dtype=torch.float64))

    def wave(x: Tensor) -> Tensor:
        return torch.sin((flat_event(x) * omega.to(x.dtype)).sum(1) + phase)

    return wave


def _letters(space: FiniteSpace, points: Tensor) -> int:
    return int(torch.cat([space.neighbours(points[:1]).flatten(), points.flatten()]).max()) + 1


def _table(size: int, points: Tensor, index: int, rng: torch.Generator) -> Probe:
    """A function of one site for an even index, of two for an odd one, where there are two."""
    sites = max(1, points[0].numel())
    tables = torch.randn(2, size, generator=rng, dtype=torch.float64)
    picked = torch.randperm(sites, generator=rng)[:2].tolist()

    def single(x: Tensor) -> Tensor:
        return tables[0][flat_event(x)[:, picked[0]]]

    def pair(x: Tensor) -> Tensor:
        return single(x) * tables[1][flat_event(x)[:, picked[1]]]

    return pair if index % 2 and sites > 1 else single


def _of_product(space: Product, points: Any, rng: torch.Generator, count: int) -> tuple[Probe, ...]:
    names, each = list(space.factors), -(-count // (2 * len(space.factors))) + 1
    alone = {n: probes(s, points[n], rng, each) for n, s in space.factors.items()}

    def single(name: str, k: int) -> Probe:
        return lambda state: alone[name][k](state[name])

    def joint(left: str, right: str, k: int) -> Probe:
        return lambda state: alone[left][k](state[left]) * alone[right][k](state[right])

    found = [single(n, k) for k in range(each) for n in names][: max(count // 2, len(names))]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    found += [joint(a, b, k) for k in range(each) for a, b in pairs][: max(count - len(found), 1)]
    return tuple(found)
