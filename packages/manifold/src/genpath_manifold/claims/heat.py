r"""The heat kernel of S²: its equation, its score, its semigroup and its short times.

    ∂_t p = ½Δp,   ∇log p_t = (d/dθ log p) · outward,    p_s ∗ p_t = p_{s+t}
    −2t (log p_t + log 2πt − ½ log(θ/sin θ)) → θ²,   t → 0                     Varadhan

(semester II, R.19–R.21; Y19: the score is not log_x(x_0)/t alone.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.reversal import score_of
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    contracts,
    dial,
    equal,
    mean,
    near,
    order,
)

from ..generators import brownian
from ..laws import SphereHeatKernel
from .brownian import louder
from .cases import DOUBLE, NORTH, S2, points, quadrature, row

__all__ = ["heat_kernel"]


def heat_kernel() -> tuple[Claim[Any], ...]:
    """The claims of ``manifold.heat_kernel``."""
    found = contracts.law(
        lambda: SphereHeatKernel(row(2.0, -1.0, 2.0)[0] / 3, 0.5),
        space=S2,
        nodes=quadrature,
        draws=32_000,
    )
    return (*found, fixture(), equation(), scores(), semigroup(), short_times())


def at_angles(*angles: float) -> Tensor:
    """Points at these angles from the north pole."""
    theta = torch.tensor(angles, dtype=DOUBLE)
    return torch.stack([theta.sin(), 0 * theta, theta.cos()], 1)


def slower(law: SphereHeatKernel, size: float) -> SphereHeatKernel:
    """The kernel at (1 − δ) t."""
    return SphereHeatKernel(law.mean, (1 - size) * law.time)


def slower_density(law: SphereHeatKernel, size: float) -> SphereHeatKernel:
    """The density at another time, the draws as they were."""
    return but(law, log_prob=slower(law, size).log_prob)


def fixture() -> Claim[SphereHeatKernel]:
    """The printed densities at t = ½, and moments of draws."""

    def check(law: SphereHeatKernel, trial: Trial) -> Iterator[Evidence]:
        found = law.log_prob(at_angles(0.0, 1.0, 2.0, math.pi)).exp()
        printed = [0.346229516, 0.139089767, 0.009504723, 0.000195179]
        yield near("p(θ)", found, printed, 6e-10, "the ledger prints nine decimals")
        z = law.sample(trial.count(40_000, 10_000), trial.rng())[:, 2]
        degrees = torch.stack([z, (3 * z**2 - 1) / 2, (5 * z**3 - 3 * z) / 2], 1)
        known = [math.exp(-0.5 * k * (k + 1) * 0.5) for k in (1, 2, 3)]
        yield mean("E P_l(cos θ) of draws", degrees, torch.tensor(known, dtype=DOUBLE),
                   allowance=1e-6, because="the grid of the draws, 1e-7 in law")  # fmt: skip

    return Claim(
        "worked-example",
        "The heat kernel of S² at t = ½ has the printed densities at the angles 0, 1, 2 and π, and "
        "draws have the Legendre moments e^{−l(l+1)t/2}.",
        lambda: SphereHeatKernel(NORTH, 0.5),
        check,
        (
            dial("the density at (1 − δ) t", slower_density, 0.5),
            Control("draws at t = ¼", lambda law: but(law, sample=slower(law, 0.5).sample)),
        ),
        formula=r"p_t(\theta) = \sum_l \tfrac{2l+1}{4\pi}\, e^{-l(l+1)t/2} P_l(\cos\theta)",
    )


def equation() -> Claim[MarkovGenerator]:
    """The heat equation, and the mass."""

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        x = points(2)(48, trial.rng())
        for t in (0.3, 1.0):
            h = 1e-3

            def log_p(s: float, y: Tensor) -> Tensor:
                return SphereHeatKernel(NORTH, s).log_prob(y)

            def slope(h: float, t: float = t) -> Tensor:
                return (log_p(t + h, x) - log_p(t - h, x)) / (2 * h)

            extrapolated = (4 * slope(h / 2) - slope(h)) / 3
            # log p is within 1e-10 at t = 0.3, where the series cancels
            error = (slope(h / 2) - slope(h)).abs() + 1e-10 / h
            found = gen.adjoint(lambda y, t=t: log_p(t, y), 0.0, x)  # type: ignore[misc]
            because = "what the difference still moves, and the series' cancellation over h"
            yield near(f"(½Δp)/p = ∂_t log p at t = {t:g}", found, extrapolated, error, because)

    return Claim(
        "heat-equation",
        "The heat kernel solves ∂_t p = ½Δp.",
        lambda: brownian(S2),
        check,
        (
            dial("σ × (1 + δ)", louder),
            Control("the generator Δ", lambda gen: brownian(gen.space, math.sqrt(2))),
        ),
        formula=r"\partial_t p = \tfrac12 \Delta p",
        owes="density",
    )


def scores() -> Claim[SphereHeatKernel]:
    """The radial score, against differences and printed numbers."""

    def check(law: SphereHeatKernel, trial: Trial) -> Iterator[Evidence]:
        theta = torch.tensor([1.0, 2.0], dtype=DOUBLE)
        x = at_angles(1.0, 2.0)
        score = score_of(S2, lambda t, y: law.log_prob(y))(torch.zeros(2, dtype=DOUBLE), x)
        outward = -S2.log(x, NORTH.expand(2, 3)) / theta[:, None]
        slope = (score * outward).sum(-1)
        printed = [-1.817221846, -3.502781380]
        yield near("d log p/dθ at 1 and 2", slope, printed, 2e-9, "the ledger prints nine decimals")
        yield equal("the score is radial", score, slope[:, None] * outward, operations=512)

        def difference(h: float) -> Tensor:
            ahead, back = S2.step(x, h * outward), S2.step(x, -h * outward)
            found: Tensor = (law.log_prob(ahead) - law.log_prob(back)) / (2 * h)
            return found

        fine, coarse = difference(5e-4), difference(1e-3)
        error = (fine - coarse).abs() + 1e-11
        yield near("by differences", slope, fine, error, "what the difference still moves")
        far = score_of(S2, lambda t, y: law.log_prob(y))(torch.zeros(1, dtype=DOUBLE), -NORTH[None])
        because = "the series' cancellation at the antipode, 1e-16 e^{π²} times its slopes"
        yield near("the score at the antipode", far, torch.zeros(1, 3), 1e-9, because)

    def naive(law: SphereHeatKernel) -> SphereHeatKernel:
        def log_prob(x: Tensor) -> Tensor:
            distance = S2.distance(x, law.mean.expand_as(x))
            return -(distance**2) / (2 * law.time)

        return but(law, log_prob=log_prob)

    return Claim(
        "score",
        "The score of the heat kernel points along the geodesic and has the printed size; it is "
        "not log_x(x_0)/t, and it vanishes at the antipode.",
        lambda: SphereHeatKernel(NORTH, 0.5),
        check,
        (
            dial("the density at (1 − δ) t", slower_density, 0.5),
            Control("log_x(x_0)/t alone, of the density exp(−θ²/2t)", naive),
        ),
        formula=r"\nabla\log p_t = -\frac{\partial\log p_t}{\partial\theta}\,"
        r"\frac{\log_x x_0}{\theta}",
        entries=("Y19",),
        owes="reverse",
    )


@dataclass(frozen=True)
class Family:
    """The kernel of mean μ and time t, for all t."""

    at: Callable[[Tensor, float], SphereHeatKernel] = SphereHeatKernel


def semigroup() -> Claim[Family]:
    """Chapman–Kolmogorov."""

    def check(family: Family, trial: Trial) -> Evidence:
        x, weight = quadrature(24)
        ends = points(2)(12, trial.rng())
        first = weight * family.at(NORTH, 0.4).log_prob(x).exp()
        second = torch.stack([family.at(end, 0.3).log_prob(x).exp() for end in ends])
        once = family.at(NORTH, 0.7).log_prob(ends).exp()
        because = "the quadrature is exact to degree 47, where e^{−47·48·0.3/2} = 0"
        return near("∫ p_0.4(x, y) p_0.3(y, z) dy", second @ first, once, 1e-13, because)

    def slower_family(family: Family, size: float) -> Family:
        """Times below 0.35 are (1 + δ) times as long."""
        return Family(lambda x, t: SphereHeatKernel(x, (1 + size) * t if t < 0.35 else t))

    return Claim(
        "semigroup",
        "Two heat kernels one after another are the kernel of the sum of their times.",
        Family,
        check,
        (dial("the shorter time × (1 + δ)", slower_family),),
        formula=r"\int p_s(x, y)\, p_t(y, z)\, dy = p_{s+t}(x, z)",
    )


def short_times() -> Claim[Family]:
    """Varadhan's limit with the volume factor."""

    def check(family: Family, trial: Trial) -> Iterator[Evidence]:
        theta = 1.2

        def squared_distance(t: float) -> float:
            log_p = float(family.at(NORTH, t).log_prob(at_angles(theta)))
            volume = 0.5 * math.log(theta / math.sin(theta))
            return -2 * t * (log_p + math.log(2 * math.pi * t) - volume)

        because = "the ledger prints six decimals"
        yield near("at t = 0.4", squared_distance(0.4), 1.384667, 6e-7, because)
        # the expansion in t begins θ² − c t²: two times leave the next power
        steps = [0.5, 0.4, 0.3, 0.2]
        errors = [theta**2 - squared_distance(t) for t in steps]
        yield order("θ² − (…) in t", steps, errors, 2.0)

    def late(family: Family, size: float) -> Family:
        return Family(lambda x, t: SphereHeatKernel(x, (1 + size) * t))

    return Claim(
        "short-times",
        "At short times −2t times the logarithm of the kernel, without its normalisation and "
        "volume factor, is the squared distance up to t².",
        Family,
        check,
        (dial("t × (1 + δ) in the kernel", late),),
        formula=r"-2t\left(\log p_t + \log 2\pi t - \tfrac12\log\tfrac{\theta}{\sin\theta}\right)"
        r" = \theta^2 + O(t^2)",
    )
