"""Steering and twists: facts, edges, and refusals by their words."""

from dataclasses import dataclass, replace

import pytest
import torch

from genpath import Euclidean, flow
from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator, product
from genpath.jumps import AtomJumps, KernelJumps, RateJumps
from genpath.noises import (
    DiagonalNoise,
    FactorNoise,
    MatrixFreeNoise,
    MatrixNoise,
    ScalarNoise,
    SumNoise,
)
from genpath.parts import Parts
from genpath.samplers import Carry, Euler, RungeKutta, integrate
from genpath.spaces import Product
from genpath.tableaus import HEUN
from genpath_compose.chains import Chain, States
from genpath_compose.smc import Resample, run_particles
from genpath_compose.steering import Immediate, Lookahead, Steered, Twisted, weighable
from genpath_compose.twisting import twisted

D = torch.float64
PULL = torch.tensor([0.5, -1.0], dtype=D)


def brownian(noise, space=None):
    """A generator that only has noise: ``noise(rows)`` makes the map."""

    def parts(t, state):
        return Parts(diffusion=noise(len(t)))

    return MarkovGenerator(space or Euclidean(2), parts, {"diffusion"})


MATRIX = torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, 0.3]], dtype=D)
NOISES = {
    "scalar": (lambda n: ScalarNoise(1.5), 1.5 * torch.eye(2, dtype=D)),
    "diagonal": (
        lambda n: DiagonalNoise(torch.tensor([[1.0, 0.5]], dtype=D).expand(n, 2)),
        torch.diag(torch.tensor([1.0, 0.5], dtype=D)),
    ),
    "matrix": (lambda n: MatrixNoise(MATRIX.expand(n, 2, 3)), MATRIX),
    "sum": (
        lambda n: SumNoise((ScalarNoise(1.5), MatrixNoise(MATRIX.expand(n, 2, 3)))),
        torch.cat([1.5 * torch.eye(2, dtype=D), MATRIX], 1),
    ),
    "matrix-free": (
        lambda n: MatrixFreeNoise(lambda z: torch.stack([z[:, 0], z[:, 0] + z[:, 1]], 1)),
        torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=D),
    ),
}


@pytest.mark.parametrize("name", NOISES)
def test_a_linear_value_is_exact_for_brownian_motion_under_every_noise_map(name, rng):
    """log w = ψ(0) + ½ |σᵀa|² T, the same for all particles, at any step size."""
    noise, matrix = NOISES[name]
    start = torch.randn(30, 2, generator=rng, dtype=D)
    pull = Twisted(lambda t, x: x @ PULL)
    run = integrate(pull, brownian(noise), start, [0.0, 0.2, 1.0], rng)
    expected = start @ PULL + 0.5 * (PULL @ matrix).square().sum()
    torch.testing.assert_close(run.log_weight, expected)


def test_the_noise_of_one_leaf_may_move_another(rng):
    """x and a tracked y with dy = 2 dx: ψ = x + y has σᵀ∇ψ = 3."""

    def together(noise):
        return {"x": noise["x"], "y": 2 * noise["x"]}

    space = Product({"x": Euclidean(), "y": Euclidean()})
    gen = brownian(lambda n: MatrixFreeNoise(together, ("x",)), space)
    gen = replace(gen, evaluate=lambda t, s: Parts(diffusion=MatrixFreeNoise(together, ("x",))))
    start = {name: torch.zeros(5, dtype=D) for name in ("x", "y")}
    pull = Twisted(lambda t, s: s["x"] + s["y"])
    run = integrate(pull, gen, start, [0.0, 0.5, 1.0], rng)
    torch.testing.assert_close(run.log_weight, torch.full((5,), 4.5, dtype=D))
    torch.testing.assert_close(run.state["y"], 2 * run.state["x"])


def test_leaves_without_noise_are_moved_but_not_twisted(rng):
    space = Product({"x": Euclidean(), "y": Euclidean()})

    def parts(t, state):
        velocity = {"x": 0 * state["x"], "y": 1 + 0 * state["y"]}
        return Parts(velocity, FactorNoise({"x": ScalarNoise(1.0)}))

    gen = MarkovGenerator(space, parts, {"velocity", "diffusion"})
    start = {name: torch.zeros(5, dtype=D) for name in ("x", "y")}
    run = integrate(Twisted(lambda t, s: s["x"] * s["y"]), gen, start, [0.0, 0.5, 1.0], rng)
    torch.testing.assert_close(run.state["y"], torch.ones(5, dtype=D))
    assert run.log_weight.isfinite().all()


