r"""The network of the sphere: rows apart, and waves that are finer than the path's blur are off.

|F(t, y) − F(t, x)| ≤ |∂F| |y − x|  with waves damped by exp(−½(c|b|(1 − κ))²)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.schedules import linear_keep
from genpath.testing import Claim, Control, Evidence, Trial, but, contracts, dial, equal, near

from ..networks import SphereMLP
from .cases import points

__all__ = ["sphere_mlp"]


def sphere_mlp() -> tuple[Claim[Any], ...]:
    """The claims of ``network.manifold.sphere_mlp``."""
    return (*contracts.network(small, points(2, torch.float32), (3,)), zero(), blur())


def small(seed: int = 3) -> SphereMLP:
    """A small network with the same waves each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SphereMLP(width=16, depth=2, features=8, schedule=linear_keep())


def zero() -> Claim[SphereMLP]:
    """Before training."""

    def check(network: SphereMLP, trial: Trial) -> Evidence:
        x, t = points(2, torch.float32)(9, trial.rng()), torch.linspace(0, 1, 9)
        found = network(t, x)
        return equal("F(t, x) before training", found, torch.zeros_like(found))

    def shifted(network: SphereMLP, size: float) -> SphereMLP:
        return but(network, forward=lambda t, x: network(t, x) + size)

    return Claim(
        "starts-at-zero",
        "Before training the network is 0, so that the first loss is the mean square of the "
        "targets.",
        small,
        check,
        (dial("outputs + δ", shifted),),
    )


def first_layer(network: SphereMLP, t: Tensor, x: Tensor) -> Tensor:
    """What the first layer is given."""
    seen: list[Tensor] = []
    handle = network.layers[0].register_forward_pre_hook(lambda m, given: seen.append(given[0]))
    network(t, x)
    handle.remove()
    return seen[0].detach()


def blur() -> Claim[SphereMLP]:
    """Plane waves against their mean over a ball of the blur's size."""

    def make() -> SphereMLP:
        network = small().double()
        network.damping = 0.7
        return network

    def check(network: SphereMLP, trial: Trial) -> Iterator[Evidence]:
        x = points(2)(40, trial.rng())
        size = network.waves.norm(dim=0)
        waves = slice(3, 3 + len(size))
        for time in (0.0, 0.5, 0.9, 1.0):
            t = torch.full((40,), time, dtype=torch.float64)
            found = first_layer(network, t, x)[:, waves]
            # the mean of sin⟨b, x + c(1 − κ) ξ⟩ over normal ξ, by Gauss–Hermite quadrature
            nodes, weights = hermite()
            shift = 0.7 * (1 - time) * size * nodes[:, None]
            phase = x @ network.waves
            mean = (weights[:, None, None] * torch.sin(phase + shift[:, None])).sum(0)
            # the rule of 200 points is exact to rounding for phases up to 0.7 · 60 = 42 and sees
            # e^{−42²/2} = 0 as below 1e-9
            because = "the rule of 200 nodes, at phases up to 42"
            yield near(f"sin⟨b, x⟩ at t = {time:g}", found, mean, 1e-9, because)

    def weaker(network: SphereMLP, size: float) -> SphereMLP:
        network.damping = 0.7 * (1 - size)
        return network

    def undamped(network: SphereMLP) -> SphereMLP:
        network.schedule = None
        return network

    return Claim(
        "blur",
        "At time t the plane waves that the network sees are averaged over a normal law of "
        "width c(1 − κ(t)) around the point.",
        make,
        check,
        (dial("c × (1 − δ)", weaker, 0.5), Control("no damping", undamped)),
        formula=r"e^{-\frac12 (c|b|(1-\kappa))^2} \sin\langle b, x\rangle = "
        r"\mathbb{E}\sin\langle b, x + c(1-\kappa)\xi\rangle",
    )


def hermite(count: int = 200) -> tuple[Tensor, Tensor]:
    """Nodes and weights for means over a standard normal number, by the Jacobi matrix."""
    beside = torch.arange(1, count, dtype=torch.float64).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes, vectors[0] ** 2
