r"""Distances between two clouds of points, weighted or not.

    W_k(P, Q)^k = min over couplings π of P and Q of E_π |x − y|^k        k = 1, 2
    MMD²(P, Q)  = E k(x, x') − 2 E k(x, y) + E k(y, y')                   k a mean of normal kernels
    energy      = 2 E|x − y| − E|x − x'| − E|y − y'|
    TV          = ½ Σ_cells |P(cell) − Q(cell)|                           on a grid

A distance between clouds is not 0 when their laws agree: two fresh draws of one law are some way
apart too. `floor` measures that, and a distance is read beside it. MMD² and the energy distance are
unbiased (pairs of one point with itself are left out, as U-statistics do), so that their floor has
mean 0; W and TV are not: W_1 of n points on the plane falls like √(log n/n), TV like √(cells/n).

Weights are normalised. For MMD² and the energy distance a weighted E h(x, x') is
Σ_{i≠j} w_i w_j h(x_i, x_j)/(1 − Σ w_i²), which is the U-statistic for equal weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.states import flat_event

__all__ = [
    "energy_distance",
    "floor",
    "median_distance",
    "mmd",
    "total_variation",
    "wasserstein1",
    "wasserstein2",
]

Weights = Tensor | None


def wasserstein1(
    x: Tensor, y: Tensor, x_weights: Weights = None, y_weights: Weights = None
) -> float:
    """W₁ of two clouds, exact, with |x − y| the Euclidean distance; needs POT.

    Memory grows like n·m and time a little faster: 0.06, 0.35 and 1.9 s for 1,000, 2,000 and 4,000
    points on each side. Draw a few thousand of a larger cloud. Weighted particles may be given as
    they are.

    Source: Flamary et al. 2021 (POT), the network simplex of Bonneel et al. 2011.

    Args:
        x, y: points ``(n, *event)`` and ``(m, *event)``.
        x_weights, y_weights: ``(n,)`` and ``(m,)``, not negative; equal if None.

    Raises:
        CapabilityError: POT is not installed.
        ShapeError: the points have different shapes, or weights do not pair up with them.
        DomainError: an empty cloud, a negative weight, or weights that sum to 0.

    Example:
        >>> wasserstein1(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [4.0]]))
        3.0
    """
    return _transport("wasserstein1", 1, x, y, x_weights, y_weights)


def wasserstein2(
    x: Tensor, y: Tensor, x_weights: Weights = None, y_weights: Weights = None
) -> float:
    """W₂ of two clouds, exact: the root of the least mean squared distance; needs POT.

    Arguments, cost and refusals are those of `wasserstein1`.

    Example:
        >>> wasserstein2(torch.zeros(1, 2), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))  # √(25/2)
        3.5355339059327378
    """
    return _transport("wasserstein2", 2, x, y, x_weights, y_weights)


def median_distance(x: Tensor, y: Tensor, most: int = 1000) -> float:
    """The median of |x − y| over pairs of a point of ``x`` and one of ``y``.

    The usual width of a normal kernel. At most the first ``most`` points of each are used.

    Example:
        >>> median_distance(torch.zeros(3, 1), torch.tensor([[1.0], [2.0], [5.0]]))
        2.0
    """
    first, second, _, _ = _clouds("median_distance", x[:most], y[:most], None, None)
    return float(torch.cdist(first, second).median())


def mmd(
    x: Tensor,
    y: Tensor,
    x_weights: Weights = None,
    y_weights: Weights = None,
    *,
    bandwidths: Sequence[float] | None = None,
    chunk: int = 2000,
) -> float:
    """MMD² with the mean of normal kernels e^{−|x−y|²/2h²}, unbiased: it may be negative.

    Source: Gretton et al. 2012, A kernel two-sample test, equation 3.

    Args:
        x, y, x_weights, y_weights: as in `wasserstein1`, two points or more on each side.
        bandwidths: h, one or several; `median_distance` if None. To compare several clouds with one
            reference give them all the same.
        chunk: rows compared with all others at once.

    Raises:
        ShapeError, DomainError: as `wasserstein1`; a bandwidth is not positive.

    Example:
        >>> x, y = torch.tensor([[0.0], [0.0]]), torch.tensor([[30.0], [30.0]])
        >>> mmd(x, y, bandwidths=[1.0])  # 1 − 0 + 1
        2.0
    """
    if bandwidths is None:
        bandwidths = [median_distance(x, y)]
    if not bandwidths or not all(h > 0 for h in bandwidths):
        raise DomainError("mmd", "bandwidths are positive, one or more.", got=str(bandwidths))
    scales = [-0.5 / float(h) ** 2 for h in bandwidths]

    def kernel(distance: Tensor) -> Tensor:
        square = distance.square_()
        total = (square * scales[0]).exp_()
        for scale in scales[1:]:
            total += (square * scale).exp_()
        return total / len(scales)

    within_x, across, within_y = _pairs("mmd", kernel, x, y, x_weights, y_weights, chunk)
    return within_x - 2 * across + within_y


def energy_distance(
    x: Tensor,
    y: Tensor,
    x_weights: Weights = None,
    y_weights: Weights = None,
    *,
    chunk: int = 2000,
) -> float:
    """2 E|x − y| − E|x − x'| − E|y − y'|, unbiased: it may be negative. No bandwidth to choose.

    Source: Székely & Rizzo 2013.

    Args:
        x, y, x_weights, y_weights, chunk: as in `mmd`.

    Raises:
        ShapeError, DomainError: as `wasserstein1`.

    Example:
        >>> energy_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [4.0]]))  # 6 − 1 − 1
        4.0
    """
    parts = _pairs("energy_distance", lambda d: d, x, y, x_weights, y_weights, chunk)
    within_x, across, within_y = parts
    return 2 * across - within_x - within_y


def total_variation(
    x: Tensor,
    y: Tensor | None,
    edges: Sequence[Tensor],
    x_weights: Weights = None,
    y_weights: Weights = None,
    *,
    reference: Tensor | None = None,
) -> float:
    """½ Σ |P(cell) − Q(cell)| on a grid, in [0, 1]; what falls outside is one cell more.

    It depends on the grid: cells that hold few points make it large whatever the laws are.

    Args:
        x, y: points ``(n, d)`` and ``(m, d)``; y is None where a ``reference`` is given.
        edges: increasing edges for each of the d axes.
        x_weights, y_weights: as in `wasserstein1`.
        reference: the exact probabilities of the cells, one axis for each coordinate, in place of a
            second cloud.

    Raises:
        ShapeError: points are no vectors, or axes, edges and reference do not pair up.
        DomainError: as `wasserstein1`; edges that do not increase.

    Example:
        >>> edges = [torch.tensor([0.0, 1.0, 2.0])]
        >>> x, y = torch.tensor([[0.5], [1.5]]), torch.tensor([[0.5], [7.0]])
        >>> total_variation(x, y, edges)
        0.5
        >>> total_variation(x, None, edges, reference=torch.tensor([0.25, 0.75]))
        0.25
    """
    where = "total_variation"
    if (y is None) == (reference is None):
        raise DomainError(where, "there is a second cloud, or exact probabilities of the cells.")
    first, second, p, q = _clouds(where, x, x if y is None else y, x_weights, y_weights)
    if x.dim() != 2 or x.shape[1] != len(edges):
        got = f"points {tuple(x.shape)}, {len(edges)} axes of edges"
        raise ShapeError(where, "points are (n, d), with edges for each axis.", got=got)
    if not all(len(e) > 1 and bool((e.diff() > 0).all()) for e in edges):
        raise DomainError(where, "edges increase, two or more on each axis.")
    found = _histogram(first, p, edges)
    if reference is None:
        other = _histogram(second, q, edges)
    else:
        if tuple(reference.shape) != tuple(len(e) - 1 for e in edges):
            raise ShapeError(
                where,
                "the reference has one probability per cell.",
                got=f"{tuple(reference.shape)}",
            )
        flat = reference.reshape(-1).to(found)
        other = torch.cat([flat, 1 - flat.sum()[None]])
    return 0.5 * float((found - other).abs().sum())


def floor(
    sampler: Callable[[int, torch.Generator], Tensor],
    distance: Callable[[Tensor, Tensor], float],
    count: int,
    rng: torch.Generator,
    *,
    repeats: int = 10,
    other: int | None = None,
) -> Tensor:
    """The distance between two fresh draws of one law, several times: ``(repeats,)``, in float64.

    What a perfect sampler would show: compare the mean of a method's distances with the mean of
    these, and their spreads.

    Args:
        sampler: ``(count, rng) -> points``, the law.
        distance: of two clouds, such as `wasserstein1`.
        count: points of the first draw: as many as the method has.
        rng: of the draws.
        repeats: how often, at least 1.
        other: points of the second draw; ``count`` if None.

    Raises:
        DomainError: no repeats.

    Example:
        >>> from genpath import Gaussian
        >>> rng = torch.Generator().manual_seed(0)
        >>> found = floor(Gaussian((2,)).sample, energy_distance, 500, rng, repeats=4)
        >>> found.shape, bool(found.abs().max() < 0.02)
        (torch.Size([4]), True)
    """
    if repeats < 1:
        raise DomainError("floor", "repeats ≥ 1.", got=str(repeats))
    second = count if other is None else other
    values = [distance(sampler(count, rng), sampler(second, rng)) for _ in range(repeats)]
    return torch.tensor(values, dtype=torch.float64)


# -- what they share -------------------------------------------------------------------------------


def _clouds(
    where: str, x: Tensor, y: Tensor, p: Weights, q: Weights
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points ``(n, d)`` and normalised weights, in float64."""
    if x.shape[1:] != y.shape[1:]:
        got = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ShapeError(where, "the two clouds have points of one shape.", got=got)
    first, second = flat_event(x).double(), flat_event(y).double()
    return first, second, _weights(where, first, p), _weights(where, second, q)


