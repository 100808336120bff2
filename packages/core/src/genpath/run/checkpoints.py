"""Checkpoints: weights in safetensors, with what they belong to; nothing in them is ever unpickled.

The metadata of a checkpoint hold the resolved config, the component of every slot with the
distribution and version that it came from, and the digest of the data. So loading can say which
distribution is missing before anything is built, and refuses weights that fit another data set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genpath.errors import CheckpointError, ConfigError, RunError
from genpath.run.files import guarded, write_bytes

if TYPE_CHECKING:
    from genpath.config import Config
    from genpath.config.bound import Bound
    from genpath.models import Model
    from genpath.run.assembly import Assembly

__all__ = [
    "CHECKPOINT",
    "TRAINING",
    "Checkpoint",
    "components_of",
    "load_model",
    "load_weights",
    "read_checkpoint",
    "stored_config",
    "write_checkpoint",
]

FORMAT, _KEY = "1", "genpath"
CHECKPOINT, TRAINING = "checkpoint.safetensors", "training.safetensors"
_MODEL, _EMA, _BEST = "model/", "ema/", "best/"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Args:
        path: the file.
        tensors: name → tensor.
        metadata: what genpath wrote beside them, decoded: "config", "components", …
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: Mapping[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with ``prefix``, without it."""
        return {n[len(prefix) :]: t for n, t in self.tensors.items() if n.startswith(prefix)}


def components_of(config: Config) -> dict[str, dict[str, Any]]:
    """Every component of a config by key path: kind, name, options, distribution and version."""
    found: dict[str, dict[str, Any]] = {}
    for slot, value in config.slots.items():
        for bound in value if isinstance(value, (tuple, list)) else [value]:
            if bound is not None:
                for node in _nodes(bound):
                    component = node.component
                    options = {k: v for k, v in node.to_dict().items() if k != "name"}
                    found[node.node or slot] = {
                        "kind": component.kind,
                        "name": component.name,
                        "options": options,
                        "distribution": component.distribution,
                        "version": component.version,
                    }
    return found


def _nodes(bound: Bound) -> Iterator[Bound]:
    """A bound component and those nested in its options."""
    from genpath.config.bound import Bound as BoundType

    yield bound
    waiting = list(vars(bound.options).values()) if bound.options is not None else []
    while waiting:
        value = waiting.pop()
        if isinstance(value, BoundType):
            yield from _nodes(value)
        elif isinstance(value, (tuple, list)):
            waiting.extend(value)
        elif isinstance(value, Mapping):
            waiting.extend(value.values())


def write_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], config: Config, **more: Any
) -> None:
    """Write a checkpoint, atomically.

    Args:
        path: the file.
        tensors: name → tensor, on any device.
        config: the run's config.
        more: further metadata, plain values.

    Raises:
        RunError: it cannot be written; the old file, if any, is as it was.
    """
    from safetensors.torch import save

    components = components_of(config)
    metadata = {
        "format": FORMAT,
        "config": config.to_yaml(),
        "config_digest": config.digest(),
        "components": components,
        "distributions": {
            c["distribution"]: c["version"] for c in components.values() if c["distribution"]
        },
        **more,
    }
    # clones: safetensors refuses tensors that share memory, such as tied weights
    plain = {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}
    # one key: safetensors keeps several in no particular order, and equal runs write equal files
    write_bytes(path, save(plain, metadata={_KEY: json.dumps(metadata)}))


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint file.

    Raises:
        RunError: the file cannot be read.
        CheckpointError: it is damaged, or is none of genpath's.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    with guarded(path, "read"):
        path.open("rb").close()
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        fix = "take another checkpoint; genpath itself never leaves a half-written one"
        raise CheckpointError(
            str(path), "it is a whole safetensors file.", got=str(error), fix=fix
        ) from None
    decoded = json.loads(metadata.get(_KEY, "{}"))
    if decoded.get("format") != FORMAT:
        got = f"format {decoded.get('format')!r}" if decoded else "no metadata of genpath"
        fix = "upgrade genpath" if decoded else "give a file that a run wrote"
        raise CheckpointError(
            str(path), f"it is a genpath checkpoint of format {FORMAT}.", got=got, fix=fix
        )
    return Checkpoint(path, tensors, decoded)


