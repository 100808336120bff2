"""What a run leaves, and what can be done with it afterwards."""

from __future__ import annotations

import getpass
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import safe_open

from genpath.config import Config
from genpath.run import (
    evaluate_run,
    load_model,
    read_checkpoint,
    report_run,
    run_config,
    sample_run,
)
from genpath.run.assembly import assemble
from genpath.run.progress import Display

from .test_run_toys import quiet, results, toy_config, toy_world

FILES = {
    "config.yaml", "environment.json", "metrics.jsonl", "metrics.json", "checkpoint.safetensors",
    "training.safetensors", "samples.npz", "findings.json", "report.html", "state.json", "figures",
}  # fmt: skip


@pytest.fixture(autouse=True)
def world() -> Iterator[None]:
    with toy_world():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run, and what it said."""
    folder, said = tmp_path_factory.mktemp("runs") / "toy", io.StringIO()
    with toy_world():
        run_config(toy_config(), folder, Console(file=said, width=100))
    return folder, said.getvalue()


@pytest.fixture
def folder(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the finished run, to do things to."""
    shutil.copytree(finished[0], tmp_path / "copy")
    return tmp_path / "copy"


class TestFolder:
    def test_it_holds_everything(self, folder: Path) -> None:
        assert {path.name for path in folder.iterdir() if path.name != ".lock"} == FILES
        assert (folder / "figures" / "line.png").read_bytes()[:4] == b"\x89PNG"

    def test_the_config_reads_back_as_itself(self, folder: Path) -> None:
        assert Config.from_yaml(folder / "config.yaml").digest() == toy_config().digest()

    def test_the_environment_says_versions_and_nothing_of_the_host(self, folder: Path) -> None:
        text = (folder / "environment.json").read_text()
        found = json.loads(text)
        assert found["libraries"]["torch"] == torch.__version__
        assert found["python"] == sys.version.split()[0] and found["seeds"]["seed"] == 11
        secrets = [socket.gethostname(), str(Path.home()), str(folder.parent), os.getcwd()]
        if getpass.getuser() != "root":
            secrets.append(getpass.getuser())
        assert not [word for word in secrets if word in text]

    def test_metrics_are_lines_and_a_final_file(self, folder: Path) -> None:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if "step" in line]
        assert steps == sorted({*range(7, 241, 7), 60, 120, 180, 240})
        assert {"loss", "lr", "gradient_norm"} <= lines[0].keys()
        assert [s["step"] for s in lines if "validation_loss" in s] == [60, 120, 180, 240]
        found = json.loads((folder / "metrics.json").read_text())
        assert lines[-1]["test/mean"] == found["metrics"]["test/mean"]
        assert found["metrics"].keys() >= {"test/nll", "test/nll_se", "test/bits_per_dimension"}
        assert found["measured"]["test/mean"] == "mean of <all> entries"

    def test_training_lowers_the_validation_loss(self, folder: Path) -> None:
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        losses = [line["validation_loss"] for line in lines if "validation_loss" in line]
        model = assemble(toy_config("train.ema=null")).model
        at_rest = float(model.base.sample(4000, torch.Generator().manual_seed(0)).square().mean())
        assert losses[-1] < losses[0]
        assert losses[-1] < 0.9 * (2 * at_rest)  # the zero field's loss is ½E‖x1 − x0‖² = 2

    def test_the_checkpoint_says_what_it_belongs_to(self, folder: Path) -> None:
        with safe_open(folder / "checkpoint.safetensors", "pt") as file:
            metadata = json.loads(file.metadata()["genpath"])
        assert metadata["config_digest"] == toy_config().digest()
        assert metadata["distributions"] == {"genpath": "0.0", "genpath-toy": "1.2"}
        assert metadata["components"]["path"] == {
            "kind": "path", "name": "toy.straight", "options": {},
            "distribution": "genpath-toy", "version": "1.2",
        }  # fmt: skip
        assert metadata["components"]["network"]["options"]["width"] == 16

    def test_the_last_lines_are_the_table(self, finished: tuple[Path, str]) -> None:
        table = finished[1].splitlines()[-20:]
        assert any("test/nll" in line and "±" in line for line in table)
        assert table[-1].endswith("report.html")

    def test_a_finished_run_only_prints_the_table(self, folder: Path) -> None:
        before = {
            path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"
        }
        said = io.StringIO()
        run_config(toy_config(), folder, Console(file=said, width=100))
        assert "test/nll" in said.getvalue() and "train:" not in said.getvalue()
        assert before == {p: p.stat().st_mtime_ns for p in folder.iterdir() if p.name != ".lock"}

    def test_two_runs_are_the_same_and_another_seed_is_not(
        self, folder: Path, tmp_path: Path
    ) -> None:
        run_config(toy_config(), tmp_path / "second", quiet())
        run_config(toy_config("seed=12"), tmp_path / "third", quiet())
        first, second, third = (
            results(f) for f in (folder, tmp_path / "second", tmp_path / "third")
        )
        assert first == second
        assert not [name for name in first if first[name] == third[name]]

    def test_global_random_state_and_threads_stay_as_they_were(self, tmp_path: Path) -> None:
        torch.manual_seed(3)
        expected, threads = torch.rand(3), torch.get_num_threads()
        torch.manual_seed(3)
        run_config(toy_config("train.steps=3", "evaluate=[]"), tmp_path / "run", quiet())
        assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


