r"""Errors of fields and what they do to a law: rates, bounds, the best ε, and KL from draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from genpath.generators import flow
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.likelihoods import LogLikelihood
from genpath.models import Model
from genpath.schedules import AffineSchedule
from genpath.testing import Claim, Control, Evidence, Trial, at_most, dial, equal, exact, near

from ..bounds import (
    kl_bound,
    kl_bound_curves,
    kl_bound_drifts,
    kl_bound_vs,
    kl_rate,
    kl_rate_of_densities,
)
from ..control import ErrorCurves, choose_eps, optimal_eps, optimal_eps_schedule
from ..distances import kl_terms, log_density_error
from ..finite_volume import FiniteVolume
from ..likelihoods import density
from ..presets import linear
from .cases import DOUBLE, LINE, cases, line_mixture, normal, scaled_field

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of the topic ``interpolants.control``."""
    return (rates(), bounds(), schedules(), chosen(), flow_error(), variate(), metric())


# -- rates ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """The two ways to the rate of KL."""

    fields: Callable[..., Tensor] = kl_rate
    densities: Callable[..., Tensor] = kl_rate_of_densities


def rates() -> Claim[Rates]:
    """Normal laws that move with different drifts and different noises."""

    def check(found: Rates, trial: Trial) -> Iterator[Evidence]:
        m, v, n, w = 0.4, 0.7, -0.3, 1.1
        k, c, k_hat, c_hat = -0.6, 0.5, -0.2, 0.1
        x = torch.linspace(-9, 9, 601, dtype=DOUBLE)
        p = Normal(m, math.sqrt(v))
        weights = p.log_prob(x).exp() * 18 / 600
        s, s_hat = -(x - m) / v, -(x - n) / w
        shift = ((k_hat - k) * x + c_hat - c)[:, None]
        gap = (s_hat - s)[:, None]
        because = "rounding of the trapezoid rule, and h⁴/30 K⁗′ of the difference, h = 10⁻³"
        for eps, eps_hat in ((0.0, 0.0), (0.4, 0.4), (0.4, 0.9), (0.3, 0.1)):
            rate = (k * m + c, 2 * k * v + 2 * eps)
            rate_hat = (k_hat * n + c_hat, 2 * k_hat * w + 2 * eps_hat)
            true = _slope((m, v), rate, (n, w), rate_hat)
            words = f"ε = {eps:g}, ε̂ = {eps_hat:g}"
            given = (gap, shift, eps, eps_hat)
            value = found.fields(*given, score=s[:, None], weights=weights)
            yield near(f"{words}: with ∇log ρ", value, true, 1e-8, because)
            value = found.fields(*given, model_score=s_hat[:, None], weights=weights)
            yield near(f"{words}: with ∇log ρ̂", value, true, 1e-8, because)
            moving = [_moving(x, *z) for z in ((m, v, *rate), (n, w, *rate_hat))]
            value = found.densities(*moving[0], *moving[1], 18 / 600)
            yield near(f"{words}: from densities", value, true, 1e-8, because)
        same = found.fields(gap, 0 * gap, 0.4, 0.9, score=s[:, None], weights=weights)
        true = _slope((m, v), (0, 0.8), (n, w), (0, 1.8))
        yield near("equal drifts, different ε", same, true, 1e-8, because)

    def flipped(found: Rates, size: float) -> Rates:
        """ε̂ − ε too small by the share δ."""

        def fields(gap: Tensor, shift: Tensor, eps: float, hat: float, **more: Any) -> Tensor:
            right = found.fields(gap, shift, eps, hat, **more)
            given = more["score"] if "score" in more else more["model_score"]
            cross = (more["weights"] * (gap * given).sum(1)).sum()
            result: Tensor = right + size * (hat - eps) * cross
            return result

        return replace(found, fields=fields)

    def shared(found: Rates) -> Rates:
        """ε where ε̂ belongs."""
        return replace(
            found, fields=lambda gap, shift, eps, hat, **more: found.fields(
                gap, shift, eps, weights=more["weights"]
            )
        )  # fmt: skip

    def heavier(found: Rates, size: float) -> Rates:
        """The second term of the template × (1 + δ)."""
        return replace(
            found,
            densities=lambda p, dp, q, dq, volume: found.densities(
                p, dp, q, (1 + size) * dq, volume
            ),
        )

    return Claim(
        "kl-rate",
        "KL grows at the rate of the errors of the drifts, less ε̂ times the Fisher divergence and "
        "a term in ε̂ − ε that does not vanish where the drifts agree.",
        Rates,
        check,
        (
            dial("the term in ε̂ − ε × (1 − δ)", flipped),
            Control("ε in place of ε̂", shared),
            dial("∫ (ρ/ρ̂) ∂_t ρ̂ × (1 + δ)", heavier, 0.5),
        ),
        formula=r"K' = \int a\cdot(\hat b - b)\rho - \hat\varepsilon\int|a|^2\rho "
        r"- (\hat\varepsilon - \varepsilon)\int a\cdot s\,\rho",
        entries=("H3.1", "L3.5"),
        owes="control",
    )


