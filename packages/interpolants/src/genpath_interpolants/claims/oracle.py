r"""The exact marginals of the path between N(0, I) and a mixture, against quadrature and torch.

    p_t(x) = ∬ N(x; (1−t) x0 + t x1, γ²) φ(x0) p_1(x1) dx0 dx1
    E[y | x_t = x] = ∬ y · the same / p_t(x)

The integrals are trapezoid sums, which are exact to rounding for such smooth functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath.divergences import exact_divergence
from genpath.generators import MarkovGenerator
from genpath.models import ODE, SDE
from genpath.parts import Parts
from genpath.states import Field
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

from ..mixtures import GaussianMixture, MixtureMarginal
from ..paths import LinearPath
from ..schedules import linear_schedule
from .cases import (
    DOUBLE,
    PLANE,
    Case,
    Cases,
    cases,
    each,
    gamma_rate,
    gamma_squared,
    interior,
    line_mixture,
    log_density,
    mixture,
    normal,
    scaled_field,
    score_at,
    single,
)

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (density(), means(), labels(), laplacian(), fisher(), smoothed())


def denser(case: Case, size: float) -> Case:
    """log p_t (1 + δ): a law of another width."""
    right = case.marginal.log_prob
    return replace(
        case, marginal=but(case.marginal, log_prob=lambda t, x: (1 + size) * right(t, x))
    )


def wider(case: Case, size: float) -> Case:
    """The marginal of data with other standard deviations."""
    law = replace(case.law, stds=case.law.stds * (1 + size))
    return replace(case, marginal=replace(case.marginal, mixture=law))


def _total(case: Case, x: Tensor, t: Tensor) -> Tensor:
    return case.marginal.log_prob(t, x).sum()


def density() -> Claim[Cases]:
    """Density, mass and score."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        axis = torch.linspace(-8, 8, 65, dtype=DOUBLE)
        grid = torch.cartesian_prod(axis, axis)
        for case in found:
            t, x = interior(trial.rng(), 40, 2)
            t[:2] = torch.tensor([0.0, 1.0])
            exactly = log_density(case, t, x)
            slope = score_at(case, t, x)
            size = float(exactly.abs().max())
            yield equal(f"{case.words}: log p", case.marginal.log_prob(t, x), exactly, scale=size)
            yield equal(f"{case.words}: score", case.marginal.score(t, x), slope, operations=512)
            ends = (case.law.log_prob(x), case.marginal.log_prob(1.0, x))
            yield equal(f"{case.words}: the data's own density", *ends, scale=size)
            for time in (0.0, 0.5, 1.0):
                mass = case.marginal.log_prob(time, grid).exp().sum() * (axis[1] - axis[0]) ** 2
                because = "the trapezoid rule, e^(−2π²(s/h)²) with s ≥ 0.4 and h = ¼; tails at 8"
                yield near(f"{case.words}: mass at t = {time:g}", mass, 1.0, 1e-9, because)
            times = 0.05 + 0.9 * t
            rate = torch.func.grad(partial(_total, case, x))(times)
            gen = ODE().generator(case.path, "velocity", case.marginal.field("velocity"))
            change = gen.adjoint(rows(case, times), times, x)
            size = float(rate.abs().max())
            yield equal(f"{case.words}: ∂_t log p", change, rate, operations=4096, scale=size)

    return Claim(
        "density",
        "The marginal has the density of the sum of normal vectors, of mass 1 at every time, and "
        "its score is the gradient of its logarithm.",
        cases(),
        check,
        (
            dial("log p × (1 + δ)", each(denser)),
            dial("s × (1 + δ)", scaled_field("score")),
        ),
        formula=r"\rho_t = \sum_k w_k\,N\big(t m_k,\; t^2 s_k^2 + (1-t)^2 + \gamma^2\big)",
        entries=("L2.3", "L5.15", "F2"),
        owes="density",
    )


# -- conditional means by quadrature -------------------------------------------------------------


