r"""Likelihoods: the density along the exact flow is that of the path.

    log p_t(x) = log p_0(X_{t,0}) − ∫_0^t div b = log p_1(X_{t,1}) + ∫_t^1 div b

The densities are those of the distributions of torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.laws import Gaussian
from genpath.likelihoods import ODELikelihood, SolvedFlow
from genpath.models import ODE, Model
from genpath.testing import Claim, Control, Evidence, Trial, at_most, but, mean, near

from .cases import DOUBLE, Case, Cases, cases, each, line_mixture, log_density, normal, scaled_field
from .samplers import generator

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (likelihood(), entropy())


def likelihood() -> Claim[Cases]:
    """The density along the flow, from the base and from the data."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        rng = trial.rng()
        turn = torch.arange(6, dtype=DOUBLE) * (math.pi / 3)
        circle = torch.stack([turn.cos(), turn.sin()], 1)[:, None]  # one width around each mean
        x = (case.law.means + circle * case.law.stds).flatten(0, 1)
        base = Gaussian((2,), dtype=DOUBLE)
        model = Model(case.marginal.field("velocity"), case.path, base)
        steps = trial.count(16, 8)
        coarse, fine = (ODELikelihood(steps=n)(model, x, rng).value for n in (steps, 2 * steps))
        share = 2 if not trial.fast else 15  # with few steps the error only halves for certain
        because = f"{share}/15 of the largest difference to half as many steps; order 4 leaves 1/15"

        def slack(fine: Tensor, coarse: Tensor) -> Tensor:
            return share * (fine - coarse).abs().max() / 15 + 1e-6

        end = log_density(case, torch.ones(12, dtype=DOUBLE), x)
        yield near("log p at t = 1", fine, end, slack(fine, coarse), because)
        gen, t = generator(case, ODE()), 0.4
        here = log_density(case, torch.full((12,), t, dtype=DOUBLE), x)
        for words, to, law in (("base", 0.0, base), ("data", 1.0, case.law)):
            coarse, fine = (
                _through(SolvedFlow(gen, steps=n)(t, to, x, rng), law) for n in (steps // 2, steps)
            )
            words = f"log p at t = {t:g} from the {words}"
            yield near(words, fine, here, slack(fine, coarse), because)

    def leaky(case: Case) -> Case:
        right = case.marginal.velocity
        wrong = but(case.marginal, velocity=lambda t, x: right(t, x) + torch.sin(x) / 8)
        return replace(case, marginal=wrong)

    return Claim(
        "flow-density",
        "Along the exact flow the log-density changes by the integral of the divergence: it is "
        "that of the path from the base and from the data.",
        cases("sqrt", scale=2.0),
        check,
        (Control("b + sin(x)/8", each(leaky)),),
        formula=r"\log\rho_t(x) = \log\rho_0(X_{t,0}) - \int_0^t \nabla\cdot b\,(\tau, "
        r"X_{t,\tau})\,d\tau",
        entries=("L1.9", "L3.12", "A12"),
    )


def _through(solved: tuple[Tensor, Tensor], law: Any) -> Tensor:
    found: Tensor = law.log_prob(solved[0]) + solved[1]
    return found


def entropy() -> Claim[Cases]:
    """Cross-entropies of data and base, and the order of worse fields."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        rng, count = trial.rng(), trial.count(12_000, 6_000)
        x, base = case.law.sample(count, rng), Gaussian((1,), dtype=DOUBLE)
        grid = torch.linspace(-9, 9, 2001, dtype=DOUBLE)[:, None]
        log_p = log_density(case, torch.ones(2001, dtype=DOUBLE), grid)
        whole = -float(torch.trapezoid(log_p.exp() * log_p, grid[:, 0]))
        score = ODELikelihood(steps=6, chunk=count)
        because = "h⁴ = 8e-4 of the solve with 6 steps, times a constant 4"

        def cross(factor: float) -> Tensor:
            def velocity(t: Tensor, x: Any) -> Tensor:
                return factor * case.marginal.velocity(t, x)

            return -score(Model(velocity, case.path, base), x, rng).value

        values = [cross(factor) for factor in (1.0, 1.6)]
        yield mean("of the data", values[0], whole, allowance=3e-3, because=because)
        gap = values[1] - values[0]
        spread = 5 * float(gap.std()) / count**0.5
        because_worse = "Gibbs: five standard errors above 0"
        yield at_most("a worse field scores worse", spread, gap.mean(), because_worse)
        start = normal(count, 1, rng=rng)
        solved = SolvedFlow(generator(case, ODE()), steps=6)(0.0, 1.0, start, rng)
        told = -_through(solved, case.law)
        normal_entropy = 0.5 * math.log(2 * math.pi * math.e)
        yield mean("of the base", told, normal_entropy, allowance=3e-3, because=because)

    return Claim(
        "cross-entropy",
        "The mean negative log-density of the exact flow is the entropy, at the data's end and "
        "at the base's; fields that are worse score worse.",
        cases("sqrt", law=line_mixture),
        check,
        (
            Control("b × 1.5", lambda found: scaled_field("velocity")(found, 0.5)),
            Control("b × 0.7", lambda found: scaled_field("velocity")(found, -0.3)),
        ),
        formula=r"H(\rho_1|\hat\rho_1) = \mathbb E\Big[\int_0^1\nabla\cdot b\,dt "
        r"- \log\rho_0(X_{1,0})\Big]",
        entries=("L3.13", "L3.21"),
    )
