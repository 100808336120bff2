"""Progress: what a person sees while a run works.

On a terminal, one live line with at most five updates a second; elsewhere, one plain line every ten
seconds. Telling costs a comparison of clocks; it never waits for the device.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["Display", "Task"]

UPDATES_PER_SECOND = 5
SECONDS_PER_LINE = 10.0


class Task:
    """Something long: tell it how far it is.

    Args:
        console: where lines go.
        what: its name.
        total: how many steps it has.
        live: the live display and the task's number in it, or None for plain lines.
        done: steps that are behind it already.
    """

    def __init__(
        self,
        console: Console,
        what: str,
        total: int,
        live: tuple[Progress, Any] | None,
        done: int = 0,
    ) -> None:
        self._console, self._what, self._total, self._live = console, what, total, live
        self._start, self._first = time.monotonic(), done
        self._shown = self._start if live is None else 0.0

    def update(self, done: int, note: str = "") -> None:
        """Say how many steps are done, with a note such as the loss."""
        now = time.monotonic()
        wait = SECONDS_PER_LINE if self._live is None else 1 / UPDATES_PER_SECOND
        if now - self._shown < wait and not (self._live is not None and done == self._total):
            return
        self._shown = now
        if self._live is None and done >= self._total:
            self._end(done, note, now - self._start)
            return
        speed = (done - self._first) / max(now - self._start, 1e-9)
        text = "  ".join(part for part in (note, f"{speed:.3g}/s") if part)
        if self._live is not None:
            progress, number = self._live
            progress.update(number, completed=done, total=self._total, note=text)
        else:
            left = (self._total - done) / speed if speed > 0 else float("inf")
            self._line(f"{self._what} {done}/{self._total}  {text}  {_duration(left)} left")

    def _end(self, done: int, note: str, seconds: float) -> None:
        text = f"  {note}" if note else ""
        self._line(f"{self._what} {done}/{self._total}{text}  in {_duration(seconds)}")

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    if not seconds < 1e9:
        return "?"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


class Display:
    """Shows long work on a console.

    Args:
        console: where to show it.

    Example:
        >>> import io
        >>> console = Console(file=io.StringIO())
        >>> with Display(console).task("count", 2) as task:
        ...     task.update(1)
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def task(self, what: str, total: int, done: int = 0) -> Iterator[Task]:
        """One long thing; the live line disappears at its end."""
        if not self.console.is_terminal:
            yield Task(self.console, what, total, None, done)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns,
            console=self.console,
            refresh_per_second=UPDATES_PER_SECOND,
            transient=True,
            speed_estimate_period=30,
        ) as progress:
            number = progress.add_task(what, total=total, completed=done, note="")
            yield Task(self.console, what, total, (progress, number), done)

    @contextmanager
    def evaluation(self, name: str) -> Iterator[Any]:
        """A function ``progress(what, done, total)`` for an evaluation's own long work."""
        if not self.console.is_terminal:
            tasks: dict[str, Task] = {}

            def tell(what: str, done: int, total: int) -> None:
                tasks.setdefault(what, Task(self.console, what, total, None)).update(done)

            yield tell
            return
        with self.task(name, 1) as task:
            assert task._live is not None
            progress, number = task._live
            last = [0.0]

            def show(what: str, done: int, total: int) -> None:
                now = time.monotonic()
                if now - last[0] >= 1 / UPDATES_PER_SECOND or done == total:
                    last[0] = now
                    progress.update(number, description=what, completed=done, total=total)

            yield show
