"""Claims: `linear` of the path, `mixtures` of its exact marginals, `kernels` of the operators."""

from __future__ import annotations

from typing import Any

from genpath.testing import Claim

from . import (
    control,
    conversions,
    couplings,
    density,
    draws,
    kernels as operators,
    likelihoods,
    minimisers,
    oracle,
    owed,
    samplers,
)

__all__ = ["kernels", "linear", "mixtures"]


def linear() -> tuple[Claim[Any], ...]:
    """The claims of ``path.interpolants.linear``."""
    return (
        *owed.claims(),
        *draws.claims(),
        *couplings.claims(),
        *density.claims(),
        *conversions.claims(),
        *minimisers.claims(),
        *samplers.claims(),
        *likelihoods.claims(),
        *control.claims(),
    )


def mixtures() -> tuple[Claim[Any], ...]:
    """The claims of ``interpolants.mixtures``."""
    return oracle.claims()


def kernels() -> tuple[Claim[Any], ...]:
    """The claims of ``interpolants.kernels``."""
    return operators.claims()
