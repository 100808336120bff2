"""The mutation runner: what it changes, what it leaves alone, what survives and what does not."""

import importlib
import inspect
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from .repository import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from mutation import inside, report, settings, sites

WHERE = "packages/toy/src/toy/toy.py"


def found_in(text, logic=False):
    return sites.Finder(WHERE, textwrap.dedent(text).encode(), logic).run()


def mutants(text, logic=False):
    """All (mutation, the line it makes) of a source."""
    source = textwrap.dedent(text).encode()
    found = sites.Finder(WHERE, source, logic).run()
    for site in found:
        compile(site.apply(source), WHERE, "exec")
    return {(site.mutation, site.after(source)) for site in found}


def in_function(line, logic=False):
    """The mutants of one line of a function, as the lines they make."""
    return {after for _, after in mutants(f"def f(a, b, c):\n    {line}\n", logic)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("print(a + b)", set()),
        ("f(a + b)", {"f(a - b)"}),
        ("f(a - b)", {"f(a + b)"}),
        ("f(a * b)", {"f(a / b)"}),
        ("f(a / b)", {"f(a * b)"}),
        ("f(c / a**b)", {"f(c * a**b)", "f(c / (a*b))"}),
        ("f((a + b) * c)", {"f((a - b) * c)", "f((a + b) / c)"}),
        ("f(a // b, a % b, a @ b)", set()),
        ("a += b", {"a -= b"}),
        ("a *= b", {"a /= b"}),
        ("f(-a)", {"f(+a)"}),
        ("f(-0.3)", {"f(+0.3)", "f(-0.6)"}),
        ("return a * b", {"return (-(a * b))", "return a / b"}),
        ("c = a - b, a", {"c = (-(a - b)), a", "c = a + b, a"}),
        ("f(0, 1, 2, 3)", {"f(1, 1, 2, 3)", "f(0, 2, 2, 3)", "f(0, 1, 1, 3)", "f(0, 1, 2, 6)"}),
        ("f(0.0, 0.5, 1.0)", {"f(1.0, 0.5, 1.0)", "f(0.0, 1.0, 1.0)", "f(0.0, 0.5, 2.0)"}),
        ("c = 1e-3", {"c = 0.002"}),
        ("return a < b", {"return a <= b", "return a > b"}),
        ("return a >= b", {"return a > b", "return a <= b"}),
        ("return a == b", {"return a != b"}),
        ("return a < b != c", {"return a <= b != c", "return a > b != c", "return a < b == c"}),
        ("f(a.amax(1))", {"f(a.amin(1))"}),
        ("f(torch.sin(a))", {"f(torch.cos(a))"}),
        ("f(max(a, b))", {"f(min(a, b))"}),
        ("f(max(a, 1))", {"f(min(a, 1))", "f(max(a, 2))"}),
        ("f(a.clamp(min=b))", {"f(a.clamp(max=b))"}),
        ("return a[b - 3]", {"return a[b + 3]", "return a[b - 6]"}),
        ("f(lambda t: t * a)", {"f(lambda t: t / a)", "f(lambda t: (-(t * a)))"}),
    ],
)
def test_each_kind_of_arithmetic_is_mutated(line, expected):
    assert in_function(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "return a.sum(1)",
        "return a.reshape(-1, 3).unsqueeze(0)",
        "return f(a, dim=-1)",
        "return a[0, -1]",
        "return 'x' + a",
        "return a.shape + (1,)",
        "return (1,) * a",
        "return a == 'x'",
        "return a is None",
        "return f'{a - 1} {a * 2:3d}'",
        "raise ValueError(a + 1)",
        "raise DomainError(f'{a}', got=str(a - 1)) from b",
        "error = ShapeError('x', a + 1)",
        "return option(1.5, minimum=0)",
        "b: Literal[1, 2] = a",
        "return cast(Literal[1, 2], a)",
        "return True",
    ],
)
def test_what_is_no_arithmetic_is_left_alone(line):
    assert in_function(line) == set()


