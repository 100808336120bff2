"""The table of a run's metrics: a number of ours beside the baseline's, and how it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Row", "metric_rows", "metric_table"]


@dataclass(frozen=True)
class Row:
    """One row: a metric, its values in words, how it and its baselines were measured."""

    name: str
    ours: str
    baseline: str
    measured: str
    baseline_measured: str = ""


def number(value: Any) -> str:
    """A number as a reader wants it.

    Example:
        >>> number(3.0), number(0.123456), number(1234567.0)
        ('3', '0.1235', '1234567')
    """
    if not isinstance(value, (int, float)):
        return str(value)
    if value == int(value) if abs(value) < 1e15 else False:
        return str(int(value))
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.1f}"


def metric_rows(metrics: Mapping[str, Any], measured: Mapping[str, str]) -> list[Row]:
    """Rows of the table: ``baseline…/x`` stands beside ``test/x``, ``x_se`` behind its ``x``.

    Example:
        >>> rows = metric_rows({"test/nll": 1.5, "test/nll_se": 0.25, "baseline/nll": 2.0}, {})
        >>> [(row.name, row.ours, row.baseline) for row in rows]
        [('test/nll', '1.5 ± 0.25', '2')]
    """
    rows, used = [], set()
    for name in metrics:
        group, _, rest = name.partition("/")
        if group.startswith("baseline") and f"test/{rest}" in metrics:
            used.add(name)
        if name.endswith("_se") and name[:-3] in metrics:
            used.add(name)
    for name in metrics:
        if name in used:
            continue
        group, _, rest = name.partition("/")
        words, others = list[str](), list[tuple[str, str]]()
        if group == "test":
            for other in used:
                other_group, _, other_rest = other.partition("/")
                if other_rest == rest and other_group.startswith("baseline"):
                    label = other_group.removeprefix("baseline").strip("-_")
                    others.append((label, _with_error(other, metrics)))
                    if measured.get(other, "") not in ("", measured.get(name)):
                        words.append(f"{other_group}: {measured[other]}")
        others.sort()
        baseline = ", ".join(f"{text} ({label})" if label else text for label, text in others)
        ours = _with_error(name, metrics)
        rows.append(Row(name, ours, baseline, measured.get(name, ""), "; ".join(sorted(words))))
    return rows


def _with_error(name: str, metrics: Mapping[str, Any]) -> str:
    text, error = number(metrics[name]), metrics.get(f"{name}_se")
    return text if error is None else f"{text} ± {error:.2g}"


def metric_table(metrics: Mapping[str, Any], measured: Mapping[str, str], title: str) -> Table:
    """The same rows for a terminal."""
    from rich.table import Table

    rows = metric_rows(metrics, measured)
    table = Table(title=title, title_justify="left")
    table.add_column("metric", no_wrap=True)
    table.add_column("ours", justify="right")
    if any(row.baseline for row in rows):
        table.add_column("baseline", justify="right")
    table.add_column("how it was measured", overflow="fold")
    for row in rows:
        cells = [row.name, row.ours, row.baseline, row.measured]
        table.add_row(*(c for i, c in enumerate(cells) if i != 2 or len(table.columns) == 4))
    return table
