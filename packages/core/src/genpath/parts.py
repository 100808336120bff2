r"""Parts: what one evaluation of a Markov generator returns.

    L_t f = u·∇f + ½ tr(σσᵀ Hess f) + ∫ (f(y) − f(x)) Q_t(dy; x) + g f
            velocity  diffusion       jumps                        potential

A *noise map* σ takes standard noise to a tangent: scalar, diagonal, matrix or matrix-free. Keeping
the map, rather than the matrix σσᵀ, lets an augmented state (a log-density tracked with the very
noise that moves the particle) have an ordinary generator.

A *jump part* owes its total intensity and drawing targets. It may have *sites* (tokens), which jump
independently within a step: then the intensity has shape ``(batch, *sites)``. What it can give
beyond that is optional: `atoms` (all targets with their rates), `exposure` (the intensity
integrated over a step, where a closed form beats "frozen rate × step") and ``log_target`` (the
log-probability of a target given that the site jumps).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .errors import CapabilityError, ShapeError
from .spaces import Product, Space, as_smooth
from .states import State, map_state, per_row

__all__ = [
    "AtomJumps",
    "ClockedJumps",
    "DiagonalNoise",
    "FactorNoise",
    "Jumps",
    "KernelJumps",
    "MatrixFreeNoise",
    "MatrixNoise",
    "NoiseMap",
    "Parts",
    "RateJumps",
    "ScalarNoise",
    "ScaledJumps",
    "SumJumps",
    "SumNoise",
    "atoms",
    "exposure",
    "pick",
]


@runtime_checkable
class NoiseMap(Protocol):
    """σ: standard noise → tangent. ``uniform`` says that σ does not depend on the state."""

    @property
    def uniform(self) -> bool: ...

    def draw(self, space: Space, state: State, rng: torch.Generator) -> Any:
        """Standard noise of the form that the map takes."""
        ...

    def __call__(self, noise: Any) -> Any:
        """The tangent σ·noise."""
        ...

    def columns(self, space: Space, state: State) -> list[Any]:
        """σ on an orthonormal basis of the noise: stacks of tangents ``(count, batch, …)``."""
        ...

    def scaled(self, factor: Tensor | float) -> NoiseMap:
        """The map ``factor · σ``, factor ``(batch,)`` or a number."""
        ...


@dataclass(frozen=True)
class ScalarNoise:
    """σ(t) times standard tangent noise; the same in every direction.

    Args:
        sigma: ``(batch,)`` values, or a number.
        uniform: whether σ is a function of time only (set it to False when it depends on x).
    """

    sigma: Tensor | float
    uniform: bool = True

    def draw(self, space: Space, state: State, rng: torch.Generator) -> Any:
        return as_smooth(space, "ScalarNoise").tangent_noise(state, rng)

    def __call__(self, noise: Any) -> Any:
        return map_state(lambda leaf: per_row(self.sigma, leaf) * leaf, noise)

    def columns(self, space: Space, state: State) -> list[Any]:
        basis = as_smooth(space, "ScalarNoise").tangent_basis(state)
        return [torch.func.vmap(self)(basis)]

    def scaled(self, factor: Tensor | float) -> ScalarNoise:
        return ScalarNoise(factor * self.sigma, self.uniform)


@dataclass(frozen=True)
class DiagonalNoise:
    """One σ per coordinate of R^d: ``scale`` has the shape of the state."""

    scale: Tensor
    uniform: bool = True

    def draw(self, space: Space, state: State, rng: torch.Generator) -> Any:
        return as_smooth(space, "DiagonalNoise").tangent_noise(state, rng)

    def __call__(self, noise: Tensor) -> Tensor:
        return self.scale * noise

    def columns(self, space: Space, state: State) -> list[Any]:
        return [torch.func.vmap(self)(as_smooth(space, "DiagonalNoise").tangent_basis(state))]

    def scaled(self, factor: Tensor | float) -> DiagonalNoise:
        return DiagonalNoise(per_row(factor, self.scale) * self.scale, self.uniform)


@dataclass(frozen=True)
class MatrixNoise:
    """A matrix σ ``(batch, d, k)`` on R^d, driven by k independent noises."""

    matrix: Tensor
    uniform: bool = True

    def draw(self, space: Space, state: State, rng: torch.Generator) -> Tensor:
        m = self.matrix
        shape = (m.shape[0], m.shape[2])
        return torch.randn(shape, dtype=m.dtype, device=m.device, generator=rng)

    def __call__(self, noise: Tensor) -> Tensor:
        return torch.einsum("bdk,bk->bd", self.matrix, noise)

    def columns(self, space: Space, state: State) -> list[Any]:
        return [self.matrix.permute(2, 0, 1)]

    def scaled(self, factor: Tensor | float) -> MatrixNoise:
        return MatrixNoise(per_row(factor, self.matrix) * self.matrix, self.uniform)


@dataclass(frozen=True)
class MatrixFreeNoise:
    """Any linear map from noise to tangents, given as a function.

    Args:
        function: noise → tangent, linear. On a `Product` the noise is a dict over ``drivers``.
        drivers: the leaves on whose tangents the noise lives; None for the whole space.
        uniform: whether the map is the same at all states.
    """

    function: Callable[[Any], Any]
    drivers: tuple[str, ...] | None = None
    uniform: bool = False

    def _space(self, space: Space) -> Space:
        if self.drivers is None:
            return space
        if not isinstance(space, Product):
            raise CapabilityError(
                "MatrixFreeNoise", "drivers name leaves of a Product.", got=repr(space)
            )
        return Product({name: space.factors[name] for name in self.drivers})

    def _state(self, state: State) -> State:
        if self.drivers is None or isinstance(state, Tensor):
            return state
        return {name: state[name] for name in self.drivers}

    def draw(self, space: Space, state: State, rng: torch.Generator) -> Any:
        return as_smooth(self._space(space), "MatrixFreeNoise").tangent_noise(
            self._state(state), rng
        )

    def __call__(self, noise: Any) -> Any:
        return self.function(noise)

    def columns(self, space: Space, state: State) -> list[Any]:
        basis = as_smooth(self._space(space), "MatrixFreeNoise").tangent_basis(self._state(state))
        return [torch.func.vmap(self.function)(basis)]

    def scaled(self, factor: Tensor | float) -> MatrixFreeNoise:
        def function(noise: Any) -> Any:
            return map_state(lambda leaf: per_row(factor, leaf) * leaf, self.function(noise))

        return MatrixFreeNoise(function, self.drivers, self.uniform)


@dataclass(frozen=True)
class FactorNoise:
    """Independent noise maps on the factors of a product."""

    factors: Mapping[str, NoiseMap]

    @property
    def uniform(self) -> bool:
        return all(noise.uniform for noise in self.factors.values())

    def draw(self, space: Any, state: Any, rng: torch.Generator) -> Any:
        return {n: m.draw(space.factors[n], state[n], rng) for n, m in self.factors.items()}

    def __call__(self, noise: Any) -> Any:
        return {n: m(noise[n]) for n, m in self.factors.items()}

    def columns(self, space: Any, state: Any) -> list[Any]:
        return [
            {n: stack}
            for n, m in self.factors.items()
            for stack in m.columns(space.factors[n], state[n])
        ]

    def scaled(self, factor: Tensor | float) -> FactorNoise:
        return FactorNoise({n: m.scaled(factor) for n, m in self.factors.items()})


@dataclass(frozen=True)
class SumNoise:
    """σ₁ξ₁ + σ₂ξ₂ with independent noises: the diffusion of a sum of generators."""

    maps: tuple[NoiseMap, ...]

    @property
    def uniform(self) -> bool:
        return all(noise.uniform for noise in self.maps)

    def draw(self, space: Space, state: State, rng: torch.Generator) -> Any:
        return tuple(m.draw(space, state, rng) for m in self.maps)

    def __call__(self, noise: Any) -> Any:
        total = None
        for noise_map, part in zip(self.maps, noise, strict=True):
            total = add_tangents(total, noise_map(part))
        return total

    def columns(self, space: Space, state: State) -> list[Any]:
        return [stack for m in self.maps for stack in m.columns(space, state)]

    def scaled(self, factor: Tensor | float) -> SumNoise:
        return SumNoise(tuple(m.scaled(factor) for m in self.maps))


def add_tangents(u: Any, v: Any) -> Any:
    """u + v, where either may be None and dicts may have different leaves."""
    if u is None or v is None:
        return v if u is None else u
    if isinstance(u, Tensor):
        return u + v
    return {n: (u[n] + v[n] if n in u and n in v else u.get(n, v.get(n))) for n in {**u, **v}}


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
    """The intensity integrated over [t, t_next]: its own closed form, else frozen at ``t``."""
    own = getattr(jumps, "exposure", None)
    result: Tensor = jumps.intensity() * (t_next - t) if own is None else own(t, t_next)
    return result


def atoms(jumps: Jumps, x: State) -> tuple[Any, Tensor]:
    """All targets ``(count, batch, …)`` of a jump part at ``x``, and rates ``(count, batch)``.

    Raises:
        CapabilityError: the part can only draw.
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
        flat, sites = x.reshape(batch, -1), max(1, x[0].numel() if batch else 1)
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
    """``factor`` times a jump part, factor ``(batch,)`` or a number, non-negative."""

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
    """A jump part run by a clock τ(s): rates times τ̇(s), exposures over [τ(s), τ(s′)]."""

    base: Jumps
    clock: Callable[[Tensor], Tensor]
    rate: Tensor

    def intensity(self) -> Tensor:
        rates = self.base.intensity()
        return per_row(self.rate, rates) * rates

    def targets(self, rng: torch.Generator) -> Any:
        return self.base.targets(rng)

    def exposure(self, t: float, t_next: float) -> Tensor:
        ends = self.clock(torch.tensor([t, t_next], dtype=torch.float64)).tolist()
        return exposure(self.base, *ends)

    def atoms(self, x: Any) -> tuple[Any, Tensor]:
        found, rates = atoms(self.base, x)
        return found, rates * self.rate


@dataclass(frozen=True)
class SumJumps:
    """The sum of jump parts on the same sites: rates add, a target comes from one of them."""

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


@dataclass(frozen=True)
class Parts:
    """One evaluation of a generator; a part that it does not have is None.

    Args:
        velocity: u, a tangent of the state's form (a dict may leave leaves out).
        diffusion: the noise map σ.
        jumps: a jump part; on a dict state also a dict leaf → jump part, jumping independently.
        potential: g, ``(batch,)``: rows gain log-weight at rate g.
    """

    velocity: Any = None
    diffusion: NoiseMap | None = None
    jumps: Jumps | Mapping[str, Jumps] | None = None
    potential: Tensor | None = None

    def present(self) -> frozenset[str]:
        """The names of the parts that are there."""
        names = ("velocity", "diffusion", "jumps", "potential")
        return frozenset(n for n in names if getattr(self, n) is not None)
