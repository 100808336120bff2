"""Claims about experts that are run on another schedule than the one that they were trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, exact
from genpath_interpolants.schedules import (
    linear_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

from ..alignment import Rescaled, aligned
from ..certificates import certify
from ..experts import FIELDS, Expert
from ..lifted import Reparameterised
from ..tails import affine_tail
from ._scenes import DOUBLE, normal_expert

__all__ = ["alignment"]

SCHEDULES = (linear_schedule(), trigonometric_schedule(), variance_preserving_schedule())
PAIRS = [(one, two) for one in SCHEDULES for two in SCHEDULES if one is not two]


def alignment() -> list[Claim[Any]]:
    """The fields of an aligned expert, and what alignment does to certificates."""
    return [_fields(), _certificates()]


def _fields() -> Claim[Any]:
    def make() -> list[tuple[Any, Expert]]:
        return [
            (aligned(normal_expert(0.7, 0.6, one, "a", 2), two, one),
             normal_expert(0.7, 0.6, two, "a", 2))
            for one, two in PAIRS
        ]  # fmt: skip

    def check(pairs: list[tuple[Any, Expert]], trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        t = 0.02 + 0.96 * torch.rand(40, generator=rng, dtype=DOUBLE)
        x = torch.randn(40, 2, generator=rng, dtype=DOUBLE)
        probe = torch.randn(40, 2, generator=rng, dtype=DOUBLE)
        for one, other in pairs:
            found, true = one.fields(FIELDS, t, x), other.fields(FIELDS, t, x)
            rough = one.fields(("velocity_divergence", "score_divergence"), t, x, probe)
            along = other.fields(("velocity_divergence", "score_divergence"), t, x, probe)
            for name in FIELDS:
                yield _near(name, found[name], true[name])
            for name, value in rough.items():
                yield _near(f"{name} by a probe", value, along[name])

    def planted(change: Any) -> Any:
        return lambda pairs, *size: [(change(one, *size), other) for one, other in pairs]

    def stale(one: Rescaled) -> Rescaled:
        """The scale does not move."""
        return Rescaled(one.expert, but(one.scale, rate=lambda t: 0 * t))

    def quick(one: Rescaled, size: float) -> Rescaled:
        inner = one.expert
        assert isinstance(inner, Reparameterised)
        clock = inner.clock
        late = but(clock, rate=lambda t: (1 + size) * clock.rate(t))
        return Rescaled(Reparameterised(inner.expert, late), one.scale)

    def unscaled(one: Rescaled) -> Any:
        """log q without − d log c."""
        fields = one.fields

        def changed(names: Any, t: Tensor, x: Tensor, probe: Any = None) -> dict[str, Tensor]:
            found = dict(fields(names, t, x, probe))
            if "log_prob" in found:
                found["log_prob"] = found["log_prob"] + 2 * one.scale(t).log()
            return found

        return but(one, fields=changed)

    return Claim(
        "aligned-experts",
        "An expert that is run by the matching clock and scaled is the expert of the other "
        "schedule: velocity, score, divergences and log-density, for each pair of three schedules.",
        make,
        check,
        [
            Control("the rate of the scale left out", planted(stale)),
            dial("rate of the clock × (1 + δ)", planted(quick)),
            Control("log q without −d log c", planted(unscaled)),
        ],
        formula=r"y_t=c(t)\,x_{\tau(t)},\quad v'=\tfrac{\dot c}{c}y+c\,\dot\tau\,v_\tau(y/c),"
        r"\quad s'=s_\tau(y/c)/c",
        entries=("L8.26", "L8.1"),
        owes="density",
    )


def _near(name: str, found: Tensor, true: Tensor) -> Evidence:
    scale = float(true.abs().max())
    return equal(name, found, true, operations=2e4, scale=scale, because="Newton's method for τ")


def _certificates() -> Claim[Any]:
    def check(align: bool, trial: Trial) -> Iterator[Evidence]:
        one, two, three = SCHEDULES[1], SCHEDULES[2], SCHEDULES[0]
        pairs = ((one, 1.0), (two, 1.0), (three, -1.5))
        experts = []
        for schedule, _ in pairs:
            plain = but(normal_expert(0.0, 1.0, schedule, "q"), tail=affine_tail(schedule))
            experts.append(aligned(plain, one, schedule) if align else plain)
        powers = [e**gamma for e, (_, gamma) in zip(experts, pairs, strict=True)]
        t = torch.linspace(0.0, 0.9, 50, dtype=DOUBLE)
        found = certify(powers[0] * powers[1] * powers[2], t.tolist())
        keep = torch.isin(found.times, t)
        level = 0.5 / one.alpha_squared(t)
        scale = float(level.max()) ** 2  # d(1/α²) = 2 dα/α³, and α itself is lost like ε/α
        yield equal("C", found.values[keep][:, 0], level, operations=512, scale=scale)
        yield exact("it exists", found.status == "exists")

    return Claim(
        "aligned-certificate",
        "On one schedule C(t) is the sum of the exponents over α²: a composition of compact data "
        "exists where the sum is positive.",
        lambda: True,
        check,
        [Control("the experts keep their schedules", lambda align: not align)],
        formula=r"C_k(t)=\frac1{\alpha(t)^2}\sum_{i:k\in I_i}\gamma_i",
        entries=("L8.26", "L8.9"),
        owes="existence",
    )
