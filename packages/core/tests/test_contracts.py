"""What everything in the core owes: batches, seeds, facts of a row, small helpers. A table."""

import math
from types import SimpleNamespace

import pytest
import torch

from genpath.codecs import Codec, Dequantise, Identity
from genpath.couplings import Coupling, Pairs, Stored
from genpath.generators import MarkovGenerator, flow, product
from genpath.grids import TimeGrid
from genpath.jumps import RateJumps, pick
from genpath.laws import DensityLaw, Empirical, Gaussian, Law, ProductLaw
from genpath.models import Model
from genpath.networks import TimeFeatures
from genpath.noises import DiagonalNoise, MatrixFreeNoise, MatrixNoise, ScalarNoise
from genpath.objectives import DIVERGENCES, Regression, stratified_times
from genpath.parts import Parts
from genpath.paths import Draw
from genpath.predictions import Prediction
from genpath.samplers import AdamsBashforth, Carry, Euler, RungeKutta, Sampler, integrate
from genpath.schedules import Schedule, linear_keep
from genpath.spaces import Euclidean, FiniteSpace, Product, SmoothSpace, Space, is_smooth
from genpath.states import (
    axpy,
    batch_size,
    chunks,
    concatenate,
    flat_event,
    gather,
    repeat,
    row_times,
)
from genpath.tableaus import RK4
from genpath.transforms import Clamp, Project

from .toys import BOUND, DOUBLE, RATES, Letters, chain, seeded, z_score

PLANE = Euclidean(2)

# -- states ------------------------------------------------------------------------------------

STATE = {"x": torch.arange(10.0).reshape(5, 2), "label": torch.arange(5)}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_gathering_moves_every_leaf_together():
    index = torch.tensor([3, 3, 0])
    found = gather(STATE, index)
    assert torch.equal(found["x"][:, 0], 2.0 * found["label"])
    assert found["label"].tolist() == [3, 3, 0]


def test_chunks_and_concatenate_are_inverse():
    for rows in (1, 2, 5, 9):
        pieces = list(chunks(STATE, rows))
        assert max(map(batch_size, pieces)) <= rows
        assert same(concatenate(pieces), STATE)
    empty = gather(STATE, torch.zeros(0, dtype=torch.long))
    (piece,) = chunks(empty, 3)
    assert batch_size(piece) == 0 and same(piece, empty)


def test_repeat_lays_whole_batches_one_after_another():
    assert repeat(STATE, 2)["label"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


def test_a_step_moves_the_leaves_of_its_tangent_only():
    scale = torch.arange(5.0)
    moved = axpy(STATE, {"x": torch.ones(5, 2)}, scale)
    assert torch.equal(moved["x"], STATE["x"] + scale[:, None])
    assert torch.equal(moved["label"], STATE["label"])


def test_a_time_becomes_one_per_row_in_the_dtype_of_the_state():
    for t in (0.3, torch.tensor(0.3), torch.full((5,), 0.3)):
        assert row_times(t, STATE).shape == (5,)
    assert row_times(0.3, {"x": torch.zeros(2, dtype=DOUBLE)}).dtype == DOUBLE


# -- protocols ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "protocol"),
    [
        (PLANE, SmoothSpace),
        (Product({"x": PLANE}), SmoothSpace),
        (Letters(3), FiniteSpace),
        (Letters(3), Space),
        (Gaussian((2,)), DensityLaw),
        (ProductLaw({"x": Gaussian((2,))}), DensityLaw),
        (Empirical(STATE), Law),
        (linear_keep(), Schedule),
        (Euler(), Sampler),
        (RungeKutta(), Sampler),
        (AdamsBashforth(), Sampler),
        (Stored(STATE, STATE), Coupling),
        (Identity(), Codec),
        (Dequantise(4), Codec),
    ],
    ids=lambda thing: getattr(thing, "__name__", type(thing).__name__),
)
def test_it_is_what_it_says(thing, protocol):
    assert isinstance(thing, protocol)


