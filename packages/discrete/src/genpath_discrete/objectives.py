r"""Objectives: the bound on −log p that masked diffusion minimises.

    −log p(x1) ≤ ∫₀¹ κ̇/(1−κ) E[ Σ_{i masked} −log p_θ(x1^i | x_t) ] dt
              = E_{n ~ U{1..L}} (L/n) E[ Σ_{i masked} −log p_θ(x1^i | x_n) ]

(Sahoo et al. 2024, arXiv 2406.07524, eq. 10; Shi et al. 2024, arXiv 2406.04329, eq. 5). The second
line masks exactly n sites, chosen uniformly: integrating out κ makes the number of masks uniform,
so the bound does not depend on the schedule, and the estimator has a smaller variance. It needs a
network that ignores time, as the exact posterior does. At the exact posterior it is −log p.

Both estimators return one value per sequence, in nats. Sites that are not masked have weight 0: the
gradient of the loss at their logits is exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from genpath.couplings import Pairs
from genpath.errors import CapabilityError, DomainError
from genpath.models import Model
from genpath.states import per_row

from .paths import MaskedPath

__all__ = ["ESTIMATORS", "MaskedELBO", "bound_by_count", "bound_by_time", "masked_nll"]


def masked_nll(logits: Tensor, x1: Tensor, masked: Tensor) -> Tensor:
    """Σ over masked sites of −log softmax(logits)[x1]: ``(batch,)``.

    Args:
        logits: ``(batch, *sites, letters)``.
        x1: letters ``(batch, *sites)``.
        masked: bool ``(batch, *sites)``.

    Example:
        >>> x1, masked = torch.tensor([[0, 2]]), torch.tensor([[True, False]])
        >>> masked_nll(torch.zeros(1, 2, 3), x1, masked)  # log 3, of the one masked site
        tensor([1.0986])
    """
    flat = functional.cross_entropy(logits.flatten(0, -2), x1.flatten(), reduction="none")
    value = torch.where(masked, flat.reshape(x1.shape), 0.0)
    return value.flatten(1).sum(1) if value.dim() > 1 else value


def bound_by_time(
    model: Model, path: MaskedPath, x1: Any, t: Tensor, rng: torch.Generator
) -> Tensor:
    """κ̇/(1−κ) Σ_{masked} −log p_θ(x1^i | x_t) at times ``t`` in (0, 1): ``(batch,)``.

    Example:
        >>> from genpath.models import Model
        >>> from genpath_discrete import Categorical
        >>> path = MaskedPath(Categorical(3, (4,)))  # and a network that knows nothing
        >>> model = Model(lambda t, x: torch.zeros(*x.shape, 3), path, path.base(), "logits")
        >>> x1, rng = torch.zeros(2, 4, dtype=torch.long), torch.Generator().manual_seed(0)
        >>> bound_by_time(model, path, x1, torch.full((2,), 1e-7), rng)  # all masked: 4 log 3
        tensor([4.3944, 4.3944])
    """
    draw = path.draw(t, None, x1, rng)
    value = masked_nll(model.field(draw.t, draw.state), x1, path.masked(draw.state))
    return path.schedule.hazard(draw.t).to(value) * value


def bound_by_count(
    model: Model, path: MaskedPath, x1: Any, t: Tensor, rng: torch.Generator
) -> Tensor:
    """(L/n) Σ_{masked} −log p_θ(x1^i | x_n) with n = ⌊t L⌋ + 1 masks: ``(batch,)``.

    A uniform ``t`` makes n uniform on 1, …, L; a stratified one makes it stratified. The network is
    told the time 1 − n/L, and is expected to ignore it.

    Example:
        >>> from genpath.models import Model
        >>> from genpath_discrete import Categorical
        >>> path = MaskedPath(Categorical(3, (4,)))  # and a network that knows nothing
        >>> model = Model(lambda t, x: torch.zeros(*x.shape, 3), path, path.base(), "logits")
        >>> x1, rng = torch.zeros(2, 4, dtype=torch.long), torch.Generator().manual_seed(0)
        >>> bound_by_count(model, path, x1, torch.tensor([0.1, 0.9]), rng)  # 4 log 3 at any count
        tensor([4.3944, 4.3944])
    """
    sites = path.space.sites
    count = (t * sites).long().clamp(0, sites - 1) + 1
    u = torch.rand(x1.shape[0], sites, generator=rng, device=x1.device)
    rank = u.argsort(1).argsort(1)
    masked = (rank < count.unsqueeze(1)).reshape(x1.shape)
    state = torch.where(masked, path.mask_id, x1)
    time = 1 - count.to(t.dtype) / sites
    value = masked_nll(model.field(time, state), x1, masked)
    return per_row(sites / count.to(value.dtype), value) * value


ESTIMATORS = {"time": bound_by_time, "count": bound_by_count}
"""How the bound is estimated, by name; both have the same mean."""


def estimator_of(name: str, where: str) -> Any:
    """The estimator of that name, or an error that lists them."""
    if name in ESTIMATORS:
        return ESTIMATORS[name]
    raise DomainError(where, "estimator is one of " + ", ".join(ESTIMATORS) + ".", got=repr(name))


def masked_path(model: Model, where: str) -> MaskedPath:
    """The model's path, if it is a masked one."""
    if isinstance(model.path, MaskedPath):
        return model.path
    raise CapabilityError(
        where,
        "the bound is that of a masked path.",
        got=type(model.path).__name__,
        fix="use path: discrete.masked, or objective: regression with divergence: cross_entropy",
    )


@dataclass(frozen=True)
class MaskedELBO:
    """The masked bound, one value per sequence: the component ``objective.discrete.masked_elbo``.

    Args:
        estimator: "time" (t from the trainer, weight κ̇/(1−κ)) or "count" (the number of masks from
            the trainer's time, weight L/n).

    Raises:
        DomainError: an unknown estimator.
        CapabilityError: at a call, a model whose path is not masked.

    Example:
        >>> from genpath.models import Model
        >>> from genpath_discrete import Categorical
        >>> path = MaskedPath(Categorical(3, (4,)))  # and a network that knows nothing
        >>> model = Model(lambda t, x: torch.zeros(*x.shape, 3), path, path.base(), "logits")
        >>> x1, rng = torch.zeros(2, 4, dtype=torch.long), torch.Generator().manual_seed(0)
        >>> MaskedELBO("count")(model, Pairs(x1, x1), torch.tensor([0.1, 0.9]), rng)  # 4 log 3
        tensor([4.3944, 4.3944])
    """

    estimator: str = "time"
    minimiser: str = "log p(x1 at the site | unmasked sites) + const, at masked sites"

    def __post_init__(self) -> None:
        estimator_of(self.estimator, "objective.discrete.masked_elbo")

    def __call__(self, model: Model, pairs: Pairs, t: Tensor, rng: torch.Generator) -> Tensor:
        path = masked_path(model, "objective.discrete.masked_elbo")
        value: Tensor = ESTIMATORS[self.estimator](model, path, pairs.x1, t, rng)
        return value


def masked_elbo(estimator: str) -> MaskedELBO:
    """The component ``objective.discrete.masked_elbo``."""
    return MaskedELBO(estimator)
