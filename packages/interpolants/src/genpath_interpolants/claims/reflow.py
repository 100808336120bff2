r"""Claims of reflow: maps whose rectified path is known, and the stage that makes one in a run.

    T = μ + σ x          b = μ + (σ − 1)(y − tμ)/(1 + t(σ − 1)),     action μ² + (σ − 1)² = W2²
    T = e^{iθ} x         b = (e^{iθ} − 1) y/((1 − t) + t e^{iθ}),    action 4(1 − cos θ) > W2² = 0

A rotation of the plane is a product of complex numbers, which says all that is to be checked.
"""

from __future__ import annotations

import cmath
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor

from genpath.components import rk4
from genpath.couplings import Stored
from genpath.laws import Gaussian
from genpath.models import Model
from genpath.paths import draw_with_target
from genpath.samplers import Solver
from genpath.states import Field
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, exact, mean, near
from genpath.testing.evidence import refusal

from ..geometry import flow_geometry
from ..paths import LinearPath
from ..reflow import AffineRectification, Reflow, rectified_pairs
from ..schedules import trigonometric_schedule
from .cases import DOUBLE, LINE, normal

__all__ = ["reflow", "stage"]

MU, SIGMA, THETA = 0.8, 1.7, 2.0


def reflow() -> tuple[Claim[Any], ...]:
    """Claims of the topic ``interpolants.reflow``."""
    return (_stretch(), _rotation(), _pairs())


def _scaled(found: AffineRectification, size: float) -> AffineRectification:
    return but(found, velocity=lambda t, x: (1 + size) * found.velocity(t, x))


