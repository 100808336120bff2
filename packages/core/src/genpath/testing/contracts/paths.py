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

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from genpath.couplings import Pairs
from genpath.errors import CapabilityError, GenpathError
from genpath.generators import MarkovGenerator
from genpath.jumps import ScaledJumps
from genpath.models import ODE, Jump
from genpath.paths import Draw, MarkovianPath, ProbabilityPath, Time
from genpath.predictions import plan
from genpath.states import batch_size, concatenate, flat_event, gather, map_state

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, equal, exact, mean, near
from .probes import Probe, probes, values

__all__ = ["path"]

Make = Callable[[], ProbabilityPath]
DrawPairs = Callable[[int, torch.Generator], Pairs]
Fields = Mapping[str, Callable[[Tensor, Any], Any]]

GROUPS = 4
"""Endpoint pairs that are held fixed at once."""


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
    suffix: str = "",
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
        suffix: appended to the claims' names, where a component has several instances.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath import Euclidean, flow
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
    plan = _Plan(pairs, dict(fields or {}), functions, tuple(times), ends, rules, rows)
    sample = make()
    found = [_endpoints(make, plan), _forward(make, plan)]
    if _renoises(sample, pairs) if renoise is None else renoise:
        found.append(_noising(make, plan))
    if plan.has_targets(sample):
        found.append(_targets(make, plan, sample))
    if plan.marginal(sample):
        found.append(_marginal(make, plan))
    cited = entries or {}
    return tuple(
        replace(c, name=c.name + (f"-{suffix}" if suffix else ""), entries=cited.get(c.name, ()))
        for c in found
    )


@dataclass(frozen=True)
class _Plan:
    """What the author gave."""

    pairs: DrawPairs
    fields: Fields
    functions: Sequence[Probe] | None
    times: tuple[float, ...]
    ends: tuple[float | None, float | None]
    rules: bool
    rows: int

    def probes(self, path: ProbabilityPath, trial: Trial) -> Sequence[Probe]:
        """The test functions: of x_t at the times of the plan."""
        if self.functions is not None:
            return self.functions
        rng = trial.rng("probes")
        ends = self.pairs(64, rng)
        t = _uniform(self.times, 64, rng)
        return probes(path.space, path.draw(t, ends.x0, ends.x1, rng).state, rng)

    def affine_rules(self, path: ProbabilityPath) -> list[Any]:
        known = path.predictions
        usable = [r for r in path.rules if r.gives in known and all(n in known for n in r.needs)]
        return usable if self.rules else []

    def velocities(self, path: ProbabilityPath) -> bool:
        """Whether the velocity's target can be compared with the conditional generator."""
        if "velocity" not in path.predictions:
            return False
        ends = self.pairs(1, torch.Generator().manual_seed(0))
        return _is_flow(path, ends.x0, ends.x1)

    def letters(self, path: ProbabilityPath) -> bool:
        return "logits" in path.predictions and hasattr(path, "jumps")

    def has_targets(self, path: ProbabilityPath) -> bool:
        found = self.fields or self.affine_rules(path)
        return bool(found) or self.velocities(path) or self.letters(path)

    def marginal(self, path: ProbabilityPath) -> dict[str, MarkovGenerator]:
        """The marginal generator, made of each field that leads to one."""
        found = {}
        for name, exact_field in self.fields.items():
            if self.letters(path) and name == "logits":
                found[name] = Jump().generator(path, name, exact_field)
            elif _leads(path, name, "velocity"):
                found[name] = ODE().generator(path, name, exact_field)
        return found


def _is_flow(path: ProbabilityPath, x0: Any, x1: Any) -> bool:
    return path.conditional_generator(x0, x1).has == {"velocity"}


def _renoises(path: ProbabilityPath, pairs: DrawPairs) -> bool:
    """Whether the path has a noising kernel and does not refuse to draw from it."""
    if not isinstance(path, MarkovianPath):
        return False
    rng = torch.Generator().manual_seed(0)
    ends, t = pairs(1, rng), torch.full((1,), 0.5, dtype=torch.float64)
    try:
        path.renoise(t, t, path.draw(t, ends.x0, ends.x1, rng).state, rng)
    except CapabilityError:
        return False
    return True


