"""The finite-volume solver: mass, dtypes, limits, growth, what is watched and what is refused."""

import math

import pytest
import torch

from genpath.errors import DomainError, NumericalError, ShapeError
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath_interpolants.finite_volume import FiniteVolume, GridDensity, solve_tridiagonal

DOUBLE = torch.float64
FLUXES = ["exponential", "central"]
NORMAL = Gaussian((1,), dtype=DOUBLE).log_prob


def zero(t, x):
    return 0 * x


def whirl(t, x):
    """A drift of no special form, in time and place."""
    return torch.sin(3 * x + t[:, None]) - 0.5 * x


class TestMass:
    @pytest.mark.parametrize("flux", FLUXES)
    @pytest.mark.parametrize("implicitness", [0.5, 1.0])
    @pytest.mark.parametrize("eps", [0.3, lambda t: 0.1 + t])
    def test_is_kept_to_rounding(self, flux, implicitness, eps):
        solver = FiniteVolume(-3.0, 2.0, 137, flux, implicitness)  # cuts the law at both ends
        masses = []
        solver.solve(
            whirl, eps, NORMAL, TimeGrid.uniform(60), watch=lambda p: masses.append(float(p.mass))
        )
        assert len(masses) == 61 and max(abs(m / masses[0] - 1) for m in masses) < 1e-12

    def test_is_kept_without_noise(self):
        solver = FiniteVolume(-6.0, 6.0, 100, implicitness=1.0)
        end = solver.solve(whirl, 0.0, NORMAL, TimeGrid.uniform(40))
        assert abs(float(end.mass) - 1) < 1e-8 and float(end.values.min()) >= 0

    def test_grows_at_the_rate_of_growth(self):
        solver = FiniteVolume(-6.0, 6.0, 60)
        start = float(solver.solve(zero, 0.1, NORMAL, TimeGrid.uniform(1)).mass)
        end = solver.solve(whirl, 0.1, NORMAL, TimeGrid.uniform(20), growth=lambda t, x: t)
        assert math.isclose(float(end.mass), start * math.exp(0.5), rel_tol=1e-12)


class TestSolve:
    @pytest.mark.parametrize("flux", FLUXES)
    def test_drifts_carry_the_mean_and_noise_adds_variance(self, flux):
        """dX = t dt + √(2·½t) dW: mean ½ and variance 1 + ½ at t = 1."""
        solver = FiniteVolume(-9.0, 9.0, 300, flux)
        end = solver.solve(
            lambda t, x: t[:, None] + 0 * x, lambda t: 0.5 * t, NORMAL, TimeGrid.uniform(40)
        )
        assert abs(float(end.mean) - 0.5) < 1e-6
        assert abs(float(end.variance) - 1.5) < 5e-3  # Δ²/12 and numerical diffusion

    @pytest.mark.parametrize("push", [1e-4, -1e-4])  # f Δ/ε = 6e-6, where B(w) is a series
    def test_small_drifts_move_the_right_way(self, push):
        solver = FiniteVolume(-12.0, 12.0, 400)
        end = solver.solve(lambda t, x: push + 0 * x, 1.0, NORMAL, TimeGrid.uniform(10))
        assert abs(float(end.mean) / push - 1) < 1e-3

    def test_the_middle_of_the_step_is_read(self):
        """One step of f(t) = t moves the mean by h t_½ exactly."""
        solver = FiniteVolume(-9.0, 9.0, 400, "central")
        end = solver.solve(
            lambda t, x: t[:, None] + 0 * x, 0.0, NORMAL, TimeGrid.uniform(1, 0.2, 0.3)
        )
        assert abs(float(end.mean) - 0.1 * 0.25) < 1e-9 and end.time == pytest.approx(0.3)

    def test_a_stationary_law_stays_put_for_both_signs_of_the_drift(self):
        """f = ∓½ V′, ε = ½: p ∝ e^{−V} on the interval has no flux anywhere; exact for linear V."""
        solver = FiniteVolume(0.0, 2.0, 64)
        for slope in (-3.0, 3.0):
            law = torch.exp(slope * solver.centres)
            end = solver.solve(
                lambda t, x, s=slope: torch.full_like(x, 0.5 * s), 0.5, law, TimeGrid.uniform(10)
            )
            torch.testing.assert_close(end.values, law, rtol=1e-12, atol=0)

    def test_exponential_fluxes_stay_positive_where_cells_are_coarse(self):
        solver = FiniteVolume(-4.0, 4.0, 16, implicitness=1.0)
        end = solver.solve(lambda t, x: -20 * x, 0.05, NORMAL, TimeGrid.uniform(10))
        assert float(end.values.min()) >= 0 and abs(float(end.mean)) < 1e-12

    def test_without_noise_the_flux_is_upwind(self):
        """The limit ε → 0 of the exponential flux is the flux of ε = 0."""
        solver, grid = FiniteVolume(-5.0, 5.0, 50), TimeGrid.uniform(10)
        none, little = (solver.solve(whirl, e, NORMAL, grid).values for e in (0.0, 1e-9))
        torch.testing.assert_close(none, little, atol=1e-7, rtol=0)

    def test_precision_is_that_of_the_solver(self):
        solver = FiniteVolume(-6.0, 6.0, 50, dtype=torch.float32)
        start = Gaussian((1,)).log_prob
        end = solver.solve(whirl, 0.3, start, TimeGrid.uniform(5))
        assert end.values.dtype == solver.centres.dtype == solver.faces.dtype == torch.float32
        double = FiniteVolume(-6.0, 6.0, 50).solve(whirl, 0.3, NORMAL, TimeGrid.uniform(5))
        torch.testing.assert_close(end.values.double(), double.values, atol=1e-5, rtol=0)

    def test_starts_may_be_cell_values_and_fields_of_every_layout(self):
        solver, grid = FiniteVolume(-6.0, 6.0, 50), TimeGrid.uniform(5)
        cells = NORMAL(solver.centres[:, None]).exp()
        first, second = (solver.solve(whirl, 0.3, s, grid).values for s in (cells, NORMAL))
        assert torch.equal(first, second)
        assert solver.centres.shape == (50,) and solver.faces.shape == (49,)
        torch.testing.assert_close(solver.faces, 0.5 * (solver.centres[1:] + solver.centres[:-1]))

    def test_what_is_watched_is_every_time(self):
        seen = []
        FiniteVolume(-6.0, 6.0, 10).solve(
            whirl, 0.3, NORMAL, TimeGrid((0.0, 0.25, 1.0)), watch=lambda p: seen.append(p.time)
        )
        assert seen == [0.0, 0.25, 1.0]

    def test_two_cells_exchange_what_they_should(self):
        """ε/Δ² = 1: the difference decays as (1 − θ2h)/(1 + θ2h) with θ = ½, h = ½."""
        solver = FiniteVolume(0.0, 2.0, 2)
        start = torch.tensor([1.0, 0.0], dtype=DOUBLE)
        end = solver.solve(zero, 1.0, start, TimeGrid.uniform(1, 0.0, 0.5)).values
        share = (1 - 0.5) / (1 + 0.5)
        torch.testing.assert_close(end, torch.tensor([1 + share, 1 - share], dtype=DOUBLE) / 2)


