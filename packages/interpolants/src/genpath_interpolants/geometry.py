r"""Geometry: what a path's laws leave free of its velocity, and how its flow moves.

The law does not fix the field: u + J/ρ with div J = 0 carries it too (`add_gauge`). Of all of them
the gradient one has the least energy; what differs is the rotation (`curl_norm`), the energy and
the bend of the flow

    ∫ E|u(t, x_t)|² dt ≥ W₂²(ρ_0, ρ_1)          `kinetic_action`   (Benamou & Brenier 2000)
    E|ẋ_t − b|² = E|ẋ_t|² − E|b|²                `crossing`
    ∫ |X_1 − X_0 − Ẋ_t|² dt                      `flow_geometry`    (Liu, Gong & Liu 2022)

Straight is not optimal: pairs of an optimal map are cyclically monotone (`cyclical_gap`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.divergences import pushforward
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import flow
from genpath.grids import TimeGrid
from genpath.paths import ProbabilityPath, draw_with_target
from genpath.samplers import RungeKutta, integrate
from genpath.spaces import Euclidean
from genpath.states import Field, flat_event, row_times
from genpath.tableaus import RK4

from .features import Features

__all__ = [
    "Estimate",
    "Geometry",
    "LogDensity",
    "add_gauge",
    "crossing",
    "curl_norm",
    "cyclical_gap",
    "flow_geometry",
    "gradient_part",
    "jacobian",
    "kinetic_action",
    "least_monotone",
    "nearest_neighbours",
    "row_divergence",
]

LogDensity = Callable[[Tensor, Tensor], Tensor]
"""``(t, x) -> log ρ(t, x)``, times and values ``(batch,)``, differentiable by torch.func."""


# -- the gauge, and rotation -----------------------------------------------------------------------


def add_gauge(
    velocity: Field, stream: Callable[[Tensor, Tensor], Tensor], log_density: LogDensity
) -> Field:
    """u + J/ρ with J = div Ψ, Ψ antisymmetric, so that div J = 0: another flow with the same laws.

    J_i = Σ_j ∂_j Ψ_ij; in the plane a function ψ stands for Ψ_12 = −Ψ_21 = ψ, so that
    J = (∂_2 ψ, −∂_1 ψ). On the line there is none: J would be constant. Ψ must fall off at least
    as fast as ρ, or J/ρ is unbounded.

    Args:
        velocity: u.
        stream: ``(t, x) -> ψ (batch,)`` in the plane, or ``(batch, d, d)``, of which the
            antisymmetric part is used.
        log_density: log ρ.

    Returns:
        A field ``(t, x)`` on states ``(batch, d)``.

    Raises:
        CapabilityError: (when called) a state is not in R^d, d ≥ 2, or not in the plane for ψ.

    Example:
        >>> normal = lambda t, x: -0.5 * x.square().sum(1)
        >>> still = lambda t, x: 0 * x
        >>> turning = add_gauge(still, lambda t, x: normal(t, x).exp(), normal)
        >>> turning(torch.zeros(1), torch.tensor([[1.0, 2.0]]))  # ψ = ρ: a rotation
        tensor([[-2.,  1.]])
    """

    def matrix(t: Tensor, x: Tensor) -> Tensor:
        value = stream(t, x)
        if value.dim() == 1:
            zero = torch.zeros_like(value)
            rows = (torch.stack([zero, value], 1), torch.stack([-value, zero], 1))
            return torch.stack(rows, 1)
        return 0.5 * (value - value.transpose(1, 2))

    def field(t: Tensor, x: Any) -> Tensor:
        if x.dim() != 2 or x.shape[1] < 2 or (x.shape[1] != 2 and stream(t, x).dim() == 1):
            raise CapabilityError(
                "add_gauge",
                "states are rows of R^d, d ≥ 2; a function ψ is for the plane, a matrix Ψ for all.",
                got=f"x {tuple(x.shape)}",
            )
        current = row_divergence(matrix, t, x)
        density = log_density(t, x).unsqueeze(1)
        added = torch.where(current == 0, 0.0, current * torch.exp(-density))
        moved: Tensor = velocity(t, x) + added
        return moved

    return field


def jacobian(field: Field, t: Tensor | float, x: Tensor) -> Tensor:
    """∂_j u_i at each point, ``(batch, d, d)``, d the entries of the event.

    Example:
        >>> jacobian(lambda t, x: x[:, [1, 0]] * x, 0.0, torch.tensor([[1.0, 2.0]]))
        tensor([[[2., 1.],
                 [2., 1.]]])
    """
    times, size = row_times(t, x, "jacobian"), flat_event(x).shape[1]
    basis = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, *x.shape[1:])

    def one(direction: Tensor) -> Tensor:
        slope = pushforward(lambda y: field(times, y), x, direction.expand_as(x).clone())[1]
        return flat_event(slope)

    columns: Tensor = torch.func.vmap(one, out_dims=2)(basis)
    return columns


def curl_norm(field: Field, t: Tensor | float, x: Tensor) -> Tensor:
    """‖½(∇u − ∇uᵀ)‖_F at each point ``(batch,)``: 0 everywhere iff u is a gradient.

    In the plane it is |∂_1 u_2 − ∂_2 u_1|/√2.

    Example:
        >>> curl_norm(lambda t, x: torch.stack([-x[:, 1], x[:, 0]], 1), 0.0, torch.ones(1, 2))
        tensor([1.4142])
    """
    slopes = jacobian(field, t, x)
    norm: Tensor = torch.linalg.matrix_norm(0.5 * (slopes - slopes.transpose(1, 2)))
    return norm


def gradient_part(values: Tensor, features: Features, x: Tensor) -> tuple[Tensor, float]:
    """The projection in L²(ρ) of a field onto the gradients of test functions, and its share.

    It minimises E|u − Σ c_j ∇φ_j|². Of all fields with the same laws the gradient one has the least
    energy; a gauge J/ρ is orthogonal to every gradient and does not change the projection.

    Args:
        values: u at the draws, ``(batch, *event)``.
        features: φ.
        x: draws of ρ, ``(batch, *event)``.

    Returns:
        The projection ``(batch, *event)``, and E|projection|²/E|u|² (0 where u = 0).

    Example:
        >>> from genpath_interpolants.features import Bumps
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> turn = torch.stack([-x[:, 1], x[:, 0]], 1)
        >>> round(gradient_part(turn, Bumps(torch.zeros(1, 2), 1.0), x)[1], 6)
        0.0
    """
    flat = flat_event(x)
    basis = torch.eye(flat.shape[1], dtype=x.dtype, device=x.device)
    slopes = torch.stack([features.along(x, e.reshape(x.shape[1:]).expand_as(x)) for e in basis], 2)
    design = slopes.transpose(1, 2).flatten(0, 1)  # (batch·d, m)
    target = flat_event(values).reshape(-1, 1)
    weights = torch.linalg.lstsq(design, target, driver="gelsd" if x.is_cpu else None).solution
    part = design @ weights
    total = float(target.square().mean())
    return part.reshape(x.shape), float(part.square().mean()) / total if total > 0 else 0.0


def row_divergence(matrix: Callable[[Tensor, Tensor], Tensor], t: Tensor, x: Tensor) -> Tensor:
    """(div M)_i = Σ_j ∂_j M_ij of a matrix field ``(batch, d, d)``: ``(batch, d)``.

    Example:
        >>> outer = lambda t, x: x.unsqueeze(2) * x.unsqueeze(1)
        >>> row_divergence(outer, torch.zeros(1), torch.ones(1, 2))
        tensor([[3., 3.]])
    """
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)

    def one(direction: Tensor) -> Tensor:
        slope: Tensor = pushforward(lambda y: matrix(t, y), x, direction.expand_as(x).clone())[1]
        return slope @ direction

    found: Tensor = torch.func.vmap(one)(basis).sum(0)
    return found


# -- how a flow moves ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A Monte-Carlo mean with its standard error.

    Example:
        >>> print(Estimate(1.25, 0.01))
        1.25 ± 0.01
    """

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.2g}"


