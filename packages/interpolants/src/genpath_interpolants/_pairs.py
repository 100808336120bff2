r"""Pairs of normal components at a time: log-terms, posterior weights, and sums over them.

Given the labels p of both ends, x0 ~ N(m0, C0) and x1 ~ N(m1, C1) are independent and

    x_t = α x0 + β x1 + γ z ~ N(μ_p, Σ_p)     μ_p = α m0 + β m1     Σ_p = α² C0 + β² C1 + γ² I

With w_p = Σ_p⁻¹ (x − μ_p) every conditional mean is linear: E[x0|x,p] = m0 + α C0 w_p,
E[x1|x,p] = m1 + β C1 w_p, E[z|x,p] = γ w_p. So a field is five numbers per time,

    f = Σ_p π_p g_p,   g_p = a m0 + b m1 + (k0 C0 + k1 C1 + k2 I) w_p =: a m0 + b m1 + K_p w_p

with π_p the posterior weights, ∇π_p = π_p (w̄ − w_p), w̄ = Σ_p π_p w_p = −∇log p_t, hence

    ∇·f = Σ_p π_p (tr K_p Σ_p⁻¹ − w_p·g_p) + w̄·f
    ∇∇ log p_t = Σ_p π_p (w_p w_pᵀ − Σ_p⁻¹) − w̄ w̄ᵀ

Four forms of Σ_p, from the cheapest: one number per pair (squares expanded, so that only products
of matrices remain), one diagonal for all pairs (the same), a diagonal per pair in a basis of the
pair (rows in pieces that stay in the cache), and any matrix (Cholesky).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["TERMS", "Coefficients", "Marks", "Pairs", "Weights", "pairs_of"]


Copies = dict[tuple[torch.dtype, torch.device], Any]


@dataclass(frozen=True)
class Weights:
    """α, β and γ² at the times, each ``(n, 1)``, or ``(1, 1)`` where all rows have one time."""

    alpha: Tensor
    beta: Tensor
    gamma_squared: Tensor
    squares: Tensor
    """α², β² and γ² side by side ``(n, 3)``."""

    @staticmethod
    def of(alpha: Tensor, beta: Tensor, gamma_squared: Tensor, dtype: torch.dtype) -> Weights:
        squares = torch.cat((alpha**2, beta**2, gamma_squared), 1)
        return Weights(*(part.to(dtype) for part in (alpha, beta, gamma_squared, squares)))

    def __getitem__(self, rows: slice) -> Weights:
        if len(self.alpha) == 1:
            return self
        parts = (self.alpha, self.beta, self.gamma_squared, self.squares)
        return Weights(*(part[rows] for part in parts))


TERMS = {"a": "m0", "b": "m1", "k0": "C0 w", "k1": "C1 w", "k2": "w"}
"""Coefficient → what it multiplies in g_p."""


@dataclass(frozen=True)
class Coefficients:
    """a, b, k0, k1 and k2 of a field, ``(n, 1)`` or ``(1, 1)`` each; None for 0."""

    a: Tensor | None = None
    b: Tensor | None = None
    k0: Tensor | None = None
    k1: Tensor | None = None
    k2: Tensor | None = None

    def terms(self, pairs: Pairs) -> dict[str, Tensor]:
        """Term → coefficient, of those that are not 0; multiples of I are joined."""
        found = {term: getattr(self, name) for name, term in TERMS.items()}
        if pairs.base_variance is not None and self.k0 is not None:
            joined = self.k0 * pairs.base_variance
            found["w"] = joined if self.k2 is None else self.k2 + joined
            found["C0 w"] = None
        if pairs.means.no_base:
            found["m0"] = None
        return {term: value for term, value in found.items() if value is not None}

    def _each(self, change: Any) -> Coefficients:
        values = (self.a, self.b, self.k0, self.k1, self.k2)
        return Coefficients(*(None if value is None else change(value) for value in values))

    def to(self, dtype: torch.dtype) -> Coefficients:
        return self._each(lambda value: value.to(dtype))

    def __getitem__(self, rows: slice) -> Coefficients:
        return self._each(lambda value: value if len(value) == 1 else value[rows])


@dataclass
class Marks:
    """What one pass over some rows finds.

    Args:
        weights: α, β, γ².
        log_terms: log p_p + log N(x; μ_p, Σ_p) ``(n, pairs)``.
        posterior: π ``(n, pairs)``.
        kept: what the form of Σ_p keeps for the sums.
    """

    weights: Weights
    log_terms: Tensor
    posterior: Tensor
    kept: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Scratch:
    """Two buffers ``(rows, pairs, d)``."""

    first: Tensor
    second: Tensor

    def __getitem__(self, rows: int) -> tuple[Tensor, Tensor]:
        return self.first[:rows], self.second[:rows]


class Pairs(Protocol):
    """The pairs of components, with one form of Σ_p."""

    rows: int
    """How many rows one pass takes."""

    means: _Means
    base_variance: Tensor | None
    """c where C0 = c I for every pair, so that k0 C0 is a part of k2."""

    dtype: torch.dtype
    """Of the work: points, weights and coefficients are given in it."""

    @property
    def solves(self) -> bool:
        """Whether the sum of C1 w is had from the others at less cost, in single precision."""
        ...

    def at(self, x: Tensor) -> Pairs:
        """The same with tables in the dtype of the work, on the device of x; made once."""
        ...

    def scratch(self, weights: Weights, x: Tensor) -> Scratch | None:
        """Buffers that the passes over pieces of x share; None where they may not, or need not."""
        ...

    def mark(self, weights: Weights, x: Tensor, scratch: Scratch | None = None) -> Marks:
        """One pass over points ``(n, d)``; with ``scratch``, valid until the next."""
        ...

    def sum(self, marks: Marks, name: str) -> Tensor:
        """Σ_p π_p y_p ``(n, d)``, y_p the term of `TERMS` of this name."""
        ...

    def whitened(self, marks: Marks) -> Tensor:
        """w_p ``(n, pairs, d)``."""
        ...

    def applied(self, marks: Marks, c: Coefficients) -> tuple[Tensor, Tensor]:
        """g_p ``(n, pairs, d)`` and tr K_p Σ_p⁻¹ ``(n, pairs)``."""
        ...

    def precision(self, marks: Marks) -> Tensor:
        """Σ_p π_p Σ_p⁻¹ ``(n, d, d)``."""
        ...


@dataclass(frozen=True)
class _Means:
    """The tables of both ends, centred at their means."""

    log_weights: Tensor
    m0: Tensor
    m1: Tensor
    centre0: Tensor
    centre1: Tensor
    one_base: bool
    no_base: bool
    """Whether every m0 is one and the same, and whether it is 0."""

    @staticmethod
    def of(weights: Tensor, m0: Tensor, m1: Tensor) -> _Means:
        centre0, centre1 = weights @ m0, weights @ m1
        one = bool((m0 == m0[:1]).all())
        if one:
            centre0 = m0[0]
        zero = bool((m0 == 0).all())
        return _Means(weights.log(), m0 - centre0, m1 - centre1, centre0, centre1, one, zero)

    def to(self, *, device: torch.device, dtype: torch.dtype) -> _Means:
        parts = (self.log_weights, self.m0, self.m1, self.centre0, self.centre1)
        log_weights, m0, m1, centre0, centre1 = (part.to(device, dtype) for part in parts)
        return _Means(log_weights, m0, m1, centre0, centre1, self.one_base, self.no_base)

    def centred(self, weights: Weights, x: Tensor) -> Tensor:
        """x less the centre of all μ_p."""
        return x - (weights.alpha * self.centre0 + weights.beta * self.centre1)

    def gaps(self, weights: Weights, x: Tensor, out: Tensor | None = None) -> Tensor:
        """x − μ_p ``(n, pairs, d)``."""
        beta = weights.beta.unsqueeze(2)
        gaps = torch.addcmul(x.unsqueeze(1), beta, self.m1 + self.centre1, value=-1, out=out)
        if self.no_base:
            return gaps
        alpha = weights.alpha.unsqueeze(2)
        return torch.addcmul(gaps, alpha, self.m0 + self.centre0, value=-1, out=out)

    def sum(self, posterior: Tensor, name: str) -> Tensor:
        """Σ_p π_p m0 or m1, with the means as they are given."""
        if name == "m1":
            return posterior @ self.m1 + self.centre1
        if self.one_base:
            return self.centre0.expand(len(posterior), -1)
        return posterior @ self.m0 + self.centre0

    def tables(self, c: Coefficients) -> Tensor | None:
        """a m0 + b m1 ``(n or 1, pairs, d)``."""
        found = None
        for factor, table, centre in ((c.a, self.m0, self.centre0), (c.b, self.m1, self.centre1)):
            if factor is not None:
                found = _add(found, factor.unsqueeze(2) * (table + centre))
        return found


def _add(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total + term


def _blend(weights: Weights, c0: Tensor, c1: Tensor) -> Tensor:
    """α² c0 + β² c1 + γ²."""
    return weights.alpha**2 * c0 + weights.beta**2 * c1 + weights.gamma_squared


def _normal(log_weights: Tensor, squares: Tensor, log_det: Tensor, size: int) -> Tensor:
    return log_weights - 0.5 * (squares + log_det + size * math.log(2 * math.pi))


def _atomic(log_terms: Tensor, squares: Tensor, variance: Tensor) -> Tensor:
    """The log-terms with those of a law at one point: +∞ there, −∞ elsewhere."""
    infinite = torch.where(squares > 0, -math.inf, math.inf).to(log_terms)
    return torch.where(variance > 0, log_terms, infinite)


class _Expanded:
    """What tables of one variance share: products of matrices in float64, expanded squares."""

    solves = False

    def __init__(self, means: _Means, c0: Tensor, c1: Tensor, floor: float | None) -> None:
        self.means, self.c0, self.c1, self.floor = means, c0, c1, floor
        self.dtype, self.copies = c1.dtype, Copies()
        self.rows = max(16, (1 << 14) // max(means.m1.shape))
        self.base_variance = c0[0] if bool((c0 == c0[0]).all()) else None

    def at(self, x: Tensor) -> Pairs:
        made: Pairs = _at(self, _wide_dtype(x), x.device)
        return made

    def scratch(self, weights: Weights, x: Tensor) -> None:
        return None

    def _slope(self, c: Coefficients, like: Tensor) -> Tensor:
        """k0 c0 + k1 c1 + k2: ``(n or 1, pairs)`` or ``(n or 1, d)``, as the tables are."""
        found = torch.zeros(1, 1, dtype=like.dtype, device=like.device)
        for factor, table in ((c.k0, self.c0), (c.k1, self.c1)):
            if factor is not None:
                found = found + factor * table
        return found if c.k2 is None else found + c.k2

    def _gaps(self, marks: Marks) -> Tensor:
        """x − μ_p ``(n, pairs, d)``."""
        weights, means = marks.weights, self.means
        found = marks.kept["y"].unsqueeze(1) - weights.beta.unsqueeze(2) * means.m1
        return found if means.one_base else found - weights.alpha.unsqueeze(2) * means.m0


class Isotropic(_Expanded):
    """Σ_p = v_p I. Products of matrices in float64, so that expanded squares do not cancel."""

    def __init__(self, means: _Means, c0: Tensor, c1: Tensor, floor: float | None) -> None:
        super().__init__(means, c0, c1, floor)
        self.norms = tuple((a * b).sum(1) for a, b in _products(means))

    def mark(self, weights: Weights, x: Tensor, scratch: Scratch | None = None) -> Marks:
        means, (n00, n01, n11) = self.means, self.norms
        alpha, beta = weights.alpha, weights.beta
        y = means.centred(weights, x)
        squares = y.square().sum(1, keepdim=True) - 2 * beta * (y @ means.m1.T) + beta**2 * n11
        if not means.one_base:
            squares = squares - 2 * alpha * (y @ means.m0.T) + alpha**2 * n00
            squares = squares + 2 * alpha * beta * n01
        squares = squares.clamp_min(0)
        variance = _blend(weights, self.c0, self.c1)
        safe = variance if self.floor is None else variance.clamp_min(self.floor)
        size = x.shape[1]
        log_terms = _normal(means.log_weights, squares / safe, size * safe.log(), size)
        posterior = torch.softmax(log_terms, 1)
        if self.floor is not None:
            log_terms = _atomic(log_terms, squares, variance)
        return Marks(weights, log_terms, posterior, {"y": y, "v": safe})

    def sum(self, marks: Marks, name: str) -> Tensor:
        weights, pi, means = marks.weights, marks.posterior, self.means
        if name in ("m0", "m1"):
            return means.sum(pi, name)
        share = pi / marks.kept["v"]
        if name != "w":
            share = share * (self.c0 if name == "C0 w" else self.c1)
        found = share.sum(1, keepdim=True) * marks.kept["y"] - (weights.beta * share) @ means.m1
        return found if means.one_base else found - (weights.alpha * share) @ means.m0

    def whitened(self, marks: Marks) -> Tensor:
        return self._gaps(marks) / marks.kept["v"].unsqueeze(2)

    def applied(self, marks: Marks, c: Coefficients) -> tuple[Tensor, Tensor]:
        y = marks.kept["y"]
        slope = self._slope(c, y)
        found = slope.unsqueeze(2) * self.whitened(marks)
        tables = self.means.tables(c)
        trace = (y.shape[1] * slope / marks.kept["v"]).expand_as(marks.posterior)
        return (found if tables is None else found + tables), trace

    def precision(self, marks: Marks) -> Tensor:
        size = marks.kept["y"].shape[1]
        share = (marks.posterior / marks.kept["v"]).sum(1)
        return share[:, None, None] * torch.eye(size, dtype=share.dtype, device=share.device)


class Shared(_Expanded):
    """Σ_p = diag v, the same for all pairs. Products of matrices in float64."""

    def __init__(self, means: _Means, c0: Tensor, c1: Tensor, floor: float | None) -> None:
        super().__init__(means, c0, c1, floor)
        self.products = tuple((a * b).T for a, b in _products(means))

    def mark(self, weights: Weights, x: Tensor, scratch: Scratch | None = None) -> Marks:
        means, (p00, p01, p11) = self.means, self.products
        alpha, beta = weights.alpha, weights.beta
        y = means.centred(weights, x)
        v = _blend(weights, self.c0, self.c1)
        v = v if self.floor is None else v.clamp_min(self.floor)
        inverse = 1 / v
        z = y * inverse
        squares = (y * z).sum(1, keepdim=True) - 2 * beta * (z @ means.m1.T)
        squares = squares + beta**2 * (inverse @ p11)
        if not means.one_base:
            squares = squares - 2 * alpha * (z @ means.m0.T) + alpha**2 * (inverse @ p00)
            squares = squares + 2 * alpha * beta * (inverse @ p01)
        log_det = v.log().sum(1, keepdim=True)
        log_terms = _normal(means.log_weights, squares.clamp_min(0), log_det, x.shape[1])
        return Marks(weights, log_terms, torch.softmax(log_terms, 1), {"y": y, "v": v})

    def sum(self, marks: Marks, name: str) -> Tensor:
        weights, pi, means = marks.weights, marks.posterior, self.means
        if name in ("m0", "m1"):
            return means.sum(pi, name)
        if "w" not in marks.kept:
            gap = marks.kept["y"] - weights.beta * (pi @ means.m1)
            if not means.one_base:
                gap = gap - weights.alpha * (pi @ means.m0)
            marks.kept["w"] = gap / marks.kept["v"]
        w = marks.kept["w"]
        return w if name == "w" else w * (self.c0 if name == "C0 w" else self.c1)

    def whitened(self, marks: Marks) -> Tensor:
        return self._gaps(marks) / marks.kept["v"].unsqueeze(1)

    def applied(self, marks: Marks, c: Coefficients) -> tuple[Tensor, Tensor]:
        y = marks.kept["y"]
        slope = self._slope(c, y)
        found = slope.unsqueeze(1) * self.whitened(marks)
        tables = self.means.tables(c)
        trace = (slope / marks.kept["v"]).expand_as(y).sum(1, keepdim=True)
        trace = trace.expand_as(marks.posterior)
        return (found if tables is None else found + tables), trace

    def precision(self, marks: Marks) -> Tensor:
        return torch.diag_embed((1 / marks.kept["v"]).expand_as(marks.kept["y"]))


class Diagonal:
    """Σ_p = Q_p diag v_p Q_pᵀ with a fixed basis Q_p of the pair, or none.

    Without a basis the work is in the dtype of x. A piece of rows makes about 2¹⁷ numbers, which
    stay in the cache; where nothing is differentiated the pieces share their buffers.
    """

    def __init__(
        self,
        means: _Means,
        c0: Tensor,
        c1: Tensor,
        floor: float | None,
        basis: Tensor | None = None,
    ) -> None:
        self.means, self.floor, self.basis = means, floor, basis
        self.dtype, self.copies = c1.dtype, Copies()
        self.c0, self.c1 = c0, c1
        pairs, size = c1.shape
        self.rows = max(1, (1 << 17) // max(pairs * size, 1))
        self.base_variance = c0[0, 0] if bool((c0 == c0[0, 0]).all()) else None
        self.table = torch.stack((c0, c1, torch.ones_like(c1))).reshape(3, -1)
        if basis is not None:
            self.flat = basis.permute(1, 0, 2).reshape(size, -1)  # (d, pairs · d)
            self.turned0 = torch.einsum("pde,pd->pe", basis, means.m0 + means.centre0)
            self.turned1 = torch.einsum("pde,pd->pe", basis, means.m1 + means.centre1)

    @property
    def solves(self) -> bool:
        """See `Pairs`."""
        plain = self.floor is None and self.basis is None and self.dtype == torch.float32
        return plain and self.base_variance is not None

    def at(self, x: Tensor) -> Pairs:
        dtype = x.dtype if self.basis is None else _wide_dtype(x)
        made: Pairs = _at(self, dtype, x.device)
        return made

    def scratch(self, weights: Weights, x: Tensor) -> Scratch | None:
        if self.basis is not None or not plain(x, weights.alpha, weights.gamma_squared):
            return None
        shape = (min(self.rows, len(x)), *self.c1.shape)
        return Scratch(x.new_empty(shape, dtype=self.dtype), x.new_empty(shape, dtype=self.dtype))

    def _variances(self, weights: Weights, out: Tensor | None = None) -> Tensor:
        """v ``(n or 1, pairs, d)``."""
        parts = weights.squares
        flat = None if out is None or len(parts) != len(out) else out.flatten(1)
        return torch.mm(parts, self.table, out=flat).view(-1, *self.c1.shape)

    def mark(self, weights: Weights, x: Tensor, scratch: Scratch | None = None) -> Marks:
        means, size = self.means, x.shape[1]
        first, second = (None, None) if scratch is None else scratch[len(x)]
        v = spread = self._variances(weights, first)
        if self.floor is not None:
            v = v.clamp_min(self.floor)
        log_det = torch.log(v, out=None if second is None else second[: len(v)]).sum(2)
        if self.basis is None:
            gaps = means.gaps(weights, x, second)
        else:
            gaps = (x @ self.flat).reshape(-1, *self.c1.shape)
            gaps = gaps - weights.beta.unsqueeze(2) * self.turned1
            gaps = gaps - weights.alpha.unsqueeze(2) * self.turned0
        points = None if self.floor is None else spread.amin(2)
        w = torch.div(gaps, v, out=first)
        squares = torch.mul(gaps, w, out=second).sum(2)
        log_terms = _normal(means.log_weights, squares, log_det, size)
        posterior = torch.softmax(log_terms, 1)
        if points is not None:
            log_terms = _atomic(log_terms, squares, points)
        kept = {"w": w} if second is None else {"w": w, "buffer": second}
        return Marks(weights, log_terms, posterior, kept)

    def sum(self, marks: Marks, name: str) -> Tensor:
        w, pi = marks.kept["w"], marks.posterior
        if name in ("m0", "m1"):
            return self.means.sum(pi, name)
        if name != "w":
            table = self.c0 if name == "C0 w" else self.c1
            w = torch.mul(w, table, out=marks.kept.get("buffer"))
        if self.basis is None:
            return torch.bmm(pi.unsqueeze(1), w).squeeze(1)
        return (pi.unsqueeze(2) * w).flatten(1) @ self.flat.T

    def _floored(self, weights: Weights) -> Tensor:
        v = self._variances(weights)
        return v if self.floor is None else v.clamp_min(self.floor)

    def _turned(self, w: Tensor) -> Tensor:
        return w if self.basis is None else torch.einsum("npe,pde->npd", w, self.basis)

    def whitened(self, marks: Marks) -> Tensor:
        return self._turned(marks.kept["w"])

    def applied(self, marks: Marks, c: Coefficients) -> tuple[Tensor, Tensor]:
        w = marks.kept["w"]
        slope = torch.zeros(1, 1, 1, dtype=w.dtype, device=w.device)
        for factor, table in ((c.k0, self.c0), (c.k1, self.c1)):
            if factor is not None:
                slope = slope + factor.unsqueeze(2) * table
        if c.k2 is not None:
            slope = slope + c.k2.unsqueeze(2)
        found = self._turned(slope * w)
        tables = self.means.tables(c)
        trace = (slope / self._floored(marks.weights)).expand_as(w).sum(2)
        return (found if tables is None else found + tables), trace

    def precision(self, marks: Marks) -> Tensor:
        share = marks.posterior.unsqueeze(2) / self._floored(marks.weights)
        if self.basis is None:
            return torch.diag_embed(share.sum(1))
        return torch.einsum("npe,pde,pfe->ndf", share, self.basis, self.basis)


class Dense:
    """Any Σ_p, by Cholesky factors in float64: one per pair and time."""

    solves = False

    def __init__(self, means: _Means, c0: Tensor, c1: Tensor, floor: float | None) -> None:
        self.means, self.c0, self.c1, self.floor = means, c0, c1, floor
        self.dtype, self.copies = c1.dtype, Copies()
        self.base_variance: Tensor | None = None
        pairs, size = c1.shape[:2]
        self.rows = max(1, (1 << 20) // (pairs * size * size))

    def at(self, x: Tensor) -> Pairs:
        made: Pairs = _at(self, _wide_dtype(x), x.device)
        return made

    def scratch(self, weights: Weights, x: Tensor) -> None:
        return None

    def mark(self, weights: Weights, x: Tensor, scratch: Scratch | None = None) -> Marks:
        means, size = self.means, x.shape[1]
        alpha, beta, square = (
            part[:, :, None, None] for part in (weights.alpha, weights.beta, weights.gamma_squared)
        )
        eye = torch.eye(size, dtype=x.dtype, device=x.device)
        square = square if self.floor is None else square + self.floor
        covariance = alpha**2 * self.c0 + beta**2 * self.c1 + square * eye
        root = torch.linalg.cholesky(covariance)
        gaps = means.gaps(weights, x)
        root = root.expand(len(x), *root.shape[1:])
        half = torch.linalg.solve_triangular(root, gaps.unsqueeze(3), upper=False)
        w = torch.linalg.solve_triangular(root.mT, half, upper=True).squeeze(3)
        log_det = 2 * root.diagonal(dim1=2, dim2=3).log().sum(2)
        log_terms = _normal(means.log_weights, half.square().sum((2, 3)), log_det, size)
        return Marks(weights, log_terms, torch.softmax(log_terms, 1), {"w": w, "root": root})

    def _slope(self, c: Coefficients, like: Tensor) -> Tensor:
        """K_p ``(n or 1, pairs, d, d)``."""
        found = torch.zeros(1, 1, 1, 1, dtype=like.dtype, device=like.device)
        for factor, table in ((c.k0, self.c0), (c.k1, self.c1)):
            if factor is not None:
                found = found + factor[:, :, None, None] * table
        if c.k2 is not None:
            eye = torch.eye(like.shape[2], dtype=like.dtype, device=like.device)
            found = found + c.k2[:, :, None, None] * eye
        return found

    def sum(self, marks: Marks, name: str) -> Tensor:
        if name in ("m0", "m1"):
            return self.means.sum(marks.posterior, name)
        share = marks.posterior.unsqueeze(2) * marks.kept["w"]
        if name == "w":
            return share.sum(1)
        table = self.c0 if name == "C0 w" else self.c1
        return share.flatten(1) @ table.mT.flatten(0, 1)

    def whitened(self, marks: Marks) -> Tensor:
        return marks.kept["w"]

    def applied(self, marks: Marks, c: Coefficients) -> tuple[Tensor, Tensor]:
        w = marks.kept["w"]
        slope = self._slope(c, w)
        found = (slope @ w.unsqueeze(3)).squeeze(3)
        tables = self.means.tables(c)
        trace = (slope * torch.cholesky_inverse(marks.kept["root"])).sum((2, 3))
        return (found if tables is None else found + tables), trace

    def precision(self, marks: Marks) -> Tensor:
        inverse = torch.cholesky_inverse(marks.kept["root"])
        return (marks.posterior[:, :, None, None] * inverse).sum(1)


def _wide_dtype(x: Tensor) -> torch.dtype:
    """float64, where the device has it."""
    return x.dtype if x.device.type == "mps" else torch.float64


def _at(pairs: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A copy with every table in a dtype on a device, kept for the next call."""
    if (pairs.dtype, pairs.c1.device) == (dtype, device):
        return pairs
    if (dtype, device) not in pairs.copies:
        made = copy.copy(pairs)
        made.dtype = dtype
        for name, value in vars(pairs).items():
            if isinstance(value, (Tensor, _Means)):
                setattr(made, name, value.to(device=device, dtype=dtype))
            elif isinstance(value, tuple):
                setattr(made, name, tuple(v.to(device=device, dtype=dtype) for v in value))
        pairs.copies[dtype, device] = made
    return pairs.copies[dtype, device]


