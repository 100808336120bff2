r"""From one point: a diffusive path whose base law is a point mass.

    x_t = (1 − h(t)) x* + h(t) x1 + √(2a(t)) B_t,    h = 0 on [0, δ], C² in time, h(1) = 1

On the flat start x_t ~ N(x*, 2a t(1−t) I), so that all is known there:

    s = −(x − x*)/(2a t(1−t))    v = 0    u = (a'/(2a) − 1/(1−t))(x − x*)

The score and b are infinite at t = 0, u is not: dX = u dt + √(2a) dW from X_0 = x* has the law of
x_t at every time, in particular X_1 ~ ρ1 (Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797,
section 3.1). A flow from one point stays one point, so no velocity is offered here. Since x* is
known, one denoiser D = E[x1 | x] gives everything:

    v = ḣ (D − x*)    s = (m − x)/(2a t(1−t))    u = v + (a'/(2a) − 1/(1−t))(x − m)
    with m = x* + h(D − x*)

With a start of its own for each row the same process samples ρ1(· | x*): the state is then
{"x": moving, "start": x*}, and a network sees both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator, lifted
from genpath.laws import Law
from genpath.noises import FactorNoise
from genpath.parts import Parts
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule
from genpath.schedules import Scalar
from genpath.spaces import Euclidean, Product, Space
from genpath.states import per_row

from .diffusive import DiffusivePath
from .endpoints import converted_value
from .families import flat_start_schedule
from .relations import EDGE, TimedRule, joint_rules

__all__ = ["FromStarts", "PointMass", "PointMassPath", "point", "point_mass"]

SINGLE = {
    "diffusive_drift": (True, "u, the drift of the process"),
    "interpolant_velocity": (True, "E[∂_t I | x_t]"),
    "denoiser": (False, "E[x1 | x_t]"),
    "noise": (False, "E[z | x_t]"),
    "score": (True, "∇log p_t(x_t)"),
}
JOINT = "interpolant_velocity+noise"


@dataclass(frozen=True, eq=False)
class PointMassPath:
    """The diffusive path from x* with a flat start.

    Args:
        state_space: a `Euclidean` space.
        point: x* ``(*event)``; None for a start of its own in each row, with states
            {"x": …, "start": …} and predictions {"x": …}.
        a: a number > 0, or a `Scalar`.
        delta: δ, the length of the flat start.

    Raises:
        DomainError: a(0) ≤ 0, or δ is not in (0, 1).
        ShapeError: the point is none of the space.

    Example:
        >>> path = PointMassPath(Euclidean(1), torch.zeros(1), a=0.5)
        >>> "velocity" in path.predictions
        False
        >>> path.convert("diffusive_drift", {"denoiser": torch.ones(1, 1)}, 0.1, torch.ones(1, 1))
        tensor([[-1.1111]])
    """

    state_space: Space
    point: Tensor | None = None
    a: Any = 0.5
    delta: float = 0.2
    diffusive: DiffusivePath = field(init=False, repr=False)

    def __post_init__(self) -> None:
        inner = DiffusivePath(self.state_space, flat_start_schedule(self.delta), self.a)
        object.__setattr__(self, "diffusive", inner)
        object.__setattr__(self, "a", inner.a)
        shape = getattr(self.state_space, "event_shape", None)
        if self.point is not None and tuple(self.point.shape) != shape:
            got = f"{tuple(self.point.shape)}, points of shape {shape}"
            raise ShapeError("PointMassPath", "the start is one point of the space.", got=got)

    # -- what it is --------------------------------------------------------------------------

    @cached_property
    def space(self) -> Space:
        """R^d, or the product with the one moving leaf "x"."""
        return self.state_space if self.point is not None else Product({"x": self.state_space})

    @property
    def latent(self) -> bool:
        """It has a latent noise."""
        return True

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """δ and the kinks of a."""
        return self.diffusive.breakpoints

    @cached_property
    def predictions(self) -> Mapping[str, Prediction]:
        """u, v, denoiser, noise and score; no velocity, since no flow leaves a point."""
        assert isinstance(self.state_space, Euclidean)
        shape: Any = self.state_space.event_shape
        alone = self.point is not None
        found = {  # a dict is compared in the metric of its product, as tangents of R^d are
            name: Prediction(name, self._form(shape), tangent or not alone, meaning)
            for name, (tangent, meaning) in SINGLE.items()
        }
        if alone:  # a joint one is a plain tensor
            both = "E[∂_t I | x_t] and E[z | x_t]"
            found[JOINT] = Prediction(JOINT, (2, *shape), False, both)
        return found

    def _form(self, value: Any) -> Any:
        return value if self.point is not None else {"x": value}

    def start(self, state: Any) -> Tensor:
        """x* of each row: the point, or the fact "start" of the state."""
        return self.point.to(state) if self.point is not None else state["start"]

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The conversions of this module's first lines."""
        h, square = self._rise, self.diffusive.marginal.schedule.gamma_squared  # type: ignore[union-attr]
        u, v, d, z, s = SINGLE  # in this order

        def gap(t: Tensor, x: Tensor, start: Tensor, mean: Tensor) -> Tensor:
            """x − m."""
            return x - start - per_row(h(t), x) * (mean - start)

        def pulled(t: Tensor, x: Tensor, start: Tensor, mean: Tensor) -> Tensor:
            found: Tensor = per_row(self._rate(t), x) * gap(t, x, start, mean)
            return found + per_row(h.rate(t), x) * (mean - start)

        def score_of(t: Tensor, x: Tensor, start: Tensor, mean: Tensor) -> Tensor:
            return -gap(t, x, start, mean) / per_row(square(t.clamp(EDGE, 1 - EDGE)), x)

        def weight(t: Tensor) -> Tensor:
            level: Tensor = 2 * self.a(t) * t - self.a.rate(t) * t * (1 - t)
            return level

        def gamma(t: Tensor, like: Tensor) -> Any:
            return per_row(square(t).clamp_min(0).sqrt(), like)

        def inner_gamma(t: Tensor, like: Tensor) -> Any:
            return gamma(t.clamp(EDGE, 1 - EDGE), like)

        one = self._lifted
        return (
            one(u, (d,), lambda t, x, start, mean: pulled(t, x, start, mean), (1.0,)),
            one(v, (d,), lambda t, x, start, mean: per_row(h.rate(t), x) * (mean - start)),
            one(s, (d,), score_of, (0.0, 1.0)),
            one(z, (d,), lambda t, x, start, mean: gap(t, x, start, mean) / inner_gamma(t, x),
                (0.0, 1.0)),
            one(u, (v, s), lambda t, x, start, v, s: v + per_row(weight(t), x) * s),
            one(u, (v, z), lambda t, x, start, v, z: v + per_row(self.diffusive.pull(t), x) * z,
                (1.0,)),
            one(v, (u, s), lambda t, x, start, u, s: u - per_row(weight(t), x) * s),
            one(s, (z,), lambda t, x, start, z: -z / inner_gamma(t, z), (0.0, 1.0)),
            one(z, (s,), lambda t, x, start, s: -gamma(t, s) * s),
            *(joint_rules([JOINT]) if self.point is not None else ()),
        )  # fmt: skip

    def _lifted(
        self,
        gives: str,
        needs: tuple[str, ...],
        formula: Callable[..., Tensor],
        singular: tuple[float, ...] = (),
    ) -> TimedRule:
        """A rule on x, x* and values of x's form, as one on states."""
        if self.point is not None:
            return TimedRule(
                gives,
                needs,
                lambda t, x, *values: formula(t, x, self.start(x), *values),
                singular,
            )

        def on_leaf(t: Tensor, state: Any, *values: Any) -> Any:
            inner = (value["x"] for value in values)
            return {"x": formula(t, state["x"], state["start"], *inner)}

        return TimedRule(gives, needs, on_leaf, singular)

    def convert(self, want: str, given: Mapping[str, Any], t: Tensor | float, x: Any) -> Any:
        """The quantity ``want`` from the given ones, with its times checked.

        Raises:
            CapabilityError: the given quantities do not suffice.
            SingularTimeError: a conversion on the way is infinite at one of the times.
        """
        return converted_value("PointMassPath.convert", self.rules, want, given, t, x)

    def from_start(self, t: Tensor, state: Any, drift: Any) -> Any:
        """u on the flat start in place of a network's; its limit −(x − x*)(1 − a'/(2a)) at 0."""
        x = state if self.point is not None else state["x"]
        value = drift if self.point is not None else drift["x"]
        known = per_row(self._rate(t), x) * (x - self.start(state))
        found = torch.where(per_row(t <= self.delta, x), known, value)  # type: ignore[arg-type]
        return self._form(found)

    # -- draws and targets -------------------------------------------------------------------

    def draw(self, t: Tensor | float, x0: Any, x1: Any, rng: torch.Generator) -> Draw:
        """x_t for each pair; where each row has its own start, the state holds it.

        Args:
            t: times.
            x0: the starts ``(batch, *event)``, or states that hold them.
            x1: data, of the same form.
            rng: of z.

        Raises:
            ShapeError: x0 and x1 do not pair up, or there is not one time per pair.
            DomainError: an x0 that is not the point of the path.
        """
        left, right = (x["x"] if isinstance(x, Mapping) else x for x in (x0, x1))
        here = left.device.type == "cpu" and not torch.compiler.is_compiling()
        if self.point is not None and here and not bool((left == self.start(left)).all()):
            raise DomainError(
                "PointMassPath.draw",
                "x0 is the path's point in every row.",
                got="another x0",
                fix="write base: interpolants.point, and leave the coupling independent",
            )
        drawn = self.diffusive.draw(t, left, right, rng)
        if self.point is not None:
            return drawn
        facts = dict(x1) if isinstance(x1, Mapping) else {}
        state = {**facts, "x": drawn.state, "start": left}
        return Draw(drawn.t, state, left, right, drawn.latent)

    def target(self, name: str, draw: Draw) -> Any:
        """The value that prediction ``name`` is regressed on.

        Raises:
            CapabilityError: the path has no such prediction.
        """
        if name not in self.predictions:
            raise CapabilityError(
                "PointMassPath.target",
                f"there is no prediction {name!r} for this path.",
                fix="choose one of " + ", ".join(self.predictions),
            )
        return self._form(self.diffusive.target(name, draw))

    def conditional_generator(self, x0: Any, x1: Any) -> MarkovGenerator:
        """The bridge from x0 to x1: a process, since no flow leaves a point."""
        left, right = (x["x"] if isinstance(x, Mapping) else x for x in (x0, x1))
        inner = self.diffusive.conditional_generator(left, right)
        if self.point is not None:
            return inner
        one = lifted("x", inner)

        def evaluate(t: Tensor, state: Any) -> Parts:
            parts = one.evaluate(t, state)
            assert parts.diffusion is not None
            return Parts({"x": parts.velocity}, FactorNoise({"x": parts.diffusion}))

        return MarkovGenerator(self.space, evaluate, inner.has)

    @property
    def _rise(self) -> Scalar:
        """h."""
        marginal: Any = self.diffusive.marginal
        rise: Scalar = marginal.schedule.beta
        return rise

    def _rate(self, t: Tensor) -> Tensor:
        """a'/(2a) − 1/(1−t), at most at t = 1 − EDGE."""
        t = t.clamp(max=1 - EDGE)
        rate: Tensor = self.a.rate(t) / (2 * self.a(t)) - 1 / (1 - t)
        return rate


