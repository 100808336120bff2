r"""References: Feynman–Kac laws that are known in closed form, or to rounding.

    WeightedHeatFlow    ∂_t p̃ = ½Δp̃ − ½κx² p̃ from N(0, v0)           course, H7.1
    GaussianRatio       Π N(0, σ_i²)^{γ_i} on R^d                     course, H7.5
    euler_law           the law of *weighted Euler particles*, step by step, no particle drawn
    exact_law           the law that they have as the steps go to 0

The last two hold on the line for velocities c + kx, noise σ(t) and potentials a + bx + qx². There
normal laws stay normal: a step multiplies by e^{hg} and then moves,

    P ← P − 2hq,   Pm ← Pm + hb,   log Z ← log Z + ha + log of the ratio of normalisers
    m ← m + h(c + km),   V ← (1 + hk)² V + hσ²

and with steps that go to 0

    m' = c + km + V(b + 2qm)     V' = 2kV + σ² + 2qV²     (log Z)' = a + bm + q(V + m²)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.spaces import Product
from genpath.states import flat_event

__all__ = [
    "GaussianRatio",
    "LinearLaw",
    "WeightedHeatFlow",
    "euler_law",
    "exact_law",
    "geometric_range",
]


@dataclass(frozen=True)
class WeightedHeatFlow:
    """Brownian motion from N(0, v0), weighted at the rate g = −½κx².

        P(t) = q (P0 + q tanh qt)/(q + P0 tanh qt)     Z_t = (cosh qt + q v0 sinh qt)^{−1/2}

    with q = √κ and P0 = 1/v0: the weighted law is N(0, 1/P), the mean weight Z_t (course, H7.1).

    Args:
        kappa: κ > 0.
        start_variance: v0 > 0.

    Raises:
        DomainError: either is not positive.

    Example:
        >>> flow = WeightedHeatFlow(0.9, 1.5)
        >>> round(math.exp(flow.log_normaliser(1.0)), 5), round(flow.variance(1.0), 5)
        (0.57292, 1.11077)
    """

    kappa: float = 0.9
    start_variance: float = 1.5

    def __post_init__(self) -> None:
        if not (0 < self.kappa < math.inf and 0 < self.start_variance < math.inf):
            raise DomainError(
                "WeightedHeatFlow",
                "κ > 0 and v0 > 0.",
                got=f"kappa {self.kappa:g}, start_variance {self.start_variance:g}",
            )

    def precision(self, t: float) -> float:
        """P(t)."""
        q, start = math.sqrt(self.kappa), 1 / self.start_variance
        tanh = math.tanh(q * t)
        return q * (start + q * tanh) / (q + start * tanh)

    def variance(self, t: float) -> float:
        """1/P(t)."""
        return 1 / self.precision(t)

    def log_normaliser(self, t: float) -> float:
        """log Z_t, with Z_0 = 1."""
        q = math.sqrt(self.kappa)
        return -0.5 * math.log(math.cosh(q * t) + q * self.start_variance * math.sinh(q * t))

    def potential(self, t: Tensor, x: Any) -> Tensor:
        """g, ``(batch,)`` at points ``(batch, 1)``."""
        return -0.5 * self.kappa * flat_event(x).square().sum(1)


@dataclass(frozen=True)
class GaussianRatio:
    """h = Π N(0, σ_i² I)^{γ_i} on R^d.

        P = Σ γ_i/σ_i² > 0  ⟺  ∫h < ∞        Z = Π (2πσ_i²)^{−dγ_i/2} (2π/P)^{d/2}        s = −Px

    (Course, H7.5.) An oracle that is defined where h cannot be normalised, too, and says so.

    Args:
        exponents: γ_i.
        stds: σ_i > 0.
        dimension: d.

    Raises:
        DomainError: σ_i ≤ 0, or another number of exponents.

    Example:
        >>> ratio = GaussianRatio((2.0, -1.0), (1.0, 2.0))
        >>> ratio.precision, ratio.valid, round(ratio.log_normaliser(), 4)
        (1.75, True, 0.4133)
        >>> GaussianRatio((1.0, -2.0), (2.0, 1.0)).valid
        False
    """

    exponents: Sequence[float]
    stds: Sequence[float]
    dimension: int = 1

    def __post_init__(self) -> None:
        if len(self.exponents) != len(self.stds) or not self.stds:
            raise DomainError(
                "GaussianRatio",
                "there is one exponent for each σ.",
                got=f"{len(self.exponents)} exponents, {len(self.stds)} stds",
            )
        if min(self.stds) <= 0 or self.dimension < 1:
            raise DomainError(
                "GaussianRatio", "σ > 0 and d ≥ 1.", got=f"{min(self.stds):g}, {self.dimension}"
            )

    @property
    def precision(self) -> float:
        """P."""
        return math.fsum(g / s**2 for g, s in zip(self.exponents, self.stds, strict=True))

    @property
    def valid(self) -> bool:
        """Whether h can be normalised."""
        return self.precision > 0

    def log_normaliser(self) -> float:
        """log ∫ h; +∞ where h cannot be normalised."""
        if not self.valid:
            return math.inf
        terms = (
            -g * math.log(2 * math.pi * s**2)
            for g, s in zip(self.exponents, self.stds, strict=True)
        )
        return 0.5 * self.dimension * (math.fsum(terms) + math.log(2 * math.pi / self.precision))

    def score(self, x: Tensor) -> Tensor:
        """∇log h = −Px."""
        return -self.precision * x


def geometric_range(first: float, second: float) -> tuple[float, float]:
    """The β for which N(0, σ1²)^{1−β} N(0, σ2²)^β can be normalised: an open interval.

    (Course, H7.5.)

    Args:
        first, second: σ1 and σ2.

    Example:
        >>> geometric_range(2.0, 1.0), geometric_range(1.0, 1.0)
        ((-0.3333333333333333, inf), (-inf, inf))
    """
    gap = first**2 - second**2
    if gap == 0:
        return -math.inf, math.inf
    edge = -(second**2) / gap
    return (edge, math.inf) if gap > 0 else (-math.inf, edge)


# -- linear motion and quadratic weights -----------------------------------------------------------


@dataclass(frozen=True)
class LinearLaw:
    """A weighted normal law on the line.

    Args:
        mean, variance: of it.
        log_normaliser: log of its mass, Z_t/Z_0 where the start has 0.

    Example:
        >>> LinearLaw(0.0, 2.0).log_normaliser
        0.0
    """

    mean: float
    variance: float
    log_normaliser: float = 0.0


@dataclass(frozen=True)
class Coefficients:
    """c + kx, σ² and a + bx + qx² at one time."""

    c: float
    k: float
    noise: float
    a: float
    b: float
    q: float

    def slopes(self, law: LinearLaw) -> tuple[float, float, float]:
        """(m', V', (log Z)')."""
        m, v = law.mean, law.variance
        return (
            self.c + self.k * m + v * (self.b + 2 * self.q * m),
            2 * self.k * v + self.noise + 2 * self.q * v * v,
            self.a + self.b * m + self.q * (v + m * m),
        )

    def step(self, law: LinearLaw, h: float) -> LinearLaw:
        """A step of weighted Euler particles: the weight of where they are, then the move."""
        old = 1 / law.variance
        new = old - 2 * h * self.q
        if new <= 0:
            raise DomainError(
                "euler_law",
                "a step of the weight keeps the law normalisable: 2hqV < 1.",
                got=f"2hqV = {2 * h * self.q * law.variance:g}",
                fix="take smaller steps",
            )
        mean = (old * law.mean + h * self.b) / new
        gain = h * self.a + 0.5 * (math.log(old / new) + new * mean**2 - old * law.mean**2)
        factor = 1 + h * self.k
        return LinearLaw(
            mean + h * (self.c + self.k * mean),
            factor**2 / new + h * self.noise,
            law.log_normaliser + gain,
        )


def euler_law(gen: MarkovGenerator, start: LinearLaw, grid: TimeGrid) -> LinearLaw:
    """The law of weighted Euler particles at the last time, exactly; no particle is drawn.

    What infinitely many particles of `genpath.samplers.Euler` have as mean, variance and mean
    weight, resampled or not. Its distance to `exact_law` is the error of the steps.

    Args:
        gen: linear velocity, noise that depends on time, quadratic potential; on R^1.
        start: of the particles.
        grid: increasing times.

    Raises:
        CapabilityError: the generator is not linear with a quadratic potential, or jumps.
        DomainError: a step of the weight is too long.

    Example:
        >>> from genpath import Euclidean
        >>> from genpath_compose.potentials import feynman_kac
        >>> flow = WeightedHeatFlow(0.9, 1.5)
        >>> gen = feynman_kac(Euclidean(1), None, 1.0, flow.potential)
        >>> found = euler_law(gen, LinearLaw(0.0, 1.5), TimeGrid.uniform(1000))
        >>> round(math.exp(found.log_normaliser), 3)
        0.573
    """
    law = start
    coefficients = read(gen, torch.tensor(grid.times[:-1], dtype=torch.float64))
    for (t, t_next), at in zip(itertools.pairwise(grid.times), coefficients, strict=True):
        law = at.step(law, t_next - t)
    return law


def exact_law(gen: MarkovGenerator, start: LinearLaw, grid: TimeGrid) -> LinearLaw:
    """The law of the weighted process at the last time: its moments by the Runge–Kutta method.

    Of order 4 in the steps of the grid: 100 of them leave 1e-9 where coefficients are smooth.

    Args:
        gen, start: as of `euler_law`.
        grid: increasing times, between which moments are integrated.

    Example:
        >>> from genpath import Euclidean
        >>> from genpath_compose.potentials import feynman_kac
        >>> gen = feynman_kac(Euclidean(1), None, 1.0, WeightedHeatFlow(0.9, 1.5).potential)
        >>> round(exact_law(gen, LinearLaw(0.0, 1.5), TimeGrid.uniform(100)).variance, 5)
        1.11077
    """
    pairs = list(itertools.pairwise(grid.times))
    knots = [s for t, t_next in pairs for s in (t, 0.5 * (t + t_next))] + [grid.times[-1]]
    found, law = read(gen, torch.tensor(knots, dtype=torch.float64)), start
    for index, (t, t_next) in enumerate(pairs):
        h, (left, middle, right) = t_next - t, found[2 * index : 2 * index + 3]
        one = left.slopes(law)
        two = middle.slopes(_moved(law, one, h / 2))
        three = middle.slopes(_moved(law, two, h / 2))
        four = right.slopes(_moved(law, three, h))
        mean = [
            (a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(one, two, three, four, strict=True)
        ]
        law = _moved(law, mean, h)
    return law


def _moved(law: LinearLaw, slopes: Sequence[float], h: float) -> LinearLaw:
    m, v, z = slopes
    return LinearLaw(law.mean + h * m, law.variance + h * v, law.log_normaliser + h * z)


def read(gen: MarkovGenerator, times: Tensor) -> list[Coefficients]:
    """The coefficients at times ``(T,)``, read off the generator at −1, 0, 1 and checked at 2.

    Raises:
        CapabilityError: the generator is not of this form, or is infinite at one of the times.
    """
    if "jumps" in gen.has:
        raise CapabilityError("linear laws", "normal laws do not stay normal under jumps.")
    count = len(times)
    points = torch.tensor([-1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    x = points.repeat_interleave(count)[:, None]
    state: Any = {"x": x} if isinstance(gen.space, Product) else x
    parts = gen(times.repeat(4), state)
    zero = torch.zeros(4, count, dtype=torch.float64)
    flow = zero if parts.velocity is None else _leaf(parts.velocity).reshape(4, count)
    gain = zero if parts.potential is None else parts.potential.reshape(4, count)
    noise = zero
    if parts.diffusion is not None:
        columns = parts.diffusion.columns(gen.space, state)
        noise = sum((_leaf(c).square().sum(0).reshape(4, count) for c in columns), zero)
    k, c = (flow[2] - flow[0]) / 2, flow[1]
    a, b, q = gain[1], (gain[2] - gain[0]) / 2, (gain[2] + gain[0]) / 2 - gain[1]
    left = (flow[3] - c - 2 * k).abs() + (gain[3] - a - 2 * b - 4 * q).abs()
    left = left + (noise[3] - noise[0]).abs()
    size = 1 + flow.abs().amax(0) + gain.abs().amax(0) + noise.amax(0)
    if not bool((left <= 1e-9 * size).all()):
        raise CapabilityError(
            "linear laws",
            "velocities c + kx, noise σ(t) and potentials a + bx + qx² keep normal laws normal.",
            got=f"off by {float((left / size).max()):.3g}",
            fix="use a grid solver (genpath_compose.grid_solvers)",
        )
    rows = torch.stack([c, k, noise[1], a, b, q], 1).tolist()
    return [Coefficients(*row) for row in rows]


def _leaf(tangent: Any) -> Tensor:
    found: Tensor = tangent if isinstance(tangent, Tensor) else tangent["x"]
    return found
