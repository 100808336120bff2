r"""Claims of superposition: OR is the mixture, AND keeps log-densities together.

Oracles: the mixture of normal laws in closed form, with torch's distributions; automatic
differentiation of log-densities; the generator applied to them, (∂_t + L) log q_i.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal as TorchNormal

from genpath.samplers import Euler, RungeKutta, integrate
from genpath.tableaus import RK4
from genpath.testing import Claim, Control, Evidence, Trial, at_most, but, dial, equal, near
from genpath_interpolants.schedules import (
    linear_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

from ..experts import DiffusionExpert, Expert
from ..mixtures import blend
from ..superposition import Agree, Share, Superposed
from ._scenes import DOUBLE, normal_expert

__all__ = ["both", "tracked"]

SCHEDULES = (trigonometric_schedule, linear_schedule, variance_preserving_schedule)
MEANS, SPREADS, WEIGHTS = (1.0, -0.8, 0.2), (0.6, 0.9, 1.3), (0.5, 0.3, 0.2)


def experts_of(size: int) -> list[Expert]:
    """Normal data under three schedules."""
    rows = zip(MEANS, SPREADS, SCHEDULES, strict=True)
    return [normal_expert(m, s, make(), "abc"[i], size) for i, (m, s, make) in enumerate(rows)]


def points_of(size: int, trial: Trial, count: int = 24) -> tuple[Tensor, Tensor]:
    """Times inside (0, 1), and normal points ``(count, size)``."""
    x = torch.randn(count, size, generator=trial.rng("points"), dtype=DOUBLE)
    return torch.linspace(0.15, 0.9, count, dtype=DOUBLE), x


def log_densities(t: Tensor, x: Tensor) -> Tensor:
    """log q_i in closed form: ``(batch, 3)``."""
    columns = []
    for m, s, make in zip(MEANS, SPREADS, SCHEDULES, strict=True):
        schedule = make()
        spread = (schedule.alpha(t) ** 2 + (s * schedule.beta(t)) ** 2).sqrt()[:, None]
        law = TorchNormal(m * schedule.beta(t)[:, None], spread)
        columns.append(law.log_prob(x).sum(1))
    return torch.stack(columns, 1)


def rate_of(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """The derivative in time of a function of times."""
    found: Tensor = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
    return found


# -- tracked densities -------------------------------------------------------------------------


def _state(one: Superposed, t: Tensor, x: Tensor) -> dict[str, Tensor]:
    return (
        {"x": x, "log_density": log_densities(t, x)[:, : len(one.experts)]}
        if one.tracked
        else {"x": x}
    )


def _along(one: Superposed, t: Tensor, x: Tensor) -> Tensor:
    """(∂_t + L) log q_i, L being the generator of X alone: ``(batch, k)``."""
    gen, columns = one.generator(), []
    state = _state(one, t, x)
    for i in range(len(one.experts)):

        def log_q(points: Mapping[str, Tensor], i: int = i) -> Tensor:
            y = points["x"]
            return log_densities(t.repeat(len(y) // len(t)), y)[:, i]

        rate = rate_of(lambda s, i=i: log_densities(s, x)[:, i], t)  # type: ignore[misc]
        columns.append(rate + gen.apply(log_q, t, state))
    return torch.stack(columns, 1)


def tracked() -> list[Claim[Any]]:
    """Of OR with densities that are carried along."""
    return [_or(), _estimator()]


def _or() -> Claim[Superposed]:
    def check(one: Superposed, trial: Trial) -> Iterator[Evidence]:
        t, x = points_of(2, trial)
        log_w = torch.tensor(WEIGHTS, dtype=DOUBLE).log()
        parts, known = one.generator()(t, _state(one, t, x)), _known(one)
        assert parts.velocity is not None
        gain = parts.velocity["log_density"]
        yield equal("drift of ℓ_i", gain, _along(known, t, x), operations=8192)

        def log_p(state: Mapping[str, Tensor]) -> Tensor:
            y = state["x"]
            return (log_w + log_densities(t.repeat(len(y) // len(t)), y)).logsumexp(1)

        slope = rate_of(lambda s: (log_w + log_densities(s, x)).logsumexp(1), t)
        found = known.generator().adjoint(log_p, t, {"x": x})
        yield equal("∂_t log Σ w_i q_i, σ = 0.8", found, slope, operations=8192)
        drift = known.generator()(t, {"x": x}).velocity
        assert drift is not None
        yield equal("the same drift of X", parts.velocity["x"], drift["x"], operations=512)
        yield from _solved(one, trial)

    return Claim(
        "or",
        "With tracked log-densities particles move as in the mixture: the drift of ℓ_i is "
        "(∂_t + L) log q_i, and along a solve ℓ_i stays log q_i(X).",
        lambda: Superposed(experts_of(2), Share(WEIGHTS), sigma=0.8, track="ito"),
        check,
        (
            Control("temperature 1.5", lambda one: replace(one, rule=Share(WEIGHTS, 1.5))),
            Control("without ½σ² div s_i", lambda one: _faulty(_Straight, one)),
            dial("w_1 × (1 + δ)", _heavier, 0.5),
        ),
        formula=r"d\ell_i=\big[-\nabla\!\cdot v_i+(b-v_i)\cdot s_i"
        r"+\tfrac{\sigma^2}{2}\nabla\!\cdot s_i\big]dt+\sigma s_i\cdot dW",
    )


def _known(one: Superposed) -> Superposed:
    """The same with log-densities that are known, and no fault of the tracked ones."""
    return Superposed(one.experts, one.rule, one.sigma)


def _heavier(one: Superposed, size: float) -> Superposed:
    return replace(one, rule=Share(((1 + size) * WEIGHTS[0], *WEIGHTS[1:])))


class _Straight(Superposed):
    """Log-densities that miss the second derivative of Itô's formula."""

    def _scene(self, t: Tensor, state: Any) -> Any:
        right, names = super()._scene(t, state), ("score_divergence",)
        bend = [e.fields(names, t, state["x"])["score_divergence"] for e in self.experts]
        half = 0.5 * right.sigma[:, None] ** 2
        return but(right, rates=right.rates - half * torch.stack(bend, 1))


