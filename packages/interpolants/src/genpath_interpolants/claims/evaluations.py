r"""Evaluations of learnt laws, on models whose laws are known exactly.

The models are exact fields, and the same fields scaled. Between normal laws on the line a field
scaled by a known factor gives a normal law again, whose density is that of the moments' equations:

    m' = c + k m,   V' = 2 k V + 2ε        for dX = (c + kX) dt + √(2ε) dW
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MixtureSameFamily, MultivariateNormal, Normal

from genpath.codecs import Identity
from genpath.datasets import Dataset
from genpath.evaluation import Findings, Scene
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.likelihoods import ODELikelihood
from genpath.models import ODE, SDE, Model
from genpath.samplers import RungeKutta, Solver, integrate
from genpath.spaces import Euclidean
from genpath.tableaus import HEUN
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    dial,
    equal,
    exact,
    frequencies,
    mean,
    near,
)
from genpath.testing.evidence import z_bound

from ..data import five_modes_law
from ..dynamics import DiffusiveSDE
from ..ensembles import Ensembles, Resampling
from ..evaluations import DensityError, Marginals
from ..mixtures import FullMixture, GaussianMixture, MixtureMarginal
from ..paths import LinearPath
from ..presets import elliptical, linear, mirror
from ..samplers import StochasticHeun
from ..sweeps import EpsSweep, Projection, Scatter, energy_distance
from .cases import DOUBLE, LINE, PLANE, affine_moments, kl_normal, mixture, single

__all__ = ["density_error", "ensembles", "eps_sweep", "marginals", "resampling", "scatter"]

CPU = torch.device("cpu")
FOUR = tuple(f"{b}+{s}" for b in ("velocity", "interpolant_velocity") for s in ("score", "noise"))
"""The four joint predictions of the course, (b | v) × (s | η)."""

Told = Callable[[dict[str, float]], dict[str, float]]


# -- models with known laws ------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Exact fields of one path, each times its own factor.

    Args:
        path: the path.
        law: of x1.
        predict: single or joint.
        factors: of the quantities of ``predict``.
        base: the law at 0; N(0, I) if None.
        late: the factors hold after this time only.
        tell: what becomes of the metrics.
    """

    path: LinearPath
    law: Any
    predict: str = "velocity+score"
    factors: tuple[float, ...] = (1.0, 1.0)
    base: Any = None
    late: float = 0.0
    tell: Told = dict

    @property
    def model(self) -> Model:
        """The model with these fields."""
        base, event = self.base, self.law.event_shape
        known = isinstance(base, (GaussianMixture, FullMixture))
        field = MixtureMarginal(self.path, self.law, base if known else None).field(self.predict)
        joint = (len(self.factors),) * ("+" in self.predict)
        factors = torch.tensor(self.factors, dtype=DOUBLE).reshape(*joint, *[1] * len(event))

        def network(t: Tensor, x: Any) -> Tensor:
            found = field(t, x)
            on = (t >= self.late).to(found).reshape(-1, *[1] * (found.dim() - 1))
            value: Tensor = found * (1 + on * (factors - 1))
            return value

        return Model(network, self.path, base or Gaussian(event, dtype=DOUBLE), self.predict)

    def scene(self, trial: Trial, count: int, likelihood: Any = None) -> Scene:
        """Held-out rows, the model, and its likelihood."""
        rows = self.law.sample(count, trial.rng("rows"))
        data = Dataset("exact", Euclidean(*rows.shape[1:]), rows, rows, rows, "drawn", law=self.law)
        solver = Solver(RungeKutta(HEUN), TimeGrid.uniform(4))
        rng = trial.rng("evaluation")
        return Scene(self.model, data, rows, ODE(), solver, likelihood, rng, CPU)

    def metrics(self, evaluation: Any, scene: Scene) -> dict[str, float]:
        """What an evaluation tells."""
        found: Findings = evaluation(scene)
        return self.tell(dict(found.metrics))


def scaled(*shares: float) -> Callable[[World, float], World]:
    """The fields times 1 + δ · share, in order."""

    def plant(world: World, size: float) -> World:
        pairs = zip(world.factors, shares, strict=False)
        return replace(world, factors=tuple(f * (1 + size * share) for f, share in pairs))

    return plant