def _weights(where: str, points: Tensor, weights: Weights) -> Tensor:
    count = len(points)
    if not count:
        raise DomainError(where, "a cloud has a point or more.", got="an empty batch")
    if weights is None:
        return torch.full((count,), 1 / count, dtype=torch.float64, device=points.device)
    if weights.shape != (count,):
        got = f"weights {tuple(weights.shape)} for {count} points"
        raise ShapeError(where, "there is one weight per point.", got=got)
    values = weights.double()
    total = float(values.sum())
    if not (bool((values >= 0).all()) and 0 < total < float("inf")):
        raise DomainError(
            where,
            "weights are finite, not negative, and not all 0.",
            got=f"least {float(values.min()):g}, sum {total:g}",
            fix="pass weights, not log-weights: log_weight.softmax(0)",
        )
    return values / total


def _transport(where: str, order: int, x: Tensor, y: Tensor, p: Weights, q: Weights) -> float:
    first, second, left, right = _clouds(where, x, y, p, q)
    solver = _pot(where)
    cost = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist") ** order
    marginals = (left.cpu().numpy(), right.cpu().numpy())
    value = float(solver.emd2(*marginals, cost.cpu().numpy(), numItermax=10_000_000))
    return max(value, 0.0) if order == 1 else math.sqrt(max(value, 0.0))


