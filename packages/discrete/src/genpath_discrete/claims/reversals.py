r"""Reversal: noising kernels, the posteriors that they imply, and generators run backwards.

    q(x_s | x_t, x1) = p_s(x_s | x1) k(x_t | x_s) / p_t(x_t | x1)         t < s, Bayes
    Q̃(x → y) = p(y) Q(y → x) / p(x)

For letters that come out of a mask both say one thing: seen backwards, every site is masked at the
rate κ̇/κ, whatever the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from genpath.generators import MarkovGenerator
from genpath.jumps import RateJumps
from genpath.parts import Parts
from genpath.reversal import reverse
from genpath.schedules import KeepSchedule, linear_keep
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, mean, near

from ..laws import Table
from ..paths import MaskedPath, MixturePath
from ..spaces import Categorical
from .cases import (
    DOUBLE,
    SCHEDULES,
    Case,
    Cases,
    blunt,
    each,
    faster,
    independent_ends,
    masked_cases,
    mixture_case,
    rate_matrix,
    rate_of,
    states_of,
    table,
    times,
    transition,
    uniform_table,
)

__all__ = ["masked", "mixture", "noising_ends", "noising_generator"]

ROUNDINGS = 4096


def masked() -> tuple[Claim[Any], ...]:
    """Those of the masked path."""
    return (backwards(), ancestral_posterior(), revealed_share())


def mixture() -> tuple[Claim[Any], ...]:
    """Those of the mixture path."""
    return (known_posterior(), known_reversal())


# -- generators ------------------------------------------------------------------------------------


def backwards() -> Claim[Cases]:
    """The reversal of unmasking is masking, at κ̇/κ."""

    def check(cases: Cases, trial: Trial) -> Iterator[Evidence]:
        for case in cases:
            space, x = case.path.space, case.states
            for t in (*times(2, trial.rng(case.words)), torch.tensor(1e-3, dtype=DOUBLE)):
                back = rate_matrix(reverse(case.generator(), log_density=case.log_density), 1 - t)
                kappa, slope = rate_of(case.schedule.kappa, t)
                one = (x.unsqueeze(1) != x).sum(-1) == 1  # y differs from x at one site, a mask
                veils = one & (
                    (x != space.mask_id).sum(1, keepdim=True) > (x != space.mask_id).sum(1)
                )
                expected = torch.where(veils, slope / kappa, 0.0)
                expected -= torch.diag(expected.sum(1))
                words = f"{case.words}, t = {float(t):.3f}"
                size = float(expected.abs().max())
                yield equal(f"{words}: Q̃", back, expected, operations=ROUNDINGS, scale=size)
                p, rate = rate_of(case.density, t)
                yield equal(f"{words}: p Q̃", p @ back, -rate, operations=ROUNDINGS, scale=size)

    return Claim(
        "reversal-is-masking",
        "Run backwards, the exact generator masks every site at the rate κ̇/κ, independently of "
        "the data, and does nothing else.",
        masked_cases,
        check,
        (dial("jumps × (1 + δ)", each(faster)), dial("logits × (1 − δ)", each(blunt))),
        formula=r"\tilde Q_t(x \to y) = \frac{p_t(y)\,Q_t(y \to x)}{p_t(x)} = "
        r"\frac{\dot\kappa}{\kappa}\,1\{y = x \text{ with one more mask}\}",
        owes="reverse",
    )


def noising_generator(space: Categorical, base: Tensor, schedule: KeepSchedule) -> MarkovGenerator:
    """Noise in the clock s = 1 − t: every site is redrawn from the base letters at κ̇(t)/κ(t)."""

    def evaluate(s: Tensor, x: Tensor) -> Parts:
        rate = schedule.kappa.rate(1 - s) / schedule.kappa(1 - s)
        return Parts(jumps=RateJumps(rate[:, None, None] * base.expand(*x.shape, len(base)), x))

    return MarkovGenerator(space, evaluate, frozenset({"jumps"}))


def noising_ends(data: Tensor) -> Case:
    """One letter with uniform noise and linear κ."""
    law = Table(data)
    ends = independent_ends(uniform_table(law.space), law)
    return mixture_case(ends, len(data), linear_keep())


def known_reversal() -> Claim[Any]:
    """Printed ratios and rates of uniform noise on one letter."""
    ratios = {(0, 1): 1.164634146, (0, 2): 1.493902439, (1, 2): 1.282722513}
    noising = [
        [0, 0.862691960, 1.106594399],
        [0.636028699, 0, 0.950164825],
        [0.495842782, 0.577475435, 0],
    ]
    mixing = [
        [0, 0.365853659, 0.609756098],
        [0.209424084, 0, 0.523560209],
        [0.163265306, 0.244897959, 0],
    ]
    printed = [torch.tensor(rows, dtype=DOUBLE) for rows in (noising, mixing)]

    def make() -> tuple[Case, MarkovGenerator]:
        case = noising_ends(torch.tensor([0.2, 0.3, 0.5], dtype=DOUBLE))
        base = torch.full((3,), 1 / 3, dtype=DOUBLE)
        return case, noising_generator(case.path.space, base, case.schedule)

    def check(made: tuple[Case, MarkovGenerator], trial: Trial) -> Iterator[Evidence]:
        case, noise = made
        t = torch.tensor(0.45, dtype=DOUBLE)
        p, rate = rate_of(case.density, t)
        for (x, y), value in ratios.items():
            yield near(f"p({y})/p({x})", p[y] / p[x], value, 1e-9, "printed digits")
        yield equal("p N", p @ rate_matrix(noise, 1 - t), -rate)
        back = reverse(noise, log_density=lambda s, x: case.log_density(1 - s, x))
        found = rate_matrix(back, t), rate_matrix(case.generator(), t)
        for words, matrix, known in zip(("noising", "mixture"), found, printed, strict=True):
            rows = matrix - torch.diag(matrix.diag())
            yield near(f"{words} rates", rows, known, 1e-9, "printed digits")
            yield equal(f"p Q of the {words} rates", p @ matrix, rate)
        apart = (found[0] - found[1]).abs().max()
        yield near("largest difference", apart, 0.994, 5e-4, "printed digits in the ledger")
        early = torch.tensor(1e-4, dtype=DOUBLE)
        scaled = early * rate_matrix(back, early).clamp_min(0)
        limit = (1 - torch.eye(3, dtype=DOUBLE)) / 3
        yield near("t Q as t → 0", scaled, limit, 1e-4, "ratios are 1 + O(t), t = 1e-4")

    def swift(made: tuple[Case, MarkovGenerator], size: float) -> Any:
        return made[0], (1 + size) * made[1]

    return Claim(
        "known-reversal",
        "Uniform noise on one letter: the reversed noising process and the mixture rates differ, "
        "and carry the same law. The reversed rates grow like 1/t as t → 0.",
        make,
        check,
        (
            dial("mixture rates × (1 + δ)", lambda made, size: (faster(made[0], size), made[1])),
            dial("noising rates × (1 + δ)", swift),
        ),
        formula=r"\frac{\dot\kappa}{\kappa V}\frac{p_t(y)}{p_t(x)} \quad\text{and}\quad "
        r"\frac{\dot\kappa}{1-\kappa}\,p(x_1 = y \mid x_t = x)",
        entries=("Y11",),
        owes="reverse",
    )


# -- kernels ---------------------------------------------------------------------------------------


def ancestral_posterior() -> Claim[tuple[MaskedPath, ...]]:
    """A step of the conditional generator against Bayes on the masking chain."""

    def check(paths: tuple[MaskedPath, ...], trial: Trial) -> Iterator[Evidence]:
        x1 = torch.tensor([2, 0])
        for (words, schedule), path in zip(SCHEDULES, paths, strict=True):
            x = states_of(path.space)
            t, s = times(2, trial.rng(words)).sort().values
            kept = schedule.kappa(t) / schedule.kappa(s)
            eye = (x.unsqueeze(1) == x).to(DOUBLE)
            veil = (x == 3).to(DOUBLE)
            forward = (kept * eye + (1 - kept) * veil).prod(-1)  # k(x_t | x_s), rows x_s

            def law(kappa: Tensor, x: Tensor = x, veil: Tensor = veil) -> Tensor:
                return (kappa * (x == x1) + (1 - kappa) * veil).prod(-1)

            joint = law(schedule.kappa(s))[:, None] * forward
            yield equal(f"{words}: marginal", joint.sum(0), law(schedule.kappa(t)))
            met = joint.sum(0) > 0
            bayes = (joint / joint.sum(0)).T[met]
            gen = path.conditional_generator(torch.full_like(x, 3), x1.expand_as(x))
            step = transition(gen, float(t), float(s))[met]
            yield equal(f"{words}: q(x_s | x_t, x1)", step, bayes, operations=256)
            revealed = (schedule.kappa(s) - schedule.kappa(t)) / (1 - schedule.kappa(t))
            shown = step[-1][x[:, 0] == 2].sum()
            yield equal(f"{words}: a mask reveals", shown, revealed)

    def late(paths: tuple[MaskedPath, ...], size: float) -> tuple[MaskedPath, ...]:
        def plant(path: MaskedPath) -> MaskedPath:
            kappa = path.schedule.kappa
            return replace(path, schedule=KeepSchedule(lambda t: kappa(t) ** (1 + size)))

        return tuple(plant(path) for path in paths)

    return Claim(
        "ancestral-posterior",
        "A step of the conditional generator, of any length, draws from the posterior of the "
        "masking chain: a mask reveals its letter with probability (κ_s − κ_t)/(1 − κ_t).",
        lambda: tuple(MaskedPath(Categorical(3, (2,)), schedule) for _, schedule in SCHEDULES),
        check,
        (dial("κ^(1 + δ) in place of κ", late),),
        formula=r"q(x_s \mid x_t, x_1) = \frac{p_s(x_s \mid x_1)\,k(x_t \mid x_s)}"
        r"{p_t(x_t \mid x_1)}",
        entries=("D.13",),
        owes="reverse",
    )


def _kept_less(path: Any, size: float) -> Any:
    """Noised with κ(t)/κ(s) × (1 − δ), by going to another time."""

    def renoise(t_from: Any, t_to: Any, state: Tensor, rng: torch.Generator) -> Tensor:
        kept: Tensor = path.renoise(t_from, (1 - size) * t_to, state, rng)
        return kept

    return but(path, renoise=renoise)


def revealed_share() -> Claim[MaskedPath]:
    """How many of the sites that are masked at t were revealed at s."""

    def check(path: MaskedPath, trial: Trial) -> Evidence:
        rng, count, (t, s) = trial.rng(), trial.count(80_000, 40_000), (0.3, 0.7)
        x1 = torch.randint(3, (count, 1), generator=rng)
        x_s = path.draw(torch.full((count,), s, dtype=DOUBLE), None, x1, rng).state
        x_t = path.renoise(s, t, x_s, rng)
        kept = (x_s[x_t == path.mask_id] != path.mask_id).to(DOUBLE)
        return mean("share revealed at κ = 0.7, masked at 0.3", kept, 4 / 7)

    return Claim(
        "noised-share",
        "Of the sites that are noised to a mask at t, a share (κ_s − κ_t)/(1 − κ_t) was revealed "
        "at s.",
        lambda: MaskedPath(Categorical(3, (1,))),
        check,
        (dial("κ(t) × (1 − δ) in the noising", _kept_less, 0.5),),
        formula=r"P(x_s \ne m \mid x_t = m) = \frac{\kappa_s - \kappa_t}{1 - \kappa_t}",
        owes="reverse",
    )


def known_posterior() -> Claim[MixturePath]:
    """q(x_s | x_t, x1) by counting, against printed rows."""
    pi = (0.5, 0.3, 0.2)
    known = [
        [0.487179487, 0.076923077, 0.435897436],
        [0.128205128, 0.435897436, 0.435897436],
        [0.034722222, 0.020833333, 0.944444444],
    ]

    def check(path: MixturePath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(200_000, 100_000)
        x1 = torch.full((count, 1), 2)
        t = torch.full((count,), 0.6, dtype=DOUBLE)
        x_s = path.draw(t, path.base().sample(count, rng), x1, rng).state
        x_t = path.renoise(0.6, 0.35, x_s, rng)
        for row, expected in enumerate(known):
            found = functional.one_hot(x_s[x_t == row], 3).to(DOUBLE)
            reference = torch.tensor(expected, dtype=DOUBLE)
            yield mean(f"q(x_s | x_t = {row}, x1 = 2)", found, reference)

    return Claim(
        "known-posterior",
        "Letters drawn at κ = 0.6 and noised to κ = 0.35 have the known posteriors given where "
        "they were noised to.",
        lambda: MixturePath(Categorical(3, (1,)), noise=table(pi)),
        check,
        (
            dial("κ(t) × (1 − δ) in the noising", _kept_less, 0.5),
            Control("uniform fresh letters", lambda path: replace(path, noise=None)),
        ),
        formula=r"q(x_s \mid x_t, x_1) \propto "
        r"\big[k\,1\{x_s = x_t\} + (1-k)\pi(x_t)\big]"
        r"\big[\kappa_s 1\{x_s = x_1\} + (1-\kappa_s)\pi(x_s)\big], \quad k = \kappa_t/\kappa_s",
        owes="reverse",
    )
