"""Single cells over time: leave one time out, predict it, measure W1 to the cells left out.

    GENPATH_DATA=DIR python -m benchmarks.studies.singlecell [--fast]

For each inner time k of a data set, a `MultiTimePath` is trained on all other snapshots; cells of
time k − 1 are carried to the time k and compared with the cells of time k by the exact
1-Wasserstein distance (Euclidean, in the file's own units). Beside every number stands what it can
mean at best and at worst: the distance between two disjoint subsamples of the left-out snapshot of
the same size (the floor), and that of the snapshot before, not moved at all. One more row moves no
network: cells of the two neighbours, paired by optimal transport and interpolated linearly.

Nothing is tuned on the left-out cells: architecture, training and ε are the same for all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import platform
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genpath import ODE, SDE, Euler, Model, RungeKutta
from genpath.networks import MLP
from genpath.objectives import Regression, stratified_times
from genpath.tableaus import HEUN
from genpath_interpolants.couplings import optimal_permutation
from genpath_interpolants.snapshots import MultiTimePath, Snapshots, push, snapshot_coupling

RESULTS = Path(__file__).resolve().parents[1] / "results" / "studies"
DATA = ("emt", "mouse_hematopoiesis")
CELLS, PLAN_ROWS = 1000, 1000
INTERPOLATED = "OT pairs of the neighbours, interpolated"
NETWORK = {"width": 96, "depth": 2}
TRAIN = {"steps": 1500, "batch": 256, "lr": 2e-3}
STEPS = 100  # of the solver, per unit of t: two network calls each for Heun, one for Euler
METHODS: dict[str, dict[str, Any]] = {
    "independent, γ = 0": {"pairing": "independent", "a": 0.0, "run": ("ode",)},
    "minibatch OT (128), γ = 0": {"pairing": "optimal_transport", "a": 0.0, "run": ("ode",)},
    "Schrödinger bridge, ε = 0.02": {"pairing": "entropic", "a": 0.04, "run": ("ode", "sde")},
    "Schrödinger bridge, ε = 0.1": {"pairing": "entropic", "a": 0.2, "run": ("ode", "sde")},
    "independent, γ² = 0.2 h s(1−s)": {"pairing": "independent", "a": 0.2, "run": ("ode", "sde")},
}


def load(name: str) -> Snapshots:
    """The snapshots of a file, in its own units."""
    path = Path(os.environ["GENPATH_DATA"]) / "singlecell" / f"{name}.csv.gz"
    with gzip.open(path, "rt") as file:
        table = torch.tensor(np.loadtxt(file, delimiter=",", skiprows=1))
    return Snapshots.of(table[:, 1:], table[:, 0])


def distance(x: Tensor, y: Tensor) -> float:
    """The exact 1-Wasserstein distance between two samples."""
    import ot

    cost = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")
    weights = [np.full(len(s), 1 / len(s)) for s in (x, y)]
    return float(ot.emd2(*weights, cost.numpy(), numItermax=1_000_000))


def shuffled(x: Tensor, rng: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=rng)]


def fit(snapshots: Snapshots, method: dict[str, Any], seed: int, fast: bool) -> Model:
    """A model of the path through the snapshots, trained."""
    rng = torch.Generator().manual_seed(seed)
    path = MultiTimePath(snapshots.space, snapshots.knots(), method["a"])
    coupling = snapshot_coupling(
        snapshots,
        method["pairing"],
        eps=method["a"] / 2 if method["a"] else None,
        **({"tolerance": 1e-4} if method["pairing"] == "entropic" else {}),
    )
    predict = "interpolant_velocity+noise" if method["a"] else "velocity"
    torch.manual_seed(seed)
    size = snapshots.states[0].shape[1]
    network = MLP(size, path.predictions[predict].output_shape, **NETWORK)
    model, objective = Model(network, path, snapshots.base, predict), Regression()
    steps = 20 if fast else int(TRAIN["steps"])
    optimizer = torch.optim.Adam(network.parameters(), lr=TRAIN["lr"], fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        t = stratified_times(int(TRAIN["batch"]), rng)
        loss = objective(model, coupling.pairs(len(t), rng), t, rng).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    return model


def interpolated(before: Tensor, after: Tensor, share: float) -> Tensor:
    """Displacement interpolation of as many cells of the two neighbours: no network."""
    return before + share * (after[optimal_permutation(before, after)] - before)


def study(name: str, seed: int, fast: bool) -> list[dict[str, Any]]:
    """All numbers of a data set for one seed."""
    raw, rows = load(name), []
    for left_out in range(1, len(raw.times) - 1):
        rng = torch.Generator().manual_seed(1000 * seed + left_out)
        kept = raw.without(left_out)
        pooled = torch.cat(kept.states)
        mean, std = pooled.mean(0), pooled.std(0)
        states = [((x - mean) / std).float() for x in kept.states]
        held = shuffled(raw.states[left_out], rng)
        before, after = (shuffled(x, rng) for x in states[left_out - 1 : left_out + 1])
        count = min(CELLS, len(held) // 2, len(before), len(after))
        held, again = held[:count], held[count : 2 * count]
        start, end = kept.clock(raw.times[left_out - 1]), kept.clock(raw.times[left_out])
        stop = kept.clock(raw.times[left_out + 1])
        cells = before[:count]
        here = {"data": name, "left_out": left_out, "cells": count, "seed": seed}

        def add(
            method: str, found: Tensor, seconds: float = 0.0, raw_units: bool = False,
            held: Tensor = held, here: dict[str, Any] = here,
            mean: Tensor = mean, std: Tensor = std,
        ) -> None:  # fmt: skip
            x = found if raw_units else found.double() * std + mean
            row = {**here, "method": method, "w1": distance(x, held), "seconds": seconds}
            rows.append(row)
            print(f"{name} t{here['left_out']} seed {seed}  {row['w1']:.4f}  {method}", flush=True)

        add("floor: other cells of the left-out time", again, raw_units=True)
        add("the snapshot before, not moved", cells)
        share = (end - start) / (stop - start)
        add(INTERPOLATED, interpolated(cells, after[:count], share))
        # plans of whole snapshots: subsampled where they are large
        small = Snapshots(tuple(shuffled(x, rng)[:PLAN_ROWS] for x in states), kept.times)
        full = Snapshots(tuple(states), kept.times)
        for method, options in METHODS.items():
            clock = time.process_time()
            source = small if options["pairing"] == "entropic" else full
            model = fit(source, options, seed, fast)
            seconds = time.process_time() - clock
            for run in options["run"]:
                dynamics = ODE() if run == "ode" else SDE(eps=options["a"] / 2)
                sampler = RungeKutta(HEUN) if run == "ode" else Euler()
                found = push(model, dynamics, sampler, cells, start, end, rng, steps=STEPS)
                add(f"{method}; {run.upper()}", found, seconds)
    return rows


def summary(
    rows: list[dict[str, Any]],
) -> tuple[list[str], dict[str, dict[str, tuple[float, ...]]]]:
    """Columns, and method → column → mean and standard deviation over seeds."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        values[row["method"]][f"{row['data']} t{row['left_out']}"].append(row["w1"])
    columns = list(dict.fromkeys(column for found in values.values() for column in found))
    table = {
        method: {column: (float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else math.nan)
                 for column, v in found.items()}
        for method, found in values.items()
    }  # fmt: skip
    return columns, table


