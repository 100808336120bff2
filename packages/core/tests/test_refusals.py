"""Each error of the core's mathematics, by its words."""

import math
from dataclasses import replace

import pytest
import torch

from genpath.codecs import Dequantise, Standardise
from genpath.couplings import Stored
from genpath.errors import (
    CapabilityError,
    DomainError,
    GenpathError,
    NumericalError,
    ShapeError,
    SingularTimeError,
)
from genpath.generators import MarkovGenerator, Origin, flow
from genpath.grids import TimeGrid
from genpath.jumps import KernelJumps, RateJumps
from genpath.laws import Empirical, Gaussian, ProductLaw, gaussian
from genpath.models import ODE, SDE, Jump, Model
from genpath.noises import MatrixFreeNoise, ScalarNoise
from genpath.objectives import Regression
from genpath.parts import Parts
from genpath.predictions import Prediction, Rule, classifier_free, convert
from genpath.reversal import log_transition, reverse
from genpath.samplers import AdamsBashforth, Euler, RungeKutta, integrate
from genpath.schedules import AffineSchedule, Boundary, KeepSchedule, power_keep
from genpath.spaces import Euclidean, Product, as_smooth
from genpath.states import batch_size, row_times

from .toys import RATES, Letters, chain, seeded

PLANE, X = Euclidean(2), torch.zeros(3, 2)
FLOW = flow(PLANE, lambda t, x: -x)
NOISE = MarkovGenerator(
    PLANE, lambda t, x: Parts(diffusion=ScalarNoise(1.0)), frozenset({"diffusion"})
)
POTENTIAL = MarkovGenerator(PLANE, lambda t, x: Parts(potential=x[:, 0]), frozenset({"potential"}))


def test_an_error_prints_where_rule_got_and_fix():
    error = ShapeError("here", "a rule.", got="this", fix="do that")
    assert str(error) == "here: a rule.\n  got   this\n  fix   do that"
    assert isinstance(error, GenpathError) and isinstance(error, ValueError)
    assert issubclass(SingularTimeError, DomainError) and issubclass(DomainError, ValueError)
    assert issubclass(CapabilityError, TypeError) and issubclass(NumericalError, ArithmeticError)


# -- states and spaces -------------------------------------------------------------------------


def test_states_have_one_number_of_rows():
    for state in ({"x": X, "y": X[:2]}, {"x": torch.tensor(1.0)}, {}):
        with pytest.raises(ShapeError, match="same number of rows"):
            batch_size(state)
    with pytest.raises(ShapeError, match=r"there is one time per row"):
        row_times(torch.zeros(2), X)
    with pytest.raises(ShapeError, match=r"pass t of shape \(3,\), or a scalar"):
        FLOW(torch.zeros(3, 1), X)


def test_spaces_refuse_other_shapes():
    with pytest.raises(ShapeError, match=r"a batch of points has shape \(batch, 2\)"):
        PLANE.contains(torch.zeros(3, 3))
    with pytest.raises(ShapeError, match="letter"):
        Product({"x": PLANE, "letter": Letters(3)}).contains({"x": X})
    with pytest.raises(CapabilityError, match="factors are not products themselves"):
        Product({"x": Product({"y": PLANE})})
    with pytest.raises(CapabilityError, match="needs a smooth space"):
        as_smooth(Letters(3), "somebody")


def test_laws_refuse():
    with pytest.raises(DomainError, match="std is positive"):
        Gaussian((2,), std=0.0)
    with pytest.raises(CapabilityError, match="lives on a Euclidean space"):
        gaussian(Letters(3))
    with pytest.raises(DomainError, match="a law needs at least one row"):
        Empirical(X[:0])
    with pytest.raises(CapabilityError, match="no log-density at b"):
        ProductLaw({"a": Gaussian((2,)), "b": Empirical(X)}).log_prob({"a": X, "b": X})
    with pytest.raises(ShapeError, match="as many x0 as x1"):
        Stored(X, X[:2])


# -- schedules and grids -----------------------------------------------------------------------