def test_strength_zero_is_fk_steering(rng):
    value = Immediate(lambda x: x[:, 0] ** 2, lambda t: t)
    gen, start = brownian(NOISES["scalar"][0]), torch.ones(4, 2, dtype=D)
    found = [
        integrate(s, gen, start, [0.0, 0.3, 1.0], torch.Generator().manual_seed(1))
        for s in (Twisted(value, 0.0), Steered(value))
    ]
    torch.testing.assert_close(found[0].state, found[1].state)
    torch.testing.assert_close(found[0].log_weight, found[1].log_weight)


def test_a_potential_of_the_generator_is_weighed_too(rng):
    gen = brownian(NOISES["scalar"][0])
    heavy = replace(
        gen,
        evaluate=lambda t, x: replace(gen.evaluate(t, x), potential=2 + 0 * t),
        has=gen.has | {"potential"},
    )
    for sampler in (Steered(Immediate(lambda x: x[:, 0])), Twisted(Immediate(lambda x: x[:, 0]))):
        run = [
            integrate(sampler, g, torch.zeros(3, 2), [0.0, 1.0], torch.Generator().manual_seed(0))
            for g in (gen, heavy)
        ]
        torch.testing.assert_close(run[1].log_weight, run[0].log_weight + 2)


@dataclass
class Counted:
    """r(x) = x with the times at which it was asked for."""

    def __post_init__(self):
        self.times = []

    def __call__(self, t, x):
        self.times.append(float(t[0]))
        return x[:, 0]


def test_the_value_is_used_again_unless_the_particles_changed(rng):
    value, gen = Counted(), weighable(flow(Euclidean(1), lambda t, x: 1 + 0 * x))
    x = torch.zeros(8, 1, dtype=D)
    integrate(Steered(value), gen, x, [0.0, 0.5, 1.0], rng)
    assert value.times == [0.5, 1.0]

    def clamped(carry, t, rng):
        return replace(carry, state=carry.state.clamp(max=0.25))

    value = Counted()
    run = integrate(Steered(value), gen, x, [0.0, 0.5, 1.0], rng, transforms=(clamped,))
    assert value.times == [0.5, 0.5, 1.0]  # asked again where a transform moved the particles
    torch.testing.assert_close(run.log_weight, torch.full((8,), 0.5 - 0.25 + 0.75, dtype=D))


def test_any_sampler_can_be_steered(rng):
    gen = flow(Euclidean(1), lambda t, x: 2 * t[:, None] + 0 * x)
    steered = Steered(lambda t, x: t * x[:, 0], RungeKutta(HEUN))
    assert (steered.order, steered.calls_per_step, steered.needs_origin) == (2, 2, False)
    assert steered.carries == frozenset({"velocity"})
    run = integrate(steered, gen, torch.zeros(2, 1, dtype=D), [0.0, 0.5, 1.0], rng)
    torch.testing.assert_close(run.log_weight, torch.ones(2, dtype=D))


def test_particles_are_drawn_towards_the_reward(rng):
    gen = weighable(brownian(NOISES["scalar"][0]))
    start, value = torch.zeros(500, 2), Immediate(lambda x: 3 * x[:, 0], lambda t: t)
    for sampler in (Steered(value), Twisted(value, 0.5)):
        run = run_particles(gen, start, [k / 20 for k in range(21)], rng, sampler=sampler)
        assert len(run.resampled) > 0
        assert abs(float(run.weights() @ run.state[:, 0].double()) - 3 * 2.25) < 1.5


def test_edges(rng):
    value = Immediate(lambda x: x[:, 0])
    gen = brownian(NOISES["scalar"][0])
    for sampler in (Steered(value), Twisted(value)):
        run = integrate(sampler, gen, torch.zeros(0, 2), [0.0, 1.0], rng)
        assert run.log_weight.shape == (0,)
    assert weighable(weighable(gen)).has == {"diffusion", "potential"}
    assert twisted(gen, value)(0.5, torch.zeros(0, 2)).potential.shape == (0,)


def test_from_the_end_on_the_point_itself_is_rewarded():
    value = Lookahead(lambda x: x[:, 0], lambda t, x: x / (1 - t)[:, None])
    t, x = torch.tensor([0.5, 1.0]), torch.ones(2, 1)
    assert value(t, x).tolist() == [2.0, 1.0]
    early = replace(value, end=0.4)
    assert early(t, x).tolist() == [1.0, 1.0]


