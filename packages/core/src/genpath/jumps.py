r"""Jump parts: ∫ (f(y) − f(x)) Q_t(dy; x) of a generator.

A *jump part* owes its total intensity and drawing targets. It may have *sites* (tokens), which jump
independently within a step: then the intensity has shape ``(batch, *sites)``. What it can give
beyond that is optional: `atoms` (all targets with their rates), `exposure` (the intensity
integrated over a step, where a closed form beats "frozen rate × step"), ``log_target`` (the
log-probability of a target given that the site jumps) and `leap` (a whole step at once, in the law
of exposure and targets, where that can be had cheaper than targets for every site).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .errors import CapabilityError, ShapeError
from .states import State, map_state, per_row

__all__ = [
    "AtomJumps",
    "ClockedJumps",
    "Jumps",
    "KernelJumps",
    "RateJumps",
    "ScaledJumps",
    "SumJumps",
    "atoms",
    "exposure",
    "leap",
    "pick",
]


@runtime_checkable
class Jumps(Protocol):
    """A jump part: total intensity and targets."""

    def intensity(self) -> Tensor:
        """The rate at which each site jumps: ``(batch, *sites)``."""
        ...

    def targets(self, rng: torch.Generator) -> Any:
        """Where each site lands if it jumps: the form of the leaf (or of the whole state)."""
        ...


def exposure(jumps: Jumps, t: float, t_next: float) -> Tensor:
    """The intensity integrated over [t, t_next]: its own closed form, else frozen at ``t``.

    The result has the shape of the intensity, ``(batch, *sites)``.

    Example:
        >>> jumps = KernelJumps(torch.tensor([3.0, 1.0]), lambda rng: torch.zeros(2))
        >>> exposure(jumps, 0.0, 0.5)
        tensor([1.5000, 0.5000])
    """
    own = getattr(jumps, "exposure", None)
    result: Tensor = jumps.intensity() * (t_next - t) if own is None else own(t, t_next)
    return result


def atoms(jumps: Jumps, x: State) -> tuple[Any, Tensor]:
    """All targets ``(count, batch, …)`` of a jump part at ``x``, and rates ``(count, batch)``.

    Raises:
        CapabilityError: the part can only draw.

    Example:
        >>> x = torch.tensor([0])
        >>> targets, rates = atoms(RateJumps(torch.tensor([[0.0, 2.0, 1.0]]), x), x)
        >>> targets.T, rates.T
        (tensor([[0, 1, 2]]), tensor([[0., 2., 1.]]))
    """
    own = getattr(jumps, "atoms", None)
    found: tuple[Any, Tensor] | None = None if own is None else own(x)
    if found is None:
        raise CapabilityError(
            "jumps",
            "this needs all targets with their rates.",
            got=f"{type(jumps).__name__}, which only draws",
            fix="give the jump part `atoms(x) -> (targets, rates)`",
        )
    return found


def leap(jumps: Jumps, x: State, t: float, t_next: float, rng: torch.Generator) -> Any:
    """The state after the jumps of one step: the part's own ``leap``, else by its definition.

    By definition every site jumps with probability 1 − e^{−exposure}, and then lands on a target
    drawn at the step's start. A part's own ``leap(x, t, t_next, rng)`` has that law, but may use
    random numbers in another way.

    Args:
        jumps: the part, at ``x`` and time ``t``.
        x: the leaf on which the part acts, or the whole state.
        t, t_next: the ends of the step.
        rng: on the state's device.

    Example:
        >>> x = torch.tensor([0, 2])
        >>> jumps = RateJumps(torch.tensor([[0.0, 1e9, 0.0], [0.0, 0.0, 0.0]]), x)
        >>> leap(jumps, x, 0.0, 0.5, torch.Generator())
        tensor([1, 2])
    """
    own = getattr(jumps, "leap", None)
    if own is not None:
        return own(x, t, t_next, rng)
    chance = -torch.expm1(-exposure(jumps, t, t_next))
    happens = (
        torch.rand(chance.shape, generator=rng, device=chance.device, dtype=chance.dtype) < chance
    )

    def land(target: Tensor, here: Tensor) -> Tensor:
        shape = happens.shape + (1,) * (here.dim() - happens.dim())
        return torch.where(happens.reshape(shape), target, here)

    return map_state(land, jumps.targets(rng), x)


def pick(weights: Tensor, rng: torch.Generator) -> Tensor:
    """One index per row by inverse CDF of non-negative weights ``(*rows, count)``.

    A row of zeros gives an arbitrary index. One uniform per row; sums in the weights' dtype.

    Example:
        >>> pick(torch.tensor([[0.0, 1.0]]), torch.Generator())
        tensor([1])
    """
    total = weights.cumsum(-1)
    shape = weights.shape[:-1]
    u = torch.rand(shape, generator=rng, device=weights.device, dtype=weights.dtype)
    index = torch.searchsorted(total, (u * total[..., -1]).unsqueeze(-1), right=True).squeeze(-1)
    # u·total can round up to total: fall back to the last letter with positive weight
    count = weights.shape[-1]
    last = count - 1 - (weights > 0).flip(-1).to(torch.int8).argmax(-1)
    return torch.minimum(index, last)


@dataclass(frozen=True)
class RateJumps:
    """Jumps on an alphabet from a rate tensor: every site independently.

    Args:
        rates: ``(batch, *sites, letters)``, non-negative; the entry of the present letter counts
            as 0 whatever it holds.
        x: the present letters ``(batch, *sites)``.

    Intensities and targets have the shape ``(batch, *sites)``.

    Example:
        >>> jumps = RateJumps(torch.tensor([[9.0, 2.0, 1.0]]), x=torch.tensor([0]))
        >>> jumps.intensity()  # the present letter does not count
        tensor([3.])
        >>> jumps.log_target(torch.tensor([1])).exp()
        tensor([0.6667])
    """

    rates: Tensor
    x: Tensor

    def __post_init__(self) -> None:
        if self.rates.shape[:-1] != self.x.shape:
            raise ShapeError(
                "RateJumps",
                "there is one row of rates per site.",
                got=f"rates {tuple(self.rates.shape)}, x {tuple(self.x.shape)}",
            )
        object.__setattr__(self, "rates", self.rates.scatter(-1, self.x.unsqueeze(-1), 0.0))

    def intensity(self) -> Tensor:
        return self.rates.sum(-1)

    def targets(self, rng: torch.Generator) -> Tensor:
        return pick(self.rates, rng)

    def log_target(self, target: Tensor) -> Tensor:
        """The log-probability that a jump of each site lands on ``target``: ``(batch, *sites)``.

        −∞ where no jump leads there, also at a site that never jumps.
        """
        chosen = self.rates.gather(-1, target.unsqueeze(-1)).squeeze(-1)
        found = chosen.log() - self.intensity().log()
        return found.masked_fill(chosen == 0, -torch.inf)

    def atoms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, letters = x.shape[0], self.rates.shape[-1]
        sites = math.prod(x.shape[1:])
        flat = x.reshape(batch, sites)
        found = flat.expand(sites * letters, *flat.shape).clone()
        site = torch.arange(sites, device=x.device).repeat_interleave(letters)
        letter = torch.arange(letters, device=x.device).repeat(sites)
        index = site.reshape(-1, 1, 1).expand(-1, batch, 1)
        found.scatter_(2, index, letter.reshape(-1, 1, 1).expand(-1, batch, 1))
        rates = self.rates.reshape(batch, sites * letters).T
        return found.reshape(sites * letters, *x.shape), rates


@dataclass(frozen=True)
class AtomJumps:
    """Jumps of the whole state to listed targets.

    Args:
        states: targets ``(count, batch, …)``, a tensor or a dict of them.
        rates: ``(count, batch)``, non-negative.

    Intensities are ``(batch,)``, drawn targets ``(batch, …)``.

    Example:
        >>> states = torch.tensor([[[-1.0]], [[1.0]]])  # two targets, one row, R¹
        >>> jumps = AtomJumps(states, torch.tensor([[0.0], [2.0]]))
        >>> jumps.intensity(), jumps.targets(torch.Generator())
        (tensor([2.]), tensor([[1.]]))
    """

    states: Any
    rates: Tensor

    def intensity(self) -> Tensor:
        return self.rates.sum(0)

    def targets(self, rng: torch.Generator) -> Any:
        index = pick(self.rates.T, rng)
        rows = torch.arange(index.shape[0], device=index.device)
        return map_state(lambda leaf: leaf[index, rows], self.states)

    def atoms(self, x: Any) -> tuple[Any, Tensor]:
        return self.states, self.rates


@dataclass(frozen=True)
class KernelJumps:
    """Jumps that can be drawn but not listed: a rate and a sampler of targets.

    Args:
        rate: ``(batch,)``, non-negative.
        draw: ``draw(rng) -> targets`` of the leaf's form, one per row.
        listed: optionally all targets and their rates, as `atoms` gives them.

    Example:
        >>> def draw(rng):
        ...     return torch.randn(4, 2, generator=rng)
        >>> jumps = KernelJumps(torch.full((4,), 0.5), draw)
        >>> jumps.intensity().shape, jumps.targets(torch.Generator()).shape
        (torch.Size([4]), torch.Size([4, 2]))
    """

    rate: Tensor
    draw: Callable[[torch.Generator], Any]
    listed: tuple[Any, Tensor] | None = None

    def intensity(self) -> Tensor:
        return self.rate

    def targets(self, rng: torch.Generator) -> Any:
        return self.draw(rng)

    def atoms(self, x: Any) -> tuple[Any, Tensor] | None:
        return self.listed


@dataclass(frozen=True)
class ScaledJumps:
    """``factor`` times a jump part, factor ``(batch,)`` or a number, non-negative.

    Rates change, targets do not; intensities keep the shape ``(batch, *sites)``. A leap of the base
    is none of the multiple, which jumps with another probability: its step is the general one.

    Example:
        >>> base = RateJumps(torch.ones(2, 3), x=torch.tensor([0, 1]))
        >>> base.intensity(), ScaledJumps(base, torch.tensor([0.5, 3.0])).intensity()
        (tensor([2., 2.]), tensor([1., 6.]))
    """

    base: Jumps
    factor: Tensor | float

    def _times(self, rates: Tensor) -> Tensor:
        return per_row(self.factor, rates) * rates

    def intensity(self) -> Tensor:
        return self._times(self.base.intensity())

    def targets(self, rng: torch.Generator) -> Any:
        return self.base.targets(rng)

    def exposure(self, t: float, t_next: float) -> Tensor:
        if isinstance(self.factor, Tensor):  # a function of time: no closed form over the step
            return self.intensity() * (t_next - t)
        return self._times(exposure(self.base, t, t_next))

    def atoms(self, x: Any) -> tuple[Any, Tensor]:
        found, rates = atoms(self.base, x)
        return found, rates * self.factor


@dataclass(frozen=True)
class ClockedJumps:
    """A jump part run by a clock τ(s): rates times τ̇(s), exposures over [τ(s), τ(s′)].

    Args:
        base: the jump part at time τ(s), with intensity ``(batch, *sites)``.
        clock: τ, elementwise on a tensor of times.
        rate: τ̇(s), ``(batch,)``.

    Example:
        >>> base = KernelJumps(torch.tensor([2.0]), lambda rng: torch.zeros(1))
        >>> jumps = ClockedJumps(base, lambda s: s**2, rate=torch.tensor([0.0]))  # at s = 0
        >>> jumps.intensity(), jumps.exposure(0.0, 1.0)
        (tensor([0.]), tensor([2.]))
    """

    base: Jumps
    clock: Callable[[Tensor], Tensor]
    rate: Tensor

    def _ends(self, t: float, t_next: float) -> tuple[float, float]:
        start, end = self.clock(torch.tensor([t, t_next], dtype=torch.float64)).tolist()
        return start, end

    def intensity(self) -> Tensor:
        rates = self.base.intensity()
        return per_row(self.rate, rates) * rates

    def targets(self, rng: torch.Generator) -> Any:
        return self.base.targets(rng)

    def exposure(self, t: float, t_next: float) -> Tensor:
        return exposure(self.base, *self._ends(t, t_next))

    def leap(self, x: Any, t: float, t_next: float, rng: torch.Generator) -> Any:
        """The base's step over [τ(t), τ(t_next)], which has the same exposure and targets."""
        return leap(self.base, x, *self._ends(t, t_next), rng)

    def atoms(self, x: Any) -> tuple[Any, Tensor]:
        found, rates = atoms(self.base, x)
        return found, rates * self.rate


