"""The density of a model's SDE by weighted paths of its own reverse SDE.

For dX = b_F dt + √(2ε) dW, b_F = b + ε s, from a base law p_0, Euler's method on t_0 < … < t_N has
the density, with h = t_{k+1} − t_k and any law q_k of the step back,

    p̂(x) = E [ p_0(X_0) Π_k N(X_{k+1}; X_k + h b_F(t_k, X_k), 2εh I)/q_k(X_k | X_{k+1}) ],   X_N = x

over paths drawn by q from x back to t_0. Here q is Euler's method for the reverse SDE of the model,
X_k ~ N(X_{k+1} − h b_B(t_{k+1}, X_{k+1}), 2εh I) with b_B = b − ε s. The mean is unbiased for the
density of the Euler chain, no divergence is taken, and as h → 0 the weights are constant where s
is the score of the model's own law.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genpath import Model
from genpath.laws import DensityLaw
from genpath.predictions import convert

__all__ = ["reverse_log_prob"]


@torch.no_grad()
def reverse_log_prob(
    model: Model,
    base: DensityLaw,
    x: Tensor,
    eps: float,
    times: Sequence[float],
    paths: int,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """log p̂ of each row, and the standard error of p̂ relative to it: ``(batch,)`` each.

    Args:
        model: whose prediction leads to velocity and score.
        base: p_0.
        x: points ``(batch, d)``.
        eps: ε > 0.
        times: increasing, from 0 to 1.
        paths: per point; the logarithm of their mean is low by half its squared error.
        rng: for the paths.
    """

    def drifts(t: float, y: Tensor) -> tuple[Tensor, Tensor]:
        """b_F and b_B, from one call of the network."""
        time = y.new_full((len(y),), t)
        given, rules = {model.predict: model.field(time, y)}, model.path.rules
        b, s = (convert(rules, given, want, time, y) for want in ("velocity", "score"))
        return b + eps * s, b - eps * s

    y, weight = x.repeat(paths, 1), x.new_zeros(len(x) * paths, dtype=torch.float64)
    back = drifts(times[-1], y)[1]
    for t, earlier in itertools.pairwise(reversed(times)):
        h = t - earlier
        noise = torch.randn(y.shape, generator=rng, dtype=y.dtype, device=y.device)
        below = y - h * back + math.sqrt(2 * eps * h) * noise
        ahead, back = drifts(earlier, below)
        gap = (y - below - h * ahead).double().square().sum(1) / (2 * eps * h)
        weight += 0.5 * (noise.double().square().sum(1) - gap)
        y = below
    terms = (weight + base.log_prob(y)).reshape(paths, len(x))
    value = torch.logsumexp(terms, 0) - math.log(paths)
    return value, (terms - value).exp().std(0) / math.sqrt(paths)
