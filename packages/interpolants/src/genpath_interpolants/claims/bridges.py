r"""Claims of Schrödinger bridges, against grids, precisions and sums over all pairs.

Between N(0, s0) and N(0, s1) the plan is normal with Cov(x0, x1) = C, and its density has x0 and x1
coupled by e^{x0·x1/2ε} alone: the precision matrix of (x0, x1) has −I/(2ε) off its diagonal. So C
is known without any process. On a grid, plain scaling finds it without any formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from genpath.couplings import Coupling, Pairs, Simulated
from genpath.laws import Gaussian
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
    order,
)

from ..bridges import (
    FittedBridge,
    GaussianBridges,
    MaxMin,
    SBResidual,
    SchroedingerProblem,
    StaticBridge,
    is_reachable,
)
from ..schedules import linear_schedule
from .cases import DOUBLE, normal
from .transport import scaled_plan

__all__ = ["bridges"]

S0, S1, EPS = 0.7, 2.5, 0.4


def bridges() -> tuple[Claim[Any], ...]:
    """Claims of the topic ``interpolants.bridges``."""
    return (
        _iterated_exactly(),
        _iterated(),
        _fields(),
        _equations(),
        _transport_limit(),
        _game_value(),
        _game_optimum(),
        _unreachable(),
    )


@cache
def grid_covariance(s0: float = S0, s1: float = S1, eps: float = EPS) -> float:
    """C of the plan between N(0, s0) and N(0, s1), by scaling on a grid.

    The trapezoidal rule on ±9 deviations is exact to rounding for these smooth laws.
    """
    x, y = (torch.linspace(-9, 9, 161, dtype=DOUBLE) * s**0.5 for s in (s0, s1))
    a, b = ((-z.square() / (2 * s)).exp() for z, s in ((x, s0), (y, s1)))
    a, b = a / a.sum(), b / b.sum()
    plan = scaled_plan(0.5 * (x[:, None] - y).square(), eps, a, b, rounds=300)
    return float((plan * x[:, None] * y).sum())


def _one(value: float) -> Tensor:
    return torch.full((1, 1), value, dtype=DOUBLE)


def plane_covariances() -> tuple[Tensor, Tensor]:
    """Two covariances that do not commute."""
    return (
        torch.tensor([[0.7, 0.2], [0.2, 0.5]], dtype=DOUBLE),
        torch.tensor([[2.5, -0.6], [-0.6, 0.9]], dtype=DOUBLE),
    )


def bridge_variance(t: Tensor, cross: float) -> Tensor:
    """v(t) of the Brownian bridges between ends with this covariance."""
    s = 1 - t
    return s**2 * S0 + t**2 * S1 + 2 * t * s * (cross + EPS)


def path_energy(t: Tensor, weights: Tensor, v: Tensor, rate: Tensor, eps: float = EPS) -> Tensor:
    """∫ E|b + ε s|² dt of N(0, v(t)): the drift is (v̇/2 − ε) x/v."""
    return (weights * (0.5 * rate - eps).square() / v).sum()


def nodes(count: int = 60) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre on [0, 1], by numpy."""
    import numpy as np

    x, w = np.polynomial.legendre.leggauss(count)
    return torch.as_tensor(0.5 * (x + 1)), torch.as_tensor(0.5 * w)


# -- iterated ------------------------------------------------------------------------------------

Projection = Callable[[GaussianBridges], GaussianBridges]


