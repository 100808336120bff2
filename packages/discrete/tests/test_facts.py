"""What the plugin promises: exact laws on small alphabets, by summing over all states.

Tables on a few letters have exact posteriors, so every statement about a perfect network can be
checked without one. Each check has a control: a small fault that must break it.
"""

import itertools
import math

import pytest
import torch
from torch.nn import functional

from genpath.couplings import Pairs
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.jumps import RateJumps, pick
from genpath.models import Jump, Model
from genpath.parts import Parts
from genpath.reversal import log_transition, path_log_ratio, reverse
from genpath.samplers import Euler, integrate
from genpath.schedules import cosine_keep, linear_keep, power_keep
from genpath_discrete.data import split_text
from genpath_discrete.evaluations import ngram_nll
from genpath_discrete.jumps import GoalJumps, MaskedJumps, MixtureJumps
from genpath_discrete.laws import Masked, Table, UniformLetters
from genpath_discrete.likelihoods import ELBO
from genpath_discrete.networks import Transformer
from genpath_discrete.objectives import MaskedELBO, masked_nll
from genpath_discrete.paths import MaskedPath, MixturePath
from genpath_discrete.spaces import Categorical

pytestmark = pytest.mark.usefixtures("double")

Z = 4.5
SCHEDULES = {"linear": linear_keep(), "cosine": cosine_keep(), "power": power_keep(2.0)}
FAIR = ((0.4, 0.1), (0.15, 0.35))


def table(rows=FAIR):
    return Table(torch.tensor(rows, dtype=torch.float64))


def random_table(letters=3, tokens=2, seed=1):
    g = torch.Generator().manual_seed(seed)
    p = torch.rand(*([letters] * tokens), generator=g, dtype=torch.float64) + 0.05
    return Table(p / p.sum())


def states_of(space):
    return torch.cartesian_prod(*[torch.arange(space.size)] * space.sites).reshape(-1, space.sites)


def index_of(space, x):
    return (x * space.size ** torch.arange(space.sites - 1, -1, -1)).sum(-1)


def perfect(law, schedule=None):
    """The masked model whose network is the law itself."""
    path = MaskedPath(law.space, schedule or linear_keep())
    return Model(law, path, path.base(), "logits")


def conditional_law(kappa, x, x0, x1):
    """p_t(x | x0, x1) for each row of x, from the definition: independent sites."""
    site = kappa * (x == x1).double() + (1 - kappa) * (x == x0).double()
    return site.prod(-1)


def marginal_law(law, space, kappa, base):
    """p_t(x) over all states of the space; ``base`` lists pairs (probability, x0)."""
    x, data = states_of(space), law.probabilities.flatten()
    total = torch.zeros(x.shape[0], dtype=torch.float64)
    for (weight, x0), (p, x1) in itertools.product(base, zip(data, law.states(), strict=True)):
        total = total + weight * p * conditional_law(kappa, x, x0, x1)
    return total


def mask_base(law):
    return [(1.0, torch.full((law.space.sites,), law.space.letters))]


def uniform_base(law):
    return [(1 / law.space.letters**law.space.sites, x0) for x0 in law.states()]


def mixture_posterior(law, path, base):
    """The exact log p(x1^i | x_t) of a mixture path as a field, by Bayes over all (x0, x1)."""

    def field(t, x):
        kappa, data = path.schedule.kappa(t).reshape(-1, 1), law.states()
        joint = law.probabilities.flatten().expand(x.shape[0], -1).clone()
        seen = torch.zeros_like(joint)
        for weight, x0 in base:
            site = kappa.unsqueeze(-1) * (x.unsqueeze(1) == data) + (1 - kappa.unsqueeze(-1)) * (
                x == x0
            ).unsqueeze(1)
            seen = seen + weight * site.double().prod(-1)
        joint = joint * seen
        hot = functional.one_hot(data, law.space.letters).double()
        return torch.einsum("bs,siv->biv", joint, hot).log().log_softmax(-1)

    return field


def euler_law(gen, times, start):
    """The exact law of Euler's chain over all states, from its one-step laws."""
    x = states_of(gen.space)
    count = x.shape[0]
    here, there = x.repeat_interleave(count, 0), x.repeat(count, 1)
    law = start
    for t, t_next in itertools.pairwise(times):
        step = log_transition(gen, t, t_next, here, there).exp().reshape(count, count)
        assert torch.allclose(step.sum(1), torch.ones(count))
        law = law @ step
    return law


def mask_start(space):
    start = torch.zeros(space.size**space.sites)
    start[-1] = 1.0  # the last state is all mask
    return start


def on_data(space, law):
    """The probabilities of the states without a mask, as a table."""
    shape = [space.size] * space.sites
    return law.reshape(shape)[tuple([slice(space.letters)] * space.sites)]


# -- the table --


def test_the_two_letter_table_has_the_known_numbers():
    law = table()
    nll = torch.tensor([0.916290732, 2.302585093, 1.897119985, 1.049822124])
    assert torch.allclose(-law.log_prob(law.states()), nll, atol=1e-9)
    path, kappa = MaskedPath(law.space), 0.37
    x = states_of(path.space)
    revealed = (x != 2).sum(1)
    p = kappa**revealed * (1 - kappa) ** (2 - revealed) * law.log_prob(x).exp()
    expected = torch.tensor(
        [0.05476, 0.01369, 0.11655, 0.020535, 0.047915, 0.11655, 0.128205, 0.104895, 0.3969]
    )
    assert torch.allclose(p, expected, atol=1e-9)
    assert not torch.allclose(p, marginal_law(law, path.space, 0.38, mask_base(law)), atol=1e-3)


