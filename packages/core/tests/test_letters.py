"""What letters ask of the core: rates at one time for all rows, and sites that never jump."""

import torch

from genpath.jumps import RateJumps
from genpath.schedules import cosine_keep
from genpath.states import row_times


def test_a_derived_rate_takes_one_time_for_all_rows():
    rows = row_times(torch.tensor(0.3), torch.zeros(4, 2))
    apart = torch.tensor([0.3, 0.3, 0.3, 0.3])
    kappa = cosine_keep().kappa
    assert torch.equal(kappa.rate(rows), kappa.rate(apart))
    assert not torch.equal(kappa.rate(rows), kappa.rate(apart + 0.1))


def test_a_site_without_rates_reaches_no_letter():
    rates = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 3.0]])
    jumps = RateJumps(rates, torch.tensor([0, 0]))
    assert jumps.log_target(torch.tensor([1, 1])).exp().tolist() == [0.0, 0.25]
    assert jumps.log_target(torch.tensor([0, 0])).tolist() == [-torch.inf, -torch.inf]