def told(key: str) -> Callable[[World, float], World]:
    """The metrics whose names begin with this, times 1 + δ; their standard errors stay."""

    def plant(world: World, size: float) -> World:
        def change(found: dict[str, float]) -> dict[str, float]:
            on = {k: k.startswith(key) and not k.endswith("_se") for k in found}
            return {k: v * (1 + size * on[k]) for k, v in found.items()}

        return replace(world, tell=change)

    return plant


def solved(steps: int) -> Solver:
    """Stochastic Heun, for flows and SDEs."""
    return Solver(StochasticHeun(), TimeGrid.uniform(steps))


# -- density error ---------------------------------------------------------------------------------


def density_error() -> tuple[Claim[Any], ...]:
    """Claims of ``interpolants.density_error``."""
    return (_exact_fields(), _projects(), _scaled_normal(), _paths())


def _falls(world: World, trial: Trial, words: str) -> Iterator[Evidence]:
    """The error of the flow's density is that of its solver."""
    errors = []
    for steps in (5, 10):
        scene = world.scene(trial, trial.count(40, 20), ODELikelihood(steps=steps))
        errors.append(world.metrics(DensityError(), scene)["density-error/model"])
    because = "order 4: 10 steps leave a sixteenth of what 5 leave, or a quarter while h⁵ counts"
    yield at_most(f"{words}: E|log ρ − log ρ̂|", errors[1], errors[0] / 4, because, slack=1e-10)


def _exact_fields() -> Claim[Any]:
    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        for gamma in ("sqrt", "sine") if trial.fast else ("none", "sqrt", "quadratic", "sine"):
            path = linear(PLANE, gamma, base="gaussian")
            yield from _falls(replace(world, path=path), trial, f"γ {gamma}")

    return Claim(
        "exact-fields",
        "With exact fields the density error of the flow is that of its solver, for every γ of the "
        "planar study; with scaled ones it is not.",
        lambda: World(linear(PLANE, base="gaussian"), mixture(), "velocity", (1.0,)),
        check,
        (dial("velocity × (1 + δ)", scaled(1.0), 0.5),),
        formula=r"\mathbb{E}|\log\rho_1 - \log\hat\rho_1| = 0",
        entries=("E1", "E2"),
    )


def _projects() -> Claim[Any]:
    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        values = []
        for predict in FOUR:
            one = replace(world, predict=predict)
            scene = one.scene(trial, 20, ODELikelihood(steps=4))
            values.append(one.metrics(DensityError(), scene)["density-error/model"])
        same = torch.tensor(values, dtype=DOUBLE)
        because = "4 steps of 4 calls, each with derivatives, on numbers of size 10"
        yield equal(
            "(b | v) × (s | η)", same, same[:1].expand(4), operations=2**14, because=because
        )
        rows = torch.eye(2, dtype=DOUBLE)
        data = Dataset("rows", PLANE, rows, rows, rows, "made up")
        path = elliptical(PLANE, data, Identity(), scales=(0.5, 1.5))
        covariance = torch.diag(torch.tensor([0.25, 2.25], dtype=DOUBLE))
        wide = replace(path, base_covariance=covariance)
        unit, zero = torch.ones(1, dtype=DOUBLE), torch.zeros(1, 2, dtype=DOUBLE)
        base = FullMixture(unit, zero, covariance[None])
        own = replace(world, path=wide, base=base, predict="velocity")
        yield from _falls(replace(own, factors=own.factors[:1]), trial, "from N(0, C0)")

    return Claim(
        "suggested-projects",
        "The four parameterisations (b | v) × (s | η) give one density where they are exact, and "
        "so does a base that is not isotropic.",
        lambda: World(linear(PLANE, "quadratic"), mixture()),
        check,
        (dial("second field × (1 + δ)", scaled(0.0, 1.0), 0.5),),
        entries=("E9",),
    )


