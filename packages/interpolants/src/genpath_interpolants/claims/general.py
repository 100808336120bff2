r"""General interpolants: what they are at the ends, and that their fields carry their laws.

The fields are those of `atoms`: means of the path's targets over what may have led to x. The
density is that of torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.generators import flow
from genpath.paths import Draw
from genpath.schedules import AffineSchedule, Scalar
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    dial,
    equal,
    exact,
    mean,
    near,
)

from ..assumptions import check_assumptions
from ..general import InterpolantPath
from ..latents import Latent
from ..schedules import (
    encoding_decoding_schedule,
    linear_schedule,
    trigonometric_schedule,
)
from .atoms import Atoms, conversions, equation, mass, score
from .bent import (
    bent,
    bent_rate,
    drawn,
    features,
    root,
    scaled,
    square,
    two_sided,
    without_noise,
)
from .cases import DOUBLE, LINE, PLANE, normal

__all__ = ["general"]

Claims = tuple[Claim[Any], ...]
ROUNDED = 1024
"""Sums of a few exponentials over a variance that goes down to 0.1."""


def general() -> Claims:
    """Those of `InterpolantPath`."""
    return (
        definition(),
        existence(),
        marginalisation(),
        clouds(),
        assumptions(),
    )


# -- definition and density ------------------------------------------------------------------------


def definition() -> Claim[InterpolantPath]:
    """x_t, its ends and its rate."""

    def check(path: InterpolantPath, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        x0, x1 = normal(200, 2, rng=rng), normal(200, 2, rng=rng)
        for time, end in ((0.0, x0), (1.0, x1)):
            yield exact(f"x_{time:g}", path.draw(time, x0, x1, rng).state, end, "bit for bit")
        t = torch.rand(200, generator=rng, dtype=DOUBLE)
        draw = path.draw(t, x0, x1, rng)
        noise = draw.state - bent(t, x0, x1)
        yield equal("x_t − I", noise, root(1.0)(t)[:, None] * draw.latent)
        rate = path.target("interpolant_velocity", draw)
        h = 1e-4
        slope = (bent(t + h, x0, x1) - bent(t - h, x0, x1)) / (2 * h)
        because = "I is quadratic in t: rounding ε|I|/h alone"
        yield near("∂_t I by differences", rate, slope, 1e-11, because)
        yield equal("∂_t I by hand", rate, bent_rate(t[:, None], x0, x1))
        yield mean("z", draw.latent, torch.zeros(2, dtype=DOUBLE))
        yield mean("z²", draw.latent.square(), torch.ones(2, dtype=DOUBLE))

    def late(path: InterpolantPath) -> InterpolantPath:
        return but(path, interpolation_rate=lambda t, x0, x1: bent_rate(t[:, None] / 2, x0, x1))

    def wide(path: InterpolantPath) -> InterpolantPath:
        return replace(path, noise=Latent(square(2.0)))

    def off(path: InterpolantPath, size: float) -> InterpolantPath:
        def whole(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
            return bent(t, x0, x1) + size * x0

        return replace(path, interpolation=whole, kind="free")

    return Claim(
        "definition",
        "x_t = I + γz with x_0 = x0 and x_1 = x1 exactly, z standard normal, and ∂_t I the "
        "derivative of I.",
        lambda: InterpolantPath(PLANE, bent, square()),
        check,
        (
            Control("∂_t I at t/2", late),
            Control("γ² × 2", wide),
            dial("I + δ x0", off, 1e-3),
        ),
        formula=r"x_t = I(t, x_0, x_1) + \gamma(t) z,\quad I(0) = x_0,\ I(1) = x_1",
        entries=("L2.1",),
    )  # fmt: skip


def existence() -> Claim[tuple[Atoms, ...]]:
    """The density theorem and the score identity for a bent interpolant."""

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        for case in found:
            yield equation(case, trial.rng(), trial.count(40))
            yield score(case, trial.rng(), trial.count(40))
            yield score(case, trial.rng(), trial.count(40), "noise")
            table = (
                (("interpolant_velocity", "score"), "velocity"),
                (("interpolant_velocity", "noise"), "velocity"),
                (("velocity", "score"), "interpolant_velocity"),
                (("velocity", "noise"), "interpolant_velocity"),
                (("velocity+score",), "noise"),
            )
            yield from conversions(case, trial.rng(), trial.count(40), table)
        yield from mass(found[0])

    return Claim(
        "density",
        "For any I with a latent noise the law of x_t has a density, b = E[∂_t I + γ̇z | x] carries "
        "it, −E[z | x]/γ is its score, and the rules lead from each field to the others.",
        lambda: (two_sided(1), two_sided(2)),
        check,
        (
            dial("∂_t I + γ̇z × (1 + δ)", scaled("velocity")),
            Control("∂_t I in place of ∂_t I + γ̇z", without_noise),
            dial("score × (1 + δ)", scaled("score")),
            dial("z × (1 + δ)", scaled("noise")),
        ),
        formula=r"\partial_t\rho + \nabla\cdot(b\rho) = 0,\quad "
        r"b = \mathbb E[\partial_t I + \dot\gamma z\,|\,x_t]",
        entries=("L2.3",),
        owes="density",
    )


def marginalisation() -> Claim[tuple[Atoms, ...]]:
    """Conditional and marginal losses have one gradient."""

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        theta = torch.tensor([0.3, -0.7, 0.5], dtype=DOUBLE)
        for time in (0.2, 0.6):
            draw, weights = drawn(case, time)
            gap = (features(draw.state) @ theta)[:, None] - case.path.target("velocity", draw)
            conditional = (weights[:, None] * gap * features(draw.state)).sum(0)
            grid = torch.linspace(-9, 9, 3001, dtype=DOUBLE)[:, None]
            t = torch.full((len(grid),), time, dtype=DOUBLE)
            exact_field = _conditional_mean(case, t, grid)
            density = case.log_density(t, grid).exp()
            gap = (features(grid) @ theta)[:, None] - exact_field
            marginal = torch.trapezoid(density[:, None] * gap * features(grid), grid, dim=0)
            because = "Gauss–Hermite with 40 nodes and trapezoids, both exact to rounding here"
            yield near(f"∇θ at t = {time:g}", conditional, marginal, 1e-9, because)
            points = grid[900:2100:40]
            t = t[: len(points)]
            asked = case.field("velocity")(t, points)
            carried = _conditional_mean(case, t, points)
            yield equal(f"b at t = {time:g}", asked, carried, operations=ROUNDED)

    def other_law(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        (case,) = found
        wrong = torch.tensor([0.3, 0.4, 0.3], dtype=DOUBLE)
        return (replace(case, path=but(case.path, target=_swapped(case, wrong))),)

    return Claim(
        "marginalisation",
        "The losses on ẋ_t and on its mean given x_t have the same gradient, and that mean is the "
        "mean of the conditional generators' velocities.",
        lambda: (two_sided(1),),
        check,
        (
            dial("target × (1 + δ)", scaled("velocity")),
            Control("ẋ_t of another path", other_law),
        ),
        formula=r"v(t, x) = \mathbb E[v(t, x\,|\,z)\,|\,x_t = x]",
        entries=("L1.20",),
    )


def _swapped(case: Atoms, wrong: Tensor) -> Callable[[str, Draw], Tensor]:
    right = case.path.target

    def target(name: str, draw: Draw) -> Tensor:
        value: Tensor = right(name, draw)
        return value + float(wrong[1]) * torch.sin(draw.x1)

    return target


def _conditional_mean(case: Atoms, t: Tensor, x: Tensor) -> Tensor:
    """Σ_k π_k(x) u_k(x), u_k from the path's conditional generator."""
    count, k = len(x), len(case.weights)
    x0, x1 = (y.repeat(count, 1) for y in (case.x0, case.x1))
    gen = case.path.conditional_generator(x0, x1)
    velocity: Tensor = gen(t.repeat_interleave(k), x.repeat_interleave(k, 0)).velocity
    each = velocity.reshape(count, k, -1)
    posterior = case.terms(t, x).softmax(1)
    return (posterior[:, :, None] * each).sum(1)


