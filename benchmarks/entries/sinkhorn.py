"""Entropic optimal transport of two samples: the plan of a static Schrödinger bridge.

n points each in 8 dimensions, cost ½|x − y|², regularisation r. Ours is `sinkhorn`: float32, in the
log domain with products in between, annealed from a large r. Beside it POT's log-domain Sinkhorn
(`ot.bregman.sinkhorn_log`, NumPy, float64), to the same tolerance of the marginals, 1e-6.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from genpath_interpolants.couplings import half_squared_distance, sinkhorn

from ..runner import Call, Case, Entry, agree, installed

__all__ = ["ENTRY"]

TOLERANCE = 1e-6


def case(count: int, regularisation: float) -> Case:
    x, y = torch.randn(2, count, 8).unbind()
    cost = half_squared_distance(x, 0.5 * y + 1)
    equal, wide = np.full(count, 1 / count), cost.double().numpy()

    def ours() -> Tensor:
        return sinkhorn(cost, regularisation, tolerance=TOLERANCE).plan

    def peer() -> Tensor:
        import ot

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plan = ot.bregman.sinkhorn_log(
                equal, equal, wide, regularisation, stopThr=TOLERANCE, numItermax=5000
            )
        return torch.from_numpy(plan)

    peers: dict[str, Call] = {"POT": peer} if installed("POT") else {}
    label = f"n = {count}, r = {regularisation:g}"

    def check() -> None:
        for name, call in peers.items():
            agree(f"{label}: the plan of {name}", ours().double(), call(), 1e-2)  # type: ignore[arg-type]

    return Case(label, ours, peers, check)


def cases(tiny: bool) -> Iterator[Case]:
    torch.manual_seed(0)
    for count in (8,) if tiny else (256, 1024):
        for regularisation in (1.0,) if tiny else (1.0, 0.2):
            yield case(count, regularisation)


ENTRY = Entry(
    cases,
    needs=("POT",),
    notes=("One thread; POT's time is NumPy's.",),
)
