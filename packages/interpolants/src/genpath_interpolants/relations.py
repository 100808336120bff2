r"""Relations: every prediction of a spatially linear path from any sufficient set of others.

For x_t = α x0 + β x1 + γ z, given x_t = x, with B = E[x0], D = E[x1], N = E[z], v = E[∂_t I],
u = E[ẋ_t] and s = ∇log p_t,

    x = α B + β D + γ N      v = α̇ B + β̇ D      u = v + γ̇ N      s = −N/γ

Write y = x + γ² s = αB + βD. With Δ = αβ̇ − α̇β the first two are solved by

    D = (α v − α̇ y)/Δ        B = (β̇ y − β v)/Δ        u = v − γγ̇ s

and nothing more holds for every coupling. Where x0 ~ N(0, C0) is independent of x1, x_t is β x1
plus normal noise of covariance V = α² C0 + γ² I, so that B = −α C0 s, N = −γ s, and every quantity
leads to every other. With W = β̇ V − ½ β V̇ (read on the eigenvectors of C0, with eigenvalues λ)

    x = β D − V s     β u = β̇ x + W s     s = (β D − x)/V     u = β̇ D − ½ V̇ s
    D = (V u − ½ V̇ x)/W

A mirror path (α = 0) is the case C0 = 0. (Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797,
sections 2 and 4; V̇ and γγ̇ are used in place of α̇ and γ̇, which may be infinite.)

Every relation is linear: gives = Σ_i w_i(t) q_i + w_x(t) x. Its weights are examined once, when the
path is built, at both ends and on a grid: a weight that is 0/0 at an end gets its limit there; one
that is infinite there makes the end a *singular time* of the rule; a rule that is infinite on the
way, or on an interval, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genpath.predictions import Rule
from genpath.schedules import AffineSchedule
from genpath.states import per_row

__all__ = ["EDGE", "PAIRS", "TimedRule", "joint_rules", "relations"]

EDGE = 1e-4
"""How near to a singular time a weight that is infinite there is still evaluated.