def _iterated_exactly() -> Claim[Any]:
    def check(project: Projection, trial: Trial) -> Iterator[Evidence]:
        line = GaussianBridges(_one(S0), _one(S1), _one(0.0), EPS)
        s0, s1 = plane_covariances()
        plane = GaussianBridges(s0, s1, 0 * s0, EPS)
        for _ in range(40):
            line = project(line)
        because = "h⁴ of Runge–Kutta with 64 steps, and the rate of convergence to the power 40"
        yield near("C on the line", line.cross, _one(grid_covariance()), 2e-7, because)
        t, w = nodes()
        v = bridge_variance(t, grid_covariance())
        rate = -2 * (1 - t) * S0 + 2 * t * S1 + 2 * (1 - 2 * t) * (grid_covariance() + EPS)
        found, true = line.energy(), path_energy(t, w, v, rate)
        yield near("its energy", found, true, 2e-7, because)
        yield near("the ledger's C", line.cross[0, 0], 0.98203, 5e-6, "its last digit")
        yield near("the ledger's energy", found, 0.16511, 5e-6, "its last digit")
        middles = (torch.arange(200, dtype=DOUBLE) + 0.5) / 200
        flows = torch.linalg.matrix_exp(plane.slope(middles) / 200)
        through = torch.linalg.multi_dot([s0, *flows.mT])  # Cov(x0, X_1) = S0 Φᵀ
        because = "h² of the exponential midpoint rule, h = 1/200, times rates of size 5"
        yield near("C after one round", project(plane).cross, through, 2e-4, because)
        for _ in range(40):
            plane = project(plane)
        off = torch.linalg.inv(plane.joint)[:2, 2:]
        because = "the rate of convergence, 0.64 here, to the power 40, times the condition 15"
        reference = -torch.eye(2, dtype=DOUBLE) / (2 * EPS)
        yield near("the precision off its diagonal", off, reference, 3e-7, because)
        slope = plane.slope(torch.tensor([0.3, 0.8], dtype=DOUBLE))
        yield near("K is symmetric", slope, slope.mT, 3e-7, because)

    def quieter(project: Projection, size: float) -> Projection:
        """The process has ε(1 − δ/2)."""

        def run(found: GaussianBridges) -> GaussianBridges:
            less = replace(found, eps=(1 - size / 2) * found.eps)
            return replace(project(less), eps=found.eps)

        return run

    def forgetful(project: Projection) -> Projection:
        """The coupling of the simulation is not used: C stays 0."""
        return lambda found: replace(project(found), cross=0 * found.cross)

    def stopped(project: Projection) -> Projection:
        """The process of ∇λ/2."""

        def run(found: GaussianBridges) -> GaussianBridges:
            half = but(found, slope=lambda t: 0.5 * found.slope(t))
            cross = GaussianBridges.projected(half).cross
            return replace(found, cross=cross)

        return run

    return Claim(
        "iterated-exactly",
        "Fitting the Markov process of the bridges and taking its ends, again and again, leads "
        "from independent normal ends to the Schrödinger bridge.",
        lambda: GaussianBridges.projected,
        check,
        (
            dial("noise ε(1 − δ/2)", quieter),
            Control("the simulated pairs are not used", forgetful),
            Control("half of the drift", stopped),
        ),
        formula=r"C \mapsto S_0\Phi^T,\ \dot\Phi = K\Phi \quad\to\quad "
        r"\begin{pmatrix}S_0&C\\C^T&S_1\end{pmatrix}^{-1}_{01} = -\frac{I}{2\varepsilon}",
        entries=("L1.22", "L4.16"),
    )


def _regressed(coupling: Coupling, forward: bool, rows: int, rng: torch.Generator) -> Field:
    """E[(x1 − x)/(1−t) | x_t = x], linear in x, by least squares at each time that is asked for."""
    pairs = coupling.pairs(rows, rng)
    x0, x1 = torch.as_tensor(pairs.x0)[:, 0], torch.as_tensor(pairs.x1)[:, 0]

    def drift(t: Tensor, x: Any) -> Any:
        s = float(t[0])
        z = torch.randn(len(x0), generator=rng, dtype=DOUBLE)
        y = (1 - s) * x0 + s * x1 + math.sqrt(2 * EPS * s * (1 - s)) * z
        gap = (x1 - y) / (1 - s) if forward else (x0 - y) / s
        return (gap @ y) / (y @ y) * x

    return drift


STEPS, ROUNDS = 25, 3


