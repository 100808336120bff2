r"""The step of masked sites: the operator, its reference, and the kernel in Triton's interpreter.

The first part knows no operator of this package: `check_operator` takes any operator that draws,
an oracle, and cases of arguments. The second part applies it and plants faults that it must see.
"""

import itertools
import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from genpath.errors import DomainError, ShapeError
from genpath.jumps import ClockedJumps, ScaledJumps, SumJumps, leap
from genpath.parts import Parts
from genpath.samplers import Carry, Euler
from genpath.schedules import cosine_keep, linear_keep, power_keep
from genpath_discrete.jumps import MaskedJumps
from genpath_discrete.kernels import (
    CHUNK_BYTES,
    masked_step,
    masked_step_operator,
    masked_step_reference,
)

DOUBLE, SINGLE, HALVES = torch.float64, torch.float32, (torch.bfloat16, torch.float16)
DTYPES = (DOUBLE, SINGLE, *HALVES)
EXACT, EDGE = 1e-12, 2.0**-20  # how far from an edge of the CDF letters agree: reference, kernel
Z = 4.5

# -- a contract for operators that draw ------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Arguments of an operator; ``changed`` are those whose dtype and strides are varied."""

    name: str
    args: tuple
    changed: tuple = (0,)

    def map(self, change, every=False):
        """The arguments, with some tensors changed, or every tensor that has a batch axis."""
        tensors = [isinstance(a, torch.Tensor) for a in self.args]
        chosen = [
            t and (a.dim() > 0 if every else i in self.changed)
            for i, (a, t) in enumerate(zip(self.args, tensors, strict=True))
        ]
        return tuple(change(a) if c else a for a, c in zip(self.args, chosen, strict=True))


LAYOUTS = {
    "spread": lambda a: torch.stack([a, a + 1], -1)[..., 0],
    "last axis first": lambda a: a.movedim(-1, 0).contiguous().movedim(0, -1),
    "batch last": lambda a: a.movedim(0, -1).contiguous().movedim(-1, 0),
    "a slice": lambda a: torch.cat([a, a[..., :1]], -1)[..., :-1],
}


def check_values(op, alike, case, dtypes):
    """In each dtype; ``alike(found, args)`` asserts that the result is right."""
    for dtype in dtypes:
        args = case.map(lambda a, d=dtype: a.to(d))
        alike(op(*args), args)


def check_layouts(op, alike, case):
    """No value depends on strides, nor on other rows; no rows, or one, will do."""
    for change in LAYOUTS.values():
        alike(op(*case.map(change)), case.args)
    for rows in (0, 1):
        args = case.map(lambda a, n=rows: a[:n], every=True)
        alike(op(*args), args)


def check_fake(op, case, dtypes):
    """Shape, dtype and strides without data are those of the result."""
    for dtype in dtypes:
        for change in LAYOUTS.values():
            args = case.map(lambda a, d=dtype, c=change: c(a.to(d)))
            real = op(*args)
            with FakeTensorMode() as mode:
                fake = op(*(mode.from_tensor(a) if hasattr(a, "dim") else a for a in args))
            assert (fake.shape, fake.dtype, fake.stride()) == (
                (real.shape, real.dtype, real.stride())
            ), case.name


def check_compiled(op, alike, case, backend="aot_eager"):
    """torch.compile sees no graph break, and gives the same values."""
    torch.compiler.reset()
    compiled = torch.compile(lambda *a: op(*a), fullgraph=True, backend=backend)
    alike(compiled(*case.args), case.args)


def check_no_gradient(op, case):
    """A drawn letter has none, and does not pretend to."""
    found = op(*case.map(lambda a: a.clone().requires_grad_()))
    assert not found.requires_grad and not found.is_floating_point()


def check_operator(op, alike, cases, dtypes=DTYPES):
    """An operator keeps the promises of `torch.library`, and draws what it should.

    Args:
        op: a `torch.library.custom_op` whose result is integer, or a function that calls one.
        alike: ``(found, args)``; asserts that the result is the right one.
        cases: `Case`s; every row is computed from the same row of the arguments.
        dtypes: of the changed arguments.
    """
    for case in cases:
        check_values(op, alike, case, dtypes)
        check_layouts(op, alike, case)
        check_fake(op, case, dtypes)
        check_no_gradient(op, case)


