"""Scenes with rows that are made up, and faults of what an evaluation sees or tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from genpath.codecs import Codec, Identity
from genpath.datasets import Dataset
from genpath.evaluation import Findings, Scene
from genpath.spaces import Euclidean

__all__ = ["CPU", "scene_of", "seen", "told", "with_rows"]

CPU = torch.device("cpu")


def scene_of(
    train: Tensor,
    validation: Tensor,
    test: Tensor,
    codec: Codec | None = None,
    likelihood: Any = None,
    samples: Tensor | None = None,
) -> Scene:
    """Rows of R^d, and a model that is asked for its codec and its space alone."""
    space = Euclidean(train.shape[1])
    data = Dataset("rows", space, train, validation, test, "made up", None, ("dimension", 2))
    model: Any = SimpleNamespace(codec=codec or Identity(), path=SimpleNamespace(space=space))
    unused: Any = None
    rng = torch.Generator().manual_seed(0)
    return Scene(model, data, samples, unused, unused, likelihood, rng, CPU)


def seen(change: Callable[[Scene], Scene]) -> Callable[[Any], Any]:
    """A fault: the evaluation sees another scene."""
    return lambda evaluation: lambda scene: evaluation(change(scene))


def told(change: Callable[[dict[str, float]], dict[str, float]]) -> Callable[[Any], Any]:
    """A fault: the evaluation tells other numbers."""

    def plant(evaluation: Any) -> Any:
        def call(scene: Scene) -> Findings:
            found: Findings = evaluation(scene)
            return replace(found, metrics=change(dict(found.metrics)))

        return call

    return plant


def with_rows(scene: Scene, **splits: Any) -> Scene:
    """The scene with other rows in some splits."""
    return replace(scene, data=replace(scene.data, **splits))