def _estimate(samples: Tensor, where: str) -> Estimate:
    if samples.shape[0] < 2:
        raise DomainError(where, "a mean needs two draws or more.", got=str(samples.shape[0]))
    data = samples.double()
    return Estimate(float(data.mean()), float(data.std() / math.sqrt(data.shape[0])))


@torch.no_grad()
def kinetic_action(
    path: ProbabilityPath, velocity: Field, pairs: Pairs, t: Tensor, rng: torch.Generator
) -> Estimate:
    """∫ E|u(t, x_t)|² dt, from draws at uniform times ``(batch,)``.

    At least W₂²(ρ_0, ρ_1), with equality for displacement interpolation (Benamou & Brenier 2000).

    Example:
        >>> from genpath_interpolants.paths import LinearPath
        >>> x0, path = torch.randn(4, 2), LinearPath(Euclidean(2))
        >>> shift = lambda t, x: torch.ones_like(x)  # carries x0 to x0 + 1
        >>> kinetic_action(path, shift, Pairs(x0, x0 + 1), torch.rand(4), torch.Generator()).value
        2.0
    """
    draw = path.draw(t, pairs.x0, pairs.x1, rng)
    return _estimate(flat_event(velocity(draw.t, draw.state).square()).sum(1), "kinetic_action")


