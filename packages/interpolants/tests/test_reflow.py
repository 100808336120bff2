"""Reflow: affine maps, pairs, and the stage in a run."""

import pytest
import torch

from genpath import Gaussian, Model
from genpath.components import heun
from genpath.config.load import read_config
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.run import run_config as run
from genpath.spaces import Euclidean
from genpath_interpolants.geometry import flow_geometry
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.reflow import AffineRectification, rectified_pairs
from genpath_interpolants.schedules import trigonometric_schedule

CONFIG = """
seed: 1
device: cpu
threads: 1
data: interpolants.gaussian_mixture
base: gaussian
path: {name: interpolants.linear, gamma: none, base: any}
network: {name: mlp, width: 32, depth: 1, time_features: 4}
predict: velocity
objective: regression
train: {steps: 400, batch: 128, lr: 0.004, validate_every: 200}
dynamics: ode
sampler: {name: heun, steps: 16}
sample: {count: 20}
stages: [train, {name: interpolants.reflow, rounds: 1, rows: 2000}, sample]
"""


def test_a_run_is_straightened(tmp_path):
    folder = tmp_path / "run"
    done = run(read_config(CONFIG, []), folder)
    metrics = done.metrics()["metrics"]
    before, after = (metrics[f"reflow/straightness_{k}"] for k in (0, 1))
    assert after < 0.25 * before
    assert (folder / "reflow" / "1" / "pairs.npz").exists()
    assert (folder / "samples.npz").exists()
    kept = (folder / "checkpoint.safetensors").read_bytes()
    assert kept == (folder / "reflow" / "1" / "checkpoint.safetensors").read_bytes()


@pytest.mark.parametrize("change", ["path.gamma=sqrt", "path.base=gaussian"])
def test_paths_of_which_it_would_say_what_is_not_true(change, tmp_path):
    config = read_config(CONFIG, ["train.steps=1", "train.validate_every=0", change])
    with pytest.raises(CapabilityError, match="assumes nothing of the coupling"):
        run(config, tmp_path / "run")


def test_pairs_of_a_model(rng):
    model = Model(lambda t, x: 3 + 0 * x, LinearPath(Euclidean(2)), Gaussian((2,)))
    found = rectified_pairs(model, heun(3, 0.0, 1.0), 10, rng, chunk=4)
    assert torch.allclose(found.x1, found.x0 + 3) and not found.x1.requires_grad
    assert rectified_pairs(model, heun(3, 0.0, 1.0), 0, rng).x1.shape == (0, 2)


def test_affine_shapes_and_schedules(rng):
    found = AffineRectification(torch.tensor([[2.0, 1.0], [0.0, 0.5]]), torch.ones(2))
    x = torch.randn(4, 2, generator=rng)
    assert found.velocity(0.2, x).shape == (4, 2)
    assert found.velocity(0.2, x[:0]).shape == found.transported(0.2, x[:0]).shape == (0, 2)
    bent = AffineRectification(found.matrix, found.shift, trigonometric_schedule())
    straight, curved = (flow_geometry(f.velocity, x) for f in (found, bent))
    assert torch.allclose(straight.displacement, curved.displacement, atol=1e-4)
    assert float(straight.straightness.max()) < 1e-5 < 0.01 < float(curved.straightness.max())
    parts = found.generator()(0.5, x)
    assert torch.equal(parts.velocity, found.velocity(0.5, x))


def test_affine_refusals():
    with pytest.raises(ShapeError, match=r"A is \(d, d\)"):
        AffineRectification(torch.ones(2, 3))
    with pytest.raises(ShapeError, match="shift"):
        AffineRectification(torch.eye(2), torch.ones(3))
    with pytest.raises(DomainError, match="invertible"):
        AffineRectification(torch.diag(torch.tensor([1.0, -0.5])))
    with pytest.raises(DomainError, match="invertible"):
        AffineRectification(torch.diag(torch.tensor([1.0, 0.0])))
