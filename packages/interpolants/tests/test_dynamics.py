"""Dynamics: shapes, dtypes, empty batches, refusals by their words, and what a config builds."""

from types import SimpleNamespace

import pytest
import torch

from genpath.errors import CapabilityError, ConfigError, DomainError, ShapeError
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.models import ODE, SDE, Model
from genpath.plugins import registry
from genpath.predictions import Rule
from genpath.samplers import Euler, RungeKutta
from genpath.spaces import Euclidean
from genpath_interpolants.dynamics import (
    BackwardSDE,
    DiffusiveSDE,
    MatrixSDE,
    Tabulated,
    Vanishing,
    backward_of,
    conditional_ensemble,
    drifts,
    eps_schedule,
    from_data,
    from_drifts,
    there_and_back,
)
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.samplers import StochasticHeun
from genpath_interpolants.schedules import linear_schedule

EPS = (0.0, 0.7, Vanishing(1.0), Tabulated((0.0, 1.0, 0.2)), lambda t: t)


def model(*shape):
    path = LinearPath(Euclidean(*shape), linear_schedule("sqrt"), "gaussian")
    return Model(lambda t, x: -x, path, Gaussian(shape))


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [DiffusiveSDE, BackwardSDE])
def test_parts_have_the_states_form_at_every_time(kind, dtype, shape, eps, rng):
    gen = model(*shape).generator(kind(eps))
    for count in (3, 0):
        x = torch.randn(count, *shape, generator=rng, dtype=dtype)
        for t in (0.0, 0.3, 1.0):
            parts = gen(t, x)
            noise = parts.diffusion(parts.diffusion.draw(gen.space, x, rng))
            for value in (parts.velocity, noise):
                assert value.shape == x.shape and value.dtype == dtype
                assert torch.isfinite(value).all()


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_acts_on_events_of_any_shape(shape, dtype, rng):
    d = Euclidean(*shape).dimension
    whole = torch.eye(d, dtype=torch.float64) + 0.3
    matrices = (
        whole.diagonal().clone(),
        whole,
        lambda t, x: (1 + x.reshape(len(x), d)[:, :1, None] ** 2) * whole.to(x.dtype),
    )
    for matrix in matrices:
        gen = model(*shape).generator(MatrixSDE(matrix))
        for count in (3, 0):
            x = torch.randn(count, *shape, generator=rng, dtype=dtype)
            parts = gen(0.4, x)
            noise = parts.diffusion(parts.diffusion.draw(gen.space, x, rng))
            for value in (parts.velocity, noise):
                assert value.shape == x.shape and value.dtype == dtype


def test_a_function_that_depends_on_time_only_is_uniform():
    x = torch.randn(2, 2)
    matrix = lambda t, x: (1 + t)[:, None, None] * torch.eye(2)  # noqa: E731
    first, second = (
        model(2).generator(MatrixSDE(matrix, uniform=uniform))(0.5, x) for uniform in (True, False)
    )
    assert first.diffusion.uniform and not second.diffusion.uniform
    assert torch.equal(first.velocity, second.velocity)


def test_rows_where_a_function_is_not_positive_definite_become_nan(rng):
    matrix = lambda t, x: x[:, :1, None] * torch.eye(2)  # noqa: E731
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    noise = model(2).generator(MatrixSDE(matrix))(0.5, x).diffusion
    moved = noise(noise.draw(Euclidean(2), x, rng))
    assert torch.isfinite(moved[0]).all() and torch.isnan(moved[1]).any()


def test_tabulated_passes_through_its_values():
    table = Tabulated((0.0, 2.0, 1.0), (0.0, 0.25, 1.0))
    t = torch.tensor([0.0, 0.125, 0.25, 0.625, 1.0], dtype=torch.float64)
    assert table(t).tolist() == [0.0, 1.0, 2.0, 1.5, 1.0]
    assert table(t.float()).dtype == torch.float32


def test_epsilon_by_name():
    t = torch.tensor([0.0, 0.25, 1.0])
    assert eps_schedule(2.0) == 2.0
    assert eps_schedule(2.0, "vanishing")(t).tolist() == [0.0, 1.5, 0.0]
    assert eps_schedule(2.0, "rising")(t).tolist() == [0.0, 0.5, 2.0]
    assert eps_schedule(2.0, "falling")(t).tolist() == [2.0, 1.5, 0.0]


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DiffusiveSDE(-1.0), "not negative"),
        (lambda: DiffusiveSDE(float("nan")), "not negative"),
        (lambda: BackwardSDE(lambda t: 0.5 - t), "not negative"),
        (lambda: Vanishing(-0.1), "not negative"),
        (lambda: Tabulated((1.0, -1.0)), "not negative"),
        (lambda: Tabulated((1.0,)), "two or more"),
        (lambda: Tabulated((1.0, 2.0), (0.0, 0.5)), "from 0 to 1"),
        (lambda: Tabulated((1.0, 2.0, 3.0), (0.0, 0.7, 0.6)), "increasing"),
        (lambda: eps_schedule(1.0, "wavy"), "constant, vanishing, rising, falling"),
        (lambda: from_drifts(None, None, 0.0), "say nothing of the score"),
        (lambda: MatrixSDE(torch.tensor([[1.0, 2.0], [2.0, 1.0]])), "positive definite"),
        (lambda: MatrixSDE(torch.tensor([1.0, 0.0])), "positive definite"),
        (lambda: MatrixSDE(torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
    ],
)
def test_values_are_refused_where_they_are_given(make, words):
    with pytest.raises(DomainError, match=words):
        make()


