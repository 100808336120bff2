r"""Reflow: pair every base draw with where its own flow ends, and learn the path between them.

    (x0, X_1(x0))     X the flow of a trained velocity         x^rec_t = α x0 + β X_1(x0),  γ = 0
    b^rec(t, y) = α̇ N_t(y) + β̇ X_1(N_t(y))     where M_t = α id + β X_1 has an inverse N_t

Since x0 determines the whole line, b^rec is its rate: the new flow is x ↦ α x + β X_1(x) itself. It
has the same end X_1, hence the same law at t = 1, and for α = 1 − t, β = t its solutions are
straight, so that one Euler step is exact. Straight is not optimal: the end map stays what it is;
a rotation is rectified into straight lines of positive action. (Liu, Gong & Liu 2022, arXiv
2209.03003; Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797.) With a learned
flow, the errors of its end stay in, and those of the new one are added.

`rectified_pairs` makes the pairs, the stage `Reflow` does a whole round in a run, and
`AffineRectification` is the case of an affine end map, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from genpath.couplings import Stored
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator, flow
from genpath.models import ODE, Model
from genpath.samplers import Solver, integrate
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean
from genpath.states import Field, chunks, concatenate, row_times

from .geometry import flow_geometry
from .schedules import linear_schedule

if TYPE_CHECKING:
    from genpath.run.folder import Run

__all__ = ["AffineRectification", "Reflow", "rectified_pairs"]


@torch.no_grad()
def rectified_pairs(
    model: Model, solver: Solver, count: int, rng: torch.Generator, *, chunk: int = 4096
) -> Stored:
    """Base draws x0 with the ends X_1(x0) of the model's probability flow, as states.

    Args:
        model: from which the velocity follows.
        solver: a sampler for flows, with its grid from 0 to 1.
        count: how many pairs.
        chunk: rows that are solved at once.

    Raises:
        CapabilityError: the model's path gives no velocity.

    Example:
        >>> from genpath import Gaussian
        >>> from genpath.components import heun
        >>> from genpath_interpolants.paths import LinearPath
        >>> model = Model(lambda t, x: 3 + 0 * x, LinearPath(Euclidean(1)), Gaussian((1,)))
        >>> pairs = rectified_pairs(model, heun(4, 0.0, 1.0), 5, torch.Generator().manual_seed(0))
        >>> bool(torch.isclose(pairs.x1, pairs.x0 + 3).all())
        True
    """
    gen, start = model.generator(ODE()), model.base.sample(count, rng)
    ends = [
        integrate(solver.sampler, gen, piece, solver.grid, rng).state
        for piece in chunks(start, chunk)
    ]
    return Stored(start, concatenate(ends))


# -- in a run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reflow:
    """The stage ``stage.interpolants.reflow``: train again on the model's own pairs.

    Each round takes the model of the round before (first, that of the stages before), makes pairs
    by its probability flow with the config's sampler, and trains as the config's ``train`` says,
    with these pairs in the place of the config's coupling. The last round's checkpoint becomes the
    run's, so that later stages use it. ``reflow/K/`` keeps what round K made (0: the model before);
    a stage that was stopped goes on from there. The run's metrics get, for every round, the mean
    action ∫E|Ẋ|² and straightness ∫E|X_1 − X_0 − Ẋ|² of the flow of 512 base draws.

    Args:
        rounds: how many times.
        rows: pairs in each round; a tenth more are made for validation.
        warm: whether a round starts from the weights of the one before.

    Raises:
        CapabilityError: (when run) the path has a latent noise, or declares a normal base: with
            x0 paired to x1 the config would say what is no longer true.

    Example:
        >>> Reflow(rounds=2).rows
        10000
    """

    rounds: int = 1
    rows: int = 10_000
    warm: bool = True

    def __call__(self, run: Run) -> None:
        from genpath.run.assembly import default_dtype

        _check_path(run.assembly.model.path)
        with default_dtype(run.config):
            self._rounds(run)

    def _rounds(self, run: Run) -> None:
        from genpath.run.checkpoints import CHECKPOINT, find_checkpoint
        from genpath.run.files import guarded, write_bytes
        from genpath.run.stages import load_trained

        place = run.folder / "reflow"
        with guarded(place):
            (place / "0").mkdir(parents=True, exist_ok=True)
        if not (place / "0" / CHECKPOINT).exists():
            write_bytes(place / "0" / CHECKPOINT, find_checkpoint(run.folder).read_bytes())
        metrics = dict[str, float]()
        for index in range(self.rounds + 1):
            if index and not (place / str(index) / CHECKPOINT).exists():
                self._round(run, place, index)
            metrics |= _geometry(run, place, index)
        last = place / str(self.rounds) / CHECKPOINT
        write_bytes(run.folder / CHECKPOINT, last.read_bytes())
        load_trained(run)
        how = "mean over the flows of 512 base draws, RK4 with 32 steps"
        run.add_metrics("interpolants.reflow", metrics, dict.fromkeys(metrics, how))

    def _round(self, run: Run, place: Path, index: int) -> None:
        """Train on the pairs of the round before, in a folder of its own."""
        from genpath.run import training
        from genpath.run.assembly import assemble
        from genpath.run.files import guarded
        from genpath.run.folder import Run
        from genpath.run.samples import read_samples, to_cpu, write_samples

        own = place / str(index)
        with guarded(own):
            own.mkdir(exist_ok=True)
        _use(run, place / str(index - 1))
        assembly = assemble(run.config, run.assembly.device)
        made = dict[str, Stored]()
        for name, rows in (("pairs", self.rows), ("validation", max(self.rows // 10, 1))):
            path = own / f"{name}.npz"
            if not path.exists():
                rng = run.rng(f"reflow/{name}", index)
                found = rectified_pairs(run.assembly.model, run.assembly.solver, rows, rng)
                write_samples(path, to_cpu({"x0": found.x0, "x1": found.x1}))
            stored = read_samples(path)
            made[name] = Stored(*(stored[end].to(assembly.device) for end in ("x0", "x1")))
        if self.warm:
            assembly.network.load_state_dict(run.assembly.network.state_dict())
        # cached properties, filled before they are asked for
        vars(assembly).update(coupling=made["pairs"], validation_coupling=made["validation"])
        inner = Run(run.config, own, run.console, run.display)
        vars(inner)["assembly"] = assembly
        run.console.print(f"reflow: round {index} of {self.rounds}", highlight=False)
        training.train(inner)


def _check_path(path: Any) -> None:
    latent, base = getattr(path, "latent", None), getattr(path, "base", None)
    if latent is not False or base != "any":
        raise CapabilityError(
            "stage.interpolants.reflow",
            "the path has γ = 0 and assumes nothing of the coupling.",
            got=f"{type(path).__name__} with base {base!r}, a latent noise: {latent}",
            fix="path: {name: interpolants.linear, gamma: none, base: any}",
        )


def _use(run: Run, folder: Path) -> None:
    """Put the weights of a round into the run's network."""
    from genpath.run.checkpoints import (
        find_checkpoint,
        load_weights,
        model_tensors,
        read_checkpoint,
    )

    checkpoint = read_checkpoint(find_checkpoint(folder))
    load_weights(run.assembly, checkpoint, model_tensors(checkpoint))
    run.assembly.network.eval()


