r"""Claims of potentials by adjoints, and of the generator view on any space.

Oracles: tables on five states; `Composed` on R^d, which knows nothing of adjoints; quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator, flow
from genpath.jumps import RateJumps
from genpath.parts import Parts
from genpath.schedules import Scalar
from genpath.spaces import Euclidean
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    dial,
    equal,
    near,
)
from genpath_interpolants.schedules import linear_schedule, trigonometric_schedule

from ..chains import Chain, solve_weighted
from ..compositions import Composition, Term
from ..dynamics import Composed
from ..experts import Expert
from ..exponents import Exponent, exponent
from ..finite import FiniteExpert, Power, composed_on_finite
from ._scenes import DOUBLE, normal_expert
from .chains import base_rates, chains_of_five, five_composed, log_h, wobble

__all__ = ["forms", "potentials"]


# -- potentials by adjoints --------------------------------------------------------------------

Maker = Callable[[MarkovGenerator, Sequence[FiniteExpert], Sequence[Power]], MarkovGenerator]


def potentials() -> list[Claim[Any]]:
    """Of the potential written with adjoints."""
    return [_as_in_the_table(), _as_on_the_line()]


def _frozen(make: Maker) -> Maker:
    """Exponents that do not know that they move."""

    def other(base: Any, experts: Any, exponents: Any) -> MarkovGenerator:
        still = [Scalar(exponent(p), lambda t: torch.zeros_like(t)) for p in exponents]
        return make(base, experts, still)

    return other


def _raised(make: Maker, size: float) -> Maker:
    def other(base: Any, experts: Any, exponents: Any) -> MarkovGenerator:
        return make(
            base, experts, [(1 + size) * exponent(p) for p in exponents[:1]] + exponents[1:]
        )

    return other


def _as_in_the_table() -> Claim[Maker]:
    def check(make: Maker, trial: Trial) -> Iterator[Evidence]:
        experts = [chain.expert() for chain in chains_of_five()]
        base, states = Chain(torch.full((5,), 0.2), base_rates()).generator(), torch.arange(5)
        powers: list[Power] = [wobble(), 0.8, -0.5]
        gen = make(base, experts, powers)
        for time in (0.0, 0.3, 1.0):
            t = torch.full((5,), time, dtype=DOUBLE)
            reference = five_composed().potential(t[:1])[0]
            found = gen(t, states).potential
            yield equal(f"g at t = {time}", found, reference, operations=2048)
        heavy = replace(
            base,
            evaluate=lambda t, x: replace(base.evaluate(t, x), potential=t + x),
            has=base.has | {"potential"},
        )
        t = torch.full((5,), 0.3, dtype=DOUBLE)
        found = make(heavy, experts, powers)(t, states).potential
        reference = five_composed().potential(t[:1])[0]
        yield equal("g in the place of one that was there", found, reference, operations=2048)

    return Claim(
        "adjoints",
        "The potential by adjoints of generators is that of the table, also where the base comes "
        "with a potential of its own.",
        lambda: composed_on_finite,
        check,
        (
            dial("γ_1 × (1 + δ)", _raised, 0.2),
            Control("without γ̇ log q", _frozen),
        ),
        formula=r"g=\partial_t\log h-\frac{L^*h}{h}",
        entries=("S.15", "L8.28"),
    )


def _line() -> Composition:
    """Two experts with different schedules on a plane; one exponent moves, one is negative."""
    a = normal_expert(0.5, 0.8, trigonometric_schedule(), "a", 2)
    b = normal_expert(-0.3, 1.2, linear_schedule(), "b", 2)
    return Composition((Term(a, wobble()), Term(b, Exponent(-0.4))))


def _flowing(space: Euclidean, expert: Expert) -> FiniteExpert:
    velocity: Any = expert.velocity
    return FiniteExpert(flow(space, velocity), expert.log_prob)


def _as_on_the_line() -> Claim[Maker]:
    def check(make: Maker, trial: Trial) -> Evidence:
        composition, rng = _line(), trial.rng()
        reference = Composed(composition, sigma=0.8).generator()
        space = Euclidean(2)

        def moves(t: Tensor, x: Tensor) -> Parts:
            found = reference.evaluate(t, {"x": x})
            assert found.velocity is not None and found.diffusion is not None
            return Parts(found.velocity["x"], found.diffusion.factors["x"])  # type: ignore[attr-defined]

        base = MarkovGenerator(space, moves, frozenset({"velocity", "diffusion"}))
        experts = [_flowing(space, e) for e in composition.experts]
        x = torch.randn(20, 2, generator=rng, dtype=DOUBLE)
        t = torch.linspace(0.1, 0.9, 20, dtype=DOUBLE)
        found = make(base, experts, list(composition.exponents))(t, x).potential
        expected = reference(t, {"x": x}).potential
        return equal("g on the plane", found, expected, operations=4096, scale=50.0)

    return Claim(
        "plane",
        "The same function gives, on R², the weight of experts with different schedules.",
        lambda: composed_on_finite,
        check,
        (dial("γ_1 × (1 + δ)", _raised, 0.2), Control("without γ̇ log q", _frozen)),
        formula=r"g=\sum_i\gamma_i(v^*-v_i)\cdot s_i+\sum_i\dot\gamma_i\log q_i",
        entries=("S.15",),
    )


# -- the generator view ------------------------------------------------------------------------


def forms() -> list[Claim[Any]]:
    """Of the weak, the normalised and the dual form."""

    def make() -> MarkovGenerator:
        experts = [chain.expert() for chain in chains_of_five()]
        base = Chain(torch.full((5,), 0.2), base_rates()).generator()
        return composed_on_finite(base, experts, [wobble(), 0.8, -0.5])

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        states, e = torch.arange(5), 1e-5
        tests = torch.randn(6, 5, generator=trial.rng(), dtype=DOUBLE)

        def applied(t: float) -> Tensor:
            at = torch.full((5,), t, dtype=DOUBLE)
            return torch.stack([gen.apply(f.__getitem__, at, states) for f in tests])

        for t in (0.25, 0.8):
            up, down = log_h([t + e, t - e]).exp()
            h, because = log_h([t])[0].exp(), "central difference, e = 1e-5"
            gain = applied(t) @ h
            yield near(f"t = {t}: d/dt⟨p̃, f⟩", gain, tests @ (up - down) / (2 * e), 1e-8, because)
            p, weights = h / h.sum(), gen(torch.full((5,), t, dtype=DOUBLE), states).potential
            assert weights is not None
            slope = (up / up.sum() - down / down.sum()) / (2 * e)
            normal = gain / h.sum() - (tests @ p) * (p @ weights)
            yield near(f"t = {t}: d/dt⟨p, f⟩, normalised", normal, tests @ slope, 1e-8, because)
        yield _dual(gen)
        yield from _on_a_line(trial)

    def without(gen: MarkovGenerator, size: float) -> MarkovGenerator:
        def evaluate(t: Tensor, x: Tensor) -> Parts:
            parts = gen.evaluate(t, x)
            assert parts.potential is not None
            return replace(parts, potential=(1 - size) * parts.potential)

        return replace(gen, evaluate=evaluate)

    def still(gen: MarkovGenerator) -> MarkovGenerator:
        return replace(gen, evaluate=lambda t, x: gen.evaluate(0 * t + 0.5, x))

    return [
        Claim(
            "weak-and-dual",
            "The weighted semigroup has d/dt⟨p̃, f⟩ = ⟨p̃, Lf + gf⟩, the normalised one subtracts "
            "⟨p, g⟩, and ⟨p̃, u⟩ is constant along the backward equation.",
            make,
            check,
            (dial("g × (1 − δ)", without, 0.5), Control("frozen at t = ½", still)),
            formula=r"\tfrac{d}{dt}\langle\tilde p,f\rangle=\langle\tilde p,Lf+gf\rangle,\quad "
            r"\partial_tu+Lu+gu=0\Rightarrow\tfrac{d}{dt}\langle\tilde p,u\rangle=0",
            entries=("L7.29", "L8.28"),
        )
    ]


def _dual(gen: MarkovGenerator) -> Evidence:
    """u backwards from f by RK4 with L + g as a matrix, then ⟨h, u⟩ at five times."""
    steps = 20
    times = [k / steps for k in range(steps + 1)]
    nodes = list(dict.fromkeys(times) | dict.fromkeys(a + (b - a) / 2 for a, b in pairwise(times)))
    back = 1 - torch.tensor(nodes, dtype=DOUBLE)
    parts = gen(back.repeat_interleave(5), torch.arange(5).repeat(len(nodes)))
    assert isinstance(parts.jumps, RateJumps) and parts.potential is not None
    rates = parts.jumps.rates
    matrices = (
        rates.reshape(-1, 5, 5) + (parts.potential - rates.sum(1)).reshape(-1, 5).diag_embed()
    )
    found = dict(zip(nodes, matrices, strict=True))
    zero = torch.zeros(5, dtype=DOUBLE)
    end = torch.tensor([1.0, -2.0, 0.5, 3.0, 1.5], dtype=DOUBLE)
    u = solve_weighted(end, lambda t: found[t].T, lambda t: zero, times).flip(0)
    pairing = (log_h(times).exp() * u).sum(1)
    because = "RK4 with 20 steps: (1/20)⁴ times a constant of 10 at most"
    return near("⟨p̃, u⟩", pairing, float(pairing[-1]), 10 / steps**4, because)


def _on_a_line(trial: Trial) -> Iterator[Evidence]:
    """d/dt∫ h f = ∫ h (Lf + gf) for experts on the line, by quadrature."""
    a = normal_expert(0.5, 0.8, trigonometric_schedule(), "a")
    b = normal_expert(-0.3, 1.2, linear_schedule(), "b")
    composition = Composition((Term(a, wobble()), Term(b, Exponent(0.7))))
    gen = Composed(composition, sigma=0.8).generator()
    x = torch.linspace(-9, 9, 901, dtype=DOUBLE)[:, None]

    def f(state: Any) -> Tensor:
        y: Tensor = state["x"][:, 0]
        return torch.sin(y) + y**2

    def integral(t: float, values: Tensor) -> float:
        at = torch.full((len(x),), t, dtype=DOUBLE)
        return float((composition.log_density(at, x).exp() * values).sum()) * 0.02

    t, e = 0.4, 1e-4
    found = integral(t, gen.apply(f, t, {"x": x}))
    slope = (integral(t + e, f({"x": x})) - integral(t - e, f({"x": x}))) / (2 * e)
    because = "central difference, e = 1e-4, third derivative below 100; the sum is exact to 1e-12"
    yield near("on the line: d/dt⟨p̃, f⟩", found, slope, 100 * e * e, because)
