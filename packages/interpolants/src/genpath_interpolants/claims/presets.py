r"""What each preset owes, and what its schedule is for.

The marginal is that of a mixture (`genpath_interpolants.mixtures`), which its own claims compare
with densities of torch, quadrature and importance sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.models import ODE
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.samplers import Euler, RungeKutta, integrate
from genpath.schedules import AffineSchedule
from genpath.tableaus import HEUN, RK4
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
    mean,
    near,
    order,
)

from .. import presets
from ..mixtures import FullMixture, GaussianMixture, MixtureMarginal
from ..paths import LinearPath
from ..schedules import (
    encoding_decoding_schedule,
    is_covariance_preserving,
    linear_schedule,
    rescaled_trigonometric_schedule,
    squared_trigonometric_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)
from .cases import DOUBLE, LINE, PLANE, line_mixture, mixture, normal
from .owed import MIRRORED, of_path

__all__ = [
    "elliptical",
    "encoding_decoding",
    "mirror",
    "ornstein_uhlenbeck",
    "path_base",
    "rescaled_trigonometric",
    "squared_trigonometric",
    "trigonometric",
    "variance_preserving",
]

Claims = tuple[Claim[Any], ...]
Schedules = dict[str, AffineSchedule]


def trigonometric() -> Claims:
    """The claims of ``path.interpolants.trigonometric``."""
    path = of_path(lambda: presets.trigonometric(PLANE, "sqrt", 1.0, "gaussian"))
    return (*path, design_table())


def rescaled_trigonometric() -> Claims:
    """The claims of ``path.interpolants.rescaled_trigonometric``."""
    path = of_path(lambda: presets.rescaled_trigonometric(PLANE, 2.0, "gaussian"))
    return (*path, rescaled())


def squared_trigonometric() -> Claims:
    """The claims of ``path.interpolants.squared_trigonometric``."""
    path = of_path(lambda: presets.squared_trigonometric(PLANE, "gaussian"))
    return (*path, no_endpoint_score())


def encoding_decoding() -> Claims:
    """The claims of ``path.interpolants.encoding_decoding``."""
    path = of_path(lambda: presets.encoding_decoding(PLANE, "gaussian"))
    return (*path, half_way(), broken_flow())


def variance_preserving() -> Claims:
    """The claims of ``path.interpolants.variance_preserving``."""
    path = of_path(lambda: presets.variance_preserving(PLANE), joint=("velocity+score",))
    return (*path, velocity_forms(), start(), process())


def ornstein_uhlenbeck() -> Claims:
    """The claims of ``path.interpolants.ornstein_uhlenbeck``."""
    horizon = 3.0
    far = math.exp(-horizon) * 6 + 0.01  # β(0) |x1| + (1 − α(0)) |x0|, of rows below 5
    path = of_path(
        lambda: presets.ornstein_uhlenbeck(PLANE, horizon),
        joint=("velocity+score",),
        ends=(far, 0.0),
    )
    return (*path, time_change())


def mirror() -> Claims:
    """The claims of ``path.interpolants.mirror``."""
    found = of_path(lambda: presets.mirror(PLANE), joint=("velocity+score",), base=MIRRORED)
    return (*(without(claim, *BLIND) for claim in found), there_and_back())


def elliptical() -> Claims:
    """The claims of ``path.interpolants.elliptical``."""
    path = of_path(
        lambda: LinearPath(PLANE, linear_schedule("sqrt", 0.7), "gaussian", covariance()),
        joint=("velocity+score",),
        base=base_law(),
    )
    return (*path, whitened(), fitted())


def path_base() -> Claims:
    """The claims of ``law.interpolants.path_base``."""
    path = LinearPath(PLANE, base="gaussian", base_covariance=covariance())
    broad = FullMixture(
        torch.ones(1, dtype=DOUBLE), torch.zeros(1, 2, dtype=DOUBLE), 1.5 * covariance()[None]
    )
    return contracts.law(lambda: presets.path_base(path), space=PLANE, proposal=broad)


BLIND = ("all rows are drawn at the time of the first", "x0 and x1 are swapped in the generator")
"""Faults that change nothing where x0 = x1 = x_0 = x_1 and γ(t) = γ(1 − t)."""


def without(claim: Claim[Any], *names: str) -> Claim[Any]:
    """The claim without the controls of these names."""
    return replace(claim, controls=tuple(c for c in claim.controls if c.name not in names))


def covariance() -> Tensor:
    """A base covariance whose axes are not the coordinates'."""
    return torch.tensor([[1.3, 0.5], [0.5, 0.6]], dtype=DOUBLE)


