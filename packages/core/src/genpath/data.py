"""Data that the core brings: small, offline, and with a licence."""

from __future__ import annotations

import torch

from .datasets import Dataset, hash_split
from .errors import ComponentLoadError
from .spaces import Euclidean

__all__ = ["digits"]


def digits() -> Dataset:
    """Handwritten digits, 8 × 8 pixels of 17 levels, in R^64: the component ``data.digits``.

    1797 images (E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, 1998, doi 10.24432/C50P49), as scikit-learn ships them. A row is one image,
    levels 0, 1, …, 16 row by row; splits are by hash of its pixels, so that copies stay together.

    Returns:
        The data set, rows ``(count, 64)`` in float32; bits are counted per dimension.

    Raises:
        ComponentLoadError: scikit-learn is not installed.

    Example:
        >>> data = digits()
        >>> data.train.shape[1:], data.train.max()
        (torch.Size([64]), tensor(16.))
        >>> len(data.train) + len(data.validation) + len(data.test)
        1797
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ComponentLoadError(
            "data 'digits'",
            "the images come with scikit-learn.",
            got=str(error),
            fix='pip install "genpath[data]"',
        ) from error
    pixels = load_digits().data
    splits = hash_split([row.astype("uint8").tobytes() for row in pixels])
    rows = torch.tensor(pixels, dtype=torch.float32)
    train, validation, test = (rows[index] for index in splits)
    return Dataset(
        "handwritten digits, 8 × 8",
        Euclidean(64),
        train,
        validation,
        test,
        "UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), CC BY 4.0, "
        "as scikit-learn ships it; split by hash of the pixels",
        bits_per=("dimension", 64),
    )
