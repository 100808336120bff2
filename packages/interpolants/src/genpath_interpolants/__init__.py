"""Stochastic interpolants for genpath.

Importing this imports nothing else; a name is loaded when it is used.
"""

from typing import TYPE_CHECKING

from genpath.lazy import attach
from genpath_interpolants._version import __version__ as __version__

if TYPE_CHECKING:
    from genpath_interpolants.adaptive import Adaptive as Adaptive
    from genpath_interpolants.assumptions import (
        Assumptions as Assumptions,
        check_assumptions as check_assumptions,
    )
    from genpath_interpolants.boxes import BoxMarginal as BoxMarginal, BoxMixture as BoxMixture
    from genpath_interpolants.bridges import (
        DriftFit as DriftFit,
        EndsNetwork as EndsNetwork,
        FittedBridge as FittedBridge,
        GaussianBridges as GaussianBridges,
        MaxMin as MaxMin,
        SBResidual as SBResidual,
        SchroedingerProblem as SchroedingerProblem,
        StaticBridge as StaticBridge,
        bridge_matching as bridge_matching,
        hopf_cole as hopf_cole,
        is_reachable as is_reachable,
        iterative_markovian_fitting as iterative_markovian_fitting,
    )
    from genpath_interpolants.couplings import (
        Entropic as Entropic,
        EntropicPlan as EntropicPlan,
        OptimalTransport as OptimalTransport,
        optimal_permutation as optimal_permutation,
        sinkhorn as sinkhorn,
    )
    from genpath_interpolants.diffusive import (
        Diffusive as Diffusive,
        DiffusivePath as DiffusivePath,
        brownian_bridge as brownian_bridge,
    )
    from genpath_interpolants.dynamics import (
        BackwardSDE as BackwardSDE,
        DiffusiveSDE as DiffusiveSDE,
        MatrixSDE as MatrixSDE,
        Tabulated as Tabulated,
        Vanishing as Vanishing,
    )
    from genpath_interpolants.families import (
        general_mirror as general_mirror,
        glued_mirror as glued_mirror,
        one_sided as one_sided,
        smooth as smooth,
    )
    from genpath_interpolants.gaussianised import GaussianisedPath as GaussianisedPath
    from genpath_interpolants.general import InterpolantPath as InterpolantPath
    from genpath_interpolants.latents import (
        GaussianLatent as GaussianLatent,
        Latent as Latent,
        LatentLaw as LatentLaw,
        LogisticLatent as LogisticLatent,
        StudentLatent as StudentLatent,
    )
    from genpath_interpolants.mixtures import (
        GaussianMixture as GaussianMixture,
        MixtureMarginal as MixtureMarginal,
    )
    from genpath_interpolants.paths import LinearPath as LinearPath
    from genpath_interpolants.point_mass import (
        FromStarts as FromStarts,
        PointMass as PointMass,
        PointMassPath as PointMassPath,
    )
    from genpath_interpolants.presets import (
        elliptical as elliptical,
        encoding_decoding as encoding_decoding,
        linear as linear,
        mirror as mirror,
        ornstein_uhlenbeck as ornstein_uhlenbeck,
        rescaled_trigonometric as rescaled_trigonometric,
        squared_trigonometric as squared_trigonometric,
        trigonometric as trigonometric,
        variance_preserving as variance_preserving,
    )
    from genpath_interpolants.reflow import (
        AffineRectification as AffineRectification,
        Reflow as Reflow,
        rectified_pairs as rectified_pairs,
    )
    from genpath_interpolants.samplers import (
        Denoising as Denoising,
        FinalDenoising as FinalDenoising,
        StochasticHeun as StochasticHeun,
    )
    from genpath_interpolants.snapshots import (
        MultiTimePath as MultiTimePath,
        SnapshotCoupling as SnapshotCoupling,
        Snapshots as Snapshots,
        push as push,
        snapshot_coupling as snapshot_coupling,
    )

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "assumptions": ("Assumptions", "check_assumptions"),
        "boxes": ("BoxMarginal", "BoxMixture"),
        "diffusive": ("Diffusive", "DiffusivePath", "brownian_bridge"),
        "families": ("general_mirror", "glued_mirror", "one_sided", "smooth"),
        "gaussianised": ("GaussianisedPath",),
        "general": ("InterpolantPath",),
        "latents": ("GaussianLatent", "Latent", "LatentLaw", "LogisticLatent", "StudentLatent"),
        "point_mass": ("FromStarts", "PointMass", "PointMassPath"),
        "adaptive": ("Adaptive",),
        "dynamics": (
            "BackwardSDE",
            "DiffusiveSDE",
            "MatrixSDE",
            "Tabulated",
            "Vanishing",
        ),
        "mixtures": ("GaussianMixture", "MixtureMarginal"),
        "paths": ("LinearPath",),
        "presets": (
            "elliptical",
            "encoding_decoding",
            "linear",
            "mirror",
            "ornstein_uhlenbeck",
            "rescaled_trigonometric",
            "squared_trigonometric",
            "trigonometric",
            "variance_preserving",
        ),
        "bridges": (
            "DriftFit",
            "FittedBridge",
            "GaussianBridges",
            "MaxMin",
            "EndsNetwork",
            "SBResidual",
            "SchroedingerProblem",
            "StaticBridge",
            "bridge_matching",
            "hopf_cole",
            "is_reachable",
            "iterative_markovian_fitting",
        ),
        "couplings": (
            "Entropic",
            "EntropicPlan",
            "OptimalTransport",
            "optimal_permutation",
            "sinkhorn",
        ),
        "reflow": ("AffineRectification", "Reflow", "rectified_pairs"),
        "snapshots": (
            "MultiTimePath",
            "SnapshotCoupling",
            "Snapshots",
            "push",
            "snapshot_coupling",
        ),
        "samplers": ("Denoising", "FinalDenoising", "StochasticHeun"),
    },
)
