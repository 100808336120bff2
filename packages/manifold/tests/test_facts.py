"""What this plugin promises: closed forms, limits, identities, orders; and planted faults."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre

from genpath.divergences import exact_divergence, hutchinson_divergence
from genpath.generators import flow
from genpath.grids import TimeGrid
from genpath.likelihoods import ODELikelihood, SolvedFlow
from genpath.models import Model
from genpath.samplers import Euler, RungeKutta, integrate
from genpath.spaces import Euclidean
from genpath.tableaus import EULER, HEUN, MIDPOINT, RK4
from genpath_manifold import (
    GeodesicPath,
    Sphere,
    SphereHeatKernel,
    SphereMLP,
    UniformSphere,
    VonMisesFisher,
    VonMisesFisherMixture,
    brownian,
    late,
)
from genpath_manifold.data import from_degrees, to_degrees
from genpath_manifold.evaluations import (
    BANDWIDTHS,
    Mass,
    choose_kappa,
    kernel_log_densities,
    mixed_bandwidths,
)

torch.set_num_threads(1)
F64 = torch.float64
NORTH = torch.tensor([0.0, 0.0, 1.0], dtype=F64)
X = torch.tensor([[1.0, 2.0, 2.0]], dtype=F64) / 3
Y = torch.tensor([[2.0, -1.0, 2.0]], dtype=F64) / 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n, count, dtype=F64, seed=0):
    return UniformSphere(Sphere(n), dtype).sample(count, seeded(seed))


def tangents(space, x, length, seed=5):
    """Tangents of one length, projected twice so that they are tangent to rounding."""
    v = space.tangent_noise(x, seeded(seed))
    v = space.project_tangent(x, v / v.norm(dim=-1, keepdim=True))
    return length * v / v.norm(dim=-1, keepdim=True)


def row(*values):
    return torch.tensor([values], dtype=F64)


def z_score(values, reference=0.0):
    return float((values.mean() - reference) / (values.std() / math.sqrt(len(values))))


def slope(steps, errors):
    """The order in h = 1/steps, by regression."""
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


def quadrature(heights=64, turns=96):
    """Points of S² with weights: Gauss–Legendre in height, equal angles around."""
    z, w = np.polynomial.legendre.leggauss(heights)
    angle = 2 * math.pi * np.arange(turns) / turns
    z, angle = (a.ravel() for a in np.meshgrid(z, angle, indexing="ij"))
    radius = np.sqrt(1 - z**2)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)
    return torch.tensor(x), torch.tensor(np.repeat(w, turns) * 2 * math.pi / turns)


# -- geometry (R.1) ---------------------------------------------------------------------------


class TestGeometry:
    def test_the_worked_example(self):  # R-F1
        s = Sphere(2)
        v = s.log(X, Y)
        assert abs(float(s.distance(X, Y)) - 1.110242335) < 1e-9
        assert (v - row(0.642640196, -0.780348809, 0.459028711)).abs().max() < 1e-8
        assert (s.step(X, 0.4 * v) - row(0.549689163, 0.300019261, 0.779634701)).abs().max() < 1e-8
        tangent = s.project_tangent(X, row(2.0, -2.0, 1.0))
        moved = s.transport(X, Y, tangent)
        expected = row(0.153846154, -2.615384615, -1.461538462)
        assert (moved - expected).abs().max() < 1e-8
        assert (s.transport(X, Y, -tangent) - expected).abs().max() > 1  # a wrong sign shows

    def test_transport_is_an_isometry_that_carries_the_geodesic(self):
        s, x, y = Sphere(4), points(4, 300), points(4, 300, seed=1)
        u, v = s.tangent_noise(x, seeded(2)), s.tangent_noise(x, seeded(3))
        moved_u, moved_v = s.transport(x, y, u), s.transport(x, y, v)
        assert (s.inner(y, moved_u, moved_v) - s.inner(x, u, v)).abs().max() < 1e-12
        assert (s.transport(x, y, s.log(x, y)) + s.log(y, x)).abs().max() < 1e-12
        projected = s.project_tangent(y, u)  # projection is no transport
        assert (s.inner(y, projected, projected) - s.inner(x, u, u)).abs().max() > 0.1

    @pytest.mark.parametrize("dtype,bound", [(torch.float32, 2e-6), (F64, 1e-14)])
    @pytest.mark.parametrize("angle", [1e-7, 1e-3, 0.14, 0.15, 1.6, 3.0, math.pi - 1e-3, 3.14159])
    def test_exp_and_log_are_inverse_to_rounding(self, dtype, bound, angle):
        for n in (1, 2, 5):
            s, x = Sphere(n), points(n, 2000, dtype)
            v = tangents(s, x, angle)
            y = s.step(x, v)
            assert (s.distance(x, y) - angle).abs().max() < bound
            assert (s.step(x, s.log(x, y)) - y).abs().max() < bound
            if angle <= 3.0:
                assert (s.log(x, y) - v).abs().max() < bound

    @pytest.mark.parametrize("angle", [1e-6, math.pi - 1e-6])
    def test_the_arccos_form_would_lose_half_the_digits(self, angle):
        s, x = Sphere(2), points(2, 200)
        y = s.step(x, tangents(s, x, angle))
        arccos = torch.arccos((x * y).sum(-1).clamp(-1, 1))
        assert (s.distance(x, y) - angle).abs().max() < 1e-14
        assert (arccos - angle).abs().max() > 1e-12

    def test_many_float32_steps_stay_on_the_sphere(self):
        s, x = Sphere(2), points(2, 50, torch.float32)
        grid = TimeGrid.uniform(2000)
        end = integrate(Euler(), brownian(s), x, grid, seeded()).state
        assert (end.norm(dim=-1) - 1).abs().max() < 3e-7

    def test_antipodal_log_is_a_shortest_tangent(self):
        s, x = Sphere(3), points(3, 20)
        v = s.log(x, -x)
        assert (v.norm(dim=-1) - math.pi).abs().max() < 1e-14
        assert (s.step(x, v) + x).abs().max() < 1e-14
        assert (s.step(-x, -s.transport(x, -x, v)) - x).abs().max() < 1e-14  # and back
        u = s.tangent_noise(x, seeded())
        moved = s.transport(x, -x, u)
        assert (s.inner(x, moved, moved) - s.inner(x, u, u)).abs().max() < 1e-12


# -- calculus (R.12, R.13) --------------------------------------------------------------------


@dataclass(frozen=True)
class AmbientStep(Sphere):
    """A planted fault: x + v without the exponential map (semester II, Y18)."""

    def step(self, x, v):
        return x + v


class TestLaplacian:
    @pytest.mark.parametrize("n,sigma", [(1, 1.0), (2, 1.0), (2, 0.7), (5, 1.3)])
    def test_eigenfunctions(self, n, sigma):
        """Δ of a harmonic polynomial of degree l is −l(l + n − 1) times it."""
        x, a = points(n, 40), torch.linspace(-1, 2, n + 1, dtype=F64)
        gen = brownian(Sphere(n), sigma)
        first, second = lambda y: y @ a, lambda y: y[:, 0] * y[:, 1]
        for f, eigenvalue in ((first, -n), (second, -2 * (n + 1))):
            expected = 0.5 * sigma**2 * eigenvalue * f(x)
            assert (gen.apply(f, 0.0, x) - expected).abs().max() < 1e-12
            broken = replace(gen, space=AmbientStep(n))
            assert (broken.apply(f, 0.0, x) - expected).abs().max() > 0.1

    def test_float32(self):
        x = points(2, 40, torch.float32)
        value = brownian(Sphere(2)).apply(lambda y: y[:, 2] ** 2, 0.0, x)
        assert (value - (1 - 3 * x[:, 2] ** 2)).abs().max() < 1e-5

    def test_the_heat_kernel_solves_its_equation(self):
        """(L* p)/p = ∂_t log p for ½Δ, and not for Δ."""
        x, t, h = points(2, 50), 0.6, 1e-4
        log_p = SphereHeatKernel(NORTH, t).log_prob
        rate = (
            SphereHeatKernel(NORTH, t + h).log_prob(x) - SphereHeatKernel(NORTH, t - h).log_prob(x)
        ) / (2 * h)
        assert (brownian(Sphere(2)).adjoint(log_p, 0.0, x) - rate).abs().max() < 1e-4
        doubled = brownian(Sphere(2), math.sqrt(2)).adjoint(log_p, 0.0, x)
        assert (doubled - rate).abs().max() > 0.1


class TestDivergence:
    @staticmethod
    def field(t, x):
        """P(sin x₂, x₁x₃, x₁² + 1) with the projector of the normalised point."""
        a, b, c = x.unbind(-1)
        raw = torch.stack([b.sin(), a * c, a**2 + 1], -1)
        return Sphere(2).project_tangent(x, raw)

    @staticmethod
    def spherical(x):
        """1/sin θ [∂_θ (sin θ v_θ) + ∂_φ v_φ], by central differences in the two angles."""
        theta = torch.atan2(torch.hypot(x[:, 0], x[:, 1]), x[:, 2])
        phi = torch.atan2(x[:, 1], x[:, 0])

        def parts(theta, phi):
            s, c, sp, cp = theta.sin(), theta.cos(), phi.sin(), phi.cos()
            v = TestDivergence.field(None, torch.stack([s * cp, s * sp, c], -1))
            e_theta = torch.stack([c * cp, c * sp, -s], -1)
            e_phi = torch.stack([-sp, cp, 0 * s], -1)
            return s * (v * e_theta).sum(-1), (v * e_phi).sum(-1)

        h = 1e-5
        first = (parts(theta + h, phi)[0] - parts(theta - h, phi)[0]) / (2 * h)
        second = (parts(theta, phi + h)[1] - parts(theta, phi - h)[1]) / (2 * h)
        return (first + second) / theta.sin()

    def test_it_is_the_divergence_in_spherical_coordinates(self):
        x = points(2, 200)
        x = x[x[:, 2].abs() < 0.99]
        value, divergence = exact_divergence(Sphere(2), self.field, torch.zeros(len(x)), x)
        assert torch.equal(value, self.field(None, x))
        assert (divergence - self.spherical(x)).abs().max() < 1e-8

    def test_trap_y17(self):
        """The ambient trace is right for the normalised projector; I − xxᵀ is off by −2u·x."""
        x, u = points(2, 100), torch.tensor([0.3, -1.0, 0.8], dtype=F64)

        def rough(y):
            return u - (y @ u) * y

        def fine(y):
            return u - (y @ u) / (y @ y) * y

        def trace(f):
            return torch.func.vmap(lambda y: torch.func.jacfwd(f)(y).trace())(x)

        def embedded(t, y):
            return u - (y @ u)[:, None] * y

        truth = -2 * (x @ u)  # Δ⟨u, x⟩
        divergence = exact_divergence(Sphere(2), embedded, torch.zeros(100), x)[1]
        assert (divergence - truth).abs().max() < 1e-13
        assert (trace(fine) - truth).abs().max() < 1e-13
        assert (trace(rough) - truth - truth).abs().max() < 1e-13  # the trap: off by −2u·x

    def test_hutchinson_is_unbiased(self):
        x = points(2, 1).repeat(40_000, 1)
        probe = torch.randn(x.shape, generator=seeded(1), dtype=F64)
        t = torch.zeros(len(x))
        estimates = hutchinson_divergence(Sphere(2), self.field, t, x, probe)[1]
        exact = exact_divergence(Sphere(2), self.field, t[:1], x[:1])[1]
        assert abs(z_score(estimates, float(exact))) < 4.5
        assert abs(z_score(estimates, 1.1 * float(exact))) > 4.5


# -- Brownian motion (R.14) -------------------------------------------------------------------


def mean_height(space, steps, count, seed, sigma=1.0):
    start = NORTH.expand(count, 3)
    end = integrate(Euler(), brownian(space, sigma), start, TimeGrid.uniform(steps), seeded(seed))
    return end.state[:, 2]


class TestBrownianMotion:
    def test_the_mean_of_the_height(self):
        """E⟨x_t, x_0⟩ = e^{−t} at t = 1, up to the walk's bias of about h e^{−t}/6."""
        steps, count = 64, 40_000
        heights = mean_height(Sphere(2), steps, count, 0)
        bias = math.exp(-1) / (6 * steps)
        assert abs(z_score(heights, math.exp(-1) - bias)) < 4.5
        doubled = mean_height(Sphere(2), steps, count, 0, sigma=math.sqrt(2))
        assert abs(z_score(doubled, math.exp(-1) - bias)) > 20

    def test_without_the_exponential_map_it_leaves_the_sphere(self):  # Y18
        heights = mean_height(AmbientStep(2), 16, 40_000, 0)
        assert abs(z_score(heights, 1.0)) < 4.5  # a martingale: no drift −(n/2) x
        assert abs(z_score(heights, math.exp(-1))) > 20

    def test_one_step_has_the_exact_law(self):
        """E cos(√h R) for R² ~ χ²₂, by quadrature; four steps multiply."""
        h = 0.25
        r = torch.linspace(0, 12, 200_001, dtype=F64)
        one = float(torch.trapezoid(torch.cos(math.sqrt(h) * r) * r * torch.exp(-(r**2) / 2), r))
        heights = mean_height(Sphere(2), 4, 200_000, 1)
        assert abs(z_score(heights, one**4)) < 4.5
        assert abs(z_score(heights, math.exp(-1))) > 4.5

    def test_the_geodesic_walk_has_weak_order_one(self):
        steps = [2, 4, 8]
        means = [float(mean_height(Sphere(2), k, 250_000, k).mean()) for k in steps]
        order = slope(steps, [abs(m - math.exp(-1)) for m in means])
        assert 0.75 < order < 1.4

    def test_two_draws_of_time_agree_with_the_heat_kernel(self):
        heights = mean_height(Sphere(2), 64, 40_000, 3)
        kernel = SphereHeatKernel(NORTH, 1.0).sample(40_000, seeded(4))[:, 2]
        for f in (lambda z: z, lambda z: z**2, lambda z: z**3):
            a, b = f(heights), f(kernel)
            error = math.sqrt(float(a.var() + b.var()) / 40_000)
            assert abs(float(a.mean() - b.mean())) < 4.5 * error + 2e-3


