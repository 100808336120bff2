r"""Densities along flows, codecs and their log-determinants.

The log-determinant of a solved flow is compared with the Jacobian of the very map that the solver
made, by autograd.
"""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from genpath.codecs import Chain, Dequantise, Identity, Standardise
from genpath.divergences import exact_divergence
from genpath.generators import MarkovGenerator, flow
from genpath.grids import TimeGrid
from genpath.laws import Gaussian, ProductLaw
from genpath.likelihoods import FlowMap, ODELikelihood, SolvedFlow, density_mass, tracked
from genpath.models import Model
from genpath.parts import Parts
from genpath.predictions import Prediction
from genpath.samplers import RungeKutta, integrate
from genpath.spaces import Euclidean, Product
from genpath.tableaus import RK4

from .toys import BOUND, DOUBLE, fitted_order, normal, seeded, z_score

SPACE = Euclidean(3)


def field(t, x):
    t = t.reshape(-1, *[1] * (x.dim() - 1)) if isinstance(t, torch.Tensor) else t
    return torch.sin(x.roll(1, -1)) * x + torch.cos(3 * t) * x


def jacobian(function, x):
    return torch.stack([torch.func.jacrev(lambda v: function(v[None])[0])(row) for row in x])


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0), (0.2, 0.7)])
def test_the_log_determinant_is_that_of_the_jacobian(start, end, rng):
    """Up to the O(h⁴) by which the quadrature of div u differs from the map's own determinant."""
    x = 0.7 * normal(4, 3, rng=rng)
    gen, errors, steps = flow(SPACE, field), [], (10, 20, 40)
    for n in steps:
        grid = TimeGrid.uniform(n, start, end)

        def plain(v, grid=grid):
            return integrate(RungeKutta(RK4), gen, v, grid, seeded()).state

        solve = SolvedFlow(gen, steps=n)
        assert isinstance(solve, FlowMap)
        y, found = solve(start, end, x, seeded())
        assert torch.allclose(y, plain(x), atol=1e-14)
        errors.append((found - torch.linalg.slogdet(jacobian(plain, x))[1]).abs().max())
    assert errors[-1] < 1e-5
    assert fitted_order(steps, errors) > 3.5
    assert (-found - torch.linalg.slogdet(jacobian(plain, x))[1]).abs().max() > 1e-2


def test_a_flow_map_and_its_inverse(rng):
    x = 0.7 * normal(4, 3, rng=rng)
    solve = SolvedFlow(flow(SPACE, field), steps=60)
    y, there = solve(0.0, 1.0, x, seeded())
    back, here = solve(1.0, 0.0, y, seeded())
    assert torch.allclose(back, x, atol=1e-6) and torch.allclose(there, -here, atol=1e-6)
    assert not torch.allclose(y, x, atol=1e-2)


def test_a_flow_of_a_product_tracks_all_its_leaves(rng):
    """The determinant of the joint Jacobian; a leaf left out of the trace is seen."""
    space = Product({"a": Euclidean(2), "b": Euclidean()})

    def joint(t, s):
        a = torch.sin(s["a"]) * s["b"][:, None]
        return {"a": a, "b": s["a"].sum(1) - 0.5 * s["b"] * torch.cos(s["b"])}

    gen = flow(space, joint)
    state = {"a": normal(3, 2, rng=rng), "b": normal(3, rng=rng)}

    def flat(v):
        end = integrate(
            RungeKutta(RK4), gen, {"a": v[:, :2], "b": v[:, 2]}, TimeGrid.uniform(40), seeded()
        )
        return torch.cat([end.state["a"], end.state["b"][:, None]], 1)

    exact = torch.linalg.slogdet(jacobian(flat, torch.cat([state["a"], state["b"][:, None]], 1)))[1]
    solve = SolvedFlow(gen, steps=40)
    end, found = solve(0.0, 1.0, state, rng)
    assert set(end) == {"a", "b"}
    assert torch.allclose(found, exact, atol=1e-6)
    only_a = flow(
        Product({"a": Euclidean(2)}), lambda t, s: {"a": joint(t, {**s, "b": state["b"]})["a"]}
    )
    partial = SolvedFlow(only_a, steps=40)(0.0, 1.0, {"a": state["a"]}, rng)[1]
    assert not torch.allclose(partial, exact, atol=1e-2)
    n = 4000
    many = {name: leaf[:1].repeat(n, *[1] * (leaf.dim() - 1)) for name, leaf in state.items()}
    probed = SolvedFlow(gen, steps=10, divergence="hutchinson")(0.0, 1.0, many, rng)[1]
    few = SolvedFlow(gen, steps=10)(0.0, 1.0, {k: v[:1] for k, v in state.items()}, rng)[1]
    assert abs(z_score(probed - few)) < BOUND
    assert abs(z_score(probed - 2 * few)) > BOUND


