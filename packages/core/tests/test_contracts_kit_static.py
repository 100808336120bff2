"""The contracts of the static kinds have teeth: a right thing passes, each wrong one is found.

The wrong things here are not the contracts' own controls: they are mistakes as authors make them.
"""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from genpath.codecs import Dequantise, Identity, Standardise
from genpath.couplings import Independent, Pairs, Stored
from genpath.errors import DomainError, SingularTimeError
from genpath.laws import Empirical, Gaussian
from genpath.networks import MLP
from genpath.predictions import Rule, convert
from genpath.schedules import AffineSchedule, KeepSchedule, Scalar, linear_keep
from genpath.spaces import Euclidean, Product
from genpath.testing import but, contracts, exact, run_claim
from genpath.testing.running import Bound

from .toys import Letters

DOUBLE = torch.float64
PLANE = Euclidean(2)


def verdicts(claims, seed=0):
    return {c.name: run_claim(Bound(c, "it"), seed=seed, fast=True, search=False) for c in claims}


def accept(claims):
    for verdict in verdicts(claims).values():
        verdict.require()


def fails(claims, name):
    """The claims that do not hold, of which one has this name."""
    found = [claim for claim, verdict in verdicts(claims).items() if not verdict.holds]
    assert name in found, f"{name} holds; failed: {found}"


def normal(*shape):
    return lambda count, rng: torch.randn(count, *shape, generator=rng, dtype=DOUBLE)


# -- spaces ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Circle:
    """The unit circle in the plane, by angles: a curved space with everything, transport too."""

    event_shape = (2,)
    dimension = 1

    def contains(self, x, tolerance=1e-4):
        return (x.norm(dim=1) - 1).abs() <= tolerance

    def project(self, x):
        return x / x.norm(dim=1, keepdim=True)

    def turned(self, x):
        return torch.stack([-x[:, 1], x[:, 0]], 1)

    def angle(self, x, y):
        return torch.atan2((self.turned(x) * y).sum(1), (x * y).sum(1))

    def distance(self, x, y):
        return self.angle(x, y).abs()

    def project_tangent(self, x, v):
        e = self.turned(x)
        return (e * v).sum(1, keepdim=True) * e

    def inner(self, x, u, v):
        return (u * v).sum(1)

    def step(self, x, v):
        angle = (self.turned(x) * v).sum(1, keepdim=True)
        return angle.cos() * x + angle.sin() * self.turned(x)

    def log(self, x, y):
        return self.angle(x, y)[:, None] * self.turned(x)

    def tangent_noise(self, x, rng):
        return self.project_tangent(x, torch.randn(x.shape, generator=rng, dtype=x.dtype))

    def tangent_basis(self, x):
        return self.turned(x)[None]

    def transport(self, x, y, v):
        return (self.turned(x) * v).sum(1, keepdim=True) * self.turned(y)


CIRCLE = Circle()


def on_circle(count, rng):
    return CIRCLE.project(normal(2)(count, rng))


def chord(x, v):
    """Add and project: right to first order, and never as far as v is long."""
    return CIRCLE.project(x + v)


def chord_of_length(x, v):
    """As far as the tangent is long, but not at constant speed: a wrong second derivative."""
    angle = (CIRCLE.turned(x) * v).sum(1, keepdim=True)
    return CIRCLE.step(x, (angle + 0.3 * angle**2) * CIRCLE.turned(x))


def shear(v):
    return torch.stack([v[:, 0] + v[:, 1], torch.zeros_like(v[:, 0])], 1)


