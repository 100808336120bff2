"""Children: forked processes that run pytest on a tree, with one module's source replaced.

The parent has imported torch and pytest but no module of the packages, so a child starts in
milliseconds and imports the packages anew. `inside` hands the mutated text to the import system, in
the child and in the Python processes that its tests start.
"""

import importlib
import json
import math
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import inside, settings

WAITING = 10  # times its limit of processor time, a child may take by the clock


def preload(tree):
    """Imports, in the parent, what every child would import: of the list, what the tree uses."""
    sys.dont_write_bytecode = False
    lines = re.compile(r"^\s*(?:import|from) (\w+)", re.MULTILINE)
    used = {"pytest", "_pytest"}
    for path in tree.glob("packages/**/*.py"):
        used.update(lines.findall(path.read_text(encoding="utf-8")))
    for name in settings.PRELOADED:
        if name.split(".")[0] in used:
            try:
                importlib.import_module(name)
            except ImportError:
                continue
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    # Reading an installed distribution's list of plugins imports none of them, but a pytest plugin
    # could: the packages must still be unknown.
    assert not any(name.split(".")[0].startswith("genpath") for name in sys.modules)


def source_folders(tree):
    return [str(path) for path in sorted(tree.glob("packages/*/src"))]


class Chosen:
    """A pytest plugin: runs the given tests only, in the given order; notes what failed first."""

    def __init__(self, ids):
        self.rank = {name: rank for rank, name in enumerate(ids)}
        self.ran, self.failed = 0, []

    def pytest_collection_modifyitems(self, config, items):
        if self.rank:
            items[:] = [item for item in items if item.nodeid in self.rank]
            items.sort(key=lambda item: self.rank[item.nodeid])

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append((report.nodeid, crash(report)))

    def pytest_runtest_logreport(self, report):
        self.ran += report.when == "call"
        if report.failed:
            self.failed.append((report.nodeid, crash(report)))


def crash(report):
    """The last line of a failure."""
    where = getattr(report.longrepr, "reprcrash", None)
    text = where.message if where is not None else str(report.longrepr)
    lines = [line for line in text.splitlines() if line.strip()]
    return (lines[0] if where is not None and lines else lines[-1] if lines else "")[:200]


def enter(tree, scratch, order):
    """What a child does first: its own folder, its own limits, the tree's packages, the order.

    Python processes that it starts carry out the order too: see `inside`.
    """
    log = os.open(scratch / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch = sys.modules.get("torch")
    if torch is None or torch.version.cuda is None:  # CUDA reserves addresses by the terabyte
        resource.setrlimit(resource.RLIMIT_AS, (settings.MEMORY, settings.MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(tree)
    folders = source_folders(tree)
    sys.path[:0] = folders
    inside.announce(scratch, order, folders)
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(scratch / "hypothesis")
    os.environ.pop("CI", None)
    importlib.invalidate_caches()
    if "hypothesis" in sys.modules:  # the same examples each time, whatever the machine's load
        from hypothesis import settings as chosen

        chosen.register_profile("mutation", derandomize=True, database=None, deadline=None)
        chosen.load_profile("mutation")


def pytest_arguments(tree, scratch, arguments):
    """What pytest is called with; plain assertions, for the rewriting of them has a finder too."""
    ignored = [f"--ignore={tree / path}" for path in settings.IGNORED]
    quiet = ["-q", "--tb=line", "-p", "no:cacheprovider", "--no-header", "--assert=plain"]
    return [*arguments, *ignored, *quiet, f"--rootdir={tree}", f"--basetemp={scratch / 'tmp'}"]


def files_of(ids):
    """The files of some tests, in the order of their first test."""
    return list(dict.fromkeys(name.split("::")[0] for name in ids))


def run_tests(tree, scratch, ids=(), arguments=(), replaced=None, stop=True):
    """In a child: run tests, and write what happened to `result.json`."""
    import pytest

    note = scratch / "loaded"
    order = {}
    if replaced is not None:
        file, source = replaced
        order["replace"] = [str(tree), file, source.decode(), str(note)]
    enter(tree, scratch, order)
    inside.carry_out(order)
    plugin = Chosen(ids)
    chosen = [*files_of(ids), *arguments, *(["-x"] if stop else [])]
    code = int(pytest.main(pytest_arguments(tree, scratch, chosen), plugins=[plugin]))
    result = {
        "code": code,
        "ran": plugin.ran,
        "failed": plugin.failed,
        "loaded": replaced is None or note.exists(),
    }
    (scratch / "result.json").write_text(json.dumps(result), encoding="utf-8")


@dataclass
class Child:
    """A running child.

    Args:
        pid: its process, which leads a group.
        scratch: its folder, removed in the end.
        limit: seconds of processor time.
        started: by the clock.
    """

    pid: int
    scratch: Path
    limit: float
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self):
        return time.monotonic() - self.started

    def poll(self):
        """Its result once it has ended or has been stopped, else None.

        The system ends it by its processor time, and the clock only much later: a busy machine
        must not pass for a mutant without end.
        """
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            return self._ended(os.waitstatus_to_exitcode(status))
        if self.seconds > WAITING * self.limit:
            self.stop()
            return {"code": None, "timeout": True, "seconds": self.seconds}
        return None

    def _ended(self, code):
        if code == -signal.SIGXCPU:
            self._clean()
            return {"code": None, "timeout": True, "seconds": self.seconds}
        path = self.scratch / "result.json"
        if path.is_file():
            result = json.loads(path.read_text(encoding="utf-8"))
        else:
            result = {"code": None, "died": code}
        if result["code"] not in (0, 1, 2):
            result["log"] = self._tail()
        result["seconds"] = self.seconds
        self._clean()
        return result

    def _tail(self):
        """The end of what was said."""
        return "\n".join((self.scratch / "log").read_text(errors="replace").splitlines()[-8:])

    def stop(self):
        """Ends the child and whatever it has started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._clean()

    def _clean(self):
        shutil.rmtree(self.scratch, ignore_errors=True)


def fork(work, tree, limit, **options):
    """Starts `work(tree, scratch, **options)` in a child in a process group of its own."""
    scratch = Path(tempfile.mkdtemp(prefix="mutate-")).resolve()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            seconds = math.ceil(limit)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))
            work(tree, scratch, **options)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return Child(pid, scratch, limit)


def wait(child):
    """The result of one child."""
    try:
        while (result := child.poll()) is None:
            time.sleep(0.05)
    except BaseException:
        child.stop()
        raise
    return result
