"""Evaluations: kinds of rows, what they refuse, and what a config may say of them."""

from dataclasses import replace

import pytest
import torch

from genpath.codecs import Identity
from genpath.errors import CapabilityError, ConfigError, DomainError
from genpath.evaluation import Scene
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.likelihoods import ODELikelihood
from genpath.models import ODE, Model
from genpath.plugins import registry
from genpath.samplers import RungeKutta, Solver
from genpath.spaces import Euclidean
from genpath.tableaus import HEUN
from genpath_interpolants.data import gaussian_mixture
from genpath_interpolants.ensembles import (
    Ensembles,
    Resampling,
    decay,
    pairwise_distance,
    pooled_correlation,
)
from genpath_interpolants.evaluations import DensityError, Marginals, solver, subset, table
from genpath_interpolants.mixtures import MixtureMarginal
from genpath_interpolants.networks import gaussian_mixture as exact_network
from genpath_interpolants.presets import linear, mirror
from genpath_interpolants.sweeps import EpsSweep, Projection, Scatter, energy_distance


def scene(path=None, predict="velocity+score", likelihood=None, data=None, base=None, **changed):
    data = data or gaussian_mixture("ring", 4, 2.0, 0.4, 2, 200, 0, [], [], [])
    path = path or linear(Euclidean(2), "sqrt")
    base = base or Gaussian((2,))
    prediction = path.predictions[predict]
    network = exact_network([], [], [], path, prediction, data, Identity(), base)
    model = Model(network, path, base, predict)
    solve = Solver(RungeKutta(HEUN), TimeGrid.uniform(4))
    rng = torch.Generator().manual_seed(0)
    found = Scene(model, data, data.test, ODE(), solve, likelihood, rng, torch.device("cpu"))
    return replace(found, **changed)


def bare(data):
    return replace(data, law=None)


RING = gaussian_mixture("ring", 4, 2.0, 0.4, 2, 200, 0, [], [], [])
ROWS = torch.zeros(4, 2)


class TestDensityError:
    def test_reports_flow_and_sdes_in_float32(self):
        found = DensityError(eps=(0.1,), steps=5, paths=2, max_examples=10)(
            scene(likelihood=ODELikelihood(steps=10))
        )
        assert found.metrics["density-error/model"] < 1e-2
        assert "density-error/eps_0.1_floor" in found.metrics
        assert "unbiased for p" in found.measured["density-error/eps_0.1"]
        assert found.texts[0].body.splitlines()[2].startswith("SDE, ε = 0.1")

    def test_needs_a_law(self):
        with pytest.raises(CapabilityError, match="law and its density are known"):
            DensityError()(replace(scene(likelihood=ODELikelihood()), data=bare(RING)))

    def test_needs_a_density(self):
        points = gaussian_mixture("ring", 4, 2.0, 0.0, 2, 200, 0, [], [], [])
        with pytest.raises(CapabilityError, match="density"):
            DensityError()(replace(scene(likelihood=ODELikelihood()), data=points))

    def test_needs_something_to_score_by(self):
        with pytest.raises(ConfigError, match="likelihood: null and no eps"):
            DensityError()(scene())


class TestSweep:
    def test_without_a_law_rows_are_the_reference(self):
        sweep = EpsSweep(eps=(0.0, 0.5), sampler=solver(4), count=20, repeats=2)
        found = sweep(replace(scene(), data=bare(RING)))
        assert "from rows" in found.measured["sweep-kl/eps_0"]
        assert all(torch.tensor(list(found.metrics.values())).isfinite())

    def test_points_are_data_too(self):
        points = gaussian_mixture("ring", 4, 2.0, 0.0, 2, 200, 0, [], [], [])
        sweep = EpsSweep(eps=(0.0, 0.5), sampler=solver(4), count=20, repeats=2)
        found = sweep(replace(scene(), data=points))
        assert "exact" in found.measured["sweep-kl/eps_0"]
        assert all(torch.tensor(list(found.metrics.values())).isfinite())

    def test_the_best_eps_is_one_of_the_list(self):
        sweep = EpsSweep(eps=(0.5, 0.0), sampler=solver(4), count=20, repeats=2)
        assert sweep(scene()).metrics["sweep-kl/best_eps"] in (0.0, 0.5)

    @pytest.mark.parametrize("wrong", [{"repeats": 1}, {"eps": ()}, {"count": 2}])
    def test_refuses_what_has_no_error(self, wrong):
        with pytest.raises(DomainError, match="two repeats or more"):
            EpsSweep(**wrong)

    def test_energy_distance_needs_two_rows(self):
        with pytest.raises(DomainError, match="two rows"):
            energy_distance(torch.zeros(1, 2), ROWS)


class TestProjection:
    @pytest.mark.parametrize("wrong", [(0, 0), (0, 2), (-1, 0)])
    def test_refuses_coordinates_that_are_not_there(self, wrong):
        with pytest.raises(DomainError, match="two coordinates"):
            Projection.of("coordinates", wrong, ROWS)

    def test_a_line_has_no_two_coordinates(self):
        with pytest.raises(DomainError, match="two coordinates"):
            Projection.of("principal", (0, 1), torch.zeros(4, 1))

    def test_other_laws_are_known_in_their_own_coordinates_alone(self):
        plane, law = Projection.of("coordinates", (0, 1), ROWS), Gaussian((2,))
        assert plane.law(law) is law and plane.mixture(law) is None
        assert Projection.of("coordinates", (1, 0), ROWS).law(law) is None

    def test_points_have_no_density(self):
        points = gaussian_mixture("ring", 4, 2.0, 0.0, 2, 200, 0, [], [], []).law
        seen = Projection.of("coordinates", (0, 1), ROWS)
        assert seen.law(points) is None
        assert seen.mixture(points, torch.ones(2)).log_prob(ROWS).isfinite().all()


