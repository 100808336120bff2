"""Annealing of forty normal components with an exact score: what the corrector is worth.

    python -m benchmarks.studies.annealing [--fast]

The mixture: 40 components of equal weight, means uniform in [−40, 40]² from
``torch.manual_seed(0)``, scale softplus(1) = 1.3133. States are divided by 40. The expert is the
exact score on a variance-preserving path whose log-SNR is linear from −10 to 14. The target is q^β
at t = 1, β = 1/T, and the particles follow (Skreta et al. 2025, arXiv 2503.02819, section 4)

    target score     −f + β σ² s,            noise σ         (a = 0)
    tempered noise   −f + ½(1 + β) σ² s,     noise σ/√β      (a = ½)

    expert's flow    v + ½ β σ² s,           noise σ         (weight (1 − β) div v)

naively, with weights, with weights and systematic resampling, or with the jump corrector, which
kills and copies. The first two have one weight, (β−1) [div f + ½σ² β|s|²]; the third is that of
`genpath_compose.dynamics` for v* = v. All start from q_0^β = N(0, I/β).

Measured in the units of the means, beside the same distance between two exact draws: W2 of the
energies −log q, MMD² (unbiased, one bandwidth for all), TV on cells of 2 × 2, W1 and W2 of the
points, and TV of the shares of the 40 components.

Exact draws of q^β = (Σ_j w_j N_j)^β: rejection from Σ_j N_j^β, with
(Σ_j a_j)^β ≤ K^{β−1} Σ_j a_j^β for β ≥ 1, and ≤ Σ_j a_j^β for β ≤ 1.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from genpath import Euclidean, TimeGrid
from genpath.generators import MarkovGenerator
from genpath.schedules import Scalar
from genpath_compose.annealing import Annealed
from genpath_compose.distances import mmd, total_variation, wasserstein1, wasserstein2
from genpath_compose.dynamics import Composed, Follow
from genpath_compose.experts import ExactExpert
from genpath_compose.foreign import ForeignExpert
from genpath_compose.jump_corrector import JumpCorrector
from genpath_compose.normals import Normal
from genpath_compose.particles import Particles
from genpath_compose.presets import annealed
from genpath_compose.smc import Resample, run_particles
from genpath_compose.snr import SnrSchedule
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.paths import LinearPath

from ._training import RESULTS, Store

SCALE, STD, COUNT = 40.0, math.log1p(math.e), 40
LOW, HIGH = -10.0, 14.0
CAP = 0.25
"""The largest share of particles that die in a substep of the jump corrector."""
SPEEDS = {"target score": 0.0, "tempered noise": 0.5, "expert's flow": None}
WAYS = ("naive", "weights", "resampling", "jumps")
METRICS = ("energy W2", "MMD²", "TV", "W1", "W2", "shares TV")
FLOOR = "two exact draws"

Cloud = tuple[Tensor, Tensor | None]
"""Points in the units of the means, and weights; None for equal ones."""


def mixture(scale: float = 1.0) -> GaussianMixture:
    """The mixture, in units of ``scale``."""
    rng = torch.Generator().manual_seed(0)
    means = (torch.rand(COUNT, 2, generator=rng, dtype=torch.float32).double() - 0.5) * 2 * SCALE
    weights = torch.full((COUNT,), 1 / COUNT, dtype=torch.float64)
    stds = torch.full((COUNT,), STD, dtype=torch.float64)
    return GaussianMixture(weights, means / scale, stds / scale)


def oracle() -> tuple[SnrSchedule, MixtureMarginal]:
    """The path and the exact marginal of the mixture on it."""
    snr = Scalar(lambda t: LOW + (HIGH - LOW) * t, lambda t: torch.full_like(t, HIGH - LOW))
    schedule = SnrSchedule(snr)
    path = LinearPath(Euclidean(2), schedule.affine, base="gaussian")
    return schedule, MixtureMarginal(path, mixture(SCALE))


def motion(beta: float, a: float | None) -> tuple[MarkovGenerator, Normal]:
    """The weighted dynamics of q^β, and its start."""
    schedule, marginal = oracle()
    one = ForeignExpert(marginal.field("base_denoiser"), schedule, (2,), "mixture")
    if a is not None:
        corrector, form = Annealed(beta, a), one.diffusion()
        return corrector.generator([form]), corrector.start([form])[0]
    exact = ExactExpert(marginal, (2,), "mixture", start=one.start)  # div v in closed form
    composed = Composed(annealed(exact, beta), one.sigma, Follow(0))
    return composed.generator(), composed.composition.start()[0]


@cache
def exact_draws(beta: float, count: int, seed: int) -> Tensor:
    """Draws of the mixture's power β, by rejection."""
    rng = torch.Generator().manual_seed(seed)
    law, found, size = mixture(), list[Tensor](), 0
    cold = GaussianMixture(law.weights, law.means, law.stds / math.sqrt(beta))
    bound = (beta - 1) * math.log(COUNT) if beta >= 1 else 0.0
    while size < count:
        x = cold.sample(200_000, rng)
        square = (x**2).sum(1, keepdim=True) - 2 * x @ law.means.T + (law.means**2).sum(1)
        logits = -0.5 * square / STD**2
        ratio = beta * torch.logsumexp(logits, 1) - torch.logsumexp(beta * logits, 1) - bound
        u = torch.rand(len(x), generator=rng, dtype=torch.float64)
        found.append(x[u.log() < ratio])
        size += len(found[-1])
    return torch.cat(found)[:count]