def base_law() -> FullMixture:
    """N(0, C0)."""
    one = torch.ones(1, dtype=DOUBLE)
    return FullMixture(one, torch.zeros(1, 2, dtype=DOUBLE), covariance()[None])


# -- schedules -------------------------------------------------------------------------------------


def total(schedule: AffineSchedule, t: Tensor) -> Tensor:
    """α² + β² + γ²."""
    return schedule.alpha(t) ** 2 + schedule.beta(t) ** 2 + schedule.gamma(t) ** 2


def design_table() -> Claim[Schedules]:
    """Which schedules keep the covariance, and which rows of the printed table do not."""
    t = torch.linspace(0, 1, 201, dtype=DOUBLE)

    def make() -> Schedules:
        return {
            "linear, a = 2": linear_schedule("sqrt", 2.0),
            "trigonometric": trigonometric_schedule(),
            "trigonometric with a = 1": trigonometric_schedule("sqrt", 1.0),
            "encoding-decoding": encoding_decoding_schedule(),
            "variance preserving": variance_preserving_schedule(),
        }

    def check(found: Schedules, trial: Trial) -> Iterator[Evidence]:
        yield equal("linear, a = 2", total(found["linear, a = 2"], t), 1.0)
        yield equal("trigonometric", total(found["trigonometric"], t), 1.0)
        latent = total(found["trigonometric with a = 1"], t)
        yield equal("trigonometric with a latent: 1 + a t(1−t)", latent, 1 + t * (1 - t))
        flags = {name: is_covariance_preserving(schedule) for name, schedule in found.items()}
        kept = ["linear, a = 2", "trigonometric", "variance preserving"]
        yield exact("flags", sorted(n for n, flag in flags.items() if flag), sorted(kept))
        one_sided = found["variance preserving"]
        yield equal("a one-sided row has γ = 0", one_sided.gamma_squared(t), 0.0)
        yield exact("and says so", one_sided.boundary.kind, "one-sided")
        h = 1e-4
        beta, half = found["encoding-decoding"].beta, torch.tensor([0.5], dtype=DOUBLE)
        side = [
            (beta(half + k * h) - 2 * beta(half + (k + 1) * h) + beta(half + (k + 2) * h)) / h**2
            for k in (0, -2)
        ]
        jump = (side[0] - side[1]).abs()
        yield near("β̈ jumps at ½", jump, 2 * math.pi**2, 0.02, "h β⃛ of one-sided differences")
        yield exact("and ½ is a breakpoint", found["encoding-decoding"].breakpoints, (0.5,))

    def swapped(found: Schedules) -> Schedules:
        return {**found, "trigonometric": trigonometric_schedule("sqrt", 1.0)}

    def smaller(found: Schedules, size: float) -> Schedules:
        return {**found, "linear, a = 2": linear_schedule("sqrt", 2.0 * (1 - size / 2))}

    def smooth(found: Schedules) -> Schedules:
        return {**found, "encoding-decoding": squared_trigonometric_schedule()}

    return Claim(
        "design-table",
        "α² + β² + γ² is 1 for linear with a = 2 and for trigonometric without a latent, not with "
        "one; one-sided rows have γ = 0; encoding–decoding is not twice differentiable at ½.",
        make,
        check,
        (
            Control("trigonometric keeps its latent", swapped),
            dial("a × (1 − δ/2)", smaller),
            Control("a smooth encoding–decoding", smooth),
        ),
        formula=r"\operatorname{Cov} x_t = (\alpha^2 + \beta^2 + \gamma^2)\,I",
        entries=("X6", "L5.6", "L5.7"),
    )


