"""Time grids: the times of a solve, as values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
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

    def through(self, points: Iterable[float]) -> TimeGrid:
        """The grid with these times added wherever it passes one: for schedules with kinks.

        A method of order p keeps it where a schedule is smooth between the times of the grid. A
        point outside of the grid is left out, as is one within 1e-9 of a time of the grid.

        Example:
            >>> TimeGrid.uniform(3).through([0.5]).times == (0.0, 1 / 3, 0.5, 2 / 3, 1.0)
            True
            >>> TimeGrid((1.0, 0.0)).through([0.25, 0.5, 1.0]).times
            (1.0, 0.5, 0.25, 0.0)
        """
        known = sorted({float(p) for p in points})
        times = [self.times[0]]
        for start, end in itertools.pairwise(self.times):
            low, high = min(start, end) + 1e-9, max(start, end) - 1e-9
            inside = [p for p in known if low < p < high]
            times += [*(inside if start < end else inside[::-1]), end]
        return TimeGrid(tuple(times))

    def __len__(self) -> int:
        return len(self.times)
