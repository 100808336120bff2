r"""Claims of the core's evaluations: numbers that are known before they are measured.

−E log p = (d/2) log 2πeσ²                                        N(m, σ² I), its own model
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.evaluation import Findings, Scene
from genpath.evaluations import Images, Mass, Nearest, NegativeLogLikelihood
from genpath.laws import Gaussian
from genpath.likelihoods import LogLikelihood
from genpath.models import Model
from genpath.testing import Claim, Control, Evidence, Trial, dial, equal, exact, near
from genpath.testing.evidence import z_bound

from ._arc import Arc, velocity
from ._scenes import CPU, scene_of, seen, told, with_rows

__all__ = ["images", "mass", "nearest", "nll"]

DOUBLE = torch.float64


# -- the likelihood of held-out rows -------------------------------------------------------------


def nll() -> tuple[Claim[Any], ...]:
    """Claims of ``evaluation.nll``."""
    return (_entropy(), _every_row())


def _entropy() -> Claim[Any]:
    law = Gaussian((2,), 1.0, 0.5, DOUBLE)

    def score(model: Any, y: Tensor, rng: torch.Generator) -> LogLikelihood:
        value = law.log_prob(y)
        return LogLikelihood(value, torch.zeros_like(value), "exact")

    def check(evaluation: Any, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(40_000, 20_000)
        rows = law.sample(count, trial.rng())
        found = evaluation(scene_of(rows[:1], rows[:1], rows, likelihood=score)).metrics
        value, error = found["test/nll"], found["test/nll_se"]
        # χ² with d degrees over 2 has variance d/2 = 1; s² of n draws has variance (κ − 1)/n, κ = 9
        spread = z_bound(1) * math.sqrt(8 / count) / 2 / math.sqrt(count)
        because = "4.89 standard errors of s of n exponential numbers"
        yield near("its standard error", error, 1 / math.sqrt(count), spread, because)
        true = math.log(2 * math.pi * math.e * 0.25)
        because = "4.89 of the standard errors that it states"
        bound = z_bound(1)
        at = near("test/nll", value, true, bound * error, because)
        yield replace(at, samples=count, z=(value - true) / error, bound=bound)
        bits = found["test/bits_per_dimension"]
        yield equal("2^(−2 bits)", 2 ** (-2 * bits), math.exp(-value), operations=8)

    def lifted(evaluation: Any, size: float) -> Any:
        def lower(model: Any, y: Tensor, rng: torch.Generator) -> LogLikelihood:
            return replace(score(model, y, rng), value=law.log_prob(y) - size)

        likelihood: Any = lower
        return seen(lambda scene: replace(scene, likelihood=likelihood))(evaluation)

    def error(evaluation: Any, size: float) -> Any:
        return told(lambda m: {**m, "test/nll_se": (1 + size) * m["test/nll_se"]})(evaluation)

    def nats(m: dict[str, float]) -> dict[str, float]:
        return {**m, "test/bits_per_dimension": m["test/nll"] / 2}

    return Claim(
        "entropy",
        "On draws of a normal law scored by that law it is the law's entropy within the standard "
        "error that it states, which is √(d/2n); bits per dimension are the same number.",
        NegativeLogLikelihood,
        check,
        (
            dial("log p − δ", lifted),
            dial("standard error × (1 + δ)", error),
            Control("bits without log 2", told(nats)),
        ),
        formula=r"-\mathbb{E}\log p = \tfrac d2 \log 2\pi e\sigma^2",
    )


def _every_row() -> Claim[Any]:
    count = 1000

    def score(model: Any, y: Tensor, rng: torch.Generator) -> LogLikelihood:
        return LogLikelihood(-y[:, 0], torch.zeros_like(y[:, 0]), "exact")

    def check(evaluation: Any, trial: Trial) -> Iterator[Evidence]:
        rows = torch.arange(1, count + 1, dtype=DOUBLE)[:, None].expand(-1, 2)
        rows = rows[torch.randperm(count, generator=trial.rng())]
        for chunk in (1, 7, 256, 5000):
            scene = scene_of(rows[:1], rows[:1], rows, likelihood=score)
            found = evaluation(scene, chunk=chunk).metrics
            yield equal(f"mean of 1, …, n, {chunk} at once", found["test/nll"], (count + 1) / 2)
            true = math.sqrt((count + 1) / 12)
            yield equal(f"its standard error, {chunk} at once", found["test/nll_se"], true)

    def make() -> Any:
        return lambda scene, chunk: NegativeLogLikelihood(chunk=chunk)(scene)

    def last_left_out(evaluation: Any) -> Any:
        return lambda scene, chunk: evaluation(with_rows(scene, test=scene.data.test[:-1]), chunk)

    def heavier(evaluation: Any, size: float) -> Any:
        def call(scene: Scene, chunk: int) -> Findings:
            test = scene.data.test.clone()
            test[0] *= 1 + size
            result: Findings = evaluation(with_rows(scene, test=test), chunk)
            return result

        return call

    return Claim(
        "every-row",
        "However many rows are scored at once, each counts once: rows scored 1, …, n have mean "
        "(n + 1)/2 and standard error √((n + 1)/12).",
        make,
        check,
        (
            dial("the first row × (1 + δ)", heavier),
            Control("the last row is left out", last_left_out),
        ),
        formula=r"\tfrac1n \textstyle\sum_i i = \tfrac{n+1}2",
    )


# -- mass ----------------------------------------------------------------------------------------


def mass() -> tuple[Claim[Any], ...]:
    """Claims of ``evaluation.mass``."""

    def check(evaluation: Any, trial: Trial) -> Iterator[Evidence]:
        unused: Any = None
        model = Model(velocity, Arc(), Gaussian((2,), dtype=DOUBLE))
        rng = trial.rng()
        found = evaluation(Scene(model, unused, unused, unused, unused, None, rng, CPU)).metrics
        because = "two steps of Runge–Kutta leave 1e-2, and eight 4⁻⁴ of that"
        yield near("density/mass", found["density/mass"], 1.0, 1e-4, because)
        because = "each term is 1, within the same error"
        yield near("density/mass_se", found["density/mass_se"], 0.0, 1e-4, because)

    def another(evaluation: Any, size: float) -> Any:
        """The forward solve calls the network four times a step; then comes the way back."""

        def change(scene: Scene) -> Scene:
            network, calls = scene.model.network, 0

            def counted(t: Tensor, x: Any) -> Tensor:
                nonlocal calls
                calls += 1
                value: Tensor = network(t, x)
                return value if calls <= 4 * evaluation.steps else (1 + size) * value

            return replace(scene, model=replace(scene.model, network=counted))

        return seen(change)(evaluation)

    return (
        Claim(
            "mass-is-one",
            "The density that an exact flow gives to data has mass 1, with no spread between the "
            "points: every term is the ratio of two equal numbers.",
            lambda: Mass(points=8, steps=8),
            check,
            (
                dial("velocity × (1 + δ) where data are scored, not where they are made", another),
                Control("two steps each way", lambda evaluation: replace(evaluation, steps=2)),
            ),
            formula=r"\int p_1 = \mathbb{E}_{x_0} \frac{p_1(X(x_0))\,|\det DX(x_0)|}{p_0(x_0)} = 1",
        ),
    )


# -- samples -------------------------------------------------------------------------------------


def nearest() -> tuple[Claim[Any], ...]:
    """Claims of ``evaluation.nearest``."""
    return (_copies(),)


def _moved(evaluation: Any, size: float) -> Any:
    def change(scene: Scene) -> Scene:
        return replace(scene, samples=scene.samples + size)

    return seen(change)(evaluation)


def _by_products(evaluation: Any) -> Any:
    """Distances by |x|² − 2⟨x, y⟩ + |y|², which cancels."""

    def call(scene: Scene) -> Findings:
        train = scene.data.train.float()
        way = "use_mm_for_euclid_dist"
        sides = {"samples": scene.samples, "held_out": scene.data.test}
        metrics = {}
        for name, x in sides.items():
            least = torch.cdist(x.float(), train, compute_mode=way).min(1).values
            metrics[f"nearest/{name}"] = float(least.mean())
        return Findings(metrics)

    return call


def _copies() -> Claim[Any]:
    """Points of a lattice: within its own cell, the nearest is the centre."""

    def check(evaluation: Any, trial: Trial) -> Iterator[Evidence]:
        side = torch.arange(100.0, 106.0)
        train = torch.cartesian_prod(side, side, side).to(DOUBLE)
        shuffled = train[torch.randperm(len(train), generator=trial.rng("order"))]
        offsets = torch.randint(-31, 32, train.shape, generator=trial.rng()).to(DOUBLE) / 64
        found = evaluation(scene_of(train, train, train + offsets, samples=shuffled)).metrics
        yield exact("distance of copies", found["nearest/samples"], 0.0)
        because = "roundings of float32; differences of the points have none"
        true = float(offsets.norm(dim=1).mean())
        yield near("held-out points", found["nearest/held_out"], true, 64 * 2.0**-24, because)
        found = evaluation(scene_of(train, train, train, samples=train + offsets)).metrics
        yield near("samples", found["nearest/samples"], true, 64 * 2.0**-24, because)

    return Claim(
        "copies",
        "Copies of training rows are at distance exactly 0; a point in the cell of a lattice point "
        "is as far from the lattice as from that point.",
        lambda: Nearest(max_examples=None),
        check,
        (
            dial("samples + δ", _moved, 0.25),
            Control("distances by |x|² − 2⟨x, y⟩ + |y|² in float32", _by_products),
            Control("one training row is forgotten",
                    seen(lambda scene: with_rows(scene, train=scene.data.train[1:]))),
        ),
        formula=r"\min_i |y_i - (y_k + o)| = |o|, \quad |o|_\infty < \tfrac12",
    )  # fmt: skip


def images() -> tuple[Claim[Any], ...]:
    """Claims of ``evaluation.images``."""
    height, width, rows, columns = 2, 3, 3, 4

    def check(evaluation: Any, trial: Trial) -> Iterator[Evidence]:
        from matplotlib.figure import Figure

        x, y = torch.rand(2, rows * columns, height * width, generator=trial.rng())
        canvas = Figure()
        evaluation(scene_of(x, x, y, samples=x)).figures[0].draw(canvas)
        for axes, shown in zip(canvas.axes, (x, y), strict=True):
            sheet = torch.tensor(axes.images[0].get_array())
            for number in (0, 1, columns, rows * columns - 1):
                top = (number // columns) * (height + 1)
                left = (number % columns) * (width + 1)
                tile = sheet[top : top + height, left : left + width]
                what = f"picture {number} of {axes.get_title()}"
                yield exact(what, tile.flatten(), shown[number].to(tile))
            yield exact("black and white", tuple(axes.images[0].get_clim()), (0.0, 1.0))

    def brighter(evaluation: Any, size: float) -> Any:
        def change(scene: Scene) -> Scene:
            return replace(scene, samples=(1 + size) * scene.samples)

        return seen(change)(evaluation)

    def best_first(scene: Scene) -> Scene:
        order = scene.samples.sum(1).argsort(descending=True)
        return replace(scene, samples=scene.samples[order])

    return (
        Claim(
            "as-they-come",
            "The sheet shows samples and held-out data row by row in their order, every pixel with "
            "its own value, on the scale that was asked for.",
            lambda: Images(height, width, rows, columns),
            check,
            (
                dial("samples × (1 + δ)", brighter),
                Control("the brightest samples first", seen(best_first)),
                Control("white at 1.05", lambda evaluation: replace(evaluation, high=1.05)),
            ),
            requires=("matplotlib",),
        ),
    )
