r"""Mirrors that are spatially linear, and paths through a map."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.grids import TimeGrid
from genpath.models import ODE
from genpath.samplers import RungeKutta, integrate
from genpath.schedules import AffineSchedule, Scalar
from genpath.tableaus import RK4
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    dial,
    equal,
    exact,
    frequencies,
    mean,
    near,
)

from ..dynamics import DiffusiveSDE
from ..families import glued_mirror, smooth_step
from ..gaussianised import GaussianisedPath
from ..paths import LinearPath
from ..schedules import (
    linear_schedule,
    mirror_schedule,
)
from .atoms import Atoms, atom_pairs, equation
from .bent import (
    cells,
    chances,
    chosen,
    counted,
    root,
)
from .cases import DOUBLE, LINE, affine_moments, normal

__all__ = ["gaussianised", "glued"]

Claims = tuple[Claim[Any], ...]


def glued() -> Claims:
    """Those of ``path.interpolants.glued_mirror`` and the mirror that stays."""
    return (pure_noise(), standing())


def gaussianised() -> Claims:
    """Those of `GaussianisedPath`."""
    return (through_map(),)


# -- mirrors that are spatially linear -------------------------------------------------------------


def pure_noise() -> Claim[LinearPath]:
    """The glued mirror forgets its data."""

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(20_000)
        x1 = chosen(count, rng)
        edges = cells()
        for time in (0.4, 0.5, 0.6):
            draw = path.draw(time, 0 * x1, x1, rng)
            width = math.sqrt(1.2 * time * (1 - time))
            law = chances(edges, torch.zeros(1, dtype=DOUBLE), width, torch.ones(1, dtype=DOUBLE))
            yield frequencies(f"x_t at t = {time:g}", counted(draw.state, edges), law)
            yield mean("x_t · x1", draw.state * x1, torch.zeros(1, dtype=DOUBLE))
        for time in (0.0, 1.0):
            yield exact(f"x_{time:g}", path.draw(time, 0 * x1, x1, rng).state, x1, "bit for bit")
        t = torch.linspace(0.01, 0.99, 99, dtype=DOUBLE)
        curve: Any = lambda s: path.schedule.beta.rate(s)  # noqa: E731
        for joint in (0.4, 0.6):
            h = 1e-5
            sides = torch.tensor([joint - h, joint, joint + h], dtype=DOUBLE)
            second = curve(sides).diff() / h
            because = "κ‴ h/2 on each side, |κ‴| ≤ 60/0.4³"
            yield near(f"κ̈ at {joint:g}", second[1], second[0], 60 / 0.4**3 * h, because)
        x0, atoms, weights = atom_pairs()
        step, back = smooth_step(0.0, 0.4), smooth_step(0.6, 1.0)
        case = Atoms(
            "glued", path, x0, atoms, weights,
            lambda s, x0, x1: _kappa(s) * x1, root(1.2),
        )  # fmt: skip
        yield equation(case, rng, trial.count(40))
        kappa = _kappa(t)
        yield equal("κ", path.schedule.beta(t), kappa)
        yield equal("κ by steps", 1 - step(t) + back(t), kappa)

    def late(path: LinearPath) -> LinearPath:
        return glued_mirror(LINE, 0.45, 0.6, "sqrt", 1.2)

    def tinted(path: LinearPath, size: float) -> LinearPath:
        beta = path.schedule.beta
        tint = Scalar(lambda t: beta(t) + size * t * (1 - t))
        old = path.schedule
        wrong = AffineSchedule(
            old.alpha, tint, old.gamma_squared, old.boundary, None, old.breakpoints
        )
        return replace(path, schedule=wrong)

    return Claim(
        "pure-noise",
        "With K = 0 on [t1, t2] the law there is N(0, γ²I) whatever the data, the joins are C², "
        "and the path is carried by its velocity.",
        lambda: glued_mirror(LINE, 0.4, 0.6, "sqrt", 1.2),
        check,
        (Control("t1 = 0.45", late), dial("κ + δ t(1−t)", tinted, 0.5)),
        formula=r"x_t = \kappa(t) x_1 + \gamma z,\quad \kappa = 0 \text{ on } [t_1, t_2]",
        entries=("L4.12",),
    )


def _kappa(t: Tensor) -> Tensor:
    """κ of the glued mirror on [0.4, 0.6], by ∫ 30 u²(1−u)² du written out."""

    def h(u: Tensor) -> Tensor:
        u = u.clamp(0, 1)
        return 10 * u**3 - 15 * u**4 + 6 * u**5

    return 1 - h(t / 0.4) + h((t - 0.6) / 0.4)


def standing() -> Claim[Any]:
    """A mirror with K = x1: one network, ODE and SDE."""

    v, a, eps = 0.8, 1.5, 0.5

    def make() -> LinearPath:
        return LinearPath(LINE, mirror_schedule("sqrt", a))

    def noise(t: Tensor, x: Any) -> Tensor:
        """E[z | x] for data N(0, v): γx/(v + γ²)."""
        square_ = (a * t * (1 - t))[:, None]
        found: Tensor = square_.sqrt() / (v + square_) * x
        return found

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-2, 2, 9, dtype=DOUBLE)[:, None]
        steps = trial.count(160, 80)
        ode = ODE().generator(path, "noise", noise)
        grid = TimeGrid.uniform(steps, 1e-3, 0.999)
        end = integrate(RungeKutta(RK4), ode, x, grid, trial.rng()).state
        because = "|b| = |γγ̇x|/(v + γ²) is odd about ½; (h/t)⁴ at the ends"
        yield near("the ODE from t to 1 − t", end, x, 1e-6, because)
        grid = TimeGrid.uniform(steps, 1e-3, 0.5)
        half_way = integrate(RungeKutta(RK4), ode, x, grid, trial.rng())
        wide = math.sqrt((v + a / 4) / (v + a * 1e-3 * 0.999))
        yield near("the ODE to ½", half_way.state, wide * x, 1e-6, "as above")
        t = torch.tensor([0.1, 0.3, 0.7], dtype=DOUBLE)
        y = torch.ones(3, 1, dtype=DOUBLE)
        gamma, rate = (a * t * (1 - t)).sqrt(), a * (1 - 2 * t) / 2
        single = (rate / gamma - eps / gamma)[:, None] * noise(t, y)
        drift = DiffusiveSDE(eps).generator(path, "noise", noise)(t, y).velocity
        yield equal("(γ̇ − ε/γ) E[z | x]", drift, single, operations=256)

        def exact_score(t: Tensor, x: Any) -> Tensor:
            found: Tensor = -x / (v + (a * t * (1 - t))[:, None])
            return found

        sde = DiffusiveSDE(eps).generator(path, "score", exact_score)
        moments, variances = affine_moments(_numbered(sde, eps), 1.0, v, 200)
        because = "RK4 of a smooth scalar equation, 200 steps"
        yield near("the variance at t = 1", variances[-1], v, 1e-9, because)
        s = torch.linspace(0, 1, 2001, dtype=DOUBLE)
        integral = torch.trapezoid(1 / (v + a * s * (1 - s)), s)
        told = torch.exp(-eps * integral)
        yield near("corr(X_0, X_1)", moments[-1], told, 1e-6, "trapezoids, spacing 5e-4")

    def louder(path: LinearPath) -> LinearPath:
        return LinearPath(LINE, mirror_schedule("sqrt", 2 * a))

    def turned(path: LinearPath) -> LinearPath:
        from .cases import changed_rules

        return changed_rules(path, torch.neg, "score")

    return Claim(
        "standing-mirror",
        "For x_t = x1 + γz one noise prediction gives everything; the ODE map over [0, 1] is the "
        "identity, the SDE keeps the law of the data, and for normal data its ends have the "
        "correlation exp(−ε∫dt/(v + γ²)).",
        make,
        check,
        (Control("γ² × 2", louder), Control("−s in place of s", turned)),
        formula=r"b = \dot\gamma\eta_z = -\gamma\dot\gamma s,\quad "
        r"b_F = (\dot\gamma - \varepsilon/\gamma)\,\eta_z",
        entries=("L4.11",),
    )  # fmt: skip


def _numbered(gen: Any, eps: float) -> Any:
    """The generator with its constant σ as a number."""
    from genpath.noises import ScalarNoise
    from genpath.parts import Parts

    def evaluate(t: Tensor, x: Any) -> Parts:
        return Parts(gen(t, x).velocity, ScalarNoise(math.sqrt(2 * eps)))

    return replace(gen, evaluate=evaluate)


# -- through a map ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sinh:
    """T(t, z) = sinh(c z), c = 0.4 + 0.8t, and its inverse."""

    slope: float = 0.8

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.sinh((0.4 + self.slope * t)[:, None] * y)

    def inverse(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.asinh(x) / (0.4 + self.slope * t)[:, None]


def through_map() -> Claim[GaussianisedPath]:
    """Mixing in the space where both ends are normal."""

    def make() -> GaussianisedPath:
        return GaussianisedPath(LINE, Sinh().forward, Sinh().inverse)

    def check(path: GaussianisedPath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(20_000)
        x0 = torch.sinh(0.4 * normal(count, 1, rng=rng))
        x1 = torch.sinh(1.2 * normal(count, 1, rng=rng))
        edges = cells(12, 2.0)
        law = chances(edges, torch.zeros(1, dtype=DOUBLE), 1.0, torch.ones(1, dtype=DOUBLE))
        for time in (0.25, 0.7):
            draw = path.draw(time, x0, x1, rng)
            c = 0.4 + 0.8 * time
            white = torch.asinh(draw.state) / c
            yield frequencies(f"T⁻¹(x_t) at t = {time:g}", counted(white, edges), law)
            exact_velocity = 0.8 * white * torch.cosh(c * white)
            told = path.map_velocity(draw.t, draw.state)
            size = float(told.abs().max())
            yield equal("∂_t T", told, exact_velocity, operations=256, scale=size)
            gap = path.target("velocity", draw) - exact_velocity
            weight = torch.cat([white.tanh(), white / (1 + white**2)], 1) / torch.cosh(c * white)
            yield mean("E[(ẋ − ∂_t T) φ(x)]", gap * weight, torch.zeros(2, dtype=DOUBLE))
        for time, end in ((0.0, x0), (1.0, x1)):
            state = path.draw(time, x0, x1, rng).state
            yield equal(f"x_{time:g}", state, end, operations=64, scale=float(end.abs().max()))
        t = torch.full((4,), 0.3, dtype=DOUBLE)
        few = path.draw(t, x0[:4], x1[:4], rng)
        y = torch.asinh(few.state) / (0.4 + 0.8 * 0.3)
        carried = path.conditional_generator(x0[:4], x1[:4])(t, few.state).velocity
        yield equal("the conditional flow", carried, path.target("velocity", few), operations=2048,
            scale=float(carried.abs().max() + y.abs().max()))  # fmt: skip

    def slow(path: GaussianisedPath) -> GaussianisedPath:
        return but(path, target=lambda name, draw: 0.9 * path.target(name, draw))

    def unmixed(path: GaussianisedPath) -> GaussianisedPath:
        schedule = linear_schedule("sqrt", 1.0)
        return but(path, mixed=LinearPath(LINE, schedule))

    def other(path: GaussianisedPath, size: float) -> GaussianisedPath:
        wrong = Sinh(0.8 * (1 + size))
        return but(path, inverse=wrong.inverse)

    return Claim(
        "through-a-map",
        "If T(t, ·) carries N(0, I) to ρ(t) and α² + β² + γ² = 1, then T(t, αξ0 + βξ1 + γz) ~ ρ(t) "
        "with exact ends, and E[ẋ_t | x_t] is the flow of T.",
        make,
        check,
        (
            Control("ẋ × 0.9", slow),
            Control("α² + β² + γ² < 1", unmixed),
            dial("the inverse of another map, δ", other, 0.25),
        ),
        formula=r"x_t = T(t, \alpha\xi_0 + \beta\xi_1 + \gamma z),\quad \xi_i = T^{-1}(i, x_i)",
        entries=("L4.14",),
    )  # fmt: skip
