"""Certificates: edges, forms, supports, words and pictures."""

import math
import warnings

import pytest
import torch

from genpath import TimeGrid
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath_compose.certificates import certificate_figure, certify
from genpath_compose.errors import PathCollapseError, PathCollapseWarning
from genpath_compose.experts import FieldExpert, Reward
from genpath_compose.lifted import Lifted
from genpath_compose.precisions import EffectivePrecision
from genpath_compose.radii import envelope, tail_mass_bound, tail_radius_bound
from genpath_compose.repairs import repair
from genpath_compose.supports import Boxes, Everything, check_supports
from genpath_compose.tails import Tail, affine_tail
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

DOUBLE = torch.float64


def expert(tail, name="a", size=1, **more):
    return FieldExpert(lambda t, x: (x, -x), (size,), name, tail=tail, **more)


def still(*precisions, name="a", size=None):
    """An expert with a tail that does not move."""
    p = torch.tensor(precisions, dtype=DOUBLE)
    width = p.shape[-1] if size is None else size
    return expert(Tail(lambda t: p.expand(len(t), *p.shape)), name, width)


COSINE = expert(affine_tail(trigonometric_schedule()), "cosine")
LINEAR = expert(affine_tail(linear_schedule()), "linear")


# -- times ---------------------------------------------------------------------------------------


def test_a_dip_between_the_times_of_the_grid_is_found():
    narrow = Tail(lambda t: (1 - 1.01 * torch.exp(-(((t - 0.5031) / 1e-3) ** 2)))[:, None, None])
    found = certify(expert(narrow).composition(), TimeGrid.uniform(200, 0.0, 0.99))
    assert found.status == "collapses"
    width = 1e-3 * math.sqrt(math.log(1.01))
    assert found.first_violation == pytest.approx(0.5031 - width, abs=1e-8)
    assert found.intervals[0][1] == pytest.approx(0.5031 + width, abs=1e-8)


def test_several_intervals_are_told_apart():
    wave = Tail(lambda t: (0.5 + torch.cos(4 * math.pi * t))[:, None, None])
    found = certify(expert(wave).composition(), t_end=1.0)
    edges = [e for pair in found.intervals for e in pair]
    assert edges == pytest.approx([1 / 6, 1 / 3, 2 / 3, 5 / 6], abs=1e-9)


def test_the_window_of_times_is_respected():
    assert certify(COSINE / LINEAR**0.7, t_end=0.2).status == "exists"
    assert certify(COSINE / LINEAR**0.7, t_start=0.1, t_end=0.3).status == "collapses"
    assert certify(COSINE / LINEAR**0.7, [0.0, 0.1, 0.2]).status == "exists"


def test_unsorted_grids_are_sorted():
    grid = TimeGrid((0.9, 0.5, 0.0))
    assert certify(COSINE.composition(), grid).t_end == 0.9


def test_a_start_that_is_no_law_is_said_to_be_beyond_repair():
    found = certify(COSINE / LINEAR**1.5)
    assert found.first_violation == 0.0
    assert any("no bump repairs it" in reason for reason in found.reasons)
    with pytest.raises(PathCollapseError, match="not repaired by bumps"):
        found.raise_or_warn()


# -- forms ---------------------------------------------------------------------------------------


def test_isotropic_experts_of_equal_cover_have_one_column():
    image = FieldExpert(lambda t, x: (x, -x), (3, 8, 8), "image", tail=COSINE.tail)
    found = certify(image**2)
    assert found.values.shape[1] == 1 and found.method == "axes"


def test_isotropic_components_reduce_to_the_widest():
    pair = still([1.0], [0.25], size=3)
    form = EffectivePrecision(pair.composition())
    assert form.method == "axes"
    assert float(form(torch.tensor([0.5])).lower) == 0.25


def test_diagonal_mixtures_are_decided_between_the_axes():
    # min_j uᵀP_j u over two components is below 1 only between the axes of the denominator
    top = still([1.2, 1.2], name="top")
    bottom = still([0.2, 2.0], [2.0, 0.2], name="bottom")
    found = certify(top / bottom, [0.1, 0.2])
    # C(s) = 1.2 − min(0.2 s + 2(1−s), 2 s + 0.2 (1−s)), s = u_0², is least at s = ½
    assert found.values[0, 0].item() == pytest.approx(0.1, abs=1e-9)
    assert found.lower[0, 0].item() == pytest.approx(0.1, abs=2e-3)
    assert found.status == "exists" and found.method == "mixture"
    assert certify(top / bottom**1.2, [0.1, 0.2]).status == "collapses"


