"""What this package registers; nothing of it is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genpath.plugins import hookimpl

if TYPE_CHECKING:
    from genpath.plugins import Collector

__all__ = ["GENPATH_HOOK", "genpath_components"]

GENPATH_HOOK = 1

TOPICS: tuple[tuple[str, str, str], ...] = (
    ("experts", "experts:experts", "law paths: lifted, slowed, as noising processes"),
    ("mixtures", "mixtures:mixtures", "OR: the mixture of experts"),
    ("alignment", "alignment:alignment", "experts run on another schedule"),
    ("foreign", "foreign:claims", "networks of other libraries as experts"),
    ("compositions", "compositions:compositions", "ratio paths: exponents, scores, presets' text"),
    ("ratio-paths", "ratio_paths:claims", "ratios of normal laws; presets; experts' equations"),
    ("tails", "tails:claims", "envelopes and tail radii"),
    ("certificates", "certificates:claims", "whether a composition exists"),
    ("supports", "supports:claims", "numerators inside denominators"),
    ("bumps", "bumps:claims", "exponents that move between fixed ends"),
    ("repair", "repair:claims", "the smallest bumps that mend a collapse"),
    ("potentials", "feynman_kac:claims", "conversion rules and the generic potential"),
    ("equations", "fk_equations:claims", "Feynman–Kac equations on a grid and by particles"),
    ("correctors", "correctors:claims", "the corrector table against the generic potential"),
    ("corrected-laws", "end_to_end:claims", "what correctors end in, and naive mixing does not"),
    ("weights", "ace:weights", "the weight of any transport and any noise"),
    ("terminal-laws", "ace:terminal_laws", "what a weighted run tends to, in closed form"),
    ("special-cases", "ace:special_cases", "one noising process; the checkerboard"),
    ("tracking", "tracking:tracking", "log-densities by Itô's formula"),
    ("resampling-schemes", "resampling:schemes", "how ancestors are drawn"),
    ("particles", "smc:particles", "ESS, log Z, lineages, weights of steps"),
    ("resampled-particles", "smc:resampling", "what resampling leaves and what it must move"),
    ("jump-corrector", "jump_corrector:jumps", "deaths and births in place of weights"),
    ("runs", "runs:runs", "whole runs, collapse, and what reports say"),
    ("steering", "steering:steered", "rewards by weights alone"),
    ("proposals", "steering:proposals", "rewards by twisted steps"),
    ("twists", "twisting:twists", "twisted generators and their potentials"),
    ("tilts", "twisting:rewards", "reward tilts end to end"),
    ("superposition", "superposition:both", "AND: densities kept equal along a path"),
    ("tracked-superposition", "superposition:tracked", "superpositions with tracked densities"),
    ("finite-potentials", "finite:potentials", "correctors on finite spaces"),
    ("finite-forms", "finite:forms", "correctors in table form"),
    ("chains", "chains:tables", "the weighted equation of five states"),
    ("chain-particles", "chains:particles", "particles on finite spaces"),
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
