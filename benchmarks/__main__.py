"""``python -m benchmarks [NAME …]``: run entries, print their tables, write their results."""

from __future__ import annotations

import argparse
import difflib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from genpath.memory import keep_freed_blocks

from . import entries, record, tables
from .runner import LEAST, Measured, measure

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the status is 0, or 2 for an unknown name."""
    options = parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 132)
    names = entries.names()
    if options.list:
        for name in names:
            console.print(f"{name:<14} {entries.title(name)}", highlight=False)
        return 0
    if options.show or options.markdown:
        for results in record.read(options.out):
            if not options.names or results["entry"] in options.names:
                if options.markdown:
                    print(tables.markdown(results))
                else:
                    tables.show(results, console)
        return 0
    for name in options.names:
        if name not in names:
            print(unknown(name, names), file=sys.stderr)
            return 2
    torch.set_num_threads(1)
    keep_freed_blocks()  # all contenders: a page fault more or less would hide what is measured
    for name in options.names or names:
        run(name, options.repeats, options.tiny, options.out, console)
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="hatch run bench:run", description=__doc__)
    found.add_argument("names", nargs="*", metavar="NAME", help="entries to run; all if left out")
    found.add_argument("--repeats", type=int, default=15, help="rounds of each case [15]")
    found.add_argument("--list", action="store_true", help="what can be run")
    found.add_argument("--show", action="store_true", help="print the stored results")
    found.add_argument("--markdown", action="store_true", help="print the stored results as tables")
    found.add_argument("--tiny", action="store_true", help="a few rows, one call per turn")
    found.add_argument("--out", type=Path, default=record.RESULTS, help="folder of the results")
    return found


def unknown(name: str, names: Sequence[str]) -> str:
    """What to say about a name that no entry has."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0)
    return f"there is no entry {name!r}; the nearest is {near[0]!r} (all of them: --list)"


def run(name: str, repeats: int, tiny: bool, out: Path, console: Console) -> None:
    """One entry: measure, print, and write unless something is missing from it."""
    started, measured = time.perf_counter(), list[Measured]()
    entry = entries.load(name)
    versions = record.versions(peer for peer in entry.needs if peer not in entry.missing)
    for case in entry.cases(tiny):
        if console.is_terminal:
            console.print(f"[dim]{name}: {case.label}[/dim]")
        how = {"clock": entry.clock, "memory": entry.memory, "least": 0.0 if tiny else LEAST}
        measured.append(measure(case, repeats=repeats, **how))
    results = record.describe(name, entries.title(name), entry, measured, versions)
    tables.show(record.rounded(results), console)
    took = f"{time.perf_counter() - started:.0f} s"
    if entry.missing:
        absent = ", ".join(entry.missing)
        print(f"{took}; not written, {absent} is not installed: use hatch run bench:run")
    elif tiny and out == record.RESULTS:
        print(f"{took}; not written: --tiny measures nothing")
    else:
        print(f"{took}; written to {record.write(results, out)}")


if __name__ == "__main__":
    sys.exit(main())
