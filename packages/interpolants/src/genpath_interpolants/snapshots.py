r"""Snapshots: one path through samples taken at several times.

    τ_0 = 0 < τ_1 < … < τ_K = 1      a sample of ρ_k at each τ_k; rows are not tracked in time

In the k-th interval, with its length h = τ_{k+1} − τ_k and its local time s = (t − τ_k)/h,

    x_t = (1−s) x^k + s x^{k+1} + γ z        γ² = a (t − τ_k)(τ_{k+1} − t)/h = a h s(1−s)
    velocity: E[(x^{k+1} − x^k)/h + γ̇ z | x_t]     interpolant_velocity: without z     s = −E[z]/γ

for a coupling (x^k, x^{k+1}) of neighbours. It is one path on [0, 1] with one network on it, whose
law at τ_k is ρ_k; so its flow, started from ρ_k, goes through all later snapshots. With γ = 0 it is
the piecewise linear interpolant; with a = 2ε and entropic couplings the pieces are Schrödinger
bridges of √(2ε) W. (Albergo, Boffi, Lindsey & Vanden-Eijnden 2023, arXiv 2310.03695; Tong et al.
2023, arXiv 2302.00482 and 2307.03672; Chen et al. 2023, arXiv 2303.01751.)

At a knot the velocity jumps: integrate from knot to knot (`MultiTimePath.breakpoints`, `push`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor

from genpath.couplings import Coupling, Independent, Pairs
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator, flow
from genpath.grids import TimeGrid
from genpath.laws import Empirical
from genpath.models import Dynamics, Model
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule
from genpath.samplers import Sampler, integrate
from genpath.spaces import Euclidean, Space
from genpath.states import per_row, row_times

from .bridges import StaticBridge
from .couplings import OptimalTransport
from .relations import joint_rules

__all__ = ["MultiTimePath", "SnapshotCoupling", "Snapshots", "push", "snapshot_coupling"]

Pairing = Literal["independent", "optimal_transport", "entropic"]


@dataclass(frozen=True)
class Snapshots:
    """Samples at increasing times.

    Args:
        states: one tensor ``(rows, *event)`` per time; rows may differ in number.
        times: when they were taken, in any unit, increasing.

    Raises:
        ShapeError: the samples are not of one space, or one is empty.
        DomainError: fewer than two, or times that do not increase.

    Example:
        >>> rows, labels = torch.arange(6.0)[:, None], torch.tensor([0, 0, 1, 1, 4, 4])
        >>> snapshots = Snapshots.of(rows, labels)
        >>> snapshots.times, snapshots.knots(), snapshots.without(1).times
        ((0.0, 1.0, 4.0), (0.0, 0.25, 1.0), (0.0, 4.0))
    """

    states: tuple[Tensor, ...]
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        shapes = [tuple(x.shape) for x in self.states]
        if len({s[1:] for s in shapes}) > 1 or any(not s or not s[0] for s in shapes):
            got = ", ".join(map(str, shapes))
            raise ShapeError("Snapshots", "every time has rows of one space.", got=got)
        rising = all(a < b for a, b in itertools.pairwise(self.times))
        if len(self.times) < 2 or len(self.times) != len(self.states) or not rising:
            raise DomainError(
                "Snapshots",
                "there is a sample for each of two or more increasing times.",
                got=f"{len(self.states)} samples, times {self.times}",
            )

    @staticmethod
    def of(rows: Tensor, labels: Tensor) -> Snapshots:
        """From rows ``(n, *event)`` and the time of each ``(n,)``."""
        times = labels.unique()
        return Snapshots(tuple(rows[labels == t] for t in times), tuple(float(t) for t in times))

    def without(self, index: int) -> Snapshots:
        """All but one of them."""
        keep = [k for k in range(len(self.times)) if k != index % len(self.times)]
        return Snapshots(tuple(self.states[k] for k in keep), tuple(self.times[k] for k in keep))

    def knots(self, clock: Literal["time", "index"] = "time") -> tuple[float, ...]:
        """τ_k on [0, 1]: in proportion to time, or equally spaced.

        Times t drawn uniformly fall into an interval with probability h; "index" hence gives every
        interval the same share of the training, and a velocity per interval, not per unit of time.
        """
        if clock == "index":
            return tuple(k / (len(self.times) - 1) for k in range(len(self.times)))
        return tuple(self.clock(t) for t in self.times)

    def clock(self, time: float) -> float:
        """The t in [0, 1] of a time: 0 at the first snapshot, 1 at the last."""
        return (time - self.times[0]) / (self.times[-1] - self.times[0])

    @property
    def base(self) -> Empirical:
        """The law of the first snapshot."""
        return Empirical(self.states[0])

    @property
    def space(self) -> Euclidean:
        """Where the rows live."""
        return Euclidean(*self.states[0].shape[1:])


@dataclass(frozen=True)
class SnapshotCoupling:
    """One coupling per interval, drawn together: x0 and x1 are ``(batch, K, *event)``.

    Args:
        couplings: of x^k and x^{k+1}, for k = 0 … K − 1.

    Example:
        >>> ends = [Empirical(torch.full((1, 1), float(k))) for k in range(3)]
        >>> coupling = SnapshotCoupling((Independent(*ends[:2]), Independent(*ends[1:])))
        >>> coupling.pairs(1, torch.Generator()).x1
        tensor([[[1.],
                 [2.]]])
    """

    couplings: tuple[Coupling, ...]

    def pairs(self, count: int, rng: torch.Generator) -> Pairs:
        found = [coupling.pairs(count, rng) for coupling in self.couplings]
        left, right = ([cast(Tensor, getattr(p, s)) for p in found] for s in ("x0", "x1"))
        return Pairs(torch.stack(left, 1), torch.stack(right, 1))


def snapshot_coupling(
    snapshots: Snapshots,
    pairing: Pairing = "independent",
    *,
    eps: float | None = None,
    rows: int = 128,
    **options: Any,
) -> SnapshotCoupling:
    """The same kind of coupling in every interval.

    Args:
        snapshots: the samples.
        pairing: "independent"; "optimal_transport" of batches of ``rows``; or "entropic": the plan
            of whole snapshots, computed once, for √(2ε) W in the time of `Snapshots.knots`.
        eps: ε of the entropic plan; over an interval of length h the regularisation is 2εh.
        options: further ones of `StaticBridge`.

    Raises:
        DomainError: an unknown pairing, or an entropic one without ε.

    Example:
        >>> two = Snapshots((torch.zeros(4, 1), torch.ones(4, 1)), (0.0, 1.0))
        >>> snapshot_coupling(two, "entropic", eps=0.5).pairs(2, torch.Generator()).x0.shape
        torch.Size([2, 1, 1])
    """
    if pairing not in ("independent", "optimal_transport", "entropic") or (
        pairing == "entropic" and eps is None
    ):
        raise DomainError(
            "snapshot_coupling",
            "pairing is independent, optimal_transport, or entropic with ε.",
            got=f"pairing {pairing!r}, eps {eps}",
        )
    knots, found = snapshots.knots(), list[Coupling]()
    for k, (x0, x1) in enumerate(zip(snapshots.states[:-1], snapshots.states[1:], strict=True)):
        if pairing == "entropic":
            width = knots[k + 1] - knots[k]
            found.append(StaticBridge(x0, x1, cast(float, eps) * width, **options))
        elif pairing == "optimal_transport":
            found.append(OptimalTransport(Empirical(x0), Empirical(x1), rows))
        else:
            found.append(Independent(Empirical(x0), Empirical(x1)))
    return SnapshotCoupling(tuple(found))


@dataclass(frozen=True)
class MultiTimePath:
    """The piecewise linear path through K + 1 snapshots, on [0, 1].

    Its endpoints are ``(batch, K, *event)``: the left and right ends of every interval
    (`SnapshotCoupling`); a draw uses those of the interval of its time.

    Args:
        state_space: a `Euclidean` space.
        knots: 0 = τ_0 < … < τ_K = 1.
        gamma_scale: a ≥ 0, the variance of the bridges' Brownian motion per unit of t; a = 2ε for
            √(2ε) W, 0 for no latent.
        edge: 1/γ, and γ̇ in the velocity's target, use s clipped to [edge, 1 − edge].

    Raises:
        CapabilityError: the space is not Euclidean.
        DomainError: knots that do not rise from 0 to 1, a < 0, or edge not in (0, ½).

    Example:
        >>> path, ends = MultiTimePath(Euclidean(1), (0.0, 0.25, 1.0)), torch.arange(3.0)
        >>> x0, x1 = ends[None, :2, None], ends[None, 1:, None]
        >>> path.draw(torch.tensor([0.625]), x0, x1, torch.Generator()).state
        tensor([[1.5000]])
    """

    state_space: Space
    knots: tuple[float, ...]
    gamma_scale: float = 0.0
    edge: float = 1e-3

    def __post_init__(self) -> None:
        knots = self.knots
        if not isinstance(self.state_space, Euclidean):
            raise CapabilityError("MultiTimePath", "it lives on R^d.", got=repr(self.state_space))
        rising = all(a < b for a, b in itertools.pairwise(knots))
        if len(knots) < 2 or not rising or knots[0] != 0 or knots[-1] != 1:
            raise DomainError("MultiTimePath", "knots rise from 0 to 1.", got=str(knots))
        if not self.gamma_scale >= 0 or not 0 < self.edge < 0.5:
            raise DomainError(
                "MultiTimePath",
                "gamma_scale ≥ 0 and 0 < edge < ½.",
                got=f"gamma_scale {self.gamma_scale:g}, edge {self.edge:g}",
            )

    @property
    def space(self) -> Space:
        """Where x_t lives."""
        return self.state_space

    @property
    def latent(self) -> bool:
        """Whether there is a noise z between the knots."""
        return self.gamma_scale > 0

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """The inner knots, where the velocity jumps."""
        return self.knots[1:-1]

    @property
    def predictions(self) -> Mapping[str, Prediction]:
        """velocity; with a latent also interpolant_velocity, noise, score and joint ones."""
        shape = cast(tuple[int, ...], self.state_space.event_shape)
        found = [Prediction("velocity", shape, True, "E[ẋ_t | x_t]")]
        if self.latent:
            found += [
                Prediction("interpolant_velocity", shape, True, "E[(x^{k+1} − x^k)/h | x_t]"),
                Prediction("noise", shape, False, "E[z | x_t]"),
                Prediction("score", shape, True, "∇log p_t(x_t)"),
            ]
            for pair in self._joint:
                found.append(Prediction(pair, (2, *shape), False, "both"))
        return {prediction.name: prediction for prediction in found}

    @property
    def _joint(self) -> tuple[str, ...]:
        first = ("velocity", "interpolant_velocity")
        return tuple(f"{a}+{b}" for a in first for b in ("noise", "score"))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """s = −N/γ and u = v + γ̇ N, inside [edge, 1 − edge] of each interval."""
        if not self.latent:
            return ()

        def score(t: Tensor, x: Tensor, noise: Tensor) -> Tensor:
            return -_times(1 / self._gamma(t)[0], noise)

        def noise(t: Tensor, x: Tensor, score: Tensor) -> Tensor:
            return -_times(self._gamma(t)[0], score)

        def velocity(t: Tensor, x: Tensor, mean: Tensor, noise: Tensor) -> Tensor:
            return mean + _times(self._gamma(t)[1], noise)

        def mean(t: Tensor, x: Tensor, velocity: Tensor, noise: Tensor) -> Tensor:
            return velocity - _times(self._gamma(t)[1], noise)

        return (
            Rule("score", ("noise",), score),
            Rule("noise", ("score",), noise),
            Rule("velocity", ("interpolant_velocity", "noise"), velocity),
            Rule("interpolant_velocity", ("velocity", "noise"), mean),
            *joint_rules(self._joint),
        )

    def draw(self, t: Tensor | float, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        """x_t at times ``(batch,)`` for ends ``(batch, K, *event)``; the draw keeps the ends used.

        Raises:
            ShapeError: the ends are not those of K intervals.
        """
        shape = (len(self.knots) - 1, *cast(tuple[int, ...], self.state_space.event_shape))
        if tuple(x0.shape[1:]) != shape or x0.shape != x1.shape:
            raise ShapeError(
                "MultiTimePath.draw",
                f"ends are (batch, {', '.join(map(str, shape))}).",
                got=f"x0 {tuple(x0.shape)}, x1 {tuple(x1.shape)}",
                fix="pair the snapshots with SnapshotCoupling",
            )
        times = row_times(t, x0, "MultiTimePath.draw")
        index, local, width = self._local(times)
        row = torch.arange(len(times), device=times.device)
        left, right, z = x0[row, index], x1[row, index], None
        state = _times(1 - local, left) + _times(local, right)
        if self.latent:
            z = torch.randn(state.shape, generator=rng, device=state.device, dtype=state.dtype)
            gamma = (self.gamma_scale * width * local * (1 - local)).sqrt()
            state = state + _times(gamma, z)
        return Draw(times, state, left, right, z)

    def target(self, name: str, draw: Draw) -> Tensor:
        """What prediction ``name`` is regressed on.

        Raises:
            CapabilityError: the path has no such prediction.
        """
        if name not in self.predictions:
            raise CapabilityError(
                "MultiTimePath.target",
                f"there is no prediction {name!r} for gamma_scale {self.gamma_scale:g}.",
                fix="choose one of " + ", ".join(self.predictions),
            )
        if "+" in name:
            return torch.stack([self.target(part, draw) for part in name.split("+")], 1)
        width = self._local(draw.t)[2]
        straight = _times(1 / width, draw.x1 - draw.x0)
        if not self.latent or name == "interpolant_velocity":
            return straight
        if name == "noise":
            return cast(Tensor, draw.latent)
        gamma, rate = self._gamma(draw.t)
        if name == "score":
            return -_times(1 / gamma, draw.latent)
        return straight + _times(rate, draw.latent)

    def conditional_generator(self, x0: Tensor, x1: Tensor) -> MarkovGenerator:
        """The flow (x^{k+1} − x^k)/h + (γ̇/γ)(x − I_t) in each interval."""

        def velocity(t: Tensor, x: Any) -> Tensor:
            index, local, width = self._local(t)
            row = torch.arange(len(t), device=t.device)
            left, right = x0[row, index], x1[row, index]
            straight = _times(1 / width, right - left)
            if not self.latent:
                return straight
            gamma, rate = self._gamma(t)
            mean = _times(1 - local, left) + _times(local, right)
            return straight + _times(rate / gamma, x - mean)

        return flow(self.state_space, velocity)

    def _local(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The interval of each time, the local time in it, and its length; a knot begins one."""
        knots = torch.tensor(self.knots, device=t.device, dtype=torch.float64)
        index = torch.bucketize(t.detach().double(), knots[1:-1], right=True)
        start, width = knots[index].to(t), (knots[1:] - knots[:-1])[index].to(t)
        return index, ((t - start) / width).clamp(0, 1), width

    def _gamma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """γ and γ̇, inside [edge, 1 − edge]."""
        _, local, width = self._local(t)
        s = local.clamp(self.edge, 1 - self.edge)
        gamma = (self.gamma_scale * width * s * (1 - s)).sqrt()
        return gamma, 0.5 * self.gamma_scale * (1 - 2 * s) / gamma


