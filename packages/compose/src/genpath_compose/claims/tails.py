r"""Claims of lecture 8: compact data, matrices, mixtures, and how far out a law has its mass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

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
)
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

from ..certificates import Certificate, certify
from ..compositions import Composition
from ..experts import ExactExpert, FieldExpert
from ..radii import envelope, tail_mass_bound, tail_radius_bound
from ..tails import Tail, affine_tail, mixture_tail
from ._judges import (
    Judge,
    fixed,
    lighter,
)
from ._scenes import DOUBLE

__all__ = ["claims"]


def claims() -> list[Claim[Any]]:
    """Those of tails and radii."""
    return [compact(), matrices(), mixtures(), tails()]


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
                lambda thing: replace(thing, judge=lighter(thing.judge, 0.01)),
            ),
        ),
        formula=r"q_t(x) \lessgtr c_\pm\, e^{-|x|^2/2\alpha^2 \pm B|x|},"
        r"\quad B = |\beta| R/\alpha^2",
        entries=("L8.7", "L8.8", "L8.9"),
        owes="existence",
    )


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
            plain = _product([fixed(v[None], d, "e") for v in diagonals], powers)
            turned = [turn @ torch.diag(v) @ turn.T for v in diagonals]
            rotated = _product([fixed(p[None], d, "e") for p in turned], powers)
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
        part = fixed(torch.tensor([[[2.0, 0.9], [0.9, 1.0]]], dtype=DOUBLE), 2, "part")
        line = fixed(torch.tensor([[1.0]], dtype=DOUBLE), 1, "line")
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
            dial("the exponent of the denominator × (1 − δ)", lighter, 0.5),
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
    found = judge(fixed(over[None], 2, "a") / fixed(under[None], 2, "b"), [0.2, 0.4])
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
            dial("the exponent of the denominator × (1 − δ)", lighter, 0.125),
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
                    beyond_bound = thing.mass(bound, 1 / normaliser, b, c, d)
                    yield at_most(f"{words}: ε at R_ε", beyond_bound, 0.05, "L8.11", slack=1e-12)
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
        entries=("L8.11", "H8.4", "X11"),
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
    found: float = float(upper) * (4 * math.pi / c) ** (d / 2)
    return found
