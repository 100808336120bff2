"""Particles: what a row keeps, windows, chunks, histories, and refusals."""

import math

import pytest
import torch

from genpath import Euclidean, flow
from genpath.errors import CapabilityError, DomainError, NumericalError, ShapeError
from genpath.generators import MarkovGenerator, product
from genpath.grids import TimeGrid
from genpath.jumps import KernelJumps, RateJumps
from genpath.noises import (
    DiagonalNoise,
    FactorNoise,
    MatrixFreeNoise,
    MatrixNoise,
    ScalarNoise,
    SumNoise,
)
from genpath.parts import Parts
from genpath.samplers import Carry, Euler, integrate
from genpath_compose.populations import OneProcess, Resample, _book
from genpath_compose.resampling import relative
from genpath_compose.smc import (
    Particles,
    TrapezoidEuler,
    chunked,
    log_normaliser_spread,
    run_particles,
    weights_only_in,
)

GRID = TimeGrid.uniform(8)
LINE = Euclidean(1)
WEIGHED = {"diffusion", "potential"}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def heat(factor=1.0):
    """Brownian motion with g = −0.45 x²."""

    def parts(t, x):
        return Parts(diffusion=ScalarNoise(1.0), potential=-0.45 * factor * x[:, 0] ** 2)

    return MarkovGenerator(LINE, parts, WEIGHED)


def start(rows=64, seed=1):
    return math.sqrt(1.5) * torch.randn(rows, 1, generator=rng(seed), dtype=torch.float64)


def same(one, other):
    assert torch.equal(one.state, other.state) and torch.equal(one.log_weight, other.log_weight)
    assert one.log_normaliser == other.log_normaliser and one.resampled == other.resampled
    assert torch.equal(one.ancestors, other.ancestors) and torch.equal(one.ess, other.ess)


class TestRows:
    def test_facts_and_memory_go_with_the_row(self):
        """Each row carries its number in a fact, in the memory and in x."""
        x = torch.arange(6.0)
        carry = Carry(
            {"x": x.clone(), "number": torch.arange(6)},
            torch.tensor([0.0, 3.0, -1.0, 2.0, -math.inf, 3.0]),
            {"tracked": {"l": x.clone()}},
        )
        carry = Resample(when="every")(carry, 0.5, rng())
        numbers = carry.state["number"]
        assert len(set(numbers.tolist())) < 6
        assert torch.equal(carry.state["x"], numbers.float())
        assert torch.equal(carry.memory["tracked"]["l"], numbers.float())
        assert torch.equal(carry.memory["smc.ancestor"], numbers)
        assert torch.equal(carry.log_weight, torch.zeros(6))

    def test_ancestors_lead_to_the_start(self):
        space = product({"x": flow(Euclidean(1), lambda t, x: 0 * x)}).space

        def parts(t, state):
            g = 3 * torch.sin(9 * state["x"][:, 0])
            return Parts(velocity={"x": 0 * state["x"]}, potential=g)

        gen = MarkovGenerator(space, parts, {"velocity", "potential"})
        rule = Resample("multinomial", when="every")
        begun = {"x": start(), "id": torch.arange(64)}
        found = run_particles(gen, begun, GRID, rng(), resample=rule)
        assert torch.equal(found.ancestors, found.state["id"])
        assert torch.equal(found.state["x"], begun["x"][found.ancestors])
        assert found.lineages() == len(set(found.ancestors.tolist())) < 40
        report = found.diversity()
        assert 1 <= report.effective <= report.distinct and 1 / 40 < report.largest < 1

    def test_every_part_of_a_run_is_fixed_by_the_seed(self):
        rule = Resample(threshold=0.9)
        one, other = (run_particles(heat(), start(), GRID, rng(2), resample=rule) for _ in "ab")
        same(one, other)
        assert one.resampled and one.lineages() < 64

    @pytest.mark.parametrize("threshold", [0.3, 0.9])
    def test_a_decision_that_stays_on_the_device_is_the_same(self, threshold):
        """Both outcomes are computed and one is chosen: what an accelerator does."""
        rule = Resample(threshold=threshold)
        for seed in range(5):
            weight = torch.randn(32, generator=rng(seed), dtype=torch.float64)
            carry = Carry(start(32), weight, {"tracked": start(32, 5)})
            eager = rule(carry, 0.5, rng(seed))
            wanted = eager.memory["smc.resampled"][0] > 0
            booked = Carry(carry.state, weight, _book(carry, OneProcess()))
            lazy = rule._drawn(OneProcess(), booked, *relative(weight), wanted, rng(seed))
            assert bool(wanted) == (threshold == 0.9)
            assert torch.equal(lazy.state, eager.state)
            assert torch.equal(lazy.log_weight, eager.log_weight)
            for name in ("tracked", "smc.ancestor", "smc.log_normaliser"):
                assert torch.equal(lazy.memory[name], eager.memory[name])


