"""The corrector table: what it declares, starts, edges, refusals."""

import math

import pytest
import torch

from genpath.errors import CapabilityError, DomainError
from genpath_compose.annealing import Annealed, ProductOfExperts
from genpath_compose.correctors import GeometricAverage, Guidance, RewardTilt, WeightedExperts
from genpath_compose.dynamics import Composed, Noising
from genpath_compose.experts import DiffusionExpert, FieldExpert
from genpath_compose.normals import Normal
from genpath_compose.processes import LinearDrift, diffusion_form, shared
from genpath_interpolants.schedules import linear_schedule, mirror_schedule

DOUBLE = torch.float64
SHAPE = (2,)


def expert(variance=1.0, name="q", drift=None, sigma=None, shape=SHAPE):
    """A score of N(0, variance), whatever the process: rows never ask whether it fits."""
    full = torch.ones(shape, dtype=DOUBLE)
    return DiffusionExpert(
        lambda t, x: -x / variance,
        drift or LinearDrift(-0.5),
        sigma or (lambda t: 1 + t),
        shape,
        name,
        start=Normal(0 * full, full / variance, DOUBLE),
    )


def state(rows=4, shape=SHAPE):
    return {"x": torch.randn(rows, *shape, generator=torch.Generator().manual_seed(0))}


ROWS = [
    (GeometricAverage, (0.3,), 2),
    (Guidance, (1.5,), 2),
    (WeightedExperts, ((0.5, 0.25, 0.75),), 3),
    (Annealed, (2.0, 0.5), 1),
    (ProductOfExperts, (1.5, 0.3), 2),
    (RewardTilt, (lambda x: x.flatten(1).sum(1),), 1),
]


@pytest.mark.parametrize(("kind", "options", "count"), ROWS)
class TestRows:
    def experts(self, count):
        return [expert(1.0 + i, "abc"[i]) for i in range(count)]

    def test_parts_and_shapes(self, kind, options, count):
        gen = kind(*options).generator(self.experts(count))
        parts = gen(0.5, state())
        assert gen.has == {"velocity", "diffusion", "potential"}
        assert parts.velocity["x"].shape == (4, 2) and parts.potential.shape == (4,)
        empty = gen(0.5, {"x": torch.zeros(0, 2)})
        assert empty.potential.shape == (0,)

    def test_naive_keeps_the_motion_and_drops_the_weight(self, kind, options, count):
        weighted = kind(*options).generator(self.experts(count))(0.5, state())
        plain = kind(*options, naive=True).generator(self.experts(count))
        parts = plain(0.5, state())
        assert plain.has == {"velocity", "diffusion"} and parts.potential is None
        assert torch.equal(parts.velocity["x"], weighted.velocity["x"])

    def test_particles_start_from_the_composition(self, kind, options, count):
        experts, row = self.experts(count), kind(*options)
        law, log_z = row.start(experts)
        powers = row.composition(experts).powers(0.0)
        pairs = zip(powers, (1.0, 2.0, 3.0), strict=False)
        assert float(law.precision[0]) == pytest.approx(sum(p / v for p, v in pairs))
        assert math.isfinite(log_z)

    def test_events_of_any_shape(self, kind, options, count):
        experts = [expert(1.0 + i, shape=(2, 3)) for i in range(count)]
        if kind is WeightedExperts:
            options = ((0.5, 0.25, 1.0),)  # div f is needed
        parts = kind(*options).generator(experts)(0.5, state(shape=(2, 3)))
        assert parts.velocity["x"].shape == (4, 2, 3) and parts.potential.shape == (4,)


@pytest.mark.parametrize(
    "row",
    [
        GeometricAverage(0.3),
        Guidance(1.5),
        WeightedExperts((0.5, 0.25, 0.75)),
        Annealed(2.0),
        RewardTilt(lambda x: x.sum(1)),
    ],
)
def test_another_number_of_experts_is_refused(row):
    with pytest.raises(DomainError, match=r"it composes (one expert|\d experts)"):
        row.generator([expert()] * 4)


def test_no_guidance_is_the_conditional_expert():
    a, b = expert(1.0), expert(2.0)
    parts = Guidance(0.0).generator([a, b])(0.5, state())
    alone = Annealed(1.0).generator([a])(0.5, state())
    assert torch.equal(parts.velocity["x"], alone.velocity["x"])
    assert parts.potential.abs().max() == 0 and alone.potential.abs().max() == 0


