r"""Test functions: waves and bumps, against which laws are compared.

    φ = cos k·x, sin k·x       ∇φ = −k sin k·x, k cos k·x       Δφ = −|k|² φ
    φ = exp(−|x − c|²/(2w²))   ∇φ = −φ (x − c)/w²               Δφ = φ (|x − c|²/w² − d)/w²

A family gives φ, its derivative along one vector per row, and Δφ, each ``(batch, m)``: no gradient
``(batch, m, d)`` is ever made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.states import flat_event, per_row

__all__ = ["Bumps", "Features", "Joined", "Waves", "random_features"]


@runtime_checkable
class Features(Protocol):
    """m test functions φ of a state ``(batch, *event)``."""

    def value(self, x: Tensor) -> Tensor:
        """φ(x): ``(batch, m)``."""
        ...

    def along(self, x: Tensor, v: Tensor) -> Tensor:
        """∇φ(x)·v for one vector per row ``(batch, *event)``: ``(batch, m)``."""
        ...

    def laplacian(self, x: Tensor) -> Tensor:
        """Δφ(x): ``(batch, m)``."""
        ...


@dataclass(frozen=True)
class Waves:
    """cos k·x for every k, then sin k·x: 2m functions.

    Args:
        frequencies: k, ``(m, *event)``.

    Example:
        >>> waves = Waves(torch.tensor([[2.0]]))
        >>> x = torch.zeros(1, 1)
        >>> waves.value(x), waves.along(x, torch.ones(1, 1)), waves.laplacian(x)
        (tensor([[1., 0.]]), tensor([[-0., 2.]]), tensor([[-4., -0.]]))
    """

    frequencies: Tensor

    def value(self, x: Tensor) -> Tensor:
        phase = self._dot(x)
        return torch.cat([phase.cos(), phase.sin()], 1)

    def along(self, x: Tensor, v: Tensor) -> Tensor:
        phase, rate = self._dot(x), self._dot(v)
        return torch.cat([-rate * phase.sin(), rate * phase.cos()], 1)

    def laplacian(self, x: Tensor) -> Tensor:
        square = flat_event(self.frequencies.square()).sum(1).repeat(2)
        return -square.to(x) * self.value(x)

    def _dot(self, x: Tensor) -> Tensor:
        return flat_event(x) @ flat_event(self.frequencies).to(x).T


@dataclass(frozen=True)
class Bumps:
    """exp(−|x − c|²/(2w²)) for every centre c.

    Args:
        centres: c, ``(m, *event)``.
        width: w > 0.

    Raises:
        DomainError: the width is not positive.

    Example:
        >>> bumps, x = Bumps(torch.zeros(1, 2), 0.5), torch.zeros(1, 2)
        >>> bumps.value(x), bumps.laplacian(x)
        (tensor([[1.]]), tensor([[-8.]]))
    """

    centres: Tensor
    width: float

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise DomainError("Bumps", "width > 0.", got=f"{self.width:g}")

    def value(self, x: Tensor) -> Tensor:
        return torch.exp(-0.5 * self._squares(x) / self.width**2)

    def along(self, x: Tensor, v: Tensor) -> Tensor:
        flat, centres = flat_event(v), flat_event(self.centres).to(x)
        inner = (flat_event(x) * flat).sum(1, keepdim=True) - flat @ centres.T
        return -self.value(x) * inner / self.width**2

    def laplacian(self, x: Tensor) -> Tensor:
        size = flat_event(x).shape[1]
        return self.value(x) * (self._squares(x) / self.width**2 - size) / self.width**2

    def _squares(self, x: Tensor) -> Tensor:
        flat, centres = flat_event(x), flat_event(self.centres).to(x)
        gap = flat.unsqueeze(1) - centres if centres.shape[1] <= 8 else None
        if gap is not None:
            return gap.square().sum(2)
        squares = flat.square().sum(1, keepdim=True) + centres.square().sum(1)
        return (squares - 2 * flat @ centres.T).clamp_min(0)


@dataclass(frozen=True)
class Joined:
    """Several families as one, in their order.

    Example:
        >>> both = Joined((Waves(torch.ones(2, 1)), Bumps(torch.zeros(3, 1), 1.0)))
        >>> both.value(torch.zeros(4, 1)).shape
        torch.Size([4, 7])
    """

    parts: tuple[Features, ...]

    def value(self, x: Tensor) -> Tensor:
        return torch.cat([part.value(x) for part in self.parts], 1)

    def along(self, x: Tensor, v: Tensor) -> Tensor:
        return torch.cat([part.along(x, v) for part in self.parts], 1)

    def laplacian(self, x: Tensor) -> Tensor:
        return torch.cat([part.laplacian(x) for part in self.parts], 1)


def random_features(x: Tensor, count: int, rng: torch.Generator) -> Features:
    """``count`` waves and as many bumps, at the place and scale of given states.

    Frequencies are normal with k·x of standard deviation ½ to 2; centres are rows of x, with the
    width √d times the mean standard deviation.

    Args:
        x: states ``(batch, *event)``, two or more.
        count: waves (each gives cos and sin), and bumps.
        rng: for both.

    Example:
        >>> rng, x = torch.Generator().manual_seed(0), torch.randn(50, 2)
        >>> random_features(x, 3, rng).value(torch.zeros(1, 2)).shape
        torch.Size([1, 9])
    """
    if x.shape[0] < 2:
        raise DomainError("random_features", "two states or more.", got=f"{x.shape[0]}")
    spread = x.std(0).clamp_min(1e-6)
    size = max(spread.numel(), 1)
    make: dict[str, Any] = {"generator": rng, "device": x.device, "dtype": x.dtype}
    scale = torch.linspace(0.5, 2.0, count, device=x.device, dtype=x.dtype)
    normal = torch.randn(count, *x.shape[1:], **make)
    frequencies = per_row(scale, normal) * normal / (spread * math.sqrt(size))
    index = torch.randint(0, x.shape[0], (count,), generator=rng, device=x.device)
    width = math.sqrt(size) * float(spread.square().mean().sqrt())
    return Joined((Waves(frequencies), Bumps(x[index], width)))
