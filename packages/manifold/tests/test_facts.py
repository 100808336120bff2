"""What this plugin promises beyond its claims: float32, edges, searches, data."""

import math

import numpy as np
import pytest
import torch

from genpath.grids import TimeGrid
from genpath.samplers import Euler, integrate
from genpath_manifold import (
    GeodesicPath,
    Sphere,
    SphereHeatKernel,
    SphereMLP,
    UniformSphere,
    VonMisesFisher,
    VonMisesFisherMixture,
    brownian,
)
from genpath_manifold.data import from_degrees, to_degrees
from genpath_manifold.evaluations import (
    choose_kappa,
)

torch.set_num_threads(1)
F64 = torch.float64
NORTH = torch.tensor([0.0, 0.0, 1.0], dtype=F64)
X = torch.tensor([[1.0, 2.0, 2.0]], dtype=F64) / 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n, count, dtype=F64, seed=0):
    return UniformSphere(Sphere(n), dtype).sample(count, seeded(seed))


def z_score(values, reference=0.0):
    return float((values.mean() - reference) / (values.std() / math.sqrt(len(values))))


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
    def test_many_float32_steps_stay_on_the_sphere(self):
        s, x = Sphere(2), points(2, 50, torch.float32)
        grid = TimeGrid.uniform(2000)
        end = integrate(Euler(), brownian(s), x, grid, seeded()).state
        assert (end.norm(dim=-1) - 1).abs().max() < 3e-7


# -- calculus (R.12, R.13) --------------------------------------------------------------------


class TestLaplacian:
    def test_float32(self):
        x = points(2, 40, torch.float32)
        value = brownian(Sphere(2)).apply(lambda y: y[:, 2] ** 2, 0.0, x)
        assert (value - (1 - 3 * x[:, 2] ** 2)).abs().max() < 1e-5


# -- the geodesic path (R.16) -----------------------------------------------------------------


class TestGeodesicPath:
    x0, x1 = points(2, 400), points(2, 400, seed=1)

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


# -- laws (R.19, R-F3, R-F8) ------------------------------------------------------------------


class TestLaws:
    def test_the_area_of_spheres(self):
        for n, volume in ((1, 2 * math.pi), (2, 4 * math.pi), (3, 2 * math.pi**2)):
            assert abs(math.exp(Sphere(n).log_volume) - volume) < 1e-12

    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    def test_the_mixture_at_large_kappa_is_the_law(self, dtype):
        mean = points(2, 1, dtype, seed=3)[0]
        law = VonMisesFisher(mean, 1e5)
        x = law.sample(10_000, seeded())
        log_p = law.log_prob(x).double()
        mixture = VonMisesFisherMixture(mean[None], 1e5).log_prob(x).double()
        assert (mixture - log_p).abs().median() < (5e-3 if dtype == torch.float32 else 1e-9)


# -- evaluations, data, network ---------------------------------------------------------------


class TestMeasures:
    def test_degrees_and_back(self):
        latitude = torch.tensor([-90.0, -12.5, 0.0, 60.0], dtype=F64)
        longitude = torch.tensor([0.0, 179.0, -90.0, 30.0], dtype=F64)
        back = to_degrees(from_degrees(latitude, longitude))
        assert (back[0] - latitude).abs().max() < 1e-12
        assert (back[1] - longitude)[1:].abs().max() < 1e-12
        east = from_degrees(torch.zeros(1), torch.tensor([90.0]))
        assert torch.allclose(east, torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-7)


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


def test_the_network_sees_time_from_minus_one_to_one():
    network = SphereMLP(features=2, harmonics=3)
    seen = []
    network.layers[0].register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    network(torch.tensor([0.0, 0.5, 1.0]), points(2, 3, torch.float32))
    time, sines, cosines = seen[0][:, 7], seen[0][:, 8:11], seen[0][:, 11:]
    assert time.tolist() == [-1.0, 0.0, 1.0]
    ends = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, -1.0]])  # whole numbers of quarter turns
    assert torch.allclose(sines[[0, 2]], ends, atol=1e-6)
    assert torch.allclose(cosines[[0, 2]], torch.tensor([[1.0] * 3, [0, -1, 0]]), atol=1e-6)


def test_the_bandwidths_span_five_decades_in_half_decades():
    from genpath_manifold.evaluations import BANDWIDTHS

    steps = torch.tensor(BANDWIDTHS, dtype=F64).log10()
    assert torch.allclose(steps, torch.linspace(1, 6, 11, dtype=F64), atol=1e-12)


def test_draws_of_the_heat_kernel_invert_its_distribution_function():
    """F(⟨μ, x⟩) = u, with F the integral of the series; 4096 cells leave 1e-7."""
    mean = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3
    law = SphereHeatKernel(mean, 0.5)
    x = law.sample(2000, torch.Generator().manual_seed(3))
    u = torch.rand(2000, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)[:, 0]
    degree = np.arange(40)
    series = (2 * degree + 1) / 2 * np.exp(-degree * (degree + 1) * 0.25)
    function = np.polynomial.Legendre(series).integ(lbnd=-1)
    assert np.abs(function((x @ mean).numpy()) - u.numpy()).max() < 5e-7
