"""The fields of an exact marginal, by the names of predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError
from genpath.states import Field

FIELDS = (
    "velocity",
    "interpolant_velocity",
    "denoiser",
    "base_denoiser",
    "noise",
    "score",
)
"""The fields of a marginal, by the names of predictions."""


class Named:
    """Fields that are methods, by their names."""

    def field(self, name: str) -> Field:
        """The field of a prediction by its name; a joint name "a+b" stacks two on axis 1.

        Raises:
            CapabilityError: an unknown name.
        """
        parts = name.split("+", 1)
        for part in parts:
            if part not in FIELDS:
                raise CapabilityError(
                    f"{type(self).__name__}.field",
                    f"it has no field {part!r}.",
                    fix="choose of " + ", ".join(FIELDS) + ', or join two as "velocity+score"',
                )
        if len(parts) == 2:
            return self._stacked(parts)
        found: Field = getattr(self, name)
        return found

    def _stacked(self, parts: list[str]) -> Field:
        each: list[Callable[..., Tensor]] = [getattr(self, part) for part in parts]
        return lambda t, x: torch.stack([one(t, x) for one in each], 1)


class OnePass(Named, ABC):
    """Fields that share their work: each is one of `fields`, which finds several at once."""

    @abstractmethod
    def fields(self, names: Iterable[str], t: Tensor | float, x: Tensor) -> dict[str, Tensor]:
        """Several fields from one pass: name → ``(batch, *event)``."""

    def log_prob(self, t: Tensor | float, x: Tensor) -> Tensor:
        """log p_t(x): ``(batch,)``."""
        return self._one("log_prob", t, x)

    def velocity(self, t: Tensor | float, x: Tensor) -> Tensor:
        """b = E[ẋ_t | x_t = x], the velocity of the probability flow."""
        return self._one("velocity", t, x)

    def interpolant_velocity(self, t: Tensor | float, x: Tensor) -> Tensor:
        """v = E[α̇ x0 + β̇ x1 | x_t = x] = b + γγ̇ s."""
        return self._one("interpolant_velocity", t, x)

    def score(self, t: Tensor | float, x: Tensor) -> Tensor:
        """∇log p_t(x)."""
        return self._one("score", t, x)

    def denoiser(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[x1 | x_t = x]."""
        return self._one("denoiser", t, x)

    def base_denoiser(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[x0 | x_t = x]."""
        return self._one("base_denoiser", t, x)

    def noise(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[z | x_t = x]; 0 where γ = 0."""
        return self._one("noise", t, x)

    def _one(self, name: str, t: Tensor | float, x: Tensor) -> Tensor:
        return self.fields((name,), t, x)[name]

    def _stacked(self, parts: list[str]) -> Field:
        def both(t: Any, x: Any) -> Tensor:
            found = self.fields(parts, t, x)
            return torch.stack([found[part] for part in parts], 1)

        return both

    def _wanted(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names, each once.

        Raises:
            CapabilityError: an unknown name.
        """
        wanted, known = tuple(dict.fromkeys(names)), (*FIELDS, "log_prob")
        for name in wanted:
            if name not in known:
                raise CapabilityError(
                    f"{type(self).__name__}.fields",
                    f"it has no field {name!r}.",
                    fix="choose of " + ", ".join(known),
                )
        return wanted
