"""Each error, by its words."""

import pytest
import torch

from genpath.errors import CapabilityError, DomainError, ShapeError, SingularTimeError
from genpath.laws import Gaussian
from genpath.models import SDE, Model
from genpath.spaces import Euclidean, Product
from genpath_interpolants.mixtures import GaussianMixture
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.presets import linear
from genpath_interpolants.schedules import linear_schedule

PLANE = Euclidean(2)
X = torch.zeros(3, 2)


def test_the_path_lives_on_euclidean_space():
    with pytest.raises(CapabilityError, match=r"LinearPath: it lives on R\^d"):
        LinearPath(Product({"x": PLANE}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gamma": "cubic"}, "gamma is one of none, sqrt, quadratic"),
        ({"gamma_scale": 0.0}, "gamma_scale > 0"),
        ({"base": "normal"}, "base is gaussian or any"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(DomainError, match=words):
        linear(PLANE, **options)


def test_a_negative_scale_is_refused_by_the_schedule_too():
    with pytest.raises(DomainError, match="gamma_scale > 0"):
        linear_schedule("sqrt", -1.0)


def test_endpoints_pair_up(rng):
    path = LinearPath(PLANE)
    with pytest.raises(ShapeError, match="pair up one to one"):
        path.draw(0.5, X, X[:2], rng)
    with pytest.raises(ShapeError, match="pair up one to one"):
        path.draw(0.5, {"x": X}, {"x": X}, rng)
    with pytest.raises(ShapeError, match="there is one time per row"):
        path.draw(torch.zeros(2), X, X, rng)
    with pytest.raises(ShapeError, match="a batch of points has shape"):
        path.draw(0.5, X[:, :1], X[:, :1], rng)


def test_predictions_that_the_path_lacks_are_named(rng):
    path = LinearPath(PLANE)
    draw = path.draw(0.5, X, X, rng)
    for name in ("noise", "score"):
        with pytest.raises(CapabilityError, match=f"there is no prediction '{name}'"):
            path.target(name, draw)
    with pytest.raises(CapabilityError, match="LinearPath has no prediction 'score'"):
        Model(lambda t, x: x, path, Gaussian((2,)), "score")


def test_without_a_normal_base_the_score_does_not_follow_from_the_velocity():
    for gamma in ("none", "sqrt"):
        model = Model(lambda t, x: x, linear(PLANE, gamma), Gaussian((2,)))
        with pytest.raises(CapabilityError, match="no rule leads to 'score' from 'velocity'"):
            model.generator(SDE(1.0))


def test_renoising_needs_a_normal_base(rng):
    with pytest.raises(CapabilityError, match="a noising kernel needs a normal base"):
        LinearPath(PLANE).renoise(torch.ones(3), torch.zeros(3), X, rng)


@pytest.mark.parametrize(
    ("gamma", "given", "want", "t"),
    [
        ("none", "velocity", "score", 1.0),
        ("none", "denoiser", "velocity", 1.0),
        ("none", "base_denoiser", "velocity", 0.0),
        ("sqrt", "noise", "score", 0.0),
        ("sqrt", "noise", "score", 1.0),
        ("quadratic", "velocity", "score", 1.0),
    ],
)
def test_a_conversion_at_its_singular_time_is_refused(gamma, given, want, t):
    path = linear(PLANE, gamma, base="gaussian")
    with pytest.raises(SingularTimeError, match=f"is infinite at t = {t:g}"):
        path.convert(want, {given: X}, t, X)
    with pytest.raises(SingularTimeError):
        path.convert(want, {given: X}, torch.tensor([0.5, t, 0.5]), X)
    path.convert(want, {given: X}, 0.5, X)


def test_conversions_that_are_not_singular_are_answered_at_the_ends():
    one_sided = LinearPath(PLANE, base="gaussian")
    for t in (0.0, 1.0):
        one_sided.convert("denoiser", {"velocity": X}, t, X)
        linear(PLANE, "sqrt", base="gaussian").convert("score", {"velocity": X}, t, X)
    one_sided.convert("score", {"velocity": X}, 0.0, X)


def test_mixtures_are_checked():
    means = torch.zeros(2, 2)
    with pytest.raises(ShapeError, match="one weight, mean and std per component"):
        GaussianMixture(torch.ones(3) / 3, means, torch.ones(2))
    with pytest.raises(DomainError, match="weights and stds are positive"):
        GaussianMixture(torch.tensor([0.5, 0.5]), means, torch.tensor([1.0, 0.0]))
    with pytest.raises(DomainError, match="weights sum to 1"):
        GaussianMixture(torch.tensor([0.5, 0.4]), means, torch.ones(2))
