"""Boxes: shapes, dtypes, the ends of time, and refusals."""

import pytest
import torch

from genpath import ODE, Euclidean, Gaussian, Model
from genpath.couplings import Pairs
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.likelihoods import ODELikelihood
from genpath_interpolants import presets
from genpath_interpolants.boxes import BoxMarginal, BoxMixture, checkerboard_boxes
from genpath_interpolants.data import Checkerboard
from genpath_interpolants.mixtures import FIELDS, GaussianMixture, MixtureMarginal
from genpath_interpolants.objectives import excess_risk

PLANE = Euclidean(2)
BOARD = checkerboard_boxes(Checkerboard(4, 4.0))


def make(gamma="sqrt", law=BOARD):
    return BoxMarginal(presets.linear(PLANE, gamma), law)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", ["none", "sqrt", "quadratic"])
def test_fields_keep_shape_and_dtype_and_are_finite(dtype, gamma, rng):
    one = make(gamma, BOARD.to(dtype))
    for count in (5, 0):
        x = 3 * torch.randn(count, 2, generator=rng, dtype=dtype)
        for t in (0.0, 1e-7, 0.5, 1.0):
            for name in FIELDS:
                value = one.field(name)(t, x)
                assert value.shape == x.shape and value.dtype == dtype
                assert torch.isfinite(value).all(), (name, t)
            both = one.field("velocity+score")(t, x)
            assert both.shape == (count, 2, 2)
            torch.testing.assert_close(both[:, 0], one.velocity(t, x))
            torch.testing.assert_close(both[:, 1], one.score(t, x))
            density = one.log_prob(t, x)
            assert density.shape == (count,) and density.dtype == dtype
            assert torch.isfinite(density).all()


def test_fields_of_one_pass_are_the_fields(rng):
    one, x, t = make(), torch.randn(7, 2, generator=rng), torch.rand(7, generator=rng)
    found = one.fields((*FIELDS, "log_prob"), t, x)
    assert torch.equal(found["log_prob"], one.log_prob(t, x))
    for name in FIELDS:
        assert torch.equal(found[name], getattr(one, name)(t, x))


def test_events_of_any_shape(rng):
    law = BoxMixture(torch.zeros(1, 2, 3), torch.ones(1, 2, 3))
    one = BoxMarginal(presets.linear(Euclidean(2, 3), "sqrt"), law)
    x = torch.randn(4, 2, 3, generator=rng)
    assert one.velocity(0.3, x).shape == law.sample(4, rng).shape == (4, 2, 3)
    assert law.event_shape == (2, 3) and law.moments()[1].shape == (6, 6)


def test_a_small_box_is_a_narrow_normal_component(rng):
    """U of side h has the variance h²/12; what is left is of order h⁴."""
    side, centre = 0.02, torch.tensor([[0.7, -0.4]], dtype=torch.float64)
    box = BoxMixture(centre - side / 2, centre + side / 2)
    std = torch.full((1,), side / 12**0.5, dtype=torch.float64)
    normal = GaussianMixture(torch.ones(1, dtype=torch.float64), centre, std)
    path, x = presets.linear(PLANE, "sqrt"), torch.randn(20, 2, generator=rng, dtype=torch.float64)
    ours, theirs = BoxMarginal(path, box), MixtureMarginal(path, normal)
    for name in FIELDS:
        gap = (ours.field(name)(0.6, x) - theirs.field(name)(0.6, x)).abs().max()
        assert gap < 1e-6, name


def test_the_exact_velocity_has_the_density_of_its_law(rng):
    one = make("quadratic", BOARD.to(torch.float64))
    model = Model(one.velocity, presets.linear(PLANE, "quadratic"), Gaussian((2,)))
    x = 0.9 * one.law.sample(50, rng)
    gen, t = model.generator(ODE()), 0.7
    from genpath_interpolants.likelihoods import density

    found = density(gen, x, t, Gaussian((2,)), rng, steps=40).value
    assert (found - one.log_prob(t, x)).abs().max() < 1e-5


def test_it_is_an_oracle_for_excess_risk(rng):
    one, path = make(), presets.linear(PLANE, "sqrt")
    model = Model(one.velocity, path, Gaussian((2,)))
    pairs = Pairs(torch.randn(50, 2, generator=rng), one.law.sample(50, rng))
    times = torch.rand(50, generator=rng)
    assert excess_risk(model, one.field("velocity"), pairs, times, rng).value == 0


def test_an_exact_model_scores_data(rng):
    one = make("sqrt", BOARD)
    model = Model(one.velocity, presets.linear(PLANE, "sqrt"), Gaussian((2,)))
    score = ODELikelihood(steps=20)(model, one.law.sample(10, rng), rng)
    assert torch.isfinite(score.value).all()


def test_a_point_on_a_face_is_inside():
    law = BoxMixture(torch.tensor([[0.0]]), torch.tensor([[2.0]]))
    assert law.log_prob(torch.tensor([[0.0], [2.0]])).exp().tolist() == [0.5, 0.5]


def test_weights_are_proportional_to_volumes():
    corners = torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    assert BoxMixture(*corners).weights.tolist() == pytest.approx([0.25, 0.75])


def test_draws_follow_their_generator(rng):
    state = rng.get_state()
    first = BOARD.sample(5, rng)
    rng.set_state(state)
    assert torch.equal(first, BOARD.sample(5, rng))
    assert BOARD.sample(0, rng).shape == (0, 2)
    assert BOARD.log_prob(BOARD.sample(100, rng)).isfinite().all()


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ((torch.zeros(2, 1), torch.ones(3, 1)), ShapeError, r"corners are \(k, \*event\)"),
        ((torch.zeros(0, 1), torch.ones(0, 1)), ShapeError, "k ≥ 1"),
        ((torch.zeros(1, 1), torch.zeros(1, 1)), DomainError, "lower < upper"),
        ((torch.zeros(1, 1), torch.ones(1, 1) * torch.inf), DomainError, "both finite"),
        ((torch.zeros(1, 1), torch.ones(1, 1).double()), DomainError, "one dtype"),
        ((torch.zeros(1, 1).int(), torch.ones(1, 1).int()), DomainError, "floating numbers"),
        ((torch.zeros(1, 1), torch.ones(1, 1), torch.ones(2) / 2), ShapeError, "one weight per"),
        ((torch.zeros(1, 1), torch.ones(1, 1), torch.full((1,), 0.9)), DomainError, "sum to 1"),
    ],
)
def test_boxes_that_are_none_are_refused(parts, error, words):
    with pytest.raises(error, match=words):
        BoxMixture(*parts)


def test_refusals_of_the_marginal():
    with pytest.raises(DomainError, match="σ > 0"):
        BoxMarginal(presets.linear(PLANE), BOARD, 0.0)
    with pytest.raises(ShapeError, match="event shape of the boxes"):
        make().velocity(0.5, torch.zeros(3, 3))
    with pytest.raises(CapabilityError, match="no field 'energy'"):
        make().field("velocity+energy")
    with pytest.raises(CapabilityError, match="no field 'energy'"):
        make().fields(("energy",), 0.5, torch.zeros(3, 2))
