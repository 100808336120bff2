"""Rates and bounds of KL, the ε they ask for, and the sweep: shapes, dtypes, numbers, refusals."""

import math
from types import SimpleNamespace

import pytest
import torch

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.models import Model
from genpath.samplers import Euler, Solver
from genpath.spaces import Euclidean
from genpath_interpolants.bounds import (
    kl_bound,
    kl_bound_curves,
    kl_bound_drifts,
    kl_bound_vs,
    kl_rate,
    kl_rate_of_densities,
)
from genpath_interpolants.control import (
    ErrorCurves,
    Sweep,
    choose_eps,
    optimal_eps,
    optimal_eps_schedule,
    sweep_eps,
)
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.presets import linear

DOUBLE = torch.float64
SHAPES = [(), (2,), (2, 3)]
DTYPES = [torch.float32, DOUBLE]
DATA_VARIANCE = 0.25


def exact(gamma="none", dtype=DOUBLE):
    """N(0, 1) to N(0, ¼) on the line, with exact fields."""
    path, one = linear(Euclidean(1), gamma, base="gaussian"), torch.ones(1, 1, dtype=dtype)
    data = GaussianMixture(one[0], 0 * one, math.sqrt(DATA_VARIANCE) * one)
    return MixtureMarginal(path, data)


def scaled(fields, velocity, score, dtype=DOUBLE):
    """A model whose fields are the exact ones times two numbers."""

    def network(t, x):
        return torch.stack([velocity * fields.velocity(t, x), score * fields.score(t, x)], 1)

    return Model(network, fields.path, Gaussian((1,), dtype=dtype), "velocity+score")


def pairs(fields, count, rng, dtype=DOUBLE):
    return Gaussian((1,), dtype=dtype).sample(count, rng), fields.mixture.sample(count, rng)


class TestRates:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_one_number_from_points_of_any_shape(self, shape, dtype, rng):
        a, d, s = torch.randn(3, 6, *shape, generator=rng, dtype=dtype)
        weights = torch.full((6,), 1 / 6, dtype=dtype)
        rates = [
            kl_rate(a, d, 0.3),
            kl_rate(a, d, 0.3, weights=weights),
            kl_rate(a, d, 0.3, 0.3, score=s),
            kl_rate(a, d, 0.3, model_score=s),
        ]
        for rate in rates:
            assert rate.shape == () and rate.dtype == dtype
            torch.testing.assert_close(rate, rates[0])

    def test_the_two_forms_are_one(self, rng):
        s, s_hat, d = torch.randn(3, 50, 2, generator=rng, dtype=DOUBLE)
        given = (s_hat - s, d, 0.2, 0.7)
        torch.testing.assert_close(kl_rate(*given, score=s), kl_rate(*given, model_score=s_hat))

    def test_no_points_have_no_rate_but_a_sum_of_no_weights(self):
        empty = torch.zeros(0, 2)
        assert kl_rate(empty, empty).isnan()
        assert kl_rate(empty, empty, weights=torch.zeros(0)) == 0

    def test_arrays_pair_up(self):
        with pytest.raises(ShapeError, match="arrays at the same points"):
            kl_rate(torch.zeros(3, 1), torch.zeros(2, 1))
        with pytest.raises(ShapeError, match="arrays at the same points"):
            kl_rate(torch.zeros(3, 1), torch.zeros(3, 1), score=torch.zeros(3))

    def test_two_noises_need_one_score(self):
        a = torch.zeros(3, 1)
        for given in ({}, {"score": a, "model_score": a}):
            with pytest.raises(DomainError, match="one of score and model_score"):
                kl_rate(a, a, 0.1, 0.2, **given)

    def test_empty_cells_count_for_the_model_alone(self):
        p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
        found = kl_rate_of_densities(p, torch.tensor([-1.0, 1.0]), q, torch.tensor([0.3, 0.0]), 1.0)
        torch.testing.assert_close(found, torch.tensor(-math.log(2) - 0.6))


