r"""The forward equation of a path in integral form, for fixed endpoints and for the whole law."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.generators import MarkovGenerator
from genpath.paths import ProbabilityPath
from genpath.states import batch_size, concatenate, gather

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, mean
from ._plan import LATE, ONE_TIME, Make, Plan, is_flow, rows_of
from .probes import Probe, values

GROUPS = 4
"""Endpoint pairs that are held fixed at once."""


def forward(make: Make, plan: Plan) -> Claim[ProbabilityPath]:
    """The claim ``forward-equation``, endpoints fixed."""

    def check(path: ProbabilityPath, trial: Trial) -> Evidence:
        functions, few = plan.probes(path, trial), _far_apart(path, plan, trial.rng("pairs"))
        exact_rows = is_flow(path, few.x0, few.x1)  # then a row's own gap is near 0
        copies = (256 if exact_rows else trial.count(2 * plan.rows, plan.rows)) // GROUPS
        index = torch.arange(GROUPS).repeat(copies)
        x0, x1 = rows_of(few.x0, index), rows_of(few.x1, index)
        gen = path.conditional_generator
        rng = trial.rng("growth")
        growth = _growth(path, plan.times, x0, x1, gen, functions, rng, exact_rows)
        gap, allowance = (part.reshape(copies, GROUPS, -1) for part in growth)
        return mean(
            "E f(x_b) − E f(x_a) − ∫ E[L f] dt, f and endpoints fixed",
            gap,
            0.0,
            allowance=allowance.abs().mean(0) + 1e-11,
            because="the quadrature in t, and rounding",
        )

    def swapped(path: ProbabilityPath) -> ProbabilityPath:
        def generator(x0: Any, x1: Any) -> MarkovGenerator:
            return path.conditional_generator(x1, x1 if x0 is None else x0)

        return but(path, conditional_generator=generator)

    def scaled(path: ProbabilityPath, size: float) -> ProbabilityPath:
        def generator(x0: Any, x1: Any) -> MarkovGenerator:
            return (1 + size) * path.conditional_generator(x0, x1)

        return but(path, conditional_generator=generator)

    plain = plan.pairs(1, torch.Generator().manual_seed(0))
    swap = (Control("x0 and x1 are swapped in the generator", swapped),)
    return Claim(
        "forward-equation",
        "For fixed endpoints, expectations along the path grow by its conditional generator.",
        make,
        check,
        (dial("L × (1 + δ)", scaled), LATE, ONE_TIME, *(swap if plain.x0 is not None else ())),
        formula=r"\frac{d}{dt}\,\mathbb{E}[f(x_t)\mid x_0,x_1]"
        r" = \mathbb{E}[L_t^{x_0,x_1} f(x_t)\mid x_0,x_1]",
        owes="density",
    )


def _far_apart(path: ProbabilityPath, plan: Plan, rng: torch.Generator) -> Pairs:
    """Pairs whose ends are farther apart than most, but not the farthest, where curves are cut."""
    ends = plan.pairs(16 * GROUPS, rng)
    if ends.x0 is None:
        return Pairs(None, rows_of(ends.x1, range(GROUPS)))
    ranked = path.space.distance(ends.x0, ends.x1).argsort()
    picked = ranked[11 * GROUPS : 15 * GROUPS : GROUPS]
    return Pairs(rows_of(ends.x0, picked), rows_of(ends.x1, picked))


def _growth(
    path: ProbabilityPath,
    times: Sequence[float],
    x0: Any,
    x1: Any,
    conditional: Callable[[Any, Any], MarkovGenerator],
    functions: Sequence[Probe],
    rng: torch.Generator,
    quadrature: bool,
) -> tuple[Tensor, Tensor]:
    """f(x_b) − f(x_a) − ∫ L f dt by row, and what the quadrature may be off: ``(rows, …)``."""
    rows, seed = batch_size(x1), int(torch.randint(2**31, (), generator=rng))
    gaps, errors = [], []
    for a, b in itertools.pairwise(times):
        if quadrature:
            nodes, fine, coarse = _clenshaw_curtis(a, b)
        else:
            fine = coarse = torch.tensor([b - a], dtype=torch.float64)
            nodes = a + (b - a) * torch.rand(1, rows, generator=rng, dtype=torch.float64)
        limits = torch.tensor([[a], [b]], dtype=torch.float64).expand(2, rows)
        at = torch.cat([limits, nodes.expand(-1, rows)])
        ends, inside = _states(path, at, x0, x1, seed)
        count = len(nodes)
        every = torch.arange(rows).repeat(count)
        gen = conditional(rows_of(x0, every), rows_of(x1, every))
        t = at[2:].reshape(-1)
        applied = torch.stack([gen.apply(f, t, inside) for f in functions], 1)
        applied = applied.reshape(count, rows, -1)
        change = values(functions, ends[1]) - values(functions, ends[0])
        weigh = "k,krm->rm"
        gaps.append(change - torch.einsum(weigh, fine, applied))
        errors.append(torch.einsum(weigh, fine - coarse, applied))
    return torch.cat(gaps, 1), torch.cat(errors, 1)


def _states(
    path: ProbabilityPath, at: Tensor, x0: Any, x1: Any, seed: int
) -> tuple[tuple[Any, Any], Any]:
    """x_t of every row at each time of ``at`` (times, rows), with the row's own randomness.

    In one call the rows have different times: row r has time k + r in the k-th.
    """
    count, rows = at.shape
    row, drawn = torch.arange(rows), []
    for k in range(count):
        t = at[(k + row) % count, row]
        drawn.append(path.draw(t, x0, x1, torch.Generator().manual_seed(seed)).state)
    together = concatenate(drawn)  # the k-th block holds the rows at time (k + r) % count

    def at_time(k: int) -> Tensor:
        return ((k - row) % count) * rows + row

    def pick(k: int) -> Any:
        return gather(together, at_time(k))

    inside = gather(together, torch.cat([at_time(k) for k in range(2, count)]))
    return (pick(0), pick(1)), inside


def _clenshaw_curtis(a: float, b: float, order: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes ``(order + 1, 1)`` on [a, b], the weights, and those of half the order."""
    angles = math.pi * torch.arange(order + 1, dtype=torch.float64) / order
    fine, coarse = _weights(order), torch.zeros(order + 1, dtype=torch.float64)
    coarse[::2] = _weights(order // 2)
    nodes = (a + b) / 2 + (b - a) / 2 * torch.cos(angles)
    return nodes[:, None], (b - a) / 2 * fine, (b - a) / 2 * coarse


def _weights(order: int) -> Tensor:
    """Weights on [−1, 1] that integrate the Chebyshev polynomials up to ``order``."""
    k = torch.arange(order + 1, dtype=torch.float64)
    polynomials = torch.cos(k[:, None] * math.pi * k / order)
    integrals = torch.where(k % 2 == 0, 2 / (1 - k**2), 0.0)
    result: Tensor = torch.linalg.solve(polynomials, integrals)
    return result


def marginal(make: Make, plan: Plan) -> Claim[ProbabilityPath]:
    """The claim ``marginal``: the generators made of the exact fields carry x_t."""

    def check(path: ProbabilityPath, trial: Trial) -> Iterator[Evidence]:
        functions = plan.probes(path, trial)
        ends = plan.pairs(trial.count(2 * plan.rows, plan.rows), trial.rng("pairs"))
        for name, gen in plan.marginal(path).items():
            same, rng = _always(gen), trial.rng("growth")
            gap, _ = _growth(path, plan.times, ends.x0, ends.x1, same, functions, rng, False)
            yield mean(
                f"E f(x_b) − E f(x_a) − ∫ E[L f] dt with L from the {name}",
                gap,
                0.0,
            )

    return Claim(
        "marginal",
        "The generator made of the conditional expectations carries the law of x_t.",
        make,
        check,
        (LATE, ONE_TIME),
        formula=r"\frac{d}{dt}\,\mathbb{E} f(x_t) = \mathbb{E}[L_t f(x_t)], \quad"
        r" L_t = \mathbb{E}[L_t^{x_0,x_1}\mid x_t]",
        owes="density",
    )


def _always(gen: MarkovGenerator) -> Callable[[Any, Any], MarkovGenerator]:
    return lambda x0, x1: gen