def test_draws_of_a_table_and_of_both_paths_have_their_laws(rng):
    law, n, kappa = random_table(), 60_000, 0.37
    x1 = law.sample(n, rng)
    for path, base in (
        (MaskedPath(law.space), mask_base(law)),
        (MixturePath(law.space), uniform_base(law)),
    ):
        x0 = path.base().sample(n, rng)
        x = path.draw(torch.full((n,), kappa), x0, x1, rng).state
        seen = torch.bincount(index_of(path.space, x), minlength=path.space.size**2) / n

        def worst(expected, seen=seen):
            error = (expected * (1 - expected) / n).sqrt().clamp_min(1e-9)
            return ((seen - expected) / error).abs().max()

        assert worst(marginal_law(law, path.space, kappa, base)) < Z
        assert worst(marginal_law(law, path.space, kappa + 0.1, base)) > Z


# -- the forward equation --


def forward_residual(gen, density, t):
    """max over test functions of |d/dt E f − E L_t f|, by sums over all states."""
    x = states_of(gen.space)
    time = torch.tensor(t, dtype=torch.float64)
    p, rate = torch.func.jvp(density, (time,), (torch.ones_like(time),))
    g = torch.Generator().manual_seed(3)
    worst = 0.0
    for _ in range(4):
        values = torch.randn(x.shape[0], generator=g, dtype=torch.float64)
        f = lambda y, v=values: v[index_of(gen.space, y)]  # noqa: E731
        moved = p @ gen.apply(f, time.expand(x.shape[0]), x)
        worst = max(worst, float((rate @ values - moved).abs()))
    return worst


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("t", [0.0, 0.3, 0.9])
def test_conditional_generators_carry_the_conditional_laws(name, t):
    schedule, space = SCHEDULES[name], Categorical(3, (2,))
    x1 = torch.tensor([2, 0])
    for path, x0 in (
        (MaskedPath(space, schedule), torch.tensor([3, 3])),
        (MixturePath(space, schedule), torch.tensor([1, 0])),
    ):
        x = states_of(path.space)
        density = lambda s, x=x, x0=x0: conditional_law(schedule.kappa(s), x, x0, x1)  # noqa: E731
        gen = path.conditional_generator(x0.expand_as(x), x1.expand_as(x))
        assert forward_residual(gen, density, t) < 1e-8
        if t or name == "linear":  # at t = 0 the other schedules stand still
            assert forward_residual(1.01 * gen, density, t) > 1e-4


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("t", [0.1, 0.5, 0.95])
def test_the_exact_posterior_carries_the_masked_marginals(name, t):
    law = random_table()
    model, schedule = perfect(law, SCHEDULES[name]), SCHEDULES[name]
    space, base = model.path.space, mask_base(law)
    density = lambda s: marginal_law(law, space, schedule.kappa(s), base)  # noqa: E731
    assert forward_residual(model.generator(Jump()), density, t) < 1e-8
    apart = Table(torch.outer(law.probabilities.sum(1), law.probabilities.sum(0)))
    wrong = Model(apart, model.path, model.base, "logits").generator(Jump())
    assert forward_residual(wrong, density, t) > 1e-4  # a posterior that ignores the other site


@pytest.mark.parametrize("t", [0.1, 0.5, 0.95])
def test_the_exact_posterior_carries_the_mixture_marginals(t):
    law = random_table()
    path, base = MixturePath(law.space, cosine_keep()), uniform_base(law)
    field = mixture_posterior(law, path, base)
    gen = Model(field, path, path.base(), "logits").generator(Jump())
    density = lambda s: marginal_law(law, path.space, path.schedule.kappa(s), base)  # noqa: E731
    assert forward_residual(gen, density, t) < 1e-8
    wrong = Model(lambda t, x: 0.9 * field(t, x), path, path.base(), "logits").generator(Jump())
    assert forward_residual(wrong, density, t) > 1e-3


def test_the_forward_equation_holds_on_samples(rng):
    law, n, t = random_table(), 100_000, 0.4
    model = perfect(law)
    values = torch.randn(16, generator=rng)
    f = lambda y: values[index_of(model.path.space, y)]  # noqa: E731
    x = model.path.draw(torch.full((n,), t), None, law.sample(n, rng), rng).state
    moved = model.generator(Jump()).apply(f, torch.full((n,), t), x)
    time = torch.tensor(t)
    density = lambda s: marginal_law(law, model.path.space, s, mask_base(law))  # noqa: E731
    rate = torch.func.jvp(density, (time,), (torch.ones_like(time),))[1] @ values
    error = moved.std() / math.sqrt(n)
    assert abs(moved.mean() - rate) < Z * error
    assert abs(1.1 * moved.mean() - rate) > Z * error


