r"""Evaluations of the core: likelihoods, baselines that they must beat, a look at the samples.

    test/nll        −(1/n) Σ log p(yᵢ), nats per example, in the data's own units
    test/bits_per_… test/nll / (count · log 2)

A baseline is scored on the same rows in the same units: its density lives on encoded rows z = e(y),
and −log p(y) = −log p(z) − log |det e′(y)|; where the encoding is random (dequantisation) both are
upper bounds of the same kind. Baselines are ordinary densities: one Gaussian, or a Gaussian kernel
on every training row with the bandwidth that does best on validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import CapabilityError, ConfigError
from .evaluation import Figure, Findings, Scene
from .laws import DensityLaw
from .likelihoods import SolvedFlow, density_mass
from .models import ODE
from .samplers import RungeKutta
from .spaces import Euclidean
from .states import batch_size, chunks, describe, gather, map_state
from .tableaus import RK4

__all__ = [
    "GaussianBaseline",
    "Images",
    "KernelBaseline",
    "Mass",
    "Nearest",
    "NegativeLogLikelihood",
]


def scored(
    prefix: str, values: Tensor, how: str, scene: Scene, errors: Tensor | None = None
) -> Findings:
    """Metrics of negative log-likelihoods ``(n,)``: mean, standard error, bits per dimension.

    Args:
        prefix: "test", "baseline", …
        values: −log p of each example, nats.
        how: how they were measured.
        scene: for the unit of bits.
        errors: standard error of each value, said in words where it is not zero.
    """
    count, mean = len(values), float(values.double().mean())
    error = float(values.double().std() / math.sqrt(count)) if count > 1 else math.nan
    metrics = {f"{prefix}/nll": mean}
    if count > 1:
        metrics[f"{prefix}/nll_se"] = error
    words = f"nats per example, {how}"
    if errors is not None and float(errors.max()) > 0:
        words += f"; each value has a standard error of {float(errors.mean()):.2g} on average"
    measured = {f"{prefix}/nll": words}
    if scene.data.bits_per is not None:
        unit, size = scene.data.bits_per
        scale, name = size * math.log(2), f"{prefix}/bits_per_{unit}"
        metrics[name] = mean / scale
        if count > 1:
            metrics[f"{name}_se"] = error / scale
        measured[name] = f"the same in bits per {unit} ({size} per example)"
    return Findings(metrics, measured)


def subset(rows: Any, most: int | None, scene: Scene) -> Any:
    """At most ``most`` rows, picked at random; all where there are fewer."""
    total = batch_size(rows)
    if most is None or most >= total:
        return rows
    index = torch.randperm(total, generator=scene.rng, device=scene.rng.device)[:most]
    return gather(rows, index.sort().values.cpu())


@dataclass(frozen=True)
class NegativeLogLikelihood:
    """−log p of held-out rows under the model: the component ``evaluation.nll``.

    Args:
        max_examples: score at most so many, picked at random; None for all.
        split: "test", "validation" or "train".
        chunk: rows scored between two reports of progress.

    Example:
        >>> from genpath.datasets import Dataset
        >>> from genpath.likelihoods import LogLikelihood
        >>> rows, rng, cpu = torch.tensor([[1.0], [3.0]]), torch.Generator(), torch.device("cpu")
        >>> data = Dataset("two", Euclidean(1), rows, rows, rows, "made up")
        >>> given = lambda model, y, rng: LogLikelihood(-y[:, 0], 0 * y[:, 0], "exact")
        >>> scene = Scene(None, data, rows, None, None, given, rng, cpu)
        >>> NegativeLogLikelihood()(scene).metrics
        {'test/nll': 2.0, 'test/nll_se': 1.0}
    """

    max_examples: int | None = None
    split: str = "test"
    chunk: int = 256

    def __call__(self, scene: Scene) -> Findings:
        if scene.likelihood is None:
            raise ConfigError(
                "evaluation nll", "data are scored by a likelihood.", got="likelihood: null",
                fix="write likelihood: ode in the config, or leave nll out",
            )  # fmt: skip
        rows = subset(getattr(scene.data, self.split), self.max_examples, scene)
        total, done, found = batch_size(rows), 0, []
        for piece in chunks(rows, self.chunk):
            scene.progress("log-likelihood", done, total)
            piece = map_state(lambda leaf: leaf.to(scene.device), piece)
            found.append(scene.likelihood(scene.model, piece, scene.rng))
            done += batch_size(piece)
        scene.progress("log-likelihood", total, total)
        values = -torch.cat([each.value for each in found]).cpu()
        errors = torch.cat([each.standard_error for each in found]).cpu()
        kind = {"exact": "log p exact up to the solver", "lower bound": "an upper bound"}
        how = f"{kind.get(found[0].kind, found[0].kind)}, over {total} {self.split} examples"
        return scored(self.split, values, how, scene, errors)


def encoded(scene: Scene, rows: Any) -> tuple[Tensor, Tensor]:
    """Encoded rows as vectors ``(n, d)`` in double precision, and the log-determinants ``(n,)``.

    Raises:
        CapabilityError: states are not points of R^d.
    """
    rows = map_state(lambda leaf: leaf.to(scene.device), rows)
    state, log_det = scene.model.codec.encode(rows, scene.rng)
    if not (isinstance(state, Tensor) and isinstance(scene.model.path.space, Euclidean)):
        raise CapabilityError(
            "baseline", "it is a density on R^d.", got=f"states {describe(state)}",
            fix="choose a baseline of this data's own space",
        )  # fmt: skip
    return state.reshape(len(state), -1).double(), log_det.double()


@dataclass(frozen=True)
class GaussianBaseline:
    """One full-covariance Gaussian on encoded rows: the component ``evaluation.gaussian_baseline``.

    Args:
        ridge: added to the covariance, as a fraction of its mean variance.
        max_examples: score at most so many; None for all.
        encodings: draws of a random codec to fit on and to average.

    Example:
        >>> from genpath.datasets import Dataset
        >>> from types import SimpleNamespace
        >>> from genpath.codecs import Identity
        >>> model = SimpleNamespace(codec=Identity(), path=SimpleNamespace(space=Euclidean(1)))
        >>> rows, rng, cpu = torch.tensor([[-1.0], [1.0]]), torch.Generator(), torch.device("cpu")
        >>> data = Dataset("two", Euclidean(1), rows, rows, 0 * rows, "made up")
        >>> found = GaussianBaseline()(Scene(model, data, rows, None, None, None, rng, cpu))
        >>> round(found.metrics["baseline/nll"], 4)  # ½ log 2π: N(0, 1) at 0
        0.9189
    """

    ridge: float = 1e-6
    max_examples: int | None = None
    encodings: int = 1

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Findings:
        repeats = 1 if scene.model.codec.exact else self.encodings
        train = torch.cat([encoded(scene, scene.data.train)[0] for _ in range(repeats)])
        mean, covariance = (
            train.mean(0),
            torch.cov(train.T, correction=0).reshape(train.shape[1], -1),
        )
        identity = torch.eye(train.shape[1], dtype=train.dtype, device=train.device)
        covariance = covariance + self.ridge * covariance.diagonal().mean() * identity
        law = torch.distributions.MultivariateNormal(mean, covariance)
        rows = subset(scene.data.test, self.max_examples, scene)
        values = torch.zeros(batch_size(rows), dtype=train.dtype, device=train.device)
        for _ in range(repeats):
            z, log_det = encoded(scene, rows)
            values -= (law.log_prob(z) + log_det) / repeats
        how = (
            f"one Gaussian, full covariance, fitted to {batch_size(scene.data.train)} training rows"
        )
        return scored("baseline", values.cpu(), how, scene)


@dataclass(frozen=True)
class KernelBaseline:
    """A Gaussian kernel on every training row: the component ``evaluation.kernel_baseline``.

    Rows are encoded. Metrics are named ``baseline-kernel/…``. The bandwidth is the one of a
    geometric grid that does best on validation rows.

    Args:
        smallest, largest: ends of the grid, in units of the encoded rows' mean standard deviation.
        bandwidths: how many.
        max_examples: score at most so many; None for all.
        chunk: rows compared with all training rows at once.

    Example:
        >>> from genpath.datasets import Dataset
        >>> from types import SimpleNamespace
        >>> from genpath.codecs import Identity
        >>> model = SimpleNamespace(codec=Identity(), path=SimpleNamespace(space=Euclidean(1)))
        >>> rows, rng, cpu = torch.tensor([[-1.0], [1.0]]), torch.Generator(), torch.device("cpu")
        >>> data = Dataset("two", Euclidean(1), rows, 0 * rows, 0 * rows, "made up")
        >>> found = KernelBaseline()(Scene(model, data, rows, None, None, None, rng, cpu))
        >>> round(found.metrics["baseline-kernel/nll"], 4)  # bandwidth 1: ½ (1 + log 2π)
        1.4189
    """

    smallest: float = 0.01
    largest: float = 1.0
    bandwidths: int = 25
    max_examples: int | None = None
    chunk: int = 256

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Findings:
        train, _ = encoded(scene, scene.data.train)
        scale = float(train.std(0, correction=0).mean())
        low, high = math.log(self.smallest * scale), math.log(self.largest * scale)
        grid = torch.linspace(low, high, self.bandwidths, dtype=torch.float64).exp().tolist()
        held, _ = encoded(scene, scene.data.validation)
        scores = [float(v.mean()) for v in self._log_density(scene, train, held, grid, "bandwidth")]
        best = grid[max(range(len(grid)), key=scores.__getitem__)]
        z, log_det = encoded(scene, subset(scene.data.test, self.max_examples, scene))
        values = -(self._log_density(scene, train, z, [best], "kernel density")[0] + log_det)
        how = (
            f"a Gaussian kernel on each of {len(train)} training rows, "
            f"bandwidth {best:.3g} chosen on validation"
        )
        return scored("baseline-kernel", values.cpu(), how, scene)

    def _log_density(
        self, scene: Scene, train: Tensor, z: Tensor, grid: Sequence[float], what: str
    ) -> Tensor:
        """log p of rows for every bandwidth: ``(len(grid), n)``."""
        size, pieces = train.shape[1], []
        for index, piece in enumerate(z.split(self.chunk)):
            scene.progress(what, index * self.chunk, len(z))
            squares = torch.cdist(piece, train).square()
            constants = [
                math.log(len(train)) + size * (math.log(h) + 0.5 * math.log(2 * math.pi))
                for h in grid
            ]
            logs = [torch.logsumexp(-0.5 * squares / h**2, 1) for h in grid]
            pieces.append(torch.stack([v - c for v, c in zip(logs, constants, strict=True)]))
        return torch.cat(pieces, 1)


def vectors(rows: Any, who: str) -> Tensor:
    """Rows of one tensor as vectors ``(n, d)``.

    Raises:
        CapabilityError: the rows are dicts.
    """
    if not isinstance(rows, Tensor):
        got = "no samples" if rows is None else describe(rows)
        raise CapabilityError(who, "rows are one tensor each.", got=got)
    return rows.detach().reshape(len(rows), -1).to(torch.get_default_dtype())


@dataclass(frozen=True)
class Nearest:
    """How far samples are from the training rows: the component ``evaluation.nearest``.

    A model that copies its training rows has samples much nearer to them than held-out rows are.

    Args:
        max_examples: samples, and held-out rows, to compare; None for all.
        shown: samples in the figure.
        height, width: of a picture where rows are pictures; 0 for a histogram of distances.
        low, high: data values shown black and white.

    Example:
        >>> from genpath.datasets import Dataset
        >>> rows, rng, cpu = torch.tensor([[0.0], [1.0]]), torch.Generator(), torch.device("cpu")
        >>> data = Dataset("two", Euclidean(1), rows, rows, rows + 0.25, "made up")
        >>> Nearest()(Scene(None, data, rows, None, None, None, rng, cpu)).metrics  # copies
        {'nearest/samples': 0.0, 'nearest/held_out': 0.25}
    """

    max_examples: int | None = 1000
    shown: int = 8
    height: int = 0
    width: int = 0
    low: float = 0.0
    high: float = 1.0

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Findings:
        train = vectors(scene.data.train, "nearest")
        samples = vectors(scene.samples, "nearest")[: self.max_examples]
        held = vectors(scene.data.test, "nearest")[: self.max_examples]
        near, index = _nearest(samples, train, scene)
        far, _ = _nearest(held, train, scene)
        metrics = {"nearest/samples": float(near.mean()), "nearest/held_out": float(far.mean())}
        measured = {
            "nearest/samples": f"mean distance of {len(samples)} samples to the training rows",
            "nearest/held_out": f"the same from {len(held)} held-out rows: what to compare with",
        }
        if self.height and self.width:
            figure = self._pairs(samples, train[index])
        else:
            figure = _histogram(near, far)
        return Findings(metrics, measured, (figure,))

    def _pairs(self, samples: Tensor, found: Tensor) -> Figure:
        count = min(self.shown, len(samples))
        both = torch.cat((samples[:count], found[:count])).reshape(
            2, count, self.height, self.width
        )

        def draw(figure: Any) -> None:
            axes = figure.subplots(2, count, squeeze=False)
            for row, label in enumerate(("samples", "nearest training rows")):
                for column in range(count):
                    _picture(axes[row][column], both[row, column], self.low, self.high)
                axes[row][0].set_title(label, loc="left", fontsize=9)

        caption = (
            "Above, samples; below, the training row nearest to each. Copies would be equal pairs."
        )
        return Figure("nearest", "Nearest training rows", caption, draw, (1.1 * count, 2.8))


def _nearest(rows: Tensor, train: Tensor, scene: Scene) -> tuple[Tensor, Tensor]:
    distances, indices = [], []
    for done, piece in enumerate(rows.split(512)):
        scene.progress("nearest rows", done * 512, len(rows))
        # without matmul: its cancellation would hide exact copies
        least = torch.cdist(piece, train, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        distances.append(least.values)
        indices.append(least.indices)
    return torch.cat(distances), torch.cat(indices)


def _histogram(near: Tensor, far: Tensor) -> Figure:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        top = float(torch.cat((near, far)).max())
        bins = [top * i / 40 for i in range(41)]
        for values, label in ((near, "samples"), (far, "held-out rows")):
            axes.hist(values.numpy(), bins=bins, density=True, histtype="step", label=label)
        axes.set_xlabel("distance to the nearest training row")
        axes.set_ylabel("density")
        axes.legend()

    caption = "Equal curves: samples are as far from the training rows as new data are."
    return Figure("nearest", "Distance to the training rows", caption, draw, (7.0, 3.2))


def _picture(axes: Any, pixels: Tensor, low: float, high: float) -> None:
    axes.imshow(pixels.numpy(), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


@dataclass(frozen=True)
class Images:
    """A sheet of samples beside held-out data: the component ``evaluation.images``.

    Args:
        height, width: of one picture; a row of data has height × width entries.
        rows, columns: of each half of the sheet.
        low, high: data values shown black and white.

    Example:
        >>> from genpath.datasets import Dataset
        >>> rows, rng, cpu = torch.rand(3, 4), torch.Generator(), torch.device("cpu")
        >>> data = Dataset("noise", Euclidean(4), rows, rows, rows, "made up")
        >>> scene = Scene(None, data, rows, None, None, None, rng, cpu)
        >>> Images(height=2, width=2, rows=1, columns=3)(scene).figures[0].title
        'Samples beside data'
    """

    height: int
    width: int
    rows: int = 8
    columns: int = 8
    low: float = 0.0
    high: float = 1.0

    def __call__(self, scene: Scene) -> Findings:
        halves = [self._sheet(vectors(x, "images")) for x in (scene.samples, scene.data.test)]

        def draw(figure: Any) -> None:
            for axes, sheet, title in zip(
                figure.subplots(1, 2), halves, ("samples", "held-out data"), strict=True
            ):
                _picture(axes, sheet, self.low, self.high)
                axes.set_title(title)

        size = (9.0, 0.5 + 4.5 * self.rows * self.height / (self.columns * self.width))
        caption = (
            "Samples on the left, held-out data on the right, both as they come: none was chosen."
        )
        return Findings(figures=(Figure("images", "Samples beside data", caption, draw, size),))

    def _sheet(self, pictures: Tensor) -> Tensor:
        if pictures.shape[1] != self.height * self.width:
            raise ConfigError(
                "evaluation images", "height × width is the number of entries of a row.",
                got=f"{self.height} × {self.width}, rows of {pictures.shape[1]}",
                fix="correct height and width",
            )  # fmt: skip
        border = self.low + 0.5 * (self.high - self.low)
        sheet = torch.full((self.rows * self.columns, self.height + 1, self.width + 1), border)
        count = min(len(pictures), len(sheet))
        sheet[:count, :-1, :-1] = pictures[:count].reshape(count, self.height, self.width).to(sheet)
        grid = sheet.reshape(self.rows, self.columns, self.height + 1, self.width + 1)
        return grid.transpose(1, 2).reshape(self.rows * (self.height + 1), -1)[:-1, :-1]


@dataclass(frozen=True)
class Mass:
    """∫ p_1 dx over the space of states, which is 1: the component ``evaluation.mass``.

    It compares the density that scores data with the derivative of the map that makes samples
    (`genpath.likelihoods.density_mass`), on any smooth space; metrics ``density/mass`` and
    ``density/mass_se``.

    Args:
        points: base draws.
        steps: Runge–Kutta steps each way.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath import Gaussian, MarkovGenerator, Parts
        >>> still = MarkovGenerator(Euclidean(1), lambda t, x: Parts(velocity=0 * x), {"velocity"})
        >>> model = SimpleNamespace(base=Gaussian((1,)), generator=lambda dynamics: still)
        >>> rng, cpu = torch.Generator().manual_seed(0), torch.device("cpu")
        >>> found = Mass(points=8, steps=2)(Scene(model, None, None, None, None, None, rng, cpu))
        >>> round(found.metrics["density/mass"], 4)
        1.0
    """

    points: int = 1024
    steps: int = 50

    def __call__(self, scene: Scene) -> Findings:
        base = scene.model.base
        if not isinstance(base, DensityLaw):
            raise CapabilityError(
                "evaluation.mass", "the base law has a log-density.", got=type(base).__name__,
                fix="leave this evaluation out",
            )  # fmt: skip
        scene.progress("mass", 0, 1)
        flow_map = SolvedFlow(scene.model.generator(ODE()), RungeKutta(RK4), self.steps)
        with torch.no_grad():
            mass, error = density_mass(flow_map, base, self.points, scene.rng)
        scene.progress("mass", 1, 1)
        how = (
            f"∫ p dx by change of variables from {self.points} base draws: p by the divergence, "
            f"the Jacobian by differentiating the samples, {self.steps} RK4 steps each way"
        )
        return Findings({"density/mass": mass, "density/mass_se": error}, {"density/mass": how})
