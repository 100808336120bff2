r"""Weighted particles against an exact discrete recursion, and what a row keeps.

The model is dX = dW from N(0, v0) with g = −κ x²/2. On a grid it stays Gaussian: a weight adds κ h
to the precision P of p̃ ∝ e^{ℓ − P x²/2}, a move makes it P/(1 + h P) and takes ½ log(1 + h P) from
ℓ. So E Ẑ is known exactly for the very steps that were taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.parts import Parts
from genpath.samplers import Carry
from genpath.spaces import Product
from genpath.testing import Claim, Control, Evidence, Trial, at_most, but, dial, equal, exact, mean

from ..populations import Population, Resample
from ..resampling import SCHEMES
from ..smc import Particles, run_particles, weights_only_in
from .resampling import schemes
from .weighted_steps import KAPPA, LINE, V0, heat, steps

__all__ = ["particles", "resampling"]

DOUBLE = torch.float64


def resampling() -> tuple[Claim[Any], ...]:
    """Those of the schemes."""
    return schemes()


def particles() -> tuple[Claim[Any], ...]:
    """Those of weighted runs."""
    return (
        *steps(),
        normaliser(),
        resampling_window(),
        weight_window(),
        rows(),
        constants(),
    )


def on_a_grid(steps: int, window: tuple[float, float] = (0.0, 1.0)) -> tuple[float, float]:
    """Z and variance after Euler's steps to t = 1, with weights for t in [tmin, tmax) only."""
    h, precision, log_mass = 1 / steps, 1 / V0, -0.5 * math.log(V0)
    for step in range(steps):
        precision += KAPPA * h if window[0] <= step * h < window[1] else 0.0
        log_mass -= 0.5 * math.log(1 + h * precision)
        precision /= 1 + h * precision
    return math.exp(log_mass) / math.sqrt(precision), 1 / precision


# -- the normaliser --------------------------------------------------------------------------------

STEPS, ROWS = 5, 64
GRID = TimeGrid.uniform(STEPS)

Rule = Callable[..., Resample]


def population(rng: torch.Generator, count: int = ROWS) -> Tensor:
    """Rows of N(0, v0): ``(count, 1)``."""
    return math.sqrt(V0) * torch.randn(count, 1, generator=rng, dtype=DOUBLE)


def masses(gen: MarkovGenerator, rule: Resample, runs: int, rng: torch.Generator) -> Tensor:
    """Ẑ and Ẑ × the weighted mean square, of independent runs ``(runs, 2)``: both unbiased."""
    found = []
    for _ in range(runs):
        run = run_particles(gen, population(rng), GRID, rng, resample=rule)
        total = run.log_normaliser.exp()
        found.append(torch.stack([total, total * run.expectation(lambda x: x[:, 0] ** 2)[0]]))
    return torch.stack(found)


def faulty(change: Callable[[Carry, Carry], Carry]) -> Callable[[Rule], Rule]:
    """Rules whose resampled carry is changed, given the carry before it."""

    def plant(rule: Rule) -> Rule:
        def broken(*args: Any, **options: Any) -> Resample:
            right = rule(*args, **options)

            def among(where: Population, carry: Carry, t: float, rng: Any) -> Carry:
                if t == 1.0:
                    return replace(right, when="never").among(where, carry, t, rng)
                done = right.among(where, carry, t, rng)
                return change(carry, done) if done.memory["smc.resampled"][0] else done

            return but(right, among=among)

        return broken

    return plant


def not_reset(before: Carry, after: Carry) -> Carry:
    """Weights that are kept although their rows were redrawn."""
    return replace(after, log_weight=before.log_weight)


def not_gathered(before: Carry, after: Carry) -> Carry:
    """Rows that stay although weights begin again."""
    return replace(after, state=before.state)


def not_booked(before: Carry, after: Carry) -> Carry:
    """A block whose factor of the normaliser is lost."""
    booked = before.memory.get("smc.log_normaliser", torch.zeros(ROWS, dtype=DOUBLE))
    return replace(after, memory={**after.memory, "smc.log_normaliser": booked})


