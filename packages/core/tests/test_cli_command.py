"""The command: what it prints, where, and its exit status."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import pytest

import genpath.run
from genpath.cli import main
from genpath.plugins import Registry, using

from .test_plugins_fakes import add, install, plugin, python

OPTIONS = """
from dataclasses import dataclass
from genpath.config.options import Slot, option, slot

@dataclass(frozen=True)
class Standing:
    rate: float = option(help="how fast")
    width: int = option(64, help="how wide", minimum=1)
    shape: Slot = slot("schedule", None, help="how it grows")


def claims():
    return ()
"""
STAGES = [add("stage", name) for name in ("train", "sample", "evaluate", "report")]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three distributions: a core of stages, a good plugin, a broken one."""
    monkeypatch.delenv("GENPATH_DISABLE_PLUGINS", raising=False)
    monkeypatch.setenv("GENPATH_STATE", str(tmp_path / "state"))
    name = f"{tmp_path.name}_options".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(OPTIONS)
    more = f", options='{name}:Standing', needs=('base',), claims='{name}:claims'"
    install(tmp_path, "genpath", "core", plugin(*STAGES))
    install(tmp_path, "genpath-waves", "waves", plugin(add("path", "standing", more=more)))
    install(tmp_path, "bad-dist", "bad", "import no_such_module")
    (tmp_path / "run.yaml").write_text("path: {name: waves.standing, rate: 2}\n")

    import genpath.plugins
    from genpath.plugins import discovery

    from .test_plugins_fakes import entry_points

    def discover(*, without: object = ()) -> Registry:
        return discovery.discover(without=without, entry_points=entry_points(tmp_path))  # type: ignore[arg-type]

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(genpath.plugins, "discover", discover)
    monkeypatch.setattr("genpath.cli.inspecting.discover", discover, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestListing:
    def test_plugins(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["plugins"]) == 0
        out = capsys.readouterr().out
        rows = [line.split() for line in out.splitlines()[:4]]
        assert [row[:3] for row in rows] == [
            ["plugin", "state", "components"], ["core", "ok", "4"],
            ["bad", "failed", "0"], ["waves", "ok", "1"],
        ]  # fmt: skip
        assert "bad (bad-dist 1.0): failed: ModuleNotFoundError: No module named" in out
        assert "Traceback" not in out
        main(["plugins", "--traceback"])
        assert "Traceback (most recent call last)" in capsys.readouterr().out

    def test_json_and_check(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["plugins", "--json", "--check"]) == 1
        data = json.loads(capsys.readouterr().out)
        states = {record["prefix"]: record["state"] for record in data["plugins"]}
        assert states == {"core": "ok", "bad": "failed", "waves": "ok"}
        assert data["faults"][0]["where"] == "plugin bad (bad-dist 1.0)"

    def test_check_counts(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--without", "bad", "plugins", "--check"]) == 0
        out = capsys.readouterr().out
        assert "5 components checked, no faults" in out and "left out on request" in out

    def test_components(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["components"]) == 0
        out = capsys.readouterr().out
        assert "path: the law of x_t" in out and "  waves.standing  claimed  standing" in out
        assert main(["components", "law"]) == 0
        assert "none registered" in capsys.readouterr().out

    def test_show(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["show", "path", "waves.standing"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("path waves.standing: standing\n")
        assert "distribution  genpath-waves 1.0" in out and "claims        claimed" in out
        rows = [re.split("  +", line.strip()) for line in out.splitlines()[-3:]]
        assert rows == [
            ["rate", "a number", "required", "how fast"],
            ["width", "an integer", "= 64", "how wide"],
            ["shape", "component: schedule", "= null", "how it grows"],
        ]


class TestConfig:
    def test_resolved(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "run.yaml", "seed=3", "path.width=5"]) == 0
        out = capsys.readouterr().out
        assert "seed: 3\n" in out and "  rate: 2.0\n  width: 5\n" in out

    def test_problems(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "run.yaml", "path.widht=5", "sed=1"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("ConfigError: run.yaml: 2 problems\n")
        assert "did you mean 'width'?" in err and "Traceback" not in err

    def test_several_left_out(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        main(["--without", "bad", "plugins", "--without=waves", "--json"])
        states = [each["state"] for each in json.loads(capsys.readouterr().out)["plugins"]]
        assert states == ["ok", "disabled", "disabled"]

    def test_a_plugin_left_out(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "run.yaml", "--without", "waves"]) == 2
        assert "waves (genpath-waves 1.0): disabled" in capsys.readouterr().err


@pytest.fixture
def calls(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """A stand-in for genpath.run that writes down what it is asked for."""
    seen: list[tuple[object, ...]] = []
    fake = types.ModuleType("genpath.run")
    fake.default_folder = genpath.run.default_folder
    for name in ("run_config", "sample_run", "evaluate_run", "report_run"):
        setattr(fake, name, lambda *given, name=name: seen.append((name, *given)))
    monkeypatch.setitem(sys.modules, "genpath.run", fake)
    return seen


class TestRunning:
    def test_run(self, calls: list[tuple]) -> None:
        assert main(["run", "run.yaml", "seed=1", "--out", "here", "path.width=2"]) == 0
        ((name, config, out, _console, only),) = calls
        assert (name, config.seed, out, only) == ("run_config", 1, Path("here"), None)
        assert config.require("path").options.width == 2

    def test_train_shares_the_folder_of_run(self, calls: list[tuple]) -> None:
        assert main(["run", "run.yaml"]) == main(["train", "run.yaml"]) == 0
        (_, whole, first, _, _), (_, _, second, _, only) = calls
        assert first == second and first.parent == Path("runs")
        assert first.name == f"run-{whole.digest()[:8]}"
        assert only == ("train",)

    def test_the_folder_commands(self, calls: list[tuple]) -> None:
        main(["sample", "r", "--count", "3", "--seed", "4", "--out", "x.npz"])
        main(["sample", "r"])
        main(["evaluate", "r"])
        main(["report", "r"])
        assert calls == [
            ("sample_run", Path("r"), 3, 4, Path("x.npz")),
            ("sample_run", Path("r"), None, None, None),
            ("evaluate_run", Path("r")), ("report_run", Path("r")),
        ]  # fmt: skip

    def test_ctrl_c(
        self, calls: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(sys.modules["genpath.run"], "report_run", interrupt)
        assert main(["report", "r"]) == 130
        assert capsys.readouterr().err == "interrupted\n"

    def test_an_unexpected_error(
        self, calls: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: object) -> None:
            error = ZeroDivisionError("oh")
            error.add_note("while building this")
            raise error

        monkeypatch.setattr(sys.modules["genpath.run"], "report_run", fail)
        assert main(["report", "r"]) == 1
        err = capsys.readouterr().err
        assert err.startswith("ZeroDivisionError: oh\n  note  while building this\n  (--traceback")
        with pytest.raises(ZeroDivisionError, match="oh"):
            main(["report", "r", "--traceback"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rn", "there is no command 'rn'.\n  fix   did you mean 'run'"),
        ("zzz", "the commands are run, train"),
        ("plugins --chek", "nothing takes '--chek'.\n  fix   did you mean '--check'"),
        ("show path", "the following arguments are required: NAME"),
        ("sample r --count many", "invalid int value: 'many'"),
        ("report r a=1", "nothing takes 'a=1'"),
        ("components pth", "no kind 'pth'"),
        ("run none.yaml", "the config file must be readable"),
        ("--without wavs plugins", "no plugin 'wavs' is installed"),
    ],
)
def test_mistakes(line: str, words: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    from genpath._version import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"genpath {__version__}\n"
    assert main([]) == main(["--help"]) == main(["run", "--help"]) == 0
    assert "key=value" in capsys.readouterr().out


def test_the_registry_is_given_back(root: Path) -> None:
    from genpath.plugins import registry

    with using(Registry()) as empty:
        main(["config", "run.yaml"])
        assert registry() is empty


def test_listing_imports_nothing_heavy(tmp_path: Path) -> None:
    install(tmp_path, "genpath", "core", plugin(*STAGES))
    install(tmp_path, "genpath-waves", "waves", plugin(add("path", "standing")))
    code = (
        "import sys; from genpath.cli import main; main(['plugins']);"
        "print([m for m in ('torch', 'omegaconf', 'rich', 'numpy', 'yaml') if m in sys.modules])"
    )
    done = python(tmp_path, "-c", code)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    assert "waves" in done.stdout
