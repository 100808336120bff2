"""What every path, set of conversions and schedule owes, for each preset on the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.testing import Claim, contracts

from .. import presets
from ..mixtures import MixtureMarginal
from ..paths import LinearPath
from .cases import GAMMAS, PLANE, Gamma, interior, mixture, normal

__all__ = ["claims", "of_path"]

PATH = {"endpoints": ("L2.1", "L5.1"), "targets": ("L1.2", "L5.2")}
SCHEDULE = {"rates": ("L5.1", "L5.7"), "boundary": ("L5.1", "L5.7")}
ENDS = (0.0, 1.0)
Singular = Sequence[tuple[Sequence[str], str, float]]
SINGULAR: Mapping[str, Singular] = {
    "none": (
        (("velocity",), "score", 1.0),
        (("denoiser",), "velocity", 1.0),
        (("base_denoiser",), "velocity", 0.0),
    ),
    "sqrt": tuple((("noise",), "score", t) for t in ENDS),
    "quadratic": tuple((("noise",), "score", t) for t in ENDS),
}
"""Conversions that a time forbids."""


MIRRORED: Any = "x0 is x1"
"""The base of a mirror path."""


def claims() -> tuple[Claim[Any], ...]:
    """Those of ``path.interpolants.linear``."""
    return tuple(claim for gamma in GAMMAS for claim in of_gamma(gamma))


def of_gamma(gamma: Gamma) -> tuple[Claim[Any], ...]:
    """The claims of one γ."""
    found = of_path(lambda: presets.linear(PLANE, gamma, 1.3, "gaussian"), SINGULAR[gamma])
    return contracts.named(gamma, found)


def of_path(
    make: Callable[[], LinearPath],
    singular: Singular = (),
    *,
    joint: Sequence[str] = ("velocity+score", "denoiser+base_denoiser"),
    ends: tuple[float | None, float | None] = (0.0, 0.0),
    base: Any = None,
) -> tuple[Claim[Any], ...]:
    """The claims of one path: draws, targets, conversions and schedule.

    Args:
        make: makes the path.
        singular: conversions that a time forbids.
        joint: the joint predictions among those that are tried.
        ends: how far x_t may be from x0 and from x1 at the ends; None where it has that law only.
        base: a law of x0 other than N(0, I): a mixture, or `MIRRORED`.
    """
    marginal = MixtureMarginal(make(), mixture(), None if base is MIRRORED else base)

    def trimmed() -> LinearPath:  # joint predictions differ by two names only
        path = make()
        kept = {n: p for n, p in path.predictions.items() if "+" not in n or n in joint}
        rules = tuple(rule for rule in path.rules if {rule.gives, *rule.needs} <= kept.keys())
        vars(path).update(predictions=kept, rules=rules)
        return path

    fields = {name: marginal.field(name) for name in trimmed().predictions}
    single = [name for name in fields if "+" not in name]
    drawn = contracts.path(trimmed, partial(_pairs, base), fields=fields, ends=ends, entries=PATH)
    told = contracts.conversions(
        trimmed, fields, _points, singular=singular, roots=single, entries=("L5.5",)
    )
    scalars = contracts.schedule(lambda: make().schedule, breaks=make().breakpoints)
    return (*drawn, *told, *_cited(scalars, SCHEDULE))


def _pairs(base: Any, count: int, rng: torch.Generator) -> Pairs:
    """A base, and data independent of it."""
    x1 = mixture().sample(count, rng)
    if base is MIRRORED:
        return Pairs(x1, x1)
    return Pairs(normal(count, 2, rng=rng) if base is None else base.sample(count, rng), x1)


def _points(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return interior(rng, count, 2)


def _cited(
    found: Sequence[Claim[Any]], entries: Mapping[str, Sequence[str]]
) -> tuple[Claim[Any], ...]:
    return tuple(replace(claim, entries=entries.get(claim.name, ())) for claim in found)
