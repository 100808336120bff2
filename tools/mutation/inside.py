"""What happens inside the processes that run tests: one module replaced, or lines measured.

An *order* says which. A child of the runner carries it out, and so does every Python process that a
test starts: the order lies in a file, and a `sitecustomize` on their PYTHONPATH reads it.
"""

import atexit
import importlib.abc
import importlib.machinery
import importlib.util
import json
import linecache
import os
import subprocess
import sys
from pathlib import Path

START = """
import sys
sys.path.append({tools!r})
from mutation import inside
sys.path.remove({tools!r})
inside.begin()
"""
TOOLS = str(Path(__file__).resolve().parents[1])


class Replaced(importlib.abc.MetaPathFinder):
    """Finds one module, and gives it another source than its file's.

    Args:
        tree: the root of the tree.
        file: the module's file, from the root.
        source: what it is to be.
        note: a file that is made when the module is loaded.
    """

    def __init__(self, tree, file, source, note):
        self.path, self.source, self.note = str(Path(tree) / file), source, note
        parts = list(Path(file).with_suffix("").parts[3:])
        self.is_package = parts[-1] == "__init__"
        self.module = ".".join(parts[:-1] if self.is_package else parts)

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.module:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            self.path,
            loader=Loader(fullname, self.path, self),
            submodule_search_locations=[str(Path(self.path).parent)] if self.is_package else None,
        )


class Loader(importlib.machinery.SourceFileLoader):
    """Compiles the finder's text, and shows it as the source; reads and writes no bytecode."""

    def __init__(self, name, path, finder):
        super().__init__(name, path)
        self.finder = finder

    def get_code(self, fullname):
        Path(self.finder.note).touch()
        text = self.finder.source
        # Triton compiles what inspect.getsource gives
        linecache.cache[self.path] = (len(text), None, text.splitlines(keepends=True), self.path)
        return compile(text, self.path, "exec", dont_inherit=True)


def announce(scratch, order, folders):
    """Leaves the order for other processes, with the folders of the packages.

    They find it by their environment, also where a test gives them one of its own: a process that
    is not told would be compared with this one, and any mutant be caught by that.
    """
    start = scratch / "start"
    start.mkdir()
    (start / "sitecustomize.py").write_text(START.format(tools=TOOLS), encoding="utf-8")
    (start / "order.json").write_text(json.dumps(order), encoding="utf-8")
    os.environ["MUTATE_ORDER"] = str(start / "order.json")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(start), *folders])
    original = subprocess.Popen.__init__

    def told(self, *args, env=None, **options):
        if env is not None:
            path = [str(start), *filter(None, [env.get("PYTHONPATH")])]
            ours = {name: value for name, value in os.environ.items() if name.startswith("MUTATE_")}
            env = {**env, **ours, "PYTHONPATH": os.pathsep.join(path)}
        original(self, *args, env=env, **options)

    subprocess.Popen.__init__ = told


def begin():
    """In another process, at its start: read the order, carry it out."""
    path = Path(os.environ.get("MUTATE_ORDER", ""))
    if path.is_file():
        order = json.loads(path.read_text(encoding="utf-8"))
        carry_out(order)
        if "measure" in order:
            measure(**order["measure"])


def carry_out(order):
    if "replace" in order:
        sys.meta_path.insert(0, Replaced(*order["replace"]))


def measure(sources, answers):
    """Notes the lines that this process executes, for the test that runs now."""
    import coverage

    context = os.environ.get("MUTATE_CONTEXT", "")
    measured = coverage.Coverage(
        data_file=f"{answers}/lines",
        data_suffix=True,
        config_file=False,
        include=[f"{folder}/*" for folder in sources],  # `source` would search them at the end
        context=context,
        messages=False,
    )
    measured.start()

    def save():
        measured.stop()
        measured.save()

    atexit.register(save)
