"""Compositions on finite spaces: facts, edges, and refusals by their words."""

import pytest
import torch

from genpath import Euclidean, flow
from genpath.errors import DomainError, ShapeError
from genpath.generators import MarkovGenerator
from genpath.parts import Parts
from genpath.spaces import FiniteSpace
from genpath_compose.chains import (
    Chain,
    ChainComposition,
    States,
    solve_weighted,
    table_potential,
)
from genpath_compose.finite import FiniteExpert, composed_on_finite, require_support
from genpath_compose.smc import run_particles
from genpath_compose.steering import Steered, weighable

D = torch.float64
FLIP = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], dtype=D)
STILL = torch.zeros(2, 2, dtype=D)


def chain(first, rates=FLIP):
    return Chain(torch.tensor([first, 1 - first], dtype=D), rates)


def test_states_are_a_finite_space():
    space = States(4)
    assert isinstance(space, FiniteSpace)
    x = torch.tensor([0, 3, 1])
    found = torch.cat([space.neighbours(x), x[None]]).sort(0).values
    assert torch.equal(found, torch.arange(4)[:, None].expand(4, 3))
    assert space.contains(torch.tensor([-1, 0, 4])).tolist() == [False, True, False]
    assert space.distance(x, torch.tensor([0, 0, 0])).tolist() == [0.0, 1.0, 1.0]
    assert space.project(x) is x and space.event_shape == ()


