r"""Claims of the core's schedules: what every one owes, and why the cosine is there.

The law of one letter under a mask puts p(t) = (1−κ, κ) on mask and value. In the coordinates √p it
moves on the unit circle, and ∫ Σ ṗ²/p dt is least where its speed is constant: κ = sin²(πt/2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from genpath.schedules import KeepSchedule, Scalar, cosine_keep, linear_keep, power_keep
from genpath.testing import Claim, Evidence, Trial, but, contracts, dial, equal, near

__all__ = ["cosine", "linear", "power"]


def linear() -> tuple[Claim[Any], ...]:
    """Claims of ``schedule.linear``."""
    return contracts.schedule(linear_keep)


def power() -> tuple[Claim[Any], ...]:
    """Claims of ``schedule.power``, at the exponents 1, 2.5 and its default."""
    return (
        *contracts.schedule(power_keep),
        *contracts.named("linear", contracts.schedule(lambda: power_keep(1.0))),
        *contracts.named("half", contracts.schedule(lambda: power_keep(2.5))),
    )


def cosine() -> tuple[Claim[Any], ...]:
    """Claims of ``schedule.cosine``."""
    return (*contracts.schedule(cosine_keep), _geodesic())


def _geodesic() -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
        kappa, rate = thing.kappa(t), thing.kappa.rate(t)
        speed = rate**2 / kappa + rate**2 / (1 - kappa)
        constant = torch.full_like(speed, math.pi**2)
        yield equal("Σ ṗ²/p = 4Ω², Ω = π/2", speed, constant, operations=4096)
        # from a base with mass 0.1 on the value the geodesic is the arc that remains: it enters the
        # circle at the angle arcsin √0.1, where sin² is the cosine schedule's own
        half = math.acos(math.sqrt(0.1)) / math.pi
        middle = float(thing.kappa(torch.tensor(1 - half, dtype=torch.float64)))
        kept = (middle - 0.1) / 0.9
        because = "the printed digits"
        yield near("κ(½) from a base with p0(x1) = 0.1", kept, 0.620126537, 5e-10, because)

    def bent(thing: Any, size: float) -> KeepSchedule:
        def kappa(t: torch.Tensor) -> torch.Tensor:
            mixed: torch.Tensor = (1 - size) * thing.kappa(t) + size * t
            return mixed

        changed: KeepSchedule = but(thing, kappa=Scalar(kappa))
        return changed

    return Claim(
        "geodesic",
        "κ = sin²(πt/2) moves the law of a masked letter along the geodesic of the Fisher–Rao "
        "metric at constant speed; the geodesic from a base that has mass on the letter already is "
        "an arc of it.",
        cosine_keep,
        check,
        (dial("(1 − δ) κ + δ t", bent),),
        formula=r"\sum \dot p^2 / p = 4\Omega^2, \qquad \Omega = \pi/2",
        entries=("D.12",),
    )
