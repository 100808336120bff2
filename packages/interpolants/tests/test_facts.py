r"""What the linear interpolant promises: its law, its generator, its conversions, its minimiser.

The marginal oracle is a mixture of normal laws. It is itself checked against autograd, quadrature
and simulation before anything else is compared with it. Every check has a control: a fault of one
sign, one term or a factor of at most 2 that it must see. Monte-Carlo checks bound |z| by 4.5.
"""

import math
from dataclasses import replace

import pytest
import torch

from genpath.couplings import Pairs
from genpath.generators import flow
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.likelihoods import ODELikelihood
from genpath.models import ODE, SDE, Model
from genpath.objectives import Regression
from genpath.samplers import Euler, integrate
from genpath.spaces import Euclidean
from genpath_interpolants.mixtures import MixtureMarginal
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.schedules import linear_schedule

PLANE, DOUBLE, BOUND = Euclidean(2), torch.float64, 4.5
GAMMAS = ("none", "sqrt", "quadratic")
each_gamma = pytest.mark.parametrize("gamma", GAMMAS)
TIMES = torch.tensor([0.1, 0.35, 0.6, 0.9], dtype=DOUBLE)


def path_of(gamma, base="gaussian", scale=1.3):
    return LinearPath(PLANE, gamma, scale, base)


def z_score(values):
    """The mean of values over its standard error."""
    return float(values.mean() / (values.std() / math.sqrt(len(values))))


def normal(*shape, rng):
    return torch.randn(*shape, generator=rng, dtype=DOUBLE)


def points(rng, count=40):
    """Times and states, away from the ends."""
    t = 0.05 + 0.9 * torch.rand(count, generator=rng, dtype=DOUBLE)
    return t, 1.5 * normal(count, 2, rng=rng)


# -- schedules and draws -----------------------------------------------------------------------


@each_gamma
def test_rates_are_the_derivatives_of_the_values(gamma):
    schedule = linear_schedule(gamma, 1.7)
    for name, scalar in schedule.scalars().items():
        derived = replace(scalar, closed_rate=None).rate(TIMES)
        assert torch.allclose(scalar.rate(TIMES), derived, atol=1e-14), name
    if gamma != "none":
        gamma_of = torch.func.vmap(torch.func.grad(lambda t: schedule.gamma(t)))
        product = schedule.gamma(TIMES) * gamma_of(TIMES)
        assert torch.allclose(schedule.gamma_gamma_rate(TIMES), product, atol=1e-14)
        assert not torch.allclose(2 * schedule.gamma_gamma_rate(TIMES), product, atol=1e-3)


@each_gamma
def test_the_ends_of_a_draw_are_its_endpoints_bit_for_bit(gamma, rng):
    x0, x1 = normal(2, 6, 2, rng=rng)
    path = path_of(gamma)
    assert torch.equal(path.draw(0.0, x0, x1, rng).state, x0)
    assert torch.equal(path.draw(1.0, x0, x1, rng).state, x1)
    if gamma != "none":
        assert not torch.equal(path.draw(0.5, x0, x1, rng).state, 0.5 * (x0 + x1))


@each_gamma
def test_the_velocity_target_is_the_time_derivative_of_the_draw(gamma, rng):
    """By finite differences of the draws themselves, with the same latent."""
    x0, x1 = normal(2, 4, 2, rng=rng)
    path, h = path_of(gamma), 1e-5
    at = lambda t: path.draw(t, x0, x1, torch.Generator().manual_seed(3))  # noqa: E731
    slope = (at(TIMES + h).state - at(TIMES - h).state) / (2 * h)
    target = path.target("velocity", at(TIMES))
    assert torch.allclose(target, slope, atol=1e-7)
    if gamma != "none":
        assert not torch.allclose(x1 - x0, slope, atol=1e-2), "the term γ̇z matters"


def test_scale_two_of_sqrt_keeps_the_covariance_of_standardised_ends():
    t = torch.linspace(0, 1, 11, dtype=DOUBLE)
    s = linear_schedule("sqrt", 2.0)
    total = s.alpha(t) ** 2 + s.beta(t) ** 2 + s.gamma_squared(t)
    assert torch.allclose(total, torch.ones_like(t), atol=1e-15)


# -- the conditional generator -----------------------------------------------------------------


