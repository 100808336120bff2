"""Coverage: which entries of the theory ledger have a claim, and what each construction owes.

``ledger.csv`` gives every entry of the course's ledger (semesters I and II) one owner: a package of
the house, or "later". An entry is covered where a claim cites it, and hence performs what the
ledger asks under *Verify by*.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files

from genpath.plugins.words import table

from .claims import OWED
from .running import Bound

__all__ = ["Entry", "ledger", "report"]

SECTION = re.compile(r"(L\d|H\d|[A-Z]-F|[A-Z])\.?\d+")

NAMES = {
    "F": "fixtures, semester I",
    "X": "corrections, semester I",
    "L0": "overview",
    "L1": "preliminaries",
    "L2": "the general interpolant",
    "L3": "samplers, likelihoods, control",
    "L4": "diffusive, one-sided, mirror, bridge",
    "L5": "spatially linear interpolants",
    "L6": "connections",
    "A": "algorithms",
    "E": "experiments",
    "L7": "Feynman–Kac correctors",
    "L8": "adaptive exponents",
    "S": "semester II, announced",
    "Y": "corrections, semester II",
    "G": "generators and generator matching",
    "D": "discrete spaces",
    "J": "jumps on R^d",
    "R": "manifolds",
    "P": "products",
    "M": "latent models",
    "K": "kernels",
}


@dataclass(frozen=True)
class Entry:
    """One entry of the ledger: its id, its title, and the package that owes its claim."""

    entry: str
    title: str
    owner: str

    @property
    def section(self) -> str:
        """The letters, and for lectures and homeworks their number, before the dot.

        Example:
            >>> Entry("L5.4", "Score", "interpolants").section, Entry("G-F1", "", "core").section
            ('L5', 'G-F')
        """
        found = SECTION.fullmatch(self.entry)
        return found[1] if found else self.entry

    @property
    def name(self) -> str:
        """The section's name in words."""
        head = self.section
        if head.startswith("H"):
            return f"homework {head[1:]}"
        if head.endswith("-F"):
            return f"fixtures of {head[0]}"
        return NAMES.get(head, "")


def ledger() -> tuple[Entry, ...]:
    """The entries in the ledger's order.

    Example:
        >>> entries = ledger()
        >>> entries[0].entry, len(entries) == len({entry.entry for entry in entries})
        ('F1', True)
    """
    text = files("genpath.testing").joinpath("ledger.csv").read_text(encoding="utf-8")
    return tuple(Entry(**row) for row in csv.DictReader(text.splitlines()))


def report(claims: Iterable[Bound], constructions: Iterable[str] = ()) -> Iterator[str]:
    """The lines of ``genpath verify --coverage``.

    Per section the share of its entries that a claim cites, and whose they are; per construction
    the five things owed; entries that are cited and not in the ledger; last ``covered N of M``.

    Args:
        claims: all claims.
        constructions: the subjects that owe: every path.
    """
    bounds, entries = list(claims), ledger()
    cited = {entry for bound in bounds for entry in bound.claim.entries}
    known = {entry.entry for entry in entries}
    yield from _sections(entries, cited)
    yield ""
    yield from _owed(bounds, constructions)
    for stray in sorted(cited - known):
        holders = ", ".join(b.name for b in bounds if stray in b.claim.entries)
        yield f"not in the ledger: {stray} ({holders})"
    yield ""
    yield f"covered {len(cited & known)} of {len(known)}"


def _sections(entries: tuple[Entry, ...], cited: set[str]) -> Iterator[str]:
    sections: dict[str, list[Entry]] = {}
    for entry in entries:
        sections.setdefault(entry.section, []).append(entry)
    rows = [["section", "", "covered", "share", "open, by owner"]]
    for name, found in sections.items():
        have = sum(entry.entry in cited for entry in found)
        missing: dict[str, int] = {}
        for entry in found:
            if entry.entry not in cited:
                missing[entry.owner] = missing.get(entry.owner, 0) + 1
        words = ", ".join(f"{owner} {count}" for owner, count in sorted(missing.items()))
        share = f"{100 * have / len(found):.0f} %"
        rows.append([name, found[0].name, f"{have}/{len(found)}", share, words])
    yield table(rows)
    owners: dict[str, list[Entry]] = {}
    for entry in entries:
        owners.setdefault(entry.owner, []).append(entry)
    rows = [["owner", "covered", "share"]]
    for owner, found in sorted(owners.items()):
        have = sum(entry.entry in cited for entry in found)
        rows.append([owner, f"{have}/{len(found)}", f"{100 * have / len(found):.0f} %"])
    yield ""
    yield table(rows)


def _owed(bounds: list[Bound], constructions: Iterable[str]) -> Iterator[str]:
    """A row per construction, a column per thing owed: how many claims settle it."""
    counts = {subject: dict.fromkeys(OWED, 0) for subject in constructions}
    for bound in bounds:
        if bound.claim.owes and bound.subject in counts:
            counts[bound.subject][bound.claim.owes] += 1
    yield "what is owed per construction: " + "; ".join(f"{k} = {v}" for k, v in OWED.items())
    rows = [["construction", *OWED, ""]]
    for subject, row in counts.items():
        missing = [name for name, count in row.items() if not count]
        cells = [str(count) if count else "·" for count in row.values()]
        rows.append([subject, *cells, f"owes {', '.join(missing)}" if missing else "complete"])
    yield table(rows)
