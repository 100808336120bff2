r"""Particles: what a weighted run gives, and how far it can be trusted.

    E_p φ ≈ Σ_k W_k φ(x_k)      log Ẑ with E Ẑ = Z     ESS after each step     lineages to the start

Weights say how even the last block is; lineages say how many rows of the start are left, which is
what bounds the accuracy of a run that was resampled often. See `smc` for the mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.states import gather

from .resampling import ess, log_mean, normalise, resample_indices

__all__ = ["Diversity", "Particles", "Spread", "log_normaliser_spread"]


@dataclass(frozen=True)
class Diversity:
    """How many particles of the start have descendants, and how evenly.

    Args:
        distinct: how many rows of the start have a descendant.
        effective: 1/Σ s², s the shares of final weight by row of the start: between 1 and distinct.
        largest: the largest share.
    """

    distinct: int
    effective: float
    largest: float


@dataclass(frozen=True)
class Particles:
    """Weighted particles at the end of a run, with the history of their weights.

    Args:
        state: the rows.
        log_weight: ``(n,)``, since the last resampling.
        log_normaliser: log Ẑ, a float64 scalar, the last block included: of Z_T/Z_0 where the rows
            of the start have equal weights, of Z_T where they had log-weights log p̃_0/q.
        ess: the effective sample size after each step, before resampling ``(steps,)``.
        times: the times after each step.
        resampled: those after which the particles were resampled.
        ancestors: the row of the start from which each row descends ``(n,)``.

    Example:
        >>> log_weight = torch.tensor([0.0, 0.0, -torch.inf])
        >>> particles = Particles(torch.tensor([1.0, 3.0, 9.0]), log_weight)
        >>> particles.expectation(lambda x: x), particles.effective
        ((tensor(2., dtype=torch.float64), tensor(0.7071, dtype=torch.float64)), 2.0)
    """

    state: Any
    log_weight: Tensor
    log_normaliser: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    ess: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    times: tuple[float, ...] = ()
    resampled: tuple[float, ...] = ()
    ancestors: Tensor | None = None

    def weights(self) -> Tensor:
        """Self-normalised weights ``(n,)``, float64."""
        return normalise(self.log_weight.double()).exp()

    def expectation(self, phi: Callable[[Any], Tensor]) -> tuple[Tensor, Tensor]:
        """Σ W φ, and the standard error √Σ W² (φ − Σ W φ)² (Owen 2013, 9.2), each ``(*k,)``.

        The error is that of self-normalised *independent* draws: dependence that resampling made is
        not in it, so it is too small after several resamplings. Compare several runs then.

        Args:
            phi: state → ``(n, *k)``.
        """
        values = phi(self.state).double()
        weights = self.weights()
        shares = weights.reshape(-1, *([1] * (values.dim() - 1)))
        value = (shares * values).sum(0)
        return value, (shares**2 * (values - value) ** 2).sum(0).sqrt()

    @property
    def effective(self) -> float:
        """The effective sample size of the final weights."""
        return float(ess(self.log_weight))

    def lineages(self) -> int:
        """How many rows of the start have descendants."""
        return self.diversity().distinct

    def diversity(self) -> Diversity:
        """How many rows of the start have descendants, and how evenly the weight is spread."""
        rows = len(self.log_weight)
        origin = torch.arange(rows) if self.ancestors is None else self.ancestors
        found, group = torch.unique(origin, return_inverse=True)
        weights = self.weights()
        shares = torch.zeros_like(weights[: len(found)]).index_add_(0, group, weights)
        return Diversity(len(found), float(1 / shares.square().sum()), float(shares.max()))

    def draw(self, count: int, rng: torch.Generator, scheme: str = "systematic") -> Any:
        """``count`` rows of equal weight, in the order of their ancestors.

        Args:
            count: how many.
            rng: on the particles' device.
            scheme: a name in `resampling.SCHEMES`.
        """
        index = resample_indices(self.log_weight, rng, scheme, count=count)
        return gather(self.state, index)


@dataclass(frozen=True)
class Spread:
    """log Ẑ over independent runs.

    Args:
        log_normaliser: log of the mean of Ẑ, the unbiased average.
        error: its standard error, by the delta method.
        deviation: the standard deviation of log Ẑ of one run.
    """

    log_normaliser: float
    error: float
    deviation: float


def log_normaliser_spread(runs: Sequence[Particles]) -> Spread:
    """log Ẑ averaged over independent runs (islands), with its errors.

    Args:
        runs: two or more, of one generator and grid.

    Raises:
        DomainError: fewer than two runs.

    Example:
        >>> one, factors = torch.zeros(1), torch.tensor([1.0, 3.0])
        >>> spread = log_normaliser_spread([Particles(one, one, z.log()) for z in factors])
        >>> round(spread.log_normaliser, 3), round(spread.error, 3)
        (0.693, 0.5)
    """
    if len(runs) < 2:
        got = str(len(runs))
        raise DomainError("log_normaliser_spread", "a spread needs two runs or more.", got=got)
    logs = torch.stack([run.log_normaliser.double() for run in runs])
    total = float(log_mean(logs))
    error = float((logs - total).exp().std()) / math.sqrt(len(runs))
    return Spread(total, error, float(logs.std()))
