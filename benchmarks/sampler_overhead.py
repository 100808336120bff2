"""The cost of the sampler beside its network: N steps against N bare calls of the same network.

An MLP of 4 hidden layers of 256, batch 4096, one thread, float32. Ours and the bare loop are timed
in turns, in CPU time of the process, so that neither a slow minute nor another process favours one;
the ratio of medians is printed, with the quartiles of the ratios. The last rows are the sampler's
own work per step, with a field that costs nothing.

    python benchmarks/sampler_overhead.py [--steps 20] [--repeats 15]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from genpath import AdamsBashforth, Euclidean, Euler, RungeKutta, Sampler, TimeGrid, flow, integrate
from genpath.memory import keep_freed_blocks
from genpath.tableaus import HEUN, RK4


def network(width: int = 256, depth: int = 4, dimension: int = 2) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(dimension + 1, width), nn.SiLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(width, dimension))


def timed(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def compare(name: str, sampler: Sampler, steps: int, repeats: int, batch: int) -> dict[str, object]:
    torch.manual_seed(0)
    net, calls = network(), 0
    x = torch.randn(batch, 2)

    def field(t: Tensor, state: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        result: Tensor = net(torch.cat([state, t[:, None]], 1))
        return result

    gen, grid, rng = flow(Euclidean(2), field), TimeGrid.uniform(steps), torch.Generator()
    times = torch.full((batch,), 0.5)

    def ours() -> None:
        integrate(sampler, gen, x, grid, rng)

    def bare() -> None:
        for _ in range(number):
            field(times, x)

    with torch.no_grad():
        ours()
        number, calls = calls, 0
        bare()
        pairs = [(timed(ours), timed(bare)) for _ in range(repeats)]
    ratios = [a / b for a, b in pairs]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "name": name,
        "network_calls": number,
        "genpath_ms": 1e3 * mine,
        "bare_ms": 1e3 * theirs,
        "ratio": mine / theirs,
        "ratio_quartiles": [quartiles[0], quartiles[2]],
    }


def own_work(sampler: Sampler, batch: int, steps: int = 1000) -> float:
    """Microseconds per step with a field that returns its state."""
    gen, x, rng = flow(Euclidean(2), lambda t, x: x), torch.randn(batch, 2), torch.Generator()
    grid = TimeGrid.uniform(steps)
    integrate(sampler, gen, x, grid, rng)
    return 1e6 * timed(lambda: integrate(sampler, gen, x, grid, rng)) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_blocks()  # both loops: a page fault more or less would hide what is measured
    samplers = {
        "euler": Euler(),
        "adams_bashforth": AdamsBashforth(),
        "heun": RungeKutta(HEUN),
        "rk4": RungeKutta(RK4),
    }
    rows = [
        compare(n, s, options.steps, options.repeats, options.batch) for n, s in samplers.items()
    ]
    print(
        f"{'sampler':<16} {'calls':>5} {'genpath ms':>11} {'bare ms':>9} {'ratio':>7}   quartiles"
    )
    for row in rows:
        low, high = row["ratio_quartiles"]  # type: ignore[misc]
        print(
            f"{row['name']:<16} {row['network_calls']:>5} {row['genpath_ms']:>11.1f} "
            f"{row['bare_ms']:>9.1f} {row['ratio']:>7.3f}   {low:.3f}–{high:.3f}"
        )
    for name, sampler in samplers.items():
        print(f"{name:<16} {own_work(sampler, options.batch):>7.0f} µs of its own per step")
    machine = {"python": platform.python_version(), "torch": torch.__version__, "threads": 1}
    print(", ".join(f"{k} {v}" for k, v in machine.items()))
    if options.out:
        options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
