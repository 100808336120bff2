"""Composition of trained experts for genpath: Feynman–Kac correctors, SMC and ACE.

    experts → composition → certificate (repair) → weighted particles → report

Importing this imports nothing else; a name is loaded when it is used.
"""

from typing import TYPE_CHECKING

from genpath.lazy import attach
from genpath_compose._version import __version__ as __version__

if TYPE_CHECKING:
    from genpath_compose.alignment import (
        Rescaled as Rescaled,
        align as align,
        aligned as aligned,
    )
    from genpath_compose.annealing import (
        Annealed as Annealed,
        ProductOfExperts as ProductOfExperts,
    )
    from genpath_compose.bumps import (
        Bump as Bump,
        Shape as Shape,
        bump as bump,
        quadratic as quadratic,
        ramp as ramp,
    )
    from genpath_compose.certificates import (
        Certificate as Certificate,
        certificate_figure as certificate_figure,
        certify as certify,
    )
    from genpath_compose.chains import (
        Chain as Chain,
        ChainComposition as ChainComposition,
    )
    from genpath_compose.compositions import (
        Composition as Composition,
        Term as Term,
        parse as parse,
    )
    from genpath_compose.correctors import (
        GeometricAverage as GeometricAverage,
        Guidance as Guidance,
        RewardTilt as RewardTilt,
        WeightedExperts as WeightedExperts,
    )
    from genpath_compose.dynamics import (
        Blend as Blend,
        Composed as Composed,
        Follow as Follow,
        Noising as Noising,
        Through as Through,
    )
    from genpath_compose.errors import (
        PathCollapseError as PathCollapseError,
        PathCollapseWarning as PathCollapseWarning,
        RepairError as RepairError,
    )
    from genpath_compose.experts import (
        DiffusionExpert as DiffusionExpert,
        ExactExpert as ExactExpert,
        Expert as Expert,
        FieldExpert as FieldExpert,
        Reward as Reward,
    )
    from genpath_compose.exponents import (
        Exponent as Exponent,
    )
    from genpath_compose.finite import (
        FiniteExpert as FiniteExpert,
        composed_on_finite as composed_on_finite,
    )
    from genpath_compose.fitting import (
        fit_bump as fit_bump,
    )
    from genpath_compose.foreign import (
        ForeignExpert as ForeignExpert,
        denoiser_expert as denoiser_expert,
        noise_predictor as noise_predictor,
    )
    from genpath_compose.jump_corrector import (
        JumpCorrector as JumpCorrector,
    )
    from genpath_compose.lifted import (
        Lifted as Lifted,
        Reparameterised as Reparameterised,
    )
    from genpath_compose.mixtures import (
        Mixture as Mixture,
        either as either,
    )
    from genpath_compose.model_experts import (
        ModelExpert as ModelExpert,
    )
    from genpath_compose.normals import (
        Normal as Normal,
    )
    from genpath_compose.particles import (
        Particles as Particles,
        log_normaliser_spread as log_normaliser_spread,
    )
    from genpath_compose.potentials import (
        corrected as corrected,
        feynman_kac as feynman_kac,
    )
    from genpath_compose.presets import (
        annealed as annealed,
        geometric as geometric,
        guided as guided,
        product as product,
        ratio as ratio,
        scaffold_decoration as scaffold_decoration,
        tilted as tilted,
    )
    from genpath_compose.repairs import (
        AdaptiveExponents as AdaptiveExponents,
        Repair as Repair,
        repair as repair,
    )
    from genpath_compose.resampling import (
        ess as ess,
        resample_indices as resample_indices,
    )
    from genpath_compose.sampling import (
        ComposedSample as ComposedSample,
        sample as sample,
    )
    from genpath_compose.smc import (
        Resample as Resample,
        TrapezoidEuler as TrapezoidEuler,
        run_particles as run_particles,
    )
    from genpath_compose.steering import (
        Immediate as Immediate,
        Lookahead as Lookahead,
        Steered as Steered,
        Twisted as Twisted,
    )
    from genpath_compose.superposition import (
        Agree as Agree,
        Share as Share,
        Superposed as Superposed,
        both_of as both_of,
    )
    from genpath_compose.supports import (
        Boxes as Boxes,
    )
    from genpath_compose.tails import (
        Tail as Tail,
        affine_tail as affine_tail,
        flat_tail as flat_tail,
        mixture_tail as mixture_tail,
    )
    from genpath_compose.twisting import (
        twisted as twisted,
    )

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "alignment": ("Rescaled", "align", "aligned"),
        "annealing": ("Annealed", "ProductOfExperts"),
        "bumps": ("Bump", "Shape", "bump", "quadratic", "ramp"),
        "certificates": ("Certificate", "certificate_figure", "certify"),
        "chains": ("Chain", "ChainComposition"),
        "compositions": ("Composition", "Term", "parse"),
        "correctors": ("GeometricAverage", "Guidance", "RewardTilt", "WeightedExperts"),
        "dynamics": ("Blend", "Composed", "Follow", "Noising", "Through"),
        "errors": ("PathCollapseError", "PathCollapseWarning", "RepairError"),
        "experts": ("DiffusionExpert", "ExactExpert", "Expert", "FieldExpert", "Reward"),
        "exponents": ("Exponent",),
        "finite": ("FiniteExpert", "composed_on_finite"),
        "fitting": ("fit_bump",),
        "foreign": ("ForeignExpert", "denoiser_expert", "noise_predictor"),
        "jump_corrector": ("JumpCorrector",),
        "lifted": ("Lifted", "Reparameterised"),
        "mixtures": ("Mixture", "either"),
        "model_experts": ("ModelExpert",),
        "normals": ("Normal",),
        "particles": ("Particles", "log_normaliser_spread"),
        "potentials": ("corrected", "feynman_kac"),
        "presets": (
            "annealed",
            "geometric",
            "guided",
            "product",
            "ratio",
            "scaffold_decoration",
            "tilted",
        ),
        "repairs": ("AdaptiveExponents", "Repair", "repair"),
        "resampling": ("ess", "resample_indices"),
        "sampling": ("ComposedSample", "sample"),
        "smc": ("Resample", "TrapezoidEuler", "run_particles"),
        "steering": ("Immediate", "Lookahead", "Steered", "Twisted"),
        "superposition": ("Agree", "Share", "Superposed", "both_of"),
        "supports": ("Boxes",),
        "tails": ("Tail", "affine_tail", "flat_tail", "mixture_tail"),
        "twisting": ("twisted",),
    },
)
