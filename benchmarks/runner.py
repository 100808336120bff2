"""How two implementations are timed side by side.

A `Case` is one thing computed by ours and by each peer. Its check runs first: what does not agree
is not timed. Then all contenders are called in turns, the order rotated by one every round, so that
neither a slow minute nor a warm cache favours one of them. With a_k the seconds per call of ours in
round k and b_k those of a peer,

    ours = median a_k,     peer = median b_k,     ratio = median a_k / b_k,

each with its quartiles. A ratio below 1 means that ours is faster. One turn repeats the call until
it lasts `LEAST` seconds, so that the clock's resolution does not count. A case that takes longer
than `LIMIT` ends after fewer rounds than asked for, never fewer than five of them.

The clock "cpu" is the processor time of this process, user and system (`time.process_time`): other
programs on the machine do not add to it. The clock "children" is the same of the processes that a
call started and waited for; the clock "wall" is the time that passes.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import math
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor
from torch.profiler import ProfilerActivity, profile

__all__ = [
    "OURS",
    "Case",
    "Disagreement",
    "Entry",
    "Measured",
    "Spread",
    "agree",
    "installed",
    "measure",
    "peak_bytes",
]

OURS = "genpath"
LEAST = 0.01  # seconds of one turn
LIMIT = 8.0  # seconds after which no further round of a case begins, once there are five


def children_time() -> float:
    """Processor time, user and system, of the processes that have been started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


CLOCKS = {"cpu": time.process_time, "children": children_time, "wall": time.perf_counter}
Clock = Literal["cpu", "children", "wall"]
Call = Callable[[], object]


class Disagreement(AssertionError):
    """Ours and a peer do not compute the same thing, so that their times do not compare."""


@dataclass(frozen=True)
class Case:
    """One thing, computed by ours and by its peers.

    Args:
        label: what is computed, with its sizes.
        ours: a call of ours.
        peers: name → a call that computes the same; the distribution's name where it has one.
        check: raises `Disagreement` unless ours and the peers agree.
        per: how many units one call makes, e.g. steps: times are given per unit.
        counts: what is counted and not timed, e.g. evaluations: what → contender → a function that
            counts it.
    """

    label: str
    ours: Call
    peers: Mapping[str, Call]
    check: Call
    per: int = 1
    counts: Mapping[str, Mapping[str, Callable[[], int]]] = field(default_factory=dict)

    @property
    def contenders(self) -> dict[str, Call]:
        """Ours and the peers, by name."""
        return {OURS: self.ours, **self.peers}


@dataclass(frozen=True)
class Entry:
    """A family of cases: one file of `benchmarks/entries`.

    Args:
        cases: ``cases(tiny) -> cases``; with ``tiny`` every size is a few rows.
        needs: distributions of peers; a case leaves out the peers that are not installed.
        clock: "cpu", or "children" or "wall" for what runs in other processes.
        memory: whether the memory of a call is measured too.
        notes: what a reader of the numbers must know, as sentences.
    """

    cases: Callable[[bool], Iterable[Case]]
    needs: tuple[str, ...] = ()
    clock: Clock = "cpu"
    memory: bool = False
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """The peers that are not installed."""
        return tuple(name for name in self.needs if not installed(name))


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        if len(values) == 1:
            return Spread(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(median, low, high)


@dataclass(frozen=True)
class Measured:
    """What was measured of a case: seconds per unit, ratios, bytes at the peak, counts."""

    label: str
    rounds: int
    seconds: Mapping[str, Spread]
    ratios: Mapping[str, Spread]
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def measure(
    case: Case,
    *,
    repeats: int,
    clock: Clock = "cpu",
    memory: bool = False,
    least: float = LEAST,
    limit: float = LIMIT,
) -> Measured:
    """Check a case, then time its contenders in turns, for at most ``repeats`` rounds.

    Raises:
        Disagreement: from the case's check, before anything is timed.
    """
    case.check()
    calls, now = case.contenders, CLOCKS[clock]
    peaks = {name: peak_bytes(call) for name, call in calls.items()} if memory else {}
    numbers = {name: _number(call, now, least) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    names, spent, turn = list(calls), 0.0, 0
    while turn < repeats and (turn < 5 or spent < limit):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            took = _timed(calls[name], numbers[name], now)
            times[name].append(took / numbers[name] / case.per)
            spent += took
        turn += 1
    return Measured(
        case.label,
        turn,
        {name: Spread.of(values) for name, values in times.items()},
        {name: Spread.of(_ratios(times[OURS], times[name])) for name in case.peers},
        peaks,
        {what: {n: count() for n, count in each.items()} for what, each in case.counts.items()},
    )


def _ratios(ours: Sequence[float], peer: Sequence[float]) -> list[float]:
    """Round by round; a time of 0, below the clock's resolution, gives no number."""
    return [a / b if b else math.nan for a, b in zip(ours, peer, strict=True)]


def _number(call: Call, now: Callable[[], float], least: float) -> int:
    """How often to call for a turn of ``least`` seconds; the calls made here are the warm-up."""
    _timed(call, 1, now)
    number = 1
    while (spent := _timed(call, number, now)) < least:
        number = max(2 * number, math.ceil(number * least / spent) if spent else 0)
    return number


def _timed(call: Call, number: int, now: Callable[[], float]) -> float:
    """The seconds of ``number`` calls, without garbage collection, as in `timeit`."""
    collects = gc.isenabled()
    gc.disable()
    try:
        start = now()
        for _ in range(number):
            call()
        return now() - start
    finally:
        if collects:
            gc.enable()


def peak_bytes(call: Call) -> int:
    """The most memory that torch holds at once for a call, above what it held before: bytes.

    Counted from the allocations that torch's profiler reports, the result of the call included.
    """
    with silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    allocations = [event for event in events if event.get("name") == "[memory]"]
    held = peak = 0
    for event in sorted(allocations, key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


@contextmanager
def silent() -> Iterator[None]:
    """Standard error to nowhere: torch's profiler writes there when it starts and stops."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def installed(distribution: str) -> bool:
    """Whether a peer is there, by the name of its distribution."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def agree(what: str, ours: Tensor, peer: Tensor, tolerance: float) -> None:
    """Ours and a peer's result are the same up to ``tolerance``, relative to the largest entry.

    Raises:
        Disagreement: they differ by more, or in shape.
    """
    if ours.shape != peer.shape:
        raise Disagreement(f"{what}: shapes {tuple(ours.shape)} and {tuple(peer.shape)}")
    scale = max(float(peer.abs().max()), 1e-30)
    error = float((ours - peer).abs().max()) / scale
    if not error <= tolerance:
        raise Disagreement(f"{what}: they differ by {error:.2g} of the largest entry")
