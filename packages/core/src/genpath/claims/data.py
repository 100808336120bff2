"""Claims of the core's data: the rows are those of the source, and the splits share none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.data import digits as load
from genpath.datasets import hash_split
from genpath.testing import Claim, Control, Evidence, Trial, dial, exact, frequencies

__all__ = ["digits", "splits"]

DIGEST = "d34fb8ecae8dd764"
"""SHA-256, the first 16 digits, of scikit-learn's images in the order of their bytes."""


def _codes(rows: Tensor) -> list[bytes]:
    return [bytes(int(v) for v in row) for row in rows.tolist()]


def digits() -> tuple[Claim[Any], ...]:
    """Claims of ``data.digits``; the images come with scikit-learn."""
    return (_rows(), _disjoint())


def _rows() -> Claim[Any]:
    def check(data: Any, trial: Trial) -> Iterator[Evidence]:
        rows = torch.cat([data.train, data.validation, data.test])
        yield exact("images, pixels", tuple(rows.shape), (1797, 64))
        whole = (
            bool((rows == rows.round()).all()) and int(rows.min()) == 0 and int(rows.max()) == 16
        )
        yield exact("levels are 0, 1, …, 16", whole)
        # the digest of the sorted images: independent of the split and of the order
        found = hashlib.sha256(b"".join(sorted(_codes(rows)))).hexdigest()[:16]
        yield exact("digest of the sorted images", found, DIGEST)
        yield exact("rows are points of the space", bool(data.space.contains(rows).all()))
        yield exact("dimensions that bits are divided by", data.bits_per, ("dimension", 64))

    def darker(data: Any) -> Any:
        train = data.train.clone()
        train[0, 20] = 16 - train[0, 20]
        return replace(data, train=train)

    return Claim(
        "rows",
        "The three splits together are the 1797 images of the source, of 17 levels each.",
        load,
        check,
        (Control("one pixel of one image is inverted", darker),),
        requires=("sklearn",),
    )


def _disjoint() -> Claim[Any]:
    def check(data: Any, trial: Trial) -> Iterator[Evidence]:
        splits = [set(_codes(rows)) for rows in (data.train, data.validation, data.test)]
        for i, j, what in ((0, 1, "validation"), (0, 2, "test"), (1, 2, "both held out")):
            yield exact(f"images in two splits: {what}", len(splits[i] & splits[j]), 0)
        shares = torch.tensor([len(data.train), len(data.validation), len(data.test)])
        yield frequencies("rows per split", shares, torch.tensor([0.8, 0.1, 0.1]))

    def leaked(data: Any) -> Any:
        return replace(data, test=torch.cat([data.test, data.train[:1]]))

    return Claim(
        "splits-share-nothing",
        "No image is in two splits; they hold near 80, 10 and 10 percent of the images.",
        load,
        check,
        (Control("one training image is in the test split", leaked),),
        requires=("sklearn",),
    )


def splits() -> tuple[Claim[Any], ...]:
    """Claims of `hash_split`, which every data set of the house uses."""

    def check(split: Any, trial: Trial) -> Iterator[Evidence]:
        start = int(torch.randint(10**6, (), generator=trial.rng()))
        keys = [str(start + i // 2).encode() for i in range(8000)]  # every key twice
        found = split(keys, (0.7, 0.2))
        side = torch.full((len(keys),), -1)
        for number, index in enumerate(found):
            side[index] = number
        yield exact("rows without a split", int((side < 0).sum()), 0)
        yield exact("copies that are apart", int((side[::2] != side[1::2]).sum()), 0)
        counts = torch.bincount(side[::2], minlength=3)
        yield frequencies("shares", counts, torch.tensor([0.7, 0.2, 0.1]))
        first = split(keys[:400], (0.7, 0.2))[0]
        yield exact("a row's split depends on others", first, found[0][found[0] < 400])

    def biased(split: Any, size: float) -> Any:
        def other(keys: Any, fractions: Any) -> list[Tensor]:
            found: list[Tensor] = split(keys, (fractions[0] + size, fractions[1] * (1 - 5 * size)))
            return found

        return other

    def by_place(split: Any) -> Any:
        return lambda keys, fractions: split(
            [key + str(i).encode() for i, key in enumerate(keys)], fractions
        )

    return (
        Claim(
            "hash-split",
            "A row's split follows from its own key: copies stay together, other rows change "
            "nothing, and the shares are the fractions.",
            lambda: hash_split,
            check,
            (
                dial("the training share + δ", biased, 0.2),
                Control("the place in the list enters the key", by_place),
            ),
        ),
    )