# -- an exactly known flow (R.15, R-F9) -------------------------------------------------------

C = 0.8


def polar(t, x):
    """v = C P e₃ from the uniform law: artanh z moves at speed C."""
    return C * Sphere(2).project_tangent(x, NORTH.expand_as(x))


def log_density(t):
    """log p_t of the uniform law carried by `polar`, as a function of points."""

    def log_p(x):
        z = x[:, 2]
        z0 = torch.tanh(torch.atanh(z) - C * t)
        return -math.log(4 * math.pi) + torch.log1p(-(z0**2)) - torch.log1p(-(z**2))

    return log_p


class TestKnownFlow:
    gen = flow(Sphere(2), polar)
    x = row(math.sqrt(0.91), 0.0, 0.3), row(0.0, math.sqrt(0.75), -0.5)

    def model(self, velocity=polar):
        return Model(velocity, GeodesicPath(Sphere(2)), UniformSphere(Sphere(2), F64))

    def test_its_densities(self):
        x = torch.cat(self.x)
        log_p = ODELikelihood(steps=50)(self.model(), x, seeded()).value
        assert (
            log_p.exp() - torch.tensor([0.069375901, 0.025074043], dtype=F64)
        ).abs().max() < 1e-8
        many = points(2, 100)
        found = ODELikelihood(steps=50)(self.model(), many, seeded()).value
        assert (found - log_density(1.0)(many)).abs().max() < 1e-6
        slow = ODELikelihood(steps=50)(self.model(lambda t, x: 0.99 * polar(t, x)), many, seeded())
        assert (slow.value - log_density(1.0)(many)).abs().max() > 1e-3

    def test_its_map_and_volume(self):
        x = points(2, 60)
        y, log_det = SolvedFlow(self.gen, steps=50)(0.0, 1.0, x, seeded())
        z = torch.tanh(torch.atanh(x[:, 2]) + C)
        assert (y[:, 2] - z).abs().max() < 1e-7
        assert (log_det - torch.log((1 - z**2) / (1 - x[:, 2] ** 2))).abs().max() < 1e-6

    def test_the_density_equation(self):
        """(L* p)/p = ∂_t log p."""
        x, t, h = points(2, 50), 0.4, 1e-5
        rate = (log_density(t + h)(x) - log_density(t - h)(x)) / (2 * h)
        assert (self.gen.adjoint(log_density(t), t, x) - rate).abs().max() < 1e-8
        assert ((self.gen * 1.01).adjoint(log_density(t), t, x) - rate).abs().max() > 1e-3

    def test_kolmogorovs_forward_equation(self):
        """d/dt E f = E[L f], by quadrature over the sphere."""
        x, weight = quadrature()
        t, h = 0.5, 1e-4

        def f(y):
            return torch.sin(2 * y[:, 2]) + y[:, 0] ** 2

        def mean(values, time):
            return float((weight * values * log_density(time)(x).exp()).sum())

        rate = (mean(f(x), t + h) - mean(f(x), t - h)) / (2 * h)
        assert abs(mean(self.gen.apply(f, t, x), t) - rate) < 1e-7
        assert abs(mean((self.gen * 1.01).apply(f, t, x), t) - rate) > 1e-3

    @pytest.mark.parametrize("tableau,order", [(EULER, 1), (MIDPOINT, 2), (HEUN, 2), (RK4, 4)])
    def test_runge_kutta_keeps_its_order_on_the_sphere(self, tableau, order):
        """A time-dependent flow that also turns: z as above, the angle turns at speed 2t."""

        def turning(t, x):
            around = torch.stack([-x[:, 1], x[:, 0], 0 * t], 1)
            return 3 * (t**2)[:, None] * polar(t, x) + 2 * t[:, None] * around

        x, steps, errors = points(2, 50), [8, 16, 32, 64], []
        z = torch.tanh(torch.atanh(x[:, 2]) + C)
        angle = torch.atan2(x[:, 1], x[:, 0]) + 1
        radius = (1 - z**2).sqrt()
        truth = torch.stack([radius * angle.cos(), radius * angle.sin(), z], 1)
        for count in steps:
            grid = TimeGrid.uniform(count)
            end = integrate(RungeKutta(tableau), flow(Sphere(2), turning), x, grid, seeded()).state
            assert Sphere(2).contains(end, 1e-14).all()
            errors.append(float((end - truth).abs().max()))
        assert abs(slope(steps, errors) - order) < 0.25
        assert abs(slope(steps, errors) - (order + 1)) > 0.5  # the next order would not pass

    def test_the_exponential_euler_step_has_order_one(self):
        x, steps, errors = points(2, 50), [8, 16, 32, 64], []
        z = torch.tanh(torch.atanh(x[:, 2]) + C)
        for count in steps:
            end = integrate(Euler(), self.gen, x, TimeGrid.uniform(count), seeded()).state
            errors.append(float((end[:, 2] - z).abs().max()))
        assert abs(slope(steps, errors) - 1) < 0.15

    def test_its_mass(self):
        """`Mass` finds 1 for a flow, and not for densities that are e^0.2 too high."""

        @dataclass
        class Stage:
            model: Model
            device: str = "cpu"

            def __post_init__(self):
                self.rng, self.progress = seeded(), lambda *_: None
                self.device = torch.device(self.device)
                self.data = type("Rows", (), {"space": Sphere(2), "train": points(2, 3000)})

        found = Mass(points=2000, steps=8)(Stage(self.model())).metrics
        assert abs(found["density/integral"] - 1) < 4.5 * found["density/integral_se"] < 0.13

        class TooHigh(UniformSphere):
            def log_prob(self, x):
                return super().log_prob(x) + 0.2

        broken = replace(self.model(), base=TooHigh(Sphere(2), F64))
        off = Mass(points=2000, steps=8)(Stage(broken)).metrics
        assert abs(off["density/integral"] - 1) > 4.5 * off["density/integral_se"]


