r"""Couplings by optimal transport: which x0 goes with which x1 inside a batch.

    cost        c_ij = ½|x0_i − x1_j|²,    both sides weighted equally, 1/n and 1/m
    exact       π = argmin Σ π_ij c_ij                          a permutation of the batch
    entropic    π = argmin Σ π_ij c_ij + 2ε KL(π ‖ a ⊗ b)     π_ij = e^{(f_i+g_j−c_ij)/2ε}/(nm)

Of all couplings the exact one has the least E|x1 − x0|², so that the straight path from it crosses
itself least. The entropic one is the static Schrödinger bridge of √(2ε) W: with Brownian bridges
between the pairs (γ² = 2ε t(1−t)) its path is the Schrödinger bridge.

Both are solved on batches drawn from the two laws, so both marginals stay what they are (the joint
law is that of the population only as the batch grows). (Pooladian et al. 2023, arXiv 2304.14772;
Tong et al. 2023, arXiv 2302.00482; entropic: Cuturi 2013, arXiv 1306.0895.) A condition that
belongs to x1 is no longer independent of x0 after such a pairing: given a label, x0 does not have
the base law, and sampling with that label from the base law is biased.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.jumps import pick
from genpath.laws import Law
from genpath.states import State, batch_size, chunks, describe, flat_event, gather

__all__ = [
    "Entropic",
    "EntropicPlan",
    "OptimalTransport",
    "entropic",
    "half_squared_distance",
    "optimal_permutation",
    "optimal_transport",
    "sinkhorn",
]


def half_squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """½|x_i − y_j|² of points ``(…, n, d)`` and ``(…, m, d)``: ``(…, n, m)``.

    By differences, not by the binomial formula, which loses half of the digits near 0.

    Example:
        >>> half_squared_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0]]))
        tensor([[2.0000],
                [0.5000]])
    """
    plain = "donot_use_mm_for_euclid_dist"
    distance: Tensor = torch.cdist(x, y, compute_mode=plain)
    return 0.5 * distance.square()


# -- exact ---------------------------------------------------------------------------------------


def optimal_permutation(x0: Tensor, x1: Tensor) -> Tensor:
    """The permutation j(i) with the least Σ_i |x0_i − x1_{j(i)}|²: ``(n,)`` indices of x1.

    On the line it pairs by rank; else it is the assignment problem, solved exactly on the CPU in
    O(n³).

    Args:
        x0, x1: points ``(n, d)``.

    Raises:
        ShapeError: the two sides differ in shape.
        CapabilityError: d > 1 without scipy.

    Example:
        >>> x0, x1 = torch.tensor([[0.0], [5.0], [1.0]]), torch.tensor([[9.0], [-1.0], [2.0]])
        >>> optimal_permutation(x0, x1)
        tensor([1, 0, 2])
    """
    if x0.shape != x1.shape or x0.dim() != 2:
        raise ShapeError(
            "optimal_permutation",
            "x0 and x1 are as many points of the same space, (n, d).",
            got=f"x0 {tuple(x0.shape)}, x1 {tuple(x1.shape)}",
        )
    if x0.shape[1] == 1:  # comonotone: the i-th smallest goes with the i-th smallest
        index = torch.empty(len(x0), dtype=torch.long, device=x0.device)
        index[x0[:, 0].argsort()] = x1[:, 0].argsort()
        return index
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise CapabilityError(
            "optimal_permutation",
            "the assignment problem in two or more dimensions is solved by scipy.",
            got="no scipy",
            fix="pip install 'genpath-interpolants[ot]'",
        ) from None
    cost = half_squared_distance(x0.double(), x1.double()).cpu().numpy()
    return torch.from_numpy(linear_sum_assignment(cost)[1]).to(x0.device)


@dataclass(frozen=True)
class OptimalTransport:
    """Minibatch optimal transport: the draws of `Independent`, paired by the optimal permutation.

    Args:
        base, data: the laws of the two ends.
        rows: how many rows are paired in one problem; None for all that are asked for at once. A
            problem of n rows takes O(n³), and E|x1 − x0|² comes down to W2² as n grows.

    x1 is permuted with its facts, x0 stays in place. In a dict the leaves of x0 count for the
    distance.

    Raises:
        DomainError: rows is not positive.
        CapabilityError: (of ``pairs``) points of two or more dimensions without scipy.

    Example:
        >>> from genpath.laws import Gaussian
        >>> coupling = OptimalTransport(Gaussian((1,)), Gaussian((1,), mean=3.0))
        >>> pairs = coupling.pairs(100, torch.Generator().manual_seed(0))
        >>> bool((pairs.x0.argsort(0) == pairs.x1.argsort(0)).all())  # on the line: by rank
        True
    """

    base: Law
    data: Law
    rows: int | None = None

    def __post_init__(self) -> None:
        _check_rows("OptimalTransport", self.rows)

    def pairs(self, count: int, rng: torch.Generator) -> Pairs:
        x0, x1, points = _drawn(self.base, self.data, count, rng, "OptimalTransport")
        size, found = self.rows or max(count, 1), list[Tensor]()
        left, right = (list(chunks(side, size)) for side in points)
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            found.append(size * index + optimal_permutation(a, b))
        return Pairs(x0, gather(x1, torch.cat(found)))


def optimal_transport(rows: int | None, base: Law, data_law: Law) -> OptimalTransport:
    """The component ``coupling.interpolants.optimal_transport``.

    Example:
        >>> from genpath.laws import Gaussian
        >>> optimal_transport(64, Gaussian((2,)), Gaussian((2,))).rows
        64
    """
    return OptimalTransport(base, data_law, rows)


# -- entropic ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EntropicPlan:
    """π_ij = e^{(f_i + g_j − c_ij)/r}/(nm), possibly several problems at once.

    Args:
        cost: c ``(…, n, m)``.
        f, g: potentials ``(…, n)`` and ``(…, m)``, in units of the cost.
        regularisation: r.
        error: Σ_j |Σ_i π_ij − 1/m|, the largest over the problems. The rows are exact.

    Example:
        >>> plan = sinkhorn(torch.zeros(2, 4), 1.0)
        >>> plan.plan.sum(), plan.error
        (tensor(1.), 0.0)
    """

    cost: Tensor
    f: Tensor
    g: Tensor
    regularisation: float
    error: float

    @property
    def rows(self) -> Tensor:
        """log P(j | i): ``(…, n, m)``, normalised over j."""
        return torch.log_softmax((self.g.unsqueeze(-2) - self.cost) / self.regularisation, -1)

    @property
    def plan(self) -> Tensor:
        """π ``(…, n, m)``, with rows that sum to 1/n."""
        return self.rows.exp() / max(self.cost.shape[-2], 1)

    @property
    def feasible(self) -> Tensor:
        """π made to have both marginals exactly, by moving at most ``error`` of its mass.

        (Altschuler, Weed & Rigollet 2017, arXiv 1705.09634, algorithm 2.)
        """
        n, m = self.cost.shape[-2:]
        plan = self.plan
        plan = plan * (1 / (m * plan.sum(-2, keepdim=True))).clamp_max(1)
        left, right = 1 / max(n, 1) - plan.sum(-1), 1 / max(m, 1) - plan.sum(-2)
        left, right = left.clamp_min(0), right.clamp_min(0)
        total = left.sum(-1)[..., None, None].clamp_min(torch.finfo(plan.dtype).tiny)
        return plan + left.unsqueeze(-1) * right.unsqueeze(-2) / total

    @property
    def transport_cost(self) -> Tensor:
        """Σ π_ij c_ij ``(…)``."""
        return (self.plan * self.cost).sum((-2, -1))


def sinkhorn(
    cost: Tensor,
    regularisation: float,
    *,
    iterations: int = 2000,
    tolerance: float = 1e-6,
    anneal: bool = True,
) -> EntropicPlan:
    """Entropic optimal transport with equal weights, in the log domain, many problems at once.

    f_i ← −r log (1/m) Σ_j e^{(g_j − c_ij)/r} and the same for g, in turn (Sinkhorn); most of the
    rounds are products with a matrix that is exponentiated once in a while. Annealing starts from
    r = max c and halves it, which carries large moves of the potentials over from the easy problems
    to the hard one.

    Args:
        cost: c ``(…, n, m)``.
        regularisation: r > 0; 2ε for the Schrödinger bridge of √(2ε) W with cost ½|x − y|².
        iterations: at most so many at the last r, in blocks of 20.
        tolerance: stops once the error of the columns is below it; it is looked at once a block.
        anneal: whether to start from a larger r.

    Returns:
        The plan with its error, which a caller that needs the marginals looks at: too few
        iterations do not raise.

    Raises:
        DomainError: regularisation or iterations are not positive.

    Example:
        >>> cost = half_squared_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]]))
        >>> sinkhorn(cost, 0.5).plan
        tensor([[0.3655, 0.1345],
                [0.1345, 0.3655]])
    """
    if not regularisation > 0 or iterations < 1:
        raise DomainError(
            "sinkhorn",
            "regularisation and iterations are positive.",
            got=f"regularisation {regularisation:g}, iterations {iterations}",
        )
    f, g = cost.new_zeros(cost.shape[:-1]), cost.new_zeros((*cost.shape[:-2], cost.shape[-1]))
    if cost.numel() == 0:
        return EntropicPlan(cost, f, g, regularisation, 0.0)
    levels = [regularisation]
    while anneal and levels[-1] < float(cost.max()):
        levels.append(2 * levels[-1])
    error, done = math.inf, 0
    for r in reversed(levels):
        last = r == regularisation
        for _ in range(math.ceil(iterations / BLOCK) if last else 1):
            f = _soft_minimum(cost - g.unsqueeze(-2), r, -1)
            new = _soft_minimum(cost - f.unsqueeze(-1), r, -2)
            if last:
                # with this f and the g behind it, column j sums to e^{(g − new)/r}/m
                error = float(((g - new) / r).expm1().abs().mean(-1).max())
                done += BLOCK
                if error <= tolerance or done >= iterations:
                    return EntropicPlan(cost, f, g, regularisation, error)
            f, g = _scaled(cost, f, new, r)
    raise AssertionError("the last level always returns")


BLOCK = 20
"""Iterations between two evaluations in the log domain."""


def _soft_minimum(cost: Tensor, r: float, axis: int) -> Tensor:
    """−r log mean e^{−cost/r} over an axis."""
    return -r * (torch.logsumexp(cost / -r, axis) - math.log(cost.shape[axis]))


def _scaled(cost: Tensor, f: Tensor, g: Tensor, r: float) -> tuple[Tensor, Tensor]:
    """`BLOCK` − 1 iterations by products with e^{(f+g−c)/r}, which is written out once.

    (Schmitzer 2019, arXiv 1610.06519.) A sum that underflows is kept above the least
    number, so that its potential moves as far as it can before the next block.
    """
    tiny = torch.finfo(cost.dtype).tiny
    kernel = ((f.unsqueeze(-1) + g.unsqueeze(-2) - cost) / r).exp()
    n, m = cost.shape[-2:]
    v = torch.ones_like(g).unsqueeze(-1)
    for _ in range(BLOCK - 1):
        u = m / (kernel @ v).clamp_min(tiny)
        v = n / (kernel.transpose(-1, -2) @ u).clamp_min(tiny)
    return f + r * u.squeeze(-1).log(), g + r * v.squeeze(-1).log()


@dataclass(frozen=True)
class Entropic:
    """Minibatch entropic transport: x1 drawn from the row of x0 in the plan of their batch.

    Given a batch, (x0_i, x1_j) has the law π. Rows of x1 may come twice and others not at all; on
    average each comes once, because the plan's marginals are made exact (`EntropicPlan.feasible`).
    ε → 0 is optimal transport, ε → ∞ independence.

    Args:
        base, data: the laws of the two ends.
        eps: ε > 0, of the Brownian motion √(2ε) W; in units of x². Use it with
            γ² = 2ε t(1−t): ``gamma: sqrt, gamma_scale: 2ε``.
        rows: how many rows are paired in one problem; None for all that are asked for at once.
        iterations, tolerance: see `sinkhorn`.

    Raises:
        DomainError: eps, rows or iterations are not positive.

    Example:
        >>> from genpath.laws import Gaussian
        >>> coupling = Entropic(Gaussian((2,)), Gaussian((2,), mean=3.0), eps=0.5)
        >>> coupling.pairs(100, torch.Generator().manual_seed(0)).x1.shape
        torch.Size([100, 2])
    """

    base: Law
    data: Law
    eps: float
    rows: int | None = None
    iterations: int = 200
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        _check_rows("Entropic", self.rows)
        if not self.eps > 0 or self.iterations < 1:
            raise DomainError(
                "Entropic",
                "eps and iterations are positive.",
                got=f"eps {self.eps:g}, iterations {self.iterations}",
                fix="ε = 0 is OptimalTransport",
            )

    def pairs(self, count: int, rng: torch.Generator) -> Pairs:
        x0, x1, points = _drawn(self.base, self.data, count, rng, "Entropic")
        size = self.rows or max(count, 1)
        full, rest = divmod(count, size)
        shapes = [(full, size), (1, rest)] if rest else [(full, size)]
        found, start = [torch.zeros(0, dtype=torch.long, device=points[0].device)], 0
        for problems, n in shapes if count else ():
            if problems:  # all problems of one size at once
                a, b = (side[start:][: problems * n].unflatten(0, (problems, n)) for side in points)
                offset = start + n * torch.arange(problems, device=a.device).unsqueeze(1)
                found.append((offset + self._matched(a, b, rng)).reshape(-1))
                start += problems * n
        return Pairs(x0, gather(x1, torch.cat(found)))

    def _matched(self, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Tensor:
        """Problems ``(k, n, d)``: an index of x1 for each row of x0, ``(k, n)``."""
        plan = sinkhorn(
            half_squared_distance(x0, x1),
            2 * self.eps,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )
        return pick(plan.feasible, rng)


def entropic(
    eps: float, rows: int | None, iterations: int, tolerance: float, base: Law, data_law: Law
) -> Entropic:
    """The component ``coupling.interpolants.entropic``.

    Example:
        >>> from genpath.laws import Gaussian
        >>> entropic(0.1, 64, 100, 1e-3, Gaussian((2,)), Gaussian((2,))).eps
        0.1
    """
    return Entropic(base, data_law, eps, rows, iterations, tolerance)


# -- batches -------------------------------------------------------------------------------------


def _check_rows(where: str, rows: int | None) -> None:
    if rows is not None and rows < 1:
        raise DomainError(where, "a problem has one row or more.", got=f"rows {rows}")


def _drawn(
    base: Law, data: Law, count: int, rng: torch.Generator, where: str
) -> tuple[State, State, tuple[Tensor, Tensor]]:
    """The draws of `Independent`, and their moving leaves as points ``(count, d)``."""
    with torch.no_grad():
        x1 = data.sample(count, rng)
        x0 = base.sample(count, rng)
    return x0, x1, _points(x0, x1, where)


def _points(x0: Any, x1: Any, where: str) -> tuple[Tensor, Tensor]:
    pairs = [(x0, x1)]
    if isinstance(x0, Mapping) and isinstance(x1, Mapping) and set(x0) <= set(x1):
        pairs = [(x0[name], x1[name]) for name in x0]
    right = all(
        isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape
        and a.is_floating_point() and b.is_floating_point()
        for a, b in pairs
    )  # fmt: skip
    if not right or batch_size(x0) != batch_size(x1):
        raise ShapeError(
            where,
            "x1 has the real-valued leaves of x0, of the same shapes.",
            got=f"x0 {describe(x0)}, x1 {describe(x1)}",
        )
    left, other = (torch.cat([flat_event(pair[side]) for pair in pairs], 1) for side in (0, 1))
    return left.detach(), other.to(left).detach()
