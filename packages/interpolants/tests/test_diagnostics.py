"""Diagnostics and geometry: shapes, dtypes, empty batches, words, refusals."""

import math

import pytest
import torch

from genpath.couplings import Pairs
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.spaces import Euclidean
from genpath_interpolants.diagnostics import (
    MarginalReport,
    Residuals,
    characteristic_residual,
    continuity_residual,
    fokker_planck_residual,
    marginal_report,
    orthogonality,
    weak_residual,
)
from genpath_interpolants.features import Bumps, Joined, Waves, random_features
from genpath_interpolants.geometry import (
    add_gauge,
    crossing,
    curl_norm,
    cyclical_gap,
    flow_geometry,
    gradient_part,
    jacobian,
    kinetic_action,
    least_monotone,
    nearest_neighbours,
    row_divergence,
)
from genpath_interpolants.presets import linear

DOUBLE = torch.float64


def still(t, x):
    return torch.zeros_like(x)


def ball(t, x):
    return -0.5 * x.flatten(1).square().sum(1) + 0 * t


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (12,)])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_features_of_events_of_any_shape(shape, dtype, rng):
    x = torch.randn(7, *shape, generator=rng, dtype=dtype)
    features = random_features(x, 4, rng)
    for rows in (x, x[:0]):
        values = features.value(rows), features.along(rows, rows), features.laplacian(rows)
        for value in values:
            assert value.shape == (len(rows), 12) and value.dtype == dtype
            assert torch.isfinite(value).all()
    assert (features.value(x).abs() <= 1 + 1e-6).all()


def test_laplacians_in_many_dimensions(rng):
    x = torch.randn(4, 12, generator=rng, dtype=DOUBLE)
    features = Joined((Waves(x[:2]), Bumps(x[:3] + 0.1, 2.0)))
    second = torch.func.hessian(lambda y: features.value(y[None])[0])
    found = torch.stack([second(row).diagonal(dim1=1, dim2=2).sum(1) for row in x])
    torch.testing.assert_close(features.laplacian(x), found)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_residuals_from_draws_on_events_of_any_shape(shape, rng):
    path = linear(Euclidean(*shape), "sqrt")
    pairs = Pairs(*torch.randn(2, 50, *shape, generator=rng))
    features = random_features(pairs.x1, 2, rng)
    assert weak_residual(path, still, pairs, features, rng, start=0.1, end=0.2).z.shape == (6,)
    k = torch.randn(5, *shape, generator=rng)
    assert characteristic_residual(path, still, pairs, k, 0.4, rng).z.shape == (10,)
    size = max(math.prod(shape), 1)
    found = orthogonality(pairs.x0, pairs.x1, features.value(pairs.x0))
    assert found.z.shape == (6, size) and found.count == 50
    report = marginal_report(path, still, pairs, rng, edges=(0.0, 0.3, 1.0), count=2)
    assert report.worst.shape == report.speed.shape == report.leaves.shape == (2,)
    assert len(str(report).splitlines()) == 3


