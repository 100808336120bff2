r"""Dynamics: processes with the laws of the path, from the base and from the data.

    dX = (b + ε s) dt + √(2ε) dW      dZ = −(b − ε s) dτ + √(2ε) dW, τ = 1 − t
    dX = (b + ½ div A + ½ A s) dt + A^{1/2} dW

The densities are the distributions' of torch, differentiated; laws of linear processes are found
without sampling error, by the moments of the very steps that a sampler makes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.models import ODE, Dynamics
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.predictions import Rule
from genpath.samplers import Euler, RungeKutta, Sampler, integrate
from genpath.spaces import Euclidean
from genpath.tableaus import RK4
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    dial,
    equal,
    exact,
    frequencies,
    near,
    order,
    refusal,
)

from ..dynamics import (
    BackwardSDE,
    DiffusiveSDE,
    MatrixSDE,
    Tabulated,
    Vanishing,
)
from ..mixtures import MixtureMarginal
from ..paths import LinearPath
from ..samplers import FinalDenoising, StochasticHeun
from .runs import (
    DOUBLE,
    EPS,
    LINE,
    PLANE,
    Maker,
    Scene,
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
    variance_preserving,
)

__all__ = [
    "matrix_sde",
    "sde",
]


def sde() -> tuple[Claim[Any], ...]:
    """The claims of ``dynamics.interpolants.sde``."""
    return (density(), laws(), one_sided(), ends(), bias(), same_samples(), separate(), naive())


def matrix_sde() -> tuple[Claim[Any], ...]:
    """The claims of ``dynamics.interpolants.matrix_sde``."""
    return (matrix_density(), matrix_mean())


# -- the density equation --------------------------------------------------------------------------


def density() -> Claim[Maker]:
    """The Fokker–Planck equation, for ε of every shape."""

    def check(make: Maker, trial: Trial) -> Iterator[Evidence]:
        t, x = points(trial, 2)
        for scene in scenes(plane())[: 2 if trial.fast else 3]:
            for words in EPS if scene.words == "latent" else ("0", "0.5", "2"):
                eps = EPS[words]
                gen = make(eps).generator(scene.path, "score", scene.score)
                found = gen.adjoint(scene.at(t), t, x)
                yield near(
                    f"{scene.words}, ε {words}: (L*p)/p",
                    found,
                    scene.rate(t, x),
                    1e-9 * (1 + scene.rate(t, x).abs().max()),
                    "1e5 roundings: second derivatives, divided by 1 − t ≥ 0.05",
                )

    return Claim(
        "density-equation",
        "For every ε(t) ≥ 0 the process with drift b + ε s and noise √(2ε) moves the path's "
        "density as the path does.",
        forward,
        check,
        (
            dial("drift b + (1 − δ) ε s", less_score),
            dial("noise √(2ε/(1+δ))", quieter),
            Control("the drift's ε at 1 − t", _turned_drift),
        ),
        formula=r"\partial_t\rho + \nabla\cdot((b+\varepsilon s)\rho) = \varepsilon\Delta\rho",
        entries=("L2.14",),
        owes="density",
    )


def _turned_drift(make: Maker) -> Maker:
    def change(parts: Parts, t: Tensor, x: Any, given: Any) -> Parts:
        path, name, field, eps = given
        return replace(
            parts, velocity=make(turned(eps)).generator(path, name, field).evaluate(t, x).velocity
        )

    return changed(make, change)


# -- laws of samples -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """The three processes under test, with what runs them."""

    forward: Maker = DiffusiveSDE
    backward: Maker = BackwardSDE
    noisy: Sampler = field(default_factory=StochasticHeun)


def laws() -> Claim[Runs]:
    """Forward from the base, backward from the data."""

    def check(runs: Runs, trial: Trial) -> Iterator[Evidence]:
        count, steps = trial.count(4_000, 2_000), trial.count(24, 16)
        level = torch.full((16,), 1 / 16, dtype=DOUBLE)
        kept = (steps // 4, steps // 2, steps)
        for scene in scenes(two())[:2]:
            rng, marginal = trial.rng(scene.words), MixtureMarginal(scene.path, scene.law)
            velocity = marginal.field("velocity")
            base = torch.randn(count, 1, generator=rng, dtype=DOUBLE)
            data = scene.law.sample(count, rng)
            made = (
                ("flow", ODE(), RungeKutta(RK4), base, 0.0),
                ("forward", runs.forward(Vanishing(1.0)), runs.noisy, base, 0.0),
                ("backward", runs.backward(Tabulated((0.2, 1.0, 0.0))), runs.noisy, data, 1.0),
            )
            for words, dynamics, sampler, start, turn in made:
                gen = dynamics.generator(scene.path, "velocity", velocity)
                grid = TimeGrid.uniform(steps if sampler is runs.noisy else 8)
                marks = kept if sampler is runs.noisy else (2, 4, 8)
                solved = integrate(sampler, gen, start, grid, rng, record=marks)
                for s, x in zip(solved.times, solved.trajectory, strict=True):
                    t = abs(turn - s)
                    yield frequencies(
                        f"{scene.words}, {words}: t = {t:g}", cells(scene, t, x), level
                    )

    return Claim(
        "laws-of-samples",
        "The flow and the forward process from the base, and the backward process from the data, "
        "have the path's law at every time, with noise that vanishes at the ends.",
        Runs,
        check,
        (
            Control("no ε s", lambda r: replace(r, forward=less_score(r.forward, 1.0))),
            Control("the backward process without b_B's ε s", _no_backward_score),
            Control("half the noise", lambda r: replace(r, forward=quieter(r.forward, 3.0))),
        ),
        formula=r"X_t\sim\rho_t,\quad Z_\tau\sim\rho_{1-\tau}",
        entries=("L3.1", "L4.9"),
    )


def _no_backward_score(runs: Runs) -> Runs:
    def change(parts: Parts, tau: Tensor, x: Any, given: Any) -> Parts:
        return replace(parts, velocity=-ODE().generator(*given[:3]).evaluate(1 - tau, x).velocity)

    return replace(runs, backward=changed(runs.backward, change))


def one_sided() -> Claim[Maker]:
    """One noise prediction is enough."""

    def check(make: Maker, trial: Trial) -> Iterator[Evidence]:
        t, x = points(trial, 1)
        for scene in scenes(two())[1:]:
            schedule = scene.path.schedule
            a, b = (s[:, None] for s in (schedule.alpha(t), schedule.beta(t)))
            da, db = (s.rate(t)[:, None] for s in (schedule.alpha, schedule.beta))
            eta = -a * scene.score(t, x)
            for words, eps in (("0.5", 0.5), ("rising", EPS["rising"])):
                level: Any = eps(t)[:, None] if callable(eps) else eps
                gen = make(eps).generator(scene.path, "base_denoiser", partial(_eta, scene))
                known = db / b * x + (da - a * db / b - level / a) * eta
                yield equal(
                    f"{scene.words}, ε {words}: drift",
                    gen(t, x).velocity,
                    known,
                    operations=2000,
                    because="cancellation of β̇/β x at t ≥ 0.05",
                )
        scene = scenes(two())[1]
        rng, count = trial.rng("law"), trial.count(4_000, 2_000)
        gen = make(Tabulated((1.0, 0.0))).generator(
            scene.path,
            "base_denoiser",
            MixtureMarginal(scene.path, scene.law).field("base_denoiser"),
        )
        start = torch.randn(count, 1, generator=rng, dtype=DOUBLE)
        x = integrate(StochasticHeun(), gen, start, TimeGrid.uniform(24), rng).state
        level = torch.full((16,), 1 / 16, dtype=DOUBLE)
        yield frequencies("law at t = 1, from N(0, 1)", cells(scene, 1.0, x), level)

    return Claim(
        "one-sided-form",
        "On a path from a normal law without latent noise, a prediction η of x0 gives the whole "
        "drift, and the process runs from N(0, I) to the data.",
        forward,
        check,
        (dial("drift b + (1 − δ) ε s", less_score), dial("noise √(2ε/(1+δ))", quieter)),
        formula=r"b_F = \tfrac{\dot\beta}{\beta}x + \big(\dot\alpha - \tfrac{\alpha\dot\beta}"
        r"{\beta} - \tfrac{\varepsilon}{\alpha}\big)\eta_z",
        entries=("L5.19", "A10"),
    )


def _eta(scene: Scene, t: Tensor, x: Any) -> Tensor:
    return -scene.path.schedule.alpha(t)[:, None] * scene.score(t, x)


# -- the ends --------------------------------------------------------------------------------------


def ends() -> Claim[Maker]:
    """Finite at t = 0 and t = 1 where ε vanishes."""

    def check(make: Maker, trial: Trial) -> Iterator[Evidence]:
        x = torch.randn(8, 1, generator=trial.rng(), dtype=DOUBLE)
        infinite: Any = SimpleNamespace(
            space=LINE,
            rules=(
                Rule("velocity", ("noise",), lambda t, y, n: n),
                Rule("score", ("noise",), lambda t, y, n: -n / (t * (1 - t))[:, None]),
            ),
        )
        gen = make(Vanishing(1.0)).generator(infinite, "noise", lambda t, y: y)
        for t in (0.0, 1.0):
            yield exact(f"drift at t = {t:g} where s is infinite", gen(t, x).velocity, x)
        half = cast(Tensor, gen(0.5, x).velocity)
        yield equal("drift at t = ½", half, x - x / 0.25)
        for scene in scenes(two()):
            velocity = MixtureMarginal(scene.path, scene.law).field("velocity")
            if scene.words.startswith("variance"):
                continue
            made = make(Vanishing(1.0)).generator(scene.path, "velocity", velocity)
            for sampler in (Euler(), StochasticHeun()):
                end = integrate(sampler, made, x, TimeGrid.uniform(5), trial.rng("run")).state
                finite = bool(end.isfinite().all())
                yield exact(f"{scene.words}: {type(sampler).__name__} stays finite", finite)

    def naive_product(make: Maker) -> Maker:
        def change(parts: Parts, t: Tensor, x: Any, given: Any) -> Parts:
            path, name, field, eps = given
            value = field(t, x)
            score = next(r for r in path.rules if r.gives == "score")
            if score.needs != (name,):
                return parts
            return replace(parts, velocity=value + eps(t)[:, None] * score.formula(t, x, value))

        return changed(make, change)

    return Claim(
        "ends",
        "Where ε(t) = 0 the drift is b, also where the score is infinite: no NaN at t = 0, 1.",
        forward,
        check,
        (Control("0 · ∞", naive_product), dial("drift b + (1 − δ) ε s", less_score)),
        formula=r"\varepsilon(t) = 0 \;\Rightarrow\; b_F = b",
        entries=("L5.20",),
    )


@dataclass(frozen=True)
class Ending:
    """How a run is ended."""

    last: Callable[[Sampler], Sampler] = FinalDenoising


def bias() -> Claim[Ending]:
    """Stopping early costs less the later, and nearly nothing with a last denoising step."""

    def check(ending: Ending, trial: Trial) -> Iterator[Evidence]:
        scene = Scene("one-sided", linear(LINE), one(0.8, 0.02))
        velocity = MixtureMarginal(scene.path, scene.law).field("velocity")
        gen = DiffusiveSDE(Tabulated((0.5, 0.0))).generator(scene.path, "velocity", velocity)
        x = torch.randn(trial.count(2_000, 1_000), 1, generator=trial.rng(), dtype=DOUBLE)
        raw, refined = [], []
        for tf in (0.8, 0.9, 0.95):
            end = integrate(StochasticHeun(), gen, x, TimeGrid.uniform(40, 0, tf), trial.rng("w"))
            raw.append(float((end.state - 0.8).square().mean().sqrt()))
            times = (*TimeGrid.uniform(40, 0, tf).times, 1.0)
            last = integrate(ending.last(StochasticHeun()), gen, x, times, trial.rng("w"))
            refined.append(float((last.state - 0.8).square().mean().sqrt()))
        yield at_most("distance to the data at t_f = 0.9 and 0.8", raw[1], 0.7 * raw[0], "1 − t_f")
        yield at_most("distance to the data at t_f = 0.95 and 0.9", raw[2], 0.7 * raw[1], "1 − t_f")
        for tf, far, close in zip((0.8, 0.9, 0.95), raw, refined, strict=True):
            yield at_most(
                f"t_f = {tf:g}: after a last denoising", close, 0.03, "E[x1|x] spreads less than x1"
            )
            yield at_most(
                f"t_f = {tf:g}: nearer than before", close, 0.5 * far, "the noise 1 − t_f is gone"
            )

    def idle(ending: Ending) -> Ending:
        def last(sampler: Sampler) -> Sampler:
            made = ending.last(sampler)

            def step(gen: Any, carry: Any, t: float, u: float, rng: torch.Generator) -> Any:
                return carry if u >= 1 else made.step(gen, carry, t, u, rng)

            return but(made, step=step)

        return replace(ending, last=last)

    return Claim(
        "early-stop",
        "Stopped at t_f < 1 a process is off by the noise 1 − t_f, which decreases to 0; one "
        "denoising step removes it.",
        Ending,
        check,
        (Control("the last step does nothing", idle),),
        formula=r"\hat x_1 = \mathbb{E}[x_1 | x_{t_f}]",
        entries=("L5.20",),
    )


# -- parameterisations, and what belongs where -----------------------------------------------------


def same_samples() -> Claim[tuple[Scene, ...]]:
    """What is predicted does not matter where it is exact."""

    def check(found: tuple[Scene, ...], trial: Trial) -> Iterator[Evidence]:
        for scene in found:
            marginal = MixtureMarginal(scene.path, scene.law)
            start = torch.randn(20, 2, generator=trial.rng(), dtype=DOUBLE)
            grid, reached = TimeGrid.uniform(8, 0.1, 0.9), dict[str, Tensor]()
            for name in scene.path.predictions:
                if all(hasattr(marginal, part) for part in name.split("+")):
                    known = _stacked(marginal, name)
                    gen = DiffusiveSDE(Vanishing(0.5)).generator(scene.path, name, known)
                    rng = trial.rng("noise")
                    reached[name] = integrate(StochasticHeun(), gen, start, grid, rng).state
            for name, x in reached.items():
                yield equal(
                    f"{scene.words}: {name} and velocity",
                    x,
                    reached["velocity"],
                    operations=2**20,
                    because="each of 8 steps multiplies an error by less than 4",
                )

    def rules(gives: str) -> Any:
        def plant(found: tuple[Scene, ...], size: float) -> tuple[Scene, ...]:
            return tuple(
                replace(scene, path=_scaled_rules(scene.path, gives, 1 + size)) for scene in found
            )

        return plant

    return Claim(
        "same-samples",
        "With exact fields every prediction, single or joint, gives the same samples from the "
        "same noise.",
        lambda: scenes(plane())[:2],
        check,
        (
            dial("rules of b × (1 + δ)", rules("velocity")),
            dial("rules of s × (1 + δ)", rules("score")),
        ),
        formula=r"b,\; (v, s),\; \eta_z,\; (b, s),\dots \;\mapsto\; X_t",
        entries=("L5.23",),
    )


def _stacked(marginal: Any, name: str) -> Callable[[Tensor, Any], Tensor]:
    if "+" not in name:
        return cast(Callable[[Tensor, Any], Tensor], marginal.field(name))
    first, second = name.split("+")
    return lambda t, x: torch.stack((marginal.field(first)(t, x), marginal.field(second)(t, x)), 1)


def _scaled_rules(path: LinearPath, gives: str, factor: float) -> LinearPath:
    def changed_rule(rule: Rule) -> Rule:
        if rule.gives != gives:
            return rule
        return replace(rule, formula=lambda *given: factor * rule.formula(*given))

    return but(path, rules=tuple(changed_rule(rule) for rule in path.rules))


def separate() -> Claim[Maker]:
    """γ belongs to the path, ε to the sampler."""

    def check(make: Maker, trial: Trial) -> Iterator[Evidence]:
        from genpath.plugins import registry

        law, times = (0.8, 0.6), TimeGrid.uniform(16, 0.0, 0.5).times
        known = registry()
        component = known.get("path", "interpolants.linear")
        for scale in (0.5, 2.0):

            def made(space: Euclidean, scale: float = scale) -> LinearPath:
                options = {"gamma": "sqrt", "gamma_scale": scale, "base": "gaussian"}
                return cast(LinearPath, component.build(options, state_space=space))

            level = 0.25 + 0.25 * 0.36 + 0.25 * scale
            for words in ("0.5", "vanishing", "table"):
                before = repr(made(LINE))
                m, v = step_moments(
                    StochasticHeun(), make(EPS[words]), made, law, times, (0.0, 1.0)
                )[-1]
                because = "h² of Heun's method, h = 1/32, times 2"
                yield near(f"a = {scale:g}, ε {words}: mean at ½", m, 0.4, 2e-3, because)
                yield near(f"a = {scale:g}, ε {words}: variance at ½", v, level, 2e-3, because)
                yield exact("the path says the same of itself", repr(made(LINE)) == before)
        for eps in (0.1, 2.0):
            options = {"eps": eps, "shape": "vanishing"}
            built = known.get("dynamics", "interpolants.sde").build(options)
            yield exact(f"a config's ε = {eps:g}", built == DiffusiveSDE(Vanishing(eps)))
        words = "a path has no ε"
        yield refusal(
            words, lambda: component.build({"eps": 1.0}, state_space=LINE), Exception, "eps"
        )

    return Claim(
        "path-and-sampler",
        "The law at t = ½ depends on the path's γ and not on the sampler's ε; a config sets the "
        "one in the path and the other in the dynamics.",
        forward,
        check,
        (dial("drift b + (1 − δ) ε s", less_score), dial("noise √(2ε/(1+δ))", quieter)),
        formula=r"\mathrm{Var}\,X_{1/2} = \tfrac14(1 + v_1) + \gamma^2(\tfrac12)",
        entries=("L2.17", "L5.24"),
    )


# -- the anti-pattern ------------------------------------------------------------------------------


def naive() -> Claim[Maker]:
    """The time-changed Ornstein–Uhlenbeck process blows up at t = 0; the interpolant's does not."""

    def run(gen: Callable[[Tensor, Tensor], Parts], steps: int) -> float:
        """The variance at t = 0 of Euler's method from N(0, v) at t = 1, in τ."""
        second = 0.36
        for tau, _ in itertools.pairwise(TimeGrid.uniform(steps).times):
            parts = gen(torch.tensor([tau], dtype=DOUBLE), torch.ones(1, 1, dtype=DOUBLE))
            growth = 1 + float(cast(Tensor, parts.velocity)) / steps
            noise = cast(ScalarNoise, parts.diffusion)(torch.ones(1, 1, dtype=DOUBLE))
            second = growth**2 * second + float(noise) ** 2 / steps
        return second

    def time_changed(tau: Tensor, z: Tensor) -> Parts:
        t = 1 - tau
        return Parts(-z / t[:, None], ScalarNoise((2 / t).sqrt()))

    def check(make: Maker, trial: Trial) -> Iterator[Evidence]:
        scene = Scene("variance preserving", variance_preserving(LINE), one(0.0, 0.6))
        gen = make(0.5).generator(scene.path, "score", scene.score)
        counts = (16, 32, 64, 128)
        ours = [abs(run(gen.evaluate, n) - 1.0) for n in counts]
        theirs = [abs(run(time_changed, n) - 1.0) for n in counts]
        yield order("the interpolant's process", [1 / n for n in counts], ours, 1.0)
        for n, error, other in zip(counts, ours, theirs, strict=True):
            yield near(
                f"time-changed, {n} steps: the variance is off by 1",
                other,
                1.0,
                1e-12,
                "the last step multiplies by 1 − (1/n)/(1/n) = 0 and adds 2",
            )
            yield at_most(f"{n} steps: error of the interpolant's", error, 0.2 * other, "bounded ε")

    return Claim(
        "no-naive-time-change",
        "Noising by the Ornstein–Uhlenbeck process in t = e^{−τ} has coefficients 1/t and never "
        "reaches N(0, 1) with fixed steps; the interpolant's backward process converges.",
        backward,
        check,
        (
            Control(
                "the time-changed process",
                lambda make: changed(make, lambda parts, tau, x, given: time_changed(tau, x)),
            ),
            dial("noise √(2ε/(1+δ))", quieter),
        ),
        formula=r"dZ^B = \tfrac{Z}{t}dt + \sqrt{2/t}\,dW^B",
        entries=("L6.3",),
    )