def normaliser() -> Claim[Rule]:
    """Ẑ and Ẑ × mean square are unbiased for the steps taken, with every scheme and rule."""

    def check(rule: Rule, trial: Trial) -> Iterator[Evidence]:
        mass, variance = on_a_grid(STEPS)
        right = torch.tensor([mass, mass * variance], dtype=DOUBLE)
        rules = {name: rule(name, when="every") for name in SCHEMES}
        rules |= {"ESS < 0.9 n": rule(threshold=0.9), "never": rule(when="never")}
        for name, one in rules.items():
            found = masses(heat(), one, trial.count(160, 64), trial.rng(name))
            yield mean(f"{name}: E Ẑ and E Ẑ ⟨x²⟩", found, right)

    return Claim(
        "normaliser",
        "The mean of Ẑ is the mass of the steps that were taken, however particles are resampled.",
        lambda: Resample,
        check,
        (
            Control("log-weights are not reset", faulty(not_reset)),
            Control("rows are not gathered", faulty(not_gathered)),
            Control("blocks before the last are not booked", faulty(not_booked)),
        ),
        formula=r"\log\hat Z=\sum_{\text{blocks}}\log\tfrac1n\sum_k e^{\Delta A_k}",
        entries=("L7.23", "X15", "H7.1"),
    )


Window = Callable[[MarkovGenerator, float, float], tuple[MarkovGenerator, Resample]]


def resampling_window() -> Claim[Window]:
    """Resampling in a window of times leaves mass and law as they are."""
    early = (0.3, 0.7)

    def make() -> Window:
        return lambda gen, low, high: (gen, Resample(when="every", window=(low, high)))

    def check(restrict: Window, trial: Trial) -> Iterator[Evidence]:
        mass, variance = on_a_grid(STEPS)
        gen, rule = restrict(heat(), *early)
        found = masses(gen, rule, trial.count(1200, 300), trial.rng())
        right = torch.tensor([mass, mass * variance], dtype=DOUBLE)
        yield mean("E Ẑ and E Ẑ ⟨x²⟩", found, right)
        run = run_particles(gen, population(trial.rng("x")), GRID, trial.rng("w"), resample=rule)
        yield exact("resampled in the window alone", run.resampled, (0.4, 0.6))

    def weights_too(restrict: Window) -> Window:
        def planted(gen: MarkovGenerator, low: float, high: float) -> Any:
            return weights_only_in(gen, low, high), restrict(gen, low, high)[1]

        return planted

    return Claim(
        "resampling-window",
        "Resampling in a window of times alone does not change the target.",
        make,
        check,
        (
            Control("the potential is dropped outside the window too", weights_too),
            Control(
                "the window reaches further",
                lambda restrict: lambda gen, low, high: restrict(gen, low, high + 0.2),
            ),
        ),
        formula=r"\mathbb E\hat Z=Z",
        entries=("L7.24", "X14"),
    )


Only = Callable[[MarkovGenerator, float, float], MarkovGenerator]


def weight_window() -> Claim[Only]:
    """A potential in a window of times is another target, and which."""
    late = (0.3, 0.7)

    def check(only: Only, trial: Trial) -> Iterator[Evidence]:
        mass, variance = on_a_grid(STEPS, late)
        whole, _ = on_a_grid(STEPS)
        yield at_most("Z is larger: less is lost", whole + 0.1, mass, "by over 0.1")
        count = trial.count(1200, 300)
        found = masses(only(heat(), *late), Resample(threshold=0.9), count, trial.rng())
        right = torch.tensor([mass, mass * variance], dtype=DOUBLE)
        yield mean("E Ẑ and E Ẑ ⟨x²⟩", found, right)

    return Claim(
        "weight-window",
        "A potential that is dropped outside a window has the mass of the windowed equation.",
        lambda: weights_only_in,
        check,
        (
            Control("the potential is kept", lambda only: lambda gen, low, high: gen),
            dial(
                "the window ends δ later",
                lambda only, d: lambda gen, low, high: only(gen, low, high + d),
                0.25,
            ),
        ),
        formula=r"\partial_t\tilde p=L^*\tilde p+\mathbf 1[t\in I]\,g\,\tilde p",
        entries=("L7.24", "X14"),
    )


# -- rows and constants ----------------------------------------------------------------------------


