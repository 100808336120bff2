r"""Experts: law paths q_t on R^d that can be composed.

An expert is a path of laws with ∂_t q + div(q v) = 0, of which one knows the velocity v_t and the
score s_t = ∇log q_t; everything else that composing needs is derived or optional:

    velocity, score                         owed, from one network call
    velocity_divergence, score_divergence   derived: exact, or ⟨ξ, ∂_ξ v⟩ by a probe ξ of the row
    log_prob                                where known in closed form (else it is tracked)
    tail                                    how fast q_t falls off: whether a composition exists
    start                                   the law q_0, a normal law: where particles begin

The makes of experts: `FieldExpert` from two fields; `ExactExpert` from an oracle with densities;
`DiffusionExpert` from the score of a noising process with drift f and noise σ, whose velocity is
−f + ½σ² s; `Reward`, a fixed factor e^{r(x)}. Trained models are in `model_experts`, networks of
other libraries in `foreign`, mixtures of experts in `mixtures`, experts on some of the coordinates
or by another clock in `lifted`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from genpath.divergences import pushforward
from genpath.errors import CapabilityError
from genpath.schedules import AffineSchedule, Scalar
from genpath.spaces import Euclidean
from genpath.states import flat_event, per_row

from .normals import Normal
from .tails import Tail, flat_tail

if TYPE_CHECKING:
    from .compositions import Composition

__all__ = [
    "FIELDS",
    "DiffusionExpert",
    "ExactExpert",
    "Expert",
    "FieldExpert",
    "Reward",
]

FIELDS = ("velocity", "score", "velocity_divergence", "score_divergence", "log_prob")
"""What an expert can be asked for."""

Both = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(t, x) -> (velocity, score)``, each ``(batch, *event)``, from one evaluation."""


class Expert(ABC):
    """A law path q_t that can be raised to powers, multiplied, divided and lifted.

    ``name`` is what reports call it, ``event_shape`` the shape of one point, ``has`` the fields
    that it can give; ``tail``, ``start`` and ``support`` are None where they are not known.
    ``support`` maps points ``(batch, *event)`` to whether q_1 can be positive there, ``times`` is
    the interval on which q_t is known. ``affine`` is α and β where q_t is the law of α x0 + β x1
    with x0 ~ N(0, I) independent of the data x1: such an expert can be run on another schedule.
    """

    times: tuple[float, float] = (0.0, 1.0)
    affine: AffineSchedule | None = None
    name: str
    event_shape: tuple[int, ...]
    has: frozenset[str]
    tail: Tail | None
    start: Normal | None
    support: Callable[[Tensor], Tensor] | None

    @abstractmethod
    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Several fields from one evaluation: name → ``(batch, *event)`` or ``(batch,)``.

        Args:
            names: of `FIELDS`, among those that it ``has``.
            t: times ``(batch,)``.
            x: states ``(batch, *event)``.
            probe: standard normal noise of the form of ``x``: divergences by one forward derivative
                along it (Hutchinson); None for exact ones, by one per coordinate.
        """

    # -- the language ------------------------------------------------------------------------

    def composition(self) -> Composition:
        """The expert alone, with exponent 1."""
        from .compositions import Composition, Term

        return Composition((Term(self),))

    def named(self, name: str) -> Expert:
        """The same expert under another name."""
        renamed = copy.copy(self)
        object.__setattr__(renamed, "name", name)
        return renamed

    def on(self, *coordinates: int) -> Composition:
        """The expert on these coordinates of a larger state, with exponent 1."""
        from .compositions import Composition, Term

        return Composition((Term(self, coordinates=tuple(coordinates)),))

    def __pow__(self, power: Any) -> Composition:
        raised: Composition = self.composition() ** power
        return raised

    def __mul__(self, other: Expert | Composition) -> Composition:
        return self.composition() * other

    def __truediv__(self, other: Expert | Composition) -> Composition:
        return self.composition() / other

    # -- single fields -----------------------------------------------------------------------

    def score(self, t: Tensor, x: Tensor) -> Tensor:
        """∇log q_t(x)."""
        return self.fields(("score",), t, x)["score"]

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """v_t(x)."""
        return self.fields(("velocity",), t, x)["velocity"]

    def log_prob(self, t: Tensor, x: Tensor) -> Tensor:
        """log q_t(x): ``(batch,)``."""
        return self.fields(("log_prob",), t, x)["log_prob"]

    def wanted(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names, each once.

        Raises:
            CapabilityError: a field that the expert does not have.
        """
        found = tuple(dict.fromkeys(names))
        for name in found:
            if name not in self.has:
                raise CapabilityError(
                    f"expert {self.name}",
                    f"it has no field {name!r}.",
                    got="it has " + ", ".join(sorted(self.has)),
                    fix="track its log-density, or give the expert a log_prob"
                    if name == "log_prob"
                    else None,
                )
        return found


def dot(u: Tensor, v: Tensor) -> Tensor:
    """u·v of each row, ``(batch,)``."""
    return flat_event(u * v).sum(1)


SMOOTH = frozenset(FIELDS) - {"log_prob"}


