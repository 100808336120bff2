"""Problems of a config, collected and printed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from genpath.errors import ConfigError

__all__ = ["INVALID", "Problem", "Problems", "describe"]


class _Invalid:
    """The value of what was wrong: already reported."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID = _Invalid()


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config.

    Args:
        place: file and line, or the override.
        key: the full key path.
        expected: what belongs there.
        got: what came.
        fix: the nearest valid spelling, or what to do.
    """

    place: str
    key: str
    expected: str
    got: str
    fix: str = ""

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.key}" if self.key else self.place]
        lines += [f"  expected  {self.expected}", f"  got       {self.got}"]
        if self.fix:
            lines.append("  fix       " + self.fix.replace("\n        ", "\n            "))
        return "\n".join(lines)


class Problems:
    """The problems found so far, each with its place.

    Args:
        locate: from key path to file and line, or override.
        source: what the config is called in the headline.
    """

    def __init__(
        self, locate: Callable[[str], str] | None = None, source: str = "the config"
    ) -> None:
        self.found: list[Problem] = []
        self.source, self._locate = source, locate or (lambda key: source)

    def place(self, key: str) -> str:
        """Where a key was written."""
        return self._locate(key)

    def add(self, key: str, expected: str, got: str, fix: str = "", *, place: str = "") -> None:
        """Take down one problem, at its own place where it has no key."""
        self.found.append(Problem(place or self._locate(key), key, expected, got, fix))

    def stop(self) -> None:
        """Raise all problems together, if there are any.

        Raises:
            ConfigError: with every problem in its text.
        """
        if self.found:
            raise problems_error(self.source, self.found)


def problems_error(source: str, found: Sequence[Problem]) -> ConfigError:
    """One error with every problem in its text, and the problems as its ``problems``."""
    count = "one problem" if len(found) == 1 else f"{len(found)} problems"
    error = ConfigError("\n".join([f"{source}: {count}", *(str(problem) for problem in found)]))
    error.problems = tuple(found)
    return error


def describe(value: object) -> str:
    """A value as it came, with its type in the words of a config.

    Example:
        >>> describe("many"), describe(3), describe(None), describe({"a": 1})
        ("the text 'many'", 'the integer 3', 'null', 'a mapping with the keys a')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        keys = ", ".join(map(str, value))
        return f"a mapping with the keys {keys}" if keys else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}: {list(value)!r}"
    words = {int: "the integer", float: "the number", str: "the text"}
    return f"{words.get(type(value), type(value).__name__)} {value!r}"
