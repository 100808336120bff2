"""Potentials: conversions, the generic weight on bare generators, edges and refusals."""

import pytest
import torch

from genpath import Euclidean, TimeGrid, flow
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator
from genpath.parts import Parts
from genpath.samplers import Euler, integrate
from genpath_compose.dynamics import Composed
from genpath_compose.experts import FieldExpert
from genpath_compose.potentials import (
    corrected,
    diffusion_to_velocity,
    diffusion_to_weight,
    feynman_kac,
    generic_potential,
    matrix_potential,
    transport_to_weight,
    velocity_against_diffusion,
    with_potential,
)
from genpath_compose.presets import guided, product, tilted

DOUBLE = torch.float64


def test_langevin_motion_of_a_fixed_law_needs_no_weight():
    x = torch.randn(7, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    drift = velocity_against_diffusion(1.7, -x)
    divergence = torch.full((7,), -3 * 0.5 * 1.7**2, dtype=DOUBLE)
    bend = torch.full((7,), -3.0, dtype=DOUBLE)
    found = generic_potential(0 * bend, drift, divergence, -x, 1.7, bend)
    assert found.abs().max() < 1e-12


def test_the_matrix_form_is_the_scalar_form_for_isotropic_noise():
    rng = torch.Generator().manual_seed(1)
    drift, score = torch.randn(2, 5, 3, generator=rng, dtype=DOUBLE)
    rate, divergence = torch.randn(2, 5, generator=rng, dtype=DOUBLE)
    slopes = torch.randn(5, 3, 3, generator=rng, dtype=DOUBLE)
    slopes = slopes + slopes.transpose(1, 2)
    sigma = torch.rand(5, generator=rng, dtype=DOUBLE)
    a = sigma[:, None, None] ** 2 * torch.eye(3, dtype=DOUBLE)
    one = matrix_potential(rate, drift, divergence, score, a, slopes)
    trace = slopes.diagonal(0, 1, 2).sum(1)
    two = generic_potential(rate, drift, divergence, score, sigma, trace)
    assert torch.allclose(one, two, rtol=0, atol=1e-12)


def test_conversions_take_events_of_any_shape_and_empty_batches():
    for shape in ((2, 3), ()):
        x = torch.ones(4, *shape)
        assert transport_to_weight(x, torch.zeros(4), x).shape == (4,)
        assert diffusion_to_weight(1.0, x, torch.zeros(4)).shape == (4,)
        assert diffusion_to_velocity(torch.ones(4), x).shape == x.shape
    none = torch.zeros(0, 2)
    assert transport_to_weight(none, torch.zeros(0), none).shape == (0,)


def test_a_matrix_of_another_size_is_refused():
    x, row, one = torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, 3, 3)
    with pytest.raises(ShapeError, match=r"points are vectors \(batch, d\)"):
        matrix_potential(row, x, row, x, one[:, :2, :2], one)
    with pytest.raises(ShapeError, match="flatten the events"):
        matrix_potential(row, one, row, one, one, one)


def test_a_corrected_generator_replaces_the_potential_that_was_there():
    log_h = lambda t, x: t * x[:, 0] - x[:, 0] ** 2 / 2  # noqa: E731
    plain = flow(Euclidean(1), lambda t, x: -x)
    loud = with_potential(plain, lambda t, x: 3 + x[:, 0])
    t, x = torch.full((3,), 0.4), torch.tensor([[-1.0], [0.5], [2.0]])
    one, two = (corrected(gen, log_h)(t, x).potential for gen in (plain, loud))
    assert torch.allclose(one, two)
    again = corrected(corrected(plain, log_h), log_h)(t, x).potential
    assert torch.allclose(again, one)


def test_a_corrected_generator_takes_an_empty_batch():
    gen = corrected(flow(Euclidean(2), lambda t, x: -x), lambda t, x: -(x**2).sum(1))
    assert gen(0.5, torch.zeros(0, 2)).potential.shape == (0,)


def test_a_corrected_generator_runs_in_a_sampler():
    """Particles at rest on a grid, weighted from N(0, 1) to N(1, 1)."""
    still = flow(Euclidean(1), lambda t, x: 0 * x)
    gen = corrected(still, lambda t, x: t * x[:, 0] - x[:, 0] ** 2 / 2)
    x = torch.linspace(-8, 9, 341, dtype=DOUBLE)[:, None]
    found = integrate(Euler(), gen, x, TimeGrid.uniform(4), torch.Generator())
    density = torch.exp(-(x[:, 0] ** 2) / 2 + found.log_weight)
    assert abs(float((density * x[:, 0]).sum() / density.sum()) - 1) < 1e-6


def test_potentials_add_and_the_generator_tests_with_them():
    gen = with_potential(flow(Euclidean(1), lambda t, x: -x), lambda t, x: 2 + 0 * t)
    gen = with_potential(gen, lambda t, x: x[:, 0])
    assert gen(0.0, torch.tensor([[3.0]])).potential == 5.0
    assert gen.apply(lambda x: x[:, 0], 0.0, torch.tensor([[3.0]])) == -3 + 5 * 3


def test_a_weighted_diffusion_declares_its_parts():
    weigh = lambda t, x: -(x[:, 0] ** 2)  # noqa: E731
    space = Euclidean(1)
    assert feynman_kac(space, lambda t, x: -x, 0.0, weigh).has == {"velocity", "potential"}
    noisy = feynman_kac(space, None, lambda t: 1 + t, weigh)
    assert noisy.has == {"diffusion", "potential"}
    assert noisy(0.5, torch.ones(2, 1)).diffusion.sigma.tolist() == [1.5, 1.5]
    with pytest.raises(CapabilityError, match="has a drift or noise"):
        feynman_kac(space, None, 0.0, weigh)


def test_the_dynamics_of_a_composition_are_generic():
    """Composed, whatever its noise and transport, has the weight of `corrected`."""
    a = FieldExpert(
        lambda t, x: (0 * x, -x), (2,), "a", log_density=lambda t, x: -0.5 * (x**2).sum(1)
    )
    b = FieldExpert(
        lambda t, x: (0 * x, -x / 4), (2,), "b", log_density=lambda t, x: -(x**2).sum(1) / 8
    )
    made = a ** (lambda t: 1 + t) / b**0.5
    gen = Composed(made, sigma=0.7).generator()

    def moving(t, state):
        parts = gen.evaluate(t, state)
        return Parts(parts.velocity, parts.diffusion)

    bare = MarkovGenerator(gen.space, moving, {"velocity", "diffusion"})
    x = {"x": torch.randn(6, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))}
    t = torch.linspace(0.1, 0.9, 6, dtype=DOUBLE)
    found = corrected(bare, lambda s, y: made.log_density(s, y["x"]))(t, x).potential
    assert torch.allclose(found, gen(t, x).potential, atol=1e-10)


def test_presets_refuse_what_has_no_meaning():
    q = FieldExpert(lambda t, x: (0 * x, -x), (1,), "q")
    with pytest.raises(DomainError, match="a factor or more"):
        product()
    with pytest.raises(DomainError, match="starts where the expert does"):
        tilted(q, lambda x: x[:, 0], lambda t: 1 - t)


def test_guidance_takes_a_strength_that_moves():
    c, n = (FieldExpert(lambda t, x: (0 * x, -x), (1,), name) for name in ("c", "n"))
    made = guided(c, n, lambda t: 2 * t)
    assert made.powers(0.25) == [1.5, -0.5]
    assert [float(g.rate(torch.tensor([0.3]))) for g in made.exponents] == [2.0, -2.0]
