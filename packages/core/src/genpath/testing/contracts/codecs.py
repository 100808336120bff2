r"""What every codec owes: decoding undoes encoding, and the log-determinant is that of the map.

    decode(encode(y)) = y          log_det = log |det ∂encode/∂y|, by automatic differentiation

The Jacobian is taken at a fixed seed, so that it also serves dequantisation, whose encoding is
random but affine in y for each draw of its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from genpath.states import batch_size, flat_event, gather

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, equal, exact
from ._leaves import flat, scaled

__all__ = ["codec"]

Data = Callable[[int, torch.Generator], Any]


def codec(
    make: Callable[[], Any],
    data: Data,
    *,
    data_space: Any = None,
    jacobian: bool = True,
    rows: int = 32,
    operations: float = 1024,
    entries: Sequence[str] = (),
) -> tuple[Claim[Any], ...]:
    """The claims that every codec owes.

    Args:
        make: makes the codec.
        data: ``data(count, rng)``: rows of data, in float64 (levels as floating numbers too).
        data_space: where the data live, if the space of states is to be checked.
        jacobian: whether the encoding is a map of one tensor to another of as many entries, whose
            determinant autograd can give; False for codecs of tokens.
        rows: how many rows.
        operations: roundings that may add up.
        entries: of the ledger, for the claim ``log-determinant``.

    Returns:
        Claims ``inverse`` and, where there is a Jacobian, ``log-determinant``.

    Example:
        >>> from genpath.codecs import Dequantise
        >>> levels = lambda n, rng: torch.randint(4, (n, 3), generator=rng).double()
        >>> [claim.name for claim in codec(lambda: Dequantise(4), levels)]
        ['inverse', 'log-determinant']
    """
    claims = [_inverse(make, data, data_space, rows, operations)]
    if jacobian:
        claims.append(_determinant(make, data, rows, operations, entries))
    return tuple(claims)


def _inverse(
    make: Callable[[], Any], data: Data, data_space: Any, rows: int, operations: float
) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        y = data(rows, trial.rng("data"))
        state, log_det = thing.encode(y, trial.rng("noise"))
        found, true = flat(thing.decode(state)), flat(y)
        size = max(1.0, float(true.abs().max()))
        if thing.exact:
            yield equal("decode(encode(y))", found, true, operations=operations, scale=size)
        else:
            yield exact("decode(encode(y))", found, true, "levels come back exactly")
        again = thing.encode(y, trial.rng("noise"))[0]
        yield exact("the seed fixes the state", flat(again), flat(state))
        other = thing.encode(y, trial.rng("other noise"))[0]
        same = bool((flat(other) == flat(state)).all())
        yield exact("another seed, another state: unless the codec is exact", same, thing.exact)
        yield exact("one log-determinant per row", tuple(log_det.shape), (rows,))
        for count in (0, 1):
            few = gather(y, torch.arange(count))
            state, log_det = thing.encode(few, trial.rng("few"))
            sizes = (batch_size(state), *log_det.shape, batch_size(thing.decode(state)))
            yield exact(f"a batch of {count}", sizes, (count,) * 3)
        if data_space is not None:
            inside = thing.space(data_space).contains(thing.encode(y, trial.rng("noise"))[0])
            yield exact("states are in the codec's space", bool(inside.all()))

    def stretch(thing: Any, size: float) -> Any:
        return but(thing, decode=lambda state: scaled(thing.decode(state), 1 + size))

    def slip(thing: Any) -> Any:
        def decode(state: Any) -> Any:
            y = thing.decode(state)
            return gather(y, torch.arange(batch_size(y)).roll(1))

        return but(thing, decode=decode)

    def boast(thing: Any) -> Any:
        return but(thing, exact=not thing.exact)

    floating = _floating(data)
    return Claim(
        "inverse",
        "Decoding undoes encoding; an encoding that is said to be exact draws no random numbers, "
        "any other is fixed by the seed.",
        make,
        check,
        (
            *((dial("decoded data × (1 + δ)", stretch),) if floating else ()),
            Control("rows are exchanged", slip),
            Control("`exact` says the opposite", boast),
        ),
        formula=r"\mathrm{decode}(\mathrm{encode}(y)) = y",
    )


def _floating(data: Data) -> bool:
    """Whether the data are numbers and not letters."""
    y = data(1, torch.Generator().manual_seed(0))
    found = y if isinstance(y, Tensor) else next(iter(y.values()))
    return bool(found.is_floating_point())


def _determinant(
    make: Callable[[], Any], data: Data, rows: int, operations: float, entries: Sequence[str]
) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Evidence:
        y = data(rows, trial.rng("data"))

        def total(y: Tensor) -> Tensor:
            return flat_event(thing.encode(y, trial.rng("noise"))[0]).sum(0)

        # rows do not meet, so the sum over rows has every row's Jacobian
        rows_of = torch.autograd.functional.jacobian(total, y)
        slopes = flat_event(rows_of, 2).transpose(0, 1)
        true = torch.linalg.slogdet(slopes).logabsdet
        found = thing.encode(y, trial.rng("noise"))[1]
        size = max(1.0, float(true.abs().max()))
        return equal("log |det encode′|", found, true, operations=operations, scale=size)

    def raised(thing: Any, size: float) -> Any:
        def encode(y: Any, rng: torch.Generator) -> Any:
            state, log_det = thing.encode(y, rng)
            return state, log_det + size

        return but(thing, encode=encode)

    def turned(thing: Any) -> Any:
        def encode(y: Any, rng: torch.Generator) -> Any:
            state, log_det = thing.encode(y, rng)
            return state, -log_det

        return but(thing, encode=encode)

    y = data(1, torch.Generator().manual_seed(0))
    free = bool((make().encode(y, torch.Generator().manual_seed(0))[1] == 0).all())
    return Claim(
        "log-determinant",
        "The log-density that encoding costs is log |det| of its Jacobian, by autodiff.",
        make,
        check,
        (dial("log det + δ", raised), *(() if free else (Control("its sign", turned),))),
        formula=r"\log p(y) = \log p_{\mathrm{state}}(\mathrm{encode}(y)) "
        r"+ \log\left|\det \mathrm{encode}'(y)\right|",
        entries=entries,
    )
