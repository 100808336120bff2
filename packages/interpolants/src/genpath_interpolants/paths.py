r"""The linear stochastic interpolant on R^d.

    x_t = I_t + γ(t) z,     I_t = (1−t) x0 + t x1,     z ~ N(0, I) independent of (x0, x1)
    ẋ_t = x1 − x0 + γ̇ z

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797.) What a network is asked for is a
conditional expectation given x_t = x:

    velocity u = E[ẋ_t]   denoiser D = E[x1]   base_denoiser B = E[x0]   noise N = E[z]   score s

They obey, for every coupling of (x0, x1),

    x = (1−t) B + t D + γ N        u = D − B + γ̇ N        s = −N/γ  (γ ≠ 0)

With ``base="gaussian"``, x0 ~ N(0, I) independent of x1, x_t is data plus the normal noise
(1−t) x0 + γ z of variance V = (1−t)² + γ². Then B = −(1−t) s, and every quantity leads to every
other. With k = (1−t) − γγ̇ and W = V + t k (both 1 − t when γ = 0):

    x = t D − V s      u = D + k s      s = (t u − x)/W      u = D + k (t D − x)/V

Where γ = 0 the divisions that cancel are cancelled: D = x + (1−t) u, B = x − t u.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError, SingularTimeError
from genpath.generators import MarkovGenerator, flow
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule, convert, plan
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean, Space
from genpath.states import describe, per_row, row_times

from .kernels import affine_draw, affine_sum
from .schedules import linear_schedule

__all__ = ["EDGE", "LinearPath", "TimedRule"]

EDGE = 1e-4
"""How near to a singular time a denominator that vanishes there, or γ̇, is still evaluated.

