r"""The process from one point: its fields, its samples, and that no flow has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.couplings import Pairs
from genpath.errors import CapabilityError
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.models import ODE, SDE
from genpath.samplers import Euler, integrate
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    contracts,
    dial,
    equal,
    exact,
    mean,
    refusal,
)

from ..diffusive import Diffusive, DiffusivePath
from ..point_mass import FromStarts, PointMass, PointMassPath, point, point_mass
from .atoms import Atoms, atom_pairs, conversions, equation, score
from .bent import (
    scaled,
    shifted as shifted_target,
)
from .cases import DOUBLE, LINE, PLANE, normal
from .diffusive import LEVEL, level_at

__all__ = ["from_point", "start"]

Claims = tuple[Claim[Any], ...]


def from_point() -> Claims:
    """The claims of ``path.interpolants.point_mass``."""
    build = lambda: PointMassPath(PLANE, torch.full((2,), 0.4, dtype=DOUBLE), 0.5)  # noqa: E731
    return (*contracts.path(build, _from_point, rows=2000), point_fields(), sampling())


def start() -> Claims:
    """The claims of ``law.interpolants.point``."""
    return (no_flow(),)


def _from_point(count: int, rng: torch.Generator) -> Pairs:
    return Pairs(torch.full((count, 2), 0.4, dtype=DOUBLE), normal(count, 2, rng=rng))


# -- from one point --------------------------------------------------------------------------------


def _rise(t: Tensor, delta: float = 0.2) -> Tensor:
    """h, written out."""
    u = ((t - delta) / (1 - delta)).clamp(0, 1)
    return 10 * u**3 - 15 * u**4 + 6 * u**5


def _from(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    h = _rise(t.reshape(-1, 1))
    return (1 - h) * x0 + h * x1


def point_fields() -> Claim[tuple[Atoms, ...]]:
    """Fields of the path from a point, on and after the flat start."""

    def make() -> tuple[Atoms, ...]:
        path = PointMassPath(LINE, torch.tensor([0.7], dtype=DOUBLE), LEVEL, 0.2)
        _, x1, weights = atom_pairs()
        gamma = lambda t: (2 * (0.6 + 0.8 * t**2) * t * (1 - t)).sqrt()  # noqa: E731
        return (Atoms("from 0.7", path, 0.7 + 0 * x1, x1, weights, _from, gamma),)

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        count = trial.count(60)
        level = level_at
        yield equation(case, trial.rng(), count, "diffusive_drift", level)
        yield score(case, trial.rng(), count)
        yield score(case, trial.rng(), count, "denoiser")
        yield score(case, trial.rng(), count, "noise")
        u, v, d, z, s = (
            "diffusive_drift", "interpolant_velocity", "denoiser", "noise", "score"
        )  # fmt: skip
        table = (
            ((d,), u), ((d,), v), ((d,), z), ((v, s), u), ((v, z), u), ((u, s), v), ((s,), z),
            ((f"{v}+{z}",), u),
        )  # fmt: skip
        yield from conversions(case, trial.rng(), count, table)
        t = torch.linspace(0.02, 0.2, 10, dtype=DOUBLE)
        x = 0.7 + normal(10, 1, rng=trial.rng())
        gamma2 = (2 * level(t) * t * (1 - t))[:, None]
        flat = Normal(0.7, gamma2.sqrt())
        slope = torch.func.grad(lambda y: flat.log_prob(y).sum())(x)
        yield equal("s on the flat start", case.field(s)(t, x), slope, operations=512)
        zero = torch.zeros_like(x)
        yield equal("v on the flat start", case.field(v)(t, x), zero, scale=1.0)
        told = case.field(u)(t, x)
        wrong = torch.full_like(x, 100.0)  # what a network says there is not asked
        gen = Diffusive().generator(case.path, u, lambda t, x: wrong)
        yield equal("u on the flat start", gen(t, x).velocity, told, operations=512)
        at_start = gen(0.0, x).velocity
        yield equal("u at t = 0", at_start, -(x - 0.7), operations=16)
        yield exact("u at the point", gen(0.0, 0 * x + 0.7).velocity, zero)

    def unswitched(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        (case,) = found
        return (replace(case, path=but(case.path, from_start=lambda t, x, value: value)),)

    def turned(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        (case,) = found
        right = case.path.from_start
        flip = but(case.path, from_start=lambda t, x, value: -right(t, x, value))
        return (replace(case, path=flip),)

    def off(found: tuple[Atoms, ...], size: float) -> tuple[Atoms, ...]:
        return (shifted_target(found[0], "denoiser", lambda t, value: value + size),)

    return Claim(
        "point-fields",
        "From a point, E[x1 | x] gives every field; on the flat start x_t ~ N(x*, 2at(1−t)), "
        "s = −(x − x*)/(2at(1−t)) and u = (a'/(2a) − 1/(1−t))(x − x*), −(x − x*) at t = 0.",
        make,
        check,
        (
            Control("the network's u on [0, δ]", unswitched),
            Control("−u on [0, δ]", turned),
            dial("E[x1 | x] + δ", off),
            dial("target of u × (1 + δ)", scaled("diffusive_drift")),
        ),
        formula=r"u = -\frac{x - x_*}{1-t} \text{ on } [0, \delta]",
        entries=("L4.4", "H4.2"),
        owes="density",
    )


WEIGHTS = torch.tensor([0.4, 0.6], dtype=DOUBLE)
CENTRES, WIDTH = torch.tensor([-1.5, 1.2], dtype=DOUBLE), 0.4
"""Data of mean 0.12 and variance 1.9096."""


def _denoiser(t: Tensor, x: Tensor, start_: Tensor) -> Tensor:
    """E[x1 | x] from a point, for the two normal components."""
    h = _rise(t)[:, None]
    noise = (t * (1 - t))[:, None]  # γ² for a = ½
    variance = (h * WIDTH) ** 2 + noise
    means = (1 - h) * start_ + h * CENTRES
    log_terms = -0.5 * (x - means).square() / variance.clamp_min(1e-300)
    posterior = (log_terms + WEIGHTS.log()).softmax(1)
    each = CENTRES + h * WIDTH**2 / variance.clamp_min(1e-300) * (x - means)
    return (posterior * each).sum(1, keepdim=True)


def sampling() -> Claim[Any]:
    """Samples from one point, and given the point."""

    def make() -> Any:
        path = PointMassPath(LINE, torch.tensor([0.7], dtype=DOUBLE), 0.5, 0.2)
        free = PointMassPath(LINE, None, 0.5, 0.2)
        return path, free, Diffusive(), _denoiser

    def check(found: Any, trial: Trial) -> Iterator[Evidence]:
        path, free, dynamics, mean_of = found
        count, steps = trial.count(5000, 2500), trial.count(80, 50)
        gen = dynamics.generator(
            path, "denoiser", lambda t, x: mean_of(t, x, torch.full_like(x, 0.7))
        )
        grid = TimeGrid.uniform(steps).through(path.breakpoints)
        at = PointMass(torch.tensor([0.7], dtype=DOUBLE)).sample(count, trial.rng())
        end = integrate(Euler(), gen, at, grid, trial.rng()).state
        yield mean(
            "X_1",
            end,
            torch.tensor([0.12]),
            allowance=2 / steps,
            because="2h: Euler's bias, 1.1h on 100 000 rows",
        )
        square = (end - 0.12).square()
        because = "2h: Euler's bias, 0.2h on 100 000 rows"
        yield mean("Var X_1", square, torch.tensor([1.9096]), allowance=2 / steps, because=because)
        left = (end < -0.15).double()
        inner = Normal(CENTRES, WIDTH).cdf(torch.tensor(-0.15, dtype=DOUBLE))
        yield mean("P(X_1 < −0.15)", left, (WEIGHTS * inner).sum().reshape(1),
            allowance=2 / steps, because="2h: Euler's bias, 0.5h on 100 000 rows")  # fmt: skip
        # each row from a start of its own: x1 = x* + the mixture, so X_1 − x* has its law
        starts = normal(count, 1, rng=trial.rng("starts"))

        def denoiser(t: Tensor, state: Any) -> dict[str, Tensor]:
            fact = state["start"]
            moved = mean_of(t, state["x"] - fact, torch.zeros_like(fact))
            return {"x": fact + moved}

        gen = dynamics.generator(free, "denoiser", denoiser)
        state = {"x": starts, "start": starts}
        end = integrate(Euler(), gen, state, grid, trial.rng("free")).state["x"]
        yield mean("X_1 − x* given x*", (end - starts) * torch.cat([torch.ones_like(starts),
            starts], 1), torch.tensor([0.12, 0.0]), allowance=2 / steps,
            because="2h: Euler's bias, 1.1h on 100 000 rows")  # fmt: skip
        square = (end - starts - 0.12).square()
        yield mean("Var(X_1 | x*)", square, torch.tensor([1.9096]), allowance=2 / steps,
            because=because)  # fmt: skip

    def noisy(found: Any) -> Any:
        path, free, dynamics, mean_of = found

        def generator(path: Any, prediction: str, field: Any) -> MarkovGenerator:
            gen: MarkovGenerator = dynamics.generator(path, prediction, field)

            def evaluate(t: Tensor, x: Any) -> Any:
                parts = gen.evaluate(t, x)
                noise: Any = parts.diffusion
                return replace(parts, diffusion=noise.scaled(1.25))

            return replace(gen, evaluate=evaluate)

        return path, free, but(dynamics, generator=generator), mean_of

    def stretched(found: Any, size: float) -> Any:
        path, free, dynamics, mean_of = found
        return path, free, dynamics, lambda t, x, start_: (1 + size) * mean_of(t, x, start_)

    def short(found: Any) -> Any:
        return tuple(
            PointMassPath(LINE, path.point, 0.5, 0.4) for path in found[:2]
        ) + found[2:]  # fmt: skip

    return Claim(
        "sampling",
        "dX = u dt + √(2a)dW from one point has the law of the data at t = 1, and from a start of "
        "its own for each row the law of the data given that start.",
        make,
        check,
        (
            Control("noise × 1.25", noisy),
            Control("E[x1 | x] × 1.25", lambda found: stretched(found, 0.25)),
            Control("another δ in the path", short),
        ),
        formula=r"X_0 = x_*,\quad dX = u\,dt + \sqrt{2a}\,dW \Rightarrow X_1 \sim \rho_1",
        entries=("L4.4",),
    )


def _still(t: Tensor, x: Any) -> Any:
    return 0 * x


def _waves(t: Tensor, x: Any) -> Any:
    return torch.sin(3 * x) - t[:, None]


def no_flow() -> Claim[Any]:
    """No flow from a point."""

    def check(found: Any, trial: Trial) -> Iterator[Evidence]:
        path = found(LINE, 0.5, 0.2, (0.7,))
        law = point(path)
        drawn_ = law.sample(5, trial.rng())
        yield equal("the point", drawn_, torch.full((5, 1), 0.7))
        for dynamics in (ODE(), SDE(0.5)):
            name = type(dynamics).__name__
            ask = partial(dynamics.generator, path, "denoiser", _still)
            words = "no rule leads to 'velocity'"
            yield refusal(f"{name} from a point", ask, CapabilityError, words)
        yield refusal(
            "a point for another path", lambda: point(DiffusivePath(LINE)), CapabilityError,
            "only a process with noise leaves a point",
        )  # fmt: skip
        yield exact("no velocity is offered", "velocity" in path.predictions, False)
        # a flow is a map: copies of one point stay one point; the process spreads them
        start_ = law.sample(200, trial.rng()).double()
        bound = ODE().generator(DiffusivePath(LINE, None, 0.5), "velocity", _waves)
        end = integrate(Euler(), bound, start_, TimeGrid.uniform(50), trial.rng()).state
        yield equal("the spread of a flow", end, end[:1].expand(200, 1), operations=0)
        gen = Diffusive().generator(path, "denoiser", _still)
        ran = integrate(Euler(), gen, start_, TimeGrid.uniform(50, 0.0, 0.2), trial.rng()).state
        because = "four standard errors below 2at(1−t) = 0.16 of 200 draws"
        yield at_most("the spread of the process", 0.16 * (1 - 4 * 0.1), ran.var(), because)
        both = FromStarts(law).sample(3, trial.rng())
        yield exact("starts hold themselves", torch.equal(both["x"], both["start"]))

    def with_velocity(build: Any) -> Any:
        from genpath.predictions import Rule

        def wrong(*args: Any) -> Any:
            path = build(*args)
            rule = Rule("velocity", ("denoiser",), lambda t, x, d: d - x)
            return but(path, rules=(*path.rules, rule))

        return wrong

    def moved(build: Any) -> Any:
        return lambda space, a, delta, value: build(space, a, delta, (value[0] + 0.1,))

    def quiet(build: Any) -> Any:
        return lambda space, a, delta, value: build(space, a / 2, delta, value)

    return Claim(
        "no-flow",
        "A flow leaves a point as a point, so the ODE, and every SDE that needs its velocity, is "
        "refused for a path from a point; the diffusive process spreads it.",
        lambda: point_mass,
        check,
        (
            Control("a rule to a velocity", with_velocity),
            Control("another point", moved),
            Control("a/2", quiet),
        ),
        entries=("H4.2",),
    )
