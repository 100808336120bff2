r"""Reverse: the score identity, and every prediction from every other.

    s = −E[z|x]/γ     x = (1−t) B + t D + γ N     u = D − B + γ̇ N

for every coupling; with x0 ~ N(0, I) independent of x1 also everything from one quantity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.divergences import exact_divergence
from genpath.spaces import Euclidean
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, mean

from ..paths import LinearPath
from ..presets import linear
from .cases import (
    DOUBLE,
    GAMMAS,
    LINE,
    Case,
    Cases,
    cases,
    changed_rules,
    each,
    gamma_name,
    gamma_rate,
    gamma_squared,
    interior,
    normal,
    scaled_field,
    score_at,
)

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (score(), one_denoiser(), split(), coupled(), two_points(), tweedie())


def scaled_rules(gives: str) -> Any:
    """The rules that give a quantity, times 1 + δ, in every case."""

    def plant(case: Case, size: float) -> Case:
        path = changed_rules(case.path, lambda value: (1 + size) * value, gives)
        return replace(case, path=path)

    return each(plant)


def score() -> Claim[Cases]:
    """s = −E[z|x]/γ is the gradient of the log-density."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in found:
            t, x = interior(trial.rng(), trial.count(60), 2)
            slope = score_at(case, t, x)
            for name in ("noise", "velocity", "denoiser", "base_denoiser"):
                if name in case.path.predictions:
                    given = {name: case.marginal.field(name)(t, x)}
                    yield equal(
                        f"{case.words}: from {name}",
                        case.path.convert("score", given, t, x),
                        slope,
                        operations=ROUNDINGS,
                    )

    return Claim(
        "score-identity",
        "The score that follows from the mean noise, or from any other prediction, is the "
        "gradient of the log-density.",
        cases(),
        check,
        (
            dial("s × (1 + δ)", scaled_rules("score")),
            dial("E[z|x] × (1 + δ)", scaled_field("noise")),
            Control("s = +E[z|x]/γ", each(_turned)),
        ),
        formula=r"s = -\gamma^{-1}\,\mathbb E[z \mid x_t = x]",
        entries=("L1.15", "L2.9", "L5.4"),
        owes="reverse",
    )


ROUNDINGS = 2**15
"""A division by W = V + t k, which is 0.05 at t = 0.95, of differences that nearly cancel."""


def _turned(case: Case) -> Case:
    return replace(case, path=changed_rules(case.path, torch.neg, "score", "noise"))


def one_denoiser() -> Claim[Cases]:
    """b from one denoiser, where the other form is infinite too."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        t, x = interior(trial.rng(), 60, 2)
        ends = {"denoiser": 0.0, "base_denoiser": 1.0}
        for name, end in ends.items():
            for words, time in (("inside", t), (f"at t = {end:g}", torch.full_like(t, end))):
                given = {name: case.marginal.field(name)(time, x)}
                told = case.path.convert("velocity", given, time, x)
                exactly = case.marginal.velocity(time, x)
                yield equal(f"from {name} {words}", told, exactly, operations=ROUNDINGS)
        start = {"denoiser": case.marginal.denoiser(0.0, x)}
        told = case.path.convert("base_denoiser", start, 0.0, x)
        yield equal("E[x0|x] at t = 0", told, x)

    return Claim(
        "one-denoiser",
        "The velocity follows from either denoiser; the form in x1 is finite at t = 0 and the "
        "form in x0 at t = 1.",
        cases("none"),
        check,
        (
            dial("rules of u × (1 + δ)", scaled_rules("velocity")),
            dial("E[x1|x] × (1 + δ)", scaled_field("denoiser")),
            Control("−u", each(_turned_velocity)),
        ),
        formula=r"b = \frac{\dot\beta}{\beta}x + "
        r"\Big(\dot\alpha - \frac{\alpha\dot\beta}{\beta}\Big)\eta_z "
        r"= \frac{\dot\alpha}{\alpha}x + "
        r"\Big(\dot\beta - \frac{\beta\dot\alpha}{\alpha}\Big)\eta_1",
        entries=("L5.17",),
    )


def _turned_velocity(case: Case) -> Case:
    return replace(case, path=changed_rules(case.path, torch.neg, "velocity"))


def split() -> Claim[Cases]:
    """b = v − γγ̇ s, and b from two denoisers alone."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in found:
            t, x = interior(trial.rng(), trial.count(60), 2)
            marginal, path, time = case.marginal, case.path, t[:, None]
            d, b = marginal.denoiser(t, x), marginal.base_denoiser(t, x)
            gamma = gamma_squared(path, t).sqrt()[:, None]
            rate = gamma_rate(path, t)[:, None]
            slope = score_at(case, t, x)
            velocity = marginal.velocity(t, x)
            means = {"denoiser": d, "base_denoiser": b}
            yield equal(f"{case.words}: v − γγ̇ s", d - b - rate * gamma * slope, velocity)
            noise = marginal.noise(t, x)
            told = path.convert("velocity", {**means, "noise": noise}, t, x)
            yield equal(f"{case.words}: from all three", told, velocity, operations=ROUNDINGS)
            ratio = rate / gamma
            exactly = ratio * x - (1 + (1 - time) * ratio) * b + (1 - time * ratio) * d
            told = path.convert("velocity", means, t, x)
            yield equal(f"{case.words}: from η₀ and η₁", told, exactly, operations=ROUNDINGS)
            left = path.convert("base_denoiser", {"denoiser": d, "noise": noise}, t, x)
            yield equal(f"{case.words}: η₀ from the others", left, b, operations=ROUNDINGS)

    return Claim(
        "velocity-splits",
        "The velocity is E[x1 − x0 | x] − γγ̇ s, the weighted sum of the three conditional means, "
        "and a function of two of them.",
        cases("sqrt", "quadratic", base="any"),
        check,
        (
            dial("b × (1 + δ)", scaled_field("velocity")),
            dial("E[z|x] × (1 + δ)", scaled_field("noise")),
            Control("no γ̇ E[z|x]", each(_no_rate)),
        ),
        formula=r"b = v - \gamma\dot\gamma s = \frac{\dot\gamma}{\gamma}x + "
        r"\Big(\dot\alpha - \frac{\alpha\dot\gamma}{\gamma}\Big)\eta_0 + "
        r"\Big(\dot\beta - \frac{\beta\dot\gamma}{\gamma}\Big)\eta_1",
        entries=("L2.8", "L5.3", "H5.1"),
    )


