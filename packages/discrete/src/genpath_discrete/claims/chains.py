r"""A chain of three letters: its steps, run backwards, and the divergence of its path law.

    1 − e^{−hλ},  then  Q(x → ·)/λ                           a step of frozen rates
    KL(P ‖ P̂) = E_P ∫ Σ_y [Q log(Q/Q̂) − Q + Q̂] dt            path laws with one start

The numbers are those of the rates `RATES`, and of another chain, `MODEL`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.jumps import RateJumps
from genpath.parts import Parts
from genpath.reversal import path_log_ratio, reverse
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
    near,
    order,
)

from ..spaces import Categorical
from .cases import (
    DOUBLE,
    divergence,
    double,
    rate_matrix,
    states_of,
    transition,
    variation,
)
from .divergences import path_kl

__all__ = ["chains"]

RATES = torch.tensor([[-1, 0.7, 0.3], [0.2, -0.9, 0.7], [0.5, 0.4, -0.9]], dtype=DOUBLE)
MODEL = torch.tensor([[-1.3, 0.9, 0.4], [0.4, -1, 0.6], [0.3, 0.5, -0.8]], dtype=DOUBLE)
START = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
ONE_LETTER = Categorical(3, (1,))


def chains() -> tuple[Claim[Any], ...]:
    """The claims of ``discrete.chains``: a chain of three letters, and another."""
    return (hold(), reversed_chain(), path_laws(), path_ratio())


def chain(rates: Tensor) -> MarkovGenerator:
    """A homogeneous chain of one letter."""
    return MarkovGenerator(
        ONE_LETTER,
        lambda t, x: Parts(jumps=RateJumps(rates.clamp_min(0)[x], x)),
        frozenset({"jumps"}),
    )


def law_at(t: Tensor) -> Tensor:
    """The law of the chain with rates `RATES`: ``(3,)``, or ``(times, 3)``."""
    result: Tensor = START @ torch.linalg.matrix_exp(t[..., None, None] * RATES)
    return result


def _hurried(gen: MarkovGenerator, size: float) -> MarkovGenerator:
    """Rates × (1 + δ)."""
    return chain((1 + size) * rate_matrix(gen, torch.zeros((), dtype=DOUBLE)))


def hold() -> Claim[MarkovGenerator]:
    """Frozen-rate steps: hold, then jump."""
    end = torch.tensor([0.315775539, 0.367515829, 0.316708632], dtype=DOUBLE)
    printed = {8: 0.00170116, 16: 0.00081141, 32: 0.00039628}

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        true = START @ torch.linalg.matrix_exp(rate_matrix(chain(RATES), torch.zeros(1))[0])
        yield near("the law at t = 1", true, end, 1e-9, "printed digits")
        gaps = {}
        for count in (8, 16, 32, 64):
            step = transition(gen, 0.0, 1 / count)  # the chain is homogeneous
            law = START @ torch.linalg.matrix_power(step, count)
            gaps[count] = float(variation(law, true))
        for count, known in printed.items():
            yield near(f"total variation, N = {count}", gaps[count], known, 5e-9, "printed digits")
        yield order("total variation", [1 / n for n in gaps], list(gaps.values()), 1.0)

    def euler(gen: MarkovGenerator) -> MarkovGenerator:
        """Jump with probability hλ in place of 1 − e^{−hλ}."""

        def evaluate(t: Tensor, x: Tensor) -> Parts:
            part: Any = gen(t, x).jumps

            def exposure(a: float, b: float) -> Tensor:
                return -torch.log1p(-(b - a) * part.intensity())

            return Parts(jumps=but(part, exposure=exposure))

        return MarkovGenerator(gen.space, evaluate, gen.has)

    return Claim(
        "hold-step",
        "Holding with probability e^{−hλ} and else jumping has the known error at three step "
        "sizes, of first order.",
        lambda: chain(RATES),
        check,
        (
            dial("rates × (1 + δ)", _hurried, 0.5),
            Control("jumps with probability hλ in place of 1 − e^{−hλ}", euler),
        ),
        formula=r"\mathrm{TV}\big(p_0 P_h^N, p_0 e^Q\big) = O(h)",
        entries=("S.4", "G-F1"),
    )


def reversed_chain() -> Claim[Any]:
    """Printed rates of the reversal at t = 0.6."""
    known = [
        [-0.589302448, 0.197033854, 0.392268594],
        [0.710537794, -1.029076836, 0.318539042],
        [0.382391051, 0.879013130, -1.261404181],
    ]
    law = torch.tensor([0.361049091, 0.355694470, 0.283256439], dtype=DOUBLE)

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        def log_density(t: Tensor, x: Tensor) -> Tensor:
            return law_at(t).log().gather(1, x).squeeze(1)

        t = torch.tensor(0.6, dtype=DOUBLE)
        back = rate_matrix(reverse(gen, log_density=log_density), 1 - t)
        yield near("p at t = 0.6", law_at(t), law, 1e-9, "printed digits")
        yield near("Q̃", back, torch.tensor(known, dtype=DOUBLE), 1e-9, "printed digits")
        yield equal("p Q̃", law_at(t) @ back, -law_at(t) @ RATES)

    return Claim(
        "reversal",
        "The reversal of the chain has the known rates, and undoes its motion.",
        lambda: chain(RATES),
        check,
        (dial("rates × (1 + δ)", _hurried),),
        formula=r"p_t \tilde Q_t = -\dot p_t, \qquad p_t(x)\,\tilde Q_t(x,y) = p_t(y)\,Q(y,x)",
        entries=("G.9", "G-F1"),
        owes="reverse",
    )


Two = tuple[MarkovGenerator, MarkovGenerator]


def _two() -> Two:
    return chain(RATES), chain(MODEL)


def _second(both: Two, size: float) -> Two:
    return both[0], _hurried(both[1], size)


def _chain_kl(both: Two, count: int) -> Tensor:
    """KL of the two chains of N steps from one start."""
    ours, model = (transition(gen, 0.0, 1 / count) for gen in both)
    local = torch.special.xlogy(ours, ours / model).sum(1)
    law, total = START, torch.zeros((), dtype=DOUBLE)
    for _ in range(count):
        total = total + law @ local
        law = law @ ours
    return total


def path_laws() -> Claim[Two]:
    """Path KL by three ways, and the KL of the laws at the end."""

    def check(both: Two, trial: Trial) -> Iterator[Evidence]:
        values = [_chain_kl(both, count) for count in (200, 400, 800)]
        first, second = (2 * b - a for a, b in itertools.pairwise(values))
        moved = float((second - first).abs()) + 5e-10
        yield near("extrapolated steps", second, 0.056245499, moved, "what another halving moves")
        rates = [lambda t, gen=gen: rate_matrix(gen, t) for gen in both]
        whole = path_kl(rates[0], rates[1], law_at)
        yield near("∫ of the Poisson divergence", whole, 0.056245499, 1e-9, "printed digits")
        zero = torch.zeros((), dtype=DOUBLE)
        ends = [START @ torch.linalg.matrix_exp(rate_matrix(gen, zero)) for gen in both]
        terminal = divergence(ends[0], ends[1])
        yield near("KL at the end", terminal, 0.005308512, 1e-9, "printed digits")
        yield at_most("KL at the end", terminal, whole, "data processing")

    return Claim(
        "path-divergence",
        "The divergence of two path laws is the mean Poisson divergence of their rates, and the "
        "limit of that of their steps; that of the laws at the end is a tenth of it.",
        _two,
        check,
        (dial("the model's rates × (1 + δ)", _second),),
        formula=r"\mathrm{KL}(P \,\|\, \hat P) = \mathbb{E}_P\int\sum_{y \ne x}"
        r"\Big[Q\log\frac{Q}{\hat Q} - Q + \hat Q\Big]dt \ge \mathrm{KL}(p_1 \,\|\, \hat p_1)",
        entries=("Y13", "G-F1"),
        owes="control",
    )


def path_ratio() -> Claim[Two]:
    """`path_log_ratio` on all paths of four steps."""
    steps = 4

    def check(both: Two, trial: Trial) -> Iterator[Evidence]:
        paths = torch.cartesian_prod(*[torch.arange(3)] * (steps + 1))
        grid = [k / steps for k in range(steps + 1)]
        ours, model = (transition(chain(rates), 0.0, 1 / steps) for rates in (RATES, MODEL))
        chance = START[paths[:, 0]]
        for a, b in itertools.pairwise(paths.T):
            chance = chance * ours[a, b]
        with double():
            ratio = path_log_ratio(both[1], both[0], grid, list(paths.T.unsqueeze(-1)))
        yield equal("E exp", (chance * ratio.exp()).sum(), 1.0, operations=512)
        ends = torch.zeros(3, dtype=DOUBLE).scatter_add_(0, paths[:, -1], chance * ratio.exp())
        law = START @ torch.linalg.matrix_power(model, steps)
        yield equal("reweighted law at the end", ends, law, operations=512)
        yield equal("−E log", -(chance * ratio).sum(), _chain_kl(_two(), steps), operations=512)
        yield exact("paths", len(paths), len(states_of(ONE_LETTER)) ** (steps + 1))

    return Claim(
        "path-ratio",
        "Over all paths of four steps, the likelihood ratio has mean 1, turns the law at the end "
        "into that of the model, and has the divergence of the steps as its mean logarithm.",
        _two,
        check,
        (
            dial("the model's rates × (1 + δ)", _second),
            Control("the ratio is upside down", lambda both: (both[1], both[0])),
        ),
        formula=r"\mathbb{E}_P\,\frac{d\hat P}{dP} = 1, \qquad "
        r"\mathbb{E}_P\Big[\frac{d\hat P}{dP}\,1\{X_1 = x\}\Big] = \hat p_1(x)",
        entries=("G.10",),
    )
