r"""A network for fields on the sphere.

    F(t, x) = MLP(x, a_k sin⟨b_k, x⟩, a_k cos⟨b_k, x⟩, sin jπt/2, cos jπt/2),   b_k fixed
    a_k(t) = exp(−½ (c |b_k| (1 − κ(t)))²)

Wave vectors b_k have uniform directions and log-uniform lengths in [lowest, highest]: x varies on
many scales (Tancik et al. 2020, arXiv 2006.10739). At time t the marginal field is blurred over a
distance of order 1 − κ(t), which is what the factor a_k does to a plane wave: waves finer than the
blur are switched off, so that they carry no noise early on.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from genpath.errors import CapabilityError, DomainError
from genpath.predictions import Prediction
from genpath.schedules import KeepSchedule
from genpath.spaces import Space

__all__ = ["SphereMLP", "sphere_mlp"]


class SphereMLP(nn.Module):
    """A perceptron on damped plane waves of the point and harmonics of time.

    ``network(t, x)``: t ``(batch,)``, x ``(batch, ambient)`` → ``(batch, ambient)``; the output is
    ambient (the model projects it onto tangents) and starts at 0.

    Args:
        ambient: n + 1 for S^n.
        width, depth: of the hidden layers, with SiLU between them.
        features: how many wave vectors.
        lowest, highest: the range of their lengths.
        damping: c; 0 for undamped waves.
        harmonics: how many sines and cosines of time.
        schedule: κ; without one, waves are not damped.

    The wave vectors are drawn from torch's global random state, as initial weights are, and saved
    with them.

    Raises:
        DomainError: ``lowest`` exceeds ``highest``.

    Example:
        >>> network = SphereMLP(ambient=3, width=8, depth=1, features=4)
        >>> network(torch.rand(2), torch.eye(3)[:2])
        tensor([[0., 0., 0.],
                [0., 0., 0.]], grad_fn=<AddmmBackward0>)
    """

    waves: Tensor
    frequencies: Tensor

    def __init__(
        self,
        ambient: int = 3,
        width: int = 128,
        depth: int = 4,
        features: int = 128,
        lowest: float = 1.0,
        highest: float = 60.0,
        damping: float = 0.7,
        harmonics: int = 8,
        schedule: KeepSchedule | None = None,
    ) -> None:
        super().__init__()
        if lowest > highest:
            raise DomainError(
                "network.manifold.sphere_mlp",
                "lowest ≤ highest.",
                got=f"lowest {lowest:g}, highest {highest:g}",
            )
        direction = torch.randn(ambient, features)
        length = lowest * (highest / lowest) ** torch.rand(features)
        self.register_buffer("waves", direction / direction.norm(dim=0) * length)
        self.register_buffer("frequencies", 0.5 * math.pi * torch.arange(1, harmonics + 1))
        self.damping, self.schedule = damping, schedule
        sizes = [ambient + 2 * features + 1 + 2 * harmonics] + depth * [width]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.SiLU()]
        last = nn.Linear(width, ambient)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The field at times ``(batch,)`` and points ``(batch, ambient)``."""
        phase, time = x @ self.waves, t[:, None]
        sine, cosine = phase.sin(), phase.cos()
        if self.damping and self.schedule is not None:
            blur = self.damping * (1 - self.schedule.kappa(t))[:, None] * self.waves.norm(dim=0)
            kept = torch.exp(-0.5 * blur**2)
            sine, cosine = kept * sine, kept * cosine
        angle = time * self.frequencies
        inputs = [x, sine, cosine, 2 * time - 1, angle.sin(), angle.cos()]
        result: Tensor = self.layers(torch.cat(inputs, -1))
        return result


def sphere_mlp(space: Space, prediction: Prediction, path: Any, **options: Any) -> SphereMLP:
    """A `SphereMLP` for this path's space and schedule: the component ``manifold.sphere_mlp``.

    Raises:
        CapabilityError: states or predictions are not vectors of one length.

    Example:
        >>> from genpath_manifold import GeodesicPath, Sphere
        >>> path = GeodesicPath(Sphere(2))
        >>> network = sphere_mlp(path.space, path.predictions["velocity"], path, width=8, depth=1)
        >>> network(torch.rand(4), torch.rand(4, 3)).shape
        torch.Size([4, 3])
    """
    shape = space.event_shape
    if not (isinstance(shape, tuple) and len(shape) == 1 and prediction.output_shape == shape):
        raise CapabilityError(
            "network.manifold.sphere_mlp",
            "states and predictions are vectors of one length.",
            got=f"states {shape}, {prediction.name} {prediction.output_shape}",
            fix="use a network of this space; `genpath components network` lists them",
        )
    return SphereMLP(shape[0], schedule=getattr(path, "schedule", None), **options)
