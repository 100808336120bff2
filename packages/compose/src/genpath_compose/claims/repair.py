r"""Claims of lecture 8: repairs, of random paths and by several bumps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError
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

from ..compositions import Composition
from ..errors import RepairError
from ..exponents import Exponent
from ..repairs import AdaptiveExponents, Repair, repair
from ..tails import Tail
from ._judges import (
    stub,
)
from ._scenes import DOUBLE
from .bumps import compact

__all__ = ["claims"]


def claims() -> list[Claim[Any]]:
    """Those of repairs."""
    return [theorem(), several()]


def _random_case(rng: torch.Generator) -> tuple[Composition, Callable[..., Tensor]]:
    """Powers of 1 − t as α, on hyperedges of three coordinates; C written anew beside it."""
    rates = 0.5 + 1.2 * torch.rand(4, generator=rng, dtype=DOUBLE)
    powers = 0.3 + torch.rand(4, generator=rng, dtype=DOUBLE)
    powers[3] = -(0.2 + 1.1 * float(torch.rand(1, generator=rng)))
    edges = ((0, 1), (1, 2), (0, 2), (0, 1))
    total: Composition | None = None
    for i, edge in enumerate(edges):
        rate = float(rates[i])
        tail = Tail(partial(_power, rate))
        part = stub(tail, 2, "abcd"[i]).on(*edge) ** float(powers[i])
        total = part if total is None else total * part
    assert total is not None

    def values(t: Tensor, added: Any = None) -> Tensor:
        found = torch.zeros(len(t), 3, dtype=DOUBLE)
        for i, edge in enumerate(edges):
            gamma = powers[i] + (0 if added is None else added[i](t))
            for k in edge:
                found[:, k] += gamma * (1 - t) ** (-2 * rates[i])
        return found

    return total, values


def _power(rate: float, t: Tensor) -> Tensor:
    """1/α² of α = (1 − t)^rate."""
    return (1 - t)[:, None, None] ** (-2 * rate)


def theorem() -> Claim[Callable[..., Repair]]:
    """Random schedules and exponents."""

    def check(mend: Callable[..., Repair], trial: Trial) -> Iterator[Evidence]:
        rng, counted = trial.rng(), {"mended": 0, "refused": 0, "valid": 0}
        fine = torch.linspace(0, 0.95, 4001, dtype=DOUBLE)
        ends = torch.tensor([0.0, 1.0], dtype=DOUBLE)
        for _ in range(40):
            composition, values = _random_case(rng)
            first = float(values(ends[:1]).min())
            if first <= 0:
                counted["refused"] += 1
                yield refusal("C(0) ≤ 0", partial(mend, composition, margin=0.01, t_end=0.95),
                              RepairError, "a bump moves neither end")  # fmt: skip
                continue
            margin = 0.5 * first
            found = mend(composition, margin=margin, t_end=0.95)
            counted["mended" if found.bumps else "valid"] += 1
            pairs = zip(found.composition.exponents, composition.exponents, strict=True)
            added: list[Exponent] = [raised + (-wanted) for raised, wanted in pairs]
            least = values(fine, added).min()
            yield at_most("δ ≤ min C̃", margin, least, "the theorem", slack=1e-8)
            gaps = torch.stack([g(ends) for g in added])
            yield equal("b at both ends", gaps, torch.zeros_like(gaps), operations=500)
            yield exact("its validator agrees", _kept(composition, found.composition, margin))
        yield exact("all cases occur", min(counted.values()) > 0)

    def weaker(mend: Callable[..., Repair], size: float) -> Callable[..., Repair]:
        """All sizes × (1 − δ)."""

        def wrong(composition: Composition, **more: Any) -> Repair:
            right = mend(composition, **more)
            exponents = list(composition.exponents)
            for b in right.bumps:
                less = replace(b, size=(1 - size) * b.size)
                exponents[b.index] = exponents[b.index] + less.exponent
            return replace(right, composition=composition.with_exponents(exponents))

        return wrong

    def constant(mend: Callable[..., Repair], size: float) -> Callable[..., Repair]:
        """Exponents raised by a constant too."""

        def wrong(composition: Composition, **more: Any) -> Repair:
            right = mend(composition, **more)
            raised = [g + 0.1 * size for g in right.composition.exponents]
            return replace(right, composition=composition.with_exponents(raised))

        return wrong

    return Claim(
        "existence-theorem",
        "If C(0) > 0, and bumped experts see every coordinate, bumps exist that vanish at both "
        "ends and keep C ≥ δ up to t_end < 1; if C(0) ≤ 0, none do.",
        lambda: repair,
        check,
        (dial("B × (1 − δ)", weaker, 0.05), dial("γ + 0.1 δ", constant, 0.1)),
        formula=r"C(0) > 0 \Rightarrow \exists B:\ \tilde C(t) \ge \delta,\ b(0) = b(1) = 0",
        entries=("L8.12", "L8.14"),
        owes="existence",
    )  # fmt: skip


def _kept(wanted: Composition, adapted: Composition, margin: float) -> bool:
    """Whether the validator accepts the exponents."""
    try:
        AdaptiveExponents(wanted, adapted.exponents, margin, t_end=0.95)
    except DomainError:
        return False
    return True


def several() -> Claim[Callable[..., Repair]]:
    """Two experts and two coordinates: the programme against a table of sizes."""

    def check(mend: Callable[..., Repair], trial: Trial) -> Iterator[Evidence]:
        a, b = compact("cosine", "a"), compact("cosine", "b", 2)
        low = compact("linear", "c", 2)
        composition = a.on(0) * b.on(0, 1) ** 1.2 / low.on(0, 1) ** 0.8
        found = mend(composition, margin=0.1, t_end=0.8, shapes=("quadratic",), terms=(0, 1))
        sizes = torch.zeros(2, dtype=DOUBLE)
        for made in found.bumps:
            sizes[made.index] = made.size
        t = torch.linspace(0, 0.8, 8001, dtype=DOUBLE)[1:]
        high, deep = 1 / torch.cos(0.5 * math.pi * t) ** 2, 0.8 / (1 - t) ** 2
        shape = t * (1 - t)
        # coordinate 1 fixes b alone; coordinate 0 then asks for the sum; all cost alike
        second = ((0.1 + deep - 1.2 * high) / (high * shape)).max().clamp_min(0)
        both = ((0.1 + deep - 2.2 * high) / (high * shape)).max().clamp_min(0)
        total = torch.maximum(second, both)
        because = "a grid of 8000 steps, the quotient varies by 1e-6 between them"
        yield near("B_b", sizes[1], second, 1e-5 * float(second), because)
        yield near("B_a + B_b", sizes.sum(), total, 1e-5 * float(total), because)
        yield at_most("C ≥ δ", 0.1, found.after.minimum, "what is asked", slack=1e-8)

    def plain(mend: Callable[..., Repair]) -> Callable[..., Repair]:
        """Both sizes equal to the larger."""

        def wrong(*args: Any, **more: Any) -> Repair:
            right = mend(*args, **more)
            most = max(b.size for b in right.bumps)
            made = tuple(replace(right.bumps[0], index=i, size=most) for i in (0, 1))
            return replace(right, bumps=made)

        return wrong

    def loose(mend: Callable[..., Repair], size: float) -> Callable[..., Repair]:
        return lambda *args, **more: mend(*args, **{**more, "margin": (1 + size) * more["margin"]})

    return Claim(
        "several-bumps",
        "The sizes of several bumps are the least that keep C ≥ δ in every coordinate.",
        lambda: repair,
        check,
        (Control("every bump as large as the largest", plain), dial("the margin × (1 + δ)", loose)),
        formula=r"\min \sum_j c_j B_j:\ C_k + \sum_j B_j b_j\kappa_{jk} \ge \delta",
        entries=("L8.13", "L8.14"),
        owes="existence",
        requires=("scipy",),
    )
