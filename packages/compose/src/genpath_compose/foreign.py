r"""Strangers' networks as experts: noise, v, data or score predictions on steps or noise levels.

Other libraries noise in steps, k = 0 … N−1, from data to noise, by a table ᾱ_k of signal powers:

    x = √ᾱ x1 + √(1−ᾱ) ε                 (their x0 is our x1; their ε is our x0)

In our time, t = 0 is their last step and t = 1 their first one: k = (N−1)(1−t). All that is needed
is the log-SNR λ = log ᾱ/(1−ᾱ), a smooth increasing function of t, and one network call:

    β² = 1/(1+e^{−λ})      α² = 1/(1+e^{λ})            x_t = α x0 + β x1
    s = −ε/α               v = ½ λ̇ α (α x − ε)         ε(t, x) = E[x0 | x_t = x]
    f = −½ λ̇ α² x          σ² = λ̇ α²                   v = −f + ½ σ² s

so that nothing is divided by β, and velocity and score belong to one law path whatever λ is between
the steps. What a network predicts instead becomes ε: v' = β ε − α x1 (Salimans & Ho 2022, arXiv
2202.00512), x1, or s. A denoiser D(y, σ) = E[x1 | x1 + σ z = y] of a variance-exploding process
(Karras et al. 2022, arXiv 2206.00364) is the same with λ = −2 log σ and x = β y.

The path is truncated at both ends: it begins at ᾱ_{N−1}, where its law is N(0, I) up to √ᾱ_{N−1},
and ends at ᾱ_0, where the data carry noise of size √(1−ᾱ_0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.divergences import pushforward
from genpath.errors import CapabilityError, DomainError
from genpath.schedules import AffineSchedule
from genpath.spaces import Euclidean
from genpath.states import flat_event, per_row

from .experts import SMOOTH, DiffusionExpert, Expert
from .normals import Normal
from .processes import LinearDrift
from .snr import SnrSchedule, karras_schedule, table_schedule
from .tails import Tail, affine_tail

__all__ = [
    "PREDICTIONS",
    "ForeignExpert",
    "denoiser_expert",
    "noise_predictor",
]

Network = Callable[[Any, Tensor, Tensor], Tensor]
"""``(network, x, level) -> prediction``: how a network is called."""


# -- experts ---------------------------------------------------------------------------------------

PREDICTIONS: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "noise": lambda out, x, alpha, beta: out,
    "v": lambda out, x, alpha, beta: beta * out + alpha * x,
    "data": lambda out, x, alpha, beta: (x - beta * out) / alpha,
    "score": lambda out, x, alpha, beta: -alpha * out,
}
"""What a network predicts → ε, from (prediction, x, α, β)."""


@dataclass(frozen=True, eq=False)
class ForeignExpert(Expert):
    """An expert from ε(t, x) = E[x0 | x_t = x] on a variance-preserving path.

    It is at the same time one of a noising process, with `drift` f and `sigma` σ: `diffusion`.
    Divergences need that of ε alone. Where ε has no forward derivative (fused attention), they are
    found in reverse:

        ⟨ξ, (∂ε/∂x) ξ⟩ = ⟨(∂ε/∂x)ᵀ ξ, ξ⟩        one backward pass along the probe

    Args:
        noise: ε, ``(t, x) -> (batch, *event)``, one network call.
        schedule: λ.
        event_shape: of one point.
        name: what reports call it.
        derivative: "forward", "reverse", or "auto": forward where the network allows it, found out
            by the first divergence that is asked for. Reverse keeps activations.
        tail: that of compact data if None.
        start: N(0, I) if None, of the truncated path.
        support: points → whether q_1 can be positive there.

    Raises:
        DomainError: an unknown way to differentiate.

    Example:
        >>> from genpath.schedules import Scalar
        >>> schedule = SnrSchedule(Scalar(lambda t: 8 * t - 4, lambda t: 8 + 0 * t))
        >>> noise = lambda t, x: schedule.coefficients(t)[0][:, None] * x  # data N(0, 1)
        >>> expert = ForeignExpert(noise, schedule, (1,))
        >>> both = expert.fields(("velocity", "score"), torch.zeros(1), torch.ones(1, 1))
        >>> both["velocity"], both["score"]  # N(0, 1) stays
        (tensor([[0.]]), tensor([[-1.]]))
    """

    noise: Callable[[Tensor, Tensor], Tensor]
    schedule: SnrSchedule
    event_shape: tuple[int, ...]
    name: str = "network"
    derivative: Literal["auto", "forward", "reverse"] = "auto"
    tail: Tail | None = None
    start: Normal | None = None
    support: Callable[[Tensor], Tensor] | None = None
    has: frozenset[str] = field(default=SMOOTH, init=False)
    affine: AffineSchedule | None = field(default=None, init=False)
    _refused: list[bool] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        known = ("auto", "forward", "reverse")
        if self.derivative not in known:
            rule = "derivative is " + ", ".join(known) + "."
            raise DomainError(f"expert {self.name}", rule, got=repr(self.derivative))
        object.__setattr__(self, "event_shape", tuple(self.event_shape))
        object.__setattr__(self, "affine", self.schedule.affine)
        if self.tail is None:
            object.__setattr__(self, "tail", affine_tail(self.schedule.affine))
        if self.start is None:
            object.__setattr__(self, "start", Normal.isotropic(self.event_shape))

    @cached_property
    def drift(self) -> LinearDrift:
        """f = −½ λ̇ α² x, of the noising process in our time."""

        def slope(t: Tensor) -> Tensor:
            alpha, _, rate = self.schedule.coefficients(t)
            return -0.5 * rate * alpha**2

        return LinearDrift(slope)

    def sigma(self, t: Tensor) -> Tensor:
        """σ = α √λ̇, of times ``(batch,)``."""
        alpha, _, rate = self.schedule.coefficients(t)
        return alpha * rate.sqrt()

    def diffusion(self) -> DiffusionExpert:
        """The same expert for the table of correctors: experts of one table share f and σ.

        Its divergences are forward ones; correctors need none.
        """
        return DiffusionExpert(
            self.score,
            self.drift,
            self.sigma,
            self.event_shape,
            self.name,
            tail=self.tail,
            start=self.start,
            support=self.support,
        )

    def fields(
        self, names: Iterable[str], t: Tensor, x: Tensor, probe: Tensor | None = None
    ) -> dict[str, Tensor]:
        wanted = self.wanted(names)
        if any(name.endswith("divergence") for name in wanted):
            eps, div = self._derived(t, x, probe)
        else:
            eps, div = self.noise(t, x), x.new_zeros(len(x))
        alpha, _, rate = self.schedule.coefficients(t)
        half, size = 0.5 * rate * alpha, math.prod(self.event_shape)
        identity = size if probe is None else flat_event(probe * probe).sum(1)
        found = {
            "velocity": per_row(half, x) * (per_row(alpha, x) * x - eps),
            "score": -eps / per_row(alpha, x),
            "velocity_divergence": half * (alpha * identity - div),
            "score_divergence": -div / alpha,
        }
        return {name: found[name] for name in wanted}

    def _derived(self, t: Tensor, x: Tensor, probe: Tensor | None) -> tuple[Tensor, Tensor]:
        """ε and its divergence, or ⟨ξ, ∂_ξ ε⟩."""
        if self.derivative == "reverse" or self._refused:
            return self._reverse(t, x, probe)
        try:
            return self._forward(t, x, probe)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.derivative == "forward":
                raise CapabilityError(
                    f"expert {self.name}",
                    "its network cannot be differentiated forward.",
                    got=str(error).splitlines()[0],
                    fix="pass derivative='reverse'",
                ) from error
        found = self._reverse(t, x, probe)
        self._refused.append(True)
        return found

    def _forward(self, t: Tensor, x: Tensor, probe: Tensor | None) -> tuple[Tensor, Tensor]:
        def along(direction: Tensor) -> tuple[Tensor, Tensor]:
            value, slope = pushforward(lambda y: self.noise(t, y), x, direction)
            return value, flat_event(slope * direction).sum(1)

        if probe is not None:
            return along(probe)
        basis = Euclidean(*self.event_shape).tangent_basis(x)
        eps, terms = torch.func.vmap(along, out_dims=(None, 0))(basis)  # type: ignore[arg-type]
        return eps, terms.sum(0)

    def _reverse(self, t: Tensor, x: Tensor, probe: Tensor | None) -> tuple[Tensor, Tensor]:
        """By one backward pass along the probe, or one for each coordinate."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            eps = self.noise(t.clone(), leaf)
            if probe is not None:
                (back,) = torch.autograd.grad(eps, leaf, probe.clone())
                return eps.detach(), flat_event(back * probe).sum(1)
            total = x.new_zeros(len(x))
            for direction in Euclidean(*self.event_shape).tangent_basis(x):
                (back,) = torch.autograd.grad(eps, leaf, direction.clone(), retain_graph=True)
                total = total + flat_event(back * direction).sum(1)
            return eps.detach(), total


