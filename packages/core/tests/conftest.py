"""Fixtures: one thread, and seeded randomness."""

import pytest
import torch

collect_ignore = ["run_killer.py"]  # a script: a process of its own for the tests that kill runs


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)
