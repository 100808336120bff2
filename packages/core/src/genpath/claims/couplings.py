"""Claims of the core's couplings: in-batch, stored and simulated pairs, with facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from genpath.couplings import Independent, Pairs, Simulated, Stored
from genpath.laws import Empirical, Gaussian, ProductLaw
from genpath.testing import Claim, Control, Evidence, Trial, but, contracts, dial, exact, mean

__all__ = ["independent", "pairings"]

DOUBLE = torch.float64
BASE = Gaussian((2,), dtype=DOUBLE)
DATA = Gaussian((2,), 1.0, 0.5, dtype=DOUBLE)


def _labelled() -> Empirical:
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    return Empirical({"x": x, "label": torch.arange(500)})


def independent() -> tuple[Claim[Any], ...]:
    """Claims of ``coupling.independent``."""
    rows, base = _labelled(), ProductLaw({"x": BASE})
    labelled = contracts.coupling(lambda: Independent(base, rows), base=base, data=rows)
    plain = contracts.coupling(
        lambda: Independent(BASE, DATA), base=BASE, data=DATA, entries=("L1.3",)
    )
    return (*plain, *contracts.named("labelled", labelled), _apart())


def _apart() -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Evidence:
        pairs = thing.pairs(trial.count(20_000), trial.rng())
        x0, x1 = pairs.x0, (pairs.x1 - 1.0) / 0.5
        products = torch.cat([x0 * x1, x0 * x1.roll(1, 1), x0.cos() * x1.sin()], 1)
        return mean("E f(x0) g(x1) where E g = 0", products, torch.zeros(6))

    def tied(thing: Any, size: float) -> Any:
        def pairs(count: int, rng: torch.Generator) -> Pairs:
            found = thing.pairs(count, rng)
            mixed = (1 - size**2) ** 0.5 * found.x0 + size * (found.x1 - 1.0) / 0.5
            return Pairs(mixed, found.x1)

        return but(thing, pairs=pairs)

    return Claim(
        "independent",
        "x0 and x1 are independent: products of functions of mean 0 have mean 0.",
        lambda: Independent(BASE, DATA),
        check,
        (dial("correlation δ with the right marginals", tied, 0.5),),
        formula=r"\nu = \rho_0 \times \rho_1",
    )


def _stored() -> Stored:
    x0 = torch.randn(300, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    return Stored(x0, {"x": x0 + 3.0, "label": torch.arange(300)})


def pairings() -> tuple[Claim[Any], ...]:
    """Claims of the couplings that no config names: `Stored` and `Simulated`."""
    ends = _stored()
    stored = contracts.coupling(_stored, base=Empirical(ends.x0), data=Empirical(ends.x1))
    shift = 1.0

    def forwards() -> Simulated:
        return Simulated(BASE, lambda x, rng: shift + 0.5 * x)

    def backwards() -> Simulated:
        return Simulated(DATA, lambda x, rng: (x - shift) / 0.5, start_is_base=False)

    return (
        *contracts.named("stored", stored),
        *contracts.named("simulated", contracts.coupling(forwards, base=BASE, data=DATA)),
        *contracts.named("reversed", contracts.coupling(backwards, base=BASE, data=DATA)),
        _kept("stored", "A stored pair stays a pair.", _stored, _gap_stored),
        _kept("forwards", "x1 is made from its own x0.", forwards, _gap_made),
        _kept("backwards", "x0 is made from its own x1.", backwards, _gap_made),
        _detached(),
    )


def _gap_stored(pairs: Pairs) -> torch.Tensor:
    x1: Any = pairs.x1
    gap: torch.Tensor = x1["x"] - pairs.x0 - 3.0
    return gap


def _gap_made(pairs: Pairs) -> torch.Tensor:
    x0: Any = pairs.x0
    gap: torch.Tensor = pairs.x1 - (1.0 + 0.5 * x0)
    return gap


def _kept(name: str, statement: str, make: Any, gap: Any) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Evidence:
        far = gap(thing.pairs(64, trial.rng())).abs().max()
        return exact("pairs that were torn", bool(far > 1e-12), False)

    def torn(thing: Any) -> Any:
        def pairs(count: int, rng: torch.Generator) -> Pairs:
            found = thing.pairs(count, rng)
            return Pairs(found.x0.roll(1, 0), found.x1)

        return but(thing, pairs=pairs)

    return Claim(
        f"{name}-pairs", statement, make, check, (Control("x0 is shifted by one row", torn),)
    )


def _detached() -> Claim[Any]:
    weight = torch.ones(1, dtype=DOUBLE, requires_grad=True)

    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        pairs = thing.pairs(3, trial.rng())
        for name, end in (("x0", pairs.x0), ("x1", pairs.x1)):
            yield exact(f"{name} carries a gradient", end.requires_grad, False)

    def attached(thing: Any) -> Any:
        def pairs(count: int, rng: torch.Generator) -> Pairs:
            x0 = thing.start.sample(count, rng)
            return Pairs(x0, thing.simulate(x0, rng))

        return but(thing, pairs=pairs)

    return Claim(
        "simulated-detached",
        "The simulated end carries no gradient: it is data for the next model.",
        lambda: Simulated(BASE, lambda x, rng: weight * x),
        check,
        (Control("gradients flow through the simulation", attached),),
    )
