r"""What a Markov generator is: L_t f and (L_t* p)/p against closed forms, autograd and matrices.

The library differentiates along directions; the answers here are written with gradients and
Hessians of torch.func, or with dense rate matrices. Every check has a control.
"""

from dataclasses import replace

import pytest
import torch

from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator, coupled, flow, product
from genpath.jumps import AtomJumps, RateJumps, SumJumps
from genpath.noises import DiagonalNoise, MatrixFreeNoise, MatrixNoise, ScalarNoise
from genpath.parts import Parts
from genpath.schedules import Scalar
from genpath.spaces import Euclidean, Product

from .toys import BOUND, DOUBLE, RATES, Letters, chain, normal, rate_matrix

PLANE = Euclidean(2)
BOTH = frozenset({"velocity", "diffusion"})


def field(t, x):
    return torch.stack([torch.sin(x[:, 1]) - t * x[:, 0], x[:, 0] * x[:, 1]], 1)


def sigma(x):
    """A matrix σ (batch, 2, 3) that depends on the state."""
    one = torch.ones_like(x[:, 0])
    top = torch.stack([1 + 0.3 * torch.cos(x[:, 1]), 0.2 * x[:, 0], 0.5 * one], 1)
    bottom = torch.stack([0.4 * x[:, 1], one, 0.1 * x[:, 0] * x[:, 1]], 1)
    return torch.stack([top, bottom], 1)


def diffusion():
    def evaluate(t, x):
        return Parts(field(t, x), MatrixNoise(sigma(x), uniform=False))

    return MarkovGenerator(PLANE, evaluate, BOTH)


def smooth(x):
    return torch.sin(x[:, 0]) * x[:, 1] + torch.exp(-0.5 * x[:, 0] ** 2) + x[:, 1] ** 3


def log_p(x):
    """A density that is far from normal; not normalised, which (L*p)/p does not see."""
    wave = 0.7 * torch.sin(x[:, 0] * x[:, 1])
    return -0.5 * (x**2).sum(1) - 0.1 * x[:, 0] ** 4 + wave


def gradient(f, x):
    return torch.func.vmap(torch.func.grad(lambda y: f(y[None])[0]))(x)


def hessian(f, x):
    return torch.func.vmap(torch.func.hessian(lambda y: f(y[None])[0]))(x)


# -- diffusions --------------------------------------------------------------------------------


def test_ornstein_uhlenbeck_in_closed_form(rng):
    """dX = −AX dt + B dW: L|x|² = −2x·Ax + tr BBᵀ; the stationary normal law has L*p = 0."""
    a = torch.tensor([[1.0, 0.5], [0.0, 2.0]], dtype=DOUBLE)
    b = torch.tensor([[0.7, 0.2], [0.0, 1.1]], dtype=DOUBLE)
    gen = MarkovGenerator(
        PLANE, lambda t, x: Parts(-x @ a.T, MatrixNoise(b.expand(len(x), 2, 2))), BOTH
    )
    x = normal(10, 2, rng=rng)
    exact = -2 * (x * (x @ a.T)).sum(1) + (b @ b.T).trace()
    assert torch.allclose(gen.apply(lambda y: (y**2).sum(1), 0.0, x), exact, atol=1e-12)
    eye = torch.eye(2, dtype=DOUBLE)  # A C + C Aᵀ = B Bᵀ
    c = torch.linalg.solve(torch.kron(a, eye) + torch.kron(eye, a), (b @ b.T).flatten()).reshape(
        2, 2
    )
    inverse = torch.linalg.inv(c)
    stationary = lambda y: -0.5 * ((y @ inverse) * y).sum(1)  # noqa: E731
    assert gen.adjoint(stationary, 0.0, x).abs().max() < 1e-12
    assert gen.adjoint(lambda y: 1.05 * stationary(y), 0.0, x).abs().max() > 1e-2


@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
def test_events_of_any_shape(shape, rng):
    """L|x|² = 2x·u + σ² d and the heat equation's adjoint, for numbers, vectors and arrays."""
    space = Euclidean(*shape)
    noise = {
        "uniform": lambda x: ScalarNoise(0.6),
        "per row": lambda x: ScalarNoise(0.6 * torch.ones_like(x.reshape(len(x), -1)[:, 0]), False),
        "diagonal": lambda x: DiagonalNoise(0.6 * torch.ones_like(x), uniform=False),
    }
    x = normal(5, *shape, rng=rng)
    total = lambda y: (y**2).reshape(len(y), -1).sum(1)  # noqa: E731
    for name, make in noise.items():
        gen = MarkovGenerator(space, lambda t, x, make=make: Parts(-x, make(x)), BOTH)
        exact = -2 * total(x) + 0.36 * space.dimension
        assert torch.allclose(gen.apply(total, 0.0, x), exact, atol=1e-12), name
        stationary = lambda y: -total(y) / 0.36  # noqa: E731
        assert gen.adjoint(stationary, 0.0, x).abs().max() < 1e-11, name
        assert gen.adjoint(lambda y: -total(y), 0.0, x).abs().max() > 1e-2, name


