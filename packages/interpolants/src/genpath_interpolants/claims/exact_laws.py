r"""Oracles against quadrature, scipy, finite differences and draws.

Normal pairs, the normal Schrödinger bridge, points at ±1, blurred rows, the sine flow on the
circle; and what is measured with them: Tweedie's formula, Stein's estimate, localisation,
cumulants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from genpath.schedules import AffineSchedule
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    dial,
    equal,
    mean,
    near,
)

from .. import oracles
from ..mixtures import FIELDS, FullMixture, GaussianMixture, MixtureMarginal
from ..oracles import (
    GaussianMarginal,
    GaussianPair,
    GaussianSchroedingerBridge,
    SineFlow,
    smoothed_empirical,
    smoothing_bound,
    two_points,
)
from ..schedules import (
    linear_schedule,
    mirror_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)
from .cases import DOUBLE, normal

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (
        normal_pairs(),
        normal_coupling(),
        normal_flow(),
        any_covariances(),
        denoising_score(),
        points(),
        blurred(),
        derivative_bounds(),
        bridge_equations(),
        bridge_optimal(),
        circle(),
        stein(),
        localisation(),
        rigidity(),
    )


SCHEDULES: dict[str, Callable[[], AffineSchedule]] = {
    "linear, γ² = 2t(1−t)": lambda: linear_schedule("sqrt", 2.0),
    "trigonometric": trigonometric_schedule,
    "variance preserving": variance_preserving_schedule,
    "mirror": lambda: mirror_schedule("sqrt", 1.5),
}


def matrix(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=DOUBLE)


def pair(cross: bool = True) -> GaussianPair:
    """Normal ends on the plane that do not commute."""
    return GaussianPair(
        torch.zeros(2, dtype=DOUBLE),
        matrix((1.0, 0.3), (0.3, 0.7)),
        torch.tensor([0.8, -0.5], dtype=DOUBLE),
        matrix((0.6, -0.2), (-0.2, 1.4)),
        matrix((0.3, 0.2), (-0.1, 0.4)) if cross else None,
    )


@dataclass(frozen=True)
class Pairs:
    """Oracles of one coupling on several schedules."""

    oracles: tuple[tuple[str, Any], ...]


def pairs() -> Pairs:
    found = [
        (words, GaussianMarginal(SimpleNamespace(schedule=make()), pair(words != "mirror")))
        for words, make in SCHEDULES.items()
    ]
    return Pairs(tuple(found))


def planted(**wrong: Callable[..., Any]) -> Callable[..., Pairs]:
    """A fault in every oracle: name → (oracle, size) ↦ function."""

    def plant(found: Pairs, *size: float) -> Pairs:
        changed = [
            (words, but(one, **{name: make(one, *size) for name, make in wrong.items()}))
            for words, one in found.oracles
        ]
        return Pairs(tuple(changed))

    return plant


def scaled(name: str) -> Callable[[Any, float], Any]:
    def make(oracle: Any, size: float) -> Any:
        right = getattr(oracle, name)
        return lambda t, x: (1 + size) * right(t, x)

    return make


# -- normal pairs ----------------------------------------------------------------------------------


def _joint(oracle: GaussianMarginal, t: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of (x0, x1, z) on the plane, and the row that makes x_t."""
    p = oracle.pair
    assert p.cross is not None
    ends = torch.cat((torch.cat((p.s0, p.cross), 1), torch.cat((p.cross.T, p.s1), 1)))
    whole = torch.block_diag(ends, torch.eye(2, dtype=DOUBLE))
    return torch.cat((p.m0, p.m1, torch.zeros(2, dtype=DOUBLE))), whole


def _conditional(oracle: GaussianMarginal, t: float, x: Tensor) -> tuple[Tensor, Any]:
    """E[(x0, x1, z) | x_t = x] by the joint covariance of (x0, x1, z, x_t), and the law of x_t."""
    centre, whole = _joint(oracle, t)
    time, eye = torch.tensor([t], dtype=DOUBLE), torch.eye(2, dtype=DOUBLE)
    schedule = oracle.path.schedule
    weights = [schedule.alpha(time), schedule.beta(time), schedule.gamma(time)]
    row = torch.cat([float(w) * eye for w in weights], 1)
    inner, law = whole @ row.T, MultivariateNormal(row @ centre, row @ whole @ row.T)
    gap = torch.linalg.lstsq(row @ whole @ row.T, (x - row @ centre).T).solution
    return centre + (inner @ gap).T, law


