"""Diffusive paths and the process from a point: shapes, refusals, configs."""

import pytest
import torch

from genpath.couplings import Independent, Pairs
from genpath.errors import CapabilityError, DomainError, ShapeError, SingularTimeError
from genpath.grids import TimeGrid
from genpath.laws import Empirical, Gaussian
from genpath.models import ODE, SDE, Model
from genpath.objectives import Regression
from genpath.paths import ProbabilityPath
from genpath.plugins import registry
from genpath.samplers import Euler
from genpath.spaces import Euclidean
from genpath_interpolants.diffusive import (
    Diffusive,
    DiffusivePath,
    bridge_generator,
    brownian_bridge,
    diffusive,
)
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.point_mass import (
    FromStarts,
    PointMass,
    PointMassPath,
    point,
    point_mass,
)
from genpath_interpolants.schedules import encoding_decoding_schedule

SPACE = Euclidean(2)


def bent(t, x0, x1):
    t = t.reshape(-1, *[1] * (x1.dim() - 1))
    return (1 - t) * x0 + t * x1 + t * (1 - t) * torch.sin(x0 - x1)


PATHS = {
    "linear": lambda: DiffusivePath(SPACE, None, 0.5),
    "bent": lambda: DiffusivePath(SPACE, bent, lambda t: 1 - t / 2),
    "image": lambda: DiffusivePath(Euclidean(2, 3), bent, 0.5),
    "point": lambda: PointMassPath(SPACE, torch.zeros(2), 0.5),
}
each = pytest.mark.parametrize("name", list(PATHS))


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_and_targets_have_the_shape_and_dtype_of_the_data(name, dtype, rng):
    path = PATHS[name]()
    assert isinstance(path, ProbabilityPath)
    shape = path.space.event_shape
    for count in (5, 0):
        x1 = torch.randn(count, *shape, generator=rng, dtype=dtype)
        x0 = 0 * x1 if name == "point" else x1 - 1
        draw = path.draw(torch.linspace(0, 1, count, dtype=dtype), x0, x1, rng)
        for prediction in path.predictions.values():
            target = path.target(prediction.name, draw)
            assert target.shape == (count, *prediction.output_shape), prediction.name
            assert target.dtype == dtype and torch.isfinite(target).all(), prediction.name
        gen = path.conditional_generator(x0, x1)
        parts = gen(torch.linspace(0, 1, count, dtype=dtype), draw.state)
        assert parts.velocity.shape == x1.shape and torch.isfinite(parts.velocity).all()


@each
def test_rules_stay_finite_and_keep_shape_at_the_ends(name, rng):
    path = PATHS[name]()
    x = torch.randn(3, *path.space.event_shape, generator=rng)
    for rule in path.rules:
        needed = [(3, *path.predictions[part].output_shape) for part in rule.needs]
        values = [torch.randn(shape, generator=rng) for shape in needed]
        result = rule.formula(torch.tensor([0.0, 0.5, 1.0]), x, *values)
        assert result.shape == (3, *path.predictions[rule.gives].output_shape), rule
        assert torch.isfinite(result).all(), rule


def test_bridges_of_any_order_and_shape(rng):
    times = torch.tensor([1.0, 0.5, 0.0, 0.5])
    bridge = brownian_bridge(times, torch.zeros(4, 2, 3), rng)
    assert bridge.shape == (4, 4, 2, 3) and torch.equal(bridge[1], bridge[3])
    assert brownian_bridge(torch.zeros(0), torch.zeros(3), rng).shape == (0, 3)
    assert brownian_bridge(times, torch.zeros(0, 2), rng).shape == (4, 0, 2)
    assert brownian_bridge(times, torch.zeros(2).double(), rng).dtype == torch.float64
    assert bridge_generator(SPACE)(0.0, torch.ones(3, 2)).velocity.shape == (3, 2)
    with pytest.raises(DomainError, match=r"times lie in \[0, 1\]"):
        brownian_bridge(torch.tensor([1.5]), torch.zeros(3), rng)
    with pytest.raises(ShapeError, match="one list"):
        brownian_bridge(torch.zeros(2, 2), torch.zeros(3), rng)


