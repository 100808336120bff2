r"""Exact fields of paths whose ends are atoms.

For pairs (x0_k, x1_k) of weight w_k and x_t = c_k(t) + A(t) z,

    p_t(x) = Σ_k w_k r(A⁻¹(x − c_k))/|det A|        E[Y | x_t = x] = Σ_k π_k(x) Y_k(x)

with π_k the posterior weights and Y_k the path's target for the pair k and the z that leads to x:
given both, nothing is random. So every field is found from the targets of the path under test, and
compared with derivatives of p_t, whose c_k, A and r are written here anew, r by torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.generators import MarkovGenerator, flow
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.paths import Draw
from genpath.predictions import convert
from genpath.testing import Evidence, equal, near

from .cases import DOUBLE

__all__ = [
    "Atoms",
    "atom_pairs",
    "conversions",
    "equation",
    "logistic",
    "mass",
    "score",
    "standard",
]

Centre = Callable[[Tensor, Tensor, Tensor], Tensor]


def standard(z: Tensor) -> Tensor:
    """log of the standard normal density, coordinate by coordinate, by torch."""
    unit = Normal(z.new_zeros(()), z.new_ones(()), validate_args=False)
    found: Tensor = unit.log_prob(z)
    return found


def logistic(z: Tensor) -> Tensor:
    """log of σ(z) σ(−z), the standard logistic density."""
    found: Tensor = torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z)
    return found


@dataclass(frozen=True)
class Atoms:
    """A path with atoms for ends.

    Args:
        words: which path.
        path: the path under test.
        x0, x1: ``(k, d)``.
        weights: ``(k,)``.
        centre: c(t, x0, x1), t ``(n, 1)``.
        scale: A(t): ``(n,) → (n,)``, or ``(n, d, d)``.
        law: log r of one coordinate.
        from_base: whether x0 is the latent noise (a one-sided path).
    """

    words: str
    path: Any
    x0: Tensor
    x1: Tensor
    weights: Tensor
    centre: Centre
    scale: Callable[[Tensor], Tensor]
    law: Callable[[Tensor], Tensor] = standard
    from_base: bool = False

    def noise(self, t: Tensor, x: Tensor) -> Tensor:
        """z ``(n, k, d)`` that leads to x ``(n, d)`` from each pair."""
        count, k = len(x), len(self.weights)
        times = t.repeat_interleave(k)[:, None]
        pairs = [y.repeat(count, 1) for y in (self.x0, self.x1)]
        gap = x[:, None] - self.centre(times, *pairs).reshape(count, k, -1)
        scale = self.scale(t)
        if scale.dim() == 1:
            return gap / scale[:, None, None]
        solved: Tensor = torch.linalg.solve(scale[:, None], gap.unsqueeze(-1)).squeeze(-1)
        return solved

    def terms(self, t: Tensor, x: Tensor) -> Tensor:
        """log of the summands of p_t(x): ``(n, k)``."""
        scale = self.scale(t)
        volume = x.shape[1] * scale.log() if scale.dim() == 1 else torch.linalg.slogdet(scale)[1]
        kernel = self.law(self.noise(t, x)).sum(2)
        return kernel + self.weights.log() - volume[:, None]

    def log_density(self, t: Tensor, x: Tensor) -> Tensor:
        """log p_t(x), ``(n,)``."""
        return self.terms(t, x).logsumexp(1)

    def at(self, t: Tensor) -> Callable[[Tensor], Tensor]:
        """log p_t as a function of the state alone, also for copies of the whole batch."""
        return lambda y: self.log_density(t.repeat(len(y) // len(t)), y)

    def field(self, name: str) -> Callable[[Tensor, Any], Tensor]:
        """E[target | x_t = x]."""

        def value(t: Tensor, x: Any) -> Tensor:
            count, k = len(x), len(self.weights)
            z = self.noise(t, x).flatten(0, 1)
            x0, x1 = (y.repeat(count, 1) for y in (self.x0, self.x1))
            times, states = t.repeat_interleave(k), x.repeat_interleave(k, 0)
            draw = Draw(times, states, z if self.from_base else x0, x1, z)
            target = self.path.target(name, draw)
            target = target.reshape(count, k, *target.shape[1:])
            posterior = self.terms(t, x).softmax(1)
            return torch.einsum("nk,nk...->n...", posterior, target)

        return value

    def points(self, rng: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Times in (0.1, 0.9), and draws of x_t at them."""
        t = 0.1 + 0.8 * torch.rand(count, generator=rng, dtype=DOUBLE)
        index = torch.multinomial(self.weights, count, True, generator=rng)
        z = torch.randn(count, self.x1.shape[1], generator=rng, dtype=DOUBLE)
        scale = self.scale(t)
        noise = scale[:, None] * z if scale.dim() == 1 else (scale @ z[..., None])[..., 0]
        return t, self.centre(t[:, None], self.x0[index], self.x1[index]) + noise


