"""Paths through snapshots: shapes, refusals, and a model that is trained on one."""

import pytest
import torch

from genpath import ODE, SDE, Euler, Model
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.networks import MLP
from genpath.objectives import Regression
from genpath.paths import ProbabilityPath
from genpath.spaces import Euclidean
from genpath_interpolants.snapshots import MultiTimePath, Snapshots, push, snapshot_coupling


@pytest.fixture
def data(rng):
    states = tuple(
        torch.tensor([float(k), -float(k)]) + 0.3 * torch.randn(60, 2, generator=rng)
        for k in (0, 1, 3)
    )
    return Snapshots(states, (0.0, 1.0, 3.0))


def test_snapshots_from_rows():
    rows, labels = torch.arange(12.0).reshape(6, 2), torch.tensor([5, 5, 2, 2, 2, 9])
    found = Snapshots.of(rows, labels)
    assert found.times == (2.0, 5.0, 9.0)
    assert [len(x) for x in found.states] == [3, 2, 1]
    assert found.knots("index") == (0.0, 0.5, 1.0)
    assert found.clock(5.0) == found.knots()[1]
    assert found.space == Euclidean(2)


def test_refusals(data):
    one = torch.zeros(3, 2)
    with pytest.raises(DomainError, match="increasing times"):
        Snapshots((one, one), (1.0, 1.0))
    with pytest.raises(DomainError, match="two or more"):
        Snapshots((one,), (1.0,))
    with pytest.raises(ShapeError, match="one space"):
        Snapshots((one, one[:, :1]), (0.0, 1.0))
    with pytest.raises(ShapeError, match="one space"):
        Snapshots((one, one[:0]), (0.0, 1.0))
    with pytest.raises(DomainError, match="entropic with ε"):
        snapshot_coupling(data, "entropic")
    with pytest.raises(DomainError, match="pairing is"):
        snapshot_coupling(data, "nearest")
    with pytest.raises(DomainError, match="rise from 0 to 1"):
        MultiTimePath(Euclidean(2), (0.0, 0.5))
    with pytest.raises(DomainError, match="gamma_scale"):
        MultiTimePath(Euclidean(2), (0.0, 1.0), -1.0)
    with pytest.raises(CapabilityError, match=r"R\^d"):
        MultiTimePath(object(), (0.0, 1.0))
    path = MultiTimePath(Euclidean(2), data.knots())
    with pytest.raises(ShapeError, match="SnapshotCoupling"):
        path.draw(0.5, one, one, torch.Generator())
    with pytest.raises(CapabilityError, match="choose one of velocity"):
        path.target("noise", None)
    with pytest.raises(DomainError, match="start < end"):
        push(None, ODE(), Euler(), one, 0.5, 0.5, torch.Generator())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_shapes_and_dtypes(data, dtype, scale, rng):
    path = MultiTimePath(Euclidean(2), data.knots(), scale)
    assert isinstance(path, ProbabilityPath) and path.breakpoints == (1 / 3,)
    for count in (0, 5):
        x0, x1 = (torch.randn(count, 2, 2, generator=rng, dtype=dtype) for _ in range(2))
        draw = path.draw(torch.linspace(0.05, 0.95, count, dtype=dtype), x0, x1, rng)
        assert draw.state.shape == (count, 2) and draw.state.dtype == dtype
        for name, prediction in path.predictions.items():
            target = path.target(name, draw)
            assert target.shape == (count, *prediction.output_shape) and target.dtype == dtype
            assert torch.isfinite(target).all()
        speed = path.conditional_generator(x0, x1)(draw.t, draw.state).velocity
        assert torch.allclose(speed, path.target("velocity", draw), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "pairing, scale", [("independent", 0.0), ("optimal_transport", 0.0), ("entropic", 0.1)]
)
def test_a_trained_model_goes_through(data, pairing, scale, rng):
    path = MultiTimePath(data.space, data.knots(), scale)
    coupling = snapshot_coupling(data, pairing, eps=scale / 2 or None, rows=16)
    predict = "interpolant_velocity+noise" if scale else "velocity"
    torch.manual_seed(0)
    network = MLP(2, path.predictions[predict].output_shape, width=32, depth=1, time_features=4)
    model = Model(network, path, data.base, predict)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(300):
        t = torch.rand(128, generator=rng)
        loss = Regression()(model, coupling.pairs(128, rng), t, rng).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for dynamics in (ODE(), SDE(eps=0.05)) if scale else (ODE(),):
        middle = push(model, dynamics, Euler(), data.states[0], 0.0, 1 / 3, rng)
        end = push(model, dynamics, Euler(), middle, 1 / 3, 1.0, rng)
        for found, true in ((middle, data.states[1]), (end, data.states[2])):
            assert float((found.mean(0) - true.mean(0)).abs().max()) < 0.25
            assert float((found.std(0) - true.std(0)).abs().max()) < 0.2