# -- the geodesic path (R.16) -----------------------------------------------------------------


class TestGeodesicPath:
    x0, x1 = points(2, 400), points(2, 400, seed=1)

    @pytest.mark.parametrize("schedule", [None, late(0.05)])
    def test_the_target_is_the_speed_of_the_curve(self, schedule):
        path = GeodesicPath(Sphere(2), *([schedule] if schedule else []))
        t, h = torch.linspace(0.05, 0.95, 400, dtype=F64), 1e-5
        draw = path.draw(t, self.x0, self.x1, seeded())
        later, earlier = (path.draw(t + s, self.x0, self.x1, seeded()).state for s in (h, -h))
        difference = (later - earlier) / (2 * h)
        target = path.target("velocity", draw)
        assert (target - difference).abs().max() < 1e-8
        field = path.conditional_generator(self.x0, self.x1)(t, draw.state).velocity
        assert (target - field).abs().max() < 1e-11
        speed = target.norm(dim=-1)
        expected = path.schedule.kappa.rate(t) * Sphere(2).distance(self.x0, self.x1)
        assert (speed - expected).abs().max() < 1e-12
        if schedule:  # without κ̇ the check fails
            assert (path.target("displacement", draw) - difference).abs().max() > 0.1

    def test_the_worked_example(self):  # R-F1
        path = GeodesicPath(Sphere(2))
        draw = path.draw(0.4, X, Y, seeded())
        assert (draw.state - row(0.549689163, 0.300019261, 0.779634701)).abs().max() < 1e-8
        velocity = path.target("velocity", draw)
        assert (velocity - row(0.421301009, -1.022659144, 0.096497554)).abs().max() < 1e-8

    def test_the_closed_velocity_is_the_derivative_of_the_curve(self):
        """At all lengths, 0 and π included; the space without the closed form differentiates."""

        class Plain(Sphere):
            geodesic_velocity = None

        x0 = torch.cat([self.x0, self.x1[:5], -self.x1[:5]])
        x1 = torch.cat([self.x1, self.x1[:5], self.x1[:5]])
        t = torch.linspace(0, 1, len(x1), dtype=F64)
        values = []
        for space in (Sphere(2), Plain(2)):
            path = GeodesicPath(space)
            values.append(path.target("velocity", path.draw(t, x0, x1, seeded())))
        assert (values[0] - values[1]).abs().max() < 1e-13
        assert (values[0] + values[1]).abs().max() > 1

    def test_the_displacement_is_the_transported_log(self):
        path, s = GeodesicPath(Sphere(2)), Sphere(2)
        draw = path.draw(0.7, self.x0, self.x1, seeded())
        moved = s.transport(self.x0, draw.state, s.log(self.x0, self.x1))
        assert (path.target("displacement", draw) - moved).abs().max() < 1e-11
        unmoved = s.log(self.x0, self.x1)
        assert (path.target("displacement", draw) - unmoved).abs().max() > 0.1

    def test_the_target_is_accurate_up_to_the_end_in_float32(self):
        path, s = GeodesicPath(Sphere(2)), Sphere(2)
        x0, x1 = self.x0.float(), self.x1.float()
        t = torch.tensor(1 - 1e-6)
        draw = path.draw(t, x0, x1, seeded())
        truth = -s.log(x1, x0)  # the end of the curve, up to 1e-6
        assert (path.target("velocity", draw) - truth).abs().max() < 2e-5
        textbook = s.log(draw.state, x1) / (1 - t)  # κ̇/(1−κ) log_x(x1) loses the digits
        assert (textbook - truth).abs().max() > 1e-2

    def test_kolmogorovs_forward_equation(self):
        """d/dt E f(x_t) = E[L f(x_t)] for the conditional generator, from independent draws."""
        path, n, t, h = GeodesicPath(Sphere(2)), 100_000, 0.6, 1e-3
        base, target = UniformSphere(Sphere(2), F64), VonMisesFisher(NORTH, 6.0)

        def f(x):
            return torch.sin(2 * x[:, 2]) + x[:, 0] ** 2

        def pairs(seed):
            return base.sample(n, seeded(seed)), target.sample(n, seeded(seed + 1))

        x0, x1 = pairs(0)
        ends = [f(path.draw(t + s, x0, x1, seeded()).state) for s in (h, -h)]
        rate = (ends[0] - ends[1]) / (2 * h)
        x0, x1 = pairs(10)
        action = path.conditional_generator(x0, x1).apply(
            f, t, path.draw(t, x0, x1, seeded()).state
        )
        error = math.sqrt(float(rate.var() + action.var()) / n)
        assert abs(float(rate.mean() - action.mean())) < 4.5 * error
        assert abs(float(rate.mean() - 1.1 * action.mean())) > 4.5 * error

    def test_two_atoms_on_the_circle(self):
        """E[u | x_t = 0.9] = (π − 1.8)/(2 · 0.75) at t = ¼, by regression on nearby draws."""
        path, n = GeodesicPath(Sphere(1)), 400_000
        x0 = UniformSphere(Sphere(1), F64).sample(n, seeded(0))
        x1 = torch.zeros(n, 2, dtype=F64)
        x1[:, 0] = 1 - 2 * torch.randint(2, (n,), generator=seeded(1))
        draw = path.draw(0.25, x0, x1, seeded())
        angle = torch.atan2(draw.state[:, 1], draw.state[:, 0])
        near = (angle - 0.9).abs() < 0.1
        u = path.target("velocity", draw)[near]
        x = draw.state[near]
        speed = x[:, 0] * u[:, 1] - x[:, 1] * u[:, 0]
        trend = -(angle[near] - 0.9) / 0.75  # the field's slope inside the window
        assert abs(z_score(speed - trend, 0.894395102)) < 4.5
        assert abs(z_score(speed - trend, 0.894395102 * 1.2)) > 4.5

    def test_on_flat_space_it_is_the_straight_line(self):
        path = GeodesicPath(Euclidean(2))
        x0, x1 = torch.randn(2, 5, 2, generator=seeded(), dtype=F64)
        draw = path.draw(0.3, x0, x1, seeded())
        assert torch.allclose(draw.state, 0.7 * x0 + 0.3 * x1)
        assert torch.allclose(path.target("velocity", draw), x1 - x0)

    @pytest.mark.parametrize("epsilon", [0.01, 0.5])
    def test_late_takes_equal_ratios_in_equal_times(self, epsilon):
        kappa, t = late(epsilon).kappa, torch.linspace(0, 1, 11, dtype=F64)
        ratios = torch.log(1 - kappa(t) + epsilon).diff()
        assert (ratios - math.log(epsilon / (1 + epsilon)) / 10).abs().max() < 1e-12
        slope_ = torch.func.jvp(kappa.value, (t,), (torch.ones_like(t),))[1]
        assert (kappa.rate(t) - slope_).abs().max() < 1e-12
        plain = torch.log(1 - t + epsilon).diff()  # κ = t does not
        assert (plain - plain.mean()).abs().max() > 0.05