# -- laws ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PointMass:
    """The law of a constant; it has no density.

    Args:
        value: the point ``(*event)``.

    Example:
        >>> PointMass(torch.tensor([0.7])).sample(2, torch.Generator())
        tensor([[0.7000],
                [0.7000]])
    """

    value: Tensor

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` copies, on the device of ``rng``."""
        copies = self.value.to(rng.device).expand(count, *self.value.shape)
        return copies.clone()


@dataclass(frozen=True)
class FromStarts:
    """Starting states {"x": x*, "start": x*} with x* from a law: the base of a path with x* free.

    Example:
        >>> law = FromStarts(PointMass(torch.tensor([0.7])))
        >>> sorted(law.sample(2, torch.Generator()))
        ['start', 'x']
    """

    starts: Law

    def sample(self, count: int, rng: torch.Generator) -> dict[str, Tensor]:
        """``count`` states."""
        start: Tensor = self.starts.sample(count, rng)
        return {"x": start, "start": start}


# -- components of configs -------------------------------------------------------------------------


def point_mass(
    state_space: Space, a: float = 0.5, delta: float = 0.2, value: Sequence[float] = ()
) -> PointMassPath:
    """The diffusive path from one point: the component ``interpolants.point_mass``.

    Its base law is ``interpolants.point``, its dynamics ``interpolants.diffusive``.

    Args:
        state_space: a `Euclidean` space.
        a: of √(2a) B.
        delta: the length of the flat start.
        value: the coordinates of the point, in the order of memory; the origin if empty, and one
            number for all coordinates if alone.

    Raises:
        DomainError: as many numbers as neither 0, 1 nor the points' size.

    Example:
        >>> point_mass(Euclidean(2), value=[0.7]).point
        tensor([0.7000, 0.7000])
    """
    shape = getattr(state_space, "event_shape", None)
    if not isinstance(shape, tuple):
        raise CapabilityError("interpolants.point_mass", "it lives on R^d.", got=repr(state_space))
    origin = torch.zeros(shape)
    values = torch.tensor(list(value), dtype=origin.dtype)
    if values.numel() not in (0, 1, origin.numel()):
        raise DomainError(
            "interpolants.point_mass",
            f"value is empty, one number, or {origin.numel()} numbers.",
            got=f"{values.numel()} numbers",
        )
    if values.numel() == 1:
        values = values.expand(origin.numel())
    where = values.reshape(shape) if values.numel() else origin
    return PointMassPath(state_space, where.clone(), a, delta)


def point(path: Any) -> PointMass:
    """The point that the path starts from: the component ``interpolants.point``.

    Raises:
        CapabilityError: the path does not start from one point; a flow would leave it as a point.

    Example:
        >>> point(point_mass(Euclidean(1))).value
        tensor([0.])
    """
    value = getattr(path, "point", None)
    if not isinstance(value, Tensor):
        raise CapabilityError(
            "interpolants.point",
            "only a process with noise leaves a point: the path is one from a point.",
            got=type(path).__name__,
            fix="write path: interpolants.point_mass and dynamics: interpolants.diffusive",
        )
    return PointMass(value)
