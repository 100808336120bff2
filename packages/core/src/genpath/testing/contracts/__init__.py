r"""Contracts: the claims that come with a kind, for an instance that the author gives.

A contract is a function from an instance (and an independent oracle, where the kind needs one) to
claims with their controls. An author writes the instance and inherits the checks.
"""

from __future__ import annotations

__all__: list[str] = []
