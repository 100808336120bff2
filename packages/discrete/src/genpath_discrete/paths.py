r"""Paths of letters: at time t a site carries its data letter with probability κ(t).

    x_t^i = x1^i  with probability κ(t),  else x0^i            sites independently, given (x0, x1)

    `MaskedPath`   x0 is all mask: masked diffusion (Sahoo et al. 2024, arXiv 2406.07524; Shi et al.
                   2024, arXiv 2406.04329). The posterior of a masked site does not depend on time.
    `MixturePath`  x0 holds letters, drawn with the batch (Gat et al. 2024, arXiv 2407.15595)

Conditional generator: a site not at x1 jumps there at the hazard κ̇/(1−κ). Averaged over x1 given
x_t it is the marginal generator, Q(x → v at i) = κ̇/(1−κ) p(x1^i = v | x_t), so a network is asked
for the *logits* of p(x1^i | x_t), real letters only.

Noising, run from s down to t < s, is Markov when x0 is independent of x1: a site is kept with
probability κ(t)/κ(s), and else takes a fresh base letter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.generators import MarkovGenerator
from genpath.laws import Law
from genpath.parts import Parts
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule
from genpath.schedules import KeepSchedule, linear_keep
from genpath.states import per_row, row_times

from .jumps import GoalJumps, MaskedJumps, MixtureJumps
from .laws import Masked, UniformLetters, _letters
from .spaces import Categorical

__all__ = ["MaskedPath", "MixturePath", "masked", "mixture"]


def _coins(chance: Tensor, like: Tensor, rng: torch.Generator) -> Tensor:
    """One independent coin per site of ``like``, heads with the chance of its row."""
    u = torch.rand(like.shape, generator=rng, device=like.device, dtype=chance.dtype)
    return u < per_row(chance, like)


def _logits(space: Categorical) -> dict[str, Prediction]:
    shape = (*space.event_shape, space.letters)
    return {"logits": Prediction("logits", shape, False, "log p(x1 at the site | x_t) + const")}


def _draw(schedule: KeepSchedule, t: Any, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
    times = row_times(t, x1, "path.draw")
    keep = _coins(schedule.kappa(times), x1, rng)
    return Draw(times, torch.where(keep, x1, x0), x0, x1)


def _renoise(
    schedule: KeepSchedule, t_from: Any, t_to: Any, state: Tensor, fresh: Tensor, rng: Any
) -> Tensor:
    """Keep a site with probability κ(t_to)/κ(t_from); 0/0, at t_from = 0, forgets everything."""
    ends = [schedule.kappa(row_times(t, state, "path.renoise")) for t in (t_from, t_to)]
    ratio = torch.where(ends[0] > 0, ends[1] / ends[0], 0.0)
    return torch.where(_coins(ratio, state, rng), state, fresh)


def _target(name: str, draw: Draw, where: str) -> Tensor:
    if name != "logits":
        raise DomainError(where, "the prediction is 'logits'.", got=repr(name))
    x1: Tensor = draw.x1
    return x1


def _bridge(space: Categorical, schedule: KeepSchedule, x1: Tensor) -> MarkovGenerator:
    def evaluate(t: Tensor, x: Tensor) -> Parts:
        copies = x.shape[0] // max(x1.shape[0], 1)  # neighbours come as copies of the batch
        goal = x1.repeat(copies, *([1] * (x1.dim() - 1)))
        return Parts(jumps=GoalJumps(goal, x, space.size, schedule, t))

    return MarkovGenerator(space, evaluate, frozenset({"jumps"}))


@dataclass(frozen=True)
class MaskedPath:
    """Letters that come out of a mask one by one.

    Args:
        letters: the space of the data: letters without a mask.
        schedule: κ, the probability that a site is revealed.

    Example:
        >>> path = MaskedPath(Categorical(3, (4,)))
        >>> x1, rng = torch.zeros(1, 4, dtype=torch.long), torch.Generator()
        >>> path.draw(torch.zeros(1), None, x1, rng).state
        tensor([[3, 3, 3, 3]])
    """

    letters: Categorical
    schedule: KeepSchedule = field(default_factory=linear_keep)
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "letters", self.letters.with_mask(False))

    @property
    def space(self) -> Categorical:
        """Letters with the mask: where x_t lives."""
        return self.letters.with_mask()

    @property
    def mask_id(self) -> int:
        """The index of the mask."""
        return self.space.mask_id

    @property
    def predictions(self) -> dict[str, Prediction]:
        """One: the logits of the real letters, ``(*event, letters)``."""
        return _logits(self.letters)

    def draw(self, t: Any, x0: Any, x1: Tensor, rng: torch.Generator) -> Draw:
        """x_t: every site of ``x1`` kept with probability κ(t), else masked; ``x0`` is not read."""
        return _draw(self.schedule, t, torch.full_like(x1, self.mask_id), x1, rng)

    def target(self, name: str, draw: Draw) -> Tensor:
        """The letters of x1."""
        return _target(name, draw, "MaskedPath.target")

    def masked(self, state: Tensor) -> Tensor:
        """Which sites are masked: bool, of the state's shape."""
        return state == self.mask_id

    def jumps(self, t: Tensor, state: Tensor, logits: Tensor) -> MaskedJumps:
        """The marginal jump part: masked sites revealed at κ̇/(1−κ), from the logits."""
        return MaskedJumps(logits, self.masked(state), self.schedule, t)

    def conditional_generator(self, x0: Any, x1: Tensor) -> MarkovGenerator:
        """Masked sites jump to their letter of ``x1`` at κ̇/(1−κ).

        Sites that hold a wrong letter, which the path never visits, are corrected at the same rate.
        """
        return _bridge(self.space, self.schedule, x1)

    def renoise(self, t_from: Any, t_to: Any, state: Tensor, rng: torch.Generator) -> Tensor:
        """x at ``t_to`` ≤ ``t_from``: a site is masked with probability 1 − κ(t_to)/κ(t_from)."""
        fresh = torch.full_like(state, self.mask_id)
        return _renoise(self.schedule, t_from, t_to, state, fresh, rng)

    def base(self) -> Masked:
        """The law at t = 0."""
        return Masked(self.space)


