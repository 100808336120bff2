r"""Sequential Monte Carlo: weighted particles of a generator with a potential.

    dX = u dt + σ dW,  dA = g(t, X) dt    p_T(φ) = E[e^{A_T} φ(X_T)]/E[e^{A_T}], E e^{A_T} = Z_T/Z_0

(Feynman & Kac; L7 s.11–15 and 34–37 of the course.) A step moves the particles by u, σ and jumps
and adds h g(t_n, X_n), at the point before the move, to log-weights a. `Resample` is a transform
between steps. Where the effective sample size of the weights is below τ n, it draws n ancestors in
proportion to eᵃ, takes *all that belongs to a row* from its ancestor (leaves that move, facts, what
a sampler remembers), sets a = 0 and books the block's factor of the normaliser:

    log Ẑ = Σ_blocks log (1/n) Σ_k e^{a_k}         E Ẑ = E e^{A_T} for the steps that were taken

Ẑ is unbiased, whatever the scheme and the rule that says when (Del Moral 2004, section 7.4); log Ẑ
is not. Neither weights nor draws change when g gains a function of time. Resampling only in a
window of times leaves the target as it is. A potential that is dropped outside a window
(`weights_only_in`) changes the target, and is a function of its own for that reason.

    memory of the carry    "smc.log_normaliser", "smc.ess", "smc.resampled", "smc.step" (rows equal)
                           "smc.ancestor": the row of the start that a row descends from
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.parts import Parts
from genpath.samplers import Carry, Euler, Sampler, integrate
from genpath.states import batch_size, device_of, dtype_of, row_times

from .chunking import chunked
from .particles import Diversity, Particles, Spread, log_normaliser_spread
from .populations import OneProcess, Population, Resample
from .resampling import log_mean, require_finite

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = [
    "Diversity",
    "Particles",
    "Resample",
    "Spread",
    "TrapezoidEuler",
    "chunked",
    "log_normaliser_spread",
    "run_particles",
    "weights_only_in",
]

Callback = Callable[[int, float, Carry], None]


# -- samplers and generators -----------------------------------------------------------------------


@dataclass(frozen=True)
class TrapezoidEuler:
    """Euler's step whose weight is a trapezoid: a += (h/2) (g(t_n, X_n) + g(t_{n+1}, X_{n+1})).

    The weight's error is O(h²) along the path of the particles, where Euler's is O(h). Where the
    particles move exactly (Brownian motion) the whole step is a Strang splitting, of weak order 2.
    Two evaluations per step.

    Example:
        >>> from genpath import Euclidean
        >>> def parts(t, x):
        ...     return Parts(velocity=torch.ones_like(x), potential=x[:, 0])
        >>> gen = MarkovGenerator(Euclidean(1), parts, {"velocity", "potential"})
        >>> start, rng = torch.zeros(1, 1), torch.Generator()
        >>> integrate(TrapezoidEuler(), gen, start, [0.0, 1.0], rng).log_weight  # ∫ t dt
        tensor([0.5000])
    """

    carries: frozenset[str] = frozenset({"velocity", "diffusion", "jumps", "potential"})
    order: int = 1
    calls_per_step: int = 2
    needs_origin: bool = False

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """State and, with a potential, zero log-weights."""
        return Euler().init(gen, state)

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """One split step of length ``t_next − t``."""
        parts = gen.evaluate(row_times(t, carry.state), carry.state)
        moved = Euler().step(once(gen, parts), carry, t, t_next, rng)
        if parts.potential is None or carry.log_weight is None:
            return moved
        later = gen.evaluate(row_times(t_next, moved.state), moved.state).potential
        assert later is not None
        gain = (t_next - t) / 2 * (parts.potential + later)
        return replace(moved, log_weight=carry.log_weight + gain)


def once(gen: MarkovGenerator, parts: Parts) -> MarkovGenerator:
    """The generator with parts that were evaluated already."""
    return replace(gen, evaluate=lambda t, state: parts)


def weights_only_in(gen: MarkovGenerator, tmin: float, tmax: float) -> MarkovGenerator:
    """The generator whose potential is 0 for t outside [tmin, tmax): another target.

    What is simulated is p̃_T of dp̃ = L*p̃ + 1[tmin ≤ t < tmax] g p̃, which is *not* that of g: the
    part of the correction outside the window is lost (L7 s.37). To keep the target and only
    resample in a window, use ``Resample(window=…)``.

    Args:
        gen: with a potential.
        tmin, tmax: the window, half open as an Euler step is.

    Raises:
        CapabilityError: the generator has no potential.
        DomainError: the window is empty.

    Example:
        >>> from genpath import Euclidean
        >>> weigh = lambda t, x: Parts(potential=x[:, 0])
        >>> gen = MarkovGenerator(Euclidean(1), weigh, {"potential"})
        >>> late, x = weights_only_in(gen, 0.5, 1.0), torch.ones(1, 1)
        >>> late(0.25, x).potential, late(0.5, x).potential
        (tensor([0.]), tensor([1.]))
    """
    _require_potential(gen, "weights_only_in")
    if not tmin < tmax:
        raise DomainError("weights_only_in", "tmin < tmax.", got=f"{tmin:g}, {tmax:g}")

    def evaluate(t: Tensor, state: Any) -> Parts:
        parts = gen.evaluate(t, state)
        inside = (t >= tmin) & (t < tmax)
        assert parts.potential is not None
        kept = torch.where(inside, parts.potential, torch.zeros_like(parts.potential))
        return replace(parts, potential=kept)

    return replace(gen, evaluate=evaluate)


def _require_potential(gen: MarkovGenerator, where: str) -> None:
    if "potential" not in gen.has:
        raise CapabilityError(
            where,
            "weights come from a potential.",
            got=f"a generator with {', '.join(sorted(gen.has)) or 'nothing'}",
            fix="add a potential, or use genpath.samplers.integrate",
        )


# -- the run ---------------------------------------------------------------------------------------


@torch.no_grad()
def run_particles(
    gen: MarkovGenerator,
    start: Any,
    grid: TimeGrid | Sequence[float],
    rng: torch.Generator,
    *,
    sampler: Sampler | None = None,
    resample: Resample | None = None,
    log_weight: Tensor | None = None,
    chunk: int | None = None,
    callbacks: Iterable[Callback] = (),
    group: ProcessGroup | None = None,
) -> Particles:
    """Weighted particles of a generator with a potential, carried along the grid.

    At the last time the particles are not resampled: their weights are the answer, and
    `Particles.draw` gives rows of equal weight.

    Args:
        gen: with a potential.
        start: n rows, of equal weight or with ``log_weight``.
        grid: increasing times, or a `TimeGrid`.
        rng: all randomness, on the rows' device; with a group, different in each process.
        sampler: how a step is made; `Euler` if None. Also `TrapezoidEuler`, `JumpCorrector`.
        resample: the rule and the scheme; ``Resample()`` if None.
        log_weight: log-weights of the start ``(n,)``; zeros if None.
        chunk: evaluate the generator on at most so many rows at a time.
        callbacks: watchers ``(index, t, carry)``, after each step and its resampling.
        group: a torch.distributed process group over which the particles are sharded; each process
            has the same number of rows, and holds its own afterwards (`sharding.gather_particles`).

    Raises:
        CapabilityError: the generator has no potential, or the sampler refuses it or a group.
        ShapeError: ``log_weight`` is not one number per row.
        DomainError: there are no rows.
        NumericalError: a weight is NaN or +∞, or none is positive.

    Example:
        >>> from genpath import Euclidean
        >>> weigh = lambda t, x: Parts(potential=x[:, 0])
        >>> gen = MarkovGenerator(Euclidean(1), weigh, {"potential"})
        >>> start = torch.tensor([[0.0], [2.0]])
        >>> found = run_particles(gen, start, [0.0, 0.5, 1.0], torch.Generator())
        >>> found.log_normaliser, found.lineages()  # log (1 + e²)/2, not resampled
        (tensor(1.4338, dtype=torch.float64), 2)
    """
    _require_potential(gen, "run_particles")
    sampler, resample = sampler or Euler(), resample or Resample()
    weight, population = _first(start, log_weight), _population(group, sampler)
    times = grid if isinstance(grid, TimeGrid) else TimeGrid(tuple(grid))
    last, history = replace(resample, when="never"), _History()

    def decide(carry: Carry, t: float, rng: torch.Generator) -> Carry:
        rule = last if t == times.times[-1] else resample
        return rule.among(population, carry, t, rng)

    integrate(
        _begun(sampler, weight),
        gen if chunk is None else chunked(gen, chunk),
        start,
        times,
        rng,
        transforms=(decide,),
        callbacks=(history, *callbacks),
    )
    return history.particles(times, population)


@dataclass
class _History:
    """A watcher that keeps the last carry, and the weights' history without reading it."""

    carry: Carry | None = None
    sizes: list[Tensor] = field(default_factory=list)
    flags: list[Tensor] = field(default_factory=list)

    def __call__(self, index: int, t: float, carry: Carry) -> None:
        self.carry = carry
        self.sizes.append(carry.memory["smc.ess"][0])
        self.flags.append(carry.memory["smc.resampled"][0])

    def particles(self, grid: TimeGrid, population: Population) -> Particles:
        """What was run; weights are looked at here."""
        carry, times = self.carry, grid.times[1:]
        assert carry is not None and carry.log_weight is not None
        booked = carry.memory["smc.log_normaliser"][0]
        total = booked + log_mean(population.gathered(carry.log_weight))
        require_finite(total, "run_particles", times[-1])
        flags = torch.stack(self.flags).tolist()
        return Particles(
            carry.state,
            carry.log_weight,
            total,
            torch.stack(self.sizes),
            times,
            tuple(t for t, flag in zip(times, flags, strict=True) if flag),
            carry.memory["smc.ancestor"],
        )