Nearer than this it keeps its value at the distance EDGE, so that a solver that touches t = 0 or
t = 1 gets a finite number. That number is not the limit; `LinearPath.convert` refuses instead.
"""

FIRST = ("velocity", "interpolant_velocity", "denoiser", "base_denoiser")
PAIRS = tuple(f"{a}+{b}" for a in FIRST for b in ("noise", "score")) + ("denoiser+base_denoiser",)
"""The joint predictions: two quantities from one network, stacked on the axis after the batch."""

Weights = Callable[[Tensor, Tensor], Sequence[Tensor | float]]
"""``(t, λ) -> (w_x, w_1, …)``, broadcasting t against λ; 0.0 for an absent term."""


@dataclass(frozen=True)
class TimedRule(Rule):
    """A rule with the times at which it is infinite.

    Args:
        singular: those times; `LinearPath.convert` refuses them.

    Example:
        >>> from genpath_interpolants.schedules import linear_schedule
        >>> rules = relations(linear_schedule(), one_noise=False)
        >>> [(r.needs[0], r.gives) for r in rules if 0.0 in r.singular]  # D = (x − α B)/β, v
        [('base_denoiser', 'denoiser'), ('base_denoiser', 'interpolant_velocity')]
    """

    singular: tuple[float, ...] = ()


@dataclass(frozen=True)
class Spread:
    """The covariance of the base on its eigenvectors: C0 = Q diag(λ) Qᵀ.

    Args:
        values: λ ``(d,)``.
        vectors: Q ``(d, d)``.
    """

    values: Tensor
    vectors: Tensor


def relations(
    schedule: AffineSchedule, *, one_noise: bool, spread: Spread | None = None
) -> tuple[TimedRule, ...]:
    """The rules of a path between its single predictions.

    Args:
        schedule: α, β and γ².
        one_noise: whether x_t is β x1 plus independent normal noise (a normal base, or a mirror).
        spread: the base's covariance, where it is not I.

    Example:
        >>> from genpath_interpolants.schedules import mirror_schedule
        >>> rules = relations(mirror_schedule(), one_noise=True)
        >>> [r.gives for r in rules if r.needs == ("noise",)]
        ['score']
    """
    latent = _largest(schedule.gamma_squared) > 0
    base = _largest(schedule.alpha_squared) > 0
    table = _Table(schedule)
    found = _of_latent(table) if latent else _without_latent()
    if base:
        found += _of_means(table, latent)
    if one_noise:
        found += _of_noise(table, base)
    rules = []
    for gives, needs, weights, matrix in found:
        rule = _examined(gives, needs, weights, spread if matrix else None)
        if rule is not None:
            rules.append(rule)
    return tuple(rules)


def joint_rules(names: Sequence[str]) -> tuple[TimedRule, ...]:
    """Rules that stack and unstack the joint predictions among ``names``.

    Example:
        >>> stack, first, second = joint_rules(["velocity+score"])
        >>> t, x = torch.zeros(1), torch.zeros(1, 2)
        >>> both = stack.formula(t, x, torch.ones(1, 2), torch.zeros(1, 2))
        >>> both.shape, second.formula(t, x, both)
        (torch.Size([1, 2, 2]), tensor([[0., 0.]]))
    """
    rules: list[TimedRule] = []
    for name in names:
        a, b = name.split("+")
        rules.append(TimedRule(name, (a, b), lambda t, x, *parts: torch.stack(parts, 1)))
        rules.append(TimedRule(a, (name,), lambda t, x, both: both[:, 0]))
        rules.append(TimedRule(b, (name,), lambda t, x, both: both[:, 1]))
    return tuple(rules)


# -- the relations ---------------------------------------------------------------------------------

Relation = tuple[str, tuple[str, ...], Weights, bool]
"""gives, needs, weights, and whether they depend on λ."""


@dataclass(frozen=True)
class _Table:
    """The scalars that the weights are made of."""

    schedule: AffineSchedule

    def alpha(self, t: Tensor) -> Tensor:
        return self.schedule.alpha(t)

    def beta(self, t: Tensor) -> Tensor:
        return self.schedule.beta(t)

    def beta_rate(self, t: Tensor) -> Tensor:
        return self.schedule.beta.rate(t)

    def gamma(self, t: Tensor) -> Tensor:
        return self.schedule.gamma(t)

    def square(self, t: Tensor) -> Tensor:
        """γ²."""
        return self.schedule.gamma_squared(t)

    def half_rate(self, t: Tensor) -> Tensor:
        """γγ̇."""
        return self.schedule.gamma_gamma_rate(t)

    def variance(self, t: Tensor, size: Tensor) -> Tensor:
        """V = α² λ + γ²."""
        return self.schedule.alpha_squared(t) * size + self.square(t)

    def variance_slope(self, t: Tensor, size: Tensor) -> Tensor:
        """½ V̇."""
        return 0.5 * self.schedule.alpha_squared.rate(t) * size + self.half_rate(t)

    def whole(self, t: Tensor, size: Tensor) -> Tensor:
        """W = β̇ V − ½ β V̇."""
        return self.beta_rate(t) * self.variance(t, size) - self.beta(t) * self.variance_slope(
            t, size
        )


def _without_latent() -> list[Relation]:
    """γ = 0: u and v are one quantity."""
    return [
        ("interpolant_velocity", ("velocity",), lambda t, _: (0.0, 1.0), False),
        ("velocity", ("interpolant_velocity",), lambda t, _: (0.0, 1.0), False),
    ]


def _of_latent(table: _Table) -> list[Relation]:
    """γ ≠ 0: s = −N/γ and u = v − γγ̇ s."""
    return [
        ("score", ("noise",), lambda t, _: (0.0, -1 / table.gamma(t)), False),
        ("noise", ("score",), lambda t, _: (0.0, -table.gamma(t)), False),
        (
            "velocity",
            ("interpolant_velocity", "score"),
            lambda t, _: (0.0, 1.0, -table.half_rate(t)),
            False,
        ),
        (
            "interpolant_velocity",
            ("velocity", "score"),
            lambda t, _: (0.0, 1.0, table.half_rate(t)),
            False,
        ),
        (
            "velocity",
            ("interpolant_velocity", "noise"),
            lambda t, _: (0.0, 1.0, table.half_rate(t) / table.gamma(t)),
            False,
        ),
        (
            "interpolant_velocity",
            ("velocity", "noise"),
            lambda t, _: (0.0, 1.0, -table.half_rate(t) / table.gamma(t)),
            False,
        ),
    ]


def _of_means(table: _Table, latent: bool) -> list[Relation]:
    """y = αB + βD and v = α̇B + β̇D, with y = x + γ² s = x − γN."""
    alpha, beta, beta_rate = table.alpha, table.beta, table.beta_rate
    alpha_rate = table.schedule.alpha.rate
    found: list[Relation] = [
        (
            "interpolant_velocity",
            ("denoiser", "base_denoiser"),
            lambda t, _: (0.0, beta_rate(t), alpha_rate(t)),
            False,
        )
    ]

    def solved(source: str | None) -> list[Relation]:
        """The means from v (or from each other), with y from x and the latent's quantity."""

        def given(*weights: Tensor | float) -> Sequence[Tensor | float]:
            return weights if source else weights[:-1]

        def share(t: Tensor) -> Tensor | float:
            """y = x + share · source."""
            if source == "score":
                return table.square(t)
            return -table.gamma(t) if source else 0.0

        def determinant(t: Tensor) -> Tensor:
            return alpha(t) * beta_rate(t) - alpha_rate(t) * beta(t)

        def denoiser(t: Tensor, _: Tensor) -> Sequence[Tensor | float]:
            ratio = alpha_rate(t) / determinant(t)
            return given(-ratio, alpha(t) / determinant(t), -ratio * share(t))

        def base(t: Tensor, _: Tensor) -> Sequence[Tensor | float]:
            ratio = beta_rate(t) / determinant(t)
            return given(ratio, -beta(t) / determinant(t), ratio * share(t))

        def late(t: Tensor, _: Tensor) -> Sequence[Tensor | float]:
            return given(1 / alpha(t), -beta(t) / alpha(t), share(t) / alpha(t))

        def early(t: Tensor, _: Tensor) -> Sequence[Tensor | float]:
            return given(1 / beta(t), -alpha(t) / beta(t), share(t) / beta(t))

        def from_denoiser(t: Tensor, _: Tensor) -> Sequence[Tensor | float]:
            ratio = alpha_rate(t) / alpha(t)
            return given(ratio, determinant(t) / alpha(t), ratio * share(t))

        def from_base(t: Tensor, _: Tensor) -> Sequence[Tensor | float]:
            ratio = beta_rate(t) / beta(t)
            return given(ratio, -determinant(t) / beta(t), ratio * share(t))

        extra = (source,) if source else ()
        return [
            ("denoiser", ("interpolant_velocity", *extra), denoiser, False),
            ("base_denoiser", ("interpolant_velocity", *extra), base, False),
            ("base_denoiser", ("denoiser", *extra), late, False),
            ("denoiser", ("base_denoiser", *extra), early, False),
            ("interpolant_velocity", ("denoiser", *extra), from_denoiser, False),
            ("interpolant_velocity", ("base_denoiser", *extra), from_base, False),
        ]

    for source in ("score", "noise") if latent else (None,):
        found += solved(source)
    if latent:
        gamma, square = table.gamma, table.square
        means = ("denoiser", "base_denoiser")
        found += [
            (
                "noise",
                means,
                lambda t, _: (1 / gamma(t), -beta(t) / gamma(t), -alpha(t) / gamma(t)),
                False,
            ),
            (
                "score",
                means,
                lambda t, _: (-1 / square(t), beta(t) / square(t), alpha(t) / square(t)),
                False,
            ),
        ]
    return found


