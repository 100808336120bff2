r"""Predictions: what a network is asked for, and the one home of their conversions.

A path names the predictions that it can regress on (velocity, score, noise, denoiser, logits, …)
and gives `Rule`s between them. `convert` chains rules from what is given to what is wanted, so
that a formula is written once and any sufficient set leads to any other:

    rules of a linear path      {denoiser} → velocity,  {velocity} → score, …
    convert(rules, {"denoiser": D}, "score", t, x)

A rule that is singular at some time raises `SingularTimeError` when built on concrete times by its
author; conversions themselves never synchronise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import CapabilityError
from .states import Field, State, concatenate

__all__ = ["Prediction", "Rule", "classifier_free", "convert", "converted", "plan"]


@dataclass(frozen=True)
class Prediction:
    """One quantity that a network may be asked for.

    Args:
        name: the field's standard term.
        output_shape: the shape of the network's output for one row.
        tangent: whether it is a tangent at the state, so that it is projected onto tangents.
        meaning: what it is, as a formula.

    Example:
        >>> denoiser = Prediction("denoiser", (3,), tangent=False, meaning="E[x1 | x_t]")
        >>> torch.zeros(8, *denoiser.output_shape).shape  # what a network returns for 8 rows
        torch.Size([8, 3])
    """

    name: str
    output_shape: Any
    tangent: bool
    meaning: str


@dataclass(frozen=True)
class Rule:
    """One formula: the quantity ``gives`` from the quantities ``needs`` at (t, x).

    Args:
        gives: name of the result.
        needs: names of the arguments.
        formula: ``formula(t, x, *arguments) -> result``.

    Example:
        >>> rule = Rule("velocity", ("denoiser",), lambda t, x, d: (d - x) / (1 - t)[:, None])
        >>> rule.formula(torch.tensor([0.5]), torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[2., 2.]])
    """

    gives: str
    needs: tuple[str, ...]
    formula: Callable[..., Any]


def plan(rules: Sequence[Rule], given: Sequence[str], want: str) -> tuple[Rule, ...]:
    """The rules to apply, in order, to reach ``want`` from ``given``: breadth first, fewest rounds.

    Raises:
        CapabilityError: no chain of rules leads there.

    Example:
        >>> half = Rule("b", ("a",), lambda t, x, a: a / 2)
        >>> [rule.gives for rule in plan([half], ["a"], "b")]
        ['b']
    """
    made: dict[str, Rule | None] = dict.fromkeys(given)
    while want not in made:
        ready = [r for r in rules if r.gives not in made and all(n in made for n in r.needs)]
        if not ready:
            reachable = sorted(set(made) - set(given))
            raise CapabilityError(
                "convert",
                f"no rule leads to {want!r} from {', '.join(map(repr, given))}.",
                got="reachable: " + (", ".join(reachable) or "nothing else"),
                fix="predict another quantity, or add a second one",
            )
        made.update({r.gives: r for r in reversed(ready)})
    needed, order = [want], list[Rule]()
    while needed:
        rule = made[needed.pop()]
        if rule is not None:
            order = [rule] + [r for r in order if r is not rule]
            needed.extend(rule.needs)
    return tuple(order)


def convert(rules: Sequence[Rule], given: Mapping[str, Any], want: str, t: Tensor, x: State) -> Any:
    """The quantity ``want`` from the given ones, at times ``(batch,)`` and states ``x``.

    Raises:
        CapabilityError: the given quantities do not suffice.

    Example:
        >>> velocity = Rule("velocity", ("denoiser",), lambda t, x, d: (d - x) / (1 - t)[:, None])
        >>> base = Rule("x0", ("velocity",), lambda t, x, u: x - t[:, None] * u)
        >>> t, x, given = torch.tensor([0.5]), torch.zeros(1, 2), {"denoiser": torch.ones(1, 2)}
        >>> convert([velocity, base], given, "x0", t, x)  # denoiser → velocity → x0
        tensor([[-1., -1.]])
    """
    values = dict(given)
    for rule in plan(rules, list(given), want):
        values[rule.gives] = rule.formula(t, x, *(values[name] for name in rule.needs))
    return values[want]


def converted(rules: Sequence[Rule], source: str, field: Field, want: str) -> Field:
    """A field for ``want`` from a field that predicts ``source``; the chain is fixed once.

    Example:
        >>> rule = Rule("velocity", ("denoiser",), lambda t, x, d: (d - x) / (1 - t)[:, None])
        >>> velocity = converted([rule], "denoiser", lambda t, x: torch.ones_like(x), "velocity")
        >>> velocity(torch.tensor([0.5]), torch.zeros(1, 2))
        tensor([[2., 2.]])
    """
    steps = plan(rules, [source], want)

    def result(t: Tensor, x: State) -> Any:
        values = {source: field(t, x)}
        for rule in steps:
            values[rule.gives] = rule.formula(t, x, *(values[name] for name in rule.needs))
        return values[want]

    return result


def classifier_free(
    weight: float, null_label: int, leaf: str = "label"
) -> Callable[[Field], Field]:
    r"""Classifier-free guidance of a prediction, in one doubled batch.

    guided = (1 + w) · F(t, x, label) − w · F(t, x, null), before any conversion
    (Ho & Salimans 2022, arXiv 2207.12598, eq. 6). With w ≠ 0 the guided field has no prescribed
    marginals: it is a heuristic, and the composition plugin corrects it.

    Args:
        weight: w; 0 is the conditional model.
        null_label: the label that means "no label" to the network.
        leaf: the fact of the state that holds the label, shape ``(batch,)``.

    Returns:
        A map from a field to the guided field.

    Example:
        >>> field = lambda t, state: state["x"] + state["label"]
        >>> guided = classifier_free(weight=0.5, null_label=0)(field)
        >>> guided(torch.zeros(1), {"x": torch.tensor([10.0]), "label": torch.tensor([2])})
        tensor([13.])
    """

    def guide(field: Field) -> Field:
        def guided(t: Tensor, state: State) -> Any:
            if isinstance(state, Tensor) or leaf not in state:
                raise CapabilityError(
                    "classifier_free",
                    f"the state carries the condition as its fact {leaf!r}.",
                    got="a state without it",
                    fix="sample with a condition, or set guidance: null",
                )
            free = {**state, leaf: torch.full_like(state[leaf], null_label)}
            both = field(torch.cat([t, t]), concatenate([dict(state), free]))
            conditional, unconditional = both.chunk(2)
            return (1 + weight) * conditional - weight * unconditional

        return guided

    return guide
