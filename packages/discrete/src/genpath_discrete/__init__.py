"""Continuous-time Markov chains on finite alphabets for genpath.

Importing this imports nothing else; a name is loaded when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from genpath_discrete._version import __version__

_HOMES = {
    "data": ("split_text",),
    "evaluations": ("NgramBaselines", "TextSamples", "to_text"),
    "jumps": ("GoalJumps", "MaskedJumps", "MixtureJumps"),
    "laws": ("Masked", "Table", "UniformLetters"),
    "likelihoods": ("ELBO",),
    "networks": ("Transformer",),
    "objectives": ("MaskedELBO",),
    "paths": ("MaskedPath", "MixturePath"),
    "spaces": ("Categorical",),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_WHERE)]

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


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(f"genpath_discrete.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'genpath_discrete' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
