"""The compositions of examples/compose, shortened: same configs and code path."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genpath.cli import main

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples/compose"
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def run(name, folder, *overrides):
    """The config with overrides; its folder."""
    path = str(EXAMPLES / f"{name}.yaml")
    code = main(["run", path, *overrides, "--out", str(folder)])
    return code, folder


def test_every_example_is_in_the_readme():
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".yaml")}
    assert {name for name in names if f"]({name})" not in README} == set()


def test_the_collapse_is_repaired(tmp_path):
    code, folder = run("collapse", tmp_path / "run", "stages[0].count=2000", "stages[0].steps=100")
    assert code == 0
    with np.load(folder / "samples.npz") as file:
        x = file["samples"]
    assert abs(x.mean() - 2.4) < 0.3 and 2 < x.var() < 4.5
    assert "repaired" in (folder / "report.html").read_text(encoding="utf-8").lower()


def test_trained_runs_are_experts_on_one_schedule_and_collapse_on_two(tmp_path, capsys):
    folders = {}
    for name in ("conditional", "unconditional"):
        few = ("train.steps=20", "sample.count=20", "network.width=16", "evaluate=[]")
        code, folders[name] = run(name, tmp_path / name, *few)
        assert code == 0
    few = ["stages[0].count=50", "stages[0].steps=20"]
    few += [f"stages[0].experts.{name}.folder={folder}" for name, folder in folders.items()]
    code, folder = run("guided", tmp_path / "guided", *few)
    assert code == 0
    assert (folder / "samples.npz").exists()
    capsys.readouterr()
    code, _ = run("guided", tmp_path / "other", *few, "stages[0].align=null")
    said = capsys.readouterr()
    assert code != 0
    assert "collapses at t* = 0.5" in said.out + said.err
    assert "align(composition, schedule)" in said.out + said.err
