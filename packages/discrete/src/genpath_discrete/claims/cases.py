r"""Small alphabets, where every law is a finite sum, and the faults that claims plant.

    p_t(x) = Σ_e w(e) Π_i [κ(t) 1{x_i = x1_i(e)} + (1 − κ(t)) 1{x_i = x0_i(e)}]

over a joint law w of the ends e = (x0, x1). This is the definition of both paths; posteriors are
ratios of such sums. Nothing here calls the path's own jumps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from genpath.generators import MarkovGenerator
from genpath.jumps import ScaledJumps, atoms
from genpath.models import Jump, Model
from genpath.reversal import log_transition
from genpath.schedules import KeepSchedule, cosine_keep, linear_keep, power_keep
from genpath.testing import but, contracts

from ..laws import Masked, Table
from ..paths import MaskedPath, MixturePath
from ..spaces import Categorical

DOUBLE = torch.float64
SCHEDULES: tuple[tuple[str, KeepSchedule], ...] = (
    ("linear", linear_keep()),
    ("cosine", cosine_keep()),
    ("quadratic", power_keep(2.0)),
)
FAIR = ((0.4, 0.1), (0.15, 0.35))
"""Two letters, two sites: p(00), p(01); p(10), p(11)."""
PEAKED = ((0.50, 0.02, 0.03), (0.04, 0.01, 0.20), (0.02, 0.15, 0.03))
"""Three letters, two sites that depend on each other; far from uniform, so that faults show."""

Path = MaskedPath | MixturePath
Density = Callable[[Tensor], Tensor]
Field = Callable[..., Any]
"""Logits: ``(t, x) → (batch, sites, letters)``."""


def table(rows: Sequence[Any] = FAIR) -> Table:
    """The law with these probabilities."""
    return Table(torch.tensor(rows, dtype=DOUBLE))


def random_table(letters: int, sites: int, rng: torch.Generator) -> Table:
    """A law that gives every state at least a little."""
    p = torch.rand(*([letters] * sites), generator=rng, dtype=DOUBLE) + 0.05
    return Table(p / p.sum())


def product_law(law: Table) -> Table:
    """The product of the marginals of a law of two letters."""
    p = law.probabilities
    return Table(torch.outer(p.sum(1), p.sum(0)))


def states_of(space: Categorical) -> Tensor:
    """All states, in the order of their index."""
    axes = [torch.arange(space.size)] * space.sites
    return torch.cartesian_prod(*axes).reshape(-1, space.sites)


def index_of(space: Categorical, x: Tensor) -> Tensor:
    """The index of each row of letters."""
    powers = space.size ** torch.arange(space.sites - 1, -1, -1)
    return (x * powers).sum(-1)


def counts_of(space: Categorical, x: Tensor) -> Tensor:
    """How often each state occurs."""
    return torch.bincount(index_of(space, x), minlength=space.size**space.sites)


def times(count: int, rng: torch.Generator, low: float = 0.05, high: float = 0.95) -> Tensor:
    """Uniform times."""
    return low + (high - low) * torch.rand(count, generator=rng, dtype=DOUBLE)


@contextmanager
def double() -> Iterator[None]:
    """float64 as the default: the dtype that times of integer states take."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(DOUBLE)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# -- laws of the ends ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ends:
    """A law of finitely many pairs: weights ``(m,)``, x0 and x1 ``(m, sites)``."""

    weights: Tensor
    x0: Tensor
    x1: Tensor

    def seen(self, kappa: Tensor, x: Tensor) -> Tensor:
        """p(ends, x_t = x), ``(states, m)``, at κ ``()`` or one per state."""
        kappa = kappa.reshape(-1, 1, 1)
        here = x.unsqueeze(1)
        site = kappa * (here == self.x1) + (1 - kappa) * (here == self.x0)
        return self.weights * site.to(DOUBLE).prod(-1)

    def law(self, kappa: Tensor, x: Tensor) -> Tensor:
        """p_t(x), ``(states,)``."""
        return self.seen(kappa, x).sum(1)

    def posterior(self, kappa: Tensor, x: Tensor) -> Tensor:
        """p(ends | x_t = x), ``(states, m)``."""
        seen = self.seen(kappa, x)
        return seen / seen.sum(1, keepdim=True)


def masked_ends(law: Table) -> Ends:
    """Data of a table, and all mask at the start."""
    x1 = law.states()
    return Ends(law.probabilities.flatten(), torch.full_like(x1, law.space.letters), x1)


def independent_ends(base: Table, law: Table) -> Ends:
    """Data of one table and, independent of them, base letters of another."""
    weights = torch.outer(base.probabilities.flatten(), law.probabilities.flatten()).flatten()
    count = len(law.states())
    return Ends(weights, base.states().repeat_interleave(count, 0), law.states().repeat(count, 1))