# -- laws (R.19, R-F3, R-F8) ------------------------------------------------------------------


class TestLaws:
    def test_the_area_of_spheres(self):
        for n, volume in ((1, 2 * math.pi), (2, 4 * math.pi), (3, 2 * math.pi**2)):
            assert abs(math.exp(Sphere(n).log_volume) - volume) < 1e-12

    def test_uniform_moments(self):
        x = points(2, 100_000)
        assert abs(z_score(x[:, 0])) < 4.5 and abs(z_score(x[:, 1] ** 2, 1 / 3)) < 4.5
        assert abs(z_score(x[:, 2] ** 4, 1 / 5)) < 4.5
        cube = torch.rand(100_000, 3, generator=seeded(), dtype=F64) * 2 - 1
        cube = cube / cube.norm(dim=-1, keepdim=True)  # a normalised cube is not uniform
        assert abs(z_score(cube[:, 2] ** 4, 1 / 5)) > 4.5

    @pytest.mark.parametrize("kappa", [1e-8, 0.3, 4.0, 60.0])
    def test_von_mises_fisher_has_mass_one(self, kappa):
        x, weight = quadrature()
        mean = points(2, 1, seed=3)[0]
        mass = (weight * VonMisesFisher(mean, kappa).log_prob(x).exp()).sum()
        assert abs(float(mass) - 1) < 1e-10

    def test_von_mises_fisher_at_four(self):  # R-F8
        law = VonMisesFisher(NORTH, 4.0)
        equator = row(1.0, 0.0, 0.0)
        assert abs(float(law.log_prob(equator)) + 4.451247186) < 1e-9
        height = law.sample(100_000, seeded())[:, 2]
        assert abs(z_score(height, 0.750671150)) < 4.5
        assert abs(z_score(height, 0.750671150 * 1.01)) > 4.5

    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    def test_von_mises_fisher_at_large_kappa(self, dtype):
        """κ(1 − ⟨μ, x⟩) is exponential of rate 1, up to e^{−2κ}."""
        kappa = 1e5
        mean = points(2, 1, dtype, seed=3)[0]
        law = VonMisesFisher(mean, kappa)
        x = law.sample(100_000, seeded())
        log_p = law.log_prob(x).double()
        top = math.log(kappa / (2 * math.pi))
        assert abs(float(law.log_prob(mean[None])) - top) < 1e-5
        assert abs(z_score(log_p, top - 1)) < 4.5
        assert abs(z_score(log_p, top - 1.03)) > 4.5
        mixture = VonMisesFisherMixture(mean[None], kappa).log_prob(x).double()
        assert (mixture - log_p).abs().median() < (5e-3 if dtype == torch.float32 else 1e-9)

    def test_the_mixture_is_the_mean_of_its_laws(self):
        means, x = points(2, 5), points(2, 30, seed=1)
        each = torch.stack([VonMisesFisher(m, 7.0).log_prob(x).exp() for m in means])
        law = VonMisesFisherMixture(means, 7.0)
        assert (law.log_prob(x).exp() - each.mean(0)).abs().max() < 1e-12
        drawn = law.sample(100_000, seeded())
        centre = 0.857144520 * means.mean(0)  # coth 7 − 1/7
        for axis in range(3):
            assert abs(z_score(drawn[:, axis], float(centre[axis]))) < 4.5

    def test_the_heat_kernel(self):  # R-F3
        law = SphereHeatKernel(NORTH, 0.5)
        angle = torch.tensor([0.0, 1.0, 2.0, math.pi], dtype=F64)
        x = torch.stack([angle.sin(), 0 * angle, angle.cos()], 1)
        expected = torch.tensor([0.346229516, 0.139089767, 0.009504723, 0.000195179], dtype=F64)
        assert (law.log_prob(x).exp() - expected).abs().max() < 1e-9
        s = Sphere(2)
        outward = -s.log(x[1:3], NORTH.expand(2, 3)) / angle[1:3, None]
        slopes = torch.func.jvp(law.log_prob, (x[1:3],), (outward,))[1]
        assert (slopes - torch.tensor([-1.817221846, -3.502781380], dtype=F64)).abs().max() < 1e-8
        naive = -angle[1:3] / 0.5  # log_x(x0)/t alone, without the curvature term (Y19)
        assert (slopes - naive).abs().min() > 0.1
        wide, weight = quadrature()
        assert abs(float((weight * law.log_prob(wide).exp()).sum()) - 1) < 1e-10
        height = law.sample(100_000, seeded())[:, 2]
        assert abs(z_score(height, math.exp(-0.5))) < 4.5
        second = eval_legendre(2, height.numpy())
        assert abs(z_score(torch.tensor(second), math.exp(-1.5))) < 4.5


