r"""Networks: plain ones, enough for small data; larger ones come from the libraries for them.

`mlp` is a residual network with time in every block:

    h ← W φ(x);   depth times h ← h + B SiLU(A norm(h) + C τ(t));   output W′ SiLU(norm(h))

φ stacks the flattened state and, for each scale s, the Fourier features sin(2πsBx), cos(2πsBx) with
a fixed random B (Tancik et al. 2020, arXiv 2006.10739); τ embeds t by sines and cosines. The output
starts at zero (W′ = 0), so that training starts from the field that predicts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import CapabilityError
from .predictions import Prediction
from .spaces import Space

__all__ = ["MLP", "FourierFeatures", "TimeFeatures", "mlp"]


class TimeFeatures(nn.Module):
    """sin and cos of π 2^{k/2} t for k = 0, 1, …, and t itself: ``(batch,) → (batch, width)``.

    Args:
        count: how many frequencies, at least 1; half an octave apart from 1/2 per unit of time.
        width: of the embedding.

    Example:
        >>> TimeFeatures(4, 8)(torch.zeros(3)).shape
        torch.Size([3, 8])
    """

    frequencies: Tensor

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        # at most 2π·64 per unit of time: faster waves cannot be learned from random times
        octaves = torch.linspace(0, min(7.0, (count - 1) / 2), count)
        self.register_buffer("frequencies", math.pi * 2**octaves)
        self.layers = nn.Sequential(
            nn.Linear(2 * count + 1, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        """The embedding of times ``(batch,)``."""
        t = t.to(self.frequencies.dtype).unsqueeze(-1)
        phase = t * self.frequencies
        embedded: Tensor = self.layers(torch.cat((t, phase.sin(), phase.cos()), -1))
        return embedded


class FourierFeatures(nn.Module):
    """sin(2πsBx) and cos(2πsBx) for each scale s, B fixed: ``(batch, d) → (batch, k)``.

    Args:
        size: d.
        count: rows of B per scale.
        scales: the standard deviations of B's entries, one block each.

    Example:
        >>> FourierFeatures(2, 8, [0.5, 2.0])(torch.zeros(3, 2)).shape
        torch.Size([3, 32])
    """

    frequencies: Tensor

    def __init__(self, size: int, count: int, scales: Sequence[float]) -> None:
        super().__init__()
        blocks = [2 * math.pi * scale * torch.randn(size, count) for scale in scales]
        self.register_buffer("frequencies", torch.cat(blocks, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The features of points ``(batch, d)``."""
        phase = x @ self.frequencies
        return torch.cat((phase.sin(), phase.cos()), -1)


class _Block(nn.Module):
    """h + B SiLU(A norm(h) + C τ), with B small at first."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner, self.time = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout, self.outer = nn.Dropout(dropout), nn.Linear(width, width)

    def forward(self, h: Tensor, tau: Tensor) -> Tensor:
        inside = functional.silu(self.inner(self.norm(h)) + self.time(tau))
        out: Tensor = h + self.outer(self.dropout(inside))
        return out


class MLP(nn.Module):
    """The residual network of this module, for states that are one tensor.

    Args:
        size: entries of one state; states are ``(batch, *event)``.
        output_shape: of one prediction; the network returns ``(batch, *output_shape)``.
        width, depth, time_features, fourier, scales, dropout, raw: see `mlp`.

    Example:
        >>> network = MLP(6, (4,), width=8, depth=1)
        >>> network(torch.rand(2), torch.rand(2, 2, 3))  # before training: 0
        tensor([[0., 0., 0., 0.],
                [0., 0., 0., 0.]], grad_fn=<ViewBackward0>)
    """

    def __init__(
        self,
        size: int,
        output_shape: tuple[int, ...],
        *,
        width: int = 256,
        depth: int = 3,
        time_features: int = 16,
        fourier: int = 0,
        scales: Sequence[float] = (1.0,),
        dropout: float = 0.0,
        raw: bool = True,
    ) -> None:
        super().__init__()
        self.output_shape, self.raw = tuple(output_shape), raw or not fourier
        self.fourier = FourierFeatures(size, fourier, scales) if fourier else None
        inputs = (size if self.raw else 0) + (2 * fourier * len(scales) if fourier else 0)
        self.time = TimeFeatures(time_features, width)
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(depth))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, math.prod(self.output_shape))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        """The prediction at times ``(batch,)`` and states ``(batch, *event)``."""
        x = state.flatten(1) if state.dim() > 1 else state.unsqueeze(1)
        x = x.to(self.first.weight.dtype)
        features = [x] if self.raw else []
        if self.fourier is not None:
            features.append(self.fourier(x))
        tau = functional.silu(self.time(t))
        h = self.first(torch.cat(features, -1))
        for block in self.blocks:
            h = block(h, tau)
        out: Tensor = self.last(functional.silu(self.norm(h)))
        return out.reshape(state.shape[0], *self.output_shape)


def mlp(
    width: int,
    depth: int,
    time_features: int,
    fourier: int,
    fourier_scale: float,
    scales: Sequence[float],
    dropout: float,
    raw: bool,
    space: Space,
    prediction: Prediction,
) -> MLP:
    """The component ``network.mlp``: for states that are one tensor of any event shape.

    Args:
        width: of the hidden layers.
        depth: residual blocks.
        time_features: frequencies of the time embedding.
        fourier: random frequencies per scale for the state; 0 for none.
        fourier_scale: standard deviation of the frequencies, in cycles per unit of the state.
        scales: several of them, each with its own frequencies; ``fourier_scale`` alone if empty.
        dropout: inside each block.
        raw: whether the state itself is an input beside its Fourier features.
        space: where states live.
        prediction: what is asked for.

    Raises:
        CapabilityError: the states, or the predictions, are dicts.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> velocity = Prediction("velocity", (2,), True, "E[ẋ | x_t]")
        >>> network = mlp(8, 1, 4, 0, 1.0, [], 0.0, True, Euclidean(2), velocity)
        >>> network(torch.rand(3), torch.rand(3, 2)).abs().max().item()
        0.0
    """
    shapes: tuple[Any, Any] = space.event_shape, prediction.output_shape
    if not all(isinstance(shape, tuple) for shape in shapes):
        raise CapabilityError(
            "network.mlp",
            "states and predictions are one tensor each.",
            got=f"states {shapes[0]}, predictions {shapes[1]}",
            fix="choose a network for products of spaces",
        )
    return MLP(
        math.prod(shapes[0]),
        shapes[1],
        width=width,
        depth=depth,
        time_features=time_features,
        fourier=fourier,
        scales=list(scales) or [fourier_scale],
        dropout=dropout,
        raw=raw,
    )
