r"""genpath: generative modelling by transport.

    endpoints (x0, x1) ~ coupling        x0: base law at t = 0        x1: data law at t = 1
            │
    ProbabilityPath    p_t(x | x0, x1)       draws x_t, and the generator that carries it
            │
    Objective          E D(target, prediction)
            │
    MarkovGenerator    L_t f = u·∇f + ½ a:∇²f + ∫ (f(y) − f(x)) Q_t(dy; x) [+ g f]
            │
    Sampler            integrates any generator on any space from t = 0 to t = 1

Importing ``genpath`` imports nothing else; a name is loaded when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genpath._version import __version__ as __version__
from genpath.lazy import attach

if TYPE_CHECKING:
    from .codecs import (
        Chain as Chain,
        Codec as Codec,
        Dequantise as Dequantise,
        Identity as Identity,
        Standardise as Standardise,
    )
    from .couplings import (
        Coupling as Coupling,
        Independent as Independent,
        Pairs as Pairs,
        Simulated as Simulated,
        Stored as Stored,
    )
    from .datasets import Dataset as Dataset
    from .errors import GenpathError as GenpathError
    from .generators import (
        MarkovGenerator as MarkovGenerator,
        coupled as coupled,
        flow as flow,
        product as product,
    )
    from .grids import TimeGrid as TimeGrid
    from .laws import (
        DensityLaw as DensityLaw,
        Empirical as Empirical,
        Gaussian as Gaussian,
        Law as Law,
        ProductLaw as ProductLaw,
    )
    from .likelihoods import (
        FlowMap as FlowMap,
        Likelihood as Likelihood,
        ODELikelihood as ODELikelihood,
        SolvedFlow as SolvedFlow,
    )
    from .models import (
        ODE as ODE,
        SDE as SDE,
        Dynamics as Dynamics,
        Jump as Jump,
        Model as Model,
        factorwise as factorwise,
    )
    from .objectives import Objective as Objective, Regression as Regression
    from .parts import Parts as Parts
    from .paths import (
        MarkovianPath as MarkovianPath,
        ProbabilityPath as ProbabilityPath,
        ProductPath as ProductPath,
    )
    from .predictions import Prediction as Prediction, Rule as Rule, convert as convert
    from .reversal import path_log_ratio as path_log_ratio, reverse as reverse
    from .samplers import (
        AdamsBashforth as AdamsBashforth,
        Carry as Carry,
        Euler as Euler,
        RungeKutta as RungeKutta,
        Sampler as Sampler,
        Solver as Solver,
        integrate as integrate,
    )
    from .schedules import (
        AffineSchedule as AffineSchedule,
        KeepSchedule as KeepSchedule,
        Scalar as Scalar,
        Schedule as Schedule,
    )
    from .spaces import (
        Euclidean as Euclidean,
        Product as Product,
        SmoothSpace as SmoothSpace,
        Space as Space,
    )
    from .tableaus import Tableau as Tableau

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "couplings": ("Coupling", "Independent", "Pairs", "Simulated", "Stored"),
        "codecs": ("Chain", "Codec", "Dequantise", "Identity", "Standardise"),
        "datasets": ("Dataset",),
        "errors": ("GenpathError",),
        "grids": ("TimeGrid",),
        "generators": ("MarkovGenerator", "coupled", "flow", "product"),
        "laws": ("DensityLaw", "Empirical", "Gaussian", "Law", "ProductLaw"),
        "likelihoods": ("FlowMap", "Likelihood", "ODELikelihood", "SolvedFlow"),
        "models": ("ODE", "SDE", "Dynamics", "Jump", "Model", "factorwise"),
        "objectives": ("Objective", "Regression"),
        "parts": ("Parts",),
        "paths": ("MarkovianPath", "ProbabilityPath", "ProductPath"),
        "predictions": ("Prediction", "Rule", "convert"),
        "reversal": ("path_log_ratio", "reverse"),
        "samplers": (
            "AdamsBashforth",
            "Carry",
            "Euler",
            "RungeKutta",
            "Sampler",
            "Solver",
            "integrate",
        ),
        "schedules": ("AffineSchedule", "KeepSchedule", "Scalar", "Schedule"),
        "tableaus": ("Tableau",),
        "spaces": ("Euclidean", "Product", "SmoothSpace", "Space"),
    },
)
