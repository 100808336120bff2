r"""Ratio paths, the experts that they are made of, and the compositions that have names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    dial,
    equal,
    exact,
    near,
    refusal,
)
from genpath_interpolants.schedules import (
    linear_schedule,
    trigonometric_schedule,
    variance_preserving_schedule,
)

from .. import presets
from ..compositions import Composition
from ..dynamics import Composed, Noising
from ..experts import DiffusionExpert, FieldExpert
from ..processes import diffusion_form
from ..references import (
    GaussianRatio,
    geometric_range,
)
from ._diffusing import DOUBLE, Spreading, by_product_rule, generic, mixed, points

__all__ = ["claims"]


def claims() -> tuple[Claim[Any], ...]:
    """Those of the topic ``compose.ratio_paths``."""
    return (
        ratios(),
        paths(),
        expert_equation(),
        forms(),
        named(),
    )


# -- ratios and experts ----------------------------------------------------------------------------


def _log_product(gammas: Sequence[float], stds: Sequence[float], x: Tensor) -> Tensor:
    """Σ γ log N(x; 0, σ²), entry by entry, by the distributions of torch."""
    spread = torch.tensor(stds, dtype=DOUBLE)
    normal = torch.distributions.Normal(torch.zeros_like(spread), spread, validate_args=False)
    found: Tensor = torch.tensor(gammas, dtype=DOUBLE) * normal.log_prob(x[..., None])
    return found.sum(-1)


def ratios() -> Claim[Callable[..., GaussianRatio]]:
    """H7.5."""

    def check(make: Callable[..., GaussianRatio], trial: Trial) -> Iterator[Evidence]:
        x = torch.linspace(-14, 14, 281, dtype=DOUBLE)
        plane = torch.cartesian_prod(x, x)
        for gammas, stds in (
            ((2.0, -1.0), (1.0, 2.0)),
            ((0.4, 0.3, 0.9), (1.0, 2.0, 0.7)),
            ((-0.3, 1.3), (2.0, 1.5)),
        ):
            for d, at in ((1, x[:, None]), (2, plane)):
                ratio = make(gammas, stds, d)
                logs = _log_product(gammas, stds, at).sum(1)
                total = torch.logsumexp(logs, 0) + d * math.log(0.1)
                words = f"{gammas}, d = {d}"
                yield near(f"{words}: log Z", ratio.log_normaliser(), total, 1e-9, "trapezoid, 12σ")
            y = x[::40, None]
            slope = torch.func.grad(lambda z, g=gammas, s=stds: _log_product(g, s, z).sum())(y)
            yield equal(f"{gammas}: score", make(gammas, stds).score(y), slope, operations=256)
        for first, second in ((2.0, 1.0), (1.0, 2.0), (1.0, 1.0), (0.5, 3.0)):
            low, high = geometric_range(first, second)
            for edge, inward in ((low, 1.0), (high, -1.0)):
                if math.isinf(edge):
                    valid = make((1 + 50 * inward, -50 * inward), (first, second)).valid
                    yield exact(f"σ {first:g}, {second:g}: no edge", valid)
                    continue
                for side in (1e-9, -1e-9):
                    beta = edge + inward * side
                    found = make((1 - beta, beta), (first, second))
                    words = f"σ {first:g}, {second:g}: {side:g} inside the edge {edge:g}"
                    yield exact(words, found.valid, side > 0)
                    yield exact(f"{words}: Z", math.isinf(found.log_normaliser()), side < 0)

    def wrong(size: float) -> Callable[..., GaussianRatio]:
        return lambda gammas, stds, d=1: GaussianRatio(
            gammas, [s * (1 + size * (i == 0)) for i, s in enumerate(stds)], d
        )

    return Claim(
        "gaussian-ratios",
        "A ratio of centred normal laws is integrable exactly where Σγ/σ² > 0, with this "
        "normaliser and score.",
        lambda: GaussianRatio,
        check,
        (
            dial("σ_1 × (1 + δ)", lambda _, d: wrong(d), 0.01),
            Control(
                "Z without the dimension",
                lambda _: (
                    lambda g, s, d=1: but(
                        GaussianRatio(g, s, d), log_normaliser=GaussianRatio(g, s, 1).log_normaliser
                    )
                ),
            ),
        ),
        formula=r"P=\sum\gamma_i/\sigma_i^2>0,\quad Z=\prod(2\pi\sigma_i^2)^{-d\gamma_i/2}"
        r"(2\pi/P)^{d/2}",
        entries=("H7.5",),
        owes="existence",
    )


def paths() -> Claim[Callable[..., Composition]]:
    """L7.1: the ratio path and its score."""

    def make() -> Callable[..., Composition]:
        return lambda a, b: a ** (lambda t: 1.2 + 3 * t * (1 - t)) * b**-0.4 * a**1.2

    def check(build: Callable[..., Composition], trial: Trial) -> Iterator[Evidence]:
        experts = [mixed(linear_schedule(), 0.0, "a"), mixed(trigonometric_schedule(), 0.3, "b")]
        composition = build(*experts)
        t, x = points(trial.rng(), 24, 2)
        gammas = (2.4 + 3 * t * (1 - t), torch.full_like(t, -0.4))
        true = sum(g * e.log_prob(t, x) for g, e in zip(gammas, experts, strict=True))
        assert isinstance(true, Tensor)
        scale = 1 + float(true.abs().max())
        found = composition.log_density(t, x)
        yield equal("log h", found, true, operations=64, scale=scale)
        d = 1e-5
        for axis in range(2):
            unit = torch.zeros(2, dtype=DOUBLE).index_fill(0, torch.tensor([axis]), d)
            ahead, back = composition.log_density(t, x + unit), composition.log_density(t, x - unit)
            slope, score = (ahead - back) / (2 * d), composition.score(t, x)[:, axis]
            because = "d² × third derivative/6 and ε |log h|/d at d = 1e-5"
            yield near(f"s along axis {axis}", score, slope, 1e-6, because)
        (first, _), at = composition.exponents, torch.tensor([0.2, 0.5], dtype=DOUBLE)
        yield equal("γ̇", first.rate(at), 3 - 6 * at)
        plain, grid = GaussianRatio((2.4, -0.4), (1.0, 1.0)), Spreading(0.0, 1.0)
        normal = [grid.expert(1, n) for n in "ab"]
        law, log_z = build(*normal).start()
        yield equal("p*_0 of normal starts", law.precision, torch.full((1,), 2.0, dtype=DOUBLE))
        yield near("log Z_0", log_z, plain.log_normaliser(), 1e-12, "rounding of logarithms")

    def other(size: float) -> Callable[..., Composition]:
        return lambda a, b: make()(a, b) * b**size

    return Claim(
        "ratio-path",
        "A composition is the product of powers of its experts; its score is Σ γ s, and the "
        "gradient of its log-density.",
        make,
        check,
        (
            dial("an exponent + δ", lambda _, d: other(d), 0.01),
            Control("the second expert multiplied", lambda _: lambda a, b: a ** (
                lambda t: 2.4 + 3 * t * (1 - t)) * b**0.4),
        ),
        formula=r"h_t=\prod q_t^{(i)\gamma_i},\qquad s^*=\sum\gamma_is_i",
        entries=("L7.1", "H7.5"),
        owes="existence",
    )  # fmt: skip


def expert_equation() -> Claim[DiffusionExpert]:
    """L7.12."""

    def check(expert: DiffusionExpert, trial: Trial) -> Iterator[Evidence]:
        law = Spreading(0.5, 2.0)
        t, x = points(trial.rng(), 30, 2)

        def q(s: Tensor, y: Tensor) -> Tensor:
            spread = law.variance_at(s)
            found: Tensor = torch.exp(-0.5 * ((y - law.mean_at(s)) ** 2).sum() / spread) / spread
            return found

        def drift(s: Tensor, y: Tensor) -> Tensor:
            return -expert.drift(s[None], y[None])[0]

        def noise(s: Tensor, y: Tensor) -> Tensor:
            found: Tensor = -(expert.sigma(s[None])[0] ** 2) * torch.eye(2, dtype=DOUBLE)
            return found

        left = by_product_rule(q, drift, noise, t, x)  # ∂_t q − div(f q) + ½σ² Δq
        scale = 1 + float(x.square().sum(1).max())
        yield equal("∂_t q = div(f q) − ½σ² Δq", left, 0 * left, operations=1024, scale=scale)

        def velocity(s: Tensor, y: Tensor) -> Tensor:
            return expert.velocity(s[None], y[None])[0]

        def none(s: Tensor, y: Tensor) -> Tensor:
            return torch.zeros(2, 2, dtype=DOUBLE)

        left = by_product_rule(q, velocity, none, t, x)
        yield equal("∂_t q = −div(q v)", left, 0 * left, operations=1024, scale=scale)
        names = ("velocity_divergence", "score_divergence", "score")
        found = expert.fields(names, t, x)
        s, half = found["score"], 0.5 * expert.sigma(t) ** 2
        rate = torch.func.vmap(torch.func.grad(lambda u, y: q(u, y).log()))(t, x)
        f, div_f = expert.drift(t, x), torch.full_like(t, 2 * law.slope)
        by_fields = div_f + (f * s).sum(1) - half * (found["score_divergence"] + s.square().sum(1))
        yield equal("∂_t log q", by_fields, rate, operations=1024, scale=scale)

    def noisy(expert: DiffusionExpert, size: float) -> DiffusionExpert:
        right = expert.sigma
        return but(expert, sigma=lambda t: (1 + size) * right(t))

    return Claim(
        "expert-equation",
        "A diffusion expert's law satisfies its noising equation run backwards, and the continuity "
        "equation of v = −f + ½σ² s.",
        lambda: Spreading(0.5, 2.0).expert(2),
        check,
        (
            dial("σ × (1 + δ)", noisy, 0.01),
            Control("v = −f + σ² s", lambda e: but(e, both=lambda t, x: (
                e.velocity(t, x) + 0.5 * e.sigma(t)[:, None] ** 2 * e.score(t, x),
                e.score(t, x)))),
        ),
        formula=r"\partial_t\log q=\nabla\cdot f+f\cdot s-\tfrac{\sigma^2}{2}(\nabla\cdot s+|s|^2)",
        entries=("L7.12",),
        owes="density",
    )  # fmt: skip


Form = Callable[..., DiffusionExpert]


def forms() -> Claim[Form]:
    """L7.13 and L7.27: interpolants as diffusions."""

    def check(form: Form, trial: Trial) -> Iterator[Evidence]:
        for name, schedule in (
            ("linear", linear_schedule()),
            ("trigonometric", trigonometric_schedule()),
            ("variance preserving", variance_preserving_schedule()),
        ):
            first, second = mixed(schedule, 0.0, "a"), mixed(schedule, 0.4, "b")
            t, x = points(trial.rng(name), trial.count(40, 16), 2, 0.1, 0.9)
            ones = [form(expert, schedule) for expert in (first, second)]
            size = 1 + float((x / t[:, None]).abs().max())
            true = first.velocity(t, x)
            found = ones[0].velocity(t, x)
            yield equal(f"{name}: velocity", found, true, operations=1024, scale=size)
            made = first**1.5 / second**0.5
            twin = ones[0] ** 1.5 / ones[1] ** 0.5
            follow = Noising(ones[0].drift, ones[0].sigma)
            values = [
                Composed(one, ones[0].sigma, transport).generator()(t, {"x": x}).potential
                for one, transport in ((made, follow), (twin, follow))
            ]
            scale = size**2 * 16
            yield equal(f"{name}: potentials", *values, operations=4096, scale=scale)
            gen = Composed(made, ones[0].sigma, follow).generator()
            yield equal(f"{name}: the generic one", values[0], generic(gen, made, t, x),
                        operations=8192, scale=scale)  # fmt: skip

    def noisy(form: Form, size: float) -> Form:
        def wrong(expert: Any, schedule: Any) -> DiffusionExpert:
            right = form(expert, schedule)
            sigma = right.sigma
            return but(right, sigma=lambda t: (1 + size) * sigma(t))

        return wrong

    def flipped(form: Form) -> Form:
        def wrong(expert: Any, schedule: Any) -> DiffusionExpert:
            right = form(expert, schedule)
            drift = right.drift
            return but(right, drift=lambda t, x: -drift(t, x))

        return wrong

    return Claim(
        "interpolants-as-diffusions",
        "A one-sided interpolant expert and its diffusion form have one velocity, and "
        "compositions of them equal potentials.",
        lambda: diffusion_form,
        check,
        (dial("σ × (1 + δ)", noisy, 0.01), Control("f of the other sign", flipped)),
        formula=r"f=-\tfrac{\dot\beta}{\beta}x,\qquad \sigma^2=2\alpha^2\tfrac{d}{dt}"
        r"\log\tfrac{\beta}{\alpha}",
        entries=("L7.13", "L7.27"),
    )


# -- names -----------------------------------------------------------------------------------------


def named() -> Claim[Any]:
    """L7.2 and L8.25: exponents."""

    def make() -> Any:
        return presets

    def still(name: str, size: int = 1) -> FieldExpert:
        return FieldExpert(lambda t, x: (0 * x, -x), (size,), name)

    def powers(composition: Composition, t: float = 1.0) -> dict[str, float]:
        pairs = zip(composition.terms, composition.powers(t), strict=True)
        return {term.expert.name: power for term, power in pairs}

    def check(made: Any, trial: Trial) -> Iterator[Evidence]:
        a, b, m, p, c, s = (
            still(n, k) for n, k in (("a", 1), ("b", 1), ("m", 3), ("p", 3), ("c", 2), ("s", 2))
        )
        w = 0.75
        found = {
            "annealed": (powers(made.annealed(a, 2.5)), {"a": 2.5}),
            "product": (powers(made.product(a, b, beta=1.5)), {"a": 1.5, "b": 1.5}),
            "geometric": (powers(made.geometric(a, b, 1.5)), {"a": -0.5, "b": 1.5}),
            "guided": (powers(made.guided(a, b, 0.5)), {"a": 1.5, "b": -0.5}),
            "ratio": (powers(made.ratio(a, b)), {"a": 1.0, "b": -1.0}),
            "tilted at 0": (
                powers(made.tilted(a, lambda x: x[:, 0]), 0.0), {"a": 1.0, "reward": 0.0}),
            "tilted at 1": (
                powers(made.tilted(a, lambda x: x[:, 0])), {"a": 1.0, "reward": 1.0}),
        }  # fmt: skip
        scaffold = made.scaffold_decoration(m, c, p, s, w, scaffold_coordinates=(0, 1))
        expected = {"m": 1 - w, "c": w, "p": w, "s": -w}
        for name, (value, true) in {**found, "scaffold": (powers(scaffold), expected)}.items():
            yield exact(name, value, true)
        seen = {term.expert.name: term.coordinates for term in scaffold.terms}
        yield exact("coordinates", seen, {"m": None, "c": (0, 1), "p": None, "s": (0, 1)})
        yield refusal("β_0 ≠ 0", lambda: made.tilted(a, lambda x: x[:, 0], 1.0), ValueError, "β_0")

    @dataclass(frozen=True)
    class Changed:
        """The presets, some of them with a fault."""

        guided: Any = presets.guided
        geometric: Any = presets.geometric
        scaffold_decoration: Any = presets.scaffold_decoration
        annealed: Any = presets.annealed
        product: Any = presets.product
        ratio: Any = presets.ratio
        tilted: Any = presets.tilted

    return Claim(
        "presets",
        "Each named composition has the exponents, and sees the coordinates, of its formula.",
        make,
        check,
        (
            Control(
                "guidance in the convention ω = 1 + w",
                lambda _: Changed(guided=lambda c, u, w: presets.guided(c, u, w - 1)),
            ),
            Control(
                "experts of an average exchanged",
                lambda _: Changed(geometric=lambda a, b, w: presets.geometric(b, a, w)),
            ),
            Control(
                "the sign of w",
                lambda _: Changed(
                    scaffold_decoration=lambda m, c, p, s, w, **k: presets.scaffold_decoration(
                        m, c, p, s, -w, **k
                    )
                ),
            ),
        ),
        formula=r"h=p(M)\left[\tfrac{p(M^{sc}|T)\,p(M|P)}{p(M^{sc})\,p(M)}\right]^w",
        entries=("L7.2", "L8.25"),
    )
