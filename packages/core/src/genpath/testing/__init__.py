r"""The conformance kit: claims, the checks that measure them, and the controls that must fail.

    from genpath.testing import Claim, contracts, dial, equal

    def standing():                                     # the claims of path.waves.standing
        return (
            *contracts.path(make_path, endpoints=endpoints),      # what every path owes
            Claim("stays", "The path stays where it is.", make_path, check_stays, (faster,)),
        )

A plugin registers the function by its import path, ``claims="genpath_waves.claims:standing"``, and
``genpath verify waves`` measures it. Importing this package imports neither torch nor pytest.

    `claims`     what a claim is                `evidence`   what a check returns
    `contracts`  the claims that come with a kind            `running`    measuring and controls
    `finding`    from names to claims           `records`    what was verified, and when
    `coverage`   the theory ledger              `pytest_plugin`  claims as tests
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import contracts as contracts
    from .claims import (
        OWED as OWED,
        Claim as Claim,
        Control as Control,
        Trial as Trial,
        but as but,
        dial as dial,
    )
    from .evidence import (
        FALSE_ALARM as FALSE_ALARM,
        Evidence as Evidence,
        at_most as at_most,
        equal as equal,
        exact as exact,
        frequencies as frequencies,
        mean as mean,
        near as near,
        order as order,
        refusal as refusal,
    )
    from .finding import claims_of as claims_of
    from .running import (
        Bound as Bound,
        Verdict as Verdict,
        run_claim as run_claim,
        run_claims as run_claims,
    )

_HOMES = {
    "claims": ("OWED", "Claim", "Control", "Trial", "but", "dial"),
    "evidence": (
        "FALSE_ALARM",
        "Evidence",
        "at_most",
        "equal",
        "exact",
        "frequencies",
        "mean",
        "near",
        "order",
        "refusal",
    ),
    "finding": ("claims_of",),
    "running": ("Bound", "Verdict", "run_claim", "run_claims"),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "FALSE_ALARM",
    "OWED",
    "Bound",
    "Claim",
    "Control",
    "Evidence",
    "Trial",
    "Verdict",
    "at_most",
    "but",
    "claims_of",
    "contracts",
    "dial",
    "equal",
    "exact",
    "frequencies",
    "mean",
    "near",
    "order",
    "refusal",
    "run_claim",
    "run_claims",
]


def __getattr__(name: str) -> Any:
    if name == "contracts":
        return import_module("genpath.testing.contracts")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