def test_words_and_declarations_are_left_alone():
    text = '''
    """A module: 1 + 1 = 2."""

    from typing import Literal

    __all__ = ["a" + "b"]
    __version__ = 1.5
    Size = Literal[1, 2, 3]
    Pair = tuple[int, int]


    @decorate(1 + 2)
    class Options:
        """1 + 1."""

        width: int = 64
        rate: float = option(0.5, minimum=0.0)
        order: Literal[1, 2]

        @limit(3 * 4)
        def f(self, a: Literal[1, 2] = 1 + 1, *, b: float = 1e-3) -> Literal[3]:
            """2 * 3."""
            return a
    '''
    assert mutants(text) == set()


def test_a_fact_of_a_class_and_a_constant_of_a_module_are_mutated():
    text = "RATIO = 0.5\nclass Euler:\n    order: int = 1\n    def f(self):\n        n: int = 3\n"
    assert mutants(text) == {
        ("0.5 to 1.0", "RATIO = 1.0"),
        ("1 to 2", "order: int = 2"),
        ("3 to 6", "n: int = 6"),
    }
    assert [site.imported for site in found_in(text)] == [True, True, False]
    assert [site.function for site in found_in(text)] == ["<module>", "Euler", "Euler.f"]


def test_a_function_that_draws_a_figure_is_left_alone():
    text = "def f(a):\n    def draw({}):\n        return a + a\n    return draw\n"
    assert mutants(text.format("figure: Any")) == set()
    assert len(mutants(text.format("state: Any"))) == 2


def test_logic_is_mutated_on_request_only():
    line = "return a and not b or c"
    assert in_function(line) == set()
    assert in_function(line, logic=True) == {
        "return (a and not b and c)",
        "return (a or not b) or c",
        "return a and     b or c",
    }


def test_operators_are_found_behind_brackets_comments_and_letters_of_two_bytes():
    text = 'def f(α, b):\n    return g("β", (α  # not + here\n        ) * b)\n'
    assert mutants(text) == {("* to /", ") / b)")}


def test_a_site_is_known_by_its_words_and_not_by_its_line_number():
    text = "def f(a):\n    b = a + a + a\n    b = a + a + a\n"
    first, second = found_in(text), found_in("# a line more\n\n" + text)
    assert [site.id for site in first] == [site.id for site in second]
    assert [site.number + 2 for site in first] == [site.number for site in second]
    assert len({site.id for site in first}) == len(first) == 6
    assert sorted(site.at for site in first if site.mutation == "+ to -") == [1, 2, 3, 4]


def test_the_span_of_a_site_is_its_statement_or_the_head_of_a_compound_one():
    text = "def f(a):\n  if (a\n      > 1):\n    return [\n      a,\n      a * 3]\n"
    spans = {site.mutation: site.span for site in found_in(text)}
    assert spans["> to >="] == (2, 3)
    assert spans["* to /"] == (4, 6)


def test_files_without_mathematics_are_left_out_unless_included():
    files = {path.relative_to(ROOT).as_posix() for path in sites.sources(ROOT)}
    core = "packages/core/src/genpath"
    assert f"{core}/samplers.py" in files
    assert not [name for name in files if "/cli/" in name or "/config/" in name]
    included = sites.sources(ROOT, include=[f"{core}/cli"])
    assert ROOT / core / "cli" / "parser.py" in included


def test_every_listed_equivalent_is_a_mutant_of_the_tree():
    listed = report.read_equivalent(ROOT / "tools" / "mutants-equivalent.toml")
    assert report.stale(listed, sites.all_sites(ROOT, logic=True)) == []


ENTRY = """
[[equivalent]]
file = "packages/toy/src/toy/toy.py"
function = "f"
line = "return a * b"
mutation = "* to /"
"""


def test_an_entry_needs_a_reason_and_stands_once(tmp_path):
    path = tmp_path / "list.toml"
    path.write_text(ENTRY, encoding="utf-8")
    with pytest.raises(report.BadList, match=r"entry 1: it has .*reason"):
        report.read_equivalent(path)
    path.write_text(2 * (ENTRY + 'reason = "b is 1 or -1"'), encoding="utf-8")
    with pytest.raises(report.BadList, match="entry 2 repeats"):
        report.read_equivalent(path)


