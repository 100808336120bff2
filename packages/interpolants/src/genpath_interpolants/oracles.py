r"""Oracles: paths whose laws, fields and maps are known in closed form.

Jointly normal ends (x0, x1) with covariances S0, S1 and cross-covariance G = E[(x0−m0)(x1−m1)ᵀ],
on x_t = α x0 + β x1 + γ z:

    M = α m0 + β m1     V = α² S0 + β² S1 + αβ (G + Gᵀ) + γ² I     w = V⁻¹ (x − M)
    E[x0|x] = m0 + (α S0 + β G) w     E[x1|x] = m1 + (α Gᵀ + β S1) w     E[z|x] = γ w     s = −w
    b = Ṁ + K (x − M),  K = (αα̇ S0 + α̇β G + β̇α Gᵀ + ββ̇ S1 + γγ̇ I) V⁻¹,  V̇ = K V + V Kᵀ

The Schrödinger bridge between N(m0, S0) and N(m1, S1) for the reference √(2ε) W is such a path: the
linear one with γ² = 2ε t(1−t) and, with σ² = 2ε,

    G = ½ (S0^{1/2} D S0^{−1/2} − σ² I),   D = (4 S0^{1/2} S1 S0^{1/2} + σ⁴ I)^{1/2}

(Bunne, Hsieh, Cuturi & Krause 2023, arXiv 2202.05722; Mallasto, Gerolin & Minh 2022). On the
circle, dx/dt = a(t) sin x has the map tan(x_t/2) = e^{A} tan(x_0/2), A = ∫ a.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.schedules import AffineSchedule, Scalar
from genpath.states import Field, per_row, row_times

from ._fields import Named
from .mixtures import GaussianMixture, Scheduled
from .schedules import linear_schedule

__all__ = [
    "GaussianMarginal",
    "GaussianPair",
    "GaussianSchroedingerBridge",
    "SineFlow",
    "cumulants",
    "from_snr",
    "smoothed_empirical",
    "smoothing_bound",
    "sure",
    "to_snr",
    "tweedie",
    "two_points",
]


# -- jointly normal ends -------------------------------------------------------------------------


@dataclass(frozen=True)
class GaussianPair:
    """The coupling N((m0, m1), [[S0, G], [Gᵀ, S1]]) of normal ends on R^d.

    Args:
        m0, m1: means ``(d,)``.
        s0, s1: covariances ``(d, d)``, positive definite.
        cross: G = E[(x0 − m0)(x1 − m1)ᵀ] ``(d, d)``; 0, the independent coupling, if None.

    Raises:
        ShapeError: the shapes do not pair up.
        DomainError: the joint covariance is not positive semidefinite, or S0 or S1 not positive
            definite, or the parts differ in dtype.

    Example:
        >>> one = torch.eye(1)
        >>> pair = GaussianPair(torch.zeros(1), one, torch.zeros(1), one, 0.5 * one)
        >>> pairs = pair.pairs(4, torch.Generator().manual_seed(0))
        >>> pairs.x0.shape, pairs.x1.shape
        (torch.Size([4, 1]), torch.Size([4, 1]))
    """

    m0: Tensor
    s0: Tensor
    m1: Tensor
    s1: Tensor
    cross: Tensor | None = None
    root: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = [p for p in (self.m0, self.s0, self.m1, self.s1, self.cross) if p is not None]
        d = self.m0.shape[0] if self.m0.dim() else 0
        shapes = [(d,), (d, d), (d,), (d, d), (d, d)]
        if d == 0 or any(tuple(p.shape) != s for p, s in zip(parts, shapes, strict=False)):
            raise ShapeError(
                "GaussianPair",
                "means are (d,), covariances and the cross-covariance (d, d).",
                got=", ".join(str(tuple(part.shape)) for part in parts),
            )
        if not self.m0.is_floating_point() or any(p.dtype != self.m0.dtype for p in parts):
            raise DomainError(
                "GaussianPair",
                "all parts are floating numbers of one dtype.",
                got=", ".join(str(part.dtype) for part in parts),
            )
        g = torch.zeros_like(self.s0) if self.cross is None else self.cross
        object.__setattr__(self, "cross", g)
        joint = torch.cat((torch.cat((self.s0, g), 1), torch.cat((g.T, self.s1), 1))).double()
        values, vectors = torch.linalg.eigh(0.5 * (joint + joint.T))
        ends = torch.stack((self.s0, self.s1)).double()
        tolerance = 1e-6 * float(values[-1])
        bad = torch.linalg.cholesky_ex(0.5 * (ends + ends.mT))[1]
        asymmetry = float((ends - ends.mT).abs().max())
        if float(values[0]) < -tolerance or bool((bad != 0).any()) or asymmetry > tolerance:
            raise DomainError(
                "GaussianPair",
                "S0 and S1 are positive definite, and the joint covariance is not negative.",
                got=f"least eigenvalue {float(values[0]):g}, asymmetry {asymmetry:g}",
                fix="make the cross-covariance smaller",
            )
        root = vectors * values.clamp_min(0).sqrt()
        object.__setattr__(self, "root", root.to(self.m0.dtype))

    def pairs(self, count: int, rng: torch.Generator) -> Pairs:
        """``count`` pairs of the joint law."""
        d = self.m0.shape[0]
        z = torch.randn(count, 2 * d, generator=rng, device=self.m0.device, dtype=self.m0.dtype)
        ends = z @ self.root.T
        return Pairs(self.m0 + ends[:, :d], self.m1 + ends[:, d:])


@dataclass(frozen=True)
class GaussianMarginal(Named):
    """The exact marginal of a path x_t = α x0 + β x1 + γ z between jointly normal ends (F1).

    Fields take times ``(batch,)`` (or a scalar) and states ``(batch, d)``; they hold at t = 0 and
    t = 1 too. The work is in float64 and what returns has the dtype of the states: within 2e-7 of
    the float64 values, relative to the largest.

    Args:
        path: its ``schedule`` gives α, β and γ².
        pair: the joint law of the ends.

    Example:
        >>> from types import SimpleNamespace
        >>> one, zero = torch.eye(1), torch.zeros(1)
        >>> path = SimpleNamespace(schedule=linear_schedule())
        >>> oracle = GaussianMarginal(path, GaussianPair(zero, one, zero + 2, 4 * one))
        >>> oracle.flow(0.0, 1.0, torch.ones(1, 1))  # m1 + √(V_1/V_0) (x − m0)
        tensor([[4.]])
    """

    path: Scheduled
    pair: GaussianPair

    def moments(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """M ``(batch, d)`` and V ``(batch, d, d)`` at times ``(batch,)``, in float64."""
        times = torch.as_tensor(t, dtype=torch.float64, device=self.pair.m0.device).reshape(-1)
        m0, s0, m1, s1, g = self._parts()
        schedule = self.path.schedule
        alpha, beta = schedule.alpha(times)[:, None], schedule.beta(times)[:, None]
        square = schedule.gamma_squared(times).clamp_min(0)[:, None, None]
        a, b = alpha[:, :, None], beta[:, :, None]
        eye = torch.eye(len(m0), dtype=m0.dtype, device=m0.device)
        v = a * a * s0 + b * b * s1 + a * b * (g + g.T) + square * eye
        return alpha * m0 + beta * m1, v

    def log_prob(self, t: Tensor | float, x: Tensor) -> Tensor:
        """log p_t(x): ``(batch,)``."""
        _, gap, w, v = self._solved(t, x)
        d = x.shape[1]
        found = -0.5 * ((gap * w).sum(1) + torch.logdet(v) + d * math.log(2 * math.pi))
        return found.to(x.dtype)

    def score(self, t: Tensor | float, x: Tensor) -> Tensor:
        """∇log p_t(x) = −V⁻¹(x − M)."""
        return -self._solved(t, x)[2].to(x.dtype)

    def denoiser(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[x1 | x_t = x]."""
        times, _, w, _ = self._solved(t, x)
        return self._ends(times, w)[1].to(x.dtype)

    def base_denoiser(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[x0 | x_t = x]."""
        times, _, w, _ = self._solved(t, x)
        return self._ends(times, w)[0].to(x.dtype)

    def noise(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[z | x_t = x]; 0 where γ = 0."""
        times, _, w, _ = self._solved(t, x)
        return (self.path.schedule.gamma(times)[:, None] * w).to(x.dtype)

    def velocity(self, t: Tensor | float, x: Tensor) -> Tensor:
        """b = Ṁ + K (x − M)."""
        times, _, w, _ = self._solved(t, x)
        return (
            (self._drift(times, True) @ w[:, :, None])[:, :, 0].add(self._rate(times)).to(x.dtype)
        )

    def interpolant_velocity(self, t: Tensor | float, x: Tensor) -> Tensor:
        """v = E[α̇ x0 + β̇ x1 | x_t = x] = b + γγ̇ s."""
        times, _, w, _ = self._solved(t, x)
        moved: Tensor = (self._drift(times, False) @ w[:, :, None])[:, :, 0] + self._rate(times)
        return moved.to(x.dtype)

    def divergence(self, t: Tensor | float, x: Tensor) -> Tensor:
        """∇ · b = tr K: ``(batch,)``."""
        times, _, _, v = self._solved(t, x)
        gain: Tensor = torch.linalg.solve(v, self._drift(times, True), left=False)
        return gain.diagonal(dim1=1, dim2=2).sum(1).to(x.dtype)

    def hessian(self, t: Tensor | float, x: Tensor) -> Tensor:
        """∇∇ log p_t = −V⁻¹: ``(batch, d, d)``."""
        _, _, _, v = self._solved(t, x)
        found: Tensor = -torch.linalg.inv(v)
        return found.to(x.dtype)

    def gain(self, t: Tensor | float) -> Tensor:
        """K ``(batch, d, d)`` in float64."""
        times = torch.as_tensor(t, dtype=torch.float64, device=self.pair.m0.device).reshape(-1)
        v = self.moments(times)[1]
        found: Tensor = torch.linalg.solve(v, self._drift(times, True), left=False)
        return found

    def flow(self, start: float, end: float, x: Tensor) -> Tensor:
        """X_end of dX = b dt from X_start = x: M + V_end^{1/2} V_start^{−1/2} (x − M).

        Raises:
            DomainError: S0, S1 and G are not symmetric matrices that commute; then the flow has no
                closed form.
        """
        _, s0, _, s1, g = self._parts()
        size = max(float(part.abs().max()) for part in (s0, s1, g)) ** 2
        apart = (s0 @ s1 - s1 @ s0, s0 @ g - g @ s0, s1 @ g - g @ s1, (g - g.T) * size**0.5)
        if any(float(part.abs().max()) > 1e-9 * max(size, 1e-300) for part in apart):
            raise DomainError(
                "GaussianMarginal.flow",
                "it needs symmetric covariances that commute.",
                fix="solve the probability flow: `velocity` is exact for every covariance",
            )
        (m, n), (v, w) = self.moments(torch.tensor([start, end]))
        carry = _root(w) @ torch.linalg.inv(_root(v))
        moved: Tensor = n + (x.double() - m) @ carry.T
        return moved.to(x.dtype)

    # -- parts -------------------------------------------------------------------------------

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        pair = self.pair
        assert pair.cross is not None
        m0, s0, m1, s1 = (p.double() for p in (pair.m0, pair.s0, pair.m1, pair.s1))
        return m0, s0, m1, s1, pair.cross.double()

    def _solved(self, t: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Times, x − M, w and V."""
        if x.dim() != 2 or x.shape[1] != self.pair.m0.shape[0] or not x.is_floating_point():
            raise ShapeError(
                "GaussianMarginal",
                f"states are floating numbers (batch, {self.pair.m0.shape[0]}).",
                got=f"{tuple(x.shape)} {x.dtype}",
            )
        times = row_times(t, x, "GaussianMarginal").double()
        m, v = self.moments(times)
        gap = x.double() - m
        return times, gap, torch.linalg.solve(v, gap[:, :, None])[:, :, 0], v

    def _ends(self, times: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        m0, s0, m1, s1, g = self._parts()
        schedule = self.path.schedule
        alpha, beta = schedule.alpha(times)[:, None], schedule.beta(times)[:, None]
        first = m0 + alpha * (w @ s0.T) + beta * (w @ g.T)
        return first, m1 + alpha * (w @ g) + beta * (w @ s1.T)

    def _rate(self, times: Tensor) -> Tensor:
        m0, _, m1, _, _ = self._parts()
        schedule = self.path.schedule
        found = schedule.beta.rate(times)[:, None] * m1
        if bool((m0 == 0).all()):
            return found  # α̇ may be infinite at an end
        return found + schedule.alpha.rate(times)[:, None] * m0

    def _drift(self, times: Tensor, latent: bool) -> Tensor:
        """K V, with the term of γγ̇ or without it."""
        _, s0, _, s1, g = self._parts()
        schedule = self.path.schedule
        alpha, beta = schedule.alpha(times), schedule.beta(times)
        rate = schedule.beta.rate(times)
        square = 0.5 * schedule.alpha_squared.rate(times)

        def at(value: Tensor) -> Tensor:
            return value[:, None, None]

        found = at(square) * s0 + at(rate * alpha) * g.T + at(rate * beta) * s1
        if bool((g != 0).any()):
            found = found + at(schedule.alpha.rate(times) * beta) * g
        if latent:
            eye = torch.eye(len(s0), dtype=s0.dtype, device=s0.device)
            found = found + at(schedule.gamma_gamma_rate(times)) * eye
        return found


@dataclass(frozen=True)
class GaussianSchroedingerBridge:
    """The Schrödinger bridge between normal laws for the reference √(2ε) W (F7, L4.16).

    It minimises ∫ E|u|² dt over dX = u dt + √(2ε) dW with these ends. `pair` is its coupling and
    `marginal` the oracle of its laws, on the linear path with γ² = 2ε t(1−t).

    Args:
        s0, s1: covariances ``(d, d)``.
        eps: ε > 0.
        m0, m1: means ``(d,)``; 0 if None.

    Raises:
        DomainError: ε ≤ 0, or a covariance that is not positive definite.

    Example:
        >>> bridge = GaussianSchroedingerBridge(0.7 * torch.eye(1), 2.5 * torch.eye(1), 0.4)
        >>> round(float(bridge.pair.cross), 5), round(bridge.energy(), 5)
        (0.98203, 0.16511)
    """

    s0: Tensor
    s1: Tensor
    eps: float
    m0: Tensor | None = None
    m1: Tensor | None = None
    pair: GaussianPair = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.eps > 0:
            raise DomainError(
                "GaussianSchroedingerBridge",
                "ε > 0.",
                got=f"eps {self.eps:g}",
                fix="the limit ε → 0 is optimal transport",
            )
        s0, s1 = self.s0.double(), self.s1.double()
        for name, part in (("s0", s0), ("s1", s1)):
            if bool(torch.linalg.cholesky_ex(part)[1] != 0):
                raise DomainError("GaussianSchroedingerBridge", f"{name} is positive definite.")
        root, variance = _root(s0), 2 * self.eps
        eye = torch.eye(len(s0), dtype=s0.dtype, device=s0.device)
        d = _root(4 * root @ s1 @ root + variance**2 * eye)
        cross = 0.5 * (root @ d @ torch.linalg.inv(root) - variance * eye)
        zero = torch.zeros(len(s0), dtype=self.s0.dtype, device=self.s0.device)
        m0, m1 = (zero if m is None else m for m in (self.m0, self.m1))
        pair = GaussianPair(m0, self.s0, m1, self.s1, cross.to(self.s0.dtype))
        object.__setattr__(self, "pair", pair)

    @property
    def schedule(self) -> AffineSchedule:
        """α = 1 − t, β = t and γ² = 2ε t(1−t)."""
        return linear_schedule("sqrt", 2 * self.eps)

    @property
    def marginal(self) -> GaussianMarginal:
        """The oracle of its laws: density, score, velocity of the flow, …"""
        return GaussianMarginal(self, self.pair)

    def pairs(self, count: int, rng: torch.Generator) -> Pairs:
        """``count`` pairs of ends, with the entropic coupling."""
        return self.pair.pairs(count, rng)

    def log_prob(self, t: Tensor | float, x: Tensor) -> Tensor:
        """log p_t(x): ``(batch,)``."""
        return self.marginal.log_prob(t, x)

    def score(self, t: Tensor | float, x: Tensor) -> Tensor:
        """∇log p_t(x)."""
        return self.marginal.score(t, x)

    def velocity(self, t: Tensor | float, x: Tensor) -> Tensor:
        """b = u − ε s, the velocity of the probability flow."""
        return self.marginal.velocity(t, x)

    def drift(self, t: Tensor | float, x: Tensor) -> Tensor:
        """u(t, x), the drift of dX = u dt + √(2ε) dW: `slope` × (x − M) + Ṁ."""
        times = row_times(t, x, "GaussianSchroedingerBridge").double()
        m, _ = self.marginal.moments(times)
        moved = (self.slope(times) @ (x.double() - m)[:, :, None])[:, :, 0]
        return (moved + (self.pair.m1 - self.pair.m0).double()).to(x.dtype)

    def slope(self, t: Tensor | float) -> Tensor:
        """∇u ``(batch, d, d)``: symmetric, and the solution of K̇ = −K². In float64."""
        s0, s1 = self.s0.double(), self.s1.double()
        times = torch.as_tensor(t, dtype=torch.float64, device=s0.device).reshape(-1)
        g = self.pair.cross
        assert g is not None
        g, at = g.double(), times[:, None, None]
        _, v = self.marginal.moments(times)
        # K V = d/dt of Cov(x_s, x_t) at s = t⁺, written so that (1 − t) never divides
        eye = torch.eye(len(s0), dtype=s0.dtype, device=s0.device)
        rate = (1 - at) * (g.T - s0) + at * (s1 - g) - 2 * self.eps * at * eye
        found: Tensor = torch.linalg.solve(v, rate, left=False)
        return found

    def field(self, name: str) -> Field:
        """As `GaussianMarginal.field`, with "drift" too."""
        if name == "drift":
            return self.drift  # type: ignore[return-value]
        return self.marginal.field(name)

    def energy(self, points: int = 64) -> float:
        """∫ E|u|² dt, by Gauss–Legendre quadrature of the smooth integrand."""
        nodes, weights = _gauss_legendre(points, self.s0.device)
        k = self.slope(nodes)
        _, v = self.marginal.moments(nodes)
        shift = (self.pair.m1 - self.pair.m0).double().square().sum()
        return float((weights * (k @ v @ k.mT).diagonal(dim1=1, dim2=2).sum(1)).sum() + shift)

    def divergence_from_reference(self) -> float:
        """KL(π ‖ p_0(x) N(y; x, 2ε I)) of its coupling, in nats; 4ε times it is the energy."""
        s0, s1, g = self.s0.double(), self.s1.double(), self.pair.cross
        assert g is not None
        g, variance, d = g.double(), 2 * self.eps, len(s0)
        conditional = s1 - g.T @ torch.linalg.solve(s0, g)
        gap = (s1 + s0 - g - g.T).trace()
        gap = gap + (self.pair.m1 - self.pair.m0).double().square().sum()
        logs = d * math.log(variance) - torch.logdet(conditional)
        return float(0.5 * (gap / variance - d + logs))


# -- points and the circle -------------------------------------------------------------------------


def two_points(
    dimension: int = 1, dtype: torch.dtype | None = None, std: float = 0.0
) -> GaussianMixture:
    """x1 = ±(1, …, 1), equally likely (F5); with ``std`` > 0 blurred.

    On a one-sided path the denoiser is tanh(β x/α²) for ``dimension`` 1.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath_interpolants.mixtures import MixtureMarginal
        >>> path = SimpleNamespace(schedule=linear_schedule())
        >>> oracle, x = MixtureMarginal(path, two_points()), torch.tensor([[0.5]])
        >>> oracle.denoiser(0.5, x), torch.tanh(x / 0.5)
        (tensor([[0.7616]]), tensor([[0.7616]]))
    """
    means = torch.tensor([[-1.0], [1.0]], dtype=dtype).expand(2, dimension).contiguous()
    half = torch.full((2,), 0.5, dtype=means.dtype)
    return GaussianMixture(half, means, torch.full_like(half, std))


def smoothed_empirical(rows: Tensor, std: float) -> GaussianMixture:
    """The law of a row picked at random plus std · z: positive and smooth everywhere (L1.4).

    Args:
        rows: ``(count, *event)``.
        std: γ; with 0 the empirical law, which has draws and no density.

    Example:
        >>> law = smoothed_empirical(torch.tensor([[0.0], [2.0]]), 0.5)
        >>> law.log_prob(torch.tensor([[1.0]])).exp()  # φ(2)/0.5
        tensor([0.1080])
    """
    weights = torch.full((len(rows),), 1 / len(rows), dtype=rows.dtype, device=rows.device)
    return GaussianMixture(weights, rows, torch.full_like(weights, std))


def smoothing_bound(order: int, std: float) -> float:
    """sup |ρ⁽ⁿ⁾| ≤ 2^{(n−1)/2} Γ((n+1)/2)/(π γ^{n+1}) for any law on the line blurred by N(0, γ²).

    It is (2π)⁻¹ ∫ |k|ⁿ e^{−γ²k²/2} dk, since |φ| ≤ 1 (H1.2).

    Example:
        >>> smoothing_bound(0, 1.0) * math.sqrt(2 * math.pi)  # the peak of N(0, 1)
        1.0
    """
    value = 2 ** ((order - 1) / 2) * math.gamma((order + 1) / 2) / math.pi
    return value / std ** (order + 1)


@dataclass(frozen=True)
class SineFlow:
    """dx/dt = a(t) sin x on the circle from the uniform law (F4).

        x_t = 2 arctan(e^{A} tan(x_0/2))     p_t(x) = 1/(2π (cosh A + sinh A cos x))     A = ∫_0^t a

    a wrapped Cauchy law that gathers at π for A > 0: E cos x_t = −tanh(A/2).

    Args:
        total: A(t), with A(0) = 0; a number a for A = a t.

    Raises:
        DomainError: A(0) ≠ 0.

    Example:
        >>> flow = SineFlow(1.0)
        >>> x = flow.flow(0.0, 1.0, torch.tensor([1.0]))
        >>> flow.flow(1.0, 0.0, x)  # and back
        tensor([1.0000])
    """

    total: Scalar | float

    def __post_init__(self) -> None:
        start = float(self._scalar(torch.zeros(1, dtype=torch.float64)))
        if start != 0:
            raise DomainError("SineFlow", "A(0) = 0.", got=f"{start:g}")

    @property
    def _scalar(self) -> Scalar:
        if isinstance(self.total, Scalar):
            return self.total
        rate = float(self.total)
        return Scalar(lambda t: rate * t, lambda t: torch.full_like(t, rate))

    def log_prob(self, t: Tensor | float, x: Tensor) -> Tensor:
        """log p_t(x) with respect to the angle, for points ``(batch,)``."""
        a = self._scalar(row_times(t, x, "SineFlow"))
        return -torch.log(2 * math.pi * (torch.cosh(a) + torch.sinh(a) * torch.cos(x)))

    def score(self, t: Tensor | float, x: Tensor) -> Tensor:
        """∂_x log p_t(x) = sinh A sin x/(cosh A + sinh A cos x)."""
        a = self._scalar(row_times(t, x, "SineFlow"))
        return torch.sinh(a) * torch.sin(x) / (torch.cosh(a) + torch.sinh(a) * torch.cos(x))

    def velocity(self, t: Tensor | float, x: Tensor) -> Tensor:
        """a(t) sin x."""
        return self._scalar.rate(row_times(t, x, "SineFlow")) * torch.sin(x)

    def divergence(self, t: Tensor | float, x: Tensor) -> Tensor:
        """a(t) cos x."""
        return self._scalar.rate(row_times(t, x, "SineFlow")) * torch.cos(x)

    def flow(self, start: float, end: float, x: Tensor) -> Tensor:
        """The point at time ``end`` of the one that is at x at time ``start``, in (−π, π]."""
        ends = torch.tensor([start, end], dtype=torch.float64, device=x.device)
        first, last = self._scalar(ends).tolist()
        half = 0.5 * x
        found = 2 * torch.atan2(math.exp(last - first) * torch.sin(half), torch.cos(half))
        return torch.atan2(torch.sin(found), torch.cos(found))

    def field(self, name: str) -> Field:
        """ "velocity" or "score".

        Raises:
            CapabilityError: another name.
        """
        if name not in ("velocity", "score"):
            raise CapabilityError(
                "SineFlow.field", f"it has no field {name!r}.", fix="velocity or score"
            )
        found: Field = getattr(self, name)
        return found

    def sample(self, t: float, count: int, rng: torch.Generator) -> Tensor:
        """``count`` draws of x_t."""
        start = (2 * torch.rand(count, generator=rng, device=rng.device) - 1) * math.pi
        return self.flow(0.0, t, start)


# -- denoising and localisation --------------------------------------------------------------------


def tweedie(schedule: AffineSchedule, t: Tensor | float, x: Tensor, score: Tensor) -> Tensor:
    """E[x1 | x_t = x] = (x + (α² + γ²) s)/β, for x0 ~ N(0, I) independent of x1.

    Source: Robbins 1956, Efron 2011 (Tweedie's formula).

    Args:
        schedule: α, β and γ²; β ≠ 0 at the times.
        t: times ``(batch,)`` or a scalar.
        x, score: states and ∇log p_t there, ``(batch, *event)``.

    Example:
        >>> x = torch.tensor([[1.0]])  # standard normal data at t = ½: V = ½, s = −2 x
        >>> tweedie(linear_schedule(), 0.5, x, -2 * x)
        tensor([[1.]])
    """
    times = row_times(t, x, "tweedie")
    variance = schedule.alpha_squared(times) + schedule.gamma_squared(times)
    moved: Tensor = x + per_row(variance, x) * score
    return moved / per_row(schedule.beta(times), x)


def sure(noisy: Tensor, denoised: Tensor, divergence: Tensor, std: float) -> Tensor:
    """Stein's unbiased estimate of E|f(y) − x|² for y = x + σ n: ``(batch,)``.

        |f(y) − y|² + 2σ² ∇·f(y) − d σ²

    It needs no x: a denoiser's risk is known from noisy rows alone (Stein 1981).

    Args:
        noisy: y ``(batch, *event)``.
        denoised: f(y).
        divergence: ∇·f at y, ``(batch,)``.
        std: σ.

    Example:
        >>> y = torch.tensor([[2.0, 0.0]])
        >>> sure(y, y, torch.tensor([2.0]), 0.5)  # f = identity: the risk is d σ²
        tensor([0.5000])
    """
    gap = (denoised - noisy).flatten(1)
    return gap.square().sum(1) + std**2 * (2 * divergence - gap.shape[1])


def to_snr(schedule: AffineSchedule, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """(T, y) of stochastic localisation: y_T = T x1 + W_T has the posterior of x1 that x_t has.

        T = β²/V     y = β x/V     V = α² + γ²        (x0 ~ N(0, I) independent of x1)

    Source: Montanari 2023, arXiv 2305.10690.

    Args:
        schedule: α, β and γ²; V ≠ 0 at the times.
        t: times ``(batch,)``.
        x: states ``(batch, *event)``.

    Example:
        >>> to_snr(linear_schedule(), torch.tensor([0.5]), torch.tensor([[1.0]]))
        (tensor([1.]), tensor([[2.]]))
    """
    beta = schedule.beta(t)
    variance = schedule.alpha_squared(t) + schedule.gamma_squared(t)
    return beta**2 / variance, per_row(beta / variance, x) * x


def from_snr(schedule: AffineSchedule, snr: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(t, x) of (T, y): the inverse of `to_snr`, by bisection.

    Args:
        schedule: with β²/(α² + γ²) increasing.
        snr: T > 0 ``(batch,)``.
        y: ``(batch, *event)``.

    Example:
        >>> from_snr(linear_schedule(), torch.tensor([1.0]), torch.tensor([[2.0]]))
        (tensor([0.5000]), tensor([[1.]]))
    """
    wanted = snr.double()
    low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
    for _ in range(60):
        middle = 0.5 * (low + high)
        variance = schedule.alpha_squared(middle) + schedule.gamma_squared(middle)
        above = schedule.beta(middle) ** 2 > wanted * variance
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    t = (0.5 * (low + high)).to(snr.dtype)
    variance = schedule.alpha_squared(t) + schedule.gamma_squared(t)
    return t, y * per_row(variance / schedule.beta(t), y)


def cumulants(x: Tensor, weights: Tensor | None = None) -> Tensor:
    """The first four cumulants of each coordinate: ``(4, d)``.

    κ_3 and κ_4 are 0 for a normal law. With independent ends κ_n(x_t) = α^n κ_n(x0) + β^n κ_n(x1)
    for n ≥ 3, whatever γ is: a path is normal at two times or more only between normal laws
    (Cramér 1936). So they say at a glance how far data are from normal.

    Args:
        x: rows ``(count, d)``.
        weights: their probabilities ``(count,)``; equal if None.

    Returns:
        Mean, variance, κ_3 and κ_4, in float64.

    Example:
        >>> cumulants(torch.tensor([[-1.0], [1.0]])).flatten()
        tensor([ 0.,  1.,  0., -2.], dtype=torch.float64)
    """
    rows = x.double().flatten(1)
    p = rows.new_full((len(rows),), 1 / len(rows)) if weights is None else weights.double()
    mean = p @ rows
    gap = rows - mean
    second, third, fourth = (p @ gap**n for n in (2, 3, 4))
    return torch.stack((mean, second, third, fourth - 3 * second**2))


# -- helpers ---------------------------------------------------------------------------------------


def _root(matrix: Tensor) -> Tensor:
    """The symmetric root of a symmetric matrix that is not negative."""
    values, vectors = torch.linalg.eigh(0.5 * (matrix + matrix.mT))
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    return root


def _gauss_legendre(points: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], by the eigenvalues of the Jacobi matrix (Golub & Welsch)."""
    k = torch.arange(1, points, dtype=torch.float64, device=device)
    off = k / (4 * k**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return 0.5 * (nodes + 1), vectors[0] ** 2
