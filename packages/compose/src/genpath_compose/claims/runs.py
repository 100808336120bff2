"""Claims about whole runs: particles against the exact law of their scheme, and collapse."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from genpath.grids import TimeGrid
from genpath.testing import Claim, Control, Evidence, Trial, exact, mean

from ..dynamics import Composed
from ..errors import PathCollapseError
from ..normals import Normal
from ..references import LinearLaw, euler_law
from ..sampling import ComposedSample, sample
from ..smc import Resample
from ._scenes import DOUBLE, collapse_toy

__all__ = ["runs"]


@dataclass(frozen=True)
class _Run:
    """A run of the collapse toy by particles."""

    resample: Resample = field(default_factory=Resample)
    policy: Any = "error"
    bump: float = 3.0
    drop_weights: bool = False
    narrow: bool = False  # particles start from a law of half the variance

    def __call__(self, count: int, rng: torch.Generator) -> ComposedSample:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            toy = collapse_toy(bump=self.bump)
            law = toy.start()[0]
            start = Normal(law.mean, 2 * law.precision, DOUBLE) if self.narrow else None
            return sample(
                toy,
                count,
                rng,
                steps=100,
                t_end=1.0,
                sigma=0.8,
                policy=self.policy,
                resample=self.resample,
                dtype=DOUBLE,
                start=start,
            )


def _expected() -> Any:
    toy = collapse_toy()
    law = toy.start()[0]
    start = LinearLaw(float(law.mean), float(1 / law.precision))
    return euler_law(Composed(toy, 0.8).generator(), start, TimeGrid.uniform(100))


def runs() -> list[Claim[Any]]:
    """Particles against the exact law of their scheme; collapse; what a report says."""

    def check(run: _Run, trial: Trial) -> Iterator[Evidence]:
        true, repeats, n = _expected(), trial.count(30, 8), 2000
        means, squares, masses = [], [], []
        for index in range(repeats):
            found = run(n, trial.rng(f"run {index}"))
            w = torch.full_like(found.weights, 1 / n) if run.drop_weights else found.weights
            x = found.x[:, 0]
            means.append(float((w * x).sum()))
            squares.append(float((w * x * x).sum()))
            masses.append(math.exp(float(found.particles.log_normaliser)))
        bias = 20 * true.variance / n  # of self-normalised means: O(1/n), times the spread of w
        tensors = [torch.tensor(v, dtype=DOUBLE) for v in (means, squares, masses)]
        yield mean("E x", tensors[0], true.mean, allowance=bias)
        second = true.variance + true.mean**2
        yield mean("E x²", tensors[1], second, allowance=bias * 5)
        yield mean("Ẑ", tensors[2], math.exp(true.log_normaliser))

    def unweighted(run: _Run) -> _Run:
        return replace(run, drop_weights=True)

    ess = Claim(
        "run-with-resampling",
        "A run with resampling has the moments of the target and an unbiased Ẑ.",
        _Run,
        check,
        [
            Control(
                "particles start from a law of half the variance", lambda r: replace(r, narrow=True)
            )
        ],
        entries=("L8.20", "L7.26"),
    )
    lite = Claim(
        "run-without-resampling",
        "Without resampling (ACE-lite) the path is the same and the weights are kept: moments and "
        "Ẑ are right; dropping the weights is another law.",
        lambda: _Run(Resample(when="never")),
        check,
        [Control("the weights dropped", unweighted)],
        entries=("L8.23",),
    )
    return [ess, lite, _collapsed()]


def _collapsed() -> Claim[Any]:
    """A run without a target: finite numbers, a failed certificate, and a report that says so."""

    def check(run: _Run, trial: Trial) -> Iterator[Evidence]:
        found = run(500, trial.rng())
        yield exact("all particles finite", bool(found.x.isfinite().all()), True)
        yield exact("the certificate collapses", found.certificate.status == "collapses", True)
        yield exact("the report says so", "not certified" in found.report(), True)
        refused = False
        try:
            replace(run, policy="error")(10, trial.rng())
        except PathCollapseError as error:
            refused = "t* = 0.18377" in str(error)
        yield exact("sampling is refused where it begins to collapse", refused, True)
        spread = abs(float(found.expectation(lambda x: x[:, 0])) - 2.4)
        yield exact("far from the target's mean 2.4", spread > 1.0, True)

    return Claim(
        "collapsed-run",
        "With constant exponents the toy collapses between two times at which it exists: the "
        "sampler runs, its numbers are finite, and only the certificate tells.",
        lambda: _Run(policy="warn", bump=0.0),
        check,
        [Control("the bump that repairs it", lambda run: replace(run, bump=3.0))],
        entries=("L8.22", "L8.5", "L7.28"),
        owes="existence",
    )
