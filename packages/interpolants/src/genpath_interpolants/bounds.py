r"""What wrong fields do to the law: rates of KL and bounds of it.

p solves ∂_t p + div(f p) = ε Δp, a model p̂ the same with f̂ and ε̂, from the same start. With
a = ∇log p̂ − ∇log p and s = ∇log p,

    d/dt KL(p ‖ p̂) = ∫ ∂_t p log(p/p̂) − ∫ (p/p̂) ∂_t p̂
                   = E[a·(f̂ − f)] − ε̂ E|a|² − (ε̂ − ε) E[a·s]
                   = E[a·(f̂ − f)] − ε E|a|² − (ε̂ − ε) E[a·∇log p̂]

For ε = ε̂ > 0 the square is completed; the drifts b + ε s of a model with errors δb and δs give

    KL(p_1 ‖ p̂_1) ≤ ∫ E|δb + ε δs|²/(4ε) dt ≤ ΔL_b/ε + ε ΔL_s

with ΔL = ½ ∫ E|δ|² dt, the excess of a loss that carries ½, as those of this library do (Albergo,
Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, Lemmas 21 and 22, Theorem 23; the last line is
printed in places with half of this, which is no bound). For ε = 0 there is no bound of this kind: a
velocity error as small as one likes may leave KL as large as one likes, if it oscillates.
"""

from __future__ import annotations

from typing import Any, overload

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError
from genpath.schedules import AffineSchedule
from genpath.states import flat_event

from .dynamics import Eps

__all__ = [
    "kl_bound",
    "kl_bound_curves",
    "kl_bound_drifts",
    "kl_bound_vs",
    "kl_rate",
    "kl_rate_of_densities",
]

# -- rates -----------------------------------------------------------------------------------------