def test_rows_agree_with_the_general_dynamics():
    """Composed with v* = −f + ½σ² s* and the experts' noise is the row of the same composition."""
    experts = [expert(1.0, "a"), expert(2.0, "b")]
    for row in (GeometricAverage(1.6), WeightedExperts((1.2, 0.5)), ProductOfExperts(1.3)):
        made = row.composition(experts)
        whole = Composed(made, experts[0].sigma, Noising(experts[0].drift, experts[0].sigma))
        one, two = row.generator(experts)(0.5, state()), whole.generator()(0.5, state())
        assert torch.allclose(one.potential, two.potential, atol=1e-5)
        if row != ProductOfExperts(1.3):
            assert torch.allclose(one.velocity["x"], two.velocity["x"], atol=1e-5)


def test_the_weight_of_an_annealed_law_does_not_depend_on_a():
    values = [Annealed(2.5, a).generator([expert()])(0.5, state()).potential for a in (0, 0.3, 0.5)]
    assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])


def test_target_score_and_tempered_noise():
    assert (Annealed(3.0).eta, Annealed(3.0).zeta) == (3.0, 1.0)
    half = Annealed(3.0, 0.5)
    assert half.eta == 2.0 and half.zeta == pytest.approx(1 / math.sqrt(3))


def test_a_negative_noise_is_refused():
    with pytest.raises(DomainError, match=r"ζ² = .*≥ 0, a ≤ 0.8333 for β = 2.5"):
        Annealed(2.5, 0.9)
    with pytest.raises(DomainError, match=r"a ≥ -0.5 for β = 0.5"):
        ProductOfExperts(0.5, -0.6)
    with pytest.raises(DomainError, match="β > 0"):
        Annealed(-1.0)
    with pytest.raises(DomainError, match="w is finite"):
        Guidance(math.inf)
    with pytest.raises(DomainError, match="one exponent per expert"):
        WeightedExperts(())


def test_different_processes_are_refused_by_name():
    rows = GeometricAverage(0.5)
    with pytest.raises(DomainError, match=r"σ of a and b differ by .* at t = "):
        rows.generator([expert(name="a"), expert(name="b", sigma=lambda t: 1 + t**2)])
    with pytest.raises(DomainError, match=r"f of a and b differ by"):
        rows.generator([expert(name="a"), expert(name="b", drift=LinearDrift(-0.51))])
    with pytest.raises(DomainError, match=r"use Composed\(composition\)"):
        rows.generator([expert(), expert(sigma=lambda t: 2 + t)])


def test_processes_that_are_equal_but_not_the_same_object_are_shared():
    twins = [expert(drift=lambda t, x: -0.5 * x, sigma=lambda t: 1 + t) for _ in range(2)]
    assert shared(twins).sigma(torch.zeros(1)) == 1.0
    nan = expert(sigma=lambda t: t * math.nan)
    with pytest.raises(DomainError, match="share one noising process"):
        shared([expert(), nan])


def test_an_expert_without_a_process_is_refused():
    plain = FieldExpert(lambda t, x: (0 * x, -x), SHAPE, "plain")
    with pytest.raises(CapabilityError, match="expert plain: a corrector in closed form needs"):
        GeometricAverage(0.5).generator([plain, plain])


def test_a_drift_without_a_divergence_is_differentiated():
    bent = expert(drift=lambda t, x: -(x**3))
    found = Annealed(2.0).generator([bent])(0.5, state()).potential
    x = state()["x"]
    square = 0.5 * 2 * 1.5**2 * (x**2).sum(1)
    assert torch.allclose(found, -3 * (x**2).sum(1) + square, atol=1e-5)


def test_a_reward_that_is_on_from_the_start_has_no_start_law():
    row = RewardTilt(lambda x: x.sum(1), 1.0)
    with pytest.raises(CapabilityError, match="expert reward: a composition starts"):
        row.start([expert()])


def test_diffusion_forms_are_of_one_sided_interpolants():
    normal = FieldExpert(lambda t, x: (0 * x, -x), (1,), "normal")
    with pytest.raises(DomainError, match="a one-sided interpolant has γ = 0"):
        diffusion_form(normal, linear_schedule("sqrt", 2.0))
    with pytest.raises(DomainError, match="γ² up to"):
        diffusion_form(normal, mirror_schedule())
    form = diffusion_form(normal, linear_schedule())
    assert float(form.sigma(torch.ones(1))) == 0.0  # no noise at the data
    assert form.name == "normal" and "log_prob" not in form.has