def check_installed(components: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Whether every component is known here.

    Raises:
        CheckpointError: one is not; distribution and version are named.
    """
    from genpath.plugins import registry

    known = registry()
    missing = [(key, c) for key, c in components.items() if c["name"] not in known.names(c["kind"])]
    if missing:
        wanted = {c["distribution"]: c["version"] for _, c in missing}
        got = "; ".join(
            f"{key}: {c['kind']} {c['name']!r} of {c['distribution']} {c['version']}"
            + _here(c["distribution"])
            for key, c in missing
        )
        install = " ".join(f'"{d}=={v}"' for d, v in wanted.items())
        raise CheckpointError(
            where, "every component is installed.", got=got, fix=f"pip install {install}"
        )


def _here(distribution: str) -> str:
    try:
        return f" (version {version(distribution)} is installed and does not have it)"
    except PackageNotFoundError:
        return ", which is not installed"


def stored_config(text: str, components: Mapping[str, Mapping[str, Any]], where: str) -> Config:
    """The config of a checkpoint, with the components that are installed now.

    Raises:
        CheckpointError: a component is missing, or its options are not what they were.
    """
    from genpath.config.schema import Config as ConfigType

    check_installed(components, where)
    try:
        return ConfigType.from_yaml(text)
    except ConfigError as error:
        versions = ", ".join(
            sorted({f"{c['distribution']} {c['version']}" for c in components.values()})
        )
        fix = f"it was written with {versions}; install these versions"
        raise CheckpointError(where, "its options are known.", got=str(error), fix=fix) from error


def load_weights(assembly: Assembly, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    """Put weights into an assembly's network.

    Raises:
        CheckpointError: names or shapes differ, or the data set is another one.
    """
    digest = checkpoint.metadata.get("data_digest")
    if digest is not None and digest != assembly.data.digest():
        raise CheckpointError(
            str(checkpoint.path),
            f"the data set {assembly.data.name!r} is the one that it was trained on.",
            got="other rows, so that the codec may differ too",
            fix="install the version of the data's distribution that environment.json names",
        )
    try:
        assembly.network.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            str(checkpoint.path),
            "its weights fit the network.",
            got=" ".join(str(error).split()),
            fix="install the versions that environment.json names",
        ) from None


def model_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The weights to use: the best where they are kept, else averaged, else plain ones."""
    for prefix in (_BEST, _EMA, _MODEL):
        if found := checkpoint.under(prefix):
            return found
    raise CheckpointError(str(checkpoint.path), "it holds the weights of a model.", got="none")


def find_checkpoint(folder: Path) -> Path:
    """The checkpoint of a run folder: the final one, or the last one of a run that was stopped.

    Raises:
        RunError: there is none.
    """
    for name in (CHECKPOINT, TRAINING):
        if (folder / name).exists():
            return folder / name
    raise RunError(
        str(folder),
        "it holds a checkpoint.",
        got="none" if folder.is_dir() else "no such folder",
        fix="train first: genpath run CONFIG",
    )


def load_assembly(folder: str | Path, device: torch.device | str | None = None) -> Assembly:
    """What a run's config names, with the trained weights, in evaluation mode."""
    from genpath.run.assembly import assemble

    folder = Path(folder)
    checkpoint = read_checkpoint(folder if folder.is_file() else find_checkpoint(folder))
    metadata = checkpoint.metadata
    config = stored_config(metadata["config"], metadata["components"], str(checkpoint.path))
    assembly = assemble(config, device)
    load_weights(assembly, checkpoint, model_tensors(checkpoint))
    assembly.network.eval().requires_grad_(False)
    return assembly


def load_model(folder: str | Path, device: torch.device | str | None = None) -> Model:
    """The trained model of a run.

    Args:
        folder: a run folder, or a checkpoint file by itself.
        device: where to put it; by default as the config says.

    Returns:
        The model, in evaluation mode, with averaged weights where the run averages.

    Raises:
        RunError: there is no checkpoint.
        CheckpointError: a component's distribution is not installed, or the weights do not fit.
    """
    return load_assembly(folder, device).guided()
