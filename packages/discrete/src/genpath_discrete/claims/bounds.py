r"""Bounds on −log p: their values, where they are least, and what they bound.

    −log p(x1) ≤ ∫ κ̇/(1−κ) E Σ_{i masked} −log p_θ(x1^i | x_t) dt        masked ELBO
    mean bound = H(p) + ∫ κ̇/(1−κ) E Σ_{i masked} KL(p(· | x_t) ‖ p_θ(· | x_t)) dt

The objective itself is evaluated at every pattern of masks and at Gauss–Legendre nodes of time; the
patterns are weighted by their probabilities, so that its mean is exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.grids import TimeGrid
from genpath.models import Model
from genpath.paths import Draw
from genpath.schedules import KeepSchedule
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    contracts,
    dial,
    equal,
    exact,
    mean,
    near,
)

from ..laws import Table
from ..likelihoods import ELBO
from ..objectives import MaskedELBO
from .cases import (
    DOUBLE,
    SCHEDULES,
    Field,
    double,
    mask_start,
    masked_case,
    model_of,
    quadrature,
    random_table,
    states_of,
    table,
    transition,
)

__all__ = [
    "ENTROPY",
    "INFORMATION",
    "ORDERS",
    "WEIGHTS",
    "Bound",
    "Bounds",
    "bound_of",
    "every",
    "likelihood",
    "objective",
    "root",
    "stepwise",
]

NLL = torch.tensor([0.916290732, 2.302585093, 1.897119985, 1.049822124], dtype=DOUBLE)
"""−log p of the table `cases.FAIR`."""
WRONG = torch.tensor([1.110278161, 1.795466463, 1.616373248, 1.184765438], dtype=DOUBLE)
"""The bound of posteriors in proportion to the square roots of the exact ones."""
ORDERS = torch.tensor([1.110210117, 1.795459592, 1.616365189, 1.184693758], dtype=DOUBLE)
"""−log of the law of that model, when it reveals letters in a uniform order."""
ENTROPY, WRONG_MEAN, INFORMATION = 1.248780543, 1.280781801, 0.132505451


def objective() -> tuple[Claim[Any], ...]:
    """Those of the masked ELBO."""
    return (known_values(), counts(), carried_over(), *values())


# -- the objective, exactly ------------------------------------------------------------------------


def root(law: Table) -> Field:
    """Posteriors in proportion to the square roots of the exact ones."""
    return lambda t, x: 0.5 * law.logits(x)


@dataclass(frozen=True)
class Bound:
    """An objective, a model, and the κ by which patterns of masks are weighted."""

    objective: Any
    model: Model
    schedule: KeepSchedule

    def exact(self, x1: Tensor, nodes: int = 24) -> Tensor:
        """Its mean for each row of data ``(rows,)``."""
        path: Any = self.model.path
        sites, rows = path.space.sites, len(x1)
        patterns = torch.cartesian_prod(*[torch.arange(2)] * sites).reshape(-1, sites)
        t, weights = quadrature(nodes)
        kappa, hidden = self.schedule.kappa(t), patterns.sum(1)
        chance = kappa[:, None] ** (sites - hidden) * (1 - kappa)[:, None] ** hidden
        data = x1.repeat_interleave(len(patterns), 0).repeat(nodes, 1)
        veils = patterns.repeat(rows, 1).repeat(nodes, 1).bool()
        state = torch.where(veils, path.mask_id, data)

        def draw(t: Tensor, x0: Any, x1: Tensor, rng: torch.Generator) -> Draw:
            return Draw(t, state, x0, x1)

        model = replace(self.model, path=but(path, draw=draw))
        each = t.repeat_interleave(rows * len(patterns))
        found = self.objective(model, Pairs(state, data), each, torch.Generator())
        values = found.reshape(nodes, rows, len(patterns)).to(DOUBLE)
        result: Tensor = torch.einsum("k,kp,krp->r", weights, chance, values)
        return result


def bound_of(law: Table, field: Field | None = None, schedule: Any = None) -> Bound:
    """The objective by time, on a model of a table."""
    case = masked_case(law, schedule, field=field)
    return Bound(MaskedELBO("time"), model_of(case), case.schedule)


def other_weight(
    bound: Bound, change: Callable[[KeepSchedule], Callable[[Tensor], Tensor]]
) -> Bound:
    """The objective with another weight in place of the hazard."""
    path: Any = bound.model.path
    schedule = but(path.schedule, hazard=change(path.schedule))
    return replace(bound, model=replace(bound.model, path=replace(path, schedule=schedule)))


def heavier(bound: Bound, size: float) -> Bound:
    """The weight × (1 + δ)."""
    return other_weight(bound, lambda schedule: lambda t: (1 + size) * schedule.hazard(t))


def rate_alone(bound: Bound) -> Bound:
    """κ̇ in place of κ̇/(1 − κ)."""
    return other_weight(bound, lambda schedule: schedule.kappa.rate)


def all_counted(bound: Bound) -> Bound:
    """Sites that are not masked count too."""
    path: Any = bound.model.path
    everywhere = but(path, masked=lambda state: torch.ones_like(state, dtype=torch.bool))
    return replace(bound, model=replace(bound.model, path=everywhere))


def stepwise(law: Table, field: Field, steps: int, path: Any = None) -> Tensor:
    """Σ_i E KL(q(x_{i+1} | x_i, x1) ‖ p_θ(x_{i+1} | x_i)) from one-step laws, for every x1."""
    case = masked_case(law, field=field)
    gen, path = case.generator(), path or case.path
    x, x1 = case.states, law.states()
    total, laws = (
        torch.zeros(len(x1), dtype=DOUBLE),
        mask_start(case.path.space).expand(len(x1), -1),
    )
    grid = TimeGrid.uniform(steps).times
    for t, t_next in itertools.pairwise(grid):
        model = transition(gen, t, t_next)
        moved = []
        for row, data in enumerate(x1):
            bridge = path.conditional_generator(
                torch.full_like(x, law.space.letters), data.expand_as(x)
            )
            step = transition(bridge, t, t_next)
            weights = laws[row][:, None] * step
            term = torch.where(weights > 0, weights * (step / model).log(), 0.0)
            total[row] += term.sum()
            moved.append(laws[row] @ step)
        laws = torch.stack(moved)
    return total


Bounds = tuple[Bound, ...]


def every(change: Callable[..., Bound]) -> Callable[..., Bounds]:
    """A fault in each."""
    return lambda bounds, *size: tuple(change(bound, *size) for bound in bounds)


WEIGHTS = (
    dial("weight × (1 + δ)", every(heavier)),
    Control("the weight is κ̇ alone", every(rate_alone)),
    Control("sites that are not masked count too", every(all_counted)),
)


def known_values() -> Claim[Bounds]:
    """The bound on two letters, exactly, for three schedules."""
    right = len(SCHEDULES)

    def make() -> Bounds:
        law = table()
        return tuple(
            bound_of(law, field, schedule)
            for field in (None, root(law))
            for _, schedule in SCHEDULES
        )

    def check(bounds: Bounds, trial: Trial) -> Iterator[Evidence]:
        law = table()
        found = [bound.exact(law.states()) for bound in bounds]
        for (words, _), tight, wrong in zip(SCHEDULES, found, found[right:], strict=False):
            yield near(f"exact posteriors, {words}", tight, NLL, 1e-9, "printed digits")
            yield near(f"square roots, {words}", wrong, WRONG, 1e-9, "printed digits")
            yield equal(f"{words} against linear", wrong, found[right], operations=256)
        p = law.probabilities.flatten()
        yield near("mean of the tight one", p @ found[0], ENTROPY, 1e-9, "printed digits")
        yield near("mean of the other", p @ found[right], WRONG_MEAN, 1e-9, "printed digits")

    return Claim(
        "known-values",
        "The masked ELBO is −log p at the exact posteriors, more at others, and does not depend "
        "on the schedule.",
        make,
        check,
        WEIGHTS,
        formula=r"-\log p(x_1) \le \int_0^1 \frac{\dot\kappa}{1-\kappa}\,\mathbb{E}"
        r"\sum_{i:\,x_t^i = m} -\log p_\theta(x_1^i \mid x_t)\,dt",
        entries=("D.17", "D.18", "S.6"),
        owes="control",
    )


def counts() -> Claim[Bounds]:
    """The estimator that fixes the number of masks has the same mean."""

    def make() -> Bounds:
        law = random_table(3, 3, torch.Generator().manual_seed(1))
        by_time = bound_of(law, root(law))
        return by_time, replace(by_time, objective=MaskedELBO("count"))

    def check(bounds: Bounds, trial: Trial) -> Evidence:
        by_time, by_count = bounds
        rng, copies = trial.rng(), trial.count(900, 500)
        x1 = states_of(by_time.model.path.letters)  # type: ignore[attr-defined]
        expected = by_time.exact(x1)
        data = x1.repeat(copies, 1)
        t = torch.rand(len(data), generator=rng, dtype=DOUBLE)
        value = by_count.objective(by_count.model, Pairs(data, data), t, rng)
        gap = value.reshape(copies, -1) - expected
        return mean("count − time, for every x1", gap, 0.0)

    def scaled(bounds: Bounds, size: float) -> Bounds:
        right = bounds[1].objective
        wrong = but(right, __call__=lambda *given: (1 + size) * right(*given))
        return bounds[0], replace(bounds[1], objective=wrong)

    return Claim(
        "by-count",
        "Masking a uniform number of sites, weighted by L/n, gives the bound of masking by time.",
        make,
        check,
        (
            dial("weight × (1 + δ)", scaled, 0.5),
            Control("the weight of time is κ̇ alone", lambda b: (rate_alone(b[0]), b[1])),
        ),
        formula=r"\int_0^1 \frac{\dot\kappa}{1-\kappa}\,\mathbb{E}[\cdot]\,dt = "
        r"\mathbb{E}_{n \sim U\{1..L\}}\,\frac{L}{n}\,\mathbb{E}[\cdot \mid n \text{ masks}]",
        entries=("D.17",),
    )


def values() -> tuple[Claim[Any], ...]:
    """One finite value per row, by the contract of objectives; with one mask in every row.

    Its claim on minimisers perturbs the path's targets, which this objective does not ask for; the
    path's own claim ``minimiser`` is exact.
    """
    law = random_table(3, 2, torch.Generator().manual_seed(7))

    def pairs(count: int, rng: torch.Generator) -> Pairs:
        x1 = law.sample(count, rng)
        return Pairs(torch.full_like(x1, 3), x1)

    made = contracts.objective(
        lambda: MaskedELBO("count"), lambda: bound_of(law).model, pairs, times=(0.1, 0.9)
    )
    return tuple(claim for claim in made if claim.name == "values")


def carried_over() -> Claim[Bounds]:
    """Gradients vanish at sites that are not masked; the limit of discrete time."""

    def make() -> Bounds:
        law = random_table(3, 2, torch.Generator().manual_seed(4))
        by_time = bound_of(law, root(law))
        return by_time, replace(by_time, objective=MaskedELBO("count"))

    def check(bounds: Bounds, trial: Trial) -> Iterator[Evidence]:
        for words, bound in zip(("time", "count"), bounds, strict=True):
            yield from _gradients(words, bound, trial.rng(words))
        law = random_table(3, 2, torch.Generator().manual_seed(4))
        coarse, fine = (stepwise(law, root(law), steps) for steps in (4, 8))
        limit, found = 2 * fine - coarse, bounds[0].exact(law.states())
        yield equal("limit of the bound in discrete time", found, limit, operations=4096)

    return Claim(
        "carry-over",
        "Sites that are not masked have gradient 0 exactly; the bound is the limit of the ones in "
        "discrete time, which with two sites are affine in 1/N.",
        make,
        check,
        (
            Control("sites that are not masked count too", every(all_counted)),
            dial("weight × (1 + δ)", every(heavier)),
        ),
        formula=r"\frac{\partial \ell}{\partial\,\text{logits}_i} = 0 \text{ where } x_t^i \ne m",
        entries=("D.19",),
    )


def _gradients(words: str, bound: Bound, rng: torch.Generator) -> Iterator[Evidence]:
    seen: dict[str, Tensor] = {}

    def network(t: Tensor, x: Tensor) -> Tensor:
        logits = torch.randn(*x.shape, 3, generator=rng, dtype=DOUBLE, requires_grad=True)
        seen.update(x=x, logits=logits)
        return logits

    field: Field = network
    model = replace(bound.model, network=field)
    x1 = torch.randint(3, (64, 2), generator=rng)
    t = torch.rand(64, generator=rng, dtype=DOUBLE)
    bound.objective(model, Pairs(x1, x1), t, rng).sum().backward()
    gradient, veiled = seen["logits"].grad, seen["x"] == 3
    assert gradient is not None
    yield exact(f"{words}: gradient where not masked", gradient[~veiled].abs().max(), 0.0)
    yield exact(f"{words}: all masked sites have one", bool(gradient[veiled].abs().sum(1).all()))


# -- the likelihood --------------------------------------------------------------------------------


def likelihood() -> tuple[Claim[Any], ...]:
    """Those of ``likelihood.discrete.elbo``."""
    return (honest(),)


def honest() -> Claim[ELBO]:
    """The mean of the bound, and an error that is not too small."""

    def check(score: ELBO, trial: Trial) -> Iterator[Evidence]:
        law = random_table(3, 3, torch.Generator().manual_seed(1))
        bound = bound_of(law, root(law))
        copies, x1 = trial.count(160, 60), law.states()
        data = x1.repeat(copies, 1)
        with double():
            found = score(bound.model, data, trial.rng())
        gap = found.value.reshape(copies, -1) + bound.exact(x1)
        yield mean("estimate + exact bound, for every x1", gap, 0.0)
        yield from _stated(bound, data, gap.flatten(), found.standard_error, trial)
        yield exact("what it says it is", found.kind, "lower bound")

    def raised(score: ELBO, size: float) -> Any:
        def value(*given: Any) -> Any:
            found = score(*given)
            return replace(found, value=found.value + size)

        return but(score, __call__=value)

    def stated(factor: float) -> Any:
        def plant(score: ELBO) -> Any:
            def value(*given: Any) -> Any:
                found = score(*given)
                return replace(found, standard_error=factor * found.standard_error)

            return but(score, __call__=value)

        return plant

    return Claim(
        "estimates-the-bound",
        "The estimate has the mean of the exact bound, for every datum. The stated error is that "
        "of independent draws, which the stratified ones do not exceed.",
        lambda: ELBO(draws=4),
        check,
        (
            dial("values + δ", raised),
            Control("the stated error is halved", stated(0.5)),
            Control("it is doubled", stated(2.0)),
        ),
        entries=("S.6",),
    )


def _stated(
    bound: Bound, data: Tensor, gap: Tensor, error: Tensor, trial: Trial
) -> Iterator[Evidence]:
    """σ² ≤ E[K error²] ≤ K/(K−1) σ² for K stratified draws, σ² the variance of a single one."""
    t = torch.rand(len(data), generator=trial.rng("times"), dtype=DOUBLE)
    score = MaskedELBO("count")
    value = score(bound.model, Pairs(data, data), t, trial.rng("single"))
    copies = len(data) // len(bound.exact(data[:27]))
    alone = (value - bound.exact(data[:27]).repeat(copies)).square()
    stated = 4 * error.square()
    slack = 5 * float((stated - alone).std()) / math.sqrt(len(data))
    because = "and five standard errors of the difference"
    yield at_most("variance of one draw", alone.mean(), stated.mean(), because, slack=slack)
    most = 4 / 3 * alone.mean()
    yield at_most("K error²", stated.mean(), most, f"K/(K−1) times it, {because}", slack=slack)
    yield at_most("variance of the estimate", 4 * gap.square().mean(), stated.mean(), because,
                  slack=slack)  # fmt: skip
