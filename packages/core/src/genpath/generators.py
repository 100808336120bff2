r"""Markov generators: the infinitesimal law of motion.

    L_t f(x) = u·∇f + ½ tr(σσᵀ Hess f) + ∫ (f(y) − f(x)) Q_t(dy; x) + g f

A `MarkovGenerator` is a space, a function ``(t, state) → Parts`` and the names of the parts that
the function returns. It is called once per step. Generators are linear: sums, multiples and, over
components, products are generators of the summed, sped-up and joint processes (Holderrieth et al.
2024, arXiv 2410.20587; Markov superposition: weights may depend on time, never on the state).

What follows from the definition is derived here: `MarkovGenerator.apply` evaluates L_t f,
`MarkovGenerator.adjoint` evaluates (L_t* p)/p, so that ∂_t log p = (L_t* p)/p tests any exact
density, and `d/dt E[w f] = E[w (Lf + g f)]` of any weighted law. ``apply`` and ``adjoint`` are
diagnostics: they evaluate directions along a basis, and all targets of a jump.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .divergences import exact_divergence, pushforward
from .errors import CapabilityError, DomainError
from .jumps import ClockedJumps, Jumps, ScaledJumps, SumJumps, atoms
from .noises import FactorNoise, SumNoise, add_tangents
from .parts import Parts
from .schedules import Scalar
from .spaces import Euclidean, FiniteSpace, Product, Space, as_smooth
from .states import Field, batch_size, flat_event, map_state, per_row, repeat, row_times

__all__ = ["MarkovGenerator", "Origin", "breakpoints", "coupled", "flow", "lifted", "product"]

TestFunction = Callable[[Any], Tensor]
Weight = float | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Origin:
    """Where a generator came from, for samplers that need the denoiser or the linear part.

    Args:
        path: the probability path.
        prediction: the name of what ``field`` predicts.
        field: the prediction ``(t, state)``, with t ``(batch,)`` and state ``(batch, *event)``.

    Example:
        >>> def velocity(t, x):
        ...     return -x
        >>> decay = flow(Euclidean(1), velocity, Origin(None, "velocity", velocity))
        >>> decay.origin.prediction, (2.0 * decay).origin  # a multiple is not of that path
        ('velocity', None)
    """

    path: Any
    prediction: str
    field: Field


def breakpoints(gen: MarkovGenerator) -> tuple[float, ...]:
    """The times at which the schedule of a generator's path has a kink, if it names any.

    Example:
        >>> from types import SimpleNamespace
        >>> field, path = (lambda t, x: -x), SimpleNamespace(breakpoints=(0.5,))
        >>> breakpoints(flow(Euclidean(1), field, Origin(path, "velocity", field)))
        (0.5,)
    """
    return () if gen.origin is None else tuple(getattr(gen.origin.path, "breakpoints", ()))


@dataclass(frozen=True)
class MarkovGenerator:
    """L_t on a space, as one function that returns all parts.

    Args:
        space: where the states live.
        evaluate: ``(t, state) -> Parts``, t of shape ``(batch,)``; one network call.
        has: the names of the parts that ``evaluate`` returns, among velocity, diffusion, jumps,
            potential.
        origin: the path and prediction that it was made from, if any.

    Raises:
        DomainError: an unknown part is declared.

    Example:
        >>> space = Euclidean(1)
        >>> decay = flow(space, lambda t, x: -x)
        >>> decay.apply(lambda x: x[:, 0] ** 2, 0.0, torch.tensor([[3.0]]))
        tensor([-18.])
    """

    space: Space
    evaluate: Callable[[Tensor, Any], Parts]
    has: frozenset[str]
    origin: Origin | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "has", frozenset(self.has))
        unknown = self.has - {"velocity", "diffusion", "jumps", "potential"}
        if unknown:
            raise DomainError(
                "MarkovGenerator",
                "the parts of a generator are velocity, diffusion, jumps and potential.",
                got=", ".join(sorted(unknown)),
            )

    def __call__(self, t: Tensor | float, state: Any) -> Parts:
        """The parts at time ``t`` (a scalar or ``(batch,)``) and ``state``.

        Raises:
            CapabilityError: the function returned other parts than declared.
        """
        parts = self.evaluate(row_times(t, state, "MarkovGenerator"), state)
        if parts.present() != self.has:
            raise CapabilityError(
                "MarkovGenerator",
                "a generator returns the parts that it declares.",
                got=f"declared {sorted(self.has)}, returned {sorted(parts.present())}",
                fix="declare them in `has`, or return zeros",
            )
        return parts

    # -- the generator and its adjoint, derived ---------------------------------------------

    def apply(self, f: TestFunction, t: Tensor | float, state: Any) -> Tensor:
        """L_t f at each row: ``(batch,)``.

        Args:
            f: a test function from states ``(n, …)`` to ``(n,)``, row by row, twice
                differentiable where the generator has a diffusion.
            t: a scalar or ``(batch,)``.
            state: the points.

        Raises:
            CapabilityError: a jump part cannot list its targets.
        """
        parts = self(t, state)
        result = torch.zeros_like(f(state))
        if parts.velocity is not None:
            result = result + along(f, self.space, state, parts.velocity)[1]
        if parts.diffusion is not None:
            for columns in parts.diffusion.columns(self.space, state):
                result = result + 0.5 * second_derivatives(f, self.space, state, columns).sum(0)
        for states, rates in _listed(parts.jumps, state):
            values = f(_flatten(states)).reshape(rates.shape)
            result = result + (rates * (values - f(state))).sum(0)
        if parts.potential is not None:
            result = result + parts.potential * f(state)
        return result

    def adjoint(self, log_density: TestFunction, t: Tensor | float, state: Any) -> Tensor:
        r"""(L_t* p)/p at each row, for a density p given by its logarithm: ``(batch,)``.

        velocity −div u − u·∇log p; diffusion ½ Σ ∂ᵢ∂ⱼ(aᵢⱼ p)/p, which is ½σ²(Δ log p + |∇log p|²)
        for a uniform scalar σ; jumps Σ_y p(y)Q(y→x)/p(x) − λ(x); potential g.

        Raises:
            CapabilityError: a diffusion that depends on the state on a curved space, or jumps on
                a space that is not finite.
        """
        times = row_times(t, state, "MarkovGenerator.adjoint")
        parts = self(times, state)
        result = torch.zeros_like(log_density(state))
        if parts.velocity is not None:
            value, divergence = exact_divergence(self.space, self._velocity, times, state)
            result = result - divergence - along(log_density, self.space, state, value)[1]
        if parts.diffusion is not None:
            result = result + self._adjoint_diffusion(parts, log_density, times, state)
        if parts.jumps is not None:
            result = result + self._adjoint_jumps(parts, log_density, times, state)
        if parts.potential is not None:
            result = result + parts.potential
        return result

    def _velocity(self, t: Tensor, state: Any) -> Any:
        return self.evaluate(t, state).velocity

    def _adjoint_diffusion(self, parts: Parts, log_p: TestFunction, t: Tensor, x: Any) -> Tensor:
        assert parts.diffusion is not None
        if not parts.diffusion.uniform:
            return self._adjoint_matrix(log_p, t, x)
        total = torch.zeros_like(log_p(x))
        for columns in parts.diffusion.columns(self.space, x):
            first, second = derivatives(log_p, self.space, x, columns)
            total = total + 0.5 * (second + first**2).sum(0)
        return total

    def _adjoint_matrix(self, log_p: TestFunction, t: Tensor, x: Tensor) -> Tensor:
        """½ Σ ∂ᵢ∂ⱼ(aᵢⱼ p)/p on R^d by nested differentiation along pairs of axes."""
        if not isinstance(self.space, Euclidean):
            raise CapabilityError(
                "MarkovGenerator.adjoint",
                "a noise map that depends on the state is handled on a flat space.",
                got=repr(self.space),
            )
        basis = self.space.tangent_basis(x)
        d, rows = basis.shape[0], x.shape[0]
        p0, shape = log_p(x).repeat(d * d), (d * d, rows)
        left = basis.repeat_interleave(d, 0).flatten(0, 1)
        right = basis.repeat(d, *([1] * (basis.dim() - 1))).flatten(0, 1)
        points, times = repeat(x, d * d), t.repeat(d * d)

        def weighted(h: Tensor, k: Tensor) -> Tensor:
            y = points + h * left + k * right
            diffusion = self.evaluate(times, y).diffusion
            assert diffusion is not None
            a = torch.zeros_like(p0)
            for columns in diffusion.columns(self.space, y):
                a = a + (
                    flat_event(columns * left, 2).sum(2) * flat_event(columns * right, 2).sum(2)
                ).sum(0)
            return a * torch.exp(log_p(y) - p0)

        zero, one = x.new_zeros(()), x.new_ones(())

        def inner(h: Tensor) -> Tensor:
            result: Tensor = pushforward(lambda k: weighted(h, k), zero, one)[1]
            return result

        mixed: Tensor = pushforward(inner, zero, one)[1]
        return 0.5 * mixed.reshape(shape).sum(0)

    def _adjoint_jumps(self, parts: Parts, log_p: TestFunction, t: Tensor, x: Any) -> Tensor:
        states, inflow = inflows(self, t, x)
        ratio = torch.exp(log_p(_flatten(states)).reshape(inflow.shape) - log_p(x))
        outflow = sum(rates.sum(0) for _, rates in _listed(parts.jumps, x))
        return (inflow * ratio).sum(0) - outflow

    # -- linear algebra ----------------------------------------------------------------------

    def __add__(self, other: MarkovGenerator) -> MarkovGenerator:
        """The superposition: velocities, noises, jump rates and potentials add."""
        if not isinstance(other, MarkovGenerator):
            return NotImplemented
        if repr(self.space) != repr(other.space):
            raise DomainError(
                "MarkovGenerator.__add__",
                "summands live on the same space.",
                got=f"{self.space!r} and {other.space!r}",
                fix="use `product` to join generators of different factors",
            )

        def evaluate(t: Tensor, state: Any) -> Parts:
            return _add_parts(self.evaluate(t, state), other.evaluate(t, state))

        return MarkovGenerator(self.space, evaluate, self.has | other.has)

    def __mul__(self, weight: Weight) -> MarkovGenerator:
        """``weight · L``: a number, or a function of time alone.

        Raises:
            CapabilityError: the weight is a tensor with one value per state (superposition with
                weights that depend on x does not keep the marginals).
            DomainError: a negative weight on diffusion or jumps.
        """
        if isinstance(weight, Tensor) and weight.dim():
            raise CapabilityError(
                "MarkovGenerator.__mul__",
                "a weight is a number or a function of time; weights that depend on x do not "
                "keep the marginals.",
                got=f"a tensor of shape {tuple(weight.shape)}",
                fix="pass a float, or a callable of t",
            )
        if not callable(weight):
            if float(weight) < 0 and self.has & {"diffusion", "jumps"}:
                raise DomainError(
                    "MarkovGenerator.__mul__",
                    "diffusion and jumps take non-negative weights.",
                    got=f"weight {float(weight):g}",
                )
            return replace(
                self, evaluate=lambda t, s: _scale_parts(self.evaluate(t, s), weight), origin=None
            )
        function = weight
        return replace(
            self, evaluate=lambda t, s: _scale_parts(self.evaluate(t, s), function(t)), origin=None
        )

    __rmul__ = __mul__

    def time_change(self, clock: Scalar) -> MarkovGenerator:
        """L run by a clock τ(s): τ̇(s) · L_{τ(s)}, for an increasing τ."""

        def evaluate(s: Tensor, state: Any) -> Parts:
            rate = clock.rate(s)
            parts = self.evaluate(clock(s), state)
            jumps = _map_jumps(lambda j: ClockedJumps(j, clock, rate), parts.jumps)
            return replace(_scale_parts(replace(parts, jumps=None), rate), jumps=jumps)

        return MarkovGenerator(self.space, evaluate, self.has)


def flow(space: Space, velocity: Field, origin: Origin | None = None) -> MarkovGenerator:
    """The generator u·∇ of the ODE ẋ = u(t, x).

    Example:
        >>> sorted(flow(Euclidean(2), lambda t, x: x).has)
        ['velocity']
    """
    where = as_smooth(space, "flow")
    return MarkovGenerator(
        where, lambda t, x: Parts(velocity=velocity(t, x)), frozenset({"velocity"}), origin
    )


def product(factors: Mapping[str, MarkovGenerator]) -> MarkovGenerator:
    """Independent factors: each generator sees and moves its own leaf.

    States are dicts of leaves ``(batch, *event)``.

    Example:
        >>> decay, drift = (flow(Euclidean(), f) for f in (lambda t, x: -x, lambda t, x: x + 1))
        >>> joint = product({"x": decay, "y": drift})
        >>> joint(0.0, {"x": torch.tensor([2.0]), "y": torch.tensor([3.0])}).velocity
        {'x': tensor([-2.]), 'y': tensor([4.])}
    """
    return coupled({name: lifted(name, gen) for name, gen in factors.items()})


def lifted(name: str, gen: MarkovGenerator) -> MarkovGenerator:
    """A factor's generator that is given the whole state and looks at its own leaf.

    Its parts are those of the leaf ``name``, of shape ``(batch, *event)``; see `coupled`.

    Example:
        >>> decay = lifted("x", flow(Euclidean(), lambda t, x: -x))
        >>> decay(0.0, {"x": torch.tensor([2.0]), "y": torch.tensor([3.0])}).velocity
        tensor([-2.])
    """
    return replace(gen, evaluate=lambda t, state: gen.evaluate(t, state[name]))


def coupled(factors: Mapping[str, MarkovGenerator]) -> MarkovGenerator:
    """Σᵢ Lⁱ on a product: each generator sees the whole state and moves its own leaf.

    This is all that a factorised conditional path needs (no simultaneous jumps). Bring clocks in
    with `MarkovGenerator.time_change` on the factors.

    Args:
        factors: leaf → generator on that factor's space, whose ``evaluate`` takes ``(t, state)``
            with the whole dict and returns the parts of its leaf, ``(batch, *event)``.

    Example:
        >>> x, v = (flow(Euclidean(), f) for f in (lambda t, s: s["v"], lambda t, s: -s["x"]))
        >>> spring = coupled({"x": x, "v": v})
        >>> spring(0.0, {"x": torch.tensor([2.0]), "v": torch.tensor([3.0])}).velocity
        {'x': tensor([3.]), 'v': tensor([-2.])}
    """
    space = Product({name: gen.space for name, gen in factors.items()})
    has = frozenset().union(*(gen.has for gen in factors.values()))

    def evaluate(t: Tensor, state: Mapping[str, Tensor]) -> Parts:
        each = {name: gen.evaluate(t, state) for name, gen in factors.items()}
        velocity = {n: p.velocity for n, p in each.items() if p.velocity is not None}
        noise = {n: p.diffusion for n, p in each.items() if p.diffusion is not None}
        jumps: dict[str, Any] = {n: p.jumps for n, p in each.items() if p.jumps is not None}
        potentials = [p.potential for p in each.values() if p.potential is not None]
        return Parts(
            velocity or None,
            FactorNoise(noise) if noise else None,
            jumps or None,
            torch.stack(potentials).sum(0) if potentials else None,
        )

    return MarkovGenerator(space, evaluate, has)


# -- derivatives along tangents --------------------------------------------------------------


def along(f: TestFunction, space: Space, x: Any, v: Any) -> tuple[Tensor, Tensor]:
    """f and d/dh f(step(x, h v)) at h = 0, each ``(batch,)``."""
    smooth, reference = as_smooth(space, "derivative"), f(x)
    zero, one = reference.new_zeros(()), reference.new_ones(())

    def moved(h: Tensor) -> Tensor:
        return f(smooth.step(x, map_state(lambda leaf: h * leaf, v)))

    return pushforward(moved, zero, one)


def derivatives(f: TestFunction, space: Space, x: Any, columns: Any) -> tuple[Tensor, Tensor]:
    """First and second derivatives of f along a stack of tangents: ``(count, batch)`` each."""
    rows = batch_size(x)
    first = columns if isinstance(columns, Tensor) else next(iter(columns.values()))
    count = first.shape[0]
    points, flat = repeat(x, count), _flatten(columns)
    smooth = as_smooth(space, "derivative")
    zero, one = first.new_zeros(()), first.new_ones(())

    def moved(h: Tensor) -> Tensor:
        return f(smooth.step(points, map_state(lambda leaf: h * leaf, flat)))

    def slope(h: Tensor) -> Tensor:
        result: Tensor = pushforward(moved, h, one)[1]
        return result

    value, second = pushforward(slope, zero, one)
    return value.reshape(count, rows), second.reshape(count, rows)


def second_derivatives(f: TestFunction, space: Space, x: Any, columns: Any) -> Tensor:
    """d²/dh² f(step(x, h v)) at 0 along a stack of tangents: ``(count, batch)``."""
    return derivatives(f, space, x, columns)[1]


# -- jumps, listed ---------------------------------------------------------------------------


def inflows(gen: MarkovGenerator, t: Tensor, x: Any) -> tuple[Any, Tensor]:
    """The neighbours y of ``x`` ``(count, batch, …)`` and their rates Q(y → x) ``(count, batch)``.

    Raises:
        CapabilityError: the space cannot list neighbours.
    """
    if not isinstance(gen.space, FiniteSpace):
        raise CapabilityError(
            "jumps",
            "the rate into a state needs a space that lists neighbours.",
            got=repr(gen.space),
            fix="use a finite alphabet, or a closed form",
        )
    states = gen.space.neighbours(x)
    flat = _flatten(states)
    count = batch_size(flat) // max(batch_size(x), 1)
    parts = gen.evaluate(t.repeat(count), flat)
    here, total = repeat(x, count), torch.zeros(batch_size(flat), dtype=t.dtype, device=t.device)
    for found, rates in _listed(parts.jumps, flat):
        arrives = torch.ones_like(rates, dtype=torch.bool)
        for leaf, target in _pairs(here, found):
            arrives &= (target == leaf).flatten(2).all(2) if leaf.dim() > 1 else target == leaf
        total = total + (rates * arrives).sum(0)
    return states, total.reshape(count, -1)


def _pairs(state: Any, other: Any) -> list[tuple[Tensor, Tensor]]:
    if isinstance(state, Tensor):
        return [(state, other)]
    return [(leaf, other[name]) for name, leaf in state.items()]


def _flatten(stack: Any) -> Any:
    return map_state(lambda leaf: leaf.flatten(0, 1), stack)


def _listed(jumps: Any, state: Any) -> list[tuple[Any, Tensor]]:
    """Targets as whole states, with rates, for a jump part or a dict of them."""
    if jumps is None:
        return []
    if isinstance(jumps, Mapping):
        result = []
        for name, part in jumps.items():
            found, rates = atoms(part, state[name])
            whole = {n: leaf.expand(rates.shape[0], *leaf.shape) for n, leaf in state.items()}
            result.append(({**whole, name: found}, rates))
        return result
    found, rates = atoms(jumps, state)
    if isinstance(state, Mapping):
        rest = {n: v.expand(rates.shape[0], *v.shape) for n, v in state.items() if n not in found}
        found = {n: found[n] if n in found else rest[n] for n in state}
    return [(found, rates)]


def _map_jumps(function: Callable[[Jumps], Jumps], jumps: Any) -> Any:
    if jumps is None:
        return None
    if isinstance(jumps, Mapping):
        return {name: function(part) for name, part in jumps.items()}
    return function(jumps)


def _scale_parts(parts: Parts, weight: Tensor | float) -> Parts:
    def scaled(leaf: Tensor) -> Tensor:
        return per_row(weight, leaf) * leaf

    root = weight.sqrt() if isinstance(weight, Tensor) else abs(weight) ** 0.5
    return Parts(
        None if parts.velocity is None else map_state(scaled, parts.velocity),
        None if parts.diffusion is None else parts.diffusion.scaled(root),
        _map_jumps(lambda j: ScaledJumps(j, weight), parts.jumps),
        None if parts.potential is None else scaled(parts.potential),
    )


def _add_parts(a: Parts, b: Parts) -> Parts:
    noises = tuple(p.diffusion for p in (a, b) if p.diffusion is not None)
    jumps: Any = a.jumps if b.jumps is None else b.jumps
    if a.jumps is not None and b.jumps is not None:
        if isinstance(a.jumps, Mapping) and isinstance(b.jumps, Mapping):
            both = {n: [p[n] for p in (a.jumps, b.jumps) if n in p] for n in {**a.jumps, **b.jumps}}
            jumps = {n: js[0] if len(js) == 1 else SumJumps(tuple(js)) for n, js in both.items()}
        else:
            jumps = SumJumps((a.jumps, b.jumps))  # type: ignore[arg-type]
    return Parts(
        add_tangents(a.velocity, b.velocity),
        noises[0] if len(noises) == 1 else (SumNoise(noises) if noises else None),
        jumps,
        add_tangents(a.potential, b.potential),
    )
