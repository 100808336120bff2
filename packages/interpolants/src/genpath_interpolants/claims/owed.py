"""What every path, set of conversions and schedule owes, for each γ on the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.testing import Claim, contracts

from ..schedules import linear_schedule
from .cases import GAMMAS, Case, Gamma, cases, interior, normal

__all__ = ["claims"]

PATH = {"endpoints": ("L2.1", "L5.1"), "targets": ("L1.2", "L5.2")}
SCHEDULE = {"rates": ("L5.1",), "boundary": ("L5.1",)}
ENDS = (0.0, 1.0)
SINGULAR = {
    "none": (
        (("velocity",), "score", 1.0),
        (("denoiser",), "velocity", 1.0),
        (("base_denoiser",), "velocity", 0.0),
    ),
    "sqrt": tuple((("noise",), "score", t) for t in ENDS),
    "quadratic": tuple((("noise",), "score", t) for t in ENDS),
}
"""Conversions that a time forbids."""


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return tuple(claim for gamma in GAMMAS for claim in of_gamma(gamma))


def of_gamma(gamma: Gamma) -> tuple[Claim[Any], ...]:
    """The claims of one γ."""
    (case,) = cases(gamma)()
    fields = {name: case.marginal.field(name) for name in case.path.predictions}
    drawn = contracts.path(lambda: case.path, partial(_pairs, case), fields=fields, entries=PATH)
    told = contracts.conversions(
        lambda: case.path, fields, _points, singular=SINGULAR[gamma], entries=("L5.5",)
    )
    scalars = contracts.schedule(lambda: linear_schedule(gamma, 1.3))
    found = (*drawn, *told, *_cited(scalars, SCHEDULE))
    return contracts.named(gamma, found)


def _pairs(case: Case, count: int, rng: torch.Generator) -> Pairs:
    """A normal base, and data independent of it."""
    return Pairs(normal(count, 2, rng=rng), case.law.sample(count, rng))


def _points(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    return interior(rng, count, 2)


def _cited(
    found: Sequence[Claim[Any]], entries: Mapping[str, Sequence[str]]
) -> tuple[Claim[Any], ...]:
    return tuple(replace(claim, entries=entries.get(claim.name, ())) for claim in found)
