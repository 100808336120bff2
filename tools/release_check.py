"""Are the packages fit to be released? Builds them, and tries them where nothing else is.

    hatch run release:check [--keep FOLDER]

1. builds the sdist of every package, and its wheel from that sdist;
2. looks at names, versions, licence, type marker and entry points; twine checks the metadata;
3. installs from the folder of wheels, into one empty environment each, `genpath[interpolants]` and
   `genpath[all,testing]`: exactly the wanted packages must come, torch as constraints.txt says, and
   nothing of this repository may be importable but what the wheels brought;
4. runs there `python -c "import ..."` and `genpath plugins --check`;
5. writes a stranger's plugins there, builds, installs and verifies them, and breaks one of them in
   eight ways (`tools/stranger.py`).

Prints a table, and exits with 1 if any line of it failed.
"""

import argparse
import email
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

from stranger import try_strangers

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"

# run inside the new environment: what was installed, and whether it came from the wheels
INSPECT = """
import importlib, importlib.metadata as metadata, json, pathlib, sys
names = {d.name.lower(): d.version for d in metadata.distributions()}
modules = [n.replace("-", "_") for n in names if n == "genpath" or n.startswith("genpath-")]
files = [str(pathlib.Path(importlib.import_module(m).__file__).resolve()) for m in modules]
records = {n: metadata.distribution(n).read_text("RECORD") for n in names if "genpath" in n}
print(json.dumps({"names": names, "files": files, "records": records, "path": sys.path}))
"""


class Failure(Exception):
    """What was found instead of what should be."""


class Table:
    """The results, one line per step."""

    def __init__(self):
        self.rows = []

    def step(self, what, function, *arguments):
        """Runs one step; its returned sentence is the result, a Failure the reason why not."""
        print(f"... {what}", flush=True)
        start = time.perf_counter()
        try:
            good, value, said = True, *function(*arguments)
        except Failure as failure:
            good, value, said = False, None, str(failure)
        self.rows.append((good, what, time.perf_counter() - start, said))
        return value

    def show(self):
        width = max(len(what) for _, what, _, _ in self.rows)
        print()
        for good, what, seconds, said in self.rows:
            first, *rest = said.splitlines() or [""]
            print(f"{'ok  ' if good else 'FAIL'}  {what:<{width}}  {seconds:6.1f} s  {first}")
            for line in rest:
                print(f"{'':<{width + 16}}  {line}")
        failed = sum(not good for good, *_ in self.rows)
        print(f"\n{len(self.rows) - failed} of {len(self.rows)} checks passed")
        return failed


def run(command, **options):
    """The standard output of a command; a Failure with the end of what it said if it failed."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise Failure(f"exit {done.returncode}: {' '.join(map(str, command[:4]))} ...\n{tail}")
    return done.stdout


def project_of(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def build(folder, dist):
    """Sdist, and from it the wheel; no isolation, since hatchling is all that a build needs."""
    before = set(dist.iterdir())
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, folder])
    made = sorted(path.name for path in set(dist.iterdir()) - before)
    wheels = [name for name in made if name.endswith(".whl")]
    if len(made) != 2 or len(wheels) != 1:
        raise Failure(f"expected one sdist and one wheel, got {made}")
    return dist / wheels[0], ", ".join(made)


def look_inside(wheel, folder):
    """Name, version, licence, type marker and entry points of a wheel."""
    project = project_of(folder)
    module = project["name"].replace("-", "_")
    literal = (folder / "src" / module / "_version.py").read_text(encoding="utf-8")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    wrong = []
    if metadata["Name"] != project["name"]:
        wrong.append(f"name {metadata['Name']}")
    if f'"{metadata["Version"]}"' not in literal:
        wrong.append(f"version {metadata['Version']}, but _version.py says {literal.strip()}")
    if metadata["License-Expression"] != "Apache-2.0" or f"{info}/licenses/LICENSE" not in names:
        wrong.append("no licence")
    if not metadata.get_payload().strip():
        wrong.append("no description")
    if f"{module}/py.typed" not in names:
        wrong.append("no py.typed")
    if foreign := {name.split("/")[0] for name in names} - {module, info}:
        wrong.append(f"unexpected {sorted(foreign)}")
    for name, target in project["entry-points"]["genpath"].items():
        if f"{name} = {target}" not in entry_points:
            wrong.append(f"no entry point {name}")
        if f"{target.replace('.', '/')}.py" not in names:
            wrong.append(f"the entry point {name} names {target}, which is not there")
    if wrong:
        raise Failure("; ".join(wrong))
    return None, f"{metadata['Name']} {metadata['Version']}, {len(names)} files"


def twine(dist):
    run([sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir())])
    return None, f"{len(list(dist.iterdir()))} files"


def records(wheel):
    """The lines `file,hash,size` of a wheel, without the record's own."""
    with zipfile.ZipFile(wheel) as archive:
        (record,) = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
        lines = archive.read(record).decode().splitlines()
    return {line for line in lines if ",sha256=" in line}


