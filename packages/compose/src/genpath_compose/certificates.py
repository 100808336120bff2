r"""Certificates: whether a ratio path can be normalised at every time.

    h_t = Π q_i^{γ_i(t)} has Z_t = ∫ h_t < ∞      C_k(t) = Σ_{i: k ∈ I_i} γ_i(t) κ_ik(t)

    all C_k(t) > 0 on [0, t_end]       the path exists
    some C_k(t) < 0                    it collapses: the integral over a tube along e_k diverges
    a coordinate that no expert sees   it collapses: h_t does not depend on it
    C_k(t) = 0                         undecided: the terms of order |x| decide

with κ the tails of the experts (`genpath_compose.precisions`: axes, matrices, mixtures). A sampler
runs on a path that does not exist, and its numbers look like any others: it has no target. The
criterion looks at the tails at times t < 1; at t = 1, where compact data have infinite precision,
the supports decide (course, L8.4–L8.10, H8.1, H8.5; ACE, arXiv 2512.10339).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.evaluation import Figure
from genpath.grids import TimeGrid

from .compositions import Composition
from .errors import PathCollapseError, PathCollapseWarning
from .precisions import EffectivePrecision, Levels, unknown_tails
from .supports import Inclusion, check_supports

__all__ = ["Certificate", "certificate_figure", "certify"]

ROUNDING = 1e-13
"""|C| below this share of Σ |γ| κ counts as 0."""

Status = Literal["exists", "collapses", "undecided"]
Policy = Literal["raise", "warn", "ignore"]


@dataclass(frozen=True)
class Certificate:
    """What is known of the existence of a ratio path.

    Args:
        status: "exists", "collapses" or "undecided".
        times: ``(T,)``: the grid, and the times between where C is least.
        values: C_k ``(T, K)``: one column per coordinate, one for all of them where they are
            alike, the eigenvalues of P_eff, or (mixtures) the least C(u) that was found.
        lower: what C_k is not below; equal to values but for mixtures.
        method: "axes", "matrix" or "mixture"; "none" where tails are missing.
        margin: δ that was asked for.
        where: (t, k) of the least value.
        first_violation: t*, the first time of a collapse, to 1e-9; None if there is none.
        violator: the k that collapses first.
        intervals: the closures of the sets of times of collapse.
        blind: coordinates that no expert sees at some time.
        support: what the supports at t = 1 say.
        reasons: what speaks against the path, as sentences; the first says where it collapses.
    """

    status: Status
    times: Tensor = field(repr=False)
    values: Tensor = field(repr=False)
    lower: Tensor = field(repr=False)
    method: str
    margin: float
    where: tuple[float, int]
    first_violation: float | None = None
    violator: int | None = None
    intervals: tuple[tuple[float, float], ...] = ()
    blind: tuple[int, ...] = ()
    support: Inclusion = field(default_factory=lambda: Inclusion("undecided", "not looked at."))
    reasons: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether the path was shown to exist."""
        return self.status == "exists"

    @property
    def minimum(self) -> float:
        """min C: from below, so that C ≥ minimum; NaN where no tail is known."""
        fine = self.lower[~self.lower.isnan()]
        return float(fine.min()) if fine.numel() else math.nan

    @property
    def keeps_margin(self) -> bool:
        """Whether the path exists with C ≥ δ, up to rounding."""
        return self.exists and self.minimum >= self.margin * (1 - 1e-9) - 1e-12

    @property
    def t_end(self) -> float:
        """The last time that was looked at."""
        return float(self.times[-1])

    def words(self) -> str:
        """One line: the least C, where, and where a collapse begins.

        Example:
            >>> from genpath_compose.experts import FieldExpert
            >>> from genpath_compose.tails import Tail
            >>> tail = Tail(lambda t: torch.ones_like(t)[:, None, None])
            >>> a = FieldExpert(lambda t, x: (x, -x), (1,), "a", tail=tail)
            >>> certify(a**2).words()
            'min C = 2 at t = 0'
        """
        if self.method == "none":
            return " ".join(self.reasons)
        time, k = self.where
        most = self.lower.shape[1] > 1
        least = f"min C = {self.minimum:.6g} at t = {time:.6g}"
        least += f", {_axis(self.method, k)}" if most else ""
        if self.first_violation is None:
            return least
        return f"{self._collapse()}; {least}"

    def _collapse(self) -> str:
        assert self.first_violation is not None
        assert self.violator is not None
        where = _axis(self.method, self.violator)
        return f"collapses at t* = {self.first_violation:.9g}, {where}"

    def raise_or_warn(self, policy: Policy = "raise") -> Certificate:
        """Itself; a collapse raises, a doubt warns.

        Args:
            policy: "raise": a collapse is an error, an undecided path, a margin that is not kept,
                and a violated support at t = 1 are warnings; "warn": all are warnings; "ignore".

        Raises:
            PathCollapseError: the path collapses, with policy "raise".
            DomainError: an unknown policy.
        """
        if policy not in ("raise", "warn", "ignore"):
            rule = "a policy is raise, warn or ignore."
            raise DomainError("Certificate", rule, got=repr(policy))
        if policy == "ignore" or (self.keeps_margin and self.support.status != "violated"):
            return self
        if self.status == "collapses" and policy == "raise":
            raise PathCollapseError(
                "ratio path",
                f"{self.reasons[0]}",
                got=self.words(),
                fix="repair(composition) bumps exponents so that the path exists"
                if self.first_violation
                else "change the exponents or the experts: this is not repaired by bumps",
            )
        words = f"ratio path: {self.status}, {self.words()}"
        if self.exists and not self.keeps_margin:
            words += f"; the margin {self.margin:g} is not kept"
        if self.support.status == "violated":
            words += f"; at t = 1 {self.support.words}"
        warnings.warn(words, PathCollapseWarning, stacklevel=2)
        return self


