r"""What the claims share: paths with known answers, and answers found in other ways.

The laws at time t are sums of independent normal vectors (x0 ~ N(0, I), data a mixture)

    p_t = Σ_k w_k N(t m_k, t² s_k² + (1−t)² + γ²)

written here with the distributions of torch. `affine_moments` finds the law of a linear SDE on the
line by the equations of its mean and variance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.generators import MarkovGenerator
from genpath.noises import ScalarNoise
from genpath.predictions import Rule
from genpath.spaces import Euclidean
from genpath.testing import but

from ..mixtures import GaussianMixture, MixtureMarginal
from ..paths import LinearPath
from ..presets import linear

__all__ = [
    "DOUBLE",
    "GAMMAS",
    "LINE",
    "PLANE",
    "Case",
    "Cases",
    "affine_moments",
    "at",
    "cases",
    "changed_rules",
    "each",
    "gamma_name",
    "gamma_rate",
    "gamma_squared",
    "interior",
    "kl_normal",
    "line_mixture",
    "log_density",
    "mixture",
    "normal",
    "scaled_field",
    "score_at",
    "seeded",
    "single",
]

Gamma = Literal["none", "sqrt", "quadratic"]
DOUBLE = torch.float64
LINE, PLANE = Euclidean(1), Euclidean(2)
GAMMAS: tuple[Gamma, ...] = ("none", "sqrt", "quadratic")


@dataclass(frozen=True)
class Case:
    """A path with the exact fields of its marginal for some data."""

    path: LinearPath
    marginal: MixtureMarginal

    @property
    def gamma(self) -> Gamma:
        """The name of its γ."""
        return gamma_name(self.path)

    @property
    def law(self) -> GaussianMixture:
        """The law of x1."""
        return cast(GaussianMixture, self.marginal.mixture)

    @property
    def words(self) -> str:
        """Which path, for the names of evidence."""
        return f"γ {self.gamma}"


Cases = tuple[Case, ...]


def mixture() -> GaussianMixture:
    """Two overlapping components of the plane, one of them anisotropic."""
    return GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=DOUBLE),
        torch.tensor([[-1.5, 0.5], [1.0, -0.4]], dtype=DOUBLE),
        torch.tensor([[0.6, 0.6], [0.4, 0.9]], dtype=DOUBLE),
    )


def line_mixture() -> GaussianMixture:
    """Two well separated components of the line."""
    return GaussianMixture(
        torch.tensor([0.35, 0.65], dtype=DOUBLE),
        torch.tensor([[-1.6], [1.0]], dtype=DOUBLE),
        torch.tensor([[0.5], [0.4]], dtype=DOUBLE),
    )


def single(mean: float, std: float) -> GaussianMixture:
    """N(mean, std²) on the line."""
    full = torch.full((1, 1), 1.0, dtype=DOUBLE)
    return GaussianMixture(full[0], mean * full, std * full)


def cases(
    *gammas: Gamma,
    law: Callable[[], GaussianMixture] = mixture,
    scale: float = 1.3,
    base: Literal["gaussian", "any"] = "gaussian",
) -> Callable[[], Cases]:
    """Makes one case per γ (all of them where none is named)."""

    def make() -> Cases:
        data = law()
        space = Euclidean(*data.means.shape[1:])
        found = []
        for gamma in gammas or GAMMAS:
            path = linear(space, gamma, scale, base)
            found.append(Case(path, MixtureMarginal(path, data)))
        return tuple(found)

    return make


def each(plant: Callable[..., Case]) -> Callable[..., Cases]:
    """A fault planted in every case."""
    return lambda found, *size: tuple(plant(case, *size) for case in found)


def scaled_field(name: str) -> Callable[..., Cases]:
    """The field ``name`` of every marginal times 1 + δ."""

    def plant(case: Case, size: float) -> Case:
        field = case.marginal.field(name)
        wrong = {name: lambda t, x: (1 + size) * field(t, x)}
        return replace(case, marginal=but(case.marginal, **wrong))

    return each(plant)


def changed_rules(
    path: LinearPath, change: Callable[[Tensor], Tensor], gives: str, needs: str = ""
) -> LinearPath:
    """The path with the rules for a quantity (of those that need another) changed."""

    def one(rule: Rule) -> Rule:
        if rule.gives != gives or (needs and needs not in rule.needs):
            return rule
        return replace(rule, formula=lambda *given: change(rule.formula(*given)))

    return but(path, rules=tuple(one(rule) for rule in path.rules))


def normal(*shape: int, rng: torch.Generator) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=rng, dtype=DOUBLE)


def interior(rng: torch.Generator, count: int, *event: int) -> tuple[Tensor, Tensor]:
    """Times away from the ends, and states."""
    t = 0.05 + 0.9 * torch.rand(count, generator=rng, dtype=DOUBLE)
    return t, 1.5 * normal(count, *event, rng=rng)


def seeded(seed: int = 7) -> torch.Generator:
    """The same numbers each time: draws with the same latent noise."""
    return torch.Generator().manual_seed(seed)


def gamma_name(path: LinearPath) -> Gamma:
    """Which γ the path has, by the ratio of γ² at ¼ and ½: ¾ for t(1−t), 9/16 for its square."""
    quarter, half = path.schedule.gamma_squared(torch.tensor([0.25, 0.5], dtype=DOUBLE)).tolist()
    if not half:
        return "none"
    return "sqrt" if quarter / half > 0.65 else "quadratic"


def gamma_squared(path: LinearPath, t: Tensor) -> Tensor:
    """γ²(t) of the path's name and of its size at ½."""
    power = {"none": 0.0, "sqrt": 1.0, "quadratic": 2.0}[gamma_name(path)]
    size = float(path.schedule.gamma_squared(torch.tensor([0.5], dtype=DOUBLE)))
    return size * (4 * t * (1 - t)) ** power if power else torch.zeros_like(t)


