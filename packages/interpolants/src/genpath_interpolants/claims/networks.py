r"""Networks without training: exact predictions, pairs of networks, energies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from genpath.codecs import Identity, Standardise
from genpath.couplings import Independent
from genpath.datasets import Dataset
from genpath.laws import Gaussian
from genpath.models import Model
from genpath.networks import MLP
from genpath.objectives import Regression
from genpath.predictions import Prediction
from genpath.testing import Claim, Control, Evidence, Trial, at_most, dial, equal, mean, near

from .. import networks, presets
from ..mixtures import GaussianMixture, MixtureMarginal
from ..networks import EnergyNetwork, ExactNetwork, PairNetwork
from .cases import DOUBLE, LINE, PLANE, line_mixture, mixture, normal

__all__ = ["energy", "gaussian", "gaussian_mixture", "pair"]


@dataclass(frozen=True)
class Setting:
    """A network in the model that it serves."""

    network: nn.Module
    path: Any
    name: str


class Scaled(nn.Module):
    """Another network's output times 1 + δ."""

    def __init__(self, of: nn.Module, size: float) -> None:
        super().__init__()
        self.of, self.size = of, size

    def forward(self, t: Tensor, state: Any) -> Tensor:
        found: Tensor = (1 + self.size) * self.of(t, state)
        return found


def scaled(found: Setting, size: float) -> Setting:
    return replace(found, network=Scaled(found.network, size))


def _data(rows: Tensor, law: Any = None) -> Dataset:
    return Dataset("made", PLANE, rows, rows[:1], rows[:1], "drawn", law=law)


