r"""Diffusive paths: the bridge, the laws of one time and of two, and the drift."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.generators import MarkovGenerator
from genpath.paths import Draw
from genpath.schedules import Scalar
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    contracts,
    dial,
    equal,
    exact,
    frequencies,
    mean,
    near,
)

from ..diffusive import Diffusive, DiffusivePath, bridge_generator, brownian_bridge
from .atoms import Atoms, atom_pairs, conversions, equation, score
from .bent import (
    bent,
    cells,
    chances,
    counted,
    drawn,
    features,
    root,
    scaled,
)
from .cases import DOUBLE, LINE, PLANE, affine_moments, normal

__all__ = ["diffusive", "process"]

Claims = tuple[Claim[Any], ...]
LEVEL = Scalar(lambda t: 0.6 + 0.8 * t * t, lambda t: 1.6 * t)
"""a(t) of the claims; a(1) = 1.4."""


def level_at(t: Tensor) -> Tensor:
    """a(t), written again."""
    return 0.6 + 0.8 * t**2


def diffusive() -> Claims:
    """The claims of ``path.interpolants.diffusive``."""
    build = lambda: DiffusivePath(PLANE, None, LEVEL)  # noqa: E731
    return (*contracts.path(build, _pairs, rows=2000), bridge(), two_times(), one_time())


def process() -> Claims:
    """The claims of ``dynamics.interpolants.diffusive``."""
    return (drift(), loss())


def _pairs(count: int, rng: torch.Generator) -> Pairs:
    return Pairs(normal(count, 2, rng=rng), normal(count, 2, rng=rng))


# -- the bridge ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bridge:
    """How a bridge is drawn, and its generator."""

    draw: Any = brownian_bridge
    gen: MarkovGenerator = field(default_factory=lambda: bridge_generator(LINE))


def bridge() -> Claim[Bridge]:
    """Covariances of the bridge, drawn and solved."""

    def check(found: Bridge, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(40_000)
        times = torch.tensor([0.7, 0.2, 0.5, 1.0, 0.0], dtype=DOUBLE)  # in any order
        drawn_ = found.draw(times, torch.empty(count, 1, dtype=DOUBLE), rng)[..., 0].T
        low = torch.minimum(times[:, None], times[None])
        high = torch.maximum(times[:, None], times[None])
        products = drawn_[:, :, None] * drawn_[:, None, :]
        rounding = 1e-12
        yield mean("E B_s B_t", products, low * (1 - high), allowance=rounding,
            because="rounding, where it is 0")  # fmt: skip
        yield near("B_1", drawn_[:, 3], torch.zeros(count, dtype=DOUBLE), 1e-13, "a sum of 6 terms")
        yield exact("B_0", drawn_[:, 4], torch.zeros(count, dtype=DOUBLE))
        means, variances = _moments(found.gen, 1.0, 0.0, 0.2, 0.9)
        yield near("dB: the mean from 1 at t = 0.2", means, 0.1 / 0.8, 1e-8, "RK4, 400 steps")
        told = 0.7 * 0.1 / 0.8
        yield near("dB: the variance from 0 at t = 0.2", variances, told, 1e-8, "RK4, 400 steps")

    def free(found: Bridge) -> Bridge:
        def draw(times: Tensor, like: Tensor, rng: torch.Generator) -> Tensor:
            extra = torch.randn(like.shape, generator=rng, dtype=like.dtype)
            walk: Tensor = found.draw(times, like, rng) + times[:, None, None] * extra
            return walk

        return replace(found, draw=draw)

    def wide(found: Bridge, size: float) -> Bridge:
        def draw(times: Tensor, like: Tensor, rng: torch.Generator) -> Tensor:
            value: Tensor = (1 + size) * found.draw(times, like, rng)
            return value

        return replace(found, draw=draw)

    def weak(found: Bridge) -> Bridge:
        def evaluate(t: Tensor, x: Any) -> Any:
            parts = found.gen.evaluate(t, x)
            return replace(parts, velocity=parts.velocity / 2)

        return replace(found, gen=replace(found.gen, evaluate=evaluate))

    return Claim(
        "bridge",
        "B_t = W_t − tW_1 has the covariance s(1−t) for s ≤ t and ends at 0; dB = −B/(1−t) dt + dW "
        "is its process.",
        Bridge,
        check,
        (
            Control("W in place of B", free),
            dial("B × (1 + δ)", wide, 0.25),
            Control("−B/(2(1−t))", weak),
        ),
        formula=r"\mathbb E[B_s B_t] = s(1-t),\quad dB = -\tfrac{B}{1-t}\,dt + dW",
        entries=("L1.11",),
    )


def _moments(
    gen: MarkovGenerator, mean_: float, variance: float, left: float, right: float
) -> tuple[float, float]:
    """Mean and variance at ``right`` of a linear SDE from ``left``, by RK4 on its own clock."""
    width = right - left
    clock = Scalar(lambda s: left + width * s, lambda s: torch.full_like(s, width))
    ran = gen.time_change(clock)

    def evaluate(t: Tensor, x: Any) -> Any:
        parts = ran.evaluate(t, x)
        noise = parts.diffusion
        assert noise is not None
        sigma = torch.as_tensor(noise.sigma).reshape(-1)[0]  # type: ignore[attr-defined]
        return replace(parts, diffusion=replace(noise, sigma=float(sigma)))  # type: ignore[type-var]

    means, variances = affine_moments(replace(ran, evaluate=evaluate), mean_, variance, 400)
    return float(means[-1]), float(variances[-1])


# -- laws of one time and of two -------------------------------------------------------------------


def two_times() -> Claim[DiffusivePath]:
    """The joint law of two times."""

    def check(path: DiffusivePath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(40_000)
        x0, x1 = normal(count, 1, rng=rng), 0.5 * normal(count, 1, rng=rng)
        times = torch.tensor([0.3, 0.5, 0.8], dtype=DOUBLE)
        x = path.draw_path(times, x0, x1, rng)[..., 0].T
        s = torch.minimum(times[:, None], times[None])
        t = torch.maximum(times[:, None], times[None])
        a = 0.6 + 0.8 * times**2
        of_bridge = 2 * (a[:, None] * a[None]).sqrt() * s * (1 - t)
        of_ends = (1 - s) * (1 - t) + 0.25 * s * t
        told = of_bridge + of_ends
        yield mean("E x_s x_t", x[:, :, None] * x[:, None, :], told)
        twin = path.as_marginal()
        gamma = (2 * a * times * (1 - times)).sqrt()
        shared = gamma[0] * gamma[2] + of_ends[0, 2]
        z = twin.draw(0.3, x0, x1, trial.rng("z"))
        later = twin.draw(0.8, x0, x1, trial.rng("z"))
        yield mean("one z for both times", z.state * later.state, shared.reshape(1))
        because = "2√(aa')s(1−t) < γ(s)γ(t) for s < t"
        shared_noise = gamma[0] * gamma[2]
        yield at_most("the bridge is less correlated", of_bridge[0, 2], shared_noise, because)
        found = (x[:, 0] * x[:, 2]).mean()
        yield at_most("and its draws show it", found + 0.1, shared, because)

    def frozen(path: DiffusivePath) -> DiffusivePath:
        """One z for all times."""

        def draw_path(times: Tensor, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Tensor:
            state = rng.get_state()
            rows = []
            for time in times.tolist():
                rows.append(path.draw(time, x0, x1, rng.set_state(state)).state)
            return torch.stack(rows)

        return but(path, draw_path=draw_path)

    def constant(path: DiffusivePath) -> DiffusivePath:
        return but(path, a=Scalar(lambda t: 0.6 + 0 * t))

    return Claim(
        "two-times",
        "x_t = I + √(2a)B has Cov(x_s, x_t) = 2√(a(s)a(t)) s(1−t) + Cov(I_s, I_t) for s ≤ t; with "
        "one z for all times it would be γ(s)γ(t).",
        lambda: DiffusivePath(LINE, None, LEVEL),
        check,
        (Control("one z for all times", frozen), Control("a(t) = a(0)", constant)),
        formula=r"\mathrm{Cov}(x_s, x_t) = 2\sqrt{a(s)a(t)}\,s(1-t)\,I + \mathrm{Cov}(I_s, I_t)",
        entries=("L4.1",),
        owes="existence",
    )


def one_time() -> Claim[DiffusivePath]:
    """The law of one time is that of the marginal twin."""

    def check(path: DiffusivePath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(40_000)
        left, right, weights = atom_pairs()
        index = torch.multinomial(weights, count, True, generator=rng)
        times = torch.tensor([0.25, 0.6, 0.9], dtype=DOUBLE)
        states = path.draw_path(times, left[index], right[index], rng)
        edges = cells()
        for time, state in zip(times.tolist(), states, strict=True):
            t = torch.full((3,), time, dtype=DOUBLE)
            gamma = math.sqrt(2 * (0.6 + 0.8 * time**2) * time * (1 - time))
            law = chances(edges, bent(t, left, right)[:, 0], gamma, weights)
            yield frequencies(f"along a bridge, t = {time:g}", counted(state, edges), law)
            twin = path.as_marginal().draw(time, left[index], right[index], rng).state
            yield frequencies(f"the twin, t = {time:g}", counted(twin, edges), law)

    def half(path: DiffusivePath) -> DiffusivePath:
        return but(path, a=Scalar(lambda t: LEVEL(t) / 2))

    def other(path: DiffusivePath) -> DiffusivePath:
        return but(path, as_marginal=DiffusivePath(LINE, bent, 0.6).as_marginal)

    return Claim(
        "one-time",
        "At each single time I + √(2a)B has the law of I + γz with γ² = 2a t(1−t).",
        lambda: DiffusivePath(LINE, bent, LEVEL),
        check,
        (Control("a/2 along the bridge", half), Control("a(0) in the twin", other)),
        formula=r"\gamma^2 = 2a\,t(1-t)",
        entries=("L4.2",),
    )


# -- the drift -------------------------------------------------------------------------------------


def drift() -> Claim[tuple[Atoms, ...]]:
    """u carries the law with noise √(2a)."""

    def make() -> tuple[Atoms, ...]:
        fixed = DiffusivePath(LINE, bent, 0.5)
        moving = DiffusivePath(PLANE, bent, LEVEL)
        return (
            Atoms("a = ½", fixed, *atom_pairs(), bent, root(1.0)),
            Atoms(
                "a(t)", moving, *atom_pairs(2), bent,
                lambda t: (2 * (0.6 + 0.8 * t**2) * t * (1 - t)).sqrt(),
            ),
        )  # fmt: skip

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        levels: tuple[Any, ...] = (lambda t: 0.5 + 0 * t, level_at)
        for case, level in zip(found, levels, strict=True):
            count = trial.count(24, 12)
            yield equation(case, trial.rng(), count, "diffusive_drift", level)
            yield equation(case, trial.rng(), count)
            yield score(case, trial.rng(), count)
            t, x = case.points(trial.rng(), count)
            b, s = (case.field(name)(t, x) for name in ("velocity", "score"))
            u = case.field("diffusive_drift")(t, x)
            yield equal(f"{case.words}: u − b − a s", u - b, level(t)[:, None] * s, operations=4096)
            table = (
                (("velocity", "score"), "diffusive_drift"),
                (("interpolant_velocity", "score"), "diffusive_drift"),
                (("interpolant_velocity", "noise"), "diffusive_drift"),
                (("diffusive_drift", "score"), "velocity"),
                (("diffusive_drift", "score"), "interpolant_velocity"),
                (("diffusive_drift+score",), "velocity"),
            )
            yield from conversions(case, trial.rng(), count, table)
            gen = Diffusive().generator(case.path, "velocity+score", case.field("velocity+score"))
            parts = gen(t, x)
            yield equal(f"{case.words}: the process", parts.velocity, u, operations=4096)
            sigma = parts.diffusion.sigma  # type: ignore[union-attr]
            yield equal(f"{case.words}: its noise", sigma, (2 * level(t)).sqrt())

    def without_rate(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        """a'/(2a) dropped."""

        def plant(case: Atoms) -> Atoms:
            right = case.path.target

            def target(name: str, draw: Draw) -> Tensor:
                value: Tensor = right(name, draw)
                if name != "diffusive_drift":
                    return value
                a = case.path.a
                extra = a.rate(draw.t) / (2 * a(draw.t))
                gamma = (2 * a(draw.t) * draw.t * (1 - draw.t)).sqrt()
                less: Tensor = value - (extra * gamma)[:, None] * draw.latent
                return less

            return replace(case, path=but(case.path, target=target))

        return tuple(plant(case) for case in found)

    return Claim(
        "drift",
        "With u = E[∂_t I + (a'/(2a) − 1/(1−t))√(2at(1−t)) z | x] the process dX = u dt + √(2a)dW "
        "has the path's laws, and u = b + a s.",
        make,
        check,
        (
            dial("target of u × (1 + δ)", scaled("diffusive_drift")),
            Control("a'/(2a) dropped", without_rate),
            Control("target of s × 2", lambda found: scaled("score")(found, 1.0)),
        ),
        formula=r"\partial_t\rho + \nabla\cdot(u\rho) = a\,\Delta\rho,\quad u = b + a s",
        entries=("L4.3", "H4.1"),
        owes="density",
    )


