"""What every path of this package says and checks of its endpoints, times and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError, SingularTimeError
from genpath.predictions import Rule, convert, plan
from genpath.spaces import Euclidean, Space
from genpath.states import describe, row_times

__all__ = ["MEANINGS", "converted_value", "paired_times"]

MEANINGS = {
    "velocity": (True, "E[ẋ_t | x_t]"),
    "interpolant_velocity": (True, "E[∂_t I_t | x_t]"),
    "denoiser": (False, "E[x1 | x_t]"),
    "base_denoiser": (False, "E[x0 | x_t]"),
    "noise": (False, "E[z | x_t]"),
    "latent_gradient": (False, "E[∇V(z) | x_t]"),
    "score": (True, "∇log p_t(x_t)"),
}
"""Name of a prediction → whether it is a tangent, and what it is."""


def converted_value(
    where: str,
    rules: tuple[Rule, ...],
    want: str,
    given: Mapping[str, Tensor],
    t: Tensor | float,
    x: Any,
) -> Tensor:
    """`genpath.predictions.convert` at times where it is finite.

    Raises:
        CapabilityError: the given quantities do not suffice.
        DomainError: a time outside [0, 1].
        SingularTimeError: a rule on the way is infinite at one of the times.

    Example:
        >>> from genpath_interpolants.relations import TimedRule
        >>> rules = (TimedRule("b", ("a",), lambda t, x, a: a / t, (0.0,)),)
        >>> converted_value("half", rules, "b", {"a": torch.ones(1)}, 0.5, torch.zeros(1))
        tensor([2.])
    """
    times = _inside(row_times(t, x, where), where)
    for rule in plan(rules, list(given), want):
        for singular in getattr(rule, "singular", ()):
            if bool((times == singular).any()):
                raise SingularTimeError(
                    where,
                    f"{rule.gives} from {', '.join(rule.needs)} is infinite at t = {singular:g}.",
                    got=f"t = {singular:g}",
                    fix="stop short of it, or predict the quantity itself",
                )
    result: Tensor = convert(rules, given, want, times, x)
    return result


def paired_times(space: Space, t: Tensor | float, x0: Any, x1: Any, where: str) -> Tensor:
    """One time per pair of endpoints, after both are checked.

    Raises:
        ShapeError: x0 and x1 do not pair up, or there is not one time per pair.
        DomainError: integer tensors, two dtypes or devices, or a time outside [0, 1].

    Example:
        >>> paired_times(Euclidean(2), 0.5, torch.zeros(3, 2), torch.ones(3, 2), "draw")
        tensor([0.5000, 0.5000, 0.5000])
    """
    tensors = isinstance(x0, Tensor) and isinstance(x1, Tensor)
    if not tensors or x0.shape != x1.shape:
        got = f"x0 {describe(x0)}, x1 {describe(x1)}"
        raise ShapeError(where, "x0 and x1 are tensors that pair up one to one.", got=got)
    if not (x0.is_floating_point() and x1.is_floating_point()):
        raise DomainError(
            where,
            "states are floating-point tensors.",
            got=f"x0 {x0.dtype}, x1 {x1.dtype}",
            fix="convert them, or put a codec between data and states",
        )
    if x0.dtype != x1.dtype or x0.device != x1.device:
        raise DomainError(
            where,
            "x0 and x1 have one dtype and one device.",
            got=f"x0 {x0.dtype} on {x0.device}, x1 {x1.dtype} on {x1.device}",
            fix="move one of them with .to()",
        )
    assert isinstance(space, Euclidean)
    space.check(x1, where)
    times = row_times(t, x1, where)
    if times.device.type == "cpu" and not torch.compiler.is_compiling():
        _inside(times, where)  # elsewhere it would wait for the device
    return times


def _inside(t: Tensor, where: str) -> Tensor:
    low, high = torch.aminmax(t) if t.numel() else (t.new_zeros(()), t.new_zeros(()))
    if not (float(low) >= 0 and float(high) <= 1):
        outside = ~((t >= 0) & (t <= 1))
        got = ", ".join(f"{float(v):g}" for v in t[outside][:3])
        raise DomainError(where, "times lie in [0, 1].", got=got)
    return t
