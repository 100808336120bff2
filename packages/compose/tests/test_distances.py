"""Distances of clouds: closed forms, weights, the floor, and refusals by their words."""

import math
import sys

import pytest
import torch

from genpath import Gaussian
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath_compose.distances import (
    energy_distance,
    floor,
    median_distance,
    mmd,
    total_variation,
    wasserstein1,
    wasserstein2,
)

ALL = (wasserstein1, wasserstein2, mmd, energy_distance)


def draws(seed, *shape):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def test_transport_on_the_line_pairs_sorted_points():
    x, y = draws(0, 50, 1), 2 * draws(1, 50, 1) + 1
    gap = (x.sort(0).values - y.sort(0).values).abs()
    assert wasserstein1(x, y) == pytest.approx(float(gap.mean()), rel=1e-12)
    assert wasserstein2(x, y) == pytest.approx(float(gap.square().mean().sqrt()), rel=1e-12)


def test_transport_agrees_with_an_assignment_solver():
    assign = pytest.importorskip("scipy.optimize").linear_sum_assignment
    x, y = draws(2, 80, 3), draws(3, 80, 3) + 0.5
    cost = (x[:, None] - y).norm(dim=2)
    for order, found in ((1, wasserstein1(x, y)), (2, wasserstein2(x, y) ** 2)):
        power = cost**order
        rows, columns = assign(power.numpy())
        assert found == pytest.approx(float(power[rows, columns].mean()), rel=1e-12)


def test_a_translation_is_a_distance_of_its_length():
    x, shift = draws(4, 60, 2), torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert wasserstein1(x, x + shift) == pytest.approx(5.0)
    assert wasserstein2(x, x + shift) == pytest.approx(5.0)


@pytest.mark.parametrize("distance", [wasserstein1, wasserstein2])
def test_a_weight_is_a_repetition_for_transport(distance):
    x, y = draws(5, 6, 2), draws(6, 5, 2)
    counts = torch.tensor([1, 2, 0, 3, 1, 1])
    assert distance(x, y, counts) == pytest.approx(distance(x.repeat_interleave(counts, 0), y))
    assert distance(y, x, None, counts) == pytest.approx(distance(x, y, counts))


def u_statistic(function, x, weights):
    """Σ_{i≠j} w_i w_j h_ij/(1 − Σ w²), by loops."""
    total = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                total += float(weights[i] * weights[j] * function(x[i], x[j]))
    return total / (1 - float((weights**2).sum()))


@pytest.mark.parametrize("weighted", [False, True])
def test_pairwise_distances_against_loops(weighted):
    x, y = draws(7, 7, 2), draws(8, 5, 2) + 0.3
    p = draws(9, 7).exp() if weighted else torch.ones(7, dtype=torch.float64)
    q = draws(10, 5).exp() if weighted else torch.ones(5, dtype=torch.float64)
    given = (p, q) if weighted else (None, None)
    p, q = p / p.sum(), q / q.sum()

    def kernel(a, b):
        return sum(math.exp(-float((a - b).square().sum()) / (2 * h * h)) for h in (0.5, 2.0)) / 2

    def gap(a, b):
        return float((a - b).norm())

    for function, sign, found in (
        (kernel, 1, mmd(x, y, *given, bandwidths=[0.5, 2.0], chunk=3)),
        (gap, -1, energy_distance(x, y, *given, chunk=2)),
    ):
        cross = sum(float(p[i] * q[j]) * function(x[i], y[j]) for i in range(7) for j in range(5))
        within = u_statistic(function, x, p) + u_statistic(function, y, q)
        assert found == pytest.approx(sign * (within - 2 * cross), rel=1e-10)


def test_unbiased_distances_have_mean_zero_between_draws_of_one_law():
    rng, law = torch.Generator().manual_seed(11), Gaussian((2,), dtype=torch.float64)
    for distance in (energy_distance, lambda x, y: mmd(x, y, bandwidths=[1.0])):
        found = floor(law.sample, distance, 60, rng, repeats=200, other=40)
        error = float(found.std()) / math.sqrt(len(found))
        assert abs(float(found.mean())) < 5 * error


