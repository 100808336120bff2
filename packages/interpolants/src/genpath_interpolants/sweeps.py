r"""Samples against the noise ε of their sampler, and pictures of two coordinates.

    eps_sweep   KL(ρ ‖ ρ̂) in two coordinates, and the energy distance in all, against ε
    scatter     samples beside data on the exact density

With exact fields ε changes no marginal; with learnt ones a small ε may leave samples too
concentrated and a large one spread them, so that an ε in between is best (Albergo, Boffi &
Vanden-Eijnden 2023, arXiv 2303.08797, section 7.2). Whether it is, the sweep tells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.evaluation import Figure, Findings, Scene, Text
from genpath.laws import DensityLaw
from genpath.samplers import Solver

from .distances import kl_terms
from .dynamics import Shape
from .evaluations import curve, noisy, plus_minus, solver, table
from .mixtures import FullMixture, GaussianMixture

__all__ = ["EpsSweep", "Projection", "Scatter", "blurred", "energy_distance"]


@dataclass(frozen=True)
class Projection:
    """A map to two coordinates, and the exact law there where the law is a mixture.

    Args:
        matrix: ``(d, 2)``, with orthonormal columns.
        words: which coordinates.

    Example:
        >>> law = GaussianMixture(torch.ones(1), torch.zeros(1, 3), torch.ones(1, 3))
        >>> seen = Projection.of("coordinates", (0, 2), torch.zeros(4, 3))
        >>> seen(torch.tensor([[1.0, 2.0, 3.0]])), seen.law(law).means.shape
        (tensor([[1., 3.]]), torch.Size([1, 2]))
    """

    matrix: Tensor
    words: tuple[str, str]

    @classmethod
    def of(cls, onto: str, coordinates: Sequence[int], rows: Tensor) -> Projection:
        """Two coordinates, or the two directions in which the rows vary most.

        Raises:
            DomainError: rows have one coordinate, or not those.
        """
        flat = rows.reshape(len(rows), -1)
        size = flat.shape[1]
        if size < 2 or len(set(coordinates)) != 2 or not all(0 <= c < size for c in coordinates):
            raise DomainError(
                "projection",
                "two coordinates of the data are seen.",
                got=f"coordinates {list(coordinates)} of {size}",
                fix="choose other coordinates",
            )
        if onto == "principal":
            values = torch.linalg.eigh(torch.cov(flat.double().T)).eigenvectors[:, -2:].flip(1)
            sign = values.gather(0, values.abs().argmax(0)[None]).sign()
            return cls((values * sign).to(flat), ("first principal", "second principal"))
        first, second = coordinates
        matrix = torch.eye(size, dtype=flat.dtype)[:, [first, second]]
        return cls(matrix, (f"x[{first}]", f"x[{second}]"))

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows ``(n, *event)`` in the two coordinates: ``(n, 2)``."""
        return rows.reshape(len(rows), -1).to(self.matrix) @ self.matrix

    def mixture(self, law: Any, blur: Tensor | None = None) -> FullMixture | None:
        """The law of the two coordinates, of a mixture; None for other laws, and for points.

        Args:
            law: of the rows.
            blur: standard deviations ``(2,)`` of a normal vector that is added: points need it.
        """
        if not isinstance(law, (GaussianMixture, FullMixture)) or (blur is None and law.atomic):
            return None
        dtype = self.matrix.dtype if blur is None else blur.dtype
        matrix, means = self.matrix.to(dtype), self(law.means).to(dtype)
        if isinstance(law, GaussianMixture):
            spread = law.stds.reshape(len(means), -1, 1).to(dtype) ** 2
            covariances = matrix.T @ (spread * matrix)
        else:
            covariances = matrix.T @ law.covariances.to(dtype) @ matrix
        if blur is not None:
            covariances = covariances + torch.diag(blur**2)
        return FullMixture(law.weights.to(dtype), means, covariances)

    def law(self, law: Any) -> Any:
        """The law of the two coordinates; None where it is not known or has no density."""
        if getattr(law, "atomic", False):
            return None
        found = self.mixture(law)
        if found is not None:
            return found
        plain = torch.equal(self.matrix, torch.eye(2).to(self.matrix))
        dense = isinstance(law, DensityLaw) and not getattr(law, "atomic", False)
        return law if plain and dense else None


