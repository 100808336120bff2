"""The experiments of examples/interpolants, shortened: same command, configs and code path."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from genpath.cli import main
from genpath.config import load_config

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples/interpolants").glob("*.yaml"))
README = (ROOT / "examples/interpolants/README.md").read_text()
COMMANDS = re.findall(r"^genpath run (examples/interpolants/\S+\.yaml.*)$", README, re.MULTILINE)

STEPS = {"name": "interpolants.stochastic_heun", "steps": 2, "start": 0.01, "end": 0.99}
FEW = {"eps": [0.0, 1.0], "sampler": STEPS}
SHORT = {  # options that make each evaluation cheap
    "nll": {"max_examples": 4},
    "nearest": {"max_examples": 8, "shown": 2},
    "images": {"rows": 2, "columns": 2},
    "interpolants.density_error": {"max_examples": 4, "steps": 2, "paths": 2},
    "interpolants.eps_sweep": {**FEW, "count": 16, "repeats": 2},
    "interpolants.ensembles": {**FEW, "starts": 4, "count": 6},
    "interpolants.resampling": {**FEW, "count": 8},
    "interpolants.marginals": {"count": 50, "bins": 2, "functions": 2},
    "interpolants.scatter": {"count": 20, "resolution": 8},
}
LEAVES = {  # a metric and a figure of each evaluation
    "nll": ("test/nll", None),
    "nearest": ("nearest/samples", "nearest"),
    "images": (None, "images"),
    "interpolants.density_error": ("density-error/model", "density_error"),
    "interpolants.eps_sweep": ("sweep-kl/eps_1", "eps_sweep"),
    "interpolants.ensembles": ("ensemble-distance/eps_1", "ensembles"),
    "interpolants.resampling": ("resampling-correlation/eps_1", "resampling"),
    "interpolants.marginals": ("marginals/worst_z", "marginals"),
    "interpolants.scatter": (None, "scatter"),
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shortened(config):
    """Overrides, and the names of the evaluations that run."""
    entries = [{"name": e} if isinstance(e, str) else e for e in config["evaluate"]]
    evaluate = [{**entry, **SHORT[entry["name"]]} for entry in entries]
    short = ["sampler.steps=2", "sample.count=20", f"evaluate={json.dumps(evaluate)}"]
    if config["train"]["steps"]:
        short += ["train.steps=2", "train.warmup=1", "train.validate_every=0", "train.batch=16"]
    if "likelihood" in config:
        short.append("likelihood.steps=2")
    if "count" in config["data"]:
        short.append("data.count=400")
    return short, [entry["name"] for entry in entries]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_experiment_is_a_valid_config_of_one_thread(example, capsys):
    config = load_config(example)
    assert config.title and config.description and config.threads == 1
    assert main(["config", str(example)]) == 0, capsys.readouterr().err
    assert f"[{example.name}]({example.name})" in README


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_is_a_valid_config(command, capsys):
    example, *overrides = shlex.split(command, comments=True)
    if "--out" in overrides:
        del overrides[overrides.index("--out") :][:2]
    assert main(["config", str(ROOT / example), *overrides]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_experiment_runs_from_training_to_report(example, tmp_path, capsys):
    short, names = shortened(yaml.safe_load(example.read_text()))
    out = tmp_path / "run"
    assert main(["run", str(example), *short, "--out", str(out)]) == 0, capsys.readouterr().err
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    assert all(np.isfinite(value) for value in metrics.values())
    assert np.isfinite(np.load(out / "samples.npz")["samples"]).all()
    texts = json.loads((out / "findings.json").read_text())["texts"]
    for name in names:
        metric, figure = LEAVES[name]
        assert metric is None or metric in metrics
        assert figure is None or (out / "figures" / f"{figure}.png").stat().st_size > 1000
    assert len(texts) >= sum(LEAVES[n][0] is not None for n in names if n.startswith("interp"))
    assert "<html" in (out / "report.html").read_text()
