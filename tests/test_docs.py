"""The documentation: what can be wrong although `mkdocs build --strict` is content.

That no page of a package is left out of its nav, that every public name is on a page of the API,
and that a built site asks nothing of the network. One package's pages are built alone for that.
"""

import ast
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import yaml

from .repository import ROOT, members

sys.path.insert(0, str(ROOT / "tools" / "docs"))
try:
    import docs_build
    import docs_claims
    import docs_docstrings
    import hooks
finally:
    sys.path.pop(0)

each_member = pytest.mark.parametrize("member", members(), ids=lambda member: member.name)


def entries(nav):
    """All paths of a nav."""
    if isinstance(nav, str):
        return [nav]
    below = nav.values() if isinstance(nav, dict) else nav
    return [path for entry in below for path in entries(entry)]


@each_member
def test_a_package_has_pages_of_its_own_and_all_are_in_its_nav(member):
    config = yaml.safe_load((member.folder / "mkdocs.yml").read_text("utf-8"))
    assert config["site_name"] == member.distribution
    assert config["INHERIT"] == "../../docs/base.yml"
    pages = member.folder / "docs"
    found = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    listed = entries(config["nav"])
    assert sorted(listed) == sorted(found)
    assert {"index.md", "claims.md", "changelog.md"} <= found
    plugin = "core" if member.distribution == "genpath" else member.name
    assert f"<!-- claims of {plugin} -->" in (pages / "claims.md").read_text("utf-8")
    assert f"packages/{member.name}/CHANGELOG.md" in (pages / "changelog.md").read_text("utf-8")


def test_the_whole_site_has_every_package():
    nav = entries(hooks.expanded(["index.md", {"Packages": ["packages/*"]}]))
    assert nav[0] == "index.md"
    assert {f"packages/{member.name}/index.md" for member in members()} <= set(nav)
    assert "packages/*" in entries(hooks.yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])


# -- the API --------------------------------------------------------------------------------


def documented(member):
    """The modules that the pages of a package show, named or by the line for all others."""
    pages = "".join(path.read_text("utf-8") for path in (member.folder / "docs").rglob("*.md"))
    others = f"<!-- other modules of {member.name} -->" in pages
    return hooks.named(member.folder) | (set(hooks.remaining(member.name)) if others else set())


def homes(member):
    """Public name → module, as the package's ``attach(...)`` states it."""
    tree = ast.parse((member.source / "__init__.py").read_text("utf-8"))
    (call,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "attach"
    )
    table = ast.literal_eval(call.args[1])
    return {name: f"{member.module}.{module}" for module, names in table.items() for name in names}


@each_member
def test_every_public_name_is_in_a_module_that_a_page_shows(member):
    assert homes(member)
    assert {
        name for name, module in homes(member).items() if module not in documented(member)
    } == set()


@each_member
def test_pages_name_modules_that_are_there(member):
    assert hooks.named(member.folder) <= hooks.modules(member.folder)


