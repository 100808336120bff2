"""Interpolants that are not spatially linear: shapes, refusals, configs, learning."""

import pytest
import torch
from torch import nn

from genpath.couplings import Pairs
from genpath.errors import CapabilityError, DomainError, ShapeError, SingularTimeError
from genpath.laws import Gaussian
from genpath.models import ODE, Model
from genpath.objectives import Regression
from genpath.paths import ProbabilityPath
from genpath.plugins import registry
from genpath.schedules import Scalar
from genpath.spaces import Euclidean, Product
from genpath_interpolants.assumptions import check_assumptions
from genpath_interpolants.families import (
    anisotropic,
    flat_start_schedule,
    general_mirror,
    glued_mirror,
    latent,
    one_sided,
    smooth,
)
from genpath_interpolants.gaussianised import GaussianisedPath
from genpath_interpolants.general import InterpolantPath
from genpath_interpolants.latents import GaussianLatent, Latent, StudentLatent, latent_law
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.schedules import linear_schedule, variance_preserving_schedule

SPACE = Euclidean(2)


def square(t):
    return t * (1 - t)


def bent(t, x0, x1):
    t = t.reshape(-1, *[1] * (x1.dim() - 1))
    return (1 - t) * x0 + t * x1 + t * (1 - t) * torch.sin(x0 - x1)


def bent_path(shape=(2,), noise=square):
    return InterpolantPath(Euclidean(*shape), bent, noise)


def bend(t, x1):
    t = t.reshape(-1, *[1] * (x1.dim() - 1))
    return t**2 * x1


def dip(t, x1):
    return (1 - 2 * t * (1 - t)).reshape(-1, *[1] * (x1.dim() - 1)) * x1


PATHS = {
    "bent": bent_path,
    "bent, no noise": lambda: bent_path(noise=None),
    "bent number": lambda: bent_path(()),
    "bent image": lambda: bent_path((2, 3)),
    "one-sided": lambda: one_sided(SPACE, lambda t: 1 - t, bend),
    "mirror": lambda: general_mirror(SPACE, dip, square),
    "logistic": lambda: latent(SPACE, "logistic"),
    "student": lambda: latent(Euclidean(2, 3), "student"),
    "matrix": lambda: anisotropic(SPACE, [[1.0, 0.5], [-0.2, 2.0]]),
    "matrix of time": lambda: bent_path(
        noise=Latent(square, lambda t: torch.eye(2) * (1 + t)[:, None, None])
    ),
    "glued": lambda: glued_mirror(SPACE),
    "map": lambda: GaussianisedPath(
        SPACE, lambda t, y: (1 + t)[:, None] * y, lambda t, x: x / (1 + t)[:, None]
    ),
}
each = pytest.mark.parametrize("name", list(PATHS))


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_and_targets_have_the_shape_and_dtype_of_the_data(name, dtype, rng):
    path = PATHS[name]()
    assert isinstance(path, ProbabilityPath)
    shape = path.space.event_shape
    for count in (5, 0):
        x0, x1 = torch.randn(2, count, *shape, generator=rng, dtype=dtype)
        t = torch.linspace(0, 1, count, dtype=dtype)
        draw = path.draw(t, x0, x1, rng)
        assert draw.state.shape == x1.shape and draw.state.dtype == dtype
        for prediction in path.predictions.values():
            target = path.target(prediction.name, draw)
            assert target.shape == (count, *prediction.output_shape)
            assert target.dtype == dtype and torch.isfinite(target).all(), prediction.name


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


@each
def test_it_trains_and_its_conditional_flow_runs(name, rng):
    path = PATHS[name]()
    shape = path.space.event_shape
    x0, x1 = torch.randn(2, 4, *shape, generator=rng)
    model = Model(lambda t, x: 0 * x, path, Gaussian(shape), "velocity")
    values = Regression()(model, Pairs(x0, x1), torch.linspace(0.1, 0.9, 4), rng)
    assert values.shape == (4,) and torch.isfinite(values).all()
    velocity = path.conditional_generator(x0, x1)(0.5, x1).velocity
    assert velocity.shape == x1.shape


def test_a_scalar_time_is_one_per_row(rng):
    x0, x1 = torch.zeros(3, 2), torch.ones(3, 2)
    assert bent_path().draw(0.25, x0, x1, rng).t.tolist() == [0.25] * 3


def test_the_same_seed_draws_the_same():
    x0, x1 = torch.zeros(3, 2), torch.ones(3, 2)
    first, second = (
        bent_path().draw(0.5, x0, x1, torch.Generator().manual_seed(4)).state for _ in range(2)
    )
    assert torch.equal(first, second)


