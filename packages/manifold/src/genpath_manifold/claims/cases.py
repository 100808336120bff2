r"""What the claims share: quadrature on S², and the exact marginal of a geodesic path.

    ∫ f dA ≈ Σ_j w_j (2π/m) Σ_k f(z_j, 2πk/m)      Gauss–Legendre in height, equal angles around

is exact for polynomials of degree below 2n and m. With the uniform base and data of density q, the
point x_t = exp_{x1}(k log_{x1} x0), k = 1 − κ(t), has a law that is an average of q: in polar
coordinates around x, where the area element of x0 over that of x_t is sin(r/k)/(k sin r),

    p_t(x) = (1/4π) ∫₀^π sin ρ ∫₀^{2π} q(exp_x(kρ e_ψ)) dψ dρ,       x1 = exp_x(kρ e_ψ)

and E[u(x_t | x1) | x_t = x] is the mean of u under the same weights. Both are smooth in t and x,
so that this quadrature is spectrally accurate and can be differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.laws import Empirical
from genpath.schedules import KeepSchedule, linear_keep
from genpath.testing.contracts.schedules import gauss_legendre

from ..laws import UniformSphere, VonMisesFisherMixture
from ..paths import GeodesicPath, late
from ..spaces import Sphere

__all__ = [
    "DOUBLE",
    "NORTH",
    "S1",
    "S2",
    "SCHEDULES",
    "Atoms",
    "Marginal",
    "atoms",
    "bumps",
    "finer",
    "gentle",
    "hemisphere",
    "pairs",
    "points",
    "quadrature",
    "repeated",
    "row",
    "seeded",
    "tangents",
]

SCHEDULES: tuple[Callable[[], KeepSchedule], ...] = (linear_keep, lambda: late(0.05))
DOUBLE, S1, S2 = torch.float64, Sphere(1), Sphere(2)
NORTH = torch.tensor([0.0, 0.0, 1.0], dtype=DOUBLE)


def row(*values: float) -> Tensor:
    """One row in float64."""
    return torch.tensor([values], dtype=DOUBLE)


def seeded(seed: int = 7) -> torch.Generator:
    """The same numbers each time."""
    return torch.Generator().manual_seed(seed)


def points(n: int, dtype: torch.dtype = DOUBLE) -> Callable[[int, torch.Generator], Tensor]:
    """Draws uniform points of S^n."""
    return UniformSphere(Sphere(n), dtype).sample


def tangents(space: Sphere, x: Tensor, length: float, rng: torch.Generator) -> Tensor:
    """Tangents of one length, projected twice so that they are tangent to rounding."""
    v = space.tangent_noise(x, rng)
    v = space.project_tangent(x, v / v.norm(dim=-1, keepdim=True))
    result: Tensor = length * v / v.norm(dim=-1, keepdim=True)
    return result


def quadrature(count: int = 24) -> tuple[Tensor, Tensor]:
    """Points ``(2 count², 3)`` of S² with weights that sum to 4π."""
    z, weights = gauss_legendre(count)
    turns = 2 * count
    angle = 2 * math.pi * torch.arange(turns, dtype=DOUBLE) / turns
    z, angle = z.repeat_interleave(turns), angle.repeat(count)
    radius = (1 - z * z).sqrt()
    x = torch.stack([radius * angle.cos(), radius * angle.sin(), z], 1)
    return x, weights.repeat_interleave(turns) * (2 * math.pi / turns)


def bumps() -> VonMisesFisherMixture:
    """Data without symmetry: one place twice as likely as the other."""
    means = row(0.6, 0.0, 0.8), row(0.6, 0.0, 0.8), row(-0.48, 0.6, -0.64)
    return VonMisesFisherMixture(torch.cat(means), 3.0)


def gentle() -> VonMisesFisherMixture:
    """The same places in a density of low degree, for quadratures with few nodes."""
    return VonMisesFisherMixture(bumps().means, 1.0)


def hemisphere(n: int) -> Tensor:
    """Three points of S^n, the last of them twice, less than a right angle from the first axis."""
    first, second, third = torch.eye(n + 1, dtype=DOUBLE)[[0, 1, -1]]
    rows = torch.stack([first, first + 0.7 * second, first - 0.5 * third])
    four: Tensor = torch.cat([rows, rows[-1:]])
    length: Tensor = four.norm(dim=1, keepdim=True)
    return four / length


def repeated(t: Tensor, y: Tensor) -> Tensor:
    """The times of rows that were repeated as a whole."""
    return t.repeat(len(y) // len(t))


def pairs(law: Any, n: int = 2) -> Callable[[int, torch.Generator], Pairs]:
    """Uniform x0 and independent x1 of a law."""

    def draw(count: int, rng: torch.Generator) -> Pairs:
        return Pairs(points(n)(count, rng), law.sample(count, rng))

    return draw


@dataclass(frozen=True)
class Marginal:
    """p_t, its logarithm's derivatives and E[u | x_t] of a geodesic path on S².

    Args:
        path: its conditional generator is averaged.
        law: of x1; a differentiable density.
        schedule: κ of the density; apart from the path, so that faults of the path are seen.
        nodes: of the quadrature in radius; half as many again in angle.
    """

    path: GeodesicPath
    law: VonMisesFisherMixture
    schedule: KeepSchedule
    nodes: int = 16

    def log_density(self, t: Tensor, x: Tensor) -> Tensor:
        """log p_t(x); points may be a batch repeated as a whole."""
        _, weights = self._ends(repeated(t, x), x)
        return weights.sum(1).log()

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """E[u(x_t | x0, x1) | x_t = x], with u from the path's conditional generator."""
        x1, weights = self._ends(t, x)
        rows, count = x1.shape[:2]
        here = x[:, None].expand(-1, count, -1).reshape(rows * count, 3)
        times = t[:, None].expand(-1, count).reshape(-1)
        ends = x1.reshape(rows * count, 3)
        gen = self.path.conditional_generator(NORTH.expand_as(ends), ends)
        u = cast(Tensor, gen.evaluate(times, here).velocity).reshape(rows, count, 3)
        mean: Tensor = (weights[..., None] * u).sum(1) / weights.sum(1)[:, None]
        return mean

    def score(self, t: Tensor, x: Tensor) -> Tensor:
        """∇log p_t(x): the mean of ⟨x, x1⟩ g − ⟨g, x⟩ x1, g = ∇log q(x1), which turns with x."""
        x1, weights = self._ends(t, x)
        heights = (x1 @ self.law.means.T) * self.law.kappa
        g = self.law.kappa * (heights.softmax(-1) @ self.law.means)
        here = x[:, None]
        turned = (here * x1).sum(-1, keepdim=True) * g - (here * g).sum(-1, keepdim=True) * x1
        mean = (weights[..., None] * turned).sum(1) / weights.sum(1)[:, None]
        return S2.project_tangent(x, mean)

    def rate(self, t: Tensor, x: Tensor) -> Tensor:
        """∂_t log p_t(x), by forward differentiation of the quadrature."""
        slope: Tensor = torch.func.jvp(
            lambda s: self.log_density(s, x), (t,), (torch.ones_like(t),)
        )[1]
        return slope

    def _ends(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Endpoints x1 ``(rows, nodes, 3)`` and their weights in p_t(x)."""
        at, weights = gauss_legendre(self.nodes)
        turns = self.nodes + self.nodes // 2
        rho = (math.pi / 2) * (at + 1).repeat_interleave(turns)
        weight = (math.pi / 2) * weights.repeat_interleave(turns) * rho.sin()
        psi = (2 * math.pi * torch.arange(turns, dtype=DOUBLE) / turns).repeat(self.nodes)
        first, second = S2.tangent_basis(x)
        around = psi.cos()[:, None] * first[:, None] + psi.sin()[:, None] * second[:, None]
        radius = (1 - self.schedule.kappa(t))[:, None] * rho
        ends = radius.cos()[..., None] * x[:, None] + radius.sin()[..., None] * around
        q = self.law.log_prob(ends.reshape(-1, 3)).reshape(ends.shape[:-1]).exp()
        return ends, q * weight / (2 * turns)


@dataclass(frozen=True)
class Atoms:
    """E[velocity | x_t] on S² for κ = t, the uniform base and equally likely data points.

    The posterior weights are those of the densities sin(r/k)/(k sin r), r = d(x, x1) < kπ.
    """

    places: Tensor

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        count, k = len(self.places), (1 - t)[:, None]
        here, there = x[:, None].expand(-1, count, -1), self.places.expand(len(x), -1, -1)
        log = S2.log(here.reshape(-1, 3), there.reshape(-1, 3)).reshape(len(x), count, 3)
        r = log.norm(dim=-1)
        weights = torch.where(r < k * math.pi, (r / k).sin() / r.sin(), 0.0)
        mean: Tensor = (weights[..., None] * log).sum(1) / (k * weights.sum(1, keepdim=True))
        return mean


def atoms(n: int) -> Empirical:
    """The law of the points of a hemisphere."""
    return Empirical(hemisphere(n))


def finer(marginal: Marginal) -> Marginal:
    """The same by a finer quadrature, to bound the error of the coarser one."""
    return replace(marginal, nodes=marginal.nodes + 6)
