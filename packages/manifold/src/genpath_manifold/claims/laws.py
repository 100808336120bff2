r"""Laws on the sphere, with densities per unit of area.

    C(κ) = κ / (4π sinh κ),    E⟨μ, x⟩ = coth κ − 1/κ                        von Mises–Fisher
    log of the density at a draw = log(κ/2π) − Exp(1)                         κ → ∞

(Fisher 1953; semester II, R-F8.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.testing import Claim, Control, Evidence, Trial, but, contracts, dial, equal, mean, near
from genpath.testing.contracts import named

from ..evaluations import choose_kappa, kernel_log_densities, mixed_bandwidths
from ..laws import UniformSphere, VonMisesFisher, VonMisesFisherMixture
from ..spaces import Sphere
from .cases import DOUBLE, NORTH, S2, bumps, gentle, points, quadrature, row

__all__ = ["kernel_densities", "uniform", "von_mises_fisher"]


def uniform() -> tuple[Claim[Any], ...]:
    """The claims of ``law.manifold.uniform``."""
    return (
        *contracts.law(lambda: UniformSphere(S2, DOUBLE), space=S2, nodes=quadrature, draws=48_000),
        rotations(),
    )


def von_mises_fisher() -> tuple[Claim[Any], ...]:
    """The claims of ``law.manifold.von_mises_fisher``."""
    axis = row(2.0, -1.0, 2.0)[0] / 3
    found = contracts.law(
        lambda: VonMisesFisher(axis, 2.0), space=S2, nodes=quadrature, draws=32_000
    )
    return (*found, fixture(), ends())


def kernel_densities() -> tuple[Claim[Any], ...]:
    """The claims of ``manifold.kernel_densities``."""
    found = contracts.law(gentle, space=S2, nodes=quadrature, draws=48_000)
    return (*found, parts(), bandwidths(), *named("choice", (best_kappa(), weights())))


# -- the uniform law -------------------------------------------------------------------------


def rotations() -> Claim[UniformSphere]:
    """Moments of degree 2 and 4 of the uniform law of S^5."""

    def check(law: UniformSphere, trial: Trial) -> Evidence:
        x = law.sample(trial.count(40_000, 16_000), trial.rng())
        n = x.shape[1]
        turn = torch.linalg.qr(torch.randn(n, n, dtype=DOUBLE, generator=trial.rng("turn")))[0]
        y = x @ turn
        values = torch.cat([x, y, x**2, y**2, x**4, y**4], 1)
        true = torch.tensor([0.0, 1 / n, 3 / (n * (n + 2))], dtype=DOUBLE)
        return mean("E⟨a, x⟩, E⟨a, x⟩² and E⟨a, x⟩⁴", values, true.repeat_interleave(2 * n))

    def cube(law: UniformSphere) -> UniformSphere:
        def sample(count: int, rng: torch.Generator) -> Tensor:
            shape = (count, *law.space.event_shape)
            return law.space.project(2 * torch.rand(shape, generator=rng, dtype=DOUBLE) - 1)

        return but(law, sample=sample)

    def flat(law: UniformSphere, size: float) -> UniformSphere:
        def sample(count: int, rng: torch.Generator) -> Tensor:
            x = law.sample(count, rng)
            return law.space.project(torch.cat([(1 - size) * x[:, :1], x[:, 1:]], 1))

        return but(law, sample=sample)

    return Claim(
        "moments",
        "In every direction the moments of degree 1, 2 and 4 on S^n are 0, 1/(n+1) and "
        "3/((n+1)(n+3)).",
        lambda: UniformSphere(Sphere(5), DOUBLE),
        check,
        (
            dial("x₁ × (1 − δ), normalised again", flat, 0.5),
            Control("points of a cube, normalised", cube),
        ),
        formula=r"\mathbb{E}\langle a, x\rangle^4 = \frac{3}{(n+1)(n+3)}, \quad |a| = 1",
    )


# -- von Mises–Fisher ------------------------------------------------------------------------


def sharper(law: VonMisesFisher, size: float) -> VonMisesFisher:
    """κ is (1 + δ) times as large."""
    return VonMisesFisher(law.mean, (1 + size) * law.kappa)


def sharper_draws(law: VonMisesFisher, size: float) -> VonMisesFisher:
    """Only the draws are of another κ."""
    return but(law, sample=sharper(law, size).sample)


def fixture() -> Claim[VonMisesFisher]:
    """The printed numbers at κ = 4."""

    def check(law: VonMisesFisher, trial: Trial) -> Iterator[Evidence]:
        equator = row(0.6, 0.8, 0.0)
        because = "the ledger prints nine decimals"
        yield near("log C(4)", law.log_prob(equator), [-4.451247186], 6e-10, because)
        x, weight = quadrature()
        height = (weight * law.log_prob(x).exp() * x[:, 2]).sum()
        yield near("∫ cos θ p dA", height, 0.750671150, 6e-10, because)
        drawn = law.sample(trial.count(40_000, 20_000), trial.rng())[:, 2]
        yield mean("E cos θ of draws", drawn, 0.750671150)

    return Claim(
        "worked-example",
        "At κ = 4 the logarithm of the constant is −4.451247186 and the mean height 0.750671150.",
        lambda: VonMisesFisher(NORTH, 4.0),
        check,
        (
            dial("κ × (1 + δ)", sharper),
            dial("κ × (1 + δ) in the draws alone", sharper_draws),
        ),
        formula=r"C(\kappa) = \frac{\kappa}{4\pi\sinh\kappa}, \qquad "
        r"\mathbb{E}\cos\theta = \coth\kappa - \tfrac1\kappa",
        entries=("R-F8",),
    )


def ends() -> Claim[tuple[VonMisesFisher, ...]]:
    """Concentrations from 1e-8 to 1e5, in both precisions."""

    def make() -> tuple[VonMisesFisher, ...]:
        axis = row(2.0, -1.0, 2.0)[0] / 3
        wide = (VonMisesFisher(axis, kappa) for kappa in (1e-8, 0.3, 60.0))
        return (*wide, *(VonMisesFisher(axis.to(d), 1e5) for d in (torch.float32, DOUBLE)))

    def check(laws: tuple[VonMisesFisher, ...], trial: Trial) -> Iterator[Evidence]:
        x, weight = quadrature(32)
        for law in laws[:3]:
            mass = (weight * law.log_prob(x).exp()).sum()
            because = "rounding; degree 63 is beyond e^(60 cos θ) by 1e-12"
            yield near(f"∫ p at κ = {law.kappa:g}", mass, 1.0, 1e-10, because)
        for law in laws[3:]:
            name = str(law.mean.dtype)[6:]
            top = math.log(1e5 / (2 * math.pi))
            at = law.log_prob(law.mean[None])
            because = "one rounding of log p; 1 − e^{−2κ} = 1"
            yield near(f"log p at the mean, {name}", at, [top], 1e-6 + 1e-12, because)
            drawn = law.sample(trial.count(40_000, 20_000), trial.rng(name))
            depth = top - law.log_prob(drawn).double()
            fine = replace(law, mean=law.mean.double()).log_prob(drawn.double())
            rounding = 8 * torch.finfo(drawn.dtype).eps * (top + depth.abs().max())
            because = "8 roundings at the size of log C and of the depth"
            yield near(f"log p in float64, {name}", law.log_prob(drawn), fine, rounding, because)
            # |x − μ|² has two roundings of x and μ each, 1e-7 against lengths of 3e-3
            known = torch.tensor([1.0, 2.0], dtype=DOUBLE)
            allowance = 2e-4 if law.mean.dtype == torch.float32 else 1e-9
            moments = torch.stack([depth, depth**2], 1)
            because = "rounding of points to float32, squared"
            yield mean(f"κ(1 − ⟨μ, x⟩) ~ Exp(1), {name}", moments, known, allowance=allowance,
                       because=because)  # fmt: skip

    def sharper_all(laws: tuple[VonMisesFisher, ...], size: float) -> tuple[VonMisesFisher, ...]:
        return tuple(sharper_draws(law, size) for law in laws)

    def cancelled(laws: tuple[VonMisesFisher, ...]) -> tuple[VonMisesFisher, ...]:
        def one(law: VonMisesFisher) -> VonMisesFisher:
            def log_prob(x: Tensor) -> Tensor:
                shift: Tensor = law.log_prob(law.mean[None].to(x.dtype))
                height = (x * law.mean.to(x.dtype)).sum(-1)
                return shift + (law.kappa * height - law.kappa)

            return but(law, log_prob=log_prob)

        return tuple(one(law) for law in laws)

    return Claim(
        "all-concentrations",
        "The mass is 1 for concentrations from 1e-8; at 1e5 the depth κ(1 − ⟨μ, x⟩) of a draw is "
        "exponential, by a density without cancellation, in float32 too.",
        make,
        check,
        (
            dial("κ × (1 + δ) in the draws", sharper_all),
            Control("log p by κ⟨μ, x⟩ − κ, which cancels", cancelled),
        ),
        formula=r"\kappa(1 - \langle\mu, x\rangle) \sim \mathrm{Exp}(1), \quad \kappa \to \infty",
    )


# -- kernel densities ------------------------------------------------------------------------


def parts() -> Claim[VonMisesFisherMixture]:
    """The mixture is the mean of its laws."""

    def check(law: VonMisesFisherMixture, trial: Trial) -> Iterator[Evidence]:
        x = points(2)(64, trial.rng())
        each = torch.stack([VonMisesFisher(m, law.kappa).log_prob(x).exp() for m in law.means])
        yield equal("p", law.log_prob(x).exp(), each.mean(0), operations=256)
        drawn = law.sample(trial.count(40_000, 20_000), trial.rng("draws"))
        centre = (1 / math.tanh(law.kappa) - 1 / law.kappa) * law.means.mean(0)
        yield mean("E x", drawn, centre)

    def sharper(law: VonMisesFisherMixture, size: float) -> VonMisesFisherMixture:
        return VonMisesFisherMixture(law.means, (1 + size) * law.kappa)

    def fewer(law: VonMisesFisherMixture) -> VonMisesFisherMixture:
        drawn = VonMisesFisherMixture(law.means[1:], law.kappa)
        return but(law, sample=drawn.sample)

    return Claim(
        "mean-of-kernels",
        "The kernel density is the mean of the von Mises–Fisher laws at its points, and its draws "
        "have the mean of their means.",
        bumps,
        check,
        (
            dial("κ × (1 + δ)", lambda law, d: but(law, log_prob=sharper(law, d).log_prob)),
            Control("a point is never drawn from", fewer),
        ),
        formula=r"p(x) = \frac1N \sum_i C(\kappa)\, e^{\kappa\langle x_i, x\rangle}",
    )


def bandwidths() -> Claim[Any]:
    """Several concentrations in one pass."""

    def check(densities: Any, trial: Trial) -> Iterator[Evidence]:
        train, rows = points(2)(200, trial.rng("train")), points(2)(40, trial.rng("rows"))
        kappas = [5.0, 300.0, 1e5]
        found = densities(train, rows, kappas)
        for kappa, values in zip(kappas, found, strict=True):
            exact = VonMisesFisherMixture(train, kappa).log_prob(rows)
            scale = max(1.0, float(exact.abs().max()))
            # depth and its product with κ are rounded to float32
            tolerance = 4 * 1.2e-7 * scale + 2e-6
            because = "four roundings of float32, and those of a sum of 200 terms"
            yield near(f"log q at κ = {kappa:g}", values, exact, tolerance, because)

    def sharper(densities: Any, size: float) -> Any:
        return lambda train, rows, kappas: densities(train, rows, [(1 + size) * k for k in kappas])

    return Claim(
        "several-bandwidths",
        "Log-densities for several concentrations in one pass are those of the kernel density "
        "with each.",
        lambda: kernel_log_densities,
        check,
        (dial("κ × (1 + δ)", sharper),),
    )


def best_kappa() -> Claim[Any]:
    """The concentration of best validation likelihood."""

    def check(choose: Any, trial: Trial) -> Evidence:
        law = VonMisesFisher(NORTH, 30.0)
        train, held = law.sample(200, trial.rng("train")), law.sample(200, trial.rng("held"))

        def score(kappas: list[float]) -> Tensor:
            return kernel_log_densities(train, held, kappas).mean(1)

        grid = torch.logspace(1, 4, 120, dtype=DOUBLE).tolist()
        found = score([choose(train, held)])
        # the last step of the search is 1/16 of a ninth of 4 decades: 0.064 in log κ; half of it
        # squared times the curvature, which is below 1
        because = "half of the search's last step, squared, times a curvature below 1"
        return near("the best score of a fine grid", found, score(grid).max()[None], 1e-3, because)

    def sharper(choose: Any, size: float) -> Any:
        return lambda train, held: (1 + size) * choose(train, held)

    return Claim(
        "kappa",
        "The concentration that is chosen has the best validation likelihood, to the resolution "
        "of the search.",
        lambda: choose_kappa,
        check,
        (dial("κ × (1 + δ)", sharper),),
        formula=r"\hat\kappa = \arg\max_\kappa \textstyle\sum_j \log q_\kappa(y_j)",
    )


def weights() -> Claim[Any]:
    """The optimality conditions of the weights of many bandwidths."""

    def check(mixed: Any, trial: Trial) -> Iterator[Evidence]:
        from ..evaluations import BANDWIDTHS

        centres = points(2)(20, trial.rng()).repeat(20, 1)
        near_by = S2.step(centres, 0.05 * S2.tangent_noise(centres, trial.rng("noise")))
        train, held = near_by[:250], torch.cat([near_by[250:], points(2)(80, trial.rng("far"))])
        mixture = mixed(train, held, held)
        every = kernel_log_densities(train, held, BANDWIDTHS)
        flat = torch.full_like(every[:1], -math.log(4 * math.pi))
        ratios = (torch.cat([every, flat]) - mixture).exp().mean(1)
        # a weight is multiplied by its part's ratio in every step, and stays below 1
        because = "over 200 steps from equal weights the mean of a log-ratio is at most log 13/200"
        yield near("max_j E[q_j / mixture] = 1", ratios.max(), 1.0, 0.013, because)

    def lifted(mixed: Any, size: float) -> Any:
        return lambda *rows: mixed(*rows) - size

    def even(mixed: Any) -> Any:
        def equal_weights(train: Tensor, held: Tensor, rows: Tensor) -> Tensor:
            from ..evaluations import BANDWIDTHS

            every = kernel_log_densities(train, rows, BANDWIDTHS)
            flat = torch.full_like(every[:1], -math.log(4 * math.pi))
            both = torch.cat([every, flat])
            return torch.logsumexp(both, 0) - math.log(len(both))

        return equal_weights

    return Claim(
        "weights",
        "The weights of many bandwidths are the best on validation points: no part has a larger "
        "mean ratio to the mixture than 1 (Kuhn–Tucker).",
        lambda: mixed_bandwidths,
        check,
        (dial("log-density − δ", lifted), Control("equal weights", even)),
        formula=r"\max_j \operatorname{mean}_y \frac{q_j(y)}{\sum_i w_i q_i(y)} = 1",
    )