def test_whether_a_space_is_smooth_is_remembered_by_class_and_right():
    class Plane(Euclidean):
        pass

    bare = SimpleNamespace(**{name: None for name in dir(SmoothSpace) if name[0] != "_"})
    for space in (PLANE, Plane(2), Product({"x": PLANE}), Letters(3), bare, SimpleNamespace()):
        for _ in range(2):
            assert is_smooth(space) == isinstance(space, SmoothSpace)


def test_letters_have_no_tangents_and_laws_without_density_say_so():
    assert not isinstance(Letters(3), SmoothSpace)
    assert not isinstance(PLANE, FiniteSpace)
    assert not isinstance(Empirical(STATE), DensityLaw)


# -- samplers ----------------------------------------------------------------------------------

FLOW = flow(PLANE, lambda t, x: -x)
NOISY = MarkovGenerator(
    PLANE, lambda t, x: Parts(-x, ScalarNoise(0.5)), frozenset({"velocity", "diffusion"})
)
MATRIX = MarkovGenerator(
    PLANE,
    lambda t, x: Parts(diffusion=MatrixNoise(torch.ones(2, 3).expand(len(x), 2, 3))),
    frozenset({"diffusion"}),
)
SOLVES = {
    "Euler on a flow": (Euler(), FLOW, torch.ones(6, 2)),
    "Runge–Kutta": (RungeKutta(RK4), FLOW, torch.ones(6, 2)),
    "Adams–Bashforth": (AdamsBashforth(), FLOW, torch.ones(6, 2)),
    "Euler on a diffusion": (Euler(), NOISY, torch.ones(6, 2)),
    "Euler on a matrix noise": (Euler(), MATRIX, torch.ones(6, 2)),
    "Euler on jumps": (Euler(), chain(RATES, (2,)), torch.zeros(6, 2, dtype=torch.long)),
    "Euler on a product": (
        Euler(),
        product({"x": NOISY, "letter": chain(RATES)}),
        {
            "x": torch.ones(6, 2),
            "letter": torch.zeros(6, dtype=torch.long),
            "row": torch.arange(6),
        },
    ),
}
each_solve = pytest.mark.parametrize(("sampler", "gen", "start"), SOLVES.values(), ids=SOLVES)
GRID = TimeGrid.uniform(5)


def as_dict(state):
    return state if isinstance(state, dict) else {"x": state}


@each_solve
def test_the_same_seed_makes_the_same_numbers(sampler, gen, start):
    ends = [as_dict(integrate(sampler, gen, start, GRID, seeded(s)).state) for s in (1, 1, 2)]
    assert same(ends[0], ends[1])
    random = gen.has & {"diffusion", "jumps"}
    assert same(ends[0], ends[2]) == (not random)


@each_solve
def test_an_empty_batch_stays_empty(sampler, gen, start):
    empty = gather(start, torch.zeros(0, dtype=torch.long))
    end = integrate(sampler, gen, empty, GRID, seeded())
    assert batch_size(end.state) == 0
    for name, leaf in as_dict(end.state).items():
        assert leaf.shape[1:] == as_dict(start)[name].shape[1:]


@each_solve
def test_shapes_dtypes_and_facts_stay(sampler, gen, start):
    end = as_dict(integrate(sampler, gen, start, GRID, seeded()).state)
    for name, leaf in as_dict(start).items():
        assert end[name].shape == leaf.shape and end[name].dtype == leaf.dtype
    if "row" in end:
        assert torch.equal(end["row"], torch.arange(6))


@each_solve
def test_records_callbacks_and_transforms_see_every_step(sampler, gen, start):
    seen, changed = [], []

    def transform(carry, t, rng):
        changed.append(t)
        return carry

    found = integrate(
        sampler, gen, start, GRID, seeded(), record=True, transforms=[transform],
        callbacks=[lambda index, t, carry: seen.append((index, t))],
    )  # fmt: skip
    assert found.times == GRID.times and len(found.trajectory) == 6
    assert seen == list(enumerate(GRID.times))[1:] and changed == list(GRID.times[1:])
    assert same(as_dict(found.trajectory[-1]), as_dict(found.state))
    some = integrate(sampler, gen, start, GRID, seeded(), record=[0, 3])
    assert some.times == (0.0, GRID.times[3])
    assert same(as_dict(some.trajectory[1]), as_dict(found.trajectory[3]))


