"""Assembly: from a config to the things that it names, in the order in which they need each other.

    data → codec → state_space → path → space, prediction → base, network → model
           data_law → base                                  base, data_law → coupling
    objective, dynamics, solver, likelihood, guidance, transforms, evaluations

Each component is built with all things made so far and takes what its ``needs`` ask for. The
network's first weights follow from the run's seed; torch's global random state is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genpath.codecs import Codec, Identity
from genpath.couplings import Coupling, Independent
from genpath.datasets import Dataset
from genpath.errors import ConfigError, RunError
from genpath.evaluation import Evaluation
from genpath.laws import Empirical, Law
from genpath.likelihoods import Likelihood
from genpath.models import Dynamics, Model
from genpath.objectives import Objective
from genpath.run.seeds import derive_seed, generator_for
from genpath.samplers import Solver, Transform
from genpath.states import batch_size, gather, map_state

if TYPE_CHECKING:
    from genpath.config import Config
    from genpath.config.bound import Bound

__all__ = ["Assembly", "EncodedRows", "assemble", "default_dtype", "find_device"]

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class EncodedRows:
    """Rows drawn with replacement and encoded afresh: the data law of a random codec.

    Args:
        rows: data, on the device of the run.
        codec: e.g. dequantisation, whose noise is new in every draw.
    """

    rows: Any
    codec: Codec

    def sample(self, count: int, rng: torch.Generator) -> Any:
        """``count`` encoded rows, on the device of ``rng``."""
        index = torch.randint(batch_size(self.rows), (count,), generator=rng, device=rng.device)
        return self.codec.encode(gather(self.rows, index), rng)[0]


@dataclass(frozen=True)
class Assembly:
    """Everything that a config names, built.

    What is built when it is first asked for stops with a `ConfigError` where its slot is empty.

    Args:
        config: the resolved config.
        device: where the network and the data live.
        data: the data set, in its own units, on the CPU.
        model: network, path, base, prediction and codec.
        data_law, validation_law: encoded rows of the two splits, drawn with replacement.
        context: the things by name, as components are given them.
    """

    config: Config
    device: torch.device
    data: Dataset
    model: Model
    data_law: Law
    validation_law: Law
    context: Mapping[str, Any] = field(repr=False)

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        assert isinstance(self.model.network, nn.Module)
        return self.model.network

    @cached_property
    def coupling(self) -> Coupling:
        """Pairs for training."""
        return self._coupling(self.data_law)

    @cached_property
    def validation_coupling(self) -> Coupling:
        """Pairs for validation, made in the same way from held-out rows."""
        return self._coupling(self.validation_law)

    @cached_property
    def objective(self) -> Objective:
        """The loss."""
        return self._required("objective", "training")  # type: ignore[no-any-return]

    @cached_property
    def dynamics(self) -> Dynamics:
        """The generator that samples."""
        return self._required("dynamics", "sampling")  # type: ignore[no-any-return]

    @cached_property
    def solver(self) -> Solver:
        """The sampler with its grid."""
        return self._required("sampler", "sampling")  # type: ignore[no-any-return]

    @cached_property
    def likelihood(self) -> Likelihood | None:
        """How data are scored; None where the config says nothing."""
        return self._optional(self.config.likelihood)  # type: ignore[no-any-return]

    @cached_property
    def transforms(self) -> tuple[Transform, ...]:
        """What happens between two steps of the sampler."""
        return tuple(bound.build(**self.context) for bound in self.config.transforms)

    @cached_property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """What is measured, in the config's order."""
        return tuple(bound.build(**self.context) for bound in self.config.evaluate)

    def guided(self) -> Model:
        """The model with the config's guidance, which sampling uses and training does not."""
        guide = self._optional(self.config.guidance)
        return self.model if guide is None else replace(self.model, guide=guide)

    def _coupling(self, law: Law) -> Coupling:
        bound = self.config.coupling
        if bound is None:
            return Independent(self.model.base, law)
        return bound.build(**{**self.context, "data_law": law})  # type: ignore[no-any-return]

    def _required(self, slot: str, why: str) -> Any:
        return self.config.require(slot, why).build(**self.context)

    def _optional(self, bound: Bound | None) -> Any:
        return None if bound is None else bound.build(**self.context)


