"""The auxiliary SDE and its paths: what is read at which time, chunks, codecs, known laws."""

import math
from dataclasses import replace

import pytest
import torch

from genpath.codecs import Chain, Dequantise, Standardise
from genpath.config import Config
from genpath.errors import CapabilityError, ConfigError
from genpath.generators import flow
from genpath.laws import Gaussian
from genpath.likelihoods import LogLikelihood, ODELikelihood
from genpath.models import Model
from genpath.plugins import registry
from genpath.run.assembly import assemble
from genpath.samplers import Euler, RungeKutta
from genpath.spaces import Euclidean
from genpath.tableaus import HEUN
from genpath_interpolants.auxiliary import auxiliary, backward_drift, forward_drift
from genpath_interpolants.distances import KernelDensity, kl_monte_carlo, kl_terms, projected_kl
from genpath_interpolants.dynamics import Tabulated, Vanishing, eps_at
from genpath_interpolants.entropies import cross_entropy, cross_entropy_ode, path_diagnostics
from genpath_interpolants.likelihoods import SDELikelihood, density
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.presets import linear
from genpath_interpolants.samplers import StochasticHeun

DOUBLE = torch.float64
SHAPES = [(), (2,), (2, 3)]
DTYPES = [torch.float32, DOUBLE]
NORMAL = Gaussian((1,), dtype=DOUBLE)


def decay(t, x):
    return -0.5 * x


def zero(t, x):
    return 0 * x


def clock(t, x):
    return t[:, None] + 0 * x


def bend(t, x):
    """A field with a Jacobian that is neither diagonal nor constant."""
    return torch.sin(x.flip(-1) + x)


def still(t, x):
    """The velocity and score of a model whose law is N(0, I) at all times."""
    return torch.stack([torch.zeros_like(x), -x], 1)


def model(shape=(2,), **more):
    path = linear(Euclidean(*shape), "none", base="gaussian")
    return Model(still, path, Gaussian(shape), "velocity+score", **more)


class TestDrifts:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_they_differ_by_the_score(self, shape, dtype, rng):
        for count in (3, 0):
            x = torch.randn(count, *shape, generator=rng, dtype=dtype)
            t = torch.full((count,), 0.4, dtype=dtype)
            torch.testing.assert_close(forward_drift(model(shape), 0.25)(t, x), -0.25 * x)
            torch.testing.assert_close(backward_drift(model(shape), 0.25)(t, x), 0.25 * x)

    def test_without_noise_a_score_is_not_asked_for(self):
        bare = Model(decay, linear(Euclidean(2), "none"), Gaussian((2,)))  # a base of any law
        t, x = torch.zeros(2), torch.ones(2, 2)
        torch.testing.assert_close(backward_drift(bare, 0.0)(t, x), -0.5 * x)
        with pytest.raises(CapabilityError, match="score"):
            backward_drift(bare, 0.1)

    def test_noise_comes_in_the_dtype_of_the_times(self):
        t = torch.linspace(0, 1, 3)
        for eps in (0.5, Vanishing(1.0), Tabulated((0.0, 1.0)), lambda t: t.double()):
            assert eps_at(eps, t).dtype == t.dtype and eps_at(eps, t).shape == (3,)

    @pytest.mark.parametrize(("direction", "sign"), [("forward", -1.0), ("backward", 1.0)])
    def test_the_parts_at_one_point(self, direction, sign):
        """f = tx, r = 1, ε = t: at clock 0.2 the forward process's time is 0.8."""
        gen = auxiliary(
            Euclidean(2),
            lambda t, x: t[:, None] * x,
            lambda t: t,
            direction=direction,
            killing=lambda t, x: 1 + 0 * t,
        )
        t = 0.8 if direction == "forward" else 0.2
        parts = gen(0.2, {"x": torch.ones(1, 2), "log_weight": torch.zeros(1)})
        torch.testing.assert_close(parts.velocity["x"], torch.full((1, 2), sign * t))
        expected = torch.tensor([sign * 2 * t - 1])
        torch.testing.assert_close(parts.velocity["log_weight"], expected)
        kicked = parts.diffusion({"x": torch.ones(1, 2)})
        torch.testing.assert_close(kicked["x"], torch.full((1, 2), math.sqrt(2 * t)))