def test_a_chain_solves_its_own_forward_equation():
    one = chain(0.9)
    t = torch.tensor([0.7, 0.0, 0.7], dtype=D)
    expected = 0.5 + 0.4 * torch.exp(-2 * t)  # eigenvalue −2 of the flip
    torch.testing.assert_close(one.law(t)[:, 0], expected)
    slope = one.expert().gen.adjoint(
        lambda x: one.log_prob(t.repeat(len(x) // 3), x), t, torch.tensor([0, 0, 1])
    )
    rate = torch.stack([-0.8 * torch.exp(-2 * t), 0.8 * torch.exp(-2 * t)], 1)
    torch.testing.assert_close(
        slope, (rate / one.law(t)).gather(1, torch.tensor([[0], [0], [1]]))[:, 0]
    )


def test_one_expert_to_the_power_one_needs_no_weight():
    one = chain(0.8)
    gen = composed_on_finite(one.generator(), [one.expert()], [1.0])
    t = torch.full((2,), 0.4, dtype=D)
    found = gen(t, torch.tensor([0, 1])).potential
    torch.testing.assert_close(found, torch.zeros(2, dtype=D))


def test_an_expert_with_exponent_zero_does_not_matter_even_where_it_is_zero():
    one, gone = chain(0.8), chain(1.0, STILL)
    gen = composed_on_finite(one.generator(), [one.expert(), gone.expert()], [1.0, 0.0])
    found = gen(torch.full((2,), 0.4, dtype=D), torch.tensor([0, 1])).potential
    torch.testing.assert_close(found, torch.zeros(2, dtype=D))


def test_a_state_where_h_is_zero_has_weight_zero():
    one, part = chain(0.8, STILL), chain(1.0, STILL)
    gen = composed_on_finite(one.generator(), [one.expert(), part.expert()], [1.0, 1.0])
    found = gen(torch.full((2,), 0.4, dtype=D), torch.tensor([0, 1])).potential
    assert found.tolist() == [0.0, -torch.inf]
    table = ChainComposition([one, part], [1.0, 1.0], STILL)
    assert table.potential(torch.tensor([0.4])).tolist() == [[0.0, -torch.inf]]


def test_the_normaliser_is_the_sum():
    one = ChainComposition([chain(0.9), chain(0.2)], [1.5, 0.5], FLIP)
    times = [k / 100 for k in range(101)]
    sums = one.solve(times).sum(1)
    expected = one.log_density(torch.tensor(times, dtype=D)).exp().sum(1)
    torch.testing.assert_close(sums, expected, rtol=1e-8, atol=0)


def test_tables_take_many_times_at_once():
    one = ChainComposition([chain(0.9), chain(0.2)], [1.5, lambda t: 1 - 0.5 * t], FLIP)
    times = torch.linspace(0, 1, 5, dtype=D)
    together = one.potential(times)
    apart = torch.cat([one.potential(t[None]) for t in times])
    torch.testing.assert_close(together, apart)
    assert one.potential(torch.zeros(0, dtype=D)).shape == (0, 2)


def test_letters_of_another_package_are_a_finite_space_too(rng):
    """The same chain on `genpath_discrete.Categorical`, steered to one letter."""
    discrete = pytest.importorskip("genpath_discrete")
    rates = torch.rand(5, 5, generator=rng, dtype=D)
    rates = rates - rates.diagonal().diag()
    one = Chain(torch.full((5,), 0.2), rates - rates.sum(1).diag())
    pair = [one.expert(space=discrete.Categorical(5)), one.expert(space=States(5))]
    t, x = torch.full((5,), 0.5, dtype=D), torch.arange(5)
    found = [composed_on_finite(e.gen, [e, e], [1.4, -0.3])(t, x).potential for e in pair]
    torch.testing.assert_close(found[0], found[1])
    gen, start = weighable(pair[0].gen), torch.zeros(400, dtype=torch.long)
    steered = Steered(lambda t, x: 4.0 * t * (x == 3))
    run = run_particles(gen, start, [k / 10 for k in range(11)], rng, sampler=steered)
    share = float(run.weights()[run.state == 3].sum())
    plain = float(one.law(torch.ones(1))[0, 3])
    expected = plain * 54.6 / (1 + plain * 53.6)  # e⁴
    assert abs(share - expected) < 0.15


def test_a_space_of_points_needs_no_letters():
    """On the line, for q_t = N(t, 1) squared and a base that stands still: g = 4 (x − t)."""

    def log_q(t, x):
        return -0.5 * (x[:, 0] - t) ** 2

    space = Euclidean(1)
    expert = FiniteExpert(flow(space, lambda t, x: 1 + 0 * x), log_q)
    base = MarkovGenerator(space, lambda t, x: Parts(velocity=0 * x), {"velocity"})
    x = torch.tensor([[0.0], [2.0]], dtype=D)
    t = torch.full((2,), 0.5, dtype=D)
    found = composed_on_finite(base, [expert], [2.0])(t, x).potential
    torch.testing.assert_close(found, 2 * (x[:, 0] - t))


def test_an_empty_batch_stays_empty():
    one = chain(0.8)
    gen = composed_on_finite(one.generator(), [one.expert()], [2.0])
    assert gen(0.5, torch.zeros(0, dtype=torch.long)).potential.shape == (0,)


WHOLE, PART = chain(0.5, STILL), chain(1.0, STILL)
HALF = torch.tensor([0.5, 0.5])
REFUSALS = {
    "zero below": (
        lambda: require_support(
            [WHOLE.expert("a"), PART.expert("b")], [1.0, -0.5], torch.arange(2)
        ),
        DomainError,
        r"expert b: .*negative exponent(.|\n)*-0.5 and probability 0 at the state 1, t = 0",
    ),
    "zero below in a table": (
        lambda: ChainComposition([WHOLE, PART], [1.0, -0.5], STILL),
        DomainError,
        "expert 1: an expert with a negative exponent is positive wherever",
    ),
    "zero in a potential": (
        lambda: table_potential(
            torch.tensor([[0.0, 1.0]]), STILL[None].float(), -HALF[:1], HALF[:1], STILL.float()
        ),
        DomainError,
        "give that expert some mass there",
    ),
    "exponents": (
        lambda: composed_on_finite(WHOLE.generator(), [WHOLE.expert()], [1.0, 2.0]),
        ShapeError,
        "one exponent per expert",
    ),
    "nobody": (
        lambda: composed_on_finite(WHOLE.generator(), [], []),
        DomainError,
        "one expert or more",
    ),
    "square": (lambda: Chain(HALF, torch.zeros(3, 3)), ShapeError, "a row and a column of rates"),
    "law": (lambda: Chain(2 * HALF, STILL), DomainError, "the start is a law"),
    "rows": (lambda: Chain(HALF, -STILL + 1), DomainError, "rows sum to 0"),
    "negative": (lambda: Chain(HALF, -FLIP), DomainError, "are not negative"),
    "states": (
        lambda: ChainComposition([WHOLE], [1.0], torch.zeros(3, 3)),
        ShapeError,
        "all have the same states",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name):
    call, error, words = REFUSALS[name]
    with pytest.raises(error, match=words):
        call()


def test_numerators_may_cover_a_zero_below():
    """0 above and 0 below: h is 0 there, and the composition is not refused."""
    require_support([PART.expert(), PART.expert()], [1.0, -0.5], torch.arange(2))


def test_the_ode_is_solved_to_fourth_order():
    one = torch.ones(1, dtype=D)

    def error(steps):
        times = [k / steps for k in range(steps + 1)]
        found = solve_weighted(one, lambda t: 0 * one[None], lambda t: 2 * t * one, times)[-1]
        return abs(float(found) - torch.e)

    assert 12 < error(8) / error(16) < 20
