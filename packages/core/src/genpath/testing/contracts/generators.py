r"""What every Markov generator owes.

    parts        it returns the parts that it declares, row by row; no rows give no rows
    one-step     E[f(X_{t+h})] = f + h L_t f + O(h²) for a step of `genpath.samplers.Euler`
    adjointness  ⟨p, L_t f⟩ = ⟨L_t* p, f⟩, a mean over draws of a law p with a known density
    linear       L(af + bg) = a Lf + b Lg, and (aL)f = a(Lf), (L + L)f = 2 Lf

Single steps of lengths h, h/2 and h/4 are extrapolated to h = 0; the last of them bounds what is
left. With a potential the law that is tested is that of the weighted step, E[w f].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator
from genpath.parts import Parts
from genpath.samplers import Euler, integrate
from genpath.states import batch_size

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, equal, exact, mean
from ._plan import rows_of
from .probes import Probe, probes, values

__all__ = ["generator"]

Make = Callable[[], MarkovGenerator]
DrawStates = Callable[[int, torch.Generator], Any]


def generator(
    make: Make,
    draw: DrawStates,
    *,
    log_density: Callable[[Any], Tensor] | None = None,
    functions: Sequence[Probe] | None = None,
    t: float = 0.4,
    h: float = 0.1,
    rows: int = 80_000,
    entries: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Claim[MarkovGenerator], ...]:
    """The claims of a Markov generator.

    Args:
        make: makes the generator, in float64.
        draw: draws states, ``draw(n, rng)``; from the law of ``log_density`` where that is given.
        log_density: log p up to a constant, ``state → (batch,)``, smooth where the space is and
            decaying where it is not compact. It brings the claim ``adjointness``.
        functions: test functions ``state → (batch,)``; random ones of the space if None.
        t: the time at which the generator is looked at.
        h: the step of ``one-step``: small against the inverse of its rates.
        rows: draws per check, a quarter in a fast run.
        entries: claim → ids of the ledger.

    Example:
        >>> from genpath import Euclidean, flow
        >>> decay = lambda: flow(Euclidean(1), lambda t, x: -x)
        >>> def normal(n, rng):
        ...     return torch.randn(n, 1, generator=rng, dtype=torch.float64)
        >>> claims = generator(decay, normal, log_density=lambda x: -0.5 * x.square().sum(1))
        >>> [claim.name for claim in claims]
        ['parts', 'one-step', 'adjointness', 'linear']
        >>> all(f.passed for claim in claims for f in claim.measure(decay(), Trial("decay")))
        True
    """

    def tests(gen: MarkovGenerator, trial: Trial) -> Sequence[Probe]:
        if functions is not None:
            return functions
        rng = trial.rng("probes")
        return probes(gen.space, draw(64, rng), rng)

    found = [_parts(make, draw, t), _one_step(make, draw, tests, t, h, rows)]
    if log_density is not None:
        found.append(_adjointness(make, draw, tests, log_density, t, rows))
    found.append(_linear(make, draw, tests, t))
    cited = entries or {}
    return tuple(replace(claim, entries=cited.get(claim.name, ())) for claim in found)


Tests = Callable[[MarkovGenerator, Trial], Sequence[Probe]]


def _scaled(gen: MarkovGenerator, size: float) -> MarkovGenerator:
    def apply(f: Probe, t: Any, state: Any) -> Tensor:
        return (1 + size) * gen.apply(f, t, state)

    return but(gen, apply=apply)


SCALED: Control[MarkovGenerator] = dial("L f × (1 + δ)", _scaled)


def _parts(make: Make, draw: DrawStates, t: float) -> Claim[MarkovGenerator]:
    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        states = draw(12, trial.rng())
        times = torch.linspace(t, t + 0.2, 12, dtype=torch.float64)
        parts = gen(times, states)
        yield exact("the parts are those declared", parts.present() == gen.has)
        function = probes(gen.space, states, trial.rng("probes"), 1)[0]
        found = gen.apply(function, times, states)
        yield exact("L f is finite", found.isfinite().double().mean(), 1.0)
        back = torch.arange(11, -1, -1)
        turned = gen.apply(function, times[back], rows_of(states, back))[back]
        yield equal("rows do not see each other", turned, found, operations=1e4)
        none = gen(times[:0], rows_of(states, []))
        yield exact("no rows give no rows", _rows_of(none, rows_of(states, [])), 0)

    def leaning(gen: MarkovGenerator, size: float) -> MarkovGenerator:
        def evaluate(t: Tensor, state: Any) -> Parts:
            weights = 1 + size * torch.linspace(0, 1, len(t), dtype=torch.float64)
            return (gen * (lambda _: weights)).evaluate(t, state)

        return replace(gen, evaluate=evaluate)

    def stale(gen: MarkovGenerator) -> MarkovGenerator:
        return replace(gen, has=gen.has ^ {"potential"})

    return Claim(
        "parts",
        "An evaluation returns the declared parts, row by row; no rows give no rows.",
        make,
        check,
        (
            dial("rates that grow by δ along the batch", leaning),
            Control("another set of parts is declared", stale),
        ),
    )


def _rows_of(parts: Parts, states: Any) -> int:
    if parts.velocity is not None:
        return batch_size(parts.velocity)
    if parts.potential is not None:
        return len(parts.potential)
    jumps = parts.jumps
    if isinstance(jumps, Mapping):
        jumps = next(iter(jumps.values()))
    return batch_size(states) if jumps is None else len(jumps.intensity())


def _one_step(
    make: Make, draw: DrawStates, tests: Tests, t: float, h: float, rows: int
) -> Claim[MarkovGenerator]:
    def check(gen: MarkovGenerator, trial: Trial) -> Evidence:
        functions, count = tests(gen, trial), trial.count(rows, rows // 2)
        start = draw(count, trial.rng("start"))
        here = values(functions, start)

        def growth(step: float) -> Tensor:
            end = integrate(Euler(), gen, start, [t, t + step], trial.rng("noise"))
            weight = 1.0 if end.log_weight is None else end.log_weight.exp()[:, None]
            return (weight * values(functions, end.state) - here) / step

        whole, half, quarter = growth(h), growth(h / 2), growth(h / 4)
        once, twice = 2 * half - whole, (8 * quarter - 6 * half + whole) / 3
        applied = torch.stack([gen.apply(f, t, start) for f in functions], 1)
        # tested against functions of the point too
        against = torch.cat([torch.ones_like(here[:, :1]), here[:, :2]], 1)[:, :, None]
        gap, rest = (against * part[:, None, :] for part in (once - applied, twice - once))
        return mean(
            "(E f(X_{t+h}) − f)/h − L f, extrapolated to h = 0",
            gap.flatten(1),
            0.0,
            allowance=1.5 * rest.flatten(1).mean(0).abs() + 1e-10,
            because="what a further extrapolation changes",
        )

    return Claim(
        "one-step",
        "Over a short step, expectations grow by L f.",
        make,
        check,
        (SCALED,),
        formula=r"\mathbb{E}[f(X_{t+h})\mid X_t = x] = f(x) + h\,L_t f(x) + O(h^2)",
        owes="density",
    )


def _adjointness(
    make: Make,
    draw: DrawStates,
    tests: Tests,
    log_density: Callable[[Any], Tensor],
    t: float,
    rows: int,
) -> Claim[MarkovGenerator]:
    def check(gen: MarkovGenerator, trial: Trial) -> Evidence:
        states = draw(trial.count(rows, rows // 2), trial.rng("states"))
        dual = gen.adjoint(log_density, t, states)
        gaps = [gen.apply(f, t, states) - f(states) * dual for f in tests(gen, trial)]
        return mean("E_p[L f] − E_p[f (L*p)/p]", torch.stack(gaps, 1), 0.0)

    return Claim(
        "adjointness",
        "The adjoint is that of the generator: ⟨p, L f⟩ = ⟨L* p, f⟩.",
        make,
        check,
        (SCALED,),
        formula=r"\int p\,L_t f = \int f\,L_t^* p",
        owes="density",
    )


def _linear(make: Make, draw: DrawStates, tests: Tests, t: float) -> Claim[MarkovGenerator]:
    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        (f, g, *_), states = tests(gen, trial), draw(50, trial.rng("states"))
        times = torch.full((50,), t, dtype=torch.float64)
        lf, lg = (gen.apply(k, times, states) for k in (f, g))
        size = max(1.0, float(lf.abs().max()), float(lg.abs().max()))
        both = gen.apply(lambda x: 2 * f(x) - 3 * g(x), times, states)
        for what, found, expected in (
            ("L(2f − 3g)", both, 2 * lf - 3 * lg),
            ("(L + L) f", (gen + gen).apply(f, times, states), 2 * lf),
            ("(½ L) f", (0.5 * gen).apply(f, times, states), 0.5 * lf),
            ("(w(t) L) f", (gen * (lambda s: 1 + s)).apply(f, times, states), (1 + t) * lf),
        ):
            yield equal(what, found, expected, operations=1e4, scale=size)

    def curved(gen: MarkovGenerator, size: float) -> MarkovGenerator:
        def apply(f: Probe, t: Any, state: Any) -> Tensor:
            return gen.apply(f, t, state) + size * f(state) ** 2

        return but(gen, apply=apply)

    return Claim(
        "linear",
        "A generator is linear in the function, and sums and multiples of generators are those of "
        "their operators.",
        make,
        check,
        (dial("L f + δ f²", curved),),
        formula=r"L(af + bg) = a\,Lf + b\,Lg, \qquad (aL_1 + bL_2)f = a\,L_1 f + b\,L_2 f",
    )
