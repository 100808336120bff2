r"""Mixtures of normal laws: data whose interpolant is known exactly.

With x0 ~ N(0, I) and x1 ~ Σ_k w_k N(m_k, diag s_k²) independent, the linear path has

    p_t = Σ_k w_k N(μ_k, v_k)     μ_k = t m_k     v_k = t² s_k² + (1−t)² + γ²

Given the component k, (ẋ_t, x0, x1, z, x_t) are jointly normal, so that every conditional
expectation is linear in x: E[y | x, k] = E[y | k] + Cov(y, x)/v_k (x − μ_k), with

    Cov(ẋ, x) = ½ v̇_k     Cov(x0, x) = 1 − t     Cov(x1, x) = t s_k²     Cov(z, x) = γ

and the component's posterior weights mix them. This is the independent answer that learned and
converted fields are compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError
from genpath.jumps import pick
from genpath.states import Field, per_row, row_times

from .paths import LinearPath

__all__ = ["GaussianMixture", "MixtureMarginal"]


@dataclass(frozen=True)
class GaussianMixture:
    """Σ_k w_k N(m_k, diag s_k²) on R^d.

    Args:
        weights: ``(k,)``, positive, with sum 1.
        means: ``(k, *event)``.
        stds: positive, ``(k, *event)`` or ``(k,)`` for the same in every coordinate.

    Raises:
        ShapeError: the three do not have one row per component.
        DomainError: weights or stds are not positive, or the weights do not sum to 1.

    Example:
        >>> pair = GaussianMixture(torch.ones(2) / 2, torch.tensor([[-1.0], [1.0]]), torch.ones(2))
        >>> pair.sample(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 1])
    """

    weights: Tensor
    means: Tensor
    stds: Tensor

    def __post_init__(self) -> None:
        count, rows = self.weights.shape[:1], (self.means.shape[:1], self.stds.shape[:1])
        whole = self.stds.shape in (self.means.shape, self.weights.shape)
        if self.weights.dim() != 1 or any(row != count for row in rows) or not whole:
            raise ShapeError(
                "GaussianMixture",
                "there is one weight, mean and std per component.",
                got=f"weights {tuple(self.weights.shape)}, means {tuple(self.means.shape)}, "
                f"stds {tuple(self.stds.shape)}",
            )
        if not bool((self.weights > 0).all() and (self.stds > 0).all()):
            raise DomainError("GaussianMixture", "weights and stds are positive.")
        if not math.isclose(float(self.weights.sum()), 1.0, abs_tol=1e-5):
            raise DomainError(
                "GaussianMixture", "weights sum to 1.", got=f"{float(self.weights.sum()):g}"
            )
        object.__setattr__(self, "stds", per_row(self.stds, self.means).expand_as(self.means))  # type: ignore[union-attr]

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` rows ``(count, *event)``."""
        index = pick(self.weights.expand(count, -1), rng)
        shape = (count, *self.means.shape[1:])
        z = torch.randn(shape, generator=rng, device=self.means.device, dtype=self.means.dtype)
        return self.means[index] + self.stds[index] * z

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of each row: ``(batch,)``."""
        rows = x.shape[0]
        means = self.means.expand(rows, *self.means.shape)
        return torch.logsumexp(_log_terms(self.weights, means, self.stds**2, x), 1)


@dataclass(frozen=True)
class MixtureMarginal:
    """The exact marginal of a `LinearPath` from N(0, I) to a mixture.

    All fields take times ``(batch,)`` (or a scalar) and states ``(batch, *event)``, in the
    mixture's dtype. They hold at every t in [0, 1], ends included.

    Args:
        path: which γ; its ``base`` is not read, since the oracle takes N(0, I) itself.
        mixture: the law of x1.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> law = GaussianMixture(torch.ones(1), torch.full((1, 1), 2.0), torch.ones(1))
        >>> marginal = MixtureMarginal(LinearPath(Euclidean(1)), law)
        >>> marginal.velocity(torch.tensor([0.0]), torch.tensor([[0.5]]))
        tensor([[1.5000]])
    """

    path: LinearPath
    mixture: GaussianMixture

    def log_prob(self, t: Tensor | float, x: Tensor) -> Tensor:
        """log p_t(x): ``(batch,)``."""
        _, means, variances = self._moments(t, x)
        return torch.logsumexp(_log_terms(self.mixture.weights, means, variances, x), 1)

    def velocity(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[ẋ_t | x_t = x]."""
        moments = times, _, variances = self._moments(t, x)
        inner = per_row(times, variances)
        rate = per_row(self.path.schedule.gamma_gamma_rate(times), variances)
        slope = (inner * self.mixture.stds**2 - (1 - inner) + rate) / variances
        return self._mixed(moments, x, self.mixture.means.expand_as(variances), slope)

    def score(self, t: Tensor | float, x: Tensor) -> Tensor:
        """∇log p_t(x)."""
        moments = _, _, variances = self._moments(t, x)
        return self._mixed(moments, x, torch.zeros_like(variances), -1 / variances)

    def denoiser(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[x1 | x_t = x]."""
        moments = times, _, variances = self._moments(t, x)
        slope = per_row(times, variances) * self.mixture.stds**2 / variances
        return self._mixed(moments, x, self.mixture.means.expand_as(variances), slope)

    def base_denoiser(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[x0 | x_t = x]."""
        moments = times, _, variances = self._moments(t, x)
        slope = (1 - per_row(times, variances)) / variances
        return self._mixed(moments, x, torch.zeros_like(variances), slope)

    def noise(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[z | x_t = x]; 0 where γ = 0."""
        moments = times, _, variances = self._moments(t, x)
        slope = per_row(self.path.schedule.gamma(times), variances) / variances
        return self._mixed(moments, x, torch.zeros_like(variances), slope)

    def field(self, name: str) -> Field:
        """The field of a prediction, by its name."""
        found: Field = getattr(self, name)
        return found

    def _moments(self, t: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """t ``(batch,)``, and μ_k and v_k, ``(batch, k, *event)``."""
        times = row_times(t, x, "MixtureMarginal")
        means = self.mixture.means.expand(x.shape[0], *self.mixture.means.shape)
        inner = per_row(times, means)
        total = (1 - times) ** 2 + self.path.schedule.gamma_squared(times)
        return times, inner * means, inner**2 * self.mixture.stds**2 + per_row(total, means)

    def _mixed(
        self,
        moments: tuple[Tensor, Tensor, Tensor],
        x: Tensor,
        at_mean: Tensor,
        slope: Tensor,
    ) -> Tensor:
        """Σ_k P(k | x) (at_mean_k + slope_k (x − μ_k))."""
        _, means, variances = moments
        posterior = torch.softmax(_log_terms(self.mixture.weights, means, variances, x), 1)
        values = at_mean + slope * (x.unsqueeze(1) - means)
        return (per_row(posterior, values) * values).sum(1)


def _log_terms(weights: Tensor, means: Tensor, variances: Tensor, x: Tensor) -> Tensor:
    """log w_k + log N(x; μ_k, v_k), ``(batch, k)``."""
    squares = (x.unsqueeze(1) - means) ** 2 / variances + torch.log(2 * math.pi * variances)
    return weights.log() - 0.5 * squares.flatten(2).sum(2)
