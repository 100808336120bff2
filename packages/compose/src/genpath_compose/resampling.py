r"""Resampling: unweighted rows in the place of weighted ones, from log-weights alone.

    W_k = e^{a_k} / Σ_l e^{a_l}     ESS = (Σ w)² / Σ w² ∈ [1, n]     N_k: copies of row k, Σ N_k = n

A scheme is unbiased, E N_k = n W_k. They differ in how far N_k strays from n W_k:

    systematic    points m + U, one U for all          N_k ∈ {⌊n W_k⌋, ⌈n W_k⌉}
    ssp           duels of the fractional parts         N_k ∈ {⌊n W_k⌋, ⌈n W_k⌉}
    residual      ⌊n W_k⌋ copies, the rest multinomial  N_k ≥ ⌊n W_k⌋
    stratified    points m + U_m                        |N_k − n W_k| < 2
    multinomial   n independent draws                   Var N_k = n W_k (1 − W_k)

(Douc, Cappé & Moulines 2005, cs/0507025, for the classical four.) Each scheme states how many of
the n new rows come before row k's last copy, B_k = N_1 + … + N_k. With the scaled cumulative
weights C_k = n (W_1 + … + W_k), the points below C_k are those of the strata below ⌊C_k⌋ and
perhaps the one in it, B_k = ⌊C_k⌋ + 1[U < C_k − ⌊C_k⌋]: no search is needed. The ancestor of row m
is the number of k with B_k ≤ m: one scatter and one cumulative sum, O(n). Ancestors come sorted.

`ssp` is Srinivasan's sampling process (Srinivasan 2001, FOCS; Gerber, Chopin & Whiteley 2019, arXiv
1707.01845), played as a knock-out tournament in ⌈log₂ n⌉ rounds instead of one duel after another
(the order of duels is free; with survivors meeting in turn it is Deville & Tillé's 1998 pivotal
method). A duel of fractional parts a, b keeps a + b and both means and settles one of the two:

    a + b ≤ 1:  (a + b, 0) with probability a/(a + b),          else (0, a + b)
    a + b > 1:  (1, a + b − 1) with probability (1−b)/(2−a−b),  else (a + b − 1, 1)

So N_k ends at ⌊n W_k⌋ or ⌊n W_k⌋ + 1, with mean n W_k, and the last survivor is settled by Σ N = n.

Sums are taken in float64. All weights −∞, a NaN or +∞ is an error, which reads one number; on an
accelerator it would wait for the device, so there the caller looks once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from genpath.errors import DomainError, NumericalError, ShapeError

__all__ = ["SCHEMES", "Scheme", "ess", "log_mean", "normalise", "resample_indices"]

Scheme = Callable[[Tensor, int, torch.Generator], Tensor]
"""(weights ``(n,)`` float64 unnormalised, count, rng) → B ``(n,)`` long, B[-1] = count."""


def normalise(log_weight: Tensor) -> Tensor:
    """Logarithms of the self-normalised weights, a − log Σ eᵃ ``(n,)``.

    They do not change when a number is added to all log-weights. A weight may be −∞.

    Args:
        log_weight: ``(n,)``.

    Example:
        >>> normalise(torch.tensor([5.0, 5.0, -torch.inf])).exp()
        tensor([0.5000, 0.5000, 0.0000])
    """
    return log_weight - torch.logsumexp(log_weight, 0)


def ess(log_weight: Tensor) -> Tensor:
    """The effective sample size (Σ w)²/Σ w² ∈ [1, n] (Kong, Liu & Wong 1994), a float64 scalar.

    Args:
        log_weight: ``(n,)``; −∞ counts as weight 0. NaN where no weight is positive.

    Example:
        >>> ess(torch.zeros(5)), ess(torch.tensor([3.0, -torch.inf, -torch.inf]))
        (tensor(5., dtype=torch.float64), tensor(1., dtype=torch.float64))
    """
    weights, _ = relative(log_weight)
    return ess_of(weights)


def log_mean(log_weight: Tensor) -> Tensor:
    """log (1/n) Σ eᵃ, a float64 scalar: one block's factor of the normaliser.

    Args:
        log_weight: ``(n,)``.

    Example:
        >>> log_mean(torch.tensor([2.0, 2.0])).item()
        2.0
    """
    weights, largest = relative(log_weight)
    return largest + weights.mean().log()


def relative(log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights over the largest one ``(n,)``, and the largest log-weight; both float64."""
    values = log_weight.detach().double()
    largest = values.max() if values.numel() else values.new_tensor(-math.inf)
    return (values - largest).exp_(), largest


