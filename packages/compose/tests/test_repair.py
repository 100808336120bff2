"""Bumps and repairs: shapes, sizes, several experts, refusals by their words."""

import math

import pytest
import torch

from genpath.errors import CapabilityError, DomainError
from genpath.schedules import Scalar
from genpath_compose import repairs as repair_module
from genpath_compose.certificates import certify
from genpath_compose.errors import PathCollapseError, RepairError
from genpath_compose.experts import FieldExpert
from genpath_compose.exponents import Exponent
from genpath_compose.repairs import (
    AdaptiveExponents,
    Shape,
    bump,
    fit_bump,
    quadratic,
    ramp,
    repair,
)
from genpath_compose.tails import Tail, affine_tail
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

DOUBLE = torch.float64


def expert(tail, name="a", size=1):
    return FieldExpert(lambda t, x: (x, -x), (size,), name, tail=tail)


def fixed(*precisions, name="a", size=None):
    p = torch.tensor(precisions, dtype=DOUBLE)
    width = p.shape[-1] if size is None else size
    return expert(Tail(lambda t: p.expand(len(t), *p.shape)), name, width)


COSINE = expert(affine_tail(trigonometric_schedule()), "cosine")
LINEAR = expert(affine_tail(linear_schedule()), "linear")
ONE = expert(Tail(lambda t: torch.ones_like(t)[:, None, None]), "one")
DIP = expert(Tail(lambda t: 1 / ((1 - t) ** 2 + t**2)[:, None, None]), "dip")


# -- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [quadratic(0.8), ramp(0.2, 0.8), ramp(0.2, 0.8, math.inf)])
def test_shapes_are_zero_from_their_end_on(shape):
    t = torch.tensor([0.0, 0.8, 0.9, 1.0], dtype=DOUBLE)
    assert torch.allclose(shape(t), torch.zeros(4, dtype=DOUBLE), atol=1e-15)
    assert torch.equal(shape.scalar.rate(t[2:]), torch.zeros(2, dtype=DOUBLE))


def test_ramps_hold_in_single_precision():
    t = torch.tensor([0.0, 1e-6, 0.01, 0.5, 1 - 1e-6, 1.0])
    soft, rate = ramp(0.05)(t), ramp(0.05).scalar.rate(t)
    exact = ramp(0.05)(t.double()), ramp(0.05).scalar.rate(t.double())
    assert torch.allclose(soft.double(), exact[0], rtol=1e-5, atol=1e-12)
    assert torch.allclose(rate.double(), exact[1], rtol=1e-4)


def test_shapes_refuse():
    with pytest.raises(DomainError, match="vanishes at both ends"):
        Shape("line", Scalar(lambda t: t))
    with pytest.raises(DomainError, match="not negative"):
        Shape("wave", Scalar(lambda t: torch.sin(2 * math.pi * t)))
    with pytest.raises(DomainError, match="somewhere positive"):
        Shape("nothing", Scalar(lambda t: 0 * t))
    with pytest.raises(DomainError, match="0 < end ≤ 1"):
        Shape("late", Scalar(lambda t: 0 * t), 1.5)
    with pytest.raises(DomainError, match="τ > 0"):
        ramp(0.0)
    with pytest.raises(DomainError, match="p ≥ 1"):
        ramp(0.1, sharpness=0.5)


def test_a_shape_of_your_own():
    wave = Shape("wave", Scalar(lambda t: torch.sin(math.pi * t) ** 2))
    found = fit_bump(ONE / DIP**0.7, 0, wave, t_end=1.0)
    assert found.size == pytest.approx(0.4, abs=1e-8)  # the deficit at t = ½, where the wave is 1
    assert found.words() == "one + 0.4 wave"


# -- fitting -------------------------------------------------------------------------------------


def test_the_term_is_chosen_among_the_numerators():
    far = expert(Tail(lambda t: 3 * torch.ones_like(t)[:, None, None]), "far")
    found = fit_bump(ONE**0.5 * far**0.1 / DIP**0.7, t_end=1.0)
    assert found.name == "far"
    assert found.size == pytest.approx((1.4 - 0.8) / 3 * 4, abs=1e-7)


def test_a_path_that_exists_needs_no_bump():
    assert fit_bump(COSINE**2).size == 0.0
    found = repair(COSINE**2)
    assert found.bumps == () and found.after is found.before
    assert found.words().startswith("nothing to repair")


def test_matrix_tails_are_repaired_along_eigenvectors():
    # a deficit along (1, 1)/√2, which no axis shows as the least
    tilt = fixed([[1.0, 0.6], [0.6, 1.0]], name="tilt", size=2)
    round_ = fixed([1.0], name="round", size=2)
    wave = Exponent(0.0, Scalar(lambda t: -3 * t * (1 - t)))
    broken = round_ * tilt**wave
    assert certify(broken).status == "collapses"
    found = repair(broken, margin=0.1, terms=(0,), shapes=("quadratic",))
    # 1 + (B − 3 · 1.6) t(1 − t) ≥ 0.1 at t = ½
    assert found.bumps[0].size == pytest.approx(4.8 - 3.6, abs=1e-6)
    assert found.after.keeps_margin and found.after.method == "matrix"


