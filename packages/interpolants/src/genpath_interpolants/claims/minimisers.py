r"""Minimisers: the conditional expectation of the target, which the exact fields are.

    L[f + g] − L[f] = ½ E|g|²                            f the exact field
    ∂_θ E ½|target − f_θ|² = ∂_θ E ½|field − f_θ|²

The fields are those of the mixture, which are compared with quadrature elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.laws import Gaussian
from genpath.models import Model
from genpath.objectives import Regression, stratified_times
from genpath.paths import Draw
from genpath.schedules import Scalar
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, mean

from ..paths import LinearPath
from ..presets import linear
from .cases import (
    DOUBLE,
    LINE,
    Case,
    Cases,
    cases,
    each,
    line_mixture,
    normal,
    scaled_field,
    seeded,
    single,
)

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (
        excess("velocity", ("L2.7", "A2")),
        excess("noise", ("L2.15",)),
        excess("score", ("L2.15",)),
        spread(),
        two_points(),
        gradient(),
        unbiased(),
        crossing(),
    )


def drawn(path: LinearPath, t: Tensor, pairs: Any, trial: Trial) -> Tensor:
    """x_t of the pairs, with the same latent noise each time."""
    found: Tensor = path.draw(t, pairs.x0, pairs.x1, seeded(trial.seed)).state
    return found


def altered_target(change: Callable[..., Tensor]) -> Any:
    """A fault of the targets in every case: ``change(path, name, draw, *size)``."""

    def plant(case: Case, *size: float) -> Case:
        path = case.path

        def target(name: str, draw: Draw) -> Tensor:
            return change(path, name, draw, *size)

        def together(name: str, *given: Any) -> tuple[Draw, Tensor]:
            draw = path.draw(*given)
            return draw, target(name, draw)

        return replace(case, path=but(path, target=target, draw_with_target=together))

    return each(plant)


def scaled_target(path: LinearPath, name: str, draw: Draw, size: float) -> Tensor:
    """target × (1 + δ)."""
    return (1 + size) * path.target(name, draw)


def turned_target(path: LinearPath, name: str, draw: Draw) -> Tensor:
    """−target."""
    return -path.target(name, draw)


def excess(name: str, entries: tuple[str, ...]) -> Claim[Cases]:
    """The excess of the objective over its least value is half the mean square distance."""

    def other(case: Case, t: Tensor, x: Tensor) -> Tensor:
        exactly: Tensor = case.marginal.field(name)(t, x)
        return 0.3 * exactly + 0.1 * torch.sin(x + 0.5)

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        count, base = trial.count(40_000, 20_000), Gaussian((2,), dtype=DOUBLE)
        for case in found:
            rng, path = trial.rng(case.words), case.path
            pairs = Pairs(normal(count, 2, rng=rng), case.law.sample(count, rng))
            t = 0.1 + 0.8 * torch.rand(count, generator=rng, dtype=DOUBLE)

            def values(field: Any, pairs: Any = pairs, t: Tensor = t, path: Any = path) -> Tensor:
                found: Tensor = Regression()(
                    Model(field, path, base, name), pairs, t, seeded(trial.seed)
                )
                return found

            def wrong(t: Tensor, x: Any, case: Case = case) -> Tensor:
                return other(case, t, x)

            x = drawn(path, t, pairs, trial)
            least = case.marginal.field(name)
            distance = 0.5 * (wrong(t, x) - least(t, x)).square().sum(1)
            yield mean(case.words, values(wrong) - values(least) - distance, 0.0)

    faults: tuple[Control[Cases], ...] = (
        dial(f"the {name}'s minimiser × (1 + δ)", scaled_field(name), 0.5),
        dial("targets × (1 + δ)", altered_target(scaled_target), 0.5),
        Control("−target", altered_target(turned_target)),
    )
    words = {"velocity": "b", "noise": r"\eta_z", "score": "s"}[name]
    return Claim(
        f"minimiser-{name}",
        f"The regression on the {name}'s target is least at the exact {name}, and exceeds its "
        "least value by half the mean square distance to it.",
        cases() if name == "velocity" else cases("sqrt", "quadratic", base="any"),
        check,
        faults,
        formula=rf"L[\hat f] - L[{words}] = \tfrac12\|\hat f - {words}\|^2_{{L^2(\rho)}}",
        entries=entries,
        owes="minimiser",
    )


def spread() -> Claim[Cases]:
    """The regression on −z/γ: the same excess, with a variance that grows like 1/γ²."""
    std = 0.6

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        count, base = trial.count(80_000, 40_000), Gaussian((1,), dtype=DOUBLE)
        rng, path, least = trial.rng(), case.path, case.marginal.score
        pairs = Pairs(normal(count, 1, rng=rng), case.law.sample(count, rng))
        for time in (0.5, 0.02, 0.002):
            t = torch.full((count,), time, dtype=DOUBLE)

            def values(field: Any, t: Tensor = t) -> Tensor:
                return Regression()(Model(field, path, base, "score"), pairs, t, seeded(trial.seed))

            gap = values(lambda t, x: least(t, x) + 1) - values(least)
            square = time * (1 - time)  # γ², and 1/V the Fisher information of the law
            level = (1 - time) ** 2 + time**2 * std**2 + square
            words = f"γ² = {square:.3g}"
            yield mean(f"{words}: excess of s + 1, times γ", gap * square**0.5, square**0.5 / 2)
            noise = (gap - 0.5).square() * square
            yield mean(f"{words}: its variance times γ²", noise, 1 - square / level)

    return Claim(
        "score-variance",
        "The excess of the regression on −z/γ has the right mean at every time, and a variance "
        "per draw of 1/γ² less the Fisher information.",
        cases("sqrt", law=lambda: single(0.4, std), scale=1.0, base="any"),
        check,
        (
            dial("targets × (1 + δ)", altered_target(scaled_target), 0.5),
            dial("s × (1 + δ)", scaled_field("score")),
        ),
        formula=r"\mathrm{Var}\big(s + z/\gamma\big) = \gamma^{-2} - \mathbb E|s|^2",
        entries=("L2.10",),
    )


def two_points() -> Claim[LinearPath]:
    """Data on ±1: the regression's gradient vanishes at the closed form, cell by cell."""
    t, edges = 0.55, torch.linspace(-0.6, 0.6, 9, dtype=DOUBLE)

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(40_000)
        x1 = 2.0 * torch.randint(2, (count, 1), generator=rng).double() - 1
        pairs, times = Pairs(normal(count, 1, rng=rng), x1), torch.full((count,), t, dtype=DOUBLE)
        base = Gaussian((1,), dtype=DOUBLE)
        for name in ("denoiser", "base_denoiser", "velocity"):

            def values(w: Tensor, name: str = name) -> Tensor:
                def field(s: Tensor, x: Any) -> Tensor:
                    mean_end = torch.tanh(t * x / (1 - t) ** 2)
                    start = (x - t * mean_end) / (1 - t)
                    exactly = {"denoiser": mean_end, "base_denoiser": start}
                    found: Tensor = exactly.get(name, mean_end - start)
                    cell = torch.bucketize(x[:, 0].contiguous(), edges)
                    return found + w[cell][:, None]

                return Regression()(
                    Model(field, path, base, name), pairs, times, seeded(trial.seed)
                )

            zero = torch.zeros(len(edges) + 1, dtype=DOUBLE)
            columns = [
                torch.func.jvp(values, (zero,), (e,))[1] for e in torch.eye(len(zero), dtype=DOUBLE)
            ]
            yield mean(f"{name}: ∂ of the value in each cell", torch.stack(columns, 1), 0.0)

    def wrong(path: LinearPath, size: float) -> LinearPath:
        def together(*given: Any) -> tuple[Draw, Tensor]:
            draw, target = path.draw_with_target(*given)
            return draw, (1 + size) * target

        return but(path, draw_with_target=together)

    return Claim(
        "two-point-regression",
        "For data on ±1, the regression on x1, on the noise and on the motion is least at the "
        "closed forms, in each of ten cells of the line.",
        lambda: LinearPath(LINE, base="gaussian"),
        check,
        (dial("targets × (1 + δ)", wrong, 0.5), Control("targets × 0.7", lambda p: wrong(p, -0.3))),
        formula=r"\eta_1 = \tanh\frac{\beta x}{\alpha^2}, \quad \eta_z = "
        r"\frac{x - \beta\eta_1}{\alpha}",
        entries=("L2.11", "A4", "F5"),
        owes="minimiser",
    )