def blurred(points: Tensor, scale: Tensor) -> GaussianMixture:
    """A normal kernel with these standard deviations on each point ``(n, d)``.

    Example:
        >>> law = blurred(torch.zeros(3, 1), torch.ones(1))
        >>> law.log_prob(torch.zeros(1, 1))  # −½ log 2π
        tensor([-0.9189])
    """
    share = torch.full_like(points[:, 0], 1 / len(points))
    return GaussianMixture(share, points, scale.expand_as(points))


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """2 E|X − Y| − E|X − X'| − E|Y − Y'|, without bias, from two sets of rows (Székely 2003).

    It is 0 where the laws are equal, and may come out below. Rows are flattened.

    Args:
        x, y: ``(n, *event)`` and ``(m, *event)``, two rows or more.

    Raises:
        DomainError: fewer than two rows.

    Example:
        >>> energy_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [4.0]]))
        tensor(4.)
    """
    if min(len(x), len(y)) < 2:
        raise DomainError("energy_distance", "two rows or more of each.", got=f"{len(x)}, {len(y)}")
    a, b = x.reshape(len(x), -1), y.reshape(len(y), -1)

    def within(rows: Tensor) -> Tensor:
        return torch.cdist(rows, rows).sum() / (len(rows) * (len(rows) - 1))

    return 2 * torch.cdist(a, b).mean() - within(a) - within(b)


