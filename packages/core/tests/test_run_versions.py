"""A checkpoint of a plugin's component, read by later versions of the plugin."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from genpath.config.options import option
from genpath.errors import CheckpointError
from genpath.plugins import Component, Registry, using
from genpath.run import load_model, run_config

from .test_run_toys import quiet, toy_config, toy_registry

sys.modules["genpath_net_versions"] = sys.modules[__name__]
HERE = "genpath_net_versions"


@dataclass(frozen=True)
class First:
    """Version 1.0: one option."""

    width: int = option(8)


@dataclass(frozen=True)
class Added:
    """Version 1.1: an option more, with a default that changes nothing; another default width."""

    width: int = option(16)
    gain: float = option(1.0)


@dataclass(frozen=True)
class Renamed:
    """Version 2.0: the option has another name."""

    channels: int = option(8)


class Plain(torch.nn.Module):
    """A perceptron of (t, x)."""

    def __init__(self, size: int, width: int, depth: int) -> None:
        super().__init__()
        sizes = [size + 1, *[width] * depth]
        hidden = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.hidden, self.last = torch.nn.ModuleList(hidden), torch.nn.Linear(width, size)

    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        h = torch.cat([t[:, None], x], 1)
        for layer in self.hidden:
            h = torch.tanh(layer(h))
        return self.last(h)


def first(width: int, space: Any, prediction: Any) -> torch.nn.Module:
    return Plain(space.dimension, width, 1)


def added(width: int, gain: float, space: Any, prediction: Any) -> torch.nn.Module:
    return first(width, space, prediction)


def renamed(channels: int, space: Any, prediction: Any) -> torch.nn.Module:
    return first(channels, space, prediction)


def deeper(width: int, space: Any, prediction: Any) -> torch.nn.Module:
    """Version 3.0: the same options, other weights."""
    return Plain(space.dimension, width, 2)


def world(version: str, target: str, options: str) -> Registry:
    """The registry with the plugin ``net`` in one version."""
    known = toy_registry()
    net = Component(
        "network",
        "net.plain",
        f"{HERE}:{target}",
        f"{HERE}:{options}",
        ("space", "prediction"),
        "a network",
        None,
        "genpath-net",
        version,
        "net",
    )
    return Registry([*known.components(), net])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run whose network is the plugin's, version 1.0."""
    with using(world("1.0", "first", "First")):
        config = toy_config("network=net.plain", "train.steps=3", "train.validate_every=3")
        run_config(config, tmp_path / "run", only=("train",), console=quiet())
    return tmp_path / "run"


def output(folder: Path) -> torch.Tensor:
    x = torch.linspace(-1, 1, 8).reshape(4, 2)
    return load_model(folder).network(torch.full((4,), 0.3), x)


def test_a_later_version_with_an_option_more_gives_the_same_model(folder: Path) -> None:
    with using(world("1.0", "first", "First")):
        before = output(folder)
    with using(world("1.1", "added", "Added")):
        after = output(folder)
    assert torch.equal(before, after)


def test_a_version_without_the_option_is_refused_by_name(folder: Path) -> None:
    words = r"(?s)its options are known.*width.*written with.*genpath-net 1\.0"
    with (
        using(world("2.0", "renamed", "Renamed")),
        pytest.raises(CheckpointError, match=words),
    ):
        load_model(folder)


def test_a_version_with_other_weights_is_refused_by_name(folder: Path) -> None:
    words = r"(?s)its weights fit the network.*[Mm]issing key.*environment\.json"
    with using(world("3.0", "deeper", "First")), pytest.raises(CheckpointError, match=words):
        load_model(folder)


def test_a_plugin_that_is_gone_is_named(folder: Path) -> None:
    words = r"network 'net\.plain' of genpath-net 1\.0, which is not installed"
    with using(toy_registry()), pytest.raises(CheckpointError, match=words):
        load_model(folder)