def clouds() -> Claim[Any]:
    """Moving clouds: averaging and scaling."""

    def averaged(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return x0 + t[:, None] * x1

    def spread(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return (1 + t[:, None] ** 2) * x0

    def make() -> tuple[InterpolantPath, InterpolantPath]:
        return (
            InterpolantPath(LINE, averaged, kind="free"),
            InterpolantPath(LINE, spread, kind="free"),
        )

    def check(found: tuple[InterpolantPath, InterpolantPath], trial: Trial) -> Iterator[Evidence]:
        cloud, scaling = found
        rng, count = trial.rng(), trial.count(20_000)
        u1, u2 = normal(count, 1, rng=rng), normal(count, 1, rng=rng)
        for time in (0.3, 0.8):
            draw = cloud.draw(time, u1, u2, rng)
            slope = time / (1 + time**2)
            off = (cloud.target("velocity", draw) - slope * draw.state) * draw.state
            yield mean(f"(∂_t F − b) x at t = {time:g}", off, torch.zeros(1, dtype=DOUBLE))
        t = 0.1 + 0.8 * torch.rand(40, generator=rng, dtype=DOUBLE)
        x = 2 * normal(40, 1, rng=rng)

        def log_density(s: Tensor, y: Tensor) -> Tensor:
            z = y[:, 0] / (1 + s**2)
            sigmoid = torch.nn.functional.logsigmoid
            return sigmoid(z) + sigmoid(-z) - torch.log(1 + s**2)

        def field(s: Tensor, y: Any) -> Tensor:
            u = y / (1 + s[:, None] ** 2)
            return scaling.target("velocity", Draw(s, y, u, u))

        rate = torch.func.grad(lambda s: log_density(s, x).sum())(t)
        change = flow(LINE, field).adjoint(
            lambda y: log_density(t.repeat(len(y) // len(t)), y), t, x
        )
        yield equal("F = a(t) U, U logistic", change, rate, operations=512)

    def turned(found: tuple[Any, Any], size: float) -> tuple[Any, Any]:
        def target(name: str, draw: Draw, right: Any) -> Tensor:
            value: Tensor = (1 + size) * right.target(name, draw)
            return value

        first, second = found
        return (
            but(first, target=lambda name, draw: target(name, draw, first)),
            but(second, target=lambda name, draw: target(name, draw, second)),
        )

    return Claim(
        "moving-cloud",
        "A cloud F(t, U) is carried by E[∂_t F | x]: t x/(1 + t²) for U1 + t U2, and (a'/a) x for "
        "a(t) U.",
        make,
        check,
        (dial("∂_t F × (1 + δ)", turned),),
        formula=r"b(t, x) = \mathbb E[\partial_t F(t, U)\,|\,F(t, U) = x]",
        entries=("H1.3",),
    )


def assumptions() -> Claim[Any]:
    """What the theorems ask, and the schedules that do not give it."""

    def check(found: Any, trial: Trial) -> Iterator[Evidence]:
        x0, x1 = normal(2, trial.count(128), 2, rng=trial.rng())
        pairs = Pairs(x0, x1)
        line = found(linear_schedule("sqrt"), pairs)
        yield exact("linear: smooth, growth, moments", (line.smooth, line.bounded_growth,
            line.holds), (True, True, True))  # fmt: skip
        gap = (x1 - x0)[:64]
        yield equal("linear: C", line.growth, 1.0, operations=256)
        fourth = gap.square().sum(1).square().mean()
        yield equal("linear: E|∂_t I|⁴", line.rate_moment, fourth, operations=256)
        trig = found(trigonometric_schedule(), pairs)
        yield exact("trigonometric: smooth, growth, moments", (trig.smooth, trig.bounded_growth,
            trig.holds), (True, False, True))  # fmt: skip
        coded = found(encoding_decoding_schedule(), pairs)
        yield exact("encoding–decoding: growth, holds", (coded.bounded_growth, coded.holds),
            (False, False))  # fmt: skip
        yield exact("encoding–decoding: kinks", coded.kinks, (0.5,))
        schedule = encoding_decoding_schedule()
        h = 1e-5
        t = 0.5 + torch.tensor([-2 * h, -h, h, 2 * h], dtype=DOUBLE)
        rates = schedule.beta.rate(t)
        jump = (rates[3] - rates[2]) / h - (rates[1] - rates[0]) / h
        because = "β⁗ h, with |β⁗| below 8π⁴"
        yield near("the jump of β̈", jump, 2 * math.pi**2, 8 * math.pi**4 * 2 * h, because)
        bended = found(InterpolantPath(PLANE, bent, square()), pairs)
        yield exact("bent: smooth, growth", (bended.smooth, bended.bounded_growth), (True, False))
        corner = Scalar(lambda t: torch.where(t < 0.25, 2 * t, (2 * t + 1) / 3))
        broken = AffineSchedule(lambda t: 1 - corner(t), corner, lambda t: 0 * t)
        yield exact("a corner at ¼", bool(found(broken, pairs).holds), False)

    def growing(right: Any) -> Any:
        return lambda path, pairs: replace(right(path, pairs), growth=1.0)

    def blind(right: Any) -> Any:
        return lambda path, pairs: replace(right(path, pairs), kinks=())

    def second(right: Any) -> Any:
        def wrong(path: Any, pairs: Pairs) -> Any:
            found = right(path, pairs)
            return replace(found, rate_moment=math.sqrt(found.rate_moment))

        return wrong

    return Claim(
        "assumptions",
        "The diagnosis passes the linear schedule, finds that the growth condition fails for the "
        "trigonometric one although its moments are bounded, and finds the kink of "
        "encoding–decoding.",
        lambda: check_assumptions,
        check,
        (
            Control("growth is always bounded", growing),
            Control("no kink is seen", blind),
            Control("E|∂_t I|² in place of E|∂_t I|⁴", second),
        ),
        entries=("L2.2", "X7"),
    )
