r"""The law of x_t on S²: its continuity equation, its flow, its reversal, and the regression.

    ∂_t p_t + div(p_t u_t) = 0,     u_t = E[u_t(x_t | x1) | x_t],     L = (u + ε∇log p)·∇ + εΔ
    L̃ = (−u + ε∇log p)·∇ + εΔ,      E[g L̃f] = E[f L g] − E[L(f g)]

The marginals are known to rounding (`cases.Marginal`), so that integrals over S² replace draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.generators import MarkovGenerator, flow
from genpath.likelihoods import SolvedFlow
from genpath.models import ODE, SDE, Model
from genpath.objectives import Regression
from genpath.predictions import Rule
from genpath.reversal import reverse
from genpath.schedules import KeepSchedule, linear_keep
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    dial,
    near,
)
from genpath.testing.contracts.schedules import gauss_legendre

from ..laws import UniformSphere, VonMisesFisherMixture
from ..paths import GeodesicPath
from .cases import (
    DOUBLE,
    NORTH,
    S2,
    SCHEDULES,
    Marginal,
    bumps,
    finer,
    gentle,
    points,
    quadrature,
    seeded,
)
from .faults import scaled_generator, scaled_target

__all__ = ["World", "continuity", "minimiser", "reversal", "slow_world", "transported", "worlds"]


@dataclass(frozen=True)
class World:
    """A path, and how its marginal field becomes a generator and is reversed."""

    path: GeodesicPath
    schedule: KeepSchedule
    eps: float = 0.3
    law: VonMisesFisherMixture = field(default_factory=gentle)
    nodes: int = 8
    dynamics: Callable[[float], Any] = lambda eps: SDE(eps) if eps else ODE()
    turn: Callable[..., MarkovGenerator] = reverse

    @property
    def marginal(self) -> Marginal:
        """The marginal of the path; its density does not depend on the path."""
        return Marginal(self.path, self.law, self.schedule, self.nodes)

    def generator(self, eps: float, velocity: Any = None) -> MarkovGenerator:
        """The dynamics of drift u + ε s and noise √(2ε) that the library makes of the fields."""
        rule = Rule("score", ("velocity",), lambda t, x, u: self.marginal.score(t, x))
        known = but(self.path, rules=(rule,))
        found: MarkovGenerator = self.dynamics(eps).generator(
            known, "velocity", velocity or self.marginal.velocity
        )
        return found


def worlds() -> World:
    """The geodesic path with κ = t between laws whose marginal is known."""
    return World(GeodesicPath(S2), linear_keep())


def slow_world(world: World, size: float) -> World:
    """u × (1 + δ)."""
    return replace(world, path=scaled_generator(world.path, size))


def continuity() -> Claim[tuple[World, ...]]:
    """The continuity equation of the averaged conditional fields."""

    def make() -> tuple[World, ...]:
        return tuple(
            World(GeodesicPath(S2, make()), make(), law=bumps(), nodes=16) for make in SCHEDULES
        )

    def check(found: tuple[World, ...], trial: Trial) -> Iterator[Evidence]:
        x = points(2)(24, trial.rng())
        t = torch.linspace(0.05, 0.95, 24, dtype=DOUBLE)
        for index, world in enumerate(found):
            m, gen = world.marginal, world.generator(0.0)
            rate = m.rate(t, x)
            error = (rate - finer(m).rate(t, x)).abs().max() + 1e-11
            because = "what the quadrature of the density still moves, 16 → 22 nodes"
            left = gen.adjoint(lambda y, m=m: m.log_density(t, y), t, x)  # type: ignore[misc]
            yield near(
                f"−div u − u·∇log p = ∂_t log p, path {index}", left, rate, 9 * error, because
            )

    def plant(worlds: tuple[World, ...], size: float) -> tuple[World, ...]:
        return tuple(slow_world(world, size) for world in worlds)

    def clock(worlds: tuple[World, ...]) -> tuple[World, ...]:
        """The generator of the linear schedule, for both."""
        return tuple(replace(w, path=GeodesicPath(S2)) for w in worlds)

    return Claim(
        "continuity-equation",
        "The mean of the conditional fields given x_t solves the continuity equation of the law of "
        "x_t, which is an average of the data's density over balls.",
        make,
        check,
        (dial("u × (1 + δ)", plant), Control("κ of another schedule", clock)),
        formula=r"\partial_t p_t + \operatorname{div}(p_t u_t) = 0, \qquad "
        r"u_t(x) = \mathbb{E}[u_t(x_t\mid x_1)\mid x_t = x]",
        owes="density",
    )


def transported() -> Claim[World]:
    """The marginal flow carries the uniform law to the data."""

    def check(world: World, trial: Trial) -> Evidence:
        x, end = points(2)(6, trial.rng()), 0.6
        gen, logs = world.generator(0.0), []
        for steps in (1, 2):
            log_det = SolvedFlow(gen, steps=steps)(end, 0.0, x, seeded())[1]
            logs.append(log_det - math.log(4 * math.pi))
        known = world.marginal.log_density(torch.full((6,), end, dtype=DOUBLE), x)
        error = float((logs[1] - logs[0]).abs().max()) + 1e-9
        because = "what RK4 still moves, 1 → 2 steps"
        return near("log p at t = 0.6 along the flow", logs[1], known, error, because)

    return Claim(
        "flow-carries-the-law",
        "The flow of the mean conditional velocity carries the uniform law to the law of x_t: the "
        "likelihood along it is that law's density.",
        worlds,
        check,
        (dial("u × (1 + δ)", slow_world),),
        formula=r"(\phi_{0,t})_\# p_0 = p_t",
        owes="density",
    )


def reversal() -> Claim[World]:
    """The diffusion with the path's marginals, and its reversal."""

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        m, x = world.marginal, points(2)(8, trial.rng())
        t = torch.linspace(0.1, 0.9, 8, dtype=DOUBLE)
        rate, gen = m.rate(t, x), world.generator(world.eps)
        back = world.turn(gen, score=m.score)

        def log_p(y: Tensor) -> Tensor:
            return m.log_density(t, y)

        because = "what the quadrature moves, 1e-12, in second derivatives"
        forward = gen.adjoint(log_p, t, x)
        yield near("(L* p)/p = ∂_t log p", forward, rate, 1e-9, because)
        found = back.adjoint(log_p, 1 - t, x)
        yield near("(L̃* p)/p = −∂_t log p", found, -rate, 1e-9, because)
        at, weight = quadrature(7)
        time = torch.full((len(at),), 0.4, dtype=DOUBLE)
        p = weight * m.log_density(time, at).exp()

        def f(y: Tensor) -> Tensor:
            return y[:, 0] * y[:, 2] + y[:, 1]

        def g(y: Tensor) -> Tensor:
            return y[:, 2] ** 2 - y[:, 0]

        def forwards(h: Callable[[Tensor], Tensor]) -> Tensor:
            return gen.apply(h, time, at)

        backwards = back.apply(f, 1 - time, at)
        left = (p * g(at) * backwards).sum()
        right = (p * (f(at) * forwards(g) - forwards(lambda y: f(y) * g(y)))).sum()
        because = "7 nodes are exact to degree 13 of harmonics that fall faster than 3^−l"
        yield near("E[g L̃f] = E[f L g] − E[L(f g)]", left, right, 1e-6, because)

    def short(world: World, size: float) -> World:
        def turn(gen: MarkovGenerator, **given: Any) -> MarkovGenerator:
            return reverse(gen, score=lambda t, x: (1 - size) * given["score"](t, x))

        return replace(world, turn=turn)

    def still(world: World) -> World:
        def turn(gen: MarkovGenerator, **given: Any) -> MarkovGenerator:
            back = reverse(gen, **given)
            drift = flow(S2, lambda s, x: cast(Tensor, gen.evaluate(1 - s, x).velocity))
            return back + 2 * drift

        return replace(world, turn=turn)

    return Claim(
        "reversal",
        "With the score, u + ε∇log p and the noise √(2ε) have the path's marginals; the reversal "
        "−u + ε∇log p with the same noise runs through them backwards and is the adjoint in p_t.",
        worlds,
        check,
        (
            dial("the score of the reversal × (1 − δ)", short),
            Control("the sign of the drift is kept", still),
        ),
        formula=r"\partial_t p = -\operatorname{div}(p(u+\varepsilon\nabla\log p)) + "
        r"\varepsilon\Delta p, \qquad \mathbb{E}[g\,\tilde L f] = \mathbb{E}[f L g] - "
        r"\mathbb{E}[L(fg)]",
        owes="reverse",
    )


