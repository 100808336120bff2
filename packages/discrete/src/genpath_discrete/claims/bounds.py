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
from genpath.objectives import Regression
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
from ..paths import MaskedPath
from .cases import (
    DOUBLE,
    SCHEDULES,
    Case,
    Field,
    divergence,
    double,
    euler_law,
    mask_start,
    masked_case,
    mixture_cases,
    model_of,
    on_data,
    quadrature,
    random_table,
    states_of,
    table,
    transition,
)

__all__ = ["likelihood", "masked", "mixture", "objective"]

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


def masked() -> tuple[Claim[Any], ...]:
    """Those of the masked path: minimiser and control."""
    return (excess(), orders(), discrete_time())


def mixture() -> tuple[Claim[Any], ...]:
    """Those of the mixture path: minimiser."""
    return (cross_entropy(),)


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
        rng, copies = trial.rng(), trial.count(1500, 500)
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


# -- the bound in discrete time --------------------------------------------------------------------


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


def discrete_time() -> Claim[MaskedPath]:
    """The mean of the bound with N steps is H + MI/N."""
    printed = {1: 1.381286, 2: 1.315033, 4: 1.281907, 8: 1.265344}

    def check(path: MaskedPath, trial: Trial) -> Iterator[Evidence]:
        law = table()
        p = law.probabilities.flatten()
        for steps, known in printed.items():
            value = p @ stepwise(law, law, steps, path)
            yield near(f"mean of the bound, N = {steps}", value, known, 5e-7, "printed digits")
            law_n = ENTROPY + INFORMATION / steps
            yield near(f"H + MI/N, N = {steps}", value, law_n, 2e-9, "printed digits of H and MI")

    def late(path: MaskedPath, size: float) -> MaskedPath:
        kappa = path.schedule.kappa
        return replace(path, schedule=KeepSchedule(lambda t: kappa(t) ** (1 + size)))

    return Claim(
        "steps-cost-information",
        "Two letters, revealed in N equal steps by exact posteriors: the bound in discrete time "
        "is the entropy plus an N-th of the mutual information.",
        lambda: MaskedPath(table().space),
        check,
        (dial("κ^(1 + δ) in the conditional process", late),),
        formula=r"\mathbb{E}\sum_i \mathrm{KL}\big(q(x_{i+1} \mid x_i, x_1)\,\|\,"
        r"p_\theta(x_{i+1} \mid x_i)\big) = H + \tfrac1N I(x^1; x^2)",
        entries=("D.14",),
        owes="control",
    )


# -- minimisers ------------------------------------------------------------------------------------


def excess() -> Claim[Bounds]:
    """What the bound exceeds the entropy by, for random networks."""

    def make() -> Bounds:
        law = random_table(3, 2, torch.Generator().manual_seed(6))
        return tuple(
            bound_of(law, _random_field(seed, 4, 3), s) for seed, (_, s) in enumerate(SCHEDULES)
        )

    def check(bounds: Bounds, trial: Trial) -> Iterator[Evidence]:
        law = random_table(3, 2, torch.Generator().manual_seed(6))
        p, x1 = law.probabilities.flatten(), law.states()
        entropy = -torch.special.xlogy(p, p).sum()
        for (words, schedule), bound in zip(SCHEDULES, bounds, strict=True):
            found = p @ bound.exact(x1) - entropy
            expected = _masked_excess(law, bound.model.network, schedule)
            yield equal(f"{words}: mean bound − H", found, expected, operations=4096)
            yield at_most(f"{words}: H", entropy, p @ bound.exact(x1), "KL ≥ 0")

    return Claim(
        "minimiser",
        "The mean bound of any network exceeds the entropy by the divergence of its letters from "
        "the posteriors at masked sites, which is 0 at the posteriors alone.",
        make,
        check,
        WEIGHTS,
        formula=r"\mathbb{E}\,\ell - H = \int_0^1 \frac{\dot\kappa}{1-\kappa}\,\mathbb{E}"
        r"\sum_{i:\,x_t^i = m} \mathrm{KL}\big(p(x_1^i \mid x_t)\,\|\,p_\theta\big)\,dt",
        owes="minimiser",
    )