def _geometry(run: Run, place: Path, index: int) -> dict[str, float]:
    _use(run, place / str(index))
    gen = run.assembly.model.generator(ODE())
    x0 = run.assembly.model.base.sample(512, run.rng("reflow/geometry"))
    found = flow_geometry(lambda t, x: gen(t, x).velocity, x0, steps=32)
    return {
        f"reflow/action_{index}": float(found.action.mean()),
        f"reflow/straightness_{index}": float(found.straightness.mean()),
    }


# -- exactly ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AffineRectification:
    r"""The rectified path of an affine end map T(x) = A x + c, in closed form.

        M_t(x) = (α I + β A) x + β c      b(t, y) = (α̇ I + β̇ A) M_t⁻¹(y) + β̇ c

    (x0, T(x0)) is any pairing by an affine map: T = μ + σx on the line, a rotation of the plane.

    Args:
        matrix: A ``(d, d)``; no eigenvalue is real and ≤ 0, where M_t would be singular for some t.
        shift: c ``(d,)``; 0 if None.
        schedule: α and β ≥ 0, of which γ is not used; 1 − t and t if None.

    Raises:
        ShapeError: the matrix is not (d, d), or the shift not (d,).
        DomainError: M_t is singular at some t: lines cross.

    Example:
        >>> quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
        >>> found = AffineRectification(quarter)
        >>> found.velocity(0.0, torch.tensor([[1.0, 0.0]]))  # straight to (0, 1)
        tensor([[-1.,  1.]])
    """

    matrix: Tensor
    shift: Tensor | None = None
    schedule: AffineSchedule = field(default_factory=linear_schedule)

    def __post_init__(self) -> None:
        matrix, d = self.matrix, len(self.matrix)
        if tuple(matrix.shape) != (d, d):
            raise ShapeError("AffineRectification", "A is (d, d).", got=str(tuple(matrix.shape)))
        if self.shift is not None and tuple(self.shift.shape) != (d,):
            got = str(tuple(self.shift.shape))
            raise ShapeError("AffineRectification", f"the shift is ({d},).", got=got)
        values = torch.linalg.eigvals(matrix)
        small = 1e-6 * values.abs().max().clamp_min(1e-30)
        crossing = (values.imag.abs() <= small) & (values.real <= small)
        if bool(crossing.any()):
            raise DomainError(
                "AffineRectification",
                "α I + β A is invertible for all t: no eigenvalue of A is real and ≤ 0.",
                got=f"an eigenvalue {float(values.real[crossing][0]):.3g}",
                fix="with crossing lines the rectified velocity is a mean, and not affine",
            )

    def transported(self, t: Tensor | float, x: Tensor) -> Tensor:
        """M_t(x) = α x + β T(x) ``(batch, d)``: where the flow is at time t."""
        times = row_times(t, x, "AffineRectification")
        alpha, beta = self.schedule.alpha(times)[:, None], self.schedule.beta(times)[:, None]
        return alpha * x + beta * self.end(x)

    def end(self, x: Tensor) -> Tensor:
        """T(x) ``(batch, d)``."""
        turned = x @ self.matrix.T
        return turned if self.shift is None else turned + self.shift

    def velocity(self, t: Tensor | float, x: Tensor) -> Tensor:
        """b^rec ``(batch, d)``."""
        times = row_times(t, x, "AffineRectification")
        s = self.schedule
        alpha, beta = (f(times)[:, None, None] for f in (s.alpha, s.beta))
        rates = (f.rate(times)[:, None] for f in (s.alpha, s.beta))
        eye = torch.eye(len(self.matrix)).to(self.matrix)
        moved = x if self.shift is None else x - beta[:, 0] * self.shift
        start = torch.linalg.solve(alpha * eye + beta * self.matrix, moved[..., None])[..., 0]
        alpha_rate, beta_rate = rates
        found: Tensor = alpha_rate * start + beta_rate * self.end(start)
        return found

    def generator(self) -> MarkovGenerator:
        """The flow of b^rec."""
        return flow(Euclidean(len(self.matrix)), cast(Field, self.velocity))
