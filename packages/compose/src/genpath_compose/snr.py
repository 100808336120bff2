r"""Variance-preserving schedules by their log-SNR: tables of steps, and noise levels.

    λ = log β²/α²      β² = 1/(1+e^{−λ})      α² = 1/(1+e^{λ})            x_t = α x0 + β x1
    β̇ = ½ λ̇ α² β       α̇ = −½ λ̇ α β²

A table is that of other libraries: ᾱ_k, the signal power after k = 0 … N−1 steps of noising, with
k = (N−1)(1−t); their last step is our t = 0. Between its steps λ is interpolated, which keeps the
path variance preserving and makes its rates exact for what it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError
from genpath.grids import TimeGrid
from genpath.schedules import AffineSchedule, Boundary, Scalar

__all__ = [
    "SnrSchedule",
    "alphas_cumprod",
    "cosine_betas",
    "karras_schedule",
    "linear_betas",
    "scaled_linear_betas",
    "table_schedule",
]


# -- tables ----------------------------------------------------------------------------------------


def linear_betas(steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """β_k from ``start`` to ``end`` in equal steps (Ho et al. 2020, arXiv 2006.11239).

    Example:
        >>> float(alphas_cumprod(linear_betas())[-1])  # what is left of the signal
        4.03582...e-05
    """
    return torch.linspace(start, end, steps, dtype=torch.float64)


def scaled_linear_betas(steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> Tensor:
    """√β_k in equal steps: latent diffusion (Rombach et al. 2022, arXiv 2112.10752).

    Example:
        >>> round(float(alphas_cumprod(scaled_linear_betas())[-1]), 5)
        0.00466
    """
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2


def cosine_betas(steps: int = 1000, shift: float = 0.008, most: float = 0.999) -> Tensor:
    """β_k = 1 − c((k+1)/N)/c(k/N), at most ``most``, with c(u) = cos²(π/2 (u + s)/(1 + s)).

    Source: Nichol & Dhariwal 2021, arXiv 2102.09672; known as "squaredcos_cap_v2".

    Example:
        >>> [round(float(b), 4) for b in cosine_betas(4)]
        [0.153, 0.417, 0.7079, 0.999]
    """
    grid = torch.arange(steps + 1, dtype=torch.float64) / steps
    signal = torch.cos(0.5 * math.pi * (grid + shift) / (1 + shift)) ** 2
    return (1 - signal[1:] / signal[:-1]).clamp_max(most)


def alphas_cumprod(betas: Tensor) -> Tensor:
    """ᾱ_k = Π_{j ≤ k} (1 − β_j).

    Example:
        >>> alphas_cumprod(torch.tensor([0.5, 0.5]))
        tensor([0.5000, 0.2500], dtype=torch.float64)
    """
    return torch.cumprod(1 - betas.double(), 0)


# -- schedules -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SnrSchedule:
    """A variance-preserving path given by its log-SNR: β² = 1/(1+e^{−λ}), α² = 1/(1+e^{λ}).

    Args:
        log_snr: λ, increasing in t, finite on [0, 1], with its rate.
        steps: N of a table, whose step is (N−1)(1−t); None for one of noise levels.

    Raises:
        DomainError: λ is not finite, or decreases.

    Example:
        >>> schedule = SnrSchedule(Scalar(lambda t: 8 * t - 4, lambda t: 8 + 0 * t))
        >>> alpha, beta, rate = schedule.coefficients(torch.tensor([0.5]))
        >>> alpha**2, beta**2, rate
        (tensor([0.5000]), tensor([0.5000]), tensor([8.]))
    """

    log_snr: Scalar
    steps: int | None = None

    def __post_init__(self) -> None:
        values = self.log_snr(torch.linspace(0, 1, 101, dtype=torch.float64))
        if not bool(values.isfinite().all()) or float(values.diff().min()) < 0:
            raise DomainError(
                "SnrSchedule",
                "λ is finite and does not decrease on [0, 1].",
                got=f"from {float(values[0]):g} to {float(values[-1]):g}",
            )

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """α, β and λ̇ at times ``(batch,)``."""
        snr = self.log_snr(t)
        return torch.sigmoid(-snr).sqrt(), torch.sigmoid(snr).sqrt(), self.log_snr.rate(t)

    def step(self, t: Tensor) -> Tensor:
        """Their step (N−1)(1−t), not rounded: ``(batch,)``.

        Raises:
            CapabilityError: the schedule has no steps.
        """
        return (self._count - 1) * (1 - t)

    def time(self, step: float) -> float:
        """t of a step: 1 − k/(N−1)."""
        return 1 - step / (self._count - 1)

    def grid(self, count: int) -> TimeGrid:
        """About ``count`` steps of equal size from t = 0 to t = 1, each at a whole step of theirs.

        Example:
            >>> table_schedule(alphas_cumprod(linear_betas(5))).grid(2).times
            (0.0, 0.5, 1.0)
        """
        last, count = self._count - 1, min(count, self._count - 1)
        return TimeGrid(tuple(self.time(last - round(last * i / count)) for i in range(count + 1)))

    def noise_level(self, t: Tensor) -> Tensor:
        """σ = α/β = e^{−λ/2}: the noise beside data that are not shrunk."""
        return torch.exp(-0.5 * self.log_snr(t))

    @property
    def _count(self) -> int:
        if self.steps is None:
            fix = "use noise_level(t), or build the schedule from a table"
            raise CapabilityError(
                "SnrSchedule", "a schedule of noise levels has no steps.", fix=fix
            )
        return self.steps

    @cached_property
    def affine(self) -> AffineSchedule:
        """α and β as a one-sided schedule of the core, truncated: x_0 ≈ N(0, I)."""
        ends = [
            dict(zip(("alpha", "beta"), (float(c) for c in self.coefficients(at)[:2]), strict=True))
            for at in torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        ]
        boundary = Boundary(
            ends[0] | {"gamma_squared": 0.0},
            ends[1] | {"gamma_squared": 0.0},
            base_variance=1.0,
            kind="one-sided",
        )

        def falling(t: Tensor) -> Tensor:
            alpha, beta, rate = self.coefficients(t)
            return -0.5 * rate * alpha * beta**2

        def rising(t: Tensor) -> Tensor:
            alpha, beta, rate = self.coefficients(t)
            return 0.5 * rate * beta * alpha**2

        return AffineSchedule(
            Scalar(lambda t: self.coefficients(t)[0], falling),
            Scalar(lambda t: self.coefficients(t)[1], rising),
            Scalar(torch.zeros_like, torch.zeros_like),
            boundary,
        )


def table_schedule(
    signal: Tensor | Sequence[float], interpolation: Literal["cubic", "linear"] = "cubic"
) -> SnrSchedule:
    """The schedule of a table ᾱ_0 > … > ᾱ_{N−1}: λ interpolated between the steps.

    "cubic" is monotone and has a continuous rate (Fritsch & Butland 1984); "linear" has a rate that
    jumps at each step. Either meets the table at its steps, with the exact rate of what it is.

    Args:
        signal: ᾱ_k, two or more, strictly decreasing in (0, 1).
        interpolation: of λ in k.

    Raises:
        DomainError: the table is not of that form; a table with ᾱ_{N−1} = 0 has no log-SNR there.

    Example:
        >>> schedule = table_schedule([0.99, 0.5, 0.01])
        >>> schedule.coefficients(torch.tensor([0.5]))[1] ** 2
        tensor([0.5000])
    """
    table = torch.as_tensor(signal, dtype=torch.float64).detach().cpu()
    name = "table_schedule"
    if interpolation not in ("cubic", "linear"):
        raise DomainError(name, "interpolation is cubic or linear.", got=repr(interpolation))
    if table.dim() != 1 or len(table) < 2 or not bool(((table > 0) & (table < 1)).all()):
        raise DomainError(
            name,
            "ᾱ is a table of two or more numbers in (0, 1).",
            got=f"shape {tuple(table.shape)}, from {table.max():g} to {table.min():g}",
            fix="for a last signal of 0, pass alphas_cumprod.clamp_min(2**-24)",
        )
    if not bool((table.diff() < 0).all()):
        worst = int((table.diff() >= 0).int().argmax())
        raise DomainError(
            name,
            "ᾱ decreases from step to step.",
            got=f"{float(table[worst]):g} and {float(table[worst + 1]):g} at steps "
            f"{worst} and {worst + 1}",
            fix="pass products of 1 − β, step 0 first, not the β themselves",
        )
    nodes = torch.logit(table)
    slopes = _monotone_slopes(nodes)
    curve = _hermite if interpolation == "cubic" else _chord
    last = len(table) - 1

    def value(t: Tensor) -> Tensor:
        return curve(nodes, slopes, last * (1 - t.double()))[0].to(t.dtype)

    def rate(t: Tensor) -> Tensor:
        return -last * curve(nodes, slopes, last * (1 - t.double()))[1].to(t.dtype)

    return SnrSchedule(Scalar(value, rate), len(table))


def karras_schedule(
    sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> SnrSchedule:
    """λ = −2 log σ with σ^{1/ρ} linear in t, from σ_max at t = 0 to σ_min at t = 1.

    Source: Karras et al. 2022, arXiv 2206.00364, equation 5.

    Raises:
        DomainError: not 0 < σ_min < σ_max, or ρ ≤ 0.

    Example:
        >>> karras_schedule().noise_level(torch.tensor([0.0, 1.0]))
        tensor([8.0000e+01, 2.0000e-03])
    """
    if not (0 < sigma_min < sigma_max < math.inf and rho > 0):
        raise DomainError(
            "karras_schedule",
            "0 < σ_min < σ_max, and ρ > 0.",
            got=f"σ_min {sigma_min:g}, σ_max {sigma_max:g}, ρ {rho:g}",
        )
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)

    def root(t: Tensor) -> Tensor:
        found: Tensor = high + (low - high) * t
        return found

    return SnrSchedule(
        Scalar(lambda t: -2 * rho * root(t).log(), lambda t: -2 * rho * (low - high) / root(t))
    )


# -- private ---------------------------------------------------------------------------------------


def _monotone_slopes(nodes: Tensor) -> Tensor:
    """Slopes at equidistant nodes whose Hermite cubic is monotone: harmonic means of chords."""
    chords = nodes.diff()
    if len(chords) == 1:
        return chords.expand(2).clone()
    first, second = chords[:-1], chords[1:]
    inner = 2 * first * second / (first + second)
    ends = torch.stack([1.5 * chords[0] - 0.5 * chords[1], 1.5 * chords[-1] - 0.5 * chords[-2]])
    most = 3 * chords[[0, -1]]
    ends = torch.maximum(torch.minimum(ends, torch.zeros_like(ends)), most)  # chords are negative
    return torch.cat([ends[:1], inner, ends[1:]])


def _place(nodes: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nodes on the device of ``step``, the index of the interval, and where in it."""
    index = step.floor().long().clamp(0, len(nodes) - 2)
    return nodes.to(step.device), index, step - index


def _hermite(nodes: Tensor, slopes: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """The cubic and its rate."""
    y, k, u = _place(nodes, step)
    m = slopes.to(step.device)
    left, right, first, second = y[k], y[k + 1], m[k], m[k + 1]
    square, curve = 3 * (right - left) - 2 * first - second, 2 * (left - right) + first + second
    return left + u * (first + u * (square + u * curve)), first + u * (2 * square + 3 * u * curve)


def _chord(nodes: Tensor, slopes: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """The chord and its rate."""
    y, k, u = _place(nodes, step)
    rise = y[k + 1] - y[k]
    return y[k] + u * rise, rise
