r"""Claims of time reversal and of ratios of path measures.

    L̃ f = (1/p)[L*(p f) − f L* p],     so that with f = e^h     L̃ f/f = L*(pf)/(pf) − L*p/p

is tested for any p and f; on the ledger's chain of three letters there are printed numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.generators import MarkovGenerator, product
from genpath.grids import TimeGrid
from genpath.noises import MatrixNoise, ScalarNoise
from genpath.parts import Parts
from genpath.reversal import log_transition, path_log_ratio, reverse
from genpath.samplers import Euler, integrate
from genpath.spaces import Euclidean
from genpath.testing import Claim, Control, Evidence, Trial, dial, equal, mean, near

from ._chain import CHAIN, OTHER, START, chain, matrix, solved

__all__ = ["path_measures", "reversal"]

DOUBLE = torch.float64
PLANE, LINE = Euclidean(2), Euclidean()
BOTH = frozenset({"velocity", "diffusion"})
LETTERS = torch.arange(3)
LogDensity = Callable[[Tensor, Any], Tensor]


def reversal() -> tuple[Claim[Any], ...]:
    """Claims of the topic ``core.reversal``."""
    return (_dual(), _chain_reversal(), _backward_noise(), _reversed_samples())


def path_measures() -> tuple[Claim[Any], ...]:
    """Claims of the topic ``core.path-measures``."""
    return (_density(), _girsanov(), _path_divergence())


# -- reversal --------------------------------------------------------------------------------


def _velocity(t: Tensor, x: Tensor) -> Tensor:
    first = torch.sin(x[:, 1]) - t * x[:, 0]
    return torch.stack([first, x[:, 0] * x[:, 1]], 1)


def _sigma(x: Tensor) -> Tensor:
    one = torch.ones_like(x[:, 0])
    top = torch.stack([1 + 0.3 * torch.cos(x[:, 1]), 0.2 * x[:, 0]], 1)
    return torch.stack([top, torch.stack([0.4 * x[:, 1], one], 1)], 1)


def _plane() -> MarkovGenerator:
    """A flow with a noise that depends on the state."""

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        return Parts(_velocity(t, x), MatrixNoise(_sigma(x), uniform=False))

    return MarkovGenerator(PLANE, evaluate, BOTH)


def _hybrid() -> MarkovGenerator:
    """A flow with noise beside a chain."""

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        return Parts(_velocity(t, x), ScalarNoise(0.8))

    return product({"x": MarkovGenerator(PLANE, evaluate, BOTH), "letter": chain()})


def _log_plane(t: Tensor, x: Tensor) -> Tensor:
    wave = 0.7 * torch.sin(x[:, 0] * x[:, 1] + t)
    return -0.5 * (x**2).sum(1) - 0.1 * x[:, 0] ** 4 + wave


def _log_joint(t: Tensor, s: Any) -> Tensor:
    slant: Tensor = 0.4 * s["letter"] * torch.sin(s["x"][:, 0])
    return _log_plane(t, s["x"]) + slant


def _tilt(s: Any) -> Tensor:
    """h of the test function f = e^h."""
    x, letter = (s, 0.0) if isinstance(s, Tensor) else (s["x"], s["letter"])
    wave: Tensor = torch.sin(x[:, 0]) + 0.3 * x[:, 0] * x[:, 1]
    return wave * (letter - 1.3)


def _dual() -> Claim[Any]:
    def make() -> Any:
        return lambda gen, density: reverse(gen, log_density=density)

    def check(reversing: Any, trial: Trial) -> Iterator[Evidence]:
        x = torch.randn(12, 2, generator=trial.rng(), dtype=DOUBLE)
        cases = {
            "a noise that depends on the state": (_plane(), _log_plane, x),
            "a diffusion beside a chain": (
                _hybrid(), _log_joint, {"x": x, "letter": torch.arange(12) % 3},
            ),
        }  # fmt: skip
        t = torch.full((12,), 0.3, dtype=DOUBLE)
        for name, (gen, density, state) in cases.items():
            back = reversing(gen, density)
            left = back.apply(lambda s: _tilt(s).exp(), 1 - t, state) / _tilt(state).exp()

            def log_p(s: Any, density: LogDensity = density) -> Tensor:
                return density(torch.full((), 0.3, dtype=DOUBLE), s)

            def log_pf(s: Any, log_p: Callable[[Any], Tensor] = log_p) -> Tensor:
                return log_p(s) + _tilt(s)

            joint = gen.adjoint(log_pf, t, state)
            right = joint - gen.adjoint(log_p, t, state)
            size = float(joint.abs().max())
            yield equal(f"L̃ f/f, {name}", left, right, operations=1e6, scale=size)

    def astray(reversing: Any, size: float) -> Any:
        def tilted(density: LogDensity) -> LogDensity:
            def other(t: Tensor, s: Any) -> Tensor:
                x = s if isinstance(s, Tensor) else s["x"]
                return density(t, s) + size * torch.cos(x[:, 0])

            return other

        return lambda gen, density: reversing(gen, tilted(density))

    def careless(reversing: Any) -> Any:
        def reversed_of(gen: MarkovGenerator, density: LogDensity) -> MarkovGenerator:
            def evaluate(t: Tensor, s: Any) -> Parts:
                parts = gen.evaluate(t, s)
                noise: Any = parts.diffusion
                plain = isinstance(noise, MatrixNoise)
                return replace(parts, diffusion=replace(noise, uniform=True) if plain else noise)

            found: MarkovGenerator = reversing(replace(gen, evaluate=evaluate), density)
            return found

        return reversed_of

    return Claim(
        "duality",
        "The reversal of flow, noise and jumps is the dual of the generator in the law p_t.",
        make,
        check,
        (dial("log p + δ cos x", astray), Control("div σσᵀ is forgotten", careless)),
        formula=r"\tilde L f = \frac1p\big[L^*(pf) - f\,L^*p\big]",
        entries=("G.9", "S.2"),
        owes="reverse",
    )


def _law(t: float) -> Tensor:
    return START @ torch.matrix_exp(t * matrix(CHAIN))


def _log_chain(t: Tensor, x: Tensor) -> Tensor:
    laws = torch.stack([_law(float(s)) for s in t])
    return laws.gather(1, x[:, None])[:, 0].log()


def _chain_reversal() -> Claim[Any]:
    def make() -> MarkovGenerator:
        return reverse(chain(), log_density=_log_chain)

    def check(back: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        s = torch.full((3,), 0.4, dtype=DOUBLE)  # t = 0.6
        units = torch.eye(3, dtype=DOUBLE)
        columns = [back.apply(units[y].__getitem__, s, LETTERS) for y in range(3)]
        printed = [
            [-0.589302448, 0.197033854, 0.392268594],
            [0.710537794, -1.029076836, 0.318539042],
            [0.382391051, 0.879013130, -1.261404181],
        ]
        found, true = torch.stack(columns, 1), torch.tensor(printed, dtype=DOUBLE)
        yield near("the reversed rates of G-F1 at t = 0.6", found, true, 1e-9, "nine decimals")
        p = _law(0.6)
        yield equal("p Q̃ = −ṗ", p @ found, -p @ matrix(CHAIN))

    def scaled(back: MarkovGenerator, size: float) -> MarkovGenerator:
        return (1 + size) * back

    def uniform(back: MarkovGenerator) -> MarkovGenerator:
        return reverse(chain(), log_density=lambda t, x: 0.0 * x.double())

    return Claim(
        "chain",
        "The reversed rates of a chain are Q(y, x) p(y)/p(x), and carry the law backwards.",
        make,
        check,
        (dial("rates × (1 + δ)", scaled), Control("the ratio of densities is 1", uniform)),
        formula=r"\tilde Q(x,y) = Q(y,x)\,\frac{p(y)}{p(x)}, \qquad p\,\tilde Q = -\dot p",
        entries=("S.2", "G.9", "G-F1"),
        owes="reverse",
    )


THETA, MEAN, VARIANCE = 1.3, 0.7, 0.2


def _epsilon(t: Any) -> Any:
    return t + 0.1


def _forward() -> MarkovGenerator:
    """dX = −θX dt + √(2ε(t)) dW with ε = t + 1/10, from N(0.7, 0.2)."""

    def evaluate(t: Tensor, x: Tensor) -> Parts:
        return Parts(-THETA * x, ScalarNoise((2 * _epsilon(t)).sqrt()))

    return MarkovGenerator(LINE, evaluate, BOTH)


def _moments(t: Any) -> tuple[Any, Any]:
    """m and V: V̇ = −2θV + 2ε(t), by variation of constants."""
    k, t = 2 * THETA, torch.as_tensor(t, dtype=DOUBLE)
    decay = torch.exp(-k * t)
    forced = 2 * (t / k - (1 - decay) / k**2 + 0.1 * (1 - decay) / k)
    return MEAN * torch.exp(-THETA * t), VARIANCE * decay + forced


def _log_law(t: Tensor, x: Tensor) -> Tensor:
    mean_, variance = _moments(t)
    result: Tensor = -0.5 * (x - mean_) ** 2 / variance - 0.5 * torch.log(2 * math.pi * variance)
    return result


def _late(back: MarkovGenerator, size: float) -> MarkovGenerator:
    """A noise ε(s), of the reversed clock, in place of ε(1 − s); in part."""

    def evaluate(s: Tensor, x: Tensor) -> Parts:
        eps = (1 - size) * _epsilon(1 - s) + size * _epsilon(s)
        return replace(back.evaluate(s, x), diffusion=ScalarNoise((2 * eps).sqrt()))

    return replace(back, evaluate=evaluate)


LATE: Control[MarkovGenerator] = dial("(1 − δ) ε(1 − s) + δ ε(s)", _late)


def _reversed() -> MarkovGenerator:
    return reverse(_forward(), log_density=_log_law)


def _backward_noise() -> Claim[MarkovGenerator]:
    def check(back: MarkovGenerator, trial: Trial) -> Iterator[Evidence]:
        def slope(s: float, y: Tensor) -> Tensor:
            """ṁ = a m + b, V̇ = 2aV + σ², where the drift a x + b is read off at two points."""
            parts = back(s, torch.tensor([0.0, 1.0], dtype=DOUBLE))
            assert parts.velocity is not None and parts.diffusion is not None
            b, total = parts.velocity
            sigma = parts.diffusion(torch.ones(2, dtype=DOUBLE))[0]
            return torch.stack([(total - b) * y[0] + b, 2 * (total - b) * y[1] + sigma**2])

        start = torch.stack(_moments(1.0))
        found = solved(slope, start, 40)
        true = torch.stack(_moments(1 - torch.linspace(0, 1, 41, dtype=DOUBLE)), 1)
        yield near("m(1 − s) and V(1 − s)", found, true, 1e-6, "h⁴ of Runge–Kutta at h = 1/40")
        s, x = torch.linspace(0.1, 0.9, 20, dtype=DOUBLE), torch.linspace(-2, 2, 20, dtype=DOUBLE)
        left = torch.func.grad(lambda s: _log_law(1 - s, x).sum())(s)
        right = back.adjoint(lambda y: _log_law(1 - s, y), s, x)
        yield equal("∂_s log p_{1−s} against (L̃*p)/p", right, left, operations=1e4)

    return Claim(
        "backward-noise",
        "The reversal of an SDE whose noise varies in time has the noise of the time 1 − s, and "
        "runs through the forward laws backwards.",
        _reversed,
        check,
        (LATE,),
        formula=r"dZ_s = \big(-u + 2\varepsilon\,\nabla\log p\big)(1-s, Z_s)\,ds"
        r" + \sqrt{2\varepsilon(1-s)}\,dW_s",
        entries=("L3.2", "X4"),
        owes="reverse",
    )


def _reversed_samples() -> Claim[MarkovGenerator]:
    def check(back: MarkovGenerator, trial: Trial) -> Evidence:
        count = trial.count(40_000, 20_000)
        (m0, v0), (m1, v1) = _moments(0.0), _moments(1.0)
        noise = torch.randn(count, generator=trial.rng("start"), dtype=DOUBLE)
        start = m1 + v1.sqrt() * noise

        def solve(steps: int, key: str) -> Tensor:
            x = integrate(Euler(), back, start, TimeGrid.uniform(steps), trial.rng(key)).state
            return torch.stack([x, x**2], 1)

        coarse, fine = solve(24, "coarse"), solve(48, "fine")
        true = torch.stack([m0, m0**2 + v0])
        change = (fine - coarse).mean(0).abs()
        return mean("mean and second moment at s = 1", 2 * fine - coarse, true,
                    allowance=0.1 * change, because="a tenth of the extrapolation")  # fmt: skip

    return Claim(
        "reversed-samples",
        "Samples of the end, run through the reversed SDE, have the law of the start.",
        _reversed,
        check,
        (LATE,),
        formula=r"X_1 \sim p_1 \;\Rightarrow\; Z_1 \sim p_0",
        owes="reverse",
    )


# -- path measures ---------------------------------------------------------------------------


def _ou(drift: float = 0.0) -> MarkovGenerator:
    def evaluate(t: Tensor, x: Tensor) -> Parts:
        return Parts(drift - THETA * x, ScalarNoise(0.9))

    return MarkovGenerator(Euclidean(1), evaluate, BOTH)


def _ratio() -> Any:
    return path_log_ratio


def _grown(ratio: Any, size: float) -> Any:
    return lambda *paths: (1 + size) * ratio(*paths)


GROWN: Control[Any] = dial("log ratio × (1 + δ)", _grown, 0.5)
TURNED: Control[Any] = Control("the sign of the log ratio", lambda r: lambda *paths: -r(*paths))


def _density() -> Claim[Any]:
    def check(ratio: Any, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(20_000, 10_000)
        line = torch.zeros(count, 1, dtype=DOUBLE)
        letters = torch.multinomial(START, count, replacement=True, generator=trial.rng("start"))
        cases = {
            "an SDE": (_ou(0.6), _ou(), line),
            "the chain of G-F1": (chain(OTHER), chain(), letters),
        }
        for name, (model, reference, start) in cases.items():
            grid = TimeGrid.uniform(20)
            path = integrate(Euler(), reference, start, grid, trial.rng(name), record=True)
            weight = ratio(model, reference, path.times, path.trajectory).exp()
            yield mean(f"E exp(log dP̂/dP) of {name}", weight, 1.0)
            if reference.has == {"jumps"}:
                law = START
                for t, t_next in itertools.pairwise(path.times):
                    law = law @ _transition(model, t, t_next)
                hit = torch.nn.functional.one_hot(path.state, 3) * weight[:, None]
                yield mean("the reweighted law of the end", hit, law)

    return Claim(
        "density",
        "exp of the path log-ratio is the density of one process with respect to the other: its "
        "mean is 1, and it reweights the law of the end.",
        _ratio,
        check,
        (GROWN, TURNED),
        formula=r"\mathbb{E}_P\Big[\frac{d\hat P}{dP}\,f(X_1)\Big] = \mathbb{E}_{\hat P}f(X_1)",
        entries=("G.10", "K.27"),
    )


def _transition(gen: MarkovGenerator, t: float, t_next: float) -> Tensor:
    """The law of one step of `Euler` on three letters as a matrix."""
    x, y = LETTERS.repeat_interleave(3), LETTERS.repeat(3)
    return log_transition(gen, t, t_next, x, y).exp().reshape(3, 3)


def _girsanov() -> Claim[Any]:
    def check(ratio: Any, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(40_000, 20_000)
        start = torch.randn(count, 1, generator=trial.rng("start"), dtype=DOUBLE)
        grid = TimeGrid.uniform(10)
        path = integrate(Euler(), _ou(), start, grid, trial.rng("paths"), record=True)
        found = -ratio(_ou(0.6), _ou(), path.times, path.trajectory)
        exact = 0.5 * (0.6 / 0.9) ** 2
        yield mean("KL(P ‖ P̂) of a constant drift", found, exact)
        centred = (found - exact).square()
        yield mean("the variance of the log ratio, twice that", centred, 2 * exact)

    return Claim(
        "girsanov",
        "For a constant change u of the drift, the log ratio is normal with mean −½|u/σ|² and "
        "variance |u/σ|², at any step.",
        _ratio,
        check,
        (GROWN, TURNED),
        formula=r"\mathrm{KL}(P\,\|\,\hat P) = \tfrac12\,\mathbb{E}\int|\sigma^{-1}u|^2 dt",
        entries=("S.3",),
    )


def _path_divergence() -> Claim[Any]:
    """KL of the discretised chains, summed exactly, and its limit by Richardson's table."""

    def make() -> tuple[MarkovGenerator, MarkovGenerator]:
        return chain(), chain(OTHER)

    def divergence(pair: tuple[MarkovGenerator, MarkovGenerator], steps: int) -> tuple[Any, Any]:
        law, other, total = START, START, torch.zeros((), dtype=DOUBLE)
        for t, t_next in itertools.pairwise(TimeGrid.uniform(steps).times):
            p, q = (_transition(gen, t, t_next) for gen in pair)
            total = total + law @ (p * (p / q).log()).sum(1)
            law, other = law @ p, other @ q
        return total, (law * (law / other).log()).sum()

    def check(pair: Any, trial: Trial) -> Iterator[Evidence]:
        rows = [torch.stack(divergence(pair, n)) for n in (16, 32, 64, 128)]
        for k in range(1, 4):  # errors in powers of h
            rows = [(2**k * b - a) / (2**k - 1) for a, b in itertools.pairwise(rows)]
        path, end = rows[0]
        yield near("the path divergence of G-F1", path, 0.056245499, 2e-9, "nine decimals")
        yield near("the divergence of the ends", end, 0.005308512, 2e-9, "nine decimals")

    def faster(pair: Any, size: float) -> Any:
        return (1 + size) * pair[0], pair[1]

    def swapped(pair: Any) -> Any:
        return pair[1], pair[0]

    return Claim(
        "path-divergence",
        "The divergence of two chains' path measures is the integral of the Poisson divergences of "
        "their rates; that of their ends is ten times less.",
        make,
        check,
        (dial("rates of P × (1 + δ)", faster), Control("P and P̂ are swapped", swapped)),
        formula=r"\mathrm{KL}(P\,\|\,\hat P) = \mathbb{E}\int\sum_y Q\log\frac{Q}{\hat Q}"
        r" - Q + \hat Q\;dt \;\ge\; \mathrm{KL}(p_1\,\|\,\hat p_1)",
        entries=("G.11", "Y13", "G-F1"),
    )
