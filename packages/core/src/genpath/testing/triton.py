"""Triton kernels without a device: compiled for one, or run in the interpreter.

    compile_for_device    the compiler, to machine code: what the interpreter accepts and it does
                          not, such as annotations of arguments
    run_apart             the interpreter, in a process of its own: Triton chooses between the two
                          when it is imported
    on_device             the device, where there is one

Nothing here needs Triton to be installed until it is called.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from genpath.errors import CapabilityError, DomainError

__all__ = ["compile_for_device", "on_device", "run_apart"]


def compile_for_device(
    kernel: Any, kinds: Mapping[str, str], constants: Mapping[str, Any], *, capability: int = 90
) -> bytes:
    """The machine code of a Triton kernel for a CUDA device, which need not be there.

    Args:
        kernel: a function under ``triton.jit``.
        kinds: the type of every argument that is no constant, as Triton writes it: ``"*fp32"``,
            ``"i32"``.
        constants: the value of every ``tl.constexpr`` argument.
        capability: the compute capability of the device times ten; 90 is that of an H100.

    Raises:
        CapabilityError: Triton interprets instead of compiling.
        DomainError: an argument is neither typed nor constant, or both.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile as build
    from triton.runtime.jit import JITFunction

    if not isinstance(kernel, JITFunction):
        raise CapabilityError(
            "compile_for_device",
            "the compiler takes a function under triton.jit.",
            got=type(kernel).__name__,
            fix="run without TRITON_INTERPRET in the environment",
        )
    names = kernel.arg_names
    if sorted(names) != sorted([*kinds, *constants]):
        raise DomainError(
            f"compile_for_device({kernel.__name__})",
            "every argument has a kind or is a constant.",
            got=f"kinds of {', '.join(kinds)}; constants {', '.join(constants)}",
            fix=f"its arguments: {', '.join(names)}",
        )
    signature = {name: kinds.get(name, "constexpr") for name in names}
    source = ASTSource(kernel, signature, dict(constants))
    found: bytes = build(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
    return found


def run_apart(file: str | Path, *words: str, interpret: bool = True) -> str:
    """What a Python file prints as a program of its own, under Triton's interpreter.

    Args:
        file: a Python file; ``__file__`` for a test that calls itself.
        words: its arguments.
        interpret: whether Triton interprets.

    Raises:
        AssertionError: the program failed; its error output.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "program.py")
        ...     _ = file.write_text("import os; print(os.environ['TRITON_INTERPRET'])")
        ...     run_apart(file)
        '1\\n'
    """
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if interpret:
        env["TRITON_INTERPRET"] = "1"
    found = subprocess.run(
        [sys.executable, str(file), *words], env=env, capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise AssertionError(f"{file} {' '.join(words)} failed\n{found.stderr}")
    return found.stdout


def on_device(function: Callable[..., Any], device: str = "cuda") -> Callable[..., Any]:
    """A function that computes on a device, with arguments and results on the CPU.

    Gradients pass through. Use it to hand an operator or a launcher to `contracts.kernel` or
    `contracts.launcher`.

    Example:
        >>> import torch
        >>> on_device(torch.add, "cpu")(torch.ones(2), 1)
        tensor([2., 2.])
    """

    def call(*args: Any) -> Any:
        found = function(*(a.to(device) if isinstance(a, Tensor) else a for a in args))
        return found.cpu() if isinstance(found, Tensor) else tuple(out.cpu() for out in found)

    return call
