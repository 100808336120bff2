"""Claims of this package, one function per component or topic."""

from __future__ import annotations

from typing import Any

from genpath.testing import Claim

from . import bounds, density, reversals, samplers

__all__ = ["elbo", "masked_elbo", "masked_path", "mixture_path"]


def masked_path() -> tuple[Claim[Any], ...]:
    """The claims of ``path.discrete.masked``."""
    return (*density.masked(), *reversals.masked(), *bounds.masked(), *samplers.masked())


def mixture_path() -> tuple[Claim[Any], ...]:
    """The claims of ``path.discrete.mixture``."""
    return (*density.mixture(), *reversals.mixture(), *bounds.mixture(), *samplers.mixture())


def masked_elbo() -> tuple[Claim[Any], ...]:
    """The claims of ``objective.discrete.masked_elbo``."""
    return bounds.objective()


def elbo() -> tuple[Claim[Any], ...]:
    """The claims of ``likelihood.discrete.elbo``."""
    return bounds.likelihood()