def _slope(at: Any, rate: Any, at_hat: Any, rate_hat: Any) -> float:
    """d/dt KL of two normal laws, by the five-point difference of torch's formula."""
    h = 1e-3

    def value(t: float) -> float:
        laws = [
            Normal(
                torch.tensor(z[0] + t * r[0], dtype=DOUBLE),
                torch.tensor(z[1] + t * r[1], dtype=DOUBLE).sqrt(),
            )
            for z, r in ((at, rate), (at_hat, rate_hat))
        ]
        return float(kl_divergence(*laws))

    return (value(-2 * h) - 8 * value(-h) + 8 * value(h) - value(2 * h)) / (12 * h)


def _moving(x: Tensor, m: float, v: float, dm: float, dv: float) -> tuple[Tensor, Tensor]:
    """A normal density and its time derivative, by automatic differentiation."""

    def value(t: Tensor) -> Tensor:
        spread = v + t * dv
        square = (x - m - t * dm) ** 2 / spread
        found: Tensor = torch.exp(-0.5 * square) / torch.sqrt(2 * math.pi * spread)
        return found

    zero = torch.zeros((), dtype=DOUBLE)
    found = torch.func.jvp(value, (zero,), (torch.ones_like(zero),))
    return found[0], found[1]


# -- bounds --------------------------------------------------------------------------------------

THETA, EPS = 3.0, 0.5


@dataclass(frozen=True)
class Bounds:
    """The bounds of KL.

    Args:
        fields: of velocity and score.
        latent: of v and s.
        drifts: of the drifts themselves.
    """

    fields: Callable[..., Any] = kl_bound
    latent: Callable[[float, float, float, AffineSchedule], float] = kl_bound_vs
    drifts: Callable[..., Tensor] = kl_bound_drifts