def _opposed(problem: SchroedingerProblem) -> Simulated:
    """x1 = −√(s1/s0) x0: the coupling of most transport."""
    return Simulated(problem.base, lambda x, rng: -((S1 / S0) ** 0.5) * x)


def _recursion() -> tuple[float, float]:
    """E x0 x1 and E x1² after the rounds: the moments of Euler steps with exact regression."""
    v0, v1, c, h = S0, S1, -((S0 * S1) ** 0.5), 1 / STEPS
    for index in range(ROUNDS):
        forward = index % 2 == 0
        start = S0 if forward else S1
        phi, v = 1.0, start
        for k in range(STEPS):
            s = k * h if forward else 1 - k * h
            total = (1 - s) ** 2 * v0 + s**2 * v1 + 2 * s * (1 - s) * (c + EPS)
            known = (1 - s) * c + s * v1 if forward else (1 - s) * v0 + s * c
            slope = (known / total - 1) / (1 - s if forward else s)
            phi, v = phi * (1 + h * slope), v * (1 + h * slope) ** 2 + 2 * EPS * h
        v0, v1, c = (S0, v, S0 * phi) if forward else (v, S1, S1 * phi)
    return c, v1


def _iterated() -> Claim[Any]:
    def make() -> SchroedingerProblem:
        base, data = (Gaussian((1,), std=s**0.5, dtype=DOUBLE) for s in (S0, S1))
        return SchroedingerProblem(base, data, EPS)

    def check(problem: SchroedingerProblem, trial: Trial) -> Iterator[Evidence]:
        rows, rng = trial.count(40_000, 15_000), trial.rng()

        def fit(coupling: Coupling, forward: bool) -> Field:
            return _regressed(coupling, forward, rows, rng)

        found = problem.iterated(
            fit, rng, rounds=ROUNDS, rows=rows, steps=STEPS, start=_opposed(problem)
        )
        x0, x1 = torch.as_tensor(found.coupling.x0), torch.as_tensor(found.coupling.x1)
        because = "as much again for the fits; the rounds before enter by a contraction"
        for what, samples, true in zip(
            ("E x0 x1", "E x1²"), (x0 * x1, x1.square()), _recursion(), strict=True
        ):
            allowance = 4.9 * float(samples.std()) / math.sqrt(rows)
            yield mean(what, samples, true, allowance=allowance, because=because)

    def noisier(problem: SchroedingerProblem, size: float) -> SchroedingerProblem:
        return replace(problem, eps=(1 + size) * problem.eps)

    def same_way(problem: SchroedingerProblem) -> SchroedingerProblem:
        def iterated(fit: Any, rng: torch.Generator, **options: Any) -> FittedBridge:
            return problem.iterated(lambda coupling, forward: fit(coupling, True), rng, **options)

        return but(problem, iterated=iterated)

    def once(problem: SchroedingerProblem) -> SchroedingerProblem:
        """Every round fits the first coupling again."""

        def iterated(fit: Any, rng: torch.Generator, **options: Any) -> FittedBridge:
            first = _opposed(problem)
            return problem.iterated(lambda coupling, forward: fit(first, forward), rng, **options)

        return but(problem, iterated=iterated)

    return Claim(
        "iterated",
        "Regression on the bridges of simulated pairs and simulation, in turn from both ends, "
        "follow the exact recursion of the moments.",
        make,
        check,
        (
            dial("the noise of the simulation, ε(1 + δ)", noisier),
            Control("the drift of the wrong direction", same_way),
            Control("the simulated pairs are not used", once),
        ),
        formula=r"u^{k+1}(t,x) = \mathbb E^{\Pi^k}\Big[\frac{x_1 - x}{1-t}\Big|x_t = x\Big],\quad "
        r"\Pi^{k+1} = \mathrm{Law}(X^{k+1}_0, X^{k+1}_1)\otimes \text{bridges}",
        entries=("L1.22",),
    )


# -- static --------------------------------------------------------------------------------------


