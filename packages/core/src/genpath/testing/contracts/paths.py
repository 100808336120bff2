r"""What every probability path owes.

    endpoints          x_t is x0 at t = 0 and x1 at t = 1, a point of the space, drawn by its seed
    forward-equation   E f(x_b) − E f(x_a) = ∫_a^b E[L_t f(x_t)] dt for fixed endpoints, where L is
                       the conditional generator
    noising-kernel     x_s ~ renoise(x_t) given x1, for s < t; one step of it is as good as two
    targets            E[φ(x_t) (target − field)] = 0 for all φ: the field is E[target | x_t]
    marginal           the forward equation of the draws under the generator made of the fields

The integral form of the forward equation has no step size and no bias. Along a flow the integral is
evaluated on each row by Clenshaw–Curtis quadrature, whose rule of half the order bounds its error;
otherwise it is (b − a) L_τ f(x_τ) at a time τ drawn uniformly, which is unbiased.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.paths import ProbabilityPath
from genpath.states import batch_size

from ..claims import Claim, Trial, but, dial
from ..evidence import Evidence, equal, exact, mean, near
from ._growth import forward, marginal
from ._plan import (
    EARLY,
    LATE,
    ONE_TIME,
    DrawPairs,
    Fields,
    Make,
    Plan,
    leaves,
    renoises,
    rows_of,
    uniform,
)
from ._targets import targets
from .probes import Probe, values

__all__ = ["path"]


def path(
    make: Make,
    pairs: DrawPairs,
    *,
    fields: Fields | None = None,
    functions: Sequence[Probe] | None = None,
    times: Sequence[float] = (0.1, 0.5, 0.9),
    ends: tuple[float | None, float | None] = (0.0, 0.0),
    renoise: bool | None = None,
    rules: bool = True,
    rows: int = 4000,
    entries: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Claim[ProbabilityPath], ...]:
    """The claims of a probability path.

    Args:
        make: makes the path, in float64 as far as it has a dtype.
        pairs: draws endpoint pairs, ``pairs(n, rng)``, in float64. The rules of a path may need a
            certain coupling (a normal base that is independent of the data): draw from it.
        fields: the exact conditional expectations E[target | x_t] for this law of pairs, prediction
            → ``(t, x) → value`` (of letters: logits). They bring the claim ``marginal``.
        functions: test functions ``state → (batch,)``; random ones of the space if None.
        times: the windows [a, b] of the forward equation, increasing, inside (0, 1).
        ends: how far x_t may be from x0 at t = 0, and from x1 at t = 1, in the space's distance,
            rounding apart. None where it has that law only.
        renoise: whether the path has a noising kernel; if None, whether it is a `MarkovianPath`.
        rules: whether the path's rules are compared with its targets; they must then be affine in
            what they convert.
        rows: draws per check, a quarter in a fast run.
        entries: claim → ids of the ledger.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath import Euclidean, flow
        >>> from genpath.paths import Draw
        >>> space = Euclidean(2)
        >>> line = SimpleNamespace(  # x_t = (1 − t) x0 + t x1
        ...     space=space,
        ...     predictions={},
        ...     rules=(),
        ...     draw=lambda t, x0, x1, rng: Draw(t, x0 + t[:, None] * (x1 - x0), x0, x1),
        ...     conditional_generator=lambda x0, x1: flow(space, lambda t, x: x1 - x0),
        ... )
        >>> def pairs(n, rng):
        ...     return Pairs(*torch.randn(2, n, 2, generator=rng, dtype=torch.float64))
        >>> claims = path(lambda: line, pairs)
        >>> [claim.name for claim in claims]
        ['endpoints', 'forward-equation']
        >>> all(found.passed for found in claims[1].measure(line, Trial("line")))
        True
    """
    plan = Plan(pairs, dict(fields or {}), functions, tuple(times), ends, rules, rows)
    sample = make()
    found = [_endpoints(make, plan), forward(make, plan)]
    if renoises(sample, pairs) if renoise is None else renoise:
        found.append(noising(make, plan))
    if plan.has_targets(sample):
        found.append(targets(make, plan, sample))
    if plan.marginal(sample):
        found.append(marginal(make, plan))
    cited = entries or {}
    return tuple(replace(claim, entries=cited.get(claim.name, ())) for claim in found)


# -- endpoints -------------------------------------------------------------------------------


def _endpoints(make: Make, plan: Plan) -> Claim[ProbabilityPath]:
    def check(path: ProbabilityPath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng("ends"), trial.count(plan.rows)
        ends = plan.pairs(count, rng)
        # each row is at 0 or at 1, so that rows must keep their own times
        late = torch.arange(count) % 2 == 1
        draw = path.draw(late.double(), ends.x0, ends.x1, rng)
        for index, tolerance, name in zip((0, 1), plan.ends, ("x0", "x1"), strict=True):
            chosen = torch.arange(count)[late == bool(index)]
            here, end = rows_of(draw.state, chosen), (ends.x0, ends.x1)[index]
            if end is not None:
                yield _at(path, plan, trial, here, rows_of(end, chosen), tolerance, name, index)
        t = uniform((0.0, 1.0), count, rng)
        inside = path.draw(t, ends.x0, ends.x1, rng)
        share = path.space.contains(inside.state).double()
        yield exact("the share of draws that are points of the space", share.mean(), 1.0)
        yield exact("the draw's times are those asked for", inside.t, t)
        yield from _draws_by_seed(path, ends, t)

    return Claim(
        "endpoints",
        "The path starts at x0 and ends at x1, stays in its space, and its seed fixes the draw.",
        make,
        check,
        (LATE, EARLY, ONE_TIME),
        formula=r"x_t\big|_{t=0} = x_0, \qquad x_t\big|_{t=1} = x_1",
        owes="existence",
    )


def _at(
    path: ProbabilityPath,
    plan: Plan,
    trial: Trial,
    here: Any,
    end: Any,
    tolerance: float | None,
    name: str,
    t: int,
) -> Evidence:
    what = f"x_t at t = {t} against {name}"
    if tolerance is None:
        functions = plan.probes(path, trial)
        return mean(f"{what}, in law", values(functions, here) - values(functions, end), 0.0)
    distance = path.space.distance(here, end).double()
    if tolerance > 0:
        return near(what, distance.max(), 0.0, tolerance, "the bound that the author states")
    # a distance of nearby points on a curved space has half of the digits
    size = max([float(leaf.double().abs().max()) for leaf in leaves(end)], default=1.0)
    limit = 1e3 * torch.finfo(torch.float64).eps * max(size, 1.0)
    return near(what, distance.max(), 0.0, limit, "rounding of float64")


def _draws_by_seed(path: ProbabilityPath, ends: Pairs, t: Tensor) -> Iterator[Evidence]:
    def draw(rows: int) -> Any:
        few = torch.arange(rows)
        rng = torch.Generator().manual_seed(5)
        return path.draw(t[:rows], rows_of(ends.x0, few), rows_of(ends.x1, few), rng).state

    same = [torch.equal(a, b) for a, b in zip(leaves(draw(9)), leaves(draw(9)), strict=True)]
    yield exact("one seed gives one draw", all(same))
    for rows in (0, 1):
        yield exact(f"a batch of {rows} gives {rows} rows", batch_size(draw(rows)), rows)


# -- the noising kernel ----------------------------------------------------------------------


def noising(make: Make, plan: Plan) -> Claim[ProbabilityPath]:
    """The claim ``noising-kernel``: x_s from x_t, in one step or two."""

    def check(path: Any, trial: Trial) -> Iterator[Evidence]:
        functions, rng = plan.probes(path, trial), trial.rng("noising")
        count, (low, *_, high) = trial.count(8 * plan.rows, 3 * plan.rows), plan.times
        ends = plan.pairs(count, rng)
        # rows have times of their own: s < m < t
        t = uniform(((low + high) / 2, high), count, rng)
        s = uniform((low, low + 0.3 * (high - low)), count, rng)
        middle = (s + t) / 2
        x_t, x_s = (path.draw(k, ends.x0, ends.x1, rng).state for k in (t, s))
        yield from _unchanged(path, t, x_t)
        once = path.renoise(t, s, x_t, rng)
        with_x1 = values(functions[:3], ends.x1) - values(functions[:3], ends.x1).mean(0)
        moved = values(functions, once) - values(functions, x_s)
        yield mean("E f(renoise x_t) − E f(x_s)", moved, 0.0)
        joint = (moved[:, :, None] * with_x1[:, None, :]).flatten(1)
        yield mean("E f(renoise x_t) g(x1) − E f(x_s) g(x1)", joint, 0.0)
        twice = path.renoise(middle, s, path.renoise(t, middle, x_t, rng), rng)
        change = values(functions, twice) - values(functions, once)
        yield mean("Chapman–Kolmogorov: two steps against one", change, 0.0)

    def astray(path: Any, size: float) -> Any:
        def renoise(t_from: Any, t_to: Any, state: Any, rng: torch.Generator) -> Any:
            return path.renoise(t_from, t_to + size * (t_from - t_to), state, rng)

        return but(path, renoise=renoise)

    return Claim(
        "noising-kernel",
        "A draw of x_t, noised to s < t, has the law of x_s given x1; at s = t nothing happens, "
        "and two steps are as one.",
        make,
        check,
        (
            dial("noised to s + δ(t − s) instead of s", astray, 0.5),
            EARLY,
        ),
        formula=r"\int p_t(x\mid x_1)\,k_{t\to s}(\cdot\mid x)\,dx = p_s(\cdot\mid x_1), \qquad"
        r" k_{t\to s} = k_{m\to s}\,k_{t\to m}",
        owes="reverse",
    )


def _unchanged(path: Any, t: Tensor, state: Any) -> Iterator[Evidence]:
    same = path.renoise(t, t, state, torch.Generator().manual_seed(5))
    for a, b in zip(leaves(same), leaves(state), strict=True):
        if a.is_floating_point():
            yield equal("renoise(t, t) is the identity", a, b, operations=1e3)
        else:
            yield exact("renoise(t, t) is the identity", a, b)