def reading(columns: list[str], table: Table) -> str:
    """What the table says, in one sentence: the best trained row beside the one without network."""
    plain, trained = table[INTERPOLATED], [m for m in table if ";" in m]
    said = []
    for column in columns:
        best = min(trained, key=lambda method: table[method][column][0])
        gap = table[best][column][0] - plain[column][0]
        spread = math.hypot(table[best][column][1], plain[column][1])
        said.append(f"{column}: {best}, {gap:+.4f} (both deviations together {spread:.4f})")
    return "Best trained row, and how far it is above the row without a network. " + ". ".join(said)


def markdown(report: dict[str, Any]) -> str:
    """The table, with how it was made."""
    columns, table = report["columns"], report["table"]
    cells = {f"{r['data']} t{r['left_out']}": r["cells"] for r in report["rows"]}
    lines = ["# Single cells: leave one time out", "", *(f"- {n}" for n in report["notes"]), ""]
    lines.append("| W1, mean ± std over seeds | " + " | ".join(columns) + " |")
    lines.append("|---|" + "---:|" * len(columns))
    for method, found in table.items():
        numbers = (f"{found[c][0]:.4f} ± {found[c][1]:.4f}" if c in found else "" for c in columns)
        lines.append(f"| {method} | " + " | ".join(numbers) + " |")
    lines.append("| cells compared | " + " | ".join(str(cells[c]) for c in columns) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--fast", action="store_true", help="20 steps, one seed: does it run?")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, rows = time.process_time(), list[dict[str, Any]]()
    for seed in range(1 if options.fast else options.seeds):
        for name in DATA:
            rows += study(name, seed, options.fast)
    columns, table = summary(rows)
    minutes = (time.process_time() - began) / 60
    notes = [
        f"Exact W1 (Euclidean, the file's own units) between predicted and left-out cells; "
        f"{len({r['seed'] for r in rows})} seeds (network, training, and which cells).",
        "Training and plans on coordinates standardised by mean and deviation of the snapshots "
        "that are kept; time scaled to [0, 1]; ε and γ² are in these units. An entropic plan is "
        f"that of at most {PLAN_ROWS} cells of each snapshot.",
        f"MLP {NETWORK['width']} × {NETWORK['depth']}, {TRAIN['steps']} steps of Adam with batch "
        f"{TRAIN['batch']}; Heun (ODE) or Euler–Maruyama (SDE), {STEPS} steps per unit of time. "
        f"{minutes:.1f} minutes of one thread in all.",
        "Populations grow or shrink between the snapshots; no method here models that.",
        reading(columns, table) + ".",
    ]
    report = {
        "study": "singlecell",
        "notes": notes,
        "settings": {"network": NETWORK, "train": TRAIN, "steps": STEPS, "methods": METHODS},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "columns": columns,
        "table": table,
        "rows": rows,
    }
    print(markdown(report))
    if not options.fast:
        RESULTS.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=1, ensure_ascii=False)
        (RESULTS / "singlecell.json").write_text(text + "\n", encoding="utf-8")
        (RESULTS / "singlecell.md").write_text(markdown(report), encoding="utf-8")


if __name__ == "__main__":
    main()
