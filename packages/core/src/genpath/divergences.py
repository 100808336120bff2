r"""Divergences of a field, exactly or by one probe.

    div u = Σ_k ⟨e_k, ∇_{e_k} u⟩           exact: ``dimension`` forward derivatives
          = E ⟨ξ, ∇_ξ u⟩, ξ ~ N(0, P)       Hutchinson: one forward derivative per probe

e_k is an orthonormal basis of the tangents at x, so the same formula is the Riemannian divergence
of a tangent field on an embedded manifold (semester II, R.12). The value and its derivatives come
from one forward pass. A probe is a *fact* of its row: drawn once per solve, it makes the
log-density along an ODE unbiased.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .spaces import Space, as_smooth
from .states import Field, map_state

__all__ = ["exact_divergence", "hutchinson_divergence", "pushforward"]


def exact_divergence(space: Space, field: Field, t: Tensor, x: Any) -> tuple[Any, Tensor]:
    """The field at ``x`` and its divergence ``(batch,)``.

    Memory grows by the factor ``dimension``; the network's primal pass is done once.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> exact_divergence(Euclidean(2), lambda t, x: 3 * x, torch.zeros(1), torch.ones(1, 2))[1]
        tensor([6.])
    """
    smooth = as_smooth(space, "exact_divergence")
    basis = smooth.tangent_basis(x)

    def one(direction: Any) -> tuple[Any, Tensor]:
        value, slope = _derivative(field, t, x, direction)
        return value, smooth.inner(x, direction, slope)

    values, terms = torch.func.vmap(one, out_dims=(None, 0))(basis)  # type: ignore[arg-type]
    return values, terms.sum(0)


def hutchinson_divergence(
    space: Space, field: Field, t: Tensor, x: Any, probe: Any
) -> tuple[Any, Tensor]:
    """The field at ``x`` and ⟨ξ, ∇_ξ u⟩ for the probe ξ, projected onto the tangents at ``x``.

    Args:
        probe: ambient standard normal noise of the state's form ``(batch, *event)``.

    Returns:
        The field ``(batch, *event)`` and the estimate ``(batch,)``.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> t, x, probe = torch.zeros(1), torch.ones(1, 2), torch.tensor([[1.0, 2.0]])
        >>> hutchinson_divergence(Euclidean(2), lambda t, x: 3 * x, t, x, probe)  # 3|ξ|², of mean 6
        (tensor([[3., 3.]]), tensor([15.]))
    """
    smooth = as_smooth(space, "hutchinson_divergence")
    direction = smooth.project_tangent(x, probe)
    value, slope = _derivative(field, t, x, direction)
    return value, smooth.inner(x, direction, slope)


def pushforward(function: Callable[[Any], Any], at: Any, direction: Any) -> tuple[Any, Any]:
    """The value of ``function`` at a point and its derivative along ``direction``, in one pass.

    Rows that share memory (an expanded batch) are copied: forward differentiation refuses them.

    Example:
        >>> pushforward(lambda x: x**2, torch.tensor([3.0]), torch.tensor([1.0]))
        (tensor([9.]), tensor([6.]))
    """
    at = map_state(Tensor.contiguous, at)
    value, slope = torch.func.jvp(function, (at,), (direction,))[:2]
    return value, slope


def _derivative(field: Field, t: Tensor, x: Any, direction: Any) -> tuple[Any, Any]:
    if isinstance(x, Tensor):
        return pushforward(lambda y: field(t, y), x, direction)
    moving = {name: x[name] for name in direction}
    return pushforward(lambda y: field(t, {**x, **y}), moving, dict(direction))
