r"""Diffusive paths: the bridge, the laws of the process, and sampling from one point."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.couplings import Pairs
from genpath.errors import CapabilityError
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.models import ODE, SDE
from genpath.paths import Draw
from genpath.samplers import Euler, integrate
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
    refusal,
)

from ..diffusive import Diffusive, DiffusivePath, bridge_generator, brownian_bridge
from ..point_mass import FromStarts, PointMass, PointMassPath, point, point_mass
from .atoms import Atoms, atom_pairs, conversions, equation, score
from .cases import DOUBLE, LINE, PLANE, affine_moments, normal
from .general import (
    bent,
    cells,
    chances,
    counted,
    drawn,
    features,
    root,
    scaled,
    shifted as shifted_target,
)

__all__ = ["diffusive", "from_point", "process", "start"]

Claims = tuple[Claim[Any], ...]
LEVEL = Scalar(lambda t: 0.6 + 0.8 * t * t, lambda t: 1.6 * t)
"""a(t) of the claims; a(1) = 1.4."""


def _level(t: Tensor) -> Tensor:
    """a(t), written again."""
    return 0.6 + 0.8 * t**2


def diffusive() -> Claims:
    """The claims of ``path.interpolants.diffusive``."""
    build = lambda: DiffusivePath(PLANE, None, LEVEL)  # noqa: E731
    return (*contracts.path(build, _pairs, rows=2000), bridge(), two_times(), one_time())


def process() -> Claims:
    """The claims of ``dynamics.interpolants.diffusive``."""
    return (drift(), loss())


def from_point() -> Claims:
    """The claims of ``path.interpolants.point_mass``."""
    build = lambda: PointMassPath(PLANE, torch.full((2,), 0.4, dtype=DOUBLE), 0.5)  # noqa: E731
    return (*contracts.path(build, _from_point, rows=2000), point_fields(), sampling())


def start() -> Claims:
    """The claims of ``law.interpolants.point``."""
    return (no_flow(),)


def _pairs(count: int, rng: torch.Generator) -> Pairs:
    return Pairs(normal(count, 2, rng=rng), normal(count, 2, rng=rng))


def _from_point(count: int, rng: torch.Generator) -> Pairs:
    return Pairs(torch.full((count, 2), 0.4, dtype=DOUBLE), normal(count, 2, rng=rng))


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
        levels: tuple[Any, ...] = (lambda t: 0.5 + 0 * t, _level)
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
    posterior = case._terms(t, x).softmax(1)
    return (posterior[:, :, None] * each).sum(1)


# -- from one point --------------------------------------------------------------------------------


def _rise(t: Tensor, delta: float = 0.2) -> Tensor:
    """h, written out."""
    u = ((t - delta) / (1 - delta)).clamp(0, 1)
    return 10 * u**3 - 15 * u**4 + 6 * u**5


def _from(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    h = _rise(t.reshape(-1, 1))
    return (1 - h) * x0 + h * x1


def point_fields() -> Claim[tuple[Atoms, ...]]:
    """Fields of the path from a point, on and after the flat start."""

    def make() -> tuple[Atoms, ...]:
        path = PointMassPath(LINE, torch.tensor([0.7], dtype=DOUBLE), LEVEL, 0.2)
        _, x1, weights = atom_pairs()
        gamma = lambda t: (2 * (0.6 + 0.8 * t**2) * t * (1 - t)).sqrt()  # noqa: E731
        return (Atoms("from 0.7", path, 0.7 + 0 * x1, x1, weights, _from, gamma),)

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        count = trial.count(60)
        level = _level
        yield equation(case, trial.rng(), count, "diffusive_drift", level)
        yield score(case, trial.rng(), count)
        yield score(case, trial.rng(), count, "denoiser")
        yield score(case, trial.rng(), count, "noise")
        u, v, d, z, s = (
            "diffusive_drift", "interpolant_velocity", "denoiser", "noise", "score"
        )  # fmt: skip
        table = (
            ((d,), u), ((d,), v), ((d,), z), ((v, s), u), ((v, z), u), ((u, s), v), ((s,), z),
            ((f"{v}+{z}",), u),
        )  # fmt: skip
        yield from conversions(case, trial.rng(), count, table)
        t = torch.linspace(0.02, 0.2, 10, dtype=DOUBLE)
        x = 0.7 + normal(10, 1, rng=trial.rng())
        gamma2 = (2 * level(t) * t * (1 - t))[:, None]
        flat = Normal(0.7, gamma2.sqrt())
        slope = torch.func.grad(lambda y: flat.log_prob(y).sum())(x)
        yield equal("s on the flat start", case.field(s)(t, x), slope, operations=512)
        zero = torch.zeros_like(x)
        yield equal("v on the flat start", case.field(v)(t, x), zero, scale=1.0)
        told = case.field(u)(t, x)
        wrong = torch.full_like(x, 100.0)  # what a network says there is not asked
        gen = Diffusive().generator(case.path, u, lambda t, x: wrong)
        yield equal("u on the flat start", gen(t, x).velocity, told, operations=512)
        at_start = gen(0.0, x).velocity
        yield equal("u at t = 0", at_start, -(x - 0.7), operations=16)
        yield exact("u at the point", gen(0.0, 0 * x + 0.7).velocity, zero)

    def unswitched(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        (case,) = found
        return (replace(case, path=but(case.path, from_start=lambda t, x, value: value)),)

    def turned(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        (case,) = found
        right = case.path.from_start
        flip = but(case.path, from_start=lambda t, x, value: -right(t, x, value))
        return (replace(case, path=flip),)

    def off(found: tuple[Atoms, ...], size: float) -> tuple[Atoms, ...]:
        return (shifted_target(found[0], "denoiser", lambda t, value: value + size),)

    return Claim(
        "point-fields",
        "From a point, E[x1 | x] gives every field; on the flat start x_t ~ N(x*, 2at(1−t)), "
        "s = −(x − x*)/(2at(1−t)) and u = (a'/(2a) − 1/(1−t))(x − x*), −(x − x*) at t = 0.",
        make,
        check,
        (
            Control("the network's u on [0, δ]", unswitched),
            Control("−u on [0, δ]", turned),
            dial("E[x1 | x] + δ", off),
            dial("target of u × (1 + δ)", scaled("diffusive_drift")),
        ),
        formula=r"u = -\frac{x - x_*}{1-t} \text{ on } [0, \delta]",
        entries=("L4.4", "H4.2"),
        owes="density",
    )


WEIGHTS = torch.tensor([0.4, 0.6], dtype=DOUBLE)
CENTRES, WIDTH = torch.tensor([-1.5, 1.2], dtype=DOUBLE), 0.4
"""Data of mean 0.12 and variance 1.9096."""


def _denoiser(t: Tensor, x: Tensor, start_: Tensor) -> Tensor:
    """E[x1 | x] from a point, for the two normal components."""
    h = _rise(t)[:, None]
    noise = (t * (1 - t))[:, None]  # γ² for a = ½
    variance = (h * WIDTH) ** 2 + noise
    means = (1 - h) * start_ + h * CENTRES
    log_terms = -0.5 * (x - means).square() / variance.clamp_min(1e-300)
    posterior = (log_terms + WEIGHTS.log()).softmax(1)
    each = CENTRES + h * WIDTH**2 / variance.clamp_min(1e-300) * (x - means)
    return (posterior * each).sum(1, keepdim=True)


def sampling() -> Claim[Any]:
    """Samples from one point, and given the point."""

    def make() -> Any:
        path = PointMassPath(LINE, torch.tensor([0.7], dtype=DOUBLE), 0.5, 0.2)
        free = PointMassPath(LINE, None, 0.5, 0.2)
        return path, free, Diffusive(), _denoiser

    def check(found: Any, trial: Trial) -> Iterator[Evidence]:
        path, free, dynamics, mean_of = found
        count, steps = trial.count(5000, 2500), trial.count(80, 50)
        gen = dynamics.generator(
            path, "denoiser", lambda t, x: mean_of(t, x, torch.full_like(x, 0.7))
        )
        grid = TimeGrid.uniform(steps).through(path.breakpoints)
        at = PointMass(torch.tensor([0.7], dtype=DOUBLE)).sample(count, trial.rng())
        end = integrate(Euler(), gen, at, grid, trial.rng()).state
        yield mean("X_1", end, torch.tensor([0.12]), allowance=3 / steps, because="3h of Euler")
        square = (end - 0.12).square()
        because = "5h of Euler"
        yield mean("Var X_1", square, torch.tensor([1.9096]), allowance=5 / steps, because=because)
        left = (end < -0.15).double()
        inner = Normal(CENTRES, WIDTH).cdf(torch.tensor(-0.15, dtype=DOUBLE))
        yield mean("P(X_1 < −0.15)", left, (WEIGHTS * inner).sum().reshape(1),
            allowance=2 / steps, because="2h of Euler")  # fmt: skip
        # each row from a start of its own: x1 = x* + the mixture, so X_1 − x* has its law
        starts = normal(count, 1, rng=trial.rng("starts"))

        def denoiser(t: Tensor, state: Any) -> dict[str, Tensor]:
            fact = state["start"]
            moved = mean_of(t, state["x"] - fact, torch.zeros_like(fact))
            return {"x": fact + moved}

        gen = dynamics.generator(free, "denoiser", denoiser)
        state = {"x": starts, "start": starts}
        end = integrate(Euler(), gen, state, grid, trial.rng("free")).state["x"]
        yield mean("X_1 − x* given x*", (end - starts) * torch.cat([torch.ones_like(starts),
            starts], 1), torch.tensor([0.12, 0.0]), allowance=3 / steps,
            because="3h of Euler")  # fmt: skip
        square = (end - starts - 0.12).square()
        yield mean("Var(X_1 | x*)", square, torch.tensor([1.9096]), allowance=5 / steps,
            because=because)  # fmt: skip

    def noisy(found: Any) -> Any:
        path, free, dynamics, mean_of = found

        def generator(path: Any, prediction: str, field: Any) -> MarkovGenerator:
            gen: MarkovGenerator = dynamics.generator(path, prediction, field)

            def evaluate(t: Tensor, x: Any) -> Any:
                parts = gen.evaluate(t, x)
                noise: Any = parts.diffusion
                return replace(parts, diffusion=noise.scaled(1.25))

            return replace(gen, evaluate=evaluate)

        return path, free, but(dynamics, generator=generator), mean_of

    def stretched(found: Any, size: float) -> Any:
        path, free, dynamics, mean_of = found
        return path, free, dynamics, lambda t, x, start_: (1 + size) * mean_of(t, x, start_)

    def short(found: Any) -> Any:
        return tuple(
            PointMassPath(LINE, path.point, 0.5, 0.4) for path in found[:2]
        ) + found[2:]  # fmt: skip

    return Claim(
        "sampling",
        "dX = u dt + √(2a)dW from one point has the law of the data at t = 1, and from a start of "
        "its own for each row the law of the data given that start.",
        make,
        check,
        (
            Control("noise × 1.25", noisy),
            Control("E[x1 | x] × 1.25", lambda found: stretched(found, 0.25)),
            Control("another δ in the path", short),
        ),
        formula=r"X_0 = x_*,\quad dX = u\,dt + \sqrt{2a}\,dW \Rightarrow X_1 \sim \rho_1",
        entries=("L4.4",),
    )


def _still(t: Tensor, x: Any) -> Any:
    return 0 * x


def _waves(t: Tensor, x: Any) -> Any:
    return torch.sin(3 * x) - t[:, None]


def no_flow() -> Claim[Any]:
    """No flow from a point."""

    def check(found: Any, trial: Trial) -> Iterator[Evidence]:
        path = found(LINE, 0.5, 0.2, (0.7,))
        law = point(path)
        drawn_ = law.sample(5, trial.rng())
        yield equal("the point", drawn_, torch.full((5, 1), 0.7))
        for dynamics in (ODE(), SDE(0.5)):
            name = type(dynamics).__name__
            ask = partial(dynamics.generator, path, "denoiser", _still)
            words = "no rule leads to 'velocity'"
            yield refusal(f"{name} from a point", ask, CapabilityError, words)
        yield refusal(
            "a point for another path", lambda: point(DiffusivePath(LINE)), CapabilityError,
            "only a process with noise leaves a point",
        )  # fmt: skip
        yield exact("no velocity is offered", "velocity" in path.predictions, False)
        # a flow is a map: copies of one point stay one point; the process spreads them
        start_ = law.sample(200, trial.rng()).double()
        bound = ODE().generator(DiffusivePath(LINE, None, 0.5), "velocity", _waves)
        end = integrate(Euler(), bound, start_, TimeGrid.uniform(50), trial.rng()).state
        yield equal("the spread of a flow", end, end[:1].expand(200, 1), operations=0)
        gen = Diffusive().generator(path, "denoiser", _still)
        ran = integrate(Euler(), gen, start_, TimeGrid.uniform(50, 0.0, 0.2), trial.rng()).state
        because = "four standard errors below 2at(1−t) = 0.16 of 200 draws"
        yield at_most("the spread of the process", 0.16 * (1 - 4 * 0.1), ran.var(), because)
        both = FromStarts(law).sample(3, trial.rng())
        yield exact("starts hold themselves", torch.equal(both["x"], both["start"]))

    def with_velocity(build: Any) -> Any:
        from genpath.predictions import Rule

        def wrong(*args: Any) -> Any:
            path = build(*args)
            rule = Rule("velocity", ("denoiser",), lambda t, x, d: d - x)
            return but(path, rules=(*path.rules, rule))

        return wrong

    def moved(build: Any) -> Any:
        return lambda space, a, delta, value: build(space, a, delta, (value[0] + 0.1,))

    def quiet(build: Any) -> Any:
        return lambda space, a, delta, value: build(space, a / 2, delta, value)

    return Claim(
        "no-flow",
        "A flow leaves a point as a point, so the ODE, and every SDE that needs its velocity, is "
        "refused for a path from a point; the diffusive process spreads it.",
        lambda: point_mass,
        check,
        (
            Control("a rule to a velocity", with_velocity),
            Control("another point", moved),
            Control("a/2", quiet),
        ),
        entries=("H4.2",),
    )
