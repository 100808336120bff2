r"""Likelihoods: log-densities of a model, per example, with their standard error and kind.

Along a flow ẋ = u(t, x) on any smooth space (R^d: Chen et al. 2018, arXiv 1806.07366; manifolds:
Mathieu & Nickel 2020, arXiv 2006.10605)

    log p_1(x_1) = log p_0(x_0) − ∫₀¹ div u(t, x_t) dt,

solved from t = 1 to 0 with the log-density as one more coordinate of the state: the augmented state
{x, log_density, probe} has an ordinary generator, whose probe is a fact of its row. `SolvedFlow` is
the same solve from any s to any t, as an invertible map with log-determinant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .divergences import exact_divergence, hutchinson_divergence, pushforward
from .errors import CapabilityError
from .generators import MarkovGenerator, breakpoints
from .grids import TimeGrid
from .laws import DensityLaw
from .models import ODE, Model
from .parts import Parts
from .samplers import Callback, RungeKutta, Sampler, integrate
from .spaces import Euclidean, Product, Space, as_smooth
from .states import batch_size, chunks, device_of, dtype_of
from .tableaus import RK4

__all__ = [
    "FlowMap",
    "Likelihood",
    "LogLikelihood",
    "ODELikelihood",
    "SolvedFlow",
    "density_mass",
    "tracked",
]

LOG_DENSITY, PROBE, POINT = "log_density", "probe", "x"


@dataclass(frozen=True)
class LogLikelihood:
    """log p per example.

    Args:
        value: ``(batch,)``, nats.
        standard_error: ``(batch,)``; 0 where nothing is random.
        kind: "exact" (up to the solver), "unbiased for log p", "unbiased for p" or "lower bound".

    Example:
        >>> scores = LogLikelihood(torch.tensor([-1.0, -3.0]), torch.zeros(2), "exact")
        >>> scores.value.mean()
        tensor(-2.)
    """

    value: Tensor
    standard_error: Tensor
    kind: str


@runtime_checkable
class Likelihood(Protocol):
    """A way to score data under a model."""

    def __call__(self, model: Model, data: Any, rng: torch.Generator) -> LogLikelihood:
        """log p of each datum, in the data's own units."""
        ...


def tracked(gen: MarkovGenerator, divergence: str = "exact") -> MarkovGenerator:
    """A flow with −div u as one more coordinate: states {x, log_density[, probe]}.

    ``log_density`` is ``(batch,)``; a probe has the shape of its point.

    Args:
        gen: a flow on a smooth space; a product keeps its leaves' names.
        divergence: "exact" or "hutchinson" (with a leaf, or per factor leaves, of probes).

    Raises:
        CapabilityError: the generator is not a flow.

    Example:
        >>> from genpath.generators import flow
        >>> gen = tracked(flow(Euclidean(2), lambda t, x: 3 * x))
        >>> state = {"x": torch.ones(1, 2), "log_density": torch.zeros(1)}
        >>> gen(0.0, state).velocity  # div u = 6
        {'x': tensor([[3., 3.]]), 'log_density': tensor([-6.])}
    """
    if gen.has != {"velocity"}:
        raise CapabilityError(
            "likelihood",
            "log-densities are tracked along a flow.",
            got=f"a generator with {', '.join(sorted(gen.has))}",
            fix="ask the model for dynamics: ode",
        )
    inner = gen.space
    factors = dict(inner.factors) if isinstance(inner, Product) else {POINT: inner}
    space = Product({**factors, LOG_DENSITY: Euclidean()})

    def velocity(t: Tensor, x: Any) -> Any:
        return gen.evaluate(t, x).velocity

    def evaluate(t: Tensor, state: Mapping[str, Tensor]) -> Parts:
        x = _unwrap(inner, state)
        if divergence == "exact":
            value, trace = exact_divergence(inner, velocity, t, x)
        else:
            value, trace = hutchinson_divergence(inner, velocity, t, x, _probe(inner, state))
        moved = value if isinstance(inner, Product) else {POINT: value}
        return Parts(velocity={**moved, LOG_DENSITY: -trace})

    return MarkovGenerator(space, evaluate, frozenset({"velocity"}))