# -- evaluations, data, network ---------------------------------------------------------------


class TestMeasures:
    def test_kernels_for_several_kappas_are_the_mixture(self):
        train, rows, kappas = points(2, 300), points(2, 40, seed=1), [5.0, 300.0, 1e5]
        found = kernel_log_densities(train, rows, kappas)
        for kappa, values in zip(kappas, found, strict=True):
            exact = VonMisesFisherMixture(train, kappa).log_prob(rows)
            assert ((values - exact) / exact.abs().clamp(min=1)).abs().max() < 1e-6
            other = VonMisesFisherMixture(train, 1.01 * kappa).log_prob(rows)
            assert (values - other).abs().max() > 1e-3

    def test_kappa_is_the_best_on_a_fine_grid(self):
        law = VonMisesFisher(NORTH, 30.0)
        train, validation = law.sample(300, seeded(0)), law.sample(300, seeded(1))
        found = choose_kappa(train, validation)

        def score(kappa):
            return float(VonMisesFisherMixture(train, kappa).log_prob(validation).mean())

        best = max(score(k) for k in np.geomspace(10, 1e4, 200))
        assert score(found) > best - 1e-3
        assert score(4 * found) < best - 1e-2

    def test_degrees_and_back(self):
        latitude = torch.tensor([-90.0, -12.5, 0.0, 60.0], dtype=F64)
        longitude = torch.tensor([0.0, 179.0, -90.0, 30.0], dtype=F64)
        back = to_degrees(from_degrees(latitude, longitude))
        assert (back[0] - latitude).abs().max() < 1e-12
        assert (back[1] - longitude)[1:].abs().max() < 1e-12
        east = from_degrees(torch.zeros(1), torch.tensor([90.0]))
        assert torch.allclose(east, torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-7)

    def test_waves_finer_than_the_blur_are_off(self):
        """At t = 0 a small move changes the first layer little, at t = 1 much; undamped always."""
        torch.manual_seed(0)
        path = GeodesicPath(Sphere(2))
        network = SphereMLP(lowest=50.0, highest=60.0, schedule=path.schedule)
        x = points(2, 50, torch.float32)
        y = Sphere(2).step(x, tangents(Sphere(2), x, 0.05))

        def change(network, t):
            first = network.layers[0]
            seen = []
            handle = first.register_forward_hook(lambda m, i, o: seen.append(o.detach()))
            for z in (x, y):
                network(torch.full((50,), t), z)
            handle.remove()
            return float((seen[0] - seen[1]).abs().max())

        assert change(network, 0.0) < 0.1 < change(network, 1.0)
        network.damping = 0.0
        assert change(network, 0.0) > 0.1