def test_a_schedule_is_checked_against_its_boundary():
    with pytest.raises(DomainError, match="beta is 1 at t = 1, as its boundary declares"):
        AffineSchedule(lambda t: 1 - t, lambda t: 0.9 * t, lambda t: 0 * t)
    with pytest.raises(DomainError, match="gamma_squared is 0 at t = 0"):
        AffineSchedule(lambda t: 1 - t, lambda t: t, lambda t: 0 * t + 0.01)
    with pytest.raises(DomainError, match="γ² ≥ 0"):
        AffineSchedule(lambda t: 1 - t, lambda t: t, lambda t: -t * (1 - t))
    truncated = Boundary({"alpha": 1.0}, {"beta": 0.9}, base_variance=1.01)
    declared = AffineSchedule(lambda t: 1 - t, lambda t: 0.9 * t, lambda t: 0 * t, truncated)
    assert not declared.boundary.exact


def test_a_schedule_of_letters_is_checked():
    with pytest.raises(DomainError, match="kappa is 1 at t = 1"):
        KeepSchedule(lambda t: 0.5 * t)
    with pytest.raises(DomainError, match="κ does not decrease"):
        KeepSchedule(lambda t: t + 0.3 * torch.sin(2 * math.pi * t))
    with pytest.raises(DomainError, match="exponent ≥ 1"):
        power_keep(0.5)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ((), "at least two finite times"),
        ((0.0,), "at least two finite times"),
        ((0.0, math.nan), "at least two finite times"),
        ((0.0, math.inf), "at least two finite times"),
        ((0.0, 1.5), "at least two finite times"),
        ((-0.1, 1.0), "at least two finite times"),
        ((0.0, 0.5, 0.5), "consecutive times differ"),
    ],
)
def test_grids_refuse(times, words):
    with pytest.raises(DomainError, match=words):
        TimeGrid(times)
    with pytest.raises(DomainError, match=words):
        integrate(Euler(), FLOW, X, times, seeded())


def test_a_grid_has_a_step():
    with pytest.raises(DomainError, match="at least one step"):
        TimeGrid.uniform(0)


# -- generators and samplers -------------------------------------------------------------------


def test_a_generator_returns_the_parts_that_it_declares():
    with pytest.raises(DomainError, match="the parts of a generator are"):
        MarkovGenerator(PLANE, lambda t, x: Parts(), frozenset({"drift"}))
    liar = MarkovGenerator(PLANE, lambda t, x: Parts(velocity=x), frozenset({"diffusion"}))
    with pytest.raises(CapabilityError, match=r"declared \['diffusion'\], returned \['velocity'\]"):
        liar(0.0, X)


