r"""Diagnostics: they vanish for exact fields, and see small faults of them.

Residuals of the exact fields of mixtures, and geometries with closed forms: maps between normal
laws, rotations, points of a circle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.divergences import exact_divergence
from genpath.generators import flow
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.samplers import RungeKutta, integrate
from genpath.spaces import Euclidean
from genpath.tableaus import RK4
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    dial,
    equal,
    exact,
    mean,
    near,
)
from genpath.testing.evidence import z_bound

from .. import diagnostics as measures, geometry
from ..diagnostics import Residuals
from ..features import Bumps, Features, Joined, Waves, random_features
from ..geometry import Estimate
from ..mixtures import GaussianMixture, MixtureMarginal
from ..presets import linear
from .cases import (
    DOUBLE,
    LINE,
    PLANE,
    Case,
    Cases,
    cases,
    each,
    interior,
    line_mixture,
    log_density,
    normal,
    scaled_field,
    score_at,
    seeded,
)

__all__ = ["diagnostics", "geometries"]


def diagnostics() -> tuple[Claim[Any], ...]:
    """The claims of ``interpolants.diagnostics``."""
    return (functions(), weak(), waves(), conditional(), points(), report())


def geometries() -> tuple[Claim[Any], ...]:
    """The claims of ``interpolants.geometry``."""
    return (gauge(), particles(), rotation(), action(), bends(), crossings(), copies())


def vanishing(what: str, found: Residuals) -> Evidence:
    """All means are 0, each within a bound on the largest of them."""
    worst = int(found.z.abs().nan_to_num(nan=math.inf).argmax())
    at, error = float(found.means.reshape(-1)[worst]), float(found.errors.reshape(-1)[worst])
    bound = z_bound(found.means.numel())
    words = f"{bound:.2f} standard errors"
    return Evidence(what, at, 0.0, bound * error, words, found.count, at / error, bound)


def estimated(what: str, found: Estimate, reference: float, count: int) -> Evidence:
    """A Monte-Carlo estimate."""
    bound = z_bound(1)
    tolerance = bound * found.error + 1e-12
    words = f"{bound:.2f} standard errors"
    return Evidence(what, found.value, reference, tolerance, words, count, None, bound)


def drawn(case: Case, count: int, rng: torch.Generator) -> Pairs:
    """Independent pairs with a normal base."""
    return Pairs(normal(count, *case.law.means.shape[1:], rng=rng), case.law.sample(count, rng))


# -- residuals -------------------------------------------------------------------------------------


def functions() -> Claim[Features]:
    """∇φ·v and Δφ against automatic differentiation."""

    def make() -> Features:
        rng = seeded(3)
        waves, bumps = Waves(normal(3, 2, rng=rng)), Bumps(normal(3, 2, rng=rng), 0.8)
        return Joined((waves, bumps))

    def check(found: Features, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        x, v = normal(2, 20, 2, rng=rng)
        slope = torch.func.jvp(found.value, (x,), (v,))[1]
        yield equal("∇φ·v", found.along(x, v), slope)
        basis = torch.eye(2, dtype=DOUBLE)
        second = sum(
            torch.func.jvp(lambda y, e=e: found.along(y, e.expand_as(y)), (x,), (e.expand_as(x),))[
                1
            ]
            for e in basis
        )
        yield equal("Δφ", found.laplacian(x), second, scale=10)

    return Claim(
        "test-functions",
        "Waves and bumps come with their derivative along a vector and their Laplacian.",
        make,
        check,
        (
            dial("∇φ × (1 + δ)", lambda f, d: but(f, along=lambda x, v: (1 + d) * f.along(x, v))),
            Control("−Δφ", lambda f: but(f, laplacian=lambda x: -f.laplacian(x))),
        ),
        formula=r"\nabla\varphi\cdot v,\quad \Delta\varphi",
    )


def drift_of(case: Case, eps: float) -> Any:
    """b + ε s."""

    def drift(t: Tensor, x: Any) -> Tensor:
        return case.marginal.velocity(t, x) + eps * case.marginal.score(t, x)

    return drift


def weak() -> Claim[Cases]:
    """Weak residuals of b, b_F and b_B."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(30_000, 12_000)
        for case in found:
            rng = trial.rng(case.words)
            pairs = drawn(case, count, rng)
            chosen = random_features(pairs.x1, 3, rng)  # type: ignore[arg-type]
            for start, end, eps in ((0.05, 0.4, 0.0), (0.4, 0.9, 0.0), (0.2, 0.8, 0.5),
                                    (0.2, 0.8, -0.5)):  # fmt: skip
                result = measures.weak_residual(
                    case.path, drift_of(case, eps), pairs, chosen, rng,
                    start=start, end=end, eps=eps,
                )  # fmt: skip
                yield vanishing(f"{case.words}, ε = {eps:g}, {start:g} to {end:g}", result)

    return Claim(
        "weak-residual",
        "The weak residual of the exact velocity, and of b ± εs with ± ε, is 0 for waves and "
        "bumps; that of 1.1 b is not.",
        cases("none", "sqrt"),
        check,
        (
            dial("b × (1 + δ)", scaled_field("velocity"), 0.1),
            dial("s × (1 + δ)", scaled_field("score"), 0.5),
        ),
        formula=r"\mathbb E\,\varphi(x_b) - \mathbb E\,\varphi(x_a) = \int_a^b "
        r"\mathbb E[\nabla\varphi\cdot b_F + \varepsilon\Delta\varphi]\,dt",
        entries=("L1.1",),
        owes="density",
    )


