"""The benchmarks: their arithmetic, and every entry at a tiny size; no time is asserted."""

import importlib
import importlib.util
import itertools
import json
import sys

import numpy as np
import pytest
import torch

from genpath import objectives

from .repository import ROOT, read_toml


def load():
    """The folder `benchmarks` as a package; nothing installs it."""
    folder = ROOT / "benchmarks"
    spec = importlib.util.spec_from_file_location(
        "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules["benchmarks"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


load()
runner, record, tables, entries, command = (
    importlib.import_module(f"benchmarks.{name}")
    for name in ("runner", "record", "tables", "entries", "__main__")
)


class Clock:
    """A clock that moves only when a contender runs; ``slowness(round)`` is the machine's mood."""

    def __init__(self, monkeypatch, slowness=lambda turn: 1.0):
        self.now, self.order, self.slowness = 0.0, [], slowness
        monkeypatch.setitem(runner.CLOCKS, "cpu", lambda: self.now)

    def contender(self, name, seconds):
        def call():
            self.now += seconds * self.slowness(sum(n == name for n in self.order))
            self.order.append(name)

        return call

    def case(self, **seconds):
        calls = {name: self.contender(name, s) for name, s in seconds.items()}
        return runner.Case("a case", calls.pop("ours"), calls, check=lambda: None)


# -- the arithmetic --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_a_spread_is_median_and_quartiles(count):
    values = np.random.default_rng(count).random(count)
    spread = runner.Spread.of(list(values))
    expected = np.percentile(values, [50, 25, 75])
    assert np.allclose([spread.median, spread.low, spread.high], expected)


def test_times_and_ratios_are_those_of_the_calls(monkeypatch):
    case = Clock(monkeypatch).case(ours=2.0, fast=1.0, slow=8.0)
    found = runner.measure(case, repeats=3, least=0)
    assert {n: s.median for n, s in found.seconds.items()} == {
        "genpath": 2.0,
        "fast": 1.0,
        "slow": 8.0,
    }
    assert {n: s.median for n, s in found.ratios.items()} == {"fast": 2.0, "slow": 0.25}


def test_a_machine_that_slows_down_does_not_change_the_ratio(monkeypatch):
    case = Clock(monkeypatch, lambda turn: 2.0**turn).case(ours=3.0, peer=1.0)
    found = runner.measure(case, repeats=7, least=0)
    ratio = found.ratios["peer"]
    assert (ratio.low, ratio.median, ratio.high) == (3.0, 3.0, 3.0)
    assert found.seconds["peer"].low < found.seconds["peer"].high  # while the times did change


def test_contenders_take_turns_and_the_first_one_rotates(monkeypatch):
    clock = Clock(monkeypatch)
    runner.measure(clock.case(ours=1.0, a=1.0, b=1.0), repeats=3, least=0)
    turns = [clock.order[i : i + 3] for i in range(len(clock.order) - 9, len(clock.order), 3)]
    assert turns == [["ours", "a", "b"], ["a", "b", "ours"], ["b", "ours", "a"]]


def test_a_quick_call_is_repeated_until_a_turn_is_long_enough(monkeypatch):
    clock = Clock(monkeypatch)
    found = runner.measure(clock.case(ours=1e-4, peer=0.5), repeats=1, least=0.01)
    assert found.seconds["genpath"].median == pytest.approx(1e-4)
    assert clock.order[-2] == "ours" and clock.order.count("ours") >= 200
    assert clock.order.count("peer") == 3  # warm-up, one that is long enough, one that counts


def test_units_per_call_divide_the_times_and_not_the_ratio(monkeypatch):
    clock = Clock(monkeypatch)
    calls = {"peer": clock.contender("peer", 4.0)}
    case = runner.Case("c", clock.contender("ours", 2.0), calls, check=lambda: None, per=10)
    found = runner.measure(case, repeats=2, least=0)
    assert found.seconds["genpath"].median == pytest.approx(0.2)
    assert found.ratios["peer"].median == pytest.approx(0.5)


@pytest.mark.parametrize(("repeats", "rounds"), [(3, 3), (50, 5)])
def test_a_long_case_ends_after_five_rounds(monkeypatch, repeats, rounds):
    case = Clock(monkeypatch).case(ours=10.0, peer=10.0)
    assert runner.measure(case, repeats=repeats, limit=12.0).rounds == rounds


def test_what_does_not_agree_is_not_timed(monkeypatch):
    clock = Clock(monkeypatch)

    def check():
        runner.agree("the loss", torch.ones(1), 2 * torch.ones(1), 1e-3)

    case = runner.Case("c", clock.contender("ours", 1.0), {}, check)
    with pytest.raises(runner.Disagreement, match=r"the loss: they differ by 0\.5 of the largest"):
        runner.measure(case, repeats=1)
    assert clock.order == []


def test_agreement_is_refused_for_shapes_and_for_what_is_no_number():
    ones = torch.ones(2)
    runner.agree("x", ones, ones + 1e-6, 1e-5)
    with pytest.raises(runner.Disagreement, match=r"x: shapes \(2,\) and \(1,\)"):
        runner.agree("x", ones, torch.ones(1), 1e-5)
    with pytest.raises(runner.Disagreement, match="differ by nan"):
        runner.agree("x", ones, ones * torch.nan, 1e-5)


def test_the_peak_counts_what_is_held_at_once():
    size = 10**6

    def together():
        return torch.ones(size), torch.ones(size)

    def apart():
        return [torch.ones(size).sum() for _ in range(2)]

    assert 8 * size <= runner.peak_bytes(together) < 8.1 * size
    assert 4 * size <= runner.peak_bytes(apart) < 4.1 * size


# -- the entries -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", entries.names())
def test_every_entry_runs_at_a_tiny_size(name):
    entry, labels = entries.load(name), []
    for case in entry.cases(True):
        found = runner.measure(case, repeats=1, memory=entry.memory, least=0)
        assert case.peers, f"{case.label}: nothing beside ours"
        assert set(found.ratios) == set(case.peers) == set(found.seconds) - {"genpath"}
        assert set(found.peak_bytes) == (set(found.seconds) if entry.memory else set())
        assert not set(entry.missing) & set(case.peers)
        labels.append(case.label)
    assert len(labels) == len(set(labels)) > 0


def test_every_distribution_that_an_entry_needs_is_pinned():
    bench = read_toml(ROOT / "hatch.toml")["envs"]["bench"]
    text = " ".join(bench["dependencies"] + bench["scripts"]["run"])
    for name in entries.names():
        for peer in entries.load(name).needs:
            assert f"{peer}==" in text


def planted(name):
    return importlib.import_module(f"benchmarks.entries.{name}")


def first(name, number=0):
    return next(itertools.islice(planted(name).cases(True), number, None))


def test_a_solver_with_another_step_is_caught(monkeypatch):
    module = planted("ode_sampling")
    wrong = module.METHODS["euler"].__class__(
        module.Euler(), module.Euler(), "euler", lambda f, x, n: module.euler_loop(f, x, 2 * n)
    )
    monkeypatch.setitem(module.METHODS, "euler", wrong)
    with pytest.raises(runner.Disagreement, match="the end of the loop"):
        first("ode_sampling", 1).check()


def test_a_loss_of_twice_the_size_is_caught(monkeypatch):
    squared = objectives.DIVERGENCES["squared"]
    monkeypatch.setitem(objectives.DIVERGENCES, "squared", lambda *given: 2 * squared(*given))
    with pytest.raises(runner.Disagreement, match="the loss of plain"):
        first("path_draw").check()


def test_a_path_whose_time_runs_the_other_way_is_caught(monkeypatch):
    own = objectives.draw_with_target
    monkeypatch.setattr(
        objectives,
        "draw_with_target",
        lambda path, name, t, *pairs: own(path, name, 1 - t, *pairs),
    )
    with pytest.raises(runner.Disagreement, match="x_t of plain"):
        first("path_draw").check()


@pytest.mark.parametrize("name", ["ours", "transcription"])
def test_a_step_that_reveals_too_few_is_caught(name):
    module = planted("masked_step")
    make = module.MAKERS[name]
    module.check_law(make, name)
    with pytest.raises(runner.Disagreement, match="standard errors off"):
        module.check_law(lambda logits, x, t, t_next, rng: make(logits, x, t, 0.6, rng), name)
    with pytest.raises(runner.Disagreement, match="standard errors off"):
        module.check_law(lambda logits, *rest: make(1.2 * logits, *rest), name)
    with pytest.raises(runner.Disagreement, match="an unmasked site moved"):
        module.check_law(lambda *given: lambda: torch.full((2, 20_000), 4), name)


def test_a_command_that_fails_or_says_nothing_is_caught():
    module = planted("startup")
    with pytest.raises(runner.Disagreement, match="status 2"):
        module.case("no-such-command", "", {}).check()
    with pytest.raises(runner.Disagreement, match="does not print 'no such word'"):
        module.case("--version", "no such word", {}).check()


# -- the command -----------------------------------------------------------------------------


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_list_names_every_entry(capsys):
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == entries.names()


def test_an_unknown_name_gives_the_nearest_one(capsys):
    assert command.main(["path_drow"]) == 2
    error = capsys.readouterr().err
    assert "there is no entry 'path_drow'; the nearest is 'path_draw'" in error


def test_a_run_is_written_and_shown(tmp_path, capsys, threads):
    assert command.main(["masked_step", "--tiny", "--repeats", "2", "--out", str(tmp_path)]) == 0
    assert "written to" in capsys.readouterr().out
    (stored,) = record.read(tmp_path)
    assert stored["machine"]["threads"] == 1 and stored["versions"]["torch"] == torch.__version__
    assert [case["rounds"] for case in stored["cases"]] == [2, 2, 2, 2]
    for option in ("--show", "--markdown"):
        assert command.main([option, "--out", str(tmp_path)]) == 0
        shown = capsys.readouterr().out
        assert "2×3×5, step 1 of 64" in shown and "transcription" in shown


def test_a_run_without_its_peers_is_not_written(tmp_path, capsys, monkeypatch, threads):
    monkeypatch.setattr(runner, "installed", lambda name: False)
    monkeypatch.setattr(planted("path_draw"), "installed", lambda name: False)
    assert command.main(["path_draw", "--tiny", "--repeats", "1", "--out", str(tmp_path)]) == 0
    assert "not written, torchcfm is not installed" in capsys.readouterr().out
    assert record.read(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    record.write({"entry": "a", "value": 1.0}, tmp_path)
    with pytest.raises(TypeError):
        record.write({"entry": "a", "value": object()}, tmp_path)
    assert json.loads((tmp_path / "a.json").read_text())["value"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(1.5, "1.50 s"), (0.123456, "123 ms"), (2.5e-7, "0.250 µs"), (None, "?")]
)
def test_durations_are_read_at_a_glance(seconds, words):
    assert tables.duration(seconds) == words


def test_every_entry_has_stored_results_with_all_its_peers():
    stored = {results["entry"]: results for results in record.read()}
    assert sorted(stored) == entries.names()
    for name, results in stored.items():
        assert set(entries.load(name).needs) <= set(results["versions"])
        assert all(tables.rows(results)), name
