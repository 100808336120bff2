"""Objectives: shapes, dtypes, empty batches, paths of every kind, refusals, configs."""

import math

import pytest
import torch

from genpath.couplings import Pairs
from genpath.errors import CapabilityError, ConfigError, DomainError, ShapeError
from genpath.laws import Gaussian
from genpath.models import Model
from genpath.objectives import Objective
from genpath.plugins import registry
from genpath.spaces import Euclidean
from genpath_interpolants.diffusive import DiffusivePath
from genpath_interpolants.gaussianised import GaussianisedPath
from genpath_interpolants.general import InterpolantPath
from genpath_interpolants.latents import Latent
from genpath_interpolants.objectives import ImplicitScore, Quadratic, excess_risk, mirrored
from genpath_interpolants.point_mass import PointMassPath
from genpath_interpolants.presets import linear, mirror, variance_preserving
from genpath_interpolants.times import (
    Arcsine,
    LogitNormal,
    Power,
    Tabulated,
    Uniform,
    adapted,
    importance_times,
    time_law,
)

PLANE = Euclidean(2)
DOUBLE = torch.float64


def bent(t, x0, x1):
    t = t[:, None]
    return (1 - t) * x0 + t * x1 + t * (1 - t) * torch.sin(x0 - x1)


def bump(t):
    return t * (1 - t)


def paths():
    """One of every kind that has noise to negate."""
    skew = torch.tensor([[1.0, 0.4], [-0.2, 0.7]], dtype=DOUBLE)
    return {
        "linear": linear(PLANE, "sqrt", 1.3),
        "both": linear(PLANE, "sqrt", 1.3, "gaussian"),
        "one-sided": linear(PLANE, base="gaussian"),
        "variance preserving": variance_preserving(PLANE),
        "mirror": mirror(PLANE, "sqrt"),
        "bent": InterpolantPath(PLANE, bent, bump),
        "skew": InterpolantPath(PLANE, bent, Latent(bump, skew)),
        "diffusive": DiffusivePath(PLANE, a=0.6),
        "gaussianised": GaussianisedPath(PLANE, lambda t, x: torch.sinh(x), lambda t, x: x.asinh()),
    }


def guess(t, x):
    return torch.tanh(x) + t[:, None]