class TestMarginals:
    def test_refuses_times_out_of_order(self):
        with pytest.raises(DomainError, match="0 ≤ start < end ≤ 1"):
            Marginals(start=0.5, end=0.5)

    def test_has_one_line_per_bin(self):
        body = Marginals(bins=3, functions=2)(scene()).texts[0].body
        assert len(body.splitlines()) == 4


class TestScatter:
    def test_needs_samples(self):
        with pytest.raises(CapabilityError, match="there are samples"):
            Scatter()(scene(samples=None))

    def test_draws_without_a_law(self):
        canvas = pytest.importorskip("matplotlib.figure").Figure()
        Scatter()(replace(scene(), data=bare(RING))).figures[0].draw(canvas)
        assert not canvas.axes[0].images


class TestEnsembles:
    def test_sheets_need_the_size_of_a_picture(self):
        evaluation = Ensembles((0.0,), "constant", solver(2), 4, 2, height=3, width=3)
        with pytest.raises(ConfigError, match="height × width"):
            evaluation(scene())

    def test_a_sheet_has_a_panel_per_eps(self):
        canvas = pytest.importorskip("matplotlib.figure").Figure()
        evaluation = Ensembles((0.0, 0.5), "constant", solver(2), 4, 3, height=1, width=2)
        found = evaluation(scene())
        found.figures[1].draw(canvas)
        assert [axes.get_title() for axes in canvas.axes] == ["ε = 0", "ε = 0.5"]
        assert found.metrics["ensemble-distance/eps_0"] == 0

    def test_two_ends_make_a_distance(self):
        with pytest.raises(DomainError, match="two ends or more"):
            pairwise_distance(torch.zeros(3, 1, 2))
        with pytest.raises(DomainError, match="two starts and two ends"):
            Ensembles(count=1)


class TestResampling:
    def test_runs_on_a_mirror(self):
        path, data = mirror(Euclidean(2), "quadratic", 4.0), RING
        found = Resampling((0.0, 0.5), "vanishing", solver(8), 20, height=1, width=2)(
            mirrored(path, data)
        )
        assert found.metrics["resampling-correlation/eps_0"] > 0.99
        canvas = pytest.importorskip("matplotlib.figure").Figure()
        found.figures[1].draw(canvas)
        labels = [label.get_text() for label in canvas.axes[0].get_yticklabels()]
        assert labels == ["input", "flow", "ε = 0.5"]

    def test_refuses_other_paths(self):
        with pytest.raises(CapabilityError, match="starts from its data"):
            Resampling()(scene())

    def test_correlation_needs_pairs(self):
        with pytest.raises(DomainError, match="three pairs"):
            pooled_correlation(ROWS, ROWS[:3])

    def test_forgets_more_for_larger_eps(self):
        path, v = mirror(Euclidean(1)), torch.tensor([1.0, 0.1])
        small, large = (decay(path.schedule, v, eps) for eps in (0.1, 1.0))
        assert bool((large < small).all()) and bool((small[1] < small[0]).all())


def mirrored(path, data):
    oracle = MixtureMarginal(path, data.law)
    model = Model(oracle.field("noise"), path, data.law, "noise")
    return replace(scene(), model=model, data=data)


def test_a_subset_keeps_the_order(rng):
    rows = torch.arange(50.0)[:, None]
    kept = subset(rows, 10, rng)[:, 0]
    assert len(kept) == 10 and torch.equal(kept, kept.sort().values)


def test_a_table_lines_up():
    lines = table(["a", "b"], [["xyz", "1"], ["x", "1000"]]).splitlines()
    assert lines == ["a       b", "xyz     1", "x    1000"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "density_error",
            {"max_examples": 7, "eps": [0.5], "divergence": "hutchinson"},
        ),
        ("eps_sweep", {"eps": [0.2], "repeats": 3, "onto": "principal", "shape": "vanishing"}),
        ("marginals", {"bins": 3, "start": 0.1, "level": 0.01}),
        ("scatter", {"count": 9, "resolution": 10}),
        ("ensembles", {"starts": 3, "count": 2, "height": 4, "shape": "falling"}),
        ("resampling", {"split": "train", "shown": 2, "count": None}),
    ],
)
def test_options_of_a_config_reach_the_evaluation(name, options):
    built = registry().get("evaluation", f"interpolants.{name}").build(options)
    for option, value in options.items():
        kept = getattr(built, option)
        assert kept == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    "evaluation",
    [
        DensityError(eps=(0.1,), steps=2, paths=2, max_examples=4),
        EpsSweep(eps=(0.0, 1.0), sampler=solver(2), count=16, repeats=2),
        Marginals(bins=2, functions=2, count=50),
        Ensembles((0.0, 1.0), "constant", solver(2), 4, 3),
    ],
    ids=lambda evaluation: type(evaluation).__name__,
)
def test_each_tells_numbers_a_text_and_a_figure(evaluation):
    found = evaluation(scene(likelihood=ODELikelihood(steps=2)))
    assert found.metrics and set(found.measured) <= set(found.metrics)
    assert found.texts[0].title and "nan" not in found.texts[0].body
    for figure in found.figures:
        canvas = pytest.importorskip("matplotlib.figure").Figure()
        figure.draw(canvas)
        assert canvas.axes and figure.caption
