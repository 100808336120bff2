r"""General interpolants: what they are at the ends, and that their fields carry their laws.

The fields are those of `atoms`: means of the path's targets over what may have led to x. The
density is that of torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.couplings import Pairs
from genpath.generators import flow
from genpath.grids import TimeGrid
from genpath.models import ODE
from genpath.paths import Draw
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

from ..assumptions import check_assumptions
from ..dynamics import DiffusiveSDE
from ..families import general_mirror, glued_mirror, one_sided, smooth, smooth_step
from ..gaussianised import GaussianisedPath
from ..general import InterpolantPath
from ..latents import Latent
from ..paths import LinearPath
from ..schedules import (
    encoding_decoding_schedule,
    linear_schedule,
    mirror_schedule,
    trigonometric_schedule,
)
from .atoms import Atoms, atom_pairs, conversions, equation, mass, score
from .cases import DOUBLE, LINE, PLANE, affine_moments, normal

__all__ = ["families", "gaussianised", "general", "glued"]

Claims = tuple[Claim[Any], ...]


def general() -> Claims:
    """Those of `InterpolantPath`."""
    return (
        definition(),
        existence(),
        marginalisation(),
        clouds(),
        assumptions(),
    )


def families() -> Claims:
    """Those of the families that paths are built by."""
    return (same_law(), one_sided_fields(), mirrors(), table(), smoothing())


def glued() -> Claims:
    """Those of ``path.interpolants.glued_mirror`` and the mirror that stays."""
    return (pure_noise(), standing())


def gaussianised() -> Claims:
    """Those of `GaussianisedPath`."""
    return (through_map(),)


# -- paths under test ------------------------------------------------------------------------------


def bent(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """(1−t) x0 + t x1 + t(1−t) sin(2 x0 − x1)."""
    t = t.reshape(-1, *[1] * (x1.dim() - 1))
    return (1 - t) * x0 + t * x1 + t * (1 - t) * torch.sin(2 * x0 - x1)


def bent_rate(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """Its derivative in t, by hand."""
    return x1 - x0 + (1 - 2 * t) * torch.sin(2 * x0 - x1)


def dip(t: Tensor, x1: Tensor) -> Tensor:
    """x1 − 2t(1−t) sin x1, the data at both ends."""
    t = t.reshape(-1, *[1] * (x1.dim() - 1))
    return x1 - 2 * t * (1 - t) * torch.sin(x1)


def rising(t: Tensor, x1: Tensor) -> Tensor:
    """t² x1 + t(1−t) sin x1."""
    t = t.reshape(-1, *[1] * (x1.dim() - 1))
    return t**2 * x1 + t * (1 - t) * torch.sin(x1)


def root(a: float) -> Callable[[Tensor], Tensor]:
    """√(a t(1−t))."""
    return lambda t: (a * t * (1 - t)).sqrt()


def square(a: float = 1.0) -> Callable[[Tensor], Tensor]:
    """a t(1−t)."""
    return lambda t: a * t * (1 - t)


def two_sided(size: int = 1) -> Atoms:
    """A bent path with a latent noise."""
    path = InterpolantPath(LINE if size == 1 else PLANE, bent, square())
    return Atoms(f"bent, d = {size}", path, *atom_pairs(size), bent, root(1.0))


def shifted(case: Atoms, name: str, change: Callable[[Tensor, Tensor], Tensor]) -> Atoms:
    """The case with the path's target ``name`` changed: ``change(t, value)``."""
    right = case.path.target

    def target(asked: str, draw: Draw) -> Tensor:
        value: Tensor = right(asked, draw)
        return change(draw.t, value) if asked == name else value

    return replace(case, path=but(case.path, target=target))


def scaled(name: str) -> Callable[[tuple[Atoms, ...], float], tuple[Atoms, ...]]:
    """A target × (1 + δ), in every case."""

    def plant(found: tuple[Atoms, ...], size: float) -> tuple[Atoms, ...]:
        return tuple(shifted(case, name, lambda t, value: (1 + size) * value) for case in found)

    return plant


