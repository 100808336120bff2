r"""Boxes against quadrature over (x0, x1, z), automatic differentiation, draws and limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genpath.schedules import AffineSchedule
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

from ..boxes import BoxMarginal, BoxMixture, _by_nodes, _by_tails, checkerboard_boxes
from ..data import Checkerboard
from ..presets import linear, trigonometric
from .cases import DOUBLE, LINE, PLANE, normal

__all__ = ["claims"]

FIELDS = ("base_denoiser", "denoiser", "noise", "interpolant_velocity", "velocity", "score")


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (means(), motion(), scores(), tails(), ends(), laws())


def numbers(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def segments() -> BoxMixture:
    """Three intervals, two of which overlap."""
    return BoxMixture(
        numbers([-2.0], [0.1], [0.5]), numbers([-1.2], [1.0], [1.6]), numbers(0.5, 0.2, 0.3)
    )


def squares() -> BoxMixture:
    return checkerboard_boxes(Checkerboard(4, 4.0, DOUBLE))


def on_segments() -> BoxMarginal:
    return BoxMarginal(linear(LINE, "sqrt", 1.3), segments(), 0.8)


def on_squares() -> BoxMarginal:
    return BoxMarginal(trigonometric(PLANE, "quadratic", 2.0), squares())


def scaled(name: str) -> Control[BoxMarginal]:
    """The field ``name`` times 1 + δ."""

    def plant(one: BoxMarginal, size: float) -> BoxMarginal:
        right = getattr(one, name)
        return but(one, **{name: lambda t, x: (1 + size) * right(t, x)})

    return dial(f"{name} × (1 + δ)", plant, 0.5)


def legendre(low: float, high: float, count: int) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre nodes and weights on an interval."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(count))
    return low + (high - low) * (nodes + 1) / 2, (high - low) / 2 * weights


# -- densities and means ---------------------------------------------------------------------------


def _by_quadrature(
    schedule: AffineSchedule, law: BoxMixture, std: float, t: float, x: Tensor
) -> dict[str, Tensor]:
    """Density and means at points ``(n,)``: x1 and z integrated, x0 = (x − β x1 − γ z)/α."""
    time = torch.tensor(t, dtype=DOUBLE)
    parts = (schedule.alpha, schedule.beta, schedule.gamma)
    rates = [torch.func.grad(part)(time) for part in parts]
    alpha, beta, gamma = (part(time) for part in parts)
    z = torch.linspace(-9, 9, 401, dtype=DOUBLE)
    step, total = float(z[1] - z[0]), torch.zeros(4, len(x), dtype=DOUBLE)
    for low, high, weight in zip(law.lower, law.upper, law.weights, strict=True):
        y, share = legendre(float(low), float(high), 60)
        x0 = (x[:, None, None] - beta * y[:, None] - gamma * z) / alpha
        joint = torch.exp(-0.5 * (x0 / std) ** 2 - 0.5 * z**2) / (2 * math.pi * std * alpha)
        joint = joint * share[:, None] * step * weight / (high - low)
        terms = (joint, joint * x0, joint * y[:, None], joint * z)
        total = total + torch.stack([term.sum((1, 2)) for term in terms])
    density, base, data, latent = total[0], *(total[1:] / total[0])
    slow = rates[0] * base + rates[1] * data
    found = (base, data, latent, slow, slow + rates[2] * latent, -latent / gamma)
    return {"density": density, **dict(zip(FIELDS, found, strict=True))}


def means() -> Claim[BoxMarginal]:
    """Density and fields by integrals over the ends and the latent."""

    def check(one: BoxMarginal, trial: Trial) -> Iterator[Evidence]:
        right, x = on_segments(), torch.linspace(-2.5, 2.5, 5, dtype=DOUBLE)
        for t in (0.25, 0.8):
            reference = _by_quadrature(right.path.schedule, right.law, right.base_std, t, x)
            found = one.log_prob(t, x[:, None]).exp()
            yield equal(f"t = {t:g}: p", found, reference["density"], operations=4096)
            for name in FIELDS:
                value = getattr(one, name)(t, x[:, None])[:, 0]
                yield equal(f"t = {t:g}: {name}", value, reference[name], operations=4096)

    def even(one: BoxMarginal) -> BoxMarginal:
        return replace(one, law=replace(one.law, weights=torch.full((3,), 1 / 3, dtype=DOUBLE)))

    return Claim(
        "means",
        "Density, conditional means and motion are integrals over x1 and z of the density of x0.",
        on_segments,
        check,
        (
            dial("σ × (1 + δ)", lambda one, d: replace(one, base_std=(1 + d) * one.base_std)),
            Control("boxes weigh the same", even),
            *(scaled(name) for name in FIELDS),
        ),
        formula=r"p_t(x)=\iint \rho_0\!\left(\frac{x-\beta y-\gamma z}{\alpha}\right)"
        r"\alpha^{-d}\rho_1(y)\varphi(z)\,dy\,dz",
        owes="existence",
    )


def motion() -> Claim[BoxMarginal]:
    """The continuity equation, and mass."""

    def check(one: BoxMarginal, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        count = trial.count(40, 10)
        t = 0.05 + 0.9 * torch.rand(count, generator=rng, dtype=DOUBLE)
        x = 1.3 * normal(count, 2, rng=rng)
        change = torch.func.grad(lambda s: one.log_prob(s, x).sum())(t)
        slope = torch.func.grad(lambda y: one.log_prob(t, y).sum())(x)
        spread = torch.zeros(count, dtype=DOUBLE)
        for unit in torch.eye(2, dtype=DOUBLE):
            along = unit.expand_as(x).contiguous()
            pushed = torch.func.jvp(lambda y: one.velocity(t, y), (x,), (along,))[1]
            spread = spread + (pushed * unit).sum(1)
        flux = spread + (one.velocity(t, x) * slope).sum(1)
        size = float(change.abs().max()) + float(flux.abs().max())
        yield equal("∂t log p + div b + b·∇log p", change + flux, 0 * flux, operations=4096,
                    scale=size)  # fmt: skip
        axis = torch.arange(-7, 7.01, 0.1, dtype=DOUBLE)
        points = torch.cartesian_prod(axis, axis)
        for time in (0.0, 0.3, 0.7):
            mass = one.log_prob(time, points).exp().sum() * 0.01
            yield near(f"mass at t = {time:g}", mass, 1.0, 1e-9, "trapezoid rule, 7σ, h = σ/4")

    def slow(one: BoxMarginal) -> BoxMarginal:
        return but(one, velocity=one.interpolant_velocity)

    def heavy(one: BoxMarginal, size: float) -> BoxMarginal:
        right = one.log_prob
        return but(one, log_prob=lambda t, x: right(t, x) + size)

    return Claim(
        "continuity",
        "The density has mass 1 and is carried by the velocity b, and not by v.",
        on_squares,
        check,
        (Control("v in place of b", slow), scaled("velocity"), dial("log p + δ", heavy)),
        formula=r"\partial_t\log\rho+\nabla\cdot b+b\cdot\nabla\log\rho=0",
        entries=("L2.3",),
        owes="density",
    )


def scores() -> Claim[BoxMarginal]:
    """The score is the gradient of the log-density, far out too."""

    def check(one: BoxMarginal, trial: Trial) -> Iterator[Evidence]:
        x = trial.count(2, 2) * normal(200, 2, rng=trial.rng())
        for t in (0.0, 1e-6, 0.02, 0.5, 0.99):
            times = torch.full((len(x),), t, dtype=DOUBLE)
            slope = torch.func.grad(lambda y, s=times: on_squares().log_prob(s, y).sum())(x)
            yield equal(f"t = {t:g}", one.score(times, x), slope, operations=1024)

    return Claim(
        "score",
        "The score is the gradient of the log-density, from t = 0 to near t = 1.",
        on_squares,
        check,
        (scaled("score"), Control("its sign", lambda one: but(one, score=_minus(one.score)))),
        formula=r"s=-\bar R/\tau=\nabla\log\rho_t",
        owes="reverse",
    )


def _minus(field: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda t, x: -field(t, x)


# -- numbers ---------------------------------------------------------------------------------------


def tails() -> Claim[BoxMarginal]:
    """Far from the boxes, small boxes, and where two formulas meet."""

    def check(one: BoxMarginal, trial: Trial) -> Iterator[Evidence]:
        x = numbers(-30.0, -6.0, 0.3, 8.0, 40.0)
        for t in (1e-3, 0.3, 0.97):
            time = torch.tensor(t, dtype=DOUBLE)
            schedule, std = one.path.schedule, one.base_std
            beta, variance = schedule.beta(time), std**2 * schedule.alpha(time) ** 2
            variance = variance + schedule.gamma_squared(time)
            pieces = []
            for low, high, weight in zip(*_parts(segments()), strict=True):
                # panels that shrink towards both faces, where the integrand may be steep
                cuts = 0.5 * 4.0 ** -torch.arange(12, dtype=DOUBLE)
                edges = torch.cat((numbers(0), cuts.flip(0), 1 - cuts[1:], numbers(1)))
                for left, right in itertools.pairwise((low + (high - low) * edges).tolist()):
                    y, share = legendre(left, right, 20)
                    gaps = (x[:, None] - beta * y) ** 2 / (2 * variance)
                    pieces.append(torch.log(share * weight / (high - low)) - gaps)
            reference = torch.cat(pieces, 1).logsumexp(1) - 0.5 * torch.log(2 * math.pi * variance)
            found = one.log_prob(t, x[:, None])
            yield equal(f"t = {t:g}: log p", found / reference, 1 + 0 * x, operations=4096)
        width = torch.full((81,), 0.3, dtype=DOUBLE)
        middle = torch.linspace(-10, 10, 81, dtype=DOUBLE)
        nodes, cut = _by_nodes(width, middle), _by_tails(width, middle)
        yield equal("log mean by nodes and by tails", nodes[0], cut[0], operations=256)
        yield equal("mean by nodes and by tails", middle + width * nodes[1], cut[1], operations=256)

    def naive(one: BoxMarginal) -> BoxMarginal:
        def log_prob(t: float, x: Tensor) -> Tensor:
            time, schedule = torch.tensor(t, dtype=DOUBLE), one.path.schedule
            square = (one.base_std * schedule.alpha(time)) ** 2 + schedule.gamma_squared(time)
            beta, tau = schedule.beta(time), square.sqrt()
            low, high, weights = _parts(one.law)
            ends = [torch.special.ndtr((x - beta * c) / tau) for c in (low, high)]
            height: Tensor = ((ends[0] - ends[1]) * weights / (beta * (high - low))).sum(1)
            return height.log()

        return but(one, log_prob=log_prob)

    def shifted(one: BoxMarginal, size: float) -> BoxMarginal:
        return replace(one, law=replace(one.law, upper=one.law.upper + size))

    return Claim(
        "tails",
        "Log-densities hold to rounding 40 standard deviations out and near t = 0, where "
        "differences of Φ have no digits left.",
        on_segments,
        check,
        (Control("differences of Φ as they are written", naive), dial("u + δ", shifted, 0.5)),
    )


def _parts(law: BoxMixture) -> tuple[Tensor, Tensor, Tensor]:
    return law.lower[:, 0], law.upper[:, 0], law.weights


def ends() -> Claim[BoxMarginal]:
    """The base at t = 0 and the boxes at t = 1."""

    def check(one: BoxMarginal, trial: Trial) -> Iterator[Evidence]:
        law, std = squares(), one.base_std
        x = normal(20, 2, rng=trial.rng())
        base = torch.distributions.Normal(0.0, std).log_prob(x).sum(1)
        yield equal("t = 0: log p is the base's", one.log_prob(0.0, x), base)
        yield equal("t = 0: s = −x/σ²", one.score(0.0, x), -x / std**2)
        yield equal("t = 0: E[x1|x] = E[x1]", one.denoiser(0.0, x), 0 * x, operations=16)
        yield equal("t = 0: E[x0|x] = x", one.base_denoiser(0.0, x), x)
        inside = law.sample(20, trial.rng("inside"))
        found = one.log_prob(1.0, inside)
        yield equal("t = 1: log p is the boxes'", found, law.log_prob(inside))
        yield equal("t = 1: E[x1|x] = x", one.denoiser(1.0, inside), inside)
        yield equal("t = 1: s = 0 inside", one.score(1.0, inside), 0 * inside)
        out = numbers([5.0, 5.0], [1.5, 2.5], [-9.0, -1.5])
        nearest = numbers([2.0, 2.0], [1.5, 2.0], [-2.0, -1.5])
        yield near(
            "t = 1: E[x1|x] outside is the nearest point", one.denoiser(1.0, out), nearest,
            1e-12, "τ/|a| of the layer at a face",
        )  # fmt: skip

    def outer(one: BoxMarginal, size: float) -> BoxMarginal:
        return replace(one, law=replace(one.law, lower=one.law.lower - size))

    return Claim(
        "ends",
        "At t = 0 all is the base's, and at t = 1 the density is that of the boxes and x1 is x.",
        on_squares,
        check,
        (scaled("score"), scaled("denoiser"), dial("l − δ", outer, 0.25)),
        entries=(),
    )


def laws() -> Claim[BoxMixture]:
    """Draws, density and moments of the boxes."""

    def check(law: BoxMixture, trial: Trial) -> Iterator[Evidence]:
        right = segments()
        x = law.sample(trial.count(40_000, 10_000), trial.rng())
        edges = numbers(-2.0, -1.6, -1.2, 0.1, 0.5, 1.0, 1.6)
        middles = (edges[1:] + edges[:-1]) / 2
        share = right.log_prob(middles[:, None]).exp() * edges.diff()
        counts = torch.histogram(x[:, 0].clamp(-1.999, 1.599), edges).hist
        yield frequencies("draws between the faces", counts, share)
        yield equal("mass", share.sum(), 1.0)
        yield exact(
            "log p = −∞ outside", bool(law.log_prob(numbers([1.7], [-2.1])).max() == -math.inf)
        )
        centre, spread = law.moments()
        yield mean("mean", x, centre)
        yield mean("variance", (x - centre) ** 2, spread[0])
        board = Checkerboard(4, 4.0, DOUBLE)
        points = 2 * normal(500, 2, rng=trial.rng("points"))
        ours, theirs = checkerboard_boxes(board).log_prob(points), board.log_prob(points)
        yield equal("the checkerboard's density", ours.exp(), theirs.exp())

    def even(law: BoxMixture) -> BoxMixture:
        return replace(law, weights=torch.full((3,), 1 / 3, dtype=DOUBLE))

    def longer(law: BoxMixture, size: float) -> BoxMixture:
        return replace(law, upper=law.upper + size)

    def wider(law: BoxMixture, size: float) -> BoxMixture:
        centre, spread = law.moments()
        return but(law, moments=lambda: (centre, (1 + size) * spread))

    return Claim(
        "boxes",
        "Draws fall between the faces as the density says, with the exact mean and variance.",
        segments,
        check,
        (
            Control("boxes weigh the same", even),
            dial("u + δ", longer, 0.25),
            dial("variance × (1 + δ)", wider),
        ),
    )
