r"""The corrector table against the generic potential."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    dial,
    equal,
    exact,
    near,
    refusal,
)
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

from ..annealing import Annealed, ProductOfExperts
from ..compositions import Composition
from ..correctors import Corrector, GeometricAverage, Guidance, RewardTilt, Row, WeightedExperts
from ..dynamics import Composed, Noising
from ..experts import DiffusionExpert
from ..processes import diffusion_form
from ._diffusing import generic, mixed, points, spreading

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of the topic ``compose.correctors``."""
    return (
        averages(),
        three_experts(),
        powers(),
        rewards(),
        one_process(),
    )


@dataclass(frozen=True)
class Case:
    """A row of the table with experts."""

    corrector: Corrector
    experts: Sequence[DiffusionExpert]

    @property
    def words(self) -> str:
        return f"{self.corrector} on R^{self.experts[0].event_shape[0]}"


Cases = tuple[Case, ...]
Weight = Callable[[Row], Tensor]


def each(change: Callable[[Corrector, Weight], Weight]) -> Callable[[Cases], Cases]:
    """A fault in the weight of every row."""

    def one(case: Case) -> Case:
        wrong = change(case.corrector, case.corrector.weight)
        return replace(case, corrector=but(case.corrector, weight=wrong))

    return lambda cases: tuple(one(case) for case in cases)


def scaled(cases: Cases, size: float) -> Cases:
    """g × (1 + δ)."""
    return each(lambda _, right: lambda row: (1 + size) * right(row))(cases)


def shifted(cases: Cases, size: float) -> Cases:
    """g + δ: the constant that only log Z sees."""
    return each(lambda _, right: lambda row: right(row) + size)(cases)


def without_drift(cases: Cases) -> Cases:
    """div f dropped."""
    return each(lambda _, right: lambda row: right(but(row, drift_divergence=0 * row.t)))(cases)


def louder(cases: Cases) -> Cases:
    """Noise × 1.1, drift and weight as before."""
    return tuple(
        replace(case, corrector=but(case.corrector, zeta=1.1 * case.corrector.zeta))
        for case in cases
    )


def plane(shift: float = 0.4) -> list[DiffusionExpert]:
    """Two mixtures of the plane under one schedule, as diffusion experts."""
    schedule = linear_schedule()
    first, second = mixed(schedule, 0.0, "a"), mixed(schedule, shift, "b")
    return [diffusion_form(expert, schedule) for expert in (first, second)]


def against_generic(cases: Cases, trial: Trial) -> Iterator[Evidence]:
    """Every row against ∂_t log h − (L*h)/h, constants included."""
    for case in cases:
        size = case.experts[0].event_shape[0]
        t, x = points(trial.rng(), trial.count(60, 12), size, 0.15)
        gen = case.corrector.generator(case.experts)
        found = gen(t, {"x": x}).potential
        true = generic(gen, case.corrector.composition(case.experts), t, x)
        scale = 1 + float(true.abs().max()) + float(gen(t, {"x": x}).velocity["x"].square().max())
        because = "derivatives of log h to second order, of the size of the drift²"
        yield equal(case.words, found, true, operations=4096, scale=scale, because=because)


def averages() -> Claim[Cases]:
    """L7.14."""

    def make() -> Cases:
        line, flat, mixtures = spreading(1, 2, 1, mean=0.5), spreading(2, 2, 1), plane()
        rows = [GeometricAverage(b) for b in (-0.3, 0.4, 2.0)]
        found = [Case(row, experts) for row in rows for experts in (line, flat, mixtures)]
        found += [Case(Guidance(0.7), line), Case(Guidance(0.7), mixtures)]
        return (*found, *(Case(GeometricAverage(end), line) for end in (0.0, 1.0)))

    def check(cases: Cases, trial: Trial) -> Iterator[Evidence]:
        yield from against_generic(cases, trial)
        t, x = points(trial.rng("ends"), 10, 1)
        for case in cases[-2:]:
            parts = case.corrector.generator(case.experts)(t, {"x": x})
            yield exact(f"{case.words}: no weights", parts.potential, torch.zeros_like(t))
        for experts in (cases[0].experts, cases[2].experts):
            t, x = points(trial.rng("same"), 10, experts[0].event_shape[0])
            first = Guidance(0.7).generator(experts)(t, {"x": x})
            second = GeometricAverage(1.7).generator(experts[::-1])(t, {"x": x})
            words = "guidance w is the average at 1 + w"
            yield equal(words, first.potential, second.potential, operations=64)

    def wrong_sign(corrector: Corrector, right: Weight) -> Weight:
        return lambda row: -right(row)

    return Claim(
        "geometric-averages",
        "The weight of a geometric average and of guidance is the generic one, constants included; "
        "it is 0 where one expert is left.",
        make,
        check,
        (
            dial("g × (1 + δ)", scaled, 0.01),
            dial("g + δ", shifted, 0.01),
            Control("the sign of g", each(wrong_sign)),
            Control("noise × 1.1", louder),
        ),
        formula=r"g=\tfrac{\sigma^2}{2}\beta(\beta-1)|s_1-s_2|^2",
        entries=("L7.14",),
    )