def gamma_rate(path: LinearPath, t: Tensor) -> Tensor:
    """γ̇(t), by automatic differentiation."""
    rate: Tensor = torch.func.grad(lambda s: gamma_squared(path, s).sqrt().sum())(t)
    return rate


def log_density(case: Case, t: Tensor, x: Tensor) -> Tensor:
    """log p_t(x) for x0 ~ N(0, I), of the distributions of torch: ``(batch,)``."""
    law = case.law
    noise = ((1 - t) ** 2 + gamma_squared(case.path, t))[:, None, None]
    time = t[:, None, None]
    spread = (time**2 * law.stds**2 + noise).sqrt()
    terms = Normal(time * law.means, spread, validate_args=False).log_prob(x[:, None, :])
    return torch.logsumexp(law.weights.log() + terms.sum(2), 1)


def at(case: Case, t: Tensor) -> Callable[[Tensor], Tensor]:
    """log p_t as a function of the state alone, also for copies of the whole batch."""
    return lambda y: log_density(case, t.repeat(len(y) // len(t)), y)


def score_at(case: Case, t: Tensor, x: Tensor) -> Tensor:
    """∇log p_t(x), by automatic differentiation."""
    gradient: Tensor = torch.func.grad(lambda y: log_density(case, t, y).sum())(x)
    return gradient


def affine_moments(
    gen: MarkovGenerator, mean: float, variance: float, steps: int = 200
) -> tuple[Tensor, Tensor]:
    """Mean and variance at ``steps + 1`` equal times of dX = (c + kX) dt + σ dW on the line.

    m' = c + k m and V' = 2 k V + σ², by the classical Runge–Kutta method; c, k and σ are read off
    the generator at 0 and 1.
    """
    t = torch.linspace(0, 1, 2 * steps + 1, dtype=DOUBLE)
    zero = torch.zeros(len(t), 1, dtype=DOUBLE)
    at = gen(t, zero)
    shift = cast(Tensor, at.velocity)[:, 0]
    slope = cast(Tensor, gen(t, zero + 1).velocity)[:, 0] - shift
    noise = float(cast(ScalarNoise, at.diffusion).sigma) ** 2 if "diffusion" in gen.has else 0.0

    def rate(j: int, m: float, v: float) -> tuple[float, float]:
        return shifts[j] + slopes[j] * m, 2 * slopes[j] * v + noise

    shifts, slopes, h = shift.tolist(), slope.tolist(), 1 / steps
    m, v, means, variances = mean, variance, [mean], [variance]
    for j in range(0, 2 * steps, 2):
        a = rate(j, m, v)
        b = rate(j + 1, m + h / 2 * a[0], v + h / 2 * a[1])
        c = rate(j + 1, m + h / 2 * b[0], v + h / 2 * b[1])
        d = rate(j + 2, m + h * c[0], v + h * c[1])
        m += h / 6 * (a[0] + 2 * b[0] + 2 * c[0] + d[0])
        v += h / 6 * (a[1] + 2 * b[1] + 2 * c[1] + d[1])
        means.append(m)
        variances.append(v)
    return torch.tensor(means, dtype=DOUBLE), torch.tensor(variances, dtype=DOUBLE)


def kl_normal(m: Any, v: Any, n: Any, w: Any) -> Tensor:
    """KL(N(m, v) ‖ N(n, w)) on the line, by torch."""
    p, q = (
        Normal(torch.as_tensor(a, dtype=DOUBLE), torch.as_tensor(b, dtype=DOUBLE).sqrt())
        for a, b in ((m, v), (n, w))
    )
    return torch.distributions.kl_divergence(p, q)