def _of_noise(table: _Table, base: bool) -> list[Relation]:
    """x = βD − V s and what follows, for a normal base or a mirror."""
    beta, beta_rate = table.beta, table.beta_rate
    variance, slope, whole = table.variance, table.variance_slope, table.whole

    def velocity(t: Tensor, size: Tensor) -> Sequence[Tensor | float]:
        ratio = slope(t, size) / variance(t, size)
        return ratio, beta_rate(t) - ratio * beta(t)

    def mean_velocity(t: Tensor, size: Tensor) -> Sequence[Tensor | float]:
        ratio = (slope(t, size) - table.half_rate(t)) / variance(t, size)
        return ratio, beta_rate(t) - ratio * beta(t)

    def denoiser(t: Tensor, size: Tensor) -> Sequence[Tensor | float]:
        total = whole(t, size)
        return -slope(t, size) / total, variance(t, size) / total

    def base_slope(t: Tensor, size: Tensor) -> Tensor:
        """½ d(α²)/dt λ: v = β̇ D − base_slope · s."""
        return slope(t, size) - table.half_rate(t)

    def part(t: Tensor, size: Tensor) -> Tensor:
        """W without γγ̇."""
        return beta_rate(t) * variance(t, size) - beta(t) * base_slope(t, size)

    def mean_denoiser(t: Tensor, size: Tensor) -> Sequence[Tensor | float]:
        total = part(t, size)
        return -base_slope(t, size) / total, variance(t, size) / total

    found: list[Relation] = [
        ("velocity", ("denoiser",), velocity, True),
        ("interpolant_velocity", ("denoiser",), mean_velocity, True),
        ("denoiser", ("velocity",), denoiser, True),
        ("denoiser", ("interpolant_velocity",), mean_denoiser, True),
        (
            "score",
            ("interpolant_velocity",),
            lambda t, e: (-beta_rate(t) / part(t, e), beta(t) / part(t, e)),
            True,
        ),
        (
            "score",
            ("velocity",),
            lambda t, e: (-beta_rate(t) / whole(t, e), beta(t) / whole(t, e)),
            True,
        ),
        (
            "score",
            ("denoiser",),
            lambda t, e: (-1 / variance(t, e), beta(t) / variance(t, e)),
            True,
        ),
        (
            "velocity",
            ("score",),
            lambda t, e: (beta_rate(t) / beta(t), whole(t, e) / beta(t)),
            True,
        ),
        (
            "denoiser",
            ("score",),
            lambda t, e: (1 / beta(t), variance(t, e) / beta(t)),
            True,
        ),
    ]
    if base:
        alpha = table.alpha
        found += [
            ("score", ("base_denoiser",), lambda t, e: (0.0, -1 / (alpha(t) * e)), True),
            ("base_denoiser", ("score",), lambda t, e: (0.0, -alpha(t) * e), True),
        ]
    return found


