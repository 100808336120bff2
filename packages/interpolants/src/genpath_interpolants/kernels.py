r"""Hot operations, each as one PyTorch operator: a draw and its regression target in one pass.

    x_t = α x0 + β x1 + γ z        target = α̇ x0 + β̇ x1 + γ̇ z

Both are the same sum of the same three tensors with other weights, so that the inputs need to be
read only once. Per element of b bytes, one pass over (x0, x1, z) moves 3 b in and 2 b out; the same
by one tensor operation per product and per sum moves 20 b. Without z it is 4 b instead of 10 b.
There is less than one multiplication per byte: the time is the bytes over the bandwidth.

z is an input, drawn by torch, so that one seed gives the same numbers whatever computes the rest.
That costs one write and one read of z, 2 b per element: 6 b in all, where a kernel that draws z
itself would move 4 b.

Each operation of this file has four names, and a new one takes the same form:

    <name>_reference    plain tensor operations; differentiable; runs anywhere
    <name>_operator     the `torch.library` operator: schema, shapes, gradients, vmap, CUDA kernel
    _triton.<name>      the Triton launcher, imported when the CUDA kernel first runs
    <name>              what is called: checks the shapes, then takes the fastest of these

The sum is taken in the order x0, x1, z, by multiply-adds, which round once where the processor
fuses them: always in the Triton kernel, on a CPU as torch was built. Two implementations may thus
differ in the last place. Inputs in half precision are accumulated in float32 and rounded once, when
the result is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from genpath.errors import ShapeError
from genpath.states import describe, flat_event, per_row

__all__ = ["affine_draw", "affine_draw_operator", "affine_draw_reference", "affine_sum"]

Pair = tuple[Tensor, Tensor]


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
) -> Pair:
    """State and target: α x0 + β x1 + γ z and α̇ x0 + β̇ x1 + γ̇ z, row by row.

    Args:
        x0, x1, z: ``(batch, *event)``, of any event shape; z may be None.
        alpha, beta, gamma: the weights of the state, ``(batch,)``; gamma is None where z is.
        alpha_rate, beta_rate, gamma_rate: the weights of the target, likewise.

    Returns:
        State and target, ``(batch, *event)``, in the promoted dtype of x0, x1 and z; the weights'
        own dtype does not enter. Differentiable in all nine arguments.

    On a CPU this is `affine_draw_reference`: there the operator is no faster, and its call costs 20
    to 40 µs more. Elsewhere it is `affine_draw_operator`. With torch 2.13.0 on one thread, float32
    of shape (4096, 3072), the reference takes 0.3 of the time of one operation per product and per
    sum, 0.6 without z.

    Raises:
        ShapeError: the tensors do not pair up, or only some of z and its weights are given.

    Example:
        >>> t, x0, x1 = torch.tensor([0.25]), torch.zeros(1, 2), torch.ones(1, 2)
        >>> one = torch.ones(1)
        >>> affine_draw(x0, x1, None, 1 - t, t, None, -one, one, None)
        (tensor([[0.2500, 0.2500]]), tensor([[1., 1.]]))
    """
    weights = (alpha, beta, gamma, alpha_rate, beta_rate, gamma_rate)
    _check("affine_draw", (x0, x1, z), weights)
    draw: Callable[..., Pair] = (
        affine_draw_reference if x1.device.type == "cpu" else affine_draw_operator
    )
    return draw(x0, x1, z, *weights)


def affine_sum(
    x0: Tensor, x1: Tensor, z: Tensor | None, alpha: Tensor, beta: Tensor, gamma: Tensor | None
) -> Tensor:
    """α x0 + β x1 + γ z alone: bit for bit the state of `affine_draw` on a CPU.

    Example:
        >>> half = torch.tensor([0.5])
        >>> affine_sum(torch.zeros(1, 2), torch.ones(1, 2), None, half, half, None)
        tensor([[0.5000, 0.5000]])
    """
    return _accumulate(torch.addcmul, x0, x1, z, alpha, beta, gamma)


def affine_draw_reference(
    x0: Tensor,
    x1: Tensor,
    z: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    gamma: Tensor | None,
    alpha_rate: Tensor,
    beta_rate: Tensor,
    gamma_rate: Tensor | None,
) -> Pair:
    """`affine_draw` in plain tensor operations that accumulate in place.

    Only the two results are allocated. In place means that `torch.func.vmap` over some of the
    inputs is refused; `affine_draw_operator` has a rule for it.

    Example:
        >>> x, one = torch.ones(1, 2), torch.ones(1)
        >>> affine_draw_reference(x, x, x, one, one, one, one, one, -one)
        (tensor([[3., 3.]]), tensor([[1., 1.]]))
    """
    state = _accumulate(Tensor.addcmul_, x0, x1, z, alpha, beta, gamma)
    return state, _accumulate(Tensor.addcmul_, x0, x1, z, alpha_rate, beta_rate, gamma_rate)


# -- the operator --------------------------------------------------------------------------------

SCHEMA = (
    "(Tensor x0, Tensor x1, Tensor? z, Tensor alpha, Tensor beta, Tensor? gamma, "
    "Tensor alpha_rate, Tensor beta_rate, Tensor? gamma_rate) -> (Tensor, Tensor)"
)


@torch.library.custom_op("genpath_interpolants::affine_draw", mutates_args=(), schema=SCHEMA)
def affine_draw_operator(x0: Tensor, x1: Tensor, z: Tensor | None, *weights: Tensor | None) -> Pair:
    """`affine_draw` as the operator ``torch.ops.genpath_interpolants.affine_draw``.

    `torch.compile` keeps it whole. Its results are contiguous.
    """
    state, target = affine_draw_reference(x0, x1, z, *weights)  # type: ignore[arg-type]
    return state.contiguous(), target.contiguous()


@affine_draw_operator.register_fake
def _fake(x0: Tensor, x1: Tensor, z: Tensor | None, *weights: Tensor | None) -> Pair:
    dtype = _result_dtype(x0, x1, z)
    return x0.new_empty(x0.shape, dtype=dtype), x0.new_empty(x0.shape, dtype=dtype)


@affine_draw_operator.register_kernel("cuda")
def _cuda(x0: Tensor, x1: Tensor, z: Tensor | None, *weights: Tensor | None) -> Pair:
    if not _has_triton():
        state, target = affine_draw_reference(x0, x1, z, *weights)  # type: ignore[arg-type]
        return state.contiguous(), target.contiguous()
    from . import _triton

    return _triton.affine_draw(x0, x1, z, *weights)  # type: ignore[arg-type]


@affine_draw_operator.register_vmap
def _vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor | None) -> tuple[Pair, Any]:
    """The mapped axis joins the batch: every row has its own weights already."""
    flat = []
    for value, axis in zip(inputs, in_dims, strict=True):
        if value is not None:
            whole = value[None] if axis is None else value.movedim(axis, 0)
            value = whole.expand(info.batch_size, *whole.shape[1:]).flatten(0, 1)
        flat.append(value)
    weight, axis = inputs[3], in_dims[3]
    assert weight is not None
    rows = weight.shape[-1] if axis is None else weight.movedim(axis, 0).shape[1]
    state, target = (
        out.reshape(info.batch_size, rows, *out.shape[1:]) for out in affine_draw_operator(*flat)
    )
    return (state, target), (0, 0)


def _save(ctx: Any, inputs: tuple[Tensor | None, ...], output: Pair) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, to_state: Tensor, to_target: Tensor) -> tuple[Tensor | None, ...]:
    """∂x0 = α ∂x_t + α̇ ∂target, and so on; ∂α = Σ ∂x_t x0 over the event, and so on."""
    saved = ctx.saved_tensors
    points, weights = saved[:3], saved[3:]
    found: list[Tensor | None] = [None] * 9
    for i, point in enumerate(points):
        if point is None:
            continue
        if ctx.needs_input_grad[i]:
            gradient = affine_sum(to_state, to_target, None, weights[i], weights[3 + i], None)
            found[i] = gradient.to(point.dtype)
        for j, outer in ((3 + i, to_state), (6 + i, to_target)):
            if ctx.needs_input_grad[j]:
                work = _work_dtype(outer.dtype)
                product = outer.to(work) * point
                found[j] = flat_event(product).sum(1).to(saved[j].dtype)
    return tuple(found)


affine_draw_operator.register_autograd(_backward, setup_context=_save)


# -- helpers -------------------------------------------------------------------------------------


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _work_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums are accumulated in: float32 for half precision, else the dtype itself."""
    return torch.promote_types(dtype, torch.float32)


