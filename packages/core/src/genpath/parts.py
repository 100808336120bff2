r"""Parts: what one evaluation of a Markov generator returns.

    L_t f = u·∇f + ½ tr(σσᵀ Hess f) + ∫ (f(y) − f(x)) Q_t(dy; x) + g f
            velocity  diffusion       jumps                        potential

Diffusions are noise maps (`genpath.noises`), jumps are jump parts (`genpath.jumps`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .jumps import Jumps
from .noises import NoiseMap

__all__ = [
    "Parts",
]


@dataclass(frozen=True)
class Parts:
    """One evaluation of a generator; a part that it does not have is None.

    Args:
        velocity: u, a tangent of the state's form ``(batch, *event)`` (a dict may leave leaves
            out).
        diffusion: the noise map σ.
        jumps: a jump part; on a dict state also a dict leaf → jump part, jumping independently.
        potential: g, ``(batch,)``: rows gain log-weight at rate g.

    Example:
        >>> import torch
        >>> from genpath.noises import ScalarNoise
        >>> parts = Parts(velocity=torch.zeros(3, 2), diffusion=ScalarNoise(1.0))
        >>> sorted(parts.present())
        ['diffusion', 'velocity']
    """

    velocity: Any = None
    diffusion: NoiseMap | None = None
    jumps: Jumps | Mapping[str, Jumps] | None = None
    potential: Tensor | None = None

    def present(self) -> frozenset[str]:
        """The names of the parts that are there."""
        names = ("velocity", "diffusion", "jumps", "potential")
        return frozenset(n for n in names if getattr(self, n) is not None)