def _leads(path: ProbabilityPath, name: str, want: str) -> bool:
    try:
        plan(path.rules, [name], want)
    except GenpathError:
        return False
    return want in path.predictions


def _uniform(times: Sequence[float], count: int, rng: torch.Generator) -> Tensor:
    u = torch.rand(count, generator=rng, dtype=torch.float64)
    return times[0] + (times[-1] - times[0]) * u


def _rows(state: Any, index: Any) -> Any:
    return None if state is None else gather(state, torch.as_tensor(index))


def _redraw(path: ProbabilityPath, change: Callable[[Any], Any]) -> ProbabilityPath:
    """The path whose x_t is drawn at another time, and says otherwise."""

    def draw(t: Any, x0: Any, x1: Any, rng: torch.Generator) -> Draw:
        return replace(path.draw(change(t), x0, x1, rng), t=t)

    return but(path, draw=draw)


def _times(change: Callable[[Tensor], Tensor]) -> Callable[[Time], Time]:
    return lambda t: map_state(change, t)


def _late(path: ProbabilityPath, size: float) -> ProbabilityPath:
    return _redraw(path, _times(lambda t: (1 - size) * t))


LATE: Control[ProbabilityPath] = dial("x_t is drawn at (1 − δ) t", _late, 0.5)
EARLY: Control[ProbabilityPath] = dial(
    "x_t is drawn at t + δ(1 − t)",
    lambda path, size: _redraw(path, _times(lambda t: t + size * (1 - t))),
    0.5,
)
ONE_TIME: Control[ProbabilityPath] = Control(
    "all rows are drawn at the time of the first",
    lambda path: _redraw(path, _times(lambda t: t[:1].expand_as(t) if t.dim() else t)),
)


# -- endpoints -------------------------------------------------------------------------------


