r"""Experts of one noising process, whose laws are known: normal laws, and mixtures of them.

With f = kx and noise σ a normal law stays normal: m' = −km, V' = −2kV − σ², in our time. The
course's numbers are those of k = −0.7, σ = 1.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.parts import Parts
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.paths import LinearPath

from ..experts import DiffusionExpert, ExactExpert
from ..normals import Normal
from ..potentials import corrected
from ..processes import LinearDrift

DOUBLE = torch.float64
SLOPE, SIGMA = -0.7, 1.1


@dataclass(frozen=True)
class Spreading:
    """N(m, V) under the noising process, run in our time; for t ``(batch,)`` or numbers."""

    mean: float = 0.0
    variance: float = 2.0
    slope: float = SLOPE
    sigma: float = SIGMA

    def mean_at(self, t: Any) -> Any:
        """m(t)."""
        return self.mean * _exp(-self.slope * t)

    def variance_at(self, t: Any) -> Any:
        """V(t)."""
        rest = -(self.sigma**2) / (2 * self.slope)
        return rest + (self.variance - rest) * _exp(-2 * self.slope * t)

    def expert(self, size: int = 1, name: str = "q") -> DiffusionExpert:
        """The law N(m(t), V(t)) in every coordinate, as an expert on R^size."""

        def score(t: Tensor, x: Tensor) -> Tensor:
            found: Tensor = -(x - self.mean_at(t)[:, None]) / self.variance_at(t)[:, None]
            return found

        def log_density(t: Tensor, x: Tensor) -> Tensor:
            spread = self.variance_at(t)[:, None]
            square = (x - self.mean_at(t)[:, None]) ** 2 / spread
            found: Tensor = -0.5 * (square + (2 * math.pi * spread).log()).sum(1)
            return found

        full = torch.ones(size, dtype=DOUBLE)
        return DiffusionExpert(
            score,
            LinearDrift(self.slope),
            lambda t: torch.full_like(t, self.sigma),
            (size,),
            name,
            start=Normal(self.mean * full, full / self.variance, DOUBLE),
            log_density=log_density,
        )


def _exp(value: Any) -> Any:
    return value.exp() if isinstance(value, Tensor) else math.exp(value)


def spreading(size: int, *variances: float, mean: float = 0.0) -> list[DiffusionExpert]:
    """Normal experts of one process; the second and later ones have other means."""
    return [Spreading(mean * i, v).expert(size, "abcd"[i]) for i, v in enumerate(variances)]


def mixed(schedule: AffineSchedule, shift: float = 0.0, name: str = "mixed") -> ExactExpert:
    """A mixture of two normal laws of the plane under a schedule, exact."""
    law = GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=DOUBLE),
        torch.tensor([[-1.5, 0.5], [1.0, -0.4]], dtype=DOUBLE) + shift,
        torch.tensor([[0.6, 0.6], [0.5, 0.9]], dtype=DOUBLE),
    )
    marginal = MixtureMarginal(LinearPath(Euclidean(2), schedule, base="gaussian"), law)
    return ExactExpert(marginal, (2,), name, start=Normal.isotropic((2,)))


def unweighted(gen: MarkovGenerator) -> MarkovGenerator:
    """The motion alone."""

    def evaluate(t: Tensor, state: Any) -> Parts:
        parts = gen.evaluate(t, state)
        return Parts(parts.velocity, parts.diffusion)

    return MarkovGenerator(gen.space, evaluate, gen.has - {"potential"})


def generic(gen: MarkovGenerator, composition: Any, t: Tensor, x: Tensor) -> Tensor:
    """∂_t log h − (L*h)/h of the motion of a generator, by automatic differentiation."""

    def log_density(s: Tensor, state: Any) -> Tensor:
        found: Tensor = composition.log_density(s, state["x"])
        return found

    found = corrected(unweighted(gen), log_density)(t, {"x": x}).potential
    assert found is not None
    return found


def points(
    rng: torch.Generator, count: int, size: int, low: float = 0.05, high: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Times in [low, high], and states."""
    t = low + (high - low) * torch.rand(count, generator=rng, dtype=DOUBLE)
    return t, 1.5 * torch.randn(count, size, generator=rng, dtype=DOUBLE)


def by_product_rule(
    h: Callable[[Tensor, Tensor], Tensor],
    drift: Callable[[Tensor, Tensor], Tensor],
    covariance: Callable[[Tensor, Tensor], Tensor],
    t: Tensor,
    x: Tensor,
) -> Tensor:
    """[∂_t h + div(hμ) − ½∂_i∂_j(a_ij h)]/h, of functions of one time and one point.

    Derivatives of the products themselves: nothing is expanded.
    """

    def one(s: Tensor, y: Tensor) -> Tensor:
        rate = torch.func.grad(h, argnums=0)(s, y)
        flux = torch.func.jacfwd(lambda z: h(s, z) * drift(s, z))(y)
        spread = torch.func.hessian(lambda z: h(s, z) * covariance(s, z))(y)
        total = rate + torch.trace(flux) - 0.5 * torch.einsum("ijij->", spread)
        found: Tensor = total / h(s, y)
        return found

    return torch.stack([one(s, y) for s, y in zip(t, x, strict=True)])


@dataclass(frozen=True)
class Letters:
    """The letters 0 … count − 1, all of them neighbours."""

    count: int
    event_shape: tuple[int, ...] = ()

    def contains(self, x: Any, tolerance: float = 1e-4) -> Tensor:
        """Whether x is one of them."""
        inside: Tensor = (x >= 0) & (x < self.count)
        return inside

    def project(self, x: Any) -> Any:
        """x."""
        return x

    def distance(self, x: Any, y: Any) -> Tensor:
        """0 or 1."""
        apart: Tensor = (x != y).double()
        return apart

    def neighbours(self, x: Tensor) -> Tensor:
        """The other letters, ``(count − 1, batch)``."""
        return torch.stack([(x + k) % self.count for k in range(1, self.count)])
