r"""What the noising kernel promises at t = 0, apart from the claims.

A Monte-Carlo check bounds |z| by 4.5 and has a control that it must see.
"""

import math

import torch

from genpath.spaces import Euclidean
from genpath_interpolants.paths import LinearPath

BOUND = 4.5


def z_score(values):
    """The mean of values over its standard error."""
    return float(values.mean() / (values.std() / math.sqrt(len(values))))


def test_renoising_to_zero_forgets_and_from_zero_to_zero_stays(rng):
    path = LinearPath(Euclidean(2), base="gaussian")
    x = torch.randn(50_000, 2, generator=rng, dtype=torch.float64) + 3
    zero = torch.zeros(len(x), dtype=torch.float64)
    assert torch.equal(path.renoise(zero, zero, x, rng), x)
    fresh = path.renoise(zero + 0.7, zero, x, rng)
    assert abs(z_score(fresh[:, 0])) < BOUND
    assert abs(z_score(fresh[:, 0] ** 2 - 1)) < BOUND
    assert abs(z_score(path.renoise(zero + 0.7, zero + 0.1, x, rng)[:, 0])) > BOUND
