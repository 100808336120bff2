# ruff: noqa: RUF009  # slot() and option() are dataclasses.field with metadata
"""Reading configs: YAML, overrides, references, binding, and the words of every problem."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, strategies as st

from genpath.config import Config, load_config, option, read_config, slot
from genpath.config.yaml_text import dump, parse
from genpath.errors import BuildError, ConfigError
from genpath.plugins import Component, Registry, using

HERE = "fake_config_components"
sys.modules[HERE] = sys.modules[__name__]


@dataclass(frozen=True)
class Power:
    power: float = option(2.0, above=0)


@dataclass(frozen=True)
class Noise:
    scale: float = 1.0
    kind: Literal["sqrt", "flat"] = "sqrt"


@dataclass(frozen=True)
class Linear:
    width: int = option(3, minimum=1, maximum=9)
    noise: Noise = option(factory=Noise)
    knots: list[float] = option(factory=list)
    ends: tuple[float, float] = (0.0, 1.0)
    gamma: float | Literal["sqrt"] | None = None
    flag: bool = False
    schedule: object = slot("schedule", "power")


@dataclass(frozen=True)
class Must:
    size: int
    low: int = 0

    def __post_init__(self) -> None:
        if self.low > self.size:
            raise ValueError(f"low {self.low} lies above size {self.size}")


def make(**values: object) -> dict[str, object]:
    return values


def component(kind: str, name: str, options: str = "", needs: tuple[str, ...] = ()) -> Component:
    return Component(kind, name, f"{HERE}:make", f"{HERE}:{options}" if options else None, needs)


REGISTRY = Registry(
    [
        component("path", "waves.linear", "Linear", ("base",)),
        component("path", "waves.must", "Must"),
        component("schedule", "power", "Power"),
        component("law", "gaussian"),
        component("evaluation", "mmd"),
        *(component("stage", name) for name in ("train", "sample", "evaluate", "report")),
    ]
)


def read(text: str, *overrides: str) -> Config:
    return read_config(text, overrides, registry=REGISTRY, source="run.yaml")


def problems(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, *overrides)
    return str(caught.value)


class TestBinding:
    def test_the_empty_config_is_all_defaults(self) -> None:
        config = read("")
        assert config.seed == 0 and config.train.steps == 2000 and config.sample.count == 256
        assert [stage.name for stage in config.stages] == ["train", "sample", "evaluate", "report"]
        assert config.slots["guidance"] is None and config.evaluate == ()

    def test_short_and_long_forms_are_the_same(self) -> None:
        assert read("path: waves.linear").digest() == read("path: {name: waves.linear}").digest()

    def test_slots_nest(self) -> None:
        config = read("path: {name: waves.linear, schedule: {name: power, power: 3}}")
        bound = config.require("path")
        assert bound.options.schedule.node == "path.schedule"
        assert bound.build(base=0)["schedule"] == {"power": 3.0}

    def test_a_slot_with_a_default_may_leave_out_its_name(self) -> None:
        bound = read("path: {name: waves.linear, schedule: {power: 3}}").require("path")
        assert bound.options.schedule.options.power == 3

    def test_lists_of_slots(self) -> None:
        assert [each.node for each in read("evaluate: [mmd, {name: mmd}]").evaluate] == [
            "evaluate[0]", "evaluate[1]",
        ]  # fmt: skip

    def test_a_missing_need_names_node_and_component(self) -> None:
        bound = read("path: waves.linear").require("path")
        with pytest.raises(BuildError, match=r"path \(path 'waves.linear'\): it needs 'base'"):
            bound.build(data=1)

    def test_require(self) -> None:
        with using(REGISTRY), pytest.raises(ConfigError) as caught:
            read("").require("path", "stage train")
        assert "stage train needs a path" in str(caught.value)
        assert "known: waves.linear, waves.must" in str(caught.value)


CASES = {
    "sed: 1": "run.yaml:1: sed\n  expected  one of the keys: title.*\n.*\n.*mean 'seed'",
    "lr: 1": "did you mean 'train.lr'",
    "\nseed: many": "run.yaml:2: seed\n  expected  an integer\n  got       the text 'many'",
    "seed: '3'": "leave out the quotes",
    "seed: true": "expected  an integer\n  got       true",
    "seed: 1.5": "expected  an integer\n  got       the number 1.5",
    "seed: 1:30": "expected  an integer\n  got       the text '1:30'",
    "title: 3": "expected  text or null\n  got       the integer 3\n  fix       put it in quotes",
    "train: {keep_best: yes}": "expected  true or false\n.*'yes'\n  fix       write true",
    "train: {lr: .nan}": "expected  a number\n  got       the number nan",
    "train: {lr: 0}": "train.lr\n  expected  a number above 0\n  got       the number 0.0",
    "train: {betas: [1]}": "expected  a list of 2: a number; a number\n  got       a list of 1",
    "train: {betas: [0, b]}": r"train.betas\[1\]\n  expected  a number\n  got       the text 'b'",
    "train: {betas: [0, 2]}": r"train\n.*\n  got       ValueError: betas lie in \[0, 1\)",
    "train: {schedule: cosin}": "'constant' or 'cosine'\n.*\n  fix       did you mean 'cosine'",
    "train: 3": "train\n  expected  a mapping of options\n  got       the integer 3",
    "path: waves.liner": "path\n  expected  the name of a path\n.*\n.*mean 'waves.linear'",
    "path: gaussian": "'gaussian' is a law, not a path",
    "path: 3": "expected  a path: NAME or {name: NAME, ...}\n  got       the integer 3",
    "path: {width: 3}": "path.name\n  expected  a path: NAME.*\n  got       a mapping with",
    "base: {name: gaussian, std: 1}": "no option: law 'gaussian' takes none\n  got       'std'",
    "evaluate: mmd": r"a list, each an evaluation\n.*\n  fix       write \[mmd\]",
    "evaluate: [mdm]": r"evaluate\[0\]\n.*the name of an evaluation",
    "path: waves.must": "path.size\n  expected  an integer\n  got       nothing: it has no default",
    "path: {name: waves.must, size: 1, low: 2}": "path 'waves.must' accepts\n.*low 2 lies above",
    "path: {name: waves.linear, width: 0}": "a number at least 1 and at most 9\n.*integer 0",
    "path: {name: waves.linear, noise: {kid: 1}}": "path.noise.kid\n.*scale, kind\n.*\n.*'kind'",
    "path: {name: waves.linear, gamma: sqr}": "a number, 'sqrt' or null\n.*\n.*mean 'sqrt'",
    "path: {name: waves.linear, schedule: null}": "path.schedule\n  expected  a schedule: NAME",
    "path: {name: waves.linear,\n  knots: [1, x]}": r"run.yaml:2: path.knots\[1\]",
    "seed: ???": r"seed\n  expected  a value\n.*\n.*pass seed=VALUE",
    "title: ${nothing}": "title\n  expected  a reference to a key that this config states",
    "title: ${title}": "title\n  expected  a reference",
    "title: ${oc.env:HOME}": "resolvers are refused",
    "title: a ${seed}${oc.decode:'1'}": "resolvers are refused",
    "seed: 1\nseed: 2": "a key is given once.\n  got   seed on lines 1 and 2",
    "seed: !!python/name:os.system": "this is no plain YAML",
    "seed: [": "run.yaml:1: this is no plain YAML",
    "title: a: b": "put text with a colon in quotes",
    "1: 2": "a key is text.\n  got   1\n  fix   put it in quotes",
    "train: {steps: ${seed}}": r"put \$\{...\} in quotes",
    "transforms: &a [*a]": "a value cannot contain itself",
    "- 1": "a config is a mapping of keys to values.\n  got   a list of 1",
}


@pytest.mark.parametrize("text", CASES)
def test_the_words_of_a_problem(text: str) -> None:
    found = problems(text)
    assert re.search(CASES[text], found), found


def test_all_problems_come_together() -> None:
    text = "sed: 1\ntrain: {stepz: 3, lr: x}\npath: nope\n"
    found = problems(text, "novalue", "sample.count=-1")
    assert found.startswith("run.yaml: 6 problems")
    for key in ("run.yaml:1: sed", "train.stepz", "train.lr", "run.yaml:3: path", "'novalue'"):
        assert key in found
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert [each.key for each in caught.value.problems] == [
        "sed",
        "path",
        "train.stepz",
        "train.lr",
    ]


class TestOverrides:
    def test_values_are_yaml(self) -> None:
        config = read("", "seed=3", "train.betas=[0.5, 0.6]", "title=a b", "train.lr=1e-4")
        assert (config.seed, config.train.betas, config.title) == (3, (0.5, 0.6), "a b")
        assert config.train.lr == 1e-4 and read("", "train.steps=1e3").train.steps == 1000

    def test_a_node_is_replaced_whole(self) -> None:
        text = "path: {name: waves.linear, width: 5}"
        assert read(text, "path=waves.must", "path.size=1").require("path").options.size == 1

    def test_the_name_alone_keeps_options_and_says_so(self) -> None:
        found = problems("path: {name: waves.linear, width: 5}", "path.name=waves.must")
        assert "path.name=NAME keeps the options" in found and "path=NAME leaves them out" in found

    def test_below_a_short_form_and_in_a_list(self) -> None:
        config = read("path: waves.linear\nevaluate: [mmd]", "path.width=4", "evaluate[0].name=mmd")
        assert config.require("path").options.width == 4
        assert read("evaluate: [mmd]", "evaluate.0=mmd").evaluate[0].name == "mmd"

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("novalue", "override 'novalue'\n  expected  key=value"),
            ("seed=", "write seed=null for nothing, seed='' for empty text"),
            ("=3", "expected  key=value"),
            ("seed.x=3", "override 'seed.x=3'\n  expected  keys below seed"),
            ("seed=many", "override 'seed=many': seed\n  expected  an integer"),
            ("seed=1:30", "the text '1:30'"),
            ("path={name: waves.linear, widht: 1}", "override .*: path.widht\n(.|\n)*'width'"),
            ("evaluate.3=mmd", "expected  evaluate="),
            ("title=a: b", "override 'title=a: b'"),
            ("title=[", "override 'title=\\['\n  expected  title=VALUE in YAML"),
        ],
    )
    def test_the_words_of_a_problem(self, override: str, words: str) -> None:
        found = problems("seed: 1\nevaluate: []", override)
        assert re.search(words, found), found


class TestReferences:
    def test_to_keys_and_defaults_keeping_their_type(self) -> None:
        config = read("title: seed ${seed}\npath: {name: waves.linear, width: '${.noise.scale}',"
                      " noise: {scale: '${sample.chunk}'}}\nsample: {chunk: 4}")  # fmt: skip
        assert config.title == "seed 0" and config.require("path").options.width == 4

    def test_an_override_is_seen(self) -> None:
        assert read("title: seed ${seed}", "seed=7").title == "seed 7"

    def test_a_resolver_never_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from omegaconf import OmegaConf

        called: list[str] = []
        OmegaConf.register_resolver("spy", lambda: called.append("x") or "x")
        try:
            found = problems("title: ${description}\ndescription: '${spy:}'\ndevice: ${seed}")
        finally:
            OmegaConf.clear_resolver("spy")
        assert "description\n" in found and called == []

    def test_the_environment_does_not_leak(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "hunter2")
        assert "hunter2" not in problems("title: ${oc.env:SECRET}")


class TestResolved:
    TEXT = "path: {name: waves.linear, knots: [1], gamma: sqrt}\nevaluate: [mmd]\ntitle: a ${seed}"

    def test_reads_back_as_the_same(self) -> None:
        config = read(self.TEXT)
        again = Config.from_yaml(config.to_yaml(), registry=REGISTRY)
        assert again == config and again.to_yaml() == config.to_yaml()
        assert again.digest() == config.digest()

    def test_states_defaults(self) -> None:
        text = read(self.TEXT).to_yaml()
        assert "steps: 2000" in text and "    power: 2.0" in text and "- name: train" in text

    def test_the_digest_sees_values_not_spelling(self) -> None:
        assert read("{seed: 1, device: cpu}").digest() == read("device: 'cpu'\nseed: 0x1").digest()
        assert read("seed: 1").digest() != read("seed: 2").digest()
        assert read("train: {clip: 1}").digest() == read("").digest()

    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=30))
    def test_any_text_survives(self, text: str) -> None:
        from genpath.config.problems import Problems
        from genpath.config.references import resolve

        back = resolve(parse(dump({"a": text}), "x")[0], Problems())
        assert back == {"a": text}

    @pytest.mark.parametrize(
        "text", ["${seed}", r"\${seed}", r"\\${a:b}", "1e-3", "1:30", "yes", "010", "~", "", "???x",
                 "0x1F", "2020-01-01", ".5", "1_000", "a: b", "- a", "null", "x ${y} ${z:1}"]
    )  # fmt: skip
    def test_awkward_text_survives(self, text: str) -> None:
        self.test_any_text_survives.hypothesis.inner_test(self, text)  # type: ignore[attr-defined]

    @given(st.floats(allow_nan=False))
    def test_any_number_survives(self, number: float) -> None:
        assert parse(dump({"a": number}), "x")[0] == {"a": number}


def test_yaml_is_read_by_the_rules_of_1_2() -> None:
    text = "[1:30, no, 010, 1e-3, 1_000, 2020-01-01, 0o17, .5, -.inf, ~, 1.0]"
    found, _ = parse(text, "x")
    expected = ["1:30", "no", 10, 1e-3, 1000, "2020-01-01", 15, 0.5, float("-inf"), None, 1.0]
    assert found == expected and [type(each) for each in found] == [type(x) for x in expected]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be readable\.\n  got   No such file"):
        load_config(tmp_path / "none.yaml", registry=REGISTRY)


def test_checking_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "light_options.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Options:\n    n: int = 1\n"
    )
    code = (
        "import sys\nfrom genpath.plugins import Component, Registry\n"
        "from genpath.config import read_config\n"
        "c = Component('path', 'w.x', 'torch:rand', 'light_options:Options')\n"
        "r = Registry([c])\n"
        "t = '{path: {name: w.x, n: 2}, stages: [], title: \"s${seed}\"}'\n"
        "f = read_config(t, registry=r)\n"
        "print(f.path.options.n, f.title, [m for m in ('torch', 'rich') if m in sys.modules])"
    )
    source = Path(__file__).parents[1] / "src"
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{source}"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60
    )
    assert done.stdout.strip() == "2 s0 []", done.stderr