# -- what is done with their weights ---------------------------------------------------------------

ENDS = (0.0, 1.0)
NEAR, NEARER = 1e-6, 1e-9
LARGE = 1e10


def _largest(scalar: Callable[[Tensor], Tensor]) -> float:
    return float(scalar(torch.linspace(0, 1, 101, dtype=torch.float64)).abs().max())


def _examined(
    gives: str, needs: tuple[str, ...], weights: Weights, spread: Spread | None
) -> TimedRule | None:
    """The rule with its singular times and limits, or None where it does not hold throughout."""
    sizes = torch.ones(1, dtype=torch.float64) if spread is None else spread.values.double().cpu()

    def table(times: Sequence[float] | Tensor) -> Tensor:
        t = torch.as_tensor(times, dtype=torch.float64)[:, None]
        rows = [torch.as_tensor(w, dtype=torch.float64) for w in weights(t, sizes)]
        return torch.stack([row.expand(len(t), len(sizes)) for row in rows])

    if not _regular(table(torch.linspace(0.001, 0.999, 999, dtype=torch.float64))):
        return None
    singular, limits = [], dict[float, Tensor]()
    for end in ENDS:
        inward = 1.0 if end == 0 else -1.0
        at, near, nearer = table([end, end + inward * NEAR, end + inward * NEARER]).unbind(1)
        if not bool((nearer - near).abs().le(0.02 * near.abs().clamp_min(1.0)).all()):
            singular.append(end)
        elif not bool(torch.isfinite(at).all()):
            limits[end] = nearer
    return TimedRule(
        gives, needs, _formula(weights, spread, tuple(singular), limits), tuple(singular)
    )


def _regular(values: Tensor) -> bool:
    """Whether weights ``(k, times, sizes)`` have no pole between the ends."""
    if not bool(torch.isfinite(values).all()):
        return False
    inner = values[:, 10:-10]
    flips = (inner[:, 1:] * inner[:, :-1] < 0) & (inner[:, 1:].abs() > 1.0)
    jumps = (inner[:, 1:] - inner[:, :-1]).abs() > 10.0
    return not bool((flips & jumps).any()) and float(inner.abs().max()) < LARGE


def _formula(
    weights: Weights,
    spread: Spread | None,
    singular: tuple[float, ...],
    limits: dict[float, Tensor],
) -> Callable[..., Tensor]:
    """Σ w_i q_i + w_x x, with the weights inside [EDGE, 1 − EDGE] of singular ends."""
    low = EDGE if 0.0 in singular else None
    high = 1 - EDGE if 1.0 in singular else None

    def at(t: Tensor, sizes: Tensor) -> list[Tensor | float]:
        inner = t if low is None and high is None else t.clamp(low, high)
        for end in limits:
            inner = torch.where(inner == end, 0.5, inner)
        found = list(weights(inner, sizes))
        for end, limit in limits.items():
            for i, value in enumerate(found):
                if isinstance(value, Tensor):
                    known = limit[i].to(device=t.device, dtype=value.dtype)
                    known = known if spread is not None else known[0]
                    found[i] = torch.where(t == end, known, value)
        return found

    def scalar_formula(t: Tensor, x: Tensor, *values: Tensor) -> Tensor:
        total: Tensor | None = None
        for weight, value in zip(at(t, _one(t)), (x, *values), strict=True):
            if isinstance(weight, float):
                if weight == 0.0:
                    continue
                term = value if weight == 1.0 else weight * value
                total = term if total is None else total + term
            elif total is None:
                total = per_row(weight, value) * value
            else:
                total = torch.addcmul(total, per_row(weight, value), value)  # type: ignore[arg-type]
        assert total is not None
        return total

    if spread is None:
        return scalar_formula

    def matrix_formula(t: Tensor, x: Tensor, *values: Tensor) -> Tensor:
        turn = spread.vectors.to(device=x.device, dtype=x.dtype)
        sizes = spread.values.to(device=x.device, dtype=x.dtype)
        terms = []
        for weight, value in zip(at(t[:, None], sizes), (x, *values), strict=True):
            if not isinstance(weight, float) or weight != 0.0:
                terms.append(weight * (value.flatten(1) @ turn))
        return (sum(terms[1:], terms[0]) @ turn.T).reshape(x.shape)

    return matrix_formula


def _one(t: Tensor) -> Tensor:
    return t.new_ones(())