def three_experts() -> Claim[Cases]:
    """L7.16 and H7.2."""

    def make() -> Cases:
        line, flat = spreading(1, 2, 1, 1.3, mean=0.4), spreading(2, 2, 1, 1.3)
        rows = [WeightedExperts(g) for g in ((1.2, -0.4, 0.9), (0.2, 0.5, 0.3), (1.5, 0.25, -0.75))]
        found = [Case(row, experts) for row in rows for experts in (line, flat)]
        found.append(Case(WeightedExperts((1.4, 0.6)), plane()))
        return (*found, Case(WeightedExperts((0.0, 1.0, 0.0)), line))

    def pairs(gammas: Sequence[float], scores: Sequence[Tensor], variance: Tensor) -> Tensor:
        total = torch.zeros_like(variance)
        for g, s in zip(gammas, scores, strict=True):
            for k, r in zip(gammas, scores, strict=True):
                total = total - 0.25 * variance * g * k * (s - r).square().sum(1)
        return total

    def check(cases: Cases, trial: Trial) -> Iterator[Evidence]:
        yield from against_generic(cases, trial)
        for case in cases[2:6]:
            t, x = points(trial.rng("pairs"), 20, case.experts[0].event_shape[0])
            found = case.corrector.generator(case.experts)(t, {"x": x}).potential
            assert isinstance(case.corrector, WeightedExperts)
            scores = [e.score(t, x) for e in case.experts]
            true = pairs(case.corrector.gammas, scores, case.experts[0].sigma(t) ** 2)
            yield equal(f"{case.words}: by pairs", found, true, operations=256)
        t, x = points(trial.rng("one"), 10, 1)
        alone = cases[-1].corrector.generator(cases[-1].experts)(t, {"x": x}).potential
        yield equal("one expert alone has no weights", alone, torch.zeros_like(t), operations=64)

    return Claim(
        "several-experts",
        "The weight of any number of experts with constant exponents is the generic one, also "
        "where they do not sum to 1; where they do it is a sum over pairs.",
        make,
        check,
        (
            dial("g × (1 + δ)", scaled, 0.01),
            dial("g + δ", shifted, 0.01),
            Control("(Σγ − 1) div f dropped", without_drift),
            Control("noise × 1.1", louder),
        ),
        formula=r"g=(\sum\gamma_i-1)\nabla\cdot f-\tfrac{\sigma^2}{2}"
        r"\big(\sum\gamma_i|s_i|^2-|s^*|^2\big)",
        entries=("L7.16", "H7.2"),
    )


def powers() -> Claim[Cases]:
    """L7.17 and L7.18."""

    def make() -> Cases:
        line, flat, mixtures = spreading(1, 2, 1, mean=0.4), spreading(2, 2, 1), plane()
        found = [
            Case(Annealed(2.5, a), experts[:1])
            for a in (0.0, 0.3, 0.5)
            for experts in (line, flat, mixtures)
        ]
        found += [
            Case(ProductOfExperts(beta, a), experts)
            for beta, a in ((1.0, 0.0), (1.5, 0.3), (0.6, 0.5))
            for experts in (line, flat, mixtures)
        ]
        return (*found, Case(ProductOfExperts(1.2, 0.5), spreading(1, 2, 1, 1.3, mean=0.3)))

    def check(cases: Cases, trial: Trial) -> Iterator[Evidence]:
        yield from against_generic(cases, trial)
        edge = 2.5 / 3
        yield exact("at a = β/(2(β−1)) there is no noise", Annealed(2.5, edge).zeta < 1e-6)
        words = "the noise ζσ is real"
        for row in (Annealed, ProductOfExperts):
            yield refusal(f"{row.__name__} beyond", _beyond(row, edge), ValueError, words)

    def dropped(corrector: Corrector, right: Weight) -> Weight:
        """The cross term s1·s2, or the square of the score."""

        def weight(row: Row) -> Tensor:
            total = torch.stack(list(row.scores)).sum(0)
            squares = torch.stack([s.square().sum(1) for s in row.scores]).sum(0)
            return right(row) - 0.05 * row.variance * (total.square().sum(1) - 0.5 * squares)

        return weight

    return Claim(
        "annealing",
        "The weights of powers and of powers of products are the generic ones, for every share a "
        "of tempered noise, and do not depend on it; negative ζ² is refused.",
        make,
        check,
        (
            dial("g × (1 + δ)", scaled, 0.01),
            Control("div f dropped", without_drift),
            Control("a twentieth of σ²(|S|² − ½Σ|s|²) dropped", each(dropped)),
            Control("noise × 1.1", louder),
        ),
        formula=r"g=(n\beta-1)\nabla\cdot f+\tfrac{\beta\sigma^2}{2}"
        r"\big(\beta|\textstyle\sum s_i|^2-\sum|s_i|^2\big)",
        entries=("L7.17", "L7.18"),
    )


