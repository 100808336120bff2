"""Sampling a composition: what is refused and in which words, and what a report says."""

import math
import warnings
from dataclasses import replace

import pytest
import torch

from genpath.errors import CapabilityError, DomainError, NumericalError, ShapeError
from genpath.grids import TimeGrid
from genpath.schedules import Scalar
from genpath_compose.certificates import certify
from genpath_compose.claims._scenes import collapse_toy, normal_expert
from genpath_compose.components import boxes
from genpath_compose.compositions import Composition
from genpath_compose.dynamics import Blend, Composed, Follow, Noising, Through
from genpath_compose.errors import PathCollapseError, PathCollapseWarning, RepairError
from genpath_compose.experts import DiffusionExpert, FieldExpert, Reward
from genpath_compose.exponents import Exponent
from genpath_compose.normals import Normal
from genpath_compose.particles import Particles
from genpath_compose.sampling import ComposedSample, sample
from genpath_compose.smc import Resample
from genpath_compose.tails import Tail
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

DOUBLE = torch.float64
UNIT = Tail(lambda t: torch.ones(len(t), 1, 1, dtype=t.dtype))


def still(name="q", size=1, **more):
    """N(0, I) at all times."""
    given = {"tail": UNIT, "start": Normal.isotropic((size,))} | more
    return FieldExpert(lambda t, x: (0 * x, -x), (size,), name, **given)


# -- what is refused -----------------------------------------------------------------------------


def test_a_start_that_cannot_be_normalised_is_refused_with_its_coordinate(rng):
    a, b = still("a", 2), still("b")
    with pytest.raises(PathCollapseError, match="coordinate 1"):
        sample(a / b.on(1) ** 2, 10, rng)
    with pytest.raises(DomainError, match="-1 in coordinate 1"):
        (a / b.on(1) ** 2).start()


def test_c_of_zero_is_said_to_be_beyond_repair(rng):
    top, bottom = (normal_expert(0.0, 1.0, s(), n) for n, s in
                   (("top", trigonometric_schedule), ("bottom", linear_schedule)))  # fmt: skip
    with pytest.raises(RepairError, match=r"C = -0\.2 at t = 0[\s\S]*moves neither end"):
        sample(top / bottom**1.2, 10, rng, policy="repair")


def test_a_coordinate_that_no_expert_sees_is_named(rng):
    with pytest.raises(PathCollapseError, match="no expert sees coordinate 1"):
        sample(still("a").on(0) * still("b").on(2), 10, rng)


def test_a_grid_outside_an_experts_times_is_refused(rng):
    late = still("late", times=(0.2, 1.0))
    with pytest.raises(DomainError, match=r"expert late.*\n.*\[0.2, 1\].*\[0, 0.99\]"):
        sample(late * still(), 10, rng)
    with pytest.raises(DomainError, match="noise to data"):
        sample(still(), 10, rng, grid=TimeGrid((1.0, 0.0)))


def test_experts_of_different_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"a \(1,\), b \(2,\)"):
        (still("a") * still("b", 2)).experts  # noqa: B018


def test_coordinates_must_fit_the_expert_and_the_state():
    with pytest.raises(ShapeError, match="one axis of the state for each axis"):
        still("a", 2).on(0).experts  # noqa: B018
    with pytest.raises(DomainError, match="different indices below 2"):
        still("a").on(2).sized(2).experts  # noqa: B018


def test_an_expert_without_start_or_tail_is_named(rng):
    with pytest.raises(CapabilityError, match="expert lost"):
        (still() * still("lost", start=None)).start()
    with pytest.raises(PathCollapseError, match=r"undecided.*lost"):
        sample(still() * still("lost", tail=None), 10, rng)


def test_nan_scores_are_seen_at_the_next_resampling(rng):
    def both(t, x):
        broken = torch.where(t[:, None] > 0.5, torch.nan, 1.0)
        return 0 * x, -x * broken

    expert = FieldExpert(both, (1,), "broken", tail=UNIT, start=Normal.isotropic((1,)))
    with pytest.raises(NumericalError, match=r"t = 0\.5"):
        sample(expert**2, 50, rng, steps=100, t_end=1.0)


def test_all_weights_zero_is_an_error_that_names_the_time(rng):
    wall = Reward(lambda x: torch.where(x[:, 0] > -math.inf, -math.inf, 0.0), (1,), "wall")
    switched = Exponent(0.0, Scalar(lambda t: t, torch.ones_like))
    with pytest.raises(NumericalError, match="t ="):
        sample(still() * wall**switched, 50, rng, steps=10)


