"""Couplings by optimal transport: shapes, dtypes, facts, empty batches, refusals, configs."""

import sys

import pytest
import torch

from genpath.couplings import Coupling
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.laws import Empirical, Gaussian, ProductLaw
from genpath_interpolants.couplings import (
    Entropic,
    OptimalTransport,
    half_squared_distance,
    optimal_permutation,
    sinkhorn,
)

BASE, DATA = Gaussian((2,)), Gaussian((2,), mean=2.0)


def made(kind, base=BASE, data=DATA, **options):
    if kind is Entropic:
        options = {"eps": 0.3, **options}
    return kind(base, data, **options)


@pytest.fixture(params=[OptimalTransport, Entropic], ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.mark.parametrize("rows", [None, 1, 4, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 7, 12])
def test_every_count_with_every_size_of_problem(kind, rows, count, rng):
    pairs = made(kind, rows=rows).pairs(count, rng)
    assert pairs.x0.shape == pairs.x1.shape == (count, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_draws_are_those_of_the_laws(kind, dtype, rng):
    rows = torch.randn(40, 3, generator=rng, dtype=dtype)
    base = Gaussian((3,), dtype=dtype)
    pairs = made(kind, base, Empirical(rows), rows=8).pairs(20, rng)
    assert pairs.x0.dtype == pairs.x1.dtype == dtype
    assert isinstance(made(kind), Coupling)
    assert (pairs.x1[:, None] == rows).all(2).any(1).all()


def test_problems_do_not_mix(kind, rng):
    """Row k of x1 is drawn in the problem of row k of x0."""
    labels = iter([torch.arange(12)])

    class Numbered:
        def sample(self, count, rng):
            return {"x": torch.randn(count, 2, generator=rng), "row": next(labels)[:count]}

    pairs = made(kind, ProductLaw({"x": BASE}), Numbered(), rows=4).pairs(12, rng)
    assert torch.equal(pairs.x1["row"] // 4, torch.arange(12) // 4)


def test_images_are_points(kind, rng):
    image = Gaussian((1, 4, 4))
    assert made(kind, image, image, rows=5).pairs(10, rng).x1.shape == (10, 1, 4, 4)


def test_numbers_on_the_line_need_no_scipy(monkeypatch, rng):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    line = Gaussian(())
    assert OptimalTransport(line, line).pairs(5, rng).x1.shape == (5,)
    with pytest.raises(CapabilityError, match=r"genpath-interpolants\[ot\]"):
        OptimalTransport(BASE, DATA).pairs(5, rng)


def test_facts_travel_and_other_leaves_are_refused(kind, rng):
    rows = {"x": torch.randn(9, 2, generator=rng), "label": torch.arange(9)}
    data = Empirical(rows)
    pairs = made(kind, ProductLaw({"x": BASE}), data).pairs(20, rng)
    assert torch.equal(pairs.x1["x"], rows["x"][pairs.x1["label"]])
    with pytest.raises(ShapeError, match="real-valued leaves of x0"):
        made(kind, BASE, data).pairs(4, rng)
    with pytest.raises(ShapeError, match="real-valued leaves of x0"):
        made(kind, Gaussian((3,)), DATA).pairs(4, rng)
    with pytest.raises(ShapeError, match="real-valued leaves of x0"):
        made(kind, ProductLaw({"label": BASE}), data).pairs(4, rng)


def test_refusals(kind):
    with pytest.raises(DomainError, match="one row or more"):
        made(kind, rows=0)
    with pytest.raises(DomainError, match="ε = 0 is OptimalTransport"):
        Entropic(BASE, DATA, eps=0.0)
    with pytest.raises(ShapeError, match="as many points"):
        optimal_permutation(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(DomainError, match="positive"):
        sinkhorn(torch.zeros(2, 2), 0.0)


def test_more_noise_is_more_like_independence(rng):
    def paid(eps):
        pairs = Entropic(BASE, DATA, eps, rows=100).pairs(2000, torch.Generator().manual_seed(0))
        return float((pairs.x1 - pairs.x0).square().sum(1).mean())

    costs = [paid(eps) for eps in (0.01, 0.1, 1.0, 100.0)]
    assert costs == sorted(costs)
    assert abs(costs[-1] - 12) < 1  # E|x1 − x0|² of independent ends: 8 + 2 + 2


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0, 0)])
def test_empty_problems(shape):
    plan = sinkhorn(torch.zeros(shape), 1.0)
    assert plan.plan.shape == shape and plan.error == 0


def test_hard_problems_stay_finite(rng):
    """Costs a thousand times the regularisation underflow e^{−c/r}, in float32 as well."""
    x, y = torch.randn(30, 2, generator=rng), 20 + torch.randn(30, 2, generator=rng)
    plan = sinkhorn(half_squared_distance(x, y), 0.05, iterations=3000, tolerance=1e-2)
    assert torch.isfinite(plan.f).all() and torch.isfinite(plan.g).all()
    sums = plan.feasible.sum(0), plan.feasible.sum(1)
    assert all(torch.allclose(s, torch.full((30,), 1 / 30), rtol=1e-4) for s in sums)


def test_the_plan_is_that_of_pot(rng):
    ot = pytest.importorskip("ot")
    x, y = (torch.randn(n, 3, generator=rng, dtype=torch.float64) for n in (20, 25))
    cost, r = half_squared_distance(x, y), 0.4
    theirs = ot.sinkhorn([], [], cost.numpy(), r, method="sinkhorn_log", stopThr=1e-12,
                         numItermax=20_000)  # fmt: skip
    ours = sinkhorn(cost, r, tolerance=1e-12).plan
    assert torch.allclose(ours, torch.from_numpy(theirs), atol=1e-12)
    exact = ot.emd2([], [], half_squared_distance(x, y[:20]).numpy())
    best = optimal_permutation(x, y[:20])
    assert 0.5 * (y[best] - x).square().sum(1).mean() == pytest.approx(exact, rel=1e-12)


CONFIG = """
seed: 3
device: cpu
threads: 1
data: interpolants.gaussian_mixture
base: gaussian
path: {name: interpolants.linear, gamma: sqrt, gamma_scale: 0.4}
coupling: %s
network: {name: mlp, width: 8, depth: 1}
predict: velocity
objective: regression
train: {steps: 2, batch: 10}
dynamics: ode
sampler: {name: heun, steps: 4}
"""


@pytest.mark.parametrize(
    "coupling",
    [
        "{name: interpolants.optimal_transport, rows: 5}",
        "{name: interpolants.optimal_transport, rows: null}",
        "{name: interpolants.entropic, eps: 0.2}",
    ],
)
def test_configs_build(coupling, rng):
    from genpath.config.load import read_config
    from genpath.run.assembly import assemble

    assembly = assemble(read_config(CONFIG % coupling, []))
    pairs = assembly.coupling.pairs(11, rng)
    assert pairs.x0.shape == pairs.x1.shape and len(pairs.x0) == 11


def test_entropic_needs_its_noise():
    from genpath.config.load import read_config
    from genpath.errors import ConfigError

    with pytest.raises(ConfigError, match="eps"):
        read_config(CONFIG % "interpolants.entropic", [])
