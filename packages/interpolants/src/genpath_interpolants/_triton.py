r"""Triton kernels of `genpath_interpolants.kernels`; imported only where Triton is.

A program handles a block of rows × columns of the inputs seen as (batch, event) matrices: several
short rows or a piece of a long one. The same launchers run on CPU tensors in Triton's interpreter,
when ``TRITON_INTERPRET=1`` is in the environment before this module is imported.
"""

# Triton compiles the annotations of kernels too, and knows `tl.constexpr` alone.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["affine_draw"]

WORK = {torch.float64: tl.float64}  # every other dtype is accumulated in float32


@triton.jit
def _weight(pointer, row, live, work: tl.constexpr):
    """One number per row of the block, as a column."""
    return tl.load(pointer + row, live, other=0.0).to(work)[:, None]


@triton.jit
def _affine_draw(
    x0,
    x1,
    z,
    alpha,
    beta,
    gamma,
    alpha_rate,
    beta_rate,
    gamma_rate,
    state,
    target,
    rows,
    columns,
    latent: tl.constexpr,
    work: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):
    across = tl.cdiv(columns, block_columns)
    block = tl.program_id(0)
    row = (block // across).to(tl.int64) * block_rows + tl.arange(0, block_rows)
    column = (block % across) * block_columns + tl.arange(0, block_columns)
    row_live = row < rows
    live = row_live[:, None] & (column < columns)[None, :]
    at = row[:, None] * columns + column[None, :]

    point = tl.load(x0 + at, live, other=0.0).to(work)
    position = _weight(alpha, row, row_live, work) * point
    velocity = _weight(alpha_rate, row, row_live, work) * point
    point = tl.load(x1 + at, live, other=0.0).to(work)
    position = tl.fma(_weight(beta, row, row_live, work), point, position)
    velocity = tl.fma(_weight(beta_rate, row, row_live, work), point, velocity)
    if latent:
        point = tl.load(z + at, live, other=0.0).to(work)
        position = tl.fma(_weight(gamma, row, row_live, work), point, position)
        velocity = tl.fma(_weight(gamma_rate, row, row_live, work), point, velocity)
    tl.store(state + at, position.to(state.dtype.element_ty), live)
    tl.store(target + at, velocity.to(target.dtype.element_ty), live)


def affine_draw(
    x0: Tensor,
    x1: Tensor,
    z: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    gamma: Tensor | None,
    alpha_rate: Tensor,
    beta_rate: Tensor,
    gamma_rate: Tensor | None,
    block: int = 2048,
) -> tuple[Tensor, Tensor]:
    """Launch the kernel of `genpath_interpolants.kernels.affine_draw`, ``block`` elements each.

    An input that is not contiguous is copied first.
    """
    dtype = torch.promote_types(x0.dtype, x1.dtype)
    if z is not None:
        dtype = torch.promote_types(dtype, z.dtype)
    state = torch.empty(x0.shape, dtype=dtype, device=x0.device)
    target = torch.empty_like(state)
    if state.numel() == 0:
        return state, target
    rows = x0.shape[0]
    columns = x0.numel() // rows
    block_columns = min(triton.next_power_of_2(columns), block)
    block_rows = min(triton.next_power_of_2(rows), max(1, block // block_columns))
    grid = (triton.cdiv(rows, block_rows) * triton.cdiv(columns, block_columns),)
    inputs = (x0, x1, z, alpha, beta, gamma, alpha_rate, beta_rate, gamma_rate)
    with torch.cuda.device_of(x0):  # does nothing for a tensor on the CPU
        _affine_draw[grid](
            *(None if value is None else value.contiguous() for value in inputs),
            state,
            target,
            rows,
            columns,
            latent=z is not None,
            work=WORK.get(dtype, tl.float32),
            block_rows=block_rows,
            block_columns=block_columns,
        )
    return state, target
