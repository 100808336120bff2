r"""The jump representation of a potential: particles die and are born, weights stay uniform.

    ∂_t p = L* p + c p      c = g − E_p g      c = c⁺ − c⁻
    rate λ(x) = c⁻(x)       J(dy) = c⁺(y) p(dy) / ∫ c⁺ p       inflow − outflow = c p

Since E_p c = 0, ∫ c⁺ p = ∫ c⁻ p: what dies is born, and J ∫ λ p − λ p = (c⁺ − c⁻) p, whatever
p is (L7 s.38–40 of the course; Del Moral & Miclo 2000, Séminaire de Probabilités XXXIV). In
particles, p is the population: each dies at rate c⁻ and is replaced by a copy of one drawn in
proportion to c⁺. Where SMC waits until weights are uneven and then redraws everybody, here few
particles are replaced at a time. The mass is booked: d log Z = E_p g dt.

A step moves all particles by Euler, with parts from one evaluation, and then lets those die whose
clocks rang under the rates at the step's start, with probability 1 − e^{−h c⁻}. Both the splitting
and the frozen rates are O(h). In `substeps` the mean E_p g and the rates follow the population
within a step (the potential belongs to the row and is copied with it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator
from genpath.samplers import Carry, Euler
from genpath.states import row_times

from .populations import OneProcess
from .smc import once

__all__ = ["JumpCorrector", "jump_rates"]


def jump_rates(potential: Tensor, law: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, death rates and birth law of the jumps that stand for a potential under a law.

    Args:
        potential: g at the points ``(n,)``.
        law: p at the points ``(n,)``, non-negative with sum 1.

    Returns:
        E_p g, a scalar; λ = c⁻ ``(n,)``; and J ``(n,)`` with sum 1, or 0 where g is constant.

    Example:
        >>> jump_rates(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5]))
        (tensor(2.), tensor([1., 0.]), tensor([0., 1.]))
    """
    average = (law * potential).sum()
    excess = potential - average
    births = law * excess.clamp(min=0)
    total = births.sum()
    return average, (-excess).clamp(min=0), births / torch.where(total > 0, total, 1.0)


@dataclass(frozen=True)
class JumpCorrector:
    """A sampler in which a potential kills and copies particles; their weights do not change.

    Args:
        substeps: how often within a step the particles may die, 1 or more.
        cap: the largest h c⁻ of a substep: there are as many substeps as it takes, at least
            ``substeps``. Each step then reads one number; only on a CPU.

    Weights are those of the start, uniform in `smc.run_particles` unless given. log Ẑ = ∫ E_p g dt
    is in the memory as "smc.log_normaliser", and the start's row as "smc.ancestor". Ẑ is consistent
    as n → ∞ and h → 0; unlike that of SMC it is not unbiased for finite n and h.

    Raises:
        DomainError: substeps or cap is not positive.
        CapabilityError: in use, a generator without potential, or a cap on an accelerator.

    Example:
        >>> from genpath import Euclidean
        >>> from genpath.generators import MarkovGenerator
        >>> from genpath.parts import Parts
        >>> from genpath_compose.smc import run_particles
        >>> weigh = lambda t, x: Parts(potential=2 * x[:, 0])
        >>> gen = MarkovGenerator(Euclidean(1), weigh, {"potential"})
        >>> start = torch.tensor([0.0, 1.0]).repeat(5000)[:, None]
        >>> rng, grid = torch.Generator().manual_seed(0), [i / 50 for i in range(51)]
        >>> found = run_particles(gen, start, grid, rng, sampler=JumpCorrector())
        >>> found.log_weight.unique(), round(float(found.state.mean()), 2)  # e²/(1 + e²) = 0.88
        (tensor([0.]), 0.88)
    """

    substeps: int = 1
    cap: float | None = None
    carries: frozenset[str] = frozenset({"velocity", "diffusion", "jumps", "potential"})
    order: int = 1
    calls_per_step: int = 1
    needs_origin: bool = False
    interacts: bool = True

    def __post_init__(self) -> None:
        if self.substeps < 1:
            got = repr(self.substeps)
            raise DomainError("JumpCorrector", "there is a substep or more.", got=got)
        if self.cap is not None and not self.cap > 0:
            raise DomainError("JumpCorrector", "the cap is positive.", got=repr(self.cap))

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """State and uniform weights.

        Raises:
            CapabilityError: the generator has no potential.
        """
        carry = Euler().init(gen, state)
        if carry.log_weight is None:
            raise CapabilityError(
                "JumpCorrector",
                "particles die and are born by a potential.",
                got="a generator without one",
                fix="use Euler",
            )
        device = carry.log_weight.device
        rows = len(carry.log_weight)
        memory = {
            "smc.log_normaliser": torch.zeros(rows, dtype=torch.float64, device=device),
            "smc.ancestor": torch.arange(rows, device=device),
        }
        return replace(carry, memory=memory)

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """A step of length ``t_next − t``: moves, then deaths and births."""
        parts = gen.evaluate(row_times(t, carry.state), carry.state)
        moved = Euler().step(once(gen, parts), carry, t, t_next, rng)
        assert parts.potential is not None and carry.log_weight is not None
        law = torch.softmax(carry.log_weight.double(), 0)
        index, gain = self._lives(parts.potential.double(), law, t_next - t, rng)
        take = OneProcess().take
        memory = {name: take(value, index) for name, value in carry.memory.items()}
        memory["smc.log_normaliser"] = memory["smc.log_normaliser"] + gain
        state = take(moved.state, index)
        return replace(moved, state=state, log_weight=carry.log_weight, memory=memory)

    def _lives(
        self, potential: Tensor, law: Tensor, h: float, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Whose copy each particle is after the step ``(n,)``, and what log Ẑ gains."""
        rows = torch.arange(len(law), device=law.device)
        index = rows
        count = self._count(potential, law, h)
        gain = law.new_zeros(())
        for _ in range(count):
            average, deaths, births = jump_rates(potential, law)
            gain = gain + h / count * average
            chance = -torch.expm1(-h / count * deaths)
            u = torch.rand(2, len(law), generator=rng, dtype=law.dtype, device=law.device)
            cumulative = births.cumsum(0)
            parent = torch.searchsorted(cumulative, u[1] * cumulative[-1], right=True)
            dies = u[0] < chance
            copied = torch.where(dies, parent.clamp(max=len(law) - 1), rows)
            index, potential = index[copied], potential[copied]
        return index, gain

    def _count(self, potential: Tensor, law: Tensor, h: float) -> int:
        if self.cap is None:
            return self.substeps
        if potential.device.type != "cpu":
            raise CapabilityError(
                "JumpCorrector",
                "a cap reads the rates in each step, which an accelerator would wait for.",
                got=str(potential.device),
                fix="set substeps instead",
            )
        fastest = float(jump_rates(potential, law)[1].max())
        needed = h * fastest / self.cap
        return max(self.substeps, math.ceil(needed) if math.isfinite(needed) else 1)
