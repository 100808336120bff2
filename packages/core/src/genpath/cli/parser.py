"""The command line's grammar.

argparse rather than typer: typer takes 30 ms more to import, a third of what listing costs.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from genpath.errors import UsageError
from genpath.plugins.words import nearest

__all__ = ["parse"]


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors name the nearest valid spelling."""

    def error(self, message: str) -> NoReturn:
        fix = f"see {self.prog} --help"
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            known = re.findall(r"[\w-]+", wrong[2])
            message = f"there is no command {wrong[1]!r}."
            near = nearest(wrong[1], known)
            fix = f"did you mean {near!r}?" if near else f"the commands are {', '.join(known)}"
        raise UsageError(self.prog, message, fix=fix)

    def unrecognized(self, words: Sequence[str]) -> NoReturn:
        """Refuse what no argument takes."""
        known = [option for action in self._actions for option in action.option_strings]
        near = nearest(words[0], known)
        fix = f"did you mean {near!r}?" if near else f"see {self.prog} --help"
        raise UsageError(self.prog, f"nothing takes {' '.join(words)!r}.", fix=fix)


def _common() -> _Parser:
    """The options that go before or after the command."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--without", action="append", metavar="PLUGIN", help="leave a plugin out (may be repeated)"
    )
    common.add_argument("--traceback", action="store_true", help="show where an error came from")
    return common


def build_parser() -> tuple[_Parser, dict[str, _Parser]]:
    """The parser, and that of every command."""
    from genpath.cli import authoring, inspecting, running, verifying

    common = _common()
    parser = _Parser(
        prog="genpath",
        description="Generative modelling by transport.",
        parents=[common],
        epilog="genpath COMMAND --help says more. Overrides are key=value, such as seed=1, "
        "train.steps=100 or path=interpolants.linear.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    made: dict[str, _Parser] = {}

    def command(name: str, function: Any, line: str) -> _Parser:
        made[name] = commands.add_parser(name, help=line, description=line, parents=[common])
        made[name].set_defaults(function=function)
        return made[name]

    for name, function, line in (
        ("run", running.run, "do all stages of a config"),
        ("train", running.train, "do only the training of a config"),
    ):
        run = command(name, function, line)
        _config_arguments(run)
        run.add_argument(
            "--out", metavar="DIR", help="the run's folder (default: runs/NAME-DIGEST)"
        )
    sample = command("sample", running.sample, "draw from a trained model")
    _folder(sample)
    sample.add_argument("--count", type=int, metavar="N", help="how many (default: the config's)")
    sample.add_argument("--seed", type=int, metavar="S", help="seed (default: the config's)")
    sample.add_argument("--out", metavar="FILE.npz", help="where to (default: the run's folder)")
    _folder(command("evaluate", running.evaluate, "measure a trained model again"))
    _folder(command("report", running.report, "write the report of a run again"))
    _config_arguments(command("config", inspecting.config, "check a config and print it resolved"))
    components = command("components", inspecting.components, "list the components there are")
    components.add_argument("kind", nargs="?", metavar="KIND")
    show = command("show", inspecting.show, "say what a component is and takes")
    show.add_argument("kind", metavar="KIND")
    show.add_argument("name", metavar="NAME")
    plugins = command("plugins", inspecting.plugins, "list the plugins and what became of them")
    plugins.add_argument("--check", action="store_true", help="import every component as well")
    plugins.add_argument("--json", action="store_true", help="print JSON")
    _verify(command("verify", verifying.verify, "measure the claims and plant their controls"))
    author = command("new-plugin", authoring.new_plugin, "write a plugin package to start from")
    author.add_argument("name", metavar="NAME", help="its prefix, such as neap-tides")
    author.add_argument(
        "--space",
        default="euclidean",
        metavar="SPACE",
        help="euclidean (default), categorical or manifold: where its first component lives",
    )
    author.add_argument("--into", default=".", metavar="DIR", help="where to (default: here)")
    return parser, made


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="a plugin, a component KIND.NAME, a topic, a claim, or an entry of the theory ledger "
        "(default: everything)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed (default: 0)")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="repeat under N seeds and count failures"
    )
    parser.add_argument("--fast", action="store_true", help="fewer samples")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes (default: one per processor, up to 8)"
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    parser.add_argument("--json", metavar="FILE", help="write the evidence as JSON")
    parser.add_argument(
        "--coverage", action="store_true", help="print what of the theory ledger is covered"
    )


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values to override")


def _folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the folder of a run")


def _common_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with the common options in front, where argparse sees all of them."""
    front: list[str] = []
    back: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--without":
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            (front if word == "--traceback" or word.startswith("--without=") else back).append(word)
    return front + back


def parse(arguments: Sequence[str]) -> argparse.Namespace | None:
    """Parse a command line.

    Returns:
        The command with its ``function``, or None where help or the version was printed.

    Raises:
        UsageError: it does not parse.
    """
    parser, commands = build_parser()
    try:
        found, rest = parser.parse_known_args(_common_first(arguments))
    except SystemExit:  # --help was printed
        return None
    if rest:
        # argparse gives up on overrides that come after an option
        overrides = [word for word in rest if "=" in word and not word.startswith("-")]
        if len(overrides) < len(rest) or not hasattr(found, "overrides"):
            wrong = [word for word in rest if word not in overrides] or rest
            (commands.get(found.command) or parser).unrecognized(wrong)
        found.overrides += overrides
    if found.version:
        from genpath._version import __version__

        print(f"genpath {__version__}")
        return None
    if found.command is None:
        parser.print_help(sys.stdout)
        return None
    found.without = getattr(found, "without", [])
    return found