def test_signs_of_exponents_may_change_with_time():
    top, bottom = still([1.0, 2.0], [2.0, 1.0], name="top"), still([1.0, 1.0], name="b")
    found = certify(bottom**1.2 * top ** (lambda t: 2 * t - 1), [0.0, 0.25, 0.5, 0.75, 1.0])
    # at t: 1.2 + γ min(…) for γ > 0 is 1.2 + γ; for γ < 0 the least is at s = ½: 1.2 + 1.5 γ
    true = torch.tensor([-0.3, 0.45, 1.2, 1.7, 2.2], dtype=DOUBLE)
    picked = [int((found.times - t).abs().argmin()) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert torch.allclose(found.values[picked, 0], true, atol=1e-6)


def test_a_dip_of_a_mixture_between_the_times_of_the_grid_is_found():
    pair = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=DOUBLE)

    def precisions(t):
        dip = 1 - 1.01 * torch.exp(-(((t - 0.5031) / 1e-2) ** 2))
        return dip[:, None, None] * pair

    found = certify(expert(Tail(precisions), size=2).composition(), TimeGrid.uniform(50))
    assert found.method == "mixture" and found.status == "collapses"
    # at the bottom the factor of the precisions is −0.01, and the widest is then the narrowest
    assert found.values.min().item() == pytest.approx(-0.02, rel=0.1)


def test_many_components_fall_back_to_crude_bounds():
    round_ = [[1.0 + 0.01 * j, 1.0 + 0.01 * j] for j in range(17)]
    flat = [[0.1 + 0.01 * j, 1.0 + 0.01 * j] for j in range(17)]
    a, b, c = still(*round_, name="a"), still(*round_, name="b"), still(*flat, name="c")
    found = certify(a * b / c**0.8, [0.1, 0.2])  # 17³ choices
    assert found.exists
    assert found.lower[0, 0].item() == pytest.approx(1.2)  # 2 − 0.8 · 1, along the second axis
    assert found.values[0, 0].item() == pytest.approx(1.2)
    assert certify(a * b / c**2.5, [0.1, 0.2]).status == "collapses"


def test_a_matrix_of_one_coordinate_is_a_number():
    flat = certify(still([[2.0]], size=1).composition(), [0.1, 0.2])
    assert flat.method == "axes" and flat.minimum == 2.0


def test_lifted_experts_keep_their_coordinates():
    outer = Lifted(Lifted(COSINE, (1,), 2), (2, 0), 3)
    found = certify(outer.composition(), [0.1, 0.2])
    assert found.blind == (1, 2) and found.status == "collapses"
    assert "no expert sees coordinate 1." in found.reasons


def test_an_exponent_of_zero_sees_nothing():
    found = certify(COSINE.on(0) * LINEAR.on(1) ** 0)
    assert found.status == "collapses" and found.blind == (1,)


def test_a_flat_reward_does_not_decide():
    tilt = Reward(lambda x: torch.tanh(x[:, 0]), (1,))
    assert certify(COSINE * tilt).status == "exists"
    assert certify(tilt.composition()).status == "undecided"


def test_a_missing_tail_is_named():
    found = certify(COSINE / expert(None, "mystery"))
    assert found.status == "undecided" and found.method == "none"
    assert found.reasons == ("the tail of mystery is not known.",)
    assert math.isnan(found.minimum)
    with pytest.raises(CapabilityError, match="mystery"):
        EffectivePrecision(COSINE / expert(None, "mystery"))


def test_a_tail_of_another_size_is_refused():
    with pytest.raises(ShapeError, match="one precision per axis"):
        certify(still([1.0, 2.0], size=3).composition())


# -- the last time -------------------------------------------------------------------------------


def box(low, high):
    return Boxes(torch.tensor([[low]], dtype=DOUBLE), torch.tensor([[high]], dtype=DOUBLE))


def test_at_the_last_time_supports_decide():
    def compact(name, support):
        return expert(affine_tail(linear_schedule()), name, support=support)

    whole, half = compact("whole", box(0.0, 1.0)), compact("half", box(0.0, 0.5))
    assert certify(half**2 / whole, t_end=1.0).status == "exists"
    found = certify(whole**2 / half, t_end=1.0)
    assert found.status == "collapses" and found.first_violation is None
    assert "where half is 0" in " ".join(found.reasons)
    assert certify(whole**2 / compact("x", None), t_end=1.0).status == "undecided"
    before = certify(whole**2 / half)
    assert before.status == "exists" and "not a law" in before.reasons[-1]
    with pytest.warns(PathCollapseWarning, match="where half is 0"):
        before.raise_or_warn()


# -- policies and words --------------------------------------------------------------------------