def wide(size: int = 24) -> Callable[[], Cases]:
    """Two components in many dimensions."""

    def make() -> Cases:
        rng = seeded(5)
        law = GaussianMixture(
            torch.tensor([0.4, 0.6], dtype=DOUBLE),
            0.8 * normal(2, size, rng=rng),
            torch.tensor([0.5, 0.8], dtype=DOUBLE),
        )
        found = []
        for gamma in ("none", "sqrt"):
            path = linear(Euclidean(size), gamma, 1.3, "gaussian")
            found.append(Case(path, MixtureMarginal(path, law)))
        return tuple(found)

    return make


def waves() -> Claim[Cases]:
    """The characteristic function's equation in 24 dimensions."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(20_000, 10_000)
        for case in found:
            rng = trial.rng(case.words)
            pairs = drawn(case, count, rng)
            size = case.law.means.shape[1]
            k = normal(6, size, rng=rng) / size**0.5
            for time in (0.3, 0.7):
                result = measures.characteristic_residual(
                    case.path, case.marginal.field("velocity"), pairs, k, time, rng
                )
                yield vanishing(f"{case.words}, t = {time:g}", result)

    return Claim(
        "characteristic-residual",
        "The equation of the characteristic function holds for the exact velocity in 24 "
        "dimensions, without a density.",
        wide(),
        check,
        (
            dial("b × (1 + δ)", scaled_field("velocity"), 0.5),
            Control("−b", lambda found: scaled_field("velocity")(found, -2.0)),
        ),
        formula=r"\mathbb E\big[ik\cdot(\dot x_t - b(t,x_t))\,e^{ik\cdot x_t}\big] = 0",
        entries=("L2.4",),
    )


def conditional() -> Claim[Cases]:
    """Orthogonality of every conditional mean."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(30_000, 15_000)
        for case in found:
            rng = trial.rng(case.words)
            pairs = drawn(case, count, rng)
            draw = case.path.draw(0.45, pairs.x0, pairs.x1, rng)  # type: ignore[arg-type]
            chosen = random_features(draw.state, 3, rng).value(draw.state)
            for name in ("denoiser", "base_denoiser", "noise", "velocity"):
                if name in case.path.predictions:
                    value = case.marginal.field(name)(draw.t, draw.state)
                    target = case.path.target(name, draw)
                    result = measures.orthogonality(value, target, chosen)
                    yield vanishing(f"{case.words}, {name}", result)

    return Claim(
        "orthogonality",
        "The error of an exact conditional mean is orthogonal to functions of the state, and "
        "that of a perturbed one is not.",
        cases("none", "sqrt"),
        check,
        tuple(
            dial(f"the {name} × (1 + δ)", scaled_field(name), 0.2)
            for name in ("denoiser", "base_denoiser", "noise", "velocity")
        ),
        formula=r"\mathbb E\big[\varphi(x_t)\,(g(x_t) - Y)\big] = 0",
        entries=("L1.2",),
    )


