r"""Objectives: their values, by Gauss–Hermite rules in place of draws.

    L[g] − L[g*] = ½ E|g − g*|²     L[g*] = −½ E|g*|²

On the line, x0, z and the components of x1 are normal: a rule with n nodes for each makes every
mean an exact sum, so that a path that is given its noise shows the objective without Monte-Carlo
error. The fields are those of the mixture, which are compared with quadrature elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.laws import Gaussian
from genpath.models import Model
from genpath.objectives import Regression
from genpath.paths import Draw
from genpath.predictions import Prediction
from genpath.states import per_row
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    dial,
    equal,
    mean,
    near,
)

from ..mixtures import GaussianMixture, MixtureMarginal
from ..objectives import ImplicitScore, Quadratic, excess_risk, mirrored
from ..paths import LinearPath
from ..presets import linear
from ..times import Arcsine, LogitNormal, Power, Tabulated, TimeLaw, Uniform, adapted
from .cases import (
    DOUBLE,
    LINE,
    PLANE,
    Case,
    Cases,
    cases,
    line_mixture,
    log_density,
    mixture,
    normal,
    scaled_field,
    score_at,
    seeded,
)
from .minimisers import altered_target, scaled_target, turned_target

__all__ = ["implicit_score", "quadratic"]

BASE = Gaussian((1,), dtype=DOUBLE)
RULE = "Gauss–Hermite rules; with half as many nodes again the sums move by less"


def quadratic() -> tuple[Claim[Any], ...]:
    """The claims of ``objective.interpolants.quadratic``."""
    return (
        excess(
            "velocities",
            ("velocity", "interpolant_velocity", "velocity+score"),
            "The quadratic objective on the velocity, on the interpolant's own velocity and on a "
            "pair of quantities",
            ("L2.7", "L2.8", "A3"),
        ),
        excess(
            "means",
            ("denoiser", "base_denoiser", "noise", "denoiser+noise"),
            "The quadratic objective on the ends and on the noise",
            ("L5.2", "L2.11"),
        ),
        excess(
            "scores",
            ("score", "interpolant_velocity+score"),
            "The quadratic objective on the score, away from the ends,",
            ("L2.10", "A5"),
        ),
        regression(),
        least_squares(),
        trained(),
        antithetic(),
        antithetic_variance(),
        antithetic_velocity(),
        times(),
        energy(),
        risk(),
    )


def implicit_score() -> tuple[Claim[Any], ...]:
    """The claims of ``objective.interpolants.implicit_score``."""
    return (implicit(), probes())


# -- rules in place of draws -----------------------------------------------------------------------


@cache
def hermite(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the mean under N(0, 1)."""
    x, w = np.polynomial.hermite_e.hermegauss(count)
    return torch.from_numpy(x), torch.from_numpy(w / w.sum())


