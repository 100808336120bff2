"""What a config's names build: the core's components as functions of their options and needs."""

from __future__ import annotations

from typing import Any

import torch

from .codecs import Codec, Standardise
from .couplings import Independent
from .datasets import Dataset
from .grids import TimeGrid
from .laws import Empirical, Law
from .likelihoods import ODELikelihood
from .samplers import AdamsBashforth, Euler, RungeKutta, Sampler, Solver
from .states import map_state
from .tableaus import HEUN, MIDPOINT, RK4

__all__ = [
    "adams_bashforth",
    "data_law",
    "dataset",
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


def data_law(data_law: Law) -> Law:
    """``law.data``: the data themselves, where a path starts from them (a mirror).

    Example:
        >>> from genpath.laws import Gaussian
        >>> data_law(Gaussian((2,))).event_shape
        (2,)
    """
    return data_law


def dataset(source: Dataset, split: str, codec: Codec, device: Any = "cpu") -> Empirical:
    """``law.dataset``: the rows of a second data set, encoded: where a bridge starts.

    Args:
        source: the data set; its rows have the shape of the first one's.
        split: which of its rows.
        codec: that of the run; a random one encodes once.
        device: of the run.

    Example:
        >>> import torch
        >>> from genpath.codecs import Identity
        >>> from genpath.spaces import Euclidean
        >>> rows = torch.tensor([[1.0], [1.0]])
        >>> other = Dataset("ones", Euclidean(1), rows, rows, rows, "made up")
        >>> dataset(other, "train", Identity()).sample(2, torch.Generator())
        tensor([[1.],
                [1.]])
    """
    rows = map_state(lambda leaf: leaf.to(device), getattr(source, split))
    rows = map_state(
        lambda leaf: leaf.to(torch.get_default_dtype()) if leaf.is_floating_point() else leaf, rows
    )
    rng = torch.Generator(device=device).manual_seed(0)
    with torch.no_grad():
        return Empirical(codec.encode(rows, rng)[0])


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
