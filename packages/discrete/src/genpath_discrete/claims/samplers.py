r"""Control: what a finite number of steps costs, with the exact formula.

    law of N equal steps = (1 − 1/N) p + (1/N) p¹ ⊗ p²            two masked sites, exact posteriors
    total variation of one letter = 0,  of two letters O(1/N)

Laws of chains are products of one-step laws, without draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.jumps import RateJumps
from genpath.models import Jump
from genpath.parts import Parts
from genpath.samplers import Euler
from genpath.schedules import cosine_keep, linear_keep, power_keep
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    dial,
    equal,
    exact,
    frequencies,
    near,
    order,
)

from ..spaces import Categorical
from .cases import (
    DOUBLE,
    Case,
    Cases,
    blunt,
    counts_of,
    double,
    each,
    euler_law,
    independent_ends,
    late,
    mask_start,
    masked_case,
    mixture_case,
    model_of,
    on_data,
    product_law,
    separate,
    table,
    uniform_table,
    variation,
)

__all__ = ["masked", "mixture"]


def masked() -> tuple[Claim[Any], ...]:
    """Those of the masked path."""
    return (factorisation(), drawn_samples(), frozen())


def mixture() -> tuple[Claim[Any], ...]:
    """Those of the mixture path."""
    return (one_letter(), first_order())


# -- steps of masked letters -----------------------------------------------------------------------


def _ends(case: Case, grid: Any) -> Tensor:
    space: Categorical = case.path.space
    return euler_law(case.generator(), grid, mask_start(space))


def factorisation() -> Claim[Case]:
    """The law of N steps, on two masked letters."""
    one_step = torch.tensor([0.275, 0.225, 0.275, 0.225], dtype=DOUBLE)

    def check(case: Case, trial: Trial) -> Iterator[Evidence]:
        law = table()
        p, product = law.probabilities.flatten(), product_law(law).probabilities.flatten()
        found = on_data(case.path.space, _ends(case, TimeGrid.uniform(1).times))
        yield near("law of one step", found, one_step, 1e-12, "printed exactly")
        for count in (1, 2, 4, 8, 16):
            end = _ends(case, TimeGrid.uniform(count).times)
            found = on_data(case.path.space, end)
            yield equal(f"masks left, N = {count}", end.sum() - found.sum(), 0.0)
            mixed = (1 - 1 / count) * p + product / count
            yield equal(f"law, N = {count}", found, mixed)
            yield equal(f"total variation, N = {count}", variation(found, p), 0.25 / count)
        wavy = masked_case(law, cosine_keep(), field=case.field)
        grid = TimeGrid.uniform(7).times
        steps = cosine_keep().kappa(torch.tensor(grid, dtype=DOUBLE)).diff()
        found = on_data(wavy.path.space, _ends(wavy, grid))
        cost = 0.25 * steps.square().sum()
        yield equal("total variation, cosine, N = 7", variation(found, p), cost)

    return Claim(
        "factorisation-error",
        "Exact posteriors, revealed in N equal steps: two letters have the law of N − 1 parts of "
        "p and one part of the product of its marginals. Steps Δκ cost the sum of their squares.",
        lambda: masked_case(table()),
        check,
        (
            dial("logits × (1 − δ)", blunt),
            Control("posteriors that ignore the other site", separate),
        ),
        formula=r"p^{(N)} = \Big(1-\sum_i (\Delta\kappa_i)^2\Big)\,p "
        r"+ \sum_i (\Delta\kappa_i)^2\; p^1 \otimes p^2",
        entries=("Y7", "D.22", "D-F1"),
        owes="control",
    )


def drawn_samples() -> Claim[Case]:
    """Draws of a model, with the law of its chain."""

    def check(case: Case, trial: Trial) -> Iterator[Evidence]:
        count, model = trial.count(80_000, 40_000), model_of(case)
        with double():
            x = model.sample(count, Jump(), Euler(), TimeGrid.uniform(4), trial.rng(), chunk=50_000)
        inside = model.path.letters.contains(x)  # type: ignore[attr-defined]
        yield exact("samples without a mask", bool(inside.all()))
        law = table()
        mixed = 0.75 * law.probabilities + 0.25 * product_law(law).probabilities
        yield frequencies("samples of four steps", counts_of(law.space, x), mixed.flatten())

    return Claim(
        "samples",
        "Samples of four steps have the law of the chain, and no mask is left.",
        lambda: masked_case(table()),
        check,
        (
            dial("logits × (1 − δ)", blunt, 0.5),
            Control("posteriors that ignore the other site", separate),
        ),
        formula=r"x \sim \tfrac34 p + \tfrac14\, p^1 \otimes p^2",
        entries=("D.22",),
    )


def frozen() -> Claim[Any]:
    """What frozen rates would leave of the masks."""
    printed = {10: 0.0534522, 100: 0.0055866}

    def rates(case: Case) -> MarkovGenerator:
        def evaluate(t: Tensor, x: Tensor) -> Parts:
            part = case.path.jumps(t, x, case.field(t, x))
            return Parts(jumps=RateJumps(part.rates(), x))  # no closed form of their integral

        return MarkovGenerator(case.path.space, evaluate, frozenset({"jumps"}))

    def check(case: Case, trial: Trial) -> Iterator[Evidence]:
        start = mask_start(case.path.space)
        for count, known in printed.items():
            grid = TimeGrid.uniform(count).times
            left = euler_law(rates(case), grid, start)[-1]
            yield near(f"frozen rates, N = {count}", left, known, 5e-8, "printed digits")
            product = torch.exp(-1 / torch.arange(1, count + 1, dtype=DOUBLE)).prod()
            yield equal(f"Π exp(−1/(N − i)), N = {count}", left, product, operations=1024)
        for count in (1, 10):
            ours = euler_law(case.generator(), TimeGrid.uniform(count).times, start)[-1]
            yield exact(f"integrated rates, N = {count}", float(ours), 0.0)

    return Claim(
        "no-mask-is-left",
        "A step of integrated rates leaves no mask at t = 1; a step of frozen rates, 1 − "
        "exp(−hκ̇/(1−κ)), would leave a known share of them.",
        lambda: masked_case(table((0.2, 0.8))),
        check,
        (dial("jumps × (1 + δ)", _faster_parts), dial("κ^(1 + δ) in place of κ", late)),
        formula=r"\prod_{i=0}^{N-1} e^{-1/(N-i)} > 0 = "
        r"\prod_{i=0}^{N-1}\Big(1 - \frac{\kappa_{i+1}-\kappa_i}{1-\kappa_i}\Big)",
        entries=("Y6",),
    )


def _faster_parts(case: Case, size: float) -> Case:
    """Another hazard: κ^{…} such that rates are multiplied by 1 + δ."""
    kappa = case.schedule.kappa
    schedule = type(case.schedule)(lambda t: 1 - (1 - kappa(t)) ** (1 + size))
    return replace(case, path=replace(case.path, schedule=schedule))


# -- steps of mixture letters ----------------------------------------------------------------------


def one_letter() -> Claim[Cases]:
    """One letter is carried exactly by steps of any length."""

    def make() -> Cases:
        law = table((0.2, 0.3, 0.5))
        ends = independent_ends(uniform_table(law.space), law)
        return (
            masked_case(law, power_keep(2.0)),
            mixture_case(ends, 3, cosine_keep()),
        )

    def check(cases: Cases, trial: Trial) -> Iterator[Evidence]:
        law = table((0.2, 0.3, 0.5)).probabilities
        for case in cases:
            uniform = torch.full((3,), 1 / 3, dtype=DOUBLE)
            hidden = case.words == "masked"
            start = mask_start(case.path.space) if hidden else uniform
            inner = torch.rand(3, generator=trial.rng(case.words), dtype=DOUBLE).sort().values
            for grid in ([0.0, 1.0], [0.0, *inner.tolist(), 1.0]):
                end = euler_law(case.generator(), grid, start)
                yield equal(f"{case.words}, {len(grid) - 1} steps", end[:3], law)

    return Claim(
        "one-letter-is-exact",
        "One letter is carried to its data law exactly by steps of any length: a step averages "
        "the exact bridge over the posterior.",
        make,
        check,
        (dial("logits × (1 − δ)", each(blunt)),),
        formula=r"p(x_s \mid x_t) = \sum_z q(x_s \mid x_t, z)\, p(z \mid x_t)",
    )


def first_order() -> Claim[Case]:
    """Two letters have an error of order 1/N."""

    def make() -> Case:
        law = table()
        return mixture_case(independent_ends(uniform_table(law.space), law), 2, linear_keep())

    def check(case: Case, trial: Trial) -> Evidence:
        start, law = case.density(torch.zeros((), dtype=DOUBLE)), table().probabilities.flatten()
        counts = (8, 16, 32, 64)
        gaps = []
        for count in counts:
            end = euler_law(case.generator(), TimeGrid.uniform(count).times, start)
            gaps.append(float(variation(end, law)))
        return order("total variation", [1 / n for n in counts], gaps, 1.0)

    return Claim(
        "first-order",
        "Letters that move at once, each from its own posterior, have the law of the data up to "
        "an error of first order in the step.",
        make,
        check,
        (dial("logits × (1 − δ)", blunt, 0.25), dial("κ^(1 + δ) in place of κ", late, 0.25)),
        formula=r"\mathrm{TV}(p^{(N)}, p) = O(1/N)",
        entries=("S.4",),
        owes="control",
    )