# -- jumps -------------------------------------------------------------------------------------


def test_picking_follows_the_weights_and_skips_zeros(rng):
    weights = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.0], dtype=DOUBLE).expand(20_000, 5)
    found = pick(weights, rng)
    assert set(found.unique().tolist()) == {1, 3}
    assert abs(z_score((found == 3).double() - 0.25)) < BOUND
    assert abs(z_score((found == 3).double() - 0.3)) > BOUND


# -- objectives --------------------------------------------------------------------------------


class Constant:
    """A path that draws x1 itself: enough to see what a regression computes."""

    rules = ()

    def __init__(self, space, shape, tangent=False):
        self.space = space
        self.predictions = {"value": Prediction("value", shape, tangent, "x1")}

    def draw(self, t, x0, x1, rng):
        return Draw(t, x1, x0, x1)

    def target(self, name, draw):
        return draw.x1


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize("tangent", [True, False])
def test_a_squared_loss_sums_half_the_squares_of_a_row(shape, tangent, rng):
    path = Constant(Euclidean(*shape), shape, tangent)
    x1 = torch.randn(4, *shape, generator=rng)
    model = Model(lambda t, x: x - 2.0, path, Gaussian(shape), "value")
    found = Regression()(model, Pairs(x1, x1), torch.zeros(4), rng)
    size = x1[0].numel()
    assert torch.allclose(found, torch.full((4,), 2.0 * size))
    empty = Regression()(model, Pairs(x1[:0], x1[:0]), torch.zeros(0), rng)
    assert empty.shape == (0,)


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("name", ["poisson", "cross_entropy"])
def test_a_bregman_loss_is_least_at_the_mean(name, shape, rng):
    """By gradient: at the mean of the targets the mean loss is stationary, and not elsewhere."""
    n, letters = 2000, 4
    model = Model(lambda t, x: x, Constant(Euclidean(*shape), shape), Gaussian(shape), "value")
    if name == "poisson":
        target = torch.rand(n, *shape, generator=rng, dtype=DOUBLE) * 3
        best = target.mean(0).log()
    else:
        target = torch.randint(letters, (n, *shape), generator=rng)
        best = torch.nn.functional.one_hot(target, letters).double().mean(0).log()

    def slope(prediction):
        def mean(p):
            whole = p.expand(n, *p.shape)
            values = DIVERGENCES[name](model, target, target, whole)
            assert values.shape == (n,)
            return values.mean()

        return torch.func.grad(mean)(prediction).abs().max()

    assert slope(best) < 1e-12
    shift = torch.linspace(0.1, 0.5, best.shape[-1] if best.dim() else 1, dtype=DOUBLE)
    assert slope(best + shift.reshape(shift.shape if best.dim() else ())) > 1e-3


def test_stratified_times_fill_every_cell_and_stay_inside(rng):
    t = stratified_times(100, rng)
    assert (t.sort().values * 100).floor().tolist() == list(range(100))
    free = stratified_times(100, rng, stratified=False)
    assert (free.sort().values * 100).floor().tolist() != list(range(100))
    for values in (t, free, stratified_times(0, rng)):
        assert ((values > 0) & (values < 1)).all()


def test_the_event_of_a_row_is_flattened_for_sums():
    for shape, size in (((4,), 1), ((4, 2), 2), ((4, 2, 3), 6), ((0, 2), 2)):
        assert flat_event(torch.zeros(shape)).shape == (shape[0], size)