def normal_pairs() -> Claim[Pairs]:
    """Density, fields and motion of normal pairs."""

    def check(found: Pairs, trial: Trial) -> Iterator[Evidence]:
        x = 1.5 * normal(6, 2, rng=trial.rng())
        for words, one in found.oracles:
            for t in (0.25, 0.8):
                given, law = _conditional(one, t, x)
                ends = dict(
                    zip(("base_denoiser", "denoiser", "noise"), given.split(2, 1), strict=True)
                )
                for name, value in ends.items():
                    yield equal(
                        f"{words}, t = {t:g}: {name}",
                        getattr(one, name)(t, x),
                        value,
                        operations=512,
                    )
                yield equal(
                    f"{words}, t = {t:g}: log p",
                    one.log_prob(t, x),
                    law.log_prob(x),
                    operations=512,
                )
                score = torch.func.grad(lambda y, law=law: law.log_prob(y).sum())(x)
                yield equal(f"{words}, t = {t:g}: score", one.score(t, x), score, operations=512)
                schedule, time = one.path.schedule, torch.tensor(t, dtype=DOUBLE)
                scalars = [schedule.alpha, schedule.beta]
                scalars += [schedule.gamma] if float(schedule.gamma(time)) > 0 else []
                one_second = torch.ones((), dtype=DOUBLE)
                rates = [torch.func.jvp(part, (time,), (one_second,))[1] for part in scalars]
                motion = sum(rate * ends[name] for rate, name in zip(rates, ends, strict=False))
                yield equal(f"{words}, t = {t:g}: b", one.velocity(t, x), motion, operations=1024)
                slow = motion if len(rates) < 3 else motion - rates[2] * ends["noise"]
                yield equal(
                    f"{words}, t = {t:g}: v", one.interpolant_velocity(t, x), slow, operations=1024
                )
            times = torch.full((len(x),), 0.4, dtype=DOUBLE)
            change = torch.func.grad(lambda s, one=one: one.log_prob(s, x).sum())(times)
            flux = one.divergence(times, x) + (one.velocity(times, x) * one.score(times, x)).sum(1)
            size = float(change.abs().max())
            yield equal(
                f"{words}: ∂_t log p + ∇·b + b·s",
                -flux,
                change,
                operations=2048,
                scale=max(size, 1.0),
            )
            for t in (0.0, 1.0):
                if words == "variance preserving":
                    continue  # the velocity's own slope is infinite at t = 1
                near_end = abs(t - 1e-7)
                gap = one.velocity(t, x) - one.velocity(near_end, x)
                yield near(f"{words}: b at t = {t:g}", gap, 0.0, 1e-4, "a smooth limit, 1e-7 away")

    return Claim(
        "normal-pairs",
        "Between normal ends of any cross-covariance every conditional mean is that of the joint "
        "normal law of (x0, x1, z, x_t), the velocity solves the continuity equation, and both "
        "reach the ends.",
        pairs,
        check,
        (
            dial("E[x1|x] × (1 + δ)", planted(denoiser=scaled("denoiser"))),
            dial("b × (1 + δ)", planted(velocity=scaled("velocity"))),
            dial("tr K × (1 + δ)", planted(divergence=scaled("divergence"))),
            Control("v for b", planted(velocity=lambda one: one.interpolant_velocity)),
        ),
        formula=r"b = \dot M + K(x - M), \quad K = (\alpha\dot\alpha S_0 + \dot\alpha\beta G + "
        r"\dot\beta\alpha G^\top + \beta\dot\beta S_1 + \gamma\dot\gamma I) V^{-1}",
        entries=("F1", "L2.6", "H2.3"),
        owes="density",
    )


