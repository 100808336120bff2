r"""Claims of the core's spaces: R^d and products, with letters among the factors.

d(x, y)² = Σ d_i(x_i, y_i)²     ⟨u, v⟩ = Σ ⟨u_i, v_i⟩_i     step, log, P and noise factor by factor
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.spaces import Euclidean, Product
from genpath.states import flat_event
from genpath.testing import Claim, Control, Evidence, Trial, but, contracts, dial, equal, exact

__all__ = ["Letters", "spaces"]

DOUBLE = torch.float64


@dataclass(frozen=True)
class Letters:
    """Arrays of letters 0, …, size − 1: the least that a finite space owes.

    Example:
        >>> Letters(3).neighbours(torch.tensor([1]))
        tensor([[2],
                [0]])
    """

    size: int
    event_shape: tuple[int, ...] = ()

    def contains(self, x: Tensor, tolerance: float = 1e-4) -> Tensor:
        """Whether every site holds a letter."""
        return flat_event((x >= 0) & (x < self.size)).all(1)

    def project(self, x: Tensor) -> Tensor:
        """The letters themselves."""
        return x

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """How many sites differ."""
        return flat_event((x != y).double()).sum(1)

    def neighbours(self, x: Tensor) -> Tensor:
        """Each site in turn shifted by 1, …, size − 1."""
        sites = math.prod(self.event_shape)
        one = torch.eye(sites, dtype=x.dtype).reshape(sites, 1, 1, *self.event_shape)
        shift = torch.arange(1, self.size).reshape(-1, 1, *[1] * len(self.event_shape))
        return ((x + one * shift) % self.size).flatten(0, 1)


def _normal(*shape: int) -> Any:
    return lambda count, rng: torch.randn(count, *shape, generator=rng, dtype=DOUBLE)


def _mixed() -> Product:
    return Product({"x": Euclidean(2), "y": Euclidean(), "letters": Letters(3, (2,))})


def _mixed_points(count: int, rng: torch.Generator) -> dict[str, Tensor]:
    return {
        "x": _normal(2)(count, rng),
        "y": _normal()(count, rng),
        "letters": torch.randint(3, (count, 2), generator=rng),
        "row": torch.arange(count),
    }


def spaces() -> tuple[Claim[Any], ...]:
    """Claims of `Euclidean` and `Product`."""
    return (
        *contracts.named("line", contracts.space(Euclidean, _normal())),
        *contracts.named("matrices", contracts.space(lambda: Euclidean(2, 3), _normal(2, 3))),
        *contracts.named("product", contracts.space(_mixed, _mixed_points)),
        _factors(),
    )


def _factors() -> Claim[Any]:
    def check(space: Any, trial: Trial) -> Iterator[Evidence]:
        x, y = (_mixed_points(40, trial.rng(key)) for key in "xy")
        v = {"x": _normal(2)(40, trial.rng("v")), "y": _normal()(40, trial.rng("w"))}
        squares = (x["x"] - y["x"]).square().sum(1) + (x["y"] - y["y"]) ** 2
        squares = squares + (x["letters"] != y["letters"]).sum(1) ** 2
        yield equal("d² = Σ d_i²", space.distance(x, y) ** 2, squares)
        weights = (v["x"] ** 2).sum(1) + v["y"] ** 2
        yield equal("|v|² = Σ |v_i|²", space.inner(x, v, v), weights)
        yield equal("only the shared leaves", space.inner(x, v, {"y": v["y"]}), v["y"] ** 2)
        moved = space.step(x, v)
        yield equal("step, first factor", moved["x"], x["x"] + v["x"])
        yield equal("step, second factor", moved["y"], x["y"] + v["y"])
        partial = space.step(x, {"y": v["y"]})
        for name in ("x", "letters", "row"):
            yield exact(f"a step along y leaves {name}", partial[name], x[name])
        for name in ("letters", "row"):
            yield exact(f"a step leaves {name}", moved[name], x[name])
            yield exact(f"a projection leaves {name}", space.project(x)[name], x[name])

    def heavier(space: Any, size: float) -> Any:
        def distance(x: Any, y: Any) -> Tensor:
            extra = (x["y"] - y["y"]) ** 2
            total: Tensor = (space.distance(x, y) ** 2 + size * extra).sqrt()
            return total

        return but(space, distance=distance)

    def dropped(space: Any) -> Any:
        return but(space, step=lambda x, v: {**space.step(x, v), "row": x["row"].roll(1)})

    return Claim(
        "factors",
        "A product measures by the sum over its factors, moves the leaves that a tangent has, and "
        "leaves letters and facts where they are.",
        _mixed,
        check,
        (dial("a factor's square × (1 + δ)", heavier), Control("a step exchanges facts", dropped)),
        formula=r"d(x, y)^2 = \sum_i d_i(x_i, y_i)^2",
        entries=("R.11",),
    )
