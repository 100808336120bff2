r"""Latent noises of other shapes: a matrix A(t), and laws that are not normal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.paths import Draw
from genpath.predictions import Rule, convert
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    contracts,
    dial,
    equal,
    exact,
    frequencies,
    mean,
)

from .. import families
from ..general import InterpolantPath
from ..latents import GaussianLatent, Latent, LatentLaw, LogisticLatent, StudentLatent
from .atoms import Atoms, atom_pairs, conversions, equation, logistic, score
from .bent import bent, root, scaled, square
from .cases import DOUBLE, LINE, PLANE, normal

__all__ = ["anisotropic", "latent"]

Claims = tuple[Claim[Any], ...]


def anisotropic() -> Claims:
    """The claims of ``path.interpolants.anisotropic``."""
    build = lambda: families.anisotropic(PLANE, ((0.9, 0.5), (-0.3, 1.2)))  # noqa: E731
    return (*_owed(build), matrix_fields(), matrix_regression())


def latent() -> Claims:
    """The claims of ``path.interpolants.latent``."""
    build = lambda: families.latent(PLANE, "logistic")  # noqa: E731
    return (*_owed(build), other_laws(), laws())


def _owed(build: Callable[[], InterpolantPath]) -> Claims:
    """Ends and forward equation; the targets' means are measured here against densities.

    The rules between the targets are homogeneous, so that a target of the wrong size obeys them.
    """
    found = contracts.path(build, _pairs, rows=2000)
    return tuple(claim for claim in found if claim.name != "targets")


def _pairs(count: int, rng: torch.Generator) -> Pairs:
    return Pairs(normal(count, 2, rng=rng), normal(count, 2, rng=rng))


# -- a matrix --------------------------------------------------------------------------------------


def turning(t: Tensor) -> Tensor:
    """S(t), not symmetric: ``(n, 2, 2)``."""
    one = torch.ones_like(t)
    rows = [torch.stack([1.1 * one, 0.6 * t], -1), torch.stack([-0.4 * one, 0.8 + 0.5 * t], -1)]
    return torch.stack(rows, -2)


def matrix_case() -> Atoms:
    """A bent path of the plane with A = √(t(1−t)) S(t)."""
    path = InterpolantPath(PLANE, bent, Latent(square(), turning))
    return Atoms(
        "A(t) z", path, *atom_pairs(2), bent, lambda t: root(1.0)(t)[:, None, None] * turning(t)
    )


def changed(case: Atoms, gives: str, change: Callable[[Tensor, Tensor], Tensor]) -> Atoms:
    """The case whose rules to ``gives`` are followed by ``change(t, value)``."""

    def altered(rule: Rule) -> Rule:
        if rule.gives != gives:
            return rule
        right = rule.formula
        return replace(rule, formula=lambda t, x, *given: change(t, right(t, x, *given)))

    rules = tuple(altered(rule) for rule in case.path.rules)
    return replace(case, path=but(case.path, rules=rules))


def matrix_fields() -> Claim[tuple[Atoms, ...]]:
    """Score, velocity and conversions for a matrix that is not symmetric."""

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        (case,) = found
        count = trial.count(40)
        yield equation(case, trial.rng(), count)
        yield score(case, trial.rng(), count)
        yield score(case, trial.rng(), count, "noise")
        table = (
            (("score",), "noise"),
            (("interpolant_velocity", "score"), "velocity"),
            (("velocity", "score"), "interpolant_velocity"),
            (("interpolant_velocity", "noise"), "velocity"),
        )
        yield from conversions(case, trial.rng(), count, table)
        t, x = case.points(trial.rng(), count)
        flow = case.path.conditional_generator(case.x0[:1], case.x1[:1])
        one = replace(case, x0=case.x0[:1], x1=case.x1[:1], weights=torch.ones(1, dtype=DOUBLE))
        carried = case.path.conditional_generator(
            case.x0[:1].expand(count, 2), case.x1[:1].expand(count, 2)
        )(t, x).velocity
        yield equal("the flow of one pair", carried, one.field("velocity")(t, x), operations=512)
        yield exact("its parts", sorted(flow.has), ["velocity"])

    def transposed(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        (case,) = found
        wrong = InterpolantPath(PLANE, bent, Latent(square(), lambda t: turning(t).mT))
        path = but(case.path, rules=wrong.rules)
        return (replace(case, path=path),)

    def frozen(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        (case,) = found
        still = InterpolantPath(PLANE, bent, Latent(square(), turning(torch.tensor([0.5]))[0]))
        return (replace(case, path=but(case.path, rules=still.rules)),)

    return Claim(
        "matrix",
        "For A(t)z with any invertible A the score is −A^{−⊤}E[z | x] and the velocity "
        "E[∂_t I + Ȧz | x] = v − ȦA^⊤s.",
        lambda: (matrix_case(),),
        check,
        (
            Control("A^⊤ in place of A in the rules", transposed),
            Control("Ṡ = 0 in the rules", frozen),
            dial("∂_t I + Ȧz × (1 + δ)", scaled("velocity")),
            dial("the target of the score × (1 + δ)", scaled("score")),
        ),
        formula=r"s = -A^{-\top}\,\mathbb E[z\,|\,x_t],\quad "
        r"b = \mathbb E[\partial_t I + \dot A z\,|\,x_t]",
        entries=("H2.1",),
        owes="reverse",
    )


def matrix_regression() -> Claim[InterpolantPath]:
    """The targets' means given x, for normal ends."""

    rows = torch.tensor([[0.9, 0.5], [-0.3, 1.2]], dtype=DOUBLE)

    def check(path: InterpolantPath, trial: Trial) -> Iterator[Evidence]:
        rng, count, time = trial.rng(), trial.count(40_000), 0.4
        x0, x1 = normal(count, 2, rng=rng), 0.5 + 1.3 * normal(count, 2, rng=rng)
        draw = path.draw(time, x0, x1, rng)
        a = math.sqrt(time * (1 - time)) * rows
        spread = ((1 - time) ** 2 + (1.3 * time) ** 2) * torch.eye(2, dtype=DOUBLE)
        gap = draw.state - 0.5 * time
        white = torch.linalg.solve(spread + a @ a.T, gap.T).T
        zero = torch.zeros(2, 2, dtype=DOUBLE)
        told = {"score": -white, "noise": white @ a}
        for name, value in told.items():
            off = path.target(name, draw) - value
            yield mean(f"E[({name} − its mean) x]", off[:, :, None] * gap[:, None], zero)
        found = convert(path.rules, {"noise": told["noise"][:64]}, "score", draw.t[:64], gap[:64])
        yield equal("s from E[z | x]", found, -white[:64], operations=512)

    def transposed(path: InterpolantPath) -> InterpolantPath:
        return but(path, target=families.anisotropic(PLANE, rows.T.tolist()).target)

    def stretched(path: InterpolantPath, size: float) -> InterpolantPath:
        right = path.target
        return but(path, target=lambda name, draw: (1 + size) * right(name, draw))

    return Claim(
        "matrix-regression",
        "For normal ends the targets z and −A^{−⊤}z have the means A^⊤(Σ + AA^⊤)^{−1}(x − m) and "
        "−(Σ + AA^⊤)^{−1}(x − m), Σ the covariance of I.",
        lambda: families.anisotropic(PLANE, rows.tolist()),
        check,
        (
            Control("A^⊤ in place of A", transposed),
            dial("target × (1 + δ)", stretched),
        ),
        formula=r"s = -(\Sigma_I + AA^\top)^{-1}(x - m)",
        entries=("H2.1",),
        owes="minimiser",
    )


