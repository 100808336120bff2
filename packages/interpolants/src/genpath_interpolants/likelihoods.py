r"""Densities of learned processes: by the flow from either end, and by auxiliary diffusions.

A model has a velocity b and a score s, so b_F = b + ε s and b_B = b − ε s, and three laws:

    ẋ = b                                   ODE, from either end (`density`)
    dX = b_F dt + √(2ε) dW                  forward from the base law p_0
    dX = b_B dt + √(2ε) dW, run backward    backward from the data law p_1

The last two have densities that no single solve gives. They are expectations over paths of an
*auxiliary* SDE that starts at the point x in question (Albergo, Boffi & Vanden-Eijnden 2023,
arXiv 2303.08797, Theorem 26), and whose drift is the model's own, not the one that would sample:

    p_F(t, x) = E exp(−∫_0^t (div b_F + r)(u, Y_u) du) p_0(Y_0)    dY = b_F du + √(2ε) dW, backward
    p_B(t, x) = E exp(+∫_t^1 (div b_B − r)(u, Y_u) du) p_1(Y_1)    dY = b_B du + √(2ε) dW, forward

from Y_t = x, with a rate r at which the model's particles are killed (0 without). In τ = 1 − u the
first is dZ = −b_F(1−τ, Z) dτ + √(2ε(1−τ)) dW. Both are ordinary generators of states that carry the
exponent as one more coordinate. Write A for minus the exponent and R for the end's density: then
−log E e^{−A} R ≤ E[A − log R], with equality where A − log R is constant (and only there), so that
one path gives an upper bound of the cross-entropy, and ε E∫|∇log p_F|² du is what it loses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.divergences import exact_divergence, hutchinson_divergence
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.laws import DensityLaw
from genpath.likelihoods import LogLikelihood, SolvedFlow
from genpath.models import ODE, Model
from genpath.noises import FactorNoise, ScalarNoise
from genpath.parts import Parts
from genpath.predictions import converted
from genpath.samplers import Carry, Euler, Sampler, integrate
from genpath.spaces import Euclidean, Product
from genpath.states import Field, batch_size, chunks, repeat

from .dynamics import Eps, Shape, drifts, eps_schedule
from .samplers import StochasticHeun

__all__ = [
    "Estimate",
    "KernelDensity",
    "LogDensityError",
    "PathDiagnostics",
    "SDELikelihood",
    "auxiliary",
    "backward_drift",
    "cross_entropy",
    "cross_entropy_ode",
    "density",
    "forward_drift",
    "kl_monte_carlo",
    "kl_terms",
    "log_density_error",
    "path_diagnostics",
    "projected_kl",
    "sde",
]

POINT, PROBE, WEIGHT = "x", "probe", "log_weight"
Direction = Literal["forward", "backward"]


@dataclass(frozen=True)
class Estimate:
    """A mean with its error.

    Args:
        value: the mean.
        standard_error: its standard error; NaN for one term.
        count: how many independent terms.
        inner: paths per term, where a term is itself a logarithm of a mean.
        bias: what those inner means add to the value, to first order in 1/inner; 0 for none.

    Example:
        >>> Estimate.of(torch.tensor([1.0, 3.0]), "example")
        Estimate(value=2.0, standard_error=1.0, count=2, inner=1, bias=0.0)
    """

    value: float
    standard_error: float
    count: int
    inner: int = 1
    bias: float = 0.0

    @classmethod
    def of(cls, terms: Tensor, where: str, *, inner: int = 1, bias: float = 0.0) -> Estimate:
        """The mean of independent terms ``(n,)``.

        Raises:
            DomainError: there is no term.
        """
        count = len(terms)
        if not count:
            raise DomainError(where, "a mean needs a row or more.", got="an empty batch")
        numbers = terms.double()
        error = float(numbers.std()) / math.sqrt(count) if count > 1 else math.nan
        return cls(float(numbers.mean()), error, count, inner, bias)


# -- the flow --------------------------------------------------------------------------------------


def density(
    gen: MarkovGenerator | Model,
    x: Tensor,
    t: float,
    law: DensityLaw,
    rng: torch.Generator,
    *,
    from_: Literal["base", "data"] = "base",
    steps: int = 50,
    divergence: Literal["exact", "hutchinson"] = "exact",
    probes: int = 2,
    sampler: Sampler | None = None,
) -> LogLikelihood:
    r"""log p_t(x) of a flow, from the law at either end.

        log p_t(x) = log p_0(X_{t,0}(x)) − ∫_0^t div b    from the base
                   = log p_1(X_{t,1}(x)) + ∫_t^1 div b    from the data

    With the exact b the two agree; with a learned one they are densities of two models. States are
    the model's: a codec is not applied.

    Args:
        gen: a flow, or a model, whose probability flow is taken.
        x: points ``(batch, *event)``.
        t: one time for all points.
        law: at t = 0 for ``from_="base"``, at t = 1 for ``"data"``.
        rng: for the probes.
        from_: the end whose law is given.
        steps: equal steps of the solve.
        divergence: "exact", or "hutchinson": ``probes`` solves with one probe per row in each.
        probes: solves to average; two or more give a standard error.
        sampler: of flows; the classical Runge–Kutta method if None.

    Raises:
        DomainError: t is outside [0, 1], or ``from_`` is neither end.

    Example:
        >>> from genpath import Gaussian, flow
        >>> gen = flow(Euclidean(1), lambda t, x: x)  # p_t = N(0, e^{2t}) from N(0, 1)
        >>> found = density(gen, torch.zeros(1, 1), 0.5, Gaussian((1,)), torch.Generator())
        >>> found.value, found.kind  # −½ − ½ log 2π
        (tensor([-1.4189]), 'exact')
    """
    end = {"base": 0.0, "data": 1.0}.get(from_)
    if end is None or not 0 <= t <= 1:
        raise DomainError(
            "density",
            "the density at a time in [0, 1] is found from base or data.",
            got=f"t = {t:g}, from_ {from_!r}",
        )
    flow = gen.generator(ODE()) if isinstance(gen, Model) else gen
    exact = divergence == "exact"
    solve = SolvedFlow(flow, steps=steps, divergence=divergence)
    if sampler is not None:
        solve = replace(solve, sampler=sampler)
    values = torch.stack(
        [_along(solve, t, end, x, law, rng) for _ in range(1 if exact or t == end else probes)]
    )
    error = torch.zeros_like(values[0])
    if len(values) > 1:
        error = values.std(0) / math.sqrt(len(values))
    return LogLikelihood(values.mean(0), error, "exact" if exact else "unbiased for log p")


def _along(
    solve: SolvedFlow, t: float, end: float, x: Tensor, law: DensityLaw, rng: torch.Generator
) -> Tensor:
    if t == end:
        return law.log_prob(x)
    arrived, log_det = solve(t, end, x, rng)
    return law.log_prob(arrived) + log_det


# -- drifts and the auxiliary generator ------------------------------------------------------------


def forward_drift(model: Model, eps: Eps) -> Field:
    """b_F = b + ε s of a model, from one evaluation of its network.

    Args:
        model: one whose prediction leads to velocity and score (to the velocity alone for ε = 0).
        eps: ε, a number or a function of time.

    Raises:
        CapabilityError: the prediction does not lead there.

    Example:
        >>> from genpath import Gaussian
        >>> from genpath_interpolants.presets import linear
        >>> path = linear(Euclidean(1), base="gaussian")
        >>> model = Model(lambda t, x: 0 * x, path, Gaussian((1,)))  # s = −x/(1 − t) for b = 0
        >>> forward_drift(model, 0.5)(torch.zeros(1), torch.ones(1, 1))
        tensor([[-0.5000]])
    """
    return _drift(model, eps, 0)


def backward_drift(model: Model, eps: Eps) -> Field:
    """b_B = b − ε s of a model, from one evaluation of its network; see `forward_drift`."""
    return _drift(model, eps, 1)


def _drift(model: Model, eps: Eps, side: int) -> Field:
    source = model.field if model.guide is None else model.guide(model.field)
    if _none(eps):
        return converted(model.path.rules, model.predict, source, "velocity")
    return drifts(model.path, model.predict, source, eps)[side]


def _none(eps: Eps) -> bool:
    return not callable(eps) and eps == 0


def _at(eps: Eps, t: Tensor) -> Tensor:
    return eps(t) if callable(eps) else torch.full_like(t, eps)


def auxiliary(
    space: Euclidean,
    drift: Field,
    eps: Eps,
    *,
    direction: Direction = "forward",
    divergence: Literal["exact", "hutchinson", "none"] = "exact",
    killing: Field | None = None,
) -> MarkovGenerator:
    r"""The auxiliary SDE of a density formula, with its exponent as one more coordinate.

        forward:   dZ = −f(1−τ, Z) dτ + √(2ε(1−τ)) dW,   dlog w = −(div f + r)(1−τ, Z) dτ
        backward:  dY =  f(t, Y) dt  + √(2ε(t)) dW,      dlog w = (div f − r)(t, Y) dt

    with f the drift of the process whose density is wanted: b_F of the forward SDE, b_B of the
    backward one. These are not the SDEs that sample (those have the other drift each), and the
    first runs in τ = 1 − t. States are {x, log_weight, probe}; the probe, a fact of its row, is
    there for "hutchinson". A sampler of order two for (x, log w) errs by O(h²) in E[w f(x)].

    Args:
        space: R^d.
        drift: f, ``(t, x) -> (batch, *event)``.
        eps: ε ≥ 0.
        direction: which process's density.
        divergence: "exact", "hutchinson", or "none" to leave div f out of log w.
        killing: r(t, x), ``(batch,)``; negative values let mass grow.

    Example:
        >>> gen = auxiliary(Euclidean(1), lambda t, x: 3 * x, 0.5)
        >>> gen(0.0, {"x": torch.ones(1, 1), "log_weight": torch.zeros(1)}).velocity
        {'x': tensor([[-3.]]), 'log_weight': tensor([-3.])}
    """
    back = direction == "forward"
    sign, still = -1.0 if back else 1.0, _none(eps)

    def evaluate(clock: Tensor, state: Any) -> Parts:
        t, x = 1 - clock if back else clock, state[POINT]
        if divergence == "exact":
            value, trace = exact_divergence(space, drift, t, x)
        elif divergence == "hutchinson":
            value, trace = hutchinson_divergence(space, drift, t, x, state[PROBE])
        else:
            value, trace = drift(t, x), torch.zeros_like(t)
        rate = sign * trace if killing is None else sign * trace - killing(t, x)
        velocity = {POINT: sign * value, WEIGHT: rate}
        if still:
            return Parts(velocity)
        return Parts(velocity, FactorNoise({POINT: ScalarNoise(torch.sqrt(2 * _at(eps, t)))}))

    has = frozenset({"velocity"} if still else {"velocity", "diffusion"})
    return MarkovGenerator(Product({POINT: space, WEIGHT: Euclidean()}), evaluate, has)


# -- densities of SDEs -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SDELikelihood:
    """Densities of a model's SDEs by paths of their auxiliary SDEs.

    The component ``likelihood.interpolants.sde``. Called with a model and data it gives
    log p_F(1, ·) of the forward SDE with b + ε s. The mean of the path weights is unbiased for p,
    up to the sampler's error, so that its logarithm is biased down, by half the squared standard
    error. "hutchinson" draws new signs ξ at every step: with one probe per path the weights would
    stay biased for any number of steps, by the factor E exp(∫(ξᵀJξ − tr J) dt) > 1; with new ones
    log p is h/2 ∫Var(ξᵀJξ) dt too large to first order (Var(ξᵀJξ) = 2 Σ_{i≠j} S_ij² for the
    symmetric part S of the Jacobian).

    A random codec is drawn anew for each path, which leaves the mean unbiased for p.

    Args:
        eps: ε ≥ 0 (σ² = 2ε), a number or a function of time.
        steps: equal steps.
        paths: paths per point; two or more give a standard error.
        divergence: "exact" (one derivative per dimension) or "hutchinson" (one).
        sampler: of velocity and diffusion; `StochasticHeun` (order 2) by default. Euler weighs by
            the integrand at the start of each step, and errs by O(h).
        chunk: paths solved together; an exact divergence holds ``dimension`` times as many.
        killing: r(t, x) ``(batch,)``, or None.

    Raises:
        DomainError: ε < 0, or counts below 1.

    Example:
        >>> from genpath import Gaussian
        >>> def falling(t, x):  # dX = −X dt + √2 dW keeps N(0, 1)
        ...     return -x
        >>> score, rng = SDELikelihood(paths=1000), torch.Generator().manual_seed(0)
        >>> found = score.log_prob_forward(falling, torch.zeros(1, 1), Gaussian((1,)), rng)
        >>> bool((found.value + 0.9189).abs() < 5 * found.standard_error), found.kind
        (True, 'unbiased for p')
    """

    eps: Eps = 1.0
    steps: int = 100
    paths: int = 64
    divergence: Literal["exact", "hutchinson"] = "exact"
    chunk: int = 8192
    killing: Field | None = None
    sampler: Sampler = field(default_factory=StochasticHeun)

    def __post_init__(self) -> None:
        if not callable(self.eps) and self.eps < 0:
            raise DomainError("likelihood.sde", "ε ≥ 0.", got=f"eps {self.eps:g}")
        if min(self.steps, self.paths, self.chunk) < 1:
            raise DomainError(
                "likelihood.sde",
                "steps, paths and chunk are 1 or more.",
                got=f"steps {self.steps}, paths {self.paths}, chunk {self.chunk}",
            )

    @torch.no_grad()
    def __call__(self, model: Model, data: Any, rng: torch.Generator) -> LogLikelihood:
        base, codec = model.base, model.codec
        if not isinstance(base, DensityLaw):
            raise CapabilityError(
                "likelihood.sde", "the base law has a log-density.", got=type(base).__name__
            )
        if not isinstance(model.path.space, Euclidean):
            raise CapabilityError(
                "likelihood.sde", "the model lives on R^d.", got=repr(model.path.space)
            )
        drift = forward_drift(model, self.eps)

        def encode(rows: Any, copies: int) -> tuple[Tensor, Tensor]:
            if not codec.exact:
                return codec.encode(repeat(rows, copies), rng)
            state, log_det = codec.encode(rows, rng)
            return repeat(state, copies), repeat(log_det, copies)

        settled = self._settled and codec.exact
        terms = self._all(encode, data, drift, base, rng, 1.0, "forward", settled)
        return self._summary(terms, settled)

    def log_prob_forward(
        self, drift: Field, x: Tensor, base: DensityLaw, rng: torch.Generator, t: float = 1.0
    ) -> LogLikelihood:
        """log p(t, x) of dX = f dt + √(2ε) dW from the base law at 0.

        Args:
            drift: f; b_F for a model's forward SDE (`forward_drift`).
            x: points ``(batch, *event)``.
            base: the law at t = 0.
            rng: for the paths.
            t: the time of the density.
        """
        return self._summary(self.log_terms(drift, x, base, rng, t, "forward"), self._settled)

    def log_prob_backward(
        self, drift: Field, x: Tensor, law: DensityLaw, rng: torch.Generator, t: float = 0.0
    ) -> LogLikelihood:
        """log p(t, x) of dX = f dt + √(2ε) dW run backward from a law at 1.

        Args:
            drift: f; b_B for a model's backward SDE (`backward_drift`).
            x: points ``(batch, *event)``.
            law: the law at t = 1.
            rng: for the paths.
            t: the time of the density.
        """
        return self._summary(self.log_terms(drift, x, law, rng, t, "backward"), self._settled)

    def log_terms(
        self,
        drift: Field,
        x: Tensor,
        law: DensityLaw,
        rng: torch.Generator,
        t: float,
        direction: Direction = "forward",
    ) -> Tensor:
        """log R − A of each path ``(batch, paths)``: the mean of their exponentials is p(t, x)."""

        def same(rows: Tensor, copies: int) -> tuple[Tensor, None]:
            return repeat(rows, copies), None

        return self._all(same, x, drift, law, rng, t, direction, self._settled)

    def cross_entropy_upper(
        self,
        drift: Field,
        x: Tensor,
        law: DensityLaw,
        rng: torch.Generator,
        t: float = 1.0,
        direction: Direction = "forward",
        score: Field | None = None,
    ) -> Estimate:
        r"""E[A − log R] over rows and paths: above the cross-entropy by Jensen's inequality.

        Unbiased for the bound with one path per row, up to the sampler's error in h. The
        bound loses ε E∫|∇log p|² du, p the density of the process itself. Given that score, the
        loss is taken off and the value is the cross-entropy; with a learned score in its place
        that is a heuristic, neither bound nor estimate.

        Args:
            drift: of the process, see `log_prob_forward` and `log_prob_backward`.
            x: rows of the law whose cross-entropy is wanted ``(batch, *event)``.
            law: the process's law at its start.
            rng: for the paths.
            t: the time of the rows.
            direction: of the process.
            score: ∇log p(t, x) of the process, or None for the bound.
        """
        scorer = self if score is None else replace(self, killing=self._gain(score))
        terms = scorer.log_terms(drift, x, law, rng, t, direction)
        return Estimate.of(-terms.mean(1), "cross_entropy_upper")

    def jensen_gap(
        self,
        drift: Field,
        score: Field,
        x: Tensor,
        rng: torch.Generator,
        t: float = 1.0,
        direction: Direction = "forward",
    ) -> LogLikelihood:
        """ε E∫|∇log p(u, Y_u)|² du per row: how far the bound of `cross_entropy_upper` is above.

        Args:
            drift, x, rng, t, direction: see `cross_entropy_upper`.
            score: ∇log p(t, x) of the process itself, not of the path that it was learned from.

        Returns:
            The gap ``(batch,)`` and its standard error; the kind is "exact" where ε = 0.
        """

        def same(rows: Tensor, copies: int) -> tuple[Tensor, None]:
            return repeat(rows, copies), None

        gain = replace(self, killing=self._gain(score, alone=True))
        terms = gain._all(same, x, drift, None, rng, t, direction, self._settled)
        exact = terms.shape[1] == 1 and self._settled
        error = torch.zeros_like(terms[:, 0]) if exact else _error(terms)
        return LogLikelihood(terms.mean(1), error, "exact" if exact else "unbiased for the gap")

    @property
    def _settled(self) -> bool:
        """Whether every path of a point is the same."""
        return self.divergence == "exact" and not callable(self.eps) and self.eps == 0

    def _gain(self, score: Field, alone: bool = False) -> Field:
        """r − ε|s|² as a killing rate."""
        killing = None if alone else self.killing

        def rate(t: Tensor, x: Any) -> Tensor:
            s = score(t, x)
            square = s.flatten(1).square().sum(1) if s.dim() > 1 else s * s
            gain: Tensor = -_at(self.eps, t) * square
            return gain if killing is None else gain + killing(t, x)

        return rate

    def _all(
        self,
        encode: Callable[[Any, int], tuple[Tensor, Tensor | None]],
        rows: Any,
        drift: Field,
        law: DensityLaw | None,
        rng: torch.Generator,
        t: float,
        direction: Direction,
        settled: bool,
    ) -> Tensor:
        """log R − A ``(batch, paths)``, at most ``chunk`` paths at a time; −A where no law."""
        if not 0 <= t <= 1 or direction not in ("forward", "backward"):
            raise DomainError(
                "likelihood.sde",
                "a process is forward or backward, and its density is at a time in [0, 1].",
                got=f"t = {t:g}, direction {direction!r}",
            )
        total = 1 if settled else self.paths
        copies = min(total, self.chunk)
        found = []
        for piece in chunks(rows, max(self.chunk // copies, 1)):
            count, done = batch_size(piece), list[Tensor]()
            for start in range(0, total, copies):
                size = min(copies, total - start)
                state, log_det = encode(piece, size)
                terms = self._solve(state, drift, law, rng, t, direction)
                terms = terms if log_det is None else terms + log_det
                done.append(terms.reshape(size, count))
            found.append(torch.cat(done).T)
        return torch.cat(found)

    def _solve(
        self,
        x: Tensor,
        drift: Field,
        law: DensityLaw | None,
        rng: torch.Generator,
        t: float,
        direction: Direction,
    ) -> Tensor:
        start = 1 - t if direction == "forward" else t
        if start == 1:
            return x.new_zeros(len(x)) if law is None else law.log_prob(x)
        space = Euclidean(*x.shape[1:])
        trace = self.divergence if law is not None else "none"
        gen = auxiliary(
            space, drift, self.eps, direction=direction, divergence=trace, killing=self.killing
        )
        probed = trace == "hutchinson"

        def probe(carry: Carry, time: float, rng: torch.Generator) -> Carry:
            return replace(carry, state={**carry.state, PROBE: space.tangent_noise(x, rng).sign()})

        state = {POINT: x, WEIGHT: x.new_zeros(len(x))}
        if probed:
            state[PROBE] = space.tangent_noise(x, rng).sign()
        grid = TimeGrid.uniform(self.steps, start, 1.0)
        renew = [probe] if probed else []
        end = integrate(self.sampler, gen, state, grid, rng, transforms=renew).state
        weight: Tensor = end[WEIGHT]
        return weight if law is None else weight + law.log_prob(end[POINT])

    def _summary(self, terms: Tensor, settled: bool) -> LogLikelihood:
        value = torch.logsumexp(terms, 1) - math.log(terms.shape[1])
        if settled:
            return LogLikelihood(value, torch.zeros_like(value), "exact")
        shifted = torch.exp(terms - value[:, None])  # weights of mean 1: the delta method for log
        return LogLikelihood(value, _error(shifted), "unbiased for p")


def _error(terms: Tensor) -> Tensor:
    """Standard errors of the means over the second axis; NaN for one term."""
    count = terms.shape[1]
    if count == 1:
        return torch.full_like(terms[:, 0], math.nan)
    return terms.std(1) / math.sqrt(count)


def sde(eps: float, shape: Shape, method: str, **options: Any) -> SDELikelihood:
    """``likelihood.interpolants.sde``: log p of the forward SDE by paths of its auxiliary SDE.

    Example:
        >>> likelihood = sde(eps=0.5, shape="constant", method="heun", steps=20, paths=8)
        >>> likelihood.eps, likelihood.paths, likelihood.sampler.order
        (0.5, 8, 2)
    """
    sampler: Sampler = StochasticHeun() if method == "heun" else Euler()
    return SDELikelihood(eps_schedule(eps, shape), sampler=sampler, **options)


# -- cross-entropies -------------------------------------------------------------------------------


def cross_entropy(scores: LogLikelihood, inner: int = 1) -> Estimate:
    """−E log p̂ from the scores of rows, with what an inner mean adds to it.

    Where a score is the logarithm of a mean over ``inner`` paths ("unbiased for p"), −log is biased
    up, by ½ of its squared standard error to first order: that is reported, not subtracted.

    Args:
        scores: of rows of the law whose cross-entropy is wanted.
        inner: paths per row.

    Raises:
        DomainError: no rows.

    Example:
        >>> scores = LogLikelihood(torch.tensor([-1.0, -3.0]), torch.ones(2), "unbiased for p")
        >>> found = cross_entropy(scores, inner=16)
        >>> found.value, found.bias
        (2.0, 0.5)
    """
    bias = 0.0
    if scores.kind == "unbiased for p" and len(scores.value):
        bias = 0.5 * float(scores.standard_error.double().square().mean())
    return Estimate.of(-scores.value, "cross_entropy", inner=inner, bias=bias)


def cross_entropy_ode(
    gen: MarkovGenerator | Model,
    x: Tensor,
    law: DensityLaw,
    rng: torch.Generator,
    *,
    from_: Literal["base", "data"] = "base",
    **options: Any,
) -> Estimate:
    """H(p_1 ‖ p̂_1) of data, or H(p_0 ‖ p̂_0) of base draws, under the flow's two models.

    Args:
        gen: a flow or a model.
        x: draws of p_1 for ``from_="base"``, of p_0 for ``"data"``: ``(batch, *event)``.
        law: at the other end.
        rng: for the probes.
        from_: the end whose law is given.
        **options: of `density`.

    Example:
        >>> from genpath import Gaussian, flow
        >>> gen, law = flow(Euclidean(1), lambda t, x: x), Gaussian((1,))
        >>> found = cross_entropy_ode(gen, torch.tensor([[1.0], [-1.0]]), law, torch.Generator())
        >>> round(found.value, 4)  # 1 + ½ log 2π + ½ e^{−2}
        1.9866
    """
    scores = density(gen, x, 1.0 if from_ == "base" else 0.0, law, rng, from_=from_, **options)
    return cross_entropy(scores)


@dataclass(frozen=True)
class PathDiagnostics:
    """How uneven the paths of a density estimate are.

    Args:
        variance: of A − log R over the paths ``(batch,)``: 0 exactly where Jensen loses nothing.
        gap: what Jensen's inequality loses ``(batch,)``, estimated from the same paths.
        ess: effective number of paths ``(batch,)``, (Σw)²/Σw².
    """

    variance: Tensor
    gap: Tensor
    ess: Tensor


def path_diagnostics(terms: Tensor) -> PathDiagnostics:
    """The diagnostics of path terms log R − A ``(batch, paths)``, two paths or more.

    −log E e^{−A}R = E[A − log R] holds where A − log R is constant over the paths, not A + log R.

    Raises:
        ShapeError: fewer than two paths.

    Example:
        >>> path_diagnostics(torch.tensor([[1.0, 1.0], [0.0, 2.0]])).gap
        tensor([0.0000, 0.4338])
    """
    if terms.dim() != 2 or terms.shape[1] < 2:
        raise ShapeError(
            "path_diagnostics", "terms are (batch, paths), paths ≥ 2.", got=f"{tuple(terms.shape)}"
        )
    total = torch.logsumexp(terms, 1)
    gap = total - math.log(terms.shape[1]) - terms.mean(1)
    ess = torch.exp(2 * total - torch.logsumexp(2 * terms, 1))
    return PathDiagnostics(terms.var(1), gap, ess)


# -- distances from densities ----------------------------------------------------------------------


def kl_terms(log_p: Tensor, log_q: Tensor, *, control_variate: bool = True) -> Tensor:
    """log p − log q + (q/p − 1) at draws of p: terms with mean KL(p ‖ q), none of them negative.

    The bracket has mean 0 (where q ≪ p) and takes most of the variance off. Subtracting it, as it
    is printed in places, keeps the mean and raises the variance.

    Args:
        log_p, log_q: log-densities at the same draws ``(n,)``.
        control_variate: False leaves the bracket out.

    Example:
        >>> kl_terms(torch.zeros(2), torch.tensor([0.0, 1.0]))  # −1 + (e − 1)
        tensor([0.0000, 0.7183])
    """
    ratio = log_q - log_p
    return torch.expm1(ratio) - ratio if control_variate else -ratio


LogDensity = Callable[[Tensor], Tensor]


def kl_monte_carlo(
    log_p: LogDensity, log_q: LogDensity, x: Tensor, *, control_variate: bool = True
) -> Estimate:
    """KL(p ‖ q) from draws of p, by `kl_terms`.

    Args:
        log_p, log_q: log-densities ``(n, *event) -> (n,)``.
        x: draws of p.
        control_variate: see `kl_terms`.

    Raises:
        DomainError: no draws.

    Example:
        >>> from genpath import Gaussian
        >>> p, q, rng = Gaussian((1,)), Gaussian((1,), mean=0.1), torch.Generator().manual_seed(0)
        >>> found = kl_monte_carlo(p.log_prob, q.log_prob, p.sample(1000, rng))
        >>> abs(found.value - 0.005) < 5 * found.standard_error
        True
    """
    terms = kl_terms(log_p(x), log_q(x), control_variate=control_variate)
    return Estimate.of(terms, "kl_monte_carlo")


@dataclass(frozen=True)
class LogDensityError:
    """Mean and variance of |log p − log p̂|.

    Args:
        mean, variance: over the points.
        standard_error: of the mean.
        count: points.
    """

    mean: float
    variance: float
    standard_error: float
    count: int


def log_density_error(log_p: Tensor, log_q: Tensor) -> LogDensityError:
    """E|log p − log p̂| and its variance over points, nats.

    Args:
        log_p, log_q: two log-densities at the same points ``(n,)``, n ≥ 2.

    Raises:
        ShapeError: they do not pair up.
        DomainError: fewer than two points.

    Example:
        >>> found = log_density_error(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]))
        >>> found.mean, found.variance
        (0.5, 0.0)
    """
    if log_p.shape != log_q.shape:
        raise ShapeError(
            "log_density_error",
            "the log-densities are those of the same points.",
            got=f"{tuple(log_p.shape)} and {tuple(log_q.shape)}",
        )
    gap = (log_p - log_q).abs().double()
    if len(gap) < 2:
        raise DomainError("log_density_error", "a variance needs two points.", got=str(len(gap)))
    variance = float(gap.var())
    return LogDensityError(float(gap.mean()), variance, math.sqrt(variance / len(gap)), len(gap))


@dataclass(frozen=True)
class KernelDensity:
    """A normal kernel at each of n points: n^{−1} Σ_i N(x; x_i, h² diag(s²)).

    s are the points' standard deviations; h is Scott's n^{−1/(d+4)} if None.

    Args:
        points: ``(n, d)``, n ≥ 2.
        bandwidth: h > 0, in units of the standard deviations.
        chunk: queries compared with all points at once.

    Raises:
        ShapeError: the points are not ``(n, d)`` with n ≥ 2.
        DomainError: h ≤ 0, or a constant coordinate.

    Example:
        >>> kernels = KernelDensity(torch.tensor([[-1.0], [1.0]]), bandwidth=1.0)  # s = √2
        >>> kernels.log_prob(torch.zeros(1, 1))  # −¼ − ½ log 4π
        tensor([-1.5155])
    """

    points: Tensor
    bandwidth: float | None = None
    chunk: int = 512

    def __post_init__(self) -> None:
        if self.points.dim() != 2 or len(self.points) < 2:
            raise ShapeError(
                "KernelDensity",
                "points are (n, d) with n ≥ 2.",
                got=f"{tuple(self.points.shape)}",
            )
        small = self.bandwidth is not None and not self.bandwidth > 0
        if small or not bool((self.points.std(0) > 0).all()):
            raise DomainError(
                "KernelDensity", "the bandwidth is positive, and no coordinate is constant."
            )

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density ``(batch,)`` at points ``(batch, d)``."""
        count, size = self.points.shape
        width = self.bandwidth if self.bandwidth is not None else count ** (-1 / (size + 4))
        scale = width * self.points.std(0)
        centres = self.points / scale
        constant = scale.log().sum() + 0.5 * size * math.log(2 * math.pi) + math.log(count)
        found = []
        for piece in chunks(x, self.chunk):
            squares = torch.cdist(piece / scale, centres).square()
            found.append(torch.logsumexp(-0.5 * squares, 1) - constant)
        return torch.cat(found)


def projected_kl(
    samples: Tensor,
    reference: Tensor,
    coordinates: tuple[int, ...] = (0, 1),
    *,
    bandwidth: float | None = None,
) -> Estimate:
    """KL of a reference from samples in a few coordinates, both by kernels: the metric of E4.

    Half of the reference gives its kernels, the other half the draws at which the terms are taken,
    so that no draw meets its own kernel. The smoothing of the kernels is common to both laws.

    Args:
        samples: of the model, ``(n, d)``.
        reference: of the data, ``(m, d)``.
        coordinates: which are kept.
        bandwidth: of `KernelDensity`.

    Raises:
        DomainError: fewer than four reference rows.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 2000, 5, generator=rng)
        >>> abs(projected_kl(x, y).value) < 0.05, projected_kl(x + 1, y).value > 0.5
        (True, True)
    """
    index = list(coordinates)
    kept, half = reference[:, index], len(reference) // 2
    if half < 2:
        raise DomainError(
            "projected_kl", "a reference has four rows or more.", got=str(len(reference))
        )
    true = KernelDensity(kept[:half], bandwidth)
    model = KernelDensity(samples[: max(half, 2), index], bandwidth)
    return kl_monte_carlo(true.log_prob, model.log_prob, kept[half:])
