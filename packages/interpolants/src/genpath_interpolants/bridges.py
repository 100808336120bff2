r"""Schrödinger bridges: of all ways from ρ0 to ρ1 with noise √(2ε) W, that of least energy.

    min ∫∫ |u|² ρ dx dt    subject to    ∂_t ρ + div(ρ u) = ε Δρ,    ρ(0) = ρ0, ρ(1) = ρ1

    u = ∇λ        ∂_t ρ + div(ρ ∇λ) = ε Δρ        ∂_t λ + ½|∇λ|² = −ε Δλ          `SBResidual`
    ψ = e^{λ/2ε} solves ∂_t ψ + ε Δψ = 0;    ρ = ψ φ,  −∂_t φ + ε Δφ = 0          `hopf_cole`

Four ways to it:

    static       the entropic plan of two samples, with Brownian bridges between     `StaticBridge`
    iterated     fit the drift of the bridges of a coupling, simulate, repeat
                                                `iterative_markovian_fitting`, `GaussianBridges`
    max-min      over interpolants I and drifts u                                         `MaxMin`
    ε → 0        the same with ε lowered step by step; the limit is optimal transport

The bridge is the linear path with γ² = 2ε t(1−t) and the entropic coupling (regularisation 2ε for
the cost ½|x − y|²): its forward drift is u = b + ε s. The backward drift, of dX = u_B dt + √(2ε) dW
run from t = 1 down, is b − ε s. (Léonard 2014, arXiv 1308.0215; Albergo, Boffi & Vanden-Eijnden
2023, arXiv 2303.08797; Shi et al. 2023, arXiv 2303.16852; Peluchetti 2023, arXiv
2304.00917.) Diffusion is √(2ε) throughout: σ² = 2ε.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from genpath.couplings import Coupling, Independent, Pairs, Stored
from genpath.errors import DomainError, NumericalError, ShapeError
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.jumps import pick
from genpath.laws import Law
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.samplers import Euler, integrate
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean
from genpath.states import Field, per_row, row_times

from .couplings import EntropicPlan, half_squared_distance, sinkhorn
from .paths import LinearPath
from .relations import EDGE
from .schedules import linear_schedule

__all__ = [
    "BridgeFit",
    "DriftFit",
    "FittedBridge",
    "GaussianBridges",
    "MaxMin",
    "EndsNetwork",
    "SBResidual",
    "SchroedingerProblem",
    "StaticBridge",
    "bridge_matching",
    "hopf_cole",
    "is_reachable",
    "iterative_markovian_fitting",
]

Potential = Callable[[Tensor, Tensor], Tensor]
"""A scalar field: times ``(batch,)`` and points ``(batch, d)`` to values ``(batch,)``."""


# -- the problem -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SchroedingerProblem:
    """Two laws and a noise: what all solvers start from.

    Args:
        base, data: ρ0 and ρ1, on R^d.
        eps: ε > 0.

    Raises:
        DomainError: ε is not positive.

    Example:
        >>> from genpath.laws import Gaussian
        >>> problem = SchroedingerProblem(Gaussian((1,)), Gaussian((1,), mean=2.0), eps=0.5)
        >>> bridge = problem.static(200, torch.Generator().manual_seed(0))
        >>> bridge.pairs(3, torch.Generator().manual_seed(1)).x1.shape
        torch.Size([3, 1])
    """

    base: Law
    data: Law
    eps: float

    def __post_init__(self) -> None:
        _check_eps("SchroedingerProblem", self.eps)

    def static(self, rows: int, rng: torch.Generator, **options: Any) -> StaticBridge:
        """The bridge between samples of ``rows`` rows of each law; options as of `StaticBridge`."""
        x0, x1 = self.base.sample(rows, rng), self.data.sample(rows, rng)
        return StaticBridge(x0, x1, self.eps, **options)

    def iterated(self, fit: BridgeFit, rng: torch.Generator, **options: Any) -> FittedBridge:
        """The bridge by `iterative_markovian_fitting`, with its options."""
        return iterative_markovian_fitting(self.base, self.data, self.eps, fit, rng, **options)


# -- static ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StaticBridge:
    r"""The Schrödinger bridge between two samples, with all of its fields in closed form.

    π = `sinkhorn` of the two samples with regularisation 2ε for ½|x − y|²; Brownian bridges of
    √(2ε) W between the pairs. With the potentials f, g of the plan,

        ψ(t, x) = (1/m) Σ_j e^{g_j/2ε} N(x1_j; x, 2ε(1−t))     φ(t, x) = (1/n) Σ_i e^{f_i/2ε} N(x; x0_i, 2εt)
        ρ = (4πε)^{d/2} ψ φ      u = 2ε ∇log ψ = Σ_j w_j(t, x) (x1_j − x)/(1−t)

    with w_j ∝ e^{g_j/2ε} N(x1_j; x, 2ε(1−t)): O(n + m) a point, though π has nm entries. It is
    itself a coupling: ``pairs`` draws from π.

    Args:
        x0, x1: samples ``(n, d)`` and ``(m, d)``.
        eps: ε > 0, in units of x² per unit of time.
        iterations, tolerance: of `sinkhorn`; float64 reaches 1e-9, float32 about 1e-5.

    The fields take t inside [EDGE, 1 − EDGE]: u is infinite at t = 1, where the law is atoms.

    Raises:
        ShapeError: the samples are not points of one space.
        DomainError: ε is not positive, or a sample is empty.
        NumericalError: the plan's error is still above the tolerance.

    Example:
        >>> x = torch.tensor([[-1.0], [1.0]])
        >>> bridge = StaticBridge(x, 2 * x, eps=0.5)
        >>> bridge.drift(torch.tensor([0.0]), torch.tensor([[0.0]]))  # by symmetry
        tensor([[0.]])
    """  # noqa: E501

    x0: Tensor
    x1: Tensor
    eps: float
    iterations: int = 5000
    tolerance: float = 1e-5
    plan: EntropicPlan = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_eps("StaticBridge", self.eps)
        x0, x1 = self.x0, self.x1
        if x0.dim() != 2 or x1.dim() != 2 or x0.shape[1] != x1.shape[1]:
            raise ShapeError(
                "StaticBridge",
                "samples are (n, d) and (m, d).",
                got=f"x0 {tuple(x0.shape)}, x1 {tuple(x1.shape)}",
            )
        if not len(x0) or not len(x1):
            raise DomainError("StaticBridge", "a sample has one row or more.", got="an empty one")
        cost = half_squared_distance(x0, x1)
        plan = sinkhorn(cost, 2 * self.eps, iterations=self.iterations, tolerance=self.tolerance)
        if not plan.error <= self.tolerance:
            raise NumericalError(
                "StaticBridge",
                "the plan's marginals agree with the samples.",
                got=f"error {plan.error:.2g} > {self.tolerance:g} after {self.iterations} rounds",
                fix="raise iterations, eps or tolerance, or use float64",
            )
        object.__setattr__(self, "plan", plan)

    @property
    def path(self) -> LinearPath:
        """The linear path with γ² = 2ε t(1−t): with this coupling, the bridge."""
        return LinearPath(Euclidean(self.x0.shape[1]), linear_schedule("sqrt", 2 * self.eps))

    def pairs(self, count: int, rng: torch.Generator) -> Pairs:
        """``count`` pairs from π."""
        index = torch.randint(len(self.x0), (count,), generator=rng, device=rng.device)
        index = index.to(self.x0.device)
        log_rows = self.plan.g - self.plan.cost[index]
        partner = pick(torch.softmax(log_rows / self.plan.regularisation, -1), rng)
        return Pairs(self.x0[index], self.x1[partner])

    def drift(self, t: Tensor | float, x: Tensor) -> Tensor:
        """u = b + ε s = 2ε ∇log ψ ``(batch, d)``: of the process that runs forward."""
        times = _inside(t, x)
        return (self._log_psi(times, x).softmax(1) @ self.x1 - x) / per_row(1 - times, x)

    def backward_drift(self, t: Tensor | float, x: Tensor) -> Tensor:
        """b − ε s = −2ε ∇log φ ``(batch, d)``."""
        times = _inside(t, x)
        return (x - self._log_phi(times, x).softmax(1) @ self.x0) / per_row(times, x)

    def velocity(self, t: Tensor | float, x: Tensor) -> Tensor:
        """b, of the probability flow ``(batch, d)``."""
        return 0.5 * (self.drift(t, x) + self.backward_drift(t, x))

    def score(self, t: Tensor | float, x: Tensor) -> Tensor:
        """s = ∇log ρ ``(batch, d)``."""
        return (self.drift(t, x) - self.backward_drift(t, x)) / (2 * self.eps)

    def potential(self, t: Tensor | float, x: Tensor) -> Tensor:
        """λ = 2ε log ψ ``(batch,)``, with u = ∇λ."""
        return 2 * self.eps * torch.logsumexp(self._log_psi(_inside(t, x), x), 1)

    def log_prob(self, t: Tensor | float, x: Tensor) -> Tensor:
        """log ρ(t, x) ``(batch,)``."""
        times = _inside(t, x)
        both = torch.logsumexp(self._log_psi(times, x), 1) + torch.logsumexp(
            self._log_phi(times, x), 1
        )
        return both + 0.5 * x.shape[1] * math.log(4 * math.pi * self.eps)

    def generator(self) -> MarkovGenerator:
        """dX = u dt + √(2ε) dW."""
        return _process(Euclidean(self.x0.shape[1]), self.drift, self.eps)

    def _log_psi(self, t: Tensor, x: Tensor) -> Tensor:
        """The log-terms of ψ ``(batch, m)``."""
        return _log_kernels(x, self.x1, 2 * self.eps * (1 - t), self.plan.g / (2 * self.eps))

    def _log_phi(self, t: Tensor, x: Tensor) -> Tensor:
        return _log_kernels(x, self.x0, 2 * self.eps * t, self.plan.f / (2 * self.eps))


def _log_kernels(x: Tensor, atoms: Tensor, variance: Tensor, log_weights: Tensor) -> Tensor:
    """log of weight/m · N(x; atom, variance) ``(batch, m)``."""
    square = (x.unsqueeze(1) - atoms).square().sum(2)
    scale = variance.unsqueeze(1)
    normal = -0.5 * square / scale - 0.5 * x.shape[1] * torch.log(2 * math.pi * scale)
    return log_weights - math.log(len(atoms)) + normal


# -- iterated --------------------------------------------------------------------------------------


class BridgeFit(Protocol):
    """Fits the drift of the Brownian bridges of a coupling."""

    def __call__(self, coupling: Coupling, forward: bool) -> Field:
        """E[(x1 − x)/(1−t) | x_t = x], or backward E[(x0 − x)/t | x_t = x], as a field (t, x)."""
        ...


@dataclass(frozen=True)
class FittedBridge:
    """What iterative Markovian fitting ends with.

    Args:
        forward: the drift u(t, x) of dX = u dt + √(2ε) dW from ρ0.
        backward: the drift of the reversed process, d/dτ with τ = 1 − t; its arguments are (t, x).
        coupling: the pairs of the last simulation.
        eps: ε.
    """

    forward: Field
    backward: Field
    coupling: Stored
    eps: float

    def generator(self, space: Euclidean) -> MarkovGenerator:
        """dX = u dt + √(2ε) dW, from t = 0 to 1."""
        return _process(space, self.forward, self.eps)

    def backward_generator(self, space: Euclidean) -> MarkovGenerator:
        """The reversed process, in the time τ = 1 − t."""
        return _process(space, _turned(self.backward), self.eps)


def iterative_markovian_fitting(
    base: Law,
    data: Law,
    eps: float,
    fit: BridgeFit,
    rng: torch.Generator,
    *,
    rounds: int = 6,
    rows: int = 4096,
    steps: int = 50,
    start: Coupling | None = None,
) -> FittedBridge:
    r"""Iterative Markovian fitting: the Schrödinger bridge by regression and simulation.

    In each round the drift of the bridges of the present coupling is fitted, which keeps all
    marginals and makes the process Markov; then the process is run, and its ends are the next
    coupling, whose bridges are those of √(2ε) W again. Rounds go forward from draws of ρ0 and
    backward from draws of ρ1 in turn, so that the error in one marginal does not grow. The only
    fixed point is the Schrödinger bridge, and KL to it decreases (Shi et al. 2023, arXiv
    2303.16852; Peluchetti 2023, arXiv 2304.00917).

    Args:
        base, data: ρ0 and ρ1; draws ``(n, *event)``.
        eps: ε > 0.
        fit: fits a drift to a coupling, e.g. `bridge_matching`.
        rounds: how many; two at least.
        rows: pairs that are simulated in a round.
        steps: of Euler–Maruyama.
        start: the first coupling; independent if None. It must have the marginals ρ0 and ρ1.

    Raises:
        DomainError: ε is not positive, or fewer than two rounds, or no rows or steps.

    Example:
        >>> from genpath.laws import Gaussian
        >>> fit = lambda coupling, forward: lambda t, x: 2.0 * (1 if forward else -1) + 0 * x
        >>> base, data = Gaussian((1,)), Gaussian((1,), mean=2.0)
        >>> rng = torch.Generator().manual_seed(0)
        >>> bridge = iterative_markovian_fitting(base, data, 0.1, fit, rng, rounds=2, rows=9)
        >>> bridge.coupling.x0.shape
        torch.Size([9, 1])
    """
    _check_eps("iterative_markovian_fitting", eps)
    if rounds < 2 or rows < 1 or steps < 1:
        raise DomainError(
            "iterative_markovian_fitting",
            "two rounds at least, with rows and steps.",
            got=f"rounds {rounds}, rows {rows}, steps {steps}",
        )
    coupling: Coupling = Independent(base, data) if start is None else start
    fields = dict[bool, Field]()
    grid = TimeGrid.uniform(steps)
    for index in range(rounds):
        forward = index % 2 == 0
        fields[forward] = drift = fit(coupling, forward)
        with torch.no_grad():
            ends = (base if forward else data).sample(rows, rng)
            gen = _process(Euclidean(*ends.shape[1:]), drift if forward else _turned(drift), eps)
            made = integrate(Euler(), gen, ends, grid, rng).state
        coupling = Stored(ends, made) if forward else Stored(made, ends)
    return FittedBridge(fields[True], fields[False], cast(Stored, coupling), eps)


def bridge_matching(
    field: Field, coupling: Coupling, eps: float, forward: bool, t: Tensor, rng: torch.Generator
) -> Tensor:
    r"""½ w |field(t, x_t) − target|² for one batch of Brownian bridges: ``(batch,)``.

    forward:  target (x1 − x)/(1−t), w = 1 − t;    backward:  target (x0 − x)/t, w = t.

    The weight leaves the minimiser as it is, and takes the target's infinite variance at the end.

    Args:
        field: the drift ``(t, x)``.
        coupling: pairs.
        eps: ε.
        forward: which direction.
        t: times ``(batch,)``.

    Example:
        >>> pairs = Stored(torch.zeros(1, 1), torch.ones(1, 1))
        >>> t, rng = torch.full((1000,), 0.5), torch.Generator().manual_seed(0)
        >>> ideal = lambda t, x: (1 - x) / (1 - t)[:, None]  # one pair: the bridge is known
        >>> float(bridge_matching(ideal, pairs, 0.1, True, t, rng).max())
        0.0
    """
    found = coupling.pairs(len(t), rng)
    x0, x1 = cast(Tensor, found.x0), cast(Tensor, found.x1)
    z = torch.randn(x0.shape, generator=rng, device=x0.device, dtype=x0.dtype)
    inner = cast(Tensor, per_row(t, x0))
    x = (1 - inner) * x0 + inner * x1 + (2 * eps * inner * (1 - inner)).sqrt() * z
    left = 1 - t if forward else t
    gap = per_row(left, x) * field(t, x) - ((x1 if forward else x0) - x)
    loss: Tensor = 0.5 * gap.flatten(1).square().sum(1) / left.clamp_min(EDGE)
    return loss


class DriftFit:
    """Fits networks by `bridge_matching`: a `BridgeFit` that goes on from round to round.

    Args:
        forward, backward: networks ``network(t, x)``; e.g. `genpath.networks.MLP`.
        eps: ε.
        steps: of Adam, in each round.
        batch: pairs in a step.
        lr: learning rate; falls by half a cosine to a tenth of it in each round.
        rng: of times, pairs and noise.

    Example:
        >>> from genpath.laws import Gaussian
        >>> from genpath.networks import MLP
        >>> networks = [MLP(1, (1,), width=8, depth=1) for _ in range(2)]
        >>> fit = DriftFit(*networks, eps=0.5, steps=2, batch=8, rng=torch.Generator())
        >>> field = fit(Independent(Gaussian((1,)), Gaussian((1,))), forward=True)
        >>> field(torch.zeros(3), torch.zeros(3, 1)).shape, len(fit.losses)
        (torch.Size([3, 1]), 1)
    """

    def __init__(
        self,
        forward: nn.Module,
        backward: nn.Module,
        *,
        eps: float,
        rng: torch.Generator,
        steps: int = 1000,
        batch: int = 256,
        lr: float = 1e-3,
    ) -> None:
        _check_eps("DriftFit", eps)
        self.networks = {True: forward, False: backward}
        self.eps, self.rng, self.steps, self.batch, self.lr = eps, rng, steps, batch, lr
        self.losses: list[float] = []
        """The mean loss of the last tenth of each round."""

    def __call__(self, coupling: Coupling, forward: bool) -> Field:
        network = self.networks[forward]
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, self.steps, eta_min=0.1 * self.lr
        )
        dtype = next(network.parameters()).dtype
        late = list[Tensor]()
        for step in range(self.steps):
            t = torch.rand(self.batch, generator=self.rng, device=self.rng.device, dtype=dtype)
            loss = bridge_matching(network, coupling, self.eps, forward, t, self.rng).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if step >= 0.9 * self.steps:
                late.append(loss.detach())
        self.losses.append(float(torch.stack(late).mean()) if late else math.nan)

        @torch.no_grad()
        def drift(t: Tensor, x: Any) -> Any:
            return network(t, x)

        return drift


@dataclass(frozen=True)
class GaussianBridges:
    r"""Brownian bridges between jointly normal ends, and the Markov process with their marginals.

        x_t ~ N(m, V)    V = (1−t)² S0 + t² S1 + t(1−t)(C + Cᵀ) + 2ε t(1−t) I
        u = m' + K (x − m)    K = [(1−t) Cᵀ + t S1 − (1−t) S0 − t C − 2ε t I] V⁻¹

    (K is ((1−t)Cᵀ + tS1 − V)V⁻¹/(1−t), the factor 1 − t cancelled.) `projected` runs the process
    of u: its ends have the same marginals and another C. Repeated, this is iterative Markovian
    fitting without error, and C converges to that of the Schrödinger bridge, where K is symmetric.

    Args:
        covariance0, covariance1: S0 and S1 ``(d, d)``.
        cross: C = Cov(x0, x1) ``(d, d)``.
        eps: ε ≥ 0.
        mean0, mean1: ``(d,)``; 0 if None.

    Raises:
        ShapeError: the matrices are not of one shape (d, d).
        DomainError: ε is negative, or no normal law has these covariances.

    Example:
        >>> s0, s1 = torch.tensor([[0.7]]).double(), torch.tensor([[2.5]]).double()
        >>> bridges = GaussianBridges(s0, s1, 0 * s0, eps=0.4)
        >>> for _ in range(30):
        ...     bridges = bridges.projected()
        >>> print(f"{float(bridges.cross):.5f} {bridges.energy():.5f}")
        0.98203 0.16511
    """

    covariance0: Tensor
    covariance1: Tensor
    cross: Tensor
    eps: float
    mean0: Tensor | None = None
    mean1: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = [tuple(m.shape) for m in (self.covariance0, self.covariance1, self.cross)]
        d = len(self.covariance0)
        if any(shape != (d, d) for shape in shapes):
            got = ", ".join(map(str, shapes))
            raise ShapeError("GaussianBridges", "covariances are (d, d).", got=got)
        if not self.eps >= 0:
            raise DomainError("GaussianBridges", "ε ≥ 0.", got=f"eps {self.eps:g}")
        least = float(torch.linalg.eigvalsh(self.joint)[0])
        if least < -1e-6 * float(self.joint.abs().max()):
            raise DomainError(
                "GaussianBridges",
                "the joint covariance is positive semi-definite.",
                got=f"an eigenvalue {least:.3g}",
                fix="C = 0 is always one",
            )

    @property
    def joint(self) -> Tensor:
        """The covariance of (x0, x1): ``(2d, 2d)``."""
        top = torch.cat([self.covariance0, self.cross], 1)
        return torch.cat([top, torch.cat([self.cross.T, self.covariance1], 1)])

    def mean(self, t: Tensor) -> Tensor:
        """m at times ``(k,)``: ``(k, d)``."""
        zero = torch.zeros_like(self.covariance0[0])
        start = zero if self.mean0 is None else self.mean0
        end = zero if self.mean1 is None else self.mean1
        return start + t[:, None] * (end - start)

    def covariance(self, t: Tensor) -> Tensor:
        """V at times ``(k,)``: ``(k, d, d)``."""
        t = t[:, None, None]
        bridge = 2 * self.eps * torch.eye(len(self.cross)).to(self.cross)
        ends = (1 - t) ** 2 * self.covariance0 + t**2 * self.covariance1
        return ends + t * (1 - t) * (self.cross + self.cross.T + bridge)

    def slope(self, t: Tensor) -> Tensor:
        """K at times ``(k,)``: ``(k, d, d)``."""
        covariance, t = self.covariance(t), t[:, None, None]
        noise = 2 * self.eps * torch.eye(len(self.cross)).to(self.cross)
        early = self.cross.T - self.covariance0
        late = self.covariance1 - self.cross - noise
        found: Tensor = torch.linalg.solve(covariance, (1 - t) * early + t * late, left=False)
        return found

    def drift(self, t: Tensor | float, x: Tensor) -> Tensor:
        """u at times ``(batch,)`` and points ``(batch, d)``."""
        times = row_times(t, x, "GaussianBridges.drift")
        rate = self.mean(torch.ones_like(times[:1])) - self.mean(torch.zeros_like(times[:1]))
        turned = self.slope(times) @ (x - self.mean(times)).unsqueeze(2)
        found: Tensor = rate + turned.squeeze(2)
        return found

    def energy(self, nodes: int = 48) -> float:
        """∫ E|u|² dt = |m1 − m0|² + ∫ tr(K V Kᵀ) dt, by Gauss–Legendre."""
        t, weights = _legendre(nodes, self.cross)
        slope = self.slope(t)
        spread = (slope @ self.covariance(t) * slope).sum((1, 2))
        ends = self.mean(torch.stack([torch.zeros_like(t[0]), torch.ones_like(t[0])]))
        return float((weights * spread).sum() + (ends[1] - ends[0]).square().sum())

    def projected(self, steps: int = 64) -> GaussianBridges:
        """The bridges between the ends of the process dX = u dt + √(2ε) dW.

        C' = S0 Φᵀ with dΦ/dt = K Φ, Φ(0) = I, by the classical Runge–Kutta method.
        """
        t = torch.linspace(0, 1, 2 * steps + 1).to(self.cross)
        slope, h = self.slope(t), 1 / steps
        phi = torch.eye(len(self.cross)).to(self.cross)
        for j in range(0, 2 * steps, 2):
            a = slope[j] @ phi
            b = slope[j + 1] @ (phi + h / 2 * a)
            c = slope[j + 1] @ (phi + h / 2 * b)
            d = slope[j + 2] @ (phi + h * c)
            phi = phi + h / 6 * (a + 2 * b + 2 * c + d)
        return replace(self, cross=self.covariance0 @ phi.T)


# -- max-min ---------------------------------------------------------------------------------------


class EndsNetwork(nn.Module):
    """A network of (t, x0, x1) from one of (t, x): the ends side by side.

    Args:
        network: for points of twice the size; its output has the shape of one end.

    Example:
        >>> from genpath.networks import MLP
        >>> network = EndsNetwork(MLP(4, (2,), width=8, depth=1))
        >>> network(torch.rand(3), torch.rand(3, 2), torch.rand(3, 2)).shape
        torch.Size([3, 2])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        """The correction ``(batch, *event)``."""
        out: Tensor = self.network(t, torch.cat([x0.flatten(1), x1.flatten(1)], 1))
        return out.reshape(x0.shape)


