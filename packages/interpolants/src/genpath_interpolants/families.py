r"""Families of interpolants: the constructions that a path can be made by.

| function | x_t | source |
|---|---|---|
| `general_mirror` | K(t, x1) + γ z, K(0) = K(1) = x1 | section 3.3 |
| `glued_mirror` | κ(t) x1 + γ z, κ = 0 on [t1, t2] | section 3.3 |
| `one_sided` | α x0 + J(t, x1), x0 ~ N(0, I) | section 3.2 |
| `smooth` | any path + g(t) z | section 4 |
| `latent` | (1−t) x0 + t x1 + γ z, z logistic, Student or normal | |
| `anisotropic` | (1−t) x0 + t x1 + γ S z, S a matrix | |

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797.) `smooth_step` is the C² step that they are
joined with: h(u) = 6u⁵ − 15u⁴ + 10u³, whose first and second derivatives vanish at 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import overload

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.schedules import MIRROR, TWO_SIDED, AffineSchedule, Scalar, scalar
from genpath.spaces import Space
from genpath.states import per_row

from .general import InterpolantPath
from .latents import Latent, latent_law
from .paths import LinearPath
from .relations import EDGE
from .schedules import named_gamma

__all__ = [
    "anisotropic",
    "flat_start_schedule",
    "general_mirror",
    "glued_mirror",
    "latent",
    "one_sided",
    "smooth",
    "smooth_step",
]

TimeFunction = Callable[[Tensor], Tensor]
OneEnd = Callable[[Tensor, Tensor], Tensor]
"""``K(t, x1)`` or ``J(t, x1)``, t ``(batch,)``."""


def smooth_step(start: float = 0.0, end: float = 1.0) -> Scalar:
    """0 before ``start``, 1 after ``end``, the quintic 6u⁵ − 15u⁴ + 10u³ between: C² in time.

    Example:
        >>> step = smooth_step(0.5, 1.0)
        >>> step(torch.tensor([0.4, 0.75, 1.0])), step.rate(torch.tensor([0.75]))
        (tensor([0.0000, 0.5000, 1.0000]), tensor([3.7500]))
    """
    width = end - start

    def place(t: Tensor) -> Tensor:
        u = ((t - start) / width).clamp(0, 1)
        return torch.where(t >= end, torch.ones_like(t), u)  # exactly 1 at the end

    def value(t: Tensor) -> Tensor:
        u = place(t)
        return u**3 * (10 - 15 * u + 6 * u**2)

    def rate(t: Tensor) -> Tensor:
        u = place(t)
        return 30 * (u * (1 - u)) ** 2 / width

    return Scalar(value, rate)


def flat_start_schedule(delta: float) -> AffineSchedule:
    """α = 1 − h, β = h, where h rises from 0 at δ to 1 at t = 1: I = x0 on [0, δ], C² in time.

    Raises:
        DomainError: δ is not in (0, 1).

    Example:
        >>> flat_start_schedule(0.2).beta(torch.tensor([0.1, 0.6, 1.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    if not 0 < delta < 1:
        raise DomainError("flat_start_schedule", "0 < delta < 1.", got=f"delta {delta:g}")
    rise = smooth_step(delta, 1.0)
    fall = Scalar(lambda t: 1 - rise(t), lambda t: -rise.rate(t))
    nothing = Scalar(lambda t: 0 * t, torch.zeros_like)
    return AffineSchedule(fall, rise, nothing, breakpoints=(delta,))


def general_mirror(
    state_space: Space,
    interpolation: OneEnd,
    noise: Latent | Scalar | TimeFunction,
    breakpoints: Sequence[float] = (),
) -> InterpolantPath:
    """x_t = K(t, x1) + γ z with K(0, ·) = K(1, ·) = id: the data at both ends.

    Only K is asked to be smooth; ρ1 need not have a density.

    Args:
        state_space: a `Euclidean` space.
        interpolation: K.
        noise: γ², or a `Latent`.
        breakpoints: times at which K is not smooth.

    Raises:
        DomainError: K is not the identity at an end.

    Example:
        >>> from genpath import Euclidean
        >>> def dip(t, x1):
        ...     return (1 - 2 * t * (1 - t))[:, None] * x1
        >>> path = general_mirror(Euclidean(1), dip, lambda t: t * (1 - t))
        >>> path.draw(0.0, torch.zeros(1, 1), torch.ones(1, 1), torch.Generator()).state
        tensor([[1.]])
    """
    return InterpolantPath(
        state_space,
        lambda t, x0, x1: interpolation(t, x1),
        noise,
        "mirror",
        breakpoints=tuple(breakpoints),
    )


def glued_mirror(
    state_space: Space,
    start: float = 0.4,
    end: float = 0.6,
    gamma: str = "sqrt",
    gamma_scale: float = 1.0,
) -> LinearPath:
    """x_t = κ(t) x1 + γ z with κ = 0 on [t1, t2]: two one-sided paths glued at pure noise; the
    component ``interpolants.glued_mirror``.

    κ falls from 1 to 0 on [0, t1] and rises again on [t2, 1], C² in time. On [t1, t2] the law of
    x_t is N(0, γ² I), whatever the data.

    Args:
        state_space: a `Euclidean` space.
        start, end: t1 and t2, 0 < t1 < t2 < 1.
        gamma, gamma_scale: which γ².

    Raises:
        DomainError: the times are not in that order, or gamma is "none".

    Example:
        >>> from genpath import Euclidean
        >>> glued_mirror(Euclidean(1)).schedule.beta(torch.tensor([0.0, 0.5, 1.0]))
        tensor([1., 0., 1.])
    """
    if not 0 < start < end < 1:
        raise DomainError(
            "glued_mirror", "0 < start < end < 1.", got=f"start {start:g}, end {end:g}"
        )
    if gamma == "none":
        raise DomainError(
            "glued_mirror", "a mirror has a latent noise.", got="gamma none", fix="write sqrt"
        )
    fall, rise = smooth_step(0.0, start), smooth_step(end, 1.0)
    weight = Scalar(lambda t: 1 - fall(t) + rise(t), lambda t: rise.rate(t) - fall.rate(t))
    nothing = Scalar(lambda t: 0 * t, torch.zeros_like)
    square = named_gamma(gamma, gamma_scale)
    schedule = AffineSchedule(nothing, weight, square, MIRROR, breakpoints=(start, end))
    return LinearPath(state_space, schedule)


def one_sided(
    state_space: Space,
    alpha: Scalar | TimeFunction,
    interpolation: OneEnd,
    breakpoints: Sequence[float] = (),
) -> InterpolantPath:
    """x_t = α(t) x0 + J(t, x1), x0 ~ N(0, I) independent of x1.

    It has the law of the two-sided path with I = J + δ x0 and γ² = α² − δ², for any δ ≤ α with the
    right ends: the noise of x0 and that of z add.

    Args:
        state_space: a `Euclidean` space.
        alpha: α > 0 on [0, 1), α(0) = 1 and α(1) = 0. Where α̇ is infinite at t = 1, the velocity's
            target uses it at the time clipped to 1 − EDGE.
        interpolation: J, with J(0, ·) = 0 and J(1, ·) = id.
        breakpoints: times at which J is not smooth.

    Raises:
        DomainError: α or J have other ends.

    Example:
        >>> from genpath import Euclidean
        >>> path = one_sided(Euclidean(1), lambda t: 1 - t, lambda t, x1: t[:, None] ** 2 * x1)
        >>> path.convert("score", {"base_denoiser": torch.ones(1, 1)}, 0.5, torch.zeros(1, 1))
        tensor([[-2.]])
    """
    weight = scalar(alpha)
    _check_weight(weight)

    def whole(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return per_row(weight(t), x0) * x0 + interpolation(t, x1)

    def rate(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        times = t.contiguous()
        slope: Tensor = torch.func.jvp(
            lambda s: interpolation(s, x1) + 0 * per_row(s, x1), (times,), (torch.ones_like(t),)
        )[1]
        at_end = weight.rate(times)
        inner = weight.rate(times.clamp(max=1 - EDGE))
        return per_row(torch.where(at_end.isfinite(), at_end, inner), x0) * x0 + slope

    return InterpolantPath(state_space, whole, None, "one-sided", rate, weight, tuple(breakpoints))


@overload
def smooth(path: LinearPath, gamma_squared: Scalar | TimeFunction) -> LinearPath: ...


@overload
def smooth(path: InterpolantPath, gamma_squared: Scalar | TimeFunction) -> InterpolantPath: ...


def smooth(
    path: LinearPath | InterpolantPath, gamma_squared: Scalar | TimeFunction
) -> LinearPath | InterpolantPath:
    """The same path with independent noise g z added: p_t becomes p_t * N(0, g² I).

    Modes of the laws in between merge as g grows; the ends stay.

    Args:
        path: a `LinearPath`, or an `InterpolantPath` whose noise, if any, is normal and isotropic.
        gamma_squared: g², 0 at both ends.

    Raises:
        CapabilityError: the latent noise of the path is of another law, or has a matrix.
        DomainError: g² is negative or does not vanish at the ends.

    Example:
        >>> from genpath import Euclidean
        >>> from genpath_interpolants.schedules import linear_schedule
        >>> path = LinearPath(Euclidean(1), linear_schedule("sqrt"))
        >>> wide = smooth(path, lambda t: t * (1 - t))
        >>> wide.schedule.gamma_squared(torch.tensor([0.5]))
        tensor([0.5000])
    """
    extra = Latent(gamma_squared).gamma_squared
    if isinstance(path, LinearPath):
        old = path.schedule
        boundary = TWO_SIDED if old.boundary.kind == "one-sided" else old.boundary
        if old.boundary.kind == "one-sided" and not old.boundary.exact:
            boundary = replace(old.boundary, kind="two-sided")
        schedule = AffineSchedule(
            old.alpha,
            old.beta,
            _sum(old.gamma_squared, extra),
            boundary,
            old.alpha_squared,
            old.breakpoints,
        )
        return replace(path, schedule=schedule)
    noise = path.noise
    if noise is None:
        if path.kind == "one-sided":
            # the sum of both normal noises: x0's share stays in I, z's is the new latent
            return replace(path, noise=Latent(extra), kind="two-sided", alpha=None)
        return replace(path, noise=Latent(extra))
    assert isinstance(noise, Latent)
    if not noise.plain:
        raise CapabilityError(
            "smooth",
            "only normal isotropic noises add up to one of their kind.",
            got=f"{noise.law}" + ("" if noise.matrix is None else " with a matrix"),
        )
    return replace(path, noise=Latent(_sum(noise.gamma_squared, extra)))


# -- components of configs -------------------------------------------------------------------------


def latent(
    state_space: Space,
    latent: str = "logistic",
    gamma: str = "sqrt",
    gamma_scale: float = 1.0,
    degrees: float = 5.0,
) -> InterpolantPath:
    """(1−t) x0 + t x1 + γ z with z of another law: the component ``interpolants.latent``.

    Args:
        state_space: a `Euclidean` space.
        latent: gaussian, logistic or student.
        gamma, gamma_scale: which γ².
        degrees: ν of student.

    Raises:
        DomainError: an unknown name, gamma "none", or ν ≤ 2.

    Example:
        >>> from genpath import Euclidean
        >>> "latent_gradient" in latent(Euclidean(2), "student").predictions
        True
    """
    square = named_gamma(gamma, gamma_scale)
    return _line(state_space, Latent(square, law=latent_law(latent, degrees)))


def anisotropic(
    state_space: Space,
    matrix: Sequence[Sequence[float]],
    gamma: str = "sqrt",
    gamma_scale: float = 1.0,
) -> InterpolantPath:
    """(1−t) x0 + t x1 + γ S z: the component ``interpolants.anisotropic``.

    Args:
        state_space: points of shape ``(d,)``.
        matrix: the rows of S ``(d, d)``; S need not be symmetric.
        gamma, gamma_scale: which γ².

    Raises:
        ShapeError: S is not square.
        CapabilityError: points are not vectors of its size.
        DomainError: S is singular.

    Example:
        >>> from genpath import Euclidean
        >>> path = anisotropic(Euclidean(2), [[1.0, 0.5], [0.0, 2.0]])
        >>> path.noise.scaled(torch.tensor([0.5]), torch.ones(1, 2))
        tensor([[0.7500, 1.0000]])
    """
    widths = {len(row) for row in matrix}
    if len(widths) != 1 or widths != {len(matrix)}:
        got = ", ".join(str(len(row)) for row in matrix) or "nothing"
        raise DomainError(
            "interpolants.anisotropic",
            "matrix has as many rows as entries in each.",
            got=f"{len(matrix)} rows of {got} entries",
        )
    rows = torch.tensor([list(row) for row in matrix], dtype=torch.float64)
    return _line(state_space, Latent(named_gamma(gamma, gamma_scale), rows))


def _line(state_space: Space, noise: Latent) -> InterpolantPath:
    def straight(t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return per_row(1 - t, x0) * x0 + per_row(t, x1) * x1

    return InterpolantPath(state_space, straight, noise, rate=lambda t, x0, x1: x1 - x0)


def _sum(a: Scalar, b: Scalar) -> Scalar:
    return Scalar(lambda t: a(t) + b(t), lambda t: a.rate(t) + b.rate(t))


def _check_weight(alpha: Scalar) -> None:
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    values = alpha(grid)
    ends = f"α(0) = {float(values[0]):g}, α(1) = {float(values[-1]):g}"
    if abs(float(values[0]) - 1) > 1e-6 or abs(float(values[-1])) > 1e-6:
        raise DomainError("one_sided", "α(0) = 1 and α(1) = 0.", got=ends)
    if not float(values[:-1].min()) > 0:
        raise DomainError(
            "one_sided", "α > 0 on [0, 1).", got=f"minimum {float(values[:-1].min()):g}"
        )