# -- masked sites: the oracle and the cases --------------------------------------------------------


def cumulative(logits):
    """F(v) = Σ_{w≤v} p_w by a product with a triangle of ones; float64."""
    p = logits.double().softmax(-1)
    return p, p @ torch.ones(p.shape[-1], p.shape[-1], dtype=DOUBLE, device=p.device).triu()


def alike(edge=EXACT):
    """The right letters, but for u within ``edge`` of all edges between the two letters."""

    def compare(found, args):
        logits, state, reveal, letter, chance, mask = args
        assert found.shape == state.shape and found.dtype == torch.int64
        p, upto = cumulative(logits)
        chance = chance.reshape(chance.shape + (1,) * (state.dim() - chance.dim()))
        hit = (state == mask) & (reveal < chance)
        assert torch.equal(found[~hit], state[~hit]), "a site changed that does not reveal"
        found, u, p, upto = found[hit], letter[hit].double().unsqueeze(-1), p[hit], upto[hit]
        expected = (upto <= u).sum(-1).clamp_max(p.shape[-1] - 1)
        last = p.shape[-1] - 1 - (p > 0).flip(-1).int().argmax(-1)
        expected = torch.minimum(expected, last)
        assert bool(((found >= 0) & (found < p.shape[-1])).all()), "no letter"
        assert bool((p.gather(-1, found.unsqueeze(-1)) > 0).all()), "probability 0 was drawn"
        low, high = torch.minimum(found, expected), torch.maximum(found, expected)
        away = (upto - u).abs()
        for v in (low, (high - 1).clamp_min(0)):
            far = away.gather(-1, v.unsqueeze(-1)).squeeze(-1) > edge
            assert not bool((far & (low < high)).any()), "wrong letters, far from an edge"

    return compare


def case(name, *shape, letters, scale=2.0, shift=0.0, chance="one"):
    """Half of the sites masked; among the uniforms both ends of [0, 1), and the chance itself."""
    rng = torch.Generator().manual_seed(letters + len(shape))
    logits = scale * torch.randn(*shape, letters, generator=rng, dtype=DOUBLE) + shift
    state = torch.randint(0, letters, shape, generator=rng)
    state = torch.where(torch.rand(shape, generator=rng) < 0.5, letters, state)
    state.reshape(-1)[:4] = letters
    reveal, letter = torch.rand(2, *shape, generator=rng, dtype=DOUBLE)
    reveal.reshape(-1)[:4] = torch.tensor([0.0, 0.0, 0.9, 0.9], dtype=DOUBLE)
    letter.reshape(-1)[:2] = torch.tensor([0.0, 1 - 2.0**-53])[: letter.numel()]
    sizes = {"one": (), "rows": shape[:1], "sites": shape}[chance]
    return Case(
        name,
        (logits, state, reveal, letter, 0.9 * torch.ones(sizes, dtype=DOUBLE), letters),
    )


def with_infinities(plain):
    """The first letter, the last and every third have probability 0."""
    logits = plain.args[0].clone()
    logits[..., ::3] = -math.inf
    logits[..., -1] = -math.inf
    return replace(plain, name="with −∞", args=(logits, *plain.args[1:]))


CASES = [
    case("tokens", 6, 11, letters=37, chance="rows"),
    case("one axis", 70, letters=5, chance="sites"),
    case("an image", 3, 4, 2, letters=16),
    case("one letter", 4, 3, letters=1),
    case("far from 0", 4, 9, letters=21, scale=30.0, shift=900.0),
    with_infinities(case("", 5, 8, letters=19)),
]
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@EACH
def test_the_step_is_a_sound_operator(case):
    check_operator(masked_step_operator, alike(), [case])
    torch.library.opcheck(
        masked_step_operator, case.map(lambda a: a.clone().requires_grad_()), atol=0, rtol=0
    )


def test_torch_compile_keeps_it_whole():
    for part in CASES[:2]:
        check_compiled(masked_step, alike(), part)


@pytest.mark.slow
def test_inductor_gives_the_same_letters():
    check_compiled(masked_step, alike(), CASES[0], backend="inductor")


