r"""Base laws of paths.

    N(0, C0) = law of L ξ, C0 = L Lᵀ, ξ ~ N(0, I)

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797: with a base that has the data's covariance,
the path need not create it.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError

__all__ = ["EllipticalNormal"]


@dataclass(frozen=True)
class EllipticalNormal:
    """N(0, C0) on R^d.

    Args:
        covariance: C0 ``(d, d)``, symmetric and positive definite.

    Raises:
        ShapeError: the covariance is no square matrix.
        DomainError: it is not symmetric and positive definite.

    Example:
        >>> law = EllipticalNormal(torch.diag(torch.tensor([1.0, 4.0])))
        >>> law.log_prob(torch.zeros(1, 2))  # −log 2π − ½ log 4
        tensor([-2.5310])
    """

    covariance: Tensor

    def __post_init__(self) -> None:
        c0 = self.covariance
        if c0.dim() != 2 or c0.shape[0] != c0.shape[1]:
            raise ShapeError("EllipticalNormal", "C0 is (d, d).", got=str(tuple(c0.shape)))
        symmetric = torch.allclose(c0, c0.T, atol=1e-6 * float(c0.abs().max()))
        if not symmetric or int(torch.linalg.cholesky_ex(c0.double()).info) != 0:
            raise DomainError("EllipticalNormal", "C0 is symmetric and positive definite.")

    def _factor(self, like: Tensor) -> Tensor:
        factor: Tensor = torch.linalg.cholesky(self.covariance.double())
        return factor.to(device=like.device, dtype=like.dtype)

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` rows ``(count, d)``, on the device of ``rng``."""
        shape = (count, self.covariance.shape[0])
        z = torch.randn(shape, generator=rng, device=rng.device, dtype=self.covariance.dtype)
        return z @ self._factor(z).T

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of each row ``(batch,)``."""
        factor = self._factor(x)
        white: Tensor = torch.linalg.solve_triangular(factor, x.T, upper=False).T
        log_det = factor.diagonal().log().sum()
        value: Tensor = -0.5 * white.square().sum(1) - log_det
        return value - 0.5 * x.shape[1] * math.log(2 * math.pi)