class Learned(nn.Module):
    """(1−t) x0 + t x1 + t(1−t) N(x0, x1)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, t, x0, x1):
        t = t[:, None]
        return (1 - t) * x0 + t * x1 + t * (1 - t) * self.layer(torch.cat([x0, x1], 1))


def test_a_learned_interpolation_gets_gradients_through_state_and_rate(rng):
    learned = Learned()
    path = InterpolantPath(SPACE, learned, square)
    x0, x1 = torch.randn(2, 6, 2, generator=rng)
    for name in ("state", "velocity", "interpolant_velocity"):
        learned.zero_grad()
        draw = path.draw(torch.linspace(0.1, 0.4, 6), x0, x1, rng)
        value = draw.state if name == "state" else path.target(name, draw)
        value.square().sum().backward()
        assert float(learned.layer.weight.grad.abs().max()) > 0, name
    draw = path.draw(torch.linspace(0.1, 0.4, 6), x0, x1, rng)
    t, gap = draw.t[:, None], learned.layer(torch.cat([x0, x1], 1))
    rate = path.target("interpolant_velocity", draw)
    assert torch.allclose(rate, x1 - x0 + (1 - 2 * t) * gap, atol=1e-6)


def test_a_module_of_doubles_is_checked_in_its_own_precision():
    assert InterpolantPath(SPACE, Learned().double(), square).latent


# -- refusals --------------------------------------------------------------------------------------


def build(**changed):
    arguments = {"interpolation": bent, "noise": square, **changed}
    return InterpolantPath(SPACE, **arguments)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: InterpolantPath(Product({"x": SPACE}), bent),
            CapabilityError,
            r"lives on R\^d",
        ),
        (lambda: build(interpolation=lambda t, x0, x1: x0), DomainError, r"I\(t = 1.*= x1"),
        (
            lambda: build(interpolation=lambda t, x0, x1: x1),
            DomainError,
            r"I\(t = 0.*= x0, as a two-sided path declares",
        ),
        (
            lambda: build(interpolation=lambda t, x0, x1: x0, kind="mirror"),
            DomainError,
            r"= x1, as a mirror path declares",
        ),
        (lambda: build(interpolation=lambda t, x0, x1: x0[:, :1]), ShapeError, "has the shape"),
        (lambda: build(noise=lambda t: -t * (1 - t)), DomainError, r"γ² ≥ 0"),
        (lambda: build(noise=lambda t: t), DomainError, "γ vanishes at t = 0 and t = 1"),
        (lambda: build(noise=lambda t: 0 * t), DomainError, "γ is not 0 throughout"),
        (lambda: build(kind="round"), DomainError, "kind is one of"),
        (lambda: build(kind="mirror", noise=None), DomainError, "a mirror has a latent noise"),
        (lambda: build(kind="one-sided"), DomainError, "names α"),
        (lambda: build(breakpoints=(1.0,)), DomainError, r"inside \(0, 1\)"),
        (lambda: build(noise=Latent(square, torch.eye(3))), CapabilityError, "acts on points"),
        (lambda: Latent(square, torch.ones(2, 2)), DomainError, "invertible"),
        (lambda: Latent(square, torch.ones(2, 3)), ShapeError, r"the matrix is \(d, d\)"),
        (lambda: StudentLatent(2.0), DomainError, "degrees > 2"),
        (lambda: latent_law("cauchy"), DomainError, "gaussian, logistic or student"),
        (lambda: anisotropic(SPACE, [[1.0, 2.0]]), DomainError, "as many rows"),
        (lambda: one_sided(SPACE, lambda t: t, bend), DomainError, r"α\(0\) = 1"),
        (lambda: one_sided(SPACE, lambda t: (1 - t) * (1 - 3 * t), bend), DomainError, "α > 0"),
        (lambda: one_sided(SPACE, lambda t: 1 - t, lambda t, x: x), DomainError, "one-sided path"),
        (lambda: general_mirror(SPACE, bend, square), DomainError, "mirror path declares"),
        (lambda: glued_mirror(SPACE, 0.6, 0.4), DomainError, "start < end"),
        (lambda: glued_mirror(SPACE, gamma="none"), DomainError, "latent noise"),
        (lambda: flat_start_schedule(1.0), DomainError, "0 < delta < 1"),
        (lambda: smooth(latent(SPACE), square), CapabilityError, "normal isotropic"),
        (
            lambda: GaussianisedPath(SPACE, bend, bend, linear_schedule()),
            DomainError,
            "α² \\+ β² \\+ γ² = 1",
        ),
        (
            lambda: GaussianisedPath(SPACE, lambda t, y: 2 * y, lambda t, x: x),
            DomainError,
            r"T\(t, T⁻¹\(t, x\)\) = x at t = 0",
        ),
        (lambda: check_assumptions("x", Pairs(*torch.ones(2, 3, 2))), CapabilityError, "reads I"),
        (
            lambda: check_assumptions(linear_schedule(), Pairs(*torch.ones(2, 0, 2))),
            DomainError,
            "needs pairs",
        ),
    ],
)
def test_it_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_draws_refuse_what_does_not_pair_up(rng):
    path, x = bent_path(), torch.zeros(3, 2)
    with pytest.raises(ShapeError, match="pair up one to one"):
        path.draw(0.5, x, x[:2], rng)
    with pytest.raises(DomainError, match="floating-point"):
        path.draw(0.5, x.long(), x.long(), rng)
    with pytest.raises(DomainError, match="one dtype"):
        path.draw(0.5, x, x.double(), rng)
    with pytest.raises(DomainError, match=r"times lie in \[0, 1\]"):
        path.draw(1.5, x, x, rng)
    with pytest.raises(CapabilityError, match="no prediction 'logits'"):
        path.target("logits", path.draw(0.5, x, x, rng))


def test_conversions_refuse_the_times_at_which_they_are_infinite():
    path, x = bent_path(), torch.ones(1, 2)
    with pytest.raises(SingularTimeError, match="score from noise is infinite at t = 0"):
        path.convert("score", {"noise": x}, 0.0, x)
    given = {"interpolant_velocity": x, "score": x}
    assert torch.isfinite(path.convert("velocity", given, 0.0, x)).all()


def test_a_latent_of_another_law_needs_two_quantities_for_the_score():
    path, x = latent(SPACE), torch.ones(1, 2)
    with pytest.raises(CapabilityError, match="no rule leads to 'score' from 'noise'"):
        path.convert("score", {"noise": x}, 0.5, x)
    assert torch.allclose(path.convert("score", {"latent_gradient": x}, 0.5, x), -2 * x)
    with pytest.raises(CapabilityError, match="for a normal z"):
        path.noise.drift(torch.tensor([0.5]), x)


# -- what else is promised -------------------------------------------------------------------------


def test_smoothing_a_one_sided_path_keeps_its_ends():
    base = LinearPath(SPACE, variance_preserving_schedule(), "gaussian")
    wide = smooth(base, square)
    assert wide.base == "gaussian" and wide.schedule.boundary.kind == "two-sided"
    general = smooth(one_sided(SPACE, lambda t: 1 - t, bend), square)
    assert general.kind == "two-sided" and "noise" in general.predictions
    assert smooth(general, square).noise.gamma_squared(torch.tensor([0.5])).item() == 0.5


def test_a_steep_alpha_is_clipped_where_its_rate_is_infinite(rng):
    alpha = Scalar(lambda t: (1 - t * t).sqrt(), lambda t: -t / (1 - t * t).sqrt())
    path = one_sided(SPACE, alpha, lambda t, x: t[:, None] * x)
    draw = path.draw(1.0, torch.ones(1, 2), torch.ones(1, 2), rng)
    assert torch.isfinite(path.target("velocity", draw)).all()
    assert torch.isfinite(path.target("score", draw)).all()


def test_a_law_of_ones_own_serves_as_a_latent(rng):
    class Uniformish(GaussianLatent):
        def sample(self, like, rng):
            return torch.zeros_like(like)

    path = bent_path(noise=Latent(square, law=Uniformish()))
    assert path.draw(0.5, torch.zeros(2, 2), torch.ones(2, 2), rng).latent.abs().max() == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("glued_mirror", {"start": 0.3}),
        ("latent", {"latent": "student", "degrees": 4.0}),
        ("anisotropic", {"matrix": [[1.0, 0.2], [0.0, 1.0]]}),
    ],
)
def test_a_config_builds_it_and_a_flow_runs(name, options, rng):
    path = registry().get("path", f"interpolants.{name}").build(options, state_space=SPACE)
    gen = ODE().generator(path, "velocity", lambda t, x: -x)
    assert gen(0.5, torch.ones(3, 2)).velocity.shape == (3, 2)


def test_a_config_refuses_a_matrix_of_another_size():
    component = registry().get("path", "interpolants.anisotropic")
    with pytest.raises(CapabilityError, match=r"points of shape \(2,\)"):
        component.build({"matrix": [[1.0]]}, state_space=SPACE)
