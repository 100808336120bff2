r"""Jump parts on letters whose rate is a hazard of time times a law of targets.

    Q(x → v at site i) = h(t) π_i(v),   v ≠ x_i        h = κ̇/(1−κ)
    H = ∫_t^{t'} h = log((1−κ(t))/(1−κ(t')))

With π frozen over a step, a site is a rank-one chain, whose transition is known in closed form:
stay put with probability e^{−H} + (1−e^{−H}) π(x_i). So the exposure of a step, −log P(stay), is

    E = H                                   π(x_i) = 0: a masked site, or a target known elsewhere
    E = −log(π(x_i) + (1 − π(x_i)) e^{−H})   in general

and a step of `genpath.samplers.Euler` reveals a mask with probability 1 − e^{−H} =
(κ(t')−κ(t))/(1−κ(t)): the ancestral step (Austin et al. 2021, arXiv 2107.03006; Sahoo et al. 2024,
arXiv 2406.07524). Over the last step H = ∞, and every mask is revealed. Freezing the *rate*
instead, 1 − exp(−h(t)Δt), leaves a fraction Π exp(−1/(N−i)) ≈ e^{−γ}/N of the masks behind after N
equal steps (γ = 0.577…). Sites with no rate have exposure 0 over the last step too: 0 · ∞ is 0.

Targets are drawn by inverse CDF in float64, one uniform per site: a letter of probability 1e-8
keeps it. Gumbel maxima in float32 do not (Zheng et al. 2024, arXiv 2409.02908). The step of masked
sites is one operation from the logits, `genpath_discrete.kernels.masked_step`: it draws letters
only where a mask is revealed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.errors import ShapeError
from genpath.jumps import RateJumps, pick
from genpath.schedules import KeepSchedule
from genpath.states import per_row

from .kernels import masked_step

__all__ = ["GoalJumps", "MaskedJumps", "MixtureJumps"]


def _rate(schedule: KeepSchedule, t: Tensor, factor: Tensor) -> Tensor:
    """h(t) · factor, with 0 where the factor is 0 (h(1) = ∞)."""
    hazard = per_row(schedule.hazard(t), factor)
    return torch.where(factor > 0, hazard * factor, 0.0)


def _integrated(schedule: KeepSchedule, t: float, t_next: float) -> Tensor:
    """H over [t, t_next], float64; ∞ when t_next = 1."""
    ends = torch.tensor([t, t_next], dtype=torch.float64)
    if t >= 1:
        return ends.new_tensor(torch.inf)
    return schedule.integrated_hazard(ends[0], ends[1])


def _revealed(schedule: KeepSchedule, t: float, t_next: float) -> float:
    """1 − e^{−H} = (κ(t')−κ(t))/(1−κ(t)); 1 where κ(t) = 1 or t' = 1."""
    start, end = schedule.kappa(torch.tensor([t, t_next], dtype=torch.float64)).tolist()
    return 1.0 if t_next >= 1 or start >= 1 else (end - start) / (1 - start)


def _pair(where: str, logits: Tensor, sites: Tensor) -> None:
    if logits.shape[:-1] != sites.shape:
        raise ShapeError(
            where,
            "there is one row of logits per site, without a mask column.",
            got=f"logits {tuple(logits.shape)}, sites {tuple(sites.shape)}",
            fix="let the network return (batch, *event, letters)",
        )


@dataclass(frozen=True)
class MaskedJumps:
    """Masked sites are revealed at the hazard, with letters from the logits; others rest.

    Args:
        logits: ``(batch, *sites, letters)``, real letters only: the mask has no column, so it has
            probability 0, and an unmasked site has no rate, so it is carried over.
        masked: which sites are masked, bool ``(batch, *sites)``.
        schedule: κ.
        t: times ``(batch,)``.

    Raises:
        ShapeError: logits and sites do not pair up.

    Example:
        >>> from genpath.schedules import linear_keep
        >>> masked = torch.tensor([[True, False]])
        >>> jumps = MaskedJumps(torch.zeros(1, 2, 3), masked, linear_keep(), torch.tensor([0.5]))
        >>> jumps.intensity()
        tensor([[2., 0.]])
        >>> jumps.exposure(0.5, 1.0)
        tensor([[inf, 0.]])
    """

    logits: Tensor
    masked: Tensor
    schedule: KeepSchedule
    t: Tensor

    def __post_init__(self) -> None:
        _pair("MaskedJumps", self.logits, self.masked)

    def intensity(self) -> Tensor:
        """κ̇/(1−κ) at masked sites, 0 elsewhere: ``(batch, *sites)``; infinite at t = 1."""
        return _rate(self.schedule, self.t, self.masked.to(self.t.dtype))

    def exposure(self, t: float, t_next: float) -> Tensor:
        """The hazard integrated in closed form at masked sites, 0 elsewhere."""
        hazard = _integrated(self.schedule, t, t_next).to(self.logits.dtype)
        return torch.where(self.masked, hazard, 0.0)

    def targets(self, rng: torch.Generator) -> Tensor:
        """A letter for every site, from softmax(logits)."""
        return pick(self.logits.double().softmax(-1), rng)

    def leap(self, x: Tensor, t: float, t_next: float, rng: torch.Generator) -> Tensor:
        """``x`` with masks revealed with probability 1 − e^{−H}, in one pass over the logits.

        Two float64 uniforms per site are drawn, whether it is masked or not. A masked site whose
        logits give no law stays as it is (`genpath_discrete.kernels.masked_step`).
        """
        reveal, letter = torch.rand(
            (2, *x.shape), generator=rng, device=x.device, dtype=torch.float64
        )
        chance = reveal.new_full((), _revealed(self.schedule, t, t_next))
        veiled = x.masked_fill(self.masked, -1)
        found = masked_step(self.logits, veiled, reveal, letter, chance, mask=-1)
        return torch.where(found < 0, x, found)

    def log_target(self, target: Tensor) -> Tensor:
        """log softmax(logits)[target], −∞ at the mask: ``(batch, *sites)``."""
        letters = self.logits.shape[-1]
        index = target.clamp_max(letters - 1).unsqueeze(-1)
        chosen = self.logits.log_softmax(-1).gather(-1, index).squeeze(-1)
        return chosen.masked_fill(target >= letters, -torch.inf)

    def rates(self) -> Tensor:
        """All rates ``(batch, *sites, letters + 1)``, the mask last."""
        probabilities = self.logits.softmax(-1).to(self.t.dtype)
        rates = _rate(self.schedule, self.t, self.masked.unsqueeze(-1) * probabilities)
        return torch.cat([rates, torch.zeros_like(rates[..., :1])], -1)

    def atoms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """All single-site changes of ``x`` with their rates."""
        return RateJumps(self.rates(), x).atoms(x)


@dataclass(frozen=True)
class MixtureJumps:
    """Every site is resampled from the logits at the hazard; landing where it is counts as rest.

    Args:
        logits: ``(batch, *sites, letters)``.
        x: the present letters ``(batch, *sites)``.
        schedule: κ.
        t: times ``(batch,)``.

    Example:
        >>> from genpath.schedules import linear_keep
        >>> logits = torch.tensor([[0.25, 0.75]]).log()
        >>> jumps = MixtureJumps(logits, torch.tensor([0]), linear_keep(), torch.tensor([0.0]))
        >>> jumps.intensity()
        tensor([0.7500])
        >>> torch.exp(-jumps.exposure(0.0, 1.0))  # P(stay) over the whole of time is π(x)
        tensor([0.2500])
    """

    logits: Tensor
    x: Tensor
    schedule: KeepSchedule
    t: Tensor

    def __post_init__(self) -> None:
        _pair("MixtureJumps", self.logits, self.x)

    def _present(self) -> Tensor:
        """π(x), ``(batch, *sites)``."""
        return self.logits.softmax(-1).gather(-1, self.x.unsqueeze(-1)).squeeze(-1)

    def intensity(self) -> Tensor:
        """κ̇/(1−κ) · (1 − π(x)): ``(batch, *sites)``."""
        return _rate(self.schedule, self.t, 1 - self._present())

    def exposure(self, t: float, t_next: float) -> Tensor:
        """−log P(stay) of the rank-one chain over the step; −log π(x) when t_next = 1."""
        stays = torch.exp(-_integrated(self.schedule, t, t_next)).to(self.logits.dtype)
        present = self._present()
        return -torch.log(present + (1 - present) * stays)

    def _others(self) -> Tensor:
        here = torch.nn.functional.one_hot(self.x, self.logits.shape[-1]).bool()
        return self.logits.double().softmax(-1).masked_fill(here, 0.0)

    def targets(self, rng: torch.Generator) -> Tensor:
        """A letter other than the present one for every site."""
        return pick(self._others(), rng)

    def log_target(self, target: Tensor) -> Tensor:
        """The log-probability that a jump of each site lands on ``target``."""
        weights = self._others()
        chosen = weights.gather(-1, target.unsqueeze(-1)).squeeze(-1)
        found = (chosen.log() - weights.sum(-1).log()).to(self.logits.dtype)
        return found.masked_fill(chosen == 0, -torch.inf)

    def rates(self) -> Tensor:
        """All rates ``(batch, *sites, letters)``; the entry of the present letter counts as 0."""
        return _rate(self.schedule, self.t, self._others().to(self.t.dtype))

    def atoms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """All single-site changes of ``x`` with their rates."""
        return RateJumps(self.rates(), x).atoms(x)


@dataclass(frozen=True)
class GoalJumps:
    """Every site that is not yet at its goal jumps there at the hazard: a path with known ends.

    Args:
        goal: the letters to reach ``(batch, *sites)``.
        x: the present letters ``(batch, *sites)``.
        size: the letters of the space, the mask counted.
        schedule: κ.
        t: times ``(batch,)``.

    Example:
        >>> from genpath.schedules import linear_keep
        >>> goal, x = torch.tensor([[2, 0]]), torch.tensor([[1, 0]])
        >>> jumps = GoalJumps(goal, x, 3, linear_keep(), torch.tensor([0.5]))
        >>> jumps.intensity()
        tensor([[2., 0.]])
        >>> jumps.exposure(0.5, 0.75)
        tensor([[0.6931, 0.0000]])
    """

    goal: Tensor
    x: Tensor
    size: int
    schedule: KeepSchedule
    t: Tensor

    def intensity(self) -> Tensor:
        """κ̇/(1−κ) where x ≠ goal, 0 elsewhere."""
        return _rate(self.schedule, self.t, (self.x != self.goal).to(self.t.dtype))

    def exposure(self, t: float, t_next: float) -> Tensor:
        """The hazard integrated in closed form where x ≠ goal, 0 elsewhere."""
        hazard = _integrated(self.schedule, t, t_next).to(self.t.dtype)
        return torch.where(self.x != self.goal, hazard, 0.0)

    def targets(self, rng: torch.Generator) -> Tensor:
        """The goal; nothing is random about where a jump lands."""
        return self.goal

    def log_target(self, target: Tensor) -> Tensor:
        """0 at the goal, −∞ elsewhere."""
        return torch.zeros_like(target, dtype=self.t.dtype).masked_fill(
            target != self.goal, -torch.inf
        )

    def atoms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """All single-site changes of ``x`` with their rates."""
        goal = torch.nn.functional.one_hot(self.goal, self.size).to(self.t.dtype)
        return RateJumps(_rate(self.schedule, self.t, goal), x).atoms(x)
