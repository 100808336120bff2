r"""Claims of couplings by optimal transport, against enumeration and plain matrix scaling.

exact       the least of all n! permutations; on the line, the ranks
entropic    π_ij = a_i e^{−c_ij/2ε} b_j, scaled to its marginals in plain numbers
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.laws import Empirical, Gaussian, ProductLaw
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
    frequencies,
    mean,
    near,
)

from ..couplings import Entropic, EntropicPlan, OptimalTransport, half_squared_distance, sinkhorn
from .cases import DOUBLE, normal

__all__ = ["entropic", "optimal_transport", "scaled_plan"]

BASE, DATA = Gaussian((2,), dtype=DOUBLE), Gaussian((2,), 1.0, 0.5, dtype=DOUBLE)


@dataclass(frozen=True)
class Tiled:
    """The same rows again and again, in their order: batches that are known."""

    rows: Tensor

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        times = -(-count // len(self.rows))
        return self.rows.repeat(times, 1)[:count]


def _labelled() -> Empirical:
    x = 1 + 0.5 * normal(500, 2, rng=torch.Generator().manual_seed(0))
    return Empirical({"x": x, "label": torch.arange(500)})


def scaled_plan(cost: Tensor, eps: float, a: Tensor, b: Tensor, rounds: int = 4000) -> Tensor:
    """The plan with marginals a and b by scaling e^{−c/2ε} in plain numbers."""
    kernel = (-cost / (2 * eps)).exp()
    v = torch.ones_like(b)
    for _ in range(rounds):
        u = a / (kernel @ v)
        v = b / (kernel.T @ u)
    return u[:, None] * kernel * v


# -- exact -----------------------------------------------------------------------------------------


def optimal_transport() -> tuple[Claim[Any], ...]:
    """Claims of ``coupling.interpolants.optimal_transport``."""
    rows, base = _labelled(), ProductLaw({"x": BASE})
    plain = contracts.coupling(lambda: OptimalTransport(BASE, DATA, 64), base=BASE, data=DATA)
    labelled = contracts.coupling(lambda: OptimalTransport(base, rows, 64), base=base, data=rows)
    found = (*plain, *contracts.named("labelled", labelled), _least(), _ranks())
    return tuple(replace(claim, requires=("scipy",)) for claim in found)


def _swapped(thing: Any) -> Any:
    """Two partners exchanged."""

    def pairs(count: int, rng: torch.Generator) -> Pairs:
        found = thing.pairs(count, rng)
        order = torch.arange(count)
        order[[0, 1]] = order[[1, 0]]
        return Pairs(found.x0, found.x1[order])

    return but(thing, pairs=pairs)


def _by_first(thing: OptimalTransport) -> Any:
    """Pairs by the ranks of the first coordinate."""

    def pairs(count: int, rng: torch.Generator) -> Pairs:
        found = thing.pairs(count, rng)
        x0, x1 = (torch.as_tensor(side).unflatten(0, (-1, 6)) for side in (found.x0, found.x1))
        ranks = x0[..., 0].argsort(1).argsort(1)
        order = x1[..., 0].argsort(1).gather(1, ranks)
        return Pairs(found.x0, x1.gather(1, order[..., None].expand_as(x1)).flatten(0, 1))

    return but(thing, pairs=pairs)


def _square(x: Tensor) -> Tensor:
    return x.square().sum(-1)


def _least() -> Claim[Any]:
    def check(thing: OptimalTransport, trial: Trial) -> Iterator[Evidence]:
        for start in range(3):
            rng = trial.rng(str(start))
            found = thing.pairs(12, rng)
            x0, x1 = (torch.as_tensor(side).unflatten(0, (2, 6)) for side in (found.x0, found.x1))
            orders = torch.tensor(list(itertools.permutations(range(6))))
            for k in range(2):  # two problems of six rows
                best = _square(x1[k][orders] - x0[k]).sum(1).min()
                mine = _square(x1[k] - x0[k]).sum()
                yield equal("Σ|x1 − x0|², the least of 720", mine, best, operations=64)

    return Claim(
        "least",
        "In every problem the pairs cost no more than any of the n! ways to pair the rows.",
        lambda: OptimalTransport(BASE, DATA, 6),
        check,
        (
            Control("two partners are exchanged", _swapped),
            Control("the first coordinate alone is paired", _by_first),
        ),
        formula=r"\sum_i |x_1^{\sigma(i)} - x_0^i|^2 = \min_{\tau\in S_n}"
        r"\sum_i |x_1^{\tau(i)} - x_0^i|^2",
    )


def _ranks() -> Claim[Any]:
    mu, sigma = 1.5, 0.5
    line, other = Gaussian((1,), dtype=DOUBLE), Gaussian((1,), mu, sigma, dtype=DOUBLE)

    def check(thing: OptimalTransport, trial: Trial) -> Iterator[Evidence]:
        from scipy.optimize import linear_sum_assignment

        found = thing.pairs(80, trial.rng())
        x0, x1 = torch.as_tensor(found.x0), torch.as_tensor(found.x1)
        cost = _square(x0[:, None] - x1)
        i, j = linear_sum_assignment(cost.numpy())
        yield equal("Σ|x1 − x0|² on the line", _square(x1 - x0).sum(), cost[i, j].sum())
        # the batch's cost is that of its order statistics, above W2² = μ² + (σ − 1)² on average
        batches = [thing.pairs(400, trial.rng(str(k))) for k in range(trial.count(60, 20))]
        costs = torch.stack(
            [_square(torch.as_tensor(p.x1) - torch.as_tensor(p.x0)).mean() for p in batches]
        )
        true = mu**2 + (sigma - 1) ** 2
        # E(σ Z'_(i) − Z_(i))² = (σ − 1)² + 2σ Var Z_(i), whose mean is (1 + log log n)/n at most
        because = "2σ times the mean variance of order statistics, ≤ (1 + log log n)/n"
        bias = 2 * sigma * 2.8 / 400
        yield mean("E|x1 − x0|²", costs, true, allowance=bias, because=because)

    def mixed(thing: Any, size: float) -> Any:
        def pairs(count: int, rng: torch.Generator) -> Pairs:
            found = thing.pairs(count, rng)
            torn = int(count * size)
            order = torch.cat([torch.arange(torn).flip(0), torch.arange(torn, count)])
            return Pairs(found.x0, found.x1[order])

        return but(thing, pairs=pairs)

    return Claim(
        "ranks",
        "On the line the pairing is that of the ranks, which is optimal; its cost is W2² of the "
        "two laws, but for the samples' own error.",
        lambda: OptimalTransport(line, other),
        check,
        (
            dial("a share δ of the pairs is torn", mixed, 0.5),
            Control("two partners are exchanged", _swapped),
        ),
        formula=r"\mathbb E|T(x_0) - x_0|^2 = \mu^2 + (\sigma - 1)^2",
    )


# -- entropic --------------------------------------------------------------------------------------


def entropic() -> tuple[Claim[Any], ...]:
    """Claims of ``coupling.interpolants.entropic``."""
    rows, base = _labelled(), ProductLaw({"x": BASE})
    labelled = contracts.coupling(lambda: Entropic(base, rows, 0.2, 16), base=base, data=rows)
    # rows of x1 come in copies inside a batch: their marginal has a claim of its own
    kept = [claim for claim in labelled if claim.name != "marginals"]
    return (*kept, _marginals(), _joint(), _scaling(), _annealed())


def _marginals() -> Claim[Any]:
    def check(thing: Entropic, trial: Trial) -> Iterator[Evidence]:
        batches = trial.count(400, 150)
        found = thing.pairs(16 * batches, trial.rng())
        waves = normal(2, 12, rng=trial.rng("waves"))
        for name, side, law in (("x0", found.x0, BASE), ("x1", found.x1, DATA)):
            x = torch.as_tensor(side)
            # E cos(w·x) of N(m, s² I) is cos(m Σw) e^{−s²|w|²/2}: the characteristic function
            true = (law.mean * waves.sum(0)).cos() * (-0.5 * law.std**2 * _square(waves.T)).exp()
            means = (x @ waves).cos().unflatten(0, (batches, 16)).mean(1)
            yield mean(f"E cos(w·{name}), by batches", means, true)

    def unscaled(thing: Entropic) -> Any:
        """One round of scaling: the columns do not sum to 1/m."""
        lone = replace(thing, iterations=1, tolerance=10.0)

        def matched(x0: Tensor, x1: Tensor, rng: torch.Generator) -> Tensor:
            log_rows = -half_squared_distance(x0, x1) / (2 * thing.eps)
            weights = log_rows.softmax(-1)
            return torch.multinomial(weights.flatten(0, 1), 1, generator=rng).reshape(x0.shape[:2])

        return but(lone, _matched=matched)

    return Claim(
        "marginals",
        "Both marginals stay what they are, although rows of x1 may come twice: a batch holds each "
        "once on average.",
        lambda: Entropic(BASE, DATA, 0.2, 16),
        check,
        (Control("the rows of e^{−c/2ε} alone, not scaled", unscaled),),
        formula=r"\sum_i \pi_{ij} = \tfrac1m,\quad \sum_j \pi_{ij} = \tfrac1n",
    )


def _joint() -> Claim[Any]:
    eps = 0.3
    x0, x1 = (normal(5, 2, rng=torch.Generator().manual_seed(k)) for k in (1, 2))

    def check(thing: Entropic, trial: Trial) -> Iterator[Evidence]:
        found = thing.pairs(5 * trial.count(8000), trial.rng())
        i = (torch.as_tensor(found.x0)[:, None] == x0).all(2).long().argmax(1)
        j = (torch.as_tensor(found.x1)[:, None] == x1).all(2).long().argmax(1)
        counts = torch.bincount(5 * i + j, minlength=25)
        fifth = torch.full((5,), 0.2, dtype=DOUBLE)
        plan = scaled_plan(0.5 * _square(x0[:, None] - x1), eps, fifth, fifth)
        yield frequencies("which x1 goes with which x0", counts, plan.reshape(-1))

    def noisier(thing: Entropic, size: float) -> Any:
        return replace(thing, eps=(1 + size) * thing.eps)

    return Claim(
        "joint-law",
        "Given their batch, pairs have the law of the entropic plan with regularisation 2ε for "
        "½|x − y|².",
        lambda: Entropic(Tiled(x0), Tiled(x1), eps, 5, tolerance=1e-9, iterations=2000),
        check,
        (dial("ε × (1 + δ)", noisier),),
        formula=r"\pi = \arg\min \langle \pi, \tfrac12|x-y|^2\rangle"
        r" + 2\varepsilon\,\mathrm{KL}(\pi\|\rho_0\otimes\rho_1)",
    )


Solver = Callable[..., EntropicPlan]


def _cost(count: int, other: int, rng: torch.Generator) -> Tensor:
    return half_squared_distance(normal(count, 3, rng=rng), 0.7 * normal(other, 3, rng=rng) + 0.5)


def _scaling() -> Claim[Any]:
    r = 0.6

    def check(solve: Solver, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        costs = torch.stack([_cost(24, 31, rng) for _ in range(3)])
        found = solve(costs, r, tolerance=1e-11)
        a, b = (torch.full((k,), 1 / k, dtype=DOUBLE) for k in (24, 31))
        for k in range(3):
            true = scaled_plan(costs[k], r / 2, a, b)
            because = "the error of the columns, 1e-11, and rounding"
            yield near("π against plain scaling", found.plan[k], true, 1e-10, because)
        because = "the error of the columns, 1e-11, times potentials of size 10"
        # strong duality: ⟨f, a⟩ + ⟨g, b⟩ = ⟨π, c⟩ + r KL(π ‖ a ⊗ b)
        dual = found.f.mean(1) + found.g.mean(1)
        entropy = (found.plan * (found.plan * 24 * 31).log()).sum((1, 2))
        yield near("dual value", dual, found.transport_cost + r * entropy, 1e-9, because)
        rough = solve(costs, 0.02, tolerance=1.0, iterations=1)
        sums = torch.stack([rough.feasible.sum(1).std(1), rough.feasible.sum(2).std(1)])
        yield near("the feasible plan's sums are equal", sums, 0 * sums, 1e-15, "rounding")
        moved = (rough.feasible - rough.plan).abs().sum((1, 2)).max()
        yield at_most("what it moves", moved, 2 * rough.error + 1e-12, "2 × the error of the plan")

    def other(solve: Solver, size: float) -> Solver:
        return lambda cost, r, **more: solve(cost, (1 + size) * r, **more)

    return Claim(
        "scaling",
        "Sinkhorn in blocks gives the plan of plain scaling, for several problems at once; its "
        "potentials solve the dual; and a plan that has not converged is made feasible.",
        lambda: sinkhorn,
        check,
        (
            dial("r × (1 + δ)", other),
            Control("the cost is doubled", lambda solve: lambda c, r, **m: solve(2 * c, r, **m)),
            Control(
                "g of the wrong sign",
                lambda solve: lambda c, r, **m: _turned(solve(c, r, **m)),
            ),
        ),
        formula=r"\pi_{ij} = \tfrac1{nm}\,e^{(f_i + g_j - c_{ij})/r}",
    )


def _turned(plan: EntropicPlan) -> EntropicPlan:
    return replace(plan, g=-plan.g)


def _annealed() -> Claim[Any]:
    """ε → 0: the plan's cost falls to that of the assignment."""

    def check(solve: Solver, trial: Trial) -> Iterator[Evidence]:
        from scipy.optimize import linear_sum_assignment

        cost = _cost(40, 40, trial.rng())
        i, j = linear_sum_assignment(cost.numpy())
        true = cost[i, j].mean()
        for r in (0.2, 0.05, 0.0125):
            found = solve(cost, r, iterations=20_000, tolerance=1e-3)
            paid = (found.feasible * cost).sum()
            yield at_most("W ≤ ⟨π, c⟩", true, paid, "π is feasible", slack=1e-12)
            slack = found.error * float(cost.max())
            bound = true + r * torch.tensor(40.0).log()
            yield at_most("⟨π, c⟩ − r log n ≤ W", paid, bound, "0 ≤ KL ≤ log n", slack=slack)
            yield exact("it converged", found.error <= 1e-3)

    def cold(solve: Solver) -> Solver:
        return lambda c, r, **m: solve(c, r, iterations=40, tolerance=1e-3, anneal=False)

    def lazy(solve: Solver) -> Solver:
        return lambda c, r, **m: solve(c, max(r, 0.2), **m)

    return Claim(
        "annealed",
        "As ε falls the entropic plan becomes the optimal assignment, at cost within 2ε log n.",
        lambda: sinkhorn,
        check,
        (
            Control("started at the last ε, with 40 rounds", cold),
            Control("ε stops falling at 0.1", lazy),
        ),
        formula=r"W \le \langle \pi_\varepsilon, c\rangle \le W + 2\varepsilon \log n",
        requires=("scipy",),
    )
