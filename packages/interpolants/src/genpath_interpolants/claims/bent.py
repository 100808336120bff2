r"""Bent paths for claims: interpolations, faults in their targets, quadrature and counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.paths import Draw
from genpath.testing import (
    but,
)

from ..general import InterpolantPath
from .atoms import Atoms, atom_pairs
from .cases import DOUBLE, LINE, PLANE

__all__ = [
    "bent",
    "bent_rate",
    "cells",
    "chances",
    "chosen",
    "counted",
    "dip",
    "drawn",
    "features",
    "hermite",
    "rising",
    "root",
    "scaled",
    "shifted",
    "square",
    "two_sided",
    "without_noise",
]


def bent(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """(1−t) x0 + t x1 + t(1−t) sin(2 x0 − x1)."""
    t = t.reshape(-1, *[1] * (x1.dim() - 1))
    return (1 - t) * x0 + t * x1 + t * (1 - t) * torch.sin(2 * x0 - x1)


def bent_rate(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """Its derivative in t, by hand."""
    return x1 - x0 + (1 - 2 * t) * torch.sin(2 * x0 - x1)


def dip(t: Tensor, x1: Tensor) -> Tensor:
    """x1 − 2t(1−t) sin x1, the data at both ends."""
    t = t.reshape(-1, *[1] * (x1.dim() - 1))
    return x1 - 2 * t * (1 - t) * torch.sin(x1)


def rising(t: Tensor, x1: Tensor) -> Tensor:
    """t² x1 + t(1−t) sin x1."""
    t = t.reshape(-1, *[1] * (x1.dim() - 1))
    return t**2 * x1 + t * (1 - t) * torch.sin(x1)


def root(a: float) -> Callable[[Tensor], Tensor]:
    """√(a t(1−t))."""
    return lambda t: (a * t * (1 - t)).sqrt()


def square(a: float = 1.0) -> Callable[[Tensor], Tensor]:
    """a t(1−t)."""
    return lambda t: a * t * (1 - t)


def two_sided(size: int = 1) -> Atoms:
    """A bent path with a latent noise."""
    path = InterpolantPath(LINE if size == 1 else PLANE, bent, square())
    return Atoms(f"bent, d = {size}", path, *atom_pairs(size), bent, root(1.0))


def shifted(case: Atoms, name: str, change: Callable[[Tensor, Tensor], Tensor]) -> Atoms:
    """The case with the path's target ``name`` changed: ``change(t, value)``."""
    right = case.path.target

    def target(asked: str, draw: Draw) -> Tensor:
        value: Tensor = right(asked, draw)
        return change(draw.t, value) if asked == name else value

    return replace(case, path=but(case.path, target=target))


def scaled(name: str) -> Callable[[tuple[Atoms, ...], float], tuple[Atoms, ...]]:
    """A target × (1 + δ), in every case."""

    def plant(found: tuple[Atoms, ...], size: float) -> tuple[Atoms, ...]:
        return tuple(shifted(case, name, lambda t, value: (1 + size) * value) for case in found)

    return plant


def without_noise(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
    """∂_t I in place of ∂_t I + γ̇ z."""

    def plant(case: Atoms) -> Atoms:
        right = case.path.target

        def target(asked: str, draw: Draw) -> Tensor:
            name = "interpolant_velocity" if asked == "velocity" else asked
            value: Tensor = right(name, draw)
            return value

        return replace(case, path=but(case.path, target=target))

    return tuple(plant(case) for case in found)


def hermite(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of E f(z), z standard normal: exact for polynomials below degree 2n."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    total = math.sqrt(2 * math.pi)
    return torch.tensor(nodes, dtype=DOUBLE), torch.tensor(weights, dtype=DOUBLE) / total


def features(x: Tensor) -> Tensor:
    """1, x, sin x: what a small model is linear in, ``(n, 3)``."""
    return torch.cat([torch.ones_like(x), x, torch.sin(x)], 1)


def drawn(case: Atoms, time: float, nodes: int = 40) -> tuple[Draw, Tensor]:
    """Every pair with every node of z at one time, and the weights."""
    z, weights = hermite(nodes)
    k = len(case.weights)
    x0, x1 = (y.repeat_interleave(nodes, 0) for y in (case.x0, case.x1))
    noise, t = z.repeat(k)[:, None], torch.full((k * nodes,), time, dtype=DOUBLE)
    state = case.centre(t[:, None], x0, x1) + case.scale(t)[:, None] * noise
    total = case.weights.repeat_interleave(nodes) * weights.repeat(k)
    return Draw(t, state, x0, x1, noise), total


def cells(count: int = 12, width: float = 2.6) -> Tensor:
    """Edges of the cells that draws are counted in."""
    return torch.linspace(-width, width, count, dtype=DOUBLE)


def counted(x: Tensor, edges: Tensor) -> Tensor:
    """How many x ``(n, 1)`` fall into each cell."""
    return torch.bincount(torch.bucketize(x[:, 0], edges), minlength=len(edges) + 1)


def chances(edges: Tensor, centres: Tensor, std: float, weights: Tensor) -> Tensor:
    """The probabilities of the cells under Σ_k w_k N(c_k, std²), by torch."""
    cdf = Normal(centres[:, None], std).cdf(edges[None])
    whole = (weights[:, None] * cdf).sum(0)
    ends = [whole.new_zeros(1), whole, whole.new_ones(1)]
    return torch.cat(ends).diff()


def chosen(count: int, rng: torch.Generator) -> Tensor:
    """Draws of x1 from its atoms ``(n, 1)``."""
    _, x1, weights = atom_pairs()
    return x1[torch.multinomial(weights, count, True, generator=rng)]
