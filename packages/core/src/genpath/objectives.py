r"""Objectives: one value per example, with a stated minimiser.

An `Objective` maps (model, pairs, t, rng) to values ``(batch,)``. The first kind is regression by a
Bregman divergence D_φ(target, prediction): only the second argument may be the model (semester II,
Y3), and the minimiser is the conditional expectation E[target | x_t], whatever φ. The gradient is
that of the regression on the marginal target (generator matching, arXiv 2410.20587, Prop. 2).

    `squared`       ½‖a − b‖²  in the space's metric      b ∈ tangents or R^d
    `poisson`       Σ a log(a/b) − a + b                  a ≥ 0, b > 0
    `cross_entropy` −Σ a log b from logits, a one-hot     b in the simplex
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from .couplings import Pairs
from .errors import CapabilityError
from .models import Model
from .paths import draw_with_target
from .spaces import Euclidean, is_smooth
from .states import flat_event, map_state

__all__ = ["Objective", "Regression", "cross_entropy", "poisson", "squared", "stratified_times"]


@runtime_checkable
class Objective(Protocol):
    """One value per example; ``minimiser`` says in words where it is least."""

    @property
    def minimiser(self) -> str: ...

    def __call__(self, model: Model, pairs: Pairs, t: Tensor, rng: torch.Generator) -> Tensor:
        """Values ``(batch,)`` for endpoint pairs at times ``(batch,)``."""
        ...


def squared(model: Model, state: Any, target: Any, prediction: Any) -> Tensor:
    """½‖target − prediction‖² in the metric at the state (flat where the target is no tangent).

    Target and prediction have the state's form, ``(batch, *event)``; the values are ``(batch,)``.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath import Euclidean, Prediction
        >>> velocity = Prediction("velocity", (2,), True, "u(t, x)")
        >>> model = SimpleNamespace(path=SimpleNamespace(space=Euclidean(2)), prediction=velocity)
        >>> squared(model, torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
        tensor([12.5000])
    """
    space = model.path.space
    if isinstance(space, Euclidean) and isinstance(target, Tensor):  # two passes
        square = functional.mse_loss(prediction, target, reduction="none")
        return 0.5 * flat_event(square).sum(1)
    difference = map_state(torch.sub, target, prediction)
    if model.prediction.tangent and is_smooth(space):
        return 0.5 * space.inner(state, difference, difference)
    return 0.5 * flat_event(difference.square()).sum(1)


def poisson(model: Model, state: Any, target: Tensor, prediction: Tensor) -> Tensor:
    """Σ a log(a/b) − a + b with 0 log 0 = 0; the prediction is log b.

    Target and prediction are ``(batch, *event)``; the values, summed over the event, ``(batch,)``.

    Example:
        >>> target, log_rate = torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1)
        >>> poisson(None, None, target, log_rate)  # b = 1: least where a = b
        tensor([1., 0.])
    """
    value = torch.special.xlogy(target, target) - target * prediction - target + prediction.exp()
    return flat_event(value).sum(1)


def cross_entropy(model: Model, state: Any, target: Tensor, prediction: Tensor) -> Tensor:
    """−log softmax(prediction)[target], summed over sites; the target is an index per site.

    Target ``(batch, *sites)``, prediction ``(batch, *sites, letters)``; the values ``(batch,)``.

    Example:
        >>> target, logits = torch.tensor([[0, 3, 1]]), torch.zeros(1, 3, 4)
        >>> cross_entropy(None, None, target, logits)  # 3 sites, 4 letters: 3 log 4
        tensor([4.1589])
    """
    letters = prediction.shape[-1]
    value = functional.cross_entropy(
        prediction.reshape(-1, letters), target.reshape(-1), reduction="none"
    )
    return flat_event(value.reshape(target.shape)).sum(1)


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "squared": squared,
    "poisson": poisson,
    "cross_entropy": cross_entropy,
}


@dataclass(frozen=True)
class Regression:
    """E D(target, prediction) along the path: the component ``objective.regression``.

    Args:
        divergence: squared, poisson or cross_entropy.

    With ``squared`` and prediction "velocity" this is flow matching (Lipman et al. 2022,
    arXiv 2210.02747, eq. 9, with the ½ of this library).

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath import Euclidean, Gaussian, Prediction
        >>> from genpath.paths import Draw
        >>> path = SimpleNamespace(
        ...     space=Euclidean(1),
        ...     predictions={"velocity": Prediction("velocity", (1,), True, "x1 − x0")},
        ...     draw=lambda t, x0, x1, rng: Draw(t, x0 + t[:, None] * (x1 - x0), x0, x1),
        ...     target=lambda name, draw: draw.x1 - draw.x0,
        ... )
        >>> model = Model(lambda t, x: 0 * x, path, base=Gaussian((1,)))
        >>> pairs = Pairs(torch.zeros(2, 1), torch.tensor([[1.0], [2.0]]))
        >>> Regression("squared")(model, pairs, torch.tensor([0.1, 0.9]), torch.Generator())
        tensor([0.5000, 2.0000])
    """

    divergence: str = "squared"
    minimiser: str = "E[target | x_t = x]"

    def __post_init__(self) -> None:
        if self.divergence not in DIVERGENCES:
            raise CapabilityError(
                "objective.regression",
                "divergence is one of " + ", ".join(DIVERGENCES) + ".",
                got=repr(self.divergence),
            )

    def __call__(self, model: Model, pairs: Pairs, t: Tensor, rng: torch.Generator) -> Tensor:
        draw, target = draw_with_target(model.path, model.predict, t, pairs.x0, pairs.x1, rng)
        prediction = model.field(draw.t, draw.state)
        return DIVERGENCES[self.divergence](model, draw.state, target, prediction)


def stratified_times(count: int, rng: torch.Generator, stratified: bool = True) -> Tensor:
    """Times in (0, 1), uniform in law; stratified draws have one in each of ``count`` equal cells.

    A random permutation makes rows exchangeable.

    Example:
        >>> t = stratified_times(4, torch.Generator().manual_seed(0))
        >>> (t.sort().values * 4).floor()
        tensor([0., 1., 2., 3.])
    """
    u = torch.rand(count, generator=rng, device=rng.device)
    if stratified:
        u = (torch.randperm(count, generator=rng, device=rng.device) + u) / max(count, 1)
    return u.clamp(1e-6, 1 - 1e-6)