def test_the_adjoint_is_the_rate_of_the_log_density():
    law, t = random_table(), torch.tensor(0.4)
    model = perfect(law, cosine_keep())
    space, base, kappa = model.path.space, mask_base(law), model.path.schedule.kappa
    x = states_of(space)
    density = lambda s: marginal_law(law, space, kappa(s), base).log()  # noqa: E731
    log_p, rate = torch.func.jvp(density, (t,), (torch.ones_like(t),))
    lookup = lambda y: log_p[index_of(space, y)]  # noqa: E731
    gen = model.generator(Jump())
    assert torch.allclose(gen.adjoint(lookup, 0.4, x), rate, atol=1e-10)
    assert not torch.allclose((1.001 * gen).adjoint(lookup, 0.4, x), rate, atol=1e-4)


def test_mixture_rates_on_one_letter_have_the_known_numbers():
    law, base = table((0.2, 0.3, 0.5)), [0.5, 0.3, 0.2]
    starts = [(w, torch.tensor([i])) for i, w in enumerate(base)]
    path = MixturePath(law.space, noise=Table(torch.tensor(base)))
    p = marginal_law(law, path.space, 0.4, starts)
    assert torch.allclose(p, torch.tensor([0.38, 0.30, 0.32]))
    t, x = torch.full((3,), 0.4), states_of(path.space)
    rates = path.jumps(t, x, mixture_posterior(law, path, starts)(t, x)).rates().squeeze(1)
    expected = torch.tensor([[0, 0.394736842, 0.657894737], [0.2, 0, 0.5], [0.125, 0.1875, 0]])
    assert torch.allclose(rates, expected, atol=1e-9)
    swapped = mixture_posterior(law, path, uniform_base(law))(t, x)
    assert not torch.allclose(path.jumps(t, x, swapped).rates().squeeze(1), expected, atol=1e-2)


# -- sampling: the law of Euler's chain --


def total_variation(p, q):
    return 0.5 * float((p - q).abs().sum())


def test_euler_is_the_ancestral_sampler_with_total_variation_a_quarter_over_n():
    law = table()
    model = perfect(law)
    gen, space = model.generator(Jump()), model.path.space
    product = torch.outer(law.probabilities.sum(1), law.probabilities.sum(0))
    counts, gaps = [1, 2, 4, 8, 16], []
    for n in counts:
        end = on_data(space, euler_law(gen, TimeGrid.uniform(n).times, mask_start(space)))
        mixed = (1 - 1 / n) * law.probabilities + product / n
        assert torch.allclose(end, mixed, atol=1e-12)  # no mask is left: the rest sums to 1
        gaps.append(total_variation(end, law.probabilities))
    assert torch.allclose(torch.tensor(gaps), 0.25 / torch.tensor(counts), atol=1e-12)
    slopes = torch.tensor(gaps).log().diff() / torch.tensor(counts).double().log().diff()
    assert torch.allclose(slopes, -torch.ones(4), atol=1e-9)


def test_any_grid_costs_the_sum_of_squared_steps_of_kappa():
    law, times = table(), TimeGrid.uniform(7).times
    gen = perfect(law, cosine_keep()).generator(Jump())
    end = on_data(gen.space, euler_law(gen, times, mask_start(gen.space)))
    steps = cosine_keep().kappa(torch.tensor(times)).diff()
    gap = total_variation(end, law.probabilities)
    assert gap == pytest.approx(0.25 * float((steps**2).sum()), abs=1e-12)
    assert gap != pytest.approx(0.25 / 7, rel=0.05)  # what the linear schedule would cost


def test_drawn_samples_have_the_law_of_the_chain(rng):
    law, n, steps = table(), 100_000, 4
    model = perfect(law)
    x = model.sample(n, Jump(), Euler(), TimeGrid.uniform(steps), rng, chunk=50_000)
    assert bool(law.space.contains(x).all())
    seen = torch.bincount(index_of(law.space, x), minlength=4) / n
    product = torch.outer(law.probabilities.sum(1), law.probabilities.sum(0))
    expected = (0.75 * law.probabilities + 0.25 * product).flatten()
    error = (expected * (1 - expected) / n).sqrt()
    assert ((seen - expected) / error).abs().max() < Z
    assert ((seen - law.probabilities.flatten()) / error).abs().max() > Z


def test_one_letter_is_carried_exactly_by_steps_of_any_length():
    law = table((0.2, 0.3, 0.5))
    masked = perfect(law, power_keep(2.0)).generator(Jump())
    path = MixturePath(law.space, cosine_keep())
    field = mixture_posterior(law, path, uniform_base(law))
    mixture = Model(field, path, path.base(), "logits").generator(Jump())
    sharp = Model(lambda t, x: 1.1 * field(t, x), path, path.base(), "logits").generator(Jump())
    for n in (1, 2, 5):
        times = TimeGrid.uniform(n).times
        end = on_data(masked.space, euler_law(masked, times, mask_start(masked.space)))
        assert torch.allclose(end, law.probabilities, atol=1e-12)
        end = euler_law(mixture, times, torch.full((3,), 1 / 3))
        assert torch.allclose(end, law.probabilities, atol=1e-12)
        end = euler_law(sharp, times, torch.full((3,), 1 / 3))
        assert not torch.allclose(end, law.probabilities, atol=1e-3)


