r"""Mixtures of normal laws: data whose interpolant is known exactly.

With x0 ~ Σ_i a_i N(m0_i, C0_i), x1 ~ Σ_j b_j N(m1_j, C1_j), labels of joint law p_ij (a_i b_j when
independent), and ends independent given the labels, x_t = α x0 + β x1 + γ z has the law

    p_t = Σ_ij p_ij N(μ_ij, Σ_ij)     μ = α m0 + β m1     Σ = α² C0 + β² C1 + γ² I

(L5 of the course; Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, appendix A). Given the
labels, (ẋ_t, x0, x1, z, x_t) are jointly normal, so that every conditional expectation is linear
in x: with w = Σ⁻¹ (x − μ),

    E[x0|x,ij] = m0 + α C0 w     E[x1|x,ij] = m1 + β C1 w     E[z|x,ij] = γ w     s = −Σ_ij π_ij w

and the posterior weights π_ij of the labels mix them. The motion needs γγ̇ = ½ dγ²/dt and never
γ̇ alone, so that every field is finite at t = 0 and t = 1 where the law has a density there:

    v = α̇ E[x0|x] + β̇ E[x1|x]     b = v − γγ̇ s

This is the independent answer that learned and converted fields are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError
from genpath.jumps import pick
from genpath.schedules import AffineSchedule
from genpath.states import per_row, row_times

from ._fields import FIELDS, OnePass
from ._pairs import Coefficients, Marks, Pairs, Weights, pairs_of, plain

__all__ = ["FIELDS", "FullMixture", "GaussianMixture", "MixtureMarginal", "Scheduled"]


class Scheduled(Protocol):
    """What an oracle reads of a path: its schedule."""

    @property
    def schedule(self) -> AffineSchedule: ...


@dataclass(frozen=True)
class GaussianMixture:
    """Σ_k w_k N(m_k, diag s_k²) on R^d; with s_k = 0 the component is the point m_k.

    Args:
        weights: ``(k,)``, positive, with sum 1.
        means: ``(k, *event)``.
        stds: not negative, ``(k, *event)``, or ``(k,)`` for the same in every coordinate. All 0 is
            an empirical law; it has draws and no density, and its path has one where α or γ ≠ 0.

    Raises:
        ShapeError: the three do not have one row per component.
        DomainError: a weight is not positive, a std is negative or not finite, the weights do not
            sum to 1, or the three are not floating numbers of one dtype on one device.

    Example:
        >>> pair = GaussianMixture(torch.ones(2) / 2, torch.tensor([[-1.0], [1.0]]), torch.ones(2))
        >>> pair.sample(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 1])
        >>> pair.log_prob(torch.zeros(1, 1))  # −½ − ½ log 2π
        tensor([-1.4189])
    """

    weights: Tensor
    means: Tensor
    stds: Tensor
    _pairs: Pairs = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        name = "GaussianMixture"
        _alike(name, weights=self.weights, means=self.means, stds=self.stds)
        count, rows = self.weights.shape[:1], (self.means.shape[:1], self.stds.shape[:1])
        whole = self.stds.shape in (self.means.shape, self.weights.shape)
        if self.weights.dim() != 1 or any(row != count for row in rows) or not whole:
            raise ShapeError(
                name,
                "there is one weight, mean and std per component.",
                got=f"weights {tuple(self.weights.shape)}, means {tuple(self.means.shape)}, "
                f"stds {tuple(self.stds.shape)}",
            )
        _weighted(name, self.weights)
        if not bool((self.stds >= 0).all() and self.stds.isfinite().all()):
            raise DomainError(name, "stds are finite and not negative.", fix="0 makes a point")
        stds = per_row(self.stds, self.means).expand_as(self.means)  # type: ignore[union-attr]
        object.__setattr__(self, "stds", stds)
        object.__setattr__(self, "_pairs", _alone(self))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return tuple(self.means.shape[1:])

    @property
    def atomic(self) -> bool:
        """Whether some std is 0, so that the law has no density."""
        return bool((self.stds == 0).any())

    def variances(self) -> Tensor:
        """The variances in float64: ``(k,)`` where components are isotropic, else ``(k, d)``."""
        found = _flat(self.stds.double()) ** 2
        return found[:, 0] if bool((found == found[:, :1]).all()) else found

    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean ``(d,)`` and covariance ``(d, d)``, in float64."""
        return _moments(self.weights, self.means, torch.diag_embed(_flat(self.stds.double()) ** 2))

    def to(self, *target: Any) -> GaussianMixture:
        """The law in another dtype or on another device."""
        return GaussianMixture(*(p.to(*target) for p in (self.weights, self.means, self.stds)))

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` rows ``(count, *event)``."""
        index = pick(self.weights.expand(count, -1), rng)
        shape = (count, *self.means.shape[1:])
        z = torch.randn(shape, generator=rng, device=self.means.device, dtype=self.means.dtype)
        return self.means[index] + self.stds[index] * z

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of each row: ``(batch,)``.

        Raises:
            DomainError: a std is 0.
        """
        if self.atomic:
            raise DomainError(
                "GaussianMixture.log_prob",
                "a law with points has no density.",
                got="stds with 0",
                fix="smooth it: give positive stds",
            )
        return _log_prob(self._pairs, self.event_shape, x)

    def characteristic(self, k: Tensor) -> Tensor:
        """E e^{ik·x} = Σ_j w_j e^{ik·m_j − ½ |s_j k|²} at frequencies ``(batch, *event)``: complex.

        Example:
            >>> pair = torch.tensor([[-1.0], [1.0]])
            >>> points = GaussianMixture(torch.ones(2) / 2, pair, torch.zeros(2))
            >>> points.characteristic(torch.tensor([[2.0]])).real  # cos 2
            tensor([-0.4161])
        """
        frequency, means, stds = _flat(k), _flat(self.means), _flat(self.stds)
        modulus = torch.exp(-0.5 * frequency**2 @ (stds**2).T)
        return (self.weights * torch.polar(modulus, frequency @ means.T)).sum(1)


@dataclass(frozen=True)
class FullMixture:
    """Σ_k w_k N(m_k, C_k) on R^d with any covariances.

    Args:
        weights: ``(k,)``, positive, with sum 1.
        means: ``(k, *event)``.
        covariances: ``(k, d, d)``, symmetric and positive definite, d the entries of an event.

    Raises:
        ShapeError: the shapes do not pair up.
        DomainError: a covariance is not symmetric or not positive definite, a weight is not
            positive, the weights do not sum to 1, or the three are not floating numbers of one
            dtype on one device.

    Example:
        >>> covariance = torch.tensor([[[2.0, 1.0], [1.0, 2.0]]])
        >>> law = FullMixture(torch.ones(1), torch.zeros(1, 2), covariance)
        >>> law.log_prob(torch.zeros(1, 2))  # −log 2π − ½ log 3
        tensor([-2.3872])
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    _pairs: Pairs = field(init=False, repr=False, compare=False)
    _roots: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        name = "FullMixture"
        _alike(name, weights=self.weights, means=self.means, covariances=self.covariances)
        k, size = len(self.means), math.prod(self.means.shape[1:])
        if self.weights.shape != (k,) or self.covariances.shape != (k, size, size):
            raise ShapeError(
                name,
                "there is one weight, mean and covariance (d, d) per component.",
                got=f"weights {tuple(self.weights.shape)}, means {tuple(self.means.shape)}, "
                f"covariances {tuple(self.covariances.shape)}",
            )
        _weighted(name, self.weights)
        wide = self.covariances.double()
        gap = (wide - wide.mT).abs().amax() / wide.abs().amax().clamp_min(1e-300)
        roots, info = torch.linalg.cholesky_ex(0.5 * (wide + wide.mT))
        if not float(gap) < 1e-5 or bool((info != 0).any()):
            raise DomainError(
                name,
                "covariances are symmetric and positive definite.",
                got=f"asymmetry {float(gap):.2g}, "
                f"component {int((info != 0).int().argmax())} not positive definite"
                if bool((info != 0).any())
                else f"asymmetry {float(gap):.2g}",
                fix="add a ridge to the diagonal",
            )
        object.__setattr__(self, "_roots", roots.to(self.means.dtype))
        object.__setattr__(self, "_pairs", _alone(self))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return tuple(self.means.shape[1:])

    @property
    def atomic(self) -> bool:
        """False: the law has a density."""
        return False

    def variances(self) -> Tensor:
        """The covariances ``(k, d, d)`` in float64."""
        wide = self.covariances.double()
        return 0.5 * (wide + wide.mT)

    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean ``(d,)`` and covariance ``(d, d)``, in float64."""
        return _moments(self.weights, self.means, self.covariances.double())

    def to(self, *target: Any) -> FullMixture:
        """The law in another dtype or on another device."""
        parts = (self.weights, self.means, self.covariances)
        return FullMixture(*(part.to(*target) for part in parts))

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` rows ``(count, *event)``."""
        index = pick(self.weights.expand(count, -1), rng)
        size = self.covariances.shape[1]
        z = torch.randn(
            count, size, generator=rng, device=self.means.device, dtype=self.means.dtype
        )
        moved = torch.empty_like(z)
        for k, root in enumerate(self._roots):  # over components: no root is copied per row
            rows = index == k
            moved[rows] = z[rows] @ root.T
        return self.means[index] + moved.reshape(count, *self.event_shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of each row: ``(batch,)``."""
        return _log_prob(self._pairs, self.event_shape, x)