def _no_rate(case: Case) -> Case:
    def plain(t: Tensor, x: Tensor, v: Tensor, latent: Tensor) -> Tensor:
        return v

    rules = tuple(
        replace(rule, formula=plain) if rule.gives == "velocity" and len(rule.needs) == 2 else rule
        for rule in case.path.rules
    )
    return replace(case, path=but(case.path, rules=rules))


# -- other couplings -----------------------------------------------------------------------------

Paths = tuple[LinearPath, ...]
PLANE = Euclidean(2)


def coupled() -> Claim[Paths]:
    """Normal ends that depend on each other: fields from the joint covariance."""

    def check(paths: Paths, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), 30
        half = normal(4, 4, rng=rng) / 2
        joint, shift = half @ half.T + 0.3 * torch.eye(4, dtype=DOUBLE), normal(4, rng=rng)
        x = normal(count, 2, rng=rng)
        for path in paths:
            for t in (0.3, 0.8):
                exactly = _conditioned(path, joint, shift, t, x)
                for name in path.predictions:
                    if "+" in name:
                        exactly[name] = torch.stack([exactly[n] for n in name.split("+")], 1)
                for rule in path.rules:
                    given = (exactly[name] for name in rule.needs)
                    told = rule.formula(torch.full((count,), t, dtype=DOUBLE), x, *given)
                    words = (
                        f"γ {gamma_name(path)}, t = {t:g}: {', '.join(rule.needs)} → {rule.gives}"
                    )
                    yield equal(words, told, exactly[rule.gives], operations=ROUNDINGS)

    def plant(gives: str) -> Any:
        def wrong(paths: Paths, size: float) -> Paths:
            return tuple(
                changed_rules(path, lambda value: (1 + size) * value, gives) for path in paths
            )

        return wrong

    def gaussian(paths: Paths) -> Paths:
        # rules that hold only where x0 is standard normal and independent of x1
        return tuple(replace(path, base="gaussian") for path in paths)

    return Claim(
        "dependent-ends",
        "For normal ends that depend on each other, the rules without assumptions give the "
        "conditional means, the velocity and the score of the joint normal law.",
        lambda: tuple(linear(PLANE, gamma, 1.3) for gamma in GAMMAS),
        check,
        (
            dial("u × (1 + δ)", plant("velocity")),
            dial("D × (1 + δ)", plant("denoiser")),
            Control("the rules of an independent normal base", gaussian),
        ),
        formula=r"s = -V^{-1}(x - M), \quad b = \dot M + K(x - M)",
        entries=("F1",),
    )


def _conditioned(
    path: LinearPath, joint: Tensor, shift: Tensor, t: float, x: Tensor
) -> dict[str, Tensor]:
    """E[y | x_t] of jointly normal (y, x_t), and V' = K V + V Kᵀ for the velocity."""
    eye, time = torch.eye(2, dtype=DOUBLE), torch.tensor(t, dtype=DOUBLE)
    picks = {"base_denoiser": torch.eye(2, 4), "denoiser": torch.eye(4)[2:]}

    def blend(s: Tensor) -> Tensor:
        return torch.cat([(1 - s) * eye, s * eye], 1)

    def gamma(s: Tensor) -> Tensor:
        return gamma_squared(path, s).clamp_min(1e-300).sqrt()

    at, rate = blend(time), torch.cat([-eye, eye], 1)
    spread = at @ joint @ at.T + gamma_squared(path, time) * eye
    inverse = torch.linalg.inv(spread)
    gap = (x - at @ shift) @ inverse
    found = {n: p.double() @ shift + gap @ (p.double() @ joint @ at.T).T for n, p in picks.items()}
    found["score"] = -gap
    found["noise"] = gamma(time) * gap
    cross = rate @ joint @ at.T
    found["interpolant_velocity"] = rate @ shift + gap @ cross.T
    if path.latent:  # Cov(γ̇ z, x) = γ̇ γ
        cross = cross + 0.5 * torch.func.grad(lambda s: gamma_squared(path, s))(time) * eye
    found["velocity"] = rate @ shift + gap @ cross.T
    return found