def drawn(rng, count=6, dtype=DOUBLE):
    x0, x1 = torch.randn(2, count, 2, generator=rng, dtype=dtype)
    return Pairs(x0, x1), 0.1 + 0.8 * torch.rand(count, generator=rng, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("count", [5, 0])
@pytest.mark.parametrize("antithetic", [False, True])
def test_values_are_one_per_row_in_the_dtype_of_the_pairs(antithetic, count, dtype, rng):
    pairs, t = drawn(rng, count, dtype)
    path = linear(PLANE, "sqrt")
    for name in path.predictions:

        def field(t, x, name=name):
            return torch.stack([x, -x], 1) if "+" in name else x

        model = Model(field, path, Gaussian((2,)), name)
        values = Quadratic(antithetic)(model, pairs, t, rng)
        assert values.shape == (count,) and values.dtype == dtype
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("kind", ["exact", "hutchinson", "sliced"])
@pytest.mark.parametrize("count", [5, 0])
def test_the_implicit_score_is_one_value_per_row_and_trains(kind, count, rng):
    network = torch.nn.Linear(2, 2)
    model = Model(lambda t, x: network(x), linear(PLANE, "sqrt"), Gaussian((2,)), "score")
    pairs, t = drawn(rng, count, torch.float32)
    values = ImplicitScore(kind)(model, pairs, t, rng)
    assert values.shape == (count,)
    values.sum().backward()
    assert network.weight.grad is not None and torch.isfinite(network.weight.grad).all()
    assert isinstance(ImplicitScore(kind), Objective) and "log p" in ImplicitScore(kind).minimiser


def test_the_implicit_score_converts_what_is_predicted(rng):
    path = linear(PLANE, "sqrt")
    pairs, t = drawn(rng)
    model = Model(guess, path, Gaussian((2,)), "noise")

    def score(t, x):
        return -guess(t, x) / path.schedule.gamma(t)[:, None]

    other = Model(score, path, Gaussian((2,)), "score")
    same = [ImplicitScore()(m, pairs, t, torch.Generator().manual_seed(1)) for m in (model, other)]
    torch.testing.assert_close(*same)
    without = Model(guess, linear(PLANE), Gaussian((2,)))
    with pytest.raises(CapabilityError, match="no rule leads to 'score'"):
        ImplicitScore()(without, pairs, t, rng)


@pytest.mark.parametrize("name", paths())
def test_a_mirrored_draw_is_the_draw_of_the_negated_noise(name, rng):
    path = paths()[name]
    pairs, t = drawn(rng)
    draw = path.draw(t, pairs.x0, pairs.x1, rng)
    other = mirrored(path, draw)
    again = mirrored(path, other)
    torch.testing.assert_close(again.state, draw.state)
    assert torch.equal(other.x1, draw.x1) and torch.equal(other.t, draw.t)
    if draw.latent is None:
        assert torch.equal(other.x0, -draw.x0)
    else:
        assert torch.equal(other.latent, -draw.latent) and torch.equal(other.x0, draw.x0)
    # the target of the velocity is the state's derivative: so is that of the mirrored one
    step = 1e-5
    ends = []
    for s in (t - step, t + step):
        rng_s = torch.Generator().manual_seed(4)
        moved = path.draw(s, pairs.x0, pairs.x1, rng_s)
        ends.append(mirrored(path, moved).state)
    middle = mirrored(path, path.draw(t, pairs.x0, pairs.x1, torch.Generator().manual_seed(4)))
    slope = (ends[1] - ends[0]) / (2 * step)
    torch.testing.assert_close(path.target("velocity", middle), slope, rtol=1e-4, atol=1e-4)


def test_the_score_of_a_normal_base_is_mirrored_in_all_its_noise(rng):
    path = linear(PLANE, "quadratic", 1.3, "gaussian")
    pairs, t = drawn(rng)
    draw = path.draw(t, pairs.x0, pairs.x1, rng)
    other = mirrored(path, draw, "score")
    torch.testing.assert_close(path.target("score", other), -path.target("score", draw))
    torch.testing.assert_close(other.state + draw.state, 2 * t[:, None] * pairs.x1)


def test_a_path_may_mirror_its_draws_itself(rng):
    class Own:
        def mirrored(self, draw, predict):
            return (draw, predict)

    assert mirrored(Own(), "draw", "noise") == ("draw", "noise")


def test_a_path_without_noise_has_no_antithetic_draws(rng):
    pairs, t = drawn(rng)
    model = Model(guess, linear(PLANE), Gaussian((2,)))
    with pytest.raises(CapabilityError, match="a latent of the path, or a normal base"):
        Quadratic(antithetic=True)(model, pairs, t, rng)


def test_states_with_facts_are_scored_too(rng):
    path = PointMassPath(PLANE)  # each row has its own start
    pairs, t = drawn(rng)

    def field(t, state):
        return {"x": torch.tanh(state["x"] - state["start"])}

    model = Model(field, path, Gaussian((2,)), "diffusive_drift")
    for antithetic in (False, True):
        values = Quadratic(antithetic)(model, pairs, t, rng)
        assert values.shape == (6,) and torch.isfinite(values).all()
    least = excess_risk(model, field, pairs, t, rng)
    assert least.value == 0.0
    with pytest.raises(CapabilityError, match="states are tensors"):
        ImplicitScore()(Model(field, path, Gaussian((2,)), "score"), pairs, t, rng)


def test_antithetic_draws_call_the_network_once(rng):
    calls = []

    def field(t, x):
        calls.append(len(x))
        return x

    pairs, t = drawn(rng)
    Quadratic(antithetic=True)(Model(field, linear(PLANE, "sqrt"), Gaussian((2,))), pairs, t, rng)
    assert calls == [12]


def test_the_network_answers_in_the_form_of_the_target(rng):
    pairs, t = drawn(rng)
    model = Model(guess, linear(PLANE, "sqrt"), Gaussian((2,)), "velocity+score")
    with pytest.raises(ShapeError, match="the network's output has the form of the target"):
        Quadratic()(model, pairs, t, rng)


@pytest.mark.parametrize("law", ["uniform", "arcsine", "logit_normal"])
def test_times_stay_in_their_interval_and_values_finite(law, rng):
    seen = []

    def field(t, x):
        seen.append(t)
        return x

    u = torch.cat([torch.tensor([1e-6, 1 - 1e-6]), torch.rand(200, generator=rng)])
    x0, x1 = torch.randn(2, 202, 2, generator=rng)
    model = Model(field, linear(PLANE, "sqrt"), Gaussian((2,)), "score")
    values = Quadratic(time=law, t_min=0.1, t_max=0.6)(model, Pairs(x0, x1), u, rng)
    assert torch.isfinite(values).all()
    assert seen[0].min() >= 0.1 and seen[0].max() <= 0.6 + 1e-6


@pytest.mark.parametrize(
    "law", [Uniform(), Arcsine(), Power(2.0), Power(2.0, 1), LogitNormal(), Tabulated((1.0, 3.0))]
)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_time_laws_at_the_ends_and_in_empty_batches(law, dtype):
    for u in (torch.tensor([0.0, 0.5, 1.0], dtype=dtype), torch.zeros(0, dtype=dtype)):
        t, weight = importance_times(law, u)
        assert t.shape == weight.shape == u.shape and t.dtype == weight.dtype == dtype
        assert ((t >= 0) & (t <= 1)).all() and torch.isfinite(weight).all()


def test_no_weight_of_a_logistic_normal_exceeds_the_share():
    _, weight = importance_times(LogitNormal(share=0.2), torch.linspace(0, 1, 1001))
    assert weight.max() <= 5.0


def test_a_law_adapts_to_losses_and_fills_the_bins_that_it_did_not_see():
    t, values = torch.tensor([0.1, 0.2, 0.9]), torch.tensor([2.0, -2.0, 0.0])
    law = adapted(t, values, bins=4)
    assert law.heights[0] > law.heights[1] > law.heights[3]
    assert math.isclose(sum(law.heights), 4.0)
    assert adapted(t[:0], values[:0], bins=3).heights == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Quadratic(time="cosine"), DomainError, "time is one of uniform, arcsine"),
        (lambda: Quadratic(t_min=0.5, t_max=0.5), DomainError, "0 ≤ t_min < t_max ≤ 1"),
        (lambda: ImplicitScore(t_max=1.5), DomainError, "0 ≤ t_min < t_max ≤ 1"),
        (lambda: ImplicitScore("trace"), DomainError, "exact, hutchinson or sliced"),
        (lambda: time_law("cosine"), DomainError, "time is one of"),
        (lambda: Power(0.5), DomainError, "exponent ≥ 1"),
        (lambda: LogitNormal(std=0.0), DomainError, "std > 0"),
        (lambda: LogitNormal(share=0.0), DomainError, "0 < share ≤ 1"),
        (lambda: Tabulated(()), DomainError, "heights are positive"),
        (lambda: Tabulated((1.0, 0.0)), DomainError, "heights are positive"),
        (lambda: adapted(torch.zeros(2), torch.zeros(3)), ShapeError, "one loss per time"),
        (lambda: adapted(torch.zeros(2), torch.zeros(2), 0), DomainError, "bins ≥ 1"),
    ],
)
def test_options_are_checked(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_excess_risk_by_bins_and_in_words(rng):
    pairs, _ = drawn(rng, 100)
    t = torch.linspace(0.01, 0.49, 100, dtype=DOUBLE)
    path = linear(PLANE, "sqrt")
    model = Model(lambda t, x: torch.stack([x + 1, x], 1), path, Gaussian((2,)), "denoiser+noise")
    found = excess_risk(model, lambda t, x: torch.stack([x, x], 1), pairs, t, rng, bins=4)
    assert math.isclose(found.value, 1.0) and found.counts.tolist() == [50, 50, 0, 0]
    assert found.values[2:].isnan().all() and "½E|g − g*|² = 1 ± " in str(found)
    with pytest.raises(DomainError, match="two draws or more"):
        excess_risk(model, guess, Pairs(pairs.x0[:1], pairs.x1[:1]), t[:1], rng)
    with pytest.raises(CapabilityError, match="no rule leads"):
        excess_risk(
            Model(guess, linear(PLANE), Gaussian((2,))), guess, pairs, t, rng, quantity="score"
        )


def test_configs_build_the_objectives():
    found = registry()
    component = found.get("objective", "interpolants.quadratic")
    built = component.build({"antithetic": True, "time": "arcsine", "t_min": 0.01})
    assert built == Quadratic(True, "arcsine", 0.01)
    component = found.get("objective", "interpolants.implicit_score")
    assert component.build({"divergence": "sliced"}) == ImplicitScore("sliced")
    with pytest.raises(ConfigError, match="time"):
        component.build({"time": "cosine"})
