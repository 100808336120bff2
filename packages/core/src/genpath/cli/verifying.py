"""``genpath verify``: measure the claims, plant the controls, print a table."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from genpath.cli.inspecting import discovered
from genpath.plugins import Registry, using
from genpath.plugins.words import table

if TYPE_CHECKING:
    from genpath.testing.running import Bound, Verdict

__all__ = ["print_table", "verify"]


def verify(command: Namespace) -> int:
    """``genpath verify [TARGET ...]``; 1 where a claim fails or a control passes."""
    known = discovered(command)
    with using(known):
        if command.coverage:
            return _coverage(known)
        from genpath.testing.finding import claims_of

        bounds = claims_of(*command.targets, among=known)
        if command.seeds > 1:
            return _many_seeds(bounds, command)
        start = time.perf_counter()
        verdicts = _measure(bounds, command)
        seconds = time.perf_counter() - start
        print_table(verdicts, seed=command.seed, fast=command.fast, seconds=seconds)
        _record(known, command, verdicts)
        if command.json:
            _write_json(command, verdicts, seconds)
    failed = [verdict for verdict in verdicts if not verdict.passed]
    return 1 if failed else 0


def _measure(bounds: list[Bound], command: Namespace) -> list[Verdict]:
    """Run the claims, with progress on standard error; the verdicts in the claims' order."""
    from rich.console import Console

    from genpath.run.progress import Display

    found: dict[str, Verdict] = {}
    with Display(Console(stderr=True)).task("claims", len(bounds)) as task:
        for verdict in _verdicts(bounds, command, command.seed, search=True):
            found[verdict.bound.name] = verdict
            task.update(len(found), verdict.bound.name)
            if command.fail_fast and not verdict.passed:
                break
    return [found[bound.name] for bound in bounds if bound.name in found]


def _verdicts(
    bounds: list[Bound], command: Namespace, seed: int, *, search: bool
) -> Iterator[Verdict]:
    """The claims here, or on several processors."""
    from genpath.testing.parallel import run_in_parallel, workers
    from genpath.testing.running import run_claims

    processes = workers(len(bounds), command.jobs)
    if processes > 1:
        without = command.without
        yield from run_in_parallel(
            bounds, processes, seed=seed, fast=command.fast, search=search, without=without
        )
        return
    _one_thread()
    yield from run_claims(bounds, seed=seed, fast=command.fast, search=search)


def _one_thread() -> None:
    """Small tensors are fastest on one thread."""
    import torch

    torch.set_num_threads(1)


HEADER = ["", "claim", "estimate", "reference", "tolerance or z", "smallest control rejected"]


def print_table(
    verdicts: list[Verdict], *, seed: int, fast: bool, seconds: float | None = None
) -> None:
    """The table of ``genpath verify``: a line per claim, what failed, and the sums."""
    from genpath.testing.running import false_alarm

    by_subject: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_subject.setdefault(verdict.bound.subject, []).append(verdict)
    rows = [HEADER]
    for subject, found in by_subject.items():
        rows.append(["", subject])
        rows += [_row(verdict) for verdict in found]
    print(table([row + [""] * (len(HEADER) - len(row)) for row in rows]))
    failed = [verdict for verdict in verdicts if not verdict.passed]
    left_out = sum(bool(verdict.left_out) for verdict in verdicts)
    for verdict in failed:
        print(f"\nFAILED {verdict.bound.name}: {verdict.bound.claim.statement}")
        print("\n".join(f"  {line}" for line in verdict.faults()))
    controls = [control for verdict in verdicts for control in verdict.controls]
    rejected = sum(control.rejected for control in controls)
    if seconds is None:
        seconds = sum(verdict.seconds for verdict in verdicts)
    print(
        f"\n{len(verdicts) - len(failed) - left_out} of {len(verdicts)} claims hold, "
        f"{f'{left_out} not measured, ' if left_out else ''}"
        f"{rejected} of {len(controls)} controls rejected, seed {seed}"
        f"{', fast' if fast else ''}, {seconds:.0f} s; {_chance(false_alarm(verdicts))}"
    )


