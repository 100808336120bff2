r"""Uniform laws on boxes and on half squares, and what is known of such data given a noised point.

With x = α x0 + β x1, x0 ~ N(0, I), ξ = (x − β x1)/α is normal, and cut to (x − β K)/α where x1 is
uniform on K. A box is an interval in each coordinate. A *tooth*, a half square that stands on the
line x + y = 0, is an interval in q = (y − x)/√2 for each p = (x + y)/√2, over which Gauss–Legendre
nodes sum: the integrand is log-concave in p, its mode is near the point of the tooth nearest to
x/β, and the nodes cover the part of it that is not below e^{−L} of the mode. The moments of the
parts are mixed by the law of total variance, where nothing large is subtracted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Posterior", "Region", "given"]

ROOT = math.sqrt(2.0)
LOG_2PI = math.log(2 * math.pi)
NARROW = 0.02
"""Half-width times max(1, |middle|) below this: power series in place of differences of Φ."""

LEVEL = 22.0
"""L: what is left out of an integral over p is below e^{−L} of the mode."""

# -- laws ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Region:
    """The uniform law on boxes and on teeth: half squares that stand on the line x + y = 0.

    A tooth is {(p, q): 0 ≤ p ≤ √2 − |q − c|} with p = (x + y)/√2 and q = (y − x)/√2.

    Args:
        lower, upper: corners of the boxes, ``k`` lists of length d.
        teeth: their centres c; only for d = 2.
    """

    lower: tuple[tuple[float, ...], ...]
    upper: tuple[tuple[float, ...], ...]
    teeth: tuple[float, ...] = ()
    dtype: torch.dtype = torch.float64

    @property
    def event_shape(self) -> tuple[int, ...]:
        """``(d,)``."""
        return (len(self.lower[0]),)

    @cached_property
    def boxes(self) -> tuple[Tensor, Tensor]:
        """Middles and half-sides ``(k, d)``."""
        low, high = (torch.tensor(c, dtype=torch.float64) for c in (self.lower, self.upper))
        return (low + high) / 2, (high - low) / 2

    @cached_property
    def shares(self) -> Tensor:
        """Of the boxes, then of the teeth, each of area 2: ``(k + m,)``."""
        sizes = (2 * self.boxes[1]).prod(1)
        whole = torch.cat([sizes, torch.full((len(self.teeth),), 2.0, dtype=torch.float64)])
        return whole / whole.sum()

    @property
    def area(self) -> float:
        """Of the whole."""
        return float((2 * self.boxes[1]).prod(1).sum()) + 2.0 * len(self.teeth)

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` points ``(count, d)``."""
        kind = torch.multinomial(self.shares, count, replacement=True, generator=rng)
        inside = torch.rand(count, *self.event_shape, generator=rng, dtype=torch.float64)
        middle, half = self.boxes
        boxed = kind.clamp_max(len(middle) - 1)
        x = middle[boxed] + half[boxed] * (2 * inside - 1)
        if self.teeth:
            centre = torch.tensor(self.teeth, dtype=torch.float64)[
                (kind - len(middle)).clamp_min(0)
            ]
            p = ROOT * (1 - inside[:, 0].sqrt())
            q = centre + (ROOT - p) * (2 * inside[:, 1] - 1)
            x = torch.where((kind >= len(middle))[:, None], turned(p, q), x)
        return x.to(self.dtype)

    def contains(self, x: Tensor) -> Tensor:
        """Whether points ``(batch, d)`` lie in it: ``(batch,)``."""
        middle, half = (part.to(x) for part in self.boxes)
        inside = ((x[:, None] - middle).abs() <= half).all(2).any(1)
        if not self.teeth:
            return inside
        p, q = upright(x)
        reach = ROOT - (q[:, None] - torch.tensor(self.teeth, dtype=torch.float64).to(x)).abs()
        return inside | ((p[:, None] >= 0) & (p[:, None] <= reach)).any(1)

    def log_prob(self, x: Tensor) -> Tensor:
        """−log area inside, −∞ outside: ``(batch,)``."""
        value = torch.full_like(x[:, 0], -math.log(self.area))
        return torch.where(self.contains(x), value, -math.inf)


def turned(p: Tensor, q: Tensor) -> Tensor:
    """(x, y) ``(n, 2)`` from p = (x + y)/√2 and q = (y − x)/√2."""
    return torch.stack([(p - q) / ROOT, (p + q) / ROOT], -1)


