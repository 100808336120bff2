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
    """``sampler.euler``: every part on every space, order 1."""
    return _solver(Euler(), steps, start, end)


def midpoint(steps: int, start: float, end: float) -> Solver:
    """``sampler.midpoint``: flows, order 2, two network calls per step."""
    return _solver(RungeKutta(MIDPOINT), steps, start, end)


def heun(steps: int, start: float, end: float) -> Solver:
    """``sampler.heun``: flows, order 2, two network calls per step."""
    return _solver(RungeKutta(HEUN), steps, start, end)


def rk4(steps: int, start: float, end: float) -> Solver:
    """``sampler.rk4``: flows, order 4, four network calls per step."""
    return _solver(RungeKutta(RK4), steps, start, end)


def adams_bashforth(steps: int, start: float, end: float) -> Solver:
    """``sampler.adams_bashforth``: flows, order 2, one network call per step."""
    return _solver(AdamsBashforth(), steps, start, end)


def independent(base: Law, data_law: Law) -> Independent:
    """``coupling.independent``: base and data drawn apart."""
    return Independent(base, data_law)


def standardise(floor: float, data: Dataset) -> Standardise:
    """``codec.standardise``: fitted to the training rows."""
    return Standardise.fit(data.train, floor)


def ode(**options: Any) -> ODELikelihood:
    """``likelihood.ode``: log p by the probability flow, solved by RK4."""
    return ODELikelihood(**options)
