"""The contracts of the dynamic kinds have teeth: each passes what is right and sees what is not."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from genpath.couplings import Pairs
from genpath.generators import MarkovGenerator, flow, product
from genpath.jumps import RateJumps
from genpath.laws import Gaussian
from genpath.models import Model
from genpath.noises import MatrixNoise
from genpath.objectives import Regression
from genpath.parts import Parts
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule
from genpath.samplers import AdamsBashforth, Euler, RungeKutta
from genpath.spaces import Euclidean
from genpath.tableaus import EULER, RK4
from genpath.testing import Trial, but, contracts, run_claim
from genpath.testing.running import Bound

from .toys import DOUBLE, RATES, Letters, chain, normal

PLANE = Euclidean(2)


def fails(claim, thing):
    return any(not found.passed for found in claim.measure(thing, Trial(claim.name)))


def by_name(claims):
    return {claim.name: claim for claim in claims}


# -- paths -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arc:
    """x_t = cos(πt/2) x0 + sin(πt/2) x1 for x0 ~ N(0, I): variance preserving, with all it owes."""

    space = PLANE

    @property
    def predictions(self):
        return {
            "velocity": Prediction("velocity", (2,), True, "E[ẋ_t | x_t]"),
            "denoiser": Prediction("denoiser", (2,), False, "E[x1 | x_t]"),
            "score": Prediction("score", (2,), True, "∇log p_t"),
        }

    @property
    def rules(self):
        half = math.pi / 2

        def velocity(t, x, denoiser):
            c, s = torch.cos(half * t)[:, None], torch.sin(half * t)[:, None]
            return half * (c * denoiser - s * (x - s * denoiser) / c)

        def score(t, x, denoiser):
            c, s = torch.cos(half * t)[:, None], torch.sin(half * t)[:, None]
            return (s * denoiser - x) / c**2

        return (Rule("velocity", ("denoiser",), velocity), Rule("score", ("denoiser",), score))

    def weights(self, t):
        angle = math.pi / 2 * t[:, None]
        c = torch.cos(angle)
        return torch.where(t[:, None] == 1, 0.0, c), torch.sin(angle)

    def draw(self, t, x0, x1, rng):
        c, s = self.weights(t)
        return Draw(t, c * x0 + s * x1, x0, x1)

    def target(self, name, draw):
        c, s = self.weights(draw.t)
        if name == "velocity":
            return math.pi / 2 * (c * draw.x1 - s * draw.x0)
        return draw.x1 if name == "denoiser" else -draw.x0 / c

    def conditional_generator(self, x0, x1):
        def velocity(t, x):
            c, s = self.weights(t)
            return math.pi / 2 * (c * x1 - s * (x - s * x1) / c)

        return flow(PLANE, velocity)

    def renoise(self, t_from, t_to, state, rng):
        ratio = torch.sin(math.pi / 2 * t_to) / torch.sin(math.pi / 2 * t_from)
        c_to, c_from = self.weights(t_to)[0][:, 0], self.weights(t_from)[0][:, 0]
        variance = (c_to**2 - ratio**2 * c_from**2).clamp_min(0)
        noise = normal(*state.shape, rng=rng)
        return ratio[:, None] * state + variance.sqrt()[:, None] * noise


def arc_pairs(n, rng):
    return Pairs(normal(n, 2, rng=rng), 1 + 0.5 * normal(n, 2, rng=rng))


def arc_denoiser(t, x):
    """E[x1 | x_t] of x1 ~ N(1, ¼): the regression of one normal vector on another."""
    c, s = Arc().weights(t)
    return 1 + 0.25 * s / (c**2 + 0.25 * s**2) * (x - s)


def arc_velocity(t, x):
    return Arc().rules[0].formula(t, x, arc_denoiser(t, x))


ARC = by_name(
    contracts.path(Arc, arc_pairs, fields={"denoiser": arc_denoiser, "velocity": arc_velocity})
)


@dataclass(frozen=True)
class Flips:
    """Letters that turn from x0 into x1 with probability t², two sites of three letters."""

    space = Letters(3, (2,))
    rules = ()

    @property
    def predictions(self):
        return {"logits": Prediction("logits", (2, 3), False, "log p(x1 | x_t)")}

    def draw(self, t, x0, x1, rng):
        u = torch.rand(x1.shape, generator=rng, dtype=DOUBLE)
        return Draw(t, torch.where(u < t[:, None] ** 2, x1, x0), x0, x1)

    def target(self, name, draw):
        return draw.x1

    def jumps(self, t, state, logits):
        hazard = (2 * t / (1 - t**2))[:, None, None]
        return RateJumps(hazard * logits.softmax(-1), state)

    def conditional_generator(self, x0, x1):
        goal = torch.nn.functional.one_hot(x1, 3)

        def evaluate(t, x):
            return Parts(jumps=RateJumps((2 * t / (1 - t**2))[:, None, None] * goal, x))

        return MarkovGenerator(self.space, evaluate, frozenset({"jumps"}))

    def renoise(self, t_from, t_to, state, rng):
        u = torch.rand(state.shape, generator=rng, dtype=DOUBLE)
        fresh = torch.randint(3, state.shape, generator=rng)
        return torch.where(u < (t_to / t_from)[:, None] ** 2, state, fresh)


P1 = torch.tensor([0.6, 0.3, 0.1], dtype=DOUBLE)


def flip_pairs(n, rng):
    x1 = torch.multinomial(P1.expand(n, 3), 2, replacement=True, generator=rng)
    return Pairs(torch.randint(3, (n, 2), generator=rng), x1)


def flip_logits(t, x):
    """log p(x1) p(x_t | x1), p(x_t | x1) = t² 1{x_t = x1} + (1 − t²)/3: Bayes."""
    keep = (t**2)[:, None, None]
    likelihood = keep * torch.nn.functional.one_hot(x, 3) + (1 - keep) / 3
    return (P1 * likelihood).log()


FLIPS = by_name(contracts.path(Flips, flip_pairs, fields={"logits": flip_logits}))
ALL = [("arc", claim) for claim in ARC.values()] + [("flips", claim) for claim in FLIPS.values()]


@pytest.mark.parametrize(("name", "claim"), ALL, ids=[f"{n}/{c.name}" for n, c in ALL])
def test_a_right_path_keeps_its_claims_and_their_controls_fail(name, claim):
    run_claim(Bound(claim, name), fast=True, search=False).require()


def test_the_claims_of_a_path_are_those_that_it_can_keep():
    every = ["endpoints", "forward-equation", "noising-kernel", "targets", "marginal"]
    assert list(ARC) == list(FLIPS) == every
    plain = contracts.path(Arc, arc_pairs, renoise=False, rules=False)
    assert [claim.name for claim in plain] == [
        "endpoints", "forward-equation", "targets",
    ]  # fmt: skip
    cited = by_name(contracts.path(Arc, arc_pairs, entries={"targets": ("D.4",)}))
    assert cited["targets"].entries == ("D.4",) and cited["endpoints"].entries == ()


def wrong_arcs():
    arc = Arc()

    def off_by_a_sign(t, x0, x1, rng):
        c, s = arc.weights(t)
        return Draw(t, c * x0 - s * x1, x0, x1)

    def wrong_beyond_the_first(t, x0, x1, rng):
        return replace(arc.draw(t[:1].expand_as(t), x0, x1, rng), t=t)

    def without_seed(t, x0, x1, rng):
        found = arc.draw(t, x0, x1, rng)
        inside = (t * (1 - t))[:, None] > 0
        return replace(found, state=found.state + inside * 1e-3 * torch.randn(2, dtype=DOUBLE))

    def missing_term(x0, x1):
        return flow(PLANE, lambda t, x: math.pi / 2 * arc.weights(t)[0] * x1)

    def turned(name, draw):
        sign = -1 if name == "velocity" else 1
        return sign * arc.target(name, draw)

    def unscaled(name, draw):
        return -draw.x0 if name == "score" else arc.target(name, draw)

    def too_loud(t_from, t_to, state, rng):
        still = arc.renoise(t_from, t_to, state, torch.Generator().manual_seed(1))
        return still + 0.3 * (t_to < t_from)[:, None] * normal(*state.shape, rng=rng)

    def never_quiet(t_from, t_to, state, rng):
        return arc.renoise(t_from, t_to, state, rng) + 1e-6

    def other_rule():
        rule = arc.rules[1]
        return (arc.rules[0], replace(rule, formula=lambda t, x, d: 1.1 * rule.formula(t, x, d)))

    return {
        ("endpoints", "x1 has the wrong sign"): but(arc, draw=off_by_a_sign),
        ("endpoints", "one time for all rows"): but(arc, draw=wrong_beyond_the_first),
        ("endpoints", "numbers from elsewhere"): but(arc, draw=without_seed),
        ("endpoints", "another space"): but(arc, space=Euclidean(3)),
        ("forward-equation", "one time for all rows"): but(arc, draw=wrong_beyond_the_first),
        ("forward-equation", "a term is missing"): but(arc, conditional_generator=missing_term),
        ("targets", "the velocity is turned round"): but(arc, target=turned),
        ("targets", "the score is not divided"): but(arc, target=unscaled),
        ("targets", "a rule is off by a tenth"): but(arc, rules=other_rule()),
        ("noising-kernel", "noise is added twice"): but(arc, renoise=too_loud),
        ("noising-kernel", "s = t is no identity"): but(arc, renoise=never_quiet),
        ("marginal", "x1 has the wrong sign"): but(arc, draw=off_by_a_sign),
    }


@pytest.mark.parametrize(("case", "broken"), wrong_arcs().items(), ids=lambda c: str(c)[:60])
def test_a_wrong_path_on_the_plane_is_seen(case, broken):
    try:
        assert fails(ARC[case[0]], broken)
    except ValueError as refused:
        assert "shape" in str(refused)


def wrong_flips():
    flips = Flips()

    def linear(t, x0, x1, rng):
        return replace(flips.draw(t.sqrt(), x0, x1, rng), t=t)

    def together(t, x0, x1, rng):
        u = torch.rand(len(x1), 1, generator=rng, dtype=DOUBLE)
        return Draw(t, torch.where(u < t[:, None] ** 2, x1, x0), x0, x1)

    def no_hazard(x0, x1):
        known = torch.nn.functional.one_hot(x1, 3).double()
        rates = lambda t, x: RateJumps((2 * t)[:, None, None] * known, x)  # noqa: E731
        return MarkovGenerator(flips.space, lambda t, x: Parts(jumps=rates(t, x)), {"jumps"})

    def unnormalised(t, state, logits):
        return RateJumps((2 * t / (1 - t**2))[:, None, None] * logits.sigmoid(), state)

    def linear_kernel(t_from, t_to, state, rng):
        return flips.renoise(t_from.sqrt(), t_to.sqrt(), state, rng)

    def first_site(name, draw):
        return draw.x1[:, :1].expand_as(draw.x1)

    return {
        ("forward-equation", "κ = t in the draw"): but(flips, draw=linear),
        ("forward-equation", "1/(1 − κ) is missing"): but(flips, conditional_generator=no_hazard),
        ("marginal", "κ = t in the draw"): but(flips, draw=linear),
        ("forward-equation", "sites turn together"): but(flips, draw=together),
        ("noising-kernel", "κ = t in the kernel"): but(flips, renoise=linear_kernel),
        ("targets", "rates do not add up"): but(flips, jumps=unnormalised),
        ("targets", "the letter of another site"): but(flips, target=first_site),
    }


@pytest.mark.parametrize(("case", "broken"), wrong_flips().items(), ids=lambda c: str(c)[:60])
def test_a_wrong_path_of_letters_is_seen(case, broken):
    assert fails(FLIPS[case[0]], broken)


def test_a_wrong_oracle_is_seen():
    flat = by_name(
        contracts.path(Flips, flip_pairs, fields={"logits": lambda t, x: 0 * flip_logits(t, x)})
    )
    assert fails(flat["targets"], Flips()) and fails(flat["marginal"], Flips())
    late = lambda t, x: arc_denoiser(0.7 * t, x)  # noqa: E731
    shifted = by_name(contracts.path(Arc, arc_pairs, fields={"denoiser": late}))
    assert fails(shifted["targets"], Arc()) and fails(shifted["marginal"], Arc())


def test_ends_may_be_near_or_in_law():
    """A path truncated at both ends: x_t is drawn between 0.05 and 0.95."""

    def draw(t, x0, x1, rng):
        return replace(Arc().draw(0.05 + 0.9 * t, x0, x1, rng), t=t)

    truncated = but(Arc(), draw=draw)
    exact, near, law = (
        by_name(contracts.path(Arc, arc_pairs, ends=ends))["endpoints"]
        for ends in ((0.0, 0.0), (0.6, 0.6), (None, 0.6))
    )
    assert fails(exact, truncated)
    assert not fails(near, truncated)
    assert fails(law, but(Arc(), draw=lambda t, x0, x1, rng: replace(
        Arc().draw(0.3 + 0.7 * t, x0, x1, rng), t=t)))  # fmt: skip


# -- samplers ----------------------------------------------------------------------------------

SAMPLERS = {
    "euler": by_name(contracts.sampler(Euler)),
    "heun": by_name(contracts.sampler(RungeKutta)),
    "rk4": by_name(contracts.sampler(lambda: RungeKutta(RK4))),
    "adams-bashforth": by_name(contracts.sampler(AdamsBashforth, starting_calls=1)),
}
EACH = [(name, claim) for name, claims in SAMPLERS.items() for claim in claims.values()]


@pytest.mark.parametrize(("name", "claim"), EACH, ids=[f"{n}/{c.name}" for n, c in EACH])
def test_a_right_sampler_keeps_its_claims_and_their_controls_fail(name, claim):
    run_claim(Bound(claim, name), fast=True, search=False).require()


def test_the_claims_of_a_sampler_are_about_the_parts_that_it_carries():
    assert list(SAMPLERS["heun"]) == ["order-of-flows", "carries", "steps"]
    assert list(SAMPLERS["euler"]) == [
        "order-of-flows", "order-of-diffusions", "noise", "order-of-jumps", "carries", "steps",
    ]  # fmt: skip


def wrong_samplers():
    heun, euler, bashforth = RungeKutta(), Euler(), AdamsBashforth()

    def forgets_the_ratio(gen, carry, t, t_next, rng):
        memory = {
            k: v if k == "slope" else torch.full_like(v, t_next - t)
            for k, v in carry.memory.items()
        }
        return bashforth.step(gen, replace(carry, memory=memory), t, t_next, rng)

    def only_forward(gen, carry, t, t_next, rng):
        return heun.step(gen, carry, t, t + abs(t_next - t), rng)

    def noise_of_the_step(gen, carry, t, t_next, rng):
        def evaluate(t, x):
            parts = gen.evaluate(t, x)
            return replace(parts, diffusion=parts.diffusion.scaled((t_next - t_0) ** 0.5))

        t_0 = t
        return euler.step(replace(gen, evaluate=evaluate), carry, t, t_next, rng)

    def at_the_end(gen, carry, t, t_next, rng):
        late = replace(gen, evaluate=lambda _, x: gen.evaluate(torch.full((len(x),), 1.0), x))
        return euler.step(late, carry, t, t_next, rng)

    def without_rows(gen, carry, t, t_next, rng):
        if not len(carry.state):
            return replace(carry, state=carry.state[None])
        return heun.step(gen, carry, t, t_next, rng)

    def in_place(gen, carry, t, t_next, rng):
        carry.state.mul_(1.0 + 1e-9)
        return heun.step(gen, carry, t, t_next, rng)

    return {
        ("heun", "order-of-flows", "Euler sold as Heun"): but(RungeKutta(EULER), order=2),
        ("heun", "order-of-flows", "an order too low"): but(heun, order=1),
        ("heun", "order-of-flows", "it runs forward only"): but(heun, step=only_forward),
        ("adams-bashforth", "order-of-flows", "equal steps only"): but(
            bashforth, step=forgets_the_ratio
        ),
        ("euler", "order-of-diffusions", "noise of a power"): but(euler, step=noise_of_the_step),
        ("euler", "order-of-jumps", "rates of the end"): but(euler, step=at_the_end),
        ("heun", "steps", "a call too few"): but(heun, calls_per_step=1),
        ("heun", "steps", "no rows become some"): but(heun, step=without_rows),
        ("heun", "steps", "the start is overwritten"): but(heun, step=in_place),
        ("heun", "carries", "noise is accepted"): but(heun, carries=Euler().carries),
    }  # fmt: skip


@pytest.mark.parametrize(("case", "broken"), wrong_samplers().items(), ids=lambda c: str(c)[:60])
def test_a_wrong_sampler_is_seen(case, broken):
    assert fails(SAMPLERS[case[0]][case[1]], broken)


# -- objectives --------------------------------------------------------------------------------


class Counts:
    """x_t = x0 on the plane; the target is a count of mean exp(sin x), asked for as log rate."""

    space, rules = PLANE, ()

    @property
    def predictions(self):
        return {"rate": Prediction("rate", (2,), False, "log E[count | x]")}

    def draw(self, t, x0, x1, rng):
        return Draw(t, x0, x0, x1)

    def target(self, name, draw):
        return draw.x1


def count_pairs(n, rng):
    x = normal(n, 2, rng=rng)
    return Pairs(x, torch.poisson(x.sin().exp(), generator=rng))


def arc_model():
    return Model(arc_velocity, Arc(), Gaussian((2,)))


def count_model():
    return Model(lambda t, x: x.sin(), Counts(), None, "rate")


OBJECTIVES = {
    "squared": by_name(contracts.objective(Regression, arc_model, arc_pairs, targets=arc_velocity)),
    "cross-entropy": by_name(
        contracts.objective(
            lambda: Regression("cross_entropy"),
            lambda: Model(flip_logits, Flips(), None, "logits"),
            flip_pairs,
        )
    ),
    "poisson": by_name(
        contracts.objective(
            lambda: Regression("poisson"),
            count_model,
            count_pairs,
            targets=lambda t, x: x.sin().exp(),
        )
    ),
}
OF_EACH = [(name, claim) for name, claims in OBJECTIVES.items() for claim in claims.values()]


@pytest.mark.parametrize(("name", "claim"), OF_EACH, ids=[f"{n}/{c.name}" for n, c in OF_EACH])
def test_a_right_objective_keeps_its_claims_and_their_controls_fail(name, claim):
    run_claim(Bound(claim, name), fast=True, search=False).require()


def wrong_objectives():
    squared, poisson = Regression(), Regression("poisson")

    def parts(model, pairs, t, rng):
        draw = model.path.draw(t, pairs.x0, pairs.x1, rng)
        return model.path.target(model.predict, draw), model.field(t, draw.state)

    def absolute(model, pairs, t, rng):
        target, found = parts(model, pairs, t, rng)
        return (target - found).abs().sqrt().sum(1)

    def fourth(model, pairs, t, rng):
        target, found = parts(model, pairs, t, rng)
        return ((target - found) ** 4).sum(1)

    def swapped(model, pairs, t, rng):
        """Σ b log(b/(a + 1)) − b + a + 1: the model is the first argument, as it must not be."""
        target, found = parts(model, pairs, t, rng)
        return (found.exp() * (found - (target + 1).log()) - found.exp()).sum(1)

    def averaged(model, pairs, t, rng):
        return squared(model, pairs, t, rng).mean().expand(len(t))

    def uphill(model, pairs, t, rng):
        return -squared(model, pairs, t, rng)

    return {
        ("squared", "minimiser", "roots of differences"): but(squared, __call__=absolute),
        ("squared", "minimiser", "a maximum"): but(squared, __call__=uphill),
        ("squared", "gradient", "no Bregman divergence"): but(squared, __call__=fourth),
        ("squared", "values", "one mean for all"): but(squared, __call__=averaged),
        ("poisson", "minimiser", "swapped arguments"): but(poisson, __call__=swapped),
        ("poisson", "gradient", "swapped arguments"): but(poisson, __call__=swapped),
        ("poisson", "minimiser", "squares of the logarithm"): squared,
    }


@pytest.mark.parametrize(("case", "broken"), wrong_objectives().items(), ids=lambda c: str(c)[:60])
def test_a_wrong_objective_is_seen(case, broken):
    assert fails(OBJECTIVES[case[0]][case[1]], broken)


# -- generators --------------------------------------------------------------------------------


def turning(t, x):
    return torch.stack([torch.sin(x[:, 1]) - t * x[:, 0], 0.5 * x[:, 0] * torch.cos(x[:, 1])], 1)


def sigma(x):
    one = torch.ones_like(x[:, 0])
    top = torch.stack([1 + 0.3 * torch.cos(x[:, 1]), 0.2 * torch.sin(x[:, 0])], 1)
    return torch.stack([top, torch.stack([0.4 * one, one], 1)], 1)


def killed():
    """A flow, a noise that depends on the state, and a potential."""

    def evaluate(t, x):
        noise = MatrixNoise(sigma(x), uniform=False)
        return Parts(turning(t, x), noise, potential=torch.tanh(x[:, 0]))

    return MarkovGenerator(PLANE, evaluate, {"velocity", "diffusion", "potential"})


def tossed():
    """Two letters that flip, beside a flow."""
    return product({"x": flow(PLANE, turning), "letters": chain(RATES, (2,))})


NINE = torch.tensor([3.0, 1, 2, 1, 4, 1, 2, 2, 5], dtype=DOUBLE) / 21


def normals(n, rng):
    return normal(n, 2, rng=rng)


def nines(n, rng):
    index = torch.multinomial(NINE, n, replacement=True, generator=rng)
    return {"x": normals(n, rng), "letters": torch.stack([index // 3, index % 3], 1)}


def log_normal(x):
    return -0.5 * x.square().sum(1)


def log_nine(s):
    return log_normal(s["x"]) + NINE[3 * s["letters"][:, 0] + s["letters"][:, 1]].log()


GENERATORS = {
    "killed": by_name(contracts.generator(killed, normals, log_density=log_normal)),
    "tossed": by_name(contracts.generator(tossed, nines, log_density=log_nine)),
}
OF_ALL = [(name, claim) for name, claims in GENERATORS.items() for claim in claims.values()]


@pytest.mark.parametrize(("name", "claim"), OF_ALL, ids=[f"{n}/{c.name}" for n, c in OF_ALL])
def test_a_right_generator_keeps_its_claims_and_their_controls_fail(name, claim):
    run_claim(Bound(claim, name), fast=True, search=False).require()


def wrong_generators():
    gen = killed()

    def uniform(t, x):
        return replace(gen.evaluate(t, x), diffusion=MatrixNoise(sigma(x), uniform=True))

    def undisturbed(f, t, x):
        rest = replace(gen, evaluate=lambda t, x: replace(gen.evaluate(t, x), diffusion=None))
        return replace(rest, has=gen.has - {"diffusion"}).apply(f, t, x)

    def by_its_place(t, x):
        return replace(
            gen.evaluate(t, x), velocity=turning(t, x) * torch.linspace(0, 1, len(x))[:, None]
        )

    return {
        ("one-step", "the noise is forgotten"): but(gen, apply=undisturbed),
        ("adjointness", "the noise is forgotten"): but(gen, apply=undisturbed),
        ("adjointness", "the derivatives of σ are forgotten"): replace(gen, evaluate=uniform),
        ("parts", "the place in the batch counts"): replace(gen, evaluate=by_its_place),
        ("linear", "L + L is 3 L"): but(gen, __add__=lambda other: 3 * gen),
    }


@pytest.mark.parametrize(("case", "broken"), wrong_generators().items(), ids=lambda c: str(c)[:60])
def test_a_wrong_generator_is_seen(case, broken):
    assert fails(GENERATORS["killed"][case[0]], broken)