# -- matrices --------------------------------------------------------------------------------------


def bent(t: Tensor, x: Tensor) -> Tensor:
    """A smooth positive matrix that depends on time and place."""
    a = 1 + 0.5 * torch.sin(x[:, 0] + t)
    d = 1.2 + 0.4 * torch.cos(x[:, 1] - x[:, 0])
    c = 0.3 * torch.sin(x[:, 0] * x[:, 1])
    return torch.stack((torch.stack((a, c), 1), torch.stack((c, d), 1)), 1)


MatrixMaker = Callable[..., Dynamics]


def matrices() -> MatrixMaker:
    """What makes the process with a matrix."""
    return MatrixSDE


def matrix_density() -> Claim[MatrixMaker]:
    """The Fokker–Planck equation for a matrix that depends on the state."""

    def check(make: MatrixMaker, trial: Trial) -> Iterator[Evidence]:
        t, x = points(trial, 2)
        constant = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=DOUBLE)
        fields: dict[str, Any] = {
            "A(t, x)": bent,
            "A": constant,
            "diagonal": torch.tensor([0.5, 2.0], dtype=DOUBLE),
        }
        for scene in scenes(plane())[:2]:
            for words, a in fields.items():
                gen = make(a).generator(scene.path, "score", scene.score)
                rate = scene.rate(t, x)
                yield near(
                    f"{scene.words}, {words}: (L*p)/p",
                    gen.adjoint(scene.at(t), t, x),
                    rate,
                    1e-9 * (1 + rate.abs().max()),
                    "1e5 roundings: second derivatives, divided by 1 − t ≥ 0.05",
                )
                columns = torch.cat(cast(Any, gen(t, x).diffusion).columns(PLANE, x))
                square = torch.einsum("kbi,kbj->bij", columns, columns)
                true = a(t, x) if callable(a) else (a if a.dim() == 2 else torch.diag(a))
                yield equal(f"{words}: A^½ A^½ᵀ", square, true.expand_as(square))
            plain = DiffusiveSDE(0.5).generator(scene.path, "score", scene.score)
            gen = make(torch.ones(2, dtype=DOUBLE)).generator(scene.path, "score", scene.score)
            yield equal("A = 2εI: drift", gen(t, x).velocity, plain(t, x).velocity, operations=4096)

    def without(part: str) -> Any:
        def plant(make: MatrixMaker, size: float) -> MatrixMaker:
            def planted(a: Any) -> Dynamics:
                right = make(a)

                def generator(path: Any, name: str, field: Any) -> MarkovGenerator:
                    gen = right.generator(path, name, field)
                    flow = ODE().generator(path, name, field)

                    def evaluate(t: Tensor, x: Tensor) -> Parts:
                        parts = gen.evaluate(t, x)
                        drift = cast(Tensor, parts.velocity)
                        pulled = 0.5 * torch.einsum("bij,bj->bi", _matrix(a, t, x), field(t, x))
                        rest = drift - cast(Tensor, flow.evaluate(t, x).velocity) - pulled
                        gone = rest if part == "div A" else pulled
                        return replace(parts, velocity=drift - size * gone)

                    return replace(gen, evaluate=evaluate)

                return but(right, generator=generator)

            return planted

        return plant

    return Claim(
        "density-equation",
        "With noise A^{1/2} and drift b + ½ div A + ½ A s, the law is that of the path for every "
        "positive A(t, x).",
        matrices,
        check,
        (dial("½(1 − δ) div A", without("div A")), dial("½(1 − δ) A s", without("A s"))),
        formula=r"b_A = b + \tfrac12\nabla\cdot A + \tfrac12 A\nabla\log\rho",
        entries=("H2.4",),
        owes="density",
    )