Mixture = GaussianMixture | FullMixture


@dataclass(frozen=True)
class MixtureMarginal(OnePass):
    """The exact marginal of a path x_t = α x0 + β x1 + γ z between mixtures.

    All fields take times ``(batch,)`` (or a scalar) and states ``(batch, *event)``, and return the
    dtype of the states. They hold at every t in [0, 1], ends included, where the law of x_t has a
    density; where x_t is a point (t = 1 of a law of points) `log_prob` is ±∞, the means given x are
    those of the nearest point, and the score and what contains it are finite stand-ins for
    infinite values: the variance is kept above (10 ε scale)², ε of the dtype.

    In float32, for 40 overlapping components in 128 dimensions, the largest error against float64
    is, relative to the largest value, 2e-7 for fields and log-densities with isotropic or shared
    covariances, where squares are expanded and that in float64; with a diagonal each, where the
    work is in float32, 3e-5 for fields (the posterior weights' error) and 2e-7 for log-densities.

    Args:
        path: its ``schedule`` gives α, β and γ; its ``base`` is not read.
        mixture: the law of x1.
        base: the law of x0; N(0, I) if None.
        coupling: joint probabilities of the labels of x0 and x1, ``(k0, k1)``, whose sums over rows
            and columns are the weights; independent if None.

    Raises:
        ShapeError: the laws live on different events, or ``coupling`` has another shape.
        DomainError: ``coupling`` is negative, or does not have the weights as sums.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> from genpath_interpolants.paths import LinearPath
        >>> law = GaussianMixture(torch.ones(1), torch.full((1, 1), 2.0), torch.ones(1))
        >>> marginal = MixtureMarginal(LinearPath(Euclidean(1)), law)
        >>> marginal.velocity(torch.tensor([0.0]), torch.tensor([[0.5]]))
        tensor([[1.5000]])
        >>> marginal.field("velocity+score")(0.0, torch.tensor([[0.5]])).shape
        torch.Size([1, 2, 1])
    """

    path: Scheduled
    mixture: Mixture
    base: Mixture | None = None
    coupling: Tensor | None = None
    labels: Tensor = field(init=False, repr=False, compare=False)
    _pairs: Pairs = field(init=False, repr=False, compare=False)
    _tables: tuple[Tensor, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        data, base = self.mixture, self.base or _standard(self.mixture)
        if data.event_shape != base.event_shape:
            raise ShapeError(
                "MixtureMarginal",
                "both laws live on one event.",
                got=f"base {base.event_shape}, data {data.event_shape}",
            )
        joint = self._joint(base)
        labels = joint.nonzero()  # (pairs, 2): label of x0, label of x1
        first, second = labels.unbind(1)
        tables = (
            joint[first, second],
            _flat(base.means.double())[first],
            base.variances()[first],
            _flat(data.means.double())[second],
            data.variances()[second],
        )
        floor = None
        if data.atomic or base.atomic:
            size = max(1.0, *(float(tables[k].abs().max()) for k in (1, 3)))
            floor = (10 * torch.finfo(data.means.dtype).eps * size) ** 2
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "_tables", tables)
        object.__setattr__(self, "_pairs", pairs_of(*tables, floor))

    def _joint(self, base: Mixture) -> Tensor:
        a, b = base.weights.double(), self.mixture.weights.double()
        a, b = a / a.sum(), b / b.sum()
        if self.coupling is None:
            return a[:, None] * b
        joint = self.coupling.double()
        if joint.shape != (len(a), len(b)):
            raise ShapeError(
                "MixtureMarginal",
                "coupling has one row per component of the base, one column per one of the data.",
                got=f"{tuple(joint.shape)} for {len(a)} and {len(b)}",
            )
        gap = max(float((joint.sum(1) - a).abs().max()), float((joint.sum(0) - b).abs().max()))
        if bool((joint < 0).any()) or not gap < 1e-5:
            raise DomainError(
                "MixtureMarginal",
                "coupling is not negative and its sums are the weights.",
                got=f"least entry {float(joint.min()):g}, sums off by {gap:.2g}",
            )
        return joint / joint.sum()

    # -- values ------------------------------------------------------------------------------

    def fields(self, names: Iterable[str], t: Tensor | float, x: Tensor) -> dict[str, Tensor]:
        """Several fields from one pass: name → ``(batch, *event)``.

        Args:
            names: of `FIELDS`, or "log_prob".
            t, x: times and states.

        Raises:
            CapabilityError: an unknown name.

        Example:
            >>> from genpath.spaces import Euclidean
            >>> from genpath_interpolants.paths import LinearPath
            >>> law = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1))
            >>> marginal = MixtureMarginal(LinearPath(Euclidean(1)), law)
            >>> found = marginal.fields(["score", "log_prob"], 1.0, torch.ones(1, 1))
            >>> found["score"], found["log_prob"]
            (tensor([[-1.]]), tensor([-1.4189]))
        """
        wanted = self._wanted(names)
        pairs, times = self._pairs.at(x), self._times(t, x)
        dense = "log_prob" in wanted
        combined = {
            name: _coefficients(name, self.path.schedule, times).to(pairs.dtype).terms(pairs)
            for name in wanted
            if name != "log_prob"
        }
        solved = pairs.solves and x.device.type == "cpu" and plain(x)
        rest = {
            name: each.pop("C1 w") for name, each in combined.items() if solved and "C1 w" in each
        }
        weights = self._weights(times, x.dtype)
        for name, c in rest.items():
            _solve(combined[name], c, weights, pairs)
        terms = tuple(dict.fromkeys(term for each in combined.values() for term in each))
        means = [term for term in terms if term in ("m0", "m1")]
        passed = [term for term in terms if term not in (*means, "x")]

        def make(pairs: Pairs, marks: Marks, _: Any) -> tuple[Tensor, ...]:
            sums = [pairs.sum(marks, term) for term in passed]
            sums += [marks.posterior] if means else []
            return (*sums, torch.logsumexp(marks.log_terms, 1)) if dense else tuple(sums)

        sums = list(self._run(t, x, (), make)) if passed or means or dense else []
        density = sums.pop() if dense else None
        found = {"x": x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)}
        if means:  # of all rows at once
            posterior = sums.pop().to(pairs.dtype)
            found |= {term: pairs.means.sum(posterior, term).to(x.dtype) for term in means}
        found |= dict(zip(passed, sums, strict=True))
        values: dict[str, Tensor] = {}
        for name in wanted:
            if density is not None and name == "log_prob":
                values[name] = density
                continue
            total: Tensor | None = None
            for term, c in combined[name].items():
                c, part = c.to(x.dtype), found[term]
                total = c * part if total is None else torch.addcmul(total, c, part)
            values[name] = torch.zeros_like(x) if total is None else total
        if rest:
            small = (weights.beta[:, 0] < NEAR_BASE).expand(len(x)).nonzero()[:, 0]
            self._add_small(values, rest, t, x, small)
        return {n: v if n == "log_prob" else v.reshape(x.shape) for n, v in values.items()}

    def _add_small(
        self,
        values: dict[str, Tensor],
        rest: Mapping[str, Tensor],
        t: Tensor | float,
        x: Tensor,
        small: Tensor,
    ) -> None:
        """Adds k1 Σ_p π_p C1 w_p in the rows that `_solve` left out."""
        if not len(small):
            return

        def make(pairs: Pairs, marks: Marks, _: Any) -> tuple[Tensor, ...]:
            return (pairs.sum(marks, "C1 w"),)

        row_times = t[small] if isinstance(t, Tensor) and t.dim() else t
        (found,) = self._run(row_times, x[small], (), make)
        for name, c in rest.items():
            factor = c if len(c) == 1 else c[small]
            values[name].index_add_(0, small, factor.to(x.dtype) * found)

    # -- derivatives -------------------------------------------------------------------------

    def divergence(self, t: Tensor | float, x: Tensor, name: str = "velocity") -> Tensor:
        """∇ · f of a field, in closed form: ``(batch,)``.

        Σ_p π_p (tr K_p Σ_p⁻¹ − w_p · g_p) + w̄ · f in the notation of this package's pairs: no
        derivative is taken.
        """

        def make(pairs: Pairs, marks: Marks, c: tuple[Coefficients, ...]) -> tuple[Tensor]:
            values, trace = pairs.applied(marks, c[0])
            w, pi = pairs.whitened(marks), marks.posterior
            mean_w = (pi.unsqueeze(2) * w).sum(1)
            mean = (pi.unsqueeze(2) * values).sum(1)
            inner = (pi * (trace - (w * values).sum(2))).sum(1)
            return (inner + (mean_w * mean).sum(1),)

        self.field(name)
        (found,) = self._run(t, x, (name,), make)
        return found

    def hessian(self, t: Tensor | float, x: Tensor) -> Tensor:
        """∇∇ log p_t(x) on the flattened event: ``(batch, d, d)``."""

        def make(pairs: Pairs, marks: Marks, _: Any) -> tuple[Tensor]:
            w, pi = pairs.whitened(marks), marks.posterior
            mean = (pi.unsqueeze(2) * w).sum(1)
            square = (pi.unsqueeze(2) * w).mT @ w - mean.unsqueeze(2) * mean.unsqueeze(1)
            return (square - pairs.precision(marks),)

        (found,) = self._run(t, x, (), make)
        return found

    # -- laws --------------------------------------------------------------------------------

    def components(self, t: float) -> Mixture:
        """The law of x_t as a mixture, one component per row of `labels` (L5.13).

        Example:
            >>> from genpath.spaces import Euclidean
            >>> from genpath_interpolants.paths import LinearPath
            >>> law = GaussianMixture(torch.ones(1), torch.full((1, 1), 2.0), torch.ones(1))
            >>> middle = MixtureMarginal(LinearPath(Euclidean(1)), law).components(0.5)
            >>> middle.means, middle.stds**2
            (tensor([[1.]]), tensor([[0.5000]]))
        """
        weights, m0, c0, m1, c1 = self._tables
        at = self._weights(torch.full((1,), float(t), dtype=torch.float64, device=m1.device))
        alpha, beta, square = (float(v) for v in (at.alpha, at.beta, at.gamma_squared))
        means = (alpha * m0 + beta * m1).reshape(-1, *self.mixture.event_shape)
        dtype = self.mixture.means.dtype
        if max(c0.dim(), c1.dim()) == 3:
            size = m1.shape[1]
            c0, c1 = (_full(c, size) for c in (c0, c1))
            eye = torch.eye(size, dtype=torch.float64, device=m1.device)
            whole = alpha**2 * c0 + beta**2 * c1 + square * eye
            return FullMixture(weights.to(dtype), means.to(dtype), whole.to(dtype))
        if c0.dim() != c1.dim():
            c0, c1 = (c.unsqueeze(1) if c.dim() == 1 else c for c in (c0, c1))
        stds = (alpha**2 * c0 + beta**2 * c1 + square).sqrt()
        stds = stds.reshape(-1, *self.mixture.event_shape) if stds.dim() == 2 else stds
        return GaussianMixture(weights.to(dtype), means.to(dtype), stds.to(dtype))

    def sample(self, t: float, count: int, rng: torch.Generator) -> Tensor:
        """``count`` draws of x_t, ``(count, *event)``."""
        return self.components(t).sample(count, rng)

    # -- passes ------------------------------------------------------------------------------

    def _times(self, t: Tensor | float, x: Tensor) -> Tensor:
        """The times in float64, ``(batch,)``, or ``(1,)`` where all rows have one."""
        _placed("MixtureMarginal", x, self.mixture.means)
        times = row_times(t, x, "MixtureMarginal")
        single = not isinstance(t, Tensor) or t.dim() == 0 or (len(t) > 1 and t.stride(0) == 0)
        return (times[:1] if single and len(times) else times).double()

    def _run(
        self,
        t: Tensor | float,
        x: Tensor,
        names: tuple[str, ...],
        make: Callable[[Pairs, Marks, tuple[Coefficients, ...]], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:
        """What ``make`` makes of each piece of rows, joined and in the dtype of x."""
        times = self._times(t, x)
        pairs = self._pairs.at(x)
        weights = self._weights(times, pairs.dtype)
        coefficients = tuple(
            _coefficients(name, self.path.schedule, times).to(pairs.dtype) for name in names
        )
        y, pieces = x.reshape(len(x), math.prod(x.shape[1:])), list[list[Tensor]]()
        scratch = pairs.scratch(weights, y)
        whole: list[Tensor] = []
        for start in range(0, max(len(y), 1), pairs.rows):
            rows = slice(start, start + pairs.rows)
            marks = pairs.mark(weights[rows], y[rows].to(pairs.dtype), scratch)
            found = make(pairs, marks, tuple(c[rows] for c in coefficients))
            if scratch is None or len(y) <= pairs.rows:
                pieces.append([value.to(x.dtype) for value in found])
                continue
            whole = whole or [value.new_empty(len(y), *value.shape[1:]) for value in found]
            for target, value in zip(whole, found, strict=True):
                target[rows] = value
        if whole:
            return tuple(whole)
        if len(pieces) == 1:
            return tuple(pieces[0])
        return tuple(torch.cat(list(each)) for each in zip(*pieces, strict=True))

    def _weights(self, times: Tensor, dtype: torch.dtype = torch.float64) -> Weights:
        schedule = self.path.schedule
        parts = (schedule.alpha, schedule.beta, schedule.gamma_squared)
        alpha, beta, square = (part(times).unsqueeze(1) for part in parts)
        return Weights.of(alpha, beta, square.clamp_min(0), dtype)


NEAR_BASE = 0.08
"""The β below which `_solve` does not divide by it."""


def _solve(terms: dict[str, Tensor], c: Tensor, weights: Weights, pairs: Pairs) -> None:
    """Puts c Σ_p π_p C1 w_p into other terms, so that no pass over the pairs is made for it.

    For C0 = c0 I, β² C1 w_p = (x − α m0 − β m1) − V w_p with V = α² c0 + γ². Since c is ββ̇ or β it
    errs by ε |x|/β: rows with β below `NEAR_BASE` get 0.
    """
    assert pairs.base_variance is not None
    alpha, beta = weights.alpha, weights.beta
    share = torch.where(beta < NEAR_BASE, 0.0, c / (beta**2).clamp_min(NEAR_BASE**2))
    spread = alpha**2 * pairs.base_variance + weights.gamma_squared
    added = {"x": share, "m1": -beta * share, "w": -spread * share}
    if not pairs.means.no_base:
        added["m0"] = -alpha * share
    for term, value in added.items():
        terms[term] = terms[term] + value if term in terms else value


def _coefficients(name: str, schedule: AffineSchedule, times: Tensor) -> Coefficients:
    """The five numbers of a field at each time."""

    def column(value: Tensor) -> Tensor:
        return value.unsqueeze(1)

    if name == "score":
        return Coefficients(k2=column(-torch.ones_like(times)))
    if name == "noise":
        return Coefficients(k2=column(schedule.gamma(times)))
    alpha, beta = column(schedule.alpha(times)), column(schedule.beta(times))
    if name == "denoiser":
        return Coefficients(b=torch.ones_like(beta), k1=beta)
    if name == "base_denoiser":
        return Coefficients(a=torch.ones_like(alpha), k0=alpha)
    a, b = column(schedule.alpha.rate(times)), column(schedule.beta.rate(times))
    if schedule.boundary.kind == "one-sided":  # α̇ may be infinite at t = 1; its x0 is centred
        a = a.nan_to_num(posinf=0.0, neginf=0.0)
    k0 = 0.5 * column(schedule.alpha_squared.rate(times))  # αα̇, finite where α̇ is not
    k2 = column(schedule.gamma_gamma_rate(times)) if name == "velocity" else None
    return Coefficients(a, b, k0, b * beta, k2)


# -- checks and small helpers ------------------------------------------------------------------


def _alike(where: str, **parts: Tensor) -> None:
    """Floating tensors of one dtype on one device."""
    first = next(iter(parts.values()))
    if not all(part.is_floating_point() for part in parts.values()) or any(
        part.dtype != first.dtype or part.device != first.device for part in parts.values()
    ):
        got = ", ".join(f"{name} {part.dtype} on {part.device}" for name, part in parts.items())
        raise DomainError(
            where, "all parts are floating numbers of one dtype on one device.", got=got
        )


def _placed(where: str, x: Tensor, like: Tensor) -> None:
    if not x.is_floating_point() or x.device != like.device:
        raise DomainError(
            where,
            "states are floating numbers on the device of the law.",
            got=f"{x.dtype} on {x.device}, law on {like.device}",
            fix="move the states, or the law with `to`",
        )
    if x.shape[1:] != like.shape[1:]:
        raise ShapeError(
            where,
            "states are points of the law's space.",
            got=f"states {tuple(x.shape)}, points {tuple(like.shape[1:])}",
        )


def _weighted(where: str, weights: Tensor) -> None:
    if not bool((weights > 0).all()):
        raise DomainError(where, "weights are positive.", fix="leave such components out")
    if not math.isclose(float(weights.sum()), 1.0, abs_tol=1e-5):
        raise DomainError(where, "weights sum to 1.", got=f"{float(weights.sum()):g}")


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)


def _full(c: Tensor, size: int) -> Tensor:
    if c.dim() == 3:
        return c
    return torch.diag_embed(c if c.dim() == 2 else c.unsqueeze(1).expand(-1, size))


def _standard(law: Mixture) -> GaussianMixture:
    """N(0, I) beside a law."""
    one, zero = torch.ones_like(law.means[0]), torch.zeros_like(law.means[0])
    return GaussianMixture(torch.ones_like(law.weights[:1]), zero[None], one[None])


def _alone(law: Mixture) -> Pairs:
    """A mixture as the end of a path that has no other end."""
    weights, means, spread = law.weights.double(), _flat(law.means.double()), law.variances()
    return pairs_of(
        weights / weights.sum(), torch.zeros_like(means), torch.zeros_like(spread), means, spread,
        0.0 if law.atomic else None,
    )  # fmt: skip


def _log_prob(pairs: Pairs, event_shape: tuple[int, ...], x: Tensor) -> Tensor:
    like = torch.empty(0, *event_shape, device=x.device)
    _placed("log_prob", x, like)
    one = torch.ones(1, 1, dtype=torch.float64, device=x.device)
    y = x.reshape(len(x), math.prod(event_shape))
    pairs = pairs.at(x)
    weights = Weights.of(0 * one, one, 0 * one, pairs.dtype)
    y = y.to(pairs.dtype)
    found = [
        torch.logsumexp(pairs.mark(weights, y[start : start + pairs.rows]).log_terms, 1).to(x.dtype)
        for start in range(0, max(len(y), 1), pairs.rows)
    ]
    return torch.cat(found)


def _moments(weights: Tensor, means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
    w, m = weights.double() / weights.double().sum(), _flat(means.double())
    mean = w @ m
    gaps = m - mean
    return mean, (w[:, None, None] * covariances).sum(0) + (w[:, None] * gaps).T @ gaps
