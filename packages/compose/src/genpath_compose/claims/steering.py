r"""Claims of steering: sums that telescope, twists that change no law, tilts by a reward.

Oracles: the Euler chain of a linear SDE has normal laws, that of K states a matrix product; a
normal law tilted by e^{c + a x + ½ b x²} is normal again, with a known normaliser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.samplers import Carry, integrate
from genpath.schedules import Scalar
from genpath.spaces import Euclidean
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    dial,
    equal,
    mean,
)

from ..chains import Chain
from ..smc import Resample, run_particles
from ..steering import STATE, VALUE, Lookahead, Steered, Twisted, weighable
from ._scenes import DOUBLE

__all__ = ["proposals", "steered"]

GRID = (0.0, 0.15, 0.4, 0.6, 0.8, 1.0)


# -- the base chain and what is known of it ----------------------------------------------------


def base() -> MarkovGenerator:
    """dX = (0.5 − 0.8 X) dt + (0.6 + 0.5 t) dW."""

    def parts(t: Tensor, x: Tensor) -> Parts:
        return Parts(0.5 - 0.8 * x, ScalarNoise(0.6 + 0.5 * t))

    return MarkovGenerator(Euclidean(1), parts, frozenset({"velocity", "diffusion"}))


def reward_of(x: Tensor) -> Tensor:
    """A quadratic reward of points ``(n, 1)``."""
    return 0.2 + 0.7 * x[:, 0] - 0.3 * x[:, 0] ** 2


def _value() -> Lookahead:
    """A rough guess before the end, the reward at the end."""
    scale = Scalar(lambda t: 0.3 + 0.7 * t)
    return Lookahead(reward_of, lambda t, x: (0.6 + 0.4 * t)[:, None] * x + 0.1, scale)


def moments(grid: Sequence[float]) -> tuple[float, float]:
    """Mean and variance of the Euler chain at the end, from N(0, 1)."""
    m, v = 0.0, 1.0
    for t, t_next in pairwise(grid):
        h = t_next - t
        m, v = m + h * (0.5 - 0.8 * m), (1 - 0.8 * h) ** 2 * v + h * (0.6 + 0.5 * t) ** 2
    return m, v


def tilted(m: float, v: float, c: float, a: float, b: float) -> Tensor:
    """E e^r (1, x, x²) for x ~ N(m, v), r = c + a x + ½ b x²."""
    precision = 1 / v - b
    centre = (m / v + a) / precision
    log_z = c + 0.5 * (precision * centre**2 - m**2 / v) - 0.5 * math.log(v * precision)
    powers = torch.tensor([1.0, centre, centre**2 + 1 / precision], dtype=DOUBLE)
    return math.exp(log_z) * powers


def powers_of(x: Tensor) -> Tensor:
    """1, x and x² of ``(n,)``: ``(n, 3)``."""
    return torch.stack([torch.ones_like(x), x, x * x], 1)


def standard(count: int, rng: torch.Generator) -> Tensor:
    """Rows of N(0, 1): ``(count, 1)``."""
    return torch.randn(count, 1, generator=rng, dtype=DOUBLE)


# -- FK steering -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Late(Steered):
    """The value of the start is left out."""

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        carry, t = super().init(gen, state), torch.zeros(len(state), dtype=DOUBLE)
        return replace(carry, memory={STATE: state, VALUE: self.value(t, state)})


@dataclass(frozen=True)
class _Hasty(Steered):
    """The value before a step is that of the point before it at the time after it."""

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        if STATE in carry.memory:
            late = self.value(torch.full((len(carry.state),), t_next).double(), carry.state)
            carry = replace(carry, memory={**carry.memory, STATE: carry.state, VALUE: late})
        return super().step(gen, carry, t, t_next, rng)


def _runs(
    gen: MarkovGenerator,
    start: Callable[[torch.Generator], Tensor],
    sampler: Steered,
    measure: Callable[[Tensor], Tensor],
    trial: Trial,
    grid: Sequence[float] = GRID,
) -> Tensor:
    """Ẑ Σ W f(X) of independent runs that resample: unbiased for E[w f]."""
    rng, found = trial.rng("runs"), []
    for _ in range(trial.count(240, 60)):
        run = run_particles(
            weighable(gen), start(rng), grid, rng, sampler=sampler, resample=Resample(threshold=0.9)
        )
        found.append(
            run.log_normaliser.exp() * (run.weights()[:, None] * measure(run.state)).sum(0)
        )
    return torch.stack(found)


def steered() -> list[Claim[Any]]:
    """Of FK steering."""
    return [_telescoping(), _letters()]


def _telescoping() -> Claim[Steered]:
    def check(sampler: Steered, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        free = integrate(sampler, base(), standard(50, rng), GRID, rng)
        yield equal("log w without resampling", free.log_weight, reward_of(free.state))
        reference = tilted(*moments(GRID), 0.2, 0.7, -0.6)
        draws = _runs(
            base(), lambda rng: standard(64, rng), sampler, lambda x: powers_of(x[:, 0]), trial
        )
        yield mean("Ẑ (1, E x, E x²) with resampling, 5 steps", draws, reference)

    def larger(sampler: Steered, size: float) -> Steered:
        value: Any = sampler.value
        return replace(sampler, value=lambda t, x: (1 + size) * value(t, x))

    return Claim(
        "telescoping",
        "The weights of FK steering sum up to the reward of the end, at any step size and with any "
        "value before the end; with resampling, Ẑ is an unbiased estimate of the mean of e^r.",
        lambda: Steered(_value()),
        check,
        (
            dial("value × (1 + δ)", larger, 0.5),
            Control("without the value of the start", lambda one: _Late(one.value, one.base)),
            Control("the value before a step is late", lambda one: _Hasty(one.value, one.base)),
        ),
        formula=r"\mathbb E\,\hat Z=\mathbb E\,e^{\lambda r(X_N)}",
    )


SCORES = (0.4, -0.7, 1.1, 0.0, -0.2)


def five_states() -> Chain:
    """Five states, all rates different."""
    k = torch.arange(25, dtype=DOUBLE).reshape(5, 5)
    away = 0.2 + (k * 7 % 11) / 10
    away = away - away.diagonal().diag()
    start = torch.tensor([0.3, 0.1, 0.2, 0.25, 0.15], dtype=DOUBLE)
    return Chain(start, away - away.sum(1).diag())


def euler_matrix(rates: Tensor, h: float) -> Tensor:
    """One Euler step of K states: stay with e^{−λh}, else jump in proportion to the rates."""
    away = rates - rates.diagonal().diag()
    total = away.sum(1)
    stay = torch.exp(-h * total)
    return stay.diag() + ((1 - stay) / total)[:, None] * away


def letter_value(t: Tensor, x: Tensor) -> Tensor:
    """A value of letters that grows with time."""
    return (0.2 + 0.8 * t) * torch.tensor(SCORES, dtype=DOUBLE)[x]


def _letters() -> Claim[Steered]:
    grid = (0.0, 0.3, 0.5, 1.0)

    def check(sampler: Steered, trial: Trial) -> Iterator[Evidence]:
        chain = five_states()
        law = chain.start
        for t, t_next in pairwise(grid):
            law = law @ euler_matrix(chain.rates, t_next - t)
        scores = torch.tensor(SCORES, dtype=DOUBLE)
        reference = law * scores.exp()

        def start(rng: torch.Generator) -> Tensor:
            return torch.multinomial(chain.start, 100, replacement=True, generator=rng)

        def cells(x: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(x, 5).double()

        rng = trial.rng()
        free = integrate(sampler, chain.generator(), start(rng), grid, rng)
        yield equal("log w without resampling", free.log_weight, scores[free.state])
        found = _runs(chain.generator(), start, sampler, cells, trial, grid)
        yield mean("Ẑ p(state), 3 steps", found, reference)

    def muted(sampler: Steered, size: float) -> Steered:
        return replace(sampler, value=lambda t, x: (1 - size) * letter_value(t, x))

    return Claim(
        "letters",
        "FK steering needs no derivative: on five states it weighs the law of the Euler chain by "
        "e^r, exactly.",
        lambda: Steered(letter_value),
        check,
        (
            dial("value × (1 − δ)", muted, 0.5),
            Control("without the value of the start", lambda one: _LateLetters(one.value)),
        ),
        formula=r"\mathbb E[\hat Z\,\hat p(k)]=p_N(k)\,e^{r(k)}",
    )


@dataclass(frozen=True)
class _LateLetters(_Late):
    """The fault of `_Late`."""


# -- twisted steps -----------------------------------------------------------------------------


def proposals() -> list[Claim[Any]]:
    """Of twisted steps."""
    return [_proposals()]


def _proposals() -> Claim[Twisted]:
    def ramp(t: Tensor) -> Tensor:
        return 0.4 + t

    def check(sampler: Twisted, trial: Trial) -> Iterator[Evidence]:
        reference, count = tilted(*moments(GRID), 0.2, 0.7, -0.6), trial.count(40_000)
        spread: dict[str, tuple[float, float]] = {}
        powers: dict[str, Any] = {"0": 0.0, "½": 0.5, "1": 1.0, "0.4 + t": ramp}
        for name, strength in powers.items():
            rng = trial.rng(name)
            one = replace(sampler, strength=strength)
            run = integrate(one, base(), standard(count, rng), GRID, rng)
            assert run.log_weight is not None
            w = run.log_weight.exp()
            yield mean(
                f"E w (1, x, x²), θ = {name}", w[:, None] * powers_of(run.state[:, 0]), reference
            )
            squares = (w - w.mean()) ** 2
            spread[name] = (float(squares.mean()), float(squares.std()) / math.sqrt(count))
        for name in ("½", "1"):
            (less, error), (more, other) = spread[name], spread["0"]
            yield at_most(
                f"variance of w, θ = {name} against 0",
                less + 5 * error,
                more - 5 * other,
                "5 standard errors of both",
            )

    def ratio(first: float, second: float) -> Callable[[Twisted], Twisted]:
        def faulty(shift: Tensor, noise: Tensor) -> Tensor:
            return -first * (shift * noise).sum(1) - second * 0.5 * (shift * shift).sum(1)

        return lambda one: but(one, _ratio=faulty)

    return Claim(
        "proposals",
        "Steps whose noise is moved up the value, with the ratio of the two densities of the "
        "noise, change no expectation at any strength, and their weights vary less.",
        lambda: Twisted(_value()),
        check,
        (
            Control("without ½|s|² in the ratio", ratio(1.0, 0.0)),
            Control("the sign of s·ξ", ratio(-1.0, 1.0)),
            Control("|s|² instead of half of it", ratio(1.0, 2.0)),
        ),
        formula=r"\log w \mathrel{+}= \Delta\psi-s\cdot\xi-\tfrac12|s|^2,\quad "
        r"s=\sqrt h\,\theta\,\sigma^\top\nabla\psi",
    )
