r"""A path whose fields are known: x_t = cos(πt/2) x0 + sin(πt/2) x1 for normal x0 and x1.

With x0 ~ N(0, I), x1 ~ N(1, ¼ I) independent and (c, s) = (cos, sin)(πt/2), x_t ~ N(s, V I) with
V = c² + s²/4, and E[x1 | x_t] = 1 + (s/4V)(x − s), the regression of a normal vector on another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.generators import MarkovGenerator, flow
from genpath.jumps import RateJumps
from genpath.parts import Parts
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule
from genpath.spaces import Euclidean

from ._chain import START, Letters

__all__ = [
    "Arc",
    "Turns",
    "denoiser",
    "letter_logits",
    "letter_pairs",
    "log_law",
    "normal_pairs",
    "velocity",
]

DOUBLE = torch.float64
HALF = math.pi / 2


def _weights(t: Tensor) -> tuple[Tensor, Tensor]:
    angle = HALF * t[:, None]
    return torch.cos(angle), torch.sin(angle)


def _velocity_rule(t: Tensor, x: Tensor, denoiser: Tensor) -> Tensor:
    c, s = _weights(t)
    return HALF * (denoiser / c - s / c * x)


def _score_rule(t: Tensor, x: Tensor, denoiser: Tensor) -> Tensor:
    c, s = _weights(t)
    return (s * denoiser - x) / c**2


@dataclass(frozen=True)
class Arc:
    """The path on the plane."""

    space: Euclidean = Euclidean(2)  # noqa: RUF009
    rules: tuple[Rule, ...] = (
        Rule("velocity", ("denoiser",), _velocity_rule),
        Rule("score", ("denoiser",), _score_rule),
    )

    @property
    def predictions(self) -> Mapping[str, Prediction]:
        return {
            "velocity": Prediction("velocity", (2,), True, "E[ẋ_t | x_t]"),
            "denoiser": Prediction("denoiser", (2,), False, "E[x1 | x_t]"),
            "score": Prediction("score", (2,), True, "∇log p_t"),
        }

    def draw(self, t: Tensor, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        c, s = _weights(t)
        return Draw(t, c * x0 + s * x1, x0, x1)

    def target(self, name: str, draw: Draw) -> Any:
        c, s = _weights(draw.t)
        if name == "velocity":
            return HALF * (c * draw.x1 - s * draw.x0)
        return draw.x1 if name == "denoiser" else -draw.x0 / c

    def conditional_generator(self, x0: Any, x1: Any) -> MarkovGenerator:
        return flow(self.space, lambda t, x: _velocity_rule(t, x, x1))  # type: ignore[arg-type]


def normal_pairs(n: int, rng: torch.Generator) -> Pairs:
    """x0 ~ N(0, I) and x1 ~ N(1, ¼ I), apart."""
    x0, x1 = torch.randn(2, n, 2, generator=rng, dtype=DOUBLE)
    return Pairs(x0, 1 + 0.5 * x1)


def denoiser(t: Tensor, x: Any) -> Tensor:
    """E[x1 | x_t]."""
    c, s = _weights(t)
    result: Tensor = 1 + 0.25 * s / (c**2 + 0.25 * s**2) * (x - s)
    return result


def velocity(t: Tensor, x: Any) -> Tensor:
    """E[ẋ_t | x_t] = ṡ + (V̇/2V)(x − s): the affine flow that carries N(s, V I)."""
    c, s = _weights(t)
    variance = c**2 + 0.25 * s**2
    result: Tensor = HALF * (c - 0.75 * c * s / variance * (x - s))
    return result


def log_law(t: Tensor, x: Any) -> Tensor:
    """log p_t."""
    c, s = _weights(t)
    variance = c**2 + 0.25 * s**2
    values = -0.5 * (x - s) ** 2 / variance - 0.5 * torch.log(2 * math.pi * variance)
    result: Tensor = values.sum(1)
    return result


@dataclass(frozen=True)
class Turns:
    """Two sites that turn from letters x0, uniform, into letters x1 with probability t."""

    space: Letters = Letters(3, (2,))  # noqa: RUF009
    rules: tuple[Rule, ...] = ()

    @property
    def predictions(self) -> Mapping[str, Prediction]:
        return {"logits": Prediction("logits", (2, 3), False, "log p(x1 | x_t)")}

    def draw(self, t: Tensor, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        kept = torch.rand(x1.shape, generator=rng, dtype=DOUBLE) < t[:, None]
        return Draw(t, torch.where(kept, x1, x0), x0, x1)

    def target(self, name: str, draw: Draw) -> Any:
        return draw.x1

    def jumps(self, t: Tensor, state: Tensor, logits: Tensor) -> RateJumps:
        return RateJumps((1 / (1 - t.double()))[:, None, None] * logits.softmax(-1), state)

    def conditional_generator(self, x0: Any, x1: Any) -> MarkovGenerator:
        goal = torch.nn.functional.one_hot(x1, 3)

        def evaluate(t: Tensor, x: Tensor) -> Parts:
            return Parts(jumps=RateJumps((1 / (1 - t.double()))[:, None, None] * goal, x))

        return MarkovGenerator(self.space, evaluate, frozenset({"jumps"}))


def letter_pairs(n: int, rng: torch.Generator) -> Pairs:
    """Uniform letters, and letters of the law (.5, .3, .2)."""
    x1 = torch.multinomial(START.expand(n, 3), 2, replacement=True, generator=rng)
    return Pairs(torch.randint(3, (n, 2), generator=rng), x1)


def letter_logits(t: Tensor, x: Any) -> Tensor:
    """log p(x1) p(x_t | x1) of each site, by Bayes."""
    keep = t.double()[:, None, None]
    likelihood = keep * torch.nn.functional.one_hot(x, 3) + (1 - keep) / 3
    return (START * likelihood).log()
