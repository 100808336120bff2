r"""What the claims of dynamics and samplers share: scenes with known densities, and exact moments.

Densities are the distributions' of torch, differentiated. The law that a sampler gives to a linear
process is found without sampling error, by the moments of the very steps that it makes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.generators import MarkovGenerator
from genpath.models import ODE, Dynamics
from genpath.parts import Parts
from genpath.samplers import Sampler
from genpath.spaces import Euclidean
from genpath.testing import (
    Trial,
    but,
)

from ..dynamics import (
    BackwardSDE,
    DiffusiveSDE,
    Eps,
    Tabulated,
    Vanishing,
)
from ..mixtures import GaussianMixture
from ..paths import LinearPath
from ..schedules import linear_schedule, variance_preserving_schedule

__all__ = [
    "DOUBLE",
    "EPS",
    "LINE",
    "Maker",
    "PLANE",
    "Scene",
    "backward",
    "cells",
    "changed",
    "forward",
    "less_score",
    "linear",
    "normal_fields",
    "one",
    "plane",
    "points",
    "quieter",
    "scenes",
    "step_moments",
    "turned",
    "two",
    "variance_preserving",
]

DOUBLE = torch.float64

LINE, PLANE = Euclidean(1), Euclidean(2)


def linear(space: Any, gamma: str = "none", scale: float = 1.0) -> LinearPath:
    """The linear path from N(0, I)."""
    return LinearPath(space, linear_schedule(gamma, scale), "gaussian")


def variance_preserving(space: Any) -> LinearPath:
    """√(1−t²) x0 + t x1 from N(0, I)."""
    return LinearPath(space, variance_preserving_schedule(), "gaussian")


@dataclass(frozen=True)
class Scene:
    """A path from N(0, I) to a mixture, with its density by torch."""

    words: str
    path: LinearPath
    law: GaussianMixture

    def log_prob(self, t: Tensor, x: Tensor) -> Tensor:
        """log p_t(x), also for copies of the batch."""
        schedule = self.path.schedule
        noise = (schedule.alpha(t) ** 2 + schedule.gamma_squared(t))[:, None, None]
        beta = schedule.beta(t)[:, None, None]
        spread = (noise + beta**2 * self.law.stds**2).sqrt()
        terms = Normal(beta * self.law.means, spread, validate_args=False).log_prob(x[:, None, :])
        return torch.logsumexp(self.law.weights.log() + terms.sum(2), 1)

    def score(self, t: Tensor, x: Any) -> Tensor:
        """∇log p_t, by automatic differentiation."""
        gradient: Tensor = torch.func.grad(lambda y: self.log_prob(t, y).sum())(x)
        return gradient

    def known_score(self, t: Tensor, x: Any) -> Tensor:
        """The same in closed form, for long runs."""
        schedule, law = self.path.schedule, self.law
        beta = schedule.beta(t)[:, None, None]
        noise = (schedule.alpha(t) ** 2 + schedule.gamma_squared(t))[:, None, None]
        variance = noise + beta**2 * law.stds**2
        gap = x[:, None] - beta * law.means
        log = law.weights.log() - 0.5 * (gap**2 / variance + variance.log()).sum(2)
        found: Tensor = -(torch.softmax(log, 1)[..., None] * gap / variance).sum(1)
        return found

    def at(self, t: Tensor) -> Callable[[Tensor], Tensor]:
        """log p_t of the state alone, also for copies of the batch."""
        return lambda y: self.log_prob(t.repeat(len(y) // len(t)), y)

    def rate(self, t: Tensor, x: Tensor) -> Tensor:
        """∂_t log p_t(x), by automatic differentiation."""
        slope: Tensor = torch.func.jvp(lambda s: self.log_prob(s, x), (t,), (torch.ones_like(t),))[
            1
        ]
        return slope


def plane() -> GaussianMixture:
    """Two overlapping components of the plane."""
    return GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=DOUBLE),
        torch.tensor([[-1.5, 0.5], [1.0, -0.4]], dtype=DOUBLE),
        torch.tensor([[0.6, 0.6], [0.4, 0.9]], dtype=DOUBLE),
    )


def two() -> GaussianMixture:
    """Two separated components of the line."""
    return GaussianMixture(
        torch.tensor([0.35, 0.65], dtype=DOUBLE),
        torch.tensor([[-1.6], [1.0]], dtype=DOUBLE),
        torch.tensor([[0.5], [0.4]], dtype=DOUBLE),
    )


def one(mean: float, std: float) -> GaussianMixture:
    """N(mean, std²) on the line."""
    full = torch.full((1, 1), 1.0, dtype=DOUBLE)
    return GaussianMixture(full[0], mean * full, std * full)


def scenes(law: GaussianMixture) -> tuple[Scene, ...]:
    """With a latent noise, without one, and variance preserving."""
    space = Euclidean(*law.means.shape[1:])
    return (
        Scene("latent", linear(space, "sqrt", 1.3), law),
        Scene("one-sided", linear(space), law),
        Scene("variance preserving", variance_preserving(space), law),
    )


EPS: dict[str, Eps] = {
    "0": 0.0,
    "0.5": 0.5,
    "2": 2.0,
    "vanishing": Vanishing(1.0),
    "rising": Tabulated((0.0, 1.5)),
    "table": Tabulated((0.3, 1.0, 0.1), (0.0, 0.4, 1.0)),
    "t²": lambda t: t**2,
}

Maker = Callable[[Eps], Dynamics]


def forward() -> Maker:
    """What makes the forward process."""
    return DiffusiveSDE


def backward() -> Maker:
    """What makes the backward process."""
    return BackwardSDE


def changed(make: Maker, change: Callable[[Parts, Tensor, Any, Any], Parts]) -> Maker:
    """Dynamics whose parts are ``change(parts, t, x, (path, name, field, eps))``."""

    def planted(eps: Eps) -> Dynamics:
        right = make(eps)

        def generator(path: Any, name: str, field: Any) -> MarkovGenerator:
            gen = right.generator(path, name, field)

            def evaluate(t: Tensor, x: Any) -> Parts:
                return change(gen.evaluate(t, x), t, x, (path, name, field, eps))

            return replace(gen, evaluate=evaluate)

        return but(right, generator=generator)

    return planted


def less_score(make: Maker, size: float) -> Maker:
    """Drift b + (1 − δ) ε s."""

    def change(parts: Parts, t: Tensor, x: Any, given: Any) -> Parts:
        flow = ODE().generator(*given[:3]).evaluate(t, x).velocity
        drift = cast(Tensor, parts.velocity)
        return replace(parts, velocity=drift - size * (drift - flow))

    return changed(make, change)


def quieter(make: Maker, size: float) -> Maker:
    """Noise √(2ε/(1+δ))."""

    def change(parts: Parts, t: Tensor, x: Any, given: Any) -> Parts:
        assert parts.diffusion is not None
        return replace(parts, diffusion=parts.diffusion.scaled(1 / math.sqrt(1 + size)))

    return changed(make, change)


def turned(eps: Eps) -> Eps:
    """ε(1 − t)."""
    return (lambda t: eps(1 - t)) if callable(eps) else eps


def points(trial: Trial, d: int, low: float = 0.05, high: float = 0.95) -> tuple[Tensor, Tensor]:
    """Times and states."""
    rng, count = trial.rng(), trial.count(24, 12)
    t = low + (high - low) * torch.rand(count, generator=rng, dtype=DOUBLE)
    return t, 1.5 * torch.randn(count, d, generator=rng, dtype=DOUBLE)


def cells(scene: Scene, t: float, x: Tensor, count: int = 16) -> Tensor:
    """How many rows fall between the quantiles of p_t on the line."""
    time, law = torch.tensor([t], dtype=DOUBLE), scene.law
    schedule = scene.path.schedule
    beta, noise = schedule.beta(time), schedule.alpha(time) ** 2 + schedule.gamma_squared(time)
    spread = (noise + beta**2 * law.stds[:, 0] ** 2).sqrt()
    below = Normal(beta * law.means[:, 0], spread).cdf(x) @ law.weights
    return torch.bincount((below * count).long().clamp(0, count - 1), minlength=count)


def normal_fields(path: LinearPath, mean: float, std: float) -> Callable[[Tensor, Any], Tensor]:
    """M' + ½ V'/V (x − M) and −(x − M)/V, stacked: the fields from N(0, 1) to N(mean, std²)."""
    schedule = path.schedule

    def both(t: Tensor, x: Any) -> Tensor:
        a, b = schedule.alpha(t)[:, None], schedule.beta(t)[:, None]
        da, db = schedule.alpha.rate(t)[:, None], schedule.beta.rate(t)[:, None]
        level = a**2 + b**2 * std**2 + schedule.gamma_squared(t)[:, None]
        slope = a * da + b * db * std**2 + schedule.gamma_gamma_rate(t)[:, None]
        gap = (x - b * mean) / level
        return torch.stack((db * mean + slope * gap, -gap), 1)

    return both


def step_moments(
    sampler: Sampler,
    dynamics: Dynamics,
    make_path: Callable[[Euclidean], LinearPath],
    law: tuple[float, float],
    times: Sequence[float],
    start: tuple[float, float],
    draws: int = 2,
) -> list[tuple[float, float]]:
    """Mean and variance at every time of a run, without sampling error, for normal data.

    The drift is affine in x, so that E[X'|x] and E[X'²|x] are polynomials of degrees 1 and 2; three
    points fix them. Noise enters through the space: row r gets the sign that bit i of r says at
    the i-th draw of a step, which has the mean and the covariance of normal noise.
    """
    used = [0]

    def signs(x: Tensor, rng: torch.Generator) -> Tensor:
        bit, used[0] = used[0], used[0] + 1
        return (1.0 - 2.0 * ((torch.arange(len(x)) >> bit) & 1).to(x.dtype))[:, None]

    path = make_path(but(LINE, tangent_noise=signs))
    gen = dynamics.generator(path, "velocity+score", normal_fields(path, *law))
    rows, rng = 2**draws, torch.Generator()
    nodes = torch.tensor([0.0, 1.0, -1.0], dtype=DOUBLE).repeat_interleave(rows)[:, None]
    first, second = start[0], start[1] + start[0] ** 2
    found = [start]
    for t, t_next in itertools.pairwise(times):
        used[0] = 0
        end = sampler.step(gen, sampler.init(gen, nodes), t, t_next, rng).state.reshape(3, rows)
        assert used[0] <= draws
        zero, plus, minus = end.mean(1).tolist()
        z2, p2, m2 = end.square().mean(1).tolist()
        first, second = (
            zero + (plus - minus) / 2 * first,
            z2 + (p2 - m2) / 2 * first + ((p2 + m2) / 2 - z2) * second,
        )
        found.append((first, second - first**2))
    return found