def test_without_latent_the_conditional_flow_runs_along_the_segment(rng):
    path = path_of("none")
    x0, x1 = normal(2, 5, 2, rng=rng)
    gen = path.conditional_generator(x0, x1)
    end = integrate(Euler(), gen, x0, TimeGrid.uniform(7), rng).state
    assert torch.allclose(end, x1, atol=1e-14)


def tilted(gen, factor):
    """The generator with a wrong velocity."""

    def evaluate(t, x):
        parts = gen.evaluate(t, x)
        return replace(parts, velocity=factor * parts.velocity)

    return replace(gen, evaluate=evaluate)


@pytest.mark.parametrize("gamma", ["sqrt", "quadratic"])
def test_the_conditional_generator_carries_the_conditional_law(gamma, rng):
    """∂_t log N(x; I_t, γ²) = (L*p)/p, with the left side by autograd in t."""
    path = path_of(gamma)
    t, x = points(rng)
    x0, x1 = normal(2, *x.shape, rng=rng)

    def log_p(t, x):
        mean = (1 - t)[:, None] * x0 + t[:, None] * x1
        variance = path.schedule.gamma_squared(t)[:, None]
        return -0.5 * ((x - mean) ** 2 / variance + torch.log(variance)).sum(1)

    left = torch.func.grad(lambda t: log_p(t, x).sum())(t)
    gen = path.conditional_generator(x0, x1)
    residual = lambda g: (g.adjoint(lambda y: log_p(t, y), t, x) - left).abs().max()  # noqa: E731
    assert residual(gen) < 1e-9 * left.abs().max()
    assert residual(tilted(gen, -1.0)) > 0.1
    assert residual(tilted(gen, 1.01)) > 1e-3


@each_gamma
def test_the_conditional_generator_moves_every_draw(gamma, rng):
    """d/dt f(x_t) = L_t f(x_t) draw by draw, for z held fixed; the left side by differences."""
    n, t, h = 1000, 0.4, 1e-4
    path = path_of(gamma)
    x0, x1 = normal(2, n, 2, rng=rng)
    f = lambda x: torch.sin(x[:, 0]) + x[:, 0] * x[:, 1] ** 2  # noqa: E731
    at = lambda t: path.draw(t, x0, x1, torch.Generator().manual_seed(1)).state  # noqa: E731
    rate = (f(at(t + h)) - f(at(t - h))) / (2 * h)
    gen, state = path.conditional_generator(x0, x1), at(t)
    error = lambda g: (g.apply(f, t, state) - rate).abs().max() / rate.abs().max()  # noqa: E731
    assert error(gen) < 1e-5
    assert error(tilted(gen, 1.01)) > 1e-3


# -- the marginal oracle -----------------------------------------------------------------------


@each_gamma
def test_the_density_integrates_to_one_and_ends_at_the_two_laws(gamma, mixture, rng):
    marginal = MixtureMarginal(path_of(gamma), mixture)
    axis = torch.linspace(-9, 9, 301, dtype=DOUBLE)
    grid = torch.cartesian_prod(axis, axis)
    for t in (0.0, 0.5, 1.0):
        mass = marginal.log_prob(t, grid).exp().sum() * (axis[1] - axis[0]) ** 2
        assert abs(float(mass) - 1) < 1e-6
    x = normal(20, 2, rng=rng)
    assert torch.allclose(marginal.log_prob(0.0, x), Gaussian((2,)).log_prob(x), atol=1e-12)
    assert torch.allclose(marginal.log_prob(1.0, x), mixture.log_prob(x), atol=1e-12)


@each_gamma
def test_the_score_is_the_gradient_of_the_log_density(gamma, mixture, rng):
    marginal = MixtureMarginal(path_of(gamma), mixture)
    t, x = points(rng)
    gradient = torch.func.grad(lambda y: marginal.log_prob(t, y).sum())(x)
    assert torch.allclose(marginal.score(t, x), gradient, atol=1e-12)


