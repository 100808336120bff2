"""Paths, generators and samplers on Riemannian manifolds for genpath.

Importing this imports nothing else; a name is loaded when it is used.
"""

from typing import TYPE_CHECKING

from genpath.lazy import attach
from genpath_manifold._version import __version__ as __version__

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

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "generators": ("brownian",),
        "laws": ("SphereHeatKernel", "UniformSphere", "VonMisesFisher", "VonMisesFisherMixture"),
        "networks": ("SphereMLP",),
        "paths": ("GeodesicPath", "late"),
        "spaces": ("Sphere",),
    },
)