@torch.no_grad()
def push(
    model: Model,
    dynamics: Dynamics,
    sampler: Sampler,
    rows: Tensor,
    start: float,
    end: float,
    rng: torch.Generator,
    *,
    steps: int = 50,
) -> Tensor:
    """Rows at t = start carried to t = end > start by a model of a `MultiTimePath`.

    It goes from knot to knot, in equal steps of at most 1/``steps``; up to a knot the fields are
    those of the interval that ends there.

    Args:
        model: trained on the path.
        dynamics: ODE or SDE.
        sampler: e.g. `genpath.Euler`.
        rows: ``(batch, *event)``.
        start, end: in the path's time.

    Raises:
        DomainError: not 0 ≤ start < end ≤ 1.

    Example:
        >>> from genpath import ODE, Euler
        >>> path, base = MultiTimePath(Euclidean(1), (0.0, 0.5, 1.0)), Empirical(torch.zeros(1, 1))
        >>> model = Model(lambda t, x: 2 + 0 * x, path, base)
        >>> push(model, ODE(), Euler(), torch.zeros(1, 1), 0.25, 0.75, torch.Generator())
        tensor([[1.0000]])
    """
    if not 0 <= start < end <= 1:
        raise DomainError("push", "0 ≤ start < end ≤ 1.", got=f"start {start:g}, end {end:g}")
    inner = [k for k in getattr(model.path, "breakpoints", ()) if start < k < end]
    gen = model.generator(dynamics)
    for a, b in itertools.pairwise([start, *inner, end]):
        grid = TimeGrid.uniform(max(math.ceil((b - a) * steps - 1e-9), 1), a, b)
        rows = cast(Tensor, integrate(sampler, _before(gen, b), rows, grid, rng).state)
    return rows


def _before(gen: MarkovGenerator, end: float) -> MarkovGenerator:
    """The generator with its time kept below ``end``."""

    def evaluate(t: Tensor, x: Any) -> Any:
        last = torch.nextafter(t.new_tensor(end), t.new_tensor(0.0))
        return gen.evaluate(torch.minimum(t, last), x)

    return replace(gen, evaluate=evaluate)


def _times(factor: Tensor, x: Any) -> Tensor:
    return cast(Tensor, per_row(factor, x) * x)
