r"""Evaluations of densities on S²: a baseline, the total mass, and maps.

    baseline    q_κ(x) = (1/N) Σ C(κ) exp(κ⟨x_i, x⟩) over training points; κ chosen on validation
    mass        ∫ p dA ≈ (4π/N) Σ p(x_i) over a Fibonacci lattice; exactly 1 for a flow, so that it
                measures solver, divergence and quadrature at once
    map         Mollweide, an equal-area projection: equal densities look equally dense

(Fibonacci lattice: Swinbank & Purser 2006.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError
from genpath.evaluation import Figure, Findings, Scene
from genpath.likelihoods import ODELikelihood

from .data import to_degrees
from .laws import UniformSphere, VonMisesFisherMixture, log_normaliser, unit
from .spaces import Sphere

__all__ = ["KernelBaseline", "Map", "Mass", "choose_kappa", "fibonacci_lattice"]


def fibonacci_lattice(points: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Points ``(points, 3)`` of nearly equal area on S²: z_i = 1 − (2i + 1)/N, golden-angle turns.

    Example:
        >>> float(fibonacci_lattice(1000)[:, 2].square().mean())  # 1/3 on the sphere
        0.333333
    """
    i = torch.arange(points, dtype=torch.float64) + 0.5
    height, turn = 1 - 2 * i / points, math.pi * (1 + math.sqrt(5)) * i
    radius = (1 - height**2).sqrt()
    return torch.stack([radius * turn.cos(), radius * turn.sin(), height], 1).to(dtype)


def choose_kappa(
    train: Tensor,
    validation: Tensor,
    lowest: float = 10.0,
    highest: float = 1e5,
    points: int = 9,
    rounds: int = 4,
) -> float:
    """The concentration of a kernel density with the best validation likelihood.

    A log grid; then ``rounds`` times the two midpoints beside the best point so far.
    """
    grid = torch.linspace(math.log(lowest), math.log(highest), points, dtype=torch.float64)
    step, new, scores = float(grid[1] - grid[0]), grid.tolist(), dict[float, float]()
    for _ in range(rounds + 1):
        found = _mean_log_densities(train, validation, [math.exp(k) for k in new])
        scores.update(zip(new, found, strict=True))
        best, step = max(scores, key=scores.__getitem__), step / 2
        new = [k for k in (best - step, best + step) if grid[0] < k < grid[-1]]
    return math.exp(best)


