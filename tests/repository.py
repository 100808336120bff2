"""The repository as data: its packages, and what their pyproject.toml files declare."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
REINSTALL = "the environment is out of date; run `hatch env prune` and try again"


def read_toml(path):
    return tomllib.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Member:
    """One folder of packages/."""

    folder: Path

    @property
    def name(self):
        return self.folder.name

    @property
    def project(self):
        return read_toml(self.folder / "pyproject.toml")["project"]

    @property
    def distribution(self):
        return self.project["name"]

    @property
    def module(self):
        return self.distribution.replace("-", "_")

    @property
    def source(self):
        return self.folder / "src" / self.module

    @property
    def required(self):
        """Names of the declared dependencies, extras left out."""
        return {name_of(line) for line in self.project["dependencies"]}

    @property
    def extras(self):
        """Extra to its lines."""
        return self.project.get("optional-dependencies", {})

    @property
    def optional(self):
        return {name_of(line) for lines in self.extras.values() for line in lines}


def name_of(requirement):
    return canonicalize_name(Requirement(requirement).name)


def members(root=ROOT):
    return [Member(path.parent) for path in sorted(root.glob("packages/*/pyproject.toml"))]


def plugins(root=ROOT):
    return [member for member in members(root) if member.distribution != "genpath"]


def core(root=ROOT):
    return next(member for member in members(root) if member.distribution == "genpath")