def dependent_ends(space: Categorical, rng: torch.Generator) -> Ends:
    """Any joint law of x0 and x1."""
    x = states_of(space)
    weights = torch.rand(len(x) ** 2, generator=rng, dtype=DOUBLE) ** 6 + 0.01
    return Ends(weights / weights.sum(), x.repeat_interleave(len(x), 0), x.repeat(len(x), 1))


def uniform_table(space: Categorical) -> Table:
    """Uniform letters as a table."""
    p = torch.ones([space.letters] * space.sites, dtype=DOUBLE)
    return Table(p / p.numel())


# -- a path with its exact posterior ---------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A path between known ends, with a field of logits for its model.

    Args:
        words: what it is.
        path: the path under test.
        ends: the joint law of x0 and x1.
        field: logits; the exact ones unless a fault was planted.
        schedule: κ, by which laws are computed: faults change the path's own.
    """

    words: str
    path: Any
    ends: Ends
    field: Field
    schedule: KeepSchedule

    @property
    def states(self) -> Tensor:
        """All states of the path's space."""
        return states_of(self.path.space)

    def density(self, t: Tensor) -> Tensor:
        """p_t of all states, ``(states,)`` at a time or ``(times, states)`` at several."""
        x, kappa = self.states, self.schedule.kappa(t)
        rows = x.repeat(max(t.numel(), 1), 1)
        each = kappa.reshape(-1, 1).expand(-1, len(x)).reshape(-1)
        return self.ends.law(each, rows).reshape(*t.shape, len(x))

    def log_density(self, t: Tensor, x: Tensor) -> Tensor:
        """log p_t at rows ``x`` at their times ``(batch,)``."""
        return self.ends.law(self.schedule.kappa(t), x).log()

    def generator(self) -> MarkovGenerator:
        """The model's generator."""
        return Jump().generator(self.path, "logits", self.field)


Cases = tuple[Case, ...]


def posterior_field(ends: Ends, schedule: KeepSchedule, letters: int) -> Field:
    """log p(x1 at the site | x_t) by Bayes, over all pairs of ends."""

    def field(t: Tensor, x: Tensor) -> Tensor:
        weights = ends.posterior(schedule.kappa(t), x)
        hot = functional.one_hot(ends.x1, letters).to(DOUBLE)
        return torch.einsum("be,eiv->biv", weights, hot).log()

    return field


def masked_case(
    law: Table, schedule: KeepSchedule | None = None, words: str = "masked", field: Any = None
) -> Case:
    """Data of a table on the masked path, with the table itself as the network."""
    schedule = schedule or linear_keep()
    path = MaskedPath(law.space, schedule)
    return Case(words, path, masked_ends(law), law if field is None else field, schedule)


def mixture_case(
    ends: Ends,
    letters: int,
    schedule: KeepSchedule | None = None,
    words: str = "mixture",
    noise: Table | None = None,
) -> Case:
    """Ends on the mixture path, with the exact posterior as the field."""
    schedule = schedule or linear_keep()
    path = MixturePath(Categorical(letters, (ends.x1.shape[1],)), schedule, noise)
    return Case(words, path, ends, posterior_field(ends, schedule, letters), schedule)


def masked_cases() -> Cases:
    """Three letters, two sites, three schedules."""
    law = random_table(3, 2, torch.Generator().manual_seed(1))
    return tuple(masked_case(law, schedule, words) for words, schedule in SCHEDULES)


def mixture_cases() -> Cases:
    """Independent uniform base letters, and ends that depend on each other."""
    rng = torch.Generator().manual_seed(2)
    law = random_table(3, 2, rng)
    apart = independent_ends(uniform_table(law.space), law)
    joined = dependent_ends(law.space, rng)
    return (
        mixture_case(apart, 3, cosine_keep(), "independent ends, cosine"),
        mixture_case(joined, 3, linear_keep(), "dependent ends, linear"),
        mixture_case(joined, 3, power_keep(2.0), "dependent ends, quadratic"),
    )


def model_of(case: Case) -> Model:
    """The case as a model."""
    base = Masked(case.path.space) if isinstance(case.path, MaskedPath) else case.path.base()
    return Model(case.field, case.path, base, "logits")


def rate_of(density: Density, t: Tensor) -> tuple[Tensor, Tensor]:
    """p and dp/dt by forward differentiation."""
    found = torch.func.jvp(density, (t,), (torch.ones_like(t),))
    return cast(tuple[Tensor, Tensor], found)


