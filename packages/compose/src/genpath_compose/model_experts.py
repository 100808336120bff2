"""Trained models as experts: what `genpath run` leaves, from any plugin on R^d."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError
from genpath.laws import Gaussian
from genpath.models import Model
from genpath.predictions import plan
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean

from .experts import SMOOTH, Expert, differentiated
from .normals import Normal
from .tails import Tail, affine_tail

__all__ = ["ModelExpert"]


class ModelExpert(Expert):
    """A trained model as an expert: what `genpath run` leaves, from any plugin on R^d.

    One network call gives velocity and score, by the rules of the model's path. The tail is that of
    compact data under the path's schedule unless another is given.

    Args:
        model: its path has rules from its prediction to velocity and to score; its space is
            Euclidean. States are encoded: experts of one composition share a codec.
        name: what reports call it.
        tail, start, support: as of `FieldExpert`; derived from schedule and base where None.
        facts: leaf → value, added to the state for the network: a label.

    Raises:
        CapabilityError: the space is not R^d, or no rule leads to velocity or score.

    Example:
        >>> from genpath import Gaussian
        >>> from genpath_interpolants import LinearPath
        >>> path = LinearPath(Euclidean(2), base="gaussian")
        >>> model = Model(lambda t, x: -x, path, Gaussian((2,)), "velocity")
        >>> ModelExpert(model, "a").event_shape
        (2,)
    """

    def __init__(
        self,
        model: Model,
        name: str = "model",
        *,
        tail: Tail | None = None,
        start: Normal | None = None,
        support: Callable[[Tensor], Tensor] | None = None,
        facts: Mapping[str, float | int] | None = None,
    ) -> None:
        space = model.path.space
        if not isinstance(space, Euclidean):
            raise CapabilityError(
                f"expert {name}",
                "experts with scores live on R^d.",
                got=repr(space),
                fix="on a finite space, use genpath_compose.finite",
            )
        rules, given = model.path.rules, [model.predict]
        self._plans = {want: plan(rules, given, want) for want in ("velocity", "score")}
        self.model, self.name, self.event_shape = model, name, space.event_shape
        self.facts, self.support = dict(facts or {}), support
        self.has = SMOOTH
        schedule = getattr(model.path, "schedule", None)
        std = getattr(model.base, "std", None)
        if tail is None and isinstance(schedule, AffineSchedule) and std is not None:
            tail = affine_tail(schedule, float(std))
        if start is None and std is not None:
            start = Normal.isotropic(self.event_shape, float(model.base.mean), float(std))  # type: ignore[attr-defined]
        self.tail, self.start = tail, start
        if isinstance(schedule, AffineSchedule) and _from_noise(model, schedule):
            self.affine = schedule

    def both(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity and score from one network call."""
        state: Any = x
        if self.facts:
            rows = {k: torch.full((len(x),), v, device=x.device) for k, v in self.facts.items()}
            state = {"x": x, **rows}
        guide, raw = self.model.guide, self.model.field
        predicted = raw(t, state) if guide is None else guide(raw)(t, state)
        values: dict[str, Any] = {self.model.predict: predicted}
        for chain in self._plans.values():
            for rule in chain:
                if rule.gives not in values:
                    values[rule.gives] = rule.formula(t, x, *(values[n] for n in rule.needs))
        return values["velocity"], values["score"]

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        wanted = self.wanted(names)
        found = differentiated(self.both, wanted, t, x, probe) if wanted else {}
        return {name: found[name] for name in wanted}


def _from_noise(model: Model, schedule: AffineSchedule) -> bool:
    """Whether x_t = α x0 + β x1 with x0 ~ N(0, I) independent of the data."""
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    normal = isinstance(model.base, Gaussian) and (model.base.mean, model.base.std) == (0.0, 1.0)
    declared = getattr(model.path, "base", None) == "gaussian"
    whole = getattr(model.path, "base_covariance", None) is None
    return normal and declared and whole and float(schedule.gamma_squared(grid).abs().max()) == 0