@EACH
def test_the_functions_draw_the_same(case):
    for function in (masked_step, masked_step_reference):
        check_values(function, alike(), case, DTYPES)
        check_layouts(function, alike(), case)


# -- the contract has teeth ------------------------------------------------------------------------


def stepped(weights, state, reveal, letter, chance, mask, shift=0, below=True):
    """The step written down plainly, with room for faults."""
    chance = chance.reshape(chance.shape + (1,) * (state.dim() - chance.dim()))
    upto = weights.cumsum(-1)
    goal = letter.to(upto.dtype).unsqueeze(-1) * upto[..., -1:]
    if below:
        goal = goal.minimum(upto[..., -1:].nextafter(torch.zeros((), dtype=upto.dtype)))
    found = torch.searchsorted(upto, goal, right=True).squeeze(-1) + shift
    found = found.clamp(0, upto.shape[-1] - 1)
    return torch.where((state == mask) & (reveal < chance), found, state)


def sound(logits, *rest):
    return stepped(logits.double().softmax(-1), *rest)


def without_maximum(logits, *rest):
    return stepped(logits.double().exp(), *rest)


def one_too_far(logits, *rest):
    return stepped(logits.double().softmax(-1), *rest, shift=1)


def unmasked_too(logits, state, *rest):
    return stepped(logits.double().softmax(-1), torch.full_like(state, rest[-1]), *rest)


def warmer(logits, *rest):
    return stepped((logits.double() / 1.01).softmax(-1), *rest)


def beyond_the_end(logits, *rest):
    """u·total may round up to total: past the last letter that has any probability."""
    return stepped(logits.double().softmax(-1), *rest, below=False)


def test_a_sound_step_passes():
    for part in CASES:
        check_values(sound, alike(EXACT), part, DTYPES)


@pytest.mark.parametrize("fault", [without_maximum, one_too_far, unmasked_too, warmer])
def test_a_planted_fault_is_seen(fault):
    big = case("many", 400, 20, letters=37, shift=900.0)
    check_values(sound, alike(EXACT), big, (DOUBLE,))
    with pytest.raises(AssertionError):
        check_values(fault, alike(EXACT), big, (DOUBLE,))


def test_a_letter_of_probability_0_is_seen():
    with pytest.raises(AssertionError, match="probability 0 was drawn"):
        check_values(beyond_the_end, alike(), CASES[-1], DTYPES)


# -- numbers, rare letters, frequencies ------------------------------------------------------------

LOGITS = torch.tensor([1.2, -0.3, 0.7, 2.1, 0.0], dtype=DOUBLE)
KNOWN = torch.tensor([0.217843180, 0.266450564, 0.398579132, 0.934386895], dtype=DOUBLE)


def draw(logits, u, step=masked_step):
    """One letter of the same logits for every u."""
    logits, zeros = logits.expand(len(u), -1), torch.zeros(len(u))
    mask = logits.shape[-1]
    return step(logits, torch.full((len(u),), mask), zeros, u, torch.ones(()), mask)


@pytest.mark.parametrize("step", [masked_step, masked_step_reference])
def test_the_known_letters_and_cdf(step):
    u = torch.tensor([0.05, 0.3, 0.5, 0.97], dtype=DOUBLE)
    assert draw(LOGITS, u, step).tolist() == [0, 2, 3, 4]
    assert draw(LOGITS, KNOWN - 1e-9, step).tolist() == [0, 1, 2, 3]
    assert draw(LOGITS, KNOWN + 1e-9, step).tolist() == [1, 2, 3, 4]


def rare(p):
    """Logits with a letter of probability p in the middle, and the edges of its share."""
    law = torch.tensor([0.3, 0.2, p, 0.4, 0.1 - p], dtype=DOUBLE)
    _, upto = cumulative(law.log())
    return law.log(), float(upto[1]), float(upto[2])


