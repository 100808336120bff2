r"""The ledger's chain of three letters (fixture G-F1), and chains as generators.

Q  = [[−1, .7, .3], [.2, −.9, .7], [.5, .4, −.9]]       p_0 = (.5, .3, .2)
Q̂ = [[−1.3, .9, .4], [.4, −1, .6], [.3, .5, −.8]]       f = (1, −2, .5)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.jumps import RateJumps
from genpath.parts import Parts

__all__ = ["CHAIN", "F", "OTHER", "START", "Letters", "chain", "matrix", "solved"]

DOUBLE = torch.float64
CHAIN = torch.tensor([[0, 0.7, 0.3], [0.2, 0, 0.7], [0.5, 0.4, 0]], dtype=DOUBLE)
OTHER = torch.tensor([[0, 0.9, 0.4], [0.4, 0, 0.6], [0.3, 0.5, 0]], dtype=DOUBLE)
START = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
F = torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE)


@dataclass(frozen=True)
class Letters:
    """Arrays of the letters 0, …, size − 1."""

    size: int = 3
    event_shape: tuple[int, ...] = ()

    def contains(self, x: Tensor, tolerance: float = 1e-4) -> Tensor:
        inside = (x >= 0) & (x < self.size)
        return inside.flatten(1).all(1) if x.dim() > 1 else inside

    def project(self, x: Tensor) -> Tensor:
        return x

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        apart = (x != y).double()
        return apart.flatten(1).sum(1) if x.dim() > 1 else apart

    def neighbours(self, x: Tensor) -> Tensor:
        flat, moved = x.reshape(len(x), max(1, math.prod(self.event_shape))), []
        for site in range(flat.shape[1]):
            for shift in range(1, self.size):
                other = flat.clone()
                other[:, site] = (other[:, site] + shift) % self.size
                moved.append(other.reshape(x.shape))
        return torch.stack(moved)

    def all(self) -> Tensor:
        """Every point ``(size^sites, *event)``."""
        axes = [torch.arange(self.size)] * max(1, math.prod(self.event_shape))
        return torch.cartesian_prod(*axes).reshape(-1, *self.event_shape)


def chain(rates: Tensor = CHAIN, event_shape: tuple[int, ...] = ()) -> MarkovGenerator:
    """Every site is a copy of the chain with these rates off the diagonal."""

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        return Parts(jumps=RateJumps(rates[x], x))

    return MarkovGenerator(Letters(len(rates), event_shape), evaluate, frozenset({"jumps"}))


def matrix(rates: Tensor) -> Tensor:
    """Q, with rows of sum 0."""
    off = rates - torch.diag(rates.diagonal())
    return off - torch.diag(off.sum(1))


def solved(slope: Callable[[float, Tensor], Tensor], start: Tensor, steps: int = 100) -> Tensor:
    """y(0), …, y(1) of ẏ = slope(t, y) by the classical Runge–Kutta method ``(steps + 1, …)``."""
    h, values = 1 / steps, [start]
    for k in range(steps):
        t, y = k * h, values[-1]
        a = slope(t, y)
        b = slope(t + h / 2, y + h / 2 * a)
        c = slope(t + h / 2, y + h / 2 * b)
        d = slope(t + h, y + h * c)
        values.append(y + h / 6 * (a + 2 * b + 2 * c + d))
    return torch.stack(values)
