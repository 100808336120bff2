"""Every public object against the core's contracts; no mathematics."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genpath.couplings import Pairs
from genpath.datasets import Dataset
from genpath.evaluation import Evaluation, Findings, Scene
from genpath.generators import flow
from genpath.grids import TimeGrid
from genpath.laws import DensityLaw, Gaussian, Law, ProductLaw
from genpath.likelihoods import ODELikelihood
from genpath.models import ODE, Model
from genpath.objectives import Regression
from genpath.paths import ProbabilityPath, ProductPath
from genpath.plugins.components import Collector
from genpath.samplers import Euler, RungeKutta, Solver, integrate
from genpath.spaces import Euclidean, Product, SmoothSpace
from genpath.tableaus import RK4
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
from genpath_manifold.data import airports
from genpath_manifold.evaluations import KernelBaseline, Map, Mass
from genpath_manifold.networks import sphere_mlp
from genpath_manifold.plugin import genpath_components

torch.set_num_threads(1)
# the program of docs/index.md: the block that is shown, and run when the pages are built
EXAMPLE = r'```python exec="true" source="above"[^\n]*\n(.*?)```'
NORTH = torch.tensor([0.0, 0.0, 1.0])
LAWS = {
    "uniform": UniformSphere(Sphere(2)),
    "von_mises_fisher": VonMisesFisher(NORTH, 20.0),
    "mixture": VonMisesFisherMixture(torch.eye(3), 20.0),
    "heat_kernel": SphereHeatKernel(NORTH, 0.5),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n, count, dtype=torch.float64, seed=0):
    return UniformSphere(Sphere(n), dtype).sample(count, seeded(seed))


class TestSpace:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_operations_keep_shape_and_dtype(self, n, dtype):
        space, x, y = Sphere(n), points(n, 7, dtype), points(n, 7, dtype, 1)
        assert isinstance(space, SmoothSpace)
        v = space.tangent_noise(x, seeded())
        for value in (
            space.step(x, v),
            space.log(x, y),
            space.transport(x, y, v),
            space.project(x),
        ):
            assert value.shape == (7, n + 1) and value.dtype == dtype
        for value in (space.distance(x, y), space.inner(x, v, v)):
            assert value.shape == (7,) and value.dtype == dtype
        assert space.tangent_basis(x).shape == (n, 7, n + 1)
        assert space.tangent_basis(x).dtype == dtype
        assert space.contains(space.step(x, v)).all() and not space.contains(2 * x).any()

    @pytest.mark.parametrize("dtype,bound", [(torch.float32, 2e-6), (torch.float64, 1e-14)])
    def test_the_basis_is_orthonormal_and_tangent_everywhere(self, dtype, bound):
        axes = torch.eye(3, dtype=dtype)
        x = torch.cat([points(2, 500, dtype), axes, -axes])
        basis = Sphere(2).tangent_basis(x)
        gram = torch.einsum("ibk,jbk->bij", basis, basis)
        assert (gram - torch.eye(2, dtype=dtype)).abs().max() < bound
        assert (basis * x).sum(-1).abs().max() < bound

    def test_operations_pass_through_vmap_and_jvp(self):
        space, x, y = Sphere(2), points(2, 6), points(2, 6, seed=1)
        basis = space.tangent_basis(x)
        stacked = torch.func.vmap(lambda v: space.step(x, v))(basis)
        assert torch.equal(stacked[1], space.step(x, basis[1]))
        for function in (lambda z: space.log(z, y), lambda z: space.tangent_basis(z)[0]):
            slope = torch.func.jvp(function, (x,), (basis[0],))[1]
            h = 1e-6
            forward, back = space.step(x, h * basis[0]), space.step(x, -h * basis[0])
            difference = (function(forward) - function(back)) / (2 * h)
            assert (slope - difference).abs().max() < 1e-7

    def test_nothing_is_nan_at_coincident_and_antipodal_points(self):
        space, x = Sphere(2), torch.eye(3, dtype=torch.float64)
        for y in (x, -x):
            for function in (space.distance, space.log):
                z = y.clone().requires_grad_()
                value = function(x, z)
                value.sum().backward()
                assert value.isfinite().all() and z.grad.isfinite().all()
            assert space.transport(x, y, space.tangent_basis(x)[0]).isfinite().all()
        assert torch.equal(space.log(x, -x), space.log(x, -x))
        assert torch.allclose(space.step(x, space.log(x, -x)), -x)
        assert space.contains(space.project(torch.zeros(1, 3))).all()

    def test_empty_batches(self):
        space, x = Sphere(2), torch.zeros(0, 3)
        v = space.tangent_noise(x, seeded())
        assert space.step(x, v).shape == space.log(x, x).shape == (0, 3)
        assert space.tangent_basis(x).shape == (2, 0, 3) and space.distance(x, x).shape == (0,)


class TestLaws:
    @pytest.mark.parametrize("name", LAWS)
    def test_draws_and_densities(self, name):
        law = LAWS[name]
        assert isinstance(law, Law) and isinstance(law, DensityLaw)
        x = law.sample(50, seeded(3))
        assert x.shape == (50, 3) and x.dtype == torch.float32
        assert Sphere(2).contains(x, 1e-6).all()
        assert torch.equal(x, law.sample(50, seeded(3)))
        assert law.log_prob(x).shape == (50,) and law.log_prob(x).dtype == x.dtype
        assert law.sample(0, seeded()).shape == (0, 3)
        assert law.log_prob(x[:0]).shape == (0,)

    def test_the_mixture_does_not_depend_on_the_chunk(self):
        means, x = points(2, 4000), points(2, 900, seed=1)
        whole = VonMisesFisherMixture(means, 100.0, chunk=8).log_prob(x)
        assert torch.allclose(whole, VonMisesFisherMixture(means, 100.0, chunk=1).log_prob(x))


class TestPath:
    @pytest.mark.parametrize("schedule", [None, late(0.02)])
    def test_ends_predictions_and_generator(self, schedule):
        path = GeodesicPath(Sphere(2), schedule) if schedule else GeodesicPath(Sphere(2))
        assert isinstance(path, ProbabilityPath)
        x0, x1 = points(2, 9), points(2, 9, seed=1)
        ends = [path.draw(t, x0, x1, seeded()).state for t in (0.0, 1.0)]
        assert torch.allclose(ends[0], x0) and torch.allclose(ends[1], x1)
        draw = path.draw(torch.linspace(0, 1, 9, dtype=torch.float64), x0, x1, seeded())
        for name, prediction in path.predictions.items():
            target = path.target(name, draw)
            assert prediction.output_shape == (3,) and prediction.tangent
            assert (target * draw.state).sum(-1).abs().max() < 1e-13
        parts = path.conditional_generator(x0, x1)(1.0, x1)
        assert parts.velocity.isfinite().all()
        assert path.draw(0.5, x0[:0], x1[:0], seeded()).state.shape == (0, 3)

    def test_antipodal_pairs_have_finite_losses(self):
        path, x = GeodesicPath(Sphere(2)), torch.eye(3)
        network = SphereMLP(schedule=path.schedule)
        model = Model(network, path, UniformSphere(Sphere(2)))
        loss = Regression()(model, Pairs(-x, x), torch.tensor([0.1, 0.5, 1.0]), seeded())
        loss.sum().backward()
        assert loss.isfinite().all() and network.layers[-1].weight.grad.isfinite().all()

    def test_a_product_with_a_sphere(self):
        path = ProductPath({"s": GeodesicPath(Sphere(2)), "v": GeodesicPath(Euclidean(2))})
        base = ProductLaw({"s": UniformSphere(Sphere(2), torch.float64),
                           "v": Gaussian((2,), dtype=torch.float64)})  # fmt: skip
        x0, x1 = base.sample(5, seeded(0)), base.sample(5, seeded(1))
        draw = path.draw(torch.full((5,), 0.3, dtype=torch.float64), x0, x1, seeded())
        assert torch.allclose(path.target("v.velocity", draw), x1["v"] - x0["v"])
        gen = path.conditional_generator(x0, x1)
        end = integrate(RungeKutta(RK4), gen, x0, TimeGrid.uniform(20), seeded()).state
        assert torch.allclose(end["s"], x1["s"], atol=1e-3)  # the field is singular at the end
        assert torch.allclose(end["v"], x1["v"], atol=1e-12)
        noisy = brownian(Product({"s": Sphere(2), "v": Euclidean(2)}))
        walked = integrate(Euler(), noisy, x0, TimeGrid.uniform(5), seeded()).state
        assert Sphere(2).contains(walked["s"], 1e-12).all()


def small_scene(likelihood=None):
    law = VonMisesFisher(NORTH, 5.0)
    splits = [law.sample(60, seeded(i)) for i in range(3)]
    data = Dataset("cap", Sphere(2), *splits, "drawn")
    path = GeodesicPath(Sphere(2), late())
    network = SphereMLP(width=8, depth=1, features=4, schedule=path.schedule)
    model = Model(network, path, UniformSphere(Sphere(2)), "displacement")
    solver = Solver(RungeKutta(), TimeGrid.uniform(4))
    samples = model.sample(50, ODE(), solver.sampler, solver.grid, seeded())
    cpu = torch.device("cpu")
    return Scene(model, data, samples, ODE(), solver, likelihood, seeded(), cpu)


@pytest.mark.parametrize(
    "evaluation,names",
    [
        (
            KernelBaseline(),
            {
                "baseline/nll",
                "baseline-bandwidths/nll",
                "baseline/kappa",
                "baseline/uniform_nll",
            },
        ),
        (Mass(points=100, steps=2), {"density/integral", "density/integral_se"}),
        (Map(), set()),
    ],
)
def test_evaluations_find_and_draw(evaluation, names):
    from matplotlib.figure import Figure as Canvas

    assert isinstance(evaluation, Evaluation)
    found = evaluation(small_scene(ODELikelihood()))
    assert isinstance(found, Findings)
    assert set(found.metrics) == names == set(found.measured)
    for figure in found.figures:
        canvas = Canvas(figsize=figure.size)
        figure.draw(canvas)
        canvas.canvas.draw()
        assert canvas.axes


def test_both_maps_show_the_same_number_of_points():
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas()
    Map(points=45)(small_scene()).figures[0].draw(canvas)
    shown = [axes.collections[0] for axes in canvas.axes]
    assert [len(dots.get_offsets()) for dots in shown] == [45, 45]
    assert (shown[0].get_facecolor() == shown[1].get_facecolor()).all()
    assert (shown[0].get_sizes() == shown[1].get_sizes()).all()


def test_the_network_starts_at_zero_and_trains():
    path = GeodesicPath(Sphere(2))
    network = sphere_mlp(Sphere(2), path.predictions["velocity"], path, width=16, features=8)
    x, t = points(2, 5, torch.float32), torch.rand(5)
    assert torch.equal(network(t, x), torch.zeros(5, 3))
    network(t, x).sum().backward()
    assert network.layers[-1].bias.grad.abs().sum() > 0
    assert {"waves", "frequencies"} <= set(network.state_dict())


def test_airports_are_points_with_disjoint_splits():
    pytest.importorskip("airportsdata", reason="the extra 'airports' is not installed")
    data = airports()
    assert data.space == Sphere(2) and "airportsdata" in data.provenance
    splits = [data.train, data.validation, data.test]
    total = sum(map(len, splits))
    assert total > 20_000 and 0.78 < len(data.train) / total < 0.82
    assert all(s.dtype == torch.float32 and Sphere(2).contains(s, 1e-6).all() for s in splits)
    places = [{tuple(row) for row in s.tolist()} for s in splits]
    assert not places[0] & places[1] and not places[0] & places[2] and not places[1] & places[2]
    assert data.digest() == airports().digest()


def test_all_components_resolve_and_build():
    collector = Collector("manifold", "manifold", "genpath-manifold", "0")
    genpath_components(collector)
    path = GeodesicPath(Sphere(2), late())
    things = {"space": Sphere(2), "state_space": Sphere(2), "path": path}
    things["prediction"] = path.predictions["displacement"]
    for component in collector.components:
        assert callable(component.load())
        if component.options:
            component.options_class()
        if component.kind not in ("data", "path"):
            component.build(**things)


def test_listing_and_importing_need_no_torch():
    code = (
        "import sys, genpath_manifold, genpath_manifold.plugin, genpath_manifold.options;"
        "print(sorted({'torch', 'numpy', 'airportsdata'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_prints_what_it_says(capsys):
    page = (Path(__file__).parents[1] / "docs" / "index.md").read_text(encoding="utf-8")
    exec(re.search(EXAMPLE, page, re.S)[1], {})
    value = float(re.search(r"-?\d+\.\d+", capsys.readouterr().out)[0])
    said = float(re.search(r"printed value is −(\d+\.\d+)", page)[1])
    assert abs(value + said) < 1e-4


def test_a_flow_accepts_the_sphere():
    assert flow(Sphere(2), lambda t, x: 0 * x).has == {"velocity"}
