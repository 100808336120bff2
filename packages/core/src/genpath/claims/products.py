r"""Claims of product paths: clocks, one joint field, conditional generation by freezing.

The fixture is a label and a number: P(c = 1) = 0.35, x | c = 0 ~ N(−1, 0.25) and x | c = 1 ~
N(1.5, 0.64). The number moves by x_t = (1−t) z + t x1, the label comes out of a mask with κ(t) = t.
At clocks (t, τ) the joint density is a finite sum,

    p(x, c) = τ π_c N(x; t m_c, V_c)        p(x, mask) = (1−τ) Σ_c π_c N(x; t m_c, V_c)
    V_c = (1−t)² + t² s_c²

and the exact field is b_c = m_c + (t s_c² − (1−t))/V_c (x − t m_c), w_c ∝ π_c N(x; t m_c, V_c).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.jumps import RateJumps, atoms
from genpath.models import ODE, Dynamics, Jump, factorwise
from genpath.parts import Parts
from genpath.paths import Draw, ProductPath
from genpath.predictions import Prediction, Rule
from genpath.samplers import Euler, RungeKutta, integrate
from genpath.schedules import Scalar
from genpath.spaces import Euclidean
from genpath.tableaus import RK4
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    contracts,
    dial,
    equal,
    exact,
    frequencies,
    mean,
    near,
)

from .spaces import Letters

__all__ = ["products"]

DOUBLE = torch.float64
CHANCES = torch.tensor([0.65, 0.35], dtype=DOUBLE)
MEANS = torch.tensor([-1.0, 1.5], dtype=DOUBLE)
VARIANCES = torch.tensor([0.25, 0.64], dtype=DOUBLE)
MASK = 2
LINE, THREE = Euclidean(), Letters(3)
DIGITS = "the printed digits"


@dataclass(frozen=True)
class _Line:
    """x_t = (1−t) x0 + t x1, one number a row."""

    space: Euclidean = LINE
    rules: tuple[Rule, ...] = ()

    @property
    def predictions(self) -> dict[str, Prediction]:
        return {"velocity": Prediction("velocity", (), True, "E[x1 − x0 | x]")}

    def draw(self, t: Tensor, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        return Draw(t, (1 - t) * x0 + t * x1, x0, x1)

    def target(self, name: str, draw: Draw) -> Any:
        return draw.x1 - draw.x0

    def conditional_generator(self, x0: Tensor, x1: Tensor) -> MarkovGenerator:
        has = frozenset({"velocity"})
        return MarkovGenerator(self.space, lambda t, x: Parts(velocity=x1 - x0), has)


@dataclass(frozen=True)
class _Unmasking:
    """A letter that is the mask until it takes its value, by the time t with probability t."""

    space: Letters = THREE
    rules: tuple[Rule, ...] = ()

    @property
    def predictions(self) -> dict[str, Prediction]:
        return {"logits": Prediction("logits", (2,), False, "log P(c | x)")}

    def draw(self, t: Tensor, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        kept = torch.rand(t.shape, generator=rng, dtype=DOUBLE) < t
        return Draw(t, torch.where(kept, x1, MASK), x0, x1)

    def target(self, name: str, draw: Draw) -> Any:
        return draw.x1

    def jumps(self, t: Tensor, state: Tensor, logits: Tensor) -> RateJumps:
        rates = logits.softmax(-1) / (1 - t)[:, None]
        rates = torch.where((state == MASK)[:, None], rates, 0.0)
        return RateJumps(torch.cat([rates, torch.zeros_like(rates[:, :1])], 1), state)

    def conditional_generator(self, x0: Tensor, x1: Tensor) -> MarkovGenerator:
        logits = torch.where(torch.nn.functional.one_hot(x1, 2).bool(), 0.0, -math.inf)
        has = frozenset({"jumps"})
        return MarkovGenerator(
            self.space, lambda t, x: Parts(jumps=self.jumps(t, x, logits.to(DOUBLE))), has
        )


def _log_terms(t: Tensor, x: Tensor) -> Tensor:
    t, x = t[..., None], x[..., None]
    variance = (1 - t) ** 2 + t**2 * VARIANCES
    normal = -0.5 * (x - t * MEANS) ** 2 / variance - 0.5 * torch.log(2 * math.pi * variance)
    return CHANCES.log() + normal


def _density(times: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Tensor:
    """p(x, c) at the clocks, as the sum over the label."""
    terms, tau = _log_terms(times["x"], state["x"]).exp(), times["c"]
    known = terms.gather(1, state["c"].clamp(max=1)[:, None])[:, 0]
    return torch.where(state["c"] == MASK, (1 - tau) * terms.sum(1), tau * known)


def _field(times: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The exact joint field: E[x1 − z | x, c] and log P(c | x)."""
    t, x, c = times["x"][:, None], state["x"][:, None], state["c"]
    variance = (1 - t) ** 2 + t**2 * VARIANCES
    velocity = MEANS + (t * VARIANCES - (1 - t)) / variance * (x - t * MEANS)
    logits = _log_terms(times["x"], state["x"])
    known = torch.nn.functional.one_hot(c.clamp(max=1), 2).to(DOUBLE)
    weights = torch.where((c < MASK)[:, None], known, logits.softmax(1))
    return {"x": (weights * velocity).sum(1), "c": logits}


