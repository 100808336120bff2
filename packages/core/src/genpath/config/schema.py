# ruff: noqa: RUF009  # slot() and option() are dataclasses.field with metadata
"""The schema of a run: what a config file can say, as dataclasses.

Component slots come first (which components), then how to train and to sample, then the stages.
Everything has a default, so that a config says only what it decides; which slots a run cannot do
without is for its stages to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from genpath.config.bound import Bound, plain
from genpath.config.options import COMPONENT, option, slot
from genpath.errors import ConfigError
from genpath.plugins.words import article

if TYPE_CHECKING:
    from genpath.plugins.registry import Registry

__all__ = ["SLOTS", "Config", "SampleOptions", "TrainOptions"]


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained."""

    steps: int = option(2000, help="optimiser steps", minimum=0)
    batch: int = option(256, help="examples per step", minimum=1)
    lr: float = option(1e-3, help="largest learning rate", above=0)
    warmup: int = option(0, help="steps of linear warm-up of the learning rate", minimum=0)
    schedule: Literal["constant", "cosine"] = option("cosine", help="learning rate after warm-up")
    final_lr_fraction: float = option(
        0.0, help="learning rate at the last step, as a fraction of lr", minimum=0, maximum=1
    )
    weight_decay: float = option(0.0, help="decoupled weight decay", minimum=0)
    betas: tuple[float, float] = option((0.9, 0.999), help="decay rates of Adam's two averages")
    clip: float | None = option(1.0, help="largest norm of the gradient; null for none", above=0)
    ema: float | None = option(
        0.999, help="decay of the averaged weights; null for none", minimum=0, below=1
    )
    time: Literal["uniform", "stratified"] = option("stratified", help="how times are drawn")
    validate_every: int = option(500, help="steps between validations; 0 for none", minimum=0)
    validation_batches: int = option(8, help="batches per validation", minimum=1)
    log_every: int = option(50, help="steps between lines of metrics.jsonl", minimum=1)
    checkpoint_every: int = option(500, help="steps between checkpoints; 0 for none", minimum=0)
    keep_best: bool = option(False, help="keep the weights of the best validation")
    amp: bool = option(False, help="automatic mixed precision")

    def __post_init__(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas lie in [0, 1), got {list(self.betas)}")


@dataclass(frozen=True)
class SampleOptions:
    """How many samples are drawn."""

    count: int = option(256, help="samples to draw", minimum=0)
    chunk: int = option(1024, help="samples drawn at once", minimum=1)


@dataclass(frozen=True)
class Config:
    """A resolved config: components bound, values checked, nothing of it imported that is heavy.

    Example:
        >>> config = Config(seed=3)
        >>> config.train.steps, config.slots["path"]
        (2000, None)
    """

    title: str | None = option(None, help="one line on what the run is")
    description: str | None = option(None, help="as much as there is to say")
    seed: int = option(0, help="from which all randomness follows", minimum=0)
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, ...")
    precision: Literal["float32", "float64"] = option(
        "float32", help="of weights and states; train.amp is for bfloat16 arithmetic"
    )
    threads: int | None = option(None, help="CPU threads; null leaves torch's own", minimum=1)
    data: Bound | None = slot("data", None, help="what is learned")
    base: Bound | None = slot("law", None, help="where time starts")
    path: Bound | None = slot("path", None, help="from base to data")
    coupling: Bound | None = slot("coupling", None, help="which endpoints belong together")
    codec: Bound | None = slot("codec", None, help="between data and states")
    network: Bound | None = slot("network", None, help="the function that is learned")
    predict: str | None = option(None, help="what the network is asked for: velocity, score, ...")
    objective: Bound | None = slot("objective", None, help="the loss")
    train: TrainOptions = option(factory=TrainOptions)
    dynamics: Bound | None = slot("dynamics", None, help="which generator is simulated")
    sampler: Bound | None = slot("sampler", None, help="how it is integrated")
    likelihood: Bound | None = slot("likelihood", None, help="how data are scored")
    guidance: Bound | None = slot("guidance", None, help="how predictions are steered")
    transforms: tuple[Bound, ...] = slot("transform", (), help="between two steps of the sampler")
    sample: SampleOptions = option(factory=SampleOptions)
    evaluate: tuple[Bound, ...] = slot("evaluation", (), help="what is measured")
    stages: tuple[Bound, ...] = slot(
        "stage", ("train", "sample", "evaluate", "report"), help="what is done, in this order"
    )

    @property
    def slots(self) -> Mapping[str, Any]:
        """The slots by name: a ``Bound``, None where empty, or a tuple where there are several."""
        return {name: getattr(self, name) for name in SLOTS}

    def require(self, name: str, why: str = "") -> Bound:
        """The component in a slot that a run cannot do without.

        Args:
            name: the slot.
            why: who needs it, for the message.

        Raises:
            ConfigError: the slot is empty.
        """
        found = getattr(self, name)
        if found is None:
            from genpath.plugins.discovery import registry

            known = ", ".join(registry().names(SLOTS[name])) or "none"
            raise ConfigError(
                name,
                f"{why or 'this run'} needs {article(SLOTS[name])}.",
                got="null",
                fix=f"write {name}: NAME in the config; known: {known}",
            )
        assert isinstance(found, Bound)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, defaults included, in the order of the schema."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}

    def to_yaml(self) -> str:
        """The fully resolved config as YAML: defaults included, the same text for the same config.

        It holds nothing of the environment, and reads back as the same config.
        """
        from genpath.config.yaml_text import dump

        return dump(self.to_dict())

    def digest(self) -> str:
        """The SHA-256 of the resolved form, in hexadecimal."""
        import hashlib
        import json

        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_yaml(
        cls, source: str | Path, overrides: tuple[str, ...] | list[str] = (), *,
        registry: Registry | None = None,
    ) -> Config:  # fmt: skip
        """Read a config from YAML text, or from a file where ``source`` is a ``Path``.

        Raises:
            ConfigError: with all problems of the config.
        """
        from genpath.config.load import load_config, read_config

        if isinstance(source, Path):
            return load_config(source, overrides, registry=registry)
        return read_config(source, overrides, registry=registry)


SLOTS: Mapping[str, str] = {
    field.name: field.metadata[COMPONENT] for field in fields(Config) if COMPONENT in field.metadata
}
"""The component slots of a config, and the kind of each."""