def gradient() -> Claim[Cases]:
    """The gradient of the regression on conditional targets is that on the marginal field."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        count, base = trial.count(32_000, 16_000), Gaussian((2,), dtype=DOUBLE)
        theta = torch.tensor([0.3, -0.2, 0.5, 0.1], dtype=DOUBLE)
        for case in found:
            rng, path = trial.rng(case.words), case.path
            pairs = Pairs(normal(count, 2, rng=rng), case.law.sample(count, rng))
            t = 0.1 + 0.8 * torch.rand(count, generator=rng, dtype=DOUBLE)

            def field(w: Tensor, t: Tensor, x: Tensor) -> Tensor:
                return w[0] * x + w[1] * torch.sin(x) + w[2] * t[:, None] + w[3] * x.flip(1)

            def conditional(w: Tensor, path: Any = path, pairs: Any = pairs, t: Any = t) -> Tensor:
                model = Model(partial(field, w), path, base)
                return Regression()(model, pairs, t, seeded(trial.seed))

            x = drawn(path, t, pairs, trial)
            exactly = case.marginal.velocity(t, x)

            def marginal(w: Tensor, x: Any = x, t: Any = t, exactly: Any = exactly) -> Tensor:
                found: Tensor = 0.5 * (field(w, t, x) - exactly).square().sum(1)
                return found

            columns = [
                torch.func.jvp(lambda w: conditional(w) - marginal(w), (theta,), (e,))[1]
                for e in torch.eye(4, dtype=DOUBLE)
            ]
            yield mean(f"{case.words}: ∂_θ", torch.stack(columns, 1), 0.0)

    return Claim(
        "same-gradient",
        "Regressing on the motion of single pairs has the gradient of regressing on the "
        "marginal velocity.",
        cases(),
        check,
        (
            dial("targets × (1 + δ)", altered_target(scaled_target), 0.5),
            dial("b × (1 + δ)", scaled_field("velocity"), 0.5),
            Control("−target", altered_target(turned_target)),
        ),
        formula=r"\nabla_\theta\,\mathbb E\tfrac12|\dot x_t - f_\theta|^2 = "
        r"\nabla_\theta\,\mathbb E\tfrac12|b - f_\theta|^2",
        entries=("L1.20",),
    )


# -- batches -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batches:
    """How a batch is made and scored."""

    path: LinearPath
    times: Callable[..., Tensor]
    objective: Any


def unbiased() -> Claim[Batches]:
    """The empirical loss against its integral, by the moments of normal laws."""
    centre, std, a, slope, shift = 0.8, 0.6, 1.5, 0.4, 0.3

    def risk(t: Tensor) -> Tensor:
        """E ½|x1 − x0 + γ̇z − (slope x + shift)|² for γ² = a t²(1−t)²."""
        g, rate = a**0.5 * t * (1 - t), a**0.5 * (1 - 2 * t)
        gap = centre - slope * t * centre - shift
        weights = (-1 - slope * (1 - t), std * (1 - slope * t), rate - slope * g)
        return 0.5 * (gap**2 + sum(w**2 for w in weights))

    def fitted(t: Tensor, x: Any) -> Tensor:
        found: Tensor = slope * x + shift
        return found

    def check(thing: Batches, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(100_000, 50_000)
        pairs = Pairs(normal(count, 1, rng=rng), centre + std * normal(count, 1, rng=rng))
        model = Model(fitted, thing.path, Gaussian((1,), dtype=DOUBLE))
        grid = torch.linspace(0, 1, 2001, dtype=DOUBLE)
        whole = float(torch.trapezoid(risk(grid), grid))
        for words, stratified in (("independent", False), ("stratified", True)):
            t = thing.times(count, rng, stratified).double()
            yield mean(f"{words} times", thing.objective(model, pairs, t, rng), whole)
            x = drawn(thing.path, t, pairs, trial)
            second = torch.cat([x, x**2], 1)
            square = (1 + std**2 + centre**2) / 3 + a / 30  # ∫ (1−t)², t² and γ²
            yield mean(f"moments, {words} times", second, torch.tensor([centre / 2, square]))
        u = torch.rand(count, generator=rng, dtype=DOUBLE)
        early = thing.objective(model, pairs, u**2, rng) * 2 * u  # t = u² has density 1/(2√t)
        yield mean("early times more often, weighted", early, whole)

    def faster(thing: Batches, size: float) -> Batches:
        def times(*given: Any) -> Tensor:
            return thing.times(*given) ** (1 + size)

        return replace(thing, times=times)

    def double(thing: Batches, size: float) -> Batches:
        right = thing.objective
        return replace(thing, objective=lambda *given: (1 + size) * right(*given))

    def noisier(thing: Batches) -> Batches:
        square = thing.path.schedule.gamma_squared
        scalar = Scalar(lambda t: 2 * square(t), lambda t: 2 * square.rate(t))
        path = but(thing.path, schedule=but(thing.path.schedule, gamma_squared=scalar))
        return replace(thing, path=path)

    return Claim(
        "empirical-loss",
        "The mean of the loss over drawn times, ends and noise is its integral, whether times "
        "are independent, stratified, or drawn by another law and weighted.",
        lambda: Batches(linear(LINE, "quadratic", a), stratified_times, Regression()),
        check,
        (
            dial("the loss × (1 + δ)", double, 0.5),
            dial("times to the power 1 + δ", faster, 0.5),
            Control("γ² × 2", noisier),
        ),
        formula=r"L[f] = \int_0^1 \mathbb E\,\tfrac12|\dot x_t - f(t,x_t)|^2\,dt",
        entries=("L2.16", "A1"),
    )


def crossing() -> Claim[Cases]:
    """E|ẋ − b|² = E|ẋ|² − E|b|²; for standard ends 2(1 − correlation) at t = ½."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(40_000)
        for case in found:
            rng, path = trial.rng(case.words), case.path
            for c in (-0.5, 0.0, 0.8):
                u = normal(2, count, 1, rng=rng)
                draw = path.draw(0.5, u[0], c * u[0] + (1 - c * c) ** 0.5 * u[1], rng)
                speed = path.target("velocity", draw)  # b = 0: ẋ and x_½ are independent
                yield mean(f"{case.words}, correlation {c:g}", speed**2, 2 * (1 - c))
            x0, x1 = normal(count, 1, rng=rng), case.law.sample(count, rng)
            draw = path.draw(0.7, x0, x1, rng)
            speed, b = path.target("velocity", draw), case.marginal.velocity(0.7, draw.state)
            yield mean("E (ẋ − b) b", (speed - b) * b, 0.0)

    return Claim(
        "crossing",
        "How much the paths of pairs cross, E|ẋ − b|², depends on the coupling: 2(1 − c) at "
        "t = ½ for standard ends of correlation c.",
        cases("none", law=line_mixture),
        check,
        (
            dial("ẋ × (1 + δ)", altered_target(scaled_target), 0.5),
            Control("b × 1.5", lambda found: scaled_field("velocity")(found, 0.5)),
        ),
        formula=r"\mathbb E|\dot x_t - b|^2 = \mathbb E|\dot x_t|^2 - \mathbb E|b|^2",
        entries=("L5.22",),
    )