def _faulty(kind: type[Superposed], one: Superposed) -> Superposed:
    return kind(one.experts, one.rule, one.sigma, one.track)


def _solved(one: Superposed, trial: Trial) -> Iterator[Evidence]:
    """ℓ against log q at the end: by RK4 without noise, by Euler with less and less error."""
    ends = torch.full((200,), 0.9, dtype=DOUBLE)
    x = torch.randn(200, 2, generator=trial.rng("start"), dtype=DOUBLE)
    calm = replace(one, sigma=0.0)
    grid = [0.1 + 0.8 * k / 12 for k in range(13)]
    state, rng = _state(calm, 0 * ends + 0.1, x), trial.rng("noise")
    run = integrate(RungeKutta(RK4), calm.generator(), state, grid, rng).state
    found = run["log_density"]
    because = "RK4 with 12 steps: 0.067⁴ times derivatives below 50"
    yield near("ℓ_i after an ODE", found, log_densities(ends, run["x"]), 1e-3, because)
    errors = []
    for steps in (6, 48):
        grid = [0.1 + 0.8 * k / steps for k in range(steps + 1)]
        run = integrate(Euler(), one.generator(), state, grid, rng).state
        gap = run["log_density"] - log_densities(ends, run["x"])
        errors.append(float(gap.square().mean().sqrt()))
    words = "strong order ½: 8 times the steps, 0.35 of the error; 0.6 is asked"
    yield at_most("ℓ_i after an SDE, 48 steps against 6", errors[1] / errors[0], 0.6, words)


