"""What every package declares: version, bounds, extras, entry points; and is it installed so?"""

import ast
import importlib
import importlib.metadata as metadata
import json
import re
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from packaging.requirements import Requirement

from .repository import REINSTALL, ROOT, core, members, name_of, plugins

each_member = pytest.mark.parametrize("member", members(), ids=lambda member: member.name)
each_plugin = pytest.mark.parametrize("plugin", plugins(), ids=lambda plugin: plugin.name)


def written_version(member):
    """The literal in _version.py, read without running the file."""
    tree = ast.parse((member.source / "_version.py").read_text(encoding="utf-8"))
    (assignment,) = tree.body
    assert [target.id for target in assignment.targets] == ["__version__"]
    return ast.literal_eval(assignment.value)


@each_member
def test_the_version_is_one_literal_and_the_same_everywhere(member):
    version = written_version(member)
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version)
    assert "version" not in member.project
    assert member.project["dynamic"] == ["version"]
    settings = tomllib.loads((member.folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["hatch"]["version"] == {"path": f"src/{member.module}/_version.py"}
    assert importlib.import_module(member.module).__version__ == version
    assert metadata.version(member.distribution) == version, REINSTALL


@each_member
def test_the_changelog_begins_with_the_version(member):
    changelog = (member.folder / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert first and first[1] == written_version(member)


@each_member
def test_licence_types_and_python_are_declared(member):
    root = (ROOT / "LICENSE").read_bytes()
    assert (member.folder / "LICENSE").read_bytes() == root
    assert (member.source / "py.typed").is_file()
    project = member.project
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert project["requires-python"] == ">=3.11"


@each_plugin
def test_a_plugin_bounds_the_core_on_both_sides(plugin):
    (line,) = [line for line in plugin.project["dependencies"] if name_of(line) == "genpath"]
    bound = Requirement(line).specifier
    assert {part.operator for part in bound} == {">=", "<"}
    assert written_version(core()) in bound


@each_plugin
def test_the_core_names_a_plugin_by_an_extra_with_a_floor_only(plugin):
    assert plugin.distribution not in core().required
    (line,) = core().extras[plugin.name]
    requirement = Requirement(line)
    assert requirement.name == plugin.distribution
    assert {part.operator for part in requirement.specifier} == {">="}
    assert written_version(plugin) in requirement.specifier


def test_the_extra_all_holds_every_extra_of_users():
    lines = [Requirement(line) for line in core().extras["all"]]
    (own,) = [line for line in lines if line.name == "genpath"]
    assert own.extras == set(core().extras) - {"all", "testing", "triton"}  # authors' tools


@each_member
def test_installed_entry_points_are_the_declared_ones(member):
    declared = {
        (group, name, target)
        for group, table in (
            ("console_scripts", member.project.get("scripts", {})),
            *member.project["entry-points"].items(),
        )
        for name, target in table.items()
    }
    entry_points = metadata.distribution(member.distribution).entry_points
    installed = {(point.group, point.name, point.value) for point in entry_points}
    assert installed == declared, REINSTALL


@each_plugin
def test_a_plugin_is_announced_under_its_own_name(plugin):
    assert plugin.project["entry-points"] == {"genpath": {plugin.name: f"{plugin.module}.plugin"}}


def test_no_removed_package_is_still_installed():
    found = set()
    for distribution in metadata.distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        url = urlparse(origin.get("url", ""))
        if url.scheme == "file" and Path(unquote(url.path)).is_relative_to(ROOT / "packages"):
            found.add(distribution.name)
    assert found == {member.distribution for member in members()}, REINSTALL