class TestTimes:
    def test_decisions_are_made_where_they_may_be(self):
        rule = Resample(when="every")
        ran = {
            name: run_particles(heat(), start(), GRID, rng(), resample=r).resampled
            for name, r in {
                "all": rule,
                "window": Resample(when="every", window=(0.25, 0.5)),
                "third": Resample(when="every", every=3),
                "never": Resample(when="never"),
            }.items()
        }
        assert ran["all"] == GRID.times[1:-1]  # the last weights are the answer
        assert ran["window"] == (0.25, 0.375, 0.5)
        assert ran["third"] == (0.375, 0.75)
        assert ran["never"] == ()

    def test_never_is_plain_weighting(self):
        found = run_particles(heat(), start(), GRID, rng(3), resample=Resample(when="never"))
        plain = integrate(Euler(), heat(), start(), GRID, rng(3))
        assert torch.equal(found.state, plain.state)
        assert torch.equal(found.log_weight, plain.log_weight)
        expected = plain.log_weight.exp().mean().log()
        torch.testing.assert_close(found.log_normaliser, expected)
        assert found.times == GRID.times[1:] and found.ess.shape == (8,)
        assert found.ess[-1] == pytest.approx(found.effective)
        assert (found.ess.diff() < 0).all() and found.lineages() == 64

    def test_the_transform_is_one_of_the_loop(self):
        carries = []
        integrate(
            Euler(),
            heat(),
            start(),
            GRID,
            rng(4),
            transforms=(Resample(threshold=0.9),),
            callbacks=(lambda i, t, carry: carries.append(carry),),
        )
        found = run_particles(heat(), start(), GRID, rng(4), resample=Resample(threshold=0.9))
        assert torch.equal(carries[-2].memory["smc.ess"][:1], found.ess[-2:-1])
        assert torch.equal(carries[-2].memory["smc.ancestor"], found.ancestors)

    def test_callbacks_see_the_carry_after_resampling(self):
        seen = []
        rule = Resample(when="every")
        watch = lambda i, t, carry: seen.append((i, t, float(carry.log_weight.abs().max())))  # noqa: E731
        run_particles(heat(), start(), GRID, rng(), resample=rule, callbacks=(watch,))
        assert [(i, t) for i, t, _ in seen] == list(enumerate(GRID.times))[1:]
        assert all(size == 0 for _, _, size in seen[:-1]) and seen[-1][2] > 0

    def test_a_window_of_weights_is_another_generator(self):
        late = weights_only_in(heat(), 0.5, 1.0)
        x = start(3)
        assert (late(0.49, x).potential == 0).all()
        assert torch.equal(late(0.5, x).potential, heat()(0.5, x).potential)
        assert (late(1.0, x).potential == 0).all()
        for words, call in {
            "weights come from a potential": lambda: weights_only_in(
                flow(LINE, lambda t, x: x), 0, 1
            ),
            "tmin < tmax": lambda: weights_only_in(heat(), 0.5, 0.5),
        }.items():
            with pytest.raises((CapabilityError, DomainError), match=words):
                call()