def _random_field(seed: int, size: int, letters: int) -> Field:
    """Logits of two sites that depend on the state alone, at random."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, size, 2, letters, generator=rng, dtype=DOUBLE)
    return lambda t, x: logits[x[:, 0], x[:, 1]]


def _masked_excess(law: Table, network: Any, schedule: KeepSchedule) -> Tensor:
    """∫ −d/dt log(1 − κ) times the divergences at masked sites, the slope by autograd."""
    case = masked_case(law, schedule)
    x, (t, weights) = case.states, quadrature(24)
    gap = _divergences(case, network, t)
    veiled = x == law.space.letters
    log_left = lambda s: torch.log1p(-schedule.kappa(s))  # noqa: E731
    hazard = -torch.func.vmap(torch.func.grad(log_left))(t)
    total: Tensor = torch.einsum("k,k,kxi,xi->", weights, hazard, gap, veiled.to(DOUBLE))
    return total


def _divergences(case: Case, network: Any, t: Tensor) -> Tensor:
    """p_t(x) KL(p(x1^i | x) ‖ network), ``(times, states, sites)``, by Bayes over the ends."""
    found = []
    for s in t:
        x = case.states
        weights = case.ends.seen(case.schedule.kappa(s), x)
        letters = range(case.path.letters.letters)
        hot = torch.stack([case.ends.x1 == v for v in letters], -1).to(DOUBLE)
        joint = torch.einsum("xe,eiv->xiv", weights, hot)
        mass = weights.sum(1)[:, None, None]
        log_q = network(s.expand(len(x)), x).log_softmax(-1)
        posterior = (joint / mass).clamp_min(1e-300).log()
        found.append((joint * (posterior - log_q)).sum(-1))
    return torch.stack(found)


def cross_entropy() -> Claim[Any]:
    """The excess of the cross-entropy on a mixture path, for random networks."""

    def make() -> Any:
        return tuple((Regression("cross_entropy"), case) for case in mixture_cases())

    def check(made: Any, trial: Trial) -> Iterator[Evidence]:
        for number, (regression, case) in enumerate(made):
            (t,) = trial_times(trial, case.words)
            values = []
            for field in (_random_field(number, 3, 3), case.field):
                values.append(_expected_loss(regression, replace(case, field=field), t))
            network = _random_field(number, 3, 3)
            gap = _divergences(case, network, t.reshape(1)).sum()
            yield equal(
                f"{case.words}: loss − least loss", values[0] - values[1], gap, operations=4096
            )

    def scaled(made: Any, size: float) -> Any:
        def wrong(right: Any) -> Any:
            return but(right, __call__=lambda *given: (1 + size) * right(*given))

        return tuple((wrong(regression), case) for regression, case in made)

    def shifted(made: Any) -> Any:
        def plant(case: Case) -> Case:
            return replace(case, path=but(case.path, target=lambda name, draw: draw.x0))

        return tuple((regression, plant(case)) for regression, case in made)

    return Claim(
        "minimiser",
        "The cross-entropy of any network exceeds the least one by the divergence of its letters "
        "from the posteriors, so that the posteriors are its only minimiser.",
        make,
        check,
        (dial("loss × (1 + δ)", scaled), Control("the target is x0", shifted)),
        formula=r"\mathbb{E}\,\ell(\theta) - \min \mathbb{E}\,\ell = \mathbb{E}\sum_i "
        r"\mathrm{KL}\big(p(x_1^i \mid x_t)\,\|\,p_\theta(x_1^i \mid x_t)\big)",
        owes="minimiser",
    )


def trial_times(trial: Trial, key: str) -> Tensor:
    """One time, of each trial's own."""
    return 0.1 + 0.8 * torch.rand(1, generator=trial.rng(key), dtype=DOUBLE)


def _expected_loss(regression: Any, case: Case, t: Tensor) -> Tensor:
    """The objective's mean at time t: all ends, all states of x_t given them."""
    x, ends = case.states, case.ends
    count = len(ends.weights)
    weights = ends.seen(case.schedule.kappa(t), x).T.flatten()  # ends first, then states
    x0, x1 = (end.repeat_interleave(len(x), 0) for end in (ends.x0, ends.x1))
    state = x.repeat(count, 1)
    path = but(case.path, draw=lambda t, x0, x1, rng: Draw(t, state, x0, x1))
    model = model_of(replace(case, path=path))
    value = regression(model, Pairs(x0, x1), t.expand(len(state)), torch.Generator())
    result: Tensor = weights @ value
    return result