@dataclass(frozen=True)
class MaxMin:
    r"""max over I, min over u of ∫ E[½|u|² − (∂_t I + (γ̇ − ε/γ) z)·u(t, I + γz)] dt.

        I = (1−t) x0 + t x1 + t(1−t) N(t, x0, x1)

    keeps the ends whatever N is. The inner minimiser is u = b + ε s of the present path, with value
    −½ ∫ E|u|² dt; so the outer maximum is the path of least energy, the Schrödinger bridge, *among
    those that I + γ z reaches*: laws that are a convolution with N(0, γ² I) (`is_reachable`). With
    γ² ≤ 2ε t(1−t) the bridge is one of them. (Albergo, Boffi & Vanden-Eijnden 2023, arXiv
    2303.08797, on Schrödinger bridges; here with that restriction.)

    Args:
        drift: u(t, x), a network or a field.
        correction: N(t, x0, x1), a network or a function.
        eps: ε > 0.
        schedule: whose γ² is used; γ² = 2ε t(1−t) if None.

    Raises:
        DomainError: ε is not positive.

    Example:
        >>> zero = lambda t, x0, x1: 0 * t[:, None] * x0
        >>> game = MaxMin(lambda t, x: 0 * x, zero, eps=0.5)
        >>> game.interpolant(torch.tensor([0.25]), torch.zeros(1, 1), torch.ones(1, 1))
        (tensor([[0.2500]]), tensor([[1.]]))
    """

    drift: Field | nn.Module
    correction: Callable[[Tensor, Tensor, Tensor], Tensor] | nn.Module
    eps: float
    schedule: AffineSchedule | None = None

    def __post_init__(self) -> None:
        _check_eps("MaxMin", self.eps)
        if self.schedule is None:
            object.__setattr__(self, "schedule", linear_schedule("sqrt", 2 * self.eps))

    def interpolant(self, t: Tensor, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        """I and ∂_t I (by forward mode) at times ``(batch,)``, each ``(batch, *event)``."""

        def value(s: Tensor) -> Tensor:
            inner = cast(Tensor, per_row(s, x0))
            bend = inner * (1 - inner) * self.correction(s, x0, x1)
            return (1 - inner) * x0 + inner * x1 + bend

        mean, rate = torch.func.jvp(value, (t,), (torch.ones_like(t),))[:2]
        return mean, rate

    def value(self, pairs: Pairs, t: Tensor, rng: torch.Generator) -> Tensor:
        """The integrand for each row ``(batch,)``, averaged over z and −z.

        The two together keep (ε/γ) z·u finite as γ → 0. t is taken inside [EDGE, 1 − EDGE].
        """
        assert self.schedule is not None
        x0, x1 = cast(Tensor, pairs.x0), cast(Tensor, pairs.x1)
        t = t.clamp(EDGE, 1 - EDGE)
        mean, rate = self.interpolant(t, x0, x1)
        z = torch.randn(x0.shape, generator=rng, device=x0.device, dtype=x0.dtype)
        gamma = self.schedule.gamma(t)
        pull = per_row((self.schedule.gamma_gamma_rate(t) - self.eps) / gamma, z) * z
        noise = per_row(gamma, z) * z
        total = torch.zeros_like(t)
        for sign in (1.0, -1.0):
            u = self.drift(t, mean + sign * noise)
            term = 0.5 * u.square() - (rate + sign * pull) * u
            total = total + 0.5 * term.flatten(1).sum(1)
        return total

    def fit(
        self,
        coupling: Coupling,
        rng: torch.Generator,
        *,
        steps: int = 1000,
        inner: int = 5,
        batch: int = 256,
        lr: float = 1e-3,
        outer_lr: float = 1e-3,
    ) -> list[float]:
        """Train both networks in turn: ``inner`` descents of u, one ascent of N; Adam.

        Returns:
            The value after each ascent: an estimate of −½ ∫ E|u|² dt when u is near its minimum.

        Example:
            >>> from genpath.laws import Gaussian
            >>> from genpath.networks import MLP
            >>> drift = MLP(1, (1,), width=8, depth=1)
            >>> game = MaxMin(drift, EndsNetwork(MLP(2, (1,), width=8, depth=1)), eps=0.5)
            >>> ends = Independent(Gaussian((1,)), Gaussian((1,)))
            >>> len(game.fit(ends, torch.Generator().manual_seed(0), steps=2, batch=8))
            2
        """
        if not isinstance(self.drift, nn.Module) or not isinstance(self.correction, nn.Module):
            raise DomainError("MaxMin.fit", "drift and correction are networks.")
        dtype = next(self.drift.parameters()).dtype
        players = [
            torch.optim.Adam(self.drift.parameters(), lr=lr, betas=(0.5, 0.99)),
            torch.optim.Adam(self.correction.parameters(), lr=outer_lr, betas=(0.5, 0.99)),
        ]
        values = list[Tensor]()
        for step in range(steps * (inner + 1)):
            ascends = step % (inner + 1) == inner
            t = torch.rand(batch, generator=rng, device=rng.device, dtype=dtype)
            value = self.value(coupling.pairs(batch, rng), t, rng).mean()
            for player in players:
                player.zero_grad(set_to_none=True)
            (-value if ascends else value).backward()
            players[ascends].step()
            if ascends:
                values.append(value.detach())
        return torch.stack(values).tolist() if values else []


def is_reachable(covariance: Tensor, gamma_squared: Tensor, tolerance: float = 0.0) -> Tensor:
    """Whether N(m, V) is the law of some I + γ z with independent z: V ≥ γ² I ``(k,)``.

    For normal laws the convolution with N(0, γ² I) is this and nothing more; for others it is
    necessary.

    Args:
        covariance: V ``(k, d, d)``, at k times.
        gamma_squared: γ² ``(k,)``.
        tolerance: by how much V may fall short.

    Example:
        >>> is_reachable(torch.tensor([[[0.5]], [[0.5]]]), torch.tensor([0.4, 0.6]))
        tensor([ True, False])
    """
    least: Tensor = torch.linalg.eigvalsh(covariance)[:, 0]
    return least >= gamma_squared - tolerance


# -- Euler and Lagrange ----------------------------------------------------------------------------


@dataclass(frozen=True)
class SBResidual:
    r"""How far (ρ, λ) is from the Euler–Lagrange equations of the Schrödinger bridge.

        fokker_planck     (∂_t ρ + div(ρ∇λ) − εΔρ)/ρ = ∂_t log ρ + ∇λ·s + Δλ − ε(div s + |s|²)
        hamilton_jacobi   ∂_t λ + ½|∇λ|² + εΔλ
        heat              (∂_t ψ + εΔψ)/ψ with ψ = e^{λ/2ε}: hamilton_jacobi/(2ε)

    The multiplier is that of +λ(∂_t ρ + div(uρ) − εΔρ), so that u = ∇λ; all derivatives are
    automatic. As ε → 0 the second is the Hamilton–Jacobi equation of optimal transport.

    Args:
        log_density: log ρ(t, x) ``(batch,)``.
        potential: λ(t, x) ``(batch,)``.
        eps: ε ≥ 0.

    Example:
        >>> free = SBResidual(lambda t, x: 0 * t, lambda t, x: x[:, 0] - 0.5 * t, eps=0.3)
        >>> free.hamilton_jacobi(torch.tensor([0.2]), torch.tensor([[1.0]]))
        tensor([0.])
    """

    log_density: Potential
    potential: Potential
    eps: float

    def fokker_planck(self, t: Tensor | float, x: Tensor) -> Tensor:
        """The first residual ``(batch,)``."""
        times = row_times(t, x, "SBResidual")
        rate, score, spread = _derivatives(self.log_density, times, x)
        _, drift, divergence = _derivatives(self.potential, times, x)
        diffusion = spread + score.square().sum(1)
        return rate + (drift * score).sum(1) + divergence - self.eps * diffusion

    def hamilton_jacobi(self, t: Tensor | float, x: Tensor) -> Tensor:
        """The second residual ``(batch,)``."""
        times = row_times(t, x, "SBResidual")
        rate, drift, divergence = _derivatives(self.potential, times, x)
        return rate + 0.5 * drift.square().sum(1) + self.eps * divergence

    def heat(self, t: Tensor | float, x: Tensor) -> Tensor:
        """The residual of the backward heat equation, by way of log ψ ``(batch,)``."""
        times = row_times(t, x, "SBResidual")
        rate, slope, curvature = _derivatives(hopf_cole(self.potential, self.eps), times, x)
        return rate + self.eps * (curvature + slope.square().sum(1))


def hopf_cole(potential: Potential, eps: float) -> Potential:
    """log ψ = λ/(2ε), which turns the Hamilton–Jacobi equation into ∂_t ψ + εΔψ = 0.

    Raises:
        DomainError: ε is not positive: without noise there is no such ψ.

    Example:
        >>> hopf_cole(lambda t, x: x[:, 0], 0.25)(torch.zeros(1), torch.ones(1, 1))
        tensor([2.])
    """
    _check_eps("hopf_cole", eps)
    return lambda t, x: potential(t, x) / (2 * eps)


def _derivatives(f: Potential, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """∂_t f ``(batch,)``, ∇f ``(batch, d)`` and Δf ``(batch,)``."""

    def total(s: Tensor, y: Tensor) -> Tensor:
        return f(s, y).sum()

    rate, slope = torch.func.grad(total, (0, 1))(t, x)

    def second(direction: Tensor) -> Tensor:
        way = direction.expand_as(x)
        turned = torch.func.jvp(lambda y: torch.func.grad(total, 1)(t, y), (x,), (way,))[1]
        product: Tensor = turned * way
        return product.sum(1)

    basis = torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
    laplacian: Tensor = torch.func.vmap(second)(basis).sum(0)
    return rate, slope, laplacian


# -- small things ----------------------------------------------------------------------------------


def _process(space: Euclidean, drift: Callable[..., Any], eps: float) -> MarkovGenerator:
    noise = ScalarNoise(math.sqrt(2 * eps))

    def evaluate(t: Tensor, x: Any) -> Parts:
        return Parts(velocity=drift(t, x), diffusion=noise)

    return MarkovGenerator(space, evaluate, frozenset({"velocity", "diffusion"}))


def _turned(backward: Field) -> Field:
    return lambda tau, x: backward(1 - tau, x)


def _inside(t: Tensor | float, x: Tensor) -> Tensor:
    return row_times(t, x, "StaticBridge").clamp(EDGE, 1 - EDGE)


def _legendre(nodes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss–Legendre on [0, 1]."""
    i = torch.arange(1, nodes, dtype=torch.float64)
    beta = i / (4 * i**2 - 1).sqrt()
    values, vectors = torch.linalg.eigh(torch.diag(beta, 1) + torch.diag(beta, -1))
    return (0.5 * (values + 1)).to(like), vectors[0].square().to(like)


def _check_eps(where: str, eps: float) -> None:
    if not eps > 0:
        raise DomainError(
            where, "ε > 0.", got=f"eps {eps:g}", fix="ε → 0 is optimal transport: OptimalTransport"
        )
