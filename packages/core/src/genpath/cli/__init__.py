"""The ``genpath`` command.

Every command imports what it needs when it runs, so that listing answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

OK, FAULTS, USER_ERROR, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; those of the process if None.

    Returns:
        The exit status: 0, 1 where a check found faults, 2 for a mistake in the command, the config
        or a plugin, 130 after Ctrl-C.

    Example:
        >>> main(["components", "stagee"])  # prints the kinds to standard error
        2
    """
    from genpath.cli.parser import parse
    from genpath.errors import GenpathError

    arguments = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in arguments
    try:
        command = parse(arguments)
        return command.function(command) if command is not None else OK
    except GenpathError as error:
        if traceback:
            raise
        _complain(error)
        return USER_ERROR
    except KeyboardInterrupt:
        if traceback:
            raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader has seen enough; nothing more can be written, and Python would say so at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if traceback:
            raise
        _complain(error)
        print("  (--traceback shows where)", file=sys.stderr)
        return FAULTS


def _complain(error: Exception) -> None:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(f"  note  {note}", file=sys.stderr)