def certify(
    composition: Composition,
    grid: TimeGrid | Sequence[float] | None = None,
    *,
    t_start: float = 0.0,
    t_end: float = 0.99,
    margin: float = 0.0,
) -> Certificate:
    """Whether a ratio path exists on [t_start, t_end]: C_k(t) > 0 at all times.

    C is evaluated on the grid, and its least values between the times of the grid are sought; the
    first violation and the intervals of collapse are found by bisection, to 1e-9.

    Args:
        composition: its experts say how their tails fall.
        grid: times; 401 equal ones on [t_start, t_end] if None (101 for mixtures).
        t_start, t_end: the first and the last time, where no grid is given. At t = 1, where
            precisions may be infinite, the supports are consulted.
        margin: δ: `Certificate.keeps_margin` says whether C ≥ δ.

    Raises:
        DomainError: the grid is not in [0, 1], or the margin is negative.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> from genpath_compose.tails import affine_tail
        >>> from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule
        >>> a, b = (
        ...     FieldExpert(lambda t, x: (x, -x), (1,), name, tail=affine_tail(schedule))
        ...     for name, schedule in (("a", trigonometric_schedule()), ("b", linear_schedule()))
        ... )
        >>> certify(a / b**0.7).reasons
        ('the path collapses at t* = 0.20731, coordinate 0.',)
    """
    times, support = _times(grid, t_start, t_end), check_supports(composition)
    if not margin >= 0:
        raise DomainError("certify", "a margin is not negative.", got=f"{margin:g}")
    missing = unknown_tails(composition)
    if missing:
        blank = torch.full((len(times), 1), math.nan, dtype=torch.float64)
        words = f"the tail of {', '.join(missing)} is not known."
        return Certificate("undecided", times, blank, blank, "none", margin, (0.0, 0),
                           support=support, reasons=(words,))  # fmt: skip
    form = EffectivePrecision(composition)
    rounds = 40
    if form.method == "mixture":  # each time costs more, and bounds are less exact than 1e-9
        rounds, times = 15, times if grid is not None else times[::4]
    levels = form(times)
    added = dips(lambda t: _least(form(t)), times, _least(levels), rounds)
    times = torch.cat([times, added]).sort().values
    keep = torch.cat([torch.ones(1, dtype=torch.bool), times.diff() > 0])
    times = times[keep]
    return _judged(form, times, form(times), margin, support)


