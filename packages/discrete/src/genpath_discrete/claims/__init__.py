"""Claims of this package, one function per component or topic."""

from __future__ import annotations

from typing import Any

from genpath.testing import Claim

from . import (
    bounds,
    chains as chain,
    components as parts,
    control,
    density,
    divergences,
    leaps,
    minimisers,
    reversals,
    samplers,
    steps,
    texts,
)

__all__ = [
    "categorical",
    "chains",
    "elbo",
    "jumps",
    "masked_elbo",
    "masked_law",
    "masked_path",
    "masked_step",
    "mixture_path",
    "ngram_baselines",
    "table",
    "text_samples",
    "topics",
    "transformer",
    "uniform_law",
]


def masked_path() -> tuple[Claim[Any], ...]:
    """The claims of ``path.discrete.masked``."""
    return (
        *density.masked(),
        *reversals.masked(),
        *minimisers.masked(),
        *control.masked(),
        *samplers.masked(),
    )


def mixture_path() -> tuple[Claim[Any], ...]:
    """The claims of ``path.discrete.mixture``."""
    return (
        *density.mixture(),
        *reversals.mixture(),
        *minimisers.mixture(),
        *samplers.mixture(),
        *divergences.mixture(),
    )


def masked_elbo() -> tuple[Claim[Any], ...]:
    """The claims of ``objective.discrete.masked_elbo``."""
    return bounds.objective()


def elbo() -> tuple[Claim[Any], ...]:
    """The claims of ``likelihood.discrete.elbo``."""
    return bounds.likelihood()


def jumps() -> tuple[Claim[Any], ...]:
    """The claims of ``discrete.jumps``."""
    return leaps.jumps()


def chains() -> tuple[Claim[Any], ...]:
    """The claims of ``discrete.chains``."""
    return chain.chains()


def masked_step() -> tuple[Claim[Any], ...]:
    """The claims of ``discrete.masked_step``."""
    return steps.steps()


def categorical() -> tuple[Claim[Any], ...]:
    """The claims of ``space.discrete.categorical``."""
    return parts.categorical()


def masked_law() -> tuple[Claim[Any], ...]:
    """The claims of ``law.discrete.masked``."""
    return parts.masked_law()


def uniform_law() -> tuple[Claim[Any], ...]:
    """The claims of ``law.discrete.uniform``."""
    return parts.uniform_law()


def table() -> tuple[Claim[Any], ...]:
    """The claims of ``discrete.table``."""
    return parts.tables()


def transformer() -> tuple[Claim[Any], ...]:
    """The claims of ``network.discrete.transformer``."""
    return parts.transformers()


def topics() -> tuple[Claim[Any], ...]:
    """The claims of ``data.discrete.topics``."""
    return texts.text()


def ngram_baselines() -> tuple[Claim[Any], ...]:
    """The claims of ``evaluation.discrete.ngram_baselines``."""
    return texts.ngrams()


def text_samples() -> tuple[Claim[Any], ...]:
    """The claims of ``evaluation.discrete.text_samples``."""
    return texts.text_samples()