def _scaled_normal() -> Claim[Any]:
    centre, std, factor = 0.4, 0.7, 1.3

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        scene = world.scene(trial, trial.count(800, 500), ODELikelihood(steps=6))
        found = world.metrics(DensityError(max_examples=None), scene)
        gen = replace(world, factors=(factor,)).model.generator(ODE())
        m, v = (float(part[-1]) for part in affine_moments(gen, 0.0, 1.0))
        rows = scene.data.test[:, 0]
        gaps = Normal(centre, std).log_prob(rows) - Normal(m, math.sqrt(v)).log_prob(rows)
        because = "6 steps of order 4 against 200"
        key = "density-error/model"
        yield near("E|log ρ − log ρ̂|", found[key], float(gaps.abs().mean()), 2e-4, because)
        yield near("its variance", found[f"{key}_variance"], float(gaps.abs().var()), 2e-4, because)
        error = float(gaps.abs().std()) / math.sqrt(len(gaps))
        yield near("its standard error", found[f"{key}_se"], error, 2e-4, because)
        kl, bound = float(kl_normal(centre, std**2, m, v)), z_bound(1)
        slack = bound * found["density-kl/model_se"] + 2e-4
        at = near("KL", found["density-kl/model"], kl, slack, "4.89 standard errors, as it states")
        yield replace(at, samples=len(rows))

    return Claim(
        "scaled-normal",
        "With a velocity scaled by 1.3 the learnt law is normal with the moments of the scaled "
        "equations, and the evaluation tells the mean, variance and error of |log ρ − log ρ̂|.",
        lambda: World(linear(LINE, base="gaussian"), single(centre, std), "velocity", (factor,)),
        check,
        (
            dial("velocity × (1 + δ)", scaled(1.0), 0.1),
            dial("the mean told × (1 + δ)", told("density-error/model")),
            dial("KL told × (1 + δ)", told("density-kl/model"), 1.0),
        ),
    )


def _paths() -> Claim[Any]:
    levels = (0.1, 0.3)

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(120, 60)
        scene = world.scene(trial, count)
        found = world.metrics(DensityError(eps=levels, steps=10, paths=64), scene)
        for level in levels:
            key = f"density-error/eps_{level:g}"
            # |N(0, s²)| has mean s√(2/π) and standard deviation s√(1 − 2/π); s is known to 9 %
            spread = z_bound(1) * math.sqrt(math.pi / 2 - 1) / math.sqrt(count) + 0.1
            because = "4.89 errors of the mean of n folded normals, and 0.1 for an error that 64 "
            because += "paths estimate"
            at = near(f"ε = {level:g}: error over floor", found[key] / found[f"{key}_floor"], 1.0,
                      spread, because)  # fmt: skip
            yield replace(at, samples=count)

    law = GaussianMixture(
        torch.tensor([0.4, 0.6], dtype=DOUBLE),
        torch.tensor([[-1.0], [0.8]], dtype=DOUBLE),
        torch.tensor([0.8, 0.6], dtype=DOUBLE),
    )
    return Claim(
        "floor",
        "With exact fields the density error of the SDEs does not depend on ε but through the "
        "spread of their paths, which is told as the floor.",
        lambda: World(linear(LINE, "sqrt", base="gaussian"), law),
        check,
        (
            dial("velocity × (1 + δ)", scaled(1.0, 0.0), 0.5),
            dial("score × (1 + δ)", scaled(0.0, 1.0)),
            dial(
                "the floor told × (1 − δ/2)",
                lambda world, d: told("density-error/eps_0.1_floor")(world, -d / 2),
            ),
        ),
        entries=("E1",),
    )


# -- where in t ------------------------------------------------------------------------------------


def marginals() -> tuple[Claim[Any], ...]:
    """Claims of ``interpolants.marginals``."""

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(2000, 1000)
        for eps in (0.0, 0.4):
            evaluation = Marginals(eps=eps, bins=4, functions=6, level=1e-6)
            scene = world.scene(trial, count)
            found: Findings = evaluation(scene)
            bound = float(found.measured["marginals/worst_z"].split()[-1])
            worst = found.metrics["marginals/worst_z"]
            at = at_most(f"ε = {eps:g}: worst |z|", worst, bound + 0.01, "chance, at 1e-6")
            yield replace(at, samples=count)
            yield exact(f"ε = {eps:g}: bins left", found.metrics["marginals/bins_left"], 0.0)

    return (
        Claim(
            "stays",
            "With exact fields no bin of time is left, by the velocity or the drift of an SDE.",
            lambda: World(linear(PLANE, "sqrt", base="gaussian"), mixture()),
            check,
            (
                dial("velocity × (1 + δ)", scaled(1.0, 0.0), 0.5),
                dial(
                    "velocity × (1 + δ) after ¾",
                    lambda world, size: replace(scaled(1.0, 0.0)(world, size), late=0.75),
                ),
                dial("score × (1 + δ)", scaled(0.0, 1.0)),
            ),
        ),
        _named(),
    )


