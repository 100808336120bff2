r"""Evidence: what a check measured, against what, and how near it had to come.

    excess = |estimate − reference| / tolerance          it passes where excess ≤ 1

A tolerance is derived, never chosen until the check passes:

    `equal`        operations · ε(dtype) · scale                     rounding
    `near`         a bound that the author derives and states        truncation, quadrature
    `mean`         z_α(m) · s/√n + allowance                         Monte-Carlo means
    `frequencies`  the 1−α quantile of χ² with k−1 degrees           counts of a law on a finite set
    `order`        the spread of the local slopes                    convergence of a method
    `at_most`      the right side of an inequality                   bounds
    `exact`        0                                                 bits, shapes, refusals

Random evidence errs with probability at most α = `FALSE_ALARM`, over all the m numbers that it
compares (Bonferroni), where n is large enough for the central limit theorem. A run of fewer than
2000 pieces of random evidence hence raises a false alarm with probability below 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError

__all__ = [
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
]

FALSE_ALARM = 5e-7
"""α: the probability that one piece of random evidence fails although all is right."""


@dataclass(frozen=True)
class Evidence:
    """One comparison: the worst of the numbers that it compared.

    Args:
        what: what was measured, in words.
        estimate: what was found.
        reference: what it should be.
        tolerance: how far apart they may be.
        because: where the tolerance comes from.
        samples: how many draws, for random evidence.
        z: (estimate − reference) over its standard error, for a mean.
        bound: how large |z| may be.

    Example:
        >>> found = Evidence("∫ p", 1.01, 1.0, 0.005, "the midpoint rule")
        >>> found.passed, round(found.excess, 6)
        (False, 2.0)
    """

    what: str
    estimate: float
    reference: float
    tolerance: float
    because: str = ""
    samples: int | None = None
    z: float | None = None
    bound: float | None = None

    @property
    def excess(self) -> float:
        """|estimate − reference|/tolerance; 0/0 counts as 0, and a NaN as infinite."""
        gap = abs(self.estimate - self.reference)
        if self.estimate == self.reference:
            return 0.0
        if math.isnan(gap) or math.isnan(self.tolerance):
            return math.inf
        return gap / self.tolerance if self.tolerance > 0 else math.inf

    @property
    def passed(self) -> bool:
        """Whether the estimate is within the tolerance."""
        return self.excess <= 1

    @property
    def random(self) -> bool:
        """Whether it may fail by chance, with probability `FALSE_ALARM`."""
        return self.samples is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "excess": self.excess, "passed": self.passed}


def equal(
    what: str,
    estimate: Any,
    reference: Any,
    *,
    operations: float = 64,
    scale: float | None = None,
    because: str = "",
) -> Evidence:
    """Two ways to the same number differ by rounding only: operations · ε · scale.

    Args:
        what: what was measured.
        estimate, reference: tensors of one shape, or numbers (then float64).
        operations: how many roundings may add up. State the count of the longest chain.
        scale: the size of the numbers on the way; the largest |reference|, at least 1, if None.
        because: what the count stands for.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> equal("√2²", torch.tensor(2.0).sqrt() ** 2, torch.tensor(2.0), operations=2).passed
        True
    """
    found, true = _pair(what, estimate, reference)
    size = scale if scale is not None else max(_largest(true), 1.0)
    epsilon = torch.finfo(found.dtype).eps if found.dtype.is_floating_point else 0.0
    tolerance = operations * epsilon * size
    because = because or f"{operations:g} roundings of {str(found.dtype)[6:]} at size {size:.3g}"
    return _worst(what, found, true, tolerance, because)


def near(what: str, estimate: Any, reference: Any, tolerance: Any, because: str) -> Evidence:
    """The estimate lies within a tolerance that the author derived.

    Args:
        what: what was measured.
        estimate, reference: tensors of one shape, or numbers.
        tolerance: a number, or a tensor of that shape.
        because: the derivation, in a few words: "h² f⁗/12 of the central difference, h = 1e-3".

    Example:
        >>> near("e", (1 + 1e-4) ** 1e4, math.e, 1.4e-4, "e/(2n) of the compound interest").passed
        True
    """
    found, true = _pair(what, estimate, reference)
    return _worst(what, found, true, tolerance, because)


def exact(what: str, estimate: Any, reference: Any = True, because: str = "exact") -> Evidence:
    """The same bits, the same shape, or a fact that is true.

    Example:
        >>> exact("the seed fixes the draw", torch.tensor([1]), torch.tensor([1])).passed
        True
    """
    if isinstance(estimate, Tensor) and isinstance(reference, Tensor):
        if estimate.shape != reference.shape:
            return Evidence(what, math.nan, 0.0, 0.0, "the same shape")
        return _worst(what, estimate, reference, 0.0, because)
    if isinstance(estimate, bool | int | float) and isinstance(reference, bool | int | float):
        return Evidence(what, float(estimate), float(reference), 0.0, because)
    return Evidence(what, float(estimate == reference), 1.0, 0.0, because)


def at_most(what: str, value: Any, bound: Any, because: str, *, slack: float = 0.0) -> Evidence:
    """value ≤ bound + slack, in every entry.

    Example:
        >>> at_most("KL ≥ 0", -0.25, 0.0, "Jensen").excess
        0.0
        >>> at_most("ESS", 12.0, 10.0, "there are 10 particles").passed
        False
    """
    found, limit = _pair(what, value, bound)
    over = torch.maximum(found, limit)  # below the bound, the gap counts as 0
    return _worst(what, over, limit, slack, because)


def mean(
    what: str, samples: Tensor, reference: Any, *, allowance: Any = 0.0, because: str = ""
) -> Evidence:
    """Means of independent draws: |mean − reference| ≤ z_α(m) · s/√n + allowance.

    Args:
        what: what was measured.
        samples: ``(n, *k)``: n independent draws of m numbers.
        reference: their expectations ``(*k,)``.
        allowance: a bias that is known and bounded (of a discretisation), stated in ``because``.
        because: what the allowance stands for.

    Raises:
        DomainError: fewer than two samples.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> draws = torch.randn(10_000, 3, generator=rng)
        >>> mean("E z", draws, torch.zeros(3)).passed, mean("E z", draws + 0.2, 0.0).passed
        (True, False)
    """
    count = samples.shape[0]
    if count < 2:
        raise DomainError(what, "a mean needs two draws or more.", got=str(count))
    data = samples.double()
    found, true = data.mean(0), torch.as_tensor(reference, dtype=torch.float64).expand_as(data[0])
    error = data.std(0) / math.sqrt(count)
    bound = z_bound(found.numel())
    tolerance = bound * error + torch.as_tensor(allowance, dtype=torch.float64)
    words = f"{bound:.2f} standard errors" + (f" + {because}" if because else "")
    worst = _index(found, true, tolerance)
    at = Evidence(
        what,
        float(found.reshape(-1)[worst]),
        float(true.reshape(-1)[worst]),
        float(tolerance.reshape(-1)[worst]),
        words,
        count,
    )
    spread = float(error.reshape(-1)[worst])
    z = (at.estimate - at.reference) / spread if spread > 0 else None
    return Evidence(what, at.estimate, at.reference, at.tolerance, words, count, z, bound)


def frequencies(what: str, counts: Tensor, probabilities: Tensor) -> Evidence:
    """Counts follow a law on a finite set: Pearson's χ², one-sided.

    Cells that expect fewer than 20 counts are joined; a count in a cell of probability 0 fails.

    Args:
        what: what was measured.
        counts: how often each cell was drawn ``(cells,)``.
        probabilities: its probability ``(cells,)``.

    Example:
        >>> fair = torch.full((2,), 0.5)
        >>> frequencies("a coin", torch.tensor([520, 480]), fair).passed
        True
        >>> frequencies("a coin", torch.tensor([600, 400]), fair).passed
        False
    """
    observed, law = counts.double().reshape(-1), probabilities.double().reshape(-1)
    total = int(observed.sum())
    if bool((observed[law <= 0] > 0).any()):
        return Evidence(what, math.inf, 0.0, 0.0, "a cell of probability 0 was drawn", total)
    expected = law * total
    small = expected < 20
    if bool(small.any()):
        keep = ~small
        observed = torch.cat([observed[keep], observed[small].sum().reshape(1)])
        expected = torch.cat([expected[keep], expected[small].sum().reshape(1)])
        observed, expected = observed[expected > 0], expected[expected > 0]
    degrees = max(len(expected) - 1, 1)
    statistic = float(((observed - expected).square() / expected).sum())
    limit = chi_square_quantile(degrees)
    words = f"χ² with {degrees} degrees, 1−{FALSE_ALARM:g} quantile"
    return Evidence(
        what, max(statistic, float(degrees)), float(degrees), limit - degrees, words, total
    )


def order(what: str, steps: Sequence[float], errors: Sequence[float], expected: float) -> Evidence:
    """The order of a method: the slope of log error against log step, by least squares.

    The slope that is reported is that of the finer half of the points. It may be off by what the
    slope still moves between the two halves (its distance to the limit is less, where the next
    term is one order higher), at least 0.05 and at most 0.3: so a wrong order is always seen.

    Args:
        what: what was measured.
        steps: step sizes, four or more, decreasing.
        errors: the error at each; none may be 0.
        expected: the order that the method declares.

    Example:
        >>> steps = [1 / 8, 1 / 16, 1 / 32, 1 / 64]
        >>> found = order("Euler", steps, [h + h * h for h in steps], 1.0)
        >>> found.passed, order("Euler sold as Heun", steps, steps, 2.0).passed
        (True, False)
    """
    if len(steps) < 4 or len(steps) != len(errors):
        raise DomainError(what, "an order is fitted to four points or more.", got=str(len(steps)))
    x = torch.tensor(steps, dtype=torch.float64).log()
    y = torch.tensor(errors, dtype=torch.float64).log()
    half = len(steps) // 2
    coarse, fine = _slope(x[: half + 1], y[: half + 1]), _slope(x[half - 1 :], y[half - 1 :])
    tolerance = min(max(abs(fine - coarse), 0.05), 0.3)
    because = f"the slope moves by {abs(fine - coarse):.2g} between coarse and fine steps"
    return Evidence(what, fine, float(expected), tolerance, because)


def refusal(what: str, call: Callable[[], Any], error: type[BaseException], words: str) -> Evidence:
    """A call is refused with this error, whose message holds these words.

    Example:
        >>> refusal("1/0", lambda: 1 / 0, ZeroDivisionError, "division").passed
        True
    """
    try:
        call()
    except error as raised:
        return Evidence(what, float(words.lower() in str(raised).lower()), 1.0, 0.0, "its words")
    except Exception as raised:
        return Evidence(f"{what} ({type(raised).__name__})", 0.0, 1.0, 0.0, error.__name__)
    return Evidence(f"{what} (nothing was refused)", 0.0, 1.0, 0.0, error.__name__)


def z_bound(comparisons: int) -> float:
    """The |z| that one of m standard normal numbers exceeds with probability below α.

    Example:
        >>> round(z_bound(1), 2), round(z_bound(100), 2)
        (5.03, 5.85)
    """
    return NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * max(comparisons, 1)))


def chi_square_quantile(degrees: int) -> float:
    """The 1 − α quantile of χ², by bisection of the regularised incomplete gamma function."""
    low, high = float(degrees), 100.0 + 10.0 * degrees
    half = torch.tensor(degrees / 2, dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        tail = torch.special.gammaincc(half, torch.tensor(middle / 2, dtype=torch.float64))
        low, high = (middle, high) if float(tail) > FALSE_ALARM else (low, middle)
    return high


def _slope(x: Tensor, y: Tensor) -> float:
    centred = x - x.mean()
    return float((centred * y).sum() / centred.square().sum())


def _pair(what: str, estimate: Any, reference: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(estimate, Tensor):
        estimate = torch.as_tensor(estimate, dtype=torch.float64)
    true = torch.as_tensor(reference, dtype=_wider(estimate), device=estimate.device)
    if true.ndim == 0:
        true = true.expand_as(estimate)
    if estimate.shape != true.shape:
        raise ShapeError(
            what,
            "estimate and reference have one shape.",
            got=f"{tuple(estimate.shape)} and {tuple(true.shape)}",
        )
    return estimate.detach(), true.detach()


def _wider(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype.is_floating_point else x.dtype


def _largest(x: Tensor) -> float:
    finite = x[x.isfinite()] if x.dtype.is_floating_point else x
    return float(finite.abs().max()) if finite.numel() else 0.0


def _index(found: Tensor, true: Tensor, tolerance: Any) -> int:
    """Where |found − true|/tolerance is largest; a NaN, or a wrong infinity, is."""
    if found.numel() == 0:
        return 0
    gap = torch.where(found == true, 0.0, (found - true).abs()).double()
    share = torch.where(gap == 0, 0.0, gap / torch.as_tensor(tolerance, dtype=torch.float64))
    return int(share.nan_to_num(nan=math.inf).reshape(-1).argmax())


def _worst(what: str, found: Tensor, true: Tensor, tolerance: Any, because: str) -> Evidence:
    if found.numel() == 0:
        return Evidence(what, 0.0, 0.0, 0.0, "empty in, empty out")
    found, true = found.double(), true.double()
    limit = torch.as_tensor(tolerance, dtype=torch.float64).expand_as(found)
    worst = _index(found, true, limit)
    picked = [float(x.reshape(-1)[worst]) for x in (found, true, limit)]
    return Evidence(what, picked[0], picked[1], picked[2], because)
