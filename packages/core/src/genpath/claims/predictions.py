r"""Claims of the conversions between predictions, and of classifier-free guidance.

The path is x_t = (1−t) x0 + t x1 on the line, x0 ~ N(0, 1), x1 one of three atoms y_i. Given
x_t = x the atom has weight w_i ∝ π_i N(x; t y_i, (1−t)²), and then x0 = (x − t y_i)/(1−t): every
conditional expectation is a sum of three terms, and the score is the gradient of the log-density.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError
from genpath.predictions import Rule, classifier_free, convert, plan
from genpath.states import batch_size
from genpath.testing import Claim, Control, Evidence, Trial, contracts, dial, equal, exact, refusal

__all__ = ["predictions"]

DOUBLE = torch.float64
ATOMS = torch.tensor([-1.5, 0.4, 2.0], dtype=DOUBLE)
CHANCES = torch.tensor([0.3, 0.5, 0.2], dtype=DOUBLE)

RULES = (
    Rule("denoiser", ("velocity",), lambda t, x, u: x + (1 - t) * u),
    Rule("velocity", ("denoiser",), lambda t, x, d: (d - x) / (1 - t)),
    Rule("base_denoiser", ("velocity",), lambda t, x, u: x - t * u),
    Rule("velocity", ("base_denoiser",), lambda t, x, b: (x - b) / t),
    Rule("score", ("base_denoiser",), lambda t, x, b: -b / (1 - t)),
    Rule("base_denoiser", ("score",), lambda t, x, s: -(1 - t) * s),
    Rule("energy", ("velocity", "score"), lambda t, x, u, s: 0.5 * u * u + s),
)


@dataclass(frozen=True)
class _Path:
    """What conversions need of a path: its rules."""

    rules: tuple[Rule, ...] = RULES


def _log_terms(t: Tensor, x: Tensor) -> Tensor:
    t, x = t[:, None], x[:, None]
    normal = -0.5 * ((x - t * ATOMS) / (1 - t)) ** 2 - torch.log(1 - t)
    return CHANCES.log() + normal - 0.5 * math.log(2 * math.pi)


def _mean(values: Any) -> Any:
    def field(t: Tensor, x: Tensor) -> Tensor:
        weights = _log_terms(t, x).softmax(1)
        start = (x[:, None] - t[:, None] * ATOMS) / (1 - t[:, None])
        found: Tensor = (weights * values(start)).sum(1)
        return found

    return field


def _score(t: Tensor, x: Tensor) -> Tensor:
    found: Tensor = torch.func.grad(lambda y: _log_terms(t, y).logsumexp(1).sum())(x)
    return found


FIELDS = {
    "denoiser": _mean(lambda start: ATOMS),
    "base_denoiser": _mean(lambda start: start),
    "velocity": _mean(lambda start: ATOMS - start),
    "score": _score,
}
FIELDS["energy"] = lambda t, x: 0.5 * FIELDS["velocity"](t, x) ** 2 + _score(t, x)


def _points(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    t = 0.1 + 0.8 * torch.rand(count, generator=rng, dtype=DOUBLE)
    return t, torch.randn(count, generator=rng, dtype=DOUBLE)


def predictions() -> tuple[Claim[Any], ...]:
    """Claims of `convert`, `plan` and `classifier_free`."""
    rules = contracts.conversions(_Path, FIELDS, _points)
    return (*rules, _shortest(), _guidance())


def _shortest() -> Claim[Any]:
    line = tuple(Rule(f"q{i + 1}", (f"q{i}",), lambda t, x, q: q + 1) for i in range(5))
    across = (*line, Rule("q5", ("q1", "q0"), lambda t, x, a, b: a + b))

    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        yield exact("rules from q0 to q5", [r.gives for r in thing(line, ["q0"], "q5")],
                    ["q1", "q2", "q3", "q4", "q5"])  # fmt: skip
        short = thing(across, ["q0"], "q5")
        yield exact("by the short cut", [(r.gives, r.needs) for r in short],
                    [("q1", ("q0",)), ("q5", ("q1", "q0"))])  # fmt: skip
        yield exact("what is given needs no rule", len(thing(line, ["q0"], "q0")), 0)
        yield exact("what is not needed is not made", len(thing(across, ["q0"], "q2")), 2)
        yield refusal("against the rules", lambda: thing(line, ["q5"], "q0"), CapabilityError, "q0")
        t, x = torch.zeros(2, dtype=DOUBLE), torch.tensor([1.0, 2.0], dtype=DOUBLE)
        yield equal("q5 = q0 + 5", convert(line, {"q0": x}, "q5", t, x), x + 5)

    def greedy(thing: Any) -> Any:
        return lambda rules, given, want: thing(
            [r for r in rules if len(r.needs) == 1], given, want
        )

    def eager(thing: Any) -> Any:
        def every(rules: Any, given: Any, want: str) -> Any:
            found = thing(rules, given, want)
            extra = [r for r in rules if r.needs == ("q0",) and r not in found]
            return (*extra, *found) if found else tuple(rules[:1])

        return every

    return Claim(
        "shortest-plan",
        "A plan has the rules that lead to what is wanted, in an order that can be run, in the "
        "fewest rounds, and no other; where none leads there it is refused.",
        lambda: plan,
        check,
        (Control("short cuts are not seen", greedy), Control("rules too many", eager)),
    )


def _guidance() -> Claim[Any]:
    """Normal laws of the plane for each label; label 0 is the unconditional one."""
    means = torch.tensor([[0.0, 0.0], [1.0, -1.0], [2.0, 0.5]], dtype=DOUBLE)
    spreads = torch.tensor([2.0, 0.7, 1.2], dtype=DOUBLE)

    def log_p(x: Tensor, label: Tensor) -> Tensor:
        squares = ((x - means[label]) ** 2).sum(1)
        return -0.5 * squares / spreads[label] ** 2 - 2 * spreads[label].log()

    def score(t: Tensor, state: Any) -> Tensor:
        x, label = state["x"], state["label"]
        found: Tensor = (means[label] - x) / spreads[label, None] ** 2
        return found

    def check(guide: Any, trial: Trial) -> Iterator[Evidence]:
        calls: list[int] = []

        def field(t: Tensor, state: Any) -> Tensor:
            calls.append(batch_size(state))
            return score(t, state)

        x = torch.randn(32, 2, generator=trial.rng("x"), dtype=DOUBLE)
        label = torch.randint(1, 3, (32,), generator=trial.rng("label"))
        state, t = {"x": x, "label": label}, torch.rand(32, generator=trial.rng("t"), dtype=DOUBLE)
        for weight in (0.0, 0.7, 3.0):

            def tilted(x: Tensor, weight: float = weight) -> Tensor:
                free = log_p(x, torch.zeros_like(label))
                return ((1 + weight) * log_p(x, label) - weight * free).sum()

            found = guide(weight, 0)(field)(t, state)
            true = torch.func.grad(tilted)(x)
            yield equal(f"∇ log p_c^(1+w) p^(−w), w = {weight:g}", found, true, operations=512)
        yield exact("one call per step, with a doubled batch", calls, [64] * 3)

    def heavier(guide: Any, size: float) -> Any:
        return lambda weight, null: guide(weight + size, null)

    def exchanged(guide: Any) -> Any:
        return lambda weight, null: guide(-weight, null)

    return Claim(
        "guidance",
        "The guided score is the gradient of the log-density p_c^(1+w) p^(−w), from one call of "
        "the network on a doubled batch; w = 0 is the conditional model.",
        lambda: classifier_free,
        check,
        (dial("w + δ", heavier), Control("the weight's sign", exchanged)),
        formula=r"(1 + w)\,\nabla\log p_c - w\,\nabla\log p "
        r"= \nabla\log\left(p_c^{1+w} p^{-w}\right)",
    )
