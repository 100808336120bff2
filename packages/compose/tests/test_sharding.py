"""Sharded particles: two processes give what one gives."""

import math
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from genpath import Euclidean
from genpath.errors import CapabilityError, ShapeError
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.samplers import Carry
from genpath.spaces import Product
from genpath_compose.jump_corrector import JumpCorrector
from genpath_compose.populations import Resample
from genpath_compose.resampling import SCHEMES
from genpath_compose.sharding import ShardedResample, Shards, gather_particles
from genpath_compose.smc import run_particles

WORLD, ROWS = 2, 6
GRID = TimeGrid.uniform(5)
NAMES = list(SCHEMES)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def begun():
    """All rows: x, a fact, a memory and uneven weights."""
    total = WORLD * ROWS
    x = torch.randn(total, 2, generator=rng(1), dtype=torch.float64)
    weight = 2 * torch.randn(total, generator=rng(2), dtype=torch.float64)
    weight[3] = -math.inf
    memory = {"tracked": {"l": x[:, 0].clone()}}
    return Carry({"x": x, "number": torch.arange(total)}, weight, memory)


def part(value, rank):
    if isinstance(value, dict):
        return {name: part(leaf, rank) for name, leaf in value.items()}
    return value[rank * ROWS : (rank + 1) * ROWS].clone()


def flow():
    """Deterministic motion, so that all randomness is in resampling."""

    def parts(t, state):
        x = state["x"]
        return Parts({"x": -x}, potential=3 * torch.sin(4 * x[:, 0]))

    return MarkovGenerator(Product({"x": Euclidean(2)}), parts, {"velocity", "potential"})


def heat():
    def parts(t, x):
        return Parts(diffusion=ScalarNoise(1.0), potential=-0.45 * x[:, 0] ** 2)

    return MarkovGenerator(Euclidean(1), parts, {"diffusion", "potential"})


def refused(call):
    try:
        call()
    except (CapabilityError, ShapeError) as error:
        return str(error)
    return "nothing was refused"


def work(rank, folder):
    """What each process does; results go to files."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    whole, results = begun(), {}
    for name in NAMES:
        carry = Carry(*(part(v, rank) for v in (whole.state, whole.log_weight, whole.memory)))
        own = rng(7 if rank == 0 else 1000 + rank)  # only that of rank 0 decides
        done = ShardedResample(Resample(name, threshold=1.0))(carry, 0.5, own)
        results[name] = (done.state, done.log_weight, dict(done.memory))
        rule = Resample(name, threshold=0.8)
        own = rng(9 if rank == 0 else 1000 + rank)
        ran = run_particles(
            flow(), part(whole.state, rank), GRID, own, resample=rule, group=dist.group.WORLD
        )
        results[f"run {name}"] = gather_particles(ran)
    masses = []
    for run in range(120):
        own = rng(10_000 * (rank + 1) + run)
        start = math.sqrt(1.5) * torch.randn(16, 1, generator=own, dtype=torch.float64)
        rule = Resample(when="every")
        found = run_particles(heat(), start, GRID, own, resample=rule, group=dist.group.WORLD)
        masses.append(found.log_normaliser.exp())
    results["masses"] = torch.stack(masses)
    x = torch.zeros(2, 1)
    results["corrector"] = refused(
        lambda: run_particles(
            heat(), x, GRID, rng(), sampler=JumpCorrector(), group=dist.group.WORLD
        )
    )
    results["rows"] = refused(lambda: Shards().gathered(torch.zeros(3 + rank)))
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("sharded")
    run = [sys.executable, __file__]
    started = [subprocess.Popen([*run, str(rank), str(folder)]) for rank in range(WORLD)]
    assert [one.wait(timeout=120) for one in started] == [0] * WORLD
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


@pytest.mark.parametrize("name", NAMES)
def test_a_decision_is_that_of_one_process(sharded, name):
    one = Resample(name, threshold=1.0)(begun(), 0.5, rng(7))
    assert one.memory["smc.resampled"][0] == 1
    for rank, found in enumerate(sharded):
        state, weight, memory = found[name]
        for leaf in ("x", "number"):
            assert torch.equal(state[leaf], part(one.state[leaf], rank))
        assert torch.equal(weight, torch.zeros(ROWS, dtype=torch.float64))
        assert torch.equal(memory["tracked"]["l"], part(one.memory["tracked"]["l"], rank))
        for key in ("smc.ancestor", "smc.ess", "smc.log_normaliser", "smc.resampled"):
            assert torch.equal(memory[key], part(one.memory[key], rank)), key


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_that_of_one_process(sharded, name):
    rule = Resample(name, threshold=0.8)
    one = run_particles(flow(), begun().state, GRID, rng(9), resample=rule)
    assert one.resampled
    for found in sharded:
        ran = found[f"run {name}"]
        assert ran.resampled == one.resampled
        for leaf in ("x", "number"):
            assert torch.equal(ran.state[leaf], one.state[leaf])
        for key in ("log_weight", "log_normaliser", "ess", "ancestors"):
            torch.testing.assert_close(getattr(ran, key), getattr(one, key), rtol=1e-14, atol=1e-14)
        assert torch.equal(ran.ancestors, ran.state["number"])


def test_the_normaliser_is_global_and_unbiased(sharded):
    """Against the exact mass of Euler's steps: P ← P + κ h, then P/(1 + h P)."""
    h, precision, log_mass = 1 / 5, 1 / 1.5, 0.5 * math.log(1 / 1.5)
    for _ in range(5):
        precision += 0.9 * h
        log_mass -= 0.5 * math.log(1 + h * precision)
        precision /= 1 + h * precision
    right = math.exp(log_mass) / math.sqrt(precision)
    one, other = (found["masses"] for found in sharded)
    assert torch.equal(one, other)
    assert abs(float(one.mean()) - right) < 5 * float(one.std()) / math.sqrt(len(one))


def test_refusals(sharded):
    for found in sharded:
        assert "JumpCorrector compares all particles within a step" in found["corrector"]
        assert "each process holds the same number of rows" in found["rows"]
    with pytest.raises(CapabilityError, match="processes that know each other"):
        Shards()


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
