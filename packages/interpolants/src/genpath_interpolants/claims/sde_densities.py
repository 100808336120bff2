r"""Densities of SDEs by paths of their auxiliary SDEs, against normal laws and exact marginals.

The processes are dX = θX dt + √(2ε) dW from N(0, v_0), whose variance is

    V(t) = e^{2θt} v_0 + ε (e^{2θt} − 1)/θ

and the models of exact mixtures, whose laws are those of the path for every ε.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from genpath.generators import flow
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.likelihoods import LogLikelihood
from genpath.models import Model
from genpath.states import Field
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    dial,
    equal,
    exact,
    mean,
    near,
)

from ..auxiliary import backward_drift, forward_drift
from ..dynamics import Tabulated
from ..entropies import PathDiagnostics, cross_entropy, path_diagnostics
from ..finite_volume import FiniteVolume
from ..likelihoods import SDELikelihood, density
from ..mixtures import GaussianMixture
from .cases import DOUBLE, LINE, Case, cases, log_density, normal

__all__ = ["sde"]

DIGITS = "its printed digits"
STEPS = 10
HEUN = "h²/8 of the stochastic Heun method, h = 1/10; 5 steps differ from 20 by h²/20"
SLACK = STEPS**-2 / 8
HALF = "h²/2 of the stochastic Heun method, h = 1/10"
MIXED = "h²/3 of the stochastic Heun method, h = 1/10; 8 steps differ from 16 by h²/7"
MIXED_SLACK = STEPS**-2 / 3


def sde() -> tuple[Claim[Any], ...]:
    """The claims of ``likelihood.interpolants.sde``."""
    return (
        forward(),
        backward(),
        still(),
        killed(),
        nested(),
        bound(),
        equality(),
        probes(),
    )


@dataclass(frozen=True)
class Route:
    """How a density is estimated.

    Args:
        score: options → the estimator.
        chosen: (the process's own drift, the drift that samples it backwards) → the one to use.
    """

    score: Callable[..., SDELikelihood] = SDELikelihood
    chosen: Callable[[Field, Field], Field] = lambda own, other: own


def swapped(route: Route) -> Route:
    """The auxiliary SDE with the sampler's drift."""
    return replace(route, chosen=lambda own, other: other)


def louder(route: Route, size: float) -> Route:
    """Noise ε (1 + δ)."""

    def score(eps: Any, **options: Any) -> SDELikelihood:
        level = (lambda t: (1 + size) * eps(t)) if callable(eps) else (1 + size) * eps
        return route.score(level, **options)

    return replace(route, score=score)


def dying(route: Route, size: float) -> Route:
    """Weights that lose a share δ per unit of time."""

    def score(eps: Any, killing: Field | None = None, **options: Any) -> SDELikelihood:
        def more(t: Tensor, x: Any) -> Tensor:
            return size + (0 * t if killing is None else killing(t, x))

        return route.score(eps, killing=more, **options)

    return replace(route, score=score)


@dataclass(frozen=True)
class Linear:
    """dX = θX dt + √(2ε) dW from N(0, v_0)."""

    theta: float = -0.8
    eps: float = 0.3
    start: float = 2.0

    def variance(self, t: Any) -> Any:
        """V(t)."""
        grow = torch.exp(2 * self.theta * torch.as_tensor(t, dtype=DOUBLE))
        return grow * self.start + self.eps * (grow - 1) / self.theta

    def drift(self, t: Tensor, x: Any) -> Tensor:
        """θx."""
        found: Tensor = self.theta * x
        return found

    def score(self, t: Tensor, x: Any) -> Tensor:
        """∇log p_t = −x/V."""
        found: Tensor = -x / self.variance(t)[:, None]
        return found

    def other(self, t: Tensor, x: Any) -> Tensor:
        """b_B = b_F − 2ε s."""
        return self.drift(t, x) - 2 * self.eps * self.score(t, x)

    @property
    def base(self) -> Gaussian:
        """N(0, v_0)."""
        return Gaussian((1,), std=math.sqrt(self.start), dtype=DOUBLE)

    def law(self, t: float = 1.0) -> Normal:
        """The law at time t."""
        return Normal(torch.zeros((), dtype=DOUBLE), self.variance(t).sqrt())


ENDS: tuple[Literal["base", "data"], ...] = ("base", "data")
POINT = torch.tensor([[1.1]], dtype=DOUBLE)
START = Gaussian((1,), dtype=DOUBLE)


# -- the two formulas ----------------------------------------------------------------------------


def forward() -> Claim[Route]:
    """The forward process's density at a point, with its bias in logarithm."""

    def check(route: Route, trial: Trial) -> Iterator[Evidence]:
        line, rng = Linear(), trial.rng()
        count = trial.count(20_000, 10_000)
        estimator = route.score(line.eps, steps=STEPS, paths=count, chunk=count)
        own = route.chosen(line.drift, line.other)
        true = float(line.law().log_prob(POINT).exp())
        yield near("ρ(1, 1.1) in closed form", true, 0.20123, 5e-6, DIGITS)
        terms = estimator.log_terms(own, POINT, line.base, rng, 1.0)[0]
        yield mean("ρ(1, 1.1)", terms.exp(), true, allowance=SLACK, because=HEUN)
        exact_cost = -math.log(true)
        costs = [exact_cost]
        for inner in (4, 2, 1):
            groups = terms.reshape(-1, inner)
            costs.append(float((math.log(inner) - torch.logsumexp(groups, 1)).mean()))
        words = "−log of a mean of K paths: K = ∞, 4, 2, 1 grow"
        yield at_most(words, costs[:-1], costs[1:], "Jensen; ten standard errors apart")
        middle = estimator.log_terms(own, POINT, line.base, rng, 0.4)[0]
        here = float(line.law(0.4).log_prob(POINT).exp())
        yield mean("ρ(0.4, 1.1)", middle.exp(), here, allowance=SLACK, because=HEUN)
        case, model = _mixed()
        x = torch.tensor([[-1.5], [0.0], [1.2]], dtype=DOUBLE)
        eps = Tabulated((0.6, 0.0))
        ends = (forward_drift(model, eps), backward_drift(model, eps))
        estimator = route.score(eps, steps=STEPS, paths=count // 12, chunk=count)
        terms = estimator.log_terms(route.chosen(*ends), x, START, rng, 1.0)
        data = log_density(case, torch.ones(3, dtype=DOUBLE), x).exp()
        words = "mixture, ε falling"
        yield mean(words, terms.T.exp(), data, allowance=MIXED_SLACK, because=MIXED)

    return Claim(
        "forward-density",
        "The density of the forward SDE is the mean weight of paths of the auxiliary SDE with the "
        "same drift; minus the logarithm of a mean of K paths is too large, less so for larger K.",
        Route,
        check,
        (
            Control("b_B in place of b_F", swapped),
            dial("noise ε (1 + δ)", louder, 0.5),
            dial("weights × e^{−δ}", dying, 0.1),
        ),
        formula=r"\rho^F(1,x) = \mathbb E\big[e^{-\int_0^1\nabla\cdot b_F(t,Y^B_t)dt}"
        r"\rho_0(Y^B_0)\,\big|\,Y^B_1 = x\big]",
        entries=("L3.14", "L3.15"),
        owes="density",
    )


def _mixed() -> tuple[Case, Model]:
    """Two overlapping components of the line, and the exact model."""

    def law() -> GaussianMixture:
        weights, means, stds = torch.tensor([[0.35, 0.65], [-1.0, 0.8], [0.8, 0.7]], dtype=DOUBLE)
        return GaussianMixture(weights, means[:, None], stds[:, None])

    (case,) = cases("sqrt", law=law, scale=1.0)()
    return case, Model(case.marginal.field("velocity"), case.path, START)


def backward() -> Claim[Route]:
    """The backward process's density at t = 0."""

    def check(route: Route, trial: Trial) -> Iterator[Evidence]:
        theta, eps, centre, spread = 0.6, 0.25, 0.7, 0.8
        rng, count = trial.rng(), trial.count(20_000, 10_000)
        end = Gaussian((1,), centre, spread, DOUBLE)
        shrink = math.exp(-theta)
        level = shrink**2 * spread**2 + eps * (1 - shrink**2) / theta

        def own(t: Tensor, x: Any) -> Tensor:
            found: Tensor = theta * x
            return found

        def other(t: Tensor, x: Any) -> Tensor:
            """b_F = b_B + 2ε s, s of the backward process."""
            decay = torch.exp(-theta * (1 - t))
            v = decay**2 * spread**2 + eps * (1 - decay**2) / theta
            found: Tensor = theta * x - 2 * eps * (x - (decay * centre)[:, None]) / v[:, None]
            return found

        estimator = route.score(eps, steps=STEPS, paths=count, chunk=2 * count)
        x = torch.tensor([[-0.3], [0.9]], dtype=DOUBLE)
        law = Normal(torch.tensor(shrink * centre, dtype=DOUBLE), math.sqrt(level))
        terms = estimator.log_terms(route.chosen(own, other), x, end, rng, 0.0, "backward")
        true = law.log_prob(x[:, 0]).exp()
        yield mean("linear", terms.T.exp(), true, allowance=SLACK, because=HEUN)
        case, model = _mixed()
        ends = (backward_drift(model, eps), forward_drift(model, eps))
        estimator = route.score(eps, steps=STEPS, paths=count // 12, chunk=count)
        t = 0.2
        terms = estimator.log_terms(route.chosen(*ends), x, case.law, rng, t, "backward")
        true = log_density(case, torch.full((2,), t, dtype=DOUBLE), x).exp()
        words = f"mixture at t = {t:g}"
        yield mean(words, terms.T.exp(), true, allowance=MIXED_SLACK, because=MIXED)

    return Claim(
        "backward-density",
        "The density of the backward SDE is the mean weight of paths of the forward auxiliary SDE "
        "with the backward drift.",
        Route,
        check,
        (
            Control("b_F in place of b_B", swapped),
            Control("noise 1.5 ε", lambda route: louder(route, 0.5)),
            Control("weights × e^{−0.1}", lambda route: dying(route, 0.1)),
        ),
        formula=r"\rho^B(0,x) = \mathbb E\big[e^{\int_0^1\nabla\cdot b_B(t,Y^F_t)dt}"
        r"\rho_1(Y^F_1)\,\big|\,Y^F_0 = x\big]",
        entries=("L3.16",),
        owes="reverse",
    )


def still() -> Claim[Route]:
    """Without noise the two formulas are those of the flow."""

    def check(route: Route, trial: Trial) -> Iterator[Evidence]:
        rng, x = trial.rng(), torch.linspace(-2.5, 2, 10, dtype=DOUBLE)[:, None]

        def bend(t: Tensor, y: Any) -> Tensor:
            found: Tensor = torch.sin(2 * y) / 2 - t[:, None] * y
            return found

        own, flat = route.chosen(bend, bend), flow(LINE, bend)

        def scores(steps: int) -> tuple[LogLikelihood, LogLikelihood]:
            estimator = route.score(0.0, steps=steps)
            return (
                estimator.log_prob_forward(own, x, START, rng, 0.7),
                estimator.log_prob_backward(own, x, START, rng, 0.7),
            )

        pairs = zip(ENDS, scores(10), scores(20), strict=True)
        for words, coarse, fine in pairs:
            true = density(flat, x, 0.7, START, rng, from_=words, steps=12).value
            slack = (fine.value - coarse.value).abs().max() * 2 / 3 + 1e-6
            because = "2/3 of the largest difference to half as many steps; order 2 leaves 1/3"
            yield near(f"from the {words}", fine.value, true, slack, because)
            yield exact(f"from the {words}: the kind", fine.kind, "exact")

    return Claim(
        "flow-limit",
        "With ε = 0 one path is enough, and both densities are the flow's.",
        Route,
        check,
        (Control("weights × e^{−0.01}", lambda route: dying(route, 0.01)),),
        entries=("L3.16", "L3.12"),
    )


def killed() -> Claim[Route]:
    """Killing, and growth, at rates that depend on the state."""

    def check(route: Route, trial: Trial) -> Iterator[Evidence]:
        theta, eps, start = -0.5, 0.4, 1.5
        rng, count = trial.rng(), trial.count(20_000, 10_000)
        base = Gaussian((1,), std=math.sqrt(start), dtype=DOUBLE)
        x = torch.tensor([[0.7]], dtype=DOUBLE)

        def decay(t: Tensor, y: Any) -> Tensor:
            found: Tensor = theta * y
            return found

        for r0, r2, printed in ((0.3, 0.6, 0.15474), (-0.5, -0.1, None)):

            def killing(t: Tensor, y: Any, r0: float = r0, r2: float = r2) -> Tensor:
                found: Tensor = r0 + r2 * y[:, 0] ** 2
                return found

            true = _riccati(theta, eps, r0, r2, start, 0.7)
            if printed is not None:
                yield near("ρ(1, 0.7) by the Riccati equation", true, printed, 5e-6, DIGITS)
            estimator = route.score(eps, steps=STEPS, paths=count, chunk=count, killing=killing)
            own = route.chosen(decay, decay)
            terms = estimator.log_terms(own, x, base, rng, 1.0)[0]
            words = f"r = {r0:g} + {r2:g} x²"
            yield mean(words, terms.exp(), true, allowance=SLACK, because=HEUN)
            solver = FiniteVolume(-9.0, 9.0, 200)
            found = solver.solve(
                decay,
                eps,
                base.log_prob,
                TimeGrid.uniform(30),
                growth=lambda t, y: -killing(t, y),
            )
            because = "Δ² of the cells, 0.09² times p″/12 ≤ 0.1, and h² = 1/900 times as much"
            yield near(f"{words}, on cells", found.log_prob(x).exp()[0], true, 1e-3, because)

    def ignored(route: Route) -> Route:
        def score(eps: Any, killing: Field, **options: Any) -> SDELikelihood:
            return route.score(eps, killing=lambda t, y: 0.5 * killing(t, y), **options)

        return replace(route, score=score)

    def flipped(route: Route) -> Route:
        def score(eps: Any, killing: Field, **options: Any) -> SDELikelihood:
            return route.score(eps, killing=lambda t, y: -killing(t, y), **options)

        return replace(route, score=score)

    return Claim(
        "killed-density",
        "Killing at a rate r multiplies a path's weight by e^{−∫r}, and negative rates let the "
        "mass grow.",
        Route,
        check,
        (
            Control("r/2", ignored),
            Control("−r", flipped),
            dial("noise ε (1 + δ)", louder, 0.5),
        ),
        formula=r"\partial_t\rho + \nabla\cdot(b\rho) = \varepsilon\Delta\rho - r\rho",
        entries=("H3.3",),
    )


def _riccati(theta: float, eps: float, r0: float, r2: float, start: float, x: float) -> float:
    """log ρ = −p x²/2 − c by classical Runge–Kutta: p' = −2θp − 2εp² + 2r₂, c' = θ + εp + r₀."""
    p, c, h = 1 / start, 0.5 * math.log(2 * math.pi * start), 1e-3

    def rate(q: float) -> float:
        return -2 * theta * q - 2 * eps * q * q + 2 * r2

    for _ in range(1000):
        k1 = rate(p)
        k2 = rate(p + h / 2 * k1)
        k3 = rate(p + h / 2 * k2)
        k4 = rate(p + h * k3)
        q = p + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        middle = p + h / 2 * k2
        c += h * (theta + r0 + eps * (p + 4 * middle + q) / 6)
        p = q
    return math.exp(-p * x * x / 2 - c)


# -- cross-entropies and bounds ------------------------------------------------------------------


def nested() -> Claim[Route]:
    """Minus the mean logarithm of inner means, with its bias."""

    def check(route: Route, trial: Trial) -> Iterator[Evidence]:
        line, rng = Linear(eps=0.1, start=1.0), trial.rng()
        rows, centre = trial.count(6000, 3000), 0.3
        x = centre + 0.6 * normal(rows, 1, rng=rng)
        v = float(line.variance(1.0))
        true = 0.5 * math.log(2 * math.pi * v) + (centre**2 + 0.36) / (2 * v)
        own = route.chosen(line.drift, line.other)
        exact_cost = -line.law().log_prob(x[:, 0])
        for inner in (4, 16):
            estimator = route.score(line.eps, steps=STEPS, paths=inner, chunk=2 * rows * inner)
            scores = estimator.log_prob_forward(own, x, line.base, rng)
            found = cross_entropy(scores, inner)
            words = f"K = {inner}"
            second = 1.5 * (2 * found.bias) ** 2
            over = -scores.value - exact_cost
            because = "1.5 (s²/K)², the next order in 1/K, + h²/8"
            yield mean(
                f"{words}: bias, ½ s²/K",
                over,
                found.bias,
                allowance=second + SLACK,
                because=because,
            )
            yield mean(
                f"{words}: H + bias",
                -scores.value,
                true + found.bias,
                allowance=second + SLACK,
                because=because,
            )
            yield at_most(f"{words}: biased up", 0.0, float(over.mean()), "Jensen")

    return Claim(
        "nested-cross-entropy",
        "Minus the mean log-density is the cross-entropy plus half the squared error of the inner "
        "means, which falls as 1/K.",
        Route,
        check,
        (
            Control("b_B in place of b_F", swapped),
            dial("weights × e^{−δ}", dying, 0.1),
        ),
        formula=r"H(\rho_1|\hat\rho^F) = -\mathbb E_1\log\mathbb E\big[e^{-A}R\,|\,Y_1 = x\big]",
        entries=("L3.17",),
    )


def bound() -> Claim[Route]:
    """Jensen's bound from one path, and what it loses."""

    def check(route: Route, trial: Trial) -> Iterator[Evidence]:
        line, rng, count = Linear(), trial.rng(), trial.count(20_000, 10_000)
        own = route.chosen(line.drift, line.other)
        lost, cost = _gap(line, 1.1), -float(line.law().log_prob(POINT))
        yield near("the gap in closed form", lost, 0.731106, 5e-7, DIGITS)
        x = POINT.expand(count, 1)
        one = route.score(line.eps, steps=STEPS, paths=1, chunk=count)
        terms = -one.log_terms(own, x, line.base, rng, 1.0)[:, 0]
        yield mean("E[A − log R]", terms, cost + lost, allowance=4 * SLACK, because=HALF)
        gap = one.jensen_gap(own, line.score, x, rng)
        yield mean("ε E∫|∇log ρ|²", gap.value, lost, allowance=4 * SLACK, because=HALF)
        upper = one.cross_entropy_upper(own, x, line.base, rng)
        value = terms.new_tensor(upper.value)
        slack = 4.9 * upper.standard_error
        yield at_most("H ≤ the bound", cost, value, "Jensen", slack=slack)
        right = one.cross_entropy_upper(own, x, line.base, rng, score=line.score)
        spread = 4.9 * right.standard_error + 4 * SLACK
        words = "the bound less its gap"
        yield Evidence(words, right.value, cost, spread, "4.9 standard errors + h²/2", count)

    def plain(route: Route, size: float) -> Route:
        """The gap × (1 − δ)."""

        def score(eps: Any, **options: Any) -> SDELikelihood:
            made = route.score(eps, **options)

            def jensen_gap(*given: Any, **more: Any) -> LogLikelihood:
                found = made.jensen_gap(*given, **more)
                return replace(found, value=(1 - size) * found.value)

            return but(made, jensen_gap=jensen_gap)

        return replace(route, score=score)

    return Claim(
        "jensen-bound",
        "One path gives an upper bound of the cross-entropy, which is ε E∫|∇log ρ^F|² above it.",
        Route,
        check,
        (
            Control("b_B in place of b_F", swapped),
            dial("weights × e^{−δ}", dying, 0.1),
            dial("the gap × (1 − δ)", plain, 0.5),
        ),
        formula=r"H = \mathbb E\Big[\int(\nabla\cdot b_F - \varepsilon|\nabla\log\rho^F|^2)dt"
        r" - \log\rho_0(Y_0)\Big]",
        entries=("L3.18", "L3.19"),
        owes="control",
    )


def _gap(line: Linear, x: float) -> float:
    """ε ∫ E[Y_t²]/V² dt for dY = θY dt + √(2ε) dW backward from x: N(x e^{−θ(1−t)}, ε(…)/θ)."""
    t = torch.linspace(0, 1, 20_001, dtype=DOUBLE)
    decay = torch.exp(-line.theta * (1 - t))
    second = decay**2 * x**2 + line.eps * (1 - decay**2) / line.theta
    return float(line.eps * torch.trapezoid(second / line.variance(t) ** 2, t))


Diagnose = Callable[[Tensor, Tensor], PathDiagnostics]


def equality() -> Claim[Diagnose]:
    """Where Jensen's inequality loses nothing."""

    def diagnose(log_r: Tensor, cost: Tensor) -> PathDiagnostics:
        return path_diagnostics(log_r - cost)

    def check(found: Diagnose, trial: Trial) -> Iterator[Evidence]:
        size = torch.tensor([0.3, 1.0], dtype=DOUBLE)
        log_r = torch.stack([size, -size], 1)
        same = found(log_r, log_r + 0.4)
        yield equal("A = log R + c: the gap", same.gap, torch.zeros(2))
        yield equal("A = log R + c: Var(A − log R)", same.variance, torch.zeros(2))
        other = found(log_r, 0.4 - log_r)
        yield equal("A = −log R + c: the gap", other.gap, torch.cosh(2 * size).log())
        yield equal("A = −log R + c: Var(A − log R)", other.variance, 8 * size**2)
        line, rng = Linear(), trial.rng()

        def paths(eps: Callable[[Tensor], Tensor]) -> Tensor:
            likelihood = SDELikelihood(eps, steps=10, paths=2000)
            return likelihood.log_terms(line.drift, POINT, line.base, rng, 1.0)

        flow = found(paths(torch.zeros_like), torch.zeros(1, dtype=DOUBLE))
        yield equal("a flow: Var(A − log R)", flow.variance, torch.zeros(1))
        noisy = found(paths(lambda t: torch.full_like(t, line.eps)), torch.zeros(1, dtype=DOUBLE))
        half = torch.full((1,), 0.5, dtype=DOUBLE)
        because = "ε = 0.3 on R: about 1, which 2000 paths do not bring below a half"
        yield at_most("noise on R: Var(A − log R) > ½", half, noisy.variance, because)

    def wrong(found: Diagnose) -> Diagnose:
        return lambda log_r, cost: found(log_r, -cost)

    return Claim(
        "equality-case",
        "Jensen's inequality is an equality where A − log R is constant over the paths, as it is "
        "for a flow; a constant A + log R does not do.",
        lambda: diagnose,
        check,
        (Control("A + log R", wrong),),
        formula=r"-\log\mathbb E[e^{-A}R] = \mathbb E[A - \log R] \iff A - \log R = c",
        entries=("X3", "H3.4"),
    )


def probes() -> Claim[Route]:
    """One probe per step, and the error that it leaves."""

    def check(route: Route, trial: Trial) -> Iterator[Evidence]:
        matrix = torch.tensor([[-0.9, 0.7], [0.3, -0.6]], dtype=DOUBLE)
        eps, rng, count = 0.1, trial.rng(), trial.count(10_000, 6_000)
        base = Gaussian((2,), dtype=DOUBLE)
        spread = _covariance(matrix, eps)
        x = torch.tensor([[0.4, -0.3]], dtype=DOUBLE)
        true = MultivariateNormal(torch.zeros(2, dtype=DOUBLE), spread).log_prob(x).exp()

        def drift(t: Tensor, y: Any) -> Tensor:
            found: Tensor = y @ matrix.T
            return found

        estimator = route.score(eps, steps=STEPS, paths=count, chunk=count, divergence="hutchinson")
        terms = estimator.log_terms(drift, x, base, rng, 1.0)[0]
        symmetric = 0.5 * (matrix + matrix.T)
        excess = 0.5 / STEPS * 4 * float(symmetric[0, 1]) ** 2  # h/2 Var(ξᵀJξ), signs ξ
        told = true * math.exp(excess)
        yield mean("p e^{h Var/2}", terms.exp(), told[0], allowance=SLACK, because=HEUN)
        back = (
            torch.linalg.matrix_exp(-matrix) @ x[0]
        )  # Y_0 given Y_1 = x: its mean, and 2nd moment
        second = back.square().sum() + _covariance(-matrix, eps, 0.0).trace()
        cost = -float(matrix.trace()) - math.log(2 * math.pi) - 0.5 * float(second)
        yield mean("E[log R − A]", terms, cost, allowance=SLACK, because=HEUN)

    return Claim(
        "probes",
        "One probe per step leaves an error of log p that falls with the step: half the step "
        "times the probe's variance.",
        Route,
        check,
        (
            dial("weights × e^{−δ}", dying, 0.1),
            dial("noise ε (1 + δ)", louder, 1.0),
        ),
    )


def _covariance(matrix: Tensor, eps: float, start: float = 1.0) -> Tensor:
    """C' = MC + CMᵀ + 2εI from a multiple of I, by the vectorised exponential."""
    eye = torch.eye(2, dtype=DOUBLE)
    both = torch.kron(matrix, eye) + torch.kron(eye, matrix)
    grow = torch.linalg.matrix_exp(both)
    source = 2 * eps * eye.reshape(4)
    flat: Tensor = start * grow @ eye.reshape(4) + torch.linalg.solve(
        both, (grow - torch.eye(4)) @ source
    )
    return flat.reshape(2, 2)
