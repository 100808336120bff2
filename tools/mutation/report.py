"""The list of equivalent mutants, and the final account."""

import tomllib
from collections import Counter

from .running import CAUGHT, SURVIVED

FIELDS = {"file", "function", "line", "mutation", "reason"}


class BadList(Exception):
    """An entry of the list that is not as it should be."""


def read_equivalent(path):
    """Key of the mutant → the reason why it changes no number."""
    if not path.is_file():
        return {}
    found = {}
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    for number, entry in enumerate(entries, 1):
        if set(entry) - {"at"} != FIELDS or not entry["reason"].strip():
            raise BadList(f"entry {number}: it has {', '.join(sorted(FIELDS))}, and perhaps at")
        named = (entry["file"], entry["function"], entry["line"], entry["mutation"])
        key = (*named, entry.get("at", 1))
        if key in found:
            raise BadList(f"entry {number} repeats {key}")
        found[key] = entry["reason"]
    return found


def stale(equivalent, sites):
    """The entries that no site matches any more."""
    keys = {site.key for site in sites}
    return [key for key in equivalent if key not in keys]


def block(site, result, source, reason=""):
    """A mutant in a few lines."""
    count = "one test" if result.tests == 1 else f"{result.tests} tests"
    fate = "no test executes it" if result.status == "not executed" else f"{count} ran it"
    at = f" (place {site.at})" if site.at > 1 else ""
    lines = [
        f"{site.id}  {site.file}:{site.number}  {site.function}  {site.mutation}{at}; {fate}",
        f"    - {site.line}",
        f"    + {site.after(source)}",
    ]
    if reason:
        lines.append(f"    = {reason}")
    return "\n".join(lines)


def account(sites, results, equivalent, sources, failures):
    """The report as text, and whether all is well.

    Args:
        sites: the sample.
        results: id → `Result`.
        equivalent: from `read_equivalent`.
        sources: file → bytes.
        failures: from `control`.
    """
    tried = [(site, results[site.id]) for site in sites if site.id in results]
    alive = [(site, result) for site, result in tried if result.status in SURVIVED]
    open_ones = [pair for pair in alive if pair[0].key not in equivalent]
    listed = [pair for pair in alive if pair[0].key in equivalent]
    broken = [(site, result) for site, result in tried if result.status == "broken"]
    caught_listed = [
        site for site, result in tried if result.status in CAUGHT and site.key in equivalent
    ]
    parts = []
    if listed:
        parts.append("\nSurvivors that are listed as equivalent:")
        parts += [
            block(site, result, sources[site.file], equivalent[site.key]) for site, result in listed
        ]
    if caught_listed:
        parts.append("\nListed as equivalent, but caught: the entry may go.")
        parts += [
            f"{site.id}  {site.file}:{site.number}  {site.mutation}" for site in caught_listed
        ]
    if broken:
        parts.append("\nCould not be tried:")
        parts += [f"{site.id}  {site.file}:{site.number}  {r.message}" for site, r in broken]
    if failures:
        parts.append("\nTests that caught mutants, but also fail without one:")
        parts += [f"{name}: {message}" for name, message in failures.items()]
    if open_ones:
        parts.append("\nSurvivors:")
        parts += [block(site, result, sources[site.file]) for site, result in open_ones]
    counts = Counter(result.status for _, result in tried)
    rows = [f"{counts[status]:5d}  {status}" for status in (*CAUGHT, *SURVIVED, "broken")]
    rows.append(f"{len(tried):5d}  of {len(sites)} tried; equivalent {len(listed)}")
    rows.append(f"{len(open_ones):5d}  survivors to look at")
    parts.append("\n" + "\n".join(rows))
    good = not (open_ones or broken or failures or len(tried) < len(sites))
    return "\n".join(parts), good
