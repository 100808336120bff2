"""What the plugin promises beyond its claims: rare letters, training, positions, single rows.

What is true of laws, rates, bounds and samplers is in ``genpath_discrete.claims``.
"""

import itertools
import math

import pytest
import torch

from genpath.couplings import Pairs
from genpath.jumps import pick
from genpath.models import Model
from genpath.schedules import linear_keep
from genpath_discrete.jumps import MaskedJumps
from genpath_discrete.laws import Table
from genpath_discrete.networks import Transformer
from genpath_discrete.objectives import MaskedELBO, bound_by_count, masked_nll
from genpath_discrete.paths import MaskedPath, MixturePath
from genpath_discrete.spaces import Categorical

pytestmark = pytest.mark.usefixtures("double")


def test_rare_letters_keep_their_probability(monkeypatch, rng):
    p = torch.tensor([0.5, 1e-8, 0.5 - 1e-8], dtype=torch.float64)
    share = []

    def fixed(shape, *, dtype, **_):
        return torch.full(shape, float(share[-1]), dtype=dtype)

    monkeypatch.setattr(torch, "rand", fixed)
    for dtype in (torch.float32, torch.float64):
        logits = p.log().to(dtype).reshape(1, 1, 3)
        q = logits.double().softmax(-1).flatten()
        share.append(q[0] + 0.5 * q[1])  # the middle of the rare letter's share
        jumps = MaskedJumps(logits, torch.ones(1, 1, dtype=torch.bool), linear_keep(), p[:1])
        assert jumps.targets(rng).item() == 1
    assert pick(p.float().reshape(1, 3), rng).item() != 1  # float32 cannot reach it


def exact_bound(network, law):
    """The bound for every datum, over counts of masks."""
    x, sites = law.states(), law.space.sites
    total = torch.zeros(x.shape[0])
    for flags in itertools.product((False, True), repeat=sites):
        n, masked = sum(flags), torch.tensor(flags).expand_as(x)
        if n == 0:
            continue
        state = torch.where(masked, law.space.letters, x)
        weight = 1 / sites / math.comb(sites, n) * sites / n
        total = total + weight * masked_nll(network(None, state), x, masked)
    return total


def test_a_small_transformer_learns_the_table_down_to_its_entropy(rng):
    """The minimum of the bound is −log p: training on draws of a table must reach its entropy."""
    torch.manual_seed(1)
    law = Table(torch.tensor([[0.45, 0.05], [0.05, 0.45]]))
    path = MaskedPath(law.space)
    network = Transformer(path.space, 16, 1, 2, positions="learned")
    model = Model(network, path, path.base(), "logits")
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        x1 = law.sample(256, rng)
        t = torch.rand(256, generator=rng)
        loss = MaskedELBO("count")(model, Pairs(x1, x1), t, rng).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        bound = law.probabilities.flatten() @ exact_bound(network, law)
    entropy = -law.probabilities.flatten() @ law.log_prob(law.states())
    assert 0 <= float(bound - entropy) < 0.01
    assert 2 * math.log(2) - float(entropy) > 0.3  # what letters that ignore each other would cost


def test_the_angles_of_sites_and_the_waves_of_time_are_geometric():
    """Turns per site fall from 1 towards 1e-4 (Su et al. 2021, arXiv 2104.09864)."""
    from genpath_discrete.networks import _waves

    angles = Transformer(Categorical(4, (6,)), 16, 2, 2).angles.double()
    turn = angles[1]
    assert torch.allclose(angles, torch.outer(torch.arange(6.0).double(), turn), atol=1e-6)
    assert float(turn[0]) == 1.0
    assert float(turn[1]) ** len(turn) == pytest.approx(1e-4)
    assert torch.allclose(turn[1:] / turn[:-1], turn[1].expand(len(turn) - 1))
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    start, rate = torch.func.jvp(lambda t: _waves(t, 12), (zero,), (one,))
    assert start.tolist() == [[0.0] * 6 + [1.0] * 6]
    frequency = rate[0, :6] / (2 * math.pi)
    assert torch.allclose(frequency[[0, -1]], torch.tensor([1.0, 1e3], dtype=torch.float64))
    assert torch.allclose(frequency.log().diff(), (math.log(1e3) / 5 * one).expand(5))
    assert rate[0, 6:].abs().max() == 0