@pytest.mark.parametrize("p", [1e-6, 1e-8])
def test_a_rare_letter_keeps_its_share(p):
    logits, low, high = rare(p)
    assert high - low == pytest.approx(p, rel=1e-6)
    inside = torch.linspace(low + 0.02 * p, high - 0.02 * p, 50, dtype=DOUBLE)
    assert draw(logits, inside).tolist() == [2] * 50
    outside = torch.tensor([low - 0.02 * p, high + 0.02 * p], dtype=DOUBLE)
    assert draw(logits, outside).tolist() == [1, 3]

    def in_single(logits, *rest):
        return stepped(logits.float().softmax(-1), *rest)

    if p < 1e-7:
        assert draw(logits, inside, in_single).tolist() != [2] * 50


def chi_square(logits, found):
    p = logits.softmax(-1)
    expected = len(found) * p
    return float(((torch.bincount(found, minlength=len(p)) - expected) ** 2 / expected).sum())


def test_frequencies_by_chi_square():
    """5 degrees of freedom, level 1e-5: 30.86; n = 400,000, the rarest letter 400 times."""
    rng, n = torch.Generator().manual_seed(8), 400_000
    logits = torch.tensor([0.4, 0.3, 0.2, 0.08, 0.019, 0.001], dtype=DOUBLE).log()
    u = torch.rand(n, generator=rng, dtype=DOUBLE)
    assert chi_square(logits, draw(logits, u)) < 30.86
    assert chi_square(logits, draw(0.98 * logits, u)) > 30.86


# -- rows without a law, rows that are not read, memory --------------------------------------------


def lawless(step):
    """Rows 0 to 2 give no law, row 3 does, rows 4 and 5 do not reveal: NaN there is not read."""
    nan, inf = math.nan, math.inf
    rows = [[-inf] * 3, [0.0, nan, 0.0], [inf, 0.0, 0.0], [-inf, 0.0, -inf], [nan] * 3, [nan] * 3]
    state = torch.tensor([3, 3, 3, 3, 2, 3])
    chance = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    u = torch.full((6,), 0.5)
    return step(torch.tensor(rows), state, u, u, chance, 3).tolist()


def test_a_row_without_a_law_leaves_the_mask():
    for step in (masked_step, masked_step_reference):
        assert lawless(step) == [3, 3, 3, 1, 2, 3]


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes, in bytes; views of others left out."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor) and not function.is_view:
                self.size = max(self.size, tensor.numel() * tensor.element_size())
        return out


def test_temporaries_stay_small():
    logits, x = torch.zeros(16, 128, 2048), torch.full((16, 128), 2048)
    jumps = MaskedJumps(logits, x == 2048, linear_keep(), torch.zeros(16))
    for turned in (logits, logits.movedim(2, 1).contiguous().movedim(1, 2)):
        with Largest() as ours:
            replace(jumps, logits=turned).leap(x, 0.0, 1.0, torch.Generator())
        assert 0 < ours.size <= CHUNK_BYTES < logits.numel() * 4
    with Largest() as other:
        jumps.targets(torch.Generator())
    assert other.size >= logits.numel() * 8


# -- the step of masked jumps ----------------------------------------------------------------------

SCHEDULES = {"linear": linear_keep(), "cosine": cosine_keep(), "power": power_keep(2.0)}
LAW = torch.tensor([0.6, 0.3, 0.1], dtype=DOUBLE)


def masked_jumps(n, schedule=SCHEDULES["linear"], t=0.5):
    logits, x = LAW.log().expand(n, 1, 3), torch.full((n, 1), 3)
    return MaskedJumps(logits, x == 3, schedule, torch.full((n,), t, dtype=DOUBLE)), x


@dataclass(frozen=True)
class Plain:
    """A part without a step of its own."""

    base: MaskedJumps

    def intensity(self):
        return self.base.intensity()

    def targets(self, rng):
        return self.base.targets(rng)

    def exposure(self, t, t_next):
        return self.base.exposure(t, t_next)


@dataclass(frozen=True)
class Frozen(MaskedJumps):
    """A fault: the rate at the step's start for the whole step."""

    def leap(self, x, t, t_next, rng):
        return leap(Rates(self), x, t, t_next, rng)


@dataclass(frozen=True)
class Rates:
    """Intensity and targets alone: the exposure is the frozen rate."""

    base: MaskedJumps

    def intensity(self):
        return self.base.intensity()

    def targets(self, rng):
        return self.base.targets(rng)