@torch.no_grad()
def crossing(
    path: ProbabilityPath, velocity: Field, pairs: Pairs, t: Tensor | float, rng: torch.Generator
) -> Estimate:
    """E|ẋ_t − b(t, x_t)|² = E|ẋ_t|² − E|b|²: how much the paths of pairs cross.

    0 iff they do not. For standard ends of correlation c on the line, with γ = 0, it is 2(1 − c) at
    t = ½.

    Args:
        path: a path with the prediction "velocity".
        velocity: its velocity b.
        pairs: endpoint pairs.
        t: times ``(batch,)``, or a scalar.
        rng: for latent noise.

    Example:
        >>> from genpath_interpolants.paths import LinearPath
        >>> ends, path = torch.tensor([[-1.0], [1.0]]), LinearPath(Euclidean(1))
        >>> cross = Pairs(ends, -ends)  # both pass 0 at t = ½, where b = 0
        >>> crossing(path, lambda t, x: 0 * x, cross, 0.5, torch.Generator()).value
        4.0
    """
    draw, speed = draw_with_target(path, "velocity", t, pairs.x0, pairs.x1, rng)
    gap = speed - velocity(draw.t, draw.state)
    return _estimate(flat_event(gap.square()).sum(1), "crossing")


@dataclass(frozen=True)
class Geometry:
    """The flow from each start: ``action`` = ∫|Ẋ|² dt, ``displacement`` = X_1 − X_0 and
    ``straightness`` = ∫|X_1 − X_0 − Ẋ|² dt = action − |displacement|².

    Args:
        action, straightness: ``(batch,)``.
        displacement: ``(batch, *event)``.
    """

    action: Tensor
    displacement: Tensor
    straightness: Tensor


@torch.no_grad()
def flow_geometry(velocity: Field, x0: Tensor, steps: int = 64) -> Geometry:
    """How the flow of u moves each start from t = 0 to 1: RK4, with Simpson's rule over the steps.

    The straightness is that of rectified flow (Liu, Gong & Liu 2022, arXiv 2209.03003): 0 iff every
    solution is a straight line of constant speed.

    Args:
        velocity: u, evaluated on [0, 1].
        x0: starts ``(batch, *event)``.
        steps: an even number.

    Raises:
        DomainError: steps is odd or below 2.

    Example:
        >>> found = flow_geometry(lambda t, x: x.new_ones(x.shape), torch.zeros(1, 2))
        >>> found.action.round(decimals=4), found.straightness.abs().round(decimals=4)
        (tensor([2.]), tensor([0.]))
    """
    if steps < 2 or steps % 2:
        raise DomainError("flow_geometry", "steps is even, and 2 or more.", got=str(steps))
    solved = integrate(
        RungeKutta(RK4), flow(Euclidean(*x0.shape[1:]), velocity), x0, TimeGrid.uniform(steps),
        torch.Generator(device=x0.device), record=range(steps + 1),
    )  # fmt: skip
    states: list[Tensor] = list(solved.trajectory)
    shift = states[-1] - x0
    action, bend = x0.new_zeros(x0.shape[0]), x0.new_zeros(x0.shape[0])
    for j, x in enumerate(states):
        weight = (1 if j in (0, steps) else 4 if j % 2 else 2) / (3 * steps)
        speed = velocity(row_times(j / steps, x), x)
        action += weight * flat_event(speed.square()).sum(1)
        bend += weight * flat_event((shift - speed).square()).sum(1)
    return Geometry(action, shift, bend)


# -- pairs and samples -----------------------------------------------------------------------------