def static_bridge(eps: float = EPS) -> StaticBridge:
    """Seven and five points of the plane."""
    x0, x1 = (normal(n, 2, rng=torch.Generator().manual_seed(n)) for n in (7, 5))
    return StaticBridge(x0, 1.0 + 0.8 * x1, eps, tolerance=1e-12)


def _fields() -> Claim[Any]:
    def check(bridge: StaticBridge, trial: Trial) -> Iterator[Evidence]:
        x0, x1, eps = bridge.x0, bridge.x1, EPS
        a, b = (torch.full((n,), 1 / n, dtype=DOUBLE) for n in (7, 5))
        plan = scaled_plan(0.5 * (x0[:, None] - x1).square().sum(2), eps, a, b)
        t = torch.linspace(0.1, 0.9, 12, dtype=DOUBLE)
        x = 1.5 * normal(12, 2, rng=trial.rng())
        s = t[:, None, None, None]
        centre = (1 - s) * x0[:, None] + s * x1
        width = (2 * eps * t * (1 - t)).sqrt()[:, None, None, None]
        terms = plan.log() + Normal(centre, width).log_prob(x[:, None, None]).sum(3)
        share = terms.flatten(1).softmax(1).unflatten(1, (7, 5))[..., None]
        forward = (share * (x1 - x[:, None, None]) / (1 - s)).sum((1, 2))
        backward = (share * (x[:, None, None] - x0[:, None]) / s).sum((1, 2))
        log_density = terms.flatten(1).logsumexp(1)
        because = "1e-12 of the plan, over the least 1 − t, and rounding"
        yield near("u, as a mean over all pairs", bridge.drift(t, x), forward, 1e-9, because)
        yield near("u_B", bridge.backward_drift(t, x), backward, 1e-9, because)
        yield near("log ρ", bridge.log_prob(t, x), log_density, 1e-9, because)
        gradient = torch.func.grad(lambda y: bridge.log_prob(t, y).sum())(x)
        yield near("s", bridge.score(t, x), gradient, 1e-8, because)
        slope = torch.func.grad(lambda y: bridge.potential(t, y).sum())(x)
        yield near("u = ∇λ", bridge.drift(t, x), slope, 1e-9, because)
        rate = torch.func.grad(lambda r: bridge.log_prob(r, x).sum())(t)
        divergence = torch.func.jacrev(lambda y: bridge.velocity(t, y).sum(0))(x)
        divergence = divergence.diagonal(dim1=0, dim2=2).sum(1)
        score_part = (bridge.velocity(t, x) * gradient).sum(1)
        yield near("∂_t log ρ + div b + b·s", rate + divergence + score_part, 0 * t, 1e-7, because)

    def weaker(bridge: StaticBridge, size: float) -> StaticBridge:
        plan = replace(bridge.plan, g=(1 - size) * bridge.plan.g)
        return but(bridge, plan=plan)

    def turned(bridge: StaticBridge) -> StaticBridge:
        return but(bridge, backward_drift=lambda t, x: -bridge.backward_drift(t, x))

    def quieter(bridge: StaticBridge, size: float) -> StaticBridge:
        return but(bridge, eps=(1 - size / 2) * bridge.eps)

    return Claim(
        "static-fields",
        "The drifts, the score, the density and the potential of the bridge between two samples, "
        "found from its potentials, are those of Brownian bridges over all pairs of the plan.",
        static_bridge,
        check,
        (
            dial("g × (1 − δ)", weaker),
            dial("ε(1 − δ/2) in the fields", quieter),
            Control("the sign of the backward drift", turned),
        ),
        formula=r"u(t,x) = \sum_{ij} w_{ij}(t,x)\frac{x_1^j - x}{1-t} = 2\varepsilon\nabla\log\psi",
    )


# -- Euler and Lagrange ----------------------------------------------------------------------------