def _named() -> Claim[Any]:
    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        scene = world.scene(trial, trial.count(2000, 1000))
        found = Marginals(bins=4, functions=6, level=1e-6)(scene)
        lines = found.texts[0].body.splitlines()[1:]
        left = [line.endswith("leaves") for line in lines]
        yield exact("which bins are left", left, [False, False, True, True])
        yield exact("how many", world.tell(dict(found.metrics))["marginals/bins_left"], 2.0)

    def made() -> World:
        path = linear(PLANE, "sqrt", base="gaussian")
        return World(path, mixture(), factors=(2.0, 1.0), late=0.5)

    return Claim(
        "says-where",
        "A velocity that is doubled after t = ½ leaves the path in the later half, which is named.",
        made,
        check,
        (
            Control("doubled after ¼", lambda world: replace(world, late=0.25)),
            Control("doubled after ¾", lambda world: replace(world, late=0.75)),
        ),
    )


# -- sweeps ----------------------------------------------------------------------------------------


def eps_sweep() -> tuple[Claim[Any], ...]:
    """Claims of ``interpolants.eps_sweep``."""
    return (_sweep(), _modes(), _energy())


def _sweep() -> Claim[Any]:
    levels, repeats, quantile, width = (0.0, 0.3), 12, 9.1, 0.8

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(600, 400)
        scene = world.scene(trial, count)
        sweep = EpsSweep(levels, "constant", solved(12), count, repeats, bandwidth=width)
        found = world.metrics(sweep, scene)
        line = World(linear(LINE, "sqrt"), single(0.0, math.sqrt(0.2)), factors=(1.4, 0.7)).model
        for level in levels:
            how = SDE(level) if level else ODE()
            v = float(affine_moments(line.generator(how), 0.0, 1.0)[1][-1])
            blur = 0.2 * width**2
            kl = 2 * float(kl_normal(0.0, 0.2 + blur, 0.0, v + blur))
            key = f"sweep-kl/eps_{level:g}"
            above = found[key] - found["sweep-kl/floor"]
            error = math.hypot(found[f"{key}_se"], found["sweep-kl/floor_se"])
            because = "9.1: t with 11 degrees at 1e-6; a fifth: a narrow law has a higher floor"
            what, slack = f"ε = {level:g}: KL above the floor", quantile * error + kl / 5
            yield replace(near(what, above, kl, slack, because), samples=repeats)
        yield exact("which ε is best", found["sweep-kl/best_eps"], 0.3)

    return Claim(
        "noise-sweep",
        "With velocity × 1.4 and score × 0.7 the flow is too narrow and ε = 0.3 is better: the KL "
        "of blurred laws in two coordinates is that of normal laws, and the best ε is told.",
        lambda: World(
            linear(PLANE, "sqrt"),
            GaussianMixture(
                torch.ones(1, dtype=DOUBLE),
                torch.zeros(1, 2, dtype=DOUBLE),
                torch.full((1,), math.sqrt(0.2), dtype=DOUBLE),
            ),
            factors=(1.4, 0.7),
        ),
        check,
        (
            dial("velocity × (1 + δ)", scaled(1.0, 0.0), 0.5),
            dial("velocity × (1 − δ/3.5)", scaled(-1 / 3.5, 0.0)),
            dial("KL told × (1 + δ)", told("sweep-kl/eps_0")),
        ),
        formula=r"\mathrm{KL}(\rho * k\,\|\,\hat\rho * k) \le \mathrm{KL}(\rho\,\|\,\hat\rho)",
        entries=("E4",),
    )


