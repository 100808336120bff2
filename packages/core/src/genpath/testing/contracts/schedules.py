r"""What every schedule owes: rates, its declared boundary, and what its kind derives from them.

    rate = d/dt value      by forward-mode differentiation, and by central differences
    hazard = κ̇/(1−κ) = −d/dt log(1−κ)         ∫ hazard over [s, t] = log((1−κ(s))/(1−κ(t)))
    γ² ≥ 0,  γγ̇ = ½ d(γ²)/dt, finite at both ends

The central difference (f(t+h) − f(t−h))/2h has error h²f‴/6: three quarters of what it still moves
when h is halved, so that move, with the rounding 2ε|f|/h, is the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from genpath.schedules import AffineSchedule, KeepSchedule, Scalar

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, at_most, equal, exact, near

__all__ = ["gauss_legendre", "schedule"]

TIMES = (0.03, 0.97)
STEP = 1e-3
DTYPES = [torch.float32, torch.float64]


def schedule(
    make: Callable[[], Any],
    *,
    times: tuple[float, float] = TIMES,
    breaks: Sequence[float] = (),
    operations: float = 256,
) -> tuple[Claim[Any], ...]:
    """The claims that every schedule owes.

    Args:
        make: makes the schedule.
        times: the interval on which rates are compared; inside (0, 1).
        breaks: times where a scalar has a kink: nothing is differentiated within 0.01 of them.
        operations: roundings that may add up.

    Returns:
        Claims ``rates`` and ``boundary``; for a `KeepSchedule` ``hazard``; for an `AffineSchedule`
        ``latent-noise``.

    Example:
        >>> from genpath.schedules import linear_keep
        >>> [claim.name for claim in schedule(linear_keep)]
        ['rates', 'boundary', 'hazard']
    """
    one = make()
    grid = torch.linspace(*times, 48, dtype=torch.float64)
    for time in breaks:
        grid = grid[(grid - time).abs() > 0.01]
    claims = [_rates(make, grid, operations), _boundary(make)]
    if isinstance(one, KeepSchedule):
        claims.append(_hazard(make, grid, tuple(breaks), operations))
    if isinstance(one, AffineSchedule):
        claims.append(_latent(make, grid, operations))
    return tuple(claims)


def _central(f: Callable[[Tensor], Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """df/dt by a central difference, and a bound of its error."""

    def slope(h: float) -> Tensor:
        return (f(t + h) - f(t - h)) / (2 * h)

    wide, narrow = slope(STEP), slope(STEP / 2)
    rounding = 8 * 2.3e-16 * f(t).abs().clamp_min(1.0) / STEP
    return narrow, (wide - narrow).abs() + rounding


BECAUSE = "what the central difference still moves, h = 1e-3 → 5e-4, and its rounding"


def _changed(thing: Any, change: Callable[[Scalar], Scalar]) -> Any:
    """The schedule with all of its scalars changed, in its dict and as attributes."""
    found = {name: change(scalar) for name, scalar in thing.scalars().items()}
    own = {name: scalar for name, scalar in found.items() if hasattr(thing, name)}
    return but(thing, scalars=lambda: found, **own)


def _rates(make: Callable[[], Any], grid: Tensor, operations: float) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        for name, scalar in thing.scalars().items():
            found = scalar.rate(grid)
            slope, error = _central(scalar, grid)
            yield near(f"d{name}/dt by differences", found, slope, error, BECAUSE)
            derived = Scalar(scalar.value).rate(grid)
            yield equal(f"d{name}/dt by autodiff", found, derived, operations=operations)
            yield exact(f"{name}: no times in, no rates out", scalar.rate(grid[:0]).shape, (0,))
            kinds = [scalar.rate(grid[:1].to(dtype)).dtype for dtype in DTYPES]
            yield exact(f"{name}: the dtype of the times", kinds, DTYPES)

    def faster(thing: Any, size: float) -> Any:
        return _changed(thing, lambda s: Scalar(s.value, lambda t: (1 + size) * s.rate(t)))

    def back(thing: Any) -> Any:
        return _changed(thing, lambda s: Scalar(s.value, lambda t: -s.rate(t)))

    return Claim(
        "rates",
        "The rate of every scalar of the schedule is its derivative.",
        make,
        check,
        (dial("rates × (1 + δ)", faster), Control("the rates' sign", back)),
        formula=r"\dot f(t) = \tfrac{d}{dt} f(t)",
    )


def _boundary(make: Callable[[], Any]) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        for time, declared in ((0.0, thing.boundary.start), (1.0, thing.boundary.end)):
            at = torch.tensor([time], dtype=torch.float64)
            for name, value in declared.items():
                found = thing.scalars()[name](at)
                because = "check_boundary's own tolerance"
                yield near(f"{name} at t = {time:g}", found, [value], 1e-6, because)
        inside = torch.linspace(0, 1, 101, dtype=torch.float64)
        for name, scalar in thing.scalars().items():
            yield exact(f"{name} is finite", bool(scalar(inside).isfinite().all()))

    def raised(thing: Any, size: float) -> Any:
        return _changed(thing, lambda s: Scalar(lambda t: s(t) + size, s.rate))

    def turned(thing: Any) -> Any:
        return _changed(thing, lambda s: Scalar(lambda t: s(1 - t), lambda t: -s.rate(1 - t)))

    swapped = Control("time runs the other way", turned)
    one = make().boundary
    different = any(one.end.get(name) != value for name, value in one.start.items())
    return Claim(
        "boundary",
        "At both ends of time the scalars have the values that the schedule declares; they are "
        "finite in between.",
        make,
        check,
        (dial("every scalar + δ", raised), *((swapped,) if different else ())),
    )


def _hazard(
    make: Callable[[], Any], grid: Tensor, breaks: tuple[float, ...], operations: float
) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        kappa = thing.kappa(torch.linspace(0, 1, 1001, dtype=torch.float64))
        yield at_most("κ(s) − κ(t), s < t", -kappa.diff(), 0.0, "κ increases", slack=1e-15)
        survival = Scalar(lambda t: -torch.log1p(-thing.kappa(t))).rate(grid)
        size = float(survival.abs().max())
        found = thing.hazard(grid)
        yield equal("−d/dt log(1−κ)", found, survival, operations=operations, scale=size)
        ends = torch.tensor([0.0, *breaks, 0.4, 0.9], dtype=torch.float64).sort().values
        start, stop = ends[:-1], ends[1:]
        between = thing.integrated_hazard(start, stop)
        coarse, fine = (_integral(thing.hazard, start, stop, n) for n in (20, 40))
        error = (fine - coarse).abs() + operations * 2.3e-16 * fine.abs().clamp_min(1.0)
        because = "what Gauss–Legendre still moves, 20 → 40 nodes, and rounding"
        yield near("∫ hazard", between, fine, error, because)
        one = torch.ones(1, dtype=torch.float64)
        yield exact("∫ hazard to t = 1", thing.integrated_hazard(grid[:1], one), math.inf * one)

    def more(thing: Any, size: float) -> Any:
        return but(thing, hazard=lambda t: (1 + size) * thing.hazard(t))

    def longer(thing: Any, size: float) -> Any:
        return but(thing, integrated_hazard=lambda s, t: (1 + size) * thing.integrated_hazard(s, t))

    return Claim(
        "hazard",
        "κ increases; the hazard is the rate at which a coordinate that has not yet its data "
        "value takes it, and its integral is that of the closed form.",
        make,
        check,
        (
            dial("hazard × (1 + δ)", more),
            dial("∫ hazard × (1 + δ)", longer),
            Control("1 − κ is dropped", lambda s: but(s, hazard=s.kappa.rate)),
        ),
        formula=r"h = \frac{\dot\kappa}{1-\kappa} = -\tfrac{d}{dt}\log(1-\kappa), \qquad "
        r"\int_s^t h = \log\frac{1-\kappa(s)}{1-\kappa(t)}",
    )


def _latent(make: Callable[[], Any], grid: Tensor, operations: float) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        inside = torch.linspace(0, 1, 1001, dtype=torch.float64)
        square = thing.gamma_squared(inside)
        yield at_most("−γ²", -square, 0.0, "a variance is not negative", slack=1e-15)
        size = max(1.0, float(square.max()))
        found = thing.gamma(inside) ** 2
        yield equal("γ squared is γ²", found, square, operations=operations, scale=size)
        slope, error = _central(lambda t: 0.5 * thing.gamma(t) ** 2, grid)
        yield near("γγ̇ = ½ d(γ²)/dt", thing.gamma_gamma_rate(grid), slope, error, BECAUSE)
        ends = thing.gamma_gamma_rate(torch.tensor([0.0, 1.0], dtype=torch.float64))
        yield exact("γγ̇ is finite at both ends", bool(ends.isfinite().all()))

    def raised(thing: Any, size: float) -> Any:
        return but(thing, gamma_gamma_rate=lambda t: thing.gamma_gamma_rate(t) + size)

    def louder(thing: Any, size: float) -> Any:
        return but(thing, gamma=lambda t: thing.gamma(t) + size)

    return Claim(
        "latent-noise",
        "γ is the root of γ² ≥ 0, and γγ̇ is half the derivative of γ², finite at both ends.",
        make,
        check,
        (dial("γγ̇ + δ", raised), dial("γ + δ", louder)),
        formula=r"\gamma\dot\gamma = \tfrac12 \tfrac{d}{dt}\gamma^2",
    )


def gauss_legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [−1, 1], by the eigenvectors of the Jacobi matrix.

    Golub and Welsch, Calculation of Gauss Quadrature Rules, 1969, doi 10.2307/2004418.

    Example:
        >>> nodes, weights = gauss_legendre(5)
        >>> round(float((weights * nodes**8).sum()), 12)  # ∫ x⁸ over [−1, 1] = 2/9
        0.222222222222
    """
    k = torch.arange(1, count, dtype=torch.float64)
    beside = k / (4 * k * k - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes, 2 * vectors[0] ** 2


def _integral(f: Callable[[Tensor], Tensor], start: Tensor, stop: Tensor, count: int) -> Tensor:
    """∫ f over each interval."""
    nodes, weights = gauss_legendre(count)
    half = 0.5 * (stop - start)
    times = 0.5 * (start + stop)[:, None] + half[:, None] * nodes
    values = f(times.reshape(-1)).reshape(times.shape)
    return half * (weights * values).sum(1)