def gaussian_mixture() -> tuple[Claim[Any], ...]:
    """The claims of ``network.interpolants.gaussian_mixture``."""

    def make() -> tuple[Setting, ...]:
        path, law = presets.linear(PLANE, "sqrt", 1.3), mixture()
        rows = law.sample(50, torch.Generator().manual_seed(0))
        codec = Standardise.fit(rows)
        parts = (_data(rows, law), codec, Gaussian((2,), std=1.4))
        found = []
        for name in ("velocity", "denoiser", "noise", "velocity+score"):
            asked = path.predictions[name]
            network = networks.gaussian_mixture([], [], [], path, asked, *parts)
            found.append(Setting(network, path, name))
        return tuple(found)

    def check(found: tuple[Setting, ...], trial: Trial) -> Iterator[Evidence]:
        rows = mixture().sample(50, torch.Generator().manual_seed(0))
        codec, law = Standardise.fit(rows), mixture()
        rng, count = trial.rng(), trial.count(60_000)
        base = Gaussian((2,), std=1.4, dtype=DOUBLE)
        data = Encoded(law, codec)
        pairs = Independent(base, data).pairs(count, rng)
        t = 0.05 + 0.9 * torch.rand(count, generator=rng, dtype=DOUBLE)
        for one in found:
            draw, target = one.path.draw_with_target(one.name, t, pairs.x0, pairs.x1, rng)
            gap = (target - one.network(t, draw.state)).flatten(1)
            features = torch.cat((gap, gap * draw.state.norm(dim=1, keepdim=True)), 1)
            features = torch.cat(
                (features, gap * torch.sin(2 * draw.state).repeat(1, gap.shape[1] // 2)), 1
            )
            yield mean(f"{one.name}: E[(target − network) φ(x_t)]", features, 0.0)

    def each(found: tuple[Setting, ...], size: float) -> tuple[Setting, ...]:
        return tuple(scaled(one, size) for one in found)

    def plain(found: tuple[Setting, ...]) -> tuple[Setting, ...]:
        return tuple(
            replace(one, network=ExactNetwork(one.path, one.name, mixture())) for one in found
        )

    return (
        Claim(
            "conditional-expectation",
            "The exact network of a mixture is the conditional mean of the path's target for "
            "encoded data and the config's base, for single and joint predictions.",
            make,
            check,
            (
                dial("the output × (1 + δ)", each),
                Control("neither codec nor base", plain),
            ),
            formula=r"\mathbb E[(y - f(t, x_t))\,\varphi(x_t)] = 0",
            entries=("L1.2", "L5.2"),
            owes="minimiser",
        ),
    )


@dataclass(frozen=True)
class Encoded:
    """Draws of a law, encoded."""

    law: GaussianMixture
    codec: Standardise

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        return self.codec.encode(self.law.sample(count, rng), rng)[0]


def gaussian() -> tuple[Claim[Any], ...]:
    """The claims of ``network.interpolants.gaussian``."""

    def rows() -> Tensor:
        return mixture().sample(400, torch.Generator().manual_seed(3))

    def make() -> Setting:
        path = presets.linear(PLANE, "sqrt", 1.3)
        asked = path.predictions["velocity"]
        network = networks.gaussian(0.0, path, asked, _data(rows()), Identity(), Gaussian((2,)))
        return Setting(network, path, "velocity")

    def check(found: Setting, trial: Trial) -> Iterator[Evidence]:
        x1, rng = rows(), trial.rng()
        copies = trial.count(100)
        ends = x1.repeat(copies, 1)
        for t in (0.3, 0.8):
            time = torch.full((len(ends),), t, dtype=DOUBLE)
            draw, target = found.path.draw_with_target(
                "velocity", time, normal(len(ends), 2, rng=rng), ends, rng
            )
            ones = torch.ones(len(ends), 1, dtype=DOUBLE)
            line = torch.cat((ones, draw.state), 1)
            gap = target - found.network(time, draw.state)
            moments = (line[:, :, None] * gap[:, None, :]).reshape(copies, len(x1), -1).mean(1)
            yield mean(f"E[(target − network) (1, x)], t = {t:g}", moments, 0.0)
        yield near("affine", _bend(found.network), 0.0, 1e-10, "rounding")

    def _bend(network: nn.Module) -> Tensor:
        x = torch.tensor([[-1.0, 0.5], [0.0, 1.0], [1.0, 1.5]], dtype=DOUBLE)
        y: Tensor = network(torch.full((3,), 0.6, dtype=DOUBLE), x)
        return y[0] - 2 * y[1] + y[2]

    def exact(found: Setting) -> Setting:
        return replace(found, network=ExactNetwork(found.path, "velocity", mixture()))

    return (
        Claim(
            "affine-regression",
            "The normal twin is the best affine prediction: its error is orthogonal to 1 and x "
            "under the data's own law.",
            make,
            check,
            (dial("the output × (1 + δ)", scaled), Control("the mixture's own field", exact)),
            formula=r"\mathbb E[(y - f(t, x_t))\,(1, x_t)] = 0, \quad f \text{ affine}",
        ),
    )


def pair() -> tuple[Claim[Any], ...]:
    """The claims of ``network.interpolants.pair``."""

    def make() -> Setting:
        path, law = presets.linear(PLANE, "sqrt", 1.3, "gaussian"), mixture()
        first, second = (ExactNetwork(path, name, law) for name in ("velocity", "score"))
        asked = path.predictions["velocity+score"]
        return Setting(PairNetwork(first, second, asked), path, "velocity+score")

    def check(found: Setting, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        t, x = 0.1 + 0.8 * torch.rand(9, generator=rng, dtype=DOUBLE), normal(9, 2, rng=rng)
        oracle = MixtureMarginal(found.path, mixture())
        both = found.network(t, x)
        given = {"velocity+score": both}
        for name in ("velocity", "score", "denoiser", "noise"):
            value = found.path.convert(name, given, t, x)
            yield equal(f"{name} from both", value, oracle.field(name)(t, x), operations=4096)

    def swapped(found: Setting) -> Setting:
        network: Any = found.network
        asked = found.path.predictions["velocity+score"]
        return replace(found, network=PairNetwork(network.second, network.first, asked))

    return (
        Claim(
            "two-halves",
            "Two networks answer a joint prediction: the path's rules read the first as b and the "
            "second as s.",
            make,
            check,
            (Control("halves swapped", swapped), dial("the output × (1 + δ)", scaled)),
            formula=r"f = (b, s)",
        ),
    )


class Well(nn.Module):
    """θ × (−log p_t) of a mixture: the exact energy at θ = 1."""

    def __init__(self, oracle: MixtureMarginal) -> None:
        super().__init__()
        self.oracle, self.theta = oracle, nn.Parameter(torch.ones((), dtype=DOUBLE))

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        return -self.theta * self.oracle.log_prob(t, state)


def energy() -> tuple[Claim[Any], ...]:
    """The claims of ``network.interpolants.energy``."""

    def make() -> Setting:
        path = presets.linear(LINE, "sqrt", 1.3, "gaussian")
        well = Well(MixtureMarginal(path, line_mixture()))
        return Setting(EnergyNetwork(well, path.predictions["score"]), path, "score")

    def check(found: Setting, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(40_000)
        oracle = MixtureMarginal(found.path, line_mixture())
        t, x = 0.2 + 0.6 * torch.rand(9, generator=rng, dtype=DOUBLE), normal(9, 1, rng=rng)
        yield equal("−∇E", found.network(t, x), oracle.score(t, x), operations=1024)
        # the loss of θE is θ²/2 E|s|² − θ E|s|²: its slope at θ = 1 is 0, at −1 it is −2E|s|²
        (theta,) = found.network.parameters()
        base = Gaussian((1,), dtype=DOUBLE)
        pairs = Independent(base, line_mixture()).pairs(count, rng)
        times = 0.2 + 0.6 * torch.rand(count, generator=rng, dtype=DOUBLE)
        model = Model(found.network, found.path, base, "score")
        values = Regression()(model, pairs, times, torch.Generator().manual_seed(1))
        step = 1e-3
        with torch.no_grad():
            theta.add_(step)
            more = Regression()(model, pairs, times, torch.Generator().manual_seed(1))
            theta.sub_(step)
        slope = (more - values).detach()[:, None] / step
        # quadratic in θ: the difference exceeds the slope by ½ h E|s|², and E|s|² ≤ 1/γ² ≤ 4.9
        allowance, because = 0.5 * step * 4.9, "½ h E|s|², E|s|² ≤ 1/γ²"
        words = "d loss/dθ at the exact energy"
        yield mean(words, slope, 0.0, allowance=allowance, because=because)
        (gradient,) = torch.autograd.grad(values.mean(), theta)
        drift = abs(float(gradient) - float(slope.mean()))
        yield at_most("the gradient through the gradient", drift, allowance, because)

    def minus(found: Setting) -> Setting:
        return replace(found, network=Scaled(found.network, -2.0))

    return (
        Claim(
            "energy-score",
            "Minus the gradient of the energy −log p_t is the score, where the denoising loss is "
            "least; the other sign is seen.",
            make,
            check,
            (Control("+∇E, the sign of the lecture", minus), dial("E × (1 + δ)", scaled)),
            formula=r"\hat s = -\nabla E, \qquad L[E] = \mathbb E\big[\tfrac12|\nabla E|^2 "
            r"- z\cdot\nabla E/\gamma\big]",
            entries=("L2.13",),
            owes="minimiser",
        ),
        curl_free(),
    )


def curl_free() -> Claim[nn.Module]:
    """The Jacobian of −∇E is symmetric."""

    def make() -> nn.Module:
        torch.manual_seed(0)
        inner = MLP(2, (), width=16, depth=1, time_features=4)
        nn.init.normal_(inner.last.weight)
        asked = Prediction("score", (2,), True, "∇log p_t")
        return EnergyNetwork(inner.double(), asked)

    def check(found: nn.Module, trial: Trial) -> Iterator[Evidence]:
        t, x = torch.tensor(0.4, dtype=DOUBLE), normal(6, 2, rng=trial.rng())

        def one(y: Tensor) -> Tensor:
            value: Tensor = found(t[None], y[None])[0]
            return value

        jacobian = torch.func.vmap(torch.func.jacfwd(one))(x)
        yield equal("Jacobian", jacobian, jacobian.mT, operations=2048)

    class Turned(nn.Module):
        def __init__(self, of: nn.Module, size: float) -> None:
            super().__init__()
            self.of, self.size = of, size

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            found: Tensor = self.of(t, x) + self.size * torch.stack((-x[:, 1], x[:, 0]), 1)
            return found

    return Claim(
        "curl-free",
        "The score of an energy network has a symmetric Jacobian, whatever its weights.",
        make,
        check,
        (dial("+ δ times a rotation", Turned),),
        formula=r"\partial_i \hat s_j = \partial_j \hat s_i",
    )
