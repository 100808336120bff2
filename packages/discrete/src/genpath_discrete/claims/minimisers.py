r"""Minimisers: what a loss exceeds its least value by, for any network.

    E ℓ(θ) − min E ℓ = E w(t) Σ_i KL(p(x1^i | x_t) ‖ p_θ(x1^i | x_t))

Losses are those of the objectives, divergences those of the exact posteriors; both are finite sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
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
    dial,
    equal,
)

from ..laws import Table
from .bounds import WEIGHTS, Bounds, bound_of
from .cases import (
    DOUBLE,
    SCHEDULES,
    Case,
    Field,
    masked_case,
    mixture_cases,
    model_of,
    quadrature,
    random_table,
)

__all__ = ["masked", "mixture"]


def masked() -> tuple[Claim[Any], ...]:
    """Those of the masked path."""
    return (excess(),)


def mixture() -> tuple[Claim[Any], ...]:
    """Those of the mixture path."""
    return (cross_entropy(),)


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
