r"""Cases that must be written in the core's protocols without a special case, across plugins.

A flow and its two-step multistep sampler; masked diffusion on tokens; a geodesic flow plus noise on
the sphere; a molecule (positions × atom types) with one clock per modality; two experts with
different schedules under a Feynman–Kac potential, whose log-densities are tracked by Itô; bridge
matching by iterated simulation. Each is compared with an exact answer, and has a control.
"""

import math
from dataclasses import replace

import pytest
import torch

from genpath.couplings import Independent, Simulated, Stored
from genpath.divergences import exact_divergence
from genpath.errors import CapabilityError
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.models import ODE, SDE, Jump, Model, factorwise
from genpath.noises import MatrixFreeNoise, ScalarNoise
from genpath.parts import Parts
from genpath.paths import ProductPath
from genpath.samplers import AdamsBashforth, Euler, integrate
from genpath.schedules import KeepSchedule, Scalar
from genpath.spaces import Euclidean, Product
from genpath.states import gather
from genpath_discrete.laws import Masked, Table
from genpath_discrete.paths import MaskedPath, MixturePath
from genpath_discrete.spaces import Categorical
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.presets import linear
from genpath_manifold import Sphere
from genpath_manifold.generators import brownian
from genpath_manifold.paths import GeodesicPath

DOUBLE, BOUND, PLANE = torch.float64, 4.5, Euclidean(2)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def normal(*shape, rng):
    return torch.randn(*shape, generator=rng, dtype=DOUBLE)


def single(mean, std):
    """A normal law of the plane as a mixture of one."""
    one = torch.ones(1, dtype=DOUBLE)
    return GaussianMixture(one, torch.tensor([mean], dtype=DOUBLE), std * one)


# -- a flow, in two-step multistep -------------------------------------------------------------


def test_a_two_step_sampler_carries_a_flow_to_its_law(rng):
    """From N(0, I) to N(m, s²) the flow is x ↦ m + s x, row by row; order 2, one call per step."""
    path, law = LinearPath(PLANE), single([1.0, -2.0], 0.5)
    gen = ODE().generator(path, "velocity", MixtureMarginal(path, law).velocity)
    x = normal(50, 2, rng=rng)
    exact = torch.tensor([1.0, -2.0], dtype=DOUBLE) + 0.5 * x

    def error(sampler, steps):
        found = integrate(sampler, gen, x, TimeGrid.uniform(steps), rng).state
        return float((found - exact).abs().max())

    ratio = error(AdamsBashforth(), 50) / error(AdamsBashforth(), 100)
    assert abs(math.log2(ratio) - 2) < 0.25
    ratio = error(Euler(), 50) / error(Euler(), 100)
    assert abs(math.log2(ratio) - 1) < 0.25


# -- masked diffusion on tokens ----------------------------------------------------------------


def test_masked_diffusion_draws_the_joint_law_of_its_tokens(rng):
    """With exact logits and small steps the tokens have the table's law, by χ² (8 degrees)."""
    p = torch.tensor([[0.20, 0.02, 0.08], [0.05, 0.25, 0.05], [0.15, 0.05, 0.15]], dtype=DOUBLE)
    table, n = Table(p), 3000
    path = MaskedPath(Categorical(3, (2,)), KeepSchedule(lambda t: t))
    model = Model(lambda t, x: table.logits(x), path, Masked(path.space), "logits")

    def statistic(steps, weights):
        grid = TimeGrid.uniform(steps)
        tokens = model.sample(n, Jump(), Euler(), grid, rng)
        found = torch.bincount(3 * tokens[:, 0] + tokens[:, 1], minlength=9).double()
        return float(((found - n * weights) ** 2 / (n * weights)).sum())

    assert statistic(100, p.flatten()) < 8 + BOUND * 4
    assert statistic(1, p.flatten()) > 8 + BOUND * 4, "one step draws the tokens independently"
    assert statistic(100, p.T.flatten()) > 8 + BOUND * 4


# -- a geodesic flow plus noise ----------------------------------------------------------------


