"""What every path of this package owes, as a table."""

import re
from pathlib import Path

import pytest
import torch

from genpath.couplings import Pairs
from genpath.laws import DensityLaw, Gaussian
from genpath.models import Model
from genpath.objectives import Regression
from genpath.paths import ProbabilityPath
from genpath.spaces import Euclidean
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.presets import linear

# the program of docs/index.md: the block that is shown, and run when the pages are built
EXAMPLE = r'```python exec="true" source="above"[^\n]*\n(.*?)```'
CASES = [
    (gamma, base, shape)
    for gamma in ("none", "sqrt", "quadratic")
    for base in ("gaussian", "any")
    for shape in ((2,), (), (2, 3))
]
each = pytest.mark.parametrize(("gamma", "base", "shape"), CASES)


def build(gamma, base, shape):
    return linear(Euclidean(*shape), gamma, 1.3, base)


@each
def test_a_path_is_a_probability_path_and_draws_on_its_space(gamma, base, shape, rng):
    path = build(gamma, base, shape)
    assert isinstance(path, ProbabilityPath)
    x0, x1 = torch.randn(2, 5, *shape, generator=rng)
    draw = path.draw(torch.rand(5, generator=rng), x0, x1, rng)
    assert path.space.contains(draw.state).all()
    assert (draw.latent is None) == (gamma == "none")


@each
def test_every_prediction_has_a_target_of_its_shape(gamma, base, shape, rng):
    path = build(gamma, base, shape)
    for count in (5, 0):
        x0, x1 = torch.randn(2, count, *shape, generator=rng)
        draw = path.draw(torch.linspace(0, 1, count), x0, x1, rng)
        for name, prediction in path.predictions.items():
            target = path.target(name, draw)
            assert target.shape == (count, *prediction.output_shape)
            assert torch.isfinite(target).all(), "finite at t = 0 and t = 1 too"


@each
def test_every_prediction_trains(gamma, base, shape, rng):
    path = build(gamma, base, shape)
    x0, x1 = torch.randn(2, 4, *shape, generator=rng)
    for name, prediction in path.predictions.items():
        silent = torch.zeros(4, *prediction.output_shape)
        model = Model(lambda t, x, silent=silent: silent, path, Gaussian(shape), name)
        values = Regression()(model, Pairs(x0, x1), torch.linspace(0.1, 0.9, 4), rng)
        assert values.shape == (4,) and torch.isfinite(values).all()


@each
def test_rules_stay_finite_and_keep_shape_and_dtype_at_the_ends(gamma, base, shape, rng):
    path = build(gamma, base, shape)
    x = torch.randn(3, *shape, generator=rng)
    for rule in path.rules:
        shapes = [(3, *path.predictions[name].output_shape) for name in (*rule.needs, rule.gives)]
        values = [torch.randn(needed, generator=rng) for needed in shapes[:-1]]
        result = rule.formula(torch.tensor([0.0, 0.5, 1.0]), x, *values)
        assert result.shape == shapes[-1] and result.dtype == x.dtype
        assert torch.isfinite(result).all(), rule


def test_a_mixture_is_a_law_with_a_density_on_events_of_any_shape(rng):
    law = GaussianMixture(torch.tensor([0.5, 0.5]), torch.randn(2, 2, 3), torch.ones(2))
    assert isinstance(law, DensityLaw)
    for count in (4, 0):
        x = law.sample(count, rng)
        assert x.shape == (count, 2, 3) and law.log_prob(x).shape == (count,)
        marginal = MixtureMarginal(build("sqrt", "gaussian", (2, 3)), law)
        for name in ("velocity", "score", "denoiser", "base_denoiser", "noise"):
            for t in (0.0, 1.0):
                value = marginal.field(name)(t, x)
                assert value.shape == x.shape and torch.isfinite(value).all()


def test_a_config_builds_the_path():
    from genpath.plugins import registry

    component = registry().get("path", "interpolants.linear")
    path = component.build({"gamma": "quadratic", "gamma_scale": 2.0}, state_space=Euclidean(2))
    assert path == linear(Euclidean(2), "quadratic", 2.0)


def test_the_example_of_the_documentation_runs_and_prints_what_it_says(capsys):
    page = Path(__file__).parents[1] / "docs" / "index.md"
    (code,) = re.findall(EXAMPLE, page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, str(page), "exec"), {})
    share, error = (float(line.split(": ")[1]) for line in capsys.readouterr().out.splitlines())
    assert abs(share - 0.75) < 4.5 * (0.25 * 0.75 / 4000) ** 0.5 + 0.01  # sampling, and O(h)
    assert error < 1e-3  # float32
