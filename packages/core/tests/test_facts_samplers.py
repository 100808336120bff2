r"""What samplers promise: orders of convergence, the laws of their steps, weights.

Orders are slopes of log error against log step length. Weak errors of Euler–Maruyama are free of
sampling noise: with signs ±1 for noise (Rademacher, whose first three moments are the normal ones)
the 2^n paths of n steps give expectations exactly.
"""

import itertools
import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from genpath.errors import DomainError
from genpath.generators import MarkovGenerator, flow, product
from genpath.grids import TimeGrid
from genpath.jumps import RateJumps, exposure, leap, pick
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.reversal import log_transition
from genpath.samplers import AdamsBashforth, Carry, Euler, RungeKutta, integrate
from genpath.spaces import Euclidean
from genpath.tableaus import RK4, Tableau

from .toys import BOUND, DOUBLE, RATES, Letters, chain, fitted_order, rate_matrix, seeded

LINE = Euclidean()
STEPS = (20, 40, 80, 160)

# -- flows -------------------------------------------------------------------------------------


def logistic():
    """ẋ = (1 + 2t) x(1−x): logit x(t) = logit x(0) + t + t²."""
    return flow(LINE, lambda t, x: (1 + 2 * t) * x * (1 - x))


def exact(x, start, end):
    return torch.sigmoid(torch.logit(x) + end + end**2 - start - start**2)


def uniform(steps):
    return TimeGrid.uniform(steps).times


def alternating(steps):
    """Step lengths 1, 2, 1, 2, …: where a multistep method needs its ratio."""
    lengths = [1 + i % 2 for i in range(steps)]
    return tuple(t / sum(lengths) for t in itertools.accumulate(lengths, initial=0))


def order_of(sampler, grid, gen=None):
    start = torch.linspace(0.05, 0.95, 10, dtype=DOUBLE)
    errors = []
    for steps in STEPS:
        times = grid(steps)
        found = integrate(sampler, gen or logistic(), start, times, seeded()).state
        errors.append((found - exact(start, times[0], times[-1])).abs().mean())
    return fitted_order(STEPS, errors)


@dataclass(frozen=True)
class Unratioed(AdamsBashforth):
    """Adams–Bashforth that takes every step for as long as the last one."""

    def step(self, gen, carry, t, t_next, rng):
        h = torch.full_like(carry.state, t_next - t)
        memory = {**carry.memory, "step": h} if carry.memory else carry.memory
        return super().step(gen, replace(carry, memory=memory), t, t_next, rng)


def test_the_fit_sees_a_method_below_its_order():
    assert order_of(Unratioed(), uniform) > 1.75
    assert order_of(Unratioed(), alternating) < 1.5
    stale = replace(logistic(), evaluate=lambda t, x: logistic().evaluate(t.floor(), x))
    assert order_of(RungeKutta(RK4), uniform, stale) < 0.5


def test_there_and_back_is_the_identity():
    start = torch.tensor([0.2, 0.5, 0.8], dtype=DOUBLE)
    there = integrate(RungeKutta(RK4), logistic(), start, TimeGrid.uniform(50), seeded()).state
    back = integrate(RungeKutta(RK4), logistic(), there, TimeGrid.uniform(50, 1.0, 0.0), seeded())
    assert torch.allclose(back.state, start, atol=1e-7)
    assert not torch.allclose(there, start, atol=1e-2)


