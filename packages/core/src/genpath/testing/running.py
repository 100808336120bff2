"""Running claims: each measured, each control planted, and the smallest fault that is seen.

A claim holds where all its evidence passes and every control is rejected. What a check or a control
raises is a failure of the claim and not of the run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from genpath.errors import GenpathError

from .claims import Claim, Control, Trial
from .evidence import FALSE_ALARM, Evidence

__all__ = ["Bound", "ControlResult", "Verdict", "false_alarm", "run_claim", "run_claims"]

HALVINGS = 24
"""The smallest fault that is looked for is 2^-24 of the control."""


@dataclass(frozen=True)
class Bound:
    """A claim with what it is about.

    Args:
        claim: the claim.
        subject: the component ``KIND.NAME``, or the topic ``PLUGIN.NAME``, that it justifies.
        plugin: the plugin that brought it.
        distribution, version: of that plugin.
    """

    claim: Claim[Any]
    subject: str
    plugin: str = ""
    distribution: str = ""
    version: str = ""

    @property
    def name(self) -> str:
        """``SUBJECT/claim``."""
        return f"{self.subject}/{self.claim.name}"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ControlResult:
    """What became of one control: the worst evidence on the broken thing."""

    name: str
    rejected: bool
    excess: float
    error: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of one claim.

    Args:
        bound: the claim.
        evidence: what was measured.
        controls: what became of the controls.
        detects: the smallest fault seen, in words and size, where it was looked for.
        error: what the check raised.
        left_out: why it was not measured, where an optional distribution is not installed.
        seconds: what it took.
    """

    bound: Bound
    evidence: tuple[Evidence, ...] = ()
    controls: tuple[ControlResult, ...] = ()
    detects: tuple[str, float] | None = None
    error: str = ""
    left_out: str = ""
    seconds: float = 0.0
    seed: int = 0
    fast: bool = False

    @property
    def holds(self) -> bool:
        """Whether the evidence itself passes."""
        return not self.error and bool(self.evidence) and all(e.passed for e in self.evidence)

    @property
    def rejects(self) -> bool:
        """Whether every control is rejected."""
        return bool(self.controls) and all(control.rejected for control in self.controls)

    @property
    def passed(self) -> bool:
        """Whether the claim holds and its controls are rejected; also if it was left out."""
        return bool(self.left_out) or (self.holds and self.rejects)

    @property
    def worst(self) -> Evidence | None:
        """The evidence with the largest excess."""
        return max(self.evidence, key=lambda e: e.excess, default=None)

    @property
    def smallest(self) -> str:
        """The smallest fault that was rejected, in words."""
        if self.detects is not None:
            return self.detects[0]
        rejected = [control for control in self.controls if control.rejected]
        return min(rejected, key=lambda c: c.excess).name if rejected else ""

    def faults(self) -> list[str]:
        """What is wrong, one line each; nothing where the claim passed."""
        lines = [f"the check raised {self.error}"] if self.error else []
        lines += [
            f"{e.what}: {e.estimate:.6g} against {e.reference:.6g}, tolerance {e.tolerance:.3g} "
            f"({e.because})"
            for e in self.evidence
            if not e.passed
        ]
        lines += [
            f"control passed: {c.name}" if not c.error else f"control {c.name!r} raised {c.error}"
            for c in self.controls
            if not c.rejected
        ]
        return lines

    def require(self) -> None:
        """Raise an `AssertionError` that says what is wrong; for a test.

        Raises:
            AssertionError: the claim did not pass.
        """
        if not self.passed:
            lines = "\n  ".join(self.faults())
            raise AssertionError(f"{self.bound.name}: {self.bound.claim.statement}\n  {lines}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        claim = self.bound.claim
        return {
            "name": self.bound.name,
            "plugin": self.bound.plugin,
            "distribution": self.bound.distribution,
            "version": self.bound.version,
            "subject": self.bound.subject,
            "statement": claim.statement,
            "formula": claim.formula,
            "entries": list(claim.entries),
            "owes": claim.owes,
            "passed": self.passed,
            "error": self.error,
            "left_out": self.left_out,
            "seconds": round(self.seconds, 3),
            "evidence": [evidence.to_dict() for evidence in self.evidence],
            "controls": [vars(control) for control in self.controls],
            "detects": None
            if self.detects is None
            else {"fault": self.detects[0], "size": self.detects[1]},
        }


@dataclass
class _Clock:
    start: float = field(default_factory=time.perf_counter)

    def __call__(self) -> float:
        return time.perf_counter() - self.start


def run_claim(bound: Bound, *, seed: int = 0, fast: bool = False, search: bool = True) -> Verdict:
    """Measure a claim, plant its controls, and look for the smallest fault that is seen.

    Args:
        bound: the claim with its subject.
        seed: the seed of the run.
        fast: fewer samples; the smallest fault is looked for only where the check is quick.
        search: whether the smallest fault is looked for at all.

    Example:
        >>> from genpath.testing import Claim, dial, equal
        >>> def check(root, trial):
        ...     return equal("√4", root(torch.tensor(4.0)), torch.tensor(2.0), operations=2)
        >>> double = dial("√x × (1 + δ)", lambda root, d: lambda x: (1 + d) * root(x))
        >>> claim = Claim("root", "The root of 4 is 2.", lambda: torch.sqrt, check, (double,))
        >>> verdict = run_claim(Bound(claim, "schedule.mine"))
        >>> verdict.passed, verdict.smallest
        (True, '√x × (1 + 4.8e-07)')
    """
    claim, trial, clock = bound.claim, Trial(bound.name, seed, fast), _Clock()
    if claim.missing:
        left_out = f"{' and '.join(claim.missing)} is not installed"
        return Verdict(bound, left_out=left_out, seed=seed, fast=fast)
    try:
        thing = claim.make()
        evidence = claim.measure(thing, trial)
    except Exception as error:
        return Verdict(bound, error=_words(error), seconds=clock(), seed=seed, fast=fast)
    once = clock()
    controls = tuple(_plant(claim, control, trial) for control in claim.controls)
    detects = None
    if search and all(e.passed for e in evidence) and (not fast or once < 0.02):
        detects = _smallest(claim, controls, trial)
    return Verdict(bound, evidence, controls, detects, "", "", clock(), seed, fast)


def _plant(claim: Claim[Any], control: Control[Any], trial: Trial) -> ControlResult:
    try:
        thing = control.planted(claim.make())
    except Exception as error:
        return ControlResult(control.words(), False, 0.0, _words(error))
    try:
        excess = max(evidence.excess for evidence in claim.measure(thing, trial))
    except GenpathError as error:
        # the broken thing was refused by a check of ours: it was seen
        return ControlResult(control.words(), True, math.inf, _words(error))
    except Exception as error:
        return ControlResult(control.words(), False, 0.0, _words(error))
    return ControlResult(control.words(), excess > 1, excess)


def _smallest(
    claim: Claim[Any], results: tuple[ControlResult, ...], trial: Trial
) -> tuple[str, float] | None:
    """The smallest δ = size/2^k that the first rejected dial still shows, by bisection over k."""
    for control, result in zip(claim.controls, results, strict=True):
        if control.size is None or not result.rejected:
            continue

        def seen(k: int, control: Control[Any] = control) -> bool:
            assert control.size is not None
            try:
                thing = control.planted(claim.make(), control.size / 2**k)
                return max(evidence.excess for evidence in claim.measure(thing, trial)) > 1
            except Exception:
                return False

        low, high = 0, HALVINGS + 1  # seen at low; not seen at high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if seen(middle) else (low, middle)
        size = control.size / 2**low
        return control.words(size), size
    return None


def run_claims(
    claims: Iterable[Bound],
    *,
    seed: int = 0,
    fast: bool = False,
    search: bool = True,
    tell: Callable[[Bound], None] = lambda bound: None,
) -> Iterator[Verdict]:
    """Run claims one after another; ``tell`` hears of each before it begins.

    The default dtype of torch and its global random state are as before afterwards.
    """
    for bound in claims:
        tell(bound)
        dtype, state = torch.get_default_dtype(), torch.get_rng_state()
        try:
            yield run_claim(bound, seed=seed, fast=fast, search=search)
        finally:
            torch.set_default_dtype(dtype)
            torch.set_rng_state(state)


def false_alarm(verdicts: Iterable[Verdict]) -> float:
    """A bound on the probability that some claim fails by chance: α per random evidence."""
    return FALSE_ALARM * sum(e.random for verdict in verdicts for e in verdict.evidence)


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