def rescaled() -> Claim[Callable[[float], AffineSchedule]]:
    """√(1 − γ²) makes room for the latent."""
    t = torch.linspace(0, 1, 201, dtype=DOUBLE)

    def check(make: Callable[[float], AffineSchedule], trial: Trial) -> Iterator[Evidence]:
        for a in (0.5, 2.0, 4.0):
            schedule = make(a)
            yield equal(f"a = {a:g}: α² + β² + γ²", total(schedule, t), 1.0)
            spread = schedule.gamma_squared(torch.tensor([0.5], dtype=DOUBLE))
            yield equal(f"a = {a:g}: γ²(½) = a/4", spread, a / 4)
        try:
            make(4.1)
            refused = False
        except ValueError as error:
            refused = "gamma_scale ≤ 4" in str(error)
        yield exact("a > 4 is refused", refused)

    def plain(make: Callable[[float], AffineSchedule]) -> Callable[[float], AffineSchedule]:
        return lambda a: trigonometric_schedule("sqrt", a)

    def milder(
        make: Callable[[float], AffineSchedule], size: float
    ) -> Callable[[float], AffineSchedule]:
        return lambda a: replace_gamma(make(a), 1 - size)

    return Claim(
        "rescaled",
        "With √(1−γ²) in α and β the squares sum to 1 for every a ≤ 4; a larger a is refused.",
        lambda: rescaled_trigonometric_schedule,
        check,
        (Control("no √(1−γ²)", plain), dial("γ² × (1 − δ)", milder, 0.5)),
        formula=r"\alpha = \sqrt{1-\gamma^2}\cos\tfrac{\pi t}{2},\quad "
        r"\beta = \sqrt{1-\gamma^2}\sin\tfrac{\pi t}{2}",
        entries=("L5.8", "L5.6"),
    )


def replace_gamma(schedule: AffineSchedule, factor: float) -> AffineSchedule:
    """The schedule with its γ² times a factor."""
    return AffineSchedule(
        schedule.alpha, schedule.beta, lambda t: factor * schedule.gamma_squared(t)
    )


def no_endpoint_score() -> Claim[LinearPath]:
    """Two covariance preserving designs: one without the score at the ends, one with it."""

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        t = torch.linspace(0, 1, 101, dtype=DOUBLE)
        yield equal("α² + β² + γ²", total(path.schedule, t), 1.0)
        rate = path.schedule.gamma_gamma_rate(t)
        slope = torch.func.grad(lambda s: 0.5 * (path.schedule.gamma(s) ** 2).sum())(t[1:-1])
        yield equal("γγ̇ by differentiation", rate[1:-1], slope, operations=256)
        yield equal("γγ̇ at the ends", rate[[0, -1]], 0.0)
        marginal, x = MixtureMarginal(path, mixture()), normal(20, 2, rng=trial.rng())
        for end in (0.0, 1.0):  # α̇ = β̇ = 0 there: nothing moves
            yield equal(f"b at t = {end:g}", marginal.velocity(end, x), 0 * x, operations=256)
        a = 1.4
        other = MixtureMarginal(presets.rescaled_trigonometric(PLANE, a), mixture())
        straight = other.interpolant_velocity(0.0, x)
        moved = other.velocity(0.0, x) - straight
        yield equal("rescaled: −(a/2) s at t = 0", moved, 0.5 * a * x, operations=256)  # s = −x

    def rough(path: LinearPath, size: float) -> LinearPath:
        schedule, a = path.schedule, size * 0.5
        mixed = AffineSchedule(
            schedule.alpha,
            schedule.beta,
            lambda t: (1 - a) * schedule.gamma_squared(t) + a * t * (1 - t),
        )
        return LinearPath(PLANE, mixed, "gaussian")

    return Claim(
        "no-endpoint-score",
        "With γ = sin(πt)/√2 the squares sum to 1 and γγ̇ vanishes at both ends, so that no score "
        "enters the velocity there; with γ² = a t(1−t) it does, times ∓a/2.",
        lambda: presets.squared_trigonometric(PLANE, "gaussian"),
        check,
        (dial("γ² + δ/2 (t(1−t) − γ²)", rough),),
        formula=r"\gamma\dot\gamma = \tfrac{\pi}{4}\sin 2\pi t",
        entries=("H5.2", "L5.11"),
    )


