r"""Networks: a bidirectional transformer over sites.

    h_i = E[x_i] (+ window) (+ time);   h ← h + Attention(N(h));   h ← h + MLP(N(h));   W N(h)

Pre-norm blocks (Xiong et al. 2020, arXiv 2002.04745) without causal mask, with rotary positions
(Su et al. 2021, arXiv 2104.09864) or learned ones. The output has one column per real letter; the
mask is an input only. The posterior of a masked site ignores time, and so does the network unless
it is asked to be told.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from genpath.errors import DomainError
from genpath.predictions import Prediction

from .laws import _letters
from .spaces import Categorical

__all__ = ["Transformer", "transformer"]


class Norm(nn.Module):
    """Layer normalisation with a scale and no shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, h: Tensor) -> Tensor:
        return functional.layer_norm(h, h.shape[-1:], self.scale)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each on a normalised residual branch."""

    def __init__(self, width: int, heads: int, expansion: int, dropout: float, depth: int) -> None:
        super().__init__()
        self.heads, hidden = heads, expansion * width
        self.before_attention, self.before_mlp = Norm(width), Norm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.join = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.qkv, self.up):
            nn.init.normal_(layer.weight, std=width**-0.5)
        nn.init.normal_(self.join.weight, std=(2 * depth * width) ** -0.5)
        nn.init.normal_(self.down.weight, std=(2 * depth * hidden) ** -0.5)
        nn.init.zeros_(self.up.bias)
        nn.init.zeros_(self.down.bias)

    def forward(self, h: Tensor, angles: Tensor | None) -> Tensor:
        batch, sites, width = h.shape
        q, k, v = (
            self.qkv(self.before_attention(h))
            .view(batch, sites, 3, self.heads, width // self.heads)
            .unbind(2)
        )
        if angles is not None:
            q, k = _rotate(q, angles), _rotate(k, angles)
        mixed = functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        )
        h = h + self.dropout(self.join(mixed.transpose(1, 2).reshape(batch, sites, width)))
        result: Tensor = h + self.dropout(self.down(functional.silu(self.up(self.before_mlp(h)))))
        return result


def _rotate(q: Tensor, angles: Tensor) -> Tensor:
    """Pairs of channels (batch, sites, heads, channels) turned by angles (sites, channels/2)."""
    cosine, sine = angles.cos().unsqueeze(1).to(q), angles.sin().unsqueeze(1).to(q)
    a, b = q.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)


class Transformer(nn.Module):
    """Letters ``(batch, *event)`` to logits ``(batch, *event, letters)``.

    Args:
        space: the space of x_t; its ``size`` letters are inputs, its real letters are outputs.
        width, depth, heads, expansion, dropout: sizes; heads divides width.
        positions: "rotary" (needs an even number of channels per head) or "learned".
        window: how many neighbouring letters (odd; 0 for none) enter a site's first layer together.
        time: whether the network is told t; without, its output does not depend on it.

    Raises:
        DomainError: heads does not divide width, rotary with an odd head, an even window.

    Example:
        >>> network = Transformer(Categorical(5, (7,), mask=True), width=8, depth=1, heads=2)
        >>> network(torch.zeros(3), torch.zeros(3, 7, dtype=torch.long)).shape
        torch.Size([3, 7, 5])
    """

    def __init__(
        self,
        space: Categorical,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        expansion: int = 4,
        dropout: float = 0.0,
        positions: str = "rotary",
        window: int = 0,
        time: bool = False,
    ) -> None:
        super().__init__()
        _check_sizes(width, heads, positions, window)
        self.space, self.window = space, window
        self.letter = nn.Embedding(space.size, width)
        nn.init.normal_(self.letter.weight)
        if window:
            near = min(width, 32)
            self.near = nn.Embedding(space.size + 1, near)  # one more letter: beyond the border
            self.spread = nn.Linear(window * near, width, bias=False)
            nn.init.normal_(self.spread.weight, std=(window * near) ** -0.5)
        self.place = None
        if positions == "learned":
            self.place = nn.Parameter(0.3 * torch.randn(space.sites, width))
        half = width // heads // 2
        angles = torch.arange(space.sites).unsqueeze(1) * 1e4 ** (
            -torch.arange(half) / max(half, 1)
        )
        self.angles: Tensor | None
        self.register_buffer("angles", angles if positions == "rotary" else None, persistent=False)
        self.clock = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        if not time:
            self.clock = None  # type: ignore[assignment]
        self.blocks = nn.ModuleList(
            Block(width, heads, expansion, dropout, depth) for _ in range(depth)
        )
        self.norm, self.head = Norm(width), nn.Linear(width, space.letters)
        nn.init.normal_(self.head.weight, std=0.3 * width**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        """Logits at times ``(batch,)`` and letters ``(batch, *event)``."""
        x = state.reshape(state.shape[0], self.space.sites)
        h = self.letter(x)
        if self.window:
            beyond, radius = self.space.size, self.window // 2
            padded = functional.pad(x, (radius, radius), value=beyond).unfold(1, self.window, 1)
            h = h + self.spread(self.near(padded).flatten(2))
        if self.place is not None:
            h = h + self.place
        if self.clock is not None:
            h = h + self.clock(_waves(t.to(h), 64)).unsqueeze(1)
        for block in self.blocks:
            h = block(h, self.angles)
        logits: Tensor = self.head(self.norm(h))
        return logits.reshape(*state.shape, self.space.letters)


def _waves(t: Tensor, channels: int) -> Tensor:
    """Sines and cosines of t at geometric frequencies from 1 to 1000: ``(batch, channels)``."""
    frequency = 1e3 ** torch.linspace(0, 1, channels // 2, device=t.device, dtype=t.dtype)
    phase = 2 * math.pi * t.unsqueeze(1) * frequency
    return torch.cat([phase.sin(), phase.cos()], 1)


def _check_sizes(width: int, heads: int, positions: str, window: int) -> None:
    where = "network.discrete.transformer"
    if width % heads:
        raise DomainError(where, "heads divides width.", got=f"width {width}, heads {heads}")
    if positions not in ("rotary", "learned"):
        raise DomainError(where, "positions is rotary or learned.", got=repr(positions))
    if positions == "rotary" and (width // heads) % 2:
        raise DomainError(
            where, "rotary positions turn pairs of channels.", got=f"{width // heads} per head"
        )
    if window and window % 2 == 0:
        raise DomainError(where, "a window has a middle: it is odd, or 0.", got=f"window {window}")


def transformer(space: Any, prediction: Prediction, **options: Any) -> Transformer:
    """The component ``network.discrete.transformer``: one column of logits per real letter.

    Example:
        >>> from genpath_discrete import MaskedPath
        >>> path = MaskedPath(Categorical(5, (7,)))
        >>> logits = path.predictions["logits"]
        >>> network = transformer(path.space, logits, width=8, depth=1, heads=2)
        >>> network(torch.zeros(3), torch.full((3, 7), path.mask_id)).shape
        torch.Size([3, 7, 5])
    """
    letters = _letters(space, "network.discrete.transformer")
    if tuple(prediction.output_shape) != (*letters.event_shape, letters.letters):
        raise DomainError(
            "network.discrete.transformer",
            "it returns one row of logits per site.",
            got=f"prediction {prediction.name!r} of shape {prediction.output_shape}",
            fix="set predict: logits",
        )
    return Transformer(letters, **options)