WRONG_SPACES = {
    "projection": {
        "projects to the far side": dict(project=lambda x: -CIRCLE.project(x)),
        "does not project": dict(project=lambda x: x),
        "lets everything in": dict(contains=lambda x, tolerance=0: x[:, 0] == x[:, 0]),
        "lets NaN in": dict(contains=lambda x, tolerance=0: ~((x.norm(dim=1) - 1).abs() > 1e-4)),
    },
    "tangents": {
        "leaves vectors as they are": dict(project_tangent=lambda x, v: v - 0.5 * x),
        "projects along a slant": dict(
            project_tangent=lambda x, v: (
                (CIRCLE.turned(x) * v + 0.5 * x * v).sum(1, keepdim=True) * CIRCLE.turned(x)
            )
        ),
    },
    "metric": {
        "chords for arcs": dict(distance=lambda x, y: (x - y).norm(dim=1)),
        "the square": dict(distance=lambda x, y: CIRCLE.distance(x, y) ** 2),
        "an angle with a sign": dict(distance=CIRCLE.angle),
        "the long way round": dict(
            log=lambda x, y: (
                CIRCLE.log(x, y) - 2 * math.pi * CIRCLE.log(x, y).sign() * CIRCLE.turned(x).abs()
            )
        ),
    },
    "exponential": {
        "add and project": dict(step=chord),
        "an acceleration": dict(step=chord_of_length),
        "leaves the space": dict(step=lambda x, v: x + v),
    },
    "basis": {
        "not normal": dict(tangent_basis=lambda x: 2 * CIRCLE.tangent_basis(x)),
        "the ambient basis": dict(
            tangent_basis=lambda x: torch.eye(2, dtype=DOUBLE)[:, None].expand(2, len(x), 2)
        ),
        "normal to the tangents": dict(tangent_basis=lambda x: x[None]),
    },
    "tangent-noise": {
        "signs for normal numbers": dict(
            tangent_noise=lambda x, rng: (
                (torch.rand(len(x), 1, generator=rng) - 0.5).sign() * CIRCLE.turned(x)
            )
        ),
        "not projected": dict(tangent_noise=lambda x, rng: normal(2)(len(x), rng)),
        "not seeded": dict(tangent_noise=lambda x, rng: torch.randn(len(x), 1) * CIRCLE.turned(x)),
    },
    "transport": {
        "left where it was": dict(transport=lambda x, y, v: v),
        "projected": dict(transport=lambda x, y, v: CIRCLE.project_tangent(y, v)),
    },
}


@pytest.mark.parametrize("seed", range(3))
def test_a_curved_space_passes(seed):
    for verdict in verdicts(contracts.space(Circle, on_circle, radius=3.0), seed).values():
        verdict.require()


@pytest.mark.parametrize(
    ("claim", "change"),
    [(claim, change) for claim, faults in WRONG_SPACES.items() for change in faults.values()],
    ids=[f"{claim}: {name}" for claim, faults in WRONG_SPACES.items() for name in faults],
)
def test_a_wrong_space_is_found(claim, change):
    fails(contracts.space(lambda: but(CIRCLE, **change), on_circle, radius=3.0), claim)


def letters(count, rng):
    return torch.randint(3, (count, 2), generator=rng)


WRONG_LETTERS = {
    "cyclic neighbours only": ("neighbours", lambda x: Letters(3, (2,)).neighbours(x)[::2]),
    "two sites at once": (
        "neighbours",
        lambda x: torch.cat([Letters(3, (2,)).neighbours(x), (x[None] + 1) % 3]),
    ),
    "outside": ("neighbours", lambda x: Letters(3, (2,)).neighbours(x) + 3),
}


def test_letters_and_products_pass():
    accept(contracts.space(lambda: Letters(3, (2,)), letters))
    space = Product({"x": CIRCLE, "y": PLANE, "letters": Letters(3, (2,))})
    points = lambda n, rng: {  # noqa: E731
        "x": on_circle(n, rng), "y": normal(2)(n, rng), "letters": letters(n, rng)
    }  # fmt: skip
    accept(contracts.space(lambda: space, points, radius=3.0))


@pytest.mark.parametrize(("claim", "wrong"), WRONG_LETTERS.values(), ids=WRONG_LETTERS)
def test_wrong_neighbours_are_found(claim, wrong):
    fails(contracts.space(lambda: but(Letters(3, (2,)), neighbours=wrong), letters), claim)


@pytest.mark.parametrize(
    "wrong",
    [lambda x, y: (x - y).double().sum(1), lambda x, y: (x[:, 0] != y[:, 0]).double(),
     lambda x, y: (x - y).double().square().sum(1)],
    ids=["a sign", "one site only", "a square"],
)  # fmt: skip
def test_a_wrong_distance_of_letters_is_found(wrong):
    fails(contracts.space(lambda: but(Letters(3, (2,)), distance=wrong), letters), "distance")