def test_a_geodesic_flow_plus_noise_on_the_sphere(rng):
    """L(n·x) = n·u − σ² n·x (½σ²Δ of a linear function on S²), and paths stay on the sphere."""
    sphere = Sphere(2)
    x1 = torch.nn.functional.normalize(normal(1, 3, rng=rng), dim=1).expand(100, 3)
    x0 = torch.nn.functional.normalize(normal(100, 3, rng=rng), dim=1)
    flow = GeodesicPath(sphere).conditional_generator(x0, x1)
    gen = flow + brownian(sphere, 0.7)
    pole = lambda x: x @ torch.tensor([0.0, 0.6, 0.8], dtype=DOUBLE)  # noqa: E731
    exact = pole(flow(0.3, x0).velocity) - 0.49 * pole(x0)
    assert torch.allclose(gen.apply(pole, 0.3, x0), exact, atol=1e-12)
    assert not torch.allclose((flow + brownian(sphere, 0.5)).apply(pole, 0.3, x0), exact, atol=1e-2)
    grid = TimeGrid.uniform(50, 0.0, 0.9)
    end = integrate(Euler(), gen, x0, grid, rng).state
    assert sphere.contains(end, 1e-9).all()
    straight = integrate(Euler(), flow, x0, TimeGrid.uniform(50), rng).state
    assert torch.allclose(straight, x1, atol=1e-6), "without noise every geodesic arrives"
    assert not torch.allclose(end, x1, atol=1e-2)


# -- a molecule with two clocks ----------------------------------------------------------------

CLOCK = {"atoms": Scalar(lambda s: s**2)}


def molecule(clocks=CLOCK):
    """Positions by a bridge with latent noise, atom types by a mixture path that starts slowly."""
    atoms = MixturePath(Categorical(3, (2,)), KeepSchedule(lambda t: t))
    return ProductPath({"positions": linear(PLANE, "sqrt"), "atoms": atoms}, clocks)


def ends(n, rng):
    x0 = {"positions": normal(n, 2, rng=rng), "atoms": torch.randint(3, (n, 2), generator=rng)}
    x1 = {"positions": normal(n, 2, rng=rng), "atoms": torch.randint(3, (n, 2), generator=rng)}
    return x0, {**x1, "row": torch.arange(n)}