# -- other laws ------------------------------------------------------------------------------------


def student(z: Tensor) -> Tensor:
    """log of Student's density, ν = 5, by torch."""
    law = torch.distributions.StudentT(
        z.new_tensor(5.0), z.new_zeros(()), z.new_ones(()), validate_args=False
    )
    found: Tensor = law.log_prob(z)
    return found


def law_case(law: LatentLaw, density: Callable[[Tensor], Tensor], size: int = 1) -> Atoms:
    """A bent path with γz, z of this law."""
    space = LINE if size == 1 else PLANE
    path = InterpolantPath(space, bent, Latent(square(), law=law))
    return Atoms(type(law).__name__, path, *atom_pairs(size), bent, root(1.0), density)


def other_laws() -> Claim[tuple[Atoms, ...]]:
    """Score and velocity need two means."""

    def make() -> tuple[Atoms, ...]:
        return (
            law_case(LogisticLatent(), logistic),
            law_case(LogisticLatent(), logistic, 2),
            law_case(StudentLatent(5.0), student),
        )

    def check(found: tuple[Atoms, ...], trial: Trial) -> Iterator[Evidence]:
        for case in found:
            count = trial.count(30)
            yield equation(case, trial.rng(), count)
            yield score(case, trial.rng(), count)
            yield score(case, trial.rng(), count, "latent_gradient")
            table = (
                (("interpolant_velocity", "noise"), "velocity"),
                (("velocity", "noise"), "interpolant_velocity"),
                (("score",), "latent_gradient"),
            )
            yield from conversions(case, trial.rng(), count, table)

    def as_normal(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        """z in place of ∇V(z)."""

        def plant(case: Atoms) -> Atoms:
            right = case.path.target

            def target(name: str, draw: Draw) -> Tensor:
                value: Tensor = right("noise" if name == "latent_gradient" else name, draw)
                return value

            return replace(case, path=but(case.path, target=target))

        return tuple(plant(case) for case in found)

    def flipped(found: tuple[Atoms, ...]) -> tuple[Atoms, ...]:
        return tuple(changed(case, "score", lambda t, s: -s) for case in found)

    return Claim(
        "latent-law",
        "For z of density e^{−V} the score is −E[∇V(z) | x]/γ and the velocity E[∂_t I + γ̇z | x]: "
        "two different means of the latent.",
        make,
        check,
        (
            Control("E[z | x] in place of E[∇V(z) | x]", as_normal),
            Control("−s in place of s", flipped),
            dial("∇V(z) × (1 + δ)", scaled("latent_gradient")),
            dial("∂_t I + γ̇z × (1 + δ)", scaled("velocity")),
        ),
        formula=r"s = -\gamma^{-1}\,\mathbb E[\nabla V(z)\,|\,x_t]",
        entries=("H2.2", "F6"),
        owes="reverse",
    )


def laws() -> Claim[tuple[LatentLaw, ...]]:
    """The laws themselves, against scipy."""

    def check(found: tuple[LatentLaw, ...], trial: Trial) -> Iterator[Evidence]:
        from scipy import stats

        references = (stats.norm(), stats.logistic(), stats.t(5.0))
        edges = torch.linspace(-4, 4, 17, dtype=DOUBLE)
        for law, reference in zip(found, references, strict=True):
            words = type(law).__name__
            like = torch.empty(trial.count(40_000), 1, dtype=DOUBLE)
            z = law.sample(like, trial.rng(words))
            counts = torch.bincount(torch.bucketize(z[:, 0], edges), minlength=len(edges) + 1)
            cdf = torch.cat([
                torch.zeros(1, dtype=DOUBLE), torch.tensor(reference.cdf(edges.numpy())),
                torch.ones(1, dtype=DOUBLE),
            ])  # fmt: skip
            yield frequencies(f"{words}: draws", counts, cdf.diff())
            told = torch.tensor(reference.logpdf(edges.numpy()))
            yield equal(f"{words}: −V", law.log_prob(edges), told, operations=128)
            slope = torch.func.grad(lambda y, law=law: -law.log_prob(y).sum())(edges + 0.1)
            yield equal(f"{words}: V′", law.gradient(edges + 0.1), slope, operations=128)

    def wide(found: tuple[LatentLaw, ...], size: float) -> tuple[LatentLaw, ...]:
        return tuple(
            but(law, sample=lambda like, rng, law=law: (1 + size) * law.sample(like, rng))
            for law in found
        )

    def half(found: tuple[LatentLaw, ...]) -> tuple[LatentLaw, ...]:
        def narrow(law: LatentLaw) -> LatentLaw:
            return but(law, gradient=lambda z: law.gradient(2 * z) / 2)

        return (found[0], *(narrow(law) for law in found[1:]))

    def heavier(found: tuple[LatentLaw, ...]) -> tuple[LatentLaw, ...]:
        return (*found[:2], StudentLatent(4.0))

    return Claim(
        "laws",
        "The normal, logistic and Student latents are drawn from the densities e^{−V} whose "
        "gradients V′ they give.",
        lambda: (GaussianLatent(), LogisticLatent(), StudentLatent(5.0)),
        check,
        (
            dial("draws × (1 + δ)", wide, 0.25),
            Control("V′ of half the width", half),
            Control("ν = 4", heavier),
        ),
        entries=("F6",),
        requires=("scipy",),
    )
