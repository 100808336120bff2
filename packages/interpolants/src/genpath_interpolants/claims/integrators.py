r"""Integrators: orders of samplers on the path's own processes, denoising, error control, grids.

Weak orders are fitted to the first two moments of the very steps, without sampling error; the
flow's oracle is its closed map between normal laws, or a fine solve of another method.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.errors import CapabilityError, DomainError, NumericalError
from genpath.generators import MarkovGenerator, flow
from genpath.grids import TimeGrid
from genpath.likelihoods import SolvedFlow
from genpath.models import ODE, Model
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.samplers import Carry, Euler, RungeKutta, Sampler, integrate
from genpath.spaces import Euclidean
from genpath.states import row_times
from genpath.tableaus import RK4
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    contracts,
    dial,
    equal,
    exact,
    mean,
    near,
    order,
    refusal,
)

from ..adaptive import Adaptive, Calls
from ..dynamics import BackwardSDE, DiffusiveSDE, Tabulated
from ..mixtures import MixtureMarginal
from ..paths import LinearPath
from ..samplers import Denoising, FinalDenoising, StochasticHeun, clipped, cosine, power
from ..schedules import encoding_decoding_schedule, trigonometric_schedule
from .runs import DOUBLE, LINE, Scene, linear, normal_fields, one, plane, step_moments, two

__all__ = ["adaptive", "denoising", "final_denoising", "grids", "stochastic_heun"]


def stochastic_heun() -> tuple[Claim[Any], ...]:
    """The claims of ``sampler.interpolants.stochastic_heun``."""
    return (*contracts.sampler(StochasticHeun, order=2), weak_orders(), refusals())


def denoising() -> tuple[Claim[Any], ...]:
    """The claims of ``sampler.interpolants.denoising``."""
    return (expected_points(), first_order(), start_rules())


def final_denoising() -> tuple[Claim[Any], ...]:
    """The claims of ``sampler.interpolants.final_denoising``."""
    return (last_step(),)


def adaptive() -> tuple[Claim[Any], ...]:
    """The claims of ``sampler.interpolants.adaptive``."""
    return (tolerance(), both_ways())


def grids() -> tuple[Claim[Any], ...]:
    """The claims of ``interpolants.grids``."""
    return (kinks(), shapes())


# -- noise -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two samplers and the orders that they are held to."""

    samplers: dict[str, tuple[Sampler, float]] = field(
        default_factory=lambda: {
            "Euler–Maruyama": (Euler(), 1.0),
            "stochastic Heun": (StochasticHeun(), 2.0),
        }
    )


def _line(space: Euclidean) -> LinearPath:
    return LinearPath(space, trigonometric_schedule("sqrt", 0.5), "gaussian")


def weak_orders() -> Claim[Pair]:
    """Mean and variance of the path's processes between normal laws."""

    def check(pair: Pair, trial: Trial) -> Iterator[Evidence]:
        law, counts = (0.8, 1.3), (10, 20, 40, 80)
        made = (
            ("forward", DiffusiveSDE(Tabulated((0.3, 0.5))), (0.0, 1.0), (0.8, 1.69)),
            ("backward", BackwardSDE(Tabulated((0.3, 0.5))), (0.8, 1.69), (0.0, 1.0)),
        )
        for words, (sampler, expected) in pair.samplers.items():
            for way, dynamics, start, end in made[1:] if trial.fast else made:
                ends = [
                    step_moments(sampler, dynamics, _line, law, _uneven(n), start)[-1]
                    for n in counts
                ]
                for k, name in enumerate(("mean", "variance")):
                    errors = [max(abs(found[k] - end[k]), 1e-300) for found in ends]
                    steps = [1 / n for n in counts]
                    yield order(f"{words}, {way}: {name}", steps, errors, expected)

    def heun(change: Callable[..., Any]) -> Callable[[Pair], Pair]:
        def plant(pair: Pair) -> Pair:
            right, expected = pair.samplers["stochastic Heun"]
            wrong = change(right)
            return replace(pair, samplers={**pair.samplers, "stochastic Heun": (wrong, expected)})

        return plant

    def guess_without_noise(right: Any) -> Any:
        return _stepping(right, predictor=0.0)

    def noise_from_the_start(right: Any) -> Any:
        noise = StochasticHeun._noise
        return but(right, _noise=lambda start, end, pair, h: noise(start, start, pair, h))

    def independent(right: Any) -> Any:
        return _stepping(right, fresh=True)

    def no_corrector(right: Any) -> Any:
        return but(right, _drift=lambda start, end, h: h * start)

    return Claim(
        "weak-orders",
        "On the processes between normal laws, from the base and from the data, with noise that "
        "grows in time, two moments have weak order 1 for Euler's steps and 2 for Heun's.",
        Pair,
        check,
        (
            Control("a predictor without noise", heun(guess_without_noise)),
            Control("σ of the start alone", heun(noise_from_the_start)),
            Control("the predictor's noise drawn apart", heun(independent)),
            Control("no corrector", heun(no_corrector)),
        ),
        formula=r"|\mathbb{E}\hat X_1^k - \mathbb{E}X_1^k| = O(h^p),\quad k = 1, 2",
        entries=("A8", "L3.2"),
    )


