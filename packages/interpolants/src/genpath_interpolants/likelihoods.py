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

from genpath.errors import CapabilityError, DomainError
from genpath.generators import MarkovGenerator
from genpath.grids import TimeGrid
from genpath.laws import DensityLaw
from genpath.likelihoods import LogLikelihood, SolvedFlow
from genpath.models import ODE, Model
from genpath.samplers import Carry, Euler, Sampler, integrate
from genpath.spaces import Euclidean
from genpath.states import Field, batch_size, chunks, repeat

from .auxiliary import (
    POINT,
    PROBE,
    WEIGHT,
    Direction,
    auxiliary,
    forward_drift,
    no_noise,
)
from .distances import Estimate
from .dynamics import Eps, Shape, eps_at, eps_schedule
from .samplers import StochasticHeun

__all__ = ["SDELikelihood", "density", "sde"]


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
    if len(values) > 1 and values.shape[1]:
        error = values.std(0) / math.sqrt(len(values))
    return LogLikelihood(values.mean(0), error, "exact" if exact else "unbiased for log p")


def _along(
    solve: SolvedFlow, t: float, end: float, x: Tensor, law: DensityLaw, rng: torch.Generator
) -> Tensor:
    if t == end:
        return law.log_prob(x)
    arrived, log_det = solve(t, end, x, rng)
    return law.log_prob(arrived) + log_det


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
        return self.divergence == "exact" and no_noise(self.eps)

    def _gain(self, score: Field, alone: bool = False) -> Field:
        """r − ε|s|² as a killing rate."""
        killing = None if alone else self.killing

        def rate(t: Tensor, x: Any) -> Tensor:
            s = score(t, x)
            square = s.flatten(1).square().sum(1) if s.dim() > 1 else s * s
            gain: Tensor = -eps_at(self.eps, t) * square
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
    if count == 1 or not len(terms):
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