def worst(part, x, t, t_next, chance, rng):
    """The largest z-score of the frequencies of three letters and the mask after one step."""
    found, n = leap(part, x, t, t_next, rng).flatten(), len(x)
    p = torch.cat([chance * LAW, torch.tensor([1 - chance], dtype=DOUBLE)])
    error = (p * (1 - p) / n).sqrt().clamp_min(1 / n)
    return float(((torch.bincount(found, minlength=4) / n - p) / error).abs().max())


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_step_has_the_law_of_exposure_and_targets(name, rng):
    """P(v) = p_v (κ'−κ)/(1−κ), by the operator and by the general way; the frozen rate fails."""
    n, (t, t_next), schedule = 100_000, (0.3, 0.6), SCHEDULES[name]
    part, x = masked_jumps(n, schedule, t)
    start, end = schedule.kappa(torch.tensor([t, t_next], dtype=DOUBLE)).tolist()
    chance = (end - start) / (1 - start)
    for sound_part in (part, Plain(part)):
        assert worst(sound_part, x, t, t_next, chance, rng) < Z
    frozen = Frozen(part.logits, part.masked, schedule, part.t)
    assert worst(frozen, x, t, t_next, chance, rng) > Z
    assert worst(part, x, t, t_next, 1.02 * chance, rng) > Z


def test_no_mask_is_left_and_frozen_rates_leave_the_known_share(rng):
    """Π (1 − …) over ten steps: 0 of the masks by the closed form, .0534522 by frozen rates."""
    n, times = 40_000, torch.linspace(0, 1, 11, dtype=DOUBLE).tolist()
    left = {}
    for kind in (MaskedJumps, Frozen):
        _, x = masked_jumps(n)
        for t, t_next in itertools.pairwise(times):
            part, _ = masked_jumps(n, t=t)
            part = kind(part.logits, x == 3, part.schedule, part.t)
            x = leap(part, x, t, t_next, rng)
        left[kind] = float((x == 3).double().mean())
    assert left[MaskedJumps] == 0.0
    known = 0.0534522
    assert abs(left[Frozen] - known) < Z * math.sqrt(known * (1 - known) / n)


def test_wrapped_parts_keep_their_law(rng):
    """A clock is forwarded; multiples and sums take the general step."""
    n, (s, s_next) = 100_000, (0.5, 0.7)
    t, t_next = s**2, s_next**2
    part, x = masked_jumps(n, t=t)
    once = (t_next - t) / (1 - t)
    clocked = ClockedJumps(part, lambda v: v**2, torch.full((n,), 2 * s))
    assert worst(clocked, x, s, s_next, once, rng) < Z
    assert worst(clocked, x, s, s_next, (s_next - s) / (1 - s), rng) > Z
    twice = 1 - (1 - once) ** 2
    for doubled in (ScaledJumps(part, 2.0), SumJumps((part, part))):
        assert worst(doubled, x, t, t_next, twice, rng) < Z
        assert worst(doubled, x, t, t_next, once, rng) > Z
    state = torch.Generator().manual_seed(4)
    found = clocked.leap(x, s, s_next, state)
    assert torch.equal(found, part.leap(x, t, t_next, torch.Generator().manual_seed(4)))


def test_the_flags_say_what_is_masked(rng):
    """A flagged site reveals whatever it holds; a site that holds the mask unflagged rests."""
    x, flags = torch.tensor([[3, 3, 1, 1]]), torch.tensor([[True, False, True, False]])
    logits = torch.tensor([[-math.inf, -math.inf, 0.0]]).expand(1, 4, 3)
    part = MaskedJumps(logits, flags, linear_keep(), torch.zeros(1))
    assert part.leap(x, 0.0, 1.0, rng).tolist() == [[2, 3, 2, 1]]
    assert part.leap(x, 0.0, 0.0, rng).tolist() == x.tolist()
    assert part.leap(x, 1.0, 1.0, rng).tolist() == [[2, 3, 2, 1]]
    without = replace(part, logits=torch.full((1, 4, 3), math.nan))
    assert without.leap(x, 0.0, 1.0, rng).tolist() == x.tolist()


