"""Resampling: counts, edges, dtypes, and refusals."""

import math

import pytest
import torch

from genpath.errors import DomainError, NumericalError, ShapeError
from genpath_compose.populations import Resample
from genpath_compose.resampling import (
    SCHEMES,
    ancestors,
    ess,
    log_mean,
    normalise,
    resample_indices,
)

INF = math.inf


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def uneven(rows, seed=0):
    values = 2 * torch.randn(rows, generator=rng(seed), dtype=torch.float64)
    if rows > 3:
        values[0] = values[rows // 2] = values[-1] = -INF
    return values


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64, 1001])
def test_ancestors_are_sorted_in_range_and_never_of_weight_zero(scheme, rows):
    log_weight = uneven(rows)
    for seed in range(50):
        index = resample_indices(log_weight, rng(seed), scheme)
        assert index.shape == (rows,) and index.dtype == torch.long
        assert (index.diff() >= 0).all() and index.min() >= 0 and index.max() < rows
        assert torch.isfinite(log_weight[index]).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_counts_stray_as_far_as_the_scheme_says(scheme):
    log_weight = uneven(40)
    share = 40 * normalise(log_weight).exp()
    far = {"systematic": 1.0, "ssp": 1.0, "stratified": 2.0}.get(scheme, INF)
    for seed in range(200):
        found = torch.bincount(resample_indices(log_weight, rng(seed), scheme), minlength=40)
        assert ((found - share).abs() < far).all()
        if scheme == "residual":
            assert (found >= share.floor()).all()


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "multinomial"])
def test_equal_weights_leave_the_rows_as_they_are(scheme):
    for rows in (1, 5, 1000):
        index = resample_indices(torch.full((rows,), -3.0), rng(), scheme)
        assert torch.equal(index, torch.arange(rows))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_weight_takes_all(scheme):
    log_weight = torch.full((9,), -INF)
    log_weight[4] = -1e30
    assert resample_indices(log_weight, rng(), scheme).tolist() == [4] * 9


@pytest.mark.parametrize("scheme", SCHEMES)
def test_any_number_of_rows_can_be_drawn(scheme):
    log_weight = uneven(10)
    for count in (0, 1, 3, 1000):
        index = resample_indices(log_weight, rng(), scheme, count=count)
        assert index.shape == (count,)
    found = torch.bincount(index, minlength=10) / 1000
    assert (found - normalise(log_weight).exp()).abs().max() < 0.1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_constant_and_the_seed_decide_nothing_and_everything(scheme):
    log_weight = uneven(30)
    index = resample_indices(log_weight, rng(3), scheme)
    assert torch.equal(index, resample_indices(log_weight, rng(3), scheme))
    assert torch.equal(index, resample_indices(log_weight + 2.0**20, rng(3), scheme))
    assert resample_indices(log_weight.float(), rng(3), scheme).shape == (30,)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_that_are_none_still_give_rows_in_range(scheme):
    """An accelerator does not look at weights before it gathers by them."""
    for weights in (torch.full((6,), math.nan), torch.zeros(6), torch.full((6,), INF)):
        index = ancestors(weights.double(), 6, rng(), scheme)
        assert index.min() >= 0 and index.max() < 6


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_the_effective_size_is_between_one_and_n(rows):
    assert ess(torch.full((rows,), 700.0)) == rows
    one = torch.full((rows,), -INF)
    one[-1] = -800.0
    assert ess(one) == 1
    assert 1 <= ess(uneven(rows) if rows > 3 else torch.randn(rows)) <= rows + 1e-9


def test_weights_of_any_size_do_not_overflow():
    log_weight = torch.tensor([1e4, 1e4 + math.log(3.0)], dtype=torch.float64)
    torch.testing.assert_close(normalise(log_weight).exp(), torch.tensor([0.25, 0.75]).double())
    assert log_mean(log_weight).item() == pytest.approx(1e4 + math.log(2.0), rel=1e-14)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([-INF, -INF], "all log-weights are −inf at t = 0.25"),
        ([0.0, math.nan], "a log-weight is nan at t = 0.25"),
        ([0.0, INF], "a log-weight is inf at t = 0.25"),
    ],
)
def test_weights_that_are_none_are_refused(values, words):
    with pytest.raises(NumericalError, match=words):
        resample_indices(torch.tensor(values), rng(), t=0.25)


def test_refusals():
    with pytest.raises(DomainError, match="a scheme is one of systematic, stratified"):
        resample_indices(torch.zeros(3), rng(), "sistematic")
    with pytest.raises(ShapeError, match="one log-weight per row"):
        resample_indices(torch.zeros(3, 1), rng())
    with pytest.raises(DomainError, match="there are rows to draw from"):
        resample_indices(torch.zeros(0), rng(), count=3)
    assert resample_indices(torch.zeros(0), rng()).shape == (0,)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"scheme": "best"}, "Resample: a scheme is one of"),
        ({"threshold": 0.0}, r"the threshold is in \(0, 1\]"),
        ({"threshold": 1.5}, r"the threshold is in \(0, 1\]"),
        ({"when": "often"}, "when is ess, every or never"),
        ({"window": (0.5, 0.2)}, "a window is tmin ≤ tmax"),
        ({"every": 0}, "every is 1 or more"),
    ],
)
def test_a_rule_checks_itself(wrong, words):
    with pytest.raises(DomainError, match=words):
        Resample(**wrong)