def called(network: Any, x: Tensor, level: Tensor) -> Tensor:
    """``network(x, level)``: a tensor, or the ``sample`` of what it returns.

    Example:
        >>> called(lambda x, step: {"sample": 2 * x}, torch.ones(1), torch.zeros(1))
        tensor([2.])
    """
    found = network(x, level)
    if isinstance(found, Tensor):
        return found
    sample: Tensor = found["sample"]
    return sample


def noise_predictor(
    network: Any,
    alphas_cumprod: Tensor | Sequence[float],
    event_shape: Sequence[int],
    *,
    prediction: str = "noise",
    call: Network = called,
    rounding: Literal["none", "nearest", "linear"] = "none",
    interpolation: Literal["cubic", "linear"] = "cubic",
    **options: Any,
) -> ForeignExpert:
    """A network that was trained on steps of a table, as an expert.

    Args:
        network: any object; ``call`` says how it is called.
        alphas_cumprod: ᾱ_k, step 0 (next to the data) first.
        event_shape: of one point: ``(channels, height, width)`` of images.
        prediction: "noise", "v", "data" or "score": a name of `PREDICTIONS`.
        call: ``(network, x, step) -> prediction``, for labels and other conventions.
        rounding: the step that the network is given: "none", as a fraction; "nearest", a whole
            number (exact at the times of ``schedule.grid``); "linear", the mean of its predictions
            of ε at the two steps around, weighted by distance, in one doubled batch.
        interpolation: of the log-SNR, as in `table_schedule`.
        options: of `ForeignExpert`: name, derivative, tail, start, support.

    Raises:
        DomainError: an unknown prediction or rounding, or a table that is none.

    Example:
        >>> from genpath_compose.snr import alphas_cumprod, linear_betas
        >>> table = alphas_cumprod(linear_betas())
        >>> network = lambda x, step: (1 - table[step]).sqrt()[:, None].float() * x  # data N(0, 1)
        >>> expert = noise_predictor(network, table, (1,), rounding="nearest")
        >>> expert.score(torch.tensor([0.5]), torch.ones(1, 1)).round(decimals=3)
        tensor([[-1.]])
    """
    convert = _conversion(prediction)
    if rounding not in ("none", "nearest", "linear"):
        raise DomainError(
            "noise_predictor", "rounding is none, nearest or linear.", got=repr(rounding)
        )
    schedule = table_schedule(alphas_cumprod, interpolation)
    last = len(alphas_cumprod) - 1

    def predicted(step: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return convert(call(network, x, step), x, *_coefficients(schedule, t, x))

    def noise(t: Tensor, x: Tensor) -> Tensor:
        step = schedule.step(t)
        if rounding == "none":
            return predicted(step, t, x)
        if rounding == "nearest":
            return predicted(step.round().long(), t, x)
        below = step.floor().long().clamp(0, last - 1)
        both = predicted(torch.cat([below, below + 1]), torch.cat([t, t]), torch.cat([x, x]))
        first, second = both.chunk(2)
        return torch.lerp(first, second, per_row((step - below).to(x), x))

    return ForeignExpert(noise, schedule, tuple(event_shape), **options)


def denoiser_expert(
    network: Any,
    event_shape: Sequence[int],
    *,
    schedule: SnrSchedule | None = None,
    prediction: str = "data",
    call: Network = called,
    **options: Any,
) -> ForeignExpert:
    """A denoiser D(y, σ) of y = x1 + σ z, as an expert of states x = β y, with β = 1/√(1+σ²).

    The states of the expert at t = 1 are data (times 1/√(1+σ_min²)), as those of any other.

    Args:
        network: any object; ``call`` says how it is called.
        event_shape: of one point.
        schedule: σ(t); `karras_schedule` if None.
        prediction: "data" for D = E[x1|y], "noise" for E[z|y].
        call: ``(network, y, sigma) -> prediction``.
        options: of `ForeignExpert`.

    Raises:
        DomainError: another prediction.

    Example:
        >>> shrink = lambda y, sigma: y / (1 + sigma**2)[:, None]  # data N(0, 1)
        >>> denoiser_expert(shrink, (1,)).score(torch.tensor([0.5]), torch.ones(1, 1))
        tensor([[-1.0000]])
    """
    if prediction not in ("data", "noise"):
        rule = "a denoiser predicts data or noise."
        raise DomainError("denoiser_expert", rule, got=repr(prediction))
    convert, levels = _conversion(prediction), schedule or karras_schedule()

    def noise(t: Tensor, x: Tensor) -> Tensor:
        alpha, beta = _coefficients(levels, t, x)
        return convert(call(network, x / beta, levels.noise_level(t)), x, alpha, beta)

    return ForeignExpert(noise, levels, tuple(event_shape), **options)


# -- private ---------------------------------------------------------------------------------------


def _conversion(prediction: str) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    if prediction not in PREDICTIONS:
        rule = "a prediction is one of " + ", ".join(PREDICTIONS) + "."
        raise DomainError("foreign network", rule, got=repr(prediction))
    return PREDICTIONS[prediction]


def _coefficients(schedule: SnrSchedule, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """α and β, of the form of ``x``."""
    alpha, beta, _ = schedule.coefficients(t)
    return alpha.reshape(-1, *[1] * (x.dim() - 1)), beta.reshape(-1, *[1] * (x.dim() - 1))
