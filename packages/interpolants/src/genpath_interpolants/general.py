r"""Interpolants that need not be spatially linear: x_t = I(t, x0, x1) + A(t) z.

    velocity b = E[∂_t I + Ȧ z | x]   interpolant_velocity v = E[∂_t I | x]   noise E[z | x]
    score s = −A^{−⊤} E[∇V(z) | x]    latent_gradient E[∇V(z) | x]

For A = γ I and normal z these are b = v + γ̇ E[z | x] = v − γγ̇ s and s = −E[z | x]/γ (Albergo, Boffi
& Vanden-Eijnden 2023, arXiv 2303.08797, definition 1, theorems 6 to 8). What x_t is at the ends
follows from I alone, and is checked when a path is built:

    two-sided   I(0) = x0, I(1) = x1
    one-sided   I = α(t) x0 + J(t, x1), x0 ~ N(0, I) independent of x1: J(0) = 0, J(1) = x1, γ = 0,
                α(0) = 1, α(1) = 0, and s = −E[x0 | x]/α                            (section 3.2)
    mirror      I(0) = I(1) = x1, with a latent noise; x0 is not used               (section 3.3)
    free        nothing: a moving cloud x_t = F(t, x0, x1)

The factories of `genpath_interpolants.families` build each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator, flow
from genpath.paths import Draw
from genpath.predictions import Prediction, Rule
from genpath.schedules import Scalar
from genpath.spaces import Euclidean, Space
from genpath.states import per_row

from .endpoints import MEANINGS, converted_value, paired_times
from .latents import Latent
from .relations import EDGE, PAIRS, TimedRule, joint_rules

__all__ = ["Interpolation", "InterpolantPath", "Kind"]

Interpolation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``I(t, x0, x1)``: t ``(batch,)``, endpoints and result ``(batch, *event)``; maybe a module."""

Kind = Literal["two-sided", "one-sided", "mirror", "free"]
KINDS = ("two-sided", "one-sided", "mirror", "free")


