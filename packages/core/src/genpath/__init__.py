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

from importlib import import_module
from typing import TYPE_CHECKING, Any

from genpath._version import __version__

_HOMES = {
    "couplings": ("Coupling", "Independent", "Pairs", "Simulated", "Stored"),
    "codecs": ("Chain", "Codec", "Dequantise", "Identity", "Standardise"),
    "datasets": ("Dataset",),
    "errors": ("GenpathError",),
    "generators": ("MarkovGenerator", "coupled", "flow", "product"),
    "laws": ("DensityLaw", "Empirical", "Gaussian", "Law", "ProductLaw"),
    "likelihoods": ("FlowMap", "Likelihood", "ODELikelihood", "SolvedFlow"),
    "models": ("ODE", "SDE", "Dynamics", "Jump", "Model"),
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
        "Tableau",
        "TimeGrid",
        "integrate",
    ),
    "schedules": ("AffineSchedule", "KeepSchedule", "Scalar", "Schedule"),
    "spaces": ("Euclidean", "Product", "SmoothSpace", "Space"),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_WHERE)]

if TYPE_CHECKING:
    from .codecs import (
        Chain as Chain,
    )
    from .codecs import (
        Codec as Codec,
    )
    from .codecs import (
        Dequantise as Dequantise,
    )
    from .codecs import (
        Identity as Identity,
    )
    from .codecs import (
        Standardise as Standardise,
    )
    from .couplings import (
        Coupling as Coupling,
    )
    from .couplings import (
        Independent as Independent,
    )
    from .couplings import (
        Pairs as Pairs,
    )
    from .couplings import (
        Simulated as Simulated,
    )
    from .couplings import (
        Stored as Stored,
    )
    from .datasets import Dataset as Dataset
    from .errors import GenpathError as GenpathError
    from .generators import (
        MarkovGenerator as MarkovGenerator,
    )
    from .generators import (
        coupled as coupled,
    )
    from .generators import (
        flow as flow,
    )
    from .generators import (
        product as product,
    )
    from .laws import (
        DensityLaw as DensityLaw,
    )
    from .laws import (
        Empirical as Empirical,
    )
    from .laws import (
        Gaussian as Gaussian,
    )
    from .laws import (
        Law as Law,
    )
    from .laws import (
        ProductLaw as ProductLaw,
    )
    from .likelihoods import (
        FlowMap as FlowMap,
    )
    from .likelihoods import (
        Likelihood as Likelihood,
    )
    from .likelihoods import (
        ODELikelihood as ODELikelihood,
    )
    from .likelihoods import (
        SolvedFlow as SolvedFlow,
    )
    from .models import ODE as ODE
    from .models import SDE as SDE
    from .models import Dynamics as Dynamics
    from .models import Jump as Jump
    from .models import Model as Model
    from .objectives import Objective as Objective
    from .objectives import Regression as Regression
    from .parts import Parts as Parts
    from .paths import (
        MarkovianPath as MarkovianPath,
    )
    from .paths import (
        ProbabilityPath as ProbabilityPath,
    )
    from .paths import (
        ProductPath as ProductPath,
    )
    from .predictions import Prediction as Prediction
    from .predictions import Rule as Rule
    from .predictions import convert as convert
    from .reversal import path_log_ratio as path_log_ratio
    from .reversal import reverse as reverse
    from .samplers import (
        AdamsBashforth as AdamsBashforth,
    )
    from .samplers import (
        Carry as Carry,
    )
    from .samplers import (
        Euler as Euler,
    )
    from .samplers import (
        RungeKutta as RungeKutta,
    )
    from .samplers import (
        Sampler as Sampler,
    )
    from .samplers import (
        Solver as Solver,
    )
    from .samplers import (
        Tableau as Tableau,
    )
    from .samplers import (
        TimeGrid as TimeGrid,
    )
    from .samplers import (
        integrate as integrate,
    )
    from .schedules import (
        AffineSchedule as AffineSchedule,
    )
    from .schedules import (
        KeepSchedule as KeepSchedule,
    )
    from .schedules import (
        Scalar as Scalar,
    )
    from .schedules import (
        Schedule as Schedule,
    )
    from .spaces import (
        Euclidean as Euclidean,
    )
    from .spaces import (
        Product as Product,
    )
    from .spaces import (
        SmoothSpace as SmoothSpace,
    )
    from .spaces import (
        Space as Space,
    )


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(f"genpath.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'genpath' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