# -- data on two points --------------------------------------------------------------------------


def two_points() -> Claim[LinearPath]:
    """x1 = ±1: the closed forms."""

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-2.5, 2.5, 41, dtype=DOUBLE)[:, None]
        for t in (0.2, 0.5, 0.8, 0.95):

            def log_p(y: Tensor, t: float = t) -> Tensor:
                two = torch.cat([y - t, y + t], 1)
                terms = Normal(0 * two, 1 - t, validate_args=False).log_prob(two)
                return torch.logsumexp(terms, 1).sum()

            mean = torch.tanh(t * x / (1 - t) ** 2)
            slope = torch.func.grad(log_p)(x)
            base = (x - t * mean) / (1 - t)
            exactly = {"denoiser": mean, "base_denoiser": base, "score": slope}
            exactly["velocity"] = mean - base
            for a, given in exactly.items():
                for b, right in exactly.items():
                    told = path.convert(b, {a: given}, t, x)
                    words, size = f"t = {t:g}: {a} → {b}", 4.0 / (1 - t) ** 2
                    yield equal(words, told, right, operations=ROUNDINGS, scale=size)

    def wrong(gives: str) -> Any:
        return lambda path, size: changed_rules(path, lambda value: (1 + size) * value, gives)

    return Claim(
        "two-points",
        "For data on ±1 the denoiser is tanh(βx/α²); the other predictions that follow from it "
        "are the closed forms.",
        lambda: LinearPath(LINE, base="gaussian"),
        check,
        (
            dial("s × (1 + δ)", wrong("score")),
            dial("u × (1 + δ)", wrong("velocity")),
            dial("D × (1 + δ)", wrong("denoiser")),
        ),
        formula=r"\eta_1 = \tanh\frac{\beta x}{\alpha^2}, \quad s = -\frac{x-\beta\eta_1}{\alpha^2}"
        r" = -\frac{\eta_z}{\alpha}, \quad b = \dot\alpha\eta_z + \dot\beta\eta_1",
        entries=("F5", "L5.16"),
    )


def tweedie() -> Claim[LinearPath]:
    """The Bayes denoiser, and its risk without the clean data."""
    t = 0.6

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(60_000)
        x1 = 2.0 * torch.randint(2, (count, 1), generator=rng).double() - 1
        x = path.draw(t, normal(count, 1, rng=rng), x1, rng).state
        level = (1 - t) / t

        def denoise(times: Tensor, y: Any) -> Tensor:  # from the score at x = t y
            two = torch.tensor([[t, -t]], dtype=DOUBLE)
            weights = torch.softmax(-((t * y - two) ** 2) / (2 * (1 - t) ** 2), 1)
            slope = -(t * y - weights @ two.T) / (1 - t) ** 2
            return path.convert("denoiser", {"score": slope}, t, t * y)

        y = x / t
        yield equal(
            "E[x1 | x]",
            denoise(y[:50, 0], y[:50]),
            torch.tanh(x[:50] * t / (1 - t) ** 2),
            operations=ROUNDINGS,
        )
        value, divergence = exact_divergence(LINE, denoise, y[:, 0], y)
        risk = ((value - x1) ** 2).sum(1)
        told = ((value - y) ** 2).sum(1) + 2 * level**2 * divergence - level**2
        yield mean("Stein's estimate of the risk less the risk", told - risk, 0.0)

    return Claim(
        "bayes-denoiser",
        "The denoiser is (x + α²s)/β, and Stein's estimate of its risk, which sees no clean "
        "data, has the mean of the risk.",
        lambda: LinearPath(LINE, base="gaussian"),
        check,
        (
            dial("D × (1 + δ)", _scaled_denoiser, 0.5),
            Control("the score's sign", _turned_denoiser),
        ),
        formula=r"\mathbb E[x_1|x_t] = \frac{x_t + \alpha^2 s}{\beta}, \quad "
        r"\mathbb E|f(y) - x|^2 = \mathbb E[|f(y)-y|^2 + 2\sigma^2\nabla\cdot f] - d\sigma^2",
        entries=("L6.5",),
    )


def _scaled_denoiser(path: LinearPath, size: float) -> LinearPath:
    return changed_rules(path, lambda value: (1 + size) * value, "denoiser")


def _turned_denoiser(path: LinearPath) -> LinearPath:
    """(x − α²s)/β."""
    rules = tuple(
        replace(rule, formula=lambda t, x, s, own=rule.formula: own(t, x, -s))
        if rule.gives == "denoiser" and rule.needs == ("score",)
        else rule
        for rule in path.rules
    )
    return but(path, rules=rules)
