"""Five modes in 128 dimensions: which pair of quantities, and how much noise, samples best?

    python -m benchmarks.studies.modes [--full] [--device cuda] [--fast]

Experiment E3 of the course (Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 7.2):
base N(0, I), a mixture of five normal modes, x_t = (1−t) x0 + t x1 + √(t(1−t)) z. One network is
trained for each of b, v, s and η; a combination is a pair of them. Each combination is run with
dX = (b + ε s) dt + √(2ε) dW for several ε, and its samples are compared with the exact law:

  kl       KL(ρ*k ‖ ρ̂*k) in two coordinates, k a normal kernel: ρ̂*k is a mean of kernels on the
           samples, ρ*k is exact; terms log ρ − log ρ̂ + ρ̂/ρ − 1 at draws of ρ*k
  surplus  E[−log ρ1(X)] over the samples, less the entropy of ρ1, in all 128 dimensions: above 0
           where samples are too spread, below 0 where they are too concentrated
  weights  total variation between the modes' weights and the samples' shares

and, without samples, with the bound KL(ρ1 ‖ ρ̂1) ≤ ∫ E|δb + ε δs|²/(4ε) dt from the errors of the
networks against the exact fields (ε > 0), and with KL(ρ1 ‖ ρ̂1) itself: by the flow (ε = 0), and by
weighted paths of the reverse SDE (ε > 0).

The floor is an exact sample of the same size in the place of the model's; the exact fields, solved
with the same steps, show what the steps cost.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genpath import ODE, Euclidean, Gaussian, Model
from genpath.likelihoods import tracked
from genpath.objectives import stratified_times
from genpath.predictions import converted
from genpath.samplers import RungeKutta, integrate
from genpath.tableaus import RK4
from genpath_interpolants.data import five_modes_law
from genpath_interpolants.distances import kl_terms
from genpath_interpolants.dynamics import DiffusiveSDE
from genpath_interpolants.mixtures import FullMixture, MixtureMarginal
from genpath_interpolants.networks import PairNetwork
from genpath_interpolants.presets import linear
from genpath_interpolants.samplers import StochasticHeun, cosine
from genpath_interpolants.sweeps import Projection, blurred, energy_distance

from ._densities import reverse_log_prob
from ._training import RESULTS, Job, OneTime, Store, trained

SIZE = 128
BASE = Gaussian((SIZE,))
PATH = linear(Euclidean(SIZE), "sqrt")
LAW = five_modes_law(SIZE)
ORACLE = MixtureMarginal(PATH, LAW)
NETWORK: dict[str, Any] = {"width": 256, "depth": 4}
SHORT: dict[str, Any] = {"steps": 10_000, "rows": 512, "rate": 1e-3}
FULL: dict[str, Any] = {"steps": 200_000, "rows": 4096, "rate": 1e-3}
SYMMETRIC = ("velocity", "score")  # quantities whose target is infinite at the ends
SINGLE = ("velocity", "interpolant_velocity", "score", "noise")
COMBINATIONS = {
    "(v, s)": ("interpolant_velocity", "score"),
    "(v, η)": ("interpolant_velocity", "noise"),
    "(b, s)": ("velocity", "score"),
    "(b, η)": ("velocity", "noise"),
}
FLOWS = {"b": ("velocity", "score"), **{n: COMBINATIONS[n] for n in ("(v, s)", "(v, η)")}}
EXACT, FLOOR = "exact fields", "floor"
EPS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CLIPPED = ("(b, η)", "(b, s)")  # also run on [EDGE, 1 − EDGE], the times of training
NOISY = (0.5, 1.0, 2.5, 5.0)  # where the density of the SDE is measured
STEPS = {0.0: 50, 0.05: 50, 0.1: 50, 0.25: 50, 0.5: 50, 1.0: 50, 2.5: 75, 5.0: 150, 10.0: 250}
SEEDS = (0, 1, 2)  # of evaluation
REPEATS = (0, 1)  # of training; samples are drawn from the first
PLANES = ("coordinates", "random", "principal")
EDGE = 1e-3

Networks = dict[str, nn.Module]
"""Quantity → network."""


def job(predict: str, protocol: dict[str, Any], seed: int = 0) -> Job:
    """How the network of a quantity is trained."""
    return Job(predict, NETWORK, antithetic=predict in SYMMETRIC, seed=seed, **protocol)


def model_of(names: tuple[str, str], networks: Networks) -> Model:
    """The model of two networks; of the exact fields where there are none."""
    predict = "+".join(names)
    field: Any = ORACLE.field(predict)
    if networks:
        first, second = (OneTime(networks[name]) for name in names)
        field = PairNetwork(first, second, PATH.predictions[predict]).eval()
    return Model(field, PATH, BASE, predict)


# -- against the exact law -------------------------------------------------------------------------


class Reference:
    """What samples are compared with.

    Args:
        count: samples of a cell, which fix the width of the kernels.
    """

    def __init__(self, count: int) -> None:
        rng = torch.Generator().manual_seed(99)
        rows = LAW.sample(20_000, rng)
        frame = torch.linalg.qr(torch.randn(SIZE, 2, generator=rng))[0]
        self.planes = {
            "coordinates": Projection.of("coordinates", (0, 1), rows),
            "random": Projection(frame, ("first", "second")),
            "principal": Projection.of("principal", (0, 1), rows),
        }
        self.entropy = -float(LAW.log_prob(rows).double().mean())
        self.rows = rows
        self.scales, self.exact, self.draws = {}, {}, {}
        for name, plane in self.planes.items():
            seen = plane(rows)
            self.scales[name] = seen.std(0) * count ** (-1 / 6)  # Scott's width, of the data
            law = plane.mixture(LAW)
            assert law is not None
            covariances = law.covariances + torch.diag(self.scales[name] ** 2)
            self.exact[name] = FullMixture(law.weights, law.means, covariances)
            self.draws[name] = self.exact[name].sample(10_000, rng)

    def measured(self, x: Tensor) -> dict[str, float]:
        """All numbers of one set of samples."""
        found: dict[str, float] = {}
        for name, plane in self.planes.items():
            y = self.draws[name]
            kernels = blurred(plane(x), self.scales[name])
            other = torch.cat([kernels.log_prob(piece) for piece in y.split(1000)])
            found[f"kl {name}"] = float(kl_terms(self.exact[name].log_prob(y), other).mean())
        found["surplus"] = -float(LAW.log_prob(x).double().mean()) - self.entropy
        nearest = torch.cdist(x, LAW.means).argmin(1)
        share = torch.bincount(nearest, minlength=5) / len(x)
        found["weights"] = 0.5 * float((share - LAW.weights).abs().sum())
        found["energy distance"] = float(energy_distance(x, self.rows[: 2 * len(x)]))
        found["failed"] = float((~x.isfinite().all(1)).float().mean())
        return found


def sampled(model: Model, eps: float, count: int, steps: int, seed: int, device: str) -> Tensor:
    """Samples of the process with noise ε; the same base draws for all models and ε."""
    rng = torch.Generator(device).manual_seed(seed)
    dynamics = DiffusiveSDE(eps) if eps else ODE()
    found = model.sample(count, dynamics, StochasticHeun(), cosine(steps), rng, chunk=2048)
    return torch.as_tensor(found).cpu()


# -- against the exact fields ----------------------------------------------------------------------


@torch.no_grad()
def errors_of(
    names: tuple[str, str], networks: Networks, count: int, device: str
) -> dict[str, Any]:
    """Excess losses of b and s, ε*, and the bound on KL for every ε > 0."""
    rng = torch.Generator(device).manual_seed(7)
    predict = "+".join(names)
    both = PairNetwork(networks[names[0]], networks[names[1]], PATH.predictions[predict])
    totals = []
    for _ in range(max(count // 4096, 1)):
        t = EDGE + (1 - 2 * EDGE) * stratified_times(min(count, 4096), rng)
        x0 = torch.randn(len(t), SIZE, generator=rng, device=device)
        x = PATH.draw(t, x0, LAW.to(device).sample(len(t), rng), rng).state
        gaps = []
        for want in ("velocity", "score"):
            field = converted(PATH.rules, predict, both, want)
            gaps.append((field(t, x) - ORACLE.field(want)(t, x)).double())
        b, s = gaps
        totals.append(torch.stack(((b * b).sum(1), (b * s).sum(1), (s * s).sum(1)), 1).cpu())
    terms = torch.cat(totals)  # |δb|², δb·δs, |δs|²
    square_b, cross, square_s = terms.mean(0).tolist()
    curve = {}
    for eps in EPS[1:]:
        each = (terms[:, 0] + 2 * eps * terms[:, 1] + eps**2 * terms[:, 2]) / (4 * eps)
        curve[f"{eps:g}"] = [float(each.mean()), float(each.std()) / math.sqrt(len(each))]
    return {
        "velocity excess": square_b / 2,
        "score excess": square_s / 2,
        "correlation": cross / math.sqrt(square_b * square_s),
        "best eps": math.sqrt(square_b / square_s),
        "least bound": 0.5 * (math.sqrt(square_b * square_s) + cross),
        "bound": curve,
    }


def process_kl(
    model: Model, eps: float, count: int, paths: int, steps: int, device: str, edge: float = 0.0
) -> dict[str, float]:
    """KL(ρ1 ‖ ρ̂1) of the SDE with noise ε, by weighted paths of its reverse.

    With an ``edge`` the process runs on [edge, 1 − edge] only, between laws that are those at the
    ends but for 128 (edge)² or so in KL.
    """
    rng = torch.Generator(device).manual_seed(13)
    x = LAW.to(device).sample(count, rng)
    log_q, inner = reverse_log_prob(
        model, BASE, x, eps, cosine(steps, edge, 1 - edge).times, paths, rng
    )
    terms = (LAW.log_prob(x.cpu()) - log_q.cpu()).double()
    return {
        "kl": float(terms.mean()),
        "error": float(terms.std()) / math.sqrt(count),
        "bias": 0.5 * float(inner.square().mean()),
    }


@torch.no_grad()
def flow_kl(model: Model, count: int, steps: int, device: str) -> dict[str, float]:
    """KL(ρ1 ‖ ρ̂1) of the flow: log-densities by RK4 on a cosine grid, one probe per row."""
    rng = torch.Generator(device).manual_seed(11)
    gen = tracked(model.generator(ODE()), "hutchinson")
    x = LAW.to(device).sample(count, rng)
    probe = torch.randint(0, 2, x.shape, generator=rng, device=device).to(x) * 2 - 1
    start = {"x": x, "log_density": x.new_zeros(count), "probe": probe}
    end = integrate(RungeKutta(RK4), gen, start, cosine(steps).reversed(), rng).state
    log_q = BASE.log_prob(end["x"]) - end["log_density"]
    terms = (LAW.log_prob(x.cpu()) - log_q.cpu()).double()
    return {"kl": float(terms.mean()), "error": float(terms.std()) / math.sqrt(count)}


# -- the study -------------------------------------------------------------------------------------


def mark(repeat: int) -> str:
    """What is added to a cell's key for another training seed."""
    return " (second training)" if repeat else ""


