"""Exact fields of a mixture: log p_t, score, velocity, and all of them from one pass.

x_t = (1−t) x0 + t x1 + γ z with data a mixture of 40 normal laws in 128 dimensions, 4096 rows with
a time each; float32. Ours is `MixtureMarginal`, for isotropic covariances, one diagonal for all
components, and a diagonal each. Beside it the same in torch's own distributions
(`MixtureSameFamily` of `Independent` `Normal`s), with the score by automatic differentiation and
the velocity as the posterior mean of the components' velocities.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from genpath_interpolants.mixtures import FIELDS, GaussianMixture, MixtureMarginal
from genpath_interpolants.schedules import linear_schedule

from ..runner import Call, Case, Entry, agree

__all__ = ["ENTRY"]


def case(form: str, wanted: str, count: int, components: int, size: int) -> Case:
    means = 2 * torch.randn(components, size)
    stds = 0.5 + torch.rand(components, size)
    if form == "isotropic":
        stds = stds[:, :1].expand(-1, size).clone()
    if form == "one diagonal":
        stds = stds[:1].expand(components, -1).clone()
    weights = torch.full((components,), 1 / components)
    schedule = linear_schedule("sqrt", 1.0)
    law = GaussianMixture(weights, means, stds)
    oracle = MixtureMarginal(SimpleNamespace(schedule=schedule), law)
    t, x = torch.rand(count), 2 * torch.randn(count, size)
    time = t[:, None, None]
    variances = (1 - time) ** 2 + time * (1 - time) + (time * stds) ** 2

    def plain_law() -> MixtureSameFamily:
        normal = Normal(time * means, variances.sqrt(), validate_args=False)
        labels = Categorical(weights.expand(count, -1), validate_args=False)
        return MixtureSameFamily(labels, Independent(normal, 1), validate_args=False)

    def density() -> Tensor:
        return plain_law().log_prob(x)

    def score() -> Tensor:
        y = x.clone().requires_grad_()
        return torch.autograd.grad(plain_law().log_prob(y).sum(), y)[0]

    def velocity() -> Tensor:
        normal = Independent(Normal(time * means, variances.sqrt(), validate_args=False), 1)
        posterior = torch.softmax(weights.log() + normal.log_prob(x[:, None]), 1)
        slope = (time * stds**2 - (1 - time) + 0.5 * (1 - 2 * time)) / variances
        each = means + slope * (x[:, None] - time * means)
        return (posterior[:, :, None] * each).sum(1)

    def everything() -> Tensor:
        return torch.stack((velocity(), score()))

    def ours() -> Tensor:
        if wanted == "all":
            found = oracle.fields((*FIELDS, "log_prob"), t, x)
            return torch.stack((found["velocity"], found["score"]))
        value: Tensor = getattr(oracle, wanted)(t, x)
        return value

    plain: Call = {
        "log_prob": density,
        "score": score,
        "velocity": velocity,
        "all": everything,
    }[wanted]
    label = f"{form}: {wanted}"

    def check() -> None:
        theirs = plain()
        agree(label, ours(), theirs, 1e-3 * float(theirs.abs().max()))

    return Case(label, ours, {"torch.distributions": plain}, check)


def cases(tiny: bool) -> Iterator[Case]:
    torch.manual_seed(0)
    sizes = (16, 3, 4) if tiny else (4096, 40, 128)
    for form in ("isotropic", "one diagonal", "diagonals"):
        for wanted in ("log_prob", "score", "velocity", "all"):
            yield case(form, wanted, *sizes)


ENTRY = Entry(
    cases,
    memory=True,
    notes=(
        "A time per row; times, states and law are given; float32.",
        "all: log p and six fields of ours, beside the velocity and the score of the other.",
    ),
)