class Environment:
    """An empty virtual environment, and the commands tried in it."""

    def __init__(self, folder):
        self.folder = folder
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        self.elsewhere = folder / "elsewhere"  # the folder commands run in

    def call(self, *command):
        """The standard output of a command of this environment."""
        return run([self.bin / command[0], *command[1:]], **self.place())

    def output(self, *command, status=0):
        """All that a command says, which must end with this exit status."""
        done = subprocess.run(
            [self.bin / command[0], *command[1:]], capture_output=True, text=True, **self.place()
        )
        said = done.stdout + done.stderr
        if done.returncode != status:
            raise Failure(f"exit {done.returncode}, not {status}: {' '.join(command)}\n{said}")
        return said

    def place(self):
        """The folder and variables of a command: nothing of this repository, no records of ours."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        inherited |= {
            "VIRTUAL_ENV": str(self.folder),
            "PATH": f"{self.bin}{os.pathsep}{os.defpath}",
            "GENPATH_STATE": str(self.folder / "state"),
        }
        return {"cwd": self.elsewhere, "env": inherited}

    def install(self, requirement, wheels):
        """Installs from the folder of wheels; `inspect` sees whether those wheels were taken."""
        run([sys.executable, "-m", "venv", self.folder])
        self.elsewhere.mkdir()
        dist = next(iter(wheels.values())).parent
        command = ["python", "-m", "pip", "install", "--quiet", "--no-compile"]
        given = ["--find-links", dist, "--constraint", CONSTRAINTS]
        self.call(*command, *given, requirement)
        return True, f"pip install --find-links ... {requirement!r}"

    def inspect(self, wanted, extra, wheels):
        """Exactly the wanted packages, file by file those of the wheels, under the constraint."""
        found = json.loads(self.call("python", "-c", INSPECT))
        names = found["names"]
        wrong = []
        ours = {name for name in names if name == "genpath" or name.startswith("genpath-")}
        if ours != wanted:
            wrong.append(f"packages {sorted(ours)}, wanted {sorted(wanted)}")
        if missing := extra - set(names):
            wrong.append(f"missing {sorted(missing)}")
        for folder, wheel in wheels.items():
            name = project_of(folder)["name"]
            if name in ours and not records(wheel) <= set(found["records"][name].splitlines()):
                wrong.append(f"{name} was not installed from {wheel.name}")
        inside = self.folder.resolve()
        if outside := [file for file in found["files"] if not Path(file).is_relative_to(inside)]:
            wrong.append(f"imported from elsewhere: {outside}")
        if paths := [p for p in found["path"] if p and Path(p).resolve().is_relative_to(ROOT)]:
            wrong.append(f"the checkout is on sys.path: {paths}")
        pinned = re.search(r"^torch==(\S+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
        torch = names["torch"]
        if pinned and torch.partition("+")[0] != pinned[1]:
            wrong.append(f"torch {torch}, constraint {pinned[1]}")
        heavy = sorted(name for name in names if name.startswith(("nvidia-", "cuda-")))
        if heavy and torch.endswith("+cpu"):
            wrong.append(f"the CPU build of torch beside {heavy}")
        if wrong:
            raise Failure("\n".join(wrong))
        return None, f"{', '.join(sorted(ours))}; torch {torch}, {len(heavy)} CUDA packages"

    def try_command(self, *command):
        lines = self.call(*command).strip().splitlines()
        return None, lines[-1] if lines else ""


def try_installation(table, requirement, wanted, extra, wheels, scratch):
    label = re.sub(r"\W+", "-", requirement).strip("-")
    environment = Environment(scratch / label)
    if not table.step(f"{requirement}: install", environment.install, requirement, wheels):
        return None
    table.step(f"{requirement}: inspect", environment.inspect, wanted, extra, wheels)
    for command in (
        ("python", "-c", f"import {', '.join(sorted(n.replace('-', '_') for n in wanted))}"),
        ("genpath", "plugins", "--check"),
    ):
        shown = " ".join(command[:3] if command[0] == "genpath" else (command[2],))
        table.step(f"{requirement}: {shown}", environment.try_command, *command)
    return environment


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", metavar="FOLDER", help="put the built files there")
    arguments = parser.parse_args()
    folders = [path.parent for path in sorted((ROOT / "packages").glob("*/pyproject.toml"))]
    table = Table()
    with tempfile.TemporaryDirectory(prefix="genpath-release-") as name:
        scratch = Path(name).resolve()
        dist = Path(arguments.keep).resolve() if arguments.keep else scratch / "dist"
        dist.mkdir(parents=True, exist_ok=True)
        if any(dist.iterdir()):
            sys.exit(f"{dist} is not empty")
        wheels = {f: table.step(f"{f.name}: build", build, f, dist) for f in folders}
        for folder, wheel in wheels.items():
            if wheel:
                table.step(f"{folder.name}: contents", look_inside, wheel, folder)
        if all(wheels.values()):
            table.step("all: twine check --strict", twine, dist)
            one = {"genpath", "genpath-interpolants"}
            try_installation(table, "genpath[interpolants]", one, set(), wheels, scratch)
            every = {project_of(folder)["name"] for folder in folders}
            extra = {"matplotlib", "scikit-learn", "airportsdata", "pytest"}
            house = try_installation(table, "genpath[all,testing]", every, extra, wheels, scratch)
            if house:
                try_strangers(table, house, scratch, build, Failure)
        sys.exit(1 if table.show() else 0)


if __name__ == "__main__":
    main()
