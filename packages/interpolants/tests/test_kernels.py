r"""Operators against their references, and the kernels in Triton's interpreter.

The first part knows no operator of this package: `check_operator` takes any operator, its reference
and samples of arguments. The second part applies it, and plants faults that it must see.
"""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from genpath.errors import CapabilityError, ShapeError
from genpath.paths import draw_with_target
from genpath.spaces import Euclidean
from genpath_interpolants.kernels import (
    affine_draw,
    affine_draw_operator,
    affine_draw_reference,
    affine_sum,
)
from genpath_interpolants.paths import LinearPath

DOUBLE, SINGLE, HALVES = torch.float64, torch.float32, (torch.bfloat16, torch.float16)

# -- a contract for operators ------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Arguments of an operator: float64 tensors with the batch first, Nones, anything else.

    ``gradients``: whether its numerical derivative is taken, entry by entry; for small samples.
    """

    name: str
    args: tuple
    gradients: bool = True

    def map(self, change):
        """The arguments, with every floating tensor changed."""
        floating = [isinstance(a, torch.Tensor) and a.is_floating_point() for a in self.args]
        return tuple(change(a) if f else a for a, f in zip(self.args, floating, strict=True))


def as_tuple(values):
    return (values,) if isinstance(values, torch.Tensor) else tuple(values)


def assert_near(found, expected, dtype, what, roundings=0.5):
    """As near to the exact value as a sum in the work dtype, rounded once to ``dtype``, can be.

    ``roundings``: units in the last place of a half precision result; ½ for rounding to nearest.
    """
    assert len(found) == len(expected), what
    work = SINGLE if dtype in HALVES else dtype
    for f, e in zip(found, expected, strict=True):
        assert f.shape == e.shape and f.dtype == dtype, f"{what}: {f.shape} {f.dtype}"
        if e.numel():
            scale = 1 + float(e.abs().max())
            slack = 32 * torch.finfo(work).eps * scale
            if dtype in HALVES:
                slack = slack + roundings * torch.finfo(dtype).eps * e.abs()
            excess = float(((f.double() - e).abs() - slack).max())
            assert excess <= 0, f"{what}: off by {excess:.1e} more than rounding explains"


def check_values(op, reference, sample, dtypes, roundings=0.5):
    """In each dtype, against the reference in float64 at the same (rounded) arguments."""
    for dtype in dtypes:
        args = sample.map(lambda a, d=dtype: a.to(d))
        exact = as_tuple(reference(*sample.map(lambda a, d=dtype: a.to(d).double())))
        what = f"{sample.name}, {dtype}"
        assert_near(as_tuple(op(*args)), exact, dtype, what, roundings)


def check_layouts(op, sample):
    """No value depends on strides, nor on other rows; no rows, or one, will do."""
    whole = as_tuple(op(*sample.args))
    spread = sample.map(lambda a: torch.stack([a, a + 1], -1)[..., 0])
    strided = [a for a in spread if isinstance(a, torch.Tensor) and a.numel() > 1]
    assert not any(a.is_contiguous() for a in strided)
    assert_near(as_tuple(op(*spread)), whole, DOUBLE, f"{sample.name}, strided")
    turned = sample.map(lambda a: a.movedim(0, -1).contiguous().movedim(-1, 0))
    assert_near(as_tuple(op(*turned)), whole, DOUBLE, f"{sample.name}, transposed")
    for rows in (0, 1):
        few = as_tuple(op(*sample.map(lambda a, n=rows: a[:n])))
        expected = [out[:rows] for out in whole]
        assert_near(few, expected, DOUBLE, f"{sample.name}, {rows} rows")


def check_gradients(op, reference, sample):
    """By the numerical derivative, twice, and against autograd through the reference."""
    args = sample.map(lambda a: a.clone().requires_grad_())
    inputs = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
    if sample.gradients:
        assert torch.autograd.gradcheck(op, args)
        assert torch.autograd.gradgradcheck(op, args)
    outputs, expected = as_tuple(op(*args)), as_tuple(reference(*args))
    rng = torch.Generator().manual_seed(1)
    weights = [torch.randn(o.shape, generator=rng, dtype=o.dtype) for o in expected]
    options = {"retain_graph": True, "materialize_grads": True}  # zero for an unused input
    for index in range(len(expected)):
        found = torch.autograd.grad(outputs[index], inputs, weights[index], **options)
        right = torch.autograd.grad(expected[index], inputs, weights[index], **options)
        assert_near(found, right, DOUBLE, f"{sample.name}, gradient of output {index}")


def check_fake(op, sample, dtypes):
    """Shape, dtype and strides without data are those of the results."""
    for dtype in dtypes:
        args = sample.map(lambda a, d=dtype: a.to(d))
        real = as_tuple(op(*args))
        with FakeTensorMode() as mode:
            fake = as_tuple(op(*(mode.from_tensor(a) if hasattr(a, "dim") else a for a in args)))
        for r, f in zip(real, fake, strict=True):
            assert (f.shape, f.dtype, f.stride()) == (r.shape, r.dtype, r.stride()), sample.name


def check_compiled(op, sample):
    """torch.compile sees no graph break, and gives the same values."""
    torch.compiler.reset()
    compiled = torch.compile(lambda *a: op(*a), fullgraph=True, backend="aot_eager")
    found = as_tuple(compiled(*sample.args))
    assert_near(found, as_tuple(op(*sample.args)), DOUBLE, f"{sample.name}, compiled")


def check_operator(op, reference, samples, dtypes=(DOUBLE, SINGLE, *HALVES)):
    """An operator keeps the promises of `torch.library`, and those of its reference.

    Args:
        op: a `torch.library.custom_op`, or its overload in ``torch.ops``.
        reference: a differentiable function of the same arguments.
        samples: `Sample`s; every row is computed from the same row of the arguments.
        dtypes: half precision means accumulation in float32, and one rounding.
    """
    for sample in samples:
        check_values(op, reference, sample, dtypes)
        check_layouts(op, sample)
        check_fake(op, sample, dtypes)
        check_gradients(op, reference, sample)
        check_compiled(op, sample)
        torch.library.opcheck(op, sample.map(lambda a: a.clone().requires_grad_()))


def check_launcher(launch, reference, samples, dtypes=(DOUBLE, SINGLE, *HALVES), roundings=0.5):
    """A kernel without gradients: values, layouts, no rows and one row."""
    for sample in samples:
        check_values(launch, reference, sample, dtypes, roundings)
        check_layouts(launch, sample)


# -- the affine draw ---------------------------------------------------------------------------


def affine_sample(*shape, latent=True, gradients=True):
    rng = torch.Generator().manual_seed(len(shape) + 10 * latent)

    def normal(*size):
        return torch.randn(*size, generator=rng, dtype=DOUBLE)

    points = [normal(*shape) for _ in range(3)]
    weights = [normal(shape[0]) for _ in range(6)]
    if not latent:
        points[2] = weights[2] = weights[5] = None
    return Sample(f"{shape}{' with z' if latent else ''}", (*points, *weights), gradients)


SAMPLES = [affine_sample(*shape, latent=z) for shape in ((3, 2, 2), (4,)) for z in (True, False)]
# several rows in a block, several blocks in a row, ends of blocks that hang over
BLOCKS = [
    affine_sample(*shape, latent=z, gradients=False)
    for shape in ((2, 2050), (70, 3, 11), (1, 1), (5,))
    for z in (True, False)
]


def by_matrices(x0, x1, z, *weights):
    """The oracle: one matrix product per row, of weights (2, terms) and inputs (terms, event)."""
    terms = 2 if z is None else 3
    points = torch.stack([p.reshape(len(p), -1) for p in (x0, x1, z)[:terms]], 1)
    matrix = torch.stack([torch.stack(weights[i : i + terms], 1) for i in (0, 3)], 1)
    state, target = (matrix @ points).unbind(1)
    return state.reshape(x0.shape), target.reshape(x0.shape)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_affine_draw_is_a_sound_operator(sample):
    check_operator(affine_draw_operator, by_matrices, [sample])


@pytest.mark.parametrize("function", [affine_draw, affine_draw_reference])
def test_the_functions_agree_with_matrix_products(function):
    for sample in SAMPLES + BLOCKS:
        check_values(function, by_matrices, sample, (DOUBLE, SINGLE, *HALVES))
        check_layouts(function, sample)
    for sample in SAMPLES:
        check_gradients(function, by_matrices, sample)
        check_compiled(function, sample)


def test_the_sum_alone_is_the_state_bit_for_bit():
    for sample in SAMPLES + BLOCKS:
        for dtype in (DOUBLE, SINGLE, *HALVES):
            args = sample.map(lambda a, d=dtype: a.to(d))
            assert torch.equal(affine_sum(*args[:6]), affine_draw(*args)[0])
            assert torch.equal(affine_sum(*args[:6]), affine_draw_operator(*args)[0])


def test_the_operator_maps_over_any_inputs():
    """vmap is a loop over the mapped axis, wherever that is."""
    x0, x1, z, *weights = affine_sample(3, 2).args
    many = torch.stack([x1, 2 * x1, -x1], 1)  # mapped axis 1
    rates = torch.stack([weights[5], -weights[5], 0 * weights[5]])
    axes = (None, 1, None, *[None] * 5, 0)
    found = torch.func.vmap(affine_draw_operator, in_dims=axes)(x0, many, z, *weights[:5], rates)
    for i in range(3):
        expected = by_matrices(x0, many[:, i], z, *weights[:5], rates[i])
        assert_near([out[i] for out in found], expected, DOUBLE, f"copy {i}")


@pytest.mark.slow
def test_inductor_gives_the_same_values():
    sample = affine_sample(4, 8)
    torch.compiler.reset()
    compiled = torch.compile(affine_draw, fullgraph=True)
    assert_near(compiled(*sample.args), by_matrices(*sample.args), DOUBLE, "inductor")


def test_the_affine_draw_refuses_what_does_not_pair_up():
    x0, x1, z, *weights = affine_sample(3, 2).args
    with pytest.raises(ShapeError, match="z, gamma and gamma_rate come together"):
        affine_draw(x0, x1, None, *weights)
    with pytest.raises(ShapeError, match="one shape") as caught:
        affine_draw(x0, x1[:2], z, *weights)
    assert "x1 (2, 2)" in str(caught.value)
    with pytest.raises(ShapeError, match="one weight of each kind per row") as caught:
        affine_draw(x0, x1, z, *weights[:5], weights[5][:, None])
    assert "pass weights of shape (3,)" in str(caught.value)


# -- the contract has teeth --------------------------------------------------------------------


def planted(name, forward=None, fake=None, backward=None):
    """A copy of the operator with one of its parts replaced."""
    from genpath_interpolants import kernels

    schema = kernels.SCHEMA
    op = torch.library.custom_op(f"genpath_faults::{name}", mutates_args=(), schema=schema)(
        forward or (lambda *args: tuple(o.contiguous() for o in affine_draw_reference(*args)))
    )
    op.register_fake(fake or kernels._fake)
    op.register_autograd(backward or kernels._backward, setup_context=kernels._save)
    return op


def without_gamma_rate(*args):
    return tuple(o.contiguous() for o in affine_draw_reference(*args[:8], 0 * args[8]))


def summed_in_half(x0, x1, z, *weights):
    def total(a, b, c):
        return a[:, None] * x0 + b[:, None] * x1 + c[:, None] * z

    return total(*weights[:3]), total(*weights[3:])


def wrong_sign(ctx, to_state, to_target):
    from genpath_interpolants import kernels

    found = list(kernels._backward(ctx, to_state, to_target))
    found[8] = None if found[8] is None else -found[8]
    return tuple(found)


def detached(ctx, to_state, to_target):
    from genpath_interpolants import kernels

    found = kernels._backward(ctx, to_state, to_target)
    return tuple(None if f is None else f.detach() for f in found)


def strides_of_the_input(*args):
    return torch.empty_like(args[0]), torch.empty_like(args[0])


def across_rows(*args):
    state, target = affine_draw_reference(*args)
    return state.contiguous(), (target + 1e-3 * target.sum(0)).contiguous()


def test_a_sound_copy_passes():
    check_operator(planted("sound"), by_matrices, SAMPLES[:1])


@pytest.mark.parametrize(
    ("name", "parts", "check"),
    [
        ("rate", {"forward": without_gamma_rate}, "values"),
        ("half", {"forward": summed_in_half}, "values"),
        ("rows", {"forward": across_rows}, "layouts"),
        ("sign", {"backward": wrong_sign}, "gradients"),
        ("detached", {"backward": detached}, "gradients"),
        ("fake", {"fake": lambda *a: (a[0].new_empty(a[0].shape[::-1]),) * 2}, "fake"),
        ("dtype", {"fake": lambda *a: (a[0].new_empty(a[0].shape, dtype=SINGLE),) * 2}, "fake"),
    ],
)
def test_a_planted_fault_is_seen(name, parts, check):
    op, sample = planted(name, **parts), affine_sample(60, 2)
    small = affine_sample(3, 2)
    checks = {
        "values": lambda: check_values(op, by_matrices, sample, (DOUBLE, SINGLE, *HALVES)),
        "layouts": lambda: check_layouts(op, small),
        "gradients": lambda: check_gradients(op, by_matrices, small),
        "fake": lambda: check_fake(op, small, (DOUBLE, SINGLE)),
    }
    for other, run in checks.items():
        if other != check and check in ("gradients", "fake"):  # the values are right
            run()
    with pytest.raises((AssertionError, RuntimeError)):
        checks[check]()


# -- Triton --------------------------------------------------------------------------------------


def run_in_interpreter():
    """In a process of its own, with TRITON_INTERPRET=1: parity, and a fault that must be seen."""
    from genpath_interpolants import _triton

    # the interpreter cuts a bfloat16 off instead of rounding it: a whole unit
    samples = SAMPLES + BLOCKS
    check_launcher(_triton.affine_draw, by_matrices, samples, roundings=1.0)

    def small_blocks(*args):
        return _triton.affine_draw(*args, block=16)

    check_launcher(small_blocks, by_matrices, SAMPLES + BLOCKS[2:3], (DOUBLE,))

    def broken(*args):
        return _triton.affine_draw(*args[:8], 0 * args[8])

    try:
        check_launcher(broken, by_matrices, SAMPLES[:1])
    except AssertionError:
        print(f"{len(samples)} samples agree, the fault is seen")


def compile_for_a_device():
    """In a process of its own, without a device: the kernel goes through to machine code."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile as build

    from genpath_interpolants import _triton

    names = _triton._affine_draw.arg_names
    for dtype, work in (("fp32", "float32"), ("bf16", "float32"), ("fp64", "float64")):
        constants = {
            "latent": True,
            "work": getattr(_triton.tl, work),
            "block_rows": 8,
            "block_columns": 256,
        }
        kind = dict.fromkeys(names, f"*{dtype}") | {"rows": "i32", "columns": "i32"}
        kind |= dict.fromkeys(constants, "constexpr")
        source = ASTSource(_triton._affine_draw, kind, constants)
        assert build(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
        print(f"{dtype} compiles")


def run_apart(part, **extra):
    """This file as a program, so that Triton's mode is chosen before Triton is imported."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    found = subprocess.run(
        [sys.executable, __file__, part], env=env | extra, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_kernel_agrees_in_the_interpreter():
    pytest.importorskip("triton", reason="triton is for Linux only")
    said = run_apart("run_in_interpreter", TRITON_INTERPRET="1")
    assert f"{len(SAMPLES + BLOCKS)} samples agree, the fault is seen" in said


def test_the_kernel_compiles_without_a_device():
    """The interpreter accepts what the compiler refuses, such as annotations of arguments."""
    pytest.importorskip("triton", reason="triton is for Linux only")
    assert run_apart("compile_for_a_device").count("compiles") == 3


WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # its import fails
import torch
from genpath_interpolants.kernels import affine_draw_operator
x, one = torch.ones(1, 2), torch.ones(1)
print(affine_draw_operator(x, x, None, one, one, None, one, -one, None))
"""


def test_the_operator_runs_where_triton_is_not_installed():
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRITON], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "(tensor([[2., 2.]]), tensor([[0., 0.]]))"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_agrees_on_a_device():
    from genpath_interpolants import _triton

    assert os.environ.get("TRITON_INTERPRET") != "1", "the interpreter does not test the device"

    def on_device(function):
        def call(*args):
            moved = (a.cuda() if isinstance(a, torch.Tensor) else a for a in args)
            return tuple(out.cpu() for out in function(*moved))

        return call

    samples = SAMPLES + BLOCKS
    check_launcher(on_device(_triton.affine_draw), by_matrices, samples)
    check_launcher(on_device(affine_draw), by_matrices, samples)
    for sample in SAMPLES:
        check_gradients(on_device(affine_draw), by_matrices, sample)


