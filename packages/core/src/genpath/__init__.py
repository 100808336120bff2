"""Generative modelling by transport."""

from genpath._version import __version__

__all__ = ["__version__"]
