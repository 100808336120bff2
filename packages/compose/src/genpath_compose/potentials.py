r"""Potentials: what turns motion into weights, and the weight that makes any motion right.

A Feynman–Kac law moves by three pieces, ∂_t p̃ = −div(p̃ v) + ½σ² Δp̃ + g p̃. Of a law p with score
s = ∇log p the first two can be carried by the third, and the second by the first:

    transport → weight       −div(p v) = p · (−div v − v·s)
    diffusion → weight       ½σ² Δp = p · ½σ² (div s + |s|²)
    diffusion → velocity     ½σ² Δp = −div(p u),    u = −½σ² s

Hence particles of *any* generator L, weighted at the rate

    g = ∂_t log h − (L* h)/h                                          (on any state space)
      = ∂_t log h + div μ + μ·s* − ½σ² (div s* + |s*|²)               (drift μ, noise σ, on R^d)

follow h_t/Z_t, and their mean weight is Z_t/Z_0. Noise a(x) = σσᵀ that is not a number has, in
place of the last term, −½ [∂_i∂_j a_ij + 2 (div a)·s* + a:(∇s* + s* s*ᵀ)].

Every potential of this package is one of these, with terms that cancel taken out (course, L7.9 to
L7.15 and S.15; Skreta et al. 2025, arXiv 2503.02819).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.divergences import pushforward
from genpath.errors import CapabilityError, ShapeError
from genpath.generators import MarkovGenerator
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.spaces import Euclidean
from genpath.states import Field, batch_size, per_row

from .experts import dot

__all__ = [
    "corrected",
    "diffusion_to_velocity",
    "diffusion_to_weight",
    "feynman_kac",
    "generic_potential",
    "matrix_potential",
    "transport_to_weight",
    "velocity_against_diffusion",
    "with_potential",
]

LogDensity = Callable[[Tensor, Any], Tensor]
"""``(t, state) -> (batch,)``: the logarithm of a density that need not be normalised."""


# -- the three conversions -------------------------------------------------------------------------


def transport_to_weight(velocity: Tensor, divergence: Tensor, score: Tensor) -> Tensor:
    """−div v − v·s: the weight rate of a flow that is not made (course, L7.9).

    Args:
        velocity: v, ``(batch, *event)``.
        divergence: div v, ``(batch,)``.
        score: s of the law that flows, ``(batch, *event)``.

    Returns:
        ``(batch,)``.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])  # N(0, 1) shifted at speed 1: weights x
        >>> transport_to_weight(torch.ones(2, 1), torch.zeros(2), -x) + 0.0
        tensor([0., 2.])
    """
    return -divergence - dot(velocity, score)


def diffusion_to_weight(sigma: Tensor | float, score: Tensor, divergence: Tensor) -> Tensor:
    """½σ² (div s + |s|²): the weight rate of a diffusion that is not made (course, L7.10).

    Args:
        sigma: σ, a number or ``(batch,)``.
        score: s, ``(batch, *event)``.
        divergence: div s, ``(batch,)``.

    Returns:
        ``(batch,)``.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])  # heat leaves the middle of N(0, 1)
        >>> diffusion_to_weight(1.0, -x, -torch.ones(2))
        tensor([-0.5000,  1.5000])
    """
    return 0.5 * sigma**2 * (divergence + dot(score, score))


def diffusion_to_velocity(sigma: Tensor | float, score: Tensor) -> Tensor:
    """−½σ² s: the flow that moves a law as its diffusion would (course, L7.11).

    Args:
        sigma: σ, a number or ``(batch,)``.
        score: s, ``(batch, *event)``.

    Example:
        >>> diffusion_to_velocity(2.0, torch.tensor([[-1.0]]))
        tensor([[2.]])
    """
    return -0.5 * per_row(sigma, score) ** 2 * score


def velocity_against_diffusion(sigma: Tensor | float, score: Tensor) -> Tensor:
    """½σ² s: the drift that, together with noise σ, leaves a law as it is (course, L7.11).

    Example:
        >>> velocity_against_diffusion(2.0, torch.tensor([[-1.0]]))
        tensor([[-2.]])
    """
    return -diffusion_to_velocity(sigma, score)


# -- the weight that makes any motion right --------------------------------------------------------


def generic_potential(
    rate: Tensor,
    drift: Tensor,
    drift_divergence: Tensor,
    score: Tensor,
    sigma: Tensor | float,
    score_divergence: Tensor,
) -> Tensor:
    """g = ∂_t log h + div μ + μ·s* − ½σ² (div s* + |s*|²), of a drift μ with noise σ.

    (Course, L7.15; Skreta et al. 2025, arXiv 2503.02819.) Constants count: E[w] = Z_t/Z_0 needs
    them, normalised weights do not.

    Args:
        rate: ∂_t log h, ``(batch,)``.
        drift: μ, ``(batch, *event)``.
        drift_divergence: div μ, ``(batch,)``.
        score: s* = ∇log h, ``(batch, *event)``.
        sigma: σ, a number or ``(batch,)``.
        score_divergence: div s*, ``(batch,)``.

    Returns:
        ``(batch,)``.

    Example:
        >>> x = torch.tensor([[3.0]])  # Langevin dynamics of h = N(0, 1): nothing to correct
        >>> generic_potential(torch.zeros(1), -x / 2, torch.tensor([-0.5]), -x, 1.0, -torch.ones(1))
        tensor([0.])
    """
    moved = transport_to_weight(drift, drift_divergence, score)
    return rate - moved - diffusion_to_weight(sigma, score, score_divergence)


def matrix_potential(
    rate: Tensor,
    drift: Tensor,
    drift_divergence: Tensor,
    score: Tensor,
    covariance: Tensor,
    score_slopes: Tensor,
    covariance_divergence: Tensor | None = None,
    covariance_curvature: Tensor | None = None,
) -> Tensor:
    """g of a drift μ with noise of covariance a(x) = σσᵀ, on vectors.

        g = ∂_t log h + div μ + μ·s* − ½ [∂_i∂_j a_ij + 2 (div a)·s* + a:(∇s* + s* s*ᵀ)]

    Args:
        rate, drift_divergence: ∂_t log h and div μ, ``(batch,)``.
        drift, score: μ and s*, ``(batch, d)``.
        covariance: a, symmetric, ``(batch, d, d)``.
        score_slopes: ∇s*, ``(batch, d, d)``.
        covariance_divergence: (div a)_i = ∂_j a_ij, ``(batch, d)``; None if a depends on t only.
        covariance_curvature: ∂_i∂_j a_ij, ``(batch,)``; None if it is 0.

    Raises:
        ShapeError: points that are no vectors, or matrices of another size.

    Example:
        >>> one, x = torch.eye(2)[None], torch.tensor([[3.0, 1.0]])
        >>> matrix_potential(torch.zeros(1), -x / 2, -torch.ones(1), -x, one, -one)  # Langevin
        tensor([0.])
    """
    square = (*score.shape, score.shape[-1])
    if score.dim() != 2 or covariance.shape != square or score_slopes.shape != square:
        raise ShapeError(
            "matrix_potential",
            "points are vectors (batch, d), a and ∇s* matrices (batch, d, d).",
            got=f"score {tuple(score.shape)}, covariance {tuple(covariance.shape)}, "
            f"score_slopes {tuple(score_slopes.shape)}",
            fix="flatten the events",
        )
    spread = (covariance * (score_slopes + score[:, :, None] * score[:, None, :])).sum((1, 2))
    if covariance_divergence is not None:
        spread = spread + 2 * dot(covariance_divergence, score)
    if covariance_curvature is not None:
        spread = spread + covariance_curvature
    return rate - transport_to_weight(drift, drift_divergence, score) - 0.5 * spread


def corrected(gen: MarkovGenerator, log_density: LogDensity) -> MarkovGenerator:
    """A generator with the potential that makes its weighted particles follow h_t/Z_t.

        g = ∂_t log h − (L* h)/h

    Nothing is assumed of L: flow, diffusion, jumps, on any space on which
    `MarkovGenerator.adjoint` is known (course, S.15, L8.28). It costs derivatives along every axis,
    or all neighbours of a state, and is what closed forms are compared with. A potential that L
    already has is replaced.

    Args:
        gen: L, any base generator.
        log_density: log h, ``(t, state) -> (batch,)``, differentiable in both.

    Example:
        >>> from genpath import Euclidean, flow
        >>> still = flow(Euclidean(1), lambda t, x: 0 * x)
        >>> tilt = corrected(still, lambda t, x: t * x[:, 0] - x[:, 0] ** 2 / 2)  # h of N(t, 1)
        >>> tilt(0.5, torch.tensor([[3.0]])).potential  # particles that stay gain x
        tensor([3.])
    """

    def evaluate(t: Tensor, state: Any) -> Parts:
        parts = gen.evaluate(t, state)
        rows, times = batch_size(state), t.contiguous()
        rate = pushforward(lambda s: log_density(s, state), times, torch.ones_like(times))[1]

        def frozen(y: Any) -> Tensor:  # also of copies of the whole batch
            return log_density(times.repeat(batch_size(y) // max(rows, 1)), y)

        gain = rate - gen.adjoint(frozen, t, state)
        old = parts.potential
        return replace(parts, potential=gain if old is None else gain + old)

    return MarkovGenerator(gen.space, evaluate, gen.has | {"potential"})


def with_potential(gen: MarkovGenerator, potential: Field) -> MarkovGenerator:
    """L + g: the Feynman–Kac generator, of ∂_t p̃ = (L* + g) p̃ and −∂_t u = (L + g) u.

    (Course, L7.29.) Potentials of two calls add.

    Args:
        gen: L.
        potential: g, ``(t, state) -> (batch,)``.

    Example:
        >>> from genpath import Euclidean, flow
        >>> gen = with_potential(flow(Euclidean(1), lambda t, x: -x), lambda t, x: 2 + 0 * t)
        >>> gen.apply(lambda x: x[:, 0], 0.0, torch.tensor([[3.0]]))  # −x + 2x
        tensor([3.])
    """

    def evaluate(t: Tensor, state: Any) -> Parts:
        parts, gain = gen.evaluate(t, state), potential(t, state)
        return replace(parts, potential=gain if parts.potential is None else gain + parts.potential)

    return MarkovGenerator(gen.space, evaluate, gen.has | {"potential"})


def feynman_kac(
    space: Euclidean,
    drift: Field | None,
    sigma: float | Callable[[Tensor], Tensor],
    potential: Field,
) -> MarkovGenerator:
    """dX = μ dt + σ dW with d log w = g(X) dt: a weighted diffusion on R^d, of bare points.

    E[φ(X_T)] under the weighted law is E[w φ]/E[w], and E[w] = Z_T/Z_0 (course, L7.7).

    Args:
        space: R^d.
        drift: μ, ``(t, x) -> (batch, *event)``; None for no drift.
        sigma: σ ≥ 0, a number or a function of times ``(batch,)``.
        potential: g, ``(t, x) -> (batch,)``.

    Raises:
        CapabilityError: neither drift nor noise.

    Example:
        >>> killed = feynman_kac(Euclidean(1), None, 1.0, lambda t, x: -0.45 * x[:, 0] ** 2)
        >>> sorted(killed.has), killed(0.0, torch.tensor([[2.0]])).potential
        (['diffusion', 'potential'], tensor([-1.8000]))
    """
    silent = not callable(sigma) and sigma == 0
    if drift is None and silent:
        raise CapabilityError(
            "feynman_kac",
            "a weighted diffusion has a drift or noise.",
            got="no drift, σ = 0",
            fix="to leave particles where they are, pass a drift of zeros",
        )
    has = {"potential"} | ({"velocity"} if drift is not None else set())
    has |= set() if silent else {"diffusion"}

    def evaluate(t: Tensor, x: Any) -> Parts:
        noise = None if silent else ScalarNoise(sigma(t) if callable(sigma) else sigma)
        return Parts(None if drift is None else drift(t, x), noise, None, potential(t, x))

    return MarkovGenerator(space, evaluate, frozenset(has))
