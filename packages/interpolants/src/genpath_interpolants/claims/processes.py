r"""Processes: from the data to the base, there and back, and the ends from one point.

dZ = −b_B(1−τ, Z) dτ + √(2ε(1−τ)) dW      b = (b_F + b_B)/2      s = (b_F − b_B)/(2ε)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.models import ODE, Model
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.predictions import Rule
from genpath.reversal import reverse
from genpath.samplers import RungeKutta, integrate
from genpath.spaces import Euclidean
from genpath.tableaus import RK4
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    dial,
    equal,
    exact,
    frequencies,
    mean,
    near,
)

from ..dynamics import (
    BackwardSDE,
    DiffusiveSDE,
    Vanishing,
    conditional_ensemble,
    drifts,
    from_data,
    from_drifts,
    there_and_back,
)
from ..mixtures import GaussianMixture, MixtureMarginal
from ..paths import LinearPath
from ..samplers import StochasticHeun
from .runs import (
    DOUBLE,
    EPS,
    LINE,
    PLANE,
    Maker,
    backward,
    cells,
    changed,
    forward,
    less_score,
    linear,
    one,
    plane,
    points,
    quieter,
    scenes,
    step_moments,
    turned,
    two,
)

__all__ = [
    "processes",
]


def processes() -> tuple[Claim[Any], ...]:
    """The claims of ``interpolants.processes``."""
    return (inverse_drifts(), reversal(), backward_noise(), ensembles(), round_trip())


def inverse_drifts() -> Claim[Any]:
    """b and s from the two drifts."""

    def check(tools: Any, trial: Trial) -> Iterator[Evidence]:
        t, x = points(trial, 2)
        for scene in scenes(plane())[:2]:
            exact_fields = MixtureMarginal(scene.path, scene.law)
            for words in ("0.5", "2", "table"):
                eps = EPS[words]
                pair = tools.drifts(scene.path, "score", scene.score, eps)
                velocity, score = tools.from_drifts(*pair, eps)
                name = f"{scene.words}, ε {words}"
                yield near(
                    f"{name}: b", velocity(t, x), exact_fields.velocity(t, x), 1e-9, "1e5 roundings"
                )
                yield near(f"{name}: s", score(t, x), scene.score(t, x), 1e-9, "1e5 roundings")
                forward = DiffusiveSDE(eps).generator(scene.path, "score", scene.score)
                yield equal(f"{name}: b_F is the process's", pair[0](t, x), forward(t, x).velocity)
                backward = BackwardSDE(eps).generator(scene.path, "score", scene.score)
                yield equal(
                    f"{name}: b_B is the process's",
                    -pair[1](t, x),
                    backward(1 - t, x).velocity,
                    operations=4096,
                )

    def halved(tools: Any, size: float) -> Any:
        def wrong(*given: Any) -> Any:
            b, s = tools.from_drifts(*given)
            return b, lambda t, x: (1 + size) * s(t, x)

        return SimpleNamespace(drifts=tools.drifts, from_drifts=wrong)

    def swapped(tools: Any) -> Any:
        return SimpleNamespace(
            drifts=lambda *g: tools.drifts(*g)[::-1], from_drifts=tools.from_drifts
        )

    return Claim(
        "drifts",
        "The forward and the backward drift give the velocity and the score, and are the drifts "
        "of the two processes.",
        lambda: SimpleNamespace(drifts=drifts, from_drifts=from_drifts),
        check,
        (dial("s × (1 + δ)", halved), Control("b_F and b_B exchanged", swapped)),
        formula=r"b = \tfrac12(b_F + b_B),\quad s = (b_F - b_B)/(2\varepsilon)",
        entries=("L2.14",),
    )


def reversal() -> Claim[Maker]:
    """The backward process is the reversal, with ε at t = 1 − τ."""

    def check(make: Maker, trial: Trial) -> Iterator[Evidence]:
        t, x = points(trial, 2)
        for scene in scenes(plane()):
            for words in ("0.5", "rising", "table"):
                backward = make(EPS[words]).generator(scene.path, "score", scene.score)
                forward = DiffusiveSDE(EPS[words]).generator(scene.path, "score", scene.score)
                known = reverse(forward, score=scene.score)
                found, true = backward(1 - t, x), known(1 - t, x)
                name = f"{scene.words}, ε {words}"
                yield equal(f"{name}: drift", found.velocity, true.velocity, operations=4096)
                columns = [cast(Any, p.diffusion).columns(PLANE, x)[0] for p in (found, true)]
                yield equal(f"{name}: noise", *columns)
        law, steps = (0.8, 0.6), 64
        times = TimeGrid.uniform(steps).times
        moments = step_moments(
            StochasticHeun(), make(lambda t: t + 0.1), _latent_line, law, times, (0.8, 0.36)
        )
        for stop in (steps // 4, steps // 2, steps):
            (m, v), t_end = moments[stop], 1 - times[stop]
            level = (1 - t_end) ** 2 + 0.36 * t_end**2 + t_end * (1 - t_end)
            because = "h² of Heun's method, h = 1/64, times 4"
            yield near(f"mean at t = {t_end:g}", m, 0.8 * t_end, 1e-3, because)
            yield near(f"variance at t = {t_end:g}", v, level, 1e-3, because)

    def early(make: Maker) -> Maker:
        return lambda eps: make(turned(eps))

    def noise_early(make: Maker) -> Maker:
        def change(parts: Parts, tau: Tensor, x: Any, given: Any) -> Parts:
            eps = given[3]
            level = eps(tau) if callable(eps) else torch.full_like(tau, eps)
            return replace(parts, diffusion=ScalarNoise((2 * level).sqrt()))

        return changed(make, change)

    def forward_drift(make: Maker) -> Maker:
        def change(parts: Parts, tau: Tensor, x: Any, given: Any) -> Parts:
            path, name, field, eps = given
            return replace(parts, velocity=-drifts(path, name, field, eps)[0](1 - tau, x))

        return changed(make, change)

    return Claim(
        "reversal",
        "From the data, with noise ε(1−τ), the backward process is the time reversal of the "
        "forward one and has the law of the path at t = 1 − τ.",
        backward,
        check,
        (
            Control("ε(τ)", early),
            Control("ε(τ) in the noise", noise_early),
            Control("b_F in place of b_B", forward_drift),
        ),
        formula=r"dZ_\tau = -b_B(1-\tau, Z_\tau)d\tau + \sqrt{2\varepsilon(1-\tau)}\,dW_\tau",
        entries=("L3.2", "L1.12", "X4"),
        owes="reverse",
    )


def _latent_line(space: Euclidean) -> LinearPath:
    return linear(space, "sqrt")


def backward_noise() -> Claim[Maker]:
    """Along paths of the forward process, the backward noise is Brownian."""
    eps, v = 0.6, 0.5

    def check(make: Maker, trial: Trial) -> Iterator[Evidence]:
        still = Rule("velocity", ("score",), lambda t, x, s: 0 * s)
        path: Any = SimpleNamespace(space=LINE, rules=(still,))
        gen = make(eps).generator(path, "score", lambda t, x: -cast(Tensor, x) / v)
        steps, count, rng = 64, trial.count(6_000, 4_000), trial.rng()
        h, keep = 1 / steps, math.exp(-eps / v / steps)
        x = math.sqrt(v) * torch.randn(count, 1, generator=rng, dtype=DOUBLE)
        total, square = torch.zeros_like(x), torch.zeros_like(x)
        for k in range(steps):  # exact transitions of the stationary process
            xi = torch.randn(count, 1, generator=rng, dtype=DOUBLE)
            later = keep * x + math.sqrt(v * (1 - keep**2)) * xi
            parts = gen(1 - (k + 1) * h, later)
            sigma = float(cast(Any, cast(ScalarNoise, parts.diffusion)(torch.ones(1, 1)))[0, 0])
            noise = (x - later - h * cast(Tensor, parts.velocity)) / sigma
            total, square = total + later * noise, square + h * later**2
            x = later
        allowance = eps**2 * h / v / math.sqrt(2 * eps)
        yield mean("E ∫ g dW", total, 0.0, allowance=allowance, because="θ² v h/(2σ), twice")
        yield mean(
            "E (∫ g dW)² − ∫ E g²", total**2 - square, 0.0, allowance=4 * eps / v * h, because="4θh"
        )
        yield mean("∫ E g²", square, v)

    def turn(make: Maker) -> Maker:
        def change(parts: Parts, t: Tensor, x: Any, given: Any) -> Parts:
            return replace(parts, velocity=-cast(Tensor, parts.velocity))

        return changed(make, change)

    return Claim(
        "backward-noise",
        "Along exact paths of a stationary process, run backward, integrals against the backward "
        "process's noise have mean 0 and second moment ∫ E|g|².",
        backward,
        check,
        (Control("the drift with the other sign", turn), dial("noise √(2ε/(1+δ))", quieter)),
        formula=r"\mathbb{E}\int g\,dW^B = 0,\quad \mathbb{E}\big|\int g\,dW^B\big|^2 = "
        r"\int\mathbb{E}|g|^2dt",
        entries=("L3.3",),
    )


def _model(path: LinearPath, law: GaussianMixture) -> Model:
    marginal = MixtureMarginal(path, law)
    base = Gaussian(path.space.event_shape, 0.0, 1.0)
    return Model(marginal.field("velocity"), path, base, "velocity")


def ensembles() -> Claim[Maker]:
    """Ends from one point: one for the flow, a cloud for a process with noise."""
    centre, std = 0.8, 0.6

    def check(make: Maker, trial: Trial) -> Iterator[Evidence]:
        path, law = linear(LINE, "sqrt"), one(centre, std)
        model, grid = _model(path, law), TimeGrid.uniform(20)
        start = torch.tensor([[-1.0], [0.5]], dtype=DOUBLE)
        count = trial.count(4_000, 2_000)
        t = (torch.arange(4000, dtype=DOUBLE) + 0.5) / 4000
        clock = float((1 / ((1 - t) ** 2 + std**2 * t**2 + t * (1 - t))).mean())
        spreads = []
        for eps in (0.0, 0.3, 1.0):
            dynamics, rng = make(eps), trial.rng(f"{eps}")
            ends = conditional_ensemble(model, start, count, dynamics, StochasticHeun(), grid, rng)
            yield exact(f"ε = {eps:g}: shape", tuple(ends.shape), (2, count, 1))
            decay = math.exp(-eps * clock)
            expected = centre + std * decay * start[:, 0]
            spread = std**2 * (1 - decay**2)
            because = "h² of Heun's method"
            yield mean(
                f"ε = {eps:g}: means", ends[..., 0].T, expected, allowance=4e-3, because=because
            )
            square = (ends[..., 0].T - expected) ** 2
            yield mean(
                f"ε = {eps:g}: spread",
                square,
                torch.full((2,), spread),
                allowance=4e-3,
                because=because,
            )
            first, second = ends[0, ::2, 0], ends[0, 1::2, 0]
            spreads.append(float((first - second).abs().mean()))
        yield at_most("pairwise distance grows with ε", spreads[1], 0.9 * spreads[2], "formula")
        yield at_most("and is 0 for the flow", spreads[0], 1e-12, "rounding")

    return Claim(
        "ensembles",
        "From a fixed start the ends of the process have the law of the formula: one point without "
        "noise, wider the larger ε.",
        forward,
        check,
        (dial("drift b + (1 − δ) ε s", less_score), dial("noise √(2ε/(1+δ))", quieter)),
        formula=r"\mathrm{Var}(X_1|x_0) = v_1\big(1 - e^{-2\varepsilon\int dt/V_t}\big)",
        entries=("L5.12", "E6"),
    )


def round_trip() -> Claim[Any]:
    """To the base and back."""

    def check(tools: Any, trial: Trial) -> Iterator[Evidence]:
        scene = scenes(two())[0]
        model, rng = _model(scene.path, scene.law), trial.rng()
        data = scene.law.sample(trial.count(3_000, 1_500), rng)
        errors = []
        for steps in (10, 20):
            grid = TimeGrid.uniform(steps)
            back = tools.there_and_back(model, data[:50], ODE(), RungeKutta(RK4), grid, rng)
            errors.append((back - data[:50]).abs().max())
        yield at_most(
            "the flow returns: error with 20 steps", errors[1], errors[0] / 8, "order 4 gives 1/16"
        )
        level, grid = torch.full((16,), 1 / 16, dtype=DOUBLE), TimeGrid.uniform(20)
        for words, dynamics in (("flow", ODE()), ("noise", DiffusiveSDE(Vanishing(1.0)))):
            base = tools.from_data(model, data, dynamics, StochasticHeun(), grid, rng)
            yield frequencies(f"{words}: law at the base", cells(scene, 0.0, base), level)
        again = tools.there_and_back(
            model, data, DiffusiveSDE(Vanishing(1.0)), StochasticHeun(), grid, rng
        )
        yield frequencies("noise: law there and back", cells(scene, 1.0, again), level)
        moved = float((again - data).abs().mean())
        yield at_most("but another row", 0.1, moved, "noise mixes the components")

    def shifted(tools: Any) -> Any:
        def away(model: Model, data: Any, dynamics: Any, sampler: Any, grid: Any, rng: Any) -> Any:
            short = TimeGrid(grid.times[:-2] + grid.times[-1:])
            gen = model.generator(dynamics)
            base = tools.from_data(model, data, dynamics, sampler, short, rng)
            return integrate(sampler, gen, base, TimeGrid(grid.times[1:]), rng).state

        return SimpleNamespace(from_data=tools.from_data, there_and_back=away)

    def forward(tools: Any) -> Any:
        def run(model: Model, data: Any, dynamics: Any, sampler: Any, grid: Any, rng: Any) -> Any:
            return integrate(sampler, model.generator(dynamics), data, grid, rng).state

        return SimpleNamespace(from_data=run, there_and_back=tools.there_and_back)

    return Claim(
        "there-and-back",
        "The flow carries data to the base and returns every row; a process with noise carries "
        "it to the base's law and returns another row of the data's law.",
        lambda: SimpleNamespace(from_data=from_data, there_and_back=there_and_back),
        check,
        (
            Control("one step is left out on the way back", shifted),
            Control("the forward process from the data", forward),
        ),
        formula=r"X_{0,1}\circ X_{1,0} = \mathrm{id}",
        entries=("L3.1",),
    )
