"""What a config's names build: the core's components as functions of their options and needs."""

from __future__ import annotations

from typing import Any

from .codecs import Standardise
from .couplings import Independent
from .datasets import Dataset
from .grids import TimeGrid
from .laws import Law
from .likelihoods import ODELikelihood
from .samplers import AdamsBashforth, Euler, RungeKutta, Sampler, Solver
from .tableaus import HEUN, MIDPOINT, RK4

__all__ = [
    "adams_bashforth",
    "euler",
    "heun",
    "independent",
    "midpoint",
    "ode",
    "rk4",
    "standardise",
]


def _solver(sampler: Sampler, steps: int, start: float, end: float) -> Solver:
    return Solver(sampler, TimeGrid.uniform(steps, start, end))


def euler(steps: int, start: float, end: float) -> Solver:
    """``sampler.euler``: every part on every space, order 1.

    Example:
        >>> solver = euler(4, 0.0, 1.0)
        >>> solver.grid.times, solver.calls
        ((0.0, 0.25, 0.5, 0.75, 1.0), 4)
    """
    return _solver(Euler(), steps, start, end)


def midpoint(steps: int, start: float, end: float) -> Solver:
    """``sampler.midpoint``: flows, order 2, two network calls per step.

    Example:
        >>> solver = midpoint(4, 0.0, 1.0)
        >>> solver.sampler.order, solver.calls
        (2, 8)
    """
    return _solver(RungeKutta(MIDPOINT), steps, start, end)


def heun(steps: int, start: float, end: float) -> Solver:
    """``sampler.heun``: flows, order 2, two network calls per step.

    Example:
        >>> solver = heun(4, 0.0, 1.0)
        >>> solver.sampler.order, solver.calls
        (2, 8)
    """
    return _solver(RungeKutta(HEUN), steps, start, end)


def rk4(steps: int, start: float, end: float) -> Solver:
    """``sampler.rk4``: flows, order 4, four network calls per step.

    Example:
        >>> solver = rk4(4, 0.0, 1.0)
        >>> solver.sampler.order, solver.calls
        (4, 16)
    """
    return _solver(RungeKutta(RK4), steps, start, end)


def adams_bashforth(steps: int, start: float, end: float) -> Solver:
    """``sampler.adams_bashforth``: flows, order 2, one network call per step.

    Example:
        >>> solver = adams_bashforth(4, 0.0, 1.0)
        >>> solver.sampler.order, solver.calls
        (2, 4)
    """
    return _solver(AdamsBashforth(), steps, start, end)


def independent(base: Law, data_law: Law) -> Independent:
    """``coupling.independent``: base and data drawn apart.

    Example:
        >>> import torch
        >>> from genpath.laws import Gaussian
        >>> pairs = independent(Gaussian((2,)), Gaussian((2,))).pairs(3, torch.Generator())
        >>> pairs.x0.shape, pairs.x1.shape
        (torch.Size([3, 2]), torch.Size([3, 2]))
    """
    return Independent(base, data_law)


def standardise(floor: float, data: Dataset) -> Standardise:
    """``codec.standardise``: fitted to the training rows.

    Example:
        >>> import torch
        >>> from genpath.spaces import Euclidean
        >>> rows = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
        >>> codec = standardise(0.1, Dataset("two", Euclidean(2), rows, rows, rows, "made up"))
        >>> codec.mean, codec.std  # the second coordinate is constant: its std is the floor
        (tensor([2., 5.]), tensor([1.0000, 0.1000]))
    """
    return Standardise.fit(data.train, floor)


def ode(**options: Any) -> ODELikelihood:
    """``likelihood.ode``: log p by the probability flow, solved by RK4.

    Example:
        >>> likelihood = ode(steps=20, divergence="hutchinson", probes=8)
        >>> likelihood.steps, likelihood.probes
        (20, 8)
    """
    return ODELikelihood(**options)
