"""The tracked files: none names a folder of somebody's machine."""

import re
import subprocess

import pytest

from .repository import ROOT

MACHINE_PATH = re.compile(r"(?<![\w.~%}$-])/(?:work|farm|tmp|root|home|Users|opt)/[\w.]")


def test_no_tracked_file_names_a_path_of_a_machine():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    found = []
    for name in filter(None, listing.stdout.decode().split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", errors="ignore")
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert found == []


@pytest.mark.parametrize("folder", ["work", "tmp", "home", "root"])
def test_a_path_of_a_machine_is_recognised(folder):
    assert MACHINE_PATH.search(f'data = "/{folder}/x"')
    assert not MACHINE_PATH.search(f"https://example.org/{folder}/x")
    assert not MACHINE_PATH.search(f"packages/{folder}/x")