def test_policies():
    bad, good = certify(COSINE / LINEAR**0.7), certify(COSINE.composition())
    with pytest.raises(PathCollapseError, match=r"collapses at t\* = 0.20731, coordinate 0"):
        bad.raise_or_warn()
    with pytest.warns(PathCollapseWarning, match="collapses"):
        assert bad.raise_or_warn("warn") is bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bad.raise_or_warn("ignore") is bad and good.raise_or_warn() is good
    with pytest.warns(PathCollapseWarning, match="undecided"):
        certify(COSINE / COSINE.named("other")).raise_or_warn()
    with pytest.warns(PathCollapseWarning, match=r"the margin 2 is not kept"):
        certify(COSINE.composition(), margin=2.0).raise_or_warn()
    with pytest.raises(DomainError, match="raise, warn or ignore"):
        good.raise_or_warn("shout")


def test_refusals():
    with pytest.raises(DomainError, match="not negative"):
        certify(COSINE.composition(), margin=-1.0)
    with pytest.raises(DomainError, match="t_start < t_end"):
        certify(COSINE.composition(), t_start=0.5, t_end=0.5)
    with pytest.raises(DomainError, match="two times"):
        certify(COSINE.composition(), [0.5])
    with pytest.raises(DomainError, match="two times"):
        certify(COSINE.composition(), [0.5, 1.5])


def test_the_figure_draws(tmp_path):
    canvas = pytest.importorskip("matplotlib.figure")
    broken = COSINE.on(0) * COSINE.on(1) / LINEAR.on(0) ** 0.7
    mended = repair(broken, margin=0.05, t_end=0.6)
    figure = certificate_figure(mended.before, mended.after)
    page = canvas.Figure(figure.size)
    figure.draw(page)
    page.savefig(tmp_path / "certificate.png")
    axes = page.axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "C0" in labels and "C1, repaired" in labels
    assert len(axes.patches) == len(mended.before.intervals) + 1


# -- supports ------------------------------------------------------------------------------------


def test_unions_cover_together():
    halves = Boxes(
        torch.tensor([[0.0], [0.5]], dtype=DOUBLE), torch.tensor([[0.5], [1.0]], dtype=DOUBLE)
    )
    top = expert(None, "top", support=box(0.0, 1.0))
    assert check_supports(top / expert(None, "low", support=halves)).status == "included"


def test_unbounded_boxes_and_cylinders():
    ray = expert(None, "ray", support=box(0.0, math.inf))
    part = expert(None, "part", support=box(-1.0, 2.0))
    both = expert(None, "both", 2, support=Everything())
    assert check_supports(ray.on(0) * both.on(0, 1) / part.on(0)).status == "violated"
    assert check_supports(part.on(0) * ray.on(1) / part.on(0)).status == "included"
    assert check_supports((ray.on(0) / part.on(1)).sized(2)).status == "violated"
    assert check_supports(ray * part).words == "no denominator vanishes anywhere."


def test_other_predicates_are_tried():
    def ball(radius):
        return lambda x: x.norm(dim=1) < radius

    square = Boxes(-torch.ones(1, 2, dtype=DOUBLE), torch.ones(1, 2, dtype=DOUBLE))
    top = expert(None, "top", 2, support=square)
    found = check_supports(top / expert(None, "small", 2, support=ball(1.2)))
    assert found.status == "violated" and found.point is not None
    assert check_supports(top / expert(None, "large", 2, support=ball(1.5))).status == "undecided"
    lost = expert(None, "lost", 2)
    assert "lost" in check_supports(lost / top).words
    assert "lost" in check_supports(top / lost).words
    inner = expert(None, "inner", 2, support=ball(0.5))
    assert "no numerator has bounded boxes" in check_supports(inner / top.named("low")).words
    points = torch.tensor([[0.4, 0.0], [3.0, 0.0]], dtype=DOUBLE)
    assert check_supports(inner / top, points=points).status == "undecided"


def test_boxes_refuse():
    with pytest.raises(ShapeError, match="lower below upper"):
        Boxes(torch.zeros(1, 1), torch.zeros(1, 1))


# -- radii ---------------------------------------------------------------------------------------


def test_radii_refuse_and_saturate():
    with pytest.raises(DomainError, match="C > 0"):
        tail_radius_bound(1.0, 0.0, 0.0, 1, 0.1)
    with pytest.raises(DomainError, match="0 < ε < 1"):
        tail_radius_bound(1.0, 0.0, 1.0, 1, 1.0)
    assert tail_mass_bound(1.0, 1.0, 1.0, 1.0, 1) == 1.0
    assert tail_radius_bound(1e-9, 1.0, 1.0, 1, 0.5) == 4.0  # not before 4B/C
    with pytest.raises(DomainError, match="σ² \\+ γ² > 0"):
        envelope(linear_schedule(), 1.0, 1.0)
