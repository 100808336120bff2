"""A new plugin on disk: a package that builds, is found, and passes its own claims at once.

Templates are the files of ``common`` and of one folder per space, with the suffix ``.template``.
In their names and their text the words of `words_of` are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from genpath._version import __version__
from genpath.errors import UsageError

__all__ = ["SPACES", "new_plugin"]

SPACES = {
    "euclidean": "a path on R^d",
    "categorical": "a schedule for letters that come out of a mask",
    "manifold": "a base law on the sphere",
}
"""The spaces that there is a template for, and what its component is."""

NEEDS = {
    "euclidean": ("genpath",),
    "categorical": ("genpath", "genpath-discrete"),
    "manifold": ("genpath", "genpath-manifold"),
}
"""The packages of the house that a template builds on."""

SUFFIX = ".template"
_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")


def new_plugin(name: str, space: str = "euclidean", into: str | Path = ".") -> Path:
    """Write the package ``genpath-NAME``, a plugin with one component and its claims.

    Args:
        name: the plugin's prefix: lower-case words joined by ``-`` or ``_``.
        space: where its component lives: euclidean, categorical or manifold.
        into: the folder to write ``genpath-NAME`` into.

    Returns:
        The package's folder.

    Raises:
        UsageError: the name is not plain or belongs to an installed plugin, the space is unknown,
            or the folder is there already. Nothing is written then.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = new_plugin("tides", into=folder)
        ...     made.name, (made / "src" / "genpath_tides" / "claims.py").exists()
        ('genpath-tides', True)
    """
    _check(name, space)
    words = words_of(name, space)
    folder = Path(into) / words["{{distribution}}"]
    if folder.exists():
        raise UsageError(
            "genpath new-plugin",
            "the folder of a new plugin is not there yet.",
            got=str(folder),
            fix="choose another name, or another place: --into DIR",
        )
    root = files("genpath.scaffold")
    for part in ("common", space):
        for template, place in _templates(root.joinpath(part), Path()):
            target = folder / Path(_filled(str(place).removesuffix(SUFFIX), words))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled(template.read_text(encoding="utf-8"), words), "utf-8")
    return folder


def words_of(name: str, space: str = "euclidean") -> dict[str, str]:
    """What stands in a template, and what it becomes.

    Example:
        >>> words_of("neap-tides")["MODULE"]
        'genpath_neap_tides'
    """
    module = "genpath_" + re.sub(r"[-_]+", "_", name)
    major, minor = __version__.split(".")[:2]
    bounds = f">={major}.{minor},<{major}.{int(minor) + 1}"
    return {
        "{{name}}": name,
        "{{distribution}}": "genpath-" + name.replace("_", "-"),
        "{{module}}": module,
        "MODULE": module,
        "{{needs}}": ",\n    ".join(f'"{package}{bounds}"' for package in NEEDS[space]),
    }


def _check(name: str, space: str) -> None:
    from genpath.plugins import registry
    from genpath.plugins.words import suggestion

    where = "genpath new-plugin"
    if not _NAME.fullmatch(name):
        fix = "lower-case words joined by - or _, such as neap-tides"
        raise UsageError(where, "a plugin's name is a plain word.", got=repr(name), fix=fix)
    if space not in SPACES:
        fix = suggestion(space, SPACES) or "the spaces are " + ", ".join(SPACES)
        raise UsageError(where, f"there is no template for {space!r}.", fix=fix)
    for record in registry().plugins():
        if name in (record.prefix, record.distribution):
            raise UsageError(
                where,
                f"the prefix {name!r} is taken.",
                got=f"{record.distribution} {record.version} has it",
                fix="choose another name",
            )


def _templates(folder: Traversable, place: Path) -> Iterator[tuple[Traversable, Path]]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            yield from _templates(entry, place / entry.name)
        elif entry.name.endswith(SUFFIX):
            yield entry, place / entry.name


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