@dataclass(frozen=True, eq=False)
class InterpolantPath:
    """x_t = I(t, x0, x1) + A(t) z on R^d.

    Args:
        state_space: a `Euclidean` space.
        interpolation: I. An `nn.Module` may learn: draws and targets are differentiable in its
            parameters.
        noise: γ² as a function of time or a `Scalar`, a `Latent` with a matrix or a law of its own,
            or None for γ = 0.
        kind: what I is at the ends.
        rate: ∂_t I in closed form; by `torch.func.jvp` if None.
        alpha: of a one-sided path, the weight of x0 in I; its score is −E[x0 | x]/α.
        breakpoints: times in (0, 1) at which I is not smooth in time.

    The velocity's target Ȧ z grows without bound where γ̇ does, as for γ² = a t(1−t); it uses γ̇ at
    the time clipped to [EDGE, 1 − EDGE].

    Raises:
        CapabilityError: the space is not Euclidean, or a matrix does not act on its points.
        DomainError: I has other ends than the kind declares, γ² is negative or does not vanish at
            the ends, a kind is unknown or lacks what it needs.

    Example:
        >>> def bent(t, x0, x1):
        ...     t = t[:, None]
        ...     return (1 - t) * x0 + t * x1 + t * (1 - t) * torch.sin(x0 - x1)
        >>> path = InterpolantPath(Euclidean(1), bent, lambda t: t * (1 - t))
        >>> x0, x1 = torch.zeros(1, 1), torch.ones(1, 1)
        >>> path.draw(1.0, x0, x1, torch.Generator()).state
        tensor([[1.]])
    """

    state_space: Space
    interpolation: Interpolation
    noise: Latent | Scalar | Callable[[Tensor], Tensor] | None = None
    kind: Kind = "two-sided"
    rate: Interpolation | None = None
    alpha: Scalar | None = None
    breakpoints: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        where = "InterpolantPath"
        if not isinstance(self.state_space, Euclidean):
            raise CapabilityError(
                where,
                "it lives on R^d.",
                got=repr(self.state_space),
                fix="choose the path of this space; `genpath components path` lists them",
            )
        if self.noise is not None and not isinstance(self.noise, Latent):
            object.__setattr__(self, "noise", Latent(self.noise))
        self._check_kind(where)
        if isinstance(self.noise, Latent):
            self.noise.check(self.state_space.event_shape, where)
        if not all(0 < point < 1 for point in self.breakpoints):
            got = ", ".join(f"{point:g}" for point in self.breakpoints)
            raise DomainError(where, "breakpoints lie inside (0, 1).", got=got)
        self._check_ends(where)

    # -- what it is --------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """Where x_t lives: the space of the endpoints."""
        return self.state_space

    @property
    def latent(self) -> bool:
        """Whether the path has a latent noise."""
        return self.noise is not None

    @property
    def mirror(self) -> bool:
        """Whether x0 plays no part."""
        return self.kind == "mirror"

    @property
    def _latent(self) -> Latent | None:
        assert self.noise is None or isinstance(self.noise, Latent)
        return self.noise

    @cached_property
    def predictions(self) -> Mapping[str, Prediction]:
        """What a network can be asked for: single quantities first, then joint ones."""
        names = ["velocity", "interpolant_velocity", "denoiser"]
        names += [] if self.mirror else ["base_denoiser"]
        latent = self._latent
        names += ["noise"] if latent is not None else []
        names += ["latent_gradient"] if latent is not None and not latent.law.gaussian else []
        names += ["score"] if latent is not None or self.alpha is not None else []
        assert isinstance(self.state_space, Euclidean)
        shape = self.state_space.event_shape
        found = {name: Prediction(name, shape, *MEANINGS[name]) for name in names}
        for pair in PAIRS:
            first, second = pair.split("+")
            if first in found and second in found:
                meaning = f"{MEANINGS[first][1]} and {MEANINGS[second][1]}"
                found[pair] = Prediction(pair, (2, *shape), False, meaning)
        return found

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """b = v + E[Ȧ z], s = −A^{−⊤} E[∇V(z)], both ways; for normal z also b = v − ȦA^⊤ s."""
        latent = self._latent
        rules: list[Rule] = []
        if latent is None:
            rules += [
                Rule("velocity", ("interpolant_velocity",), lambda t, x, v: v),
                Rule("interpolant_velocity", ("velocity",), lambda t, x, b: b),
            ]
        else:
            rules += _latent_rules(latent)
        if self.alpha is not None:
            rules += _base_rules(self.alpha)
        return (*rules, *joint_rules([name for name in self.predictions if "+" in name]))

    def convert(
        self, want: str, given: Mapping[str, Tensor], t: Tensor | float, x: Tensor
    ) -> Tensor:
        """The quantity ``want`` from the given ones, with its times checked.

        Raises:
            CapabilityError: the given quantities do not suffice.
            SingularTimeError: a conversion on the way is infinite at one of the times.

        Example:
            >>> line = lambda t, x0, x1: (1 - t[:, None]) * x0 + t[:, None] * x1
            >>> path = InterpolantPath(Euclidean(1), line, lambda t: t * (1 - t))
            >>> path.convert("score", {"noise": torch.ones(1, 1)}, 0.5, torch.zeros(1, 1))
            tensor([[-2.]])
        """
        return converted_value("InterpolantPath.convert", self.rules, want, given, t, x)

    # -- draws and targets -------------------------------------------------------------------

    def draw(self, t: Tensor | float, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        """x_t for each triple (t, x0, x1); z is drawn only where there is a latent noise.

        Raises:
            ShapeError: x0 and x1 do not pair up, or there is not one time per pair.
            DomainError: integer tensors, or x0 and x1 of two dtypes or devices.
        """
        times = paired_times(self.state_space, t, x0, x1, "InterpolantPath.draw")
        state, z, latent = self.interpolation(times, x0, x1), None, self._latent
        if latent is not None:
            z = latent.law.sample(x1, rng)
            state = state + latent.scaled(times, z)
        return Draw(times, state, x0, x1, z)

    def interpolation_rate(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        """∂_t I at times ``(batch,)``: ``(batch, *event)``."""
        if self.rate is not None:
            return self.rate(t, x0, x1)
        times = t.contiguous()
        found: Tensor = torch.func.jvp(
            lambda s: self.interpolation(s, x0, x1) + 0 * per_row(s, x1),
            (times,),
            (torch.ones_like(times),),
        )[1]
        return found

    def target(self, name: str, draw: Draw) -> Tensor:
        """The value that prediction ``name`` is regressed on; for a joint one both, on axis 1.

        Raises:
            CapabilityError: the path has no such prediction.
        """
        if name not in self.predictions:
            raise CapabilityError(
                "InterpolantPath.target",
                f"there is no prediction {name!r} for this path.",
                fix="choose one of " + ", ".join(self.predictions),
            )
        if "+" in name:
            return torch.stack([self.target(part, draw) for part in name.split("+")], 1)
        t, latent = draw.t, self._latent
        if name == "denoiser":
            return draw.x1  # type: ignore[no-any-return]
        if name == "base_denoiser":
            return draw.x0  # type: ignore[no-any-return]
        if name == "noise":
            return draw.latent  # type: ignore[no-any-return]
        if name == "score" and self.alpha is not None:
            return -draw.x0 / per_row(self.alpha(t.clamp(max=1 - EDGE)), draw.x0)  # type: ignore[no-any-return]
        if name in ("score", "latent_gradient"):
            assert latent is not None
            gradient = latent.law.gradient(draw.latent)
            return gradient if name == "latent_gradient" else latent.score(t, gradient)
        straight = self.interpolation_rate(t, draw.x0, draw.x1)
        if name == "velocity" and latent is not None:
            return straight + latent.rate(t, draw.latent)
        return straight

    def conditional_generator(self, x0: Tensor, x1: Tensor) -> MarkovGenerator:
        """u = ∂_t I + ȦA⁻¹(x − I): the flow that carries the law of I + A z for fixed endpoints.

        Without latent noise it carries the point I. γ̇/γ is taken at the clipped time.
        """
        latent = self._latent

        def velocity(t: Tensor, x: Any) -> Tensor:
            straight = self.interpolation_rate(t, x0, x1)
            if latent is None:
                return straight
            return straight + latent.carried(t, x - self.interpolation(t, x0, x1))

        return flow(self.state_space, velocity)

    # -- checks ------------------------------------------------------------------------------

    def _check_kind(self, where: str) -> None:
        if self.kind not in KINDS:
            raise DomainError(where, "kind is one of " + ", ".join(KINDS) + ".", got=self.kind)
        if self.kind == "mirror" and self.noise is None:
            raise DomainError(where, "a mirror has a latent noise.", got="noise None")
        if (self.kind == "one-sided") != (self.alpha is not None):
            raise DomainError(
                where,
                "a one-sided path, and no other, names α, the weight of its normal x0.",
                got=f"kind {self.kind!r}, alpha {'given' if self.alpha else 'None'}",
                fix="use genpath_interpolants.families.one_sided",
            )
        if self.kind == "one-sided" and self.noise is not None:
            raise DomainError(
                where,
                "a one-sided path has γ = 0: its latent is x0.",
                fix="put the noise into α: α² + γ² is the α² of the same law",
            )

    def _check_ends(self, where: str) -> None:
        """I at both ends, on eight random pairs."""
        if self.kind == "free":
            return
        dtype, device = _precision(self.interpolation)
        assert isinstance(self.state_space, Euclidean)
        shape, rng = (8, *self.state_space.event_shape), torch.Generator().manual_seed(0)
        x0, x1 = torch.randn(2, *shape, generator=rng, dtype=dtype).to(device)
        ends = {"two-sided": (x0, "x0"), "mirror": (x1, "x1"), "one-sided": (x0, "x0")}
        for time, (expected, words) in ((0.0, ends[self.kind]), (1.0, (x1, "x1"))):
            t = torch.full((8,), time, dtype=dtype, device=device)
            with torch.no_grad():
                found = self.interpolation(t, x0, x1)
            if found.shape != x0.shape:
                got = f"{tuple(found.shape)} from {tuple(x0.shape)}"
                raise ShapeError(where, "I has the shape of the endpoints.", got=got)
            gap = float((found - expected).abs().max())
            limit = 1e4 * torch.finfo(dtype).eps * float(1 + expected.abs().max())
            if not gap <= limit:
                raise DomainError(
                    where,
                    f"I(t = {time:g}, x0, x1) = {words}, as a {self.kind} path declares.",
                    got=f"off by up to {gap:.3g} on random endpoints",
                    fix="correct I, or declare the kind that it has",
                )


def _latent_rules(latent: Latent) -> list[Rule]:
    v, b = "interpolant_velocity", "velocity"
    source = "noise" if latent.law.gaussian else "latent_gradient"
    rules: list[Rule] = [
        TimedRule("score", (source,), lambda t, x, g: latent.score(t, g), (0.0, 1.0)),
        Rule(source, ("score",), lambda t, x, s: latent.gradient(t, s)),
    ]
    if latent.law.gaussian:  # before those from the noise, whose γ̇ may be infinite
        rules += [
            Rule(b, (v, "score"), lambda t, x, v, s: v + latent.drift(t, s)),
            Rule(v, (b, "score"), lambda t, x, b, s: b - latent.drift(t, s)),
        ]
    singular = tuple(
        end for end in (0.0, 1.0) if float(latent.half_rate(torch.tensor([end]))[0]) != 0
    )
    return [
        *rules,
        TimedRule(b, (v, "noise"), lambda t, x, v, z: v + latent.rate(t, z), singular),
        TimedRule(v, (b, "noise"), lambda t, x, b, z: b - latent.rate(t, z), singular),
    ]


def _base_rules(alpha: Scalar) -> list[Rule]:
    def score(t: Tensor, x: Tensor, base: Tensor) -> Tensor:
        return -base / per_row(alpha(t.clamp(max=1 - EDGE)), base)

    return [
        TimedRule("score", ("base_denoiser",), score, (1.0,)),
        Rule("base_denoiser", ("score",), lambda t, x, s: -per_row(alpha(t), s) * s),
    ]


def _precision(interpolation: Interpolation) -> tuple[torch.dtype, torch.device]:
    """The dtype and device of a module's parameters; torch's default where there are none."""
    if isinstance(interpolation, nn.Module):
        for parameter in interpolation.parameters():
            return parameter.dtype, parameter.device
    return torch.get_default_dtype(), torch.device("cpu")