def without_noise(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
    """∂_t I in place of ∂_t I + γ̇ z."""

    def plant(case: Atoms) -> Atoms:
        right = case.path.target

        def target(asked: str, draw: Draw) -> Tensor:
            name = "interpolant_velocity" if asked == "velocity" else asked
            value: Tensor = right(name, draw)
            return value

        return replace(case, path=but(case.path, target=target))

    return tuple(plant(case) for case in found)


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


def hermite(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of E f(z), z standard normal: exact for polynomials below degree 2n."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    total = math.sqrt(2 * math.pi)
    return torch.tensor(nodes, dtype=DOUBLE), torch.tensor(weights, dtype=DOUBLE) / total


def features(x: Tensor) -> Tensor:
    """1, x, sin x: what a small model is linear in, ``(n, 3)``."""
    return torch.cat([torch.ones_like(x), x, torch.sin(x)], 1)


def drawn(case: Atoms, time: float, nodes: int = 40) -> tuple[Draw, Tensor]:
    """Every pair with every node of z at one time, and the weights."""
    z, weights = hermite(nodes)
    k = len(case.weights)
    x0, x1 = (y.repeat_interleave(nodes, 0) for y in (case.x0, case.x1))
    noise, t = z.repeat(k)[:, None], torch.full((k * nodes,), time, dtype=DOUBLE)
    state = case.centre(t[:, None], x0, x1) + case.scale(t)[:, None] * noise
    total = case.weights.repeat_interleave(nodes) * weights.repeat(k)
    return Draw(t, state, x0, x1, noise), total


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


ROUNDED = 1024
"""Sums of a few exponentials over a variance that goes down to 0.1."""


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
    posterior = case._terms(t, x).softmax(1)
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


# -- families --------------------------------------------------------------------------------------


def cells(count: int = 12, width: float = 2.6) -> Tensor:
    """Edges of the cells that draws are counted in."""
    return torch.linspace(-width, width, count, dtype=DOUBLE)


def counted(x: Tensor, edges: Tensor) -> Tensor:
    """How many x ``(n, 1)`` fall into each cell."""
    return torch.bincount(torch.bucketize(x[:, 0], edges), minlength=len(edges) + 1)


def chances(edges: Tensor, centres: Tensor, std: float, weights: Tensor) -> Tensor:
    """The probabilities of the cells under Σ_k w_k N(c_k, std²), by torch."""
    cdf = Normal(centres[:, None], std).cdf(edges[None])
    whole = (weights[:, None] * cdf).sum(0)
    ends = [whole.new_zeros(1), whole, whole.new_ones(1)]
    return torch.cat(ends).diff()


def chosen(count: int, rng: torch.Generator) -> Tensor:
    """Draws of x1 from its atoms ``(n, 1)``."""
    _, x1, weights = atom_pairs()
    return x1[torch.multinomial(weights, count, True, generator=rng)]


ALPHA = 0.8
"""δ = 0.8 α: the share of α that stays in the interpolation."""


def both_sides() -> tuple[InterpolantPath, InterpolantPath]:
    """The one-sided path with α = 1 − t², and the two-sided one with δ x0 + γz of that variance."""

    def weight(t: Tensor) -> Tensor:
        return 1 - t**2

    def delta(t: Tensor) -> Tensor:
        return weight(t) * (1 - (1 - ALPHA) * 4 * t * (1 - t))

    def whole(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return delta(t)[:, None] * x0 + rising(t, x1)

    gamma = Latent(lambda t: weight(t) ** 2 - delta(t) ** 2)
    return one_sided(LINE, weight, rising), InterpolantPath(LINE, whole, gamma)


def same_law() -> Claim[Any]:
    """One-sided paths are two-sided ones from a normal law."""

    def check(found: tuple[InterpolantPath, InterpolantPath], trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(40_000)
        _, x1, weights = atom_pairs()
        edges = cells()
        for time in (0.3, 0.6):
            centres = rising(torch.full((3,), time, dtype=DOUBLE), x1)[:, 0]
            law = chances(edges, centres, 1 - time**2, weights)
            for words, path in zip(("one-sided", "two-sided"), found, strict=True):
                x0 = normal(count, 1, rng=rng)
                state = path.draw(time, x0, chosen(count, rng), rng).state
                yield frequencies(f"{words}, t = {time:g}", counted(state, edges), law)

    def wide(found: tuple[InterpolantPath, InterpolantPath]) -> Any:
        one, two = found
        noise = two._latent
        assert noise is not None
        return one, replace(two, noise=Latent(lambda t: 2 * noise.gamma_squared(t)))

    def narrow(found: tuple[InterpolantPath, InterpolantPath]) -> Any:
        return replace(
            found[0],
            interpolation=lambda t, x0, x1: (1 - t[:, None]) * x0 + rising(t, x1),
            rate=None,
        ), found[1]

    return Claim(
        "one-sided-law",
        "αz + J has the law of δx0 + J + γz with α² = δ² + γ² and x0 standard normal.",
        both_sides,
        check,
        (Control("γ² × 2", wide), Control("α = 1 − t in place of 1 − t²", narrow)),
        formula=r"\alpha^2 = \delta^2 + \gamma^2,\quad I = J + \delta x_0",
        entries=("L4.6",),
    )


def half(size: int = 1) -> Atoms:
    """The variance-preserving one-sided path, with data ±1."""
    path = one_sided(
        LINE, Scalar(lambda t: ((1 - t) * (1 + t)).sqrt(), lambda t: -t / (1 - t**2).sqrt()),
        lambda t, x1: t[:, None] * x1,
    )  # fmt: skip
    x1 = torch.tensor([[-1.0], [1.0]], dtype=DOUBLE)
    weights = torch.full((2,), 0.5, dtype=DOUBLE)
    return Atoms(
        "one-sided", path, 0 * x1, x1, weights, lambda t, x0, x1: t * x1,
        lambda t: (1 - t**2).sqrt(), from_base=True,
    )  # fmt: skip


def one_sided_fields() -> Claim[tuple[Atoms, ...]]:
    """Fields and targets of one-sided paths."""

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        two_points = found[0]
        t, x = two_points.points(trial.rng(), trial.count(40))
        alpha, beta = (1 - t**2).sqrt()[:, None], t[:, None]
        data = torch.tanh(beta * x / alpha**2)
        base = (x - beta * data) / alpha
        yield equal("E[x1 | x]", two_points.field("denoiser")(t, x), data, operations=ROUNDED)
        yield equal("E[x0 | x]", two_points.field("base_denoiser")(t, x), base, operations=ROUNDED)
        rates = -beta / alpha * base + data
        yield equal("b", two_points.field("velocity")(t, x), rates, operations=ROUNDED)
        for case in found:
            yield equation(case, trial.rng(), trial.count(40))
            yield score(case, trial.rng(), trial.count(40))
            yield score(case, trial.rng(), trial.count(40), "base_denoiser")

    def make() -> tuple[Atoms, ...]:
        path = one_sided(LINE, lambda t: 1 - t**2, rising)
        x0, x1, weights = atom_pairs()
        curved = Atoms(
            "curved J", path, x0, x1, weights, lambda t, x0, x1: rising(t[:, 0], x1),
            lambda t: 1 - t**2, from_base=True,
        )  # fmt: skip
        return half(), curved

    return Claim(
        "one-sided-fields",
        "A one-sided path is carried by b = E[α̇x0 + ∂_t J | x] and its score is −E[x0 | x]/α; for "
        "data ±1 the mean of the data is tanh(βx/α²).",
        make,
        check,
        (
            dial("α̇x0 + ∂_t J × (1 + δ)", scaled("velocity")),
            Control("x0 × 2", lambda found: scaled("base_denoiser")(found, 1.0)),
            Control("score × 2", lambda found: scaled("score")(found, 1.0)),
        ),
        formula=r"b = \mathbb E[\dot\alpha z + \partial_t J\,|\,x_t],\quad "
        r"s = -\alpha^{-1}\,\mathbb E[z\,|\,x_t]",
        entries=("L4.7",),
    )


def mirrored() -> Atoms:
    """A mirror with a K of its own."""
    path = general_mirror(LINE, dip, square(1.3))
    x0, x1, weights = atom_pairs()
    return Atoms("K(t, x1)", path, x0, x1, weights, lambda t, x0, x1: dip(t[:, 0], x1), root(1.3))


def mirrors() -> Claim[tuple[Atoms, ...]]:
    """General mirrors."""

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        rng = trial.rng()
        x1 = chosen(200, rng)
        for time in (0.0, 1.0):
            state = case.path.draw(time, 0 * x1, x1, rng).state
            yield exact(f"x_{time:g} is the data", state, x1, "bit for bit")
        yield equation(case, rng, trial.count(40))
        yield score(case, rng, trial.count(40))
        yield score(case, rng, trial.count(40), "noise")
        yield from mass(case, (0.1, 0.5))

    def open_end(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        (case,) = found
        wrong = replace(
            case.path,
            interpolation=lambda t, x0, x1: dip(t, x1) + 0.01 * t[:, None] * x1,
            kind="free",
        )
        return (replace(case, path=wrong),)

    return Claim(
        "mirror",
        "K(t, x1) + γz has the law of the data at both ends, E[∂_t K + γ̇z | x] carries it, and its "
        "score is −E[z | x]/γ.",
        lambda: (mirrored(),),
        check,
        (
            dial("∂_t K + γ̇z × (1 + δ)", scaled("velocity")),
            Control("∂_t K in place of ∂_t K + γ̇z", without_noise),
            Control("K(1, x1) = 1.01 x1", open_end),
        ),
        formula=r"x_t = K(t, x_1) + \gamma z,\quad K(0, x_1) = K(1, x_1) = x_1",
        entries=("L4.10",),
    )


def _bridge_weights(x0: Tensor, x1: Tensor, eps: float) -> Tensor:
    """The entropic plan between equal weights, by Sinkhorn's iteration: ``(k, k)``."""
    kernel = torch.exp(-(x0 - x1.T).square() / (4 * eps))
    left, right = torch.ones(len(x0), 1, dtype=DOUBLE), torch.ones(len(x1), 1, dtype=DOUBLE)
    for _ in range(200):
        left = 1 / (len(x0) * (kernel @ right))
        right = 1 / (len(x1) * (kernel.T @ left))
    return left * kernel * right.T


def table() -> Claim[dict[str, Atoms]]:
    """The constructions side by side."""

    def make() -> dict[str, Atoms]:
        from ..diffusive import DiffusivePath

        x0, x1, weights = atom_pairs()
        eps = 0.3
        plan = _bridge_weights(x0, x1, eps).flatten()
        line = LinearPath(LINE, linear_schedule("sqrt", 2 * eps))
        straight: Any = lambda t, x0, x1: (1 - t) * x0 + t * x1  # noqa: E731
        diffusive = DiffusivePath(LINE, bent, 0.5)
        return {
            "diffusive": Atoms("diffusive", diffusive, x0, x1, weights, bent, root(1.0)),
            "one-sided": half(),
            "mirror": mirrored(),
            "bridge": Atoms(
                "bridge", line, x0.repeat_interleave(3, 0), x1.repeat(3, 1), plan, straight,
                root(2 * eps),
            ),
        }  # fmt: skip

    def check(found: dict[str, Atoms], trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        left = {"diffusive": 0, "one-sided": 0, "mirror": 1, "bridge": 0}
        for name, case in found.items():
            ends = normal(50, 1, rng=rng), normal(50, 1, rng=rng)
            for time, end in ((0.0, ends[left[name]]), (1.0, ends[1])):
                state = case.path.draw(time, *ends, rng).state
                yield equal(f"{name}: x_{time:g}", state, end, operations=4)
            yield equation(case, rng, trial.count(30))

    def all_scaled(found: dict[str, Atoms], size: float) -> dict[str, Atoms]:
        plant = scaled("velocity")
        return {name: plant((case,), size)[0] for name, case in found.items()}

    def one_off(name: str) -> Control[dict[str, Atoms]]:
        return Control(
            f"{name}: b × 1.1",
            lambda found: {**found, name: scaled("velocity")((found[name],), 0.1)[0]},
        )

    return Claim(
        "table",
        "The diffusive, one-sided, mirror and bridge constructions meet their ends and obey the "
        "continuity equation with b = E[ẋ_t | x].",
        make,
        check,
        (dial("b × (1 + δ)", all_scaled), *(one_off(name) for name in make())),
        entries=("L4.18",),
    )


def smoothing() -> Claim[Callable[..., LinearPath]]:
    """A latent noise smooths the laws in between."""

    means, std = torch.tensor([-1.5, 1.5], dtype=DOUBLE), 0.3

    def density(path: LinearPath, time: float, grid: Tensor) -> Tensor:
        """Both ends ½N(−1.5, 0.09) + ½N(1.5, 0.09), independent."""
        t = torch.tensor([time], dtype=DOUBLE)
        s = path.schedule
        alpha, beta = float(s.alpha(t)), float(s.beta(t))
        width = math.sqrt((alpha**2 + beta**2) * std**2 + float(s.gamma_squared(t)))
        centres = (alpha * means[:, None] + beta * means[None]).flatten()
        found: Tensor = Normal(centres[:, None], width).log_prob(grid[None]).exp().mean(0)
        return found

    def modes(values: Tensor) -> int:
        return int(((values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])).sum())

    def check(build: Callable[..., LinearPath], trial: Trial) -> Iterator[Evidence]:
        sharp = LinearPath(LINE, linear_schedule())
        grid = torch.linspace(-8, 8, 801, dtype=DOUBLE)
        before = density(sharp, 0.5, grid)
        counts = []
        for a in (0.2, 1.0, 16.0):
            wide = build(sharp, square(a))
            gamma = math.sqrt(a / 4)
            kernel = Normal(0.0, gamma).log_prob(grid[:, None] - grid[None]).exp()
            whole = torch.trapezoid(before * kernel, grid, dim=1)
            found = density(wide, 0.5, grid)
            inner = slice(200, 601)
            because = "trapezoids of spacing 0.02 on normals of width above 0.2"
            yield near(f"p * N(0, {a / 4:g})", found[inner], whole[inner], 1e-8, because)
            counts.append(modes(found))
        yield exact("modes without noise", modes(before), 3)
        yield exact("modes as γ grows", (counts[0], counts[-1]), (3, 1))
        twice = smooth(build(sharp, square(1.0)), square(0.5))
        t = torch.linspace(0, 1, 21, dtype=DOUBLE)
        yield equal("noises add", twice.schedule.gamma_squared(t), square(1.5)(t))
        curved = build(InterpolantPath(LINE, bent, square(1.0)), square(0.5))
        yield equal("of any interpolant", curved.noise.gamma_squared(t), square(1.5)(t))  # type: ignore[attr-defined]
        count = trial.count(8000)
        x0, x1 = normal(count, 1, rng=trial.rng()), chosen(count, trial.rng("x"))
        noise = build(sharp, square(2.0)).draw(0.5, x0, x1, trial.rng("z")).state - (x0 + x1) / 2
        yield mean("its draws", noise.square(), torch.full((1,), 0.5, dtype=DOUBLE))

    def root_in_place(build: Any) -> Any:
        return lambda path, g: build(path, lambda t: g(t) ** 2)

    def doubled(build: Any, size: float) -> Any:
        return lambda path, g: build(path, lambda t: (1 + size) * g(t))

    return Claim(
        "smoothing",
        "Adding γz convolves the law at time t with N(0, γ²I): the modes of bimodal ends merge as "
        "γ grows.",
        lambda: smooth,
        check,
        (Control("γ⁴ in place of γ²", root_in_place), dial("γ² × (1 + δ)", doubled)),
        formula=r"\rho_\gamma(t) = \rho_0(t) * N(0, \gamma^2 I)",
        entries=("L5.10",),
    )  # fmt: skip


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
