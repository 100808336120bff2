"""A plugin from the templates: it is whole, its claims hold, and what it cannot be is refused.

`tools/stranger.py` builds and installs such plugins and breaks them; here they are tried in place.
"""

import importlib
import subprocess
import sys
import tomllib

import pytest

from genpath.cli import main
from genpath.errors import UsageError
from genpath.plugins import Collector, Registry, registry, using
from genpath.scaffold import SPACES, new_plugin
from genpath.testing import claims_of, run_claims


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a plugin and makes it importable: its folder, and the registry that knows it."""

    def write(name, space):
        folder = new_plugin(name, space, tmp_path)
        monkeypatch.syspath_prepend(str(folder / "src"))
        module = importlib.import_module(f"genpath_{name}.plugin")
        collector = Collector(name, name, f"genpath-{name}", "0.1.0")
        module.genpath_components(collector)
        return folder, Registry([*registry().components(), *collector.components])

    return write


@pytest.mark.parametrize("space", SPACES)
def test_its_claims_hold_and_nothing_is_left_to_fill_in(written, space):
    folder, known = written(f"new{space}", space)
    assert not [fault for fault in known.check() if f"new{space}" in fault.where]
    with using(known):
        verdicts = list(run_claims(claims_of(f"new{space}", among=known), fast=True, search=False))
    assert len(verdicts) > 1 and not [line for v in verdicts for line in v.faults()]
    for path in (path for path in folder.rglob("*") if "__pycache__" not in path.parts):
        text = f"{path.name}\n" + (path.read_text(encoding="utf-8") if path.is_file() else "")
        text = text.replace("${{ matrix", "")
        assert "{{" not in text and "MODULE" not in text and ".template" not in text, path


@pytest.mark.parametrize("space", SPACES)
def test_its_project_names_it_and_bounds_the_core(tmp_path, space):
    folder = new_plugin("neap-tides", space, tmp_path)
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "genpath-neap-tides"
    assert project["entry-points"]["genpath"] == {"neap-tides": "genpath_neap_tides.plugin"}
    core, *_ = project["dependencies"]
    assert core.startswith("genpath>=0.1,<0.2")


@pytest.mark.parametrize("space", SPACES)
def test_its_own_linters_find_nothing(tmp_path, space):
    folder = new_plugin("tides", space, tmp_path)
    for command in (["check", "--select", "E,F,I,W,UP,B"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "space", "words"),
    [
        ("Tides", "euclidean", "a plain word"),
        ("core", "euclidean", "is taken(.|\n)*genpath 0"),
        ("genpath-discrete", "euclidean", "is taken"),
        ("tides", "euclid", "did you mean 'euclidean'"),
        ("tides", "torus", "the spaces are euclidean, categorical, manifold"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(tmp_path, name, space, words):
    with pytest.raises(UsageError, match=words):
        new_plugin(name, space, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path, capsys):
    (tmp_path / "genpath-tides").mkdir()
    assert main(["new-plugin", "tides", "--into", str(tmp_path)]) == 2
    assert "is not there yet" in capsys.readouterr().err
    assert not list((tmp_path / "genpath-tides").iterdir())


def test_the_command_says_what_to_do_next(tmp_path, capsys):
    assert main(["new-plugin", "tides", "--into", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "genpath verify tides" in out and "src/genpath_tides/claims.py" in out