# -- laws --------------------------------------------------------------------------------------

NODES = contracts.line(-9.0, 9.0)
LAW = Gaussian((), 0.5, 0.8, DOUBLE)

WRONG_LAWS = {
    "density: the mean of log p": ("density", dict(log_prob=lambda x: LAW.log_prob(x) / 2)),
    "density: log σ has the wrong sign": (
        "density",
        dict(log_prob=lambda x: LAW.log_prob(x) + 2 * math.log(0.8)),
    ),
    "stein: another mean": ("stein", dict(sample=Gaussian((), 0.3, 0.8, DOUBLE).sample)),
    "stein: another spread": ("stein", dict(sample=Gaussian((), 0.5, 1.0, DOUBLE).sample)),
    "stein: variance for deviation": (
        "stein",
        dict(log_prob=Gaussian((), 0.5, 0.64, DOUBLE).log_prob),
    ),
    "draws: global state": (
        "draws",
        dict(sample=lambda n, rng: LAW.mean + LAW.std * torch.randn(n, dtype=DOUBLE)),
    ),
    "draws: no batch axis": (
        "draws",
        dict(log_prob=lambda x: LAW.log_prob(x).sum()),
    ),
    "draws: outside of the space": (
        "draws",
        dict(sample=lambda n, rng: torch.full((n,), math.inf)),
    ),
}


@pytest.mark.parametrize(("claim", "change"), WRONG_LAWS.values(), ids=WRONG_LAWS)
def test_a_wrong_law_is_found(claim, change):
    accept(contracts.law(lambda: LAW, space=Euclidean(), nodes=NODES))
    fails(contracts.law(lambda: but(LAW, **change), space=Euclidean(), nodes=NODES), claim)


@dataclass(frozen=True)
class Bent:
    """The law of the angle with density (1 + a cos θ)/2π: exact draws by rejection."""

    tilt: float = 0.6
    drawn: float = 0.6

    def sample(self, count, rng):
        angle = 2 * math.pi * torch.rand(4 * count + 64, generator=rng, dtype=DOUBLE)
        keep = torch.rand(len(angle), generator=rng, dtype=DOUBLE) * (1 + self.drawn)
        angle = angle[keep < 1 + self.drawn * angle.cos()][:count]
        return torch.stack([angle.cos(), angle.sin()], 1)

    def log_prob(self, x):
        return torch.log1p(self.tilt * x[:, 0]) - math.log(2 * math.pi)


def test_stein_holds_on_a_curved_space_and_sees_another_density():
    accept(contracts.law(Bent, space=CIRCLE))
    fails(contracts.law(lambda: Bent(drawn=0.3), space=CIRCLE), "stein")


ROWS = torch.tensor([0, 1, 2, 2])
CELLS = torch.arange(3)
SHARES = torch.tensor([0.25, 0.25, 0.5], dtype=DOUBLE)


@pytest.mark.parametrize(
    "wrong", [Empirical(CELLS), Empirical(torch.tensor([0, 1, 2, 3])), Empirical(ROWS[:3])]
)
def test_wrong_frequencies_are_found(wrong):
    more = dict(cells=lambda: CELLS, probabilities=lambda: SHARES)
    accept(contracts.law(lambda: Empirical(ROWS), **more))
    fails(contracts.law(lambda: wrong, **more), "frequencies")


# -- couplings ---------------------------------------------------------------------------------

BASE, DATA = Gaussian((2,), dtype=DOUBLE), Gaussian((2,), 1.0, 0.5, DOUBLE)
LABELLED = Empirical({"x": normal(2)(200, torch.Generator()), "label": torch.arange(200)})
RIGHT = Independent(BASE, DATA)


def changed(coupling, change):
    return but(coupling, pairs=lambda n, rng: change(coupling.pairs(n, rng)))


def sorted_pairs(p):
    return Pairs(p.x0.sort(0).values, p.x1.sort(0).values)


