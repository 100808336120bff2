"""References: closed forms, grids, recursions, and what they refuse."""

import math

import pytest
import torch

from genpath import Euclidean, TimeGrid, flow
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.samplers import Euler, integrate
from genpath_compose.annealing import Annealed
from genpath_compose.experts import DiffusionExpert
from genpath_compose.grid_solvers import GridOperators, NormalizedFKGrid, UnnormalizedFKGrid
from genpath_compose.normals import Normal
from genpath_compose.potentials import feynman_kac, with_potential
from genpath_compose.processes import LinearDrift
from genpath_compose.references import (
    GaussianRatio,
    LinearLaw,
    WeightedHeatFlow,
    euler_law,
    exact_law,
    geometric_range,
)

DOUBLE = torch.float64
LINE = Euclidean(1)


def test_the_weighted_heat_flow_satisfies_its_equations():
    """P' = κ − P² of the precision, and (log Z)' = −½κ/P."""
    heat, d = WeightedHeatFlow(0.9, 1.5), 1e-5
    for t in (0.2, 0.7):
        slope = (heat.precision(t + d) - heat.precision(t - d)) / (2 * d)
        assert slope == pytest.approx(0.9 - heat.precision(t) ** 2, abs=1e-8)
        gain = (heat.log_normaliser(t + d) - heat.log_normaliser(t - d)) / (2 * d)
        assert gain == pytest.approx(-0.45 / heat.precision(t), abs=1e-8)
    assert heat.precision(0.0) == pytest.approx(1 / 1.5) and heat.log_normaliser(0.0) == 0


def test_a_weighted_heat_flow_needs_positive_numbers():
    with pytest.raises(DomainError, match="κ > 0 and v0 > 0"):
        WeightedHeatFlow(-0.1)


def test_ratios_say_where_they_cannot_be_normalised():
    assert GaussianRatio((1.0, -0.3), (1.0, 0.5)).log_normaliser() == math.inf
    assert GaussianRatio((1.0,), (3.0,), 4).log_normaliser() == pytest.approx(0.0)
    with pytest.raises(DomainError, match="one exponent for each σ"):
        GaussianRatio((1.0, 2.0), (1.0,))
    with pytest.raises(DomainError, match="σ > 0"):
        GaussianRatio((1.0,), (0.0,))


def test_ranges_of_geometric_averages_mirror_each_other():
    low, high = geometric_range(2.0, 1.0)
    other = geometric_range(1.0, 2.0)
    assert high == math.inf and other[0] == -math.inf
    assert other[1] == pytest.approx(1 - low)  # q1 and q2 exchanged: β → 1 − β


def annealed(a):
    full = torch.ones(1, dtype=DOUBLE)
    rest = 1.21 / 1.4

    def score(t, x):
        return -x / (rest + (2 - rest) * torch.exp(1.4 * t))[:, None]

    start = Normal(0 * full, full / 2, DOUBLE)
    expert = DiffusionExpert(score, LinearDrift(-0.7), lambda t: 1.1 + 0 * t, (1,), start=start)
    return Annealed(2.5, a).generator([expert])


def test_from_another_start_the_end_depends_on_the_motion():
    """From q_0 in place of q_0^β: 10.46 to 197.8 where the target has 2.188."""
    grid = TimeGrid.uniform(200)
    found = [exact_law(annealed(a), LinearLaw(0.0, 2.0), grid).variance for a in (0.0, 0.3, 0.5)]
    assert found == pytest.approx([10.464, 26.28, 197.8], rel=1e-3)
    right = [exact_law(annealed(a), LinearLaw(0.0, 0.8), grid).variance for a in (0.0, 0.3, 0.5)]
    assert right == pytest.approx([2.18793] * 3, rel=1e-5)


def test_eulers_law_is_that_of_eulers_particles():
    gen = annealed(0.0)
    grid = TimeGrid.uniform(20)
    law = euler_law(gen, LinearLaw(0.3, 0.8), grid)
    rng = torch.Generator().manual_seed(0)
    x = 0.3 + math.sqrt(0.8) * torch.randn(20_000, 1, generator=rng, dtype=DOUBLE)
    found = integrate(Euler(), gen, {"x": x}, grid, rng)
    weight, y = torch.exp(found.log_weight - law.log_normaliser), found.state["x"][:, 0]
    for draws, true in ((weight, 1.0), (weight * (y - law.mean), 0.0)):
        error = float(draws.std()) / math.sqrt(len(draws))
        assert abs(float(draws.mean()) - true) < 5 * error


