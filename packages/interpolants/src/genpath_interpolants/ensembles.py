r"""What noise in the sampler does to one start: ensembles from it, and resampling by a mirror.

The laws at time t do not depend on ε; the joint law of X_0 and X_1 does. For a path between normal
laws with variance V_t along a principal direction, and any ε(t),

    Cov(X_0, X_1) = √(V_0 V_1) e^{−∫ε/V dt},   Var(X_1 | X_0) = V_1 (1 − e^{−2∫ε/V dt})

so that the flow (ε = 0) gives one end per start, and large ε forgets the start. On a mirror both
ends are data, V_t = β² v + γ²: the flow keeps its input and an SDE resamples it.
(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, sections 4.4 and 7.3.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from genpath.codecs import Identity
from genpath.errors import CapabilityError, ConfigError, DomainError
from genpath.evaluation import Figure, Findings, Scene, Text
from genpath.samplers import Solver
from genpath.schedules import AffineSchedule

from .dynamics import Shape, conditional_ensemble, eps_schedule
from .evaluations import curve, noisy, plus_minus, solver, subset, table

__all__ = ["Ensembles", "Resampling", "decay", "pairwise_distance", "pooled_correlation"]


def pairwise_distance(ends: Tensor) -> Tensor:
    """Mean distance of two different ends from one start: ``(starts,)``.

    Args:
        ends: ``(starts, count, *event)``, count ≥ 2.

    Raises:
        DomainError: one end per start.

    Example:
        >>> pairwise_distance(torch.tensor([[[0.0], [1.0], [2.0]]]))  # 1, 1 and 2
        tensor([1.3333])
    """
    starts, count = ends.shape[:2]
    if count < 2:
        raise DomainError("pairwise_distance", "two ends or more per start.", got=str(count))
    flat = ends.reshape(starts, count, -1)
    gaps = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    return gaps.sum((1, 2)) / (count * (count - 1))


def pooled_correlation(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Σ_i Cov(x_i, y_i) / √(Σ_i Var x_i · Σ_i Var y_i), with its standard error.

    The error is that of the influence of each row (the delta method).

    Args:
        x, y: rows that pair up ``(n, *event)``, n ≥ 3.

    Raises:
        DomainError: fewer than three pairs.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
        >>> value, error = pooled_correlation(x, 3 * x)
        >>> round(value, 6), round(error, 6)
        (1.0, 0.0)
    """
    if x.shape != y.shape or len(x) < 3:
        got = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise DomainError("pooled_correlation", "three pairs of rows or more.", got=got)
    a, b = (rows.reshape(len(rows), -1).double() for rows in (x, y))
    a, b = a - a.mean(0), b - b.mean(0)
    cross, first, second = (a * b).sum(1), a.square().sum(1), b.square().sum(1)
    value = cross.mean() / (first.mean() * second.mean()).sqrt()
    influence = value * (
        cross / cross.mean() - first / (2 * first.mean()) - second / (2 * second.mean())
    )
    return float(value), float(influence.std()) / math.sqrt(len(a))


def decay(
    schedule: AffineSchedule,
    variances: Tensor,
    eps: float,
    shape: Shape = "constant",
    cells: int = 2000,
) -> Tensor:
    """e^{−∫ε/V dt} of a mirror, V = β²v + γ², for each variance of the data: ``(d,)``.

    The integral is by the midpoint rule.

    Args:
        schedule: with α = 0.
        variances: v ``(d,)``.
        eps, shape: ε(t).
        cells: of the rule.

    Example:
        >>> from genpath_interpolants.schedules import mirror_schedule
        >>> v = torch.tensor([1.0], dtype=torch.float64)
        >>> round(float(decay(mirror_schedule("sqrt"), v, 0.85)), 3)  # ∫dt/(1 + t(1−t)) = 0.861
        0.481
    """
    t = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    level = eps_schedule(eps, shape)
    rate = level(t) if callable(level) else torch.full_like(t, level)
    beta, noise = schedule.beta(t).double(), schedule.gamma_squared(t).double()
    spread = beta.square() * variances.double()[:, None] + noise
    return torch.exp(-(rate / spread).mean(1))


