r"""Claims: a statement, the thing that it justifies, a check that measures it, and controls.

    check(make(), trial)            → evidence that must pass
    check(plant(make()), trial)     → evidence that must fail, for every control

A control is the same check on a thing with one small fault: a sign, a dropped term, a factor of at
most 2. A check that no fault can fail proves nothing, so a claim without a control is refused. A
control with a dial plants faults of any size δ: the kit then finds the smallest that is seen.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Generic, Literal, TypeVar, cast

import torch

from genpath.errors import DomainError

from .evidence import Evidence

__all__ = ["OWED", "Claim", "Control", "Owed", "Trial", "but", "dial"]

Thing = TypeVar("Thing")

Owed = Literal["existence", "density", "reverse", "minimiser", "control", ""]

OWED: dict[str, str] = {
    "existence": "the path exists",
    "density": "its density equation",
    "reverse": "the reverse or score identity",
    "minimiser": "the objective's minimiser",
    "control": "what the approximation error controls",
}
"""The five things owed per construction, as the course owes them."""

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Trial:
    """What a check is given: its randomness, and how long it may take.

    Args:
        name: the claim's full name; claims draw independent numbers.
        seed: the seed of the run.
        fast: whether fewer samples must do.

    Example:
        >>> trial = Trial("path.waves.standing/stays", seed=1)
        >>> torch.equal(torch.rand(3, generator=trial.rng()), torch.rand(3, generator=trial.rng()))
        True
        >>> trial.count(40_000), Trial("x", fast=True).count(40_000)
        (40000, 10000)
    """

    name: str
    seed: int = 0
    fast: bool = False

    def rng(self, key: str = "", device: str | torch.device = "cpu") -> torch.Generator:
        """A generator that depends on seed, claim and ``key`` alone: a control sees the same."""
        text = f"{self.seed}/{self.name}/{key}".encode()
        seed = int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")
        return torch.Generator(device=device).manual_seed(seed)

    def count(self, full: int, fast: int | None = None) -> int:
        """How many samples: ``full``, or ``fast`` (a quarter if None) in a fast run."""
        return full if not self.fast else max(full // 4, 2) if fast is None else fast


@dataclass(frozen=True)
class Control(Generic[Thing]):
    """A small fault that the check must see.

    Args:
        name: what is wrong, in words; with a dial, δ stands for its size.
        plant: the thing with the fault; it must not change the thing that it is given.

    Example:
        >>> control = Control("the sign", lambda velocity: lambda t, x: -velocity(t, x))
        >>> control.planted(lambda t, x: x)(0.0, 2.0)
        -2.0
    """

    name: str
    plant: Callable[..., Thing]
    size: float | None = None

    def planted(self, thing: Thing, size: float | None = None) -> Thing:
        """The thing with the fault, of this size where there is a dial."""
        if self.size is None:
            return self.plant(thing)
        return self.plant(thing, self.size if size is None else size)

    def words(self, size: float | None = None) -> str:
        """The fault's name with its size."""
        size = self.size if size is None else size
        return self.name if size is None else self.name.replace("δ", f"{size:.2g}")


def dial(name: str, plant: Callable[[Thing, float], Thing], size: float = 1.0) -> Control[Thing]:
    """A control whose fault has a size δ: ``plant(thing, δ)``, with 0 for no fault.

    Args:
        name: what is wrong, with δ for its size: "velocity × (1 + δ)".
        plant: the thing with a fault of that size.
        size: δ of the control itself, at most 1.

    Raises:
        DomainError: the size is not in (0, 1].

    Example:
        >>> control = dial("velocity × (1 + δ)", lambda v, d: lambda t, x: (1 + d) * v(t, x))
        >>> control.words(), control.words(0.125)
        ('velocity × (1 + 1)', 'velocity × (1 + 0.12)')
    """
    if not 0 < size <= 1:
        raise DomainError(name, "a control is small: 0 < δ ≤ 1.", got=repr(size))
    return Control(name, plant, size)


@dataclass(frozen=True)
class Claim(Generic[Thing]):
    """A statement about something, with a check that measures it and controls that must fail.

    Args:
        name: lower-case words joined by ``-``; the full name is ``SUBJECT/name``.
        statement: one or two plain sentences.
        make: makes the thing under test, anew each time.
        check: (thing, trial) → evidence, one piece or several.
        controls: faults that the check must see, one or more.
        formula: the statement in LaTeX, for the page of claims.
        entries: up to three ids of the theory ledger whose *Verify by* the check performs.
        owes: which of the five things owed it settles, if any.
        requires: modules of optional distributions without which it cannot be measured; where one
            is not installed, the claim is left out, and said to be.

    Raises:
        DomainError: no control, more than three entries, or a name that is not plain.

    Example:
        >>> from genpath.testing import equal
        >>> def check(root, trial):
        ...     return equal("√4", root(torch.tensor(4.0)), torch.tensor(2.0))
        >>> double = dial("√x × (1 + δ)", lambda root, d: lambda x: (1 + d) * root(x))
        >>> claim = Claim("root", "The root of 4 is 2.", lambda: torch.sqrt, check, (double,))
        >>> [found.passed for found in claim.measure(torch.sqrt, Trial("root"))]
        [True]
    """

    name: str
    statement: str
    make: Callable[[], Thing]
    check: Callable[[Thing, Trial], Evidence | Iterable[Evidence]]
    controls: Sequence[Control[Thing]]
    formula: str = ""
    entries: Sequence[str] = ()
    owes: Owed = ""
    requires: Sequence[str] = ()

    def __post_init__(self) -> None:
        where = f"claim {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise DomainError(where, "a name is lower-case words joined by -.", got=self.name)
        if not self.controls:
            raise DomainError(
                where,
                "a claim has a control: the same check on a slightly broken thing must fail.",
                fix="add Control(name, plant) or dial(name, plant)",
            )
        if isinstance(self.entries, str) or len(self.entries) > 3:
            raise DomainError(where, "a claim cites at most three entries.", got=str(self.entries))

    @property
    def missing(self) -> list[str]:
        """The required modules that are not installed."""
        return [name for name in self.requires if find_spec(name) is None]

    def measure(self, thing: Thing, trial: Trial) -> tuple[Evidence, ...]:
        """The evidence on a thing.

        Raises:
            DomainError: the check returned none.
        """
        found = self.check(thing, trial)
        evidence = (found,) if isinstance(found, Evidence) else tuple(found)
        if not evidence:
            raise DomainError(f"claim {self.name!r}", "a check returns evidence.", got="nothing")
        return evidence


def but(thing: Thing, **changed: Any) -> Thing:
    """A copy of a thing with some attributes replaced: the way to plant a fault.

    Functions replace methods and are called without ``self``. The copy's own methods see them too.

    Args:
        thing: an instance of an ordinary class, which is left as it was.
        changed: name → function or value.

    Example:
        >>> from genpath import Gaussian
        >>> law = Gaussian((1,))
        >>> doubled = but(law, sample=lambda n, rng: 2 * law.sample(n, rng))
        >>> rng = lambda: torch.Generator().manual_seed(0)
        >>> torch.equal(doubled.sample(3, rng()), 2 * law.sample(3, rng()))
        True
    """
    members = {k: staticmethod(v) if callable(v) else v for k, v in changed.items()}
    altered = copy.copy(thing)
    kind = type(thing)
    base = cast(Any, type(kind.__name__, (kind,), {**members, "__module__": kind.__module__}))
    object.__setattr__(altered, "__class__", base)
    for name in changed:
        vars(altered).pop(name, None)  # an instance's own value would hide the new one
    return altered
