"""Learned densities on the plane: {b, v} × {s, η}, three latents, with and without noise.

    python -m benchmarks.studies.planar [--fast]

Experiments E1 and E2 of the course (Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797,
section 7.1): base N(0, I), x_t = (1−t) x0 + t x1 + γ(t) z with γ of 0, √(t(1−t)) and t(1−t), to a
checkerboard and to a ring of eight normal components. One network is trained for each quantity; a
combination is a pair of them. For held-out x,

    E|log ρ1(x) − log ρ̂1(x)|, its variance, and KL(ρ1 ‖ ρ̂1) = E[log ρ1(x) − log ρ̂1(x)]

with ρ̂1 the law of the flow (ε = 0; log-density by an exact divergence) or of the SDE with noise ε.
The floor is the same number for the exact fields: 0 but for the solver.

For ε > 0 there are two estimators of ρ̂1(x), both means over paths from x back to t = 0. One is the
library's, by the auxiliary SDE with drift −(b + ε s) (Theorem 26 there): where s is steep it drives
paths apart, and few of them carry the mean. The other weighs paths of the model's own reverse SDE
(`benchmarks.studies._densities`).

At ε = 0 the flow needs b alone, so that (b, s) and (b, η) are one flow, and where γ = 0, v is b.
With γ = 0 and a normal base, s and E[x0|x] lead to b by themselves: these are two more rows.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from genpath import ODE, Euclidean, Gaussian, Model
from genpath.grids import TimeGrid
from genpath.likelihoods import tracked
from genpath.samplers import RungeKutta, integrate
from genpath.tableaus import RK4
from genpath_interpolants.auxiliary import forward_drift
from genpath_interpolants.boxes import BoxMarginal, checkerboard_boxes
from genpath_interpolants.data import Checkerboard, preset_means
from genpath_interpolants.distances import log_density_error
from genpath_interpolants.dynamics import DiffusiveSDE
from genpath_interpolants.likelihoods import SDELikelihood
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.networks import PairNetwork
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.presets import linear
from genpath_interpolants.samplers import StochasticHeun, cosine

from ._densities import reverse_log_prob
from ._training import RESULTS, Job, OneTime, Store, trained

PLANE, BASE = Euclidean(2), Gaussian((2,))
GAMMAS = {"0": "none", "√(t(1−t))": "sqrt", "t(1−t)": "quadratic"}
NOISY = "√(t(1−t))"
LAWS: dict[str, Any] = {
    "checkerboard": Checkerboard(4, 4.0, torch.float64),
    "mixture": GaussianMixture(
        torch.full((8,), 1 / 8, dtype=torch.float64),
        preset_means("ring", 8, 2.0, 2, 0),
        torch.full((8,), 0.25, dtype=torch.float64),
    ),
}
NETWORK: dict[str, Any] = {"width": 128, "depth": 3, "fourier": 32, "scales": [0.3]}
TRAIN: dict[str, Any] = {"steps": 4000, "rows": 512, "rate": 2e-3}
SYMMETRIC = ("velocity", "score")  # quantities whose target is infinite at the ends
COMBINATIONS = {
    "(b, s)": ("velocity", "score"),
    "(b, η)": ("velocity", "noise"),
    "(v, s)": ("interpolant_velocity", "score"),
    "(v, η)": ("interpolant_velocity", "noise"),
}
ALONE = {"b from s": "score", "b from the base denoiser": "base_denoiser"}
EXACT = "exact fields"
EPS = (0.5, 1.0, 2.5)
EDGE = 1e-3

Networks = dict[tuple[str, str], dict[str, nn.Module]]
"""(target, γ) → quantity → network."""


def path_of(gamma: str) -> LinearPath:
    """The path; a normal base is declared where no latent carries the score."""
    return linear(PLANE, GAMMAS[gamma], base="gaussian" if gamma == "0" else "any")


def oracle_of(target: str, gamma: str) -> Any:
    """The exact fields."""
    law = LAWS[target]
    if isinstance(law, Checkerboard):
        return BoxMarginal(path_of(gamma), checkerboard_boxes(law))
    return MixtureMarginal(path_of(gamma), law)


def quantities(gamma: str) -> tuple[str, ...]:
    """What networks are trained for."""
    if gamma == "0":
        return ("velocity", "base_denoiser", "score")
    return ("velocity", "interpolant_velocity", "score", "noise")


def job(predict: str, gamma: str, seed: int = 0) -> Job:
    """How the network of a quantity is trained."""
    symmetric = predict in SYMMETRIC and (gamma != "0" or predict == "score")
    return Job(predict, NETWORK, antithetic=symmetric, seed=seed, **TRAIN)


def model_of(predict: str, gamma: str, networks: dict[str, nn.Module]) -> Model:
    """The model of one network, or of two of them."""
    path, parts = path_of(gamma), [OneTime(networks[name]) for name in predict.split("+")]
    network: nn.Module = parts[0]
    if len(parts) == 2:
        network = PairNetwork(parts[0], parts[1], path.predictions[predict])
    return Model(network.eval(), path, BASE, predict)


def exact_model(target: str, gamma: str, predict: str = "velocity") -> Model:
    """The exact fields as a model, in float64."""
    field = oracle_of(target, gamma).field(predict)
    return Model(field, path_of(gamma), Gaussian((2,), dtype=torch.float64), predict)


# -- what is measured ------------------------------------------------------------------------------


@torch.no_grad()
def by_flow(model: Model, x: Tensor, steps: int, start: float = 0.0) -> Tensor:
    """log ρ̂1 of the flow: RK4 on a cosine grid from t = 1 to ``start``, exact divergence."""
    gen, grid = tracked(model.generator(ODE())), cosine(steps, start, 1.0).reversed()
    state = {"x": x, "log_density": x.new_zeros(len(x))}
    end = integrate(RungeKutta(RK4), gen, state, grid, torch.Generator()).state
    found: Tensor = BASE.log_prob(end["x"]) - end["log_density"]
    return found


def compared(log_p: Tensor, log_q: Tensor) -> dict[str, float]:
    """E|log ρ1 − log ρ̂1|, its variance, and KL, with standard errors."""
    found, gap = log_density_error(log_p.double(), log_q.double()), (log_p - log_q).double()
    return {
        "error": found.mean,
        "error se": found.standard_error,
        "variance": found.variance,
        "kl": float(gap.mean()),
        "kl se": float(gap.std()) / math.sqrt(len(gap)),
    }


def judged(log_p: Tensor, score: Callable[[], Tensor]) -> dict[str, float]:
    """`compared` for log-densities that are still to be found."""
    return compared(log_p, score())


@torch.no_grad()
def by_paths(model: Model, x: Tensor, log_p: Tensor, eps: float, sizes: Any) -> dict[str, float]:
    """The same for the SDE with noise ε, by paths of its auxiliary SDE."""
    estimate = SDELikelihood(eps, steps=sizes["sde steps"], paths=sizes["paths"])
    rng = torch.Generator().manual_seed(5)
    found = estimate.log_prob_forward(forward_drift(model, eps), x, BASE, rng)
    inner = found.standard_error.double()
    return {**compared(log_p, found.value), "inner": float(inner.square().mean().sqrt())}


@torch.no_grad()
def by_reverse_paths(
    model: Model, x: Tensor, log_p: Tensor, eps: float, sizes: Any
) -> dict[str, float]:
    """The same by paths of the reverse SDE, weighted step by step."""
    rng, times = torch.Generator().manual_seed(6), cosine(sizes["reverse steps"]).times
    value, inner = reverse_log_prob(model, BASE, x, eps, times, sizes["paths"], rng)
    return {**compared(log_p, value), "inner": float(inner.square().mean().sqrt())}


# -- the study -------------------------------------------------------------------------------------


def held_out(target: str, count: int) -> tuple[Tensor, Tensor]:
    """Fresh points and their exact log-densities."""
    law = LAWS[target]
    x = law.sample(count, torch.Generator().manual_seed(123))
    return x, law.log_prob(x)


def flows(store: Store, networks: Networks, sizes: dict[str, Any]) -> None:
    """ε = 0: the full table."""
    steps = sizes["steps"]
    for target in LAWS:
        x, log_p = held_out(target, sizes["points"])
        for gamma in GAMMAS:
            own, rows = networks[target, gamma], {"b": "velocity"}
            if gamma == "0":
                rows |= ALONE
            else:
                rows |= {n: "+".join(COMBINATIONS[n]) for n in ("(v, s)", "(v, η)")}
            for name, predict in rows.items():
                start = EDGE if name in ALONE else 0.0  # b = (x − E[x0|x])/t
                model = model_of(predict, gamma, own)
                score = partial(by_flow, model, x.float(), steps, start)
                store.cell(f"{target}|{gamma}|{name}", partial(judged, log_p, score))
            exact = exact_model(target, gamma)
            score = partial(by_flow, exact, x, steps)
            store.cell(f"{target}|{gamma}|{EXACT}", partial(judged, log_p, score))


def convergence(store: Store, networks: Networks, sizes: dict[str, Any]) -> None:
    """How the steps of the flow matter, in one cell of each target."""
    for target in LAWS:
        x, log_p = held_out(target, sizes["points"] // 4)
        learned = model_of("velocity", NOISY, networks[target, NOISY])
        for steps in (sizes["steps"] // 2, sizes["steps"], 2 * sizes["steps"]):
            score = partial(by_flow, learned, x.float(), steps)
            store.cell(f"steps|{target}|b|{steps}", partial(judged, log_p, score))
            score = partial(by_flow, exact_model(target, NOISY), x, steps)
            store.cell(f"steps|{target}|{EXACT}|{steps}", partial(judged, log_p, score))


NOISES = {"reverse": EPS, "auxiliary": EPS[:1]}
ESTIMATORS = {"reverse": by_reverse_paths, "auxiliary": by_paths}
TITLES = {"reverse": "weighted paths of the reverse SDE", "auxiliary": "paths of the auxiliary SDE"}


def processes(store: Store, networks: Networks, sizes: dict[str, Any]) -> None:
    """ε > 0: the eight cells {two targets} × {four combinations}, γ = √(t(1−t)).

    The other estimator is shown beside them for (b, s), the exact fields and the smallest ε.
    """
    for kind, estimate in ESTIMATORS.items():
        for eps in NOISES[kind]:
            for target in LAWS:
                x, log_p = held_out(target, sizes["noisy points"])
                for name, names in COMBINATIONS.items():
                    if kind == "auxiliary" and name != "(b, s)":
                        continue  # one learned row is enough to compare the estimators
                    model = model_of("+".join(names), NOISY, networks[target, NOISY])
                    cell = partial(estimate, model, x.float(), log_p, eps, sizes)
                    store.cell(f"{kind}|{target}|{name}|{eps:g}", cell)
                exact = exact_model(target, NOISY, "velocity+score")
                cell = partial(estimate, exact, x, log_p, eps, sizes)
                store.cell(f"{kind}|{target}|{EXACT}|{eps:g}", cell)


def shown(cell: dict[str, float] | None) -> str:
    if cell is None:
        return ""
    error, spread, variance = cell["error"], cell["error se"], cell["variance"]
    if error < 0.002:
        return f"{error:.1e} ± {spread:.0e} ({variance:.0e})"
    return f"{error:.3f} ± {spread:.3f} ({variance:.3f})"


def markdown(store: Store) -> str:
    """The report."""
    found, cells = store.found, store.cells
    lines = ["# Learned densities on the plane", "", *(f"- {n}" for n in found["notes"]), ""]
    lines += ["## ε = 0: E|log ρ1 − log ρ̂1| ± standard error (variance)", ""]
    for target in LAWS:
        lines += [f"| {target} | " + " | ".join(f"γ = {g}" for g in GAMMAS) + " |"]
        lines += ["|---|" + "---:|" * len(GAMMAS)]
        for name in COMBINATIONS:
            row = []
            for gamma in GAMMAS:
                flow = "b" if gamma == "0" or name.startswith("(b") else name
                row.append(shown(cells.get(f"{target}|{gamma}|{flow}")))
            lines.append(f"| {name} | " + " | ".join(row) + " |")
        for name in (*ALONE, EXACT):
            row = [shown(cells.get(f"{target}|{gamma}|{name}")) for gamma in GAMMAS]
            lines.append(f"| {name} | " + " | ".join(row) + " |")
        lines.append("")
    lines += ["## ε = 0: KL(ρ1 ‖ ρ̂1), nats", ""]
    for target in LAWS:
        lines += [f"| {target} | " + " | ".join(f"γ = {g}" for g in GAMMAS) + " |"]
        lines += ["|---|" + "---:|" * len(GAMMAS)]
        for name in ("b", "(v, s)", "(v, η)", *ALONE, EXACT):
            row = []
            for gamma in GAMMAS:
                cell = cells.get(f"{target}|{gamma}|{name}")
                row.append(f"{cell['kl']:.4f} ± {cell['kl se']:.4f}" if cell else "")
            lines.append(f"| {name} | " + " | ".join(row) + " |")
        lines.append("")
    for kind, title in TITLES.items():
        lines += [f"## ε > 0, γ = {NOISY}, {title}: E|log ρ1 − log ρ̂1| ± standard error (variance)"]
        lines.append("")
        for target in LAWS:
            lines += [
                f"| {target} | ε = 0 | " + " | ".join(f"ε = {e:g}" for e in NOISES[kind]) + " |"
            ]
            lines += ["|---|---:|" + "---:|" * len(NOISES[kind])]
            for name in (*COMBINATIONS, EXACT) if kind == "reverse" else ("(b, s)", EXACT):
                flow = "b" if name.startswith("(b") else name
                row = [shown(cells.get(f"{target}|{NOISY}|{flow}"))]
                row += [shown(cells.get(f"{kind}|{target}|{name}|{e:g}")) for e in NOISES[kind]]
                lines.append(f"| {name} | " + " | ".join(row) + " |")
            for name in ("(b, s)", EXACT):
                found_in = [cells.get(f"{kind}|{target}|{name}|{e:g}", {}) for e in NOISES[kind]]
                words = " | ".join(f"{cell.get('inner', math.nan):.3f}" for cell in found_in)
                lines.append(f"| standard error of one ρ̂1/E ρ̂1, {name} | 0 | {words} |")
            lines.append("")
    lines += ["## Steps of the flow, γ = √(t(1−t))", "", "| | steps | E\\|log ρ1 − log ρ̂1\\| |"]
    lines += ["|---|---:|---:|"]
    for key, cell in cells.items():
        if key.startswith("steps|"):
            _, target, name, steps = key.split("|")
            lines.append(f"| {target}, {name} | {steps} | {cell['error']:.4f} |")
    lines += [
        "",
        "## Training",
        "",
        "| network | loss | seconds of one thread |",
        "|---|---:|---:|",
    ]
    for name, record in found["training"].items():
        lines.append(f"| {name} | {record['loss']:.4f} | {record['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def picture(networks: Networks, path: Any, count: int = 20_000) -> None:
    """Histograms of samples beside the data's."""
    from matplotlib.figure import Figure

    panels: list[tuple[str, str, str, float]] = [
        ("b, γ = 0, ε = 0", "0", "velocity", 0.0),
        (f"b, γ = {NOISY}, ε = 0", NOISY, "velocity", 0.0),
        (f"(v, η), γ = {NOISY}, ε = 0", NOISY, "interpolant_velocity+noise", 0.0),
        ("b, γ = t(1−t), ε = 0", "t(1−t)", "velocity", 0.0),
        (f"(b, s), γ = {NOISY}, ε = 1", NOISY, "velocity+score", 1.0),
    ]
    figure = Figure(figsize=(14, 5), layout="constrained")
    axes = figure.subplots(len(LAWS), len(panels) + 1)
    for row, (target, law) in zip(axes, LAWS.items(), strict=True):
        rng = torch.Generator().manual_seed(3)
        found = [("data", law.sample(count, rng))]
        for title, gamma, predict, eps in panels:
            model = model_of(predict, gamma, networks[target, gamma])
            dynamics = DiffusiveSDE(eps) if eps else ODE()
            grid: TimeGrid = cosine(40)
            found.append((title, model.sample(count, dynamics, StochasticHeun(), grid, rng)))
        for axis, (title, x) in zip(row, found, strict=True):
            first, second = x.double().numpy().T
            most = count / (1000 if target == "checkerboard" else 450)
            box = [(-3, 3), (-3, 3)]
            axis.hist2d(first, second, bins=80, range=box, cmap="Greys", vmin=0, vmax=most)
            axis.set_title(title, fontsize=8)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_aspect("equal")
    figure.savefig(path, dpi=65)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fast", action="store_true", help="20 steps and few draws: does it run?")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {
        "points": 2000,
        "steps": 40,
        "noisy points": 200,
        "paths": 32,
        "sde steps": 50,
        "reverse steps": 200,
    }
    if options.fast:
        TRAIN["steps"] = 20
        sizes = {
            "points": 40,
            "steps": 4,
            "noisy points": 8,
            "paths": 4,
            "sde steps": 5,
            "reverse steps": 5,
        }
    name = "planar_fast" if options.fast else "planar"
    notes = [
        f"MLP {NETWORK['width']} × {NETWORK['depth']} with {NETWORK['fourier']} Fourier "
        f"frequencies, one per quantity: {TRAIN['steps']} steps of Adam, {TRAIN['rows']} network "
        f"rows a step, fresh draws, t in [{EDGE:g}, 1 − {EDGE:g}], averaged weights. s, and b "
        "where γ ≠ 0, by the antithetic loss (half as many draws, each met twice). One training "
        "seed: a gap between two rows may be one of luck.",
        f"ε = 0: {sizes['points']} held-out points, exact divergence, {sizes['steps']} RK4 steps "
        "on a cosine grid. Floor: the exact fields with the same steps, in float64.",
        f"ε > 0: {sizes['noisy points']} held-out points, {sizes['paths']} paths each, "
        f"{sizes['sde steps']} equal steps of the stochastic Heun method for the auxiliary SDE, "
        f"{sizes['reverse steps']} Euler steps on a cosine grid for the reverse one. The logarithm "
        "of a mean over paths is noisy, and low by half its squared error: the row of the exact "
        "fields shows how much of a number that is. The process runs over all of [0, 1], beyond "
        "the times of training, where s = −η/γ is the most sensitive.",
        "At ε = 0 the flow needs b alone: (b, s) and (b, η) are one flow, and where γ = 0 all four "
        "are. There b follows from s or from E[x0|x] as well (from t = 0.001 on).",
    ]
    head = {"study": name, "notes": notes, "settings": {
        "network": NETWORK, "train": TRAIN, "sizes": sizes, "eps": EPS, "threads": 1,
    }}  # fmt: skip
    store = Store(RESULTS / f"{name}.json", head)
    networks: Networks = {}
    store.found["training"] = {}
    for target, law in LAWS.items():
        for gamma, word in GAMMAS.items():
            own: dict[str, nn.Module] = {}
            networks[target, gamma] = own
            for predict in quantities(gamma):
                label = f"planar-{target}-{word}-{predict}"
                own[predict], record = trained(label, job(predict, gamma), path_of(gamma), law)
                store.found["training"][f"{target}, γ = {gamma}: {predict}"] = record
    store.save()
    for part in (flows, convergence, processes):
        part(store, networks, sizes)
        (RESULTS / f"{name}.md").write_text(markdown(store), encoding="utf-8")
    picture(networks, RESULTS / f"{name}.png", 200 if options.fast else 20_000)
    print(markdown(store))


if __name__ == "__main__":
    main()