def test_a_replaced_module_shows_the_source_that_it_runs(tmp_path, monkeypatch):
    """Triton compiles what `inspect.getsource` gives, not what Python compiled."""
    file = "packages/shown/src/shown_toy/shown.py"
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    (path.parent / "__init__.py").touch()
    path.write_text("def f():\n    return 1 + 1\n", encoding="utf-8")
    (site,) = [site for site in sites.sites_of(tmp_path, path) if site.mutation == "+ to -"]
    note, source = tmp_path / "note", site.apply(path.read_bytes()).decode()
    finder = inside.Replaced(str(tmp_path), file, source, str(note))
    monkeypatch.syspath_prepend(tmp_path / "packages" / "shown" / "src")
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    shown = importlib.import_module("shown_toy.shown")
    assert note.exists() and shown.f() == 0
    assert inspect.getsource(shown.f) == "def f():\n    return 1 - 1\n"
    assert list(path.parent.glob("__pycache__/shown*")) == []


# a tree with one package, run by the command itself

TOY = '''
"""A module; 1 + 1 is left alone."""

__all__ = ["area", "shift"]
HALF = 0.5


def area(base, height):
    """Of a triangle.

    >>> area(3.0, 4.0)
    6.0
    """
    return HALF * base * height


def shift(x):
    return x - 3.0


def same(sign):
    return sign * 5.0


def loop(n):
    while n > 0:
        n -= 1
    return n


def elsewhere(x):
    return x - 9.0


def apart(x):
    return x - 11.0


def alone(x):
    return x * 7.0
'''

TESTS = """
import pathlib
import subprocess
import sys

import pytest
import toy.toy
from toy.toy import loop, same, shift


@pytest.fixture(scope="module")
def shifted():
    return shift(5.0)


def test_an_unrelated_fact():
    assert 1 + 1 == 2


def test_the_fixture_is_there(shifted):
    assert isinstance(shifted, float)


def test_shift(shifted):
    assert shifted == 2.0


@pytest.mark.parametrize("sign", [-1, 1])
def test_only_the_size_is_tested(sign):
    assert abs(same(sign)) == 5.0


def test_loop():
    assert loop(2) == 0


def test_in_another_process():
    code = "from toy.toy import elsewhere; print(elsewhere(10.0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "1.0"


def test_two_processes_agree():
    # as they do whatever the source says: no mutant of `apart` is caught by this
    code = "from toy.toy import apart; print(apart(10.0))"
    command, source = [sys.executable, "-c", code], str(pathlib.Path(toy.toy.__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": source})
    assert done.stdout.strip() == str(toy.toy.apart(10.0))
"""


def plant(root, source, tests):
    """Writes the tree."""
    package = root / "packages" / "toy"
    settings_of_pytest = 'addopts = ["--import-mode=importlib", "--doctest-modules"]'
    for path, text in {
        root / "pyproject.toml": f"[tool.pytest.ini_options]\n{settings_of_pytest}\n",
        package / "src" / "toy" / "__init__.py": "",
        package / "src" / "toy" / "toy.py": source,
        package / "tests" / "test_toy.py": tests,
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("toy"), TOY, TESTS)