def _matrix(a: Any, t: Tensor, x: Tensor) -> Tensor:
    if callable(a):
        return cast(Tensor, a(t, x))
    return (a if a.dim() == 2 else torch.diag(a)).expand(len(x), *a.shape[-1:] * 2)


def matrix_mean() -> Claim[MatrixMaker]:
    """A stationary law keeps its mean; without div A it drifts to .11."""

    def check(make: MatrixMaker, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-6, 6, 4001, dtype=DOUBLE)[:, None]
        parts = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(torch.tensor([0.4, 0.6], dtype=DOUBLE)),
            Normal(torch.tensor([-1.0, 1.0], dtype=DOUBLE), 0.5),
        )
        p = parts.log_prob(x[:, 0]).exp()

        def score(t: Tensor, y: Any) -> Tensor:
            slope: Tensor = torch.func.grad(lambda z: parts.log_prob(z[:, 0]).sum())(y)
            return slope

        still = Rule("velocity", ("score",), lambda t, y, s: 0 * s)
        path: Any = SimpleNamespace(space=LINE, rules=(still,))
        gen = make(lambda t, y: (1 + 0.8 * torch.sin(2 * y))[:, :, None])
        drift = cast(Tensor, gen.generator(path, "score", score)(0.5, x).velocity)[:, 0]
        h = 12 / 4000
        yield near(
            "d/dt E X", (p * drift).sum() * h, 0.0, 1e-10, "the trapezoidal rule, p(±6) < 1e-21"
        )
        a = 1 + 0.8 * torch.sin(2 * x[:, 0])
        # L x² = 2 x·drift + A, whose mean is 0 too
        yield near("d/dt E X²", (p * (2 * x[:, 0] * drift + a)).sum() * h, 0.0, 1e-10, "the same")
        # the drift alone determines the stationary density: ½ (A p)' = drift p
        yield near("E X", (p * x[:, 0]).sum() * h, 0.2, 1e-10, "the same")
        flux = 2 * torch.cumsum(drift / a, 0) * h
        density = (flux - torch.log(a)).exp()
        centre = (density * x[:, 0]).sum() / density.sum()
        yield near(
            "E X of the law that it keeps", centre, 0.2, 4e-3, "h of the running sum, times 1"
        )

    def without(make: MatrixMaker, size: float) -> MatrixMaker:
        def planted(a: Any) -> Dynamics:
            uniform = MatrixSDE(a, uniform=True)  # leaves out div A
            right = make(a)

            def generator(path: Any, name: str, field: Any) -> MarkovGenerator:
                gen, less = right.generator(path, name, field), uniform.generator(path, name, field)

                def evaluate(t: Tensor, x: Tensor) -> Parts:
                    parts, other = gen.evaluate(t, x), less.evaluate(t, x)
                    drift, plain = cast(Tensor, parts.velocity), cast(Tensor, other.velocity)
                    return replace(parts, velocity=drift - size * (drift - plain))

                return replace(gen, evaluate=evaluate)

            return but(right, generator=generator)

        return planted

    return Claim(
        "stationary-mean",
        "With A = 1 + 0.8 sin 2x and no flow, the mixture of two normal laws keeps its mean 0.2; "
        "without div A it does not.",
        matrices,
        check,
        (dial("½(1 − δ) div A", without),),
        formula=r"dX = (\tfrac12 A' + \tfrac12 A s)\,dt + \sqrt{A}\,dW",
        entries=("H2.4",),
    )
