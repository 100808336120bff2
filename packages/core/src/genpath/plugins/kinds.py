"""The kinds of component that a plugin can add: one word each, and what it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["KINDS"]

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "space": "where states live: membership, tangent vectors, a step, a distance",
        "law": "a distribution to draw from: base laws, exact targets",
        "schedule": "the scalar functions of time of a path, with their rates",
        "path": "the law of x_t given the endpoints, and the generator that carries it",
        "coupling": "the joint law of the endpoints (x0, x1)",
        "data": "a data set, or a law that plays one",
        "codec": "the map between states and data, with its log-density term",
        "network": "the function that is learned",
        "objective": "one loss per example, with its stated minimiser",
        "dynamics": "which generator with the path's marginals is simulated: ode, sde, jumps",
        "sampler": "the integrator of a generator from t = 0 to t = 1",
        "expert": "a law path with a velocity and a score, to be composed with others",
        "likelihood": "the log-density of a model at data, with its error",
        "guidance": "the change of a prediction that steers it towards a condition",
        "transform": "what happens to the particles between two steps",
        "evaluation": "a number, table or figure that judges samples or a model",
        "stage": "one step of a run: train, sample, evaluate, report",
    }
)
