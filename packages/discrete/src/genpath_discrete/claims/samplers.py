r"""Control: what a finite number of steps and a wrong model cost, with the exact formula.

    law of N equal steps = (1 − 1/N) p + (1/N) p¹ ⊗ p²            two masked sites, exact posteriors
    KL(p_1 ‖ p̂_1) ≤ KL(P ‖ P̂) = E_P ∫ Σ_y [Q log(Q/Q̂) − Q + Q̂] dt
    −log p̂_1(z) ≤ KL(P^z ‖ P̂),      mean over z of it = KL(P ‖ P̂) + const

The mixture path's own bound on −log p, KL(P^z ‖ P̂), is not tight at the exact posterior; that of
the reversed noising process is. Laws of chains are products of one-step laws, without draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.jumps import RateJumps
from genpath.models import Jump
from genpath.objectives import poisson
from genpath.parts import Parts
from genpath.reversal import reverse
from genpath.samplers import Euler
from genpath.schedules import KeepSchedule, cosine_keep, linear_keep, power_keep
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    dial,
    equal,
    exact,
    frequencies,
    near,
    order,
)

from ..laws import Table
from ..paths import MaskedPath
from ..spaces import Categorical
from .cases import (
    DOUBLE,
    Case,
    Cases,
    blunt,
    counts_of,
    divergence,
    double,
    each,
    euler_law,
    faster,
    faster_ends,
    independent_ends,
    late,
    mask_start,
    masked_case,
    mixture_case,
    model_of,
    on_data,
    product_law,
    quadrature,
    rate_matrix,
    separate,
    table,
    uniform_table,
    variation,
)
from .reversals import noising_ends, noising_generator

__all__ = ["masked", "mixture"]


def masked() -> tuple[Claim[Any], ...]:
    """Those of the masked path."""
    return (factorisation(), drawn_samples(), frozen())


def mixture() -> tuple[Claim[Any], ...]:
    """Those of the mixture path."""
    return (one_letter(), first_order(), loose_bound(), path_divergence())


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
        entries=("D.6",),
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


# -- path divergences ------------------------------------------------------------------------------


Rates = Callable[[Tensor], Tensor]


def path_kl(reference: Rates, model: Rates, law: Rates) -> Tensor:
    """∫ Σ_x p_t(x) Σ_y [Q log(Q/Q̂) − Q + Q̂] dt, of rate matrices as functions of times.

    The integrand may grow like log(1 − t); with t = 1 − v⁴ it is v³ log v, four times smoother.
    """
    v, weights = quadrature(48)
    t = 1 - v**4
    rates = [_off(made(t)) for made in (reference, model)]
    log_model = rates[1].clamp_min(1e-300).log().flatten(0, 1)
    value = poisson(None, None, rates[0].flatten(0, 1), log_model)  # type: ignore[arg-type]
    return (4 * v**3 * weights * (law(t) * value.reshape(len(t), -1)).sum(1)).sum()


def _off(matrix: Tensor) -> Tensor:
    """The rates off the diagonal: ``(times, states, states − 1)``."""
    size = matrix.shape[-1]
    return matrix[:, ~torch.eye(size, dtype=torch.bool)].reshape(len(matrix), size, size - 1)


def _rates(gen: MarkovGenerator) -> Rates:
    return lambda t: rate_matrix(gen, t)


def _between(schedule: KeepSchedule, start: Tensor, end: Tensor) -> Rates:
    """(1 − κ) start + κ end."""

    def law(t: Tensor) -> Tensor:
        kappa = schedule.kappa(t).unsqueeze(-1)
        return (1 - kappa) * start + kappa * end

    return law


def _bounds(case: Case) -> Tensor:
    """KL(P^z ‖ P̂) for every letter z of one site; x0 is all mask, or uniform."""
    states = case.states
    points = torch.eye(len(states), dtype=DOUBLE)
    hidden = isinstance(case.path, MaskedPath)
    start = points[-1] if hidden else torch.full((len(states),), 1 / len(states), dtype=DOUBLE)
    x0 = torch.full_like(states, case.path.mask_id) if hidden else states
    found = []
    for z in range(case.path.letters.letters):
        given = case.path.conditional_generator(x0, torch.full_like(states, z))
        seen = _between(case.schedule, start, points[z])
        found.append(path_kl(_rates(given), _rates(case.generator()), seen))
    return torch.stack(found)


def _noising_bounds(case: Case) -> Tensor:
    """KL(P^z ‖ P̂) of the reversed noising process for every letter z, and the exact model."""
    p1 = case.density(torch.ones((), dtype=DOUBLE))
    base, points = torch.full_like(p1, 1 / len(p1)), torch.eye(len(p1), dtype=DOUBLE)
    noise = noising_generator(case.path.space, base, case.schedule)

    def back(data: Tensor) -> Rates:
        def log_density(s: Tensor, x: Tensor) -> Tensor:
            law = _between(case.schedule, base, data)(1 - s)
            return law.gather(1, x).squeeze(1).log()

        return _rates(reverse(noise, log_density=log_density))

    return torch.stack(
        [path_kl(back(z), back(p1), _between(case.schedule, base, z)) for z in points]
    )


def loose_bound() -> Claim[Cases]:
    """The bound of the mixture rates and that of the reversed noising, at exact models."""
    data = torch.tensor([0.2, 0.3, 0.5], dtype=DOUBLE)
    other = torch.tensor([0.262751066, 0.321803021, 0.415445913], dtype=DOUBLE)
    other = other / other.sum()
    known = torch.tensor([2.030702038, 1.520831208, 0.904730919], dtype=DOUBLE)
    gaps = torch.tensor([0.354573, 0.306398, 0.252223], dtype=DOUBLE)

    def check(cases: Cases, trial: Trial) -> Iterator[Evidence]:
        first, second = cases
        found, tight = _bounds(first), _noising_bounds(first)
        yield near("mixture bound at the exact model", found, known, 2e-9, "printed digits")
        yield near("mean gap", data @ (found + data.log()), 0.285102215, 2e-9, "printed digits")
        yield near("noising bound", tight, -data.log(), 1e-9, "48 nodes; −log p")
        found = _bounds(second) + other.log()
        yield near("gaps of the other law", found, gaps, 1e-6, "printed digits")
        hidden = masked_case(Table(data), linear_keep())
        tight = _bounds(hidden)
        yield near("masked base: the same bound is tight", tight, -data.log(), 1e-9, "−log p")

    return Claim(
        "loose-bound",
        "The bound from the conditional rates of the mixture path stays above −log p at the exact "
        "model, by known gaps; those of the reversed noising and of a masked base are −log p.",
        lambda: (noising_ends(data), noising_ends(other)),
        check,
        (
            dial("jumps × (1 + δ)", each(faster)),
            dial("conditional generator × (1 + δ)", each(faster_ends)),
        ),
        formula=r"\mathrm{KL}(P^z \,\|\, \hat P) = \int \frac{\dot\kappa}{1-\kappa}\,\mathbb{E}\,"
        r"\big[1\{x = z\}(1-\hat p(x)) + 1\{x \ne z\}(-\log\hat p(z) - \hat p(x))\big]dt",
        entries=("Y1", "D.25", "G.12"),
        owes="control",
    )


def path_divergence() -> Claim[Case]:
    """Distorted models: printed bounds, a constant gap, and the law at the end."""
    data = torch.tensor([0.2, 0.3, 0.5], dtype=DOUBLE)
    known = torch.tensor([2.412598855, 1.763795999, 0.965999787], dtype=DOUBLE)

    def check(case: Case, trial: Trial) -> Iterator[Evidence]:
        sharp = _tempered(case, 1.5)
        bounds = _bounds(sharp)
        yield near("posteriors^1.5", bounds, known, 2e-9, "printed digits")
        right, gap = _bounds(case), data @ _bounds(case)
        for power in (1.5, 0.5):
            wrong = _tempered(case, power)
            among = path_kl(_rates(case.generator()), _rates(wrong.generator()), case.density)
            found = _bounds(wrong)
            yield equal(f"mean bound − KL(P ‖ P̂), power {power:g}", data @ found - among, gap,
                        operations=4096)  # fmt: skip
            end = euler_law(wrong.generator(), TimeGrid.uniform(32).times, case.density(0 * gap))
            yield at_most(f"−log p̂, power {power:g}", -end.log(), found, "Jensen")
            yield at_most(f"KL at the end, power {power:g}", divergence(data, end), among,
                          "data processing")  # fmt: skip
        yield at_most("−log p", -data.log(), right, "Jensen")

    return Claim(
        "path-divergence",
        "For wrong posteriors the bound has the known values; its mean is the divergence of the "
        "path laws plus a constant, and both are above what happens to the law at the end.",
        lambda: noising_ends(data),
        check,
        (
            dial("jumps × (1 + δ)", faster),
            dial("conditional generator × (1 + δ)", faster_ends),
        ),
        formula=r"\mathbb{E}_z\,\mathrm{KL}(P^z \,\|\, \hat P) = \mathrm{KL}(P \,\|\, \hat P) "
        r"+ \mathrm{const} \ge \mathrm{KL}(p_1 \,\|\, \hat p_1) + \mathrm{const}",
        entries=("D-F4", "D.25"),
        owes="control",
    )


def _tempered(case: Case, power: float) -> Case:
    """Posteriors in proportion to a power of the exact ones."""
    field = case.field
    return replace(case, field=lambda t, x: power * field(t, x))
