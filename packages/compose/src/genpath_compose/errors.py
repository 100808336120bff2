"""Errors and warnings of compositions: what is wrong with a ratio path.

DomainError
├── PathCollapseError    a ratio path that has no normaliser at some time
└── RepairError          a collapse that bumped exponents cannot undo, and why
PathCollapseWarning      a path whose existence is undecided, or that was run in spite of it
"""

from __future__ import annotations

from genpath.errors import DomainError

__all__ = ["PathCollapseError", "PathCollapseWarning", "RepairError"]


class PathCollapseError(DomainError):
    """A ratio path that cannot be normalised at some time: Z_t = ∞."""


class RepairError(DomainError):
    """A collapse that no bump of the chosen exponents undoes."""


class PathCollapseWarning(UserWarning):
    """A ratio path whose existence is in doubt."""
