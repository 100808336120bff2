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
        "mixtures",
        "genpath_interpolants.claims:mixtures",
        summary="the exact marginals of the path between a normal law and a mixture",
    )
    registry.topic(
        "kernels",
        "genpath_interpolants.claims:kernels",
        summary="the operator that makes a draw and its velocity target in one pass",
    )
