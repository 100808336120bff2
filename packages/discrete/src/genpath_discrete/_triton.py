r"""Triton kernels of `genpath_discrete.kernels`; imported only where Triton is.

Inverse CDF in two levels. A program has ``ROWS`` rows of logits, which it reads in blocks of
``BLOCK`` letters. A block is summarised by its maximum m_b and its mass s_b = Σ exp(l − m_b), each
exponential taken once. Then u picks a block from the weights s_b exp(m_b − m), what is left of u
picks a letter of that block, and only that block is read again: one read of the logits plus one
block, or one read alone where a block holds all letters. Rows that do not reveal are not read, and
a program that has no other rows stops at once.

Numerators and masses are float32 (float64 for float64 logits), prefix sums float64. Only blocks and
letters of positive weight are picked, whatever the rounding: a parallel prefix sum need not grow in
order.

The launchers run on CPU tensors in Triton's interpreter, when ``TRITON_INTERPRET=1`` is in the
environment before Triton is imported.
"""

# Triton compiles the annotations of kernels too, and knows `tl.constexpr` alone.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .kernels import _spread

__all__ = ["masked_step"]

LETTERS_PER_PROGRAM = 1024
"""The elements that one program holds at a time: rows times letters of a block."""


@triton.jit
def _numerators(logits):
    """The maximum of each row and exp(l − maximum); zeros where all of a row is −∞."""
    top = tl.max(logits, 1)
    shift = tl.where(top == float("-inf"), 0.0, top)
    return top, tl.exp(logits - shift[:, None])


@triton.jit
def _search(weights, upto, goal, index, SIZE: tl.constexpr):
    """The first entry of positive weight with ``upto > goal``, else the last one that has any."""
    some = weights > 0
    first = tl.min(tl.where(some & (upto > goal[:, None]), index[None, :], SIZE), 1)
    last = tl.max(tl.where(some, index[None, :], 0), 1)
    return tl.where(first < SIZE, first, last)


@triton.jit
def _masked_step(
    logits,
    state,
    reveal,
    letter,
    chance,
    out,
    mask,
    rows,
    inner,
    letters,
    stride_batch,
    stride_inner,
    stride_letter,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
    PADDED: tl.constexpr,
    SUMS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    found = tl.load(state + row, mask=inside, other=0)
    coin = tl.load(reveal + row, mask=inside, other=1.0)
    hit = inside & (found == mask) & (coin < tl.load(chance + row, mask=inside, other=0.0))
    if tl.max(hit.to(tl.int32), 0) > 0:
        base = logits + (row // inner) * stride_batch + (row % inner) * stride_inner
        share = tl.load(letter + row, mask=hit, other=0.0).to(tl.float64)
        lane = tl.arange(0, BLOCK)
        block = tl.zeros((ROWS,), tl.int32)
        lawful = hit
        if BLOCKS > 1:
            column = tl.arange(0, PADDED)
            tops = tl.full((ROWS, PADDED), float("-inf"), SUMS)
            masses = tl.zeros((ROWS, PADDED), SUMS)
            for j in range(0, BLOCKS):
                place = j * BLOCK + lane
                values = tl.load(
                    base[:, None] + place[None, :].to(tl.int64) * stride_letter,
                    mask=hit[:, None] & (place < letters)[None, :],
                    other=float("-inf"),
                ).to(SUMS)
                top, numerators = _numerators(values)
                at = column[None, :] == j
                tops = tl.where(at, top[:, None], tops)
                masses = tl.where(at, tl.sum(numerators, 1)[:, None], masses)
            _, scales = _numerators(tops.to(tl.float64))
            weights = masses.to(tl.float64) * scales
            upto = tl.cumsum(weights, 1)
            total = tl.sum(weights, 1)
            lawful = hit & (total > 0)
            block = _search(weights, upto, share * total, column, PADDED)
            at = column[None, :] == block[:, None]
            weight = tl.sum(tl.where(at, weights, 0.0), 1)
            below = tl.sum(tl.where(at, upto, 0.0), 1) - weight
            share = (share * total - below) / tl.where(weight > 0, weight, 1.0)
        place = block[:, None] * BLOCK + lane[None, :]
        values = tl.load(
            base[:, None] + place.to(tl.int64) * stride_letter,
            mask=lawful[:, None] & (place < letters),
            other=float("-inf"),
        ).to(SUMS)
        _, numerators = _numerators(values)
        exact = numerators.to(tl.float64)
        total = tl.sum(exact, 1)
        chosen = block * BLOCK + _search(exact, tl.cumsum(exact, 1), share * total, lane, BLOCK)
        found = tl.where(lawful & (total > 0), chosen.to(tl.int64), found)
    tl.store(out + row, found, mask=inside)


def masked_step(
    logits: Tensor,
    state: Tensor,
    reveal: Tensor,
    letter: Tensor,
    chance: Tensor,
    mask: int,
    *,
    rows: int | None = None,
    block: int | None = None,
) -> Tensor:
    """Launch the kernel of `genpath_discrete.kernels.masked_step`.

    ``rows`` and ``block``, powers of two, are what a program holds: few rows are right on a device,
    where programs run side by side, many in the interpreter, where they queue. Logits whose axes
    after the batch and before the letters cannot be viewed as one are copied first.
    """
    out = torch.empty_like(state, memory_format=torch.contiguous_format)
    count, letters = state.numel(), logits.shape[-1]
    if count == 0:
        return out
    inner = count // state.shape[0]
    view = logits.reshape(state.shape[0], inner, letters)
    block = block or min(triton.next_power_of_2(letters), LETTERS_PER_PROGRAM)
    rows = rows or max(1, LETTERS_PER_PROGRAM // block)
    blocks = triton.cdiv(letters, block)
    spread = _spread(chance, state)
    with torch.cuda.device_of(logits):  # does nothing for a tensor on the CPU
        _masked_step[(triton.cdiv(count, rows),)](
            view,
            *(part.reshape(-1).contiguous() for part in (state, reveal, letter, spread)),
            out,
            mask,
            count,
            inner,
            letters,
            *view.stride(),
            ROWS=rows,
            BLOCK=block,
            BLOCKS=blocks,
            PADDED=triton.next_power_of_2(blocks),
            SUMS=tl.float64 if logits.dtype == torch.float64 else tl.float32,
        )
    return out
