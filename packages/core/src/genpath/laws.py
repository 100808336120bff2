r"""Laws: probability laws that one can draw from.

A `Law` owes draws; a `DensityLaw` also gives ``log p(x)`` with respect to the volume of its space
(counting measure on letters). Base laws, exact targets and the initial law of a composed path are
laws. Draws come on the device of the random generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .errors import CapabilityError, DomainError
from .spaces import Euclidean, Space
from .states import State, batch_size, device_of, gather

__all__ = ["DensityLaw", "Empirical", "Gaussian", "Law", "ProductLaw", "gaussian"]


@runtime_checkable
class Law(Protocol):
    """A probability law: something to draw from."""

    def sample(self, count: int, rng: torch.Generator) -> Any:
        """``count`` independent rows, on the device of ``rng``."""
        ...


@runtime_checkable
class DensityLaw(Law, Protocol):
    """A law with a log-density."""

    def log_prob(self, x: Any) -> Tensor:
        """The log-density of each row, in nats: ``(batch,)``."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """N(mean, std² I) on R^d, for points of any shape.

    Args:
        event_shape: the shape of one point.
        mean: a number, added to every coordinate.
        std: the standard deviation, positive.
        dtype: of the draws; torch's default when None.

    Raises:
        DomainError: ``std`` is not positive.

    Example:
        >>> Gaussian((2,)).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    event_shape: tuple[int, ...]
    mean: float = 0.0
    std: float = 1.0
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise DomainError("Gaussian", "std is positive.", got=f"std {self.std}")

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        dtype = self.dtype or torch.get_default_dtype()
        z = torch.randn(count, *self.event_shape, generator=rng, device=rng.device, dtype=dtype)
        return self.mean + self.std * z

    def log_prob(self, x: Tensor) -> Tensor:
        z = (x - self.mean) / self.std
        size = math.prod(self.event_shape)
        square = (z * z).flatten(1).sum(1) if x.dim() > 1 else z * z
        return -0.5 * square - size * (math.log(self.std) + 0.5 * math.log(2 * math.pi))


def gaussian(space: Space, mean: float = 0.0, std: float = 1.0) -> Gaussian:
    """The isotropic normal law on a Euclidean space: the component ``law.gaussian``.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> law = gaussian(Euclidean(2), std=2.0)
        >>> law.sample(3, torch.Generator()).shape
        torch.Size([3, 2])
        >>> law.log_prob(torch.zeros(1, 2))  # −log(2π · 4)
        tensor([-3.2242])
    """
    if not isinstance(space, Euclidean):
        raise CapabilityError(
            "law.gaussian",
            "it lives on a Euclidean space.",
            got=type(space).__name__,
            fix="choose the base law of this space; `genpath components law` lists them",
        )
    return Gaussian(space.event_shape, mean, std)


@dataclass(frozen=True)
class Empirical:
    """The uniform law on stored rows: a draw is a row, with replacement.

    Args:
        rows: a state; all of its leaves, facts included, are drawn together.

    Example:
        >>> Empirical(torch.ones(3, 2)).sample(5, torch.Generator()).shape
        torch.Size([5, 2])
    """

    rows: State

    def __post_init__(self) -> None:
        if batch_size(self.rows) == 0:
            raise DomainError("Empirical", "a law needs at least one row.", got="no rows")

    def sample(self, count: int, rng: torch.Generator) -> Any:
        device = device_of(self.rows)
        index = torch.randint(batch_size(self.rows), (count,), generator=rng, device=rng.device)
        return gather(self.rows, index.to(device))


@dataclass(frozen=True)
class ProductLaw:
    """Independent factors: a draw is a dict of draws, log-densities add.

    Example:
        >>> law = ProductLaw({"x": Gaussian((2,)), "y": Gaussian(())})
        >>> sorted(law.sample(3, torch.Generator()))
        ['x', 'y']
    """

    factors: dict[str, Law]

    def sample(self, count: int, rng: torch.Generator) -> dict[str, Tensor]:
        return {name: law.sample(count, rng) for name, law in self.factors.items()}

    def log_prob(self, x: dict[str, Tensor]) -> Tensor:
        missing = [n for n, law in self.factors.items() if not isinstance(law, DensityLaw)]
        if missing:
            raise CapabilityError("ProductLaw.log_prob", f"no log-density at {', '.join(missing)}.")
        terms = [law.log_prob(x[n]) for n, law in self.factors.items()]  # type: ignore[attr-defined]
        return torch.stack(terms).sum(0)
