r"""Claims of chains on K states: their compositions, and particles on them.

Oracles: h = Π q_i^{γ_i} from laws q_i(0) e^{tQ_i} by eigenvalues; the Euler chain of weighted
particles as a product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.jumps import RateJumps
from genpath.parts import Parts
from genpath.samplers import Euler, integrate
from genpath.schedules import Scalar
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    dial,
    frequencies,
    mean,
    near,
    order,
)

from ..chains import Chain, ChainComposition
from ..exponents import Exponent
from ..finite import composed_on_finite
from ..smc import Resample, run_particles
from ._scenes import DOUBLE
from .steering import euler_matrix, five_states

__all__ = ["particles", "tables"]


def wobble() -> Exponent:
    """1 + 0.6 sin 3t."""
    return Exponent(1.0, Scalar(lambda t: 0.6 * torch.sin(3 * t), lambda t: 1.8 * torch.cos(3 * t)))


def chains_of_five() -> list[Chain]:
    """Three chains on five states, with different rates."""
    first, found = five_states(), list[Chain]()
    for shift in range(3):
        rates = first.rates.roll(2 * shift, 0).roll(shift, 1)
        away = (rates - rates.diagonal().diag()).clamp_min(0)
        start = (first.start + 0.1 * shift).roll(shift)
        found.append(Chain(start / start.sum(), away - away.sum(1).diag()))
    return found


def base_rates() -> Tensor:
    """The rates of the particles: those of no expert."""
    away = 0.3 + torch.arange(25, dtype=DOUBLE).reshape(5, 5).sin() ** 2
    away = away - away.diagonal().diag()
    return away - away.sum(1).diag()


def five_composed() -> ChainComposition:
    """Three chains on five states, one exponent that moves and one that is negative."""
    return ChainComposition(chains_of_five(), [wobble(), 0.8, -0.5], base_rates())


def log_h(times: Sequence[float]) -> Tensor:
    """log h at times ``(T,)``: ``(T, 5)``, by the eigenvalues of the rates."""
    t = torch.tensor(times, dtype=DOUBLE)
    total = torch.zeros(len(t), 5, dtype=DOUBLE)
    powers = (1 + 0.6 * torch.sin(3 * t), torch.full_like(t, 0.8), torch.full_like(t, -0.5))
    for chain, power in zip(chains_of_five(), powers, strict=True):
        values, vectors = torch.linalg.eig(chain.rates)
        modes = chain.start.to(vectors.dtype) @ vectors
        law = torch.exp(t[:, None] * values) * modes @ torch.linalg.inv(vectors)
        total = total + power[:, None] * law.real.log()
    return total


# -- the exact ODE -----------------------------------------------------------------------------


def tables() -> list[Claim[Any]]:
    """Of the potential on K states."""

    def check(one: ChainComposition, trial: Trial) -> Iterator[Evidence]:
        steps = trial.count(600, 60)
        times = [k / steps for k in range(steps + 1)]
        fine, coarse = one.solve(times), one.solve(times[::2])
        size = float((fine[::2] - coarse).abs().max()) / 15
        reference = log_h(times).exp()
        because = "twice the RK4 error by Richardson, and the rounding of 600 steps"
        yield near("p̃ against h, all times", fine, reference, 2 * size + 1e-12, because)
        bound = 1e-7 if trial.fast else 4e-12
        yield at_most("the error of RK4, by Richardson", size, bound, "its order, at these steps")
        for t in (0.2, 0.7):
            e = 1e-5
            up, down = log_h([t + e, t - e])
            slope = (up - down) / (2 * e)
            h = log_h([t])[0].exp()
            found = (h @ one.base) / h + one.potential(torch.tensor([t], dtype=DOUBLE))[0]
            yield near(f"t = {t}: ∂_t log h", found, slope, 1e-8, "central difference, e = 1e-5")

    def faulty(change: Callable[[ChainComposition, Tensor], Tensor]) -> Any:
        return lambda one: but(one, potential=lambda t: change(one, t))

    def frozen(one: ChainComposition, t: Tensor) -> Tensor:
        return one.potential(t) - wobble().rate(t)[:, None] * one.chains[0].law(t).log()

    def turned(one: ChainComposition, t: Tensor) -> Tensor:
        return replace(one, base=one.base.T - one.base.sum(0).diag()).potential(t)

    return [
        Claim(
            "five-states",
            "On five states, with three experts, a moving and a negative exponent and rates of no "
            "expert, the weighted forward equation is solved by h.",
            five_composed,
            check,
            (
                Control("without γ̇ log q", faulty(frozen)),
                Control("the base's rates transposed", faulty(turned)),
                dial("g × (1 + δ)", _louder, 0.5),
            ),
            formula=r"\dot{\tilde p}=\tilde pQ+g\tilde p,\qquad g=\sum_i\gamma_i\frac{q_iQ_i}{q_i}"
            r"+\sum_i\dot\gamma_i\log q_i-\frac{hQ}{h}",
            entries=("S.15",),
        )
    ]


def _louder(one: ChainComposition, size: float) -> ChainComposition:
    return but(one, potential=lambda t: (1 + size) * one.potential(t))


# -- particles ---------------------------------------------------------------------------------


def particles() -> list[Claim[Any]]:
    """Of weighted particles on five states."""

    def law(times: Sequence[float]) -> Tensor:
        """The weighted law of the Euler chain, not normalised, from h(0)/Z(0)."""
        one = five_composed()
        found = log_h([times[0]])[0].exp()
        found = found / found.sum()
        gains = one.potential(torch.tensor(times, dtype=DOUBLE))
        for (t, t_next), gain in zip(pairwise(times), gains, strict=False):
            h = t_next - t
            found = (found * (h * gain).exp()) @ euler_matrix(one.base, h)
        return found

    def make() -> MarkovGenerator:
        experts = [chain.expert() for chain in chains_of_five()]
        base = Chain(torch.full((5,), 0.2), base_rates()).generator()
        return composed_on_finite(base, experts, [wobble(), 0.8, -0.5])

    def start(count: int, rng: torch.Generator) -> Tensor:
        h = log_h([0.0])[0].exp()
        return torch.multinomial(h, count, replacement=True, generator=rng)

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        times, rng = [k / 6 for k in range(7)], trial.rng()
        reference, table, runs = law(times), _tabulated(gen), list[Tensor]()
        for _ in range(trial.count(240, 100)):
            run = run_particles(
                table, start(150, rng), times, rng, resample=Resample(threshold=0.9)
            )
            cells = torch.nn.functional.one_hot(run.state, 5).double()
            runs.append(run.log_normaliser.exp() * (run.weights()[:, None] * cells).sum(0))
        yield mean("Ẑ p̂(state), 6 steps, resampled", torch.stack(runs), reference)
        counts = _accepted(gen, start(trial.count(20_000), rng), times, rng)
        yield frequencies("states, 6 steps", counts, reference / reference.sum())
        steps = [16, 32, 64, 128]
        target = log_h([1.0, 0.0]).exp()
        target = target[0] / target[1].sum()
        errors = [float((law([k / n for k in range(n + 1)]) - target).abs().max()) for n in steps]
        yield order("the Euler chain against h", [1 / n for n in steps], errors, 1.0)

    def pale(gen: MarkovGenerator, size: float) -> MarkovGenerator:
        def evaluate(t: Tensor, x: Tensor) -> Parts:
            parts = gen.evaluate(t, x)
            assert parts.potential is not None
            return replace(parts, potential=(1 - size) * parts.potential)

        return replace(gen, evaluate=evaluate)

    return [
        Claim(
            "particles",
            "Weighted particles on five states have the law h/Z, and Ẑ is unbiased, with "
            "resampling and without.",
            make,
            check,
            (dial("g × (1 − δ)", pale, 0.5),),
            formula=r"\mathbb E[\hat Z\,\hat p(k)]=h_1(k)/Z_0+O(\Delta t)",
            entries=("S.15",),
        )
    ]


def _tabulated(gen: MarkovGenerator) -> MarkovGenerator:
    """The same generator, evaluated once at the five states for every time."""

    @cache
    def at(t: float) -> tuple[Tensor, Tensor]:
        parts = gen(torch.full((5,), t, dtype=DOUBLE), torch.arange(5))
        assert isinstance(parts.jumps, RateJumps) and parts.potential is not None
        return parts.jumps.rates, parts.potential

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        rates, potential = at(float(t[0]))
        return Parts(jumps=RateJumps(rates[x], x), potential=potential[x])

    return replace(gen, evaluate=evaluate)


def _accepted(
    gen: MarkovGenerator, start: Tensor, times: Sequence[float], rng: torch.Generator
) -> Tensor:
    """Counts of independent draws of the weighted law: particles kept with probability w/max w."""
    run = integrate(Euler(), gen, start, times, rng)
    assert run.log_weight is not None
    chance = (run.log_weight - run.log_weight.max()).exp()
    kept = torch.rand(len(chance), generator=rng, dtype=chance.dtype) < chance
    return torch.bincount(run.state[kept], minlength=5)
