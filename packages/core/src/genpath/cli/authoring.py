"""``genpath new-plugin``: a package to start from."""

from __future__ import annotations

from argparse import Namespace

from genpath.cli.inspecting import discovered
from genpath.plugins import using

__all__ = ["new_plugin"]


def new_plugin(command: Namespace) -> int:
    """``genpath new-plugin NAME [--space SPACE] [--into DIR]``."""
    from genpath.run.files import guarded
    from genpath.scaffold import SPACES, new_plugin

    with using(discovered(command)), guarded(command.into):
        folder = new_plugin(command.name, command.space, command.into)
    print(f"{folder}: a plugin with {SPACES[command.space]}\n")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            print(f"  {path.relative_to(folder)}")
    print(f'\nnext:\n  cd {folder}\n  pip install -e ".[test]"\n  genpath verify {command.name}')
    print("  pytest")
    return 0
