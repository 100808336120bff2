"""Options of the core's components, as dataclasses: what a config may say beside ``name``.

Nothing heavy is imported here, so that a config is checked before torch is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genpath.config.options import Slot, option, slot

__all__ = [
    "ClampOptions",
    "DatasetLawOptions",
    "DequantiseOptions",
    "GaussianBaselineOptions",
    "GaussianOptions",
    "ImagesOptions",
    "KernelBaselineOptions",
    "MLPOptions",
    "MassOptions",
    "NLLOptions",
    "NearestOptions",
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
class DatasetLawOptions:
    """Options of ``law.dataset``."""

    source: Slot = slot("data", help="the second data set")  # noqa: RUF009
    split: Literal["train", "validation", "test"] = option("train", help="which of its rows")


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


@dataclass(frozen=True)
class MLPOptions:
    """Options of ``network.mlp``."""

    width: int = option(256, help="of the hidden layers", minimum=1)
    depth: int = option(3, help="residual blocks", minimum=0)
    time_features: int = option(16, help="frequencies of the time embedding", minimum=1)
    fourier: int = option(0, help="random frequencies per scale; 0 for none", minimum=0)
    fourier_scale: float = option(
        1.0, help="standard deviation of the frequencies, in cycles per unit of the state", above=0
    )
    scales: tuple[float, ...] = option(
        (), help="several such, each with its own frequencies; fourier_scale alone if empty"
    )
    dropout: float = option(0.0, help="inside each block", minimum=0, below=1)
    raw: bool = option(True, help="the state itself is an input beside its Fourier features")

    def __post_init__(self) -> None:
        if not all(scale > 0 for scale in self.scales):
            raise ValueError(f"scales are positive, got {list(self.scales)}")


@dataclass(frozen=True)
class NLLOptions:
    """Options of ``evaluation.nll``."""

    max_examples: int | None = option(
        None, help="score at most so many, picked at random; null for all", minimum=1
    )
    split: Literal["train", "validation", "test"] = option("test", help="which rows")
    chunk: int = option(256, help="rows scored between two reports of progress", minimum=1)


@dataclass(frozen=True)
class GaussianBaselineOptions:
    """Options of ``evaluation.gaussian_baseline``."""

    ridge: float = option(
        1e-6, help="added to the covariance, as a fraction of its mean variance", minimum=0
    )
    max_examples: int | None = option(None, help="score at most so many; null for all", minimum=1)
    encodings: int = option(1, help="draws of a random codec to fit on and to average", minimum=1)


@dataclass(frozen=True)
class KernelBaselineOptions:
    """Options of ``evaluation.kernel_baseline``."""

    smallest: float = option(
        0.01, help="least bandwidth, in units of the rows' mean standard deviation", above=0
    )
    largest: float = option(1.0, help="greatest bandwidth, in the same units", above=0)
    bandwidths: int = option(25, help="how many are tried on validation rows", minimum=1)
    max_examples: int | None = option(None, help="score at most so many; null for all", minimum=1)
    chunk: int = option(256, help="rows compared with all training rows at once", minimum=1)


@dataclass(frozen=True)
class MassOptions:
    """Options of ``evaluation.mass``."""

    points: int = option(1024, help="base draws", minimum=2)
    steps: int = option(50, help="steps of RK4 each way", minimum=1)


@dataclass(frozen=True)
class NearestOptions:
    """Options of ``evaluation.nearest``."""

    max_examples: int | None = option(
        1000, help="samples, and held-out rows, to compare; null for all", minimum=1
    )
    shown: int = option(8, help="samples in the figure", minimum=1)
    height: int = option(0, help="of a picture where rows are pictures; 0 if not", minimum=0)
    width: int = option(0, help="of a picture where rows are pictures; 0 if not", minimum=0)
    low: float = option(0.0, help="data value shown black")
    high: float = option(1.0, help="data value shown white")


@dataclass(frozen=True)
class ImagesOptions:
    """Options of ``evaluation.images``."""

    height: int = option(help="of one picture", minimum=1)
    width: int = option(help="of one picture", minimum=1)
    rows: int = option(8, help="of each half of the sheet", minimum=1)
    columns: int = option(8, help="of each half of the sheet", minimum=1)
    low: float = option(0.0, help="data value shown black")
    high: float = option(1.0, help="data value shown white")
