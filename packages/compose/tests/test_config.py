"""Compositions in configs: the stage, its report, and errors at the place of the mistake."""

import json

import numpy as np
import pytest
import torch

from genpath.config import Config
from genpath.errors import ConfigError, DomainError
from genpath.run.commands import run_config
from genpath_compose import components
from genpath_compose.dynamics import Blend, Follow
from genpath_compose.options import BumpOptions
from genpath_compose.stages import SampleComposition

CONFIG = """
precision: float64
threads: 1
stages:
  - name: compose.sample
    experts:
      top: {name: compose.gaussian_mixture, means: [[1.0, 0.0]], schedule: trigonometric}
      bottom: {name: compose.gaussian_mixture, means: [[0.4]], schedule: linear}
    product: PRODUCT
    policy: repair
    margin: 0.05
    steps: 40
    count: 100
  - report
"""


def config(product, **replaced):
    text = CONFIG.replace("PRODUCT", product)
    for old, new in replaced.items():
        text = text.replace(old, new)
    return Config.from_yaml(text)


def test_a_run_leaves_samples_numbers_pictures_and_a_report(tmp_path):
    run = run_config(config("top / bottom[0] ** 0.7"), tmp_path / "run")
    with np.load(run.folder / "samples.npz") as file:
        assert file["samples"].shape == (100, 2)
    metrics = run.metrics()["metrics"]
    assert metrics["compose/min_c"] >= 0.05 - 1e-9
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    for word in ("What was sampled", "Existence", "Weights", "Samples", "exists, min C"):
        assert word in page
    findings = json.loads((run.folder / "findings.json").read_text())
    assert [f["file"] for f in findings["figures"]] == [
        f"figures/{name}.png" for name in ("certificate", "weights", "cloud")
    ]


def test_the_same_config_gives_the_same_samples(tmp_path):
    files = [
        run_config(config("top / bottom[0] ** 0.7"), tmp_path / name).folder / "samples.npz"
        for name in "ab"
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("product", "words"),
    [
        ("top / botom[0]", "no expert 'botom'"),
        ("top / bottom[0] **", "cannot be read"),
        ("top + bottom[0]", "is no composition"),
        ("guided(top, bottom)", "write guided\\(conditional, unconditional, w\\)"),
        ("blend(top, bottom)", "no preset 'blend'"),
        ("top ** bottom", "a power is a number"),
        ("top[0.5]", "whole numbers"),
        ("__import__('os').system('x')", "is no composition"),
    ],
)
def test_a_mistake_in_the_product_is_said_in_words(tmp_path, product, words):
    with pytest.raises(DomainError, match=words):
        run_config(config(f'"{product}"'), tmp_path / "run")


def test_a_typo_in_a_key_is_named_with_its_path():
    with pytest.raises(ConfigError, match=r"stages\[0\].*\n?.*margn"):
        Config.from_yaml(CONFIG.replace("PRODUCT", "top").replace("margin", "margn"))


def test_a_bump_on_an_unknown_expert_is_refused(tmp_path):
    text = CONFIG.replace("PRODUCT", "top").replace(
        "    policy: repair", "    bumps: {tip: {quadratic: 1.0}}\n    policy: repair"
    )
    with pytest.raises(DomainError, match="bumps name experts"):
        run_config(Config.from_yaml(text), tmp_path / "run")


def test_particles_may_follow_one_expert(tmp_path):
    """The law is the same, the motion and the weights are not."""
    found = []
    for index, follow in enumerate(("null", "top")):
        text = CONFIG.replace("PRODUCT", "top ** 2").replace(
            "    count: 100", f"    count: 4000\n    follow: {follow}"
        )
        run = run_config(Config.from_yaml(text), tmp_path / str(index))
        with np.load(run.folder / "samples.npz") as file:
            found.append(file["samples"])
    assert not np.array_equal(*found)
    for x in found:  # N((1, 0), 1/2) at t = 1
        assert np.allclose(x.mean(0), [1, 0], atol=0.1) and np.allclose(x.var(0), 0.5, atol=0.1)


def test_an_expert_to_follow_is_one_of_the_product(tmp_path):
    text = CONFIG.replace("PRODUCT", "top").replace("    count: 100", "    follow: tip")
    with pytest.raises(DomainError, match="follow an expert of the product"):
        run_config(Config.from_yaml(text), tmp_path / "run")


def test_the_expert_that_is_followed_is_the_one_that_was_named():
    experts = {name: components.boxes([[0.0]], [[1.0]], None, "linear") for name in ("a", "b")}
    for index, name in enumerate(experts):
        stage = SampleComposition(experts, "a * b", follow=name)
        assert stage.transport(stage.composition()) == Follow(index)
    stage = SampleComposition(experts, "a * b")
    assert stage.transport(stage.composition()) == Blend()


def test_bumps_of_a_config_raise_the_exponent_that_they_name():
    experts = {name: components.boxes([[0.0]], [[1.0]], None, "linear") for name in ("a", "b")}
    bumps = {"b": BumpOptions(quadratic=3.0, ramp=2.0, tau=0.5)}
    first, second = SampleComposition(experts, "a / b", bumps=bumps).composition().exponents
    t = torch.tensor([0.0, 0.02, 0.98, 1.0], dtype=torch.float64)
    raised = -1 + 3 * t * (1 - t) + 2 * torch.minimum(t, 0.5 * (1 - t))  # far from the kink
    assert torch.equal(first(t), torch.ones_like(t))
    assert torch.allclose(second(t), raised, atol=1e-9)
