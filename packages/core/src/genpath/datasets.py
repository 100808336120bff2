"""Datasets: rows to learn from, split, with where they came from.

A data component returns a `Dataset`. Rows are in the data's own units; a codec makes states.
Splits are by hash of a row's content, so that copies stay on one side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import DomainError
from .laws import Law
from .spaces import Space
from .states import batch_size, leaves

__all__ = ["Dataset", "hash_split"]


@dataclass(frozen=True)
class Dataset:
    """Three splits of one data set.

    Args:
        name: what a report calls it.
        space: where the rows live, before the codec.
        train, validation, test: states: a tensor ``(rows, *event)``, or a dict with facts.
        provenance: where the rows came from: source, version, licence, in one line.
        alphabet: for letters: the text of each letter, in order.
        bits_per: the number of dimensions or letters that "bits per …" divides by, and its name;
            None where only nats make sense.
        law: the law that the rows were drawn from, where it is known exactly, in the data's units.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> rows = torch.arange(10.0).reshape(5, 2)
        >>> data = Dataset("five", Euclidean(2), rows[:3], rows[3:4], rows[4:], "counted by hand")
        >>> data.train.shape, data.test
        (torch.Size([3, 2]), tensor([[8., 9.]]))
        >>> len(data.digest())
        64
    """

    name: str
    space: Space
    train: Any
    validation: Any
    test: Any
    provenance: str
    alphabet: tuple[str, ...] | None = None
    bits_per: tuple[str, int] | None = None
    law: Law | None = None

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test"):
            if batch_size(getattr(self, split)) == 0:
                raise DomainError("Dataset", f"the {split} split has rows.", got="none")

    def digest(self) -> str:
        """SHA-256 of all rows in order, to tell two versions of a data set apart."""
        total = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for leaf in leaves(split):
                total.update(leaf.contiguous().numpy().tobytes())
        return total.hexdigest()


def hash_split(keys: Sequence[bytes], fractions: tuple[float, float] = (0.8, 0.1)) -> list[Tensor]:
    """Indices of train, validation and test, by SHA-256 of each row's key.

    Rows with equal keys land in the same split; the split of a row does not depend on the others.

    Args:
        keys: one per row.
        fractions: the expected shares of train and validation.

    Example:
        >>> train, validation, test = hash_split([b"a", b"b", b"a"])
        >>> sorted(torch.cat([train, validation, test]).tolist())
        [0, 1, 2]
    """
    position = torch.tensor(
        [int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64 for key in keys],
        dtype=torch.float64,
    )
    first, second = fractions[0], fractions[0] + fractions[1]
    masks = (position < first, (position >= first) & (position < second), position >= second)
    return [mask.nonzero().flatten() for mask in masks]
