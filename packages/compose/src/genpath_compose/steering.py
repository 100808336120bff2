r"""Steering: a law path p_t pulled towards high reward, p_t e^{ψ_t}/Z_t, with ψ_1 = λ r at the end.

ψ is a *value*: how good the end will be, seen from (t, x). Any ψ with ψ(1, x) = λ r(x) ends in the
law p_1 e^{λ r}/Z; a good one has even weights. For a base chain X_n, and log w = ψ(0, X_0) at the
start,

    FK steering      X_{n+1} as the base moves       log w += ψ(t_{n+1}, X_{n+1}) − ψ(t_n, X_n)
    twisted          ξ ← ξ + √h θ σᵀ∇ψ               … − √h θ σᵀ∇ψ·ξ − ½h θ² |σᵀ∇ψ|²

The sum telescopes: E[w f(X_N)] is the mean of e^{ψ(1, X_N)} f(X_N) under the base chain, at every
step size and whatever ψ is before the end. The second moves the noise ξ of each step up the value
and pays the ratio of two normal densities, so it changes no law either; its limit h → 0 has a
generator, `genpath_compose.twisting`. (Wu et al. 2023, arXiv 2306.17775; Singhal et al. 2025,
arXiv 2501.06848, with the potential e^{difference}.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator
from genpath.noises import add_tangents
from genpath.parts import Parts
from genpath.samplers import Carry, Euler, Sampler
from genpath.schedules import Scalar
from genpath.spaces import as_smooth
from genpath.states import (
    batch_size,
    device_of,
    dtype_of,
    flat_event,
    map_state,
    per_row,
    row_times,
)

from .exponents import Exponent, exponent

__all__ = ["Immediate", "Lookahead", "Steered", "Twisted", "Value", "weighable"]

STATE, VALUE = "steering.state", "steering.value"

Scale = float | Exponent | Scalar | Callable[[Tensor], Tensor]


Value = Callable[[Tensor, Any], Tensor]
"""ψ: times ``(batch,)`` and a state → ``(batch,)``; at the end of time, λ r."""


def _point(state: Any) -> Tensor:
    return cast(Tensor, state["x"] if isinstance(state, Mapping) else state)


@dataclass(frozen=True)
class Immediate:
    """ψ(t, x) = λ(t) r(x): the reward of the present point.

    Args:
        reward: r, points ``(batch, *event)`` → ``(batch,)``; of a dict state, the leaf "x".
        scale: λ, a number or a function of times.

    Example:
        >>> value = Immediate(lambda x: x[:, 0], lambda t: t)
        >>> value(torch.tensor([0.5]), torch.tensor([[4.0]]))
        tensor([2.])
    """

    reward: Callable[[Tensor], Tensor]
    scale: Scale = 1.0

    def __call__(self, t: Tensor, state: Any) -> Tensor:
        return exponent(self.scale)(t) * self.reward(_point(state))


@dataclass(frozen=True)
class Lookahead:
    """ψ(t, x) = λ(t) r(E[x1 | x_t = x]): the reward of the predicted end (x1-prediction).

    From ``end`` on the point itself is rewarded, so that ψ(1, x) = λ(1) r(x) however good the
    denoiser is. (Wu et al. 2023, arXiv 2306.17775; Singhal et al. 2025, arXiv 2501.06848.)

    Args:
        reward: r, points ``(batch, *event)`` → ``(batch,)``.
        denoiser: ``(t, state) -> (batch, *event)``, E[x1 | x_t]; finite at ``end`` too.
        scale: λ, a number or a function of times.
        end: the time at which the solve ends.

    Example:
        >>> value = Lookahead(lambda x: x[:, 0], lambda t, x: x / t[:, None])
        >>> value(torch.tensor([0.5, 1.0]), torch.ones(2, 1))
        tensor([2., 1.])
    """

    reward: Callable[[Tensor], Tensor]
    denoiser: Callable[[Tensor, Any], Tensor]
    scale: Scale = 1.0
    end: float = 1.0

    def __call__(self, t: Tensor, state: Any) -> Tensor:
        here, ahead = _point(state), self.denoiser(t, state)
        done = (t >= self.end).reshape(t.shape + (1,) * (here.dim() - 1))
        return exponent(self.scale)(t) * self.reward(torch.where(done, here, ahead))


# -- samplers ----------------------------------------------------------------------------------


def _weighted(carry: Carry) -> Carry:
    """The carry with log-weights, 0 where the generator has no potential."""
    if carry.log_weight is not None:
        return carry
    state = carry.state
    zeros = torch.zeros(batch_size(state), dtype=dtype_of(state), device=device_of(state))
    return replace(carry, log_weight=zeros)


def _before(value: Value, carry: Carry, t: float) -> Tensor | float:
    """ψ at the start of a step: what is in the weight already, 0 before the first step.

    The last value is used again where the state is still the one it was found for: a transform
    that resampled has put another in its place.
    """
    if STATE not in carry.memory:
        return 0.0
    if carry.memory[STATE] is carry.state:
        found: Tensor = carry.memory[VALUE]
        return found
    return value(row_times(t, carry.state), carry.state)


def _gained(carry: Carry, now: Tensor, gain: Tensor) -> Carry:
    assert carry.log_weight is not None
    memory = {**carry.memory, STATE: carry.state, VALUE: now}
    return replace(carry, log_weight=carry.log_weight + gain, memory=memory)


@dataclass(frozen=True)
class Steered:
    """FK steering: any sampler, with weights that grow by differences of the value.

    Needs no derivative, neither of ψ nor of the model, and works on every space. The weight of the
    start, ψ(t_0, X_0), enters with the first step, so the target is p_t e^{ψ_t} from any t_0 on. A
    potential of the generator is weighed too.

    Args:
        value: ψ.
        base: the sampler whose chain is steered.

    Example:
        >>> from genpath import Euclidean, flow, integrate
        >>> gen, x = flow(Euclidean(1), lambda t, x: 0 * x), torch.tensor([[2.0]])
        >>> steered = Steered(Immediate(lambda x: x[:, 0], lambda t: t))
        >>> integrate(steered, gen, x, [0.0, 0.3, 1.0], torch.Generator()).log_weight  # r(x)
        tensor([2.])
    """

    value: Value
    base: Sampler = field(default_factory=Euler)

    @property
    def carries(self) -> frozenset[str]:
        """What the base carries."""
        return self.base.carries

    @property
    def order(self) -> int:
        """The base's order; the weights have no error of their own."""
        return self.base.order

    @property
    def calls_per_step(self) -> int:
        """The base's; the value is evaluated once more per step, twice after a resampling."""
        return self.base.calls_per_step

    @property
    def needs_origin(self) -> bool:
        """Whether the base needs it."""
        return self.base.needs_origin

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """The base's carry, with log-weights."""
        return _weighted(self.base.init(gen, state))

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """One step of the base, and ψ after it minus ψ before it."""
        before = _before(self.value, carry, t)
        moved = self.base.step(gen, carry, t, t_next, rng)
        now = self.value(row_times(t_next, moved.state), moved.state)
        return _gained(moved, now, now - before)


