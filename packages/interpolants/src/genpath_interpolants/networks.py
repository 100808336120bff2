r"""Networks: exact stand-ins for trained ones, two networks in one, and a scalar potential.

`ExactNetwork` computes a prediction of a path for data of a known law, with nothing to train: a
config with it samples at once, and what a sampler does is seen apart from what a network learnt.

`PairNetwork` answers a joint prediction "a+b" with two networks, outputs stacked on axis 1.

`EnergyNetwork` predicts the score as −∇E of a scalar network, so that it is curl-free by
construction. The denoising loss is then E[½|∇E|² − z·∇E/γ], whose minimiser is E = −log p_t; with
the other sign of the cross term it would be +log p_t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from genpath.codecs import Chain, Codec, Identity, Standardise
from genpath.datasets import Dataset
from genpath.errors import CapabilityError
from genpath.laws import Gaussian, Law
from genpath.paths import ProbabilityPath
from genpath.predictions import Prediction
from genpath.schedules import AffineSchedule

from .mixtures import FIELDS, FullMixture, GaussianMixture, MixtureMarginal, Scheduled

__all__ = [
    "EnergyNetwork",
    "ExactNetwork",
    "PairNetwork",
    "base_mixture",
    "encoded",
    "gaussian",
    "gaussian_mixture",
]

Mixture = GaussianMixture | FullMixture


class ExactNetwork(nn.Module):
    """The exact prediction of a path for data of a known law; it has no parameters.

    The law's numbers are buffers, so that they are saved, moved and cast with the network.

    Args:
        path: with an affine ``schedule``.
        name: of the prediction, single or joint.
        law: of the states at t = 1.
        base: of the states at t = 0; N(0, I) if None.

    Raises:
        CapabilityError: the path has no affine schedule, or no exact field of this name is known.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> from genpath_interpolants.paths import LinearPath
        >>> law = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1))
        >>> network = ExactNetwork(LinearPath(Euclidean(1), base="gaussian"), "score", law)
        >>> network(torch.tensor([1.0]), torch.tensor([[2.0]])), list(network.parameters())
        (tensor([[-2.]]), [])
    """

    def __init__(
        self, path: Scheduled, name: str, law: Mixture, base: Mixture | None = None
    ) -> None:
        super().__init__()
        if not isinstance(getattr(path, "schedule", None), AffineSchedule):
            raise CapabilityError(
                "ExactNetwork",
                "exact fields are known for x_t = α x0 + β x1 + γ z.",
                got=type(path).__name__,
                fix="choose a path with an affine schedule, or train a network",
            )
        unknown = [part for part in name.split("+") if part not in FIELDS]
        if unknown:
            raise CapabilityError(
                "ExactNetwork",
                f"no exact field {unknown[0]!r} is known.",
                fix="predict one of " + ", ".join(FIELDS) + ", or two of them",
            )
        self.path, self.name, self.base = path, name, base
        self.full = isinstance(law, FullMixture)
        self.register_buffer("weights", law.weights.clone())
        self.register_buffer("means", law.means.clone())
        spread = law.covariances if isinstance(law, FullMixture) else law.stds
        self.register_buffer("spread", spread.clone())
        hook: Any = self.register_load_state_dict_post_hook
        hook(lambda module, _: module._made())
        self._made()

    def _made(self) -> None:
        """Build the oracle from the buffers."""
        kind = FullMixture if self.full else GaussianMixture
        law = kind(*(cast(Tensor, getattr(self, n)) for n in ("weights", "means", "spread")))
        base = None if self.base is None else self.base.to(law.means.device, law.means.dtype)
        self.oracle = MixtureMarginal(self.path, law, base)

    def _apply(self, fn: Any, recurse: bool = True) -> ExactNetwork:
        apply: Any = super()._apply
        apply(fn, recurse)
        self._made()
        return self

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        """The prediction at times ``(batch,)`` and states ``(batch, *event)``."""
        found: Tensor = self.oracle.field(self.name)(t, state)
        return found


class PairNetwork(nn.Module):
    """Two networks for a joint prediction "a+b": the component ``network.interpolants.pair``.

    Args:
        first, second: the networks for a and for b, each ``(batch, *event)``.
        prediction: the joint prediction, of shape ``(2, *event)``.

    Raises:
        CapabilityError: the prediction is a single quantity.

    Example:
        >>> both = Prediction("velocity+score", (2, 1), False, "b and s")
        >>> zero, one = nn.Identity(), nn.Identity()
        >>> zero.forward, one.forward = lambda t, x: 0 * x, lambda t, x: 1 + 0 * x
        >>> PairNetwork(zero, one, both)(torch.zeros(1), torch.zeros(1, 1))
        tensor([[[0.],
                 [1.]]])
    """

    def __init__(self, first: nn.Module, second: nn.Module, prediction: Prediction) -> None:
        super().__init__()
        _joint(prediction)
        self.first, self.second = first, second

    @staticmethod
    def slot_context(slot: str, context: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the network in a slot is built from: its own half of the prediction."""
        prediction = context.get("prediction")
        if not isinstance(prediction, Prediction):
            return context
        _joint(prediction)
        name = prediction.name.split("+")[slot == "second"]
        known = getattr(context.get("path"), "predictions", {})
        half = known.get(name) or replace(
            prediction, name=name, output_shape=tuple(prediction.output_shape[1:])
        )
        return {**context, "prediction": half}

    def forward(self, t: Tensor, state: Any) -> Tensor:
        """Both predictions, stacked: ``(batch, 2, *event)``."""
        return torch.stack((self.first(t, state), self.second(t, state)), 1)


