"""Networks without training: from configs, through runs, cast and saved, refused by name."""

import json

import pytest
import torch
from torch import nn

from genpath.codecs import Chain, Dequantise, Identity, Standardise
from genpath.config import Config
from genpath.errors import CapabilityError
from genpath.laws import Empirical, Gaussian
from genpath.predictions import Prediction
from genpath.run.assembly import assemble
from genpath.spaces import Euclidean
from genpath_interpolants import data as sets, networks, presets
from genpath_interpolants.mixtures import FullMixture, GaussianMixture
from genpath_interpolants.networks import EnergyNetwork, ExactNetwork, PairNetwork

CONFIG = """
data: {name: interpolants.gaussian_mixture, preset: ring, count: 200}
codec: standardise
base: gaussian
path: {name: interpolants.linear, gamma: sqrt}
predict: velocity
network: interpolants.gaussian_mixture
objective: regression
dynamics: ode
sampler: {name: heun, steps: 10}
sample: {count: 20}
"""


def test_a_run_with_an_exact_network_trains_nothing_and_samples(tmp_path, capsys):
    from genpath.cli import main

    file, out = tmp_path / "ring.yaml", tmp_path / "out"
    file.write_text(CONFIG)
    for _ in range(2):  # the second goes on from the first
        assert main(["run", str(file), "--out", str(out)]) in (0, None)
    assert "no parameters to train" in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    assert metrics["model/parameters"] == 0 and metrics["validation/loss"] > 0
    assert (out / "report.html").exists() and (out / "samples.npz").exists()
    assert main(["sample", str(out), "--count", "5"]) in (0, None)


JOINT = ["velocity", "noise", "velocity+score", "interpolant_velocity+noise"]


@pytest.mark.parametrize("name", JOINT)
def test_an_exact_network_answers_single_and_joint_predictions(name, rng):
    config = Config.from_yaml(CONFIG.replace("predict: velocity", f"predict: {name}"))
    model = assemble(config).model
    x = torch.randn(4, 2, generator=rng)
    shape = model.prediction.output_shape
    assert model.network(torch.rand(4, generator=rng), x).shape == (4, *shape)


def test_halves_of_a_pair_are_built_for_their_half(rng):
    words = CONFIG.replace("predict: velocity", "predict: velocity+score").replace(
        "network: interpolants.gaussian_mixture",
        "network: {name: interpolants.pair, first: interpolants.gaussian_mixture, "
        "second: {name: interpolants.energy, of: {name: mlp, width: 8, depth: 1}}}",
    )
    network = assemble(Config.from_yaml(words)).model.network
    assert isinstance(network, PairNetwork) and isinstance(network.second, EnergyNetwork)
    assert network.first.name == "velocity"
    assert network(torch.zeros(3), torch.zeros(3, 2)).shape == (3, 2, 2)


def test_weights_are_saved_cast_and_loaded(rng):
    path = presets.linear(Euclidean(2))
    one = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1))
    two = GaussianMixture(torch.ones(1), torch.ones(1, 2), torch.ones(1))
    first, second = ExactNetwork(path, "denoiser", one), ExactNetwork(path, "denoiser", two)
    t, x = torch.zeros(3), torch.randn(3, 2, generator=rng)
    assert not torch.equal(first(t, x), second(t, x))
    first.load_state_dict(second.state_dict())
    assert torch.equal(first(t, x), second(t, x))
    assert first.double()(t.double(), x.double()).dtype == torch.float64
    assert first.means.dtype == torch.float64


def test_an_energy_network_trains_and_is_used_without_gradients(rng):
    from genpath.networks import MLP

    score = Prediction("score", (2,), True, "∇log p_t")
    inner = MLP(2, (), width=8, depth=1, time_features=2)
    nn.init.normal_(inner.last.weight)
    network = EnergyNetwork(inner, score)
    t, x = torch.rand(5, generator=rng), torch.randn(5, 2, generator=rng)
    assert network.energy(t, x).shape == (5,)
    out = network(t, x)
    out.square().sum().backward()
    assert all(
        torch.isfinite(p.grad).all() for n, p in inner.named_parameters() if n != "last.bias"
    )
    with torch.no_grad():
        torch.testing.assert_close(network(t, x), out.detach())
    with torch.inference_mode():
        torch.testing.assert_close(network(t, x), out.detach())
    rowwise = torch.func.vmap(lambda s, y: network(s[None], y[None])[0])(t, x)
    torch.testing.assert_close(rowwise, out.detach(), check_dtype=False)
    assert network(t[:0], x[:0]).shape == (0, 2)


def test_affine_codecs_carry_the_law(rng):
    law = FullMixture(torch.ones(1), torch.ones(1, 2), torch.eye(2)[None] * 4)
    codec = Standardise(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 4.0]))
    once = networks.encoded(law, Chain([codec, Identity()]))
    torch.testing.assert_close(once.means, torch.tensor([[0.0, 0.25]]))
    torch.testing.assert_close(once.covariances[0], torch.diag(torch.tensor([1.0, 0.25])))


PLANE = Euclidean(2)
LAW = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1))


def parts(data=None, codec=None, base=None, path=None, name="velocity"):
    path = path or presets.linear(PLANE)
    data = data or sets.gaussian_mixture("ring", 3, 1.0, 0.1, 2, 50, 0, [], [], [])
    asked = Prediction(name, (2,), True, "")
    return path, asked, data, codec or Identity(), base or Gaussian((2,))


class NoSchedule:
    pass


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: networks.gaussian_mixture([], [], [], *parts(sets.checkerboard(4, 4.0, 50, 0))),
            "the data's law is a mixture.*\n.*Checkerboard",
        ),
        (
            lambda: networks.gaussian_mixture([], [], [], *parts(codec=Dequantise(4))),
            "affine codec.*\n.*Dequantise",
        ),
        (
            lambda: networks.gaussian_mixture(
                [], [], [], *parts(base=Empirical(torch.zeros(3, 2)))
            ),
            "normal law or a mixture.*\n.*Empirical",
        ),
        (
            lambda: networks.gaussian_mixture([], [], [], *parts(name="logits")),
            "no exact field 'logits'",
        ),
        (lambda: ExactNetwork(NoSchedule(), "velocity", LAW), "exact fields are known for"),
        (
            lambda: PairNetwork(nn.Identity(), nn.Identity(), Prediction("score", (2,), True, "")),
            "joint prediction of two",
        ),
        (
            lambda: EnergyNetwork(nn.Identity(), Prediction("noise", (2,), False, "")),
            "is a score",
        ),
    ],
)
def test_refusals(build, words):
    with pytest.raises(CapabilityError, match=words):
        build()


def test_given_numbers_replace_the_law_of_the_data(rng):
    network = networks.gaussian_mixture([1.0], [[5.0, 5.0]], [0.1], *parts())
    assert torch.equal(network.means, torch.tensor([[5.0, 5.0]]))
