"""One step of a composition: three experts, each an MLP of 4 × 256, and 10⁴ particles.

Ours is the whole step: exponents, weights, noise, tracked log-densities and the look at the
effective sample size. Beside it only what no implementation can leave out: the calls of the three
networks, with a forward derivative along a probe where a log-density is tracked. A ratio of 1.25
says that all the rest costs a quarter of that.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from genpath import Euclidean, Euler, Gaussian, Model
from genpath.networks import MLP
from genpath.schedules import Scalar
from genpath.states import row_times
from genpath_compose.dynamics import Composed
from genpath_compose.exponents import Exponent
from genpath_compose.model_experts import ModelExpert
from genpath_compose.smc import Resample
from genpath_interpolants import LinearPath
from genpath_interpolants.schedules import (
    linear_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

from ..runner import Case, Disagreement, Entry

__all__ = ["ENTRY"]

T, STEP = 0.5, 0.001


def case(count: int, width: int, track: bool) -> Case:
    torch.manual_seed(0)
    schedules = (linear_schedule(), trigonometric_schedule(), variance_preserving_schedule())
    experts = []
    for schedule in schedules:
        path = LinearPath(Euclidean(2), schedule, base="gaussian")
        network = MLP(2, (2,), width=width, depth=4).requires_grad_(False)
        experts.append(ModelExpert(Model(network, path, Gaussian((2,)), "denoiser")))
    first, second, third = experts
    swing = Exponent(1.0, Scalar(lambda t: t * (1 - t), lambda t: 1 - 2 * t))
    target = first ** (swing if track else 1.3) * second / third**0.5
    composed = Composed(target, sigma=1.0, divergence="hutchinson")
    gen, rng = composed.generator(), torch.Generator().manual_seed(0)
    x = torch.randn(count, 2, generator=rng)
    carry = Euler().init(gen, composed.state(x, 0.0, rng))
    decide = Resample(when="ess", threshold=1e-9)
    probe = torch.randn(count, 2, generator=rng)

    @torch.no_grad()
    def ours() -> object:
        return decide(Euler().step(gen, carry, T, T + STEP, rng), T + STEP, rng)

    @torch.no_grad()
    def networks() -> list[Tensor]:
        t = row_times(T, x)
        found = []
        for index, expert in enumerate(experts):
            network = expert.model.network
            if track and index == 0:
                found += torch.func.jvp(lambda y: network(t, y), (x,), (probe,))  # noqa: B023
            else:
                found.append(network(t, x))
        return found

    label = f"{'tracked' if track else 'constant'} exponents, {count} particles"

    def check() -> None:
        """The step evaluates the very networks: its score is that of their predictions."""
        t = row_times(T, x)
        values = networks()
        predicted = values[2] if track else values[1]
        score = second.model.path.convert("score", {"denoiser": predicted}, t, x)
        gap = (second.score(t, x) - score).abs().max()
        if not float(gap) < 1e-4:
            raise Disagreement(f"{label}: scores differ by {float(gap):g}")

    return Case(label, ours, {"networks alone": networks}, check)


def cases(tiny: bool) -> Iterator[Case]:
    for track in (False, True):
        yield case(16 if tiny else 10_000, 8 if tiny else 256, track)


ENTRY = Entry(
    cases,
    memory=True,
    notes=("One thread, float32. Divergences by one probe per particle.",),
)
