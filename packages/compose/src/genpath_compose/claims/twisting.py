r"""Claims of twisted generators, and of tilts by a reward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator, product
from genpath.grids import TimeGrid
from genpath.noises import MatrixNoise
from genpath.parts import Parts
from genpath.schedules import Scalar
from genpath.spaces import Euclidean
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, exact, mean, order
from genpath_interpolants.schedules import trigonometric_schedule

from ..chains import States
from ..dynamics import Composed
from ..experts import ExactExpert, Reward
from ..exponents import Exponent
from ..normals import Normal
from ..references import LinearLaw, euler_law
from ..smc import Resample, run_particles
from ..steering import Value
from ..twisting import twisted
from ._scenes import DOUBLE, normal_expert
from .steering import base, five_states, letter_value, powers_of, reward_of, standard, tilted

__all__ = ["rewards", "twists"]


def twists() -> list[Claim[Any]]:
    """Of the twisted generator."""
    return [_doob(), _nothing_left()]


Twist = Callable[[MarkovGenerator, Value], MarkovGenerator]


@dataclass(frozen=True)
class _Moving:
    """A base with a known density: its generator, log p_t, and a value."""

    name: str
    gen: MarkovGenerator
    log_density: Callable[[Tensor, Any], Tensor]
    value: Value
    points: Any


def _planebase(expert: ExactExpert) -> MarkovGenerator:
    """v + ½ a s and a matrix σ(t) on the plane."""
    root = torch.tensor([[0.9, 0.0], [0.4, 0.6]], dtype=DOUBLE)

    def parts(t: Tensor, x: Tensor) -> Parts:
        found = expert.fields(("velocity", "score"), t, x)
        sigma: Tensor = (1 + t)[:, None, None] * root
        push = 0.5 * (sigma @ sigma.mT @ found["score"][:, :, None]).squeeze(2)
        return Parts(found["velocity"] + push, MatrixNoise(sigma))

    return MarkovGenerator(Euclidean(2), parts, frozenset({"velocity", "diffusion"}))


def _wave(t: Tensor, x: Tensor) -> Tensor:
    return (1 + t * t) * torch.sin(x[:, 0] - 0.5 * x[:, 1]) + 0.3 * t * x[:, 1]


def _bases(trial: Trial) -> list[_Moving]:
    rng, chain = trial.rng(), five_states()
    expert = normal_expert(0.5, 0.7, trigonometric_schedule(), "q", 2)
    x = torch.randn(12, 2, generator=rng, dtype=DOUBLE)
    k = torch.randint(0, 5, (12,), generator=rng)
    plane, letters = _planebase(expert), chain.generator(States(5))

    def both(t: Tensor, state: Any) -> Tensor:
        return expert.log_prob(t, state["x"]) + chain.log_prob(t, state["k"])

    def mixed(t: Tensor, state: Any) -> Tensor:
        return _wave(t, state["x"]) * letter_value(t, state["k"])

    return [
        _Moving("plane", plane, expert.log_prob, _wave, x),
        _Moving("letters", letters, chain.log_prob, letter_value, k),
        _Moving("both", product({"x": plane, "k": letters}), both, mixed, {"x": x, "k": k}),
    ]


def _doob() -> Claim[Twist]:
    """∂_t log (p e^ψ) = (L^ψ)*(p e^ψ)/(p e^ψ) + g."""

    def check(twist: Twist, trial: Trial) -> Iterator[Evidence]:
        for one in _bases(trial):
            t = torch.linspace(0.1, 0.9, 12, dtype=DOUBLE)

            def log_h(s: Tensor, state: Any, one: _Moving = one) -> Tensor:
                return one.log_density(s, state) + one.value(s, state)

            def frozen(state: Any, t: Tensor = t, log_h: Value = log_h) -> Tensor:
                rows = len(state if isinstance(state, Tensor) else state["x"])
                return log_h(t.repeat(rows // 12), state)

            e = 1e-5
            up, down = (log_h(t + sign * e, one.points) for sign in (1, -1))
            found = twist(one.gen, one.value).adjoint(frozen, t, one.points)
            yield Evidence(
                f"{one.name}: ∂_t log h",
                float((found - (up - down) / (2 * e)).abs().max()),
                0.0,
                1e-7,
                "central difference: e²/6 of a third derivative below 100, and ε/e",
            )

    def faulty(change: Callable[[Any, Tensor, Any, Parts, MarkovGenerator], Parts]) -> Any:
        def plant(twist: Twist) -> Twist:
            def other(gen: MarkovGenerator, value: Value) -> MarkovGenerator:
                right = twist(gen, value)

                def evaluate(t: Tensor, state: Any) -> Parts:
                    return change(value, t, state, right.evaluate(t, state), gen)

                return replace(right, evaluate=evaluate)

            return other

        return plant

    def still(value: Any, t: Tensor, state: Any, parts: Parts, gen: MarkovGenerator) -> Parts:
        rate = torch.func.jvp(lambda s: value(s, state), (t,), (torch.ones_like(t),))[1]
        assert parts.potential is not None
        return replace(parts, potential=parts.potential - rate)

    def plain(value: Any, t: Tensor, state: Any, parts: Parts, gen: MarkovGenerator) -> Parts:
        return replace(parts, jumps=gen.evaluate(t, state).jumps)

    def calm(value: Any, t: Tensor, state: Any, parts: Parts, gen: MarkovGenerator) -> Parts:
        return replace(parts, velocity=gen.evaluate(t, state).velocity)

    return Claim(
        "doob",
        "The twisted generator with its potential keeps the law p e^ψ: on the plane, on five "
        "states, and on their product.",
        lambda: twisted,
        check,
        (
            Control("without ∂_t ψ", faulty(still)),
            Control("rates not tilted", faulty(plain)),
            Control("drift without σσᵀ∇ψ", faulty(calm)),
        ),
        formula=r"\partial_t\log(pe^\psi)=\frac{(L^\psi)^*(pe^\psi)}{pe^\psi}+g",
        entries=("L7.29",),
    )


def _nothing_left() -> Claim[Value]:
    """ψ = log E[e^{r(X_1)} | X_t = x] of dX = (½ − 0.8 X) dt + σ(t) dW and r = 0.7 x."""

    def make() -> Value:
        def value(t: Tensor, x: Tensor) -> Tensor:
            k, a = 0.8, 0.7
            decay = torch.exp(-k * (1 - t))
            centre = decay * x[:, 0] + 0.5 * (1 - decay) / k

            def primitive(s: Tensor | float) -> Tensor | float:  # ∫ e^{2ks} (0.6 + 0.5 s)² ds
                c, grow = 0.6 + 0.5 * s, torch.exp(torch.as_tensor(2 * k * s, dtype=DOUBLE))
                return grow * (c**2 / (2 * k) - 0.5 * c / (2 * k**2) + 0.25 / (4 * k**3))

            spread = math.exp(-2 * k) * (primitive(1.0) - primitive(t))
            return a * centre + 0.5 * a * a * spread

        return value

    def check(value: Value, trial: Trial) -> Iterator[Evidence]:
        t = torch.linspace(0.05, 0.95, 9, dtype=DOUBLE)
        x = standard(9, trial.rng())
        parts = twisted(base(), value)(t, x)
        yield equal("g", parts.potential, torch.zeros(9, dtype=DOUBLE), operations=512)

    return Claim(
        "nothing-left",
        "With the exact value, log E[e^{r(X_1)} | X_t = x], the potential of the twist is 0.",
        make,
        check,
        (
            dial("ψ × (1 + δ)", lambda value, d: lambda t, x: (1 + d) * value(t, x), 0.5),
            dial("ψ of the time t + δ (1 − t)", _ahead, 0.2),
        ),
        formula=r"\psi=\log\mathbb E[e^{r(X_1)}\mid X_t=x]\;\Rightarrow\;g=0",
    )


def _ahead(value: Value, size: float) -> Value:
    return lambda t, x: value(t + size * (1 - t), x)


# -- tilts by a reward -------------------------------------------------------------------------


def rewards() -> list[Claim[Any]]:
    """Of the tilt q e^{β r}."""
    return [_tilt()]


def _tilt_parts(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Drift and weight of L7.19 for x1 ~ N(½, 0.7²): f = −(β̇/β) x, σ² = 2α(α β̇/β − α̇)."""
    angle = 0.5 * math.pi
    alpha, beta = torch.cos(angle * t), torch.sin(angle * t)
    rate, fall = angle * alpha / beta, -angle * beta
    variance = alpha**2 + 0.49 * beta**2
    y, b = x[:, 0], t**2
    s, f, slope = -(y - 0.5 * beta) / variance, -rate * y, 0.7 - 0.6 * y
    power = 2 * alpha * (alpha * rate - fall)
    drift = -f + power * (s + 0.5 * b * slope)
    gain = 2 * t * reward_of(x) - b * slope * f + 0.5 * b * power * slope * s
    return drift, gain