def test_paths_start_and_end_at_their_ends(rng):
    path = PATHS["bent"]()
    x0, x1 = torch.randn(2, 6, 2, generator=rng)
    ends = path.draw_path(torch.tensor([0.0, 0.3, 1.0]), x0, x1, rng)
    assert torch.equal(ends[0], x0)
    assert torch.allclose(ends[2], x1, atol=1e-5)
    with pytest.raises(ShapeError, match="pair up"):
        path.draw_path(torch.tensor([0.5]), x0, x1[:2], rng)


def test_the_twin_is_linear_where_the_interpolation_is(rng):
    assert isinstance(PATHS["linear"]().as_marginal(), LinearPath)
    twin = diffusive(SPACE, 0.5, "trigonometric").as_marginal()
    assert twin.schedule.gamma_squared(torch.tensor([0.5])).item() == 0.25
    kinked = DiffusivePath(SPACE, lambda t, x0, x1: bent(t, x0, x1), 1.0, (0.3,))
    assert kinked.breakpoints == (0.3,) == kinked.as_marginal().breakpoints
    assert PointMassPath(SPACE, torch.zeros(2), delta=0.25).breakpoints == (0.25,)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: DiffusivePath(SPACE, None, 0.0), DomainError, r"a\(0\) > 0"),
        (lambda: DiffusivePath(SPACE, None, lambda t: 1 - 2 * t), DomainError, r"a\(t\) ≥ 0"),
        (lambda: DiffusivePath(SPACE, lambda t, x0, x1: x0), DomainError, "two-sided"),
        (lambda: diffusive(SPACE, 1.0, slope=-2.0), DomainError, r"a\(t\) ≥ 0"),
        (lambda: diffusive(SPACE, alpha_beta="cubic"), DomainError, "linear or trigonometric"),
        (lambda: PointMassPath(SPACE, torch.zeros(3)), ShapeError, "one point of the space"),
        (lambda: point_mass(SPACE, delta=1.0), DomainError, "0 < delta < 1"),
        (lambda: point_mass(SPACE, value=[1.0, 2.0, 3.0]), DomainError, "2 numbers"),
        (lambda: point(DiffusivePath(SPACE)), CapabilityError, "only a process with noise"),
        (
            lambda: Diffusive().generator(
                LinearPath(SPACE, encoding_decoding_schedule()), "velocity", None
            ),
            CapabilityError,
            "the path is diffusive",
        ),
        (
            lambda: Diffusive().generator(DiffusivePath(SPACE), "velocity", None),
            CapabilityError,
            "no rule leads to 'diffusive_drift'",
        ),
    ],
)
def test_it_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_path_from_a_point_refuses_another_base_and_every_velocity(rng):
    path = PATHS["point"]()
    with pytest.raises(DomainError, match="x0 is the path's point"):
        path.draw(0.5, torch.ones(3, 2), torch.ones(3, 2), rng)
    for dynamics in (ODE(), SDE(1.0)):
        with pytest.raises(CapabilityError, match="no rule leads to 'velocity'"):
            dynamics.generator(path, "denoiser", lambda t, x: x)
    with pytest.raises(CapabilityError, match="has no prediction 'velocity'"):
        Model(lambda t, x: x, path, point(path), "velocity")
    with pytest.raises(CapabilityError, match="no prediction 'velocity'"):
        path.target("velocity", path.draw(0.5, torch.zeros(3, 2), torch.ones(3, 2), rng))
    with pytest.raises(SingularTimeError, match="score from denoiser is infinite at t = 0"):
        path.convert("score", {"denoiser": torch.ones(1, 2)}, 0.0, torch.ones(1, 2))