def points() -> Claim[Cases]:
    """Continuity and Fokker–Planck residuals at points."""

    def bending(t: Tensor, x: Tensor) -> Tensor:
        """A(t, x): symmetric, not constant."""
        a, c = 1 + 0.5 * torch.sin(x[:, 0]), 1.5 + 0.4 * torch.cos(x[:, 1])
        b = 0.3 * torch.sin(x[:, 0] - x[:, 1]) * t
        return torch.stack([torch.stack([a, b], 1), torch.stack([b, c], 1)], 1)

    def div_bending(t: Tensor, x: Tensor) -> Tensor:
        """(div A)_i, by hand."""
        wave = 0.3 * torch.cos(x[:, 0] - x[:, 1]) * t
        return torch.stack([0.5 * torch.cos(x[:, 0]) - wave, wave - 0.4 * torch.sin(x[:, 1])], 1)

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in found[: trial.count(2, 1)]:
            t, x = interior(trial.rng(case.words), 30, 2)
            log = partial(log_density, case)
            b, s = case.marginal.field("velocity"), case.marginal.field("score")
            size = float(b(t, x).abs().max()) * 50
            zero = torch.zeros(30, dtype=DOUBLE)
            close = partial(equal, operations=4096, scale=size)
            yield close(
                f"{case.words}: continuity", measures.continuity_residual(log, b, t, x), zero
            )
            for direction, sign in (("forward", 1.0), ("backward", -1.0)):

                def scalar(t: Tensor, x: Any, sign: float = sign, b: Any = b, s: Any = s) -> Any:
                    return b(t, x) + sign * 0.7 * s(t, x)

                def matrix(t: Tensor, x: Any, sign: float = sign, b: Any = b, s: Any = s) -> Any:
                    spread = (bending(t, x) @ s(t, x)[:, :, None])[:, :, 0]
                    return b(t, x) + sign * 0.5 * (spread + div_bending(t, x))

                way: Any = direction
                residual = partial(measures.fokker_planck_residual, log, direction=way)
                words = f"{case.words}, {direction}"
                yield close(f"{words}: ε", residual(scalar, 0.7, t, x), zero)
                yield close(f"{words}: A(t, x)", residual(matrix, bending, t, x), zero)
            yield at_most(
                f"{case.words}: v in place of b is seen",
                1e-2 if case.path.latent else 0.0,
                measures.continuity_residual(
                    log, case.marginal.field("interpolant_velocity"), t, x
                ).abs().max(),
                "b − v = −γγ̇ s",
            )  # fmt: skip

    return Claim(
        "point-residuals",
        "The continuity residual of the exact velocity is 0 at points, and so are the forward and "
        "backward Fokker–Planck residuals of b ± ½(A s + div A), A a number or a field of "
        "matrices.",
        cases("sqrt", "none"),
        check,
        (
            dial("b × (1 + δ)", scaled_field("velocity"), 0.1),
            dial("s × (1 + δ)", scaled_field("score"), 0.1),
            Control("v in place of b", each(_interpolant_velocity)),
        ),
        formula=r"\partial_t\log\rho + \nabla\cdot b + b\cdot s = 0",
        entries=("L1.8", "L2.14"),
    )


def _interpolant_velocity(case: Case) -> Case:
    other = case.marginal.field("interpolant_velocity")
    return replace(case, marginal=but(case.marginal, velocity=other))