def _tilt() -> Claim[Any]:
    def make() -> Any:
        return Reward(reward_of, (1,))

    def composed(reward: Any, sigma: Any) -> Composed:
        bent = Exponent(0.0, Scalar(lambda t: t * t, lambda t: 2 * t))
        expert = normal_expert(0.5, 0.7, trigonometric_schedule(), "q")
        return Composed(expert * reward**bent, sigma)

    def noise(t: Tensor) -> Tensor:
        alpha, beta = torch.cos(0.5 * math.pi * t), torch.sin(0.5 * math.pi * t)
        square: Tensor = math.pi * alpha * (alpha**2 / beta + beta)
        return square.sqrt()

    def check(reward: Any, trial: Trial) -> Iterator[Evidence]:
        t, x = torch.linspace(0.1, 0.9, 9, dtype=DOUBLE), standard(9, trial.rng())
        parts = composed(reward, noise).generator()(t, {"x": x})
        drift, gain = _tilt_parts(t, x)
        assert parts.velocity is not None
        yield equal("drift", parts.velocity["x"][:, 0], drift, operations=512)
        yield equal("weight", parts.potential, gain, operations=512)
        whole = composed(reward, 0.8)
        start, _ = whole.composition.start()
        start = Normal(start.mean, start.precision, DOUBLE)
        yield exact("β = 0 at the start: the base law", float(start.precision), 1.0)
        mass, first, second = tilted(0.5, 0.49, 0.2, 0.7, -0.6).tolist()
        begin = LinearLaw(float(start.mean), float(1 / start.precision))
        target = (first / mass, second / mass - (first / mass) ** 2, math.log(mass))
        steps = [20, 40, 80, 160]
        found = [euler_law(whole.generator(), begin, TimeGrid.uniform(n)) for n in steps]
        sizes = [1 / n for n in steps]
        results = [(one.mean, one.variance, one.log_normaliser) for one in found]
        for index, name in enumerate(("mean", "variance", "log Z")):
            errors = [abs(one[index] - target[index]) for one in results]
            yield order(f"{name} against the tilted law", sizes, errors, 1.0)
        yield mean(*_ends(whole, start, trial))

    return Claim(
        "tilt",
        "An expert times e^{β r} moves and weighs as the course's reward tilt, and ends in the "
        "tilted law: by the exact law of the scheme, and by particles.",
        make,
        check,
        (
            Control("the gradient of r is left out", lambda r: but(r, both=_flat)),
            dial("r × (1 + δ)", _louder, 0.5),
        ),
        formula=r"dX=\big(-f+\sigma^2(s+\tfrac{\beta}{2}\nabla r)\big)dt+\sigma dW,\quad "
        r"dA=\big(\dot\beta r-\beta\nabla r\cdot f+\tfrac{\beta\sigma^2}{2}\nabla r\cdot s\big)dt",
        entries=("L7.19",),
    )


def _flat(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(x), torch.zeros_like(x)


def _louder(reward: Reward, size: float) -> Reward:
    return Reward(lambda x: (1 + size) * reward_of(x), (1,))


def _ends(whole: Composed, start: Normal, trial: Trial) -> tuple[str, Tensor, Tensor]:
    """Particles of 10 steps, not resampled, against the exact law of those steps."""
    gen, grid, rng = whole.generator(), TimeGrid.uniform(10), trial.rng("ends")
    law = euler_law(gen, LinearLaw(0.0, 1.0), grid)
    state = whole.state(start.sample(trial.count(40_000), rng), 0.0, rng)
    run = run_particles(gen, state, grid, rng, resample=Resample(when="never"))
    powers = torch.tensor([1.0, law.mean, law.variance + law.mean**2], dtype=DOUBLE)
    draws = run.log_weight.exp()[:, None] * powers_of(run.state["x"][:, 0])
    return "particles: E w (1, x, x²)", draws, math.exp(law.log_normaliser) * powers
