r"""States: batch-first tensors, or dicts of them.

A state of ``n`` rows is a tensor ``(n, *event)`` or a dict of such tensors. In a dict, the leaves
named by a `Product` space *move*; every other leaf is a static *fact* of its row (padding mask,
condition, Hutchinson probe, lineage). What belongs to a row survives resampling: `gather`,
`chunks` and `concatenate` act on all leaves, samplers move only the moving ones.

A tangent has the form of its state, restricted to the leaves that it moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import ShapeError

__all__ = [
    "Field",
    "State",
    "axpy",
    "batch_size",
    "chunks",
    "concatenate",
    "describe",
    "device_of",
    "dtype_of",
    "flat_event",
    "gather",
    "map_state",
    "per_row",
    "repeat",
    "row_times",
]

State = Tensor | Mapping[str, Tensor]
"""A batch-first tensor or a mapping of them."""

Field = Callable[[Tensor, State], Any]
"""A callable ``(t, state)`` without hidden state; ``t`` has shape ``(batch,)``."""


def describe(state: State) -> str:
    """The shapes of a state in words, for messages.

    Example:
        >>> describe({"x": torch.zeros(4, 2)})
        'x (4, 2)'
    """
    if isinstance(state, Tensor):
        return str(tuple(state.shape))
    return ", ".join(f"{name} {tuple(leaf.shape)}" for name, leaf in state.items())


def leaves(state: State) -> list[Tensor]:
    """The tensors of a state, in its order."""
    return [state] if isinstance(state, Tensor) else list(state.values())


def batch_size(state: State) -> int:
    """The number of rows, the same for all leaves.

    Raises:
        ShapeError: the leaves disagree, a leaf has no batch axis, or there is no leaf.

    Example:
        >>> batch_size({"x": torch.zeros(4, 2), "label": torch.zeros(4)})
        4
    """
    sizes = {leaf.shape[0] if leaf.dim() else None for leaf in leaves(state)}
    if len(sizes) != 1 or None in sizes:
        raise ShapeError(
            "state",
            "every leaf of a state has the same number of rows, on its first axis.",
            got=describe(state),
            fix="add a batch axis, or gather all leaves by the same index",
        )
    return int(next(iter(sizes)))  # type: ignore[arg-type]


def device_of(state: State) -> torch.device:
    """The device of the state's first leaf.

    Example:
        >>> device_of({"x": torch.zeros(4, 2)})
        device(type='cpu')
    """
    return leaves(state)[0].device


def dtype_of(state: State) -> torch.dtype:
    """The dtype of the first floating leaf, else torch's default.

    Example:
        >>> dtype_of({"label": torch.zeros(4, dtype=torch.long), "x": torch.zeros(4, 2).double()})
        torch.float64
    """
    for leaf in leaves(state):
        if leaf.is_floating_point():
            return leaf.dtype
    return torch.get_default_dtype()


def map_state(function: Callable[..., Tensor], state: State, *others: Any) -> Any:
    """Apply ``function`` leaf by leaf; ``others`` have at least the leaves of ``state``.

    Example:
        >>> map_state(lambda x: 2 * x, {"x": torch.ones(1)})
        {'x': tensor([2.])}
    """
    if isinstance(state, Tensor):
        return function(state, *others)
    return {name: function(leaf, *(o[name] for o in others)) for name, leaf in state.items()}


def gather(state: State, index: Tensor) -> Any:
    """The rows ``index`` of all leaves, facts included.

    Example:
        >>> gather({"x": torch.tensor([1., 2.])}, torch.tensor([1, 1]))
        {'x': tensor([2., 2.])}
    """
    return map_state(lambda leaf: leaf[index], state)


def chunks(state: State, rows: int) -> Iterator[Any]:
    """Consecutive pieces ``(≤ rows, *event)``; an empty state gives one empty piece.

    Example:
        >>> [piece.tolist() for piece in chunks(torch.arange(5), 2)]
        [[0, 1], [2, 3], [4]]
    """
    total = batch_size(state)
    for start in range(0, max(total, 1), rows):
        yield map_state(lambda leaf, s=start: leaf[s : s + rows], state)


def concatenate(states: Sequence[State]) -> Any:
    """Stack states along the batch axis; the inverse of `chunks`.

    Example:
        >>> concatenate([{"x": torch.tensor([1.0, 2.0])}, {"x": torch.tensor([3.0])}])
        {'x': tensor([1., 2., 3.])}
    """
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat([s for s in states if isinstance(s, Tensor)])
    return {name: torch.cat([s[name] for s in states]) for name in first}  # type: ignore[index]


def repeat(state: State, copies: int) -> Any:
    """``copies`` copies of the whole batch, one after the other: ``(copies · batch, …)``.

    Example:
        >>> repeat(torch.tensor([[1], [2]]), 2).tolist()
        [[1], [2], [1], [2]]
    """
    return map_state(lambda leaf: leaf.repeat(copies, *([1] * (leaf.dim() - 1))), state)


def per_row(values: Tensor | float, like: Tensor) -> Tensor | float:
    """Values ``(batch,)`` as ``(batch, 1, …, 1)``, to multiply ``like`` ``(batch, *event)``.

    Example:
        >>> like = torch.ones(2, 3)
        >>> per_row(torch.tensor([1.0, 2.0]), like) * like
        tensor([[1., 1., 1.],
                [2., 2., 2.]])
    """
    if isinstance(values, Tensor) and values.dim():
        return values.reshape(values.shape + (1,) * (like.dim() - values.dim()))
    return values


def flat_event(x: Tensor, leading: int = 1) -> Tensor:
    """The event axes, those after the first ``leading``, as one; a number becomes one entry.

    Example:
        >>> flat_event(torch.zeros(4, 2, 3)).shape, flat_event(torch.zeros(4)).shape
        (torch.Size([4, 6]), torch.Size([4, 1]))
    """
    return x.flatten(leading) if x.dim() > leading else x.unsqueeze(-1)


def axpy(state: State, tangent: State, scale: Tensor | float = 1.0) -> Any:
    """``state + scale · tangent`` in ambient coordinates, on the leaves of ``tangent`` only.

    ``scale`` is a number, or one per row ``(batch,)``.

    Example:
        >>> state = {"x": torch.ones(2, 2), "label": torch.tensor([3, 4])}
        >>> axpy(state, {"x": torch.ones(2, 2)}, torch.tensor([1.0, 2.0]))  # one scale per row
        {'x': tensor([[2., 2.],
                [3., 3.]]), 'label': tensor([3, 4])}
    """
    if isinstance(state, Tensor):
        return state + per_row(scale, tangent) * tangent  # type: ignore[arg-type, operator]
    moved = {n: state[n] + per_row(scale, v) * v for n, v in tangent.items()}  # type: ignore[union-attr]
    return {**state, **moved}


def row_times(t: Tensor | float, state: State, where: str = "time") -> Tensor:
    """A time ``(batch,)`` from a scalar or a ``(batch,)`` tensor, on the state's device.

    Raises:
        ShapeError: ``t`` is neither a scalar nor one time per row.

    Example:
        >>> row_times(0.5, torch.zeros(3, 2))
        tensor([0.5000, 0.5000, 0.5000])
    """
    rows, dtype = batch_size(state), dtype_of(state)
    if not isinstance(t, Tensor):
        return torch.full((rows,), float(t), device=device_of(state), dtype=dtype)
    if t.dim() == 0:
        return t.to(dtype).expand(rows)
    if t.shape != (rows,):
        raise ShapeError(
            where,
            "there is one time per row.",
            got=f"t {tuple(t.shape)}, state {describe(state)}",
            fix=f"pass t of shape ({rows},), or a scalar",
        )
    return t