def ess_of(weights: Tensor) -> Tensor:
    """The effective sample size of weights that are not logarithms."""
    return weights.sum() ** 2 / weights.dot(weights)


def require_finite(largest: Tensor, where: str, t: float | None = None) -> None:
    """Refuse weights whose largest logarithm is −∞ (none is positive), NaN or +∞.

    Raises:
        NumericalError: it is; the message names it and the time.
    """
    value = float(largest)
    if math.isfinite(value):
        return
    at = "" if t is None else f" at t = {t:g}"
    came = "all log-weights are −inf" if value == -math.inf else f"a log-weight is {value:g}"
    raise NumericalError(
        where,
        "some weight is positive, and all are finite.",
        got=came + at,
        fix="bound the potential, take shorter steps, or resample more often",
    )


def resample_indices(
    log_weight: Tensor,
    rng: torch.Generator,
    scheme: str = "systematic",
    *,
    count: int | None = None,
    t: float | None = None,
) -> Tensor:
    """Ancestors ``(count,)``, sorted: row m of the new population is row ``index[m]`` of the old.

    Args:
        log_weight: ``(n,)``, up to a constant.
        rng: on the device of ``log_weight``.
        scheme: a name in `SCHEMES`.
        count: how many rows to draw; n if None.
        t: the time, for the message.

    Raises:
        DomainError: no such scheme, or no rows to draw from.
        ShapeError: ``log_weight`` is not ``(n,)``.
        NumericalError: no weight is positive, or one is NaN or +∞ (seen on a CPU only).

    Example:
        >>> log_weight = torch.tensor([0.5, 0.25, 0.0, 0.25]).log()
        >>> resample_indices(log_weight, torch.Generator().manual_seed(0))
        tensor([0, 0, 1, 3])
    """
    named_scheme(scheme, "resample_indices")
    if log_weight.dim() != 1:
        raise ShapeError(
            "resample_indices",
            "there is one log-weight per row.",
            got=f"log_weight {tuple(log_weight.shape)}",
            fix="pass (n,)",
        )
    rows = log_weight.shape[0]
    count = rows if count is None else count
    if rows == 0 and count:
        raise DomainError("resample_indices", "there are rows to draw from.", got="none")
    if count == 0:
        return torch.zeros(0, dtype=torch.long, device=log_weight.device)
    weights, largest = relative(log_weight)
    if log_weight.device.type == "cpu":
        require_finite(largest, "resample_indices", t)
    return ancestors(weights, count, rng, scheme)


def named_scheme(scheme: str, where: str) -> Scheme:
    """The scheme of this name.

    Raises:
        DomainError: there is none.
    """
    if scheme not in SCHEMES:
        raise DomainError(where, f"a scheme is one of {', '.join(SCHEMES)}.", got=repr(scheme))
    return SCHEMES[scheme]


def ancestors(weights: Tensor, count: int, rng: torch.Generator, scheme: str) -> Tensor:
    """Ancestors ``(count,)`` by unnormalised float64 weights; in range even where they are NaN."""
    below = SCHEMES[scheme](weights, count, rng).clamp_(0, count)
    below[-1] = count
    # a sorted searchsorted(below, arange, right=True) costs 14 times as much at n = 10⁶
    ended = torch.zeros(count + 1, dtype=torch.long, device=weights.device)
    ended.scatter_add_(0, below, torch.ones_like(below))
    return ended[:count].cumsum(0)


# -- schemes ---------------------------------------------------------------------------------------


def _scaled(weights: Tensor, count: int) -> Tensor:
    """C_k; exactly ``count`` from the last positive weight on."""
    total = weights.cumsum(0)
    return total.div_(total[-1].clone()).mul_(count)