@dataclass(frozen=True)
class MixturePath:
    """Letters that turn, one by one, from base letters into data letters.

    Args:
        letters: the space of the data.
        schedule: κ.
        noise: the law of fresh letters in the noising kernel; uniform letters when None. It is the
            law of x0, independent of x1, for which the noising process is Markov.

    Example:
        >>> path, rng = MixturePath(Categorical(3, (4,))), torch.Generator().manual_seed(0)
        >>> x0, x1 = torch.zeros(2, 4, dtype=torch.long), torch.full((2, 4), 2)
        >>> path.draw(torch.tensor([0.0, 1.0]), x0, x1, rng).state
        tensor([[0, 0, 0, 0],
                [2, 2, 2, 2]])
    """

    letters: Categorical
    schedule: KeepSchedule = field(default_factory=linear_keep)
    noise: Law | None = None
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "letters", self.letters.with_mask(False))

    @property
    def space(self) -> Categorical:
        """The space of the data: there is no mask."""
        return self.letters

    @property
    def predictions(self) -> dict[str, Prediction]:
        """One: the logits, ``(*event, letters)``."""
        return _logits(self.letters)

    def draw(self, t: Any, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        """x_t: every site from ``x1`` with probability κ(t), else from ``x0``."""
        return _draw(self.schedule, t, x0, x1, rng)

    def target(self, name: str, draw: Draw) -> Tensor:
        """The letters of x1."""
        return _target(name, draw, "MixturePath.target")

    def jumps(self, t: Tensor, state: Tensor, logits: Tensor) -> MixtureJumps:
        """The marginal jump part: sites resampled from the logits at κ̇/(1−κ)."""
        return MixtureJumps(logits, state, self.schedule, t)

    def conditional_generator(self, x0: Any, x1: Tensor) -> MarkovGenerator:
        """Sites that differ from ``x1`` jump there at κ̇/(1−κ)."""
        return _bridge(self.space, self.schedule, x1)

    def renoise(self, t_from: Any, t_to: Any, state: Tensor, rng: torch.Generator) -> Tensor:
        """x at ``t_to`` ≤ ``t_from``: kept with probability κ(t_to)/κ(t_from), else fresh."""
        fresh = self.base().sample(state.shape[0], rng).to(state.device)
        return _renoise(self.schedule, t_from, t_to, state, fresh, rng)

    def base(self) -> Law:
        """The law at t = 0."""
        return UniformLetters(self.letters) if self.noise is None else self.noise


def masked(schedule: KeepSchedule, state_space: Any) -> MaskedPath:
    """The component ``path.discrete.masked``: on the letters' space, with a mask added.

    Example:
        >>> from genpath.schedules import linear_keep
        >>> masked(linear_keep(), Categorical(3, (2,))).predictions["logits"].output_shape
        (2, 3)
    """
    return MaskedPath(_letters(state_space, "path.discrete.masked"), schedule)


def mixture(schedule: KeepSchedule, state_space: Any) -> MixturePath:
    """The component ``path.discrete.mixture``: base letters that turn into data letters.

    Example:
        >>> from genpath.schedules import linear_keep
        >>> path, zeros = mixture(linear_keep(), Categorical(3, (2,))), torch.zeros(1, 2).long()
        >>> path.draw(torch.ones(1), zeros, zeros + 2, torch.Generator()).state  # t = 1: the data
        tensor([[2, 2]])
    """
    return MixturePath(_letters(state_space, "path.discrete.mixture"), schedule)