def test_the_point_of_a_config(rng):
    path = (
        registry()
        .get("path", "interpolants.point_mass")
        .build({"value": [0.7, -0.2], "delta": 0.3}, state_space=SPACE)
    )
    law = registry().get("law", "interpolants.point").build({}, path=path)
    assert torch.allclose(law.sample(3, rng), torch.tensor([0.7, -0.2]).expand(3, 2))
    assert law.sample(0, rng).shape == (0, 2)
    assert not hasattr(law, "log_prob")
    dynamics = registry().get("dynamics", "interpolants.diffusive").build({})
    model = Model(lambda t, x: 0 * x, path, law, "denoiser")
    coupling = Independent(law, Gaussian((2,)))
    values = Regression()(model, coupling.pairs(4, rng), torch.linspace(0, 1, 4), rng)
    assert values.shape == (4,) and torch.isfinite(values).all()
    x = model.sample(5, dynamics, Euler(), TimeGrid.uniform(8), rng)
    assert x.shape == (5, 2) and torch.isfinite(x).all()
    origin = registry().get("path", "interpolants.point_mass").build({}, state_space=Euclidean(3))
    assert torch.equal(origin.point, torch.zeros(3))


def test_a_config_builds_a_diffusive_path_from_any_base(rng):
    path = (
        registry()
        .get("path", "interpolants.diffusive")
        .build({"a": 0.5, "slope": 1.0}, state_space=SPACE)
    )
    assert path.a(torch.tensor([1.0])).item() == 1.5
    model = Model(
        lambda t, x: torch.stack([0 * x, 0 * x], 1), path, Gaussian((2,)), "velocity+score"
    )
    x = model.sample(5, Diffusive(), Euler(), TimeGrid.uniform(8), rng)
    assert x.shape == (5, 2) and torch.isfinite(x).all()


def test_each_row_may_have_a_start_of_its_own(rng):
    path = PointMassPath(SPACE, None, 0.5)
    assert isinstance(path, ProbabilityPath)
    starts, data = Empirical(torch.randn(9, 2, generator=rng)), Gaussian((2,))
    base = FromStarts(starts)
    pairs = Independent(base, data).pairs(4, rng)
    draw = path.draw(torch.linspace(0, 1, 4), pairs.x0, pairs.x1, rng)
    assert torch.equal(draw.state["start"], pairs.x0["start"])
    assert draw.state["x"].shape == (4, 2)
    seen = []

    def network(t, state):
        seen.append(set(state))
        return {"x": state["start"] + 1}

    for name in path.predictions:
        model = Model(network, path, base, name)
        values = Regression()(model, pairs, torch.linspace(0, 1, 4), rng)
        assert values.shape == (4,) and torch.isfinite(values).all(), name
        end = model.sample(3, Diffusive(), Euler(), TimeGrid.uniform(6), rng) if (
            name in ("denoiser", "diffusive_drift")
        ) else None  # fmt: skip
        assert end is None or (end["x"].shape == (3, 2) and torch.isfinite(end["x"]).all())
    assert all(names >= {"x", "start"} for names in seen)
    parts = path.conditional_generator(pairs.x0, pairs.x1)(0.5, draw.state)
    assert parts.velocity["x"].shape == (4, 2)
    empty = path.draw(0.5, torch.zeros(0, 2), torch.zeros(0, 2), rng)
    assert empty.state["x"].shape == (0, 2)


def test_dependent_pairs_reach_their_own_data(rng):
    """Pairs x1 = x* + 3: the exact denoiser is the start plus 3, and so are the samples."""
    path = PointMassPath(SPACE, None, 0.5)
    base = FromStarts(PointMass(torch.tensor([1.0, -1.0])))
    model = Model(lambda t, s: {"x": s["start"] + 3}, path, base, "denoiser")
    end = model.sample(50, Diffusive(), Euler(), TimeGrid.uniform(400), rng)
    gap = (end["x"] - torch.tensor([4.0, 2.0])).abs().max()
    # the last Euler step lands on h D + (1 − h) x*, up to its own noise √(2a · 1/400) = 0.05
    assert gap < 5.5 * (1 / 400) ** 0.5
    pairs = Pairs(torch.zeros(3, 2), torch.zeros(3, 2))
    assert path.draw(1.0, pairs.x0, pairs.x1, rng).state["x"].abs().max() == 0
