"""A stranger's plugin, from nothing to verified, and then broken in eight ways.

    hatch run release:check            does this after the packages are built

In an environment that holds the built wheels and nothing of this repository:

1. `genpath new-plugin` writes one plugin per space; each is built, installed and found; its own
   pytest passes, and so does `genpath verify`;
2. one of them is broken in eight ways. Each time the fault must be named, the plugin must end in
   the state that its fault deserves, and the rest of the house must work.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

PLUGINS = {"tides": "euclidean", "runes": "categorical", "caps": "manifold"}
BROKEN = "tides"


@dataclass(frozen=True)
class Break:
    """One way to break a plugin.

    `edit` changes the text of a file; `commands` are run, each with a pattern that its output must
    match and the exit status that it must have.
    """

    what: str
    file: str
    edit: Callable[[str], str]
    commands: tuple[tuple[tuple[str, ...], str, int], ...]


def line_before_hook(line):
    """Puts a line in front of the hook."""
    return lambda text: text.replace("GENPATH_HOOK = 1\n", f"GENPATH_HOOK = 1\n{line}\n")


def replaced(old, new):
    """Replaces a text that must be there."""

    def edit(text):
        if old not in text:
            raise AssertionError(f"the template has no {old!r} any more")
        return text.replace(old, new)

    return edit


def second_time(text):
    """Adds the same component again."""
    call = text[text.index("    registry.add(") :]
    return text + call


PLUGIN, PATHS = "src/genpath_tides/plugin.py", "src/genpath_tides/paths.py"
LIST = ("genpath", "plugins")
CHECK = ("genpath", "plugins", "--check")

BREAKS = (
    Break(
        "it does not import",
        PLUGIN,
        line_before_hook("import no_such_module"),
        (
            (LIST, r"tides +failed(.|\n)*No module named 'no_such_module'", 0),
            (CHECK, r"1 fault", 1),
        ),
    ),
    Break(
        "it adds a name twice",
        PLUGIN,
        second_time,
        ((LIST, r"tides +failed(.|\n)*a second path 'tides\.arc'", 0),),
    ),
    Break(
        "it names an unknown kind",
        PLUGIN,
        replaced('"path"', '"pathh"'),
        ((LIST, r"tides +failed(.|\n)*did you mean 'path'\?", 0),),
    ),
    Break(
        "it wants another hook version",
        PLUGIN,
        replaced("GENPATH_HOOK = 1", "GENPATH_HOOK = 99"),
        ((LIST, r"tides +incompatible(.|\n)*hook version 99(.|\n)*upgrade genpath", 0),),
    ),
    Break(
        "its component has no claim",
        PLUGIN,
        replaced('        claims="genpath_tides.claims:arc",\n', ""),
        (
            (LIST, r"tides +ok +1 +1 no claim", 0),
            (("genpath", "components", "path"), r"tides\.arc +no claim", 0),
            (("genpath", "verify", "path.tides.arc"), r"it has no claims", 2),
            (CHECK, r"no faults", 0),
        ),
    ),
    Break(
        "its component's target does not exist",
        PLUGIN,
        replaced("paths:ArcPath", "paths:ArkPath"),
        ((LIST, r"tides +ok", 0), (CHECK, r"tides\.arc(.|\n)*'ArkPath'", 1)),
    ),
    Break(
        "it imports torch when it is listed",
        PLUGIN,
        line_before_hook("import torch"),
        (
            (LIST, r"tides +slow(.|\n)*listing it imports .*torch", 0),
            (("genpath", "verify", "tides/unit-variance", "--fast"), r"1 of 1 claims hold", 0),
        ),
    ),
    Break(
        "it changes torch's default dtype",
        PLUGIN,
        line_before_hook("import torch\n\ntorch.set_default_dtype(torch.float64)"),
        ((LIST, r"tides +failed(.|\n)*changed the default dtype", 0),),
    ),
)

HOUSE = (
    (("genpath", "components", "schedule"), r"cosine"),
    (("genpath", "verify", "schedule.cosine", "--fast"), r"claims hold"),
)
"""What must work whatever a plugin does."""


def create(environment, name, space, scratch, build):
    """Writes, builds and installs one plugin."""
    environment.call("genpath", "new-plugin", name, "--space", space, "--into", scratch)
    folder = scratch / f"genpath-{name}"
    dist = scratch / f"dist-{name}"
    dist.mkdir()
    wheel, made = build(folder, dist)
    install(environment, wheel)
    return folder, made


def install(environment, wheel):
    """Installs one wheel over what is there, and nothing else."""
    command = ["python", "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
    environment.call(*command, "--no-compile", wheel)


def accept(environment, name, folder, failure):
    """The plugin's own first minutes: found, its tests, its claims."""
    environment.call(*CHECK)
    tests = environment.call("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", folder)
    verified = environment.call("genpath", "verify", name)
    listed = environment.call(*LIST)
    if not re.search(rf"^{name} +ok +1 +1 verified", listed, re.MULTILINE):
        raise failure(f"not listed as verified:\n{listed}")
    return None, f"{last(tests)}; {last(verified)}"


def break_it(environment, fault, folder, scratch, build, failure):
    """Breaks a copy of the plugin, installs it, and looks at what is said."""
    number = BREAKS.index(fault)
    copy = scratch / f"break-{number}"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            target = copy / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    broken = copy / fault.file
    text = broken.read_text(encoding="utf-8")
    if (changed := fault.edit(text)) == text:
        raise failure(f"{fault.file} was not changed")
    broken.write_text(changed, encoding="utf-8")
    dist = scratch / f"dist-break-{number}"
    dist.mkdir()
    install(environment, build(copy, dist)[0])
    said = ""
    for command, pattern, status in fault.commands:
        said = environment.output(*command, status=status)
        if not re.search(pattern, said):
            raise failure(f"{' '.join(command)} does not say /{pattern}/:\n{said}")
    for command, pattern in HOUSE:
        if not re.search(pattern, output := environment.output(*command)):
            raise failure(f"{' '.join(command)} does not say /{pattern}/:\n{output}")
    return None, reason(said)


def reason(said):
    """The line that names the plugin's fault."""
    lines = [line.strip() for line in said.splitlines() if BROKEN in line]
    return lines[-1][:110] if lines else last(said)


def last(text):
    """The last line that says something."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def try_strangers(table, environment, scratch, build, failure):
    """All of it, a line of the table per step."""
    folders = {}
    for name, space in PLUGINS.items():
        folder = table.step(
            f"new-plugin {name} --space {space}", create, environment, name, space, scratch, build
        )
        if folder:
            folders[name] = folder
            table.step(f"{name}: pytest, verify", accept, environment, name, folder, failure)
    if BROKEN in folders:
        for fault in BREAKS:
            table.step(
                f"{BROKEN} broken: {fault.what}",
                break_it,
                environment,
                fault,
                folders[BROKEN],
                scratch,
                build,
                failure,
            )
