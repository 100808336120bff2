"""Results as tables: one row per case and peer, for the terminal and for a page."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from .runner import OURS

__all__ = ["HEADINGS", "duration", "footer", "markdown", "rows", "show", "size"]

HEADINGS = ("case", OURS, "peer", "its time", "ratio", "quartiles", "memory", "counts")


def rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells under `HEADINGS`: ratio, memory and counts are ours/peer."""
    found = []
    for case in results["cases"]:
        peaks, seconds = case["peak_bytes"], case["seconds"]
        for peer, ratio in case["ratios"].items():
            memory = f"{size(peaks[OURS])} / {size(peaks[peer])}" if peaks else ""
            counts = ", ".join(
                f"{what} {each[OURS]} / {each[peer]}"
                for what, each in case.get("counts", {}).items()
                if peer in each
            )
            first = case["label"], duration(seconds[OURS]["median"])
            quartiles = f"{number(ratio['low'])}–{number(ratio['high'])}"
            found.append(
                (
                    *first,
                    peer,
                    duration(seconds[peer]["median"]),
                    number(ratio["median"]),
                    quartiles,
                    memory,
                    counts,
                )
            )
    return found


def show(results: dict[str, Any], console: Console) -> None:
    """Print the table of an entry with its notes, machine and versions."""
    table = Table(title=results["title"], title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("case", "peer") else "right")
    last = None
    for case, *cells in rows(results):
        table.add_row("" if case == last else case, *cells)
        last = case
    console.print(table)
    for line in (*results["notes"], *footer(results)):
        console.print(line, highlight=False)
    console.print()


def markdown(results: dict[str, Any]) -> str:
    """The table of an entry for a page, with a heading of the third level."""
    lines = [f"### {results['title']}", "", *results["notes"], ""]
    lines += ["| " + " | ".join(HEADINGS) + " |", "|---|--:|---|--:|--:|--:|--:|---|"]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows(results)]
    return "\n".join([*lines, "", *footer(results), ""])


def footer(results: dict[str, Any]) -> tuple[str, str]:
    """How it was measured, and on what."""
    machine, clock = results["machine"], results["clock"]
    times = {
        "cpu": "processor time of one process",
        "children": "processor time of the started process",
        "wall": "wall time",
    }[clock]
    rounds = sorted({case["rounds"] for case in results["cases"]})
    many = "–".join(str(count) for count in (rounds[0], rounds[-1])[: len(rounds)])
    how = f"Ratio = {OURS}/peer, median of {many} interleaved repeats, {times}."
    load = "" if machine["load"] is None else f" (load {machine['load']:.1f})"
    cores = f"{machine['cores']} cores{load}, {machine['threads']} thread(s)"
    system = f"{machine['system']}; Python {machine['python']}"
    names = ", ".join(f"{name} {value}" for name, value in results["versions"].items())
    return how, f"{machine['processor']}, {cores}, {system}, {names}."


def duration(seconds: float | None) -> str:
    """Seconds to three digits, in the unit that keeps them between 1 and 1000."""
    if seconds is None:
        return "?"
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:#.3g}".rstrip(".") + f" {unit}"
    raise AssertionError


def number(ratio: float | None) -> str:
    """A ratio with two decimals, or three digits where it is small."""
    if ratio is None:
        return "?"
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def size(count: int) -> str:
    """Bytes as KiB or MiB."""
    return f"{count / 2**20:.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**10:.0f} KiB"