@cache
def run(beta: float, a: float | None, way: str, seed: int, count: int, steps: int) -> Particles:
    """Particles at t = 1."""
    gen, law = motion(beta, a)
    rng = torch.Generator().manual_seed(100 + seed)
    return run_particles(
        gen,
        {"x": law.sample(count, rng).double()},
        TimeGrid.uniform(steps),
        rng,
        sampler=JumpCorrector(cap=CAP) if way == "jumps" else None,
        resample=Resample() if way == "resampling" else Resample(when="never"),
    )


def simulated(
    beta: float, a: float | None, way: str, seed: int, sizes: dict[str, int]
) -> tuple[Cloud, dict[str, float]]:
    """The cloud at t = 1 in the units of the means, and what is known of it."""
    moved = "weights" if way == "naive" else way  # one motion; the weights are dropped
    found = run(beta, a, moved, seed, sizes["particles"], sizes["steps"])
    points = SCALE * found.state["x"]
    if way == "naive":
        return (points, None), {}
    facts = {
        "ess": float(found.effective) / len(points),
        "resamplings": float(len(found.resampled)),
        "lineages": float(found.lineages()),
        "log Z": float(found.log_normaliser),
    }
    return (points, None if way == "jumps" else found.weights()), facts


# -- what is measured ------------------------------------------------------------------------------