def report() -> Claim[Cases]:
    """Only the bins in which a field is wrong are reported."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        rng, count = trial.rng(), trial.count(20_000, 10_000)
        pairs, b = drawn(case, count, rng), case.marginal.field("velocity")
        edges = (0.1, 0.3, 0.5, 0.7, 0.9)
        wrong = torch.tensor([False, False, True, False])

        def late(t: Tensor, x: Any) -> Any:
            inside = ((t > 0.5) & (t < 0.7)).to(t)
            return b(t, x) + 0.3 * inside[:, None]

        result = measures.marginal_report(case.path, late, pairs, rng, edges=edges)
        kept = Residuals(result.residuals.means[~wrong], result.residuals.errors[~wrong], count)
        yield vanishing("bins where it is exact", kept)
        yield at_most("|z| where b + 0.3", z_bound(12), result.worst[2], "0.3 shifts every mean")
        speed = measures.weak_residual(
            case.path, late, pairs, Waves(torch.full((1, 2), 1e-3, dtype=DOUBLE)), rng,
            start=0.5, end=0.7,
        )  # fmt: skip
        # sin(k·x)/|k| ≈ the mean: it should move by −0.3·2·0.2 k
        yield mean_of("unaccounted motion", speed, 1, -0.3 * 2 * 0.2 * 1e-3, count)

    return Claim(
        "marginal-report",
        "The report names the bin of time in which a drift leaves the path, and no other.",
        cases("sqrt"),
        check,
        (
            dial("b × (1 + δ)", scaled_field("velocity"), 0.5),
            Control("0.7 b", lambda found: scaled_field("velocity")(found, -0.3)),
        ),
        entries=("L1.1",),
    )


def mean_of(what: str, found: Residuals, index: int, reference: float, count: int) -> Evidence:
    """One entry of residuals."""
    value = Estimate(float(found.means[index]), float(found.errors[index]))
    return estimated(what, value, reference, count)


# -- the gauge -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gauge:
    """The function that adds a gauge."""

    add: Callable[..., Any] = geometry.add_gauge


SPREAD = torch.tensor([1.0, 0.36], dtype=DOUBLE)


def oval(t: Tensor, x: Tensor) -> Tensor:
    """log N(0, diag(1, 0.36)), without its constant."""
    return -0.5 * (x.square() / SPREAD).sum(1) - math.log(2 * math.pi * 0.6)


def hill(t: Tensor, x: Tensor) -> Tensor:
    """ψ: a bump of radius 2, three times differentiable at its edge."""
    inside = (1 - x.square().sum(1) / 4).clamp_min(0)
    return 0.1 * inside**4


def still(t: Tensor, x: Any) -> Tensor:
    """The field 0."""
    return torch.zeros_like(x)


GAUGE_FAULTS: tuple[Control[Gauge], ...] = (
    dial(
        "J/ρ^(1+δ)",
        lambda found, d: Gauge(
            lambda u, psi, log: found.add(u, psi, lambda t, x: (1 + d) * log(t, x))
        ),
        0.5,
    ),
    Control(
        "J = (∂₂ψ, ∂₁ψ)",
        lambda found: Gauge(lambda u, psi, log: _reflected(u, found.add(still, psi, log))),
    ),
)


def _reflected(velocity: Any, added: Any) -> Any:
    """The second component of what was added with the other sign."""

    def wrong(t: Tensor, x: Any) -> Any:
        turn = torch.ones(x.shape[1], dtype=x.dtype)
        turn[1] = -1
        return velocity(t, x) + turn * added(t, x)

    return wrong


def gauge() -> Claim[Gauge]:
    """The continuity residual with a gauge, in the plane and in space; none on the line."""

    def check(found: Gauge, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        zero, x = torch.zeros(40, dtype=DOUBLE), 1.2 * normal(40, 2, rng=rng)
        half = torch.full((40,), 0.5, dtype=DOUBLE)
        turned = found.add(still, hill, oval)
        size = float(turned(half, x).abs().max()) * 20
        residual = measures.continuity_residual(oval_in_time, turned, half, x)
        yield equal("at rest, plane", residual, zero, operations=4096, scale=size)
        case = cases("sqrt")()[0]
        b, log = case.marginal.field("velocity"), partial(log_density, case)

        def late(t: Tensor, y: Tensor) -> Tensor:
            return t * log(t, y).exp() * torch.sin(y[:, 0] - y[:, 1])

        moving = found.add(b, late, log)
        t, y = interior(rng, 40, 2)
        size = float(moving(t, y).abs().max()) * 100
        residual = measures.continuity_residual(log, moving, t, y)
        yield equal("a mixture, plane", residual, zero, operations=4096, scale=size)
        gap = (moving(t, y) - b(t, y)).abs().max()
        yield at_most("and the field is another one", 0.3, gap, "ψ of order ρ")

        def ball(t: Tensor, z: Tensor) -> Tensor:
            return -0.5 * z.square().sum(1) + 0 * t

        def twist(t: Tensor, z: Tensor) -> Tensor:
            value = torch.sin(z[:, :, None] + 2 * z[:, None, :])
            return ball(t, z).exp()[:, None, None] * value

        z = normal(40, 4, rng=rng)
        spun = found.add(still, twist, ball)
        size = float(spun(half, z).abs().max()) * 20
        residual = measures.continuity_residual(ball, spun, half, z)
        yield equal("at rest, four dimensions", residual, zero, operations=4096, scale=size)

        def line(t: Tensor, w: Tensor) -> Tensor:
            return -0.5 * w[:, 0] ** 2 + 0 * t

        w = torch.linspace(-1.5, 1.5, 40, dtype=DOUBLE)[:, None]

        def pushed(t: Tensor, w: Any) -> Tensor:
            value: Tensor = torch.exp(-w.square()) / line(t, w).exp()[:, None]
            return value

        broken = measures.continuity_residual(line, pushed, half, w)
        slope = -2 * w[:, 0] * torch.exp(-(w[:, 0] ** 2)) / line(half, w).exp()
        yield equal("on the line, J'/ρ", broken, slope)

    return Claim(
        "gauge",
        "Adding J/ρ with J = div Ψ, Ψ antisymmetric, changes the velocity and not the continuity "
        "equation; on the line J/ρ breaks it by J'/ρ.",
        Gauge,
        check,
        GAUGE_FAULTS,
        formula=r"\tilde b = b + J/\rho,\quad \nabla\cdot J = 0",
        entries=("H1.5", "L2.18"),
    )


def oval_in_time(t: Tensor, x: Tensor) -> Tensor:
    """`oval` as a function of time too."""
    return oval(t, x) + 0 * t


def particles() -> Claim[Gauge]:
    """A gauge of a stationary normal law moves points, and not the law."""

    def check(found: Gauge, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(3_000, 2_000)
        start = normal(count, 2, rng=rng) * SPREAD.sqrt()
        turned = found.add(still, lambda t, x: HEIGHT * hill(t, x), oval)

        def tracked(t: Tensor, y: Any) -> Tensor:
            value, divergence = exact_divergence(PLANE, turned, t, y[:, :2])
            return torch.cat([value, divergence[:, None]], 1)

        grid, few = TimeGrid.uniform(16), 300
        x = integrate(RungeKutta(RK4), flow(PLANE, turned), start, grid, rng).state
        if not trial.fast:
            zero = torch.zeros(few, dtype=DOUBLE)
            begin = torch.cat([start[:few], zero[:, None]], 1)
            end = integrate(RungeKutta(RK4), flow(Euclidean(3), tracked), begin, grid, rng).state
            gap = oval(zero, end[:, :2]) + end[:, 2] - oval(zero, start[:few])
            words, because = "log ρ(X₁) + ∫div b̃ − log ρ(X₀)", "800 h⁴ of RK4, h = 1/16"
            yield near(words, gap, 0.0, 0.0125, because)
        gone = (x - start).norm(dim=1)
        yield mean("displacement", gone, 1.2, allowance=0.01, because="1.21 in three digits")
        second = torch.stack([x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1]], 1)
        expected = torch.tensor([1.0, 0.36, 0.0], dtype=DOUBLE)
        yield mean("first moments", x, 0.0)
        yield mean("second moments", second, expected)
        fourth = torch.tensor([3.0, 3 * 0.36**2], dtype=DOUBLE)
        yield mean("fourth moments", x**4, fourth)

    return Claim(
        "gauge-particles",
        "A gauge of a normal law at rest moves its points by 1.2 on average, with moments "
        "and likelihood unchanged.",
        Gauge,
        check,
        GAUGE_FAULTS,
        formula=r"\log\rho(X_1) = \log\rho(X_0) - \int_0^1 \nabla\cdot\tilde b\,dt",
        entries=("H1.5", "L2.18"),
    )


HEIGHT = 6.0
"""Of ψ over `hill`, so that points move by 1.2 on average in unit time."""


# -- rotation, energy, bend ------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """The rotation by θ, with straight paths from x to R x; and what measures it."""

    angle: float = math.pi / 3
    curl: Callable[..., Tensor] = geometry.curl_norm
    gap: Callable[..., float] = geometry.cyclical_gap

    def matrix(self) -> Tensor:
        """R."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return torch.tensor([[c, -s], [s, c]], dtype=DOUBLE)

    def velocity(self, t: Tensor, y: Any) -> Tensor:
        """(R − I) M_t⁻¹ y, M_t = (1 − t) I + t R."""
        eye, turn = torch.eye(2, dtype=DOUBLE), self.matrix()
        maps = (1 - t)[:, None, None] * eye + t[:, None, None] * turn
        found: Tensor = torch.linalg.solve(maps, y[:, :, None])[:, :, 0] @ (turn - eye).T
        return found