# -- ensembles -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ensembles:
    """How various the ends from one start are: the component ``interpolants.ensembles``.

    For every ε, the mean distance of two ends of the same x0, and their variance per coordinate,
    in the data's units, averaged over starts. The distance of two held-out rows is what it would
    be if the start were forgotten.

    Args:
        eps: the values; 0 is the flow.
        shape: how ε runs over time.
        sampler: carries flows and SDEs.
        starts: draws of the base law.
        count: ends of each, two or more.
        height, width: of a picture where rows are pictures; 0 for no sheet.
        rows, columns: starts and ends in the sheet of each ε.
        low, high: data values shown black and white.

    Raises:
        DomainError: fewer than two starts or ends, or no ε.

    Example:
        >>> Ensembles(eps=(0.0, 1.0), starts=4).count
        16
    """

    eps: tuple[float, ...] = (0.0, 0.3, 1.0, 3.0)
    shape: Shape = "vanishing"
    sampler: Solver = field(default_factory=solver)
    starts: int = 64
    count: int = 16
    height: int = 0
    width: int = 0
    rows: int = 4
    columns: int = 6
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if min(self.starts, self.count) < 2 or not self.eps:
            raise DomainError(
                "interpolants.ensembles",
                "there is an ε, and two starts and two ends of each or more.",
                got=f"{len(self.eps)} ε, starts {self.starts}, count {self.count}",
            )

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Findings:
        start = scene.model.base.sample(self.starts, scene.rng)
        metrics: dict[str, float] = {}
        sheets: dict[float, Tensor] = {}
        for index, level in enumerate(self.eps):
            scene.progress("ensembles", index, len(self.eps))
            how, solve = noisy(level, self.shape), self.sampler
            ends = conditional_ensemble(
                scene.model, start, self.count, how, solve.sampler, solve.grid, scene.rng
            )
            if not isinstance(ends, Tensor):
                raise CapabilityError("evaluation interpolants.ensembles", "rows are one tensor.")
            ends = ends.cpu()
            sheets[level] = ends[: self.rows, : self.columns]
            each = {
                "distance": pairwise_distance(ends).double(),
                "variance": ends.double().reshape(*ends.shape[:2], -1).var(1).mean(1),
            }
            for name, values in each.items():
                key = f"ensemble-{name}/eps_{level:g}"
                metrics[key] = float(values.mean())
                metrics[f"{key}_se"] = float(values.std()) / math.sqrt(self.starts)
        scene.progress("ensembles", len(self.eps), len(self.eps))
        rows = scene.data.test[:1000]
        metrics["ensemble-distance/data"] = float(pairwise_distance(rows[None].to(torch.float64)))
        metrics["ensemble-variance/data"] = float(
            rows.double().reshape(len(rows), -1).var(0).mean()
        )
        return self._told(metrics, sheets)

    def _told(self, metrics: dict[str, float], sheets: dict[float, Tensor]) -> Findings:
        first = f"eps_{self.eps[0]:g}"
        measured = {
            f"ensemble-distance/{first}": f"mean distance of two ends of one start, {self.starts} "
            f"starts × {self.count} ends, in the data's units",
            f"ensemble-variance/{first}": "variance of the ends of one start, per coordinate",
            "ensemble-distance/data": "mean distance of two held-out rows",
            "ensemble-variance/data": "variance of held-out rows, per coordinate",
        }
        lines = []
        for level in self.eps:
            cells = [(f"ensemble-{name}/eps_{level:g}") for name in ("distance", "variance")]
            lines.append(
                [f"{level:g}", *(plus_minus(metrics[c], metrics[f"{c}_se"]) for c in cells)]
            )
        ends = [f"{metrics[f'ensemble-{name}/data']:.3g}" for name in ("distance", "variance")]
        text = table(
            ["ε", "distance given x0", "variance given x0"], [*lines, ["held-out rows", *ends]]
        )
        figures = [self._curve(metrics)]
        if self.height and self.width:
            figures.append(self._sheet(sheets))
        return Findings(metrics, measured, tuple(figures), (Text("Ends of one start", text),))

    def _curve(self, metrics: dict[str, float]) -> Figure:
        def draw(figure: Any) -> None:
            axes = figure.subplots()
            keys = [f"ensemble-distance/eps_{level:g}" for level in self.eps]
            values, errors = ([metrics[f"{k}{end}"] for k in keys] for end in ("", "_se"))
            curve(axes, self.eps, values, errors, label="two ends of one start")
            reference = metrics["ensemble-distance/data"]
            axes.axhline(reference, color="gray", linestyle="--", label="two held-out rows")
            axes.set_ylim(bottom=0)
            axes.set_ylabel("mean distance")
            axes.legend()

        caption = (
            "Without noise one end per start; the dashed line is where the start is forgotten."
        )
        return Figure("ensembles", "Ends of one start against ε", caption, draw, (6.0, 3.6))

    def _sheet(self, sheets: dict[float, Tensor]) -> Figure:
        pages = {
            e: _page(x, self.height, self.width, self.low, self.high) for e, x in sheets.items()
        }

        def draw(figure: Any) -> None:
            panels = figure.subplots(1, len(pages), squeeze=False)[0]
            for axes, (level, page) in zip(panels, pages.items(), strict=True):
                _show(axes, page, self.low, self.high)
                axes.set_title(f"ε = {level:g}")

        size = (2.6 * len(pages), 0.5 + 2.6 * self.rows * self.height / (self.columns * self.width))
        caption = (
            "Each row has one start, each column its own noise; the starts are the same for all ε."
        )
        return Figure("ensemble_sheet", "Ends of one start", caption, draw, size)