def test_the_weights_of_many_bandwidths_are_optimal():
    """At the best weights E[q_j/mixture] ≤ 1 over validation for every part (Kuhn–Tucker)."""
    sphere, centres = Sphere(2), points(2, 20).repeat(20, 1)
    near = sphere.step(centres, 0.05 * sphere.tangent_noise(centres, seeded(3)))
    train, rows = near[:250], torch.cat([near[250:], points(2, 80, seed=4)])
    mixture = mixed_bandwidths(train, rows, rows)
    parts = kernel_log_densities(train, rows, BANDWIDTHS)
    parts = torch.cat([parts, UniformSphere(Sphere(2)).log_prob(rows).double()[None]])
    assert float((parts - mixture).exp().mean(1).max()) < 1.01
    equal = torch.logsumexp(parts, 0) - math.log(len(parts))
    assert float((parts - equal).exp().mean(1).max()) > 1.2  # equal weights are not optimal
    assert float(mixture.mean()) > float(parts.mean(1).max()) + 0.1


@pytest.mark.parametrize(
    "law",
    [VonMisesFisher(X[0], 0.3), VonMisesFisher(X[0], 20.0), SphereHeatKernel(X[0], 0.5)],
    ids=["von Mises-Fisher, wide", "von Mises-Fisher, narrow", "heat kernel"],
)
def test_draws_have_the_mean_of_their_density_and_no_preferred_side(law):
    """The height against quadrature of the density; the angle around the mean is uniform."""
    place, weight = quadrature()
    height = place @ X[0]
    exact = float((weight * law.log_prob(place).exp() * height).sum())
    x = law.sample(200_000, seeded())
    assert abs(z_score(x @ X[0], exact)) < 4.5
    assert abs(z_score(x @ X[0], 0.9 * exact)) > 4.5
    first, second = Sphere(2).tangent_basis(X)
    angle = torch.atan2((x * second).sum(1), (x * first).sum(1))
    for k in (1, 2, 3):
        assert abs(z_score((k * angle).cos())) < 4.5 and abs(z_score((k * angle).sin())) < 4.5
    assert abs(z_score((0.98 * angle).cos())) > 4.5  # a turn that falls short by 2 %