# -- control: the bound and the law of the model ---------------------------------------------------


def orders() -> Claim[Bounds]:
    """The bound is the mean over orders of −log; the law of the model is the mean over orders."""

    def make() -> Bounds:
        law = table()
        return tuple(bound_of(law, root(law), schedule) for _, schedule in SCHEDULES)

    def check(bounds: Bounds, trial: Trial) -> Iterator[Evidence]:
        law = table()
        x1, p = law.states(), law.probabilities.flatten()
        first, second = _in_order(law, (0, 1)), _in_order(law, (1, 0))
        space = bounds[0].model.path.space
        gen = masked_case(law, field=bounds[0].model.network).generator()
        ends = [
            on_data(space, euler_law(gen, TimeGrid.uniform(n).times, mask_start(space)))  # type: ignore[arg-type]
            for n in (4, 8)
        ]
        model = 2 * ends[1] - ends[0]  # with two sites the law is affine in 1/N
        yield near("−log of the sampler's law", -model.log(), ORDERS, 1e-9, "printed digits")
        yield equal("its law, as the mean over orders", model, (first + second) / 2)
        for (words, _), bound in zip(SCHEDULES, bounds, strict=True):
            found = bound.exact(x1)
            over = -(first.log() + second.log()) / 2
            yield equal(f"{words}: mean over orders of −log", found, over, operations=256)
            yield at_most(f"{words}: −log of the law", -model.log(), found, "Jensen")
            path_kl = p @ found - ENTROPY
            terminal = divergence(p, model)
            yield at_most(f"{words}: KL at the end", terminal, path_kl, "data processing")

    def fields(bounds: Bounds, size: float) -> Bounds:
        def change(bound: Bound) -> Bound:
            network: Any = bound.model.network
            other: Field = lambda t, x: (1 - size) * network(t, x)  # noqa: E731
            return replace(bound, model=replace(bound.model, network=other))

        return tuple(change(bound) for bound in bounds)

    return Claim(
        "any-order",
        "For a network that ignores time the bound is the mean, over orders of revealing, of "
        "−log p_θ; fine steps sample the mean of p_θ over orders. So the bound is above −log of "
        "the sampled law, and its excess over the entropy above the divergence of that law.",
        make,
        check,
        (*WEIGHTS, dial("logits × (1 − δ)", fields)),
        formula=r"\int_0^1 \frac{\dot\kappa}{1-\kappa}\,\mathbb{E}[\cdot]\,dt = "
        r"\mathbb{E}_\sigma\Big[-\sum_j \log p_\theta(x^{\sigma_j} \mid x^{\sigma_{<j}})\Big]"
        r" \ge -\log \mathbb{E}_\sigma \prod_j p_\theta",
        entries=("D.20", "D-F1"),
        owes="control",
    )


def _in_order(law: Table, order: tuple[int, int]) -> Tensor:
    """The law of the model of square roots that reveals its two sites in this order."""
    a, b = order
    p = law.probabilities if a == 0 else law.probabilities.T
    head = p.sum(1).sqrt() / p.sum(1).sqrt().sum()
    tail = p.sqrt() / p.sqrt().sum(1, keepdim=True)
    joint = head[:, None] * tail
    return (joint if a < b else joint.T).flatten()


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
        spread = gap.square().mean(0)
        stated = found.standard_error.reshape(copies, -1).square().mean(0)
        ratio = 1 + 5 * math.sqrt(2 / (9 * copies))
        yield at_most("its square error, over all x1", spread.mean(), ratio * stated.mean(),
                      "stratified draws vary less than independent ones")  # fmt: skip
        yield exact("what it says it is", found.kind, "lower bound")

    def raised(score: ELBO, size: float) -> Any:
        def value(*given: Any) -> Any:
            found = score(*given)
            return replace(found, value=found.value + size)

        return but(score, __call__=value)

    def proud(score: ELBO) -> Any:
        def value(*given: Any) -> Any:
            found = score(*given)
            return replace(found, standard_error=0.5 * found.standard_error)

        return but(score, __call__=value)

    return Claim(
        "estimates-the-bound",
        "The estimate has the mean of the exact bound, for every datum, with an error that is at "
        "most the stated one.",
        lambda: ELBO(draws=4),
        check,
        (dial("values + δ", raised), Control("the stated error is halved", proud)),
        entries=("S.6",),
    )
