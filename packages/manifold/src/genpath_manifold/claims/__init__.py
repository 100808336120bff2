"""Claims of this package: one file per concept, one function per component or topic."""

from __future__ import annotations

from .brownian import brownian_motion as brownian_motion
from .evaluations import (
    airports as airports,
    kernel_baseline as kernel_baseline,
    maps as maps,
)
from .flows import flows as flows, mass as mass
from .heat import heat_kernel as heat_kernel
from .laws import (
    kernel_densities as kernel_densities,
    uniform as uniform,
    von_mises_fisher as von_mises_fisher,
)
from .networks import sphere_mlp as sphere_mlp
from .paths import geodesic as geodesic, late_schedule as late_schedule
from .spaces import sphere as sphere

__all__ = [
    "airports",
    "brownian_motion",
    "flows",
    "geodesic",
    "heat_kernel",
    "kernel_baseline",
    "kernel_densities",
    "late_schedule",
    "maps",
    "mass",
    "sphere",
    "sphere_mlp",
    "uniform",
    "von_mises_fisher",
]
