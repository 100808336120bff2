r"""Generators on manifolds: Brownian motion.

    L f = ½σ² Δ f        Δ the Laplace–Beltrami operator

Its diffusion is σ times standard tangent noise, so core's `Euler` simulates it as the geodesic
random walk X ← exp_X(√h σ ξ), of weak order 1 (Jørgensen 1975; semester II, R.14). On S^n
E⟨X_t, x_0⟩ = e^{−nσ²t/2}.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from genpath.errors import DomainError
from genpath.generators import MarkovGenerator
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.spaces import SmoothSpace, as_smooth

__all__ = ["brownian"]


def brownian(space: SmoothSpace, sigma: float = 1.0) -> MarkovGenerator:
    """Brownian motion with generator ½σ²Δ: variance σ²t in each tangent direction.

    Args:
        space: any smooth space; on R^d it is σ dW.
        sigma: σ ≥ 0. A paper whose Brownian motion has generator Δ has σ = √2.

    Raises:
        CapabilityError: the space has no tangents.
        DomainError: σ is negative.

    Example:
        >>> import torch
        >>> from genpath_manifold import Sphere
        >>> north = torch.tensor([[0.0, 0.0, 1.0]])
        >>> brownian(Sphere(2)).apply(lambda x: x[:, 2], 0.0, north)
        tensor([-1.])
    """
    smooth = as_smooth(space, "brownian")
    if sigma < 0:
        raise DomainError("brownian", "σ ≥ 0.", got=f"sigma {sigma:g}")

    def evaluate(t: Tensor, x: Any) -> Parts:
        return Parts(diffusion=ScalarNoise(sigma))

    return MarkovGenerator(smooth, evaluate, frozenset({"diffusion"}))
