r"""Families of interpolants: one-sided paths, mirrors and smoothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.schedules import Scalar
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    dial,
    equal,
    exact,
    frequencies,
    mean,
    near,
)

from ..families import general_mirror, one_sided, smooth
from ..general import InterpolantPath
from ..latents import Latent
from ..paths import LinearPath
from ..schedules import (
    linear_schedule,
)
from .atoms import Atoms, atom_pairs, equation, mass, score
from .bent import (
    bent,
    cells,
    chances,
    chosen,
    counted,
    dip,
    rising,
    root,
    scaled,
    square,
    without_noise,
)
from .cases import DOUBLE, LINE, normal

__all__ = ["families"]

Claims = tuple[Claim[Any], ...]
ROUNDED = 1024
"""Sums of a few exponentials over a variance that goes down to 0.1."""


def families() -> Claims:
    """Those of the families that paths are built by."""
    return (same_law(), one_sided_fields(), mirrors(), table(), smoothing())


ALPHA = 0.8
"""δ = 0.8 α: the share of α that stays in the interpolation."""


def both_sides() -> tuple[InterpolantPath, InterpolantPath]:
    """The one-sided path with α = 1 − t², and the two-sided one with δ x0 + γz of that variance."""

    def weight(t: Tensor) -> Tensor:
        return 1 - t**2

    def delta(t: Tensor) -> Tensor:
        return weight(t) * (1 - (1 - ALPHA) * 4 * t * (1 - t))

    def whole(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return delta(t)[:, None] * x0 + rising(t, x1)

    gamma = Latent(lambda t: weight(t) ** 2 - delta(t) ** 2)
    return one_sided(LINE, weight, rising), InterpolantPath(LINE, whole, gamma)


def same_law() -> Claim[Any]:
    """One-sided paths are two-sided ones from a normal law."""

    def check(found: tuple[InterpolantPath, InterpolantPath], trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(40_000)
        _, x1, weights = atom_pairs()
        edges = cells()
        for time in (0.3, 0.6):
            centres = rising(torch.full((3,), time, dtype=DOUBLE), x1)[:, 0]
            law = chances(edges, centres, 1 - time**2, weights)
            for words, path in zip(("one-sided", "two-sided"), found, strict=True):
                x0 = normal(count, 1, rng=rng)
                state = path.draw(time, x0, chosen(count, rng), rng).state
                yield frequencies(f"{words}, t = {time:g}", counted(state, edges), law)

    def wide(found: tuple[InterpolantPath, InterpolantPath]) -> Any:
        one, two = found
        noise = two._latent
        assert noise is not None
        return one, replace(two, noise=Latent(lambda t: 2 * noise.gamma_squared(t)))

    def narrow(found: tuple[InterpolantPath, InterpolantPath]) -> Any:
        return replace(
            found[0],
            interpolation=lambda t, x0, x1: (1 - t[:, None]) * x0 + rising(t, x1),
            rate=None,
        ), found[1]

    return Claim(
        "one-sided-law",
        "αz + J has the law of δx0 + J + γz with α² = δ² + γ² and x0 standard normal.",
        both_sides,
        check,
        (Control("γ² × 2", wide), Control("α = 1 − t in place of 1 − t²", narrow)),
        formula=r"\alpha^2 = \delta^2 + \gamma^2,\quad I = J + \delta x_0",
        entries=("L4.6",),
    )


def half(size: int = 1) -> Atoms:
    """The variance-preserving one-sided path, with data ±1."""
    path = one_sided(
        LINE, Scalar(lambda t: ((1 - t) * (1 + t)).sqrt(), lambda t: -t / (1 - t**2).sqrt()),
        lambda t, x1: t[:, None] * x1,
    )  # fmt: skip
    x1 = torch.tensor([[-1.0], [1.0]], dtype=DOUBLE)
    weights = torch.full((2,), 0.5, dtype=DOUBLE)
    return Atoms(
        "one-sided", path, 0 * x1, x1, weights, lambda t, x0, x1: t * x1,
        lambda t: (1 - t**2).sqrt(), from_base=True,
    )  # fmt: skip


def one_sided_fields() -> Claim[tuple[Atoms, ...]]:
    """Fields and targets of one-sided paths."""

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        two_points = found[0]
        t, x = two_points.points(trial.rng(), trial.count(40))
        alpha, beta = (1 - t**2).sqrt()[:, None], t[:, None]
        data = torch.tanh(beta * x / alpha**2)
        base = (x - beta * data) / alpha
        yield equal("E[x1 | x]", two_points.field("denoiser")(t, x), data, operations=ROUNDED)
        yield equal("E[x0 | x]", two_points.field("base_denoiser")(t, x), base, operations=ROUNDED)
        rates = -beta / alpha * base + data
        yield equal("b", two_points.field("velocity")(t, x), rates, operations=ROUNDED)
        for case in found:
            yield equation(case, trial.rng(), trial.count(40))
            yield score(case, trial.rng(), trial.count(40))
            yield score(case, trial.rng(), trial.count(40), "base_denoiser")

    def make() -> tuple[Atoms, ...]:
        path = one_sided(LINE, lambda t: 1 - t**2, rising)
        x0, x1, weights = atom_pairs()
        curved = Atoms(
            "curved J", path, x0, x1, weights, lambda t, x0, x1: rising(t[:, 0], x1),
            lambda t: 1 - t**2, from_base=True,
        )  # fmt: skip
        return half(), curved

    return Claim(
        "one-sided-fields",
        "A one-sided path is carried by b = E[α̇x0 + ∂_t J | x] and its score is −E[x0 | x]/α; for "
        "data ±1 the mean of the data is tanh(βx/α²).",
        make,
        check,
        (
            dial("α̇x0 + ∂_t J × (1 + δ)", scaled("velocity")),
            Control("x0 × 2", lambda found: scaled("base_denoiser")(found, 1.0)),
            Control("score × 2", lambda found: scaled("score")(found, 1.0)),
        ),
        formula=r"b = \mathbb E[\dot\alpha z + \partial_t J\,|\,x_t],\quad "
        r"s = -\alpha^{-1}\,\mathbb E[z\,|\,x_t]",
        entries=("L4.7",),
    )


def mirrored() -> Atoms:
    """A mirror with a K of its own."""
    path = general_mirror(LINE, dip, square(1.3))
    x0, x1, weights = atom_pairs()
    return Atoms("K(t, x1)", path, x0, x1, weights, lambda t, x0, x1: dip(t[:, 0], x1), root(1.3))


def mirrors() -> Claim[tuple[Atoms, ...]]:
    """General mirrors."""

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        rng = trial.rng()
        x1 = chosen(200, rng)
        for time in (0.0, 1.0):
            state = case.path.draw(time, 0 * x1, x1, rng).state
            yield exact(f"x_{time:g} is the data", state, x1, "bit for bit")
        yield equation(case, rng, trial.count(40))
        yield score(case, rng, trial.count(40))
        yield score(case, rng, trial.count(40), "noise")
        yield from mass(case, (0.1, 0.5))

    def open_end(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        (case,) = found
        wrong = replace(
            case.path,
            interpolation=lambda t, x0, x1: dip(t, x1) + 0.01 * t[:, None] * x1,
            kind="free",
        )
        return (replace(case, path=wrong),)

    return Claim(
        "mirror",
        "K(t, x1) + γz has the law of the data at both ends, E[∂_t K + γ̇z | x] carries it, and its "
        "score is −E[z | x]/γ.",
        lambda: (mirrored(),),
        check,
        (
            dial("∂_t K + γ̇z × (1 + δ)", scaled("velocity")),
            Control("∂_t K in place of ∂_t K + γ̇z", without_noise),
            Control("K(1, x1) = 1.01 x1", open_end),
        ),
        formula=r"x_t = K(t, x_1) + \gamma z,\quad K(0, x_1) = K(1, x_1) = x_1",
        entries=("L4.10",),
    )


def _bridge_weights(x0: Tensor, x1: Tensor, eps: float) -> Tensor:
    """The entropic plan between equal weights, by Sinkhorn's iteration: ``(k, k)``."""
    kernel = torch.exp(-(x0 - x1.T).square() / (4 * eps))
    left, right = torch.ones(len(x0), 1, dtype=DOUBLE), torch.ones(len(x1), 1, dtype=DOUBLE)
    for _ in range(200):
        left = 1 / (len(x0) * (kernel @ right))
        right = 1 / (len(x1) * (kernel.T @ left))
    return left * kernel * right.T


