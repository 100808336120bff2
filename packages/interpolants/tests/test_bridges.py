"""Schrödinger bridges: shapes, dtypes, empty batches, refusals, and networks that are trained."""

import math

import pytest
import torch

from genpath import Euler, TimeGrid, integrate
from genpath.couplings import Coupling, Independent, Pairs
from genpath.errors import DomainError, NumericalError, ShapeError
from genpath.laws import Gaussian
from genpath.networks import MLP
from genpath.spaces import Euclidean
from genpath_interpolants.bridges import (
    DriftFit,
    EndsNetwork,
    GaussianBridges,
    MaxMin,
    SBResidual,
    SchroedingerProblem,
    StaticBridge,
    hopf_cole,
    is_reachable,
    iterative_markovian_fitting,
)


@pytest.fixture
def bridge(rng):
    x0, x1 = torch.randn(6, 2, generator=rng), torch.randn(8, 2, generator=rng)
    return StaticBridge(x0, x1, 0.4)


def test_fields_keep_dtype_and_take_empty_batches(bridge, rng):
    assert isinstance(bridge, Coupling) and bridge.path.latent
    for count in (0, 3):
        x = torch.randn(count, 2, generator=rng)
        for field in ("drift", "backward_drift", "velocity", "score"):
            found = getattr(bridge, field)(0.3, x)
            assert found.shape == (count, 2) and found.dtype == torch.float32
        assert bridge.log_prob(0.3, x).shape == bridge.potential(0.3, x).shape == (count,)
        assert bridge.pairs(count, rng).x1.shape == (count, 2)


def test_fields_are_finite_at_the_ends(bridge):
    x = torch.zeros(2, 2)
    for t in (0.0, 1.0):
        assert torch.isfinite(bridge.drift(t, x)).all()
        assert torch.isfinite(bridge.score(t, x)).all()


def test_its_process_ends_at_the_second_sample(bridge, rng):
    grid = TimeGrid.uniform(400, 0.0, 0.9975)
    start = bridge.pairs(400, rng).x0
    end = integrate(Euler(), bridge.generator(), start, grid, rng).state
    nearest = torch.cdist(end, bridge.x1).min(1)
    assert float(nearest.values.quantile(0.95)) < 0.2
    counts = torch.bincount(nearest.indices, minlength=8) / 400
    assert float((counts - 1 / 8).abs().max()) < 4.5 * math.sqrt(1 / 8 / 400) + 0.01


def test_static_refusals(rng):
    x = torch.randn(5, 2, generator=rng)
    with pytest.raises(ShapeError, match=r"\(n, d\) and \(m, d\)"):
        StaticBridge(x, x[:, :1], 0.1)
    with pytest.raises(DomainError, match="one row or more"):
        StaticBridge(x, x[:0], 0.1)
    with pytest.raises(DomainError, match="ε > 0"):
        StaticBridge(x, x, 0.0)
    with pytest.raises(NumericalError, match="raise iterations, eps or tolerance"):
        StaticBridge(x, 3 * x.flip(0) + 1, 1e-3, iterations=1, tolerance=1e-9)


def test_other_refusals():
    one = torch.ones(1, 1)
    with pytest.raises(DomainError, match="ε > 0"):
        SchroedingerProblem(Gaussian((1,)), Gaussian((1,)), -1.0)
    with pytest.raises(DomainError, match="OptimalTransport"):
        hopf_cole(lambda t, x: t, 0.0)
    with pytest.raises(DomainError, match="semi-definite"):
        GaussianBridges(one, one, 2 * one, 0.1)
    with pytest.raises(ShapeError, match=r"\(d, d\)"):
        GaussianBridges(one, torch.ones(2, 2), one, 0.1)
    with pytest.raises(DomainError, match="two rounds"):
        law = Gaussian((1,))
        iterative_markovian_fitting(law, law, 0.1, lambda *a: None, torch.Generator(), rounds=1)
    with pytest.raises(DomainError, match="networks"):
        MaxMin(lambda t, x: x, lambda t, a, b: a, 0.1).fit(Independent(law, law), torch.Generator())


