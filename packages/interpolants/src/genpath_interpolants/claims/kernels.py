r"""The draw with its target in one pass: what every operator owes, its bits, its moments.

    x_t = α x0 + β x1 + γ z        ẋ_t = α̇ x0 + β̇ x1 + γ̇ z

`by_matrices` is the oracle: one matrix product per row. The moments need no random numbers: the
points m ± √n L e_i of an n-dimensional normal law N(m, LLᵀ) have its mean and covariance exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.testing import Claim, Control, Evidence, Trial, contracts, dial, equal, exact
from genpath.testing.contracts.kernels import DTYPES

from ..kernels import affine_draw, affine_draw_operator, affine_sum
from .cases import DOUBLE

__all__ = ["SMALL", "affine_sample", "by_matrices", "claims"]

Pair = tuple[Tensor, Tensor]
Draw = Callable[..., Pair]


def claims() -> tuple[Claim[Any], ...]:
    """The claims of ``interpolants.kernels``."""
    return (*contracts.kernel(affine_draw_operator, by_matrices, SMALL), bits(), moments())


def affine_sample(*shape: int, latent: bool = True, gradients: bool = True) -> contracts.Sample:
    """Normal points of this shape and normal weights, with z or without."""
    rng = torch.Generator().manual_seed(len(shape) + 10 * latent)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=rng, dtype=DOUBLE)

    points: list[Tensor | None] = [normal(*shape) for _ in range(3)]
    weights: list[Tensor | None] = [normal(shape[0]) for _ in range(6)]
    if not latent:
        points[2] = weights[2] = weights[5] = None
    name = f"{shape}{' with z' if latent else ''}"
    return contracts.Sample(name, (*points, *weights), gradients)


SMALL = tuple(
    affine_sample(*shape, latent=latent) for shape in ((3, 2, 2), (4,)) for latent in (True, False)
)


def by_matrices(x0: Tensor, x1: Tensor, z: Tensor | None, *weights: Tensor) -> Pair:
    """State and target as a product of weights (2, terms) and inputs (terms, event) per row."""
    given = [x0, x1] if z is None else [x0, x1, z]
    terms = len(given)
    points = torch.stack([p.reshape(len(p), -1) for p in given], 1)
    matrix = torch.stack([torch.stack(weights[i : i + terms], 1) for i in (0, 3)], 1)
    state, target = (matrix @ points).unbind(1)
    return state.reshape(x0.shape), target.reshape(x0.shape)


def louder(draw: Draw, size: float) -> Draw:
    """z × (1 + δ)."""
    return lambda x0, x1, z, *weights: draw(x0, x1, None if z is None else (1 + size) * z, *weights)


def bits() -> Claim[Draw]:
    """The same bits by every way to the sum."""

    def check(draw: Draw, trial: Trial) -> Iterator[Evidence]:
        for sample in (affine_sample(200, 3, 5), affine_sample(200, 3, 5, latent=False)):
            for dtype in DTYPES:
                args = sample.cast(dtype)
                what = f"{sample.name}, {str(dtype)[6:]}"
                state, target = draw(*args)
                yield exact(f"{what}: the state alone", state, affine_sum(*args[:6]))
                alone = affine_sum(*args[:3], *args[6:])
                yield exact(f"{what}: the target alone", target, alone)
                for plain, found in zip(affine_draw(*args), (state, target), strict=True):
                    yield exact(f"{what}: without the operator", found, plain)

    def turned(draw: Draw) -> Draw:
        def other(x0: Tensor, x1: Tensor, z: Tensor | None, *weights: Tensor) -> Pair:
            if z is None:
                return draw(x0, x1, z, *weights)
            a, b, c, p, q, r = weights
            return draw(z, x1, x0, c, b, a, r, q, p)

        return other

    return Claim(
        "same-bits",
        "For given z the operator, the function and the sum alone give the same bits, in every "
        "dtype: they add in the same order.",
        lambda: affine_draw_operator,
        check,
        (dial("z × (1 + δ)", louder), Control("the sum in the order z, x1, x0", turned)),
        formula=r"x_t = (\alpha x_0 + \beta x_1) + \gamma z",
        entries=("K.11",),
    )


MEANS = torch.tensor([[0.5, -1.0], [2.0, 0.25]], dtype=DOUBLE)
"""E x0 and E x1, on the plane."""


def spread() -> Tensor:
    """L of the joint covariance LLᵀ of x0, x1 and z; z is normal and independent of both."""
    root = torch.eye(6, dtype=DOUBLE)
    low = [[0.9, 0, 0, 0], [-0.3, 0.7, 0, 0], [0.4, 0.1, 1.2, 0], [0.2, -0.5, 0.3, 0.6]]
    root[:4, :4] = torch.tensor(low, dtype=DOUBLE)
    return root


def weights_at(t: Tensor) -> Tensor:
    """α, β, γ of x_t = cos(πt/2) x0 + t x1 + √(2t(1−t)) z."""
    return torch.stack([(math.pi * t / 2).cos(), t, (2 * t * (1 - t)).sqrt()])


def law_at(t: Tensor) -> Pair:
    """Mean and covariance of x_t, of normal x0 and x1 that depend on each other."""
    (a, b, c), joint = weights_at(t), spread() @ spread().T
    base, cross, data = joint[:2, :2], joint[:2, 2:4], joint[2:4, 2:4]
    covariance = a * a * base + b * b * data + a * b * (cross + cross.T)
    return a * MEANS[0] + b * MEANS[1], covariance + c * c * torch.eye(2, dtype=DOUBLE)


def with_rate(function: Callable[[Tensor], Any], t: Tensor) -> tuple[Any, Any]:
    """f(t) and its derivative, by forward-mode differentiation."""
    found = torch.func.jvp(function, (t,), (torch.ones_like(t),))
    return found[0], found[1]


def moments() -> Claim[Draw]:
    """The mean and covariance of state and target."""
    mean = torch.cat([MEANS.flatten(), torch.zeros(2, dtype=DOUBLE)])
    points = mean + math.sqrt(6) * torch.cat([spread().T, -spread().T])

    def check(draw: Draw, trial: Trial) -> Iterator[Evidence]:
        for time in (0.1, 0.5, 0.8):
            t = torch.tensor(time, dtype=DOUBLE)
            weights, rates = with_rate(weights_at, t)
            (centre, covariance), (motion, growth) = with_rate(law_at, t)
            each = [w.expand(len(points)) for w in (*weights, *rates)]
            state, target = draw(*points.split(2, 1), *each)
            yield equal(f"E x_t, t = {time}", state.mean(0), centre)
            yield equal(f"E ẋ_t, t = {time}", target.mean(0), motion)
            state, target = state - centre, target - motion
            yield equal(f"Cov x_t, t = {time}", state.T @ state / len(points), covariance)
            both = state.T @ target / len(points)
            yield equal(f"Cov(x_t, ẋ_t) + its transpose, t = {time}", both + both.T, growth)

    def slower(draw: Draw, size: float) -> Draw:
        return lambda *args: draw(*args[:8], None if args[8] is None else (1 - size) * args[8])

    return Claim(
        "moments",
        "Normal endpoints, dependent or not, and z give x_t its mean M and covariance V, and the "
        "target their derivatives: E ẋ = Ṁ and Cov(x, ẋ) + Cov(ẋ, x) = V̇.",
        lambda: affine_draw_operator,
        check,
        (dial("z × (1 + δ)", louder), dial("γ̇ × (1 − δ)", slower)),
        formula=r"V = \alpha^2 S_0 + \beta^2 S_1 + \alpha\beta(G + G^\top) + \gamma^2 I",
        entries=("K.11",),
    )
