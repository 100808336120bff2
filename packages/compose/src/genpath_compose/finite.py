r"""Compositions on any state space: experts given by generators and log-densities.

Experts q_t^{(i)} with ∂_t q = L_i* q, exponents γ_i(t), h_t = Π q_i^{γ_i}. Particles of *any* base
generator L carry the weight that makes their law h_t/Z_t:

    g = ∂_t log h − (L*h)/h = Σ γ_i (L_i* q_i)/q_i + Σ γ̇_i log q_i − (L*h)/h

which needs nothing but the adjoints of generators (`MarkovGenerator.adjoint`), so letters, points
of R^d and pairs of them are one case. Where states can be listed, Z_t = Σ_x h_t(x) is finite as
soon as h is: a path exists where no expert with a negative exponent is 0 while those with positive
ones are not. (Course, L7.15 and S.15; Skreta et al. 2025, arXiv 2503.02819.) Tables of chains on
K states, with their exact laws, are in `genpath_compose.chains`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError
from genpath.generators import MarkovGenerator
from genpath.parts import Parts
from genpath.schedules import Scalar
from genpath.states import batch_size

from .exponents import Exponent, exponent

__all__ = ["FiniteExpert", "Power", "composed_on_finite", "require_support"]

Power = float | Exponent | Scalar | Callable[[Tensor], Tensor]


# -- any state space ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FiniteExpert:
    """A law path with the generator that moves it and its log-density.

    Args:
        gen: L_i, with ∂_t q = L_i* q.
        log_density: log q_t(x), ``(t, state) -> (batch,)``; −∞ where q is 0.
        name: what errors call it.

    Example:
        >>> from genpath import Euclidean, flow
        >>> def log_density(t, x):  # N(t, 1), not normalised
        ...     return -0.5 * (x[:, 0] - t) ** 2
        >>> shift = FiniteExpert(flow(Euclidean(1), lambda t, x: 1 + 0 * x), log_density, "shift")
        >>> shift.log_density(torch.ones(1), torch.zeros(1, 1))
        tensor([-0.5000])
    """

    gen: MarkovGenerator
    log_density: Callable[[Tensor, Any], Tensor]
    name: str = "expert"


def composed_on_finite(
    base: MarkovGenerator, experts: Sequence[FiniteExpert], exponents: Sequence[Power]
) -> MarkovGenerator:
    """The base with the potential under which its particles have the law Π q_i^{γ_i}/Z.

    Any space will do on which `MarkovGenerator.adjoint` works: finite ones, R^d, products. The
    adjoints evaluate every generator at all neighbours of a state. A state where h is 0 has g = −∞.

    Args:
        base: L, any generator on the space of the experts; its own moves are kept.
        experts: q_i, not necessarily normalised.
        exponents: γ_i, numbers or functions of times, one per expert.

    Raises:
        ShapeError: exponents and experts do not pair up.
        DomainError: no expert.

    Example:
        >>> from genpath_compose.chains import Chain
        >>> flip = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
        >>> expert = Chain(torch.tensor([0.9, 0.1]), flip).expert()
        >>> gen = composed_on_finite(expert.gen, [expert], [1.0])  # the expert itself
        >>> gen(0.3, torch.tensor([0, 1])).potential.abs() < 1e-6
        tensor([True, True])
    """
    if len(experts) != len(exponents):
        raise ShapeError(
            "composed_on_finite",
            "there is one exponent per expert.",
            got=f"{len(experts)} experts, {len(exponents)} exponents",
        )
    if not experts:
        raise DomainError("composed_on_finite", "it has one expert or more.", got="none")
    powers = [exponent(value) for value in exponents]

    def log_h(t: Tensor, state: Any) -> Tensor:
        terms = zip(powers, experts, strict=True)
        return torch.stack([weighted(p(t), e.log_density(t, state)) for p, e in terms]).sum(0)

    def evaluate(t: Tensor, state: Any) -> Parts:
        parts, here = base.evaluate(t, state), log_h(t, state)
        gain = -_adjoint(base, log_h, t, state)
        for power, one in zip(powers, experts, strict=True):
            gain = gain + weighted(power(t), _adjoint(one.gen, one.log_density, t, state))
            if not power.is_constant:
                gain = gain + weighted(power.rate(t), one.log_density(t, state))
        if parts.potential is not None:
            gain = gain + parts.potential
        return replace(parts, potential=torch.where(here == -torch.inf, -torch.inf, gain))

    return MarkovGenerator(base.space, evaluate, base.has | {"potential"})


def weighted(factor: Tensor, value: Tensor) -> Tensor:
    """factor · value, with 0 · ∞ = 0: an expert without exponent does not matter."""
    return torch.where(factor == 0, 0.0, factor * value)


def _adjoint(
    gen: MarkovGenerator, log_p: Callable[[Tensor, Any], Tensor], t: Tensor, state: Any
) -> Tensor:
    """(L*p)/p, for a density that depends on time."""
    if batch_size(state) == 0:
        return torch.zeros_like(t)

    def frozen(points: Any) -> Tensor:
        return log_p(t.repeat(batch_size(points) // max(len(t), 1)), points)

    return gen.adjoint(frozen, t, state)


def require_support(
    experts: Sequence[FiniteExpert],
    exponents: Sequence[Power],
    states: Any,
    times: Sequence[float] = (0.0, 1.0),
) -> None:
    """Refuse a composition that divides by 0: the support of the numerators is in that of the rest.

    Args:
        experts, exponents: as of `composed_on_finite`.
        states: those to look at ``(n, …)``, best all of them.
        times: those to look at.

    Raises:
        DomainError: an expert with a negative exponent is 0 where those with positive ones are not.

    Example:
        >>> from genpath_compose.chains import Chain
        >>> still = torch.zeros(2, 2)
        >>> laws = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
        >>> pair = [Chain(law, still).expert() for law in laws]
        >>> require_support(pair, [1.0, -0.5], torch.tensor([0]))  # at the state 0 all is well
    """
    for time in times:
        t = torch.full((batch_size(states),), float(time), dtype=torch.float64)
        logs = torch.stack([e.log_density(t, states).double() for e in experts])
        sizes = torch.stack([exponent(value)(t[:1]) for value in exponents])
        refuse_zeros(logs, sizes, [e.name for e in experts], f"t = {time:g}", states)


def refuse_zeros(
    logs: Tensor, gammas: Tensor, names: Sequence[str], when: str, states: Any = None
) -> None:
    """`require_support` for logs ``(…, k, n)`` and γ ``(…, k, 1)``."""
    zero = logs == -torch.inf
    bad = zero & (gammas < 0) & ~(zero & (gammas > 0)).any(-2, keepdim=True)
    if not bool(bad.any()):
        return
    first = bad.nonzero()[0]
    which, where = int(first[-2]), int(first[-1])
    point = states[where].tolist() if isinstance(states, Tensor) else where
    size = float(gammas[(*first[:-1], 0)])
    raise DomainError(
        f"expert {names[which]}",
        "an expert with a negative exponent is positive wherever the numerators are.",
        got=f"exponent {size:g} and probability 0 at the state {point}, {when}",
        fix="give that expert some mass there, or leave the state out",
    )