def means() -> Claim[Cases]:
    """Every field as a ratio of integrals over the two ends."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-2, 2, 9, dtype=DOUBLE)[:, None]
        for case in found:
            for t in (0.3, 0.75):
                exactly = _ratios(case, t, x)
                for name, value in exactly.items():
                    words = f"{case.words}, t = {t:g}: {name}"
                    because = "the trapezoid rule, normal factors 3 steps wide or more; tails at 9"
                    yield near(words, getattr(case.marginal, name)(t, x), value, 1e-9, because)
                marginal, gamma = (
                    case.marginal,
                    gamma_squared(case.path, torch.tensor(t, dtype=DOUBLE)).sqrt(),
                )
                whole = (1 - t) * marginal.base_denoiser(t, x) + t * marginal.denoiser(t, x)
                whole = whole + gamma * marginal.noise(t, x)
                yield equal(f"{case.words}, t = {t:g}: αη₀ + βη₁ + γη_z", whole, x)

    return Claim(
        "means-by-quadrature",
        "The conditional means of both ends, the noise and the motion are ratios of integrals "
        "over the two ends, and obey αη₀ + βη₁ + γη_z = x.",
        cases(law=line_mixture, scale=1.0),
        check,
        (
            dial("E[x1|x] × (1 + δ)", scaled_field("denoiser")),
            dial("E[x0|x] × (1 + δ)", scaled_field("base_denoiser")),
            dial("b × (1 + δ)", scaled_field("velocity")),
            dial("s_k × (1 + δ)", each(wider)),
        ),
        formula=r"\eta_Y(t,x) = \mathbb E[Y \mid x_t = x]",
        entries=("L5.14", "H5.3", "L5.15"),
        owes="minimiser",
    )


def _ratios(case: Case, t: float, x: Tensor) -> dict[str, Tensor]:
    """E[y | x_t = x] on the line, by the trapezoid rule."""
    law, time = case.law, torch.tensor(t, dtype=DOUBLE)
    x1 = torch.linspace(-6, 6, 241, dtype=DOUBLE)
    data = law.log_prob(x1[:, None])
    if not case.path.latent:
        x0 = (x - t * x1) / (1 - t)  # (points, x1)
        weights = torch.softmax(data - 0.5 * x0**2, 1)
        means = {"denoiser": x1 + 0 * x0, "base_denoiser": x0, "velocity": x1 - x0}
        return {name: (weights * value).sum(1, keepdim=True) for name, value in means.items()}
    gamma = float(gamma_squared(case.path, time).sqrt())
    rate = gamma_rate(case.path, time)
    x0 = torch.linspace(-9, 9, 181, dtype=DOUBLE)[:, None]
    z = (x[:, :, None] - (1 - t) * x0 - t * x1) / gamma  # (points, x0, x1)
    log_weights = data - 0.5 * x0**2 - 0.5 * z**2
    weights = torch.softmax(log_weights.flatten(1), 1).reshape(z.shape)
    first = (weights.sum(2) @ x0).reshape(-1, 1)
    last = (weights.sum(1) @ x1).reshape(-1, 1)
    noise = (weights * z).sum((1, 2)).reshape(-1, 1)
    velocity = last - first + rate * noise
    return {"base_denoiser": first, "denoiser": last, "noise": noise, "velocity": velocity}


def coupled_labels() -> Labelled:
    """Two components on each side, whose labels agree more often than not."""
    base = GaussianMixture(
        torch.tensor([0.4, 0.6], dtype=DOUBLE),
        torch.tensor([[-0.8, 0.3], [0.5, 0.9]], dtype=DOUBLE),
        torch.tensor([0.7, 1.2], dtype=DOUBLE),
    )
    joint = torch.tensor([[0.25, 0.15], [0.05, 0.55]], dtype=DOUBLE)
    path = LinearPath(PLANE, linear_schedule("sqrt", 1.3))
    return Labelled(path, base, MixtureMarginal(path, mixture(), base, joint))


@dataclass(frozen=True)
class Labelled:
    """A path between mixtures with dependent labels, and its exact marginal."""

    path: LinearPath
    base: GaussianMixture
    marginal: MixtureMarginal


def labels() -> Claim[Labelled]:
    """Mean and covariance of draws per pair of labels."""

    def check(found: Labelled, trial: Trial) -> Iterator[Evidence]:
        rng, count, t = trial.rng(), trial.count(40_000), 0.7
        law = found.marginal.mixture
        assert isinstance(law, GaussianMixture)
        known = found.marginal.components(t)
        joint = found.marginal.coupling
        assert isinstance(known, GaussianMixture) and joint is not None
        yield equal("weights", known.weights, joint.flatten())
        for k, (i, j) in enumerate(found.marginal.labels.tolist()):
            x0, x1 = (
                end.means[label] + end.stds[label] * normal(count, 2, rng=rng)
                for end, label in ((found.base, i), (law, j))
            )
            gap = found.path.draw(torch.tensor(t), x0, x1, rng).state - known.means[k]
            yield mean(f"mean of labels {i}, {j}", gap, 0.0)
            square = (gap[:, :, None] * gap[:, None, :]).flatten(1)
            covariance = (known.stds[k] ** 2).diag().flatten()
            yield mean(f"covariance of labels {i}, {j}", square, covariance)
        index = torch.multinomial(law.weights, count, True, generator=rng)
        drawn = law.sample(count, rng)
        other = law.means[index] + law.stds[index] * normal(count, 2, rng=rng)
        features = torch.cat([drawn - other, drawn**2 - other**2], 1)
        yield mean("draws of the mixture", features, 0.0)

    def changed(name: str) -> Callable[[Labelled, float], Labelled]:
        def plant(found: Labelled, size: float) -> Labelled:
            right = found.marginal.components

            def components(t: float) -> Any:
                law = right(t)
                return replace(law, **{name: (1 + size) * getattr(law, name)})

            return replace(found, marginal=but(found.marginal, components=components))

        return plant

    def independent(found: Labelled) -> Labelled:
        return replace(found, marginal=but(found.marginal, coupling=torch.full((2, 2), 0.25)))

    return Claim(
        "labels",
        "Draws whose ends come from one component each have that pair's mean and covariance, and "
        "the pair its joint probability.",
        coupled_labels,
        check,
        (
            dial("μ_ij × (1 + δ)", changed("means"), 0.5),
            dial("s_ij × (1 + δ)", changed("stds"), 0.5),
            Control("labels as if all pairs were equally likely", independent),
        ),
        formula=r"x_t \mid ij \sim N\big(\alpha m_{0i} + \beta m_{1j},\; \alpha^2 C_{0i} + "
        r"\beta^2 C_{1j} + \gamma^2 I\big)",
        entries=("L5.13",),
    )


# -- score identities ----------------------------------------------------------------------------


def noise_alone(gen: MarkovGenerator) -> MarkovGenerator:
    """The diffusion part."""

    def evaluate(t: Tensor, x: Any) -> Parts:
        return replace(gen.evaluate(t, x), velocity=None)

    return replace(gen, evaluate=evaluate, has=frozenset({"diffusion"}))


def rows(case: Case, t: Tensor) -> Callable[[Tensor], Tensor]:
    """The marginal's log p_t, also for copies of the whole batch."""
    return lambda y: case.marginal.log_prob(t.repeat(len(y) // len(t)), y)


def laplacian() -> Claim[Cases]:
    """Δρ/ρ = div s + |s|²."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in found:
            t, x = interior(trial.rng(), 15, 2)

            def density(y: Tensor, s: Tensor, case: Case = case) -> Tensor:
                return log_density(case, s[None], y[None]).exp()[0]

            hessian = torch.func.vmap(torch.func.hessian(density))(x, t)
            exactly = hessian.diagonal(dim1=1, dim2=2).sum(1) / torch.func.vmap(density)(x, t)
            s, divergence = exact_divergence(PLANE, case.marginal.field("score"), t, x)
            found_here = divergence + s.square().sum(1)
            size = float(exactly.abs().max())
            yield equal(case.words, found_here, exactly, operations=4096, scale=size)
            gen = SDE(1.0).generator(case.path, "velocity", case.marginal.field("velocity"))
            change = noise_alone(gen).adjoint(rows(case, t), t, x)
            yield equal(
                f"{case.words}: L*ρ/ρ of noise", change, exactly, operations=4096, scale=size
            )

    return Claim(
        "laplacian",
        "The Laplacian of the density over the density is the divergence of the score plus its "
        "square.",
        cases(),
        check,
        (
            dial("s × (1 + δ)", scaled_field("score")),
            dial("log p × (1 + δ)", each(denser)),
        ),
        formula=r"\Delta\rho/\rho = \nabla\cdot s + |s|^2",
        entries=("L1.5",),
    )


def fisher() -> Claim[Cases]:
    """Fisher information: closed form, and the bounds in mean square."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        one, wide, mixed, straight = found
        axis = torch.linspace(-18, 18, 1801, dtype=DOUBLE)[:, None]
        because = "the trapezoid rule; tails beyond 18"
        for t in (0.3, 0.7):
            square = float(gamma_squared(mixed.path, torch.tensor(t, dtype=DOUBLE)))
            (m, v), (n, w) = (_normal_law(case, t) for case in (one, wide))
            whole = _square(one, t, axis, one.marginal.field("score"))
            yield near(f"normal law, t = {t:g}", whole, 1 / v, 1e-9, because)
            relative = ((m - n) / w) ** 2 + (1 / w - 1 / v) ** 2 * v
            whole = _square(one, t, axis, one.marginal.field("score"), wide.marginal.field("score"))
            yield near(f"relative to another, t = {t:g}", whole, relative, 1e-9, because)
            whole = _square(mixed, t, axis, mixed.marginal.field("score"))
            yield at_most(f"E|s|² at t = {t:g}", whole, 1 / square, "Jensen: E[z|x] = −γ s")
        law = straight.law
        speed = float((law.weights[:, None] * (law.means**2 + law.stds**2)).sum()) + 1
        whole = _square(straight, 0.9, axis, straight.marginal.field("velocity"))
        yield at_most("E|b|² at t = 0.9", whole, speed, "Jensen: b = E[ẋ|x]")

    makers = (
        cases("sqrt", law=lambda: single(0.4, 0.6), scale=8.0),
        cases("sqrt", law=lambda: single(-0.3, 0.9), scale=8.0),
        cases("sqrt", law=line_mixture, scale=8.0),
        cases("none", law=line_mixture),
    )
    return Claim(
        "fisher-information",
        "The mean square of the score is 1/V for a normal law and at most d/γ² for any; the mean "
        "square of the velocity is at most that of the motion.",
        lambda: tuple(case for make in makers for case in make()),
        check,
        (
            dial("s × (1 + δ)", scaled_field("score")),
            Control("b × 2", lambda found: scaled_field("velocity")(found, 1.0)),
        ),
        formula=r"\int|s|^2\rho \le d/\gamma^2, \qquad \int|b|^2\rho \le \mathbb E|\dot x_t|^2",
        entries=("L1.6", "L2.5"),
    )


def _normal_law(case: Case, t: float) -> tuple[float, float]:
    """Mean and variance at t for data of one component."""
    square = float(gamma_squared(case.path, torch.tensor(t, dtype=DOUBLE)))
    return t * float(case.law.means), (1 - t) ** 2 + t**2 * float(case.law.stds) ** 2 + square


def _square(case: Case, t: float, axis: Tensor, field: Field, other: Field | None = None) -> float:
    """E|field − other|² by the trapezoid rule."""
    times = torch.full((len(axis),), t, dtype=DOUBLE)
    gap = field(times, axis) - (0.0 if other is None else other(times, axis))
    return float(
        (log_density(case, times, axis).exp() * gap[:, 0] ** 2).sum() * axis.diff(dim=0)[0]
    )


def smoothed() -> Claim[Cases]:
    """The law with latent noise is the law without, convolved with N(0, γ²)."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        plain, latent = found
        x = torch.linspace(-3, 3, 13, dtype=DOUBLE)
        y = torch.linspace(-9, 9, 1801, dtype=DOUBLE)
        h = float(y[1] - y[0])
        for t in (0.4, 0.7):
            gamma = float(gamma_squared(latent.path, torch.tensor(t, dtype=DOUBLE)).sqrt())
            kernel = torch.distributions.Normal(y, gamma).log_prob(x[:, None]).exp()
            whole = kernel @ plain.marginal.log_prob(t, y[:, None]).exp() * h
            found_here = latent.marginal.log_prob(t, x[:, None]).exp()
            because = "the trapezoid rule of normal factors 20 steps wide; tails beyond 9"
            yield near(f"convolution at t = {t:g}", found_here, whole, 1e-10, because)
        for case, modes in ((plain, 2), (latent, 1)):
            slope = case.marginal.log_prob(0.6, y[:, None]).diff().sign()
            count = int(((slope[:-1] > 0) & (slope[1:] < 0)).sum())
            yield exact(f"{case.words}: modes at t = 0.6", count, modes)

    def other(found: Cases, size: float) -> Cases:
        plain, latent = found
        square = latent.path.schedule.gamma_squared
        schedule = but(
            latent.path.schedule,
            gamma_squared=replace(square, value=lambda t: (1 + size) * square.value(t)),
        )
        path = but(latent.path, schedule=schedule)
        return plain, replace(latent, marginal=replace(latent.marginal, path=path))

    return Claim(
        "latent-smoothing",
        "Latent noise convolves the law with N(0, γ²), which can join two modes into one.",
        cases("none", "sqrt", law=line_mixture, scale=3.0),
        check,
        (dial("γ² × (1 + δ)", other), Control("γ² × 0.5", lambda found: other(found, -0.5))),
        formula=r"\rho_\gamma(t) = \rho_0(t) * N(0, \gamma^2 I)",
        entries=("L5.10",),
    )