def rotation() -> Claim[Turn]:
    """Straight, not optimal: curl, and a better pairing."""

    def check(found: Turn, trial: Trial) -> Iterator[Evidence]:
        rng, theta = trial.rng(), found.angle
        t, y = interior(rng, 30, 2)
        shrink = 1 - 2 * t * (1 - t) * (1 - math.cos(theta))
        curl = found.curl(found.velocity, t, y)
        yield equal("‖½(∇b − ∇bᵀ)‖ of a rotation", curl, 2**0.5 * math.sin(theta) / shrink)
        case = cases("sqrt")()[0]
        score = found.curl(case.marginal.field("score"), t, y)
        yield equal("of a score", score, torch.zeros(30, dtype=DOUBLE), scale=1e3)
        corner = 2 * math.pi * torch.arange(24, dtype=DOUBLE) / 24
        x = torch.stack([corner.cos(), corner.sin()], 1)
        turned = x @ found.matrix().T
        gap = found.gap(x, turned)
        yield equal("gap of the rotated 24-gon", gap, 1 - math.cos(theta))
        yield equal("its least monotone ratio", geometry.least_monotone(x, turned), math.cos(theta))
        points = normal(200, 2, rng=rng)
        slope = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=DOUBLE)
        convex = points @ slope + torch.tanh(points)  # the gradient of a convex function
        yield equal("gap of a gradient of a convex function", found.gap(points, convex), 0.0)
        plane = points @ torch.tensor([[1.0, 0.0], [0.0, -0.5]], dtype=DOUBLE)
        yield at_most("of a saddle", 0.1, found.gap(points, plane), "it is not convex")

    def scaled(found: Turn, size: float) -> Turn:
        return replace(
            found,
            curl=lambda *given: (1 + size) * geometry.curl_norm(*given),
            gap=lambda x, y: (1 + size) * geometry.cyclical_gap(x, y),
        )

    def two_cycles(found: Turn) -> Turn:
        def gap(x: Tensor, y: Tensor) -> float:
            return max(0.0, -geometry.least_monotone(x, y))

        return replace(found, gap=gap)

    return Claim(
        "rotation",
        "A rotation by 60° has straight paths, and a velocity with rotation sin θ/|M_t|²; its "
        "pairs are monotone, but not cyclically, as those of a gradient of a convex function are.",
        Turn,
        check,
        (
            dial("curl and gap × (1 + δ)", scaled, 0.5),
            Control("pairs in place of permutations", two_cycles),
        ),
        formula=r"b_t = (R - I)M_t^{-1}y,\quad \sum_i x_i\cdot(y_i - y_{\sigma(i)}) \ge 0",
        entries=("L6.9",),
        requires=("scipy",),
    )


