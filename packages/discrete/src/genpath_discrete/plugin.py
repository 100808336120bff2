"""The hook: what this plugin adds, by kind and name. Nothing here imports torch."""

from __future__ import annotations

from genpath.plugins import Collector, hookimpl

__all__ = ["GENPATH_HOOK", "genpath_components"]

GENPATH_HOOK = 1

PACKAGE = "genpath_discrete"


@hookimpl
def genpath_components(registry: Collector) -> None:
    """Add the components."""

    def add(
        kind: str, name: str, target: str, summary: str, options: str | None = None,
        needs: tuple[str, ...] = (), claims: str | None = None,
    ) -> None:  # fmt: skip
        where = None if options is None else f"{PACKAGE}.options:{options}"
        justified = None if claims is None else f"{PACKAGE}.claims:{claims}"
        registry.add(
            kind, name, f"{PACKAGE}.{target}", summary=summary, options=where, needs=needs,
            claims=justified,
        )  # fmt: skip

    add(
        "space", "categorical", "spaces:Categorical", "arrays of letters", "CategoricalOptions",
        claims="categorical",
    )  # fmt: skip
    add(
        "law", "masked", "laws:masked", "all mask: the base of masked diffusion",
        needs=("space",), claims="masked_law",
    )  # fmt: skip
    add(
        "law", "uniform", "laws:uniform", "independent uniform letters",
        needs=("space",), claims="uniform_law",
    )  # fmt: skip
    add(
        "path", "masked", "paths:masked", "letters that come out of a mask one by one",
        "PathOptions", ("state_space",), "masked_path",
    )  # fmt: skip
    add(
        "path", "mixture", "paths:mixture", "base letters that turn into data letters one by one",
        "PathOptions", ("state_space",), "mixture_path",
    )  # fmt: skip
    add(
        "network", "transformer", "networks:transformer", "a bidirectional transformer over sites",
        "TransformerOptions", ("space", "prediction"), "transformer",
    )  # fmt: skip
    add(
        "objective", "masked_elbo", "objectives:masked_elbo",
        "the masked bound on −log p, in nats per sequence", "MaskedELBOOptions",
        claims="masked_elbo",
    )  # fmt: skip
    add(
        "likelihood", "elbo", "likelihoods:elbo",
        "the masked bound on log p, by Monte Carlo, with its standard error", "ELBOOptions",
        claims="elbo",
    )  # fmt: skip
    add(
        "data", "topics", "data:topics", "characters of Python's own help topics",
        "TopicsOptions", claims="topics",
    )  # fmt: skip
    add(
        "evaluation", "ngram_baselines", "evaluations:NgramBaselines",
        "held-out cross-entropy of unigrams, bigrams and trigrams", "NgramOptions",
        claims="ngram_baselines",
    )  # fmt: skip
    add(
        "evaluation", "text_samples", "evaluations:TextSamples",
        "samples as text, and how often each letter occurs", "TextSamplesOptions",
        claims="text_samples",
    )  # fmt: skip
    for name, summary in (
        ("table", "a law of letters as a table, and what it says of masked sites"),
        ("jumps", "jump parts with a closed form over a step"),
        ("masked_step", "the operator that reveals masks straight from logits"),
        ("chains", "a chain of three letters: its steps, its reversal, its path law"),
    ):
        registry.topic(name, f"{PACKAGE}.claims:{name}", summary=summary)
