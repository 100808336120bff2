"""Options of the components: what a config can set. No heavy library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genpath.config.options import option

__all__ = ["Linear"]


# -- paths -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear:
    """Options of ``interpolants.linear``.

    Example:
        >>> Linear(gamma="sqrt").gamma_scale
        1.0
    """

    gamma: Literal["none", "sqrt", "quadratic"] = option(
        "none", help="γ²(t): 0, a·t(1−t), or a·t²(1−t)²"
    )
    gamma_scale: float = option(1.0, help="a, the scale of γ²", above=0)
    base: Literal["gaussian", "any"] = option(
        "any",
        help="gaussian: x0 ~ N(0, I) independent of x1, so the score follows from any prediction",
    )


# -- laws, data, networks ----------------------------------------------------------------------


# -- objectives --------------------------------------------------------------------------------


# -- dynamics and samplers ---------------------------------------------------------------------


# -- likelihoods -------------------------------------------------------------------------------


# -- couplings and bridges ---------------------------------------------------------------------


# -- evaluations -------------------------------------------------------------------------------
