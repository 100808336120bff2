r"""Control of error: what wrong fields do to the law, the bounds, and the ε that makes them least.

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

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.models import ODE, SDE, Dynamics, Model
from genpath.predictions import convert
from genpath.samplers import Solver
from genpath.schedules import AffineSchedule
from genpath.states import chunks, concatenate, flat_event

from .dynamics import Eps

__all__ = [
    "ErrorCurves",
    "Sweep",
    "choose_eps",
    "kl_bound",
    "kl_bound_curves",
    "kl_bound_drifts",
    "kl_bound_vs",
    "kl_rate",
    "kl_rate_of_densities",
    "optimal_eps",
    "optimal_eps_schedule",
    "sweep_eps",
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


# -- the best ε ------------------------------------------------------------------------------------


def optimal_eps(velocity_excess: float, score_excess: float) -> float:
    """√(ΔL_b/ΔL_s): where ΔL_b/ε + ε ΔL_s is least, 2 √(ΔL_b ΔL_s).

    Args:
        velocity_excess: ΔL_b ≥ 0.
        score_excess: ΔL_s > 0.

    Raises:
        DomainError: ΔL_b < 0 or ΔL_s ≤ 0; without error of the score any larger ε is better.

    Example:
        >>> optimal_eps(0.08, 0.32)
        0.5
    """
    if velocity_excess < 0 or not score_excess > 0:
        raise DomainError(
            "optimal_eps",
            "ΔL_b ≥ 0 and ΔL_s > 0.",
            got=f"ΔL_b {velocity_excess:g}, ΔL_s {score_excess:g}",
            fix="use a cap on ε where the score has no error",
        )
    return math.sqrt(velocity_excess / score_excess)


def optimal_eps_schedule(velocity: Tensor, score: Tensor, cap: float | None = None) -> Tensor:
    r"""ε*(t) = √(A/C), at most a cap: where A/ε + ε C is least at every time.

    The least value is ∫ 2√(AC) dt. A better velocity (smaller A) asks for less noise.

    Args:
        velocity: A(t) = ½ E|b̂ − b|² ``(n,)``.
        score: C(t) = ½ E|ŝ − s|² ``(n,)``; infinite ε* where it is 0, which a cap makes finite.
        cap: the largest ε allowed; None for no cap.

    Raises:
        DomainError: a negative curve, or a cap ≤ 0.

    Example:
        >>> optimal_eps_schedule(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 1.0]), cap=1.5)
        tensor([1.0000, 1.5000])
    """
    if bool((velocity < 0).any() or (score < 0).any()) or (cap is not None and not cap > 0):
        raise DomainError("optimal_eps_schedule", "curves are not negative, and a cap is positive.")
    best = torch.where(velocity > 0, torch.sqrt(velocity / score), 0.0)
    return best if cap is None else best.clamp_max(cap)


@dataclass(frozen=True)
class ErrorCurves:
    """Excess losses of a model's velocity and score over time, and the ε that they ask for.

    Args:
        edges: of the time bins ``(bins + 1,)``.
        velocity: A = ½ E|b̂ − b|² in each bin ``(bins,)``.
        velocity_error: its standard error.
        score: C = ½ E|ŝ − s|² in each bin.
        score_error: its standard error.
        correlation: covariance of the two estimates ``(bins,)``.
    """

    edges: Tensor
    velocity: Tensor
    velocity_error: Tensor
    score: Tensor
    score_error: Tensor
    correlation: Tensor

    @property
    def velocity_excess(self) -> float:
        """ΔL_b = ∫ A dt over the bins' times."""
        return float((self.velocity * self.edges.diff()).sum())

    @property
    def score_excess(self) -> float:
        """ΔL_s = ∫ C dt over the bins' times."""
        return float((self.score * self.edges.diff()).sum())

    @property
    def eps(self) -> float:
        """The best constant ε, √(ΔL_b/ΔL_s)."""
        return optimal_eps(self.velocity_excess, self.score_excess)

    @property
    def eps_error(self) -> float:
        """Its standard error, by the delta method: ½ ε* times that of log(ΔL_b/ΔL_s)."""
        size, b, s = self.edges.diff().square(), self.velocity_excess, self.score_excess
        square = (
            (size * self.velocity_error**2).sum() / b**2
            + (size * self.score_error**2).sum() / s**2
            - 2 * (size * self.correlation).sum() / (b * s)
        )
        return 0.5 * self.eps * math.sqrt(max(float(square), 0.0))

    def bound(self, eps: float | None = None) -> float:
        """ΔL_b/ε + ε ΔL_s, at the best ε if none is given."""
        level = self.eps if eps is None else eps
        return kl_bound(self.velocity_excess, self.score_excess, level)

    def schedule(self, cap: float | None = None) -> Callable[[Tensor], Tensor]:
        """ε*(t) = √(A/C), constant in each bin and outside them that of the nearest bin."""
        best, inner = optimal_eps_schedule(self.velocity, self.score, cap), self.edges[1:-1]

        def eps(t: Tensor) -> Tensor:
            return best.to(t)[torch.bucketize(t, inner.to(t))]

        return eps


