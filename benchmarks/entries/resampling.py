"""A resampling step: from log-weights to the rows of the new population, 10⁶ particles in a plane.

Ours is `resample_indices` with a gather of the state. Beside it `particles` 0.4 (compiled by
numba): weights normalised by `Weights`, ancestors by its scheme of the same name, the same gather
in NumPy; and two lines of torch, a search of the cumulative weights (for systematic and stratified)
or `torch.multinomial` (for the others, which it does not replace). All take float64 log-weights and
a float32 state of two coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from genpath_compose.resampling import resample_indices

from ..runner import Call, Case, Disagreement, Entry, installed

__all__ = ["ENTRY"]


def case(count: int, scheme: str) -> Case:
    rng = torch.Generator().manual_seed(0)
    log_weight = torch.randn(count, generator=rng, dtype=torch.float64)
    state = torch.randn(count, 2, generator=rng)
    plain, rows = log_weight.numpy(), state.numpy()  # shared memory

    def ours() -> Tensor:
        return state[resample_indices(log_weight, rng, scheme)]

    def peer() -> np.ndarray:
        from particles import resampling

        weights = resampling.Weights(lw=plain)
        return rows[getattr(resampling, scheme)(weights.W)]

    def plain_torch() -> Tensor:
        weights = torch.softmax(log_weight, 0)
        if scheme not in ("systematic", "stratified"):
            return state[torch.multinomial(weights, count, replacement=True, generator=rng)]
        size = 1 if scheme == "systematic" else count
        offset = torch.rand(size, generator=rng, dtype=torch.float64)
        points = (torch.arange(count, dtype=torch.float64) + offset) / count
        return state[torch.searchsorted(weights.cumsum(0), points).clamp_max(count - 1)]

    peers: dict[str, Call] = {"torch": plain_torch}
    if installed("particles"):
        peers["particles"] = peer
    label = f"{scheme}, n = {count}"

    def check() -> None:
        """Both keep the weighted mean, to the accuracy of a draw."""
        weights = torch.softmax(log_weight, 0).to(state.dtype)
        true = weights @ state
        for name, call in {"genpath": ours, **peers}.items():
            found = torch.as_tensor(call()).mean(0)
            if not bool(((found - true).abs() < 10 / count**0.5).all()):
                raise Disagreement(f"{label}: {name}: mean {found.tolist()} for {true.tolist()}")

    return Case(label, ours, peers, check)


def cases(tiny: bool) -> Iterator[Case]:
    for scheme in ("systematic", "stratified", "residual", "multinomial", "ssp"):
        yield case(1000 if tiny else 1_000_000, scheme)


ENTRY = Entry(
    cases,
    needs=("particles",),
    memory=True,
    notes=(
        "One thread; the time of `particles` is numba's and NumPy's, compiled before the rounds.",
    ),
)
