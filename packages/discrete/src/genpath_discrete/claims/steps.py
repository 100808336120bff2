r"""The operator that reveals masks straight from logits, and other exact draws of letters.

the letter is the first v with Σ_{w ≤ v} p_w > u
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.jumps import pick
from genpath.schedules import linear_keep
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    at_most,
    but,
    dial,
    equal,
    exact,
    frequencies,
    near,
)

from ..jumps import MaskedJumps
from ..kernels import masked_step, masked_step_reference
from . import operators
from .cases import DOUBLE

__all__ = ["steps"]

Step = Callable[..., Tensor]
LOGITS = torch.tensor([1.2, -0.3, 0.7, 2.1, 0.0], dtype=DOUBLE)
EDGES = torch.tensor([0.217843180, 0.266450564, 0.398579132, 0.934386895], dtype=DOUBLE)


def steps() -> tuple[Claim[Any], ...]:
    """The claims of ``discrete.masked_step``."""
    return (inverse_cdf(), letters(), rare(), unlikely(), jumping(), *operators.claims())


def drawn(step: Step, logits: Tensor, u: Tensor) -> Tensor:
    """One letter of the same logits for every u."""
    size = logits.shape[-1]
    state, zeros = torch.full((len(u),), size), torch.zeros(len(u))
    return step(logits.expand(len(u), -1), state, zeros, u, torch.ones(()), size)


def softer(step: Step, size: float) -> Step:
    """Logits × (1 − δ)."""
    return lambda logits, *rest: step((1 - size) * logits, *rest)


def single(step: Step) -> Step:
    """Probabilities and their sums in float32."""

    def wrong(logits: Tensor, state: Tensor, reveal: Tensor, u: Tensor, *rest: Any) -> Tensor:
        upto = logits.float().softmax(-1).cumsum(-1)
        index = torch.searchsorted(upto, u.float().unsqueeze(-1), right=True).squeeze(-1)
        return index.clamp_max(logits.shape[-1] - 1)

    return wrong


def inverse_cdf() -> Claim[Step]:
    """Known letters for known u; the operator against its reference."""

    def check(step: Step, trial: Trial) -> Iterator[Evidence]:
        u = torch.tensor([0.05, 0.3, 0.5, 0.97], dtype=DOUBLE)
        yield exact("letters of four u", drawn(step, LOGITS, u), torch.tensor([0, 2, 3, 4]))
        low, high = (drawn(step, LOGITS, EDGES + shift) for shift in (-1e-9, 1e-9))
        yield exact("just below the known edges", low, torch.arange(4))
        yield exact("just above them", high, torch.arange(1, 5))
        rng = trial.rng()
        logits = torch.randn(64, 7, 50, generator=rng, dtype=DOUBLE)
        state = torch.randint(49, 51, (64, 7), generator=rng)
        reveal, letter = torch.rand(2, 64, 7, generator=rng, dtype=DOUBLE)
        chance = torch.rand(64, generator=rng, dtype=DOUBLE)
        found = step(logits, state, reveal, letter, chance, 50)
        slow = masked_step_reference(logits, state, reveal, letter, chance, 50)
        yield exact("the same letters as the reference", found, slow)
        shown = (state == 50) & (reveal < chance[:, None])
        upto = logits.softmax(-1).cumsum(-1)
        count = (upto <= letter[..., None]).sum(-1)  # another way to the index
        yield exact("letters by counting", found, torch.where(shown, count, state))

    def shifted(step: Step, size: float) -> Step:
        return lambda logits, state, reveal, u, *rest: step(
            logits, state, reveal, (1 - size) * u, *rest
        )

    return Claim(
        "inverse-cdf",
        "The letter is the first whose cumulative probability exceeds u: known letters and edges, "
        "the same letters as the reference, and nothing but masks that reveal changes.",
        lambda: masked_step,
        check,
        (dial("u × (1 − δ)", shifted), dial("logits × (1 − δ)", softer)),
        formula=r"v = \min\Big\{v : \sum_{w \le v} p_w > u\Big\}",
        entries=("K-F3", "K.1"),
    )


def letters() -> Claim[Step]:
    """χ² of letters."""
    law = torch.tensor([0.4, 0.3, 0.2, 0.08, 0.019, 0.001], dtype=DOUBLE)

    def check(step: Step, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(400_000, 200_000)
        u = torch.rand(count, generator=rng, dtype=DOUBLE)
        found = torch.bincount(drawn(step, law.log(), u), minlength=6)
        yield frequencies("letters of the step", found, law)
        picked = torch.bincount(pick(law.expand(count, -1), rng), minlength=6)
        yield frequencies("letters of pick", picked, law)

    return Claim(
        "frequencies",
        "Letters are drawn as often as their probabilities say, the rarest too.",
        lambda: masked_step,
        check,
        (dial("logits × (1 − δ)", softer, 0.5),),
        entries=("D.32", "K.1"),
    )


def rare() -> Claim[Step]:
    """A letter of probability 1e-8 keeps its share."""

    def check(step: Step, trial: Trial) -> Iterator[Evidence]:
        for p in (1e-6, 1e-8):
            law = torch.tensor([0.3, 0.2, p, 0.4, 0.1 - p], dtype=DOUBLE)
            inside = 0.5 + p * torch.linspace(0.02, 0.98, 50, dtype=DOUBLE)
            found = drawn(step, law.log(), inside)
            yield exact(f"u inside its share, p = {p:g}", found, torch.full((50,), 2))
            outside = torch.tensor([0.5 - 0.02 * p, 0.5 + 1.02 * p], dtype=DOUBLE)
            found = drawn(step, law.log(), outside)
            yield exact(f"u outside of it, p = {p:g}", found, torch.tensor([1, 3]))

    return Claim(
        "rare-letters",
        "A letter of probability 1e-8 is drawn for a share of 1e-8 of all u, which sums in "
        "float32 cannot resolve.",
        lambda: masked_step,
        check,
        (Control("probabilities and sums in float32", single), dial("logits × (1 − δ)", softer)),
        entries=("D.32",),
    )


def largest(u: Tensor) -> Tensor:
    """−log E of the noise E = −log(1 − u): a Gumbel number."""
    return -(-torch.log1p(-u)).log()


GRIDS = {24: 16.635532304, 32: 22.873856958}
"""The largest Gumbel number of u ≥ 2⁻²⁴, and of u ≥ 2⁻³³, the first centre of a grid of 2⁻³²."""


def unlikely() -> Claim[Step]:
    """Letters below the reach of Gumbel noise."""
    small = {24: 2.0**-24, 32: 2.0**-33}
    logits = {24: -20.0, 32: -26.5}

    def check(step: Step, trial: Trial) -> Iterator[Evidence]:
        below_one = torch.nextafter(torch.ones(()), torch.zeros(()))
        yield exact("the last float32 below 1", 1 - float(below_one), small[24])
        for bits, logit in logits.items():
            u = torch.tensor(small[bits], dtype=DOUBLE)
            least, most = float(largest(1 - u)), float(largest(u))
            words = "the ledger prints nine digits"
            yield near(f"largest Gumbel number, {bits} bits", most, GRIDS[bits], 5e-10, words)
            yield at_most(
                f"what noise can make up for, {bits} bits",
                most - least,
                -logit,
                "it is less than the logits are apart",
            )
            two = torch.tensor([0.0, logit], dtype=DOUBLE)
            p = math.exp(logit) / (1 + math.exp(logit))
            inside = 1 - p * torch.linspace(0.02, 0.98, 50, dtype=DOUBLE)
            found = drawn(step, two, inside)
            yield exact(f"u inside its share, log p = {logit:g}", found, torch.full((50,), 1))
            outside = torch.tensor([1 - 1.02 * p], dtype=DOUBLE)
            found = drawn(step, two, outside)
            yield exact(f"u outside of it, log p = {logit:g}", found, torch.tensor([0]))

    def lucky(bits: int) -> Callable[[Step], Step]:
        """The last letter has the largest noise, the others the least."""
        u = torch.tensor(small[bits], dtype=DOUBLE)

        def wrong(logits: Tensor, *rest: Any) -> Tensor:
            noise = largest(1 - u).expand(logits.shape[-1]).clone()
            noise[-1] = largest(u)
            return (logits + noise).argmax(-1)

        return lambda step: wrong

    return Claim(
        "beyond-gumbel-noise",
        "Letters of log-probability −20 and −26.5 are drawn for their shares of all u. Gumbel "
        "noise from u on a grid of 2⁻²⁴ ends at 16.6355, on one of 2⁻³² at 22.8739: argmax of "
        "logits plus noise never draws them, however the noise falls.",
        lambda: masked_step,
        check,
        (
            dial("logits × (1 − δ)", softer),
            Control("Gumbel-max on a grid of 2⁻²⁴, at its luckiest", lucky(24)),
            Control("Gumbel-max on a grid of 2⁻³², at its luckiest", lucky(32)),
        ),
        formula=r"-\log(-\log(1 - 2^{-24})) = 16.6355",
        entries=("K-F4", "Y12"),
    )


def jumping() -> Claim[Any]:
    """No letter is the mask, and log-targets are those of the logits."""

    def make() -> MaskedJumps:
        rng = torch.Generator().manual_seed(3)
        logits = torch.randn(1, 4, 3, generator=rng, dtype=DOUBLE)
        flags = torch.ones(1, 4, dtype=torch.bool)
        return MaskedJumps(logits, flags, linear_keep(), torch.ones(1, dtype=DOUBLE) / 2)

    def check(part: Any, trial: Trial) -> Iterator[Evidence]:
        mass = torch.stack([part.log_target(torch.full((1, 4), v)).exp() for v in range(4)])
        yield equal("mass of the letters", mass[:3].sum(0), torch.ones(1, 4, dtype=DOUBLE))
        yield exact("mass of the mask", mass[3], torch.zeros(1, 4, dtype=DOUBLE))
        yield exact("rates to the mask", part.rates()[..., 3], torch.zeros(1, 4, dtype=DOUBLE))
        rates = 2 * mass[:3].movedim(0, -1)  # the hazard of linear κ at t = 1/2
        yield equal("rates", part.rates()[..., :3], rates)
        yield equal("intensity", part.intensity(), part.rates().sum(-1))

    def to_mask(part: MaskedJumps) -> MaskedJumps:
        logits = torch.cat([part.logits, part.logits[..., :1] - 8], -1)
        return MaskedJumps(logits, part.masked, part.schedule, part.t)

    def blunt(part: MaskedJumps, size: float) -> Any:
        other = MaskedJumps((1 - size) * part.logits, part.masked, part.schedule, part.t)
        return but(part, log_target=other.log_target)

    return Claim(
        "no-jump-to-the-mask",
        "A masked site jumps to letters alone, by its logits: the mask has probability 0.",
        make,
        check,
        (
            Control("the mask has a small probability", to_mask),
            dial("log-targets of logits × (1 − δ)", blunt),
        ),
    )
