r"""Data sets: their rows are drawn from the law that they carry, and the seed fixes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.datasets import Dataset
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    equal,
    exact,
    frequencies,
    mean,
    near,
)

from .. import data as sets
from ..mixtures import FullMixture, GaussianMixture

__all__ = ["checkerboard", "five_modes", "gaussian", "gaussian_mixture", "two_points"]


def _rows(data: Dataset) -> Tensor:
    return torch.cat((data.train, data.validation, data.test)).double()


def _claim(
    name: str, statement: str, make: Callable[[], Dataset], check: Any, *controls: Control[Dataset]
) -> tuple[Claim[Any], ...]:
    return (
        Claim(
            f"{name}-law",
            statement,
            make,
            check,
            (*controls, Control("every row twice as far out", _doubled)),
        ),
    )


def _doubled(found: Dataset) -> Dataset:
    return replace(
        found, train=2 * found.train, validation=2 * found.validation, test=2 * found.test
    )


def _again(found: Dataset, make: Callable[[], Dataset]) -> Evidence:
    return exact("the seed fixes the rows", _rows(found), _rows(make()))


def _moments(found: Dataset) -> Iterator[Evidence]:
    law: Any = found.law
    centre, covariance = law.moments()
    rows = _rows(found) - centre
    yield mean("mean", rows, 0.0)
    square = (rows[:, :, None] * rows[:, None, :]).flatten(1)
    yield mean("covariance", square, covariance.flatten())


def _nearest(found: Dataset) -> Evidence:
    law = found.law
    assert isinstance(law, GaussianMixture)
    owner = torch.cdist(_rows(found), law.means.double()).argmin(1)
    counts = torch.bincount(owner, minlength=len(law.weights))
    return frequencies("rows per mode", counts, law.weights)


def _other_law(change: Callable[[Any], Any]) -> Callable[[Dataset], Dataset]:
    return lambda found: replace(found, law=change(found.law))


def _wider(law: Any) -> Any:
    if isinstance(law, FullMixture):
        return replace(law, covariances=2 * law.covariances)
    return replace(law, stds=2 * law.stds)


def gaussian_mixture() -> tuple[Claim[Any], ...]:
    """The claims of ``data.interpolants.gaussian_mixture``."""

    def make() -> Dataset:
        weights = [0.1, 0.2, 0.3, 0.4]
        return sets.gaussian_mixture("grid", 4, 2.0, 0.3, 2, 20_000, 3, weights, [], [])

    def check(found: Dataset, trial: Trial) -> Iterator[Evidence]:
        yield from _moments(found)
        yield _nearest(found)
        yield _again(found, make)
        means = sets.preset_means("ring", 6, 2.0, 3, 0)
        angle = (means @ means.roll(1, 0).T).diagonal() / 4
        yield near("a ring: cos of the angle between neighbours", angle, 0.5, 1e-12, "rounding")

    def even(law: GaussianMixture) -> GaussianMixture:
        return replace(law, weights=torch.full_like(law.weights, 0.25))

    return _claim(
        "mixture",
        "Rows have the mean, covariance and shares of modes of the mixture that the data set "
        "carries.",
        make,
        check,
        Control("equal weights", _other_law(even)),
        Control("s × 2", _other_law(_wider)),
    )


def checkerboard() -> tuple[Claim[Any], ...]:
    """The claims of ``data.interpolants.checkerboard``."""

    def make() -> Dataset:
        return sets.checkerboard(4, 4.0, 20_000, 1)

    def check(found: Dataset, trial: Trial) -> Iterator[Evidence]:
        law: Any = found.law
        rows = _rows(found)
        x = (torch.arange(320, dtype=torch.float64) + 0.5) / 320 * 5 - 2.5
        grid = torch.cartesian_prod(x, x)
        mass = law.log_prob(grid).exp().sum() * (5 / 320) ** 2
        yield near("mass", mass, 1.0, 1e-9, "squares are whole cells of the grid")
        yield equal("entropy", law.log_prob(rows).mean(), -math.log(8.0))
        cell = torch.floor(rows + 2).long().clamp(0, 3)
        counts = torch.bincount(4 * cell[:, 0] + cell[:, 1], minlength=16)
        board = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]).repeat(2, 1).flatten()
        yield frequencies("rows per square", counts, board / 8)
        inside = rows + 2 - torch.floor(rows + 2)
        yield mean("uniform inside a square", torch.cat((inside - 0.5, inside**2 - 1 / 3), 1), 0.0)
        yield _again(found, make)

    def halved(law: Any) -> Any:
        return but(law, log_prob=lambda x: law.log_prob(x) - math.log(2.0))

    def light(law: Any) -> Any:
        return but(law, log_prob=lambda x: law.log_prob(x + torch.tensor([1.0, 0.0])))

    return _claim(
        "checkerboard",
        "Rows are uniform on the dark squares, whose law has mass 1 and density 1/8 there.",
        make,
        check,
        Control("half the density", _other_law(halved)),
        Control("light squares", _other_law(light)),
    )


def two_points() -> tuple[Claim[Any], ...]:
    """The claims of ``data.interpolants.two_points``."""

    def make() -> Dataset:
        return sets.two_points(2, 0.0, 20_000, 2)

    def check(found: Dataset, trial: Trial) -> Iterator[Evidence]:
        rows = _rows(found)
        yield equal("|x|", rows.abs(), torch.ones_like(rows))
        yield equal("both entries agree", rows[:, 0], rows[:, 1])
        counts = torch.bincount((rows[:, 0] > 0).long(), minlength=2)
        yield frequencies("signs", counts, torch.tensor([0.5, 0.5]))
        yield from _moments(found)
        yield _again(found, make)

    return _claim("points", "Rows are ±(1, …, 1), equally often.", make, check)


def five_modes() -> tuple[Claim[Any], ...]:
    """The claims of ``data.interpolants.five_modes``."""

    def make() -> Dataset:
        return sets.five_modes(64, 20_000, 4)

    def check(found: Dataset, trial: Trial) -> Iterator[Evidence]:
        law = found.law
        assert isinstance(law, GaussianMixture)
        gram = law.means.double() @ law.means.double().T
        yield near("means", gram, 36.0 * torch.eye(5, dtype=gram.dtype), 1e-4, "float32")
        centre, covariance = law.moments()
        rows = _rows(found) - centre
        yield mean("mean", rows, 0.0)
        yield mean("variances", rows**2, covariance.diagonal())
        yield _nearest(found)
        yield _again(found, make)

    def even(law: GaussianMixture) -> GaussianMixture:
        return replace(law, weights=torch.full_like(law.weights, 0.2))

    return _claim(
        "modes",
        "The five modes have orthogonal means of length 6, and rows their weights, means and "
        "variances.",
        make,
        check,
        Control("equal weights", _other_law(even)),
        Control("s × 2", _other_law(_wider)),
    )


def gaussian() -> tuple[Claim[Any], ...]:
    """The claims of ``data.interpolants.gaussian``."""

    def make() -> Dataset:
        return sets.gaussian(3, 0.5, 1.5, 0.4, 20_000, 5)

    def check(found: Dataset, trial: Trial) -> Iterator[Evidence]:
        yield from _moments(found)
        rows = _rows(found) - 0.5
        product = rows[:, 0] * rows[:, 1]
        yield mean("covariance of two entries", product[:, None], 0.4 * 1.5**2)
        yield _again(found, make)

    return _claim(
        "normal",
        "Rows have the mean, variance and correlation of the normal law that the data set carries.",
        make,
        check,
        Control("C × 2", _other_law(_wider)),
    )