def run(store: Store, trainings: list[Networks], sizes: dict[str, Any], device: str) -> None:
    """All cells, those that tell most first."""
    count, reference = sizes["samples"], Reference(sizes["samples"])
    scored, exact = (sizes["points"], sizes["flow"]), model_of(COMBINATIONS["(b, s)"], {})
    for repeat, networks in enumerate(trainings):
        for name, names in COMBINATIONS.items():
            errors = partial(errors_of, names, networks, sizes["draws"], device)
            store.cell(f"errors {name}{mark(repeat)}", errors)
        for name, names in FLOWS.items():
            flow = partial(flow_kl, model_of(names, networks), *scored, device)
            store.cell(f"flow {name}{mark(repeat)}", flow)
    store.cell(f"flow {EXACT}", partial(flow_kl, exact, *scored, "cpu"))
    points, paths, steps = sizes["process"]
    for eps in NOISY:
        for name, names in COMBINATIONS.items():
            model = model_of(names, trainings[0])
            process = partial(process_kl, model, eps, points, paths, steps, device)
            store.cell(f"process {name}|{eps:g}", process)
        process = partial(process_kl, exact, eps, points, paths, steps, "cpu")
        store.cell(f"process {EXACT}|{eps:g}", process)
        for name in CLIPPED if eps in NOISY[1:3] else ():
            model = model_of(COMBINATIONS[name], trainings[0])
            process = partial(process_kl, model, eps, points, paths, steps, device, EDGE)
            store.cell(f"process {name}, clipped|{eps:g}", process)

    def samples(name: str, eps: float, seed: int) -> dict[str, float]:
        if name == FLOOR:
            rng = torch.Generator().manual_seed(1000 + seed)
            return reference.measured(LAW.sample(count, rng))
        model, place = exact, "cpu"
        if name != EXACT:
            model, place = model_of(COMBINATIONS[name], trainings[0]), device
        steps = sizes["fine"] * STEPS[eps]
        return reference.measured(sampled(model, eps, count, steps, seed, place))

    def cell(name: str, eps: float, seed: int) -> None:
        store.cell(f"{name}|{eps:g}|{seed}", partial(samples, name, eps, seed))

    for seed in SEEDS:
        cell(FLOOR, 0.0, seed)
        for eps in EPS:
            for name in (*COMBINATIONS, EXACT):
                if eps or name != "(b, η)":  # without noise that is the flow of b, as (b, s) is
                    cell(name, eps, seed)


