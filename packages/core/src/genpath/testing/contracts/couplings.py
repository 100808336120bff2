r"""What every coupling owes: its marginals stay what they are, whatever is paired with what.

    (x0, x1) ~ ν:    E f(x0) = E_base f,    E f(x1) = E_data f      for random f = cos(b·x + c)

The two sides are compared with independent draws of the two laws. All leaves of a state enter f,
facts as well: a fact that is torn from its row changes the joint law.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.laws import Empirical
from genpath.states import State, batch_size, concatenate, leaves

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, exact, mean
from ._leaves import flat, repeated, waves

__all__ = ["coupling"]


def coupling(
    make: Callable[[], Any],
    *,
    base: Any = None,
    data: Any = None,
    batch: int = 256,
    batches: int = 32,
    entries: Sequence[str] = (),
) -> tuple[Claim[Any], ...]:
    """The claims that every coupling owes.

    Args:
        make: makes the coupling.
        base, data: the laws of x0 and x1; None for an end that is known to be another law (that of
            a model's samples). One of them at least is not a single point.
        batch: how many pairs are drawn at once; couplings that pair within a batch owe their
            marginals for every size.
        batches: how many times.
        entries: of the ledger, for the claim ``marginals``.

    Returns:
        Claims ``rows`` and ``marginals``; ``facts`` where x1 is a dict with two leaves or more:
        row by row where the data law is `Empirical`, else by the joint law, whose leaves must then
        depend on each other for a torn row to be seen.

    Example:
        >>> from genpath.couplings import Independent
        >>> from genpath.laws import Gaussian
        >>> base, data = Gaussian((2,)), Gaussian((2,), mean=1.0)
        >>> found = coupling(lambda: Independent(base, data), base=base, data=data)
        >>> [claim.name for claim in found]
        ['rows', 'marginals']
    """
    pairs = make().pairs(8, torch.Generator().manual_seed(0))
    claims = [_rows(make, base, data), _marginals(make, base, data, batch, batches, entries)]
    if data is not None and isinstance(pairs.x1, Mapping) and len(pairs.x1) > 1:
        claims.append(_facts(make, data, batch, batches))
    return tuple(claims)


def _form(state: State) -> list[tuple[Any, ...]]:
    names = [""] if isinstance(state, Tensor) else list(state)
    form = [(leaf.shape[1:], leaf.dtype) for leaf in leaves(state)]
    return sorted(zip(names, form, strict=True), key=lambda item: item[0])


def _rows(make: Callable[[], Any], base: Any, data: Any) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        first, again = (thing.pairs(16, trial.rng("pairs")) for _ in range(2))
        for name, law in (("x0", base), ("x1", data)):
            found = getattr(first, name)
            yield exact(f"the seed fixes {name}", flat(found), flat(getattr(again, name)))
            yield exact(f"rows of {name}", batch_size(found), 16)
            yield exact(f"{name} carries no gradient", any(x.requires_grad for x in leaves(found)),
                        False)  # fmt: skip
            if law is not None:
                form = _form(law.sample(1, trial.rng(name)))
                yield exact(f"leaves, shapes and dtypes of {name}", _form(found), form)
        for count in (0, 1):
            few = thing.pairs(count, trial.rng("few"))
            sizes = (batch_size(few.x0), batch_size(few.x1))
            yield exact(f"{count} pairs", sizes, (count, count))

    def long(thing: Any) -> Any:
        return but(thing, pairs=lambda count, rng: thing.pairs(count + 1, rng))

    return Claim(
        "rows",
        "Pairs come in the number asked for, none included, with the leaves, shapes and dtypes of "
        "their laws and without gradients; the seed fixes them.",
        make,
        check,
        (Control("one pair too many", long),),
    )


def _many(thing: Any, trial: Trial, batch: int, batches: int) -> Pairs:
    rng = trial.rng("pairs")
    found = [thing.pairs(batch, rng) for _ in range(trial.count(batches))]
    return Pairs(concatenate([p.x0 for p in found]), concatenate([p.x1 for p in found]))


def _against(what: str, found: State, law: Any, trial: Trial) -> Evidence:
    """Means of random functions of all leaves, against as many independent draws of the law."""
    rows = flat(found)
    fresh = flat(law.sample(len(rows), trial.rng(f"law {what}")))
    size = fresh.std(0).clamp_min(1e-12) if len(fresh) > 1 else 1.0
    f = waves(fresh / size, 16, trial.rng(f"waves {what}"))
    return mean(what, f(rows / size) - f(fresh / size), torch.zeros(16))


def _marginals(
    make: Callable[[], Any],
    base: Any,
    data: Any,
    batch: int,
    batches: int,
    entries: Sequence[str],
) -> Claim[Any]:
    sides = [(name, law) for name, law in (("x0", base), ("x1", data)) if law is not None]

    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        pairs = _many(thing, trial, batch, batches)
        for name, law in sides:
            yield _against(f"E f({name})", getattr(pairs, name), law, trial)

    def crowd(thing: Any, size: float) -> Any:
        def pairs(count: int, rng: torch.Generator) -> Pairs:
            found = thing.pairs(count, rng)
            return Pairs(repeated(found.x0, size), repeated(found.x1, size))

        return but(thing, pairs=pairs)

    def swapped(thing: Any) -> Any:
        def pairs(count: int, rng: torch.Generator) -> Pairs:
            found = thing.pairs(count, rng)
            return Pairs(found.x1, found.x0)

        return but(thing, pairs=pairs)

    alike = len(sides) == 2 and _form(base.sample(1, torch.Generator())) == _form(
        data.sample(1, torch.Generator())
    )
    return Claim(
        "marginals",
        "The pairing changes no marginal: x0 follows the base law and x1, with its facts, the data "
        "law.",
        make,
        check,
        (
            dial("a share δ of the pairs is the batch's first", crowd),
            *((Control("x0 and x1 are swapped", swapped),) if alike else ()),
        ),
        formula=r"\nu(\mathrm{d}x_0 \times X) = \rho_0, \qquad "
        r"\nu(X \times \mathrm{d}x_1) = \rho_1",
        entries=entries,
    )


def _facts(make: Callable[[], Any], data: Any, batch: int, batches: int) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Evidence:
        found = _many(thing, trial, batch, batches).x1
        if isinstance(data, Empirical):
            return exact("rows of x1 that are no row of the data", _strangers(found, data.rows), 0)
        return _against("E f(x1, its facts)", found, data, trial)

    def torn(thing: Any) -> Any:
        def pairs(count: int, rng: torch.Generator) -> Pairs:
            found = thing.pairs(count, rng)
            names = list(found.x1)
            last = {names[-1]: found.x1[names[-1]].roll(1, 0)}
            return Pairs(found.x0, {**found.x1, **last})

        return but(thing, pairs=pairs)

    return Claim(
        "facts",
        "The facts of x1 stay with their row.",
        make,
        check,
        (Control("the last leaf is shifted by one row", torn),),
    )


def _strangers(found: State, rows: State) -> int:
    """How many rows are not among the others."""
    every = torch.cat([flat(found), flat(rows)])
    code = torch.unique(every, dim=0, return_inverse=True)[1]
    count = batch_size(found)
    return int((~torch.isin(code[:count], code[count:])).sum())