@dataclass(frozen=True)
class SumJumps:
    """The sum of jump parts on the same sites: rates add, a target comes from one of them.

    All parts have intensities of the same shape ``(batch, *sites)``. Leaps of the parts, one after
    the other, would start from different states: the step of the sum is the general one.

    Example:
        >>> x = torch.tensor([0])
        >>> up, far = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, 4.0]])
        >>> SumJumps((RateJumps(up, x), RateJumps(far, x))).intensity()
        tensor([5.])
    """

    parts: tuple[Jumps, ...]

    def intensity(self) -> Tensor:
        return torch.stack([p.intensity() for p in self.parts]).sum(0)

    def targets(self, rng: torch.Generator) -> Any:
        chosen = pick(torch.stack([p.intensity() for p in self.parts], -1), rng)
        drawn = [p.targets(rng) for p in self.parts]

        def choose(*leaves: Tensor) -> Tensor:
            result = leaves[0]
            for k, leaf in enumerate(leaves[1:], 1):
                mask = chosen == k
                result = torch.where(
                    mask.reshape(mask.shape + (1,) * (leaf.dim() - mask.dim())), leaf, result
                )
            return result

        return map_state(choose, drawn[0], *drawn[1:])

    def exposure(self, t: float, t_next: float) -> Tensor:
        return torch.stack([exposure(p, t, t_next) for p in self.parts]).sum(0)

    def atoms(self, x: Any) -> tuple[Any, Tensor]:
        listed = [atoms(p, x) for p in self.parts]
        found = map_state(lambda *leaves: torch.cat(leaves), *(states for states, _ in listed))
        return found, torch.cat([rates for _, rates in listed])
