r"""Probability paths: laws p_t between a base law at t = 0 and the data law at t = 1.

A path draws x_t given (t, x0, x1), states what a network can be regressed on, and gives the
generator that carries x_t for fixed endpoints. It knows nothing of networks or samplers. The
minimiser of a regression on its targets is the conditional expectation, hence the *marginal*
generator (generator matching, arXiv 2410.20587): which quantity is predicted, and how one leads to
another, is stated by the path's predictions and rules.

`ProductPath` joins paths of different factors, each with its own clock t_i(s). Training may draw
the clocks independently, by passing a dict of times; a sampler integrates the one scalar s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .generators import MarkovGenerator, coupled, lifted
from .predictions import Prediction, Rule
from .schedules import Scalar
from .spaces import Product, Space
from .states import State, row_times

__all__ = ["Draw", "MarkovianPath", "ProbabilityPath", "ProductPath", "Time", "draw_with_target"]

Time = Tensor | Mapping[str, Tensor]
"""Times ``(batch,)``; for a product path possibly one tensor per factor."""


@dataclass(frozen=True)
class Draw:
    """One batch of x_t with what made it.

    Args:
        t: times ``(batch,)`` (a dict of them on a product path with independent clocks).
        state: x_t, with the facts of x1; ``(batch, *event)`` or a dict of such leaves.
        x0, x1: the endpoints, of the same form.
        latent: the noise z of the path, where it has one.

    Example:
        >>> t, x0, x1 = torch.tensor([0.25]), torch.zeros(1, 2), torch.ones(1, 2)
        >>> draw = Draw(t, x0 + t[:, None] * (x1 - x0), x0, x1)
        >>> draw.state
        tensor([[0.2500, 0.2500]])
    """

    t: Any
    state: Any
    x0: Any
    x1: Any
    latent: Any = None


@runtime_checkable
class ProbabilityPath(Protocol):
    """p_t(x | x0, x1): draws, regression targets and the conditional generator.

    ``space`` is where x_t lives. ``predictions`` maps the names of what a network can be asked for
    to their `Prediction`; ``rules`` convert between them. On a path of letters, ``jumps(t, state,
    logits)`` gives the marginal jump part. A path that computes a draw and its target faster
    together than apart also has ``draw_with_target(name, t, x0, x1, rng)``.
    """

    @property
    def space(self) -> Space: ...

    @property
    def predictions(self) -> Mapping[str, Prediction]: ...

    @property
    def rules(self) -> tuple[Rule, ...]: ...

    def draw(self, t: Any, x0: Any, x1: Any, rng: torch.Generator) -> Draw:
        """x_t for each triple (t, x0, x1), and what made it."""
        ...

    def target(self, name: str, draw: Draw) -> Any:
        """The value that prediction ``name`` is regressed on for this draw."""
        ...

    def conditional_generator(self, x0: Any, x1: Any) -> MarkovGenerator:
        """The generator that carries p_t( · | x0, x1), in closed form."""
        ...


@runtime_checkable
class MarkovianPath(ProbabilityPath, Protocol):
    """A path whose noising process, run from t = 1 down to 0, is Markov and can be drawn."""

    def renoise(self, t_from: Tensor, t_to: Tensor, state: State, rng: torch.Generator) -> Any:
        """A draw of x_{t_to} given x_{t_from} = state, t_to ≤ t_from: the noising kernel."""
        ...


def draw_with_target(
    path: ProbabilityPath, name: str, t: Any, x0: Any, x1: Any, rng: torch.Generator
) -> tuple[Draw, Any]:
    """A draw and the value that prediction ``name`` is regressed on, in one call.

    By the path's own ``draw_with_target(name, t, x0, x1, rng)`` where it has one, which gives the
    same draw for the same ``rng``; else by its ``draw`` and then its ``target``.

    Example:
        >>> from types import SimpleNamespace
        >>> line = SimpleNamespace(
        ...     draw=lambda t, x0, x1, rng: Draw(t, x0 + t * (x1 - x0), x0, x1),
        ...     target=lambda name, draw: draw.x1 - draw.x0,
        ... )
        >>> t, x0, x1 = torch.tensor([0.25]), torch.zeros(1), torch.tensor([2.0])
        >>> draw, target = draw_with_target(line, "velocity", t, x0, x1, torch.Generator())
        >>> draw.state, target
        (tensor([0.5000]), tensor([2.]))
    """
    together = getattr(path, "draw_with_target", None)
    if together is not None:
        found: tuple[Draw, Any] = together(name, t, x0, x1, rng)
        return found
    draw = path.draw(t, x0, x1, rng)
    return draw, path.target(name, draw)


IDENTITY = Scalar(lambda s: s, torch.ones_like)


@dataclass(frozen=True)
class ProductPath:
    """Independent conditional paths on the factors of a product, one clock each.

    p_t(x | x0, x1) = Πᵢ pⁱ_{t_i}(xⁱ | x0ⁱ, x1ⁱ); L_s = Σᵢ ṫ_i(s) Lⁱ.

    Args:
        paths: leaf → path.
        clocks: leaf → increasing `Scalar` t_i(s) with t_i(0) = 0 and t_i(1) = 1; the identity
            where left out.

    Predictions are named ``leaf.name``, e.g. ``positions.velocity``.

    Example:
        >>> from types import SimpleNamespace
        >>> line = SimpleNamespace(draw=lambda t, x0, x1, rng: Draw(t, x0 + t * (x1 - x0), x0, x1))
        >>> path = ProductPath({"x": line, "y": line}, clocks={"y": Scalar(lambda s: s * s)})
        >>> x0 = {"x": torch.zeros(1), "y": torch.zeros(1)}
        >>> x1 = {"x": torch.ones(1), "y": torch.ones(1)}
        >>> path.draw(torch.tensor([0.5]), x0, x1, torch.Generator()).state
        {'x': tensor([0.5000]), 'y': tensor([0.2500])}
    """

    paths: Mapping[str, ProbabilityPath]
    clocks: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def space(self) -> Product:
        """The product of the factors' spaces."""
        return Product({name: path.space for name, path in self.paths.items()})

    @property
    def predictions(self) -> dict[str, Prediction]:
        return {
            f"{n}.{k}": p for n, path in self.paths.items() for k, p in path.predictions.items()
        }

    @property
    def rules(self) -> tuple[Rule, ...]:
        """None: conversions belong to the factors, at their own clocks."""
        return ()

    def times(self, s: Any) -> dict[str, Tensor]:
        """The clocks at ``s``; a dict of times is passed through."""
        if isinstance(s, Mapping):
            return dict(s)
        return {name: self.clocks.get(name, IDENTITY)(s) for name in self.paths}

    def draw(self, t: Any, x0: Any, x1: Any, rng: torch.Generator) -> Draw:
        """x_t factor by factor, with the facts of x1; ``t`` is s ``(batch,)`` or clocks."""
        if not isinstance(t, Mapping):
            t = row_times(t, x1, "ProductPath.draw")
        times = self.times(t)
        draws = {n: p.draw(times[n], x0[n], x1[n], rng) for n, p in self.paths.items()}
        state = {**x1, **{n: d.state for n, d in draws.items()}}
        return Draw(t, state, x0, x1, {n: d.latent for n, d in draws.items()})

    def target(self, name: str, draw: Draw) -> Any:
        leaf, _, quantity = name.partition(".")
        times = self.times(draw.t)
        inner = Draw(times[leaf], draw.state[leaf], draw.x0[leaf], draw.x1[leaf], draw.latent[leaf])
        return self.paths[leaf].target(quantity, inner)

    def conditional_generator(self, x0: Any, x1: Any) -> MarkovGenerator:
        """Σᵢ ṫ_i(s) Lⁱ for fixed endpoints, as a function of s."""
        factors = {n: p.conditional_generator(x0[n], x1[n]) for n, p in self.paths.items()}
        return self.join({n: lifted(n, g) for n, g in factors.items()})

    def join(self, factors: Mapping[str, MarkovGenerator]) -> MarkovGenerator:
        """Generators of the factors in their own time, joined in s: each sees the whole state."""
        return coupled(
            {
                n: g.time_change(self.clocks[n]) if n in self.clocks else g
                for n, g in factors.items()
            }
        )
