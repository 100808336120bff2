"""Options of the components; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genpath.config.options import Slot, option, slot

__all__ = [
    "CategoricalOptions",
    "ELBOOptions",
    "MaskedELBOOptions",
    "NgramOptions",
    "PathOptions",
    "TextSamplesOptions",
    "TopicsOptions",
    "TransformerOptions",
]


@dataclass(frozen=True)
class CategoricalOptions:
    """Of a space of letters."""

    letters: int = option(2, help="real letters", minimum=1)
    event_shape: tuple[int, ...] = option((), help="the shape of one point")
    mask: bool = option(False, help="whether the mask belongs to the space")


@dataclass(frozen=True)
class PathOptions:
    """Of both paths."""

    schedule: Slot = slot("schedule", "linear", help="κ(t), the share of sites that carry data")  # noqa: RUF009


@dataclass(frozen=True)
class MaskedELBOOptions:
    """Of the masked bound as a loss."""

    estimator: Literal["time", "count"] = option(
        "time", help="draw times (weight κ̇/(1−κ)), or the number of masks n (weight L/n)"
    )


@dataclass(frozen=True)
class ELBOOptions:
    """Of the masked bound as a likelihood."""

    draws: int = option(16, help="network calls per example", minimum=2)
    estimator: Literal["time", "count"] = option(
        "count", help="count has the smaller variance, for networks that ignore time"
    )
    chunk: int = option(256, help="rows scored together", minimum=1)


@dataclass(frozen=True)
class TransformerOptions:
    """Of the bidirectional transformer."""

    width: int = option(128, help="channels", minimum=1)
    depth: int = option(4, help="blocks", minimum=1)
    heads: int = option(4, help="attention heads; divides width", minimum=1)
    expansion: int = option(4, help="width of the hidden layer, as a multiple", minimum=1)
    dropout: float = option(0.0, help="of both branches of a block", minimum=0, below=1)
    positions: Literal["rotary", "learned"] = option("rotary", help="how sites know their place")
    window: int = option(
        0,
        help="neighbours that enter a site's first layer together; 0 for none",
        minimum=0,
    )
    time: bool = option(False, help="tell the network the time")


@dataclass(frozen=True)
class TopicsOptions:
    """Of the text of Python's help topics."""

    length: int = option(256, help="characters per row", minimum=8)
    block: int = option(16, help="rows per block; whole blocks go to one split", minimum=1)
    stride: int = option(
        256, help="characters between the starts of training rows; less than length overlaps them",
        minimum=1,
    )  # fmt: skip


@dataclass(frozen=True)
class NgramOptions:
    """Of the n-gram baselines."""

    thin: int = option(
        1, help="count every k-th training row: length/stride for rows that overlap", minimum=1
    )


@dataclass(frozen=True)
class TextSamplesOptions:
    """Of the samples as text."""

    shown: int = option(4, help="samples shown", minimum=1)
