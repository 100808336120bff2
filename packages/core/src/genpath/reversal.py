r"""Time reversal and path log-ratios.

A process with generator L_t and law p_t, seen backwards, is Markov. In the reversed clock
s = 1 − t its generator is

    L̃ f = (1/p)[L*(p f) − f L* p]
    velocity   −u + div a + a ∇log p      a = σσᵀ, (div a)ᵢ = Σⱼ ∂ⱼ aᵢⱼ
    diffusion  the same σ
    jumps      Q̃(x → y) = p(y) Q(y → x) / p(x)

(Anderson 1982 for diffusions; the general form by duality.) `reverse` returns it as an ordinary
generator of s, integrated forward from s = 0, which is t = 1.

`path_log_ratio` is log dP̂/dP along paths that `Euler` made: the ratio of the one-step laws of the
two discretised processes, so that E_P[exp] = 1 holds exactly and the Girsanov formula is its limit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .divergences import exact_divergence, pushforward
from .errors import CapabilityError
from .generators import MarkovGenerator, inflows
from .jumps import AtomJumps, exposure
from .noises import add_tangents
from .parts import Parts
from .spaces import Euclidean, Space
from .states import Field, flat_event, map_state, per_row, row_times

__all__ = ["log_transition", "path_log_ratio", "reverse", "score_of"]

TimeDensity = Callable[[Tensor, Any], Tensor]


def score_of(space: Space, log_density: TimeDensity) -> Field:
    """∇log p_t as a field, from a differentiable log-density ``(t, state) -> (batch,)``.

    Example:
        >>> score = score_of(Euclidean(1), lambda t, x: -0.5 * (x * x).sum(1))
        >>> score(torch.zeros(1), torch.tensor([[2.0]]))
        tensor([[-2.]])
    """

    def score(t: Tensor, x: Any) -> Any:
        if isinstance(x, Tensor):
            gradient = torch.func.grad(lambda y: log_density(t, y).sum())(x)
        else:
            moving = {n: leaf for n, leaf in x.items() if leaf.is_floating_point()}
            gradient = torch.func.grad(lambda y: log_density(t, {**x, **y}).sum())(moving)
        return space.project_tangent(x, gradient)  # type: ignore[attr-defined]

    return score


def reverse(
    gen: MarkovGenerator,
    *,
    log_density: TimeDensity | None = None,
    score: Field | None = None,
) -> MarkovGenerator:
    """The time reversal of ``gen`` in the law p_t, as a generator in s = 1 − t.

    Args:
        gen: the forward generator; velocity, diffusion and jumps.
        log_density: (t, state) → log p_t, ``(batch,)``; needed for jumps.
        score: (t, state) → ∇log p_t, used for the diffusion instead of differentiating.

    Raises:
        CapabilityError: a potential (a weighted law has no reversal of this form), a missing
            density, or a noise that depends on the state on a curved space.

    Example:
        >>> from genpath.noises import ScalarNoise
        >>> noise, has = ScalarNoise(1.0), {"velocity", "diffusion"}
        >>> gen = MarkovGenerator(Euclidean(1), lambda t, x: Parts(-x, noise), has)
        >>> back = reverse(gen, score=lambda t, x: -2 * x)  # stationary in N(0, 1/2): reversible
        >>> back(0.0, torch.tensor([[3.0]])).velocity
        tensor([[-3.]])
    """
    if "potential" in gen.has:
        raise CapabilityError("reverse", "a weighted law is not the law of a Markov process.")
    if "jumps" in gen.has and log_density is None:
        raise CapabilityError(
            "reverse", "jumps are reversed by density ratios.", fix="pass log_density"
        )
    if "diffusion" in gen.has and score is None:
        if log_density is None:
            raise CapabilityError(
                "reverse", "a diffusion needs a score.", fix="pass score or log_density"
            )
        score = score_of(gen.space, log_density)

    def evaluate(s: Tensor, x: Any) -> Parts:
        t = 1 - s
        parts = gen.evaluate(t, x)
        velocity = None
        if parts.velocity is not None:
            velocity = map_state(torch.neg, parts.velocity)
        if parts.diffusion is not None and score is not None:
            velocity = add_tangents(velocity, _drift(gen, t, x, score(t, x)))
        jumps = None
        if parts.jumps is not None and log_density is not None:
            jumps = _reversed_jumps(gen, t, x, log_density)
        return Parts(velocity, parts.diffusion, jumps)

    has = set(gen.has) | ({"velocity"} if "diffusion" in gen.has else set())
    return MarkovGenerator(gen.space, evaluate, frozenset(has))


def _drift(gen: MarkovGenerator, t: Tensor, x: Any, score: Any) -> Any:
    """div a + a·score, from the columns of σ."""
    diffusion = gen.evaluate(t, x).diffusion
    assert diffusion is not None
    space, total = gen.space, None
    for piece in diffusion.columns(space, x):
        count = next(iter(piece.values())).shape[0] if isinstance(piece, dict) else piece.shape[0]
        for k in range(count):
            column = map_state(lambda leaf, k=k: leaf[k], piece)
            weight = space.inner(x, column, score)  # type: ignore[attr-defined]
            term = map_state(lambda leaf, w=weight: per_row(w, leaf) * leaf, column)
            total = add_tangents(total, term)
    return total if diffusion.uniform else add_tangents(total, _divergence_of_a(gen, t, x))


def _divergence_of_a(gen: MarkovGenerator, t: Tensor, x: Tensor) -> Tensor:
    """(div a)ᵢ = Σ_k V_kⁱ div V_k + (V_k·∇)V_kⁱ for the columns V_k of σ, on R^d."""
    if not isinstance(gen.space, Euclidean):
        raise CapabilityError("reverse", "a noise that depends on the state needs a flat space.")

    def columns(y: Tensor) -> Tensor:
        diffusion = gen.evaluate(t, y).diffusion
        assert diffusion is not None
        return torch.cat(diffusion.columns(gen.space, y))

    total = torch.zeros_like(x)
    for k in range(columns(x).shape[0]):
        value, divergence = exact_divergence(gen.space, lambda _, y, k=k: columns(y)[k], t, x)  # type: ignore[misc]
        change = pushforward(lambda y, k=k: columns(y)[k], x, value)[1]  # type: ignore[misc]
        total = total + per_row(divergence, value) * value + change
    return total


def _reversed_jumps(gen: MarkovGenerator, t: Tensor, x: Any, log_density: TimeDensity) -> AtomJumps:
    states, inflow = inflows(gen, t, x)
    count = inflow.shape[0]
    flat = map_state(lambda leaf: leaf.flatten(0, 1), states)
    logs = log_density(t.repeat(count), flat).reshape(inflow.shape)
    return AtomJumps(states, inflow * torch.exp(logs - log_density(t, x)))


def log_transition(gen: MarkovGenerator, t: float, t_next: float, x: Tensor, y: Tensor) -> Tensor:
    """log of the law of one `Euler` step from ``x`` to ``y``: a density on R^d, a mass on letters.

    Points are ``(batch, *event)``; the result is ``(batch,)``.

    Raises:
        CapabilityError: a generator without noise or jumps, or with both, or on another space.

    Example:
        >>> from genpath.noises import ScalarNoise
        >>> parts = Parts(diffusion=ScalarNoise(1.0))
        >>> brown = MarkovGenerator(Euclidean(1), lambda t, x: parts, {"diffusion"})
        >>> log_transition(brown, 0.0, 0.25, torch.zeros(1, 1), torch.zeros(1, 1))  # N(0, 1/4) at 0
        tensor([-0.2258])
    """
    h, parts = t_next - t, gen.evaluate(row_times(t, x), x)
    noisy = gen.has <= {"velocity", "diffusion"} and parts.diffusion is not None
    if noisy and isinstance(gen.space, Euclidean):
        return _normal_transition(gen, parts, h, x, y)
    if gen.has == {"jumps"} and hasattr(parts.jumps, "log_target"):
        exposed = exposure(parts.jumps, t, t_next)  # type: ignore[arg-type]
        jumped = torch.log(-torch.expm1(-exposed)) + parts.jumps.log_target(y)  # type: ignore[union-attr]
        sites = torch.where(y == x, -exposed, jumped)
        return sites.flatten(1).sum(1) if sites.dim() > 1 else sites
    raise CapabilityError(
        "log_transition",
        "one-step laws are known for diffusions on R^d and for jumps on letters.",
        got=f"{sorted(gen.has)} on {gen.space!r}",
    )


def _normal_transition(
    gen: MarkovGenerator, parts: Parts, h: float, x: Tensor, y: Tensor
) -> Tensor:
    assert parts.diffusion is not None
    mean = x if parts.velocity is None else x + h * parts.velocity
    columns = torch.cat([flat_event(c, 2) for c in parts.diffusion.columns(gen.space, x)])
    covariance = h * torch.einsum("kbi,kbj->bij", columns, columns)
    factor = torch.linalg.cholesky(covariance)
    scaled = torch.linalg.solve_triangular(
        factor, flat_event(y - mean, 1).unsqueeze(-1), upper=False
    )
    size = factor.shape[-1]
    log_det: Tensor = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    square: Tensor = scaled.squeeze(-1).square().sum(1)
    result: Tensor = -0.5 * square - log_det - 0.5 * size * math.log(2 * math.pi)
    return result


def path_log_ratio(
    model: MarkovGenerator,
    reference: MarkovGenerator,
    times: Sequence[float],
    states: Sequence[Tensor],
) -> Tensor:
    """log dP̂/dP of recorded `Euler` paths, initial laws left out: ``(batch,)``.

    Args:
        model: the generator of P̂.
        reference: the generator of P, under which the paths were drawn.
        times: the recorded times, every step of the solve.
        states: the states at those times.

    Raises:
        CapabilityError: see `log_transition`. Unequal diffusions give large ratios, as they must.

    Example:
        >>> from genpath.noises import ScalarNoise
        >>> line, noise, both = Euclidean(1), ScalarNoise(1.0), {"velocity", "diffusion"}
        >>> brown = MarkovGenerator(line, lambda t, x: Parts(diffusion=noise), {"diffusion"})
        >>> drift = MarkovGenerator(line, lambda t, x: Parts(1 + 0 * x, noise), both)
        >>> states = [torch.zeros(1, 1), torch.ones(1, 1), torch.full((1, 1), 2.0)]
        >>> path_log_ratio(drift, brown, [0.0, 0.5, 1.0], states)  # Girsanov: x_1 − 1/2
        tensor([1.5000], dtype=torch.float64)
    """
    total = torch.zeros(states[0].shape[0], dtype=torch.float64, device=states[0].device)
    steps = zip(itertools.pairwise(times), itertools.pairwise(states), strict=True)
    for (t, t_next), (x, y) in steps:
        total = total + log_transition(model, t, t_next, x, y)
        total = total - log_transition(reference, t, t_next, x, y)
    return total