def test_mixtures_are_repaired():
    top = fixed([1.2, 1.2], name="top")
    wave = Exponent(0.0, Scalar(lambda t: -6 * t * (1 - t)))
    low = fixed([0.2, 2.0], [2.0, 0.3], name="low")
    broken = top * low**wave
    assert certify(broken, t_end=0.9).status == "collapses"
    found = repair(broken, margin=0.2, terms=(0,), shapes=("quadratic",), t_end=0.9)
    assert found.after.status == "exists" and found.after.minimum >= 0.2 - 1e-9


def test_two_experts_on_two_coordinates():
    broken = (
        COSINE.on(0)
        * COSINE.named("second").on(1)
        / LINEAR.on(0) ** 0.7
        / LINEAR.named("other").on(1) ** 0.8
    )
    found = repair(broken, margin=0.1, t_end=0.8)
    assert {b.index for b in found.bumps} == {0, 1}
    assert found.after.minimum == pytest.approx(0.1, abs=1e-7)
    assert "cosine +" in found.words() and "→ 0.1" in found.words()


def test_one_bump_does_without_scipy(monkeypatch):
    monkeypatch.setattr(repair_module, "find_spec", lambda name: None)
    found = repair(ONE / DIP**0.7, margin=0.05)
    assert len(found.bumps) == 1 and found.after.keeps_margin
    broken = ONE.on(0) * ONE.named("b").on(1) / DIP.on(0) ** 0.7 / DIP.named("d").on(1) ** 0.7
    with pytest.raises(CapabilityError, match="scipy"):
        repair(broken, terms=(0, 1))


def test_margin_zero_stands_for_a_tenth_of_the_start():
    found = repair(ONE / DIP**0.7)
    assert found.after.status == "exists"
    assert found.after.minimum == pytest.approx(0.03, abs=1e-8)


def test_an_end_before_one_leaves_the_exponents_there():
    shape = quadratic(0.95)
    found = repair(ONE / DIP**0.7, margin=0.1, t_end=0.95, shapes=(shape,))
    assert found.end_change == pytest.approx(0.0, abs=1e-12)
    assert "raised by" not in found.words()
    open_end = repair(ONE / DIP**0.7, margin=0.1, t_end=0.95, shapes=("quadratic",))
    assert "exponents at t = 0.95 are raised by" in open_end.words()


def test_the_rate_of_a_repaired_exponent_is_exact():
    found = repair(COSINE / LINEAR**0.7, margin=0.1, t_end=0.9).composition.exponents[0]
    t = torch.linspace(0.01, 0.9, 50, dtype=DOUBLE)
    true = torch.func.jvp(found, (t,), (torch.ones_like(t),))[1]
    assert torch.allclose(found.rate(t), true, rtol=1e-9, atol=1e-9)


# -- what cannot be repaired ---------------------------------------------------------------------


def test_refusals_say_why():
    with pytest.raises(RepairError, match="a bump moves neither end"):
        repair(COSINE / LINEAR**1.2)
    with pytest.raises(RepairError, match=r"C = 0\.3 at t = 0, δ = 0\.5"):
        repair(COSINE / LINEAR**0.7, margin=0.5)
    with pytest.raises(RepairError, match=r"choose t_end < 1"):
        repair(COSINE / LINEAR**0.7, t_end=1.0)
    with pytest.raises(RepairError, match="no expert sees coordinate 1"):
        repair(COSINE.on(0) * LINEAR.on(2))
    with pytest.raises(RepairError, match=r"the tail of lost is not known"):
        repair(COSINE / expert(None, "lost"))
    split = ONE.on(0) * ONE.named("b").on(1) / DIP.on(1) ** 0.7
    with pytest.raises(RepairError, match=r"coordinate 1 .* bumps of one"):
        repair(split, terms=(0,))
    with pytest.raises(RepairError, match="positive exponent"):
        fit_bump(ONE**-1)
    with pytest.raises(RepairError, match="one term and one shape"):
        repair(ONE / DIP**0.7, shapes=())


# -- exponents of one's own ----------------------------------------------------------------------


def test_adaptive_exponents_are_validated():
    path = ONE / DIP**0.7
    kept = AdaptiveExponents(path, (1.0 + bump(3.0), Exponent(-0.7)), margin=0.1)
    assert kept.certificate.keeps_margin
    assert str(kept.adapted) == "one^(1 + m(t)) · dip^(-0.7)"
    with pytest.raises(PathCollapseError, match=r"C ≥ 0\.1 at all times"):
        AdaptiveExponents(path, (1.0 + bump(1.7), Exponent(-0.7)), margin=0.1)
    with pytest.raises(PathCollapseError, match="the path exists"):
        AdaptiveExponents(path, (Exponent(1.0), Exponent(-0.7)))
    with pytest.raises(DomainError, match=r"one is off by 0.5 at t = 0"):
        AdaptiveExponents(path, (Exponent(1.5), Exponent(-0.7)))
    with pytest.raises(DomainError, match=r"one is off by 0 at t = 0 and by 1 at t = 1"):
        AdaptiveExponents(path, (Exponent(1.0, Scalar(lambda t: t**2)), Exponent(-0.7)))
    early = 1.0 + bump(3.0, end=0.95)
    assert AdaptiveExponents(path, (early, Exponent(-0.7)), t_end=0.95, end=0.95).end == 0.95
