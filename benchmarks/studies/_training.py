"""What the studies of learned models share: a small training loop, and a store of what was found.

Training: fresh draws of the law in every step, Adam, cosine decay, averaged weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genpath import Gaussian, Model
from genpath.couplings import Pairs
from genpath.laws import Law
from genpath.networks import MLP
from genpath.objectives import stratified_times
from genpath.paths import ProbabilityPath
from genpath_interpolants.objectives import Quadratic

__all__ = ["KEPT", "RESULTS", "Job", "OneTime", "Store", "trained"]

RESULTS = Path(__file__).resolve().parents[1] / "results" / "studies"
KEPT = Path(__file__).resolve().parents[2] / "runs" / "studies"
"""Where trained weights are kept, so that a study that was stopped goes on."""


@dataclass(frozen=True)
class Job:
    """How one network is trained.

    Args:
        predict: the quantity.
        network: options of `genpath.networks.MLP`.
        steps: of Adam; the rate falls from ``rate`` to 0 along a cosine, after a short rise.
        rows: points at which the network is evaluated in a step. An antithetic loss takes half as
            many draws and meets each twice, so that all jobs cost the same.
        rate: the largest learning rate.
        antithetic: see `Quadratic`.
        edge: times are uniform in [edge, 1 − edge].
        seed: of weights and draws.
    """

    predict: str
    network: dict[str, Any] = field(default_factory=dict)
    steps: int = 5000
    rows: int = 512
    rate: float = 2e-3
    antithetic: bool = False
    edge: float = 1e-3
    seed: int = 0


def trained(
    name: str, job: Job, path: ProbabilityPath, law: Law, device: str = "cpu"
) -> tuple[nn.Module, dict[str, Any]]:
    """The trained network and a record of it, from the store where it is there already.

    The averaged weights (decay 0.999) are returned, in evaluation mode.
    """
    key = hashlib.sha256(json.dumps(asdict(job), sort_keys=True).encode()).hexdigest()[:10]
    kept = KEPT / f"{name}-{key}.pt"
    network = _network(job, path).to(device)
    if kept.exists():
        stored = torch.load(kept, map_location=device, weights_only=True)
        network.load_state_dict(stored["weights"])
        return network.eval(), stored["record"]
    record = _fit(network, job, path, law, device)
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")
    torch.save({"weights": network.state_dict(), "record": record}, part)
    part.replace(kept)
    print(f"  trained {name}: {record['seconds']:.0f} s, loss {record['loss']:.4f}", flush=True)
    return network.eval(), record


def _network(job: Job, path: ProbabilityPath) -> nn.Module:
    torch.manual_seed(job.seed)
    shape = path.space.event_shape
    return MLP(math.prod(shape), path.predictions[job.predict].output_shape, **job.network)


def _fit(
    network: nn.Module, job: Job, path: ProbabilityPath, law: Law, device: str
) -> dict[str, Any]:
    base = Gaussian(path.space.event_shape)
    model = Model(network, path, base, job.predict)
    objective = Quadratic(antithetic=job.antithetic, t_min=job.edge, t_max=1 - job.edge)
    rng = torch.Generator(device).manual_seed(1000 + job.seed)
    draws = job.rows // 2 if job.antithetic else job.rows
    weights = list(network.parameters())
    averaged = [w.detach().clone() for w in weights]
    optimizer = torch.optim.Adam(weights, lr=job.rate, fused=True)
    rising = max(job.steps // 50, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda k: min((k + 1) / rising, 0.5 * (1 + math.cos(math.pi * k / job.steps))),
    )
    clock, wall, losses = time.process_time(), time.perf_counter(), list[Tensor]()
    for k in range(job.steps):
        x1 = law.sample(draws, rng).to(torch.float32)
        pairs = Pairs(base.sample(draws, rng), x1)
        loss = objective(model, pairs, stratified_times(draws, rng), rng).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        decay = min(0.999, (1 + k) / (10 + k))
        torch._foreach_lerp_(averaged, [w.detach() for w in weights], 1 - decay)
        if k >= job.steps - 500:
            losses.append(loss.detach())
    with torch.no_grad():
        for w, mean in zip(weights, averaged, strict=True):
            w.copy_(mean)
    return {
        "seconds": time.process_time() - clock,
        "wall": time.perf_counter() - wall,
        "loss": float(torch.stack(losses).mean()),
        "parameters": sum(w.numel() for w in weights),
        "threads": torch.get_num_threads(),
    }


class OneTime(nn.Module):
    """A network for batches whose rows all have one time: its embedding is made once.

    Args:
        network: an `MLP`, whose time features broadcast over the rows.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        found: Tensor = self.network(t[:1], state)
        return found


class Store:
    """The JSON file of a study, written after each cell: a study that was stopped goes on.

    Args:
        path: of the file.
        head: what the study is and how it was set up. A file with other settings is begun
            anew.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        head = json.loads(json.dumps(head))
        self.path = path
        self.found: dict[str, Any] = {**head, "versions": _versions(), "cells": {}}
        if path.exists():
            old = json.loads(path.read_text(encoding="utf-8"))
            if all(old.get(key) == head[key] for key in ("study", "settings")):
                self.found = {**old, **head}

    @property
    def cells(self) -> dict[str, dict[str, Any]]:
        """Cell → what was found in it."""
        found: dict[str, dict[str, Any]] = self.found["cells"]
        return found

    def cell(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The cell of this key, made and written where it is not there."""
        if key not in self.cells:
            clock = time.process_time()
            found = make()
            self.cells[key] = {**found, "seconds": round(time.process_time() - clock, 1)}
            self.save()
            words = ", ".join(f"{n} {v:.4g}" for n, v in found.items() if isinstance(v, float))
            print(f"  {key}: {words} ({self.cells[key]['seconds']:.0f} s)", flush=True)
        return self.cells[key]

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        text = json.dumps(self.found, indent=1, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(self.path)


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "python": platform.python_version()}