def energy_distance(x: Cloud, y: Cloud) -> float:
    """W2 between the laws of −log q, by quantiles."""
    law, levels = mixture(), (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    curves = []
    for points, weights in (x, y):
        energy, order = (-law.log_prob(points)).sort()
        share = torch.full_like(energy, 1 / len(energy)) if weights is None else weights[order]
        index = torch.searchsorted(share.double().cumsum(0), levels).clamp_max(len(energy) - 1)
        curves.append(energy[index])
    return float((curves[0] - curves[1]).square().mean().sqrt())


def shares(x: Cloud) -> Tensor:
    """The share of each component: of the points that are nearest to it."""
    points, weights = x
    nearest = torch.cdist(points, mixture().means).argmin(1)
    unit = torch.full((len(points),), 1 / len(points), dtype=torch.float64)
    return unit.new_zeros(COUNT).index_add(
        0, nearest, unit if weights is None else weights.double()
    )


def thinned(x: Cloud, count: int) -> Cloud:
    """Fewer points for transport: the first ones where weights are equal, else drawn."""
    points, weights = x
    if weights is None:
        rng = torch.Generator().manual_seed(7)
        return points[torch.randperm(len(points), generator=rng)[:count]], None
    rng = torch.Generator().manual_seed(7)
    u = (torch.arange(count) + torch.rand(count, generator=rng)) / count
    index = torch.searchsorted(weights.double().cumsum(0), u.double()).clamp_max(len(points) - 1)
    return points[index], None


def distances(x: Cloud, y: Cloud, sizes: dict[str, int]) -> dict[str, float]:
    """All of them."""
    edges = [torch.linspace(-50, 50, 51, dtype=torch.float64)] * 2
    alone = x[1] is not None and float(x[1].max()) > 1 - 1e-9
    few, others = thinned(x, sizes["transport"])[0], thinned(y, sizes["transport"])[0]
    found = {
        "energy W2": energy_distance(x, y),
        "MMD²": math.nan if alone else mmd(x[0], y[0], x[1], y[1], bandwidths=[10.0]),
        "TV": total_variation(x[0], y[0], edges, x[1], y[1]),
        "W1": wasserstein1(few, others),
        "W2": wasserstein2(few, others),
        "shares TV": 0.5 * float((shares(x) - shares(y)).abs().sum()),
    }
    return {name: found[name] for name in METRICS}


def measured(beta: float, make: Callable[[], Any], seed: int, sizes: Any) -> dict[str, float]:
    """One run beside exact draws of its own."""
    cloud, facts = make()
    exact = exact_draws(beta, sizes["particles"], 900 + seed)
    return {**distances(cloud, (exact, None), sizes), **facts}


def fresh(beta: float, seed: int, sizes: Any) -> tuple[Cloud, dict[str, float]]:
    """Exact draws in place of a run."""
    return (exact_draws(beta, sizes["particles"], 500 + seed), None), {}


# -- the report ------------------------------------------------------------------------------------


def shown(cells: list[dict[str, float]], name: str) -> str:
    values = torch.tensor([cell[name] for cell in cells if name in cell], dtype=torch.float64)
    if not len(values):
        return ""
    spread = f" ± {float(values.std()):.2g}" if len(values) > 1 else ""
    return f"{float(values.mean()):.3g}{spread}"


def markdown(store: Store, betas: tuple[float, ...], seeds: int) -> str:
    """The report."""
    lines = ["# Annealing forty components", "", *(f"- {n}" for n in store.found["notes"]), ""]
    columns = (*METRICS, "ess", "lineages")
    for beta in betas:
        done = sum(f"{beta:g}|{FLOOR}|{seed}" in store.cells for seed in range(seeds))
        lines += [f"## β = {beta:g}: mean ± standard deviation over {done} seeds", ""]
        lines += ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
        rows = [FLOOR] + [f"{speed}, {way}" for speed in SPEEDS for way in WAYS]
        for row in rows:
            keys = [f"{beta:g}|{row}|{seed}" for seed in range(seeds)]
            cells = [store.cells[key] for key in keys if key in store.cells]
            lines.append(f"| {row} | " + " | ".join(shown(cells, n) for n in columns) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fast", action="store_true", help="few particles and steps: does it run?")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"particles": 10_000, "steps": 250, "transport": 2000}
    betas, seeds = (2.0, 3.0), 3
    if options.fast:
        sizes = {"particles": 300, "steps": 20, "transport": 200}
        betas, seeds = (2.0,), 1
    name = "annealing_fast" if options.fast else "annealing"
    notes = [
        f"{sizes['particles']} particles, {sizes['steps']} equal steps of Euler in [0, 1], exact "
        f"score in float64, log-SNR linear from {LOW:g} to {HIGH:g}; q^β for T = 1/β of the data's "
        "temperature 1.",
        "weights: those of the whole path; ess says what they are worth, and where that is a few "
        "points the unbiased MMD² means nothing.",
        f"W1 and W2 between {sizes['transport']} points of each cloud, all else between "
        f"{sizes['particles']}; MMD² with a normal kernel of width 10. The energy is −log q.",
        "Systematic resampling at an ESS below half. ess: of the weights that are carried at the "
        "end, as a share of the particles. lineages: how many of the first particles have "
        "descendants.",
    ]
    head = {"study": name, "notes": notes, "settings": {
        "sizes": sizes, "betas": betas, "seeds": seeds, "snr": [LOW, HIGH], "threads": 1,
    }}  # fmt: skip
    store = Store(RESULTS / f"{name}.json", head)
    with torch.no_grad():
        for seed in range(seeds):
            for beta in betas:
                make: Callable[[], Any] = partial(fresh, beta, seed, sizes)
                cell = partial(measured, beta, make, seed, sizes)
                store.cell(f"{beta:g}|{FLOOR}|{seed}", cell)
                for speed, a in SPEEDS.items():
                    for way in WAYS:
                        make = partial(simulated, beta, a, way, seed, sizes)
                        cell = partial(measured, beta, make, seed, sizes)
                        store.cell(f"{beta:g}|{speed}, {way}|{seed}", cell)
            (RESULTS / f"{name}.md").write_text(markdown(store, betas, seeds), encoding="utf-8")
    print(markdown(store, betas, seeds))


if __name__ == "__main__":
    main()