class TestGridDensity:
    def law(self):
        solver = FiniteVolume(-8.0, 8.0, 400)
        return GridDensity(solver.centres, NORMAL(solver.centres[:, None]).exp(), 0.0)

    def test_moments(self):
        law = self.law()
        assert math.isclose(law.width, 0.04, rel_tol=1e-9)
        assert abs(float(law.mass) - 1) < 1e-9 and abs(float(law.mean)) < 1e-9
        assert abs(float(law.variance) - 1) < 1e-9
        assert abs(float(law.expectation(lambda x: x[:, 0] ** 4)) - 3) < 1e-6

    def test_log_prob_between_and_outside(self):
        law = self.law()
        x = torch.tensor([[0.013], [-1.5], [7.99], [8.5], [-9.0]], dtype=DOUBLE)
        found = law.log_prob(x)
        torch.testing.assert_close(found[:2], NORMAL(x[:2]), atol=0.04**2 / 8, rtol=0)
        assert found[2].isfinite() and (found[3:] == -math.inf).all()
        assert law.log_prob(x[:0]).shape == (0,)
        assert law.log_prob(x.float()).dtype == torch.float32
        assert law.log_prob(x[:, 0]).shape == (5,)
        assert (law.log_prob(torch.tensor([[math.nan]])) == -math.inf).all()


class TestTridiagonal:
    @pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
    def test_shapes_broadcast_and_unread_corners(self, dtype):
        lower, upper = torch.full((2, 4), -1.0, dtype=dtype)
        lower[0] = upper[-1] = 1e30
        right = torch.ones(3, 4, dtype=dtype)
        found = solve_tridiagonal(lower, torch.full((4,), 3.0, dtype=dtype), upper, right)
        assert found.shape == (3, 4) and found.dtype == dtype
        matrix = torch.tensor(
            [[3.0, -1, 0, 0], [-1, 3, -1, 0], [0, -1, 3, -1], [0, 0, -1, 3]], dtype=dtype
        )
        torch.testing.assert_close(found @ matrix, right, atol=1e-5, rtol=1e-5)

    def test_no_systems(self):
        empty = torch.zeros(0, 4)
        assert solve_tridiagonal(empty, empty + 1, empty, empty).shape == (0, 4)


class TestRefusals:
    @pytest.mark.parametrize("given", [(1.0, 0.0, 10), (0.0, 0.0, 10), (0.0, 1.0, 1)])
    def test_intervals(self, given):
        with pytest.raises(DomainError, match="an interval has two cells or more"):
            FiniteVolume(*given)

    @pytest.mark.parametrize(
        "given", [{"implicitness": 0.4}, {"implicitness": 1.1}, {"flux": "up"}]
    )
    def test_schemes(self, given):
        with pytest.raises(DomainError, match="flux is exponential or central"):
            FiniteVolume(0.0, 1.0, 4, **given)

    def test_starts_grids_and_noise(self):
        solver, grid = FiniteVolume(0.0, 1.0, 4), TimeGrid.uniform(2)
        with pytest.raises(ShapeError, match="one starting value per cell"):
            solver.solve(zero, 1.0, torch.ones(5), grid)
        with pytest.raises(DomainError, match="times increase"):
            solver.solve(zero, 1.0, torch.ones(4), TimeGrid((1.0, 0.0)))
        for eps in (-0.1, lambda t: t - 1):
            with pytest.raises(DomainError, match="ε ≥ 0"):
                solver.solve(zero, eps, torch.ones(4), grid)

    def test_numbers_that_are_none(self):
        solver = FiniteVolume(0.0, 1.0, 4)
        with pytest.raises(NumericalError, match="stopped being finite"):
            solver.solve(zero, 1.0, torch.tensor([1.0, math.nan, 1.0, 1.0]), TimeGrid.uniform(1))
