r"""Distances of laws from draws and log-densities.

    KL(p ‖ q) = E_p[log p − log q + (q/p − 1)]        the bracket has mean 0

Terms of a mean are independent, and each mean comes with its standard error (`Estimate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError
from genpath.states import chunks

__all__ = [
    "Estimate",
    "KernelDensity",
    "LogDensityError",
    "kl_monte_carlo",
    "kl_terms",
    "log_density_error",
    "projected_kl",
]


@dataclass(frozen=True)
class Estimate:
    """A mean with its error.

    Args:
        value: the mean.
        standard_error: its standard error; NaN for one term.
        count: how many independent terms.
        inner: paths per term, where a term is itself a logarithm of a mean.
        bias: what those inner means add to the value, to first order in 1/inner; 0 for none.

    Example:
        >>> Estimate.of(torch.tensor([1.0, 3.0]), "example")
        Estimate(value=2.0, standard_error=1.0, count=2, inner=1, bias=0.0)
    """

    value: float
    standard_error: float
    count: int
    inner: int = 1
    bias: float = 0.0

    @classmethod
    def of(cls, terms: Tensor, where: str, *, inner: int = 1, bias: float = 0.0) -> Estimate:
        """The mean of independent terms ``(n,)``.

        Raises:
            DomainError: there is no term.
        """
        count = len(terms)
        if not count:
            raise DomainError(where, "a mean needs a row or more.", got="an empty batch")
        numbers = terms.double()
        error = float(numbers.std()) / math.sqrt(count) if count > 1 else math.nan
        return cls(float(numbers.mean()), error, count, inner, bias)


def kl_terms(log_p: Tensor, log_q: Tensor, *, control_variate: bool = True) -> Tensor:
    """log p − log q + (q/p − 1) at draws of p: terms with mean KL(p ‖ q), none of them negative.

    The bracket has mean 0 (where q ≪ p) and takes most of the variance off. Subtracting it, as it
    is printed in places, keeps the mean and raises the variance.

    Args:
        log_p, log_q: log-densities at the same draws ``(n,)``.
        control_variate: False leaves the bracket out.

    Example:
        >>> kl_terms(torch.zeros(2), torch.tensor([0.0, 1.0]))  # −1 + (e − 1)
        tensor([0.0000, 0.7183])
    """
    ratio = log_q - log_p
    return torch.expm1(ratio) - ratio if control_variate else -ratio


LogDensity = Callable[[Tensor], Tensor]


def kl_monte_carlo(
    log_p: LogDensity, log_q: LogDensity, x: Tensor, *, control_variate: bool = True
) -> Estimate:
    """KL(p ‖ q) from draws of p, by `kl_terms`.

    Args:
        log_p, log_q: log-densities ``(n, *event) -> (n,)``.
        x: draws of p.
        control_variate: see `kl_terms`.

    Raises:
        DomainError: no draws.

    Example:
        >>> from genpath import Gaussian
        >>> p, q, rng = Gaussian((1,)), Gaussian((1,), mean=0.1), torch.Generator().manual_seed(0)
        >>> found = kl_monte_carlo(p.log_prob, q.log_prob, p.sample(1000, rng))
        >>> abs(found.value - 0.005) < 5 * found.standard_error
        True
    """
    terms = kl_terms(log_p(x), log_q(x), control_variate=control_variate)
    return Estimate.of(terms, "kl_monte_carlo")


@dataclass(frozen=True)
class LogDensityError:
    """Mean and variance of |log p − log p̂|.

    Args:
        mean, variance: over the points.
        standard_error: of the mean.
        count: points.
    """

    mean: float
    variance: float
    standard_error: float
    count: int


def log_density_error(log_p: Tensor, log_q: Tensor) -> LogDensityError:
    """E|log p − log p̂| and its variance over points, nats.

    Args:
        log_p, log_q: two log-densities at the same points ``(n,)``, n ≥ 2.

    Raises:
        ShapeError: they do not pair up.
        DomainError: fewer than two points.

    Example:
        >>> found = log_density_error(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]))
        >>> found.mean, found.variance
        (0.5, 0.0)
    """
    if log_p.shape != log_q.shape:
        raise ShapeError(
            "log_density_error",
            "the log-densities are those of the same points.",
            got=f"{tuple(log_p.shape)} and {tuple(log_q.shape)}",
        )
    gap = (log_p - log_q).abs().double()
    if len(gap) < 2:
        raise DomainError("log_density_error", "a variance needs two points.", got=str(len(gap)))
    variance = float(gap.var())
    return LogDensityError(float(gap.mean()), variance, math.sqrt(variance / len(gap)), len(gap))


@dataclass(frozen=True)
class KernelDensity:
    """A normal kernel at each of n points: n^{−1} Σ_i N(x; x_i, h² diag(s²)).

    s are the points' standard deviations; h is Scott's n^{−1/(d+4)} if None.

    Args:
        points: ``(n, d)``, n ≥ 2.
        bandwidth: h > 0, in units of the standard deviations.
        chunk: queries compared with all points at once.

    Raises:
        ShapeError: the points are not ``(n, d)`` with n ≥ 2.
        DomainError: h ≤ 0, or a constant coordinate.

    Example:
        >>> kernels = KernelDensity(torch.tensor([[-1.0], [1.0]]), bandwidth=1.0)  # s = √2
        >>> kernels.log_prob(torch.zeros(1, 1))  # −¼ − ½ log 4π
        tensor([-1.5155])
    """

    points: Tensor
    bandwidth: float | None = None
    chunk: int = 512

    def __post_init__(self) -> None:
        if self.points.dim() != 2 or len(self.points) < 2:
            raise ShapeError(
                "KernelDensity",
                "points are (n, d) with n ≥ 2.",
                got=f"{tuple(self.points.shape)}",
            )
        small = self.bandwidth is not None and not self.bandwidth > 0
        if small or not bool((self.points.std(0) > 0).all()):
            raise DomainError(
                "KernelDensity", "the bandwidth is positive, and no coordinate is constant."
            )

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density ``(batch,)`` at points ``(batch, d)``."""
        count, size = self.points.shape
        width = self.bandwidth if self.bandwidth is not None else count ** (-1 / (size + 4))
        scale = width * self.points.std(0)
        centres = self.points / scale
        constant = scale.log().sum() + 0.5 * size * math.log(2 * math.pi) + math.log(count)
        found = []
        for piece in chunks(x, self.chunk):
            squares = torch.cdist(piece / scale, centres).square()
            found.append(torch.logsumexp(-0.5 * squares, 1) - constant)
        return torch.cat(found)


def projected_kl(
    samples: Tensor,
    reference: Tensor,
    coordinates: tuple[int, ...] = (0, 1),
    *,
    bandwidth: float | None = None,
) -> Estimate:
    """KL of a reference from samples in a few coordinates, both by kernels: the metric of E4.

    Half of the reference gives its kernels, the other half the draws at which the terms are taken,
    so that no draw meets its own kernel. The smoothing of the kernels is common to both laws.

    Args:
        samples: of the model, ``(n, d)``.
        reference: of the data, ``(m, d)``.
        coordinates: which are kept.
        bandwidth: of `KernelDensity`.

    Raises:
        DomainError: fewer than four reference rows.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 2000, 5, generator=rng)
        >>> abs(projected_kl(x, y).value) < 0.05, projected_kl(x + 1, y).value > 0.5
        (True, True)
    """
    index = list(coordinates)
    kept, half = reference[:, index], len(reference) // 2
    if half < 2:
        raise DomainError(
            "projected_kl", "a reference has four rows or more.", got=str(len(reference))
        )
    true = KernelDensity(kept[:half], bandwidth)
    model = KernelDensity(samples[: max(half, 2), index], bandwidth)
    return kl_monte_carlo(true.log_prob, model.log_prob, kept[half:])
