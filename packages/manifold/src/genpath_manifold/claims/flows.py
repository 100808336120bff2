r"""A flow on S² with a closed solution: its densities, its map, and the orders of its solvers.

    ẋ = c P e₃:   artanh z_t = artanh z_0 + c t,    p_t(z) = (1/4π) (1 − z_0²)/(1 − z²)

from the uniform law (semester II, R.15 and R-F9).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.evaluation import Scene
from genpath.generators import MarkovGenerator, flow
from genpath.likelihoods import ODELikelihood, SolvedFlow
from genpath.models import Model
from genpath.samplers import Euler, RungeKutta, Sampler, integrate
from genpath.tableaus import EULER, HEUN, MIDPOINT, RK4
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, exact, near, order

from ..evaluations import Mass
from ..laws import UniformSphere
from ..paths import GeodesicPath
from .cases import DOUBLE, NORTH, S2, points, quadrature, row, seeded

__all__ = ["flows", "mass"]

SPEED = 0.8


def flows() -> tuple[Claim[Any], ...]:
    """The claims of ``manifold.flows``."""
    return (densities(), solved(), equation(), orders())


def mass() -> tuple[Claim[Any], ...]:
    """The claims of ``evaluation.manifold.mass``."""
    return (integral(),)


def polar(t: Any, x: Any) -> Tensor:
    """v = c P e₃."""
    return SPEED * S2.project_tangent(x, NORTH.expand_as(x))


def closed(t: float, x: Tensor) -> Tensor:
    """log p_t(x), from the change of the height."""
    z = x[:, 2]
    before = torch.tanh(torch.atanh(z) - SPEED * t)
    return -math.log(4 * math.pi) + torch.log1p(-(before**2)) - torch.log1p(-(z**2))


def model(velocity: Any = polar) -> Model:
    """The flow as a model from the uniform law."""
    return Model(velocity, GeodesicPath(S2), UniformSphere(S2, DOUBLE))


def faster(found: Model, size: float) -> Model:
    """The velocity × (1 + δ)."""
    network: Any = found.network
    return replace(found, network=lambda t, x: (1 + size) * network(t, x))


def densities() -> Claim[Model]:
    """The likelihood of the flow."""

    def check(found: Model, trial: Trial) -> Iterator[Evidence]:
        known = torch.cat([row(math.sqrt(0.91), 0.0, 0.3), row(0.0, math.sqrt(0.75), -0.5)])
        x = torch.cat([known, points(2)(40, trial.rng())])
        coarse, fine = (ODELikelihood(steps=n)(found, x, seeded()).value for n in (6, 12))
        # the error falls by 16 when steps are doubled
        error = float((fine - coarse).abs().max()) / 8 + 1e-13
        because = "an eighth of what RK4 still moves, 6 → 12 steps"
        yield near("log p_1", fine, closed(1.0, x), error, because)
        printed = torch.tensor([0.069375901, 0.025074043], dtype=DOUBLE)
        p = (fine + (fine - coarse) / 15)[:2].exp()
        because = "nine decimals, and what extrapolation leaves of RK4"
        yield near("p_1 at z = 0.3 and −0.5", p, printed, 6e-10 + 0.1 * error, because)

    return Claim(
        "densities",
        "The likelihood along the flow 0.8 P e₃ from the uniform law is the closed density.",
        model,
        check,
        (
            dial("velocity × (1 + δ)", faster),
            Control(
                "the velocity's sign",
                lambda found: replace(found, network=lambda t, x: -polar(t, x)),
            ),
        ),
        formula=r"\tfrac{d}{dt}\log p_t(x_t) = -\operatorname{div} v, \qquad "
        r"p_1(z) = \frac{1}{4\pi}\,\frac{1-z_0^2}{1-z^2}",
        entries=("R.15", "R-F9"),
    )


def solved() -> Claim[SolvedFlow]:
    """The flow's map, its volume, and its inverse."""

    def check(found: SolvedFlow, trial: Trial) -> Iterator[Evidence]:
        x = points(2)(40, trial.rng())
        y, log_det = found(0.0, 1.0, x, seeded())
        z = torch.tanh(torch.atanh(x[:, 2]) + SPEED)
        true = torch.log((1 - z**2) / (1 - x[:, 2] ** 2))
        again, coarse = replace(found, steps=found.steps // 2)(0.0, 1.0, x, seeded())
        because = "what RK4 still moves when its steps are doubled"
        limits = [float((a - b).abs().max()) + 1e-13 for a, b in ((y, again), (log_det, coarse))]
        yield near("z_1", y[:, 2], z, limits[0], because)
        yield near("log |det|", log_det, true, limits[1], because)
        back, inverse = found(1.0, 0.0, y, seeded())
        yield near("there and back", back, x, 2 * limits[0], because)
        yield near("log |det| there and back", inverse + log_det, 0 * true, 2 * limits[1], because)

    def plant(found: SolvedFlow, size: float) -> SolvedFlow:
        return replace(found, gen=(1 + size) * found.gen)

    return Claim(
        "map",
        "The solved flow moves artanh z by its speed, with the determinant (1 − z_1²)/(1 − z_0²), "
        "and its inverse brings the points back.",
        lambda: SolvedFlow(flow(S2, polar), steps=8),
        check,
        (dial("velocity × (1 + δ)", plant),),
        formula=r"\operatorname{artanh} z_t = \operatorname{artanh} z_0 + c t",
    )


def equation() -> Claim[MarkovGenerator]:
    """The continuity equation, pointwise and against test functions."""

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        x, t = points(2)(60, trial.rng()), 0.4
        x = x[x[:, 2].abs() < 0.99]
        at = torch.full((len(x),), t, dtype=DOUBLE)

        def rate(x: Tensor, at: Tensor) -> Tensor:
            found: Tensor = torch.func.jvp(lambda s: closed(s, x), (at,), (torch.ones_like(at),))[1]
            return found

        found = gen.adjoint(lambda y: closed(t, y), t, x)
        yield equal("−div v − v·∇log p = ∂_t log p", found, rate(x, at), operations=1e4)
        place, weight = quadrature(24)
        p = weight * closed(t, place).exp()

        def f(y: Tensor) -> Tensor:
            return torch.sin(2 * y[:, 2]) + y[:, 0] ** 2

        growth = (p * rate(place, torch.full((len(place),), t, dtype=DOUBLE)) * f(place)).sum()
        because = "rounding; the poles of p are far enough for 24 nodes"
        yield near("∫ p L f", (p * gen.apply(f, t, place)).sum(), growth, 1e-11, because)

    return Claim(
        "continuity-equation",
        "The closed density solves the continuity equation of the flow, pointwise and against a "
        "test function.",
        lambda: flow(S2, polar),
        check,
        (
            dial("velocity × (1 + δ)", lambda gen, d: (1 + d) * gen),
            Control("the velocity's sign", lambda gen: (-1.0) * gen),
        ),
        formula=r"\partial_t p + \operatorname{div}(p v) = 0",
        owes="density",
    )


# -- orders ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solvers:
    """Samplers by name, and the order of each on the sphere."""

    samplers: tuple[tuple[str, Sampler, int], ...]


def turning(t: Tensor, x: Any) -> Tensor:
    """3t² P e₃ times the speed, and a turn at the speed 2t around the axis."""
    around = torch.stack([-x[:, 1], x[:, 0], 0 * t], 1)
    return 3 * (t**2)[:, None] * polar(t, x) + 2 * t[:, None] * around


def orders() -> Claim[Solvers]:
    """The order of Runge–Kutta methods and of the exponential Euler step."""

    def make() -> Solvers:
        found: list[tuple[str, Sampler, int]] = [("exponential Euler", Euler(), 1)]
        tableaus = (
            ("Euler", EULER, 1),
            ("midpoint", MIDPOINT, 2),
            ("Heun", HEUN, 2),
            ("RK4", RK4, 4),
        )
        found += [(name, RungeKutta(tableau), p) for name, tableau, p in tableaus]
        return Solvers(tuple(found))

    def check(found: Solvers, trial: Trial) -> Iterator[Evidence]:
        x = quadrature(3)[0]
        z = torch.tanh(torch.atanh(x[:, 2]) + SPEED)
        angle, radius = torch.atan2(x[:, 1], x[:, 0]) + 1, (1 - z**2).sqrt()
        truth = torch.stack([radius * angle.cos(), radius * angle.sin(), z], 1)
        gen, counts = flow(S2, turning), (8, 16, 32, 64)
        for name, sampler, p in found.samplers:
            errors = []
            for count in counts:
                grid = tuple(k / count for k in range(count + 1))
                end = integrate(sampler, gen, x, grid, seeded()).state
                errors.append(max(float((end - truth).norm(dim=1).mean()), 1e-300))
            on = float((end.norm(dim=1) - 1).abs().max())
            yield near(f"|x| − 1 after {name}", on, 0.0, 1e-14, "a step normalises its point")
            yield order(f"the order of {name}", [1 / n for n in counts], errors, p)
            yield exact(f"the order that {name} declares", sampler.order, p)

    def slower(found: Solvers, size: float) -> Solvers:
        def one(sampler: Sampler) -> Sampler:
            def step(gen: MarkovGenerator, carry: Any, t: float, u: float, rng: Any) -> Any:
                return sampler.step((1 - size) * gen, carry, t, u, rng)

            return but(sampler, step=step)

        return Solvers(tuple((name, one(s), p) for name, s, p in found.samplers))

    def straight(found: Solvers) -> Solvers:
        """Stages are not taken on the sphere: x + v, and the sphere only at the end of a step."""

        def one(sampler: Sampler) -> Sampler:
            def step(gen: MarkovGenerator, carry: Any, t: float, u: float, rng: Any) -> Any:
                space: Any = gen.space
                return sampler.step(
                    replace(gen, space=but(space, step=lambda x, v: x + v)), carry, t, u, rng
                )

            return but(sampler, step=step)

        return Solvers(tuple((name, one(s), p) for name, s, p in found.samplers))

    return Claim(
        "orders",
        "Runge–Kutta methods keep their order on the sphere, and every step ends on it; the "
        "exponential Euler step has order 1.",
        make,
        check,
        (
            dial("velocity × (1 − δ)", slower, 0.5),
            Control("x + v instead of the exponential map", straight),
        ),
        formula=r"|\hat x_1 - x_1| = O(h^p)",
    )


# -- the total mass --------------------------------------------------------------------------


def integral() -> Claim[Model]:
    """`Mass` of a flow."""

    def scene(found: Model, trial: Trial) -> Scene:
        class Rows:
            space = S2
            train = points(2)(1000, trial.rng("train"))

        class Stage:
            model, data, rng = found, Rows, trial.rng("mass")
            device = torch.device("cpu")
            progress: Callable[..., None] = staticmethod(lambda *_: None)

        stage: Any = Stage()
        return stage  # type: ignore[no-any-return]

    def check(found: Model, trial: Trial) -> Evidence:
        made = Mass(points=2000, steps=4)(scene(found, trial)).metrics
        error = made["density/integral_se"]
        because = "4.9 of its standard errors: probability 1e-6"
        return near("∫ p dA", made["density/integral"], 1.0, 4.9 * error, because)

    def lifted(found: Model, size: float) -> Model:
        base: Any = found.base
        return replace(found, base=but(base, log_prob=lambda x: base.log_prob(x) + size))

    return Claim(
        "integral",
        "The integral over the sphere of a flow's density is 1, within the standard error that is "
        "reported.",
        model,
        check,
        (dial("log p + δ", lifted, 0.5),),
        formula=r"\int_{S^2} p\, dA = 1",
    )
