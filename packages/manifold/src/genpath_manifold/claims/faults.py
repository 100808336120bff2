r"""Faults of a geodesic path, one small change each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.paths import Draw
from genpath.testing import (
    but,
)

from ..paths import GeodesicPath
from .cases import (
    DOUBLE,
)

__all__ = ["chord", "scaled_curve", "scaled_generator", "scaled_target", "still_clock"]


def scaled_generator(path: GeodesicPath, size: float) -> GeodesicPath:
    """The path whose conditional generator is (1 + δ) times as fast."""

    def generator(x0: Any, x1: Any) -> MarkovGenerator:
        return (1 + size) * path.conditional_generator(x0, x1)

    return but(path, conditional_generator=generator)


def scaled_target(path: GeodesicPath, size: float) -> GeodesicPath:
    """Targets × (1 + δ)."""
    return but(path, target=lambda name, draw: (1 + size) * path.target(name, draw))


def still_clock(path: GeodesicPath) -> GeodesicPath:
    """κ̇ is dropped from the velocity."""
    return but(path, target=lambda name, draw: path.target("displacement", draw))


def scaled_curve(path: GeodesicPath, size: float) -> GeodesicPath:
    """The state is drawn at (1 − δ) t."""

    def draw(t: Any, x0: Any, x1: Any, rng: torch.Generator) -> Draw:
        t = torch.as_tensor(t, dtype=DOUBLE)
        return replace(path.draw((1 - size) * t, x0, x1, rng), t=t.expand(len(x1)))

    return but(path, draw=draw)


def chord(path: GeodesicPath) -> GeodesicPath:
    """The state on the chord, projected, instead of the geodesic."""

    def draw(t: Any, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        right = path.draw(t, x0, x1, rng)
        share = path.schedule.kappa(right.t)[:, None]
        space: Any = path.state_space
        return replace(right, state=space.project((1 - share) * x0 + share * x1))

    return but(path, draw=draw)
