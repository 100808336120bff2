"""The exact experts of the checkerboard study, against quadrature, autograd and draws."""

import importlib
import importlib.util
import math
import sys

import numpy as np
import pytest
import torch
from scipy import integrate

from genpath_compose.experts import FIELDS, differentiated

from .repository import ROOT


def load():
    """The folder `benchmarks` as a package; nothing installs it."""
    if "benchmarks" not in sys.modules:
        folder = ROOT / "benchmarks"
        spec = importlib.util.spec_from_file_location(
            "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        sys.modules["benchmarks"] = package = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
    names = ("_checkerboard", "_regions")
    return (importlib.import_module(f"benchmarks.studies.{name}") for name in names)


board, regions = load()
F64 = torch.float64
TIMES = (0.0, 0.3, 0.7, 0.95, 0.99)


def points(expert, t, count, wide=1.5, seed=0):
    """Points of the marginal, somewhat wider than it, with their times."""
    rng = torch.Generator().manual_seed(seed)
    times = torch.full((count,), t, dtype=F64)
    x1 = expert.region.sample(count, rng)
    x0 = torch.randn(x1.shape, generator=rng, dtype=F64)
    alpha, beta = expert.schedule.alpha(times), expert.schedule.beta(times)
    return times, wide * alpha[:, None] * x0 + beta[:, None] * x1


# -- the data --------------------------------------------------------------------------------------


def test_the_formulas_give_a_uniform_law_on_odd_squares():
    raw = board.raw_checkerboard(64_000, torch.Generator().manual_seed(0))
    assert float(raw.abs().max()) <= 4
    i, j = ((raw + 4) / 2).floor().clamp_max(3).long().unbind(1)
    assert bool(((i + j) % 2 == 1).all())
    counts = torch.bincount(4 * i + j, minlength=16).double()
    expected = 64_000 / 8
    chi = float(((counts[counts > 0] - expected) ** 2 / expected).sum())
    assert int((counts > 0).sum()) == 8 and chi < 7 + 5 * math.sqrt(14)


def test_conditioning_draws_gives_the_laws_of_the_experts():
    raw = board.raw_checkerboard(100_000, torch.Generator().manual_seed(1))
    on_a, on_b = raw[:, 0] >= 0, raw.sum(1) >= 0
    assert abs(float(on_b.double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(1e5)
    rng = torch.Generator().manual_seed(2)
    for kept, law in ((raw[on_b], board.ON_B), (raw[on_a & on_b], board.target())):
        assert bool(law.contains(kept).all())
        fresh = law.sample(len(kept), rng)
        assert bool(law.contains(fresh).all())
        for function in (lambda x: x, lambda x: x * x, lambda x: x.prod(1, keepdim=True)):
            a, b = function(kept), function(fresh)
            error = ((a.var(0) + b.var(0)) / len(kept)).sqrt()
            assert bool(((a.mean(0) - b.mean(0)).abs() < 5 * error).all())
    assert board.ON_B.area == 16 and board.target().area == 12
    assert float(raw[on_a][:, 0].min()) >= 0 and float(raw[:, 0].min()) < -3.9


def test_the_composition_of_the_laws_is_the_target():
    x = 4.5 * (2 * torch.rand(4000, 2, generator=torch.Generator().manual_seed(3), dtype=F64) - 1)
    x = x[x[:, 0].abs() < 4]
    log_h = board.ON_A.log_prob(x[:, :1]) + board.ON_B.log_prob(x) - board.ON_X.log_prob(x[:, :1])
    gap = (log_h - board.target().log_prob(x))[log_h.isfinite()]
    assert bool((log_h.isfinite() == board.target().contains(x)).all())
    assert float(gap.std()) < 1e-12 and len(gap) > 200


# -- the schedules ---------------------------------------------------------------------------------


def test_noise_levels_at_both_ends():
    ends = torch.tensor([0.0, 1.0], dtype=F64)
    found = {name: level(ends).tolist() for name, level in board.LISTED.items()}
    for name, (first, last) in found.items():
        assert abs(first - 1) < 3e-5, name
        left = {"exponential": 0.08106532, "softplus": 0.06416885}.get(name, 0.0)
        assert last == pytest.approx(left, abs=1e-8), name


@pytest.mark.parametrize("make", ["ddpm_schedule", "exponential_schedule"])
def test_schedules_preserve_variance_and_state_their_rates(make):
    schedule, t = getattr(board, make)(), torch.linspace(0.05, 0.95, 19, dtype=F64)
    total = schedule.alpha(t) ** 2 + schedule.beta(t) ** 2
    torch.testing.assert_close(total, torch.ones_like(t))
    torch.testing.assert_close(schedule.alpha_squared(t), schedule.alpha(t) ** 2)
    for scalar in (schedule.alpha, schedule.beta, schedule.alpha_squared):
        slope = (scalar(t + 1e-5) - scalar(t - 1e-5)) / 2e-5
        torch.testing.assert_close(scalar.rate(t), slope, rtol=1e-7, atol=1e-8)
    assert float(board.ddpm_schedule().alpha(torch.ones(1, dtype=F64))) == 0


# -- the fields ------------------------------------------------------------------------------------


def density_by_quadrature(region, alpha, beta, x):
    """p_t(x) by adaptive quadrature over boxes and triangles in (x, y), for α not too small."""

    def kernel(v, u):
        square = (x[0] - beta * u) ** 2 + (x[1] - beta * v) ** 2
        return math.exp(-square / (2 * alpha**2)) / (2 * math.pi * alpha**2)

    total = 0.0
    options = {"epsabs": 1e-13, "epsrel": 1e-10}
    for (a, b), (c, d) in zip(region.lower, region.upper, strict=True):
        total += integrate.dblquad(kernel, a, c, b, d, **options)[0]
    for centre in region.teeth:
        # corners on x + y = 0 at q = c ± √2, so that x runs over 2 and y from −x to the upper one
        left = -(centre + math.sqrt(2)) / math.sqrt(2)
        total += integrate.dblquad(kernel, left, left + 2, lambda u: -u, -left, **options)[0]
    return total / region.area


@pytest.mark.parametrize("t", [0.0, 0.4, 0.8])
def test_log_densities_against_quadrature_in_the_plane(t):
    expert = board.experts(nodes=44)[1]
    times, x = points(expert, t, 5)
    alpha, beta = (float(s(times)[0]) for s in (expert.schedule.alpha, expert.schedule.beta))
    truth = [density_by_quadrature(expert.region, alpha, beta, row.tolist()) for row in x]
    found = expert.log_prob(times, x).exp()
    np.testing.assert_allclose(found.numpy(), truth, rtol=1e-9)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_fields_against_derivatives_of_the_log_density(t, index):
    """∇ by reverse differentiation; div s of the score by forward differentiation."""
    expert = board.experts(nodes=44)[index]
    times, x = points(expert, t, 60)
    found = expert.fields(FIELDS, times, x)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(expert.log_prob(times, leaf).sum(), leaf)
    size = float(slope.abs().max()) + 1
    assert float((found["score"] - slope).abs().max()) < 1e-8 * size

    def both(s, y):
        fields = expert.fields(("velocity", "score"), s, y)
        return fields["velocity"], fields["score"]

    other = differentiated(both, FIELDS[:4], times, x, None)
    for name in ("velocity_divergence", "score_divergence"):
        size = float(other[name].abs().max()) + 1
        assert float((found[name] - other[name]).abs().max()) < 1e-7 * size, name


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_velocity_and_density_obey_the_continuity_equation(t, index):
    """∂_t log p + div v + v·s = 0, ∂_t by a central difference of the fourth order."""
    expert = board.experts(nodes=44)[index]
    times, x = points(expert, t, 40, wide=1.0)
    h = 1e-4 * (1 - t)
    near = [expert.log_prob(times + k * h, x) for k in (-2, -1, 1, 2)]
    slope = (near[0] - 8 * near[1] + 8 * near[2] - near[3]) / (12 * h)
    f = expert.fields(FIELDS, times, x)
    terms = slope, f["velocity_divergence"], (f["velocity"] * f["score"]).sum(1)
    size = max(float(term.abs().max()) for term in terms) + 1
    assert float(sum(terms).abs().max()) < 1e-7 * size


@pytest.mark.parametrize("alpha", [0.01, 0.05, 1.0])
def test_few_nodes_are_enough(alpha, monkeypatch):
    """44 nodes against 300, down to α = 0.01, also 30 standard deviations away from the data."""
    region, rng = board.ON_B, torch.Generator().manual_seed(4)
    beta = math.sqrt(1 - alpha**2) if alpha < 1 else 1e-3
    x0 = torch.randn(400, 2, generator=rng, dtype=F64)
    wide = torch.linspace(0, 30, 400, dtype=F64)[:, None]
    x = beta * region.sample(400, rng) + alpha * wide * x0
    alphas, betas = (torch.full((400,), v, dtype=F64) for v in (alpha, beta))
    some, whole = regions.given(region, x, alphas, betas, 44), regions.of_teeth
    monkeypatch.setattr(regions, "of_teeth", lambda *a: whole(*a[:4], 300, a[5]))
    fine = regions.given(region, x, alphas, betas, 44)
    for one, two in (
        (some.log_prob, fine.log_prob),
        *zip(some.noise + some.data, fine.noise + fine.data, strict=True),
        (some.noise_variance, fine.noise_variance),
    ):
        assert float(((one - two).abs() / (1 + two.abs())).max()) < 1e-8


def test_at_the_start_it_is_the_base_law():
    expert = board.NoisedRegion(board.ON_B, board.linear_schedule())
    times, x = torch.zeros(5, dtype=F64), torch.randn(5, 2, dtype=F64)
    found = expert.fields(FIELDS, times, x)
    torch.testing.assert_close(found["log_prob"], -math.log(2 * math.pi) - 0.5 * (x**2).sum(1))
    torch.testing.assert_close(found["score"], -x)
    mean = board.ON_B.sample(400_000, torch.Generator().manual_seed(5)).mean(0)
    assert float((found["velocity"] + x - mean).abs().max()) < 5 * 2 / math.sqrt(4e5)
    near = expert.fields(FIELDS, times + 1e-7, x)
    for name in FIELDS:
        assert float((near[name] - found[name]).abs().max()) < 1e-5, name


def test_rows_are_independent_and_empty_batches_come_back_empty():
    expert = board.NoisedRegion(board.ON_B, board.ddpm_schedule(), rows=7)
    whole = board.NoisedRegion(board.ON_B, board.ddpm_schedule())
    times, x = points(expert, 0.6, 30)
    for name in FIELDS:
        one, two = (e.fields((name,), times, x)[name] for e in (expert, whole))
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)
        assert len(expert.fields((name,), times[:0], x[:0])[name]) == 0
    assert expert.score(times.float(), x.float()).dtype == torch.float32
