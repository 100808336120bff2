"""hatch.toml and the tools' settings: no constraint is lost, no package left out."""

import pytest

from .repository import ROOT, members, read_toml

CONSTRAINT = "{root:uri}/constraints.txt"
FOLDERS = {f"packages/{member.name}" for member in members()}


def faults(envs):
    """What is wrong with a table of environments, as sentences.

    An environment inherits from its template (`default` unless it says otherwise, nothing if
    detached), and an `env-vars` table of its own replaces the inherited one, constraint and all.
    """
    found = []
    for name, env in envs.items():
        inherits = not env.get("detached", False) and env.get("template", "default") != name
        template = envs[env.get("template", "default")] if inherits else {}
        variables = env.get("env-vars", template.get("env-vars", {}))
        if variables.get("PIP_CONSTRAINT") != CONSTRAINT:
            found.append(f"{name}: env-vars has no PIP_CONSTRAINT = {CONSTRAINT!r}")
        if variables.get("PYTHONDONTWRITEBYTECODE") != "":
            found.append(f"{name}: env-vars has no PYTHONDONTWRITEBYTECODE = ''")
        if env.get("installer", template.get("installer")) != "pip":
            found.append(f"{name}: its installer is not pip, which alone reads PIP_CONSTRAINT")
        if "path" not in env:
            found.append(f"{name}: it states no path and would share that of another environment")
    return found


def test_every_environment_keeps_the_constraint():
    assert faults(read_toml(ROOT / "hatch.toml")["envs"]) == []


GOOD = {
    "installer": "pip",
    "path": "a",
    "env-vars": {"PIP_CONSTRAINT": CONSTRAINT, "PYTHONDONTWRITEBYTECODE": ""},
}


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ({"path": "b", "env-vars": {"PYTHONDONTWRITEBYTECODE": ""}}, "no PIP_CONSTRAINT"),
        ({"path": "b", "env-vars": {"PIP_CONSTRAINT": CONSTRAINT}}, "no PYTHONDONTWRITEBYTECODE"),
        ({"path": "b", "detached": True, "installer": "pip"}, "no PIP_CONSTRAINT"),
        ({"path": "b", "installer": "uv"}, "not pip"),
        ({}, "no path"),
    ],
)
def test_a_careless_environment_is_caught(env, complaint):
    assert faults({"default": GOOD, "other": {"path": "b"}}) == []
    assert any(complaint in fault for fault in faults({"default": GOOD, "other": env}))


def test_the_constraints_pin_torch():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("torch==")]


def test_the_default_environment_holds_every_package():
    listed = read_toml(ROOT / "hatch.toml")["envs"]["default"]["workspace"]["members"]
    assert {entry["path"] for entry in listed} == FOLDERS


def test_mypy_and_ruff_know_every_package():
    tool = read_toml(ROOT / "pyproject.toml")["tool"]
    sources = {f"{folder}/src" for folder in FOLDERS}
    assert set(tool["mypy"]["files"]) == sources
    assert set(tool["mypy"]["mypy_path"].split(":")) == sources
    modules = {member.module for member in members()}
    assert set(tool["ruff"]["lint"]["isort"]["known-first-party"]) == modules
