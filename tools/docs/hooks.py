"""MkDocs hooks: the pages of every package in one site, and each package's pages as their own site.

In the root's mkdocs.yml the nav entry ``packages/*`` stands for all packages. Each becomes a
section with the nav of its own mkdocs.yml, and the files of its docs folder appear under
``packages/NAME/``. In a package's own build the shared files of ``docs/assets`` are added instead.

Either way a line ``<!-- claims of PLUGIN -->`` becomes the claims that `genpath verify` wrote, and
a line ``<!-- other modules of PACKAGE -->`` the API of all modules that no page of it names.
"""

import os
import re
import sys
import warnings
from pathlib import Path

import yaml
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CLAIMS = ROOT / "build" / "claims.json"
EVERY_PACKAGE = "packages/*"
API = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
OTHERS = re.compile(r"^<!-- other modules of (\w+) -->$", re.MULTILINE)


class _Loader(yaml.SafeLoader):
    """Reads an mkdocs.yml without acting on its tags."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def packages(root=ROOT):
    """The packages that have pages, the core first: folder → its own mkdocs.yml as data."""
    paths = sorted(root.glob("packages/*/mkdocs.yml"), key=lambda p: (p.parent.name != "core", p))
    return {path.parent: yaml.load(path.read_text("utf-8"), _Loader) for path in paths}


def prefixed(nav, prefix):
    """A nav with ``prefix`` in front of every path."""
    if isinstance(nav, str):
        return f"{prefix}{nav}"
    if isinstance(nav, dict):
        return {title: prefixed(below, prefix) for title, below in nav.items()}
    return [prefixed(entry, prefix) for entry in nav]


def expanded(nav):
    """A nav in which every package stands where ``packages/*`` was."""
    if isinstance(nav, dict):
        return {title: expanded(below) for title, below in nav.items()}
    if not isinstance(nav, list):
        return nav
    found = []
    for entry in nav:
        if entry == EVERY_PACKAGE:
            for folder, own in packages().items():
                found.append({own["site_name"]: prefixed(own["nav"], f"packages/{folder.name}/")})
        else:
            found.append(expanded(entry))
    return found


def assembled(config):
    """Whether this is the build of the whole site."""
    return Path(config.config_file_path).resolve().parent == ROOT


@event_priority(100)
def on_config(config):
    """Nav of the packages, and paths that hold from wherever the build was started."""
    for folder in (ROOT, HERE):  # the code on the pages imports its helpers from there
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch starts with the first page that runs
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
    if assembled(config):
        config.nav = expanded(config.nav)
    config.mdx_configs.setdefault("pymdownx.snippets", {})["base_path"] = [str(ROOT)]
    handlers = config.plugins["mkdocstrings"].config.handlers
    python = handlers.setdefault("python", {})
    python["paths"] = [str(path) for path in sorted(ROOT.glob("packages/*/src"))]
    options = python.setdefault("options", {})
    options["extensions"] = [str(HERE / "docs_docstrings.py")]
    return config


def on_files(files, config):
    """The files from outside docs_dir."""
    if assembled(config):
        folders = {folder / "docs": f"packages/{folder.name}" for folder in packages()}
    else:
        folders = {ROOT / "docs" / "assets": "assets"}
    for source, prefix in folders.items():
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            uri = f"{prefix}/{path.relative_to(source).as_posix()}"
            if not uri.endswith("katex/README.md"):
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """The claims and the remaining modules, where a page asks for them."""
    from docs_claims import with_claims

    return OTHERS.sub(lambda found: api(remaining(found[1])), with_claims(markdown, CLAIMS))


def named(folder):
    """The modules that the pages of a package name by ``::: module``."""
    pages = (folder / "docs").rglob("*.md")
    return {name for page in pages for name in API.findall(page.read_text("utf-8"))}


def modules(folder):
    """The public modules of a package, without those that register and those of its claims."""
    (source,) = (path.parent for path in folder.glob("src/*/__init__.py"))
    found = set()
    for path in source.rglob("*.py"):
        parts = path.relative_to(source.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        hidden = any(part.startswith("_") for part in parts)
        if not hidden and parts[1:2] not in ((), ("plugin",), ("claims",)):
            found.add(".".join(parts))
    return found


def remaining(name):
    """The public modules of the package in ``packages/name`` that no page names."""
    folder = ROOT / "packages" / name
    return sorted(modules(folder) - named(folder))


def api(names):
    return "\n\n".join(f"::: {name}" for name in names)
