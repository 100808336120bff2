r"""Claims of the baselines: densities whose score is known in another way.

−(1/n) Σ log N(yᵢ; ȳ, S) = ½ log det 2πe S                        on the rows of the fit
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from genpath.codecs import Codec, Identity, Standardise
from genpath.evaluation import Scene
from genpath.evaluations import GaussianBaseline, KernelBaseline
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal

from ._scenes import scene_of, seen, with_rows

__all__ = ["gaussian_baseline", "kernel_baseline"]

DOUBLE = torch.float64


def _rows(count: int, rng: torch.Generator) -> Tensor:
    """Rows of the plane that are neither normal nor uncorrelated."""
    x = torch.randn(count, 2, generator=rng, dtype=DOUBLE)
    return torch.stack([3 * x[:, 0] + 1, x[:, 1] - x[:, 0] ** 2], 1)


def _scaled_log_det(codec: Codec, size: float) -> Codec:
    def encode(y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        state, log_det = codec.encode(y, rng)
        return state, (1 + size) * log_det

    return but(codec, encode=encode)


def _recoded(evaluation: Any, size: float) -> Any:
    """The evaluation, with log |det e′| × (1 + δ)."""

    def change(scene: Scene) -> Scene:
        model: Any = scene.model
        codec = _scaled_log_det(model.codec, size)
        return replace(scene, model=SimpleNamespace(codec=codec, path=model.path))  # type: ignore[arg-type]

    return seen(change)(evaluation)


def gaussian_baseline() -> tuple[Claim[Any], ...]:
    """Claims of ``evaluation.gaussian_baseline``."""
    return (_best_normal(), _held_out_moments())


def _wider(evaluation: Any, size: float) -> Any:
    def change(scene: Scene) -> Scene:
        rows, mean = scene.data.train, scene.data.train.mean(0)
        return with_rows(scene, train=mean + (1 + size) * (rows - mean))

    return seen(change)(evaluation)


def _anisotropic() -> Codec:
    shift = torch.tensor([2.0, -1.0], dtype=DOUBLE)
    return Standardise(shift, torch.tensor([0.3, 5.0], dtype=DOUBLE))


def _best_normal() -> Claim[Any]:
    def check(evaluation: Any, trial: Trial) -> Iterator[Evidence]:
        rows = _rows(60, trial.rng())
        centred = rows - rows.mean(0)
        half_log = torch.linalg.svdvals(centred / math.sqrt(len(rows))).log().sum()
        true = 1 + math.log(2 * math.pi) + half_log
        for name, codec in (("the data's units", Identity()), ("encoded", _anisotropic())):
            found = evaluation(scene_of(rows, rows[:1], rows, codec)).metrics["baseline/nll"]
            because = "products of rows, times the condition of the covariance"
            yield equal(f"on its own rows, {name}", found, true, operations=4096, because=because)

    def unbiased(evaluation: Any) -> Any:
        return _wider(evaluation, math.sqrt(60 / 59) - 1)

    return Claim(
        "best-normal",
        "On the rows that it was fitted to it is half the log-determinant of 2πe times their "
        "covariance, in the data's units, whatever the scale of the encoding.",
        lambda: GaussianBaseline(ridge=0.0),
        check,
        (
            dial("deviations × (1 + δ)", _wider),
            dial("log |det e′| × (1 + δ)", _recoded),
            Control("the covariance divides by n − 1", unbiased),
        ),
        formula=r"-\tfrac1n \textstyle\sum_i \log N(y_i; \bar y, S) = \tfrac12 \log\det 2\pi e S",
    )


def _held_out_moments() -> Claim[Any]:
    def check(evaluation: Any, trial: Trial) -> Evidence:
        train, test = _rows(60, trial.rng()), 0.7 * _rows(40, trial.rng("test")) + 1
        # rotate to the principal axes of the fit, where the law is a product of normal laws
        _, sizes, axes = torch.linalg.svd(train - train.mean(0), full_matrices=False)
        std = sizes / math.sqrt(len(train))
        turned = (test - train.mean(0)) @ axes.T
        true = -torch.distributions.Normal(0.0, std).log_prob(turned).sum(1).mean()
        found = evaluation(scene_of(train, train[:1], test, _anisotropic())).metrics["baseline/nll"]
        because = "products of rows, times the condition of the covariance"
        return equal("baseline/nll", found, true, operations=4096, because=because)

    def one_more(scene: Scene) -> Scene:
        return with_rows(scene, train=torch.cat([scene.data.train, scene.data.test[:1]]))

    return Claim(
        "held-out",
        "Held-out rows are scored by the fit of the training rows alone: along its principal axes "
        "it is a product of normal laws.",
        lambda: GaussianBaseline(ridge=0.0),
        check,
        (
            dial("deviations × (1 + δ)", _wider),
            dial("log |det e′| × (1 + δ)", _recoded),
            Control("one held-out row is fitted too", seen(one_more)),
        ),
    )


def kernel_baseline() -> tuple[Claim[Any], ...]:
    """Claims of ``evaluation.kernel_baseline``."""
    return (_mixture(), _best_bandwidth())


def _mixture() -> Claim[Any]:
    """Another implementation of mixtures, and a scale that cancels."""
    share = 0.3

    def check(evaluation: Any, trial: Trial) -> Iterator[Evidence]:
        train, test = _rows(60, trial.rng()), _rows(40, trial.rng("test"))
        torches = torch.distributions
        width = share * train.std(0, correction=0).mean()
        kernels = torches.Independent(torches.Normal(train, width), 1)
        even = torches.Categorical(logits=torch.zeros(len(train), dtype=DOUBLE))
        values = torches.MixtureSameFamily(even, kernels).log_prob(test)
        squares = torch.cat([train, test]).square().sum(1).max() / width**2
        codec = Standardise(torch.tensor(2.0), torch.tensor(0.125))
        for name, chosen in (("the data's units", Identity()), ("encoded", codec)):
            found = evaluation(scene_of(train, train[:1], test, chosen)).metrics
            value = found["baseline-kernel/nll"]
            because = "64 roundings at the size of a squared distance over a squared bandwidth"
            yield equal(name, value, -values.mean(), scale=float(squares), because=because)

    return Claim(
        "mixture",
        "With one bandwidth, a share of the mean standard deviation, it scores held-out rows by "
        "the mixture of normal laws at the training rows, whatever the scale of the encoding.",
        lambda: KernelBaseline(smallest=share, bandwidths=1, chunk=16),
        check,
        (
            dial("bandwidth × (1 + δ)", lambda e, d: replace(e, smallest=(1 + d) * e.smallest)),
            dial("log |det e′| × (1 + δ)", _recoded),
            Control("one training row is left out",
                    seen(lambda scene: with_rows(scene, train=scene.data.train[:-1]))),
        ),
        formula=r"p(y) = \frac1n \sum_i N(y;\, y_i, h^2 I)",
    )  # fmt: skip


def _best_bandwidth() -> Claim[Any]:
    low, count = 0.01, 25

    def check(evaluation: Any, trial: Trial) -> Iterator[Evidence]:
        train, held = _rows(60, trial.rng()), _rows(40, trial.rng("held"))
        scene = scene_of(train, held, held)
        found = evaluation(scene).metrics["baseline-kernel/nll"]
        shares = [low ** (1 - k / (count - 1)) for k in range(count)]
        each = [KernelBaseline(smallest=share, bandwidths=1)(scene) for share in shares]
        least = min(one.metrics["baseline-kernel/nll"] for one in each)
        squares = float(torch.cat([train, held]).square().sum(1).max())
        because = "64 roundings of squared distances over squared bandwidths"
        yield equal("the least of the grid", found, least, scale=squares, because=because)

    def nearer(evaluation: Any, size: float) -> Any:
        def change(scene: Scene) -> Scene:
            held, train = scene.data.validation, scene.data.train
            nearest = train[torch.cdist(held, train).min(1).indices]
            return with_rows(scene, validation=torch.lerp(held, nearest, size))

        return seen(change)(evaluation)

    return Claim(
        "best-bandwidth",
        "The bandwidth is the one of the grid that scores the validation rows best.",
        KernelBaseline,
        check,
        (
            dial("validation rows a share δ nearer to training rows", nearer),
            Control("chosen on the training rows",
                    seen(lambda scene: with_rows(scene, validation=scene.data.train))),
        ),
        formula=r"\hat h = \arg\max_h \textstyle\sum_j \log p_h(y_j)",
    )  # fmt: skip
