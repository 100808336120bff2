r"""Boxes: data uniform on axis-aligned boxes, whose interpolant is known exactly.

With x0 ~ N(0, σ² I) and x1 ~ Σ_k w_k U(B_k), independent, B_k = Π_i [l_ki, u_ki], the point
x_t = α x0 + β x1 + γ z is β x1 + τ ξ with τ² = α² σ² + γ² and ξ ~ N(0, I), so that, with
a = (x − β u)/τ ≤ b = (x − β l)/τ in every coordinate,

    p_t(x) = Σ_k w_k Π_i p_ki(x_i)      p_ki = (Φ(b) − Φ(a))/(β (u − l))

Given the box, ξ is a normal vector cut to [a, b], whose mean is R = (φ(a) − φ(b))/(Φ(b) − Φ(a)).
The posterior weights of the boxes, π_k ∝ w_k Π_i p_ki, mix it to R̄, and

    s = −R̄/τ     E[x0|x] = α σ² R̄/τ     E[z|x] = γ R̄/τ     E[x1|x] = Σ_k π_k (x − τ R_k)/β
    v = β̇ E[x1|x] − ½ σ² (α²)˙ s     b = v − γγ̇ s

(L5 of the course with boxes in place of normal components.) Differences of Φ are taken in the
lower tail, as Φ(b) (1 − Φ(a)/Φ(b)) by scaled error functions. Where b − a is small (β small, or a
box much smaller than τ) the formulas lose all digits; there the integral of φ over [a, b] is taken
by Gauss–Legendre nodes about its middle, which is exact to rounding and holds at β = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError
from genpath.jumps import pick
from genpath.states import flat_event, row_times

from ._fields import OnePass
from .data import Checkerboard
from .mixtures import Scheduled

__all__ = ["BoxMarginal", "BoxMixture", "checkerboard_boxes"]

LOG_2PI = math.log(2 * math.pi)
NARROW = 0.5
"""(b − a) max(1, |a + b|/2) below this: nodes in place of differences of Φ."""

NODES, SHARES = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(8))


@dataclass(frozen=True)
class BoxMixture:
    """Σ_k w_k U(Π_i [l_ki, u_ki]) on R^d; boxes may overlap.

    Args:
        lower, upper: the corners ``(k, *event)``, lower < upper in every coordinate.
        weights: ``(k,)``, positive, with sum 1; proportional to the volumes if None, which is the
            uniform law on the union of boxes that do not overlap.

    Raises:
        ShapeError: the parts do not have one row per box.
        DomainError: a corner is not below the other, or a weight is not positive, or they do not
            sum to 1, or the parts are not floating numbers of one dtype on one device.

    Example:
        >>> law = BoxMixture(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [4.0]]))
        >>> law.weights, law.log_prob(torch.tensor([[0.5], [1.5], [3.0]])).exp()
        (tensor([0.3333, 0.6667]), tensor([0.3333, 0.0000, 0.3333]))
    """

    lower: Tensor
    upper: Tensor
    weights: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        lower, upper = self.lower, self.upper
        if lower.shape != upper.shape or lower.dim() < 1 or not len(lower):
            got = f"lower {tuple(lower.shape)}, upper {tuple(upper.shape)}"
            raise ShapeError("BoxMixture", "corners are (k, *event), k ≥ 1.", got=got)
        same = lower.dtype == upper.dtype and lower.device == upper.device
        if not (lower.is_floating_point() and same):
            raise DomainError(
                "BoxMixture",
                "the parts are floating numbers of one dtype on one device.",
                got=f"{lower.dtype} on {lower.device}, {upper.dtype} on {upper.device}",
            )
        sides = flat_event(upper - lower)
        if not bool((sides > 0).all() and sides.isfinite().all()):
            raise DomainError(
                "BoxMixture",
                "lower < upper in every coordinate, both finite.",
                got=f"a side of {float(sides.min()):g}",
            )
        if self.weights is None:
            share = sides.double().log().sum(1).softmax(0)
            object.__setattr__(self, "weights", share.to(lower.dtype))
            return
        weights = self.weights
        if weights.shape != lower.shape[:1]:
            got = f"weights {tuple(weights.shape)} for {len(lower)} boxes"
            raise ShapeError("BoxMixture", "there is one weight per box.", got=got)
        total = float(weights.double().sum())
        if not bool((weights > 0).all()) or abs(total - 1) > 1e-5 or weights.dtype != lower.dtype:
            raise DomainError(
                "BoxMixture",
                "weights are positive and sum to 1, in the dtype of the corners.",
                got=f"sum {total:g}, least {float(weights.min()):g}, {weights.dtype}",
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return tuple(self.lower.shape[1:])

    def to(self, *target: Any) -> BoxMixture:
        """The law in another dtype or on another device."""
        return BoxMixture(*(part.to(*target) for part in (self.lower, self.upper, self.weights)))

    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean ``(d,)`` and covariance ``(d, d)``, in float64.

        Example:
            >>> box = BoxMixture(torch.zeros(1, 1), torch.full((1, 1), 6.0))
            >>> box.moments()  # 6²/12
            (tensor([3.], dtype=torch.float64), tensor([[3.]], dtype=torch.float64))
        """
        low, high = flat_event(self.lower).double(), flat_event(self.upper).double()
        weights = self.weights.double() / self.weights.double().sum()
        middles, inner = (low + high) / 2, torch.diag_embed((high - low).square() / 12)
        centre = weights @ middles
        gaps = middles - centre
        spread = torch.einsum("k,kij->ij", weights, inner)
        return centre, spread + (weights[:, None] * gaps).T @ gaps

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` rows ``(count, *event)``."""
        index = pick(self.weights.expand(count, -1), rng)
        low, high = self.lower, self.upper
        inside = torch.rand(
            count, *self.event_shape, generator=rng, device=low.device, dtype=low.dtype
        )
        return low[index] + (high - low)[index] * inside

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of each row ``(batch,)``; −∞ outside the boxes, faces are inside."""
        low, high, y = flat_event(self.lower), flat_event(self.upper), flat_event(x)[:, None]
        inside = ((y >= low) & (y <= high)).all(2)
        heights = self.weights.log() - (high - low).log().sum(1)
        return torch.where(inside, heights, -math.inf).logsumexp(1)


def checkerboard_boxes(board: Checkerboard) -> BoxMixture:
    """A checkerboard's dark squares as boxes, in the dtype of its draws.

    Example:
        >>> boxes = checkerboard_boxes(Checkerboard(4, 4.0))
        >>> boxes.lower.shape, boxes.weights[0]
        (torch.Size([8, 2]), tensor(0.1250))
    """
    dtype, width = board.dtype or torch.get_default_dtype(), board.width / board.side
    corners = board._dark().to(torch.float64) * width - board.width / 2
    return BoxMixture(corners.to(dtype), (corners + width).to(dtype))


@dataclass(frozen=True)
class BoxMarginal(OnePass):
    """The exact marginal of x_t = α x0 + β x1 + γ z, x0 ~ N(0, σ² I), x1 on boxes, independent.

    Fields take times ``(batch,)`` or a scalar, and states ``(batch, *event)``; they are found in
    float64 and returned in the dtype of the states. At a time with τ = 0 (t = 1 of most paths,
    where x_t = x1) log-densities and fields are right inside the boxes; outside, where the law has
    no density, log p and the score are finite stand-ins of huge size.

    Args:
        path: its ``schedule`` gives α, β and γ; its ``base`` is not read.
        law: of x1.
        base_std: σ > 0.

    Raises:
        DomainError: σ ≤ 0.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> from genpath_interpolants.paths import LinearPath
        >>> law = BoxMixture(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
        >>> marginal = BoxMarginal(LinearPath(Euclidean(1)), law)
        >>> marginal.velocity(0.0, torch.tensor([[0.5]]))  # E[x1] − x
        tensor([[1.5000]])
        >>> marginal.log_prob(1.0, torch.tensor([[1.5]])).exp()
        tensor([0.5000])
    """

    path: Scheduled
    law: BoxMixture
    base_std: float = 1.0

    def __post_init__(self) -> None:
        if not self.base_std > 0:
            raise DomainError("BoxMarginal", "σ > 0.", got=f"base_std {self.base_std:g}")

    # -- values ------------------------------------------------------------------------------

    def log_prob(self, t: Tensor | float, x: Tensor) -> Tensor:
        """log p_t(x): ``(batch,)``, without the work of the fields."""
        return self._terms(t, x)[0].logsumexp(1).to(x.dtype)

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
            >>> law = BoxMixture(torch.tensor([[-1.0]]), torch.tensor([[1.0]]))
            >>> marginal = BoxMarginal(LinearPath(Euclidean(1)), law)
            >>> found = marginal.fields(["score", "denoiser"], 0.0, torch.ones(1, 1))
            >>> found["score"], found["denoiser"]
            (tensor([[-1.]]), tensor([[0.]]))
        """
        wanted = self._wanted(names)
        logs, cut, middle, tau = self._terms(t, x)
        share = logs.softmax(1)[..., None]
        drawn, denoiser = (share * cut).sum(1) / tau, (share * middle).sum(1)  # R̄/τ, E[x1|x]
        times, schedule = row_times(t, x, "BoxMarginal").double()[:, None], self.path.schedule
        variance = self.base_std**2

        def slow() -> Tensor:
            slope: Tensor = 0.5 * variance * schedule.alpha_squared.rate(times)
            return schedule.beta.rate(times) * denoiser + slope * drawn

        makers: dict[str, Callable[[], Tensor]] = {
            "log_prob": lambda: logs.logsumexp(1),
            "score": lambda: -drawn,
            "denoiser": lambda: denoiser,
            "base_denoiser": lambda: variance * schedule.alpha(times) * drawn,
            "noise": lambda: schedule.gamma(times) * drawn,
            "interpolant_velocity": slow,
            "velocity": lambda: slow() + schedule.gamma_gamma_rate(times) * drawn,
        }

        def shaped(name: str) -> Tensor:
            value = makers[name]().to(x.dtype)
            return value if name == "log_prob" else value.reshape(x.shape)

        return {name: shaped(name) for name in wanted}

    # -- how they are found ------------------------------------------------------------------

    def _terms(self, t: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log w_k p_k ``(n, k)``, R and E[x1|x, k] ``(n, k, d)``, and τ ``(n, 1)``."""
        times, schedule, law = row_times(t, x, "BoxMarginal").double(), self.path.schedule, self.law
        if x.shape[1:] != law.event_shape:
            got = f"states {tuple(x.shape)}, boxes {law.event_shape}"
            raise ShapeError("BoxMarginal", "states have the event shape of the boxes.", got=got)
        low, high = (flat_event(c).to(x.device, torch.float64) for c in (law.lower, law.upper))
        y, sides, centres = flat_event(x).double()[:, None], high - low, (low + high) / 2
        beta = schedule.beta(times)[:, None, None]
        square = self.base_std**2 * schedule.alpha_squared(times) + schedule.gamma_squared(times)
        least = 10 * torch.finfo(torch.float64).eps * float(sides.max())
        tau = square.clamp_min(least**2).sqrt()[:, None, None]
        width, middle = beta * sides / tau, (y - beta * centres) / tau  # b − a, (a + b)/2
        narrow = width * middle.abs().clamp_min(1) < NARROW
        thin = _by_nodes(torch.where(narrow, width, 0.0), torch.where(narrow, middle, 0.0))
        wide = _by_tails(torch.where(narrow, 1.0, width), torch.where(narrow, 0.0, middle))
        # thin: log mean of φ over [a, b], E[ξ − m]/(b − a);  wide: log mean, R
        mean_log = torch.where(narrow, thin[0], wide[0])
        offset = torch.where(narrow, width * thin[1], wide[1] - middle)  # R − m
        scaled = torch.where(narrow, thin[1], wide[1] - middle) * torch.where(
            narrow, sides, tau / torch.where(narrow, 1.0, beta)
        )
        logs = (mean_log - tau.log()).sum(2)
        weights = law.weights.to(x.device, torch.float64)
        return logs + (weights / weights.sum()).log(), middle + offset, centres - scaled, tau[:, 0]


def _by_nodes(width: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
    """log of the mean of φ over an interval, and E[ξ − m]/width, by Gauss–Legendre nodes."""
    nodes, shares = NODES.to(width.device), SHARES.to(width.device)
    y = 0.5 * width[..., None] * nodes
    density = torch.exp(-middle[..., None] * y - 0.5 * y * y) * (0.5 * shares)
    total = density.sum(-1)
    log_mean = total.log() - 0.5 * middle * middle - 0.5 * LOG_2PI
    return log_mean, 0.5 * (density * nodes).sum(-1) / total


def _by_tails(width: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
    """log of the mean of φ over an interval, and the mean R of the cut normal law.

    Φ(b) = ½ erfcx(−b/√2) e^{−b²/2}, so that neither Φ(a)/Φ(b) nor φ(b)/Φ(b) subtracts large
    numbers, however far from 0 the interval is.
    """
    sign = torch.where(middle > 0, -1.0, 1.0)  # the mirrored interval lies in the lower tail
    m = sign * middle
    a, b = m - 0.5 * width, (m + 0.5 * width).clamp_max(25.0)  # Φ(25) is 1; erfcx stays finite
    drop = 0.5 * (b - a) * (b + a)
    tail = torch.special.erfcx(-b * math.sqrt(0.5))
    ratio = torch.special.erfcx(-a * math.sqrt(0.5)) / tail * torch.exp(drop)
    mass = (0.5 * tail).log() - 0.5 * b * b + torch.log1p(-ratio)
    height = math.sqrt(2 / math.pi) / tail / (1 - ratio)  # φ(b)/(Φ(b) − Φ(a))
    return mass - width.log(), sign * height * torch.expm1(drop)