class TestLater:
    def test_samples_in_a_new_process_are_those_of_the_run(
        self, folder: Path, tmp_path: Path
    ) -> None:
        script = (
            "import sys; sys.path.insert(0, sys.argv[1]); import test_run_toys as toys\n"
            "from genpath.run import sample_run\n"
            "with toys.toy_world(): print(sample_run(sys.argv[2], 50, 11, sys.argv[3]))\n"
        )
        out = tmp_path / "later" / "more.npz"
        source = Path(__file__).parents[1] / "src"
        done = subprocess.run(
            [sys.executable, "-c", script, str(Path(__file__).parent), str(folder), str(out)],
            capture_output=True, text=True, timeout=120,
            env=os.environ | {"PYTHONPATH": str(source)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        more, own = np.load(out)["samples"], np.load(folder / "samples.npz")["samples"]
        assert more.shape == (50, 2) and np.array_equal(more, own)

    def test_by_default_it_draws_as_the_config_says(self, folder: Path) -> None:
        made = np.load(sample_run(folder, console=quiet()))["samples"]
        assert np.array_equal(made, np.load(folder / "samples.npz")["samples"])

    def test_other_seeds_give_other_samples(self, folder: Path) -> None:
        a = np.load(sample_run(folder, 10, 1, console=quiet()))["samples"]
        b = np.load(sample_run(folder, 10, 2, console=quiet()))["samples"]
        assert not np.isin(a, b).any()

    def test_no_samples_are_an_empty_array(self, folder: Path) -> None:
        assert np.load(sample_run(folder, 0, 1, console=quiet()))["samples"].shape == (0, 2)

    def test_a_model_loads_from_the_folder_and_from_the_file(self, folder: Path) -> None:
        x, t = torch.randn(5, 2), torch.rand(5)
        first = load_model(folder).field(t, x)
        assert torch.equal(first, load_model(folder / "checkpoint.safetensors").field(t, x))
        fresh = assemble(toy_config()).model.field(t, x)
        assert float((first - fresh).detach().abs().max()) > 0.1  # the control: untrained weights

    def test_a_stopped_run_loads_from_its_training_state(self, folder: Path) -> None:
        (folder / "checkpoint.safetensors").unlink()
        x, t = torch.randn(5, 2), torch.rand(5)
        best = read_checkpoint(folder / "training.safetensors").under("best/")
        model = load_model(folder)
        state = model.network.state_dict()  # type: ignore[union-attr]
        assert all(torch.equal(best[name], state[name]) for name in best)
        assert model.field(t, x).shape == (5, 2)

    def test_evaluating_again_gives_the_same_numbers(self, folder: Path) -> None:
        before = results(folder)
        evaluate_run(folder, quiet())
        assert results(folder) == before

    def test_stages_can_be_done_one_by_one(
        self, finished: tuple[Path, str], tmp_path: Path
    ) -> None:
        for stage in ("train", "sample", "evaluate"):
            run_config(toy_config(), tmp_path / "steps", quiet(), only=(stage,))
        assert results(tmp_path / "steps") == results(finished[0])
        assert not (tmp_path / "steps" / "report.html").exists()


class Page(HTMLParser):
    """Collects tags with what they refer to, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [
            v or "" for k, v in attrs if k in ("src", "href", "srcset", "data", "action")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


class TestReport:
    @pytest.fixture
    def page(self, folder: Path) -> Page:
        page = Page()
        page.feed((folder / "report.html").read_text(encoding="utf-8"))
        return page

    def test_nothing_is_loaded_from_elsewhere(self, page: Page, folder: Path) -> None:
        assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
        assert not {"script", "link", "iframe", "object"} & set(page.tags)
        assert not re.search(r"url\(|@import", (folder / "report.html").read_text())

    def test_it_says_what_there_is_to_say(self, page: Page) -> None:
        for words in (
            "A toy <run>", "second line", "normal rows", "mean of <all> entries", "a < b & c",
            "A line", "it rises", "validation", "genpath", toy_config().digest(), "width: 16",
            "Time of each stage",
        ):  # fmt: skip
            assert words in page.text, words
        assert {"svg", "table", "figure", "img", "details"} <= set(page.tags)

    def test_it_adapts(self, folder: Path) -> None:
        text = (folder / "report.html").read_text()
        assert "prefers-color-scheme: dark" in text and "max-width: 40rem" in text
        assert 'name="viewport"' in text

    def test_it_can_be_written_again(self, folder: Path) -> None:
        before = (folder / "report.html").read_text()
        (folder / "report.html").unlink()
        path = report_run(folder, quiet())
        times = re.compile(r"[\d.]+ s<")
        assert times.sub("", path.read_text()) == times.sub("", before)


class TestProgress:
    def test_a_file_gets_plain_lines(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("genpath.run.progress.SECONDS_PER_LINE", 0.0)
        said = io.StringIO()
        config = toy_config("train.steps=8", "train.log_every=1", "evaluate=[]")
        run_config(config, tmp_path / "r", Console(file=said, width=100))
        lines = said.getvalue().splitlines()
        assert re.match(r"train 5/8  loss [\d.]+  [\d.e+]+/s  [\d.]+ s left", lines[4])
        assert re.match(r"train 8/8  loss [\d.]+  validation [\d.]+  in [\d.]+ s", lines[7])
        assert "\x1b" not in said.getvalue()

    def test_a_terminal_gets_one_live_line(self, tmp_path: Path) -> None:
        said = io.StringIO()
        console = Console(file=said, force_terminal=True, width=120)
        run_config(toy_config("train.steps=8", "evaluate=[{name: nll}]"), tmp_path / "r", console)
        assert "8/8" in said.getvalue() and "\x1b[" in said.getvalue()

    def test_telling_is_cheap(self) -> None:
        import time

        with Display(quiet()).task("t", 10**6) as task:
            start = time.perf_counter()
            for step in range(10_000):
                task.update(step)
            each = (time.perf_counter() - start) / 10_000
        assert each < 2e-5


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, genpath.run\n"
        "print([m for m in ('torch', 'rich', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    source = Path(__file__).parents[1] / "src"
    done: Any = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": str(source)},
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr
