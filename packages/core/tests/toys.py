"""Small exact things that the tests of the core compare with: letters, matrices, fits, z-scores."""

import math
from dataclasses import dataclass

import torch

from genpath.generators import MarkovGenerator
from genpath.jumps import RateJumps
from genpath.parts import Parts

DOUBLE = torch.float64
BOUND = 4.5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, rng):
    return torch.randn(*shape, generator=rng, dtype=DOUBLE)


def z_score(values):
    """The mean of values over its standard error."""
    return float(values.mean() / (values.std() / math.sqrt(len(values))))


def fitted_order(steps, errors):
    """The slope of log error against log step length, by least squares."""
    x = -torch.tensor(steps, dtype=DOUBLE).log()
    y = torch.tensor([float(e) for e in errors], dtype=DOUBLE).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


@dataclass(frozen=True)
class Letters:
    """Arrays of letters 0, …, size − 1: the least that a finite space owes."""

    size: int
    event_shape: tuple[int, ...] = ()

    def contains(self, x, tolerance=1e-4):
        inside = (x >= 0) & (x < self.size)
        return inside.flatten(1).all(1) if x.dim() > 1 else inside

    def project(self, x):
        return x

    def distance(self, x, y):
        apart = (x != y).double()
        return apart.flatten(1).sum(1) if x.dim() > 1 else apart

    def neighbours(self, x):
        flat = x.reshape(x.shape[0], -1)
        moved = []
        for site in range(flat.shape[1]):
            for shift in range(1, self.size):
                other = flat.clone()
                other[:, site] = (other[:, site] + shift) % self.size
                moved.append(other.reshape(x.shape))
        return torch.stack(moved)

    def all(self):
        """Every point: ``(size^sites, *event)``."""
        axes = [torch.arange(self.size)] * max(1, math.prod(self.event_shape))
        return torch.cartesian_prod(*axes).reshape(-1, *self.event_shape)


def chain(rates, event_shape=()):
    """Each site is a copy of the chain with rate matrix ``rates`` (diagonal ignored)."""

    def evaluate(t, x):
        return Parts(jumps=RateJumps(rates[x], x))

    return MarkovGenerator(Letters(len(rates), event_shape), evaluate, frozenset({"jumps"}))


def rate_matrix(rates):
    """Q with rows of sum 0."""
    off = rates - torch.diag(rates.diagonal())
    return off - torch.diag(off.sum(1))


RATES = torch.tensor([[0.0, 1.0, 0.5], [0.3, 0.0, 0.9], [2.0, 0.1, 0.0]], dtype=DOUBLE)