@each_gamma
def test_the_exact_velocity_carries_the_density(gamma, mixture, rng):
    """(L*p)/p = d/dt log p_t, by autograd on both sides."""
    marginal = MixtureMarginal(path_of(gamma), mixture)
    t, x = points(rng)
    left = torch.func.grad(lambda t: marginal.log_prob(t, x).sum())(t)

    def residual(velocity):
        gen = flow(PLANE, velocity)
        return (gen.adjoint(lambda y: marginal.log_prob(t, y), t, x) - left).abs().max()

    assert residual(marginal.velocity) < 1e-8
    assert residual(lambda t, x: -marginal.velocity(t, x)) > 0.1
    assert residual(lambda t, x: 1.001 * marginal.velocity(t, x)) > 1e-4
    if gamma != "none":  # the velocity of the same path without its term γ̇z

        def dropped(t, x):
            rate = path_of(gamma).schedule.gamma_gamma_rate(t)
            return marginal.velocity(t, x) + rate[:, None] * marginal.score(t, x)

        assert residual(dropped) > 1e-2


@each_gamma
def test_the_expectations_are_those_of_the_draws(gamma, mixture, rng):
    """E[(y − E[y|x_t]) φ(x_t)] = 0 for each target y, the draws' own, and several φ."""
    n = 200_000
    path = path_of(gamma)
    marginal = MixtureMarginal(path, mixture)
    x0, x1 = normal(n, 2, rng=rng), mixture.sample(n, rng)
    draw = path.draw(0.05 + 0.9 * torch.rand(n, generator=rng, dtype=DOUBLE), x0, x1, rng)
    x = draw.state
    tests = (torch.ones(n, dtype=DOUBLE), x[:, 0], torch.cos(x[:, 1]), x[:, 0] * x[:, 1])
    for name in path.predictions:
        exact, target = marginal.field(name)(draw.t, x), path.target(name, draw)
        scores = [z_score((target - exact)[:, 0] * phi) for phi in tests]
        wrong = [z_score((target - 1.1 * exact)[:, 0] * phi) for phi in tests]
        assert max(map(abs, scores)) < BOUND, (name, scores)
        assert max(map(abs, wrong)) > BOUND, (name, wrong)


@each_gamma
def test_the_marginal_generator_obeys_the_forward_equation_by_simulation(gamma, mixture, rng):
    """d/dt E f(x_t) = E L_t f, for the flow and for ε > 0 too, on draws of the path."""
    n, t, h = 200_000, 0.6, 1e-3
    path = path_of(gamma)
    marginal = MixtureMarginal(path, mixture)
    x0, x1 = normal(n, 2, rng=rng), mixture.sample(n, rng)
    f = lambda x: torch.sin(x[:, 0]) + x[:, 0] * x[:, 1] ** 2  # noqa: E731
    at = lambda t: path.draw(t, x0, x1, torch.Generator().manual_seed(1)).state  # noqa: E731
    rate, state = (f(at(t + h)) - f(at(t - h))) / (2 * h), at(t)
    for dynamics in (ODE(), SDE(1.0)):
        gen = dynamics.generator(path, "velocity", marginal.velocity)
        assert abs(z_score(rate - gen.apply(f, t, state))) < BOUND
        assert abs(z_score(rate - tilted(gen, 1.2).apply(f, t, state))) > BOUND


@each_gamma
def test_the_flow_scores_data_with_the_exact_density(gamma, mixture, rng):
    x = mixture.sample(8, rng)
    marginal = MixtureMarginal(path_of(gamma), mixture)
    base = Gaussian((2,), dtype=DOUBLE)
    model = Model(marginal.velocity, path_of(gamma), base)
    found = ODELikelihood(steps=64)(model, x, rng).value
    assert (found - mixture.log_prob(x)).abs().max() < 1e-6
    wrong = Model(lambda t, x: 1.01 * marginal.velocity(t, x), path_of(gamma), base)
    assert (ODELikelihood(steps=20)(wrong, x, rng).value - mixture.log_prob(x)).abs().max() > 1e-3


def moments(x):
    """Per row: coordinates, their squares, their product."""
    return torch.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1]], 1)


def exact_moments(mixture):
    w, m, v = mixture.weights[:, None], mixture.means, mixture.stds**2
    first, second = (w * m).sum(0), (w * (m**2 + v)).sum(0)
    return torch.cat([first, second, (w[:, 0] * m[:, 0] * m[:, 1]).sum().reshape(1)])