def mutate(root, *arguments):
    command = [sys.executable, str(ROOT / "tools" / "mutate.py"), "--root", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def tried(toy):
    """Everything in the toy tried once: id → status, by function and mutation."""
    done = mutate(toy, "--count", "0", "--least", "5", "--jobs", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def survivors(text):
    """(function, mutation) of the report's survivors."""
    lines = text.split("\nSurvivors:\n")[1].splitlines()
    heads = [line.split("  ") for line in lines if line.startswith(tuple("0123456789abcdef"))]
    return {(head[2], head[3].split(";")[0]) for head in heads if len(head) == 4}


def test_a_planted_function_without_a_test_survives_and_a_tested_one_dies(tried):
    alive = survivors(tried)
    assert {("alone", "* to /"), ("alone", "7.0 to 14.0"), ("alone", "add a minus")} <= alive
    assert "7.0 to 14.0; no test executes it" in tried
    # only the size of `same` is tested: the sign may change, and * ±1 may become / ±1
    assert ("same", "add a minus") in alive
    assert not [pair for pair in alive if pair[0] in {"area", "shift", "<module>"}]


def test_tests_find_what_runs_in_a_fixture_that_they_share(tried):
    """test_shift looks at a number that another test's set-up computed."""
    assert not [pair for pair in survivors(tried) if pair[0] == "shift"]


def test_a_test_that_runs_another_process_catches_too(tried):
    assert not [pair for pair in survivors(tried) if pair[0] == "elsewhere"]
    assert ("apart", "- to +") in survivors(tried)


def test_a_mutant_without_end_is_stopped(tried):
    assert "    1  timeout" in tried


def test_the_results_are_kept_and_the_list_is_read(toy, tried):
    listed = toy / "tools" / "mutants-equivalent.toml"
    listed.parent.mkdir()
    text = ENTRY.replace('"f"', '"same"').replace("return a * b", "return sign * 5.0")
    listed.write_text(text + 'reason = "the sign is 1 or -1 and this is a test"', encoding="utf-8")
    before = {path.name for path in (toy / ".mutate").iterdir()}
    done = mutate(toy, "--count", "0", "--least", "5")
    assert done.returncode == 1
    assert "baseline:" not in done.stdout
    assert {path.name for path in (toy / ".mutate").iterdir()} == before
    source = (toy / WHERE).read_text(encoding="utf-8")
    assert source == TOY, "no file of the tree is touched"
    assert ("same", "* to /") not in survivors(done.stdout)


NEEDS_ANOTHER = """
import time
from toy.toy import shift

DONE = []


def test_nothing():
    pass


def test_first():
    time.sleep(0.3)
    DONE.append(shift(3.0))


def test_second():
    time.sleep(0.05)
    assert DONE and shift(3.0) is not None
"""


def test_a_test_that_fails_by_itself_catches_nothing(tmp_path):
    """test_second passes after test_first only; alone it would catch every mutant."""
    root = plant(tmp_path, "def shift(x):\n    return x - 3.0\n", NEEDS_ANOTHER)
    done = mutate(root, "--count", "1")
    assert done.returncode == 1
    assert "1  killed" in done.stdout
    assert "also fail without one:\npackages/toy/tests/test_toy.py::test_second" in done.stdout


SLEEPS = """
import os, time, pathlib


def test_sleep():
    pathlib.Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
    time.sleep(300)
"""


def test_a_stopped_run_leaves_no_child(tmp_path, monkeypatch):
    root = plant(tmp_path / "root", "def shift(x):\n    return x - 3.0\n", SLEEPS)
    note = tmp_path / "pid"
    monkeypatch.setenv("PID_FILE", str(note))
    command = [sys.executable, str(ROOT / "tools" / "mutate.py"), "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        until = time.monotonic() + 120
        while not (note.is_file() and note.read_text()) and time.monotonic() < until:
            time.sleep(0.1)
        child = int(note.read_text())
        os.kill(child, 0)
        run.terminate()
        assert run.wait(30) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_one_mutant_can_be_tried_against_named_tests(toy):
    listing = mutate(toy, "--list", "--count", "0").stdout
    (line,) = [line for line in listing.splitlines() if "3.0 to 6.0" in line]
    name, test = line.split()[0], "packages/toy/tests/test_toy.py"
    done = mutate(toy, "--mutant", name, "--against", test)
    assert done.returncode == 0 and "test_shift" in done.stdout, done.stdout + done.stderr
    blind = mutate(toy, "--mutant", name, "--against", test, "-k", "unrelated or loop")
    assert blind.returncode == 1 and "survived" in blind.stdout


def test_the_same_seed_draws_the_same_sample(toy):
    draw = [mutate(toy, "--list", "--count", "5", "--seed", seed).stdout for seed in "112"]
    assert draw[0] == draw[1] != draw[2]
    assert len([line for line in draw[0].splitlines() if WHERE in line]) == 5


def test_the_lists_name_what_exists():
    """A pattern that matches nothing hides that a file was renamed."""
    for name in settings.IGNORED:
        assert (ROOT / name).is_file()
    assert all(Path(ROOT / name).exists() for name in settings.TESTS)
