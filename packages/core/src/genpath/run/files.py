"""Files of a run: replaced whole or not at all, and every failure one clear line.

A file is written beside its place, flushed to the disk (fsync), and then moved over the old one in
one step (`os.replace`); the folder is flushed too. Whoever reads sees the old file or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genpath.errors import RunError

__all__ = [
    "JSONLines",
    "clean",
    "guarded",
    "lock",
    "read_json",
    "write_bytes",
    "write_json",
    "write_text",
]

_SUFFIX = ".tmp"


@contextlib.contextmanager
def guarded(path: Path, action: str = "write") -> Iterator[None]:
    """Turn an `OSError` into a `RunError` that says what could not be done, and what to do."""
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        raise RunError(
            str(path),
            f"cannot {action} it.",
            got=error.strerror or str(error),
            fix=_advice(error, action),
        ) from error


def _advice(error: OSError, action: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            "free some space, then run the same command again: it goes on from the last checkpoint"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose a folder that you may write to: --out DIR"
    return f"check the folder, then {action} again" if action == "read" else "check the folder"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file whole, or leave the old one as it was.

    Raises:
        RunError: no space, no permission, or another failure of the disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
    with guarded(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Make the move itself last, on systems where a folder can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace a text file, UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file: indented, keys in their order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, default: Any = None) -> Any:
    """The value in a JSON file; the default where there is no file.

    Raises:
        RunError: the file cannot be read, or is no JSON.
    """
    with guarded(path, "read"):
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return default
        except ValueError as error:
            fix = "delete it, and run again"
            raise RunError(str(path), "it is not JSON.", got=str(error), fix=fix) from None


def clean(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for left in folder.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            left.unlink()


class JSONLines:
    """A file of JSON objects, one per line, that can be cut back to a step.

    Args:
        path: the file.

    Lines are appended as they come; a line that a kill cut short is dropped when the file is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """The whole lines."""
        with guarded(self.path, "read"):
            try:
                text = self.path.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                return []
        found = []
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    found.append(value)
        return found

    def replace(self, lines: list[dict[str, Any]]) -> None:
        """Write all lines anew, atomically."""
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def append(self, line: Mapping[str, Any]) -> None:
        """Add one line."""
        with guarded(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Wait until all lines are on the disk."""
        if self.path.exists():
            with guarded(self.path), open(self.path, "rb") as file:
                os.fsync(file.fileno())


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a run folder, so that two processes do not write into it at once.

    The system lets go of the lock when the process ends, however it ends. Where there are no such
    locks (Windows), nothing is held.

    Raises:
        RunError: another process holds the folder, or it cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover
        yield
        return
    with guarded(folder):
        file = open(folder / ".lock", "w")  # noqa: SIM115  # held until the run ends
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                str(folder),
                "another process is running in this folder.",
                fix="wait for it, or choose another folder: --out DIR",
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
