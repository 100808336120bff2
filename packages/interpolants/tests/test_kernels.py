r"""The affine draw: its functions, planted faults, the kernel in Triton's interpreter, the path.

What the operator owes is measured by the claims of ``interpolants.kernels``; here the same contract
sees faults as authors make them, and is kept by the Triton kernel.
"""

import os

import pytest
import torch

from genpath.errors import CapabilityError, ShapeError
from genpath.paths import draw_with_target
from genpath.spaces import Euclidean
from genpath.testing import Trial, contracts, equal
from genpath.testing.triton import compile_for_device, on_device, run_apart
from genpath_interpolants.claims.kernels import SMALL, affine_sample, by_matrices
from genpath_interpolants.kernels import affine_draw, affine_draw_operator, affine_draw_reference
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.presets import linear

DOUBLE, SINGLE = torch.float64, torch.float32

# -- the affine draw ---------------------------------------------------------------------------


# several rows in a block, several blocks in a row, ends of blocks that hang over
BLOCKS = tuple(
    affine_sample(*shape, latent=z, gradients=False)
    for shape in ((2, 2050), (70, 3, 11), (1, 1), (5,))
    for z in (True, False)
)


def faults(claims):
    """What is wrong, one line each; the controls of the claims themselves are not run."""
    measured = {c.name: c.measure(c.make(), Trial(c.name)) for c in claims}
    return [f"{name}: {e.what}" for name, found in measured.items() for e in found if not e.passed]


def near(what, found, expected):
    """As near as 32 roundings of float64."""
    for f, e in zip(found, expected, strict=True):
        assert equal(what, f, e, operations=32).passed, what


@pytest.mark.parametrize("sample", SMALL, ids=lambda sample: sample.name)
def test_the_affine_draw_is_registered_soundly(sample):
    """Its schema, its shapes, its gradients and its graphs, as torch checks them."""
    torch.library.opcheck(affine_draw_operator, sample.map(lambda a: a.clone().requires_grad_()))


@pytest.mark.parametrize("function", [affine_draw, affine_draw_reference])
def test_the_functions_agree_with_matrix_products(function):
    assert not faults(contracts.kernel(function, by_matrices, SMALL))
    assert not faults(contracts.launcher(function, by_matrices, BLOCKS))


def test_the_operator_maps_over_any_inputs():
    """vmap is a loop over the mapped axis, wherever that is."""
    x0, x1, z, *weights = affine_sample(3, 2).args
    many = torch.stack([x1, 2 * x1, -x1], 1)  # mapped axis 1
    rates = torch.stack([weights[5], -weights[5], 0 * weights[5]])
    axes = (None, 1, None, *[None] * 5, 0)
    found = torch.func.vmap(affine_draw_operator, in_dims=axes)(x0, many, z, *weights[:5], rates)
    for i in range(3):
        expected = by_matrices(x0, many[:, i], z, *weights[:5], rates[i])
        near(f"copy {i}", [out[i] for out in found], expected)


@pytest.mark.slow
def test_inductor_gives_the_same_values():
    sample = affine_sample(4, 8)
    torch.compiler.reset()
    compiled = torch.compile(affine_draw, fullgraph=True)
    near("inductor", compiled(*sample.args), by_matrices(*sample.args))


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
    assert not faults(contracts.kernel(planted("sound"), by_matrices, SMALL[:1]))


@pytest.mark.parametrize(
    ("name", "parts", "claim"),
    [
        ("rate", {"forward": without_gamma_rate}, "values"),
        ("half", {"forward": summed_in_half}, "values"),
        ("rows", {"forward": across_rows}, "layouts"),
        ("sign", {"backward": wrong_sign}, "gradients"),
        ("detached", {"backward": detached}, "gradients"),
        ("fake", {"fake": lambda *a: (a[0].new_empty(a[0].shape[::-1]),) * 2}, "fake-shapes"),
        ("dtype", {"fake": lambda *a: (torch.empty_like(a[0]).float(),) * 2}, "fake-shapes"),
    ],
)
def test_a_planted_fault_is_seen(name, parts, claim):
    samples = (affine_sample(60, 2, gradients=False), affine_sample(3, 2))
    claims = contracts.kernel(planted(name, **parts), by_matrices, samples, compiled=False)
    seen = {c.name for c in claims if faults([c])}
    assert claim in seen
    if claim in ("gradients", "fake-shapes"):  # the values are right
        assert seen == {claim}


# -- Triton --------------------------------------------------------------------------------------


