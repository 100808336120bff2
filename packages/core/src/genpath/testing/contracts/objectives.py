r"""What every objective owes, at a model whose exact field is known.

    minimiser   d/dε E ℓ(F + ε g) = 0 at ε = 0 for all g, and d²/dε² > 0: the exact field F is a
                strict minimum along every direction that is tried
    gradient    away from the minimum, the gradient of the objective on random targets is that on
                their conditional expectation: d/dε E ℓ(G + ε g) is the same for both
    values      one finite value per example, of its own row alone; no rows give no values

Both derivatives are those of each example, so that their means have standard errors; they are
computed forward in ε, without a difference quotient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.models import Model
from genpath.objectives import Objective
from genpath.paths import Draw
from genpath.states import map_state

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, at_most, equal, exact, mean
from ._plan import leaves, rows_of, uniform
from .probes import Probe, probes

__all__ = ["objective"]

Make = Callable[[], Objective]
DrawPairs = Callable[[int, torch.Generator], Pairs]


def objective(
    make: Make,
    model: Callable[[], Model],
    pairs: DrawPairs,
    *,
    targets: Callable[[Tensor, Any], Any] | None = None,
    times: tuple[float, float] = (0.1, 0.9),
    rows: int = 8000,
    entries: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Claim[Objective], ...]:
    """The claims of an objective.

    Args:
        make: makes the objective.
        model: makes a model whose network is the minimiser that the objective states, for the law
            of ``pairs``: in the coordinates of the network (logits, log-rates), in float64.
        pairs: draws endpoint pairs, ``pairs(n, rng)``, in float64.
        targets: ``(t, x) → E[target | x_t]`` in the coordinates of the target; with it comes the
            claim ``gradient``. Of letters, which are no numbers, there is none.
        times: between which the times of the examples are drawn.
        rows: examples per check, a quarter in a fast run.
        entries: claim → ids of the ledger.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath import Euclidean, Gaussian, Prediction, Regression
        >>> path = SimpleNamespace(  # x_t = x0 is normal, the target is x0²
        ...     space=Euclidean(1),
        ...     predictions={"square": Prediction("square", (1,), False, "x²")},
        ...     draw=lambda t, x0, x1, rng: Draw(t, x0, x0, x1),
        ...     target=lambda name, draw: draw.x0**2,
        ... )
        >>> right = lambda: Model(lambda t, x: x**2, path, Gaussian((1,)), "square")
        >>> def pairs(n, rng):
        ...     return Pairs(*torch.randn(2, n, 1, generator=rng, dtype=torch.float64))
        >>> claims = objective(Regression, right, pairs)
        >>> [claim.name for claim in claims]
        ['minimiser', 'values']
        >>> all(found.passed for found in claims[0].measure(Regression(), Trial("squares")))
        True
    """
    found = [_minimiser(make, model, pairs, times, rows), _values(make, model, pairs, times)]
    if targets is not None:
        found.insert(1, _gradient(make, model, pairs, targets, times, rows))
    cited = entries or {}
    return tuple(replace(claim, entries=cited.get(claim.name, ())) for claim in found)


# -- derivatives along a direction ---------------------------------------------------------------


Direction = Callable[[Any, Tensor], Tensor]
"""g: from a state and a leaf of the network's output to a change of that leaf."""


def _directions(model: Model, pairs: DrawPairs, trial: Trial) -> list[Direction]:
    """The constant, tanh of the output itself, and test functions of the state."""
    rng = trial.rng("directions")
    ends = pairs(64, rng)
    t = uniform((0.0, 1.0), 64, rng)
    state = model.path.draw(t, ends.x0, ends.x1, rng).state
    functions = probes(model.path.space, state, rng, 3)
    return [
        lambda state, out: _pattern(out).expand_as(out),
        lambda state, out: torch.tanh(out),
        *(_times_pattern(f) for f in functions),
    ]


def _pattern(out: Tensor) -> Tensor:
    """Different numbers for the entries of one row of the output."""
    size = out.shape[1:].numel()
    return torch.linspace(-1, 1, size + 1, dtype=out.dtype)[1:].reshape(out.shape[1:])


def _times_pattern(f: Probe) -> Direction:
    return lambda state, out: f(state).reshape(-1, *[1] * (out.dim() - 1)) * _pattern(out)


