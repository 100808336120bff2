r"""Laws on letters: the two base laws, and the table that knows every answer.

    `Masked`          δ at the state that is all mask
    `UniformLetters`  every site uniform on the V real letters, independently
    `Table`           an explicit joint p(x¹, …, x^L): draws, log p, and its exact marginals

A table answers exactly what a network is trained to answer. With some sites masked, the posterior
of a masked site is a ratio of its marginals,

    p(x¹ᵢ = v | x_t) = p(v at i, the unmasked sites) / p(the unmasked sites),

which does not depend on time (Sahoo et al. 2024, arXiv 2406.07524; Shi et al. 2024, arXiv
2406.04329), so that a table is a perfect model of itself. It holds V^L numbers: for tests, claims
and pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.jumps import pick
from genpath.spaces import Space

from .spaces import Categorical

__all__ = ["Masked", "Table", "UniformLetters", "masked", "uniform"]


def _sum_sites(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1) if x.dim() > 1 else x


@dataclass(frozen=True)
class Masked:
    """The point mass at the state that is all mask: log p is 0 there and −∞ elsewhere.

    Args:
        space: letters with a mask.

    Raises:
        CapabilityError: the space has no mask.

    Example:
        >>> Masked(Categorical(2, (3,), mask=True)).sample(1, torch.Generator())
        tensor([[2, 2, 2]])
    """

    space: Categorical

    def __post_init__(self) -> None:
        _ = self.space.mask_id

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        shape = (count, *self.space.event_shape)
        return torch.full(shape, self.space.mask_id, device=rng.device)

    def log_prob(self, x: Tensor) -> Tensor:
        self.space.check(x, "Masked.log_prob")
        here = _sum_sites((x != self.space.mask_id).long()) == 0
        return torch.zeros(x.shape[0], device=x.device).masked_fill(~here, -torch.inf)


@dataclass(frozen=True)
class UniformLetters:
    """Every site uniform on the real letters, independently: log p = −sites · log V.

    Args:
        space: letters; its mask, if any, has probability 0.

    Example:
        >>> UniformLetters(Categorical(4, (2,))).log_prob(torch.tensor([[0, 3]]))
        tensor([-2.7726])
    """

    space: Categorical

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        shape = (count, *self.space.event_shape)
        return torch.randint(self.space.letters, shape, generator=rng, device=rng.device)

    def log_prob(self, x: Tensor) -> Tensor:
        inside = self.space.with_mask(False).contains(x)
        value = -self.space.sites * math.log(self.space.letters)
        return torch.full((x.shape[0],), value, device=x.device).masked_fill(~inside, -torch.inf)


@dataclass(frozen=True)
class Table:
    """An explicit joint law of L letters.

    Args:
        probabilities: V × … × V (L axes), non-negative, of sum 1.

    Raises:
        DomainError: the axes differ, an entry is negative, or the sum is not 1.

    Example:
        >>> table = Table(torch.tensor([[0.4, 0.1], [0.15, 0.35]]))
        >>> table.log_prob(torch.tensor([[0, 0]]))
        tensor([-0.9163])
        >>> table.logits(torch.tensor([[0, 2]])).exp()[0, 1]  # p(x² | x¹ = 0)
        tensor([0.8000, 0.2000])
    """

    probabilities: Tensor

    def __post_init__(self) -> None:
        p = self.probabilities
        if p.dim() == 0 or len(set(p.shape)) != 1:
            raise DomainError(
                "Table", "there is one axis of length V per letter.", got=str(tuple(p.shape))
            )
        if bool((p < 0).any()) or not math.isclose(float(p.sum()), 1.0, abs_tol=1e-6):
            raise DomainError(
                "Table",
                "probabilities are non-negative and of sum 1.",
                got=f"minimum {float(p.min()):g}, sum {float(p.sum()):g}",
            )

    @property
    def space(self) -> Categorical:
        """The space of the letters, without a mask."""
        return Categorical(self.probabilities.shape[0], (self.probabilities.dim(),))

    def states(self) -> Tensor:
        """All V^L states, in the order of the flattened table: ``(V^L, L)``."""
        letters, tokens = self.space.letters, self.probabilities.dim()
        axes = [torch.arange(letters, device=self.probabilities.device)] * tokens
        return torch.cartesian_prod(*axes).reshape(-1, tokens)

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        weights = self.probabilities.flatten().to(rng.device)
        return self.states().to(rng.device)[pick(weights.expand(count, -1), rng)]

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x); a site that holds the mask V is summed over: ``(batch,)``."""
        states = self.states()
        agrees = (x.unsqueeze(1) == states) | (x.unsqueeze(1) == self.space.letters)
        return torch.log(agrees.all(-1).to(self.probabilities) @ self.probabilities.flatten())

    def logits(self, x: Tensor) -> Tensor:
        """log p(letter at the site | the unmasked *other* sites): ``(batch, L, V)``, normalised.

        A site's own letter is not used: at masked sites this is the exact posterior, at unmasked
        ones the cavity posterior.
        """
        letters, tokens = self.space.letters, self.probabilities.dim()
        trial = x.reshape(-1, 1, 1, tokens).repeat(1, tokens, letters, 1)
        site = torch.arange(tokens, device=x.device).reshape(1, -1, 1, 1)
        letter = torch.arange(letters, device=x.device).reshape(1, 1, -1, 1)
        trial.scatter_(
            3, site.expand(x.shape[0], -1, letters, 1), letter.expand(*trial.shape[:3], 1)
        )
        joint = self.log_prob(trial.reshape(-1, tokens)).reshape(trial.shape[:3])
        return joint.log_softmax(-1)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """`logits`, as a field: the perfect network."""
        return self.logits(x)


def _letters(space: Space, where: str) -> Categorical:
    if isinstance(space, Categorical):
        return space
    raise CapabilityError(
        where,
        "it lives on a space of letters.",
        got=type(space).__name__,
        fix="use data of letters with codec: identity",
    )


def masked(space: Any) -> Masked:
    """The component ``law.discrete.masked``: all mask.

    Example:
        >>> from genpath_discrete.spaces import Categorical
        >>> masked(Categorical(3, (2,), mask=True)).sample(1, torch.Generator())
        tensor([[3, 3]])
    """
    return Masked(_letters(space, "law.discrete.masked"))


def uniform(space: Any) -> UniformLetters:
    """The component ``law.discrete.uniform``: independent uniform letters.

    Example:
        >>> from genpath_discrete.spaces import Categorical
        >>> uniform(Categorical(2, (3,))).log_prob(torch.zeros(1, 3, dtype=torch.long))  # −3 log 2
        tensor([-2.0794])
    """
    return UniformLetters(_letters(space, "law.discrete.uniform"))