class TestTimes:
    def test_noise_is_read_at_its_time(self, rng):
        """dX = √(2ε) dW with ε = 2t adds ∫ 2ε dt: ½ up to t = ½, and 3/2 from there on."""
        score = SDELikelihood(Tabulated((0.0, 2.0)), steps=10, paths=4000)
        x = torch.zeros(1, 1, dtype=DOUBLE)
        for found, added in (
            (score.log_prob_forward(zero, x, NORMAL, rng, 0.5), 0.5),
            (score.log_prob_backward(zero, x, NORMAL, rng, 0.5), 1.5),
        ):
            true = -0.5 * math.log(2 * math.pi * (1 + added))
            assert abs(float(found.value) - true) < 5 * float(found.standard_error) + 0.005

    def test_drifts_are_read_at_their_time(self, rng):
        """ẋ = t moves by 1/8 up to t = ½, and by 3/8 from there on."""
        x, score = torch.zeros(1, 1, dtype=DOUBLE), SDELikelihood(0.0, steps=4)
        for found, moved in (
            (score.log_prob_forward(clock, x, NORMAL, rng, 0.5), 1 / 8),
            (score.log_prob_backward(clock, x, NORMAL, rng, 0.5), 3 / 8),
        ):
            torch.testing.assert_close(found.value, NORMAL.log_prob(x + moved))

    def test_killing_is_read_at_its_time(self, rng):
        x = torch.zeros(1, 1, dtype=DOUBLE)
        score = SDELikelihood(0.0, steps=4, killing=lambda t, x: t)
        forward = score.log_prob_forward(zero, x, NORMAL, rng, 0.5).value
        backward = score.log_prob_backward(zero, x, NORMAL, rng, 0.5).value
        torch.testing.assert_close(forward, NORMAL.log_prob(x) - 1 / 8)
        torch.testing.assert_close(backward, NORMAL.log_prob(x) - 3 / 8)

    def test_scores_are_read_at_their_time(self, rng):
        """|s|² = t and ε = 0.4: the gap is 0.4/8 up to ½, 0.4·3/8 from there on."""
        x, score = torch.zeros(3, 1, dtype=DOUBLE), SDELikelihood(0.4, steps=4, paths=2)

        def root(t, y):
            return t.sqrt()[:, None] + 0 * y

        forward = score.jensen_gap(zero, root, x, rng, 0.5)
        backward = score.jensen_gap(zero, root, x, rng, 0.5, "backward")
        torch.testing.assert_close(forward.value, torch.full((3,), 0.05, dtype=DOUBLE))
        torch.testing.assert_close(backward.value, torch.full((3,), 0.15, dtype=DOUBLE))

    def test_a_gap_does_not_know_of_killing_but_a_bound_does(self, rng):
        x = torch.zeros(50, 1, dtype=DOUBLE)
        plain = SDELikelihood(0.0, steps=2, paths=2)
        dying = replace(plain, killing=lambda t, x: 1 + 0 * t)
        assert not dying.jensen_gap(zero, decay, x, rng).value.any()
        for given in ({}, {"score": decay}):
            upper = [s.cross_entropy_upper(zero, x, NORMAL, rng, **given) for s in (plain, dying)]
            assert math.isclose(upper[1].value - upper[0].value, 1, rel_tol=1e-12)