def _unwrap(space: Space, state: Mapping[str, Tensor]) -> Any:
    if isinstance(space, Product):
        return {n: v for n, v in state.items() if n != LOG_DENSITY and not n.startswith(PROBE)}
    return state[POINT]


def _probe(space: Space, state: Mapping[str, Tensor]) -> Any:
    if isinstance(space, Product):
        return {n: state[f"{PROBE}/{n}"] for n in space.smooth}
    return state[PROBE]


def _wrap(space: Space, x: Any, probes: bool, rng: torch.Generator) -> dict[str, Tensor]:
    def noise(leaf: Tensor) -> Tensor:
        return torch.randn(leaf.shape, generator=rng, device=leaf.device, dtype=leaf.dtype)

    state = dict(x) if isinstance(space, Product) else {POINT: x}
    zeros = torch.zeros(batch_size(x), dtype=dtype_of(x), device=device_of(x))
    result = {**state, LOG_DENSITY: zeros}
    if probes and isinstance(space, Product):
        result.update({f"{PROBE}/{n}": noise(x[n]) for n in space.smooth})
    elif probes:
        result[PROBE] = noise(x)
    return result


@runtime_checkable
class FlowMap(Protocol):
    """X_{s,t}: where a point at time s is at time t, with the log-determinant where known."""

    def __call__(
        self, s: float, t: float, x: Any, rng: torch.Generator
    ) -> tuple[Any, Tensor | None]:
        """The image of ``x`` and log |det ∂X_{s,t}/∂x| ``(batch,)``, or None."""
        ...


@dataclass(frozen=True)
class SolvedFlow:
    """The flow map of an ODE by numerical solution; invertible up to the solver's error.

    A call gives the points, in the form of ``x``, and the log-determinant ``(batch,)``.

    Args:
        gen: a flow.
        sampler: any sampler of flows.
        steps: equal steps between s and t; kinks of the path's schedule are added.
        divergence: "exact" or "hutchinson".

    Example:
        >>> from genpath.generators import flow
        >>> solved = SolvedFlow(flow(Euclidean(2), lambda t, x: x))
        >>> x, log_det = solved(0.0, 1.0, torch.ones(1, 2), torch.Generator())
        >>> x, log_det.round(decimals=3)  # e, and log e²
        (tensor([[2.7183, 2.7183]]), tensor([2.]))
    """

    gen: MarkovGenerator
    sampler: Sampler = field(default_factory=lambda: RungeKutta(RK4))
    steps: int = 50
    divergence: str = "exact"

    def __call__(
        self,
        s: float,
        t: float,
        x: Any,
        rng: torch.Generator,
        callbacks: tuple[Callback, ...] = (),
    ) -> tuple[Any, Tensor]:
        gen = tracked(self.gen, self.divergence)
        start = _wrap(self.gen.space, x, self.divergence != "exact", rng)
        grid = TimeGrid.uniform(self.steps, s, t).through(breakpoints(self.gen))
        end = integrate(self.sampler, gen, start, grid, rng, callbacks=callbacks).state
        return _unwrap(self.gen.space, end), -end[LOG_DENSITY]


