r"""Feynman–Kac equations on a grid and by weighted particles, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.samplers import Euler, integrate
from genpath.spaces import Euclidean
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    dial,
    equal,
    exact,
    mean,
    near,
    order,
)

from .. import potentials
from ..grid_solvers import GridLaw, GridOperators, NormalizedFKGrid, UnnormalizedFKGrid
from ..potentials import feynman_kac, with_potential
from ..references import (
    LinearLaw,
    WeightedHeatFlow,
    euler_law,
    exact_law,
)
from ._diffusing import DOUBLE

__all__ = ["claims"]

LINE = Euclidean(1)


def claims() -> tuple[Claim[Any], ...]:
    """Those of the topic ``compose.fk_equations``."""
    return (
        pieces(),
        equations(),
        generators(),
        weighted(),
        shifts(),
    )


# -- equations on a grid ---------------------------------------------------------------------------


def pieces() -> Claim[Callable[[int], GridOperators]]:
    """L7.4: the three pieces."""

    def check(make: Callable[[int], GridOperators], trial: Trial) -> Iterator[Evidence]:
        errors: dict[str, list[float]] = {"transport": [], "diffusion": []}
        sizes = (64, 91, 128, 181)
        for cells in sizes:
            found = make(cells)
            x = found.mesh.centres
            p = torch.exp(-((x - 0.3) ** 2)) + 0.5 * torch.exp(-2 * (x + 1) ** 2)
            s = torch.func.grad(lambda y: _bumps(y).log().sum())(x)
            bend = torch.func.grad(lambda y: torch.func.grad(
                lambda z: _bumps(z).log().sum())(y).sum())(x)  # fmt: skip
            g, width = torch.sin(2 * x) + x**2, found.mesh.width
            moved, spread = found.transport(p, torch.cos), found.diffusion(p, 0.9)
            for name, piece in (
                ("transport", moved), ("diffusion", spread),
                ("reweighting", found.reweighting(p, g)),
            ):  # fmt: skip
                words = f"{name}, {cells} cells: ∫"
                yield equal(words, piece.sum() * width, 0.0, operations=cells,
                            scale=float(piece.abs().max()))  # fmt: skip
            gain = potentials.transport_to_weight(torch.cos(x)[:, None], -torch.sin(x), s[:, None])
            errors["transport"].append(float((moved - gain * p).abs().max()))
            gain = potentials.diffusion_to_weight(0.9, s[:, None], bend)
            errors["diffusion"].append(float((spread - gain * p).abs().max()))
        for name, found_errors in errors.items():
            widths = [16 / cells for cells in sizes]
            yield order(f"{name}: order in Δ", widths, found_errors, 2.0)

    def uphill(make: Callable[[int], GridOperators]) -> Callable[[int], GridOperators]:
        """The velocity read half a cell to the left."""
        return lambda cells: but(
            make(cells),
            transport=lambda p, v: make(cells).transport(p, lambda y: v(y - 8 / cells)),
        )

    def biased(make: Callable[[int], GridOperators], size: float) -> Callable[[int], GridOperators]:
        return lambda cells: but(
            make(cells),
            reweighting=lambda p, g: make(cells).reweighting(p, g) + size * g * p,
        )

    return Claim(
        "three-pieces",
        "Transport, diffusion and reweighting each keep the mass; on a grid the first two are "
        "their weights times p, at second order.",
        lambda: lambda cells: GridOperators(-8.0, 8.0, cells),
        check,
        (
            Control("velocity read half a cell off", uphill),
            dial("δ g p not centred", biased, 0.01),
        ),
        formula=r"\partial_tp=-\nabla\cdot(pv)+\tfrac{\sigma^2}{2}\Delta p+(g-\mathbb E_pg)p",
        entries=("L7.4",),
    )


def _bumps(x: Tensor) -> Tensor:
    return torch.exp(-((x - 0.3) ** 2)) + 0.5 * torch.exp(-2 * (x + 1) ** 2)


@dataclass(frozen=True)
class Grids:
    """Both solvers, on the same interval."""

    normalised: Callable[..., GridLaw]
    unnormalised: Callable[..., GridLaw]


def _grids() -> Grids:
    def one(kind: Any) -> Callable[..., GridLaw]:
        def solve(drift: Any, sigma: float, potential: Any, start: Any, n: int) -> GridLaw:
            found: GridLaw = kind(-9.0, 9.0, 6 * n).solve(
                drift, sigma, potential, start, TimeGrid.uniform(n)
            )
            return found

        return solve

    return Grids(one(NormalizedFKGrid), one(UnnormalizedFKGrid))


def equations() -> Claim[Grids]:
    """L7.5, L7.6 and H7.1."""
    heat = WeightedHeatFlow(0.9, 1.5)

    def still(t: Tensor, x: Tensor) -> Tensor:
        return 0 * x

    def check(grids: Grids, trial: Trial) -> Iterator[Evidence]:
        yield near("Z", math.exp(heat.log_normaliser(1.0)), 0.57292, 5e-6, "the digits")
        yield near("variance", heat.variance(1.0), 1.11077, 5e-6, "the digits")
        gen = feynman_kac(LINE, None, 1.0, heat.potential)
        found = exact_law(gen, LinearLaw(0.0, 1.5), TimeGrid.uniform(100))
        because, true = "Runge–Kutta, h⁴ at h = 0.01", heat.log_normaliser(1.0)
        yield near("log Z by moments", found.log_normaliser, true, 1e-8, because)
        yield near("variance by moments", found.variance, heat.variance(1.0), 1e-8, because)
        sizes, errors = (12, 17, 24, 34), dict[str, list[float]]()
        for n in sizes:
            first, second = (
                solve(still, 1.0, heat.potential, lambda x: 0.7 - x[:, 0] ** 2 / 3, n)
                for solve in (grids.normalised, grids.unnormalised)
            )
            yield equal(f"{n} steps: mass", first.density.mass, 1.0, operations=64 * n)
            gap = float((first.density.values - second.density.values).abs().max())
            worst = (0.45 * 81 / (2 * n)) ** 5 * math.exp(-81 / 3)  # (h|g|/2)^5 p at the ends
            limit = 1e-3 / n**2 + worst
            yield near(f"{n} steps: the two laws", gap, 0.0, limit, "(h g/2)⁵/120 per half step")
            for name, law in (("normalised", first), ("unnormalised", second)):
                end = errors.setdefault(f"{name}: log Z", [])
                end.append(abs(law.log_normaliser[-1] - heat.log_normaliser(1.0)))
                end = errors.setdefault(f"{name}: variance", [])
                end.append(abs(float(law.density.variance) - heat.variance(1.0)))
        for name, found_errors in errors.items():
            yield order(f"{name}: order", [1 / n for n in sizes], found_errors, 2.0)

    def scaled(size: float) -> Callable[[Callable[..., GridLaw]], Callable[..., GridLaw]]:
        def wrong(solve: Callable[..., GridLaw]) -> Callable[..., GridLaw]:
            return lambda f, s, g, start, n: solve(
                f, s, lambda t, x: (1 + size) * g(t, x), start, n
            )

        return wrong

    def uncentred(grids: Grids) -> Grids:
        """A tenth of the weight is not centred: mass is lost."""

        def solve(*given: Any) -> GridLaw:
            law = grids.normalised(*given)
            mass = math.exp(0.1 * law.log_normaliser[-1])
            density = replace(law.density, values=law.density.values * mass)
            return replace(law, density=density)

        return replace(grids, normalised=solve)

    return Claim(
        "equations",
        "The normalised equation keeps mass 1 and agrees with the unnormalised one after dividing "
        "by its mass; both converge to the closed form of a weighted heat flow at second order.",
        _grids,
        check,
        (
            dial(
                "g × (1 + δ) in the normalised one",
                lambda g, d: replace(g, normalised=scaled(d)(g.normalised)), 0.05,
            ),
            dial(
                "g × (1 + δ) in both",
                lambda g, d: Grids(scaled(d)(g.normalised), scaled(d)(g.unnormalised)), 0.05,
            ),
            Control("a tenth of g not centred", uncentred),
        ),
        formula=r"\partial_tp=L^*p+(g-\langle p,g\rangle)p,\qquad \dot Z=Z\langle p,g\rangle",
        entries=("L7.5", "L7.6", "H7.1"),
        owes="density",
    )  # fmt: skip


def generators() -> Claim[Callable[[MarkovGenerator], MarkovGenerator]]:
    """L7.29: the forward equation and the generator are dual."""
    heat = WeightedHeatFlow(0.9, 1.5)

    def drift(t: Tensor, x: Any) -> Tensor:
        found: Tensor = torch.sin(x) - 0.5 * x
        return found

    def check(
        make: Callable[[MarkovGenerator], MarkovGenerator], trial: Trial
    ) -> Iterator[Evidence]:
        cells, d = trial.count(600, 400), 2.0**-7
        width = 18 / cells
        gen = make(feynman_kac(LINE, drift, 0.8, heat.potential))
        laws = dict[float, Tensor]()

        def start(x: Tensor) -> Tensor:
            return -(x[:, 0] ** 2) / 3

        for end in (0.5 - d, 0.5, 0.5 + d):
            solver = UnnormalizedFKGrid(-9.0, 9.0, cells)
            grid = TimeGrid.uniform(round(end / d), end=end)
            law = solver.solve(drift, 0.8, heat.potential, start, grid)
            mass = math.exp(law.log_normaliser[-1])
            laws[end] = law.density.values * mass
            x = law.density.centres[:, None]
        for name, f in (
            ("1", lambda x: 1 + 0 * x[:, 0]),
            ("x²", lambda x: x[:, 0] ** 2),
            ("cos(x + 1)", lambda x: torch.cos(x[:, 0] + 1)),
        ):
            before, _, after = ((p * f(x)).sum() * width for p in laws.values())
            change = (after - before) / (2 * d)
            found = (laws[0.5] * gen.apply(f, 0.5, x)).sum() * width
            because = "second order in Δ = 0.045 and d = 1/128, third derivatives of size 10"
            yield near(f"d/dt ⟨p̃, {name}⟩", found, change, 1.5e-3, because)

    return Claim(
        "duality",
        "On a grid, d/dt ⟨p̃, f⟩ = ⟨p̃, Lf + gf⟩ for the generator L + g.",
        lambda: lambda gen: gen,
        check,
        (
            dial("g grows by δ", lambda _, d: lambda gen: with_potential(
                gen, lambda t, x: torch.full_like(t, d)), 0.02),
            Control("g dropped by a tenth", lambda _: lambda gen: with_potential(
                gen, lambda t, x: -0.1 * heat.potential(t, x))),
        ),
        formula=r"\tfrac{d}{dt}\langle\tilde p,f\rangle=\langle\tilde p,Lf+gf\rangle",
        entries=("L7.29",),
        owes="density",
    )  # fmt: skip


# -- weighted particles ----------------------------------------------------------------------------


Make = Callable[..., MarkovGenerator]


def weighted() -> Claim[Make]:
    """L7.7 by particles."""
    heat = WeightedHeatFlow(0.9, 1.5)

    def check(make: Make, trial: Trial) -> Iterator[Evidence]:
        grid, count = TimeGrid.uniform(40), trial.count(60_000)
        gen = make(LINE, None, 1.0, heat.potential)
        law = euler_law(feynman_kac(LINE, None, 1.0, heat.potential), LinearLaw(0.0, 1.5), grid)
        rng = trial.rng()
        x = math.sqrt(1.5) * torch.randn(count, 1, generator=rng, dtype=DOUBLE)
        found = integrate(Euler(), gen, x, grid, rng)
        assert found.log_weight is not None
        weight, end = found.log_weight.exp(), found.state[:, 0]
        draws = torch.stack([weight, weight * end, weight * end**2], 1)
        z = math.exp(law.log_normaliser)
        true = torch.tensor([z, 0.0, z * law.variance], dtype=DOUBLE)
        yield mean("E w, E w X and E w X²", draws, true)
        for name, value, reference in (
            ("Z", z, math.exp(heat.log_normaliser(1.0))),
            ("variance", law.variance, heat.variance(1.0)),
        ):
            errors = []
            for n in (40, 80, 160, 320):
                at = euler_law(gen, LinearLaw(0.0, 1.5), TimeGrid.uniform(n))
                other = at.variance if name == "variance" else math.exp(at.log_normaliser)
                errors.append(abs(other - reference))
            yield order(f"{name}: order of the steps", [1 / n for n in (40, 80, 160, 320)], errors,
                        1.0)  # fmt: skip
            yield near(f"{name} at 40 steps", value, reference, 0.02, "first order, h = 1/40")

    def wrong(size: float) -> Callable[[Make], Make]:
        return lambda make: (
            lambda space, f, s, g: make(space, f, s, lambda t, x: (1 + size) * g(t, x))
        )

    return Claim(
        "weighted-particles",
        "Weighted Brownian particles have the mean weight and moments of the closed form: exactly "
        "those of the recursion of their scheme, which converges at first order.",
        lambda: feynman_kac,
        check,
        (
            dial("g × (1 + δ)", lambda make, d: wrong(d)(make), 0.05),
            dial("σ × (1 + δ)", lambda make, d: lambda space, f, s, g: make(
                space, f, (1 + d) * s, g), 0.05),
        ),
        formula=r"\mathbb E_{p_T}\varphi=\mathbb E[e^{A_T}\varphi(X_T)]/\mathbb E[e^{A_T}],"
        r"\qquad \mathbb E e^{A_T}=Z_T/Z_0",
        entries=("L7.7", "H7.1"),
    )  # fmt: skip


def shifts() -> Claim[Callable[[Tensor], Tensor]]:
    """L7.8: what a constant does."""
    heat = WeightedHeatFlow(0.9, 1.5)

    def check(weights: Callable[[Tensor], Tensor], trial: Trial) -> Iterator[Evidence]:
        count, grid = trial.count(4000, 1000), TimeGrid.uniform(50)
        found = []

        def shifted(size: float) -> MarkovGenerator:
            plain = feynman_kac(LINE, None, 1.0, heat.potential)
            return with_potential(plain, lambda t, x: size * torch.sin(t))

        for size in (0.0, 1.0, 40.0):
            gen = shifted(size)
            rng = trial.rng()
            x = math.sqrt(1.5) * torch.randn(count, 1, generator=rng, dtype=DOUBLE)
            end = integrate(Euler(), gen, x, grid, rng)
            assert end.log_weight is not None
            found.append((end.log_weight, end.state[:, 0]))
        plain = weights(found[0][0])
        shift = sum(math.sin(t) for t in grid.times[:-1]) / 50
        for size, (logs, end) in zip((1.0, 40.0), found[1:], strict=True):
            w = weights(logs)
            yield exact(f"sin t × {size:g}: the same particles", end, found[0][1])
            yield equal(f"sin t × {size:g}: the same weights", w * count, plain * count,
                        operations=512, scale=10 * size + 10)  # fmt: skip
            moved = (logs - found[0][0]).mean()
            yield equal(f"sin t × {size:g}: log Z moves", moved, size * shift, operations=256)
        far = weights(found[0][0] + 2000.0)
        yield equal("weights of any size", far * count, plain * count, operations=64, scale=2000.0)

    return Claim(
        "constant-in-x",
        "A potential that gains a function of time alone changes no self-normalised expectation, "
        "and log Z by its integral; weights are taken in log space, so that none overflows.",
        lambda: lambda logs: torch.softmax(logs, 0),
        check,
        (
            Control("weights that are not normalised", lambda _: torch.exp),
            Control("exp before the sum", lambda _: lambda logs: logs.exp() / logs.exp().sum()),
            dial("tempered by 1 − δ", lambda w, d: lambda logs: w(logs * (
                1 - d * logs.max() / 100)), 0.1),
        ),
        entries=("L7.8", "H7.1"),
    )  # fmt: skip
