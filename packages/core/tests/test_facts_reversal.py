r"""Time reversal and path ratios.

The reversed generator is tested by its definition by duality, for any density p and f > 0:

    L̃ f = (1/p)[L*(p f) − f L*p]      so that with f = e^h      L̃ f / f = L*(pf)/(pf) − L*p/p

(L* from the generator's adjoint, which test_facts_generators compares with dense answers.)
"""

import math
from dataclasses import replace

import pytest
import torch

from genpath.generators import MarkovGenerator, product
from genpath.grids import TimeGrid
from genpath.jumps import RateJumps
from genpath.noises import DiagonalNoise, MatrixNoise, ScalarNoise
from genpath.parts import Parts
from genpath.reversal import log_transition, path_log_ratio, reverse, score_of
from genpath.samplers import Euler, integrate
from genpath.spaces import Euclidean

from .toys import BOUND, DOUBLE, RATES, Letters, chain, normal, rate_matrix, z_score

PLANE, BOTH = Euclidean(2), frozenset({"velocity", "diffusion"})


def log_p(t, x):
    wave = 0.7 * torch.sin(x[:, 0] * x[:, 1] + t)
    return -0.5 * (x**2).sum(1) - 0.1 * x[:, 0] ** 4 + wave


def tilt(x):
    return torch.sin(x[:, 0]) + 0.3 * x[:, 0] * x[:, 1]


def velocity(t, x):
    return torch.stack([torch.sin(x[:, 1]) - t * x[:, 0], x[:, 0] * x[:, 1]], 1)


def sigma(x):
    one = torch.ones_like(x[:, 0])
    top = torch.stack([1 + 0.3 * torch.cos(x[:, 1]), 0.2 * x[:, 0], 0.5 * one], 1)
    bottom = torch.stack([0.4 * x[:, 1], one, 0.1 * x[:, 0] * x[:, 1]], 1)
    return torch.stack([top, bottom], 1)


NOISES = {
    "scalar": lambda x: ScalarNoise(0.8),
    "scalar of the state": lambda x: ScalarNoise(1 + 0.3 * torch.sin(x[:, 0]), uniform=False),
    "diagonal": lambda x: DiagonalNoise(1 + 0.3 * torch.sin(x), uniform=False),
    "matrix": lambda x: MatrixNoise(sigma(x), uniform=False),
}


def duality(gen, log_density, tilting, t, x, backward):
    """L̃ f / f − [L*(pf)/(pf) − L*p/p] with f = exp(tilting), at s = 1 − t."""
    left = backward.apply(lambda y: tilting(y).exp(), 1 - t, x) / tilting(x).exp()
    joint = gen.adjoint(lambda y: log_density(t, y) + tilting(y), t, x)
    return (left - joint + gen.adjoint(lambda y: log_density(t, y), t, x)).abs().max()


@pytest.mark.parametrize("name", NOISES)
def test_a_reversed_diffusion_is_the_dual(name, rng):
    noise, t = NOISES[name], 0.3
    gen = MarkovGenerator(PLANE, lambda t, x: Parts(velocity(t, x), noise(x)), BOTH)
    x = normal(20, 2, rng=rng)
    log_density = lambda t, y: log_p(t, y)  # noqa: E731
    assert duality(gen, log_density, tilt, t, x, reverse(gen, log_density=log_density)) < 1e-9
    score = score_of(PLANE, log_density)
    assert duality(gen, log_density, tilt, t, x, reverse(gen, score=score)) < 1e-9
    negated = reverse(gen, score=lambda t, y: -score(t, y))
    assert duality(gen, log_density, tilt, t, x, negated) > 1e-2
    if name != "scalar":  # without div a

        def careless(t, x):
            parts = gen.evaluate(t, x)
            return replace(parts, diffusion=replace(parts.diffusion, uniform=True))

        dropped = reverse(replace(gen, evaluate=careless), log_density=log_density)
        assert duality(gen, log_density, tilt, t, x, dropped) > 1e-2