@torch.no_grad()
def choose_eps(
    model: Model,
    reference: Any,
    x0: Tensor,
    x1: Tensor,
    rng: torch.Generator,
    *,
    bins: int = 20,
    times: tuple[float, float] = (0.0, 1.0),
    chunk: int = 4096,
) -> ErrorCurves:
    r"""ε from held-out draws: how far a model's velocity and score are from a reference's.

    ε* = √(ΔL_b/ΔL_s) needs losses above their least values, which losses alone do not tell; the
    distance to a reference does. The i-th pair gets a time of the bin i mod ``bins``, uniform in
    it, and x_t is drawn by the model's path.

    Args:
        model: whose prediction leads to velocity and score.
        reference: another model (a better one) on the same path, or an oracle with methods
            ``velocity(t, x)`` and ``score(t, x)``.
        x0, x1: held-out pairs in the space of states ``(n, *event)``, in random order.
        rng: for times and latents.
        bins: of equal length.
        times: the first and the last; keep away from an end where the score is infinite.
        chunk: pairs evaluated together.

    Raises:
        DomainError: times out of order or outside [0, 1], or fewer than two pairs per bin.
        CapabilityError: the reference gives no velocity and score.

    Example:
        >>> from genpath import Euclidean, Gaussian
        >>> from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
        >>> from genpath_interpolants.presets import linear
        >>> path, base = linear(Euclidean(1), "sqrt", base="gaussian"), Gaussian((1,))
        >>> data = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1))
        >>> exact, rng = MixtureMarginal(path, data), torch.Generator().manual_seed(0)
        >>> model = Model(lambda t, x: exact.velocity(t, x) + 0.1, path, base)
        >>> found = choose_eps(model, exact, base.sample(400, rng), data.sample(400, rng), rng)
        >>> round(found.velocity_excess, 4)  # ½ · 0.1²
        0.005
    """
    count, (low, high) = len(x1), times
    if not 0 <= low < high <= 1 or bins < 1 or count < 2 * bins:
        raise DomainError(
            "choose_eps",
            "times are ordered in [0, 1], and every bin has two pairs or more.",
            got=f"times {low:g} to {high:g}, {bins} bins, {count} pairs",
        )
    index = torch.arange(count, device=x1.device) % bins
    width = (high - low) / bins
    shift = torch.rand(count, generator=rng, device=x1.device, dtype=x1.dtype)
    given = {"t": low + width * (index + shift), "x0": x0, "x1": x1}
    squares = concatenate(
        [_squares(model, reference, piece, rng) for piece in chunks(given, chunk)]
    )
    sizes = torch.bincount(index, minlength=bins).to(x1.dtype)

    def means(values: Tensor) -> Tensor:
        return torch.zeros_like(sizes).index_add(0, index, values) / sizes

    velocity, score = means(squares["velocity"]), means(squares["score"])
    b, s = squares["velocity"] - velocity[index], squares["score"] - score[index]
    spread = [means(product) / (sizes - 1) for product in (b * b, s * s, b * s)]
    edges = torch.linspace(low, high, bins + 1, dtype=x1.dtype, device=x1.device)
    return ErrorCurves(edges, velocity, spread[0].sqrt(), score, spread[1].sqrt(), spread[2])