def differentiated(
    both: Both, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None
) -> dict[str, Tensor]:
    """Velocity, score and the divergences asked for, with one primal evaluation of ``both``.

    Args:
        both: ``(t, x) -> (velocity, score)``.
        names: without "log_prob".
        t, x: times and states.
        probe: as in `Expert.fields`.
    """
    wanted = set(names)
    if not wanted & {"velocity_divergence", "score_divergence"}:
        velocity, score = both(t, x)
        return {"velocity": velocity, "score": score}

    def along(direction: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        (velocity, score), slopes = pushforward(lambda y: both(t, y), x, direction)
        first, second = (dot(s, direction) for s in slopes)
        return velocity, score, first, second

    if probe is not None:
        velocity, score, dv, ds = along(probe)
    else:
        basis = Euclidean(*x.shape[1:]).tangent_basis(x)
        velocity, score, dv, ds = torch.func.vmap(along, out_dims=(None, None, 0, 0))(basis)  # type: ignore[arg-type]
        dv, ds = dv.sum(0), ds.sum(0)
    return {
        "velocity": velocity,
        "score": score,
        "velocity_divergence": dv,
        "score_divergence": ds,
    }


@dataclass(frozen=True, eq=False)
class FieldExpert(Expert):
    """An expert from a function that gives velocity and score together.

    Args:
        both: ``(t, x) -> (velocity, score)``, t ``(batch,)``, x ``(batch, *event)``.
        event_shape: of one point.
        name: what reports call it.
        tail: of q_t; without it nothing can be said of compositions.
        start: the law q_0.
        support: points → whether q_1 can be positive there.
        log_density: ``(t, x) -> (batch,)``, where it is known.
        times: the interval on which the fields are defined.
        affine: α and β of a one-sided path from N(0, I).

    Example:
        >>> still = FieldExpert(lambda t, x: (0 * x, -x), (1,), "normal")  # N(0, 1) at all times
        >>> found = still.fields(("score_divergence", "velocity"), torch.zeros(2), torch.ones(2, 1))
        >>> found["score_divergence"]
        tensor([-1., -1.])
    """

    both: Both
    event_shape: tuple[int, ...]
    name: str = "expert"
    tail: Tail | None = None
    start: Normal | None = None
    support: Callable[[Tensor], Tensor] | None = None
    log_density: Callable[[Tensor, Tensor], Tensor] | None = None
    times: tuple[float, float] = (0.0, 1.0)
    affine: AffineSchedule | None = None

    @property
    def has(self) -> frozenset[str]:  # type: ignore[override]
        """All fields; the log-density where it was given."""
        return SMOOTH | ({"log_prob"} if self.log_density is not None else set())

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        wanted = self.wanted(names)
        found: dict[str, Tensor] = {}
        if set(wanted) - {"log_prob"}:
            found = differentiated(self.both, wanted, t, x, probe)
        if "log_prob" in wanted and self.log_density is not None:
            found["log_prob"] = self.log_density(t, x)
        return {name: found[name] for name in wanted}


class DiffusionExpert(Expert):
    r"""An expert given by its score and its noising process, drift f and noise σ.

        ∂_t q = div(f q) − ½σ² Δq          velocity v = −f + ½σ² s

    f is the drift of the *noising* process (from data to noise), written in our time, in which
    sampling is dX = (−f + σ² s) dt + σ dW (Skreta et al. 2025, arXiv 2503.02819).

    Args:
        score_field: ``(t, x) -> (batch, *event)``.
        drift: f, ``(t, x) -> (batch, *event)``.
        sigma: σ of times ``(batch,)``.
        event_shape: of one point.
        name, tail, start, support, log_density: as of `FieldExpert`.

    Example:
        >>> decay = lambda t, x: -2 * x
        >>> expert = DiffusionExpert(lambda t, x: -x, decay, lambda t: 2 + 0 * t, (1,))
        >>> expert.velocity(torch.zeros(1), torch.ones(1, 1))  # 2x − 2x: N(0, 1) stays
        tensor([[0.]])
    """

    def __init__(
        self,
        score_field: Callable[[Tensor, Tensor], Tensor],
        drift: Callable[[Tensor, Tensor], Tensor],
        sigma: Callable[[Tensor], Tensor],
        event_shape: tuple[int, ...],
        name: str = "expert",
        *,
        tail: Tail | None = None,
        start: Normal | None = None,
        support: Callable[[Tensor], Tensor] | None = None,
        log_density: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self.score_field, self.drift, self.sigma = score_field, drift, sigma
        self.event_shape, self.name = tuple(event_shape), name
        self.tail, self.start, self.support = tail, start, support
        self.log_density = log_density
        self.has = SMOOTH | ({"log_prob"} if log_density is not None else set())

    def both(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity and score."""
        score = self.score_field(t, x)
        return 0.5 * per_row(self.sigma(t) ** 2, x) * score - self.drift(t, x), score

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        wanted = self.wanted(names)
        found: dict[str, Tensor] = {}
        if set(wanted) - {"log_prob"}:
            found = differentiated(self.both, wanted, t, x, probe)
        if "log_prob" in wanted and self.log_density is not None:
            found["log_prob"] = self.log_density(t, x)
        return {name: found[name] for name in wanted}


def noising(schedule: AffineSchedule) -> tuple[Scalar, Scalar]:
    r"""The noising process of a one-sided path x_t = α x0 + β x1: f = −rate · x and σ².

        rate = β̇/β          σ² = 2α (α β̇/β − α̇) = 2α² d/dt log(β/α)

    Both are infinite at t = 0, where β = 0 (course, L7.13).

    Returns:
        rate and σ², functions of times.

    Example:
        >>> from genpath_interpolants.schedules import linear_schedule
        >>> rate, variance = noising(linear_schedule())
        >>> t = torch.tensor([0.5])
        >>> rate(t), variance(t)  # 1/t and 2(1 − t)/t
        (tensor([2.]), tensor([2.]))
    """

    def rate(t: Tensor) -> Tensor:
        return schedule.beta.rate(t) / schedule.beta(t)

    def variance(t: Tensor) -> Tensor:
        return 2 * schedule.alpha_squared(t) * rate(t) - schedule.alpha_squared.rate(t)

    return Scalar(rate), Scalar(variance)


class Marginal(Protocol):
    """What an oracle gives: several fields in one pass."""

    def fields(self, names: Iterable[str], t: Any, x: Tensor) -> dict[str, Tensor]: ...


class ExactExpert(Expert):
    """An oracle as an expert: exact fields and log-densities, nothing to train and to track.

    Args:
        marginal: with ``fields(names, t, x)`` for velocity, score and log_prob, such as
            `genpath_interpolants.MixtureMarginal` and `BoxMarginal`; a ``divergence(t, x, name)``
            of its own is used where it has one.
        name, tail, start, support, affine: as of `FieldExpert`.
        event_shape: of one point.

    Example:
        >>> from genpath_interpolants import GaussianMixture, LinearPath, MixtureMarginal
        >>> law = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1))
        >>> path = LinearPath(Euclidean(1), base="gaussian")
        >>> expert = ExactExpert(MixtureMarginal(path, law), (1,), "normal")
        >>> expert.log_prob(torch.ones(1), torch.zeros(1, 1))
        tensor([-0.9189])
    """

    def __init__(
        self,
        marginal: Marginal,
        event_shape: tuple[int, ...],
        name: str = "exact",
        *,
        tail: Tail | None = None,
        start: Normal | None = None,
        support: Callable[[Tensor], Tensor] | None = None,
        affine: AffineSchedule | None = None,
    ) -> None:
        self.marginal, self.event_shape, self.name = marginal, tuple(event_shape), name
        self.tail, self.start, self.support, self.affine = tail, start, support, affine
        self.has = frozenset(FIELDS)

    def both(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity and score in one pass."""
        found = self.marginal.fields(("velocity", "score"), t, x)
        return found["velocity"], found["score"]

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        wanted = self.wanted(names)
        derived = [n for n in wanted if n.endswith("divergence")]
        plain = [n for n in wanted if n not in derived]
        if not derived:
            return self.marginal.fields(plain, t, x)
        own = getattr(self.marginal, "divergence", None)
        if own is not None and probe is None:
            found = self.marginal.fields(plain, t, x) if plain else {}
            return found | {n: own(t, x, n.removesuffix("_divergence")) for n in derived}
        found = differentiated(self.both, wanted, t, x, probe)
        if "log_prob" in wanted:
            found |= self.marginal.fields(("log_prob",), t, x)
        return {name: found[name] for name in wanted}


class Reward(Expert):
    """A fixed factor e^{r(x)}: with exponent β_t it tilts a law by a reward.

    It does not move, so its velocity is 0 and r is its log-density: the weight of a tilt follows
    from the same formula as that of experts, β̇ r + β v*·∇r.

    Args:
        reward: r, ``(batch, *event) -> (batch,)``, differentiable.
        event_shape: of one point.
        name: what reports call it.
        tail: flat by default, which says that r grows slower than |x|²; a quadratic reward has one.

    Example:
        >>> tilt = Reward(lambda x: 3 * x[:, 0], (1,))
        >>> tilt.score(torch.zeros(1), torch.ones(1, 1))
        tensor([[3.]])
    """

    def __init__(
        self,
        reward: Callable[[Tensor], Tensor],
        event_shape: tuple[int, ...],
        name: str = "reward",
        *,
        tail: Tail | None = None,
    ) -> None:
        self.reward, self.event_shape, self.name = reward, tuple(event_shape), name
        self.tail = tail if tail is not None else flat_tail()
        self.start, self.support = None, None
        self.has = frozenset(FIELDS)

    def both(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """0 and ∇r."""
        gradient = torch.func.grad(lambda y: self.reward(y).sum())(x)
        return torch.zeros_like(x), gradient

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        wanted = self.wanted(names)
        found = differentiated(self.both, wanted, t, x, probe) if wanted != ("log_prob",) else {}
        if "log_prob" in wanted:
            found["log_prob"] = self.reward(x)
        return {name: found[name] for name in wanted}
