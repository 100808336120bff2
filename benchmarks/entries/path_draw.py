"""Path draw, target and loss: what a training step does around its network.

x_t = (1−t) x0 + t x1 + γ z, its velocity and the squared distance to a fixed prediction, forward
only. Ours is `Regression` with a `Model` over `LinearPath`: one value ½‖·‖² per row, then the mean.
Beside it torchcfm with torch's mean squared error: `ConditionalFlowMatcher(sigma=0)` for γ = 0, and
for γ² = t(1−t) the same draw with the variance of its `SchrodingerBridgeConditionalFlowMatcher`,
without that one's transport plan; and the same in a few lines of torch. The losses differ by the
constant ½ · dim, and the check says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from genpath import Euclidean, Gaussian, Model, Pairs, Regression
from genpath_interpolants.presets import linear

from ..runner import Call, Case, Entry, agree, installed

__all__ = ["ENTRY"]


def case(shape: tuple[int, ...], gamma: str) -> Case:
    x0, x1, fixed = torch.randn(3, *shape).unbind()
    t, rng, event = 0.01 + 0.98 * torch.rand(shape[0]), torch.Generator(), shape[1:]
    seen: list[Tensor] = []

    def network(t: Tensor, x: Tensor) -> Tensor:
        seen[:] = [x]  # so that x_t is needed, and can be compared
        return fixed

    model = Model(network, linear(Euclidean(*event), gamma), base=Gaussian(event))
    objective, pairs = Regression(), Pairs(x0, x1)

    def ours() -> Tensor:
        return objective(model, pairs, t, rng).mean()

    def plain() -> Tensor:
        rows = t.reshape(-1, *[1] * len(event))
        state, velocity = (1 - rows) * x0 + rows * x1, x1 - x0
        if gamma == "sqrt":
            z, spread = torch.randn_like(x0), (rows * (1 - rows)).sqrt()
            state, velocity = state + spread * z, velocity + (0.5 - rows) / spread * z
        return functional.mse_loss(network(t, state), velocity)

    peers: dict[str, Call] = {"plain": plain}
    if installed("torchcfm"):
        peers = {"torchcfm": _torchcfm(gamma, x0, x1, t, network), "plain": plain}

    label = "×".join(map(str, shape)) + (", γ² = t(1−t)" if gamma == "sqrt" else ", γ = 0")

    def check() -> None:
        found = []
        for call in (ours, *peers.values()):
            torch.manual_seed(0)  # the peers draw from torch's global generator, ours from its own
            rng.manual_seed(0)
            found.append((call(), seen[0]))
        (loss, state), *others = found
        for name, (theirs, at) in zip(peers, others, strict=True):
            agree(f"{label}: the loss of {name}", loss, 0.5 * prod(event) * theirs, 1e-4)
            agree(f"{label}: x_t of {name}", state, at, 1e-5)

    return Case(label, ours, peers, check)


def _torchcfm(gamma: str, x0: Tensor, x1: Tensor, t: Tensor, network: Call) -> Call:
    from torchcfm import ConditionalFlowMatcher, SchrodingerBridgeConditionalFlowMatcher

    plain = ConditionalFlowMatcher.sample_location_and_conditional_flow
    if gamma == "none":
        matcher = ConditionalFlowMatcher(sigma=0.0)
    else:
        matcher = SchrodingerBridgeConditionalFlowMatcher(sigma=1.0)

    def peer() -> Tensor:
        _, state, velocity = plain(matcher, x0, x1, t)  # its own variance, pairs as given
        return functional.mse_loss(network(t, state), velocity)

    return peer


def cases(tiny: bool) -> Iterator[Case]:
    torch.manual_seed(0)
    full = [(256, 64), (4096, 64), (4096, 3072), (64, 3, 64, 64)]
    for shape in [(2, 3), (2, 3, 4, 4)] if tiny else full:
        for gamma in ("none", "sqrt"):
            yield case(shape, gamma)


ENTRY = Entry(
    cases,
    needs=("torchcfm",),
    memory=True,
    notes=(
        "Endpoints, times and prediction are given; float32; no gradient.",
        "torchcfm draws a normal noise also for σ = 0 and adds 0 times it: that is in its time.",
        "Ours checks shapes, dtypes, devices and that the times lie in [0, 1].",
    ),
)