@dataclass(frozen=True)
class Rule:
    """Rows (x0, x1, z) of the line with weights of sum 1."""

    pairs: Pairs
    z: Tensor
    weights: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Σ w f, over the rows."""
        return self.weights @ values.reshape(len(self.weights), -1)


def rule(law: GaussianMixture, count: int, latent: bool = True) -> Rule:
    """N(0, 1) × mixture × N(0, 1), ``count`` nodes for each normal law."""
    x, w = hermite(count)
    zero, one = torch.zeros(1, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE)
    ends = (law.means + law.stds * x).reshape(-1)
    mass = (law.weights[:, None] * w).reshape(-1)
    noise = (x, w) if latent else (zero, one)
    x0, x1, z = (a.reshape(-1, 1) for a in torch.meshgrid(x, ends, noise[0], indexing="ij"))
    weights = torch.einsum("i,j,k->ijk", w, mass, noise[1]).reshape(-1)
    return Rule(Pairs(x0, x1), z, weights)


def fixed(path: Any, z: Tensor) -> Any:
    """The path that is given its noise: α x0 + β x1 + γ z, and the path's own targets."""
    schedule = path.schedule

    def draw(t: Tensor, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        alpha, beta = per_row(schedule.alpha(t), x0), per_row(schedule.beta(t), x0)
        state, latent = alpha * x0 + beta * x1, z if path.latent else None
        if latent is not None:
            state = state + per_row(schedule.gamma(t), z) * z
        return Draw(t, state, x0, x1, latent)

    def together(name: str, *given: Any) -> tuple[Draw, Tensor]:
        found = draw(*given)
        return found, path.target(name, found)

    return but(path, draw=draw, draw_with_target=together)


def exact_field(case: Case, name: str) -> Callable[[Tensor, Any], Tensor]:
    """The exact field of a single or joint prediction."""
    parts = [case.marginal.field(part) for part in name.split("+")]
    if len(parts) == 1:
        return parts[0]
    return lambda t, x: torch.stack([part(t, x) for part in parts], 1)


def scaled_fields(*names: str) -> Callable[..., Cases]:
    """Some fields of every marginal times 1 + δ."""

    def plant(found: Cases, size: float) -> Cases:
        for name in names:
            found = scaled_field(name)(found, size)
        return found

    return plant


# -- values ----------------------------------------------------------------------------------------


def valued(field: Any, path: Any, name: str, nodes: Rule, t: Tensor, **options: Any) -> Tensor:
    """The quadratic objective of a field, in the mean over the rule: ``(1,)``."""
    model = Model(field, path, BASE, name)
    return nodes.mean(Quadratic(**options)(model, nodes.pairs, t, seeded()))


def excess(
    words: str, names: Sequence[str], subject: str, entries: tuple[str, ...]
) -> Claim[Cases]:
    """The excess, and the least value, at some times."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in found:
            nodes = rule(case.law, trial.count(20, 16))
            path = fixed(case.path, nodes.z)
            for time in (0.3, 0.6):
                t = torch.full((len(nodes.z),), time, dtype=DOUBLE)
                x = path.draw(t, nodes.pairs.x0, nodes.pairs.x1, seeded()).state
                for name in names:
                    least = exact_field(case, name)

                    def wrong(t: Tensor, x: Any, least: Any = least) -> Any:
                        bent = 0.8 * least(t, x)
                        return bent + 0.3 * torch.sin(x).reshape(len(x), *[1] * (bent.dim() - 1))

                    gap = wrong(t, x) - least(t, x)
                    distance = 0.5 * nodes.mean(gap.square().flatten(1).sum(1))
                    size = 0.5 * nodes.mean(least(t, x).square().flatten(1).sum(1))
                    at = f"{case.words}, {name}, t = {time:g}"
                    above, lowest = (valued(f, path, name, nodes, t) for f in (wrong, least))
                    yield near(f"{at}: excess", above - lowest, distance, 1e-5, RULE)
                    yield near(f"{at}: least value", lowest, -size, 1e-5, RULE)

    singles = sorted({part for name in names for part in name.split("+")})
    return Claim(
        f"excess-{words}",
        f"{subject} exceeds its least value, minus half the mean square of the exact field, by "
        "half the mean square distance to it.",
        cases("sqrt", "quadratic", law=line_mixture, base="any"),
        check,
        (
            dial("targets × (1 + δ)", altered_target(scaled_target), 0.5),
            dial("the minimiser × (1 + δ)", scaled_fields(*singles), 0.5),
            Control("−target", altered_target(turned_target)),
        ),
        formula=r"\mathbb E\big[\tfrac12|g|^2 - Y\cdot g\big] = \tfrac12\mathbb E|g-g^*|^2 - "
        r"\tfrac12\mathbb E|g^*|^2",
        entries=entries,
        owes="minimiser",
    )


@dataclass(frozen=True)
class Made:
    """An objective, with a change of its values for faults."""

    objective: Any = field(default_factory=Quadratic)


def scaled_value(made: Made, size: float) -> Made:
    """The objective × (1 + δ)."""
    right = made.objective
    return replace(made, objective=lambda *given: (1 + size) * right(*given))


def regression() -> Claim[Made]:
    """Value and gradient against the regression."""

    def check(made: Made, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        path, base = linear(PLANE, "sqrt", 1.3), Gaussian((2,), dtype=DOUBLE)
        x0, x1 = normal(2, 50, 2, rng=rng)
        pairs, t = Pairs(x0, x1), torch.rand(50, generator=rng, dtype=DOUBLE)
        for name in ("velocity", "noise", "velocity+score"):
            weight = torch.tensor(0.7, dtype=DOUBLE, requires_grad=True)

            def guess(t: Tensor, x: Any, name: str = name, weight: Tensor = weight) -> Tensor:
                value = weight * torch.sin(x + t[:, None])
                return torch.stack([value, value * x], 1) if "+" in name else value

            model = Model(guess, path, base, name)
            ours = made.objective(model, pairs, t, seeded())
            theirs = Regression()(model, pairs, t, seeded())
            target = path.draw_with_target(name, t, x0, x1, seeded())[1]
            size = 0.5 * target.square().flatten(1).sum(1)
            scale = float(size.max())
            yield equal(f"{name}: value", ours, theirs - size, scale=scale)
            slopes = (torch.autograd.grad(v.mean(), weight)[0] for v in (ours, theirs))
            yield equal(f"{name}: gradient", *slopes, scale=scale)

    return Claim(
        "regression",
        "The quadratic objective is the squared regression without ½|target|², and has its "
        "gradient.",
        Made,
        check,
        (dial("the objective × (1 + δ)", scaled_value, 0.5),),
        formula=r"\tfrac12|g|^2 - Y\cdot g = \tfrac12|g - Y|^2 - \tfrac12|Y|^2",
        entries=("L1.16",),
    )


def least_squares() -> Claim[Made]:
    """Y = (1 + cos θ) T + 2 ξ X on the circle: J[u*] = −¾."""

    def check(made: Made, trial: Trial) -> Iterator[Evidence]:
        angle = 2 * math.pi * torch.arange(12, dtype=DOUBLE) / 12
        noise, mass = hermite(4)
        theta, xi = (a.reshape(-1) for a in torch.meshgrid(angle, noise, indexing="ij"))
        weights = (torch.full((12, 1), 1 / 12, dtype=DOUBLE) * mass).reshape(-1)
        x = torch.stack([theta.cos(), theta.sin()], 1)
        turn = torch.stack([-theta.sin(), theta.cos()], 1)
        y = (1 + theta.cos())[:, None] * turn + 2 * xi[:, None] * x
        path: Any = SimpleNamespace(
            space=PLANE, rules=(), predictions={"y": Prediction("y", (2,), False, "E[Y | X]")},
            draw=lambda t, x0, x1, rng: Draw(t, x0, x0, x1), target=lambda name, draw: draw.x1,
        )  # fmt: skip

        def best(t: Tensor, x: Any) -> Any:
            return (1 + x[:, :1]) * torch.stack([-x[:, 1], x[:, 0]], 1)

        def value(guess: Any) -> Tensor:
            model = Model(guess, path, Gaussian((2,), dtype=DOUBLE), "y")
            values = made.objective(model, Pairs(x, y), torch.zeros(len(x), dtype=DOUBLE), seeded())
            found: Tensor = weights @ values
            return found

        yield equal("J[u*]", value(best), torch.tensor(-0.75, dtype=DOUBLE))
        off = value(lambda t, x: best(t, x) + 0.4 * x) - value(best)
        yield equal("J[u* + 0.4 X] − J[u*]", off, torch.tensor(0.08, dtype=DOUBLE))

    return Claim(
        "least-squares",
        "For Y = (1 + cos θ) T + 2ξX on the circle the least value is −¾, at (1 + cos θ) T; a "
        "normal component of 0.4 costs 0.08.",
        Made,
        check,
        (dial("the objective × (1 + δ)", scaled_value, 0.1),),
        formula=r"J[u] = \tfrac12\mathbb E|u-u^*|^2 - \tfrac12\mathbb E|u^*|^2",
        entries=("L1.16",),
    )


def trained() -> Claim[Cases]:
    """A model that is linear in 33 weights, fitted to the objective of one batch."""
    centres = torch.linspace(-2.5, 2.5, 10, dtype=DOUBLE)

    def features(t: Tensor, x: Any) -> Tensor:
        bumps = torch.exp(-0.5 * ((x - centres) / 0.55) ** 2)
        both = torch.cat([bumps, x], 1)
        return torch.cat([both, both * t[:, None], both * t[:, None] ** 2], 1)

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        rng, count = trial.rng(), trial.count(6_000, 4_000)
        train, test = (
            Pairs(normal(n, 1, rng=rng), case.law.sample(n, rng)) for n in (count, 2_000)
        )
        u, t = (torch.rand(n, generator=rng, dtype=DOUBLE) for n in (count, 2_000))
        path, zero = fixed(case.path, normal(count, 1, rng=rng)), torch.zeros(33, dtype=DOUBLE)
        for name in ("velocity", "interpolant_velocity", "noise", "score"):
            objective = Quadratic(antithetic=name in ("velocity", "score"), t_min=0.1, t_max=0.9)

            def guess(w: Tensor, t: Tensor, x: Any) -> Tensor:
                return features(t, x) @ w[:, None]

            def loss(w: Tensor, name: str = name, objective: Quadratic = objective) -> Tensor:
                model = Model(partial(guess, w), path, BASE, name)
                return objective(model, train, u, seeded()).mean()

            slope = torch.func.grad(loss)
            bend = torch.func.vmap(lambda e, f=slope: torch.func.jvp(f, (zero,), (e,))[1])(
                torch.eye(len(zero), dtype=DOUBLE)
            )
            ridge = 1e-6 * torch.eye(len(zero), dtype=DOUBLE)
            best = torch.linalg.solve(bend + ridge, -slope(zero))  # the loss is quadratic in w
            least, times = case.marginal.field(name), 0.1 + 0.8 * t
            risk, whole = (
                excess_risk(
                    Model(partial(guess, w), case.path, BASE, name), least, test, times, rng
                ).value
                for w in (best, zero)
            )
            because = "33 weights fitted to noisy targets, and what they cannot express"
            yield at_most(f"{name}: excess risk over that of 0", risk / whole, 0.1, because)

    return Claim(
        "trained",
        "A small model fitted to the quadratic objective of one batch is near to the exact "
        "velocity, interpolant's velocity, noise and score: its excess risk is below a tenth of "
        "that of 0.",
        cases("sqrt", law=line_mixture, base="any"),
        check,
        (
            dial("targets × (1 + δ)", altered_target(scaled_target), 0.5),
            Control("−target", altered_target(turned_target)),
        ),
        formula=r"\arg\min_\theta\,\mathbb E\big[\tfrac12|g_\theta|^2 - Y\cdot g_\theta\big]",
        entries=("A2", "A4", "A5"),
    )


# -- antithetic draws ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folded:
    """A path's ``mirrored`` hook, if any: where faults of the antithetic draw are planted."""

    hook: Callable[..., Draw] | None = None

    def on(self, path: Any) -> Any:
        """The path with the hook."""
        return path if self.hook is None else but(path, mirrored=self.hook_of(path))

    def hook_of(self, path: Any) -> Callable[[Draw, str], Draw]:
        """The hook for this path."""
        return lambda draw, predict: self.hook(path, draw, predict)  # type: ignore[misc]


def _wrong_mirror(path: Any, draw: Draw, predict: str, size: float, turned: bool) -> Draw:
    found = mirrored(path, draw, predict)
    if not turned:
        return replace(found, state=found.state + size * (found.state - draw.state))
    return replace(found, x0=draw.x0, latent=draw.latent)


FAULTS: tuple[Control[Folded], ...] = (
    dial(
        "x₋ = x − (1 + δ) 2γz",
        lambda found, d: Folded(lambda p, draw, name: _wrong_mirror(p, draw, name, d, False)),
        0.5,
    ),
    Control(
        "the target of x₋ with +z",
        lambda found: Folded(lambda p, draw, name: _wrong_mirror(p, draw, name, 0.0, True)),
    ),
)


def antithetic() -> Claim[Folded]:
    """The same mean."""

    def check(found: Folded, trial: Trial) -> Iterator[Evidence]:
        for gamma, base in (("sqrt", "any"), ("sqrt", "gaussian"), ("none", "gaussian")):
            nodes = rule(line_mixture(), trial.count(16, 12), gamma != "none")
            straight = linear(LINE, gamma, 1.3, base)  # type: ignore[arg-type]
            path = found.on(fixed(straight, nodes.z))
            for name in ("velocity", "score", "noise", "interpolant_velocity+score"):
                if name not in path.predictions:
                    continue
                joint = "+" in name

                def guess(t: Tensor, x: Any, joint: bool = joint) -> Tensor:
                    value = torch.tanh(0.7 * x + 0.3) + t[:, None]
                    return torch.stack([value, torch.sin(x) - x], 1) if joint else value

                t = torch.full((len(nodes.z),), 0.35, dtype=DOUBLE)
                for law in ("uniform", "arcsine"):
                    plain, both = (
                        valued(guess, path, name, nodes, t, antithetic=a, time=law)
                        for a in (False, True)
                    )
                    words = f"γ {gamma}, base {base}, {name}, {law} times"
                    # nodes are symmetric in x0 and z: the two sums have the same terms
                    yield equal(words, both, plain, operations=2**12)

    return Claim(
        "antithetic-mean",
        "Averaging each draw with that of the negated noise leaves the objective's mean as it is, "
        "for a latent and for a normal base.",
        Folded,
        check,
        FAULTS,
        formula=r"\mathbb E\,\tfrac12\big(\ell(I+\gamma z, z) + \ell(I-\gamma z, -z)\big) = "
        r"\mathbb E\,\ell(I+\gamma z, z)",
        entries=("A6",),
    )


def antithetic_variance() -> Claim[Folded]:
    """A linear score at a point: −zᵀKz exactly, with variance 2‖K_sym‖²; 434 against 2.89."""
    # ‖K_sym‖² = 1.445 and |K y|² = 0.388, so that the variances are 2.89 and 434 at γ = 0.03
    matrix = torch.tensor([[1.0, 0.35], [-0.15, math.sqrt(0.425)]], dtype=DOUBLE)
    at = torch.linalg.solve(matrix, torch.tensor([math.sqrt(0.388), 0.0], dtype=DOUBLE))

    def check(found: Folded, trial: Trial) -> Iterator[Evidence]:
        x, w = hermite(6)  # exact for polynomials of degree 11
        z = torch.cartesian_prod(x, x)
        weights = torch.cartesian_prod(w, w).prod(1)
        pairs, base = Pairs(at.expand_as(z), at.expand_as(z)), Gaussian((2,), dtype=DOUBLE)
        for gamma in (0.3, 0.03, 0.003):
            path = found.on(fixed(linear(PLANE, "sqrt", 4 * gamma**2), z))
            model = Model(lambda t, y: -torch.as_tensor(y) @ matrix.T, path, base, "score")
            t = torch.full((len(z),), 0.5, dtype=DOUBLE)
            parts = []
            for both in (False, True):
                values = Quadratic(antithetic=both)(model, pairs, t, seeded())
                signs = torch.tensor([1.0, -1.0] if both else [1.0], dtype=DOUBLE)
                ends = (at + gamma * signs[:, None, None] * z) @ matrix.T
                square = 0.5 * ends.square().sum(2).mean(0)
                parts.append(values - square)  # what remains is z·s/γ, or its antithetic form
            form = -((z @ matrix.T) * z).sum(1)
            rounding = 1 / gamma
            yield equal(f"γ = {gamma:g}: −zᵀKz", parts[1], form, scale=rounding)
            plain, folded = (weights @ p.square() - (weights @ p) ** 2 for p in parts)
            expected = torch.tensor(2.89, dtype=DOUBLE)
            scale = 10 * rounding**2
            yield equal(f"γ = {gamma:g}: variance", folded, expected, scale=scale)
            naive = 0.388 / gamma**2 + 2.89
            yield equal(
                f"γ = {gamma:g}: variance without", plain, torch.full_like(plain, naive),
                scale=scale,
            )  # fmt: skip
            if gamma == 0.03:
                printed = torch.tensor([434.0, 2.89], dtype=DOUBLE)
                yield near("γ = 0.03", torch.stack([plain, folded]), printed, 0.5, "three digits")

    return Claim(
        "antithetic-variance",
        "For a linear score the antithetic singular term is −zᵀKz, of variance 2‖K_sym‖² for "
        "every γ; without it the variance grows like |s|²/γ²: 434 against 2.89 at γ = 0.03.",
        Folded,
        check,
        FAULTS,
        formula=r"\frac{z\cdot(s(y+\gamma z) - s(y-\gamma z))}{2\gamma} = -z^{\mathsf T}Kz",
        entries=("H6.4", "A6"),
    )


def antithetic_velocity() -> Claim[Folded]:
    """The velocity's γ̇ z·b near t = 0, for each of the two."""

    def check(found: Folded, trial: Trial) -> Iterator[Evidence]:
        law = line_mixture()
        nodes = rule(law, trial.count(16, 12))
        path = found.on(fixed(linear(LINE, "sqrt", 1.3), nodes.z))
        marginal = MixtureMarginal(path, law)
        spread: dict[bool, list[Tensor]] = {False: [], True: []}
        for time in (1e-2, 1e-3, 2e-4):
            t = torch.full((len(nodes.z),), time, dtype=DOUBLE)
            model = Model(marginal.field("velocity"), path, BASE)
            for folded, variances in spread.items():
                values = Quadratic(antithetic=folded)(model, nodes.pairs, t, seeded())
                second = nodes.mean(values.square()) - nodes.mean(values) ** 2
                variances.append(second[0])
        plain, both = spread[False], spread[True]
        yield at_most("grows like γ̇² ~ 1/t without", 0.5, plain[2] / plain[1] / 5, "γ̇² at t/5")
        yield at_most("is bounded with", both[2], 1.05 * both[1], "its limit is finite")
        yield at_most("and smaller", both[2], plain[2] / 50, "γ̇² = 1.3/(4t)")

    return Claim(
        "antithetic-velocity",
        "Near t = 0 the variance of the velocity's objective grows like γ̇², and with antithetic "
        "draws it stays bounded.",
        Folded,
        check,
        (
            FAULTS[1],
            Control("the same draw twice", lambda found: Folded(lambda p, draw, name: draw)),
        ),
        formula=r"\tfrac{\dot\gamma}2\,z\cdot(b(x^+) - b(x^-)) \to "
        r"\gamma\dot\gamma\,z^{\mathsf T}\nabla b\,z",
        entries=("A6",),
    )


# -- times -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clocks:
    """Laws of the time."""

    laws: tuple[TimeLaw, ...] = (
        Uniform(),
        Arcsine(),
        Power(2.0),
        Power(3.0, 1),
        LogitNormal(0.3, 0.8),
        Tabulated((1.0, 3.0, 0.5, 2.0)),
    )


def waving(t: Tensor, x: Any) -> Tensor:
    """A field to be scored."""
    return torch.sin(x) + t[:, None]


def times() -> Claim[Clocks]:
    """Every law: Q and q fit, and the mean stays."""

    def check(found: Clocks, trial: Trial) -> Iterator[Evidence]:
        nodes, mass = np.polynomial.legendre.leggauss(64)
        law = line_mixture()
        inner = rule(law, 8)
        path = fixed(linear(LINE, "quadratic", 1.3), inner.z)
        model = Model(waving, path, BASE)
        rows = len(inner.z)

        def mean_at(objective: Quadratic, u: Tensor) -> Tensor:
            values = [
                inner.mean(objective(model, inner.pairs, v.expand(rows), seeded()))[0] for v in u
            ]
            return torch.stack(values)

        few, part = np.polynomial.legendre.leggauss(trial.count(24, 16))
        whole = None
        for clock in found.laws:
            words = type(clock).__name__
            u = torch.linspace(0.0031, 0.9973, 40, dtype=DOUBLE)
            if not isinstance(clock, LogitNormal):  # there Q has two branches with one image
                slope = torch.func.jvp(clock.times, (u,), (torch.ones_like(u),))[1]
                density = clock.density(clock.times(u))
                because = "rounding of 1 − τ ≥ 2e-8 at the last u"
                yield near(f"{words}: Q' q(Q)", slope * density, 1.0, 1e-8, because)
            # Gauss–Legendre on the pieces where Q is smooth
            cuts = [0.0, 1.0]
            if isinstance(clock, Tabulated):
                heights = torch.tensor(clock.heights, dtype=DOUBLE)
                cuts = [0.0, *(heights.cumsum(0) / len(heights)).tolist()]
            if isinstance(clock, LogitNormal):
                cuts = [0.0, clock.share, 0.5, 1.0]
            total, weight = torch.zeros((), dtype=DOUBLE), torch.zeros((), dtype=DOUBLE)
            for a, b in pairwise(cuts):
                v = torch.from_numpy(a + (b - a) * (nodes + 1) / 2)
                w = torch.from_numpy((b - a) * mass / 2)
                t = clock.times(v)
                weight = weight + w @ (1 / clock.density(t))
                total = total + w @ (torch.cos(3 * t) / clock.density(t))
            tolerance = 2e-4 if isinstance(clock, LogitNormal) else 1e-6
            because = "Gauss–Legendre, 64 nodes; a logistic normal is flat at its ends only slowly"
            yield near(f"{words}: mean weight", weight, 1.0, tolerance, because)
            yield near(f"{words}: ∫ cos 3t dt", total, math.sin(3.0) / 3, tolerance, because)
            if isinstance(clock, Uniform | Arcsine | Power):
                v = torch.from_numpy((few + 1) / 2)
                objective = Quadratic(time=clock, t_min=0.1, t_max=0.9)
                loss = torch.from_numpy(part / 2) @ mean_at(objective, v)
                whole = loss if whole is None else whole
                yield near(f"{words}: the objective", loss, whole, 1e-6, "Gauss–Legendre")
        t = torch.arange(400, dtype=DOUBLE) / 400 + 1 / 800
        values = 0.5 + 4 * (t > 0.75)  # constant on the bins
        best = adapted(t, values, bins=4)
        second = torch.stack(
            [
                (values.square() / clock.density(t)).mean()
                for clock in (best, Uniform(), Tabulated((1.0, 1.0, 1.0, 6.0)))
            ]
        )
        yield near("adapted: mean square", second[0], values.mean() ** 2, 1e-9, "Cauchy–Schwarz")
        yield at_most("and no law has less", second[0], second[1:].min(), "Cauchy–Schwarz")

    def denser(found: Clocks, size: float) -> Clocks:
        def wrong(law: TimeLaw) -> TimeLaw:
            return but(law, density=lambda tau: (1 + size) * law.density(tau))

        return Clocks(tuple(wrong(law) for law in found.laws))

    def later(found: Clocks, size: float) -> Clocks:
        def wrong(law: TimeLaw) -> TimeLaw:
            return but(law, times=lambda u: law.times(u) ** (1 + size))

        return Clocks(tuple(wrong(law) for law in found.laws))

    return Claim(
        "time-laws",
        "Whatever law the times are drawn by, weighting by its density keeps the mean; the law "
        "that is adapted to measured losses has the least variance.",
        Clocks,
        check,
        (dial("q × (1 + δ)", denser, 0.5), dial("Q to the power 1 + δ", later, 0.5)),
        formula=r"\mathbb E_{\tau\sim q}\big[\ell(\tau)/q(\tau)\big] = \int_0^1 \ell(t)\,dt",
        entries=("L2.16",),
    )


# -- energies and excess ---------------------------------------------------------------------------


def descent(case: Case, sign: float, bend: float) -> Any:
    """−∇E for E = sign·log ρ + bend·sin x, by automatic differentiation."""

    def energy(y: Tensor, t: Tensor) -> Tensor:
        return (sign * log_density(case, t, y) + bend * torch.sin(y[:, 0])).sum()

    return lambda t, y: -torch.func.grad(energy)(y, t)


def energy() -> Claim[Cases]:
    """ŝ = −∇E: least at E = −log ρ, and 2 E|s|² above it at E = +log ρ."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in found:
            law, gamma = case.law, case.path.schedule.gamma
            time = 0.6
            t0 = torch.full((1,), time, dtype=DOUBLE)
            nodes = rule(law, trial.count(20, 16))
            path = fixed(case.path, nodes.z)
            t = t0.expand(len(nodes.z))
            x = path.draw(t, nodes.pairs.x0, nodes.pairs.x1, seeded()).state

            right, near_by, turned = (
                valued(descent(case, *given), path, "score", nodes, t)
                for given in ((-1.0, 0.0), (-1.0, 0.4), (1.0, 0.0))
            )
            fisher = nodes.mean(score_at(case, t, x).square().sum(1))
            bent = 0.5 * nodes.mean((0.4 * torch.cos(x[:, 0])).square())
            words = f"{case.words}, γ = {float(gamma(t0)):.2g}"
            yield near(f"{words}: least value", right, -0.5 * fisher, 1e-5, RULE)
            yield near(f"{words}: excess of E + h", near_by - right, bent, 1e-5, RULE)
            yield near(f"{words}: excess of +log ρ", turned - right, 2 * fisher, 1e-5, RULE)

    return Claim(
        "energy",
        "With ŝ = −∇E the objective is least at E = −log ρ, and +log ρ, which the other sign of "
        "the cross term would give, exceeds it by twice the Fisher information.",
        cases("sqrt", "quadratic", law=line_mixture, base="any"),
        check,
        (
            Control("+z·∇E/γ in place of −z·∇E/γ", altered_target(turned_target)),
            dial("targets × (1 + δ)", altered_target(scaled_target), 0.1),
        ),
        formula=r"\mathbb E\big[\tfrac12|\nabla E|^2 - \gamma^{-1} z\cdot\nabla E\big]",
        entries=("L2.13", "X17"),
        owes="minimiser",
    )


@dataclass(frozen=True)
class Risk:
    """The function that measures the excess."""

    measure: Callable[..., Any] = excess_risk


def shifted(field: Any) -> Any:
    """The field and 0.2 x."""
    return lambda t, x: field(t, x) + 0.2 * x


def risk() -> Claim[Risk]:
    """Against differences of the objective with the same draws, and across quantities."""

    def check(found: Risk, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(20_000, 8_000)
        base = Gaussian((2,), dtype=DOUBLE)
        for case in cases("sqrt", "quadratic", base="any")():
            rng = trial.rng(case.words)
            pairs = Pairs(normal(count, 2, rng=rng), case.law.sample(count, rng))
            t = 0.1 + 0.8 * torch.rand(count, generator=rng, dtype=DOUBLE)
            for name in ("velocity", "noise", "denoiser+noise"):
                least = exact_field(case, name)

                def wrong(t: Tensor, x: Any, least: Any = least) -> Any:
                    return least(t, x) + 0.3 * torch.sin(least(t, x) + 0.5)

                model = Model(wrong, case.path, base, name)
                result = found.measure(model, least, pairs, t, seeded(trial.seed), bins=4)
                gap = Quadratic()(model, pairs, t, seeded(trial.seed)) - Quadratic()(
                    Model(least, case.path, base, name), pairs, t, seeded(trial.seed)
                )
                words = f"{case.words}, {name}"
                yield mean(f"{words}: L[g] − L[g*]", gap, result.value)
                total = float((result.values * result.counts).sum() / count)
                yield equal(f"{words}: by bins", total, result.value)
            noise, score = case.marginal.field("noise"), case.marginal.field("score")
            t = torch.full((count,), 0.3, dtype=DOUBLE)
            model = Model(shifted(noise), case.path, base, "noise")
            first = found.measure(model, noise, pairs, t, seeded())
            other = found.measure(model, score, pairs, t, seeded(), quantity="score")
            square = float(case.path.schedule.gamma_squared(t[:1]))
            yield equal(f"{case.words}: ‖ŝ − s‖² γ²", other.value * square, first.value)

    def without_half(found: Risk, size: float) -> Risk:
        def measure(*given: Any, **options: Any) -> Any:
            result = found.measure(*given, **options)
            factor = 1 + size if options.get("quantity") is None else (1 + size) ** 2
            return replace(
                result, value=factor * result.value, values=(1 + 2 * size) * result.values
            )

        return Risk(measure)

    return Claim(
        "excess-risk",
        "The measured excess is the difference of two objectives with the same draws, and that of "
        "the score is that of the noise over γ².",
        Risk,
        check,
        (dial("½ × (1 + δ)", without_half, 0.5),),
        formula=r"\|\hat s - s\| = \gamma^{-1}\|\hat\eta - \eta\|",
        entries=("L2.15", "L2.7"),
    )


# -- the implicit score ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Implicit:
    """The objective, with a dial on its divergence."""

    extra: float = 0.0

    def values(self, kind: Any, model: Model, pairs: Pairs, t: Tensor, seed: int) -> Tensor:
        """The values, with faults."""
        found = ImplicitScore(kind)(model, pairs, t, seeded(seed))
        if not self.extra:
            return found
        x = model.path.draw(t, pairs.x0, pairs.x1, seeded(seed)).state
        square: Tensor = 0.5 * model.field(t, x).square().sum(1)
        return found + self.extra * (found - square)


def placed(path: LinearPath) -> Any:
    """The path whose draw is x1 itself: states of our choice."""
    return but(path, draw=lambda t, x0, x1, rng: Draw(t, x1, x0, x1))


def bent(t: Tensor, x: Any) -> Tensor:
    """A wrong score."""
    value: Tensor = torch.sin(1.3 * x) - 0.6 * x
    return value


def implicit() -> Claim[Implicit]:
    """The identity on the line, by the trapezoidal rule."""

    def check(found: Implicit, trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-9, 9, trial.count(1801, 901), dtype=DOUBLE)[:, None]
        step = float(x[1] - x[0])
        for case in cases("none", "sqrt", law=line_mixture)():
            path, total = placed(case.path), []
            for time in (0.2, 0.5, 0.8):
                t = torch.full((len(x),), time, dtype=DOUBLE)
                mass = log_density(case, t, x).exp() * step
                score = score_at(case, t, x)

                value, above = (
                    mass @ found.values("exact", Model(f, path, BASE, "score"), Pairs(x, x), t, 0)
                    for f in (case.marginal.field("score"), bent)
                )
                fisher = mass @ score.square().sum(1)
                distance = mass @ (bent(t, x) - score).square().sum(1)
                words, because = f"{case.words}, t = {time:g}", "the trapezoidal rule on ±9"
                yield near(f"{words}: ŝ", above, 0.5 * (distance - fisher), 1e-9, because)
                yield near(f"{words}: least value", value, -0.5 * fisher, 1e-9, because)
                total.append(value - above)
            if case.path.latent:  # the same excess as the regression on −z/γ, at the last time
                nodes = rule(case.law, trial.count(20, 16))
                free = replace(case.path, base="any")
                times = torch.full((len(nodes.z),), 0.8, dtype=DOUBLE)
                least, most = (
                    valued(f, fixed(free, nodes.z), "score", nodes, times)
                    for f in (case.marginal.field("score"), bent)
                )
                words = f"{case.words}: excess, as of the regression on −z/γ"
                yield near(words, total[-1], (least - most)[0], 1e-5, RULE)

    return Claim(
        "implicit",
        "The implicit objective exceeds its least value by half the mean square distance to the "
        "score; the least value is minus half the Fisher information, and needs no latent.",
        Implicit,
        check,
        (
            dial("the divergence × (1 + δ)", lambda found, d: replace(found, extra=d), 0.5),
            Control("half the divergence", lambda found: replace(found, extra=-0.5)),
        ),
        formula=r"\mathbb E\big[\tfrac12|\hat s|^2 + \nabla\cdot\hat s\big] = "
        r"\tfrac12\mathbb E|\hat s - s|^2 - \tfrac12\mathbb E|s|^2",
        entries=("L1.14", "L2.12"),
        owes="minimiser",
    )


def probes() -> Claim[Implicit]:
    """The random divergences against the exact one."""

    def check(found: Implicit, trial: Trial) -> Iterator[Evidence]:
        count, rng = trial.count(40_000, 16_000), trial.rng()
        case = cases("sqrt", law=mixture)()[0]
        path, base = placed(case.path), Gaussian((2,), dtype=DOUBLE)
        turn = torch.tensor([[0.4, -0.9], [0.2, -1.1]], dtype=DOUBLE)

        def turned(t: Tensor, x: Any) -> Tensor:
            value: Tensor = torch.sin(x @ turn.T) - 0.3 * x
            return value

        model = Model(turned, path, base, "score")
        x = normal(count, 2, rng=rng)
        t = torch.full((count,), 0.5, dtype=DOUBLE)
        exactly = ImplicitScore()(model, Pairs(x, x), t, seeded())
        for kind in ("hutchinson", "sliced"):
            values = found.values(kind, model, Pairs(x, x), t, trial.seed + 1)
            yield mean(f"{kind} − exact", values - exactly, 0.0)

    return Claim(
        "implicit-probes",
        "With one random probe per row, along it or sliced by it, the implicit objective has the "
        "same mean.",
        Implicit,
        check,
        (dial("the divergence × (1 + δ)", lambda found, d: replace(found, extra=d), 0.5),),
        formula=r"\mathbb E_\xi\big[\tfrac12(\xi\cdot\hat s)^2 + \xi^{\mathsf T}\nabla\hat s\,\xi"
        r"\big] = \tfrac12|\hat s|^2 + \nabla\cdot\hat s",
        entries=("L1.14", "L2.12"),
    )
