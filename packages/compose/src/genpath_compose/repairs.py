r"""Repair: exponents that are raised between the ends of time, so that a path exists.

    γ̃_j(t) = γ_j(t) + b_j(t)      b_j ≥ 0, b_j(0) = b_j(end) = 0      C̃ = C + Σ_j b_j κ_j ≥ δ

Both ends of the path stay what they are. If C(0) > 0 there are such bumps on every [0, t_end],
t_end < 1, where the bumped experts see every coordinate (course, L8.12–L8.14; ACE, arXiv
2512.10339). What cannot be repaired is said to be so:

    C(0) ≤ 0                          bumps vanish at 0
    C_k < δ, and no bumped expert     they act only where their expert looks
    sees k
    t_end = 1, compact data           a bump gains ~1/(1 − t) there, the deficit is −c/(1 − t)²
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch

from genpath.errors import CapabilityError, DomainError

from .bumps import Bump, Shape, bump, quadratic, ramp
from .certificates import Certificate, certify
from .compositions import Composition
from .errors import PathCollapseError, RepairError
from .exponents import Exponent
from .fitting import Problem, fit_bump, numerators
from .precisions import EffectivePrecision

__all__ = [
    "AdaptiveExponents",
    "Bump",
    "Repair",
    "Shape",
    "bump",
    "fit_bump",
    "quadratic",
    "ramp",
    "repair",
]


@dataclass(frozen=True)
class Repair:
    """A composition with bumped exponents, and what that changed.

    Args:
        composition: that exists.
        bumps: those that are not 0.
        before, after: the certificates.
        end_change: the largest b(t_end): how far exponents at t_end are from those asked for.
    """

    composition: Composition
    bumps: tuple[Bump, ...]
    before: Certificate
    after: Certificate
    end_change: float = 0.0

    def words(self) -> str:
        """What was added, and the least C before and after."""
        if not self.bumps:
            return f"nothing to repair: {self.before.words()}"
        added = ", ".join(found.words() for found in self.bumps)
        text = f"{added}: min C {self.before.minimum:.4g} → {self.after.minimum:.4g}"
        if self.end_change > 1e-9:
            text += f"; exponents at t = {self.after.t_end:g} are raised by {self.end_change:.3g}"
        return text


def repair(
    composition: Composition,
    *,
    margin: float = 0.0,
    t_start: float = 0.0,
    t_end: float = 0.99,
    terms: Sequence[int] | None = None,
    shapes: Sequence[Shape | Literal["quadratic", "ramp"]] = ("quadratic", "ramp"),
) -> Repair:
    """The composition with the smallest bumps for which it exists with C ≥ δ.

    With several terms or shapes the sizes minimise the mean of b + |ḃ|, by a linear programme
    (scipy, the extra ``lp``; without it, the best single bump is taken).

    Args:
        composition: its experts have tails.
        margin: δ; 0 stands for a tenth of C at t_start, as C = 0 decides nothing.
        t_start, t_end: where the path is to exist.
        terms: which exponents may be raised; those that are positive at t_start if None, and all
            if these do not suffice.
        shapes: of bumps; with end = 1 unless made by `quadratic` and `ramp` with another.

    Raises:
        RepairError: no bump does it, with the reason: C(0) ≤ 0, a coordinate that no chosen expert
            sees, or precisions that are infinite at t_end.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> from genpath_compose.tails import Tail
        >>> one = Tail(lambda t: torch.ones_like(t)[:, None, None])
        >>> dip = Tail(lambda t: 1 / ((1 - t) ** 2 + t**2)[:, None, None])
        >>> a, b = (FieldExpert(lambda t, x: (x, -x), (1,), n, tail=p) for n, p in
        ...         (("a", one), ("b", dip)))
        >>> repair(a / b**0.7, margin=0.05, shapes=("quadratic",)).words()
        'a + 1.8 quadratic: min C -0.4 → 0.05; exponents at t = 0.99 are raised by 0.0178'
    """
    before = certify(composition, t_start=t_start, t_end=t_end, margin=margin)
    if before.keeps_margin:
        return Repair(composition, (), before, before)
    if before.method == "none":
        raise RepairError(
            "repair", "every expert has a tail.", got=before.words(),
            fix="give the expert `tail=…`; without tails nothing can be said",
        )  # fmt: skip
    if margin == 0 and before.status != "exists":
        start = EffectivePrecision(composition)(torch.tensor([t_start], dtype=torch.float64))
        margin = 0.1 * max(float(start.lower.min()), 0.0)
    made = [s if isinstance(s, Shape) else ramp() if s == "ramp" else quadratic() for s in shapes]
    found = _fitted(composition, made, terms, margin, t_start, t_end)
    bumps = tuple(b for b in found if b.size > 0)
    whole = Problem(composition, (), margin, t_start, t_end).adapted(bumps)
    after = certify(whole, t_start=t_start, t_end=t_end, margin=margin)
    last = torch.tensor([t_end], dtype=torch.float64)
    change = sum(float(b.size * b.shape(last)) for b in bumps)
    return Repair(whole, bumps, before, after, change)


def _fitted(
    composition: Composition,
    shapes: Sequence[Shape],
    terms: Sequence[int] | None,
    margin: float,
    t_start: float,
    t_end: float,
) -> tuple[Bump, ...]:
    everyone = list(range(len(composition.terms)))
    tries = [list(terms)] if terms is not None else [numerators(composition, t_start), everyone]
    reason: RepairError | None = None
    for chosen in tries:
        columns = tuple((index, shape) for index in chosen for shape in shapes)
        if not columns:
            continue
        try:
            if len(columns) == 1 or find_spec("scipy") is not None:
                return Problem(composition, columns, margin, t_start, t_end).solved()
            return _single(composition, columns, margin, t_start, t_end)
        except RepairError as error:
            reason = reason or error
    raise reason or RepairError("repair", "one term and one shape, or more.", got="none")


def _single(
    composition: Composition,
    columns: Sequence[tuple[int, Shape]],
    margin: float,
    t_start: float,
    t_end: float,
) -> tuple[Bump, ...]:
    """The cheapest single bump, without a linear programme."""
    found = list[tuple[float, tuple[Bump, ...]]]()
    for column in columns:
        problem = Problem(composition, (column,), margin, t_start, t_end)
        try:
            bumps = problem.solved()
        except RepairError:
            continue
        found.append((bumps[0].size * float(problem.cost()[0]), bumps))
    if not found:
        raise CapabilityError(
            "repair",
            "one bump suffices, or scipy is there to combine several.",
            got="neither",
            fix='pip install "genpath-compose[lp]"',
        )
    return min(found, key=lambda pair: pair[0])[1]


@dataclass(frozen=True)
class AdaptiveExponents:
    """Exponents that equal those of a composition at both ends, and keep C ≥ δ between.

    Args:
        composition: whose ends are wanted.
        exponents: one per term, of your own making.
        margin: δ ≥ 0.
        t_start, t_end: where C is looked at.
        end: where exponents return to those of the composition: 1, or t_end.

    Raises:
        DomainError: an exponent differs at an end; it is named.
        PathCollapseError: C < δ at a time between, or the path is not certified.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> from genpath_compose.tails import Tail
        >>> tail = Tail(lambda t: torch.ones_like(t)[:, None, None])
        >>> a = FieldExpert(lambda t, x: (x, -x), (1,), "a", tail=tail)
        >>> AdaptiveExponents(a**2, (2 + bump(1.0),), margin=1.0).certificate.status
        'exists'
    """

    composition: Composition
    exponents: tuple[Exponent, ...]
    margin: float = 0.0
    t_start: float = 0.0
    t_end: float = 0.99
    end: float = 1.0

    def __post_init__(self) -> None:
        edges = torch.tensor([0.0, self.end], dtype=torch.float64)
        terms = zip(self.composition.terms, self.exponents, strict=True)
        for term, adapted in terms:
            gap = (adapted(edges) - term.exponent(edges)).abs()
            if float(gap.max()) > 1e-9 * max(1.0, float(term.exponent(edges).abs().max())):
                raise DomainError(
                    "AdaptiveExponents",
                    "exponents are those of the composition at both ends.",
                    got=f"{term.expert.name} is off by {float(gap[0]):g} at t = 0 and by "
                    f"{float(gap[1]):g} at t = {self.end:g}",
                )
        found = self.certificate
        if not found.keeps_margin:
            raise PathCollapseError(
                "AdaptiveExponents",
                f"C ≥ {self.margin:g} at all times." if self.margin else "the path exists.",
                got=found.words(),
                fix="raise an exponent between the ends: fit_bump, repair",
            )

    @property
    def adapted(self) -> Composition:
        """The composition with these exponents."""
        return self.composition.with_exponents(self.exponents)

    @property
    def certificate(self) -> Certificate:
        """Of the adapted composition, on a grid ten times as fine as the usual one."""
        count = 4000
        grid = [self.t_start + (self.t_end - self.t_start) * i / count for i in range(count + 1)]
        return certify(self.adapted, grid, margin=self.margin)