@dataclass(frozen=True)
class EpsSweep:
    """Which ε gives the best samples: the component ``interpolants.eps_sweep``.

    For every ε, samples are compared with draws of the data's law: KL in two coordinates, and the
    energy distance in all. Both laws of the KL are blurred by one normal kernel k, of a fixed
    width, which can only lower it: KL(ρ*k ‖ ρ̂*k) at draws of ρ*k, from the terms
    log ρ − log ρ̂ + ρ̂/ρ − 1 (with this sign of the control variate none is negative). ρ̂*k is a
    mean of kernels on the samples; ρ*k is exact where the law of the coordinates is a mixture, and
    a mean of kernels elsewhere. Fresh draws in the place of samples give the floor, which stands
    for laws as wide as the data: a law that is narrower has a higher one.

    Everything is repeated with other draws; standard errors are those of the repeats. All ε share
    the seeds of their repeats, and differences to ε = 0 are paired.

    Args:
        eps: the values; 0 is the flow.
        shape: how ε runs over time.
        sampler: carries flows and SDEs.
        count: samples, and reference draws, per repeat.
        repeats: independent repeats, two or more.
        coordinates: the two that KL is measured in.
        onto: "coordinates", or "principal": the two directions in which training rows vary most.
        bandwidth: of the kernel, in standard deviations of the data; count^(−1/6) if None.

    Raises:
        DomainError: fewer than two repeats or no ε.

    Example:
        >>> EpsSweep(eps=(0.0, 1.0), count=500).sampler.calls
        200
    """

    eps: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0, 3.0)
    shape: Shape = "constant"
    sampler: Solver = field(default_factory=solver)
    count: int = 1000
    repeats: int = 4
    coordinates: tuple[int, int] = (0, 1)
    onto: Literal["coordinates", "principal"] = "coordinates"
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        if self.repeats < 2 or not self.eps or self.count < 8:
            raise DomainError(
                "interpolants.eps_sweep",
                "there is an ε, two repeats or more, and 8 samples or more in each.",
                got=f"{len(self.eps)} ε, {self.repeats} repeats, count {self.count}",
            )

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Findings:
        seen = Projection.of(self.onto, self.coordinates, scene.data.train)
        law = scene.data.law
        exact = law if isinstance(law, (GaussianMixture, FullMixture)) else None
        total = self.repeats * (len(self.eps) + 1)
        found = torch.zeros(self.repeats, len(self.eps) + 1, 2, dtype=torch.float64)
        for repeat in range(self.repeats):
            seed = int(torch.randint(2**31, (), generator=scene.rng, device=scene.rng.device))
            reference, fresh = self._references(scene, seed)
            for index, level in enumerate(self.eps):
                scene.progress("sweep over ε", repeat * (len(self.eps) + 1) + index, total)
                rng = torch.Generator(device=scene.rng.device).manual_seed(seed)
                how = noisy(level, self.shape)
                grid = self.sampler.grid
                x = scene.model.sample(self.count, how, self.sampler.sampler, grid, rng).cpu()
                found[repeat, index] = self._compared(x, reference, seen, exact, seed)
            found[repeat, -1] = self._compared(fresh, reference, seen, exact, seed)
        scene.progress("sweep over ε", total, total)
        return self._told(found, seen, exact is not None)

    def _references(self, scene: Scene, seed: int) -> tuple[Tensor, Tensor]:
        """Draws to compare with, and others that take the place of samples."""
        rng = torch.Generator().manual_seed(seed)
        if scene.data.law is not None:
            both = scene.data.law.sample(2 * self.count, rng)
            return both[: self.count], both[self.count :]
        rows = torch.cat((scene.data.test, scene.data.validation))
        half = len(rows) // 2
        rows = rows[torch.randperm(len(rows), generator=rng)]
        return rows[:half][: self.count], rows[half:][: self.count]

    def _compared(self, x: Tensor, y: Tensor, seen: Projection, exact: Any, seed: int) -> Tensor:
        a, b = seen(x).double(), seen(y).double()
        width = self.bandwidth if self.bandwidth is not None else self.count ** (-1 / 6)
        scale = width * b.std(0)
        if exact is None:  # no row meets its own kernel
            half = len(b) // 2
            true: Any = blurred(b[:half], scale)
            b = b[half:]
        else:
            true = seen.mixture(exact, scale)
        noise = torch.randn(b.shape, generator=torch.Generator().manual_seed(seed), dtype=b.dtype)
        at = b + scale * noise
        terms = kl_terms(true.log_prob(at), blurred(a, scale).log_prob(at))
        return torch.stack((terms.mean(), energy_distance(x, y.to(x)).double()))

    def _told(self, found: Tensor, seen: Projection, exact: bool) -> Findings:
        means, errors = found.mean(0), found.std(0) / math.sqrt(self.repeats)
        names = [f"eps_{level:g}" for level in self.eps] + ["floor"]
        metrics: dict[str, float] = {}
        for index, name in enumerate(names):
            for kind, key in enumerate(("sweep-kl", "sweep-energy")):
                metrics[f"{key}/{name}"] = float(means[index, kind])
                metrics[f"{key}/{name}_se"] = float(errors[index, kind])
        best = int(means[:-1, 0].argmin())
        metrics["sweep-kl/best_eps"] = float(self.eps[best])
        how = (
            f"KL(ρ ‖ ρ̂) in {seen.words[0]} and {seen.words[1]}, both blurred by one kernel; "
            f"ρ {'exact' if exact else 'from rows'}, ρ̂ from {self.count} samples; "
            f"± over {self.repeats} repeats"
        )
        measured = {f"sweep-kl/{names[0]}": how}
        measured[f"sweep-energy/{names[0]}"] = "energy distance in all coordinates, same samples"
        measured["sweep-kl/floor"] = "the same with fresh draws of the data in place of samples"
        lines = [
            [name[4:] if name != "floor" else "exact draws"]
            + [plus_minus(float(means[i, k]), float(errors[i, k])) for k in (0, 1)]
            for i, name in enumerate(names)
        ]
        body = table(["ε", "KL", "energy distance"], lines)
        body += "\n\n" + "\n".join(self._verdict(found, means, best))
        return Findings(
            metrics, measured, (self._figure(means, errors),), (Text("Sweep over ε", body),)
        )

    def _verdict(self, found: Tensor, means: Tensor, best: int) -> list[str]:
        where = "an interior ε" if 0 < best < len(self.eps) - 1 else "an ε at the end of the list"
        lines = [f"The least KL is at ε = {self.eps[best]:g}, {where}."]
        if 0.0 in self.eps and self.eps[best] != 0:
            flow = self.eps.index(0.0)
            gap = found[:, flow, 0] - found[:, best, 0]
            error = float(gap.std()) / math.sqrt(self.repeats)
            lines.append(
                f"KL of the flow minus that: {plus_minus(float(gap.mean()), error)} (paired)."
            )
        return lines

    def _figure(self, means: Tensor, errors: Tensor) -> Figure:
        def draw(figure: Any) -> None:
            for axes, kind, words in zip(
                figure.subplots(1, 2),
                (0, 1),
                ("KL in two coordinates", "energy distance"),
                strict=True,
            ):
                values, bars = means[:-1, kind].tolist(), errors[:-1, kind].tolist()
                curve(axes, self.eps, values, bars, label="model")
                floor, width = float(means[-1, kind]), 2 * float(errors[-1, kind])
                axes.axhline(floor, color="gray", linestyle="--", label="exact draws")
                axes.axhspan(floor - width, floor + width, color="gray", alpha=0.2)
                axes.set_ylabel(words)
                axes.legend()

        caption = (
            "Bars and band: two standard errors over the repeats. Where the curve meets the band, "
            "samples cannot be told from exact draws."
        )
        return Figure("eps_sweep", "Samples against ε", caption, draw, (9.0, 3.6))