def curves(store: Store, name: str, what: str) -> tuple[list[float], list[float], list[float]]:
    """ε, means and standard errors over the evaluation seeds."""
    found: dict[float, list[float]] = {}
    for key, cell in store.cells.items():
        who, eps, *_ = (*key.split("|"), "")
        if who == "(b, s)" and name == "(b, η)" and eps == "0":
            who = name  # without noise they are one flow
        if who == name:
            found.setdefault(float(eps), []).append(cell[what])
    order = sorted(found)
    errors = [
        float(np.std(found[e], ddof=1)) / math.sqrt(len(found[e]))
        if len(found[e]) > 1
        else math.nan
        for e in order
    ]
    return order, [float(np.mean(found[e])) for e in order], errors


def shown(value: float, error: float) -> str:
    digits = 4 if abs(value) < 1 else 2
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def table(store: Store, what: str) -> list[str]:
    """A table of one number: combinations × ε."""
    lines = [f"| {what} | " + " | ".join(f"ε = {e:g}" for e in EPS) + " |"]
    lines.append("|---|" + "---:|" * len(EPS))
    for name in (*COMBINATIONS, EXACT):
        eps, means, errors = curves(store, name, what)
        known = {e: shown(m, s) for e, m, s in zip(eps, means, errors, strict=True)}
        lines.append(f"| {name} | " + " | ".join(known.get(e, "") for e in EPS) + " |")
    _, means, errors = curves(store, FLOOR, what)
    if means:
        floor = shown(means[0], errors[0])
        lines.append(f"| {FLOOR}: exact samples | {floor} |" + " |" * (len(EPS) - 1))
    return [*lines, ""]


