"""Discovery: whatever is wrong with a plugin ends as one record, and the others work on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from genpath.errors import PluginError
from genpath.plugins import PluginRecord, Registry, discover

from .test_plugins_fakes import HEAD, HOOK, add, entry_points, install, plugin, python

MORE = ", needs=('space',), claims='waves_box:claims'"
GOOD = plugin(add("path", "standing"), add("law", "box", more=MORE))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of fake distributions, with one good plugin in it."""
    monkeypatch.delenv("GENPATH_DISABLE_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "genpath-waves", "waves", GOOD)
    return tmp_path


def record(registry: Registry, prefix: str) -> PluginRecord:
    (found,) = [each for each in registry.plugins() if each.prefix == prefix]
    return found


def test_components_carry_prefix_distribution_and_version(root: Path) -> None:
    registry = discover(entry_points=entry_points(root))
    found = registry.get("law", "waves.box")
    assert (found.distribution, found.version, found.plugin) == ("genpath-waves", "1.0", "waves")
    assert (found.needs, found.claims, found.summary) == (("space",), "waves_box:claims", "box")
    assert registry.names("path") == ("waves.standing",)
    assert record(registry, "waves").components == 2


BROKEN = {
    "import": ("import no_such_module\n", "failed", "No module named 'no_such_module'"),
    "exit": ("import sys\nsys.exit(3)\n", "failed", "SystemExit: 3"),
    "hook raises": (plugin("raise KeyError('oh')"), "failed", "KeyError: 'oh'"),
    "unknown kind": (plugin(add("pathe", "x")), "failed", "kind 'pathe'.*did you mean 'path'"),
    "repeated name": (plugin(*2 * [add("path", "x")]), "failed", "a second path 'bad.x'"),
    "prefix in name": (plugin(add("path", "bad.x")), "failed", "without the plugin's prefix"),
    "target": (plugin(add("path", "x", "dict")), "failed", "target is an import path"),
    "string needs": (plugin(add("path", "x", more=", needs='a'")), "failed", r"needs=\('a',\)"),
    "summary": (plugin("registry.add('path', 'x', 'a:b', summary='')"), "failed", "summary is one"),
    "no version": (plugin().replace("GENPATH_HOOK = 1", ""), "incompatible", "GENPATH_HOOK = 1"),
    "new version": (
        plugin().replace("GENPATH_HOOK = 1", "GENPATH_HOOK = 2"),
        "incompatible",
        "hook version 2, this genpath speaks 1: upgrade genpath$",
    ),
    "old version": (
        plugin().replace("GENPATH_HOOK = 1", "GENPATH_HOOK = 0"),
        "incompatible",
        "hook version 0, this genpath speaks 1: upgrade bad-dist$",
    ),
    "argument": (
        plugin().replace("(registry)", "(registry, colour)"),
        "failed",
        r"Argument\(s\) \{'colour'\} are declared in the hookimpl",
    ),
    "misspelt": (
        plugin().replace("genpath_components", "genpath_component"),
        "failed",
        "unknown hook 'genpath_component'.*did you mean 'genpath_components'",
    ),
    "unmarked": (HEAD + "def genpath_components(registry): pass\n", "failed", "mark it @hookimpl"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_reported_and_the_others_work(root: Path, case: str) -> None:
    source, state, reason = BROKEN[case]
    install(root, "bad-dist", "bad", source, version="0.7")
    registry = discover(entry_points=entry_points(root))
    bad = record(registry, "bad")
    assert (bad.state, bad.distribution, bad.version) == (state, "bad-dist", "0.7")
    _match(reason, bad.reason)
    assert bad.components == 0 and registry.names("path") == ("waves.standing",)
    assert record(registry, "waves").state == "ok"
    assert any("bad-dist 0.7" in fault.where for fault in registry.check())


def _match(pattern: str, text: str) -> None:
    import re

    assert re.search(pattern, text), text


def test_nothing_of_a_plugin_counts_once_part_of_it_is_wrong(root: Path) -> None:
    install(root, "bad-dist", "bad", plugin(add("path", "fine"), add("nothing", "x")))
    assert discover(entry_points=entry_points(root)).names("path") == ("waves.standing",)


def test_an_exception_keeps_its_traceback(root: Path) -> None:
    install(root, "bad-dist", "bad", plugin("raise KeyError('oh')"))
    bad = record(discover(entry_points=entry_points(root)), "bad")
    assert "in genpath_components" in bad.traceback


def test_the_version_before_is_honoured(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genpath.plugins import discovery

    monkeypatch.setattr("genpath.plugins.hooks.HOOK_VERSION", 2)
    monkeypatch.setattr(discovery, "_CALLS", discovery._CALLS | {2: discovery._call_version_1})
    new = GOOD.replace("GENPATH_HOOK = 1", "GENPATH_HOOK = 2")
    install(root, "new-dist", "new", new)
    install(root, "far-dist", "far", GOOD.replace("GENPATH_HOOK = 1", "GENPATH_HOOK = 3"))
    registry = discover(entry_points=entry_points(root))
    assert registry.names("path") == ("new.standing", "waves.standing")
    _match("hook version 3, this genpath speaks 1 to 2", record(registry, "far").reason)


class TestClash:
    def test_the_order_of_installation_does_not_matter(self, root: Path) -> None:
        install(root, "a-waves", "waves", plugin(add("path", "a")))
        install(root, "b-tides", "tides", plugin(add("path", "b")))
        install(root, "C_tides", "tides", plugin(add("path", "c")))
        points = entry_points(root)
        for seed in range(6):
            random.Random(seed).shuffle(points)
            registry = discover(entry_points=points)
            assert registry.names("path") == ("tides.b", "waves.standing")
            states = {each.distribution: each.state for each in registry.plugins()}
            assert states["a-waves"] == states["C_tides"] == "clash"

    def test_both_distributions_are_named(self, root: Path) -> None:
        install(root, "a-waves", "waves", plugin(), version="9")
        registry = discover(entry_points=entry_points(root))
        (clash,) = [each for each in registry.plugins() if each.state == "clash"]
        _match("genpath-waves 1.0 and a-waves 9 both claim the prefix 'waves'", clash.reason)

    def test_the_first_keeps_the_prefix_even_if_it_fails(self, root: Path) -> None:
        install(root, "b-tides", "tides", "import no_such_module")
        install(root, "c-tides", "tides", plugin(add("path", "c")))
        registry = discover(entry_points=entry_points(root))
        assert registry.names("path") == ("waves.standing",)

    def test_leaving_out_a_distribution_settles_it(self, root: Path) -> None:
        install(root, "a-waves", "waves", plugin(add("path", "a")))
        registry = discover(entry_points=entry_points(root), without=["genpath-waves"])
        assert registry.names("path") == ("waves.a",)

    def test_the_core_prefix_is_for_the_distribution_genpath(self, root: Path) -> None:
        install(root, "a-core", "core", plugin(add("path", "mine")))
        registry = discover(entry_points=entry_points(root))
        assert registry.names("path") == ("waves.standing",)
        _match("'core' is genpath's; a-core cannot have it", record(registry, "core").reason)

    def test_the_cores_names_are_bare(self, root: Path) -> None:
        install(root, "genpath", "core", plugin(add("path", "plain")))
        registry = discover(entry_points=entry_points(root))
        assert registry.names("path") == ("plain", "waves.standing")
        assert registry.plugins()[0].prefix == "core"


class TestDisabling:
    def test_by_argument_and_by_variable(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install(root, "genpath-tides", "tides", GOOD)
        monkeypatch.setenv("GENPATH_DISABLE_PLUGINS", " tides, nobody")
        registry = discover(entry_points=entry_points(root), without=["waves"])
        assert registry.components() == ()
        assert {each.state for each in registry.plugins()} == {"disabled"}
        assert registry.notes == ("GENPATH_DISABLE_PLUGINS names 'nobody', which is not installed",)

    def test_a_disabled_plugin_is_not_imported(self, root: Path) -> None:
        install(root, "bad-dist", "bad", "raise SystemExit")
        registry = discover(entry_points=entry_points(root), without=["bad"])
        assert record(registry, "bad").state == "disabled"

    def test_a_misspelt_argument_is_refused(self, root: Path) -> None:
        with pytest.raises(PluginError, match=r"no plugin 'wavs' is installed.*\n.*\n.*'waves'"):
            discover(entry_points=entry_points(root), without=["wavs"])


THREADS = 1  # of the child, whatever the machine has

TORCH = """
import sys, json
from genpath.plugins import registry
found = registry()
records = {r.prefix: (r.state, r.reason) for r in found.plugins()}
import torch
print(json.dumps([records, str(torch.get_default_dtype()), torch.get_num_threads(),
                  sorted(found.names("path"))]))
"""


def test_torch_is_guarded(tmp_path: Path) -> None:
    import json

    lines = ("torch.set_default_dtype(torch.float64)", "torch.rand(1)")
    names = [
        ("a", "import torch"),
        ("b", f"import torch; torch.set_num_threads({THREADS + 1})"),
    ]
    names += [(f"c{i}", f"import torch; {line}") for i, line in enumerate(lines)]
    for name, line in names:
        install(tmp_path, f"dist-{name}", name, line + "\n" + plugin(add("path", "x")))
    done = python(tmp_path, "-c", TORCH, env={"OMP_NUM_THREADS": str(THREADS)})
    assert done.returncode == 0, done.stderr
    records, dtype, after, paths = json.loads(done.stdout)
    assert records["a"][0] == "slow" and "listing it imports" in records["a"][1]
    assert "changed the number of threads from" in records["b"][1]
    assert "the default dtype from torch.float32 to torch.float64" in records["c0"][1]
    assert "changed the random state of torch" in records["c1"][1]
    assert {records[name][0] for name in ("b", "c0", "c1")} == {"failed"}
    assert dtype == "torch.float32" and after == THREADS
    assert "a.x" in paths and "b.x" not in paths


def test_the_first_to_import_torch_is_guarded_too(tmp_path: Path) -> None:
    import json

    source = "import torch; torch.set_default_dtype(torch.float64); torch.manual_seed(1)\n" + HOOK
    install(tmp_path, "dist-a", "a", source + "    pass\n")
    done = python(tmp_path, "-c", TORCH)
    records, dtype, *_ = json.loads(done.stdout)
    assert records["a"][0] == "failed" and dtype == "torch.float32"
    assert "the default dtype from torch.float32 to torch.float64 and the random" in records["a"][1]


def test_guards_nest(tmp_path: Path) -> None:
    code = """
from genpath.plugins.guard import torch_guard
with torch_guard() as outer:
    with torch_guard() as inner:
        import torch
        torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float16)
print(inner, outer, torch.get_default_dtype(), vars(torch.__spec__.loader).keys())
"""
    done = python(tmp_path, "-c", code)
    assert done.stdout.count("the default dtype from torch.float32 to") == 2, done.stderr
    assert done.stdout.endswith("] torch.float32 dict_keys(['name', 'path'])\n")
