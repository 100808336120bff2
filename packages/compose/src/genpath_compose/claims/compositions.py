r"""Compositions: scores by differences, normal ones in closed form, and what text reads as."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from genpath.schedules import Scalar
from genpath.testing import Claim, Evidence, Trial, dial, equal, near
from genpath_interpolants.schedules import (
    linear_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

from ..compositions import Composition, parse
from ..experts import Expert, Reward
from ..exponents import Exponent
from ._scenes import DOUBLE, normal_expert
from .experts import exact_expert, places

__all__ = ["compositions"]


def compositions() -> list[Claim[Any]]:
    """Those of ratio paths."""
    return [ratios(), language(), normal_ratios()]


def _ratio() -> Composition:
    """Three experts on R^2 with three schedules; two exponents move."""
    a = exact_expert("linear", 2, "a")
    b = exact_expert("trigonometric", 1, "b")
    c = normal_expert(0.3, 0.9, variance_preserving_schedule(), "c", 2)
    bump = Exponent(1.4, Scalar(lambda t: 2 * t * (1 - t)))
    swing = Exponent(0.0, Scalar(lambda t: torch.sin(3 * t), lambda t: 3 * torch.cos(3 * t)))
    return a**bump * b.on(1) ** (2 * swing) / c**0.3


def ratios() -> Claim[Composition]:
    """The score by differences of log h, and γ̇ by differences of γ."""

    def check(one: Composition, trial: Trial) -> Iterator[Evidence]:
        t, x = places(trial, 2)
        step, right, slopes = 1e-4, _ratio(), []
        for axis in torch.eye(2, dtype=DOUBLE):
            ends = [right.log_density(t, x + k * step * axis) for k in (-2, -1, 1, 2)]
            slopes.append((8 * (ends[2] - ends[1]) - ends[3] + ends[0]) / (12 * step))
        log_size = float(right.log_density(t, x).abs().max())
        # the fifth derivative is below 1e5 where components have widths over .2
        allowance = step**4 / 30 * 1e5 + 8 * 2.3e-16 * log_size / step
        because = "h⁴f⁽⁵⁾/30 + 8 ε |log h|/h of the difference, h = 1e-4"
        yield near("s* at h's rate", one.score(t, x), torch.stack(slopes, 1), allowance, because)
        for term, gamma in zip(one.terms, one.exponents, strict=True):
            ends = [gamma(t + k * step) for k in (-2, -1, 1, 2)]
            slope = (8 * (ends[2] - ends[1]) - ends[3] + ends[0]) / (12 * step)
            because = "h⁴γ⁽⁵⁾/30 + 8ε/h of the difference, |γ⁽⁵⁾| ≤ 2·3⁵"
            tolerance = step**4 / 30 * 500 + 64 * 2.3e-16 / step
            yield near(f"rate of γ of {term.expert.name}", gamma.rate(t), slope, tolerance, because)

    def exponents(one: Composition, size: float) -> Composition:
        first, *rest = one.exponents
        return one.with_exponents([first + size, *rest])

    def rates(one: Composition, size: float) -> Composition:
        first, *rest = one.exponents
        moving = cast(Scalar, first.moving)
        wrong = Scalar(moving.value, lambda t: (1 + size) * moving.rate(t))
        return one.with_exponents([Exponent(first.constant, wrong), *rest])

    return Claim(
        "ratio-path",
        "The score of a composition is the gradient of its log-density, for exponents that move "
        "and experts on parts of the state; the rates of exponents are their derivatives.",
        _ratio,
        check,
        (dial("γ + δ", exponents, 0.5), dial("γ̇ × (1 + δ)", rates, 0.5)),
        formula=r"s^*=\nabla\log\prod_i q_i^{\gamma_i}=\sum_i\gamma_i(t)\,s_i",
        entries=("L7.1", "L8.3"),
        owes="reverse",
    )


def normal_ratios() -> Claim[Composition]:
    """Normal experts with an adapted exponent: h is normal, in closed form."""

    def make() -> Composition:
        top = normal_expert(1.0, 0.7, trigonometric_schedule(), "top")
        bottom = normal_expert(0.4, 1.3, linear_schedule(), "bottom")
        return top ** Exponent(1.0, Scalar(lambda t: 3 * t * (1 - t))) / bottom**0.7

    def check(one: Composition, trial: Trial) -> Iterator[Evidence]:
        t, x = places(trial, 1)
        half = 0.5 * math.pi * t
        parts = (
            (1 + 3 * t * (1 - t), half.sin() * 1.0, half.cos() ** 2 + half.sin() ** 2 * 0.49),
            (-0.7 * torch.ones_like(t), 0.4 * t, (1 - t) ** 2 + 1.69 * t**2),
        )
        precision = sum((g / v for g, _, v in parts), torch.zeros_like(t))
        shift = sum((g * m / v for g, m, v in parts), torch.zeros_like(t))
        reference = shift - precision * x[:, 0]
        yield equal("s* = P (m − x)", one.score(t, x)[:, 0], reference, operations=1e4)
        slope = torch.func.grad(lambda y: one.log_density(t, y).sum())(x)
        yield equal("∇ log h", slope[:, 0], reference, operations=1e4)
        law, log_z = one.start()
        yield equal("P at 0", law.precision, [0.3], operations=64)
        grid = torch.linspace(-40, 40, 20_001, dtype=DOUBLE)[:, None]
        log_h = one.log_density(torch.zeros(len(grid), dtype=DOUBLE), grid)
        total = float(log_h.exp().sum() * (grid[1] - grid[0]))
        yield near("Z_0", math.exp(log_z), total, 1e-9, "the trapezoid rule on an entire function")

    def plant(one: Composition, size: float) -> Composition:
        first, second = one.exponents
        return one.with_exponents([first, second + size])

    return Claim(
        "adapted",
        "The target of adapted exponents is the ratio path with them: for normal experts a normal "
        "law, with the closed form of its score and of the normaliser of its start.",
        make,
        check,
        (dial("γ₂ + δ", plant, 0.2),),
        formula=r"s^*=P(m-x),\quad P=\sum_i\tilde\gamma_i/\sigma_i^2",
        entries=("L8.15",),
        owes="existence",
    )


TEXTS: dict[str, Callable[..., Tensor]] = {
    "a ** 0.6": lambda a, b, c: 0.6 * a,
    "(a * b) ** 1.7": lambda a, b, c: 1.7 * (a + b),
    "a ** (1 - 0.3) * b ** 0.3": lambda a, b, c: 0.7 * a + 0.3 * b,
    "a ** (1 + 2.5) / b ** 2.5": lambda a, b, c: 3.5 * a - 2.5 * b,
    "a * c ** 2": lambda a, b, c: a + 2 * c,
    "((a / b) ** 2 * b) ** -0.5 * a": lambda a, b, c: -0.5 * (2 * (a - b) + b) + a,
    "a[0, 1] / (b * a) ** (1 / 4)": lambda a, b, c: a - 0.25 * (a + b),
}
"""Annealing, a product, a geometric mean, guidance, a tilt, and nested ones."""


def language() -> Claim[Callable[[str, Mapping[str, Expert]], Composition]]:
    """What is written in text, against sums of log-densities."""

    def check(read: Any, trial: Trial) -> Iterator[Evidence]:
        known: dict[str, Expert] = {
            "a": exact_expert("linear", 2, "a"),
            "b": exact_expert("trigonometric", 2, "b"),
            "c": Reward(lambda x: torch.sin(x).sum(1), (2,), "c"),
        }
        t, x = places(trial, 2)
        logs = [known[name].log_prob(t, x) for name in "abc"]
        for text, formula in TEXTS.items():
            reference = formula(*logs)
            found = read(text, known)
            yield equal(text, found.log_density(t, x), reference, operations=1e3, scale=20.0)
            slope = torch.func.grad(
                lambda y, formula=formula: formula(*(known[n].log_prob(t, y) for n in "abc")).sum()
            )(x)
            yield equal(f"score of {text}", found.score(t, x), slope, operations=1e4, scale=20.0)

    def plant(read: Any, size: float) -> Any:
        def wrong(text: str, known: Mapping[str, Expert]) -> Composition:
            found: Composition = read(text, known)
            first, *rest = found.exponents
            return found.with_exponents([(1 + size) * first, *rest])

        return wrong

    return Claim(
        "language",
        "Annealing, products, geometric means, guidance and tilts, written as text, have the "
        "log-densities that they read as.",
        lambda: parse,
        check,
        (dial("the first exponent × (1 + δ)", plant, 0.5),),
        formula=r"q^{\beta},\ (q_1q_2)^{\beta},\ q_1^{1-\beta}q_2^{\beta},\ "
        r"q_c^{1+w}q_\varnothing^{-w},\ q\,e^{\beta r}",
        entries=("L7.2",),
    )
