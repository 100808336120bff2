r"""Evaluations: a learnt density against the exact one, and where in t a model leaves its path.

    density_error   E|log ρ1 − log ρ̂1| and KL(ρ1 ‖ ρ̂1) on held-out rows, of the flow and of SDEs
    marginals       z-scores of the weak form of the transport equation, bin by bin

Others are in `sweeps` (samples against ε, scatter) and `ensembles` (one start, resampling). Every
table of Monte-Carlo numbers says what is left where nothing is wrong: the spread of the estimator's
own paths, or fresh draws of the exact law in the place of samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.errors import CapabilityError, ConfigError, DomainError
from genpath.evaluation import Figure, Findings, Scene, Text
from genpath.grids import TimeGrid
from genpath.laws import DensityLaw
from genpath.likelihoods import LogLikelihood
from genpath.models import ODE, Dynamics
from genpath.predictions import converted
from genpath.samplers import Solver
from genpath.states import batch_size, chunks, gather

from .auxiliary import forward_drift
from .diagnostics import marginal_report
from .distances import kl_terms, log_density_error
from .dynamics import DiffusiveSDE, Shape, eps_schedule
from .likelihoods import SDELikelihood
from .samplers import StochasticHeun

__all__ = [
    "DensityError",
    "Marginals",
    "curve",
    "noisy",
    "plus_minus",
    "solver",
    "subset",
    "table",
]


# -- shared ----------------------------------------------------------------------------------------


def noisy(eps: float, shape: Shape) -> Dynamics:
    """The flow for ε = 0, else the SDE with that ε(t).

    Example:
        >>> noisy(0.0, "constant"), noisy(0.5, "constant")
        (ODE(), DiffusiveSDE(eps=0.5))
    """
    return ODE() if eps == 0 else DiffusiveSDE(eps_schedule(eps, shape))


def solver(steps: int = 100) -> Solver:
    """The default solver of flows and SDEs alike: stochastic Heun, equal steps.

    Example:
        >>> solver(50).calls
        100
    """
    return Solver(StochasticHeun(), TimeGrid.uniform(steps))


def subset(rows: Any, most: int | None, rng: torch.Generator) -> Any:
    """At most ``most`` rows, picked at random and kept in order; all where there are fewer.

    Example:
        >>> len(subset(torch.zeros(5, 1), 3, torch.Generator())), len(subset([], None, None))
        (3, 0)
    """
    if most is None or most >= batch_size(rows):
        return rows
    index = torch.randperm(batch_size(rows), generator=rng, device=rng.device)[:most]
    return gather(rows, index.sort().values.cpu())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first to the left and the others to the right.

    Example:
        >>> print(table(["ε", "KL"], [["0", "0.12"], ["0.5", "0.1"]]))
        ε      KL
        0    0.12
        0.5   0.1
    """
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def plus_minus(value: float, error: float) -> str:
    """A number with its standard error, "0.120 ± 0.004": the error to two digits."""
    if not (math.isfinite(error) and error > 0 and math.isfinite(value)):
        return f"{value:.3g}"
    digits = min(max(1 - math.floor(math.log10(error)), 0), 8)
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _law(scene: Scene, who: str) -> DensityLaw:
    law = scene.data.law
    if not isinstance(law, DensityLaw) or getattr(law, "atomic", False):
        raise CapabilityError(
            f"evaluation {who}",
            "the data's law and its density are known exactly.",
            got=f"data set {scene.data.name!r} without such a law",
            fix="choose data such as interpolants.gaussian_mixture, or leave this evaluation out",
        )
    return law


def curve(
    axes: Any,
    levels: Sequence[float],
    values: Sequence[float],
    errors: Sequence[float],
    **style: Any,
) -> None:
    """Values with error bars against ε, equally spaced whatever the values of ε."""
    places = list(range(len(levels)))
    axes.errorbar(places, values, yerr=[2 * e for e in errors], marker="o", capsize=3, **style)
    axes.set_xticks(places, [f"{level:g}" for level in levels])
    axes.set_xlabel("ε")