def _beyond(row: Callable[..., Corrector], edge: float) -> Callable[[], Corrector]:
    return lambda: row(2.5, edge + 1e-3)


def rewards() -> Claim[Cases]:
    """L7.19."""

    def reward(x: Tensor) -> Tensor:
        return (torch.sin(1.3 * x) + 0.2 * x**2).sum(1) + 0.5 * x[:, 0]

    def make() -> Cases:
        line, mixtures = spreading(1, 2, 1, mean=0.4), plane()
        row = RewardTilt(reward, lambda t: t * t)
        return (Case(row, line[1:]), Case(row, spreading(2, 2)), Case(row, mixtures[:1]))

    def check(cases: Cases, trial: Trial) -> Iterator[Evidence]:
        yield from against_generic(cases, trial)
        law, log_z = cases[0].corrector.start(cases[0].experts)
        own = cases[0].experts[0].start
        assert own is not None
        yield exact("β_0 = 0: particles start from q_0", law.precision, own.precision)
        yield near("log Z_0", log_z, 0.0, 1e-12, "rounding of two logarithms")

    def no_rate(corrector: Corrector, right: Weight) -> Weight:
        """β̇ r dropped."""
        return lambda row: right(row) - 2 * row.t * reward(row.x)

    def half_score(corrector: Corrector, right: Weight) -> Weight:
        """σ² where ½σ² is due."""
        return lambda row: right(replace(row, variance=2 * row.variance))

    return Claim(
        "reward-tilt",
        "The weight of a law tilted by a reward is the generic one; with β_0 = 0 the start is the "
        "expert's.",
        make,
        check,
        (
            dial("g × (1 + δ)", scaled, 0.01),
            Control("β̇ r dropped", each(no_rate)),
            Control("σ² for ½σ²", each(half_score)),
        ),
        formula=r"g=\dot\beta r-\beta\nabla r\cdot f+\tfrac{\beta\sigma^2}{2}\nabla r\cdot s",
        entries=("L7.19",),
    )


# -- one noising process ---------------------------------------------------------------------------


Potential = Callable[[Composition, Tensor, Tensor], Tensor]


def one_process() -> Claim[Potential]:
    """X8: schedules that differ."""
    left, right = mixed(linear_schedule(), 0.0, "a"), mixed(trigonometric_schedule(), 0.4, "b")

    def right_one(composition: Composition, t: Tensor, x: Tensor) -> Tensor:
        found = Composed(composition, sigma=0.8).generator()(t, {"x": x}).potential
        assert found is not None
        return found

    def fast(shift: float) -> Potential:
        """The closed form of a shared process, with f and σ of the first expert for both."""
        pair = [
            diffusion_form(left, linear_schedule()),
            diffusion_form(right, trigonometric_schedule()),
        ]
        wrong = but(pair[1], drift=pair[0].drift, sigma=pair[0].sigma)

        def potential(composition: Composition, t: Tensor, x: Tensor) -> Tensor:
            row = WeightedExperts(composition.powers(0.5))
            closed = row.generator([pair[0], wrong])(t, {"x": x}).potential
            assert closed is not None
            motion = Composed(composition, sigma=0.8).generator()
            sound = Composed(composition, transport=Noising(pair[0].drift, pair[0].sigma))
            rest = sound.generator()(t, {"x": x}).potential
            own = motion(t, {"x": x}).potential
            assert rest is not None and own is not None
            return own + shift * (closed - rest)

        return potential

    def check(potential: Potential, trial: Trial) -> Iterator[Evidence]:
        t, x = points(trial.rng(), trial.count(40, 12), 2, 0.15)
        for composition in (left**1.5 / right**0.5, left * right):
            gen = Composed(composition, sigma=0.8).generator()
            true = generic(gen, composition, t, x)
            found = potential(composition, t, x)
            scale = 1 + float(true.abs().max())
            yield equal(str(composition), found, true, operations=16384, scale=scale)
        experts = [
            diffusion_form(left, linear_schedule()),
            diffusion_form(right, trigonometric_schedule()),
        ]
        words = "experts share one noising process"
        yield refusal("the table", lambda: GeometricAverage(0.5).generator(experts), ValueError,
                      words)  # fmt: skip

    return Claim(
        "one-process",
        "Experts with different schedules have the weight of the general formula; the closed form "
        "with one f and σ for both is another number, and such experts are refused.",
        lambda: right_one,
        check,
        (dial("δ of the gap to the closed form of one σ", lambda _, d: fast(d), 1.0),),
        entries=("X8", "L8.17"),
    )
