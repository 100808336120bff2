r"""What the rules of a path owe: each is exact on exact fields, and no two routes disagree.

With exact fields q_a(t, x) for every prediction a (closed forms, quadrature, or sums over the data:
not the path's own rules), a rule a, b → c must give q_c from q_a and q_b. Then every chain of rules
is exact. From an arbitrary value of one prediction, as an untrained network gives, all routes must
still lead to one value of each other: the rules are one relation, not several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, SingularTimeError
from genpath.predictions import Rule, convert, converted

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, equal, exact, refusal
from ._leaves import flat, scaled

__all__ = ["conversions"]

Points = Callable[[int, torch.Generator], tuple[Tensor, Any]]


def conversions(
    make: Callable[[], Any],
    fields: Mapping[str, Callable[[Tensor, Any], Any]],
    points: Points,
    *,
    singular: Sequence[tuple[Sequence[str], str, float]] = (),
    operations: float = 65536,
    rows: int = 64,
    roots: Sequence[str] | None = None,
    entries: Sequence[str] = (),
) -> tuple[Claim[Any], ...]:
    """The claims that the conversions of a path owe.

    Args:
        make: makes the path; only its ``rules`` (and ``convert``, for singular times) are used.
        fields: name → exact field ``(t, x) → value``, for every name in the rules.
        points: ``points(count, rng) → (t, x)``: times ``(count,)`` and states in float64, at a
            distance from the singular times.
        singular: triples (given names, wanted name, time) that
            ``path.convert(want, given, t, x)`` refuses.
        operations: roundings that may add up, at the size of the values.
        rows: how many points.
        roots: the names from which round trips start, all by default; leave out those whose value
            is several quantities at once, which need not agree where no exact field has them.
        entries: of the ledger, for the claim ``rules``.

    Returns:
        Claims ``rules``, ``round-trips`` and, where there is any, ``singular-times``.

    Example:
        >>> from dataclasses import make_dataclass
        >>> halve = Rule("b", ("a",), lambda t, x, a: a / 2)
        >>> double = Rule("a", ("b",), lambda t, x, b: 2 * b)
        >>> path = lambda: make_dataclass("Path", ["rules"])((halve, double))
        >>> fields = {"a": lambda t, x: 2 * x, "b": lambda t, x: x}
        >>> points = lambda n, rng: (torch.rand(n), torch.rand(n, dtype=torch.float64))
        >>> [claim.name for claim in conversions(path, fields, points)]
        ['rules', 'round-trips']
    """
    claims = [
        _rules(make, fields, points, operations, rows, entries),
        _round_trips(make, fields, points, operations, rows, roots),
    ]
    if singular:
        claims.append(_singular(make, fields, points, singular))
    return tuple(claims)


def _name(rule: Rule) -> str:
    return f"{' + '.join(rule.needs)} → {rule.gives}"


def _fault(rule: Rule) -> Control[Any]:
    """The result of this rule times 1 + δ."""

    def plant(path: Any, size: float) -> Any:
        def bend(other: Rule) -> Rule:
            if (other.gives, other.needs) != (rule.gives, rule.needs):
                return other
            return replace(
                other, formula=lambda t, x, *v: scaled(other.formula(t, x, *v), 1 + size)
            )

        return but(path, rules=tuple(bend(other) for other in path.rules))

    return dial(f"{_name(rule)} × (1 + δ)", plant)


def _same(what: str, found: Any, true: Any, operations: float) -> Evidence:
    found, true = flat(found), flat(true)
    size = max(1.0, float(true.abs().max())) if true.numel() else 1.0
    return equal(what, found, true, operations=operations, scale=size)


def _rules(
    make: Callable[[], Any],
    fields: Mapping[str, Any],
    points: Points,
    operations: float,
    rows: int,
    entries: Sequence[str],
) -> Claim[Any]:
    def check(path: Any, trial: Trial) -> Iterator[Evidence]:
        t, x = points(rows, trial.rng())
        values = {name: field(t, x) for name, field in fields.items()}
        names = {name for rule in path.rules for name in (rule.gives, *rule.needs)}
        yield exact("every quantity of the rules has a field", sorted(names - set(fields)), [])
        for rule in path.rules:
            found = rule.formula(t, x, *(values[name] for name in rule.needs))
            yield _same(_name(rule), found, values[rule.gives], operations)

    return Claim(
        "rules",
        "Every conversion gives the exact quantity from exact ones.",
        make,
        check,
        tuple(_fault(rule) for rule in make().rules),
        formula=r"q_c(t, x) = R(t, x, q_a(t, x), \dots)",
        entries=entries,
    )


def _reach(path: Any, given: Mapping[str, Any], want: str, t: Tensor, x: Any) -> Any:
    try:
        return convert(path.rules, given, want, t, x)
    except CapabilityError:
        return None


def _round_trips(
    make: Callable[[], Any],
    fields: Mapping[str, Any],
    points: Points,
    operations: float,
    rows: int,
    roots: Sequence[str] | None,
) -> Claim[Any]:
    def check(path: Any, trial: Trial) -> Iterator[Evidence]:
        t, x = points(rows, trial.rng())
        pairs = 0
        for a in fields if roots is None else roots:
            wild = _noisy(fields[a](t, x), trial, a)
            made = {b: _reach(path, {a: wild}, b, t, x) for b in fields}
            made = {b: value for b, value in made.items() if value is not None}
            for b, value in made.items():
                if b == a:
                    continue
                pairs += 1
                yield _same(
                    f"{a} → {b} of a field", converted(path.rules, a, fields[a], b)(t, x),
                    fields[b](t, x), operations,
                )  # fmt: skip
                for c, true in made.items():
                    again = _reach(path, {b: value}, c, t, x) if c != b else None
                    if again is not None:
                        yield _same(f"{a} → {b} → {c}", again, true, operations)
        yield exact("some prediction leads to another", pairs > 0)

    rules = make().rules
    single = [rule for rule in rules if len(rule.needs) == 1] or list(rules)
    return Claim(
        "round-trips",
        "From one prediction all routes lead to the same value of every other, back to itself "
        "too, also where the given values are those of no exact field.",
        make,
        check,
        tuple(_fault(rule) for rule in dict.fromkeys((single[0], single[-1]))),
        formula=r"a \to b \to c \;=\; a \to c",
    )


def _noisy(value: Any, trial: Trial, key: str) -> Any:
    rng = trial.rng(f"network {key}")

    def add(leaf: Tensor) -> Tensor:
        return leaf + torch.randn(leaf.shape, generator=rng, dtype=leaf.dtype)

    return add(value) if isinstance(value, Tensor) else {n: add(v) for n, v in value.items()}


def _singular(
    make: Callable[[], Any],
    fields: Mapping[str, Any],
    points: Points,
    cases: Sequence[tuple[Sequence[str], str, float]],
) -> Claim[Any]:
    def check(path: Any, trial: Trial) -> Iterator[Evidence]:
        t, x = points(4, trial.rng())
        for names, want, time in cases:
            given = {name: fields[name](t, x) for name in names}

            def call(given: Any = given, want: str = want, time: float = time) -> Any:
                return path.convert(want, given, torch.full_like(t, time), x)

            what = f"{' + '.join(names)} → {want} at t = {time:g}"
            yield refusal(what, call, SingularTimeError, want)

    def clamped(path: Any) -> Any:
        def convert_inside(want: str, given: Any, t: Tensor, x: Any) -> Any:
            return path.convert(want, given, t.clamp(0.01, 0.99), x)

        return but(path, convert=convert_inside)

    return Claim(
        "singular-times",
        "A conversion that is infinite at a time is refused there, by name.",
        make,
        check,
        (Control("the time is clamped to [0.01, 0.99]", clamped),),
    )