class TestBounds:
    def test_the_normalisation_is_that_of_losses_with_a_half(self):
        """δb = 0.6 and δs = 0.8 at all times: ‖δb‖²/2ε + ε‖δs‖²/2."""
        found = kl_bound(0.5 * 0.6**2, 0.5 * 0.8**2, 0.4)
        assert math.isclose(found, 0.36 / 0.8 + 0.4 * 0.64 / 2)
        assert "½ ∫ E|b̂ − b|² dt" in kl_bound.__doc__ and "½ ∫ E|ŝ − s|² dt" in kl_bound.__doc__

    def test_parallel_errors_cost_the_whole_bound_and_opposite_ones_nothing(self):
        t = torch.linspace(0, 1, 5, dtype=DOUBLE)
        for sign in (1, -1):
            b, s, eps = 0.6, sign * 1.5, 0.4  # |b| = ε|s|
            told = kl_bound(0.5 * b * b, 0.5 * s * s, eps, b * s)
            drifts = kl_bound_drifts(torch.full_like(t, (b + eps * s) ** 2), eps, t)
            assert math.isclose(told, float(drifts), abs_tol=1e-12)
            assert math.isclose(
                told, (sign + 1) / 2 * kl_bound(0.5 * b * b, 0.5 * s * s, eps), abs_tol=1e-12
            )

    def test_of_curves_that_vary(self):
        """∫ (t/(1+t) + (1+t) t) dt = 1 − log 2 + 5/6."""
        t = torch.linspace(0, 1, 2001, dtype=DOUBLE)
        found = kl_bound_curves(t, t, 1 + t, t)
        assert abs(float(found) - (1 - math.log(2) + 5 / 6)) < 1e-6
        squares = kl_bound_drifts(t, lambda s: 1 + s, t)
        assert abs(float(squares) - (1 - math.log(2)) / 4) < 1e-6

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_tensors_keep_their_dtype(self, dtype):
        t = torch.linspace(0, 1, 5, dtype=dtype)
        ones = torch.ones_like(t)
        assert kl_bound(ones, ones, ones).dtype == dtype
        assert kl_bound(ones[:0], ones[:0], ones[:0]).shape == (0,)
        assert kl_bound_drifts(ones, 0.5, t).dtype == dtype
        assert kl_bound_curves(ones, ones, ones, t).dtype == dtype

    def test_of_v_and_s_has_the_largest_gap_in_it(self):
        """γ² = t(1−t): γγ̇ = ½ − t, and (γγ̇ − ε)² is largest at t = 1 for ε > 0."""
        schedule = linear(Euclidean(1), "sqrt").schedule
        assert math.isclose(kl_bound_vs(0.1, 0.2, 0.3, schedule), 0.1 / 0.3 + 0.64 / 0.3 * 0.2)

    def test_of_v_and_s_knows_the_sign_of_the_latent_s_rate(self):
        """γγ̇ = t: (t − 0.3)² is largest at t = 1. Latents that vanish at both ends do not tell."""
        schedule = SimpleNamespace(gamma_gamma_rate=lambda t: t)
        assert math.isclose(kl_bound_vs(0.0, 0.3, 0.3, schedule), 0.49)

    @pytest.mark.parametrize("eps", [0.0, -1.0, math.nan])
    def test_noise_is_positive(self, eps):
        t, schedule = torch.linspace(0, 1, 3), linear(Euclidean(1)).schedule
        level = torch.tensor([1.0, eps, 1.0])
        for call in (
            lambda: kl_bound(0.1, 0.1, eps),
            lambda: kl_bound_vs(0.1, 0.1, eps, schedule),
            lambda: kl_bound_drifts(t, eps, t),
            lambda: kl_bound_drifts(t, lambda s: level, t),
            lambda: kl_bound_curves(t, t, level, t),
        ):
            with pytest.raises(DomainError, match="the bound needs ε > 0"):
                call()


class TestBestNoise:
    def test_it_is_where_the_bound_is_least(self):
        best = optimal_eps(0.02, 0.5)
        assert math.isclose(best, 0.2)
        assert math.isclose(kl_bound(0.02, 0.5, best), 2 * math.sqrt(0.02 * 0.5))
        for other in (0.9 * best, 1.1 * best):
            assert kl_bound(0.02, 0.5, other) > kl_bound(0.02, 0.5, best)

    @pytest.mark.parametrize(("b", "s"), [(-0.1, 1.0), (0.1, 0.0), (0.1, -1.0)])
    def test_it_asks_for_errors(self, b, s):
        with pytest.raises(DomainError, match="ΔL_b ≥ 0 and ΔL_s > 0"):
            optimal_eps(b, s)

    def test_without_an_error_it_is_at_an_end(self):
        b, s = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])
        assert optimal_eps_schedule(b, s).tolist() == [0.0, 0.0, math.inf]
        assert optimal_eps_schedule(b, s, cap=3.0).tolist() == [0.0, 0.0, 3.0]
        assert optimal_eps_schedule(b[:0], s[:0]).shape == (0,)

    def test_refusals_of_curves(self):
        one = torch.ones(2)
        for given in ((-one, one), (one, -one), (one, one, 0.0)):
            with pytest.raises(DomainError, match="curves are not negative, and a cap is positive"):
                optimal_eps_schedule(*given)


