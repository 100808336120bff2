"""Experts and compositions: derived fields, the language, coordinates, starts, and refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genpath import Euclidean, Gaussian, Model
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.schedules import Scalar
from genpath_compose import components
from genpath_compose.alignment import aligned
from genpath_compose.components import boxes
from genpath_compose.compositions import Composition, parse
from genpath_compose.experts import ExactExpert, Expert, FieldExpert, Reward
from genpath_compose.exponents import Exponent, exponent
from genpath_compose.lifted import Lifted, Reparameterised
from genpath_compose.model_experts import ModelExpert
from genpath_compose.normals import Normal, power_product
from genpath_compose.tails import affine_tail, flat_tail
from genpath_interpolants import GaussianMixture, LinearPath, MixtureMarginal
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

DOUBLE = torch.float64
NAMES = ("velocity", "score", "velocity_divergence", "score_divergence")


def bent(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """A velocity and a score with Jacobians that are not symmetric."""
    turned = torch.tanh(x @ torch.tensor([[0.5, -1.0], [2.0, 0.3]], dtype=x.dtype))
    return t[:, None] * turned, x.roll(1, 1) * x


def plain(name: str, size: int = 1, **options: object) -> FieldExpert:
    return FieldExpert(lambda t, x: (0 * x, -x), (size,), name, **options)


KNOWN: dict[str, Expert] = {name: plain(name) for name in "abc"}


# -- fields ----------------------------------------------------------------------------------------


def test_divergences_are_traces_of_jacobians():
    one = FieldExpert(bent, (2,))
    t, x = torch.rand(5, dtype=DOUBLE), torch.randn(5, 2, dtype=DOUBLE)
    found = one.fields(NAMES, t, x)
    for index, name in enumerate(("velocity", "score")):
        jacobian = torch.func.vmap(
            torch.func.jacrev(lambda s, y, i=index: bent(s[None], y[None])[i][0], argnums=1)
        )(t, x)
        trace = jacobian.diagonal(dim1=1, dim2=2).sum(1)
        torch.testing.assert_close(found[f"{name}_divergence"], trace)
        probe = torch.randn(5, 2, dtype=DOUBLE)
        along = one.fields((f"{name}_divergence",), t, x, probe)[f"{name}_divergence"]
        torch.testing.assert_close(along, torch.einsum("bi,bij,bj->b", probe, jacobian, probe))


def test_all_fields_take_one_evaluation():
    calls = []

    def counted(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(x))
        return bent(t, x)

    FieldExpert(counted, (2,)).fields(NAMES, torch.rand(3), torch.randn(3, 2))
    assert len(calls) == 1


def test_a_field_that_is_missing_is_named():
    with pytest.raises(CapabilityError, match="no field 'log_prob'"):
        plain("a").log_prob(torch.zeros(1), torch.zeros(1, 1))
    with pytest.raises(CapabilityError, match="no field 'curl'"):
        plain("a").fields(("curl",), torch.zeros(1), torch.zeros(1, 1))


def test_a_model_is_called_once_with_its_facts():
    seen = []

    def network(t: Tensor, state: dict[str, Tensor]) -> Tensor:
        seen.append(state["label"].tolist())
        return -state["x"]

    path = LinearPath(Euclidean(2), base="gaussian")
    model = Model(network, path, Gaussian((2,)), "velocity")
    one = ModelExpert(model, "digits", facts={"label": 3})
    t, x = torch.full((2,), 0.5), torch.randn(2, 2)
    found = one.fields(("velocity", "score"), t, x)
    assert seen == [[3, 3]]
    torch.testing.assert_close(found["velocity"], -x)
    # s = −E[x0|x]/α with E[x0|x] = x − t v
    torch.testing.assert_close(found["score"], -(x + 0.5 * x) / 0.5)
    assert one.start is not None and one.tail is not None
    torch.testing.assert_close(one.tail.precisions(t).flatten(), torch.full((2,), 4.0))


def test_an_exact_expert_agrees_with_its_own_closed_divergence_and_the_derived_one():
    law = GaussianMixture(
        torch.ones(2, dtype=DOUBLE) / 2,
        torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=DOUBLE),
        torch.tensor([0.5, 0.8], dtype=DOUBLE),
    )
    marginal = MixtureMarginal(LinearPath(Euclidean(2), base="gaussian"), law)
    one = ExactExpert(marginal, (2,))
    other = FieldExpert(one.both, (2,))
    t, x = torch.rand(6, dtype=DOUBLE), torch.randn(6, 2, dtype=DOUBLE)
    for probe in (None, torch.randn(6, 2, dtype=DOUBLE)):
        found, reference = (e.fields(NAMES, t, x, probe) for e in (one, other))
        for name in NAMES:
            torch.testing.assert_close(found[name], reference[name])


def test_a_reward_stands_still_and_pushes_along_its_gradient():
    one = Reward(lambda x: x[:, 0] * x[:, 1], (2,))
    x = torch.tensor([[2.0, 3.0]])
    found = one.fields((*NAMES, "log_prob"), torch.zeros(1), x)
    assert found["velocity"].abs().max() == 0 and found["score"].tolist() == [[3.0, 2.0]]
    assert found["log_prob"].tolist() == [6.0] and found["score_divergence"].tolist() == [0.0]
    assert one.tail is not None and one.tail.precisions(torch.zeros(1)).max() == 0


# -- the language ----------------------------------------------------------------------------------


def test_powers_of_one_expert_add_up():
    a, b = KNOWN["a"], KNOWN["b"]
    assert str(a**1.4 * b / a) == "a^(0.4) · b^(1)"
    assert str((a * b) ** 2 / b**0.5) == "a^(2) · b^(1.5)"
    assert str(a.on(0) * a.on(1)) == "a[0]^(1) · a[1]^(1)"


def test_a_moving_power_of_a_moving_power():
    t = torch.tensor([0.25], dtype=DOUBLE)
    one = exponent(lambda s: s**2) * Exponent(1.0, Scalar(lambda s: 3 * s)) + 0.5
    torch.testing.assert_close(one(t), t**2 * (1 + 3 * t) + 0.5)
    torch.testing.assert_close(one.rate(t), 2 * t + 9 * t**2)
    torch.testing.assert_close((-one).rate(t), -one.rate(t))
    assert (Exponent(2.0) * Exponent(3.0)).words() == "6" and (0.0 * one).is_constant
    with pytest.raises(DomainError, match="an exponent is finite"):
        Exponent(float("nan"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a ** 1.4 * b / c", "a^(1.4) · b^(1) · c^(-1)"),
        ("(a / b) ** -(1 / 2)", "a^(-0.5) · b^(0.5)"),
        ("a[2] * b[0]", "a[2]^(1) · b[0]^(1)"),
        ("  a\n", "a^(1)"),
    ],
)
def test_text_reads_as_it_is_written(text, words):
    assert str(parse(text, KNOWN)) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a * d", "there is no expert 'd'(.|\n)*the experts are: a, b, c"),
        ("a ** b", "a power is a number"),
        ("a + b", "'a \\+ b' is no composition"),
        ("2 * a", "'2' is no composition"),
        ("a(3)", "no preset 'a'"),
        ("__import__('os').system('true')", "is no composition"),
        ("a[0.5]", "coordinates are whole numbers"),
        ("a ** ", "cannot be read"),
        ("", "cannot be read"),
        ("a ** 'x'", "a power is a number"),
    ],
)
def test_text_that_is_no_composition(text, words):
    with pytest.raises(DomainError, match=words):
        parse(text, KNOWN)


def test_coordinates_belong_to_one_expert():
    with pytest.raises(DomainError, match="coordinates belong to one expert"):
        parse("a[0]", {"a": KNOWN["a"] * KNOWN["b"]})


# -- compositions ----------------------------------------------------------------------------------


def test_the_size_is_that_of_the_largest_index_unless_it_is_given():
    a, b = KNOWN["a"], KNOWN["b"]
    assert (a.on(0) * b.on(3)).event_shape == (4,)
    assert (a.on(0) * b.on(1)).sized(5).event_shape == (5,)
    assert (a.on(1) * plain("wide", 3)).event_shape == (3,)


def test_experts_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match="a \\(1,\\), wide \\(2,\\)"):
        (KNOWN["a"] * plain("wide", 2)).event_shape  # noqa: B018
    with pytest.raises(DomainError, match="one expert or more"):
        Composition(())
    with pytest.raises(TypeError):
        KNOWN["a"].composition() * 3  # type: ignore[operator]


def test_lifting_refuses_wrong_coordinates():
    with pytest.raises(ShapeError, match="one axis of the state for each axis"):
        Lifted(plain("wide", 2), (0,), 3)
    with pytest.raises(DomainError, match="different indices below 3"):
        Lifted(plain("wide", 2), (1, 1), 3)
    with pytest.raises(DomainError, match="give the composition a larger size"):
        Lifted(plain("wide", 2), (0, 3), 3)


def test_clocks_run_forward_in_the_unit_interval():
    with pytest.raises(DomainError, match="a clock increases"):
        Reparameterised(KNOWN["a"], Scalar(lambda t: 1 - t))
    with pytest.raises(DomainError, match="a clock increases"):
        Reparameterised(KNOWN["a"], Scalar(lambda t: 2 * t))
    late = Reparameterised(
        plain("a", start=Normal.isotropic((1,))), Scalar(lambda t: 0.2 + 0.8 * t)
    )
    assert late.start is None  # q at 0.2 is not the start of the expert


# -- starts and tails ------------------------------------------------------------------------------


def test_the_start_of_a_composition_is_a_product_of_powers():
    wide, standard = Normal.isotropic((1,), 1.0, 2.0), Normal.isotropic((1,))
    a, b = plain("a", start=standard), plain("b", start=wide)
    law, _ = (a.on(0) ** 2 * b.on(0) * a.on(1)).start()
    assert law.precision.tolist() == [2.25, 1.0]
    torch.testing.assert_close(law.mean, torch.tensor([0.25 / 2.25, 0.0], dtype=DOUBLE))


def test_a_start_that_is_no_law_is_refused_in_words():
    a, b = (plain(name, start=Normal.isotropic((1,))) for name in "ab")
    with pytest.raises(DomainError, match="nothing that happens later repairs it"):
        (a / b**1.2).start()
    with pytest.raises(DomainError, match="in coordinate 1"):
        a.on(0).sized(2).start()
    with pytest.raises(CapabilityError, match="starts where its experts do"):
        KNOWN["a"].composition().start()


def test_the_normaliser_of_a_product_in_double_precision():
    zero, one = torch.zeros(1, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE)
    _, log_z = power_product([(zero, one), (one, 2 * one)], [1.5, -0.4])
    grid = torch.linspace(-30, 30, 60_001, dtype=DOUBLE)
    first = -0.5 * grid**2 - 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=DOUBLE))
    second = -((grid - 1) ** 2) + 0.5 * torch.log(torch.tensor(1 / torch.pi, dtype=DOUBLE))
    total = torch.exp(1.5 * first - 0.4 * second).sum() * (60 / 60_000)
    assert log_z == pytest.approx(float(total.log()), abs=1e-10)


def test_normal_laws_refuse_what_they_are_not():
    with pytest.raises(DomainError, match="precisions are positive"):
        Normal(torch.zeros(1), torch.zeros(1))
    with pytest.raises(ShapeError, match="one precision per coordinate"):
        Normal(torch.zeros(1), torch.ones(2))


def test_tails_of_compact_data():
    t = torch.tensor([0.0, 0.5], dtype=DOUBLE)
    tail = affine_tail(trigonometric_schedule(), 2.0, radius=3.0)
    torch.testing.assert_close(
        tail.precisions(t).flatten(), 1 / (4 * torch.tensor([1.0, 0.5]).double())
    )
    assert tail.linear is not None
    torch.testing.assert_close(tail.linear(t), 3 * torch.tensor([0.0, 0.5**0.5 / 2]).double())
    assert affine_tail(linear_schedule()).linear is None
    assert flat_tail().precisions(t).shape == (2, 1, 1)


def test_a_renamed_expert_keeps_what_it_is():
    """Its schedule, coordinates and clock: an aligned one can be aligned again."""
    inner = boxes([[-1.0]], [[1.0]], None, "linear")
    moved = aligned(inner, trigonometric_schedule()).named("moved")
    assert (moved.name, moved.affine) == ("moved", trigonometric_schedule())
    back = aligned(moved, linear_schedule())
    t, x = torch.tensor([0.4], dtype=torch.float64), torch.tensor([[0.3]], dtype=torch.float64)
    assert torch.allclose(back.score(t, x), inner.score(t, x), atol=1e-10)
    lifted = Lifted(inner, (1,), 3).named("part")
    assert (lifted.name, lifted.event_shape) == ("part[1]", (3,))
    slow = Reparameterised(inner, Scalar(lambda t: t * t)).named("slow")
    assert slow.name == "slow" and slow.support is inner.support


def test_the_tail_of_a_run_is_as_wide_as_its_data_are_said_to_be(monkeypatch):
    """α² + β² s² in place of α², at t = ½ of the linear path: 1/(¼ + ¼ · 4)."""
    path = LinearPath(Euclidean(1), base="gaussian")
    model = Model(lambda t, x: -x, path, Gaussian((1,)), "velocity")
    monkeypatch.setattr(components, "load_model", lambda folder: model)
    half = torch.tensor([0.5], dtype=torch.float64)
    for std, expected in ((None, 4.0), (2.0, 0.8)):
        tail = components.run("anywhere", std, None).tail
        assert tail is not None and torch.allclose(
            tail.precisions(half), torch.tensor(expected).double()
        )


@pytest.mark.parametrize(
    ("base", "law", "known"),
    [("gaussian", Gaussian((1,)), True), ("any", Gaussian((1,)), False),
     ("gaussian", Gaussian((1,), std=2.0), False)],
)  # fmt: skip
def test_a_model_states_its_schedule_where_it_starts_from_standard_noise(base, law, known):
    """Pairs that depend on each other, or another base, cannot be run on another schedule."""
    path = LinearPath(Euclidean(1), base=base)
    predict = "velocity" if base == "gaussian" else "velocity+score"
    if predict not in path.predictions:
        path = LinearPath(Euclidean(1), linear_schedule("sqrt"), base)
    model = Model(
        lambda t, x: torch.stack([x, -x], 1) if "+" in predict else -x, path, law, predict
    )
    assert (ModelExpert(model).affine is not None) == known