# -- pictures --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scatter:
    """Samples beside data, on the exact density where it is known: ``interpolants.scatter``.

    Args:
        count: points in each half.
        coordinates, onto: as of `EpsSweep`.
        resolution: of the density, cells per side.

    Example:
        >>> from genpath import Dataset, Euclidean
        >>> rows = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        >>> data = Dataset("normal", Euclidean(2), rows, rows, rows, "made up")
        >>> scene = Scene(None, data, rows, None, None, None, None, torch.device("cpu"))
        >>> Scatter()(scene).figures[0].title
        'Samples beside data'
    """

    count: int = 2000
    coordinates: tuple[int, int] = (0, 1)
    onto: Literal["coordinates", "principal"] = "coordinates"
    resolution: int = 120

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Findings:
        if not isinstance(scene.samples, Tensor):
            raise CapabilityError(
                "evaluation interpolants.scatter", "there are samples, points of R^d.",
                got="none", fix="write sample: {count: 1000} in the config",
            )  # fmt: skip
        seen = Projection.of(self.onto, self.coordinates, scene.data.train)
        law = seen.law(scene.data.law)
        count = min(self.count, len(scene.data.test), len(scene.samples))
        data, samples = seen(scene.data.test)[:count], seen(scene.samples)[:count]
        low, high = seen(scene.data.train).aminmax(dim=0)
        margin = 0.1 * (high - low)
        box = [(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True)]

        def draw(figure: Any) -> None:
            density = None if law is None else self._density(law, box, seen.matrix.dtype)
            for axes, points, title in zip(
                figure.subplots(1, 2), (samples, data), ("samples", "held-out data"), strict=True
            ):
                if density is not None:
                    sides = (*box[0], *box[1])
                    top = 2 * density.max()  # pale, under the points
                    axes.imshow(density, extent=sides, origin="lower", cmap="Blues", vmax=top)
                outside = ((points < low - margin) | (points > high + margin)).any(1).sum()
                axes.scatter(*points.T.numpy(), s=4, color="tab:red", alpha=0.7, linewidths=0)
                axes.set_aspect("equal")
                axes.set_xlim(*box[0])
                axes.set_ylim(*box[1])
                axes.set_xlabel(seen.words[0])
                axes.set_ylabel(seen.words[1])
                axes.set_title(title + (f" ({int(outside)} outside)" if outside else ""))

        blue = "" if law is None else " Blue: the square root of the exact density."
        caption = f"Points as they come: none was chosen.{blue}"
        return Findings(
            figures=(Figure("scatter", "Samples beside data", caption, draw, (9.0, 4.5)),)
        )

    def _density(self, law: DensityLaw, box: list[tuple[float, float]], dtype: torch.dtype) -> Any:
        n = self.resolution
        centres = [torch.linspace(a, b, 2 * n + 1, dtype=dtype)[1::2] for a, b in box]
        grid = torch.cartesian_prod(*centres)
        return law.log_prob(grid).exp().sqrt().reshape(n, n).T.numpy()
