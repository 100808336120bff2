r"""Brownian motion on the sphere, its geodesic random walk, and its reversal.

    L = ½σ²Δ,   L Y_l = −½σ² l(l + n − 1) Y_l,    E⟨X_t, x_0⟩ = e^{−nσ²t/2}

(semester II, R.13 and R.14; Y18: without the exponential map the walk leaves the sphere.) One step
of the walk is a sum over the nodes of a quadrature of its Gaussian noise, so that its law has no
sampling error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator, flow
from genpath.grids import TimeGrid
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.reversal import reverse, score_of
from genpath.samplers import Euler, integrate
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    dial,
    equal,
    mean,
    near,
    order,
)
from genpath.testing.contracts.schedules import gauss_legendre

from ..generators import brownian
from ..laws import SphereHeatKernel, VonMisesFisher
from ..spaces import Sphere
from .cases import DOUBLE, NORTH, S2, points, quadrature, row, seeded

__all__ = ["brownian_motion", "louder"]


def brownian_motion() -> tuple[Claim[Any], ...]:
    """The claims of ``manifold.brownian``."""
    return (eigenfunctions(), walk(), walks(), langevin(), backwards())


# -- faults of a generator -------------------------------------------------------------------


def louder(gen: MarkovGenerator, size: float) -> MarkovGenerator:
    """σ is (1 + δ) times as large."""

    def evaluate(t: Tensor, x: Any) -> Parts:
        parts = gen.evaluate(t, x)
        noise = cast(ScalarNoise, parts.diffusion)
        return replace(parts, diffusion=noise.scaled(1 + size))

    return replace(gen, evaluate=evaluate)


def without_exponential(gen: MarkovGenerator) -> MarkovGenerator:
    """A step is x + v."""
    return replace(gen, space=but(gen.space, step=lambda x, v: x + v))


def projected_steps(gen: MarkovGenerator) -> MarkovGenerator:
    """A step is (x + v)/|x + v|."""
    space: Any = gen.space
    return replace(gen, space=but(space, step=lambda x, v: space.project(x + v)))


# -- the generator ---------------------------------------------------------------------------


def eigenfunctions() -> Claim[tuple[MarkovGenerator, ...]]:
    """Harmonic polynomials of degree 1, 2 and 3."""

    def check(gens: tuple[MarkovGenerator, ...], trial: Trial) -> Iterator[Evidence]:
        for gen, sigma, degrees in zip(gens, (1.0, 0.7, 1.3), ((3,), (1, 2), (3,)), strict=True):
            n = cast(Sphere, gen.space).dimension
            x = points(n)(16, trial.rng(str(n)))
            a = torch.linspace(-1, 2, n + 1, dtype=DOUBLE)
            harmonics: tuple[tuple[int, Callable[[Tensor], Tensor]], ...] = (
                (1, lambda y, a=a: y @ a),  # type: ignore[misc]
                (2, lambda y: y[:, 0] * y[:, 1]),
                (3, lambda y: y[:, 0] ** 3 - 3 * y[:, 0] * y[:, 1] ** 2),
            )
            for degree, f in (harmonics[degree - 1] for degree in degrees):
                value = -0.5 * sigma**2 * degree * (degree + n - 1) * f(x)
                found = gen.apply(f, 0.0, x)
                yield equal(f"degree {degree} on S^{n}", found, value, operations=1e3)

    def plant(change: Callable[..., MarkovGenerator]) -> Callable[..., Any]:
        return lambda gens, *size: tuple(change(gen, *size) for gen in gens)

    return Claim(
        "eigenfunctions",
        "On S^n, ½σ²Δ multiplies a harmonic polynomial of degree l with −½σ² l(l + n − 1).",
        lambda: tuple(brownian(Sphere(n), s) for n, s in ((1, 1.0), (2, 0.7), (5, 1.3))),
        check,
        (
            dial("σ × (1 + δ)", plant(louder)),
            Control("x + v instead of the exponential map", plant(without_exponential)),
        ),
        formula=r"\tfrac{\sigma^2}{2}\Delta Y_l = -\tfrac{\sigma^2}{2}\, l(l+n-1)\, Y_l",
    )


@dataclass(frozen=True)
class Nodes:
    """Standard tangent noise at the nodes of a quadrature, in the place of draws."""

    noise: Any
    coordinates: Tensor
    uniform: bool = True

    def draw(self, space: Any, state: Any, rng: torch.Generator) -> Tensor:
        basis = space.tangent_basis(state)
        result: Tensor = torch.einsum("rk,kri->ri", self.coordinates, basis)
        return result

    def __call__(self, noise: Any) -> Any:
        return self.noise(noise)

    def columns(self, space: Any, state: Any) -> list[Any]:
        found: list[Any] = self.noise.columns(space, state)
        return found

    def scaled(self, factor: Any) -> Nodes:
        return replace(self, noise=self.noise.scaled(factor))


def gaussian(radii: int = 48, turns: int = 8) -> tuple[Tensor, Tensor]:
    """Nodes ``(m, 2)`` and weights of a standard normal law of the plane, radii up to 12."""
    at, weights = gauss_legendre(radii)
    r = (6 * (at + 1)).repeat_interleave(turns)
    weight = (6 * weights).repeat_interleave(turns) * r * torch.exp(-0.5 * r * r) / turns
    angle = (2 * math.pi * torch.arange(turns, dtype=DOUBLE) / turns).repeat(radii)
    return torch.stack([r * angle.cos(), r * angle.sin()], 1), weight


def one_step(gen: MarkovGenerator, h: float) -> float:
    """E⟨X_h, x_0⟩ after one step of `Euler`, by quadrature of its noise."""
    coordinates, weights = gaussian()

    def evaluate(t: Tensor, x: Any) -> Parts:
        parts = gen.evaluate(t, x)
        return replace(parts, diffusion=Nodes(parts.diffusion, coordinates))

    start = NORTH.expand(len(weights), 3)
    known = replace(gen, evaluate=evaluate)
    end = integrate(Euler(), known, start, (0.0, h), seeded()).state
    return float((weights * end[:, 2]).sum())


def series(h: float) -> float:
    """E cos(√h R) for R² ~ χ² with two degrees: Σ (−h)^k E R^{2k}/(2k)!, E R^{2k} = 2^k k!."""
    terms = ((-2 * h) ** k * math.factorial(k) / math.factorial(2 * k) for k in range(30))
    return math.fsum(terms)


def walk() -> Claim[MarkovGenerator]:
    """The mean of the walk, exactly, and its order."""

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        for h in (0.01, 0.1, 0.5):
            because = "a quadrature that is exact to rounding, and 1e-13 of the tail beyond 12"
            yield near(f"E⟨x_h, x_0⟩, h = {h:g}", one_step(gen, h), series(h), 1e-12, because)
        # by symmetry every step multiplies the mean by the same factor
        steps = [4, 8, 16, 32, 64]
        errors = [abs(one_step(gen, 1 / n) ** n - math.exp(-1)) for n in steps]
        yield order("E⟨x_1, x_0⟩ → e^{−1}", [1 / n for n in steps], errors, 1.0)
        fine = 2 * one_step(gen, 1 / 4096) ** 4096 - one_step(gen, 1 / 2048) ** 2048
        because = "h²/10 after extrapolation, h = 1/2048, and 4096 roundings"
        yield near("the limit", fine, math.exp(-1), 1e-7, because)

    return Claim(
        "mean-height",
        "E⟨x_t, x_0⟩ = e^{−t} on S². One step of the geodesic random walk multiplies it by "
        "E cos(√h R), which is e^{−h} up to h²: the walk has weak order 1.",
        lambda: brownian(Sphere(2)),
        check,
        (
            dial("σ × (1 + δ)", louder),
            Control("x + v instead of the exponential map", without_exponential),
            Control("(x + v)/|x + v| instead of the exponential map", projected_steps),
        ),
        formula=r"\mathbb{E}\langle X_t, x_0\rangle = e^{-t}, \qquad "
        r"\mathbb{E}\cos(\sqrt{h}R) = e^{-h} + O(h^2)",
        entries=("Y18",),
    )


def walks() -> Claim[MarkovGenerator]:
    """Paths of the walk against the heat kernel."""

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        steps, count = 24, trial.count(40_000, 10_000)
        start = NORTH.expand(count, 3)
        end = integrate(Euler(), gen, start, TimeGrid.uniform(steps), trial.rng()).state
        norm = end.norm(dim=-1)
        yield equal("|x_t|", norm, torch.ones_like(norm))
        z = end[:, 2]
        values = torch.stack([z, (3 * z**2 - 1) / 2, end[:, 0], end[:, 0] * end[:, 1]], 1)
        known = torch.tensor([math.exp(-1), math.exp(-3), 0.0, 0.0], dtype=DOUBLE)
        # E P_l of a step is e^{−l(l+1)h/2} − b h², with b = 1/6 for l = 1 and below 2 for l = 2
        bias = torch.tensor([1 / 6, 2.0, 0.0, 0.0], dtype=DOUBLE) * known / steps
        because = "the walk's bias h e^{−1}/6 (degree 1), 2h e^{−3} (degree 2)"
        yield mean("E of harmonics", values, known, allowance=1.2 * bias, because=because)

    return Claim(
        "walk",
        "Paths of the geodesic random walk stay on the sphere, and at t = 1 the harmonics of "
        "degree 1 and 2 have the means e^{−1} and e^{−3} of Brownian motion.",
        lambda: brownian(Sphere(2)),
        check,
        (
            dial("σ × (1 + δ)", louder),
            Control("x + v instead of the exponential map", without_exponential),
        ),
        formula=r"\mathbb{E}\,P_l(\langle X_t, x_0\rangle) = e^{-l(l+1)t/2}",
    )


def langevin() -> Claim[MarkovGenerator]:
    """½∇log p + Brownian motion keeps p."""
    law = VonMisesFisher(row(2.0, -1.0, 2.0)[0] / 3, 3.0)

    def make() -> MarkovGenerator:
        score = score_of(S2, lambda t, x: law.log_prob(x))
        return brownian(S2) + flow(S2, lambda t, x: 0.5 * score(t, x))

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        x = points(2)(64, trial.rng())
        found = gen.adjoint(law.log_prob, 0.0, x)
        yield equal("(L* p)/p", found, torch.zeros_like(found), operations=256, scale=9.0)
        at, weight = quadrature(20)
        f = at[:, 0] ** 2 - torch.sin(2 * at[:, 1]) * at[:, 2]
        applied = gen.apply(lambda y: y[:, 0] ** 2 - torch.sin(2 * y[:, 1]) * y[:, 2], 0.0, at)
        total = (weight * law.log_prob(at).exp() * applied).sum()
        size = float((weight * law.log_prob(at).exp() * f.abs()).sum())
        yield near("∫ p L f", total, 0.0, 1e-12 * max(size, 1.0), "rounding of the quadrature")

    return Claim(
        "langevin",
        "Brownian motion with the drift ½∇log p leaves a von Mises–Fisher law p unchanged.",
        make,
        check,
        (
            dial("σ × (1 + δ)", louder),
            Control("the drift is dropped", lambda gen: brownian(gen.space)),
            Control(
                "the sign of the drift",
                lambda gen: brownian(S2) + flow(S2, lambda t, x: -gen.evaluate(t, x).velocity),
            ),
        ),
        formula=r"-\operatorname{div}(p\,\tfrac12\nabla\log p) + \tfrac12\Delta p = 0",
        entries=("R.13",),
        owes="density",
    )


@dataclass(frozen=True)
class Reversal:
    """Brownian motion from the pole, how it is reversed, and the law that it has."""

    gen: MarkovGenerator
    turn: Callable[..., MarkovGenerator] = reverse

    def log_density(self, t: Tensor, x: Tensor) -> Tensor:
        """log p_{½+t}: one time for all rows."""
        at: Tensor = SphereHeatKernel(NORTH, 0.5 + float(t[0])).log_prob(x)
        return at


def backwards() -> Claim[Reversal]:
    """The reversal of Brownian motion started at a point."""

    def check(world: Reversal, trial: Trial) -> Iterator[Evidence]:
        back = world.turn(world.gen, log_density=world.log_density)
        x, t, h = points(2)(48, trial.rng()), 0.4, 1e-3

        def log_p(y: Tensor) -> Tensor:
            return SphereHeatKernel(NORTH, 0.5 + t).log_prob(y)

        later, earlier = (SphereHeatKernel(NORTH, 0.5 + t + s).log_prob(x) for s in (h, -h))
        rate = (later - earlier) / (2 * h)
        because = "h²/6 of the third derivative of log p, h = 1e-3, below 40"
        yield near("(L̃* p)/p = −∂_t log p", back.adjoint(log_p, 1 - t, x), -rate, 1e-5, because)
        at, weight = quadrature(20)
        p = weight * log_p(at).exp()

        def f(y: Tensor) -> Tensor:
            return y[:, 0] * y[:, 2] + torch.sin(y[:, 1] + y[:, 2])

        def g(y: Tensor) -> Tensor:
            return torch.exp(y[:, 2]) - y[:, 0]

        left = (p * g(at) * back.apply(f, 1 - t, at)).sum()
        gen = world.gen
        both = gen.apply(lambda y: f(y) * g(y), t, at)
        right = (p * (f(at) * gen.apply(g, t, at) - both)).sum()
        yield near("E[g L̃f] = E[f L g] − E[L(f g)]", left, right, 1e-11, "rounding of a quadrature")

    def short(world: Reversal, size: float) -> Reversal:
        def turn(gen: MarkovGenerator, **given: Any) -> MarkovGenerator:
            score = score_of(gen.space, given["log_density"])
            return reverse(gen, score=lambda t, x: (1 - size) * score(t, x))

        return replace(world, turn=turn)

    def stays(world: Reversal) -> Reversal:
        return replace(world, turn=lambda gen, **given: gen)

    return Claim(
        "reversal",
        "Brownian motion from a point, seen backwards, is Brownian motion with the drift ∇log p_t: "
        "it has the law p_t at 1 − t, and it is the adjoint of the forward motion in p_t.",
        lambda: Reversal(brownian(S2)),
        check,
        (
            dial("the score × (1 − δ)", short),
            Control("the forward motion", stays),
        ),
        formula=r"\tilde L f = \tfrac12\Delta f + \langle\nabla\log p_t, \nabla f\rangle, \qquad "
        r"\mathbb{E}[g\,\tilde L f] = \mathbb{E}[f L g] - \mathbb{E}[L(fg)]",
        owes="reverse",
    )
