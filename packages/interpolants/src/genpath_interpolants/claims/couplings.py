r"""Couplings and other times: ends that determine each other, and what x_t tells of x_s.

    x0 = U1, x1 = U1 + U2          b = t x/(1+t²)
    x1 = c x0                      b = (ȧ/a) x, a = 1 + (c − 1) t
    E[x_s | x_t] = (1−s) E[x0 | x_t] + s E[x1 | x_t]      without latent noise

The couplings are known in closed form, so the conditional expectations are too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import flow
from genpath.paths import Draw
from genpath.predictions import converted
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, mean

from ..paths import LinearPath
from .cases import DOUBLE, LINE, Cases, cases, changed_rules, normal, scaled_field

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (cloud(), elsewhere())


def cloud() -> Claim[LinearPath]:
    """The moving cloud: E[ẋ | x] differs from ẋ."""

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        rng, t = trial.rng(), 0.6
        u = normal(2, trial.count(40_000), 1, rng=rng)
        draw = path.draw(t, u[0], u[0] + u[1], rng)  # x_t = U1 + t U2
        gap = path.target("velocity", draw) - t / (1 + t**2) * draw.state
        yield mean("E[(ẋ − t x/(1+t²)) x]", gap * draw.state, 0.0)
        growth, x = 2.5, torch.linspace(-4, 4, 41, dtype=DOUBLE)[:, None]
        times = torch.full((41,), t, dtype=DOUBLE)

        def log_p(s: Tensor, y: Tensor) -> Tensor:  # a logistic law stretched by a(s)
            a = 1 + (growth - 1) * s
            w = y[:, 0] / a
            return -w - 2 * torch.nn.functional.softplus(-w) - torch.log(a)

        def end(s: Tensor, y: Any) -> Tensor:  # x1 = c x0 is a function of x_t
            found: Tensor = growth * y / (1 + (growth - 1) * s)[:, None]
            return found

        gen = flow(LINE, converted(path.rules, "denoiser", end, "velocity"))
        rate = torch.func.grad(lambda s: log_p(s, x).sum())(times)
        yield equal(
            "∂_t log p of a stretched logistic law",
            gen.adjoint(lambda y: log_p(times, y), times, x),
            rate,
            operations=256,
        )

    def faster(path: LinearPath, size: float) -> LinearPath:
        return but(path, target=lambda name, draw: (1 + size) * path.target(name, draw))

    return Claim(
        "moving-cloud",
        "Where x0 = U1 and x1 = U1 + U2 the velocity is t x/(1+t²), not ẋ = U2; and x1 = c x0 "
        "stretches any law, normal or not.",
        lambda: LinearPath(LINE),
        check,
        (
            dial("ẋ × (1 + δ)", faster, 0.5),
            Control("u = (D − x) from the other side", _backwards),
        ),
        formula=r"X = U_1 + tU_2:\; b = \frac{t\,x}{1+t^2}; \qquad "
        r"X = a(t)\,U:\; b = \frac{\dot a}{a}\,x",
        entries=("H1.3",),
    )


def _backwards(path: LinearPath) -> LinearPath:
    return changed_rules(path, torch.neg, "interpolant_velocity", "denoiser")


def elsewhere() -> Claim[Cases]:
    """E[x_s | x_t] from the two denoisers."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        rng, count, t, s = trial.rng(), trial.count(60_000), 0.45, 0.8
        x0, x1 = normal(count, 2, rng=rng), case.law.sample(count, rng)
        x = case.path.draw(t, x0, x1, rng).state
        later = case.path.draw(s, x0, x1, rng).state
        known = {"base_denoiser": case.marginal.base_denoiser(t, x)}
        noise = known["base_denoiser"]
        told = s / t * x + ((1 - s) - (1 - t) * s / t) * noise
        both = (1 - s) * noise + s * case.path.convert("denoiser", known, t, x)
        features = torch.stack([torch.ones(count), x[:, 0], x[:, 1].cos(), x[:, 0] * x[:, 1]], 1)
        gap = (later - told)[:, :, None] * features[:, None, :]
        yield mean("E[(x_s − E[x_s|x_t]) φ(x_t)]", gap.flatten(1), 0.0)
        yield equal("the same from both denoisers", both, told, operations=256)

    return Claim(
        "another-time",
        "E[x_s | x_t] follows from E[x0 | x_t] alone, for the straight path from a normal base.",
        cases("none"),
        check,
        (
            dial("E[x0 | x_t] × (1 + δ)", scaled_field("base_denoiser")),
            Control("x_1 in place of x_s", _late),
        ),
        formula=r"\mathbb E[x_s|x_t] = \frac{\beta_s}{\beta_t} x_t + "
        r"\Big(\alpha_s - \frac{\alpha_t\beta_s}{\beta_t}\Big)\eta_0(t, x_t)",
        entries=("L6.6",),
    )


def _late(found: Cases) -> Cases:
    (case,) = found

    def draw(t: float, *given: Any) -> Draw:
        return case.path.draw(1.0 if t > 0.5 else t, *given)

    return (replace(case, path=but(case.path, draw=draw)),)
