r"""Chunks: a generator evaluated on a few rows at a time, to bound memory.

    evaluate(t, x) = join(evaluate(t_1, x_1), evaluate(t_2, x_2), …),     (x_1, x_2, …) chunks of x

Rows do not see each other in a generator, so nothing changes but the peak of memory. Velocities and
potentials are stacked. Noise maps are joined by kind: numbers and tensors per row where σ is
scalar, diagonal or a matrix, and a function that acts chunk by chunk otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator
from genpath.jumps import AtomJumps, RateJumps
from genpath.noises import (
    DiagonalNoise,
    FactorNoise,
    MatrixFreeNoise,
    MatrixNoise,
    NoiseMap,
    ScalarNoise,
    SumNoise,
)
from genpath.parts import Parts
from genpath.states import batch_size, chunks, concatenate, map_state

__all__ = ["chunked"]


def chunked(gen: MarkovGenerator, rows: int) -> MarkovGenerator:
    """The same generator, evaluated on at most ``rows`` rows at a time.

    Args:
        gen: any generator; jumps as `RateJumps` or `AtomJumps`.
        rows: how many rows one evaluation may have.

    Raises:
        DomainError: ``rows`` is not positive.
        CapabilityError: when evaluated, a jump part or noise map that cannot be joined.

    Example:
        >>> from genpath import Euclidean, flow
        >>> seen = []
        >>> def velocity(t, x):
        ...     seen.append(len(x))
        ...     return -x
        >>> chunked(flow(Euclidean(1), velocity), 2)(0.0, torch.ones(5, 1)).velocity.shape, seen
        (torch.Size([5, 1]), [2, 2, 1])
    """
    if rows < 1:
        raise DomainError("chunked", "a chunk has a row or more.", got=repr(rows))

    def evaluate(t: Tensor, state: Any) -> Parts:
        if batch_size(state) <= rows:
            return gen.evaluate(t, state)
        pieces = zip(chunks(t, rows), chunks(state, rows), strict=True)
        return _join([gen.evaluate(*piece) for piece in pieces], rows)

    return replace(gen, evaluate=evaluate)


def _join(pieces: Sequence[Parts], rows: int) -> Parts:
    velocity, noise, jumps, potential = (
        [getattr(piece, name) for piece in pieces]
        for name in ("velocity", "diffusion", "jumps", "potential")
    )
    return Parts(
        None if velocity[0] is None else concatenate(velocity),
        None if noise[0] is None else _noise(noise, rows),
        None if jumps[0] is None else _jumps(jumps),
        None if potential[0] is None else concatenate(potential),
    )


def _noise(maps: Sequence[Any], rows: int) -> NoiseMap:
    first = maps[0]
    if len({type(one) for one in maps}) > 1:
        raise _unjoined("noise maps of one kind", maps)
    if isinstance(first, ScalarNoise):
        return _scalar(maps)
    if isinstance(first, DiagonalNoise):
        return replace(first, scale=torch.cat([one.scale for one in maps]))
    if isinstance(first, MatrixNoise):
        return replace(first, matrix=torch.cat([one.matrix for one in maps]))
    if isinstance(first, FactorNoise):
        each = {n: _noise([one.factors[n] for one in maps], rows) for n in first.factors}
        return FactorNoise(each)
    if isinstance(first, SumNoise):
        parts = zip(*(one.maps for one in maps), strict=True)
        return SumNoise(tuple(_noise(part, rows) for part in parts))
    if isinstance(first, MatrixFreeNoise):

        def function(noise: Any) -> Any:
            pieces = _pieces(noise, rows)
            return concatenate([one(p) for one, p in zip(maps, pieces, strict=True)])

        return replace(first, function=function)
    raise _unjoined("ScalarNoise, DiagonalNoise, MatrixNoise, MatrixFreeNoise and sums", maps)


def _scalar(maps: Sequence[ScalarNoise]) -> ScalarNoise:
    values = [one.sigma for one in maps]
    tensors = [value for value in values if isinstance(value, Tensor)]
    if len(tensors) < len(values):
        if tensors or any(value != values[0] for value in values):
            raise _unjoined("one number σ, or a tensor with one σ per row", maps)
        return maps[0]
    if tensors[0].dim() == 0:  # a number of the time alone, the same in every chunk
        return maps[0]
    return replace(maps[0], sigma=torch.cat(tensors))


def _pieces(noise: Any, rows: int) -> list[Any]:
    """Noise of the form that a map takes, cut by rows; a tuple of noises is cut in each."""
    if isinstance(noise, tuple):
        return list(zip(*(_pieces(part, rows) for part in noise), strict=True))
    return list(chunks(noise, rows))


def _jumps(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: _jumps([part[name] for part in parts]) for name in first}
    if isinstance(first, RateJumps) and all(isinstance(p, RateJumps) for p in parts):
        return RateJumps(concatenate([p.rates for p in parts]), concatenate([p.x for p in parts]))
    if isinstance(first, AtomJumps) and all(isinstance(p, AtomJumps) for p in parts):
        states = map_state(lambda *each: torch.cat(each, 1), *(p.states for p in parts))
        return AtomJumps(states, torch.cat([p.rates for p in parts], 1))
    raise _unjoined("RateJumps, AtomJumps and dicts of them", parts)


def _unjoined(known: str, came: Sequence[Any]) -> CapabilityError:
    return CapabilityError(
        "chunked",
        f"it joins {known}.",
        got=", ".join(sorted({type(one).__name__ for one in came})),
        fix="evaluate the generator on all rows at once",
    )
