r"""Control: what the masked bound says of the law of the model, and what a finite N costs.

bound = E_σ[−log p_θ along the order σ]  ≥  −log E_σ p_θ = −log of the law of fine steps
bound with N steps, exact posteriors, two sites:  H + MI/N
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from genpath.grids import TimeGrid
from genpath.schedules import KeepSchedule
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
from .bounds import (
    ENTROPY,
    INFORMATION,
    ORDERS,
    WEIGHTS,
    Bound,
    Bounds,
    bound_of,
    root,
    stepwise,
)
from .cases import (
    SCHEDULES,
    Field,
    divergence,
    euler_law,
    mask_start,
    masked_case,
    on_data,
    table,
)

__all__ = ["masked"]


def masked() -> tuple[Claim[Any], ...]:
    """Those of the masked path."""
    return (orders(), discrete_time())


def discrete_time() -> Claim[MaskedPath]:
    """The mean of the bound with N steps is H + MI/N."""
    printed = {1: 1.381286, 2: 1.315033, 4: 1.281907, 8: 1.265344, 64: 1.250851}

    def check(path: MaskedPath, trial: Trial) -> Iterator[Evidence]:
        law = table()
        p = law.probabilities.flatten()
        for steps, known in printed.items():
            if trial.fast and steps > 8:
                continue
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
