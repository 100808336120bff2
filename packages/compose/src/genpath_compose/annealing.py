r"""Annealing: the rows of the corrector table for powers, where the noise may be tempered too.

    q^β              −f + ησ² s     ζσ     (β−1) [div f + ½σ² β |s|²]
    (q1 ⋯ qn)^β      −f + ησ² S     ζσ     (nβ−1) div f + ½βσ² (β|S|² − Σ|s_i|²)        S = Σ s_i

    η = β + (1−β) a          ζ² = (β + 2a (1−β))/β ≥ 0

One parameter a joins the motions: a = 0 follows the target's score with the expert's noise, a = ½
has noise σ/√β. The weights do not depend on it: every a adds a multiple of ½ζ²σ² s* and ζσ, which
together leave h as it is. (Course, L7.17–L7.18; Skreta et al. 2025, arXiv 2503.02819.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import DomainError

from .compositions import Composition
from .correctors import Corrector, Row, counted
from .experts import DiffusionExpert, dot
from .presets import annealed, product

__all__ = ["Annealed", "ProductOfExperts"]


def powers_of_noise(name: str, beta: float, a: float) -> tuple[float, float]:
    """η = β + (1−β) a and ζ = √((β + 2a (1−β))/β).

    Raises:
        DomainError: β ≤ 0, or ζ² < 0.
    """
    if not 0 < beta < math.inf or not math.isfinite(a):
        raise DomainError(name, "β > 0 and a are finite.", got=f"beta {beta:g}, a {a:g}")
    square = (beta + 2 * a * (1 - beta)) / beta
    if square < -1e-12:
        edge = beta / (2 * (beta - 1))
        raise DomainError(
            name,
            f"the noise ζσ is real: ζ² = (β + 2a(1−β))/β ≥ 0, a {'≤' if beta > 1 else '≥'} "
            f"{edge:.4g} for β = {beta:g}.",
            got=f"a = {a:g}, ζ² = {square:.4g}",
            fix="a = 0 follows the target's score, a = ½ has noise σ/√β",
        )
    return beta + (1 - beta) * a, math.sqrt(max(square, 0.0))


@dataclass(frozen=True)
class Annealed(Corrector):
    """h = q^β: g = (β−1) [div f + ½σ² β |s|²], whatever a is (course, L7.17).

    Args:
        beta: β > 0.
        a: which of the motions: 0 (η = β, ζ = 1), ½ (η = (1+β)/2, ζ = 1/√β), or any with ζ² ≥ 0.
        naive: drop the weights.

    Raises:
        DomainError: ζ² < 0: a > β/(2(β−1)) for β > 1.

    Example:
        >>> corrector = Annealed(2.0, a=0.5)
        >>> corrector.eta, round(corrector.zeta, 4)
        (1.5, 0.7071)
    """

    beta: float
    a: float = 0.0
    naive: bool = False

    def __post_init__(self) -> None:
        powers_of_noise("Annealed", self.beta, self.a)

    @property
    def eta(self) -> float:
        """η of the drift −f + ησ² S."""
        return powers_of_noise("Annealed", self.beta, self.a)[0]

    @property
    def zeta(self) -> float:
        """ζ of the noise ζσ."""
        return powers_of_noise("Annealed", self.beta, self.a)[1]

    def composition(self, experts: Sequence[DiffusionExpert]) -> Composition:
        (expert,) = counted("Annealed", experts, 1)
        return annealed(expert, self.beta)

    def pull(self, row: Row) -> Tensor:
        return self.eta * row.scores[0]

    def weight(self, row: Row) -> Tensor:
        (score,) = row.scores
        square = 0.5 * self.beta * row.variance * dot(score, score)
        return (self.beta - 1) * (row.drift_divergence + square)


@dataclass(frozen=True)
class ProductOfExperts(Corrector):
    """h = (q1 ⋯ qn)^β: g = (nβ−1) div f + ½βσ² (β|S|² − Σ|s_i|²), S = Σ s_i (course, L7.18).

    For two experts that is β(β−1) ½σ² |S|² + βσ² s1·s2 + (2β−1) div f.

    Args:
        beta: β > 0.
        a: as of `Annealed`.
        naive: drop the weights.

    Raises:
        DomainError: ζ² < 0.

    Example:
        >>> still = lambda v: DiffusionExpert(lambda t, x: -x / v, lambda t, x: 0 * x,
        ...     lambda t: 1 + 0 * t, (1,))
        >>> gen = ProductOfExperts().generator([still(2.0), still(1.0)])
        >>> gen(0.5, {"x": torch.tensor([[2.0]])}).potential  # s1 s2 = (−1)(−2)
        tensor([2.])
    """

    beta: float = 1.0
    a: float = 0.0
    naive: bool = False

    def __post_init__(self) -> None:
        powers_of_noise("ProductOfExperts", self.beta, self.a)

    @property
    def eta(self) -> float:
        """η of the drift −f + ησ² S."""
        return powers_of_noise("ProductOfExperts", self.beta, self.a)[0]

    @property
    def zeta(self) -> float:
        """ζ of the noise ζσ."""
        return powers_of_noise("ProductOfExperts", self.beta, self.a)[1]

    def composition(self, experts: Sequence[DiffusionExpert]) -> Composition:
        return product(*experts, beta=self.beta)

    def pull(self, row: Row) -> Tensor:
        return self.eta * torch.stack(list(row.scores)).sum(0)

    def weight(self, row: Row) -> Tensor:
        total = torch.stack(list(row.scores)).sum(0)
        squares = torch.stack([dot(s, s) for s in row.scores]).sum(0)
        found = 0.5 * self.beta * row.variance * (self.beta * dot(total, total) - squares)
        excess = len(row.scores) * self.beta - 1
        return found if excess == 0 else found + excess * row.drift_divergence