def bounds() -> Claim[Bounds]:
    """The stationary process with b̂ = u and ŝ − s = u/ε, u = e^{−θ(1−t)}."""

    def check(found: Bounds, trial: Trial) -> Iterator[Evidence]:
        schedule = linear(LINE, "sqrt", 2 * EPS / THETA).schedule  # N(0, ε/θ) for all t
        t = torch.linspace(0, 1, 4001, dtype=DOUBLE)
        push = torch.exp(-THETA * (1 - t))
        mean = 2 * (1 - math.exp(-2 * THETA)) / (2 * THETA)  # m' = −θ m + 2u
        divergence = mean**2 / (2 * EPS / THETA)
        yield near("KL", divergence, 0.3317, 5e-5, DIGITS)
        velocity = float(torch.trapezoid(push**2, t)) / 2
        score = velocity / EPS**2
        plain = found.fields(velocity, score, EPS)
        yield near("ΔL_b/ε + ε ΔL_s", plain, 0.3325, 5e-5, DIGITS)
        yield at_most("KL ≤ that of b and s", divergence, plain, "Theorem 23, corrected")
        rate = (EPS / THETA) * (1 - 2 * t)  # γγ̇ of γ² = 2(ε/θ) t(1−t)
        latent_error = push * (1 + rate / EPS)  # v̂ − v = (b̂ − b) + γγ̇ (ŝ − s)
        told = found.latent(float(torch.trapezoid(latent_error**2, t)) / 2, score, EPS, schedule)
        latent_risk = float(torch.trapezoid(latent_error**2, t)) / 2
        sup = (EPS / THETA + EPS) ** 2  # at t = 1, where γγ̇ = −ε/θ
        by_hand = latent_risk / EPS + sup / EPS * score
        yield near("ΔL_v/ε + sup (γγ̇ − ε)²/ε ΔL_s", told, by_hand, 1e-9, "the sup is at t = 1")
        yield at_most("KL ≤ that of v and s", divergence, told, "the same with v")
        because = "the trapezoid rule on 4001 times"
        drifts = found.drifts((2 * push) ** 2, EPS, t)
        yield near("∫ E|Δb_F|²/4ε", drifts, plain, 1e-6, because)
        cross = float(torch.trapezoid(push**2, t)) / EPS
        with_cross = found.fields(velocity, score, EPS, cross)
        yield near("with ⟨δb, δs⟩", with_cross, plain, 1e-6, because)
        levels = torch.linspace(0.3, 0.7, 81, dtype=DOUBLE)
        curve = found.fields(*(levels.new_tensor(z) for z in (velocity, score)), levels,
                             levels.new_tensor(cross))  # fmt: skip
        best = optimal_eps(velocity, score)
        yield near("argmin on a grid of ε", levels[int(curve.argmin())], best, 0.0025, "the grid")
        least = 0.5 * (2 * math.sqrt(velocity * score) + cross)
        yield near("its least value", curve.min(), least, 1e-6, because)
        varying = found.drifts((2 * push) ** 2, lambda s: EPS * (1 + s), t)
        other = float(torch.trapezoid(push**2 / (EPS * (1 + t)), t))
        yield near("with ε(t)", varying, other, 1e-12, "rounding")

    def halved(found: Bounds, size: float) -> Bounds:
        return replace(found, fields=lambda *given: (1 - size) * found.fields(*given))

    def halved_latent(found: Bounds, size: float) -> Bounds:
        return replace(found, latent=lambda *given: (1 - size) * found.latent(*given))

    def swapped(found: Bounds) -> Bounds:
        return replace(found, latent=lambda v, s, eps, path: found.fields(v, s, eps))

    return Claim(
        "kl-bounds",
        "KL is at most ΔL_b/ε + ε ΔL_s, and ΔL_v/ε + sup (γγ̇ − ε)²/ε ΔL_s, in losses with their "
        "½; the halves printed in places are no bounds.",
        Bounds,
        check,
        (
            dial("of b and s × (1 − δ), ½ as printed", halved, 0.5),
            dial("of v and s × (1 − δ), ½ as printed", halved_latent, 0.5),
            Control("v as if it were b", swapped),
        ),
        formula=r"\mathrm{KL} \le \frac{\Delta L_v}{\varepsilon} + "
        r"\frac{\sup_t(\gamma\dot\gamma-\varepsilon)^2}{\varepsilon}\Delta L_s",
        entries=("L3.10", "X1", "L3.9"),
        owes="control",
    )


DIGITS = "its four printed digits"


