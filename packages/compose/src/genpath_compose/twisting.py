r"""Twists: a Markov generator bent towards a value, with the potential that keeps the target.

For a generator L with marginals p_t and a value ψ (`genpath_compose.steering`), Doob's transform

    L^ψ f = e^{−ψ}[L(e^ψ f) − f L e^ψ]        u + σσᵀ∇ψ,  rates Q(x, y) e^{ψ(y) − ψ(x)}
    g     = ∂_t ψ + e^{−ψ} L e^ψ              ∂_t ψ + u·∇ψ + ½ tr σσᵀ(∇∇ψ + ∇ψ∇ψᵀ)
                                                    + Σ_y Q(x, y)(e^{ψ(y) − ψ(x)} − 1)

has d/dt ⟨p e^ψ, f⟩ = ⟨p e^ψ, L^ψ f + g f⟩, on R^d, on finite spaces and on their products. The
twist is whole: a part of it would need ∇log p in g. For ψ = log E[e^{λ r(X_1)} | X_t = x] it leaves
nothing to weigh, g = 0. (Wu et al. 2023, arXiv 2306.17775; course, L7.29.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.divergences import pushforward
from genpath.generators import MarkovGenerator, derivatives
from genpath.jumps import AtomJumps, Jumps, RateJumps, atoms
from genpath.noises import add_tangents
from genpath.parts import Parts
from genpath.spaces import as_smooth
from genpath.states import batch_size, map_state, repeat

from .steering import Value

__all__ = ["twisted"]


def twisted(gen: MarkovGenerator, value: Value) -> MarkovGenerator:
    """The generator twisted by a value, with the potential that keeps the law p_t e^{ψ_t}.

    Drift u + σσᵀ∇ψ, rates Q(x, y) e^{ψ(y) − ψ(x)}, and g = ∂_t ψ + e^{−ψ} L e^ψ beside the
    potential that the generator had. Particles start from p_0 e^{ψ_0}, or from p_0 with the weight
    e^{ψ_0}. On R^d it differentiates ψ twice; on a finite space it evaluates ψ at every target.

    Args:
        gen: of the base, with marginals p_t; its jump parts list their targets.
        value: ψ, finite on the states that are visited.

    Raises:
        CapabilityError: a jump part cannot list its targets (when it is called).

    Example:
        >>> from genpath import Euclidean
        >>> from genpath.noises import ScalarNoise
        >>> from genpath_compose.steering import Immediate
        >>> brownian = MarkovGenerator(
        ...     Euclidean(1), lambda t, x: Parts(diffusion=ScalarNoise(2.0)), {"diffusion"}
        ... )
        >>> pulled = twisted(brownian, Immediate(lambda x: 3 * x[:, 0], lambda t: t))
        >>> parts = pulled(torch.tensor([0.5]), torch.tensor([[1.0]]))
        >>> parts.velocity, parts.potential  # σ² λ 3;  3x + ½ σ² (3λ)²
        (tensor([[6.]]), tensor([7.5000]))
    """

    def evaluate(t: Tensor, state: Any) -> Parts:
        parts = gen.evaluate(t, state)
        here, gain = _along_time(value, gen, parts, t, state)
        velocity, jumps = parts.velocity, parts.jumps
        if parts.diffusion is not None:
            push, more = _pushed(value, gen, parts, t, state)
            velocity, gain = add_tangents(velocity, push), gain + more
        if jumps is not None:
            jumps, more = _tilted(jumps, value, t, state, here)
            gain = gain + more
        return Parts(velocity, parts.diffusion, jumps, add_tangents(parts.potential, gain))

    extra = {"velocity", "potential"} if "diffusion" in gen.has else {"potential"}
    return MarkovGenerator(gen.space, evaluate, gen.has | extra)


def _along_time(
    value: Value, gen: MarkovGenerator, parts: Parts, t: Tensor, state: Any
) -> tuple[Tensor, Tensor]:
    """ψ, and ∂_t ψ + u·∇ψ."""

    def moved(h: Tensor) -> Tensor:
        x = state
        if parts.velocity is not None:
            smooth = as_smooth(gen.space, "twisted")
            x = smooth.step(state, map_state(lambda leaf: h * leaf, parts.velocity))
        return value(t + h, x)

    return pushforward(moved, t.new_zeros(()), t.new_ones(()))


def _pushed(
    value: Value, gen: MarkovGenerator, parts: Parts, t: Tensor, state: Any
) -> tuple[Any, Tensor]:
    """σσᵀ∇ψ, and ½ tr σσᵀ(∇∇ψ + ∇ψ∇ψᵀ), by derivatives along the columns of σ."""
    assert parts.diffusion is not None
    push: Any = None
    gain: Any = 0.0
    for columns in parts.diffusion.columns(gen.space, state):
        count = len(columns if isinstance(columns, Tensor) else next(iter(columns.values())))
        at = _At(value, t.repeat(count))
        first, second = derivatives(at, gen.space, state, columns)

        def weighted(leaf: Tensor, first: Tensor = first) -> Tensor:
            return (first.reshape(first.shape + (1,) * (leaf.dim() - 2)) * leaf).sum(0)

        push = add_tangents(push, map_state(weighted, columns))
        gain = gain + 0.5 * (second + first**2).sum(0)
    return push, gain


@dataclass(frozen=True)
class _At:
    """A value at fixed times."""

    value: Value
    t: Tensor

    def __call__(self, state: Any) -> Tensor:
        return self.value(self.t[: batch_size(state)], state)


@dataclass(frozen=True)
class _Inside:
    """A value as a function of the leaf ``name``, the others being those of ``state``."""

    value: Value
    state: Mapping[str, Tensor]
    name: str

    def __call__(self, t: Tensor, state: Any) -> Tensor:
        copies = len(state) // max(batch_size(self.state), 1)
        return self.value(t, {**repeat(self.state, copies), self.name: state})


def _tilted(
    jumps: Jumps | Mapping[str, Jumps], value: Value, t: Tensor, state: Any, here: Tensor
) -> tuple[Any, Tensor]:
    """The jumps with rates times e^{ψ(y) − ψ(x)}, and what the intensity gained."""
    if isinstance(jumps, Mapping):
        found, gain = dict[str, Jumps](), torch.zeros_like(here)
        for name, part in jumps.items():
            inside = _Inside(value, state, name)
            found[name], more = _tilted(part, inside, t, state[name], here)
            gain = gain + more
        return found, gain
    targets, rates = atoms(jumps, state)
    count = rates.shape[0]
    whole = targets
    if isinstance(state, Mapping):
        rest = {n: leaf.expand(count, *leaf.shape) for n, leaf in state.items()}
        whole = {**rest, **targets}
    reached = value(t.repeat(count), map_state(lambda leaf: leaf.flatten(0, 1), whole))
    ratio = torch.exp(reached.reshape(rates.shape) - here)
    raised = torch.where(rates > 0, rates * ratio, 0.0)
    gain = (raised - rates).sum(0)
    if isinstance(jumps, RateJumps):
        return RateJumps(raised.T.reshape(jumps.rates.shape), jumps.x), gain
    return AtomJumps(targets, raised), gain