class TestLaws:
    """dX = −X/2 dt + dW keeps N(0, 1)."""

    @pytest.mark.parametrize("chunk", [90, 1000, 8192])
    def test_chunks_change_no_law_and_keep_rows_apart(self, chunk, rng):
        x = torch.tensor([[-2.0], [0.0], [1.0]], dtype=DOUBLE)
        score = SDELikelihood(0.5, steps=8, paths=700, chunk=chunk)
        found = score.log_prob_forward(decay, x, NORMAL, rng)
        bias = 8**-2 / 4 + found.standard_error**2  # of the method, and of the logarithm
        assert ((found.value - NORMAL.log_prob(x)).abs() < 5 * found.standard_error + bias).all()
        assert (found.standard_error > 0).all() and (found.standard_error < 0.1).all()

    @pytest.mark.parametrize("chunk", [1, 3, 7, 64])
    def test_chunks_change_nothing_where_nothing_is_random(self, chunk, rng):
        x = torch.randn(5, 2, generator=rng, dtype=DOUBLE)
        whole, base = SDELikelihood(0.0, steps=5), Gaussian((2,))
        found = replace(whole, chunk=chunk).log_prob_forward(bend, x, base, rng)
        expected = whole.log_prob_forward(bend, x, base, rng)
        torch.testing.assert_close(found.value, expected.value)

    def test_the_error_is_that_of_repeats(self, rng):
        x = torch.full((400, 1), 0.8, dtype=DOUBLE)  # a row, 400 times
        found = SDELikelihood(0.5, steps=4, paths=100).log_prob_forward(decay, x, NORMAL, rng)
        told = float(found.standard_error.square().mean().sqrt())
        assert abs(float(found.value.std()) / told - 1) < 0.2  # 400 repeats, and 1/100

    def test_hutchinson_agrees_with_exact(self, rng):
        x = torch.tensor([[0.4, -0.8], [1.0, 0.2]], dtype=DOUBLE)
        base, score = Gaussian((2,), dtype=DOUBLE), SDELikelihood(0.2, steps=16, paths=2000)
        exact = score.log_prob_forward(bend, x, base, rng)
        probed = replace(score, divergence="hutchinson").log_prob_forward(bend, x, base, rng)
        error = (exact.standard_error**2 + probed.standard_error**2).sqrt()
        bias = 0.5 / 16 * 4  # h/2 Var(ξᵀJξ), 4 S₀₁² ≤ 4
        assert ((exact.value - probed.value).abs() < 5 * error + bias).all()
        assert not torch.equal(exact.value, probed.value)

    def test_the_bound_is_above_by_the_gap(self, rng):
        """dZ = Z/2 dτ + dW has E Z² = (x² + 1)e^τ − 1."""
        x = torch.full((4000, 1), 1.2, dtype=DOUBLE)
        score = SDELikelihood(0.5, steps=8, paths=1)
        upper = score.cross_entropy_upper(decay, x, NORMAL, rng)
        right = score.cross_entropy_upper(decay, x, NORMAL, rng, score=lambda t, x: -x)
        gap = score.jensen_gap(decay, lambda t, x: -x, x, rng).value
        true, lost = -float(NORMAL.log_prob(x[:1])), 0.5 * ((1.2**2 + 1) * (math.e - 1) - 1)
        assert abs(upper.value - true - lost) < 5 * upper.standard_error + 0.02
        assert abs(right.value - true) < 5 * right.standard_error + 0.02
        assert abs(float(gap.mean()) - lost) < 5 * float(gap.std()) / math.sqrt(4000) + 0.02

    def test_euler_is_a_sampler_too(self, rng):
        x, score = torch.zeros(1, 1), SDELikelihood(0.5, steps=50, paths=500, sampler=Euler())
        found = score.log_prob_forward(decay, x, Gaussian((1,)), rng)
        assert abs(float(found.value) + 0.9189) < 5 * float(found.standard_error) + 0.02

    def test_a_model_builds_no_graph(self, rng):
        x = torch.zeros(2, 2, requires_grad=True)
        assert not SDELikelihood(0.1, steps=2, paths=2)(model(), x, rng).value.requires_grad