def test_options_are_checked(rng):
    with pytest.raises(DomainError, match="policy is error, warn or repair"):
        sample(still(), 10, rng, policy="hope")
    with pytest.raises(DomainError, match="one particle or more"):
        sample(still(), 0, rng)
    with pytest.raises(DomainError, match="σ ≥ 0"):
        Composed(still().composition(), sigma=-1.0)
    with pytest.raises(ShapeError, match="matrix σ"):
        Composed(still().composition(), sigma=torch.eye(2))
    with pytest.raises(DomainError, match="follows an expert"):
        Composed(still().composition(), transport=Follow(3))
    with pytest.raises(ShapeError, match="points of the composition"):
        sample(still(), 10, rng, start=Normal.isotropic((2,)))


# -- what a run says -----------------------------------------------------------------------------


def test_a_report_states_what_is_asked_of_it(rng):
    found = sample(
        collapse_toy(), 500, rng, steps=100, dtype=DOUBLE, resample=Resample(threshold=0.9)
    )
    text = found.report()
    for word in ("exists", "min C", "ESS", "log Z", "resampled at", "descendants"):
        assert word in text
    assert found.doubts == () and "DOUBT" not in text
    assert set(found.metrics) == {
        f"compose/{n}"
        for n in ("min_c", "min_ess", "final_ess", "log_normaliser", "resamplings", "lineages")
    }


def test_a_policy_of_warning_samples_and_doubts(rng):
    with pytest.warns(PathCollapseWarning, match="collapses at"):
        found = sample(collapse_toy(bump=0.0), 200, rng, steps=50, policy="warn", dtype=DOUBLE)
    assert bool(found.x.isfinite().all())
    assert "DOUBT: the path is not certified" in found.report()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, None),
        ({"log_weight": torch.full((400,), -math.inf).index_fill(0, torch.tensor(0), 0.0)},
         "the final weights are worth 0.25%"),
        ({"ess": torch.tensor([400.0, 2.0])}, "before a resampling the weights were worth 0.50%"),
        ({"ancestors": torch.arange(400) // 25}, "all particles descend from 16 of 400"),
        ({"state": {"x": torch.full((400, 1), math.nan)}}, "some particles are not finite"),
    ],
)  # fmt: skip
def test_numbers_that_forbid_trust_are_doubted(changed, words):
    fine = Particles(
        {"x": torch.zeros(400, 1)}, torch.zeros(400), ess=torch.tensor([400.0, 400.0]),
        ancestors=torch.arange(400),
    )  # fmt: skip
    target = still().composition()
    found = ComposedSample(replace(fine, **changed), target, certify(target))
    assert len(found.doubts) == (words is not None)
    assert all(words in doubt for doubt in found.doubts)
    assert ("DOUBT" in found.report()) == (words is not None)


def test_a_repair_keeps_the_ends_and_is_reported(rng):
    found = sample(
        collapse_toy(bump=0.0), 200, rng, steps=50, policy="repair", margin=0.1, dtype=DOUBLE
    )
    assert found.repaired is not None
    ends = torch.tensor([0.0, 1.0], dtype=DOUBLE)
    old, new = collapse_toy(bump=0.0).exponents, found.composition.exponents
    for before, after in zip(old, new, strict=True):
        assert torch.allclose(before(ends), after(ends), atol=1e-12)
    assert found.certificate.minimum >= 0.1 - 1e-9


def test_the_same_seed_gives_the_same_particles():
    first, second, other = (
        sample(collapse_toy(), 100, torch.Generator().manual_seed(s), steps=40, dtype=DOUBLE)
        for s in (3, 3, 4)
    )
    assert torch.equal(first.x, second.x) and torch.equal(first.weights, second.weights)
    assert not torch.equal(first.x, other.x)


def test_chunks_of_expert_calls_change_nothing():
    whole, pieces = (
        sample(collapse_toy(), 101, torch.Generator().manual_seed(0), steps=20, dtype=DOUBLE,
               track="ito", chunk=chunk)
        for chunk in (None, 10)
    )  # fmt: skip
    assert torch.allclose(whole.x, pieces.x) and torch.allclose(whole.weights, pieces.weights)


def test_an_empty_batch_passes_through_the_generator():
    gen = Composed(collapse_toy(), track="ito").generator()
    empty = {"x": torch.zeros(0, 1, dtype=DOUBLE), "log_density": torch.zeros(0, 1, dtype=DOUBLE)}
    parts = gen(0.3, empty)
    assert parts.velocity["x"].shape == (0, 1) and parts.potential.shape == (0,)


# -- the dynamics, beside what the claims measure ------------------------------------------------


