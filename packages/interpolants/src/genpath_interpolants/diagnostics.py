r"""Diagnostics: whether a field carries the laws of a path, from draws or with a density.

*From draws alone, in any dimension.* For every test function φ and times a < b

    E φ(x_b) − E φ(x_a) = E ∫_a^b (∇φ·u + ε Δφ)(t, x_t) dt       `weak_residual`
    E[ ik·(ẋ_t − u(t, x_t)) e^{ik·x_t} ] = 0                      `characteristic_residual`
    E[ φ(x_t) (g(t, x_t) − Y) ] = 0   ⇔   g = E[Y | x_t]          `orthogonality`

each a mean with a standard error, hence a z-score. *With a density*, as derivatives at points:

    ∂_t log ρ + div u + u·s = 0                                   `continuity_residual`
    the same with u = b_F − ½(A s + div A)                        `fokker_planck_residual`

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 2.) `marginal_report` tabulates the
first over t: where a trained model leaves its path. The law does not fix the field: what is left
free, and what differs then, is in `geometry`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.divergences import exact_divergence, pushforward
from genpath.errors import DomainError, ShapeError
from genpath.objectives import stratified_times
from genpath.paths import ProbabilityPath, draw_with_target
from genpath.spaces import Euclidean
from genpath.states import (
    Field,
    batch_size,
    device_of,
    dtype_of,
    flat_event,
    row_times,
)

from .features import Features, Waves, random_features
from .geometry import LogDensity, row_divergence

__all__ = [
    "Diffusion",
    "MarginalReport",
    "Residuals",
    "characteristic_residual",
    "continuity_residual",
    "fokker_planck_residual",
    "marginal_report",
    "orthogonality",
    "weak_residual",
]

Diffusion = float | Tensor | Callable[[Tensor, Tensor], Tensor]
"""ε of √(2ε) dW as a number or ``(t, x) -> (batch,)``, or A of A^{1/2} dW as a symmetric matrix
``(d, d)`` or ``(t, x) -> (batch, d, d)``; A = 2ε I."""

TENTHS = tuple(j / 10 for j in range(11))


# -- from draws ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Residuals:
    """Means that should be 0, with their standard errors.

    Args:
        means, errors: of one shape.
        count: how many draws.

    Example:
        >>> found = Residuals(torch.tensor([0.1, 0.0]), torch.tensor([0.02, 0.02]), 400)
        >>> found.z, found.worst > found.bound()
        (tensor([5., 0.]), True)
    """

    means: Tensor
    errors: Tensor
    count: int

    @property
    def z(self) -> Tensor:
        """means/errors; 0 where both vanish."""
        return torch.where(self.means == 0, 0.0, self.means / self.errors)

    @property
    def worst(self) -> float:
        """The largest |z|."""
        return float(self.z.abs().max()) if self.z.numel() else 0.0

    def bound(self, level: float = 1e-3) -> float:
        """The |z| that one of them exceeds by chance with probability below ``level``."""
        return NormalDist().inv_cdf(1 - level / (2 * max(self.means.numel(), 1)))


def _residuals(samples: Tensor, scale: Tensor) -> Residuals:
    """Of samples ``(batch, …)``; an error is never below the rounding of terms of this size."""
    if samples.shape[0] < 2:
        raise DomainError("residuals", "a mean needs two draws or more.", got=str(samples.shape[0]))
    floor = 64 * torch.finfo(samples.dtype).eps * scale.abs().mean(0)
    errors = samples.std(0) / math.sqrt(samples.shape[0])
    return Residuals(samples.mean(0), torch.maximum(errors, floor), samples.shape[0])


@torch.no_grad()
def weak_residual(
    path: ProbabilityPath,
    drift: Field,
    pairs: Pairs,
    features: Features,
    rng: torch.Generator,
    *,
    start: float = 0.0,
    end: float = 1.0,
    eps: float = 0.0,
) -> Residuals:
    """φ(x_b) − φ(x_a) − (b − a)(∇φ·u + ε Δφ)(τ, x_τ), in the mean over draws, τ uniform in [a, b].

    It is 0 for every φ iff the drift carries the path's laws from ``start`` to ``end`` in the weak
    sense (arXiv 2303.08797, section 2.2): the flow of u for ε = 0, the forward SDE
    with drift b_F for ε > 0, the backward SDE with drift b_B for ε < 0. Neither a density nor the
    path's own velocity is used.

    Args:
        path: the path.
        drift: ``(t, x)``, evaluated inside [start, end].
        pairs: endpoint pairs.
        features: φ.
        rng: for times and latent noise.
        start, end: a < b.
        eps: ε, with the sign of the direction.

    Returns:
        One residual per φ.

    Raises:
        DomainError: not 0 ≤ start < end ≤ 1, or fewer than two pairs.

    Example:
        >>> from genpath_interpolants.paths import LinearPath
        >>> rng, path = torch.Generator().manual_seed(0), LinearPath(Euclidean(1))
        >>> pairs = Pairs(torch.zeros(100, 1), torch.randn(100, 1, generator=rng))
        >>> waves = Waves(torch.tensor([[0.5], [1.0]]))
        >>> right = weak_residual(path, lambda t, x: x / t[:, None], pairs, waves, rng)
        >>> wrong = weak_residual(path, lambda t, x: 2 * x / t[:, None], pairs, waves, rng)
        >>> right.worst < right.bound() < wrong.worst
        True
    """
    if not 0 <= start < end <= 1:
        raise DomainError(
            "weak_residual", "0 ≤ start < end ≤ 1.", got=f"start {start:g}, end {end:g}"
        )
    u = stratified_times(batch_size(pairs.x1), rng).to(device_of(pairs.x1), dtype_of(pairs.x1))
    first, last = (  # with the same latent noise
        path.draw(torch.full_like(u, s), pairs.x0, pairs.x1, _twin(rng)).state for s in (start, end)
    )
    draw = path.draw(start + (end - start) * u, pairs.x0, pairs.x1, rng)
    rate = features.along(draw.state, drift(draw.t, draw.state))
    if eps:
        rate = rate + eps * features.laplacian(draw.state)
    change = features.value(last) - features.value(first)
    rate = (end - start) * rate
    return _residuals(change - rate, change.abs() + rate.abs())


def _twin(rng: torch.Generator) -> torch.Generator:
    """A generator that gives the numbers that ``rng`` will give."""
    return torch.Generator(device=rng.device).set_state(rng.get_state())


@torch.no_grad()
def characteristic_residual(
    path: ProbabilityPath,
    velocity: Field,
    pairs: Pairs,
    frequencies: Tensor,
    t: Tensor | float,
    rng: torch.Generator,
) -> Residuals:
    """E[ik·(ẋ_t − u(t, x_t)) e^{ik·x_t}]: the real parts for every k, then the imaginary ones.

    With g(t, k) = E e^{ik·x_t}, ∂_t g = ik·E[ẋ_t e^{ik·x_t}] (arXiv 2303.08797, appendix B); it
    vanishes for all k iff u moves the law as the path does at that time. No density is needed.

    Args:
        path: a path with the prediction "velocity".
        velocity: u.
        pairs: endpoint pairs.
        frequencies: k, ``(m, *event)``.
        t: times ``(batch,)``, or a scalar.
        rng: for latent noise.

    Example:
        >>> from genpath_interpolants.paths import LinearPath
        >>> rng, path = torch.Generator().manual_seed(0), LinearPath(Euclidean(1))
        >>> pairs = Pairs(torch.zeros(100, 1), torch.randn(100, 1, generator=rng))
        >>> field = lambda t, x: x / t[:, None]
        >>> characteristic_residual(path, field, pairs, torch.ones(1, 1), 0.5, rng).worst
        0.0
    """
    draw, speed = draw_with_target(path, "velocity", t, pairs.x0, pairs.x1, rng)
    waves, value = Waves(frequencies), velocity(draw.t, draw.state)
    moved, carried = (waves.along(draw.state, v) for v in (speed, value))
    return _residuals(moved - carried, moved.abs() + carried.abs())


@torch.no_grad()
def orthogonality(prediction: Tensor, target: Tensor, features: Tensor) -> Residuals:
    """E[φ(x)(g(x) − Y)], which is 0 for every φ iff g(x) = E[Y | x].

    Args:
        prediction: g(x), ``(batch, *event)``.
        target: Y, of that shape.
        features: φ(x), ``(batch, m)``.

    Returns:
        Residuals ``(m, entries of the event)``.

    Raises:
        ShapeError: the three do not pair up.

    Example:
        >>> y, one = torch.tensor([[1.0], [3.0]]), torch.ones(2, 1)
        >>> orthogonality(2 * one, y, one).means, orthogonality(one, y, one).means
        (tensor([[0.]]), tensor([[-1.]]))
    """
    if prediction.shape != target.shape or features.shape[:1] != target.shape[:1]:
        raise ShapeError(
            "orthogonality",
            "prediction and target have one shape, and one row of features each.",
            got=f"prediction {tuple(prediction.shape)}, target {tuple(target.shape)}, "
            f"features {tuple(features.shape)}",
        )
    value, level = flat_event(prediction), flat_event(target)
    weight = features.unsqueeze(2)
    samples = weight * (value - level).unsqueeze(1)
    return _residuals(samples, weight.abs() * (value.abs() + level.abs()).unsqueeze(1))


@dataclass(frozen=True)
class MarginalReport:
    """Where in t a drift leaves the laws of its path.

    Args:
        edges: of the bins of time, ``(bins + 1,)``.
        residuals: ``(bins, functions)``, of `weak_residual` on each bin.
        level: the probability of a false alarm in the whole table.

    Example:
        >>> one = torch.ones(1, 1)
        >>> print(MarginalReport((0.0, 1.0), Residuals(0.2 * one, 0.01 * one, 100)))
        t from  to       worst z   speed of E φ   (|z| ≤ 3.29)
        0.000   1.000       20.0          0.2     leaves
    """

    edges: tuple[float, ...]
    residuals: Residuals
    level: float = 1e-3

    @property
    def bound(self) -> float:
        """The largest |z| that chance explains."""
        return self.residuals.bound(self.level)

    @property
    def worst(self) -> Tensor:
        """The largest |z| of each bin, ``(bins,)``."""
        return self.residuals.z.abs().amax(1)

    @property
    def speed(self) -> Tensor:
        """The largest |d/dt E φ| that is not accounted for in each bin, ``(bins,)``; |φ| ≤ 1."""
        edges = torch.tensor(self.edges, dtype=torch.float64, device=self.residuals.means.device)
        return self.residuals.means.abs().amax(1) / edges.diff()

    @property
    def leaves(self) -> Tensor:
        """Whether the drift leaves the path in each bin, ``(bins,)``."""
        return self.worst > self.bound

    def __str__(self) -> str:
        lines = [f"t from  to       worst z   speed of E φ   (|z| ≤ {self.bound:.2f})"]
        rows = zip(self.worst, self.speed, self.leaves, strict=True)
        for (a, b), (worst, speed, leaves) in zip(pairwise(self.edges), rows, strict=True):
            words = "leaves" if bool(leaves) else "stays"
            lines.append(
                f"{a:<7.3f} {b:<7.3f} {float(worst):>8.1f} {float(speed):>12.3g}     {words}"
            )
        return "\n".join(lines)


def marginal_report(
    path: ProbabilityPath,
    drift: Field,
    pairs: Pairs,
    rng: torch.Generator,
    *,
    edges: Sequence[float] = TENTHS,
    features: Features | None = None,
    count: int = 8,
    eps: float = 0.0,
    level: float = 1e-3,
) -> MarginalReport:
    """`weak_residual` on each bin of time: where a trained drift leaves the path.

    Args:
        path: the path.
        drift: u, b_F or b_B by the sign of ``eps``.
        pairs: endpoint pairs, used in every bin.
        rng: for times, noise and test functions.
        edges: increasing times in [0, 1]; one bin between two of them.
        features: test functions with |φ| ≤ 1; `random_features` of each bin if None.
        count: waves and bumps of a bin, if ``features`` is None.
        eps: ε, with the sign of the direction.
        level: the probability of a false alarm in the whole table.

    Example:
        >>> from genpath_interpolants.paths import LinearPath
        >>> rng, path = torch.Generator().manual_seed(0), LinearPath(Euclidean(1))
        >>> pairs = Pairs(torch.zeros(500, 1), torch.randn(500, 1, generator=rng))
        >>> late = lambda t, x: (1 + (t > 0.5))[:, None] * x / t[:, None]
        >>> marginal_report(path, late, pairs, rng, edges=(0.1, 0.5, 0.9)).leaves
        tensor([False,  True])
    """
    found = []
    for a, b in pairwise(edges):
        chosen = features
        if chosen is None:
            times = row_times(0.5 * (a + b), pairs.x1)
            chosen = random_features(path.draw(times, pairs.x0, pairs.x1, rng).state, count, rng)
        found.append(weak_residual(path, drift, pairs, chosen, rng, start=a, end=b, eps=eps))
    means = torch.stack([each.means for each in found])
    errors = torch.stack([each.errors for each in found])
    return MarginalReport(tuple(edges), Residuals(means, errors, found[0].count), level)


# -- at points ------------------------------------------------------------------------------------


def continuity_residual(
    log_density: LogDensity, velocity: Field, t: Tensor | float, x: Tensor
) -> Tensor:
    """∂_t log ρ + div u + u·s at each point: 0 where the flow of u has the density ρ.

    It is the transport equation divided by ρ (arXiv 2303.08797, Theorem 6). Derivatives are
    automatic.

    Args:
        log_density: log ρ.
        velocity: u.
        t: times ``(batch,)``, or a scalar, inside (0, 1).
        x: states ``(batch, *event)``.

    Returns:
        The residuals ``(batch,)``.

    Example:
        >>> growing = lambda t, x: -x[:, 0] ** 2 / (2 * t**2) - t.log()  # N(0, t²)
        >>> field = lambda t, x: x / t[:, None]
        >>> continuity_residual(growing, field, 0.5, torch.tensor([[0.3]]))
        tensor([0.])
    """
    times = row_times(t, x, "continuity_residual").contiguous()
    rate = pushforward(lambda s: log_density(s, x), times, torch.ones_like(times))[1]
    value, divergence = exact_divergence(Euclidean(*x.shape[1:]), velocity, times, x)
    score = _score(log_density)(times, x)
    residual: Tensor = rate + divergence + flat_event(value * score).sum(1)
    return residual


def fokker_planck_residual(
    log_density: LogDensity,
    drift: Field,
    diffusion: Diffusion,
    t: Tensor | float,
    x: Tensor,
    *,
    direction: Literal["forward", "backward"] = "forward",
) -> Tensor:
    """(∂_t ρ + ∇·(bρ) ∓ ½ Σ ∂_i∂_j(A_ij ρ))/ρ at each point: − forward, + backward in time.

    0 where dX = b_F dt + A^{1/2} dW, run from t = 0, or its counterpart with b_B, run from t = 1,
    has the density ρ (arXiv 2303.08797, eqs. 2.20–2.23; for a matrix b_F = u + ½(A s + div A)).

    Args:
        log_density: log ρ.
        drift: b_F, or b_B for ``direction="backward"``.
        diffusion: ε with A = 2ε I, or A itself, see `Diffusion`.
        t: times ``(batch,)``, or a scalar, inside (0, 1).
        x: states ``(batch, d)``.
        direction: of the SDE.

    Returns:
        The residuals ``(batch,)``.

    Raises:
        DomainError: another direction.

    Example:
        >>> still = lambda t, x: -0.5 * x.square().sum(1)  # N(0, I), kept by dX = −εX dt + √(2ε) dW
        >>> fokker_planck_residual(still, lambda t, x: -0.5 * x, 0.5, 0.5, torch.ones(1, 2))
        tensor([0.])
    """
    if direction not in ("forward", "backward"):
        raise DomainError(
            "fokker_planck_residual", "direction is forward or backward.", got=repr(direction)
        )
    sign = -1.0 if direction == "forward" else 1.0
    score = _score(log_density)

    def velocity(s: Tensor, y: Any) -> Any:
        return drift(s, y) + sign * _current(diffusion, score(s, y), s, y)

    return continuity_residual(log_density, velocity, t, x)


def _score(log_density: LogDensity) -> Callable[[Tensor, Tensor], Tensor]:
    def score(t: Tensor, x: Tensor) -> Tensor:
        gradient: Tensor = torch.func.grad(lambda y: log_density(t, y).sum())(x)
        return gradient

    return score


def _current(diffusion: Diffusion, score: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """½ (A s + div A)."""
    if isinstance(diffusion, int | float):
        return diffusion * score
    if isinstance(diffusion, Tensor):
        return 0.5 * score @ diffusion.T.to(score)

    def matrix(s: Tensor, y: Tensor) -> Tensor:
        value = diffusion(s, y)
        eye = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
        return 2 * value[:, None, None] * eye if value.dim() == 1 else value

    spread = (matrix(t, x) @ score.unsqueeze(2)).squeeze(2)
    return 0.5 * (spread + row_divergence(matrix, t, x))