class TestCodecs:
    def test_a_bijection_brings_its_determinant(self, rng):
        mean, std = torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.5])
        codec = Standardise(mean, std)
        x = codec.decode(torch.randn(6, 2, generator=rng))
        true = torch.distributions.Normal(mean, std).log_prob(x).sum(1)
        found = SDELikelihood(0.2, steps=8, paths=400)(model(codec=codec), x, rng)
        assert ((found.value - true).abs() < 5 * found.standard_error + 0.02).all()
        exact = SDELikelihood(0.0, steps=4)(model(codec=codec), x, rng)
        assert exact.kind == "exact"
        torch.testing.assert_close(exact.value, true, atol=1e-5, rtol=1e-5)

    def test_paths_over_a_random_codec_give_the_mass_of_a_cell(self, rng):
        codec = Dequantise(levels=2, scale=2.0)  # cells [−2, 0] and [0, 2]
        score = SDELikelihood(0.0, steps=1, paths=4000, chunk=1000)
        found = score(model((1,), codec=codec), torch.tensor([[0.0], [1.0]]), rng)
        true = math.log(math.erf(2 / math.sqrt(2)) / 2)
        assert found.kind == "unbiased for p" and (found.standard_error > 0).all()
        assert ((found.value - true).abs() < 5 * found.standard_error).all()

    def test_a_chain_is_random_where_a_part_is(self, rng):
        codec = Chain([Dequantise(4), Standardise(torch.zeros(2), torch.full((2,), 0.5))])
        y = torch.randint(0, 4, (3, 2), generator=rng).float()
        found = SDELikelihood(0.0, steps=2, paths=50)(model(codec=codec), y, rng)
        assert found.kind == "unbiased for p" and torch.isfinite(found.value).all()

    def test_a_config_scores_data_in_their_units(self, rng):
        words = """
            data: {name: interpolants.gaussian_mixture, preset: ring, count: 200, std: 0.5}
            codec: standardise
            base: gaussian
            path: {name: interpolants.linear, gamma: sqrt}
            predict: velocity+score
            network: interpolants.gaussian_mixture
            objective: regression
            dynamics: ode
            sampler: {name: heun, steps: 10}
            likelihood: {name: interpolants.sde, eps: 0.2, steps: 30, paths: 200, chunk: 1000}
        """
        built = assemble(Config.from_yaml(words))
        score, law, rows = built.likelihood, built.data.law, built.data.test[:6]
        assert isinstance(score, SDELikelihood) and score.paths == 200 and score.chunk == 1000
        found = score(built.model, rows, rng)
        error = (found.value - law.log_prob(rows)).abs()
        assert (error < 5 * found.standard_error + 0.05).all(), error
        flat = ODELikelihood(steps=40)(built.model, rows, rng).value
        assert (flat - law.log_prob(rows)).abs().max() < 0.01


class TestOptions:
    @staticmethod
    def build(**options):
        return registry().get("likelihood", "interpolants.sde").build(options)

    def test_every_option_reaches_the_estimator(self):
        given = {"steps": 7, "paths": 3, "divergence": "hutchinson", "chunk": 9}
        found = self.build(eps=0.5, shape="falling", method="euler", **given)
        assert {name: getattr(found, name) for name in given} == given
        assert isinstance(found.sampler, Euler)
        torch.testing.assert_close(found.eps(torch.tensor([0.0, 0.5])), torch.tensor([0.5, 0.25]))
        assert self.build().eps == 1.0 and isinstance(self.build().sampler, StochasticHeun)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("eps", -1.0), ("paths", 0), ("steps", 0), ("shape", "round"), ("divergence", "none")],
    )
    def test_others_are_refused(self, name, value):
        with pytest.raises(ConfigError, match=name):
            self.build(**{name: value})