def test_the_shares_of_the_proposal_of_the_mass_add_up_to_one():
    from genpath_manifold.evaluations import KAPPAS, WEIGHTS

    assert sum(WEIGHTS) == pytest.approx(1.0) and len(WEIGHTS) == len(KAPPAS) + 1


def test_the_gradient_of_a_projection_stays_finite_at_the_centre():
    """A row at the centre goes to the first axis, and spoils no gradient of the others."""
    x = torch.stack([torch.zeros(3, dtype=F64), 2 * X[0]]).requires_grad_()
    found = Sphere(2).project(x)
    assert torch.equal(found[0], torch.eye(3, dtype=F64)[0])
    (gradient,) = torch.autograd.grad(found[:, 0].sum(), x)
    first = torch.eye(3, dtype=F64)[0]
    exact = (first - X[0, 0] * X[0]) / 2  # of x₀/|x| at 2X
    assert torch.equal(gradient[0], torch.zeros(3, dtype=F64))
    assert torch.allclose(gradient[1], exact, atol=1e-15)


def test_each_round_halves_the_steps_of_the_search_for_kappa():
    """A held-out point at 1 − ⟨x, y⟩ = 1/κ is best scored by κ; the grid's steps are 10^½."""
    depth = 1 / 137
    held = torch.tensor([[math.sqrt(depth * (2 - depth)), 0.0, 1 - depth]], dtype=F64)
    found = [choose_kappa(NORTH[None], held, rounds=rounds) for rounds in range(5)]
    steps = [math.log10(kappa) * 2 ** (rounds + 1) for rounds, kappa in enumerate(found)]
    assert all(abs(step - round(step)) < 1e-9 for step in steps)
    assert found[0] == pytest.approx(100.0) and found[1] == pytest.approx(10**2.25)
    assert abs(math.log10(found[-1] / 137)) < 0.5 / 2**4


