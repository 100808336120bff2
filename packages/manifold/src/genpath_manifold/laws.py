r"""Laws on the sphere, with densities per unit of area (the Riemannian volume).

    uniform              p = 1 / Vol(S^n)
    von Mises–Fisher     p = C(κ) exp(κ⟨μ, x⟩),  C(κ) = κ / (4π sinh κ)             on S²
    heat kernel          p_t = Σ_l (2l+1)/(4π) e^{−l(l+1)t/2} P_l(⟨μ, x⟩)            on S²

(Fisher 1953; Mardia & Jupp 2000; semester II, R.19). The von Mises–Fisher density is evaluated as

    log p = log κ − log 2π − log(1 − e^{−2κ}) − ½κ|x − μ|²

because ⟨μ, x⟩ − 1 = −½|x − μ|²: nothing overflows and no digits cancel, for κ from 1e-8 to 1e5 and
beyond. The heat kernel has the generator ½Δ: variance t in each tangent direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.spaces import Space

from .spaces import Sphere

__all__ = [
    "SphereHeatKernel",
    "UniformSphere",
    "VonMisesFisher",
    "VonMisesFisherMixture",
    "uniform",
    "von_mises_fisher",
]


@dataclass(frozen=True)
class UniformSphere:
    """The uniform law on S^n: the component ``law.manifold.uniform``.

    Args:
        space: the sphere.
        dtype: of the draws; torch's default when None.

    Example:
        >>> UniformSphere(Sphere(2)).log_prob(torch.tensor([[0.0, 0.0, 1.0]]))
        tensor([-2.5310])
    """

    space: Sphere
    dtype: torch.dtype | None = None

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Normalised standard normal vectors."""
        dtype = self.dtype or torch.get_default_dtype()
        shape = (count, *self.space.event_shape)
        noise = torch.randn(shape, generator=rng, device=rng.device, dtype=dtype)
        return self.space.project(noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """−log Vol(S^n) at every row."""
        self.space.check(x, "UniformSphere.log_prob")
        return torch.full_like(x[:, 0], -self.space.log_volume)


def uniform(space: Space) -> UniformSphere:
    """The uniform law of a sphere, for configs.

    Raises:
        CapabilityError: the space is not a sphere.

    Example:
        >>> uniform(Sphere(2)).log_prob(torch.tensor([[0.0, 0.0, 1.0]]))  # −log 4π
        tensor([-2.5310])
    """
    return UniformSphere(_sphere(space, "law.manifold.uniform"))


@dataclass(frozen=True)
class VonMisesFisherMixture:
    """The mean of von Mises–Fisher laws with one concentration: a kernel density on S².

    Args:
        means: unit vectors ``(count, 3)``.
        kappa: the concentration, positive.
        chunk: pairs (row, mean) held at once, in units of 1 million.

    ``log_prob`` works in float64 and returns the dtype of its argument.

    Raises:
        DomainError: ``kappa`` is not positive, or there is no mean.
        ShapeError: the means are not vectors of R³.

    Example:
        >>> law = VonMisesFisherMixture(torch.eye(3), 10.0)
        >>> law.log_prob(torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([-0.6338])
    """

    means: Tensor
    kappa: float
    chunk: int = 8

    def __post_init__(self) -> None:
        Sphere(2).check(self.means, "VonMisesFisherMixture")
        if not (math.isfinite(self.kappa) and self.kappa > 0):
            raise DomainError("VonMisesFisherMixture", "kappa is positive.", got=f"{self.kappa}")
        if len(self.means) == 0:
            raise DomainError("VonMisesFisherMixture", "there is at least one mean.", got="none")

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """A mean, then a von Mises–Fisher draw around it, by inversion of its height."""
        options = {"generator": rng, "device": rng.device}
        index = torch.randint(len(self.means), (count,), **options)  # type: ignore[call-overload]
        mean = self.means[index.to(self.means.device)].to(rng.device)
        u = torch.rand(count, 2, dtype=mean.dtype, **options)  # type: ignore[call-overload]
        span = -math.expm1(-2 * self.kappa)
        depth = (-torch.log1p(-u[:, :1] * span) / self.kappa).clamp(max=2)  # 1 − ⟨μ, x⟩
        angle = 2 * math.pi * u[:, 1:]
        first, second = Sphere(2).tangent_basis(mean)
        around = torch.cos(angle) * first + torch.sin(angle) * second
        return Sphere(2).project((1 - depth) * mean + (depth * (2 - depth)).sqrt() * around)

    def log_prob(self, x: Tensor) -> Tensor:
        """log (1/count) Σ p(x; μ_i, κ), in chunks of rows."""
        Sphere(2).check(x, "VonMisesFisherMixture.log_prob")
        means = unit(self.means).T
        rows = max(1, self.chunk * 1_000_000 // means.shape[1])
        constant = log_normaliser(self.kappa) - math.log(means.shape[1])
        pieces = [
            torch.logsumexp(self.kappa * (unit(piece) @ means - 1), 1) + constant
            for piece in x.split(rows)
        ]
        return torch.cat(pieces).to(x.dtype)


@dataclass(frozen=True)
class VonMisesFisher:
    """The von Mises–Fisher law on S², concentrated at one mean.

    Args:
        mean: a unit vector ``(3,)``.
        kappa: the concentration, positive; the variance of each tangent coordinate is about 1/κ.

    Raises:
        DomainError: ``kappa`` is not positive, or the mean is no unit vector.

    Example:
        >>> law = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), 1e5)
        >>> law.log_prob(torch.tensor([[0.0, 0.0, 1.0]]))
        tensor([9.6750])
    """

    mean: Tensor
    kappa: float

    def __post_init__(self) -> None:
        if tuple(self.mean.shape) != (3,):
            raise ShapeError("VonMisesFisher", "the mean is one vector of R³.",
                             got=str(tuple(self.mean.shape)))  # fmt: skip
        if not (math.isfinite(self.kappa) and self.kappa > 0):
            raise DomainError("VonMisesFisher", "kappa is positive.", got=f"{self.kappa}")
        if abs(float(self.mean.norm()) - 1) > 1e-4:
            raise DomainError(
                "VonMisesFisher",
                "the mean is a unit vector.",
                got=f"norm {float(self.mean.norm()):g}",
                fix="divide it by its norm",
            )

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Exact draws, by inversion of the height ⟨μ, x⟩."""
        return VonMisesFisherMixture(self.mean[None], self.kappa).sample(count, rng)

    def log_prob(self, x: Tensor) -> Tensor:
        """log C(κ) + κ⟨μ, x⟩, differentiable in x."""
        Sphere(2).check(x, "VonMisesFisher.log_prob")
        difference = x - self.mean.to(x.dtype)
        return log_normaliser(self.kappa) - 0.5 * self.kappa * (difference**2).sum(-1)


def von_mises_fisher(mean: Sequence[float], kappa: float) -> VonMisesFisher:
    """A von Mises–Fisher law from numbers, for configs; the mean is normalised.

    Raises:
        DomainError: the mean is not three numbers, not all zero.

    Example:
        >>> law = von_mises_fisher([0.0, 0.0, 2.0], kappa=1e4)
        >>> bool((law.sample(5, torch.Generator().manual_seed(0))[:, 2] > 0.99).all())
        True
    """
    vector = torch.tensor(list(mean), dtype=torch.float64)
    if vector.shape != (3,) or not float(vector.norm()) > 0:
        raise DomainError("law.manifold.von_mises_fisher", "mean is three numbers, not all zero.",
                          got=str(list(mean)))  # fmt: skip
    return VonMisesFisher((vector / vector.norm()).to(torch.get_default_dtype()), kappa)


@dataclass(frozen=True)
class SphereHeatKernel:
    """The law at time t of Brownian motion on S² (generator ½Δ) started at ``mean``.

    The Legendre series in float64. It cancels where the density is far below its maximum: the
    absolute error is about 1e-16 times the value at the mean, so the relative error at the antipode
    is 1e-16 · e^{π²/2t}: below 1e-5 for the smallest t allowed, 0.2.

    Args:
        mean: a unit vector ``(3,)``.
        time: t ≥ 0.2.

    Raises:
        DomainError: the time is below 0.2 (semester II, Y15).

    Example:
        >>> law = SphereHeatKernel(torch.tensor([0.0, 0.0, 1.0]), 0.5)
        >>> law.log_prob(torch.tensor([[0.0, 0.0, 1.0]])).exp()
        tensor([0.3462])
    """

    mean: Tensor
    time: float

    def __post_init__(self) -> None:
        if not self.time >= 0.2:
            raise DomainError(
                "SphereHeatKernel",
                "the series is accurate everywhere for time ≥ 0.2.",
                got=f"time {self.time:g}",
                fix="use VonMisesFisher with kappa = 1/time, its limit as time → 0",
            )

    def log_prob(self, x: Tensor) -> Tensor:
        """log p_t, differentiable in x."""
        Sphere(2).check(x, "SphereHeatKernel.log_prob")
        height = x.double() @ self.mean.to(x.device).double()
        before, here, total = torch.zeros_like(height), torch.ones_like(height), 0 * height
        degree = 0
        while (weight := math.exp(-degree * (degree + 1) * self.time / 2)) > 1e-22:
            total = total + (2 * degree + 1) / (4 * math.pi) * weight * here
            nxt = ((2 * degree + 1) * height * here - degree * before) / (degree + 1)
            before, here, degree = here, nxt, degree + 1
        return total.log().to(x.dtype)

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Draws by inversion of the height's distribution function on a grid of 4096 cells.

        ∫ P_l over [z, 1] is (P_{l−1}(z) − P_{l+1}(z))/(2l + 1); here the density is integrated by
        the midpoint rule and inverted linearly, with an error of 1e-7 in law.
        """
        mean = self.mean.to(rng.device)
        edges = torch.linspace(-1, 1, 4097, dtype=torch.float64, device=rng.device)
        middle = (edges[:-1] + edges[1:]) / 2
        axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, device=rng.device)
        points = torch.stack([(1 - middle**2).sqrt(), 0 * middle, middle], 1)
        mass = SphereHeatKernel(axis, self.time).log_prob(points).exp()
        total = torch.cat([mass.new_zeros(1), mass.cumsum(0)])
        total = total / total[-1]
        u = torch.rand(count, 2, generator=rng, device=rng.device, dtype=torch.float64)
        cell = (torch.searchsorted(total, u[:, 0].contiguous()) - 1).clamp(0, 4095)
        share = (u[:, 0] - total[cell]) / (total[cell + 1] - total[cell])
        height = (edges[cell] + share * (edges[1] - edges[0])).clamp(-1, 1)[:, None]
        first, second = Sphere(2).tangent_basis(mean.double()[None])
        angle = 2 * math.pi * u[:, 1:]
        around = torch.cos(angle) * first + torch.sin(angle) * second
        point = height * mean.double() + (1 - height**2).sqrt() * around
        return Sphere(2).project(point).to(self.mean.dtype)


def log_normaliser(kappa: float) -> float:
    """log of the density at the mean: log κ − log 2π − log(1 − e^{−2κ})."""
    return math.log(kappa) - math.log(2 * math.pi) - math.log(-math.expm1(-2 * kappa))


def unit(x: Tensor) -> Tensor:
    """Rows in float64, normalised anew."""
    wide: Tensor = x.double()
    length: Tensor = wide.norm(dim=-1, keepdim=True)
    return wide / length


def _sphere(space: Space, where: str) -> Sphere:
    if not isinstance(space, Sphere):
        raise CapabilityError(
            where,
            "it lives on a sphere.",
            got=repr(space),
            fix="use data on a sphere, or the base law of this space",
        )
    return space
