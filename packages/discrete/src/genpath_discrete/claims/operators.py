r"""What the operator that reveals masks owes, judged by the letters that it draws.

    F(v) = Σ_{w ≤ v} p_w          the letter is the first v with F(v) > u

`alike` is the judge. Sums may differ by rounding, so a letter may be wrong where u lies within a
given distance of every edge F between it and the right one: 1e-12 for float64, 2⁻²⁰ for the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath.testing import Claim, Evidence, at_most, contracts, exact
from genpath.testing.contracts import Sample

from ..kernels import masked_step_operator
from .cases import DOUBLE

__all__ = ["CASES", "EXACT", "alike", "case", "claims", "cumulative", "with_infinities"]

EXACT = 1e-12


def claims() -> tuple[Claim[Any], ...]:
    """What `genpath.testing.contracts.kernel` asks of the operator."""
    judge = partial(alike, edge=EXACT)
    return contracts.kernel(masked_step_operator, None, CASES, differentiable=False, alike=judge)


def cumulative(logits: Tensor) -> tuple[Tensor, Tensor]:
    """p and F(v) = Σ_{w≤v} p_w, by a product with a triangle of ones; float64."""
    p = logits.double().softmax(-1)
    return p, p @ torch.ones(p.shape[-1], p.shape[-1], dtype=DOUBLE, device=p.device).triu()


def alike(
    what: str, found: Tensor, args: tuple[Any, ...], *, edge: float = EXACT
) -> Iterator[Evidence]:
    """The right letters, but for u within ``edge`` of all edges between the two letters."""
    logits, state, reveal, letter, chance, mask = args
    form = (tuple(found.shape), found.dtype)
    yield exact(f"{what}: shape, dtype", form, (tuple(state.shape), torch.int64))
    if form[0] != tuple(state.shape):
        return
    p, upto = cumulative(logits)
    chance = chance.reshape(chance.shape + (1,) * (state.dim() - chance.dim()))
    hit = (state == mask) & (reveal < chance)
    yield exact(f"{what}: sites that do not reveal", found[~hit], state[~hit])
    found, u, p, upto = found[hit], letter[hit].double().unsqueeze(-1), p[hit], upto[hit]
    last = p.shape[-1] - 1
    inside = (found >= 0) & (found <= last)
    yield exact(f"{what}: letters that there are", bool(inside.all()))
    found = found.clamp(0, last)
    drawn = p.gather(-1, found.unsqueeze(-1)) > 0
    yield exact(f"{what}: letters that can be drawn", bool(drawn.all()))
    likely = last - (p > 0).flip(-1).int().argmax(-1)  # rounding may put u above the last edge
    right = torch.minimum((upto <= u).sum(-1), likely)
    low, high = torch.minimum(found, right), torch.maximum(found, right)
    between = torch.stack([low, (high - 1).clamp_min(0)], -1)
    away = (upto - u).abs().gather(-1, between).amax(-1) * (low < high)
    because = "the edges of the CDF are known up to rounding"
    yield at_most(
        f"{what}: wrong letters, u from the edge", away, torch.full_like(away, edge), because
    )


def case(
    name: str,
    *shape: int,
    letters: int,
    scale: float = 2.0,
    shift: float = 0.0,
    chance: str = "one",
) -> Sample:
    """Half of the sites masked; among the uniforms both ends of [0, 1), and the chance itself."""
    rng = torch.Generator().manual_seed(letters + len(shape))
    logits = scale * torch.randn(*shape, letters, generator=rng, dtype=DOUBLE) + shift
    state = torch.randint(0, letters, shape, generator=rng)
    state = torch.where(torch.rand(shape, generator=rng) < 0.5, letters, state)
    state.reshape(-1)[:4] = letters
    reveal, letter = torch.rand(2, *shape, generator=rng, dtype=DOUBLE)
    reveal.reshape(-1)[:4] = torch.tensor([0.0, 0.0, 0.9, 0.9], dtype=DOUBLE)
    letter.reshape(-1)[:2] = torch.tensor([0.0, 1 - 2.0**-53])[: letter.numel()]
    sizes = {"one": (), "rows": shape[:1], "sites": shape}[chance]
    share = 0.9 * torch.ones(sizes, dtype=DOUBLE)
    return Sample(name, (logits, state, reveal, letter, share, letters), changed=(0,))


def with_infinities(plain: Sample) -> Sample:
    """The first letter, the last and every third have probability 0."""
    logits = plain.args[0].clone()
    logits[..., ::3] = -math.inf
    logits[..., -1] = -math.inf
    return replace(plain, name="with −∞", args=(logits, *plain.args[1:]))


CASES = (
    case("tokens", 6, 11, letters=37, chance="rows"),
    case("one axis", 70, letters=5, chance="sites"),
    case("an image", 3, 4, 2, letters=16),
    case("one letter", 4, 3, letters=1),
    case("far from 0", 4, 9, letters=21, scale=30.0, shift=900.0),
    with_infinities(case("", 5, 8, letters=19)),
)