def _equations() -> Claim[Any]:
    def check(residual: Callable[..., SBResidual], trial: Trial) -> Iterator[Evidence]:
        t = torch.linspace(0.15, 0.85, 9, dtype=DOUBLE)
        x = normal(9, 2, rng=trial.rng())
        bridge = static_bridge()
        discrete = residual(bridge.log_prob, bridge.potential, EPS)
        # the normal bridge: K = K0 (I + tK0)⁻¹ solves K' = −K², and λ = ½xᵀKx − ε log det(I + tK0)
        s0, s1 = plane_covariances()
        found = GaussianBridges(s0, s1, 0 * s0, EPS)
        for _ in range(60):
            found = found.projected(32)
        first = found.slope(torch.zeros(1, dtype=DOUBLE))[0]
        eye = torch.eye(2, dtype=DOUBLE)

        def potential(s: Tensor, y: Tensor) -> Tensor:
            grown = eye + s[:, None, None] * first
            form = (y * (first @ torch.linalg.solve(grown, y[..., None]))[..., 0]).sum(1)
            value: Tensor = 0.5 * form - EPS * torch.linalg.slogdet(grown)[1]
            return value

        def log_density(s: Tensor, y: Tensor) -> Tensor:
            v = found.covariance(s)
            form = (y * torch.linalg.solve(v, y[..., None])[..., 0]).sum(1)
            value: Tensor = -0.5 * form - 0.5 * torch.linalg.slogdet(v)[1]
            return value

        smooth = residual(log_density, potential, EPS)
        for name, case, tolerance, because in (
            ("samples", discrete, 1e-9, "rounding of second derivatives of size 1e3"),
            ("normal", smooth, 1e-6, "h⁴ of Runge–Kutta with 32 steps, in C"),
        ):
            for part in ("fokker_planck", "hamilton_jacobi", "heat"):
                value = getattr(case, part)(t, x)
                yield near(f"{part}, {name}", value, 0 * t, tolerance, because)
        # where nothing is solved, the residuals are known as well: ρ = N(0, 1), λ = ½ k x² − t
        k, y = 0.6, x[:, :1]
        plain = residual(
            lambda s, z: -0.5 * z.square().sum(1) + 0 * s,
            lambda s, z: 0.5 * k * z.square().sum(1) - s,
            EPS,
        )
        square = y[:, 0].square()
        diffusion = k - k * square - EPS * (square - 1)
        yield equal("fokker_planck, by hand", plain.fokker_planck(t, y), diffusion)
        wave = -1 + 0.5 * k**2 * square + EPS * k
        yield equal("hamilton_jacobi, by hand", plain.hamilton_jacobi(t, y), wave)
        yield equal("heat, by hand", plain.heat(t, y), wave / (2 * EPS))

    def bent(residual: Any, size: float) -> Any:
        return lambda d, p, eps: residual(d, lambda t, x: (1 + size) * p(t, x), eps)

    def louder(residual: Any, size: float) -> Any:
        return lambda d, p, eps: residual(d, p, (1 + size) * eps)

    def turned(residual: Any) -> Any:
        return lambda d, p, eps: residual(d, lambda t, x: -p(t, x), eps)

    def single(residual: Any) -> Any:
        """ψ = e^{λ/ε}."""

        def make(d: Any, p: Any, eps: float) -> Any:
            made = residual(d, p, eps)
            double = residual(d, lambda t, x: 2 * p(t, x), eps)
            return but(made, heat=double.heat)

        return make

    return Claim(
        "euler-lagrange",
        "The Schrödinger bridge solves both equations of Euler and Lagrange, and e^{λ/2ε} the "
        "backward heat equation.",
        lambda: SBResidual,
        check,
        (
            dial("λ × (1 + δ)", bent),
            dial("ε × (1 + δ)", louder),
            Control("u = −∇λ", turned),
            Control("ψ = e^{λ/ε}", single),
        ),
        formula=r"\partial_t\rho + \nabla\cdot(\rho\nabla\lambda) = \varepsilon\Delta\rho,\quad "
        r"\partial_t\lambda + \tfrac12|\nabla\lambda|^2 = -\varepsilon\Delta\lambda",
        entries=("L4.13", "H4.4"),
    )


