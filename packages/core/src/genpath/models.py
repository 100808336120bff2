r"""Models: network + path + prediction + codec + base; what is trained, saved, sampled and scored.

A model predicts one named quantity of its path. Its generator is asked for with a *dynamics*:

    `ODE`    ẋ = u(t, x)                                  probability flow
    `SDE`    dX = (u + ε s) dt + √(2ε) dW                 same marginals for every ε ≥ 0
    `Jump`   the marginal jump part of a path of letters   from logits

The quantities that a dynamics needs are converted from the prediction by the path's rules. With an
exact field all dynamics of a path have its marginals; with a learned field they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .codecs import Codec, Identity
from .errors import CapabilityError, DomainError
from .generators import MarkovGenerator, Origin, breakpoints, flow, lifted
from .grids import TimeGrid
from .laws import Law
from .noises import ScalarNoise, add_tangents
from .parts import Parts
from .paths import ProbabilityPath, ProductPath
from .predictions import Prediction, convert, converted, plan
from .samplers import Callback, Sampler, Transform, integrate
from .spaces import is_smooth
from .states import Field, chunks, concatenate, map_state

__all__ = ["ODE", "SDE", "Dynamics", "Jump", "Model", "factorwise"]


@runtime_checkable
class Dynamics(Protocol):
    """How a model's path is run: which generator with the path's marginals."""

    def generator(self, path: ProbabilityPath, prediction: str, field: Field) -> MarkovGenerator:
        """The generator made from a field that predicts ``prediction`` of ``path``."""
        ...


@dataclass(frozen=True)
class ODE:
    """The probability flow ẋ = u(t, x): the component ``dynamics.ode``.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath.spaces import Euclidean
        >>> path = SimpleNamespace(space=Euclidean(2), rules=())
        >>> gen = ODE().generator(path, "velocity", lambda t, x: 2 * x)
        >>> gen(0.5, torch.ones(1, 2)).velocity
        tensor([[2., 2.]])
    """

    def generator(self, path: ProbabilityPath, prediction: str, field: Field) -> MarkovGenerator:
        velocity = converted(path.rules, prediction, field, "velocity")
        return flow(path.space, velocity, Origin(path, prediction, field))


@dataclass(frozen=True)
class SDE:
    r"""dX = (u + ε s) dt + √(2ε) dW: the component ``dynamics.sde``.

    Adding ε(s·∇ + Δ), which leaves p_t invariant, changes the paths and not the marginals
    (Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, Theorem 8 and eq. 2.20).

    Args:
        eps: ε ≥ 0 (σ² = 2ε).

    Raises:
        DomainError: ε is negative.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath.predictions import Rule
        >>> from genpath.spaces import Euclidean
        >>> still = Rule("velocity", ("score",), lambda t, x, score: 0 * score)
        >>> path = SimpleNamespace(space=Euclidean(1), rules=(still,))
        >>> gen = SDE(eps=0.5).generator(path, "score", lambda t, x: -x)
        >>> parts = gen(0.0, torch.tensor([[2.0]]))  # dX = −½ X dt + dW, which keeps N(0, 1)
        >>> parts.velocity, parts.diffusion.sigma
        (tensor([[-1.]]), 1.0)
    """

    eps: float = 1.0

    def __post_init__(self) -> None:
        if self.eps < 0:
            raise DomainError("dynamics.sde", "ε ≥ 0.", got=f"eps {self.eps:g}")

    def generator(self, path: ProbabilityPath, prediction: str, field: Field) -> MarkovGenerator:
        rules, eps = path.rules, self.eps
        for needed in ("velocity", "score"):  # refuses now, not at the first step
            plan(rules, [prediction], needed)

        def evaluate(t: Tensor, x: Any) -> Parts:
            given = {prediction: field(t, x)}
            velocity = convert(rules, given, "velocity", t, x)
            score = convert(rules, given, "score", t, x)
            drift = add_tangents(velocity, map_state(lambda leaf: eps * leaf, score))
            return Parts(velocity=drift, diffusion=ScalarNoise(math.sqrt(2 * eps)))

        has = frozenset({"velocity", "diffusion"})
        return MarkovGenerator(path.space, evaluate, has, Origin(path, prediction, field))


@dataclass(frozen=True)
class Jump:
    """The marginal jump part of a path of letters, from logits: ``dynamics.jumps``.

    States are ``(batch, *sites)``, logits ``(batch, *sites, letters)``.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath.jumps import RateJumps
        >>> rates = lambda t, x, logits: RateJumps(logits.softmax(-1), x)
        >>> path = SimpleNamespace(space=None, rules=(), jumps=rates)
        >>> gen = Jump().generator(path, "logits", lambda t, x: torch.zeros(*x.shape, 4))
        >>> gen(0.5, torch.tensor([0, 2])).jumps.intensity()
        tensor([0.7500, 0.7500])
    """

    def generator(self, path: ProbabilityPath, prediction: str, field: Field) -> MarkovGenerator:
        part = getattr(path, "jumps", None)
        if part is None:
            raise CapabilityError(
                "dynamics.jumps",
                "the path gives a jump part from logits.",
                got=type(path).__name__,
                fix="choose dynamics: ode or sde for this path",
            )
        logits = converted(path.rules, prediction, field, "logits")

        def evaluate(t: Tensor, x: Any) -> Parts:
            return Parts(jumps=part(t, x, logits(t, x)))

        has = frozenset({"jumps"})
        return MarkovGenerator(path.space, evaluate, has, Origin(path, prediction, field))


def factorwise(
    path: ProductPath,
    dynamics: Mapping[str, Dynamics],
    predict: Mapping[str, str],
    field: Callable[[Mapping[str, Tensor], Any], Mapping[str, Any]],
) -> MarkovGenerator:
    """The generator of a product path from one joint field: one network call for all factors.

    L_s = Σᵢ ṫ_i(s) Lⁱ, where Lⁱ comes from the i-th prediction by the i-th dynamics and moves its
    own leaf, at a rate that depends on the whole state and all clocks (semester II, P.2).

    Args:
        path: the product path; its clocks say how s runs.
        dynamics: leaf → dynamics.
        predict: leaf → name of what ``field`` predicts for it.
        field: ``field(times, state) -> {leaf: prediction}``, times one tensor per leaf.

    Raises:
        CapabilityError: a factor has no dynamics or prediction, or one that does not lead there.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath.spaces import Euclidean
        >>> line = SimpleNamespace(space=Euclidean(), rules=())
        >>> path, names = ProductPath({"x": line, "y": line}), ("x", "y")
        >>> turn = lambda times, state: {"x": state["y"], "y": -state["x"]}
        >>> odes, predict = dict.fromkeys(names, ODE()), dict.fromkeys(names, "velocity")
        >>> gen = factorwise(path, odes, predict, turn)
        >>> gen(0.0, {"x": torch.tensor([1.0]), "y": torch.tensor([2.0])}).velocity
        {'x': tensor([2.]), 'y': tensor([-1.])}
    """
    missing = [n for n in path.paths if n not in dynamics or n not in predict]
    if missing:
        raise CapabilityError(
            "factorwise",
            "every factor has a dynamics and a prediction.",
            got=f"none for {', '.join(missing)}",
        )

    def factor(name: str, predictions: Mapping[str, Any]) -> MarkovGenerator:
        def own(t: Tensor, x: Any) -> Any:
            return predictions[name]

        return lifted(name, dynamics[name].generator(path.paths[name], predict[name], own))

    def joined(predictions: Mapping[str, Any]) -> MarkovGenerator:
        return path.join({name: factor(name, predictions) for name in path.paths})

    def evaluate(s: Tensor, state: Any) -> Parts:
        return joined(field(path.times(s), state)).evaluate(s, state)

    return MarkovGenerator(path.space, evaluate, joined({}).has)


@dataclass(frozen=True)
class Model:
    """A network with everything that gives its output a meaning.

    Args:
        network: ``network(t, state)``, t ``(batch,)``; the raw prediction.
        path: the probability path that it is trained on.
        base: the law at t = 0.
        predict: the name of its prediction, one of ``path.predictions``.
        codec: data ↔ state.
        guide: optional guidance, a map from field to field, applied before conversion.

    Raises:
        CapabilityError: the path has no such prediction.

    Example:
        >>> from types import SimpleNamespace
        >>> from genpath import Empirical, Euclidean, RungeKutta
        >>> velocity = {"velocity": Prediction("velocity", (1,), True, "u(t, x)")}
        >>> path = SimpleNamespace(space=Euclidean(1), rules=(), predictions=velocity)
        >>> model = Model(lambda t, x: 3 + 0 * x, path, base=Empirical(torch.zeros(1, 1)))
        >>> model.sample(2, ODE(), RungeKutta(), TimeGrid.uniform(4), torch.Generator())
        tensor([[3.],
                [3.]])
    """

    network: nn.Module | Field
    path: ProbabilityPath
    base: Law
    predict: str = "velocity"
    codec: Codec = field(default_factory=Identity)
    guide: Callable[[Field], Field] | None = None

    def __post_init__(self) -> None:
        if self.predict not in self.path.predictions:
            raise CapabilityError(
                "Model",
                f"{type(self.path).__name__} has no prediction {self.predict!r}.",
                got=f"predict: {self.predict}",
                fix="choose one of " + ", ".join(sorted(self.path.predictions)),
            )

    @property
    def prediction(self) -> Prediction:
        """What the network is asked for."""
        return self.path.predictions[self.predict]

    def field(self, t: Tensor, state: Any) -> Any:
        """The prediction at (t, state): the network's output, tangents projected, not guided."""
        raw = self.network(t, state)
        if self.prediction.tangent and is_smooth(self.path.space):
            return self.path.space.project_tangent(state, raw)
        return raw

    def generator(self, dynamics: Dynamics) -> MarkovGenerator:
        """The model's Markov generator with the given dynamics."""
        source = self.field if self.guide is None else self.guide(self.field)
        return dynamics.generator(self.path, self.predict, source)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        dynamics: Dynamics,
        sampler: Sampler,
        grid: TimeGrid,
        rng: torch.Generator,
        *,
        chunk: int = 4096,
        transforms: Sequence[Transform] = (),
        callbacks: Sequence[Callback] = (),
    ) -> Any:
        """``count`` rows of data: base draws carried to t = 1 and decoded, ``chunk`` at a time.

        Kinks of the path's schedule (its ``breakpoints``) become times of the grid.
        """
        gen = self.generator(dynamics)
        grid = grid.through(breakpoints(gen))
        start = self.base.sample(count, rng)
        solved = [
            integrate(
                sampler, gen, piece, grid, rng, transforms=transforms, callbacks=callbacks
            ).state
            for piece in chunks(start, chunk)
        ]
        return self.codec.decode(concatenate(solved))