def nearest_neighbours(
    x: Tensor,
    data: Tensor,
    *,
    metric: Literal["l1", "l2"] = "l1",
    count: int = 1,
    chunk: int = 1024,
) -> tuple[Tensor, Tensor]:
    """The nearest rows of ``data`` to each row of ``x``: a check for copies of the training set.

    Distances are sums over entries, computed from differences, so that a copy is at exactly 0.

    Args:
        x: ``(batch, *event)``.
        data: ``(rows, *event)``.
        metric: "l1", Σ|x − y|, or "l2", √Σ(x − y)².
        count: how many, nearest first.
        chunk: rows of x at a time.

    Returns:
        Distances and indices, ``(batch, count)`` each.

    Raises:
        ShapeError: events differ.
        DomainError: an unknown metric, or fewer rows than ``count``.

    Example:
        >>> data = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> nearest_neighbours(torch.tensor([[1.0, 1.0], [0.0, 0.5]]), data)
        (tensor([[0.0000],
                [0.5000]]), tensor([[1],
                [0]]))
    """
    if x.shape[1:] != data.shape[1:]:
        raise ShapeError(
            "nearest_neighbours",
            "rows of x and data have one shape.",
            got=f"x {tuple(x.shape)}, data {tuple(data.shape)}",
        )
    if metric not in ("l1", "l2"):
        raise DomainError("nearest_neighbours", "metric is l1 or l2.", got=repr(metric))
    if not 1 <= count <= data.shape[0]:
        raise DomainError(
            "nearest_neighbours", "data has at least count ≥ 1 rows.",
            got=f"{data.shape[0]} rows, count {count}",
        )  # fmt: skip
    rows, flat = flat_event(x), flat_event(data).to(x)
    power, exact = (1.0, "use_mm_for_euclid_dist_if_necessary") if metric == "l1" else (
        2.0, "donot_use_mm_for_euclid_dist")  # fmt: skip
    found = [
        torch.cdist(piece, flat, p=power, compute_mode=exact).topk(count, 1, largest=False)
        for piece in rows.split(chunk)
    ]
    if not found:
        return x.new_zeros(0, count), torch.zeros(0, count, dtype=torch.long, device=x.device)
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def least_monotone(x: Tensor, y: Tensor) -> float:
    """min over pairs of rows of (x_i − x_j)·(y_i − y_j)/|x_i − x_j|²: < 0 iff not monotone.

    Monotone is weaker than optimal: a rotation by less than 90° is monotone (`cyclical_gap`).

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> least_monotone(x, 3 * x), least_monotone(x, -x)
        (3.0, -1.0)
    """
    a, b = _paired_rows(x, y, "least_monotone")
    gap_x, gap_y = a.unsqueeze(1) - a, b.unsqueeze(1) - b
    square = gap_x.square().sum(2)
    ratio = (gap_x * gap_y).sum(2) / square
    ratio = torch.where(square > 0, ratio, math.inf)
    return float(ratio.min())


def cyclical_gap(x: Tensor, y: Tensor) -> float:
    """max_σ (1/n) Σ x_i·(y_σ(i) − y_i) over permutations: 0 iff (x, y) is cyclically monotone.

    Pairs of an optimal map for the squared distance are, since it is the gradient of a convex
    function (Rockafellar 1966); straight flows need not be. It is half of what a re-pairing would
    save of E|x − y|². The assignment is solved by ``scipy``.

    Args:
        x, y: paired rows ``(n, *event)``, up to a few thousand.

    Raises:
        ShapeError: they do not pair up.
        CapabilityError: scipy is not installed.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> cyclical_gap(x, x + 1), cyclical_gap(x, 1 - x)
        (0.0, 0.5)
    """
    a, b = _paired_rows(x, y, "cyclical_gap")
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise CapabilityError(
            "cyclical_gap",
            "the best pairing is found by scipy.",
            got="scipy is not installed",
            fix='pip install "genpath-interpolants[ot]"',
        ) from error
    gain = a @ b.T - (a * b).sum(1, keepdim=True)
    _, best = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
    index = torch.as_tensor(best, device=gain.device).unsqueeze(1)
    return max(float(gain.gather(1, index).mean()), 0.0)


def _paired_rows(x: Tensor, y: Tensor, where: str) -> tuple[Tensor, Tensor]:
    if x.shape != y.shape or x.shape[0] < 2:
        raise ShapeError(
            where,
            "x and y pair up row by row, two rows or more.",
            got=f"x {tuple(x.shape)}, y {tuple(y.shape)}",
        )
    return flat_event(x).double(), flat_event(y).double()
