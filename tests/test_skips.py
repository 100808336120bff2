"""The rule of conftest.py: in CI a test may be skipped only for a foreseen reason."""

import pytest

from .repository import ROOT

pytest_plugins = ["pytester"]

SKIPPED_TEST = """
import pytest
@pytest.mark.skip(reason={reason!r})
def test_it(): pass
def test_other(): pass
@pytest.mark.xfail(reason="known")
def test_known(): raise ValueError
"""
SKIPPED_MODULE = """
import pytest
pytest.importorskip("nobody_has_this", reason={reason!r})
"""


@pytest.fixture
def project(pytester, monkeypatch):
    pytester.makeconftest((ROOT / "conftest.py").read_text(encoding="utf-8"))
    pytester.mkdir("tests").joinpath("skips.txt").write_text("# a comment\nneeds [0-9]+ devices\n")
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib")
    monkeypatch.setenv("CI", "true")
    return pytester


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_MODULE])
def test_an_unforeseen_skip_fails_the_run(project, source):
    reason = "needs 2 devices and a moon"
    module = project.makepyfile(test_planted=source.format(reason=reason))
    project.makepyfile(test_sound="def test_it(): pass")
    result = project.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    title = "*skips that tests/skips.txt does not foresee*"
    result.stdout.fnmatch_lines([title, f"{module.name}*: {reason}"])


def test_a_foreseen_skip_passes(project):
    project.makepyfile(SKIPPED_TEST.format(reason="needs 2 devices"))
    assert project.runpytest_inprocess().ret == pytest.ExitCode.OK


def test_outside_ci_any_skip_passes(project, monkeypatch):
    monkeypatch.setenv("CI", "false")
    project.makepyfile(SKIPPED_TEST.format(reason="unforeseen"))
    assert project.runpytest_inprocess().ret == pytest.ExitCode.OK


def test_a_failure_keeps_its_own_exit_code(project):
    project.makepyfile("syntax error")
    assert project.runpytest_inprocess().ret == pytest.ExitCode.INTERRUPTED