def _uneven(count: int) -> tuple[float, ...]:
    """Times from 0 to 1 in steps of lengths 2, 3, 2, 3, …"""
    lengths = [2 + i % 2 for i in range(count)]
    return tuple(t / sum(lengths) for t in itertools.accumulate(lengths, initial=0))


def _stepping(right: Any, predictor: float = 1.0, fresh: bool = False) -> Any:
    """Heun's step with the predictor's noise changed."""

    def step(gen: MarkovGenerator, carry: Carry, t: float, u: float, rng: torch.Generator) -> Carry:
        h, x = u - t, carry.state
        first = gen.evaluate(row_times(t, x), x)
        assert first.diffusion is not None
        xi, zeta = (first.diffusion.draw(gen.space, x, rng) for _ in range(2))
        other = (-zeta, zeta) if fresh else (xi, zeta)
        start, noise = first.diffusion, right._noise
        guess = x + h * first.velocity + predictor * noise(start, start, other, h)
        last = gen.evaluate(row_times(u, guess), guess)
        drift = right._drift(first.velocity, last.velocity, h)
        return replace(carry, state=x + drift + noise(start, last.diffusion, (xi, zeta), h))

    return but(right, step=step)


def refusals() -> Claim[Callable[[], Sampler]]:
    """What it does not integrate."""

    def check(make: Callable[[], Sampler], trial: Trial) -> Iterator[Evidence]:
        has, x = frozenset({"velocity", "diffusion"}), torch.ones(3, 1, dtype=DOUBLE)
        for words, uniform in (("noise that depends on the state", False), ("noise σ(t)", True)):
            noise = ScalarNoise(1.0, uniform)
            gen = MarkovGenerator(LINE, lambda t, y, n=noise: Parts(-y, n), has)  # type: ignore[misc]

            def call(gen: MarkovGenerator = gen) -> Any:
                return integrate(make(), gen, x, (0.0, 1.0), torch.Generator())

            if uniform:
                yield exact(words, bool(call().state.isfinite().all()))
            else:
                yield refusal(words, call, CapabilityError, "depends on the state")

    def careless() -> Sampler:
        sampler = StochasticHeun()
        return but(sampler, _draws=lambda d, space, x, rng: (d.draw(space, x, rng),) * 2)

    return Claim(
        "refusals",
        "It refuses noise that depends on the state, by name, and takes noise of time.",
        lambda: StochasticHeun,
        check,
        (Control("it takes any noise", lambda make: careless),),
    )


# -- denoising -------------------------------------------------------------------------------------


def _trigonometric() -> Scene:
    path = LinearPath(LINE, trigonometric_schedule(), "gaussian")
    return Scene("trigonometric", path, two())


def _scenes() -> tuple[Scene, ...]:
    law = plane()
    return (
        Scene("one-sided", linear(Euclidean(2)), law),
        Scene("latent", linear(Euclidean(2), "sqrt", 1.3), law),
        Scene("trigonometric", LinearPath(Euclidean(2), trigonometric_schedule(), "gaussian"), law),
    )


def _expected(scene: Scene, t: float, s: float, x: Tensor) -> Tensor:
    """E[x_s | x_t = x] of jointly normal pairs given the component, mixed by Bayes' rule."""
    schedule, law = scene.path.schedule, scene.law
    time = torch.tensor([t, s], dtype=DOUBLE)
    a, b, c = schedule.alpha(time), schedule.beta(time), schedule.gamma(time)
    mean_t, mean_s = b[0] * law.means, b[1] * law.means
    variance = a[0] ** 2 + c[0] ** 2 + b[0] ** 2 * law.stds**2
    joint = a[0] * a[1] + c[0] * c[1] + b[0] * b[1] * law.stds**2
    log = Normal(mean_t, variance.sqrt()).log_prob(x[:, None]).sum(2) + law.weights.log()
    weights = torch.softmax(log, 1)[..., None]
    values = mean_s + joint / variance * (x[:, None] - mean_t)
    return (weights * values).sum(1)