def test_a_matrix_free_map_is_the_matrix(rng):
    x = normal(6, 2, rng=rng)
    b = torch.tensor([[0.7, 0.2], [-0.3, 1.1]], dtype=DOUBLE)
    matrix = MatrixNoise(b.expand(6, 2, 2))
    dense = MarkovGenerator(PLANE, lambda t, x: Parts(diffusion=matrix), frozenset({"diffusion"}))
    free = replace(dense, evaluate=lambda t, x: Parts(diffusion=MatrixFreeNoise(lambda n: n @ b.T)))
    turned = replace(dense, evaluate=lambda t, x: Parts(diffusion=MatrixFreeNoise(lambda n: n @ b)))
    assert torch.allclose(dense.apply(smooth, 0.0, x), free.apply(smooth, 0.0, x), atol=1e-12)
    assert not torch.allclose(dense.apply(smooth, 0.0, x), turned.apply(smooth, 0.0, x), atol=1e-2)


# -- jumps -------------------------------------------------------------------------------------


def test_jumps_on_two_sites_are_the_kronecker_sum(rng):
    """L f = (Q⊕Q) f and (L*p)/p = (Q⊕Q)ᵀp / p on the nine states of two sites."""
    gen, space = chain(RATES, (2,)), Letters(3, (2,))
    q, eye = rate_matrix(RATES), torch.eye(3, dtype=DOUBLE)
    joint = torch.kron(q, eye) + torch.kron(eye, q)
    states = space.all()
    values, p = normal(9, rng=rng), torch.rand(9, generator=rng, dtype=DOUBLE) + 0.1
    index = lambda x: 3 * x[:, 0] + x[:, 1]  # noqa: E731
    f, log_density = (lambda x: values[index(x)]), (lambda x: p[index(x)].log())
    assert torch.allclose(gen.apply(f, 0.0, states), joint @ values, atol=1e-12)
    assert torch.allclose(gen.adjoint(log_density, 0.0, states), joint.T @ p / p, atol=1e-12)
    assert not torch.allclose(gen.adjoint(log_density, 0.0, states), joint @ p / p, atol=1e-2)


def test_the_entry_of_the_present_letter_does_not_count():
    x = torch.tensor([0, 1, 2])
    with_diagonal = RateJumps(RATES + 7 * torch.eye(3, dtype=DOUBLE), x)
    assert torch.equal(with_diagonal.intensity(), RATES.sum(1))


def test_a_sum_of_jump_parts_draws_from_each_by_its_rate(rng):
    n = 60_000
    x = torch.zeros(n, dtype=torch.long)
    first = RateJumps(torch.tensor([0.0, 1.0, 0.5], dtype=DOUBLE).expand(n, 3), x)
    second = RateJumps(torch.tensor([0.0, 0.2, 2.3], dtype=DOUBLE).expand(n, 3), x)
    both = SumJumps((first, second))
    assert torch.allclose(both.intensity(), torch.full((n,), 4.0, dtype=DOUBLE))
    share = (both.targets(rng) == 1).double()
    z = lambda p: (share.mean() - p) / (p * (1 - p) / n) ** 0.5  # noqa: E731
    assert abs(z(1.2 / 4)) < BOUND
    assert abs(z(0.5 * (1 / 1.5 + 0.2 / 2.5))) > BOUND, "not one or the other with equal chance"
    targets, rates = both.atoms(x)
    assert torch.allclose((rates * (targets == 2)).sum(0), torch.full((n,), 2.8, dtype=DOUBLE))


