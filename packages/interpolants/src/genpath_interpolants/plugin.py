"""What this package registers; nothing of it is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genpath.plugins import hookimpl

if TYPE_CHECKING:
    from genpath.plugins import Collector

__all__ = ["GENPATH_HOOK", "genpath_components"]

GENPATH_HOOK = 1


SPACE = ("state_space",)

PRESETS: tuple[tuple[str, str | None, tuple[str, ...], str], ...] = (
    ("linear", "Linear", SPACE, "x_t = (1−t) x0 + t x1 + γ(t) z on R^d, γ = 0 or a latent noise"),
    ("trigonometric", "Linear", SPACE, "x_t = cos(πt/2) x0 + sin(πt/2) x1 + γ(t) z"),
    (
        "rescaled_trigonometric",
        "Rescaled",
        SPACE,
        "trigonometric, times √(1−γ²), + γ z: covariance preserving with a latent",
    ),
    (
        "squared_trigonometric",
        "Based",
        SPACE,
        "cos²(πt/2) x0 + sin²(πt/2) x1 + sin(πt)/√2 z: covariance preserving, smooth γ",
    ),
    ("encoding_decoding", "Based", SPACE, "x0 to pure noise at t = ½, and on to x1"),
    ("variance_preserving", None, SPACE, "one-sided: √(1−t²) x0 + t x1, x0 ~ N(0, I)"),
    (
        "ornstein_uhlenbeck",
        "OrnsteinUhlenbeck",
        SPACE,
        "one-sided, truncated: noising for a finite time T",
    ),
    ("mirror", "Mirror", SPACE, "x1 + γ(t) z: the data at both ends"),
    (
        "elliptical",
        "Elliptical",
        ("state_space", "data", "codec"),
        "linear or trigonometric from N(0, C0), C0 given or fitted to the data",
    ),
)
"""Paths of `genpath_interpolants.presets`: name, options, needs, summary."""


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
    for name, options, needs, summary in PRESETS:
        registry.add(
            "path",
            name,
            f"genpath_interpolants.presets:{name}",
            options=None if options is None else f"genpath_interpolants.options:{options}",
            needs=needs,
            summary=summary,
            claims=f"genpath_interpolants.claims{'' if name == 'linear' else '.presets'}:{name}",
        )
    registry.add(
        "law",
        "path_base",
        "genpath_interpolants.presets:path_base",
        needs=("path",),
        summary="N(0, C0): the base law that the path declares",
        claims="genpath_interpolants.claims.presets:path_base",
    )
    registry.topic(
        "kernels",
        "genpath_interpolants.claims:kernels",
        summary="the operator that makes a draw and its velocity target in one pass",
    )
    _general_paths(registry)


GENERAL: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "glued_mirror",
        "families:glued_mirror",
        "GluedMirror",
        "mirrors:glued",
        "κ(t) x1 + γ z, κ = 0 on [t1, t2]: two one-sided paths glued at pure noise",
    ),
    (
        "latent",
        "families:latent",
        "Latent",
        "latents:latent",
        "(1−t) x0 + t x1 + γ z with z logistic, Student or normal",
    ),
    (
        "anisotropic",
        "families:anisotropic",
        "Anisotropic",
        "latents:anisotropic",
        "(1−t) x0 + t x1 + γ S z with a matrix S",
    ),
    (
        "diffusive",
        "diffusive:diffusive",
        "Diffusive",
        "diffusive:diffusive",
        "(1−t) x0 + t x1 + √(2a(t)) B, B a Brownian bridge",
    ),
    (
        "point_mass",
        "point_mass:point_mass",
        "PointMass",
        "from_point:from_point",
        "the diffusive path from one point, with a flat start",
    ),
)
"""Paths that need not be spatially linear: name, target, options, claims, summary."""


def _general_paths(registry: Collector) -> None:
    """General interpolants, diffusive paths, and the process and law of the latter."""
    for name, target, options, claims, summary in GENERAL:
        registry.add(
            "path",
            name,
            f"genpath_interpolants.{target}",
            options=f"genpath_interpolants.options:{options}",
            needs=SPACE,
            summary=summary,
            claims=f"genpath_interpolants.claims.{claims}",
        )
    registry.add(
        "law",
        "point",
        "genpath_interpolants.point_mass:point",
        needs=("path",),
        summary="the point that the path starts from",
        claims="genpath_interpolants.claims.from_point:start",
    )
    registry.add(
        "dynamics",
        "diffusive",
        "genpath_interpolants.diffusive:Diffusive",
        summary="dX = u dt + √(2a) dW, the process of a diffusive path; also from one point",
        claims="genpath_interpolants.claims.diffusive:process",
    )
    registry.topic(
        "general",
        "genpath_interpolants.claims.general:general",
        summary="interpolants of any I: ends, densities, fields, assumptions",
    )
    registry.topic(
        "families",
        "genpath_interpolants.claims.families:families",
        summary="one-sided paths, mirrors, smoothing: what they are made of",
    )
    registry.topic(
        "gaussianised",
        "genpath_interpolants.claims.mirrors:gaussianised",
        summary="paths through a map that makes both ends normal",
    )


def _laws(registry: Collector) -> None:
    """Laws known exactly: data, oracles, and networks that stand in for trained ones."""
    registry.topic(
        "mixtures",
        "genpath_interpolants.claims:mixtures",
        summary="the exact marginals of an affine path between mixtures",
    )
    registry.topic(
        "oracles",
        "genpath_interpolants.claims.exact_laws:claims",
        summary="normal pairs, Schrödinger bridges, points, the sine flow, and what they measure",
    )
    registry.topic(
        "boxes",
        "genpath_interpolants.claims.boxes:claims",
        summary="data uniform on boxes: the exact marginals of an affine path",
    )
    for name, options, summary in (
        ("gaussian_mixture", "MixtureData", "a mixture of isotropic normal laws, with its law"),
        ("checkerboard", "Checkerboard", "the dark squares of a board, with their law"),
        ("two_points", "TwoPoints", "±(1, …, 1), equally likely, with its law"),
        ("five_modes", "FiveModes", "five far modes in 128 dimensions, with their law"),
        ("gaussian", "GaussianData", "one normal law with equal correlations"),
    ):
        registry.add(
            "data",
            name,
            f"genpath_interpolants.data:{name}",
            options=f"genpath_interpolants.options:{options}Options",
            summary=summary,
            claims=f"genpath_interpolants.claims.data:{name}",
        )
    exact = ("path", "prediction", "data", "codec", "base")
    for name, target, options, needs, summary in (
        ("gaussian_mixture", "gaussian_mixture", "Mixture", exact, "exact, for mixture data"),
        ("gaussian", "gaussian", "Gaussian", exact, "exact, for the normal twin of the data"),
        ("pair", "PairNetwork", "Pair", ("prediction",), "two networks for a joint prediction"),
        ("energy", "EnergyNetwork", "Energy", ("prediction",), "s = −∇E of a scalar network"),
    ):
        registry.add(
            "network",
            name,
            f"genpath_interpolants.networks:{target}",
            options=f"genpath_interpolants.options:{options}NetworkOptions",
            needs=needs,
            summary=summary,
            claims=f"genpath_interpolants.claims.networks:{name}",
        )


def _objectives(registry: Collector) -> None:
    """Losses and diagnostics."""
    registry.add(
        "objective",
        "quadratic",
        "genpath_interpolants.objectives:Quadratic",
        options="genpath_interpolants.options:Quadratic",
        summary="E[½|g|² − target·g], plain or antithetic; minimiser E[target | x_t]",
        claims="genpath_interpolants.claims.objectives:quadratic",
    )
    registry.add(
        "objective",
        "implicit_score",
        "genpath_interpolants.objectives:ImplicitScore",
        options="genpath_interpolants.options:ImplicitScore",
        summary="E[½|s|² + div s], from draws alone; minimiser ∇log p_t",
        claims="genpath_interpolants.claims.objectives:implicit_score",
    )
    registry.topic(
        "diagnostics",
        "genpath_interpolants.claims.diagnostics:diagnostics",
        summary="whether a field carries the laws of a path: residuals from draws and at points",
    )
    registry.topic(
        "geometry",
        "genpath_interpolants.claims.diagnostics:geometries",
        summary="what the laws leave free: gauge, rotation, energy, bend; copies and pairings",
    )


def _dynamics(registry: Collector) -> None:
    """Dynamics and samplers."""
    for name, options, summary in (
        ("sde", "DiffusiveSDE", "dX = (b + ε(t) s) dt + √(2ε(t)) dW, ε by shape or table"),
        ("matrix_sde", "MatrixSDE", "dX = (b + ½ A s) dt + A^{1/2} dW, A a constant matrix"),
    ):
        registry.add(
            "dynamics",
            name,
            f"genpath_interpolants.dynamics:{name}",
            options=f"genpath_interpolants.options:{options}",
            summary=summary,
            claims=f"genpath_interpolants.claims.dynamics:{name}",
        )
    for name, home, options, summary in (
        ("stochastic_heun", "samplers", "Warped", "flows and noise σ(t): weak order 2, two calls"),
        ("denoising", "samplers", "Warped", "x ← E[x_s | x_t]: the flow, order 1, one call"),
        ("final_denoising", "samplers", "FinalDenoising", "a solver to t_f < 1, then E[x1 | x_t]"),
        ("adaptive", "adaptive", "Adaptive", "flows by Dormand–Prince 5(4); needs [adaptive]"),
    ):
        registry.add(
            "sampler",
            name,
            f"genpath_interpolants.{home}:{name}",
            options=f"genpath_interpolants.options:{options}",
            summary=summary,
            claims=f"genpath_interpolants.claims.integrators:{name}",
        )
    registry.topic(
        "processes",
        "genpath_interpolants.claims.processes:processes",
        summary="runs from the data, ensembles from a point, what ε changes and what it does not",
    )
    registry.topic(
        "grids",
        "genpath_interpolants.claims.integrators:grids",
        summary="grids that are warped, clipped, or pass through the kinks of a schedule",
    )


def _likelihoods(registry: Collector) -> None:
    """Densities of learned processes, and what bounds them."""
    registry.add(
        "likelihood",
        "sde",
        "genpath_interpolants.likelihoods:sde",
        options="genpath_interpolants.options:SDELikelihood",
        summary="log p of the forward SDE, by paths of its auxiliary SDE",
        claims="genpath_interpolants.claims.sde_densities:sde",
    )
    registry.topic(
        "control",
        "genpath_interpolants.claims.kl:claims",
        summary="errors of fields and of laws: KL rates, bounds, the best ε, KL from draws",
    )
    registry.topic(
        "finite_volume",
        "genpath_interpolants.claims.finite_volume:claims",
        summary="the Fokker–Planck equation on an interval",
    )


def _couplings(registry: Collector) -> None:
    """Couplings, bridges and reflow."""
    for name, summary in (
        ("optimal_transport", "the batch paired by exact optimal transport; needs [ot] beyond R¹"),
        ("entropic", "x1 drawn from the entropic plan of the batch: the static Schrödinger bridge"),
    ):
        registry.add(
            "coupling",
            name,
            f"genpath_interpolants.couplings:{name}",
            options="genpath_interpolants.options:"
            + "".join(word.title() for word in name.split("_")),
            needs=("base", "data_law"),
            summary=summary,
            claims=f"genpath_interpolants.claims.transport:{name}",
        )
    registry.topic(
        "bridges",
        "genpath_interpolants.claims.bridges:bridges",
        summary="Schrödinger bridges: static, iterated, max-min, and their limit without noise",
    )
    registry.add(
        "stage",
        "reflow",
        "genpath_interpolants.reflow:Reflow",
        options="genpath_interpolants.options:Reflow",
        summary="train again on pairs (x0, X_1(x0)) of the model's own flow",
        claims="genpath_interpolants.claims.reflow:stage",
    )
    registry.topic(
        "reflow",
        "genpath_interpolants.claims.reflow:reflow",
        summary="the rectified path of a map: straight, with the same end",
    )
    registry.topic(
        "snapshots",
        "genpath_interpolants.claims.snapshots:snapshots",
        summary="one path through samples taken at several times",
    )


def _evaluations(registry: Collector) -> None:
    """What a run measures and shows."""
    for name, target, options, summary in (
        ("density_error", "evaluations:DensityError", "DensityError", "log ρ against log ρ̂, nats"),
        ("marginals", "evaluations:Marginals", "Marginals", "where in t a drift leaves its path"),
        ("eps_sweep", "sweeps:EpsSweep", "EpsSweep", "KL and energy distance of samples against ε"),
        ("scatter", "sweeps:Scatter", "Scatter", "samples beside data on the exact density"),
        ("ensembles", "ensembles:Ensembles", "Ensembles", "ends of one start against ε"),
        ("resampling", "ensembles:Resampling", "Resampling", "what a mirror makes of data"),
    ):
        registry.add(
            "evaluation",
            name,
            f"genpath_interpolants.{target}",
            options=f"genpath_interpolants.options:{options}Options",
            summary=summary,
            claims=f"genpath_interpolants.claims.evaluations:{name}",
        )
