r"""Experts against exact marginals, automatic differentiation and draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from genpath.divergences import exact_divergence
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.samplers import RungeKutta, integrate
from genpath.schedules import AffineSchedule, Scalar
from genpath.spaces import Euclidean
from genpath.tableaus import RK4
from genpath.testing import Claim, Evidence, Trial, at_most, but, dial, equal, exact, mean, near
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.schedules import (
    linear_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

from ..dynamics import Composed
from ..experts import DiffusionExpert, ExactExpert, Expert, FieldExpert, noising as noising_of
from ..lifted import Lifted, Reparameterised
from ..normals import Normal
from ..tails import Tail, affine_tail
from ._scenes import DOUBLE

__all__ = ["experts"]

SCHEDULES: dict[str, Callable[[], AffineSchedule]] = {
    "linear": linear_schedule,
    "trigonometric": trigonometric_schedule,
    "variance preserving": variance_preserving_schedule,
}


EARLY = 1e-6
"""Drift and noise of a noising process are infinite at t = 0; they are evaluated here instead."""


def experts() -> list[Claim[Any]]:
    """Those of single experts."""
    return [alone(), lifted(), diffusions(), clocks(), envelopes()]


def bumpy(size: int) -> GaussianMixture:
    """Three components in R^size."""
    rng = torch.Generator().manual_seed(3)
    means = 1.2 * torch.randn(3, size, generator=rng, dtype=DOUBLE)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
    return GaussianMixture(weights, means, torch.tensor([0.5, 0.8, 0.35], dtype=DOUBLE))


def oracle(schedule: AffineSchedule, law: GaussianMixture) -> MixtureMarginal:
    """The exact marginal of a one-sided path to a mixture."""
    return MixtureMarginal(LinearPath(Euclidean(*law.event_shape), schedule, base="gaussian"), law)


def exact_expert(kind: str, size: int, name: str = "exact") -> ExactExpert:
    """It as an expert."""
    standard = Normal.isotropic((size,))
    start = Normal(standard.mean, standard.precision, DOUBLE)
    return ExactExpert(oracle(SCHEDULES[kind](), bumpy(size)), (size,), name, start=start)


def places(trial: Trial, size: int, count: int = 64) -> tuple[Tensor, Tensor]:
    """Times in (0.05, 0.95) and points."""
    rng = trial.rng("places")
    t = 0.05 + 0.9 * torch.rand(count, generator=rng, dtype=DOUBLE)
    return t, 1.3 * torch.randn(count, size, generator=rng, dtype=DOUBLE)


def time_rate(function: Callable[[Tensor, Tensor], Tensor], t: Tensor, x: Tensor) -> Tensor:
    """∂_t of a function of times and points, by forward differentiation."""
    found: Tensor = torch.func.jvp(lambda s: function(s, x), (t,), (torch.ones_like(t),))[1]
    return found


def balance(one: Expert, t: Tensor, x: Tensor, log_prob: Any = None) -> Tensor:
    """∂_t log q + div v + v·s, with the divergence by automatic differentiation."""
    velocity, div = exact_divergence(Euclidean(*one.event_shape), cast(Any, one.velocity), t, x)
    rate = time_rate(log_prob or one.log_prob, t, x)
    found: Tensor = rate + div + (velocity * one.score(t, x)).sum(1)
    return found


# -- single experts --------------------------------------------------------------------------------


def alone() -> Claim[Mapping[str, Expert]]:
    """Each expert by itself: its flow carries its start to its own mixture."""

    def make() -> Mapping[str, Expert]:
        one, two = oracle(linear_schedule(), bumpy(1)), exact_expert("trigonometric", 2, "two")
        starts = [Normal(n.mean, n.precision, DOUBLE) for n in map(Normal.isotropic, ((1,), (3,)))]
        three = oracle(trigonometric_schedule(), bumpy(3))
        rate, variance = noising_of(trigonometric_schedule())

        def both(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            return one.velocity(t, x), one.score(t, x)

        return {
            "fields": FieldExpert(both, (1,), "fields", start=starts[0]),
            "exact": two,
            "diffusion": DiffusionExpert(
                lambda t, x: three.score(t.clamp_min(EARLY), x),
                partial(_drift, rate),
                partial(_sigma, variance),
                (3,),
                start=starts[1],
            ),
        }

    def check(found: Mapping[str, Expert], trial: Trial) -> Iterator[Evidence]:
        for name, one in found.items():
            (size,) = one.event_shape
            law, rng = bumpy(size), trial.rng(name)
            assert one.start is not None
            x = one.start.sample(trial.count(8000), rng)
            flow = Composed(one.composition(), sigma=0.0)
            state = flow.state(x, 0.0, rng)
            end = integrate(
                RungeKutta(RK4), flat(flow.generator()), state, TimeGrid.uniform(40), rng
            )
            y = end.state["x"]
            k = torch.linspace(-1.5, 1.5, size + 1, dtype=DOUBLE)[:size].expand(1, size)
            wave = law.characteristic(k)[0]
            samples = torch.cat([y, y**2, torch.cos(y @ k.T), torch.sin(y @ k.T)], 1)
            first, second = law.moments()
            reference = [first, second.diagonal() + first**2, wave.real[None], wave.imag[None]]
            yield mean(
                f"{name} in R^{size}: moments and waves",
                samples,
                torch.cat(reference),
                allowance=1e-5,
                because="RK4 with 40 steps, and t = 1e-6 for 0",
            )

    def faster(found: Mapping[str, Expert], size: float) -> Mapping[str, Expert]:
        def both(one: Expert) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
            return lambda t, x: ((1 + size) * one.velocity(t, x), one.score(t, x))

        return {
            name: FieldExpert(both(one), one.event_shape, name, start=one.start)
            for name, one in found.items()
        }

    return Claim(
        "alone",
        "Experts of different dimensions and schedules each sample their own mixture.",
        make,
        check,
        (dial("v × (1 + δ)", faster, 0.5),),
        formula=r"X^{(i)}_t=\alpha_i(t)X_0+\beta_i(t)X_1\in\mathbb R^{d_i}",
        entries=("L8.1",),
        owes="existence",
    )


def _drift(rate: Scalar, t: Tensor, x: Tensor) -> Tensor:
    return -rate(t.clamp_min(EARLY))[:, None] * x


def _sigma(variance: Scalar, t: Tensor) -> Tensor:
    return variance(t.clamp_min(EARLY)).sqrt()


def flat(gen: Any) -> Any:
    """A generator without its potential, which is 0 for an expert alone."""

    def parts(t: Tensor, state: Any) -> Any:
        return replace(gen.evaluate(t, state), potential=None)

    return MarkovGenerator(gen.space, parts, frozenset({"velocity"}))


def lifted() -> Claim[Expert]:
    """A lifted expert moves its cylinder, and nothing outside of its coordinates."""
    index = (2, 0)

    def make() -> Expert:
        return Lifted(exact_expert("trigonometric", 2), index, 4)

    def check(one: Expert, trial: Trial) -> Iterator[Evidence]:
        t, x = places(trial, 4)
        inner = exact_expert("trigonometric", 2)

        def log_prob(s: Tensor, y: Tensor) -> Tensor:
            return inner.log_prob(s, y[:, list(index)])

        residual = balance(one, t, x, log_prob)
        yield equal("∂_t q̃ + div(ṽ q̃)", residual, torch.zeros_like(t), operations=1e5)
        score = torch.func.grad(lambda y: log_prob(t, y).sum())(x)
        yield equal("s̃", one.score(t, x), score, operations=1e4)
        names = ("velocity", "score", "velocity_divergence")
        found = one.fields(names, t, x)
        for name in names[:2]:
            yield exact(f"{name} outside", found[name][:, [1, 3]], torch.zeros(len(x), 2))
        div = exact_divergence(Euclidean(4), cast(Any, one.velocity), t, x)[1]
        yield equal("div ṽ", found["velocity_divergence"], div, operations=1e4)

    def skewed(one: Expert, size: float) -> Expert:
        """A part of the first coordinate leaks into another."""

        def fields(names: Any, t: Tensor, x: Tensor, probe: Any = None) -> dict[str, Tensor]:
            found = one.fields(names, t, x, probe)
            return {
                n: value + size * value.roll(1, 1) if value.dim() == 2 else value
                for n, value in found.items()
            }

        return but(
            one, fields=fields, velocity=lambda t, x: fields(("velocity",), t, x)["velocity"]
        )

    return Claim(
        "lifted",
        "A lifted expert is the expert of a cylinder: it solves its continuity equation, is 0 "
        "outside of its coordinates and has the divergence of the inner one.",
        make,
        check,
        (
            dial("δ of a coordinate leaks", skewed, 0.5),
            dial("v × (1 + δ)", lambda one, d: _sped(one, d), 0.5),
        ),
        formula=r"\tilde q=q\circ\pi,\ \tilde s=\iota s\pi,\ \tilde v=\iota v\pi,\ "
        r"\partial_t\tilde q+\nabla\!\cdot(\tilde v\tilde q)=0",
        entries=("L8.2",),
        owes="density",
    )


def _sped(one: Expert, size: float) -> Expert:
    return but(one, velocity=lambda t, x: (1 + size) * one.velocity(t, x))


def diffusions() -> Claim[Mapping[str, DiffusionExpert]]:
    """An interpolant as a noising process: f, σ and the equation of log q."""

    def make() -> Mapping[str, DiffusionExpert]:
        found = {}
        for name, schedule in SCHEDULES.items():
            rate, variance = noising_of(schedule())
            found[name] = DiffusionExpert(
                oracle(schedule(), bumpy(2)).score,
                partial(_drift, rate),
                partial(_sigma, variance),
                (2,),
                name,
            )
        return found

    def check(found: Mapping[str, DiffusionExpert], trial: Trial) -> Iterator[Evidence]:
        t, x = places(trial, 2)
        closed = {"linear": 2 * (1 - t) / t, "variance preserving": 2 / t}
        for name, one in found.items():
            law = oracle(SCHEDULES[name](), bumpy(2))
            rate = time_rate(law.log_prob, t, x)
            f, div_f = exact_divergence(Euclidean(2), cast(Any, one.drift), t, x)
            s, div_s = exact_divergence(Euclidean(2), cast(Any, law.score), t, x)
            half = 0.5 * one.sigma(t) ** 2
            change = div_f + (f * s).sum(1) - half * (div_s + s.square().sum(1))
            size = float(rate.abs().max())
            yield equal(f"{name}: ∂_t log q", change, rate, operations=1e5, scale=size)
            yield equal(f"{name}: v", one.velocity(t, x), law.velocity(t, x), operations=1e5)
            derived = one.fields(("score_divergence", "velocity_divergence"), t, x)
            for field in ("score", "velocity"):
                div = law.divergence(t, x, field)
                value = derived[f"{field}_divergence"]
                yield equal(f"{name}: div {field}", value, div, operations=1e5)
            if name in closed:
                yield equal(f"{name}: σ²", one.sigma(t) ** 2, closed[name], operations=1e4)

    def drifted(found: Any, size: float) -> Any:
        return {
            n: but(one, drift=lambda t, x, one=one: (1 + size) * one.drift(t, x))
            for n, one in found.items()
        }

    def louder(found: Any, size: float) -> Any:
        return {
            n: but(one, sigma=lambda t, one=one: (1 + size) * one.sigma(t))
            for n, one in found.items()
        }

    return Claim(
        "noising",
        "The path x_t = α x0 + β x1 is that of a noising process with f = −(β̇/β) x and "
        "σ² = 2α(α β̇/β − α̇); its velocity is −f + ½σ² s.",
        make,
        check,
        (dial("f × (1 + δ)", drifted, 0.5), dial("σ × (1 + δ)", louder, 0.5)),
        formula=r"f=-\tfrac{\dot\beta}{\beta}x,\quad "
        r"\sigma^2=2\alpha(\alpha\tfrac{\dot\beta}{\beta}-\dot\alpha),\quad "
        r"v=-f+\tfrac{\sigma^2}{2}s",
        entries=("L7.12", "L7.13"),
        owes="density",
    )


def clocks() -> Claim[Expert]:
    """An expert run by another clock solves the equation of q_{τ(t)}."""
    clock = Scalar(lambda t: t**2 * (3 - 2 * t), lambda t: 6 * t * (1 - t))

    def make() -> Expert:
        one = exact_expert("linear", 2)
        return Reparameterised(replace_tail(one, affine_tail(linear_schedule())), clock)

    def check(one: Expert, trial: Trial) -> Iterator[Evidence]:
        t, x = places(trial, 2)
        law = oracle(linear_schedule(), bumpy(2))
        tau = t**2 * (3 - 2 * t)
        yield equal("q_{τ(t)}", one.log_prob(t, x), law.log_prob(tau, x), operations=1e4)

        def log_prob(s: Tensor, y: Tensor) -> Tensor:
            return law.log_prob(s**2 * (3 - 2 * s), y)

        residual = balance(one, t, x, log_prob)
        yield equal("∂_t q + div(v q)", residual, torch.zeros_like(t), operations=1e5)
        div = exact_divergence(Euclidean(2), cast(Any, one.velocity), t, x)[1]
        found = one.fields(("velocity_divergence",), t, x)["velocity_divergence"]
        yield equal("div v", found, div, operations=1e4)
        assert one.tail is not None
        yield equal("tail", one.tail.precisions(t).flatten(), (1 - tau) ** -2, operations=1e3)

    def unhurried(one: Expert, size: float) -> Expert:
        """τ̇^{1−δ} in place of τ̇."""

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            return one.velocity(t, x) / clock.rate(t)[:, None] ** size

        return but(one, velocity=velocity)

    return Claim(
        "clock",
        "An expert run by a clock τ has the marginals q at τ(t), which its velocity τ̇ v carries.",
        make,
        check,
        (dial("τ̇^(1−δ) in place of τ̇", unhurried, 1.0), dial("v × (1 + δ)", _sped, 0.5)),
        formula=r"\partial_t q_{\tau(t)}+\nabla\!\cdot(\dot\tau\,v_{\tau(t)}q_{\tau(t)})=0",
        entries=("L8.26",),
        owes="density",
    )


def replace_tail(one: ExactExpert, tail: Any) -> ExactExpert:
    """The expert with a tail."""
    return ExactExpert(one.marginal, one.event_shape, one.name, tail=tail, start=one.start)


TailOf = Callable[[AffineSchedule, float], Tail]


def envelopes() -> Claim[TailOf]:
    """Two points as data: log q between its envelopes, and the limit of a ratio."""
    points = torch.tensor([[-1.0], [1.0]], dtype=DOUBLE)
    two = GaussianMixture(torch.ones(2, dtype=DOUBLE) / 2, points, torch.zeros(2, dtype=DOUBLE))

    def bounds(tail: Tail, t: Tensor) -> tuple[Tensor, Tensor]:
        assert tail.linear is not None
        return tail.precisions(t)[:, 0, 0], tail.linear(t)

    def check(tail: TailOf, trial: Trial) -> Iterator[Evidence]:
        r = torch.logspace(-1, 2, 40, dtype=DOUBLE)
        x = torch.cat([-r, r])[:, None]
        for name, schedule in ((n, make()) for n, make in SCHEDULES.items()):
            law, reach = oracle(schedule, two), tail(schedule, 1.0)
            for time in (0.1, 0.4, 0.7):
                t = torch.full((len(x),), time, dtype=DOUBLE)
                precision, slope = bounds(reach, t)
                rest = law.log_prob(t, x) + 0.5 * precision * x[:, 0] ** 2
                rest = rest - 0.5 * (precision / (2 * math.pi)).log()
                low, side = -0.5 * schedule.beta(t) ** 2 * precision, slope * x[:, 0].abs()
                slack = 1e-12 * float(precision[0] * 1e4)  # rounding at |x| = 100
                because = "∫ e^{βx·y/α² − β²|y|²/2α²} dq_1(y) for |y| ≤ R"
                what = f"{name}, t = {time:g}"
                yield at_most(f"{what}: above", rest, side, because, slack=slack)
                yield at_most(f"{what}: below", low - side, rest, because, slack=slack)
        yield from limit(tail, r[r > 10])

    def limit(tail: TailOf, r: Tensor) -> Iterator[Evidence]:
        """−2 log h/(C x²) for h = q/q'^0.4: what is left is of order 1/|x|."""
        t, powers = torch.full_like(r, 0.3), (1.0, -0.4)
        total, rest, log_h = (torch.zeros_like(r) for _ in range(3))
        for power, name in zip(powers, ("trigonometric", "linear"), strict=True):
            schedule = SCHEDULES[name]()
            precision, slope = bounds(tail(schedule, 1.0), t)
            log_h = log_h + power * oracle(schedule, two).log_prob(t, r[:, None])
            total = total + power * precision
            constant = 0.5 * (precision / (2 * math.pi)).log().abs()
            constant = constant + 0.5 * schedule.beta(t) ** 2 * precision
            rest = rest + abs(power) * (slope * r + constant)
        size = total.abs() * r**2
        because = "2 (Σ|γ|B |x| + constant)/(|C| x²)"
        ratio = -2 * log_h / (total * r**2)
        yield near("−2 log h/(C x²)", ratio, torch.ones_like(r), 2 * rest / size, because)

    def narrow(tail: TailOf, size: float) -> TailOf:
        def wrong(schedule: AffineSchedule, radius: float) -> Tail:
            right = tail(schedule, radius)
            return replace(right, precisions=lambda t: (1 + size) * right.precisions(t))

        return wrong

    def short(tail: TailOf, size: float) -> TailOf:
        return lambda schedule, radius: tail(schedule, (1 - size) * radius)

    return Claim(
        "envelopes",
        "For data in a ball, log q_t differs from −|x|²/2α² by at most B |x| and a constant, and "
        "so −2 log h/|x|² tends to Σ γ/α².",
        lambda: lambda schedule, radius: affine_tail(schedule, 1.0, radius),
        check,
        (dial("P × (1 + δ)", narrow, 0.5), dial("R × (1 − δ)", short, 0.5)),
        formula=r"c\,e^{-|x|^2/2\alpha^2-B|x|}\le q_t(x)\le C\,e^{-|x|^2/2\alpha^2+B|x|},"
        r"\quad B=|\beta|R/\alpha^2",
        entries=("L8.7", "L8.8"),
        owes="existence",
    )