def test_the_draws_of_a_seed_give_the_same_residuals(rng):
    path = linear(Euclidean(2), "sqrt")
    pairs = Pairs(*torch.randn(2, 50, 2, generator=rng))
    features = random_features(pairs.x1, 2, rng)
    first, second = (
        weak_residual(path, still, pairs, features, torch.Generator().manual_seed(3)).means
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_rounding_alone_is_no_finding(rng):
    path = linear(Euclidean(1))
    x0 = torch.randn(200, 1, generator=rng)
    pairs = Pairs(x0, x0 + 1)  # a shift: ẋ = 1 without any spread
    found = characteristic_residual(
        path, lambda t, x: torch.ones_like(x) * (1 + 1e-7), pairs, torch.ones(1, 1), 0.5, rng
    )
    assert found.worst < found.bound()


def test_a_report_says_where_and_how_fast():
    residuals = Residuals(torch.tensor([[0.0], [0.2]]), torch.tensor([[0.1], [0.01]]), 9)
    report = MarginalReport((0.0, 0.5, 1.0), residuals)
    assert report.leaves.tolist() == [False, True]
    assert math.isclose(float(report.speed[1]), 0.4, rel_tol=1e-6)
    first, second = str(report).splitlines()[1:]
    assert first.endswith("stays") and second.endswith("leaves") and "20.0" in second


def test_residuals_of_nothing_and_of_exact_zeros():
    none = Residuals(torch.zeros(0), torch.zeros(0), 5)
    assert none.worst == 0.0
    zero = Residuals(torch.zeros(2), torch.zeros(2), 5)
    assert zero.z.tolist() == [0.0, 0.0] and zero.bound() > 3


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_point_residuals_are_one_per_row(dtype, rng):
    eye = 2 * torch.eye(3, dtype=dtype)

    def spread(t, x):
        return eye.expand(len(x), 3, 3)

    for count in (4, 0):
        x = torch.randn(count, 3, generator=rng, dtype=dtype)
        for diffusion in (1.0, eye, lambda t, x: 1 + 0 * t, spread):
            found = fokker_planck_residual(ball, lambda t, x: -x, diffusion, 0.3, x)
            assert found.shape == (count,) and found.dtype == dtype
            assert found.abs().sum() < 1e-5
            back = fokker_planck_residual(
                ball, lambda t, x: x, diffusion, 0.3, x, direction="backward"
            )
            assert back.abs().sum() < 1e-5
        assert continuity_residual(ball, still, 0.3, x).shape == (count,)


def test_a_continuity_residual_on_pictures(rng):
    x = torch.randn(4, 2, 3, generator=rng, dtype=DOUBLE)
    assert continuity_residual(ball, still, 0.5, x).abs().max() == 0


def test_geometry_keeps_shapes(rng):
    for count in (3, 0):
        x = torch.randn(count, 2, 3, generator=rng)
        assert jacobian(lambda t, x: x.sin(), 0.5, x).shape == (count, 6, 6)
        assert curl_norm(lambda t, x: x.sin(), 0.5, x).shape == (count,)
        found = flow_geometry(lambda t, x: x, x, 4)
        assert found.displacement.shape == x.shape and found.action.shape == (count,)
    y = torch.randn(5, 2, generator=rng)
    density = ball
    for stream in (
        lambda t, x: x[:, 0] * ball(t, x).exp(),
        lambda t, x: torch.eye(2).expand(5, 2, 2),
    ):
        assert add_gauge(still, stream, density)(torch.zeros(5), y).shape == (5, 2)
    symmetric = add_gauge(still, lambda t, x: x[:, :, None] * x[:, None, :], density)
    assert symmetric(torch.zeros(5), y).abs().max() == 0, "the symmetric part is not used"


def test_the_divergence_of_a_matrix_is_by_rows():
    def rows(t, x):
        return torch.stack([x, torch.zeros_like(x)], 1)  # M = [[x₁, x₂], [0, 0]]

    assert row_divergence(rows, torch.zeros(1), torch.ones(1, 2)).tolist() == [[2.0, 0.0]]


def test_where_the_gauge_vanishes_an_underflowing_density_does_no_harm():
    far = torch.tensor([[60.0, 0.0]])
    gauge = add_gauge(still, lambda t, x: (1 - x.square().sum(1)).clamp_min(0) ** 3, ball)
    assert torch.equal(gauge(torch.zeros(1), far), torch.zeros(1, 2))


def test_the_gradient_part_of_a_field(rng):
    x = torch.randn(4000, 2, generator=rng, dtype=DOUBLE)
    features = random_features(x, 6, rng)
    gradient = torch.stack(
        [features.along(x, e.expand_as(x))[:, 3] for e in torch.eye(2).double()], 1
    )
    part, share = gradient_part(gradient, features, x)
    torch.testing.assert_close(part, gradient)
    assert math.isclose(share, 1.0, rel_tol=1e-9)
    turned = torch.stack([-x[:, 1], x[:, 0]], 1)
    _, share = gradient_part(turned, features, x)
    assert share < 18 / 4000 * 5, "of 18 coefficients only noise"
    assert gradient_part(0 * x, features, x)[1] == 0.0


def test_estimates_say_their_error(rng):
    path, pairs = linear(Euclidean(2)), Pairs(*torch.randn(2, 10, 2, generator=rng))
    t = torch.rand(10, generator=rng)
    for found in (
        kinetic_action(path, lambda t, x: x, pairs, t, rng),
        crossing(path, lambda t, x: x, pairs, t, rng),
    ):
        assert found.error > 0 and " ± " in str(found)


@pytest.mark.parametrize("chunk", [1, 3, 1024])
def test_neighbours_do_not_depend_on_the_pieces(chunk, rng):
    x, data = torch.randn(8, 4, generator=rng), torch.randn(50, 4, generator=rng)
    whole = nearest_neighbours(x, data, metric="l2", count=2)
    pieces = nearest_neighbours(x, data, metric="l2", count=2, chunk=chunk)
    assert torch.equal(whole[0], pieces[0]) and torch.equal(whole[1], pieces[1])
    for found in nearest_neighbours(x[:0], data, count=2):
        assert found.shape == (0, 2)


X, PATH = torch.zeros(3, 2), linear(Euclidean(2))
ENDS = Pairs(X, X)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda r: Bumps(X, 0.0), DomainError, "width > 0"),
        (lambda r: random_features(X[:1], 2, r), DomainError, "two states or more"),
        (
            lambda r: weak_residual(PATH, still, ENDS, Waves(X), r, start=0.5, end=0.2),
            DomainError,
            "0 ≤ start < end ≤ 1",
        ),
        (
            lambda r: weak_residual(PATH, still, Pairs(X[:1], X[:1]), Waves(X), r),
            DomainError,
            "two draws or more",
        ),
        (lambda r: orthogonality(X, X[:, :1], X), ShapeError, "prediction and target have one"),
        (lambda r: orthogonality(X, X, X[:2]), ShapeError, "one row of features each"),
        (
            lambda r: fokker_planck_residual(ball, still, 1.0, 0.5, X, direction="up"),
            DomainError,
            "forward or backward",
        ),
        (
            lambda r: add_gauge(still, ball, ball)(torch.zeros(3), X[:, :1]),
            CapabilityError,
            "d ≥ 2",
        ),
        (
            lambda r: add_gauge(still, ball, ball)(torch.zeros(3), torch.zeros(3, 3)),
            CapabilityError,
            "a function ψ is for the plane",
        ),
        (lambda r: flow_geometry(still, X, 3), DomainError, "steps is even"),
        (
            lambda r: kinetic_action(PATH, still, Pairs(X[:1], X[:1]), torch.ones(1) / 2, r),
            DomainError,
            "two draws or more",
        ),
        (lambda r: nearest_neighbours(X, X[:, :1]), ShapeError, "have one shape"),
        (lambda r: nearest_neighbours(X, X, metric="l3"), DomainError, "metric is l1 or l2"),
        (lambda r: nearest_neighbours(X, X, count=4), DomainError, "at least count"),
        (lambda r: least_monotone(X, X[:2]), ShapeError, "pair up row by row"),
        (lambda r: cyclical_gap(X[:1], X[:1]), ShapeError, "pair up row by row"),
    ],
)
def test_refusals(call, error, words, rng):
    with pytest.raises(error, match=words):
        call(rng)
