"""The examples, shortened: the same command, configs and code path as the real runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genpath.cli import main
from genpath.config import load_config

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
SHORT = {
    "airports": ["train.batch=64", "network.width=16", "network.features=8", "likelihood.steps=4"],
    "digits": ["train.batch=32", "network.width=16", "likelihood.steps=2"],
    "text": ["network.width=16", "network.depth=1", "network.heads=2", "likelihood.draws=2"],
}
SCORED = "[{name: nll, max_examples: 8}]"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_valid_config(example):
    config = load_config(example)
    assert config.title and config.description
    assert config.evaluate, "an example measures something"


@pytest.mark.parametrize("name", SHORT)
def test_an_example_runs_from_training_to_report(name, tmp_path, capsys):
    example, out = Path(__file__).parents[1] / f"examples/{name}.yaml", tmp_path / "run"
    short = [
        *SHORT[name], "train.steps=3", "train.warmup=1", "train.validate_every=0", "threads=1",
        "sampler.steps=3", "sample.count=4", f"evaluate={SCORED}",
    ]  # fmt: skip
    assert main(["run", str(example), *short, "--out", str(out)]) == 0, capsys.readouterr().err
    assert "test/nll" in capsys.readouterr().out
    found = json.loads((out / "metrics.json").read_text())
    assert np.isfinite(found["metrics"]["test/nll"]) and "8 test" in found["measured"]["test/nll"]
    assert "<html" in (out / "report.html").read_text()

    own = np.load(out / "samples.npz")["samples"]
    assert main(["sample", str(out)]) == 0
    assert main(["sample", str(out), "--count", "2", "--seed", "9", "--out", f"{out}/x.npz"]) == 0
    again, other = (np.load(out / f)["samples"] for f in ("samples-4-0.npz", "x.npz"))
    assert np.array_equal(again, own) and len(other) == 2 and not np.array_equal(other, own[:2])

    assert main(["evaluate", str(out)]) == 0
    after = json.loads((out / "metrics.json").read_text())
    assert after["metrics"]["test/nll"] == found["metrics"]["test/nll"]


def test_a_folder_that_is_no_run_is_one_clear_line(tmp_path, capsys):
    assert main(["sample", str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert "nothing" in error and "Traceback" not in error