def density_mass(
    flow_map: SolvedFlow, base: DensityLaw, count: int, rng: torch.Generator
) -> tuple[float, float]:
    r"""∫ p_1 dx over the whole space, with its standard error, without a grid.

    For the flow map X from t = 0 to 1, a diffeomorphism, the change of variables x = X(x_0) gives

        ∫ p_1(x) dx = E_{x_0 ~ p_0} [ p_1(X(x_0)) |det DX(x_0)| / p_0(x_0) ].

    p_1 is the density under test: the flow solved back from X(x_0), the divergence integrated.
    DX is found in another way, by differentiating the forward solve along a basis. With an
    exact divergence every term is 1, so a few thousand points suffice where a grid would have
    to resolve each peak of p_1; a wrong divergence, or too few steps, shows at once. It takes
    ∫ p_0 = 1 for granted: a base law with a wrong constant is not seen here.

    Args:
        flow_map: the flow, its solver and its divergence.
        base: p_0.
        count: points x_0.
        rng: for drawing them.

    Returns:
        The estimate and its standard error.

    Example:
        >>> from genpath import Gaussian, flow
        >>> solved = SolvedFlow(flow(Euclidean(1), lambda t, x: x.sin()), steps=20)
        >>> mass, error = density_mass(solved, Gaussian((1,)), 100, torch.Generator())
        >>> round(mass, 3), round(error, 3)
        (1.0, 0.0)
    """
    space = as_smooth(flow_map.gen.space, "density_mass")
    grid, start = TimeGrid.uniform(flow_map.steps), base.sample(count, rng)

    def forward(x: Any) -> Any:
        return integrate(flow_map.sampler, flow_map.gen, x, grid, rng).state

    def moved(direction: Any) -> tuple[Any, Any]:
        return pushforward(forward, start, direction)

    directions = torch.func.vmap(moved, out_dims=(None, 0))  # type: ignore[arg-type]
    end, columns = directions(space.tangent_basis(start))
    gram = torch.func.vmap(lambda u: torch.func.vmap(lambda v: space.inner(end, u, v))(columns))(
        columns
    )
    log_jacobian = 0.5 * torch.linalg.slogdet(gram.permute(2, 0, 1))[1]
    back, log_det = flow_map(1.0, 0.0, end, rng)
    log_ratio = base.log_prob(back) + log_det + log_jacobian - base.log_prob(start)
    terms = log_ratio.double().exp()
    return float(terms.mean()), float(terms.std() / math.sqrt(count))


@dataclass(frozen=True)
class ODELikelihood:
    """log p by the probability flow, from t = 1 to 0: the component ``likelihood.ode``.

    Args:
        sampler: a sampler of flows.
        steps: equal steps.
        divergence: "exact", or "hutchinson" with ``probes`` independent solves per datum.
        probes: solves to average for "hutchinson"; at least 2 give a standard error.
        encodings: draws of a random codec to average (dequantisation).
        chunk: rows solved together; exact divergence holds ``dimension`` times as many.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath import Gaussian, Prediction
        >>> velocity = {"velocity": Prediction("velocity", (1,), True, "u(t, x)")}
        >>> path = SimpleNamespace(space=Euclidean(1), rules=(), predictions=velocity)
        >>> model = Model(lambda t, x: x, path, base=Gaussian((1,)))
        >>> found = ODELikelihood()(model, torch.zeros(1, 1), torch.Generator())  # p_1 = N(0, e²)
        >>> found.value, found.kind  # −1 − ½ log 2π
        (tensor([-1.9189]), 'exact')
    """

    sampler: Sampler = field(default_factory=lambda: RungeKutta(RK4))
    steps: int = 50
    divergence: str = "exact"
    probes: int = 2
    encodings: int = 1
    chunk: int = 1024

    @torch.no_grad()
    def __call__(self, model: Model, data: Any, rng: torch.Generator) -> LogLikelihood:
        base = model.base
        if not isinstance(base, DensityLaw):
            raise CapabilityError(
                "likelihood.ode", "the base law has a log-density.", got=type(base).__name__
            )
        solve = SolvedFlow(model.generator(ODE()), self.sampler, self.steps, self.divergence)
        exact_codec, exact_trace = model.codec.exact, self.divergence == "exact"
        repeats = (1 if exact_trace else self.probes) * (1 if exact_codec else self.encodings)
        values = []
        for _ in range(repeats):
            pieces = [
                self._once(model, base, solve, piece, rng) for piece in chunks(data, self.chunk)
            ]
            values.append(torch.cat(pieces))
        stacked = torch.stack(values)
        error = torch.zeros_like(stacked[0])
        if repeats > 1:
            error = stacked.std(0) / math.sqrt(repeats)
        kind = "exact" if exact_trace else "unbiased for log p"
        return LogLikelihood(stacked.mean(0), error, kind if exact_codec else "lower bound")

    @staticmethod
    def _once(
        model: Model, base: DensityLaw, solve: SolvedFlow, data: Any, rng: torch.Generator
    ) -> Tensor:
        state, log_det = model.codec.encode(data, rng)
        start, log_jacobian = solve(1.0, 0.0, state, rng)
        return base.log_prob(start) + log_jacobian + log_det
