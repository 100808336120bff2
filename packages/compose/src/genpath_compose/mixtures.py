r"""Mixtures of experts with known log-densities, as experts: the OR of superposition.

    Σ w_i q_i        π_i = softmax_i(log w_i + ℓ_i)        s = Σ π_i s_i        v = Σ π_i v_i

with ℓ_i = log q_t^{(i)}(x); ∇π_i = π_i (s_i − s) gives the divergences from those of the experts.
What is done where densities are not known is in `genpath_compose.superposition`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.states import per_row

from .experts import FIELDS, Expert, dot
from .normals import Normal
from .tails import Tail

__all__ = ["Mixture", "either"]

DERIVED = {"velocity_divergence": "velocity", "score_divergence": "score"}


class Mixture(Expert):
    """Σ w_i q_i as an expert: to be sampled, raised to powers, multiplied and divided.

    div v = Σ π_i [div v_i + v_i·(s_i − s)], and the same for s. The tail is that of the widest.

    Args:
        experts: one or more, with log-densities, on points of one shape.
        weights: in proportion to w_i; equal ones if None.
        name: what reports call it.

    Raises:
        CapabilityError: an expert without log_prob.
        ShapeError, DomainError: experts or weights that do not go together.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> def at(mean):
        ...     log = lambda t, x: -0.5 * (x[:, 0] - mean) ** 2
        ...     return FieldExpert(lambda t, x: (0 * x, mean - x), (1,), log_density=log)
        >>> Mixture([at(-1.0), at(1.0)]).score(torch.zeros(1), torch.tensor([[0.0]]))
        tensor([[0.]])
    """

    def __init__(
        self,
        experts: Sequence[Expert],
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        self.experts = tuple(experts)
        self.name = name or f"either({', '.join(e.name for e in self.experts)})"
        where = f"expert {self.name}"
        require_alike(self.experts, where)
        self.log_weights = log_weights(weights, len(self.experts), where)
        for one in self.experts:
            if "log_prob" not in one.has:
                raise CapabilityError(
                    where,
                    "a mixture weighs its experts by their densities.",
                    got=f"{one.name}, which has no log_prob",
                    fix="track them: Superposed(experts, Share(weights))",
                )
        self.event_shape = self.experts[0].event_shape
        self.has = frozenset(FIELDS).intersection(*(e.has for e in self.experts))
        self.tail, self.start = _widest(self.experts), _common(self.experts)
        supports = [e.support for e in self.experts]
        self.support = None if None in supports else self._anywhere

    def _anywhere(self, x: Tensor) -> Tensor:
        """Whether some expert can be positive."""
        found = [e.support(x) for e in self.experts if e.support is not None]
        return torch.stack(found).any(0)

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        wanted = self.wanted(names)
        needed = {"log_prob", *wanted}
        for name in wanted:
            needed |= {DERIVED[name], "score"} if name in DERIVED else set()
        each = [e.fields(sorted(needed), t, x, probe) for e in self.experts]
        logs = torch.stack(
            [v["log_prob"] + w for v, w in zip(each, self.log_weights, strict=True)], 1
        )
        shares, found = logs.softmax(1), dict[str, Tensor]()
        for name in needed - {"log_prob"} - set(DERIVED):
            found[name] = blend(shares, [v[name] for v in each])
        for name in set(wanted) & set(DERIVED):
            terms = [v[name] + dot(v[DERIVED[name]], v["score"] - found["score"]) for v in each]
            found[name] = blend(shares, terms)
        found["log_prob"] = logs.logsumexp(1)
        return {name: found[name] for name in wanted}


def _widest(experts: Sequence[Expert]) -> Tail | None:
    """The tail with the precisions of all, of which the least counts."""
    tails = [e.tail for e in experts if e.tail is not None]
    if len(tails) < len(experts):
        return None
    size = math.prod(experts[0].event_shape)

    def precisions(t: Tensor) -> Tensor:
        found = [tail.precisions(t) for tail in tails]
        rank = max(p.dim() for p in found)
        width = max(p.shape[-1] for p in found)
        if rank == 3:
            return torch.cat([p.expand(-1, -1, width) for p in found], 1)
        full = [p if p.dim() == 4 else p.expand(-1, -1, size).diag_embed() for p in found]
        return torch.cat(full, 1)

    bounds = [tail.linear for tail in tails if tail.linear is not None]
    if len(bounds) < len(tails):
        return Tail(precisions)
    return Tail(precisions, lambda t: torch.stack([bound(t) for bound in bounds]).amax(0))


def _common(experts: Sequence[Expert]) -> Normal | None:
    """The start that all share, if they do."""
    starts = [e.start for e in experts]
    first = starts[0]
    for law in starts:
        if first is None or law is None:
            return None
        if not (torch.equal(law.mean, first.mean) and torch.equal(law.precision, first.precision)):
            return None
    return first


def either(*experts: Expert, weights: Sequence[float] | None = None) -> Mixture:
    """OR: the mixture Σ w_i q_i, exactly.

    Example:
        >>> from genpath_compose.experts import Reward
        >>> up, down = (Reward(lambda x, s=s: s * x[:, 0], (1,)) for s in (1.0, -1.0))
        >>> either(up, down).log_prob(torch.zeros(1), torch.zeros(1, 1))  # log (1/2 + 1/2)
        tensor([0.])
    """
    return Mixture(experts, weights)


# -- shared with superposition ----------------------------------------------------------------


def blend(shares: Tensor, fields: Sequence[Tensor]) -> Tensor:
    """Σ_i shares_i · fields_i, shares ``(batch, k)``."""
    return torch.stack([per_row(shares[:, i], f) * f for i, f in enumerate(fields)]).sum(0)


def log_weights(weights: Sequence[float] | None, count: int, where: str) -> tuple[float, ...]:
    """log w_i, normalised; equal ones if None."""
    given = [1.0] * count if weights is None else [float(w) for w in weights]
    if len(given) != count:
        got = f"{len(given)} weights, {count} experts"
        raise ShapeError(where, "there is one weight per expert.", got=got)
    if not all(0 < w < math.inf for w in given):
        raise DomainError(
            where, "weights are positive.", got=str(given), fix="leave the expert out"
        )
    return tuple(math.log(w / sum(given)) for w in given)


def require_alike(experts: Sequence[Expert], where: str) -> None:
    """Refuse no expert, and experts on points of different shapes."""
    if not experts:
        raise DomainError(where, "it has one expert or more.", got="none")
    if len({e.event_shape for e in experts}) > 1:
        raise ShapeError(
            where,
            "experts have points of one shape.",
            got=", ".join(f"{e.name} {e.event_shape}" for e in experts),
        )
