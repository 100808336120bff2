"""Records of verification: which component was verified, in which version, and when.

One small JSON file in the user's state folder: ``$GENPATH_STATE``, else
``$XDG_STATE_HOME/genpath``, else ``~/.local/state/genpath``. A component is *verified* where its
whole set of claims passed in the version that is installed, and the code of its package is still
what it was; otherwise it is *claimed* again until somebody verifies it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genpath.plugins import Component, Topic

    from .running import Verdict

__all__ = ["read_records", "record", "standing", "state_folder"]

FILE = "verified.json"


def state_folder() -> Path:
    """Where the records are kept."""
    if named := os.environ.get("GENPATH_STATE"):
        return Path(named)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "genpath"


def read_records() -> dict[str, dict[str, Any]]:
    """The records by ``DISTRIBUTION SUBJECT``; none where there is no readable file."""
    try:
        found = json.loads((state_folder() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, dict)}


def standing(
    source: Component | Topic, records: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """``no claim``, ``claimed``, ``verified VERSION, DATE`` or ``failed VERSION, DATE``.

    Args:
        source: a component or topic.
        records: those of `read_records`, read once for many.

    Example:
        >>> from genpath.plugins import Component
        >>> standing(Component("law", "waves.box", "collections:Counter"), {})
        'no claim'
    """
    if source.claims is None:
        return "no claim"
    found = (read_records() if records is None else records).get(_key(source))
    if found is None or found.get("version") != source.version:
        return "claimed"
    if found.get("code") != _code(source.claims):
        return "claimed"
    word = "verified" if found.get("passed") else "failed"
    return f"{word} {source.version}, {found.get('date', '?')}"


def record(sources: Iterable[Component | Topic], verdicts: Iterable[Verdict], date: str) -> None:
    """Write down what became of whole sets of claims.

    Args:
        sources: the components and topics of which every claim was run.
        verdicts: the verdicts.
        date: the day, ``YYYY-MM-DD``.

    Raises:
        RunError: the folder cannot be written.
    """
    from genpath.run.files import guarded, write_json

    by_subject: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_subject.setdefault(verdict.bound.subject, []).append(verdict)
    records = read_records()
    for source in sources:
        found = by_subject.get(source.subject, [])
        if found and not any(verdict.left_out for verdict in found):
            records[_key(source)] = {
                "version": source.version,
                "code": _code(source.claims),
                "date": date,
                "passed": all(verdict.passed for verdict in found),
                "claims": len(found),
                "seed": found[0].seed,
                "fast": found[0].fast,
            }
    folder = state_folder()
    with guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, records)


def _code(claims: str | None) -> str:
    """A digest of the package that holds the claims; it is not imported."""
    return _digest((claims or "").partition(":")[0].partition(".")[0])


@cache
def _digest(package: str) -> str:
    spec = find_spec(package) if package else None
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
    if spec is not None and not files and spec.origin:
        files = [Path(spec.origin)]
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _key(source: Component | Topic) -> str:
    return f"{source.distribution} {source.subject}"