def _judged(
    form: EffectivePrecision, times: Tensor, levels: Levels, margin: float, support: Inclusion
) -> Certificate:
    known = ~levels.upper.isnan().any(1)
    slack = ROUNDING * torch.where(levels.scale.isfinite(), levels.scale, 1.0)
    lower = levels.lower[known]
    positive = bool(((lower > slack[known]) | (lower == math.inf)).all()) and lower.numel() > 0
    bad = _bad(levels)
    intervals = _intervals(lambda t: _bad(form(t)), times, bad)
    blind = tuple(int(k) for k in levels.blind.any(0).nonzero()[:, 0])
    reasons = _reasons(form, times, levels, margin, blind, intervals)
    first = intervals[0] if intervals else None
    violator = None if first is None else _violator(form, first, blind)
    if first is not None and violator is not None:
        axis = _axis(form.method, violator)
        reasons.insert(0, f"the path collapses at t* = {first[0]:.6g}, {axis}.")
    status: Status = "collapses" if intervals else "exists" if positive else "undecided"
    if not bool(known.all()):
        reasons.append(f"at t = {float(times[~known][0]):g} precisions are infinite: "
                       + support.words)  # fmt: skip
        if support.status == "violated":
            status = "collapses"
        elif support.status == "undecided" and status == "exists":
            status = "undecided"
        elif status == "exists":
            reasons.append("that h is integrable there is taken for granted.")
    elif support.status == "violated":
        reasons.append("the target at t = 1 is not a law: " + support.words)
    flat = levels.lower.nan_to_num(math.inf)
    least = int(flat.argmin())
    where = (float(times[least // flat.shape[1]]), least % flat.shape[1])
    return Certificate(
        status, times, levels.upper, levels.lower, form.method, margin, where,
        None if first is None else first[0], violator, intervals, blind, support, tuple(reasons),
    )  # fmt: skip


def _violator(form: EffectivePrecision, interval: tuple[float, float], blind: Sequence[int]) -> int:
    """Which coordinate it is that collapses as an interval begins."""
    start, end = interval
    just = form(torch.tensor([start + min(1e-6, (end - start) / 2)], dtype=torch.float64))
    if bool(just.blind.any()):
        return int(just.blind[0].nonzero()[0, 0]) if just.blind.shape[1] > 1 else 0
    return int(just.upper[0].nan_to_num(math.inf).argmin())


def _axis(method: str, k: int) -> str:
    if method == "mixture":
        return "along a direction of the state"
    return f"eigenvalue {k}" if method == "matrix" else f"coordinate {k}"


def _reasons(
    form: EffectivePrecision,
    times: Tensor,
    levels: Levels,
    margin: float,
    blind: Sequence[int],
    intervals: Sequence[tuple[float, float]],
) -> list[str]:
    found = [f"no expert sees coordinate {k}." for k in blind[:8]]
    if intervals and intervals[0][0] == 0.0 and not blind:
        found.append("C(0) < 0: no bump repairs it, because exponents are fixed at t = 0.")
    slack = ROUNDING * levels.scale
    if not intervals:
        zero = (levels.upper.abs() <= slack).any(1)
        if bool(zero.any()):
            found.append(f"C = 0 at t = {float(times[zero][0]):.6g}: terms of order |x| decide.")
        elif form.method == "mixture" and not bool((levels.lower > slack).all()):
            found.append("the bounds of C(u) have different signs: the mixture is not decided.")
    least = float(levels.lower.nan_to_num(math.inf).min())
    if not intervals and 0 < least < margin * (1 - 1e-9) - 1e-12:
        found.append(f"min C = {least:.6g} is below the margin {margin:g}.")
    return found


# -- times ---------------------------------------------------------------------------------------


def _times(grid: TimeGrid | Sequence[float] | None, t_start: float, t_end: float) -> Tensor:
    if grid is None:
        if not 0 <= t_start < t_end <= 1:
            got = f"t_start {t_start:g}, t_end {t_end:g}"
            raise DomainError("certify", "0 ≤ t_start < t_end ≤ 1.", got=got)
        return torch.linspace(t_start, t_end, 401, dtype=torch.float64)
    given = grid.times if isinstance(grid, TimeGrid) else [float(t) for t in grid]
    times = torch.tensor(sorted(set(given)), dtype=torch.float64)
    if len(times) < 2 or not bool(((times >= 0) & (times <= 1)).all()):
        raise DomainError("certify", "a grid has two times or more, in [0, 1].", got=str(given[:4]))
    return times


def _least(levels: Levels) -> Tensor:
    return levels.lower.nan_to_num(math.inf).amin(1)


def _bad(levels: Levels) -> Tensor:
    """Where C < 0 for certain, or a coordinate is not seen: ``(T,)``."""
    slack = ROUNDING * torch.where(levels.scale.isfinite(), levels.scale, 1.0)
    return (levels.upper < -slack).any(1) | levels.blind.any(1)


def dips(
    function: Callable[[Tensor], Tensor], times: Tensor, values: Tensor, rounds: int = 40
) -> Tensor:
    """The local minima between the times of a grid, by golden sections in all brackets at once."""
    fine = values.clamp(-1e300, 1e300)
    before = torch.cat([fine[:1], fine[:-1]])
    after = torch.cat([fine[1:], fine[-1:]])
    at = ((fine <= before) & (fine <= after) & (fine < 1e300)).nonzero()[:, 0]
    flat = (fine[at] == before[at]) & (fine[at] == after[at])
    at = at[~flat]
    if not len(at):
        return times[:0]
    low, high = times[(at - 1).clamp_min(0)], times[(at + 1).clamp_max(len(times) - 1)]
    share = (math.sqrt(5) - 1) / 2
    for _ in range(rounds):
        left, right = high - share * (high - low), low + share * (high - low)
        down, up = function(torch.cat([left, right])).chunk(2)
        low, high = torch.where(down <= up, low, left), torch.where(down <= up, right, high)
    found: Tensor = ((low + high) / 2).unique()
    return found


def _intervals(
    bad: Callable[[Tensor], Tensor], times: Tensor, flags: Tensor
) -> tuple[tuple[float, float], ...]:
    """Where the flag is up, with edges by bisection between the times of the grid."""
    change = (flags[1:] != flags[:-1]).nonzero()[:, 0]
    low, high = times[change], times[change + 1]
    rises = flags[change + 1]
    if len(change):
        for _ in range(40):
            middle = (low + high) / 2
            later = bad(middle) == rises  # already as after the change
            low, high = torch.where(later, low, middle), torch.where(later, middle, high)
    edges = [float(t) for t in (low + high) / 2]
    if bool(flags[0]):
        edges.insert(0, float(times[0]))
    if bool(flags[-1]):
        edges.append(float(times[-1]))
    return tuple(zip(edges[::2], edges[1::2], strict=True))


# -- the picture ---------------------------------------------------------------------------------


def certificate_figure(certificate: Certificate, repaired: Certificate | None = None) -> Figure:
    """C_k over time, with the zero line, the margin, and the times of collapse.

    Args:
        certificate: of the path.
        repaired: of the path with bumped exponents, drawn beside it.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for start, end in certificate.intervals:
            axes.axvspan(start, end, color="tab:red", alpha=0.12, lw=0)
        if certificate.margin > 0:
            axes.axhspan(0, certificate.margin, color="tab:green", alpha=0.2, lw=0)
        axes.axhline(0, color="black", lw=0.8)
        pairs, top = [(certificate, "-", ""), (repaired, "--", ", repaired")], 0.0
        for found, style, words in pairs:
            if found is None:
                continue
            for k in range(min(found.values.shape[1], 6)):
                name = f"C{k}" if found.method == "axes" else _axis(found.method, k)
                line = found.values[:, k].clamp(-1e6, 1e6).nan_to_num(0.0).numpy()
                top = max(top, float(abs(line).max()))
                axes.plot(found.times.numpy(), line, style, color=f"C{k}", label=name + words)
        if top > 20:
            axes.set_yscale("symlog", linthresh=1.0)
        axes.set_xlim(0, certificate.t_end)
        axes.set_xlabel("t")
        axes.set_ylabel("C")
        axes.legend(loc="best", fontsize="small")

    caption = (
        "The path exists where every curve is above 0. Red: times of collapse. Green: the margin. "
        "Where values are large, the axis is logarithmic beyond ±1."
    )
    return Figure("certificate", "Existence of the path", caption, draw, (7.0, 3.6))
