r"""Control: divergences of path laws, and the bounds on −log p that they are.

    KL(p_1 ‖ p̂_1) ≤ KL(P ‖ P̂) = E_P ∫ Σ_y [Q log(Q/Q̂) − Q + Q̂] dt
    −log p̂_1(z) ≤ KL(P^z ‖ P̂),      mean over z of it = KL(P ‖ P̂) + const

The mixture path's own bound on −log p, KL(P^z ‖ P̂), is not tight at the exact posterior; that of
the reversed noising process is. Time integrals are by quadrature of the generators' rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.objectives import poisson
from genpath.reversal import reverse
from genpath.schedules import KeepSchedule, linear_keep
from genpath.testing import (
    Claim,
    Evidence,
    Trial,
    at_most,
    dial,
    equal,
    near,
)

from ..laws import Table
from ..paths import MaskedPath
from .cases import (
    DOUBLE,
    Case,
    Cases,
    divergence,
    each,
    euler_law,
    faster,
    faster_ends,
    masked_case,
    quadrature,
    rate_matrix,
)
from .reversals import noising_ends, noising_generator

__all__ = ["mixture", "path_kl"]


def mixture() -> tuple[Claim[Any], ...]:
    """Those of the mixture path."""
    return (loose_bound(), path_divergence())


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
        entries=("D.25",),
        owes="control",
    )


def _tempered(case: Case, power: float) -> Case:
    """Posteriors in proportion to a power of the exact ones."""
    field = case.field
    return replace(case, field=lambda t, x: power * field(t, x))
