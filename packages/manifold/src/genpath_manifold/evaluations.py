r"""Evaluations of densities on S²: a baseline, the total mass, and maps.

baseline    q_κ(x) = (1/N) Σ C(κ) exp(κ⟨x_i, x⟩) over training points; κ chosen on validation
mass        ∫ p dA ≈ mean of p/q over draws of a wide law q; exactly 1 for a flow, so that it
            measures solver and divergence, with a standard error
map         Mollweide, an equal-area projection: equal densities look equally dense
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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

__all__ = [
    "KernelBaseline",
    "Map",
    "Mass",
    "choose_kappa",
    "kernel_log_densities",
    "mixed_bandwidths",
]

KAPPAS = (5000.0, 500.0, 50.0)
BANDWIDTHS = tuple(10.0 ** (k / 2) for k in range(2, 13))
WEIGHTS = (0.4, 0.25, 0.15, 0.2)  # of the kernel densities, and of the uniform law


def choose_kappa(
    train: Tensor,
    validation: Tensor,
    lowest: float = 10.0,
    highest: float = 1e5,
    points: int = 9,
    rounds: int = 4,
) -> float:
    """The concentration of a kernel density with the best validation likelihood.

    A log grid; then ``rounds`` times the two midpoints beside the best point so far. Points are
    unit vectors ``(count, 3)``.

    Example:
        >>> train = torch.tensor([[0.0, 0.0, 1.0]])
        >>> held = torch.tensor([[0.0199**0.5, 0.0, 0.99]])  # 1 − ⟨x, y⟩ = 0.01: κ is its inverse
        >>> round(choose_kappa(train, held))
        100
    """
    grid = torch.linspace(math.log(lowest), math.log(highest), points, dtype=torch.float64)
    step, new, scores = float(grid[1] - grid[0]), grid.tolist(), dict[float, float]()
    for _ in range(rounds + 1):
        found = kernel_log_densities(train, validation, [math.exp(k) for k in new]).mean(1)
        scores.update(zip(new, found.tolist(), strict=True))
        best, step = max(scores, key=scores.__getitem__), step / 2
        new = [k for k in (best - step, best + step) if grid[0] < k < grid[-1]]
    return math.exp(best)


def kernel_log_densities(train: Tensor, rows: Tensor, kappas: Sequence[float]) -> Tensor:
    """Log-densities of kernel laws at rows, for several κ: ``(len(kappas), rows)``, float64.

    Points are unit vectors: ``train`` ``(count, 3)``, ``rows`` ``(rows, 3)``.

    `VonMisesFisherMixture` for several κ in one pass: κ(⟨x_i, x⟩ − 1) is rounded to float32 as a
    product, which keeps its relative accuracy.

    Example:
        >>> pole = torch.tensor([[0.0, 0.0, 1.0]])
        >>> kernel_log_densities(pole, pole, [10.0, 100.0])  # log(κ/2π) at the centre
        tensor([[0.4647],
                [2.7673]], dtype=torch.float64)
    """
    means, pieces = unit(train).T, list[Tensor]()
    for piece in rows.split(max(1, 500_000 // len(train))):
        depth = (unit(piece) @ means - 1).float()
        nearest = depth.max(1, keepdim=True).values
        height = nearest[:, 0].double()
        sums = [((depth - nearest) * k).exp_().sum(1).double().log() + k * height for k in kappas]
        pieces.append(torch.stack(sums))
    constant = [log_normaliser(kappa) - math.log(len(train)) for kappa in kappas]
    scale = torch.tensor(constant, dtype=torch.float64, device=rows.device)
    return torch.cat(pieces, 1) + scale[:, None]


def mixed_bandwidths(train: Tensor, validation: Tensor, rows: Tensor) -> Tensor:
    """Log-density at rows of Σ_j w_j q_{κ_j} + w_0/4π: kernels of many bandwidths, ``(rows,)``.

    The weights maximise the likelihood of the validation points (expectation–maximisation from
    equal weights, which the likelihood, concave in them, cannot trap). Points are unit vectors
    ``(count, 3)``.

    Example:
        >>> pole = torch.tensor([[0.0, 0.0, 1.0]])
        >>> mixed_bandwidths(pole, -pole, -pole)  # the uniform law wins: −log 4π
        tensor([-2.5310], dtype=torch.float64)
    """

    def parts(points: Tensor) -> Tensor:
        kernels = kernel_log_densities(train, points, BANDWIDTHS)
        return torch.cat([kernels, UniformSphere(Sphere(2)).log_prob(points).double()[None]])

    seen = parts(validation)
    log_weights = seen.new_full((len(seen), 1), -math.log(len(seen)))
    for _ in range(200):
        shares = torch.log_softmax(seen + log_weights, 0)
        log_weights = torch.logsumexp(shares, 1, keepdim=True) - math.log(seen.shape[1])
    return torch.logsumexp(parts(rows) + log_weights, 0)


@dataclass(frozen=True)
class KernelBaseline:
    """Test NLL of von Mises–Fisher kernel densities: ``evaluation.manifold.kernel_baseline``.

    One bandwidth, chosen on validation: ``baseline/nll`` and ``baseline/kappa``. A mixture of many
    bandwidths and the uniform law, weighted on validation, a stronger one where data lie on many
    scales: ``baseline-bandwidths/nll``. ``baseline/uniform_nll`` = log 4π. All in nats.
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
        mixed = mixed_bandwidths(data.train, data.validation, data.test)
        scene.progress("kernel baseline", 1, 1)
        how = f"von Mises–Fisher kernels on {len(data.train)} training points, κ by validation"
        return Findings(
            {
                "baseline/nll": nll,
                "baseline-bandwidths/nll": -float(mixed.mean()),
                "baseline/kappa": kappa,
                "baseline/uniform_nll": uniform,
            },
            {
                "baseline-bandwidths/nll": f"kernels of {len(BANDWIDTHS)} bandwidths and "
                "the uniform law, weighted on validation by expectation–maximisation",
                "baseline/nll": f"{how}; mean over {len(data.test)} test points",
                "baseline/kappa": "the κ of best validation likelihood",
                "baseline/uniform_nll": "log 4π: the uniform law",
            },
        )


