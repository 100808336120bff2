r"""Control: how fast a model's law leaves the path's, and the bound by its errors.

    d/dt KL(p_t ‖ p̂_t) = E⟨b̂ − b, a⟩ − ε E|a|² ≤ (1/4ε) E|b̂ − b|²,    a = ∇log p̂ − ∇log p

for dynamics of drift b = u + ε ∇log p and noise √(2ε), on a curved space as on R^d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genpath.testing import (
    Claim,
    Evidence,
    Trial,
    at_most,
    dial,
    near,
)

from ..paths import GeodesicPath
from .cases import (
    DOUBLE,
    S2,
    quadrature,
)
from .marginals import World, slow_world, worlds

__all__ = ["bound"]


@dataclass(frozen=True)
class Wrong:
    """A world with the bound that its errors are held to."""

    world: World
    factor: float = 1.0


def tilt(x: Tensor) -> Tensor:
    """log p̂ − log p."""
    return 0.5 * x[:, 0] * x[:, 1] - 0.4 * x[:, 2]


def slope(x: Tensor) -> Tensor:
    """a = ∇(log p̂ − log p)."""
    gradient: Tensor = torch.func.grad(lambda y: tilt(y).sum())(x)
    return S2.project_tangent(x, gradient)


def errors(eps: float) -> dict[str, Callable[[Tensor], Tensor]]:
    """Errors b̂ − b of the drift: the one that attains the bound, and another."""
    return {
        "along a": lambda x: 2 * eps * slope(x),
        "elsewhere": lambda x: S2.project_tangent(x, x.roll(1, 1) * x[:, :1]) + 0.2 * slope(x),
    }


def bound() -> Claim[Wrong]:
    """The rate of the divergence between the true law and the model's."""

    def check(wrong: Wrong, trial: Trial) -> Iterator[Evidence]:
        world = replace(wrong.world, nodes=6)
        m = world.marginal
        x, weight = quadrature(6)
        t = torch.full((len(x),), 0.4, dtype=DOUBLE)
        right = replace(m, path=GeodesicPath(S2, world.schedule)).velocity
        p, a = weight * m.log_density(t, x).exp(), slope(x)

        def log_p(y: Tensor) -> Tensor:
            return m.log_density(t, y)

        def inner(u: Tensor, v: Tensor) -> Tensor:
            return (p * S2.inner(x, u, v)).sum()

        for eps in (0.0, world.eps):
            growth = world.generator(eps).adjoint(log_p, t, x)
            for name, error in list(errors(world.eps).items())[0 if eps else 1 :]:
                model = world.generator(eps, lambda t, y, e=error: right(t, y) + e(y))
                change = model.adjoint(lambda y: log_p(y) + tilt(y), t, x)
                rate = -(p * (growth * tilt(x) + change)).sum()
                known = inner(error(x), a) - eps * inner(a, a)
                because = "6 nodes are exact to degree 11 of harmonics that fall faster than 3^−l"
                yield near(f"d/dt KL, ε = {eps:g}, error {name}", rate, known, 1e-6, because)
                if eps:
                    limit = wrong.factor * inner(error(x), error(x)) / (4 * eps)
                    yield at_most(f"d/dt KL, error {name}", rate, limit, "Young", slack=1e-6)

    def less(wrong: Wrong, size: float) -> Wrong:
        return replace(wrong, factor=1 - size)

    def planted(wrong: Wrong, size: float) -> Wrong:
        return replace(wrong, world=slow_world(wrong.world, size))

    return Claim(
        "error-bound",
        "The divergence from the true law to a model's grows at the rate E⟨b̂ − b, a⟩ − ε E|a|², "
        "which for ε > 0 the mean squared error over 4ε bounds; a gradient error attains it. For "
        "ε = 0 nothing bounds it.",
        lambda: Wrong(worlds()),
        check,
        (
            dial("the bound × (1 − δ)", less, 0.5),
            dial("u × (1 + δ)", planted),
        ),
        formula=r"\tfrac{d}{dt}\mathrm{KL}(p_t\|\hat p_t) = "
        r"\mathbb{E}\langle \hat b - b, a\rangle - \varepsilon\,\mathbb{E}|a|^2 \le "
        r"\tfrac{1}{4\varepsilon}\,\mathbb{E}|\hat b - b|^2",
        owes="control",
    )