def expected_points() -> Claim[Sampler]:
    """One step is the conditional mean of x_s given x_t."""

    def check(sampler: Sampler, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        for scene in _scenes():
            for name in ("velocity", "base_denoiser", "denoiser"):
                gen = _from(scene, name)
                for t, s in ((0.1, 0.35), (0.6, 1.0), (0.9, 0.5)):
                    x = torch.randn(20, 2, generator=rng, dtype=DOUBLE)
                    found = sampler.step(gen, sampler.init(gen, x), t, s, rng).state
                    yield near(
                        f"{scene.words}, {name}: E[x_{s:g} | x_{t:g}]",
                        found,
                        _expected(scene, t, s, x),
                        1e-10,
                        "1e4 roundings: divisions by 1 − t and t ≥ 0.1",
                    )
        for scene in _scenes()[:2]:
            count, t, s = trial.count(8_000, 4_000), 0.4, 0.7
            x1 = scene.law.sample(count, rng)
            x0, z = torch.randn(2, count, 2, generator=rng, dtype=DOUBLE)
            schedule = scene.path.schedule
            later, now = (
                schedule.alpha(w) * x0 + schedule.beta(w) * x1 + schedule.gamma(w) * z
                for w in (torch.tensor(s, dtype=DOUBLE), torch.tensor(t, dtype=DOUBLE))
            )
            gen = _from(scene, "denoiser")
            gap = later - sampler.step(gen, sampler.init(gen, now), t, s, rng).state
            features = torch.cat([now, now.cos(), now.sin(), torch.ones_like(now)], 1)
            products = (gap[:, :, None] * features[:, None, :]).flatten(1)
            yield mean(f"{scene.words}: regression of x_s on features of x_t", products, 0.0)

    def late(sampler: Sampler, size: float) -> Sampler:
        def step(gen: Any, carry: Any, t: float, s: float, rng: torch.Generator) -> Any:
            return sampler.step(gen, carry, t, t + (1 + size) * (s - t) if s < 1 else s, rng)

        return but(sampler, step=step)

    def euler(sampler: Sampler) -> Sampler:
        return but(sampler, step=lambda gen, carry, t, s, rng: Euler().step(gen, carry, t, s, rng))

    return Claim(
        "expected-point",
        "A step from t to s is the conditional mean of x_s given x_t, from every prediction, "
        "forward and back in time.",
        Denoising,
        check,
        (dial("s off by δ (s − t)", late, 0.25), Control("Euler's step", euler)),
        formula=r"\mathbb{E}[x_s|x_t] = \tfrac{\beta(s)}{\beta(t)}x + \big(\alpha(s) - "
        r"\tfrac{\alpha(t)\beta(s)}{\beta(t)}\big)\eta_z = \alpha(s)\eta_z + \beta(s)\eta_1",
        entries=("L6.6",),
    )


def _from(scene: Scene, name: str) -> MarkovGenerator:
    """The flow's generator from the exact field of a prediction, known by the density."""
    from genpath.predictions import converted

    known = converted(scene.path.rules, "score", scene.known_score, name)
    return ODE().generator(scene.path, name, known)


STARTS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


@cache
def _truth() -> Tensor:
    """The flow of the trigonometric path at t = 1, from STARTS, by the classical method."""
    gen, start = _from(_trigonometric(), "velocity"), torch.tensor(STARTS, dtype=DOUBLE)[:, None]
    found: Tensor = integrate(RungeKutta(RK4), gen, start, cosine(150), torch.Generator()).state
    return found


def first_order() -> Claim[Sampler]:
    """Convergence to the flow on equal and on warped grids."""

    def check(sampler: Sampler, trial: Trial) -> Iterator[Evidence]:
        scene, start = _trigonometric(), torch.tensor(STARTS, dtype=DOUBLE)[:, None]
        gen = _from(scene, "base_denoiser")
        true, counts = _truth(), (16, 32, 64, 128)
        grids: tuple[tuple[str, Callable[[int], TimeGrid]], ...] = (
            ("equal steps", TimeGrid.uniform),
            ("t = (j/N)^1.5", lambda n: power(n, 1.5)),
            ("cosine", cosine),
        )
        for words, grid in grids[:2] if trial.fast else grids:
            errors = []
            for n in counts:
                end = integrate(sampler, gen, start, grid(n), trial.rng()).state
                errors.append(float((end - true).abs().mean()))
            yield order(words, [1 / n for n in counts], errors, 1.0)
        # Euler's method for x/β in the variable α/β, from where β ≠ 0
        times = torch.linspace(0.1, 1.0, 13, dtype=DOUBLE)
        schedule = scene.path.schedule
        ratio, x = schedule.alpha(times) / schedule.beta(times), start
        scaled = start / schedule.beta(times[:1])
        for k in range(12):
            eta = -schedule.alpha(times[k : k + 1]) * scene.score(times[k].expand(9), x)
            scaled = scaled + (ratio[k + 1] - ratio[k]) * eta
            x = scaled * schedule.beta(times[k + 1])
        end = integrate(sampler, gen, start, tuple(times.tolist()), trial.rng()).state
        yield near("Euler's method for x/β in α/β", end, x, 1e-10, "1e4 roundings")

    def frozen(sampler: Sampler, size: float) -> Sampler:
        """The field taken at a time that is off."""

        def step(gen: Any, carry: Any, t: float, s: float, rng: torch.Generator) -> Any:
            source = gen.origin.field
            late = lambda w, x: source((w + size * 0.05).clamp(max=1.0), x)  # noqa: E731
            moved = replace(gen, origin=replace(gen.origin, field=late))
            return sampler.step(moved, carry, t, s, rng)

        return but(sampler, step=step)

    def scaled_eta(sampler: Sampler, size: float) -> Sampler:
        def step(gen: Any, carry: Any, t: float, s: float, rng: torch.Generator) -> Any:
            source = gen.origin.field
            more = replace(gen.origin, field=lambda w, x: (1 + size) * source(w, x))
            return sampler.step(replace(gen, origin=more), carry, t, s, rng)

        return but(sampler, step=step)

    return Claim(
        "first-order",
        "Iterated denoising converges to the flow with order 1 on equal and on warped grids, and "
        "is Euler's method for x/β in the variable α/β.",
        Denoising,
        check,
        (dial("η × (1 + δ)", scaled_eta, 0.1), dial("the field at t + δ/20", frozen)),
        formula=r"x_{j+1} = \mathbb{E}[x_{t_{j+1}} | x_{t_j}],\quad |x_N - X_1| = O(\max h)",
        entries=("L6.7", "H6.2"),
    )


def start_rules() -> Claim[Sampler]:
    """The first step where β = 0."""

    def check(sampler: Sampler, trial: Trial) -> Iterator[Evidence]:
        scene, start = _trigonometric(), torch.tensor(STARTS, dtype=DOUBLE)[:, None]
        true, counts = _truth(), (16, 32, 64, 128)
        data_mean = float((scene.law.weights[:, None] * scene.law.means).sum())
        told = but(sampler, data_mean=data_mean)
        made = (
            ("x kept", sampler, "base_denoiser"),
            ("with E[x1]", told, "base_denoiser"),
            ("from the velocity", sampler, "velocity"),
        )
        for words, used, name in made:
            gen, errors = _at_start(scene, name, data_mean), []
            for n in counts:
                end = integrate(used, gen, start, TimeGrid.uniform(n), trial.rng()).state
                errors.append(float((end - true).abs().mean()))
            yield order(words, [1 / n for n in counts], errors, 1.0)
        gen, s = _from(scene, "base_denoiser"), 0.2
        a, b = math.cos(0.1 * math.pi), math.sin(0.1 * math.pi)
        first = told.step(gen, told.init(gen, start), 0.0, s, trial.rng()).state
        yield equal("the first step with E[x1]", first, a * start + b * data_mean)
        kept = sampler.step(gen, sampler.init(gen, start), 0.0, s, trial.rng()).state
        yield exact("the first step without", kept, start)
        other = _at_start(scene, "velocity", data_mean)
        third = sampler.step(other, sampler.init(other, start), 0.0, s, trial.rng()).state
        yield near("the first step from the velocity", third, first, 1e-10, "rounding")

    def divided(sampler: Sampler) -> Sampler:
        """β(0) replaced by a small number."""

        def step(gen: Any, carry: Any, t: float, s: float, rng: torch.Generator) -> Any:
            return sampler.step(gen, carry, max(t, 1e-2), s, rng)

        return but(sampler, step=step)

    def forgotten(sampler: Sampler) -> Sampler:
        def step(gen: Any, carry: Any, t: float, s: float, rng: torch.Generator) -> Any:
            if t > 0:
                return sampler.step(gen, carry, t, s, rng)
            return replace(carry, state=math.cos(0.5 * math.pi * s) * carry.state)

        return but(sampler, step=step)

    return Claim(
        "start-rules",
        "At t = 0 the step needs no division by β: kept, or moved by the data's mean, the start "
        "leaves the order at 1.",
        Denoising,
        check,
        (Control("division by β(0.01)", divided), Control("E[x1] taken for 0", forgotten)),
        formula=r"\mathbb{E}[x_s|x_0] = \alpha(s)x_0 + \beta(s)\mathbb{E}x_1",
        entries=("X5",),
    )


def _at_start(scene: Scene, name: str, data_mean: float) -> MarkovGenerator:
    """The flow, whose velocity at t = 0 is the limit α̇ x + β̇ E[x1] = (π/2) E[x1]."""
    gen = _from(scene, name)
    if name != "velocity" or gen.origin is None:
        return gen
    inner = gen.origin.field

    def velocity(t: Tensor, x: Any) -> Tensor:
        return torch.where(t[:, None] == 0, 0.5 * math.pi * data_mean, inner(t, x))

    return ODE().generator(scene.path, name, velocity)


def last_step() -> Claim[Callable[[Sampler], Sampler]]:
    """Two-point data."""

    def check(make: Callable[[Sampler], Sampler], trial: Trial) -> Iterator[Evidence]:
        path = linear(LINE)

        def eta(t: Tensor, x: Any) -> Tensor:
            a, b = (1 - t)[:, None], t[:, None]
            return cast(Tensor, (x - b * torch.tanh(b * x / a**2)) / a)

        gen = DiffusiveSDE(Tabulated((0.5, 0.0))).generator(path, "base_denoiser", eta)
        x = torch.randn(trial.count(1_000, 500), 1, generator=trial.rng(), dtype=DOUBLE)
        grid = TimeGrid.uniform(99, 0.0, 0.99)
        raw = integrate(StochasticHeun(), gen, x, grid, trial.rng("noise")).state
        sampler = make(StochasticHeun())
        last = integrate(sampler, gen, x, (*grid.times, 1.0), trial.rng("noise")).state
        noise = eta(torch.full((len(x),), 0.99, dtype=DOUBLE), raw)
        known = (raw - 0.01 * noise) / 0.99
        yield equal("the last step is E[x1 | x]", last, known, operations=4096)
        near_one, raw_gap = (last.abs() - 1).abs().mean(), (raw.abs() - 1).abs().mean()
        yield at_most("distance to ±1, mean", near_one, 0.01 * raw_gap, "far smaller")
        yield exact("the steps before are the inner sampler's", sampler.order, 2)

    def with_gamma(make: Callable[[Sampler], Sampler], size: float) -> Callable[[Sampler], Sampler]:
        def made(inner: Sampler) -> Sampler:
            right = make(inner)

            def step(gen: Any, carry: Any, t: float, u: float, rng: torch.Generator) -> Any:
                moved = right.step(gen, carry, t, u, rng)
                mixed = (1 - size / 2) * moved.state + size / 2 * carry.state
                return replace(moved, state=mixed) if u >= 1 else moved

            return but(right, step=step)

        return made

    return Claim(
        "last-step",
        "For data at ±1 a run to t_f = 0.99 with a last denoising step ends far nearer to ±1 than "
        "the raw state.",
        lambda: FinalDenoising,
        check,
        (dial("only 1 − δ/2 of the last step", with_gamma),),
        formula=r"\hat x_1 = \big(x - \alpha(t_f)\,\eta_z\big)/\beta(t_f)",
        entries=("A11",),
    )


# -- error control ---------------------------------------------------------------------------------

AdaptiveMaker = Callable[..., Sampler]


def _flow(scene: Scene) -> MarkovGenerator:
    velocity = MixtureMarginal(scene.path, scene.law).field("velocity")
    return ODE().generator(scene.path, "velocity", velocity)


def tolerance() -> Claim[AdaptiveMaker]:
    """Points and log-densities within the tolerance."""

    def check(make: AdaptiveMaker, trial: Trial) -> Iterator[Evidence]:
        gen, rng, scene = _flow(_rows()), trial.rng(), _rows()
        x = torch.tensor(STARTS, dtype=DOUBLE)[:, None]
        log = scene.log_prob(torch.ones(9, dtype=DOUBLE), x)
        base = Normal(0.0, 1.0)
        fewer, tolerances = [], (1e-3, 1e-4 if trial.fast else 1e-5)
        for rtol in tolerances:
            calls = Calls()
            solve = SolvedFlow(
                gen, make(rtol=rtol, atol=rtol / 10, norm="max", calls=calls), steps=1
            )
            start, log_det = solve(1.0, 0.0, x, rng)
            found = base.log_prob(start).sum(1) + log_det
            because = "the tolerance, times steps and growth of errors"
            yield near(f"log p at tolerance {rtol:g}", found, log, 100 * rtol, because)
            fewer.append(calls.evaluations)
        yield at_most("evaluations grow", fewer[0] + 6, fewer[1], "a step costs six")
        single = Scene("normal", linear(LINE, "quadratic"), one(0.8, 0.6))
        points = torch.linspace(-2, 2, 9, dtype=DOUBLE)[:, None]
        end = integrate(make(rtol=1e-6, atol=1e-6), _flow(single), points, (0.0, 1.0), rng).state
        yield near("the flow between normal laws", end, 0.8 + 0.6 * points, 1e-4, "100 tolerances")
        attempts, plain = _plain(tolerances[1], tolerances[1] / 10)
        yield at_most(
            f"evaluations, of {attempts} attempts of seven",
            fewer[1],
            plain,
            "seven an attempt, from one whole step on, the largest error controlled",
        )

    def loose(make: AdaptiveMaker) -> AdaptiveMaker:
        return lambda **given: make(**{**given, "rtol": 1e-2, "atol": 1e-2})

    def points_only(make: AdaptiveMaker) -> AdaptiveMaker:
        """A log-density that is off by two parts in a hundred."""

        def made(**given: Any) -> Sampler:
            right = make(**given)

            def step(gen: Any, carry: Any, t: float, u: float, rng: torch.Generator) -> Any:
                end = right.step(gen, carry, t, u, rng)
                if not isinstance(end.state, dict):
                    return end
                less = {**end.state, "log_density": 0.98 * end.state["log_density"]}
                return replace(end, state=less)

            return but(right, step=step)

        return made

    return Claim(
        "tolerance",
        "Points and log-densities of the flow are as accurate as the tolerance says, for no more "
        "evaluations than a pair without first-same-as-last that starts with one whole step.",
        lambda: Adaptive,
        check,
        (
            Control("tolerances of 0.01 whatever is asked", loose),
            Control("log-density × 0.98", points_only),
        ),
        formula=r"\|e/(a + r|x|)\| \le 1 \text{ per step}",
        requires=("torchdiffeq",),
    )


def _rows() -> Scene:
    return Scene("latent", linear(LINE, "quadratic", 1.3), two())


@cache
def _plain(rtol: float, atol: float) -> tuple[int, int]:
    """Attempts and evaluations of the same pair as many codes run it, from STARTS back to 0."""
    from genpath.likelihoods import tracked

    a = (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    )
    low = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
    joint, x, d = tracked(_flow(_rows())), torch.tensor(STARTS, dtype=DOUBLE)[:, None], 1

    def slope(t: float, y: Tensor) -> Tensor:
        state = {"x": y[:, :d], "log_density": y[:, d]}
        found = joint.evaluate(row_times(t, state), state).velocity
        return torch.cat([found["x"], found["log_density"][:, None]], 1)

    t, h, attempts = 1.0, -1.0, 0
    y = torch.cat([x, torch.zeros(len(x), 1, dtype=x.dtype)], 1)
    while t > 1e-12:
        h, attempts = max(h, -t), attempts + 1
        slopes = [slope(t, y)]
        for row in a:
            stage = y + h * sum(w * k for w, k in zip(row, slopes, strict=True))
            slopes.append(slope(t + h * sum(row), stage))
        error = stage - y - h * sum(w * k for w, k in zip(low, slopes, strict=True))
        size = float((error.abs() / (atol + rtol * torch.maximum(y.abs(), stage.abs()))).max())
        if size < 1:
            t, y = t + h, stage
        h = h * min(10.0, max(0.1, 0.9 / max(size, 1e-9) ** 0.2))
    return attempts, 7 * attempts


def both_ways() -> Claim[AdaptiveMaker]:
    """There and back, through the kinks, never beyond the ends; and what is said when it fails."""

    def check(make: AdaptiveMaker, trial: Trial) -> Iterator[Evidence]:
        path = LinearPath(LINE, encoding_decoding_schedule(), "any")
        seen: list[float] = []

        def velocity(t: Tensor, x: Any) -> Tensor:
            seen.append(float(t[0]))
            return torch.where(t[:, None] < 0.5, 1.0, -2.0) * torch.cos(x)

        gen, rng = ODE().generator(path, "velocity", velocity), trial.rng()
        x = torch.linspace(-1, 1, 7, dtype=DOUBLE)[:, None]
        there = integrate(make(rtol=1e-9, atol=1e-9), gen, x, (0.0, 1.0), rng).state
        # dx/cos x = k dt: asinh(tan x) moves by k t, hence by ½ − 1 in all
        true = torch.atan(torch.sinh(torch.asinh(torch.tan(x)) - 0.5))
        yield near("through a jump of the field", there, true, 1e-7, "100 tolerances")
        calls = Calls()
        back = integrate(make(rtol=1e-9, atol=1e-9, calls=calls), gen, there, (1.0, 0.0), rng).state
        yield near("and back", back, x, 1e-7, "100 tolerances")
        yield at_most(
            "evaluations on the way back", calls.evaluations, 150, "no search for the jump"
        )
        yield at_most("no time above 1", max(seen), 1.0, "steps end on the grid")
        yield at_most("no time below 0", -min(seen), 0.0, "steps end on the grid")
        wild = flow(LINE, lambda t, y: 1 / (0.5 - t)[:, None] ** 3 + 0 * y)  # type: ignore[operator]
        words = "a field that is infinite on the way"
        call = lambda: integrate(make(), wild, x, (0.0, 1.0), rng)  # noqa: E731
        yield refusal(words, call, NumericalError, "finite")
        yield refusal("a tolerance of 0", lambda: make(rtol=0.0), DomainError, "positive")

    def straight(make: AdaptiveMaker) -> AdaptiveMaker:
        """It knows of no kinks."""

        def made(**given: Any) -> Sampler:
            right = make(**given)

            def step(gen: Any, carry: Any, t: float, u: float, rng: torch.Generator) -> Any:
                return right.step(replace(gen, origin=None), carry, t, u, rng)

            return but(right, step=step)

        return made

    def longer(make: AdaptiveMaker, size: float) -> AdaptiveMaker:
        def made(**given: Any) -> Sampler:
            right = make(**given)

            def step(gen: Any, carry: Any, t: float, u: float, rng: torch.Generator) -> Any:
                return right.step(gen, carry, t, u - size * (u - t), rng)

            return but(right, step=step)

        return made

    return Claim(
        "both-ways",
        "It runs forward and back, lands on the kinks of a schedule and on the ends of the grid, "
        "evaluates nothing beyond them, and says so where a field is infinite.",
        lambda: Adaptive,
        check,
        (Control("kinks unknown", straight), dial("a solve of length 1 − δ", longer, 0.5)),
        formula=r"X_{1,0}\circ X_{0,1} = \mathrm{id}",
        requires=("torchdiffeq",),
    )


# -- grids -----------------------------------------------------------------------------------------


def kinks() -> Claim[Callable[..., TimeGrid]]:
    """Encoding and decoding: a jump of the second derivative at ½."""

    def check(through: Callable[..., TimeGrid], trial: Trial) -> Iterator[Evidence]:
        path = LinearPath(LINE, encoding_decoding_schedule(), "gaussian")
        yield exact("the schedule names its kink", tuple(path.breakpoints), (0.5,))
        x = torch.linspace(-2, 2, 9, dtype=DOUBLE)[:, None]
        both = normal_fields(path, 0.8, 0.6)
        gen = ODE().generator(path, "velocity+score", both)
        counts = (17, 33, 65, 129)  # no grid has ½ among its times
        true = 0.8 + 0.6 * x
        half = integrate(RungeKutta(RK4), gen, x, TimeGrid.uniform(64, 0.0, 0.5), trial.rng())
        yield near(
            "at t = ½ the law is N(0, 1): the map is x", half.state, x, 1e-5, "h⁴, h = 1/128"
        )
        for words, sampler, expected in (("Runge–Kutta", RungeKutta(RK4), 4.0),):
            errors = []
            for n in counts:
                grid = through(TimeGrid.uniform(n), path.breakpoints)
                end = integrate(sampler, gen, x, grid, trial.rng()).state
                errors.append(float((end - true).abs().max()))
            yield order(words, [1 / n for n in counts], errors, expected)
        start = _Fixed(x)
        model = Model(both, path, start, "velocity+score")
        sampled = model.sample(9, ODE(), RungeKutta(RK4), TimeGrid.uniform(33), trial.rng())
        grid = through(TimeGrid.uniform(33), path.breakpoints)
        known = integrate(RungeKutta(RK4), gen, x, grid, trial.rng()).state
        yield equal("Model.sample steps on the kink", sampled, known)
        solved, _ = SolvedFlow(gen, RungeKutta(RK4), steps=33)(1.0, 0.0, true, trial.rng())
        back = integrate(RungeKutta(RK4), gen, true, grid.reversed(), trial.rng()).state
        yield near("SolvedFlow does too", solved, back, 1e-12, "the same steps")

    return Claim(
        "kinks",
        "Through the kink of a schedule, put on the grid, the classical method keeps order 4; "
        "models and likelihoods put it there.",
        lambda: TimeGrid.through,
        check,
        (Control("the grid as it was", lambda through: lambda grid, points: grid),),
        formula=r"\ddot\alpha(\tfrac12^-) \ne \ddot\alpha(\tfrac12^+)",
        entries=("L5.9",),
    )


@dataclass(frozen=True)
class _Fixed:
    """A law that returns its rows."""

    rows: Tensor

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.rows.shape[1:])

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        return self.rows[:count]