@pytest.mark.parametrize("path", [MaskedPath(Categorical(3, (4,))), MixturePath(Categorical(3))])
def test_a_conditional_generator_of_one_row_is_a_row_of_that_of_many(path):
    rng = torch.Generator().manual_seed(0)
    shape = (5, *path.letters.event_shape)
    x1, x = (torch.randint(0, 3, shape, generator=rng) for _ in range(2))
    x[0] = x1[0]  # arrived: no jump is left
    t = torch.linspace(0.1, 0.9, 5)
    many = path.conditional_generator(x, x1).evaluate(t, x).jumps.intensity()
    assert many.shape == shape and float(many[0].sum()) == 0 < float(many[1:].sum())
    for i in range(5):
        row = slice(i, i + 1)
        one = path.conditional_generator(x[row], x1[row]).evaluate(t[row], x[row])
        assert torch.equal(one.jumps.intensity(), many[row])


def test_the_bound_by_count_tells_the_network_the_share_of_letters_that_it_shows(rng):
    path, seen = MaskedPath(Categorical(3, (8,))), []

    def network(t, x):
        seen.append((t, path.masked(x).double().mean(1)))
        return torch.zeros(*x.shape, 3)

    t = torch.tensor([0.0, 0.3, 0.99])
    model = Model(network, path, path.base(), "logits")
    bound_by_count(model, path, torch.zeros(3, 8, dtype=torch.long), t, rng)
    ((told, masked),) = seen
    assert torch.equal(told.double(), 1 - masked) and masked.tolist() == [1 / 8, 3 / 8, 1.0]


def test_the_initial_weights_keep_the_variance_and_share_it_among_the_branches():
    """A unit input keeps its variance; of the 2 × depth branches each has 1 / (2 depth)."""
    torch.manual_seed(0)
    width, depth, expansion = 64, 3, 4
    network = Transformer(Categorical(4, (6,)), width, depth, 2, expansion=expansion)
    for block in network.blocks:
        for layer, inputs, variance in (
            (block.qkv, width, 1.0),
            (block.up, width, 1.0),
            (block.join, width, 1 / (2 * depth)),
            (block.down, expansion * width, 1 / (2 * depth)),
        ):
            assert layer.in_features == inputs
            share = layer.weight.detach().double() ** 2 * inputs / variance
            error = math.sqrt(2 / share.numel())  # of the mean square of normal numbers
            assert abs(float(share.mean()) - 1) < 4.5 * error < 0.1
    head = network.head.weight.detach().double() * width**0.5 / 0.3  # logits of variance 0.09
    assert abs(float((head**2).mean()) - 1) < 4.5 * math.sqrt(2 / head.numel())


def test_a_block_adds_the_mean_of_values_and_a_perceptron():
    """One site attends to itself alone: the first branch is linear in the normalised input."""
    torch.manual_seed(0)
    width = 8
    block = Transformer(Categorical(4, (1,)), width, 1, 2).blocks[0]
    h = torch.randn(5, 1, width)
    value = block.qkv.weight[2 * width :]
    middle = h + block.before_attention(h) @ (block.join.weight @ value).T
    inner = block.before_mlp(middle) @ block.up.weight.T
    exact = middle + (inner * torch.sigmoid(inner)) @ block.down.weight.T
    assert torch.allclose(block(h, None), exact, atol=1e-12)


def test_the_last_time_masks_every_site(rng):
    path = MaskedPath(Categorical(3, (8,)))
    model = Model(lambda t, x: torch.zeros(*x.shape, 3), path, path.base(), "logits")
    value = bound_by_count(model, path, torch.zeros(1, 8, dtype=torch.long), torch.ones(1), rng)
    assert torch.allclose(value, torch.tensor(8 * math.log(3)))
