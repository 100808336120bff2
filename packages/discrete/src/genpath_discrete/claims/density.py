r"""Density: draws have the law of the path, and its generators carry that law.

    dp_t/dt = p_t Q_t,      Q_t = E[Q_t^{x0,x1} | x_t],      d/dt log p_t = (L_t* p_t)/p_t

All states are listed, and the time derivative is automatic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.generators import MarkovGenerator
from genpath.reversal import reverse
from genpath.schedules import cosine_keep
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    contracts,
    dial,
    equal,
    frequencies,
    near,
)

from ..paths import MaskedPath, MixturePath
from ..spaces import Categorical
from .cases import (
    DOUBLE,
    PEAKED,
    Case,
    Cases,
    blunt,
    counts_of,
    dependent_ends,
    double,
    each,
    faster,
    faster_ends,
    independent_ends,
    index_of,
    late,
    masked_case,
    masked_cases,
    masked_ends,
    mean_rates,
    mixture_case,
    mixture_cases,
    posterior_field,
    random_table,
    rate_matrix,
    rate_of,
    separate,
    states_of,
    table,
    times,
    uniform_table,
)

__all__ = ["masked", "mixture"]

ROUNDINGS = 4096
"""Sums over 16 states and 81 pairs of ends, of rates up to 40 that cancel."""


def masked() -> tuple[Claim[Any], ...]:
    """Those of the masked path."""
    return (
        *contract_masked(),
        known_masked_law(),
        kolmogorov(
            masked_cases, (Control("posteriors that ignore the other site", each(separate)),)
        ),
        average(masked_cases, ("D.8",)),
    )


def mixture() -> tuple[Claim[Any], ...]:
    """Those of the mixture path."""
    return (
        *contract_mixture(),
        drawn_mixture_law(),
        kolmogorov(mixture_cases, (), ("S.5", "F9")),
        average(mixture_cases, ()),
        known_rates(),
    )


# -- what every path owes --------------------------------------------------------------------------


def contract_masked() -> tuple[Claim[Any], ...]:
    """The contract of paths, with the table as the exact field."""
    law = random_table(3, 2, torch.Generator().manual_seed(1))

    def pairs(count: int, rng: torch.Generator) -> Pairs:
        x1 = law.sample(count, rng)
        return Pairs(torch.full_like(x1, 3), x1)

    field = posterior_field(masked_ends(law), cosine_keep(), 3)
    make = lambda: MaskedPath(law.space, cosine_keep())  # noqa: E731
    return contracts.path(make, pairs, fields={"logits": field})


def contract_mixture() -> tuple[Claim[Any], ...]:
    """The contract of paths, with the posterior by Bayes as the exact field."""
    law = table(PEAKED)
    ends = independent_ends(uniform_table(law.space), law)
    field = posterior_field(ends, cosine_keep(), 3)

    def pairs(count: int, rng: torch.Generator) -> Pairs:
        x0 = torch.randint(3, (count, 2), generator=rng)
        return Pairs(x0, law.sample(count, rng))

    make = lambda: MixturePath(law.space, cosine_keep())  # noqa: E731
    return contracts.path(make, pairs, fields={"logits": field}, rows=5000)


# -- draws -----------------------------------------------------------------------------------------


def _drawn(case: Case, kappa: float, rng: torch.Generator, count: int) -> Tensor:
    """Counts of x_t at a time with this κ, of the linear schedule."""
    row = torch.multinomial(case.ends.weights, count, True, generator=rng)
    t = torch.full((count,), kappa, dtype=DOUBLE)
    x = case.path.draw(t, case.ends.x0[row], case.ends.x1[row], rng).state
    return counts_of(case.path.space, x)


def known_masked_law() -> Claim[Case]:
    """The law at κ = 0.37, with printed numbers."""
    known = (0.05476, 0.01369, 0.11655, 0.020535, 0.047915, 0.11655, 0.128205, 0.104895, 0.3969)
    printed = torch.tensor(known, dtype=DOUBLE)
    nll = torch.tensor([0.916290732, 2.302585093, 1.897119985, 1.049822124], dtype=DOUBLE)

    def check(case: Case, trial: Trial) -> Iterator[Evidence]:
        law = table()
        yield near("−log p", -law.log_prob(law.states()), nll, 1e-9, "printed digits")
        x = states_of(case.path.space)
        shown = (x != 2).sum(1).to(DOUBLE)
        kept = 0.37**shown * 0.63 ** (2 - shown) * law.log_prob(x).exp()
        yield near("p_t from marginals of the table", kept, printed, 1e-9, "printed digits")
        seen = _drawn(case, 0.37, trial.rng(), trial.count(60_000, 30_000))
        yield frequencies("draws at κ = 0.37", seen, printed)

    return Claim(
        "known-law",
        "Two letters in two sites: draws of x_t have the known law on the nine states.",
        lambda: masked_case(table()),
        check,
        (dial("κ^(1 + δ) in place of κ", late, 0.5),),
        formula=r"p_t(x) = \kappa^{|x|}(1-\kappa)^{L-|x|}\, p(x_{\text{unmasked}})",
        entries=("D-F1",),
        owes="existence",
    )


def drawn_mixture_law() -> Claim[Case]:
    """The law at κ = 0.37 against the sum over the ends."""

    def check(case: Case, trial: Trial) -> Iterator[Evidence]:
        kappa = torch.tensor(0.37, dtype=DOUBLE)
        seen = _drawn(case, 0.37, trial.rng(), trial.count(60_000, 30_000))
        yield frequencies("draws at κ = 0.37", seen, case.ends.law(kappa, case.states))

    rng = torch.Generator().manual_seed(5)
    ends = dependent_ends(Categorical(3, (2,)), rng)
    return Claim(
        "drawn-law",
        "Whatever the joint law of the ends, a site of x_t is that of x1 with probability κ(t), "
        "else that of x0.",
        lambda: mixture_case(ends, 3),
        check,
        (dial("κ^(1 + δ) in place of κ", late, 0.5),),
        formula=r"p_t(x \mid x_0, x_1) = \prod_i \kappa\,\delta_{x_1^i}(x^i) "
        r"+ (1-\kappa)\,\delta_{x_0^i}(x^i)",
        owes="existence",
    )


# -- forward equations -----------------------------------------------------------------------------


def kolmogorov(
    make: Callable[[], Cases],
    more: tuple[Control[Cases], ...],
    entries: tuple[str, ...] = ("D.1",),
) -> Claim[Cases]:
    """p' = p Q for the exact posterior, and its consequences."""

    def check(cases: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in cases:
            for t in times(2, trial.rng(case.words)):
                p, rate = rate_of(case.density, t)
                gen = case.generator()
                yield from _balance(f"{case.words}, t = {float(t):.2f}", gen, t, p, rate)
                yield from _corrected(case, gen, t, p, rate)

    return Claim(
        "kolmogorov",
        "The generator made of the exact posterior has non-negative rates and rows of sum 0, and "
        "carries the law of x_t: alone, and with any multiple of itself plus its reversal.",
        make,
        check,
        (dial("jumps × (1 + δ)", each(faster)), dial("logits × (1 − δ)", each(blunt)), *more),
        formula=r"\dot p_t = p_t Q_t, \qquad Q_t(x \to y) = \frac{\dot\kappa}{1-\kappa}\,"
        r"p(x_1^i = y^i \mid x_t = x), \qquad p_t(Q_t + \tilde Q_t) = 0",
        entries=entries,
        owes="density",
    )


def _balance(
    words: str, gen: MarkovGenerator, t: Tensor, p: Tensor, rate: Tensor
) -> Iterator[Evidence]:
    """Rates form a rate matrix, and carry p at the rate dp/dt; also in log form."""
    matrix, x = rate_matrix(gen, t), states_of(gen.space)  # type: ignore[arg-type]
    size = float(matrix.abs().max())
    off = matrix - torch.diag(matrix.diag())
    yield at_most(f"{words}: −Q(x → y)", -off, torch.zeros_like(off), "rates are not negative")
    rows = matrix.sum(1)
    yield equal(f"{words}: row sums", rows, torch.zeros_like(rows), scale=size)
    yield equal(f"{words}: Σ pQ", (p @ matrix).sum(), 0.0, scale=size)
    yield equal(f"{words}: p Q", p @ matrix, rate, operations=ROUNDINGS, scale=size)
    log_p = lambda y: p.log()[index_of(gen.space, y)]  # type: ignore[arg-type]  # noqa: E731
    change, size = gen.adjoint(log_p, t.expand(len(x)), x), size / float(p.min())
    yield equal(f"{words}: (L* p)/p", change, rate / p, operations=ROUNDINGS, scale=size)


def _corrected(
    case: Case, gen: MarkovGenerator, t: Tensor, p: Tensor, rate: Tensor
) -> Iterator[Evidence]:
    """L + η(L + L̃) carries p too, for η = 1 and 5."""
    back = reverse(gen, log_density=case.log_density)
    matrix, turned = rate_matrix(gen, t), rate_matrix(back, 1 - t)
    for eta in (1.0, 5.0):
        found = p @ (matrix + eta * (matrix + turned))
        size = eta * float(matrix.abs().max() + turned.abs().max())
        yield equal(f"{case.words}: corrected by η = {eta:g}", found, rate,
                    operations=ROUNDINGS, scale=size)  # fmt: skip


def average(make: Callable[[], Cases], entries: tuple[str, ...]) -> Claim[Cases]:
    """The marginal rates against the mean of the conditional rates, state by state."""

    def check(cases: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in cases:
            (t,) = times(1, trial.rng(case.words))
            x = case.states
            dense = mean_rates(case, t)
            found = rate_matrix(case.generator(), t)
            size = float(dense.abs().max())
            yield equal(f"{case.words}: Q", found, dense, operations=ROUNDINGS, scale=size)
            values = torch.randn(len(x), generator=trial.rng("f"), dtype=DOUBLE)
            with double():
                moved = case.generator().apply(
                    lambda y: values[index_of(case.path.space, y)],  # noqa: B023
                    t.expand(len(x)),
                    x,
                )
            yield equal(f"{case.words}: L f", moved, dense @ values,
                        operations=ROUNDINGS, scale=8 * size)  # fmt: skip

    return Claim(
        "average-of-conditionals",
        "The rates made of logits, site by site, are those of the dense matrix of conditional "
        "rates, averaged over the ends given the state.",
        make,
        check,
        (
            dial("conditional generator × (1 + δ)", each(faster_ends)),
            dial("logits × (1 − δ)", each(blunt)),
        ),
        formula=r"Q_t(x \to y) = \mathbb{E}\big[Q_t^{x_0,x_1}(x \to y) \mid x_t = x\big]",
        entries=entries,
        owes="density",
    )


# -- printed rates ---------------------------------------------------------------------------------


def known_rates() -> Claim[Case]:
    """One letter at κ = 0.4."""
    known = [[0, 0.394736842, 0.657894737], [0.2, 0, 0.5], [0.125, 0.1875, 0]]
    printed = torch.tensor(known, dtype=DOUBLE)

    def make() -> Case:
        base, law = table((0.5, 0.3, 0.2)), table((0.2, 0.3, 0.5))
        return mixture_case(independent_ends(base, law), 3, noise=base)

    def check(case: Case, trial: Trial) -> Iterator[Evidence]:
        t = torch.tensor(0.4, dtype=DOUBLE)
        law = torch.tensor([0.38, 0.30, 0.32], dtype=DOUBLE)
        yield equal("p_t", case.density(t), law)
        rates = rate_matrix(case.generator(), t)
        yield near("Q", rates.clamp_min(0), printed, 1e-9, "printed digits")
        mean = mean_rates(case, t).clamp_min(0)
        yield near("E[Q | x]", mean, printed, 1e-9, "printed digits")

    def uniform(case: Case) -> Case:
        ends = independent_ends(uniform_table(Categorical(3, (1,))), table((0.2, 0.3, 0.5)))
        return replace(case, field=posterior_field(ends, case.schedule, 3))

    return Claim(
        "known-rates",
        "One letter with base (.5, .3, .2) and data (.2, .3, .5) has the known rates at κ = 0.4, "
        "and so has the mean of its conditional rates.",
        make,
        check,
        (
            dial("jumps × (1 + δ)", faster),
            Control("the posterior of another base", uniform),
        ),
        entries=("G.15",),
    )
