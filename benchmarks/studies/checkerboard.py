"""A composition across three schedules: p(X|A) p(X, Y|B)/p(X) on a checkerboard.

    python -m benchmarks.studies.checkerboard [--fast]

Three experts with three noise levels (cosine, DDPM-linear, linear) and exponents 1, 1, −1 are to
give p(X, Y|A, B) (the setting of arXiv 2512.10339; laws in `benchmarks.studies._checkerboard`).
With constant exponents C_X(t) = 1/α_1² + 1/α_2² − 1/α_3² is negative from t = 0.36 on: from there
to the end there is no law to follow. A bump on the first exponent,

    γ_1(t) = 1 + B1 t(1 − t) + B2 min(t, τ(1 − t))

repairs it. So does alignment: the three experts run on one schedule, by a clock and a scale each,
with constant exponents (`genpath_compose.alignment`). Fields are exact, or of small trained
networks; a cloud of weighted particles is compared with fresh draws of the target, and both with
what two fresh draws show (the floor).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath import Euclidean, Gaussian, Model
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.noises import MatrixFreeNoise
from genpath.schedules import AffineSchedule
from genpath_compose.alignment import align
from genpath_compose.bumps import bump, ramp
from genpath_compose.certificates import certify
from genpath_compose.compositions import Composition
from genpath_compose.distances import floor, mmd, total_variation, wasserstein1, wasserstein2
from genpath_compose.dynamics import LOG_DENSITY, Composed, X
from genpath_compose.experts import Expert
from genpath_compose.exponents import Exponent
from genpath_compose.fitting import fit_bump
from genpath_compose.model_experts import ModelExpert
from genpath_compose.normals import Normal
from genpath_compose.precisions import EffectivePrecision
from genpath_compose.smc import Particles, Resample, run_particles
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

from ._checkerboard import ON_A, ON_B, ON_X, ddpm_schedule, experts, target
from ._regions import Region
from ._training import KEPT, RESULTS, Job, Store, trained

SIGMA, END, SHARE = 0.5, 0.99, 0.7
B1, B2, TAU = 10.0, 1.5, 100.0
SEEDS = 5
WIDTHS = (0.5, 1.0, 2.0)
"""Bandwidths of MMD."""

EDGES = [torch.linspace(-4, 4, 17, dtype=torch.float64)] * 2
TARGET = target()
NUMBERS = ("W1", "W2", "MMD²", "TV")
PUBLISHED = {"no resampling": 0.89, "constant": 1.37, "bumped": 0.20}


# -- compositions ----------------------------------------------------------------------------------


def composed(parts: Sequence[Expert], first: Exponent) -> Composition:
    """Experts on X, (X, Y) and X with exponents γ_1, 1 and −1."""
    a, b, x = parts
    return a.on(0) ** first * b.on(0, 1) / x.on(0)


def bumped(tau: float = TAU) -> Exponent:
    """γ_1 = 1 + B1 t(1 − t) + B2 min(t, τ(1 − t))."""
    return Exponent(1.0) + bump(B1, B2, tau, sharpness=math.inf)


def smallest(parts: Sequence[Expert]) -> Exponent:
    """The least ramp of the same τ for which C ≥ 0.1 everywhere."""
    shape = ramp(TAU, sharpness=math.inf)
    found = fit_bump(composed(parts, Exponent(1.0)), 0, shape, margin=0.1, t_end=END)
    return Exponent(1.0) + found.exponent


class WithoutIto(Composed):
    """A fault, for comparison: tracked log-densities as if particles moved along v* alone."""

    def _gains(self, t: Any, x: Any, flow: Any, push: Any, values: Any) -> Tensor:
        return super()._gains(t, x, flow, None, values)

    def _noise(self, t: Any, x: Any, values: Any) -> MatrixFreeNoise:
        def along(noise: Any) -> dict[str, Tensor]:
            z = noise[X]
            return {X: SIGMA * z, LOG_DENSITY: z.new_zeros(len(z), len(self.tracked))}

        return MatrixFreeNoise(along, (X,), uniform=True)


# -- runs ------------------------------------------------------------------------------------------


def run(
    composition: Composition,
    seed: int,
    sizes: dict[str, int],
    resample: Resample,
    kind: type[Composed] = Composed,
    track: Any = "auto",
) -> Particles:
    """Weighted particles at t = END."""
    rng = torch.Generator().manual_seed(seed)
    law, _ = composition.start()
    x = Normal(law.mean, law.precision, torch.float64).sample(sizes["particles"], rng)
    dynamics = kind(composition, SIGMA, track=track)
    gen: MarkovGenerator = dynamics.generator()
    grid = TimeGrid.uniform(sizes["steps"], 0.0, END)
    with torch.no_grad():
        return run_particles(gen, dynamics.state(x, 0.0, rng), grid, rng, resample=resample)


def cells() -> Tensor:
    """The exact probabilities of the cells: each is inside, outside or cut in half."""
    count = 20
    step = 8 / (16 * count)
    total = torch.zeros(16, 16, dtype=torch.float64)
    for shift in (0.25, 0.75):  # no point lies on the line x + y = 0; the two errors cancel
        x = -4 + step * (torch.arange(16 * count, dtype=torch.float64) + shift)
        y = -4 + step * (torch.arange(16 * count, dtype=torch.float64) + 0.5)
        inside = TARGET.contains(torch.cartesian_prod(x, y)).double()
        total += inside.reshape(16, count, 16, count).mean((1, 3)) / 2
    return total * 0.25 / TARGET.area


def compared(x: Tensor, weights: Tensor | None, count: int, seed: int) -> dict[str, float]:
    """W1, W2, MMD² and TV to the target: the first three by ``count`` rows on both sides."""
    rng = torch.Generator().manual_seed(7000 + seed)
    share = torch.ones(len(x), dtype=torch.float64) if weights is None else weights
    rows = x[torch.multinomial(share, count, replacement=weights is not None, generator=rng)]
    fresh = TARGET.sample(count, rng)
    return {
        "W1": wasserstein1(rows, fresh),
        "W2": wasserstein2(rows, fresh),
        "MMD²": mmd(rows, fresh, bandwidths=WIDTHS),
        "TV": total_variation(x, None, EDGES, weights, reference=cells()),
        "outside": float(share @ (~TARGET.contains(x)).double() / share.sum()),
        "far": float(share @ (x.abs().amax(1) > 4.5).double() / share.sum()),
    }


def measured(
    name: str,
    composition: Composition,
    seed: int,
    sizes: dict[str, int],
    resample: Resample,
    weighted: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """One run, its distances, and what is known of its weights."""
    found = run(composition, seed, sizes, resample, **more)
    x, weights = found.state[X], found.weights()
    KEPT.mkdir(parents=True, exist_ok=True)
    if seed == 0:
        rng = torch.Generator().manual_seed(1)
        kept = found.draw(min(4000, len(x)), rng)[X] if weighted else x[:4000]
        torch.save(kept, KEPT / f"{name}-{sizes['particles']}.pt")
    return {
        **compared(x, weights if weighted else None, sizes["rows"], seed),
        "final ess": float(found.effective) / len(x),
        "least ess": float(found.ess.min()) / len(x),
        "resamplings": len(found.resampled),
        "lineages": found.lineages(),
        "log Z": float(found.log_normaliser),
    }


def floors(sizes: dict[str, int], blur: float = 0.0) -> dict[str, Any]:
    """The same distances between two fresh draws, the first blurred as the target is at t = END."""
    rng, found = torch.Generator().manual_seed(99), dict[str, Any]()

    def noisy(x: Tensor) -> Tensor:
        return x + blur * torch.randn(x.shape, generator=rng, dtype=x.dtype)

    distances: dict[str, Callable[[Tensor, Tensor], float]] = {
        "W1": wasserstein1,
        "W2": wasserstein2,
        "MMD²": partial(mmd, bandwidths=WIDTHS),
    }
    for name, distance in distances.items():
        values = floor(
            TARGET.sample, lambda x, y, d=distance: d(noisy(x), y), sizes["rows"], rng, repeats=5
        )
        found[name], found[f"{name} std"] = float(values.mean()), float(values.std())
    exact = cells()
    values = torch.tensor([
        total_variation(
            noisy(TARGET.sample(sizes["particles"], rng)), None, EDGES, reference=exact
        )
        for _ in range(5)
    ])  # fmt: skip
    found["TV"], found["TV std"] = float(values.mean()), float(values.std())
    return found


# -- trained experts -------------------------------------------------------------------------------


def learned(sizes: dict[str, int]) -> tuple[ModelExpert, ...]:
    """Three networks of 3 × 128 for the velocities of the same experts."""
    made: list[tuple[str, Region, AffineSchedule]] = [
        ("p(X|A)", ON_A, trigonometric_schedule()),
        ("p(X,Y|B)", ON_B, ddpm_schedule()),
        ("p(X)", ON_X, linear_schedule()),
    ]
    found = []
    for index, (name, region, schedule) in enumerate(made):
        shape = region.event_shape
        path = LinearPath(Euclidean(*shape), schedule, base="gaussian")
        network = {"width": 128, "depth": 3}
        job = Job("velocity", network, steps=sizes["training"], rows=512, edge=1e-3)
        net, _ = trained(f"checkerboard-{index}", job, path, region)
        model = Model(net.double(), path, Gaussian(shape, dtype=torch.float64), "velocity")
        found.append(ModelExpert(model, name, support=region.contains))
    return tuple(found)


# -- the study -------------------------------------------------------------------------------------


def certificates(parts: Sequence[Expert]) -> dict[str, Any]:
    """min C of the exponents that are compared, and C at the end for several τ."""
    found: dict[str, Any] = {}
    last = torch.tensor([END], dtype=torch.float64)
    rows = {
        "constant": Exponent(1.0),
        "bumped": bumped(),
        "smallest": smallest(parts),
        **{f"τ = {tau:g}": bumped(tau) for tau in (10.0, 25.0, 50.0)},
    }
    all_of_them = {name: composed(parts, first) for name, first in rows.items()}
    all_of_them["aligned"] = align(all_of_them["constant"], trigonometric_schedule())
    for name, composition in all_of_them.items():
        first = composition.exponents[0]
        found[name] = {
            "words": certify(composition, t_end=END).words(),
            "C(t_end)": float(EffectivePrecision(composition)(last).lower.min()),
            "γ_1(t_end)": float(first(last)),
        }
    return found


def methods(parts: Sequence[Expert]) -> dict[str, tuple[Composition, Resample, bool]]:
    """Name → composition, resampling, and whether weights count."""
    rule = Resample(threshold=SHARE)
    constant = composed(parts, Exponent(1.0))
    return {
        "no resampling": (constant, Resample(when="never"), False),
        "constant": (constant, rule, True),
        "bumped": (composed(parts, bumped()), rule, True),
        "smallest": (composed(parts, smallest(parts)), rule, True),
        "aligned": (align(constant, trigonometric_schedule()), rule, True),
    }


def ablations(parts: Sequence[Expert]) -> dict[str, dict[str, Any]]:
    """Changes of the bumped run, one at a time."""
    composition, rule = composed(parts, bumped()), Resample(threshold=SHARE)
    base = {"composition": composition, "resample": rule}
    return {
        "log-densities tracked": {**base, "track": "ito"},
        "tracked without Itô terms": {**base, "track": "ito", "kind": WithoutIto},
        "resampled before 0.85 only": {
            **base, "resample": Resample(threshold=SHARE, window=(0.0, 0.85)),
        },
        "never resampled": {**base, "resample": Resample(when="never")},
        "weights dropped": {**base, "resample": Resample(when="never"), "weighted": False},
    }  # fmt: skip


def summary(store: Store, group: str, name: str) -> str:
    """A row of the table: mean ± standard deviation over seeds."""
    runs = [c for k, c in store.cells.items() if k.startswith(f"{group}|{name}|")]
    if not runs:
        return f"| {name} | | | | | | |"
    words = []
    for key in NUMBERS:
        values = torch.tensor([r[key] for r in runs], dtype=torch.float64)
        spread = f" ± {float(values.std()):.3f}" if len(values) > 1 else ""
        words.append(f"{float(values.mean()):.3f}{spread}")
    means = {k: sum(r[k] for r in runs) / len(runs) for k in ("far", "final ess", "lineages")}
    words += [f"{means['far']:.3f}", f"{means['final ess']:.2f}", f"{means['lineages']:.0f}"]
    return f"| {name} ({len(runs)}) | " + " | ".join(words) + " |"


def markdown(store: Store) -> str:
    """The report."""
    head = "| | W1 | W2 | MMD² | TV | beyond 4.5 | final ESS/n | lineages |"
    rule = "|---|" + "---:|" * 7
    lines = ["# The heterogeneous checkerboard", ""]
    lines += [*(f"- {note}" for note in store.found["notes"]), ""]
    lines += [
        "## Certificates",
        "",
        "| exponents | | C(t_end) | γ_1(t_end) |",
        "|---|---|---:|---:|",
    ]
    for name, row in store.found.get("certificates", {}).items():
        lines.append(
            f"| {name} | {row['words']} | {row['C(t_end)']:.1f} | {row['γ_1(t_end)']:.2f} |"
        )
    for group, title in {
        "exact": "Exact experts: mean ± standard deviation (runs)",
        "ablation": "Changes of the bumped run, exact experts",
        "trained": "Trained experts",
    }.items():
        lines += ["", f"## {title}", "", head, rule]
        names = dict.fromkeys(k.split("|")[1] for k in store.cells if k.startswith(f"{group}|"))
        lines += [summary(store, group, name) for name in names]
        size = "small" if group == "trained" else "large"
        for name in ("floor", "floor, blurred"):
            cell = store.cells.get(f"{name}|{size}")
            if cell:
                words = [f"{cell[k]:.3f} ± {cell[f'{k} std']:.3f}" for k in NUMBERS]
                lines.append(f"| {name} | " + " | ".join(words) + " | | | |")
    return "\n".join(lines) + "\n"


def picture(path: Any, panels: dict[str, Tensor]) -> None:
    """All clouds beside the target."""
    from matplotlib.figure import Figure

    columns = 4
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axis in axes:
        axis.axis("off")
    for axis, (title, x) in zip(axes, panels.items(), strict=False):
        axis.axis("on")
        axis.scatter(*x.numpy().T, s=0.6, color="black", linewidths=0)
        axis.set_title(title, fontsize=9)
        axis.set_xlim(-6, 6)
        axis.set_ylim(-6, 6)
        axis.set_aspect("equal")
        axis.set_xticks([-4, -2, 0, 2, 4])
        axis.set_yticks([-4, -2, 0, 2, 4])
    figure.savefig(path, dpi=70)


def kept(large: dict[str, int], small: dict[str, int]) -> dict[str, Tensor]:
    """The clouds of the first seed that are there."""
    panels = {"target": TARGET.sample(4000, torch.Generator().manual_seed(0))}
    for group, sizes in (("exact", large), ("trained", small), ("ablation", large)):
        for file in sorted(KEPT.glob(f"checkerboard-{group}-*-{sizes['particles']}.pt")):
            name = file.stem.removeprefix(f"checkerboard-{group}-").rsplit("-", 1)[0]
            panels[f"{group}: {name.replace('_', ' ')}"] = torch.load(file, weights_only=True)
    return panels


def series(store: Store, group: str, parts: Sequence[Expert], seed: int, sizes: Any) -> None:
    """One seed of every method."""
    for name, (composition, resample, weighted) in methods(parts).items():
        file = f"checkerboard-{group}-{name.replace(' ', '_')}"
        make = partial(measured, file, composition, seed, sizes, resample, weighted)
        store.cell(f"{group}|{name}|{seed}", make)


def variations(store: Store, parts: Sequence[Expert], seed: int, sizes: Any) -> None:
    """One seed of every ablation."""
    for name, options in ablations(parts).items():
        file = f"checkerboard-ablation-{name.replace(' ', '_')}"
        make = partial(measured, file, seed=seed, sizes=sizes, **options)
        store.cell(f"ablation|{name}|{seed}", make)


NOTES = [
    f"Experts: p(X|A) cosine, p(X, Y|B) DDPM-linear, p(X) linear; σ = {SIGMA}, t from 0 to {END}, "
    f"Euler, systematic resampling below an ESS of {SHARE} n, Σ γ v as transport. bumped: B1 = "
    f"{B1:g}, B2 = {B2:g}, τ = {TAU:g}. smallest: the least ramp of this τ with C ≥ 0.1.",
    "no resampling: constant exponents, the cloud taken without weights. aligned: constant "
    "exponents, all experts on the cosine schedule.",
    "W and MMD² from as many rows of the cloud as fresh rows of the target; TV from all weighted "
    "particles on 16 × 16 cells with exact probabilities. The floor is what perfect draws show; "
    "blurred: with the noise that the second expert still has at the end.",
    f"Published, with trained experts: W1 {PUBLISHED['no resampling']}, {PUBLISHED['constant']} "
    f"and {PUBLISHED['bumped']:.2f} for no resampling, constant and bumped exponents.",
    "γ_1(t_end) is not 1. Inside [0, 4], where p(X|A) is uniform, a power of it is the same law.",
    "Why exact experts fail with exponents that are certified: C > 0 says that h_t can be "
    "normalised, not where it is. The upper edges of p(X|A) and p(X) are at 4β_1 and 4β_3 < 4β_1 "
    "(cosine, linear), and beyond both of them h_t has its mode at X = Σ γ_i 4β_i/α_i² / C: 4.4 at "
    "t = 0.99, where log h_t is 78 above its value at (2.5, 1). Particles follow it to the edge.",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fast", action="store_true", help="few particles and steps: does it run?")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many of the large runs")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    large = {"particles": 10_000, "steps": 1000, "rows": 3000, "training": 4000}
    small = {"particles": 2000, "steps": 200, "rows": 1000, "training": 4000}
    seeds = options.seeds
    if options.fast:
        large = {"particles": 200, "steps": 20, "rows": 100, "training": 20}
        small, seeds = dict(large), 1
    name = "checkerboard_fast" if options.fast else "checkerboard"
    exact = experts()
    settings = {"large": large, "small": small, "bump": [B1, B2, TAU], "sigma": SIGMA, "end": END}
    store = Store(RESULTS / f"{name}.json", {"study": name, "notes": NOTES, "settings": settings})
    store.found["certificates"] = certificates(exact)
    report = RESULTS / f"{name}.md"
    blur = float(ddpm_schedule().alpha(torch.tensor([END], dtype=torch.float64)))
    for size, sizes in (("large", large), ("small", small)):
        store.cell(f"floor|{size}", partial(floors, sizes))
        store.cell(f"floor, blurred|{size}", partial(floors, sizes, blur))
    for seed in range(seeds):
        series(store, "exact", exact, seed, large)
        report.write_text(markdown(store), encoding="utf-8")
    networks = learned(small)
    for seed in range(1 if options.fast else SEEDS):
        series(store, "trained", networks, seed, small)
    variations(store, exact, 0, large)
    picture(RESULTS / f"{name}.png", kept(large, small))
    report.write_text(markdown(store), encoding="utf-8")
    print(markdown(store))


if __name__ == "__main__":
    main()