@pytest.mark.parametrize("eps", [0.5, 2.0])
def test_the_sampler_of_every_noise_reaches_the_same_law(eps, mixture, rng):
    """Five moments at t = 1 by Euler, extrapolated over h and h/2 to remove the O(h) bias."""
    n, path = 20_000, path_of("sqrt")
    marginal = MixtureMarginal(path, mixture)

    def solve(score_factor, steps):
        def velocity_and_noise(t, x):
            parts = right.evaluate(t, x)
            extra = (score_factor - 1) * eps * marginal.score(t, x)
            return replace(parts, velocity=parts.velocity + extra)

        right = SDE(eps).generator(path, "velocity", marginal.velocity)
        gen = replace(right, evaluate=velocity_and_noise)
        start = normal(n, 2, rng=rng)
        return moments(integrate(Euler(), gen, start, TimeGrid.uniform(steps), rng).state)

    def largest(score_factor):
        coarse, fine = solve(score_factor, 30), solve(score_factor, 60)
        error = torch.sqrt((4 * fine.var(0) + coarse.var(0)) / n)
        return ((2 * fine.mean(0) - coarse.mean(0) - exact_moments(mixture)) / error).abs().max()

    assert largest(1.0) < BOUND
    assert largest(0.6) > BOUND


# -- conversions -------------------------------------------------------------------------------

SINGLE = ("velocity", "denoiser", "base_denoiser", "score", "noise")


@each_gamma
def test_conversions_agree_with_the_oracle_from_every_prediction_to_every_other(
    gamma, mixture, rng
):
    path = path_of(gamma)
    marginal = MixtureMarginal(path, mixture)
    t, x = points(rng)
    names = [name for name in SINGLE if name in path.predictions]
    exact = {name: marginal.field(name)(t, x) for name in names}
    for given in names:
        for want in names:
            found = path.convert(want, {given: exact[given]}, t, x)
            assert torch.allclose(found, exact[want], atol=1e-9), (given, want)
            if given != want:
                wrong = path.convert(want, {given: 1.01 * exact[given]}, t, x)
                assert not torch.allclose(wrong, exact[want], atol=1e-6), (given, want)


@each_gamma
def test_conversions_of_arbitrary_values_go_round(gamma, rng):
    path = path_of(gamma)
    t, x = points(rng)
    value = normal(*x.shape, rng=rng)
    for a in path.predictions:
        for b in path.predictions:
            there = path.convert(b, {a: value}, t, x)
            assert torch.allclose(path.convert(a, {b: there}, t, x), value, atol=1e-8), (a, b)


@each_gamma
def test_rules_that_assume_nothing_of_the_base_hold_in_another_coupling(gamma, rng):
    """x0 depends on x1 and is not standard; all is jointly normal, so that E[· | x] is linear."""
    n = 400_000
    path = path_of(gamma, base="any")
    x1 = normal(n, 2, rng=rng)
    x0 = 0.5 * x1 + 0.8 * normal(n, 2, rng=rng) + 0.3
    draw = path.draw(0.45, x0, x1, rng)
    design = torch.cat([torch.ones(n, 1, dtype=DOUBLE), draw.state], 1)
    fit = {
        name: design @ torch.linalg.lstsq(design, path.target(name, draw)).solution
        for name in path.predictions
    }
    for rule in path.rules:
        if "score" in (rule.gives, *rule.needs):
            continue  # its target is the conditional score, of which this is the regression too
        found = rule.formula(draw.t, draw.state, *(fit[name] for name in rule.needs))
        assert torch.allclose(found, fit[rule.gives], atol=1e-9), rule.gives
    assumed = path_of(gamma).convert("base_denoiser", {"score": fit["velocity"]}, 0.45, draw.state)
    assert not torch.allclose(assumed, fit["base_denoiser"], atol=1e-2)


@pytest.mark.parametrize("gamma", ["sqrt", "quadratic"])
def test_the_score_from_the_noise_holds_for_any_base(gamma, rng):
    """x0 and x1 normal and dependent: x_t is normal with the regression's own covariance."""
    path, t = path_of(gamma, base="any"), 0.45
    c, scale = 0.6, path.schedule.gamma(torch.tensor(0.45, dtype=DOUBLE))
    variance = (1 - t) ** 2 + t**2 + 2 * t * (1 - t) * c + scale**2  # unit ends, correlation c
    x = normal(10, 2, rng=rng)
    noise = scale / variance * x
    exact = -x / variance
    assert torch.allclose(path.convert("score", {"noise": noise}, t, x), exact, atol=1e-12)
    assert not torch.allclose(-exact, exact, atol=1e-2)