@pytest.mark.parametrize(("steps", "left"), [(10, 0.0534522), (100, 0.0055866)])
def test_frozen_rates_would_leave_masks_behind(steps, left):
    law, path = table((0.2, 0.8)), MaskedPath(Categorical(2, (1,)))

    def frozen(t, x):  # the same rates, without the closed form of their integral
        return Parts(jumps=RateJumps(path.jumps(t, x, law.logits(x)).rates(), x))

    gen = MarkovGenerator(path.space, frozen, frozenset({"jumps"}))
    times = TimeGrid.uniform(steps).times
    end = euler_law(gen, times, mask_start(path.space))
    assert float(end[-1]) == pytest.approx(left, abs=1e-6)
    ours = euler_law(perfect(law).generator(Jump()), times, mask_start(path.space))
    assert float(ours[-1]) == 0.0


# -- exposures --


@pytest.mark.parametrize("name", SCHEDULES)
def test_exposures_are_integrals_of_intensities(name):
    schedule, (a, b) = SCHEDULES[name], (0.1, 0.8)
    nodes, weights = gauss(40, a, b)
    flags = torch.tensor([[True, False]]).expand(40, 2)
    x, goal = torch.tensor([[2, 1]]), torch.tensor([[0, 1]])
    masked = MaskedJumps(torch.zeros(40, 2, 2), flags, schedule, nodes)
    toward = GoalJumps(goal.expand(40, 2), x.expand(40, 2), 3, schedule, nodes)
    for jumps in (masked, toward):
        integral = (weights.unsqueeze(1) * jumps.intensity()).sum(0)
        closed = jumps.exposure(a, b)[0]
        assert torch.allclose(closed, integral, atol=1e-10)
        assert not torch.allclose(jumps.intensity()[0] * (b - a), integral, rtol=0.05)
        assert jumps.exposure(a, 1.0)[0].tolist() == [math.inf, 0.0]
        assert jumps.exposure(1.0, 1.0)[0].tolist() == [math.inf, 0.0]


def gauss(count, a, b):
    """Gauss–Legendre nodes and weights on [a, b], from the Jacobi matrix."""
    k = torch.arange(1, count, dtype=torch.float64)
    beta = k / (4 * k**2 - 1).sqrt()
    values, vectors = torch.linalg.eigh(torch.diag(beta, 1) + torch.diag(beta, -1))
    return a + (b - a) * (values + 1) / 2, (b - a) * vectors[0] ** 2


def test_a_mixture_step_is_the_matrix_exponential_of_its_frozen_rates():
    schedule, (a, b) = cosine_keep(), (0.2, 0.7)
    law = torch.tensor([0.2, 0.3, 0.5])
    gen = MarkovGenerator(
        Categorical(3, (1,)),
        lambda t, x: Parts(jumps=MixtureJumps(law.log().expand(x.shape[0], 1, 3), x, schedule, t)),
        frozenset({"jumps"}),
    )
    hazard = float(schedule.integrated_hazard(torch.tensor(a), torch.tensor(b)))
    matrix = torch.linalg.matrix_exp(hazard * (law.expand(3, 3) - torch.eye(3)))
    for start in torch.eye(3):
        assert torch.allclose(euler_law(gen, (a, b), start), start @ matrix, atol=1e-12)
        faster = torch.linalg.matrix_exp(1.01 * hazard * (law.expand(3, 3) - torch.eye(3)))
        assert not torch.allclose(euler_law(gen, (a, b), start), start @ faster, atol=1e-4)


def test_no_jump_leads_to_the_mask(rng):
    logits = torch.randn(1, 4, 3, generator=rng)
    jumps = MaskedJumps(logits, torch.ones(1, 4, dtype=torch.bool), linear_keep(), torch.ones(1))
    mass = [jumps.log_target(torch.full((1, 4), v)).exp() for v in range(4)]
    assert torch.allclose(mass[0] + mass[1] + mass[2], torch.ones(1, 4))
    assert float(mass[3].max()) == 0.0
    assert float(jumps.rates()[..., 3].max()) == 0.0


def test_rare_letters_keep_their_probability(monkeypatch, rng):
    p = torch.tensor([0.5, 1e-8, 0.5 - 1e-8], dtype=torch.float64)
    share = []

    def fixed(shape, *, dtype, **_):
        return torch.full(shape, float(share[-1]), dtype=dtype)

    monkeypatch.setattr(torch, "rand", fixed)
    for dtype in (torch.float32, torch.float64):
        logits = p.log().to(dtype).reshape(1, 1, 3)
        q = logits.double().softmax(-1).flatten()
        share.append(q[0] + 0.5 * q[1])  # the middle of the rare letter's share
        jumps = MaskedJumps(logits, torch.ones(1, 1, dtype=torch.bool), linear_keep(), p[:1])
        assert jumps.targets(rng).item() == 1
    assert pick(p.float().reshape(1, 3), rng).item() != 1  # float32 cannot reach it


# -- the bound --