def test_energy_distance_of_two_normal_laws():
    """On the line: E|N(m, 2)| − E|N(0, 2)|, twice; 5 standard errors of 20 repeats."""
    law, rng = Gaussian((1,), dtype=torch.float64), torch.Generator().manual_seed(12)
    found = floor(law.sample, lambda x, y: energy_distance(x, y + 1.0), 400, rng, repeats=20)
    mean = 2 / math.sqrt(math.pi) * math.exp(-0.25) + math.erf(0.5)  # E|N(1, 2)|
    exact = 2 * mean - 2 * 2 / math.sqrt(math.pi)
    assert abs(float(found.mean()) - exact) < 5 * float(found.std()) / math.sqrt(20)
    assert exact > 0.1


def test_events_of_any_shape_and_float32():
    x, y = draws(13, 8, 2, 3), draws(14, 9, 2, 3)
    for distance in ALL:
        flat = distance(x.flatten(1), y.flatten(1))
        assert distance(x, y) == flat
        assert distance(x.float(), y.float()) == pytest.approx(flat, rel=1e-5, abs=1e-6)


def test_the_usual_bandwidth_is_the_median():
    x, y = draws(15, 30, 2), draws(16, 30, 2)
    assert mmd(x, y) == mmd(x, y, bandwidths=[median_distance(x, y)])


class TestTotalVariation:
    edges = (torch.linspace(0, 1, 3), torch.linspace(0, 2, 5))

    def test_a_cloud_against_itself_and_against_one_elsewhere(self):
        x = torch.rand(40, 2, generator=torch.Generator().manual_seed(0))
        assert total_variation(x, x, self.edges) == 0
        assert total_variation(x, x + 10, self.edges) == pytest.approx(1.0)

    def test_points_outside_are_one_cell(self):
        x, y = torch.full((3, 2), -5.0), torch.full((2, 2), 9.0)
        assert total_variation(x, y, self.edges) == 0

    def test_weights_and_exact_probabilities(self):
        x, w = torch.tensor([[0.1, 0.1], [0.9, 1.9]]), torch.tensor([1.0, 3.0])
        cells = torch.zeros(2, 4)
        cells[0, 0], cells[1, 3] = 0.25, 0.75
        assert total_variation(x, None, self.edges, w, reference=cells) == 0
        cells[1, 3] = 0.5  # a quarter of the law is outside
        found = total_variation(x, None, self.edges, w, reference=cells)
        assert found == pytest.approx(0.25)

    def test_refusals(self):
        x = torch.zeros(2, 2)
        with pytest.raises(ShapeError, match="edges for each axis"):
            total_variation(x, x, self.edges[:1])
        with pytest.raises(DomainError, match="edges increase"):
            total_variation(x, x, (torch.tensor([1.0, 0.0]), self.edges[1]))
        with pytest.raises(ShapeError, match="one probability per cell"):
            total_variation(x, None, self.edges, reference=torch.zeros(2, 2))
        with pytest.raises(DomainError, match="second cloud, or exact probabilities"):
            total_variation(x, None, self.edges)


@pytest.mark.parametrize("distance", ALL)
def test_refusals(distance):
    x = draws(17, 3, 2)
    with pytest.raises(ShapeError, match="points of one shape"):
        distance(x, torch.zeros(3, 1))
    with pytest.raises(ShapeError, match="one weight per point"):
        distance(x, x, torch.ones(2))
    with pytest.raises(DomainError, match="a point or more"):
        distance(x[:0], x)
    for weights in ([-1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [math.nan, 1.0, 1.0]):
        with pytest.raises(DomainError, match="not log-weights"):
            distance(x, x, torch.tensor(weights))


def test_more_refusals():
    x = torch.zeros(3, 2)
    with pytest.raises(DomainError, match="two points with weight"):
        mmd(x[:1], x, bandwidths=[1.0])
    with pytest.raises(DomainError, match="bandwidths are positive"):
        mmd(x, x)  # all points in one place have the median 0
    with pytest.raises(DomainError, match="chunk ≥ 1"):
        energy_distance(x, x, chunk=0)
    with pytest.raises(DomainError, match="repeats ≥ 1"):
        floor(Gaussian((1,)).sample, energy_distance, 5, torch.Generator(), repeats=0)


def test_without_pot_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(CapabilityError, match=r"genpath-compose\[ot\]"):
        wasserstein1(torch.zeros(1, 1), torch.zeros(1, 1))
