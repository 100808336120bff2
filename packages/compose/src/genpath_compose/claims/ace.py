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

from ..compositions import Composition
from ..dynamics import Blend, Composed, Follow, Through
from ..normals import Normal, power_product
from ..references import LinearLaw, euler_law
from ._scenes import DOUBLE, collapse_toy, plane

__all__ = ["terminal_laws", "weights"]


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
