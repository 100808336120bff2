"""The core's own components, registered the way every plugin's are."""

from __future__ import annotations

from genpath.plugins import Collector, hookimpl

__all__ = ["GENPATH_HOOK", "genpath_components"]

GENPATH_HOOK = 1


@hookimpl
def genpath_components(registry: Collector) -> None:
    """Names, import paths and options; nothing is imported."""
    _mathematics(registry)
    _runs(registry)
    _topics(registry)


def _mathematics(registry: Collector) -> None:
    def add(kind: str, name: str, target: str, summary: str, **more: object) -> None:
        if isinstance(more.get("options"), str):
            more["options"] = f"genpath.options:{more['options']}"
        if isinstance(more.get("claims"), str):
            more["claims"] = f"genpath.claims.{more['claims']}"
        registry.add(kind, name, f"genpath.{target}", summary=summary, **more)  # type: ignore[arg-type]

    add(
        "law",
        "gaussian",
        "laws:gaussian",
        "N(mean, std² I) on R^d",
        options="GaussianOptions",
        needs=("space",),
        claims="laws:normal",
    )
    add(
        "law",
        "data",
        "components:data_law",
        "the data themselves: where a mirror starts",
        needs=("data_law",),
        claims="laws:data",
    )
    add(
        "law",
        "dataset",
        "components:dataset",
        "the rows of a second data set: where a bridge starts",
        options="DatasetLawOptions",
        needs=("codec", "device"),
        claims="laws:dataset",
    )
    add("schedule", "linear", "schedules:linear_keep", "κ(t) = t", claims="schedules:linear")
    add(
        "schedule",
        "cosine",
        "schedules:cosine_keep",
        "κ(t) = sin²(πt/2)",
        claims="schedules:cosine",
    )
    add(
        "schedule",
        "power",
        "schedules:power_keep",
        "κ(t) = t^exponent",
        options="PowerOptions",
        claims="schedules:power",
    )
    add("codec", "identity", "codecs:Identity", "states are the data", claims="codecs:identity")
    add(
        "codec",
        "standardise",
        "components:standardise",
        "zero mean, unit variance per coordinate",
        options="StandardiseOptions",
        needs=("data",),
        claims="codecs:standardisation",
    )
    add(
        "codec",
        "dequantise",
        "codecs:Dequantise",
        "integer levels plus uniform noise, scaled",
        options="DequantiseOptions",
        claims="codecs:dequantisation",
    )
    add(
        "coupling",
        "independent",
        "components:independent",
        "base and data drawn apart",
        needs=("base", "data_law"),
        claims="couplings:independent",
    )
    add(
        "objective",
        "regression",
        "objectives:Regression",
        "Bregman regression on the path's target; minimiser E[target | x_t]",
        options="RegressionOptions",
        claims="objectives:regression",
    )
    add(
        "dynamics",
        "ode",
        "models:ODE",
        "the probability flow dx = u dt",
        claims="objectives:flows",
    )
    add(
        "dynamics",
        "sde",
        "models:SDE",
        "dX = (u + ε s) dt + √(2ε) dW: the same marginals",
        options="SDEOptions",
        claims="objectives:noisy",
    )
    add(
        "dynamics",
        "jumps",
        "models:Jump",
        "the marginal jumps of a path of letters",
        claims="objectives:jumps",
    )
    for name, summary in (
        ("euler", "one network call per step, every part on every space, order 1"),
        ("midpoint", "flows, order 2, two calls per step"),
        ("heun", "flows, order 2, two calls per step"),
        ("rk4", "flows, order 4, four calls per step"),
        ("adams_bashforth", "flows, order 2, one call per step"),
    ):
        add(
            "sampler",
            name,
            f"components:{name}",
            summary,
            options="SolverOptions",
            claims=f"samplers:{name}",
        )
    add(
        "likelihood",
        "ode",
        "components:ode",
        "log p along the probability flow, solved by RK4",
        options="ODELikelihoodOptions",
        claims="likelihoods:ode",
    )
    add(
        "transform",
        "project",
        "transforms:Project",
        "return the state to its space",
        needs=("space",),
        claims="transforms:project",
    )
    add(
        "transform",
        "clamp",
        "transforms:Clamp",
        "clamp to an interval",
        options="ClampOptions",
        claims="transforms:clamp",
    )


def _runs(registry: Collector) -> None:
    """Stages, data, networks and evaluations."""
    for name, summary in (
        ("train", "fit the network; goes on from its last checkpoint"),
        ("sample", "draw samples into samples.npz"),
        ("evaluate", "measure what the config names; figures and texts"),
        ("report", "write report.html"),
    ):
        registry.add(
            "stage",
            name,
            f"genpath.run.stages:{name.title()}",
            summary=summary,
            claims=f"genpath.claims.stages:{name}",
        )
    registry.add(
        "data",
        "digits",
        "genpath.data:digits",
        summary="handwritten digits, 8 × 8 pixels of 17 levels; needs genpath[data]",
        claims="genpath.claims.data:digits",
    )
    registry.add(
        "network",
        "mlp",
        "genpath.networks:mlp",
        summary="a residual network on the flattened state, with Fourier features if wished",
        options="genpath.options:MLPOptions",
        needs=("space", "prediction"),
        claims="genpath.claims.networks:perceptron",
    )
    for name, target, options, summary in (
        ("nll", "NegativeLogLikelihood", "NLL", "−log p of held-out rows, nats and bits"),
        ("gaussian_baseline", "GaussianBaseline", "GaussianBaseline", "one Gaussian on R^d"),
        ("kernel_baseline", "KernelBaseline", "KernelBaseline", "a kernel density on R^d"),
        ("mass", "Mass", "Mass", "∫ p dx over the space of states, which is 1"),
        ("nearest", "Nearest", "Nearest", "distance of samples to the training rows"),
        ("images", "Images", "Images", "a sheet of samples beside held-out data"),
    ):
        claims = "baselines" if name.endswith("_baseline") else "evaluations"
        registry.add(
            "evaluation",
            name,
            f"genpath.evaluations:{target}",
            summary=summary,
            options=f"genpath.options:{options}Options",
            claims=f"genpath.claims.{claims}:{name}",
        )


def _topics(registry: Collector) -> None:
    """Claims about what no config names."""
    for name, target, summary in (
        ("spaces", "spaces:spaces", "R^d, products, letters among the factors"),
        ("laws", "laws:composed", "rows of a data set, products of laws"),
        ("couplings", "couplings:pairings", "stored and simulated pairs"),
        ("codecs", "codecs:chains", "codecs one after another"),
        ("splits", "data:splits", "training, validation and test rows by hash"),
        ("predictions", "predictions:predictions", "conversions, plans, guidance"),
        ("generators", "generators:generators", "L f, (L*p)/p, and sums of generators"),
        ("reversal", "reversal:reversal", "reversed flows, noises and jumps"),
        ("path-measures", "reversal:path_measures", "densities and divergences of path laws"),
        ("divergences", "likelihoods:divergences", "exact, and by one probe"),
        ("products", "products:products", "clocks, joint fields, generation by freezing"),
    ):
        registry.topic(name, f"genpath.claims.{target}", summary=summary)
