r"""Claims of lecture 8: bumps of one exponent, their sizes and their limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath.schedules import Scalar
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    dial,
    equal,
    exact,
    near,
    refusal,
)
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

from ..certificates import certify
from ..errors import RepairError
from ..exponents import Exponent
from ..radii import tail_radius_bound
from ..repairs import Bump, Repair, bump, fit_bump, quadratic, ramp
from ..tails import affine_tail
from ._judges import (
    stub,
)
from ._scenes import DOUBLE, collapse_toy

__all__ = ["claims", "compact"]

Fit = Callable[..., Bump]


def claims() -> list[Claim[Any]]:
    """Those of bumps."""
    return [shapes(), threshold(), course_numbers(), limits(), concentration()]


def shapes() -> Claim[Callable[..., Exponent]]:
    """Ends, rates and the minimum that the ramp smooths."""

    def check(make: Callable[..., Exponent], trial: Trial) -> Iterator[Evidence]:
        for end in (1.0, 0.9):
            for sharpness in (2.0, 8.0):
                found = make(3.0, 2.0, 0.2, end, sharpness)
                words = f"end {end:g}, p = {sharpness:g}"
                edges = found(torch.tensor([0.0, end], dtype=DOUBLE))
                yield equal(f"{words}: b at the ends", edges, torch.zeros(2, dtype=DOUBLE))
                t = torch.linspace(0.01, end - 0.01, 99, dtype=DOUBLE)
                true = torch.func.jvp(found, (t,), (torch.ones_like(t),))[1]
                yield equal(f"{words}: ḃ", found.rate(t), true, operations=500)
                h = 1e-6
                slope = (found(t + h) - found(t - h)) / (2 * h)
                because = "ε/h of the central difference, and h² b‴/6"
                yield near(f"{words}: a difference of b", slope, found.rate(t), 1e-8, because)
        t = torch.linspace(0, 1, 401, dtype=DOUBLE)
        least = torch.minimum(t, 0.2 * (1 - t))
        for sharpness in (4.0, 16.0, 64.0):
            soft = make(0.0, 1.0, 0.2, 1.0, sharpness)(t)
            yield at_most(f"p = {sharpness:g}: softmin ≤ min", soft, least, "", slack=1e-15)
            gap = least * (1 - 2 ** (-1 / sharpness))
            yield at_most("it is short by the factor 2^{−1/p}", least - gap, soft, "", slack=1e-15)
        kink = make(0.0, 1.0, 0.2, 1.0, math.inf)(t)
        yield exact("p = ∞: the minimum", kink, least)

    def drifting(make: Callable[..., Exponent], size: float) -> Callable[..., Exponent]:
        """Rates × (1 + δ)."""

        def wrong(*args: Any) -> Exponent:
            right = make(*args)
            inner = right.moving
            assert inner is not None
            return Exponent(0.0, Scalar(inner.value, lambda t: (1 + size) * inner.rate(t)))

        return wrong

    def lifted(make: Callable[..., Exponent], size: float) -> Callable[..., Exponent]:
        """b + δ t: it does not return to 0."""

        def wrong(*args: Any) -> Exponent:
            return make(*args) + Exponent(0.0, Scalar(lambda t: size * t, lambda t: size + 0 * t))

        return wrong

    return Claim(
        "bump-shapes",
        "Bumps vanish at both ends and state their exact rates; the ramp lies below min(t, τ(1−t)) "
        "by a factor of at most 2^{−1/p}.",
        lambda: bump,
        check,
        (dial("ḃ × (1 + δ)", drifting, 0.125), dial("b + δ t", lifted, 0.125)),
        formula=r"b(t) = B_1 t(1-t) + B_2 \operatorname{softmin}_p(t, \tau(1-t))",
        entries=("L8.13",),
        owes="existence",
    )


def _shrunk(fit: Fit, size: float) -> Fit:
    """B × (1 − δ)."""

    def wrong(*args: Any, **more: Any) -> Bump:
        found = fit(*args, **more)
        return replace(found, size=(1 - size) * found.size)

    return wrong


def threshold() -> Claim[Fit]:
    """F8: B > 4(2ω − 1)."""

    def check(fit: Fit, trial: Trial) -> Iterator[Evidence]:
        for omega in (0.55, 0.7, 0.95):
            toy = collapse_toy(omega, 0.0)
            found = fit(toy, 0, quadratic(), t_end=1.0)
            true = 4 * (2 * omega - 1)
            yield near(f"ω = {omega:g}: B", found.size, true, 1e-8, "dips are found to 1e-9")
            for factor, status in ((1.01, "exists"), (0.99, "collapses")):
                size = replace(found, size=factor * found.size)
                raised = toy.with_exponents([toy.exponents[0] + size.exponent, toy.exponents[1]])
                at = torch.linspace(0.01, 0.99, 981, dtype=DOUBLE)
                least = 1 + factor * found.size * at * (1 - at) - omega / ((1 - at) ** 2 + at**2)
                said = certify(raised, t_end=1.0).status
                yield exact(f"ω = {omega:g}, {factor:g} B", said, status)
                yield exact("its precision is positive", bool(least.min() > 0), status == "exists")

    return Claim(
        "bump-threshold",
        "The bump B t(1 − t) on the numerator of the collapsing ratio of normal laws repairs it if "
        "and only if B > 4(2ω − 1).",
        lambda: fit_bump,
        check,
        (dial("B × (1 − δ)", _shrunk, 0.05), Control("the margin doubled", _greedy)),
        formula=r"B^* = 4(2\omega - 1)",
        entries=("L8.6", "L8.13"),
        owes="existence",
    )


def _greedy(fit: Fit) -> Fit:
    """δ + 0.05 in place of δ."""

    def wrong(*args: Any, **more: Any) -> Bump:
        more["margin"] = more.get("margin", 0.0) + 0.05
        return fit(*args, **more)

    return wrong


def course_numbers() -> Claim[Fit]:
    """H8.2: numerator linear, denominator trigonometric, compact data."""

    def check(fit: Fit, trial: Trial) -> Iterator[Evidence]:
        cases = ((0.95, 0.05, 1.85917, 4.75, 5e-6), (1.8, 0.1, 7.7453, 82.25, 5e-5))
        for omega, tau, stated, sufficient, digit in cases:
            ratio = compact("linear") / compact("cosine") ** omega
            given = {"margin": 0.25, "t_start": tau, "t_end": 0.9}
            found = fit(ratio, 0, quadratic(), **given).size
            yield near(f"ω = {omega:g}: B*", found, stated, digit, "half of the last digit given")
            t = torch.linspace(tau, 0.9, 200_001, dtype=DOUBLE)
            need = (0.25 + omega / torch.cos(0.5 * math.pi * t) ** 2) * (1 - t) ** 2 - 1
            true = float((need / (t * (1 - t))).max())
            yield near("the closed quotient", found, true, 1e-8, "a grid of 200000 steps")
            bound = (0.25 * (1 - tau) + max(omega - 1, 0) / 0.1) / tau
            yield near("the sufficient size", bound, sufficient, 1e-9, "its closed form")
            yield at_most("B* ≤ the sufficient size", found, bound, "cos(πt/2) ≥ 1 − t")
        ratio = compact("linear") / compact("cosine") ** 0.95
        raised = fit(ratio, 0, quadratic(), margin=0.25, t_start=0.05, t_end=0.9)
        early = Repair(ratio, (raised,), certify(ratio), certify(ratio)).bumps[0]
        bumped = ratio.with_exponents([ratio.exponents[0] + early.exponent, ratio.exponents[1]])
        least = certify(bumped, t_end=0.05).minimum
        yield near("min C on [0, τ]", least, 0.05, 1e-9, "C(0) = 1 − ω, and C rises")
        status = certify(ratio, t_end=0.9).status
        yield exact("ω < 1: C > 0 everywhere without a bump", status, "exists")
        yield refusal(
            "ω ≥ 1: the start is no law",
            lambda: fit(compact("linear") / compact("cosine") ** 1.8, 0, quadratic()),
            RepairError,
            "C = -0.8 at t = 0",
        )

    return Claim(
        "bump-numbers",
        "With a linear numerator and a trigonometric denominator the least bump for δ = 0.25 is "
        "1.85917 (ω = 0.95) and 7.7453 (ω = 1.8, on [0.1, 0.9] alone), below the sufficient sizes "
        "4.75 and 82.25.",
        lambda: fit_bump,
        check,
        (dial("B × (1 − δ)", _shrunk, 0.01), Control("the margin too large by 0.05", _greedy)),
        formula=r"B^* = \max_t \frac{(\delta + \omega/\cos^2(\pi t/2))(1-t)^2 - 1}{t(1-t)}",
        entries=("H8.2", "L8.13", "X13"),
        owes="existence",
    )


def compact(kind: str, name: str = "", size: int = 1) -> Any:
    """An expert on compact data: "linear" or "cosine"."""
    schedule = linear_schedule() if kind == "linear" else trigonometric_schedule()
    return stub(affine_tail(schedule), size, name or kind)


def limits() -> Claim[Callable[..., Bump]]:
    """What no bump can do."""

    def check(fit: Fit, trial: Trial) -> Iterator[Evidence]:
        ratio = compact("cosine") / compact("linear") ** 0.7
        sizes = [fit(ratio, 0, quadratic(), t_end=t).size for t in (0.9, 0.99, 0.999)]
        for t, size in zip((0.9, 0.99, 0.999), sizes, strict=True):
            u = torch.linspace(0.2, t, 100_001, dtype=DOUBLE)
            need = 0.7 * torch.cos(0.5 * math.pi * u) ** 2 / (1 - u) ** 2 - 1
            true = float((need / (u * (1 - u))).max())
            yield near(f"t_end = {t:g}: B", size, true, 1e-6 * true, "a grid of 100000 steps")
        growth = sizes[2] / sizes[1]
        yield near("B grows as 1/(1 − t_end)", growth, 10.0, 0.3, "terms of order 1 − t_end, 1%")
        for t_end, end, words in (
            (1.0, 1.0, "a bump gains 1/(1 − t)"),
            (0.9, 0.9, "at t = 0.9"),
        ):
            yield refusal(
                f"t_end {t_end:g}, end {end:g}",
                partial(fit, ratio, 0, quadratic(end), t_end=t_end),
                RepairError,
                words,
            )
        a, b, low = compact("cosine", "a"), compact("cosine", "b"), compact("linear", "low")
        split = a.on(0) * b.on(1) / low.on(1) ** 0.7
        yield refusal("a bump of the wrong expert", lambda: fit(split, 0, quadratic()),
                      RepairError, "coordinate 1")  # fmt: skip
        yield exact("of the right one", fit(split, 1, quadratic()).size > 0)
        steep = fit(ratio, 0, ramp(0.1), t_end=0.9)
        raised = ratio.with_exponents([ratio.exponents[0] + steep.exponent, ratio.exponents[1]])
        yield near("a ramp's min C", certify(raised, t_end=0.9).minimum, 0.0, 1e-8, "least size")

    def constant(fit: Fit) -> Fit:
        """Sizes as if t_end were 0.9."""

        def wrong(*args: Any, **more: Any) -> Bump:
            return fit(*args, **{**more, "t_end": min(more.get("t_end", 0.9), 0.9)})

        return wrong

    return Claim(
        "limits-of-bumps",
        "The size of a bump grows as 1/(1 − t_end) against a deficit at t = 1; it must not vanish "
        "before t_end, and acts only where its expert looks.",
        lambda: fit_bump,
        check,
        (dial("B × (1 − δ)", _shrunk, 0.05), Control("t_end taken as 0.9", constant)),
        formula=r"b/\alpha^2 \sim (1-t)^{-1},\quad C \sim -c\,(1-t)^{-2}",
        entries=("L8.13", "L8.14", "X12"),
        owes="existence",
    )


def concentration() -> Claim[Fit]:
    """A bump on a path that exists."""

    def check(fit: Fit, trial: Trial) -> Iterator[Evidence]:
        toy = collapse_toy(0.45, 0.0)

        def floor(t: Tensor) -> Tensor:
            return 0.1 + 1.6 * t * (1 - t)

        found = fit(toy, 0, quadratic(), margin=floor, t_end=1.0)
        raised = toy.with_exponents([toy.exponents[0] + found.exponent, toy.exponents[1]])
        radii, limits_ = [], []
        for composition in (toy, raised):
            x = torch.linspace(-60, 60, 24_001, dtype=DOUBLE)
            at = torch.full((len(x),), 0.5, dtype=DOUBLE)
            law = composition.log_density(at, x[:, None]).softmax(0)
            centre = float((law * x).sum())
            order = (x - centre).abs().sort()
            mass = law[order.indices].cumsum(0)
            radii.append(float(order.values[mass >= 0.99][0]))
            least = certify(composition, [0.0, 0.5]).values[-1, 0]
            peak = math.sqrt(float(least) / (2 * math.pi))
            limits_.append(tail_radius_bound(peak, 0.0, float(least), 1, 0.01))
        # a normal law of precision C has the radius z/√C
        true = math.sqrt(0.1 / (0.1 + found.size / 4))
        yield near("the radius falls as 1/√C", radii[1] / radii[0], true, 2e-3, "cells of 0.005")
        for radius, limit in zip(radii, limits_, strict=True):
            yield at_most("the radius is below its bound", radius, limit, "L8.11")
        yield at_most("so does the bound", limits_[1], true * limits_[0], "", slack=1e-9)
        at = torch.linspace(0, 1, 4001, dtype=DOUBLE)
        level = 1 + found.size * at * (1 - at) - 0.45 / ((1 - at) ** 2 + at**2)
        yield near("C touches its floor", float((level - floor(at)).min()), 0.0, 1e-6, "4000 steps")
        ends = torch.tensor([0.0, 1.0], dtype=DOUBLE)
        yield equal("both ends stay", found.exponent(ends), torch.zeros(2, dtype=DOUBLE))

    return Claim(
        "concentration",
        "A bump on a path that exists raises C between the ends, and shrinks the radius as 1/√C.",
        lambda: fit_bump,
        check,
        (dial("B × (1 − δ)", _shrunk, 0.05), Control("δ + 0.05 in place of δ", _raised_floor)),
        formula=r"R_\varepsilon = O(\tilde C^{-1/2})",
        entries=("L8.27", "L8.11"),
        owes="control",
    )


def _raised_floor(fit: Fit) -> Fit:
    def wrong(*args: Any, **more: Any) -> Bump:
        floor = more["margin"]
        return fit(*args, **{**more, "margin": lambda t: floor(t) + 0.05 * (t > 0) * (t < 1)})

    return wrong
