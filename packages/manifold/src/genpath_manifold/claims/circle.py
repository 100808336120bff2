r"""Two atoms on the circle: the marginal velocity and the least loss, in closed form.

    p_t(x) = 1/(2π(1 − t)),   v_t(x) = (π − 2x)/(2(1 − t))       where both arcs reach

(semester II, R.16 and R.24.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.models import ODE, Model
from genpath.objectives import Regression
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    dial,
    equal,
    near,
)
from genpath.testing.contracts.schedules import gauss_legendre

from ..laws import UniformSphere
from ..paths import GeodesicPath
from .cases import (
    DOUBLE,
    S1,
    seeded,
)
from .faults import scaled_generator, scaled_target

__all__ = ["circle", "optimum"]


def on_circle(angle: Tensor) -> Tensor:
    """The points of S¹ at these angles."""
    return torch.stack([angle.cos(), angle.sin()], -1)


ATOMS = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=DOUBLE)


def circle_field(path: GeodesicPath) -> Callable[[Tensor, Any], Tensor]:
    """E[u | x_t] for the atoms 0 and π: arcs of half-width kπ, and the path's own fields."""

    def velocity(t: Tensor, x: Any) -> Tensor:
        total, mass = torch.zeros_like(x), torch.zeros_like(t)
        for atom in ATOMS:
            end = atom.expand_as(x)
            inside = S1.distance(x, end) < (1 - t) * math.pi
            u = cast(Tensor, path.conditional_generator(-end, end).evaluate(t, x).velocity)
            total = total + inside[:, None] * u
            mass = mass + inside
        return total / mass[:, None]

    return velocity


def circle() -> Claim[GeodesicPath]:
    """The marginal field of two atoms."""

    def check(path: GeodesicPath, trial: Trial) -> Iterator[Evidence]:
        angles = torch.tensor([0.9, 1.4, 2.2, -0.9, -2.0], dtype=DOUBLE)
        x, t = on_circle(angles), torch.full((5,), 0.25, dtype=DOUBLE)
        gen = ODE().generator(path, "velocity", circle_field(path))
        u = cast(Tensor, gen(t, x).velocity)
        speed = x[:, 0] * u[:, 1] - x[:, 1] * u[:, 0]
        yield near("the speed at 0.9", speed[:1], [0.894395102], 6e-10, "nine decimals")
        known = (math.pi * angles.sign() - 2 * angles) / 1.5
        yield equal("(π − 2x)/(2(1 − t)) where the arcs overlap", speed, known, operations=256)

        def log_p(t: Tensor, y: Tensor) -> Tensor:
            return -torch.log(2 * math.pi * (1 - t)) + 0 * y[:, 0]

        rate = torch.func.jvp(lambda s: log_p(s, x), (t,), (torch.ones_like(t),))[1]
        found = gen.adjoint(lambda y: log_p(t, y), t, x)
        yield equal("−div v = ∂_t log p", found, rate, operations=256)

    return Claim(
        "two-atoms",
        "On the circle, with the uniform base and atoms at 0 and π, the marginal velocity where "
        "the arcs overlap is (π − 2x)/(2(1 − t)), and the density 1/(2π(1 − t)) solves its "
        "continuity equation.",
        lambda: GeodesicPath(S1),
        check,
        (
            dial("u × (1 + δ)", scaled_generator),
            Control("the sign of u", lambda path: scaled_generator(path, -2.0)),
        ),
        formula=r"v_t(x) = \frac{\pi - 2x}{2(1-t)}, \qquad p_t(x) = \frac{1}{2\pi(1-t)}",
        entries=("R.16",),
        owes="density",
    )


def optimum() -> Claim[tuple[GeodesicPath, Regression]]:
    """The loss on the two atoms is least at the marginal field."""

    def nodes(count: int = 24) -> tuple[Tensor, Tensor]:
        """x0 relative to an atom: the field jumps where the arcs begin to overlap, at ±π/3."""
        at, weights = gauss_legendre(count)
        edges = [-math.pi, -math.pi / 3, math.pi / 3, math.pi]
        pieces, parts = [], []
        for a, b in itertools.pairwise(edges):
            pieces.append((a + b) / 2 + (b - a) / 2 * at)
            parts.append((b - a) / 2 * weights / (2 * math.pi))
        return torch.cat(pieces), torch.cat(parts)

    def check(world: tuple[GeodesicPath, Regression], trial: Trial) -> Iterator[Evidence]:
        path, loss = world
        theta, weight = nodes()
        starts = torch.cat([on_circle(theta), on_circle(theta + math.pi)])
        ends = ATOMS.repeat_interleave(len(theta), 0)
        weights, t = weight.repeat(2) / 2, torch.full((2 * len(theta),), 0.25, dtype=DOUBLE)
        best = circle_field(GeodesicPath(S1))

        def value(size: Tensor, k: int) -> Tensor:
            def field(t: Tensor, x: Any) -> Tensor:
                angle = torch.atan2(x[:, 1], x[:, 0])
                along = torch.stack([-x[:, 1], x[:, 0]], 1)
                wave = torch.cos(k * angle) + torch.sin((k + 1) * angle)
                # a radial part is projected away
                off: Tensor = wave[:, None] * along + 0.7 * x
                return best(t, x) + size * off

            model = Model(field, path, UniformSphere(S1, DOUBLE))
            values = loss(model, Pairs(starts, ends), t, seeded())
            found: Tensor = (weights * values).sum()
            return found

        zero, one = torch.zeros((), dtype=DOUBLE), torch.ones((), dtype=DOUBLE)
        for k in range(4):
            slope = torch.func.jvp(lambda s, k=k: value(s, k), (zero,), (one,))[1]
            yield equal(f"dL/dδ at the field, direction {k}", slope, 0 * slope, scale=10.0)
            curve = value(one, k) + value(-one, k) - 2 * value(zero, k)
            yield at_most(f"−L″, direction {k}", -curve, 0.0, "the loss is convex")
        # outside the overlap u is constant given x; inside it is one of two values π apart,
        # (π/2(1−t)) either side of their mean, with mass 2/3
        least = 0.5 * (2 / 3) * (math.pi / (2 * 0.75)) ** 2
        found = value(zero, 0)
        yield equal("the least value", found, torch.full_like(found, least), operations=512)

    def scaled(world: Any, size: float) -> Any:
        return scaled_target(world[0], size), world[1]

    def doubled(world: Any) -> Any:
        path, loss = world

        class Twice(Regression):
            def __call__(self, *given: Any) -> Tensor:
                found: Tensor = 2 * loss(*given)
                return found

        return path, Twice()

    return Claim(
        "regression-optimum",
        "With two atoms on the circle the regression loss is least at the marginal velocity, in "
        "every direction, and its least value is the mean conditional variance; a radial part of "
        "the network is projected away.",
        lambda: (GeodesicPath(S1), Regression()),
        check,
        (
            dial("targets × (1 + δ)", scaled),
            Control("the loss without its factor ½", doubled),
        ),
        formula=r"\arg\min_v \mathbb{E}\,\tfrac12|v(t,x_t) - u_t(x_t\mid x_1)|^2 "
        r"= \mathbb{E}[u_t \mid x_t]",
        entries=("R.24", "R.16"),
        owes="minimiser",
    )