def both_ends(law: Any, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """x0 and x1 on a quadrature of their joint law, x0 = exp_{x1}(ρ e_ψ) of weight sin ρ dρ dψ."""
    ends, weight = quadrature(count)
    at, weights = gauss_legendre(count)
    rho, turns = (math.pi / 2) * (at + 1), 2 * count
    psi = 2 * math.pi * torch.arange(turns, dtype=DOUBLE) / turns
    first, second = S2.tangent_basis(ends)
    around = psi.cos()[:, None, None] * first + psi.sin()[:, None, None] * second
    x1 = ends.expand(count, turns, -1, -1).reshape(-1, 3)
    x0 = S2.step(x1, (rho[:, None, None, None] * around).reshape(-1, 3))
    radial = (math.pi / 2) * weights * rho.sin() / (2 * turns)
    joint = radial[:, None, None] * (weight * law.log_prob(ends).exp()).expand(count, turns, -1)
    return x0, x1, joint.reshape(-1)


def regression_slopes(world: World, count: int) -> Tensor:
    """The loss's derivatives at the mean conditional velocity, in two directions."""
    x0, x1, weight = both_ends(world.law, count)
    t = torch.full((len(x1),), 0.55, dtype=DOUBLE)
    best = replace(world.marginal, path=GeodesicPath(S2, world.schedule)).velocity
    base = best(t, world.path.draw(t, x0, x1, seeded()).state)
    directions: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: x.roll(1, 1) * x[:, :1],
        lambda x: NORTH.expand_as(x) + torch.sin(2 * x),
    )

    def loss(size: float, direction: Callable[[Tensor], Tensor]) -> Tensor:
        def velocity(t: Tensor, x: Any) -> Tensor:
            return base + size * S2.project_tangent(x, direction(x))

        model = Model(velocity, world.path, UniformSphere(S2, DOUBLE))
        return (weight * Regression()(model, Pairs(x0, x1), t, seeded())).sum()

    # the loss is quadratic, so that differences are its derivatives
    return torch.stack([(loss(1.0, d) - loss(-1.0, d)) / 2 for d in directions])


def minimiser() -> Claim[World]:
    """The regression on S², by quadrature of both endpoints."""

    def check(world: World, trial: Trial) -> Iterator[Evidence]:
        slopes = [regression_slopes(replace(world, nodes=6), count) for count in (4, 5)]
        error = (slopes[1] - slopes[0]).abs().max() + 1e-10
        because = "what the quadrature over both endpoints still moves, 4 → 5 nodes"
        yield near("dL/dδ in two directions", slopes[1], torch.zeros(2), error, because)

    def target(world: World, size: float) -> World:
        return replace(world, path=scaled_target(world.path, size))

    return Claim(
        "minimiser",
        "On S² the derivative of the regression loss vanishes at the mean conditional velocity, in "
        "every direction.",
        worlds,
        check,
        (dial("targets × (1 + δ)", target),),
        formula=r"\mathbb{E}\,\langle u_t(x_t\mid x_1) - u_t(x_t),\, w(x_t)\rangle = 0",
        entries=("R.24",),
        owes="minimiser",
    )
