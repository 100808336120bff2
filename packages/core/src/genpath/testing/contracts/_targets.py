r"""The regression targets of a path against exact fields, its rules and its generator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from genpath.jumps import ScaledJumps
from genpath.models import Jump
from genpath.paths import Draw, ProbabilityPath
from genpath.states import flat_event, map_state

from ..claims import Claim, Trial, but, dial
from ..evidence import Evidence, equal, mean, near
from ._plan import Make, Plan, leaves, uniform
from .probes import values


@dataclass(frozen=True)
class Batch:
    """Draws at random times, and test functions of (t, x_t) times a residual."""

    path: ProbabilityPath
    draw: Draw
    t: Tensor
    weights: Tensor = field(repr=False)

    def residual(self, what: str, found: Any, expected: Any) -> Evidence:
        gaps = [flat_event(a - b) for a, b in zip(leaves(found), leaves(expected), strict=True)]
        gap = torch.cat(gaps, 1).double()
        products = (self.weights[:, :, None] * gap[:, None, :]).flatten(1)
        size = float(torch.cat([flat_event(a) for a in leaves(expected)], 1).abs().max())
        rounding = 1e-12 * max(size, 1.0)
        return mean(what, products, 0.0, allowance=rounding, because="rounding")


def targets(make: Make, plan: Plan, sample: ProbabilityPath) -> Claim[ProbabilityPath]:
    """The claim ``targets``: what is regressed on has the field as conditional expectation."""

    def check(path: ProbabilityPath, trial: Trial) -> Iterator[Evidence]:
        batch = _batch(path, plan, trial)
        draw, t = batch.draw, batch.t
        for name, exact_field in plan.fields.items():
            target, value = _comparable(path, name, path.target(name, draw))
            at = exact_field(t, draw.state)
            value = at.double().softmax(-1) if value else at
            yield batch.residual(f"E[φ (target − E[target | x_t])] of the {name}", target, value)
        for rule in plan.affine_rules(path):
            given = [path.target(n, draw) for n in rule.needs]
            converted = rule.formula(t, draw.state, *given)
            what = f"E[φ (target − rule)] of the {rule.gives} from {', '.join(rule.needs)}"
            yield batch.residual(what, path.target(rule.gives, draw), converted)
        if plan.velocities(path):
            gen = path.conditional_generator(draw.x0, draw.x1)
            what = "E[φ (target − u(x_t | x0, x1))] of the velocity"
            target, u = path.target("velocity", draw), gen(t, draw.state).velocity
            yield batch.residual(what, target, map_state(_as, u, target))
        if plan.letters(path):
            yield from _known_letters(path, plan, trial, batch)
        yield from _joined(path, trial, batch)

    def shifted(path: ProbabilityPath, size: float) -> ProbabilityPath:
        def target(name: str, draw: Draw) -> Any:
            def leaf(value: Tensor) -> Tensor:
                rows = torch.arange(len(value)) % 128 < 128 * size
                wrong = rows.reshape(-1, *[1] * (value.dim() - 1))
                return torch.where(wrong, value.roll(1, 0), value)

            return map_state(leaf, path.target(name, draw))

        return but(path, target=target)

    def scaled(path: ProbabilityPath, size: float) -> ProbabilityPath:
        def target(name: str, draw: Draw) -> Any:
            return map_state(lambda v: (1 + size) * v, path.target(name, draw))

        return but(path, target=target)

    controls = []
    if not plan.letters(sample) and (plan.fields or plan.velocities(sample)):
        controls.append(dial("targets × (1 + δ)", scaled))
    if plan.fields or plan.velocities(sample):
        controls.append(dial("a share δ of the targets is that of the row before", shifted))
    if plan.letters(sample):
        controls.append(dial("jumps × (1 + δ)", _faster))
    if not controls:
        controls.append(dial("targets × (1 + δ)", scaled))
    return Claim(
        "targets",
        "Each target has the stated conditional expectation, so that a regression on it finds the "
        "field that the prediction is named after.",
        make,
        check,
        tuple(controls),
        formula=r"\mathbb{E}\big[\varphi(x_t)\,(\text{target} - F(t, x_t))\big] = 0",
        owes="minimiser",
    )


def _batch(path: ProbabilityPath, plan: Plan, trial: Trial) -> Batch:
    functions, rng = plan.probes(path, trial), trial.rng("targets")
    count = trial.count(2 * plan.rows, plan.rows)
    ends, t = plan.pairs(count, rng), uniform(plan.times, count, rng)
    draw = path.draw(t, ends.x0, ends.x1, rng)
    values_of = values(functions, draw.state)
    weights = torch.cat([torch.ones_like(values_of[:, :1]), values_of], 1).double()
    middle = (t - (plan.times[0] + plan.times[-1]) / 2)[:, None]
    return Batch(path, draw, t, torch.cat([weights, middle * weights], 1))


def _comparable(path: ProbabilityPath, name: str, target: Any) -> tuple[Any, bool]:
    """The target as numbers, and whether it was letters, whose field is their logits."""
    if isinstance(target, Tensor) and not target.is_floating_point():
        letters = int(path.predictions[name].output_shape[-1])
        return functional.one_hot(target, letters).double(), True
    return target, False


def _as(leaf: Tensor, like: Tensor) -> Tensor:
    return leaf.expand_as(like)


def _known_letters(
    path: ProbabilityPath, plan: Plan, trial: Trial, batch: Batch
) -> Iterator[Evidence]:
    """Where x1 is known, the marginal jumps are those of the conditional generator."""
    draw, t = batch.draw, batch.t
    letters = int(path.predictions["logits"].output_shape[-1])
    known = functional.one_hot(path.target("logits", draw), letters).double().log()
    marginal = Jump().generator(path, "logits", lambda t, x: known)
    conditional = path.conditional_generator(draw.x0, draw.x1)
    for k, f in enumerate(plan.probes(path, trial)):
        yield equal(
            f"L f with x1 known against the conditional generator's, f number {k}",
            marginal.apply(f, t, draw.state),
            conditional.apply(f, t, draw.state),
            operations=1e4,
        )


def _faster(path: ProbabilityPath, size: float) -> ProbabilityPath:
    original: Any = path

    def jumps(t: Tensor, state: Any, logits: Any) -> Any:
        return ScaledJumps(original.jumps(t, state, logits), 1 + size)

    return but(path, jumps=jumps)


def _joined(path: Any, trial: Trial, batch: Batch) -> Iterator[Evidence]:
    """``draw_with_target`` is ``draw`` and then ``target``, where the path has it."""
    if not hasattr(path, "draw_with_target"):
        return
    draw = batch.draw
    for name in path.predictions:
        apart = path.draw(draw.t, draw.x0, draw.x1, torch.Generator().manual_seed(5))
        rng = torch.Generator().manual_seed(5)
        together, target = path.draw_with_target(name, draw.t, draw.x0, draw.x1, rng)
        pairs = zip(
            (*leaves(together.state), *leaves(target)),
            (*leaves(apart.state), *leaves(path.target(name, apart))),
            strict=True,
        )
        for a, b in pairs:
            yield near(
                f"draw_with_target of the {name}", a, b, 1e-12 * max(float(b.abs().max()), 1.0),
                "rounding",
            )  # fmt: skip
