r"""Samplers of this package's processes, and grids of time for them.

    `StochasticHeun`  flows and SDEs whose noise depends on time only; weak order 2
    `Denoising`       x ← E[x_s | x_t] step by step: order 1 for the probability flow (DDIM)
    `FinalDenoising`  another sampler up to t_f < 1, then x ← E[x1 | x_{t_f}] once

Flows with error control are in `genpath_interpolants.adaptive`.

**Denoising.** Given x_t, the expected point at time s of a spatially linear path is

    E[x_s | x_t] = α(s) η_0 + β(s) η_1 + γ(s) η_z,     η_Y = E[Y | x_t]

and where γ = 0, since then x = α η_0 + β η_1,

    E[x_s | x_t] = (β(s)/β(t)) x + (α(s) − α(t) β(s)/β(t)) η_0                       t > 0

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 6.3; Song, Meng & Ermon 2020,
arXiv 2010.02502.) It is Euler's method for x/β in the variable α/β. Where β(t) = 0 it is
α(s) x + β(s) E[x1], for x0 independent of x1.

**Ends.** A field that is infinite at t = 0 or 1 is not evaluated there on a grid that stops short
(`clipped`); `FinalDenoising` closes the gap to t = 1. Grids: `power`, `cosine`, `clipped`;
`genpath.grids.TimeGrid.through` puts kinks of a schedule on a grid, which keeps a method's order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator, Origin
from genpath.grids import TimeGrid
from genpath.noises import NoiseMap, add_tangents
from genpath.predictions import converted, plan
from genpath.samplers import Carry, Sampler, Solver
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean, Product, Space
from genpath.states import axpy, map_state, row_times

__all__ = [
    "Denoising",
    "FinalDenoising",
    "StochasticHeun",
    "clipped",
    "cosine",
    "denoising",
    "final_denoising",
    "power",
    "stochastic_heun",
]


# -- grids -----------------------------------------------------------------------------------------


def power(steps: int, exponent: float, start: float = 0.0, end: float = 1.0) -> TimeGrid:
    """t_j = start + (end − start)(j/N)^exponent: an exponent above 1 is finer at the start.

    Raises:
        DomainError: fewer than one step, or an exponent ≤ 0.

    Example:
        >>> power(4, 2.0).times
        (0.0, 0.0625, 0.25, 0.5625, 1.0)
    """
    if not exponent > 0:
        raise DomainError("power", "the exponent is positive.", got=f"{exponent:g}")
    return _warped(steps, lambda u: u**exponent, start, end)


def cosine(steps: int, start: float = 0.0, end: float = 1.0) -> TimeGrid:
    """t_j = start + (end − start)(1 − cos(πj/N))/2: finer at both ends.

    Raises:
        DomainError: fewer than one step.

    Example:
        >>> [round(t, 4) for t in cosine(4).times]
        [0.0, 0.1464, 0.5, 0.8536, 1.0]
    """
    return _warped(steps, lambda u: (1 - math.cos(math.pi * u)) / 2, start, end)


def clipped(steps: int, start: float = 1e-3, end: float = 1 - 1e-3) -> TimeGrid:
    """Equal steps on [t_0, t_f] inside (0, 1), for fields that are infinite at the ends.

    Raises:
        DomainError: not 0 < start < end < 1, or fewer than one step.

    Example:
        >>> clipped(2, 0.1, 0.9).times
        (0.1, 0.5, 0.9)
    """
    if not 0 < start < end < 1:
        raise DomainError("clipped", "0 < start < end < 1.", got=f"{start:g} to {end:g}")
    return TimeGrid.uniform(steps, start, end)


def _warped(steps: int, warp: Callable[[float], float], start: float, end: float) -> TimeGrid:
    if steps < 1:
        raise DomainError("TimeGrid", "there is at least one step.", got=f"{steps}")
    inner = tuple(start + (end - start) * warp(j / steps) for j in range(1, steps))
    return TimeGrid((start, *inner, end))


# -- SDEs ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StochasticHeun:
    r"""Heun's method for noise σ(t), weak order 2: ``sampler.interpolants.stochastic_heun``.

    With independent standard ξ, ζ and σ₀, σ₁ at the two ends of the step,

        x̃ = x + h b(t, x) + √(h/2) σ₀ (ξ + ζ)
        x ← x + (h/2)(b(t, x) + b(t + h, x̃)) + √(h/2)(σ₀ ξ + σ₁ ζ)

    The noise has covariance h(σ₀σ₀ᵀ + σ₁σ₁ᵀ)/2, which is ∫σσᵀ by the trapezoidal rule (exact for
    ε linear in time, where √ε is not smooth), and covariance hσσᵀ + O(h²) with the predictor's.
    (Kloeden & Platen 1992, section 15.1.) Two calls per step; a flow alone may run back in time.

    Raises:
        CapabilityError: (of `step`) a noise that depends on the state, or a curved space.

    Example:
        >>> from genpath.noises import ScalarNoise
        >>> from genpath.parts import Parts
        >>> from genpath.samplers import integrate
        >>> parts = lambda t, x: Parts(-x, ScalarNoise(2**0.5))  # keeps N(0, 1)
        >>> gen = MarkovGenerator(Euclidean(1), parts, {"velocity", "diffusion"})
        >>> start, rng = torch.zeros(20_000, 1), torch.Generator().manual_seed(0)
        >>> end = integrate(StochasticHeun(), gen, start, TimeGrid.uniform(10), rng).state
        >>> abs(float(end.var()) - (1 - math.exp(-2))) < 0.03
        True
    """

    carries: frozenset[str] = frozenset({"velocity", "diffusion"})
    order: int = 2
    calls_per_step: int = 2
    needs_origin: bool = False

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """The state alone."""
        return Carry(state)

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """One step of length ``t_next − t``."""
        _flat(gen.space)
        h, x = t_next - t, carry.state
        first = gen.evaluate(row_times(t, x), x)
        noises = self._draws(first.diffusion, gen.space, x, rng)
        guess = _moved(x, self._drift(first.velocity, first.velocity, h))
        if noises is not None:
            assert first.diffusion is not None
            guess = _moved(guess, self._noise(first.diffusion, first.diffusion, noises, h))
        last = gen.evaluate(row_times(t_next, guess), guess)
        end = _moved(x, self._drift(first.velocity, last.velocity, h))
        if noises is not None:
            assert first.diffusion is not None and last.diffusion is not None
            end = _moved(end, self._noise(first.diffusion, last.diffusion, noises, h))
        return replace(carry, state=end)

    def _draws(
        self, diffusion: NoiseMap | None, space: Space, x: Any, rng: torch.Generator
    ) -> tuple[Any, Any] | None:
        if diffusion is None:
            return None
        if not diffusion.uniform:
            raise CapabilityError(
                "StochasticHeun",
                "its noise depends on time alone; else a Stratonovich correction is missing.",
                got=f"{type(diffusion).__name__} that depends on the state",
                fix="use Euler, which takes Itô's noise as it is",
            )
        return diffusion.draw(space, x, rng), diffusion.draw(space, x, rng)

    @staticmethod
    def _drift(start: Any, end: Any, h: float) -> Any:
        """(h/2)(b₀ + b₁)."""
        total = add_tangents(start, end)
        return None if total is None else map_state(lambda leaf: 0.5 * h * leaf, total)

    @staticmethod
    def _noise(start: NoiseMap, end: NoiseMap, noises: tuple[Any, Any], h: float) -> Any:
        """√(h/2)(σ₀ ξ + σ₁ ζ)."""
        total = add_tangents(start(noises[0]), end(noises[1]))
        return map_state(lambda leaf: math.sqrt(0.5 * h) * leaf, total)


def _moved(x: Any, tangent: Any) -> Any:
    return x if tangent is None else axpy(x, tangent)


def _flat(space: Space) -> None:
    factors = space.smooth.values() if isinstance(space, Product) else [space]
    curved = [s for s in factors if not isinstance(s, Euclidean)]
    if curved:
        raise CapabilityError(
            "StochasticHeun",
            "it adds tangents of two points, which needs a flat space.",
            got=repr(curved[0]),
            fix="use Euler, which moves along geodesics",
        )


# -- denoising -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Denoising:
    r"""x ← E[x_s | x_t], step by step: the component ``sampler.interpolants.denoising``.

    First order for the probability flow, on any grid and in both directions; one call per step.
    It takes the prediction that the flow's generator came from and the path's rules; see the
    module for the formulas. Where β(t) = 0 (the start of a path without latent noise) the first
    step is, by what is known,

        α(s) x + β(s) η_1            the rules give η_1 there (from a velocity or a denoiser)
        α(s) x + β(s) E[x1]          ``data_mean`` is given, and x0 is independent of x1
        x                            else: the state is taken for x_s, an error of O(s)

    Args:
        data_mean: E[x1] in states' units, ``(*event)``, or a number.

    Raises:
        CapabilityError: (of `step`) the generator's path is not spatially linear, or its rules do
            not lead from the prediction to what the step needs.

    Example:
        >>> from genpath import ODE, integrate
        >>> from genpath_interpolants.paths import LinearPath
        >>> path = LinearPath(Euclidean(1), base="gaussian")  # all data at 3: E[x1 | x_t] = 3
        >>> gen = ODE().generator(path, "denoiser", lambda t, x: 3 + 0 * x)
        >>> start, rng = torch.zeros(1, 1), torch.Generator()
        >>> integrate(Denoising(), gen, start, TimeGrid.uniform(5), rng).state
        tensor([[3.]])
    """

    data_mean: Tensor | float | None = None
    carries: frozenset[str] = frozenset({"velocity"})
    order: int = 1
    calls_per_step: int = 1
    needs_origin: bool = True

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """The state alone."""
        return Carry(state)

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """E[x_s | x_t = x], s = ``t_next``."""
        origin, x = gen.origin, carry.state
        assert origin is not None
        here, there = _scalars(origin, t), _scalars(origin, t_next)
        if getattr(origin.path, "latent", True):
            return replace(carry, state=self._general(origin, t, x, there))
        return replace(carry, state=self._straight(origin, t, x, here, there))

    def _general(
        self,
        origin: Origin,
        t: float,
        x: Tensor,
        there: tuple[float, float, float],
    ) -> Tensor:
        """α(s) η_0 + β(s) η_1 + γ(s) η_z, without η_0 on a mirror path (α = 0)."""
        names = ("base_denoiser", "denoiser", "noise")
        mirror = getattr(origin.path, "mirror", False)
        pairs = [(n, w) for n, w in zip(names, there, strict=True) if n != names[0] or not mirror]
        rules = [plan(origin.path.rules, [origin.prediction], name) for name, _ in pairs]
        times = row_times(t, x)
        values = {origin.prediction: origin.field(times, x)}
        total = torch.zeros_like(x)
        for (name, weight), chain in zip(pairs, rules, strict=True):
            for rule in chain:
                if rule.gives not in values:
                    given = (values[need] for need in rule.needs)
                    values[rule.gives] = rule.formula(times, x, *given)
            total = total + weight * values[name]
        return total

    def _straight(
        self,
        origin: Origin,
        t: float,
        x: Tensor,
        here: tuple[float, float, float],
        there: tuple[float, float, float],
    ) -> Tensor:
        """γ = 0: one of η_0 and η_1 says all, by whichever of β(t) and α(t) is not 0."""
        (alpha, beta, _), (alpha_next, beta_next, _) = here, there
        times = row_times(t, x)
        if abs(beta) < ZERO and not _regular(origin, "denoiser", t):
            if self.data_mean is None:
                return x
            mean = torch.as_tensor(self.data_mean, dtype=x.dtype, device=x.device)
            return alpha_next / alpha * x + beta_next * mean
        if abs(beta) < ZERO or (origin.prediction == "denoiser" and abs(alpha) >= ZERO):
            ratio, name = alpha_next / alpha, "denoiser"
            slope = beta_next - beta * ratio
        else:
            ratio, name = beta_next / beta, "base_denoiser"
            slope = alpha_next - alpha * ratio
        found: Tensor = ratio * x + slope * _converted(origin, name, times, x)
        return found


ZERO = 1e-12
"""Below this α(t) or β(t) counts as 0, as cos(π/2) does."""


def _scalars(origin: Origin, t: float) -> tuple[float, float, float]:
    """α, β and γ at one time, as numbers: found on the CPU, without a synchronisation."""
    schedule = getattr(origin.path, "schedule", None)
    if not isinstance(schedule, AffineSchedule):
        raise CapabilityError(
            "Denoising",
            "E[x_s | x_t] is known for spatially linear paths, x_t = α x0 + β x1 + γ z.",
            got=type(origin.path).__name__,
            fix="use heun or another sampler of flows",
        )
    time = torch.tensor(t, dtype=torch.float64)
    return float(schedule.alpha(time)), float(schedule.beta(time)), float(schedule.gamma(time))


def _converted(origin: Origin, want: str, times: Tensor, x: Any) -> Any:
    return converted(origin.path.rules, origin.prediction, origin.field, want)(times, x)


def _regular(origin: Origin, want: str, t: float) -> bool:
    """Whether the rules from the prediction to ``want`` are finite at t."""
    rules = plan(origin.path.rules, [origin.prediction], want)
    return all(t not in getattr(rule, "singular", ()) for rule in rules)


@dataclass(frozen=True)
class FinalDenoising:
    """Another sampler, whose step that ends at t = 1 is one of denoising: x ← E[x1 | x_{t_f}].

    The component ``sampler.interpolants.final_denoising``. A grid that ends with t_f, 1 never
    evaluates a field at t = 1, and loses only the data's spread given x_{t_f} (Albergo, Boffi &
    Vanden-Eijnden 2023, arXiv 2303.08797, section 7).

    Args:
        sampler: makes all other steps.

    Raises:
        CapabilityError: (of `step`) the path's rules do not lead to the denoiser.

    Example:
        >>> from genpath import ODE, RungeKutta, integrate
        >>> from genpath_interpolants.paths import LinearPath
        >>> gen = ODE().generator(LinearPath(Euclidean(1)), "denoiser", lambda t, x: 3 + 0 * x)
        >>> sampler, grid = FinalDenoising(RungeKutta()), TimeGrid((0.0, 0.5, 0.9, 1.0))
        >>> integrate(sampler, gen, torch.zeros(1, 1), grid, torch.Generator()).state
        tensor([[3.]])
    """

    sampler: Sampler

    @property
    def carries(self) -> frozenset[str]:
        """Velocity and diffusion, as far as the inner sampler carries them."""
        return self.sampler.carries & {"velocity", "diffusion"}

    @property
    def order(self) -> int:
        """The inner sampler's, up to t_f."""
        return self.sampler.order

    @property
    def calls_per_step(self) -> int:
        """The inner sampler's; the last step takes one."""
        return self.sampler.calls_per_step

    @property
    def needs_origin(self) -> bool:
        """It must know the prediction."""
        return True

    def init(self, gen: MarkovGenerator, state: Any) -> Carry:
        """The inner sampler's."""
        return self.sampler.init(gen, state)

    def step(
        self, gen: MarkovGenerator, carry: Carry, t: float, t_next: float, rng: torch.Generator
    ) -> Carry:
        """The inner sampler's step, or E[x1 | x_t] where it would end at t = 1."""
        if t_next < 1:
            return self.sampler.step(gen, carry, t, t_next, rng)
        origin, x = gen.origin, carry.state
        assert origin is not None
        return replace(carry, state=_converted(origin, "denoiser", row_times(t, x), x))


