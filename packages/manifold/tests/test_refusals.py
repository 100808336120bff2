"""Each error, by its words."""

import sys

import pytest
import torch

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.spaces import Euclidean
from genpath_manifold import (
    GeodesicPath,
    Sphere,
    SphereHeatKernel,
    SphereMLP,
    UniformSphere,
    VonMisesFisher,
    VonMisesFisherMixture,
    brownian,
    late,
)
from genpath_manifold.data import airports
from genpath_manifold.evaluations import KernelBaseline, Map, Mass
from genpath_manifold.laws import uniform, von_mises_fisher
from genpath_manifold.networks import sphere_mlp

NORTH = torch.tensor([0.0, 0.0, 1.0])


class Letters:
    """A space without tangents."""

    event_shape = (4,)


class OffSphere:
    class data:
        space = Euclidean(3)


@pytest.mark.parametrize(
    "make,error,words",
    [
        (lambda: Sphere(0), DomainError, "dimension is at least 1"),
        (lambda: Sphere(2).contains(torch.zeros(3)), ShapeError, r"shape \(batch, 3\)"),
        (lambda: Sphere(2).contains(torch.zeros(4, 2)), ShapeError, r"got   \(4, 2\)"),
        (lambda: UniformSphere(Sphere(2)).log_prob(torch.zeros(4, 2)), ShapeError, "points of S"),
        (lambda: uniform(Euclidean(3)), CapabilityError, "lives on a sphere"),
        (lambda: VonMisesFisher(NORTH, 0.0), DomainError, "kappa is positive"),
        (lambda: VonMisesFisher(NORTH, float("inf")), DomainError, "kappa is positive"),
        (lambda: VonMisesFisher(2 * NORTH, 1.0), DomainError, "unit vector"),
        (lambda: VonMisesFisher(NORTH[:2], 1.0), ShapeError, "one vector of R³"),
        (lambda: VonMisesFisherMixture(torch.eye(3), -1.0), DomainError, "kappa is positive"),
        (lambda: VonMisesFisherMixture(torch.eye(3), 0.0), DomainError, "kappa is positive"),
        (lambda: VonMisesFisherMixture(torch.eye(3)[:0], 1.0), DomainError, "at least one mean"),
        (lambda: VonMisesFisherMixture(NORTH, 1.0), ShapeError, "batch of points"),
        (lambda: von_mises_fisher((0, 0, 0), 1.0), DomainError, "not all zero"),
        (lambda: SphereHeatKernel(NORTH, 0.01), DomainError, "VonMisesFisher with kappa = 1/time"),
        (lambda: GeodesicPath(Letters()), CapabilityError, "needs a smooth space"),
        (lambda: late(0.0), DomainError, "ε is positive"),
        (lambda: brownian(Letters()), CapabilityError, "needs a smooth space"),
        (lambda: brownian(Sphere(2), -1.0), DomainError, "σ ≥ 0"),
        (lambda: SphereMLP(lowest=3.0, highest=2.0), DomainError, "lowest ≤ highest"),
        (lambda: KernelBaseline()(OffSphere()), CapabilityError, "the data lie on S²"),
        (lambda: Mass()(OffSphere()), CapabilityError, "the data lie on S²"),
        (lambda: Map()(OffSphere()), CapabilityError, "the data lie on S²"),
    ],
)
def test_refusals(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_the_network_refuses_states_of_another_form():
    path = GeodesicPath(Euclidean(2, 2))
    with pytest.raises(CapabilityError, match="vectors of one length"):
        sphere_mlp(path.space, path.predictions["velocity"], path)


def test_airports_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "airportsdata", None)
    with pytest.raises(CapabilityError, match=r'pip install "genpath-manifold\[airports\]"'):
        airports()


def test_a_good_call_is_not_refused():
    assert Sphere(2).contains(torch.eye(3)).all()
    assert uniform(Sphere(3)).space == Sphere(3)