def test_euler_takes_a_parts_own_step(rng):
    from genpath.generators import MarkovGenerator
    from genpath_discrete.spaces import Categorical

    class Marked(MaskedJumps):
        def leap(self, x, t, t_next, rng):
            return torch.full_like(x, 7)

    space = Categorical(3, (2,), mask=True)

    def parts(t, x):
        return Parts(jumps=Marked(torch.zeros(*x.shape, 3), x == 3, linear_keep(), t))

    gen = MarkovGenerator(space, parts, frozenset({"jumps"}))
    carry = Carry(torch.full((2, 2), 3))
    assert Euler().step(gen, carry, 0.0, 0.5, rng).state.tolist() == [[7, 7], [7, 7]]


# -- refusals --------------------------------------------------------------------------------------


def test_the_step_refuses_what_does_not_pair_up():
    logits, state, reveal, letter, chance, mask = CASES[0].args
    with pytest.raises(ShapeError, match="one row of logits per site"):
        masked_step(logits[:, :2], state, reveal, letter, chance, mask)
    with pytest.raises(ShapeError, match="at least one letter"):
        masked_step(logits[..., :0], state, reveal, letter, chance, mask)
    with pytest.raises(ShapeError, match="two uniforms per site"):
        masked_step(logits, state, reveal[:1], letter, chance, mask)
    with pytest.raises(ShapeError, match="first axes of the state") as caught:
        masked_step(logits, state, reveal, letter, torch.ones(11), mask)
    assert "pass a chance of shape (), (6,) or (6, 11)" in str(caught.value)
    for wrong in ((logits, state.int()), (logits.long(), state)):
        with pytest.raises(DomainError, match="letters are int64, logits are floating"):
            masked_step(*wrong, reveal, letter, chance, mask)


# -- Triton ----------------------------------------------------------------------------------------


def kernel_edge(args):
    return EXACT if args[0].dtype == DOUBLE else EDGE


def check_kernel(step, cases, dtypes=DTYPES):
    """Values, layouts and lawless rows; letters differ from float64 only within EDGE of an edge."""

    def near(found, args):
        alike(kernel_edge(args))(found, args)

    for part in cases:
        check_values(step, near, part, dtypes)
        check_layouts(step, near, part)


def check_edges(step, dtype=SINGLE, distance=EDGE, letters=53):
    """Just off every edge of a CDF the kernel finds the letter of that side; rare ones too."""
    rng = torch.Generator().manual_seed(2)
    logits = torch.randn(letters, generator=rng, dtype=DOUBLE).to(dtype)
    p, upto = cumulative(logits)
    assert float(p.min()) > 4 * distance
    v, ends = torch.arange(letters - 1), upto[:-1]
    assert torch.equal(draw(logits, ends - distance, step), v)
    assert torch.equal(draw(logits, ends + distance, step), v + 1)
    for share in (1e-6, 1e-8):
        logits, low, high = rare(share)
        u = torch.linspace(low - 2 * EDGE, high + 2 * EDGE, 4001, dtype=DOUBLE)
        found = draw(logits.to(dtype), u, step)
        assert bool((found.diff() >= 0).all())
    logits, low, high = rare(1e-8)  # about 2e-8 apart: the share is moved, but as wide as it was
    u = torch.linspace(low - 2e-7, high + 2e-7, 40_001, dtype=DOUBLE)
    wide = float((draw(logits.to(dtype), u, step) == 2).double().mean()) * (high - low + 4e-7)
    assert wide == pytest.approx(1e-8, rel=0.01)


def test_edges_of_the_reference():
    check_edges(masked_step_reference, DOUBLE, 1e-12)


def failing(check, *args):
    try:
        check(*args)
    except AssertionError:
        return True
    return False


