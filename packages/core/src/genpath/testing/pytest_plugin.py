"""Claims as tests, for those who ask: ``pytest --genpath-claims TARGET``.

Every claim of the targets becomes one test. Registered as an entry point, so this module is read by
every pytest run of an environment that has genpath: it imports nothing but pytest, and does nothing
unless it is asked (on the command line, or by ``genpath_claims`` in pytest's settings).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .running import Bound

__all__ = ["ClaimItem", "ClaimsCollector"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; the targets can also stand in pytest's settings."""
    group = parser.getgroup("genpath", "claims of genpath plugins")
    group.addoption(
        "--genpath-claims",
        action="append",
        default=[],
        metavar="TARGET",
        help="run the claims of a plugin, component, topic, or one claim (may be repeated)",
    )
    group.addoption("--genpath-seed", type=int, default=0, metavar="S", help="their seed")
    group.addoption("--genpath-full", action="store_true", help="with full sample sizes")
    parser.addini("genpath_claims", "targets whose claims are run as tests", "args", default=[])


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add one test per claim."""
    targets = [*config.getini("genpath_claims"), *config.getoption("genpath_claims")]
    if targets:
        collector = ClaimsCollector.from_parent(session, name="genpath-claims")
        items.extend(collector.claims(targets))


class ClaimsCollector(pytest.Collector):
    """Holds the tests of claims; pytest asks every item for its parent."""

    def collect(self) -> Iterable[pytest.Item]:
        """Nothing: `claims` makes the items."""
        return []

    def claims(self, targets: Iterable[str]) -> list[ClaimItem]:
        """One item per claim of the targets."""
        from .finding import claims_of

        return [
            ClaimItem.from_parent(self, name=bound.name, bound=bound)
            for bound in claims_of(*targets)
        ]


class ClaimItem(pytest.Item):
    """One claim as a test."""

    def __init__(self, *, bound: Bound, **more: Any) -> None:
        super().__init__(**more)
        self.bound = bound

    def runtest(self) -> None:
        """Measure the claim; fail with what is wrong."""
        from .running import run_claims

        seed = self.config.getoption("genpath_seed")
        fast = not self.config.getoption("genpath_full")
        for verdict in run_claims([self.bound], seed=seed, fast=fast, search=False):
            if verdict.left_out:
                pytest.skip(verdict.left_out)
            verdict.require()

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """An unmet claim says what is wrong; anything else shows its traceback."""
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Where the item is said to be."""
        return "genpath-claims", None, self.name