def test_atoms_jump_together():
    """L f = Σ_k r_k (f(y_k) − f(x)) for jumps of the whole state."""
    x = torch.tensor([[0.5, 1.0], [2.0, -1.0]], dtype=DOUBLE)
    targets = torch.stack([-x, x + 1])
    rates = torch.tensor([[1.0, 2.0], [0.5, 3.0]], dtype=DOUBLE)
    gen = MarkovGenerator(
        PLANE, lambda t, x: Parts(jumps=AtomJumps(targets, rates)), frozenset({"jumps"})
    )
    exact = rates[0] * (smooth(-x) - smooth(x)) + rates[1] * (smooth(x + 1) - smooth(x))
    assert torch.allclose(gen.apply(smooth, 0.0, x), exact, atol=1e-12)


# -- linear algebra ----------------------------------------------------------------------------


def test_generators_are_linear(rng):
    x, t = normal(8, 2, rng=rng), torch.rand(8, generator=rng, dtype=DOUBLE)
    left, right = diffusion(), flow(PLANE, lambda t, x: torch.cos(x))
    value = lambda gen: gen.apply(smooth, t, x)  # noqa: E731
    combined = 2.0 * left + right * (lambda t: 1 + t)
    exact = 2 * value(left) + (1 + t) * value(right)
    assert torch.allclose(value(combined), exact, atol=1e-11)
    dual = lambda gen: gen.adjoint(log_p, t, x)  # noqa: E731
    assert torch.allclose(dual(combined), 2 * dual(left) + (1 + t) * dual(right), atol=1e-10)
    doubled_noise = left + replace(
        left, evaluate=lambda t, x: Parts(diffusion=MatrixNoise(sigma(x), False)),
        has=frozenset({"diffusion"}),
    )  # fmt: skip
    assert not torch.allclose(value(doubled_noise), value(left), atol=1e-2)
    assert torch.allclose(
        value(doubled_noise) - value(left), value(left) - value(flow(PLANE, field)), atol=1e-11
    )


def test_jump_rates_scale_and_add():
    states = torch.arange(3)
    values = torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE)
    f = lambda x: values[x]  # noqa: E731
    q, other = rate_matrix(RATES), RATES.T
    combined = 0.5 * chain(RATES) + (lambda t: 2 * t) * chain(other)
    exact = 0.5 * q @ values + 2 * 0.3 * rate_matrix(other) @ values
    assert torch.allclose(combined.apply(f, 0.3, states), exact, atol=1e-12)
    p = torch.tensor([0.2, 0.5, 0.3], dtype=DOUBLE)
    dual = 0.5 * q.T @ p / p + 0.6 * rate_matrix(other).T @ p / p
    assert torch.allclose(combined.adjoint(lambda x: p[x].log(), 0.3, states), dual, atol=1e-12)


def test_a_time_change_runs_the_generator_by_its_clock(rng):
    """τ̇(s) L_{τ(s)} for flow, noise and jumps; the control forgets τ̇ or τ."""
    clock = Scalar(lambda s: s**2)
    x, s = normal(8, 2, rng=rng), 0.1 + 0.8 * torch.rand(8, generator=rng, dtype=DOUBLE)
    gen = diffusion()
    found = gen.time_change(clock).apply(smooth, s, x)
    assert torch.allclose(found, 2 * s * gen.apply(smooth, s**2, x), atol=1e-11)
    assert not torch.allclose(found, gen.apply(smooth, s**2, x), atol=1e-2)
    assert not torch.allclose(found, 2 * s * gen.apply(smooth, s, x), atol=1e-4)
    states, values = torch.arange(3), torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE)
    jumps = chain(RATES).time_change(clock)
    exact = 0.8 * rate_matrix(RATES) @ values
    assert torch.allclose(jumps.apply(lambda x: values[x], 0.4, states), exact, atol=1e-12)


def test_weights_that_break_the_marginals_are_refused():
    gen = diffusion()
    with pytest.raises(CapabilityError, match="weights that depend on x do not keep the marginals"):
        gen * torch.ones(3)
    for part in (gen, chain(RATES)):
        with pytest.raises(DomainError, match="diffusion and jumps take non-negative weights"):
            part * -1.0
    assert (flow(PLANE, field) * -1.0).has == {"velocity"}
    with pytest.raises(DomainError, match="summands live on the same space"):
        gen + chain(RATES)


# -- products and potentials -------------------------------------------------------------------


def g(state):
    return 0.3 * state["letter"] - (state["x"] ** 2).sum(1)


def hybrid():
    """Ornstein–Uhlenbeck in the plane × a chain of three letters, and a potential on both."""
    ou = MarkovGenerator(PLANE, lambda t, x: Parts(-x, ScalarNoise(0.8)), BOTH)
    free = product({"x": ou, "letter": chain(RATES)})
    weigh = MarkovGenerator(
        free.space, lambda t, s: Parts(potential=g(s)), frozenset({"potential"})
    )
    return free, weigh


