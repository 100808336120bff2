r"""Hot operations, each as one PyTorch operator: the step of masked sites, straight from logits.

    y_i = pick(softmax(l_i), u_i)   where x_i is the mask and r_i < P(reveal)
    y_i = x_i                       elsewhere

with two uniforms r_i, u_i per site and pick the inverse CDF, the first letter v with
Σ_{w≤v} p_w > u. Logits are (batch, *sites, V), by far the largest tensor of a sampler, and all that
the step needs of them is one letter per site that reveals. So it reads rows that reveal, once, and
stores neither probabilities nor noise: n V b bytes for n such rows of b bytes per logit. softmax,
cumsum and search as tensor operations in float64 move tens of bytes per logit of *all* rows.

Gumbel-max, argmax(l − log(−log u)), would be one pass too, but with one random number and two
logarithms per logit; and in float32 the largest noise is cut off, which draws rare letters too
seldom (Zheng et al. 2024, arXiv 2409.02908). One uniform per row in float64 has neither flaw.

The uniforms are inputs, drawn by torch, so that one seed means the same letters whatever computes
the rest, up to u within 2⁻²⁰ of the edge of a letter's share [Σ_{w<v} p_w, Σ_{w≤v} p_w).

The names are those that every operator of genpath has:

    <name>_reference    plain tensor operations; runs anywhere
    <name>_operator     the `torch.library` operator: schema, shapes, CUDA kernel
    _triton.<name>      the Triton launcher, imported when the CUDA kernel first runs
    <name>              what is called: checks the shapes, then calls the operator

The reference works in float64. The kernel has float32 numerators and masses of blocks of letters
and float64 prefix sums (all float64 for float64 logits): it moves edges by less than 2⁻²⁰, but
keeps the width of a share to about 1e-6 of itself, however rare the letter.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError
from genpath.states import per_row

__all__ = ["CHUNK_BYTES", "masked_step", "masked_step_operator", "masked_step_reference"]

CHUNK_BYTES = 2**20
"""The float64 copy of logits that the reference holds at a time; one row where a row is larger.