def _stretch() -> Claim[Any]:
    def make() -> AffineRectification:
        one = torch.ones(1, dtype=DOUBLE)
        return AffineRectification(SIGMA * one[:, None], MU * one)

    def check(found: AffineRectification, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        t, y = torch.rand(40, generator=rng, dtype=DOUBLE), normal(40, 1, rng=rng)
        s = t[:, None]
        true = MU + (SIGMA - 1) * (y - s * MU) / (1 + s * (SIGMA - 1))
        yield equal("b^rec", found.velocity(t, y), true)
        starts = normal(trial.count(4000, 1500), 1, rng=rng)
        path = flow_geometry(cast(Field, found.velocity), starts, steps=8)
        because = "rounding: the flow is a straight line, which Runge–Kutta solves exactly"
        yield near(
            "its flow ends at T", path.displacement, MU + (SIGMA - 1) * starts, 1e-12, because
        )
        yield near("straightness", path.straightness, 0 * path.straightness, 1e-12, because)
        jump = starts + found.velocity(0.0, starts)
        yield near("one Euler step is exact", jump, MU + SIGMA * starts, 1e-12, because)
        # of N(0, 1) and N(μ, σ²), W2² by the inverse distribution functions
        middles = (torch.arange(100_000, dtype=DOUBLE) + 0.5) / 100_000
        quantile = torch.special.ndtri(middles)
        squared = (MU + SIGMA * quantile - quantile).square().mean()
        yield mean("E∫|Ẋ|² = W2²", path.action, squared, allowance=1e-4,
                   because="tails of the quantiles")  # fmt: skip
        late = replace(found, schedule=trigonometric_schedule())
        x, h = late.transported(t, y), 1e-5
        rate = (late.transported(t + h, y) - late.transported(t - h, y)) / (2 * h)
        because = "h² f‴/6 of the central difference, h = 1e-5, and ε/h of rounding"
        yield near("b^rec of another schedule", late.velocity(t, x), rate, 1e-8, because)

    def started(found: AffineRectification) -> AffineRectification:
        """N_t is left out: the rate at y in the place of M_t⁻¹ y."""
        return but(found, velocity=lambda t, x: found.end(x) - x)

    return Claim(
        "stretch",
        "The rectified flow of T = μ + σx runs along straight lines to the same end; on the line, "
        "where T is monotone, its action is W2².",
        make,
        check,
        (
            dial("b^rec × (1 + δ)", _scaled),
            Control("N_t is left out", started),
            Control("σ is inverted", lambda found: replace(found, matrix=1 / found.matrix)),
        ),
        formula=r"b_t = (T - \mathrm{id})\circ M_t^{-1},\quad "
        r"\int\mathbb E|b_t|^2 = \mu^2 + (\sigma - 1)^2",
        entries=("H6.3", "L6.8"),
    )


def _turn(theta: float) -> AffineRectification:
    c, s = math.cos(theta), math.sin(theta)
    return AffineRectification(torch.tensor([[c, -s], [s, c]], dtype=DOUBLE))


def _rotation() -> Claim[Any]:
    def check(make: Callable[[float], AffineRectification], trial: Trial) -> Iterator[Evidence]:
        found, rng = make(THETA), trial.rng()
        t, y = torch.rand(30, generator=rng, dtype=DOUBLE), normal(30, 2, rng=rng)
        w = cmath.exp(1j * THETA)
        factor = (w - 1) / ((1 - t) + t * w)
        product = torch.view_as_real(factor * torch.view_as_complex(y))
        yield equal("b, as a complex product", found.velocity(t, y), product, operations=256)
        jacobian = torch.func.vmap(
            torch.func.jacrev(lambda z, r: found.velocity(r[None], z[None])[0])
        )(y, t)
        curl = jacobian[:, 1, 0] - jacobian[:, 0, 1]
        yield equal("its curl", curl, 2 * factor.imag, operations=256)
        yield exact("which is not 0", bool((curl.abs() > 0.1).all()))
        shrunk = found.transported(t, y).square().sum(1) / y.square().sum(1)
        true = 1 - 2 * t * (1 - t) * (1 - math.cos(THETA))
        yield equal("|M_t x|²/|x|²", shrunk, true, operations=256)
        starts = normal(trial.count(6000, 2000), 2, rng=rng)
        path = flow_geometry(cast(Field, found.velocity), starts, steps=16)
        action = 8 * math.sin(THETA / 2) ** 2
        yield mean("E∫|Ẋ|² = 8 sin²(θ/2)", path.action, action)
        because = "rounding: the flow is a straight line"
        yield near("straightness", path.straightness, 0 * path.straightness, 1e-11, because)
        ends = torch.view_as_real(w * torch.view_as_complex(starts)) - starts
        yield near("its end is the rotation", path.displacement, ends, 1e-11, because)
        still = make(0.0)
        yield equal("θ = 0 costs nothing", still.velocity(t, y), 0 * y)
        yield refusal("θ = π", lambda: make(math.pi), ValueError, "invertible")

    def back(make: Any) -> Any:
        return lambda theta: replace(make(theta), matrix=make(theta).matrix.T)

    def further(make: Any, size: float) -> Any:
        return lambda theta: make(theta if theta == math.pi else theta * (1 + size / 2))

    def symmetric(make: Any) -> Any:
        """The gradient part of the velocity alone."""

        def run(theta: float) -> Any:
            found = make(theta)

            def velocity(t: Any, x: Tensor) -> Tensor:
                other = replace(found, matrix=found.matrix.T)
                both: Tensor = 0.5 * (found.velocity(t, x) + other.velocity(t, x))
                return both

            return but(found, velocity=velocity)

        return run

    return Claim(
        "rotation",
        "A rotation by less than 180° is rectified to straight lines of action 8 sin²(θ/2), though "
        "its two ends have the same law: straight is not optimal. The velocity has a curl.",
        lambda: _turn,
        check,
        (
            Control("the rotation runs back", back),
            dial("the angle × (1 + δ/2)", further),
            Control("without the curl", symmetric),
        ),
        formula=r"b_t = (R - I)M_t^{-1}y,\quad M_tM_t^T = \big(1 - 2t(1-t)(1-\cos\theta)\big)I",
        entries=("F10", "H6.5"),
    )


Pairing = Callable[[Model, Solver, int, torch.Generator], Stored]


def _pairs() -> Claim[Any]:
    """From independent normal ends: X_1 = μ + σ x0, since V_t = (1−t)² + t²σ² is carried along."""

    def velocity(t: Tensor, x: Any) -> Tensor:
        s = t[:, None]
        total = (1 - s) ** 2 + s**2 * SIGMA**2
        found: Tensor = MU + (s * SIGMA**2 - (1 - s)) / total * (x - s * MU)
        return found

    def check(pairing: Pairing, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(2000, 500)
        path = LinearPath(LINE)
        model = Model(velocity, path, Gaussian((1,), dtype=DOUBLE))
        stored = pairing(model, rk4(200, 0.0, 1.0), count, rng)
        x0, x1 = torch.as_tensor(stored.x0), torch.as_tensor(stored.x1)
        because = "h⁴ of Runge–Kutta, h = 1/200"
        yield near("X_1 = μ + σ x0", x1, MU + SIGMA * x0, 1e-8, because)
        exactly = AffineRectification(
            torch.full((1, 1), SIGMA, dtype=DOUBLE), torch.full((1,), MU, dtype=DOUBLE)
        )
        t = torch.rand(count, generator=rng, dtype=DOUBLE)
        draw, target = draw_with_target(path, "velocity", t, x0, x1, rng)
        told = exactly.velocity(t, draw.state)
        yield near("the target is b^rec: nothing crosses", target, told, 1e-7, because)

    def torn(pairing: Pairing) -> Pairing:
        def run(*given: Any) -> Stored:
            found = pairing(*given)
            return Stored(found.x0, torch.as_tensor(found.x1).roll(1, 0))

        return run

    def short(pairing: Pairing) -> Pairing:
        return lambda model, solver, *given: pairing(model, rk4(100, 0.0, 0.9), *given)

    def mixed(pairing: Pairing, size: float) -> Pairing:
        def run(*given: Any) -> Stored:
            found = pairing(*given)
            return Stored(found.x0, (1 + size) * torch.as_tensor(found.x1))

        return run

    return Claim(
        "pairs",
        "Base draws come with the ends of their own flow; for them the regression target is a "
        "function of (t, x_t), the rectified velocity.",
        lambda: rectified_pairs,
        check,
        (
            Control("the ends of the next row", torn),
            Control("the flow stops at t = 0.9", short),
            dial("x1 × (1 + δ)", mixed),
        ),
        formula=r"x_1 - x_0 = b^{rec}(t, x_t)",
        entries=("L6.8",),
    )


# -- the stage -------------------------------------------------------------------------------------

CONFIG = """
seed: 3
device: cpu
threads: 1
precision: float64
data: interpolants.gaussian_mixture
base: gaussian
path: {name: interpolants.linear, gamma: none, base: any}
network: {name: mlp, width: 8, depth: 1, time_features: 2}
predict: velocity
objective: regression
train: {steps: 6, batch: 16, validate_every: 0, checkpoint_every: 3, log_every: 3}
dynamics: ode
sampler: {name: heun, steps: 8}
sample: {count: 4}
"""


def stage() -> tuple[Claim[Any], ...]:
    """Claims of ``stage.interpolants.reflow``."""
    return (_stage(),)


def _new_run(folder: Path, *changes: str) -> Any:
    from rich.console import Console

    from genpath.config.load import read_config
    from genpath.run.folder import Run
    from genpath.run.progress import Display

    folder.mkdir(exist_ok=True)
    console = Console(file=io.StringIO())
    return Run(read_config(CONFIG, list(changes)), folder, console, Display(console))


def _stage() -> Claim[Any]:
    from genpath.run.checkpoints import CHECKPOINT
    from genpath.run.samples import read_samples
    from genpath.run.stages import Train

    def weights(folder: Path) -> dict[str, Tensor]:
        from genpath.run.checkpoints import read_checkpoint

        return read_checkpoint(folder / CHECKPOINT).under("model/")

    def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        return all(torch.equal(a[name], b[name]) for name in a)

    def check(reflow: Callable[..., Any], trial: Trial) -> Iterator[Evidence]:
        seed = int(torch.randint(1000, (), generator=trial.rng()))
        with TemporaryDirectory() as place:
            run = _new_run(Path(place) / "run", f"seed={seed}")
            Train()(run)
            first = weights(run.folder)
            reflow(rounds=2, rows=40)(run)
            for index in (1, 2):
                own = run.folder / "reflow" / str(index)
                stored = read_samples(own / "pairs.npz")
                model = run.assembly.model
                model.network.load_state_dict(weights(run.folder / "reflow" / str(index - 1)))
                x = stored["x0"]
                with torch.no_grad():  # Heun's method, written out
                    for k in range(8):
                        t = torch.full((len(x),), k / 8, dtype=DOUBLE)
                        a = model.network(t, x)
                        b = model.network(t + 1 / 8, x + a / 8)
                        x = x + (a + b) / 16
                yield equal(f"pairs of round {index}: x1 = X_1(x0)", stored["x1"], x,
                            operations=4096)  # fmt: skip
                trained = not same(weights(own), weights(run.folder / "reflow" / str(index - 1)))
                yield exact(f"round {index} trains", trained)
            last = weights(run.folder / "reflow" / "2")
            yield exact("the run keeps the last round", same(weights(run.folder), last))
            kept = same(weights(run.folder / "reflow" / "0"), first)
            yield exact("and the model before", kept)
            metrics = run.metrics()["metrics"]
            found = sorted(name for name in metrics if name.startswith("reflow/"))
            names = sorted(f"reflow/{what}_{k}" for what in ("action", "straightness")
                           for k in range(3))  # fmt: skip
            yield exact("metrics of every round", found, names)
            # again, from the last round's files: nothing new is made
            reflow(rounds=2, rows=40)(run)
            yield exact("again: the same weights", same(weights(run.folder), last))
            noisy = _new_run(Path(place) / "noisy", "path.gamma=sqrt")
            Train()(noisy)
            yield refusal("γ ≠ 0", lambda: reflow(rounds=1, rows=4)(noisy), TypeError, "γ = 0")

    def forgetful(reflow: Any) -> Any:
        """The run keeps the model that it had."""

        def make(**options: Any) -> Any:
            def call(run: Any) -> None:
                kept = (run.folder / CHECKPOINT).read_bytes()
                reflow(**options)(run)
                (run.folder / CHECKPOINT).write_bytes(kept)

            return call

        return make

    def crossed(reflow: Any) -> Any:
        """Pairs with the base draws of the next row."""

        def make(**options: Any) -> Any:
            from genpath.run.samples import write_samples

            def call(run: Any) -> None:
                reflow(**options)(run)
                for path in run.folder.glob("reflow/*/pairs.npz"):
                    stored = read_samples(path)
                    write_samples(path, {**stored, "x0": stored["x0"].roll(1, 0)})

            return call

        return make

    return Claim(
        "rounds",
        "Each round pairs base draws with the ends of the last model's own flow, trains on them, "
        "and its weights become the run's; a stage that is run again makes nothing new.",
        lambda: Reflow,
        check,
        (
            Control("the run keeps the model that it had", forgetful),
            Control("the pairs are torn", crossed),
        ),
    )