@dataclass(frozen=True)
class Mass:
    """The integral of the learned density over S²: the component ``evaluation.manifold.mass``.

    Importance sampling from q = Σ w_j q_j: kernel densities on the training points, from fine to
    coarse, and the uniform law; points are drawn in proportion (Veach & Guibas 1995, balance
    heuristic), so that peaks narrower than any affordable lattice count rightly. Metrics
    ``density/integral`` and ``density/integral_se``.

    Args:
        points: how many.
        steps: Runge–Kutta steps of each log-density.
    """

    points: int = 8192
    steps: int = 16

    def __call__(self, scene: Scene) -> Findings:
        _on_s2(scene, "evaluation.manifold.mass")
        train, rng = scene.data.train.to(scene.device), scene.rng
        counts = [max(2, round(weight * self.points)) for weight in WEIGHTS]
        laws = [VonMisesFisherMixture(train, kappa) for kappa in KAPPAS]
        strata = [law.sample(n, rng) for law, n in zip(laws, counts[:-1], strict=True)]
        uniform = UniformSphere(Sphere(2), train.dtype)
        place = torch.cat([*strata, uniform.sample(counts[-1], rng)])
        kernels = kernel_log_densities(train, place, KAPPAS)
        parts = torch.cat([kernels, uniform.log_prob(place).double()[None]])
        shares = torch.tensor(counts, dtype=torch.float64, device=scene.device) / len(place)
        log_q = torch.logsumexp(parts + shares.log()[:, None], 0)
        log_p = self._log_density(scene, place)
        ratios = (log_p - log_q).exp().split(counts)
        integral = sum(float(w * r.mean()) for w, r in zip(shares, ratios, strict=True))
        variance = sum(float(w**2 * r.var() / len(r)) for w, r in zip(shares, ratios, strict=True))
        how = f"importance sampling, {len(place)} points, {self.steps} RK4 steps, exact divergence"
        return Findings(
            {"density/integral": integral, "density/integral_se": math.sqrt(variance)},
            {"density/integral": how, "density/integral_se": "standard error of the integral"},
            (_density_figure(log_p.cpu(), place.cpu(), integral, math.sqrt(variance)),),
        )

    def _log_density(self, scene: Scene, place: Tensor) -> Tensor:
        likelihood, pieces = ODELikelihood(steps=self.steps), list[Tensor]()
        for piece in place.split(1024):
            scene.progress("mass", 1024 * len(pieces), len(place))
            pieces.append(likelihood(scene.model, piece, scene.rng).value)
        scene.progress("mass", len(place), len(place))
        return torch.cat(pieces).double()


def _density_figure(log_p: Tensor, place: Tensor, integral: float, error: float) -> Figure:
    order = log_p.argsort()

    def draw(figure: Any) -> None:
        axes = figure.add_subplot(projection="mollweide")
        latitude, longitude = (torch.deg2rad(a).numpy() for a in to_degrees(place[order]))
        shown = (log_p[order] / math.log(10)).clamp(min=-3).numpy()
        dots = axes.scatter(longitude, latitude, c=shown, s=5, linewidths=0, cmap="viridis")
        axes.set_xticklabels([])
        figure.colorbar(dots, ax=axes, label="log₁₀ density per steradian", shrink=0.7)

    caption = (
        f"At {len(place)} points; values below −3 are shown as −3. The density integrates to "
        f"{integral:.3f} ± {error:.3f} over the sphere."
    )
    return Figure("density", "Learned density", caption, draw, (8.0, 4.2))


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
        # rows of a data set often come in an order, e.g. by country
        held_out, samples = (_shuffled(rows, count, scene) for rows in (held_out, samples))

        def draw(figure: Any) -> None:
            shown = ((held_out, "held-out data"), (samples, "samples"))
            for index, (rows, title) in enumerate(shown, 1):
                axes = figure.add_subplot(2, 1, index, projection="mollweide")
                latitude, longitude = to_degrees(rows)
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


def _shuffled(rows: Tensor, count: int, scene: Scene) -> Tensor:
    order = torch.randperm(len(rows), generator=scene.rng, device=scene.rng.device)
    return rows[order[:count].to(rows.device)]


def _on_s2(scene: Scene, where: str) -> None:
    if scene.data.space != Sphere(2):
        raise CapabilityError(where, "the data lie on S².", got=repr(scene.data.space),
                              fix="leave this evaluation out")  # fmt: skip
