"""What this package adds to genpath; imports none of it."""

from __future__ import annotations

from genpath.plugins import hookimpl
from genpath.plugins.components import Collector

GENPATH_HOOK = 1


@hookimpl
def genpath_components(registry: Collector) -> None:
    """Name the components."""
    options, claims = "genpath_manifold.options", "genpath_manifold.claims"
    registry.add(
        "space", "sphere", "genpath_manifold.spaces:Sphere",
        options=f"{options}:SphereSpace",
        claims=f"{claims}:sphere",
        summary="the unit sphere S^n",
    )  # fmt: skip
    registry.add(
        "law", "uniform", "genpath_manifold.laws:uniform",
        needs=("space",),
        claims=f"{claims}:uniform",
        summary="the uniform law of a sphere",
    )  # fmt: skip
    registry.add(
        "law", "von_mises_fisher", "genpath_manifold.laws:von_mises_fisher",
        options=f"{options}:VonMisesFisher",
        claims=f"{claims}:von_mises_fisher",
        summary="a law around one point of S²",
    )  # fmt: skip
    registry.add(
        "schedule", "late", "genpath_manifold.paths:late",
        options=f"{options}:Late",
        claims=f"{claims}:late_schedule",
        summary="κ with equal ratios of the distance to go in equal times",
    )  # fmt: skip
    registry.add(
        "path", "geodesic", "genpath_manifold.paths:GeodesicPath",
        options=f"{options}:Geodesic",
        needs=("state_space",),
        claims=f"{claims}:geodesic",
        summary="x_t on the shortest curve from x0 to x1, on any smooth space",
    )  # fmt: skip
    registry.add(
        "network", "sphere_mlp", "genpath_manifold.networks:sphere_mlp",
        options=f"{options}:SphereMLP",
        needs=("space", "prediction", "path"),
        claims=f"{claims}:sphere_mlp",
        summary="a perceptron on plane waves of the point, blurred as far as the path is from data",
    )  # fmt: skip
    registry.add(
        "data", "airports", "genpath_manifold.data:airports",
        claims=f"{claims}:airports",
        summary="the positions of the world's airports (airportsdata)",
    )  # fmt: skip
    registry.add(
        "evaluation", "kernel_baseline", "genpath_manifold.evaluations:KernelBaseline",
        options=f"{options}:KernelBaseline",
        claims=f"{claims}:kernel_baseline",
        summary="test NLL of the best von Mises–Fisher kernel density, and of the uniform law",
    )  # fmt: skip
    registry.add(
        "evaluation", "mass", "genpath_manifold.evaluations:Mass",
        options=f"{options}:Mass",
        claims=f"{claims}:mass",
        summary="the integral of the learned density over S², which is 1",
    )  # fmt: skip
    registry.add(
        "evaluation", "map", "genpath_manifold.evaluations:Map",
        options=f"{options}:Map",
        claims=f"{claims}:maps",
        summary="equal-area maps of held-out points and samples",
    )  # fmt: skip
    for name, function, summary in (
        ("brownian", "brownian_motion", "Brownian motion and its geodesic random walk"),
        ("heat_kernel", "heat_kernel", "the heat kernel of S², its score and its short times"),
        ("flows", "flows", "likelihoods and solvers on a flow with a closed solution"),
        ("kernel_densities", "kernel_densities", "kernel densities on S² and their bandwidths"),
    ):
        registry.topic(name, f"{claims}:{function}", summary=summary)