def schedules() -> Claim[Callable[..., Tensor]]:
    """ε*(t), against others."""

    def check(best: Callable[..., Tensor], trial: Trial) -> Iterator[Evidence]:
        t = torch.linspace(0, 1, 201, dtype=DOUBLE)
        velocity, score = 0.02 + 0.1 * t**2, 0.3 * torch.exp(-2 * t)
        noise = trial.rng()
        for cap in (None, 0.4):
            found = best(velocity, score, cap)
            value = kl_bound_curves(velocity, score, found, t)
            words = "no cap" if cap is None else f"ε ≤ {cap:g}"
            if cap is None:
                least = torch.trapezoid(2 * torch.sqrt(velocity * score), t)
                yield near("no cap: ∫ 2√(AC) dt", value, least, 1e-12, "rounding")
            else:
                grid = torch.linspace(1e-3, cap, 4000, dtype=DOUBLE)[:, None]
                least = torch.trapezoid((velocity / grid + grid * score).amin(0), t)
                because = "(1e-4)² of the grid of ε times A/ε³ ≤ 200"
                yield near(f"{words}: least on a grid at every time", value, least, 2e-6, because)
                yield at_most(f"{words}: kept", found.max(), cap, "rounding", slack=1e-15)
            for _ in range(8):
                factor = torch.exp(0.3 * normal(201, rng=noise))
                other = found * factor if cap is None else (found * factor).clamp_max(cap)
                other = kl_bound_curves(velocity, score, other, t)
                yield at_most(f"{words}: below a perturbed schedule", value, other, "convexity")

    return Claim(
        "best-noise-schedule",
        "ε*(t) = √(A/C), cut at a cap, makes ∫ (A/ε + ε C) dt least.",
        lambda: optimal_eps_schedule,
        check,
        (
            dial("ε* × (1 + δ)", lambda best, d: lambda a, c, cap: (1 + d) * best(a, c, cap), 0.5),
            Control("C/A in place of A/C", lambda best: lambda a, c, cap: best(c, a, cap)),
        ),
        formula=r"\varepsilon^*(t) = \min(\sqrt{A(t)/C(t)}, E)",
        entries=("H3.2", "L3.11"),
    )


def chosen() -> Claim[Callable[..., ErrorCurves]]:
    """ε from held-out draws."""

    def check(choose: Callable[..., ErrorCurves], trial: Trial) -> Iterator[Evidence]:
        (case,) = cases("sqrt", law=line_mixture)()
        rng, count, bins = trial.rng(), trial.count(4000, 2000), 8
        exact_fields = case.marginal

        def network(t: Tensor, x: Any) -> Tensor:
            push = torch.exp(-THETA * (1 - t))[:, None]
            return torch.stack([exact_fields.velocity(t, x) + push,
                                exact_fields.score(t, x) + push / EPS], 1)  # fmt: skip

        base = Gaussian((1,), dtype=DOUBLE)
        model = Model(network, case.path, base, "velocity+score")
        ends = base.sample(count, rng), case.law.sample(count, rng)
        found = choose(model, case.marginal, *ends, rng, bins=bins)
        yield equal("ε* = ‖δb‖/‖δs‖", found.eps, EPS, operations=1e4)
        slots = found.schedule()(torch.linspace(0, 1, 33, dtype=DOUBLE))
        yield equal("ε*(t), the same at all t", slots, torch.full((33,), EPS), operations=1e4)
        edges = torch.linspace(0, 1, bins + 1, dtype=DOUBLE)
        level = torch.exp(-2 * THETA * (1 - edges)) / (2 * THETA)
        true = 0.5 * level.diff() * bins  # the mean of ½u² over a bin
        z = (found.velocity - true) / found.velocity_error
        words, because = "A(t) of each bin, in standard errors", "4.9 of each of 8 bins"
        yield Evidence(words, float(z.abs().max()), 0.0, 4.9, because, count)
        total = found.velocity_error.square().sum().sqrt() / bins
        limit = float((found.velocity.mean() - true.mean()).abs() / total)
        yield Evidence("ΔL_b, in standard errors", limit, 0.0, 4.9, "4.9", count)
        because = "1e-3 of the value"
        yield near("the bound", found.bound(), 2 * found.velocity_excess / EPS, 1e-9, because)

    def other(choose: Callable[..., ErrorCurves]) -> Callable[..., ErrorCurves]:
        """Squares without their ½ in the score alone."""

        def wrong(*given: Any, **more: Any) -> ErrorCurves:
            found = choose(*given, **more)
            return replace(found, score=2 * found.score)

        return wrong

    def late(choose: Callable[..., ErrorCurves], size: float) -> Callable[..., ErrorCurves]:
        def wrong(*given: Any, **more: Any) -> ErrorCurves:
            found = choose(*given, **more)
            return replace(found, velocity=(1 + size) * found.velocity)

        return wrong

    return Claim(
        "choose-eps",
        "Distances to a reference on held-out draws give ε* = ‖δb‖/‖δs‖, constant and over time, "
        "with their standard errors.",
        lambda: choose_eps,
        check,
        (
            Control("twice the excess of s", other),
            dial("the excess of b × (1 + δ)", late, 0.5),
        ),
        entries=("A9",),
    )


