# ruff: noqa: RUF009  # slot() and option() are dataclasses.field with metadata
"""The registry and its components: what is said when something is not there, or not as promised."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from genpath.config import option, slot
from genpath.errors import BuildError, ComponentLoadError, ConfigError, UnknownComponentError
from genpath.plugins import KINDS, Component, PluginRecord, Registry, using

sys.modules["fake_components"] = sys.modules[__name__]
HERE = "fake_components"


@dataclass(frozen=True)
class Power:
    power: float = option(2.0, above=0)


@dataclass(frozen=True)
class Linear:
    width: int = option(3, minimum=1)
    schedule: object = slot("schedule", "power")


@dataclass(frozen=True)
class Several:
    parts: dict[str, object] = slot("schedule", {"x": "power"})
    steps: list[object] = slot("schedule", ["power"])


@dataclass(frozen=True)
class Wrong:
    name: str = ""
    made: complex = 0j
    inner: object = slot("schedule", "powr")
    space: int = 0


def make(**values: object) -> dict[str, object]:
    return values


def narrow(width: int) -> int:
    return width


def fail() -> None:
    raise ZeroDivisionError("oh")


def component(kind: str, name: str, target: str = "make", options: str = "", **more) -> Component:
    origin = {"distribution": "genpath-waves", "version": "1.0", "plugin": "waves"}
    path = f"{HERE}:{options}" if options else None
    return Component(kind, name, f"{HERE}:{target}", path, **(origin | more))


LINEAR = component("path", "waves.linear", options="Linear", needs=("base",))
REGISTRY = Registry(
    [LINEAR, component("schedule", "power", options="Power"), component("law", "box")],
    [PluginRecord("tides", "genpath-tides", "2.0", "failed", "ImportError: no sea")],
)


@pytest.fixture(autouse=True)
def registry():
    with using(REGISTRY) as found:
        yield found


class TestGet:
    def test_near_names_and_missing_plugins_are_named(self) -> None:
        with pytest.raises(UnknownComponentError) as caught:
            REGISTRY.get("path", "waves.liner")
        text = str(caught.value)
        assert "path 'waves.liner': no path has this name." in text
        assert "did you mean 'waves.linear'?" in text and "known: waves.linear" in text
        assert "did not load: tides (genpath-tides 2.0): failed: ImportError: no sea" in text

    def test_a_bare_name_is_near_its_full_one(self) -> None:
        with pytest.raises(UnknownComponentError, match=r"did you mean 'waves\.linear'"):
            REGISTRY.get("path", "linear")

    def test_another_kinds_name_is_recognised(self) -> None:
        with pytest.raises(UnknownComponentError, match="'box' is a law, not an evaluation"):
            REGISTRY.get("evaluation", "box")

    def test_a_prefix_that_nobody_has(self) -> None:
        with pytest.raises(UnknownComponentError, match="no plugin 'moons' is installed"):
            REGISTRY.get("path", "moons.full")

    def test_unknown_kind(self) -> None:
        with pytest.raises(UnknownComponentError, match=r"no kind 'pth'.*\n.*\n.*mean 'path'"):
            REGISTRY.components("pth")


def test_components_come_kind_by_kind() -> None:
    kinds = [each.kind for each in REGISTRY.components()]
    assert kinds == sorted(kinds, key=list(KINDS).index)
    assert list(REGISTRY.by_kind()) == ["law", "schedule", "path"]


class TestLoad:
    @pytest.mark.parametrize(
        ("target", "reason"),
        [("no_such:x", "No module named 'no_such'"), ("math:nil", "no attribute 'nil'"),
         ("math:pi", "a float, which nobody can call")],
    )  # fmt: skip
    def test_a_failure_names_everything(self, target: str, reason: str) -> None:
        broken = Component("path", "waves.x", target, None, (), "", (), "dist-w", "1.2", "waves")
        with pytest.raises(ComponentLoadError) as caught:
            broken.load()
        for words in ("path 'waves.x'", target, reason, "plugin 'waves'", "dist-w 1.2"):
            assert words in str(caught.value)

    def test_options_must_be_a_dataclass(self) -> None:
        with pytest.raises(ComponentLoadError, match="it is no dataclass"):
            component("path", "waves.x", options="make").options_class()

    def test_torch_is_put_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.syspath_prepend(str(tmp_path))
        text = "import torch\ntorch.set_default_dtype(torch.float64)\ndef make(): pass\n"
        (tmp_path / "rude_module.py").write_text(text)
        rude = Component("path", "waves.x", "rude_module:make", distribution="dist-w")
        with pytest.warns(UserWarning, match=r"'waves.x'.*dist-w.*changed the default dtype"):
            rude.load()
        assert torch.get_default_dtype() == torch.float32


class TestBuild:
    def test_from_nothing_a_mapping_or_an_instance(self) -> None:
        built = {"width": 3, "schedule": {"power": 2.0}, "base": "b"}
        assert LINEAR.build(base="b") == built
        assert LINEAR.build({"width": 4}, base="b") == built | {"width": 4}
        assert LINEAR.build(Linear(schedule={"name": "power", "power": 3}), base="b") == (
            built | {"schedule": {"power": 3.0}}
        )

    def test_a_slot_takes_what_is_built_already(self) -> None:
        ready = object()
        assert LINEAR.build({"schedule": ready}, base=0)["schedule"] is ready

    def test_lists_and_mappings_of_slots(self) -> None:
        built = component("path", "waves.x", options="Several").build()
        assert built == {"parts": {"x": {"power": 2.0}}, "steps": [{"power": 2.0}]}

    def test_what_is_not_needed_is_left_aside(self) -> None:
        assert "data" not in LINEAR.build(base=1, data=2)

    def test_a_missing_need(self) -> None:
        with pytest.raises(
            BuildError, match=r"path 'waves.linear'\): it needs 'base'.\n.*only data"
        ):
            LINEAR.build(data=2)

    def test_wrong_options(self) -> None:
        with pytest.raises(ConfigError, match=r"widht(.|\n)*did you mean 'width'"):
            LINEAR.build({"widht": 3}, base=1)
        with pytest.raises(ConfigError, match=r"expected  a mapping or Linear\(...\)"):
            LINEAR.build(Power(), base=1)

    def test_an_error_of_the_target_says_what_was_built(self) -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            component("path", "waves.x", target="fail").build()
        assert caught.value.__notes__ == ["while building path (path 'waves.x')"]


class TestCheck:
    def test_all_well(self) -> None:
        assert Registry([LINEAR, *REGISTRY.components("schedule")]).check() == []

    def test_plugins_that_did_not_load(self) -> None:
        (fault,) = REGISTRY.check()
        assert str(fault) == "plugin tides (genpath-tides 2.0): ImportError: no sea"

    def test_a_signature_that_does_not_fit(self) -> None:
        (fault,) = Registry([component("path", "w.x", target="narrow", needs=("base",))]).check()
        assert "does not take what it is given (base)" in fault.reason
        assert fault.where == "path w.x (plugin 'waves', distribution genpath-waves 1.0)"

    def test_options_that_a_config_cannot_hold(self) -> None:
        wrong = component("path", "w.x", options="Wrong", needs=("space",))
        text = "\n".join(fault.reason for fault in Registry([wrong]).check())
        assert "cannot be called 'name'" in text
        assert "'made' has a type that a config cannot hold: <class 'complex'>" in text
        assert "defaults to 'powr', and no schedule has this name" in text
        assert "'space' is both an option and a need" in text

    def test_a_target_that_does_not_import(self) -> None:
        (fault,) = Registry([Component("path", "w.x", "no_such:x")]).check()
        assert "No module named 'no_such'" in fault.reason