def rates_from(gen: MarkovGenerator, t: Tensor, x: Tensor) -> Tensor:
    """The rates from rows ``x`` at their times to all states ``(batch, states)``.

    The entry of x itself is minus the sum of the others.
    """
    space = cast(Categorical, gen.space)
    part: Any = gen(t, x).jumps
    targets, rates = atoms(part, x)
    matrix = torch.zeros(len(x), space.size**space.sites, dtype=DOUBLE)
    matrix.scatter_add_(1, index_of(space, targets).T, rates.T.to(DOUBLE))
    here = index_of(space, x).unsqueeze(1)
    matrix.scatter_(1, here, 0.0)
    return matrix.scatter(1, here, -matrix.sum(1, keepdim=True))


def rate_matrix(gen: MarkovGenerator, t: Tensor) -> Tensor:
    """All rates, ``(states, states)`` at a time or ``(times, states, states)`` at several."""
    x = states_of(cast(Categorical, gen.space))
    rates = rates_from(gen, t.reshape(-1).repeat_interleave(len(x)), x.repeat(t.numel(), 1))
    return rates.reshape(*t.shape, len(x), len(x))


def mean_rates(case: Case, t: Tensor) -> Tensor:
    """E[Q | x_t] of the conditional generators, by Bayes over the ends: a dense matrix."""
    x, ends = case.states, case.ends
    count = len(ends.weights)
    x0, x1 = (end.repeat_interleave(len(x), 0) for end in (ends.x0, ends.x1))
    gen = case.path.conditional_generator(x0, x1)
    rates = rates_from(gen, t.expand(len(x0)), x.repeat(count, 1)).reshape(count, len(x), len(x))
    return torch.einsum("xe,exy->xy", ends.posterior(case.schedule.kappa(t), x), rates)


def transition(gen: MarkovGenerator, t: float, t_next: float) -> Tensor:
    """The law of one step of `genpath.samplers.Euler` from every state: ``(states, states)``."""
    x = states_of(cast(Categorical, gen.space))
    count = len(x)
    with double():
        log_p = log_transition(gen, t, t_next, x.repeat_interleave(count, 0), x.repeat(count, 1))
    result: Tensor = log_p.exp().reshape(count, count)
    return result


def euler_law(gen: MarkovGenerator, grid: Sequence[float], start: Tensor) -> Tensor:
    """The law at the end of Euler's chain, exactly."""
    law = start
    for t, t_next in itertools.pairwise(grid):
        law = law @ transition(gen, t, t_next)
    return law


def mask_start(space: Categorical) -> Tensor:
    """All mass on the state that is all mask, which is the last."""
    start = torch.zeros(space.size**space.sites, dtype=DOUBLE)
    start[-1] = 1.0
    return start


def on_data(space: Categorical, law: Tensor) -> Tensor:
    """The probabilities of the states without a mask, as a flat table."""
    shape = [space.size] * space.sites
    return law.reshape(shape)[tuple([slice(space.letters)] * space.sites)].flatten()


def variation(p: Tensor, q: Tensor) -> Tensor:
    """The total variation distance."""
    return 0.5 * (p - q).abs().sum()


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q)."""
    result: Tensor = torch.special.xlogy(p, p / q).sum()
    return result


def quadrature(count: int = 32, low: float = 0.0, high: float = 1.0) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre nodes and weights."""
    return cast(tuple[Tensor, Tensor], contracts.line(low, high, panels=1)(count))


# -- faults ----------------------------------------------------------------------------------------


def each(change: Callable[..., Case]) -> Callable[..., Cases]:
    """A fault in every case."""

    def plant(cases: Cases, *size: float) -> Cases:
        return tuple(change(case, *size) for case in cases)

    return plant


def faster(case: Case, size: float) -> Case:
    """Jumps × (1 + δ)."""
    path = case.path

    def jumps(t: Tensor, x: Tensor, logits: Tensor) -> ScaledJumps:
        return ScaledJumps(path.jumps(t, x, logits), 1 + size)

    return replace(case, path=but(path, jumps=jumps))


def faster_ends(case: Case, size: float) -> Case:
    """The conditional generator × (1 + δ)."""
    made = case.path.conditional_generator
    path = but(case.path, conditional_generator=lambda x0, x1: (1 + size) * made(x0, x1))
    return replace(case, path=path)


def blunt(case: Case, size: float) -> Case:
    """Logits × (1 − δ)."""
    field = case.field
    return replace(case, field=lambda t, x: (1 - size) * field(t, x).log_softmax(-1).clamp_min(-50))


def late(case: Case, size: float) -> Case:
    """The path's own κ^(1 + δ) in place of κ."""
    schedule = KeepSchedule(partial(_power, case.schedule.kappa, 1 + size))
    return replace(case, path=replace(case.path, schedule=schedule))


def _power(kappa: Callable[[Tensor], Tensor], exponent: float, t: Tensor) -> Tensor:
    result: Tensor = kappa(t) ** exponent
    return result


def separate(case: Case) -> Case:
    """The field of a masked path knows the product of the marginals alone."""
    law = case.field
    assert isinstance(law, Table)
    return replace(case, field=product_law(law))
