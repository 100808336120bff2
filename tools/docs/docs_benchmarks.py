"""The stored results of the benchmarks, as Markdown."""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def tables(folder=RESULTS):
    """A section per file of results, or a sentence where there is none."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    if not found:
        return "No results are stored yet."
    from benchmarks.tables import markdown

    return "\n\n".join(markdown(results).replace("### ", "## ", 1) for results in found)
