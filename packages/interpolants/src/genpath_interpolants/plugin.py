"""What this package registers; nothing of it is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genpath.plugins import hookimpl

if TYPE_CHECKING:
    from genpath.plugins import Collector

__all__ = ["GENPATH_HOOK", "genpath_components"]

GENPATH_HOOK = 1


@hookimpl
def genpath_components(registry: Collector) -> None:
    """Name the components."""
    _paths(registry)
    _laws(registry)
    _objectives(registry)
    _dynamics(registry)
    _likelihoods(registry)
    _couplings(registry)
    _evaluations(registry)


def _paths(registry: Collector) -> None:
    """Paths, with the operators that draw them."""
    registry.add(
        "path",
        "linear",
        "genpath_interpolants.paths:LinearPath",
        options="genpath_interpolants.options:Linear",
        needs=("state_space",),
        summary="x_t = (1−t) x0 + t x1 + γ(t) z on R^d, with γ = 0 or a latent noise",
        claims="genpath_interpolants.claims:linear",
    )
    registry.topic(
        "kernels",
        "genpath_interpolants.claims:kernels",
        summary="the operator that makes a draw and its velocity target in one pass",
    )


def _laws(registry: Collector) -> None:
    """Laws known exactly: data, oracles, and networks that stand in for trained ones."""
    registry.topic(
        "mixtures",
        "genpath_interpolants.claims:mixtures",
        summary="the exact marginals of the path between a normal law and a mixture",
    )


def _objectives(registry: Collector) -> None:
    """Losses and diagnostics."""


def _dynamics(registry: Collector) -> None:
    """Dynamics and samplers."""


def _likelihoods(registry: Collector) -> None:
    """Densities of learned processes, and what bounds them."""


def _couplings(registry: Collector) -> None:
    """Couplings, bridges and reflow."""


def _evaluations(registry: Collector) -> None:
    """What a run measures and shows."""
