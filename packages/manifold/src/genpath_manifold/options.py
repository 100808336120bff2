"""Options of the components that have some: plain dataclasses, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from genpath.config.options import Slot, option, slot

__all__ = [
    "Geodesic",
    "KernelBaseline",
    "Late",
    "Map",
    "Mass",
    "SphereMLP",
    "SphereSpace",
    "VonMisesFisher",
]


@dataclass(frozen=True)
class SphereSpace:
    """Options of ``space.manifold.sphere``."""

    dimension: int = option(2, help="n of S^n in R^(n+1)", minimum=1)


@dataclass(frozen=True)
class VonMisesFisher:
    """Options of ``law.manifold.von_mises_fisher``."""

    mean: tuple[float, float, float] = option((0.0, 0.0, 1.0), help="the mean; normalised")
    kappa: float = option(1.0, help="the concentration", above=0)


@dataclass(frozen=True)
class Late:
    """Options of ``schedule.manifold.late``."""

    epsilon: float = option(
        0.02, help="distance to go, as a share, at which equal ratios end", above=0
    )


@dataclass(frozen=True)
class Geodesic:
    """Options of ``path.manifold.geodesic``."""

    schedule: Slot = slot(  # noqa: RUF009
        "schedule", "linear", help="κ(t), the share of the way that is done"
    )


@dataclass(frozen=True)
class SphereMLP:
    """Options of ``network.manifold.sphere_mlp``."""

    width: int = option(128, help="hidden units per layer", minimum=1)
    depth: int = option(4, help="hidden layers", minimum=1)
    features: int = option(128, help="random plane waves of the point", minimum=0)
    lowest: float = option(1.0, help="least wave number", above=0)
    highest: float = option(60.0, help="greatest wave number", above=0)
    damping: float = option(
        0.7, help="c of exp(−½(c·wave number·(1−κ))²); 0 for undamped waves", minimum=0
    )
    harmonics: int = option(8, help="sines and cosines of time", minimum=0)


@dataclass(frozen=True)
class KernelBaseline:
    """Options of ``evaluation.manifold.kernel_baseline``."""

    lowest: float = option(10.0, help="least concentration tried", above=0)
    highest: float = option(1e5, help="greatest concentration tried", above=0)
    points: int = option(9, help="concentrations of the first grid, even in log", minimum=3)
    rounds: int = option(4, help="times that the grid is halved around its best point", minimum=0)


@dataclass(frozen=True)
class Mass:
    """Options of ``evaluation.manifold.mass``."""

    points: int = option(8192, help="draws of the importance law", minimum=1)
    steps: int = option(16, help="Runge–Kutta steps of each log-density", minimum=1)


@dataclass(frozen=True)
class Map:
    """Options of ``evaluation.manifold.map``."""

    points: int = option(2000, help="largest number of points on each map", minimum=1)
