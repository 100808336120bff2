r"""Dynamics: the Markov processes whose law at time t is that of the path.

With the probability flow velocity b and the score s = ∇log p_t, for every ε(t) ≥ 0

    ODE        X' = b                                                    from base or data
    forward    dX = b_F dt + √(2ε) dW,           b_F = b + ε s           from the base
    backward   dZ = −b_B(1−τ, Z) dτ + √(2ε(1−τ)) dW,  b_B = b − ε s      from the data, τ = 1 − t
    matrix     dX = (b + ½ div A + ½ A s) dt + A^{1/2} dW,  (div A)_i = Σ_j ∂_j A_ij

all have the marginals p_t (Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, eqs. 2.20–2.23;
A = 2εI is the second line). Conversely b = (b_F + b_B)/2 and s = (b_F − b_B)/(2ε). The backward
process is the time reversal of the forward one, with ε read at t = 1 − τ.

**Ends.** Where the path has no latent noise, or a base without density, the score is infinite at
t = 0 or 1. Three remedies, apart or together:

    ε vanishes there      shapes "vanishing" (ε·4t(1−t)), "rising" (εt), "falling" (ε(1−t));
                          where ε(t) = 0 the term ε s is exactly 0, whatever s is
    the grid stops short  `genpath_interpolants.samplers.clipped`, ``start:`` and ``end:``
    a last denoising step `genpath_interpolants.samplers.FinalDenoising`

A score converted from another prediction is wrong at a time where the conversion is infinite (it
keeps its value at the distance ``EDGE``): at t = 1, from a velocity or a denoiser, where γγ̇ and α
vanish. A method that evaluates both ends of a step, as `StochasticHeun`, then falls to order 1:
predict "velocity+score" together, let ε fall to 0, or stop short.

With exact fields the marginals do not depend on ε; with learned fields they do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.divergences import pushforward
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator, Origin, breakpoints
from genpath.grids import TimeGrid
from genpath.models import ODE, SDE, Dynamics, Model
from genpath.noises import (
    DiagonalNoise,
    MatrixFreeNoise,
    MatrixNoise,
    NoiseMap,
    ScalarNoise,
    add_tangents,
)
from genpath.parts import Parts
from genpath.paths import ProbabilityPath
from genpath.predictions import Rule, plan
from genpath.samplers import Sampler, integrate
from genpath.spaces import Euclidean
from genpath.states import Field, batch_size, chunks, concatenate, map_state, per_row, repeat

__all__ = [
    "BackwardSDE",
    "DiffusiveSDE",
    "Eps",
    "MatrixSDE",
    "Tabulated",
    "Vanishing",
    "backward_of",
    "conditional_ensemble",
    "drifts",
    "eps_at",
    "eps_schedule",
    "from_data",
    "from_drifts",
    "matrix_sde",
    "sde",
    "there_and_back",
]

Eps = float | Callable[[Tensor], Tensor]
"""ε: a number, or a function of times ``(batch,)`` with values ``(batch,)``."""

Shape = Literal["constant", "vanishing", "rising", "falling"]
CHECKED = 101
"""At how many equal times a function ε is checked."""


# -- ε as a function of time -----------------------------------------------------------------------


@dataclass(frozen=True)
class Vanishing:
    """ε(t) = 4 ε t(1−t): at most ε, and 0 at both ends.

    Args:
        eps: the largest value, at t = ½.

    Example:
        >>> Vanishing(0.5)(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.5000, 0.0000])
    """

    eps: float

    def __post_init__(self) -> None:
        _positive("Vanishing", [self.eps])

    def __call__(self, t: Tensor) -> Tensor:
        return 4 * self.eps * t * (1 - t)


@dataclass(frozen=True)
class Tabulated:
    """ε(t), linear between given values: constants, slopes, and tables of measured optima.

    Args:
        values: ε ≥ 0 at the times, two or more.
        times: increasing from 0 to 1; equally spaced if None.

    Raises:
        DomainError: a value is negative, or the times do not run from 0 to 1.

    Example:
        >>> Tabulated((0.0, 1.0, 0.5))(torch.tensor([0.25, 0.5, 1.0]))
        tensor([0.5000, 1.0000, 0.5000])
    """

    values: tuple[float, ...]
    times: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        values = tuple(float(v) for v in self.values)
        last = max(len(values) - 1, 1)
        times = self.times or tuple(i / last for i in range(len(values)))
        increasing = all(a < b for a, b in itertools.pairwise(times))
        if len(times) != len(values) or len(values) < 2 or not increasing:
            raise DomainError("Tabulated", "there is one increasing time per value, two or more.")
        if times[0] != 0 or times[-1] != 1:
            raise DomainError(
                "Tabulated", "times run from 0 to 1.", got=f"{times[0]:g} to {times[-1]:g}"
            )
        _positive("Tabulated", values)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "times", tuple(float(t) for t in times))

    def __call__(self, t: Tensor) -> Tensor:
        knots = torch.tensor(self.times, dtype=t.dtype, device=t.device)
        values = torch.tensor(self.values, dtype=t.dtype, device=t.device)
        right = torch.searchsorted(knots, t.contiguous(), right=True).clamp(1, len(knots) - 1)
        left = right - 1
        share = (t - knots[left]) / (knots[right] - knots[left])
        return values[left] + share * (values[right] - values[left])


def eps_schedule(eps: float, shape: Shape = "constant") -> Eps:
    """ε(t) by name: constant, vanishing 4εt(1−t), rising εt or falling ε(1−t).

    Args:
        eps: the largest value, ε ≥ 0.
        shape: how it runs over time.

    Raises:
        DomainError: ε is negative, or there is no such shape.

    Example:
        >>> eps_schedule(0.5), eps_schedule(0.5, "falling")
        (0.5, Tabulated(values=(0.5, 0.0), times=(0.0, 1.0)))
    """
    _positive("eps_schedule", [eps])
    made: dict[str, Callable[[], Eps]] = {
        "constant": lambda: eps,
        "vanishing": lambda: Vanishing(eps),
        "rising": lambda: Tabulated((0.0, eps)),
        "falling": lambda: Tabulated((eps, 0.0)),
    }
    if shape not in made:
        raise DomainError("eps_schedule", f"shape is one of {', '.join(made)}.", got=repr(shape))
    return made[shape]()


def _positive(where: str, values: Sequence[float]) -> None:
    wrong = [v for v in values if not 0 <= v < float("inf")]
    if wrong:
        raise DomainError(where, "ε is finite and not negative.", got=f"{wrong[0]:g}")


def _checked(where: str, eps: Eps) -> None:
    """Refuse a negative ε, and a function whose values are negative or of a wrong shape."""
    if not callable(eps):
        _positive(where, [eps])
        return
    t = torch.linspace(0, 1, CHECKED, dtype=torch.float64)
    values = eps(t)
    if values.shape != t.shape:
        raise ShapeError(
            where,
            "ε maps times (batch,) to values (batch,).",
            got=f"{tuple(t.shape)} to {tuple(values.shape)}",
        )
    _positive(where, values.tolist())


def eps_at(eps: Eps, t: Tensor) -> Tensor:
    """ε at times ``(n,)``, in their dtype.

    Example:
        >>> eps_at(0.5, torch.zeros(2))
        tensor([0.5000, 0.5000])
    """
    return eps(t).to(t.dtype) if callable(eps) else torch.full_like(t, eps)


def _scaled(eps: Tensor, score: Any) -> Any:
    """ε s, exactly 0 where ε = 0, even where s is infinite."""

    def one(leaf: Tensor) -> Tensor:
        factor: Any = per_row(eps, leaf)
        return torch.where(factor == 0, torch.zeros_like(leaf), factor * leaf)

    return map_state(one, score)


# -- fields from a prediction ----------------------------------------------------------------------


def _fields(path: Any, prediction: str, field: Field, wanted: Sequence[str]) -> Callable[..., Any]:
    """(t, x) → the wanted quantities, from one call of ``field``; refuses what rules do not reach.

    Raises:
        CapabilityError: no chain of the path's rules leads to one of them.
    """
    rules: list[Rule] = []
    for name in wanted:
        rules += [rule for rule in plan(path.rules, [prediction], name) if rule not in rules]

    def evaluate(t: Tensor, x: Any) -> tuple[Any, ...]:
        values = {prediction: field(t, x)}
        for rule in rules:
            if rule.gives not in values:
                given = (values[name] for name in rule.needs)
                values[rule.gives] = rule.formula(t, x, *given)
        return tuple(values[name] for name in wanted)

    return evaluate


def drifts(path: Any, prediction: str, field: Field, eps: Eps) -> tuple[Field, Field]:
    """b_F = b + ε s and b_B = b − ε s, as fields of t.

    Args:
        path: gives the rules to velocity and score.
        prediction: what ``field`` predicts.
        field: (t, x) → prediction.
        eps: ε ≥ 0, a number or a function of time.

    Returns:
        The forward and the backward drift.

    Raises:
        CapabilityError: no rules lead to velocity and score.
        DomainError: ε is negative.

    Example:
        >>> from types import SimpleNamespace
        >>> still = Rule("velocity", ("score",), lambda t, x, score: 0 * score)
        >>> path = SimpleNamespace(rules=(still,))
        >>> forward, backward = drifts(path, "score", lambda t, x: -x, 0.5)
        >>> t, x = torch.zeros(1), torch.tensor([[2.0]])
        >>> forward(t, x), backward(t, x)
        (tensor([[-1.]]), tensor([[1.]]))
    """
    _checked("drifts", eps)
    both = _fields(path, prediction, field, ("velocity", "score"))

    def side(sign: float) -> Field:
        def drift(t: Tensor, x: Any) -> Any:
            velocity, score = both(t, x)
            return add_tangents(velocity, _scaled(sign * eps_at(eps, t), score))

        return drift

    return side(1.0), side(-1.0)


def from_drifts(forward: Field, backward: Field, eps: Eps) -> tuple[Field, Field]:
    """b = (b_F + b_B)/2 and s = (b_F − b_B)/(2ε), as fields; s is NaN where ε(t) = 0.

    Args:
        forward: b_F.
        backward: b_B.
        eps: ε > 0, a number or a function of time.

    Returns:
        The velocity and the score.

    Raises:
        DomainError: ε is 0 or negative.

    Example:
        >>> velocity, score = from_drifts(lambda t, x: -x, lambda t, x: x, 0.5)
        >>> t, x = torch.zeros(1), torch.tensor([[2.0]])
        >>> velocity(t, x), score(t, x)
        (tensor([[0.]]), tensor([[-4.]]))
    """
    _checked("from_drifts", eps)
    if not callable(eps) and eps == 0:
        raise DomainError(
            "from_drifts",
            "ε > 0: without noise the two drifts are the same and say nothing of the score.",
            got="eps 0",
        )

    def velocity(t: Tensor, x: Any) -> Any:
        return map_state(lambda f, b: 0.5 * (f + b), forward(t, x), backward(t, x))

    def score(t: Tensor, x: Any) -> Any:
        level = 2 * eps_at(eps, t)
        return map_state(lambda f, b: (f - b) / per_row(level, f), forward(t, x), backward(t, x))

    return velocity, score


# -- processes -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DiffusiveSDE:
    r"""dX = (b + ε(t) s) dt + √(2ε(t)) dW: the component ``dynamics.interpolants.sde``.

    The law at time t is that of the path for every ε (Albergo, Boffi & Vanden-Eijnden 2023, arXiv
    2303.08797, eq. 2.20). Where ε(t) = 0 the drift is b, even where s is infinite.

    Args:
        eps: ε ≥ 0 (σ² = 2ε): a number, or a function of times ``(batch,)`` such as `Vanishing`,
            `Tabulated` or your own.

    Raises:
        DomainError: ε is negative at one of 101 equal times.
        ShapeError: ε does not map ``(batch,)`` to ``(batch,)``.
        CapabilityError: (of `generator`) the path's rules do not lead to velocity and score.

    Example:
        >>> from types import SimpleNamespace
        >>> still = Rule("velocity", ("score",), lambda t, x, score: 0 * score)
        >>> path = SimpleNamespace(space=Euclidean(1), rules=(still,))
        >>> gen = DiffusiveSDE(lambda t: t).generator(path, "score", lambda t, x: -x)
        >>> parts = gen(0.5, torch.tensor([[2.0]]))
        >>> parts.velocity, parts.diffusion.sigma
        (tensor([[-1.]]), tensor([1.]))
    """

    eps: Eps = 1.0

    def __post_init__(self) -> None:
        _checked("interpolants.sde", self.eps)

    def generator(self, path: ProbabilityPath, prediction: str, field: Field) -> MarkovGenerator:
        """The forward process, from a field that predicts ``prediction``."""
        both, eps = _fields(path, prediction, field, ("velocity", "score")), self.eps

        def evaluate(t: Tensor, x: Any) -> Parts:
            level = eps_at(eps, t)
            velocity, score = both(t, x)
            drift = add_tangents(velocity, _scaled(level, score))
            return Parts(velocity=drift, diffusion=ScalarNoise((2 * level).sqrt()))

        has = frozenset({"velocity", "diffusion"})
        return MarkovGenerator(path.space, evaluate, has, Origin(path, prediction, field))


@dataclass(frozen=True)
class BackwardSDE:
    r"""dZ = −b_B(1−τ, Z) dτ + √(2ε(1−τ)) dW from the data to the base, b_B = b − ε s.

    Its generator runs in τ = 1 − t, forward from τ = 0 (the data): Z_τ has the law p_{1−τ}. It is
    the time reversal of `DiffusiveSDE` (Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797,
    eq. 2.22). `from_data` runs it on rows of data. It does not start at the base, so that no
    config can name it.

    Args:
        eps: ε ≥ 0 as a function of t (not of τ), or a number.

    Raises:
        DomainError: ε is negative.
        CapabilityError: (of `generator`) the path's rules do not lead to velocity and score.

    Example:
        >>> from types import SimpleNamespace
        >>> still = Rule("velocity", ("score",), lambda t, x, score: 0 * score)
        >>> path = SimpleNamespace(space=Euclidean(1), rules=(still,))
        >>> gen = BackwardSDE(lambda t: t).generator(path, "score", lambda t, x: -x)
        >>> parts = gen(0.0, torch.tensor([[2.0]]))  # τ = 0 is t = 1, where ε = 1
        >>> parts.velocity, parts.diffusion.sigma
        (tensor([[-2.]]), tensor([1.4142]))
    """

    eps: Eps = 1.0

    def __post_init__(self) -> None:
        _checked("BackwardSDE", self.eps)

    def generator(self, path: ProbabilityPath, prediction: str, field: Field) -> MarkovGenerator:
        """The backward process in τ, from a field of t that predicts ``prediction``."""
        both, eps = _fields(path, prediction, field, ("velocity", "score")), self.eps

        def evaluate(tau: Tensor, x: Any) -> Parts:
            t = 1 - tau
            level = eps_at(eps, t)
            velocity, score = both(t, x)
            drift = add_tangents(map_state(torch.neg, velocity), _scaled(level, score))
            return Parts(velocity=drift, diffusion=ScalarNoise((2 * level).sqrt()))

        # no origin: its path and field are functions of t, and this generator is one of τ
        return MarkovGenerator(path.space, evaluate, frozenset({"velocity", "diffusion"}))


MatrixField = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class MatrixSDE:
    r"""dX = (b + ½ div A + ½ A s) dt + A^{1/2} dW: ``dynamics.interpolants.matrix_sde``.

    A(t, x) is symmetric and positive definite, (div A)_i = Σ_j ∂_j A_ij by forward differentiation
    and A^{1/2} the Cholesky factor. Since div(½ ∇·(A p)) = div(½ p (div A + A s)), the law at time
    t is p_t for every A; A = 2εI gives `DiffusiveSDE`.

    Args:
        matrix: A: a diagonal ``(d,)``, a matrix ``(d, d)``, or a function (t, x) → ``(batch, d,
            d)`` of times ``(batch,)`` and states ``(batch, *event)``, d their number of
            coordinates. A constant one is converted to the state's dtype and device.
        uniform: whether a function A depends on t only; its divergence is then not computed.

    Raises:
        DomainError: a constant A is not symmetric, or not positive definite. A function is not
            checked at each step; rows where it is not positive definite become NaN.
        ShapeError: a constant A is neither ``(d,)`` nor ``(d, d)``, or does not fit the path.
        CapabilityError: (of `generator`) the space is not R^d, or rules do not lead to the score.

    Example:
        >>> from types import SimpleNamespace
        >>> still = Rule("velocity", ("score",), lambda t, x, score: 0 * score)
        >>> path = SimpleNamespace(space=Euclidean(1), rules=(still,))
        >>> bent = MatrixSDE(lambda t, x: (1 + x**2)[:, :, None])  # ½ A' + ½ A s at x = 2, s = −x
        >>> bent.generator(path, "score", lambda t, x: -x)(0.0, torch.tensor([[2.0]])).velocity
        tensor([[-3.]])
    """

    matrix: Tensor | MatrixField
    uniform: bool = False

    def __post_init__(self) -> None:
        a = self.matrix
        if not isinstance(a, Tensor):
            return
        if a.dim() not in (1, 2) or a.shape[0] != a.shape[-1]:
            raise ShapeError(
                "MatrixSDE", "a constant A is (d,) or (d, d).", got=str(tuple(a.shape))
            )
        if a.dim() == 2 and not torch.allclose(a, a.T):
            gap = float((a - a.T).abs().max())
            raise DomainError("MatrixSDE", "A is symmetric.", got=f"|A − Aᵀ| up to {gap:g}")
        least = float(a.min() if a.dim() == 1 else torch.linalg.eigvalsh(a.double()).min())
        if not least > 0:
            raise DomainError(
                "MatrixSDE",
                "A is positive definite.",
                got=f"smallest eigenvalue {least:g}",
                fix="use interpolants.sde with a vanishing ε, or the ode where there is no noise",
            )

    def generator(self, path: ProbabilityPath, prediction: str, field: Field) -> MarkovGenerator:
        """The process, from a field that predicts ``prediction``."""
        space = path.space
        if not isinstance(space, Euclidean):
            raise CapabilityError("MatrixSDE", "A is a matrix on R^d.", got=repr(space))
        if isinstance(self.matrix, Tensor) and self.matrix.shape[0] != space.dimension:
            raise ShapeError(
                "MatrixSDE",
                f"the path has {space.dimension} coordinates.",
                got=f"A {tuple(self.matrix.shape)}",
            )
        both = _fields(path, prediction, field, ("velocity", "score"))

        def evaluate(t: Tensor, x: Tensor) -> Parts:
            velocity, score = both(t, x)
            pulled, divergence, noise = self._acting(t, x, score)
            drift = velocity + 0.5 * pulled
            return Parts(drift if divergence is None else drift + 0.5 * divergence, noise)

        has = frozenset({"velocity", "diffusion"})
        return MarkovGenerator(space, evaluate, has, Origin(path, prediction, field))

    def _acting(
        self, t: Tensor, x: Tensor, score: Tensor
    ) -> tuple[Tensor, Tensor | None, NoiseMap]:
        """A s, div A (None where A does not depend on x) and the noise map A^{1/2}."""
        a = self.matrix
        if isinstance(a, Tensor):
            a = a.to(device=x.device, dtype=x.dtype)
            if a.dim() == 1:
                scale = a.reshape(x.shape[1:])
                return scale * score, None, DiagonalNoise(scale.sqrt().expand_as(x))
            factor = torch.linalg.cholesky(a)
            return (
                _applied(a.expand(len(x), *a.shape), score),
                None,
                _noise(factor.expand(len(x), *a.shape), x, True),
            )
        value = a(t, x)
        factor, wrong = torch.linalg.cholesky_ex(value)
        factor = torch.where((wrong > 0)[:, None, None], torch.nan, factor)  # seen, without a sync
        divergence = None if self.uniform else _matrix_divergence(a, t, x)
        return _applied(value, score), divergence, _noise(factor, x, self.uniform)


def _applied(matrix: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bij,bj->bi", matrix, v.reshape(len(v), matrix.shape[2])).reshape(v.shape)


def _noise(factor: Tensor, x: Tensor, uniform: bool) -> NoiseMap:
    """The map ξ → factor ξ on states of any event shape."""
    if x.dim() == 2:
        return MatrixNoise(factor, uniform)
    return MatrixFreeNoise(lambda noise: _applied(factor, noise), uniform=uniform)


def _matrix_divergence(matrix: MatrixField, t: Tensor, x: Tensor) -> Tensor:
    """(div A)_i = Σ_j ∂_j A_ij: one forward derivative per coordinate, all at once."""
    unit = torch.eye(math.prod(x.shape[1:]), dtype=x.dtype, device=x.device)

    def column(direction: Tensor) -> Tensor:
        along = direction.reshape(x.shape[1:]).expand_as(x)
        slope: Tensor = pushforward(lambda y: matrix(t, y) @ direction, x, along.clone())[1]
        return slope

    total: Tensor = torch.func.vmap(column)(unit).sum(0)
    return total.reshape(x.shape)


# -- from the data, and back -----------------------------------------------------------------------


def backward_of(dynamics: Dynamics) -> Dynamics:
    """The dynamics that runs from the data: the flow itself, or the `BackwardSDE` of an SDE.

    Raises:
        CapabilityError: the backward process of this dynamics is not known.

    Example:
        >>> backward_of(DiffusiveSDE(0.5)), backward_of(ODE())
        (BackwardSDE(eps=0.5), ODE())
    """
    if isinstance(dynamics, ODE | BackwardSDE):
        return dynamics
    if isinstance(dynamics, DiffusiveSDE | SDE):
        return BackwardSDE(dynamics.eps)
    raise CapabilityError(
        "from_data",
        "flows and SDEs with a scalar ε run back from the data.",
        got=type(dynamics).__name__,
        fix="integrate genpath.reversal.reverse of its generator",
    )


@torch.no_grad()
def from_data(
    model: Model,
    data: Any,
    dynamics: Dynamics,
    sampler: Sampler,
    grid: TimeGrid,
    rng: torch.Generator,
    *,
    chunk: int = 4096,
) -> Any:
    """Rows of data carried to the base: states at the grid's first time.

    A flow runs the grid back; an SDE is replaced by its `BackwardSDE`, run in τ = 1 − t.

    Args:
        model: its codec encodes the data.
        data: rows, in the data's own units.
        dynamics: ``ODE()``, an SDE or a `BackwardSDE`.
        sampler: one that carries it.
        grid: increasing times of t, as for sampling.
        rng: all randomness.
        chunk: rows solved together.

    Returns:
        States ``(batch, *event)``; with exact fields, draws of the base if ``data`` are of p_1.

    Raises:
        CapabilityError: see `backward_of`.
        DomainError: the grid does not increase.

    Example:
        >>> from genpath import Gaussian, Prediction, RungeKutta
        >>> from types import SimpleNamespace
        >>> velocity = {"velocity": Prediction("velocity", (1,), True, "b(t, x)")}
        >>> path = SimpleNamespace(space=Euclidean(1), rules=(), predictions=velocity)
        >>> model, rng = Model(lambda t, x: 1 + 0 * x, path, Gaussian((1,))), torch.Generator()
        >>> from_data(model, torch.ones(2, 1), ODE(), RungeKutta(), TimeGrid.uniform(4), rng)
        tensor([[0.],
                [0.]])
    """
    if not grid.increasing:
        raise DomainError(
            "from_data", "the grid increases; it is run from its end.", got="one that goes back"
        )
    gen = model.generator(backward_of(dynamics))
    flow = gen.has == {"velocity"}
    grid = grid.through(breakpoints(model.generator(ODE())))
    times = grid.reversed() if flow else TimeGrid(tuple(1 - t for t in reversed(grid.times)))
    ends = []
    for piece in chunks(data, chunk):
        state, _ = model.codec.encode(piece, rng)
        ends.append(integrate(sampler, gen, state, times, rng).state)
    return concatenate(ends)


@torch.no_grad()
def there_and_back(
    model: Model,
    data: Any,
    dynamics: Dynamics,
    sampler: Sampler,
    grid: TimeGrid,
    rng: torch.Generator,
    *,
    chunk: int = 4096,
) -> Any:
    """Rows of data carried to the base and forward again, decoded.

    The flow returns each row, up to the solver's error. An SDE returns another row of the data's
    law, the farther from the first the larger ε: the variations of a datum.

    Args:
        model, data, dynamics, sampler, grid, rng, chunk: see `from_data`; ``dynamics`` is the
            forward one.

    Returns:
        Data, in its own units.

    Raises:
        CapabilityError: see `backward_of`.

    Example:
        >>> from genpath import Gaussian, Prediction, RungeKutta
        >>> from types import SimpleNamespace
        >>> velocity = {"velocity": Prediction("velocity", (1,), True, "b(t, x)")}
        >>> path = SimpleNamespace(space=Euclidean(1), rules=(), predictions=velocity)
        >>> model, rng = Model(lambda t, x: 1 + 0 * x, path, Gaussian((1,))), torch.Generator()
        >>> there_and_back(model, torch.ones(1, 1), ODE(), RungeKutta(), TimeGrid.uniform(4), rng)
        tensor([[1.]])
    """
    if isinstance(dynamics, BackwardSDE):
        raise CapabilityError(
            "there_and_back",
            "it takes the forward dynamics.",
            got="BackwardSDE",
            fix="pass DiffusiveSDE(eps); the way back follows from it",
        )
    base = from_data(model, data, dynamics, sampler, grid, rng, chunk=chunk)
    gen = model.generator(dynamics)
    times = grid.through(breakpoints(gen))
    ends = [integrate(sampler, gen, piece, times, rng).state for piece in chunks(base, chunk)]
    return model.codec.decode(concatenate(ends))


@torch.no_grad()
def conditional_ensemble(
    model: Model,
    start: Any,
    count: int,
    dynamics: Dynamics,
    sampler: Sampler,
    grid: TimeGrid,
    rng: torch.Generator,
    *,
    chunk: int = 4096,
) -> Any:
    """``count`` independent ends of the process from each row of ``start``: (batch, count, *event).

    The flow gives ``count`` equal ends; with noise they spread, the more the larger ε, while the
    law over all starts stays p_1.

    Args:
        model: decodes the ends.
        start: states at the grid's first time, ``(batch, *event)``.
        count: ends per row.
        dynamics, sampler, grid, rng: as for `Model.sample`.
        chunk: rows solved together.

    Returns:
        Data ``(batch, count, *event)``, per leaf.

    Example:
        >>> from genpath import Euler, Gaussian, Prediction
        >>> from types import SimpleNamespace
        >>> still = Rule("velocity", ("score",), lambda t, x, score: 0 * score)
        >>> score = {"score": Prediction("score", (1,), True, "∇log p_t")}
        >>> path = SimpleNamespace(space=Euclidean(1), rules=(still,), predictions=score)
        >>> model, rng = Model(lambda t, x: -x, path, Gaussian((1,)), "score"), torch.Generator()
        >>> start, grid = torch.zeros(3, 1), TimeGrid.uniform(4)
        >>> conditional_ensemble(model, start, 5, DiffusiveSDE(0.5), Euler(), grid, rng).shape
        torch.Size([3, 5, 1])
    """
    gen, rows = model.generator(dynamics), batch_size(start)
    times = grid.through(breakpoints(gen))
    pieces = chunks(repeat(start, count), chunk)
    ends = [integrate(sampler, gen, piece, times, rng).state for piece in pieces]
    data = model.codec.decode(concatenate(ends))
    return map_state(lambda leaf: leaf.reshape(count, rows, *leaf.shape[1:]).transpose(0, 1), data)


# -- what a config builds --------------------------------------------------------------------------


def sde(eps: float, shape: Shape, table: tuple[float, ...]) -> DiffusiveSDE:
    """``dynamics.interpolants.sde``: see `DiffusiveSDE`.

    Raises:
        DomainError: a table beside a shape other than constant, or values that are negative.

    Example:
        >>> sde(0.5, "vanishing", ())
        DiffusiveSDE(eps=Vanishing(eps=0.5))
    """
    if not table:
        return DiffusiveSDE(eps_schedule(eps, shape))
    if shape != "constant":
        raise DomainError(
            "interpolants.sde",
            "a table says how ε runs over time, in place of a shape.",
            got=f"table and shape {shape}",
            fix="leave out one of the two",
        )
    return DiffusiveSDE(Tabulated(tuple(eps * value for value in table)))


def matrix_sde(diagonal: tuple[float, ...], matrix: tuple[tuple[float, ...], ...]) -> MatrixSDE:
    """``dynamics.interpolants.matrix_sde``: see `MatrixSDE`.

    Raises:
        DomainError: none or both of the two are given, or A is not symmetric positive definite.
        ShapeError: the rows of the matrix are not of its size.

    Example:
        >>> matrix_sde((1.0, 2.0), ()).matrix
        tensor([1., 2.], dtype=torch.float64)
    """
    if bool(diagonal) == bool(matrix):
        raise DomainError(
            "interpolants.matrix_sde",
            "A is given by its diagonal or as a matrix.",
            got="both" if diagonal else "neither",
            fix="set one of diagonal: [1.0, 2.0] and matrix: [[1.0, 0.5], [0.5, 2.0]]",
        )
    if any(len(row) != len(matrix) for row in matrix):
        raise ShapeError("interpolants.matrix_sde", "every row of A has as many numbers as A rows.")
    return MatrixSDE(torch.tensor(diagonal or matrix, dtype=torch.float64))