def test_a_molecule_with_two_clocks_obeys_its_forward_equation(rng):
    """∂_s log p_s(x | x0, x1) = (L*p)/p; without the clock's rate, or its time, it fails."""
    pair = ends(1, rng)
    s = 0.1 + 0.8 * torch.rand(40, generator=rng, dtype=DOUBLE)
    x0, x1 = (gather(end, torch.zeros(40, dtype=torch.long)) for end in pair)
    state = molecule().draw(s, x0, x1, rng).state
    assert torch.equal(state["row"], x1["row"])
    x0, x1 = pair

    def log_p(s, state, clock=lambda s: s**2):
        t, x = s[:, None], state["positions"]
        mean, variance = (1 - t) * x0["positions"] + t * x1["positions"], t * (1 - t)
        place = (-0.5 * (x - mean) ** 2 / variance - 0.5 * torch.log(variance)).sum(1)
        keep = clock(s)[:, None]
        here = state["atoms"]
        chance = keep * (here == x1["atoms"]) + (1 - keep) * (here == x0["atoms"])
        return place + chance.log().sum(1)

    left = torch.func.grad(lambda s: log_p(s, state).sum())(s)

    def residual(path):
        def evaluate(s, state):  # the adjoint asks at other states too, all with this one pair
            rows = torch.zeros(len(s), dtype=torch.long)
            return path.conditional_generator(gather(x0, rows), gather(x1, rows)).evaluate(s, state)

        gen = MarkovGenerator(path.space, evaluate, frozenset({"velocity", "jumps"}))
        density = lambda y: log_p(s.repeat(len(y["row"]) // len(s)), y)  # noqa: E731
        return (gen.adjoint(density, s, state) - left).abs().max()

    assert residual(molecule()) < 1e-8
    assert residual(molecule({})) > 1e-2
    late = {"atoms": Scalar(lambda s: s**2, torch.ones_like)}
    assert residual(molecule(late)) > 1e-2


def test_a_sampler_integrates_the_one_scalar_of_a_molecule(rng):
    """Every row arrives at its own x1; half way the atoms have kept κ(s²) = s², not s."""
    n = 4000
    x0, x1 = ends(n, rng)
    gen = molecule().conditional_generator(x0, x1)
    start = {**x0, "row": x1["row"]}
    end = integrate(Euler(), gen, start, TimeGrid.uniform(60), rng, record=[30])
    assert torch.allclose(end.state["positions"], x1["positions"], atol=1e-2)
    assert torch.equal(end.state["atoms"], x1["atoms"])
    assert torch.equal(end.state["row"], x1["row"])
    (half,) = end.trajectory
    differ = x0["atoms"] != x1["atoms"]
    arrived = (half["atoms"] == x1["atoms"])[differ].double()
    error = math.sqrt(0.25 * 0.75 / len(arrived))
    assert abs(float(arrived.mean()) - 0.25) < BOUND * error
    assert abs(float(arrived.mean()) - 0.5) > BOUND * error


def test_targets_of_a_molecule_name_leaf_and_quantity(rng):
    path = molecule()
    assert set(path.predictions) >= {"positions.velocity", "positions.noise", "atoms.logits"}
    x0, x1 = ends(5, rng)
    draw = path.draw({"positions": torch.full((5,), 0.3), "atoms": torch.ones(5)}, x0, x1, rng)
    assert torch.equal(draw.state["atoms"], x1["atoms"]), "each factor at its own time"
    assert torch.equal(path.target("atoms.logits", draw), x1["atoms"])
    noise = path.target("positions.noise", draw)
    assert torch.equal(noise, draw.latent["positions"])


# -- two experts, tracked by Itô ---------------------------------------------------------------

LAWS = (single([1.0, 0.0], 0.6), single([-0.5, 1.0], 0.8))
EXPERTS = (
    MixtureMarginal(LinearPath(PLANE), LAWS[0]),
    MixtureMarginal(linear(PLANE, "sqrt", 0.7), LAWS[1]),
)
SIGMA = 0.8
SPACE = Product({"x": PLANE, "q0": Euclidean(), "q1": Euclidean()})


def experts(ito=1.0, weight=1.0):
    r"""dX = b dt + σ dW with log q_i(t, X_t) as further coordinates, weighted towards q_0 q_1.

    Itô:   d log q_i = [−div u_i − u_i·s_i + s_i·b + ½σ² div s_i] dt + σ s_i·dW
    weight: h = q_0 q_1, s = s_0 + s_1, g = ∂_t log h + div b + b·s − ½σ²(div s + |s|²),
            so that ∂_t h = L*h + g h
    """

    def evaluate(t, state):
        x = state["x"]
        moves = [exact_divergence(PLANE, e.velocity, t, x) for e in EXPERTS]
        bends = [exact_divergence(PLANE, e.score, t, x) for e in EXPERTS]
        drift, spread = (sum(pair) / 2 for pair in zip(*moves, strict=True))
        velocity, scores, growth, bending = {"x": drift}, [], 0.0, 0.0
        for i, ((u, div_u), (s, div_s)) in enumerate(zip(moves, bends, strict=True)):
            rate = -div_u - (u * s).sum(1)
            velocity[f"q{i}"] = rate + (s * drift).sum(1) + ito * 0.5 * SIGMA**2 * div_s
            growth, bending = growth + rate, bending + div_s
            scores.append(s)
        total = scores[0] + scores[1]
        noise = 0.5 * SIGMA**2 * (bending + (total**2).sum(1))
        potential = growth + spread + (drift * total).sum(1) - noise

        def move(dw):
            tracked = {f"q{i}": SIGMA * (s * dw["x"]).sum(-1) for i, s in enumerate(scores)}
            return {"x": SIGMA * dw["x"], **tracked}

        return Parts(velocity, MatrixFreeNoise(move, ("x",)), potential=weight * potential)

    return MarkovGenerator(SPACE, evaluate, frozenset({"velocity", "diffusion", "potential"}))


def unweighted(gen):
    """The same motion without its potential."""

    def evaluate(t, state):
        return replace(gen.evaluate(t, state), potential=None)

    return replace(gen, evaluate=evaluate, has=frozenset({"velocity", "diffusion"}))


def begin(n, rng):
    """x ~ q_0 q_1 / ∫ at t = 0, that is N(0, ½), with the experts' log-densities there."""
    x = math.sqrt(0.5) * normal(n, 2, rng=rng)
    return {"x": x, **{f"q{i}": e.log_prob(0.0, x) for i, e in enumerate(EXPERTS)}}


def test_the_augmented_generator_keeps_the_log_densities_exact(rng):
    """L(log q_i(t, x) − y_i) = −∂_t log q_i: the tracked coordinate and the function move alike."""
    state, t = begin(20, rng), 0.4
    times = torch.full((20,), t, dtype=DOUBLE)
    for i, expert in enumerate(EXPERTS):
        gap = lambda s, e=expert, i=i: e.log_prob(t, s["x"]) - s[f"q{i}"]  # noqa: E731
        square = lambda s, gap=gap: gap(s) ** 2  # noqa: E731
        rate = torch.func.grad(lambda r, e=expert: e.log_prob(r, state["x"]).sum())(times)
        gen = unweighted(experts())
        found = gen.apply(gap, t, state)
        assert torch.allclose(found, -rate, atol=1e-9)
        spread = gen.apply(square, t, state)  # the noises cancel: L g² = 2 g L g and no more
        assert torch.allclose(spread, 2 * gap(state) * found, atol=1e-9)


def test_tracked_log_densities_end_where_the_exact_ones_do(rng):
    """The error of log q_i(X_1) shrinks at least like √h; without Itô's term it does not."""

    def errors(steps, ito=1.0):
        gen = unweighted(experts(ito))
        end = integrate(Euler(), gen, begin(300, rng), TimeGrid.uniform(steps), rng).state
        gaps = [end[f"q{i}"] - e.log_prob(1.0, end["x"]) for i, e in enumerate(EXPERTS)]
        return torch.stack(gaps).square().mean(1).sqrt()

    coarse, fine = errors(16), errors(64)
    assert (fine < 0.62 * coarse).all() and (fine < 0.3).all()
    assert (errors(64, ito=0.0) > 3 * fine).all()


def test_weights_make_the_product_of_the_experts(rng):
    """Weighted moments at t = 1 are those of N·N; the total weight is the ratio of integrals."""
    n = 3000
    precision = 1 / 0.36 + 1 / 0.64
    means = [law.means[0] for law in LAWS]
    mean = (means[0] / 0.36 + means[1] / 0.64) / precision
    one = torch.distributions.Normal(means[0], torch.full((2,), 1.0, dtype=DOUBLE).sqrt())
    end_integral = one.log_prob(means[1]).sum().exp()  # variances 0.36 + 0.64
    start_integral = 1 / (4 * math.pi)  # ∫ N(0, I)²
    ratio = float(end_integral / start_integral)

    def solve(steps, weight):
        grid = TimeGrid.uniform(steps)
        end = integrate(Euler(), experts(weight=weight), begin(n, rng), grid, rng)
        x, w = end.state["x"], end.log_weight.exp()[:, None]
        second = (x - mean) ** 2 - 1 / precision
        return w * torch.cat([x - mean, second, torch.ones_like(w)], 1)

    def largest(weight):
        coarse, fine = solve(16, weight), solve(32, weight)
        error = ((4 * fine.var(0) + coarse.var(0)) / n).sqrt()
        exact = torch.tensor([0.0, 0.0, 0.0, 0.0, ratio], dtype=DOUBLE)
        return float(((2 * fine.mean(0) - coarse.mean(0) - exact) / error).abs().max())

    assert largest(1.0) < BOUND
    assert largest(0.5) > BOUND


# -- bridge matching by iterated simulation ----------------------------------------------------


def bridge(c, start, end, sigma):
    """The Markov projection of Brownian bridges between normal ends of covariance c, on the line.

    x_t = (1−t) x0 + t x1 + σ√(t(1−t)) z is normal of variance v: u = ½(v̇/v) x and s = −x/v.
    """

    def variance(t):
        mixed = (1 - t) ** 2 * start**2 + t**2 * end**2 + 2 * t * (1 - t) * c
        return mixed + sigma**2 * t * (1 - t)

    v = Scalar(variance)
    path = linear(Euclidean(1), "sqrt", sigma**2)
    half = lambda t, x: (0.5 * v.rate(t) / v(t))[:, None] * x  # noqa: E731
    flow = ODE().generator(path, "velocity", half)
    eps = 0.5 * sigma**2

    def noisy(t, x):
        return Parts(-eps * x / v(t)[:, None], ScalarNoise(sigma))

    return flow + MarkovGenerator(path.space, noisy, frozenset({"velocity", "diffusion"}))


def covariance(pairs):
    return float((pairs.x0 * pairs.x1).mean())


def test_bridge_matching_by_iterated_simulation_finds_the_schrodinger_bridge(rng):
    """Simulate, pair, project again: the covariance goes to ½(√(4 a² b² + σ⁴) − σ²).

    That is the entropic coupling of N(0, a²) and N(0, b²); both marginals stay what they are.
    """
    a, b, sigma, n = 1.0, 1.4, 1.2, 20_000
    base, data = Gaussian((1,), std=a, dtype=DOUBLE), Gaussian((1,), std=b, dtype=DOUBLE)
    exact = 0.5 * (math.sqrt(4 * a**2 * b**2 + sigma**4) - sigma**2)
    found = [covariance(Independent(base, data).pairs(n, rng))]
    grid = TimeGrid.uniform(60)
    for _ in range(6):
        gen = bridge(found[-1], a, b, sigma)
        simulate = lambda x, rng, gen=gen: integrate(Euler(), gen, x, grid, rng).state  # noqa: E731
        pairs = Simulated(base, simulate).pairs(n, rng)
        found.append(covariance(pairs))
        assert not pairs.x1.requires_grad
    error = math.sqrt((a**2 * b**2 + exact**2) / n)
    allowed = BOUND * error + 0.02 * exact  # sampling, and Euler's O(h)
    assert abs(found[-1] - exact) < allowed
    assert abs(found[0] - exact) > allowed and abs(found[1] - exact) > allowed
    assert abs(float(pairs.x0.var()) - a**2) < BOUND * math.sqrt(2 / n) * a**2
    assert abs(float(pairs.x1.var()) - b**2) < BOUND * math.sqrt(2 / n) * b**2 + 0.03
    wrong = 0.5 * (math.sqrt(4 * a**2 * b**2 + sigma**4) - 1.2 * sigma**2)
    assert abs(found[-1] - wrong) > allowed


def test_pairs_made_by_a_flow_are_straight(rng):
    """The exact flow's pairs have one velocity per point: its regression leaves no residual."""
    path, law = LinearPath(PLANE), single([1.0, -2.0], 0.5)
    gen = ODE().generator(path, "velocity", MixtureMarginal(path, law).velocity)
    simulate = lambda x, rng: integrate(AdamsBashforth(), gen, x, TimeGrid.uniform(200), rng).state  # noqa: E731
    base = Gaussian((2,), dtype=DOUBLE)
    residuals = {}
    for name, coupling in (
        ("simulated", Simulated(base, simulate)),
        ("independent", Independent(base, law)),
    ):
        pairs = coupling.pairs(2000, rng)
        stored = Stored(pairs.x0, pairs.x1).pairs(2000, rng)
        draw = path.draw(0.5, stored.x0, stored.x1, rng)
        design = torch.cat([torch.ones(2000, 1, dtype=DOUBLE), draw.state], 1)
        target = path.target("velocity", draw)
        fit = design @ torch.linalg.lstsq(design, target).solution
        residuals[name] = float((target - fit).square().mean())
    assert residuals["simulated"] < 1e-6
    assert residuals["independent"] > 0.1


# -- facts of a row ----------------------------------------------------------------------------


def test_facts_survive_resampling_between_steps(rng):
    """A transform that gathers rows by weight keeps label and particle together."""
    n = 4000
    labels = torch.arange(n) % 2
    target = torch.where(labels == 0, -2.0, 3.0).double()[:, None]
    has = frozenset({"velocity", "potential"})

    def evaluate(t, s):
        goal = torch.where(s["label"] == 0, -2.0, 3.0).double()[:, None]
        return Parts({"x": goal - s["x"]}, potential=s["label"].double())

    gen = MarkovGenerator(Product({"x": Euclidean(1)}), evaluate, has)

    def resample(carry, t, rng):
        index = torch.multinomial(carry.log_weight.exp(), n, replacement=True, generator=rng)
        return replace(carry, state=gather(carry.state, index), log_weight=0 * carry.log_weight)

    start = {"x": 0 * target, "label": labels, "row": torch.arange(n)}
    end = integrate(Euler(), gen, start, TimeGrid.uniform(10), rng, transforms=[resample]).state
    goal = torch.where(end["label"] == 0, -2.0, 3.0).double()[:, None]
    assert torch.allclose(end["x"], (1 - 0.9**10) * goal, atol=1e-12)
    assert torch.equal(end["label"], labels[end["row"]])
    share = float(end["label"].double().mean())
    exact = math.e / (1 + math.e)
    assert abs(share - exact) < BOUND * math.sqrt(10 * exact * (1 - exact) / n)
    assert abs(share - 0.5) > BOUND * math.sqrt(10 * exact * (1 - exact) / n)
    scattered = {**end, "label": labels}
    assert not torch.equal(scattered["label"], labels[scattered["row"]])


def test_every_dynamics_of_the_exact_model_has_the_same_law(rng):
    """ODE and SDE of one model across plugins' couplings: two moments, z by rows."""
    n, path = 5000, LinearPath(PLANE, base="gaussian")
    law = single([1.0, -2.0], 0.5)
    model = Model(MixtureMarginal(path, law).velocity, path, Gaussian((2,), dtype=DOUBLE))
    for dynamics in (ODE(), SDE(0.5), SDE(2.0)):
        x = model.sample(n, dynamics, Euler(), TimeGrid.uniform(100), rng)[:, 0]
        first, second = float(x.mean() - 1.0), float((x - 1.0).square().mean())
        bias = 0.03  # Euler's O(h)
        assert abs(first) < BOUND * 0.5 / math.sqrt(n) + bias
        for std, right in ((0.5, True), (0.6, False)):
            allowed = BOUND * std**2 * math.sqrt(2 / n) + bias
            assert (abs(second - std**2) < allowed) == right


# -- a learned product: one joint field ---------------------------------------------------------


PRIOR, MEANS, VARIANCES = (0.65, 0.35), (-1.0, 1.5), (0.25, 0.64)


def label_and_number(times, state, blind=False):
    """The exact joint field of c ~ (.65, .35), x | c normal: velocity of x, logits of c."""
    t, x, c = times["x"], state["x"], state["c"]
    means, variances = torch.tensor(MEANS, dtype=DOUBLE), torch.tensor(VARIANCES, dtype=DOUBLE)
    t, x = t[:, None], x[:, None]
    variance = (1 - t) ** 2 + t**2 * variances
    slope = (t * variances - (1 - t)) / variance
    velocity = means + slope * (x - t * means)
    logits = -0.5 * (x - t * means) ** 2 / variance - 0.5 * variance.log()
    logits = logits + torch.tensor(PRIOR, dtype=DOUBLE).log()
    known = torch.nn.functional.one_hot(c.clamp(max=1), 2).to(DOUBLE)
    weights = torch.softmax(logits, 1)
    if not blind:  # a label that is there already decides which velocity
        weights = torch.where((c < 2)[:, None], known, weights)
    return {"x": (weights * velocity).sum(1), "c": logits}


@pytest.mark.parametrize("clocked", [(), ("c",), ("x",)])
def test_a_product_with_one_joint_field_has_the_exact_joint_law(clocked, rng):
    """Any monotone clocks give the law of (x, c); a velocity blind to the label does not."""
    letters, n, steps = Categorical(2, ()), 20_000, 200
    paths = {"x": LinearPath(Euclidean()), "c": MaskedPath(letters)}
    path = ProductPath(paths, {leaf: Scalar(lambda s: s**2) for leaf in clocked})
    start = {"x": normal(n, rng=rng), "c": torch.full((n,), 2)}
    calls = []

    def moments(blind):
        def field(times, state):
            calls.append(1)
            return label_and_number(times, state, blind)

        gen = factorwise(path, {"x": ODE(), "c": Jump()}, {"x": "velocity", "c": "logits"}, field)
        assert gen.has == {"velocity", "jumps"}
        end = integrate(Euler(), gen, start, TimeGrid.uniform(steps), rng).state
        assert bool((end["c"] < 2).all())
        ones = end["c"] == 1
        found = [ones.double().mean(), end["x"][~ones].mean(), end["x"][ones].mean()]
        exact = [0.35, *MEANS]
        spread = [0.35 * 0.65 / n, 0.25 / (0.65 * n), 0.64 / (0.35 * n)]
        allowance = 0.02  # Euler with 200 steps, and labels revealed at frozen rates
        bounds = [4.5 * v**0.5 + allowance for v in spread]
        return [abs(float(a) - b) < c for a, b, c in zip(found, exact, bounds, strict=True)]

    assert all(moments(blind=False))
    assert len(calls) == steps  # one network call per step
    assert not all(moments(blind=True))


def test_a_factor_without_dynamics_is_named():
    path = ProductPath({"x": LinearPath(PLANE), "c": MaskedPath(Categorical(3, (2,)))})
    with pytest.raises(CapabilityError, match="every factor has a dynamics and a prediction") as e:
        factorwise(path, {"x": ODE()}, {"x": "velocity"}, lambda times, state: {})
    assert "none for c" in str(e.value)