def _joint(prediction: Prediction) -> None:
    if prediction.name.count("+") != 1:
        raise CapabilityError(
            "network interpolants.pair",
            "it answers a joint prediction of two quantities.",
            got=f"predict: {prediction.name}",
            fix="write predict: velocity+score, or name one network",
        )


class EnergyNetwork(nn.Module):
    """s = −∇_x E(t, x) of a scalar network E: the component ``network.interpolants.energy``.

    Args:
        of: the scalar network: ``of(t, x)`` is ``(batch,)`` or ``(batch, 1)``, rows apart.
        prediction: must be the score.

    Raises:
        CapabilityError: another prediction.

    Example:
        >>> score = Prediction("score", (2,), True, "∇log p_t")
        >>> square = nn.Identity()
        >>> square.forward = lambda t, x: 0.5 * x.square().sum(1)
        >>> EnergyNetwork(square, score)(torch.zeros(1), torch.tensor([[1.0, -2.0]]))
        tensor([[-1.,  2.]])
    """

    def __init__(self, of: nn.Module, prediction: Prediction) -> None:
        super().__init__()
        if prediction.name != "score":
            raise CapabilityError(
                "network interpolants.energy",
                "minus the gradient of an energy is a score.",
                got=f"predict: {prediction.name}",
                fix="write predict: score, or name a network without an energy",
            )
        self.of = of

    @staticmethod
    def slot_context(slot: str, context: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the network in the slot is built from: a prediction of one number."""
        return {**context, "prediction": Prediction("energy", (), False, "E(t, x)")}

    def energy(self, t: Tensor, state: Tensor) -> Tensor:
        """E(t, x), −log p_t up to a function of t: ``(batch,)``."""
        found: Tensor = self.of(t, state)
        return found.reshape(len(state))

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        """−∇_x E at times ``(batch,)`` and states ``(batch, *event)``."""
        gradient: Tensor = torch.func.grad(lambda x: self.energy(t, x).sum())(state)
        return -gradient


# -- components ------------------------------------------------------------------------------------


def gaussian_mixture(
    weights: Sequence[float],
    means: Sequence[Sequence[float]],
    stds: Sequence[float],
    path: ProbabilityPath,
    prediction: Prediction,
    data: Dataset,
    codec: Codec,
    base: Law,
) -> ExactNetwork:
    """The exact network for mixture data: the component ``network.interpolants.gaussian_mixture``.

    The law is that of the data set, or the one given; an affine codec is carried over to it. The
    prediction is exact for an independent coupling.

    Args:
        weights, means, stds: a law in the data's units; that of the data set if all are empty.
        path, prediction, data, codec, base: as a run makes them.

    Raises:
        CapabilityError: the data carry no mixture, the codec is not affine, or the base is not a
            normal law or mixture.
        ShapeError, DomainError: the given numbers make no mixture.

    Example:
        >>> from genpath import Euclidean, Identity
        >>> from genpath_interpolants import data, presets
        >>> ring = data.gaussian_mixture("ring", 8, 2.0, 0.1, 2, 100, 0, [], [], [])
        >>> path = presets.linear(Euclidean(2))
        >>> parts = (path, path.predictions["velocity"], ring, Identity(), Gaussian((2,)))
        >>> network = gaussian_mixture([], [], [], *parts)
        >>> network(torch.zeros(1), torch.zeros(1, 2)).shape
        torch.Size([1, 2])
    """
    law: Any = data.law
    if weights or means or stds:
        parts = (list(weights), [list(row) for row in means], list(stds))
        dtype = torch.get_default_dtype()
        law = GaussianMixture(*(torch.tensor(part, dtype=dtype) for part in parts))
    if not isinstance(law, (GaussianMixture, FullMixture)):
        got = "no law" if law is None else type(law).__name__
        raise CapabilityError(
            "network interpolants.gaussian_mixture",
            "the data's law is a mixture of normal laws.",
            got=f"data set {data.name!r} with {got}",
            fix="choose data drawn from a mixture, or give weights, means and stds",
        )
    law = encoded(law, codec)
    return ExactNetwork(_scheduled(path), prediction.name, law, base_mixture(base, law))


def gaussian(
    ridge: float,
    path: ProbabilityPath,
    prediction: Prediction,
    data: Dataset,
    codec: Codec,
    base: Law,
) -> ExactNetwork:
    """The normal twin of the data: the component ``network.interpolants.gaussian``.

    The exact network for N(m, C), with mean and covariance of the encoded training rows: what a
    path can know from two moments, and a baseline for every network.

    Args:
        ridge: added to C, as a fraction of its mean variance.
        path, prediction, data, codec, base: as a run makes them.

    Raises:
        CapabilityError: rows are not one tensor, or the base is not a normal law or mixture.

    Example:
        >>> from genpath import Euclidean, Identity
        >>> from genpath_interpolants import data, presets
        >>> board = data.checkerboard(4, 4.0, 1000, 0)
        >>> path = presets.linear(Euclidean(2))
        >>> parts = (path, path.predictions["velocity"], board, Identity(), Gaussian((2,)))
        >>> gaussian(1e-6, *parts)(torch.zeros(1), torch.zeros(1, 2)).shape
        torch.Size([1, 2])
    """
    if not isinstance(data.train, Tensor):
        raise CapabilityError(
            "network interpolants.gaussian", "rows are one tensor each.", got=repr(data.space)
        )
    with torch.no_grad():
        states = codec.encode(data.train, torch.Generator().manual_seed(0))[0]
    rows = states.double().flatten(1) if states.dim() > 1 else states.double().unsqueeze(1)
    centre = rows.mean(0)
    covariance = (rows - centre).T @ (rows - centre) / len(rows)
    lift = ridge * covariance.diagonal().mean().clamp_min(1e-12)
    covariance = covariance + lift * torch.eye(len(centre), dtype=covariance.dtype)
    shape = states.shape[1:]
    dtype = states.dtype
    law = FullMixture(
        torch.ones(1, dtype=dtype), centre.reshape(1, *shape).to(dtype), covariance[None].to(dtype)
    )
    return ExactNetwork(_scheduled(path), prediction.name, law, base_mixture(base, law))


def _scheduled(path: Any) -> Scheduled:
    return cast(Scheduled, path)


def base_mixture(base: Law, like: Mixture) -> Mixture | None:
    """A base law as a mixture beside another; None for N(0, I).

    Raises:
        CapabilityError: it is neither a normal law nor a mixture.

    Example:
        >>> law = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1))
        >>> base_mixture(Gaussian((2,), std=2.0), law).stds
        tensor([[2., 2.]])
    """
    if isinstance(base, (GaussianMixture, FullMixture)):
        return base.to(like.means.device, like.means.dtype)
    if not isinstance(base, Gaussian):
        raise CapabilityError(
            "ExactNetwork",
            "the base is a normal law or a mixture.",
            got=type(base).__name__,
            fix="write base: gaussian",
        )
    if base.mean == 0 and base.std == 1:
        return None
    one = torch.ones_like(like.means[:1])
    return GaussianMixture(torch.ones_like(like.weights[:1]), base.mean * one, base.std * one)


def encoded(law: Mixture, codec: Codec) -> Mixture:
    """The law of the states: that of the data through an affine codec.

    Raises:
        CapabilityError: the codec is not affine.

    Example:
        >>> law = GaussianMixture(torch.ones(1), torch.ones(1, 1), torch.ones(1))
        >>> encoded(law, Standardise(torch.tensor(1.0), torch.tensor(2.0))).stds
        tensor([[0.5000]])
    """
    if isinstance(codec, Identity):
        return law
    if isinstance(codec, Chain):
        for part in codec.codecs:
            law = encoded(law, part)
        return law
    if not isinstance(codec, Standardise):
        raise CapabilityError(
            "ExactNetwork",
            "a mixture goes through an affine codec only.",
            got=type(codec).__name__,
            fix="write codec: identity or codec: standardise",
        )
    mean, std = codec.mean.to(law.means), codec.std.to(law.means)
    means = (law.means - mean) / std
    if isinstance(law, GaussianMixture):
        return GaussianMixture(law.weights, means, law.stds / std)
    flat = std.expand(law.means.shape[1:]).flatten()
    return FullMixture(law.weights, means, law.covariances / (flat[:, None] * flat))
