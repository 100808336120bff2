"""Fixtures: one thread, seeded randomness, a mixture in float64."""

import pytest
import torch

from genpath_interpolants.mixtures import GaussianMixture


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def mixture():
    """Two overlapping components of the plane, one of them anisotropic."""
    return GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        torch.tensor([[-1.5, 0.5], [1.0, -0.4]], dtype=torch.float64),
        torch.tensor([[0.6, 0.6], [0.4, 0.9]], dtype=torch.float64),
    )
