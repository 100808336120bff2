r"""Jump parts on letters, over a step: closed forms against integrals, equations and draws.

P_{t,t'} = e^{−H} I + (1 − e^{−H}) 1 πᵀ,   H = ∫ h       a rank-one chain, over a step
(P_{t,t+h} − I)/h → Q_t                                  all sites at once
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.jumps import leap
from genpath.parts import Parts
from genpath.schedules import KeepSchedule, cosine_keep
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
    near,
    order,
)

from ..jumps import GoalJumps, MaskedJumps, MixtureJumps
from ..spaces import Categorical
from .cases import (
    DOUBLE,
    PEAKED,
    SCHEDULES,
    Case,
    Cases,
    blunt,
    double,
    each,
    faster_ends,
    independent_ends,
    masked_case,
    mean_rates,
    mixture_case,
    quadrature,
    rate_matrix,
    table,
    times,
    transition,
    uniform_table,
)

__all__ = ["jumps"]

ONE_LETTER = Categorical(3, (1,))


def jumps() -> tuple[Claim[Any], ...]:
    """The claims of ``discrete.jumps``: parts with a closed form over a step."""
    return (exposures(), rank_one(), drawn_step(), *operators())


@dataclass(frozen=True)
class Part:
    """A jump part as a function of times, with one site that jumps and one that rests."""

    words: str
    schedule: KeepSchedule
    make: Callable[[Tensor], Any]


def _parts() -> tuple[Part, ...]:
    found = []
    for words, schedule in SCHEDULES:

        def masked(t: Tensor, schedule: KeepSchedule = schedule) -> Any:
            flags = torch.tensor([[True, False]]).expand(len(t), 2)
            return MaskedJumps(torch.zeros(len(t), 2, 2, dtype=DOUBLE), flags, schedule, t)

        def toward(t: Tensor, schedule: KeepSchedule = schedule) -> Any:
            goal, x = torch.tensor([[0, 1]]), torch.tensor([[2, 1]])
            return GoalJumps(goal.expand(len(t), 2), x.expand(len(t), 2), 3, schedule, t)

        found += [Part(f"masked, {words}", schedule, masked)]
        found += [Part(f"toward a goal, {words}", schedule, toward)]
    return tuple(found)


def exposures() -> Claim[tuple[Part, ...]]:
    """Exposures are integrals of intensities."""

    def check(parts: tuple[Part, ...], trial: Trial) -> Iterator[Evidence]:
        for part in parts:
            a, b = times(2, trial.rng(part.words), 0.05, 0.85).sort().values.tolist()
            nodes, weights = quadrature(32)
            jumps = part.make(a + (b - a) * nodes)
            integral = (b - a) * (weights[:, None] * jumps.intensity()).sum(0)
            yield near(f"{part.words}: ∫ intensity", jumps.exposure(a, b)[0], integral, 1e-10,
                       "32 nodes; the nearest pole is at t = 1")  # fmt: skip
            for last in (a, 1.0):
                found = jumps.exposure(last, 1.0)[0].tolist()
                yield exact(f"{part.words}: up to t = 1", found == [torch.inf, 0.0])

    def with_exposure(change: Callable[..., Any]) -> Callable[..., tuple[Part, ...]]:
        def plant(parts: tuple[Part, ...], *size: float) -> tuple[Part, ...]:
            def other(part: Part) -> Part:
                def make(t: Tensor) -> Any:
                    jumps = part.make(t)
                    return but(jumps, exposure=lambda a, b: change(jumps, a, b, *size))

                return Part(part.words, part.schedule, make)

            return tuple(other(part) for part in parts)

        return plant

    return Claim(
        "exposures",
        "The exposure of a step is the integral of the intensity; it is infinite up to t = 1 where "
        "a site jumps, and 0 where it rests.",
        _parts,
        check,
        (
            dial(
                "exposure × (1 + δ)", with_exposure(lambda j, a, b, d: (1 + d) * j.exposure(a, b))
            ),
            Control(
                "the intensity is frozen", with_exposure(lambda j, a, b: (b - a) * j.intensity())
            ),
        ),
        formula=r"\int_t^{t'} \frac{\dot\kappa}{1-\kappa}\,ds "
        r"= \log\frac{1-\kappa(t)}{1-\kappa(t')}",
    )


def _marginals() -> Cases:
    law = table(PEAKED)
    apart = independent_ends(uniform_table(law.space), law)
    return masked_case(law, cosine_keep()), mixture_case(apart, 3, cosine_keep())


def operators() -> tuple[Claim[Any], ...]:
    """What every generator owes, of both marginal parts; short steps exactly."""
    found: list[Claim[Any]] = [one_step()]
    for case in _marginals():

        def draw(count: int, rng: torch.Generator, case: Case = case) -> Tensor:
            return torch.randint(case.path.space.size, (count, 2), generator=rng)

        claims = contracts.generator(case.generator, draw)
        kept = tuple(claim for claim in claims if claim.name != "one-step")
        found += contracts.named(case.words, kept)
    return tuple(found)


def one_step() -> Claim[Cases]:
    """(P_h − I)/h → Q, by one-step laws."""

    def check(cases: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in cases:
            (t,) = times(1, trial.rng(case.words), 0.2, 0.6)
            rates, gen = mean_rates(case, t), case.generator()
            eye, errors, steps = torch.eye(len(rates), dtype=DOUBLE), [], []
            for k in range(6, 12):
                steps.append(2.0**-k)
                law = transition(gen, float(t), float(t) + steps[-1])
                errors.append(float(((law - eye) / steps[-1] - rates).norm()))
            yield order(f"{case.words}: (P_h − I)/h − Q", steps, errors, 1.0)

    return Claim(
        "one-step",
        "Over a short step, all sites at once, letters move by the rates of the marginal "
        "generator, up to an error of first order.",
        _marginals,
        check,
        (
            dial("conditional generator × (1 + δ)", each(faster_ends)),
            dial("logits × (1 − δ)", each(blunt)),
        ),
        formula=r"P_{t,t+h} = I + h\,Q_t + O(h^2)",
        owes="density",
    )


def _resampling(schedule: KeepSchedule) -> MarkovGenerator:
    """A site is redrawn from fixed letters at the hazard."""
    logits = torch.tensor([0.2, 0.3, 0.5], dtype=DOUBLE).log()

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        return Parts(jumps=MixtureJumps(logits.expand(*x.shape, 3), x, schedule, t))

    return MarkovGenerator(ONE_LETTER, evaluate, frozenset({"jumps"}))


def _warmer(gen: MarkovGenerator, size: float) -> MarkovGenerator:
    """The logits × (1 − δ)."""

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        part: Any = gen(t, x).jumps
        return Parts(jumps=MixtureJumps((1 - size) * part.logits, x, part.schedule, t))

    return MarkovGenerator(gen.space, evaluate, gen.has)


def _clock(gen: MarkovGenerator, size: float) -> MarkovGenerator:
    """κ^(1 + δ) in the steps, not in the rates."""

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        part: Any = gen(t, x).jumps
        kappa = part.schedule.kappa
        other = MixtureJumps(part.logits, x, KeepSchedule(lambda s: kappa(s) ** (1 + size)), t)
        return Parts(jumps=but(part, exposure=other.exposure))

    return MarkovGenerator(gen.space, evaluate, gen.has)


def rank_one() -> Claim[MarkovGenerator]:
    """A step of a rank-one chain, against the exponential, the equation and itself."""

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        a, m, b = times(3, trial.rng(), 0.05, 0.9).sort().values.tolist()
        step = transition(gen, a, b)
        yield equal("rows sum to 1", step.sum(1), torch.ones(3, dtype=DOUBLE))
        yield equal("two steps", transition(gen, a, m) @ transition(gen, m, b), step)
        nodes, weights = quadrature(32)
        mean = torch.einsum("k,kxy->xy", (b - a) * weights, rate_matrix(gen, a + (b - a) * nodes))
        yield equal("exp ∫ Q", torch.linalg.matrix_exp(mean), step, operations=512)
        coarse, solved = _solved(gen, a, b, 200), _solved(gen, a, b, 400)
        moved = float((solved - coarse).abs().max()) + 1e-13
        yield near("dP/dt = P Q, solved", solved, step, moved, "what 200 → 400 steps still move")

    return Claim(
        "rank-one-step",
        "Resampling from fixed letters: a step is the exponential of the integrated rates, solves "
        "the forward equation, and two steps are as one.",
        lambda: _resampling(cosine_keep()),
        check,
        (
            dial("the step has κ^(1 + δ)", _clock),
            Control("the step has blunter letters", lambda gen: _mismatched(gen)),
        ),
        formula=r"P_{t,t'} = e^{-H} I + (1 - e^{-H})\,\mathbf{1}\pi^{\mathsf T}, \qquad "
        r"H = \int_t^{t'} \frac{\dot\kappa}{1-\kappa}\,ds",
        entries=("D.2",),
    )


def _mismatched(gen: MarkovGenerator) -> MarkovGenerator:
    """Jumps land by logits × 3/4; the exposure is right."""

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        part: Any = gen(t, x).jumps
        blunt = MixtureJumps(0.75 * part.logits, x, part.schedule, t)
        return Parts(jumps=but(part, log_target=blunt.log_target))

    return MarkovGenerator(gen.space, evaluate, gen.has)


def _solved(gen: MarkovGenerator, a: float, b: float, steps: int) -> Tensor:
    """P' = P Q by the classical Runge–Kutta rule."""
    h = (b - a) / steps
    rates = rate_matrix(gen, torch.linspace(a, b, 2 * steps + 1, dtype=DOUBLE))
    found = torch.eye(3, dtype=DOUBLE)
    for k in range(steps):
        q0, q1, q2 = rates[2 * k : 2 * k + 3]
        k1 = found @ q0
        k2 = (found + h / 2 * k1) @ q1
        k3 = (found + h / 2 * k2) @ q1
        k4 = (found + h * k3) @ q2
        found = found + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return found


def drawn_step() -> Claim[MarkovGenerator]:
    """Draws of a step by χ² against the exponential."""

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        count, (a, b) = trial.count(60_000, 30_000), (0.2, 0.7)
        nodes, weights = quadrature(32)
        frozen = _resampling(cosine_keep())
        mean = torch.einsum("k,kxy->xy", 0.5 * weights, rate_matrix(frozen, a + (b - a) * nodes))
        law = torch.linalg.matrix_exp(mean)
        for start in range(3):
            x = torch.full((count, 1), start)
            part: Any = gen(torch.full((count,), a, dtype=DOUBLE), x).jumps
            with double():
                y = leap(part, x, a, b, trial.rng(str(start)))
            counts = torch.bincount(y[:, 0], minlength=3)
            yield frequencies(f"from letter {start}", counts, law[start])

    return Claim(
        "drawn-step",
        "Draws of a step have the law of the exponential of the integrated rates.",
        lambda: _resampling(cosine_keep()),
        check,
        (dial("logits × (1 − δ)", _warmer), dial("the step has κ^(1 + δ)", _clock)),
        formula=r"x_{t'} \sim \exp\Big(\int_t^{t'} Q_s\,ds\Big)(x, \cdot)",
        entries=("S.4",),
    )