def _chance(chance: float) -> str:
    return f"chance of a false alarm below {chance:.1g}" if chance else "nothing was left to chance"


def _row(verdict: Verdict) -> list[str]:
    mark = "ok" if verdict.passed else "FAILED"
    name, worst = "  " + verdict.bound.claim.name, verdict.worst
    if verdict.left_out:
        return ["--", name, "not measured", verdict.left_out, "", ""]
    if worst is None:
        return [mark, name, "error", "", "", ""]
    tolerance = f"± {worst.tolerance:.2g}"
    if worst.z is not None and worst.bound is not None and abs(worst.z) <= worst.bound:
        tolerance = f"z = {worst.z:+.2f} of {worst.bound:.2f}"
    return [
        mark,
        name,
        f"{worst.estimate:.6g}",
        f"{worst.reference:.6g}",
        tolerance,
        verdict.smallest,
    ]


def _record(known: Registry, command: Namespace, verdicts: list[Verdict]) -> None:
    """Remember the components and topics whose whole set of claims was run."""
    from datetime import date

    from genpath.errors import RunError
    from genpath.testing.finding import claims_of, find
    from genpath.testing.records import record

    ran: dict[str, int] = {}
    for verdict in verdicts:
        ran[verdict.bound.subject] = ran.get(verdict.bound.subject, 0) + 1
    whole = [
        source
        for source in find(known, command.targets)
        if ran.get(source.subject, 0) == len(claims_of(source.subject, among=known))
    ]
    try:
        record(whole, verdicts, date.today().isoformat())
    except RunError as error:
        print(f"note: the result was not recorded: {error}", file=sys.stderr)


def _write_json(command: Namespace, verdicts: list[Verdict], seconds: float) -> None:
    from datetime import date
    from pathlib import Path

    import torch

    from genpath._version import __version__
    from genpath.run.files import guarded, write_json
    from genpath.testing.running import false_alarm

    path = Path(command.json)
    data: dict[str, Any] = {
        "genpath": __version__,
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "seed": command.seed,
        "fast": command.fast,
        "seconds": round(seconds, 1),
        "passed": all(verdict.passed for verdict in verdicts),
        "false_alarm": false_alarm(verdicts),
        "claims": [verdict.to_dict() for verdict in verdicts],
    }
    with guarded(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, data)


def _many_seeds(bounds: list[Bound], command: Namespace) -> int:
    """The same claims under further seeds: how many fail, and whether every control is rejected."""
    from rich.console import Console

    from genpath.run.progress import Display
    from genpath.testing.running import false_alarm

    seeds = range(command.seed, command.seed + command.seeds)
    faulty: list[str] = []
    failures, passed_controls, chance, done = 0, 0, 0.0, 0
    with Display(Console(stderr=True)).task("claims", len(bounds) * len(seeds)) as task:
        for seed in seeds:
            verdicts = []
            for verdict in _verdicts(bounds, command, seed, search=False):
                verdicts.append(verdict)
                task.update(done := done + 1, f"seed {seed} {verdict.bound.name}")
                faulty += [f"seed {seed} {verdict.bound.name}: {x}" for x in verdict.faults()]
            measured = [verdict for verdict in verdicts if not verdict.left_out]
            failures += sum(not verdict.holds for verdict in measured)
            passed_controls += sum(not verdict.rejects for verdict in measured)
            chance += false_alarm(verdicts)
    print("\n".join(faulty) + ("\n" if faulty else ""), end="")
    print(
        f"seeds {seeds[0]} to {seeds[-1]}: {len(bounds)} claims each, {failures} failed "
        f"(expected by chance: {chance:.1g}), {passed_controls} with a control that passed"
    )
    return 1 if failures or passed_controls else 0


def _coverage(known: Registry) -> int:
    from genpath.testing.coverage import report
    from genpath.testing.finding import claims_of

    paths = [component.subject for component in known.components("path")]
    lines: Iterable[str] = report(claims_of(among=known), paths)
    print("\n".join(lines))
    return 0
