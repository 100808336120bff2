r"""What every sampler owes, of the parts that it carries.

    order-of-flows       ẋ = (1 + 2t) x (1 − x) against its closed form, in both directions of time,
                         with steps of two lengths in turn
    order-of-diffusions  dX = −(4/5 + t) X dt + σ(t) dW against its first two moments, with σ such
                         that the variance is 1 + t/2
    order-of-jumps       a chain of three letters whose rates grow with time against exp(Q)
    noise                one step of a correlated Brownian motion has covariance h σσᵀ
    carries              it takes what it says that it carries, and refuses the rest by name
    steps                seeds, rows, empty batches, and as many calls as it says

The moments of the diffusion have no sampling error: its noise map gives both signs of every draw,
and since the equation is linear, one step maps the first two moments linearly. The law of the jumps
is sampled with N and with 2N steps and extrapolated by the order that is declared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError
from genpath.generators import MarkovGenerator, Origin, flow
from genpath.jumps import RateJumps
from genpath.noises import MatrixNoise, ScalarNoise
from genpath.parts import Parts
from genpath.samplers import Carry, Euler, Sampler, integrate
from genpath.spaces import Euclidean

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, equal, exact, mean, order as order_of, refusal

__all__ = ["sampler"]

Make = Callable[[], Sampler]
LINE = Euclidean()
ORIGIN = Origin(None, "velocity", lambda t, x: x)


def sampler(
    make: Make,
    *,
    order: int | None = None,
    starting_calls: int = 0,
    steps: Sequence[int] = (8, 16, 32, 64, 128),
    entries: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Claim[Sampler], ...]:
    """The claims of a sampler that integrates whatever generator it is given.

    A sampler that works with a prediction (``needs_origin``) or that draws noise of its own, not by
    the generator's noise map, has other exact problems: state those as claims of their own.

    Args:
        make: makes the sampler.
        order: the order that it is held to; the one that it declares if None.
        starting_calls: evaluations that a solve needs beyond ``calls_per_step`` each step.
        steps: how many steps the order of flows is fitted on, increasing, four or more.
        entries: claim → ids of the ledger.

    Example:
        >>> from genpath import RungeKutta
        >>> claims = sampler(RungeKutta)
        >>> [claim.name for claim in claims]
        ['order-of-flows', 'carries', 'steps']
        >>> all(found.passed for found in claims[0].measure(RungeKutta(), Trial("heun")))
        True
    """
    sample = make()
    held = sample.order if order is None else order
    found: list[Claim[Sampler]] = []
    if "velocity" in sample.carries:
        found.append(_flows(make, held, tuple(steps)))
    if "diffusion" in sample.carries:
        found += [_diffusions(make, held), _noise(make)]
    if "jumps" in sample.carries:
        found.append(_jumps(make, held))
    found += [_carries(make, sample), _steps(make, starting_calls)]
    cited = entries or {}
    return tuple(replace(claim, entries=cited.get(claim.name, ())) for claim in found)


# -- faults ----------------------------------------------------------------------------------


def _stepping(change: Callable[..., Carry]) -> Callable[..., Sampler]:
    """A sampler whose step is ``change(sampler, gen, carry, t, t_next, rng, …)``."""

    def plant(sampler: Sampler, *size: float) -> Sampler:
        def step(
            gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
        ) -> Carry:
            return change(sampler, gen, carry, t, t_next, rng, *size)

        return but(sampler, step=step)

    return plant


def _faster(
    s: Sampler, gen: MarkovGenerator, c: Carry, t: float, u: float, r: Any, d: float
) -> Any:
    return s.step((1 + d) * gen, c, t, u, r)


def _shifted(
    s: Sampler, gen: MarkovGenerator, c: Carry, t: float, u: float, r: Any, d: float
) -> Any:
    return s.step(replace(gen, evaluate=lambda t, x: gen.evaluate(t + d, x)), c, t, u, r)


def _idle(s: Sampler, gen: MarkovGenerator, c: Carry, t: float, u: float, r: Any) -> Any:
    moved = s.step(gen, c, t, u, r)
    return replace(moved, state=c.state)


def _backwards(s: Sampler, gen: MarkovGenerator, c: Carry, t: float, u: float, r: Any) -> Any:
    return s.step(replace(gen, evaluate=lambda t, x: _negated(gen.evaluate(t, x))), c, t, u, r)


def _negated(parts: Parts) -> Parts:
    return replace(parts, velocity=-parts.velocity)


def _euler(s: Sampler, gen: MarkovGenerator, c: Carry, t: float, u: float, r: Any) -> Any:
    return Euler().step(gen, replace(c, memory={}), t, u, r)


FASTER: Control[Sampler] = dial("L × (1 + δ)", _stepping(_faster), 0.5)
SHIFTED: Control[Sampler] = dial("the generator at t + δ", _stepping(_shifted), 0.5)
IDLE: Control[Sampler] = Control("a step that does nothing", _stepping(_idle))
BACKWARDS: Control[Sampler] = Control("the velocity with the wrong sign", _stepping(_backwards))
EULER: Control[Sampler] = Control("Euler's step", _stepping(_euler))


# -- flows -----------------------------------------------------------------------------------


def _logistic() -> MarkovGenerator:
    return flow(LINE, lambda t, x: (1 + 2 * t) * x * (1 - x), ORIGIN)  # type: ignore[operator]


def _solution(x: Tensor, start: float, end: float) -> Tensor:
    return torch.sigmoid(torch.logit(x) + end + end**2 - start - start**2)


def _grid(count: int, back: bool = False) -> tuple[float, ...]:
    """Times from 0 to 1, or back, in steps of lengths 1, 2, 1, 2, …"""
    lengths = [1 + i % 2 for i in range(count)]
    times = [t / sum(lengths) for t in itertools.accumulate(lengths, initial=0)]
    return tuple(times[::-1] if back else times)


def _flows(make: Make, held: int, steps: tuple[int, ...]) -> Claim[Sampler]:
    def check(sampler: Sampler, trial: Trial) -> Iterator[Evidence]:
        gen, start = _logistic(), torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
        yield exact("the order that it declares", sampler.order, held)
        for name, back in (("forward", False), ("back", True)):
            errors = []
            for count in steps:
                grid = _grid(count, back)
                found = integrate(sampler, gen, start, grid, trial.rng()).state
                gap = found - _solution(start, grid[0], grid[-1])
                errors.append(max(float(gap.abs().mean()), 1e-300))
            yield order_of(
                f"the order on a flow, {name} in time", [1 / n for n in steps], errors, held
            )

    euler = (EULER,) if held > 1 else ()
    return Claim(
        "order-of-flows",
        "On a flow with a closed solution the error falls with the declared power of the step, "
        "forward and back in time, with steps of two lengths in turn.",
        make,
        check,
        (FASTER, SHIFTED, IDLE, BACKWARDS, *euler),
        formula=r"\mathbb{E}|\hat x_1 - x_1| = O(h^p)",
    )


# -- diffusions ------------------------------------------------------------------------------


@dataclass
class _Signs:
    """σ(t) times given signs: row r takes bit i of r at its i-th draw."""

    scale: Tensor
    used: list[int] = field(default_factory=lambda: [0])
    uniform: bool = True

    def draw(self, space: Any, state: Any, rng: torch.Generator) -> Tensor:
        bit = self.used[0]
        self.used[0] += 1
        return 1.0 - 2.0 * ((torch.arange(len(state)) >> bit) & 1).to(state.dtype)

    def __call__(self, noise: Any) -> Any:
        return self.scale * noise

    def columns(self, space: Any, state: Any) -> list[Any]:
        return [self.scale[None]]

    def scaled(self, factor: Any) -> _Signs:
        return _Signs(self.scale * factor, self.used)


DRAWS = 4
"""How many draws of noise a step may make."""


def _linear(used: list[int]) -> MarkovGenerator:
    """dX = −(4/5 + t) X dt + σ dW with variance V = 1 + t/2: σ² = V̇ + 2(4/5 + t)V."""

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        square = 0.5 + 2 * (0.8 + t) * (1 + t / 2)
        return Parts(-(0.8 + t) * x, _Signs(square.sqrt(), used))

    return MarkovGenerator(LINE, evaluate, frozenset({"velocity", "diffusion"}), ORIGIN)


def _moments(sampler: Sampler, times: Sequence[float]) -> tuple[float, float]:
    """E X and E X² of the sampler's law at the end, without sampling error.

    E[X′ | x] and E[X′² | x] are polynomials of degree 1 and 2 in x: three points fix them.
    """
    nodes, rows = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64), 2**DRAWS
    first, second = 0.7, 0.7**2 + 1.0
    for t, t_next in itertools.pairwise(times):
        used = [0]
        gen, x = _linear(used), nodes.repeat_interleave(rows)
        end = sampler.step(gen, sampler.init(gen, x), t, t_next, torch.Generator()).state
        if used[0] > DRAWS:
            raise CapabilityError("order-of-diffusions", f"a step draws at most {DRAWS} times.")
        at = end.reshape(3, rows)
        zero, one, minus = at.mean(1).tolist()
        z2, o2, m2 = at.square().mean(1).tolist()
        slope, linear, curve = (one - minus) / 2, (o2 - m2) / 2, (o2 + m2) / 2 - z2
        first, second = zero + slope * first, z2 + linear * first + curve * second
    return first, second


def _diffusions(make: Make, held: int) -> Claim[Sampler]:
    def check(sampler: Sampler, trial: Trial) -> Iterator[Evidence]:
        first = 0.7 * math.exp(-1.3)
        true, counts = (first, first**2 + 1.5), (8, 16, 32, 64, 128)
        solved = [_moments(sampler, _grid(n)) for n in counts]
        for k, name in enumerate(("mean", "second moment")):
            errors = [max(abs(found[k] - true[k]), 1e-300) for found in solved]
            steps = [1 / n for n in counts]
            yield order_of(f"the weak order, {name}", steps, errors, held)

    def louder(s: Sampler, gen: Any, c: Carry, t: float, u: float, r: Any, d: float) -> Any:
        def evaluate(t: Tensor, x: Any) -> Parts:
            parts: Parts = gen.evaluate(t, x)
            return replace(
                parts,
                diffusion=parts.diffusion.scaled(1 + d),  # type: ignore[union-attr]
            )

        return s.step(replace(gen, evaluate=evaluate), c, t, u, r)

    return Claim(
        "order-of-diffusions",
        "The first two moments of a linear SDE converge with the declared power of the step.",
        make,
        check,
        (dial("σ × (1 + δ)", _stepping(louder)), FASTER, SHIFTED, IDLE),
        formula=r"|\mathbb{E}\,\hat X_1^k - \mathbb{E}\,X_1^k| = O(h^p), \quad k = 1, 2",
    )


def _noise(make: Make) -> Claim[Sampler]:
    sigma = torch.tensor([[0.8, 0.3], [0.0, 0.5]], dtype=torch.float64)

    def check(sampler: Sampler, trial: Trial) -> Evidence:
        count, h = trial.count(40_000), 0.09
        matrix = MatrixNoise(sigma.expand(count, 2, 2))
        has = frozenset({"velocity", "diffusion"})
        gen = MarkovGenerator(Euclidean(2), lambda t, x: Parts(0 * x, matrix), has, ORIGIN)
        start = torch.zeros(count, 2, dtype=torch.float64)
        x = integrate(sampler, gen, start, (0.3, 0.3 + h), trial.rng()).state
        found = torch.cat([x / math.sqrt(h), x.square() / h, x.prod(1, keepdim=True) / h], 1)
        a = sigma @ sigma.T
        true = torch.stack([0 * a[0, 0], 0 * a[0, 0], a[0, 0], a[1, 1], a[0, 1]])
        return mean("mean and covariance of one step", found, true)

    def flipped(s: Sampler, gen: Any, c: Carry, t: float, u: float, r: Any) -> Any:
        def evaluate(t: Tensor, x: Any) -> Parts:
            parts: Parts = gen.evaluate(t, x)
            return replace(parts, diffusion=MatrixNoise(sigma.T.expand(len(x), 2, 2)))

        return s.step(replace(gen, evaluate=evaluate), c, t, u, r)

    def longer(s: Sampler, gen: Any, c: Carry, t: float, u: float, r: Any, d: float) -> Any:
        return s.step(gen, c, t, u + d * (u - t), r)

    return Claim(
        "noise",
        "One step of a Brownian motion with matrix σ has mean 0 and covariance h σσᵀ.",
        make,
        check,
        (
            dial("a step of length (1 + δ) h", _stepping(longer)),
            Control("σᵀ in place of σ", _stepping(flipped)),
        ),
        formula=r"\mathrm{Cov}(X_{t+h} \mid X_t) = h\,\sigma\sigma^\top",
    )


# -- jumps -----------------------------------------------------------------------------------

RATES = torch.tensor([[0, 0.9, 0.3], [0.1, 0, 0.8], [0.2, 0.1, 0]], dtype=torch.float64)


@dataclass(frozen=True)
class _Letters:
    """Three letters, as little of a space as a jump needs."""

    event_shape: tuple[int, ...] = ()

    def contains(self, x: Tensor, tolerance: float = 1e-4) -> Tensor:
        return (x >= 0) & (x < 3)

    def project(self, x: Tensor) -> Tensor:
        return x

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        return (x != y).double()


def _chain() -> MarkovGenerator:
    """Rates 2t · RATES, whose integral over [0, 1] is RATES."""

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        return Parts(jumps=RateJumps(2 * t.double()[:, None] * RATES[x], x))

    return MarkovGenerator(_Letters(), evaluate, frozenset({"jumps"}), ORIGIN)


def _jumps(make: Make, held: int) -> Claim[Sampler]:
    law = torch.matrix_exp(RATES - torch.diag(RATES.sum(1)))[0]

    def check(sampler: Sampler, trial: Trial) -> Evidence:
        count, weight = trial.count(60_000, 30_000), 2**held
        start = torch.zeros(count, dtype=torch.long)

        def solve(steps: int, key: str) -> Tensor:
            grid = _grid(steps)
            end = integrate(sampler, _chain(), start, grid, trial.rng(key)).state
            return torch.nn.functional.one_hot(end, 3).double()

        coarse, fine = solve(4, "coarse"), solve(8, "fine")
        extrapolated = (weight * fine - coarse) / (weight - 1)
        change = (fine.mean(0) - coarse.mean(0)).abs() / (weight - 1)
        return mean(
            "the law of the letters, extrapolated by the order",
            extrapolated,
            law,
            allowance=0.25 * change,
            because="a quarter of what the extrapolation changes",
        )

    return Claim(
        "order-of-jumps",
        "The law of a chain whose rates grow with time converges to exp(Q) with the declared "
        "power of the step.",
        make,
        check,
        (FASTER, SHIFTED, IDLE),
        formula=r"\hat p_1 = p_0\,e^{\int Q_t dt} + O(h^p)",
    )


# -- what it takes, and how it keeps its books --------------------------------------------------


def _with(part: str, origin: Any = ORIGIN) -> tuple[MarkovGenerator, Tensor]:
    """A generator with this part alone, and rows for it."""
    if part == "jumps":
        return replace(_chain(), origin=origin), torch.zeros(5, dtype=torch.long)
    ones = torch.ones(5, dtype=torch.float64)
    made: dict[str, Callable[[Tensor], Parts]] = {
        "velocity": lambda x: Parts(velocity=-x),
        "diffusion": lambda x: Parts(diffusion=ScalarNoise(0.5)),
        "potential": lambda x: Parts(potential=x),
    }
    return MarkovGenerator(LINE, lambda t, x: made[part](x), frozenset({part}), origin), ones


PARTS = ("velocity", "diffusion", "jumps", "potential")


def _carries(make: Make, sample: Sampler) -> Claim[Sampler]:
    taken, refused = sample.carries, [p for p in PARTS if p not in sample.carries]

    def solve(sampler: Sampler, part: str, grid: Sequence[float], origin: Any = ORIGIN) -> Any:
        gen, start = _with(part, origin)
        return integrate(sampler, gen, start, grid, torch.Generator().manual_seed(0))

    def check(sampler: Sampler, trial: Trial) -> Iterator[Evidence]:
        for part in sorted(taken):
            found = solve(sampler, part, (0.0, 0.5, 1.0))
            weighted = found.log_weight is not None
            yield exact(f"{part} is carried", len(found.state), 5)
            yield exact(f"{part} brings weights", weighted, part == "potential")
        for part in refused:
            call = _later(solve, sampler, part, (0.0, 1.0))
            yield refusal(f"{part} is refused", call, CapabilityError, part)
        for part in sorted(taken - {"velocity"}):
            call = _later(solve, sampler, part, (1.0, 0.0))
            yield refusal(f"{part} back in time", call, CapabilityError, "forward in time only")
        if sampler.needs_origin:
            call = _later(solve, sampler, min(taken), (0.0, 1.0), None)
            yield refusal("a generator without origin", call, CapabilityError, "without origin")

    controls = [
        Control[Sampler]("a part is forgotten", lambda s: but(s, carries=s.carries - {min(taken)}))
    ]
    if refused:
        everything = frozenset(PARTS)
        claims_all = Control[Sampler](
            "it says that it carries all", lambda s: but(s, carries=everything)
        )
        controls.append(claims_all)
    return Claim(
        "carries",
        "It takes the parts that it says it carries and refuses the others by name; noise, jumps "
        "and weights do not run back in time.",
        make,
        check,
        controls,
    )


def _later(call: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: call(*arguments)


def _steps(make: Make, starting_calls: int) -> Claim[Sampler]:
    def check(sampler: Sampler, trial: Trial) -> Iterator[Evidence]:
        part = next(p for p in PARTS if p in sampler.carries)
        gen, start = _with(part)
        if start.is_floating_point():
            start = torch.linspace(0.1, 2.0, 5, dtype=torch.float64)
        grid = _grid(6)
        calls: list[int] = []

        def counted(t: Tensor, x: Any) -> Parts:
            calls.append(len(t))
            return gen.evaluate(t, x)

        def solve(x: Any, key: str = "a") -> Tensor:
            counting = replace(gen, evaluate=counted)
            found: Tensor = integrate(sampler, counting, x, grid, trial.rng(key)).state
            return found

        before = start.clone()
        end = solve(start)
        expected = 6 * sampler.calls_per_step + starting_calls
        yield exact("evaluations of the generator", len(calls), expected)
        yield exact("the start is left as it was", start, before)
        yield exact("one seed gives one end", solve(start), end)
        yield exact("the dtype stays", end.dtype == start.dtype)
        yield exact("no rows in, no rows out", tuple(solve(start[:0]).shape), (0,))
        if part == "velocity":
            yield equal("rows do not see each other", solve(start.flip(0)).flip(0), end)
            alone = torch.cat([solve(x[None]) for x in start])
            yield equal("a row alone moves as in its batch", alone, end)

    def mixed(s: Sampler, gen: Any, c: Carry, t: float, u: float, r: Any, d: float) -> Any:
        moved = s.step(gen, c, t, u, r)
        state = moved.state
        if not len(state) or not state.is_floating_point():
            return moved
        return replace(moved, state=state + d * 1e-3 * (state.mean() - state))

    def twice(s: Sampler, gen: Any, c: Carry, t: float, u: float, r: Any) -> Any:
        s.step(gen, c, t, u, torch.Generator().manual_seed(0))
        return s.step(gen, c, t, u, r)

    def unseeded(s: Sampler, gen: Any, c: Carry, t: float, u: float, r: Any) -> Any:
        moved = s.step(gen, c, t, u, r)
        if not moved.state.is_floating_point():
            return replace(moved, state=torch.randint(3, moved.state.shape))
        return replace(moved, state=moved.state + 1e-9 * torch.randn(len(moved.state)))

    leaks = dial("rows lean to their mean by δ · 1e-3", _stepping(mixed))
    controls = [
        Control[Sampler]("the generator is evaluated twice", _stepping(twice)),
        Control[Sampler]("numbers from elsewhere", _stepping(unseeded)),
    ]
    return Claim(
        "steps",
        "A solve evaluates the generator as often as declared; its seed fixes it; rows do not see "
        "each other; no rows give no rows.",
        make,
        check,
        ([leaks] if "velocity" in make().carries else []) + controls,
    )
