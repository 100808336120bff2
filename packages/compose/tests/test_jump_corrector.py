"""The jump corrector: uniform weights, what rows keep, substeps, and refusals."""

import math

import pytest
import torch

from genpath import Euclidean, flow
from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.parts import Parts
from genpath.samplers import Carry, integrate
from genpath.spaces import Product
from genpath_compose.jump_corrector import JumpCorrector, jump_rates
from genpath_compose.smc import run_particles

GRID = TimeGrid.uniform(10)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def still(potential):
    """Rows that only die and are born."""

    def parts(t, state):
        return Parts(potential=potential(t, state["x"][:, 0]))

    return MarkovGenerator(Product({"x": Euclidean(1)}), parts, {"potential"})


def start(rows=400):
    x = torch.randn(rows, 1, generator=rng(1), dtype=torch.float64)
    return {"x": x, "number": torch.arange(rows)}


def test_weights_stay_uniform_and_rows_keep_what_is_theirs():
    begun = start()
    gen = still(lambda t, x: torch.sin(3 * x) * 2)
    found = run_particles(gen, begun, GRID, rng(), sampler=JumpCorrector())
    number = found.state["number"]
    assert (found.log_weight == 0).all() and (found.ess == 400).all() and found.resampled == ()
    assert torch.equal(found.ancestors, number) and found.lineages() < 400
    assert torch.equal(found.state["x"], begun["x"][number])


def test_memory_of_the_row_is_copied_too():
    corrector, begun = JumpCorrector(), start(50)
    gen = still(lambda t, x: 9 * torch.sin(3 * x))
    carry = corrector.init(gen, begun)
    carry = Carry(begun, carry.log_weight, {**carry.memory, "tracked": {"l": begun["x"][:, 0]}})
    moved = corrector.step(gen, carry, 0.0, 0.5, rng())
    assert torch.equal(moved.memory["tracked"]["l"], moved.state["x"][:, 0])
    assert not torch.equal(moved.state["x"], begun["x"])


@pytest.mark.parametrize("g", [0.0, 2.5])
def test_a_constant_potential_moves_nobody_and_is_booked(g):
    gen = still(lambda t, x: torch.full_like(x, g))
    found = run_particles(gen, start(), GRID, rng(), sampler=JumpCorrector())
    assert torch.equal(found.state["number"], torch.arange(400))
    assert found.log_normaliser.item() == pytest.approx(g, abs=1e-14)


def test_substeps_approach_the_exact_reweighting():
    """Two states without motion: p(1) = e^g/(e^g + 1), Z = (1 + e^g)/2; errors shrink with h."""
    begun = {"x": torch.tensor([0.0, 1.0]).double().repeat(20_000)[:, None]}
    gen, off = still(lambda t, x: 1.5 * x), []
    for substeps in (1, 4, 16):
        found = run_particles(gen, begun, [0.0, 1.0], rng(), sampler=JumpCorrector(substeps))
        share = float(found.state["x"].mean())
        off.append(abs(share - math.exp(1.5) / (1 + math.exp(1.5))))
        mass = abs(float(found.log_normaliser) - math.log((1 + math.exp(1.5)) / 2))
        assert mass < 0.4 / substeps
    assert off[0] > 2 * off[1] > 2 * off[2] and off[2] < 0.02


def test_a_cap_makes_substeps():
    begun = {"x": torch.tensor([0.0, 1.0]).double().repeat(50)[:, None]}
    gen = still(lambda t, x: 10 * x)  # c⁻ = 5, and 5 · 1/0.5 = 10 substeps
    capped, ten, one = (
        run_particles(gen, begun, [0.0, 1.0], rng(), sampler=sampler).state["x"]
        for sampler in (JumpCorrector(cap=0.5), JumpCorrector(10), JumpCorrector(cap=1e9))
    )
    assert torch.equal(capped, ten) and not torch.equal(one, ten)


def test_weights_of_the_start_are_the_law():
    """Rows at 0 and 1 with weights ¾, ¼: E g and the births are under those."""
    begun = {"x": torch.tensor([0.0, 1.0]).double().repeat(50)[:, None]}
    weight = torch.tensor([0.75, 0.25]).double().log().repeat(50)
    gen = still(lambda t, x: x)
    found = run_particles(gen, begun, [0.0, 0.5], rng(), sampler=JumpCorrector(), log_weight=weight)
    assert torch.equal(found.log_weight, weight)
    booked = 0.5 * 0.25 + math.log(0.5)  # the mean of the first weights is ½
    assert found.log_normaliser.item() == pytest.approx(booked, abs=1e-12)


def test_rates_of_one_point():
    average, deaths, births = jump_rates(torch.tensor([4.0]), torch.tensor([1.0]))
    assert (average, deaths, births) == (4.0, 0.0, 0.0)


def test_refusals():
    with pytest.raises(DomainError, match="there is a substep or more"):
        JumpCorrector(0)
    with pytest.raises(DomainError, match="the cap is positive"):
        JumpCorrector(cap=0.0)
    gen = flow(Euclidean(1), lambda t, x: x)
    with pytest.raises(CapabilityError, match="particles die and are born by a potential"):
        integrate(JumpCorrector(), gen, torch.zeros(2, 1), GRID, rng())
