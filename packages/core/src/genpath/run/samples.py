"""Samples: drawn from a run's model, and kept as NumPy arrays.

samples.npz holds one array per leaf of the state, in the data's units; a state that is one tensor
is called "samples". Arrays are read without pickle.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genpath.errors import RunError
from genpath.run.assembly import default_dtype
from genpath.run.files import guarded, write_bytes
from genpath.run.seeds import generator_for
from genpath.states import batch_size

if TYPE_CHECKING:
    from genpath.run.assembly import Assembly
    from genpath.run.progress import Display

__all__ = ["draw", "read_samples", "write_samples"]

_ONLY = "samples"


def draw(assembly: Assembly, count: int, seed: int, display: Display) -> Any:
    """``count`` samples, decoded, on the CPU; the same for the same seed, chunk and device.

    Args:
        assembly: with trained weights.
        count: how many.
        seed: from which all their randomness follows.
        display: where to say how far it is.
    """
    options, solver = assembly.config.sample, assembly.solver
    steps = max(1, -(-count // options.chunk)) * (len(solver.grid) - 1)
    with default_dtype(assembly.config), display.task("sample", steps) as task:
        done = 0

        def watch(index: int, t: float, carry: Any) -> None:
            nonlocal done
            done += 1
            task.update(done, f"{count} samples")

        rng = generator_for(seed, "sample", 0, assembly.device)
        return to_cpu(
            assembly.guided().sample(
                count,
                assembly.dynamics,
                solver.sampler,
                solver.grid,
                rng,
                chunk=options.chunk,
                transforms=assembly.transforms,
                callbacks=(watch,),
            )
        )


def to_cpu(state: Any) -> Any:
    """A state on the CPU, cut from any graph."""
    if isinstance(state, Tensor):
        return state.detach().cpu()
    return {name: leaf.detach().cpu() for name, leaf in state.items()}


def write_samples(path: Path, state: Any) -> None:
    """Write samples, atomically; the same samples give the same file."""
    leaves = {_ONLY: state} if isinstance(state, Tensor) else state
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: leaf.numpy() for name, leaf in leaves.items()}
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def read_samples(path: Path) -> Any:
    """Samples as `write_samples` wrote them.

    Raises:
        RunError: the file cannot be read, or is no .npz of arrays.
    """
    with guarded(path, "read"):
        try:
            with np.load(path, allow_pickle=False) as file:
                leaves = {name: torch.from_numpy(file[name]) for name in file.files}
        except (ValueError, EOFError) as error:
            raise RunError(
                str(path), "it holds arrays.", got=str(error), fix="sample again"
            ) from None
    state = leaves[_ONLY] if list(leaves) == [_ONLY] else leaves
    batch_size(state)
    return state