def exact_bound(network, law, schedule=None):
    """The bound for every datum: over counts of masks, or over time by quadrature."""
    x, sites = law.states(), law.space.sites
    total = torch.zeros(x.shape[0])
    nodes, weights = gauss(40, 0.0, 1.0)
    for flags in itertools.product((False, True), repeat=sites):
        n, masked = sum(flags), torch.tensor(flags).expand_as(x)
        if n == 0:
            continue
        state = torch.where(masked, law.space.letters, x)
        value = masked_nll(network(None, state), x, masked)
        if schedule is None:
            weight = 1 / sites / math.comb(sites, n) * sites / n
        else:
            kappa = schedule.kappa(nodes)
            chance = kappa ** (sites - n) * (1 - kappa) ** n
            weight = float((weights * schedule.hazard(nodes) * chance).sum())
        total = total + weight * value
    return total


def root(law):
    """A wrong model: posteriors proportional to the square root of the exact ones."""
    return lambda t, x: 0.5 * law.logits(x)


def test_the_bound_is_tight_at_the_exact_posterior_and_nowhere_else():
    law = table()
    nll = torch.tensor([0.916290732, 2.302585093, 1.897119985, 1.049822124])
    wrong = torch.tensor([1.110278161, 1.795466463, 1.616373248, 1.184765438])
    for schedule in (None, *SCHEDULES.values()):
        assert torch.allclose(exact_bound(law, law, schedule), nll, atol=1e-9)
        assert torch.allclose(exact_bound(root(law), law, schedule), wrong, atol=1e-9)
    mean = float(law.probabilities.flatten() @ exact_bound(root(law), law))
    assert mean == pytest.approx(1.280781801, abs=1e-9)
    big = random_table(3, 3)
    assert torch.allclose(exact_bound(big, big), -big.log_prob(big.states()), atol=1e-12)


def test_the_objective_estimates_the_bound(rng):
    law, n = random_table(3, 3), 60_000
    model, index = perfect(law), 5
    model = Model(root(law), model.path, model.base, "logits")
    x1 = law.states()[index].expand(n, -1)
    pairs, exact = Pairs(x1, x1), float(exact_bound(root(law), law)[index])
    value = MaskedELBO("count")(model, pairs, torch.rand(n, generator=rng), rng)
    error = float(value.std()) / math.sqrt(n)
    assert abs(float(value.mean()) - exact) < Z * error
    assert abs(float(value.mean()) - 1.05 * exact) > Z * error


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_time_estimator_is_the_integrand(name, rng):
    law, n, t, schedule = random_table(), 60_000, 0.3, SCHEDULES[name]
    model, x = perfect(law, schedule), law.states()[5]
    value = MaskedELBO("time")(model, Pairs(None, x.expand(n, -1)), torch.full((n,), t), rng)
    kappa = float(schedule.kappa(torch.tensor(t)))
    exact = 0.0
    for flags in itertools.product((False, True), repeat=2):
        masked = torch.tensor([flags])
        nll = masked_nll(law.logits(torch.where(masked, 3, x)), x.unsqueeze(0), masked)
        exact += kappa ** (2 - sum(flags)) * (1 - kappa) ** sum(flags) * float(nll)
    exact *= float(schedule.hazard(torch.tensor(t)))
    error = float(value.std()) / math.sqrt(n)
    assert abs(float(value.mean()) - exact) < Z * error
    assert abs(float(value.mean()) - exact * (1 - kappa)) > Z * error  # weight κ̇ alone


def test_the_likelihood_is_the_bound_with_an_honest_error(rng):
    law = random_table(3, 3)
    path = MaskedPath(law.space)
    model = Model(root(law), path, path.base(), "logits")
    data = law.states()[torch.arange(27).repeat(40)]
    found = ELBO(draws=4)(model, data, rng)
    assert found.kind == "lower bound"
    off = found.value + exact_bound(root(law), law).repeat(40)
    assert abs(float(off.mean())) < Z * float(off.std()) / math.sqrt(len(off))
    # the stated error is that of four independent draws; stratified ones do better
    t = torch.rand(len(data), generator=rng)
    value = MaskedELBO("count")(model, Pairs(data, data), t, rng)
    alone = (value - exact_bound(root(law), law).repeat(40)).square().mean()
    stated = found.standard_error.square().mean()
    assert 0.8 < float(4 * stated / alone) < 1.4  # (K/(K−1)) times the share within draws
    assert float(off.square().mean()) < float(stated)
    weight = law.log_prob(data).exp()
    gap = float((weight * (law.log_prob(data) - found.value)).sum() / weight.sum())
    assert gap > 0.01  # below the entropy's bound, for this model is not the law


@pytest.mark.parametrize("estimator", ["time", "count"])
def test_gradients_are_zero_at_unmasked_sites(estimator, rng):
    space, seen = Categorical(5, (12,)), {}

    def network(t, x):
        seen["x"] = x
        seen["logits"] = torch.randn(*x.shape, 5, generator=rng, requires_grad=True)
        return seen["logits"]

    path = MaskedPath(space)
    model = Model(network, path, path.base(), "logits")
    x1 = UniformLetters(space).sample(64, rng)
    MaskedELBO(estimator)(model, Pairs(x1, x1), torch.rand(64, generator=rng), rng).sum().backward()
    masked, gradient = seen["x"] == path.mask_id, seen["logits"].grad
    assert bool(masked.any()) and bool((~masked).any())
    assert float(gradient[~masked].abs().max()) == 0.0
    assert float(gradient[masked].abs().sum(-1).min()) > 0.0


# -- noising, reversal, path laws --


