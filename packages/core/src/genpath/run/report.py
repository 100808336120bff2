"""The report: one HTML file that a person can read anywhere, with nothing loaded from elsewhere.

Pictures are data URIs, styles are inline, light and dark follow the reader's system. All text that
comes from a config, a plugin or a data set is escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from genpath.run.files import guarded, read_json, write_text
from genpath.run.tables import metric_rows

if TYPE_CHECKING:
    from genpath.run.folder import Run

__all__ = ["loss_curve", "write_report"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6470; --line: #d9dee5; --page: #ffffff;
  --card: #f6f8fa; --one: #1f6feb; --two: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b1; --line: #343b45;
  --page: #14171b; --card: #1c2127; --one: #6cb0ff; --two: #ffa366; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .7rem;
  border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p, figcaption { margin: .3rem 0; } figcaption, .soft { color: var(--soft); font-size: .92rem; }
.description { white-space: pre-line; max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .94rem; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.name { font-family: ui-monospace, monospace; font-size: .86rem; white-space: nowrap; }
figure { margin: 1.2rem 0 2rem; } figure img { max-width: 100%; height: auto; background: #fff;
  border-radius: 6px; border: 1px solid var(--line); display: block; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .8rem;
  overflow-x: auto; font: .84rem/1.45 ui-monospace, monospace; }
pre.text { white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; } svg { max-width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } svg .grid { stroke: var(--line); }
svg .one { stroke: var(--one); } svg .two { stroke: var(--two); }
svg path { fill: none; stroke-width: 1.8; }
svg .key-one { fill: var(--one); } svg .key-two { fill: var(--two); }
@media (max-width: 40rem) { td, th { padding-right: .5rem; } td.name { white-space: normal;
  overflow-wrap: anywhere; } }
@media print { pre { white-space: pre-wrap; } }
"""


def write_report(run: Run) -> None:
    """Write report.html from what the run's folder holds."""
    found, state = run.metrics(), run.state()
    findings = read_json(run.folder / "findings.json", {})
    settings = read_json(run.folder / "environment.json", {})
    title = run.config.title or run.folder.name
    parts = [f"<h1>{escape(title)}</h1>"]
    if run.config.description:
        parts.append(f'<p class="description">{escape(run.config.description)}</p>')
    parts.append(_data_line(run))
    parts += _section("Results", _metrics(found["metrics"], found["measured"]))
    parts += _section("Training", loss_curve(run.lines.read()))
    pictures = "".join(_picture(run, figure) for figure in findings.get("figures", []))
    parts += _section("Figures", pictures)
    texts = "".join(
        f'<h3>{escape(text["title"])}</h3><pre class="text">{escape(text["body"])}</pre>'
        for text in findings.get("texts", [])
    )
    parts += _section("Texts", texts)
    parts += _section("Config", _config(run))
    parts += _section("Versions and times", _versions(settings) + _times(state["seconds"]))
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )
    write_text(run.folder / "report.html", page)


def _section(title: str, body: str) -> list[str]:
    return [f"\n<h2>{title}</h2>\n{body}"] if body else []


def _data_line(run: Run) -> str:
    if run.config.data is None:  # nothing was learned: a composition of experts
        return ""
    data = run.assembly.data
    from genpath.states import batch_size

    sizes = ", ".join(
        f"{batch_size(getattr(data, split))} {word}"
        for split, word in (
            ("train", "to train"),
            ("validation", "to validate"),
            ("test", "to test"),
        )
    )
    text = f"Data: {data.name} ({sizes}). {data.provenance}"
    return f'<p class="soft">{escape(text)}</p>'


def _metrics(metrics: Mapping[str, Any], measured: Mapping[str, str]) -> str:
    rows = metric_rows(metrics, measured)
    if not rows:
        return ""
    baseline = any(row.baseline for row in rows)
    head = "<th>metric</th><th>ours</th>" + ("<th>baseline</th>" if baseline else "")
    cells = []
    for row in rows:
        middle = f'<td class="number">{escape(row.baseline)}</td>' if baseline else ""
        how = "<br>".join(escape(text) for text in (row.measured, row.baseline_measured) if text)
        cells.append(
            f'<tr><td class="name">{escape(row.name)}</td>'
            f'<td class="number">{escape(row.ours)}</td>{middle}'
            f'<td class="soft">{how}</td></tr>'
        )
    return (
        f'<div class="wide"><table><thead><tr>{head}<th>how it was measured</th></tr></thead>'
        f"<tbody>{''.join(cells)}</tbody></table></div>"
    )