WRONG_COUPLINGS = {
    "x1 twice": ("marginals", RIGHT, lambda p: Pairs(p.x0, p.x0)),
    "half of each": ("marginals", RIGHT, lambda p: Pairs(0.5 * (p.x0 + p.x0.roll(1, 0)), p.x1)),
    "coordinates exchanged": (
        "marginals",
        Independent(BASE, but(DATA, sample=lambda n, rng: DATA.sample(n, rng)
                              * torch.tensor([1.0, 2.0], dtype=DOUBLE))),
        lambda p: Pairs(p.x0, p.x1.flip(1)),
    ),
    "float32": ("rows", RIGHT, lambda p: Pairs(p.x0, p.x1.float())),
    "flat": ("rows", RIGHT, lambda p: Pairs(p.x0, p.x1[:, :1])),
    "the facts are lost": (
        "rows",
        Independent(BASE, LABELLED),
        lambda p: Pairs(p.x0, {"x": p.x1["x"]}),
    ),
    "the facts are left behind": (
        "facts",
        Independent(BASE, LABELLED),
        lambda p: Pairs(p.x0, {"x": p.x1["x"].flip(0), "label": p.x1["label"]}),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("claim", "right", "change"), WRONG_COUPLINGS.values(),
                         ids=WRONG_COUPLINGS)  # fmt: skip
def test_a_wrong_coupling_is_found(claim, right, change):
    law = right.data
    accept(contracts.coupling(lambda: right, base=BASE, data=law))
    wrong = but(right, pairs=lambda n, rng: change(right.pairs(n, rng)))
    if claim == "facts":  # which claims there are is asked of what is made
        assert "facts" in verdicts(contracts.coupling(lambda: wrong, base=BASE, data=law))
    fails(contracts.coupling(lambda: wrong, base=BASE, data=law), claim)


def test_a_pairing_within_the_batch_keeps_the_marginals():
    """Sorting each coordinate of plane points makes other points; on the line it pairs them."""
    line = Independent(Gaussian((1,), dtype=DOUBLE), Gaussian((1,), 2.0, dtype=DOUBLE))
    accept(contracts.coupling(lambda: changed(line, sorted_pairs), base=line.base, data=line.data))
    tied = replace(RIGHT, data=but(DATA, sample=lambda n, rng: BASE.sample(n, rng)[:, :1] *
                                   torch.tensor([1.0, -1.0], dtype=DOUBLE)))  # fmt: skip
    wrong = changed(tied, sorted_pairs)
    fails(contracts.coupling(lambda: wrong, base=BASE, data=tied.data), "marginals")


def test_stored_pairs_pass_for_their_own_ends_only():
    x0 = normal(2)(300, torch.Generator().manual_seed(3))
    ends = dict(base=Empirical(x0), data=Empirical(x0 + 1))
    accept(contracts.coupling(lambda: Stored(x0, x0 + 1), **ends))
    fails(contracts.coupling(lambda: Stored(x0, x0 + 1.2), **ends), "marginals")


# -- codecs ------------------------------------------------------------------------------------

CODEC = Standardise(torch.tensor([1.0, 2.0], dtype=DOUBLE), torch.tensor([0.5, 4.0], dtype=DOUBLE))
LEVELS = Dequantise(8, 2.0)


def levels(count, rng):
    return torch.randint(8, (count, 2), generator=rng).double()


def costing(codec, change):
    def encode(y, rng):
        state, log_det = codec.encode(y, rng)
        return state, change(log_det)

    return but(codec, encode=encode)


WRONG_CODECS = {
    "log σ with the wrong sign": ("log-determinant", costing(CODEC, torch.neg), normal(2)),
    "no cost": ("log-determinant", costing(CODEC, torch.zeros_like), normal(2)),
    "a mean over dimensions": ("log-determinant", costing(LEVELS, lambda c: c / 2), levels),
    "one cost for all rows": ("inverse", costing(LEVELS, torch.sum), levels),
    "not inverted": ("inverse", but(CODEC, decode=lambda s: s), normal(2)),
    "not rounded": ("inverse", but(LEVELS, decode=lambda s: (s / 2 + 1) * 4), levels),
    "one level up": ("inverse", but(LEVELS, decode=lambda s: LEVELS.decode(s) + 1), levels),
    "noise that is not seeded": (
        "inverse",
        but(LEVELS, encode=lambda y, rng: LEVELS.encode(y, torch.Generator().manual_seed(
            int(torch.randint(1000, ()))))),
        levels,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("claim", "wrong", "data"), WRONG_CODECS.values(), ids=WRONG_CODECS)
def test_a_wrong_codec_is_found(claim, wrong, data):
    right = LEVELS if data is levels else CODEC
    accept(contracts.codec(lambda: right, data))
    fails(contracts.codec(lambda: wrong, data), claim)


def test_data_with_facts_pass_without_a_jacobian():
    data = lambda n, rng: {"x": normal(2)(n, rng), "label": torch.arange(n)}  # noqa: E731
    accept(contracts.codec(Identity, data, jacobian=False))


# -- schedules ---------------------------------------------------------------------------------


def bridge(**changed):
    scalars = dict(alpha=lambda t: 1 - t, beta=lambda t: t, gamma_squared=lambda t: t * (1 - t))
    return AffineSchedule(**{**scalars, **changed})


SQUARE = KeepSchedule(Scalar(lambda t: t * t, lambda t: 2 * t))
SHORT = Scalar(lambda t: 0.9 * t)
WAVE = Scalar(lambda t: t + 0.2 * torch.sin(2 * math.pi * t))
WRONG_SCHEDULES = {
    "the rate of another power": (
        "rates",
        KeepSchedule(Scalar(lambda t: t**2, lambda t: 3 * t**2)),
    ),
    "the rate of 1 − β": ("rates", bridge(beta=Scalar(lambda t: t, lambda t: 0 * t - 1))),
    "the rate of γ, not γ²": (
        "rates",
        bridge(gamma_squared=Scalar(lambda t: t * (1 - t), lambda t: (1 - 2 * t) / 2)),
    ),
    "a rate in float32": ("rates", KeepSchedule(Scalar(lambda t: t, lambda t: torch.ones(len(t))))),
    "a boundary that it has not": (
        "boundary",
        but(SQUARE, kappa=SHORT, scalars=lambda: {"kappa": SHORT}),
    ),
    "a hole inside": (
        "boundary",
        bridge(beta=Scalar(lambda t: torch.where(t == 0.5, math.inf, t), torch.ones_like)),
    ),
    "κ falls": ("hazard", but(SQUARE, kappa=WAVE)),
    "the integral of κ̇": ("hazard", but(SQUARE, integrated_hazard=lambda s, t: t**2 - s**2)),
    "hazard κ̇/κ": ("hazard", but(SQUARE, hazard=lambda t: 2 / t)),
    "γ for γ²": ("latent-noise", but(bridge(), gamma=lambda t: t * (1 - t))),
    "γ̇ for γγ̇": (
        "latent-noise",
        but(bridge(), gamma_gamma_rate=lambda t: (0.5 - t) / (t * (1 - t)).sqrt()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("right", [SQUARE, linear_keep(), bridge()], ids=["t²", "t", "bridge"])
def test_a_right_schedule_passes(right):
    accept(contracts.schedule(lambda: right))


@pytest.mark.parametrize(("claim", "wrong"), WRONG_SCHEDULES.values(), ids=WRONG_SCHEDULES)
def test_a_wrong_schedule_is_found(claim, wrong):
    fails(contracts.schedule(lambda: wrong), claim)


def test_a_kink_is_stepped_over():
    kappa = Scalar(lambda t: torch.maximum(0.5 * t, 1.5 * t - 0.5))
    accept(contracts.schedule(lambda: KeepSchedule(kappa), breaks=(0.5,)))


# -- conversions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Straight:
    """x = (1−t) b + t d, u = d − b."""

    rules: tuple[Rule, ...] = (
        Rule("d", ("u",), lambda t, x, u: x + (1 - t) * u),
        Rule("u", ("d",), lambda t, x, d: (d - x) / (1 - t)),
        Rule("b", ("u",), lambda t, x, u: x - t * u),
        Rule("u", ("b",), lambda t, x, b: (x - b) / t),
    )

    def convert(self, want, given, t, x):
        if "d" in given and want == "u" and bool((t == 1).any()):
            raise SingularTimeError("convert", "u from d is infinite at t = 1.", got="t = 1")
        return convert(self.rules, given, want, t, x)


FIELDS = {
    "d": lambda t, x: torch.sin(x),
    "b": lambda t, x: (x - t * torch.sin(x)) / (1 - t),
    "u": lambda t, x: (torch.sin(x) - x) / (1 - t),
}


def times_and_states(count, rng):
    return 0.1 + 0.8 * torch.rand(count, generator=rng, dtype=DOUBLE), normal()(count, rng)


def with_rule(index, formula):
    rules = list(Straight().rules)
    rules[index] = replace(rules[index], formula=formula)
    return Straight(tuple(rules))


def test_right_conversions_pass():
    more = dict(singular=[(["d"], "u", 1.0)])
    accept(contracts.conversions(Straight, FIELDS, times_and_states, **more))


@pytest.mark.parametrize(
    ("claim", "wrong"),
    [
        ("rules", with_rule(0, lambda t, x, u: x + t * u)),
        ("rules", with_rule(1, lambda t, x, d: d - x)),
        ("rules", with_rule(2, lambda t, x, u: x + t * u)),
        ("rules", Straight((*Straight().rules, Rule("v", ("u",), lambda t, x, u: u)))),
        ("round-trips", with_rule(3, lambda t, x, b: (x - b) / (1 - t))),
        ("round-trips", Straight((Rule("b", ("d", "u"), lambda t, x, d, u: d - u),))),
        ("round-trips", with_rule(1, lambda t, x, d: FIELDS["u"](t, x))),
    ],
    ids=["t for 1 − t", "not divided", "a sign", "a quantity without field", "another divisor",
         "no rule from one quantity", "the right value, whatever is given"],
)  # fmt: skip
def test_wrong_conversions_are_found(claim, wrong):
    fails(contracts.conversions(lambda: wrong, FIELDS, times_and_states), claim)


def test_a_singular_time_that_is_not_refused_is_found():
    cases = dict(singular=[(["b"], "u", 0.0)])
    fails(contracts.conversions(Straight, FIELDS, times_and_states, **cases), "singular-times")


# -- networks ----------------------------------------------------------------------------------


def network():
    return MLP(2, (3,), width=8, depth=1)


class Normed(torch.nn.Module):
    """A network with a batch norm that is never in evaluation mode: rows see each other."""

    def __init__(self, change):
        super().__init__()
        self.inner, self.change = network(), change

    def forward(self, t, x):
        return self.change(self.inner(t, x))


WRONG_NETWORKS = {
    "a batch norm": ("rows-apart", lambda y: y - y.mean(0) if len(y) else y),
    "the first row for all": ("rows-apart", lambda y: y[:1].expand(len(y), 3)),
    "dropout in evaluation": ("shape", lambda y: torch.nn.functional.dropout(y, 0.5)),
    "NaN": ("shape", lambda y: y / 0 * 0),
    "no batch axis for one row": ("shape", lambda y: y.squeeze(0)),
    "no time": ("shape", lambda y: 0 * y + 1),
}


@pytest.mark.parametrize(("claim", "change"), WRONG_NETWORKS.values(), ids=WRONG_NETWORKS)
def test_a_wrong_network_is_found(claim, change):
    accept(contracts.network(network, lambda n, rng: torch.randn(n, 2, generator=rng), (3,)))
    states = lambda n, rng: torch.randn(n, 2, generator=rng)  # noqa: E731
    fails(contracts.network(lambda: Normed(change), states, (3,)), claim)


# -- operators ---------------------------------------------------------------------------------


def ramp(x, weight):
    """A smooth function of rows, with a weight per row."""
    return weight[:, None] * x.sin() + x


SAMPLES = [
    contracts.Sample("rows", (normal(3, 2)(1, torch.Generator())[0], torch.rand(3).double())),
]


@torch.library.custom_op("genpath_tests::ramp", mutates_args=())
def ramp_operator(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    work = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
    return ramp(x.to(work), weight.to(work)).to(x.dtype).contiguous()


@ramp_operator.register_fake
def _(x, weight):
    return torch.empty(x.shape, dtype=x.dtype)


def backward(ctx, grad):
    x, weight = ctx.saved_tensors
    return grad * (weight[:, None] * x.cos() + 1), (grad * x.sin()).sum(1)


ramp_operator.register_autograd(
    backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs)
)


class Forgetful(torch.autograd.Function):
    """The right values with a term of the gradient dropped."""

    @staticmethod
    def forward(x, weight):
        return ramp(x, weight)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad * weight[:, None] * x.cos(), (grad * x.sin()).sum(1)


WRONG_OPERATORS = {
    "a dropped term": ("values", lambda x, w: w[:, None] * x.sin()),
    "summed in half precision": ("values", lambda x, w: (w.half()[:, None] * x.sin()).to(x) + x),
    "another dtype": ("values", lambda x, w: ramp(x, w).double()),
    "memory order for index order": (
        "layouts",
        lambda x, w: ramp(x.as_strided(x.shape, (x.shape[1], 1)), w),
    ),
    "the mean over rows": ("layouts", lambda x, w: ramp(x, w.mean().expand_as(w))),
    "a row for no rows": (
        "layouts",
        lambda x, w: ramp(x, w) if len(x) else torch.zeros(1, 2, dtype=DOUBLE),
    ),
    "a gradient without a term": ("gradients", Forgetful.apply),
    "no gradient": ("gradients", lambda x, w: ramp(x.detach(), w)),
    "a value in Python": ("one-graph", lambda x, w: ramp(x, w) if float(x.sum()) > -1e9 else x),
}  # fmt: skip


def test_a_right_operator_passes():
    accept(contracts.kernel(ramp_operator, ramp, SAMPLES))
    accept(contracts.kernel(ramp, ramp, SAMPLES, dtypes=(DOUBLE, torch.float32)))


@pytest.mark.parametrize(("claim", "wrong"), WRONG_OPERATORS.values(), ids=WRONG_OPERATORS)
def test_a_wrong_operator_is_found(claim, wrong):
    found = contracts.kernel(wrong, ramp, SAMPLES, compiled=claim == "one-graph")
    found = [c for c in found if c.name == claim]
    fails(found, claim)


def test_a_wrong_fake_is_found():
    other = torch.library.custom_op("genpath_tests::late", ramp_operator._init_fn, mutates_args=())
    other.register_fake(lambda x, weight: x.new_empty(x.shape[0]))
    fails(
        contracts.kernel(other, ramp, SAMPLES, differentiable=False, compiled=False), "fake-shapes"
    )


class TestDrawnIntegers:
    """Operators without a reference: `alike` judges the cells of u."""

    U = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    SAMPLE = contracts.Sample("dice", (torch.full((5, 3), 6), U), changed=(1,))

    @staticmethod
    def roll(sides, u):
        return (sides * u.double()).floor().long().contiguous()

    @staticmethod
    def alike(what, found, args):
        u = args[1]
        right = sum((u.double() >= k / 6).long() for k in range(1, 6))
        yield exact(what, found, right)
        yield exact(f"{what}: strides", found.is_contiguous())

    def claims(self, operator):
        return contracts.kernel(
            operator, None, [self.SAMPLE], differentiable=False, alike=self.alike
        )

    def test_sound_dice_pass(self):
        accept(self.claims(self.roll))

    @pytest.mark.parametrize(
        ("claim", "wrong"),
        [
            ("values", lambda sides, u: (sides * u.double()).round().long()),
            ("layouts", lambda sides, u: (sides * u.sort(0).values).floor().long()),
            ("layouts", lambda sides, u: TestDrawnIntegers.roll(sides, u.sum(0, keepdim=True) % 1)),
        ],
    )  # fmt: skip
    def test_loaded_dice_are_found(self, claim, wrong):
        fails(self.claims(wrong), claim)

    def test_no_reference_needs_a_judge(self):
        with pytest.raises(DomainError, match="compared with a reference"):
            contracts.kernel(self.roll, None, [self.SAMPLE])
        with pytest.raises(DomainError, match=r"pass a reference, or alike"):
            contracts.launcher(self.roll, None, [self.SAMPLE])
        with pytest.raises(DomainError, match="compared with a reference"):
            contracts.kernel(self.roll, None, [self.SAMPLE], alike=self.alike)
