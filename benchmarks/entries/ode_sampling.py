"""ODE sampling: one solve of a velocity, with a network of 4 × 256 and with one that does nothing.

Ours is `integrate`; beside it torchdiffeq's `odeint` with the same method and step, asked for the
end alone, and a for-loop written out for the method. Their fields differ in nothing but the form in
which the solver gives them the time: one per row (ours), a scalar tensor (torchdiffeq), a number
(loop). All three make the same number of network calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from genpath import Euclidean, Euler, RungeKutta, Sampler, Tableau, TimeGrid, flow, integrate
from genpath.tableaus import HEUN, RK4

from ..runner import Call, Case, Entry, agree, installed

__all__ = ["ENTRY"]

Network = Callable[[Tensor, Tensor], Tensor]  # states (rows, dim), times (rows, 1)

KUTTA = Tableau(  # the 3/8 rule (Kutta 1901): what torchdiffeq calls rk4
    ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
    (1 / 8, 3 / 8, 3 / 8, 1 / 8),
    (0.0, 1 / 3, 2 / 3, 1.0),
    4,
)


def euler_loop(network: Network, x: Tensor, steps: int) -> Tensor:
    h, rows = 1 / steps, len(x)
    for i in range(steps):
        x = x + h * network(x, torch.full((rows, 1), i * h))
    return x


def heun_loop(network: Network, x: Tensor, steps: int) -> Tensor:
    h, rows = 1 / steps, len(x)
    for i in range(steps):
        k1 = network(x, torch.full((rows, 1), i * h))
        k2 = network(x + h * k1, torch.full((rows, 1), (i + 1) * h))
        x = x + (h / 2) * (k1 + k2)
    return x


def rk4_loop(network: Network, x: Tensor, steps: int) -> Tensor:
    h, rows = 1 / steps, len(x)
    for i in range(steps):
        middle = torch.full((rows, 1), (i + 0.5) * h)
        k1 = network(x, torch.full((rows, 1), i * h))
        k2 = network(x + (h / 2) * k1, middle)
        k3 = network(x + (h / 2) * k2, middle)
        k4 = network(x + h * k3, torch.full((rows, 1), (i + 1) * h))
        x = x + (h / 6) * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


@dataclass(frozen=True)
class Method:
    """A method under its three names; ``same`` is ours with the peer's tableau."""

    sampler: Sampler
    same: Sampler
    peer: str
    loop: Callable[[Network, Tensor, int], Tensor]


METHODS = {
    "euler": Method(Euler(), Euler(), "euler", euler_loop),
    "heun": Method(RungeKutta(HEUN), RungeKutta(HEUN), "heun2", heun_loop),
    "rk4": Method(RungeKutta(RK4), RungeKutta(KUTTA), "rk4", rk4_loop),
}


class MLP(nn.Module):
    """Four hidden layers of SiLU on (x, t)."""

    def __init__(self, dimension: int, width: int = 256, depth: int = 4) -> None:
        super().__init__()
        widths = [dimension + 1] + [width] * depth
        layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(width, dimension))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        found: Tensor = self.layers(torch.cat([x, t], 1))
        return found


def nothing(x: Tensor, t: Tensor) -> Tensor:
    """A network that costs nothing: ẋ = x."""
    return x


def solve(label: str, name: str, network: Network, x: Tensor, steps: int, per: int = 1) -> Case:
    """One solve of ``steps`` steps from ``x``."""
    method, ends = METHODS[name], torch.tensor([0.0, 1.0])
    gen = flow(Euclidean(x.shape[1]), lambda t, x: network(x, t[:, None]))
    grid, rng = TimeGrid.uniform(steps), torch.Generator()

    @torch.no_grad()
    def ours(sampler: Sampler = method.sampler) -> Tensor:
        found: Tensor = integrate(sampler, gen, x, grid, rng).state
        return found

    @torch.no_grad()
    def loop() -> Tensor:
        return method.loop(network, x, steps)

    peers: dict[str, Call] = {"loop": loop}
    if installed("torchdiffeq"):
        from torchdiffeq import odeint

        def field(t: Tensor, x: Tensor) -> Tensor:
            return network(x, t.expand(len(x), 1))

        @torch.no_grad()
        def peer() -> Tensor:
            options = {"step_size": 1 / steps}
            found: Tensor = odeint(field, x, ends, method=method.peer, options=options)[-1]
            return found

        peers = {"torchdiffeq": peer, "loop": loop}

    def check() -> None:
        agree(f"{label}: the end of the loop", ours(), loop(), 1e-4)
        if "torchdiffeq" in peers:
            agree(f"{label}: torchdiffeq's end", ours(method.same), peer(), 1e-4)

    return Case(label, ours, peers, check, per)


def cases(tiny: bool) -> Iterator[Case]:
    torch.manual_seed(0)
    width, long = (4, 3) if tiny else (256, 1000)
    calls = {2: 4} if tiny else {256: 64, 4096: 16}
    for name, method in METHODS.items():
        label = f"{name}, no network, per step"
        yield solve(label, name, nothing, torch.randn(256, 2), long, per=long)
        for batch, number in calls.items():
            for dimension in (2, 64):
                steps = number // method.sampler.calls_per_step
                label = f"{name}, {steps} steps, batch {batch}, dim {dimension}"
                network = MLP(dimension, width)
                yield solve(label, name, network, torch.randn(batch, dimension), steps)


ENTRY = Entry(
    cases,
    needs=("torchdiffeq",),
    notes=(
        "Euler, Heun and the classical Runge–Kutta method of order 4 on uniform grids, float32.",
        "torchdiffeq's rk4 is the 3/8 rule: the same number of network calls and the same order "
        "as ours. The check compares ends with the same tableau on both sides.",
        "The rows without a network are the solver's own work per step, batch 256, dim 2.",
    ),
)