def atom_pairs(size: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Three dependent pairs: x0, x1 and weights."""
    x0 = torch.tensor([[-1.2, 0.4], [0.3, -0.9], [1.1, 0.8]], dtype=DOUBLE)[:, :size]
    x1 = torch.tensor([[0.9, -0.7], [-0.6, 1.3], [1.6, 0.2]], dtype=DOUBLE)[:, :size]
    return x0, x1, torch.tensor([0.5, 0.2, 0.3], dtype=DOUBLE)


ROUNDINGS = 4096
"""Second derivatives of a sum of exponentials, over a variance that goes down to 0.05."""


def equation(
    case: Atoms, rng: torch.Generator, count: int, drift: str = "velocity", level: Any = None
) -> Evidence:
    """∂_t log p against the adjoint of drift·∇ + a Δ."""
    t, x = case.points(rng, count)
    rate = torch.func.grad(lambda s: case.log_density(s, x).sum())(t)
    field = case.field(drift)
    if level is None:
        gen = flow(case.path.space, field)
    else:
        gen = MarkovGenerator(
            case.path.space,
            lambda t, x: Parts(field(t, x), ScalarNoise((2 * level(t)).sqrt())),
            frozenset({"velocity", "diffusion"}),
        )
    change = gen.adjoint(case.at(t), t, x)
    size = max(1.0, float(rate.abs().max()))
    return equal(f"{case.words}: ∂ₜ log p", change, rate, operations=ROUNDINGS, scale=size)


def score(case: Atoms, rng: torch.Generator, count: int, name: str = "score") -> Evidence:
    """A field, turned into a score by the path's rules, against ∇log p_t."""
    t, x = case.points(rng, count)
    slope = torch.func.grad(lambda y: case.log_density(t, y).sum())(x)
    found = convert(case.path.rules, {name: case.field(name)(t, x)}, "score", t, x)
    words = f"{case.words}: s from {name}"
    return equal(words, found, slope, operations=ROUNDINGS)


def conversions(
    case: Atoms, rng: torch.Generator, count: int, table: tuple[tuple[tuple[str, ...], str], ...]
) -> Iterator[Evidence]:
    """Fields from other fields by the path's rules, against their own targets' means."""
    t, x = case.points(rng, count)
    for given, want in table:
        values = {name: case.field(name)(t, x) for name in given}
        found = convert(case.path.rules, values, want, t, x)
        words = f"{case.words}: {want} from {', '.join(given)}"
        yield equal(words, found, case.field(want)(t, x), operations=ROUNDINGS)


def mass(case: Atoms, times: tuple[float, ...] = (0.1, 0.5, 0.9)) -> Iterator[Evidence]:
    """∫ p_t = 1 on the line, by the trapezoid rule, which is exact for a smooth fast decay."""
    grid = torch.linspace(-12, 12, 1201, dtype=DOUBLE)
    for time in times:
        t = torch.full_like(grid, time)
        total = torch.trapezoid(case.log_density(t, grid[:, None]).exp(), grid)
        because = "the trapezoid rule, spacing 0.02, on normals of width above 0.2"
        yield near(f"{case.words}: ∫ p at t = {time:g}", total, 1.0, 1e-9, because)
