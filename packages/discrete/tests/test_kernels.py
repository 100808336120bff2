r"""The step of masked sites: its functions, planted faults, the kernel in Triton's interpreter.

What the operator owes is measured by the claims of ``discrete.masked_step``; here the same contract
sees faults as authors make them, and is kept by the Triton kernel.
"""

import itertools
import math
import os
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from genpath.errors import DomainError, ShapeError
from genpath.jumps import ClockedJumps, ScaledJumps, SumJumps, leap
from genpath.parts import Parts
from genpath.samplers import Carry, Euler
from genpath.schedules import cosine_keep, linear_keep, power_keep
from genpath.testing import Trial, contracts
from genpath.testing.contracts.kernels import DTYPES
from genpath.testing.triton import compile_for_device, on_device, run_apart
from genpath_discrete.claims.operators import CASES, EXACT, alike, case, cumulative
from genpath_discrete.jumps import MaskedJumps
from genpath_discrete.kernels import (
    CHUNK_BYTES,
    masked_step,
    masked_step_operator,
    masked_step_reference,
)

DOUBLE, SINGLE = torch.float64, torch.float32
EDGE = 2.0**-20  # how far from an edge of the CDF the kernel's letters agree
Z = 4.5

# -- the functions ---------------------------------------------------------------------------------


def faults(step, cases, dtypes=DTYPES, judge=alike):
    """What `contracts.launcher` finds wrong, in words; without its own controls."""
    claims = contracts.launcher(step, None, cases, dtypes=dtypes, alike=judge)
    measured = [e for c in claims for e in c.measure(step, Trial(c.name))]
    return [e.what for e in measured if not e.passed]


EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@EACH
def test_the_step_is_registered_soundly(case):
    """Its schema, its shapes and its graphs, as torch checks them."""
    args = case.map(lambda a: a.clone().requires_grad_())
    torch.library.opcheck(masked_step_operator, args, atol=0, rtol=0)


def test_a_drawn_letter_has_no_gradient():
    for function in (masked_step, masked_step_operator, masked_step_reference):
        found = function(*CASES[0].map(lambda a: a.clone().requires_grad_()))
        assert not found.requires_grad and not found.is_floating_point()


def test_torch_compile_keeps_it_whole():
    claims = contracts.kernel(masked_step, None, CASES[1:2], differentiable=False, alike=alike)
    (claim,) = (c for c in claims if c.name == "one-graph")
    assert all(e.passed for e in claim.measure(masked_step, Trial("")))


@pytest.mark.slow
def test_inductor_gives_the_same_letters():
    torch.compiler.reset()
    compiled = torch.compile(lambda *args: masked_step(*args), fullgraph=True)
    args = CASES[0].args
    assert all(e.passed for e in alike("inductor", compiled(*args), args))


@EACH
def test_the_functions_draw_the_same(case):
    for function in (masked_step, masked_step_reference):
        assert not faults(function, [case])


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
    assert not faults(sound, CASES)


@pytest.mark.parametrize("fault", [without_maximum, one_too_far, unmasked_too, warmer])
def test_a_planted_fault_is_seen(fault):
    big = case("many", 400, 20, letters=37, shift=900.0)
    assert not faults(sound, [big], (DOUBLE,))
    assert faults(fault, [big], (DOUBLE,))


def test_a_letter_of_probability_0_is_seen():
    found = faults(beyond_the_end, CASES[-1:])
    assert any("letters that can be drawn" in what for what in found)


# -- numbers, edges --------------------------------------------------------------------------------

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


def kernel_judge(what, found, args):
    """Letters differ from float64 only within `EDGE` of an edge."""
    return alike(what, found, args, edge=EXACT if args[0].dtype == DOUBLE else EDGE)


kernel_faults = partial(faults, judge=kernel_judge)


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

    assert not kernel_faults(blocks, CASES)
    assert not kernel_faults(whole, CASES, (SINGLE,))
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
        assert kernel_faults(blocks, CASES, (SINGLE,)), fault.__name__
        _triton._search, _triton._numerators = search, numerators
        print(f"{fault.__name__} is seen")


@pytest.mark.slow
def test_the_kernel_agrees_in_the_interpreter():
    pytest.importorskip("triton", reason="triton is for Linux only")
    said = run_apart(__file__)
    assert f"{len(CASES)} cases agree" in said
    assert said.count("is seen") == 4


@pytest.mark.parametrize(
    ("dtype", "letters", "sums"),
    [("fp32", 256, "float32"), ("bf16", 50257, "float32"), ("fp64", 2000, "float64")],
)
def test_the_kernel_compiles_without_a_device(dtype, letters, sums):
    """The interpreter accepts what the compiler refuses, such as annotations of arguments."""
    triton = pytest.importorskip("triton", reason="triton is for Linux only")
    from genpath_discrete import _triton

    block = min(triton.next_power_of_2(letters), 1024)
    blocks = -(-letters // block)
    constants = {
        "ROWS": 1024 // block,
        "BLOCK": block,
        "BLOCKS": blocks,
        "PADDED": triton.next_power_of_2(blocks),
        "SUMS": getattr(_triton.tl, sums),
    }
    names = [name for name in _triton._masked_step.arg_names if name not in constants]
    pointers = [f"*{dtype}", "*i64", "*fp64", "*fp64", "*fp64", "*i64"]
    kinds = dict.fromkeys(names, "i32") | dict(zip(names, pointers, strict=False))
    assert compile_for_device(_triton._masked_step, kinds, constants)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_agrees_on_a_device():
    from genpath_discrete import _triton

    assert os.environ.get("TRITON_INTERPRET") != "1", "the interpreter does not test the device"

    wide = case("wide", 4, 16, letters=50257)
    for step in (
        on_device(masked_step),
        on_device(_triton.masked_step),
        on_device(partial(_triton.masked_step, rows=4, block=16)),
    ):
        assert not kernel_faults(step, CASES)
        check_edges(step)
        assert lawless(step) == [3, 3, 3, 1, 2, 3]
    alike_letters = on_device(masked_step)(*wide.args)
    edge = alike_letters != masked_step_reference(*wide.args)
    assert float(edge.double().mean()) < 0.05


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_in_interpreter()