def _first(start: Any, log_weight: Tensor | None) -> Tensor:
    """The log-weights of the start."""
    rows = batch_size(start)
    if rows == 0:
        raise DomainError("run_particles", "there is a particle.", got="no rows")
    if log_weight is None:
        return torch.zeros(rows, dtype=dtype_of(start), device=device_of(start))
    if log_weight.shape != (rows,):
        raise ShapeError(
            "run_particles",
            "there is one log-weight per row of the start.",
            got=f"log_weight {tuple(log_weight.shape)}, {rows} rows",
        )
    return log_weight


def _begun(sampler: Sampler, log_weight: Tensor) -> Sampler:
    """The sampler, starting from these log-weights; refusals still name the sampler."""

    def init(self: Any, gen: MarkovGenerator, state: Any) -> Carry:
        return replace(sampler.init(gen, state), log_weight=log_weight)

    kind, body = type(sampler), {"init": init, "__slots__": ()}
    begun: Any = copy.copy(sampler)
    object.__setattr__(begun, "__class__", type(kind.__name__, (kind,), body))
    started: Sampler = begun
    return started


def _population(group: ProcessGroup | None, sampler: Sampler) -> Population:
    if group is None:
        return OneProcess()
    if getattr(sampler, "interacts", False):
        raise CapabilityError(
            "run_particles",
            f"{type(sampler).__name__} compares all particles within a step, in one process.",
            got="a process group",
            fix="use Euler with Resample, or run without a group",
        )
    from .sharding import Shards

    return Shards(group)
