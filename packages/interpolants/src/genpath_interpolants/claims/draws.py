r"""Existence: x_t = (1−t) x0 + t x1 + γ(t) z moves as its target says and has the laws it should.

    E x_t, Cov x_t          those of a sum of normal vectors
    E e^{ik·x_t}            φ_I(k) e^{−γ²|k|²/2}
    ẋ_t                     the time derivative of the draw itself

The laws and the derivative are found without the path: by sums of normal vectors, and by automatic
differentiation of the draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath.paths import Draw
from genpath.schedules import Scalar
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    dial,
    equal,
    exact,
    mean,
    near,
)

from ..mixtures import GaussianMixture
from ..paths import LinearPath
from ..presets import linear
from .cases import (
    DOUBLE,
    GAMMAS,
    LINE,
    PLANE,
    Case,
    Cases,
    cases,
    changed_rules,
    gamma_name,
    gamma_squared,
    normal,
    scaled_field,
    seeded,
)

__all__ = ["claims"]

Paths = tuple[LinearPath, ...]


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (motion(), moments(), smoothing(), fourier())


def on_all(plant: Callable[..., LinearPath]) -> Callable[..., Paths]:
    """A fault planted in every path."""
    return lambda paths, *size: tuple(plant(path, *size) for path in paths)


def noisier(path: LinearPath, size: float) -> LinearPath:
    """The path with γ² times 1 + δ, in its draws alone."""
    square = path.schedule.gamma_squared
    return but(
        path, schedule=but(path.schedule, gamma_squared=Scalar(lambda t: (1 + size) * square(t)))
    )


def motion() -> Claim[Paths]:
    """The target of the velocity is ẋ_t."""

    def check(paths: Paths, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        x0, x1 = normal(2, 40, 2, rng=rng)
        t = 0.02 + 0.96 * torch.rand(40, generator=rng, dtype=DOUBLE)
        for path in paths:

            def state(t: Tensor, path: LinearPath = path) -> Tensor:
                found: Tensor = path.draw(t, x0, x1, seeded()).state
                return found

            slope = torch.func.jvp(state, (t,), (torch.ones_like(t),))[1]
            draw, fused = path.draw_with_target("velocity", t, x0, x1, seeded())
            apart = path.target("velocity", path.draw(t, x0, x1, seeded()))
            words, size = f"γ {gamma_name(path)}", float(slope.abs().max())
            yield equal(f"{words}: target", apart, slope, scale=size)
            yield equal(f"{words}: target with its draw", fused, slope, scale=size)
            yield exact(f"{words}: the same draw", draw.state, state(t))

    def wrong(factor: Callable[[float], float]) -> Callable[..., Paths]:
        def plant(path: LinearPath, size: float = 0.0) -> LinearPath:
            def target(name: str, draw: Draw) -> Tensor:
                right = path.target(name, draw)
                straight: Tensor = draw.x1 - draw.x0
                return straight + factor(size) * (right - straight)

            return but(path, target=target)

        return on_all(plant)

    return Claim(
        "target-is-the-motion",
        "The target of the velocity is the time derivative of the draw for the same latent noise.",
        lambda: tuple(linear(PLANE, gamma, 1.3) for gamma in GAMMAS),
        check,
        (
            dial("γ̇ × (1 + δ)", wrong(lambda size: 1 + size)),
            Control("−γ̇ z", wrong(lambda size: -1.0)),
            Control("no γ̇ z", wrong(lambda size: 0.0)),
        ),
        formula=r"\dot x_t = x_1 - x_0 + \dot\gamma z",
        entries=("L2.1", "L5.1"),
        owes="existence",
    )


# -- laws ----------------------------------------------------------------------------------------


def moments() -> Claim[LinearPath]:
    """Mean and covariance of normal ends."""

    def check(path: LinearPath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(60_000)
        mix = torch.tensor(
            [[1.0, 0, 0, 0], [0.4, 0.9, 0, 0], [0.5, -0.3, 0.7, 0], [0.1, 0.6, 0.2, 0.8]],
            dtype=DOUBLE,
        )
        joint = mix @ mix.T  # the covariance of (x0, x1), with its cross-covariance
        shift = torch.tensor([0.3, -0.2, 1.0, 0.5], dtype=DOUBLE)
        pair = shift + normal(count, 4, rng=rng) @ mix.T
        for t in (0.3, 0.8):
            x = path.draw(t, pair[:, :2], pair[:, 2:], rng).state
            blend = torch.cat([(1 - t) * torch.eye(2), t * torch.eye(2)], 1).double()
            centre = blend @ shift
            spread = blend @ joint @ blend.T + 2 * t * (1 - t) * torch.eye(2, dtype=DOUBLE)
            centred = x - centre
            square = (centred[:, :, None] * centred[:, None, :]).flatten(1)
            yield mean(f"mean at t = {t:g}", x, centre)
            yield mean(f"covariance at t = {t:g}", square, spread.flatten())
        standard = normal(2, count, 2, rng=rng)
        x = path.draw(0.4, standard[0], standard[1], rng).state
        yield mean("variance of standard independent ends", x**2, 1.0)
        for t, end in ((0.0, standard[0]), (1.0, standard[1])):
            yield exact(f"x_{t:g}", path.draw(t, standard[0], standard[1], rng).state, end)

    return Claim(
        "normal-ends",
        "For jointly normal ends, draws have the mean and covariance of the sum; with "
        "γ² = 2t(1−t) independent standard ends keep their covariance.",
        lambda: linear(PLANE, "sqrt", 2.0),
        check,
        (
            dial("γ² × (1 + δ)", noisier, 0.5),
            Control("z is drawn once for all coordinates", _one_noise),
        ),
        formula=r"\mathrm{Cov}\,x_t = \alpha^2 S_0 + \beta^2 S_1 "
        r"+ \alpha\beta (G + G^\top) + \gamma^2 I",
        entries=("F1", "L1.24", "L2.19"),
        owes="existence",
    )


def _one_noise(path: LinearPath) -> LinearPath:
    def draw(t: float, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Draw:
        right = path.draw(t, x0, x1, rng)
        z = right.latent[:, :1].expand_as(x0)
        return replace(right, state=right.state + math.sqrt(2 * t * (1 - t)) * (z - right.latent))

    return but(path, draw=draw)


Smooth = tuple[LinearPath, GaussianMixture]
GAMMA = 0.3


def smoothing() -> Claim[Smooth]:
    """Atoms plus normal noise: the characteristic function, the score, bounds on derivatives."""
    weights = torch.tensor([0.4, 0.6], dtype=DOUBLE)
    atoms = torch.tensor([[-0.8], [0.7]], dtype=DOUBLE)

    def make() -> Smooth:
        path = linear(LINE, "sqrt", 4 * GAMMA**2)  # γ(½) = 0.3
        return path, GaussianMixture(weights, atoms, torch.full((2,), GAMMA, dtype=DOUBLE))

    def check(thing: Smooth, trial: Trial) -> Iterator[Evidence]:
        path, law = thing
        rng, k = trial.rng(), torch.tensor([0.7, 1.5, 3.0, 5.0], dtype=DOUBLE)
        y = atoms[torch.multinomial(weights, trial.count(80_000), True, generator=rng)]
        angle = k * path.draw(0.5, y, y, rng).state
        damped = torch.exp(-0.5 * (GAMMA * k) ** 2)
        for name, wave in (("cos", torch.cos), ("sin", torch.sin)):
            exactly = (weights[:, None] * wave(k * atoms)).sum(0) * damped
            yield mean(f"E {name} k·x", wave(angle), exactly)
        x = torch.linspace(-2, 2, 81, dtype=DOUBLE)[:, None]
        posterior = torch.softmax(weights.log() - (x - atoms[:, 0]) ** 2 / (2 * GAMMA**2), 1)
        noise = (x - posterior @ atoms) / GAMMA  # E[z | x], by Bayes' rule on the two atoms
        slope = torch.func.grad(lambda y: law.log_prob(y).sum())(x)
        yield equal("score", path.convert("score", {"noise": noise}, 0.5, x), slope, operations=512)
        yield from _derivatives(law)

    return Claim(
        "smoothing",
        "With x0 = x1 the draw is the data plus N(0, γ²): its characteristic function is damped "
        "by exp(−γ²k²/2), its score is −E[z|x]/γ and its derivatives obey the Fourier bounds.",
        make,
        check,
        (
            dial("γ² × (1 + δ)", lambda thing, size: (noisier(thing[0], size), thing[1])),
            Control("s = +E[z|x]/γ", _plus_score),
            Control("a density of half the width", _narrow),
        ),
        formula=r"\mathbb E e^{ik\cdot x_t} = \varphi_{I_t}(k)\, e^{-\gamma^2 |k|^2/2}",
        entries=("L1.4", "H1.2"),
        owes="existence",
    )


def _plus_score(thing: Smooth) -> Smooth:
    return changed_rules(thing[0], torch.neg, "score"), thing[1]


def _narrow(thing: Smooth) -> Smooth:
    return thing[0], but(thing[1], log_prob=replace(thing[1], stds=thing[1].stds / 2).log_prob)


def _derivatives(law: GaussianMixture) -> Iterator[Evidence]:
    """sup |ρ^(n)| ≤ 2^{(n−1)/2} Γ((n+1)/2)/(π γ^{n+1})."""
    x = torch.linspace(-2.5, 2.5, 401, dtype=DOUBLE)
    narrow = replace(law, stds=law.stds / 2)

    def density(of: GaussianMixture, y: Tensor) -> Tensor:
        return of.log_prob(y.reshape(1, 1)).exp()[0]

    function: Callable[[Tensor], Tensor] = partial(density, law)
    other: Callable[[Tensor], Tensor] = partial(density, narrow)
    for n in range(4):
        bound = 2 ** ((n - 1) / 2) * math.gamma((n + 1) / 2) / (math.pi * GAMMA ** (n + 1))
        # equal weights would reach 1/2 of it at n = 0; the heavier atom has 0.6
        highest = torch.func.vmap(function)(x).abs().max()
        yield at_most(f"sup |ρ^({n})|", highest, bound, "the Fourier integral of |k|^n e^{−γ²k²/2}")
        ratio = torch.func.vmap(other)(x).abs().max() / highest
        because = "(h/γ)²/8 of the grid's step h = 1/80, times n + 2 for the n-th derivative"
        yield near(f"sup |ρ^({n})| for γ/2", ratio / 2 ** (n + 1), 1.0, 5e-3, because)
        function, other = torch.func.grad(function), torch.func.grad(other)


def fourier() -> Claim[Cases]:
    """The proof of the density theorem in Fourier space, on draws."""

    def check(found: Cases, trial: Trial) -> Iterator[Evidence]:
        waves = torch.tensor([[0.8, 0.3], [-0.5, 1.1], [1.3, 0.2]], dtype=DOUBLE)
        for case in found:
            rng, count, t = trial.rng(case.words), trial.count(80_000, 40_000), 0.4
            x0, x1 = normal(count, 2, rng=rng), case.law.sample(count, rng)
            draw = case.path.draw(t, x0, x1, rng)
            speed = case.path.target("velocity", draw) @ waves.T
            field = case.marginal.velocity(t, draw.state) @ waves.T
            angle, noise = draw.state @ waves.T, draw.latent @ waves.T
            g, rate = _wave_mean(case, waves, torch.tensor(t, dtype=DOUBLE))
            gamma = math.sqrt(float(gamma_squared(case.path, torch.tensor(t))))
            size = gamma * waves.square().sum(1)
            c, s = angle.cos(), angle.sin()
            yield mean(f"{case.words}: E e^(ik·x)", torch.cat([c, s], 1), torch.cat(g))
            yield mean(
                f"{case.words}: E k·z e^(ik·x) = iγ|k|² g",
                torch.cat([noise * c, noise * s], 1),
                torch.cat([-size * g[1], size * g[0]]),
            )
            yield mean(
                f"{case.words}: E ik·ẋ e^(ik·x) = ∂_t g",
                torch.cat([-speed * s, speed * c], 1),
                torch.cat(rate),
            )
            gap = speed - field
            yield mean(f"{case.words}: E k·(ẋ − b) e^(ik·x)", torch.cat([gap * c, gap * s], 1), 0)

    return Claim(
        "fourier",
        "The Fourier transforms of the law, of z and of ẋ are those of the sum of normal vectors, "
        "and the velocity b has the transform of ẋ.",
        cases("sqrt", "quadratic"),
        check,
        (
            dial("b × (1 + δ)", scaled_field("velocity"), 0.5),
            Control("z has the other sign", _other_sign),
            Control("γ² × 1.5", lambda found: tuple(_noisy_case(case) for case in found)),
        ),
        formula=r"\partial_t g = ik\cdot m, \quad m = \mathbb E[b(t,x_t)\,e^{ik\cdot x_t}], \quad "
        r"\mathbb E[z\,e^{ik\cdot x_t}] = i\gamma k\,g",
        entries=("L2.4", "L2.9"),
        owes="density",
    )


def _noisy_case(case: Case) -> Case:
    return replace(case, path=noisier(case.path, 0.5))


def _other_sign(found: Cases) -> Cases:
    def plant(case: Case) -> Case:
        def draw(*given: Any) -> Draw:
            right = case.path.draw(*given)
            return replace(right, latent=-right.latent)

        return replace(case, path=but(case.path, draw=draw))

    return tuple(plant(case) for case in found)


def _wave_mean(case: Case, k: Tensor, t: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Real and imaginary parts of g(t, k) = E e^{ik·x_t}, and of its time derivative."""

    def g(t: Tensor) -> tuple[Tensor, Tensor]:
        law = case.law
        base = (1 - t) ** 2 + gamma_squared(case.path, t)
        decay = torch.exp(-0.5 * (k**2 @ (t**2 * law.stds**2 + base).T))
        phase = t * (k @ law.means.T)
        return (decay * phase.cos()) @ law.weights, (decay * phase.sin()) @ law.weights

    value, rate = torch.func.jvp(g, (t,), (torch.ones_like(t),))[:2]
    return list(value), list(rate)
