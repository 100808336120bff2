r"""Claims of the evaluations on S², and of the positions of airports.

−log p = log ∫ e^{κ⟨x, μ⟩} dA − log (1/n) Σ e^{κ⟨xᵢ, x⟩}           von Mises–Fisher kernels
|∂_u F × ∂_v F| = 1,   u ⟂ v unit tangents                        an equal-area map F
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from genpath.datasets import Dataset
from genpath.evaluation import Findings, Scene
from genpath.testing import Claim, Control, Evidence, Trial, at_most, dial, equal, exact, near

from ..data import airports as load
from ..evaluations import BANDWIDTHS, KernelBaseline, Map, kernel_log_densities
from .cases import DOUBLE, S2, points, quadrature, seeded

__all__ = ["airports", "kernel_baseline", "maps"]


def _scene(train: Tensor, validation: Tensor, test: Tensor) -> Scene:
    """Rows of S², the samples being the test rows; nothing else is there."""
    data = Dataset("rows", S2, train, validation, test, "made up")
    unused: Any = None
    cpu = torch.device("cpu")
    return Scene(unused, data, test, unused, unused, None, seeded(), cpu)


# -- the baseline ------------------------------------------------------------------------------


def _near(centres: Tensor, width: float, rng: torch.Generator) -> Tensor:
    return S2.step(centres, width * S2.tangent_noise(centres, rng))


def kernel_baseline() -> tuple[Claim[Any], ...]:
    """The claims of ``evaluation.manifold.kernel_baseline``."""

    def check(evaluation: Any, trial: Trial) -> Iterator[Evidence]:
        centres = points(2)(10, trial.rng()).repeat(12, 1)
        train, held = (_near(centres, 0.4, trial.rng(name)) for name in ("train", "held"))
        found = evaluation(_scene(train, held, held)).metrics
        kappa = found["baseline/kappa"]
        x, weight = quadrature(64)
        mass = (weight * (kappa * (x[:, 2] - 1)).exp()).sum().log()
        each = (kappa * (train @ held.T - 1)).exp().mean(0).log()
        because = "256 roundings at the size of κ"
        yield equal("baseline/nll", found["baseline/nll"], mass - each.mean(), operations=256,
                    scale=kappa, because=because)  # fmt: skip
        yield equal("baseline/uniform_nll", found["baseline/uniform_nll"], weight.sum().log())
        every = (-kernel_log_densities(train, held, BANDWIDTHS).mean(1)).min()
        # log-likelihood is concave in the weights: it is short by at most max ratio − 1
        slack = math.expm1(math.log(len(BANDWIDTHS) + 1) / 200)
        because = "200 steps of expectation–maximisation are short by e^(log 12/200) − 1"
        mixed = found["baseline-bandwidths/nll"]
        yield at_most("baseline-bandwidths/nll", mixed, every, because, slack=slack)

    def told(name: str) -> Any:
        def plant(evaluation: Any, size: float) -> Any:
            def call(scene: Scene) -> Findings:
                found: Findings = evaluation(scene)
                metrics = {**found.metrics, name: found.metrics[name] + size}
                return replace(found, metrics=metrics)

            return call

        return plant

    def fewer(evaluation: Any) -> Any:
        def call(scene: Scene) -> Findings:
            data = replace(scene.data, train=scene.data.train[1:])
            result: Findings = evaluation(replace(scene, data=data))
            return result

        return call

    return (
        Claim(
            "known-scores",
            "Held-out points are scored by the kernel density of the κ that it states; the mixture "
            "of bandwidths, weighted on them, is no worse than any one; the uniform law has the "
            "logarithm of the area.",
            lambda: KernelBaseline(highest=60.0),
            check,
            (
                dial("κ + δ in what it states", told("baseline/kappa")),
                dial("score of the mixture + δ", told("baseline-bandwidths/nll")),
                Control("one training point is left out", fewer),
            ),
            formula=r"-\log p(x) = \log \int e^{\kappa\langle y, \mu\rangle} dA(y)"
            r" - \log \tfrac1n \textstyle\sum_i e^{\kappa\langle x_i, x\rangle}",
        ),
    )


# -- the map -----------------------------------------------------------------------------------


def _circles(trial: Trial, radius: float) -> Tensor:
    """Circles around 4 points off the poles and off the map's edge: ``(4, 128, 3)``."""
    x = points(2)(200, trial.rng())
    x = x[(x[:, 2].abs() < 0.5) & (x[:, 0] > 0)][:4]
    one, other = radius * S2.tangent_basis(x)[:, :, None]
    angle = 2 * math.pi * torch.arange(128, dtype=DOUBLE)[:, None] / 128
    ways = angle.cos() * one + angle.sin() * other
    circles: Tensor = S2.step(x[:, None].expand_as(ways).reshape(-1, 3), ways.reshape(-1, 3))
    return circles.reshape(4, 128, 3)