def test_the_tracked_log_density_is_an_ordinary_coordinate(rng):
    gen = tracked(flow(SPACE, field))
    state = {"x": normal(3, 3, rng=rng), "log_density": torch.zeros(3, dtype=DOUBLE)}
    rate = gen.apply(lambda s: s["log_density"], 0.3, state)
    assert torch.allclose(
        rate, -exact_divergence(SPACE, field, torch.full((3,), 0.3), state["x"])[1]
    )


# -- models ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plain:
    """The least of a path that an ODE's likelihood needs: a space, and a velocity."""

    space: object
    rules: tuple = ()

    @property
    def predictions(self):
        return {"velocity": Prediction("velocity", self.space.event_shape, True, "u")}


def affine(x, t):
    """ẋ = a(t) x + b(t): x1 = e^{A} x0 + B, so the model's law is normal."""
    return (1 + t)[:, None] * x + torch.cos(t)[:, None]


def affine_law():
    """A = 3/2; B = ∫ e^{A − s − s²/2} cos s ds by a fine trapezoidal rule."""
    s = torch.linspace(0, 1, 20_001, dtype=DOUBLE)
    shift = torch.trapezoid(torch.exp(1.5 - s - 0.5 * s**2) * torch.cos(s), s)
    return torch.distributions.Normal(shift, math.exp(1.5) * torch.ones((), dtype=DOUBLE))


BASE = Gaussian((2,), dtype=DOUBLE)
MODEL = Model(lambda t, x: affine(x, t), Plain(Euclidean(2)), BASE)


def test_the_likelihood_of_an_affine_flow(rng):
    y = 3 * normal(6, 2, rng=rng)
    exact = affine_law().log_prob(y).sum(1)
    found = ODELikelihood(steps=40)(MODEL, y, rng)
    assert found.kind == "exact" and not found.standard_error.any()
    assert torch.allclose(found.value, exact, atol=1e-6)
    wide = replace(MODEL, base=Gaussian((2,), std=1.1, dtype=DOUBLE))
    assert not torch.allclose(ODELikelihood(steps=40)(wide, y, rng).value, exact, atol=1e-2)


def test_probes_are_unbiased_with_an_honest_standard_error(rng):
    """On a flow with a shear, whose probes vary; z over data, and errors that match the scatter."""
    shear = torch.tensor([[0.5, 2.0], [-1.0, -0.3]], dtype=DOUBLE)
    model = replace(MODEL, network=lambda t, x: x @ shear.T)
    y = normal(1, 2, rng=rng).expand(500, 2)
    exact = ODELikelihood(steps=10)(model, y[:1], rng).value
    found = ODELikelihood(steps=10, divergence="hutchinson", probes=4)(model, y, rng)
    assert found.kind == "unbiased for log p"
    assert abs(z_score(found.value - exact)) < BOUND
    assert abs(z_score(found.value - exact - 2 * shear.trace())) > BOUND
    ratio = float((found.standard_error**2).mean() / found.value.var())
    assert abs(ratio - 1) < 0.25


def test_codecs_shift_the_density_by_their_log_determinant(rng):
    """p_data(y) = p_state(encode y)|det|: the same law standardised by hand."""
    codec = Standardise(
        torch.tensor([1.0, -2.0], dtype=DOUBLE), torch.tensor([0.5, 3.0], dtype=DOUBLE)
    )
    y = 3 * normal(6, 2, rng=rng)
    law = affine_law()
    exact = (law.log_prob((y - codec.mean) / codec.std) - codec.std.log()).sum(1)
    found = ODELikelihood(steps=40)(replace(MODEL, codec=codec), y, rng).value
    assert torch.allclose(found, exact, atol=1e-6)
    assert not torch.allclose(ODELikelihood(steps=40)(MODEL, y, rng).value, exact, atol=1e-2)


def standardise(mean, std):
    return Standardise(torch.tensor(mean, dtype=DOUBLE), torch.tensor(std, dtype=DOUBLE))


CODECS = {
    "identity": Identity(),
    "standardise": standardise([1.0, -2.0], [0.5, 3.0]),
    "chain": Chain([standardise([1.0, -2.0], [0.5, 3.0]), standardise(0.3, 2.0)]),
}


@pytest.mark.parametrize("name", CODECS)
def test_an_exact_codec_goes_round_with_its_log_determinant(name, rng):
    codec, y = CODECS[name], normal(5, 2, rng=rng)
    assert codec.exact
    state, log_det = codec.encode(y, rng)
    assert torch.allclose(codec.decode(state), y, atol=1e-13)
    exact = torch.linalg.slogdet(jacobian(lambda v: codec.encode(v, rng)[0], y))[1]
    assert torch.allclose(log_det, exact, atol=1e-13)
    if name != "identity":
        assert not torch.allclose(-log_det, exact, atol=1e-2)