@each_member
def test_every_public_name_has_a_docstring(member):
    """A name without one is left out of the pages."""
    bare = set()
    for module in hooks.modules(member.folder):
        path = member.source.joinpath(*module.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        tree = ast.parse(path.read_text("utf-8"))
        defined = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        bare |= {f"{module}.{n}" for n in exported(tree) & set(defined) if not doc(defined[n])}
        if not ast.get_docstring(tree):
            bare.add(module)
    assert bare == set()


def exported(tree):
    """The literal ``__all__`` of a module; empty where it is made otherwise."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def doc(node):
    return ast.get_docstring(node)


def test_our_words_for_a_section_become_those_of_the_parser():
    text = "A point.\n\n    Example:\n        >>> 1\n"
    assert "    Examples:\n" in docs_docstrings.rewritten(text)
    assert docs_docstrings.rewritten("For example: this") == "For example: this"


# -- a built site ---------------------------------------------------------------------------

OUTSIDE = re.compile(r"^(https?:)?//")


class Fetched(HTMLParser):
    """What a browser fetches by itself when it shows a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag in {"script", "img", "iframe", "source", "audio", "video", "embed"}:
            self.addresses.append(values.get("src") or "")
        fetching = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload"}
        if tag == "link" and fetching & set((values.get("rel") or "").split()):
            self.addresses.append(values.get("href") or "")


def outside(html):
    """The addresses outside the site that a page fetches from."""
    parser = Fetched()
    parser.feed(html)
    return [address for address in parser.addresses if OUTSIDE.match(address)]


def outside_css(css):
    found = re.findall(r"""(?:url\(|@import\s+)["']?([^"')\s;]+)""", css)
    return [address for address in found if OUTSIDE.match(address)]


@pytest.mark.parametrize(
    "html",
    [
        '<link rel="preconnect" href="https://fonts.gstatic.com" crossorigin>',
        '<link rel="stylesheet" href="https://fonts.example/css?family=Roboto">',
        '<script src="//unpkg.com/mermaid"></script>',
    ],
)
def test_a_page_that_fetches_from_outside_is_caught(html):
    assert outside(html)
    assert not outside('<a href="https://arxiv.org/abs/2303.08797">paper</a><script src="a.js">')
    assert outside_css('@font-face{src:url("https://fonts.example/a.woff2")}')
    assert not outside_css("a{background:url(data:image/png;base64,xx)} b{src:url(fonts/K.woff2)}")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The pages of one package, built alone."""
    site = tmp_path_factory.mktemp("site")
    command = ["build", "--config-file", "packages/interpolants/mkdocs.yml", "--site-dir", site]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *command],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return site


@pytest.mark.slow
def test_a_package_built_alone_fetches_nothing_and_shows_every_name(built):
    pages = {path: path.read_text("utf-8") for path in built.rglob("*.html")}
    styles = {path: path.read_text("utf-8") for path in built.rglob("*.css")}
    assert len(pages) >= 5 and built / "assets/katex/katex.min.css" in styles
    assert {path: found for path, html in pages.items() if (found := outside(html))} == {}
    assert {path: found for path, css in styles.items() if (found := outside_css(css))} == {}
    (member,) = (member for member in members() if member.name == "interpolants")
    shown = "".join(pages.values())
    for name, module in homes(member).items():
        assert f'id="{module}.{name}"' in shown
    assert "\\(" in pages[built / "index.html"]  # formulas wait for KaTeX, which is there
    assert list(built.glob("assets/katex/fonts/*.woff2"))


# -- claims ---------------------------------------------------------------------------------


def test_claims_are_measured_again_when_code_is_newer(tmp_path):
    claims, code = tmp_path / "claims.json", tmp_path / "code.py"
    code.write_text("")
    assert docs_build.stale(claims, [code])
    claims.write_text("{}")
    os.utime(code, (1000, 1000))
    assert not docs_build.stale(claims, [code])
    os.utime(claims, (999, 999))
    assert docs_build.stale(claims, [code])


EVIDENCE = {
    "what": "|error|",
    "estimate": 1.0,
    "reference": 1.0,
    "tolerance": 1e-9,
    "because": "rounding",
    "samples": None,
    "z": None,
    "bound": None,
    "excess": 0.5,
    "passed": True,
}
CLAIM = {
    "name": "path.waves.standing/stays",
    "plugin": "waves",
    "subject": "path.waves.standing",
    "statement": "It stays.",
    "formula": r"\dot x = 0",
    "entries": ["L1.1"],
    "owes": "existence",
    "passed": True,
    "seconds": 0.1,
    "evidence": [EVIDENCE],
    "controls": [{"name": "it moves", "rejected": True, "excess": 40.0}],
    "detects": {"fault": "velocity × (1 + δ)", "size": 0.01},
}
REPORT = {"genpath": "0", "torch": "0", "seed": 0, "date": "2000-01-01", "claims": [CLAIM]}


def test_claims_are_shown_with_statement_formula_evidence_and_controls(tmp_path):
    path = tmp_path / "claims.json"
    path.write_text(docs_claims.json.dumps(REPORT))
    page = docs_claims.with_claims("# Claims\n\n<!-- claims of waves -->\n", path)
    for words in (
        "It stays.",
        "$$\n\\dot x = 0\n$$",
        "\\|error\\|",
        "50 %",
        "it moves",
        "40 ×",
        "0.01",
    ):
        assert words in page
    assert "1 claim" in page and "all hold" in page and "failed" not in page


def test_a_failure_is_shown_as_one(tmp_path):
    claim = {
        **CLAIM,
        "passed": False,
        "evidence": [{**EVIDENCE, "passed": False}],
        "controls": [{"name": "it moves", "rejected": False, "excess": 0.1}],
    }
    path = tmp_path / "claims.json"
    path.write_text(docs_claims.json.dumps({**REPORT, "claims": [claim]}))
    page = docs_claims.section("waves", path)
    assert "1 of them failed" in page and "not rejected" in page and "**failed**" in page


def test_without_claims_the_page_says_how_to_have_them(tmp_path):
    assert "genpath verify" in docs_claims.section("waves", tmp_path / "none.json")
