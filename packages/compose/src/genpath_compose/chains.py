r"""Chains on K states, and their compositions: everything is known exactly.

With rate matrices Q(x, y), the rate from x to y, and rows summing to 0,

    d/dt q_i = q_i Q_i                             q_i(t) = q_i(0) e^{t Q_i}
    g(x) = Σ γ_i (q_i Q_i)(x)/q_i(x) + Σ γ̇_i log q_i(x) − (hQ)(x)/h(x)
    d/dt p̃ = p̃ Q + g p̃                             solved by h = Π q_i^{γ_i}, for any base Q

(course, S.15). The same potential for particles, and for any other space, is that of
`genpath_compose.finite`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError
from genpath.generators import MarkovGenerator
from genpath.jumps import RateJumps
from genpath.parts import Parts
from genpath.spaces import FiniteSpace

from .exponents import Exponent, exponent
from .finite import FiniteExpert, Power, refuse_zeros, weighted

__all__ = ["Chain", "ChainComposition", "States", "solve_weighted", "table_potential"]


@dataclass(frozen=True)
class States:
    """The states 0, …, K − 1, one a row: a finite space whose points all neighbour each other.

    Args:
        count: K.

    Example:
        >>> States(3).neighbours(torch.tensor([0, 2])).tolist()
        [[1, 0], [2, 1]]
    """

    count: int

    @property
    def event_shape(self) -> tuple[int, ...]:
        """One number."""
        return ()

    def contains(self, x: Tensor, tolerance: float = 1e-4) -> Tensor:
        """Whether each row is a state."""
        return (x >= 0) & (x < self.count)

    def project(self, x: Tensor) -> Tensor:
        """The point itself."""
        return x

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """0 or 1."""
        return (x != y).double()

    def neighbours(self, x: Tensor) -> Tensor:
        """All other states: ``(K − 1, batch)``."""
        others = torch.arange(self.count - 1, device=x.device)[:, None]
        return others + (others >= x)


@dataclass(frozen=True, eq=False)
class Chain:
    """A Markov chain on K states with constant rates: q_t = q_0 e^{tQ}, exactly.

    Args:
        start: q_0 ``(K,)``.
        rates: Q ``(K, K)``: Q[x, y] is the rate from x to y; rows sum to 0.

    Raises:
        ShapeError: Q is no square matrix over the states of q_0.
        DomainError: q_0 is no law, a rate is negative, or a row does not sum to 0.

    Example:
        >>> chain = Chain(torch.tensor([1.0, 0.0]), torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))
        >>> chain.law(torch.tensor([0.0, 1.0]))[:, 0]  # e^{−t}
        tensor([1.0000, 0.3679], dtype=torch.float64)
    """

    start: Tensor
    rates: Tensor

    def __post_init__(self) -> None:
        start, rates = self.start.double(), self.rates.double()
        size = (len(start), len(start)) if start.dim() == 1 else ()
        if rates.shape != size:
            got = f"start {tuple(start.shape)}, rates {tuple(rates.shape)}"
            raise ShapeError("Chain", "there is a row and a column of rates per state.", got=got)
        if float(start.min()) < 0 or abs(float(start.sum()) - 1) > 1e-6:
            got = f"sum {float(start.sum()):g}, minimum {float(start.min()):g}"
            raise DomainError("Chain", "the start is a law.", got=got)
        away = rates - rates.diagonal().diag()
        if float(away.min()) < 0 or float(rates.sum(1).abs().max()) > 1e-6 * (
            1 + float(away.max())
        ):
            raise DomainError(
                "Chain",
                "rates between states are not negative, and rows sum to 0.",
                got=f"minimum {float(away.min()):g}, row sums {rates.sum(1).tolist()}",
                fix="set the diagonal to minus the sum of the other rates",
            )
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "rates", away - away.sum(1).diag())

    def law(self, t: Tensor) -> Tensor:
        """q_t at times ``(batch,)``: ``(batch, K)``, in float64."""
        times, index = torch.unique(t.double(), return_inverse=True)
        found: Tensor = self.start @ torch.linalg.matrix_exp(times[:, None, None] * self.rates)
        return found.clamp_min(0)[index]

    def log_prob(self, t: Tensor, x: Tensor) -> Tensor:
        """log q_t of states ``(batch,)``."""
        return self.law(t).log().gather(1, x[:, None]).squeeze(1)

    def generator(self, space: FiniteSpace | None = None) -> MarkovGenerator:
        """Q as a generator on a space of one letter a row; on `States` if None."""

        def evaluate(t: Tensor, x: Tensor) -> Parts:
            return Parts(jumps=RateJumps(self.rates[x], x))

        where = States(len(self.start)) if space is None else space
        return MarkovGenerator(where, evaluate, frozenset({"jumps"}))

    def expert(self, name: str = "expert", space: FiniteSpace | None = None) -> FiniteExpert:
        """The chain as an expert on a space of one letter a row."""
        return FiniteExpert(self.generator(space), self.log_prob, name)


def table_potential(
    laws: Tensor, rates: Tensor, gammas: Tensor, gamma_rates: Tensor, base: Tensor
) -> Tensor:
    """g of a composition on K states: ``(…, K)``, −∞ where h is 0.

    Args:
        laws: q_i ``(…, k, K)``, the leading axes being times.
        rates: Q_i ``(k, K, K)``, rows summing to 0.
        gammas, gamma_rates: γ_i and γ̇_i ``(…, k)``.
        base: Q ``(K, K)`` of the particles.

    Raises:
        DomainError: a law is 0 under a negative exponent.

    Example:
        >>> q = torch.tensor([[0.25, 0.75]])
        >>> still = torch.zeros(1, 2, 2)
        >>> gamma = torch.tensor([2.0])
        >>> table_potential(q, still, gamma, 0 * gamma, torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
        tensor([-8.0000,  0.8889])
    """
    logs, sizes = laws.log(), gammas[..., None]
    refuse_zeros(logs, sizes, [str(i) for i in range(laws.shape[-2])], "in a table")
    log_h = weighted(sizes, logs).sum(-2)
    inflow = torch.einsum("...ix,ixy->...iy", laws, rates) / laws
    ratio = torch.exp(log_h[..., :, None] - log_h[..., None, :])  # h(x)/h(y)
    gain = weighted(sizes, inflow).sum(-2) + weighted(gamma_rates[..., None], logs).sum(-2)
    gain = gain - (ratio * base).sum(-2)
    return torch.where(log_h == -torch.inf, -torch.inf, gain)


def solve_weighted(
    start: Tensor,
    rates: Callable[[float], Tensor],
    potential: Callable[[float], Tensor],
    times: Sequence[float],
) -> Tensor:
    """p̃ of d/dt p̃ = p̃ Q + g p̃ on K states, by the Runge–Kutta method of order 4.

    Args:
        start: p̃ at the first time ``(K,)``.
        rates: t → Q ``(K, K)``.
        potential: t → g ``(K,)``.
        times: one step per interval.

    Returns:
        p̃ at all times: ``(len(times), K)``; its sums are Z_t.

    Example:
        >>> still, one = torch.zeros(1, 1).double(), torch.ones(1).double()
        >>> times = [k / 10 for k in range(11)]
        >>> solve_weighted(one, lambda t: still, lambda t: one, times)[-1]  # e
        tensor([2.7183], dtype=torch.float64)
    """

    def slope(t: float, p: Tensor) -> Tensor:
        return p @ rates(t) + potential(t) * p

    found = [start]
    for t, t_next in pairwise(times):
        h, p = t_next - t, found[-1]
        first = slope(t, p)
        second = slope(t + h / 2, p + h / 2 * first)
        third = slope(t + h / 2, p + h / 2 * second)
        fourth = slope(t_next, p + h * third)
        found.append(p + h / 6 * (first + 2 * second + 2 * third + fourth))
    return torch.stack(found)


@dataclass(frozen=True, eq=False)
class ChainComposition:
    """Π q_i^{γ_i} of chains on K states, with everything that can be known of it exactly.

    Args:
        chains: q_i, on the same states.
        exponents: γ_i.
        base: Q ``(K, K)`` of the particles; any.

    Raises:
        ShapeError: exponents, chains or states do not pair up.
        DomainError: at an end of time, a chain with a negative exponent is 0.

    Example:
        >>> flip = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
        >>> one = ChainComposition([Chain(torch.tensor([0.9, 0.1]), flip)], [2.0], flip)
        >>> times = [k / 50 for k in range(51)]
        >>> end = one.log_density(torch.ones(1)).exp()
        >>> bool((one.solve(times)[-1:] - end).abs().max() < 1e-7)
        True
    """

    chains: Sequence[Chain]
    exponents: Sequence[Power]
    base: Tensor

    def __post_init__(self) -> None:
        sizes = {len(chain.start) for chain in self.chains} | {len(self.base)}
        if len(self.chains) != len(self.exponents) or len(sizes) != 1:
            raise ShapeError(
                "ChainComposition",
                "there is one exponent per chain, and all have the same states.",
                got=f"{len(self.chains)} chains, {len(self.exponents)} exponents, states {sizes}",
            )
        names = [str(i) for i in range(len(self.chains))]
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        logs, gammas = self._laws(ends).log(), self._gammas(ends)[..., None]
        refuse_zeros(logs, gammas, names, "at an end of time")

    @cached_property
    def _powers(self) -> list[Exponent]:
        return [exponent(value) for value in self.exponents]

    def _laws(self, t: Tensor) -> Tensor:
        return torch.stack([chain.law(t) for chain in self.chains], 1)

    def _gammas(self, t: Tensor) -> Tensor:
        return torch.stack([power(t) for power in self._powers], 1)

    def log_density(self, t: Tensor) -> Tensor:
        """log h at times ``(T,)``: ``(T, K)``, in float64."""
        return weighted(self._gammas(t.double())[..., None], self._laws(t).log()).sum(1)

    def potential(self, t: Tensor) -> Tensor:
        """g at times ``(T,)``: ``(T, K)``, in float64."""
        at = t.double()
        slopes = torch.stack([power.rate(at) for power in self._powers], 1)
        rates = torch.stack([chain.rates for chain in self.chains])
        base = self.base.double()
        return table_potential(self._laws(at), rates, self._gammas(at), slopes, base)

    def solve(self, times: Sequence[float]) -> Tensor:
        """p̃ from h at the first time on: ``(len(times), K)``."""
        nodes = dict.fromkeys(times) | dict.fromkeys(a + (b - a) / 2 for a, b in pairwise(times))
        gains = self.potential(torch.tensor(list(nodes), dtype=torch.float64))
        found = dict(zip(nodes, gains, strict=True))
        base, start = self.base.double(), torch.tensor(list(times[:1]), dtype=torch.float64)
        first = self.log_density(start)[0].exp()
        return solve_weighted(first, lambda t: base, found.__getitem__, times)