@dataclass(frozen=True)
class Twisted:
    """Euler steps whose noise is moved up the value, with their exact weights.

    The noise ξ of a step becomes ξ + √h θ σᵀ∇ψ, drift u + θ σσᵀ∇ψ, and the weight gains the log of
    the ratio of the two densities of the noise. Any noise map will do, also one that moves tracked
    log-densities, on any smooth space. θ = 0 is FK steering.

    Args:
        value: ψ, differentiable in the moving leaves.
        strength: θ, a number or a function of times; 1 is the whole twist.

    Raises:
        CapabilityError: the generator has no diffusion (when the solve starts).

    Example:
        >>> from genpath import Euclidean, integrate
        >>> from genpath.noises import ScalarNoise
        >>> def parts(t, x):
        ...     return Parts(diffusion=ScalarNoise(1.0))
        >>> brownian = MarkovGenerator(Euclidean(1), parts, {"diffusion"})
        >>> pull = Twisted(Immediate(lambda x: 3 * x[:, 0]))  # E e^{3 W_1} = e^{9/2}, exact value
        >>> x, rng = torch.zeros(4, 1), torch.Generator().manual_seed(0)
        >>> integrate(pull, brownian, x, [0.0, 0.5, 1.0], rng).log_weight
        tensor([4.5000, 4.5000, 4.5000, 4.5000])
    """

    value: Value
    strength: Scale = 1.0
    carries: frozenset[str] = frozenset({"velocity", "diffusion", "potential"})
    order: int = 1
    calls_per_step: int = 1
    needs_origin: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.strength, (int, float)) and not math.isfinite(self.strength):
            raise DomainError("Twisted", "a strength is finite.", got=repr(self.strength))

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """The state with log-weights 0."""
        if "diffusion" not in gen.has:
            raise CapabilityError(
                "Twisted",
                "a twist moves the noise of a step.",
                got="a generator without diffusion",
                fix="give the dynamics noise, or use Steered; jumps have `twisted`",
            )
        return _weighted(Carry(state))

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """One Euler step with moved noise."""
        state, h = carry.state, t_next - t
        times, smooth = row_times(t, carry.state), as_smooth(gen.space, "Twisted")
        parts = gen.evaluate(times, state)
        assert parts.diffusion is not None
        noise = parts.diffusion.draw(gen.space, state, rng)
        moved, pull = cast(tuple[Any, Any], torch.func.vjp(parts.diffusion, noise))
        here, slope = self._slope(times, state, moved)
        before = 0.0 if STATE not in carry.memory else here
        size = math.sqrt(h) * exponent(self.strength)(times)
        (pulled,) = pull(smooth.project_tangent(state, slope))
        shift = _leafwise(lambda leaf: per_row(size, leaf) * leaf, pulled)
        kick = add_tangents(moved, parts.diffusion(shift))
        tangent = map_state(lambda leaf: math.sqrt(h) * leaf, kick)
        if parts.velocity is not None:
            tangent = add_tangents(tangent, map_state(lambda leaf: h * leaf, parts.velocity))
        reached = smooth.step(state, tangent)
        now = self.value(row_times(t_next, reached), reached)
        gain = now - before + self._ratio(shift, noise)
        if parts.potential is not None:
            gain = gain + h * parts.potential
        return _gained(replace(carry, state=reached), now, gain)

    def _slope(self, t: Tensor, state: Any, tangent: Any) -> tuple[Tensor, Any]:
        """ψ, and its gradient in the leaves that the noise moves."""
        part = state if isinstance(state, Tensor) else {n: state[n] for n in tangent}

        def total(moving: Any) -> tuple[Tensor, Tensor]:
            whole = moving if isinstance(state, Tensor) else {**state, **moving}
            found = self.value(t, whole)
            return found.sum(), found

        slope, here = torch.func.grad(total, has_aux=True)(part)
        return here, slope

    def _ratio(self, shift: Any, noise: Any) -> Tensor:
        """log N(ξ + s; 0, I) − log N(ξ + s; s, I) = −s·ξ − ½|s|²."""
        return -_inner(shift, noise) - 0.5 * _inner(shift, shift)


