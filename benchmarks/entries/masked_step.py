"""One reverse step of masked diffusion, from logits to the next state.

Ours is `Euler.step` on the jump generator of `MaskedPath`. The peer is the ancestral step written
out in torch as Sahoo et al. 2024 (arXiv 2406.07524, section 3) give it. With the chance 1 − κ(t) of
being masked at t, a masked site moves to

    letter v   with probability   (κ(t′) − κ(t)) / (1 − κ(t)) · softmax(logits)_v
    the mask   with probability   (1 − κ(t′)) / (1 − κ(t))

and an unmasked one stays. As there, the whole tensor has a column for the mask, with logit −∞, and
every site is drawn by Gumbel's maximum in the logits' precision; what was not masked is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genpath import Euler, Jump
from genpath.samplers import Carry
from genpath_discrete import Categorical, MaskedPath

from ..runner import Case, Disagreement, Entry

__all__ = ["ENTRY"]

Step = Callable[[], Tensor]


def ours(logits: Tensor, x: Tensor, t: float, t_next: float, rng: torch.Generator) -> Step:
    """Our step; the logits have one column per letter."""
    path = MaskedPath(Categorical(logits.shape[-1], tuple(x.shape[1:])))
    gen, sampler, carry = Jump().generator(path, "logits", lambda t, x: logits), Euler(), Carry(x)

    def step() -> Tensor:
        found: Tensor = sampler.step(gen, carry, t, t_next, rng).state
        return found

    return step


def transcription(logits: Tensor, x: Tensor, t: float, t_next: float, rng: torch.Generator) -> Step:
    """The published step, for κ(t) = t; the mask's column, −∞, is there before the step begins."""
    mask = logits.shape[-1]
    wide = torch.cat([logits, torch.full_like(logits[..., :1], -torch.inf)], -1)
    masked_now, masked_next = 1 - t, 1 - t_next

    def step() -> Tensor:
        weights = wide.softmax(-1) * (masked_now - masked_next)
        weights[..., mask] = masked_next
        race = -torch.rand(weights.shape, generator=rng).log()  # twice as fast as exponential_()
        drawn = (weights / race).argmax(-1)
        return torch.where(x == mask, drawn, x)

    return step


MAKERS = {"ours": ours, "transcription": transcription}


def check_law(make: Callable[..., Step], name: str, sites: int = 20_000) -> None:
    """Frequencies of one step at many sites with equal logits, against the formula above.

    Raises:
        Disagreement: a frequency is over 5 standard errors off, or an unmasked site moved.
    """
    rng, letters, t, t_next = torch.Generator().manual_seed(0), 4, 0.3, 0.65
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    x = torch.full((2, sites), letters)
    x[1] = torch.arange(sites) % letters
    found = make(logits.expand(2, sites, letters), x, t, t_next, rng)()
    if not torch.equal(found[1], x[1]):
        raise Disagreement(f"{name}: an unmasked site moved")
    moves = (t_next - t) / (1 - t)
    chances = torch.cat([moves * logits.softmax(0), torch.tensor([1 - moves])]).double()
    frequencies = torch.bincount(found[0], minlength=letters + 1) / sites
    z = (frequencies - chances) / (chances * (1 - chances) / sites).sqrt()
    if float(z.abs().max()) > 5:
        raise Disagreement(f"{name}: a frequency is {float(z.abs().max()):.1f} standard errors off")


def case(shape: tuple[int, int, int], number: int, of: int) -> Case:
    """Step ``number`` of ``of`` equal ones, from a state that the path draws there."""
    rng, (batch, length, letters) = torch.Generator().manual_seed(0), shape
    t, t_next = number / of, (number + 1) / of
    path = MaskedPath(Categorical(letters, (length,)))
    logits = torch.randn(shape, generator=rng)
    x1 = torch.randint(letters, (batch, length), generator=rng)
    x = path.draw(torch.full((batch,), t), None, x1, rng).state
    steps = {name: make(logits, x, t, t_next, rng) for name, make in MAKERS.items()}
    peers = {name: step for name, step in steps.items() if name != "ours"}
    label = f"{'×'.join(map(str, shape))}, step {number + 1} of {of}"

    def check() -> None:
        for name, make in MAKERS.items():
            check_law(make, name)
            if number + 1 == of and bool((steps[name]() == letters).any()):
                raise Disagreement(f"{label}: {name} leaves a mask behind")

    return Case(label, steps["ours"], peers, check)


def cases(tiny: bool) -> Iterator[Case]:
    for shape in [(2, 3, 5)] if tiny else [(64, 256, 256), (1, 1024, 32_000)]:
        for number, of in ((0, 64), (32, 64), (63, 64), (0, 1)):
            yield case(shape, number, of)


ENTRY = Entry(
    cases,
    memory=True,
    notes=(
        "Shapes are batch × sites × letters; logits are given, in float32; κ(t) = t. All sites are "
        "masked before the first step, half of them before step 33, one in 64 before the last.",
        "One of 64 steps reveals one site in 64, and ours reads the logits of those sites only; "
        "step 1 of 1 reveals every site.",
        "Ours draws letters from float64 sums, so that a letter of probability 1e-8 keeps it; the "
        "transcription draws in float32, as published.",
    ),
)
