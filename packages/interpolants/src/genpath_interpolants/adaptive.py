r"""Adaptive: flows on R^d and its products, with steps as long as a tolerance allows.

A pair of Runge–Kutta methods of orders 5 and 4 gives a step and its error (Dormand & Prince 1980);
the step is repeated, shorter, while the norm of error/(atol + rtol |x|) exceeds 1. The solver is
torchdiffeq's, the extra ``genpath-interpolants[adaptive]``. It runs in both directions of time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, NumericalError
from genpath.generators import MarkovGenerator, breakpoints
from genpath.grids import TimeGrid
from genpath.samplers import Carry, Solver
from genpath.spaces import Product, Space
from genpath.states import batch_size, device_of, row_times

__all__ = ["Adaptive", "Calls", "adaptive"]


@dataclass
class Calls:
    """A counter of evaluations that a caller passes in and reads afterwards.

    Example:
        >>> calls = Calls()
        >>> calls.evaluations
        0
    """

    evaluations: int = 0


@dataclass(frozen=True)
class Adaptive:
    r"""Flows by Dormand–Prince 5(4) with error control: ``sampler.interpolants.adaptive``.

    A step of the grid is one solve of torchdiffeq: the steps inside keep the norm of
    error/(atol + rtol·|x|) below 1 (Dormand & Prince 1980; the last stage of a step is the first
    of the next). They land on the ends of the grid's steps and on the kinks of the path's
    schedule, and never leave [t, t_next]. Every leaf of a state is controlled, so that the
    log-density of `genpath.likelihoods.SolvedFlow` has the accuracy of the points. Use a grid
    with few times (``steps=1``), since each starts a solve of its own.

    Args:
        rtol, atol: relative and absolute tolerance per step.
        norm: "rms": the root mean square over the batch and the event, largest over leaves:
            rows share their steps and their mean error is controlled. "max": every coordinate
            of every row is. Or a function of the scaled errors, one tensor per leaf in the
            order of the state, that returns a scalar.
        first_step: the length of the first step; chosen by Hairer's rule (one more call) if None.
        max_steps: of one solve, rejected ones included.
        calls: a counter to which evaluations are added.

    Raises:
        DomainError: a tolerance is not positive, or an unknown norm.
        CapabilityError: torchdiffeq is not installed.
        NumericalError: (of `step`) the steps shrink to nothing, or are more than ``max_steps``.

    Example:
        >>> from genpath import Euclidean, flow, integrate
        >>> calls = Calls()
        >>> gen = flow(Euclidean(1), lambda t, x: x)
        >>> sampler, grid = Adaptive(1e-6, 1e-6, calls=calls), TimeGrid((0.0, 1.0))
        >>> integrate(sampler, gen, torch.ones(1, 1), grid, torch.Generator()).state
        tensor([[2.7183]])
        >>> calls.evaluations < 60
        True
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    norm: Literal["rms", "max"] | Callable[[Sequence[Tensor]], Tensor] = "rms"
    first_step: float | None = None
    max_steps: int = 10_000
    calls: Calls | None = None
    carries: frozenset[str] = frozenset({"velocity"})
    order: int = 5
    calls_per_step: int = 7
    """The least: a solve of one inner step."""
    needs_origin: bool = False

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and self.atol > 0):
            raise DomainError(
                "interpolants.adaptive",
                "tolerances are positive.",
                got=f"rtol {self.rtol:g}, atol {self.atol:g}",
            )
        if not callable(self.norm) and self.norm not in ("rms", "max"):
            raise DomainError("interpolants.adaptive", "norm is rms or max.", got=repr(self.norm))
        _odeint()

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """The state alone."""
        return Carry(state)

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """The solution at ``t_next``, in as many steps as the tolerances need."""
        if batch_size(carry.state) == 0:
            return carry
        return replace(carry, state=self._solve(gen, carry.state, t, t_next))

    def _solve(self, gen: MarkovGenerator, x: Any, t: float, t_next: float) -> Any:
        names = None if isinstance(x, Tensor) else _moving(gen.space, x)

        def whole(leaves: Sequence[Tensor]) -> Any:
            return leaves[0] if names is None else {**x, **dict(zip(names, leaves, strict=True))}

        def slope(time: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
            if self.calls is not None:
                self.calls.evaluations += 1
            state = whole(leaves)
            velocity = gen.evaluate(row_times(time, state), state).velocity
            if names is None:
                return (velocity,)
            known: Mapping[str, Tensor] = velocity
            return tuple(known.get(n, torch.zeros_like(state[n])) for n in names)

        start = (x,) if names is None else tuple(x[n] for n in names)
        device = device_of(x)
        times = torch.tensor([t, t_next], dtype=torch.float64, device=device)
        options: dict[str, Any] = {"step_t": times[1:], "max_num_steps": self.max_steps}
        low, high = min(t, t_next), max(t, t_next)
        kinks = [p for p in breakpoints(gen) if low < p < high]
        if kinks:
            options["jump_t"] = torch.tensor(kinks, dtype=torch.float64, device=device)
        if self.first_step is not None:
            options["first_step"] = self.first_step
        if callable(self.norm) or self.norm == "max":
            options["norm"] = self.norm if callable(self.norm) else _largest
        try:
            found = _odeint()(
                slope,
                start,
                times,
                rtol=self.rtol,
                atol=self.atol,
                method="dopri5",
                options=options,
            )
        except AssertionError as error:  # how torchdiffeq says that it gives up
            raise NumericalError(
                "interpolants.adaptive",
                f"error control needs finite fields and at most {self.max_steps} steps.",
                got=str(error),
                fix="stop short of a singular end (start, end), or loosen rtol and atol",
            ) from error
        return whole([leaf[-1] for leaf in found])


def adaptive(
    rtol: float, atol: float, norm: Literal["rms", "max"], start: float, end: float
) -> Solver:
    """``sampler.interpolants.adaptive``: see `Adaptive`.

    Example:
        >>> adaptive(1e-5, 1e-6, "rms", 0.0, 1.0).grid.times
        (0.0, 1.0)
    """
    return Solver(Adaptive(rtol, atol, norm), TimeGrid((start, end)))


def _moving(space: Space, x: Mapping[str, Tensor]) -> list[str]:
    smooth = space.smooth if isinstance(space, Product) else x
    return [name for name in x if name in smooth]


def _largest(leaves: Sequence[Tensor]) -> Tensor:
    return torch.stack([leaf.abs().max() for leaf in leaves]).max()


def _odeint() -> Callable[..., Any]:
    try:
        solver: Callable[..., Any] = import_module("torchdiffeq").odeint
    except ImportError as error:
        raise CapabilityError(
            "interpolants.adaptive",
            "it solves with torchdiffeq.",
            got="torchdiffeq is not installed",
            fix="pip install 'genpath-interpolants[adaptive]'",
        ) from error
    return solver
