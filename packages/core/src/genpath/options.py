"""Options of the core's components, as dataclasses: what a config may say beside ``name``.

Nothing heavy is imported here, so that a config is checked before torch is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genpath.config.options import option

__all__ = [
    "ClampOptions",
    "DequantiseOptions",
    "GaussianOptions",
    "ODELikelihoodOptions",
    "PowerOptions",
    "RegressionOptions",
    "SDEOptions",
    "SolverOptions",
    "StandardiseOptions",
]


# -- mathematics -------------------------------------------------------------------------------


@dataclass(frozen=True)
class GaussianOptions:
    """Options of ``law.gaussian``."""

    mean: float = option(0.0, help="added to every coordinate")
    std: float = option(1.0, help="standard deviation", above=0)


@dataclass(frozen=True)
class PowerOptions:
    """Options of ``schedule.power``."""

    exponent: float = option(2.0, help="κ(t) = t^exponent", minimum=1)


@dataclass(frozen=True)
class StandardiseOptions:
    """Options of ``codec.standardise``."""

    floor: float = option(1e-6, help="smallest standard deviation of a coordinate", above=0)


@dataclass(frozen=True)
class DequantiseOptions:
    """Options of ``codec.dequantise``."""

    levels: int = option(help="number of integer levels, 0 … levels − 1", minimum=2)
    scale: float = option(1.0, help="states fill [−scale, scale]", above=0)


@dataclass(frozen=True)
class RegressionOptions:
    """Options of ``objective.regression``."""

    divergence: Literal["squared", "poisson", "cross_entropy"] = option(
        "squared", help="the Bregman divergence between target and prediction"
    )


@dataclass(frozen=True)
class SDEOptions:
    """Options of ``dynamics.sde``."""

    eps: float = option(1.0, help="ε of dX = (u + ε s) dt + √(2ε) dW", minimum=0)


@dataclass(frozen=True)
class SolverOptions:
    """Options of every fixed-step sampler."""

    steps: int = option(100, help="equal steps", minimum=1)
    start: float = option(0.0, help="first time", minimum=0, maximum=1)
    end: float = option(1.0, help="last time", minimum=0, maximum=1)


@dataclass(frozen=True)
class ODELikelihoodOptions:
    """Options of ``likelihood.ode``."""

    steps: int = option(50, help="steps of RK4 from t = 1 to 0", minimum=1)
    divergence: Literal["exact", "hutchinson"] = option(
        "exact", help="exact costs one derivative per dimension, hutchinson one per probe"
    )
    probes: int = option(2, help="Hutchinson solves per datum", minimum=1)
    encodings: int = option(1, help="draws of a random codec per datum", minimum=1)
    chunk: int = option(1024, help="rows solved together", minimum=1)


@dataclass(frozen=True)
class ClampOptions:
    """Options of ``transform.clamp``."""

    low: float = option(-1.0, help="lower bound")
    high: float = option(1.0, help="upper bound")


# -- stages, data, networks, evaluations -------------------------------------------------------