class TestFlow:
    def test_the_two_ends_agree_for_exact_fields(self, mixture, rng):
        path = linear(Euclidean(2), "quadratic", base="gaussian")
        base, x = Gaussian((2,), dtype=DOUBLE), torch.randn(4, 2, generator=rng, dtype=DOUBLE)
        scored = Model(MixtureMarginal(path, mixture).velocity, path, base)
        first = density(scored, x, 0.6, base, rng, steps=24)
        last = density(scored, x, 0.6, mixture, rng, from_="data", steps=24)
        torch.testing.assert_close(first.value, last.value, atol=1e-3, rtol=0)

    def test_hutchinson_agrees_within_its_errors(self, rng):
        x, base = torch.randn(200, 2, generator=rng, dtype=DOUBLE), Gaussian((2,), dtype=DOUBLE)
        gen = flow(Euclidean(2), bend)
        exact = density(gen, x, 1.0, base, rng, steps=8)
        found = density(gen, x, 1.0, base, rng, steps=8, divergence="hutchinson", probes=6)
        assert found.kind == "unbiased for log p" and exact.kind == "exact"
        gap = found.value - exact.value
        assert abs(float(gap.mean())) < 5 * float(gap.std()) / math.sqrt(200)
        spread = float(gap.square().mean() / found.standard_error.square().mean())
        assert 0.6 < spread < 1.6  # the errors are of the size that they say

    def test_a_sampler_may_be_chosen(self, rng):
        x, gen = torch.ones(1, 1, dtype=DOUBLE), flow(Euclidean(1), lambda t, x: x)
        true = NORMAL.log_prob(x * math.exp(-1)) - 1
        errors = [
            float((density(gen, x, 1.0, NORMAL, rng, steps=8, **how).value - true).abs())
            for how in ({}, {"sampler": RungeKutta(HEUN)})
        ]
        assert errors[0] < 1e-5 < errors[1] < 1e-2

    def test_cross_entropies_of_both_ends(self, rng):
        """ẋ = x: N(0, 1) at 0 is N(0, e²) at 1."""
        gen, x = flow(Euclidean(1), lambda t, x: x), torch.tensor([[1.0], [-1.0]], dtype=DOUBLE)
        first = cross_entropy_ode(gen, x, NORMAL, rng)
        last = cross_entropy_ode(gen, x, Gaussian((1,), std=math.e), rng, from_="data")
        half = 0.5 * math.log(2 * math.pi)
        assert abs(first.value - (1 + half + 0.5 * math.exp(-2))) < 1e-6
        assert abs(last.value - (half + 0.5)) < 1e-6


class TestEstimates:
    def test_only_inner_means_bias_a_cross_entropy(self):
        value, error = torch.tensor([-1.0, -2.0]), torch.tensor([0.2, 0.4])
        kinds = ("exact", "unbiased for log p", "unbiased for p")
        found = [cross_entropy(LogLikelihood(value, error, kind), 8) for kind in kinds]
        assert [round(one.bias, 6) for one in found] == [0, 0, 0.05]
        assert {one.value for one in found} == {1.5} and {one.inner for one in found} == {8}

    def test_diagnostics_of_equal_and_of_lone_paths(self):
        terms = torch.tensor([[0.3] * 4, [0.0, -900.0, -900.0, -900.0]], dtype=DOUBLE)
        found = path_diagnostics(terms)
        torch.testing.assert_close(found.ess, torch.tensor([4.0, 1.0], dtype=DOUBLE))
        assert float(found.variance[0]) < 1e-30 and abs(float(found.gap[0])) < 1e-12

    def test_terms_of_kl_are_not_negative_and_spread_less(self, rng):
        p, q = Gaussian((2,), dtype=DOUBLE), Gaussian((2,), mean=0.2, dtype=DOUBLE)
        x = p.sample(20_000, rng)
        less, more = (
            kl_monte_carlo(p.log_prob, q.log_prob, x, control_variate=flag)
            for flag in (True, False)
        )
        assert (kl_terms(p.log_prob(x), q.log_prob(x)) >= 0).all()
        assert abs(less.value - 0.04) < 5 * less.standard_error  # ½|m|²
        assert abs(more.value - 0.04) < 5 * more.standard_error
        assert less.standard_error < 0.3 * more.standard_error

    def test_no_draw_meets_its_own_kernel(self, rng):
        """Of 7 rows 3 give kernels and the other 4 the terms."""
        x, y = torch.randn(2, 7, 2, generator=rng)
        assert projected_kl(x, y).count == 4

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_kernels_are_a_mixture_of_normal_laws(self, dtype, rng):
        points, x = torch.randn(2, 30, 2, generator=rng, dtype=dtype)
        scale = (0.4 * points.std(0)).expand(30, 2).clone()
        law = GaussianMixture(torch.full((30,), 1 / 30, dtype=dtype), points, scale)
        found = KernelDensity(points, 0.4, chunk=7).log_prob(x)
        assert found.dtype == dtype
        torch.testing.assert_close(found, law.log_prob(x), atol=1e-4, rtol=1e-4)
        assert KernelDensity(points).log_prob(x[:0]).shape == (0,)
        scott = KernelDensity(points, 30 ** (-1 / 6)).log_prob(x)
        torch.testing.assert_close(KernelDensity(points).log_prob(x), scott)