# -- what a config builds --------------------------------------------------------------------------


def stochastic_heun(steps: int, start: float, end: float, exponent: float) -> Solver:
    """``sampler.interpolants.stochastic_heun``: see `StochasticHeun`.

    Example:
        >>> stochastic_heun(4, 0.0, 1.0, 1.0).calls
        8
    """
    return Solver(StochasticHeun(), power(steps, exponent, start, end))


def denoising(steps: int, start: float, end: float, exponent: float) -> Solver:
    """``sampler.interpolants.denoising``: see `Denoising`.

    Example:
        >>> denoising(4, 0.0, 1.0, 2.0).grid.times
        (0.0, 0.0625, 0.25, 0.5625, 1.0)
    """
    return Solver(Denoising(), power(steps, exponent, start, end))


def final_denoising(solver: Solver) -> Solver:
    """``sampler.interpolants.final_denoising``: see `FinalDenoising`.

    Raises:
        DomainError: the inner solver does not end before t = 1.

    Example:
        >>> from genpath.components import heun
        >>> final_denoising(heun(2, 0.0, 0.9)).grid.times
        (0.0, 0.45, 0.9, 1.0)
    """
    last = solver.grid.times[-1]
    if not solver.grid.increasing or last >= 1:
        raise DomainError(
            "interpolants.final_denoising",
            "the inner solver ends at t_f < 1, from where x1 is predicted.",
            got=f"a grid that ends at {last:g}",
            fix="set its end, as in solver: {name: heun, steps: 50, end: 0.99}",
        )
    return Solver(FinalDenoising(solver.sampler), TimeGrid((*solver.grid.times, 1.0)))