def maps() -> tuple[Claim[Any], ...]:
    """The claims of ``evaluation.manifold.map``."""
    radius = 0.5

    def check(evaluation: Any, trial: Trial) -> Iterator[Evidence]:
        from matplotlib.figure import Figure

        rows, canvas = _circles(trial, radius).reshape(-1, 3), Figure()
        evaluation(_scene(rows, rows, rows)).figures[0].draw(canvas)
        for axes in canvas.axes:
            shown = torch.tensor(axes.collections[0].get_offsets(), dtype=DOUBLE)
            lon, lat = shown.T
            place = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], 1)
            nearest = (place[:, None] - rows).norm(dim=-1).min(0)
            because = "roundings of degrees"
            yield near(f"{axes.get_title()}: from a dot", nearest.values.max(), 0, 1e-12, because)
            projection: Any = axes
            flat = torch.tensor(projection.transProjection.transform(shown.numpy()))
            x, y = flat[nearest.indices].reshape(4, -1, 2).unbind(-1)
            area = 0.5 * (x * y.roll(-1, 1) - y * x.roll(-1, 1)).sum(1).abs()
            true = torch.full_like(area, 2 * math.pi * (1 - math.cos(radius)))
            because = "dots are 0.001 from their places, a polygon of 128 sides is 0.0004 short"
            yield near(f"{axes.get_title()}: area", area, true, 0.008, because)

    def aitoff(evaluation: Any) -> Any:
        def call(scene: Scene) -> Findings:
            figure = evaluation(scene).figures[0]

            def draw(canvas: Any) -> None:
                def add_subplot(*place: int, projection: str) -> Any:
                    return canvas.add_subplot(*place, projection="aitoff")

                figure.draw(SimpleNamespace(add_subplot=add_subplot))

            return Findings(figures=(replace(figure, draw=draw),))

        return call

    def moved(evaluation: Any, size: float) -> Any:
        def call(scene: Scene) -> Findings:
            wide = scene.samples + torch.tensor([0.0, 0.0, size], dtype=DOUBLE)
            result: Findings = evaluation(replace(scene, samples=S2.project(wide)))
            return result

        return call

    return (
        Claim(
            "equal-area",
            "Every point has its dot, and a circle of radius r, wherever it is, encloses the same "
            "area 2π(1 − cos r) on the map as on the sphere.",
            Map,
            check,
            (
                dial("samples + δ e₃, normalised", moved, 0.5),
                Control("Aitoff's projection, which is not equal-area", aitoff),
                Control("one dot is missing", lambda evaluation: replace(evaluation, points=511)),
            ),
            formula=r"|F(B_r(x))| = 2\pi(1 - \cos r)",
            requires=("matplotlib",),
        ),
    )


# -- airports ----------------------------------------------------------------------------------


@cache
def _listed() -> Tensor:
    """Latitude and longitude of the source's airports, in degrees."""
    from airportsdata import load as source

    return torch.tensor([(a["lat"], a["lon"]) for a in source("ICAO").values()], dtype=DOUBLE)


def airports() -> tuple[Claim[Any], ...]:
    """The claims of ``data.manifold.airports``."""

    def check(data: Any, trial: Trial) -> Iterator[Evidence]:
        listed = _listed()
        splits = [data.train, data.validation, data.test]
        rows = torch.cat(splits).double()
        yield exact("airports", len(rows), len(listed))
        pick = torch.randperm(len(listed), generator=trial.rng())[:20]
        lat, lon = torch.deg2rad(listed[pick]).T[:, :, None]
        # the haversine of the angle to each row, from its own latitude and longitude
        phi, lam = torch.asin(rows[:, 2].clamp(-1, 1)), torch.atan2(rows[:, 1], rows[:, 0])
        half = ((lat - phi) / 2).sin() ** 2 + lat.cos() * phi.cos() * ((lon - lam) / 2).sin() ** 2
        angle = 2 * half.sqrt().min(1).values
        yield near("from an airport to its row", angle, torch.zeros_like(angle), 1e-5,
                   "float32; asin z loses half the digits at the poles")  # fmt: skip
        codes = [set(map(tuple, rows.tolist())) for rows in splits]
        for i, j, what in ((0, 1, "validation"), (0, 2, "test"), (1, 2, "both held out")):
            yield exact(f"points in two splits: {what}", len(codes[i] & codes[j]), 0)

    def turned(data: Any, size: float) -> Any:
        def turn(x: Tensor) -> Tensor:
            c, s = math.cos(size), math.sin(size)
            return torch.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1], x[:, 2]], 1)

        kept = {name: turn(getattr(data, name)) for name in ("train", "validation", "test")}
        return replace(data, **kept)

    def leaked(data: Any) -> Any:
        return replace(data, test=torch.cat([data.test[:-1], data.train[:1]]))

    return (
        Claim(
            "rows",
            "Every airport of the source is a row at its latitude and longitude, and no position "
            "is in two splits.",
            cache(load),
            check,
            (
                dial("longitudes + δ", turned, 0.5),
                Control("one training row is in the test split, for another", leaked),
            ),
            requires=("airportsdata",),
        ),
    )
