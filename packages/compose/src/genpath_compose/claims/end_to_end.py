r"""The corrector table end to end on normal laws: moments, normalisers, particles, starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.samplers import Euler, integrate
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    equal,
    exact,
    mean,
    near,
    order,
)

from ..annealing import Annealed, ProductOfExperts
from ..correctors import Corrector, GeometricAverage, Guidance, RewardTilt, WeightedExperts
from ..experts import DiffusionExpert
from ..references import GaussianRatio, LinearLaw, euler_law, exact_law
from ._diffusing import DOUBLE, Spreading

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of the topic ``compose.end_to_end``."""
    return (naive(), end_to_end(), start_law())


# -- end to end ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A row with normal experts of the line, by their first variances."""

    corrector: Corrector
    variances: Sequence[float]
    means: Sequence[float] = (0.0, 0.0, 0.0)
    start: float | None = None

    @property
    def laws(self) -> list[Spreading]:
        return [Spreading(m, v) for m, v in zip(self.means, self.variances, strict=False)]

    @property
    def experts(self) -> list[DiffusionExpert]:
        return [law.expert(1, "abc"[i]) for i, law in enumerate(self.laws)]

    @property
    def generator(self) -> MarkovGenerator:
        return self.corrector.generator(self.experts)

    def begin(self) -> LinearLaw:
        law, _ = self.corrector.start(self.experts)
        variance = float(1 / law.precision) if self.start is None else self.start
        return LinearLaw(float(law.mean), variance)

    def ratio(self, t: float) -> GaussianRatio:
        """h_t, for experts without means."""
        powers = self.corrector.composition(self.experts).powers(t)
        return GaussianRatio(powers, [math.sqrt(law.variance_at(t)) for law in self.laws])

    def target(self) -> tuple[float, float, float]:
        """Mean, variance and log Z_1/Z_0 of h by quadrature: 4001 points over 12σ."""
        composition = self.corrector.composition(self.experts)
        x = torch.linspace(-30, 30, 4001, dtype=DOUBLE)
        logs = [composition.log_density(torch.full_like(x, t), x[:, None]) for t in (0.0, 1.0)]
        before, after = (torch.exp(value) for value in logs)
        total = float(after.sum())
        centre = float((x * after).sum()) / total
        spread = float(((x - centre) ** 2 * after).sum()) / total
        return centre, spread, math.log(total / float(before.sum()))


Runs = tuple[Run, ...]


def in_all(change: Callable[[Run], Run]) -> Callable[[Runs], Runs]:
    """The change, made to each of several runs."""
    return lambda runs: tuple(change(run) for run in runs)


def naive() -> Claim[Runs]:
    """L7.3: the mixed score without weights."""

    def make() -> Runs:
        return (
            Run(GeometricAverage(2.0, naive=True), (2.0, 1.0)),
            Run(GeometricAverage(2.0), (2.0, 1.0)),
        )

    def check(runs: Runs, trial: Trial) -> Iterator[Evidence]:
        plain, weighted = runs
        grid = TimeGrid.uniform(100)
        target = 1 / weighted.ratio(1.0).precision
        yield near("the target's variance", target, 0.8124, 5e-5, "the digits of the reference")
        found = exact_law(plain.generator, plain.begin(), grid).variance
        yield near("without weights", found, 0.6360, 5e-5, "the digits of the reference")
        yield exact("it has no potential", "potential" in plain.generator.has, False)
        found = exact_law(weighted.generator, weighted.begin(), grid).variance
        yield near("with weights", found, target, 1e-8, "Runge–Kutta, h⁴ at h = 0.01")

    def heavy(runs: Runs) -> Runs:
        return (runs[1], runs[1])

    def light(runs: Runs) -> Runs:
        return (runs[0], runs[0])

    return Claim(
        "naive-guidance",
        "Noise with the mixed score and no weights ends in another law than the guided one: "
        "variance 0.636, not 0.812; with weights it is 0.812.",
        make,
        check,
        (
            Control("weights where there should be none", heavy),
            Control("no weights where there should be", light),
            Control(
                "w = 0.9 for 1",
                in_all(lambda run: replace(run, corrector=but(run.corrector, beta=1.9))),
            ),
        ),
        formula=r"dX=(-f+\sigma^2s^*)\,dt+\sigma\,dW\ \not\Rightarrow\ X_t\sim p^*_t",
        entries=("L7.3", "L7.14"),
    )


