"""What an author gives of a path, and the faults that its claims plant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.errors import CapabilityError, GenpathError
from genpath.generators import MarkovGenerator
from genpath.models import ODE, Jump
from genpath.paths import Draw, MarkovianPath, ProbabilityPath, Time
from genpath.predictions import plan
from genpath.states import gather, map_state

from ..claims import Control, Trial, but, dial
from .probes import Probe, probes

Make = Callable[[], ProbabilityPath]
DrawPairs = Callable[[int, torch.Generator], Pairs]
Fields = Mapping[str, Callable[[Tensor, Any], Any]]


@dataclass(frozen=True)
class Plan:
    """What the author gave."""

    pairs: DrawPairs
    fields: Fields
    functions: Sequence[Probe] | None
    times: tuple[float, ...]
    ends: tuple[float | None, float | None]
    rules: bool
    rows: int

    def probes(self, path: ProbabilityPath, trial: Trial) -> Sequence[Probe]:
        """The test functions: of x_t at the times of the plan."""
        if self.functions is not None:
            return self.functions
        rng = trial.rng("probes")
        ends = self.pairs(64, rng)
        t = uniform(self.times, 64, rng)
        return probes(path.space, path.draw(t, ends.x0, ends.x1, rng).state, rng)

    def affine_rules(self, path: ProbabilityPath) -> list[Any]:
        known = path.predictions
        usable = [r for r in path.rules if r.gives in known and all(n in known for n in r.needs)]
        return usable if self.rules else []

    def velocities(self, path: ProbabilityPath) -> bool:
        """Whether the velocity's target can be compared with the conditional generator."""
        if "velocity" not in path.predictions:
            return False
        ends = self.pairs(1, torch.Generator().manual_seed(0))
        return is_flow(path, ends.x0, ends.x1)

    def letters(self, path: ProbabilityPath) -> bool:
        return "logits" in path.predictions and hasattr(path, "jumps")

    def has_targets(self, path: ProbabilityPath) -> bool:
        found = self.fields or self.affine_rules(path)
        return bool(found) or self.velocities(path) or self.letters(path)

    def marginal(self, path: ProbabilityPath) -> dict[str, MarkovGenerator]:
        """The marginal generator, made of each field that leads to one."""
        found = {}
        for name, exact_field in self.fields.items():
            if self.letters(path) and name == "logits":
                found[name] = Jump().generator(path, name, exact_field)
            elif leads(path, name, "velocity"):
                found[name] = ODE().generator(path, name, exact_field)
        return found


def is_flow(path: ProbabilityPath, x0: Any, x1: Any) -> bool:
    """Whether the conditional generator has a velocity and nothing else."""
    return path.conditional_generator(x0, x1).has == {"velocity"}


def renoises(path: ProbabilityPath, pairs: DrawPairs) -> bool:
    """Whether the path has a noising kernel and does not refuse to draw from it."""
    if not isinstance(path, MarkovianPath):
        return False
    rng = torch.Generator().manual_seed(0)
    ends, t = pairs(1, rng), torch.full((1,), 0.5, dtype=torch.float64)
    try:
        path.renoise(t, t, path.draw(t, ends.x0, ends.x1, rng).state, rng)
    except CapabilityError:
        return False
    return True


def leads(path: ProbabilityPath, name: str, want: str) -> bool:
    """Whether the rules lead from one prediction to another."""
    try:
        plan(path.rules, [name], want)
    except GenpathError:
        return False
    return want in path.predictions


def uniform(times: Sequence[float], count: int, rng: torch.Generator) -> Tensor:
    """Uniform times between the first and the last, ``(count,)``."""
    u = torch.rand(count, generator=rng, dtype=torch.float64)
    return times[0] + (times[-1] - times[0]) * u


def rows_of(state: Any, index: Any) -> Any:
    """The rows of a state, or None where there is none."""
    return None if state is None else gather(state, torch.as_tensor(index, dtype=torch.long))


def redraw(path: ProbabilityPath, change: Callable[[Any], Any]) -> ProbabilityPath:
    """The path whose x_t is drawn at another time, and says otherwise."""

    def draw(t: Any, x0: Any, x1: Any, rng: torch.Generator) -> Draw:
        return replace(path.draw(change(t), x0, x1, rng), t=t)

    return but(path, draw=draw)


def _times(change: Callable[[Tensor], Tensor]) -> Callable[[Time], Time]:
    return lambda t: map_state(change, t)


def _late(path: ProbabilityPath, size: float) -> ProbabilityPath:
    return redraw(path, _times(lambda t: (1 - size) * t))


LATE: Control[ProbabilityPath] = dial("x_t is drawn at (1 − δ) t", _late, 0.5)
EARLY: Control[ProbabilityPath] = dial(
    "x_t is drawn at t + δ(1 − t)",
    lambda path, size: redraw(path, _times(lambda t: t + size * (1 - t))),
    0.5,
)
ONE_TIME: Control[ProbabilityPath] = Control(
    "all rows are drawn at the time of the first",
    lambda path: redraw(path, _times(lambda t: t[:1].expand_as(t) if t.dim() else t)),
)


def leaves(state: Any) -> list[Tensor]:
    """The leaves of a state that have entries."""
    found = [state] if isinstance(state, Tensor) else list(state.values())
    return [leaf for leaf in found if leaf.numel()]