class TestWeights:
    def test_first_log_weights_count(self):
        """Rows from q = N(0, 4) with weights N(0, 1.5)/q: Ẑ estimates what equal weights do."""
        x = 2 * torch.randn(20_000, 1, generator=rng(), dtype=torch.float64)
        first = (-(x**2) / 3 + x**2 / 8)[:, 0] + math.log(2 / math.sqrt(1.5))
        found = run_particles(heat(), x, GRID, rng(7), log_weight=first)
        plain = run_particles(heat(), start(20_000), GRID, rng(8))
        assert found.log_normaliser.exp() == pytest.approx(float(plain.log_normaliser.exp()), 0.03)
        moved = run_particles(heat(), x, GRID, rng(7), log_weight=first + 3)
        assert moved.log_normaliser == pytest.approx(float(found.log_normaliser) + 3)
        assert torch.equal(moved.state, found.state)

    def test_expectations(self):
        weight = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64)
        found = Particles(torch.tensor([[1.0, 0.0], [5.0, 2.0]]), weight)
        value, error = found.expectation(lambda x: x)
        torch.testing.assert_close(value, torch.tensor([4.0, 1.5]).double())
        # √(1/16 · 9 + 9/16 · 1), √(1/16 · 9/4 + 9/16 · 1/4)
        torch.testing.assert_close(error, torch.tensor([18.0, 4.5]).double().sqrt() / 4)
        drawn = found.draw(400, rng())
        assert drawn.shape == (400, 2) and int((drawn[:, 0] == 5).sum()) == 300

    def test_islands(self):
        runs = [run_particles(heat(), start(200, 100 + s), GRID, rng(s)) for s in range(30)]
        spread = log_normaliser_spread(runs)
        assert abs(math.exp(spread.log_normaliser) - 0.57956) < 5 * spread.error
        assert 0.5 < spread.error * math.sqrt(30) / spread.deviation < 2
        with pytest.raises(DomainError, match="two runs or more"):
            log_normaliser_spread(runs[:1])

    def test_float32_rows_have_float64_books(self):
        found = run_particles(heat(), start().float(), GRID, rng(), resample=Resample(threshold=1))
        assert found.state.dtype == found.log_weight.dtype == torch.float32
        assert found.log_normaliser.dtype == found.ess.dtype == torch.float64

    def test_refusals(self):
        with pytest.raises(CapabilityError, match="run_particles: weights come from a potential"):
            run_particles(flow(LINE, lambda t, x: x), start(), GRID, rng())
        with pytest.raises(ShapeError, match=r"one log-weight per row[\s\S]*\(3,\), 64 rows"):
            run_particles(heat(), start(), GRID, rng(), log_weight=torch.zeros(3))
        with pytest.raises(DomainError, match="there is a particle"):
            run_particles(heat(), start(0), GRID, rng())
        with pytest.raises(CapabilityError, match=r"Euler: diffusion, potential run forward"):
            run_particles(heat(), start(), [1.0, 0.0], rng())
        with pytest.raises(NumericalError, match=r"all log-weights are −inf at t = 0\.125"):
            run_particles(heat(math.inf), start(), GRID, rng())
        with pytest.raises(NumericalError, match=r"a log-weight is nan at t = 0\.125"):
            run_particles(heat(math.nan), start(), GRID, rng())
        with pytest.raises(CapabilityError, match="Resample: it resamples by log-weights"):
            integrate(
                Euler(), flow(LINE, lambda t, x: x), start(), GRID, rng(), transforms=(Resample(),)
            )


# -- chunks ----------------------------------------------------------------------------------------


def per_row(x):
    return 1 + 0.1 * x.square().sum(1)