def _picture(run: Run, figure: Mapping[str, str]) -> str:
    path = run.folder / figure["file"]
    if not path.exists():
        return ""
    with guarded(path, "read"):
        data = base64.b64encode(path.read_bytes()).decode()
    title, caption = escape(figure["title"]), escape(figure["caption"])
    return (
        f'<figure><h3>{title}</h3><img alt="{escape(figure["title"], quote=True)}" '
        f'src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _config(run: Run) -> str:
    text = escape(run.config.to_yaml())
    digest = run.config.digest()
    return (
        f"<details><summary>the resolved config, digest {digest[:8]}</summary>"
        f'<pre>{text}</pre><p class="soft">SHA-256 {digest}</p></details>'
    )


def _versions(settings: Mapping[str, Any]) -> str:
    rows = [("python", settings.get("python", ""))]
    for group in ("distributions", "libraries"):
        rows += list(settings.get(group, {}).items())
    device = settings.get("device", {})
    rows.append(("device", f"{device.get('name', '')}, {settings.get('threads', '?')} CPU threads"))
    rows.append(("seed", str(settings.get("seeds", {}).get("seed", ""))))
    return _pairs(rows)


def _times(seconds: Mapping[str, float]) -> str:
    named = [(key.partition(":")[2] or key, value) for key, value in seconds.items()]
    rows = [(name, f"{value:.1f} s") for name, value in named if name != "report"]
    return f"<h3>Time of each stage</h3>{_pairs(rows)}" if rows else ""


def _pairs(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><td class="name">{escape(name)}</td><td>{escape(str(value))}</td></tr>'
        for name, value in rows
    )
    return f'<div class="wide"><table><tbody>{cells}</tbody></table></div>'


def loss_curve(lines: Sequence[Mapping[str, Any]]) -> str:
    """Training and validation loss over steps, as an inline SVG; empty where nothing was logged.

    Args:
        lines: of metrics.jsonl.

    Example:
        >>> loss_curve([])
        ''
        >>> loss_curve([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]).startswith("<figure>")
        True
    """
    curves = {
        name: [
            (line["step"], line[key]) for line in lines if _finite(line.get(key)) and "step" in line
        ]
        for name, key in (("training", "loss"), ("validation", "validation_loss"))
    }
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    width, height, left, right, top, bottom = 860, 300, 64, 12, 26, 34
    last = max(1.0, *(float(step) for step, _ in points))
    low, high = _range([float(value) for _, value in points])
    logarithmic = low > 0 and high / low > 30

    def scale(value: float) -> float:
        value = min(max(value, low), high)
        if logarithmic:
            return float(math.log(value / low) / math.log(high / low))
        return (value - low) / (high - low)

    def x(step: float) -> float:
        return left + (width - left - right) * step / last

    def y(value: float) -> float:
        return height - bottom - (height - top - bottom) * scale(value)

    drawn = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="loss over steps">']
    for fraction in (0, 0.25, 0.5, 0.75, 1):
        value = low * (high / low) ** fraction if logarithmic else low + (high - low) * fraction
        drawn.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" '
            f'y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
        drawn.append(
            f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
        step = last * fraction
        anchor = "end" if fraction == 1 else "middle"
        drawn.append(
            f'<text x="{x(step):.1f}" y="{height - 14}" text-anchor="{anchor}">{step:.0f}</text>'
        )
    for curve, style in zip(curves.values(), ("one", "two"), strict=True):
        if curve:
            path = " L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in _thin(curve))
            drawn.append(f'<path class="{style}" d="M{path}"/>')
    drawn.append(f'<text x="{left}" y="14"><tspan class="key-one">training</tspan>')
    if curves["validation"]:
        drawn.append(' and <tspan class="key-two">validation</tspan>')
    drawn.append(" loss over steps" + (" (logarithmic)" if logarithmic else "") + "</text></svg>")
    caption = (
        "Training loss is the mean since the last logged step; validation uses the same rows, "
        "times and noise every time."
    )
    return f"<figure>{''.join(drawn)}<figcaption>{caption}</figcaption></figure>"


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Limits that leave out a few first, very large values."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[int(0.99 * (len(ordered) - 1))]
    if high <= low:
        high = low + max(abs(low), 1.0) * 0.1
    return low, high


def _thin(curve: Sequence[tuple[float, float]], most: int = 800) -> Sequence[tuple[float, float]]:
    """At most ``most`` points: means over equal stretches."""
    if len(curve) <= most:
        return curve
    size = math.ceil(len(curve) / most)
    pieces = [curve[i : i + size] for i in range(0, len(curve), size)]
    return [(piece[-1][0], sum(v for _, v in piece) / len(piece)) for piece in pieces]
