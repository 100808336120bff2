r"""What every network owes: one output per row, of the prediction's shape, from its own row only.

    F(t, x)_i = F(t_i, x_i)          whatever other rows are in the batch, and in whatever order

Networks that start from zero would pass every such check before training, so all parameters are
first moved at random. Nothing is claimed about what a network can learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.states import batch_size, gather, row_times

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, equal, exact
from ._leaves import flat

__all__ = ["network"]

States = Callable[[int, torch.Generator], Any]


def network(
    make: Callable[[], Any],
    states: States,
    shape: tuple[int, ...],
    *,
    operations: float = 4096,
    timeless: bool = False,
) -> tuple[Claim[Any], ...]:
    """The claims that every network owes.

    Args:
        make: makes the network, ``network(t, state) → (batch, *shape)``, in evaluation mode or not.
        states: ``states(count, rng)``: rows that differ from each other.
        shape: of one prediction.
        operations: roundings of the network's dtype that may add up, at the size of its output.
        timeless: whether the output may be the same at all times.

    Returns:
        Claims ``shape`` and ``rows-apart``.

    Example:
        >>> from genpath.networks import MLP
        >>> make = lambda: MLP(2, (2,), width=8, depth=1)
        >>> states = lambda n, rng: torch.randn(n, 2, generator=rng)
        >>> [claim.name for claim in network(make, states, (2,))]
        ['shape', 'rows-apart']
    """
    return (_shape(make, states, shape, timeless), _apart(make, states, operations))


def _stirred(net: Any, trial: Trial) -> Any:
    """The network in evaluation mode, its parameters moved away from where they start."""
    rng = trial.rng("parameters")
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
            parameter.add_(0.1 * noise)
    return net.eval()


def _shape(
    make: Callable[[], Any], states: States, shape: tuple[int, ...], timeless: bool
) -> Claim[Any]:
    def check(net: Any, trial: Trial) -> Iterator[Evidence]:
        net = _stirred(net, trial)
        x = states(5, trial.rng("states"))
        with torch.no_grad():
            found = net(row_times(0.3, x), x)
            yield exact("shape of five rows", tuple(found.shape), (5, *shape))
            for count in (0, 1):
                few = gather(x, torch.arange(count))
                out = net(row_times(0.3, few), few)
                yield exact(f"shape of {count} rows", tuple(out.shape), (count, *shape))
            yield exact("finite", bool(found.isfinite().all()))
            again = net(row_times(0.3, x), x)
            yield exact("twice the same", found, again)
            if not timeless:
                later = net(row_times(0.6, x), x)
                yield exact("the time matters", bool((later != found).any()))

    def long(net: Any) -> Any:
        return but(net, forward=lambda t, x: net(t, x).unsqueeze(-1))

    def frozen(net: Any) -> Any:
        return but(net, forward=lambda t, x: net(0 * t, x))

    return Claim(
        "shape",
        "The network returns one finite prediction per row, for any number of rows; it is a "
        "function of time and state.",
        make,
        check,
        (
            Control("an axis too many", long),
            *(() if timeless else (Control("the time is ignored", frozen),)),
        ),
    )


def _apart(make: Callable[[], Any], states: States, operations: float) -> Claim[Any]:
    def check(net: Any, trial: Trial) -> Iterator[Evidence]:
        net = _stirred(net, trial)
        x = states(12, trial.rng("states"))
        t = torch.rand(12, generator=trial.rng("times")).to(row_times(0.3, x).dtype)
        with torch.no_grad():
            whole = net(t, x)
            size = max(1.0, float(whole.abs().max()))

            def same(what: str, found: Tensor, true: Tensor) -> Evidence:
                return equal(what, flat(found).to(true), flat(true).to(true),
                             operations=operations, scale=size)  # fmt: skip

            halves = [net(t[i], gather(x, i)) for i in torch.arange(12).chunk(2)]
            yield same("two halves", torch.cat(halves), whole)
            order = torch.randperm(batch_size(x), generator=trial.rng("order"))
            yield same("another order", net(t[order], gather(x, order)), whole[order])

    def leak(net: Any, size: float) -> Any:
        def forward(t: Tensor, x: Any) -> Tensor:
            out: Tensor = net(t, x)
            return out + size * out.mean(0) if len(out) else out

        return but(net, forward=forward)

    return Claim(
        "rows-apart",
        "A row's output depends on no other row of the batch.",
        make,
        check,
        (dial("outputs + δ · their mean over the batch", leak),),
        formula=r"F(t, x)_i = F(t_i, x_i)",
    )