@dataclass(frozen=True)
class Energy:
    """The functions that measure energy and bend."""

    action: Callable[..., Estimate] = geometry.kinetic_action
    shape: Callable[..., geometry.Geometry] = geometry.flow_geometry
    ends: tuple[Tensor, Tensor] = field(
        default_factory=lambda: (
            torch.tensor([[1.0, 0.4], [0.4, 0.8]], dtype=DOUBLE),
            torch.tensor([[0.5, -0.3], [-0.3, 1.4]], dtype=DOUBLE),
        )
    )


def root(matrix: Tensor) -> Tensor:
    """The symmetric square root."""
    values, vectors = torch.linalg.eigh(matrix)
    found: Tensor = vectors @ torch.diag(values.sqrt()) @ vectors.T
    return found


def action() -> Claim[Energy]:
    """Displacement interpolation of normal laws has the energy W₂², and other paths have more."""

    def check(found: Energy, trial: Trial) -> Iterator[Evidence]:
        first, last = found.ends
        shift = torch.tensor([0.7, -0.2], dtype=DOUBLE)
        half = root(first)
        inner = root(half @ last @ half)
        bures = float(shift.square().sum() + torch.trace(first + last - 2 * inner))
        optimal = torch.linalg.solve(
            half, torch.linalg.solve(half, inner).T
        )  # S₀^{-½} (…)^½ S₀^{-½}
        rng, count = trial.rng(), trial.count(40_000, 20_000)
        x0 = normal(count, 2, rng=rng) @ half
        t = torch.rand(count, generator=rng, dtype=DOUBLE)
        path, eye = linear(PLANE), torch.eye(2, dtype=DOUBLE)

        def along(t: Tensor, y: Any) -> Tensor:
            maps = eye + t[:, None, None] * (optimal - eye)
            source = torch.linalg.solve(maps, (y - t[:, None] * shift)[:, :, None])[:, :, 0]
            moved: Tensor = source @ (optimal - eye).T + shift
            return moved

        def independent(t: Tensor, y: Any) -> Tensor:
            s = t[:, None, None]
            spread, cross = (1 - s) ** 2 * first + s**2 * last, s * last - (1 - s) * first
            gap = (y - t[:, None] * shift)[:, :, None]
            moved: Tensor = (cross @ torch.linalg.solve(spread, gap))[:, :, 0] + shift
            return moved

        best = found.action(path, along, Pairs(x0, x0 @ optimal.T + shift), t, rng)
        yield estimated("displacement interpolation", best, bures, count)
        x1 = normal(count, 2, rng=rng) @ root(last) + shift
        more = found.action(path, independent, Pairs(x0, x1), t, rng)
        # ∫ E|b|² dt of the independent coupling: Σ over the times of a Gauss rule
        nodes = torch.linspace(0.0005, 0.9995, 1000, dtype=DOUBLE)
        s = nodes[:, None, None]
        spread, cross = (1 - s) ** 2 * first + s**2 * last, s * last - (1 - s) * first
        gain = cross @ torch.linalg.solve(spread, cross)
        level = float(gain.diagonal(dim1=1, dim2=2).sum(1).mean() + shift.square().sum())
        yield estimated("independent coupling", more, level, count)
        yield at_most("W₂² is least", bures + 0.1, level, "the two differ")
        shape = found.shape(along, x0[:200])
        yield near(
            "the flow is the optimal map", shape.displacement, x0[:200] @ (optimal - eye).T + shift,
            1e-6, "RK4 with 64 steps",
        )  # fmt: skip
        yield near("and straight", shape.straightness, 0.0, 1e-9, "RK4 with 64 steps")

    def scaled(found: Energy, size: float) -> Energy:
        def wrong(*given: Any) -> Estimate:
            result = geometry.kinetic_action(*given)
            return Estimate((1 + size) * result.value, result.error)

        return replace(found, action=wrong)

    return Claim(
        "kinetic-action",
        "Displacement interpolation between normal laws has the kinetic action W₂², by the "
        "formula of Bures; the independent coupling has more.",
        Energy,
        check,
        (
            dial("the action × (1 + δ)", scaled, 0.5),
            Control("half the action", lambda found: scaled(found, -0.5)),
        ),
        formula=r"\inf\int_0^1\mathbb E|v|^2dt = |m_1-m_0|^2 + \mathrm{tr}\big(S_0 + S_1 - "
        r"2(S_0^{1/2}S_1S_0^{1/2})^{1/2}\big)",
        entries=("L1.21",),
    )


