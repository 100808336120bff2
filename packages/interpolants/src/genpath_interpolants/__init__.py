"""Stochastic interpolants for genpath."""

from genpath_interpolants._version import __version__

__all__ = ["__version__"]
