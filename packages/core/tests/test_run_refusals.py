"""What a run refuses, and in which words."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from genpath.couplings import Coupling
from genpath.errors import (
    CapabilityError,
    CheckpointError,
    ConfigError,
    NumericalError,
    RunError,
)
from genpath.plugins import using
from genpath.run import evaluate_run, files, load_model, read_checkpoint, run_config, sample_run
from genpath.run.assembly import assemble, find_device
from genpath.run.seeds import derive_seed

from .test_run_toys import quiet, toy_config, toy_registry, toy_world

FAST = ("train.steps=20", "train.checkpoint_every=5", "train.validate_every=0", "evaluate=[]")


@pytest.fixture(autouse=True)
def world() -> Iterator[None]:
    with toy_world():
        yield


def start(folder: Path, *overrides: str, only: tuple[str, ...] | None = None) -> Any:
    return run_config(toy_config(*FAST, *overrides), folder, quiet(), only)


class TestFolder:
    def test_another_config(self, tmp_path: Path) -> None:
        start(tmp_path / "run", only=("train",))
        words = (
            r"train\.lr: 0\.01 there, 0\.02 now; .*network\.width: 16 there, 8 now|network\.width"
        )
        with pytest.raises(ConfigError, match=words) as caught:
            start(tmp_path / "run", "train.lr=0.02", "network.width=8")
        assert "train.lr: 0.01 there, 0.02 now" in str(caught.value)
        assert "--out DIR" in str(caught.value) and "seed" not in str(caught.value)

    def test_a_folder_that_holds_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("keep me")
        with pytest.raises(RunError, match=r"(?s)a run gets an empty folder.*holds thesis\.tex"):
            start(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_file_where_the_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("")
        with pytest.raises(RunError, match="cannot create it"):
            start(tmp_path / "run")

    def test_a_folder_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: Path, *args: Any, **more: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(RunError, match=r"(?s)Permission denied.*--out DIR") as caught:
            start(tmp_path / "run")
        assert isinstance(caught.value, OSError)

    def test_two_processes_in_one_folder(self, tmp_path: Path) -> None:
        start(tmp_path / "run", only=("train",))
        with (
            files.lock(tmp_path / "run"),
            pytest.raises(RunError, match="another process is running"),
        ):
            start(tmp_path / "run")

    def test_no_run_folder(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="no such folder"):
            evaluate_run(tmp_path / "nowhere", quiet())
        with pytest.raises(RunError, match=r"(?s)it holds a checkpoint.*genpath run CONFIG"):
            load_model(tmp_path)


class TestDisk:
    def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_later(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, writes = os.fsync, [0]

        def full(handle: int) -> None:
            writes[0] += 1
            if writes[0] == 14:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        monkeypatch.setattr(files.os, "fsync", full)
        words = r"(?s)\.safetensors: cannot write it.*No space left.*run the same command again"
        with pytest.raises(RunError, match=words):
            start(tmp_path / "run")
        monkeypatch.undo()
        assert not list((tmp_path / "run").glob(".*.tmp"))
        step = read_checkpoint(tmp_path / "run" / "training.safetensors").metadata["step"]
        assert 0 < step < 20  # the checkpoint before it is whole
        start(tmp_path / "run")
        start(tmp_path / "undisturbed")
        ends = [(tmp_path / f / "samples.npz").read_bytes() for f in ("run", "undisturbed")]
        assert ends[0] == ends[1]

    def test_a_line_that_cannot_be_added(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*args: Any, **more: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(files, "open", full, raising=False)
        with pytest.raises(RunError, match=r"metrics\.jsonl: cannot write it"):
            files.JSONLines(tmp_path / "metrics.jsonl").append({"step": 1})


class TestNumbers:
    def test_a_nan_stops_with_step_seed_and_checkpoint(self, tmp_path: Path) -> None:
        config = toy_config(
            *FAST, "data=toy.poisoned", "codec=identity", "train.batch=8", "train.steps=100"
        )
        with pytest.raises(NumericalError, match="loss and gradient are finite") as caught:
            run_config(config, tmp_path / "run", quiet())
        text = str(caught.value)
        step = int(re.search(r"step (\d+):", text)[1])  # type: ignore[index]
        assert f"batch seed {derive_seed(11, 'train', step)}" in text
        # the named step is the first that drew the poisoned row, by the seeds alone
        coupling = assemble(config).coupling
        drawn = [self.draws_the_poison(coupling, k) for k in range(1, 101)]
        assert drawn.index(True) + 1 == step
        path = tmp_path / "run" / "training.safetensors"
        if path.exists():
            good = read_checkpoint(path)
            assert f"of step {good.metadata['step']}" in text and good.metadata["step"] < step
            assert all(torch.isfinite(t).all() for t in good.tensors.values())
        else:
            assert step <= 5 and "no earlier checkpoint" in text

    @staticmethod
    def draws_the_poison(coupling: Coupling, step: int) -> bool:
        from genpath.objectives import stratified_times
        from genpath.run import generator_for

        rng = generator_for(11, "train", step)
        stratified_times(8, rng)
        return bool(coupling.pairs(8, rng).x1.isnan().any())  # type: ignore[union-attr]

    def test_the_last_good_checkpoint_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from genpath.run.training import Trainer

        real = Trainer.advance

        def poisoned(self: Trainer) -> None:
            real(self)
            if self.step == 13:
                self.recent[-1] = self.recent[-1] + torch.tensor([float("inf"), 0.0])

        monkeypatch.setattr(Trainer, "advance", poisoned)
        with pytest.raises(NumericalError, match=r"(?s)step 13:.*loss inf.*of step 10"):
            start(tmp_path / "run")


class TestCheckpoints:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        start(tmp_path / "run", only=("train",))
        return tmp_path / "run"

    def test_a_missing_distribution_is_named(self, folder: Path) -> None:
        words = (
            r"(?s)path: path 'toy\.straight' of genpath-toy 1\.2.*pip install \"genpath-toy==1\.2\""
        )
        with using(toy_registry(with_toys=False)):
            with pytest.raises(CheckpointError, match=words):
                load_model(folder)
            with pytest.raises(CheckpointError, match=words):
                sample_run(folder, 1, 0, console=quiet())
            with pytest.raises(CheckpointError, match=words):
                evaluate_run(folder, quiet())

    def test_a_damaged_file(self, folder: Path) -> None:
        path = folder / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(CheckpointError, match="it is a whole safetensors file"):
            load_model(folder)

    def test_a_pickle_is_never_opened(self, folder: Path, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> Any:
                return (os.mkdir, (str(tmp_path / "exploded"),))

        torch.save(Bomb(), folder / "checkpoint.safetensors")
        with pytest.raises(CheckpointError, match="it is a whole safetensors file"):
            load_model(folder)
        data = (folder / "checkpoint.safetensors").read_bytes()
        torch.load(io.BytesIO(data), weights_only=False)  # the control
        assert (tmp_path / "exploded").exists()

    def test_a_safetensors_file_of_somebody_else(self, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file({"w": torch.zeros(1)}, folder / "checkpoint.safetensors")
        with pytest.raises(CheckpointError, match="no metadata of genpath"):
            load_model(folder)

    def test_other_data(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from genpath.datasets import Dataset

        monkeypatch.setattr(Dataset, "digest", lambda self: "another")
        with pytest.raises(CheckpointError, match="the data set 'normal rows' is the one"):
            load_model(folder)

    def test_weights_that_do_not_fit(self, folder: Path) -> None:
        from safetensors import safe_open
        from safetensors.torch import save_file

        path = folder / "checkpoint.safetensors"
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
        tensors["model/last.bias"] = torch.zeros(7)
        save_file(tensors, path, metadata)
        with pytest.raises(CheckpointError, match=r"(?s)its weights fit the network.*last\.bias"):
            load_model(folder)


class TestWords:
    def test_an_unknown_stage(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="the config has the stage 'fly'"):
            start(tmp_path / "run", only=("fly",))

    def test_a_device_that_is_not_there(self) -> None:
        with pytest.raises(ConfigError, match="torch knows the device"):
            find_device("toaster")
        with pytest.raises(RunError, match=r"device cuda:99: it is there"):
            find_device("cuda:99")

    @pytest.mark.parametrize("slot", ["data", "base", "path", "network"])
    def test_a_slot_that_a_model_needs(self, slot: str) -> None:
        with pytest.raises(ConfigError, match=rf"(?s){slot}: .*needs .*write {slot}: NAME"):
            assemble(toy_config(f"{slot}=null"))

    @pytest.mark.parametrize("slot", ["objective", "dynamics", "sampler"])
    def test_a_slot_that_a_stage_needs(self, slot: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=rf"{slot}: .*needs"):
            start(tmp_path / "run", f"{slot}=null")

    def test_a_prediction_that_the_path_does_not_know(self) -> None:
        with pytest.raises(CapabilityError, match=r"(?s)no prediction 'noise'.*velocity"):
            assemble(toy_config("predict=noise"))

    def test_nll_without_a_likelihood(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="data are scored by a likelihood"):
            start(tmp_path / "run", "evaluate=[nll]", "likelihood=null")

    def test_the_same_metric_twice(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"a metric is measured once.\n.*a second test/mean"):
            start(tmp_path / "run", "evaluate=[toy.shown, toy.shown]")

    def test_figures_without_matplotlib_are_left_out_aloud(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("matplotlib.backends.backend_agg", "matplotlib.figure"):
            monkeypatch.setitem(sys.modules, name, None)
        said = io.StringIO()
        config = toy_config(*FAST, "evaluate=[toy.shown]")
        run_config(config, tmp_path / "run", Console(file=said, width=100))
        assert "pip install 'genpath[report]'" in said.getvalue()
        assert (tmp_path / "run" / "report.html").exists()

    def test_half_precision_weights(self) -> None:
        with pytest.raises(ConfigError, match=r"'float32' or 'float64'"):
            toy_config("precision=bfloat16")

    def test_samples_in_another_format(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"samples are written as \.npz"):
            sample_run(tmp_path, 1, 0, tmp_path / "x.csv")
        with pytest.raises(RunError, match="not negative"):
            sample_run(tmp_path, -1, 0, tmp_path / "x.npz")

    def test_a_metrics_file_that_is_no_json(self, tmp_path: Path) -> None:
        (tmp_path / "metrics.json").write_text("{")
        with pytest.raises(RunError, match="it is not JSON"):
            files.read_json(tmp_path / "metrics.json")

    def test_a_line_cut_short_is_dropped(self, tmp_path: Path) -> None:
        lines = files.JSONLines(tmp_path / "m.jsonl")
        lines.append({"step": 1})
        with open(lines.path, "a") as file:
            file.write(json.dumps({"step": 2})[:-2])
        assert lines.read() == [{"step": 1}]
