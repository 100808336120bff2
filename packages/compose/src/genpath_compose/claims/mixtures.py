"""Claims of mixtures as experts, against closed forms and automatic differentiation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.divergences import exact_divergence
from genpath.spaces import Euclidean
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal

from ..mixtures import Mixture
from ._scenes import DOUBLE
from .superposition import WEIGHTS, experts_of, log_densities, points_of, rate_of

__all__ = ["mixtures"]


def mixtures() -> list[Claim[Any]]:
    """Of mixtures as experts."""

    def check(one: Mixture, trial: Trial) -> Iterator[Evidence]:
        t, x = points_of(2, trial)
        log_w = torch.tensor(WEIGHTS, dtype=DOUBLE).log()

        def log_p(t: Tensor, x: Tensor) -> Tensor:
            return (log_w + log_densities(t, x)).logsumexp(1)

        found = one.fields(one.has, t, x)
        score = torch.func.grad(lambda y: log_p(t, y).sum())(x)
        yield equal("log p", found["log_prob"], log_p(t, x), operations=512)
        yield equal("∇ log p", found["score"], score, operations=2048)
        space = Euclidean(2)
        flow: Any = lambda t, x: one.velocity(t, x)  # noqa: E731
        _, spread = exact_divergence(space, flow, t, x)
        motion = -spread - (found["velocity"] * score).sum(1)
        yield equal("∂_t log p", motion, rate_of(lambda s: log_p(s, x), t), operations=8192)
        yield equal("div v", found["velocity_divergence"], spread, operations=8192)
        pull: Any = lambda t, x: one.score(t, x)  # noqa: E731
        _, bend = exact_divergence(space, pull, t, x)
        yield equal("div s", found["score_divergence"], bend, operations=8192)

    def heavier(one: Mixture, size: float) -> Mixture:
        return Mixture(one.experts, [(1 + size) * WEIGHTS[0], *WEIGHTS[1:]])

    def blunt(one: Mixture) -> Mixture:
        def fields(names: Any, t: Tensor, x: Tensor, probe: Any = None) -> dict[str, Tensor]:
            found = one.fields(names, t, x, probe)
            if "velocity" in found:
                each = [e.velocity(t, x) for e in one.experts]
                pairs = zip(WEIGHTS, each, strict=True)
                found["velocity"] = torch.stack([w * v for w, v in pairs]).sum(0)
            return found

        return but(
            one, fields=fields, velocity=lambda t, x: fields(("velocity",), t, x)["velocity"]
        )

    return [
        Claim(
            "mixture",
            "A mixture is an expert: its score, velocity and divergences are those of Σ w_i q_i, "
            "for experts with three schedules.",
            lambda: Mixture(experts_of(2), WEIGHTS),
            check,
            (
                dial("w_1 × (1 + δ)", heavier, 0.5),
                Control("velocities averaged by w instead of π", blunt),
            ),
            formula=r"s=\sum_i\pi_is_i,\quad v=\sum_i\pi_iv_i,\quad \pi_i\propto w_iq_i",
        )
    ]
