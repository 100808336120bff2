r"""The Fokker–Planck equation on an interval by finite volumes: the law of a learned process.

    ∂_t p + ∂_x F = g p,     F = f p − ε ∂_x p,     F = 0 at both ends

with drift f(t, x), noise ε(t) ≥ 0 and, where wanted, a rate g(t, x) of growth. For the model of a
velocity and a score f = b̂ + ε ŝ, and with wrong fields the law depends on ε: this finds it without
a particle. What leaves one cell enters the next, so that mass is kept to rounding.

The flux between cells i and i + 1, of width Δ, with w = f Δ/ε at their common face, is

    F = (ε/Δ) (B(−w) p_i − B(w) p_{i+1}),     B(w) = w/(e^w − 1)        "exponential"
    F = f (p_i + p_{i+1})/2 − ε (p_{i+1} − p_i)/Δ                        "central"

(Scharfetter & Gummel 1969; exact for constant f and F). Both are of second order in Δ; the first
keeps the sign of p where the time step allows, becomes upwind (first order) where ε → 0, and needs
no fine mesh where |f| Δ > ε. A step is implicit, p' = p + h(θ A p' + (1 − θ) A p) with A at the
step's middle; θ = ½ is of second order. Its tridiagonal system is solved by cyclic reduction, in
⌈log₂ cells⌉ rounds over all cells at once, stable since the matrix is dominated by its diagonal.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genpath.errors import DomainError, NumericalError, ShapeError
from genpath.grids import TimeGrid
from genpath.states import Field

from .dynamics import Eps

__all__ = ["FiniteVolume", "GridDensity", "solve_tridiagonal"]


def solve_tridiagonal(lower: Tensor, diagonal: Tensor, upper: Tensor, right: Tensor) -> Tensor:
    """x with lower_i x_{i−1} + diagonal_i x_i + upper_i x_{i+1} = right_i, by cyclic reduction.

    Every round eliminates the two neighbours of all unknowns at once, and doubles the distance to
    the next ones. No pivoting: for matrices dominated by their diagonal, in rows or in columns.

    Args:
        lower: ``(*batch, n)``; its first entry is not read.
        diagonal: ``(*batch, n)``.
        upper: ``(*batch, n)``; its last entry is not read.
        right: ``(*batch, n)``.

    Example:
        >>> ones = torch.ones(3)
        >>> solve_tridiagonal(-ones, 3 * ones, -ones, torch.tensor([2.0, 1.0, 2.0]))
        tensor([1., 1., 1.])
    """
    n = diagonal.shape[-1]
    a, b, c, d = torch.broadcast_tensors(lower, diagonal, upper, right)
    a = torch.cat([torch.zeros_like(a[..., :1]), a[..., 1:]], -1)
    c = torch.cat([c[..., :-1], torch.zeros_like(c[..., -1:])], -1)
    distance = 1
    while distance < n:
        left, down = -a / _shift(b, -distance, 1.0), -c / _shift(b, distance, 1.0)
        b = b + left * _shift(c, -distance) + down * _shift(a, distance)
        d = d + left * _shift(d, -distance) + down * _shift(d, distance)
        a, c = left * _shift(a, -distance), down * _shift(c, distance)
        distance *= 2
    found: Tensor = d / b
    return found


def _shift(x: Tensor, by: int, fill: float = 0.0) -> Tensor:
    """The entries ``by`` places on, and ``fill`` where there are none."""
    edge = torch.full_like(x[..., : min(abs(by), x.shape[-1])], fill)
    return torch.cat([x[..., by:], edge], -1) if by > 0 else torch.cat([edge, x[..., :by]], -1)


@dataclass(frozen=True)
class GridDensity:
    """A density by its values on equal cells.

    Args:
        centres: of the cells ``(cells,)``.
        values: mean density in each cell ``(cells,)``.
        time: when.

    Example:
        >>> flat = GridDensity(torch.tensor([0.25, 0.75]), torch.ones(2), 1.0)
        >>> float(flat.mass), float(flat.mean), flat.log_prob(torch.tensor([[0.5]]))
        (1.0, 0.5, tensor([0.]))
    """

    centres: Tensor
    values: Tensor
    time: float

    @property
    def width(self) -> float:
        """Of a cell."""
        return float(self.centres[1] - self.centres[0])

    @property
    def mass(self) -> Tensor:
        """∫ p."""
        return self.values.sum() * self.width

    @property
    def mean(self) -> Tensor:
        """∫ x p / ∫ p."""
        return (self.centres * self.values).sum() / self.values.sum()

    @property
    def variance(self) -> Tensor:
        """∫ (x − mean)² p / ∫ p."""
        return ((self.centres - self.mean) ** 2 * self.values).sum() / self.values.sum()

    def expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """∫ f p for a function of points ``(cells, 1)``."""
        return (function(self.centres[:, None]) * self.values).sum() * self.width

    def log_prob(self, x: Tensor) -> Tensor:
        """log p at points ``(batch, 1)``, linear between centres; −∞ outside the interval."""
        points = x.reshape(len(x)).to(self.centres.dtype)
        place = (points - self.centres[0]) / self.width
        inside = (place >= -0.5) & (place <= len(self.centres) - 0.5)
        left = place.floor().clamp(0, len(self.centres) - 2).nan_to_num().long()
        logs = self.values.clamp_min(torch.finfo(self.values.dtype).tiny).log()
        share = (place - left).clamp(0, 1)
        found = logs[left] + share * (logs[left + 1] - logs[left])
        return torch.where(inside, found, -math.inf).to(x.dtype)


@dataclass(frozen=True)
class FiniteVolume:
    """A solver of the Fokker–Planck equation on [low, high], with no flux through the ends.

    Args:
        low, high: the interval; it should hold the laws up to what may be lost.
        cells: how many equal cells.
        flux: "exponential" or "central"; the latter for ε = 0 and smooth densities.
        implicitness: θ of the step, from ½ (second order in time) to 1 (damps every mode).
        dtype: of the computation.

    Raises:
        DomainError: an empty interval, fewer than two cells, θ outside [½, 1], another flux.

    Example:
        >>> from genpath import Gaussian
        >>> law = Gaussian((1,), std=2.0, dtype=torch.float64)
        >>> solver = FiniteVolume(-12.0, 12.0, 200)
        >>> end = solver.solve(lambda t, x: -x, 1.0, law.log_prob, TimeGrid.uniform(50))
        >>> round(float(end.mass), 6), round(float(end.variance), 2)  # 1 + 3 e^{−2}
        (1.0, 1.41)
    """

    low: float
    high: float
    cells: int = 400
    flux: Literal["exponential", "central"] = "exponential"
    implicitness: float = 0.5
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        if not self.low < self.high or self.cells < 2:
            raise DomainError(
                "FiniteVolume",
                "an interval has two cells or more.",
                got=f"[{self.low:g}, {self.high:g}] with {self.cells} cells",
            )
        if not 0.5 <= self.implicitness <= 1 or self.flux not in ("exponential", "central"):
            raise DomainError(
                "FiniteVolume",
                "implicitness is in [½, 1], and flux is exponential or central.",
                got=f"{self.implicitness:g}, {self.flux!r}",
            )

    @property
    def width(self) -> float:
        """Δ."""
        return (self.high - self.low) / self.cells

    @property
    def centres(self) -> Tensor:
        """Of the cells ``(cells,)``."""
        steps = torch.arange(self.cells, dtype=self.dtype) + 0.5
        return self.low + self.width * steps

    @property
    def faces(self) -> Tensor:
        """Between the cells ``(cells − 1,)``."""
        return self.low + self.width * torch.arange(1, self.cells, dtype=self.dtype)

    def solve(
        self,
        drift: Field,
        eps: Eps,
        start: Tensor | Callable[[Tensor], Tensor],
        grid: TimeGrid,
        *,
        growth: Field | None = None,
        watch: Callable[[GridDensity], None] | None = None,
    ) -> GridDensity:
        """The density at the last time of a grid from that at the first.

        Args:
            drift: f(t, x) with t ``(n,)`` and x ``(n, 1)``, as a model's fields take them.
            eps: ε ≥ 0, a number or a function of time.
            start: cell values ``(cells,)``, or a log-density of points ``(cells, 1)``, taken at
                the centres.
            grid: increasing times.
            growth: g(t, x) ``(n,)``; −r for killing at a rate r. Each step is then split evenly
                about the transport.
            watch: called with every density, the first included.

        Raises:
            ShapeError: a start of another size.
            DomainError: a grid that goes back, or ε < 0.
            NumericalError: the density stopped being finite.

        Example:
            >>> solver = FiniteVolume(0.0, 1.0, 4, implicitness=1.0)
            >>> corner = torch.tensor([4.0, 0.0, 0.0, 0.0])
            >>> solver.solve(lambda t, x: 0 * x, 10.0, corner, TimeGrid.uniform(20)).values
            tensor([1.0000, 1.0000, 1.0000, 1.0000], dtype=torch.float64)
        """
        if not grid.increasing:
            raise DomainError("FiniteVolume.solve", "times increase.", got="a grid that goes back")
        centres, density = self.centres, self._start(start)
        found = GridDensity(centres, density, grid.times[0])
        if watch is not None:
            watch(found)
        for t, t_next in itertools.pairwise(grid.times):
            h, middle = t_next - t, 0.5 * (t + t_next)
            half = 1.0 if growth is None else self._growth(growth, middle, h / 2)
            density = half * self._step(drift, eps, middle, h, half * density)
            found = GridDensity(centres, density, t_next)
            if watch is not None:
                watch(found)
        if not bool(density.isfinite().all()):
            raise NumericalError("FiniteVolume.solve", "the density stopped being finite.")
        return found

    def _start(self, start: Tensor | Callable[[Tensor], Tensor]) -> Tensor:
        if callable(start):
            start = start(self.centres[:, None]).exp()
        if start.shape != (self.cells,):
            raise ShapeError(
                "FiniteVolume.solve",
                "there is one starting value per cell.",
                got=f"{tuple(start.shape)} for {self.cells} cells",
            )
        return start.to(self.dtype)

    def _growth(self, growth: Field, t: float, h: float) -> Tensor:
        times = torch.full_like(self.centres, t)
        rate: Tensor = growth(times, self.centres[:, None])
        return torch.exp(h * rate)

    def _step(self, drift: Field, eps: Eps, t: float, h: float, p: Tensor) -> Tensor:
        """One θ step; the solved densities only give the fluxes, so that mass is kept exactly."""
        out, back = self._coefficients(drift, eps, t)
        ratio = h / self.width

        def net(p: Tensor) -> Tensor:
            """−Δ ∂_x F: what each cell gains."""
            flux = out * p[:-1] - back * p[1:]
            return -torch.nn.functional.pad(flux, (0, 1)) + torch.nn.functional.pad(flux, (1, 0))

        implicit = self.implicitness * ratio
        explicit = p + (ratio - implicit) * net(p)
        pad = torch.nn.functional.pad
        diagonal = 1 + implicit * (pad(out, (0, 1)) + pad(back, (1, 0)))
        lower, upper = -implicit * pad(out, (1, 0)), -implicit * pad(back, (0, 1))
        ahead = solve_tridiagonal(lower, diagonal, upper, explicit)
        return explicit + implicit * net(ahead)

    def _coefficients(self, drift: Field, eps: Eps, t: float) -> tuple[Tensor, Tensor]:
        """What one unit of density sends right, from the left cell, and left, from the right."""
        faces = self.faces
        times = torch.full_like(faces, t)
        speed: Tensor = drift(times, faces[:, None]).reshape(-1)
        level = eps(times[:1]) if callable(eps) else torch.full_like(times[:1], eps)
        if float(level) < 0:
            raise DomainError("FiniteVolume.solve", "ε ≥ 0.", got=f"{float(level):g} at t = {t:g}")
        spread = level / self.width
        if self.flux == "central":
            return 0.5 * speed + spread, spread - 0.5 * speed
        if float(level) == 0:
            return speed.clamp_min(0), (-speed).clamp_min(0)
        return spread * _bernoulli(-speed / spread), spread * _bernoulli(speed / spread)


def _bernoulli(w: Tensor) -> Tensor:
    """w/(e^w − 1), 1 at 0."""
    small = w.abs() < 1e-5
    safe = torch.where(small, torch.ones_like(w), w)
    found: Tensor = torch.where(small, 1 - w / 2 + w * w / 12, safe / torch.expm1(safe))
    return found
