"""Claims of this package: `linear` about the path, `mixtures` about its exact marginals."""

from __future__ import annotations

from typing import Any

from genpath.testing import Claim

from . import (
    control,
    conversions,
    couplings,
    density,
    draws,
    likelihoods,
    minimisers,
    oracle,
    owed,
    samplers,
)

__all__ = ["linear", "mixtures"]


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