def _products(means: _Means) -> tuple[tuple[Tensor, Tensor], ...]:
    return ((means.m0, means.m0), (means.m0, means.m1), (means.m1, means.m1))


def plain(*tensors: Tensor) -> bool:
    """Whether no derivative, batching or compilation follows these tensors."""
    if torch.compiler.is_compiling():
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return False
    try:
        for t in tensors:
            t.data_ptr()  # the tensors of torch.func have none
    except RuntimeError:
        return False
    return all(forward_ad.unpack_dual(t).tangent is None for t in tensors)


def pairs_of(
    weights: Tensor, m0: Tensor, c0: Tensor, m1: Tensor, c1: Tensor, floor: float | None
) -> Pairs:
    """The cheapest form that the covariances allow.

    Args:
        weights: ``(pairs,)``, positive, in float64 as all that follows.
        m0, m1: ``(pairs, d)``.
        c0, c1: variances ``(pairs,)`` or ``(pairs, d)``, or covariances ``(pairs, d, d)``.
        floor: the least variance that is divided by, where the law of x1 or x0 may be a point.
    """
    means = _Means.of(weights, m0, m1)
    if max(c0.dim(), c1.dim()) == 3:
        full0, full1 = _matrices(c0, m0.shape[1]), _matrices(c1, m1.shape[1])
        basis = _common_basis(full0, full1)
        if basis is None:
            return Dense(means, full0, full1, floor)
        turned0, turned1 = (
            torch.einsum("pde,pdf,pfe->pe", basis, c, basis).clamp_min(0) for c in (full0, full1)
        )
        return Diagonal(means, turned0, turned1, floor, basis)
    if c0.dim() == c1.dim() == 1:
        return Isotropic(means, c0, c1, floor)
    wide0, wide1 = (c.unsqueeze(1).expand_as(m1) if c.dim() == 1 else c for c in (c0, c1))
    if floor is None and bool((wide0 == wide0[:1]).all() and (wide1 == wide1[:1]).all()):
        return Shared(means, wide0[0], wide1[0], floor)
    return Diagonal(means, wide0, wide1, floor)


def _matrices(c: Tensor, size: int) -> Tensor:
    if c.dim() == 3:
        return c
    return torch.diag_embed(c if c.dim() == 2 else c.unsqueeze(1).expand(-1, size))


def _common_basis(c0: Tensor, c1: Tensor) -> Tensor | None:
    """Per pair an orthogonal basis in which both are diagonal; None if some pair has none."""
    size = [c.diagonal(dim1=1, dim2=2).sum(1).clamp_min(1e-300)[:, None, None] for c in (c0, c1)]
    # the ratio is irrational, so that equal eigenvalues of the sum are equal in both, nearly always
    basis: Tensor = torch.linalg.eigh(c0 / size[0] + math.sqrt(2) / 3 * c1 / size[1])[1]
    for c, scale in zip((c0, c1), size, strict=True):
        turned = basis.mT @ c @ basis
        off = turned - torch.diag_embed(turned.diagonal(dim1=1, dim2=2))
        if bool((off.abs() > 1e-12 * scale).any()):
            return None
    return basis
