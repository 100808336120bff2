"""Paths, generators and samplers on Riemannian manifolds for genpath.

Importing this imports nothing else; a name is loaded when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from genpath_manifold._version import __version__

_HOMES = {
    "generators": ("brownian",),
    "laws": ("SphereHeatKernel", "UniformSphere", "VonMisesFisher", "VonMisesFisherMixture"),
    "networks": ("SphereMLP",),
    "paths": ("GeodesicPath", "late"),
    "spaces": ("Sphere",),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_WHERE)]

if TYPE_CHECKING:
    from genpath_manifold.generators import brownian as brownian
    from genpath_manifold.laws import (
        SphereHeatKernel as SphereHeatKernel,
        UniformSphere as UniformSphere,
        VonMisesFisher as VonMisesFisher,
        VonMisesFisherMixture as VonMisesFisherMixture,
    )
    from genpath_manifold.networks import SphereMLP as SphereMLP
    from genpath_manifold.paths import GeodesicPath as GeodesicPath, late as late
    from genpath_manifold.spaces import Sphere as Sphere


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(f"genpath_manifold.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'genpath_manifold' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
