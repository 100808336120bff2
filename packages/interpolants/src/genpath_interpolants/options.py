# ruff: noqa: RUF009  # slot() and option() are dataclasses.field with metadata
"""Options of the components: what a config can set. No heavy library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genpath.config.options import Slot, option, slot

__all__ = [
    "Adaptive",
    "Anisotropic",
    "Based",
    "CheckerboardOptions",
    "DensityErrorOptions",
    "Diffusive",
    "DiffusiveSDE",
    "Elliptical",
    "EnergyNetworkOptions",
    "EnsemblesOptions",
    "EpsSweepOptions",
    "FinalDenoising",
    "FiveModesOptions",
    "GaussianDataOptions",
    "GaussianNetworkOptions",
    "GluedMirror",
    "ImplicitScore",
    "Latent",
    "Linear",
    "MarginalsOptions",
    "MatrixSDE",
    "Mirror",
    "MixtureDataOptions",
    "MixtureNetworkOptions",
    "OrnsteinUhlenbeck",
    "PairNetworkOptions",
    "PointMass",
    "Quadratic",
    "Rescaled",
    "ResamplingOptions",
    "SDELikelihood",
    "ScatterOptions",
    "TwoPointsOptions",
    "Warped",
]


# -- paths -------------------------------------------------------------------------------------


GAUSSIAN = "gaussian: x0 ~ N(0, I) independent of x1, so the score follows from any prediction"


@dataclass(frozen=True)
class Linear:
    """Options of ``interpolants.linear`` and ``interpolants.trigonometric``.

    Example:
        >>> Linear(gamma="sqrt").gamma_scale
        1.0
    """

    gamma: Literal["none", "sqrt", "quadratic", "sine"] = option(
        "none", help="γ²(t): 0, a·t(1−t), a·t²(1−t)² or a·sin²(πt)"
    )
    gamma_scale: float = option(1.0, help="a, the scale of γ²", above=0)
    base: Literal["gaussian", "any"] = option("any", help=GAUSSIAN)


@dataclass(frozen=True)
class Rescaled:
    """Options of ``interpolants.rescaled_trigonometric``."""

    gamma_scale: float = option(1.0, help="a of γ² = a·t(1−t)", above=0, maximum=4)
    base: Literal["gaussian", "any"] = option("any", help=GAUSSIAN)


@dataclass(frozen=True)
class Based:
    """Options of the paths whose schedule has no parameter."""

    base: Literal["gaussian", "any"] = option("any", help=GAUSSIAN)


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """Options of ``interpolants.ornstein_uhlenbeck``."""

    horizon: float = option(5.0, help="T: how long the data are noised", above=0)


@dataclass(frozen=True)
class Mirror:
    """Options of ``interpolants.mirror``."""

    gamma: Literal["sqrt", "quadratic", "sine"] = option(
        "sqrt", help="γ²(t): a·t(1−t), a·t²(1−t)² or a·sin²(πt)"
    )
    gamma_scale: float = option(1.0, help="a, the scale of γ²", above=0)


@dataclass(frozen=True)
class Elliptical:
    """Options of ``interpolants.elliptical``."""

    alpha_beta: Literal["linear", "trigonometric"] = option("linear", help="which α and β")
    gamma: Literal["none", "sqrt", "quadratic", "sine"] = option(
        "none", help="γ²(t): 0, a·t(1−t), a·t²(1−t)² or a·sin²(πt)"
    )
    gamma_scale: float = option(1.0, help="a, the scale of γ²", above=0)
    scales: tuple[float, ...] = option(
        (), help="standard deviations of the base, one per coordinate; fitted to the data if empty"
    )
    fit: Literal["diagonal", "full"] = option("diagonal", help="what is fitted to the data")
    floor: float = option(
        1e-3, help="least standard deviation, as a fraction of the largest", above=0, maximum=1
    )


@dataclass(frozen=True)
class GluedMirror:
    """Options of ``interpolants.glued_mirror``."""

    start: float = option(0.4, help="t1: when only noise is left", above=0, below=1)
    end: float = option(0.6, help="t2: when the data come back", above=0, below=1)
    gamma: Literal["sqrt", "quadratic", "sine"] = option(
        "sqrt", help="γ²(t): a·t(1−t), a·t²(1−t)² or a·sin²(πt)"
    )
    gamma_scale: float = option(1.0, help="a, the scale of γ²", above=0)


@dataclass(frozen=True)
class Latent:
    """Options of ``interpolants.latent``."""

    latent: Literal["logistic", "student", "gaussian"] = option(
        "logistic", help="the law of z in each coordinate"
    )
    gamma: Literal["sqrt", "quadratic", "sine"] = option(
        "sqrt", help="γ²(t): a·t(1−t), a·t²(1−t)² or a·sin²(πt)"
    )
    gamma_scale: float = option(1.0, help="a, the scale of γ²", above=0)
    degrees: float = option(5.0, help="ν of student: tails |z|^(−ν−1)", above=2)


@dataclass(frozen=True)
class Anisotropic:
    """Options of ``interpolants.anisotropic``."""

    matrix: tuple[tuple[float, ...], ...] = option(help="the rows of S in x_t = … + γ S z")
    gamma: Literal["sqrt", "quadratic", "sine"] = option(
        "sqrt", help="γ²(t): a·t(1−t), a·t²(1−t)² or a·sin²(πt)"
    )
    gamma_scale: float = option(1.0, help="a, the scale of γ²", above=0)


@dataclass(frozen=True)
class Diffusive:
    """Options of ``path.interpolants.diffusive``."""

    a: float = option(1.0, help="a(0) of √(2a(t)) B_t", above=0)
    slope: float = option(0.0, help="a(t) = a + slope·t, ≥ 0 on [0, 1]")
    alpha_beta: Literal["linear", "trigonometric"] = option("linear", help="which α and β")


@dataclass(frozen=True)
class PointMass:
    """Options of ``interpolants.point_mass``."""

    a: float = option(0.5, help="of √(2a) B_t", above=0)
    delta: float = option(0.2, help="how long I stays at the point", above=0, below=1)
    value: tuple[float, ...] = option(
        (), help="the point: one number per coordinate, one for all, or empty for the origin"
    )


# -- laws, data, networks ----------------------------------------------------------------------


@dataclass(frozen=True)
class MixtureDataOptions:
    """Options of ``data.interpolants.gaussian_mixture``."""

    preset: Literal["ring", "grid", "pair", "random"] = option(
        "ring", help="how the means are arranged, where none are given"
    )
    components: int = option(8, help="of the preset", minimum=1)
    radius: float = option(2.0, help="of the preset", above=0)
    std: float = option(0.1, help="of every component; 0 for points", minimum=0)
    dimension: int = option(2, help="of the preset", minimum=1)
    count: int = option(10_000, help="rows in all, split 80/10/10", minimum=10)
    seed: int = option(0, help="of the draws, and of the means of random", minimum=0)
    weights: tuple[float, ...] = option((), help="one per component; equal if empty")
    means: tuple[tuple[float, ...], ...] = option((), help="one list per component")
    stds: tuple[float, ...] = option((), help="one per component; std for all if empty")


@dataclass(frozen=True)
class CheckerboardOptions:
    """Options of ``data.interpolants.checkerboard``."""

    side: int = option(4, help="squares per side", minimum=2)
    width: float = option(4.0, help="of the board, centred at 0", above=0)
    count: int = option(10_000, help="rows in all, split 80/10/10", minimum=10)
    seed: int = option(0, help="of the draws", minimum=0)


@dataclass(frozen=True)
class TwoPointsOptions:
    """Options of ``data.interpolants.two_points``."""

    dimension: int = option(1, help="entries of one row", minimum=1)
    std: float = option(0.0, help="0 for points, else blurred", minimum=0)
    count: int = option(10_000, help="rows in all, split 80/10/10", minimum=10)
    seed: int = option(0, help="of the draws", minimum=0)


@dataclass(frozen=True)
class FiveModesOptions:
    """Options of ``data.interpolants.five_modes``."""

    dimension: int = option(128, help="entries of one row", minimum=6)
    count: int = option(20_000, help="rows in all, split 80/10/10", minimum=10)
    seed: int = option(0, help="of the draws", minimum=0)


@dataclass(frozen=True)
class GaussianDataOptions:
    """Options of ``data.interpolants.gaussian``."""

    dimension: int = option(2, help="entries of one row", minimum=1)
    mean: float = option(0.0, help="of every coordinate")
    std: float = option(1.0, help="of every coordinate", above=0)
    correlation: float = option(0.0, help="of every two coordinates", above=-1, below=1)
    count: int = option(10_000, help="rows in all, split 80/10/10", minimum=10)
    seed: int = option(0, help="of the draws", minimum=0)


@dataclass(frozen=True)
class MixtureNetworkOptions:
    """Options of ``network.interpolants.gaussian_mixture``; empty for the law of the data set."""

    weights: tuple[float, ...] = option((), help="one per component, with sum 1")
    means: tuple[tuple[float, ...], ...] = option((), help="one list per component")
    stds: tuple[float, ...] = option((), help="one per component")


@dataclass(frozen=True)
class GaussianNetworkOptions:
    """Options of ``network.interpolants.gaussian``."""

    ridge: float = option(
        1e-6, help="added to the covariance, as a fraction of its mean variance", minimum=0
    )


@dataclass(frozen=True)
class PairNetworkOptions:
    """Options of ``network.interpolants.pair``."""

    first: Slot = slot("network", "mlp", help="for the first quantity of the prediction")
    second: Slot = slot("network", "mlp", help="for the second quantity")


@dataclass(frozen=True)
class EnergyNetworkOptions:
    """Options of ``network.interpolants.energy``."""

    of: Slot = slot("network", "mlp", help="the scalar network E(t, x)")


# -- objectives --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quadratic:
    """Options of ``objective.interpolants.quadratic``.

    Example:
        >>> Quadratic(time="arcsine").antithetic
        False
    """

    antithetic: bool = option(False, help="average each draw with that of the negated noise")
    time: Literal["uniform", "arcsine", "logit_normal"] = option(
        "uniform", help="where in t it looks more often; weights keep the mean"
    )
    t_min: float = option(0.0, help="the least time", minimum=0, below=1)
    t_max: float = option(1.0, help="the largest time", above=0, maximum=1)


@dataclass(frozen=True)
class ImplicitScore:
    """Options of ``objective.interpolants.implicit_score``.

    Example:
        >>> ImplicitScore().divergence
        'exact'
    """

    divergence: Literal["exact", "hutchinson", "sliced"] = option(
        "exact", help="exact: d derivatives; hutchinson and sliced: one, along random signs"
    )
    time: Literal["uniform", "arcsine", "logit_normal"] = option(
        "uniform", help="where in t it looks more often; weights keep the mean"
    )
    t_min: float = option(0.0, help="the least time", minimum=0, below=1)
    t_max: float = option(1.0, help="the largest time", above=0, maximum=1)


# -- dynamics and samplers ---------------------------------------------------------------------


@dataclass(frozen=True)
class DiffusiveSDE:
    """Options of ``dynamics.interpolants.sde``.

    Example:
        >>> DiffusiveSDE(eps=0.5, shape="vanishing").table
        ()
    """

    eps: float = option(1.0, help="ε, or its largest value; σ² = 2ε", minimum=0)
    shape: Literal["constant", "vanishing", "rising", "falling"] = option(
        "constant", help="how ε runs over time: ε, ε·4t(1−t), ε·t or ε·(1−t)"
    )
    table: tuple[float, ...] = option(
        (), help="in place of a shape: ε over eps at equally spaced times from 0 to 1"
    )


@dataclass(frozen=True)
class MatrixSDE:
    """Options of ``dynamics.interpolants.matrix_sde``: one of the two.

    Example:
        >>> MatrixSDE(diagonal=(1.0, 2.0)).matrix
        ()
    """

    diagonal: tuple[float, ...] = option((), help="A = diag(…); 2ε in every entry is sde's ε")
    matrix: tuple[tuple[float, ...], ...] = option((), help="A, by rows")


@dataclass(frozen=True)
class Warped:
    """Options of samplers with a fixed grid, which may be warped.

    Example:
        >>> Warped(steps=50).exponent
        1.0
    """

    steps: int = option(100, help="steps", minimum=1)
    start: float = option(0.0, help="first time", minimum=0, maximum=1)
    end: float = option(1.0, help="last time", minimum=0, maximum=1)
    exponent: float = option(1.0, help="t_j = start + (end − start)(j/steps)^exponent", above=0)


@dataclass(frozen=True)
class FinalDenoising:
    """Options of ``sampler.interpolants.final_denoising``.

    Example:
        >>> FinalDenoising().solver
        {'name': 'heun', 'steps': 100, 'end': 0.99}
    """

    solver: Slot = slot(
        "sampler",
        {"name": "heun", "steps": 100, "end": 0.99},
        help="what runs up to its end < 1, from where x1 is predicted",
    )


@dataclass(frozen=True)
class Adaptive:
    """Options of ``sampler.interpolants.adaptive``.

    Example:
        >>> Adaptive(rtol=1e-6).norm
        'rms'
    """

    rtol: float = option(1e-5, help="relative tolerance per step", above=0)
    atol: float = option(1e-5, help="absolute tolerance per step", above=0)
    norm: Literal["rms", "max"] = option(
        "rms", help="rms: over the batch, the largest leaf; max: every number of every row"
    )
    start: float = option(0.0, help="first time", minimum=0, maximum=1)
    end: float = option(1.0, help="last time", minimum=0, maximum=1)


# -- likelihoods -------------------------------------------------------------------------------


@dataclass(frozen=True)
class SDELikelihood:
    """Options of ``likelihood.interpolants.sde``.

    Example:
        >>> SDELikelihood(eps=0.5).paths
        64
    """

    eps: float = option(1.0, help="ε of the model's SDE, or its largest value", minimum=0)
    shape: Literal["constant", "vanishing", "rising", "falling"] = option(
        "constant", help="how ε runs over time: ε, ε·4t(1−t), ε·t or ε·(1−t)"
    )
    method: Literal["heun", "euler"] = option("heun", help="order 2, or order 1 at half the calls")
    steps: int = option(100, help="equal steps of each path", minimum=1)
    paths: int = option(64, help="paths per datum; 2 or more give a standard error", minimum=1)
    divergence: Literal["exact", "hutchinson"] = option(
        "exact", help="exact costs one derivative per dimension, hutchinson one, and errs by O(h)"
    )
    chunk: int = option(8192, help="paths solved together", minimum=1)


# -- couplings and bridges ---------------------------------------------------------------------


@dataclass(frozen=True)
class OptimalTransport:
    """Options of ``coupling.interpolants.optimal_transport``.

    Example:
        >>> OptimalTransport().rows
        256
    """

    rows: int | None = option(
        256, help="rows paired in one problem, O(rows³); null for the whole batch", minimum=1
    )


@dataclass(frozen=True)
class Entropic:
    """Options of ``coupling.interpolants.entropic``.

    Example:
        >>> Entropic(eps=0.5).rows
        128
    """

    eps: float = option(help="ε of √(2ε) W, in units of x²; γ² = 2ε t(1−t) goes with it", above=0)
    rows: int | None = option(
        128, help="rows paired in one problem, O(rows²); null for the whole batch", minimum=1
    )
    iterations: int = option(200, help="Sinkhorn iterations at most", minimum=1)
    tolerance: float = option(1e-3, help="stops below this error of the column sums", above=0)


@dataclass(frozen=True)
class Reflow:
    """Options of ``stage.interpolants.reflow``.

    Example:
        >>> Reflow().rounds
        1
    """

    rounds: int = option(1, help="how often pairs are made and the network is trained", minimum=1)
    rows: int = option(10_000, help="pairs in each round", minimum=1)
    warm: bool = option(True, help="whether a round starts from the weights of the one before")


# -- evaluations -------------------------------------------------------------------------------


HEUN = {"name": "interpolants.stochastic_heun", "steps": 100}
CARRIER = "carries flows and SDEs; keep its start and end from infinite scores"
SHAPE_HELP = "how ε runs over time: ε, ε·4t(1−t), ε·t or ε·(1−t)"


@dataclass(frozen=True)
class DensityErrorOptions:
    """Options of ``evaluation.interpolants.density_error``."""

    max_examples: int | None = option(
        1000, help="score at most so many, picked at random; null for all", minimum=2
    )
    split: Literal["train", "validation", "test"] = option("test", help="which rows")
    eps: tuple[float, ...] = option((), help="values of ε whose SDE is scored too")
    shape: Literal["constant", "vanishing", "rising", "falling"] = option(
        "constant", help=SHAPE_HELP
    )
    steps: int = option(50, help="equal steps of each path", minimum=1)
    paths: int = option(64, help="paths per row and ε", minimum=2)
    divergence: Literal["exact", "hutchinson"] = option(
        "exact", help="exact costs one derivative per dimension, hutchinson one, and errs by O(h)"
    )
    chunk: int = option(256, help="rows scored between two reports of progress", minimum=1)

    def __post_init__(self) -> None:
        _not_negative(self.eps)


@dataclass(frozen=True)
class EpsSweepOptions:
    """Options of ``evaluation.interpolants.eps_sweep``."""

    eps: tuple[float, ...] = option((0.0, 0.1, 0.3, 1.0, 3.0), help="the values; 0 is the flow")
    shape: Literal["constant", "vanishing", "rising", "falling"] = option(
        "constant", help=SHAPE_HELP
    )
    sampler: Slot = slot("sampler", HEUN, help=CARRIER)
    count: int = option(1000, help="samples per repeat", minimum=8)
    repeats: int = option(4, help="independent repeats, for standard errors", minimum=2)
    coordinates: tuple[int, int] = option((0, 1), help="the two that KL is measured in")
    onto: Literal["coordinates", "principal"] = option(
        "coordinates", help="principal: the two directions in which training rows vary most"
    )
    bandwidth: float | None = option(
        None, help="of the kernel, in standard deviations; null for count^(−1/6)", above=0
    )

    def __post_init__(self) -> None:
        _not_negative(self.eps)


@dataclass(frozen=True)
class MarginalsOptions:
    """Options of ``evaluation.interpolants.marginals``."""

    eps: float = option(0.0, help="0 tests b, another value b + ε s", minimum=0)
    bins: int = option(10, help="of time, of equal length", minimum=1)
    start: float = option(0.0, help="first time", minimum=0, below=1)
    end: float = option(1.0, help="last time", above=0, maximum=1)
    functions: int = option(8, help="waves and bumps of each bin", minimum=1)
    count: int = option(10_000, help="pairs at most", minimum=2)
    split: Literal["train", "validation", "test"] = option("test", help="whose rows")
    level: float = option(1e-3, help="false alarm of the whole table", above=0, below=1)


@dataclass(frozen=True)
class ScatterOptions:
    """Options of ``evaluation.interpolants.scatter``."""

    count: int = option(2000, help="points in each half", minimum=1)
    coordinates: tuple[int, int] = option((0, 1), help="the two that are seen")
    onto: Literal["coordinates", "principal"] = option(
        "coordinates", help="principal: the two directions in which training rows vary most"
    )
    resolution: int = option(120, help="cells per side of the exact density", minimum=2)


@dataclass(frozen=True)
class EnsemblesOptions:
    """Options of ``evaluation.interpolants.ensembles``."""

    eps: tuple[float, ...] = option((0.0, 0.3, 1.0, 3.0), help="the values; 0 is the flow")
    shape: Literal["constant", "vanishing", "rising", "falling"] = option(
        "vanishing", help=SHAPE_HELP
    )
    sampler: Slot = slot("sampler", HEUN, help=CARRIER)
    starts: int = option(64, help="draws of the base law", minimum=2)
    count: int = option(16, help="ends of each start", minimum=2)
    height: int = option(0, help="of a picture where rows are pictures; 0 if not", minimum=0)
    width: int = option(0, help="of a picture where rows are pictures; 0 if not", minimum=0)
    rows: int = option(4, help="starts in the sheet of each ε", minimum=1)
    columns: int = option(6, help="ends in the sheet of each ε", minimum=1)
    low: float = option(0.0, help="data value shown black")
    high: float = option(1.0, help="data value shown white")

    def __post_init__(self) -> None:
        _not_negative(self.eps)


@dataclass(frozen=True)
class ResamplingOptions:
    """Options of ``evaluation.interpolants.resampling``."""

    eps: tuple[float, ...] = option((0.0, 0.1, 0.3, 1.0, 3.0), help="the values; 0 is the flow")
    shape: Literal["constant", "vanishing", "rising", "falling"] = option(
        "vanishing", help=SHAPE_HELP
    )
    sampler: Slot = slot("sampler", HEUN, help=CARRIER)
    count: int | None = option(500, help="rows; null for all", minimum=3)
    split: Literal["train", "validation", "test"] = option("test", help="whose rows")
    height: int = option(0, help="of a picture where rows are pictures; 0 if not", minimum=0)
    width: int = option(0, help="of a picture where rows are pictures; 0 if not", minimum=0)
    shown: int = option(8, help="rows in the sheet", minimum=1)
    low: float = option(0.0, help="data value shown black")
    high: float = option(1.0, help="data value shown white")

    def __post_init__(self) -> None:
        _not_negative(self.eps)


def _not_negative(values: tuple[float, ...]) -> None:
    if not all(value >= 0 for value in values):
        raise ValueError(f"every ε ≥ 0, got {list(values)}")
