r"""The geodesic path and its schedule: existence, velocity, and what happens at the ends.

    x_t = exp_{x1}((1 − κ) log_{x1} x0),        u_t(x | x1) = κ̇/(1 − κ) log_x(x1)

(Chen & Lipman 2023, arXiv 2302.03660; semester II, R.16 and R.25.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.models import Model
from genpath.objectives import Regression
from genpath.paths import Draw
from genpath.schedules import KeepSchedule, linear_keep
from genpath.spaces import Euclidean
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    contracts,
    dial,
    equal,
    near,
)
from genpath.testing.contracts import named

from ..laws import UniformSphere
from ..paths import GeodesicPath, late
from ..spaces import Sphere
from .cases import (
    DOUBLE,
    S2,
    SCHEDULES,
    Atoms,
    atoms,
    hemisphere,
    pairs,
    points,
    row,
    seeded,
)
from .circle import circle, optimum
from .control import bound
from .faults import chord, scaled_curve, scaled_generator, scaled_target, still_clock
from .marginals import continuity, minimiser, reversal, transported

__all__ = ["geodesic", "late_schedule"]


def geodesic() -> tuple[Claim[Any], ...]:
    """The claims of ``path.manifold.geodesic``."""
    field = Atoms(hemisphere(2))
    plain = contracts.path(
        lambda: GeodesicPath(S2),
        pairs(atoms(2)),
        fields={"velocity": field},
    )
    five = contracts.path(lambda: GeodesicPath(Sphere(5), late(0.3)), pairs(atoms(5), 5))
    return (
        *plain,
        *named("late-five", five),
        example(),
        curve(),
        straight(),
        circle(),
        optimum(),
        continuity(),
        transported(),
        reversal(),
        minimiser(),
        bound(),
        antipodes(),
        last_digits(),
    )


def late_schedule() -> tuple[Claim[Any], ...]:
    """The claims of ``schedule.manifold.late``."""
    return (
        *contracts.schedule(lambda: late(0.02)),
        *named("half", contracts.schedule(lambda: late(0.5))),
        ratios(),
    )


def example() -> Claim[GeodesicPath]:
    """Numbers worked out by hand."""

    def check(path: GeodesicPath, trial: Trial) -> Iterator[Evidence]:
        x, y = row(1.0, 2.0, 2.0) / 3, row(2.0, -1.0, 2.0) / 3
        draw = path.draw(0.4, x, y, seeded())
        because = "the ledger prints nine decimals"
        state = row(0.549689163, 0.300019261, 0.779634701)
        yield near("x_0.4", draw.state, state, 6e-10, because)
        velocity = row(0.421301009, -1.022659144, 0.096497554)
        yield near("velocity", path.target("velocity", draw), velocity, 6e-10, because)
        u = path.conditional_generator(x, y)(0.4, draw.state).velocity
        yield near("u(x_0.4 | x1)", u, velocity, 6e-10, because)

    return Claim(
        "worked-example",
        "From (1, 2, 2)/3 to (2, −1, 2)/3 the point at t = 0.4 and its velocity are those found by "
        "hand.",
        lambda: GeodesicPath(S2),
        check,
        (
            dial("targets × (1 + δ)", scaled_target),
            dial("x_t is drawn at (1 − δ) t", scaled_curve, 0.5),
            dial("u × (1 + δ)", scaled_generator),
            Control("the chord, projected", chord),
        ),
        formula=r"x_{0.4} = (0.549689163, 0.300019261, 0.779634701)",
        entries=("R-F1",),
        owes="existence",
    )


def curve() -> Claim[tuple[GeodesicPath, ...]]:
    """The target is the curve's velocity and the conditional generator's."""

    def make() -> tuple[GeodesicPath, ...]:
        class Plain(Sphere):
            geodesic_velocity = None  # type: ignore[assignment]

        made = tuple(GeodesicPath(S2, schedule()) for schedule in SCHEDULES)
        return (*made, GeodesicPath(Plain(2)), GeodesicPath(Sphere(5), late(0.3)))

    def check(paths: tuple[GeodesicPath, ...], trial: Trial) -> Iterator[Evidence]:
        for index, path in enumerate(paths):
            space = cast(Sphere, path.state_space)
            draw_points = points(space.dimension)
            x0, x1 = (draw_points(64, trial.rng(key)) for key in ("x0", "x1"))
            t = torch.linspace(0.02, 0.98, 64, dtype=DOUBLE)
            draw = path.draw(t, x0, x1, seeded())

            def state(s: Tensor) -> Tensor:
                found: Tensor = path.draw(s, x0, x1, seeded()).state  # noqa: B023
                return found

            slope = torch.func.jvp(state, (t,), (torch.ones_like(t),))[1]
            target = path.target("velocity", draw)
            rate = path.schedule.kappa.rate(t)
            size = float(rate.max()) * math.pi
            words = f"path {index}"
            yield equal(f"velocity = d/dt x_t, {words}", target, slope, operations=1e4, scale=size)
            u = path.conditional_generator(x0, x1)(t, draw.state).velocity
            # log_x(x1)/(1 − κ): the rounding of x over the distance to go
            rounding = 1e3 / float((1 - path.schedule.kappa(t)).min())
            yield equal(f"velocity = u(x_t | x1), {words}", target, u, operations=rounding,
                        scale=size)  # fmt: skip
            speed, length = target.norm(dim=-1), rate * space.distance(x0, x1)
            yield equal(f"speed = κ̇ d(x0, x1), {words}", speed, length, operations=1e4, scale=size)
            moved = space.transport(x0, draw.state, space.log(x0, x1))
            gap = path.target("displacement", draw) - moved
            inside = space.distance(x0, draw.state) < 3.0
            yield near(f"displacement = T log_x0(x1), {words}", gap[inside], 0.0, 1e-11,
                       "rounding over π − 3 near the cut locus")  # fmt: skip

    def each(plant: Callable[..., GeodesicPath]) -> Callable[..., Any]:
        return lambda paths, *size: tuple(plant(path, *size) for path in paths)

    return Claim(
        "velocity",
        "The target is the derivative of the curve, of length κ̇ d(x0, x1), and the value of the "
        "conditional field at x_t; the displacement is log_x0(x1), transported along the curve.",
        make,
        check,
        (
            dial("targets × (1 + δ)", each(scaled_target)),
            dial("u × (1 + δ)", each(scaled_generator)),
            Control("κ̇ is dropped", each(still_clock)),
            Control("the chord, projected", each(chord)),
        ),
        formula=r"\tfrac{d}{dt}x_t = u_t(x_t\mid x_1) = \frac{\dot\kappa}{1-\kappa}\log_{x_t}x_1",
        entries=("R.16",),
        owes="existence",
    )


def straight() -> Claim[GeodesicPath]:
    """On flat space."""

    def check(path: GeodesicPath, trial: Trial) -> Iterator[Evidence]:
        x0, x1 = torch.randn(2, 40, 3, generator=trial.rng(), dtype=DOUBLE)
        t = torch.linspace(0, 1, 40, dtype=DOUBLE)
        draw = path.draw(t, x0, x1, seeded())
        yield equal("x_t", draw.state, torch.lerp(x0, x1, t[:, None]))
        yield equal("velocity", path.target("velocity", draw), x1 - x0)

    return Claim(
        "flat-space",
        "On R^d the geodesic path is the straight line between its endpoints.",
        lambda: GeodesicPath(Euclidean(3)),
        check,
        (
            dial("targets × (1 + δ)", scaled_target),
            dial("x_t is drawn at (1 − δ) t", scaled_curve, 0.5),
        ),
        formula=r"x_t = (1-t)x_0 + t x_1",
    )


def antipodes() -> Claim[GeodesicPath]:
    """A batch of antipodal pairs."""

    def check(path: GeodesicPath, trial: Trial) -> Iterator[Evidence]:
        x1 = torch.cat([torch.eye(3, dtype=DOUBLE), points(2)(29, trial.rng())])
        t = torch.linspace(0, 1, 32, dtype=DOUBLE)
        factor = torch.ones((), dtype=DOUBLE, requires_grad=True)

        def rolled(t: Tensor, x: Any) -> Tensor:
            found: Tensor = factor * x.roll(1, 1)
            return found

        model = Model(rolled, path, UniformSphere(S2, DOUBLE))
        loss = Regression()(model, Pairs(-x1, x1), t, seeded())
        (slope,) = torch.autograd.grad(loss.sum(), factor)
        finite = torch.cat([loss.detach().isfinite().double(), slope.isfinite().double()[None]])
        yield equal("share of finite losses and slopes", finite.mean(), torch.tensor(1.0).double())
        draw = path.draw(t, -x1, x1, seeded())
        speed = path.target("velocity", draw).norm(dim=1)
        yield equal("the speed is π", speed, torch.full_like(speed, math.pi))
        gone = S2.distance(-x1, draw.state)
        yield equal("d(x0, x_t) = t π", gone, t * math.pi, operations=256)

    def naive(path: GeodesicPath) -> GeodesicPath:
        def log(x: Tensor, y: Tensor) -> Tensor:
            part = y - (x * y).sum(-1, keepdim=True) * x
            found: Tensor = S2.distance(x, y)[:, None] * part / part.norm(dim=-1, keepdim=True)
            return found

        space = but(cast(Sphere, path.state_space), log=log)
        return GeodesicPath(space, path.schedule)

    return Claim(
        "antipodal-pairs",
        "Between antipodal endpoints the path takes one of the shortest curves, at the speed π; "
        "loss and gradient are finite, at t = 0 and 1 too.",
        lambda: GeodesicPath(S2),
        check,
        (
            dial("targets × (1 + δ)", scaled_target),
            Control("the direction (y − ⟨x, y⟩x)/|…|, which is 0/0", naive),
        ),
        formula=r"d(x_0, x_t) = t\pi, \qquad |u_t| = \pi",
        entries=("R.25",),
    )


def last_digits() -> Claim[GeodesicPath]:
    """Targets near t = 1, in float32, and the generator at its singular end."""

    def check(path: GeodesicPath, trial: Trial) -> Iterator[Evidence]:
        x0, x1 = (points(2)(200, trial.rng(key)) for key in ("x0", "x1"))
        apart = S2.distance(x0, x1) < 3.0
        x0, x1 = x0[apart], x1[apart]
        truth = -S2.log(x1, x0)
        t = torch.full((len(x1),), 1 - 1e-6)
        draw = path.draw(t, x0.float(), x1.float(), seeded())
        found = path.target("velocity", draw)
        because = "rounding of endpoints over π − 3, and 1e-6 of the way"
        yield near("the velocity at 1 − 1e-6 in float32", found, truth, 2e-5, because)
        end = torch.ones(len(x1), dtype=DOUBLE)
        u = path.conditional_generator(x0, x1)(end, x1).velocity
        yield equal("u(x1 | x1) at t = 1", u, truth, operations=256)

    def textbook(path: GeodesicPath) -> GeodesicPath:
        def target(name: str, draw: Draw) -> Tensor:
            gone = 1 - draw.t[:, None]
            found: Tensor = S2.log(draw.state, draw.x1) / gone
            return found

        return but(path, target=target)

    return Claim(
        "last-digits",
        "Targets keep their digits up to t = 1, where the field κ̇/(1 − κ) log_x(x1) is 0/0; its "
        "value at x1 is the limit along the curve.",
        lambda: GeodesicPath(S2),
        check,
        (
            dial("targets × (1 + δ)", scaled_target),
            Control("log_x(x1)/(1 − t)", textbook),
            dial("u × (1 + δ)", scaled_generator),
        ),
        formula=r"\lim_{t\to1} u_t(x_t\mid x_1) = -\dot\kappa(1)\log_{x_1}x_0",
    )


def ratios() -> Claim[KeepSchedule]:
    """Equal ratios of the distance to go."""

    def check(schedule: KeepSchedule, trial: Trial) -> Evidence:
        t = torch.linspace(0, 1, 11, dtype=DOUBLE)
        found = torch.log(1 - schedule.kappa(t) + 0.02).diff()
        # 1 − κ is rounded at size 1, which is 1/0.02 in the logarithm at the end
        return equal("log-ratios", found, torch.full_like(found, -math.log(51) / 10), scale=50.0)

    def other(schedule: KeepSchedule, size: float) -> KeepSchedule:
        return late(0.02 * (1 + size))

    return Claim(
        "equal-ratios",
        "Equal times take equal ratios of the distance to go plus ε, from 1 + ε to ε.",
        lambda: late(0.02),
        check,
        (dial("ε × (1 + δ)", other), Control("the linear schedule", lambda s: linear_keep())),
        formula=r"\log(1-\kappa(t)+\varepsilon) = (1-t)\log(1+\varepsilon) + t\log\varepsilon",
    )