# -- encoding and decoding -------------------------------------------------------------------------


def half_way() -> Claim[LinearPath]:
    """At ½ there is only noise."""

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        x0, x1 = normal(200, 2, rng=rng), mixture().sample(200, rng)
        draw = path.draw(0.5, x0, x1, rng)
        yield equal("x_½ = z", draw.state, draw.latent, operations=4)
        marginal, x = MixtureMarginal(path, mixture()), normal(50, 2, rng=rng)
        normal_law = torch.distributions.Normal(torch.zeros(2, dtype=DOUBLE), 1.0)
        log_p = normal_law.log_prob(x).sum(1)
        yield equal("log p at ½", marginal.log_prob(0.5, x), log_p, operations=256)

    def early(path: LinearPath, size: float) -> LinearPath:
        schedule = path.schedule
        late = AffineSchedule(
            lambda t: schedule.alpha(t) + 0.5 * size * t * (1 - t),
            schedule.beta,
            schedule.gamma_squared,
        )
        return LinearPath(PLANE, late, "gaussian")

    return Claim(
        "half-way",
        "At t = ½ encoding–decoding has forgotten both ends: x_½ = z ~ N(0, I).",
        lambda: presets.encoding_decoding(PLANE, "gaussian"),
        check,
        (dial("α + δ t(1−t)/2", early),),
        formula=r"x_{1/2} = z",
        entries=("L5.9",),
    )


Solve = Callable[[LinearPath, int], TimeGrid]


def broken_flow() -> Claim[Solve]:
    """The flow of a path with a break, solved on a grid that holds it."""

    def check(grid: Solve, trial: Trial) -> Iterator[Evidence]:
        path = presets.encoding_decoding(LINE, "gaussian")
        law = line_mixture()
        gen = ODE().generator(path, "velocity", MixtureMarginal(path, law).field("velocity"))
        start = torch.linspace(-2.2, 2.2, 23, dtype=DOUBLE)[:, None]
        steps, errors = [], []
        for count in (15, 21, 31, 45, 63):
            x = integrate(RungeKutta(RK4), gen, start, grid(path, count), trial.rng()).state
            parts = torch.distributions.Normal(law.means[:, 0], law.stds[:, 0])
            below = parts.cdf(x) @ law.weights
            level = torch.distributions.Normal(0.0, 1.0).cdf(start[:, 0])
            steps.append(1 / count)
            errors.append(float((below - level).abs().max()))
        yield order("the flow is the monotone rearrangement", steps, errors, 4.0)

    return Claim(
        "flow-across-the-break",
        "On the line the flow carries quantile to quantile; solved with ½ on its grid, RK4 keeps "
        "order 4 across the jump of the second derivative.",
        lambda: lambda path, count: TimeGrid.uniform(count).through(path.breakpoints),
        check,
        (Control("½ is not on the grid", lambda _: lambda path, count: TimeGrid.uniform(count)),),
        formula=r"F_1(X_1(x)) = F_0(x)",
        entries=("L5.9",),
    )


# -- variance preserving ---------------------------------------------------------------------------

Told = Callable[[LinearPath, str, Tensor, Tensor, Tensor], Tensor]


