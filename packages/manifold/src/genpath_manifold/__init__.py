"""Paths, generators and samplers on Riemannian manifolds for genpath."""

from genpath_manifold._version import __version__

__all__ = ["__version__"]