def find_device(name: str) -> torch.device:
    """The device that a config asks for; "auto" is a GPU where there is one.

    Raises:
        ConfigError: torch knows no such device.
        RunError: this machine has none.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        fix = "write auto, cpu, cuda or cuda:1"
        raise ConfigError("device", "torch knows the device.", got=name, fix=fix) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        got = f"{torch.cuda.device_count()} CUDA devices"
        raise RunError(f"device {name}", "it is there.", got=got, fix="write device: auto")
    return device


@contextmanager
def default_dtype(config: Config) -> Iterator[torch.dtype]:
    """Torch's default dtype is the run's precision inside the block, and what it was after it."""
    wanted = DTYPES[config.precision]
    before = torch.get_default_dtype()
    torch.set_default_dtype(wanted)
    try:
        yield wanted
    finally:
        torch.set_default_dtype(before)


def assemble(config: Config, device: torch.device | str | None = None) -> Assembly:
    """Build what a config names.

    Args:
        config: with data, base, path and network.
        device: overrides the config's.

    Returns:
        The assembly; the network has its first weights, the same for the same seed.

    Raises:
        ConfigError: a slot that is needed is empty, or the prediction is left open.
        BuildError: a component needs a thing that nothing here makes.
    """
    place = find_device(config.device if device is None else str(device))
    with default_dtype(config) as dtype:
        data = _cast(config.require("data").build(device=place, seed=config.seed), dtype)
        context: dict[str, Any] = {"data": data, "device": place, "seed": config.seed}
        codec: Codec = config.codec.build(**context) if config.codec else Identity()
        context |= {"codec": codec, "state_space": codec.space(data.space)}
        path = config.require("path").build(**context)
        predict = config.predict or _only_prediction(path.predictions)
        context |= {"path": path, "space": path.space}
        context["prediction"] = path.predictions.get(predict)
        laws = [_law(getattr(data, split), codec, config.seed, split, place)
                for split in ("train", "validation")]  # fmt: skip
        context["data_law"] = laws[0]
        base = config.require("base").build(**context)
        context["base"] = base
        if context["prediction"] is None:  # Model refuses it in the path's words
            Model(nn.Identity(), path, base, predict, codec)
        network = _network(config, context, dtype).to(place)
        model = Model(network, path, base, predict, codec)
        context |= {"network": network, "model": model}
    return Assembly(config, place, data, model, laws[0], laws[1], context)


def _only_prediction(predictions: Mapping[str, Any]) -> str:
    if len(predictions) == 1:
        return next(iter(predictions))
    known = ", ".join(predictions)
    raise ConfigError(
        "predict",
        "the config says what the network is asked for.",
        got="null",
        fix=f"write predict: NAME; this path knows {known}",
    )


def _network(config: Config, context: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    """The network with the weights that the seed gives it; made on the CPU, the same everywhere."""
    bound = config.require("network")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "network"))
        network = bound.build(**context)
    if not isinstance(network, nn.Module):
        got = type(network).__name__
        raise ConfigError("network", "a network is an nn.Module.", got=got)
    return network.to(dtype)


def _cast(data: Dataset, dtype: torch.dtype) -> Dataset:
    """Floating rows in the run's precision."""

    def cast(leaf: Tensor) -> Tensor:
        return leaf.to(dtype) if leaf.is_floating_point() else leaf

    splits = {
        name: map_state(cast, getattr(data, name)) for name in ("train", "validation", "test")
    }
    return replace(data, **splits)


@torch.no_grad()
def _law(rows: Any, codec: Codec, seed: int, split: str, device: torch.device) -> Law:
    rows = map_state(lambda leaf: leaf.to(device), rows)
    if not codec.exact:
        return EncodedRows(rows, codec)
    return Empirical(codec.encode(rows, generator_for(seed, f"encode/{split}", 0, device))[0])