def _squares(
    model: Model, reference: Any, given: Mapping[str, Tensor], rng: torch.Generator
) -> dict[str, Tensor]:
    """½|b̂ − b|² and ½|ŝ − s|² at a draw of each pair."""
    draw = model.path.draw(given["t"], given["x0"], given["x1"], rng)
    t, x = draw.t, draw.state
    ours, theirs = _pair(model, t, x), _pair(reference, t, x)
    names = ("velocity", "score")
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    return {name: 0.5 * _inner(gap, gap) for name, gap in zip(names, gaps, strict=True)}


def _pair(source: Any, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Velocity and score of a model or an oracle."""
    if isinstance(source, Model):
        rules, given = source.path.rules, {source.predict: source.field(t, x)}
        return convert(rules, given, "velocity", t, x), convert(rules, given, "score", t, x)
    if not (callable(getattr(source, "velocity", None)) and hasattr(source, "score")):
        raise CapabilityError(
            "choose_eps",
            "a reference is a model, or has methods velocity(t, x) and score(t, x).",
            got=type(source).__name__,
        )
    return source.velocity(t, x), source.score(t, x)


# -- a sweep ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """A table of what was measured at each ε.

    Args:
        rows: one per ε, each with ``eps`` and the same measured names.

    Example:
        >>> print(Sweep(({"eps": 0.0, "kl": 0.029}, {"eps": 0.25, "kl": 0.001})).text())
         eps     kl
           0  0.029
        0.25  0.001
    """

    rows: tuple[Mapping[str, float], ...]

    def column(self, name: str) -> Tensor:
        """One measured name at all ε ``(n,)``."""
        return torch.tensor([row[name] for row in self.rows], dtype=torch.float64)

    def best(self, name: str) -> float:
        """The ε at which a measured name is least."""
        return self.rows[int(self.column(name).argmin())]["eps"]

    def text(self, digits: int = 4) -> str:
        """The table, its numbers to so many significant digits."""
        names = list(self.rows[0]) if self.rows else []
        lines = [names, *([f"{row[name]:.{digits}g}" for name in names] for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
        padded = (
            "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines
        )
        return "\n".join(padded)


def sweep_eps(
    model: Model,
    eps: Sequence[float],
    measure: Callable[[Any], Mapping[str, float]],
    solver: Solver | Callable[[float], Solver],
    count: int,
    seed: int = 0,
    *,
    dynamics: Callable[[float], Dynamics] = SDE,
) -> Sweep:
    """Draws of one model at several ε, measured: small ε may concentrate too much, large spread.

    Every ε starts from the same base draws and the same seed. ε = 0 runs the flow.

    Args:
        model: whose prediction leads to velocity and score.
        eps: the values.
        measure: samples in the data's units → name → number.
        solver: a sampler with its grid, or a function of ε that gives one (larger ε needs smaller
            steps).
        count: samples at each ε.
        seed: of the generator, on the CPU.
        dynamics: ε > 0 → dynamics.

    Example:
        >>> from genpath import Euclidean, Euler, Gaussian, TimeGrid
        >>> from genpath_interpolants.paths import LinearPath
        >>> path, base = LinearPath(Euclidean(1), base="gaussian"), Gaussian((1,))
        >>> model = Model(lambda t, x: -x * (1 - t)[:, None], path, base)
        >>> spread = lambda x: {"variance": float(x.var())}
        >>> found = sweep_eps(model, [0.0, 0.5], spread, Solver(Euler(), TimeGrid.uniform(10)), 50)
        >>> list(found.rows[1]), len(found.rows)
        (['eps', 'variance'], 2)
    """
    rows = []
    for level in eps:
        chosen = solver if isinstance(solver, Solver) else solver(level)
        how = dynamics(level) if level else ODE()
        rng = torch.Generator().manual_seed(seed)
        samples = model.sample(count, how, chosen.sampler, chosen.grid, rng)
        rows.append({"eps": float(level), **measure(samples)})
    return Sweep(tuple(rows))