def table() -> Claim[dict[str, Atoms]]:
    """The constructions side by side."""

    def make() -> dict[str, Atoms]:
        from ..diffusive import DiffusivePath

        x0, x1, weights = atom_pairs()
        eps = 0.3
        plan = _bridge_weights(x0, x1, eps).flatten()
        line = LinearPath(LINE, linear_schedule("sqrt", 2 * eps))
        straight: Any = lambda t, x0, x1: (1 - t) * x0 + t * x1  # noqa: E731
        diffusive = DiffusivePath(LINE, bent, 0.5)
        return {
            "diffusive": Atoms("diffusive", diffusive, x0, x1, weights, bent, root(1.0)),
            "one-sided": half(),
            "mirror": mirrored(),
            "bridge": Atoms(
                "bridge", line, x0.repeat_interleave(3, 0), x1.repeat(3, 1), plan, straight,
                root(2 * eps),
            ),
        }  # fmt: skip

    def check(found: dict[str, Atoms], trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        left = {"diffusive": 0, "one-sided": 0, "mirror": 1, "bridge": 0}
        for name, case in found.items():
            ends = normal(50, 1, rng=rng), normal(50, 1, rng=rng)
            for time, end in ((0.0, ends[left[name]]), (1.0, ends[1])):
                state = case.path.draw(time, *ends, rng).state
                yield equal(f"{name}: x_{time:g}", state, end, operations=4)
            yield equation(case, rng, trial.count(30))

    def all_scaled(found: dict[str, Atoms], size: float) -> dict[str, Atoms]:
        plant = scaled("velocity")
        return {name: plant((case,), size)[0] for name, case in found.items()}

    def one_off(name: str) -> Control[dict[str, Atoms]]:
        return Control(
            f"{name}: b × 1.1",
            lambda found: {**found, name: scaled("velocity")((found[name],), 0.1)[0]},
        )

    return Claim(
        "table",
        "The diffusive, one-sided, mirror and bridge constructions meet their ends and obey the "
        "continuity equation with b = E[ẋ_t | x].",
        make,
        check,
        (dial("b × (1 + δ)", all_scaled), *(one_off(name) for name in make())),
        entries=("L4.18",),
    )


def smoothing() -> Claim[Callable[..., LinearPath]]:
    """A latent noise smooths the laws in between."""

    means, std = torch.tensor([-1.5, 1.5], dtype=DOUBLE), 0.3

    def density(path: LinearPath, time: float, grid: Tensor) -> Tensor:
        """Both ends ½N(−1.5, 0.09) + ½N(1.5, 0.09), independent."""
        t = torch.tensor([time], dtype=DOUBLE)
        s = path.schedule
        alpha, beta = float(s.alpha(t)), float(s.beta(t))
        width = math.sqrt((alpha**2 + beta**2) * std**2 + float(s.gamma_squared(t)))
        centres = (alpha * means[:, None] + beta * means[None]).flatten()
        found: Tensor = Normal(centres[:, None], width).log_prob(grid[None]).exp().mean(0)
        return found

    def modes(values: Tensor) -> int:
        return int(((values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])).sum())

    def check(build: Callable[..., LinearPath], trial: Trial) -> Iterator[Evidence]:
        sharp = LinearPath(LINE, linear_schedule())
        grid = torch.linspace(-8, 8, 801, dtype=DOUBLE)
        before = density(sharp, 0.5, grid)
        counts = []
        for a in (0.2, 1.0, 16.0):
            wide = build(sharp, square(a))
            gamma = math.sqrt(a / 4)
            kernel = Normal(0.0, gamma).log_prob(grid[:, None] - grid[None]).exp()
            whole = torch.trapezoid(before * kernel, grid, dim=1)
            found = density(wide, 0.5, grid)
            inner = slice(200, 601)
            because = "trapezoids of spacing 0.02 on normals of width above 0.2"
            yield near(f"p * N(0, {a / 4:g})", found[inner], whole[inner], 1e-8, because)
            counts.append(modes(found))
        yield exact("modes without noise", modes(before), 3)
        yield exact("modes as γ grows", (counts[0], counts[-1]), (3, 1))
        twice = smooth(build(sharp, square(1.0)), square(0.5))
        t = torch.linspace(0, 1, 21, dtype=DOUBLE)
        yield equal("noises add", twice.schedule.gamma_squared(t), square(1.5)(t))
        yield equal("and their rates", twice.schedule.gamma_squared.rate(t), 1.5 * (1 - 2 * t))
        curved = build(InterpolantPath(LINE, bent, square(1.0)), square(0.5))
        yield equal("of any interpolant", curved.noise.gamma_squared(t), square(1.5)(t))  # type: ignore[attr-defined]
        count = trial.count(8000)
        x0, x1 = normal(count, 1, rng=trial.rng()), chosen(count, trial.rng("x"))
        noise = build(sharp, square(2.0)).draw(0.5, x0, x1, trial.rng("z")).state - (x0 + x1) / 2
        yield mean("its draws", noise.square(), torch.full((1,), 0.5, dtype=DOUBLE))

    def root_in_place(build: Any) -> Any:
        return lambda path, g: build(path, lambda t: g(t) ** 2)

    def doubled(build: Any, size: float) -> Any:
        return lambda path, g: build(path, lambda t: (1 + size) * g(t))

    return Claim(
        "smoothing",
        "Adding γz convolves the law at time t with N(0, γ²I): the modes of bimodal ends merge as "
        "γ grows.",
        lambda: smooth,
        check,
        (Control("γ⁴ in place of γ²", root_in_place), dial("γ² × (1 + δ)", doubled)),
        formula=r"\rho_\gamma(t) = \rho_0(t) * N(0, \gamma^2 I)",
        entries=("L5.10",),
    )  # fmt: skip