def _page(pictures: Tensor, height: int, width: int, low: float, high: float) -> Tensor:
    """Pictures ``(rows, columns, entries)`` as one image with borders.

    Raises:
        ConfigError: height × width is not the number of entries.
    """
    rows, columns = pictures.shape[:2]
    flat = pictures.reshape(rows, columns, -1)
    if flat.shape[2] != height * width:
        raise ConfigError(
            "evaluation", "height × width is the number of entries of a row.",
            got=f"{height} × {width}, rows of {flat.shape[2]}", fix="correct height and width",
        )  # fmt: skip
    page = torch.full((rows, columns, height + 1, width + 1), low + 0.5 * (high - low))
    page[:, :, :-1, :-1] = flat.reshape(rows, columns, height, width).to(page)
    return page.transpose(1, 2).reshape(rows * (height + 1), -1)[:-1, :-1]


def _show(axes: Any, page: Tensor, low: float, high: float) -> None:
    axes.imshow(page.numpy(), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


# -- resampling ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resampling:
    """What a mirror makes of held-out rows: the component ``interpolants.resampling``.

    Rows are encoded, carried from t = 0 to 1 with every ε, and compared with what came: their
    pooled correlation (`pooled_correlation`, in states), and the mean distance in data units. The
    reference is the normal twin of the training rows, Σ v e^{−∫ε/(β²v+γ²)dt} / Σ v over the
    eigenvalues v of their covariance: what a model of two moments would do.

    Args:
        eps: the values; 0 is the flow.
        shape: how ε runs over time.
        sampler: carries flows and SDEs.
        count: rows, three or more; None for all.
        split: whose rows.
        height, width: of a picture where rows are pictures; 0 for no sheet.
        shown: rows in the sheet.
        low, high: data values shown black and white.

    Raises:
        DomainError: no ε.
        CapabilityError: the path does not start from its data.

    Example:
        >>> Resampling(eps=(0.0, 1.0)).shape
        'vanishing'
    """

    eps: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0, 3.0)
    shape: Shape = "vanishing"
    sampler: Solver = field(default_factory=solver)
    count: int | None = 500
    split: str = "test"
    height: int = 0
    width: int = 0
    shown: int = 8
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.eps:
            raise DomainError("interpolants.resampling", "there is an ε.", got="none")

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Findings:
        model, schedule = scene.model, _mirror(scene)
        rows = subset(getattr(scene.data, self.split), self.count, scene.rng).to(scene.device)
        start = model.codec.encode(rows, scene.rng)[0]
        train = model.codec.encode(scene.data.train.to(scene.device), scene.rng)[0]
        covariance = torch.cov(train.reshape(len(train), -1).double().T).reshape(
            start[0].numel(), -1
        )
        variances = torch.linalg.eigvalsh(covariance).clamp_min(0).cpu()
        metrics: dict[str, float] = {}
        ends: list[Tensor] = []
        for index, level in enumerate(self.eps):
            scene.progress("resampling", index, len(self.eps))
            end, out = self._ends(scene, start, level)
            ends.append(out)
            name = f"eps_{level:g}"
            value, error = pooled_correlation(start, end)
            twin = variances * decay(schedule, variances.clamp_min(1e-12), level, self.shape)
            far = (out - rows.to(out)).double().reshape(len(rows), -1).norm(dim=1)
            metrics |= {
                f"resampling-correlation/{name}": value,
                f"resampling-correlation/{name}_se": error,
                f"resampling-twin/{name}": float(twin.sum() / variances.sum()),
                f"resampling-distance/{name}": float(far.mean()),
                f"resampling-distance/{name}_se": float(far.std()) / math.sqrt(len(far)),
            }
        scene.progress("resampling", len(self.eps), len(self.eps))
        return self._told(metrics, rows.cpu(), [end.cpu() for end in ends])

    def _ends(self, scene: Scene, start: Tensor, level: float) -> tuple[Tensor, Tensor]:
        """X_1 in states and in data units."""
        model, solve = scene.model, self.sampler
        states = replace(model, codec=Identity())
        end = conditional_ensemble(
            states, start, 1, noisy(level, self.shape), solve.sampler, solve.grid, scene.rng
        )[:, 0]
        return end, model.codec.decode(end)

    def _told(self, metrics: dict[str, float], rows: Tensor, ends: list[Tensor]) -> Findings:
        first = f"eps_{self.eps[0]:g}"
        measured = {
            f"resampling-correlation/{first}": f"of X_0 and X_1, {len(rows)} {self.split} rows, "
            "pooled over coordinates",
            f"resampling-twin/{first}": "the same for the normal twin of the training rows",
            f"resampling-distance/{first}": "mean |X_1 − X_0| in the data's units",
        }
        lines = []
        for level in self.eps:
            name = f"eps_{level:g}"
            pair = (f"resampling-correlation/{name}", f"resampling-distance/{name}")
            a, b = (plus_minus(metrics[key], metrics[f"{key}_se"]) for key in pair)
            lines.append([f"{level:g}", a, f"{metrics[f'resampling-twin/{name}']:.3f}", b])
        text = table(["ε", "correlation", "normal twin", "|X_1 − X_0|"], lines)
        figures = [self._curve(metrics)]
        if self.height and self.width:
            figures.append(self._sheet(rows, ends))
        return Findings(metrics, measured, tuple(figures), (Text("Resampling", text),))

    def _curve(self, metrics: dict[str, float]) -> Figure:
        def draw(figure: Any) -> None:
            axes = figure.subplots()
            keys = [f"resampling-correlation/eps_{level:g}" for level in self.eps]
            values, errors = ([metrics[f"{k}{end}"] for k in keys] for end in ("", "_se"))
            curve(axes, self.eps, values, errors, label="held-out rows")
            twin = [metrics[f"resampling-twin/eps_{level:g}"] for level in self.eps]
            axes.plot(range(len(twin)), twin, "--", color="gray", label="normal twin, exact")
            axes.set_ylim(-0.05, 1.05)
            axes.set_ylabel("correlation of input and output")
            axes.legend()

        caption = (
            "1: the input comes back. 0: the output has forgotten it. Bars: two standard errors."
        )
        return Figure("resampling", "Resampling against ε", caption, draw, (6.0, 3.6))

    def _sheet(self, rows: Tensor, ends: list[Tensor]) -> Figure:
        stacked = torch.stack([part[: self.shown].to(torch.float64) for part in (rows, *ends)])
        page = _page(stacked, self.height, self.width, self.low, self.high)
        names = ["input", *("flow" if e == 0 else f"ε = {e:g}" for e in self.eps)]

        def draw(figure: Any) -> None:
            axes = figure.subplots()
            _show(axes, page, self.low, self.high)
            step = self.height + 1
            axes.set_yticks([step * i + self.height / 2 for i in range(len(names))], names)
            axes.tick_params(length=0)

        tall = len(names) * self.height / (stacked.shape[1] * self.width)
        caption = "Each column is one held-out row, and what each ε makes of it; none was chosen."
        return Figure(
            "resampling_sheet", "Inputs and outputs", caption, draw, (6.5, 0.4 + 6.0 * tall)
        )


def _mirror(scene: Scene) -> AffineSchedule:
    schedule = getattr(scene.model.path, "schedule", None)
    half = torch.tensor([0.25, 0.5])
    if not isinstance(schedule, AffineSchedule) or bool((schedule.alpha(half) != 0).any()):
        raise CapabilityError(
            "evaluation interpolants.resampling",
            "the path starts from its data.",
            got=f"a {type(scene.model.path).__name__} with boundary {_boundary(schedule)}",
            fix="choose path: interpolants.mirror with base: data, or leave this evaluation out",
        )
    return schedule


def _boundary(schedule: Any) -> str:
    return schedule.boundary.kind if isinstance(schedule, AffineSchedule) else "unknown"
