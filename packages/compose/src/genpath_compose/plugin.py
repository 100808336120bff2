"""What this package registers; nothing of it is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genpath.plugins import hookimpl

if TYPE_CHECKING:
    from genpath.plugins import Collector

__all__ = ["GENPATH_HOOK", "genpath_components"]

GENPATH_HOOK = 1

TOPICS: tuple[tuple[str, str, str], ...] = (
    ("weights", "ace:weights", "the weight of any transport and any noise"),
    ("terminal-laws", "ace:terminal_laws", "what a weighted run tends to, in closed form"),
    ("tracking", "tracking:tracking", "log-densities by Itô's formula"),
    ("runs", "runs:runs", "whole runs, collapse, and what reports say"),
)
"""Claims about what no config names: name, target, summary."""


@hookimpl
def genpath_components(registry: Collector) -> None:
    """Name the components."""
    for name, target, options, summary in (
        ("run", "run", "RunExpert", "the model of a run folder, or of a checkpoint alone"),
        ("gaussian_mixture", "gaussian_mixture", "MixtureExpert", "an exact path: normal laws"),
        ("boxes", "boxes", "BoxExpert", "an exact path: uniform laws on boxes"),
        ("reward", "reward", "Reward", "a factor e^{r(x)}, r linear or quadratic"),
    ):
        registry.add(
            "expert",
            name,
            f"genpath_compose.components:{target}",
            summary=summary,
            options=f"genpath_compose.options:{options}Options",
            claims=f"genpath_compose.claims.components:{name}",
        )
    registry.add(
        "transform",
        "resample",
        "genpath_compose.components:resample",
        summary="resample weighted particles between steps",
        options="genpath_compose.options:ResampleOptions",
        claims="genpath_compose.claims.components:resampling",
    )
    registry.add(
        "stage",
        "sample",
        "genpath_compose.stages:SampleComposition",
        summary="certify and sample a composition of experts; figures and numbers for the report",
        options="genpath_compose.options:ComposeOptions",
        claims="genpath_compose.claims.components:stage",
    )
    for name, target, summary in TOPICS:
        registry.topic(name, f"genpath_compose.claims.{target}", summary=summary)
