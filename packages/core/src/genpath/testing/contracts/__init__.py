r"""Contracts: the claims that come with a kind, for an instance that the author gives.

A contract is a function from an instance (and an independent oracle, where the kind needs one) to
claims with their controls. An author writes the instance and inherits the checks.
"""

from __future__ import annotations

from .conversions import conversions as conversions
from .schedules import schedule as schedule
from .paths import path as path
from .spaces import space as space

__all__ = ["conversions", "path", "schedule", "space"]
