r"""Feynman–Kac correctors: the table of closed forms, for experts of one noising process.

Experts q_i share a noising drift f and noise σ: ∂_t q_i = div(f q_i) − ½σ² Δq_i. With S = Σ s_i,
s* = ∇log h and D = div f,

    row               h               drift                  noise   d log w/dt
    GeometricAverage  q1^{1−β} q2^β   −f + σ² s*              σ      ½σ² β(β−1) |s1 − s2|²
    Guidance          c^{1+w} u^{−w}  −f + σ² s*              σ      ½σ² w(1+w) |s_c − s_u|²
    WeightedExperts   Π q_i^{γ_i}     −f + σ² s*              σ      (Σγ_i − 1) D
                                                                     + ½σ² (|s*|² − Σγ_i|s_i|²)
    Annealed          q^β             −f + ησ² s              ζσ     (β−1) [D + ½σ² β |s|²]
    ProductOfExperts  (q1 ⋯ qn)^β     −f + ησ² S              ζσ     (nβ−1) D
                                                                     + ½βσ² (β|S|² − Σ|s_i|²)
    RewardTilt        q e^{β_t r}     −f + σ² (s + ½β ∇r)     σ      β̇r − β∇r·f + ½βσ² ∇r·s

    η = β + (1−β) a,   ζ² = (β + 2a (1−β))/β         a = 0: the target's score; ½: tempered noise

All of them are `genpath_compose.potentials.generic_potential` with what cancels taken out: no
derivative of a network is needed, constants are kept (E[w] = Z_t/Z_0). Particles start from
h_0/Z_0, not from q_0. Experts with different f or σ have no such row: use
`genpath_compose.dynamics.Composed`. The rows with η and ζ are in `genpath_compose.annealing`.
(Course, L7.14–L7.19; Skreta et al. 2025, arXiv 2503.02819.)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.generators import MarkovGenerator
from genpath.noises import FactorNoise, ScalarNoise
from genpath.parts import Parts
from genpath.spaces import Product
from genpath.states import per_row

from .compositions import Composition
from .dynamics import X
from .experts import DiffusionExpert, Expert, Reward, dot
from .exponents import exponent
from .normals import Normal
from .presets import LINEAR, Power, geometric, guided, product
from .processes import NoisingProcess, shared

__all__ = [
    "Corrector",
    "GeometricAverage",
    "Guidance",
    "RewardTilt",
    "Row",
    "WeightedExperts",
]


@dataclass(frozen=True, eq=False)
class Row:
    """What a row of the table is made of: one evaluation of all experts.

    Args:
        process: the shared noising process.
        t, x: times ``(batch,)`` and states ``(batch, *event)``.
        scores: s_i, each ``(batch, *event)``.
        f: the noising drift at x.
        variance: σ², ``(batch,)``.
    """

    process: NoisingProcess
    t: Tensor
    x: Tensor
    scores: Sequence[Tensor]
    f: Tensor
    variance: Tensor

    @cached_property
    def drift_divergence(self) -> Tensor:
        """D = div f, ``(batch,)``: only rows that need it ask."""
        return self.process.divergence(self.t, self.x)


class Corrector(ABC):
    """A row of the table: a composition with a motion and the weight in closed form.

    ``naive`` drops the weights and keeps the motion. That is sampling by a mixed score, whose law
    is not h_1/Z_1 (course, L7.3): for ablations.
    """

    naive: bool

    @abstractmethod
    def composition(self, experts: Sequence[DiffusionExpert]) -> Composition:
        """h, as a ratio path.

        Raises:
            DomainError: another number of experts than the row has.
        """

    @abstractmethod
    def pull(self, row: Row) -> Tensor:
        """u of the drift −f + σ² u, ``(batch, *event)``."""

    @abstractmethod
    def weight(self, row: Row) -> Tensor:
        """g, ``(batch,)``."""

    @property
    def zeta(self) -> float:
        """ζ of the noise ζσ."""
        return 1.0

    def start(self, experts: Sequence[DiffusionExpert]) -> tuple[Normal, float]:
        """h_0/Z_0, from which particles start, and log Z_0."""
        return self.composition(experts).start()

    def generator(self, experts: Sequence[DiffusionExpert]) -> MarkovGenerator:
        """The weighted dynamics of a state {"x": …}.

        Raises:
            DomainError: the experts do not share drift and noise, or their number is wrong.
        """
        experts = tuple(experts)
        space = Product({X: self.composition(experts).space})
        process = shared(experts)

        def evaluate(t: Tensor, state: Mapping[str, Tensor]) -> Parts:
            x = state[X]
            sigma = process.sigma(t)
            scores = [expert.score_field(t, x) for expert in experts]
            row = Row(process, t, x, scores, process.drift(t, x), sigma**2)
            drift = per_row(row.variance, x) * self.pull(row) - row.f
            noise = FactorNoise({X: ScalarNoise(self.zeta * sigma)})
            return Parts({X: drift}, noise, None, None if self.naive else self.weight(row))

        has = {"velocity", "diffusion"} | (set() if self.naive else {"potential"})
        return MarkovGenerator(space, evaluate, frozenset(has))


def counted(name: str, experts: Sequence[Expert], count: int) -> Sequence[Expert]:
    """The experts, if there are so many.

    Raises:
        DomainError: there are not.
    """
    if len(experts) != count:
        words = "one expert" if count == 1 else f"{count} experts"
        raise DomainError(name, f"it composes {words}.", got=str(len(experts)))
    return experts


def finite(name: str, symbol: str, value: float) -> None:
    """Refuse a number that is not finite."""
    if not math.isfinite(value):
        raise DomainError(name, f"{symbol} is finite.", got=repr(value))


@dataclass(frozen=True)
class GeometricAverage(Corrector):
    """h = q1^{1−β} q2^β: g = ½σ² β(β−1) |s1 − s2|², 0 at β = 0 and 1 (course, L7.14).

    Args:
        beta: β.
        naive: drop the weights.

    Example:
        >>> still = lambda v: DiffusionExpert(lambda t, x: -x / v, lambda t, x: 0 * x,
        ...     lambda t: 1 + 0 * t, (1,))
        >>> gen = GeometricAverage(2.0).generator([still(2.0), still(1.0)])
        >>> gen(0.5, {"x": torch.tensor([[2.0]])}).potential  # ½ · 2 · (−1 + 2)²
        tensor([1.])
    """

    beta: float
    naive: bool = False

    def __post_init__(self) -> None:
        finite("GeometricAverage", "β", self.beta)

    def composition(self, experts: Sequence[DiffusionExpert]) -> Composition:
        first, second = counted("GeometricAverage", experts, 2)
        return geometric(first, second, self.beta)

    def pull(self, row: Row) -> Tensor:
        first, second = row.scores
        return first + self.beta * (second - first)

    def weight(self, row: Row) -> Tensor:
        gap = row.scores[0] - row.scores[1]
        return 0.5 * self.beta * (self.beta - 1) * row.variance * dot(gap, gap)


@dataclass(frozen=True)
class Guidance(Corrector):
    """h = q(x|c)^{1+w} q(x|∅)^{−w}: g = ½σ² w(1+w) |s_c − s_∅|² (course, L7.14).

    The experts are the conditional and the unconditional one, in this order. w = 0 is no guidance;
    where guidance is written s_∅ + ω (s_c − s_∅), ω = 1 + w.

    Args:
        w: the strength.
        naive: drop the weights: what is usually called classifier-free guidance.

    Example:
        >>> still = lambda v: DiffusionExpert(lambda t, x: -x / v, lambda t, x: 0 * x,
        ...     lambda t: 1 + 0 * t, (1,))
        >>> gen = Guidance(1.0, naive=True).generator([still(1.0), still(2.0)])
        >>> gen(0.5, {"x": torch.tensor([[2.0]])}).velocity["x"]  # 2 · (−2) − (−1)
        tensor([[-3.]])
    """

    w: float
    naive: bool = False

    def __post_init__(self) -> None:
        finite("Guidance", "w", self.w)

    def composition(self, experts: Sequence[DiffusionExpert]) -> Composition:
        conditional, unconditional = counted("Guidance", experts, 2)
        return guided(conditional, unconditional, self.w)

    def pull(self, row: Row) -> Tensor:
        conditional, unconditional = row.scores
        return conditional + self.w * (conditional - unconditional)

    def weight(self, row: Row) -> Tensor:
        gap = row.scores[0] - row.scores[1]
        return 0.5 * self.w * (1 + self.w) * row.variance * dot(gap, gap)


@dataclass(frozen=True)
class WeightedExperts(Corrector):
    """h = Π q_i^{γ_i}: g = (Σγ_i − 1) div f − ½σ² (Σ γ_i |s_i|² − |s*|²) (course, L7.16, H7.2).

    With Σγ_i = 1 this is −¼σ² Σ_ij γ_i γ_j |s_i − s_j|²: never positive for convex weights.

    Args:
        gammas: γ_i, constant.
        naive: drop the weights.

    Example:
        >>> still = lambda v: DiffusionExpert(lambda t, x: -x / v, lambda t, x: 0 * x,
        ...     lambda t: 1 + 0 * t, (1,))
        >>> gen = WeightedExperts((-1.0, 2.0)).generator([still(2.0), still(1.0)])
        >>> gen(0.5, {"x": torch.tensor([[2.0]])}).potential  # as the geometric average
        tensor([1.])
    """

    gammas: Sequence[float]
    naive: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "gammas", tuple(float(g) for g in self.gammas))
        if not self.gammas:
            raise DomainError("WeightedExperts", "there is one exponent per expert.", got="none")
        for gamma in self.gammas:
            finite("WeightedExperts", "γ", gamma)

    def composition(self, experts: Sequence[DiffusionExpert]) -> Composition:
        pairs = zip(counted("WeightedExperts", experts, len(self.gammas)), self.gammas, strict=True)
        powers = [expert**gamma for expert, gamma in pairs]
        return product(*powers)

    def pull(self, row: Row) -> Tensor:
        return torch.stack([g * s for g, s in zip(self.gammas, row.scores, strict=True)]).sum(0)

    def weight(self, row: Row) -> Tensor:
        total = self.pull(row)
        pairs = zip(self.gammas, row.scores, strict=True)
        squares = torch.stack([g * dot(s, s) for g, s in pairs]).sum(0)
        found = 0.5 * row.variance * (dot(total, total) - squares)
        excess = math.fsum(self.gammas) - 1
        return found if excess == 0 else found + excess * row.drift_divergence


@dataclass(frozen=True)
class RewardTilt(Corrector):
    """h = q e^{β_t r}: g = β̇ r − β ∇r·f + ½βσ² ∇r·s (course, L7.19).

    Args:
        reward: r, a `Reward`, or a function of points ``(batch, *event) -> (batch,)``.
        beta: β_t; with β_0 = 0 particles start from q_0.
        naive: drop the weights.

    Example:
        >>> still = DiffusionExpert(lambda t, x: -x, lambda t, x: 0 * x, lambda t: 1 + 0 * t, (1,))
        >>> gen = RewardTilt(lambda x: x[:, 0], lambda t: t).generator([still])
        >>> gen(0.5, {"x": torch.tensor([[2.0]])}).potential  # r + ½ · ½ · (−2)
        tensor([1.5000])
    """

    reward: Reward | Callable[[Tensor], Tensor]
    beta: Power = LINEAR
    naive: bool = False

    def _reward(self, shape: tuple[int, ...]) -> Reward:
        return self.reward if isinstance(self.reward, Reward) else Reward(self.reward, shape)

    def composition(self, experts: Sequence[DiffusionExpert]) -> Composition:
        (expert,) = counted("RewardTilt", experts, 1)
        return expert * self._reward(expert.event_shape).composition() ** self.beta

    def pull(self, row: Row) -> Tensor:
        half = 0.5 * exponent(self.beta)(row.t)
        return row.scores[0] + per_row(half, row.x) * self._slope(row)

    def weight(self, row: Row) -> Tensor:
        power, slope = exponent(self.beta), self._slope(row)
        value = self._reward(tuple(row.x.shape[1:])).reward(row.x)
        along = 0.5 * row.variance * dot(slope, row.scores[0]) - dot(slope, row.f)
        return power.rate(row.t) * value + power(row.t) * along

    def _slope(self, row: Row) -> Tensor:
        return self._reward(tuple(row.x.shape[1:])).score(row.t, row.x)