def test_standardise_fits_the_rows_and_bounds_constant_coordinates(rng):
    rows = torch.cat([3 + 2 * normal(500, 1, rng=rng), torch.full((500, 1), 4.0, dtype=DOUBLE)], 1)
    state = Standardise.fit(rows, floor=0.5).encode(rows, rng)[0]
    assert torch.allclose(state.mean(0), torch.zeros(2, dtype=DOUBLE), atol=1e-12)
    assert torch.allclose(state.std(0, correction=0), torch.tensor([1.0, 0.0], dtype=DOUBLE))


def test_dequantised_levels_go_round_and_stay_in_range(rng):
    codec = Dequantise(levels=17, scale=2.0)
    y = torch.randint(17, (1000, 3), generator=rng).double()
    state, _ = codec.encode(y, rng)
    assert torch.equal(codec.decode(state), y)
    assert state.abs().max() <= 2 and not codec.exact
    shifted = codec.decode(state + 2 * 2.0 / 17)
    assert not torch.equal(shifted, y)


def test_dequantisation_bounds_the_mass_from_below(rng):
    """E_u log p(y + u) ≤ log ∫ p over the cell, and they agree as cells get narrow (Jensen)."""
    law, n = (
        torch.distributions.Normal(torch.tensor(0.1).double(), torch.tensor(0.4).double()),
        20_000,
    )
    for levels, closest in ((4, 0.3), (64, 2e-3)):
        codec = Dequantise(levels)
        y = torch.arange(levels).double()
        edges = 2 * torch.arange(levels + 1).double() / levels - 1
        exact = law.cdf(edges).diff().log()
        state, log_det = codec.encode(y.repeat(n)[:, None], rng)
        values = (law.log_prob(state[:, 0]) + log_det).reshape(n, levels)
        error = values.std(0) / n**0.5
        assert (values.mean(0) < exact + BOUND * error).all()
        middle = slice(levels // 4, 3 * levels // 4)
        gap = (exact - values.mean(0))[middle]
        assert gap.max() < closest + BOUND * error.max()
        forgotten = values.mean(0) - 2 * log_det[0]
        assert (forgotten[middle] > exact[middle] + BOUND * error[middle]).all()


def test_encodings_make_a_lower_bound_with_a_standard_error(rng):
    model = replace(MODEL, codec=Dequantise(8, scale=3.0))
    y = torch.randint(8, (200, 2), generator=rng).double()
    found = ODELikelihood(steps=8, encodings=8)(model, y, rng)
    assert found.kind == "lower bound" and bool((found.standard_error > 0).all())
    edges = 3 * (2 * torch.arange(9).double() / 8 - 1)
    masses = affine_law().cdf(edges).diff().log()[y.long()].sum(1)
    assert z_score(found.value - masses) < BOUND
    assert z_score(found.value - masses + 0.5) > BOUND


def test_a_product_law_adds_its_factors(rng):
    law = ProductLaw({"a": BASE, "b": Gaussian((), mean=1.0, dtype=DOUBLE)})
    draw = law.sample(5, rng)
    exact = BASE.log_prob(draw["a"]) + torch.distributions.Normal(1.0, 1.0).log_prob(draw["b"])
    assert torch.allclose(law.log_prob(draw), exact, atol=1e-12)


def test_only_flows_are_tracked():
    noisy = MarkovGenerator(SPACE, lambda t, x: Parts(potential=x[:, 0]), frozenset({"potential"}))
    with pytest.raises(TypeError, match="log-densities are tracked along a flow"):
        tracked(noisy)


def test_the_density_that_scores_belongs_to_the_map_that_samples(rng, monkeypatch):
    """∫ p dx = 1, to the solver's order; a divergence that is 1 % too large is seen."""
    base, gen = Gaussian((3,), dtype=DOUBLE), flow(SPACE, field)
    errors = []
    for steps in (10, 20, 40):
        mass, _ = density_mass(SolvedFlow(gen, RungeKutta(RK4), steps), base, 200, rng)
        errors.append(abs(mass - 1))
    assert errors[-1] < 1e-5
    assert fitted_order([10, 20, 40], errors) > 2.5  # of RK4, at points that differ

    def faulty(*arguments):
        value, divergence = exact_divergence(*arguments)
        return value, 1.01 * divergence

    monkeypatch.setattr("genpath.likelihoods.exact_divergence", faulty)
    mass, _ = density_mass(SolvedFlow(gen, RungeKutta(RK4), 40), base, 200, rng)
    assert abs(mass - 1) > 1e-3 > 10 * errors[-1]