def _estimator() -> Claim[Superposed]:
    """Experts of one noising process f = −x, σ = √2: the laws of Ornstein–Uhlenbeck, reversed."""

    def expert(mean: float, name: str) -> DiffusionExpert:
        def score(t: Tensor, x: Tensor) -> Tensor:
            decay = torch.exp(-(1 - t))[:, None]
            return -(x - mean * decay) / (1 - 0.75 * decay**2)  # data N(mean, ¼)

        def log_q(t: Tensor, x: Tensor) -> Tensor:
            decay = torch.exp(-(1 - t))[:, None]
            law = TorchNormal(mean * decay, (1 - 0.75 * decay**2).sqrt())
            found: Tensor = law.log_prob(x).sum(1)
            return found

        def root(t: Tensor) -> Tensor:
            return torch.full_like(t, math.sqrt(2))

        return DiffusionExpert(score, lambda t, x: -x, root, (3,), name, log_density=log_q)

    def make() -> Superposed:
        pair = [expert(1.0, "a"), expert(-0.5, "b")]
        return Superposed(
            pair,
            Share(),
            sigma=math.sqrt(2),
            track="ito",
            drift_divergence=lambda t, x: torch.full_like(t, -3.0),
        )

    def check(one: Superposed, trial: Trial) -> Iterator[Evidence]:
        t, x = points_of(3, trial)
        logs = torch.stack([e.log_prob(t, x) for e in one.experts], 1)
        full = replace(one, drift_divergence=None)
        for rule in (Share(), Agree(0.5)):
            pair = [
                replace(each, rule=rule).generator()(t, {"x": x, "log_density": logs}).velocity
                for each in (one, full)
            ]
            for name in ("x", "log_density"):
                found, reference = (v[name] for v in pair if v is not None)
                what = f"{type(rule).__name__}: drift of {name}"
                yield equal(what, found, reference, operations=1 << 16)

    def wrong(one: Superposed, size: float) -> Superposed:
        return replace(one, drift_divergence=lambda t, x: torch.full_like(t, -3.0 * (1 + size)))

    return Claim(
        "estimator",
        "For experts of one noising process whose σ is that of the sampler, log-densities are "
        "tracked with div f alone.",
        make,
        check,
        (
            dial("div f × (1 + δ)", wrong, 0.5),
            Control("another σ than that of the process", lambda one: replace(one, sigma=1.0)),
        ),
        formula=r"d\ell_i=\big[\nabla\!\cdot f+f\cdot s_i-\tfrac{\sigma^2}{2}|s_i|^2\big]dt"
        r"+s_i\cdot dX",
    )


# -- AND ---------------------------------------------------------------------------------------


def both() -> list[Claim[Any]]:
    """Of AND."""
    return [_agreeing(), _together()]


def _agreeing() -> Claim[Superposed]:
    """Three experts in four dimensions, with noise and without."""

    def check(one: Superposed, trial: Trial) -> Iterator[Evidence]:
        t, x = points_of(4, trial)
        logs = log_densities(t, x)
        gap = logs[:, 1:] - logs[:, :1]
        for restore, sigma in ((0.0, 0.7), (1.5, 0.7), (0.0, 0.0)):
            case = replace(one, rule=Agree(restore, 1e-14), sigma=sigma)
            moved = _along(case, t, x)
            found = moved[:, 1:] - moved[:, :1]
            what = f"r = {restore}, σ = {sigma}"
            bound = "the ridge 1e-14 over the square of the smallest singular value, above 1e-3"
            yield near(f"{what}: drift of ℓ_i − ℓ_1", found, -restore * gap, 1e-7, bound)
            carried = replace(case, track="ito")
            parts = carried.generator()(t, _state(carried, t, x))
            assert parts.velocity is not None
            tracked = parts.velocity["log_density"]
            yield equal(f"{what}: (∂_t + L) log q_i", tracked, moved, operations=1 << 16)
            if parts.diffusion is None:
                continue
            columns = parts.diffusion.columns(carried.space, _state(carried, t, x))[0]
            across = columns["log_density"][..., 1:] - columns["log_density"][..., :1]
            yield equal(f"{what}: noise", across, 0 * across, operations=4096)
            size = columns["x"].square().sum((0, 2))
            yield equal(f"{what}: two of four directions", size, 0 * size + 2 * 0.49)

    return Claim(
        "and",
        "Under AND the log-densities of all experts have the same noise, and drifts that differ "
        "by −r (ℓ_i − ℓ_1).",
        lambda: Superposed(experts_of(4), Agree(), sigma=0.7),
        check,
        (
            Control("noise in all directions", lambda one: _faulty(_Loud, one)),
            Control("without tr(P∇s) in Itô's formula", lambda one: _faulty(_Careless, one)),
            Control("the drift of OR", lambda one: _faulty(_AsOr, one)),
        ),
        formula=r"(s_i-s_1)^\top N=0,\qquad(\partial_t+L)(\log q_i-\log q_1)=-r(\ell_i-\ell_1)",
    )