# -- ε → 0 -----------------------------------------------------------------------------------------

Energy = Callable[[float], float]


def _energy(eps: float) -> float:
    """∫ E|u|² of the bridge, with C where the precision is −1/(2ε) off its diagonal."""
    cross = math.sqrt(eps**2 + S0 * S1) - eps
    return GaussianBridges(_one(S0), _one(S1), _one(cross), eps).energy()


def _transport_limit() -> Claim[Any]:
    def check(energy: Energy, trial: Trial) -> Iterator[Evidence]:
        squared = (S1**0.5 - S0**0.5) ** 2
        levels = [0.02 / 2**k for k in range(6)]
        # ∫ (v̇/2 − ε)²/v = W2² − ε log(s1/s0) + O(ε²): the path itself is stationary
        first = [energy(eps) - squared for eps in levels]
        yield order("∫E|u|² − W2²", levels, [abs(e) for e in first], 1.0)
        second = [abs(e + eps * math.log(S1 / S0)) for e, eps in zip(first, levels, strict=True)]
        yield order("∫E|u|² − W2² + ε log(s1/s0)", levels, second, 2.0)
        because = "1.1 ε log(s1/s0) at ε = 1e-4"
        yield near("at ε = 1e-4", energy(1e-4), squared, 1.4e-4, because)

    def frozen(energy: Energy, size: float) -> Energy:
        return lambda eps: energy(eps + 1e-3 * size)

    return Claim(
        "transport-limit",
        "As ε falls the energy of the bridge tends to W2², linearly, by −ε log(s1/s0).",
        lambda: _energy,
        check,
        (
            dial("ε stops falling: ε + 0.001 δ", frozen),
            Control("half of the energy", lambda energy: lambda eps: 0.5 * energy(eps)),
        ),
        formula=r"\int \mathbb E|u|^2 \to (\sqrt{s_1} - \sqrt{s_0})^2 = W_2^2",
        entries=("L4.17", "L1.22"),
    )