def rows() -> Claim[Rule]:
    """What belongs to a row stays with it: x_T is the flow of the start that the row remembers."""

    def check(rule: Rule, trial: Trial) -> Iterator[Evidence]:
        def parts(t: Tensor, state: dict[str, Tensor]) -> Parts:
            x = state["x"]
            return Parts({"x": -x}, potential=2 * torch.cos(5 * x[:, 0]))

        gen = MarkovGenerator(LINE, parts, frozenset({"velocity", "potential"}))
        x = population(trial.rng("x"))
        begun = {"x": x, "first": x.clone(), "number": torch.arange(ROWS)}
        for scheme in SCHEMES:
            one = rule(scheme, when="every")
            found = run_particles(_on(gen), begun, GRID, trial.rng(scheme), resample=one)
            first, number = found.state["first"], found.state["number"]
            flown = first * (1 - 1 / STEPS) ** STEPS
            yield equal(f"{scheme}: x_T = φ(x_0)", found.state["x"], flown)
            yield exact(f"{scheme}: its fact", first, x[number])
            yield exact(f"{scheme}: its ancestor", found.ancestors, number)
            yield exact(f"{scheme}: rows were lost", found.lineages() < ROWS)

    def without(name: str) -> Callable[[Carry, Carry], Carry]:
        def change(before: Carry, after: Carry) -> Carry:
            return replace(after, state={**after.state, name: before.state[name]})

        return change

    def forgetful(before: Carry, after: Carry) -> Carry:
        old = before.memory.get("smc.ancestor", torch.arange(ROWS))
        return replace(after, memory={**after.memory, "smc.ancestor": old})

    return Claim(
        "rows",
        "Resampling moves all that belongs to a row: state, facts and what the sampler remembers.",
        lambda: Resample,
        check,
        (
            Control("a fact is left behind", faulty(without("first"))),
            Control("the moving leaf is left behind", faulty(without("x"))),
            Control("the memory is left behind", faulty(forgetful)),
        ),
        formula=r"(X,\ell,\dots)_m\leftarrow(X,\ell,\dots)_{A_m}",
        entries=("X15",),
    )


def _on(gen: MarkovGenerator) -> MarkovGenerator:
    """On the product with the one moving leaf x."""
    return replace(gen, space=Product({"x": gen.space}))


Shift = Callable[[MarkovGenerator], MarkovGenerator]


def shifted(gen: MarkovGenerator, slope: float = 0.0) -> MarkovGenerator:
    """g + sin t, and a fault: + slope · x."""

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        parts = gen.evaluate(t, x)
        assert parts.potential is not None
        return replace(parts, potential=parts.potential + torch.sin(t) + slope * x[:, 0])

    return replace(gen, evaluate=evaluate)


def constants() -> Claim[Shift]:
    """A function of time in the potential moves log Ẑ and nothing else."""

    def check(shift: Shift, trial: Trial) -> Iterator[Evidence]:
        def run(gen: MarkovGenerator, rule: Resample) -> Particles:
            begun = population(trial.rng("x"), 500)
            return run_particles(gen, begun, GRID, trial.rng("w"), resample=rule)

        c = sum(math.sin(t) / STEPS for t in GRID.times[:-1])
        for name, rule in {
            "weighted": Resample(when="never"),
            "resampled": Resample(threshold=1),
        }.items():
            plain, other = run(heat(), rule), run(shift(heat()), rule)
            yield equal(f"{name}: W", other.weights(), plain.weights(), scale=8.0)
            yield equal(f"{name}: ESS", other.ess, plain.ess, operations=4096)
            yield exact(f"{name}: rows", other.state, plain.state)
            moved = other.log_normaliser - plain.log_normaliser
            yield equal(f"{name}: log Ẑ moves by Σ h c", moved, c, operations=4096)
            value, right = (one.expectation(lambda x: x[:, 0] ** 2)[0] for one in (other, plain))
            yield equal(f"{name}: expectations", value, right, operations=1024)

    return Claim(
        "constants",
        "Weights, draws and means do not change when the potential gains a function of time.",
        lambda: shifted,
        check,
        (
            dial("+ δ x", lambda shift, d: lambda gen: shifted(gen, d), 0.1),
            Control("the function of time twice", lambda shift: lambda gen: shift(shift(gen))),
        ),
        formula=r"\operatorname{softmax}(A+c)=\operatorname{softmax}(A)",
        entries=("L7.8", "L8.18", "H7.1"),
    )
