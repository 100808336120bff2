"""Continuous-time Markov chains on finite alphabets for genpath."""

from genpath_discrete._version import __version__

__all__ = ["__version__"]
