"""Superposition: facts, edges, and refusals by their words."""

import math
from dataclasses import replace

import pytest
import torch

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.samplers import Euler, RungeKutta, integrate
from genpath.tableaus import RK4
from genpath_compose.dynamics import Composed
from genpath_compose.experts import FieldExpert
from genpath_compose.mixtures import Mixture, either
from genpath_compose.normals import Normal
from genpath_compose.superposition import Agree, Share, Superposed, both_of
from genpath_compose.tails import Tail

D = torch.float64
LOG_2PI = math.log(2 * math.pi)


def start(size=2):
    law = Normal.isotropic((size,))
    return Normal(law.mean, law.precision, D)


def moving(mean, name="", size=2, known=True, tail=None):
    """N(m t, I) with velocity m."""
    direction = torch.full((size,), float(mean), dtype=D)

    def both(t, x):
        return direction + 0 * x, t[:, None] * direction - x

    def log_q(t, x):
        return -0.5 * ((x - t[:, None] * direction) ** 2 + LOG_2PI).sum(1)

    return FieldExpert(both, (size,), name, tail, start(size), log_density=log_q if known else None)


def flat(value):
    return Tail(lambda t: value.expand(len(t), *value.shape), lambda t: t)


# -- mixtures ----------------------------------------------------------------------------------


def test_a_mixture_is_composed_like_any_expert(rng):
    pair = either(moving(-1.0, "a"), moving(2.0, "b"), weights=(1, 3))
    assert pair.name == "either(a, b)" and pair.event_shape == (2,)
    dynamics = Composed(pair**1.5, sigma=0.5)
    state = dynamics.state(torch.randn(4, 2, generator=rng, dtype=D), 0.0, rng)
    parts = dynamics.generator()(torch.full((4,), 0.5, dtype=D), state)
    assert parts.potential.isfinite().all()
    law, _ = (pair**2).start()
    torch.testing.assert_close(law.precision, torch.full((2,), 2.0, dtype=D))


def test_one_expert_is_its_own_mixture(rng):
    one = moving(1.0)
    t, x = torch.rand(5, generator=rng, dtype=D), torch.randn(5, 2, generator=rng, dtype=D)
    found, expected = (e.fields(one.has, t, x) for e in (Mixture([one]), one))
    for name in one.has:
        torch.testing.assert_close(found[name], expected[name])


def test_probes_give_the_divergence_on_average(rng):
    pair = either(moving(-1.0), moving(2.0))
    x = torch.tensor([[0.2, -0.4]], dtype=D).expand(4, 2)
    t = torch.full((4,), 0.7, dtype=D)
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=D)  # all of them
    exact = pair.fields(("velocity_divergence", "score_divergence"), t, x)
    probed = pair.fields(("velocity_divergence", "score_divergence"), t, x, signs)
    for name, value in exact.items():
        torch.testing.assert_close(probed[name].mean(), value[0])


def test_the_tail_has_all_precisions_in_one_shape():
    number, axes = torch.tensor([[2.0]]), torch.tensor([[1.0, 3.0]])
    matrix = torch.tensor([[[2.0, 0.5], [0.5, 1.0]]])
    t = torch.tensor([0.1, 0.9])
    one = Mixture([moving(0.0, tail=flat(number)), moving(1.0, tail=flat(axes))])
    assert one.tail.precisions(t).tolist() == [[[2.0, 2.0], [1.0, 3.0]]] * 2
    one = Mixture([moving(0.0, tail=flat(v)) for v in (number, axes, matrix)])
    found = one.tail.precisions(t)
    assert found.shape == (2, 3, 2, 2)
    assert found[0, 0].tolist() == [[2.0, 0.0], [0.0, 2.0]]
    assert torch.equal(one.tail.linear(t), t)
    assert Mixture([moving(0.0), moving(1.0, tail=flat(number))]).tail is None


def test_the_start_is_known_where_it_is_shared():
    other = FieldExpert(lambda t, x: (0 * x, -x), (2,), "c", log_density=lambda t, x: 0 * t)
    assert either(moving(0.0), moving(1.0)).start is not None
    assert either(moving(0.0), other).start is None


def test_the_support_is_the_union():
    def within(low, high):
        both = lambda t, x: (0 * x, -x)  # noqa: E731
        return FieldExpert(
            both,
            (1,),
            support=lambda x: ((x >= low) & (x <= high)).flatten(1).all(1),
            log_density=lambda t, x: 0 * t,
        )

    pair = either(within(0, 1), within(2, 3))
    assert pair.support(torch.tensor([[0.5], [1.5], [2.5]])).tolist() == [True, False, True]


# -- dynamics ----------------------------------------------------------------------------------


def test_or_splits_particles_as_the_mixture_does(rng):
    """N(±4 t, I) with weights ¼ and ¾, by an ODE with tracked densities: means at t = 1."""
    pair = [moving(-4.0, known=False), moving(4.0, known=False)]
    joined = Superposed(pair, Share((0.25, 0.75)))
    assert joined.tracked
    x = start().sample(4000, rng)
    grid = [k / 40 for k in range(41)]
    run = integrate(RungeKutta(RK4), joined.generator(), joined.state(x, 0.0), grid, rng).state
    share = (run["x"].sum(1) > 0).double()
    assert abs(float(share.mean()) - 0.75) < 5 * 0.433 / 4000**0.5
    torch.testing.assert_close(
        run["log_density"][:, 1], moving(4.0).log_prob(torch.ones(4000, dtype=D), run["x"]),
        atol=1e-3, rtol=0,
    )  # fmt: skip