@pytest.mark.parametrize("x1", [0, 2])
def test_noising_kernels_give_the_known_posteriors(x1, rng):
    """q(x_s | x_t, x1) by counting: draw x_s, noise it to t, keep the rows with x_t."""
    pi = torch.tensor([0.5, 0.3, 0.2])
    path, n = MixturePath(Categorical(3, (1,)), noise=Table(pi)), 400_000
    ends = torch.full((n, 1), x1)
    x_s = path.draw(torch.full((n,), 0.6), path.base().sample(n, rng), ends, rng).state
    x_t = path.renoise(0.6, 0.35, x_s, rng)

    def bayes(keep):  # rows x_t, columns x_s
        eye = torch.eye(3)
        forward = keep * eye + (1 - keep) * pi.expand(3, 3)
        joint = (0.6 * eye[x1] + 0.4 * pi).unsqueeze(1) * forward
        return (joint / joint.sum(0)).T

    if x1 == 2:
        known = [
            [0.487179487, 0.076923077, 0.435897436],
            [0.128205128, 0.435897436, 0.435897436],
            [0.034722222, 0.020833333, 0.944444444],
        ]
        assert torch.allclose(bayes(0.35 / 0.6), torch.tensor(known), atol=1e-9)
    worst = {}
    for name, keep in (("right", 0.35 / 0.6), ("wrong", 0.35)):
        worst[name] = 0.0
        for row, expected in enumerate(bayes(keep)):
            kept = x_s[x_t == row]
            seen = torch.bincount(kept, minlength=3) / len(kept)
            error = (expected * (1 - expected) / len(kept)).sqrt()
            worst[name] = max(worst[name], float(((seen - expected) / error).abs().max()))
    assert worst["right"] < Z < worst["wrong"]


def test_a_masked_site_was_revealed_with_the_known_probability(rng):
    path, n, (a, b) = MaskedPath(Categorical(3, (1,)), cosine_keep()), 200_000, (0.3, 0.7)
    x1 = UniformLetters(path.letters).sample(n, rng)
    x_b = path.draw(torch.full((n,), b), None, x1, rng).state
    x_a = path.renoise(b, a, x_b, rng)
    kept = x_b[x_a == path.mask_id] != path.mask_id
    ka, kb = (float(path.schedule.kappa(torch.tensor(t))) for t in (a, b))
    expected = (kb - ka) / (1 - ka)
    error = math.sqrt(expected * (1 - expected) / len(kept))
    assert abs(float(kept.double().mean()) - expected) < Z * error
    assert abs(float(kept.double().mean()) - (kb - ka)) > Z * error
    assert bool((path.renoise(b, 0.0, x_b, rng) == path.mask_id).all())
    assert bool((path.renoise(0.0, 0.0, x_b[:0], rng) == path.mask_id).all())


Q = torch.tensor([[-1, 0.7, 0.3], [0.2, -0.9, 0.7], [0.5, 0.4, -0.9]], dtype=torch.float64)
Q_MODEL = torch.tensor([[-1.3, 0.9, 0.4], [0.4, -1, 0.6], [0.3, 0.5, -0.8]], dtype=torch.float64)
START = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def chain(matrix):
    """A homogeneous chain of one letter."""
    rates = matrix.clamp_min(0)
    return MarkovGenerator(
        Categorical(3, (1,)),
        lambda t, x: Parts(jumps=RateJumps(rates[x], x)),
        frozenset({"jumps"}),
    )


def rate_matrix(gen, t):
    """All rates of a one-letter generator as a matrix, through L f of indicators."""
    x = states_of(gen.space)
    columns = [
        gen.apply(lambda y, k=k: (y[:, 0] == k).double(), t, x) for k in range(gen.space.size)
    ]
    return torch.stack(columns, 1)


def test_a_reversed_chain_has_the_known_rates():
    law = lambda t: START @ torch.linalg.matrix_exp(t * Q)  # noqa: E731
    log_p = lambda t, x: law(t[0]).log()[x[:, 0]]  # noqa: E731
    back = rate_matrix(reverse(chain(Q), log_density=log_p), 1 - 0.6)
    expected = torch.tensor(
        [
            [-0.589302448, 0.197033854, 0.392268594],
            [0.710537794, -1.029076836, 0.318539042],
            [0.382391051, 0.879013130, -1.261404181],
        ]
    )
    assert torch.allclose(back, expected, atol=1e-9)
    p = law(torch.tensor(0.6))
    assert torch.allclose(p @ back, -p @ Q, atol=1e-12)
    assert not torch.allclose(p @ rate_matrix(chain(Q), 0.4), -p @ Q, atol=1e-2)


