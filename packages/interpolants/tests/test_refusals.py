"""Each error, by its words."""

import pytest
import torch

from genpath.codecs import Identity
from genpath.datasets import Dataset
from genpath.errors import CapabilityError, DomainError, ShapeError, SingularTimeError
from genpath.laws import Gaussian
from genpath.models import SDE, Model
from genpath.schedules import MIRROR, ONE_SIDED, AffineSchedule
from genpath.spaces import Euclidean, Product
from genpath_interpolants import presets
from genpath_interpolants.mixtures import GaussianMixture
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.presets import linear
from genpath_interpolants.schedules import (
    linear_schedule,
    mirror_schedule,
    ornstein_uhlenbeck_schedule,
    rescaled_trigonometric_schedule,
    variance_preserving_schedule,
)

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
    with pytest.raises(DomainError, match="stds are finite and not negative"):
        GaussianMixture(torch.tensor([0.5, 0.5]), means, torch.tensor([1.0, -1.0]))
    with pytest.raises(DomainError, match="weights are positive"):
        GaussianMixture(torch.tensor([1.0, 0.0]), means, torch.ones(2))
    with pytest.raises(DomainError, match="weights sum to 1"):
        GaussianMixture(torch.tensor([0.5, 0.4]), means, torch.ones(2))


# -- endpoints, times, schedules and covariances --------------------------------------------------


@pytest.mark.parametrize("draw", ["draw", "draw_with_target"])
def test_times_of_a_batch_lie_in_the_unit_interval(draw, rng):
    call = getattr(LinearPath(PLANE), draw)
    name = ("velocity",) if draw == "draw_with_target" else ()
    for t in (torch.tensor([0.5, 1.2, 0.1]), torch.tensor([0.5, -0.1, 0.1]), 1.5):
        with pytest.raises(
            DomainError, match=r"times lie in \[0, 1\](.|\n)*got +(1\.2|-0\.1|1\.5)"
        ):
            call(*name, t, X, X, rng)
    with pytest.raises(DomainError, match=r"times lie in \[0, 1\](.|\n)*nan"):
        call(*name, torch.tensor([0.5, float("nan"), 0.1]), X, X, rng)


def test_the_times_of_a_conversion_lie_in_the_unit_interval():
    with pytest.raises(DomainError, match=r"LinearPath.convert: times lie in \[0, 1\]"):
        LinearPath(PLANE).convert("denoiser", {"velocity": X}, 1.01, X)


def test_endpoints_are_floating_point_tensors_of_one_dtype_on_one_device(rng):
    path, whole = LinearPath(PLANE), torch.zeros(3, 2, dtype=torch.long)
    with pytest.raises(DomainError, match=r"floating-point tensors(.|\n)*int64(.|\n)*codec"):
        path.draw(0.5, whole, whole, rng)
    with pytest.raises(
        DomainError, match=r"one dtype and one device(.|\n)*float32 on cpu.*float64"
    ):
        path.draw(0.5, X, X.double(), rng)
    with pytest.raises(DomainError, match=r"one dtype and one device(.|\n)*on cpu.*on meta"):
        path.draw(0.5, X, X.to("meta"), rng)


def test_a_schedule_has_the_boundary_that_it_declares():
    with pytest.raises(DomainError, match=r"beta is 1 at t = 1, as its boundary declares"):
        AffineSchedule(lambda t: 1 - t, lambda t: t / 2, lambda t: 0 * t)
    with pytest.raises(DomainError, match=r"alpha is 0 at t = 0, as its boundary declares"):
        AffineSchedule(lambda t: 1 - t, lambda t: t, lambda t: 0 * t, MIRROR)
    with pytest.raises(DomainError, match=r"gamma_squared is 0 at t = 0"):
        AffineSchedule(lambda t: 1 - t, lambda t: t, lambda t: 1 - t)


def test_a_schedule_has_no_negative_square_and_says_what_it_is():
    with pytest.raises(DomainError, match=r"γ² ≥ 0 on \[0, 1\](.|\n)*-0\.25"):
        AffineSchedule(lambda t: 1 - t, lambda t: t, lambda t: t * (t - 1))
    with pytest.raises(DomainError, match=r"a one-sided schedule has γ = 0(.|\n)*TWO_SIDED"):
        AffineSchedule(lambda t: 1 - t, lambda t: t, lambda t: t * (1 - t), ONE_SIDED)
    with pytest.raises(DomainError, match="alpha_squared is the square of alpha"):
        AffineSchedule(lambda t: 1 - t, lambda t: t, lambda t: 0 * t, alpha_squared=lambda t: 1 - t)
    with pytest.raises(DomainError, match=r"breakpoints lie inside \(0, 1\)(.|\n)*1"):
        AffineSchedule(lambda t: 1 - t, lambda t: t, lambda t: 0 * t, breakpoints=(1.0,))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rescaled_trigonometric_schedule(4.5), "gamma_scale ≤ 4"),
        (lambda: ornstein_uhlenbeck_schedule(0.0), "horizon > 0"),
        (lambda: mirror_schedule("none"), "a mirror has a latent noise"),
    ],
)
def test_schedules_refuse_their_parameters_by_name(call, words):
    with pytest.raises(DomainError, match=words):
        call()


def test_a_one_sided_path_needs_a_normal_base():
    with pytest.raises(DomainError, match=r"starts from a normal law(.|\n)*base: gaussian"):
        LinearPath(PLANE, variance_preserving_schedule())


@pytest.mark.parametrize(
    ("covariance", "base", "error", "words"),
    [
        (torch.diag(torch.tensor([1.0, -1.0])), "gaussian", DomainError, "least eigenvalue -1"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "gaussian", DomainError, "not symmetric"),
        (torch.eye(3), "gaussian", ShapeError, r"base_covariance is \(d, d\)"),
        (torch.eye(2), "any", DomainError, "a covariance belongs to base: gaussian"),
    ],
)
def test_covariances_are_checked(covariance, base, error, words):
    with pytest.raises(error, match=words):
        LinearPath(PLANE, base=base, base_covariance=covariance)


def test_a_mirror_has_no_noising_kernel_and_a_path_without_normal_base_no_base_law(rng):
    with pytest.raises(CapabilityError, match="a noising kernel needs a normal base"):
        presets.mirror(PLANE).renoise(torch.ones(3), torch.zeros(3), X, rng)
    grows = AffineSchedule(
        lambda t: torch.cos(1.5 * torch.pi * t) ** 2, lambda t: t, lambda t: 0 * t
    )
    with pytest.raises(CapabilityError, match="V/β² decreases in time"):
        LinearPath(PLANE, grows, "gaussian").renoise(torch.ones(3), torch.zeros(3), X, rng)
    with pytest.raises(CapabilityError, match="the path declares a normal base"):
        presets.path_base(LinearPath(PLANE))


def test_an_elliptical_base_is_checked():
    data = Dataset("x", PLANE, X, X, X, "made up")
    with pytest.raises(DomainError, match=r"scales are 2 positive numbers(.|\n)*1, -1"):
        presets.elliptical(PLANE, data, Identity(), scales=(1.0, -1.0))
    with pytest.raises(CapabilityError, match="points are vectors"):
        presets.elliptical(Euclidean(2, 2), data, Identity())