def run_in_interpreter():
    """In a process of its own, with TRITON_INTERPRET=1: parity, and a fault that must be seen."""
    from genpath_interpolants import _triton

    # the interpreter cuts a bfloat16 off instead of rounding it: a whole unit
    samples = SMALL + BLOCKS
    assert not faults(contracts.launcher(_triton.affine_draw, by_matrices, samples, roundings=1.0))

    def small_blocks(*args):
        return _triton.affine_draw(*args, block=16)

    some = (*SMALL, affine_sample(5, 3, 11))
    assert not faults(contracts.launcher(small_blocks, by_matrices, some, dtypes=(DOUBLE,)))

    def broken(*args):
        return _triton.affine_draw(*args[:8], 0 * args[8])

    assert faults(contracts.launcher(broken, by_matrices, SMALL[:1]))
    print(f"{len(samples)} samples agree, the fault is seen")


def test_the_kernel_agrees_in_the_interpreter():
    pytest.importorskip("triton", reason="triton is for Linux only")
    said = run_apart(__file__)
    assert f"{len(SMALL + BLOCKS)} samples agree, the fault is seen" in said


@pytest.mark.parametrize(
    ("dtype", "work"), [("fp32", "float32"), ("bf16", "float32"), ("fp64", "float64")]
)
def test_the_kernel_compiles_without_a_device(dtype, work):
    """The interpreter accepts what the compiler refuses, such as annotations of arguments."""
    language = pytest.importorskip("triton.language", reason="triton is for Linux only")
    from genpath_interpolants._triton import _affine_draw

    blocks = {"block_rows": 8, "block_columns": 256}
    constants = {"latent": True, "work": getattr(language, work), **blocks}
    pointers = [name for name in _affine_draw.arg_names if name not in constants]
    kinds = dict.fromkeys(pointers, f"*{dtype}") | {"rows": "i32", "columns": "i32"}
    assert compile_for_device(_affine_draw, kinds, constants)


WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # its import fails
import torch
from genpath_interpolants.kernels import affine_draw_operator
x, one = torch.ones(1, 2), torch.ones(1)
print(affine_draw_operator(x, x, None, one, one, None, one, -one, None))
"""


def test_the_operator_runs_where_triton_is_not_installed(tmp_path):
    file = tmp_path / "without_triton.py"
    file.write_text(WITHOUT_TRITON)
    said = run_apart(file, interpret=False)
    assert said.strip() == "(tensor([[2., 2.]]), tensor([[0., 0.]]))"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_agrees_on_a_device():
    from genpath_interpolants import _triton

    assert os.environ.get("TRITON_INTERPRET") != "1", "the interpreter does not test the device"
    samples = SMALL + BLOCKS
    for function in (_triton.affine_draw, affine_draw):
        assert not faults(contracts.launcher(on_device(function), by_matrices, samples))
    whole = contracts.kernel(on_device(affine_draw), by_matrices, SMALL, compiled=False)
    assert not faults(claim for claim in whole if claim.name == "gradients")


# -- the linear path -----------------------------------------------------------------------------

GAMMAS = ("none", "sqrt", "quadratic")
each_gamma = pytest.mark.parametrize("gamma", GAMMAS)


def endpoints(rng, *shape, dtype=DOUBLE):
    return [torch.randn(*shape, generator=rng, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("gamma", "name"),
    [(g, n) for g in GAMMAS for n in linear(Euclidean(1), g, base="gaussian").predictions],
)
def test_draw_with_target_is_draw_and_target(gamma, dtype, name, rng):
    path = linear(Euclidean(3, 2), gamma, base="gaussian")
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
    path, step = linear(Euclidean(2), gamma), 1e-5
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
    path = linear(Euclidean(2), "sqrt")
    x0, x1 = endpoints(rng, 3, 2, dtype=SINGLE)
    for t in (0.5, torch.tensor(0.5), torch.full((3,), 0.5, dtype=DOUBLE)):
        seeded = torch.Generator().manual_seed(0)
        draw, target = path.draw_with_target("velocity", t, x0, x1, seeded)
        assert draw.state.dtype == target.dtype == SINGLE
        expected = 0.5 * (x0 + x1) + 0.5 * draw.latent
        assert torch.allclose(draw.state, expected)
        assert torch.allclose(target, x1 - x0)  # γ̇ = 0 in the middle


def test_the_core_takes_the_paths_own_way_where_it_has_one(rng):
    path, (x0, x1) = linear(Euclidean(2), "sqrt"), endpoints(rng, 3, 2)

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
    torch.set_num_threads(1)
    run_in_interpreter()
