r"""Presets: the compositions that have names.

    annealed      q^β                                  sharper (β > 1) or flatter
    product       (q_1 ⋯ q_n)^β                        what all experts find likely
    geometric     q_1^{1−β} q_2^β                      from one law to the other, and beyond
    guided        q(x|c)^{1+w} q(x|∅)^{−w}             classifier-free guidance
    tilted        q e^{β_t r}                          a reward
    ratio         a / b                                what b does not explain
    scaffold_decoration                                molecules about a scaffold, in a pocket

Each is an ordinary `Composition`, which prints with its exponents. (Course, L7.2 and L8.25; Skreta
et al. 2025, arXiv 2503.02819; for guidance Ho & Salimans 2022, arXiv 2207.12598.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.schedules import Scalar

from .compositions import Composition
from .experts import Expert, Reward
from .exponents import Exponent, exponent
from .mixtures import either

__all__ = [
    "LINEAR",
    "SPOKEN",
    "annealed",
    "geometric",
    "guided",
    "product",
    "ratio",
    "scaffold_decoration",
    "tilted",
]

Power = float | Exponent | Scalar | Callable[[Tensor], Tensor]
"""An exponent: a number, or a function of times ``(batch,)``."""

LINEAR = Exponent(0.0, Scalar(lambda t: t, torch.ones_like))
"""β_t = t."""

Operand = Expert | Composition


def annealed(q: Operand, beta: Power) -> Composition:
    """q^β.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> q = FieldExpert(lambda t, x: (0 * x, -x), (1,), "q")
        >>> print(annealed(q, 2.5))
        q^(2.5)
    """
    return q.composition() ** beta


def product(*qs: Operand, beta: Power = 1.0) -> Composition:
    """(q_1 ⋯ q_n)^β.

    Raises:
        DomainError: no factor.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> a, b = (FieldExpert(lambda t, x: (0 * x, -x), (1,), name) for name in "ab")
        >>> print(product(a, b, beta=1.5))
        a^(1.5) · b^(1.5)
    """
    if not qs:
        raise DomainError("product", "a product has a factor or more.", got="none")
    total = qs[0].composition()
    for q in qs[1:]:
        total = total * q
    return total**beta


def geometric(q1: Operand, q2: Operand, beta: Power) -> Composition:
    """q_1^{1−β} q_2^β: q_1 at β = 0, q_2 at β = 1; a power is negative outside [0, 1].

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> a, b = (FieldExpert(lambda t, x: (0 * x, -x), (1,), name) for name in "ab")
        >>> print(geometric(a, b, 0.25))
        a^(0.75) · b^(0.25)
    """
    power = exponent(beta)
    return q1.composition() ** (1.0 + -power) * q2.composition() ** power


def guided(conditional: Operand, unconditional: Operand, w: Power) -> Composition:
    """q(x|c)^{1+w} q(x|∅)^{−w}: classifier-free guidance as a law.

    Two conventions are in use. Here w = 0 is no guidance (Ho & Salimans 2022). Where the guided
    score is written s_∅ + ω (s_c − s_∅), ω = 1 + w: pass ω − 1. It is `geometric` of the
    unconditional and the conditional law at β = 1 + w.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> c, n = (FieldExpert(lambda t, x: (0 * x, -x), (1,), name) for name in ("cat", "null"))
        >>> print(guided(c, n, 0.5))
        cat^(1.5) · null^(-0.5)
    """
    power = exponent(w)
    return conditional.composition() ** (1.0 + power) * unconditional.composition() ** -power


def tilted(
    q: Expert,
    reward: Reward | Callable[[Tensor], Tensor],
    beta: Power = LINEAR,
) -> Composition:
    """q e^{β_t r}: a law tilted by a reward, with β_0 = 0 so that particles start from q_0.

    Args:
        q: an expert.
        reward: r, a `Reward`, or a function of points ``(batch, *event) -> (batch,)``.
        beta: β_t; t by default, which ends at q e^r.

    Raises:
        DomainError: β_0 ≠ 0.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> q = FieldExpert(lambda t, x: (0 * x, -x), (1,), "q")
        >>> print(tilted(q, lambda x: x[:, 0], lambda t: 2 * t))
        q^(1) · reward^(0 + m(t))
    """
    factor = reward if isinstance(reward, Reward) else Reward(reward, q.event_shape)
    found = q * factor.composition() ** beta
    start = found.powers(0.0)[-1]
    if start != 0:
        raise DomainError(
            "tilted",
            "β_0 = 0, so that the tilted law starts where the expert does.",
            got=f"β_0 = {start:g}",
            fix="use a schedule such as lambda t: beta * t; or write q * reward**beta, with a "
            "start law of your own",
        )
    return found


def ratio(a: Operand, b: Operand) -> Composition:
    """a / b.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> a, b = (FieldExpert(lambda t, x: (0 * x, -x), (1,), name) for name in "ab")
        >>> print(ratio(a, b))
        a^(1) · b^(-1)
    """
    return a.composition() / b


def scaffold_decoration(
    molecule: Expert,
    conformer: Expert,
    pocket: Expert,
    scaffold: Expert,
    w: Power,
    *,
    scaffold_coordinates: Sequence[int],
    size: int | None = None,
) -> Composition:
    """p(M) [p(M^sc|T) p(M|P) / (p(M^sc) p(M))]^w: molecules about a scaffold, in a pocket.

    Exponents: molecule 1 − w, conformer w, pocket w, scaffold −w; the second and fourth see the
    scaffold's coordinates only (course, L8.25).

    Args:
        molecule: p(M), on all coordinates.
        conformer: p(M^sc | T), of the scaffold given its topology.
        pocket: p(M | P), on all coordinates.
        scaffold: p(M^sc), of the scaffold alone.
        w: guidance; 0 is p(M).
        scaffold_coordinates: where the scaffold lies in M.
        size: of M; that of the molecule's points if None.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> still = lambda t, x: (0 * x, -x)
        >>> m, p = (FieldExpert(still, (3,), name) for name in ("molecule", "pocket"))
        >>> c, s = (FieldExpert(still, (2,), name) for name in ("conformer", "scaffold"))
        >>> print(scaffold_decoration(m, c, p, s, 0.75, scaffold_coordinates=(0, 1)))
        molecule^(0.25) · conformer[0, 1]^(0.75) · pocket^(0.75) · scaffold[0, 1]^(-0.75)
    """
    power, index = exponent(w), tuple(scaffold_coordinates)
    whole = molecule.event_shape[0] if size is None else size
    found = (
        molecule ** (1.0 + -power)
        * conformer.on(*index) ** power
        * pocket**power
        * scaffold.on(*index) ** -power
    )
    return found.sized(whole)


# -- as a text calls them ------------------------------------------------------------------------


def _alone(operand: Composition) -> Expert:
    """The expert of a composition that is one expert."""
    (term,) = operand.terms
    return term.expert


def _annealed(qs: Sequence[Composition], numbers: Sequence[float]) -> Composition:
    """write annealed(q, β)"""
    (q,), (beta,) = qs, numbers
    return annealed(q, beta)


def _product(qs: Sequence[Composition], numbers: Sequence[float]) -> Composition:
    """write product(a, b, …) or product(a, b, …, β)"""
    (beta,) = numbers or (1.0,)
    return product(*qs, beta=beta)


def _geometric(qs: Sequence[Composition], numbers: Sequence[float]) -> Composition:
    """write geometric(a, b, β)"""
    (first, second), (beta,) = qs, numbers
    return geometric(first, second, beta)


def _guided(qs: Sequence[Composition], numbers: Sequence[float]) -> Composition:
    """write guided(conditional, unconditional, w)"""
    (conditional, unconditional), (w,) = qs, numbers
    return guided(conditional, unconditional, w)


def _tilted(qs: Sequence[Composition], numbers: Sequence[float]) -> Composition:
    """write tilted(q, reward, β): the exponent of the reward is β t"""
    (q, reward), (beta,) = qs, numbers
    return q * reward ** (LINEAR * beta)


def _ratio(qs: Sequence[Composition], numbers: Sequence[float]) -> Composition:
    """write ratio(a, b)"""
    (first, second), () = qs, numbers
    return ratio(first, second)


def _either(qs: Sequence[Composition], numbers: Sequence[float]) -> Composition:
    """write either(a, b, …) or either(a, b, …, weight of a, weight of b, …)"""
    return either(*map(_alone, qs), weights=list(numbers) or None).composition()


def _scaffold(qs: Sequence[Composition], numbers: Sequence[float]) -> Composition:
    """write scaffold_decoration(molecule, conformer, pocket, scaffold, w, coordinate, …)"""
    molecule, conformer, pocket, scaffold = map(_alone, qs)
    w, *index = numbers
    where = [int(k) for k in index]
    return scaffold_decoration(molecule, conformer, pocket, scaffold, w, scaffold_coordinates=where)


SPOKEN: Mapping[str, Callable[[Sequence[Composition], Sequence[float]], Composition]] = {
    "annealed": _annealed,
    "either": _either,
    "geometric": _geometric,
    "guided": _guided,
    "product": _product,
    "ratio": _ratio,
    "scaffold_decoration": _scaffold,
    "tilted": _tilted,
}
"""The presets that `genpath_compose.compositions.parse` knows: compositions and numbers → one."""
