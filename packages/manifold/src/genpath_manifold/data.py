r"""Data on the sphere: the world's airports.

A point of latitude φ and longitude λ is (cos φ cos λ, cos φ sin λ, sin φ) ∈ S².
"""

from __future__ import annotations

from importlib import import_module, metadata

import torch
from torch import Tensor

from genpath.datasets import Dataset, hash_split
from genpath.errors import CapabilityError

from .spaces import Sphere

__all__ = ["airports", "from_degrees", "to_degrees"]


def from_degrees(latitude: Tensor, longitude: Tensor) -> Tensor:
    """Unit vectors ``(count, 3)`` from degrees ``(count,)``.

    Example:
        >>> from_degrees(torch.tensor([90.0]), torch.tensor([12.0])).round(decimals=6).abs()
        tensor([[0., 0., 1.]])
    """
    phi, lam = torch.deg2rad(latitude), torch.deg2rad(longitude)
    return torch.stack([phi.cos() * lam.cos(), phi.cos() * lam.sin(), phi.sin()], -1)


def to_degrees(x: Tensor) -> tuple[Tensor, Tensor]:
    """Latitude in [−90, 90] and longitude in [−180, 180] of unit vectors ``(count, 3)``.

    Example:
        >>> to_degrees(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
        (tensor([ 0., 90.]), tensor([90.,  0.]))
    """
    latitude = torch.atan2(x[:, 2], torch.hypot(x[:, 0], x[:, 1]))
    return torch.rad2deg(latitude), torch.rad2deg(torch.atan2(x[:, 1], x[:, 0]))


def airports() -> Dataset:
    """The airports with an ICAO code, in float32: the component ``data.manifold.airports``.

    Split 80/10/10 by hash of the coordinates, rounded to four decimals (about 11 m), so that
    entries at the same place stay on one side.

    Raises:
        CapabilityError: the package airportsdata is not installed.

    Example:
        >>> rows = airports()
        >>> rows.test.shape[1], bool(rows.space.contains(rows.test).all())
        (3, True)
    """
    try:
        module = import_module("airportsdata")
    except ImportError as error:
        raise CapabilityError(
            "data.manifold.airports",
            "the positions come with the package airportsdata.",
            got=f"{type(error).__name__}: {error}",
            fix='pip install "genpath-manifold[airports]"',
        ) from error
    rows = [(row["lat"], row["lon"]) for row in module.load("ICAO").values()]
    degrees = torch.tensor(rows, dtype=torch.float64)
    points = from_degrees(degrees[:, 0], degrees[:, 1]).float()
    split = hash_split([f"{lat:.4f},{lon:.4f}".encode() for lat, lon in rows])
    train, validation, test = (points[index] for index in split)
    version = metadata.version("airportsdata")
    source = f"airportsdata {version} (PyPI, MIT licence), {len(rows)} airports with an ICAO code"
    return Dataset("airports", Sphere(2), train, validation, test, source)