def _mean_log_densities(train: Tensor, rows: Tensor, kappas: list[float]) -> list[float]:
    """Mean log-density of rows for several κ, from one pass over all pairs.

    κ(⟨x_i, x⟩ − 1) is rounded to float32 as a product, so it keeps its relative accuracy.
    """
    means, totals = unit(train).T, torch.zeros(len(kappas), dtype=torch.float64)
    for piece in rows.split(max(1, 500_000 // len(train))):
        depth = (unit(piece) @ means - 1).float()
        nearest = depth.max(1, keepdim=True).values
        for index, kappa in enumerate(kappas):
            sums = ((depth - nearest) * kappa).exp_().sum(1).double().log()
            totals[index] += (sums + kappa * nearest[:, 0].double()).sum()
    constant = torch.tensor([log_normaliser(kappa) for kappa in kappas], dtype=torch.float64)
    return (totals / len(rows) + constant - math.log(len(train))).tolist()


@dataclass(frozen=True)
class KernelBaseline:
    """Test NLL of a von Mises–Fisher kernel density: ``evaluation.manifold.kernel_baseline``.

    Metrics ``baseline/nll``, ``baseline/kappa`` and ``baseline/uniform_nll`` = log 4π, in nats.
    """

    lowest: float = 10.0
    highest: float = 1e5
    points: int = 9
    rounds: int = 4

    def __call__(self, scene: Scene) -> Findings:
        _on_s2(scene, "evaluation.manifold.kernel_baseline")
        data = scene.data
        scene.progress("kernel baseline", 0, 1)
        kappa = choose_kappa(
            data.train, data.validation, self.lowest, self.highest, self.points, self.rounds
        )
        nll = -float(VonMisesFisherMixture(data.train, kappa).log_prob(data.test.double()).mean())
        uniform = -float(UniformSphere(Sphere(2)).log_prob(data.test).double().mean())
        scene.progress("kernel baseline", 1, 1)
        how = f"von Mises–Fisher kernels on {len(data.train)} training points, κ by validation"
        return Findings(
            {"baseline/nll": nll, "baseline/kappa": kappa, "baseline/uniform_nll": uniform},
            {
                "baseline/nll": f"{how}; mean over {len(data.test)} test points",
                "baseline/kappa": "the κ of best validation likelihood",
                "baseline/uniform_nll": "log 4π: the uniform law",
            },
        )


@dataclass(frozen=True)
class Mass:
    """The integral of the learned density over S²: the component ``evaluation.manifold.mass``.

    Metric ``density/integral``. The lattice must be finer than the density: about √(4π/points)
    radians between neighbours.

    Args:
        points: of the Fibonacci lattice.
        steps: Runge–Kutta steps of each log-density.
    """

    points: int = 8192
    steps: int = 24

    def __call__(self, scene: Scene) -> Findings:
        _on_s2(scene, "evaluation.manifold.mass")
        lattice = fibonacci_lattice(self.points, scene.data.test.dtype).to(scene.device)
        likelihood, pieces = ODELikelihood(steps=self.steps, chunk=2048), list[Tensor]()
        for piece in lattice.split(2048):
            scene.progress("mass", 2048 * len(pieces), self.points)
            pieces.append(likelihood(scene.model, piece, scene.rng).value)
        scene.progress("mass", self.points, self.points)
        log_density = torch.cat(pieces).double()
        integral = 4 * math.pi * float(log_density.exp().mean())
        how = f"Fibonacci lattice of {self.points} points, {self.steps} RK4 steps, exact divergence"
        values, place = log_density.cpu(), lattice.cpu()

        def draw(figure: Any) -> None:
            axes = figure.add_subplot(projection="mollweide")
            latitude, longitude = (torch.deg2rad(a).numpy() for a in to_degrees(place))
            shown = (values / math.log(10)).clamp(min=-4).numpy()
            size = 30_000 / self.points
            dots = axes.scatter(longitude, latitude, c=shown, s=size, linewidths=0, cmap="viridis")
            axes.set_xticklabels([])
            figure.colorbar(dots, ax=axes, label="log₁₀ density per steradian", shrink=0.7)

        figure = Figure(
            "density",
            "Learned density",
            f"log₁₀ of the learned density, values below −4 shown as −4; it integrates to "
            f"{integral:.4f} over the sphere.",
            draw,
            (8.0, 4.2),
        )
        return Findings({"density/integral": integral}, {"density/integral": how}, (figure,))


@dataclass(frozen=True)
class Map:
    """Held-out points and samples on equal-area maps: the component ``evaluation.manifold.map``.

    Args:
        points: at most so many on each map; both maps show the same number, in the same style.
    """

    points: int = 2000

    def __call__(self, scene: Scene) -> Findings:
        _on_s2(scene, "evaluation.manifold.map")
        held_out, samples = scene.data.test.cpu(), scene.samples.cpu()
        count = min(self.points, len(held_out), len(samples))

        def draw(figure: Any) -> None:
            shown = ((held_out, "held-out data"), (samples, "samples"))
            for index, (rows, title) in enumerate(shown, 1):
                axes = figure.add_subplot(2, 1, index, projection="mollweide")
                latitude, longitude = to_degrees(rows[:count])
                axes.scatter(
                    torch.deg2rad(longitude).numpy(), torch.deg2rad(latitude).numpy(),
                    s=3, c="#1f4e79", alpha=0.6, linewidths=0,
                )  # fmt: skip
                axes.set_title(f"{count} {title}")
                axes.set_xticklabels([])
                axes.grid(alpha=0.3)

        figure = Figure(
            "map",
            "Held-out points and samples",
            f"Mollweide, equal-area: {count} points on each map. Look for coasts and gaps that "
            "one map has and the other lacks.",
            draw,
            (8.0, 8.4),
        )
        return Findings(figures=(figure,))


def _on_s2(scene: Scene, where: str) -> None:
    if scene.data.space != Sphere(2):
        raise CapabilityError(where, "the data lie on S².", got=repr(scene.data.space),
                              fix="leave this evaluation out")  # fmt: skip
