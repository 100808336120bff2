"""Mixtures and their marginals: shapes, dtypes, ends, refusals, and how they are differentiated."""

from types import SimpleNamespace

import pytest
import torch

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.laws import DensityLaw
from genpath_interpolants.mixtures import (
    FIELDS,
    NEAR_BASE,
    FullMixture,
    GaussianMixture,
    MixtureMarginal,
)
from genpath_interpolants.schedules import (
    encoding_decoding_schedule,
    linear_schedule,
    mirror_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

SCHEDULES = {
    "linear": linear_schedule(),
    "sqrt": linear_schedule("sqrt", 2.0),
    "trigonometric": trigonometric_schedule("sine", 0.5),
    "variance preserving": variance_preserving_schedule(),
    "encoding-decoding": encoding_decoding_schedule(),
    "mirror": mirror_schedule("sqrt", 1.0),
}
FORMS = ("isotropic", "shared", "diagonal", "full")


def make_law(form, dtype=torch.float32, k=3, event=(2,)):
    rng = torch.Generator().manual_seed(0)
    d = int(torch.Size(event).numel())
    weights = torch.full((k,), 1 / k, dtype=dtype)
    means = torch.randn(k, *event, generator=rng, dtype=dtype)
    stds = 0.4 + torch.rand(k, *event, generator=rng, dtype=dtype)
    if form == "isotropic":
        return GaussianMixture(weights, means, torch.linspace(0.5, 1, k, dtype=dtype))
    if form == "shared":
        return GaussianMixture(weights, means, stds[:1].expand_as(stds).clone())
    if form == "diagonal":
        return GaussianMixture(weights, means, stds)
    root = torch.randn(k, d, d, generator=rng, dtype=dtype)
    return FullMixture(weights, means, root @ root.mT + 0.3 * torch.eye(d, dtype=dtype))


def marginal(form="isotropic", schedule="sqrt", dtype=torch.float32, base=None, event=(2,)):
    path = SimpleNamespace(schedule=SCHEDULES[schedule])
    return MixtureMarginal(path, make_law(form, dtype, event=event), base)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_fields_are_finite_keep_dtype_and_take_empty_batches(form, schedule, rng):
    for dtype in (torch.float32, torch.float64):
        one = marginal(form, schedule, dtype)
        for count in (4, 0):
            x = torch.randn(count, 2, generator=rng, dtype=dtype)
            for t in (0.0, 0.5, 1.0, torch.linspace(0, 1, count, dtype=dtype)):
                found = one.fields((*FIELDS, "log_prob"), t, x)
                for name in FIELDS:
                    assert found[name].shape == x.shape and found[name].dtype == dtype
                    assert torch.isfinite(found[name]).all(), (name, t)
                assert found["log_prob"].shape == (count,)
                assert torch.isfinite(found["log_prob"]).all()
            assert one.divergence(0.5, x).shape == (count,)
            assert one.hessian(0.5, x).shape == (count, 2, 2)
            assert one.field("velocity+score")(0.5, x).shape == (count, 2, 2)


@pytest.mark.parametrize("event", [(), (1,), (2, 3)])
@pytest.mark.parametrize("form", FORMS)
def test_events_of_any_shape(event, form, rng):
    one = marginal(form, event=event)
    law = one.mixture
    assert isinstance(law, DensityLaw)
    x = law.sample(5, rng)
    assert x.shape == (5, *event) and law.log_prob(x).shape == (5,)
    assert one.velocity(0.3, x).shape == x.shape
    both = one.field("velocity+score")(0.3, x)
    assert both.shape == (5, 2, *event)
    torch.testing.assert_close(both[:, 0], one.velocity(0.3, x))
    torch.testing.assert_close(both[:, 1], one.score(0.3, x))
    assert one.sample(0.3, 4, rng).shape == (4, *event)


@pytest.mark.parametrize("form", FORMS)
def test_float32_is_near_float64(form, rng):
    x = 2 * torch.randn(500, 2, generator=rng)
    t = torch.rand(500, generator=rng)
    narrow = marginal(form).fields((*FIELDS, "log_prob"), t, x)
    wide = MixtureMarginal(
        SimpleNamespace(schedule=SCHEDULES["sqrt"]), make_law(form).to(torch.float64)
    ).fields((*FIELDS, "log_prob"), t.double(), x.double())
    for name, value in narrow.items():
        size = wide[name].abs().max()
        # a diagonal each divides by β ≥ NEAR_BASE: a rounding of |x| ≤ 8 becomes 8 ε/NEAR_BASE
        solved = 8 * torch.finfo(torch.float32).eps / NEAR_BASE if form == "diagonal" else 0.0
        assert (value - wide[name]).abs().max() < 2e-6 * size + solved, name


@pytest.mark.parametrize("form", FORMS)
def test_one_time_for_all_rows_is_the_same_as_many_equal_times(form, rng):
    x = torch.randn(50, 2, generator=rng, dtype=torch.float64)
    one = marginal(form, dtype=torch.float64)
    for name in FIELDS:
        field = one.field(name)
        many = field(torch.full((50,), 0.4, dtype=torch.float64), x)
        assert torch.allclose(field(0.4, x), many, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(field(torch.tensor(0.4).double().expand(50), x), many)


@pytest.mark.parametrize("form", FORMS)
def test_pieces_of_rows_do_not_see_each_other(form, rng):
    one = marginal(form, dtype=torch.float64)
    one._pairs.at(torch.zeros(0, 2, dtype=torch.float64)).rows = 7
    x, t = torch.randn(30, 2, generator=rng).double(), torch.rand(30, generator=rng).double()
    whole = one.fields(FIELDS, t, x)
    for row in (0, 6, 7, 29):
        single = one.fields(FIELDS, t[row : row + 1], x[row : row + 1])
        for name in FIELDS:
            torch.testing.assert_close(single[name][0], whole[name][row])
    watched = x.clone().requires_grad_()
    differentiable = one.fields(FIELDS, t, watched)
    for name in FIELDS:
        torch.testing.assert_close(differentiable[name].detach(), whole[name])
    differentiable["score"].sum().backward()
    assert torch.isfinite(watched.grad).all()


@pytest.mark.parametrize("form", FORMS)
def test_fields_go_through_vmap_jvp_and_grad(form, rng):
    one = marginal(form, dtype=torch.float64)
    x, t = torch.randn(4, 2, generator=rng).double(), torch.rand(4, generator=rng).double()

    def row(y, s):
        return one.velocity(s[None], y[None])[0]

    jacobian = torch.func.vmap(torch.func.jacrev(row))(x, t)
    torch.testing.assert_close(jacobian, torch.func.vmap(torch.func.jacfwd(row))(x, t))
    trace = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(one.divergence(t, x), trace)


def test_points_have_draws_and_a_path_but_no_density(rng):
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    for stds in (torch.zeros(2), torch.zeros(2, 2), torch.tensor([[0.0, 1.0], [0.0, 1.0]])):
        law = GaussianMixture(torch.ones(2) / 2, means, stds)
        assert law.sample(4, rng)[:, 0].abs().eq(1).all()
        with pytest.raises(DomainError, match="a law with points has no density"):
            law.log_prob(means)
        one = MixtureMarginal(SimpleNamespace(schedule=SCHEDULES["linear"]), law)
        x = torch.tensor([[-0.1, 0.3], [0.7, 0.0], [3.0, 1.0]])
        for t in (0.0, 0.5, 1.0):
            for name in FIELDS:
                assert torch.isfinite(one.field(name)(t, x)).all(), (name, t)
        assert torch.equal(one.denoiser(1.0, x)[:, 0], x[:, 0].sign())
    atoms = MixtureMarginal(
        SimpleNamespace(schedule=SCHEDULES["linear"]),
        GaussianMixture(torch.ones(2) / 2, means, torch.zeros(2)),
    )
    assert torch.equal(atoms.log_prob(1.0, means + 0.5), torch.full((2,), -torch.inf))
    assert torch.equal(atoms.log_prob(1.0, means), torch.full((2,), torch.inf))


def test_a_coupling_of_labels_leaves_out_pairs_of_probability_zero():
    law, base = make_law("isotropic", torch.float64), make_law("isotropic", torch.float64)
    joint = torch.eye(3, dtype=torch.float64) / 3
    one = MixtureMarginal(SimpleNamespace(schedule=SCHEDULES["linear"]), law, base, joint)
    assert one.labels.tolist() == [[0, 0], [1, 1], [2, 2]]
    middle = one.components(0.5)
    torch.testing.assert_close(middle.means, law.means)


ONES = torch.ones(1)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: GaussianMixture(ONES, torch.zeros(2, 1), ONES), ShapeError, "one weight, mean"),
        (lambda: GaussianMixture(0 * ONES, ONES[None], ONES), DomainError, "weights are positive"),
        (lambda: GaussianMixture(2 * ONES, ONES[None], ONES), DomainError, "weights sum to 1"),
        (lambda: GaussianMixture(ONES, ONES[None], -ONES), DomainError, "not negative"),
        (lambda: GaussianMixture(ONES, ONES[None], ONES / 0), DomainError, "stds are finite"),
        (lambda: GaussianMixture(ONES, ONES[None].long(), ONES), DomainError, "floating numbers"),
        (lambda: GaussianMixture(ONES, ONES[None].double(), ONES), DomainError, "one dtype"),
        (
            lambda: GaussianMixture(ONES, ONES[None].to("meta"), ONES),
            DomainError,
            "on one device",
        ),
        (
            lambda: FullMixture(ONES, torch.zeros(1, 2), torch.ones(1, 2, 2)),
            DomainError,
            "positive definite",
        ),
        (
            lambda: FullMixture(ONES, torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.0, 1.0]]])),
            DomainError,
            "symmetric",
        ),
        (lambda: FullMixture(ONES, torch.zeros(1, 2), torch.ones(1, 2)), ShapeError, "covariance"),
        (lambda: marginal().velocity(0.5, torch.zeros(3, 3)), ShapeError, "points of the law"),
        (lambda: marginal().velocity(0.5, torch.zeros(3, 2).long()), DomainError, "floating"),
        (lambda: marginal().velocity(torch.zeros(2), torch.zeros(3, 2)), ShapeError, "per row"),
        (lambda: marginal().field("energy"), CapabilityError, "no field 'energy'"),
        (lambda: marginal().field("velocity+energy"), CapabilityError, "no field 'energy'"),
        (lambda: marginal().fields(["logits"], 0.5, torch.zeros(1, 2)), CapabilityError, "logits"),
        (
            lambda: marginal(base=make_law("isotropic", event=(3,))),
            ShapeError,
            "both laws live on one event",
        ),
    ],
)
def test_refusals(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_a_coupling_has_the_weights_as_sums():
    law = make_law("isotropic")
    path = SimpleNamespace(schedule=SCHEDULES["linear"])
    with pytest.raises(ShapeError, match="one row per component"):
        MixtureMarginal(path, law, law, torch.ones(2, 3) / 6)
    with pytest.raises(DomainError, match="its sums are the weights"):
        MixtureMarginal(path, law, law, torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]))
    with pytest.raises(DomainError, match="not negative"):
        MixtureMarginal(path, law, law, torch.tensor([[1.0, -1, 1], [0, 1, 0], [0, 1, 0]]) / 3)