def flow_error() -> Claim[Callable[..., LogLikelihood]]:
    """A velocity error that vanishes, and KL that does not."""
    size = 1.3

    def check(score: Callable[..., LogLikelihood], trial: Trial) -> Iterator[Evidence]:
        true = 2 * math.log(math.cosh(size / 2))
        rng = trial.rng()

        class Uniform:
            """The uniform law on the circle, unrolled."""

            def sample(self, count: int, rng: torch.Generator) -> Tensor:
                return 2 * math.pi * torch.rand(count, 1, generator=rng, dtype=DOUBLE)

            def log_prob(self, x: Tensor) -> Tensor:
                return torch.full_like(x[:, 0], -math.log(2 * math.pi))

        errors = []
        for n in (1, 4, 16):
            x = torch.arange(256, dtype=DOUBLE)[:, None] * (2 * math.pi / 256 / n)  # one period

            def wave(t: Tensor, y: Any, n: int = n) -> Tensor:
                found: Tensor = size / n * torch.sin(n * y)
                return found

            scores = score(flow(LINE, wave), x, 1.0, Uniform(), rng, steps=16).value
            told = -torch.log(
                2 * math.pi * (math.cosh(size) + math.sinh(size) * torch.cos(n * x[:, 0]))
            )
            because = "h⁴ of the Runge–Kutta method, h = 1/16, times a⁵/4"
            yield near(f"n = {n}: log ρ̂", scores, told, 2e-5, because)
            divergence = float((-math.log(2 * math.pi) - scores).mean())
            yield near(f"n = {n}: KL", divergence, true, 2e-5, because)
            errors.append(float(wave(torch.zeros(1), x).square().mean()))
        squares = [size**2 / (2 * n**2) for n in (1, 4, 16)]
        yield near("‖b̂ − b‖² = a²/2n²", errors, squares, 1e-12, "rounding")
        level = 0.05
        solver = FiniteVolume(0.0, 2 * math.pi, 128)
        start = torch.full((128,), 1 / (2 * math.pi), dtype=DOUBLE)
        for n in (1, 4):  # by symmetry the ends of [0, 2π] let nothing through
            end = solver.solve(
                lambda t, y, n=n: size / n * torch.sin(n * y),  # type: ignore[misc]
                level,
                start,
                TimeGrid.uniform(16),
            )
            noisy = -(end.values * 2 * math.pi).log().mean()
            times = torch.linspace(0, 1, 3, dtype=DOUBLE)
            limit = kl_bound_drifts(torch.full_like(times, squares[0] / n**2), level, times)
            yield at_most(f"n = {n}, ε = {level:g}: KL ≤ a²/(8εn²)", noisy, limit, "Lemma 22")

    def softened(score: Callable[..., LogLikelihood], d: float) -> Callable[..., LogLikelihood]:
        def wrong(gen: Any, *given: Any, **more: Any) -> LogLikelihood:
            return score(gen * (1 - d), *given, **more)

        return wrong

    return Claim(
        "flow-error",
        "A velocity error of a/n · sin nx goes to 0 with n, and KL(ρ ‖ ρ̂) of the flow stays at "
        "2 log cosh(a/2); with noise KL goes to 0 with it.",
        lambda: density,
        check,
        (dial("the flow × (1 − δ)", softened, 0.5),),
        formula=r"\mathrm{KL}(\rho_0\|\hat\rho_n) = 2\log\cosh(a/2)"
        r"\quad\text{for all } n",
        entries=("L3.7",),
        owes="control",
    )


# -- distances from draws ------------------------------------------------------------------------


