r"""What every operator owes: values, gradients and shapes of its reference, in any layout.

    |op(x) − ref(x)| ≤ 32 ε(work) (1 + |ref|) + ½ ε(dtype) |ref|

with the reference in float64 at the same, rounded arguments. A half-precision operator is expected
to accumulate in float32 (the work dtype) and to round once. Gradients are compared with autograd
through the reference and, where a sample is small, with numerical derivatives of both orders.
"""

from __future__ import annotations

import operator as operation
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..claims import Claim, Control, Trial, dial
from ..evidence import Evidence, exact, near

__all__ = ["DTYPES", "Sample", "kernel"]

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
HALVES = (torch.bfloat16, torch.float16)

Operator = Callable[..., Any]


@dataclass(frozen=True)
class Sample:
    """Arguments of an operator: float64 tensors with the batch first, Nones, anything else.

    Args:
        name: what is special about it.
        args: the arguments, in order.
        gradients: whether numerical derivatives are taken, entry by entry; for small samples.

    Example:
        >>> sample = Sample("two rows", (torch.ones(2, 3, dtype=torch.float64), None, 4))
        >>> [a.dtype for a in sample.map(lambda a: a.float()) if isinstance(a, torch.Tensor)]
        [torch.float32]
    """

    name: str
    args: tuple[Any, ...]
    gradients: bool = True

    def map(self, change: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
        """The arguments, with every floating tensor changed."""
        return tuple(change(a) if _floating(a) else a for a in self.args)

    def cast(self, dtype: torch.dtype) -> tuple[Any, ...]:
        """The arguments, with every floating tensor in this dtype."""
        return self.map(lambda a: a.to(dtype))


def kernel(
    operator: Operator,
    reference: Operator,
    samples: Sequence[Sample],
    *,
    dtypes: Sequence[torch.dtype] = DTYPES,
    differentiable: bool = True,
    compiled: bool = True,
    roundings: float = 0.5,
) -> tuple[Claim[Any], ...]:
    """The claims that every operator with floating results owes.

    Args:
        operator: a `torch.library.custom_op`, or a function that calls one.
        reference: a differentiable function of the same arguments, in plain torch.
        samples: each row of a result comes from the same row of the arguments.
        dtypes: in which the operator works.
        differentiable: whether it has gradients, of both orders.
        compiled: whether `torch.compile` is asked for one graph (some seconds).
        roundings: units in the last place of a half-precision result; ½ rounds to nearest.

    Returns:
        Claims ``values``, ``layouts`` and ``fake-shapes``, and, where asked for, ``gradients`` and
        ``one-graph``.

    Example:
        >>> double = lambda x: 2 * x
        >>> sample = Sample("rows", (torch.randn(3, 2, dtype=torch.float64),))
        >>> [claim.name for claim in kernel(double, lambda x: x + x, [sample])]
        ['values', 'layouts', 'fake-shapes', 'gradients', 'one-graph']
    """

    def make() -> Operator:
        return operator

    claims = [
        _values(make, reference, samples, dtypes, roundings),
        _layouts(make, samples),
        _fake(make, samples, dtypes),
    ]
    if differentiable:
        claims.append(_gradients(make, reference, samples))
    if compiled:
        claims.append(_one_graph(make, samples))
    return tuple(claims)


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _all(values: Any) -> tuple[Tensor, ...]:
    return (values,) if isinstance(values, Tensor) else tuple(values)


def _close(
    what: str, found: Any, true: Any, dtype: torch.dtype = torch.float64, roundings: float = 0.5
) -> Iterator[Evidence]:
    """Shapes and dtypes, and values within the roundings of the module's bound."""
    found, true = _all(found), _all(true)
    forms = [(tuple(f.shape), f.dtype) for f in found]
    yield exact(f"{what}: shapes, dtypes", forms, [(tuple(e.shape), dtype) for e in true])
    work = torch.float32 if dtype in HALVES else dtype
    for f, e in zip(found, true, strict=False):
        if f.shape == e.shape and f.numel():
            slack = 32 * torch.finfo(work).eps * (1 + float(e.abs().max())) * torch.ones_like(e)
            if dtype in HALVES:
                slack = slack + roundings * torch.finfo(dtype).eps * e.abs()
            because = f"32 roundings of {str(work)[6:]}, then one to {str(dtype)[6:]}"
            yield near(what, f.double(), e, slack, because)


def _changed(operator: Operator, change: Callable[[Tensor], Tensor]) -> Operator:
    """The operator with its results changed."""

    def other(*args: Any) -> Any:
        found = operator(*args)
        return change(found) if isinstance(found, Tensor) else tuple(map(change, found))

    return other


def _scale(operator: Operator, size: float) -> Operator:
    return _changed(operator, lambda out: (1 + size) * out)


def _values(
    make: Any,
    reference: Operator,
    samples: Sequence[Sample],
    dtypes: Sequence[torch.dtype],
    roundings: float,
) -> Claim[Any]:
    def check(operator: Any, trial: Trial) -> Iterator[Evidence]:
        for sample in samples:
            for dtype in dtypes:
                args = sample.cast(dtype)
                true = reference(*replace(sample, args=args).cast(torch.float64))
                what = f"{sample.name}, {str(dtype)[6:]}"
                yield from _close(what, operator(*args), true, dtype, roundings)

    return Claim(
        "values",
        "In every dtype the operator gives the values of its reference, up to rounding.",
        make,
        check,
        (dial("results × (1 + δ)", _scale),),
    )


def _layouts(make: Any, samples: Sequence[Sample]) -> Claim[Any]:
    layouts: dict[str, Callable[[Tensor], Tensor]] = {
        "strided": lambda a: torch.stack([a, a + 1], -1)[..., 0],
        "batch last": lambda a: a.movedim(0, -1).contiguous().movedim(-1, 0),
    }

    def check(operator: Any, trial: Trial) -> Iterator[Evidence]:
        for sample in samples:
            whole = operator(*sample.args)
            for name, change in layouts.items():
                yield from _close(f"{sample.name}, {name}", operator(*sample.map(change)), whole)
            for rows in (0, 1):
                few = operator(*sample.map(operation.itemgetter(slice(rows))))
                kept = tuple(out[:rows] for out in _all(whole))
                yield from _close(f"{sample.name}, {rows} rows", few, kept)

    def dense(operator: Any, size: float) -> Operator:
        def other(*args: Any) -> Any:
            whole = all(a.is_contiguous() for a in args if _floating(a))
            return operator(*args) if whole else _scale(operator, size)(*args)

        return other

    def across(operator: Any, size: float) -> Operator:
        return _changed(operator, lambda out: out + size * out.sum(0))

    return Claim(
        "layouts",
        "No value depends on strides or on other rows; no rows, or one, will do.",
        make,
        check,
        (
            dial("strided arguments: results × (1 + δ)", dense),
            dial("results + δ · their sum over rows", across),
        ),
    )


def _fake(make: Any, samples: Sequence[Sample], dtypes: Sequence[torch.dtype]) -> Claim[Any]:
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    def check(operator: Any, trial: Trial) -> Iterator[Evidence]:
        for sample in samples:
            for dtype in dtypes:
                args = sample.cast(dtype)
                real = [(tuple(o.shape), o.dtype, o.stride()) for o in _all(operator(*args))]
                with FakeTensorMode() as mode:
                    given = [mode.from_tensor(a) if isinstance(a, Tensor) else a for a in args]
                    outs = _all(operator(*given))
                fake = [(tuple(o.shape), o.dtype, o.stride()) for o in outs]
                yield exact(f"{sample.name}, {str(dtype)[6:]}: shape, dtype, strides", fake, real)

    def turned(operator: Any) -> Operator:
        def other(*args: Any) -> Any:
            found = operator(*args)
            if not any(isinstance(a, FakeTensor) for a in args):
                return found
            return tuple(o.double().unsqueeze(0) for o in _all(found))

        return other

    return Claim(
        "fake-shapes",
        "Without data the operator tells the shape, dtype and strides of its results.",
        make,
        check,
        (Control("an axis too many, without data", turned),),
    )


def _gradients(make: Any, reference: Operator, samples: Sequence[Sample]) -> Claim[Any]:
    def check(operator: Any, trial: Trial) -> Iterator[Evidence]:
        for sample in samples:
            args = sample.map(lambda a: a.clone().requires_grad_())
            inputs = [a for a in args if _floating(a)]
            if sample.gradients:
                for name, test in _NUMERICAL.items():
                    sound = test(operator, args, raise_exception=False)
                    yield exact(f"{sample.name}: {name} numerical derivatives", sound)
            outs, true = _all(operator(*args)), _all(reference(*args))
            rng = trial.rng(sample.name)
            for index, (out, right) in enumerate(zip(outs, true, strict=True)):
                weights = torch.randn(right.shape, generator=rng, dtype=right.dtype)
                found, expected = (
                    torch.autograd.grad(
                        o, inputs, weights, retain_graph=True, materialize_grads=True
                    )
                    for o in (out, right)
                )
                yield from _close(f"{sample.name}: gradient of result {index}", found, expected)

    def bent(operator: Any, size: float) -> Operator:
        # the same values, gradients × (1 + δ)
        return _changed(operator, lambda out: (1 + size) * out - size * out.detach())

    return Claim(
        "gradients",
        "Gradients are those of the reference, and of numerical derivatives, twice.",
        make,
        check,
        (dial("gradients × (1 + δ)", bent),),
    )


_NUMERICAL: dict[str, Any] = {
    "first": torch.autograd.gradcheck,
    "second": torch.autograd.gradgradcheck,
}


def _one_graph(make: Any, samples: Sequence[Sample]) -> Claim[Any]:
    def check(operator: Any, trial: Trial) -> Iterator[Evidence]:
        from torch._dynamo.exc import Unsupported

        sample = samples[0]
        torch.compiler.reset()
        whole = torch.compile(lambda *a: operator(*a), fullgraph=True, backend="aot_eager")
        try:
            found = whole(*sample.args)
        except Unsupported as error:
            yield exact(f"one graph ({str(error).splitlines()[0]})", False)
            return
        yield exact("one graph", True)
        yield from _close(f"{sample.name}, compiled", found, operator(*sample.args))

    def broken(operator: Any) -> Operator:
        def other(*args: Any) -> Any:
            torch._dynamo.graph_break()
            return operator(*args)

        return other

    return Claim(
        "one-graph",
        "torch.compile sees no graph break, and gives the same values.",
        make,
        check,
        (Control("a graph break", broken),),
    )
