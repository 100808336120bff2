r"""Effective precisions: how −2 log h_t grows far out, direction by direction.

    −2 log h_t(r u)/r²  →  C_t(u) = Σ_i γ_i(t) κ_i(u_{I_i}; t)       κ_i(u) = min_j uᵀ P_ij(t) u

It has one of three forms, by the tails of the experts:

    axes       every P_i diagonal, one per expert     C_k = Σ_{i: k ∈ I_i} γ_i κ_ik, exact
    matrix     one matrix per expert                  P_eff = Σ γ_i ι_i P_i ι_iᵀ, its eigenvalues
    mixture    several matrices of some expert        C(u) is no quadratic form: bounds

Isotropic components of one expert reduce to the widest. For a mixture, with one component chosen
for each expert, C(u) = min over the choices in the numerator of max over those in the denominator
of uᵀ L u. Hence max_λ λ_min(Σ_m λ_m L_nm), least over n, bounds min_u C(u) from below (λ ≥ 0 with
sum 1), and C(u) at any u bounds it from above; both are sought by steps along eigenvectors.
(Course, L8.8, L8.9, H8.5.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genpath.errors import CapabilityError, ShapeError

from .compositions import Composition, Term
from .exponents import Exponent
from .lifted import Lifted
from .tails import Tail

__all__ = ["EffectivePrecision", "Levels"]

HUGE = 1e24
"""Precisions above count as infinite: α(1) of a cosine is 6e−17, not 0."""

CHOICES = 4096
"""More combinations of components than this, and only the crude bound is computed."""


@dataclass(frozen=True)
class Levels:
    """C at times, from below and above.

    Args:
        lower: a number that C exceeds, ``(T, K)``.
        upper: a value that C takes, ``(T, K)``; equal to lower but for mixtures.
        scale: Σ |γ_i| κ_i, the size of the numbers that cancel, ``(T, K)``.
        blind: whether no expert with γ ≠ 0 sees the coordinate, ``(T, d)`` or ``(T, 1)``.
        directions: u where upper is taken, ``(T, d)``; None for the axes.
    """

    lower: Tensor
    upper: Tensor
    scale: Tensor
    blind: Tensor
    directions: Tensor | None = None


@dataclass(frozen=True)
class Part:
    """An expert in the sum: its name, exponent, tail, and the coordinates that it sees."""

    name: str
    exponent: Exponent
    tail: Tail
    coordinates: tuple[int, ...] | None


class EffectivePrecision:
    """C_t of a composition.

    Args:
        composition: whose experts all have tails.

    Raises:
        CapabilityError: an expert has no tail; it is named.
        ShapeError: a tail has another size than its expert.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> tail = Tail(lambda t: 1 / (1 - t)[:, None, None] ** 2)
        >>> a = FieldExpert(lambda t, x: (x, -x), (1,), "a", tail=tail)
        >>> form = EffectivePrecision(a**0.5)
        >>> form.method, float(form(torch.tensor([0.5])).lower)
        ('axes', 2.0)
    """

    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        self.dimension = math.prod(composition.event_shape)
        missing = unknown_tails(composition)
        if missing:
            raise CapabilityError(
                "effective precision",
                "every expert has a tail.",
                got="none of " + ", ".join(missing),
                fix="give the expert `tail=affine_tail(schedule)`, or another Tail",
            )
        self.parts = tuple(_part(term) for term in composition.terms)
        probe = torch.full((1,), 0.5, dtype=torch.float64)
        shapes = [_tidy(part.tail.precisions(probe)).shape for part in self.parts]
        for part, shape in zip(self.parts, shapes, strict=True):
            size = self.dimension if part.coordinates is None else len(part.coordinates)
            if shape[-1] not in (1, size):
                got = f"{tuple(shape)} for {size} coordinates"
                raise ShapeError(f"tail of {part.name}", "one precision per axis.", got=got)
        several = any(len(shape) == 3 and shape[1] > 1 for shape in shapes)
        several = several or any(len(shape) == 4 and shape[1] > 1 for shape in shapes)
        matrices = any(len(shape) == 4 for shape in shapes)
        self.method: Literal["axes", "matrix", "mixture"] = (
            "mixture" if several else "matrix" if matrices else "axes"
        )
        plain = all(p.coordinates is None for p in self.parts)
        same = plain and all(shape[-1] == 1 for shape in shapes)
        self.width = 1 if same and self.method == "axes" else self.dimension
        self.covers = torch.zeros(len(self.parts), self.width, dtype=torch.bool)
        for i, part in enumerate(self.parts):
            self.covers[i, slice(None) if part.coordinates is None else list(part.coordinates)] = 1

    # -- the parts ---------------------------------------------------------------------------

    def gammas(self, t: Tensor) -> Tensor:
        """γ_i: ``(experts, T)``."""
        return torch.stack([part.exponent(t) for part in self.parts])

    def axes(self, t: Tensor) -> Tensor:
        """κ_ik of the form "axes": ``(experts, T, K)``; 0 where the expert does not look."""
        rows = []
        for part in self.parts:
            found = _tidy(part.tail.precisions(t))[:, 0]
            whole = found.new_zeros(len(t), self.width)
            where = slice(None) if part.coordinates is None else list(part.coordinates)
            whole[:, where] = found
            rows.append(_bounded(whole))
        return torch.stack(rows)

    def matrices(self, t: Tensor) -> list[Tensor]:
        """ι_i P_ij ι_iᵀ, one ``(T, J_i, d, d)`` per expert."""
        return [_embedded(part, _tidy(part.tail.precisions(t)), self.dimension)
                for part in self.parts]  # fmt: skip

    def along(self, t: Tensor, u: Tensor) -> Tensor:
        """κ_i(u): ``(experts, T)``, for one direction ``(T, d)`` per time."""
        rows = []
        for p in self.matrices(t):
            rows.append(torch.einsum("ta,tjab,tb->tj", u, p, u).amin(1))
        return torch.stack(rows)

    def __call__(self, t: Tensor) -> Levels:
        """C at times ``(T,)``."""
        gammas = self.gammas(t)
        seen = ((gammas != 0)[:, :, None] & self.covers[:, None, :]).any(0)
        if self.method == "axes":
            kappa = self.axes(t)
            terms = torch.where(gammas[:, :, None] == 0, 0.0, gammas[:, :, None] * kappa)
            total = terms.sum(0)
            return Levels(total, total, terms.abs().sum(0), ~seen)
        rows = 64 if self.dimension > 8 else 256
        found = [
            self._general(t[i : i + rows], gammas[:, i : i + rows]) for i in range(0, len(t), rows)
        ]
        lower, upper, scale, vectors = (torch.cat(part) for part in zip(*found, strict=True))
        return Levels(lower, upper, scale, ~seen, vectors)

    def _general(self, t: Tensor, gammas: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        stacks = [_bounded(p) for p in self.matrices(t)]
        fine = torch.stack([p.isfinite().all(3).all(2).all(1) for p in stacks]).all(0)
        stacks = [torch.where(fine[:, None, None, None], p, 0.0) for p in stacks]
        sizes = torch.stack([p.abs().amax((1, 2, 3)) for p in stacks])
        scale = (gammas.abs() * sizes).sum(0)[:, None]
        if self.method == "matrix":
            rows = zip(gammas, stacks, strict=True)
            total = torch.stack([g[:, None, None] * p[:, 0] for g, p in rows]).sum(0)
            values, vectors = torch.linalg.eigh(total)
            values = torch.where(fine[:, None], values, math.nan)
            return values, values, scale.expand_as(values), vectors[:, :, 0]
        lower = t.new_empty(len(t))
        upper, direction = t.new_empty(len(t)), t.new_empty(len(t), self.dimension)
        signs = (gammas > 0).T
        for pattern in signs.unique(dim=0):
            rows_at = (signs == pattern).all(1).nonzero()[:, 0]
            chosen = [p[rows_at] for p in stacks]
            low, high, u = _bracket(chosen, gammas[:, rows_at], pattern.tolist())
            lower[rows_at], upper[rows_at], direction[rows_at] = low, high, u
        lower, upper = (torch.where(fine, b, math.nan)[:, None] for b in (lower, upper))
        return lower, upper, scale, direction


def unknown_tails(composition: Composition) -> list[str]:
    """The names of the experts without a tail."""
    return [term.expert.name for term in composition.terms if term.expert.tail is None]


def _part(term: Term) -> Part:
    """A term, with nested lifts resolved to coordinates of the whole state."""
    expert, index = term.expert, term.coordinates
    while isinstance(expert, Lifted):
        index = expert.coordinates if index is None else tuple(index[k] for k in expert.coordinates)
        expert = expert.expert
    assert expert.tail is not None
    return Part(term.expert.name, term.exponent, expert.tail, index)


def _tidy(p: Tensor) -> Tensor:
    """Isotropic components as the widest of them, 1 × 1 matrices as numbers."""
    p = p.double()
    if p.dim() == 4 and p.shape[-1] == 1:
        p = p[..., 0]
    return p.amin(1, keepdim=True) if p.dim() == 3 and p.shape[-1] == 1 else p


def _bounded(p: Tensor) -> Tensor:
    return torch.where(p.abs() > HUGE, torch.full_like(p, math.inf), p)


def _embedded(part: Part, p: Tensor, size: int) -> Tensor:
    count = size if part.coordinates is None else len(part.coordinates)
    if p.dim() == 3:
        p = torch.diag_embed(p.expand(*p.shape[:2], count))
    if part.coordinates is None:
        return p
    whole = p.new_zeros(*p.shape[:2], size, size)
    index = torch.tensor(part.coordinates)
    whole[:, :, index[:, None], index[None, :]] = p
    return whole


# -- mixtures ------------------------------------------------------------------------------------


def _choices(stacks: Sequence[Tensor], gammas: Tensor) -> Tensor:
    """Σ_i γ_i P_i,c(i) for every choice c of one component per expert: ``(T, choices, d, d)``."""
    total = stacks[0].new_zeros(len(stacks[0]), 1, *stacks[0].shape[2:])
    for g, p in zip(gammas, stacks, strict=True):
        added = total[:, :, None] + (g[:, None, None, None] * p)[:, None]
        total = added.flatten(1, 2)
    return total


def _bracket(
    stacks: Sequence[Tensor], gammas: Tensor, above: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Bounds of min_u C(u) at each time, and the u of the upper one."""

    over = [i for i, up in enumerate(above) if up]
    under = [i for i, up in enumerate(above) if not up]
    counts = [math.prod(stacks[i].shape[1] for i in group) for group in (over, under)]
    if counts[0] * counts[1] > CHOICES:
        lower = sum(
            (g * _edge(p, bool(up)) for g, p, up in zip(gammas, stacks, above, strict=True)),
            0 * gammas[0],
        )
        found = torch.cat([torch.linalg.eigh(p)[1].transpose(-1, -2).flatten(1, 2)
                           for p in stacks], 1)  # fmt: skip
        return lower, *_descend(found, stacks, gammas)
    tops = _choices([stacks[i] for i in over], gammas[over]) if over else 0 * stacks[0][:, :1]
    bottoms = _choices([stacks[i] for i in under], gammas[under]) if under else 0 * stacks[0][:, :1]
    pairs = tops[:, :, None] + bottoms[:, None]  # (T, n, m, d, d)
    values, vectors = torch.linalg.eigh(pairs)
    least, found = values[..., 0], vectors[..., 0].flatten(1, 2)
    lower, taken = least.amax(2).amin(1), _along(found, stacks, gammas)
    upper, u = taken.amin(1), found[torch.arange(len(found)), taken.argmin(1)]
    length = _length(stacks, gammas)
    rows = (upper - lower > 1e-12 * length).nonzero()[:, 0]
    if len(rows):  # one choice of the denominators' components is not enough
        best, met = _best_mix(pairs[rows], least[rows])
        lower[rows] = best.amin(1)
        taken = _along(met, [p[rows] for p in stacks], gammas[:, rows])
        low, at = taken.min(1)
        better = low < upper[rows]
        upper[rows] = torch.where(better, low, upper[rows])
        u[rows] = torch.where(better[:, None], met[torch.arange(len(rows)), at], u[rows])
        open_ = upper[rows] - lower[rows] > 1e-6 * length[rows]
        met, rows = met[open_], rows[open_]
    if len(rows):  # neither are their mixtures, or the direction that shows it was not met
        starts = torch.cat([found[rows], met, u[rows][:, None]], 1)
        upper[rows], u[rows] = _descend(starts, [p[rows] for p in stacks], gammas[:, rows])
    return lower, upper, u


