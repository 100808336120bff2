r"""Control of error: the ε that makes the bound of KL least, from held-out draws or by trial.

    KL(p_1 ‖ p̂_1) ≤ ΔL_b/ε + ε ΔL_s,      least at ε* = √(ΔL_b/ΔL_s)        (`kl_bound`)

with excess losses ΔL = ½ ∫ E|δ|² dt of velocity and score; time by time ε*(t) = √(A/C) (Albergo,
Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, Theorem 23). The bound is not the error: `sweep_eps`
measures what is wanted at each ε.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.models import ODE, SDE, Dynamics, Model
from genpath.predictions import convert
from genpath.samplers import Solver
from genpath.states import chunks, concatenate, flat_event

from .bounds import kl_bound

__all__ = [
    "ErrorCurves",
    "Sweep",
    "choose_eps",
    "optimal_eps",
    "optimal_eps_schedule",
    "sweep_eps",
]

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
        covariance: of the two estimates ``(bins,)``.
    """

    edges: Tensor
    velocity: Tensor
    velocity_error: Tensor
    score: Tensor
    score_error: Tensor
    covariance: Tensor

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
            - 2 * (size * self.covariance).sum() / (b * s)
        )
        return 0.5 * self.eps * math.sqrt(max(float(square), 0.0))

    def bound(self, eps: float | Callable[[Tensor], Tensor] | None = None) -> float:
        """ΔL_b/ε + ε ΔL_s, at the best ε if none is given; ∫ (A/ε + ε C) dt for a function ε(t)."""
        if callable(eps):
            levels = eps(0.5 * (self.edges[1:] + self.edges[:-1]))
            terms = self.velocity / levels + levels * self.score
            return float((terms * self.edges.diff()).sum())
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
    return {
        name: 0.5 * flat_event(gap).square().sum(1) for name, gap in zip(names, gaps, strict=True)
    }


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
