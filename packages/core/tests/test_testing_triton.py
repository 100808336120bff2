"""The kit's ways to Triton: the compiler without a device, the interpreter in its own process."""

import sys

import pytest
import torch

from genpath.errors import CapabilityError, DomainError
from genpath.testing.triton import compile_for_device, on_device, run_apart

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

needs_triton = pytest.mark.skipif(triton is None, reason="triton is for Linux only")

if triton is not None:

    @triton.jit
    def _double(x, count, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        tl.store(x + at, 2 * tl.load(x + at, at < count), at < count)

    @triton.jit
    def _list(x, count, BLOCK: tl.constexpr):
        for value in x.tolist():  # Python that no device has
            print(value)


KINDS = {"x": "*fp32", "count": "i32"}


@needs_triton
def test_a_kernel_compiles_to_machine_code():
    code = compile_for_device(_double, KINDS, {"BLOCK": 64})
    assert code[:4] == b"\x7fELF"
    assert code != compile_for_device(_double, KINDS | {"x": "*fp64"}, {"BLOCK": 64})


@needs_triton
def test_what_does_not_compile_raises():
    from triton.compiler.errors import CompilationError

    with pytest.raises(CompilationError):
        compile_for_device(_list, KINDS, {"BLOCK": 64})


@needs_triton
def test_refusals():
    with pytest.raises(CapabilityError, match=r"takes a function under triton\.jit") as caught:
        compile_for_device(len, {}, {})
    assert "without TRITON_INTERPRET" in str(caught.value)
    with pytest.raises(DomainError, match="has a kind or is a constant") as caught:
        compile_for_device(_double, KINDS, {})
    assert "its arguments: x, count, BLOCK" in str(caught.value)


def test_a_program_apart_has_its_own_mode(tmp_path, monkeypatch):
    file = tmp_path / "program.py"
    file.write_text("import os, sys; print(os.environ.get('TRITON_INTERPRET'), *sys.argv[1:])")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert run_apart(file, "a", "b") == "1 a b\n"
    assert run_apart(file, interpret=False) == "None\n"


def test_a_program_that_fails_says_why(tmp_path):
    file = tmp_path / "program.py"
    file.write_text("raise SystemExit('so it is')")
    with pytest.raises(AssertionError, match=r"(?s)program\.py part failed.*so it is"):
        run_apart(file, "part")


def test_results_come_back_from_a_device():
    def swap(a, b, times):
        assert a.device.type == b.device.type == "meta" and times == 3
        return torch.ones(2), torch.zeros(1)

    first, second = on_device(swap, "meta")(torch.ones(1), torch.ones(1), 3)
    assert first.tolist() == [1, 1] and second.tolist() == [0]
    x = torch.ones(2, requires_grad=True)
    on_device(torch.exp, "cpu")(x).sum().backward()
    assert torch.equal(x.grad, x.detach().exp())


def test_the_module_needs_no_triton():
    assert "triton" not in vars(sys.modules["genpath.testing.triton"])