class TestErrorCurves:
    def curves(self):
        edges = torch.tensor([0.0, 0.5, 1.0], dtype=DOUBLE)
        b, s = torch.tensor([[1.0, 3.0], [4.0, 1.0]], dtype=DOUBLE)
        return ErrorCurves(edges, b, 0.1 * b, s, 0.2 * s, 0.01 * b * s)

    def test_excess_noise_bound_and_schedule(self):
        found = self.curves()
        assert (found.velocity_excess, found.score_excess) == (2.0, 2.5)
        assert math.isclose(found.eps, math.sqrt(0.8))
        assert math.isclose(found.bound(), 2 * math.sqrt(5)) and found.bound(1.0) == 4.5
        least = 2 * (found.velocity * found.score).sqrt() @ found.edges.diff()  # ∫ 2 √(AC)
        assert math.isclose(found.bound(found.schedule()), float(least), rel_tol=1e-6)
        t = torch.tensor([-0.1, 0.2, 0.7, 1.2])
        expected = torch.tensor([0.5, 0.5, math.sqrt(3), math.sqrt(3)])
        torch.testing.assert_close(found.schedule()(t), expected)
        assert float(found.schedule(cap=1.0)(t).max()) == 1.0

    def test_its_error_is_that_of_draws(self, rng):
        """1000 tables of two bins, normal with the errors and the covariance that they state."""
        one, count = self.curves(), 4000
        z, w = torch.randn(2, count, 2, generator=rng, dtype=DOUBLE)
        share = one.covariance / (one.velocity_error * one.score_error)  # ½
        b = one.velocity + one.velocity_error * z
        s = one.score + one.score_error * (share * z + (1 - share**2).sqrt() * w)
        eps = (b.mean(1) / s.mean(1)).sqrt()
        spread = float(eps.std())
        assert abs(one.eps_error / spread - 1) < 0.1  # second order in 0.2, and 4000 draws


