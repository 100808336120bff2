"""Transforms: maps from carry to carry, applied between a sampler's steps.

A transform is ``(carry, t, rng) -> carry``. It may move states and change weights; it must keep
every leaf of the state batch-first, facts included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .samplers import Carry
from .spaces import Space
from .states import map_state

__all__ = ["Clamp", "Project"]


@dataclass(frozen=True)
class Project:
    """Return the state to its space after each step: the component ``transform.project``.

    Args:
        space: the space; facts are not touched.

    Example:
        >>> from types import SimpleNamespace
        >>> circle = SimpleNamespace(project=torch.nn.functional.normalize)
        >>> Project(circle)(Carry(torch.tensor([[3.0, 4.0]])), 0.5, torch.Generator()).state
        tensor([[0.6000, 0.8000]])
    """

    space: Space

    def __call__(self, carry: Carry, t: float, rng: torch.Generator) -> Carry:
        return replace(carry, state=self.space.project(carry.state))


@dataclass(frozen=True)
class Clamp:
    """Clamp floating leaves of the state to [low, high]: ``transform.clamp``.

    It changes the law; use it where the data are bounded and a solver overshoots.

    Example:
        >>> Clamp(-1.0, 1.0)(Carry(torch.tensor([[3.0]])), 0.5, torch.Generator()).state
        tensor([[1.]])
    """

    low: float = -1.0
    high: float = 1.0

    def __call__(self, carry: Carry, t: float, rng: torch.Generator) -> Carry:
        def clamp(leaf: torch.Tensor) -> torch.Tensor:
            return leaf.clamp(self.low, self.high) if leaf.is_floating_point() else leaf

        return replace(carry, state=map_state(clamp, carry.state))