def _pot(where: str) -> Any:
    try:
        return import_module("ot")
    except ImportError as error:
        raise CapabilityError(
            where,
            "optimal transport is solved by POT, which is not installed.",
            fix="pip install 'genpath-compose[ot]', or use energy_distance or mmd",
        ) from error


def _pairs(
    where: str,
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    p: Weights,
    q: Weights,
    chunk: int,
) -> tuple[float, float, float]:
    """E h(x, x'), E h(x, y) and E h(y, y') of h = function(distance), without pairs (i, i)."""
    first, second, left, right = _clouds(where, x, y, p, q)
    if chunk < 1:
        raise DomainError(where, "chunk ≥ 1.", got=str(chunk))
    exact = "donot_use_mm_for_euclid_dist"
    at_zero = float(function(first.new_zeros(1)))

    def mean(a: Tensor, u: Tensor, b: Tensor, v: Tensor) -> float:
        pieces = zip(a.split(chunk), u.split(chunk), strict=True)
        rows = (w @ function(torch.cdist(c, b, compute_mode=exact)) @ v for c, w in pieces)
        return float(sum(rows, first.new_zeros(())))

    def within(a: Tensor, u: Tensor) -> float:
        same = float(u.square().sum())
        if not same < 1:
            raise DomainError(where, "a cloud has two points with weight or more.", got="one")
        return (mean(a, u, a, u) - same * at_zero) / (1 - same)

    return within(first, left), mean(first, left, second, right), within(second, right)


def _histogram(x: Tensor, weights: Tensor, edges: Sequence[Tensor]) -> Tensor:
    """Weights of the cells, and of what is outside, last: ``(cells + 1,)``."""
    index = torch.zeros(len(x), dtype=torch.long, device=x.device)
    outside = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    size = 1
    for axis, edge in enumerate(edges):
        marks = edge.to(x)
        cell = torch.searchsorted(marks, x[:, axis].contiguous(), right=True) - 1
        outside |= (cell < 0) | (cell >= len(edge) - 1)
        index = index * (len(edge) - 1) + cell
        size *= len(edge) - 1
    index = torch.where(outside, size, index)
    return torch.zeros(size + 1, dtype=weights.dtype, device=x.device).index_add_(0, index, weights)