def test_linear_laws_refuse_what_bends():
    bent = feynman_kac(LINE, lambda t, x: -(x**3), 1.0, lambda t, x: -(x[:, 0] ** 2))
    with pytest.raises(CapabilityError, match="keep normal laws normal"):
        exact_law(bent, LinearLaw(0.0, 1.0), TimeGrid.uniform(2))
    steep = feynman_kac(LINE, None, 1.0, lambda t, x: 9 * x[:, 0] ** 2)
    with pytest.raises(DomainError, match="2hqV < 1"):
        euler_law(steep, LinearLaw(0.0, 1.0), TimeGrid.uniform(10))


def test_linear_laws_of_a_flow_have_no_weight():
    gen = flow(LINE, lambda t, x: 1 - x)
    law = exact_law(gen, LinearLaw(0.0, 1.0), TimeGrid.uniform(50))
    assert law.mean == pytest.approx(1 - math.exp(-1), abs=1e-8)
    assert law.variance == pytest.approx(math.exp(-2), abs=1e-8) and law.log_normaliser == 0
    lifted = with_potential(gen, lambda t, x: 3 + 0 * t)
    assert exact_law(lifted, LinearLaw(0.0, 1.0), TimeGrid.uniform(4)).log_normaliser == 3.0


@pytest.mark.parametrize("kind", [NormalizedFKGrid, UnnormalizedFKGrid])
def test_grid_solvers_take_starts_of_any_mass(kind):
    heat = WeightedHeatFlow(0.9, 1.5)
    laws = [
        kind(-8.0, 8.0, 120).solve(
            lambda t, x: 0 * x,
            1.0,
            heat.potential,
            lambda x, c=shift: c - x[:, 0] ** 2 / 3,
            TimeGrid.uniform(10),
        )
        for shift in (0.0, 2.0)
    ]
    assert laws[0].log_normaliser[-1] == pytest.approx(laws[1].log_normaliser[-1])
    assert torch.allclose(laws[0].density.values, laws[1].density.values)
    assert laws[0].times == TimeGrid.uniform(10).times and laws[0].log_normaliser[0] == 0
    assert float(laws[1].density.mass) == pytest.approx(1.0, abs=1e-12)


def test_a_noise_that_moves_is_a_function_of_time():
    heat = WeightedHeatFlow(0.9, 1.5)
    fast = UnnormalizedFKGrid(-8.0, 8.0, 60)
    one, two = (
        fast.solve(lambda t, x: 0 * x, sigma, heat.potential, lambda x: -x[:, 0] ** 2 / 3,
                   TimeGrid.uniform(5))
        for sigma in (1.0, lambda t: torch.ones_like(t))
    )  # fmt: skip
    assert torch.allclose(one.density.values, two.density.values)


def test_grid_solvers_refuse_starts_that_do_not_fit():
    heat, still = WeightedHeatFlow(), lambda t, x: 0 * x
    grid = TimeGrid.uniform(2)
    with pytest.raises(DomainError, match="the start has mass"):
        NormalizedFKGrid(-1.0, 1.0, 4).solve(
            still, 1.0, heat.potential, torch.zeros(4, dtype=DOUBLE), grid
        )
    with pytest.raises(ShapeError, match="one starting value per cell"):
        UnnormalizedFKGrid(-1.0, 1.0, 4).solve(still, 1.0, heat.potential, torch.ones(3), grid)


def test_no_mass_leaves_a_closed_interval():
    pieces = GridOperators(-1.0, 1.0, 16)
    p = torch.rand(16, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    g = torch.randn(16, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    for gained in (
        pieces.transport(p, lambda x: 3 + x),
        pieces.diffusion(p, 2.0),
        pieces.reweighting(p, g),
    ):
        assert float(gained.sum().abs()) < 1e-10