def _endpoints(make: Make, plan: _Plan) -> Claim[ProbabilityPath]:
    def check(path: ProbabilityPath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng("ends"), trial.count(plan.rows)
        ends = plan.pairs(count, rng)
        # each row is at 0 or at 1, so that rows must keep their own times
        late = torch.arange(count) % 2 == 1
        draw = path.draw(late.double(), ends.x0, ends.x1, rng)
        for index, tolerance, name in zip((0, 1), plan.ends, ("x0", "x1"), strict=True):
            chosen = torch.arange(count)[late == bool(index)]
            here, end = _rows(draw.state, chosen), (ends.x0, ends.x1)[index]
            if end is not None:
                yield _at(path, plan, trial, here, _rows(end, chosen), tolerance, name, index)
        t = _uniform((0.0, 1.0), count, rng)
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
    plan: _Plan,
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
    size = max([float(leaf.double().abs().max()) for leaf in _leaves(end)], default=1.0)
    limit = 1e3 * torch.finfo(torch.float64).eps * max(size, 1.0)
    return near(what, distance.max(), 0.0, limit, "rounding of float64")


def _leaves(state: Any) -> list[Tensor]:
    found = [state] if isinstance(state, Tensor) else list(state.values())
    return [leaf for leaf in found if leaf.numel()]


def _draws_by_seed(path: ProbabilityPath, ends: Pairs, t: Tensor) -> Iterator[Evidence]:
    def draw(rows: int) -> Any:
        few = torch.arange(rows)
        rng = torch.Generator().manual_seed(5)
        return path.draw(t[:rows], _rows(ends.x0, few), _rows(ends.x1, few), rng).state

    same = [torch.equal(a, b) for a, b in zip(_leaves(draw(9)), _leaves(draw(9)), strict=True)]
    yield exact("one seed gives one draw", all(same))
    for rows in (0, 1):
        yield exact(f"a batch of {rows} gives {rows} rows", batch_size(draw(rows)), rows)


# -- the forward equation --------------------------------------------------------------------


def _forward(make: Make, plan: _Plan) -> Claim[ProbabilityPath]:
    def check(path: ProbabilityPath, trial: Trial) -> Evidence:
        functions, few = plan.probes(path, trial), plan.pairs(GROUPS, trial.rng("pairs"))
        exact_rows = _is_flow(path, few.x0, few.x1)  # then a row's own gap is near 0
        copies = (trial.count(plan.rows) if not exact_rows else 256) // GROUPS
        index = torch.arange(GROUPS).repeat(copies)
        x0, x1 = _rows(few.x0, index), _rows(few.x1, index)
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
        gen = conditional(_rows(x0, every), _rows(x1, every))
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


def _marginal(make: Make, plan: _Plan) -> Claim[ProbabilityPath]:
    def check(path: ProbabilityPath, trial: Trial) -> Iterator[Evidence]:
        functions = plan.probes(path, trial)
        ends = plan.pairs(trial.count(plan.rows), trial.rng("pairs"))
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


# -- the noising kernel ----------------------------------------------------------------------


def _noising(make: Make, plan: _Plan) -> Claim[ProbabilityPath]:
    def check(path: Any, trial: Trial) -> Iterator[Evidence]:
        functions, rng = plan.probes(path, trial), trial.rng("noising")
        count, (low, *_, high) = trial.count(4 * plan.rows), plan.times
        ends = plan.pairs(count, rng)
        # rows have times of their own: s < m < t
        t = _uniform(((low + high) / 2, high), count, rng)
        s = _uniform((low, low + 0.3 * (high - low)), count, rng)
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
    for a, b in zip(_leaves(same), _leaves(state), strict=True):
        if a.is_floating_point():
            yield equal("renoise(t, t) is the identity", a, b, operations=1e3)
        else:
            yield exact("renoise(t, t) is the identity", a, b)


# -- targets ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """Draws at random times, and test functions of (t, x_t) times a residual."""

    path: ProbabilityPath
    draw: Draw
    t: Tensor
    weights: Tensor = field(repr=False)

    def residual(self, what: str, found: Any, expected: Any) -> Evidence:
        gaps = [flat_event(a - b) for a, b in zip(_leaves(found), _leaves(expected), strict=True)]
        gap = torch.cat(gaps, 1).double()
        products = (self.weights[:, :, None] * gap[:, None, :]).flatten(1)
        size = float(torch.cat([flat_event(a) for a in _leaves(expected)], 1).abs().max())
        rounding = 1e-12 * max(size, 1.0)
        return mean(what, products, 0.0, allowance=rounding, because="rounding")


def _targets(make: Make, plan: _Plan, sample: ProbabilityPath) -> Claim[ProbabilityPath]:
    def check(path: ProbabilityPath, trial: Trial) -> Iterator[Evidence]:
        batch = _batch(path, plan, trial)
        draw, t = batch.draw, batch.t
        for name, exact_field in plan.fields.items():
            target, value = _comparable(path, name, path.target(name, draw))
            at = exact_field(t, draw.state)
            value = at.double().softmax(-1) if value else at
            yield batch.residual(f"E[φ (target − E[target | x_t])] of the {name}", target, value)
        for rule in plan.affine_rules(path):
            given = [path.target(n, draw) for n in rule.needs]
            converted = rule.formula(t, draw.state, *given)
            what = f"E[φ (target − rule)] of the {rule.gives} from {', '.join(rule.needs)}"
            yield batch.residual(what, path.target(rule.gives, draw), converted)
        if plan.velocities(path):
            gen = path.conditional_generator(draw.x0, draw.x1)
            what = "E[φ (target − u(x_t | x0, x1))] of the velocity"
            target, u = path.target("velocity", draw), gen(t, draw.state).velocity
            yield batch.residual(what, target, map_state(_as, u, target))
        if plan.letters(path):
            yield from _known_letters(path, plan, trial, batch)
        yield from _joined(path, trial, batch)

    def shifted(path: ProbabilityPath, size: float) -> ProbabilityPath:
        def target(name: str, draw: Draw) -> Any:
            def leaf(value: Tensor) -> Tensor:
                rows = torch.arange(len(value)) % 128 < 128 * size
                wrong = rows.reshape(-1, *[1] * (value.dim() - 1))
                return torch.where(wrong, value.roll(1, 0), value)

            return map_state(leaf, path.target(name, draw))

        return but(path, target=target)

    def scaled(path: ProbabilityPath, size: float) -> ProbabilityPath:
        def target(name: str, draw: Draw) -> Any:
            return map_state(lambda v: (1 + size) * v, path.target(name, draw))

        return but(path, target=target)

    controls = []
    if not plan.letters(sample) and (plan.fields or plan.velocities(sample)):
        controls.append(dial("targets × (1 + δ)", scaled))
    if plan.fields or plan.velocities(sample):
        controls.append(dial("a share δ of the targets is that of the row before", shifted))
    if plan.letters(sample):
        controls.append(dial("jumps × (1 + δ)", _faster))
    if not controls:
        controls.append(dial("targets × (1 + δ)", scaled))
    return Claim(
        "targets",
        "Each target has the stated conditional expectation, so that a regression on it finds the "
        "field that the prediction is named after.",
        make,
        check,
        tuple(controls),
        formula=r"\mathbb{E}\big[\varphi(x_t)\,(\text{target} - F(t, x_t))\big] = 0",
        owes="minimiser",
    )


def _batch(path: ProbabilityPath, plan: _Plan, trial: Trial) -> _Batch:
    functions, rng, count = plan.probes(path, trial), trial.rng("targets"), trial.count(plan.rows)
    ends, t = plan.pairs(count, rng), _uniform(plan.times, count, rng)
    draw = path.draw(t, ends.x0, ends.x1, rng)
    values_of = values(functions, draw.state)
    weights = torch.cat([torch.ones_like(values_of[:, :1]), values_of], 1).double()
    middle = (t - (plan.times[0] + plan.times[-1]) / 2)[:, None]
    return _Batch(path, draw, t, torch.cat([weights, middle * weights], 1))


def _comparable(path: ProbabilityPath, name: str, target: Any) -> tuple[Any, bool]:
    """The target as numbers, and whether it was letters, whose field is their logits."""
    if isinstance(target, Tensor) and not target.is_floating_point():
        letters = int(path.predictions[name].output_shape[-1])
        return functional.one_hot(target, letters).double(), True
    return target, False


def _as(leaf: Tensor, like: Tensor) -> Tensor:
    return leaf.expand_as(like)


def _known_letters(
    path: ProbabilityPath, plan: _Plan, trial: Trial, batch: _Batch
) -> Iterator[Evidence]:
    """Where x1 is known, the marginal jumps are those of the conditional generator."""
    draw, t = batch.draw, batch.t
    letters = int(path.predictions["logits"].output_shape[-1])
    known = functional.one_hot(path.target("logits", draw), letters).double().log()
    marginal = Jump().generator(path, "logits", lambda t, x: known)
    conditional = path.conditional_generator(draw.x0, draw.x1)
    for k, f in enumerate(plan.probes(path, trial)):
        yield equal(
            f"L f with x1 known against the conditional generator's, f number {k}",
            marginal.apply(f, t, draw.state),
            conditional.apply(f, t, draw.state),
            operations=1e4,
        )


def _faster(path: ProbabilityPath, size: float) -> ProbabilityPath:
    original: Any = path

    def jumps(t: Tensor, state: Any, logits: Any) -> Any:
        return ScaledJumps(original.jumps(t, state, logits), 1 + size)

    return but(path, jumps=jumps)


def _joined(path: Any, trial: Trial, batch: _Batch) -> Iterator[Evidence]:
    """``draw_with_target`` is ``draw`` and then ``target``, where the path has it."""
    if not hasattr(path, "draw_with_target"):
        return
    draw = batch.draw
    for name in path.predictions:
        apart = path.draw(draw.t, draw.x0, draw.x1, torch.Generator().manual_seed(5))
        rng = torch.Generator().manual_seed(5)
        together, target = path.draw_with_target(name, draw.t, draw.x0, draw.x1, rng)
        pairs = zip(
            (*_leaves(together.state), *_leaves(target)),
            (*_leaves(apart.state), *_leaves(path.target(name, apart))),
            strict=True,
        )
        for a, b in pairs:
            yield near(
                f"draw_with_target of the {name}", a, b, 1e-12 * max(float(b.abs().max()), 1.0),
                "rounding",
            )  # fmt: skip