def _leafwise(function: Callable[[Tensor], Tensor], noise: Any) -> Any:
    """A function on the leaves of a noise: a tensor, a dict, or a tuple of them."""
    if isinstance(noise, tuple):
        return tuple(_leafwise(function, part) for part in noise)
    return map_state(function, noise)


def _inner(a: Any, b: Any) -> Tensor:
    """The sum of products over all leaves and axes: ``(batch,)``."""
    if isinstance(a, Tensor):
        return flat_event(a * b).sum(1)
    pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a[n], b[n]) for n in a]
    return torch.stack([_inner(first, second) for first, second in pairs]).sum(0)


def weighable(gen: MarkovGenerator) -> MarkovGenerator:
    """The generator with a potential, 0 where it had none: what `run_particles` asks for.

    Example:
        >>> from genpath import Euclidean, flow
        >>> gen = weighable(flow(Euclidean(1), lambda t, x: -x))
        >>> gen(0.0, torch.ones(2, 1)).potential
        tensor([0., 0.])
    """
    if "potential" in gen.has:
        return gen

    def evaluate(t: Tensor, state: Any) -> Parts:
        return replace(gen.evaluate(t, state), potential=torch.zeros_like(t))

    return replace(gen, evaluate=evaluate, has=gen.has | {"potential"})
