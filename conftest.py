"""What holds for every test: GPU tests need a GPU, and CI accepts no unforeseen skip.

A skip is a test that did not run. Where the variable CI is set, the run fails if a test was skipped
for a reason that no line of `tests/skips.txt` matches; each line there is a regular expression for
a whole reason.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

# launchers import triton at their top, and triton is there on Linux only
collect_ignore_glob = [] if find_spec("triton") else ["packages/*/src/*/_triton.py"]

ALLOWED = Path(__file__).parent / "tests" / "skips.txt"


class SkipsAreForeseen:
    """Collects the skips of a run, and fails the run on those whose reason is not on the list."""

    def __init__(self, allowed):
        self.allowed = [re.compile(line) for line in allowed]
        self.unforeseen = []

    def _note(self, report):
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not any(pattern.fullmatch(reason) for pattern in self.allowed):
            self.unforeseen.append((report.nodeid, reason))

    def pytest_runtest_logreport(self, report):
        self._note(report)

    def pytest_collectreport(self, report):
        self._note(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session, exitstatus):
        if self.unforeseen and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if self.unforeseen:
            terminalreporter.section("skips that tests/skips.txt does not foresee", red=True)
            for nodeid, reason in self.unforeseen:
                terminalreporter.write_line(f"{nodeid}: {reason}")


def read_allowed(path):
    """The regular expressions of the list: one per line, `#` begins a line of comment."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def pytest_configure(config):
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        config.pluginmanager.register(SkipsAreForeseen(read_allowed(ALLOWED)), "skips-are-foreseen")


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
