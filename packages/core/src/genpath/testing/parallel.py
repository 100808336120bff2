"""Claims on several processors: each worker finds the claims for itself and runs them by name.

A claim holds functions, which do not travel between processes; its name and its verdict do. What a
claim measures depends on its name and the seed alone: the number of workers changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

from .running import Bound, Verdict, run_claims

__all__ = ["run_in_parallel", "workers"]

FEW = 16
"""So many claims are run in this process: a worker needs seconds to import torch."""

_known: dict[str, Bound] = {}


def workers(claims: int, asked: int | None = None) -> int:
    """How many processes to use: as many as asked for, else one per processor, at most eight.

    Example:
        >>> workers(3), workers(1000, asked=2)
        (1, 2)
    """
    if asked is not None:
        return max(asked, 1)
    return 1 if claims <= FEW else min(os.cpu_count() or 1, 8)


def run_in_parallel(
    bounds: Sequence[Bound],
    processes: int,
    *,
    seed: int = 0,
    fast: bool = False,
    search: bool = True,
    without: Sequence[str] = (),
    tell: Callable[[Bound], None] = lambda bound: None,
) -> Iterator[Verdict]:
    """The verdicts, as they come.

    Args:
        bounds: claims of installed plugins.
        processes: how many workers.
        seed, fast, search: as for `run_claims`.
        without: plugins that the workers leave out, as this process does.
        tell: hears of each claim when its verdict has come.
    """
    by_name = {bound.name: bound for bound in bounds}
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin, (tuple(without),))
    try:
        waiting: list[Future[Verdict]] = [
            pool.submit(_run, name, seed, fast, search) for name in by_name
        ]
        for future in as_completed(waiting):
            verdict = future.result()
            bound = by_name[verdict.bound.name]
            tell(bound)
            yield replace(verdict, bound=bound)
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(without: tuple[str, ...]) -> None:
    """In a worker: one thread, and the claims that there are."""
    import torch

    from genpath.plugins import discover, using

    from .finding import claims_of

    torch.set_num_threads(1)
    known = discover(without=without)
    _known.update({bound.name: bound for bound in claims_of(among=known)})
    using(known).__enter__()  # for as long as the worker lives


def _run(name: str, seed: int, fast: bool, search: bool) -> Verdict:
    """In a worker: one claim; its verdict without its functions."""
    bound = _known[name]
    (verdict,) = run_claims([bound], seed=seed, fast=fast, search=search)
    return replace(verdict, bound=replace(bound, claim=_Name(bound.claim.name)))  # type: ignore[arg-type]


class _Name:
    """What is left of a claim on its way: its name."""

    def __init__(self, name: str) -> None:
        self.name: Any = name