def _edge(p: Tensor, lowest: bool) -> Tensor:
    """min_j λ_min for a numerator, min_j λ_max for a denominator: a crude bound of min_u."""
    values = torch.linalg.eigvalsh(p)
    found: Tensor = values[..., 0].amin(1) if lowest else values[..., -1].amin(1)
    return found


def _best_mix(pairs: Tensor, least: Tensor, steps: int = 80) -> tuple[Tensor, Tensor]:
    """max over mixtures λ of the denominators' choices of λ_min: ``(T, n)``, by mirror ascent."""
    best = least.amax(2)
    if pairs.shape[2] == 1:
        return best, pairs.new_zeros(len(pairs), 0, pairs.shape[-1])
    logits, met, spread = torch.zeros_like(least), [], torch.zeros_like(pairs[:, :, 0])
    size = pairs.abs().amax((2, 3, 4)).clamp_min(1e-300)[..., None]
    for step in range(1, steps + 1):
        share = logits.softmax(2)
        values, vectors = torch.linalg.eigh(torch.einsum("tnm,tnmab->tnab", share, pairs))
        best = torch.maximum(best, values[..., 0])
        u = vectors[..., 0]
        slope = torch.einsum("tna,tnmab,tnb->tnm", u, pairs, u)
        logits = logits + 4 / math.sqrt(step) * slope / size
        spread = spread + u[..., :, None] * u[..., None, :]
        if step in (1, steps // 4, steps):
            met.append(u)
    # the mean of uuᵀ plays against the mean λ: for diagonal forms the root of its diagonal is
    # the minimiser itself, for others its first eigenvector is near
    met += [torch.linalg.eigh(spread)[1][..., -1], (spread.diagonal(0, -2, -1) / steps).sqrt()]
    return best, torch.cat(met, 1)


def _along(u: Tensor, stacks: Sequence[Tensor], gammas: Tensor) -> Tensor:
    """C(u) for directions ``(T, n, d)``: ``(T, n)``."""
    kappas = [torch.einsum("tna,tjab,tnb->tnj", u, p, u).amin(2) for p in stacks]
    return torch.stack([g[:, None] * k for g, k in zip(gammas, kappas, strict=True)]).sum(0)


def _descend(
    starts: Tensor, stacks: Sequence[Tensor], gammas: Tensor, steps: int = 60
) -> tuple[Tensor, Tensor]:
    """The least C(u) that subgradient steps on the sphere find, and its u."""
    rows, size = torch.arange(len(starts)), starts.shape[-1]
    axes = torch.eye(size, dtype=starts.dtype).expand(len(starts), size, size)
    starts = torch.cat([starts, axes, _signs(size).to(starts).expand(len(starts), -1, size)], 1)
    first = _along(starts, stacks, gammas)
    order = first.topk(min(12, first.shape[1]), 1, largest=False).indices
    u = starts.gather(1, order[..., None].expand(-1, -1, size))
    best, where = first.amin(1), starts[rows, first.argmin(1)]
    length = _length(stacks, gammas)[:, None, None]
    for step in range(steps):
        slope = torch.zeros_like(u)
        for g, p in zip(gammas, stacks, strict=True):
            pushed = torch.einsum("tjab,tnb->tnja", p, u)
            pick = (pushed * u[:, :, None]).sum(-1).argmin(2)
            chosen = pushed.gather(2, pick[..., None, None].expand(-1, -1, 1, size))[:, :, 0]
            slope = slope + g[:, None, None] * chosen
        u = u - 0.92**step * slope / length
        u = u / u.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        low, at = _along(u, stacks, gammas).min(1)
        better = low < best
        best = torch.where(better, low, best)
        where = torch.where(better[:, None], u[rows, at], where)
    return best, where


def _length(stacks: Sequence[Tensor], gammas: Tensor) -> Tensor:
    """Σ |γ| max |P|: the size of slopes."""
    rows = zip(gammas, stacks, strict=True)
    return torch.stack([g.abs() * p.abs().amax((1, 2, 3)) for g, p in rows]).sum(0) + 1e-300


def _signs(size: int) -> Tensor:
    """Diagonal directions: all signs in up to 6 dimensions, else a fixed set of draws."""
    if size <= 6:
        corners = torch.tensor(list(itertools.product((1.0, -1.0), repeat=size))).double()
    else:
        rng = torch.Generator().manual_seed(0)
        corners = torch.randn(64, size, generator=rng, dtype=torch.float64)
    found: Tensor = corners / corners.norm(dim=1, keepdim=True)
    return found
