"""Start-up of the command: the processor time of a whole process.

Beside each command a Python that does nothing, below which no command written in Python can be, and
one that imports torch, above which a command that only lists has no reason to be.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from ..runner import Call, Case, Disagreement, Entry

__all__ = ["ENTRY"]

COMMAND = str(Path(sys.executable).with_name("genpath"))
PYTHON = [sys.executable, "-c"]
PEERS = {"python": [*PYTHON, "pass"], "import torch": [*PYTHON, "import torch"]}
# what a command must print, so that a quick failure is no quick start
COMMANDS = {
    "--version": version("genpath"),
    "--help": "usage",
    "plugins": "genpath-discrete",
    "components": "path",
}


def run(command: list[str]) -> str:
    """The output of a command, with bytecode kept as Python does unless told otherwise."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "COLUMNS": "100"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Disagreement(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def caller(command: list[str]) -> Call:
    return lambda: run(command)


def case(argument: str, words: str, peers: dict[str, list[str]]) -> Case:
    command = [COMMAND, argument]

    def check() -> None:
        if words not in run(command):
            raise Disagreement(f"genpath {argument} does not print {words!r}")

    return Case(
        f"genpath {argument}", caller(command), {n: caller(c) for n, c in peers.items()}, check
    )


def cases(tiny: bool) -> Iterator[Case]:
    peers = {"python": PEERS["python"]} if tiny else PEERS
    for argument, words in COMMANDS.items():
        yield case(argument, words, peers)


ENTRY = Entry(
    cases,
    clock="children",
    notes=(
        "Processes that have run before: files and bytecode are cached, so that on an idle machine "
        "the wall time is about the processor time.",
    ),
)
