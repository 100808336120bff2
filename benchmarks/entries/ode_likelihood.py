"""ODE likelihood by an adaptive solve: evaluations of the velocity, and time, at equal tolerances.

log p of 256 rows under the exact velocity of a mixture's path, with the exact divergence, by
Dormand–Prince 5(4). Ours is `SolvedFlow` with `Adaptive`, one solve from t = 1 to 0 of the point
with its log-density. Beside it zuko's `FreeFormJacobianTransform`, which its continuous flow (CNF)
is made of, with the same velocity, relative and absolute tolerance; and torchdiffeq, which ours
wraps, called by hand. All errors, against the mixture's own log-density, are checked to be below a
hundred tolerances.

zuko controls the largest error over all numbers, and scales the divergence by 1/100 before
("relax jacobian tolerances"), so that the log-density may err 100 times as much. Ours is given the
same norm. With its own ``norm="max"``, which holds the log-density to the tolerance like the point,
it takes about a tenth fewer evaluations than zuko in most of these cases, and more in one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from genpath import Gaussian, SolvedFlow
from genpath.generators import flow
from genpath.spaces import Euclidean
from genpath_interpolants.adaptive import Adaptive, Calls
from genpath_interpolants.mixtures import GaussianMixture, MixtureMarginal
from genpath_interpolants.presets import linear

from ..runner import Call, Case, Disagreement, Entry, installed

__all__ = ["ENTRY"]


def case(size: int, gamma: str, tolerance: float, rows: int) -> Case:
    law = GaussianMixture(
        torch.full((8,), 0.125, dtype=torch.float64),
        1.5 * torch.randn(8, size, dtype=torch.float64),
        torch.full((8,), 0.5, dtype=torch.float64),
    )
    marginal = MixtureMarginal(linear(Euclidean(size), gamma), law)
    x, rng = law.sample(rows, torch.Generator().manual_seed(0)), torch.Generator()
    base, calls = Gaussian((size,), dtype=torch.float64), Calls()
    sampler = Adaptive(rtol=tolerance, atol=tolerance / 10, norm=_as_zuko, calls=calls)
    gen = flow(Euclidean(size), lambda t, y: marginal.velocity(t, y))
    solve = SolvedFlow(gen, sampler, steps=1)

    def ours() -> Tensor:
        start, log_det = solve(1.0, 0.0, x, rng)
        return base.log_prob(start) + log_det

    counted = [0]

    def velocity(t: Tensor, y: Tensor) -> Tensor:
        counted[0] += 1
        return marginal.velocity(t.expand(len(y)), y)

    peers: dict[str, Call] = {}
    if installed("torchdiffeq"):
        peers["torchdiffeq"] = _bare(velocity, x, base, tolerance)
    if installed("zuko"):
        from zuko.transforms import FreeFormJacobianTransform

        back = FreeFormJacobianTransform(velocity, 1.0, 0.0, (), tolerance / 10, tolerance)

        def peer() -> Tensor:
            with torch.no_grad():
                start, log_det = back.call_and_ladj(x)
            return base.log_prob(start) + log_det

        peers["zuko"] = peer

    label = f"d = {size}, γ {gamma}, rtol {tolerance:g}"

    def evaluations() -> int:
        before = calls.evaluations
        ours()
        return calls.evaluations - before

    def counts_of(call: Call) -> Callable[[], int]:
        def count() -> int:
            before = counted[0]
            call()
            return counted[0] - before

        return count

    def check() -> None:
        true = law.log_prob(x)
        for name, call in {"genpath": ours, **peers}.items():
            error = float((call() - true).abs().max())  # type: ignore[operator]
            if not error <= 100 * tolerance * size:
                raise Disagreement(f"{label}: log p of {name} is off by {error:.2g}")

    counts = {"genpath": evaluations} | {name: counts_of(call) for name, call in peers.items()}
    return Case(label, ours, peers, check, counts={"evaluations": counts})


def _bare(velocity: Callable[..., Tensor], x: Tensor, base: Gaussian, tolerance: float) -> Call:
    """torchdiffeq's solver on point and log-density, the divergence by one backward pass."""
    from torchdiffeq import odeint

    unit = torch.eye(x.shape[1], dtype=x.dtype)[:, None].expand(-1, *x.shape)

    def slope(t: Tensor, leaves: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            y = leaves[0].detach().requires_grad_()
            value = velocity(t, y)
            (rows,) = torch.autograd.grad(value, y, unit, is_grads_batched=True)
        return value.detach(), -torch.einsum("kbk->b", rows)

    def call() -> Tensor:
        start = (x, x.new_zeros(len(x)))
        options = {"norm": _as_zuko}
        times = torch.tensor([1.0, 0.0], dtype=x.dtype)
        point, log_density = odeint(
            slope, start, times, rtol=tolerance, atol=tolerance / 10, method="dopri5",
            options=options,
        )  # fmt: skip
        return base.log_prob(point[-1]) - log_density[-1]

    return call


def _as_zuko(leaves: Sequence[Tensor]) -> Tensor:
    """The largest scaled error, with that of the log-density (the second leaf) over 100."""
    point, log_density = leaves
    return torch.maximum(point.abs().max(), log_density.abs().max() / 100)


def cases(tiny: bool) -> Iterator[Case]:
    torch.manual_seed(0)
    for size in (2,) if tiny else (2, 8):
        for gamma in ("none", "sqrt"):
            for tolerance in (1e-3,) if tiny else (1e-3, 1e-5):
                yield case(size, gamma, tolerance, 4 if tiny else 256)


ENTRY = Entry(
    cases,
    needs=("torchdiffeq", "zuko"),
    notes=(
        "Absolute tolerance a tenth of the relative one, as in zuko's defaults; float64.",
        "Ours differentiates forward, zuko backward, along all directions at once.",
    ),
)