def shapes() -> Claim[Any]:
    """Their ends and their density of times."""

    def check(tools: dict[str, Callable[..., TimeGrid]], trial: Trial) -> Iterator[Evidence]:
        n = 64
        j = torch.arange(n + 1, dtype=DOUBLE) / n
        for exponent in (0.5, 1.5, 3.0):
            times = torch.tensor(tools["power"](n, exponent).times, dtype=DOUBLE)
            # the inverse warp gives equal steps
            yield equal(f"power {exponent:g}", times ** (1 / exponent), j, operations=256)
        times = torch.tensor(tools["cosine"](n, 0.1, 0.9).times, dtype=DOUBLE)
        yield near(
            "cosine", torch.acos(1 - 2 * (times - 0.1) / 0.8), math.pi * j, 1e-6, "√ε of acos"
        )
        inside = torch.tensor(tools["clipped"](n, 0.2, 0.7).times, dtype=DOUBLE)
        yield equal("clipped", inside, 0.2 + 0.5 * j)
        grid = tools["through"](TimeGrid((0.0, 0.5, 1.0, 0.2)), (0.3, 0.75, 0.5, 1.5))
        yield exact(
            "a path that turns", grid.times, (0.0, 0.3, 0.5, 0.75, 1.0, 0.75, 0.5, 0.3, 0.2)
        )

    def lifted(tools: dict[str, Any]) -> dict[str, Any]:
        return {**tools, "power": lambda n, p: power(n, 1 / p)}

    def one_way(tools: dict[str, Any]) -> dict[str, Any]:
        def through(grid: TimeGrid, points: Any) -> TimeGrid:
            return TimeGrid(tuple(sorted({*grid.times, *(p for p in points if p < 1)})))

        return {**tools, "through": through}

    def open_ended(tools: dict[str, Any], size: float) -> dict[str, Any]:
        return {**tools, "clipped": lambda n, a, b: TimeGrid.uniform(n, (1 - size) * a, b)}

    return Claim(
        "shapes",
        "Undoing the warp of a grid gives equal steps; a grid keeps its direction where times are "
        "added.",
        lambda: {"power": power, "cosine": cosine, "clipped": clipped, "through": TimeGrid.through},
        check,
        (
            Control("1/exponent", lifted),
            Control("times sorted", one_way),
            dial("a start of (1 − δ) t_0", open_ended),
        ),
        formula=r"t_j = (j/N)^p",
    )
