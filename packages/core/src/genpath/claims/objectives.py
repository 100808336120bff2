r"""Claims of objectives and dynamics, on paths whose fields are known in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.laws import Gaussian
from genpath.models import ODE, SDE, Jump, Model
from genpath.objectives import DIVERGENCES, Regression
from genpath.paths import Draw
from genpath.predictions import Prediction
from genpath.spaces import Euclidean
from genpath.testing import Claim, Control, Evidence, Trial, contracts, dial, equal, near

from ._arc import (
    Arc,
    Turns,
    denoiser,
    letter_logits,
    letter_pairs,
    log_law,
    normal_pairs,
    velocity,
)
from ._chain import START

__all__ = ["flows", "jumps", "noisy", "regression"]

DOUBLE = torch.float64


def regression() -> tuple[Claim[Any], ...]:
    """Claims of ``objective.regression``."""
    cited = {"gradient": ("S.9", "G.16")}
    squares = contracts.objective(
        Regression, _squares, normal_pairs, targets=velocity, entries=cited
    )
    letters = contracts.objective(
        lambda: Regression("cross_entropy"),
        lambda: Model(letter_logits, Turns(), Gaussian(()), "logits"),
        letter_pairs,
    )
    counts = contracts.objective(
        lambda: Regression("poisson"),
        lambda: Model(lambda t, x: x.sin(), _Counts(), Gaussian(()), "rate"),  # type: ignore[union-attr]
        _counted,
        targets=lambda t, x: x.sin().exp(),
        entries=cited,
    )
    return (
        *contracts.named("squared", squares),
        *contracts.named("cross-entropy", letters),
        *contracts.named("poisson", counts),
        _catalogue(),
        _mean_minimiser(),
        _least_squares(),
    )


def _squares() -> Model:
    return Model(velocity, Arc(), Gaussian((2,)))


@dataclass(frozen=True)
class _Counts:
    """x_t = x0; the target is a count of mean exp(sin x), asked for as its logarithm."""

    space: Euclidean = Euclidean(2)  # noqa: RUF009
    rules: tuple[Any, ...] = ()

    @property
    def predictions(self) -> dict[str, Prediction]:
        return {"rate": Prediction("rate", (2,), False, "log E[count | x]")}

    def draw(self, t: Tensor, x0: Any, x1: Any, rng: torch.Generator) -> Draw:
        return Draw(t, x0, x0, x1)

    def target(self, name: str, draw: Draw) -> Any:
        return draw.x1

    def conditional_generator(self, x0: Any, x1: Any) -> Any:
        raise NotImplementedError


def _counted(n: int, rng: torch.Generator) -> Pairs:
    x = torch.randn(n, 2, generator=rng, dtype=DOUBLE)
    return Pairs(x, torch.poisson(x.sin().exp(), generator=rng))


# -- the divergences -------------------------------------------------------------------------

VALUES = torch.tensor([0.2, 0.5, 1.7, 3.1], dtype=DOUBLE)
CHANCES = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=DOUBLE)


def _divergences() -> Any:
    """D(a, b) by the names of the ledger, b in its own coordinates."""

    def squared(a: Tensor, b: Tensor) -> Tensor:
        return DIVERGENCES["squared"](_squares(), None, a[:, None], b[:, None])

    def poisson(a: Tensor, b: Tensor) -> Tensor:
        return DIVERGENCES["poisson"](None, None, a[:, None], b.log()[:, None])

    return {"squared": squared, "poisson": poisson}


def _apart(divergences: Any, size: float) -> Any:
    """A term that is lost: D − δ (b − a)."""
    return {n: lambda a, b, d=d: d(a, b) - size * (b - a) for n, d in divergences.items()}


def _swapped(divergences: Any) -> Any:
    return {n: lambda a, b, d=d: d(b, a) for n, d in divergences.items()}


LOST: Control[Any] = dial("D − δ (b − a)", _apart)
SWAPPED: Control[Any] = Control("the arguments are swapped", _swapped)


def _catalogue() -> Claim[Any]:
    def check(divergences: Any, trial: Trial) -> Iterator[Evidence]:
        two, half = torch.tensor([2.0, 0.5], dtype=DOUBLE)[:, None]
        digits = "nine decimals of G-F2"
        squares, counts = divergences["squared"], divergences["poisson"]
        yield near("squared D(2, ½)", squares(two, half)[0], 1.125, 1e-12, "rounding")
        yield near("Poisson D(2, ½)", counts(two, half)[0], 1.272588722, 1e-9, digits)
        centre = (CHANCES * VALUES).sum().expand(4)
        found = (CHANCES * counts(VALUES, centre)).sum()
        yield near("Poisson E D(Y, E Y)", found, 0.396130323, 1e-9, digits)
        p, q = (torch.tensor(v, dtype=DOUBLE) for v in ((0.6, 0.3, 0.1), (0.2, 0.5, 0.3)))
        cross = DIVERGENCES["cross_entropy"]
        each = cross(None, None, torch.arange(3), q.log().expand(3, 3))
        entropy = cross(None, None, torch.arange(3), p.log().expand(3, 3))
        yield near("KL on the simplex", (p * (each - entropy)).sum(), 0.396058457, 1e-9, digits)
        other = torch.linspace(0.4, 3, 4, dtype=DOUBLE)
        for name, d in divergences.items():
            for b in other:
                whole = (CHANCES * d(VALUES, b.expand(4))).sum()
                parts = (CHANCES * d(VALUES, centre)).sum() + d(centre[:1], b.reshape(1))[0]
                yield equal(f"Pythagoras, {name}, b = {float(b):.2g}", whole, parts)

    return Claim(
        "catalogue",
        "The divergences have the ledger's values and split into that of the mean and the "
        "distance from it.",
        _divergences,
        check,
        (LOST,),
        formula=r"\mathbb{E}D(Y,b) = \mathbb{E}D(Y,\mathbb{E}Y) + D(\mathbb{E}Y,b)",
        entries=("G.17", "G-F2"),
        owes="minimiser",
    )


def _mean_minimiser() -> Claim[Any]:
    def minimiser(d: Any) -> Tensor:
        """The b with d/db E D(Y, b) = 0, by bisection of the slope."""

        def slope(b: Tensor) -> Tensor:
            found: Tensor = torch.func.grad(lambda c: (CHANCES * d(VALUES, c.expand(4))).sum())(b)
            return found

        low, high = torch.tensor([0.2, 3.1], dtype=DOUBLE)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if float(slope(middle)) < 0 else (low, middle)
        result: Tensor = low
        return result

    def check(divergences: Any, trial: Trial) -> Iterator[Evidence]:
        for name, d in divergences.items():
            yield near(f"argmin E D(Y, ·), {name}", minimiser(d), 1.35, 1e-9, "bisection")
        geometric = minimiser(lambda a, b: divergences["poisson"](b, a))
        because = "nine decimals of G-F2"
        yield near("with swapped arguments, Poisson", geometric, 0.948632537, 1e-9, because)

    return Claim(
        "mean",
        "The mean of Y minimises E D(Y, ·); with the model as first argument, the Poisson "
        "divergence finds the geometric mean instead.",
        _divergences,
        check,
        (LOST, SWAPPED),
        formula=r"\operatorname{argmin}_b\,\mathbb{E}D(Y,b) = \mathbb{E}Y, \qquad"
        r" \operatorname{argmin}_b\,\mathbb{E}D_{\mathrm{KL}}(b,Y) = e^{\mathbb{E}\log Y}",
        entries=("Y3", "S.9", "G-F2"),
        owes="minimiser",
    )


def _least_squares() -> Claim[Any]:
    """On the circle: θ uniform, Y = (1 + cos θ)T + 2ξX has u* = (1 + cos θ)T and J[u*] = −3/4."""
    angle = 2 * torch.pi * torch.arange(64, dtype=DOUBLE) / 64

    def check(squared: Any, trial: Trial) -> Iterator[Evidence]:
        x = torch.stack([angle.cos(), angle.sin()], 1)
        tangent = torch.stack([-angle.sin(), angle.cos()], 1)
        best = (1 + angle.cos())[:, None] * tangent
        noisy = [best + 2 * sign * x for sign in (-1, 1)]  # ξ = ±1: mean 0, variance 1

        def loss(u: Tensor) -> Tensor:
            """E ½|u|² − Y·u, which is E ½|u − Y|² less E ½|Y|²."""
            total = [squared(y, u) - squared(y, 0 * u) for y in noisy]
            found: Tensor = torch.stack(total).mean()
            return found

        yield equal("J at u*", loss(best), -0.75)
        for k, other in enumerate((0 * best, x, tangent, best + 0.3 * x * x[:, :1])):
            gap = 0.5 * (other - best).square().sum(1).mean()
            yield equal(f"J[u] − J[u*], u number {k}", loss(other) - loss(best), gap)

    def make() -> Any:
        return lambda a, b: DIVERGENCES["squared"](_squares(), None, a, b)

    def scaled(squared: Any, size: float) -> Any:
        return lambda a, b: (1 + size) * squared(a, b)

    return Claim(
        "least-squares",
        "The squared loss exceeds its least value by half the squared distance to the conditional "
        "mean; on the circle that value is −3/4.",
        make,
        check,
        (dial("loss × (1 + δ)", scaled),),
        formula=r"\mathbb{E}\big[\tfrac12|u|^2 - Y\cdot u\big] ="
        r" \tfrac12\mathbb{E}|u-u^*|^2 - \tfrac12\mathbb{E}|u^*|^2",
        entries=("L1.16", "H1.1"),
        owes="minimiser",
    )


# -- dynamics --------------------------------------------------------------------------------


def _carries_law(make: Any, noise: str, controls: Any) -> Claim[Any]:
    def check(dynamics: Any, trial: Trial) -> Iterator[Evidence]:
        x = torch.randn(40, 2, generator=trial.rng(), dtype=DOUBLE)
        gen = dynamics.generator(Arc(), "denoiser", denoiser)
        for number in (0.1, 0.5, 0.9):
            t = torch.full((1,), number, dtype=DOUBLE)
            left = torch.func.jacrev(lambda t: log_law(t, x))(t)[:, 0]
            right = gen.adjoint(lambda y, t=t: log_law(t, y), number, x)
            size = float(left.abs().max())
            what = f"∂_t log p against (L*p)/p at t = {number}"
            yield equal(what, right, left, operations=1e5, scale=size)

    return Claim(
        "marginals",
        f"With the exact denoiser, {noise} has the marginal laws of the path.",
        make,
        check,
        controls,
        formula=r"\partial_t p_t = L_t^*\,p_t",
        owes="density",
    )


def _other_field(change: Any) -> Any:
    """The dynamics, given a field that is changed."""

    def plant(dynamics: Any, size: float) -> Any:
        class Changed:
            def generator(self, path: Any, name: str, field: Any) -> Any:
                return dynamics.generator(path, name, lambda t, x: change(field(t, x), size))

        return Changed()

    return plant


DENOISER: Control[Any] = dial("denoiser × (1 + δ)", _other_field(lambda v, d: (1 + d) * v))


def flows() -> tuple[Claim[Any], ...]:
    """Claims of ``dynamics.ode``."""
    return (_carries_law(ODE, "the probability flow", (DENOISER,)),)


def noisy() -> tuple[Claim[Any], ...]:
    """Claims of ``dynamics.sde``."""

    def louder(dynamics: Any, size: float) -> Any:
        class Louder:
            def generator(self, path: Any, name: str, field: Any) -> Any:
                gen = dynamics.generator(path, name, field)

                def evaluate(t: Tensor, x: Any) -> Any:
                    parts = gen.evaluate(t, x)
                    return replace(parts, diffusion=parts.diffusion.scaled((1 + size) ** 0.5))

                return replace(gen, evaluate=evaluate)

        return Louder()

    sigma = dial("the noise of ε × (1 + δ), the drift of ε", louder)
    return (_carries_law(lambda: SDE(0.7), "the SDE with any ε", (sigma, DENOISER)),)


def jumps() -> tuple[Claim[Any], ...]:
    """Claims of ``dynamics.jumps``."""
    return (_letters_law(),)


def _letters_law() -> Claim[Any]:
    def log_p(t: Tensor, x: Tensor) -> Tensor:
        law = t[:, None] * START + (1 - t[:, None]) / 3
        return law.gather(1, x).log().sum(1)

    def check(dynamics: Any, trial: Trial) -> Evidence:
        gen = dynamics.generator(Turns(), "logits", letter_logits)
        x = Turns().space.all()
        t = torch.full((len(x),), 0.4, dtype=DOUBLE)
        left = torch.func.grad(lambda t: log_p(t, x).sum())(t)
        right = gen.adjoint(lambda y: log_p(t[:1].expand(len(y)), y), t, x)
        return equal("∂_t log p against (L*p)/p, all nine states", right, left, operations=1e4)

    return Claim(
        "marginals",
        "With the exact posterior, the jumps have the marginal laws of the path.",
        Jump,
        check,
        (dial("logits × (1 + δ)", _other_field(lambda v, d: (1 + d) * v)),),
        formula=r"\partial_t p_t = L_t^*\,p_t",
        entries=("G.14",),
        owes="density",
    )
