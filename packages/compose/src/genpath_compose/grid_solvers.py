r"""Feynman–Kac equations on an interval: reference laws without particles.

    ∂_t p̃ = −∂_x(μ p̃) + ½σ² ∂_x² p̃ + g p̃                        unnormalised: Z_t = ∫ p̃
    ∂_t p  = −∂_x(μ p) + ½σ² ∂_x² p + (g − ⟨p, g⟩) p              normalised: mass 1, not linear

p = p̃/Z and Z'/Z = ⟨p, g⟩. The two are solved in different ways, so that each tests the other:
`UnnormalizedFKGrid` multiplies by e^{hg}, `NormalizedFKGrid` integrates the ordinary differential
equation p' = (g − ⟨p, g⟩) p by the Runge–Kutta method, which keeps the mass; both split it evenly
about the transport of `genpath_interpolants.FiniteVolume`. `GridOperators` are the three pieces of
the equation one by one (course, L7.4–L7.6).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.grids import TimeGrid
from genpath.states import Field
from genpath_interpolants.finite_volume import FiniteVolume, GridDensity

__all__ = ["GridLaw", "GridOperators", "NormalizedFKGrid", "UnnormalizedFKGrid"]

Sigma = float | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GridLaw:
    """What a grid solver finds.

    Args:
        density: p at the last time, of mass 1.
        times: of the grid.
        log_normaliser: log Z_t/Z_0 at these times.

    Example:
        >>> flat = GridDensity(torch.tensor([0.25, 0.75]), torch.ones(2), 1.0)
        >>> GridLaw(flat, (0.0, 1.0), (0.0, -0.5)).log_normaliser[-1]
        -0.5
    """

    density: GridDensity
    times: tuple[float, ...]
    log_normaliser: tuple[float, ...]


@dataclass(frozen=True)
class GridOperators:
    """The three pieces of a Feynman–Kac equation on equal cells, with closed ends.

    Each gives what it adds to ∂_t p, ``(cells,)``. Transport and diffusion move mass between
    neighbours; reweighting takes from where g is below its mean and gives to where it is above: all
    three keep ∫ p (course, L7.4). Second order in the width.

    Args:
        low, high: the interval.
        cells: how many.

    Example:
        >>> pieces = GridOperators(-1.0, 1.0, 4)
        >>> p = torch.tensor([0.2, 0.8, 0.8, 0.2], dtype=torch.float64)
        >>> pieces.reweighting(p, torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64))
        tensor([ 0.1600, -0.1600, -0.1600,  0.1600], dtype=torch.float64)
    """

    low: float
    high: float
    cells: int

    @property
    def mesh(self) -> FiniteVolume:
        """The cells."""
        return FiniteVolume(self.low, self.high, self.cells)

    def _gained(self, flux: Tensor) -> Tensor:
        pad = torch.nn.functional.pad
        return (pad(flux, (1, 0)) - pad(flux, (0, 1))) / self.mesh.width

    def transport(self, p: Tensor, velocity: Callable[[Tensor], Tensor]) -> Tensor:
        """−∂_x(p v), for v of points ``(n,)``."""
        return self._gained(0.5 * (p[1:] + p[:-1]) * velocity(self.mesh.faces))

    def diffusion(self, p: Tensor, sigma: float) -> Tensor:
        """½σ² ∂_x² p."""
        return self._gained(-0.5 * sigma**2 * p.diff() / self.mesh.width)

    def reweighting(self, p: Tensor, g: Tensor) -> Tensor:
        """(g − ⟨p, g⟩) p, for g at the centres."""
        return (g - (g * p).sum() / p.sum()) * p


@dataclass(frozen=True)
class UnnormalizedFKGrid:
    """∂_t p̃ = L* p̃ + g p̃ on [low, high] (course, L7.6).

    Args:
        low, high: the interval; it should hold the laws up to what may be lost.
        cells: how many.

    Example:
        >>> from genpath_compose.references import WeightedHeatFlow
        >>> flow = WeightedHeatFlow(0.9, 1.5)
        >>> solver = UnnormalizedFKGrid(-10.0, 10.0, 200)
        >>> start = lambda x: -x[:, 0] ** 2 / 3
        >>> law = solver.solve(lambda t, x: 0 * x, 1.0, flow.potential, start, TimeGrid.uniform(50))
        >>> round(math.exp(law.log_normaliser[-1]), 3), round(float(law.density.variance), 2)
        (0.573, 1.11)
    """

    low: float
    high: float
    cells: int = 400

    def solve(
        self,
        drift: Field,
        sigma: Sigma,
        potential: Field,
        start: Tensor | Callable[[Tensor], Tensor],
        grid: TimeGrid,
    ) -> GridLaw:
        """The law at the last time, and log Z_t/Z_0 at all.

        Args:
            drift: μ(t, x), with t ``(n,)`` and x ``(n, 1)``.
            sigma: σ, a number or a function of times.
            potential: g(t, x), ``(n,)``.
            start: cell values, or a log-density of points ``(cells, 1)``; need not have mass 1.
            grid: increasing times.
        """
        times, masses = list[float](), list[float]()

        def watch(found: GridDensity) -> None:
            times.append(found.time)
            masses.append(float(found.mass))

        solver = FiniteVolume(self.low, self.high, self.cells)
        eps = half_square(sigma)
        end = solver.solve(drift, eps, start, grid, growth=potential, watch=watch)
        density = GridDensity(end.centres, end.values / end.mass, end.time)
        logs = tuple(math.log(mass / masses[0]) for mass in masses)
        return GridLaw(density, tuple(times), logs)


@dataclass(frozen=True)
class NormalizedFKGrid:
    """∂_t p = L* p + (g − ⟨p, g⟩) p on [low, high] (course, L7.5).

    log Z comes from Z'/Z = ⟨p, g⟩, not from a mass. Steps with h |g| above 5 or so are too long.

    Args:
        low, high, cells: as of `UnnormalizedFKGrid`.

    Example:
        >>> from genpath_compose.references import WeightedHeatFlow
        >>> flow = WeightedHeatFlow(0.9, 1.5)
        >>> solver = NormalizedFKGrid(-10.0, 10.0, 200)
        >>> start = lambda x: -x[:, 0] ** 2 / 3
        >>> law = solver.solve(lambda t, x: 0 * x, 1.0, flow.potential, start, TimeGrid.uniform(50))
        >>> round(math.exp(law.log_normaliser[-1]), 3), round(float(law.density.mass), 9)
        (0.573, 1.0)
    """

    low: float
    high: float
    cells: int = 400
    mesh: FiniteVolume = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mesh", FiniteVolume(self.low, self.high, self.cells))

    def solve(
        self,
        drift: Field,
        sigma: Sigma,
        potential: Field,
        start: Tensor | Callable[[Tensor], Tensor],
        grid: TimeGrid,
    ) -> GridLaw:
        """The law at the last time, and log Z_t/Z_0 at all; arguments as of `UnnormalizedFKGrid`.

        Raises:
            DomainError: a start without mass.
        """
        eps, width = half_square(sigma), self.mesh.width
        values: Any = start(self.mesh.centres[:, None]).exp() if callable(start) else start
        total = values.sum() * width
        if not bool(total > 0):
            raise DomainError("NormalizedFKGrid.solve", "the start has mass.", got=f"{total:g}")
        p, log_z, logs = values / total, 0.0, [0.0]
        for t, t_next in itertools.pairwise(grid.times):
            middle, h = 0.5 * (t + t_next), t_next - t
            g: Tensor = potential(torch.full_like(self.mesh.centres, middle), self._points)
            p, first = self._reweighted(p, g, h / 2)
            p = self.mesh.solve(drift, eps, p, TimeGrid((t, t_next))).values
            p, second = self._reweighted(p, g, h / 2)
            log_z += first + second
            logs.append(log_z)
        density = GridDensity(self.mesh.centres, p, grid.times[-1])
        return GridLaw(density, grid.times, tuple(logs))

    @property
    def _points(self) -> Tensor:
        return self.mesh.centres[:, None]

    def _reweighted(self, p: Tensor, g: Tensor, h: float) -> tuple[Tensor, float]:
        """p' = (g − ⟨p, g⟩) p and (log Z)' = ⟨p, g⟩ over h, by the Runge–Kutta method."""

        def slope(q: Tensor) -> tuple[Tensor, Tensor]:
            centre = (q * g).sum() * self.mesh.width
            return (g - centre) * q, centre

        a, one = slope(p)
        b, two = slope(p + h / 2 * a)
        c, three = slope(p + h / 2 * b)
        d, four = slope(p + h * c)
        gain = h / 6 * (one + 2 * two + 2 * three + four)
        return p + h / 6 * (a + 2 * b + 2 * c + d), float(gain)


def half_square(sigma: Sigma) -> float | Callable[[Tensor], Tensor]:
    """ε = ½σ²."""
    if callable(sigma):
        return lambda t: 0.5 * sigma(t) ** 2
    return 0.5 * sigma**2
