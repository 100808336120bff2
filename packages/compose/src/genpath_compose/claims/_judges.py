"""What claims of existence share: faults of certificates, stubs of experts, exact densities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..certificates import Certificate
from ..compositions import Composition
from ..experts import FieldExpert
from ..tails import Tail
from ._scenes import DOUBLE

__all__ = [
    "Judge",
    "credulous",
    "curvature",
    "everywhere",
    "fixed",
    "lighter",
    "log_integral",
    "stub",
    "widened",
]

Judge = Callable[..., Certificate]
"""What certifies a composition."""


def lighter(judge: Judge, size: float) -> Judge:
    """Negative exponents × (1 − δ)."""

    def wrong(composition: Composition, *args: Any, **more: Any) -> Certificate:
        powers = [g if float(g(torch.zeros(1))) > 0 else g * (1 - size)
                  for g in composition.exponents]  # fmt: skip
        return judge(composition.with_exponents(powers), *args, **more)

    return wrong


def credulous(judge: Judge) -> Judge:
    """C = 0, and whatever is not shown to collapse, counted as existence."""

    def wrong(*args: Any, **more: Any) -> Certificate:
        found = judge(*args, **more)
        return found if found.status == "collapses" else replace(found, status="exists")

    return wrong


def everywhere(judge: Judge) -> Judge:
    """Coordinates forgotten: every expert counted in every coordinate."""

    def wrong(composition: Composition, *args: Any, **more: Any) -> Certificate:
        size = math.prod(composition.event_shape)
        experts = [stub(widened(t.expert.tail, size), size, "e") for t in composition.terms]
        powers = zip(experts, composition.exponents, strict=True)
        product = [expert**g for expert, g in powers]
        total = product[0]
        for factor in product[1:]:
            total = total * factor
        return judge(total, *args, **more)

    return wrong


def widened(tail: Tail | None, size: int) -> Tail | None:
    """The same precision in every coordinate of a larger state."""
    if tail is None:
        return None
    inner = tail.precisions
    return Tail(lambda t: inner(t)[..., :1].repeat(1, 1, size))


def stub(tail: Tail | None, size: int, name: str, **more: Any) -> FieldExpert:
    """An expert of which only the tail is asked."""
    return FieldExpert(lambda t, x: (x, -x), (size,), name, tail=tail, **more)


def fixed(precisions: Tensor, size: int, name: str) -> FieldExpert:
    """An expert whose tail does not move: P_j ``(J, …)``."""
    return stub(Tail(lambda t: precisions.expand(len(t), *precisions.shape)), size, name)


def curvature(composition: Composition, t: float, x: Tensor) -> Tensor:
    """−∇² log h_t at x ``(d,)``, by automatic differentiation of exact densities."""
    at = torch.tensor([t], dtype=DOUBLE)
    found: Tensor = torch.func.hessian(lambda y: composition.log_density(at, y[None])[0])(x)
    return -found.detach()


def log_integral(composition: Composition, t: float, radius: float) -> float:
    """log ∫ h_t over [−radius, radius], by the trapezoidal rule."""
    x = torch.linspace(-radius, radius, 6001, dtype=DOUBLE)
    at = torch.full((len(x),), t, dtype=DOUBLE)
    found = composition.log_density(at, x[:, None])
    return float(found.logsumexp(0)) + math.log(2 * radius / 6000)