NOISES = {
    "number": lambda x: ScalarNoise(1.3),
    "scalar tensor": lambda x: ScalarNoise(torch.tensor(1.3, dtype=x.dtype)),
    "scalar": lambda x: ScalarNoise(per_row(x), uniform=False),
    "diagonal": lambda x: DiagonalNoise(1 + 0.1 * x**2),
    "matrix": lambda x: MatrixNoise(per_row(x)[:, None, None] * torch.ones(2, 3, dtype=x.dtype)),
    "free": lambda x: MatrixFreeNoise(lambda z: per_row(x)[:, None] * z),
    "sum": lambda x: SumNoise((ScalarNoise(0.3), MatrixFreeNoise(lambda z: x * z))),
    "sum free": lambda x: SumNoise((DiagonalNoise(x), ScalarNoise(per_row(x)))),
}


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("rows", [1, 3, 7, 8])
def test_chunks_change_nothing(name, rows):
    def parts(t, x):
        assert len(x) == len(t) and (len(x) <= rows or rows == 8)
        return Parts(-x * t[:, None], NOISES[name](x), potential=-x.square().sum(1))

    gen = MarkovGenerator(Euclidean(2), parts, {"velocity", "diffusion", "potential"})
    x = torch.randn(7, 2, generator=rng(), dtype=torch.float64)
    rule = Resample(threshold=1.0)

    def run(chunk):
        nonlocal rows
        rows, kept = (rows, rows) if chunk else (8, rows)
        found = run_particles(gen, x, GRID, rng(), resample=rule, chunk=chunk)
        rows = kept
        return found

    same(run(None), run(rows))


def test_chunks_of_products_and_jumps():
    def parts(t, state):
        x, token = state["x"], state["token"]
        noise = FactorNoise({"x": ScalarNoise(per_row(x))})
        rates = torch.ones(len(token), 3, dtype=x.dtype)
        return Parts({"x": -x}, noise, {"token": RateJumps(rates, token)})

    space = product({"x": flow(Euclidean(2), lambda t, x: x)}).space
    gen = MarkovGenerator(space, parts, {"velocity", "diffusion", "jumps"})
    state = {"x": torch.randn(5, 2, generator=rng()), "token": torch.arange(5) % 3}
    one, other = (integrate(Euler(), g, state, GRID, rng()).state for g in (gen, chunked(gen, 2)))
    assert torch.equal(one["x"], other["x"]) and torch.equal(one["token"], other["token"])


def test_chunks_refuse_what_they_cannot_join():
    with pytest.raises(DomainError, match="a chunk has a row or more"):
        chunked(heat(), 0)

    def parts(t, x):
        return Parts(jumps=KernelJumps(torch.ones(len(x)), lambda rng: x))

    gen = chunked(MarkovGenerator(LINE, parts, {"jumps"}), 2)
    with pytest.raises(CapabilityError, match=r"chunked: it joins RateJumps[\s\S]*KernelJumps"):
        gen(0.0, torch.zeros(3, 1))
    sometimes = lambda t, x: Parts(diffusion=ScalarNoise(float(x[0, 0])))  # noqa: E731
    gen = chunked(MarkovGenerator(LINE, sometimes, {"diffusion"}), 1)
    with pytest.raises(CapabilityError, match="it joins one number σ"):
        gen(0.0, torch.tensor([[0.0], [1.0]]))


# -- the trapezoid ---------------------------------------------------------------------------------


def test_the_trapezoid_moves_as_euler_does_and_weighs_twice():
    calls = []

    def parts(t, x):
        calls.append(float(t[0]))
        return Parts(diffusion=ScalarNoise(1.0), potential=t * x[:, 0])

    gen = MarkovGenerator(LINE, parts, WEIGHED)
    found = TrapezoidEuler().step(gen, TrapezoidEuler().init(gen, start()), 0.5, 0.75, rng())
    plain = Euler().step(gen, Euler().init(gen, start()), 0.5, 0.75, rng())
    assert calls == [0.5, 0.75, 0.5] and torch.equal(found.state, plain.state)
    expected = 0.125 * (0.5 * start()[:, 0] + 0.75 * found.state[:, 0])
    torch.testing.assert_close(found.log_weight, expected)