def velocity_forms() -> Claim[Told]:
    """All forms of the velocity of the Ornstein–Uhlenbeck path."""

    def check(told: Told, trial: Trial) -> Iterator[Evidence]:
        path = presets.variance_preserving(PLANE)
        marginal = MixtureMarginal(path, mixture())
        rng = trial.rng()
        t = 0.05 + 0.9 * torch.rand(60, generator=rng, dtype=DOUBLE)
        x, time = 1.5 * normal(60, 2, rng=rng), t[:, None]
        eta, z, s = (marginal.field(n)(t, x) for n in ("denoiser", "base_denoiser", "score"))
        forms = {
            "t s + η₁": time * s + eta,
            "(x + s)/t": (x + s) / time,
            "(η₁ − t x)/(1−t²)": (eta - time * x) / (1 - time**2),
            "x/t − η_z/(t√(1−t²))": x / time - z / (time * (1 - time**2).sqrt()),
        }
        known = {"denoiser": eta, "base_denoiser": z, "score": s}
        for name, value in known.items():
            b = told(path, name, value, t, x)
            for words, form in forms.items():
                yield equal(f"from {name}: {words}", b, form, operations=2**14)
        # the derivative of t x1 + √(1−t²) z given x_t, by differences in time of the law's flow
        yield equal("and it is the mixture's", forms["t s + η₁"], marginal.velocity(t, x),
                    operations=2**14)  # fmt: skip
        for end in (0.0, 1.0):
            at = marginal.velocity(end, x)
            direct = end * marginal.score(end, x) + marginal.denoiser(end, x)
            yield equal(f"t s + η₁ at t = {end:g}", direct, at, operations=2**10)

    def plain(path: LinearPath, name: str, value: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return path.convert("velocity", {name: value}, t, x)

    def off(told: Told, size: float) -> Told:
        return lambda path, name, value, t, x: (
            told(path, name, value, t, x) + size * t[:, None] * x / 4
        )

    def turned(told: Told) -> Told:
        return lambda path, name, value, t, x: told(path, name, -value, t, x)

    return Claim(
        "velocity-forms",
        "b = t s + η₁ = (x+s)/t = (η₁ − t x)/(1−t²) = x/t − η_z/(t√(1−t²)): one velocity, of which "
        "only the first form has no singular coefficient.",
        lambda: plain,
        check,
        (dial("b + δ t x/4", off), Control("the prediction's sign", turned)),
        formula=r"b = t\,s + \eta_1 = \frac{x+s}{t} = \frac{\eta_1 - t x}{1-t^2} "
        r"= \frac{x}{t} - \frac{\eta_z}{t\sqrt{1-t^2}}",
        entries=("L6.2", "H5.4", "H6.1"),
    )


def start() -> Claim[LinearPath]:
    """The limits at t = 0, through the path's own conversions."""

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        marginal, x = MixtureMarginal(path, mixture()), normal(40, 2, rng=trial.rng())
        mean_of_data = mixture().weights @ mixture().means
        eta = mean_of_data.expand_as(x)
        yield equal("E[x1 | x_0]", marginal.denoiser(0.0, x), eta, operations=256)
        given = {"denoiser": eta}
        zero = torch.zeros(40, dtype=DOUBLE)
        rate = path.schedule.alpha.rate(zero[:1]), path.schedule.beta.rate(zero[:1])
        limit = rate[0] * x + rate[1] * mean_of_data
        yield equal("E[x0 | x_0] = x", path.convert("base_denoiser", given, 0.0, x), x)
        b = path.convert("velocity", given, 0.0, x)
        yield equal("b(0, x) from the denoiser", b, limit, operations=256)
        near_start = marginal.velocity(1e-6, x)
        because = "|∂_t b| t with t = 1e-6 and |∂_t b| < 100"
        yield near("and b(t, x) tends to it", near_start, limit, 1e-4, because)
        refused = False
        try:
            path.convert("velocity", {"base_denoiser": x}, 0.0, x)
        except ValueError as error:
            refused = "infinite at t = 0" in str(error)
        yield exact("η_z says nothing of b at t = 0, and the conversion is refused", refused)

    def bent(path: LinearPath, size: float) -> LinearPath:
        rules = tuple(
            replace(r, formula=lambda t, x, *v, r=r: (1 + size) * r.formula(t, x, *v))
            if r.gives == "velocity"
            else r
            for r in path.rules
        )
        return but(path, rules=rules)

    return Claim(
        "start",
        "At t = 0 the mean noise is x, the mean of the data E[x1], and "
        "b = α̇(0) x + β̇(0) E[x1]: the conversions say so, or refuse.",
        lambda: presets.variance_preserving(PLANE),
        check,
        (dial("b × (1 + δ)", bent),),
        formula=r"b(0, x) = \dot\alpha(0)\,x + \dot\beta(0)\,\mathbb E[x_1]",
        entries=("L5.18",),
    )


def process() -> Claim[MarkovGenerator]:
    """The Ornstein–Uhlenbeck process has the path's law given the data, in the time t = e^{−τ}."""

    def make() -> MarkovGenerator:
        def parts(s: Tensor, x: Any) -> Parts:
            return Parts(-x, ScalarNoise(math.sqrt(2.0)))

        return MarkovGenerator(LINE, parts, frozenset({"velocity", "diffusion"}))

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        rng, count, horizon, steps = trial.rng(), trial.count(40_000), 0.8, 40
        slow = gen.time_change(_clock(horizon))  # τ = T s
        x = torch.full((count, 1), 1.7, dtype=DOUBLE)
        grid = TimeGrid.uniform(steps)
        found = integrate(Euler(), slow, x, grid, rng, record=(steps // 2, steps))
        path = presets.variance_preserving(LINE)
        for s, state in zip(found.times, found.trajectory, strict=True):
            t = torch.tensor([math.exp(-horizon * s)], dtype=DOUBLE)
            centre = float(path.schedule.beta(t)) * 1.7
            spread = float(path.schedule.alpha_squared(t))
            h = horizon / steps
            because = "h of Euler's mean and variance, h = 0.02"
            yield mean(
                f"mean at τ = {horizon * s:g}", state[:, 0], centre, allowance=h, because=because
            )
            square = (state[:, 0] - centre) ** 2
            yield mean(
                f"variance at τ = {horizon * s:g}", square, spread, allowance=h, because=because
            )

    return Claim(
        "process",
        "The path given the data is the Ornstein–Uhlenbeck process dZ = −Z dτ + √2 dW, seen at the "
        "time t = e^{−τ}: mean t x1, variance 1 − t².",
        make,
        check,
        (
            dial("−Z (1 + δ)", lambda gen, size: gen + _push(-size / 4)),
            Control("dW in the place of √2 dW", lambda gen: _quiet(gen)),
        ),
        formula=r"Z_\tau = e^{-\tau}x_1 + \sqrt{1-e^{-2\tau}}\,z,\quad t = e^{-\tau}",
        entries=("L1.13", "L6.1"),
    )


def _clock(horizon: float) -> Any:
    from genpath.schedules import Scalar

    return Scalar(lambda s: horizon * s, lambda s: torch.full_like(s, horizon))


def _push(factor: float) -> MarkovGenerator:
    from genpath.generators import flow

    return flow(LINE, lambda t, x: factor * cast(Tensor, x))


def _quiet(gen: MarkovGenerator) -> MarkovGenerator:
    def parts(t: Tensor, x: Any) -> Parts:
        return Parts(-x, ScalarNoise(1.0))

    return MarkovGenerator(LINE, parts, gen.has)


def time_change() -> Claim[LinearPath]:
    """The truncated path is the variance preserving one in another time."""
    horizon = 3.0

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        t, x = torch.rand(40, generator=rng, dtype=DOUBLE), 1.5 * normal(40, 2, rng=rng)
        then = torch.exp(-horizon * (1 - t))
        here = MixtureMarginal(path, mixture())
        there = MixtureMarginal(presets.variance_preserving(PLANE), mixture())
        yield equal("log p", here.log_prob(t, x), there.log_prob(then, x), operations=2**12)
        speed = (horizon * then)[:, None]
        moved = speed * there.velocity(then, x)
        yield equal("b = τ̇ b", here.velocity(t, x), moved, operations=2**12)
        data = mixture()
        normal_law = GaussianMixture(
            torch.ones(1, dtype=DOUBLE),
            torch.zeros(1, 2, dtype=DOUBLE),
            torch.ones(1, dtype=DOUBLE),
        )
        draws = here.sample(0.0, trial.count(20_000), rng)
        gap = here.log_prob(0.0, draws) - normal_law.log_prob(draws)
        left = math.exp(-2 * horizon)
        second = float(data.weights @ (data.means.square() + data.stds.square()).sum(1))
        bound = 0.5 * left * second + 0.5 * 2 * (-left - math.log1p(-left))
        spread = 5 * float(gap.std()) / len(gap) ** 0.5
        yield at_most("KL at the truncated start", gap.mean() - spread, bound, "convexity of KL")

    def longer(path: LinearPath, size: float) -> LinearPath:
        return presets.ornstein_uhlenbeck(PLANE, horizon * (1 + size))

    return Claim(
        "time-change",
        "At time t the truncated path is the variance preserving path at e^{−T(1−t)}; what it "
        "starts from is near N(0, I).",
        lambda: presets.ornstein_uhlenbeck(PLANE, horizon),
        check,
        (dial("T × (1 + δ)", longer),),
        formula=r"\rho^{OU}_t = \rho^{VP}_{e^{-T(1-t)}}",
        entries=("L1.13", "L6.1"),
    )


# -- mirror and elliptical base --------------------------------------------------------------------


def there_and_back() -> Claim[LinearPath]:
    """The flow of a mirror returns every point to where it was."""

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        marginal, x = MixtureMarginal(path, mixture()), normal(40, 2, rng=trial.rng())
        t = 0.05 + 0.9 * torch.rand(40, generator=trial.rng("t"), dtype=DOUBLE)
        noise, s = marginal.noise(t, x), marginal.score(t, x)
        b = path.convert("velocity", {"noise": noise}, t, x)
        rate = torch.func.grad(lambda r: path.schedule.gamma(r).sum())(t)[:, None]
        gamma = path.schedule.gamma(t)[:, None]
        yield equal("b = γ̇ η_z", b, rate * noise, operations=2**12)
        yield equal("b = −γγ̇ s", b, -rate * gamma * s, operations=2**12)
        x1 = path.convert("denoiser", {"noise": noise}, t, x)
        yield equal("E[x1 | x] = x − γ η_z", x1, x - gamma * noise, operations=2**12)

        def velocity(time: Tensor, y: Any) -> Tensor:
            told: Tensor = path.convert("velocity", {"score": marginal.score(time, y)}, time, y)
            return told

        gen = ODE().generator(path, "velocity", velocity)
        ends = [
            integrate(RungeKutta(HEUN), gen, x, TimeGrid.uniform(n), trial.rng()).state
            for n in (32, 64)
        ]
        gap = (ends[1] - x).abs().max()
        limit = 2 * (ends[1] - ends[0]).abs().max() / 3 + 1e-9
        yield at_most(
            "the flow over [0, 1] is the identity",
            gap,
            limit,
            "order 2: twice a third of the change",
        )
        far = integrate(RungeKutta(HEUN), gen, x, TimeGrid.uniform(32, 0.0, 0.5), trial.rng()).state
        yield at_most("though it moves on the way", -(far - x).abs().max(), -0.05, "γ(½) = ½")

    def scaled(path: LinearPath, size: float) -> LinearPath:
        rules = tuple(
            replace(r, formula=lambda t, x, *v, r=r: r.formula(t, x, *v) * (1 + size * t[:, None]))
            if r.gives == "velocity"
            else r
            for r in path.rules
        )
        return but(path, rules=rules)

    return Claim(
        "there-and-back",
        "For a mirror b = γ̇ η_z = −γγ̇ s, odd about ½: the flow over [0, 1] is the identity.",
        lambda: presets.mirror(PLANE),
        check,
        (dial("b × (1 + δ t)", scaled),),
        formula=r"b = \dot\gamma\,\eta_z = -\gamma\dot\gamma\,s",
        entries=("L5.21", "L4.11"),
    )


def whitened() -> Claim[LinearPath]:
    """The path from N(0, ΣΣᵀ) is Σ times the path from N(0, I) to Σ⁻¹ x1."""

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        root = torch.linalg.cholesky(covariance())
        inverse = torch.linalg.inv(root)
        law = mixture()
        spread = inverse @ torch.diag_embed(law.stds**2) @ inverse.T
        white = FullMixture(law.weights, law.means @ inverse.T, spread)
        iso = MixtureMarginal(presets.linear(PLANE, base="gaussian"), white)
        rng = trial.rng()
        t, x = 0.05 + 0.9 * torch.rand(40, generator=rng, dtype=DOUBLE), normal(40, 2, rng=rng)
        y = x @ inverse.T
        eta = iso.base_denoiser(t, y)  # E[z | x], with x0 = Σ z
        given = {"base_denoiser": eta @ root.T}
        s = path.convert("score", given, t, x)
        alpha = (1 - t)[:, None]
        yield equal("s = −α⁻¹ Σ⁻ᵀ η_z", s, -(eta @ inverse) / alpha, operations=2**14)
        yield equal("s = Σ⁻ᵀ s_white", s, iso.score(t, y) @ inverse, operations=2**14)
        b = path.convert("velocity", given, t, x)
        yield equal("b = Σ b_white", b, iso.velocity(t, y) @ root.T, operations=2**14)
        ratio = (1 / t)[:, None]
        formula = ratio * x + (-1 - alpha * ratio) * (eta @ root.T)
        yield equal("b = (β̇/β) x + (α̇ − αβ̇/β) Σ η_z", b, formula, operations=2**14)

    def isotropic(path: LinearPath) -> LinearPath:
        return presets.linear(PLANE, base="gaussian")

    def stretched(path: LinearPath, size: float) -> LinearPath:
        return LinearPath(PLANE, path.schedule, "gaussian", (1 + size) * covariance())

    return Claim(
        "whitened",
        "The path from an elliptical base is Σ times an isotropic one: s = −α⁻¹ Σ⁻ᵀ E[z | x].",
        lambda: LinearPath(PLANE, linear_schedule(), "gaussian", covariance()),
        check,
        (Control("C0 = I", isotropic), dial("C0 × (1 + δ)", stretched)),
        formula=r"s = -\alpha^{-1}\Sigma^{-\top}\eta_z,\quad "
        r"b = \tfrac{\dot\beta}{\beta}x + "
        r"\big(\dot\alpha - \alpha\tfrac{\dot\beta}{\beta}\big)\Sigma\eta_z",
        entries=("L4.8", "H4.3"),
    )


def fitted() -> Claim[Callable[..., LinearPath]]:
    """The covariance that is fitted to the data."""

    def check(make: Callable[..., LinearPath], trial: Trial) -> Iterator[Evidence]:
        from genpath.codecs import Identity
        from genpath.datasets import Dataset

        rows = mixture().sample(trial.count(2_000, 500), trial.rng())
        data = Dataset("mixture", PLANE, rows, rows, rows, "drawn")
        centred = rows - rows.mean(0)
        whole = centred.T @ centred / (len(rows) - 1)
        full = make(PLANE, data, Identity(), fit="full").base_covariance
        yield equal("full", full, whole, operations=2**12)
        diagonal = make(PLANE, data, Identity()).base_covariance
        yield equal("diagonal", diagonal, torch.diag(whole.diagonal()), operations=2**12)
        given = make(PLANE, data, Identity(), scales=(2.0, 0.5)).base_covariance
        yield equal("scales are standard deviations", cast(Tensor, given).double(), torch.diag(
            torch.tensor([4.0, 0.25], dtype=DOUBLE)))  # fmt: skip

    def squared(make: Callable[..., LinearPath], size: float) -> Callable[..., LinearPath]:
        def wrong(*args: Any, **options: Any) -> LinearPath:
            path = make(*args, **options)
            return but(path, base_covariance=(1 + size) * cast(Tensor, path.base_covariance))

        return wrong

    return Claim(
        "fitted",
        "The base has the covariance of the training rows, or the stated standard deviations.",
        lambda: presets.elliptical,
        check,
        (dial("C0 × (1 + δ)", squared),),
        formula=r"C_0 = \widehat{\operatorname{Cov}}(x_1)",
    )
