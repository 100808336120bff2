"""Killed at any moment, a run goes on to the same losses, weights and samples, bit by bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE, SOURCE = Path(__file__).parent, Path(__file__).parents[1] / "src"
KILLS = 22


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the killer saw; it is one process that forks the runs it kills."""
    folder = tmp_path_factory.mktemp("kills")
    path = os.pathsep.join([str(HERE), str(SOURCE)])
    env = {k: v for k, v in os.environ.items() if not k.startswith("GENPATH")}
    env |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "run_killer.py"), str(folder), "7", str(KILLS)],
        capture_output=True, text=True, timeout=300, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
class TestKills:
    def test_there_were_enough_kills_at_the_places_that_hurt(self, report: dict[str, Any]) -> None:
        causes = [cause for chain in report["chains"] for cause in chain["kills"]]
        assert len(causes) >= 20
        assert sum("checkpoint" in cause for cause in causes) == 5

    def test_every_killed_run_ends_with_the_numbers_of_an_undisturbed_one(
        self, report: dict[str, Any]
    ) -> None:
        assert report["codes"][0] == 0
        for chain in report["chains"]:
            assert chain["final"] == 0, chain
            assert chain["differs"] == [], chain

    def test_a_resume_that_forgets_the_moments_is_seen(self, report: dict[str, Any]) -> None:
        assert report["codes"][1] == 0
        assert {"metrics.jsonl", "checkpoint.safetensors", "samples.npz"} <= set(report["fault"])

    def test_a_writer_that_is_not_atomic_is_seen(self, report: dict[str, Any]) -> None:
        assert report["codes"][2] == 1
        assert "CheckpointError" in report["error"]
        assert "it is a whole safetensors file" in report["error"]

    @pytest.mark.parametrize("index", [0, 1], ids=["SIGINT", "SIGTERM"])
    def test_a_signal_leaves_a_checkpoint_and_changes_no_number(
        self, report: dict[str, Any], index: int
    ) -> None:
        found = report["signals"][index]
        assert found["code"] == 130  # the child's own word for KeyboardInterrupt
        assert 0 < found["step"] < 150
        assert found["again"] == 0 and found["differs"] == []