# -- max-min -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bend:
    """N(t, x0, x1) = Σ_k T_k(2t − 1) (θ_0k x0 + θ_1k x1), with Chebyshev's polynomials."""

    weights: Tensor

    def __call__(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        s, waves = 2 * t - 1, [torch.ones_like(t), 2 * t - 1]
        while len(waves) < self.weights.shape[1]:
            waves.append(2 * s * waves[-1] - waves[-2])
        both = self.weights @ torch.stack(waves[: self.weights.shape[1]])
        return both[0][:, None] * x0 + both[1][:, None] * x1


def _variance(game: MaxMin, t: Tensor) -> tuple[Tensor, Tensor]:
    """v and v̇ of the path, read off the interpolant of unit ends: I is linear in them."""
    one, zero = torch.ones_like(t)[:, None], torch.zeros_like(t)[:, None]
    assert game.schedule is not None
    v, rate = game.schedule.gamma_squared(t), 2 * game.schedule.gamma_gamma_rate(t)
    for s, ends in ((S0, (one, zero)), (S1, (zero, one))):
        value, slope = game.interpolant(t, *ends)
        v = v + s * value[:, 0].square()
        rate = rate + 2 * s * (value * slope)[:, 0]
    return v, rate


def _game(weights: Tensor, scale: float) -> MaxMin:
    """The game with the inner minimiser (v̇/2 − ε) x/v as its drift."""
    plain = MaxMin(lambda t, x: x, Bend(weights), EPS, linear_schedule("sqrt", scale))

    def drift(t: Tensor, x: Any) -> Any:
        v, rate = _variance(plain, t)
        return ((0.5 * rate - EPS) / v)[:, None] * x

    return replace(plain, drift=drift)


def _game_value() -> Claim[Any]:
    weights = torch.tensor([[0.4, -0.3], [-0.2, 0.5]], dtype=DOUBLE)

    def check(game: MaxMin, trial: Trial) -> Iterator[Evidence]:
        rows, rng = trial.count(80_000), trial.rng()
        pairs = Pairs(S0**0.5 * normal(rows, 1, rng=rng), S1**0.5 * normal(rows, 1, rng=rng))
        t = torch.rand(rows, generator=rng, dtype=DOUBLE)
        s, w = nodes()
        true = -0.5 * path_energy(s, w, *_variance(_game(weights, EPS), s))
        because = "t inside [1e-4, 1 − 1e-4]"
        values = game.value(pairs, t, trial.rng("z"))
        yield mean("the value at the minimiser", values, true, allowance=1e-3, because=because)

        def moved(direction: Field, h: float) -> Tensor:
            other = replace(game, drift=lambda t, x: game.drift(t, x) + h * direction(t, x))
            return other.value(pairs, t, trial.rng("z"))

        def slope(direction: Field) -> Tensor:
            """The value is a parabola in h: the difference is its derivative."""
            return moved(direction, 0.5) - moved(direction, -0.5)

        def wave(t: Tensor, x: Any) -> Tensor:
            return t[:, None] * torch.tanh(x)

        slopes = [slope(lambda t, x: x), slope(wave)]
        yield mean("its derivatives in u", torch.stack(slopes, 1), 0.0, allowance=1e-3,
                   because=because)  # fmt: skip

    def other(game: MaxMin, size: float) -> MaxMin:
        return replace(game, eps=(1 + size) * game.eps)

    def scaled(game: MaxMin, size: float) -> MaxMin:
        return replace(game, drift=lambda t, x: (1 + size) * game.drift(t, x))

    def still(game: MaxMin) -> MaxMin:
        """∂_t N is forgotten."""
        return but(game, interpolant=lambda t, a, b: (game.interpolant(t, a, b)[0], b - a))

    return Claim(
        "max-min-value",
        "For a given interpolant the inner minimum of the max-min problem is at b + ε s, and its "
        "value is −½ ∫ E|b + ε s|².",
        lambda: _game(weights, EPS),
        check,
        (
            dial("(γ̇ − (1 + δ)ε/γ) z", other),
            dial("u × (1 + δ)", scaled),
            Control("∂_t I without the correction", still),
        ),
        formula=r"\min_u \int \mathbb E\big[\tfrac12|u|^2 - (\partial_t I + (\dot\gamma - "
        r"\varepsilon/\gamma)z)\cdot u\big] = -\tfrac12\int\mathbb E|b+\varepsilon s|^2",
    )


Outer = Callable[[float], tuple[MaxMin, float]]


@cache
def _maximised(scale: float, modes: int = 6) -> tuple[MaxMin, float]:
    """The outer maximum over `Bend`s: the game at it, and ∫ E|u|² = −2 × the value."""
    t, w = nodes(40)
    theta = torch.zeros(2, modes, dtype=DOUBLE, requires_grad=True)
    options = {"max_iter": 120, "tolerance_grad": 1e-10, "tolerance_change": 1e-14}
    optimizer = torch.optim.LBFGS([theta], **options, line_search_fn="strong_wolfe")  # type: ignore[arg-type]
    schedule = linear_schedule("sqrt", scale)

    def energy() -> Tensor:
        game = MaxMin(lambda t, x: x, Bend(theta), EPS, schedule)
        return path_energy(t, w, *_variance(game, t))

    def closure() -> float:
        optimizer.zero_grad()
        value = energy()
        value.backward()
        return float(value.detach())

    optimizer.step(closure)
    return _game(theta.detach(), scale), float(energy().detach())


def _game_optimum() -> Claim[Any]:
    def check(maximise: Outer, trial: Trial) -> Iterator[Evidence]:
        t, w = nodes(40)
        cross = grid_covariance()
        star = bridge_variance(t, cross)
        rate = -2 * (1 - t) * S0 + 2 * t * S1 + 2 * (1 - 2 * t) * (cross + EPS)
        game, energy = maximise(EPS)
        v = _variance(game, t)[0]
        because = "what polynomials of degree 5 leave of √(v* − γ²)"
        yield near("v(t) of the Schrödinger bridge", v, star, 2e-3, because)
        least = float(path_energy(t, w, star, rate))
        yield near("∫ E|u|²", energy, least, 1e-4, f"second order in v, {because}")
        yield at_most("it is the least", least, energy, "theorem", slack=1e-9)

    def shifted(maximise: Outer, size: float) -> Outer:
        def run(scale: float) -> tuple[MaxMin, float]:
            game, energy = maximise(scale)
            bend = game.correction
            assert isinstance(bend, Bend)
            return _game(bend.weights + 0.05 * size, scale), energy + 0.001 * size

        return run

    return Claim(
        "max-min-optimum",
        "The outer maximum over interpolants between independent normal ends is the Schrödinger "
        "bridge, although the ends are paired independently.",
        lambda: _maximised,
        check,
        (dial("the weights of the optimum + 0.05 δ", shifted),
         Control("no correction", lambda maximise: lambda scale: _plain(scale))),
        formula=r"\max_I \min_u = -\tfrac12\int \mathbb E|u^*|^2,\quad v^* = v_{SB}",
        entries=("L4.15",),
    )  # fmt: skip


def _plain(scale: float) -> tuple[MaxMin, float]:
    t, w = nodes(40)
    game = _game(torch.zeros(2, 1, dtype=DOUBLE), scale)
    return game, float(path_energy(t, w, *_variance(game, t)))


def _half_energy(s0: float, s1: float) -> float:
    """The least energy from N(0, s0) to N(0, s1) in half of the time: in the time 2t the noise is
    ε/2 and the drift half as large, so that it is 2 × that of the bridge with ε/2."""
    eps = 0.5 * EPS
    cross = math.sqrt(eps**2 + s0 * s1) - eps
    return 2 * GaussianBridges(_one(s0), _one(s1), _one(cross), eps).energy()


def _unreachable() -> Claim[Any]:
    scale = 8.0  # γ²(½) = 2, above the bridge's v(½) = 1.49

    def check(maximise: Outer, trial: Trial) -> Iterator[Evidence]:
        t, w = nodes(40)
        cross = grid_covariance()
        star = bridge_variance(t, cross)
        schedule = linear_schedule("sqrt", scale)
        inside = is_reachable(star[:, None, None], schedule.gamma_squared(t))
        small = is_reachable(star[:, None, None], linear_schedule("sqrt", EPS).gamma_squared(t))
        middle = (t - 0.5).abs() < 0.1
        yield exact("v* is out of reach about ½", inside[middle].any(), False)
        yield exact("and in reach with γ² = ε t(1−t)", small.all())
        game, energy = maximise(scale)
        v = _variance(game, t)[0]
        yield at_most("γ² ≤ v", schedule.gamma_squared(t), v, "a convolution", slack=1e-12)
        rate = -2 * (1 - t) * S0 + 2 * t * S1 + 2 * (1 - 2 * t) * (cross + EPS)
        least = float(path_energy(t, w, star, rate))
        detour = _half_energy(S0, 2.0) + _half_energy(2.0, S1)
        yield at_most("the detour by v(½) = 2 costs more", least + 0.05, detour, "0.05 to spare")
        yield at_most("the best within reach pays it", detour, energy, "v(½) ≥ 2", slack=1e-6)

    return Claim(
        "max-min-reach",
        "With too much latent noise the max-min problem does not find the bridge: only laws that "
        "are convolutions with N(0, γ² I) are paths I + γ z.",
        lambda: _maximised,
        check,
        (
            Control("γ² = 5 t(1−t), which is small enough", lambda run: lambda scale: run(5.0)),
            Control(
                "the energy is taken for that of the bridge",
                lambda run: lambda scale: (run(scale)[0], run(EPS)[1]),
            ),
        ),
        formula=r"v(t) \ge \gamma^2(t)",
        entries=("X16", "L4.15"),
    )