class TestChooseEps:
    B, S, BINS = 1.2, 0.7, 5

    def truth(self):
        """½ 0.2² E b² and ½ 0.3² E s² of each bin, v = (1−t)² + t²/4, b = v̇x/2v, s = −x/v."""
        t = torch.linspace(0, 1, 100 * self.BINS + 1, dtype=DOUBLE)
        v, rate = (1 - t) ** 2 + DATA_VARIANCE * t**2, -2 * (1 - t) + 2 * DATA_VARIANCE * t
        curves = (0.5 * (self.B - 1) ** 2 * rate**2 / (4 * v), 0.5 * (1 - self.S) ** 2 / v)
        steps = [torch.cumulative_trapezoid(c, t)[99::100] for c in curves]
        return [torch.cat([s[:1], s.diff()]) * self.BINS for s in steps]

    def test_scaled_exact_fields_have_the_excess_that_they_should(self, rng):
        fields = exact()
        found = choose_eps(
            scaled(fields, self.B, self.S), fields, *pairs(fields, 20_000, rng), rng, bins=self.BINS
        )
        velocity, score = self.truth()
        assert ((found.velocity - velocity).abs() < 5 * found.velocity_error + 1e-12).all()
        assert ((found.score - score).abs() < 5 * found.score_error).all()
        best = math.sqrt(float(velocity.mean() / score.mean()))
        assert abs(found.eps - best) < 5 * found.eps_error < 0.1 * best

    def test_latents_do_not_hide_the_excess(self, rng):
        fields = exact("sqrt")
        found = choose_eps(
            scaled(fields, 1.0, self.S), fields, *pairs(fields, 8000, rng), rng, bins=4
        )
        t = torch.linspace(0, 1, 1001, dtype=DOUBLE)
        v = (1 - t) ** 2 + DATA_VARIANCE * t**2 + t * (1 - t)
        true = float(torch.trapezoid(0.5 * 0.09 / v, t))
        error = float(found.score_error.square().sum().sqrt()) / 4
        assert abs(found.score_excess - true) < 5 * error and found.velocity_excess < 1e-20

    def test_a_reference_may_be_a_model(self):
        fields = exact()
        model, better = scaled(fields, 1.2, 0.7), scaled(fields, 1.0, 1.0)
        found = []
        for reference in (fields, better):
            rng = torch.Generator().manual_seed(3)
            found.append(choose_eps(model, reference, *pairs(fields, 200, rng), rng))
        assert found[0].eps == pytest.approx(found[1].eps, rel=1e-9)

    def test_chunks_change_nothing_and_the_seed_is_all(self):
        fields = exact()  # no latent: only times are drawn
        found = []
        for seed, chunk in ((0, 4096), (0, 7), (1, 4096)):
            ends = pairs(fields, 100, torch.Generator().manual_seed(5))
            rng = torch.Generator().manual_seed(seed)
            model = scaled(fields, 1.2, 0.7)
            found.append(choose_eps(model, fields, *ends, rng, bins=4, chunk=chunk))
        torch.testing.assert_close(found[0].score, found[1].score)
        assert not torch.equal(found[0].score, found[2].score)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_its_tables_keep_the_dtype_and_the_times(self, dtype, rng):
        fields = exact(dtype=dtype)
        model, ends = scaled(fields, 1.1, 0.9, dtype), pairs(fields, 60, rng, dtype)
        found = choose_eps(model, fields, *ends, rng, bins=3, times=(0.1, 0.7))
        for name in ("velocity", "velocity_error", "score", "score_error", "covariance"):
            assert getattr(found, name).shape == (3,) and getattr(found, name).dtype == dtype
        expected = torch.tensor([0.1, 0.3, 0.5, 0.7], dtype=dtype)
        torch.testing.assert_close(found.edges, expected)
        assert found.schedule()(torch.zeros(2)).dtype == torch.float32

    @pytest.mark.parametrize(
        "given",
        [{"times": (0.5, 0.5)}, {"times": (0.0, 1.5)}, {"bins": 0}, {"bins": 6}],
        ids=str,
    )
    def test_refuses_other_times_and_empty_bins(self, given, rng):
        fields = exact()
        with pytest.raises(DomainError, match="every bin has two pairs or more"):
            choose_eps(scaled(fields, 1, 1), fields, *pairs(fields, 10, rng), rng, **given)

    def test_refuses_no_pairs_and_a_reference_without_fields(self, rng):
        fields = exact()
        model = scaled(fields, 1.0, 1.0)
        with pytest.raises(DomainError, match="two pairs or more"):
            choose_eps(model, fields, *pairs(fields, 0, rng), rng)
        with pytest.raises(CapabilityError, match="methods velocity"):
            choose_eps(model, object(), *pairs(fields, 100, rng), rng)

    def test_refuses_a_model_without_score(self, rng):
        fields = exact()
        bare = Model(fields.velocity, linear(Euclidean(1)), Gaussian((1,)), "velocity")
        with pytest.raises(CapabilityError, match="score"):
            choose_eps(bare, fields, *pairs(fields, 100, rng), rng)


class TestSweep:
    ROWS = ({"eps": 0.0, "kl": 0.03}, {"eps": 0.5, "kl": 0.01}, {"eps": 2.0, "kl": 0.2})

    def test_columns_and_best(self):
        table = Sweep(self.ROWS)
        assert table.column("kl").tolist() == [0.03, 0.01, 0.2] and table.best("kl") == 0.5
        assert table.text(1).splitlines()[2].split() == ["0.5", "0.01"]
        assert Sweep(()).text() == ""

    def test_every_noise_starts_alike_and_a_seed_is_all(self):
        fields, levels = exact(), [0.0, 0.3]
        seen = []

        def measure(x):
            seen.append(x)
            return {"variance": float(x.var())}

        solver = Solver(Euler(), TimeGrid.uniform(8, 0.0, 0.9))
        model = scaled(fields, 1.0, 1.0)
        found = sweep_eps(model, levels, measure, solver, 400, seed=2)
        again = sweep_eps(model, levels, measure, lambda eps: solver, 400, seed=2)
        other = sweep_eps(model, levels, measure, solver, 400, seed=3)
        assert found == again and found != other
        start = Gaussian((1,), dtype=DOUBLE).sample(400, torch.Generator().manual_seed(2))
        ratio = seen[0] / start  # the flow is linear, and starts from the base draws of the seed
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
        assert seen[0].shape == seen[1].shape == (400, 1) and not torch.equal(seen[0], seen[1])

    def test_the_dynamics_may_be_chosen(self):
        from genpath.models import ODE

        solver, model = Solver(Euler(), TimeGrid.uniform(4)), scaled(exact(), 1.0, 1.0)
        found = sweep_eps(
            model,
            [0.0, 1.0],
            lambda x: {"m": float(x.mean())},
            solver,
            20,
            dynamics=lambda e: ODE(),
        )
        assert found.rows[0]["m"] == found.rows[1]["m"]
