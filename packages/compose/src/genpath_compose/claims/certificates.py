r"""Claims of lecture 8: when a ratio path exists, measured by quadrature and exact densities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.grids import TimeGrid
from genpath.samplers import Euler, integrate
from genpath.schedules import Scalar
from genpath.spaces import Euclidean
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
    near,
    refusal,
)
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

from ..certificates import Certificate, certify
from ..compositions import Composition
from ..dynamics import Composed
from ..errors import PathCollapseError
from ..experts import ExactExpert, Expert, FieldExpert, Reparameterised
from ..exponents import Exponent
from ..radii import envelope, tail_mass_bound, tail_radius_bound
from ..supports import Boxes, Inclusion, check_supports
from ..tails import Tail, affine_tail, mixture_tail
from ._affine import DOUBLE, collapse_toy, normal_expert

__all__ = ["claims"]

Judge = Callable[..., Certificate]


def claims() -> list[Claim[Any]]:
    """Those of certificates, supports and radii."""
    return [
        window(),
        growth(),
        hyperedges(),
        compact(),
        boundary(),
        matrices(),
        mixtures(),
        supports(),
        tails(),
        clocks(),
        running(),
    ]


# -- faults --------------------------------------------------------------------------------------


def _heavier(judge: Judge, size: float) -> Judge:
    """Negative exponents × (1 − δ)."""

    def wrong(composition: Composition, *args: Any, **more: Any) -> Certificate:
        powers = [g if float(g(torch.zeros(1))) > 0 else g * (1 - size)
                  for g in composition.exponents]  # fmt: skip
        return judge(composition.with_exponents(powers), *args, **more)

    return wrong


def _credulous(judge: Judge) -> Judge:
    """C = 0, and whatever is not shown to collapse, counted as existence."""

    def wrong(*args: Any, **more: Any) -> Certificate:
        found = judge(*args, **more)
        return found if found.status == "collapses" else replace(found, status="exists")

    return wrong


def _everywhere(judge: Judge) -> Judge:
    """Coordinates forgotten: every expert counted in every coordinate."""

    def wrong(composition: Composition, *args: Any, **more: Any) -> Certificate:
        size = math.prod(composition.event_shape)
        experts = [_stub(_widened(t.expert.tail, size), size, "e") for t in composition.terms]
        powers = zip(experts, composition.exponents, strict=True)
        product = [expert**g for expert, g in powers]
        total = product[0]
        for factor in product[1:]:
            total = total * factor
        return judge(total, *args, **more)

    return wrong


def _widened(tail: Tail | None, size: int) -> Tail | None:
    """The same precision in every coordinate of a larger state."""
    if tail is None:
        return None
    inner = tail.precisions
    return Tail(lambda t: inner(t)[..., :1].repeat(1, 1, size))


def _stub(tail: Tail | None, size: int, name: str, **more: Any) -> FieldExpert:
    """An expert of which only the tail is asked."""
    return FieldExpert(lambda t, x: (x, -x), (size,), name, tail=tail, **more)


def _fixed(precisions: Tensor, size: int, name: str) -> FieldExpert:
    """An expert whose tail does not move: P_j ``(J, …)``."""
    return _stub(Tail(lambda t: precisions.expand(len(t), *precisions.shape)), size, name)


def _curvature(composition: Composition, t: float, x: Tensor) -> Tensor:
    """−∇² log h_t at x ``(d,)``, by automatic differentiation of exact densities."""
    at = torch.tensor([t], dtype=DOUBLE)
    found = torch.func.hessian(lambda y: composition.log_density(at, y[None])[0])(x)
    return -found.detach()


# -- the collapse of normal laws -----------------------------------------------------------------


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
                [_curvature(toy, float(found.times[i]), torch.zeros(1, dtype=DOUBLE))[0, 0]
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
            dial("the exponent of the denominator × (1 − δ)", _heavier, 0.01),
            Control("t* taken one grid step late", _late),
        ),
        formula=r"P(t) = 1 - \frac{\omega}{(1-t)^2 + t^2}",
        entries=("L8.5", "L8.6", "L7.28"),
        owes="existence",
    )


def _late(judge: Judge) -> Judge:
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
            gain = _log_integral(toy, t, 120.0) - _log_integral(toy, t, 60.0)
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
            dial("the exponent of the denominator × (1 − δ)", _heavier, 0.25),
            Control("coordinates forgotten", _everywhere),
        ),
        formula=r"\int_{|x_k|<R,\,|x_j|\le 1} h_t \to \infty \iff C_k(t) < 0",
        entries=("L8.6", "H8.1", "L8.9"),
        owes="existence",
    )


def _log_integral(composition: Composition, t: float, radius: float) -> float:
    x = torch.linspace(-radius, radius, 6001, dtype=DOUBLE)
    at = torch.full((len(x),), t, dtype=DOUBLE)
    found = composition.log_density(at, x[:, None])
    return float(found.logsumexp(0)) + math.log(2 * radius / 6000)


def _three(last: float, schedule: Any = None) -> Composition:
    """Three experts on the pairs (0, 1), (1, 2), (0, 2) of three coordinates: H8.1."""
    names = [normal_expert(0.0, 1.0, trigonometric_schedule(), name, 2) for name in "abc"]
    first, second, third = names
    return first.on(0, 1) * second.on(1, 2) * third.on(0, 2) ** last


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


# -- coordinates ---------------------------------------------------------------------------------


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
        true = torch.stack([_curvature(whole, float(t), point).diagonal() for t in found.times])
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
            Control("coordinates forgotten", _everywhere),
            dial("the exponent of the denominator × (1 − δ)", _heavier, 0.125),
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


# -- compact data --------------------------------------------------------------------------------


def two_points(schedule: Any, name: str) -> ExactExpert:
    """Data ±1, equally likely: F5."""
    path = LinearPath(Euclidean(1), schedule, base="gaussian")
    half = torch.full((2,), 0.5, dtype=DOUBLE)
    law = GaussianMixture(half, torch.tensor([[-1.0], [1.0]], dtype=DOUBLE), 0 * half)
    tail = affine_tail(schedule, radius=1.0)
    return ExactExpert(MixtureMarginal(path, law), (1,), name, tail=tail)


@dataclass(frozen=True)
class Compact:
    """What is said of compact data: the criterion and the envelopes."""

    judge: Judge = certify
    bounds: Callable[..., Any] = envelope


def compact() -> Claim[Compact]:
    """F5: two points, numerator trigonometric, denominator linear."""

    def check(thing: Compact, trial: Trial) -> Iterator[Evidence]:
        top = two_points(trigonometric_schedule(), "top")
        bottom = two_points(linear_schedule(), "bottom")
        x = torch.linspace(-30, 30, 2001, dtype=DOUBLE)
        for t in (0.0, 0.3, 0.6, 0.9):
            for expert, schedule in ((top, trigonometric_schedule()), (bottom, linear_schedule())):
                found = thing.bounds(schedule, t, 1.0)
                low, high = found.log_bounds(x.abs())
                value = expert.log_prob(torch.full((len(x),), t, dtype=DOUBLE), x[:, None])
                slack = 1e-12 * float(value.abs().max())
                words = f"{expert.name}, t = {t:g}"
                yield at_most(f"{words}: q ≤ its envelope", value, high, "|y| ≤ R", slack=slack)
                yield at_most(f"{words}: q ≥ its envelope", low, value, "|y| ≤ R", slack=slack)
        ratio = top / bottom**0.7
        found = thing.judge(ratio)
        first = found.first_violation if found.first_violation is not None else math.nan
        yield near("t*", first, 0.20731, 5e-6, "half a unit of the last digit given")
        for t in (first - 0.02, first + 0.02):
            level = float(thing.judge(ratio, [0.0, t]).values[-1, 0])
            far = torch.tensor([[1e4], [2e4]], dtype=DOUBLE)
            logs = ratio.log_density(torch.full((2,), t, dtype=DOUBLE), far)
            slope = -2 * logs / far[:, 0] ** 2
            reach = sum(
                2 * g * float(s.beta(torch.tensor(t)) / s.alpha(torch.tensor(t)) ** 2)
                for g, s in ((1.0, trigonometric_schedule()), (0.7, linear_schedule()))
            )
            because = "2 Σ |γ| B/|x| of the envelopes, and their constants"
            yield near(f"t = {t:.3f}: −2 log h/x²", slope[1], level, 1.1 * reach / 2e4, because)
            falls = bool(logs[1] < logs[0])
            yield exact(f"t = {t:.3f}: h falls far out", falls, level > 0)

    def narrow(thing: Compact, size: float) -> Compact:
        """The linear constant × (1 − δ)."""

        def bounds(*args: Any) -> Any:
            right = thing.bounds(*args)
            return replace(right, linear=(1 - size) * right.linear)

        return replace(thing, bounds=bounds)

    return Claim(
        "compact-data",
        "For data in a ball the law of x_t lies between two Gaussian envelopes with the precision "
        "of its noise, so that Σ γ_i/α_i² decides; for two points with ω = 0.7 it is negative from "
        "t* = 0.20731 on.",
        Compact,
        check,
        (
            dial("B × (1 − δ)", narrow, 0.125),
            Control(
                "the exponent of the denominator × 0.99",
                lambda thing: replace(thing, judge=_heavier(thing.judge, 0.01)),
            ),
        ),
        formula=r"q_t(x) \lessgtr c_\pm\, e^{-|x|^2/2\alpha^2 \pm B|x|},"
        r"\quad B = |\beta| R/\alpha^2",
        entries=("L8.7", "L8.8", "L8.9"),
        owes="existence",
    )


def boundary() -> Claim[Judge]:
    """C = 0: N(0, 1)/N(m, 1)."""

    def check(judge: Judge, trial: Trial) -> Iterator[Evidence]:
        schedule = trigonometric_schedule()
        top, shifted, same = (normal_expert(m, 1.0, schedule, n) for m, n in
                              ((0.0, "top"), (0.8, "shifted"), (0.0, "same")))  # fmt: skip
        for other in (shifted, same):
            found = judge(top / other)
            yield exact(f"N(0, 1)/{other.name}", found.status, "undecided")
            gain = _log_integral(top / other, 0.5, 40.0) - _log_integral(top / other, 0.5, 20.0)
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
        (Control("C = 0 counted as existence", _credulous), Control("as a collapse", strict)),
        formula=r"C_k = 0:\ \text{undecided}",
        entries=("L8.10",),
        owes="existence",
    )


# -- matrices and mixtures -----------------------------------------------------------------------


def matrices() -> Claim[Judge]:
    """Rotated normal laws: Cholesky factorisation and the diagonal case as oracles."""

    def check(judge: Judge, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        counted = [0, 0]
        for index in range(trial.count(40, 16)):
            d = 2 + index % 3
            turn = torch.linalg.qr(torch.randn(d, d, generator=rng, dtype=DOUBLE))[0]
            diagonals = 0.3 + torch.rand(3, d, generator=rng, dtype=DOUBLE)
            powers = (1.0, 0.4, -0.9)
            plain = _product([_fixed(v[None], d, "e") for v in diagonals], powers)
            turned = [turn @ torch.diag(v) @ turn.T for v in diagonals]
            rotated = _product([_fixed(p[None], d, "e") for p in turned], powers)
            total = torch.stack([g * p for g, p in zip(powers, turned, strict=True)]).sum(0)
            positive = int(torch.linalg.cholesky_ex(total)[1]) == 0
            counted[positive] += 1
            found, flat = judge(rotated, [0.2, 0.4]), judge(plain, [0.2, 0.4])
            yield exact("the verdict of Cholesky", found.exists, positive)
            yield exact("the verdict of the diagonal case", found.status, flat.status)
            because = "rounding of eigenvalues"
            yield near("min C", found.minimum, flat.minimum, 1e-12, because)
        yield exact("both verdicts occur", min(counted) > 0)
        for shift in (1e-6, -1e-6):
            yield from _near_zero(judge, shift)
        part = _fixed(torch.tensor([[[2.0, 0.9], [0.9, 1.0]]], dtype=DOUBLE), 2, "part")
        line = _fixed(torch.tensor([[1.0]], dtype=DOUBLE), 1, "line")
        found = judge(part.on(2, 0) * line.on(1) / line.on(0) ** 0.5, [0.2, 0.4])
        true = torch.tensor([[0.5, 0, 0.9], [0, 1, 0], [0.9, 0, 2.0]], dtype=DOUBLE)
        yield equal("Σ γ ι P ιᵀ", found.values[0], torch.linalg.eigvalsh(true))

    return Claim(
        "matrix-criterion",
        "With matrix tails the path exists where P_eff = Σ γ_i ι_i P_i ι_iᵀ is positive definite, "
        "and collapses where it has a negative eigenvalue.",
        lambda: certify,
        check,
        (
            dial("the exponent of the denominator × (1 − δ)", _heavier, 0.5),
            Control("the diagonal of P alone", _diagonal_only),
        ),
        formula=r"P_\mathrm{eff}(t) = \sum_i \gamma_i\, \iota_i P_i \iota_i^\top \succ 0",
        entries=("H8.5", "L8.9"),
        owes="existence",
    )


def _product(experts: list[FieldExpert], powers: tuple[float, ...]) -> Composition:
    pairs = zip(experts, powers, strict=True)
    factors = [expert**g for expert, g in pairs]
    total = factors[0]
    for factor in factors[1:]:
        total = total * factor
    return total


def _near_zero(judge: Judge, shift: float) -> Iterator[Evidence]:
    """A ratio of normal laws on the plane whose least eigenvalue is ± 1e-6: Z is known or not."""
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=DOUBLE)
    over = turn @ torch.diag(torch.tensor([1.0 + shift, 2.0], dtype=DOUBLE)) @ turn.T
    under = turn @ torch.diag(torch.tensor([1.0, 0.5], dtype=DOUBLE)) @ turn.T
    found = judge(_fixed(over[None], 2, "a") / _fixed(under[None], 2, "b"), [0.2, 0.4])
    yield near(f"P_eff near 0: {shift:g}", found.minimum, shift, 1e-12, "rounding")
    yield exact("its verdict", found.exists, shift > 0)


def _diagonal_only(judge: Judge) -> Judge:
    def wrong(composition: Composition, *args: Any, **more: Any) -> Certificate:
        def stripped(tail: Tail) -> Tail:
            inner = tail.precisions

            def plain(t: Tensor) -> Tensor:
                p = inner(t)
                return p.diagonal(0, -2, -1) if p.dim() == 4 else p

            return Tail(plain)

        terms = tuple(
            replace(term, expert=but(term.expert, tail=stripped(term.expert.tail)))
            for term in composition.terms
            if term.expert.tail is not None
        )
        return judge(replace(composition, terms=terms), *args, **more)

    return wrong


def mixtures() -> Claim[Judge]:
    """Ratios of mixtures on the plane: exact log-densities far out, in many directions."""

    def check(judge: Judge, trial: Trial) -> Iterator[Evidence]:
        rng, seen = trial.rng(), set()
        for index in range(trial.count(16, 8)):
            experts = [_mixture(rng, 2, n, s) for n, s in
                       (("a", linear_schedule()), ("b", trigonometric_schedule()))]  # fmt: skip
            ratio = experts[0] ** 1.6 / experts[1] ** (0.4 + 0.6 * (index % 8))
            t = 0.5
            found = judge(ratio, [t, t + 1e-3])
            low, high = float(found.lower[0, 0]), float(found.values[0, 0])
            least = _far(ratio, t)
            because = "4 Σ |γ| |m| P/r + 2 log w/r² at r = 10⁵, and 2·10⁻³ between directions"
            yield near("the least of −2 log h/r²", high, least, 2e-3, because)
            yield at_most("its bound from below", low, least, because, slack=2e-3)
            verdict = "exists" if least > 0 else "collapses"
            if abs(least) > 5e-3 and found.status != "undecided":
                yield exact(f"min C(u) = {least:.3f}", found.status, verdict)
                seen.add(verdict)
        yield exact("both verdicts occur", len(seen), 2)

    def mean_of(judge: Judge) -> Judge:
        """The narrowest component in place of the widest."""

        def wrong(composition: Composition, *args: Any, **more: Any) -> Certificate:
            def narrowest(tail: Tail) -> Tail:
                inner = tail.precisions
                return Tail(lambda t: inner(t).amax(1, keepdim=True))

            terms = tuple(
                replace(term, expert=but(term.expert, tail=narrowest(term.expert.tail)))
                for term in composition.terms
                if term.expert.tail is not None
            )
            return judge(replace(composition, terms=terms), *args, **more)

        return wrong

    return Claim(
        "mixture-tails",
        "Far out in the direction u a mixture falls as its component with the least uᵀ P_j u, so "
        "that C(u) = Σ γ_i min_j uᵀ P_ij u decides.",
        lambda: certify,
        check,
        (
            Control("the narrowest component in place of the widest", mean_of),
            dial("the exponent of the denominator × (1 − δ)", _heavier, 0.125),
        ),
        formula=r"C(u) = \sum_i \gamma_i \min_j u^\top P_{ij} u",
        entries=("L8.9", "H8.5"),
        owes="existence",
    )


def _mixture(rng: torch.Generator, size: int, name: str, schedule: Any) -> ExactExpert:
    """Three normal components with different axes-aligned spreads."""
    means = torch.randn(3, size, generator=rng, dtype=DOUBLE)
    stds = 0.5 + torch.rand(3, size, generator=rng, dtype=DOUBLE)
    law = GaussianMixture(torch.full((3,), 1 / 3, dtype=DOUBLE), means, stds)
    path = LinearPath(Euclidean(size), schedule, base="gaussian")
    return ExactExpert(MixtureMarginal(path, law), (size,), name, tail=mixture_tail(schedule, law))


def _far(composition: Composition, t: float, radius: float = 1e5) -> float:
    """The least −2 log h(r u)/r² over directions u of the plane."""
    angle = torch.linspace(0, math.pi, 2001, dtype=DOUBLE)
    u = torch.stack([angle.cos(), angle.sin()], 1)
    at = torch.full((len(u),), t, dtype=DOUBLE)
    return float((-2 * composition.log_density(at, radius * u) / radius**2).min())


# -- supports, radii, clocks ---------------------------------------------------------------------


def supports() -> Claim[Callable[[Composition], Inclusion]]:
    """Random unions of boxes on a lattice, against a count of its cells."""

    def check(judge: Callable[[Composition], Inclusion], trial: Trial) -> Iterator[Evidence]:
        def uniform(end: float, name: str) -> FieldExpert:
            box = Boxes(torch.zeros(1, 1, dtype=DOUBLE), torch.full((1, 1), end, dtype=DOUBLE))
            return _stub(affine_tail(linear_schedule()), 1, name, support=box)

        whole, half = uniform(1.0, "whole"), uniform(0.5, "half")
        yield exact("U[0, 1] over U[0, ½]", judge(whole / half).status, "violated")
        yield exact("U[0, ½] over U[0, 1]", judge(half / whole).status, "included")
        last = certify(whole * whole / half, t_end=1.0)
        yield exact("its certificate up to t = 1", last.status, "collapses")
        rng, seen = trial.rng(), set()
        for _ in range(trial.count(60, 30)):
            unions = [_lattice(rng, n) for n in (2, 3, 4)]
            experts = [_stub(None, 2, "abc"[i], support=u) for i, u in enumerate(unions)]
            found = judge(experts[0] * experts[1] / experts[2] ** 0.5).status
            cells = torch.cartesian_prod(*(torch.arange(6, dtype=DOUBLE) + 0.5 for _ in range(2)))
            inside = [u(cells) for u in unions]
            lost = bool((inside[0] & inside[1] & ~inside[2]).any())
            yield exact("a cell of the lattice", found, "violated" if lost else "included")
            seen.add(found)
        yield exact("both answers occur", len(seen), 2)

    def swapped(judge: Callable[[Composition], Inclusion]) -> Callable[[Composition], Inclusion]:
        return lambda composition: judge(composition**-1)

    def first_box(judge: Callable[[Composition], Inclusion]) -> Callable[[Composition], Inclusion]:
        """Only the first box of each union."""

        def wrong(composition: Composition) -> Inclusion:
            terms = tuple(
                replace(
                    term,
                    expert=but(term.expert, support=Boxes(box.lower[:1], box.upper[:1])),
                )
                for term in composition.terms
                if isinstance(box := term.expert.support, Boxes)
            )
            return judge(replace(composition, terms=terms))

        return wrong

    return Claim(
        "support-inclusion",
        "A ratio is a law at t = 1 only if the numerators' common support lies in the "
        "denominators'; for unions of boxes this is decided.",
        lambda: check_supports,
        check,
        (Control("numerator and denominator swapped", swapped), Control("one box each", first_box)),
        formula=r"\operatorname{supp}\prod_{\gamma_i>0} q_i \subset "
        r"\operatorname{supp}\prod_{\gamma_i<0} q_i",
        entries=("L8.4",),
        owes="existence",
    )


def _lattice(rng: torch.Generator, count: int) -> Boxes:
    """Boxes with corners in {0, …, 6}²."""
    low = torch.randint(0, 4, (count, 2), generator=rng)
    size = torch.randint(1, 6, (count, 2), generator=rng)
    return Boxes(low.double(), (low + size).clamp_max(6).double())


@dataclass(frozen=True)
class Radii:
    """The two bounds."""

    mass: Callable[..., float] = tail_mass_bound
    radius: Callable[..., float] = tail_radius_bound


def tails() -> Claim[Radii]:
    """p ∝ exp(−½ C r² + B r) in one and two dimensions, by quadrature of the radius."""

    def check(thing: Radii, trial: Trial) -> Iterator[Evidence]:
        stated = {1.0: 2.7, 0.1: 4.8, 0.01: 11.6}
        for d in (1, 2, 5):
            for c in (1.0, 0.1, 0.01):
                for b in (0.0, 1.0):
                    r, density, normaliser = _radial(b, c, d)
                    beyond = 1 - torch.cumulative_trapezoid(density, r)
                    true = float(r[1:][beyond <= 0.05][0])
                    words = f"d = {d}, C = {c:g}, B = {b:g}"
                    bound = thing.radius(1 / normaliser, b, c, d, 0.05)
                    yield at_most(f"{words}: R_ε", true, bound, "L8.11", slack=1e-3 * true)
                    for radius in (4 * b / c + 2 / math.sqrt(c), bound):
                        mass = float(density[r >= radius].sum() * (r[1] - r[0]))
                        limit = thing.mass(radius, 1 / normaliser, b, c, d)
                        yield at_most(f"{words}: P(|X| > {radius:.3g})", mass, limit, "L8.11",
                                      slack=1e-6)  # fmt: skip
                        integral = _majorant(radius, c, d) / normaliser
                        because = "∫ A e^{−Cr²/4} beyond R is below e^{−CR²/8} ∫ A e^{−Cr²/8}"
                        yield at_most(f"{words}: its own integral", min(integral, 1), limit,
                                      because, slack=1e-6)  # fmt: skip
                    if d == 1 and b == 1.0:
                        because = "half a unit of the last digit that the course gives"
                        yield near(f"{words}: R √C", true * math.sqrt(c), stated[c], 0.05, because)

    return Claim(
        "radius-bound",
        "p ≤ A exp(−½ C |x|² + B |x|) puts at most A (8π/C)^{d/2} e^{−CR²/8} beyond R ≥ 4B/C; with "
        "B > 0 fixed the radius grows as B/C, and not as C^{−1/2}.",
        Radii,
        check,
        (
            dial(
                "the exponent C R²/8 × (1 + δ)",
                lambda thing, size: Radii(
                    lambda r, *given: thing.mass(r * math.sqrt(1 + size), *given), thing.radius
                ),
            ),
            Control(
                "4B/C forgotten",
                lambda thing: Radii(thing.mass, lambda a, b, c, d, e: thing.radius(a, 0, c, d, e)),
            ),
            Control(
                "(8π/C)^{d/2} with half the dimension",
                lambda thing: Radii(
                    lambda r, a, b, c, d: thing.mass(r, a, b, c, d)
                    / (8 * math.pi / c) ** (d / 4), thing.radius
                ),
            ),
        ),
        formula=r"P(|X|>R) \le A\,(8\pi/C)^{d/2} e^{-CR^2/8},\quad R \ge 4B/C",
        entries=("L8.11", "H8.4"),
        owes="control",
    )  # fmt: skip


def _radial(b: float, c: float, d: int) -> tuple[Tensor, Tensor, float]:
    """r, the density of |X|, and ∫ exp(−½ C|x|² + B|x|) over R^d, by the trapezoid rule."""
    r = torch.linspace(0, b / c + 12 * math.sqrt(d / c), 20_001, dtype=DOUBLE)
    sphere = 2 * math.pi ** (d / 2) / math.gamma(d / 2)
    values = sphere * r ** (d - 1) * torch.exp(-0.5 * c * r**2 + b * r)
    total = float(torch.trapezoid(values, r))
    return r, values / total, total


def _majorant(radius: float, c: float, d: int) -> float:
    """∫ e^{−C|x|²/4} over |x| > R, by the incomplete gamma function."""
    upper = torch.special.gammaincc(
        torch.tensor(d / 2, dtype=DOUBLE), torch.tensor(c * radius**2 / 4, dtype=DOUBLE)
    )
    return float(upper) * (4 * math.pi / c) ** (d / 2)


def clocks() -> Claim[Callable[[Expert, Scalar], Expert]]:
    """An expert run by another clock; aligned noise levels."""
    square = Scalar(lambda t: t * t, lambda t: 2 * t)

    def check(run: Callable[[Expert, Scalar], Expert], trial: Trial) -> Iterator[Evidence]:
        path = LinearPath(Euclidean(1), linear_schedule(), base="gaussian")
        half = torch.full((2,), 0.5, dtype=DOUBLE)
        law = GaussianMixture(half, torch.tensor([[-1.0], [1.5]], dtype=DOUBLE), half)
        tail = mixture_tail(linear_schedule(), law)
        inner = ExactExpert(MixtureMarginal(path, law), (1,), "inner", tail=tail)
        slow = run(inner, square)
        x = torch.linspace(-3, 3, 41, dtype=DOUBLE)[:, None]
        t = torch.full((len(x),), 0.6, dtype=DOUBLE)
        inside = square(t)
        u = float(inside[0])
        spread = math.sqrt((1 - u) ** 2 + u**2 / 4)
        centres = u * torch.tensor([-1.0, 1.5], dtype=DOUBLE)
        parts = Normal(centres, torch.full((2,), spread, dtype=DOUBLE)).log_prob(x)
        true = parts.logsumexp(1) - math.log(2)
        yield equal("log q_{τ(t)}", slow.log_prob(t, x), true, operations=300)
        moved = torch.func.jvp(lambda s: slow.log_prob(s, x), (t,), (torch.ones_like(t),))[1]
        found = slow.fields(("velocity", "velocity_divergence", "score"), t, x)
        flow = -found["velocity_divergence"] - (found["velocity"] * found["score"]).sum(1)
        yield equal("∂_t log q = −div v − v·s", flow, moved, operations=2000, scale=10.0)
        assert slow.tail is not None
        yield equal("its tail", slow.tail.precisions(t), tail.precisions(inside))
        # the clock that gives the numerator the noise of the denominator: 1 − τ = cos(πt/2)
        align = Scalar(lambda t: 1 - torch.cos(0.5 * math.pi * t))
        top = _stub(affine_tail(linear_schedule()), 1, "top")
        bottom = _stub(affine_tail(trigonometric_schedule()), 1, "bottom")
        aligned = run(top, align)
        for omega, status in ((0.9, "exists"), (1.2, "collapses")):
            verdict = certify(aligned / bottom**omega).status
            yield exact(f"aligned clocks, ω = {omega:g}", verdict, status)

    def still(run: Callable[[Expert, Scalar], Expert], size: float) -> Any:
        """Velocities × (1 − δ)."""

        def wrong(expert: Expert, clock: Scalar) -> Expert:
            return run(expert, Scalar(clock.value, lambda t: (1 - size) * clock.rate(t)))

        return wrong

    return Claim(
        "clocks",
        "An expert run by the clock τ has the laws q_{τ(t)} and the velocity τ̇ v_{τ(t)}; aligned "
        "noise levels leave C = (1 − ω)/α², which ω > 1 makes negative.",
        lambda: Reparameterised,
        check,
        (
            dial("τ̇ × (1 − δ)", still, 0.125),
            Control("τ forgotten", lambda run: lambda expert, clock: expert),
        ),
        formula=r"q^\tau_t = q_{\tau(t)}, \quad v^\tau_t = \dot\tau\, v_{\tau(t)}",
        entries=("L8.26",),
        owes="density",
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
            dial("the exponent of the denominator × (1 − δ)", _heavier, 0.5),
            Control("finite numbers taken for existence", lambda judge: partial(_trusting, judge)),
        ),
        formula=r"\min_t C(t) < 0 \text{ and } X_t, A_t \text{ finite}",
        entries=("L8.22",),
        owes="control",
    )


def _trusting(judge: Judge, *args: Any, **more: Any) -> Certificate:
    return replace(judge(*args, **more), status="exists")
