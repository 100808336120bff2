"""Who imports whom: code, pyproject.toml files and docs/who-imports-whom.md agree."""

import ast
import re
import sys
from importlib.metadata import packages_distributions

import pytest
from packaging.utils import canonicalize_name

from .repository import ROOT, Member, core, members

DIAGRAM = ROOT / "docs" / "who-imports-whom.md"
MEMBERS = {member.name: member for member in members()}


def read_diagram(text):
    """Package to the packages that it may import, from the one fenced block called `imports`."""
    (block,) = re.findall(r"^```imports\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    arrows = {}
    for line in block.splitlines():
        name, _, targets = line.partition("->")
        arrows[name.strip()] = {target.strip() for target in targets.split(",") if target.strip()}
    return arrows


def imported_modules(tree):
    """Top-level names of the modules that a syntax tree imports.

    By statement, at any depth, or by a literal given to `import_module` or `__import__`. Relative
    imports stay inside the package.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            name = node.args[0]
            literal = isinstance(name, ast.Constant) and isinstance(name.value, str)
            if called in ("import_module", "__import__") and literal:
                yield name.value.partition(".")[0]


def faults(member, arrows, by_module, providers):
    """Imports of a package that lead where no arrow and no declared dependency does, as sentences.

    A package may use what it requires, what its extras bring, and what the packages that its arrows
    lead to require. `by_module` maps our modules to package names, `providers` an installed module
    to its distributions.
    """
    reachable = [MEMBERS[name] for name in arrows[member.name] if name in MEMBERS]
    declared = member.required | member.optional
    declared = declared.union(*(other.required for other in reachable))
    for path in sorted(member.folder.glob("src/**/*.py")):
        where = path.relative_to(member.folder)
        for module in sorted(set(imported_modules(ast.parse(path.read_text(encoding="utf-8"))))):
            if module == member.module or module in sys.stdlib_module_names:
                continue
            if module in by_module:
                if by_module[module] not in arrows[member.name]:
                    yield f"{where} imports {module}; no arrow {member.name} -> {by_module[module]}"
            elif declared.isdisjoint(map(canonicalize_name, providers.get(module, [module]))):
                yield f"{where} imports {module}, which no dependency of {member.name} declares"


ARROWS = read_diagram(DIAGRAM.read_text(encoding="utf-8"))
BY_MODULE = {member.module: member.name for member in MEMBERS.values()}
PROVIDERS = packages_distributions()
each_member = pytest.mark.parametrize("member", MEMBERS.values(), ids=lambda member: member.name)


def test_the_diagram_names_every_package_and_no_circle():
    assert set(ARROWS) == set(MEMBERS)
    assert ARROWS["core"] == set()
    remaining = dict(ARROWS)
    while remaining:
        free = {name for name, targets in remaining.items() if not targets & set(remaining)}
        assert free, f"a circle among {sorted(remaining)}"
        remaining = {name: targets for name, targets in remaining.items() if name not in free}


@each_member
def test_an_arrow_is_a_declared_dependency_and_the_reverse(member):
    ours = {other.distribution: other.name for other in MEMBERS.values()}
    assert {ours[name] for name in member.required if name in ours} == ARROWS[member.name]


@each_member
def test_imports_follow_the_arrows(member):
    assert list(faults(member, ARROWS, BY_MODULE, PROVIDERS)) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("import genpath_discrete", "no arrow core -> discrete"),
        ("def f():\n    from genpath_manifold.spaces import Sphere", "no arrow core -> manifold"),
        (
            "import importlib as i; i.import_module('genpath_discrete.x')",
            "no arrow core -> discrete",
        ),
        ("from hypothesis import given", "no dependency of core declares"),
        ("import nobody_has_this", "no dependency of core declares"),
    ],
)
def test_a_planted_import_is_caught(tmp_path, line, complaint):
    folder = tmp_path / "core"
    (folder / "src" / "genpath").mkdir(parents=True)
    (folder / "pyproject.toml").write_bytes((core().folder / "pyproject.toml").read_bytes())
    module = folder / "src" / "genpath" / "planted.py"

    module.write_text("import os\nimport torch\nfrom . import errors\nimport genpath.errors\n")
    assert list(faults(Member(folder), ARROWS, BY_MODULE, PROVIDERS)) == []

    module.write_text(line)
    (fault,) = faults(Member(folder), ARROWS, BY_MODULE, PROVIDERS)
    assert complaint in fault