def test_unmasking_seen_backwards_is_independent_masking():
    """The reversal of the exact marginal generator masks each site at κ̇/κ, whatever the data."""
    law, t = random_table(), 0.4
    schedule = cosine_keep()
    model = perfect(law, schedule)
    space = model.path.space
    log_p = lambda s, x: marginal_law(  # noqa: E731
        law, space, schedule.kappa(s[0]), mask_base(law)
    ).log()[index_of(space, x)]
    x = states_of(space)
    back = reverse(model.generator(Jump()), log_density=log_p)
    rate = float(schedule.kappa.rate(torch.tensor(t)) / schedule.kappa(torch.tensor(t)))
    for site in (0, 1):
        f = lambda y, i=site: (y[:, i] == space.mask_id).double()  # noqa: E731
        expected = rate * (x[:, site] != space.mask_id)
        assert torch.allclose(back.apply(f, 1 - t, x), expected, atol=1e-10)
        assert not torch.allclose(back.apply(f, 1 - t - 0.01, x), expected, atol=1e-3)
    letters = lambda y: (y == 0).double().sum(1)  # noqa: E731
    lost = -rate * (x == 0).sum(1)
    assert torch.allclose(back.apply(letters, 1 - t, x), lost, atol=1e-10)  # and nothing else


def euler_path_kl(steps):
    """KL of Euler's chains of Q and Q_MODEL from one start, exactly."""
    x = states_of(chain(Q).space)
    here, there = x.repeat_interleave(3, 0), x.repeat(3, 1)
    law, total = START, 0.0
    for t, t_next in itertools.pairwise(TimeGrid.uniform(steps).times):
        ours = log_transition(chain(Q), t, t_next, here, there).reshape(3, 3)
        model = log_transition(chain(Q_MODEL), t, t_next, here, there).reshape(3, 3)
        total += float((law.unsqueeze(1) * ours.exp() * (ours - model)).sum())
        law = law @ ours.exp()
    return total


def test_path_laws_of_two_chains(rng):
    coarse, fine = euler_path_kl(200), euler_path_kl(400)
    assert 2 * fine - coarse == pytest.approx(0.056245499, abs=2e-7)  # the limit, to O(h²)
    assert abs(coarse - 0.056245499) > 1e-5
    n, steps = 40_000, 25
    start = Table(START).sample(n, rng)
    solved = integrate(Euler(), chain(Q), start, TimeGrid.uniform(steps), rng, record=True)
    log_ratio = path_log_ratio(chain(Q_MODEL), chain(Q), solved.times, solved.trajectory)
    weight = log_ratio.exp()
    error = float(weight.std()) / math.sqrt(n)
    assert abs(float(weight.mean()) - 1) < Z * error
    assert abs(float((-log_ratio).exp().mean()) - 1) > Z * error  # the ratio upside down
    kl, spread = -float(log_ratio.mean()), float(log_ratio.std()) / math.sqrt(n)
    assert abs(kl - euler_path_kl(steps)) < Z * spread
    assert abs(kl - 0.056245499) < Z * spread + 2 * abs(euler_path_kl(steps) - 0.056245499)
    ends = functional.one_hot(solved.state[:, 0], 3).double()
    known = torch.tensor([0.269325097, 0.394033607, 0.336641296])
    gap = (weight.unsqueeze(1) * ends).mean(0) - known
    bias = 0.02  # Euler's O(h) at h = 1/25; the control is three times as far away
    assert float(gap.abs().max()) < bias
    assert float((ends.mean(0) - known).abs().max()) > 1.5 * bias


# -- spaces, networks, text --


def test_neighbours_are_the_states_at_hamming_distance_one():
    space = Categorical(2, (3,), mask=True)
    x = states_of(space)
    near = space.neighbours(x)
    assert near.shape == (6, 27, 3)
    for row in range(27):
        listed = {tuple(y) for y in near[:, row].tolist()}
        distance = space.distance(x[row].expand(27, 3), x)
        assert listed == {tuple(y) for y in x[distance == 1].tolist()}
        assert len(listed) == 6
    assert float(space.distance(x[:1], x[-1:])) == 3


def test_the_transformer_looks_both_ways_and_has_no_mask_column():
    torch.manual_seed(0)
    space = Categorical(4, (6,), mask=True)
    x = torch.randint(0, 5, (3, 6))
    for positions, window in (("rotary", 0), ("learned", 3)):
        network = Transformer(space, 16, 2, 2, positions=positions, window=window)
        out = network(torch.zeros(3), x)
        assert out.shape == (3, 6, 4)
        assert torch.equal(out, network(torch.ones(3), x))
        for changed, looked in ((0, 5), (5, 0)):
            other = x.clone()
            other[:, changed] = (other[:, changed] + 1) % 5
            assert bool((network(torch.zeros(3), other)[:, looked] != out[:, looked]).any())
        assert not torch.allclose(network(torch.zeros(3), x.flip(1)).flip(1), out)
    told = Transformer(space, 16, 2, 2, time=True)
    assert not torch.equal(told(torch.zeros(3), x), told(torch.ones(3), x))


def test_rotary_scores_depend_on_the_distance_alone():
    from genpath_discrete.networks import _rotate

    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    place = torch.arange(10.0).unsqueeze(1) * 1e4 ** (-torch.arange(4.0) / 4)
    score = torch.einsum("bihc,bjhc->ij", *(_rotate(v.expand(1, 10, 1, 8), place) for v in (q, k)))
    assert torch.allclose(score[1:, 1:], score[:-1, :-1], atol=1e-12)
    uneven = torch.einsum(
        "bihc,bjhc->ij", *(_rotate(v.expand(1, 10, 1, 8), place**2) for v in (q, k))
    )
    assert not torch.allclose(uneven[1:, 1:], uneven[:-1, :-1], atol=1e-3)