def _stratum(cumulative: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The stratum in which C_k lies, and how far in; C_k = count is at the end of the last."""
    whole = cumulative.floor().clamp_(0, count - 1)
    return whole.long(), cumulative - whole


def _systematic(weights: Tensor, count: int, rng: torch.Generator) -> Tensor:
    # ⌊C⌋ + 1[U < C − ⌊C⌋] = ⌈C − U⌉; few bits of U keep count − U exact, hence above count − 1
    bits = 2.0 ** (51 - count.bit_length())
    offset = (_uniform(1, weights, rng) * bits).floor_() / bits
    return _scaled(weights, count).sub_(offset).ceil_().long()


def _stratified(weights: Tensor, count: int, rng: torch.Generator) -> Tensor:
    whole, part = _stratum(_scaled(weights, count), count)
    # NaN weights have no stratum; the clamp keeps the look-up in range
    offsets = _uniform(count, weights, rng).index_select(0, whole.clamp(0, count - 1))
    return whole.add_(offsets < part)


def _multinomial(weights: Tensor, count: int, rng: torch.Generator) -> Tensor:
    return torch.searchsorted(_sorted_points(count, weights, rng), _scaled(weights, 1))


def _residual(weights: Tensor, count: int, rng: torch.Generator) -> Tensor:
    whole, part = _shares(weights, count)
    left = count - whole.sum()
    points = _sorted_points(count, weights, rng, left)
    drawn = torch.searchsorted(points, _scaled(part, 1)).minimum(left)
    drawn[-1] = left
    return whole.cumsum(0) + drawn


def _ssp(weights: Tensor, count: int, rng: torch.Generator) -> Tensor:
    whole, part = _shares(weights, count)
    rows = len(weights)
    won = whole.new_zeros(rows + 1)  # the last entry is for a bye, which never wins
    index = torch.arange(rows, device=weights.device)
    while len(part) > 1:
        if len(part) % 2:
            part = torch.cat([part, part.new_zeros(1)])
            index = torch.cat([index, index.new_full((1,), rows)])
        (a, b), (i, j) = part.reshape(-1, 2).unbind(1), index.reshape(-1, 2).unbind(1)
        total, u = a + b, _uniform(len(a), weights, rng)
        over = total > 1
        first = torch.where(over, u * (2 - total) < 1 - b, u * total < a)
        stays = first ^ over  # whether i goes on to the next round
        won[torch.where(stays, j, i)] = over.long()
        part, index = torch.where(over, total - 1, total), torch.where(stays, i, j)
    won[index] = count - whole.sum() - won.sum()
    return (whole + won[:rows]).cumsum(0)


def _shares(weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """⌊n W⌋ as whole numbers, and n W − ⌊n W⌋."""
    share = weights / weights.sum() * count
    whole = share.floor()
    return whole.long(), share - whole


def _uniform(count: int, like: Tensor, rng: torch.Generator) -> Tensor:
    return torch.rand(count, generator=rng, dtype=like.dtype, device=like.device)


def _sorted_points(
    count: int, like: Tensor, rng: torch.Generator, used: Tensor | None = None
) -> Tensor:
    """``used`` (or all) of ``count`` sorted uniform points; those not used are at infinity.

    With S the partial sums of exponential variables, S_1, …, S_r over S_{r+1} are in law the sorted
    uniforms (Devroye 1986, chapter V), in O(n).
    """
    # by logarithms: Tensor.exponential_ takes three times as long on a CPU
    sums = _uniform(count + 1, like, rng).neg_().log1p_().neg_().cumsum(0)
    if used is None:
        return sums[:-1] / sums[-1]
    points = sums[:-1] / sums.index_select(0, used.reshape(1))
    beyond = torch.arange(count, device=like.device) >= used
    return points.masked_fill_(beyond, math.inf)


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "systematic": _systematic,
        "stratified": _stratified,
        "multinomial": _multinomial,
        "residual": _residual,
        "ssp": _ssp,
    }
)
"""The schemes by name."""