def test_a_number_per_row_reverses_too(rng):
    line = Euclidean()

    def evaluate(t, x):
        return Parts(torch.sin(x), DiagonalNoise(1 + 0.3 * torch.sin(x), uniform=False))

    gen = MarkovGenerator(line, evaluate, BOTH)
    log_density = lambda t, y: -0.5 * y**2 + 0.3 * torch.sin(3 * y)  # noqa: E731
    x = normal(10, rng=rng)
    backward = reverse(gen, log_density=log_density)
    assert duality(gen, log_density, torch.sin, 0.3, x, backward) < 1e-9
    other = reverse(gen, log_density=lambda t, y: -0.55 * y**2)
    assert duality(gen, log_density, torch.sin, 0.3, x, other) > 1e-2


def test_reversed_jumps_are_the_dual():
    gen, states = chain(RATES, (2,)), Letters(3, (2,)).all()
    p = torch.rand(9, generator=torch.Generator().manual_seed(1), dtype=DOUBLE) + 0.1
    index = lambda x: 3 * x[:, 0] + x[:, 1]  # noqa: E731
    log_density = lambda t, x: p[index(x)].log()  # noqa: E731
    tilting = lambda x: torch.sin(2 * index(x).double())  # noqa: E731
    backward = reverse(gen, log_density=log_density)
    assert duality(gen, log_density, tilting, 0.3, states, backward) < 1e-12
    flat = reverse(gen, log_density=lambda t, x: 0 * index(x).double())
    assert duality(gen, log_density, tilting, 0.3, states, flat) > 1e-2


def test_a_product_of_noise_and_jumps_reverses(rng):
    ou = MarkovGenerator(PLANE, lambda t, x: Parts(-x, ScalarNoise(0.8)), BOTH)
    gen = product({"x": ou, "letter": chain(RATES)})
    state = {"x": normal(6, 2, rng=rng), "letter": torch.arange(6) % 3}
    slant = lambda s: 0.4 * s["letter"] * torch.sin(s["x"][:, 0])  # noqa: E731
    log_density = lambda t, s: log_p(t, s["x"]) + slant(s)  # noqa: E731
    tilting = lambda s: tilt(s["x"]) * (s["letter"] - 1.3)  # noqa: E731
    backward = reverse(gen, log_density=log_density)
    assert duality(gen, log_density, tilting, 0.3, state, backward) < 1e-9
    apart = reverse(gen, log_density=lambda t, s: log_p(t, s["x"]))
    assert duality(gen, log_density, tilting, 0.3, state, apart) > 1e-2


# -- on an exactly known law -------------------------------------------------------------------

THETA, NOISE, START = 1.3, 0.9, (0.7, 0.2)  # dX = −θX dt + σ dW from N(m0, v0)


def ou(drift=0.0, noise=NOISE):
    def evaluate(t, x):
        return Parts(-THETA * x + drift, ScalarNoise(noise))

    return MarkovGenerator(Euclidean(1), evaluate, BOTH)


def moments(t):
    decay = torch.exp(-THETA * torch.as_tensor(t, dtype=DOUBLE))
    limit = NOISE**2 / (2 * THETA)
    return START[0] * decay, limit + (START[1] - limit) * decay**2


def log_law(t, x):
    mean, variance = moments(t)
    return -0.5 * (x[:, 0] - mean) ** 2 / variance - 0.5 * torch.log(2 * math.pi * variance)


def test_the_score_of_a_density_is_its_gradient(rng):
    x, t = normal(5, 1, rng=rng), torch.rand(5, generator=rng, dtype=DOUBLE)
    mean, variance = moments(t)
    exact = -(x - mean[:, None]) / variance[:, None]
    score = score_of(Euclidean(1), log_law)
    assert torch.allclose(score(t, x), exact, atol=1e-12)


# -- path ratios -------------------------------------------------------------------------------


def recorded(gen, n, steps, rng, start=None):
    start = normal(n, 1, rng=rng) if start is None else start
    solved = integrate(Euler(), gen, start, TimeGrid.uniform(steps), rng, record=True)
    return solved.times, solved.trajectory


