"""Names for the claims of several instances under one subject."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..claims import Claim

__all__ = ["named"]


def named(prefix: str, claims: Iterable[Claim[Any]]) -> tuple[Claim[Any], ...]:
    """The claims as ``prefix-name``, so that a subject can hold those of several instances.

    Args:
        prefix: which instance; lower-case words joined by ``-``.
        claims: those of a contract.

    Example:
        >>> import torch
        >>> from genpath.spaces import Euclidean
        >>> from genpath.testing import contracts
        >>> normal = lambda n, rng: torch.randn(n, generator=rng, dtype=torch.float64)
        >>> [claim.name for claim in named("line", contracts.space(Euclidean, normal))][:2]
        ['line-projection', 'line-tangents']
    """
    return tuple(replace(claim, name=f"{prefix}-{claim.name}") for claim in claims)
