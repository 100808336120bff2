r"""Spatially linear stochastic interpolants on R^d.

    x_t = I_t + γ(t) z,     I_t = α(t) x0 + β(t) x1,     z ~ N(0, I) independent of (x0, x1)
    ẋ_t = α̇ x0 + β̇ x1 + γ̇ z

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 4.) What a network is asked for is
a conditional expectation given x_t = x:

    velocity u = E[ẋ_t]   interpolant_velocity v = E[∂_t I_t]   denoiser D = E[x1]
    base_denoiser B = E[x0]   noise N = E[z]   score s = ∇log p_t

or two of them at once, stacked: ``velocity+score``. How they lead to each other is
`genpath_interpolants.relations`. The schedule says which path it is:

    two-sided     x_0 = x0, x_1 = x1, any coupling of them, γ = 0 or a latent
    one-sided     the same with x0 ~ N(0, I) independent of x1: declare base="gaussian"
    mirror        α = 0, β = 1: x_t = x1 + γ z, the data at both ends; x0 is not used
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator, flow
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean, Space
from genpath.states import per_row, row_times

from .endpoints import MEANINGS, converted_value, paired_times
from .kernels import affine_draw, affine_sum
from .relations import EDGE, PAIRS, Spread, joint_rules, relations
from .schedules import linear_schedule

__all__ = ["LinearPath"]


@dataclass(frozen=True)
class LinearPath:
    """x_t = α(t) x0 + β(t) x1 + γ(t) z on R^d.

    Components of configs: ``interpolants.linear``, ``interpolants.trigonometric`` and the other
    presets of `genpath_interpolants.presets`.

    Args:
        state_space: a `Euclidean` space.
        schedule: α, β and γ²; 1 − t, t and 0 by default.
        base: "gaussian" declares x0 ~ N(0, C0) independent of x1; any prediction then leads to
            every other. It does not hold for a base of another covariance, nor for a coupling that
            pairs x0 with x1. "any" assumes nothing.
        base_covariance: C0 ``(d, d)``, positive definite, for points of shape ``(d,)``; I if None.

    Where γ̇ or α̇ is infinite at an end, the velocity's target uses its value at the time clipped to
    [EDGE, 1 − EDGE]; the marginal velocity itself is finite.

    Raises:
        CapabilityError: the space is not Euclidean.
        DomainError: an unknown ``base``; a covariance that is not symmetric positive definite, or
            of a base that is not "gaussian"; a one-sided schedule with another base.
        ShapeError: a covariance that is not ``(d, d)``.

    Example:
        >>> path = LinearPath(Euclidean(2))
        >>> x0, x1 = torch.zeros(1, 2), torch.ones(1, 2)
        >>> path.draw(torch.tensor([0.25]), x0, x1, torch.Generator()).state
        tensor([[0.2500, 0.2500]])
    """

    state_space: Space
    schedule: AffineSchedule = field(default_factory=linear_schedule)
    base: Literal["gaussian", "any"] = "any"
    base_covariance: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.state_space, Euclidean):
            raise CapabilityError(
                "LinearPath",
                "it lives on R^d.",
                got=repr(self.state_space),
                fix="choose the path of this space; `genpath components path` lists them",
            )
        if self.base not in ("gaussian", "any"):
            raise DomainError("LinearPath", "base is gaussian or any.", got=repr(self.base))
        if self.schedule.boundary.kind == "one-sided" and self.base != "gaussian":
            raise DomainError(
                "LinearPath",
                "a one-sided path starts from a normal law, independent of the data.",
                got=f"base {self.base!r}",
                fix="declare base: gaussian, or choose a two-sided schedule",
            )
        if self.base_covariance is not None:
            _check_covariance(self.base_covariance, self.state_space, self.base)

    # -- what it is --------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """Where x_t lives: the space of the endpoints."""
        return self.state_space

    @cached_property
    def latent(self) -> bool:
        """Whether the path has a latent noise z (γ ≠ 0)."""
        return _nonzero(self.schedule.gamma_squared)

    @cached_property
    def mirror(self) -> bool:
        """Whether x0 plays no part (α = 0)."""
        return not _nonzero(self.schedule.alpha_squared)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """Times in (0, 1) at which a field is not smooth in time: integrators step on them."""
        return self.schedule.breakpoints

    @cached_property
    def predictions(self) -> Mapping[str, Prediction]:
        """What a network can be asked for: single quantities first, then joint ones.

        ``noise`` needs γ ≠ 0, ``score`` a latent or a normal base, ``base_denoiser`` α ≠ 0.
        """
        names = ["velocity", "interpolant_velocity", "denoiser"]
        if self.mirror and not _nonzero(self.schedule.beta.rate):
            names.remove("interpolant_velocity")  # I_t = x1 does not move
        names += [] if self.mirror else ["base_denoiser"]
        names += ["noise"] if self.latent else []
        names += ["score"] if self.latent or self.base == "gaussian" else []
        assert isinstance(self.state_space, Euclidean)
        shape = self.state_space.event_shape
        found = [Prediction(name, shape, *MEANINGS[name]) for name in names]
        for pair in PAIRS:
            parts = pair.split("+")
            if all(part in names for part in parts):
                meaning = " and ".join(MEANINGS[part][1] for part in parts)
                found.append(Prediction(pair, (2, *shape), False, meaning))
        return {prediction.name: prediction for prediction in found}

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The conversions of `genpath_interpolants.relations`, as `TimedRule`s."""
        spread = None
        if self.base_covariance is not None:
            values, vectors = torch.linalg.eigh(self.base_covariance.double())
            spread = Spread(values, vectors)
        one_noise = self.base == "gaussian" or self.mirror
        known = self.predictions
        single = [
            rule
            for rule in relations(self.schedule, one_noise=one_noise, spread=spread)
            if rule.gives in known and all(name in known for name in rule.needs)
        ]
        return (*single, *joint_rules([name for name in self.predictions if "+" in name]))

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
            DomainError: a time outside [0, 1].
            SingularTimeError: a conversion on the way is infinite at one of the times.

        Example:
            >>> path, x = LinearPath(Euclidean(1), base="gaussian"), torch.ones(1, 1)
            >>> path.convert("denoiser", {"velocity": torch.ones(1, 1)}, 0.5, x)
            tensor([[1.5000]])
        """
        return converted_value("LinearPath.convert", self.rules, want, given, t, x)

    # -- draws and targets -------------------------------------------------------------------

    def draw(self, t: Tensor | float, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        """x_t for each triple (t, x0, x1), in their dtype; z is drawn only when γ ≠ 0.

        Raises:
            ShapeError: x0 and x1 do not pair up, or there is not one time per pair.
            DomainError: integer tensors, or x0 and x1 of two dtypes or devices.
        """
        times = paired_times(self.state_space, t, x0, x1, "LinearPath.draw")
        z = self._noise(x1, rng)
        if self._blends(x0):
            return Draw(times, self._blend(times, x0, x1, z), x0, x1, z)
        return Draw(times, affine_sum(x0, x1, z, *self._weights(times)), x0, x1, z)

    def draw_with_target(
        self, name: str, t: Tensor | float, x0: Tensor, x1: Tensor, rng: torch.Generator
    ) -> tuple[Draw, Tensor]:
        """`draw` and `target` together: for the velocity, in one pass over x0, x1 and z.

        The draw is that of `draw` for the same ``rng``, bit for bit on a CPU.

        Raises:
            CapabilityError: the path has no such prediction.
            ShapeError: x0 and x1 do not pair up, or there is not one time per pair.
            DomainError: integer tensors, or x0 and x1 of two dtypes or devices.

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
        times = paired_times(self.state_space, t, x0, x1, "LinearPath.draw_with_target")
        z = self._noise(x1, rng)
        if self._blends(x0):
            state, target = self._blend(times, x0, x1, z), torch.sub(x1, x0)
            if not self._straight:
                target = target.mul_(_row(self.schedule.beta.rate(times), x0))
            if z is not None:
                target = target.addcmul_(_row(self._gamma_rate(times), z), z)
        else:
            weights, rates = self._weights(times), self._rates(times)
            state, target = affine_draw(x0, x1, z, *weights, *rates)
        return Draw(times, state, x0, x1, z), target

    def target(self, name: str, draw: Draw) -> Tensor:
        """The value that prediction ``name`` is regressed on: α̇ x0 + β̇ x1 + γ̇ z, its part without
        z, x1, x0, z or the conditional score; for a joint prediction both, stacked on axis 1.

        Raises:
            CapabilityError: the path has no such prediction.
        """
        if name not in self.predictions:
            raise CapabilityError(
                "LinearPath.target",
                f"there is no prediction {name!r} for this schedule and base {self.base!r}.",
                fix="choose one of " + ", ".join(self.predictions),
            )
        if "+" in name:
            return torch.stack([self.target(part, draw) for part in name.split("+")], 1)
        t, x0, x1, z = draw.t, draw.x0, draw.x1, draw.latent
        if name == "denoiser":
            return x1  # type: ignore[no-any-return]
        if name == "base_denoiser":
            return x0  # type: ignore[no-any-return]
        if name == "noise":
            return z  # type: ignore[no-any-return]
        if name == "score":
            return self._conditional_score(t, x0, z)
        alpha_rate, beta_rate, gamma_rate = self._rates(t)
        if name == "velocity" and z is not None:
            return affine_sum(x0, x1, z, alpha_rate, beta_rate, gamma_rate)
        return affine_sum(x0, x1, None, alpha_rate, beta_rate, None)

    def _conditional_score(self, t: Tensor, x0: Tensor, z: Tensor | None) -> Tensor:
        """−z/γ; for a normal base −V⁻¹(α x0 + γ z), whose variance is that of the noise."""
        gamma = self.schedule.gamma
        if self.base == "any":
            assert z is not None
            return -z / per_row(gamma(t.clamp(EDGE, 1 - EDGE)), z)
        inner = t.clamp(max=1 - EDGE)
        total = _times(self.schedule.alpha(t), x0)
        if z is not None:
            total = total + _times(gamma(t), z)
        if self.base_covariance is None:
            variance = self.schedule.alpha_squared(inner) + self.schedule.gamma_squared(inner)
            return -total / per_row(variance, total)
        values, vectors = (part.to(total) for part in torch.linalg.eigh(self.base_covariance))
        variance = self.schedule.alpha_squared(inner)[:, None] * values
        variance = variance + self.schedule.gamma_squared(inner)[:, None]
        score: Tensor = -((total @ vectors) / variance) @ vectors.T
        return score

    def conditional_generator(self, x0: Tensor, x1: Tensor) -> MarkovGenerator:
        """u = ∂_t I + (γ̇/γ)(x − I_t), the flow that carries N(I_t, γ² I).

        For γ = 0 it is α̇ x0 + β̇ x1, and carries the point I_t. γ̇/γ is infinite at both ends, where
        x = I_t; it is taken at the time clipped to [EDGE, 1 − EDGE].
        """

        def velocity(t: Tensor, x: Any) -> Tensor:
            alpha_rate, beta_rate, _ = self._rates(t)
            straight = _times(alpha_rate, x0) + _times(beta_rate, x1)
            if not self.latent:
                return straight
            inner = t.clamp(EDGE, 1 - EDGE)
            ratio = self.schedule.gamma_gamma_rate(inner) / self.schedule.gamma_squared(inner)
            alpha, beta, _ = self._weights(t)
            return straight + _times(ratio, x - _times(alpha, x0) - _times(beta, x1))

        return flow(self.state_space, velocity)

    def renoise(self, t_from: Tensor, t_to: Tensor, state: Tensor, rng: torch.Generator) -> Tensor:
        """A draw of x_s given x_t = state, s = ``t_to`` ≤ t = ``t_from``, for a normal base.

        N((β_s/β_t) x_t, V(s) − (β_s/β_t)² V(t)) with V = α² C0 + γ²: the Markov process with the
        path's laws given x1. It is not the two-time law of x_t itself, whose x0 and z stay fixed.
        Where β_t = 0 it is the identity.

        Raises:
            CapabilityError: ``base`` is not "gaussian", or V/β² does not decrease in t, so that
                no such process exists.
        """
        if self.base != "gaussian":
            raise CapabilityError(
                "LinearPath.renoise",
                "a noising kernel needs a normal base, independent of the data.",
                got=f"base {self.base!r}",
                fix="set base: gaussian where it holds",
            )
        if not self._noises:
            raise CapabilityError(
                "LinearPath.renoise", "V/β² decreases in time, so that noise can only be added."
            )
        t, s = row_times(t_from, state, "renoise"), row_times(t_to, state, "renoise")
        beta = self.schedule.beta
        ratio = torch.where(beta(t) > 0, beta(s) / torch.where(beta(t) > 0, beta(t), 1.0), 1.0)
        z = torch.randn(state.shape, generator=rng, device=state.device, dtype=state.dtype)
        alpha2, gamma2 = self.schedule.alpha_squared, self.schedule.gamma_squared
        own, rest = alpha2(s) - ratio**2 * alpha2(t), gamma2(s) - ratio**2 * gamma2(t)
        if self.base_covariance is None:
            return _times(ratio, state) + _times((own + rest).clamp_min(0).sqrt(), z)
        values, vectors = (part.to(state) for part in torch.linalg.eigh(self.base_covariance))
        std = (own[:, None] * values + rest[:, None]).clamp_min(0).sqrt()
        added: Tensor = (std * z) @ vectors.T
        return _times(ratio, state) + added

    # -- scalars -----------------------------------------------------------------------------

    def _blends(self, x: Tensor) -> bool:
        """Whether I_t is drawn as x0 + β (x1 − x0), one pass in the place of two: where α = 1 − β,
        on a CPU, and not in half precision, whose sums are accumulated in float32 elsewhere."""
        return self._affine and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)

    def _blend(self, t: Tensor, x0: Tensor, x1: Tensor, z: Tensor | None) -> Tensor:
        """x0 + β (x1 − x0) + γ z; x0 and x1 exactly where β is 0 and 1."""
        state: Tensor = torch.lerp(x0, x1, _row(self.schedule.beta(t), x0))
        return state if z is None else state.addcmul_(_row(self.schedule.gamma(t), z), z)

    @cached_property
    def _affine(self) -> bool:
        """Whether α = 1 − β."""
        t = torch.linspace(0, 1, 101, dtype=torch.float64)
        return bool((self.schedule.alpha(t) + self.schedule.beta(t) == 1).all())

    @cached_property
    def _straight(self) -> bool:
        """Whether β̇ = 1."""
        t = torch.linspace(0, 1, 101, dtype=torch.float64)
        return bool((self.schedule.beta.rate(t) == 1).all())

    def _noise(self, like: Tensor, rng: torch.Generator) -> Tensor | None:
        if not self.latent:
            return None
        return torch.randn(like.shape, generator=rng, device=like.device, dtype=like.dtype)

    def _weights(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """α, β and γ."""
        schedule = self.schedule
        return schedule.alpha(t), schedule.beta(t), schedule.gamma(t) if self.latent else None

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """α̇, β̇ and γ̇; an infinite one at the time clipped to [EDGE, 1 − EDGE]."""
        schedule = self.schedule
        inner = t.clamp(EDGE, 1 - EDGE)
        alpha_rate = schedule.alpha.rate(inner if self._steep else t)
        if not self.latent:
            return alpha_rate, schedule.beta.rate(t), None
        return alpha_rate, schedule.beta.rate(t), self._gamma_rate(t)

    def _gamma_rate(self, t: Tensor) -> Tensor:
        """γ̇ at the time clipped to [EDGE, 1 − EDGE]."""
        inner = t.clamp(EDGE, 1 - EDGE)
        return self.schedule.gamma_gamma_rate(inner) / self.schedule.gamma(inner)

    @cached_property
    def _steep(self) -> bool:
        """Whether α̇ is infinite at an end."""
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        return not bool(torch.isfinite(self.schedule.alpha.rate(ends)).all())

    @cached_property
    def _noises(self) -> bool:
        """Whether V/β² decreases, so that x_s given x_t adds noise."""
        t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
        values = [1.0]
        if self.base_covariance is not None:
            values = torch.linalg.eigvalsh(self.base_covariance.double()).tolist()
        beta = self.schedule.beta(t)
        if bool((beta <= 0).any()):
            return False
        ratios = [
            (self.schedule.alpha_squared(t) * v + self.schedule.gamma_squared(t)) / beta**2
            for v in values
        ]
        return all(float(ratio.diff().max()) <= 1e-9 for ratio in ratios)


def _nonzero(scalar: Any) -> bool:
    return float(scalar(torch.linspace(0, 1, 101, dtype=torch.float64)).abs().max()) > 0


def _times(factor: Tensor, x: Tensor) -> Tensor:
    return per_row(factor, x) * x


def _row(factor: Tensor, x: Tensor) -> Tensor:
    """A factor per row, in the dtype of x, that multiplies it."""
    found = per_row(factor.to(x.dtype), x)
    assert isinstance(found, Tensor)
    return found


def _check_covariance(covariance: Tensor, space: Euclidean, base: str) -> None:
    where = "LinearPath"
    if base != "gaussian":
        raise DomainError(where, "a covariance belongs to base: gaussian.", got=f"base {base!r}")
    shape = space.event_shape
    if len(shape) != 1 or covariance.shape != (shape[0], shape[0]):
        raise ShapeError(
            where,
            "base_covariance is (d, d) for points of shape (d,).",
            got=f"covariance {tuple(covariance.shape)}, points {shape}",
        )
    values = torch.linalg.eigvalsh(covariance.double())
    symmetric = torch.allclose(covariance, covariance.T, atol=1e-6 * float(covariance.abs().max()))
    if not symmetric or float(values.min()) <= 0:
        raise DomainError(
            where,
            "base_covariance is symmetric and positive definite.",
            got=f"least eigenvalue {float(values.min()):g}"
            + ("" if symmetric else ", not symmetric"),
        )