def test_one_call_of_each_expert_per_step():
    calls = {"a": 0, "b": 0}

    def counted(name):
        def both(t, x):
            calls[name] += 1
            return 0 * x, -x

        return FieldExpert(both, (1,), name, tail=UNIT, start=Normal.isotropic((1,)))

    rng = torch.Generator().manual_seed(0)
    sample(counted("a") ** 1.4 / counted("b") ** 0.2, 20, rng, steps=7)
    assert calls == {"a": 7, "b": 7}


def test_constant_exponents_are_not_tracked_and_exact_densities_are_used():
    toy = collapse_toy()
    assert Composed(toy).tracked == ()
    assert Composed(toy, track="ito").tracked == (0,)
    assert Composed(collapse_toy(bump=0.0), track="ito").tracked == ()


def test_noising_of_shared_experts_is_the_blend_in_other_words(rng):
    """v* = −f + ½σ² s* and Σ γ_i v_i differ by (Σγ − 1) f, and their weights accordingly."""
    f = lambda t, x: -0.7 * x  # noqa: E731
    start = Normal.isotropic((1,))
    expert = DiffusionExpert(lambda t, x: -x, f, lambda t: 1.1 + 0 * t, (1,), "q", start=start)
    noising = Noising(f, lambda t: 1.1 + 0 * t)
    one = Composed(expert.composition(), 1.1, noising).generator()
    two = Composed(expert.composition(), 1.1, Blend()).generator()
    state = {"x": torch.randn(5, 1, generator=rng, dtype=DOUBLE)}
    first, second = one(0.4, state), two(0.4, state)
    assert torch.allclose(first.velocity["x"], second.velocity["x"])
    assert torch.allclose(first.potential, second.potential, atol=1e-12)


def test_bfloat16_and_float32_states_keep_their_dtype(rng):
    for dtype in (torch.bfloat16, torch.float32):
        found = sample(still() ** 2, 64, rng, steps=10, dtype=dtype)
        assert found.x.dtype is dtype and bool(found.x.isfinite().all())


def test_log_normalisers_start_from_the_products_own():
    """∫ N(0,1)^2 = 1/√(4π) at all times of a law that does not move: no weight, log Z known."""
    found = sample(still() ** 2, 10, torch.Generator().manual_seed(0), steps=3, sigma=0.0)
    assert math.isclose(found.log_normaliser, -0.5 * math.log(4 * math.pi), abs_tol=1e-6)


def test_exponents_are_multiplied_and_added(rng):
    t = torch.linspace(0, 1, 5, dtype=DOUBLE)
    moving = Exponent(1.0, Scalar(lambda t: t**2, lambda t: 2 * t))
    product = moving * moving
    assert torch.allclose(product(t), (1 + t**2) ** 2)
    assert torch.allclose(product.rate(t), 4 * t * (1 + t**2))
    assert (2 * moving + moving).rate(t).allclose(6 * t)
    with pytest.raises(DomainError, match="finite"):
        Exponent(math.inf)


def test_a_composition_needs_a_term():
    with pytest.raises(DomainError, match="one expert or more"):
        Composition(())


def test_transports_may_be_any_field(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sample(
            collapse_toy(), 50, rng, steps=10, dtype=DOUBLE, transport=Through(lambda t, x: x.sin())
        )
    assert bool(found.x.isfinite().all())


def test_a_target_that_no_support_carries_is_refused_and_not_repaired(rng):
    """U[0, 1] over U[0, ½]: C > 0 at every t < 1, and no law at t = 1."""
    wide = boxes([[0.0]], [[1.0]], None, "linear").named("wide")
    narrow = boxes([[0.0]], [[0.5]], None, "linear").named("narrow")
    for policy in ("error", "repair"):
        with pytest.raises(PathCollapseError, match="target at t = 1 is not a law"):
            sample(wide**2 / narrow, 10, rng, policy=policy)
    with pytest.warns(PathCollapseWarning):
        found = sample(wide**2 / narrow, 50, rng, steps=20, policy="warn")
    assert any("not a law" in doubt for doubt in found.doubts)


def test_networks_that_learn_leave_no_graph(rng):
    weight = torch.nn.Parameter(torch.tensor(-1.0))
    expert = FieldExpert(
        lambda t, x: (0 * x, weight * x), (1,), "q", tail=UNIT, start=Normal.isotropic((1,))
    )
    found = sample(expert ** Exponent(1.0, Scalar(lambda t: t)), 20, rng, steps=5)
    assert not found.x.requires_grad and not found.particles.log_weight.requires_grad
