r"""Cross-entropies of data under learned laws, and how uneven the paths of a density are.

    H(p ‖ p̂) = −E_p log p̂

Where log p̂ is the logarithm of a mean over K paths, −E log is above this by ½ Var/K to first order
in the relative variance of a path's weight; the mean of −log of single paths is a bound, and loses
what Jensen's inequality loses (`genpath_interpolants.likelihoods`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.errors import ShapeError
from genpath.generators import MarkovGenerator
from genpath.laws import DensityLaw
from genpath.likelihoods import LogLikelihood
from genpath.models import Model

from .distances import Estimate
from .likelihoods import density

__all__ = ["PathDiagnostics", "cross_entropy", "cross_entropy_ode", "path_diagnostics"]


def cross_entropy(scores: LogLikelihood, inner: int = 1) -> Estimate:
    """−E log p̂ from the scores of rows, with what an inner mean adds to it.

    Where a score is the logarithm of a mean over ``inner`` paths ("unbiased for p"), −log is biased
    up, by ½ of its squared standard error to first order: that is reported, not subtracted.

    Args:
        scores: of rows of the law whose cross-entropy is wanted.
        inner: paths per row.

    Raises:
        DomainError: no rows.

    Example:
        >>> scores = LogLikelihood(torch.tensor([-1.0, -3.0]), torch.ones(2), "unbiased for p")
        >>> found = cross_entropy(scores, inner=16)
        >>> found.value, found.bias
        (2.0, 0.5)
    """
    bias = 0.0
    if scores.kind == "unbiased for p" and len(scores.value):
        bias = 0.5 * float(scores.standard_error.double().square().mean())
    return Estimate.of(-scores.value, "cross_entropy", inner=inner, bias=bias)


def cross_entropy_ode(
    gen: MarkovGenerator | Model,
    x: Tensor,
    law: DensityLaw,
    rng: torch.Generator,
    *,
    from_: Literal["base", "data"] = "base",
    **options: Any,
) -> Estimate:
    """H(p_1 ‖ p̂_1) of data, or H(p_0 ‖ p̂_0) of base draws, under the flow's two models.

    Args:
        gen: a flow or a model.
        x: draws of p_1 for ``from_="base"``, of p_0 for ``"data"``: ``(batch, *event)``.
        law: at the other end.
        rng: for the probes.
        from_: the end whose law is given.
        **options: of `density`.

    Example:
        >>> from genpath import Euclidean, Gaussian, flow
        >>> gen, law = flow(Euclidean(1), lambda t, x: x), Gaussian((1,))
        >>> found = cross_entropy_ode(gen, torch.tensor([[1.0], [-1.0]]), law, torch.Generator())
        >>> round(found.value, 4)  # 1 + ½ log 2π + ½ e^{−2}
        1.9866
    """
    scores = density(gen, x, 1.0 if from_ == "base" else 0.0, law, rng, from_=from_, **options)
    return cross_entropy(scores)


@dataclass(frozen=True)
class PathDiagnostics:
    """How uneven the paths of a density estimate are.

    Args:
        variance: of A − log R over the paths ``(batch,)``: 0 exactly where Jensen loses nothing.
        gap: what Jensen's inequality loses ``(batch,)``, estimated from the same paths.
        ess: effective number of paths ``(batch,)``, (Σw)²/Σw².
    """

    variance: Tensor
    gap: Tensor
    ess: Tensor


def path_diagnostics(terms: Tensor) -> PathDiagnostics:
    """The diagnostics of path terms log R − A ``(batch, paths)``, two paths or more.

    −log E e^{−A}R = E[A − log R] holds where A − log R is constant over the paths, not A + log R.

    Raises:
        ShapeError: fewer than two paths.

    Example:
        >>> path_diagnostics(torch.tensor([[1.0, 1.0], [0.0, 2.0]])).gap
        tensor([0.0000, 0.4338])
    """
    if terms.dim() != 2 or terms.shape[1] < 2:
        raise ShapeError(
            "path_diagnostics", "terms are (batch, paths), paths ≥ 2.", got=f"{tuple(terms.shape)}"
        )
    total = torch.logsumexp(terms, 1)
    gap = total - math.log(terms.shape[1]) - terms.mean(1)
    ess = torch.exp(2 * total - torch.logsumexp(2 * terms, 1))
    return PathDiagnostics(terms.var(1), gap, ess)
