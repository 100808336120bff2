"""Path draw, target and loss: what a training step does around its network.

x_t = (1−t) x0 + t x1, the velocity x1 − x0 and its squared distance to a fixed prediction, forward
only. Ours is `Regression` with a `Model` over `LinearPath`: one value ½‖·‖² per row, then the mean.
Beside it torchcfm's `ConditionalFlowMatcher(sigma=0)` with torch's mean squared error, and the same
in four lines of torch. The three losses differ by the constant ½ · dim, and the check says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from genpath import Euclidean, Gaussian, Model, Pairs, Regression
from genpath_interpolants import LinearPath

from ..runner import Call, Case, Entry, agree, installed

__all__ = ["ENTRY"]


def case(shape: tuple[int, ...]) -> Case:
    x0, x1, fixed = torch.randn(3, *shape).unbind()
    t, rng, event = torch.rand(shape[0]), torch.Generator(), shape[1:]
    seen: list[Tensor] = []

    def network(t: Tensor, x: Tensor) -> Tensor:
        seen[:] = [x]  # so that x_t is needed, and can be compared
        return fixed

    model = Model(network, LinearPath(Euclidean(*event)), base=Gaussian(event))
    objective, pairs = Regression(), Pairs(x0, x1)

    def ours() -> Tensor:
        return objective(model, pairs, t, rng).mean()

    def plain() -> Tensor:
        rows = t.reshape(-1, *[1] * len(event))
        prediction = network(t, (1 - rows) * x0 + rows * x1)
        return functional.mse_loss(prediction, x1 - x0)

    peers: dict[str, Call] = {"plain": plain}
    if installed("torchcfm"):
        from torchcfm import ConditionalFlowMatcher

        matcher = ConditionalFlowMatcher(sigma=0.0)

        def peer() -> Tensor:
            _, state, velocity = matcher.sample_location_and_conditional_flow(x0, x1, t)
            return functional.mse_loss(network(t, state), velocity)

        peers = {"torchcfm": peer, "plain": plain}

    label = "×".join(map(str, shape))

    def check() -> None:
        loss = ours()
        state = seen[0]
        for name, call in peers.items():
            agree(f"{label}: the loss of {name}", loss, 0.5 * prod(event) * call(), 1e-4)
            agree(f"{label}: x_t of {name}", state, seen[0], 1e-5)

    return Case(label, ours, peers, check)


def cases(tiny: bool) -> Iterator[Case]:
    torch.manual_seed(0)
    full = [(256, 64), (4096, 64), (4096, 3072), (64, 3, 64, 64)]
    for shape in [(2, 3), (2, 3, 4, 4)] if tiny else full:
        yield case(shape)


ENTRY = Entry(
    cases,
    needs=("torchcfm",),
    memory=True,
    notes=(
        "Endpoints, times and prediction are given; float32; no gradient.",
        "torchcfm draws a normal noise also for σ = 0 and adds 0 times it: that is in its time.",
    ),
)