def end_to_end() -> Claim[Runs]:
    """Every row by its moments, and by particles."""

    def make() -> Runs:
        shifted = (0.5, -0.3, 0.2)
        return (
            Run(Annealed(2.5, 0.0), (2.0,), shifted),
            Run(Annealed(2.5, 0.3), (2.0,), shifted),
            Run(Annealed(2.5, 0.5), (2.0,)),
            Run(Annealed(0.6, 0.5), (2.0,)),
            Run(ProductOfExperts(1.5, 0.3), (2.0, 1.0), shifted),
            Run(Guidance(0.7), (1.0, 2.0), shifted),
            Run(GeometricAverage(2.0), (2.0, 1.0), shifted),
            Run(WeightedExperts((1.2, -0.4, 0.9)), (2.0, 1.5, 1.2), shifted),
            Run(RewardTilt(lambda x: 0.4 * x[:, 0] - 0.1 * x[:, 0] ** 2), (2.0,), shifted),
        )

    def check(runs: Runs, trial: Trial) -> Iterator[Evidence]:
        grid = TimeGrid.uniform(100)
        for run in runs:
            found = exact_law(run.generator, run.begin(), grid)
            true, words = run.target(), str(run.corrector)
            for name, value, reference in zip(
                ("mean", "variance", "log Z"),
                (found.mean, found.variance, found.log_normaliser),
                true,
                strict=True,
            ):
                because = "Runge–Kutta, h⁴ at h = 0.01; quadrature to rounding"
                yield near(f"{words}: {name}", value, reference, 1e-7, because)
        run = runs[2]
        gen, steps, true = run.generator, (50, 100, 200, 400), run.target()
        laws = [euler_law(gen, run.begin(), TimeGrid.uniform(n)) for n in steps]
        errors = [abs(law.variance - true[1]) for law in laws]
        yield order("Euler's law: order of the variance", [1 / n for n in steps], errors, 1.0)
        yield from particles(runs[5], trial)

    def particles(run: Run, trial: Trial) -> Iterator[Evidence]:
        """Drawn particles have the law that `euler_law` says."""
        count, start = trial.count(40_000), run.begin()
        rng, grid = trial.rng(), TimeGrid.uniform(40)
        z = torch.randn(count, 1, generator=rng, dtype=DOUBLE)
        x = start.mean + math.sqrt(start.variance) * z
        found = integrate(Euler(), run.generator, {"x": x}, grid, rng)
        law = euler_law(run.generator, start, grid)
        assert found.log_weight is not None
        weight = torch.exp(found.log_weight - law.log_normaliser)
        moved = (found.state["x"][:, 0] - law.mean) * weight
        square = (found.state["x"][:, 0] - law.mean) ** 2 * weight
        draws = torch.stack([weight, moved, square], 1)
        reference = torch.tensor([1.0, 0.0, law.variance], dtype=DOUBLE)
        yield mean("particles: E w, E w x, E w x²", draws, reference)

    def half(run: Run) -> Run:
        """Half the noise's variance in the weight's row."""
        right = run.corrector.weight
        return replace(
            run,
            corrector=but(
                run.corrector, weight=lambda row: right(replace(row, variance=0.9 * row.variance))
            ),
        )

    def constant(run: Run) -> Run:
        right = run.corrector.weight
        return replace(run, corrector=but(run.corrector, weight=lambda row: right(row) + 0.05))

    return Claim(
        "end-to-end",
        "On normal laws every row ends at the mean, the variance and the normaliser of its target; "
        "weighted Euler particles do at first order.",
        make,
        check,
        (
            Control("0.9 σ² in the weight", in_all(half)),
            Control("a constant 0.05 more in the weight", in_all(constant)),
            Control("noise × 1.05", in_all(lambda run: replace(
                run, corrector=but(run.corrector, zeta=1.05 * run.corrector.zeta)))),
        ),
        entries=("L7.17", "L7.18", "L7.26"),
    )  # fmt: skip


def start_law() -> Claim[Runs]:
    """X9: where particles begin."""

    def make() -> Runs:
        return tuple(Run(Annealed(2.5, a), (2.0,)) for a in (0.0, 0.3, 0.5))

    def check(runs: Runs, trial: Trial) -> Iterator[Evidence]:
        grid = TimeGrid.uniform(trial.count(200, 100))
        wrong = [
            exact_law(run.generator, replace(run.begin(), variance=2.0), grid).variance
            for run in runs
        ]
        for run, bad in zip(runs, wrong, strict=True):
            begin = run.begin()
            yield equal(f"{run.corrector}: q_0^β has variance v/β", begin.variance, 0.8)
            found = exact_law(run.generator, begin, grid).variance
            yield near(f"{run.corrector}: variance", found, 2.18793, 5e-6, "the law's own digits")
            words = f"{run.corrector}: from q_0 it ends far away"
            yield exact(words, bad > 4 * found, True)
        rises = wrong[0] < wrong[1] < wrong[2]
        yield exact("from q_0 the end depends on a", rises, True)
        found = euler_law(runs[0].generator, runs[0].begin(), TimeGrid.uniform(200)).variance
        yield near("200 steps of Euler", found, 2.1824, 5e-5, "the digits of the recursion")

    def untempered(run: Run) -> Run:
        return replace(run, start=2.0)

    def partly(run: Run) -> Run:
        return replace(run, start=1.0)

    return Claim(
        "tempered-start",
        "Particles of an annealed law start from q_0^β normalised; from q_0 the weighted law ends "
        "elsewhere, and where depends on the motion.",
        make,
        check,
        (
            Control("start from q_0", in_all(untempered)),
            Control("start with β = 2 for 2.5", in_all(partly)),
            Control("g × 0.95", in_all(lambda run: replace(run, corrector=but(
                run.corrector,
                weight=lambda row, right=run.corrector.weight: 0.95 * right(row))))),
        ),
        entries=("X9", "L7.17"),
    )  # fmt: skip
