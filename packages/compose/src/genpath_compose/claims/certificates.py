r"""Claims of lecture 8: when a ratio path exists, measured by quadrature and exact densities."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from genpath.grids import TimeGrid
from genpath.samplers import Euler, integrate
from genpath.schedules import Scalar
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    dial,
    equal,
    exact,
    near,
    refusal,
)
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

from ..certificates import Certificate, certify
from ..compositions import Composition
from ..dynamics import Composed
from ..errors import PathCollapseError
from ..exponents import Exponent
from ._judges import (
    Judge,
    credulous,
    curvature,
    everywhere,
    lighter,
    log_integral,
)
from ._scenes import DOUBLE, collapse_toy, normal_expert

__all__ = ["claims"]


def claims() -> list[Claim[Any]]:
    """Those of the criterion axis by axis."""
    return [window(), growth(), hyperedges(), boundary(), running()]


def window() -> Claim[Judge]:
    """F8 with constant exponents."""

    def check(judge: Judge, trial: Trial) -> Iterator[Evidence]:
        for omega in (0.55, 0.7, 0.9):
            toy = collapse_toy(omega, 0.0)
            found = judge(toy, t_end=1.0)
            root = math.sqrt(2 * omega - 1)
            edges = torch.tensor(found.intervals, dtype=DOUBLE)
            true = torch.tensor([[(1 - root) / 2, (1 + root) / 2]], dtype=DOUBLE)
            if edges.shape != true.shape:
                edges = 0 * true
            because = "bisection to 2^-40 of a grid step, and the rounding allowed to C"
            yield near(f"ω = {omega:g}: the window", edges, true, 1e-9, because)
            picked = torch.arange(7, len(found.times), 97)
            true = torch.stack(
                [curvature(toy, float(found.times[i]), torch.zeros(1, dtype=DOUBLE))[0, 0]
                 for i in picked]
            )  # fmt: skip
            words = f"ω = {omega:g}: C and −∂² log h"
            yield equal(words, found.values[picked, 0], true, operations=300)
        exists = judge(collapse_toy(0.45, 0.0), t_end=1.0).status == "exists"
        yield exact("ω = 0.45: the path exists", exists)
        starts = [judge(collapse_toy(w, 0.0), t_end=1.0).intervals[0][0] for w in (0.9, 1.1)]
        yield exact("ω = 0.9: the start is valid", starts[0] > 0)
        yield exact("ω = 1.1: it is not", starts[1], 0.0)
        yield refusal(
            "a collapse raises",
            lambda: judge(collapse_toy(0.7, 0.0)).raise_or_warn("raise"),
            PathCollapseError,
            "collapses at t* = 0.183772, coordinate 0",
        )

    return Claim(
        "collapse-window",
        "A trigonometric numerator over a linear denominator with exponents 1 and −ω, ½ < ω < 1, "
        "is a law at both ends and none for |t − ½| < √(2ω − 1)/2.",
        lambda: certify,
        check,
        (
            dial("the exponent of the denominator × (1 − δ)", lighter, 0.01),
            Control("t* taken one grid step late", late),
        ),
        formula=r"P(t) = 1 - \frac{\omega}{(1-t)^2 + t^2}",
        entries=("L8.5", "L8.6", "F8"),
        owes="existence",
    )


def late(judge: Judge) -> Judge:
    """Intervals whose edges are times of the grid."""

    def wrong(*args: Any, **more: Any) -> Certificate:
        found = judge(*args, **more)
        later = tuple((math.ceil(a * 400) / 400, b) for a, b in found.intervals)
        return replace(found, intervals=later)

    return wrong


def growth() -> Claim[Judge]:
    """∫ over boxes and tubes of growing length, by quadrature of exact densities."""

    def check(judge: Judge, trial: Trial) -> Iterator[Evidence]:
        toy = collapse_toy(0.7, 0.0)
        found = judge(toy, t_end=1.0)
        for t in (0.05, 0.15, 0.22, 0.5, 0.78, 0.85, 0.95):
            gain = log_integral(toy, t, 120.0) - log_integral(toy, t, 60.0)
            diverges = gain > 1.0
            said = any(a < t < b for a, b in found.intervals)
            words = f"t = {t:g}: log ∫ grows by {gain:.3g} from |x| < 60 to 120"
            yield exact(words, said, diverges)
        for last, true in ((-0.5, None), (-1.2, (4.6, 15.4, 836.0))):
            three = _three(last)
            status = judge(three).status
            tubes = [_tube(three, r) for r in (2.0, 4.0, 8.0)]
            yield exact(f"γ3 = {last:g}", status, "exists" if true is None else "collapses")
            if true is not None:
                because = "half a unit of the last digit that the course gives"
                for r, value, stated in zip((2, 4, 8), tubes, true, strict=True):
                    slack = 0.5 if stated > 100 else 0.05
                    yield near(f"the tube to R = {r}", value, stated, slack, because)

    return Claim(
        "truncated-integrals",
        "Where C_k < 0 the integral of h over a tube along e_k grows without end; where all C_k "
        "are positive, integrals over boxes settle.",
        lambda: certify,
        check,
        (
            dial("the exponent of the denominator × (1 − δ)", lighter, 0.25),
            Control("coordinates forgotten", everywhere),
        ),
        formula=r"\int_{|x_k|<R,\,|x_j|\le 1} h_t \to \infty \iff C_k(t) < 0",
        entries=("L8.6", "H8.1", "X10"),
        owes="existence",
    )


def _three(last: float) -> Composition:
    """Three experts on the pairs (0, 1), (1, 2), (0, 2) of three coordinates: H8.1."""
    names = [normal_expert(0.0, 1.0, trigonometric_schedule(), name, 2) for name in "abc"]
    first, second, third = names
    found: Composition = first.on(0, 1) * second.on(1, 2) * third.on(0, 2) ** last
    return found


def _tube(composition: Composition, radius: float) -> float:
    """∫ h over |x_0| < R and the square |x_1|, |x_2| ≤ 1, over the same for R → 0 per length."""
    ends = (radius, 1.0, 1.0)
    axes = [torch.linspace(-e, e, 1 + 80 * (1 if i else 10), dtype=DOUBLE)
            for i, e in enumerate(ends)]  # fmt: skip
    x = torch.cartesian_prod(axes[0], axes[1][::8], axes[2][::8])
    at = torch.full((len(x),), 0.5, dtype=DOUBLE)
    values = composition.log_density(at, x).exp().reshape(801, 11, 11)
    lines = torch.trapezoid(values, axes[0], dim=0)
    centre = values[400]
    square = [axes[1][::8], axes[2][::8]]
    total, flat = (
        torch.trapezoid(torch.trapezoid(v, square[1], dim=1), square[0], dim=0)
        for v in (lines, centre)
    )
    return float(total / flat)


def hyperedges() -> Claim[Judge]:
    """Experts on parts of the state."""

    def check(judge: Judge, trial: Trial) -> Iterator[Evidence]:
        schedules = (trigonometric_schedule(), linear_schedule())
        a, b = (normal_expert(0.3, s, k, n, 2) for s, k, n in
                zip((1.0, 0.7), schedules, "ab", strict=True))  # fmt: skip
        c = normal_expert(-0.2, 1.2, linear_schedule(), "c")
        swing = Exponent(1.0, Scalar(lambda t: torch.sin(3 * t)))
        whole = a.on(0, 2) ** swing * b.on(2, 1) ** 1.3 / c.on(2) ** 0.6
        found = judge(whole, [0.1, 0.35, 0.6, 0.9])
        point = torch.tensor([0.3, -0.5, 0.2], dtype=DOUBLE)
        true = torch.stack([curvature(whole, float(t), point).diagonal() for t in found.times])
        yield equal("C_k and −∂_k² log h", found.values, true, operations=300)
        equal_ends = {-0.5: (0.5, 2.0, 0.5), -1.2: (-0.2, 2.0, -0.2)}
        for last, stated in equal_ends.items():
            value = judge(_three(last), [0.2, 0.7]).values[0]
            yield equal(f"γ3 = {last:g}", value, torch.tensor(stated, dtype=DOUBLE))
        lonely = judge((a.on(0, 2) * c.on(2)).sized(4))
        yield exact("a coordinate that no expert sees", lonely.status, "collapses")
        yield exact("which", lonely.blind, (1, 3))
        spread = [_spread((a.on(0, 1) * c.on(1)).sized(3), r) for r in (10.0, 20.0)]
        yield equal("the integral along it doubles with its length", spread[1] / spread[0], 2.0)

    return Claim(
        "hyperedges",
        "C_k adds up the experts that see coordinate k, and no others; a coordinate that none sees "
        "makes the integral infinite.",
        lambda: certify,
        check,
        (
            Control("coordinates forgotten", everywhere),
            dial("the exponent of the denominator × (1 − δ)", lighter, 0.125),
        ),
        formula=r"C_k(t) = \sum_{i:\,k\in I_i} \gamma_i(t)\,\kappa_{ik}(t)",
        entries=("H8.1", "L8.9"),
        owes="existence",
    )


def _spread(composition: Composition, radius: float) -> float:
    """∫ of h along coordinate 2 at a fixed point of the others, by the trapezoid rule."""
    x = torch.zeros(101, 3, dtype=DOUBLE)
    x[:, 2] = torch.linspace(-radius, radius, 101, dtype=DOUBLE)
    at = torch.full((101,), 0.5, dtype=DOUBLE)
    return float(torch.trapezoid(composition.log_density(at, x).exp(), x[:, 2]))


def boundary() -> Claim[Judge]:
    """C = 0: N(0, 1)/N(m, 1)."""

    def check(judge: Judge, trial: Trial) -> Iterator[Evidence]:
        schedule = trigonometric_schedule()
        top, shifted, same = (normal_expert(m, 1.0, schedule, n) for m, n in
                              ((0.0, "top"), (0.8, "shifted"), (0.0, "same")))  # fmt: skip
        for other in (shifted, same):
            found = judge(top / other)
            yield exact(f"N(0, 1)/{other.name}", found.status, "undecided")
            gain = log_integral(top / other, 0.5, 40.0) - log_integral(top / other, 0.5, 20.0)
            yield exact("neither is integrable, at different rates", gain > 0.5)
        near_zero = judge(top**1.05 / same, margin=0.1)
        yield exact("C = 0.05 exists", near_zero.status, "exists")
        yield exact("but not with a margin of 0.1", near_zero.keeps_margin, False)
        yield exact("it has one of 0.04", judge(top**1.05 / same, margin=0.04).keeps_margin)
        tangent = judge(collapse_toy(0.5, 0.0), t_end=1.0)
        yield exact("C that touches 0", tangent.status, "undecided")

    def strict(judge: Judge) -> Judge:
        """C = 0 counted as a collapse."""

        def wrong(*args: Any, **more: Any) -> Certificate:
            found = judge(*args, **more)
            return replace(found, status="collapses") if not found.exists else found

        return wrong

    return Claim(
        "boundary-case",
        "C = 0 decides nothing, and is said to be undecided; a margin asks for C ≥ δ.",
        lambda: certify,
        check,
        (Control("C = 0 counted as existence", credulous), Control("as a collapse", strict)),
        formula=r"C_k = 0:\ \text{undecided}",
        entries=("L8.10",),
        owes="existence",
    )


def running() -> Claim[Judge]:
    """Validity is not computability: F8 collapsed, run with constant exponents."""

    def check(judge: Judge, trial: Trial) -> Iterator[Evidence]:
        for omega, bump, status in ((0.7, 0.0, "collapses"), (0.7, 3.0, "exists")):
            toy = collapse_toy(omega, bump)
            composed, rng = Composed(toy, sigma=0.8), trial.rng()
            x = toy.start()[0].sample(trial.count(800, 200), rng).to(DOUBLE)
            grid = TimeGrid.uniform(50)
            end = integrate(Euler(), composed.generator(), composed.state(x, 0.0, rng), grid, rng)
            assert end.log_weight is not None
            fine = bool(end.state["x"].isfinite().all() & end.log_weight.isfinite().all())
            yield exact(f"bump {bump:g}: the run is finite", fine)
            yield exact(f"bump {bump:g}: the certificate", judge(toy, t_end=1.0).status, status)
            least = judge(toy, t_end=1.0).minimum
            at = torch.linspace(0, 1, 2001, dtype=DOUBLE)
            true = float((1 + bump * at * (1 - at) - omega / ((1 - at) ** 2 + at**2)).min())
            yield near(f"bump {bump:g}: min C", least, true, 1e-6, "a grid of 2000 steps")

    return Claim(
        "running-proves-nothing",
        "Particles of a collapsed path stay finite; only the certificate tells.",
        lambda: certify,
        check,
        (
            dial("the exponent of the denominator × (1 − δ)", lighter, 0.5),
            Control("finite numbers taken for existence", lambda judge: partial(_trusting, judge)),
        ),
        formula=r"\min_t C(t) < 0 \text{ and } X_t, A_t \text{ finite}",
        entries=("L8.22",),
        owes="control",
    )


def _trusting(judge: Judge, *args: Any, **more: Any) -> Certificate:
    return replace(judge(*args, **more), status="exists")