Nearer than this it keeps its value at the distance EDGE, so that a solver that touches t = 0 or
t = 1 gets a finite number. That number is not the limit; `LinearPath.convert` refuses instead.
"""

EARLY, LATE, ENDS = (0.0,), (1.0,), (0.0, 1.0)


@dataclass(frozen=True)
class TimedRule(Rule):
    """A rule with the times at which it is infinite.

    Args:
        singular: those times; `LinearPath.convert` refuses them.

    Example:
        >>> rules = LinearPath(Euclidean(1)).rules
        >>> [(rule.needs, rule.gives) for rule in rules if 0.0 in rule.singular]  # u = (x − B)/t
        [(('base_denoiser',), 'velocity')]
    """

    singular: tuple[float, ...] = ()


@dataclass(frozen=True)
class LinearPath:
    """x_t = (1−t) x0 + t x1 + γ(t) z on R^d: the component ``interpolants.linear``.

    Args:
        state_space: a `Euclidean` space.
        gamma: "none" (γ = 0, no latent is drawn), "sqrt" (γ² = a·t(1−t)) or "quadratic"
            (γ² = a·t²(1−t)²).
        gamma_scale: a > 0.
        base: "gaussian" declares x0 ~ N(0, I) independent of x1; the score then follows from any
            prediction. It does not hold for a base of another variance, nor for a coupling that
            pairs x0 with x1. "any" assumes nothing.

    γ̇ of "sqrt" is infinite at both ends; the velocity's target uses γ̇ at the time clipped to
    [EDGE, 1 − EDGE].

    Raises:
        CapabilityError: the space is not Euclidean.
        DomainError: an unknown ``gamma`` or ``base``, or gamma_scale ≤ 0.

    Example:
        >>> path = LinearPath(Euclidean(2))
        >>> x0, x1 = torch.zeros(1, 2), torch.ones(1, 2)
        >>> path.draw(torch.tensor([0.25]), x0, x1, torch.Generator()).state
        tensor([[0.2500, 0.2500]])
    """

    state_space: Space
    gamma: Literal["none", "sqrt", "quadratic"] = "none"
    gamma_scale: float = 1.0
    base: Literal["gaussian", "any"] = "any"
    schedule: AffineSchedule = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.state_space, Euclidean):
            raise CapabilityError(
                "interpolants.linear",
                "it lives on R^d.",
                got=repr(self.state_space),
                fix="choose the path of this space; `genpath components path` lists them",
            )
        if self.base not in ("gaussian", "any"):
            raise DomainError(
                "interpolants.linear", "base is gaussian or any.", got=repr(self.base)
            )
        schedule = linear_schedule(self.gamma, self.gamma_scale)
        object.__setattr__(self, "schedule", schedule)

    @property
    def space(self) -> Space:
        """Where x_t lives: the space of the endpoints."""
        return self.state_space

    @property
    def latent(self) -> bool:
        """Whether the path has a latent noise z (γ ≠ 0)."""
        return self.gamma != "none"

    @property
    def predictions(self) -> Mapping[str, Prediction]:
        """What a network can be asked for; noise needs γ ≠ 0, the score γ ≠ 0 or a normal base."""
        shape = self.state_space.event_shape
        found = [
            Prediction("velocity", shape, True, "E[x1 − x0 + γ̇ z | x_t]"),
            Prediction("denoiser", shape, False, "E[x1 | x_t]"),
            Prediction("base_denoiser", shape, False, "E[x0 | x_t]"),
        ]
        if self.latent:
            found.append(Prediction("noise", shape, False, "E[z | x_t]"))
        if self.latent or self.base == "gaussian":
            found.append(Prediction("score", shape, True, "∇log p_t(x_t)"))
        return {prediction.name: prediction for prediction in found}

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The conversions of the module's docstring, as `TimedRule`s."""
        rules = self._latent_rules() if self.latent else self._straight_rules()
        return (*rules, *self._gaussian_rules()) if self.base == "gaussian" else rules

    def convert(
        self, want: str, given: Mapping[str, Tensor], t: Tensor | float, x: Tensor
    ) -> Tensor:
        """The quantity ``want`` from the given ones, with its times checked.

        Args:
            want: a prediction's name.
            given: name → value ``(batch, *event)``.
            t: times ``(batch,)``, or a scalar.
            x: states ``(batch, *event)``.

        Raises:
            CapabilityError: the given quantities do not suffice.
            SingularTimeError: a conversion on the way is infinite at one of the times.

        Example:
            >>> path, x = LinearPath(Euclidean(1), base="gaussian"), torch.ones(1, 1)
            >>> path.convert("denoiser", {"velocity": torch.ones(1, 1)}, 0.5, x)
            tensor([[1.5000]])
        """
        times = row_times(t, x, "LinearPath.convert")
        for rule in plan(self.rules, list(given), want):
            for singular in getattr(rule, "singular", ()):
                if bool((times == singular).any()):
                    source = ", ".join(rule.needs)
                    raise SingularTimeError(
                        "LinearPath.convert",
                        f"{rule.gives} from {source} is infinite at t = {singular:g}.",
                        got=f"t = {singular:g}",
                        fix="stop short of it, or predict the quantity itself",
                    )
        result: Tensor = convert(self.rules, given, want, times, x)
        return result

    # -- draws and targets -------------------------------------------------------------------

    def draw(self, t: Tensor | float, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        """x_t for each triple (t, x0, x1), in their dtype; z is drawn only when γ ≠ 0.

        Raises:
            ShapeError: x0 and x1 do not pair up, or there is not one time per pair.
        """
        times = self._paired(t, x0, x1, "LinearPath.draw")
        z = self._noise(x1, rng)
        return Draw(times, affine_sum(x0, x1, z, *self._weights(times)), x0, x1, z)

    def draw_with_target(
        self, name: str, t: Tensor | float, x0: Tensor, x1: Tensor, rng: torch.Generator
    ) -> tuple[Draw, Tensor]:
        """`draw` and `target` together: for the velocity, in one pass over x0, x1 and z.

        The draw is that of `draw` for the same ``rng``, bit for bit on a CPU.

        Raises:
            CapabilityError: the path has no such prediction.
            ShapeError: x0 and x1 do not pair up, or there is not one time per pair.

        Example:
            >>> path, rng = LinearPath(Euclidean(2)), torch.Generator()
            >>> x0, x1 = torch.zeros(1, 2), torch.ones(1, 2)
            >>> draw, target = path.draw_with_target("velocity", 0.25, x0, x1, rng)
            >>> draw.state, target
            (tensor([[0.2500, 0.2500]]), tensor([[1., 1.]]))
        """
        if name != "velocity":  # the other targets are inputs, or have a divisor of their own
            draw = self.draw(t, x0, x1, rng)
            return draw, self.target(name, draw)
        times = self._paired(t, x0, x1, "LinearPath.draw_with_target")
        z = self._noise(x1, rng)
        weights, rates = self._weights(times), self._rates(times)
        state, target = affine_draw(x0, x1, z, *weights, *rates)
        return Draw(times, state, x0, x1, z), target

    def target(self, name: str, draw: Draw) -> Tensor:
        """The value that prediction ``name`` is regressed on: x1 − x0 + γ̇ z, x1, x0, z or the
        conditional score.

        Raises:
            CapabilityError: the path has no such prediction.
        """
        if name not in self.predictions:
            raise CapabilityError(
                "LinearPath.target",
                f"there is no prediction {name!r} for gamma {self.gamma!r}, base {self.base!r}.",
                fix="choose one of " + ", ".join(self.predictions),
            )
        t, x0, x1, z = draw.t, draw.x0, draw.x1, draw.latent
        if name == "denoiser":
            return x1  # type: ignore[no-any-return]
        if name == "base_denoiser":
            return x0  # type: ignore[no-any-return]
        if name == "noise":
            return z  # type: ignore[no-any-return]
        if name == "velocity":
            return affine_sum(x0, x1, z, *self._rates(t))
        gamma = self.schedule.gamma
        if self.base == "any":
            return -_over(z, gamma, t, ENDS)
        total = _times(1 - t, x0) if z is None else _times(1 - t, x0) + _times(gamma(t), z)
        return -_over(total, self._variance, t, LATE)

    def conditional_generator(self, x0: Tensor, x1: Tensor) -> MarkovGenerator:
        """u = x1 − x0 + (γ̇/γ)(x − I_t), the flow that carries N(I_t, γ² I).

        For γ = 0 it is x1 − x0, and carries the point I_t. γ̇/γ is infinite at both ends, where
        x = I_t; it is taken at the time clipped to [EDGE, 1 − EDGE].
        """

        def velocity(t: Tensor, x: Any) -> Tensor:
            if not self.latent:
                return x1 - x0
            inner = _inside(t, ENDS)
            ratio = self.schedule.gamma_gamma_rate(inner) / self.schedule.gamma_squared(inner)
            return x1 - x0 + _times(ratio, x - self._mean(t, x0, x1))

        return flow(self.state_space, velocity)

    def renoise(self, t_from: Tensor, t_to: Tensor, state: Tensor, rng: torch.Generator) -> Tensor:
        """A draw of x_s given x_t = state, s = ``t_to`` ≤ t = ``t_from``, for a normal base.

        N((s/t) x_t, V(s) − (s/t)² V(t)) with V = (1−t)² + γ²: the Markov process with the path's
        laws given x1. It is not the two-time law of x_t itself, whose x0 and z stay fixed. At
        t = 0 it is the identity.

        Raises:
            CapabilityError: ``base`` is not "gaussian".
        """
        if self.base != "gaussian":
            raise CapabilityError(
                "LinearPath.renoise",
                "a noising kernel needs a normal base, independent of the data.",
                got=f"base {self.base!r}",
                fix="set base: gaussian where it holds",
            )
        t, s = row_times(t_from, state, "renoise"), row_times(t_to, state, "renoise")
        ratio = torch.where(t > 0, s / torch.where(t > 0, t, 1.0), 1.0)
        variance = (self._variance(s) - ratio**2 * self._variance(t)).clamp_min(0)
        z = torch.randn(state.shape, generator=rng, device=state.device, dtype=state.dtype)
        return _times(ratio, state) + _times(variance.sqrt(), z)

    # -- scalars -----------------------------------------------------------------------------

    def _noise(self, like: Tensor, rng: torch.Generator) -> Tensor | None:
        if not self.latent:
            return None
        return torch.randn(like.shape, generator=rng, device=like.device, dtype=like.dtype)

    def _weights(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """α, β and γ."""
        schedule = self.schedule
        return schedule.alpha(t), schedule.beta(t), schedule.gamma(t) if self.latent else None

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """α̇, β̇ and γ̇, the last at the time clipped to [EDGE, 1 − EDGE]."""
        rate = self._gamma_rate(t) if self.latent else None
        return self.schedule.alpha.rate(t), self.schedule.beta.rate(t), rate

    def _mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return _times(self.schedule.alpha(t), x0) + _times(self.schedule.beta(t), x1)

    def _variance(self, t: Tensor) -> Tensor:
        """V: the variance of (1−t) x0 + γ z for a standard normal x0."""
        return (1 - t) ** 2 + self.schedule.gamma_squared(t)

    def _slack(self, t: Tensor) -> Tensor:
        """k = (1−t) − γγ̇."""
        return (1 - t) - self.schedule.gamma_gamma_rate(t)

    def _whole(self, t: Tensor) -> Tensor:
        """W = V + t k."""
        return self._variance(t) + t * self._slack(t)

    def _gamma_rate(self, t: Tensor) -> Tensor:
        """γ̇ at the time clipped to [EDGE, 1 − EDGE]."""
        inner = _inside(t, ENDS)
        return self.schedule.gamma_gamma_rate(inner) / self.schedule.gamma(inner)

    def _paired(self, t: Tensor | float, x0: Any, x1: Any, where: str) -> Tensor:
        tensors = isinstance(x0, Tensor) and isinstance(x1, Tensor)
        if not tensors or x0.shape != x1.shape:
            got = f"x0 {describe(x0)}, x1 {describe(x1)}"
            raise ShapeError(where, "x0 and x1 are tensors that pair up one to one.", got=got)
        assert isinstance(self.state_space, Euclidean)
        self.state_space.check(x1, where)
        return row_times(t, x1, where)

    # -- rules -------------------------------------------------------------------------------

    def _straight_rules(self) -> tuple[Rule, ...]:
        """γ = 0, any coupling: x = (1−t) B + t D and u = D − B."""
        return (
            TimedRule("denoiser", ("velocity",), lambda t, x, u: x + _times(1 - t, u)),
            TimedRule("base_denoiser", ("velocity",), lambda t, x, u: x - _times(t, u)),
            _quotient("velocity", ("denoiser",), lambda t, x, d: d - x, _left, LATE),
            _quotient("velocity", ("base_denoiser",), lambda t, x, b: x - b, _passed, EARLY),
        )

    def _latent_rules(self) -> tuple[Rule, ...]:
        """γ ≠ 0, any coupling: the two relations, and s = −N/γ."""
        gamma = self.schedule.gamma

        def denoiser(t: Tensor, x: Tensor, u: Tensor, n: Tensor) -> Tensor:
            return x + _times(1 - t, u) - _times(gamma(t) + (1 - t) * self._gamma_rate(t), n)

        def velocity(t: Tensor, x: Tensor, d: Tensor, b: Tensor, n: Tensor) -> Tensor:
            return d - b + _times(self._gamma_rate(t), n)

        def late(t: Tensor, x: Tensor, d: Tensor, n: Tensor) -> Tensor:
            return x - _times(t, d) - _times(gamma(t), n)

        def early(t: Tensor, x: Tensor, b: Tensor, n: Tensor) -> Tensor:
            return x - _times(1 - t, b) - _times(gamma(t), n)

        rate_ends = ENDS if self.gamma == "sqrt" else ()
        return (
            _quotient("score", ("noise",), lambda t, x, n: -n, gamma, ENDS),
            TimedRule("noise", ("score",), lambda t, x, s: -_times(gamma(t), s)),
            TimedRule("denoiser", ("velocity", "noise"), denoiser, rate_ends),
            _quotient("base_denoiser", ("denoiser", "noise"), late, _left, LATE),
            _quotient("denoiser", ("base_denoiser", "noise"), early, _passed, EARLY),
            TimedRule("velocity", ("denoiser", "base_denoiser", "noise"), velocity, rate_ends),
        )

    def _gaussian_rules(self) -> tuple[Rule, ...]:
        """x0 ~ N(0, I) independent of x1: everything through x = t D − V s, u = D + k s."""
        variance, slack, whole = self._variance, self._slack, self._whole

        def velocity(t: Tensor, x: Tensor, d: Tensor) -> Tensor:
            return d + _times(slack(t), _over(_times(t, d) - x, variance, t, LATE))

        def lift(t: Tensor, x: Tensor, u: Tensor) -> Tensor:
            return _times(variance(t), u) + _times(slack(t), x)

        def to_score(t: Tensor, x: Tensor, q: Tensor) -> Tensor:
            return _times(t, q) - x

        late = () if self.gamma == "sqrt" else LATE
        direct: tuple[Rule, ...] = (
            TimedRule("velocity", ("denoiser",), velocity, LATE),
            _quotient("denoiser", ("velocity",), lift, whole, late),
        )
        return (
            *(direct if self.latent else ()),
            _quotient("score", ("velocity",), to_score, whole, late),
            _quotient("score", ("denoiser",), to_score, variance, LATE),
            _quotient("score", ("base_denoiser",), lambda t, x, b: -b, _left, LATE),
            TimedRule("base_denoiser", ("score",), lambda t, x, s: -_times(1 - t, s)),
            _quotient(
                "velocity", ("score",), lambda t, x, s: x + _times(whole(t), s), _passed, EARLY
            ),
            _quotient(
                "denoiser", ("score",), lambda t, x, s: x + _times(variance(t), s), _passed, EARLY
            ),
        )


def _left(t: Tensor) -> Tensor:
    return 1 - t


def _passed(t: Tensor) -> Tensor:
    return t


def _times(factor: Tensor, x: Tensor) -> Tensor:
    return per_row(factor, x) * x


def _inside(t: Tensor, singular: tuple[float, ...]) -> Tensor:
    """The time, kept at a distance EDGE from singular ends."""
    return t.clamp(EDGE if 0.0 in singular else None, 1 - EDGE if 1.0 in singular else 1.0)


def _over(
    x: Tensor, divisor: Callable[[Tensor], Tensor], t: Tensor, singular: tuple[float, ...]
) -> Tensor:
    return x / per_row(divisor(_inside(t, singular)), x)


def _quotient(
    gives: str,
    needs: tuple[str, ...],
    numerator: Callable[..., Tensor],
    divisor: Callable[[Tensor], Tensor],
    singular: tuple[float, ...],
) -> TimedRule:
    """The rule numerator(t, x, …)/divisor(t), whose divisor vanishes at the singular times."""

    def formula(t: Tensor, x: Tensor, *values: Tensor) -> Tensor:
        return _over(numerator(t, x, *values), divisor, t, singular)

    return TimedRule(gives, needs, formula, singular)
