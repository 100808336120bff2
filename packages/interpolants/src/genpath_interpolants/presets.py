"""Presets: the named paths of the literature, each a function and a component of configs.

| preset | x_t | base | γ |
|---|---|---|---|
| `linear` | (1−t) x0 + t x1 + γ z | any or normal | named |
| `trigonometric` | cos(πt/2) x0 + sin(πt/2) x1 + γ z | any or normal | named |
| `rescaled_trigonometric` | √(1−γ²) times trigonometric, + γ z | any or normal | √(a t(1−t)) |
| `squared_trigonometric` | cos²(πt/2) x0 + sin²(πt/2) x1 + γ z | any or normal | sin(πt)/√2 |
| `encoding_decoding` | x0 → z at t = ½ → x1 | any or normal | sin(πt) |
| `variance_preserving` | √(1−t²) x0 + t x1 | normal | 0 |
| `ornstein_uhlenbeck` | √(1−e^{−2τ}) x0 + e^{−τ} x1, τ = T(1−t) | normal | 0 |
| `mirror` | x1 + γ z | the data | named |
| `elliptical` | linear or trigonometric, x0 ~ N(0, C0) | normal | named |

See `genpath_interpolants.schedules` for sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from genpath.codecs import Codec
from genpath.datasets import Dataset
from genpath.errors import CapabilityError, DomainError
from genpath.laws import Gaussian
from genpath.spaces import Space

from .mixtures import FullMixture
from .paths import LinearPath
from .schedules import (
    encoding_decoding_schedule,
    linear_schedule,
    mirror_schedule,
    ornstein_uhlenbeck_schedule,
    rescaled_trigonometric_schedule,
    squared_trigonometric_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

__all__ = [
    "elliptical",
    "encoding_decoding",
    "linear",
    "mirror",
    "ornstein_uhlenbeck",
    "path_base",
    "rescaled_trigonometric",
    "squared_trigonometric",
    "trigonometric",
    "variance_preserving",
]

Base = Literal["gaussian", "any"]


def linear(
    state_space: Space, gamma: str = "none", gamma_scale: float = 1.0, base: Base = "any"
) -> LinearPath:
    """(1−t) x0 + t x1 + γ z: the component ``interpolants.linear``.

    Example:
        >>> from genpath import Euclidean
        >>> linear(Euclidean(2), "sqrt").latent
        True
    """
    return LinearPath(state_space, linear_schedule(gamma, gamma_scale), base)


def trigonometric(
    state_space: Space, gamma: str = "none", gamma_scale: float = 1.0, base: Base = "any"
) -> LinearPath:
    """cos(πt/2) x0 + sin(πt/2) x1 + γ z: the component ``interpolants.trigonometric``.

    Example:
        >>> import torch
        >>> from genpath import Euclidean
        >>> x, rng = torch.ones(1, 1), torch.Generator()
        >>> trigonometric(Euclidean(1)).draw(0.5, 0 * x, x, rng).state
        tensor([[0.7071]])
    """
    return LinearPath(state_space, trigonometric_schedule(gamma, gamma_scale), base)


def rescaled_trigonometric(
    state_space: Space, gamma_scale: float = 1.0, base: Base = "any"
) -> LinearPath:
    """√(1−γ²)(cos(πt/2) x0 + sin(πt/2) x1) + γ z, γ² = a t(1−t), a ≤ 4: covariance preserving with
    a latent; the component ``interpolants.rescaled_trigonometric``.

    Example:
        >>> from genpath import Euclidean
        >>> rescaled_trigonometric(Euclidean(1)).schedule.gamma(torch.tensor([0.5]))
        tensor([0.5000])
    """
    return LinearPath(state_space, rescaled_trigonometric_schedule(gamma_scale), base)


def squared_trigonometric(state_space: Space, base: Base = "any") -> LinearPath:
    """cos²(πt/2) x0 + sin²(πt/2) x1 + sin(πt)/√2 z: covariance preserving, with a smooth γ; the
    component ``interpolants.squared_trigonometric``.

    Example:
        >>> from genpath import Euclidean
        >>> squared_trigonometric(Euclidean(1)).schedule.alpha(torch.tensor([0.5]))
        tensor([0.5000])
    """
    return LinearPath(state_space, squared_trigonometric_schedule(), base)


def encoding_decoding(state_space: Space, base: Base = "any") -> LinearPath:
    """x0 to pure noise at t = ½, and on to x1: the component ``interpolants.encoding_decoding``.

    Example:
        >>> from genpath import Euclidean
        >>> encoding_decoding(Euclidean(1)).breakpoints
        (0.5,)
    """
    return LinearPath(state_space, encoding_decoding_schedule(), base)


def variance_preserving(state_space: Space) -> LinearPath:
    """√(1−t²) x0 + t x1, x0 ~ N(0, I): the component ``interpolants.variance_preserving``.

    Example:
        >>> from genpath import Euclidean
        >>> variance_preserving(Euclidean(1)).base
        'gaussian'
    """
    return LinearPath(state_space, variance_preserving_schedule(), "gaussian")


def ornstein_uhlenbeck(state_space: Space, horizon: float = 5.0) -> LinearPath:
    """√(1−e^{−2τ}) x0 + e^{−τ} x1, τ = T(1−t), x0 ~ N(0, I): noising for a finite time, the
    component ``interpolants.ornstein_uhlenbeck``.

    Example:
        >>> from genpath import Euclidean
        >>> ornstein_uhlenbeck(Euclidean(1)).schedule.boundary.base_variance
        1.0
    """
    return LinearPath(state_space, ornstein_uhlenbeck_schedule(horizon), "gaussian")


def mirror(state_space: Space, gamma: str = "sqrt", gamma_scale: float = 1.0) -> LinearPath:
    """x1 + γ z, the data at both ends: the component ``interpolants.mirror``.

    Its base law is the data law; in a config, ``base: data``.

    Example:
        >>> from genpath import Euclidean
        >>> "base_denoiser" in mirror(Euclidean(1)).predictions
        False
    """
    return LinearPath(state_space, mirror_schedule(gamma, gamma_scale))


def elliptical(
    state_space: Space,
    data: Dataset,
    codec: Codec,
    alpha_beta: Literal["linear", "trigonometric"] = "linear",
    gamma: str = "none",
    gamma_scale: float = 1.0,
    scales: Sequence[float] = (),
    fit: Literal["diagonal", "full"] = "diagonal",
    floor: float = 1e-3,
) -> LinearPath:
    """A path from N(0, C0): the component ``interpolants.elliptical``.

    Args:
        state_space: points of shape ``(d,)``.
        data, codec: whose encoded training rows C0 is fitted to where ``scales`` is empty.
        alpha_beta: which α and β.
        gamma, gamma_scale: which γ².
        scales: standard deviations of the base, one per coordinate.
        fit: "diagonal" takes the variances of the training rows, "full" their covariance.
        floor: the least standard deviation of the base, as a fraction of the largest.

    Raises:
        CapabilityError: points are not vectors.
        DomainError: a scale that is not positive, or not one scale per coordinate.

    Example:
        >>> from genpath import Euclidean, Identity
        >>> rows = torch.tensor([[0.0, 0.0], [2.0, 8.0]])
        >>> data = Dataset("two", Euclidean(2), rows, rows, rows, "made up")
        >>> elliptical(Euclidean(2), data, Identity()).base_covariance
        tensor([[ 2.,  0.],
                [ 0., 32.]])
    """
    shape: tuple[int, ...] = getattr(state_space, "event_shape", ())
    if len(shape) != 1:
        raise CapabilityError(
            "interpolants.elliptical",
            "points are vectors.",
            got=f"points of shape {shape}",
            fix="choose interpolants.linear, or a codec that flattens",
        )
    if scales:
        if len(scales) != shape[0] or not all(scale > 0 for scale in scales):
            raise DomainError(
                "interpolants.elliptical",
                f"scales are {shape[0]} positive numbers, one per coordinate.",
                got=", ".join(f"{scale:g}" for scale in scales),
            )
        covariance = torch.diag(torch.tensor(list(scales)) ** 2)
    else:
        covariance = _fitted(data, codec, fit, floor)
    build = {"linear": linear_schedule, "trigonometric": trigonometric_schedule}[alpha_beta]
    return LinearPath(state_space, build(gamma, gamma_scale), "gaussian", covariance)


def path_base(path: LinearPath) -> FullMixture | Gaussian:
    """N(0, C0), the base law that a path declares: the component ``interpolants.path_base``.

    Raises:
        CapabilityError: the path declares none.

    Example:
        >>> from genpath import Euclidean
        >>> path_base(variance_preserving(Euclidean(2))).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """
    if getattr(path, "base", "any") != "gaussian":
        raise CapabilityError(
            "interpolants.path_base",
            "the path declares a normal base.",
            got=repr(path),
            fix="set base: gaussian in the path, or name the base law itself",
        )
    if path.base_covariance is None:
        return Gaussian(path.state_space.event_shape)
    c0 = path.base_covariance
    return FullMixture(c0.new_ones(1), c0.new_zeros(1, c0.shape[0]), c0[None])


def _fitted(data: Dataset, codec: Codec, fit: str, floor: float) -> Tensor:
    with torch.no_grad():
        rows = codec.encode(data.train, torch.Generator().manual_seed(0))[0]
    covariance = torch.cov(rows.T).reshape(rows.shape[1], rows.shape[1])
    if fit == "diagonal":
        covariance = torch.diag(covariance.diagonal())
    values, vectors = torch.linalg.eigh(covariance.double())
    least = float(values.max()) * floor**2
    if float(values.min()) >= least:
        return covariance
    raised: Tensor = (vectors * values.clamp_min(least)) @ vectors.T
    return raised.to(covariance.dtype)
