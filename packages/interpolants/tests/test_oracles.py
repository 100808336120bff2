"""Oracles: shapes, dtypes, the ends of time, and refusals."""

from types import SimpleNamespace

import pytest
import torch

from genpath.couplings import Coupling
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath_interpolants.mixtures import FIELDS
from genpath_interpolants.oracles import (
    GaussianMarginal,
    GaussianPair,
    GaussianSchroedingerBridge,
    SineFlow,
    cumulants,
    smoothed_empirical,
    sure,
    two_points,
)
from genpath_interpolants.schedules import linear_schedule, variance_preserving_schedule

S0 = torch.tensor([[1.0, 0.3], [0.3, 0.7]])
S1 = torch.tensor([[0.6, -0.2], [-0.2, 1.4]])
ZERO = torch.zeros(2)


def make(schedule=None, dtype=torch.float32):
    parts = [p.to(dtype) for p in (ZERO, S0, ZERO + 1, S1, 0.2 * S0)]
    path = SimpleNamespace(schedule=schedule or linear_schedule("sqrt", 1.0))
    return GaussianMarginal(path, GaussianPair(*parts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fields_keep_shape_and_dtype_and_are_finite_at_the_ends(dtype, rng):
    bridge = GaussianSchroedingerBridge(S0.to(dtype), S1.to(dtype), 0.3)
    for one in (make(dtype=dtype), make(linear_schedule(), dtype), bridge.marginal):
        for count in (3, 0):
            x = torch.randn(count, 2, generator=rng, dtype=dtype)
            for t in (0.0, 0.5, 1.0):
                for name in FIELDS:
                    value = one.field(name)(t, x)
                    assert value.shape == x.shape and value.dtype == dtype
                    assert torch.isfinite(value).all(), (name, t)
                both = one.field("velocity+score")(t, x)
                assert both.shape == (count, 2, 2)
                torch.testing.assert_close(both[:, 0], one.velocity(t, x))
                torch.testing.assert_close(both[:, 1], one.score(t, x))
                assert one.log_prob(t, x).shape == one.divergence(t, x).shape == (count,)
                assert one.hessian(t, x).shape == (count, 2, 2)
                assert bridge.drift(t, x).dtype == dtype
                assert torch.isfinite(bridge.drift(t, x)).all()


def test_float32_is_near_float64(rng):
    x, t = torch.randn(100, 2, generator=rng), torch.rand(100, generator=rng)
    for name in FIELDS:
        wide = make(dtype=torch.float64).field(name)(t.double(), x.double())
        gap = (make().field(name)(t, x) - wide).abs().max()
        assert gap < 1e-6 * wide.abs().max(), name


def test_a_variance_preserving_pair_is_finite_at_both_ends(rng):
    eye = torch.eye(2)
    path = SimpleNamespace(schedule=variance_preserving_schedule())
    one = GaussianMarginal(path, GaussianPair(ZERO, eye, ZERO + 1, S1))
    x = torch.randn(3, 2, generator=rng)
    assert all(torch.isfinite(one.velocity(t, x)).all() for t in (0.0, 1.0))


def test_a_pair_and_a_bridge_are_couplings(rng):
    pair = GaussianPair(ZERO, S0, ZERO, S1)
    bridge = GaussianSchroedingerBridge(S0, S1, 0.3)
    for coupling in (pair, bridge):
        assert isinstance(coupling, Coupling)
        for count in (4, 0):
            pairs = coupling.pairs(count, rng)
            assert pairs.x0.shape == pairs.x1.shape == (count, 2)
    # a coupling that fixes x1 given x0 is on the border, and allowed
    GaussianPair(ZERO, S0, ZERO, S0, S0)


def test_little_laws(rng):
    assert two_points(3).sample(5, rng).shape == (5, 3)
    law = smoothed_empirical(torch.randn(7, 2, 2, generator=rng), 0.3)
    assert law.log_prob(law.sample(4, rng)).shape == (4,)
    flow = SineFlow(0.8)
    assert flow.sample(1.0, 5, rng).abs().max() <= torch.pi
    assert flow.velocity(0.5, torch.zeros(0)).shape == (0,)
    assert cumulants(torch.randn(10, 3, generator=rng)).shape == (4, 3)
    y = torch.randn(4, 2, 2, generator=rng)
    assert sure(y, 0 * y, torch.zeros(4), 0.5).shape == (4,)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: GaussianPair(ZERO, S0, ZERO, torch.eye(3)), ShapeError, "means are"),
        (lambda: GaussianPair(ZERO, S0, ZERO, S1, 3 * S0), DomainError, "positive definite"),
        (lambda: GaussianPair(ZERO, -S0, ZERO, S1), DomainError, "positive definite"),
        (lambda: GaussianPair(ZERO, S0.double(), ZERO, S1), DomainError, "one dtype"),
        (lambda: make().velocity(0.5, torch.zeros(2, 3)), ShapeError, "states are floating"),
        (lambda: make().field("energy"), CapabilityError, "no field 'energy'"),
        (lambda: make().flow(0.0, 1.0, torch.zeros(1, 2)), DomainError, "that commute"),
        (lambda: GaussianSchroedingerBridge(S0, S1, 0.0), DomainError, "ε > 0"),
        (lambda: GaussianSchroedingerBridge(S0, -S1, 0.1), DomainError, "s1 is positive definite"),
        (lambda: SineFlow(1.0).field("noise"), CapabilityError, "no field 'noise'"),
    ],
)
def test_refusals(build, error, words):
    with pytest.raises(error, match=words):
        build()