def _modes() -> Claim[Any]:
    law = five_modes_law(128)
    law = law.to(DOUBLE)
    steps = 24

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        for index, predict in enumerate(FOUR):
            one = replace(world, predict=predict)
            count, eps = trial.count(120, 60), (0.0, 0.5)[index % 2]
            rng = trial.rng(predict)
            how = DiffusiveSDE(eps) if eps else ODE()
            gen, grid = one.model.generator(how), TimeGrid.uniform(steps, 1e-3, 1 - 1e-3)
            start = torch.randn(count, 128, generator=rng, dtype=DOUBLE)
            x = integrate(StochasticHeun(), gen, start, grid, rng).state
            squares = torch.cdist(x, law.means).square()
            mode = squares.argmin(1)
            counts = torch.bincount(mode, minlength=5)
            yield frequencies(f"{predict}: modes", counts, law.weights)
            near_by = law.means[mode]
            found = torch.stack(
                (
                    squares.gather(1, mode[:, None])[:, 0] / (128 * law.stds[mode, 0] ** 2),
                    (x * near_by).sum(1) / near_by.square().sum(1),
                ),
                1,
            )
            because = "h²: 48 steps differ by less, and the thousandth of time at both ends"
            what = f"{predict}: |x − m|²/(128 s²), x·m/|m|²"
            yield mean(what, found, torch.ones(2), allowance=0.02, because=because)

    return Claim(
        "five-modes",
        "In 128 dimensions the exact fields of all four parameterisations carry noise to five far "
        "modes, with their weights and widths, with and without noise in the sampler.",
        lambda: World(linear(Euclidean(128), "sqrt"), law),
        check,
        (
            dial("first field × (1 + δ)", scaled(1.0, 0.0), 0.5),
            dial("second field × (1 + δ)", scaled(0.0, 1.0)),
        ),
        entries=("E3",),
    )


def _energy() -> Claim[Any]:
    shift, std = 0.5, 1.4

    def folded(m: float, v: float) -> float:
        """E|N(m, v)|."""
        s = math.sqrt(v)
        return s * math.sqrt(2 / math.pi) * math.exp(-m * m / (2 * v)) + m * math.erf(
            m / (s * math.sqrt(2))
        )

    def check(distance: Callable[[Tensor, Tensor], Tensor], trial: Trial) -> Iterator[Evidence]:
        count, rng = trial.count(2000, 500), trial.rng()
        x = torch.randn(count, 20, 1, generator=rng, dtype=DOUBLE)
        y = shift + std * torch.randn(count, 30, 1, generator=rng, dtype=DOUBLE)
        found = torch.func.vmap(distance)(x, y)
        true = 2 * folded(shift, 1 + std**2) - folded(0.0, 2.0) - folded(0.0, 2 * std**2)
        yield mean("of normal laws", found, true)
        same = torch.func.vmap(distance)(x[:, :10], x[:, 10:])
        yield mean("of equal laws", same, 0.0)

    def biased(x: Tensor, y: Tensor) -> Tensor:
        return 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()

    def once(x: Tensor, y: Tensor) -> Tensor:
        return energy_distance(x, y) - torch.cdist(x, y).mean()

    return Claim(
        "energy",
        "The energy distance of draws is without bias: 0 for equal laws, and between normal laws "
        "that of folded normal means.",
        lambda: energy_distance,
        check,
        (
            Control("rows beside themselves", lambda _: biased),
            Control("E|X − Y| once", lambda _: once),
        ),
        formula=r"2\,\mathbb{E}|X-Y| - \mathbb{E}|X-X'| - \mathbb{E}|Y-Y'|",
    )


# -- two coordinates -------------------------------------------------------------------------------


def scatter() -> tuple[Claim[Any], ...]:
    """Claims of ``interpolants.scatter``."""
    return (_seen(), _drawn())


def _skew() -> FullMixture:
    root = torch.tensor([[1.0, 0.3, 0.0], [0.2, 0.8, -0.4], [0.5, 0.0, 0.6]], dtype=DOUBLE)
    means = torch.tensor([[1.0, -1.0, 0.5], [-2.0, 0.0, 1.0]], dtype=DOUBLE)
    spread = torch.stack((root @ root.T, torch.eye(3, dtype=DOUBLE) * 0.5))
    return FullMixture(torch.tensor([0.3, 0.7], dtype=DOUBLE), means, spread)