def bends() -> Claim[Energy]:
    """Flows with known action, displacement and bend."""

    def check(found: Energy, trial: Trial) -> Iterator[Evidence]:
        rng, theta = trial.rng(), 1.1
        x = normal(30, 2, rng=rng)
        square = x.square().sum(1)

        def turning(t: Tensor, y: Any) -> Tensor:
            return theta * torch.stack([-y[:, 1], y[:, 0]], 1)

        shape = found.shape(turning, x)
        chord = 2 - 2 * math.cos(theta)
        because = "RK4 and Simpson's rule, 64 steps"
        yield near("turning: ∫|Ẋ|²", shape.action, theta**2 * square, 1e-7, because)
        yield near("its bend", shape.straightness, (theta**2 - chord) * square, 1e-7, because)
        length = shape.displacement.square().sum(1)
        yield near("its chord", length, chord * square, 1e-7, because)
        mu, sigma = 0.7, 1.8

        def map_line(t: Tensor, y: Any) -> Tensor:
            s = t[:, None]
            moved: Tensor = mu + (sigma - 1) * (y - s * mu) / (1 + s * (sigma - 1))
            return moved

        z = normal(30, 1, rng=rng)
        shape = found.shape(map_line, z)
        jump = (mu + (sigma - 1) * z[:, 0]) ** 2
        yield near("x ↦ μ + σx: ∫|Ẋ|²", shape.action, jump, 1e-7, because)
        yield near("its bend", shape.straightness, 0.0, 1e-7, because)

    def slower(found: Energy, size: float) -> Energy:
        def wrong(velocity: Any, x: Tensor) -> geometry.Geometry:
            return geometry.flow_geometry(lambda t, y: (1 + size) * velocity(t, y), x)

        return replace(found, shape=wrong)

    def no_bend(found: Energy) -> Energy:
        def wrong(velocity: Any, x: Tensor) -> geometry.Geometry:
            result = geometry.flow_geometry(velocity, x)
            return replace(result, straightness=2 * result.straightness)

        return replace(found, shape=wrong)

    return Claim(
        "flow-geometry",
        "Of a turning flow the action is θ²|x|² and the bend θ²|x|² less the chord's; the flow of "
        "x ↦ μ + σx is straight.",
        Energy,
        check,
        (dial("the velocity × (1 + δ)", slower, 0.5), Control("the bend × 2", no_bend)),
        formula=r"\int_0^1|X_1 - X_0 - \dot X_t|^2dt = \int_0^1|\dot X_t|^2dt - |X_1-X_0|^2",
    )