def kl_rate(
    gap: Tensor,
    difference: Tensor,
    eps: float = 0.0,
    eps_model: float | None = None,
    *,
    score: Tensor | None = None,
    model_score: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    r"""d/dt KL(p_t ‖ p̂_t) at one time, from points of p_t.

        E[a·(f̂ − f)] − ε E|a|²                                     for ε̂ = ε (ε = 0 for the flows)
        E[a·(f̂ − f)] − ε̂ E|a|² − (ε̂ − ε) E[a·∇log p]            given ``score``
        E[a·(f̂ − f)] − ε E|a|² − (ε̂ − ε) E[a·∇log p̂]            given ``model_score``

    The last term is of the size of the score, not of the errors: it does not vanish where f̂ = f.

    Args:
        gap: a = ∇log p̂ − ∇log p at the points ``(n, *event)``.
        difference: f̂ − f there, the drifts of the two processes.
        eps: ε of p.
        eps_model: ε̂ of p̂; that of p if None.
        score: ∇log p there, if the two differ.
        model_score: or ∇log p̂ there.
        weights: of a quadrature of p_t ``(n,)``; equal ones, of draws, if None.

    Raises:
        ShapeError: the arrays do not pair up.
        DomainError: ε̂ ≠ ε, and not exactly one of the scores is given.

    Example:
        >>> a, difference = torch.tensor([[1.0], [-1.0]]), torch.tensor([[2.0], [0.0]])
        >>> kl_rate(a, difference, eps=0.5)  # 1 − ½
        tensor(0.5000)
    """
    hat = eps if eps_model is None else eps_model
    given = [s for s in (score, model_score) if s is not None]
    if any(array.shape != gap.shape for array in (difference, *given)):
        raise ShapeError(
            "kl_rate",
            "gap, difference and score are arrays at the same points.",
            got=", ".join(str(tuple(array.shape)) for array in (gap, difference, *given)),
        )
    if hat != eps and len(given) != 1:
        raise DomainError(
            "kl_rate",
            "two different ε need one of score and model_score.",
            got=f"eps {eps:g}, eps_model {hat:g}, {len(given)} scores",
        )
    rate = _inner(gap, difference) - (eps if score is None else hat) * _inner(gap, gap)
    if hat != eps:
        rate = rate - (hat - eps) * _inner(gap, given[0])
    return rate.mean() if weights is None else (weights * rate).sum()


def kl_rate_of_densities(
    p: Tensor, p_rate: Tensor, model: Tensor, model_rate: Tensor, volume: Tensor | float
) -> Tensor:
    """∫ ∂_t p log(p/p̂) − ∫ (p/p̂) ∂_t p̂: the rate of KL(p ‖ p̂) on a grid.

    Cells where p = 0 count for ∂_t p̂ alone, as they should.

    Args:
        p, p_rate: density and its time derivative at the cells ``(n,)``.
        model, model_rate: the same of p̂, positive where p is.
        volume: of each cell, a number or ``(n,)``.

    Example:
        >>> p, q, grow = torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5]), torch.tensor([1., -1.])
        >>> kl_rate_of_densities(p, grow, q, -grow, 1.0)
        tensor(0.)
    """
    log_ratio = torch.where(p > 0, torch.log(p / model), 0.0)
    return (volume * (p_rate * log_ratio - p / model * model_rate)).sum()


def _inner(u: Tensor, v: Tensor) -> Tensor:
    return (flat_event(u) * flat_event(v)).sum(1)


# -- bounds ----------------------------------------------------------------------------------------


@overload
def kl_bound(
    velocity_excess: float, score_excess: float, eps: float, cross: float | None = None
) -> float: ...
@overload
def kl_bound(
    velocity_excess: Tensor, score_excess: Tensor, eps: Any, cross: Tensor | None = None
) -> Tensor: ...
def kl_bound(velocity_excess: Any, score_excess: Any, eps: Any, cross: Any = None) -> Any:
    r"""KL(p_1 ‖ p̂_1) ≤ ΔL_b/ε + ε ΔL_s, for dX = (b + ε s) dt + √(2ε) dW.

    Normalisation: ΔL_b = ½ ∫ E|b̂ − b|² dt and ΔL_s = ½ ∫ E|ŝ − s|² dt, which is how far losses
    with a ½ are above their least values. In squared errors this is ‖δb‖²/(2ε) + ε‖δs‖²/2.

    With the correlation of the errors the bound is tighter, and is least at ε = ‖δb‖/‖δs‖:

        ‖δb + ε δs‖²/(4ε) = ½ (ΔL_b/ε + ⟨δb, δs⟩ + ε ΔL_s)

    Half of the first bound, which is printed in places, holds only where ⟨δb, δs⟩ ≤ 0.

    Args:
        velocity_excess: ΔL_b ≥ 0.
        score_excess: ΔL_s ≥ 0.
        eps: ε > 0.
        cross: ⟨δb, δs⟩ = ∫ E[δb·δs] dt, without a ½; None for the bound without it.

    Raises:
        DomainError: ε ≤ 0; the flow (ε = 0) has no such bound.

    Example:
        >>> round(kl_bound(0.0831, 0.3325, eps=0.5), 3)
        0.332
        >>> kl_bound(0.5, 0.5, eps=1.0, cross=-1.0)  # the errors cancel in b + ε s
        0.0
    """
    _positive(eps, "kl_bound")
    if cross is None:
        return velocity_excess / eps + eps * score_excess
    return 0.5 * (velocity_excess / eps + cross + eps * score_excess)


def kl_bound_vs(
    interpolant_excess: float, score_excess: float, eps: float, schedule: AffineSchedule
) -> float:
    r"""KL(p_1 ‖ p̂_1) ≤ ΔL_v/ε + sup_t (γγ̇ − ε)²/ε · ΔL_s, for a model of v and s.

    b = v − γγ̇ s, so that the drift is v + (ε − γγ̇) s. Losses carry ½, as in `kl_bound`; the
    supremum is over 4097 equal times, ends included.

    Args:
        interpolant_excess: ΔL_v = ½ ∫ E|v̂ − v|² dt.
        score_excess: ΔL_s.
        eps: ε > 0.
        schedule: whose γγ̇.

    Raises:
        DomainError: ε ≤ 0.

    Example:
        >>> from genpath import Euclidean
        >>> from genpath_interpolants.paths import LinearPath
        >>> plain = LinearPath(Euclidean(1)).schedule  # γ = 0: v is b
        >>> kl_bound_vs(0.1, 0.2, 0.5, plain) == kl_bound(0.1, 0.2, 0.5)
        True
    """
    _positive(eps, "kl_bound_vs")
    t = torch.linspace(0, 1, 4097, dtype=torch.float64)
    largest = float((schedule.gamma_gamma_rate(t) - eps).square().max())
    return interpolant_excess / eps + largest / eps * score_excess


def kl_bound_drifts(squares: Tensor, eps: Eps, times: Tensor) -> Tensor:
    r"""∫ E|f̂ − f|²/(4ε(t)) dt by the trapezoid rule: the bound from the drifts themselves.

    Args:
        squares: E|f̂ − f|² at the times ``(n,)``.
        eps: ε > 0, a number or a function of time.
        times: increasing ``(n,)``.

    Raises:
        DomainError: ε ≤ 0.

    Example:
        >>> times = torch.linspace(0, 1, 11)
        >>> kl_bound_drifts(torch.ones(11), 0.5, times)
        tensor(0.5000)
    """
    level = eps(times) if callable(eps) else torch.full_like(times, float(eps))
    _positive(level, "kl_bound_drifts")
    return torch.trapezoid(squares / (4 * level), times)


def kl_bound_curves(velocity: Tensor, score: Tensor, eps: Tensor, times: Tensor) -> Tensor:
    r"""∫ (A/ε + ε C) dt by the trapezoid rule, for ε(t): `kl_bound` time by time.

    Args:
        velocity: A(t) = ½ E|b̂ − b|² at the times ``(n,)``.
        score: C(t) = ½ E|ŝ − s|².
        eps: ε(t) > 0 ``(n,)``.
        times: increasing ``(n,)``.

    Raises:
        DomainError: ε ≤ 0.

    Example:
        >>> t = torch.linspace(0, 1, 5)
        >>> kl_bound_curves(torch.ones(5), torch.ones(5), torch.ones(5), t)
        tensor(2.)
    """
    _positive(eps, "kl_bound_curves")
    return torch.trapezoid(kl_bound(velocity, score, eps), times)


def _positive(eps: Any, where: str) -> None:
    least = float(eps.min()) if isinstance(eps, Tensor) and eps.numel() else eps
    if not isinstance(least, Tensor) and not least > 0:
        raise DomainError(
            where,
            "the bound needs ε > 0.",
            got=f"ε = {least:g}",
            fix="KL of the flow is not bounded by the error of its velocity",
        )