def markdown(store: Store) -> str:
    """The report."""
    found, cells = store.found, store.cells
    lines = ["# Five modes in 128 dimensions", "", *(f"- {n}" for n in found["notes"]), ""]
    lines += ["## Samples against ε", "", "Means and standard errors over the seeds.", ""]
    for what in (*(f"kl {plane}" for plane in PLANES), "surplus", "weights", "energy distance"):
        lines += table(store, what)
    lines += ["## Without samples", "", "| | ΔL_b | ΔL_s | correlation | ε* = √(ΔL_b/ΔL_s) | least "
              "bound on KL |", "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    trainings = [f"{n}{mark(k)}" for k in REPEATS for n in COMBINATIONS]
    for name in trainings:
        cell = cells.get(f"errors {name}")
        if cell:
            keys = ("velocity excess", "score excess", "correlation", "best eps", "least bound")
            lines.append(f"| {name} | " + " | ".join(f"{cell[k]:.3f}" for k in keys) + " |")
    lines += ["", "Bound ∫ E|δb + ε δs|²/(4ε) dt on KL(ρ1 ‖ ρ̂1), nats:", ""]
    lines += ["| | " + " | ".join(f"ε = {e:g}" for e in EPS[1:]) + " |"]
    lines += ["|---|" + "---:|" * (len(EPS) - 1)]
    for name in trainings:
        cell = cells.get(f"errors {name}")
        if cell:
            bounds = (cell["bound"][f"{e:g}"] for e in EPS[1:])
            lines.append(
                f"| {name} | " + " | ".join(f"{m:.2f} ± {s:.2f}" for m, s in bounds) + " |"
            )
    lines += ["", "KL(ρ1 ‖ ρ̂1) in all dimensions, nats:", ""]
    lines += ["| | ε = 0 | " + " | ".join(f"ε = {e:g}" for e in NOISY) + " |"]
    lines += ["|---|---:|" + "---:|" * len(NOISY)]
    for name in (*trainings, *(f"{name}, clipped" for name in CLIPPED), EXACT):
        flow = name.replace("(b, s)", "b").replace("(b, η)", "b")
        row = [cells.get(f"flow {flow}")]
        row += [cells.get(f"process {name}|{e:g}") for e in NOISY]
        if any(row):
            words = (f"{c['kl']:.3f} ± {c['error']:.3f}" if c else "" for c in row)
            lines.append(f"| {name} | " + " | ".join(words) + " |")
    lines += [
        "",
        "## Training",
        "",
        "| quantity | loss | seconds of one thread |",
        "|---|---:|---:|",
    ]
    for name, record in found["training"].items():
        lines.append(f"| {name} | {record['loss']:.4f} | {record['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def picture(store: Store, path: Any) -> None:
    """KL and surplus against ε, and the bound."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    colours = {"(v, s)": "C0", "(v, η)": "C1", "(b, s)": "C2", "(b, η)": "C3", EXACT: "0.4"}
    for axis, what in zip(axes, ("kl principal", "surplus", ""), strict=True):
        for name, colour in colours.items():
            if what:
                eps, means, errors = curves(store, name, what)
            elif f"errors {name}" in store.cells:
                bound = store.cells[f"errors {name}"]["bound"]
                eps = [float(e) for e in bound]
                means, errors = ([pair[k] for pair in bound.values()] for k in (0, 1))
            else:
                continue
            if not eps:
                continue
            axis.errorbar(eps, means, errors, label=name, color=colour, marker="o", ms=3, lw=1.2)
        axis.set_xscale("symlog", linthresh=0.05)
        axis.set_xticks([0, 0.1, 1, 10] if what else [0.1, 1, 10])
        axis.set_xticklabels(["0", "0.1", "1", "10"] if what else ["0.1", "1", "10"])
        axis.set_xlabel("ε")
    _, floor, _ = curves(store, FLOOR, "kl principal")
    if floor:
        axes[0].axhline(floor[0], color="0.7", ls="--", lw=1, label="floor: exact samples")
    axes[1].axhline(0.0, color="0.7", ls="--", lw=1)
    axes[0].set_yscale("log")
    axes[2].set_yscale("log")
    axes[0].set_title("KL in the principal plane, nats")
    axes[1].set_title("surplus E[−log ρ1(X)] − H(ρ1), nats\nabove 0: too spread")
    axes[2].set_title("bound on KL(ρ1 ‖ ρ̂1), nats, all dimensions")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="the long protocol, for a GPU")
    parser.add_argument("--fast", action="store_true", help="20 steps and few draws: does it run?")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trainings", type=int, default=1, choices=(1, 2))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    protocol = FULL if options.full else {**SHORT, "steps": 20} if options.fast else SHORT
    sizes: dict[str, Any] = {
        "samples": 1500,
        "draws": 16_384,
        "points": 1000,
        "flow": 40,
        "fine": 1,
        "process": (150, 16, 200),
    }
    if options.full:
        sizes = {
            "samples": 20_000,
            "draws": 65_536,
            "points": 10_000,
            "flow": 100,
            "fine": 4,
            "process": (2000, 64, 1000),
        }
    if options.fast:
        sizes = {
            "samples": 50,
            "draws": 256,
            "points": 20,
            "flow": 5,
            "fine": 1,
            "process": (4, 2, 5),
        }
    name = "modes" + ("_full" if options.full else "_fast" if options.fast else "")
    words = (
        f"Base N(0, I), linear, γ = √(t(1−t)); MLP {NETWORK['width']} × {NETWORK['depth']}, one "
        f"per quantity: {protocol['steps']} steps of Adam, {protocol['rows']} network rows a step, "
        "fresh draws, averaged weights. b and s by the antithetic loss (half as many draws, each "
        "met twice). "
        f"Training seeds: {options.trainings}; with one, a gap between two combinations may be one "
        "of luck.",
        f"{sizes['samples']} samples per ε, combination and seed; {len(SEEDS)} evaluation seeds, "
        "with the same base draws for all; samples are those of the first training. Stochastic "
        "Heun on a cosine grid (ε = 0: Heun); steps "
        + ", ".join(f"{sizes['fine'] * k} at ε = {e:g}" for e, k in STEPS.items()) + ".",
        "KL in a plane between laws blurred by the same kernel (Scott's width for the sample's "
        "size); its floor is that of exact samples, and is not taken off. Planes: the first two "
        "coordinates, in which the five modes lie on each other; a random plane; the two "
        "principal directions, in which they are apart.",
        f"KL in all dimensions: {sizes['points']} points and {sizes['flow']} RK4 steps with one "
        "Hutchinson probe each for the flow; for ε > 0 {} points, {} paths each, {} Euler steps. "
        "Too few paths make it too large. Clipped: the process runs on [{}, 1 − {}] only, the "
        "times of training, which are also those of the errors and the bound.".format(
            *sizes["process"], EDGE, EDGE
        ),
    )  # fmt: skip
    head = {"study": name, "notes": list(words), "settings": {
        "network": NETWORK, "train": protocol, "sizes": sizes, "steps": STEPS, "eps": EPS,
        "threads": options.threads, "device": options.device,
    }}  # fmt: skip
    store = Store(RESULTS / f"{name}.json", head)
    store.found["training"], trainings, law = {}, list[Networks](), LAW.to(options.device)
    for repeat in range(options.trainings):
        trainings.append({})
        for predict in SINGLE:
            found, record = trained(
                f"{name}-{predict}", job(predict, protocol, repeat), PATH, law, options.device
            )
            trainings[repeat][predict] = found
            store.found["training"][f"{predict}{mark(repeat)}"] = record
    store.save()
    run(store, trainings, sizes, options.device)
    (RESULTS / f"{name}.md").write_text(markdown(store), encoding="utf-8")
    picture(store, RESULTS / f"{name}.png")
    print(markdown(store))


if __name__ == "__main__":
    main()
