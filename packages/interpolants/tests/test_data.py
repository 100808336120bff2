"""Data sets with exact laws: splits, seeds, dtypes, configs, refusals."""

import pytest
import torch

from genpath.errors import DomainError, ShapeError
from genpath.laws import DensityLaw, Law
from genpath.plugins import registry
from genpath_interpolants import data as sets

NAMES = ("gaussian_mixture", "checkerboard", "two_points", "five_modes", "gaussian")


def build(name, **options):
    return registry().get("data", f"interpolants.{name}").build(options)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_builds_it_with_its_law(name):
    data = build(name, count=200)
    assert [len(rows) for rows in (data.train, data.validation, data.test)] == [160, 20, 20]
    assert isinstance(data.law, Law) and isinstance(data.law, DensityLaw)
    assert data.bits_per is None and "seed 0" in data.provenance
    rows = data.law.sample(3, torch.Generator())
    assert rows.shape == (3, *data.space.event_shape) and rows.dtype == data.train.dtype


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_fixes_the_rows_and_another_changes_them(name):
    first, again, other = (build(name, count=50, seed=seed) for seed in (1, 1, 2))
    assert first.digest() == again.digest() != other.digest()


def test_the_law_is_no_part_of_the_digest():
    from dataclasses import replace

    data = build("gaussian", count=50)
    assert replace(data, law=None).digest() == data.digest()


def test_means_may_be_given():
    data = build("gaussian_mixture", count=50, means=[[0, 0, 1], [3, 0, 0]], stds=[0.1, 0.2])
    assert data.train.shape == (40, 3)
    assert torch.equal(data.law.weights, torch.full((2,), 0.5))


def test_the_default_dtype_is_used():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for name in NAMES:
            assert build(name, count=20).train.dtype == torch.float64
    finally:
        torch.set_default_dtype(before)


def test_the_five_modes_fill_128_dimensions():
    law = build("five_modes", count=20).law
    assert law.means.shape == (5, 128)
    assert torch.pdist(law.means).min() > 8.4


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: sets.preset_means("star", 3, 1.0, 2, 0), DomainError, "preset is ring"),
        (lambda: sets.preset_means("ring", 3, 1.0, 1, 0), DomainError, "two dimensions"),
        (lambda: sets.preset_means("pair", 3, 1.0, 1, 0), DomainError, "two components"),
        (lambda: sets.two_points(1, 0.0, 5, 0), DomainError, "count ≥ 10"),
        (lambda: sets.five_modes_law(5), DomainError, "dimension ≥ 6"),
        (lambda: sets.Checkerboard(1), DomainError, "side ≥ 2"),
        (lambda: sets.gaussian(3, 0.0, 1.0, -0.9, 50, 0), DomainError, "positive definite"),
        (lambda: build("gaussian_mixture", means=[[0.0], [1.0, 2.0]]), ShapeError, "one length"),
        (lambda: build("gaussian_mixture", weights=[0.5, 0.5]), ShapeError, "one weight"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()
