r"""Normal laws, and the product of powers of them: where the particles of a composition begin.

    Π N(m_i, 1/p_i)^{γ_i} ∝ N(m, 1/P)      P = Σ γ_i p_i      P m = Σ γ_i p_i m_i

axis by axis; it is a law where P > 0. With standard normal starts, P_k = C_k(0), the number of the
existence criterion at time 0. The normaliser Z_0 = ∫ Π N(m_i, 1/p_i)^{γ_i} is known too:

    log Z_0 = ½ Σ_k [Σ_i γ_i (log p_ik − log 2π − p_ik m_ik²) + P_k m_k² + log 2π − log P_k]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError

__all__ = ["Normal", "power_product"]

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Normal:
    """N(mean, diag(1/precision)) on R^d, for points of any shape.

    Args:
        mean: ``(*event)``, in float64.
        precision: 1/variance of each coordinate, of the same shape; positive.
        dtype: of the draws; torch's default when None.

    Raises:
        ShapeError: the two differ in shape.
        DomainError: a precision is not positive.

    Example:
        >>> Normal.isotropic((2,), std=2.0).log_prob(torch.zeros(1, 2))  # −log(2π · 4)
        tensor([-3.2242])
    """

    mean: Tensor
    precision: Tensor
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.mean.shape != self.precision.shape:
            got = f"mean {tuple(self.mean.shape)}, precision {tuple(self.precision.shape)}"
            raise ShapeError("Normal", "there is one precision per coordinate.", got=got)
        if not bool((self.precision > 0).all()):
            raise DomainError(
                "Normal", "precisions are positive.", got=f"{float(self.precision.min()):g}"
            )

    @classmethod
    def isotropic(cls, event_shape: Sequence[int], mean: float = 0.0, std: float = 1.0) -> Normal:
        """N(mean, std² I)."""
        full = torch.full(tuple(event_shape), 1.0, dtype=torch.float64)
        return cls(mean * full, full / std**2)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return tuple(self.mean.shape)

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` rows, on the device of ``rng``."""
        dtype = self.dtype or torch.get_default_dtype()
        z = torch.randn(count, *self.event_shape, generator=rng, device=rng.device, dtype=dtype)
        return self.mean.to(z) + z / self.precision.sqrt().to(z)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of each row: ``(batch,)``."""
        mean, precision = self.mean.to(x), self.precision.to(x)
        terms = precision.log() - LOG_2PI - precision * (x - mean) ** 2
        return 0.5 * terms.reshape(len(x), -1).sum(1)


def power_product(
    factors: Sequence[tuple[Tensor, Tensor]], powers: Sequence[float]
) -> tuple[Normal, float]:
    """The law ∝ Π N(mean, 1/precision)^power, and log of the integral of that product.

    Args:
        factors: mean and precision of each, of one shape; a precision of 0 says that the factor
            does not depend on the coordinate.
        powers: γ_i.

    Raises:
        DomainError: the product cannot be normalised; the coordinate is named.

    Example:
        >>> zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        >>> law, log_z = power_product([(zero, one)], [2.0])
        >>> law.precision, round(log_z, 4)  # ∫ N(0,1)² = 1/√(4π)
        (tensor([2.], dtype=torch.float64), -1.2655)
    """
    pairs = list(zip(powers, factors, strict=True))
    precision = torch.stack([g * p for g, (_, p) in pairs]).sum(0)
    if not bool((precision > 0).all()):
        worst = int(precision.reshape(-1).argmin())
        raise DomainError(
            "start of a composition",
            "a product of powers of normal laws is a law where Σ γ/σ² > 0 in every coordinate.",
            got=f"{float(precision.reshape(-1)[worst]):g} in coordinate {worst}",
            fix="change the exponents at the start, or cover the coordinate by an expert: "
            "nothing that happens later repairs it",
        )
    mean = torch.stack([g * p * m for g, (m, p) in pairs]).sum(0) / precision
    log_z = precision * mean**2 + LOG_2PI - precision.log()
    for g, (m, p) in pairs:
        seen = torch.where(p > 0, p, 1.0).log() - LOG_2PI * (p > 0).to(p)
        log_z = log_z + g * (seen - p * m**2)
    return Normal(mean, precision), 0.5 * float(log_z.sum())