def upright(x: Tensor) -> tuple[Tensor, Tensor]:
    """p and q of points ``(n, 2)``."""
    return (x[:, 0] + x[:, 1]) / ROOT, (x[:, 1] - x[:, 0]) / ROOT


# -- what is known of x1 given x_t -----------------------------------------------------------------


class Posterior(NamedTuple):
    """log p_t ``(n,)``, R and E[x1|x] as d tensors ``(n,)``, S and T ``(n,)``."""

    log_prob: Tensor
    noise: tuple[Tensor, ...]
    data: tuple[Tensor, ...]
    noise_variance: Tensor
    data_variance: Tensor


def mixed(parts: Posterior) -> Posterior:
    """The mixture of components ``(k, n)``."""
    logs = parts.log_prob
    total = logs.logsumexp(0)
    share = (logs - total).exp()

    def moments(means: tuple[Tensor, ...], variance: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        centres = tuple((share * m).sum(0) for m in means)
        spread = sum(((m - c).square() for m, c in zip(means, centres, strict=True)), variance)
        return centres, (share * spread).sum(0)

    noise, noise_variance = moments(parts.noise, parts.noise_variance)
    data, data_variance = moments(parts.data, parts.data_variance)
    return Posterior(total, noise, data, noise_variance, data_variance)


def cut_normal(middle: Tensor, half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A normal ξ cut to [m − c, m + c]: log of the mean of φ there, E[ξ − m]/c and Var[ξ]/c²."""
    narrow = half * middle.abs().clamp_min(1) < NARROW
    c, m = torch.where(narrow, 1.0, half), torch.where(narrow, 0.0, middle)
    mirrored = -m.abs()  # the interval whose middle lies below 0 is the mirrored one
    a, b = mirrored - c, (mirrored + c).clamp_max(25.0)  # Φ(25) is 1; erfcx stays finite
    tail, far = torch.special.erfcx(b * -math.sqrt(0.5)), torch.special.erfcx(a * -math.sqrt(0.5))
    drop = torch.exp(0.5 * (b - a) * (b + a))
    rest = 1 - far / tail * drop
    height = math.sqrt(2 / math.pi) / (tail * rest)  # φ(b)/(Φ(b) − Φ(a))
    mean = height * (drop - 1)
    log_mean = (0.25 * tail * rest / c).log() - 0.5 * b * b
    offset = (mean - mirrored) / c * torch.where(m > 0, -1.0, 1.0)
    spread = (1 + height * (a * drop - b) - mean * mean) / (c * c)
    square, m2 = half * half, middle * middle
    series = m2 * (1 / 6) - 1 / 6 + square * (1 / 90 - m2 * (1 / 45) - m2 * m2 * (1 / 180))
    return (
        torch.where(narrow, square * series - 0.5 * m2 - 0.5 * LOG_2PI, log_mean),
        torch.where(narrow, half * middle * (-1 / 3 + square * (2 / 45 + m2 / 45)), offset),
        torch.where(narrow, 1 / 3 - square * (2 / 45 + m2 / 15), spread),
    )


def of_boxes(region: Region, x: Tensor, alpha: Tensor, beta: Tensor) -> Posterior:
    """Components ``(k, n)`` of the boxes."""
    middle, side = (part.to(x)[:, :, None] for part in region.boxes)  # (k, d, 1)
    m, c = (x.T - beta * middle) / alpha, beta * side / alpha
    log_mean, offset, spread = cut_normal(m, c.expand_as(m))
    logs = (log_mean - alpha.log()).sum(1) + region.shares.to(x)[: len(middle), None].log()
    noise, data = m + c * offset, middle - side * offset
    variances = (spread * c * c).sum(1), (spread * side * side).sum(1)
    return Posterior(logs, noise.unbind(1), data.unbind(1), *variances)


def nearest(along: Tensor, reach: Tensor, height: Tensor) -> Tensor:
    """p of the point of a tooth nearest to the given one, all in units of α/β.

    Args:
        along: p of the point.
        reach: its |q − c|.
        height: of the tooth.
    """
    inner = torch.minimum(along, (along + height - reach) / 2)
    return torch.minimum(inner.clamp_min(0), height)


def window(along: Tensor, reach: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
    """Where the mass over p is: lower end and half-length; arguments as of `nearest`."""
    mode = nearest(along, reach, height)
    slope = along - mode - (reach - height + mode).clamp_min(0)  # of the log of the integrand
    wide = (slope * slope + 2 * LEVEL).sqrt()  # |slope| w + w²/2 = L where it falls off
    low = (mode - wide + slope.clamp_min(0)).clamp_min(0)
    return low, 0.5 * (torch.minimum(mode + wide + slope.clamp_max(0), height) - low)


@cache
def legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [−1, 1], ``(count, 1)``."""
    place, weight = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(place)[:, None], torch.from_numpy(weight)[:, None]


def of_teeth(
    region: Region, x: Tensor, alpha: Tensor, beta: Tensor, nodes: int, others: Tensor
) -> Posterior:
    """The teeth ``(m, n)``, by nodes over p; those that do not count are left out.

    A tooth at distance r of x/β has a density of at most share e^{−r²β²/2α²}/(2πα²). Where that is
    below e^{−40} of another part of the law, it is not looked at.

    Args:
        others: log-density of the boxes ``(n,)``.
    """
    centre = torch.tensor(region.teeth, dtype=torch.float64).to(x)[:, None]
    share = float(region.shares[-1])
    (p, q), scale = upright(x), beta / alpha
    along, across = (p / alpha).expand(len(centre), -1), (q - beta * centre) / alpha
    height = (ROOT * scale).expand_as(along)
    mode = nearest(along, across.abs(), height)
    far = (along - mode).square() + (across.abs() - height + mode).clamp_min(0).square()
    least = far.min(0).values
    known = others - math.log(share) + LOG_2PI + 2 * alpha.log()
    kept = (far <= torch.minimum(least, -2 * known) + 80) | (far == least)
    tooth, row = kept.nonzero(as_tuple=True)
    found = of_pairs(along[kept], across[kept], height[kept], scale[row], centre[tooth, 0], nodes)
    found = found._replace(log_prob=found.log_prob + math.log(share) - 2 * alpha[row].log())

    def spread(part: Tensor, empty: float = 0.0) -> Tensor:
        return torch.full_like(along, empty).index_put((tooth, row), part)

    noise, data = (
        tuple(map(spread, turned(*pair).unbind(1))) for pair in (found.noise, found.data)
    )
    variances = spread(found.noise_variance), spread(found.data_variance)
    return Posterior(spread(found.log_prob, -math.inf), noise, data, *variances)


def of_pairs(
    along: Tensor, across: Tensor, height: Tensor, scale: Tensor, centre: Tensor, nodes: int
) -> Posterior:
    """Points and teeth in pairs ``(k,)``: log(α² density), and the posterior in (p, q)."""
    low, span = window(along, across.abs(), height)
    place, weight = legendre(nodes)
    z = low + span * (1 + place)  # (nodes, k)
    half = (height - z).clamp_min(0)
    log_mean, offset, spread = cut_normal(across.expand_as(z), half)
    flat, unit = scale == 0, torch.where(scale == 0, 1.0, scale)  # at β = 0 every window is a point
    width = torch.where(flat, 0.5 * ROOT * (1 - place), half / unit)
    where = torch.where(flat, 0.5 * ROOT * (1 + place), z / unit)
    size = torch.where(flat, ROOT / 2, span / unit) * weight * width  # of the tooth's area, 2
    logs = log_mean - 0.5 * (along - z).square() - 0.5 * LOG_2PI + size.log()
    noise, data = (along - z, across + half * offset), (where, centre - width * offset)
    return mixed(Posterior(logs, noise, data, spread * half * half, spread * width * width))


def given(region: Region, x: Tensor, alpha: Tensor, beta: Tensor, most: int) -> Posterior:
    """The posterior of x1 and ξ given x_t = x.

    Args:
        region: of x1.
        x: ``(n, d)``, in float64.
        alpha, beta: ``(n,)``.
        most: nodes of the integral over p; as many are taken as the window is wide.
    """
    boxes = of_boxes(region, x, alpha, beta)
    if not region.teeth:
        return mixed(boxes)
    wide = min(ROOT * float((beta / alpha).max()), 2 * math.sqrt(2 * LEVEL)) if len(x) else 0.0
    nodes = min(most, 6 + 2 * round(1.4 * wide))
    teeth = of_teeth(region, x, alpha, beta, nodes, boxes.log_prob.logsumexp(0))

    def joined(one: Any, other: Any) -> Any:
        if isinstance(one, tuple):
            return tuple(map(joined, one, other))
        return torch.cat([one, other])

    return mixed(Posterior(*map(joined, boxes, teeth)))