def test_a_drift_that_depends_on_the_state(rng):
    """½∫E|û − u|²/σ² with û = −(θ + δ)x: ½δ²/σ² ∫E X² dt, in closed form up to Euler's O(h)."""

    def other(t, x):
        return Parts(-(THETA + 0.8) * x, ScalarNoise(NOISE))

    model = replace(ou(), evaluate=other)
    start = START[0] + START[1] ** 0.5 * normal(20_000, 1, rng=rng)
    times, states = recorded(ou(), 20_000, 60, rng, start)
    fine = torch.linspace(0, 1, 2001, dtype=DOUBLE)
    mean, variance = moments(fine)
    exact = 0.5 * 0.64 / NOISE**2 * float(torch.trapezoid(mean**2 + variance, fine))
    found = -path_log_ratio(model, ou(), times, states)
    allowed = BOUND * float(found.std()) / 20_000**0.5 + 0.02 * exact
    assert abs(float(found.mean()) - exact) < allowed
    assert abs(2 * float(found.mean()) - exact) > allowed


def test_the_ratio_of_jump_paths_is_a_density(rng):
    n = 20_000
    x = torch.zeros(n, dtype=torch.long)
    solved = integrate(Euler(), chain(RATES), x, TimeGrid.uniform(20), rng, record=True)
    faster = chain(1.5 * RATES + 0.1)
    ratio = path_log_ratio(faster, chain(RATES), solved.times, solved.trajectory)
    assert abs(z_score(ratio.exp() - 1)) < BOUND
    assert abs(z_score((-ratio).exp() - 1)) > BOUND
    rates, law = RATES.clone().fill_diagonal_(0), torch.eye(3, dtype=DOUBLE)[0]
    others = (1.5 * RATES + 0.1).fill_diagonal_(0)
    fine = torch.linspace(0, 1, 401, dtype=DOUBLE)
    laws = torch.stack([law @ torch.matrix_exp(t * rate_matrix(RATES)) for t in fine])
    local = (torch.xlogy(rates, rates) - torch.xlogy(rates, others) - rates + others).sum(1)
    exact = float(torch.trapezoid(laws @ local, fine))  # KL = ∫ Σ p(x) Σ q log(q/q̂) − q + q̂
    allowed = BOUND * float(ratio.std()) / n**0.5 + 0.05 * exact
    assert abs(-float(ratio.mean()) - exact) < allowed
    assert abs(-2 * float(ratio.mean()) - exact) > allowed


@pytest.mark.parametrize("event", [(), (1,), (2, 2)])
def test_one_step_laws_are_normal_densities(event, rng):
    """Against torch.distributions, for events of any shape."""
    space, h = Euclidean(*event), 0.1
    gen = MarkovGenerator(space, lambda t, x: Parts(-x, ScalarNoise(0.8)), BOTH)
    x, y = normal(2, 7, *event, rng=rng)
    law = torch.distributions.Normal((1 - h) * x, 0.8 * h**0.5)
    exact = law.log_prob(y).reshape(7, -1).sum(1)
    assert torch.allclose(log_transition(gen, 0.3, 0.3 + h, x, y), exact, atol=1e-12)
    assert not torch.allclose(log_transition(gen, 0.3, 0.3 + 2 * h, x, y), exact, atol=1e-2)


def test_letters_that_cannot_be_reached_have_no_mass():
    only = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=DOUBLE)

    def evaluate(t, x):
        return Parts(jumps=RateJumps(only[x], x))

    gen = MarkovGenerator(Letters(3), evaluate, frozenset({"jumps"}))
    x, y = torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2])
    mass = log_transition(gen, 0.0, 0.2, x, y).exp()
    exact = torch.tensor([math.exp(-0.2), 1 - math.exp(-0.2), 0.0], dtype=DOUBLE)
    assert torch.allclose(mass, exact, atol=1e-14)