def test_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"times \(batch,\) to values"):
        DiffusiveSDE(lambda t: torch.ones(()))
    with pytest.raises(ShapeError, match="constant A"):
        MatrixSDE(torch.ones(2, 3))
    with pytest.raises(ShapeError, match="the path has 2 coordinates"):
        model(2).generator(MatrixSDE(torch.ones(3)))


@pytest.mark.parametrize("dynamics", [DiffusiveSDE(), BackwardSDE(), MatrixSDE(torch.ones(2))])
def test_a_path_without_a_score_is_refused_before_the_first_step(dynamics):
    path = LinearPath(Euclidean(2))  # γ = 0, any base
    with pytest.raises(CapabilityError, match="no rule leads to 'score'"):
        dynamics.generator(path, "velocity", lambda t, x: x)
    with pytest.raises(CapabilityError, match="no rule leads to 'score'"):
        drifts(path, "velocity", lambda t, x: x, 1.0)


def test_a_matrix_needs_a_flat_space():
    still = Rule("velocity", ("score",), lambda t, x, s: 0 * s)
    path = SimpleNamespace(space="a sphere", rules=(still,))
    with pytest.raises(CapabilityError, match="a matrix on R"):
        MatrixSDE(torch.ones(2)).generator(path, "score", lambda t, x: x)


def test_only_flows_and_scalar_sdes_run_from_the_data(rng):
    assert backward_of(SDE(0.3)) == BackwardSDE(0.3)
    assert backward_of(BackwardSDE(0.3)) == BackwardSDE(0.3)
    with pytest.raises(CapabilityError, match=r"genpath\.reversal\.reverse"):
        backward_of(MatrixSDE(torch.ones(2)))
    grid, data = TimeGrid.uniform(4), torch.ones(2, 2)
    with pytest.raises(DomainError, match="grid increases"):
        from_data(model(2), data, ODE(), RungeKutta(), grid.reversed(), rng)
    with pytest.raises(CapabilityError, match="forward dynamics"):
        there_and_back(model(2), data, BackwardSDE(), Euler(), grid, rng)


# -- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamics", [ODE(), DiffusiveSDE(Vanishing(0.5)), SDE(0.5)])
@pytest.mark.parametrize("count", [3, 0])
def test_runs_keep_rows_and_chunks_do_not_matter_to_a_flow(dynamics, count, rng):
    m, grid, data = model(2), TimeGrid.uniform(4), torch.randn(count, 2, generator=rng)
    for run in (from_data, there_and_back):
        assert run(m, data, dynamics, StochasticHeun(), grid, rng, chunk=2).shape == (count, 2)
    ends = conditional_ensemble(m, data, 4, dynamics, StochasticHeun(), grid, rng, chunk=5)
    assert ends.shape == (count, 4, 2)
    if isinstance(dynamics, ODE):
        whole = from_data(m, data, dynamics, StochasticHeun(), grid, rng)
        parts = from_data(m, data, dynamics, StochasticHeun(), grid, rng, chunk=1)
        torch.testing.assert_close(whole, parts)
        assert (ends == ends[:, :1]).all()


def test_an_ensemble_keeps_each_start_in_its_row(rng):
    m, start = model(1), torch.tensor([[-3.0], [3.0]])
    grid = TimeGrid.uniform(8)
    ends = conditional_ensemble(m, start, 200, DiffusiveSDE(0.05), Euler(), grid, rng)
    assert ends[0].mean() < 0 < ends[1].mean()


# -- configs ---------------------------------------------------------------------------------------


def build(name, **options):
    return registry().get("dynamics", name).build(options)


def test_a_config_builds_the_dynamics():
    assert build("interpolants.sde", eps=0.5) == DiffusiveSDE(0.5)
    falling = build("interpolants.sde", eps=0.5, shape="falling")
    assert falling == DiffusiveSDE(Tabulated((0.5, 0.0)))
    table = build("interpolants.sde", eps=2.0, table=[0.1, 1.0, 0.5])
    assert table == DiffusiveSDE(Tabulated((0.2, 2.0, 1.0)))
    matrix = build("interpolants.matrix_sde", matrix=[[1.0, 0.5], [0.5, 2.0]]).matrix
    assert matrix.tolist() == [[1.0, 0.5], [0.5, 2.0]]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("interpolants.sde", {"eps": -1.0}, "eps"),
        ("interpolants.sde", {"shape": "wavy"}, "shape"),
        ("interpolants.sde", {"shape": "rising", "table": [1.0, 2.0]}, "leave out one"),
        ("interpolants.sde", {"table": [1.0]}, "two or more"),
        ("interpolants.matrix_sde", {}, "neither"),
        ("interpolants.matrix_sde", {"diagonal": [1.0], "matrix": [[1.0]]}, "both"),
        ("interpolants.matrix_sde", {"matrix": [[1.0, 2.0]]}, "as many numbers"),
        ("interpolants.matrix_sde", {"matrix": [[1.0, 2.0], [2.0, 1.0]]}, "positive definite"),
    ],
)
def test_a_config_is_refused_by_name(name, options, words):
    with pytest.raises((ConfigError, DomainError, ShapeError), match=words):
        build(name, **options)
