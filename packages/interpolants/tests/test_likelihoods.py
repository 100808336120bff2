"""Densities of learned processes: shapes, dtypes, codecs and refusals, apart from claims."""

import math
from types import SimpleNamespace

import pytest
import torch

from genpath.codecs import Standardise
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import flow
from genpath.laws import Empirical, Gaussian
from genpath.likelihoods import LogLikelihood, ODELikelihood
from genpath.models import Model
from genpath.plugins import registry
from genpath.samplers import Euler
from genpath.spaces import Euclidean
from genpath_interpolants.auxiliary import auxiliary, backward_drift, forward_drift
from genpath_interpolants.distances import (
    Estimate,
    KernelDensity,
    kl_monte_carlo,
    log_density_error,
    projected_kl,
)
from genpath_interpolants.entropies import cross_entropy, cross_entropy_ode, path_diagnostics
from genpath_interpolants.likelihoods import SDELikelihood, density
from genpath_interpolants.mixtures import MixtureMarginal
from genpath_interpolants.presets import linear


def falling(t, x):
    """dX = −X dt + √2 dW keeps N(0, I)."""
    return -x


@pytest.fixture
def model(mixture):
    path = linear(Euclidean(2), "sqrt", base="gaussian")
    exact = MixtureMarginal(path, mixture)
    return Model(exact.field("velocity"), path, Gaussian((2,), dtype=torch.float64))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