@dataclass(frozen=True)
class Crossing:
    """The function that measures crossings."""

    measure: Callable[..., Estimate] = geometry.crossing


def crossings() -> Claim[Crossing]:
    """2(1 − c) at t = ½ for standard ends of correlation c."""

    def check(found: Crossing, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(40_000, 20_000)
        path = linear(LINE)
        for c in (-0.5, 0.0, 0.8):
            u = normal(2, count, 1, rng=rng)
            pairs = Pairs(u[0], c * u[0] + (1 - c * c) ** 0.5 * u[1])
            result = found.measure(path, still, pairs, 0.5, rng)  # x_½ and ẋ are independent
            yield estimated(f"correlation {c:g}", result, 2 * (1 - c), count)
        case = cases("none", law=line_mixture)()[0]
        pairs = drawn(case, count, rng)
        b = case.marginal.field("velocity")
        result = found.measure(case.path, b, pairs, 0.7, rng)
        # E Var(ẋ | x) by Tweedie: ẋ = (x1 − x)/(1 − t), Var(x1 | x) from the second derivative
        x = torch.linspace(-8, 8, 1601, dtype=DOUBLE)[:, None]
        t = torch.full((len(x),), 0.7, dtype=DOUBLE)
        mass = log_density(case, t, x).exp() * 0.01
        bend = torch.func.jvp(lambda y: score_at(case, t, y), (x,), (torch.ones_like(x),))[1][:, 0]
        variance = 0.3**2 * (1 + 0.3**2 * bend) / 0.7**2
        level = float(mass @ variance) / 0.3**2
        yield estimated("a mixture, t = 0.7", result, level, count)

    def scaled(found: Crossing, size: float) -> Crossing:
        def wrong(path: Any, velocity: Any, *given: Any) -> Estimate:
            result = geometry.crossing(path, velocity, *given)
            return Estimate((1 + size) * result.value, result.error)

        return Crossing(wrong)

    return Claim(
        "crossing-measure",
        "E|ẋ − b|² is 2(1 − c) at t = ½ for standard ends of correlation c, and the mean "
        "conditional variance for a mixture.",
        Crossing,
        check,
        (
            dial("the measure × (1 + δ)", scaled, 0.5),
            Control("half of it", lambda found: scaled(found, -0.5)),
        ),
        formula=r"\mathbb E|\dot x_t - b|^2 = \mathbb E|\dot x_t|^2 - \mathbb E|b|^2",
        entries=("L5.22",),
    )


@dataclass(frozen=True)
class Copies:
    """The function that finds neighbours."""

    nearest: Callable[..., Any] = geometry.nearest_neighbours


def copies() -> Claim[Copies]:
    """A planted copy is found at distance 0, and distances are sums over entries."""

    def check(found: Copies, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        data = Gaussian((5, 3), dtype=DOUBLE).sample(301, rng)
        x = Gaussian((5, 3), dtype=DOUBLE).sample(40, rng)
        x[17] = data[203]
        x[4] = data[11] + 1e-9
        for metric, power in (("l1", 1), ("l2", 2)):
            distance, index = found.nearest(x, data, metric=metric, count=3, chunk=7)
            yield exact(f"{metric}: a copy", distance[17, 0].item(), 0.0)
            yield exact(f"{metric}: of which row", int(index[17, 0]), 203)
            yield exact(f"{metric}: one nearly a copy", int(index[4, 0]), 11)
            gap = (x[:, None] - data).abs().flatten(2)
            full = (gap**power).sum(2) ** (1 / power)
            yield equal(f"{metric}: all distances", distance, full.sort(1).values[:, :3], scale=50)

    def scaled(found: Copies, size: float) -> Copies:
        def wrong(x: Tensor, data: Tensor, **options: Any) -> Any:
            return geometry.nearest_neighbours(x + size * 1e-3, data, **options)

        return Copies(wrong)

    def other(found: Copies) -> Copies:
        def wrong(x: Tensor, data: Tensor, *, metric: str, **options: Any) -> Any:
            return geometry.nearest_neighbours(x, data, metric="l2", **options)

        return Copies(wrong)

    return Claim(
        "nearest-neighbours",
        "A planted duplicate is found at distance exactly 0, in l1 and l2, whatever the pieces.",
        Copies,
        check,
        (dial("states + δ/1000", scaled, 0.5), Control("l2 for l1", other)),
        entries=("E7",),
    )
