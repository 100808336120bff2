r"""Claims of lecture 8: supports at the last time, and experts run by another clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.distributions import Normal

from genpath.schedules import Scalar
from genpath.spaces import Euclidean
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    dial,
    equal,
    exact,
)
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

from ..certificates import certify
from ..compositions import Composition
from ..experts import ExactExpert, Expert, FieldExpert
from ..lifted import Reparameterised
from ..supports import Boxes, Inclusion, check_supports
from ..tails import affine_tail, mixture_tail
from ._judges import (
    stub,
)
from ._scenes import DOUBLE

__all__ = ["claims"]


def claims() -> list[Claim[Any]]:
    """Those of supports and clocks."""
    return [supports(), clocks()]


def supports() -> Claim[Callable[[Composition], Inclusion]]:
    """Random unions of boxes on a lattice, against a count of its cells."""

    def check(judge: Callable[[Composition], Inclusion], trial: Trial) -> Iterator[Evidence]:
        def uniform(end: float, name: str) -> FieldExpert:
            box = Boxes(torch.zeros(1, 1, dtype=DOUBLE), torch.full((1, 1), end, dtype=DOUBLE))
            return stub(affine_tail(linear_schedule()), 1, name, support=box)

        whole, half = uniform(1.0, "whole"), uniform(0.5, "half")
        yield exact("U[0, 1] over U[0, ½]", judge(whole / half).status, "violated")
        yield exact("U[0, ½] over U[0, 1]", judge(half / whole).status, "included")
        last = certify(whole * whole / half, t_end=1.0)
        yield exact("its certificate up to t = 1", last.status, "collapses")
        rng, seen = trial.rng(), set()
        for _ in range(trial.count(60, 30)):
            unions = [_lattice(rng, n) for n in (2, 3, 4)]
            experts = [stub(None, 2, "abc"[i], support=u) for i, u in enumerate(unions)]
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
        top = stub(affine_tail(linear_schedule()), 1, "top")
        bottom = stub(affine_tail(trigonometric_schedule()), 1, "bottom")
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
