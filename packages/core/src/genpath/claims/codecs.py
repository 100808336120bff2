r"""Claims of the core's codecs, and what dequantisation costs in bits.

log P(y) ≥ E_u log p(y + u),      with equality where p is constant on the cell of y
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.codecs import Chain, Dequantise, Identity, Standardise
from genpath.components import standardise
from genpath.datasets import Dataset
from genpath.laws import Gaussian
from genpath.spaces import Euclidean
from genpath.testing import Claim, Evidence, Trial, at_most, but, contracts, dial, equal, near

__all__ = ["chains", "dequantisation", "identity", "standardisation"]

DOUBLE = torch.float64
SPACE = Euclidean(3)


def _levels(count: int) -> Any:
    def data(rows: int, rng: torch.Generator) -> Tensor:
        return torch.randint(count, (rows, 3), generator=rng).to(DOUBLE)

    return data


def _numbers(count: int, rng: torch.Generator) -> Tensor:
    scale = torch.tensor([2.0, 0.1, 30.0], dtype=DOUBLE)
    return 5.0 + scale * torch.randn(count, 3, generator=rng, dtype=DOUBLE)


def identity() -> tuple[Claim[Any], ...]:
    """Claims of ``codec.identity``."""
    return contracts.codec(Identity, _numbers, data_space=SPACE)


def _fitted(floor: float = 1e-6) -> Standardise:
    rows = _numbers(200, torch.Generator().manual_seed(0))
    return standardise(floor, Dataset("numbers", SPACE, rows, rows[:1], rows[:1], "made up"))


def standardisation() -> tuple[Claim[Any], ...]:
    """Claims of ``codec.standardise``."""
    return (*contracts.codec(_fitted, _numbers, data_space=SPACE), _whitened())


def _whitened() -> Claim[Any]:
    def check(codec: Any, trial: Trial) -> Iterator[Evidence]:
        rows = _numbers(200, torch.Generator().manual_seed(0))
        state, _ = codec.encode(rows, trial.rng())
        zero, one = torch.zeros(3, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE)
        yield equal("mean of the training rows", state.mean(0), zero, operations=4096)
        yield equal("their mean square", state.square().mean(0), one, operations=4096)

    def wider(codec: Any, size: float) -> Any:
        return but(codec, std=(1 + size) * codec.std)

    def moved(codec: Any, size: float) -> Any:
        return but(codec, mean=codec.mean + size * codec.std)

    return Claim(
        "standardised",
        "Fitted to rows, it gives them mean 0 and variance 1 in every coordinate.",
        _fitted,
        check,
        (dial("std × (1 + δ)", wider), dial("mean + δ std", moved)),
    )


def dequantisation() -> tuple[Claim[Any], ...]:
    """Claims of ``codec.dequantise``."""
    return (
        *contracts.codec(lambda: Dequantise(17, 2.0), _levels(17), data_space=SPACE),
        *contracts.named("two", contracts.codec(lambda: Dequantise(2), _levels(2))),
        _eight_bits(),
        _bound(),
    )


def _raised(codec: Any, size: float) -> Any:
    def encode(y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        state, log_det = codec.encode(y, rng)
        return state, log_det + size

    return but(codec, encode=encode)


def _eight_bits() -> Claim[Any]:
    scale, size = 1.5, 3

    def check(codec: Any, trial: Trial) -> Iterator[Evidence]:
        y = _levels(256)(64, trial.rng("levels"))
        state, log_det = codec.encode(y, trial.rng("noise"))
        inside = (state >= -scale) & (state < scale)
        log_p = torch.where(inside, -torch.tensor(2 * scale, dtype=DOUBLE).log(), -math.inf).sum(1)
        bits = -(log_p + log_det) / (size * math.log(2.0))
        yield equal("bits per dimension", bits, torch.full_like(bits, 8.0))

    return Claim(
        "eight-bits",
        "The uniform model of 256 levels has exactly 8 bits per dimension.",
        lambda: Dequantise(256, scale),
        check,
        (dial("log det + δ", _raised),),
        formula=r"-\tfrac1d \log_2 p(y) = 8",
        entries=("M.11",),
    )


def _bound() -> Claim[Any]:
    """All levels of one coordinate, with the noise replaced by Gauss–Legendre nodes of [0, 1]."""

    def check(codec: Any, trial: Trial) -> Iterator[Evidence]:
        u, weights = contracts.line(0.0, 1.0)(16)
        y = torch.arange(8, dtype=DOUBLE)
        state, log_det = codec.encode(y[:, None], trial.rng("noise"))
        # decode's cell of y, entered at the share u: the states that encode can return
        width = 2 * codec.scale / codec.levels
        drawn = (state[:, 0] + codec.scale) / width - y
        cells = state[:, 0, None] + width * (u - drawn[:, None])
        law = Gaussian((), 0.2, 0.4, DOUBLE)
        log_p = law.log_prob(cells.reshape(-1)).reshape(cells.shape) + log_det[:, None]
        mass = (weights * log_p.exp()).sum(1)
        edges = torch.arange(9, dtype=DOUBLE) * width - codec.scale
        below = torch.special.ndtr((edges - 0.2) / 0.4)
        yield near("P(y) = ∫ p over its cell", mass, below.diff(), 1e-12, "16 nodes in 8 panels")
        because = "Jensen's inequality"
        yield at_most("E log p(y + u)", (weights * log_p).sum(1), below.diff().log(), because)

    return Claim(
        "bound",
        "The mean of p over the cell of y is the mass of y under the model, and the mean of log p "
        "bounds its logarithm from below.",
        lambda: Dequantise(8),
        check,
        (dial("log det + δ", _raised),),
        formula=r"\log P(y) = \log \mathbb{E}_u\, p(y + u) \ge \mathbb{E}_u \log p(y + u)",
        entries=("M.11",),
    )


def _chain() -> Chain:
    rows = _levels(17)(200, torch.Generator().manual_seed(0))
    first = Dequantise(17)
    state, _ = first.encode(rows, torch.Generator().manual_seed(1))
    return Chain([first, Standardise.fit(state)])


def _exact_chain() -> Chain:
    return Chain([_fitted(), Identity(), _fitted()])


def chains() -> tuple[Claim[Any], ...]:
    """Claims of `Chain`, which no config names."""
    return (
        *contracts.named("levels", contracts.codec(_chain, _levels(17), data_space=SPACE)),
        *contracts.named("numbers", contracts.codec(_exact_chain, _numbers, data_space=SPACE)),
    )