class _Loud(Superposed):
    """Noise that tells experts apart."""

    def _noise(self, scene: Any) -> Any:
        return super()._noise(but(scene, frame=None))


class _Careless(Superposed):
    """Log-densities with the second derivatives of noise in all directions."""

    def _scene(self, t: Tensor, state: Any) -> Any:
        right = super()._scene(t, state)
        return but(right, _inside=lambda expert, frame: torch.zeros_like(t))


class _AsOr(Superposed):
    """A drift that is shared by densities, not corrected."""

    def _scene(self, t: Tensor, state: Any) -> Any:
        right = super()._scene(t, state)
        return but(right, drift=blend(right.logs.softmax(1), right.own))


def _together() -> Claim[Superposed]:
    def gaps(one: Superposed, steps: int, sampler: Any, trial: Trial) -> tuple[Tensor, Tensor]:
        """log q_i − log q_1 of the particles at t = 0.3 and 0.9, in closed form."""
        grid = [0.3 + 0.6 * k / steps for k in range(steps + 1)]
        x = torch.randn(200, 4, generator=trial.rng("start"), dtype=DOUBLE)
        run = integrate(sampler, one.generator(), {"x": x}, grid, trial.rng("run")).state["x"]
        found: Sequence[Tensor] = [
            log_densities(torch.full((200,), t, dtype=DOUBLE), y) for t, y in ((0.3, x), (0.9, run))
        ]
        first, last = (logs[:, 1:2] - logs[:, :1] for logs in found)
        return first, last

    def check(one: Superposed, trial: Trial) -> Iterator[Evidence]:
        decay = math.exp(-2.0 * 0.6)
        calm = replace(one, sigma=0.0, rule=Agree(2.0, 1e-12))
        first, last = gaps(calm, 12, RungeKutta(RK4), trial)
        because = "RK4 with 12 steps: 0.05⁴ times derivatives below 200"
        typical = (last - decay * first).abs().median(0).values
        yield near("median, an ODE: e^{−rt}", typical, 0 * typical, 1.3e-3, because)
        errors = []
        for steps in (8, 64):
            first, last = gaps(replace(one, rule=Agree(2.0, 1e-6)), steps, Euler(), trial)
            errors.append(float((last - decay * first).abs().median()))
        words = "strong order ½ or better: 8 times the steps, 0.6 of the error is asked"
        yield at_most("median, an SDE: 64 steps against 8", errors[1], 0.6 * errors[0], words)
        yield at_most("median, an SDE: 64 steps", errors[1], 0.2, "a fifth, where gaps begin at 2")

    return Claim(
        "together",
        "Along a solve of AND, differences of log-densities decay by e^{−rt}, and vanish where "
        "they were 0.",
        lambda: Superposed(experts_of(4)[:2], Agree(2.0), sigma=0.7),
        check,
        (
            Control("noise in all directions", lambda one: _faulty(_Loud, one)),
            Control("the drift of OR", lambda one: _faulty(_AsOr, one)),
        ),
        formula=r"\ell_i(t)-\ell_1(t)=e^{-rt}(\ell_i(0)-\ell_1(0))",
    )