def _slopes(
    objective: Objective, model: Model, along: Direction, pairs: Pairs, t: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """First and second derivative in ε of each example's value at F + ε g, at ε = 0."""

    def value(epsilon: Tensor) -> Tensor:
        def network(t: Tensor, state: Any) -> Any:
            return map_state(lambda out: out + epsilon * along(state, out), model.network(t, state))

        rng = torch.Generator().manual_seed(seed)
        return objective(replace(model, network=network), pairs, t, rng)

    def slope(epsilon: Tensor) -> Tensor:
        found: Tensor = torch.func.jvp(value, (epsilon,), (torch.ones_like(epsilon),))[1]
        return found

    zero = torch.zeros((), dtype=torch.float64)
    first, second = torch.func.jvp(slope, (zero,), (torch.ones_like(zero),))[:2]
    return first.detach(), second.detach()


def _examples(
    pairs: DrawPairs, times: tuple[float, float], count: int, trial: Trial
) -> tuple[Pairs, Tensor]:
    rng = trial.rng("examples")
    return pairs(count, rng), uniform(times, count, rng)


def _retargeted(change: Callable[..., Any]) -> Callable[..., Objective]:
    """The objective on a path whose targets are changed: ``change(target, draw, …)``."""

    def plant(objective: Objective, *size: float) -> Objective:
        def call(model: Model, pairs: Pairs, t: Tensor, rng: torch.Generator) -> Tensor:
            path: Any = model.path

            def target(name: str, draw: Draw) -> Any:
                return change(path.target(name, draw), draw, *size)

            other = but(path, target=target, draw_with_target=None)
            return objective(replace(model, path=other), pairs, t, rng)

        return but(objective, __call__=call)

    return plant


def _rolled(target: Any, draw: Draw, size: float) -> Any:
    def leaf(value: Tensor) -> Tensor:
        chosen = torch.arange(len(value)) % 128 < 128 * size
        return torch.where(chosen.reshape(-1, *[1] * (value.dim() - 1)), value.roll(1, 0), value)

    return map_state(leaf, target)


ROLLED: Control[Objective] = dial(
    "a share δ of the targets is that of the row before", _retargeted(_rolled)
)


SCALED: Control[Objective] = dial(
    "targets × (1 + δ)",
    _retargeted(lambda target, draw, size: map_state(lambda v: (1 + size) * v, target)),
    0.5,
)


def _tilted(objective: Objective, size: float) -> Objective:
    """A term that pulls one entry of the prediction."""

    def call(model: Model, pairs: Pairs, t: Tensor, rng: torch.Generator) -> Tensor:
        kept: list[Tensor] = []

        def network(t: Tensor, state: Any) -> Any:
            out = model.network(t, state)
            kept.append(leaves(out)[0].flatten(1)[:, -1])
            return out

        value = objective(replace(model, network=network), pairs, t, rng)
        return value + size * kept[0]

    return but(objective, __call__=call)


TILTED: Control[Objective] = dial("a term δ F is added, F the last entry", _tilted)


# -- claims ----------------------------------------------------------------------------------


def _minimiser(
    make: Make, model: Callable[[], Model], pairs: DrawPairs, times: Any, rows: int
) -> Claim[Objective]:
    def check(objective: Objective, trial: Trial) -> Iterator[Evidence]:
        exact_model = model()
        ends, t = _examples(pairs, times, trial.count(rows, rows // 2), trial)
        firsts, seconds = [], []
        for along in _directions(exact_model, pairs, trial):
            first, second = _slopes(objective, exact_model, along, ends, t, 3)
            firsts.append(first)
            seconds.append(second)
        slopes, curves = torch.stack(firsts, 1), torch.stack(seconds, 1)
        size = 1e-12 * max(1.0, float(slopes.abs().max()))
        yield mean("the slope at the exact field", slopes, 0.0, allowance=size, because="rounding")
        error = curves.std(0) / len(curves) ** 0.5
        yield at_most(
            "minus the curvature at the exact field",
            -(curves.mean(0) - 5 * error),
            torch.zeros_like(error),
            "a minimum: the curvature is positive by five standard errors",
        )

    return Claim(
        "minimiser",
        "The stated field is a minimum: along every direction the mean has slope 0 and positive "
        "curvature.",
        make,
        check,
        (ROLLED, TILTED),
        formula=r"\frac{d}{d\varepsilon}\,\mathbb{E}\,\ell(F + \varepsilon g)\Big|_0 = 0, \qquad"
        r" F = \operatorname{argmin}\,\mathbb{E}\,\ell",
        owes="minimiser",
    )


def _gradient(
    make: Make,
    model: Callable[[], Model],
    pairs: DrawPairs,
    targets: Callable[[Tensor, Any], Any],
    times: Any,
    rows: int,
) -> Claim[Objective]:
    marginal = _retargeted(lambda target, draw: targets(draw.t, draw.state))

    def check(objective: Objective, trial: Trial) -> Evidence:
        right = model()
        ends, t = _examples(pairs, times, trial.count(rows, rows // 2), trial)
        along = _directions(right, pairs, trial)

        def astray(t: Tensor, state: Any) -> Any:
            return map_state(lambda out: out + 0.5 * along[2](state, out), right.network(t, state))

        wrong, gaps = replace(right, network=astray), []
        for direction in along:
            random, _ = _slopes(objective, wrong, direction, ends, t, 3)
            expected, _ = _slopes(marginal(make()), wrong, direction, ends, t, 3)
            gaps.append(random - expected)
        gap = torch.stack(gaps, 1)
        size = 1e-12 * max(1.0, float(gap.abs().max()))
        what = "the gradient on targets against that on their conditional expectation"
        return mean(what, gap, 0.0, allowance=size, because="rounding")

    return Claim(
        "gradient",
        "At any field, the objective on random targets has the gradient of the objective on their "
        "conditional expectation.",
        make,
        check,
        (SCALED, TILTED),
        formula=r"\nabla\,\mathbb{E}\,D(Y, F) = \nabla\,\mathbb{E}\,D(\mathbb{E}[Y\mid x_t], F)",
        owes="minimiser",
    )


def _values(
    make: Make, model: Callable[[], Model], pairs: DrawPairs, times: Any
) -> Claim[Objective]:
    def check(objective: Objective, trial: Trial) -> Iterator[Evidence]:
        right, count = model(), 64
        ends, t = _examples(pairs, times, count, trial)
        first = torch.arange(count) == 0

        def nudged(t: Tensor, state: Any) -> Any:
            def leaf(out: Tensor) -> Tensor:
                here = first[: len(out)].reshape(-1, *[1] * (out.dim() - 1))
                return out + here * torch.linspace(0.1, 0.5, out[:1].numel()).reshape(out[:1].shape)

            return map_state(leaf, right.network(t, state))

        def values(of: Model, rows: int = count) -> Tensor:
            index = torch.arange(rows)
            few = Pairs(rows_of(ends.x0, index), rows_of(ends.x1, index))
            return objective(of, few, t[:rows], torch.Generator().manual_seed(4))

        plain, other = values(right), values(replace(right, network=nudged))
        yield exact("one value per example", tuple(plain.shape), (count,))
        if plain.shape != (count,):
            return
        yield exact("the share of finite values", plain.isfinite().double().mean(), 1.0)
        yield equal("the values of the other rows", other[1:], plain[1:])
        yield exact("the value of the row that was changed differs", bool(other[0] != plain[0]))
        yield exact("no rows give no values", tuple(values(right, 0).shape), (0,))
        yield exact("one seed gives one value", values(right), plain)

    def averaged(objective: Objective, size: float) -> Objective:
        def call(model: Model, pairs: Pairs, t: Tensor, rng: torch.Generator) -> Tensor:
            value = objective(model, pairs, t, rng)
            return value + size * (value.mean() - value) if len(value) else value

        return but(objective, __call__=call)

    def summed(objective: Objective) -> Objective:
        def call(model: Model, pairs: Pairs, t: Tensor, rng: torch.Generator) -> Tensor:
            return objective(model, pairs, t, rng).mean()

        return but(objective, __call__=call)

    return Claim(
        "values",
        "There is one finite value per example, which its own row decides.",
        make,
        check,
        (
            dial("values lean to their mean by δ", averaged),
            Control("the mean in place of the values", summed),
        ),
    )
