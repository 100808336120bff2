r"""Claims of the core's samplers: their orders, and the chain of three letters step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from genpath.grids import TimeGrid
from genpath.reversal import log_transition
from genpath.samplers import AdamsBashforth, Euler, RungeKutta, Sampler, integrate
from genpath.tableaus import HEUN, MIDPOINT, RK4
from genpath.testing import Claim, Evidence, Trial, but, contracts, dial, frequencies, near

from ._chain import CHAIN, START, chain, matrix

__all__ = ["adams_bashforth", "euler", "heun", "midpoint", "rk4"]

FLOWS = {"order-of-flows": ("K.13",)}


def midpoint() -> tuple[Claim[Any], ...]:
    """Claims of ``sampler.midpoint``."""
    return contracts.sampler(lambda: RungeKutta(MIDPOINT), order=2, entries=FLOWS)


def heun() -> tuple[Claim[Any], ...]:
    """Claims of ``sampler.heun``."""
    return contracts.sampler(lambda: RungeKutta(HEUN), order=2, entries=FLOWS)


def rk4() -> tuple[Claim[Any], ...]:
    """Claims of ``sampler.rk4``."""
    return contracts.sampler(lambda: RungeKutta(RK4), order=4, entries=FLOWS)


def adams_bashforth() -> tuple[Claim[Any], ...]:
    """Claims of ``sampler.adams_bashforth``."""
    return contracts.sampler(AdamsBashforth, order=2, starting_calls=1, entries=FLOWS)


def euler() -> tuple[Claim[Any], ...]:
    """Claims of ``sampler.euler``."""
    cited = {"order-of-diffusions": ("A8",)}
    return (*contracts.sampler(Euler, order=1, entries=cited), _hold())


def _hold() -> Claim[Sampler]:
    """Frozen rates: a letter stays with probability e^{−hλ}, else it jumps."""
    letters = torch.arange(3)
    x, y = letters.repeat_interleave(3), letters.repeat(3)

    def check(sampler: Sampler, trial: Trial) -> Iterator[Evidence]:
        end = START @ torch.matrix_exp(matrix(CHAIN))
        for steps, printed in ((8, 0.00170116), (16, 0.00081141), (32, 0.00039628)):
            law = START
            for t, t_next in itertools.pairwise(TimeGrid.uniform(steps).times):
                law = law @ log_transition(chain(), t, t_next, x, y).exp().reshape(3, 3)
            gap = 0.5 * (law - end).abs().sum()
            yield near(f"total variation after {steps} steps", gap, printed, 6e-9, "eight decimals")
        count = trial.count(60_000, 30_000)
        start = torch.zeros(count, dtype=torch.long)
        drawn = integrate(sampler, chain(), start, (0.0, 0.8), trial.rng()).state
        step = log_transition(chain(), 0.0, 0.8, torch.zeros(3, dtype=torch.long), letters).exp()
        yield frequencies("one step of 0.8", drawn.bincount(minlength=3), step)

    def longer(sampler: Sampler, size: float) -> Sampler:
        def step(gen: Any, carry: Any, t: float, t_next: float, rng: torch.Generator) -> Any:
            return sampler.step((1 + size) * gen, carry, t, t_next, rng)

        return but(sampler, step=step)

    make: Callable[[], Sampler] = Euler
    return Claim(
        "frozen-rates",
        "A jump step holds the letter with probability e^{−hλ} and else draws from the rates at "
        "its start; the law after N steps is off by the ledger's numbers.",
        make,
        check,
        (dial("rates × (1 + δ)", longer),),
        formula=r"P_h(x,y) = (1 - e^{-h\lambda(x)})\,Q(x,y)/\lambda(x), \quad y \ne x",
        entries=("G-F1",),
    )