def test_refusals(rng):
    still = flow(Euclidean(1), lambda t, x: 0 * x)
    with pytest.raises(CapabilityError, match="a twist moves the noise of a step"):
        integrate(Twisted(Immediate(lambda x: x[:, 0])), still, torch.zeros(1, 1), [0.0, 1.0], rng)
    with pytest.raises(DomainError, match="a strength is finite"):
        Twisted(Immediate(lambda x: x[:, 0]), float("nan"))
    jump = MarkovGenerator(States(2), lambda t, x: Parts(jumps=RateJumps(RATES[x], x)), {"jumps"})
    with pytest.raises(CapabilityError, match="Twisted: it carries"):
        integrate(Twisted(lambda t, x: x), jump, torch.tensor([0]), [0.0, 1.0], rng)
    drawn = MarkovGenerator(
        Euclidean(1),
        lambda t, x: Parts(jumps=KernelJumps(torch.ones(len(x)), lambda rng: x + 1)),
        {"jumps"},
    )
    with pytest.raises(CapabilityError, match="all targets with their rates"):
        twisted(drawn, Immediate(lambda x: x[:, 0]))(0.0, torch.zeros(1, 1))


# -- twisted jumps -----------------------------------------------------------------------------

RATES = torch.tensor([[0.0, 2.0], [1.0, 0.0]], dtype=D)


def test_rates_are_tilted_and_stay_jumps_of_sites():
    """Two sites of two letters: rates of each site times e^{difference}."""
    x = torch.tensor([[0, 1]])

    def parts(t, x):
        return Parts(jumps=RateJumps(RATES[x], x))

    gen = MarkovGenerator(Euclidean(2), parts, {"jumps"})
    found = twisted(gen, lambda t, x: x.double() @ PULL)(0.5, x)
    assert isinstance(found.jumps, RateJumps)
    expected = torch.tensor([[[0.0, 2.0], [1.0, 0.0]]], dtype=D)
    expected[0, 0, 1] *= PULL[0].exp()  # letter 0 → 1 at site 0
    expected[0, 1, 0] *= (-PULL[1]).exp()  # letter 1 → 0 at site 1
    torch.testing.assert_close(found.jumps.rates, expected)
    torch.testing.assert_close(found.potential, expected.sum((1, 2)) - 3.0)


def test_jumps_of_the_whole_state_keep_their_targets():
    targets = torch.tensor([[[-1.0]], [[2.0]]], dtype=D)
    rates = torch.tensor([[1.0], [3.0]], dtype=D)
    gen = MarkovGenerator(
        Euclidean(1), lambda t, x: Parts(jumps=AtomJumps(targets, rates)), {"jumps"}
    )
    found = twisted(gen, lambda t, x: x[:, 0])(0.0, torch.zeros(1, 1, dtype=D))
    tilt = rates * targets[:, :, 0].exp()
    torch.testing.assert_close(found.jumps.rates, tilt)
    torch.testing.assert_close(found.potential, (tilt - rates).sum(0))


def test_jumps_of_a_leaf_see_the_other_leaves():
    chain = Chain(torch.tensor([0.5, 0.5]), torch.tensor([[-2.0, 2.0], [1.0, -1.0]]))
    gen = product({"k": chain.generator(), "x": flow(Euclidean(), lambda t, x: 0 * x)})
    state = {"k": torch.tensor([0, 1]), "x": torch.tensor([1.0, 3.0], dtype=D)}
    found = twisted(gen, lambda t, s: s["k"] * s["x"])(0.0, state)
    rates = found.jumps["k"].rates
    torch.testing.assert_close(rates[0, 1], 2 * torch.tensor(1.0, dtype=D).exp())
    torch.testing.assert_close(rates[1, 0], torch.tensor(-3.0, dtype=D).exp())


def test_a_carry_without_steering_memory_starts_with_the_whole_value(rng):
    """The first step brings ψ(t_0, X_0) in, whatever t_0."""
    gen = weighable(flow(Euclidean(1), lambda t, x: 0 * x))
    value = Immediate(lambda x: x[:, 0])
    carry = Carry(torch.ones(2, 1), torch.full((2,), 5.0))
    moved = Steered(value, Euler()).step(gen, carry, 0.4, 0.6, rng)
    assert moved.log_weight.tolist() == [6.0, 6.0]
    run = run_particles(
        gen,
        torch.ones(2, 1),
        [0.4, 1.0],
        rng,
        sampler=Steered(value),
        log_weight=torch.tensor([0.0, 1.0]),
        resample=Resample(when="never"),
    )
    assert run.log_weight.tolist() == [1.0, 2.0]