def _result_dtype(x0: Tensor, x1: Tensor, z: Tensor | None) -> torch.dtype:
    dtype = torch.promote_types(x0.dtype, x1.dtype)
    return dtype if z is None else torch.promote_types(dtype, z.dtype)


def _accumulate(
    add: Callable[..., Tensor],
    x0: Tensor,
    x1: Tensor,
    z: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    gamma: Tensor | None,
) -> Tensor:
    """The sum by ``add(total, weight, x)``: `torch.addcmul`, or `Tensor.addcmul_` in place."""
    dtype = _result_dtype(x0, x1, z)
    work = _work_dtype(dtype)
    total = per_row(alpha.to(work), x0) * x0
    total = add(total, per_row(beta.to(work), x1), x1)
    if z is not None and gamma is not None:
        total = add(total, per_row(gamma.to(work), z), z)
    return total.to(dtype)


def _check(
    where: str, points: tuple[Tensor | None, ...], weights: tuple[Tensor | None, ...]
) -> None:
    named = dict(zip(("x0", "x1", "z"), points, strict=True))
    given = {name: point for name, point in named.items() if point is not None}
    shape = given["x0"].shape
    if not (named["z"] is None) == (weights[2] is None) == (weights[5] is None):
        latent = {"z": named["z"], "gamma": weights[2], "gamma_rate": weights[5]}
        raise ShapeError(
            where,
            "z, gamma and gamma_rate come together.",
            got=", ".join(f"{n} {'None' if v is None else describe(v)}" for n, v in latent.items()),
            fix="pass all three, or None for all three",
        )
    if not shape or any(point.shape != shape for point in given.values()):
        rule = "x0, x1 and z have one shape (batch, *event)."
        raise ShapeError(where, rule, got=describe(given))
    if any(weight is not None and weight.shape != shape[:1] for weight in weights):
        shapes = ", ".join(str(tuple(w.shape)) for w in weights if w is not None)
        raise ShapeError(
            where,
            "there is one weight of each kind per row.",
            got=f"x0 {tuple(shape)}, weights {shapes}",
            fix=f"pass weights of shape ({shape[0]},)",
        )
