"""Fixtures: one thread, seeded randomness, float64 as the default."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(20240607)


@pytest.fixture
def double():
    """float64 as the default, so that times of integer states are float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
