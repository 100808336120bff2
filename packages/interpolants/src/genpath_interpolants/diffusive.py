r"""Diffusive interpolants: the latent noise is a Brownian bridge.

    x_t = I(t, x0, x1) + √(2a(t)) B_t,    B_t = W_t − t W_1,    E B_s B_t = s(1−t) I  (s ≤ t)
    dB = −B/(1−t) dt + dW

At one time √(2a) B_t = γ z with γ² = 2a t(1−t): the laws, and with them velocity b, score s and v,
are those of the *marginal twin* I + γ z. What is new is the drift of the process itself,

    u = E[∂_t I + (a'/(2a) − 1/(1−t)) √(2a t(1−t)) z | x]
      = v + (2at − a' t(1−t)) s = b + a s        dX = u(t, X) dt + √(2a(t)) dW

which has the path's laws: the forward process of the twin with ε = a. Unlike the ODE it can start
from one point (`genpath_interpolants.point_mass`).

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 3.1; Chen et al. 2024, arXiv
2403.13724.) The loss of that section is E[|û|² − 2 û·target], whose excess is E|û − u|²; with the ½
of this library both are half as large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator, Origin
from genpath.noises import ScalarNoise
from genpath.parts import Parts
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule, converted
from genpath.schedules import AffineSchedule, Scalar, scalar
from genpath.spaces import Space
from genpath.states import Field, per_row

from .endpoints import converted_value, paired_times
from .general import InterpolantPath, Interpolation
from .paths import LinearPath
from .relations import EDGE, TimedRule, joint_rules
from .schedules import linear_schedule

__all__ = ["Diffusive", "DiffusivePath", "bridge_generator", "brownian_bridge", "diffusive"]


def brownian_bridge(times: Tensor, like: Tensor, rng: torch.Generator) -> Tensor:
    """B at several times, one bridge per entry of ``like``: ``(times, *like.shape)``.

    Exact: B_t = W_t − t W_1, with W from its independent increments.

    Args:
        times: in [0, 1], ``(times,)``, in any order.
        like: gives the shape, dtype and device of one B_t.
        rng: all randomness.

    Raises:
        ShapeError: times are not ``(times,)``.
        DomainError: a time is outside [0, 1].

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> bridge = brownian_bridge(torch.tensor([0.0, 0.5, 1.0]), torch.zeros(3), rng)
        >>> bridge[0], bridge[2].abs() < 1e-6
        (tensor([0., 0., 0.]), tensor([True, True, True]))
    """
    if times.dim() != 1:
        got = str(tuple(times.shape))
        raise ShapeError("brownian_bridge", "times are one list (times,).", got=got)
    if times.numel() and not bool(((times >= 0) & (times <= 1)).all()):
        raise DomainError("brownian_bridge", "times lie in [0, 1].")
    times = times.to(like)
    order = times.argsort()
    stops = torch.cat([times.new_zeros(1), times[order], times.new_ones(1)])
    steps = stops.diff().clamp_min(0).sqrt()
    shape = (len(steps), *like.shape)
    noise = torch.randn(shape, generator=rng, device=like.device, dtype=like.dtype)
    walk = (per_row(steps, noise) * noise).cumsum(0)
    bridge = walk[:-1] - per_row(times[order], walk[:-1]) * walk[-1]
    found: Tensor = bridge[order.argsort()]
    return found


def bridge_generator(space: Space) -> MarkovGenerator:
    """dB = −B/(1−t) dt + dW: the bridge as a Markov process; from B_0 = 0.

    The drift is infinite at t = 1: a solve ends one step before, or with one there.

    Example:
        >>> from genpath import Euclidean
        >>> bridge_generator(Euclidean(1))(0.5, torch.ones(1, 1)).velocity
        tensor([[-2.]])
    """

    def evaluate(t: Tensor, x: Any) -> Parts:
        return Parts(velocity=-x / per_row(1 - t, x), diffusion=ScalarNoise(1.0))

    return MarkovGenerator(space, evaluate, frozenset({"velocity", "diffusion"}))


@dataclass(frozen=True, eq=False)
class DiffusivePath:
    """x_t = I + √(2a(t)) B_t, and the drift of its process.

    Args:
        state_space: a `Euclidean` space.
        interpolation: I, with I(0) = x0 and I(1) = x1: a callable (t, x0, x1), or a two-sided
            `AffineSchedule` with γ = 0, whose conversions of means are then at hand; linear if
            None.
        a: a number > 0, or a function of time or `Scalar` with a(0) > 0 and a ≥ 0.
        breakpoints: times at which I or a is not smooth; those of a schedule are added.

    ``diffusive_drift`` is u; its target holds −√(2at/(1−t)) z, finite in mean and of variance
    2at/(1−t), which no integral over [0, 1] tames: train it with ``t_max`` < 1, or predict
    another quantity and convert. Where the target is infinite it is taken at t = 1 − EDGE.

    Raises:
        CapabilityError: the space is not Euclidean.
        DomainError: a(0) = 0 or a < 0 somewhere, or I has other ends.

    Example:
        >>> from genpath import Euclidean
        >>> path = DiffusivePath(Euclidean(1), a=0.5)
        >>> given = {"velocity": torch.zeros(1, 1), "score": torch.ones(1, 1)}
        >>> path.convert("diffusive_drift", given, 0.5, torch.zeros(1, 1))  # b + a s
        tensor([[0.5000]])
    """

    state_space: Space
    interpolation: Interpolation | AffineSchedule | None = None
    a: Any = 1.0
    breakpoints: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        if not callable(self.a):
            object.__setattr__(self, "a", _constant(float(self.a)))
        object.__setattr__(self, "a", scalar(self.a))
        _check_level(self.a)
        inner = getattr(self.marginal, "breakpoints", ())
        object.__setattr__(self, "breakpoints", tuple(sorted({*self.breakpoints, *inner})))

    # -- what it is --------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """Where x_t lives."""
        return self.state_space

    @property
    def latent(self) -> bool:
        """It has a latent noise."""
        return True

    @cached_property
    def marginal(self) -> LinearPath | InterpolantPath:
        """The path I + γ z, γ² = 2a t(1−t), with the same law at each single time."""
        square = _twin(self.a)
        if self.interpolation is None or isinstance(self.interpolation, AffineSchedule):
            own = linear_schedule() if self.interpolation is None else self.interpolation
            schedule = AffineSchedule(
                own.alpha, own.beta, square, own.boundary, own.alpha_squared, own.breakpoints
            )
            return LinearPath(self.state_space, schedule)
        return InterpolantPath(
            self.state_space, self.interpolation, square, breakpoints=self.breakpoints
        )

    def as_marginal(self) -> LinearPath | InterpolantPath:
        """The same as `marginal`: equal laws at each time, other laws of two times."""
        return self.marginal

    @cached_property
    def predictions(self) -> Mapping[str, Prediction]:
        """Those of the marginal twin, and ``diffusive_drift``."""
        shape = self.marginal.predictions["velocity"].output_shape
        own = {
            "diffusive_drift": Prediction(
                "diffusive_drift", shape, True, "drift u of the process: b + a s"
            ),
            "diffusive_drift+score": Prediction(
                "diffusive_drift+score", (2, *shape), False, "drift u and ∇log p_t(x_t)"
            ),
        }
        return {**self.marginal.predictions, **own}

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """Those of the marginal twin, with u = b + a s = v + (2at − a't(1−t)) s."""
        a, u, b, v = self.a, "diffusive_drift", "velocity", "interpolant_velocity"

        def level(t: Tensor, like: Tensor) -> Any:
            return per_row(a(t), like)

        def weight(t: Tensor, like: Tensor) -> Any:
            return per_row(2 * a(t) * t - a.rate(t) * t * (1 - t), like)

        return (
            *self.marginal.rules,
            Rule(u, (b, "score"), lambda t, x, b, s: b + level(t, s) * s),
            Rule(b, (u, "score"), lambda t, x, u, s: u - level(t, s) * s),
            Rule(u, (v, "score"), lambda t, x, v, s: v + weight(t, s) * s),
            Rule(v, (u, "score"), lambda t, x, u, s: u - weight(t, s) * s),
            TimedRule(u, (v, "noise"), lambda t, x, v, z: v + per_row(self.pull(t), z) * z, (1.0,)),
            *joint_rules(["diffusive_drift+score"]),
        )

    def convert(
        self, want: str, given: Mapping[str, Tensor], t: Tensor | float, x: Tensor
    ) -> Tensor:
        """The quantity ``want`` from the given ones, with its times checked.

        Raises:
            CapabilityError: the given quantities do not suffice.
            SingularTimeError: a conversion on the way is infinite at one of the times.
        """
        return converted_value("DiffusivePath.convert", self.rules, want, given, t, x)

    # -- draws and targets -------------------------------------------------------------------

    def draw(self, t: Tensor | float, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        """x_t at one time per pair, as the marginal twin draws it.

        Raises:
            ShapeError: x0 and x1 do not pair up, or there is not one time per pair.
            DomainError: integer tensors, or x0 and x1 of two dtypes or devices.
        """
        return self.marginal.draw(t, x0, x1, rng)

    def draw_path(self, times: Tensor, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Tensor:
        """x at several times along one bridge per pair: ``(times, batch, *event)``.

        Args:
            times: ``(times,)`` in [0, 1], shared by all pairs.
            x0, x1: ``(batch, *event)``.
            rng: all randomness.

        Raises:
            ShapeError: x0 and x1 do not pair up.
            DomainError: a time is outside [0, 1].

        Example:
            >>> from genpath import Euclidean
            >>> path, x = DiffusivePath(Euclidean(2)), torch.zeros(3, 2)
            >>> times = torch.tensor([0.0, 0.3, 1.0])
            >>> path.draw_path(times, x, x + 1, torch.Generator().manual_seed(0)).shape
            torch.Size([3, 3, 2])
        """
        paired_times(self.state_space, 0.0, x0, x1, "DiffusivePath.draw_path")
        bridge = brownian_bridge(times, x1, rng)
        count, rows = len(times), x1.shape[0]
        each = times.to(x1).repeat_interleave(rows)
        left, right = (x.repeat(count, *([1] * (x.dim() - 1))) for x in (x0, x1))
        straight = self._interpolated(each, left, right).reshape(bridge.shape)
        found: Tensor = straight + per_row((2 * self.a(times.to(x1))).sqrt(), bridge) * bridge
        return found

    def target(self, name: str, draw: Draw) -> Tensor:
        """The value that prediction ``name`` is regressed on.

        Raises:
            CapabilityError: the path has no such prediction.
        """
        if name == "diffusive_drift+score":
            return torch.stack([self.target(part, draw) for part in name.split("+")], 1)
        if name != "diffusive_drift":
            return self.marginal.target(name, draw)
        straight = self.marginal.target("interpolant_velocity", draw)
        return straight + per_row(self.pull(draw.t), straight) * draw.latent  # type: ignore[no-any-return]

    def conditional_generator(self, x0: Tensor, x1: Tensor) -> MarkovGenerator:
        """dX = (∂_t I + (a'/(2a) − 1/(1−t))(X − I)) dt + √(2a) dW: the bridge between fixed ends.

        1/(1−t) is taken at the time clipped to 1 − EDGE.
        """
        a = self.a

        def evaluate(t: Tensor, x: Any) -> Parts:
            inner = t.clamp(max=1 - EDGE)
            rate = a.rate(inner) / (2 * a(inner)) - 1 / (1 - inner)
            straight = self.marginal.target("interpolant_velocity", Draw(t, x, x0, x1, 0 * x1))
            gap = x - self._interpolated(t, x0, x1)
            return Parts(straight + per_row(rate, gap) * gap, ScalarNoise((2 * a(t)).sqrt()))

        return MarkovGenerator(self.state_space, evaluate, frozenset({"velocity", "diffusion"}))

    def _interpolated(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        marginal = self.marginal
        if isinstance(marginal, InterpolantPath):
            return marginal.interpolation(t, x0, x1)
        schedule = marginal.schedule
        left: Tensor = per_row(schedule.alpha(t), x0) * x0
        return left + per_row(schedule.beta(t), x1) * x1

    def pull(self, t: Tensor) -> Tensor:
        """(a'/(2a) − 1/(1−t)) √(2a t(1−t)), the weight of z in u, at most at t = 1 − EDGE."""
        t, a = t.clamp(max=1 - EDGE), self.a
        pull: Tensor = (a.rate(t) / (2 * a(t)) - 1 / (1 - t)) * (2 * a(t) * t * (1 - t)).sqrt()
        return pull


@dataclass(frozen=True)
class Diffusive:
    """dX = u dt + √(2a(t)) dW, the process of a diffusive path: ``interpolants.diffusive``.

    From a point, u on the flat start [0, δ] is its analytic value, whatever the network says.

    Raises:
        CapabilityError: (of `generator`) the path has no diffusive drift, or no rule leads to it.

    Example:
        >>> from genpath import Euclidean
        >>> path = DiffusivePath(Euclidean(1), a=0.5)
        >>> gen = Diffusive().generator(path, "diffusive_drift", lambda t, x: -x)
        >>> gen(0.5, torch.ones(1, 1)).velocity, gen(0.5, torch.ones(1, 1)).diffusion.sigma
        (tensor([[-1.]]), tensor([1.]))
    """

    def generator(self, path: Any, prediction: str, field: Field) -> MarkovGenerator:
        """The process, from a field that predicts ``prediction``."""
        level = getattr(path, "a", None)
        if not isinstance(level, Scalar) or "diffusive_drift" not in path.predictions:
            raise CapabilityError(
                "interpolants.diffusive",
                "the path is diffusive: it names a(t) and a drift.",
                got=type(path).__name__,
                fix="choose path: interpolants.diffusive or interpolants.point_mass, or another "
                "dynamics",
            )
        drift = converted(path.rules, prediction, field, "diffusive_drift")
        start = getattr(path, "from_start", None)

        def evaluate(t: Tensor, x: Any) -> Parts:
            value = drift(t, x)
            velocity = value if start is None else start(t, x, value)
            return Parts(velocity, ScalarNoise((2 * level(t)).sqrt()))

        has = frozenset({"velocity", "diffusion"})
        return MarkovGenerator(path.space, evaluate, has, Origin(path, prediction, field))


def diffusive(
    state_space: Space, a: float = 1.0, alpha_beta: str = "linear", slope: float = 0.0
) -> DiffusivePath:
    """(1−t) x0 + t x1 + √(2a(t)) B_t: the component ``interpolants.diffusive``.

    Args:
        state_space: a `Euclidean` space.
        a: a(0) > 0.
        alpha_beta: linear or trigonometric.
        slope: a(t) = a + slope · t.

    Raises:
        DomainError: a ≤ 0, a + slope < 0, or another α and β.

    Example:
        >>> from genpath import Euclidean
        >>> diffusive(Euclidean(1), a=0.5).a(torch.tensor([0.3]))
        tensor([0.5000])
    """
    from .schedules import trigonometric_schedule

    schedules = {"linear": linear_schedule, "trigonometric": trigonometric_schedule}
    if alpha_beta not in schedules:
        raise DomainError(
            "interpolants.diffusive",
            "alpha_beta is linear or trigonometric.",
            got=repr(alpha_beta),
        )
    level = Scalar(lambda t: a + slope * t, lambda t: torch.full_like(t, slope))
    return DiffusivePath(state_space, schedules[alpha_beta](), level)


def _constant(a: float) -> Scalar:
    return Scalar(lambda t: torch.full_like(t, a), torch.zeros_like)


def _twin(a: Scalar) -> Scalar:
    """γ² = 2a t(1−t)."""

    def rate(t: Tensor) -> Tensor:
        return 2 * a.rate(t) * t * (1 - t) + 2 * a(t) * (1 - 2 * t)

    return Scalar(lambda t: 2 * a(t) * t * (1 - t), rate)


def _check_level(a: Scalar) -> None:
    values = a(torch.linspace(0, 1, 101, dtype=torch.float64))
    if not (float(values[0]) > 0 and float(values.min()) >= 0 and math.isfinite(values.sum())):
        raise DomainError(
            "DiffusivePath",
            "a(0) > 0 and a(t) ≥ 0.",
            got=f"a(0) = {float(values[0]):g}, minimum {float(values.min()):g}",
        )
