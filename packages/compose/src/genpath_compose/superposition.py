r"""Superposition: experts joined by OR and by AND, with densities known or tracked.

OR is the mixture Σ w_i q_i, exactly, with noise or without:

    π_i = softmax_i(log w_i + ℓ_i)      s = Σ π_i s_i      v = Σ π_i v_i      ℓ_i = log q_t^{(i)}(x)

A mixture with known ℓ_i is an expert (`Mixture`). Without them they are tracked along the path of
each particle, by Itô's formula with the dW that moves it; a path of drift b and noise N dW has

    dℓ_i = [−div v_i + (b − v_i)·s_i + ½ tr(NNᵀ∇s_i)] dt + s_i·N dW

AND moves along the mean of all v_j + ½σ² s_j, corrected so that all dℓ_i are equal:

    D = (s_i − s_1)_{i ≥ 2}              b = (1/k) Σ_j (v_j + ½σ² s_j) + Dλ
    N = σ(I − P), P onto the span of D   Dᵀ N = 0: the noise tells none apart
    drift of ℓ_i − ℓ_1 = −r (ℓ_i − ℓ_1)  (k − 1) linear equations with the matrix DᵀD for λ

so that ℓ_i − ℓ_1 decays by e^{−rt}, and where it is 0 all experts find the particle equally likely.
For experts of one noising process b is Σ κ_j (v_j + ½σ² s_j) with Σ κ_j = 1. No law is prescribed:
it is no product, and nothing is known of where on {ℓ_1 = … = ℓ_k} particles end. (After Skreta et
al. 2024, arXiv 2412.17762. Solving for κ with the noise of each finite step, and Itô's formula for
noise in all directions, makes the tracked numbers agree but not the densities: the trace of P∇s is
lost, at every step size.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator
from genpath.noises import FactorNoise, MatrixFreeNoise, NoiseMap, ScalarNoise
from genpath.parts import Parts
from genpath.spaces import Euclidean, Product
from genpath.states import flat_event, per_row

from .dynamics import LOG_DENSITY, PROBE, X
from .experts import Expert, dot
from .mixtures import blend, log_weights, require_alike

__all__ = ["Agree", "Share", "Superposed", "both_of"]


# -- rules -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """OR: κ = softmax(τ (log w + ℓ)).

    Args:
        weights: in proportion to w_i; equal ones if None.
        temperature: τ; 1 is the mixture, any other number a heuristic without a known law.
    """

    weights: tuple[float, ...] | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            got = f"{self.temperature:g}"
            raise DomainError("Share", "τ ≥ 0, finite.", got=got)


@dataclass(frozen=True)
class Agree:
    """AND: the least correction for which the log-densities of all experts change alike.

    Where the scores of two experts coincide, as at the start of paths with one base law, no move
    tells them apart: the equations are solved as (DᵀD + ridge) λ = c, and |Dλ| is at most
    |c|/(2 √ridge). Start later, or raise the ridge, where that is too much for the step.

    Args:
        restore: r, the rate at which differences of log-densities decay.
        ridge: of the linear equations.
    """

    restore: float = 0.0
    ridge: float = 1e-8

    def __post_init__(self) -> None:
        if not (0 <= self.restore < math.inf and 0 < self.ridge < math.inf):
            got = f"restore {self.restore:g}, ridge {self.ridge:g}"
            raise DomainError("Agree", "restore ≥ 0 and ridge > 0, finite.", got=got)


def both_of(*experts: Expert, sigma: float = 0.0, restore: float = 0.0) -> Superposed:
    """AND: a path on which all experts agree how likely it is. A heuristic, see the module.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> from genpath_compose.normals import Normal
        >>> def at(m):  # N(m t, 1) on the line
        ...     both = lambda t, x: (0 * x + m, m * t[:, None] - x)
        ...     return FieldExpert(both, (1,), start=Normal.isotropic((1,)))
        >>> pair = both_of(at(-1.0), at(3.0))
        >>> state = pair.state(torch.full((1, 1), 0.5), 0.0)
        >>> pair.generator()(0.5, state).velocity["x"].round(decimals=4)  # along x = t, half way
        tensor([[1.]])
    """
    return Superposed(experts, Agree(restore), sigma)


# -- dynamics ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Superposed:
    """Experts with the rule that joins them, and the noise.

    The state is a dict: "x"; "log_density" ``(batch, k)`` where densities are tracked; "probe" for
    divergences by one probe. With `Share` of temperature 1 and particles that start from
    Σ w_i q_i(0), the law at every t is Σ w_i q_i(t), whatever σ.

    Args:
        experts: one or more, on points of one shape.
        rule: `Share` or `Agree`.
        sigma: σ, a number or a function of times.
        track: "auto" tracks where an expert has no log_prob; "ito" tracks always.
        divergence: "exact", or "hutchinson" by the probe of the row.
        drift_divergence: div f, ``(t, x) -> (batch,)``, where all experts come from one noising
            process (f, σ) with *this* σ: then −div v_i + ½σ² div s_i = div f, and tracking needs
            no divergence of a network.

    Raises:
        DomainError: an unknown option, a negative σ, or no expert.
        ShapeError: points or weights that do not go together.
        CapabilityError: an expert lacks a field that is needed.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> from genpath_compose.normals import Normal
        >>> normal = Normal.isotropic((1,))
        >>> still = FieldExpert(lambda t, x: (0 * x, -x), (1,), "a", start=normal)
        >>> one = Superposed([still, still], Share(), sigma=1.0)
        >>> state = one.state(torch.ones(1, 1), 0.0)
        >>> one.generator()(0.0, state).velocity  # ½σ² s;  −½ + ½ for log q: it stays
        {'x': tensor([[-0.5000]]), 'log_density': tensor([[0., 0.]])}
    """

    experts: Sequence[Expert]
    rule: Share | Agree = field(default_factory=Share)
    sigma: float | Callable[[Tensor], Tensor] = 0.0
    track: Literal["auto", "ito"] = "auto"
    divergence: Literal["exact", "hutchinson"] = "exact"
    drift_divergence: Callable[[Tensor, Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        for name, known in (("track", ("auto", "ito")), ("divergence", ("exact", "hutchinson"))):
            if getattr(self, name) not in known:
                got = repr(getattr(self, name))
                raise DomainError("Superposed", f"{name} is {' or '.join(known)}.", got=got)
        if isinstance(self.sigma, (int, float)) and not 0 <= self.sigma < math.inf:
            raise DomainError("Superposed", "σ ≥ 0, finite.", got=f"sigma {self.sigma}")
        require_alike(self.experts, "Superposed")
        if isinstance(self.rule, Share):
            log_weights(self.rule.weights, len(self.experts), "Superposed")
        for one in self.experts:
            one.wanted(self._names)

    # -- what is needed ----------------------------------------------------------------------

    @cached_property
    def tracked(self) -> bool:
        """Whether the log-densities are carried by the state."""
        return self.track == "ito" or any("log_prob" not in e.has for e in self.experts)

    @property
    def silent(self) -> bool:
        """Whether σ is 0."""
        return isinstance(self.sigma, (int, float)) and self.sigma == 0

    @cached_property
    def _names(self) -> tuple[str, ...]:
        names = {"velocity", "score"} | (set() if self.tracked else {"log_prob"})
        if (self.tracked or isinstance(self.rule, Agree)) and self.drift_divergence is None:
            names |= {"velocity_divergence"} | (set() if self.silent else {"score_divergence"})
        return tuple(sorted(names))

    @cached_property
    def space(self) -> Product:
        """Where the moving leaves live."""
        factors: dict[str, Any] = {X: Euclidean(*self.experts[0].event_shape)}
        if self.tracked:
            factors[LOG_DENSITY] = Euclidean(len(self.experts))
        return Product(factors)

    def state(self, x: Tensor, t: float, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """The state of particles at ``x`` at the starting time.

        Raises:
            CapabilityError: a tracked expert has neither log_prob nor start, or no ``rng`` is
                given for the probes.
        """
        state = {X: x}
        if self.tracked:
            at = torch.full((len(x),), t, dtype=x.dtype, device=x.device)
            state[LOG_DENSITY] = torch.stack([_log_start(e, at, x) for e in self.experts], 1)
        if self.divergence == "hutchinson":
            if rng is None:
                raise CapabilityError("Superposed.state", "probes are drawn from rng.", got="None")
            signs = torch.randint(0, 2, x.shape, generator=rng, device=x.device)
            state[PROBE] = (2 * signs - 1).to(x.dtype)
        return state

    # -- the generator -----------------------------------------------------------------------

    def generator(self) -> MarkovGenerator:
        """The Markov generator of (X, ℓ)."""
        has = {"velocity"} | (set() if self.silent else {"diffusion"})
        return MarkovGenerator(self.space, self._parts, frozenset(has))

    def shares(self, t: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        """κ of OR: ``(batch, k)``; the equal shares that AND corrects."""
        return self._scene(t, state).shares

    def _scene(self, t: Tensor, state: Mapping[str, Tensor]) -> _Scene:
        x, probe = state[X], state.get(PROBE)
        values = [e.fields(self._names, t, x, probe) for e in self.experts]
        if self.tracked:
            logs = state[LOG_DENSITY]
        else:
            logs = torch.stack([v["log_prob"] for v in values], 1)
        return _Scene(self, t, x, values, logs)

    def _parts(self, t: Tensor, state: Mapping[str, Tensor]) -> Parts:
        scene = self._scene(t, state)
        velocity = {X: scene.drift}
        if self.tracked:
            scores = [v["score"] for v in scene.values]
            along = torch.stack([dot(scene.drift, s) for s in scores], 1)
            velocity[LOG_DENSITY] = scene.rates + along
        return Parts(velocity, None if self.silent else self._noise(scene))

    def _noise(self, scene: _Scene) -> NoiseMap:
        if not self.tracked and scene.frame is None:
            return FactorNoise({X: ScalarNoise(scene.sigma)})
        scores = [v["score"] for v in scene.values] if self.tracked else []

        def together(noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
            z = noise[X] if scene.frame is None else _without(scene.frame, noise[X])
            moved = per_row(scene.sigma, z) * z
            if not scores:
                return {X: moved}
            return {X: moved, LOG_DENSITY: torch.stack([dot(moved, s) for s in scores], 1)}

        return MatrixFreeNoise(together, (X,))


@dataclass
class _Scene:
    """One evaluation of all experts, and what follows from it."""

    owner: Superposed
    t: Tensor
    x: Tensor
    values: Sequence[Mapping[str, Tensor]]
    logs: Tensor

    @cached_property
    def sigma(self) -> Tensor:
        sigma = self.owner.sigma
        found = sigma(self.t) if callable(sigma) else torch.full_like(self.t, sigma)
        return found.to(self.x)

    @cached_property
    def own(self) -> list[Tensor]:
        """v_j + ½σ² s_j."""
        half = per_row(0.5 * self.sigma**2, self.x)
        return [v["velocity"] + half * v["score"] for v in self.values]

    @cached_property
    def apart(self) -> Tensor:
        """D: s_i − s_1 as columns ``(batch, d, k − 1)``."""
        first = self.values[0]["score"]
        return torch.stack([flat_event(v["score"] - first) for v in self.values[1:]], 2)

    @cached_property
    def frame(self) -> Tensor | None:
        """An orthonormal basis of the span of D, where the noise has to keep out of it."""
        if isinstance(self.owner.rule, Share) or self.owner.silent or len(self.values) < 2:
            return None
        found: Tensor = torch.linalg.qr(self.apart)[0]
        return found

    @cached_property
    def rates(self) -> Tensor:
        """The drift of ℓ_i for a particle that b does not move: ``(batch, k)``."""
        half, given = 0.5 * self.sigma**2, self.owner.drift_divergence
        columns = []
        for i, v in enumerate(self.values):
            if given is not None:
                rate = given(self.t, self.x)
            else:
                rate = -v["velocity_divergence"]
                if not self.owner.silent:
                    rate = rate + half * v["score_divergence"]
            if self.frame is not None:
                rate = rate - half * self._inside(self.owner.experts[i], self.frame)
            columns.append(rate - dot(v["velocity"], v["score"]))
        return torch.stack(columns, 1)

    def _inside(self, expert: Expert, frame: Tensor) -> Tensor:
        """tr(P∇s): what the projected noise does not see."""
        total = torch.zeros_like(self.t)
        for column in frame.unbind(2):
            along = column.reshape(self.x.shape)
            total = (
                total
                + expert.fields(("score_divergence",), self.t, self.x, along)["score_divergence"]
            )
        return total

    @cached_property
    def shares(self) -> Tensor:
        """κ ``(batch, k)``."""
        rule, count = self.owner.rule, len(self.values)
        if isinstance(rule, Agree):
            return torch.full_like(self.logs, 1 / count)
        weights = self.logs.new_tensor(log_weights(rule.weights, count, "Superposed"))
        return (rule.temperature * (weights + self.logs)).softmax(1)

    @cached_property
    def drift(self) -> Tensor:
        """b."""
        mean, rule = blend(self.shares, self.own), self.owner.rule
        if isinstance(rule, Share) or len(self.values) < 2:
            return mean
        apart, across = self.apart, self.apart.mT
        gap = self.logs[:, 1:] - self.logs[:, :1]
        wanted = -rule.restore * gap - (self.rates[:, 1:] - self.rates[:, :1])
        wanted = wanted.unsqueeze(2) - across @ flat_event(mean).unsqueeze(2)
        eye = torch.eye(gap.shape[1], dtype=gap.dtype, device=gap.device)
        push: Tensor = apart @ torch.linalg.solve(across @ apart + rule.ridge * eye, wanted)
        return mean + push.squeeze(2).reshape(mean.shape)


def _without(frame: Tensor, z: Tensor) -> Tensor:
    """(I − P) z."""
    flat = flat_event(z).unsqueeze(2)
    return (flat - frame @ (frame.mT @ flat)).squeeze(2).reshape(z.shape)


def _log_start(expert: Expert, t: Tensor, x: Tensor) -> Tensor:
    """log q at the starting time: the expert's own, else that of its start law."""
    if "log_prob" in expert.has:
        return expert.log_prob(t, x)
    if expert.start is None:
        raise CapabilityError(
            f"expert {expert.name}",
            "a tracked log-density starts from a known one.",
            got="neither log_prob nor start",
            fix="give the expert `start=Normal(…)`",
        )
    return expert.start.log_prob(x)
