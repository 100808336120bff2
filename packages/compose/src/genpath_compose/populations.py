r"""Populations: the transform that resamples particles between steps, in one process or in several.

    ESS < τ n:   row m ← row A_m, A_m = k with probability ∝ e^{a_k};  log Ẑ += log mean eᵃ;  a = 0

A `Population` says which rows resample together (`sharding` has that of several processes); the
rule, the scheme and the books are `Resample`'s and are written once. See `smc` for the mathematics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.samplers import Carry
from genpath.states import map_state

from .resampling import ancestors, ess_of, named_scheme, relative, require_finite

__all__ = ["OneProcess", "Population", "Resample"]

SHARED = frozenset({"smc.log_normaliser", "smc.ess", "smc.resampled", "smc.step"})
"""What is the same in all rows, and need not move."""


class Population(Protocol):
    """All rows that resample together: those of one process, or of several."""

    @property
    def lazy(self) -> bool:
        """Whether the decision may stay on an accelerator."""
        ...

    def gathered(self, value: Tensor) -> Tensor:
        """One value per row of the whole population ``(n,)``, the same everywhere."""
        ...

    def agreed(self, index: Tensor) -> Tensor:
        """One process's ancestors, everywhere."""
        ...

    def take(self, state: Any, index: Tensor) -> Any:
        """The rows ``index`` of the whole population that are to live here."""
        ...

    def numbers(self, rows: int, device: torch.device) -> Tensor:
        """Where the rows here stand in the whole population ``(rows,)``."""
        ...


@dataclass(frozen=True)
class OneProcess:
    """The rows of this process are the population."""

    lazy: bool = True

    def gathered(self, value: Tensor) -> Tensor:
        return value

    def agreed(self, index: Tensor) -> Tensor:
        return index

    def take(self, state: Any, index: Tensor) -> Any:
        # index_select: three times as fast as leaf[index] for short rows
        return map_state(lambda leaf: leaf.index_select(0, index), state)

    def numbers(self, rows: int, device: torch.device) -> Tensor:
        return torch.arange(rows, device=device)


@dataclass(frozen=True)
class Resample:
    """A transform that resamples the particles when their weights are uneven.

    Args:
        scheme: a name in `resampling.SCHEMES`.
        threshold: τ ∈ (0, 1]: with ``when="ess"``, resample where ESS < τ n.
        when: "ess", "every" (at each decision) or "never" (only watch).
        window: times [tmin, tmax] in which resampling is allowed; the target stays the same.
        every: decide after each ``every``-th step.

    On a CPU a NaN, a +∞ or n weights of −∞ are refused at each decision. On an accelerator the
    decision stays on the device (both outcomes are computed) and the log-normaliser stops being
    finite; `smc.run_particles` looks at it once, at the end.

    Raises:
        DomainError: an argument outside its range.
        NumericalError: in use, weights that are no weights.

    Example:
        >>> x, log_weight = torch.tensor([1.0, 2.0]), torch.tensor([0.0, -torch.inf])
        >>> carry = Resample(threshold=0.9)(Carry(x, log_weight), 0.5, torch.Generator())
        >>> carry.state, carry.log_weight, carry.memory["smc.ancestor"]
        (tensor([1., 1.]), tensor([0., 0.]), tensor([0, 0]))
        >>> carry.memory["smc.log_normaliser"].exp()  # the mean weight was ½
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    scheme: str = "systematic"
    threshold: float = 0.5
    when: Literal["ess", "every", "never"] = "ess"
    window: tuple[float, float] = (0.0, 1.0)
    every: int = 1

    def __post_init__(self) -> None:
        named_scheme(self.scheme, "Resample")
        if not 0 < self.threshold <= 1:
            got = f"{self.threshold:g}"
            raise DomainError("Resample", "the threshold is in (0, 1].", got=got)
        if self.when not in ("ess", "every", "never"):
            raise DomainError("Resample", "when is ess, every or never.", got=repr(self.when))
        if not self.window[0] <= self.window[1]:
            raise DomainError("Resample", "a window is tmin ≤ tmax.", got=repr(self.window))
        if self.every < 1:
            raise DomainError("Resample", "every is 1 or more.", got=repr(self.every))

    def __call__(self, carry: Carry, t: float, rng: torch.Generator) -> Carry:
        """The carry after the decision at time ``t``."""
        return self.among(OneProcess(), carry, t, rng)

    def among(self, population: Population, carry: Carry, t: float, rng: torch.Generator) -> Carry:
        """The same for rows that are part of a larger population."""
        if carry.log_weight is None:
            raise CapabilityError(
                "Resample", "it resamples by log-weights.", got="a carry without them"
            )
        rows, device = len(carry.log_weight), carry.log_weight.device
        if rows == 0:
            return carry
        weights, largest = relative(population.gathered(carry.log_weight))
        carry = replace(carry, memory=_book(carry, population))
        lazy = population.lazy and device.type != "cpu"
        if not lazy:
            require_finite(largest, "Resample", t)
        size, step = ess_of(weights), carry.memory["smc.step"] + 1
        wanted = torch.ones_like(size, dtype=torch.bool)
        if self.when == "never" or not self.window[0] <= t <= self.window[1]:
            wanted = torch.zeros_like(wanted)
        elif self.when == "ess":
            wanted = size < self.threshold * len(weights)
        wanted = wanted & (step[0] % self.every == 0)
        if lazy or bool(wanted):
            carry = self._drawn(population, carry, weights, largest, wanted, rng)
        watched = {"smc.ess": size, "smc.resampled": wanted.to(size.dtype), "smc.step": step[0]}
        memory = {**carry.memory, **{k: v.expand(rows) for k, v in watched.items()}}
        return replace(carry, memory=memory)

    def _drawn(
        self,
        population: Population,
        carry: Carry,
        weights: Tensor,
        largest: Tensor,
        wanted: Tensor,
        rng: torch.Generator,
    ) -> Carry:
        """Ancestors in proportion to the weights, where it is wanted."""
        assert carry.log_weight is not None
        count = len(weights)
        index = population.agreed(ancestors(weights, count, rng, self.scheme))
        index = torch.where(wanted, index, torch.arange(count, device=index.device))
        memory = {
            name: value if name in SHARED else population.take(value, index)
            for name, value in carry.memory.items()
        }
        factor = largest + weights.mean().log()
        booked = memory["smc.log_normaliser"]
        memory["smc.log_normaliser"] = torch.where(wanted, booked + factor, booked)
        zero = torch.zeros_like(carry.log_weight)
        weight = torch.where(wanted, zero, carry.log_weight)
        return replace(
            carry, state=population.take(carry.state, index), log_weight=weight, memory=memory
        )


def _book(carry: Carry, population: Population) -> dict[str, Any]:
    """The memory with what is booked per row, from the first step on."""
    assert carry.log_weight is not None
    rows, device = len(carry.log_weight), carry.log_weight.device
    memory = dict(carry.memory)
    if "smc.ancestor" not in memory:
        memory["smc.ancestor"] = population.numbers(rows, device)
    if "smc.log_normaliser" not in memory:
        memory["smc.log_normaliser"] = torch.zeros(rows, dtype=torch.float64, device=device)
    if "smc.step" not in memory:
        memory["smc.step"] = torch.zeros(rows, dtype=torch.long, device=device)
    return memory
