r"""Noise maps: the diffusion part of a generator, as a map from noise to tangents.

    ½ tr(σσᵀ Hess f)          σ: scalar, diagonal, matrix or matrix-free

Keeping the map σ, rather than the matrix σσᵀ, lets an augmented state (a log-density tracked with
the very noise that moves the particle) have an ordinary generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .errors import CapabilityError
from .spaces import Product, Space, as_smooth
from .states import State, map_state, per_row

__all__ = [
    "DiagonalNoise",
    "FactorNoise",
    "MatrixFreeNoise",
    "MatrixNoise",
    "NoiseMap",
    "ScalarNoise",
    "SumNoise",
    "add_tangents",
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

    Noise and tangent have the shape of the state, ``(batch, *event)``.

    Example:
        >>> noise = ScalarNoise(torch.tensor([1.0, 3.0]))  # one σ per row
        >>> noise(torch.ones(2, 2))
        tensor([[1., 1.],
                [3., 3.]])
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
    """One σ per coordinate of R^d.

    Args:
        scale: σ, of the shape of the state ``(batch, *event)``; noise and tangent have it too.
        uniform: whether σ is a function of time only.

    Example:
        >>> DiagonalNoise(torch.tensor([[1.0, 0.5]]))(torch.tensor([[2.0, 2.0]]))
        tensor([[2., 1.]])
    """

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
    """A matrix σ on R^d, driven by k independent noises.

    Args:
        matrix: σ, ``(batch, d, k)``; noise is ``(batch, k)``, tangents are ``(batch, d)``.
        uniform: whether σ is a function of time only.

    Example:
        >>> noise = MatrixNoise(torch.tensor([[[1.0], [2.0]]]))  # one noise moves both axes
        >>> noise(torch.tensor([[3.0]]))
        tensor([[3., 6.]])
    """

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

    Noise and tangents have the form of the state: ``(batch, *event)`` per leaf.

    Example:
        >>> def tracked(z):  # the noise of x also moves its log-density
        ...     return {"x": z["x"], "log": -z["x"].sum(1)}
        >>> MatrixFreeNoise(tracked, drivers=("x",))({"x": torch.ones(1, 2)})
        {'x': tensor([[1., 1.]]), 'log': tensor([-2.])}
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
    """Independent noise maps on the factors of a product.

    Args:
        factors: leaf → noise map; leaves that are left out get no noise.

    Example:
        >>> noise = FactorNoise({"x": ScalarNoise(2.0), "y": ScalarNoise(0.5)})
        >>> noise({"x": torch.ones(1, 2), "y": torch.ones(1)})
        {'x': tensor([[2., 2.]]), 'y': tensor([0.5000])}
    """

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
    """σ₁ξ₁ + σ₂ξ₂ with independent noises: the diffusion of a sum of generators.

    The noise is a tuple, one entry per map; variances add.

    Example:
        >>> from genpath import Euclidean
        >>> noise = SumNoise((ScalarNoise(3.0), ScalarNoise(4.0)))
        >>> sum((c**2).sum(0) for c in noise.columns(Euclidean(1), torch.zeros(1, 1)))
        tensor([[25.]])
    """

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
    """u + v, where either may be None and dicts may have different leaves.

    Leaves that both have are of the same shape ``(batch, *event)``.

    Example:
        >>> add_tangents({"x": torch.ones(1)}, {"x": torch.ones(1), "y": torch.zeros(1)})
        {'x': tensor([2.]), 'y': tensor([0.])}
    """
    if u is None or v is None:
        return v if u is None else u
    if isinstance(u, Tensor):
        return u + v
    return {n: (u[n] + v[n] if n in u and n in v else u.get(n, v.get(n))) for n in {**u, **v}}