def run_in_interpreter():
    """In a process of its own, with TRITON_INTERPRET=1: parity, and faults that must be seen."""
    from genpath_discrete import _triton

    def blocks(*args):
        return _triton.masked_step(*args, rows=128, block=16)

    def tall_blocks(*args):
        return _triton.masked_step(*args, rows=16384, block=16)

    def whole(*args):
        return _triton.masked_step(*args, rows=128)

    def tall(*args):
        return _triton.masked_step(*args, rows=16384)

    check_kernel(blocks, CASES)
    check_kernel(whole, CASES, (SINGLE,))
    for step in (tall_blocks, tall):
        check_edges(step)
    for step in (blocks, whole):
        assert lawless(step) == [3, 3, 3, 1, 2, 3]
    print(f"{len(CASES)} cases agree")

    import triton.language as tl

    search, numerators = _triton._search, _triton._numerators

    def next_block(weights, upto, goal, index, SIZE):
        found = search(weights, upto, goal, index, SIZE)
        return found if int(SIZE) == 16 else tl.minimum(found + 1, SIZE - 1)

    def next_letter(weights, upto, goal, index, SIZE):
        found = search(weights, upto, goal, index, SIZE)
        return tl.minimum(found + 1, SIZE - 1) if int(SIZE) == 16 else found

    def any_weight(weights, upto, goal, index, SIZE):
        return search(weights * 0 + 1, upto * 0 + index, goal * SIZE, index, SIZE)

    def no_maximum(logits):
        return tl.max(logits, 1) * 0, tl.exp(logits)

    for name, fault in (
        ("_search", next_block),
        ("_search", next_letter),
        ("_search", any_weight),
        ("_numerators", no_maximum),
    ):
        setattr(_triton, name, fault)
        assert failing(check_kernel, blocks, CASES, (SINGLE,)), fault.__name__
        _triton._search, _triton._numerators = search, numerators
        print(f"{fault.__name__} is seen")


def compile_for_a_device():
    """In a process of its own, without a device: the kernel goes through to machine code."""
    from triton import next_power_of_2
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile as build

    from genpath_discrete import _triton

    kinds = {"fp32": (256, _triton.tl.float32), "bf16": (50257, _triton.tl.float32)}
    for dtype, (letters, sums) in (kinds | {"fp64": (2000, _triton.tl.float64)}).items():
        block = min(next_power_of_2(letters), 1024)
        blocks = -(-letters // block)
        constants = {
            "ROWS": 1024 // block,
            "BLOCK": block,
            "BLOCKS": blocks,
            "PADDED": next_power_of_2(blocks),
            "SUMS": sums,
        }
        names = _triton._masked_step.arg_names
        pointers = [f"*{dtype}", "*i64", "*fp64", "*fp64", "*fp64", "*i64"]
        kind = dict.fromkeys(names, "i32") | dict(zip(names, pointers, strict=False))
        kind |= dict.fromkeys(constants, "constexpr")
        source = ASTSource(_triton._masked_step, kind, constants)
        assert build(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
        print(f"{dtype} compiles")


def run_apart(part, **extra):
    """This file as a program, so that Triton's mode is chosen before Triton is imported."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, __file__, part]
    found = subprocess.run(command, env=env | extra, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.slow
def test_the_kernel_agrees_in_the_interpreter():
    pytest.importorskip("triton", reason="triton is for Linux only")
    said = run_apart("run_in_interpreter", TRITON_INTERPRET="1")
    assert f"{len(CASES)} cases agree" in said
    assert said.count("is seen") == 4


def test_the_kernel_compiles_without_a_device():
    """The interpreter accepts what the compiler refuses, such as annotations of arguments."""
    pytest.importorskip("triton", reason="triton is for Linux only")
    assert run_apart("compile_for_a_device").count("compiles") == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_agrees_on_a_device():
    from genpath_discrete import _triton

    assert os.environ.get("TRITON_INTERPRET") != "1", "the interpreter does not test the device"

    def on_device(function, **options):
        def call(*args):
            moved = (a.cuda() if isinstance(a, torch.Tensor) else a for a in args)
            return function(*moved, **options).cpu()

        return call

    wide = case("wide", 4, 16, letters=50257)
    for step in (
        on_device(masked_step),
        on_device(_triton.masked_step),
        on_device(_triton.masked_step, rows=4, block=16),
    ):
        check_kernel(step, CASES)
        check_edges(step)
        assert lawless(step) == [3, 3, 3, 1, 2, 3]
    alike_letters = on_device(masked_step)(*wide.args)
    edge = alike_letters != masked_step_reference(*wide.args)
    assert float(edge.double().mean()) < 0.05


if __name__ == "__main__":
    {f.__name__: f for f in (run_in_interpreter, compile_for_a_device)}[sys.argv[1]]()
