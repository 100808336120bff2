r"""Claims of Markov generators: the operator, its adjoint, and their algebra.

The library differentiates along directions and lists jumps; the answers here are dense matrices,
whole Hessians, quadrature, and the ledger's numbers for its chain of three letters.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError
from genpath.generators import MarkovGenerator, product
from genpath.jumps import RateJumps
from genpath.noises import DiagonalNoise, MatrixNoise, ScalarNoise
from genpath.parts import Parts
from genpath.reversal import reverse
from genpath.spaces import Euclidean
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    contracts,
    dial,
    equal,
    near,
    refusal,
)

from ._chain import CHAIN, START, F, chain, matrix, solved

__all__ = ["generators"]

DOUBLE = torch.float64
PLANE, LINE = Euclidean(2), Euclidean()
BOTH = frozenset({"velocity", "diffusion"})
LETTERS = torch.arange(3)


def generators() -> tuple[Claim[Any], ...]:
    """Claims of the topic ``core.generators``."""
    cited = {"one-step": ("L0.2",), "adjointness": ("G.2",)}
    diffusion = contracts.generator(
        _diffusion, _normals, log_density=_log_normal, rows=40_000, entries=cited
    )
    jumps = contracts.generator(
        lambda: chain(CHAIN, (2,)), _pairs, log_density=_log_pairs, entries=cited
    )
    mixed = contracts.generator(
        lambda: product({"x": _diffusion(), "letter": chain()}), _mixtures, entries=cited
    )
    return (
        *contracts.named("diffusion", diffusion),
        *contracts.named("jumps", jumps),
        *contracts.named("product", mixed),
        _dense(),
        _quadrature(),
        _affine(),
        _forward_chain(),
        _dynkin(),
        _carre_du_champ(),
        _superposition(),
        _corrector(),
    )


# -- instances -------------------------------------------------------------------------------


def _sigma(x: Tensor) -> Tensor:
    one = torch.ones_like(x[:, 0])
    top = torch.stack([1 + 0.3 * torch.cos(x[:, 1]), 0.2 * torch.sin(x[:, 0]), 0.5 * one], 1)
    bottom = torch.stack([0.4 * torch.sin(x[:, 1]), one, 0.1 * torch.cos(x[:, 0])], 1)
    return torch.stack([top, bottom], 1)


def _drift(t: Tensor, x: Tensor) -> Tensor:
    first = torch.sin(x[:, 1]) - t * x[:, 0]
    return torch.stack([first, 0.5 * x[:, 0] * torch.cos(x[:, 1])], 1)


def _diffusion() -> MarkovGenerator:
    def evaluate(t: Tensor, x: Tensor) -> Parts:
        return Parts(_drift(t, x), MatrixNoise(_sigma(x), uniform=False))

    return MarkovGenerator(PLANE, evaluate, BOTH)


def _normals(n: int, rng: torch.Generator) -> Tensor:
    return torch.randn(n, 2, generator=rng, dtype=DOUBLE)


def _log_normal(x: Tensor) -> Tensor:
    return -0.5 * x.square().sum(1)


def _pairs(n: int, rng: torch.Generator) -> Tensor:
    return torch.multinomial(START.expand(n, 3), 2, replacement=True, generator=rng)


def _log_pairs(x: Tensor) -> Tensor:
    return START[x].log().sum(1)


def _mixtures(n: int, rng: torch.Generator) -> dict[str, Tensor]:
    return {"x": _normals(n, rng), "letter": _pairs(n, rng)[:, 0]}


def _faster(gen: MarkovGenerator, size: float) -> MarkovGenerator:
    return (1 + size) * gen


FASTER: Control[MarkovGenerator] = dial("L × (1 + δ)", _faster)


# -- dense answers ---------------------------------------------------------------------------


def _dense() -> Claim[MarkovGenerator]:
    def smooth(x: Tensor) -> Tensor:
        return torch.sin(x[:, 0]) * x[:, 1] + torch.exp(-0.5 * x[:, 0] ** 2) + x[:, 1] ** 3

    def log_p(x: Tensor) -> Tensor:
        wave = 0.7 * torch.sin(x[:, 0] * x[:, 1])
        return -0.5 * (x**2).sum(1) - 0.1 * x[:, 0] ** 4 + wave

    def one(t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """L f and (L*p)/p at one point, from whole Hessians of f and of a p."""

        def f(y: Tensor) -> Tensor:
            return smooth(y[None])[0]

        def p(y: Tensor) -> Tensor:
            return torch.exp(log_p(y[None])[0])

        def a(y: Tensor) -> Tensor:
            sigma = _sigma(y[None])[0]
            return sigma @ sigma.mT

        applied = _drift(t[None], x[None])[0] @ torch.func.grad(f)(x)
        applied = applied + 0.5 * (a(x) * torch.func.hessian(f)(x)).sum()
        flux = torch.func.jacrev(lambda y: _drift(t[None], y[None])[0] * p(y))(x)
        second = torch.func.jacfwd(torch.func.jacrev(lambda y: a(y) * p(y)))(x)
        dual = (-torch.trace(flux) + 0.5 * torch.einsum("ijij->", second)) / p(x)
        return applied, dual

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        x, t = _normals(20, rng), torch.rand(20, generator=rng, dtype=DOUBLE)
        applied, dual = torch.func.vmap(one)(t, x)
        found = gen.apply(smooth, t, x), gen.adjoint(log_p, t, x)
        yield equal("L f against gradients and Hessians", found[0], applied, operations=1e4)
        yield equal("(L*p)/p against Hessians of a p", found[1], dual, operations=1e5)

    def uniform(gen: MarkovGenerator) -> MarkovGenerator:
        def evaluate(t: Tensor, x: Tensor) -> Parts:
            return replace(gen.evaluate(t, x), diffusion=MatrixNoise(_sigma(x), uniform=True))

        return replace(gen, evaluate=evaluate)

    return Claim(
        "operator",
        "L f and (L*p)/p of a diffusion whose matrix depends on the state are the second-order "
        "operator and its formal adjoint.",
        _diffusion,
        check,
        (FASTER, Control("the derivatives of σ are forgotten", uniform)),
        formula=r"Lf = u\cdot\nabla f + \tfrac12\,a\!:\!\nabla^2 f, \quad"
        r" L^*p = -\nabla\cdot(up) + \tfrac12\,\partial_i\partial_j (a_{ij}p)",
        owes="density",
    )


def _quadrature() -> Claim[MarkovGenerator]:
    def make() -> MarkovGenerator:
        def evaluate(t: Tensor, x: Tensor) -> Parts:
            return Parts(torch.sin(x), DiagonalNoise(1 + 0.4 * torch.cos(x), uniform=False))

        return MarkovGenerator(LINE, evaluate, BOTH)

    def log_density(x: Tensor) -> Tensor:
        return -0.5 * (x - 0.3) ** 2 + 0.5 * torch.sin(x)

    def check(gen: MarkovGenerator, trial: Trial) -> Evidence:
        x = torch.linspace(-9, 9, 600, dtype=DOUBLE)
        f, p = torch.sin(2 * x) + x**2, log_density(x).exp()
        left = (f * p * gen.adjoint(log_density, 0.0, x)).sum()
        right = (p * gen.apply(lambda y: torch.sin(2 * y) + y**2, 0.0, x)).sum()
        size = float((f * p).abs().sum())
        because = "the trapezoidal rule converges spectrally; p is 1e-17 at the ends"
        return near("Σ f L*p − Σ p L f", left - right, 0.0, 1e-11 * size, because)

    def lopsided(gen: MarkovGenerator, size: float) -> MarkovGenerator:
        def adjoint(log_p: Any, t: Any, x: Tensor) -> Tensor:
            return (1 + size) * gen.adjoint(log_p, t, x)

        return but(gen, adjoint=adjoint)

    return Claim(
        "quadrature",
        "∫ f L*p = ∫ p L f on the line, by quadrature.",
        make,
        check,
        (dial("L* × (1 + δ)", lopsided),),
        formula=r"\int f\,L^*p\,dx = \int p\,Lf\,dx",
        entries=("L1.10", "G.2"),
        owes="density",
    )


def _affine() -> Claim[MarkovGenerator]:
    """F3: dX = (kX + c) dt + √(2ε) dW keeps normal laws, ṁ = km + c, V̇ = 2kV + 2ε."""
    k, c, eps, start = -1.3, 0.4, 0.35, (0.7, 0.2)

    def make() -> MarkovGenerator:
        noise = ScalarNoise((2 * eps) ** 0.5)
        return MarkovGenerator(LINE, lambda t, x: Parts(k * x + c, noise), BOTH)

    def log_law(t: Tensor, x: Tensor) -> Tensor:
        decay, rest = torch.exp(k * t), -c / k
        mean = rest + (start[0] - rest) * decay
        variance = -eps / k + (start[1] + eps / k) * decay**2
        return -0.5 * (x - mean) ** 2 / variance - 0.5 * variance.log()

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        t = torch.linspace(0.05, 1, 20, dtype=DOUBLE)
        x = torch.linspace(-2, 2, 20, dtype=DOUBLE)
        left = torch.func.grad(lambda t: log_law(t, x).sum())(t)
        yield equal(
            "∂_t log p against (L*p)/p",
            gen.adjoint(lambda y: log_law(t, y), t, x),
            left,
            operations=1e3,
            scale=float(left.abs().max()),
        )

    return Claim(
        "affine-law",
        "The normal law of an affine SDE solves its Fokker–Planck equation.",
        make,
        check,
        (FASTER,),
        formula=r"\partial_t\log p = \frac{L^*p}{p}, \quad \dot m = km + c, \quad"
        r" \dot V = 2kV + 2\varepsilon",
        entries=("F3", "L1.10", "G.3"),
        owes="density",
    )


# -- the chain of three letters ----------------------------------------------------------------


def _laws(gen: MarkovGenerator) -> Tensor:
    """p_t of a chain by its own adjoint, at t = 0, 1/100, …, 1."""

    def slope(t: float, p: Tensor) -> Tensor:
        return p * gen.adjoint(lambda x: p[x].log(), t, LETTERS)

    return solved(slope, START)


ORDER_4 = "h⁴ of Runge–Kutta at h = 1/100, below 1e-9"


@functools.lru_cache(maxsize=1)
def _chain_laws() -> Tensor:
    return _laws(chain())


def _printed(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=DOUBLE)


def _forward_chain() -> Claim[MarkovGenerator]:
    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        laws = _laws(gen)
        printed = "the ledger's nine digits"
        end, middle = _printed(0.315775539, 0.367515829, 0.316708632), laws[60]
        yield near("p_1 of G-F1", laws[-1], end, 2e-9, printed)
        at = _printed(0.361049091, 0.355694470, 0.283256439)
        yield near("p_0.6 of G-F1", middle, at, 2e-9, printed)

        def backward(t: float, u: Tensor) -> Tensor:
            return gen.apply(lambda x: u[x], 1 - t, LETTERS)

        expected = solved(backward, F).flip(0)  # u(t, x) = E[f(X_1) | X_t = x]
        pairing = (laws * expected).sum(1)
        yield near("⟨p_t, u_t⟩ is the same at all t", pairing, float(pairing[0]), 1e-9, ORDER_4)
        halves = [torch.matrix_exp(s * matrix(CHAIN)) for s in (0.35, 0.65)]
        whole = START @ halves[0] @ halves[1]
        yield near("Chapman–Kolmogorov by matrix exponentials", laws[-1], whole, 1e-9, ORDER_4)

    return Claim(
        "chain",
        "A chain's law solves the forward equation, expectations of its end the backward one, and "
        "their pairing does not change.",
        chain,
        check,
        (FASTER,),
        formula=r"\dot p = L^*p, \qquad \dot u + Lu = 0, \qquad \langle p_t, u_t\rangle"
        r" = \mathbb{E}f(X_1)",
        entries=("G.3", "G.1", "G-F1"),
        owes="density",
    )


def _simpson(values: Tensor) -> Tensor:
    """∫₀¹ of values at equal steps, an odd number of them."""
    weights = torch.ones(len(values), dtype=DOUBLE)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    total: Tensor = (weights * values).sum() / (3 * (len(values) - 1))
    return total


def _dynkin() -> Claim[MarkovGenerator]:
    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        """E[(M_1 − M_s) ψ(X_s)] for all ψ: M_1 − M_s given X_s = x, from matrix exponentials."""
        for s in (0.0, 0.4):
            nodes = s + (1 - s) * torch.linspace(0, 1, 81, dtype=DOUBLE)
            flows = torch.stack([torch.matrix_exp((u - s) * matrix(CHAIN)) for u in nodes])
            rates = gen.apply(lambda x: F[x], 0.3, LETTERS)
            inside = torch.stack([_simpson((flows @ rates)[:, x]) for x in LETTERS]) * (1 - s)
            drift = flows[-1] @ F - F - inside
            yield near(
                f"E[M_1 − M_s | X_s], s = {s}", drift, 0.0 * drift, 1e-8, "Simpson's rule, h⁴"
            )

    return Claim(
        "dynkin",
        "f(X_t) − ∫ L f is a martingale of the chain that has these rates.",
        chain,
        check,
        (dial("rates × (1 + δ)", _faster, 0.1),),
        formula=r"\mathbb{E}\Big[f(X_1) - f(X_s) - \int_s^1 L_u f(X_u)\,du \,\Big|\, X_s\Big] = 0",
        entries=("G.4",),
    )


def _carre_du_champ() -> Claim[MarkovGenerator]:
    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        square = gen.apply(lambda x: F[x] ** 2, 0.0, LETTERS)
        gamma = 0.5 * (square - 2 * F * gen.apply(lambda x: F[x], 0.0, LETTERS))
        direct = 0.5 * (CHAIN * (F[None, :] - F[:, None]) ** 2).sum(1)
        yield equal("Γ(f, f) against ½ Σ Q (f(y) − f(x))²", gamma, direct)
        flows = [START @ torch.matrix_exp(u * matrix(CHAIN)) for u in torch.linspace(0, 1, 81)]
        total = _simpson(torch.stack([2 * (p * gamma).sum() for p in flows]))
        yield near("E ∫ 2Γ(f, f) of G-F1", total, 5.301826870, 2e-8, "the ledger's nine decimals")

    return Claim(
        "carre-du-champ",
        "Γ(f, f) = ½(L f² − 2 f L f) is half the squared jump at its rate; its integral is the "
        "variance of the chain's martingale.",
        chain,
        check,
        (FASTER,),
        formula=r"\Gamma(f,f) = \tfrac12\sum_y Q(x,y)\,(f(y)-f(x))^2",
        entries=("G.5", "G-F1"),
    )


# -- superposition ---------------------------------------------------------------------------


def _other() -> MarkovGenerator:
    """Another generator of the law of the chain: what a p-reversible chain adds changes nothing."""
    law = _chain_laws()

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        p = law[(100 * t).round().long()]  # at multiples of 1/100 only
        ratio = torch.minimum(torch.ones_like(p[:, :1]), p / p.gather(1, x[:, None]))
        return Parts(jumps=RateJumps(0.8 * ratio + CHAIN[x], x))

    return replace(chain(), evaluate=evaluate)


def _superposition() -> Claim[Any]:
    def make() -> Any:
        return lambda weight: weight * chain() + (1 - weight) * _other()

    def check(mix: Any, trial: Trial) -> Iterator[Evidence]:
        law = _chain_laws()
        p = law[40]
        slope = p @ matrix(CHAIN)
        t = torch.full((3,), 0.4, dtype=DOUBLE)
        for weight in (0.3, 0.8):
            found = p * mix(weight).adjoint(lambda x: p[x].log(), t, LETTERS)
            yield equal(f"ṗ at α = {weight}", found, slope, operations=1e3)
        state: Any = torch.tensor([0.2, 0.5, 0.9])
        yield refusal(
            "weights that depend on x", lambda: chain() * state, CapabilityError, "depend on x"
        )

    def uneven(mix: Any, size: float) -> Any:
        def mixed(weight: float) -> MarkovGenerator:
            first, second = chain(), _other()

            def evaluate(t: Tensor, x: Tensor) -> Parts:
                share = weight + size * 0.1 * x.double()
                parts: list[Any] = [g.evaluate(t, x).jumps for g in (first, second)]
                rates = [share[:, None] * parts[0].rates, (1 - share)[:, None] * parts[1].rates]
                return Parts(jumps=RateJumps(rates[0] + rates[1], x))

            return replace(first, evaluate=evaluate)

        return mixed

    def heavy(mix: Any, size: float) -> Any:
        return lambda weight: mix(weight) + size * chain()

    return Claim(
        "superposition",
        "Mixtures of two generators of one law, with constant weights, generate it too; weights "
        "that depend on the state do not, and are refused.",
        make,
        check,
        (dial("weights α + δ x/10", uneven), dial("weights that sum to 1 + δ", heavy)),
        formula=r"L_1^*p = L_2^*p = \dot p \;\Rightarrow\;"
        r" (\alpha L_1 + (1-\alpha)L_2)^*p = \dot p",
        entries=("Y5",),
        owes="density",
    )


def _corrector() -> Claim[MarkovGenerator]:
    """L + L̃ with L̃ the reversal of L at the same time keeps p_t."""

    def check(gen: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        p = _chain_laws()[60]

        def log_p(t: Any, x: Tensor) -> Tensor:
            return p[x].log()

        t = torch.full((3,), 0.6, dtype=DOUBLE)
        back = reverse(gen, log_density=log_p).adjoint(lambda x: log_p(0, x), 1 - t, LETTERS)
        forth = chain().adjoint(lambda x: log_p(0, x), t, LETTERS)
        yield equal("p (Q + Q̃)", p * (forth + back), 0 * p, operations=1e3)

    return Claim(
        "corrector",
        "A chain plus its own reversal keeps the law at that time.",
        chain,
        check,
        (FASTER,),
        formula=r"(L_t + \tilde L_t)^* p_t = 0",
        entries=("G.20",),
    )