@dataclass(frozen=True)
class _Case:
    """A product path with its exact field."""

    clocks: Mapping[str, Scalar]
    field: Callable[..., dict[str, Tensor]] = _field

    @property
    def path(self) -> ProductPath:
        return ProductPath({"x": _Line(), "c": _Unmasking()}, self.clocks)

    @property
    def generator(self) -> MarkovGenerator:
        dynamics: dict[str, Dynamics] = {"x": ODE(), "c": Jump()}
        predict = {"x": "velocity", "c": "logits"}
        return factorwise(self.path, dynamics, predict, self.field)


def _blind(times: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The velocity of a number whose label is not seen."""
    return {**_field(times, state),
            "x": _field(times, {**state, "c": torch.full_like(state["c"], MASK)})["x"]}  # fmt: skip


def _faster(case: Any, size: float) -> Any:
    def field(times: Any, state: Any) -> dict[str, Tensor]:
        found = case.field(times, state)
        return {**found, "x": (1 + size) * found["x"]}

    return replace(case, field=field)


BLIND = Control("a velocity that does not see the label", lambda case: replace(case, field=_blind))
CLOCKS: dict[str, dict[str, Scalar]] = {
    "common": {},
    "label-late": {"c": Scalar(lambda s: s**2)},
    "number-late": {"x": Scalar(lambda s: s**2)},
}


def products() -> tuple[Claim[Any], ...]:
    """Claims of `ProductPath` and `factorwise`."""
    forward = [_forward(name, clocks) for name, clocks in CLOCKS.items()]
    return (_marginals(), _fixture(), *forward, _joint_law(), _frozen_label(), _frozen_number())


def _marginals() -> Claim[Any]:
    def check(path: Any, trial: Trial) -> Iterator[Evidence]:
        n = trial.count(20_000)
        one = torch.ones(n, dtype=DOUBLE)
        x0 = {"x": torch.randn(n, generator=trial.rng("x0"), dtype=DOUBLE),
              "c": torch.full((n,), MASK)}  # fmt: skip
        x1 = {"x": 2.0 * one, "c": torch.arange(n) % 2, "row": torch.arange(n)}
        draw = path.draw({"x": 0.3 * one, "c": 0.8 * one}, x0, x1, trial.rng("draw"))
        x, c = draw.state["x"], draw.state["c"]
        found = torch.stack([x, (x - 0.6) ** 2, (x - 0.6) * (c == MASK)], 1)
        yield mean("E x, Var x, Cov(x, mask) at t_x = 0.3", found, torch.tensor([0.6, 0.49, 0.0]))
        law = torch.tensor([0.4, 0.4, 0.2], dtype=DOUBLE)
        yield frequencies("letters at t_c = 0.8", torch.bincount(c, minlength=3), law)
        yield exact("facts of x1", draw.state["row"], x1["row"])
        yield equal("target of the number", path.target("x.velocity", draw), x1["x"] - x0["x"])
        yield exact("target of the label", path.target("c.logits", draw), x1["c"])

    def tied(path: Any) -> Any:
        def draw(t: Any, x0: Any, x1: Any, rng: torch.Generator) -> Any:
            return path.draw(dict.fromkeys(t, t["x"]), x0, x1, rng)

        return but(path, draw=draw)

    def late(path: Any, size: float) -> Any:
        def draw(t: Any, x0: Any, x1: Any, rng: torch.Generator) -> Any:
            return path.draw({**t, "c": (1 - 0.5 * size) * t["c"]}, x0, x1, rng)

        return but(path, draw=draw)

    return Claim(
        "factor-marginals",
        "With a clock each, every factor has its own path's law at its own time; given the "
        "endpoints the factors are independent, and facts stay.",
        lambda: _Case({}).path,
        check,
        (
            dial("the label's clock × (1 − δ/2)", late),
            Control("one clock for both factors", tied),
        ),
        formula=r"p_t(x \mid z) = \prod_i p^i_{t_i}(x^i \mid z^i)",
        entries=("P.1",),
        owes="existence",
    )


def _fixture() -> Claim[Any]:
    def check(case: Any, trial: Trial) -> Iterator[Evidence]:
        t, x = torch.tensor([0.6], dtype=DOUBLE), torch.tensor([0.4], dtype=DOUBLE)
        parts = case.generator(t, {"x": x, "c": torch.tensor([MASK])})
        yield near("b_M at t = .6, x = .4", parts.velocity["x"], [0.457398868], 1e-9, DIGITS)
        true = torch.tensor([0.754932119, 1.745067881], dtype=DOUBLE)
        yield near("rates out of the mask", _out_of_mask(parts), true, 1e-9, DIGITS)
        for label, value in ((0, -2.0), (1, 1.520491803)):
            parts = case.generator(t, {"x": x, "c": torch.tensor([label])})
            yield near(f"b_{label}", parts.velocity["x"], [value], 1e-9, DIGITS)

    return Claim(
        "fixture",
        "At t = 0.6 and x = 0.4 the joint generator has the velocity and the rates that the "
        "ledger prints.",
        lambda: _Case({}),
        check,
        (dial("velocity × (1 + δ)", _faster), BLIND),
        entries=("P.2",),
    )


def _forward(name: str, clocks: dict[str, Scalar]) -> Claim[Any]:
    """The forward equation against test functions, by quadrature in x and a sum over c."""

    def check(case: Any, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        slopes = torch.randn(3, generator=rng, dtype=DOUBLE)
        table = torch.randn(3, 3, generator=rng, dtype=DOUBLE)
        x, weights = contracts.line(-9.0, 9.0, 12)(24)
        state = {"x": x.repeat(3), "c": torch.arange(3).repeat_interleave(len(x))}
        weight = weights.repeat(3)
        gen = case.generator
        for s in (0.3, 0.7):
            time = torch.tensor(s, dtype=DOUBLE)

            def density(s: Tensor) -> Tensor:
                rows = s.expand(len(state["x"]))
                return _density(case.path.times(rows), state)

            rate = torch.func.jvp(density, (time,), (torch.ones_like(time),))[1]
            for k in range(3):

                def f(y: Any, k: int = k) -> Tensor:
                    return torch.cos(slopes[k] * y["x"] + k) * table[k][y["c"]]

                left = (weight * rate * f(state)).sum()
                right = (weight * density(time) * gen.apply(f, time, state)).sum()
                what = f"d/ds E f − E Lf at s = {s:g}"
                yield equal(what, right - left, 0 * left, operations=2**20, scale=1.0,
                            because="2^20 roundings, in sums over 864 nodes")  # fmt: skip

    def rushed(case: Any) -> Any:
        return replace(case, clocks={k: Scalar(c.value, lambda s: torch.ones_like(s))
                                     for k, c in case.clocks.items()})  # fmt: skip

    unclocked = (Control("the clock's rate is left out", rushed),) if clocks else ()
    return Claim(
        f"forward-equation-{name}",
        "The sum of the factors' generators, each at its clock's rate and seeing the whole state, "
        "carries the joint law.",
        lambda: _Case(clocks),
        check,
        (dial("velocity × (1 + δ)", _faster), BLIND, *unclocked),
        formula=r"\tfrac{d}{ds}\mathbb{E}f = \mathbb{E}L_s f, \qquad "
        r"L_s = \sum_i \dot t_i(s) L^i",
        entries=("P.2",),
        owes="density",
    )


def _joint_law() -> Claim[Any]:
    def check(case: Any, trial: Trial) -> Iterator[Evidence]:
        n, steps, gen = trial.count(12_000, 4_000), 48, case.generator
        start = {"x": torch.randn(n, generator=trial.rng("start"), dtype=DOUBLE),
                 "c": torch.full((n,), MASK)}  # fmt: skip

        def moments(steps: int) -> Tensor:
            grid, rng = TimeGrid.uniform(steps), trial.rng("steps")
            end = integrate(Euler(), gen, start, grid, rng).state
            one, x = (end["c"] == 1).double(), end["x"]
            return torch.stack([one, (1 - one) * (x + 1.0), one * (x - 1.5)], 1)

        true = torch.tensor([0.35, 0.0, 0.0])
        fine, coarse = moments(steps), moments(steps // 2)
        # the error of Euler's method with h is about what it moves from 2h to h; twice that, and
        # the noise of the comparison
        moved = (fine.mean(0) - coarse.mean(0)).abs()
        noise = ((fine.var(0) + coarse.var(0)) / n).sqrt()
        allowance = moved.clamp(max=0.03) + noise
        because = "what Euler's method still moves, 24 → 48 steps, at most 0.03"
        yield mean("P(c = 1), E[x + 1; c = 0], E[x − 1.5; c = 1]", fine, true,
                   allowance=allowance, because=because)  # fmt: skip

    return Claim(
        "joint-law",
        "Sampled with the exact joint field, label and number have the correlated joint law, with "
        "different clocks too.",
        lambda: _Case(CLOCKS["number-late"]),
        check,
        (BLIND, dial("velocity × (1 + δ)", _faster, 0.5)),
        entries=("S.13",),
    )


def _out_of_mask(parts: Any) -> Tensor:
    """The rates from the mask to each letter, of one row."""
    letters, rates = atoms(parts.jumps["c"], torch.tensor([MASK]))
    return torch.stack([rates[letters == letter].sum() for letter in (0, 1)])


def _held(value: float) -> Scalar:
    return Scalar(lambda s: torch.full_like(s, value), torch.zeros_like)


def _frozen_label() -> Claim[Any]:
    def check(case: Any, trial: Trial) -> Iterator[Evidence]:
        z = torch.linspace(-3.0, 3.0, 13, dtype=DOUBLE)
        state = {"x": z, "c": torch.ones(13, dtype=torch.long)}
        gen = case.generator

        def number(s: Tensor, x: Any) -> Parts:
            return Parts(velocity={"x": gen.evaluate(s, x).velocity["x"]})

        move = MarkovGenerator(gen.space, number, frozenset({"velocity"}))

        def end(steps: int) -> Tensor:
            found: Tensor = integrate(
                RungeKutta(RK4), move, state, TimeGrid.uniform(steps), trial.rng()
            ).state["x"]
            return found

        coarse, fine = end(16), end(32)
        error = (fine - coarse).abs() + 1e-13
        # a monotone map of N(0, 1) onto N(1.5, 0.64): x = 1.5 + 0.8 z
        yield near("x given c = 1", fine, 1.5 + 0.8 * z, error, "what RK4 still moves, 16 → 32")

    return Claim(
        "frozen-label",
        "With the label's clock at 1 and its letter given, running the other clock makes the "
        "number's exact conditional law, N(1.5, 0.64).",
        lambda: _Case({"c": _held(1.0)}),
        check,
        (dial("velocity × (1 + δ)", _faster), BLIND),
        formula=r"x \mid c = 1 \sim N(1.5, 0.64)",
        entries=("P.4",),
    )


def _frozen_number() -> Claim[Any]:
    def check(case: Any, trial: Trial) -> Evidence:
        state = {"x": torch.tensor([0.4], dtype=DOUBLE), "c": torch.tensor([MASK])}
        rates = _out_of_mask(case.generator(torch.tensor([0.5], dtype=DOUBLE), state))
        shares = rates / rates.sum()
        true = torch.tensor([0.131741860, 0.868258140], dtype=DOUBLE)
        return near("p(c | x = 0.4)", shares, true, 1e-9, DIGITS)

    def early(case: Any, size: float) -> Any:
        return replace(case, clocks={"x": _held(1 - 0.5 * size)})

    return Claim(
        "frozen-number",
        "With the number's clock at 1 and x = 0.4 given, the label leaves its mask for each letter "
        "at rates whose shares are p(c | x), at every time.",
        lambda: _Case({"x": _held(1.0)}),
        check,
        (dial("the number's clock at 1 − δ/2", early),),
        formula=r"p(c \mid x = 0.4) = (0.131741860,\ 0.868258140)",
        entries=("P.4",),
    )