# -- densities -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DensityError:
    """How far a model's log-density is from the exact one: ``interpolants.density_error``.

        E|log ρ1 − log ρ̂1|,   Var|log ρ1 − log ρ̂1|,   KL(ρ1 ‖ ρ̂1) = E[log ρ1 − log ρ̂1]

    over held-out rows (Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 7.1). ρ̂1 is
    that of the config's likelihood, and of the SDE with each ε, by paths of its auxiliary SDE. A
    density from paths has an error of its own: √(2/π) times its standard error is what the first
    number would be for a perfect model, and is told as ``…_floor``.

    Args:
        max_examples: score at most so many rows, picked at random; None for all.
        split: "test", "validation" or "train".
        eps: values of ε scored by `SDELikelihood`, beside the config's likelihood.
        shape: how ε runs over time.
        steps, paths, divergence: of `SDELikelihood`.
        chunk: rows scored between two reports of progress.

    Raises:
        CapabilityError: the data carry no law with a density.
        ConfigError: there is neither a likelihood nor an ε.

    Example:
        >>> from genpath import Dataset, Euclidean, Gaussian
        >>> law, rng = Gaussian((1,)), torch.Generator().manual_seed(0)
        >>> rows = law.sample(100, rng)
        >>> data = Dataset("normal", Euclidean(1), rows, rows, rows, "made up", law=law)
        >>> half = lambda model, y, rng: LogLikelihood(law.log_prob(y) - 0.5, 0 * y[:, 0], "exact")
        >>> scene = Scene(None, data, rows, None, None, half, rng, torch.device("cpu"))
        >>> round(DensityError()(scene).metrics["density-error/model"], 4)
        0.5
    """

    max_examples: int | None = 1000
    split: str = "test"
    eps: tuple[float, ...] = ()
    shape: Shape = "constant"
    steps: int = 50
    paths: int = 64
    divergence: Literal["exact", "hutchinson"] = "exact"
    chunk: int = 256

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Findings:
        law = _law(scene, "interpolants.density_error")
        ways: dict[str, Any] = {} if scene.likelihood is None else {"model": scene.likelihood}
        for level in self.eps:
            ways[f"eps_{level:g}"] = SDELikelihood(
                eps_schedule(level, self.shape), self.steps, self.paths, self.divergence
            )
        if not ways:
            raise ConfigError(
                "evaluation interpolants.density_error",
                "data are scored by a likelihood, or by SDEs.",
                got="likelihood: null and no eps",
                fix="write likelihood: ode in the config, or eps: [0.5] here",
            )
        rows = subset(getattr(scene.data, self.split), self.max_examples, scene.rng)
        true = law.log_prob(rows)
        metrics: dict[str, float] = {}
        measured: dict[str, str] = {}
        lines, gaps = [], {}
        for name, likelihood in ways.items():
            scores = self._scored(scene, likelihood, rows, name)
            gaps[name] = true - scores.value
            found = _density_metrics(name, true, scores)
            metrics |= found
            how = f"E|log ρ − log ρ̂| in nats, over {len(true)} {self.split} rows; ρ̂ {scores.kind}"
            measured[f"density-error/{name}"] = how
            lines.append(_density_row(name, found))
        text = table(["ρ̂", "E|log ρ − log ρ̂|", "of it paths", "variance", "KL(ρ ‖ ρ̂)"], lines)
        return Findings(
            metrics,
            measured,
            (_gap_figure(gaps),),
            (Text("Density error, nats (± standard error)", text),),
        )

    def _scored(self, scene: Scene, likelihood: Any, rows: Any, name: str) -> LogLikelihood:
        pieces, done = [], 0
        for piece in chunks(rows, self.chunk):
            scene.progress(f"log-density {name}", done, len(rows))
            pieces.append(likelihood(scene.model, piece.to(scene.device), scene.rng))
            done += len(piece)
        scene.progress(f"log-density {name}", len(rows), len(rows))
        parts = ([getattr(p, n).cpu() for p in pieces] for n in ("value", "standard_error"))
        value, error = (torch.cat(part) for part in parts)
        return LogLikelihood(value, error, pieces[0].kind)


def _density_metrics(name: str, true: Tensor, scores: LogLikelihood) -> dict[str, float]:
    found = log_density_error(true, scores.value)
    terms = kl_terms(true.double(), scores.value.double())
    square = ((true - scores.value).abs().double() - found.mean).square()
    root = math.sqrt(len(true))
    floor = math.sqrt(2 / math.pi) * float(scores.standard_error.double().mean())
    return {
        f"density-error/{name}": found.mean,
        f"density-error/{name}_se": found.standard_error,
        f"density-error/{name}_floor": floor,
        f"density-error/{name}_variance": found.variance,
        f"density-error/{name}_variance_se": float(square.std()) / root,
        f"density-kl/{name}": float(terms.mean()),
        f"density-kl/{name}_se": float(terms.std()) / root,
    }


def _density_row(name: str, found: dict[str, float]) -> list[str]:
    at = f"density-error/{name}"
    words = "likelihood" if name == "model" else f"SDE, ε = {name[4:]}"
    return [
        words,
        plus_minus(found[at], found[f"{at}_se"]),
        f"{found[f'{at}_floor']:.2g}",
        plus_minus(found[f"{at}_variance"], found[f"{at}_variance_se"]),
        plus_minus(found[f"density-kl/{name}"], found[f"density-kl/{name}_se"]),
    ]


