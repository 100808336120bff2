r"""Claims of log-densities along flows, and of divergences by probes.

log p_1(x) = log p_0(x_0) − ∫₀¹ div u(t, x_t) dt,     ẋ = u(t, x), x_1 = x
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.divergences import exact_divergence, hutchinson_divergence
from genpath.generators import flow
from genpath.laws import Gaussian
from genpath.likelihoods import ODELikelihood, SolvedFlow, density_mass
from genpath.models import Model
from genpath.spaces import Euclidean
from genpath.testing import Claim, Evidence, Trial, but, dial, equal, exact, mean, near

from ._arc import Arc, log_law, velocity

__all__ = ["divergences", "ode"]

DOUBLE = torch.float64
SPACE = Euclidean(3)


def ode() -> tuple[Claim[Any], ...]:
    """Claims of ``likelihood.ode``."""
    return (_exact_law(), _both_ends(), _unbiased(), _jacobian(), _mass())


def divergences() -> tuple[Claim[Any], ...]:
    """Claims of the topic ``core.divergences``."""
    return (_trace(), _probe_moments())


def _model() -> Model:
    return Model(velocity, Arc(), Gaussian((2,), dtype=DOUBLE))


def _points(trial: Trial, count: int = 40) -> Tensor:
    return 1 + 0.7 * torch.randn(count, 2, generator=trial.rng("points"), dtype=DOUBLE)


def _late(likelihood: Any, size: float) -> Any:
    """The divergence × (1 + δ): the log-determinant comes out too large."""

    def call(model: Model, data: Any, rng: torch.Generator) -> Any:
        found = likelihood(model, data, rng)
        solve = SolvedFlow(flow(model.path.space, model.network), steps=8)
        log_det = solve(1.0, 0.0, data, rng)[1]
        return replace(found, value=found.value + size * log_det)

    return but(likelihood, __call__=call)


# -- the likelihood --------------------------------------------------------------------------


def _exact_law() -> Claim[Any]:
    def check(likelihood: Any, trial: Trial) -> Iterator[Evidence]:
        x, one = _points(trial), torch.ones(1, dtype=DOUBLE)
        true = log_law(one, x)
        found = likelihood(_model(), x, trial.rng())
        yield near("log p_1", found.value, true, 1e-5, "the ledger's 1e-5; h⁴ is below")
        yield exact("it says that it is exact", found.kind == "exact")
        yield exact("its standard error", found.standard_error, torch.zeros_like(true))

    def make() -> ODELikelihood:
        return ODELikelihood(steps=32)

    return Claim(
        "closed-form",
        "Along an exact flow between normal laws, the likelihood is the log-density of the end.",
        make,
        check,
        (dial("∫ div u × (1 + δ)", _late),),
        formula=r"\log p_1(x_1) = \log p_0(x_0) - \int_0^1 \nabla\cdot u(t, x_t)\,dt",
        entries=("L1.9",),
        owes="density",
    )


def _both_ends() -> Claim[Any]:
    """log p_t from the base, and from the data: ρ_t = e^{−∫₀ᵗ div} ρ_0 = e^{∫_t¹ div} ρ_1."""
    t = 0.6

    def check(solve: Any, trial: Trial) -> Iterator[Evidence]:
        x = _points(trial)
        one = torch.ones(1, dtype=DOUBLE)
        true = log_law(t * one, x)
        start, back = solve(t, 0.0, x, trial.rng())
        end, forth = solve(t, 1.0, x, trial.rng())
        because = "h⁴ of 20 steps of Runge–Kutta"
        yield near("from the base", log_law(0 * one, start) + back, true, 1e-5, because)
        yield near("from the data", log_law(one, end) + forth, true, 1e-5, because)

    def make() -> SolvedFlow:
        return SolvedFlow(flow(Euclidean(2), velocity), steps=20)

    return Claim(
        "both-ends",
        "The density at a time between is the same from the base and from the data.",
        make,
        check,
        (dial("log det × (1 + δ)", _scaled),),
        formula=r"\rho_t(x) = e^{-\int_0^t\nabla\cdot u}\,\rho_0(X_{t,0}(x)) ="
        r" e^{\int_t^1\nabla\cdot u}\,\rho_1(X_{t,1}(x))",
        entries=("L3.12",),
        owes="density",
    )


def _unbiased() -> Claim[Any]:
    def check(likelihood: Any, trial: Trial) -> Iterator[Evidence]:
        x, one = _points(trial, 1), torch.ones(1, dtype=DOUBLE)
        count = trial.count(4000, 2000)
        found = likelihood(_model(), x.expand(count, 2), trial.rng())
        because = "h⁴ of 10 steps"
        yield mean("log p_1 by probes", found.value, log_law(one, x)[0], allowance=1e-3,
                   because=because)  # fmt: skip
        variance = found.standard_error.square().mean() / found.value.var()
        spread = 5 * math.sqrt(2 / (likelihood.probes - 1) / count + 2 / count)
        because = "five standard errors of a ratio of variances"
        yield near("its standard error, squared, over its variance", variance, 1.0, spread, because)
        yield exact("what it says", found.kind == "unbiased for log p")

    def louder(likelihood: Any, size: float) -> Any:
        def call(model: Model, data: Any, rng: torch.Generator) -> Any:
            found = likelihood(model, data, rng)
            return replace(found, standard_error=(1 + size) * found.standard_error)

        return but(likelihood, __call__=call)

    return Claim(
        "probes",
        "With random probes the estimate of log p is unbiased, and its standard error is right.",
        lambda: ODELikelihood(steps=10, divergence="hutchinson", probes=4, chunk=8192),
        check,
        (dial("∫ div u × (1 + δ)", _late), dial("standard error × (1 + δ)", louder)),
        formula=r"\nabla\cdot u = \mathbb{E}\,\xi^\top(\nabla u)\,\xi",
        entries=("L3.20",),
    )


def _field(t: Any, x: Tensor) -> Tensor:
    t = t.reshape(-1, *[1] * (x.dim() - 1)) if isinstance(t, Tensor) else t
    return torch.sin(x.roll(1, -1)) * x + torch.cos(3 * t) * x


def _curved() -> SolvedFlow:
    return SolvedFlow(flow(SPACE, _field), steps=20)  # type: ignore[arg-type]


def _scaled(solve: Any, size: float) -> Any:
    def call(s: float, t: float, x: Any, rng: Any) -> Any:
        y, log_det = solve(s, t, x, rng)
        return y, (1 + size) * log_det

    return but(solve, __call__=call)


def _jacobian() -> Claim[Any]:
    def check(solve: Any, trial: Trial) -> Iterator[Evidence]:
        x = 0.7 * torch.randn(2, 3, generator=trial.rng(), dtype=DOUBLE)
        rng = trial.rng("probe")
        for s, t in ((0.0, 1.0), (1.0, 0.4)):

            def end(v: Tensor, s: float = s, t: float = t) -> Tensor:
                found: Tensor = solve(s, t, v[None], rng)[0][0]
                return found

            dense = torch.stack([torch.func.jacrev(end)(row) for row in x])
            log_det = torch.linalg.slogdet(dense)[1]
            what = f"log det from {s:g} to {t:g}"
            yield near(what, solve(s, t, x, rng)[1], log_det, 1e-3, "h⁴ of 20 steps")

    return Claim(
        "log-determinant",
        "The log-determinant of the solved flow is that of the Jacobian of the solve itself.",
        _curved,
        check,
        (dial("log det × (1 + δ)", _scaled, 0.5),),
        formula=r"\log|\det\nabla X_{s,t}| = \int_s^t \nabla\cdot u(\tau, X_{s,\tau})\,d\tau",
        owes="density",
    )


def _mass() -> Claim[Any]:
    def check(solve: Any, trial: Trial) -> Iterator[Evidence]:
        mass, error = density_mass(solve, Gaussian((3,), dtype=DOUBLE), 200, trial.rng())
        yield near("∫ p_1", mass, 1.0, 1e-2, "h⁴ of 20 steps")
        yield near("its standard error", error, 0.0, 1e-2, "every term is 1")

    return Claim(
        "mass",
        "The density that scores is that of the map that samples: it integrates to 1.",
        _curved,
        check,
        (dial("log det × (1 + δ)", _scaled, 0.5),),
        formula=r"\int p_1\,dx = \mathbb{E}_{p_0}\Big[\frac{p_1(X)\,|\det\nabla X|}{p_0}\Big] = 1",
        owes="existence",
    )


# -- divergences -----------------------------------------------------------------------------


def _trace() -> Claim[Any]:
    def check(divergence: Any, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        x = torch.randn(5, 3, generator=rng, dtype=DOUBLE)
        t = torch.rand(5, generator=rng, dtype=DOUBLE)
        value, found = divergence(SPACE, _field, t, x)
        dense = torch.func.vmap(torch.func.jacrev(lambda s, y: _field(s[None], y[None])[0], 1))
        traces = dense(t, x).diagonal(dim1=1, dim2=2).sum(1)
        yield equal("div u against the trace of the Jacobian", found, traces)
        yield equal("the value that comes with it", value, _field(t, x))

    def scaled(divergence: Any, size: float) -> Any:
        def other(*arguments: Any) -> Any:
            value, found = divergence(*arguments)
            return value, (1 + size) * found

        return other

    return Claim(
        "trace",
        "The exact divergence is the trace of the Jacobian.",
        lambda: exact_divergence,
        check,
        (dial("div u × (1 + δ)", scaled),),
        formula=r"\nabla\cdot u = \operatorname{tr}\nabla u",
    )


def _probe_moments() -> Claim[Any]:
    matrix = torch.tensor([[0.5, 1.2, -0.3], [0.1, -0.7, 0.4], [0.9, 0.2, 1.1]], dtype=DOUBLE)

    def check(divergence: Any, trial: Trial) -> Iterator[Evidence]:
        count, rng = trial.count(80_000, 40_000), trial.rng()
        x = torch.randn(count, 3, generator=rng, dtype=DOUBLE)
        t = torch.zeros(count, dtype=DOUBLE)
        probe = torch.randn(count, 3, generator=rng, dtype=DOUBLE)
        signs = probe.sign()
        symmetric = (matrix + matrix.T) / 2
        whole, diagonal = symmetric.square().sum(), matrix.diagonal().square().sum()
        cases = {
            "normal probes": (probe, 2 * whole),
            "probes of signs": (signs, 2 * (whole - diagonal)),
        }
        for name, (xi, variance) in cases.items():
            found = divergence(SPACE, lambda t, x: x @ matrix.T, t, x, xi)[1]
            trace = matrix.trace()
            yield mean(f"mean, {name}", found, trace)
            yield mean(f"variance, {name}", (found - trace).square(), variance)

    def scaled(divergence: Any, size: float) -> Any:
        def other(space: Any, field: Any, t: Any, x: Any, probe: Any) -> Any:
            return divergence(space, field, t, x, (1 + size) * probe)

        return other

    return Claim(
        "probe",
        "One random probe of a linear field has the trace as mean and the known variance.",
        lambda: hutchinson_divergence,
        check,
        (dial("probes × (1 + δ)", scaled, 0.5),),
        formula=r"\mathbb{E}\,\xi^\top J\xi = \operatorname{tr}J, \qquad"
        r" \mathrm{Var} = 2\|J_{\mathrm{sym}}\|_F^2 \;(\text{signs: } -2\textstyle\sum J_{ii}^2)",
        entries=("L3.20", "A13", "K.14"),
    )
