"""Tries mutants, each in a child, against the tests that execute its line."""

import json
import time
from dataclasses import asdict, dataclass

from . import children

CAUGHT = ("killed", "timeout", "crash")
SURVIVED = ("survived", "not executed")


@dataclass(frozen=True)
class Result:
    """What became of a mutant.

    Args:
        id: of the site.
        status: ``killed`` by a failing test or import, ``timeout``, ``crash`` of the process;
            ``survived``; ``not executed`` by any test; ``broken`` when the try itself went wrong.
        tests: how many tests it was tried against.
        by: the first test that failed, and how.
        seconds: how long it took.
    """

    id: str
    status: str
    tests: int
    by: str = ""
    message: str = ""
    seconds: float = 0.0


def judge(site, tests, answer):
    """The result, from what the child reported."""
    common = {"id": site.id, "tests": tests, "seconds": round(answer["seconds"], 2)}
    if answer.get("timeout"):
        return Result(status="timeout", **common)
    if answer["code"] is None:
        ours = answer["died"] == 70  # the child's own exception, not pytest's or the mutant's
        return Result(status="broken" if ours else "crash", message=answer.get("log", ""), **common)
    if answer["failed"]:
        by, message = answer["failed"][0]
        return Result(status="killed", by=by, message=message, **common)
    if answer["code"] == 0 and not answer["loaded"]:
        return Result(status="broken", message="no test imported the mutated module", **common)
    if answer["code"] == 0:
        return Result(status="survived", **common)
    if answer["code"] != 5 and answer["loaded"]:  # pytest itself stumbled over the mutant
        return Result(status="crash", message=answer.get("log", ""), **common)
    return Result(status="broken", message=answer.get("log", ""), **common)


class Store:
    """Results as JSON lines, one per mutant: a run that was stopped goes on where it was."""

    def __init__(self, path):
        self.path, self.known = path, {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                result = Result(**json.loads(line))
                if result.status != "broken":
                    self.known[result.id] = result

    def add(self, result):
        self.known[result.id] = result
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def start(site, baseline, source):
    """A child for a mutant, and how many tests it runs; no child where no test reaches it."""
    indices = baseline.tests_of(site)
    if not indices:
        return None, 0
    options = {
        "ids": [baseline.tests[index] for index in indices],
        "replaced": (site.file, site.apply(source)),
    }
    limit = baseline.limit(indices)
    return children.fork(children.run_tests, baseline.tree, limit, **options), len(indices)


def run(sites, baseline, store, jobs=1, watch=lambda result: None, tick=lambda: None):
    """Tries all mutants that the store does not know, `jobs` at a time."""
    waiting = [site for site in reversed(sites) if site.id not in store.known]
    running = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                site = waiting.pop()
                source = (baseline.tree / site.file).read_bytes()
                child, tests = start(site, baseline, source)
                if child is None:
                    result = Result(site.id, "not executed", 0)
                    store.add(result)
                    watch(result)
                else:
                    running[site] = (child, tests)
            for site, (child, tests) in list(running.items()):
                answer = child.poll()
                if answer is not None:
                    del running[site]
                    result = judge(site, tests, answer)
                    store.add(result)
                    watch(result)
            tick()
            time.sleep(0.02)
    finally:
        for child, _ in running.values():
            child.stop()


def control(results, baseline):
    """The tests that caught mutants, on the unmutated tree: those that fail there too.

    A test that fails by itself, or out of its usual order, would catch everything. The shortest
    test stands for the mutants that pytest stumbled over, and for none at all: so the control of
    no results says whether children work.
    """
    caught = {result.by for result in results if result.status == "killed"}
    indices = [i for i, name in enumerate(baseline.tests) if i == 0 or name in caught]
    options = {"ids": [baseline.tests[index] for index in indices], "stop": False}
    child = children.fork(children.run_tests, baseline.tree, baseline.limit(indices), **options)
    answer = children.wait(child)
    if answer["code"] in (0, 1):
        return dict(answer["failed"])
    return {"the control run": answer.get("log", "took too long")}
