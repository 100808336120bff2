r"""Data sets drawn from laws that are known exactly.

Rows are drawn from a law with a seed of their own, so that a data set is the same whatever the run
draws; the law itself is the data set's `law`. With it the exact fields of every path are known
(`MixtureMarginal`), a network can be replaced by them (``network: interpolants.gaussian_mixture``),
and divergences are measured against the law and not against rows.

Splits are independent draws: 80, 10 and 10 per cent of ``count``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.datasets import Dataset
from genpath.errors import DomainError, ShapeError
from genpath.laws import Law
from genpath.spaces import Euclidean

from .mixtures import FullMixture, GaussianMixture
from .oracles import two_points as two_point_law

__all__ = [
    "Checkerboard",
    "checkerboard",
    "drawn",
    "five_modes",
    "five_modes_law",
    "gaussian",
    "gaussian_mixture",
    "preset_means",
    "two_points",
]


def drawn(
    name: str, law: Law, event_shape: tuple[int, ...], count: int, seed: int, words: str
) -> Dataset:
    """A data set of independent draws of a law, which it carries.

    Args:
        name: what a report calls it.
        law: the law, in torch's default dtype.
        event_shape: of one row.
        count: rows in all, 10 or more.
        seed: of the draws alone.
        words: the law in words, for the provenance.

    Raises:
        DomainError: fewer than 10 rows.

    Example:
        >>> from genpath.laws import Gaussian
        >>> data = drawn("normal", Gaussian((2,)), (2,), 100, 0, "N(0, I)")
        >>> len(data.train), len(data.validation), len(data.test)
        (80, 10, 10)
    """
    if count < 10:
        raise DomainError(name, "count ≥ 10, so that every split has rows.", got=str(count))
    rows = law.sample(count, torch.Generator().manual_seed(seed))
    first, last = (8 * count) // 10, (9 * count) // 10
    return Dataset(
        name,
        Euclidean(*event_shape),
        rows[:first],
        rows[first:last],
        rows[last:],
        f"{count} independent draws of {words}; seed {seed}, splits 80/10/10 in order",
        law=law,
    )


# -- mixtures --------------------------------------------------------------------------------------


def preset_means(preset: str, components: int, radius: float, dimension: int, seed: int) -> Tensor:
    """Means of a named arrangement, ``(components, dimension)`` in float64.

    ``ring``: equally spaced on a circle of the first two coordinates. ``grid``: the first points of
    the smallest square grid that holds them, spacing 2·radius/(side − 1), so that it spans
    [−radius, radius]². ``pair``: ±radius on the first axis, two components. ``random``: normal with
    standard deviation ``radius`` per coordinate.

    Raises:
        DomainError: an unknown name, or a dimension or number of components that it cannot have.

    Example:
        >>> preset_means("ring", 4, 2.0, 2, 0).round().abs()
        tensor([[2., 0.],
                [0., 2.],
                [2., 0.],
                [0., 2.]], dtype=torch.float64)
    """
    where = "data interpolants.gaussian_mixture"
    if preset not in ("ring", "grid", "pair", "random"):
        raise DomainError(where, "preset is ring, grid, pair or random.", got=repr(preset))
    if preset in ("ring", "grid") and dimension < 2:
        raise DomainError(where, f"a {preset} lies in two dimensions or more.", got=str(dimension))
    if preset == "pair" and components != 2:
        raise DomainError(where, "a pair has two components.", got=str(components))
    means = torch.zeros(components, dimension, dtype=torch.float64)
    index = torch.arange(components, dtype=torch.float64)
    if preset == "ring":
        angle = 2 * math.pi * index / components
        means[:, 0], means[:, 1] = radius * angle.cos(), radius * angle.sin()
    elif preset == "grid":
        side = math.ceil(math.sqrt(components))
        step = 2 * radius / max(side - 1, 1)
        means[:, 0] = step * (index % side) - (radius if side > 1 else 0)
        means[:, 1] = step * (index // side) - (radius if side > 1 else 0)
    elif preset == "pair":
        means[:, 0] = radius * (2 * index - 1)
    else:
        rng = torch.Generator().manual_seed(seed)
        means = radius * torch.randn(components, dimension, generator=rng, dtype=torch.float64)
    return means


def gaussian_mixture(
    preset: str,
    components: int,
    radius: float,
    std: float,
    dimension: int,
    count: int,
    seed: int,
    weights: Sequence[float],
    means: Sequence[Sequence[float]],
    stds: Sequence[float],
) -> Dataset:
    """A mixture of isotropic normal laws: the component ``data.interpolants.gaussian_mixture``.

    Args:
        preset: an arrangement of `preset_means`, where ``means`` is empty.
        components, radius, dimension: of the preset.
        std: of every component, where ``stds`` is empty; 0 for points.
        count: rows in all.
        seed: of the draws, and of the means of ``random``.
        weights: one per component; equal if empty.
        means: one list per component.
        stds: one per component.

    Raises:
        ShapeError: weights, means and stds do not pair up.
        DomainError: a number outside its set.

    Example:
        >>> data = gaussian_mixture("ring", 8, 2.0, 0.1, 2, 1000, 0, [], [], [])
        >>> data.train.shape, data.law.means.shape
        (torch.Size([800, 2]), torch.Size([8, 2]))
    """
    if means:
        if len({len(row) for row in means}) != 1:
            raise ShapeError("data interpolants.gaussian_mixture", "all means have one length.")
        centres = torch.tensor([list(row) for row in means], dtype=torch.float64)
        words = f"{len(centres)} given components"
    else:
        centres = preset_means(preset, components, radius, dimension, seed)
        words = f"{preset} of {components} components, radius {radius:g}"
    k = len(centres)
    shares = torch.tensor(list(weights) or [1 / k] * k, dtype=torch.float64)
    spread = torch.tensor(list(stds) or [std] * k, dtype=torch.float64)
    law = GaussianMixture(shares, centres, spread).to(torch.get_default_dtype())
    words = f"a Gaussian mixture, {words}, std {float(spread.min()):g}"
    return drawn("Gaussian mixture", law, law.event_shape, count, seed, words)


def two_points(dimension: int, std: float, count: int, seed: int) -> Dataset:
    """±(1, …, 1), equally likely: the component ``data.interpolants.two_points``.

    Example:
        >>> two_points(1, 0.0, 100, 0).train.abs().unique()
        tensor([1.])
    """
    law = two_point_law(dimension, torch.get_default_dtype(), std)
    words = "±(1, …, 1), equally likely" + (f", blurred with std {std:g}" if std else "")
    return drawn("two points", law, (dimension,), count, seed, words)


def five_modes_law(dimension: int = 128) -> GaussianMixture:
    """The five modes of experiment E3: weights k/15, means 6 q_k, standard deviations 0.6 … 1.

    q_k[i] = √(2/d) cos(π (i + ½) k/d), k = 1 … 5, are orthonormal rows of a cosine transform, so
    that every coordinate takes part and modes are 6√2 ≈ 8.5 apart, more than 4 standard deviations
    from the plane halfway between any two.

    Raises:
        DomainError: dimension < 6.

    Example:
        >>> law = five_modes_law(16)
        >>> (law.means @ law.means.T).diagonal()
        tensor([36.0000, 36.0000, 36.0000, 36.0000, 36.0000])
    """
    if dimension < 6:
        raise DomainError(
            "five_modes", "dimension ≥ 6, for five orthogonal means.", got=f"{dimension}"
        )
    k = torch.arange(1, 6, dtype=torch.float64)
    i = torch.arange(dimension, dtype=torch.float64)
    means = 6 * math.sqrt(2 / dimension) * torch.cos(math.pi * (i + 0.5) * k[:, None] / dimension)
    law = GaussianMixture(k / 15, means, 0.5 + 0.1 * k)
    return law.to(torch.get_default_dtype())


def five_modes(dimension: int, count: int, seed: int) -> Dataset:
    """Draws of `five_modes_law`: the component ``data.interpolants.five_modes``.

    Example:
        >>> five_modes(128, 100, 0).train.shape
        torch.Size([80, 128])
    """
    law = five_modes_law(dimension)
    words = f"five normal modes in {dimension} dimensions, 8.5 apart, weights k/15"
    return drawn("five modes", law, (dimension,), count, seed, words)


def gaussian(
    dimension: int, mean: float, std: float, correlation: float, count: int, seed: int
) -> Dataset:
    """N(mean, std² R), R with one correlation: the component ``data.interpolants.gaussian``.

    Args:
        dimension: d.
        mean: of every coordinate.
        std: of every coordinate.
        correlation: of every two coordinates, above −1/(d − 1) and below 1.
        count, seed: of the draws.

    Raises:
        DomainError: the correlation leaves no positive definite covariance.

    Example:
        >>> gaussian(2, 1.0, 2.0, 0.5, 100, 0).law.covariances
        tensor([[[4., 2.],
                 [2., 4.]]])
    """
    matrix = torch.full((dimension, dimension), correlation, dtype=torch.float64)
    matrix.fill_diagonal_(1.0)
    one = torch.ones(1, dtype=torch.float64)
    centre = torch.full((1, dimension), mean, dtype=torch.float64)
    law = FullMixture(one, centre, std**2 * matrix[None]).to(torch.get_default_dtype())
    words = f"N({mean:g}, {std:g}² R) in {dimension} dimensions, correlation {correlation:g}"
    return drawn("Gaussian", law, (dimension,), count, seed, words)


# -- the checkerboard ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkerboard:
    """The uniform law on the dark squares of a board [−width/2, width/2]², ``side`` × ``side``.

    Square (i, j), counted from the lower left, is dark where i + j is even.

    Args:
        side: squares per side, at least 2.
        width: of the board.
        dtype: of the draws; torch's default if None.

    Raises:
        DomainError: side < 2 or width ≤ 0.

    Example:
        >>> board = Checkerboard(4, 4.0)
        >>> board.log_prob(torch.tensor([[-1.5, -1.5], [-0.5, -1.5]]))  # log 1/8 on 8 unit squares
        tensor([-2.0794,    -inf])
    """

    side: int = 4
    width: float = 4.0
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.side < 2 or not self.width > 0:
            raise DomainError(
                "Checkerboard",
                "side ≥ 2 and width > 0.",
                got=f"side {self.side}, width {self.width:g}",
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(2,)."""
        return (2,)

    def _dark(self) -> Tensor:
        """The dark squares' indices ``(count, 2)``."""
        index = torch.arange(self.side)
        squares = torch.cartesian_prod(index, index)
        return squares[squares.sum(1) % 2 == 0]

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` points ``(count, 2)``."""
        dark = self._dark().to(rng.device)
        picked = torch.randint(len(dark), (count,), generator=rng, device=rng.device)
        dtype = self.dtype or torch.get_default_dtype()
        inside = torch.rand(count, 2, generator=rng, device=rng.device, dtype=dtype)
        return (dark[picked] + inside) * (self.width / self.side) - self.width / 2

    def log_prob(self, x: Tensor) -> Tensor:
        """−log of the dark area on dark squares, −∞ elsewhere: ``(batch,)``."""
        cell = torch.floor((x + self.width / 2) * (self.side / self.width))
        inside = ((cell >= 0) & (cell < self.side)).all(1) & (cell.sum(1) % 2 == 0)
        area = len(self._dark()) * (self.width / self.side) ** 2
        value = torch.full((len(x),), -math.log(area), dtype=x.dtype, device=x.device)
        return torch.where(inside, value, -math.inf)


def checkerboard(side: int, width: float, count: int, seed: int) -> Dataset:
    """Points of a `Checkerboard`: the component ``data.interpolants.checkerboard``.

    Example:
        >>> data = checkerboard(4, 4.0, 100, 0)
        >>> data.train.shape, data.law.log_prob(data.train).isfinite().all()
        (torch.Size([80, 2]), tensor(True))
    """
    law: Any = Checkerboard(side, width, torch.get_default_dtype())
    words = f"the uniform law on the dark squares of a {side} × {side} board of width {width:g}"
    return drawn("checkerboard", law, (2,), count, seed, words)