KUTTA = (((), (0.5,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6), (0.0, 0.5, 1.0))
HEUN_3 = (((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4), (0.0, 1 / 3, 2 / 3))
RALSTON_C = (0.0, 2 / 3)
EIGHTHS = ((1 / 8, 3 / 8, 3 / 8, 1 / 8), (0.0, 1 / 3, 2 / 3, 1.0))
WRONG = [
    ("Σⱼ aᵢⱼ = cᵢ", ((), (0.5,)), (0.0, 1.0), (0.0, 0.4), 1),
    ("Σ bᵢ = 1", ((),), (0.9,), (0.0,), 1),
    ("Σ bᵢcᵢ = 1/2", ((),), (1.0,), (0.0,), 2),
    ("Σ bᵢcᵢ² = 1/3", ((), (1.0,)), (0.5, 0.5), (0.0, 1.0), 3),
    ("Σ bᵢaᵢⱼcⱼ = 1/6", ((), (2 / 3,)), (1 / 4, 3 / 4), RALSTON_C, 3),
    ("Σ bᵢcᵢ³ = 1/4", *HEUN_3, 4),
    ("Σ bᵢcᵢaᵢⱼcⱼ = 1/8", *KUTTA, 4),
    ("Σ bᵢaᵢⱼcⱼ² = 1/12", ((), (1 / 3,), (-1 / 3, 1.0), (0.9, -0.8, 0.9)), *EIGHTHS, 4),
    (
        "Σ bᵢaᵢⱼaⱼₖcₖ = 1/24",
        ((), (0.5,), (0.0, 0.5), (0.0, 0.1, 0.9)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
        (0.0, 0.5, 0.5, 1.0),
        4,
    ),
]


@pytest.mark.parametrize(("formula", "a", "b", "c", "order"), WRONG, ids=[w[0] for w in WRONG])
def test_a_tableau_refuses_to_be_wrong(formula, a, b, c, order):
    """One condition is broken and all before it hold; below its order the tableau is right."""
    with pytest.raises(DomainError) as caught:
        Tableau(a, b, c, order)
    assert formula in str(caught.value)
    if order > 1:
        Tableau(a, b, c, order - 1)


def test_third_order_tableaus_are_accepted_and_have_their_order():
    for method in (KUTTA, HEUN_3):
        assert abs(order_of(RungeKutta(Tableau(*method, 3)), uniform) - 3) < 0.25


# -- diffusions --------------------------------------------------------------------------------


@dataclass
class Signs:
    """σ times ±1 by a table: column i for the i-th step."""

    sigma: float
    table: torch.Tensor
    uniform: bool = True
    used: int = field(default=0)

    def draw(self, space, state, rng):
        self.used += 1
        return self.table[:, self.used - 1]

    def __call__(self, noise):
        return self.sigma * noise


def signs(steps):
    """All 2^steps rows of ±1."""
    return 1 - 2 * ((torch.arange(2**steps)[:, None] >> torch.arange(steps)) & 1).to(DOUBLE)


def every_path(steps, potential=None, noise_power=0.5):
    """Euler on dX = −1.3X dt + 0.9 dW from X_0 = 0.7, on all sign paths: states and log-weights."""
    scale = (1 / steps) ** (noise_power - 0.5)
    noise = Signs(0.9 * scale, signs(steps))

    def evaluate(t, x):
        return Parts(-1.3 * x, noise, potential=None if potential is None else potential(x))

    has = {"velocity", "diffusion"} | (set() if potential is None else {"potential"})
    gen = MarkovGenerator(LINE, evaluate, frozenset(has))
    start = torch.full((2**steps,), 0.7, dtype=DOUBLE)
    return integrate(Euler(), gen, start, TimeGrid.uniform(steps), seeded())


def ou_moments():
    mean = 0.7 * math.exp(-1.3)
    return mean, mean**2 + 0.81 / 2.6 * (1 - math.exp(-2.6))


FEW = (4, 8, 12, 16)


def test_euler_maruyama_has_weak_order_one():
    """Mean and second moment of Ornstein–Uhlenbeck, exact up to the step's own error."""
    states = {n: every_path(n).state for n in FEW}
    mean, second = ou_moments()
    assert abs(fitted_order(FEW, [abs(states[n].mean() - mean) for n in FEW]) - 1) < 0.25
    errors = [abs((states[n] ** 2).mean() - second) for n in FEW]
    assert abs(fitted_order(FEW, errors) - 1) < 0.25
    assert errors[-1] < 0.05


def test_noise_of_another_power_of_the_step_is_seen():
    _, second = ou_moments()
    errors = [abs((every_path(n, noise_power=0.75).state ** 2).mean() - second) for n in FEW]
    assert fitted_order(FEW, errors) < 0.5


def test_weights_of_a_potential_converge_with_order_one():
    """E exp(−½κ∫X²) and E[w X²]: the unnormalised law stays normal, with Riccati's variance.

    v̇ = −2θv + σ² − κv², ṁ = −(θ + κv) m, d log Z/dt = −½κ(v + m²), solved by a fine RK4.
    """
    theta, sigma, kappa = 1.3, 0.9, 1.7

    def moments(t, y):
        v, m = y[:, 0], y[:, 1]
        dv = -2 * theta * v + sigma**2 - kappa * v**2
        return torch.stack([dv, -(theta + kappa * v) * m, -0.5 * kappa * (v + m**2)], 1)

    start = torch.tensor([[0.0, 0.7, 0.0]], dtype=DOUBLE)
    solved = integrate(
        RungeKutta(RK4), flow(Euclidean(3), moments), start, TimeGrid.uniform(400), seeded()
    )
    v, m, log_z = solved.state[0].tolist()
    totals, seconds, unweighted = [], [], []
    for n in FEW:
        found = every_path(n, lambda x: -0.5 * kappa * x**2)
        w = found.log_weight.exp()
        totals.append(abs(w.mean() - math.exp(log_z)))
        seconds.append(abs((w * found.state**2).mean() - math.exp(log_z) * (v + m**2)))
        unweighted.append(abs((found.state**2).mean() - math.exp(log_z) * (v + m**2)))
    assert abs(fitted_order(FEW, totals) - 1) < 0.25
    assert abs(fitted_order(FEW, seconds) - 1) < 0.3
    assert fitted_order(FEW, unweighted) < 0.3


# -- jumps -------------------------------------------------------------------------------------


def step_matrix(gen, t, t_next, size=3):
    """The law of one Euler step as a stochastic matrix, from its stated one-step law."""
    x, y = torch.arange(size).repeat_interleave(size), torch.arange(size).repeat(size)
    return log_transition(gen, t, t_next, x, y).exp().reshape(size, size)


def test_a_jump_step_draws_its_one_step_law(rng):
    n = 30_000
    gen = chain(RATES)
    x = torch.arange(3).repeat_interleave(n)
    y = integrate(Euler(), gen, x, (0.0, 0.3), rng).state.reshape(3, n)
    found = torch.stack([(y == k).double().mean(1) for k in range(3)], 1)
    p = step_matrix(gen, 0.0, 0.3)
    assert torch.allclose(p.sum(1), torch.ones(3, dtype=DOUBLE), atol=1e-12)
    z = lambda q: ((found - q) / (q * (1 - q) / n).sqrt()).abs().max()  # noqa: E731
    assert z(p) < BOUND
    assert z(step_matrix(gen, 0.0, 0.27)) > BOUND
    frozen = torch.eye(3, dtype=DOUBLE) + 0.3 * rate_matrix(RATES)
    assert z(frozen) > BOUND, "1 − e^{−λh}, not λh"


def test_jump_laws_converge_with_order_one():
    """Products of one-step laws against the matrix exponential, for rates that grow with time."""

    def evaluate(t, x):
        return Parts(jumps=RateJumps(2 * t[:, None] * RATES[x], x))

    growing = MarkovGenerator(Letters(3), evaluate, frozenset({"jumps"}))
    limit = torch.matrix_exp(rate_matrix(RATES))
    for gen in (chain(RATES), growing):
        errors = []
        for steps in STEPS:
            law = torch.eye(3, dtype=DOUBLE)
            for t, t_next in itertools.pairwise(uniform(steps)):
                law = law @ step_matrix(gen, t, t_next)
            errors.append((law - limit).abs().max())
        assert abs(fitted_order(STEPS, errors) - 1) < 0.25
    wrong = [(torch.matrix_power(step_matrix(chain(1.1 * RATES), 0, 1 / n), n) - limit).abs().max()
             for n in STEPS]  # fmt: skip
    assert fitted_order(STEPS, wrong) < 0.5


def test_sites_jump_independently(rng):
    n = 40_000
    x = torch.zeros(n, 2, dtype=torch.long)
    y = integrate(Euler(), chain(RATES, (2,)), x, (0.0, 0.5), rng).state != 0
    p = 1 - math.exp(-0.5 * 1.5)
    both = (y[:, 0] & y[:, 1]).double()
    z = lambda q: float((both.mean() - q) / (q * (1 - q) / n) ** 0.5)  # noqa: E731
    assert abs(z(p**2)) < BOUND
    assert abs(z(p)) > BOUND and abs(z(p**2 * 0.9)) > BOUND


# -- all parts at once -------------------------------------------------------------------------


def feynman_kac(scale=1.0):
    """Ornstein–Uhlenbeck in the plane × three letters, weighted by g = c(letter) − ½κ|x|²."""
    ou = MarkovGenerator(
        Euclidean(2),
        lambda t, x: Parts(-1.3 * x, ScalarNoise(0.9)),
        frozenset({"velocity", "diffusion"}),
    )
    free = product({"x": ou, "letter": chain(RATES)})

    def g(t, s):
        return Parts(potential=scale * (REWARD[s["letter"]] - 0.85 * (s["x"] ** 2).sum(1)))

    return free + MarkovGenerator(free.space, g, frozenset({"potential"}))


REWARD = torch.tensor([0.5, -0.4, 0.9], dtype=DOUBLE)


def test_weighted_laws_of_a_product_against_exact_answers(rng):
    """E[w 1{letter = k}] and E[w |x|²] from a matrix exponential times Riccati's normal law.

    Extrapolated over h and h/2 to remove the O(h) error of the split step.
    """
    n = 40_000
    exponent = rate_matrix(RATES).T + torch.diag(REWARD)
    letters = torch.matrix_exp(exponent)[:, 0]  # from letter 0

    def moments(t, y):  # v and log Z of each coordinate, from x = 0
        v = y[:, 0]
        return torch.stack([-2.6 * v + 0.81 - 1.7 * v**2, -0.85 * v], 1)

    zero = torch.zeros(1, 2, dtype=DOUBLE)
    grid = TimeGrid.uniform(400)
    v, log_z = integrate(RungeKutta(RK4), flow(Euclidean(2), moments), zero, grid, rng).state[0]
    plane = (2 * log_z).exp()
    expected = torch.cat([letters * plane, (letters.sum() * plane * 2 * v)[None]])

    def solve(steps, scale):
        state = {"x": torch.zeros(n, 2, dtype=DOUBLE), "letter": torch.zeros(n, dtype=torch.long)}
        end = integrate(Euler(), feynman_kac(scale), state, TimeGrid.uniform(steps), rng)
        one_hot = torch.nn.functional.one_hot(end.state["letter"], 3)
        values = torch.cat([one_hot, (end.state["x"] ** 2).sum(1, keepdim=True)], 1)
        return end.log_weight.exp()[:, None] * values

    def largest(scale):
        coarse, fine = solve(20, scale), solve(40, scale)
        error = ((4 * fine.var(0) + coarse.var(0)) / n).sqrt()
        return float(((2 * fine.mean(0) - coarse.mean(0) - expected) / error).abs().max())

    assert largest(1.0) < BOUND
    assert largest(0.7) > BOUND


def test_the_growth_of_weighted_expectations_is_the_generator():
    """d/dt E[w f] = E[w (Lf + g f)] at one point: one step on letters and signs, h → 0."""
    values = torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE)
    free = chain(RATES)
    gen = free + MarkovGenerator(
        free.space, lambda t, x: Parts(potential=REWARD[x]), frozenset({"potential"})
    )
    x = torch.arange(3)
    exact = gen.apply(lambda y: values[y], 0.0, x)
    errors = []
    for steps in (20, 40, 80):
        h = 1 / steps
        carry = Euler().step(gen, Carry(x, torch.zeros(3, dtype=DOUBLE)), 0.0, h, seeded())
        grown = carry.log_weight.exp() * (step_matrix(free, 0.0, h) @ values)
        errors.append(((grown - values) / h - exact).abs().max())
    assert abs(fitted_order((20, 40, 80), errors) - 1) < 0.1


def test_exposures_of_a_jump_part_with_a_weight_in_time_add_up_to_the_integral():
    """Σ exposure over a grid → ∫ w(t) λ dt with order 1, for w(t) = 3t² and a constant rate λ."""
    x = torch.zeros(1, dtype=torch.long)
    rates = torch.tensor([[0.0, 0.7]], dtype=DOUBLE)
    gen = MarkovGenerator(Letters(2), lambda t, x: Parts(jumps=RateJumps(rates, x)), {"jumps"})
    gen = gen * (lambda t: 3 * t**2)
    steps, errors = [10, 20, 40], []
    for count in steps:
        times = TimeGrid.uniform(count).times
        total = 0.0
        for t, t_next in itertools.pairwise(times):
            part = gen(torch.tensor(t, dtype=DOUBLE), x).jumps
            total += float(exposure(part, t, t_next))
        errors.append(abs(total - 0.7))
    assert abs(fitted_order(steps, errors) - 1) < 0.1
    assert errors[-1] < 0.03


@pytest.mark.parametrize(("dtype", "power"), [(torch.float32, -149), (DOUBLE, -1074)])
def test_a_letter_without_weight_is_not_picked_where_sums_round_up(dtype, power, rng):
    """The smallest positive weight: u·w rounds to 0 or to w itself, which lies past the letter."""
    weights = torch.tensor([0.0, 2.0**power, 0.0], dtype=dtype).expand(1000, 3)
    assert torch.equal(pick(weights, rng), torch.ones(1000, dtype=torch.long))


def test_a_site_without_rate_stays_where_the_uniform_is_zero(monkeypatch, rng):
    """Uniforms lie in [0, 1): the smallest is 0, and it is not below a chance of 0."""
    x = torch.tensor([0, 1])
    jumps = RateJumps(torch.tensor([[0.0, 0.0], [1e-3, 0.0]], dtype=DOUBLE), x)
    monkeypatch.setattr(torch, "rand", lambda shape, dtype, **_: torch.zeros(shape, dtype=dtype))
    assert leap(jumps, x, 0.0, 0.1, rng).tolist() == [0, 0]