def loss() -> Claim[tuple[Atoms, ...]]:
    """The excess of the loss of the drift."""

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        theta = torch.tensor([0.3, -0.7, 0.5], dtype=DOUBLE)
        for time in (0.2, 0.7):
            draw, weights = drawn(case, time, 60)
            target = case.path.target("diffusive_drift", draw)
            x = draw.state
            exact_drift = case.field("diffusive_drift")(draw.t, x)
            guess = (features(x) @ theta)[:, None]

            def risk(g: Tensor, target: Tensor = target, weights: Tensor = weights) -> Tensor:
                """E[½|g|² − target · g], as the objective of this library has it."""
                return (weights[:, None] * (0.5 * g.square() - target * g)).sum()

            excess = risk(guess) - risk(exact_drift)
            grid = torch.linspace(-9, 9, 3001, dtype=DOUBLE)[:, None]
            t = torch.full((len(grid),), time, dtype=DOUBLE)
            gap = (features(grid) @ theta)[:, None] - _bridge_drift(case, t, grid)
            square = case.log_density(t, grid).exp()[:, None] * gap.square()
            whole = torch.trapezoid(square, grid, dim=0)[0]
            because = "Gauss–Hermite with 60 nodes on analytic integrands"
            yield near(f"2 × excess at t = {time:g}", 2 * excess, whole, 1e-6, because)

    return Claim(
        "loss",
        "The excess of E[|û|² − 2û·target] over its least value is E|û − u|²; that of the ½-loss "
        "of this library is half of it.",
        lambda: (Atoms("a = ½", DiffusivePath(LINE, bent, 0.5), *atom_pairs(), bent, root(1.0)),),
        check,
        (
            dial("target × (1 + δ)", scaled("diffusive_drift")),
            Control("∂_t I alone", lambda found: (_straight(found[0]),)),
        ),
        formula=r"\mathbb E\big[|\hat u|^2 - 2\hat u\cdot\dot x\big] - \min "
        r"= \mathbb E|\hat u - u|^2",
        entries=("L4.5",),
        owes="minimiser",
    )


def _straight(case: Atoms) -> Atoms:
    right = case.path.target

    def target(name: str, draw: Draw) -> Tensor:
        value: Tensor = right("interpolant_velocity", draw)
        return value

    return replace(case, path=but(case.path, target=target))


def _bridge_drift(case: Atoms, t: Tensor, x: Tensor) -> Tensor:
    """Σ_k π_k (∂_t I_k − (x − I_k)/(1−t)) for constant a, written out."""
    count, k = len(x), len(case.weights)
    times = t.repeat_interleave(k)[:, None]
    x0, x1 = (y.repeat(count, 1) for y in (case.x0, case.x1))
    gap = x.repeat_interleave(k, 0) - bent(times[:, 0], x0, x1)
    rate = x1 - x0 + (1 - 2 * times) * torch.sin(2 * x0 - x1)
    each = (rate - gap / (1 - times)).reshape(count, k, -1)
    posterior = case.terms(t, x).softmax(1)
    return (posterior[:, :, None] * each).sum(1)
