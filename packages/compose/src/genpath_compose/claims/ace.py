"""Claims of lecture 8: the weight of any transport and noise, and the law that a run tends to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genpath.errors import DomainError
from genpath.grids import TimeGrid
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, order
from genpath_interpolants.schedules import (
    linear_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

from ..certificates import certify
from ..compositions import Composition
from ..correctors import WeightedExperts
from ..dynamics import Blend, Composed, Follow, Noising, Through
from ..experts import DiffusionExpert
from ..normals import Normal, power_product
from ..processes import LinearDrift
from ..references import LinearLaw, euler_law
from ..tails import affine_tail
from ._scenes import DOUBLE, collapse_toy, normal_expert, plane

__all__ = ["special_cases", "terminal_laws", "weights"]


def _turn(t: Tensor, x: Tensor) -> Tensor:
    """A velocity that belongs to no expert, with a divergence."""
    return torch.stack([torch.sin(x[:, 1]) + x[:, 0], t * x[:, 0] * x[:, 1]], 1)


@dataclass(frozen=True)
class _Biased:
    """A transport that states a divergence (1 + δ) times its own."""

    inner: Any
    size: float
    cancels: bool = False

    @property
    def needs(self) -> frozenset[str]:
        return self.inner.needs  # type: ignore[no-any-return]

    def __call__(self, scene: Any) -> tuple[Tensor, Tensor | None]:
        flow, divergence = self.inner(scene)
        return flow, (1 + self.size) * divergence


def _generic(composed: Composed, trial: Trial) -> Evidence:
    """The largest gap of ∂_t log h − (L*h)/h from 0, with the potential inside L."""
    composition, rng = composed.composition, trial.rng()
    x = 1.5 * torch.randn(40, 2, generator=rng, dtype=DOUBLE)
    t = 0.1 + 0.8 * torch.rand(40, generator=rng, dtype=DOUBLE)

    def log_h(state: Any) -> Tensor:
        return composition.log_density(t.repeat(len(state["x"]) // len(t)), state["x"])

    slope = torch.func.jvp(lambda s: composition.log_density(s, x), (t,), (torch.ones_like(t),))[1]
    found = composed.generator().adjoint(log_h, t, {"x": x})
    scale = float(slope.abs().max().clamp_min(1))
    return equal("(L*h)/h and ∂_t log h", found, slope, operations=1e3, scale=scale)


def _transports() -> list[tuple[str, Any, Any]]:
    matrix = torch.tensor([[0.7, 0.2], [0.0, 0.4]], dtype=DOUBLE)
    return [
        ("blend", Blend(), 0.8),
        ("still", Follow(0, 0.0), 0.0),
        ("one-expert", Follow(1), 1.3),
        ("any-field", Through(_turn), lambda t: 0.5 + t),
        ("matrix-noise", Blend(), matrix),
    ]


def _on_a_plane(sigma: Any, transport: Any) -> Composed:
    return Composed(plane(), sigma, transport)


def _toy(sigma: Any, transport: Any) -> Composed:
    return Composed(collapse_toy(), sigma, transport)


def _without_rates(composed: Composed) -> Composed:
    frozen = [but(g, rate=lambda t: 0 * t) for g in composed.composition.exponents]
    return replace(composed, composition=composed.composition.with_exponents(frozen))


def _faster(composed: Composed, size: float) -> Composed:
    """One expert's velocity × (1 + δ)."""
    terms = composed.composition.terms
    first = terms[0].expert
    plain = first.fields

    def fields(names: Any, t: Tensor, x: Tensor, probe: Any = None) -> dict[str, Tensor]:
        found = dict(plain(names, t, x, probe))
        if "velocity" in found:
            found["velocity"] = (1 + size) * found["velocity"]
        return found

    wrong = replace(terms[0], expert=but(first, fields=fields))
    return replace(composed, composition=Composition((wrong, *terms[1:])))


def weights() -> list[Claim[Any]]:
    """g of any transport makes h_t solve the weighted forward equation."""
    claims = []
    for name, transport, sigma in _transports():
        controls = [
            Control("γ̇ ℓ dropped from the weight", _without_rates),
            dial("one velocity × (1 + δ)", _faster),
        ]
        if not transport.cancels:
            controls.append(
                dial(
                    "div v* × (1 + δ)",
                    lambda c, d: replace(c, transport=_Biased(c.transport, d)),
                )
                if name != "still"
                else Control(
                    "the divergences dropped, as if v* were the blend",
                    lambda c: replace(c, transport=but(c.transport, cancels=True)),
                )
            )
        claims.append(
            Claim(
                f"generic-{name}",
                "With its potential, the generator of a composition carries h_t: (L*h)/h, found by "
                "differentiating log h, is ∂_t log h, for experts with different schedules, on "
                "different coordinates, with exponents that move.",
                partial(_on_a_plane, sigma, transport),
                _generic,
                controls,
                formula=r"\partial_t\log h=\frac{\mathcal L^*h}{h},\quad g=\nabla\!\cdot v^*"
                r"+\sum_i\gamma_i D_i+\sum_i\dot\gamma_i\log q_i",
                entries=("L8.17", "H8.3", "L7.15")
                if name != "matrix-noise"
                else ("L8.17", "L7.15", "L8.16"),
                owes="density",
            )
        )
    claims.append(_invariant())
    return claims


