"""Options of the components: what a config can set. No heavy library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genpath.config.options import option

__all__ = ["Based", "Elliptical", "Linear", "Mirror", "OrnsteinUhlenbeck", "Rescaled"]


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


# -- laws, data, networks ----------------------------------------------------------------------


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


# -- likelihoods -------------------------------------------------------------------------------


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


# -- evaluations -------------------------------------------------------------------------------
