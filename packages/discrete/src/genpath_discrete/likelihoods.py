r"""Likelihoods: the masked bound on log p, per example, by Monte Carlo.

    log p(x1) ≥ −(1/K) Σ_k w(t_k) Σ_{i masked} −log p_θ(x1^i | x_{t_k}),    t_k ∈ [(k−1)/K, k/K)

K draws per example, one in each of K equal cells of time (or of the number of masks), so the mean
is that of independent draws and the variance is less. The standard error is the one of independent
draws, std/√K: with stratified times it is an upper estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.likelihoods import LogLikelihood
from genpath.models import Model
from genpath.states import chunks

from .objectives import ESTIMATORS, estimator_of, masked_path

__all__ = ["ELBO"]


@dataclass(frozen=True)
class ELBO:
    """A lower bound on log p by the masked bound: the component ``likelihood.discrete.elbo``.

    Letters ``(batch, *sites)`` give values ``(batch,)``, in nats.

    Args:
        draws: K ≥ 2, network calls per example.
        estimator: "count" (smaller variance; the network ignores time) or "time".
        chunk: rows scored together.

    Raises:
        DomainError: fewer than two draws, or an unknown estimator.
        CapabilityError: at a call, a model whose path is not masked.

    Example:
        >>> from genpath.models import Model
        >>> from genpath_discrete import Categorical, MaskedPath
        >>> path = MaskedPath(Categorical(3, (4,)))  # and a network that knows nothing
        >>> model = Model(lambda t, x: torch.zeros(*x.shape, 3), path, path.base(), "logits")
        >>> x1, rng = torch.zeros(2, 4, dtype=torch.long), torch.Generator().manual_seed(0)
        >>> ELBO(draws=2)(model, x1, rng).value  # −4 log 3
        tensor([-4.3944, -4.3944])
    """

    draws: int = 16
    estimator: str = "count"
    chunk: int = 256

    def __post_init__(self) -> None:
        estimator_of(self.estimator, "likelihood.discrete.elbo")
        if self.draws < 2:
            raise DomainError(
                "likelihood.discrete.elbo",
                "a standard error needs two draws.",
                got=f"draws {self.draws}",
            )

    @torch.no_grad()
    def __call__(self, model: Model, data: Any, rng: torch.Generator) -> LogLikelihood:
        """The bound in nats per example, with its standard error."""
        path = masked_path(model, "likelihood.discrete.elbo")
        bound, values = ESTIMATORS[self.estimator], []
        for piece in chunks(data, self.chunk):
            x1, log_det = model.codec.encode(piece, rng)
            values.append(
                torch.stack([bound(model, path, x1, t, rng) for t in self._times(x1, rng)])
            )
            values[-1] = log_det.to(values[-1]) - values[-1]
        stacked = torch.cat(values, 1)
        error = stacked.std(0) / math.sqrt(self.draws)
        return LogLikelihood(stacked.mean(0), error, "lower bound")

    def _times(self, x1: Tensor, rng: torch.Generator) -> Tensor:
        """One time per draw and example, stratified over the draws: ``(draws, batch)``."""
        shape = (self.draws, x1.shape[0])
        cells = torch.arange(self.draws, device=x1.device).unsqueeze(1)
        u = torch.rand(shape, generator=rng, device=x1.device)
        return ((cells + u) / self.draws).clamp(1e-6, 1 - 1e-6)


def elbo(draws: int, estimator: str, chunk: int) -> ELBO:
    """The component ``likelihood.discrete.elbo``."""
    return ELBO(draws, estimator, chunk)