class TestShapes:
    @pytest.mark.parametrize("event", [(), (1,), (3,), (2, 2)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("rows", [0, 3])
    @pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
    def test_one_value_per_row_in_its_dtype(self, event, dtype, rows, divergence):
        x, base = torch.zeros(rows, *event, dtype=dtype), Gaussian(event, dtype=dtype)
        score = SDELikelihood(steps=3, paths=4, divergence=divergence)
        for found in (
            score.log_prob_forward(falling, x, base, rng()),
            score.log_prob_backward(falling, x, base, rng()),
            density(flow(Euclidean(*event), falling), x, 0.5, base, rng(), divergence=divergence),
            score.jensen_gap(falling, falling, x, rng()),
        ):
            assert found.value.shape == found.standard_error.shape == (rows,)
            assert found.value.dtype == dtype
            assert bool(found.value.isfinite().all())

    def test_many_small_chunks_give_every_path(self):
        x, base = torch.randn(5, 2, generator=rng()), Gaussian((2,))
        for chunk in (1, 3, 7, 1000):
            score = SDELikelihood(steps=2, paths=4, chunk=chunk)
            assert score.log_terms(falling, x, base, rng(), 1.0).shape == (5, 4)

    def test_terms_belong_to_their_rows(self):
        x, base = torch.tensor([[0.0], [40.0]]), Gaussian((1,))
        terms = SDELikelihood(eps=0.1, steps=4, paths=3, chunk=4).log_terms(
            falling, x, base, rng(), 1.0
        )
        assert bool((terms[0] > -10).all()) and bool((terms[1] < -1000).all())

    def test_where_the_law_is_given_the_density_is_its_own(self):
        x, base = torch.randn(4, 1, generator=rng()), Gaussian((1,))
        score = SDELikelihood(steps=2, paths=3)
        assert torch.allclose(
            score.log_prob_forward(falling, x, base, rng(), 0.0).value, base.log_prob(x)
        )
        assert torch.allclose(
            score.log_prob_backward(falling, x, base, rng(), 1.0).value, base.log_prob(x)
        )
        gen = flow(Euclidean(1), falling)
        for t, end in ((0.0, "base"), (1.0, "data")):
            assert torch.equal(density(gen, x, t, base, rng(), from_=end).value, base.log_prob(x))

    def test_the_same_seed_gives_the_same_numbers(self, model):
        score, x = SDELikelihood(steps=2, paths=4), torch.zeros(2, 2, dtype=torch.float64)
        assert torch.equal(score(model, x, rng(1)).value, score(model, x, rng(1)).value)
        assert not torch.equal(score(model, x, rng(1)).value, score(model, x, rng(2)).value)

    def test_one_path_has_no_standard_error(self):
        found = SDELikelihood(steps=2, paths=1).log_prob_forward(
            falling, torch.zeros(2, 1), Gaussian((1,)), rng()
        )
        assert bool(found.standard_error.isnan().all()) and found.kind == "unbiased for p"


class TestModels:
    def test_without_noise_it_is_the_flow(self, model):
        x = torch.randn(6, 2, generator=rng(), dtype=torch.float64)
        found = SDELikelihood(eps=0.0, steps=40)(model, x, rng())
        true = ODELikelihood(steps=30)(model, x, rng())
        assert torch.allclose(found.value, true.value, atol=1e-2)
        assert found.kind == "exact" and not bool(found.standard_error.any())

    def test_a_velocity_alone_is_enough_without_noise_and_not_with_it(self):
        path = linear(Euclidean(1))  # base any: no score
        model = Model(lambda t, x: -x, path, Gaussian((1,)))
        assert SDELikelihood(eps=0.0, steps=4)(model, torch.zeros(2, 1), rng()).value.shape == (2,)
        with pytest.raises(CapabilityError, match="no rule leads to 'score'"):
            SDELikelihood(eps=0.5, steps=4)(model, torch.zeros(2, 1), rng())

    def test_data_units_cost_a_log_determinant(self, model):
        scale = torch.tensor([2.0, 0.5], dtype=torch.float64)
        codec = Standardise(torch.zeros(2, dtype=torch.float64), scale)
        coded = Model(model.network, model.path, model.base, codec=codec)
        x = torch.randn(3, 2, generator=rng(), dtype=torch.float64)
        score = SDELikelihood(eps=0.2, steps=5, paths=8)
        found = score(coded, x * scale, rng(3)).value
        assert torch.allclose(found, score(model, x, rng(3)).value - scale.log().sum())

    def test_a_random_codec_is_drawn_for_every_path(self, model):
        class Blurred:
            exact = False
            drawn = 0

            def encode(self, y, rng):
                Blurred.drawn += len(y)
                noise = 0.1 * torch.randn(y.shape, generator=rng, dtype=y.dtype)
                return y + noise, torch.zeros(len(y), dtype=y.dtype)

        coded = Model(model.network, model.path, model.base, codec=Blurred())
        x = torch.zeros(2, 2, dtype=torch.float64)
        found = SDELikelihood(eps=0.0, steps=4, paths=16)(coded, x, rng())
        assert Blurred.drawn == 32
        assert bool((found.standard_error > 0).all()) and found.kind == "unbiased for p"

    def test_guidance_is_part_of_the_model(self, model):
        guided = Model(
            model.network,
            model.path,
            model.base,
            guide=lambda field: lambda t, x: 2 * field(t, x),
        )
        t, x = torch.full((3,), 0.4, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64)
        assert torch.allclose(forward_drift(guided, 0.0)(t, x), 2 * model.network(t, x))

    def test_the_mean_of_the_drifts_is_the_velocity(self, model):
        t = torch.full((3,), 0.4, dtype=torch.float64)
        x = torch.randn(3, 2, generator=rng(), dtype=torch.float64)
        mean = 0.5 * (forward_drift(model, 0.7)(t, x) + backward_drift(model, 0.7)(t, x))
        assert torch.allclose(mean, model.network(t, x))

    def test_gradients_reach_the_drift(self):
        rate = torch.tensor(-1.0, requires_grad=True)
        score = SDELikelihood(eps=0.3, steps=3, paths=4)
        x = torch.zeros(2, 1)
        found = score.log_prob_forward(lambda t, y: rate * y, x, Gaussian((1,)), rng())
        found.value.sum().backward()
        assert rate.grad is not None and bool(rate.grad.isfinite())


class TestEntropies:
    def test_inner_paths_and_rows_are_reported(self):
        scores = LogLikelihood(torch.zeros(3), torch.full((3,), 0.2), "unbiased for p")
        found = cross_entropy(scores, inner=7)
        assert (found.count, found.inner) == (3, 7)
        assert found.bias == pytest.approx(0.02)

    def test_a_flow_has_no_bias(self):
        gen, x = flow(Euclidean(1), falling), torch.randn(8, 1, generator=rng())
        for end in ("base", "data"):
            found = cross_entropy_ode(gen, x, Gaussian((1,)), rng(), from_=end, steps=4)
            assert (found.bias, found.inner) == (0.0, 1)

    def test_backward_in_time_the_bound_is_above_too(self):
        x, law = torch.randn(400, 1, generator=rng()), Gaussian((1,))
        score = SDELikelihood(eps=0.5, steps=10, paths=1)
        bound = score.cross_entropy_upper(lambda t, y: y, x, law, rng(), 0.0, "backward")
        spread = math.exp(-2) + 0.5 * (1 - math.exp(-2))  # V of dX = X dt + dW back from N(0, 1)
        truth = 0.5 * math.log(2 * math.pi * spread) + 0.5 / spread
        assert bound.value > truth + 3 * bound.standard_error

    def test_no_rows_have_no_mean(self):
        empty = LogLikelihood(torch.zeros(0), torch.zeros(0), "exact")
        with pytest.raises(DomainError, match="a mean needs a row or more"):
            cross_entropy(empty)

    def test_diagnostics_want_two_paths(self):
        with pytest.raises(ShapeError, match=r"terms are \(batch, paths\), paths ≥ 2"):
            path_diagnostics(torch.zeros(3, 1))
        even = path_diagnostics(torch.zeros(3, 5))
        assert torch.allclose(even.ess, torch.full((3,), 5.0))


class TestDistances:
    def test_an_estimate_of_one_term_has_no_error(self):
        assert math.isnan(Estimate.of(torch.ones(1), "here").standard_error)

    def test_kl_of_a_law_from_itself_is_exactly_zero(self):
        law = Gaussian((2,))
        found = kl_monte_carlo(law.log_prob, law.log_prob, law.sample(10, rng()))
        assert (found.value, found.standard_error) == (0.0, 0.0)

    def test_log_density_errors_pair_up(self):
        with pytest.raises(ShapeError, match="those of the same points"):
            log_density_error(torch.zeros(2), torch.zeros(3))
        with pytest.raises(DomainError, match="a variance needs two points"):
            log_density_error(torch.zeros(1), torch.zeros(1))

    def test_kernels_integrate_to_one(self):
        points = torch.randn(50, 1, generator=rng(), dtype=torch.float64)
        grid = torch.linspace(-9, 9, 1801, dtype=torch.float64)[:, None]
        mass = torch.trapezoid(KernelDensity(points, chunk=100).log_prob(grid).exp(), grid[:, 0])
        assert float(mass) == pytest.approx(1.0, abs=1e-9)

    def test_kernels_refuse_what_has_no_width(self):
        with pytest.raises(ShapeError, match=r"points are \(n, d\) with n ≥ 2"):
            KernelDensity(torch.zeros(1, 2))
        with pytest.raises(DomainError, match="no coordinate is constant"):
            KernelDensity(torch.zeros(4, 2))
        with pytest.raises(DomainError, match="the bandwidth is positive"):
            KernelDensity(torch.randn(4, 2, generator=rng()), bandwidth=0.0)

    def test_only_the_chosen_coordinates_count(self):
        x, y = torch.randn(2, 600, 4, generator=rng())
        x[:, 3] += 5
        assert abs(projected_kl(x, y).value) < 0.2
        assert projected_kl(x, y, (2, 3)).value > 1
        with pytest.raises(DomainError, match="four rows or more"):
            projected_kl(x, y[:3])


class TestRefusals:
    def test_options(self):
        with pytest.raises(DomainError, match="ε ≥ 0"):
            SDELikelihood(eps=-1.0)
        with pytest.raises(DomainError, match="steps, paths and chunk are 1 or more"):
            SDELikelihood(paths=0)

    def test_times_and_directions(self):
        x, base, score = torch.zeros(1, 1), Gaussian((1,)), SDELikelihood(steps=2, paths=2)
        with pytest.raises(DomainError, match="a time in"):
            score.log_prob_forward(falling, x, base, rng(), 1.5)
        with pytest.raises(DomainError, match="forward or backward"):
            score.log_terms(falling, x, base, rng(), 1.0, "sideways")
        with pytest.raises(DomainError, match="from base or data"):
            density(flow(Euclidean(1), falling), x, 0.5, base, rng(), from_="middle")

    def test_a_base_without_density(self, model):
        bare = Model(model.network, model.path, Empirical(torch.zeros(2, 2)))
        with pytest.raises(CapabilityError, match="the base law has a log-density"):
            SDELikelihood()(bare, torch.zeros(1, 2), rng())

    def test_a_space_that_is_not_flat(self, model):
        path = SimpleNamespace(space="sphere", rules=(), predictions=model.path.predictions)
        curved = Model(model.network, path, model.base)
        with pytest.raises(CapabilityError, match=r"lives on R\^d"):
            SDELikelihood()(curved, torch.zeros(1, 2), rng())


class TestComponent:
    def test_a_config_builds_it(self):
        component = registry().get("likelihood", "interpolants.sde")
        made = component.build({"eps": 0.5, "method": "euler"})
        assert (made.eps, made.sampler) == (0.5, Euler())
        shaped = component.build({"shape": "falling"})
        assert shaped.eps(torch.tensor([0.0, 1.0])).tolist() == [1.0, 0.0]

    def test_the_auxiliary_generator_is_an_ordinary_one(self):
        gen = auxiliary(Euclidean(2), falling, 0.5)
        assert gen.has == {"velocity", "diffusion"}
        state = {"x": torch.ones(3, 2), "log_weight": torch.zeros(3)}
        test = gen.apply(lambda s: s["log_weight"], 0.3, state)
        assert torch.allclose(test, torch.full((3,), 2.0))  # −div f
        assert auxiliary(Euclidean(2), falling, 0.0).has == {"velocity"}