def _seen() -> Claim[Any]:
    def check(seen: Projection, trial: Trial) -> Iterator[Evidence]:
        law, rng = _skew(), trial.rng()
        x = torch.randn(50, 2, generator=rng, dtype=DOUBLE)
        keep = [2, 0]
        parts = MultivariateNormal(law.means[:, keep], law.covariances[:, keep][:, :, keep])
        true = MixtureSameFamily(torch.distributions.Categorical(law.weights), parts)
        yield equal("log-density", seen.law(law).log_prob(x), true.log_prob(x), operations=2**10)
        points = torch.randn(5, 3, generator=rng, dtype=DOUBLE)
        yield equal("points", seen(points), points[:, keep])
        stretched = torch.randn(4000, 3, generator=rng, dtype=DOUBLE) * torch.tensor(
            [1.0, 5.0, 2.0]
        )
        turned = Projection.of("principal", (0, 1), stretched)(stretched)
        bound = stretched.var(0).sort(descending=True).values[:2]
        yield at_most(
            "principal directions vary most", -turned.var(0).sum(), -bound.sum(), "Ky Fan"
        )

    rows = torch.zeros(2, 3, dtype=DOUBLE)
    return Claim(
        "marginal",
        "Two coordinates of a mixture have the mixture of their means and covariances as law; the "
        "principal two hold at least the variance of any two coordinates.",
        lambda: Projection.of("coordinates", (2, 0), rows),
        check,
        (
            dial("x × (1 + δ)", lambda seen, d: replace(seen, matrix=(1 + d) * seen.matrix)),
            Control("in the other order", lambda seen: replace(seen, matrix=seen.matrix.flip(1))),
        ),
    )


def _drawn() -> Claim[Any]:
    def check(picture: Callable[[Scatter, Scene], Any], trial: Trial) -> Iterator[Evidence]:
        from matplotlib.figure import Figure as Canvas

        law = mixture()
        scene = World(linear(PLANE), law, "velocity", (1.0,)).scene(trial, 400)
        scene = replace(scene, samples=law.sample(500, trial.rng("samples")))
        canvas = Canvas()
        picture(Scatter(resolution=80), scene)(canvas)
        for axes, points in zip(canvas.axes, (scene.samples[:400], scene.data.test), strict=True):
            drawn = torch.tensor(axes.collections[0].get_offsets())
            yield equal(f"{axes.get_title()}: points", drawn, points)
            image = axes.images[0]
            west, east, south, north = image.get_extent()
            square = torch.as_tensor(image.get_array()).double().square()
            mass = float(square.sum()) * (east - west) * (north - south) / square.numel()
            because = "the box holds all but 1 %: 400 rows and a tenth on each side"
            yield near(f"{axes.get_title()}: mass of the density", mass, 1.0, 0.01, because)
            x = torch.linspace(west, east, 161, dtype=DOUBLE)[1::2]
            y = torch.linspace(south, north, 161, dtype=DOUBLE)[1::2]
            spot = law.log_prob(torch.stack((x[60].expand(80), y), 1)).exp()
            yield equal(f"{axes.get_title()}: a column", square[:, 60], spot, operations=2**8)

    def shifted(picture: Any, size: float) -> Any:
        return lambda s, scene: picture(s, replace(scene, samples=scene.samples + 0.01 * size))

    def other(picture: Any) -> Any:
        def wrong(s: Scatter, scene: Scene) -> Any:
            law = replace(scene.data, law=Gaussian((2,), dtype=DOUBLE))
            return picture(s, replace(scene, data=law))

        return wrong

    return Claim(
        "picture",
        "The picture shows the samples and the rows as they are, on the density of the law.",
        lambda: lambda evaluation, scene: evaluation(scene).figures[0].draw,
        check,
        (dial("samples + δ/100", shifted), Control("the density of N(0, I)", other)),
        requires=("matplotlib",),
    )


# -- one start -------------------------------------------------------------------------------------


