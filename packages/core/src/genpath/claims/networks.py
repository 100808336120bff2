"""Claims of the core's network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genpath.networks import MLP, mlp
from genpath.predictions import Prediction
from genpath.spaces import Euclidean
from genpath.testing import Claim, Control, Evidence, Trial, but, contracts, exact

__all__ = ["perceptron"]

SPACE = Euclidean(2, 2)
PREDICTION = Prediction("logits", (3,), False, "log-odds of three classes")


def _mlp(raw: bool = True) -> MLP:
    return mlp(16, 2, 4, 4, 0.5, [], 0.1, raw, SPACE, PREDICTION)


def _states(count: int, rng: torch.Generator) -> Tensor:
    return torch.randn(count, 2, 2, generator=rng)


def perceptron() -> tuple[Claim[Any], ...]:
    """Claims of ``network.mlp``, with and without the raw state among its inputs."""
    waves = contracts.network(lambda: _mlp(raw=False), _states, (3,))
    return (
        *contracts.network(_mlp, _states, (3,)),
        *contracts.named("waves", waves),
        _starts_at_zero(),
    )


def _starts_at_zero() -> Claim[Any]:
    def check(net: Any, trial: Trial) -> Evidence:
        x = _states(8, trial.rng("states"))
        with torch.no_grad():
            found = net(torch.rand(8, generator=trial.rng("times")), x)
        return exact("the output before training", found, torch.zeros(8, 3))

    def shifted(net: Any) -> Any:
        return but(net, forward=lambda t, x: net(t, x) + 1e-3)

    return Claim(
        "starts-at-zero",
        "Before training the network predicts 0, whatever the time and the state.",
        _mlp,
        check,
        (Control("a bias of 0.001", shifted),),
    )