With the rows as gathered its temporaries stay below twice that, beside a few numbers per site.
"""


def masked_step(
    logits: Tensor, state: Tensor, reveal: Tensor, letter: Tensor, chance: Tensor, mask: int
) -> Tensor:
    """Masked sites revealed with a probability, to letters drawn from the logits.

    Args:
        logits: ``(batch, *sites, letters)``, of any floating dtype and strides; −∞ for a letter
            that is never drawn.
        state: ``(batch, *sites)``, int64.
        reveal: uniforms in [0, 1) of the state's shape: a masked site reveals where they lie below
            ``chance``.
        letter: uniforms in [0, 1) of the state's shape, where in the CDF the letter is taken.
            Their resolution is that of the law: 2⁻⁵³ for float64, 2⁻²⁴ for float32.
        chance: the probability to reveal: one for all ``()``, one per row ``(batch,)``, or one per
            site; its axes are the first of the state's.
        mask: the id of the mask in ``state``.

    Returns:
        The new state, int64 and contiguous. Letters are integers: no gradient flows, and the result
        never requires one. A site whose logits give no law (all −∞, +∞ or NaN among them) stays
        masked, where a check of the samples finds it; looking here would halt the device.

    Raises:
        ShapeError: the tensors do not pair up, or there is no letter.
        DomainError: the state is not int64, or the logits are not floating.

    Example:
        >>> logits = torch.tensor([[1.2, -0.3, 0.7, 2.1, 0.0]]).expand(4, 5)
        >>> state, u = torch.full((4,), 5), torch.tensor([0.05, 0.3, 0.5, 0.97])
        >>> masked_step(logits, state, torch.zeros(4), u, torch.tensor(0.1), 5)
        tensor([0, 2, 3, 4])
    """
    _check("masked_step", logits, state, reveal, letter, chance)
    found: Tensor = masked_step_operator(logits, state, reveal, letter, chance, mask)
    return found


@torch.no_grad()
def masked_step_reference(
    logits: Tensor, state: Tensor, reveal: Tensor, letter: Tensor, chance: Tensor, mask: int
) -> Tensor:
    """`masked_step` in plain tensor operations: float64, on the rows that reveal, in chunks.

    Example:
        >>> logits, state = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]]), torch.tensor([[2, 1]])
        >>> u, one = torch.full((1, 2), 0.5), torch.ones(())
        >>> masked_step_reference(logits, state, u, u, one, mask=2)
        tensor([[1, 1]])
    """
    out = state.clone(memory_format=torch.contiguous_format)
    hit = (state == mask) & (reveal < _spread(chance, state))
    size = max(1, CHUNK_BYTES // (8 * logits.shape[-1]))
    for rows in zip(*(axis.split(size) for axis in hit.nonzero(as_tuple=True)), strict=True):
        upto = logits[rows].double()
        upto = upto.sub_(upto.amax(-1, keepdim=True)).exp_().cumsum_(-1)
        total = upto[:, -1:]
        # u·total can round up to total, which no prefix sum exceeds
        goal = torch.minimum(letter[rows].double().unsqueeze(1) * total, _below(total))
        index = torch.searchsorted(upto, goal, right=True)
        out[rows] = torch.where(total > 0, index, mask).squeeze(1)
    return out


# -- the operator --------------------------------------------------------------------------------


@torch.library.custom_op("genpath_discrete::masked_step", mutates_args=())
def masked_step_operator(
    logits: Tensor, state: Tensor, reveal: Tensor, letter: Tensor, chance: Tensor, mask: int
) -> Tensor:
    """`masked_step` as the operator ``torch.ops.genpath_discrete.masked_step``.

    `torch.compile` keeps it whole, although the rows that reveal are known only when it runs.
    """
    return masked_step_reference(logits, state, reveal, letter, chance, mask)


@masked_step_operator.register_fake
def _fake(
    logits: Tensor, state: Tensor, reveal: Tensor, letter: Tensor, chance: Tensor, mask: int
) -> Tensor:
    return torch.empty_like(state, memory_format=torch.contiguous_format)


@masked_step_operator.register_kernel("cuda")
def _cuda(
    logits: Tensor, state: Tensor, reveal: Tensor, letter: Tensor, chance: Tensor, mask: int
) -> Tensor:
    if not _has_triton():
        return masked_step_reference(logits, state, reveal, letter, chance, mask)
    from . import _triton

    return _triton.masked_step(logits, state, reveal, letter, chance, mask)


def _no_gradient(ctx: Any, *gradients: Tensor) -> Any:
    """Never reached: autograd does not mark an integer result as differentiable."""
    raise DomainError("masked_step", "letters are integers, which have no gradient.")


masked_step_operator.register_autograd(_no_gradient)


# -- helpers -------------------------------------------------------------------------------------


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _spread(chance: Tensor, state: Tensor) -> Tensor:
    """The probabilities as ``(batch, *sites)``, without copies."""
    spread = per_row(chance, state)
    assert isinstance(spread, Tensor)
    return spread.expand(state.shape)


def _below(values: Tensor) -> Tensor:
    """The next smaller floating-point numbers."""
    return torch.nextafter(values, torch.zeros_like(values))


def _check(
    where: str, logits: Tensor, state: Tensor, reveal: Tensor, letter: Tensor, chance: Tensor
) -> None:
    if state.dim() == 0 or logits.shape[:-1] != state.shape or logits.shape[-1] == 0:
        raise ShapeError(
            where,
            "there is one row of logits per site, and at least one letter.",
            got=f"logits {tuple(logits.shape)}, state {tuple(state.shape)}",
            fix="pass logits (batch, *sites, letters) and state (batch, *sites)",
        )
    if reveal.shape != state.shape or letter.shape != state.shape:
        raise ShapeError(
            where,
            "there are two uniforms per site.",
            got=f"reveal {tuple(reveal.shape)}, letter {tuple(letter.shape)}, "
            f"state {tuple(state.shape)}",
        )
    if chance.dim() > state.dim() or any(
        c not in (1, s) for c, s in zip(chance.shape, state.shape, strict=False)
    ):
        raise ShapeError(
            where,
            "the axes of chance are the first axes of the state.",
            got=f"chance {tuple(chance.shape)}, state {tuple(state.shape)}",
            fix=f"pass a chance of shape (), ({state.shape[0]},) or {tuple(state.shape)}",
        )
    if state.dtype != torch.int64 or not logits.is_floating_point():
        raise DomainError(
            where,
            "letters are int64, logits are floating.",
            got=f"state {state.dtype}, logits {logits.dtype}",
        )
