r"""Dynamics of a composition: particles that move, weigh themselves and track log-densities.

For h_t = Π q_i^{γ_i}, s* = Σ γ_i s_i, any velocity v* and any noise a = σσᵀ (a function of time),

    dX = (v* + ½ a s*) dt + σ dW           ½ a s* and σ together leave h_t as it is
    d log w = g dt                         g = div v* + Σ γ_i D_i + Σ γ̇_i ℓ_i
    D_i = −div v_i + (v* − v_i)·s_i        ∂_t log q_i as seen by a particle that follows v*
    dℓ_i = [D_i + ½ (a s*)·s_i + ½ a:∇s_i] dt + s_i·σ dW

(ℓ_i = log q_i(X) by Itô, with the very dW that moves X) has E[w f(X)]/E[w] = ∫ f h_t/Z_t and
E[w] = Z_t/Z_0 at every t (course, L8.16–L8.19; Skreta et al. 2025, arXiv 2503.02819; ACE, arXiv
2512.10339). With v* = Σ γ_i v_i the divergences cancel:

    g = Σ γ_i (v* − v_i)·s_i + Σ γ̇_i ℓ_i

so no derivative of a network is needed, unless a log-density with γ̇_i ≠ 0 must be tracked. With
v* = −f + ½σ² s* of experts that share one noising process (f, σ) it is the Feynman–Kac corrector of
lecture 7. The state is a dict: "x", and "log_density" ``(batch, k)`` for the k tracked experts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from genpath.divergences import exact_divergence, hutchinson_divergence
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator
from genpath.noises import FactorNoise, MatrixFreeNoise, NoiseMap, ScalarNoise
from genpath.parts import Parts
from genpath.spaces import Euclidean, Product
from genpath.states import flat_event, per_row

from .compositions import Composition
from .experts import Expert, dot

__all__ = ["Blend", "Composed", "Follow", "Noising", "Sigma", "Through", "Transport"]

Sigma = float | Callable[[Tensor], Tensor] | Tensor
"""σ: a number, a function of times ``(batch,)``, or a constant matrix ``(d, k)``."""

X, LOG_DENSITY, PROBE = "x", "log_density", "probe"


@dataclass(frozen=True)
class Scene:
    """What a transport may use: one evaluation of all experts.

    Args:
        t, x: times ``(batch,)`` and states ``(batch, *event)``.
        gammas: γ_i(t), each ``(batch,)``.
        values: the fields of each expert.
        score: s*.
        probe: of the row, or None for exact divergences.
    """

    t: Tensor
    x: Tensor
    gammas: Sequence[Tensor]
    values: Sequence[Mapping[str, Tensor]]
    score: Tensor
    probe: Tensor | None


class Transport(Protocol):
    """v*: the velocity that particles follow beside the noise; any is right, some are cheap.

    ``needs`` names fields of experts that it uses beside velocity and score; ``cancels`` says that
    it is Σ γ_i v_i, whose divergence need not be known.
    """

    @property
    def needs(self) -> frozenset[str]: ...

    @property
    def cancels(self) -> bool: ...

    def __call__(self, scene: Scene) -> tuple[Tensor, Tensor | None]:
        """v* and div v*; None for the divergence where it cancels."""
        ...


@dataclass(frozen=True)
class Blend:
    """v* = Σ γ_i v_i: the default, whose weight needs no divergence."""

    needs: frozenset[str] = frozenset()
    cancels: bool = True

    def __call__(self, scene: Scene) -> tuple[Tensor, Tensor | None]:
        pairs = zip(scene.gammas, scene.values, strict=True)
        return _total(per_row(g, v["velocity"]) * v["velocity"] for g, v in pairs), None


@dataclass(frozen=True)
class Follow:
    """v* = c v_i: the velocity of one expert, times a number; c = 0 is no transport at all.

    Args:
        index: of the expert, in the order of the terms.
        factor: c.
    """

    index: int = 0
    factor: float = 1.0
    needs: frozenset[str] = frozenset({"velocity_divergence"})
    cancels: bool = False

    def __call__(self, scene: Scene) -> tuple[Tensor, Tensor | None]:
        values = scene.values[self.index]
        return self.factor * values["velocity"], self.factor * values["velocity_divergence"]


@dataclass(frozen=True)
class Noising:
    """v* = −f + ½σ² s*: the one of the Feynman–Kac correctors, for experts with one (f, σ).

    Args:
        drift: f, ``(t, x) -> (batch, *event)``, of the noising process, in our time.
        sigma: its σ, a function of times.
    """

    drift: Callable[[Tensor, Tensor], Tensor]
    sigma: Callable[[Tensor], Tensor]
    needs: frozenset[str] = frozenset({"velocity_divergence", "score_divergence"})
    cancels: bool = False

    def __call__(self, scene: Scene) -> tuple[Tensor, Tensor | None]:
        f, div_f = _with_divergence(self.drift, scene)
        half = 0.5 * self.sigma(scene.t) ** 2
        pairs = zip(scene.gammas, scene.values, strict=True)
        div_score = _total(g * v["score_divergence"] for g, v in pairs)
        return per_row(half, f) * scene.score - f, half * div_score - div_f


@dataclass(frozen=True)
class Through:
    """v* = any field: ``(t, x) -> (batch, *event)``, differentiable.

    Args:
        field: the velocity.
    """

    field: Callable[[Tensor, Tensor], Tensor]
    needs: frozenset[str] = frozenset({"velocity_divergence"})
    cancels: bool = False

    def __call__(self, scene: Scene) -> tuple[Tensor, Tensor | None]:
        return _with_divergence(self.field, scene)


def _with_divergence(function: Any, scene: Scene) -> tuple[Tensor, Tensor]:
    space = Euclidean(*scene.x.shape[1:])
    if scene.probe is None:
        return exact_divergence(space, function, scene.t, scene.x)
    return hutchinson_divergence(space, function, scene.t, scene.x, scene.probe)


@dataclass(frozen=True)
class Composed:
    """A composition with the dynamics that samples it.

    Args:
        composition: experts and exponents.
        sigma: σ ≥ 0, any; 0 is deterministic. A matrix ``(d, k)`` for noise that is not isotropic.
        transport: v*.
        track: "auto" takes exact log-densities where experts have them and tracks the others by
            Itô; "ito" tracks all; experts with γ̇ = 0 need neither.
        divergence: "exact", one derivative per coordinate, or "hutchinson", one along a probe that
            each particle keeps: unbiased for the rate, so E[Ẑ] is biased by O(variance).

    Raises:
        DomainError: an unknown option, a negative σ, or a transport that follows no expert.
        CapabilityError: an expert lacks a field that is needed.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> normal = FieldExpert(lambda t, x: (0 * x, -x), (1,), "normal")
        >>> parts = Composed(normal**2, sigma=1.0).generator()(0.0, {"x": torch.ones(1, 1)})
        >>> parts.velocity["x"], parts.potential + 0.0  # ½σ² · 2 s;  h does not move
        (tensor([[-1.]]), tensor([0.]))
    """

    composition: Composition
    sigma: Sigma = 1.0
    transport: Transport = field(default_factory=Blend)
    track: Literal["auto", "ito"] = "auto"
    divergence: Literal["exact", "hutchinson"] = "exact"

    def __post_init__(self) -> None:
        for name, known in (("track", ("auto", "ito")), ("divergence", ("exact", "hutchinson"))):
            if getattr(self, name) not in known:
                got = repr(getattr(self, name))
                raise DomainError("Composed", f"{name} is {' or '.join(known)}.", got=got)
        if isinstance(self.sigma, (int, float)) and not 0 <= self.sigma < math.inf:
            raise DomainError("Composed", "σ ≥ 0, finite.", got=f"sigma {self.sigma}")
        size = math.prod(self.composition.event_shape)
        if isinstance(self.sigma, Tensor) and (
            self.sigma.dim() != 2 or self.sigma.shape[0] != size
        ):
            got = f"sigma {tuple(self.sigma.shape)}, points {self.composition.event_shape}"
            raise ShapeError("Composed", "a matrix σ is (d, k).", got=got)
        index = getattr(self.transport, "index", 0)
        if not 0 <= index < len(self.composition.terms):
            raise DomainError("Composed", "the transport follows an expert.", got=f"index {index}")
        for expert, names in zip(self.composition.experts, self._names, strict=True):
            expert.wanted(names)

    # -- what is needed of whom --------------------------------------------------------------

    @cached_property
    def tracked(self) -> tuple[int, ...]:
        """The experts whose log-densities are carried by the state."""
        moving = [i for i, g in enumerate(self.composition.exponents) if not g.is_constant]
        experts = self.composition.experts
        return tuple(i for i in moving if self.track == "ito" or "log_prob" not in experts[i].has)

    @cached_property
    def _names(self) -> tuple[frozenset[str], ...]:
        found = []
        for i, gamma in enumerate(self.composition.exponents):
            names = {"velocity", "score"} | self.transport.needs
            if not self.transport.cancels:
                names.add("velocity_divergence")
            if i in self.tracked:
                names |= {"velocity_divergence"} | self._trace
            elif not gamma.is_constant:
                names.add("log_prob")
            found.append(frozenset(names))
        return tuple(found)

    @property
    def _trace(self) -> frozenset[str]:
        """The field for ½ a:∇s: not needed without noise, the divergence of s if a is a number."""
        if isinstance(self.sigma, Tensor) or self.sigma == 0:
            return frozenset()
        return frozenset({"score_divergence"})

    @property
    def probes(self) -> bool:
        """Whether each particle carries a probe for its divergences."""
        needed = frozenset().union(*self._names) | self.transport.needs
        return self.divergence == "hutchinson" and any(n.endswith("divergence") for n in needed)

    @cached_property
    def space(self) -> Product:
        """Where the moving leaves live."""
        factors: dict[str, Any] = {X: self.composition.space}
        if self.tracked:
            factors[LOG_DENSITY] = Euclidean(len(self.tracked))
        return Product(factors)

    # -- states ------------------------------------------------------------------------------

    def state(self, x: Tensor, t: float, rng: torch.Generator) -> dict[str, Tensor]:
        """The state of particles at ``x`` at the starting time: with log-densities and probes.

        A log-density starts from the expert's own where it has one, else from its start law.

        Raises:
            CapabilityError: a tracked expert has neither.
        """
        state = {X: x}
        if self.tracked:
            columns = [self._log_start(self.composition.experts[i], x, t) for i in self.tracked]
            state[LOG_DENSITY] = torch.stack(columns, 1)
        if self.probes:
            signs = torch.randint(0, 2, x.shape, generator=rng, device=x.device)
            state[PROBE] = (2 * signs - 1).to(x.dtype)
        return state

    def _log_start(self, expert: Expert, x: Tensor, t: float) -> Tensor:
        if "log_prob" in expert.has:
            return expert.log_prob(torch.full((len(x),), t, dtype=x.dtype, device=x.device), x)
        law, index = expert.start, getattr(expert, "coordinates", None)
        if law is None:
            raise CapabilityError(
                f"expert {expert.name}",
                "a tracked log-density starts from a known one.",
                got="neither log_prob nor start",
                fix="give the expert `start=Normal(…)`",
            )
        return law.log_prob(x if index is None else x[:, list(index)])

    # -- the generator -----------------------------------------------------------------------

    def generator(self) -> MarkovGenerator:
        """The Markov generator of (X, ℓ) with the potential g."""
        silent = isinstance(self.sigma, (int, float)) and self.sigma == 0
        has = {"velocity", "potential"} | (set() if silent else {"diffusion"})
        return MarkovGenerator(self.space, self._parts, frozenset(has))

    def _parts(self, t: Tensor, state: Mapping[str, Tensor]) -> Parts:
        x, probe = state[X], state.get(PROBE)
        exponents = self.composition.exponents
        gammas = [gamma(t) for gamma in exponents]
        experts = self.composition.experts
        values = [e.fields(n, t, x, probe) for e, n in zip(experts, self._names, strict=True)]
        score = _total(per_row(g, x) * v["score"] for g, v in zip(gammas, values, strict=True))
        flow, divergence = self.transport(Scene(t, x, gammas, values, score, probe))
        weight = x.new_zeros(len(x)) if divergence is None else divergence
        for g, v in zip(gammas, values, strict=True):
            gain = dot(flow - v["velocity"], v["score"])
            if not self.transport.cancels:
                gain = gain - v["velocity_divergence"]
            weight = weight + g * gain
        for i, gamma in enumerate(exponents):
            if gamma.is_constant:
                continue
            if i in self.tracked:
                log_density = state[LOG_DENSITY][:, self.tracked.index(i)]
            else:
                log_density = values[i]["log_prob"]
            weight = weight + gamma.rate(t) * log_density
        push = self._push(t, score)
        velocity = {X: flow if push is None else flow + push}
        if self.tracked:
            velocity[LOG_DENSITY] = self._gains(t, x, flow, push, values)
        return Parts(velocity, self._noise(t, x, values), None, weight)

    def _sigma_at(self, t: Tensor) -> Tensor | float:
        """σ(t) where it is a number."""
        assert not isinstance(self.sigma, Tensor)
        return self.sigma(t) if callable(self.sigma) else self.sigma

    def _push(self, t: Tensor, score: Tensor) -> Tensor | None:
        """½ a s*."""
        if isinstance(self.sigma, Tensor):
            root = self._root(score)
            return (0.5 * flat_event(score) @ root @ root).reshape(score.shape)
        sigma = self._sigma_at(t)
        if not isinstance(sigma, Tensor) and sigma == 0:
            return None
        return 0.5 * per_row(sigma * sigma, score) * score

    def _gains(
        self,
        t: Tensor,
        x: Tensor,
        flow: Tensor,
        push: Tensor | None,
        values: Sequence[Mapping[str, Tensor]],
    ) -> Tensor:
        """The drift of the tracked log-densities: ``(batch, k)``."""
        columns = []
        for i in self.tracked:
            v = values[i]
            gain = dot(flow - v["velocity"], v["score"]) - v["velocity_divergence"]
            if push is not None:
                gain = gain + dot(push, v["score"])
                if isinstance(self.sigma, Tensor):
                    gain = gain + 0.5 * self._along_noise(self.composition.experts[i], t, x)
                else:
                    gain = gain + 0.5 * self._sigma_at(t) ** 2 * v["score_divergence"]
            columns.append(gain)
        return torch.stack(columns, 1)

    def _along_noise(self, expert: Expert, t: Tensor, x: Tensor) -> Tensor:
        """a:∇s, one forward derivative per column of σ."""
        assert isinstance(self.sigma, Tensor)
        directions = self._root(x).reshape(-1, 1, *x.shape[1:]).expand(-1, *x.shape)

        def one(direction: Tensor) -> Tensor:
            slope = torch.func.jvp(lambda y: expert.score(t, y), (x,), (direction,))[1]
            return dot(slope, direction)

        return torch.func.vmap(one)(directions).sum(0)

    def _noise(
        self, t: Tensor, x: Tensor, values: Sequence[Mapping[str, Tensor]]
    ) -> NoiseMap | None:
        sigma = None if isinstance(self.sigma, Tensor) else self._sigma_at(t)
        if sigma is not None and not isinstance(sigma, Tensor) and sigma == 0:
            return None
        if sigma is not None and not self.tracked:
            return FactorNoise({X: ScalarNoise(sigma)})
        scores = [values[i]["score"] for i in self.tracked]

        def together(noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
            z = noise[X]
            if sigma is None:
                moved = (flat_event(z) @ self._root(z)).reshape(z.shape)
            else:
                moved = per_row(sigma, z) * z
            if not scores:
                return {X: moved}
            return {X: moved, LOG_DENSITY: torch.stack([dot(moved, s) for s in scores], 1)}

        return MatrixFreeNoise(together, (X,), uniform=not scores)

    def _root(self, like: Tensor) -> Tensor:
        """The symmetric root of a = σσᵀ: the same law as σ, driven by d noises."""
        return self._symmetric_root.to(like)

    @cached_property
    def _symmetric_root(self) -> Tensor:
        assert isinstance(self.sigma, Tensor)
        values, vectors = torch.linalg.eigh((self.sigma @ self.sigma.T).double())
        root: Tensor = vectors * values.clamp_min(0).sqrt() @ vectors.T
        return root


def _total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of one tensor or more."""
    return functools.reduce(torch.add, terms)