def variate() -> Claim[Callable[..., Tensor]]:
    """The control variate and its sign, on a grid of the first law."""

    def check(terms: Callable[..., Tensor], trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-9, 9, 2001, dtype=DOUBLE)
        p = Normal(torch.zeros((), dtype=DOUBLE), 1.0)
        q = Normal(torch.full((), 0.2, dtype=DOUBLE), 1.1)
        log_p, log_q = p.log_prob(x), q.log_prob(x)
        weights = log_p.exp() * 18 / 2000

        def moments(values: Tensor) -> tuple[Tensor, Tensor]:
            mean = (weights * values).sum()
            return mean, (weights * (values - mean) ** 2).sum().sqrt()

        true, because = kl_divergence(p, q), "rounding: the rule errs by e^{−π²·2/h²}"
        found = terms(log_p, log_q)
        bare = terms(log_p, log_q, control_variate=False)
        for values, words in ((found, "with the control variate"), (bare, "without")):
            yield near(f"{words}: mean", moments(values)[0], true, 1e-10, because)
        # log ρ − log ρ̂ = a x² + b x + c at x ~ N(0, 1), of variance 2a² + b²
        a, b = 0.5 / 1.1**2 - 0.5, -0.2 / 1.1**2
        spread = math.sqrt(2 * a * a + b * b)
        yield near("without: standard deviation", moments(bare)[1], spread, 1e-10, because)
        halved = moments(found)[1]
        yield at_most("with: less than half of it", halved, spread / 2, "0.094 against 0.206")
        yield at_most("no term is negative", -found, torch.zeros_like(found), "e^u ≥ 1 + u")
        other = moments(2 * bare - found)[1]
        yield at_most("the other sign: more than twice it", -other, -2 * spread, "0.477")

    def printed(terms: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def wrong(log_p: Tensor, log_q: Tensor, control_variate: bool = True) -> Tensor:
            bare = terms(log_p, log_q, control_variate=False)
            return 2 * bare - terms(log_p, log_q) if control_variate else bare

        return wrong

    def partial(terms: Callable[..., Tensor], size: float) -> Callable[..., Tensor]:
        def wrong(log_p: Tensor, log_q: Tensor, control_variate: bool = True) -> Tensor:
            bare = terms(log_p, log_q, control_variate=False)
            return bare + (1 - size) * (terms(log_p, log_q) - bare) if control_variate else bare

        return wrong

    return Claim(
        "kl-from-draws",
        "log ρ − log ρ̂ + (ρ̂/ρ − 1) has mean KL(ρ ‖ ρ̂), is never negative and halves the spread; "
        "with the bracket subtracted, as printed in places, the spread doubles.",
        lambda: kl_terms,
        check,
        (
            Control("the bracket subtracted, as printed", printed),
            dial("the bracket × (1 − δ)", partial, 0.5),
        ),
        formula=r"\mathrm{KL} = \mathbb E_\rho\Big[\log\frac{\rho}{\hat\rho} "
        r"+ \frac{\hat\rho}{\rho} - 1\Big]",
        entries=("X2", "E4"),
    )


def metric() -> Claim[Any]:
    """E|log ρ1 − log ρ̂1| of exact and of wrong fields."""

    def check(found: Any, trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        rng, count = trial.rng(), trial.count(400, 200)
        x = case.law.sample(count, rng)
        base = Gaussian((1,), dtype=DOUBLE)
        model = Model(case.marginal.field("velocity"), case.path, base)
        values = [density(model, x, 1.0, base, rng, steps=n).value for n in (8, 16)]
        change = float((values[1] - values[0]).abs().max())
        told = log_density_error(case.law.log_prob(x), values[1])
        because = "2/15 of the largest change from half as many steps; order 4 leaves 1/15"
        slack = 2 * change / 15 + 1e-6
        yield near("mean, exact fields", told.mean, 0.0, slack, because)
        yield near("standard deviation", math.sqrt(told.variance), 0.0, slack, because)
        offset = torch.tensor([0.3, -0.1], dtype=DOUBLE)
        given = log_density_error(torch.zeros(2, dtype=DOUBLE), offset)
        yield equal("of 0.3 and −0.1", [given.mean, given.variance], [0.2, 0.02])
        yield exact("points", told.count, count)

    return Claim(
        "log-density-error",
        "E|log ρ1 − log ρ̂1| and its variance are 0 for exact fields.",
        cases("sqrt", law=line_mixture, scale=1.0),
        check,
        (Control("b × 1.05", lambda found: scaled_field("velocity")(found, 0.05)),),
        entries=("E2",),
    )
