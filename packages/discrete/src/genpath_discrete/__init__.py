"""Continuous-time Markov chains on finite alphabets for genpath.

Importing this imports nothing else; a name is loaded when it is used.
"""

from typing import TYPE_CHECKING

from genpath.lazy import attach
from genpath_discrete._version import __version__ as __version__

if TYPE_CHECKING:
    from genpath_discrete.data import split_text as split_text
    from genpath_discrete.evaluations import (
        NgramBaselines as NgramBaselines,
        TextSamples as TextSamples,
        to_text as to_text,
    )
    from genpath_discrete.jumps import (
        GoalJumps as GoalJumps,
        MaskedJumps as MaskedJumps,
        MixtureJumps as MixtureJumps,
    )
    from genpath_discrete.laws import (
        Masked as Masked,
        Table as Table,
        UniformLetters as UniformLetters,
    )
    from genpath_discrete.likelihoods import ELBO as ELBO
    from genpath_discrete.networks import Transformer as Transformer
    from genpath_discrete.objectives import MaskedELBO as MaskedELBO
    from genpath_discrete.paths import MaskedPath as MaskedPath, MixturePath as MixturePath
    from genpath_discrete.spaces import Categorical as Categorical

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "data": ("split_text",),
        "evaluations": ("NgramBaselines", "TextSamples", "to_text"),
        "jumps": ("GoalJumps", "MaskedJumps", "MixtureJumps"),
        "laws": ("Masked", "Table", "UniformLetters"),
        "likelihoods": ("ELBO",),
        "networks": ("Transformer",),
        "objectives": ("MaskedELBO",),
        "paths": ("MaskedPath", "MixturePath"),
        "spaces": ("Categorical",),
    },
)