def test_a_product_with_a_potential(rng):
    """L f = Σ parts by hand, for f that mixes the leaves; facts of the row go along."""
    free, weigh = hybrid()
    gen = free + weigh
    assert gen.has == {"velocity", "diffusion", "jumps", "potential"}
    state = {"x": normal(6, 2, rng=rng), "letter": torch.arange(6) % 3, "row": torch.arange(6)}
    values = torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE)
    f = lambda s: smooth(s["x"]) * values[s["letter"]]  # noqa: E731
    x, letter = state["x"], state["letter"]
    ou = (-x * gradient(smooth, x)).sum(1) + 0.32 * torch.einsum("bii->b", hessian(smooth, x))
    exact = ou * values[letter] + smooth(x) * (rate_matrix(RATES) @ values)[letter]
    assert torch.allclose(free.apply(f, 0.0, state), exact, atol=1e-11)
    assert torch.allclose(gen.apply(f, 0.0, state), exact + g(state) * f(state), atol=1e-11)
    p = torch.tensor([0.2, 0.5, 0.3], dtype=DOUBLE)
    joint = lambda s: -0.5 * (s["x"] ** 2).sum(1) + p[s["letter"]].log()  # noqa: E731
    dual = (rate_matrix(RATES).T @ p / p)[letter] + g(state)
    dual = dual + 2 - (x**2).sum(1) + 0.32 * ((x**2).sum(1) - 2)  # −div u − u·∇log p, + ½σ²Δp/p
    assert torch.allclose(gen.adjoint(joint, 0.0, state), dual, atol=1e-11)
    assert not torch.allclose(free.adjoint(joint, 0.0, state), dual, atol=1e-2)


def test_coupled_factors_see_the_whole_state(rng):
    """Letters that steer the drift of x, and x that sets the rate of the letters."""
    line, letters = Euclidean(), Letters(3)
    drift = MarkovGenerator(line, lambda t, s: Parts(s["letter"] - s["x"]), frozenset({"velocity"}))
    jumps = MarkovGenerator(
        letters,
        lambda t, s: Parts(jumps=RateJumps(s["x"][:, None] ** 2 * RATES[s["letter"]], s["letter"])),
        frozenset({"jumps"}),
    )
    gen = coupled({"x": drift, "letter": jumps})
    state = {"x": normal(6, rng=rng), "letter": torch.arange(6) % 3}
    x, letter = state["x"], state["letter"]
    values = torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE)
    f = lambda s: torch.sin(s["x"]) * values[s["letter"]]  # noqa: E731
    exact = (letter - x) * torch.cos(x) * values[letter]
    exact = exact + x**2 * torch.sin(x) * (rate_matrix(RATES) @ values)[letter]
    assert torch.allclose(gen.apply(f, 0.0, state), exact, atol=1e-12)
    p = torch.tensor([0.2, 0.5, 0.3], dtype=DOUBLE)
    joint = lambda s: -0.5 * s["x"] ** 2 + p[s["letter"]].log()  # noqa: E731
    dual = 1 + (letter - x) * x + x**2 * (rate_matrix(RATES).T @ p / p)[letter]
    assert torch.allclose(gen.adjoint(joint, 0.0, state), dual, atol=1e-12)


def test_noise_drawn_for_one_leaf_can_move_another(rng):
    """An augmented state: dy = x·σξ with the ξ that moves x; L(y²) = σ²|x|², L(x₁y) = σ²x₁."""
    space = Product({"x": PLANE, "y": Euclidean()})

    def evaluate(t, s):
        x = s["x"]
        noise = MatrixFreeNoise(
            lambda n: {"x": 0.7 * n["x"], "y": 0.7 * (x * n["x"]).sum(-1)}, drivers=("x",)
        )
        return Parts(diffusion=noise)

    gen = MarkovGenerator(space, evaluate, frozenset({"diffusion"}))
    state = {"x": normal(5, 2, rng=rng), "y": normal(5, rng=rng)}
    square = gen.apply(lambda s: s["y"] ** 2, 0.0, state)
    cross = gen.apply(lambda s: s["x"][:, 0] * s["y"], 0.0, state)
    assert torch.allclose(square, 0.49 * (state["x"] ** 2).sum(1), atol=1e-12)
    assert torch.allclose(cross, 0.49 * state["x"][:, 0], atol=1e-12), "0 if the noises were apart"