def test_and_stays_where_both_agree(rng):
    """N(−t, 1) and N(3t, 1) on the line agree at x = t."""
    pair = both_of(moving(-1.0, size=1), moving(3.0, size=1), sigma=0.5, restore=20.0)
    assert not pair.tracked
    x = torch.full((6, 1), 0.2, dtype=D) + 0.01 * torch.randn(6, 1, generator=rng, dtype=D)
    grid = [0.2 + 0.8 * k / 200 for k in range(201)]
    run = integrate(Euler(), pair.generator(), pair.state(x, 0.2), grid, rng).state["x"]
    torch.testing.assert_close(run, torch.ones(6, 1, dtype=D), atol=2e-3, rtol=0)


def test_hutchinson_takes_a_probe_of_the_row(rng):
    pair = Superposed(
        [moving(-1.0), moving(2.0)], Agree(), 0.5, track="ito", divergence="hutchinson"
    )
    x = torch.randn(3, 2, generator=rng, dtype=D)
    state = pair.state(x, 0.3, rng)
    assert set(state["probe"].abs().flatten().tolist()) == {1.0}
    exact = replace(pair, divergence="exact")
    t = torch.full((3,), 0.3, dtype=D)
    found, expected = (
        g.generator()(t, s).velocity for g, s in ((pair, state), (exact, exact.state(x, 0.3)))
    )
    for name in ("x", "log_density"):  # affine fields: every probe of ±1 is exact
        torch.testing.assert_close(found[name], expected[name])


def test_shares_sum_to_one_and_equal_scores_are_no_harm(rng):
    for rule in (Share(temperature=0.5), Agree()):
        one = Superposed([moving(1.0), moving(2.0), moving(-1.0)], rule, 0.3)
        x = torch.randn(4, 2, generator=rng, dtype=D)
        t = torch.zeros(4, dtype=D)  # all scores coincide
        torch.testing.assert_close(one.shares(t, {"x": x}).sum(1), torch.ones(4, dtype=D))
        assert one.generator()(t, {"x": x}).velocity["x"].isfinite().all()


def test_a_single_expert_is_followed(rng):
    one = moving(1.0)
    x, t = torch.randn(4, 2, generator=rng, dtype=D), torch.full((4,), 0.3, dtype=D)
    for rule in (Share(), Agree()):
        parts = Superposed([one], rule, 2.0).generator()(t, {"x": x})
        torch.testing.assert_close(parts.velocity["x"], one.velocity(t, x) + 2 * one.score(t, x))


def test_an_empty_batch_stays_empty():
    for rule in (Share(), Agree()):
        one = Superposed([moving(1.0), moving(2.0)], rule, 0.3, track="ito")
        state = one.state(torch.zeros(0, 2, dtype=D), 0.0)
        parts = one.generator()(0.5, state)
        assert parts.velocity["log_density"].shape == (0, 2)


REFUSALS = {
    "no log_prob": (
        lambda: either(moving(0.0), moving(1.0, "b", known=False)),
        CapabilityError,
        r"got   b, which has no log_prob(.|\n)*Superposed",
    ),
    "nobody": (lambda: either(), DomainError, "one expert or more"),
    "shapes": (lambda: either(moving(0.0), moving(0.0, size=3)), ShapeError, "points of one shape"),
    "weights": (
        lambda: either(moving(0.0), moving(1.0), weights=(1.0, 0.0)),
        DomainError,
        "weights are positive",
    ),
    "count": (
        lambda: either(moving(0.0), moving(1.0), weights=(1.0,)),
        ShapeError,
        "one weight per expert",
    ),
    "count in a rule": (
        lambda: Superposed([moving(0.0)], Share((1.0, 2.0))),
        ShapeError,
        "one weight per expert",
    ),
    "temperature": (lambda: Share(temperature=-1.0), DomainError, "τ ≥ 0"),
    "ridge": (lambda: Agree(ridge=0.0), DomainError, "ridge > 0"),
    "sigma": (lambda: Superposed([moving(0.0)], sigma=-1.0), DomainError, "σ ≥ 0"),
    "track": (
        lambda: Superposed([moving(0.0)], track="always"),
        DomainError,
        "track is auto or ito",
    ),
    "start": (
        lambda: Superposed([replace(moving(0.0, "a", known=False), start=None)]).state(
            torch.zeros(1, 2), 0.0
        ),
        CapabilityError,
        "expert a: a tracked log-density starts from a known one",
    ),
    "probe": (
        lambda: Superposed([moving(0.0)], divergence="hutchinson").state(torch.zeros(1, 2), 0.0),
        CapabilityError,
        "probes are drawn from rng",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name):
    call, error, words = REFUSALS[name]
    with pytest.raises(error, match=words):
        call()
