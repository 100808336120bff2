r"""Samplers: one loop that integrates any generator on any space.

A `Sampler` states how one step is made; `integrate` is the loop. Between steps, declared
*transforms* map carry to carry (resample, clamp, project); callbacks only watch. A sampler declares
the parts that it carries, its order and its network calls per step, and refuses by name what it
cannot carry.

    `Euler`          all parts, all spaces: x ← step(x, h u + √h σξ), then jumps, then the weight;
                     order 1 (for the moments of a flow or an SDE, and for jump laws)
    `RungeKutta`     flows, from a `Tableau`: ambient stages, projected; order of the tableau
    `AdamsBashforth` flows, two-step, order 2 with one network call per step
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .errors import CapabilityError
from .generators import MarkovGenerator
from .grids import TimeGrid
from .jumps import Jumps, leap
from .noises import add_tangents
from .parts import Parts
from .spaces import as_smooth
from .states import axpy, batch_size, device_of, dtype_of, map_state, row_times
from .tableaus import HEUN, Tableau

__all__ = [
    "AdamsBashforth",
    "Carry",
    "Euler",
    "RungeKutta",
    "Sampler",
    "Samples",
    "Solver",
    "Transform",
    "integrate",
]


@dataclass(frozen=True)
class Carry:
    """What a solve carries from step to step; all of it is batch-first.

    Args:
        state: the rows, with their facts.
        log_weight: accumulated ∫ g dt, ``(batch,)``; None when the generator has no potential.
        memory: what a multistep solver remembers: name → state-like value.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> parts = lambda t, x: Parts(potential=x)
        >>> gen = MarkovGenerator(Euclidean(), parts, {"potential"})
        >>> carry = Euler().init(gen, torch.tensor([1.0, 3.0]))
        >>> Euler().step(gen, carry, 0.0, 0.5, torch.Generator()).log_weight
        tensor([0.5000, 1.5000])
    """

    state: Any
    log_weight: Tensor | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """What a solve returns.

    Args:
        state: the final rows.
        log_weight: final log-weights ``(batch,)``, or None.
        times: the recorded times.
        trajectory: the recorded states, one per recorded time.

    Example:
        >>> from genpath import Euclidean, flow
        >>> gen, start = flow(Euclidean(1), lambda t, x: 1 + 0 * x), torch.zeros(5, 1)
        >>> found = integrate(Euler(), gen, start, [0.0, 0.5, 1.0], torch.Generator(), record=True)
        >>> found.times, found.state.shape, [float(x[0]) for x in found.trajectory]
        ((0.0, 0.5, 1.0), torch.Size([5, 1]), [0.0, 0.5, 1.0])
    """

    state: Any
    log_weight: Tensor | None = None
    times: tuple[float, ...] = ()
    trajectory: tuple[Any, ...] = ()


Transform = Callable[[Carry, float, torch.Generator], Carry]
"""A map ``(carry, t, rng) -> carry`` applied after each step."""

Callback = Callable[[int, float, Carry], None]
"""A watcher ``(index, t, carry)``, called after each step and its transforms."""


@runtime_checkable
class Sampler(Protocol):
    """How one step is made.

    ``carries`` names the parts that it integrates, ``order`` its order of accuracy,
    ``calls_per_step`` its evaluations of the generator, ``needs_origin`` whether it must know the
    path and prediction that the generator came from.
    """

    @property
    def carries(self) -> frozenset[str]: ...

    @property
    def order(self) -> int: ...

    @property
    def calls_per_step(self) -> int: ...

    @property
    def needs_origin(self) -> bool: ...

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """The first carry."""
        ...

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """The carry at ``t_next`` from the carry at ``t``."""
        ...


def integrate(
    sampler: Sampler,
    gen: MarkovGenerator,
    state: Any,
    grid: TimeGrid | Sequence[float],
    rng: torch.Generator,
    *,
    transforms: Iterable[Transform] = (),
    callbacks: Iterable[Callback] = (),
    record: bool | Sequence[int] = False,
) -> Samples:
    """Carry ``state`` along the grid.

    Args:
        sampler: how a step is made.
        gen: what is integrated.
        state: the rows at the first time of the grid.
        grid: a `TimeGrid`, or times to make one.
        rng: all randomness of the solve, on the state's device.
        transforms: applied in order after each step.
        callbacks: called after each step; they must not change anything.
        record: True to keep all states, or the indices of grid times to keep.

    Returns:
        `Samples`; an empty batch gives an empty batch.

    Raises:
        CapabilityError: the sampler does not carry a part of the generator, or noise, jumps or
            weights are asked to run backwards in time (use `genpath.reversal.reverse`).

    Example:
        >>> from genpath.generators import flow
        >>> from genpath.spaces import Euclidean
        >>> from genpath.tableaus import RK4
        >>> gen = flow(Euclidean(1), lambda t, x: x)
        >>> grid, rng = TimeGrid.uniform(10), torch.Generator()
        >>> integrate(RungeKutta(RK4), gen, torch.ones(1, 1), grid, rng).state
        tensor([[2.7183]])
    """
    times = grid if isinstance(grid, TimeGrid) else TimeGrid(tuple(grid))
    _refuse(sampler, gen, times)
    transforms, callbacks = tuple(transforms), tuple(callbacks)
    if record is True:
        kept = frozenset(range(len(times)))
    else:
        kept = frozenset(record or ())
    carry = sampler.init(gen, state)
    recorded = [(times.times[0], carry.state)] if 0 in kept else []
    for index, (t, t_next) in enumerate(itertools.pairwise(times.times), 1):
        carry = sampler.step(gen, carry, t, t_next, rng)
        for transform in transforms:
            carry = transform(carry, t_next, rng)
        for callback in callbacks:
            callback(index, t_next, carry)
        if index in kept:
            recorded.append((t_next, carry.state))
    return Samples(
        carry.state, carry.log_weight, tuple(t for t, _ in recorded), tuple(s for _, s in recorded)
    )


def _refuse(sampler: Sampler, gen: MarkovGenerator, grid: TimeGrid) -> None:
    name = type(sampler).__name__
    extra = gen.has - sampler.carries
    if extra:
        raise CapabilityError(
            name,
            f"it carries {', '.join(sorted(sampler.carries))} only.",
            got=f"a generator with {', '.join(sorted(extra))}",
            fix="use Euler, which carries every part, or another dynamics",
        )
    if sampler.needs_origin and gen.origin is None:
        raise CapabilityError(
            name,
            "it works with the prediction that the generator was made from.",
            got="a generator without origin",
            fix="ask a model for its generator; sums and multiples have none",
        )
    one_way = gen.has & {"diffusion", "jumps", "potential"}
    if one_way and not grid.increasing:
        raise CapabilityError(
            name,
            f"{', '.join(sorted(one_way))} run forward in time only.",
            got="a grid that goes back",
            fix="integrate genpath.reversal.reverse(gen) forward in s = 1 − t",
        )


def _start(gen: MarkovGenerator, state: Any) -> Carry:
    weight = None
    if "potential" in gen.has:
        weight = torch.zeros(batch_size(state), dtype=dtype_of(state), device=device_of(state))
    return Carry(state, weight)


@dataclass(frozen=True)
class Solver:
    """A sampler with the grid that it runs on: what a config's ``sampler`` slot builds.

    Example:
        >>> Solver(RungeKutta(HEUN), TimeGrid.uniform(10)).calls
        20
    """

    sampler: Sampler
    grid: TimeGrid

    @property
    def calls(self) -> int:
        """Network calls of one solve (a multistep method's starting call left out)."""
        return self.sampler.calls_per_step * (len(self.grid) - 1)


@dataclass(frozen=True)
class Euler:
    """One evaluation per step, for every part on every space; order 1.

    Velocity and diffusion move along one tangent, x ← step(x, h u + √h σξ): Euler–Maruyama on
    R^d, a geodesic random walk on a manifold. Sites jump with probability 1 − e^{−∫λ} and then
    land on a target drawn at the step's start (`genpath.jumps.leap`). The weight gains h g. The
    three are a split step from one evaluation.

    Example:
        >>> Euler().order, Euler().calls_per_step
        (1, 1)
    """

    carries: frozenset[str] = frozenset({"velocity", "diffusion", "jumps", "potential"})
    order: int = 1
    calls_per_step: int = 1
    needs_origin: bool = False

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """State and, with a potential, zero log-weights."""
        return _start(gen, state)

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """One split step of length ``t_next − t``."""
        h, state, weight = t_next - t, carry.state, carry.log_weight
        parts = gen.evaluate(row_times(t, state), state)
        if parts.velocity is not None or parts.diffusion is not None:
            state = as_smooth(gen.space, "Euler").step(
                state, self._tangent(gen, parts, state, h, rng)
            )
        if parts.jumps is not None:
            state = _jump(parts.jumps, state, t, t_next, rng)
        if parts.potential is not None and weight is not None:
            weight = weight + h * parts.potential
        return replace(carry, state=state, log_weight=weight)

    def _tangent(
        self, gen: MarkovGenerator, parts: Parts, x: Any, h: float, rng: torch.Generator
    ) -> Any:
        tangent = None
        if parts.velocity is not None:
            tangent = map_state(lambda leaf: h * leaf, parts.velocity)
        if parts.diffusion is not None:
            noise = parts.diffusion(parts.diffusion.draw(gen.space, x, rng))
            tangent = add_tangents(tangent, map_state(lambda leaf: math.sqrt(h) * leaf, noise))
        return tangent


def _jump(
    jumps: Jumps | Mapping[str, Jumps], x: Any, t: float, t_next: float, rng: torch.Generator
) -> Any:
    if isinstance(jumps, Mapping):
        return {**x, **{n: _jump(part, x[n], t, t_next, rng) for n, part in jumps.items()}}
    moved = leap(jumps, x, t, t_next, rng)
    return {**x, **moved} if isinstance(x, Mapping) else moved


@dataclass(frozen=True)
class RungeKutta:
    """An explicit Runge–Kutta method for flows on R^d, on embedded manifolds and their products.

    Stages and the step are ambient sums, each projected onto the space. That is the ambient method
    for the field u(t, project(x)), which is tangent to the space, so its order is the tableau's.
    Times may run in either direction.

    Example:
        >>> from genpath import Euclidean, flow
        >>> gen, rng = flow(Euclidean(1), lambda t, x: 2 * t[:, None] + 0 * x), torch.Generator()
        >>> integrate(RungeKutta(HEUN), gen, torch.zeros(1, 1), [0.0, 1.0], rng).state  # t², exact
        tensor([[1.]])
        >>> RungeKutta(HEUN).order, RungeKutta(HEUN).calls_per_step
        (2, 2)
    """

    tableau: Tableau = HEUN
    carries: frozenset[str] = frozenset({"velocity"})
    needs_origin: bool = False

    @property
    def order(self) -> int:
        """The tableau's order."""
        return self.tableau.order

    @property
    def calls_per_step(self) -> int:
        """One per stage."""
        return len(self.tableau.b)

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """The state alone."""
        return _start(gen, state)

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """One step of length ``t_next − t``, of either sign."""
        h, x, slopes = t_next - t, carry.state, list[Any]()
        for row, node in zip(self.tableau.a, self.tableau.c, strict=True):
            point = self._move(gen, x, slopes, row, h)
            slopes.append(gen.evaluate(row_times(t + node * h, point), point).velocity)
        return replace(carry, state=self._move(gen, x, slopes, self.tableau.b, h))

    def _move(
        self, gen: MarkovGenerator, x: Any, slopes: list[Any], weights: Sequence[float], h: float
    ) -> Any:
        used = [(s, w * h) for s, w in zip(slopes, weights, strict=True) if w]
        if not used:
            return x
        for slope, weight in used:
            x = axpy(x, slope, weight)
        return gen.space.project(x)


@dataclass(frozen=True)
class AdamsBashforth:
    """The two-step Adams–Bashforth method for flows: order 2 with one network call per step.

    x ← x + h (1 + r/2) u_n − h (r/2) u_{n−1} with r = h / h_previous; the first step is Heun's,
    so that the order holds from the start (one extra call). Remembers the last slope.

    Example:
        >>> from genpath import Euclidean, flow
        >>> gen, rng = flow(Euclidean(1), lambda t, x: 2 * t[:, None] + 0 * x), torch.Generator()
        >>> grid = [0.0, 0.25, 1.0]  # unequal steps keep the order: t² is exact
        >>> integrate(AdamsBashforth(), gen, torch.zeros(1, 1), grid, rng).state
        tensor([[1.]])
    """

    carries: frozenset[str] = frozenset({"velocity"})
    order: int = 2
    calls_per_step: int = 1
    needs_origin: bool = False

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """The state; memory fills at the first step."""
        return _start(gen, state)

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """One step of length ``t_next − t``."""
        h, x = t_next - t, carry.state
        slope = gen.evaluate(row_times(t, x), x).velocity
        if carry.memory:
            ratio = h / carry.memory["step"]
            moved = axpy(axpy(x, slope, h * (1 + ratio / 2)), carry.memory["slope"], -h * ratio / 2)
        else:
            end = gen.space.project(axpy(x, slope, h))
            later = gen.evaluate(row_times(t_next, end), end).velocity
            moved = axpy(axpy(x, slope, h / 2), later, h / 2)
        memory = {"slope": slope, "step": row_times(h, x)}
        return replace(carry, state=gen.space.project(moved), memory=memory)
