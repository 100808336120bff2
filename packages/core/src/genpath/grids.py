"""Time grids: the times of a solve, as values."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from .errors import DomainError

__all__ = ["TimeGrid"]


@dataclass(frozen=True)
class TimeGrid:
    """The times of a solve, as plain numbers in [0, 1], not necessarily monotone.

    Args:
        times: at least two finite numbers; consecutive ones differ.

    Raises:
        DomainError: a time is not finite or outside [0, 1], or a step has length 0.

    Example:
        >>> TimeGrid.uniform(4).times
        (0.0, 0.25, 0.5, 0.75, 1.0)
    """

    times: tuple[float, ...]

    def __post_init__(self) -> None:
        values = tuple(float(t) for t in self.times)
        object.__setattr__(self, "times", values)
        if len(values) < 2 or any(not (math.isfinite(t) and 0 <= t <= 1) for t in values):
            raise DomainError(
                "TimeGrid",
                "a grid has at least two finite times in [0, 1].",
                got=", ".join(f"{t:g}" for t in values[:6]) + (", …" if len(values) > 6 else ""),
                fix="convert noise levels or step indices to t first; t = 1 is the data",
            )
        if any(a == b for a, b in itertools.pairwise(values)):
            raise DomainError("TimeGrid", "consecutive times differ.", got="a step of length 0")

    @staticmethod
    def uniform(steps: int, start: float = 0.0, end: float = 1.0) -> TimeGrid:
        """``steps`` equal steps from ``start`` to ``end`` (either may be the larger)."""
        if steps < 1:
            raise DomainError("TimeGrid.uniform", "there is at least one step.", got=f"{steps}")
        return TimeGrid(tuple(start + (end - start) * i / steps for i in range(steps)) + (end,))

    @property
    def increasing(self) -> bool:
        """Whether time only runs forward."""
        return all(a < b for a, b in itertools.pairwise(self.times))

    def reversed(self) -> TimeGrid:
        """The same times, last first."""
        return TimeGrid(self.times[::-1])

    def __len__(self) -> int:
        return len(self.times)