def normal_coupling() -> Claim[GaussianPair]:
    """Draws of the coupling."""

    def check(found: GaussianPair, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(60_000)
        drawn = found.pairs(count, trial.rng())
        right = pair()
        assert right.cross is not None
        first, second = drawn.x0 - right.m0, drawn.x1 - right.m1  # type: ignore[operator]
        yield mean("E x0, E x1", torch.cat((first, second), 1), 0.0)
        for words, a, b, value in (
            ("Cov x0", first, first, right.s0),
            ("Cov x1", second, second, right.s1),
            ("Cov(x0, x1)", first, second, right.cross),
        ):
            yield mean(words, (a[:, :, None] * b[:, None, :]).flatten(1), value.flatten())

    def changed(name: str) -> Callable[[GaussianPair, float], GaussianPair]:
        return lambda found, size: replace(found, **{name: (1 + size) * getattr(found, name)})

    return Claim(
        "normal-coupling",
        "The coupling with cross-covariance G keeps both marginals and has that covariance of the "
        "ends.",
        pair,
        check,
        (
            dial("S0 × (1 + δ)", changed("s0"), 0.5),
            dial("G × (1 + δ)", changed("cross"), 0.5),
            Control("G transposed", lambda found: replace(found, cross=found.cross.T)),
        ),
        formula=r"(x_0, x_1) \sim N\Big(\binom{m_0}{m_1}, "
        r"\begin{pmatrix} S_0 & G \\ G^\top & S_1\end{pmatrix}\Big)",
        entries=("L1.3",),
    )


def normal_flow() -> Claim[GaussianMarginal]:
    """The flow map against a solved flow."""

    def make() -> GaussianMarginal:
        turn = torch.linalg.qr(matrix((0.8, -0.6), (0.6, 0.8)))[0]
        diagonal = [
            turn @ torch.diag(matrix(v)[0]) @ turn.T for v in ((1.0, 0.5), (0.4, 1.6), (0.2, -0.3))
        ]
        centre = torch.tensor([0.7, -0.4], dtype=DOUBLE)
        ends = GaussianPair(0 * centre, diagonal[0], centre, diagonal[1], diagonal[2])
        return GaussianMarginal(SimpleNamespace(schedule=linear_schedule("sqrt", 1.5)), ends)

    def check(found: GaussianMarginal, trial: Trial) -> Iterator[Evidence]:
        x = normal(8, 2, rng=trial.rng())
        y, steps, start, end = x, 64, 0.1, 0.9
        h = (end - start) / steps
        field = make().velocity  # the right field: the map is on trial
        for k in range(steps):
            t = start + k * h
            a = field(t, y)
            b = field(t + h / 2, y + h / 2 * a)
            c = field(t + h / 2, y + h / 2 * b)
            y = y + h / 6 * (a + 2 * b + 2 * c + field(t + h, y + h * c))
        because = "RK4 with 64 steps: h⁴ times a fifth derivative below 300"
        yield near("X_0.9 from X_0.1", found.flow(start, end, x), y, 1e-5, because)
        yield equal(
            "and back", found.flow(end, start, found.flow(start, end, x)), x, operations=512
        )

    def wrong(found: GaussianMarginal, size: float) -> GaussianMarginal:
        right = found.flow
        return but(found, flow=lambda s, t, x: (1 + size * (t - s)) * right(s, t, x))

    return Claim(
        "normal-flow",
        "Where the covariances commute the probability flow is the affine map that carries one "
        "law to the other by symmetric roots.",
        make,
        check,
        (dial("the map × (1 + δ(t − s))", wrong),),
        formula=r"X_t = M_t + V_t^{1/2} V_s^{-1/2} (X_s - M_s)",
        entries=("F1",),
    )


# -- mixtures of any covariances -------------------------------------------------------------------


def _spd(k: int, d: int, rng: torch.Generator) -> Tensor:
    root = normal(k, d, d, rng=rng)
    return root @ root.mT / d + 0.3 * torch.eye(d, dtype=DOUBLE)


def any_mixtures() -> tuple[tuple[str, Any], ...]:
    """One oracle per form of the covariances, with coupled labels, on several schedules."""
    rng = torch.Generator().manual_seed(5)
    weights, means = torch.tensor([0.2, 0.5, 0.3], dtype=DOUBLE), 1.2 * normal(3, 2, rng=rng)
    shares, starts = torch.tensor([0.4, 0.6], dtype=DOUBLE), 0.8 * normal(2, 2, rng=rng)
    joint = torch.tensor([[0.05, 0.15, 0.2], [0.15, 0.35, 0.1]], dtype=DOUBLE)
    full = FullMixture(weights, means, _spd(3, 2, rng))
    spread = 0.4 + torch.rand(3, 2, generator=rng, dtype=DOUBLE)
    diagonal = GaussianMixture(weights, means, spread)
    shared = GaussianMixture(weights, means, spread[:1].expand(3, 2).clone())
    round_ = GaussianMixture(weights, means, spread[:, 0].clone())
    base = GaussianMixture(shares, starts, torch.tensor([0.8, 1.1], dtype=DOUBLE))
    tilted = FullMixture(torch.ones(1, dtype=DOUBLE), starts[:1] * 0, _spd(1, 2, rng))

    def at(schedule: str) -> Any:
        return SimpleNamespace(schedule=SCHEDULES[schedule]())

    noisy, one = "linear, γ² = 2t(1−t)", "variance preserving"
    return (
        ("isotropic, coupled", MixtureMarginal(at(noisy), round_, base, joint)),
        ("one diagonal", MixtureMarginal(at(one), shared)),
        ("diagonals, coupled", MixtureMarginal(at(noisy), diagonal, base, joint)),
        ("any, round base", MixtureMarginal(at("trigonometric"), full, base, joint)),
        ("any, elliptical base", MixtureMarginal(at(noisy), full, tilted)),
        ("mirror", MixtureMarginal(at("mirror"), full)),
    )


Mixtures = tuple[tuple[str, Any], ...]


def _plain(oracle: MixtureMarginal, t: Tensor, x: Tensor) -> Tensor:
    """log p_t(x) of one row by torch's distributions, for any covariances; differentiable in t."""
    data, base = oracle.mixture, oracle.base
    schedule, eye = oracle.path.schedule, torch.eye(2, dtype=DOUBLE)
    if base is None:
        base = GaussianMixture(
            torch.ones(1, dtype=DOUBLE),
            torch.zeros(1, 2, dtype=DOUBLE),
            torch.ones(1, dtype=DOUBLE),
        )
    joint = base.weights[:, None] * data.weights if oracle.coupling is None else oracle.coupling
    covariances = [
        law.covariances if isinstance(law, FullMixture) else torch.diag_embed(law.stds**2)
        for law in (base, data)
    ]
    alpha, beta, square = schedule.alpha(t), schedule.beta(t), schedule.gamma_squared(t)
    centre = alpha * base.means[:, None] + beta * data.means
    whole = alpha**2 * covariances[0][:, None] + beta**2 * covariances[1] + square * eye
    terms = MultivariateNormal(centre, whole, validate_args=False).log_prob(x)
    return torch.logsumexp((joint.log() + terms).flatten(), 0)


def any_covariances() -> Claim[Mixtures]:
    """Density, score, Hessian, divergence and the constraint for every form of covariance."""

    def check(found: Mixtures, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        t, x = 0.05 + 0.9 * torch.rand(5, generator=rng, dtype=DOUBLE), normal(5, 2, rng=rng)
        vmap, grad = torch.func.vmap, torch.func.grad
        for words, one in found:
            plain = lambda s, y, one=one: _plain(one, s, y)  # noqa: E731
            exactly = vmap(plain)(t, x)
            yield equal(f"{words}: log p", one.log_prob(t, x), exactly, operations=512)
            yield equal(
                f"{words}: score", one.score(t, x), vmap(grad(plain, 1))(t, x), operations=1024
            )
            curved = vmap(torch.func.hessian(plain, 1))(t, x)
            yield equal(f"{words}: Hessian", one.hessian(t, x), curved, operations=4096)
            rate = vmap(grad(plain, 0))(t, x)
            flux = one.divergence(t, x) + (one.velocity(t, x) * one.score(t, x)).sum(1)
            size = max(1.0, float(rate.abs().max()))
            yield equal(f"{words}: ∂_t log p + ∇·b + b·s", -flux, rate, operations=8192, scale=size)
            schedule = one.path.schedule
            parts = (
                (schedule.alpha, "base_denoiser"),
                (schedule.beta, "denoiser"),
                (schedule.gamma, "noise"),
            )
            whole = sum(part(t)[:, None] * getattr(one, name)(t, x) for part, name in parts)
            yield equal(f"{words}: αη₀ + βη₁ + γη_z", whole, x, operations=1024)
            several = one.fields(FIELDS, t, x)
            for name in FIELDS:
                yield equal(
                    f"{words}: {name} among others", several[name], getattr(one, name)(t, x)
                )

    def wrong(name: str) -> Callable[[Mixtures, float], Mixtures]:
        def plant(found: Mixtures, size: float) -> Mixtures:
            return tuple(
                (words, but(one, **{name: _times(getattr(one, name), size)}))
                for words, one in found
            )

        return plant

    return Claim(
        "any-covariances",
        "For isotropic, diagonal and full covariances, dependent labels, and bases that are "
        "mixtures or elliptical, the density is that of the pairs of components, its derivatives "
        "are the score and the Hessian, and the velocity solves the continuity equation.",
        any_mixtures,
        check,
        (
            dial("∇·b × (1 + δ)", wrong("divergence")),
            dial("Hessian × (1 + δ)", wrong("hessian")),
            dial("E[z|x] × (1 + δ)", wrong("noise")),
            dial("b × (1 + δ)", wrong("velocity")),
        ),
        formula=r"\nabla\cdot b = \sum_p \pi_p\,(\operatorname{tr} K_p\Sigma_p^{-1} "
        r"- w_p\cdot g_p) + \bar w\cdot b",
        entries=("L5.15", "H5.3", "F2"),
    )


def _times(right: Callable[..., Tensor], size: float) -> Callable[..., Tensor]:
    return lambda t, x: (1 + size) * right(t, x)


def denoising_score() -> Claim[Mixtures]:
    """s = −E[z|x]/γ, with the noise by importance sampling."""

    def check(found: Mixtures, trial: Trial) -> Iterator[Evidence]:
        for words, one in found:
            t, x = torch.tensor([0.3, 0.6], dtype=DOUBLE), normal(2, 2, rng=trial.rng())
            gamma = one.path.schedule.gamma(t)[:, None]
            yield equal(f"{words}: s = −η/γ", one.score(t, x), -one.noise(t, x) / gamma)
            count, rng, time = trial.count(200_000), trial.rng(words), 0.6
            gamma_1 = float(one.path.schedule.gamma(t[1:]))
            still = SimpleNamespace(schedule=linear_schedule())
            quiet = MixtureMarginal(still, one.mixture, one.base, one.coupling).sample(
                time, count, rng
            )
            z = (x[1] - quiet) / gamma_1
            weights = torch.exp(-0.5 * z.square().sum(1))
            gap = weights[:, None] * (z - one.noise(time, x[1:]))
            yield mean(f"{words}: E[(z − η(x)) φ(z)], z = (x − I)/γ", gap, 0.0)

    def makes() -> Mixtures:
        return tuple(case for case in any_mixtures() if "coupled" in case[0])

    def wrong(found: Mixtures, size: float) -> Mixtures:
        return tuple((words, but(one, noise=_times(one.noise, size))) for words, one in found)

    return Claim(
        "denoising-score",
        "The score is minus the mean of the latent noise over γ, and that mean is the one that "
        "weighted draws have.",
        makes,
        check,
        (dial("E[z|x] × (1 + δ)", wrong),),
        formula=r"s = -\mathbb E[z \mid x_t = x]/\gamma",
        entries=("L1.15", "L5.14", "L2.9"),
        owes="reverse",
    )


# -- points and blurred rows -----------------------------------------------------------------------


def points() -> Claim[MixtureMarginal]:
    """x1 = ±1: the denoiser is a hyperbolic tangent."""

    def make() -> MixtureMarginal:
        return MixtureMarginal(
            SimpleNamespace(schedule=variance_preserving_schedule()), two_points(1, DOUBLE)
        )

    def check(found: MixtureMarginal, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-3, 3, 25, dtype=DOUBLE)[:, None]
        for t in (0.0, 0.3, 0.8, 0.97):
            square = 1 - t * t
            eta = torch.tanh(t * x / square)
            score = -(x - t * eta) / square
            size = 1 / square
            yield equal(f"t = {t:g}: E[x1|x]", found.denoiser(t, x), eta)
            yield equal(
                f"t = {t:g}: score", found.score(t, x), score, scale=4 * size, operations=256
            )
            noise = (x - t * eta) / math.sqrt(square)
            yield equal(f"t = {t:g}: E[x0|x]", found.base_denoiser(t, x), noise, operations=256)
            step = 1e-5
            slope = (found.log_prob(t, x + step) - found.log_prob(t, x - step))[:, None] / (
                2 * step
            )
            because = "h²/6 of a third derivative below 8/(1−t²)³, and rounding"
            yield near(
                f"t = {t:g}: slope of log p",
                slope,
                found.score(t, x),
                2e-9 * (1 + 8 * size**3),
                because,
            )
        last = torch.tensor([[-0.2], [0.3], [2.0]], dtype=DOUBLE)
        yield equal("t = 1: the nearest point", found.denoiser(1.0, last), last.sign())

    def wrong(name: str) -> Callable[[MixtureMarginal, float], MixtureMarginal]:
        return lambda found, size: but(found, **{name: _times(getattr(found, name), size)})

    return Claim(
        "two-points",
        "For data at ±1 and a one-sided path the denoiser is tanh(βx/α²), up to the nearest point "
        "at t = 1, and score and noise follow.",
        make,
        check,
        (dial("E[x1|x] × (1 + δ)", wrong("denoiser")), dial("s × (1 + δ)", wrong("score"))),
        formula=r"\eta_1 = \tanh(\beta x/\alpha^2), \qquad s = -(x - \beta\eta_1)/\alpha^2",
        entries=("F5", "L5.16", "L5.18"),
    )


def _rows() -> Tensor:
    return torch.tensor([[-1.2], [-0.3], [0.1], [0.9], [1.4]], dtype=DOUBLE)


def blurred() -> Claim[GaussianMixture]:
    """Rows with noise: density, score, characteristic function."""

    def check(found: GaussianMixture, trial: Trial) -> Iterator[Evidence]:
        rows, gamma, step = _rows(), 0.4, 1e-4
        x = torch.linspace(-3, 3, 13, dtype=DOUBLE)[:, None]
        plain = torch.stack(
            [Normal(row, gamma).log_prob(x[:, 0]).exp() for row in rows[:, 0]]
        ).mean(0)
        yield equal("density", found.log_prob(x).exp(), plain)
        slope = (found.log_prob(x + step) - found.log_prob(x - step)) / (2 * step)
        marginal = MixtureMarginal(SimpleNamespace(schedule=mirror_schedule("sqrt", 4 * gamma**2)),
                                   smoothed_empirical(rows, 0.0))  # fmt: skip
        because = "h²/6 · 2/γ⁴ · 8 of a central difference, h = 1e-4"
        yield near("score", marginal.score(0.5, x)[:, 0], slope, 2e-6, because)
        k = torch.tensor([[0.7], [2.0], [4.0]], dtype=DOUBLE)
        points = torch.polar(torch.ones(3, 5, dtype=DOUBLE), k @ rows.T).mean(1)
        exactly = points * torch.exp(-0.5 * gamma**2 * k[:, 0] ** 2)
        phi = found.characteristic(k)
        yield equal("φ, real", phi.real, exactly.real)
        yield equal("φ, imaginary", phi.imag, exactly.imag)
        drawn = found.sample(trial.count(100_000), trial.rng()) @ k.T
        waves = torch.cat((drawn.cos() - exactly.real, drawn.sin() - exactly.imag), 1)
        yield mean("empirical φ", waves, 0.0)

    def wrong(found: GaussianMixture, size: float) -> GaussianMixture:
        return replace(found, stds=found.stds * (1 + size))

    return Claim(
        "blurred-rows",
        "Noise of variance γ² multiplies the characteristic function by e^{−γ²k²/2} and makes the "
        "density a mean of normal ones, positive and with the score of their mixture.",
        lambda: smoothed_empirical(_rows(), 0.4),
        check,
        (dial("γ × (1 + δ)", wrong, 0.5),),
        formula=r"\varphi_{Y + \gamma z}(k) = \varphi_Y(k)\,e^{-\gamma^2|k|^2/2}",
        entries=("L1.4",),
        owes="existence",
    )


@dataclass(frozen=True)
class Bounds:
    """The bound on the n-th derivative, as a function of (n, γ)."""

    at: Callable[[int, float], float]
    points: GaussianMixture


def derivative_bounds() -> Claim[Bounds]:
    """Derivatives of a blurred density."""

    def check(found: Bounds, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-2.5, 2.5, 1001, dtype=DOUBLE)
        for n in range(4):
            heights = []
            for gamma in (0.3, 0.15):

                def density(y: Tensor, gamma: float = gamma) -> Tensor:
                    return smoothed_empirical(found.points.means, gamma).log_prob(y[:, None]).exp()

                value: Callable[[Tensor], Tensor] = density
                for _ in range(n):
                    value = _derivative(value)
                heights.append(float(value(x).abs().max()))
                yield at_most(
                    f"sup |ρ⁽{n}⁾|, γ = {gamma:g}", heights[-1], found.at(n, gamma), "|φ| ≤ 1"
                )
            because = (
                "other points add e^(−d²/2γ²), d = 2; the grid misses the top by its curvature"
            )
            yield near(
                f"growth of sup |ρ⁽{n}⁾|", heights[1] / heights[0], 2.0 ** (n + 1), 1e-2, because
            )
            k = torch.linspace(0, 60, 6001, dtype=DOUBLE)
            whole = float(torch.trapezoid(k**n * torch.exp(-0.5 * (0.3 * k) ** 2), k)) / math.pi
            yield near(
                f"the bound, n = {n}",
                found.at(n, 0.3) / whole,
                1.0,
                1e-4,
                "Euler–Maclaurin, h = 0.01",
            )

    return Claim(
        "derivative-bounds",
        "The n-th derivative of a law blurred by N(0, γ²) is at most (2π)⁻¹ ∫|k|ⁿ e^{−γ²k²/2} dk, "
        "and for points it grows like γ^{−(n+1)}.",
        lambda: Bounds(smoothing_bound, two_points(1, DOUBLE)),
        check,
        (
            Control(
                "half the bound",
                lambda found: replace(found, at=lambda n, g: 0.5 * smoothing_bound(n, g)),
            ),
            Control(
                "γ^{−n} for γ^{−(n+1)}",
                lambda found: replace(found, at=lambda n, g: smoothing_bound(n, g) * g),
            ),
        ),
        formula=r"\sup|\rho^{(n)}| \le \frac{2^{(n-1)/2}\,\Gamma(\frac{n+1}2)}{\pi\,\gamma^{n+1}}",
        entries=("H1.2",),
    )


def _derivative(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda y: torch.func.grad(lambda x: function(x).sum())(y)


# -- the Schrödinger bridge ------------------------------------------------------------------------


def plane_bridge() -> GaussianSchroedingerBridge:
    """Between normal laws of the plane that do not commute."""
    p = pair()
    return GaussianSchroedingerBridge(p.s0, p.s1, 0.35, p.m0, p.m1)


def bridge_equations() -> Claim[GaussianSchroedingerBridge]:
    """K symmetric, K̇ = −K², the Fokker–Planck equation, u = b + ε s."""

    def check(found: GaussianSchroedingerBridge, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        t, x = 0.05 + 0.9 * torch.rand(5, generator=rng, dtype=DOUBLE), normal(5, 2, rng=rng)
        k = found.slope(t)
        yield equal("K = Kᵀ", k, k.mT, operations=512)
        rate = torch.func.jvp(found.slope, (t,), (torch.ones_like(t),))[1]
        yield equal("K̇ = −K²", rate, -k @ k, operations=4096)
        u = found.drift(t, x)
        yield equal(
            "u = b + ε s", u, found.velocity(t, x) + found.eps * found.score(t, x), operations=2048
        )
        _, v = found.marginal.moments(t)
        formula = (1 - t)[:, None, None] * found.pair.cross.T + t[:, None, None] * found.pair.s1  # type: ignore[union-attr]
        ledger = (formula @ torch.linalg.inv(v) - torch.eye(2, dtype=DOUBLE)) / (1 - t)[
            :, None, None
        ]
        yield equal("K = ([(1−t)Cᵀ + tS₁]V⁻¹ − I)/(1−t)", k, ledger, operations=8192)
        change = torch.func.grad(
            lambda s: MultivariateNormal(*found.marginal.moments(s)).log_prob(x).sum()
        )(t)
        jacobian = torch.func.vmap(
            torch.func.jacrev(lambda y, s: found.drift(s[None], y[None])[0])
        )(x, t)
        s = found.score(t, x)
        spread = -torch.linalg.inv(v).diagonal(dim1=1, dim2=2).sum(1)
        right = -jacobian.diagonal(dim1=1, dim2=2).sum(1) - (u * s).sum(1)
        right = right + found.eps * (spread + s.square().sum(1))
        size = max(1.0, float(change.abs().max()))
        yield equal("∂_t p + ∇·(u p) = ε Δp", right, change, operations=8192, scale=size)

    def other_slope(found: GaussianSchroedingerBridge, size: float) -> GaussianSchroedingerBridge:
        right = found.slope
        return but(found, slope=lambda t: (1 + size) * right(t))

    def other_cross(found: GaussianSchroedingerBridge, size: float) -> GaussianSchroedingerBridge:
        cross = found.pair.cross
        assert cross is not None
        wrong = replace(found.pair, cross=(1 - 0.5 * size) * cross)
        return but(found, pair=wrong)

    return Claim(
        "bridge-equations",
        "The drift of the normal bridge has a symmetric slope that solves K̇ = −K², so that it is "
        "a gradient with constant energy along paths, and carries its laws by the Fokker–Planck "
        "equation.",
        plane_bridge,
        check,
        (
            dial("K × (1 + δ)", other_slope),
            dial("C × (1 − δ/2)", other_cross),
            Control("b for u", lambda found: but(found, drift=found.velocity)),
        ),
        formula=r"\dot K = -K^2, \quad K = K^\top, \quad u = \dot m + K(x - m) = b + \varepsilon s",
        entries=("L4.16", "F7"),
        owes="density",
    )


def bridge_optimal() -> Claim[GaussianSchroedingerBridge]:
    """Known numbers, kinetic energy = 4ε KL, and dearer neighbours."""

    def make() -> GaussianSchroedingerBridge:
        return GaussianSchroedingerBridge(matrix((0.7,)), matrix((2.5,)), 0.4)

    def check(found: GaussianSchroedingerBridge, trial: Trial) -> Iterator[Evidence]:
        cross = found.pair.cross
        assert cross is not None
        variance = 2 * found.eps
        root = 0.5 * (math.sqrt(4 * 0.7 * 2.5 + variance**2) - variance)  # C² + σ²C = s0 s1
        yield equal("C² + σ²C = s₀s₁", float(cross), root)
        yield near("C", float(cross), 0.98203, 5e-6, "five printed digits")
        energy = found.energy()
        yield near("∫E|u|²", energy, 0.16511, 5e-6, "five printed digits")
        joint = MultivariateNormal(
            torch.zeros(2, dtype=DOUBLE), matrix((0.7, float(cross)), (float(cross), 2.5))
        )
        free = MultivariateNormal(
            torch.zeros(2, dtype=DOUBLE), matrix((0.7, 0.7), (0.7, 0.7 + variance))
        )
        cost = float(kl_divergence(joint, free))
        yield equal("KL(π‖reference)", found.divergence_from_reference(), cost, operations=512)
        yield near(
            "∫E|u|² = 4ε KL", energy, 4 * found.eps * cost, 1e-12, "64 nodes of a smooth integrand"
        )
        grid = torch.linspace(0, 1, 2001, dtype=DOUBLE)
        for size in (-0.05, 0.05):
            yield at_most(
                f"energy against σ²_t perturbed by {size:+g}",
                energy,
                _energy(found, grid, size),
                "the bridge is the minimum; trapezoid rule",
                slack=1e-6,
            )

    def _energy(found: GaussianSchroedingerBridge, grid: Tensor, size: float) -> float:
        """∫E|u|² of u = (V̇ − 2ε)/(2V) x for variances V + size·sin(πt)."""

        def variance(t: Tensor) -> Tensor:
            return found.marginal.moments(t)[1][:, 0, 0] + size * torch.sin(math.pi * t)

        moved: Any = torch.func.jvp(variance, (grid,), (torch.ones_like(grid),))
        v, rate = moved
        drift = (rate - 2 * found.eps) / (2 * v)
        return float(torch.trapezoid(drift**2 * v, grid))

    def other(found: GaussianSchroedingerBridge, size: float) -> GaussianSchroedingerBridge:
        cross = found.pair.cross
        assert cross is not None
        wrong = replace(found.pair, cross=(1 - 0.5 * size) * cross)
        return but(found, pair=wrong)

    return Claim(
        "bridge-optimal",
        "The bridge has the known cross-covariance and energy, its energy is 4ε times the "
        "divergence of its coupling from the reference, and other variances cost more.",
        make,
        check,
        (
            dial("C × (1 − δ/2)", other),
            dial(
                "energy × (1 + δ)",
                lambda found, size: but(found, energy=_scaled_energy(found, size)),
            ),
        ),
        formula=r"\int_0^1 \mathbb E|u|^2 dt = 4\varepsilon\,\mathrm{KL}\big(\pi \,\|\, "
        r"\rho_0(x) N(y; x, 2\varepsilon I)\big)",
        entries=("L4.16", "L1.22"),
        owes="minimiser",
    )


def _scaled_energy(found: GaussianSchroedingerBridge, size: float) -> Callable[[], float]:
    right = found.energy
    return lambda: (1 + size) * right()


# -- the circle ------------------------------------------------------------------------------------


def circle() -> Claim[SineFlow]:
    """Mass, continuity equation, resultant, and the map."""

    def check(found: SineFlow, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-math.pi, math.pi, 257, dtype=DOUBLE)[:-1]
        times = torch.full_like(x, 0.7)
        density = found.log_prob(times, x).exp()
        h = 2 * math.pi / 256
        because = "the trapezoid rule on the circle: tanh(A/2)^256"
        yield near("mass", density.sum() * h, 1.0, 1e-12, because)
        resultant = (density * x.cos()).sum() * h
        yield near("E cos x", resultant, -math.tanh(0.5 * 1.4 * 0.7), 1e-12, because)
        change = torch.func.grad(lambda s: found.log_prob(s, x).sum())(times)
        flux = found.divergence(times, x) + found.velocity(times, x) * found.score(times, x)
        yield equal("∂_t log p + ∇·b + b·s", -flux, change, operations=512)
        start = x[5:250:7]
        end = found.flow(0.2, 0.9, start)
        slope = torch.func.grad(lambda y: found.flow(0.2, 0.9, y).sum())(start)
        carried = found.log_prob(0.2, start) - slope.log()
        yield equal("p_t(X_t) |X_t′| = p_s", found.log_prob(0.9, end), carried, operations=512)
        count = trial.count(40_000)
        drawn = found.sample(0.7, count, trial.rng())
        yield mean("E cos x of draws", drawn.cos()[:, None], -math.tanh(0.49))

    def wrong(name: str) -> Callable[[SineFlow, float], SineFlow]:
        return lambda found, size: but(found, **{name: _times(getattr(found, name), size)})

    return Claim(
        "sine-flow",
        "dx/dt = a sin x carries the uniform law of the circle to wrapped Cauchy laws, by a map in "
        "closed form.",
        lambda: SineFlow(1.4),
        check,
        (
            dial("b × (1 + δ)", wrong("velocity")),
            dial("log p × (1 + δ)", wrong("log_prob")),
            dial("A × (1 + δ)", lambda found, size: SineFlow(1.4 * (1 + size)), 0.5),
        ),
        formula=r"\tan(x_t/2) = e^{A}\tan(x_0/2), \qquad "
        r"\rho_t(x) = \frac{1}{2\pi(\cosh A + \sinh A\cos x)}",
    )


# -- denoising, localisation, cumulants ------------------------------------------------------------


@dataclass(frozen=True)
class Tools:
    """The functions on trial."""

    tweedie: Any = oracles.tweedie
    sure: Any = oracles.sure
    to_snr: Any = oracles.to_snr
    from_snr: Any = oracles.from_snr
    cumulants: Any = oracles.cumulants


def stein() -> Claim[Tools]:
    """Tweedie's formula on points, and Stein's estimate of the risk."""

    def check(found: Tools, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-3, 3, 25, dtype=DOUBLE)[:, None]
        for schedule in (linear_schedule("sqrt", 1.3), variance_preserving_schedule()):
            exact = MixtureMarginal(SimpleNamespace(schedule=schedule), two_points(1, DOUBLE))
            for t in (0.3, 0.8):
                time = torch.tensor(t, dtype=DOUBLE)
                variance = float(schedule.alpha(time) ** 2 + schedule.gamma_squared(time))
                eta = torch.tanh(float(schedule.beta(time)) * x / variance)
                score = -(x - float(schedule.beta(time)) * eta) / variance
                yield equal(
                    f"Tweedie, t = {t:g}", found.tweedie(schedule, t, x, score), eta, operations=256
                )
                yield equal(
                    f"the oracle's score, t = {t:g}", exact.score(t, x), score, operations=256
                )
        rng, count, sigma = trial.rng(), trial.count(100_000), 0.6
        clean = two_points(2, DOUBLE).sample(count, rng)
        noisy = clean + sigma * normal(count, 2, rng=rng)
        for words, gain in (("the posterior mean", 1 / sigma**2), ("another denoiser", 1.5)):
            # f(y) = tanh(gain · (y₁ + y₂)) (1, 1): ∇·f = 2 gain (1 − tanh²)
            value = torch.tanh(gain * noisy.sum(1, keepdim=True))
            denoised, divergence = value.expand(-1, 2), 2 * gain * (1 - value[:, 0] ** 2)
            risk = (denoised - clean).square().sum(1)
            gap = found.sure(noisy, denoised, divergence, sigma) - risk
            yield mean(f"SURE − risk of {words}", gap[:, None], 0.0)

    def half(found: Tools) -> Tools:
        def wrong(noisy: Tensor, denoised: Tensor, divergence: Tensor, std: float) -> Tensor:
            return oracles.sure(noisy, denoised, 0.5 * divergence, std)

        return replace(found, sure=wrong)

    def other(found: Tools, size: float) -> Tools:
        def wrong(schedule: Any, t: Any, x: Tensor, score: Tensor) -> Tensor:
            return oracles.tweedie(schedule, t, x, (1 + size) * score)

        return replace(found, tweedie=wrong)

    return Claim(
        "denoising",
        "The posterior mean is the state plus its noise variance times the score, and the risk of "
        "any denoiser is estimated without bias from noisy rows alone.",
        Tools,
        check,
        (Control("half the divergence", half), dial("s × (1 + δ)", other)),
        formula=r"\mathbb E[x_1|x_t] = \frac{x_t + \alpha^2 s}{\beta}, \qquad "
        r"\mathbb E|f(y)-x|^2 = \mathbb E[|f(y)-y|^2 + 2\sigma^2\nabla\cdot f] - d\sigma^2",
        entries=("L6.5",),
    )


def localisation() -> Claim[Tools]:
    """The posterior given x_t is the posterior given y_T."""

    def check(found: Tools, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        t, x = (
            0.05 + 0.9 * torch.rand(20, generator=rng, dtype=DOUBLE),
            1.5 * normal(20, 1, rng=rng),
        )
        for words, schedule in (
            ("variance preserving", variance_preserving_schedule()),
            ("linear", linear_schedule()),
        ):
            exact = MixtureMarginal(SimpleNamespace(schedule=schedule), two_points(1, DOUBLE))
            snr, y = found.to_snr(schedule, t, x)
            # y_T = T x1 + W_T: P(x1 = 1 | y) = 1/(1 + e^{−2y}), whatever T is
            yield equal(
                f"{words}: P(x1 = 1)",
                0.5 * (1 + exact.denoiser(t, x)),
                torch.sigmoid(2 * y),
                operations=256,
            )
            variance = (schedule.alpha(t) / schedule.beta(t)) ** 2
            yield equal(f"{words}: T", snr * variance, torch.ones_like(t), operations=256)
            again, back = found.from_snr(schedule, snr, y)
            yield near(f"{words}: t back", again, t, 1e-12, "60 halvings, and rounding of T")
            yield near(f"{words}: x back", back, x, 1e-10, "60 halvings, and rounding of T")
        count, time = trial.count(40_000), 0.6
        x1 = two_points(1, DOUBLE).sample(count, rng)
        at = math.sqrt(1 - time**2) * normal(count, 1, rng=rng) + time * x1
        snr, y = found.to_snr(
            variance_preserving_schedule(), torch.full((count,), time, dtype=DOUBLE), at
        )
        gap = y - (time**2 / (1 - time**2)) * x1
        yield mean("E (y − T x1)² = T", gap**2, time**2 / (1 - time**2))

    def other(found: Tools, size: float) -> Tools:
        def wrong(schedule: Any, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            snr, y = oracles.to_snr(schedule, t, x)
            return snr, (1 + size) * y

        return replace(found, to_snr=wrong)

    return Claim(
        "localisation",
        "A one-sided path is stochastic localisation in another clock: y = βx/α² at T = (β/α)² has "
        "the law of T x1 + W_T and the same posterior of x1.",
        Tools,
        check,
        (dial("y × (1 + δ)", other),),
        formula=r"y_T = \beta x_t/\alpha^2, \qquad T = (\beta/\alpha)^2",
        entries=("L6.4",),
    )


def rigidity() -> Claim[Tools]:
    """Cumulants of a path between points, exactly."""

    def check(found: Tools, trial: Trial) -> Iterator[Evidence]:
        t = 0.4
        nodes, weights = _hermite(12)
        ends = torch.tensor([-1.0, 1.0], dtype=DOUBLE)
        for words, gamma, parts in (
            ("linear, γ² = t(1−t)", math.sqrt(t * (1 - t)), (1 - t, t)),
            (
                "on the sphere, γ² = 0.3",
                math.sqrt(0.3),
                (math.sqrt(0.7) * 0.8, math.sqrt(0.7) * 0.6),
            ),
        ):
            x0, x1, z = torch.meshgrid(ends, ends, nodes, indexing="ij")
            law = weights.expand(2, 2, -1).flatten() / 4
            x = (parts[0] * x0 + parts[1] * x1 + gamma * z).flatten()[:, None]
            kappa = found.cumulants(x, law)[:, 0]
            fourth = -2 * (parts[0] ** 4 + parts[1] ** 4)  # κ₄ of ±1 is −2
            variance = parts[0] ** 2 + parts[1] ** 2 + gamma**2
            yield equal(f"{words}: κ₂", kappa[1], variance)
            yield equal(f"{words}: κ₃", kappa[2], 0.0)
            yield equal(f"{words}: κ₄", kappa[3], fourth)
            if words.startswith("linear"):
                excess = float(kappa[3] / kappa[1] ** 2)
                yield near(
                    "excess kurtosis at t = 0.4", excess, -0.5374, 5e-5, "four printed digits"
                )
        smooth = found.cumulants(nodes[:, None], weights)[:, 0]
        yield equal(
            "a normal law", smooth, torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=DOUBLE), operations=256
        )

    def other(found: Tools, size: float) -> Tools:
        def wrong(x: Tensor, weights: Tensor | None = None) -> Tensor:
            right = oracles.cumulants(x, weights)
            return torch.cat((right[:3], right[3:] + 3 * size * right[1:2] ** 2))

        return replace(found, cumulants=wrong)

    return Claim(
        "rigidity",
        "Third and higher cumulants of x_t are those of the ends times powers of α and β, so that "
        "a path between points is not normal at any time inside, also where its covariance is "
        "preserved.",
        Tools,
        check,
        (dial("κ₄ + 3δκ₂²", other),),
        formula=r"\kappa_n(x_t) = \alpha^n\kappa_n(x_0) + \beta^n\kappa_n(x_1), \quad n \ge 3",
        entries=("H2.5", "H5.5"),
    )


def _hermite(points: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss–Hermite quadrature for N(0, 1), by numpy."""
    import numpy

    nodes, weights = numpy.polynomial.hermite_e.hermegauss(points)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
