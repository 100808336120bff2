r"""Data: text as rows of characters.

`topics` is the text that Python's own ``help()`` prints: ``pydoc_data.topics`` of the running
interpreter, its topics in the order of their keys, one after the other. It comes with Python, so
nothing is downloaded; it differs a little from one Python version to the next, and the provenance
holds its SHA-256.

Splits do not overlap: the text is cut into blocks of rows, and the hash of a block's number sends
the whole block to one split. Training rows may start every ``stride`` characters inside a run of
consecutive training blocks.
"""

from __future__ import annotations

import hashlib
import sys

import torch
from torch import Tensor

from genpath.datasets import Dataset, hash_split
from genpath.errors import DomainError

from .spaces import Categorical

__all__ = ["split_text", "topics"]

LICENCE = "Python documentation, PSF License Version 2"


def topics(length: int = 256, block: int = 16, stride: int = 256) -> Dataset:
    """The component ``data.discrete.topics``: characters of Python's help topics.

    Args:
        length: characters per row.
        block: rows per block; whole blocks go to one split (90 % training, 5 %, 5 %).
        stride: characters between the starts of training rows.

    Example:
        >>> rows = topics(length=64)
        >>> rows.train.shape[1], rows.bits_per
        (64, ('character', 64))
    """
    from pydoc_data.topics import topics as texts

    text = "".join(texts[key] for key in sorted(texts))
    alphabet = tuple(sorted(set(text)))
    train, validation, test = split_text(text, alphabet, length, block, stride)
    version = ".".join(map(str, sys.version_info[:3]))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Dataset(
        name="Python help topics",
        space=Categorical(len(alphabet), (length,)),
        train=train,
        validation=validation,
        test=test,
        provenance=f"pydoc_data.topics of Python {version}, {len(text)} characters, "
        f"sha256 {digest}; {LICENCE}",
        alphabet=alphabet,
        bits_per=("character", length),
    )


def split_text(
    text: str, alphabet: tuple[str, ...], length: int, block: int, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of training, validation and test letters, ``(rows, length)`` each, without overlap.

    A block is ``block · length`` characters; its number's hash decides its split. What is left
    after the last whole block is dropped.

    Raises:
        DomainError: the text has no whole block.

    Example:
        >>> train, *_ = split_text("ab" * 400, ("a", "b"), 8, 1, 4)
        >>> train.shape[1]
        8
    """
    index = {letter: i for i, letter in enumerate(alphabet)}
    letters = torch.tensor([index[letter] for letter in text])
    size = block * length
    count = len(letters) // size
    if count == 0:
        raise DomainError(
            "split_text", f"the text holds a block of {size} characters.", got=f"{len(text)}"
        )
    blocks = letters[: count * size].reshape(count, size)
    train, validation, test = hash_split([f"block {i}".encode() for i in range(count)], (0.9, 0.05))
    runs = _runs(train.tolist())
    rows = [blocks[a:b].flatten().unfold(0, length, stride) for a, b in runs]
    held_out = [blocks[part].reshape(-1, length) for part in (validation, test)]
    return torch.cat(rows), held_out[0], held_out[1]


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Maximal runs [a, b) of consecutive numbers."""
    starts = [n for n in numbers if n - 1 not in set(numbers)]
    ends = [n + 1 for n in numbers if n + 1 not in set(numbers)]
    return list(zip(starts, ends, strict=True))
