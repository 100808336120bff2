r"""Conversions of motion into weights, and the generic potential, on any space."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.jumps import RateJumps
from genpath.noises import MatrixNoise
from genpath.parts import Parts
from genpath.spaces import Euclidean
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    dial,
    equal,
    exact,
    near,
)

from .. import potentials
from ..compositions import Composition
from ..dynamics import Composed, Follow
from ..potentials import LogDensity, corrected
from ._diffusing import DOUBLE, Letters, Spreading, by_product_rule, points

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of the topic ``compose.feynman_kac``."""
    return (
        conversions(),
        static(),
        potential(),
        any_space(),
    )


# -- conversions -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """The conversion rules under test."""

    transport: Callable[..., Tensor] = potentials.transport_to_weight
    diffusion: Callable[..., Tensor] = potentials.diffusion_to_weight
    velocity: Callable[..., Tensor] = potentials.diffusion_to_velocity
    against: Callable[..., Tensor] = potentials.velocity_against_diffusion


def conversions() -> Claim[Rules]:
    """The three rules, by derivatives of p itself, and by particles that do not move."""

    def log_p(y: Tensor) -> Tensor:
        first = -((y - 0.7) ** 2).sum() - 0.4 * y[0] * y[1]
        return torch.logaddexp(first, -0.5 * ((y + 1) ** 2).sum() - 0.3)

    def field(y: Tensor) -> Tensor:
        return torch.stack([torch.sin(y[0]) + y[1], 0.5 * y[0] * y[1]])

    def flux(one: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        """div(p u)/p."""
        found: Tensor = torch.trace(torch.func.jacfwd(lambda z: log_p(z).exp() * one(z))(y))
        return found / log_p(y).exp()

    def check(rules: Rules, trial: Trial) -> Iterator[Evidence]:
        sigma = 1.3
        x = 1.2 * torch.randn(trial.count(40, 20), 2, generator=trial.rng(), dtype=DOUBLE)
        each = torch.func.vmap
        score = each(torch.func.grad(log_p))(x)
        bend = each(torch.func.hessian(log_p))(x).diagonal(0, 1, 2).sum(1)
        spread = each(torch.func.jacfwd(field))(x).diagonal(0, 1, 2).sum(1)
        true = -each(lambda y: flux(field, y))(x)
        scale = 1 + float(true.abs().max()) + float(score.square().sum(1).max())
        found = rules.transport(each(field)(x), spread, score)
        yield equal("−div(p v)/p", found, true, operations=512, scale=scale)
        laplace = each(torch.func.hessian(lambda z: log_p(z).exp()))(x).diagonal(0, 1, 2).sum(1)
        heat = 0.5 * sigma**2 * laplace / each(log_p)(x).exp()
        found = rules.diffusion(sigma, score, bend)
        yield equal("½σ² Δp/p", found, heat, operations=512, scale=scale)

        def flow(y: Tensor) -> Tensor:
            return rules.velocity(sigma, torch.func.grad(log_p)(y)[None])[0]

        moved = -torch.stack([flux(flow, y) for y in x])
        yield equal("−div(p u)/p with u = −½σ² s", moved, heat, operations=512, scale=scale)
        zero = rules.against(sigma, score) + rules.velocity(sigma, score)
        yield exact("the drift against a diffusion", zero, torch.zeros_like(zero))
        yield from at_rest(rules, trial)

    def at_rest(rules: Rules, trial: Trial) -> Iterator[Evidence]:
        """∫ (g_tr + g_diff) dt = log p_1/p_0 at a point, for dX = (c + kX) dt + σ dW."""
        c, k, sigma, m, v = 0.6, -0.9, 0.8, 0.3, 1.4
        x = torch.linspace(-2, 2, 9, dtype=DOUBLE)
        rest = sigma**2 / (2 * k)

        def law(t: Tensor) -> tuple[Tensor, Tensor]:
            grow = torch.exp(k * t)
            return grow * m + c * (grow - 1) / k, grow**2 * (v + rest) - rest

        t = torch.linspace(0, 1, 201, dtype=DOUBLE)
        centre, spread = law(t)
        score = -(x - centre[:, None]) / spread[:, None]
        flat, times = score.reshape(-1, 1), len(t) * len(x)
        speed = (c + k * x).repeat(len(t))[:, None]
        gain = rules.transport(speed, torch.full((times,), k, dtype=DOUBLE), flat)
        bend = (-1 / spread).repeat_interleave(len(x))
        gain = (gain + rules.diffusion(sigma, flat, bend)).reshape(len(t), len(x))
        share = torch.ones(len(t), dtype=DOUBLE)
        share[1:-1:2], share[2:-1:2] = 4, 2
        total = (share[:, None] * gain).sum(0) / (3 * (len(t) - 1))
        logs = -0.5 * (x - centre[:, None]) ** 2 / spread[:, None] - 0.5 * spread[:, None].log()
        because = "Simpson's rule, h⁴ at h = 1/200"
        yield near("log p_1/p_0 of points at rest", total, logs[-1] - logs[0], 1e-8, because)

    return Claim(
        "conversions",
        "Transport and diffusion of a law can be carried by weights, and diffusion by a velocity: "
        "as derivatives of p say, and as particles at rest collect log p_1/p_0.",
        Rules,
        check,
        (
            dial(
                "v·s × (1 + δ)",
                lambda r, d: replace(r, transport=lambda v, g, s: r.transport(v, g, s * (1 + d))),
                0.01,
            ),
            Control(
                "div s dropped",
                lambda r: replace(r, diffusion=lambda a, s, g: r.diffusion(a, s, 0 * g)),
            ),
            Control(
                "σ² for ½σ²",
                lambda r: replace(r, velocity=lambda a, s: 2 * r.velocity(a, s)),
            ),
            Control("the inverse sign", lambda r: replace(r, against=r.velocity)),
        ),
        formula=r"g_{tr}=-\nabla\cdot v-v\cdot s,\quad g_{diff}=\tfrac{\sigma^2}{2}"
        r"(\nabla\cdot s+|s|^2),\quad v=-\tfrac{\sigma^2}{2}s",
        entries=("L7.9", "L7.10", "L7.11"),
    )


def static() -> Claim[Callable[[Composition], MarkovGenerator]]:
    """H7.3 with the dynamics of the package."""

    def make() -> Callable[[Composition], MarkovGenerator]:
        return lambda made: Composed(made, 0.0, Follow(0, factor=0.0)).generator()

    def check(motion: Callable[[Composition], MarkovGenerator], trial: Trial) -> Iterator[Evidence]:
        expert = Spreading(0.5, 2.0).expert(2, "q")
        x = 1.5 * torch.randn(20, 2, generator=trial.rng(), dtype=DOUBLE)
        gen, steps = motion(expert.composition()), 200
        times = torch.linspace(0, 1, steps + 1, dtype=DOUBLE)
        t = times.repeat_interleave(len(x))
        parts = gen(t, {"x": x.repeat(len(times), 1)})
        assert parts.potential is not None
        gain = parts.potential.reshape(len(times), len(x))
        share = torch.ones(len(times), dtype=DOUBLE)
        share[1:-1:2], share[2:-1:2] = 4, 2
        total = (share[:, None] * gain).sum(0) / (3 * steps)
        ends = [expert.log_prob(torch.full((20,), s, dtype=DOUBLE), x) for s in (0.0, 1.0)]
        because = "Simpson's rule, h⁴ at h = 1/200"
        yield near("A_1", total, ends[1] - ends[0], 1e-7, because)
        zero = torch.zeros(len(t), 2, dtype=DOUBLE)
        yield exact("no particle moves", parts.velocity["x"] + 0.0, zero)
        space = gen.space
        still = MarkovGenerator(
            space, lambda t, s: Parts({"x": 0 * s["x"]}), frozenset({"velocity"})
        )
        by_rule = corrected(still, lambda s, y: expert.log_prob(s, y["x"]))
        same = by_rule(t, {"x": x.repeat(len(times), 1)}).potential
        yield equal("∂_t log q", parts.potential, same, operations=4096,
                    scale=1 + float(gain.abs().max()))  # fmt: skip

    def slow(size: float) -> Callable[[Composition], MarkovGenerator]:
        return lambda made: Composed(made, 0.0, Follow(0, factor=size)).generator()

    return Claim(
        "static-particles",
        "Particles that never move, weighted by transport and diffusion, collect log p_1/p_0.",
        make,
        check,
        (
            dial("they move at δ of the velocity", lambda _, d: slow(d), 0.1),
            dial(
                "the weight of a power 1 + δ",
                lambda motion, d: lambda made: motion(made ** (1 + d)),
                0.01,
            ),
        ),
        formula=r"A_1=\int_0^1(g_{flow}+g_{diff})(x)\,dt=\log\tfrac{p_1(x)}{p_0(x)}",
        entries=("H7.3",),
    )


# -- the generic potential -------------------------------------------------------------------------


Correct = Callable[[MarkovGenerator, LogDensity], MarkovGenerator]


@dataclass(frozen=True)
class Formulas:
    """The generic potential in three forms."""

    scalar: Callable[..., Tensor] = potentials.generic_potential
    matrix: Callable[..., Tensor] = potentials.matrix_potential
    adjoint: Correct = corrected


def potential() -> Claim[Formulas]:
    """L7.15 for any drift and noise."""

    def h(s: Tensor, y: Tensor) -> Tensor:
        wide = -0.5 * ((y - s) ** 2).sum() / (1 + s) + s * torch.sin(y[0])
        return torch.exp(wide) + 0.5 * torch.exp(-((y + 1) ** 2).sum() + 0.3 * y[0] * y[1])

    def drift(s: Tensor, y: Tensor) -> Tensor:
        return torch.stack([s * y[1] - torch.sin(y[0]), 0.3 * y[0] * y[1] + s])

    def root(s: Tensor, y: Tensor) -> Tensor:
        first = torch.stack([1 + 0.3 * torch.sin(y[0]), 0.2 * y[1]])
        return torch.stack([first, torch.stack([0.1 * y[0], 0.8 + s])])

    def constant(s: Tensor, y: Tensor) -> Tensor:
        found: Tensor = (0.9 + s) ** 2 * torch.eye(2, dtype=DOUBLE)
        return found

    def covariance(s: Tensor, y: Tensor) -> Tensor:
        return root(s, y) @ root(s, y).T

    def check(formulas: Formulas, trial: Trial) -> Iterator[Evidence]:
        each, log_h = torch.func.vmap, lambda s, y: h(s, y).log()
        t, x = points(trial.rng(), trial.count(20, 8), 2)
        rate = each(torch.func.grad(log_h, argnums=0))(t, x)
        score, bend = each(torch.func.grad(log_h, argnums=1)), torch.func.hessian(log_h, argnums=1)
        slopes, flow = each(bend)(t, x), each(drift)(t, x)
        spread = each(torch.func.jacfwd(drift, argnums=1))(t, x).diagonal(0, 1, 2).sum(1)
        s, trace = score(t, x), slopes.diagonal(0, 1, 2).sum(1)
        true = by_product_rule(h, drift, constant, t, x)
        scale = 1 + float(true.abs().max()) + float(flow.square().max())
        found = formulas.scalar(rate, flow, spread, s, 0.9 + t, trace)
        yield equal("noise σ(t)", found, true, operations=2048, scale=scale)

        def moving(t: Tensor, y: Any) -> Parts:
            return Parts(each(drift)(t, y), MatrixNoise(each(root)(t, y), uniform=False))

        gen = MarkovGenerator(Euclidean(2), moving, frozenset({"velocity", "diffusion"}))
        true = by_product_rule(h, drift, covariance, t, x)
        weight = formulas.adjoint(gen, each(log_h))(t, x).potential
        yield equal("noise a(t, x), by the adjoint", weight, true, operations=8192, scale=scale)
        a = each(covariance)(t, x)
        first = each(torch.func.jacfwd(covariance, argnums=1))(t, x)
        second = each(torch.func.hessian(covariance, argnums=1))(t, x)
        found = formulas.matrix(
            rate, flow, spread, s, a, slopes,
            torch.einsum("bijj->bi", first), torch.einsum("bijij->b", second),
        )  # fmt: skip
        yield equal("noise a(t, x), by the formula", found, true, operations=8192, scale=scale)

    def no_divergence(formulas: Formulas) -> Formulas:
        def matrix(*given: Tensor) -> Tensor:
            right = formulas.matrix(*given[:6], 0.5 * given[6], given[7])
            return right

        return replace(formulas, matrix=matrix)

    def half(formulas: Formulas, size: float) -> Formulas:
        def scalar(rate: Tensor, flow: Tensor, spread: Tensor, s: Tensor, *rest: Any) -> Tensor:
            return formulas.scalar(rate, (1 + size) * flow, spread, s, *rest)

        return replace(formulas, scalar=scalar)

    def slow(formulas: Formulas) -> Formulas:
        def adjoint(gen: MarkovGenerator, log_density: LogDensity) -> MarkovGenerator:
            return formulas.adjoint(gen, lambda t, y: log_density(0.9 * t + 0.05, y))

        return replace(formulas, adjoint=adjoint)

    return Claim(
        "generic-potential",
        "The generic potential is the residual of the density equation of h, for any drift and for "
        "noise that depends on time or on the state.",
        Formulas,
        check,
        (
            dial("μ·s × (1 + δ)", half, 0.01),
            Control("(div a)·s for 2 (div a)·s", no_divergence),
            Control("h at another time", slow),
        ),
        formula=r"g=\partial_t\log h+\nabla\cdot\mu+\mu\cdot s-\tfrac12\big[\partial_{ij}a_{ij}"
        r"+2(\nabla\cdot a)\cdot s+a:(\nabla s+ss^\top)\big]",
        entries=("L7.15",),
        owes="density",
    )


def any_space() -> Claim[Correct]:
    """L8.28, S.15: jumps."""
    count = 5

    def tables(t: Tensor) -> tuple[Tensor, Tensor]:
        """A rate matrix Q(t) and log h(t), of one time."""
        i = torch.arange(count, dtype=DOUBLE)
        rates = 0.6 + torch.sin(1.3 * i[:, None] + 2.1 * i + t) ** 2
        rates = rates - torch.diag(rates.diagonal())
        return rates - torch.diag(rates.sum(1)), torch.cos(i * (1 + t)) + 0.4 * i * t * t

    def gen() -> MarkovGenerator:
        def evaluate(t: Tensor, x: Any) -> Parts:
            rates = torch.func.vmap(lambda s: tables(s)[0])(t)
            return Parts(jumps=RateJumps(rates[torch.arange(len(x)), x].clamp_min(0), x))

        return MarkovGenerator(Letters(count), evaluate, frozenset({"jumps"}))

    def log_h(t: Tensor, x: Any) -> Tensor:
        return torch.func.vmap(lambda s: tables(s)[1])(t)[torch.arange(len(x)), x]

    def check(correct: Correct, trial: Trial) -> Iterator[Evidence]:
        weighted_gen, letters = correct(gen(), log_h), torch.arange(count)

        def slope(t: float, p: Tensor) -> Tensor:
            at = torch.tensor(t, dtype=DOUBLE)
            g = weighted_gen(at.expand(count).contiguous(), letters).potential
            assert g is not None
            return p @ tables(at)[0] + g * p

        p, steps = tables(torch.tensor(0.0, dtype=DOUBLE))[1].exp(), trial.count(100, 30)
        h = 1 / steps
        for n in range(steps):
            t = n * h
            a = slope(t, p)
            b = slope(t + h / 2, p + h / 2 * a)
            c = slope(t + h / 2, p + h / 2 * b)
            p = p + h / 6 * (a + 2 * b + 2 * c + slope(t + h, p + h * c))
        true = tables(torch.tensor(1.0, dtype=DOUBLE))[1].exp()
        because = "Runge–Kutta, h⁴ 10⁵/120 for rates of size 10, on p̃ of size 10"
        yield near("p̃_1 = h_1", p, true, 1e4 * h**4, because)
        f = torch.tensor([0.3, -1.0, 2.0, 0.5, 1.7], dtype=DOUBLE)
        half = torch.full((count,), 0.5, dtype=DOUBLE)
        q, logs = tables(half[0])
        before, after = (
            tables(torch.tensor(0.5 + d, dtype=DOUBLE))[1].exp() @ f for d in (-1e-4, 1e-4)
        )
        g = weighted_gen(half, letters).potential
        assert g is not None
        found = logs.exp() @ (q @ f + g * f)
        because = "the central difference, d² × 7³ e²/6 at d = 1e-4"
        yield near("d/dt ⟨h, f⟩ = ⟨h, Lf + gf⟩", found, (after - before) / 2e-4, 5e-6, because)

    def scaled(correct: Correct, size: float) -> Correct:
        def wrong(gen: MarkovGenerator, log_density: LogDensity) -> MarkovGenerator:
            right = correct(gen, log_density)

            def evaluate(t: Tensor, x: Any) -> Parts:
                parts = right.evaluate(t, x)
                assert parts.potential is not None
                return replace(parts, potential=(1 + size) * parts.potential)

            return replace(right, evaluate=evaluate)

        return wrong

    return Claim(
        "any-space",
        "On letters that jump, the weight ∂_t log h − (L*h)/h carries p̃ = h: the unnormalised "
        "equation reproduces h with its constant.",
        lambda: corrected,
        check,
        (
            dial("g × (1 + δ)", scaled, 0.01),
            Control(
                "h at another time",
                lambda correct: lambda gen, log: correct(gen, lambda t, x: log(0.95 * t, x)),
            ),
        ),
        formula=r"g=\partial_t\log h-\tfrac{L^*h}{h}",
        entries=("L8.28", "S.15"),
    )