def _gap_figure(gaps: dict[str, Tensor]) -> Figure:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, gap in gaps.items():
            label = "likelihood" if name == "model" else f"SDE, ε = {name[4:]}"
            sizes = gap.double().abs().sort().values.clamp_min(1e-9)
            share = (torch.arange(len(sizes)) + 0.5) / len(sizes)
            axes.plot(share.numpy(), sizes.numpy(), label=label)
        axes.set_yscale("log")
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the held-out rows")
        axes.set_ylabel("|log ρ − log ρ̂|, nats")
        axes.legend()

    caption = "Which share of the rows has an error below: ½ on the axis is the median row."
    return Figure("density_error", "Log-density, exact against learnt", caption, draw, (7.0, 3.4))


# -- over time -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Marginals:
    """Where, in t, a model leaves its path: the component ``interpolants.marginals``.

    On each bin of time, z-scores of E φ(x_b) − E φ(x_a) − E ∫(∇φ·u + ε Δφ) dt for waves and bumps φ
    (`weak_residual`), with pairs of base draws and held-out rows; a z beyond the bound says that
    the drift does not carry the path's laws there. Pairs are drawn independently: leave it out
    where the config has another coupling.

    Args:
        eps: 0 tests the velocity b, another value the drift b + ε s of the SDE.
        bins: of equal length.
        start, end: first and last time; keep away from an end where the score is infinite.
        functions: waves and bumps of each bin.
        count: pairs; rows are used again where there are fewer.
        split: whose rows.
        level: the probability of a false alarm in the whole table.

    Example:
        >>> Marginals(bins=5).end
        1.0
    """

    eps: float = 0.0
    bins: int = 10
    start: float = 0.0
    end: float = 1.0
    functions: int = 8
    count: int = 10_000
    split: str = "test"
    level: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise DomainError(
                "interpolants.marginals",
                "0 ≤ start < end ≤ 1.",
                got=f"start {self.start:g}, end {self.end:g}",
            )

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Findings:
        model, path, rng = scene.model, scene.model.path, scene.rng
        rows = getattr(scene.data, self.split)
        if not isinstance(rows, Tensor):
            raise CapabilityError("evaluation interpolants.marginals", "rows are points of R^d.")
        rows = subset(rows, self.count, rng)
        x1 = model.codec.encode(rows.to(scene.device), rng)[0]
        pairs = Pairs(model.base.sample(len(x1), rng), x1)
        if self.eps:
            drift = forward_drift(model, self.eps)
        else:
            drift = converted(path.rules, model.predict, model.field, "velocity")
        width = (self.end - self.start) / self.bins
        edges = [self.start + j * width for j in range(self.bins)] + [self.end]
        scene.progress("marginals", 0, 1)
        report = marginal_report(
            path,
            drift,
            pairs,
            rng,
            edges=edges,
            count=self.functions,
            eps=self.eps,
            level=self.level,
        )
        scene.progress("marginals", 1, 1)
        worst = report.worst.cpu()
        metrics = {
            "marginals/worst_z": float(worst.max()),
            "marginals/bins_left": float(report.leaves.sum()),
        }
        measured = {
            "marginals/worst_z": f"largest |z| of {self.bins} bins × {self.functions} functions "
            f"on {len(x1)} pairs; chance explains {report.bound:.2f}",
            "marginals/bins_left": f"bins of time, of {self.bins}, whose |z| is larger",
        }
        figure = _bars(edges, worst, report.bound)
        return Findings(
            metrics, measured, (figure,), (Text("Where the drift leaves its path", str(report)),)
        )


def _bars(edges: Sequence[float], worst: Tensor, bound: float) -> Figure:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        widths = [b - a for a, b in itertools.pairwise(edges)]
        colours = ["tab:red" if z > bound else "tab:blue" for z in worst.tolist()]
        axes.bar(edges[:-1], worst.tolist(), width=widths, align="edge", color=colours, alpha=0.7)
        axes.axhline(bound, color="black", linestyle="--", label=f"chance explains {bound:.1f}")
        axes.set_xlabel("t")
        axes.set_ylabel("largest |z|")
        axes.set_ylim(0, 1.3 * max(bound, *worst.tolist()))
        axes.legend()

    caption = "Red bins: the drift does not carry the path's laws there, beyond chance."
    return Figure("marginals", "Where the drift leaves its path", caption, draw, (7.0, 3.2))