def ensembles() -> tuple[Claim[Any], ...]:
    """Claims of ``interpolants.ensembles``."""
    centre, std, levels = 0.8, 0.6, (0.0, 0.3, 1.0)

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        starts = trial.count(400, 200)
        evaluation = Ensembles(levels, "constant", solved(16), starts, 8)
        found = world.metrics(evaluation, world.scene(trial, 200))
        t = (torch.arange(4000, dtype=DOUBLE) + 0.5) / 4000
        clock = float((1 / ((1 - t) ** 2 + std**2 * t**2 + t * (1 - t))).mean())
        for level in levels:
            variance = std**2 * (1 - math.exp(-2 * level * clock))
            true = {"variance": variance, "distance": 2 * math.sqrt(variance / math.pi)}
            for name, value in true.items():
                key = f"ensemble-{name}/eps_{level:g}"
                because = "4.89 of the standard errors that it states, and h² of Heun's method"
                slack = z_bound(1) * found[f"{key}_se"] + 5e-3 * (level > 0)
                at = near(f"ε = {level:g}: {name}", found[key], value, slack + 1e-12, because)
                yield replace(at, samples=starts)

    return (
        Claim(
            "spread",
            "Between normal laws the ends of one start have the variance of the formula, a mean "
            "distance of 2/√π standard deviations, and no spread without noise.",
            lambda: World(linear(LINE, "sqrt", base="gaussian"), single(centre, std)),
            check,
            (
                dial("score × (1 + δ)", scaled(0.0, 1.0)),
                dial("distance told × (1 + δ)", told("ensemble-distance")),
                dial("variance told × (1 + δ)", told("ensemble-variance")),
            ),
            formula=r"\mathrm{Var}(X_1|x_0) = v_1\big(1 - e^{-2\varepsilon\int dt/V_t}\big)",
        ),
    )


# -- resampling ------------------------------------------------------------------------------------


def resampling() -> tuple[Claim[Any], ...]:
    """Claims of ``interpolants.resampling``."""
    std, scale, levels = 0.7, 2.0, (0.0, 0.2, 0.6)

    def clock(v: float) -> float:
        """∫ dt/(v + a t(1−t)), by partial fractions."""
        r = math.sqrt(1 + 4 * v / scale)
        return 2 / (scale * r) * math.log((r + 1) / (r - 1))

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(4000, 1500)
        scene = world.scene(trial, count)
        evaluation = Resampling(levels, "constant", solved(16), None)
        found = world.metrics(evaluation, scene)
        sample = float(scene.data.train.var())
        for level in levels:
            name = f"eps_{level:g}"
            true = math.exp(-level * clock(std**2))
            value, error = (found[f"resampling-correlation/{name}{end}"] for end in ("", "_se"))
            because = "4.89 of the standard errors that it states, and h² of Heun's method"
            slack = z_bound(1) * error + 4e-3
            at = near(f"ε = {level:g}: correlation", value, true, slack, because)
            yield replace(at, samples=count)
            twin = math.exp(-level * clock(sample))
            because = "the midpoint rule with 2000 cells"
            yield near(
                f"ε = {level:g}: twin", found[f"resampling-twin/{name}"], twin, 1e-6, because
            )
        because = (
            "h² of Heun's method on a path of length ½: the flow of a mirror ends where it starts"
        )
        yield near(
            "the flow keeps its input", found["resampling-distance/eps_0"], 0.0, 2e-3, because
        )

    law = single(0.3, std)
    return (
        Claim(
            "correlation",
            "On a mirror of normal data input and output have correlation exp(−ε∫dt/(v + γ²)): 1 "
            "for the flow, which keeps its input, and less the larger ε.",
            lambda: World(mirror(LINE, "sqrt", scale), law, base=law),
            check,
            (
                dial("score × (1 + δ)", scaled(0.0, 1.0)),
                dial(
                    "velocity × (1 + δ t > ½)",
                    lambda w, d: replace(scaled(1.0, 0.0)(w, d), late=0.5),
                    0.5,
                ),
                dial("twin told × (1 + δ)", told("resampling-twin"), 0.5),
            ),
            formula=r"\mathrm{corr}(X_0, X_1) = e^{-\varepsilon\int dt/(v+\gamma^2)}",
            entries=("E8", "L4.11"),
        ),
    )
