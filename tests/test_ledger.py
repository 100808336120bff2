"""The table of the theory ledger against the ledger itself, where it is beside the data."""

import os
import re
from pathlib import Path

import pytest

from genpath.plugins import discover
from genpath.testing import claims_of
from genpath.testing.coverage import ledger

THEORY = Path(os.environ.get("GENPATH_DATA") or "none").resolve().parent / "theory"
HEADS = re.compile(
    r"\*\*((?:L\d\.\d+|[XYAEF]\d+|H\d\.\d+|S\.\d+|[GDJRPMK]\.\d+|[GDJRPMK]-F\d+))\b[^*]*\*\*"
)
HOUSE = {
    "core",
    "interpolants",
    "flows",
    "diffusion",
    "discrete",
    "manifold",
    "multimodal",
    "compose",
}
# named in a line of other entries, not at the head of one
INLINE = {"F7", "F8", "F10", "A13", "Y8"}


def test_every_entry_has_one_owner():
    entries = ledger()
    assert len(entries) == len({entry.entry for entry in entries})
    assert {entry.owner for entry in entries} <= HOUSE | {"later"}
    assert all(entry.title for entry in entries)


def test_claims_cite_entries_of_the_ledger_only():
    known = {entry.entry for entry in ledger()}
    bounds = claims_of(among=discover())
    strange = {(bound.name, e) for bound in bounds for e in bound.claim.entries if e not in known}
    assert not strange


def test_the_table_is_the_ledgers():
    if not THEORY.is_dir():
        pytest.skip("the theory ledger is not beside the data")
    text = "".join(path.read_text(encoding="utf-8") for path in THEORY.glob("semester*.md"))
    heads = {match[1] for match in HEADS.finditer(text)}
    assert heads | INLINE == {entry.entry for entry in ledger()}