def _invariant() -> Claim[Any]:
    def check(composed: Composed, trial: Trial) -> Evidence:
        x = torch.randn(30, 2, generator=trial.rng(), dtype=DOUBLE)
        t = torch.full((30,), 0.4, dtype=DOUBLE)
        noisy, still = composed.generator(), Composed(composed.composition, 0.0).generator()

        def log_h(state: Any) -> Tensor:
            times = t.repeat(len(state["x"]) // len(t))  # `adjoint` repeats the rows
            return composed.composition.log_density(times, state["x"])

        both = [gen.adjoint(log_h, t, {"x": x}) for gen in (noisy, still)]
        scale = float(both[1].abs().max().clamp_min(1))
        return equal("(L*h)/h with noise and without", *both, operations=1e3, scale=scale)

    return Claim(
        "noise-leaves-h",
        "The drift ½ a s* and the noise σ together leave h as it is, whatever σ.",
        lambda: Composed(plane(), 1.4),
        check,
        [dial("½ σ² s* × (1 + δ)", _pushed)],
        formula=r"-\nabla\!\cdot\big(h\tfrac{\sigma^2}2s^*\big)+\tfrac{\sigma^2}2\Delta h=0",
        entries=("L8.16",),
        owes="density",
    )


def _pushed(composed: Composed, size: float) -> Any:
    """The same dynamics with a push that is too strong wherever there is noise."""
    return but(composed, generator=lambda: _scaled_push(composed, size))


def _scaled_push(composed: Composed, size: float) -> Any:
    gen = composed.generator()

    def evaluate(t: Tensor, state: Any) -> Any:
        parts = gen.evaluate(t, state)
        push = composed._push(t, composed.composition.score(t, state["x"]))
        if push is None or parts.velocity is None:
            return parts
        return replace(parts, velocity={"x": parts.velocity["x"] + size * push})

    return replace(gen, evaluate=evaluate)


# -- terminal laws, without Monte-Carlo error --------------------------------------------------


def _exact_end() -> tuple[float, float, float]:
    """Mean, variance and log Z_1/Z_0 of the toy's target, by the product of normal laws."""

    def number(value: float) -> Tensor:
        return torch.tensor([value], dtype=DOUBLE)

    one = number(1.0)
    law, log_end = power_product([(one, one), (number(0.4), one)], [1.0, -0.7])
    log_start = power_product([(number(0.0), one), (number(0.0), one)], [1.0, -0.7])[1]
    return float(law.mean), 1 / float(law.precision), log_end - log_start


def terminal_laws() -> list[Claim[Any]]:
    """What a whole weighted run converges to, for any σ and v*, in closed form."""

    def check(thing: Composed, trial: Trial) -> Iterator[Evidence]:
        steps = [100, 200, 400, 800]
        law = thing.composition.start()[0]
        start = LinearLaw(float(law.mean), float(1 / law.precision))
        try:
            ends = [euler_law(thing.generator(), start, TimeGrid.uniform(n)) for n in steps]
        except DomainError:  # a weight that leaves no law
            ends = [LinearLaw(math.nan, math.nan, math.nan)] * len(steps)
        true = _exact_end()
        names = ("mean", "variance", "log Z")
        for name, value, found in zip(
            names,
            true,
            zip(*[(e.mean, e.variance, e.log_normaliser) for e in ends], strict=True),
            strict=True,
        ):
            errors = [abs(f - value) for f in found]
            yield order(f"terminal {name}", [1 / n for n in steps], errors, 1.0)

    def wide(thing: Composed) -> Composed:
        """Particles that start from a law of one expert."""
        start = thing.composition.start

        def one(t: float = 0.0) -> tuple[Normal, float]:
            law, log_z = start(t)
            return Normal(law.mean, law.precision / 0.3, law.dtype), log_z

        return replace(thing, composition=but(thing.composition, start=one))

    claims = []
    pull = Through(lambda t, x: torch.sin(3 * t)[:, None] * x + 0.2)
    for name, sigma, transport in (
        ("small-noise", 0.8, Blend()),
        ("large-noise", 2.5, Blend()),
        ("no-noise", 0.0, Blend()),
        ("one-expert", 0.8, Follow(0)),
        ("any-field", 1.6, pull),
    ):
        claims.append(
            Claim(
                f"terminal-law-{name}",
                "The weighted law of the Euler scheme, which is normal here and known in closed "
                "form, tends to the target with order 1 in the step, as does its mass to Z: for "
                "any noise and any transport.",
                partial(_toy, sigma, transport),
                check,
                [
                    Control("γ̇ ℓ dropped from the weight", _without_rates),
                    Control("particles start from q_0, not p*_0", wide),
                ],
                formula=r"\mathbb E[w_1f(X_1)]/\mathbb E[w_1]\to\int f\,h_1/Z_1,\quad"
                r"\mathbb E[w_1]\to Z_1/Z_0",
                entries=("L8.16", "L8.20", "L8.15"),
                owes="density",
            )
        )
    return claims


# -- special cases -------------------------------------------------------------------------------


def special_cases() -> list[Claim[Any]]:
    """What the weight becomes for one noising process, and for the checkerboard's coordinates."""
    return [_feynman_kac(), _checkerboard()]


def _feynman_kac() -> Claim[Any]:
    """Constant exponents and v* = −f + ½σ² s*: the corrector of lecture 7."""
    drift, gammas = LinearDrift(-0.7), (1.3, -0.4, 0.6)

    def experts() -> list[DiffusionExpert]:
        """Normal laws under one noising process: V' = 2 · 0.7 V − σ², from other starts."""

        def one(name: str, first: float) -> DiffusionExpert:
            def variance(t: Tensor) -> Tensor:
                settled = 1.1**2 / 1.4
                return settled + (first - settled) * torch.exp(1.4 * t)

            def score(t: Tensor, x: Tensor) -> Tensor:
                return -x / variance(t)[:, None]

            return DiffusionExpert(score, drift, lambda t: 1.1 + 0 * t, (2,), name)

        return [one("a", 1.2), one("b", 1.0), one("c", 1.5)]

    def check(shift: float, trial: Trial) -> Iterator[Evidence]:
        three = experts()
        x = torch.randn(20, 2, generator=trial.rng(), dtype=DOUBLE)
        row = WeightedExperts(gammas).generator(three)(0.3, {"x": x})
        powers = [e**g for e, g in zip(three, gammas, strict=True)]
        transport = Noising(drift, lambda t: (1 + shift) * 1.1 + 0 * t)
        target = powers[0] * powers[1] * powers[2]
        found = Composed(target, 1.1, transport).generator()(0.3, {"x": x})
        assert row.velocity is not None and found.velocity is not None
        yield equal("drift", found.velocity["x"], row.velocity["x"])
        scale = float(row.potential.abs().max())  # type: ignore[union-attr]
        yield equal("weight", found.potential, row.potential, operations=512, scale=scale)

    return Claim(
        "constant-exponents",
        "With exponents that do not move, v* = −f + ½σ² s* gives the drift and the weight of the "
        "Feynman–Kac corrector, term by term.",
        lambda: 0.0,
        check,
        [dial("σ of the transport × (1 + δ)", lambda _, d: d)],
        formula=r"\dot\gamma=0,\ v^*=-f+\tfrac{\sigma^2}2s^*:\quad g=(\textstyle\sum\gamma_i-1)"
        r"\nabla\!\cdot f-\tfrac{\sigma^2}2\big(\sum\gamma_i|s_i|^2-|s^*|^2\big)",
        entries=("L8.21", "L7.16"),
    )


def _checkerboard() -> Claim[Any]:
    """p(X|A) p(X, Y|B)/p(X): which expert sees which coordinate."""
    schedules = (trigonometric_schedule(), variance_preserving_schedule(), linear_schedule())

    def make() -> Composition:
        a, b, c = (
            normal_expert(0.0, 1.0, s, name, size)
            for s, name, size in zip(schedules, ("p(X|A)", "p(X, Y|B)", "p(X)"), (1, 2, 1),
                                     strict=True)
        )  # fmt: skip
        compact = [but(e, tail=affine_tail(s)) for e, s in zip((a, b, c), schedules, strict=True)]
        return compact[0].on(0) * compact[1].on(0, 1) / compact[2].on(0)

    def check(target: Composition, trial: Trial) -> Iterator[Evidence]:
        t = torch.linspace(0, 0.99, 100, dtype=DOUBLE)
        found = certify(target, t.tolist())
        keep = torch.isin(found.times, t)
        one, two, three = (1 / s.alpha_squared(t) for s in schedules)
        yield equal("C_1", found.values[keep][:, 0], one + two - three, operations=512)
        yield equal("C_2", found.values[keep][:, 1], two, operations=512)

    def crossed(target: Composition) -> Composition:
        first, second, third = target.terms
        return Composition((first, second, replace(third, coordinates=(1,))))

    return Claim(
        "checkerboard-coordinates",
        "Of the checkerboard's experts, coordinate 1 sees all three and coordinate 2 one.",
        make,
        check,
        [Control("the denominator on the other coordinate", crossed)],
        formula=r"C_1=\alpha_1^{-2}+\alpha_2^{-2}-\alpha_3^{-2},\quad C_2=\alpha_2^{-2}",
        entries=("L8.24", "L8.9"),
        owes="existence",
    )
