"""Stochastic interpolants for genpath.

Importing this imports nothing else; a name is loaded when it is used.
"""

from typing import TYPE_CHECKING

from genpath.lazy import attach
from genpath_interpolants._version import __version__ as __version__

if TYPE_CHECKING:
    from genpath_interpolants.mixtures import (
        GaussianMixture as GaussianMixture,
        MixtureMarginal as MixtureMarginal,
    )
    from genpath_interpolants.paths import LinearPath as LinearPath

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "mixtures": ("GaussianMixture", "MixtureMarginal"),
        "paths": ("LinearPath",),
    },
)