def test_a_small_transformer_learns_the_table_down_to_its_entropy(rng):
    """The minimum of the bound is −log p: training on draws of a table must reach its entropy."""
    torch.manual_seed(1)
    law = table(((0.45, 0.05), (0.05, 0.45)))
    path = MaskedPath(law.space)
    network = Transformer(path.space, 16, 1, 2, positions="learned")
    model = Model(network, path, path.base(), "logits")
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        x1 = law.sample(256, rng)
        t = torch.rand(256, generator=rng)
        loss = MaskedELBO("count")(model, Pairs(x1, x1), t, rng).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        bound = law.probabilities.flatten() @ exact_bound(network, law)
    entropy = -law.probabilities.flatten() @ law.log_prob(law.states())
    assert 0 <= float(bound - entropy) < 0.01
    assert 2 * math.log(2) - float(entropy) > 0.3  # what letters that ignore each other would cost


def test_splits_share_no_character():
    letters = tuple(chr(1000 + i) for i in range(64 * 40 + 5))
    train, validation, test = split_text("".join(letters), letters, 8, 8, 3)
    parts = [set(rows.flatten().tolist()) for rows in (train, validation, test)]
    assert all(parts)
    assert all(not a & b for a, b in itertools.combinations(parts, 2))
    for rows in (train, validation, test):
        assert bool((rows.diff(dim=1) == 1).all())  # every row is a piece of the text
    assert len(train) > 2 * len(parts[0]) / 8  # rows overlap
    everything = torch.arange(64 * 40).unfold(0, 8, 3)
    assert set(everything.flatten().tolist()) & parts[2]  # without blocks they would overlap


def test_ngram_models_are_laws(rng):
    train = torch.randint(0, 3, (20, 6), generator=rng) ** 2 % 3
    every = states_of(Categorical(3, (4,)))
    for n in (1, 2, 3):
        mass = torch.exp(-ngram_nll(train, every, 3, n))
        assert float(mass.sum()) == pytest.approx(1.0, abs=1e-12)
    first = torch.exp(-ngram_nll(torch.tensor([[0, 0, 1]]), torch.tensor([[0, 1]]), 2, 2))
    assert float(first) == pytest.approx(3 / 5 * 2 / 4)  # (2+1)/(3+2) · (1+1)/(2+2)
    unsmoothed = 2 / 3 * 1 / 2
    assert float(first) != pytest.approx(unsmoothed, rel=0.05)


def test_base_laws_draw_where_they_have_mass(rng):
    space = Categorical(3, (2,), mask=True)
    x = Masked(space).sample(5, rng)
    assert Masked(space).log_prob(x).tolist() == [0.0] * 5
    assert Masked(space).log_prob(torch.tensor([[3, 0]])).tolist() == [-math.inf]
    every = states_of(space)
    mass = UniformLetters(space).log_prob(every).exp()
    assert float(mass.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(mass[(every == 3).any(1)].sum()) == 0.0
    y = UniformLetters(space).sample(30_000, rng)
    seen = torch.bincount(index_of(Categorical(3, (2,)), y), minlength=9) / 30_000
    assert float((seen - 1 / 9).abs().max()) < Z * math.sqrt(8 / 81 / 30_000)


def test_the_angles_of_sites_and_the_waves_of_time_are_geometric():
    """Turns per site fall from 1 towards 1e-4 (Su et al. 2021, arXiv 2104.09864)."""
    from genpath_discrete.networks import _waves

    angles = Transformer(Categorical(4, (6,)), 16, 2, 2).angles.double()
    turn = angles[1]
    assert torch.allclose(angles, torch.outer(torch.arange(6.0).double(), turn), atol=1e-6)
    assert float(turn[0]) == 1.0
    assert float(turn[1]) ** len(turn) == pytest.approx(1e-4)
    assert torch.allclose(turn[1:] / turn[:-1], turn[1].expand(len(turn) - 1))
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    start, rate = torch.func.jvp(lambda t: _waves(t, 12), (zero,), (one,))
    assert start.tolist() == [[0.0] * 6 + [1.0] * 6]
    frequency = rate[0, :6] / (2 * math.pi)
    assert torch.allclose(frequency[[0, -1]], torch.tensor([1.0, 1e3], dtype=torch.float64))
    assert torch.allclose(frequency.log().diff(), (math.log(1e3) / 5 * one).expand(5))
    assert rate[0, 6:].abs().max() == 0


@pytest.mark.parametrize("path", [MaskedPath(Categorical(3, (4,))), MixturePath(Categorical(3))])
def test_a_conditional_generator_of_one_row_is_a_row_of_that_of_many(path):
    rng = torch.Generator().manual_seed(0)
    shape = (5, *path.letters.event_shape)
    x1, x = (torch.randint(0, 3, shape, generator=rng) for _ in range(2))
    x[0] = x1[0]  # arrived: no jump is left
    t = torch.linspace(0.1, 0.9, 5)
    many = path.conditional_generator(x, x1).evaluate(t, x).jumps.intensity()
    assert many.shape == shape and float(many[0].sum()) == 0 < float(many[1:].sum())
    for i in range(5):
        row = slice(i, i + 1)
        one = path.conditional_generator(x[row], x1[row]).evaluate(t[row], x[row])
        assert torch.equal(one.jumps.intensity(), many[row])