# -- the objective's minimiser -----------------------------------------------------------------


@each_gamma
def test_the_excess_risk_is_half_the_mean_square_distance_to_the_exact_velocity(
    gamma, mixture, rng
):
    """L[b̂] − L[b] = E ½|b̂ − b|², with common random numbers; a tilted minimiser breaks it."""
    n = 100_000
    path, base = path_of(gamma), Gaussian((2,), dtype=DOUBLE)
    marginal = MixtureMarginal(path, mixture)
    other = lambda t, x: 0.9 * marginal.velocity(t, x) + 0.2 * torch.sin(x)  # noqa: E731
    pairs = Pairs(normal(n, 2, rng=rng), mixture.sample(n, rng))
    t = 0.02 + 0.96 * torch.rand(n, generator=rng, dtype=DOUBLE)

    def values(field):
        fixed = torch.Generator().manual_seed(5)
        return Regression()(Model(field, path, base), pairs, t, fixed)

    x = path.draw(t, pairs.x0, pairs.x1, torch.Generator().manual_seed(5)).state

    def gap(minimiser):
        distance = 0.5 * ((other(t, x) - minimiser(t, x)) ** 2).sum(1)
        return z_score(values(other) - values(minimiser) - distance)

    assert abs(gap(marginal.velocity)) < BOUND
    assert abs(gap(lambda t, x: 1.1 * marginal.velocity(t, x))) > BOUND


# -- the noising kernel ------------------------------------------------------------------------


@each_gamma
def test_renoising_draws_the_law_at_the_earlier_time(gamma, mixture, rng):
    n, path = 100_000, path_of(gamma)
    x1 = mixture.sample(n, rng)

    def at(t):
        return path.draw(t, normal(n, 2, rng=rng), x1, rng).state

    t, s = torch.full((n,), 0.8, dtype=DOUBLE), torch.full((n,), 0.3, dtype=DOUBLE)
    # given x1 both laws are the same: compare also the product with x1
    features = lambda x: torch.cat([moments(x), x * x1], 1)  # noqa: E731
    made, drawn = features(path.renoise(t, s, at(t), rng)), features(at(s))
    scores = (made.mean(0) - drawn.mean(0)) / torch.sqrt((made.var(0) + drawn.var(0)) / n)
    assert scores.abs().max() < BOUND
    wrong = features(path.renoise(t, 0.85 * s, at(t), rng))
    scores = (wrong.mean(0) - drawn.mean(0)) / torch.sqrt((wrong.var(0) + drawn.var(0)) / n)
    assert scores.abs().max() > BOUND


@each_gamma
def test_renoising_in_two_steps_is_renoising_in_one(gamma, rng):
    """Chapman–Kolmogorov, by the mean and variance of the kernel from a fixed point."""
    n, path = 100_000, path_of(gamma)
    time = lambda t: torch.full((n,), t, dtype=DOUBLE)  # noqa: E731
    start = torch.tensor([[1.2, -0.7]], dtype=DOUBLE).expand(n, 2)
    one = moments(path.renoise(time(0.9), time(0.2), start, rng))
    middle = path.renoise(time(0.9), time(0.5), start, rng)
    two = moments(path.renoise(time(0.5), time(0.2), middle, rng))
    scores = (one.mean(0) - two.mean(0)) / torch.sqrt((one.var(0) + two.var(0)) / n)
    assert scores.abs().max() < BOUND
    wrong = moments(path.renoise(time(0.55), time(0.2), middle, rng))
    scores = (one.mean(0) - wrong.mean(0)) / torch.sqrt((one.var(0) + wrong.var(0)) / n)
    assert scores.abs().max() > BOUND


def test_renoising_to_zero_forgets_and_from_zero_to_zero_stays(rng):
    path, x = path_of("none"), normal(50_000, 2, rng=rng) + 3
    zero = torch.zeros(len(x), dtype=DOUBLE)
    assert torch.equal(path.renoise(zero, zero, x, rng), x)
    fresh = path.renoise(zero + 0.7, zero, x, rng)
    assert abs(z_score(fresh[:, 0])) < BOUND
    assert abs(z_score(fresh[:, 0] ** 2 - 1)) < BOUND
    assert abs(z_score(path.renoise(zero + 0.7, zero + 0.1, x, rng)[:, 0])) > BOUND