def test_normal_bridges_in_float32_and_with_means():
    eye = torch.eye(2)
    found = GaussianBridges(eye, eye, 0 * eye, 0.3, torch.zeros(2), torch.ones(2)).projected()
    assert found.cross.dtype == torch.float32
    x = torch.zeros(3, 2)
    assert found.drift(0.5, x).shape == (3, 2) and found.drift(0.5, x[:0]).shape == (0, 2)
    centred = GaussianBridges(eye, eye, found.cross, 0.3)
    assert found.energy() == pytest.approx(centred.energy() + 2, abs=1e-4)


def test_residuals_take_empty_batches():
    found = SBResidual(lambda t, x: -x.square().sum(1), lambda t, x: x[:, 0] * t, 0.2)
    for part in ("fokker_planck", "hamilton_jacobi", "heat"):
        assert getattr(found, part)(0.5, torch.zeros(0, 3)).shape == (0,)


def test_reach_with_a_tolerance():
    v, g = torch.tensor([[[1.0, 0.0], [0.0, 0.5]]]), torch.tensor([0.6])
    assert not is_reachable(v, g) and is_reachable(v, g, tolerance=0.2)


def test_networks_find_the_bridge(rng):
    """N(−1, 0.5) to N(1, 1) with ε = 0.4: C = √(ε² + s0 s1) − ε = 0.41 about the means."""
    base, data = Gaussian((1,), -1.0, 0.5**0.5), Gaussian((1,), 1.0, 1.0)
    torch.manual_seed(0)
    networks = [MLP(1, (1,), width=24, depth=1, time_features=4) for _ in range(2)]
    fit = DriftFit(*networks, eps=0.4, rng=rng, steps=250, batch=256, lr=5e-3)
    problem = SchroedingerProblem(base, data, 0.4)
    found = problem.iterated(fit, rng, rounds=4, rows=4000, steps=25)
    x0, x1 = found.coupling.x0[:, 0], found.coupling.x1[:, 0]
    cross = float(((x0 + 1) * (x1 - 1)).mean())
    assert abs(cross - 0.412) < 0.08  # independent ends: 0; optimal transport: 0.71
    assert len(fit.losses) == 4
    space, grid = Euclidean(1), TimeGrid.uniform(25)
    end = integrate(Euler(), found.generator(space), base.sample(4000, rng), grid, rng).state
    assert abs(float(end.mean()) - 1) < 0.1 and abs(float(end.std()) - 1) < 0.12
    start = integrate(
        Euler(), found.backward_generator(space), data.sample(4000, rng), grid, rng
    ).state
    assert abs(float(start.mean()) + 1) < 0.1 and abs(float(start.std()) - 0.71) < 0.12


def test_the_game_is_played_and_the_ends_are_kept(rng):
    base, data = Gaussian((1,), 0.0, 0.7**0.5), Gaussian((1,), 0.0, 2.5**0.5)
    torch.manual_seed(1)
    drift = MLP(1, (1,), width=16, depth=1, time_features=4)
    bend = EndsNetwork(MLP(2, (1,), width=16, depth=1, time_features=4))
    game = MaxMin(drift, bend, 0.4)
    values = game.fit(
        Independent(base, data), rng, steps=40, inner=3, batch=128, lr=5e-3, outer_lr=3e-3
    )
    assert len(values) == 40 and all(math.isfinite(v) for v in values)
    t = torch.rand(2000, generator=rng)
    x0, x1 = base.sample(2000, rng), data.sample(2000, rng)
    value = game.value(Pairs(x0, x1), t, rng)
    assert value.shape == (2000,) and torch.isfinite(value).all()
    still, _ = MaxMin(drift, lambda t, a, b: 0 * a, 0.4).interpolant(t, x0, x1)
    bent, _ = game.interpolant(t, x0, x1)
    assert not torch.equal(bent, still)
    ends = game.interpolant(torch.tensor([0.0, 1.0]), x0[:2], x1[:2])[0]
    assert torch.equal(ends, torch.stack([x0[0], x1[1]]))
