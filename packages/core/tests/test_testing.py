"""The conformance kit itself: evidence, the runner, finding, records, pytest and the command."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch

from genpath.cli import main
from genpath.cli.verifying import print_table
from genpath.errors import DomainError, PluginError, RunError, ShapeError, UnknownComponentError
from genpath.plugins import Component, PluginRecord, Registry, Topic
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    claims_of,
    dial,
    equal,
    evidence,
    exact,
    frequencies,
    mean,
    near,
    order,
    refusal,
    run_claim,
    run_claims,
)
from genpath.testing.coverage import ledger, report
from genpath.testing.records import read_records, record, standing, state_folder
from genpath.testing.running import Bound, false_alarm

from .toys import seeded

DOUBLE = torch.float64
HERE = "fake_claims"
sys.modules[HERE] = sys.modules[__name__]


# -- evidence ----------------------------------------------------------------------------------


class TestEvidence:
    @pytest.mark.parametrize(
        ("estimate", "reference", "tolerance", "excess"),
        [
            (1.0, 1.0, 0.0, 0.0),
            (1.5, 1.0, 0.25, 2.0),
            (1.0 + 1e-300, 1.0, 0.0, 0.0),
            (1.1, 1.0, 0.0, math.inf),
            (math.inf, math.inf, 0.0, 0.0),
            (math.inf, 1.0, 1.0, math.inf),
            (math.inf, -math.inf, 1.0, math.inf),
            (math.nan, 1.0, 1.0, math.inf),
            (1.0, math.nan, 1.0, math.inf),
            (1.0, 2.0, math.nan, math.inf),
            (1.0, 2.0, -1.0, math.inf),
        ],
    )
    def test_excess(self, estimate, reference, tolerance, excess):
        found = Evidence("it", estimate, reference, tolerance)
        assert found.excess == excess
        assert found.passed == (excess <= 1)

    def test_the_worst_entry_is_reported(self):
        found = near("it", torch.tensor([1.0, 5.0, 2.0]), torch.tensor([1.0, 4.0, 0.0]), 3.0, "")
        assert (found.estimate, found.reference) == (2.0, 0.0)
        limits = torch.tensor([1.0, 0.5, 10.0])
        found = near("it", torch.tensor([1.0, 5.0, 2.0]), torch.tensor([1.0, 4.0, 0.0]), limits, "")
        assert (found.estimate, found.tolerance, found.excess) == (5.0, 0.5, 2.0)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("compare", [equal, exact, lambda *a: near(*a, 1.0, "")])
    def test_one_entry_that_is_no_number_is_enough(self, bad, compare):
        right, wrong = torch.zeros(5), torch.tensor([0.0, 0.0, bad, 0.0, 0.0])
        assert not compare("it", wrong, right).passed
        assert not compare("it", right, wrong).passed
        assert compare("it", right, right).passed

    def test_the_same_infinity_is_equal_and_the_other_is_not(self):
        ends = torch.tensor([-math.inf, 0.0, math.inf])
        assert equal("it", ends, ends).passed and exact("it", ends, ends).passed
        assert not equal("it", ends, -ends).passed

    def test_empty_in_empty_out(self):
        empty = torch.zeros(0, 3)
        for found in (equal("it", empty, empty), exact("it", empty, empty)):
            assert found.passed and "empty" in found.because
        assert not exact("it", empty, torch.zeros(1, 3)).passed
        with pytest.raises(ShapeError, match="one shape"):
            equal("it", empty, torch.zeros(1, 3))
        with pytest.raises(DomainError, match="two draws or more"):
            mean("it", torch.zeros(1, 3), 0.0)

    @pytest.mark.parametrize(("dtype", "epsilon"), [(torch.float32, 2**-23), (DOUBLE, 2**-52)])
    def test_rounding_is_counted_in_the_units_of_the_dtype(self, dtype, epsilon):
        one = torch.ones(3, dtype=dtype)
        found = equal("it", one, one, operations=10, scale=4.0)
        assert found.tolerance == 40 * epsilon
        assert equal("it", one + 8 * epsilon, one, operations=10).passed
        assert not equal("it", one + 12 * epsilon, one, operations=10).passed
        assert equal("it", torch.tensor([3]), torch.tensor([3])).tolerance == 0

    def test_a_bound_has_one_side(self):
        assert at_most("it", torch.tensor([-5.0, 1.0]), 1.0, "").excess == 0
        assert not at_most("it", torch.tensor([-5.0, 1.1]), 1.0, "").passed
        assert at_most("it", 1.1, 1.0, "", slack=0.2).passed
        assert not at_most("it", math.nan, 1.0, "").passed

    def test_facts_are_compared_whole(self):
        assert exact("it", (1, 2), (1, 2)).passed and not exact("it", (1, 2), (2, 1)).passed
        assert exact("it", True).passed and not exact("it", False).passed
        assert not exact("it", torch.zeros(2), torch.zeros(2) + 1e-30).passed

    def test_a_refusal_is_the_right_error_with_the_right_words(self):
        def call():
            raise DomainError("here", "γ is positive.", got="-1")

        assert refusal("it", call, DomainError, "positive").passed
        assert not refusal("it", call, DomainError, "negative").passed
        assert not refusal("it", call, ShapeError, "positive").passed
        assert "nothing was refused" in refusal("it", lambda: 1, DomainError, "x").what

    def test_a_mean_knows_its_standard_error_and_allowance(self):
        draws = torch.tensor([[0.0], [2.0]], dtype=DOUBLE).repeat(50, 1)
        found = mean("it", draws, 1.0)
        error = float(draws.std()) / 10
        assert found.passed and found.z == 0 and found.samples == 100
        assert found.tolerance == pytest.approx(found.bound * error)
        far = 1.0 + 6 * error
        assert not mean("it", draws, far).passed
        assert mean("it", draws, far, allowance=2 * error).passed
        assert mean("it", torch.zeros(10, 1), 0.0).passed
        assert not mean("it", torch.zeros(10, 1), 1e-9).passed
        assert not mean("it", torch.full((10, 1), math.nan), 0.0).passed

    def test_a_letter_that_cannot_be_drawn_fails(self):
        law = torch.tensor([0.5, 0.5, 0.0])
        assert frequencies("it", torch.tensor([500, 500, 0]), law).passed
        assert not frequencies("it", torch.tensor([500, 499, 1]), law).passed
        rare = torch.tensor([0.499, 0.499, 0.001, 0.001])
        assert frequencies("it", torch.tensor([499, 499, 0, 2]), rare).passed
        assert not frequencies("it", torch.tensor([400, 500, 50, 50]), rare).passed


class TestFalseAlarms:
    """How often random evidence fails although all is right, at a looser α."""

    ALPHA, RUNS = 0.05, 1000

    def share(self, monkeypatch, one):
        monkeypatch.setattr(evidence, "FALSE_ALARM", self.ALPHA)
        failed = sum(not one(seeded(seed)).passed for seed in range(self.RUNS))
        return failed / self.RUNS

    def between(self, share, low):
        spread = 4 * math.sqrt(self.ALPHA * (1 - self.ALPHA) / self.RUNS)
        assert low < share < self.ALPHA + spread

    def test_of_a_mean(self, monkeypatch):
        def one(rng):
            return mean("it", torch.randn(400, 4, generator=rng, dtype=DOUBLE), 0.0)

        self.between(self.share(monkeypatch, one), 0.02)

    def test_of_frequencies(self, monkeypatch):
        law = torch.tensor([0.5, 0.3, 0.1, 0.07, 0.03], dtype=DOUBLE)

        def one(rng):
            drawn = torch.multinomial(law, 2000, replacement=True, generator=rng)
            return frequencies("it", torch.bincount(drawn, minlength=5), law)

        self.between(self.share(monkeypatch, one), 0.02)

    def test_of_an_order(self):
        """Whatever the next term within |c| ≤ 1: the right order passes, its neighbours fail."""
        steps = [2.0**-k for k in range(3, 8)]
        for seed in range(300):
            rng = seeded(seed)
            true = int(torch.randint(1, 5, (), generator=rng))
            c, scale = torch.rand(2, generator=rng, dtype=DOUBLE)
            errors = [float(10 * scale) * h**true * (1 + (2 * float(c) - 1) * h) for h in steps]
            for said in (true - 1, true, true + 1):
                assert order("it", steps, errors, said).passed == (said == true)

    def test_a_whole_run_stays_below_one_in_a_thousand(self):
        claim = Claim("it", "It.", lambda: 0.0, lambda x, t: mean("it", torch.randn(9, 1) + x, 0.0),
                      (Control("far", lambda x: x + 100),))  # fmt: skip
        verdicts = list(run_claims([Bound(claim, "law.it")] * 1800, search=False))
        assert false_alarm(verdicts) == pytest.approx(9e-4)


# -- claims and the runner ---------------------------------------------------------------------


def check_root(root, trial):
    return equal("√4", root(torch.tensor(4.0, dtype=DOUBLE)), 2.0, operations=2)


DOUBLED = dial("√x × (1 + δ)", lambda root, d: lambda x: (1 + d) * root(x))


def claim_of(check=check_root, controls=(DOUBLED,), name="root", **more):
    return Claim(name, "The root of 4 is 2.", lambda: torch.sqrt, check, controls, **more)


def run(claim, **more):
    return run_claim(Bound(claim, "schedule.mine", "core", "genpath", "1"), **more)


class TestClaims:
    def test_a_claim_without_control_or_with_a_bad_name_is_refused(self):
        with pytest.raises(DomainError, match="a claim has a control"):
            claim_of(controls=())
        with pytest.raises(DomainError, match="lower-case words"):
            claim_of(name="Root_2")
        with pytest.raises(DomainError, match="at most three"):
            claim_of(entries=("A1", "A2", "A3", "A4"))
        with pytest.raises(DomainError, match="0 < δ ≤ 1"):
            dial("too much", lambda x, d: x, 2.0)

    def test_a_trial_draws_the_same_for_the_same_key(self):
        def draw(trial, key=""):
            return float(torch.rand((), generator=trial.rng(key)))

        trial = Trial("law.it/one", 3)
        assert draw(trial) == draw(Trial("law.it/one", 3))
        others = [Trial("law.it/one", 4), Trial("law.it/two", 3)]
        assert len({draw(trial), draw(trial, "x"), *map(draw, others)}) == 4
        assert Trial("it", fast=True).count(100, 7) == 7

    def test_a_fault_is_planted_in_a_copy(self):
        @dataclass(frozen=True)
        class Law:
            scale: float = 1.0

            def draw(self):
                return self.scale

            def twice(self):
                return 2 * self.draw()

        law = Law()
        broken = but(law, draw=lambda: 5.0)
        assert (law.twice(), broken.twice(), broken.scale) == (2.0, 10.0, 1.0)
        assert isinstance(broken, Law) and but(law, scale=3.0).draw() == 3.0


class TestRunner:
    def test_a_claim_that_holds(self):
        verdict = run(claim_of())
        assert verdict.passed and verdict.holds and verdict.rejects and not verdict.faults()
        words, size = verdict.detects
        assert 4 * 2**-52 > size > 0 or size < 1e-6
        assert words in verdict.smallest and verdict.to_dict()["passed"] is True

    def test_the_smallest_fault_is_found_by_bisection(self):
        def check(x, trial):
            return near("it", x, 0.0, 0.01, "chosen")

        claim = Claim("it", "It.", lambda: 0.0, check, (dial("+ δ", lambda x, d: x + d),))
        assert run(claim).detects == ("+ 0.016", 2**-6)

    def test_a_check_that_raises_fails(self):
        verdict = run(claim_of(check=lambda root, trial: 1 / 0))
        assert not verdict.passed and verdict.error == "ZeroDivisionError: division by zero"
        assert verdict.faults() == ["the check raised ZeroDivisionError: division by zero"]
        with pytest.raises(AssertionError, match=r"schedule\.mine/root: The root of 4 is 2"):
            verdict.require()

    def test_a_check_without_evidence_fails(self):
        assert "a check returns evidence" in run(claim_of(check=lambda root, trial: [])).error

    def test_a_control_that_passes_fails_the_claim(self):
        verdict = run(claim_of(controls=(DOUBLED, Control("nothing", lambda root: root))))
        assert verdict.holds and not verdict.rejects and not verdict.passed
        assert verdict.faults() == ["control passed: nothing"]

    @pytest.mark.parametrize(
        ("error", "seen"), [(DomainError("x", "y."), True), (ValueError("oh"), False)]
    )
    def test_a_control_that_is_refused_is_seen_and_one_that_breaks_is_not(self, error, seen):
        def raising(root):
            def broken(x):
                raise error

            return broken

        verdict = run(claim_of(controls=(Control("it raises", raising),)))
        assert verdict.rejects == seen
        if not seen:
            assert verdict.faults() == ["control 'it raises' raised ValueError: oh"]

    def test_a_control_that_cannot_be_planted_fails(self):
        verdict = run(claim_of(controls=(Control("it", lambda root: root.no_such_thing),)))
        assert not verdict.passed and "raised AttributeError" in verdict.faults()[0]

    def test_the_estimate_that_is_off_is_named(self):
        verdict = run(claim_of(check=lambda root, trial: near("√4", 2.5, 2.0, 0.1, "by eye")))
        assert verdict.faults()[0] == "√4: 2.5 against 2, tolerance 0.1 (by eye)"

    def test_torch_is_left_as_it_was(self):
        def check(root, trial):
            torch.set_default_dtype(DOUBLE)
            torch.rand(5)
            return check_root(root, trial)

        state = torch.get_rng_state()
        (verdict,) = run_claims([Bound(claim_of(check=check), "schedule.mine")])
        assert verdict.passed and torch.get_default_dtype() == torch.float32
        assert torch.equal(state, torch.get_rng_state())


# -- finding -----------------------------------------------------------------------------------


def claims_root():
    return (claim_of(entries=("D.17",)), claim_of(name="cube-root"))


def claims_wrong():
    return (claim_of(check=lambda root, trial: exact("it", False), name="wrong"),)


def claims_idle():
    return (claim_of(controls=(Control("nothing", lambda root: root),), name="idle"),)


def claims_twice():
    return (claim_of(), claim_of())


def claims_none():
    return ()


def component(name, function, prefix="waves", version="1.0"):
    path = f"{HERE}:{function}" if function else None
    more = dict(claims=path, plugin=prefix, distribution=f"genpath-{prefix}", version=version)
    return Component("path", f"{prefix}.{name}", "collections:Counter", **more)


ROOT = component("root", "claims_root")
KNOWN = Registry(
    [ROOT, component("plain", ""), component("still", "claims_idle", "calm")],
    [PluginRecord("waves", "genpath-waves", "1.0", "ok"),
     PluginRecord("broken", "genpath-broken", "1.0", "failed", "no torch")],
    topics=[Topic("waves.tides", f"{HERE}:claims_wrong", "tides", "genpath-waves", "1.0", "waves")],
)  # fmt: skip


class TestFinding:
    @pytest.mark.parametrize(
        ("targets", "names"),
        [
            ((), ["waves.tides/wrong", "path.calm.still/idle", "path.waves.root/root",
                  "path.waves.root/cube-root"]),
            (("waves",), ["waves.tides/wrong", "path.waves.root/root",
                          "path.waves.root/cube-root"]),
            (("waves.tides",), ["waves.tides/wrong"]),
            (("path.waves.root",), ["path.waves.root/root", "path.waves.root/cube-root"]),
            (("path.waves.root/cube-root",), ["path.waves.root/cube-root"]),
            (("cube-root",), ["path.waves.root/cube-root"]),
            (("waves/cube-root",), ["path.waves.root/cube-root"]),
            (("D.17",), ["path.waves.root/root"]),
            (("idle", "waves.tides"), ["waves.tides/wrong", "path.calm.still/idle"]),
        ],
    )  # fmt: skip
    def test_every_kind_of_target(self, targets, names):
        assert [bound.name for bound in claims_of(*targets, among=KNOWN)] == names

    @pytest.mark.parametrize(
        ("target", "words"),
        [
            ("wave", "did you mean 'waves'"),
            ("path.waves.rot", "did you mean 'path.waves.root'"),
            ("waves.tide", "did you mean 'waves.tides'"),
            ("path.waves.root/rot", "did you mean 'root'|did you mean 'path.waves.root/root'"),
            ("waves/cube-rot", "waves has no such claim(.|\n)*'path.waves.root/cube-root'"),
            ("path.waves.plain", "it has no claims"),
            ("broken", "did not load"),
            ("D.18", "ledger entry with claims has this name"),
            ("no-such-claim", "no plugin, component, topic, claim"),
        ],
    )
    def test_its_misspelling(self, target, words):
        with pytest.raises(UnknownComponentError, match=words):
            claims_of(target, among=KNOWN)

    @pytest.mark.parametrize("function", ["claims_twice", "claims_none"])
    def test_claims_that_are_none_or_have_one_name(self, function):
        with pytest.raises(PluginError, match="its claims are different"):
            claims_of(among=Registry([component("root", function)]))


# -- records -----------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("GENPATH_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


class TestRecords:
    def verdicts(self, function=claims_root):
        return [run(claim, fast=True, search=False) for claim in function()]

    def bound(self, verdicts):
        return [replace(v, bound=replace(v.bound, subject=ROOT.subject)) for v in verdicts]

    def test_no_claim_claimed_verified_failed_and_another_version(self, state):
        assert standing(component("plain", "")) == "no claim"
        assert standing(ROOT) == "claimed"
        record([ROOT], self.bound(self.verdicts()), "2025-01-31")
        assert standing(ROOT) == "verified 1.0, 2025-01-31"
        assert standing(replace(ROOT, version="1.1")) == "claimed"
        record([ROOT], self.bound(self.verdicts(claims_wrong)), "2025-02-01")
        assert standing(ROOT) == "failed 1.0, 2025-02-01"
        (kept,) = read_records().values()
        assert len(kept.pop("code")) == 16
        assert kept == {"version": "1.0", "date": "2025-02-01", "passed": False, "claims": 1,
                        "seed": 0, "fast": True}  # fmt: skip

    def test_changed_code_is_claimed_again(self, state):
        record([ROOT], self.bound(self.verdicts()), "2025-01-31")
        kept = read_records()
        for value in kept.values():
            value["code"] = "of another day"
        (state / "verified.json").write_text(json.dumps(kept))
        assert standing(ROOT) == "claimed"

    def test_what_was_not_run_is_not_recorded(self, state):
        record([ROOT], [], "2025-01-31")
        assert read_records() == {}

    @pytest.mark.parametrize("text", ["", "not json", "[]", '{"genpath-waves path.waves.root": 3}'])
    def test_an_unreadable_file_counts_as_none(self, state, text):
        state.mkdir()
        (state / "verified.json").write_text(text)
        assert standing(ROOT) == "claimed"

    def test_a_folder_that_cannot_be_written(self, state):
        state.write_text("a file where the folder should be")
        with pytest.raises(RunError, match="state"):
            record([ROOT], self.bound(self.verdicts()), "2025-01-31")

    def test_where_it_is(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GENPATH_STATE", str(tmp_path / "named"))
        assert state_folder() == tmp_path / "named"
        monkeypatch.delenv("GENPATH_STATE")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert state_folder() == tmp_path / "genpath"


class TestCoverage:
    def test_a_cited_entry_is_covered_and_a_strange_one_is_named(self):
        entries = ledger()
        assert len({entry.entry for entry in entries}) == len(entries) > 400
        cited = claim_of(entries=("D.17", "Z.99"), owes="density")
        constructions = ["path.waves.root", "path.waves.bare"]
        found = report([Bound(cited, "path.waves.root")], constructions)
        lines = "\n".join(found).splitlines()
        assert lines[-1] == f"covered 1 of {len(entries)}"
        assert "not in the ledger: Z.99 (path.waves.root/root)" in lines
        row = next(line for line in lines if line.startswith("path.waves.root"))
        assert "owes existence, reverse, minimiser, control" in row
        bare = next(line for line in lines if line.startswith("path.waves.bare"))
        assert "owes existence, density, reverse, minimiser, control" in bare
        assert list(report([]))[-1].startswith("covered 0 of")


# -- the command -------------------------------------------------------------------------------


@pytest.fixture
def known(state, monkeypatch):
    monkeypatch.setattr("genpath.cli.verifying.discovered", lambda command: KNOWN)
    return KNOWN


class TestVerify:
    @pytest.mark.parametrize(
        ("targets", "status", "words"),
        [
            (["path.waves.root"], 0, "2 of 2 claims hold, 2 of 2 controls rejected"),
            (["waves.tides"], 1, "FAILED waves.tides/wrong: The root of 4 is 2."),
            (["path.calm.still"], 1, "control passed: nothing"),
            (["waves"], 1, "2 of 3 claims hold"),
            (["path.waves.root", "--seeds", "2"], 0, "seeds 0 to 1: 2 claims each, 0 failed"),
            (["path.calm.still", "--seeds", "2"], 1, "2 with a control that passed"),
            (["waves.tides", "--seeds", "2"], 1, "2 failed"),
            (["--coverage"], 0, "covered 1 of"),
        ],
    )
    def test_exit_status(self, known, capsys, targets, status, words):
        assert main(["verify", "--fast", *targets]) == status
        assert words in capsys.readouterr().out

    def test_a_wrong_name_is_a_mistake_of_the_user(self, known, capsys):
        assert main(["verify", "wave"]) == 2
        assert "did you mean 'waves'" in capsys.readouterr().err

    def test_it_records_whole_sets_only(self, known, capsys):
        assert main(["verify", "--fast", "path.waves.root/root"]) == 0
        assert standing(ROOT) == "claimed"
        assert main(["verify", "--fast", "path.waves.root"]) == 0
        assert standing(ROOT).startswith("verified 1.0, ")

    def test_a_folder_that_cannot_be_written_is_a_note(self, known, state, capsys):
        state.write_text("a file where the folder should be")
        assert main(["verify", "--fast", "path.waves.root"]) == 0
        assert "note: the result was not recorded" in capsys.readouterr().err

    def test_json(self, known, tmp_path, capsys):
        file = tmp_path / "deep" / "claims.json"
        assert main(["verify", "--fast", "--seed", "7", "--json", str(file), "waves"]) == 1
        data = json.loads(file.read_text())
        assert data["seed"] == 7 and data["fast"] is True and data["passed"] is False
        names = {claim["name"]: claim["passed"] for claim in data["claims"]}
        assert names == {
            "waves.tides/wrong": False,
            "path.waves.root/root": True,
            "path.waves.root/cube-root": True,
        }
        root = next(c for c in data["claims"] if c["name"] == "path.waves.root/root")
        assert root["entries"] == ["D.17"] and root["controls"][0]["rejected"] is True
        assert root["evidence"][0]["what"] == "√4" and root["evidence"][0]["passed"] is True
        assert (root["distribution"], root["version"]) == ("genpath-waves", "1.0")

    def test_fail_fast_stops(self, known, capsys):
        assert main(["verify", "--fast", "--fail-fast"]) == 1
        assert "0 of 1 claims hold" in capsys.readouterr().out


def test_the_number_of_workers_changes_no_number(tmp_path, monkeypatch):
    monkeypatch.setenv("GENPATH_STATE", str(tmp_path))
    found = []
    for jobs in ("1", "2"):
        path = tmp_path / f"{jobs}.json"
        command = ["verify", "schedule.cosine", "law.gaussian", "--fast", "--jobs", jobs]
        assert main([*command, "--seed", "3", "--json", str(path)]) == 0
        claims = json.loads(path.read_text())["claims"]
        # a quick check is searched further: how quick it was is not a matter of numbers
        found.append([(c["name"], c["evidence"], c["controls"]) for c in claims])
    assert found[0] == found[1] and len(found[0]) > 5


def test_a_claim_whose_distribution_is_missing_is_left_out_and_said_to_be(capsys):
    claim = claim_of(requires=("no_such_module",))
    verdict = run_claim(Bound(claim, "schedule.mine"))
    assert verdict.passed and not verdict.holds and not verdict.evidence
    print_table([verdict], seed=0, fast=True)
    said = capsys.readouterr().out
    assert "no_such_module is not installed" in said
    assert "0 of 1 claims hold, 1 not measured" in said


# -- claims as tests ---------------------------------------------------------------------------


def pytest_in(folder, *arguments):
    env = {**os.environ, "GENPATH_STATE": str(folder / "state"), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_pytest_runs_the_claims_that_it_is_asked_for(tmp_path):
    found = pytest_in(tmp_path, "--genpath-claims", "schedule.cosine", "-v")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "cosine/rates PASSED" in found.stdout
    assert "cosine/geodesic PASSED" in found.stdout


def test_pytest_names_a_target_that_is_wrong(tmp_path):
    found = pytest_in(tmp_path, "--genpath-claims", "schedule.cosin")
    assert found.returncode != 0
    assert "did you mean 'schedule.cosine'" in found.stdout + found.stderr


def test_an_unrelated_run_of_pytest_imports_nothing_heavy(tmp_path):
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_it(request):\n"
        "    assert request.config.pluginmanager.has_plugin('genpath')\n"
        "    heavy = {'torch', 'hypothesis', 'genpath.testing.claims'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    found = pytest_in(tmp_path, "test_other.py")
    assert found.returncode == 0, found.stdout + found.stderr
