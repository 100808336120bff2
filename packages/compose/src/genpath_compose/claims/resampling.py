r"""Resampling schemes against closed forms of the mean and the variance of their counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.testing import Claim, Control, Evidence, Trial, at_most, dial, equal, exact, mean

from ..resampling import SCHEMES, ess, resample_indices

__all__ = ["schemes"]

DOUBLE = torch.float64

Draw = Callable[[Tensor, torch.Generator, str], Tensor]


def schemes() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (counts(), moments(), effective())


def uneven(trial: Trial, size: int, key: str) -> Tensor:
    """Log-weights over several orders of magnitude, one of them −∞."""
    values = 1.5 * torch.randn(size, generator=trial.rng(key), dtype=DOUBLE)
    values[size // 2] = -math.inf
    return values


def tempered(draw: Draw, size: float) -> Draw:
    """The same with weights to the power 1 + δ."""
    return lambda weight, rng, scheme: draw((1 + size) * weight, rng, scheme)


def counts() -> Claim[Draw]:
    """The number of copies is n W rounded up or down."""

    def check(draw: Draw, trial: Trial) -> Iterator[Evidence]:
        for scheme in ("systematic", "ssp", "residual"):
            low, high = 0.0, 0.0
            for key in range(trial.count(400)):
                rng, weight = trial.rng(f"{scheme}{key}"), uneven(trial, 5 + key % 9, f"w{key}")
                share = len(weight) * torch.softmax(weight, 0)
                found = torch.bincount(draw(weight, rng, scheme), minlength=len(weight))
                low = max(low, float(((share - 1e-9).floor() - found).max()))
                high = max(high, float((found - (share + 1e-9).ceil()).max()))
            yield exact(f"{scheme}: copies that lack below ⌊n W⌋", low, 0.0)
            if scheme != "residual":
                yield exact(f"{scheme}: copies above ⌈n W⌉", high, 0.0)

    def stratified(draw: Draw) -> Draw:
        swap = {"systematic": "stratified"}
        return lambda weight, rng, scheme: draw(weight, rng, swap.get(scheme, scheme))

    def drawn(draw: Draw) -> Draw:
        swap = {"residual": "multinomial"}
        return lambda weight, rng, scheme: draw(weight, rng, swap.get(scheme, scheme))

    return Claim(
        "counts",
        "Systematic and SSP resampling copy a row ⌊n W⌋ or ⌈n W⌉ times, residual at least ⌊n W⌋.",
        lambda: resample_indices,
        check,
        (
            dial("weights to the power 1 + δ", tempered, 0.5),
            Control("one uniform per stratum in place of one for all", stratified),
            Control("nothing but independent draws in residual resampling", drawn),
        ),
        formula=r"N_k\in\{\lfloor nW_k\rfloor,\lceil nW_k\rceil\}",
        entries=("L7.22",),
    )


def moments() -> Claim[Draw]:
    """Mean and variance of the number of copies, in closed form for each scheme."""

    def check(draw: Draw, trial: Trial) -> Iterator[Evidence]:
        # fixed: where shares are near whole numbers, schemes hardly differ
        shares = [0.3, 1.6, 0.0, 2.45, 0.25, 0.9, 1.2, 1.3]
        weight = torch.tensor(shares, dtype=DOUBLE).log() + 40
        share = torch.tensor(shares, dtype=DOUBLE)
        variances = _variances(share)
        for scheme in SCHEMES:
            rng = trial.rng(scheme)
            found = torch.stack(
                [
                    torch.bincount(draw(weight, rng, scheme), minlength=8)
                    for _ in range(trial.count(3000, 800))
                ]
            ).double()
            yield mean(f"{scheme}: E N", found, share)
            square = (found - share) ** 2
            yield mean(f"{scheme}: Var N", square, variances[scheme])

    def shifted(draw: Draw) -> Draw:
        def planted(weight: Tensor, rng: torch.Generator, scheme: str) -> Tensor:
            index = draw(weight, rng, scheme).clone()
            index[0] = 0
            return index

        return planted

    def swapped(draw: Draw) -> Draw:
        swap = {"ssp": "residual", "stratified": "systematic"}
        return lambda weight, rng, scheme: draw(weight, rng, swap.get(scheme, scheme))

    return Claim(
        "moments",
        "A row is copied n W times on average; the variance is that of each scheme.",
        lambda: resample_indices,
        check,
        (
            dial("weights to the power 1 + δ", tempered, 0.5),
            Control("the first row always has a copy", shifted),
            Control("the variance of another scheme", swapped),
        ),
        formula=r"\mathbb E N_k=nW_k",
        entries=("L7.22",),
    )


def _variances(share: Tensor) -> dict[str, Tensor]:
    """Var N_k for shares n W: of one Bernoulli, of a sum over strata, of multinomial draws."""
    count = len(share)
    part = share - share.floor()
    ends = torch.cat([torch.zeros(1, dtype=DOUBLE), share.cumsum(0)])
    strata = torch.arange(count, dtype=DOUBLE)[:, None]
    overlap = (torch.minimum(ends[1:], strata + 1) - torch.maximum(ends[:-1], strata)).clamp(min=0)
    left = part.sum()
    return {
        "systematic": part * (1 - part),
        "ssp": part * (1 - part),
        "stratified": (overlap * (1 - overlap)).sum(0),
        "residual": part * (1 - part / left),
        "multinomial": share * (1 - share / count),
    }


def effective() -> Claim[Callable[[Tensor], Tensor]]:
    """The effective sample size: its ends, its bounds, its closed form."""

    def check(size: Callable[[Tensor], Tensor], trial: Trial) -> Iterator[Evidence]:
        for count in (1, 7, 1000):
            even, one = torch.full((count,), -900.0, dtype=DOUBLE), torch.full((count,), -math.inf)
            one[count // 2] = 5.0
            yield equal(f"uniform, n = {count}", size(even), float(count), scale=float(count))
            yield equal(f"one-hot, n = {count}", size(one), 1.0)
            weight = torch.randn(count, generator=trial.rng(str(count)), dtype=DOUBLE)
            found, share = size(weight), torch.softmax(weight, 0)
            yield at_most("at most n", found, float(count), "Cauchy–Schwarz", slack=1e-9)
            yield at_most("at least 1", -found, -1.0, "W ≤ 1", slack=1e-9)
            yield equal("1/Σ W²", found, 1 / (share**2).sum(), operations=4.0 * count + 64)
        halves = torch.tensor([0.0, 0.0, -math.inf, -math.inf], dtype=DOUBLE)
        yield equal("half of the rows", size(halves), 2.0)

    return Claim(
        "effective-size",
        "The effective sample size is n for equal weights, 1 for one, and 1/Σ W² between.",
        lambda: ess,
        check,
        (
            dial("weights to the power 1 + δ", lambda size, d: lambda a: size((1 + d) * a), 0.5),
            Control("1/max W in its place", lambda size: lambda a: 1 / torch.softmax(a, 0).max()),
        ),
        formula=r"\mathrm{ESS}=\frac{(\sum w)^2}{\sum w^2}\in[1,n]",
        entries=("L7.21", "L7.8"),
    )
