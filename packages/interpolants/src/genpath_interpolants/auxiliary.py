r"""The auxiliary SDE of a density formula: a process and its drift, the exponent along its paths.

    forward:   dZ = −f(1−τ, Z) dτ + √(2ε(1−τ)) dW,   dlog w = −(div f + r)(1−τ, Z) dτ
    backward:  dY =  f(t, Y) dt  + √(2ε(t)) dW,      dlog w = (div f − r)(t, Y) dt

A model's forward SDE has the drift b_F = b + ε s, its backward SDE b_B = b − ε s. A density of
either is a mean of path weights of the SDE above with the *same* drift, run from the point in
question (`genpath_interpolants.likelihoods`).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from genpath.divergences import exact_divergence, hutchinson_divergence
from genpath.generators import MarkovGenerator
from genpath.models import Model
from genpath.noises import FactorNoise, ScalarNoise
from genpath.parts import Parts
from genpath.predictions import converted
from genpath.spaces import Euclidean, Product
from genpath.states import Field

from .dynamics import Eps, drifts, eps_at

__all__ = ["auxiliary", "backward_drift", "forward_drift", "no_noise"]

POINT, PROBE, WEIGHT = "x", "probe", "log_weight"
Direction = Literal["forward", "backward"]


def forward_drift(model: Model, eps: Eps) -> Field:
    """b_F = b + ε s of a model, from one evaluation of its network.

    Args:
        model: one whose prediction leads to velocity and score (to the velocity alone for ε = 0).
        eps: ε, a number or a function of time.

    Raises:
        CapabilityError: the prediction does not lead there.

    Example:
        >>> from genpath import Gaussian
        >>> from genpath_interpolants.presets import linear
        >>> path = linear(Euclidean(1), base="gaussian")
        >>> model = Model(lambda t, x: 0 * x, path, Gaussian((1,)))  # s = −x/(1 − t) for b = 0
        >>> forward_drift(model, 0.5)(torch.zeros(1), torch.ones(1, 1))
        tensor([[-0.5000]])
    """
    return _drift(model, eps, 0)


def backward_drift(model: Model, eps: Eps) -> Field:
    """b_B = b − ε s of a model, from one evaluation of its network; see `forward_drift`."""
    return _drift(model, eps, 1)


def _drift(model: Model, eps: Eps, side: int) -> Field:
    source = model.field if model.guide is None else model.guide(model.field)
    if no_noise(eps):
        return converted(model.path.rules, model.predict, source, "velocity")
    return drifts(model.path, model.predict, source, eps)[side]


def no_noise(eps: Eps) -> bool:
    """Whether ε is the number 0; a function of time never is.

    Example:
        >>> no_noise(0.0), no_noise(0.1)
        (True, False)
    """
    return not callable(eps) and eps == 0


def auxiliary(
    space: Euclidean,
    drift: Field,
    eps: Eps,
    *,
    direction: Direction = "forward",
    divergence: Literal["exact", "hutchinson", "none"] = "exact",
    killing: Field | None = None,
) -> MarkovGenerator:
    r"""The SDE of the module's first lines, with its exponent as one more coordinate.

    f is the drift of the process whose density is wanted: b_F of the forward SDE, b_B of the
    backward one. These are not the SDEs that sample (those have the other drift each), and the
    first runs in τ = 1 − t. States are {x, log_weight, probe}; the probe, a fact of its row, is
    there for "hutchinson". A sampler of order two for (x, log w) errs by O(h²) in E[w f(x)].

    Args:
        space: R^d.
        drift: f, ``(t, x) -> (batch, *event)``.
        eps: ε ≥ 0.
        direction: which process's density.
        divergence: "exact", "hutchinson", or "none" to leave div f out of log w.
        killing: r(t, x), ``(batch,)``; negative values let mass grow.

    Example:
        >>> gen = auxiliary(Euclidean(1), lambda t, x: 3 * x, 0.5)
        >>> gen(0.0, {"x": torch.ones(1, 1), "log_weight": torch.zeros(1)}).velocity
        {'x': tensor([[-3.]]), 'log_weight': tensor([-3.])}
    """
    back = direction == "forward"
    sign, still = -1.0 if back else 1.0, no_noise(eps)

    def evaluate(clock: Tensor, state: Any) -> Parts:
        t, x = 1 - clock if back else clock, state[POINT]
        if divergence == "exact":
            value, trace = exact_divergence(space, drift, t, x)
        elif divergence == "hutchinson":
            value, trace = hutchinson_divergence(space, drift, t, x, state[PROBE])
        else:
            value, trace = drift(t, x), torch.zeros_like(t)
        rate = sign * trace if killing is None else sign * trace - killing(t, x)
        velocity = {POINT: sign * value, WEIGHT: rate}
        if still:
            return Parts(velocity)
        return Parts(velocity, FactorNoise({POINT: ScalarNoise(torch.sqrt(2 * eps_at(eps, t)))}))

    has = frozenset({"velocity"} if still else {"velocity", "diffusion"})
    return MarkovGenerator(Product({POINT: space, WEIGHT: Euclidean()}), evaluate, has)