# -- the linear path -----------------------------------------------------------------------------

GAMMAS = ("none", "sqrt", "quadratic")
each_gamma = pytest.mark.parametrize("gamma", GAMMAS)


def endpoints(rng, *shape, dtype=DOUBLE):
    return [torch.randn(*shape, generator=rng, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("gamma", "name"),
    [(g, n) for g in GAMMAS for n in LinearPath(Euclidean(1), g, base="gaussian").predictions],
)
def test_draw_with_target_is_draw_and_target(gamma, dtype, name, rng):
    path = LinearPath(Euclidean(3, 2), gamma, base="gaussian")
    x0, x1 = endpoints(rng, 50, 3, 2, dtype=dtype)
    t = torch.linspace(0.1, 0.9, 50, dtype=dtype)
    apart = path.draw(t, x0, x1, torch.Generator().manual_seed(5))
    together, target = path.draw_with_target(name, t, x0, x1, torch.Generator().manual_seed(5))
    assert together.state.dtype == dtype
    assert torch.equal(together.state, apart.state) and torch.equal(together.t, apart.t)
    assert torch.equal(target, path.target(name, apart))
    if gamma == "none":
        assert together.latent is None
    else:
        assert torch.equal(together.latent, apart.latent)


@each_gamma
def test_the_target_is_the_time_derivative_of_the_state(gamma, rng):
    """For fixed x0, x1 and z, by a central difference of the draw; γ̇ dropped is seen."""
    path, step = LinearPath(Euclidean(2), gamma), 1e-5
    x0, x1 = endpoints(rng, 40, 2)
    t = torch.linspace(0.05, 0.95, 40, dtype=DOUBLE)

    def state(at):
        return path.draw(at, x0, x1, torch.Generator().manual_seed(3)).state

    seeded = torch.Generator().manual_seed(3)
    _, target = path.draw_with_target("velocity", t, x0, x1, seeded)
    derivative = (state(t + step) - state(t - step)) / (2 * step)
    assert torch.allclose(target, derivative, atol=1e-6)
    if path.latent:
        assert not torch.allclose(x1 - x0, derivative, atol=1e-2)


def test_draw_with_target_refuses_what_draw_and_target_refuse(rng):
    path, (x0, x1) = LinearPath(Euclidean(2)), endpoints(rng, 3, 2)
    with pytest.raises(CapabilityError, match="no prediction 'noise'"):
        path.draw_with_target("noise", 0.5, x0, x1, rng)
    with pytest.raises(ShapeError, match=r"LinearPath\.draw_with_target: .*pair up one to one"):
        path.draw_with_target("velocity", 0.5, x0[:2], x1, rng)


def test_a_scalar_time_and_weights_of_another_dtype(rng):
    """The endpoints decide the dtype of x_t, the times do not."""
    path = LinearPath(Euclidean(2), "sqrt")
    x0, x1 = endpoints(rng, 3, 2, dtype=SINGLE)
    for t in (0.5, torch.tensor(0.5), torch.full((3,), 0.5, dtype=DOUBLE)):
        seeded = torch.Generator().manual_seed(0)
        draw, target = path.draw_with_target("velocity", t, x0, x1, seeded)
        assert draw.state.dtype == target.dtype == SINGLE
        expected = 0.5 * (x0 + x1) + 0.5 * draw.latent
        assert torch.allclose(draw.state, expected)
        assert torch.allclose(target, x1 - x0)  # γ̇ = 0 in the middle


def test_the_core_takes_the_paths_own_way_where_it_has_one(rng):
    path, (x0, x1) = LinearPath(Euclidean(2), "sqrt"), endpoints(rng, 3, 2)

    class Apart:
        draw, target = path.draw, path.target

    class Marked(Apart):
        def draw_with_target(self, *args):
            return "own", args

    t, one = torch.full((3,), 0.3, dtype=DOUBLE), torch.Generator().manual_seed(0)
    apart = draw_with_target(Apart(), "velocity", t, x0, x1, one)
    together = draw_with_target(path, "velocity", t, x0, x1, torch.Generator().manual_seed(0))
    assert torch.equal(apart[0].state, together[0].state)
    assert torch.equal(apart[1], together[1])
    found, args = draw_with_target(Marked(), "velocity", t, x0, x1, one)
    assert found == "own" and args == ("velocity", t, x0, x1, one)


if __name__ == "__main__":
    {f.__name__: f for f in (run_in_interpreter, compile_for_a_device)}[sys.argv[1]]()