def test_wave_lengths_are_log_uniform_in_their_range():
    torch.manual_seed(0)
    lengths = SphereMLP(features=4000, lowest=2.0, highest=50.0, width=1).waves.norm(dim=0).double()
    share = torch.log(lengths / 2) / math.log(25)
    assert float(share.min()) > -1e-6 and float(share.max()) < 1 + 1e-6
    for power in (1, 2, 3):
        assert abs(z_score(share**power, 1 / (power + 1))) < 4.5
    assert abs(z_score((lengths - 2) / 48, 0.5)) > 4.5  # uniform lengths they are not


def test_a_wave_is_damped_by_what_a_gaussian_blur_leaves_of_it():
    """E cos⟨b, x + σz⟩ along b by Gauss–Hermite quadrature, σ = c (1 − κ(t))."""
    torch.manual_seed(0)
    path, t = GeodesicPath(Sphere(2)), 0.6
    network = SphereMLP(features=1, lowest=3.0, highest=3.0, schedule=path.schedule).double()
    seen = []
    network.layers[0].register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))

    def waves(x):
        network(torch.full((len(x),), t, dtype=F64), x)
        return seen.pop()[:, 3:5].detach()

    x, direction = points(2, 5), network.waves[:, 0] / network.waves[:, 0].norm()
    damped, sigma = waves(x), 0.7 * float(1 - path.schedule.kappa(torch.tensor(t, dtype=F64)))
    network.damping = 0.0
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(40))
    moved = torch.stack([waves(x + sigma * z * direction) for z in nodes])
    blurred = torch.einsum("z,zbw->bw", weights / weights.sum(), moved)
    assert torch.allclose(damped, blurred, atol=1e-10)
    assert not torch.allclose(damped, waves(x), atol=1e-2)
