"""The baseline: a copy of the tree, and which tests execute which of its lines.

A copy is taken, so that a run of hours is not disturbed by work in the tree. All tests run once
in the copy under coverage, with one context per test; a context of its own has every fixture that
outlives its test, and belongs to all tests that ask for the fixture.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections import defaultdict

import pytest

from . import children, settings

SKIPPED = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "site", "dist", "runs")


def digest(tree):
    """A hash of what decides the results: the packages' files and the settings of the tests."""
    found = hashlib.sha256()
    paths = [tree / "conftest.py", tree / "pyproject.toml"]
    for folder in settings.TESTS:
        paths += (tree / folder).rglob("*")
    for path in sorted(paths):
        hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(tree).parts)
        if path.is_file() and not hidden and path.suffix in {".py", ".toml", ".yaml", ".json"}:
            found.update(path.relative_to(tree).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


def take(root, target, commit=None):
    """Copies the tree: as it is, or as a commit has it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if commit is not None:
        command = ["git", "archive", "--format=tar", commit]
        archive = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(target, filter="data")
        return
    for name in settings.COPIED:
        path = root / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=SKIPPED)
        elif path.is_file():
            shutil.copy2(path, target / name)


class Contexts:
    """A pytest plugin: one coverage context per test and per long-lived fixture; durations."""

    def __init__(self, coverage):
        self.coverage = coverage
        self.current = ""
        self.seconds, self.passed, self.failed = defaultdict(float), {}, {}
        self.users = defaultdict(list)  # of fixtures: name of the context -> tests

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        known = getattr(item, "_fixtureinfo", None)
        for name, definitions in (known.name2fixturedefs if known else {}).items():
            self.users[context_of(definitions[-1].baseid, name)].append(item.nodeid)
        self.switch(item.nodeid)
        try:
            return (yield)
        finally:
            self.switch("")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        if fixturedef.scope == "function":
            return (yield)
        outer = self.current
        self.switch(context_of(fixturedef.baseid, fixturedef.argname))
        try:
            return (yield)
        finally:
            self.switch(outer)

    def switch(self, context):
        self.current = os.environ["MUTATE_CONTEXT"] = context
        self.coverage.switch_context(context)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.when == "call" and report.passed:
            self.passed.setdefault(report.nodeid, True)
        elif not report.passed:
            self.passed[report.nodeid] = False
            if report.failed:
                self.failed[report.nodeid] = children.crash(report)

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed[report.nodeid] = children.crash(report)


def context_of(base, name):
    return f"fixture {base}::{name}"


def measure(tree, scratch, answer):
    """In a child: run everything under coverage, and write the baseline to `answer`."""
    sources = children.source_folders(tree)
    children.enter(tree, scratch, {"measure": {"sources": sources, "answers": str(scratch)}})
    import coverage

    measured = coverage.Coverage(data_file=None, config_file=False, source=sources, messages=False)
    plugin = Contexts(measured)
    chosen = [*settings.TESTS, "--continue-on-collection-errors"]
    measured.start()
    code = int(pytest.main(children.pytest_arguments(tree, scratch, chosen), plugins=[plugin]))
    measured.stop()
    tests = sorted(
        (name for name, good in plugin.passed.items() if good), key=plugin.seconds.__getitem__
    )
    number = {name: index for index, name in enumerate(tests)}
    found_by = defaultdict(lambda: defaultdict(set))
    others = [coverage.CoverageData(path) for path in scratch.glob("lines.*")]
    for data in (measured.get_data(), *others):
        data.read()
        for file in data.measured_files():
            for line, contexts in data.contexts_by_lineno(file).items():
                found_by[file.removeprefix(f"{tree}/")][line].update(contexts)
    lines = {
        file: {line: numbers(contexts, number, plugin.users) for line, contexts in by_line.items()}
        for file, by_line in found_by.items()
    }
    found = {
        "code": code,
        "tests": tests,
        "seconds": [round(plugin.seconds[name], 4) for name in tests],
        "failed": plugin.failed,
        "lines": lines,
    }
    answer.write_text(json.dumps(found), encoding="utf-8")


def numbers(contexts, number, users):
    """The passing tests behind some contexts, as indices (hence shortest first)."""
    found = set()
    for context in contexts:
        names = users.get(context, ()) if context.startswith("fixture ") else (context,)
        found.update(number[name] for name in names if name in number)
    return sorted(found)


class Baseline:
    """What is known of the unmutated tree."""

    def __init__(self, tree, found):
        self.tree = tree
        self.tests, self.seconds = found["tests"], found["seconds"]
        self.failed, self.lines = found["failed"], found["lines"]
        self.least = settings.LEAST_SECONDS

    def tests_of(self, site):
        """The tests that may notice a mutant, shortest first.

        Those that execute a line of its statement; for a statement that runs at import, or that
        nothing but an import reaches, all tests of its package.
        """
        lines = self.lines.get(site.file, {})
        first, last = site.span
        reached = [lines[str(n)] for n in range(first, last + 1) if str(n) in lines]
        found = sorted({index for tests in reached for index in tests})
        if site.imported or (reached and not found):
            package = "/".join(site.file.split("/")[:2]) + "/"
            found = [i for i, name in enumerate(self.tests) if name.startswith(package)]
        return found

    def limit(self, indices):
        expected = sum(self.seconds[index] for index in indices)
        return max(self.least, settings.SLACK * (expected + 2))


def prepare(root, store, commit=None, refresh=False, resume=False):
    """The baseline of the tree, made where it is not stored; and its folder."""
    store.mkdir(exist_ok=True)
    stored = sorted(store.glob("*/baseline.json"), key=lambda path: path.stat().st_mtime)
    if resume:
        if not stored:
            raise SystemExit("mutate: --resume, but nothing is stored in .mutate/")
        folder = stored[-1].parent
    else:
        fresh = store / "fresh"
        take(root, fresh, commit)
        folder = store / digest(fresh)
        if refresh:
            shutil.rmtree(folder, ignore_errors=True)
        if not (folder / "baseline.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            fresh.rename(folder / "tree")
            for old in stored[: -settings.KEPT]:
                shutil.rmtree(old.parent, ignore_errors=True)
        shutil.rmtree(fresh, ignore_errors=True)
    answer = folder / "baseline.json"
    if not answer.is_file():
        start = time.monotonic()
        child = children.fork(measure, folder / "tree", 3600.0, answer=answer)
        result = children.wait(child)
        if not answer.is_file():
            raise SystemExit(f"mutate: the baseline run ended without a result: {result}")
        print(f"baseline: {time.monotonic() - start:.0f} s")
    found = json.loads(answer.read_text(encoding="utf-8"))
    if not found["tests"]:
        raise SystemExit("mutate: no test passes on the unmutated tree")
    return folder, Baseline(folder / "tree", found)