def test_jumps_that_only_draw_cannot_be_listed():
    jumps = KernelJumps(torch.ones(3), lambda rng: X)
    drawn = MarkovGenerator(PLANE, lambda t, x: Parts(jumps=jumps), frozenset({"jumps"}))
    with pytest.raises(CapabilityError, match="this needs all targets with their rates"):
        drawn.apply(lambda x: x[:, 0], 0.0, X)
    with pytest.raises(CapabilityError, match="a space that lists neighbours"):
        drawn.adjoint(lambda x: x[:, 0], 0.0, X)
    with pytest.raises(ShapeError, match="one row of rates per site"):
        RateJumps(torch.ones(3, 2, 4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(CapabilityError, match="drivers name leaves of a Product"):
        MatrixFreeNoise(lambda n: n, drivers=("x",)).draw(PLANE, X, seeded())


@pytest.mark.parametrize("sampler", [RungeKutta(), AdamsBashforth()], ids=["RK", "AB"])
def test_a_sampler_refuses_by_name_what_it_cannot_carry(sampler):
    name = type(sampler).__name__
    for gen, part in ((NOISE, "diffusion"), (POTENTIAL, "potential"), (FLOW + NOISE, "diffusion")):
        with pytest.raises(CapabilityError, match=rf"{name}: it carries velocity only") as caught:
            integrate(sampler, gen, X, TimeGrid.uniform(2), seeded())
        assert f"a generator with {part}" in str(caught.value)


@pytest.mark.parametrize(
    "gen", [NOISE, POTENTIAL, chain(RATES)], ids=["noise", "potential", "jumps"]
)
def test_what_runs_forward_only_is_not_run_back(gen):
    state = torch.zeros(3, dtype=torch.long) if "jumps" in gen.has else X
    with pytest.raises(CapabilityError, match="run forward in time only"):
        integrate(Euler(), gen, state, TimeGrid.uniform(3, 1.0, 0.0), seeded())
    with pytest.raises(CapabilityError, match="run forward in time only"):
        integrate(Euler(), gen, state, (0.0, 0.5, 0.4, 1.0), seeded())


def test_reversal_says_what_it_lacks():
    with pytest.raises(CapabilityError, match="a weighted law is not the law of a Markov process"):
        reverse(POTENTIAL)
    with pytest.raises(CapabilityError, match="pass log_density"):
        reverse(chain(RATES))
    with pytest.raises(CapabilityError, match="a diffusion needs a score"):
        reverse(NOISE)
    with pytest.raises(CapabilityError, match="one-step laws are known for"):
        log_transition(FLOW, 0.0, 0.1, X, X)


# -- predictions, models, objectives -----------------------------------------------------------


class Bare:
    """A path with one prediction and no rules."""

    space, rules = PLANE, ()
    predictions = {"noise": Prediction("noise", (2,), False, "E[z]")}  # noqa: RUF012


def test_conversions_say_what_can_be_reached():
    rule = Rule("b", ("a",), lambda t, x, a: a)
    with pytest.raises(CapabilityError, match="no rule leads to 'c' from 'a'") as caught:
        convert((rule,), {"a": X}, "c", torch.zeros(3), X)
    assert "reachable: b" in str(caught.value)


def test_models_refuse():
    with pytest.raises(CapabilityError, match="Bare has no prediction 'velocity'") as caught:
        Model(lambda t, x: x, Bare(), Gaussian((2,)))
    assert "choose one of noise" in str(caught.value)
    model = Model(lambda t, x: x, Bare(), Gaussian((2,)), "noise")
    for dynamics in (ODE(), SDE(1.0)):
        with pytest.raises(CapabilityError, match="no rule leads to 'velocity' from 'noise'"):
            model.generator(dynamics)
    with pytest.raises(CapabilityError, match="the path gives a jump part from logits"):
        model.generator(Jump())
    with pytest.raises(DomainError, match="ε ≥ 0"):
        SDE(-0.1)
    with pytest.raises(CapabilityError, match="divergence is one of squared, poisson"):
        Regression("cubed")


def test_guidance_needs_its_label():
    guided = classifier_free(1.0, null_label=0)(lambda t, s: s["x"])
    for state in (X, {"x": X}):
        with pytest.raises(
            CapabilityError, match="the state carries the condition as its fact 'label'"
        ):
            guided(torch.zeros(3), state)


def test_codecs_refuse():
    with pytest.raises(DomainError, match="every std is positive"):
        Standardise(torch.zeros(2), torch.tensor([1.0, 0.0]))
    with pytest.raises(DomainError, match="levels ≥ 2 and scale > 0"):
        Dequantise(1)
    with pytest.raises(DomainError, match="levels ≥ 2 and scale > 0"):
        Dequantise(4, scale=0.0)
    for codec in (Dequantise(4), Standardise(torch.zeros(2), torch.ones(2))):
        with pytest.raises(CapabilityError, match=r"it acts on points of R\^d"):
            codec.space(Letters(3))


def test_a_sampler_that_needs_the_prediction_refuses_a_generator_without(rng):
    """A model's generator has an origin; its multiples and sums, another process, have none."""
    needy = replace(Euler(), needs_origin=True)
    origin = Origin(path=None, prediction="velocity", field=lambda t, x: x)
    gen, x = flow(Euclidean(1), lambda t, x: x, origin), torch.ones(2, 1)
    grid = TimeGrid.uniform(2)
    assert integrate(needy, gen, x, grid, rng).state.shape == (2, 1)
    for other in (2.0 * gen, gen * (lambda t: t), gen + gen, flow(Euclidean(1), lambda t, x: x)):
        with pytest.raises(CapabilityError, match="that the generator was made from"):
            integrate(needy, other, x, grid, rng)