class TestTransforms:
    def test_they_move_what_moves_and_keep_facts(self, rng):
        state = {"x": torch.tensor([[3.0], [0.5]]), "label": torch.tensor([7, 8])}
        carry = Carry(state, torch.tensor([0.1, 0.2]))
        found = Clamp(-1.0, 1.0)(carry, 0.5, rng)
        assert found.state["x"].tolist() == [[1.0], [0.5]]
        assert found.state["label"] is state["label"] and found.log_weight is carry.log_weight

    def test_a_solve_applies_them_after_every_step(self, rng):
        gen, x = flow(Euclidean(1), lambda t, x: torch.ones_like(x)), torch.zeros(4, 1)
        free = integrate(Euler(), gen, x, TimeGrid.uniform(10), rng).state
        held = integrate(
            Euler(), gen, x, TimeGrid.uniform(10), rng, transforms=[Clamp(-0.25, 0.25)], record=True
        )
        assert torch.allclose(free, torch.ones(4, 1))
        assert all(float(state.max()) <= 0.25 for state in held.trajectory)
        assert float(held.trajectory[2].max()) == pytest.approx(0.2)

    def test_project_returns_to_the_space(self, rng):
        class Ring(Euclidean):
            def project(self, x):
                return x / x.norm(dim=1, keepdim=True)

        found = Project(Ring(2))(Carry(torch.tensor([[3.0, 4.0]])), 0.5, rng)
        assert torch.allclose(found.state, torch.tensor([[0.6, 0.8]]))


def test_every_top_level_name_is_there():
    import genpath

    assert all(getattr(genpath, name) is not None for name in genpath.__all__)
    assert set(genpath.__all__) <= set(dir(genpath))


@pytest.mark.parametrize(("rows", "sites"), [(0, (2,)), (0, ()), (3, (2,)), (3, ())])
def test_all_changes_of_letters_one_site_at_a_time(rows, sites):
    x = torch.zeros(rows, *sites, dtype=torch.long)
    targets, rates = RateJumps(torch.ones(rows, *sites, 4), x).atoms(x)
    count = 4 * math.prod(sites)
    assert targets.shape == (count, rows, *sites) and rates.shape == (count, rows)
    changed = (targets != x).flatten(2).sum(2) if sites else (targets != x).long()
    assert bool((changed <= 1).all())
    assert changed.sum() == 3 * math.prod(sites) * rows  # all but the letter that is there


@pytest.mark.parametrize(
    "factor", [0.5, torch.tensor([2.0, 0.25], dtype=DOUBLE)], ids=["number", "row"]
)
def test_a_scaled_noise_is_the_factor_times_the_noise(factor, rng):
    """By linearity: σ(cξ) = c σ(ξ), whatever way the map is given."""
    z = torch.randn(2, 3, generator=rng, dtype=DOUBLE)
    matrix = torch.randn(2, 3, 3, generator=rng, dtype=DOUBLE)
    rows = torch.as_tensor(factor, dtype=DOUBLE).expand(2)[:, None]
    for noise in (
        ScalarNoise(torch.tensor([1.5, 0.5], dtype=DOUBLE)),
        DiagonalNoise(torch.randn(2, 3, generator=rng, dtype=DOUBLE)),
        MatrixNoise(matrix),
        MatrixFreeNoise(lambda xi: torch.einsum("bij,bj->bi", matrix, xi)),
    ):
        assert torch.allclose(noise.scaled(factor)(z), noise(rows * z))
        assert not torch.allclose(noise.scaled(factor)(z), noise(-rows * z))


@pytest.mark.parametrize(("count", "fastest"), [(4, 2**1.5), (15, 2.0**7), (40, 2.0**7)])
def test_times_are_told_by_waves_half_an_octave_apart(count, fastest):
    """From half a turn per unit of time to 64 turns at most."""
    features = TimeFeatures(count, 8)
    features.layers = torch.nn.Identity()
    t = torch.tensor([0.0, 0.3, 1.0])
    found = features(t)
    assert torch.equal(found[:, 0], t)
    pace = torch.logspace(0, math.log2(fastest), count, base=2.0, dtype=DOUBLE)
    turn = torch.polar(torch.ones(3, count, dtype=DOUBLE), math.pi * t.double()[:, None] * pace)
    waves = torch.complex(found[:, count + 1 :], found[:, 1 : count + 1])
    assert torch.allclose(waves, turn.to(waves.dtype), atol=1e-3)
