"""What a config's names build: experts and the resampling transform."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from genpath.errors import ShapeError
from genpath.run.checkpoints import load_model
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean
from genpath_interpolants.boxes import BoxMarginal, BoxMixture
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.schedules import (
    linear_schedule,
    ornstein_uhlenbeck_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

from .experts import ExactExpert, Reward
from .model_experts import ModelExpert
from .normals import Normal
from .smc import Resample
from .supports import Boxes
from .tails import Tail, affine_tail, mixture_tail

__all__ = ["boxes", "gaussian_mixture", "resample", "reward", "run"]

SCHEDULES: Mapping[str, Callable[[], AffineSchedule]] = {
    "linear": linear_schedule,
    "trigonometric": trigonometric_schedule,
    "variance_preserving": variance_preserving_schedule,
    "ornstein_uhlenbeck": ornstein_uhlenbeck_schedule,
}


def run(folder: str, data_std: float | None, facts: dict[str, int] | None) -> ModelExpert:
    """``expert.compose.run``: the trained model of a run folder, or of a checkpoint alone.

    With ``data_std`` its tail is that of normal data of this width, α² + β² data_std² in place of
    α²: the safe choice in a denominator where data are not bounded.
    """
    model = load_model(folder)
    expert = ModelExpert(model, facts=facts)
    schedule = getattr(model.path, "schedule", None)
    if data_std is None or not isinstance(schedule, AffineSchedule):
        return expert
    width, std, affine = float(data_std), float(getattr(model.base, "std", 1.0)), schedule

    def precisions(t: Tensor) -> Tensor:
        spread = std**2 * affine.alpha_squared(t) + affine.gamma_squared(t)
        return 1 / (spread + (width * affine.beta(t)) ** 2)[:, None, None]

    return ModelExpert(model, facts=facts, tail=Tail(precisions))


def gaussian_mixture(
    means: list[list[float]],
    stds: list[float] | None,
    weights: list[float] | None,
    schedule: str,
) -> ExactExpert:
    """``expert.compose.gaussian_mixture``: the exact path of a mixture of normal laws.

    Example:
        >>> expert = gaussian_mixture([[0.0, 1.0]], None, None, "trigonometric")
        >>> expert.score(torch.ones(1), torch.zeros(1, 2))
        tensor([[-0., 1.]])
    """
    rows = _matrix("expert.compose.gaussian_mixture", means)
    count = len(rows)
    widths = torch.ones(count) if stds is None else torch.tensor(stds)
    shares = torch.ones(count) / count if weights is None else torch.tensor(weights)
    law = GaussianMixture(shares.to(rows.dtype), rows, widths.to(rows.dtype))
    path = LinearPath(Euclidean(rows.shape[1]), SCHEDULES[schedule](), base="gaussian")
    return ExactExpert(
        MixtureMarginal(path, law),
        law.event_shape,
        tail=mixture_tail(path.schedule, law),
        start=Normal.isotropic(law.event_shape),
        affine=path.schedule,
    )


def boxes(
    lower: list[list[float]],
    upper: list[list[float]],
    weights: list[float] | None,
    schedule: str,
) -> ExactExpert:
    """``expert.compose.boxes``: the exact path of a uniform law on boxes.

    Example:
        >>> expert = boxes([[-1.0]], [[1.0]], None, "linear")
        >>> expert.velocity(torch.zeros(1), torch.zeros(1, 1))
        tensor([[0.]])
    """
    corners = [_matrix("expert.compose.boxes", part) for part in (lower, upper)]
    shares = None if weights is None else torch.tensor(weights, dtype=corners[0].dtype)
    law = BoxMixture(corners[0], corners[1], shares)  # type: ignore[arg-type]
    path = LinearPath(Euclidean(*law.event_shape), SCHEDULES[schedule](), base="gaussian")
    radius = float(torch.maximum(corners[0].abs(), corners[1].abs()).norm(dim=1).max())
    return ExactExpert(
        BoxMarginal(path, law),
        law.event_shape,
        tail=affine_tail(path.schedule, radius=radius),
        start=Normal.isotropic(law.event_shape),
        support=Boxes(corners[0], corners[1]),
        affine=path.schedule,
    )


def reward(slope: list[float], curvature: float, centre: list[float] | None) -> Reward:
    """``expert.compose.reward``: the factor e^{r(x)}, r(x) = slope·x − ½ curvature |x − centre|².

    Example:
        >>> reward([1.0, 0.0], 2.0, None).log_prob(torch.zeros(1), torch.ones(1, 2))
        tensor([-1.])
    """
    direction = torch.tensor(slope)
    middle = torch.zeros_like(direction) if centre is None else torch.tensor(centre)
    if middle.shape != direction.shape:
        got = f"slope {tuple(direction.shape)}, centre {tuple(middle.shape)}"
        raise ShapeError("expert.compose.reward", "slope and centre have one length.", got=got)

    def value(x: Tensor) -> Tensor:
        square = (x - middle.to(x)).square().sum(1)
        return x @ direction.to(x) - 0.5 * curvature * square

    tail = Tail(lambda t: torch.full_like(t, curvature)[:, None, None])
    return Reward(value, tuple(direction.shape), tail=tail)


def resample(scheme: str, threshold: float, when: str, window: tuple[float, float]) -> Resample:
    """``transform.compose.resample``: between two steps of any weighted sampler.

    Example:
        >>> resample("systematic", 0.5, "ess", (0.0, 1.0)).threshold
        0.5
    """
    return Resample(scheme=scheme, threshold=threshold, when=when, window=tuple(window))  # type: ignore[arg-type]


def _matrix(where: str, rows: list[list[float]]) -> Tensor:
    if not rows or len({len(row) for row in rows}) != 1:
        got = f"rows of {', '.join(str(len(row)) for row in rows) or 'no'} numbers"
        raise ShapeError(where, "there are rows of numbers, all of one length.", got=got)
    return torch.tensor(rows)
