"""Stochastic interpolants for genpath.

Importing this imports nothing else; a name is loaded when it is used.
"""

from typing import TYPE_CHECKING

from genpath.lazy import attach
from genpath_interpolants._version import __version__ as __version__

if TYPE_CHECKING:
    from genpath_interpolants.adaptive import Adaptive as Adaptive
    from genpath_interpolants.dynamics import (
        BackwardSDE as BackwardSDE,
        DiffusiveSDE as DiffusiveSDE,
        MatrixSDE as MatrixSDE,
        Tabulated as Tabulated,
        Vanishing as Vanishing,
    )
    from genpath_interpolants.mixtures import (
        GaussianMixture as GaussianMixture,
        MixtureMarginal as MixtureMarginal,
    )
    from genpath_interpolants.paths import LinearPath as LinearPath
    from genpath_interpolants.presets import (
        elliptical as elliptical,
        encoding_decoding as encoding_decoding,
        linear as linear,
        mirror as mirror,
        ornstein_uhlenbeck as ornstein_uhlenbeck,
        rescaled_trigonometric as rescaled_trigonometric,
        squared_trigonometric as squared_trigonometric,
        trigonometric as trigonometric,
        variance_preserving as variance_preserving,
    )
    from genpath_interpolants.samplers import (
        Denoising as Denoising,
        FinalDenoising as FinalDenoising,
        StochasticHeun as StochasticHeun,
    )

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "adaptive": ("Adaptive",),
        "dynamics": (
            "BackwardSDE",
            "DiffusiveSDE",
            "MatrixSDE",
            "Tabulated",
            "Vanishing",
        ),
        "mixtures": ("GaussianMixture", "MixtureMarginal"),
        "paths": ("LinearPath",),
        "presets": (
            "elliptical",
            "encoding_decoding",
            "linear",
            "mirror",
            "ornstein_uhlenbeck",
            "rescaled_trigonometric",
            "squared_trigonometric",
            "trigonometric",
            "variance_preserving",
        ),
        "samplers": ("Denoising", "FinalDenoising", "StochasticHeun"),
    },
)
