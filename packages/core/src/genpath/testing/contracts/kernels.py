r"""What every operator owes: values, gradients and shapes of its reference, in any layout.

    |op(x) − ref(x)| ≤ 32 ε(work) (1 + |ref|) + ½ ε(dtype) |ref|

with the reference in float64 at the same, rounded arguments. A half-precision operator is expected
to accumulate in float32 (the work dtype) and to round once. Gradients are compared with autograd
through the reference and, where a sample is small, with numerical derivatives of both orders.

An operator that draws integers is judged by ``alike(what, found, args)`` instead, which yields the
evidence that the results are right for the arguments: near the edge of a cell of its inverse CDF,
two sound implementations may draw two neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError

from ..claims import Claim, Control, Trial, dial
from ..evidence import Evidence, exact, near

__all__ = ["DTYPES", "Alike", "Sample", "kernel", "launcher"]

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
HALVES = (torch.bfloat16, torch.float16)

Operator = Callable[..., Any]
Alike = Callable[[str, Any, tuple[Any, ...]], Iterable[Evidence]]
"""``(what, found, args)``: evidence that the results found are right for the arguments."""

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "strided": lambda a: torch.stack([a, a + 1], -1)[..., 0],
    "last axis first": lambda a: a.movedim(-1, 0).contiguous().movedim(0, -1),
    "batch last": lambda a: a.movedim(0, -1).contiguous().movedim(-1, 0),
    "a slice": lambda a: torch.cat([a, a[..., :1]], -1)[..., :-1],
}
"""Ways to hold the same numbers."""


@dataclass(frozen=True)
class Sample:
    """Arguments of an operator: tensors with the batch first, Nones, anything else.

    The first argument is a tensor with a batch axis, and floating tensors are float64.

    Args:
        name: what is special about it.
        args: the arguments, in order.
        gradients: whether numerical derivatives are taken, entry by entry; for small samples.
        changed: the positions of the arguments whose dtype and strides are varied; every floating
            tensor if None.

    Example:
        >>> sample = Sample("two rows", (torch.ones(2, 3, dtype=torch.float64), None, 4))
        >>> [a.dtype for a in sample.map(lambda a: a.float()) if isinstance(a, torch.Tensor)]
        [torch.float32]
    """

    name: str
    args: tuple[Any, ...]
    gradients: bool = True
    changed: tuple[int, ...] | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
        """The arguments, with those that are varied changed."""
        if self.changed is None:
            return _map(self.args, change)
        return tuple(change(a) if i in self.changed else a for i, a in enumerate(self.args))

    def cast(self, dtype: torch.dtype) -> tuple[Any, ...]:
        """The arguments, with those that are varied in this dtype."""
        return self.map(lambda a: a.to(dtype))

    def rows(self, count: int) -> tuple[Any, ...]:
        """The first rows: of every tensor that has an axis."""
        batched = [isinstance(a, Tensor) and a.dim() > 0 for a in self.args]
        return tuple(a[:count] if b else a for a, b in zip(self.args, batched, strict=True))


def kernel(
    operator: Operator,
    reference: Operator | None,
    samples: Sequence[Sample],
    *,
    dtypes: Sequence[torch.dtype] = DTYPES,
    differentiable: bool = True,
    compiled: bool = True,
    roundings: float = 0.5,
    alike: Alike | None = None,
) -> tuple[Claim[Any], ...]:
    """The claims that every operator owes.

    Args:
        operator: a `torch.library.custom_op`, or a function that calls one.
        reference: a differentiable function of the same arguments, in plain torch; None where
            ``alike`` judges the results and there are no gradients.
        samples: each row of a result comes from the same row of the arguments.
        dtypes: in which the operator works.
        differentiable: whether it has gradients, of both orders.
        compiled: whether `torch.compile` is asked for one graph (some seconds).
        roundings: units in the last place of a half-precision result; ½ rounds to nearest.
        alike: judges the results instead of the reference; for integers, and for what is equal up
            to something else than rounding. The controls then change the arguments.

    Returns:
        Claims ``values``, ``layouts`` and ``fake-shapes``, and, where asked for, ``gradients`` and
        ``one-graph``.

    Raises:
        DomainError: no reference where one is needed.

    Example:
        >>> double = lambda x: 2 * x
        >>> sample = Sample("rows", (torch.randn(3, 2, dtype=torch.float64),))
        >>> [claim.name for claim in kernel(double, lambda x: x + x, [sample])]
        ['values', 'layouts', 'fake-shapes', 'gradients', 'one-graph']
    """

    claims = [
        *launcher(operator, reference, samples, dtypes=dtypes, roundings=roundings, alike=alike),
        _fake(lambda: operator, samples, dtypes),
    ]
    if differentiable:
        claims.append(_gradients(lambda: operator, _given(reference), samples))
    if compiled:
        claims.append(_one_graph(lambda: operator, samples, alike))
    return tuple(claims)


def launcher(
    launch: Operator,
    reference: Operator | None,
    samples: Sequence[Sample],
    *,
    dtypes: Sequence[torch.dtype] = DTYPES,
    roundings: float = 0.5,
    alike: Alike | None = None,
) -> tuple[Claim[Any], ...]:
    """Those of `kernel` that a bare kernel owes: ``values`` and ``layouts``.

    A launcher knows neither shapes without data nor gradients. Check it in Triton's interpreter
    (`genpath.testing.triton.run_apart`), and on a device through
    `genpath.testing.triton.on_device`.

    Args:
        launch: the launcher, of the operator's arguments.
        reference, samples, dtypes, roundings, alike: as in `kernel`.

    Example:
        >>> sample = Sample("rows", (torch.randn(3, 2, dtype=torch.float64),))
        >>> [claim.name for claim in launcher(torch.sin, torch.sin, [sample])]
        ['values', 'layouts']
    """
    if alike is None:
        _given(reference)
    return (
        _values(lambda: launch, reference, samples, dtypes, roundings, alike),
        _layouts(lambda: launch, samples, alike),
    )


def _given(reference: Operator | None) -> Operator:
    if reference is None:
        raise DomainError(
            "contracts.kernel",
            "values and gradients are compared with a reference.",
            got="None",
            fix="pass a reference, or alike=... and differentiable=False",
        )
    return reference


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _map(args: tuple[Any, ...], change: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
    """The arguments, with every floating tensor changed."""
    return tuple(change(a) if _floating(a) else a for a in args)


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


def _results(operator: Operator, change: Callable[[Tensor], Tensor]) -> Operator:
    """The operator with its results changed."""

    def other(*args: Any) -> Any:
        found = operator(*args)
        return change(found) if isinstance(found, Tensor) else tuple(map(change, found))

    return other


def _arguments(operator: Operator, change: Callable[[Tensor], Tensor]) -> Operator:
    """The operator with its floating arguments changed: integers out cannot change by little."""
    return lambda *args: operator(*_map(args, change))


def _faulty(alike: Alike | None) -> tuple[str, Callable[..., Operator]]:
    return ("results", _results) if alike is None else ("arguments", _arguments)


def _values(
    make: Any,
    reference: Operator | None,
    samples: Sequence[Sample],
    dtypes: Sequence[torch.dtype],
    roundings: float,
    alike: Alike | None,
) -> Claim[Any]:
    def check(operator: Any, trial: Trial) -> Iterator[Evidence]:
        for sample in samples:
            for dtype in dtypes:
                args, what = sample.cast(dtype), f"{sample.name}, {str(dtype)[6:]}"
                found = operator(*args)
                if alike is not None:
                    yield from alike(what, found, args)
                else:
                    true = _given(reference)(*_map(args, Tensor.double))
                    yield from _close(what, found, true, dtype, roundings)

    where, changed = _faulty(alike)

    def scaled(operator: Any, size: float) -> Operator:
        return changed(operator, lambda a: (1 + size) * a)

    return Claim(
        "values",
        "In every dtype the operator gives the values of its reference, up to rounding."
        if alike is None
        else "In every dtype the operator gives the right values.",
        make,
        check,
        (dial(f"{where} × (1 + δ)", scaled),),
    )


def _layouts(make: Any, samples: Sequence[Sample], alike: Alike | None) -> Claim[Any]:
    def check(operator: Any, trial: Trial) -> Iterator[Evidence]:
        for sample in samples:
            whole = _all(operator(*sample.args)) if alike is None else ()
            calls = {name: sample.map(change) for name, change in LAYOUTS.items()}
            calls |= {f"{rows} rows": sample.rows(rows) for rows in (0, 1)}
            for name, args in calls.items():
                what, found = f"{sample.name}, {name}", operator(*args)
                if alike is not None:
                    yield from alike(what, found, args)
                else:
                    yield from _close(what, found, tuple(out[: len(args[0])] for out in whole))

    where, changed = _faulty(alike)

    def dense(operator: Any, size: float) -> Operator:
        def other(*args: Any) -> Any:
            whole = all(a.is_contiguous() for a in args if _floating(a))
            return operator(*args) if whole else changed(operator, lambda a: (1 + size) * a)(*args)

        return other

    def across(operator: Any, size: float) -> Operator:
        return changed(operator, lambda a: a + size * a.sum(0))

    return Claim(
        "layouts",
        "No value depends on strides or on other rows; no rows, or one, will do.",
        make,
        check,
        (
            dial(f"strided arguments: {where} × (1 + δ)", dense),
            dial(f"{where} + δ · their sum over rows", across),
        ),
    )


def _fake(make: Any, samples: Sequence[Sample], dtypes: Sequence[torch.dtype]) -> Claim[Any]:
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    def check(operator: Any, trial: Trial) -> Iterator[Evidence]:
        for sample in samples:
            forms = {str(dtype)[6:]: sample.cast(dtype) for dtype in dtypes}
            forms |= {name: sample.map(change) for name, change in LAYOUTS.items()}
            for name, args in forms.items():
                real = [(tuple(o.shape), o.dtype, o.stride()) for o in _all(operator(*args))]
                with FakeTensorMode() as mode:
                    given = [mode.from_tensor(a) if isinstance(a, Tensor) else a for a in args]
                    outs = _all(operator(*given))
                fake = [(tuple(o.shape), o.dtype, o.stride()) for o in outs]
                yield exact(f"{sample.name}, {name}: shape, dtype, strides", fake, real)

    def turned(operator: Any) -> Operator:
        def other(*args: Any) -> Any:
            found = operator(*args)
            if not any(isinstance(a, FakeTensor) for a in args):
                return found
            return tuple(o.unsqueeze(0) for o in _all(found))

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
        return _results(operator, lambda out: (1 + size) * out - size * out.detach())

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


def _one_graph(make: Any, samples: Sequence[Sample], alike: Alike | None) -> Claim[Any]:
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
        what = f"{sample.name}, compiled"
        if alike is not None:
            yield from alike(what, found, sample.args)
        else:
            yield from _close(what, found, operator(*sample.args))

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
