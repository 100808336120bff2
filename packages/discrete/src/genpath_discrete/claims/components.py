"""Claims of the space, the laws and the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

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
)

from ..laws import Masked, Table, UniformLetters
from ..networks import Transformer, _rotate
from ..spaces import Categorical
from .cases import DOUBLE, random_table, states_of

__all__ = [
    "categorical",
    "masked_law",
    "tables",
    "transformers",
    "uniform_law",
]

HIDDEN = Categorical(2, (2,), mask=True)


# -- space and laws --------------------------------------------------------------------------------


def categorical() -> tuple[Claim[Any], ...]:
    """Claims of ``space.discrete.categorical``: letters on a grid, and with a mask."""

    def points(size: int, shape: tuple[int, ...]) -> Any:
        return lambda count, rng: torch.randint(size, (count, *shape), generator=rng)

    plain = contracts.space(lambda: Categorical(3, (2, 2)), points(3, (2, 2)))
    masked = contracts.space(lambda: Categorical(2, (3,), mask=True), points(3, (3,)))
    return (*plain, *contracts.named("masked", masked))


def masked_law() -> tuple[Claim[Any], ...]:
    """Claims of ``law.discrete.masked``."""
    return contracts.law(
        lambda: Masked(HIDDEN),
        space=HIDDEN,
        cells=lambda: states_of(HIDDEN),
        probabilities=lambda: torch.eye(9, dtype=DOUBLE)[8],
    )


def uniform_law() -> tuple[Claim[Any], ...]:
    """Claims of ``law.discrete.uniform``: real letters, each as often, and never the mask."""

    def chances() -> Tensor:
        real = (states_of(HIDDEN) < 2).all(1)
        return torch.where(real, 0.25, 0.0)

    return contracts.law(
        lambda: UniformLetters(HIDDEN),
        space=HIDDEN,
        cells=lambda: states_of(HIDDEN),
        probabilities=chances,
    )


def _law() -> Table:
    return random_table(3, 3, torch.Generator().manual_seed(1))


def tables() -> tuple[Claim[Any], ...]:
    """Claims of ``discrete.table``: a law as a table, and what it says of masked sites."""
    whole = contracts.law(
        _law,
        space=_law().space,
        cells=lambda: _law().states(),
        probabilities=lambda: _law().probabilities.flatten(),
    )
    return (*whole, conditionals())


def conditionals() -> Claim[Table]:
    """Conditional laws by slicing the array."""

    def check(law: Table, trial: Trial) -> Iterator[Evidence]:
        p = _law().probabilities
        every = states_of(law.space.with_mask())
        found = law.logits(every).exp()
        expected, shown = torch.zeros_like(found), torch.zeros(len(every), dtype=DOUBLE)
        for row, state in enumerate(every.tolist()):
            for site in range(3):
                rest = p  # axes of the unmasked other sites are sliced, of masked ones summed
                for axis in (2, 1, 0):
                    if axis != site:
                        hidden = state[axis] == 3
                        rest = rest.sum(axis) if hidden else rest.select(axis, state[axis])
                expected[row, site] = rest / rest.sum()
            here = [v if v < 3 else slice(None) for v in state]
            shown[row] = p[tuple(here)].sum()
        yield equal("p(letter | the other letters)", found, expected)
        yield equal("p(the letters that are not masked)", law.log_prob(every).exp(), shown)

    def tilted(law: Table, size: float) -> Table:
        p = law.probabilities ** (1 - size)
        return Table(p / p.sum())

    return Claim(
        "conditionals",
        "For every pattern of masks, the logits are those of each site's letter given the other "
        "letters, and the log-probability is that of the letters that are not masked.",
        _law,
        check,
        (dial("p^(1 − δ), normalised", tilted),),
        formula=r"p(x^i = v \mid x^{-i}_{\text{unmasked}}) = "
        r"\frac{p(v, x^{-i}_{\text{unmasked}})}{p(x^{-i}_{\text{unmasked}})}",
    )


# -- network ---------------------------------------------------------------------------------------


def transformers() -> tuple[Claim[Any], ...]:
    """Claims of ``network.discrete.transformer``."""
    space = Categorical(4, (6,), mask=True)

    def states(count: int, rng: torch.Generator) -> Tensor:
        return torch.randint(5, (count, 6), generator=rng)

    plain = contracts.network(lambda: Transformer(space, 16, 2, 2), states, (6, 4), timeless=True)
    options: dict[str, Any] = {"positions": "learned", "window": 3, "time": True}
    told = contracts.network(lambda: Transformer(space, 16, 1, 2, **options), states, (6, 4))
    return (*plain, *contracts.named("timed", told), both_ways(), relative())


def both_ways() -> Claim[Any]:
    """Every site sees every other, in order, and time only where it is told."""

    def make() -> tuple[Transformer, ...]:
        space, found = Categorical(4, (6,), mask=True), []
        state = torch.get_rng_state()
        for positions, window in (("rotary", 0), ("learned", 3)):
            torch.manual_seed(0)
            found.append(Transformer(space, 16, 2, 2, positions=positions, window=window))
        torch.set_rng_state(state)
        return tuple(found)

    def check(networks: Any, trial: Trial) -> Iterator[Evidence]:
        x, zero = torch.randint(5, (3, 6), generator=trial.rng()), torch.zeros(3)
        for number, network in enumerate(networks):
            with torch.no_grad():
                out = network(zero, x)
                yield exact(f"network {number}: time is ignored", network(zero + 1, x), out)
                seen = torch.zeros(6, 6)
                for site in range(6):
                    other = x.clone()
                    other[:, site] = (other[:, site] + 1) % 5
                    seen[site] = (network(zero, other) != out).any(-1).any(0)
                yield exact(f"network {number}: sites that see each other", seen, torch.ones(6, 6))
                turned = network(zero, x.flip(1)).flip(1)
                yield exact(f"network {number}: order matters", bool((turned != out).any()))

    def causal(networks: Any) -> Any:
        def plant(network: Any) -> Any:
            def forward(t: Tensor, x: Tensor) -> Tensor:
                rows = [
                    network(t, torch.cat([x[:, : i + 1], torch.zeros_like(x[:, i + 1 :])], 1))[:, i]
                    for i in range(x.shape[1])
                ]
                return torch.stack(rows, 1)

            return but(network, forward=forward)

        return tuple(plant(network) for network in networks)

    def clocked(networks: Any, size: float) -> Any:
        def plant(network: Any) -> Any:
            return but(network, forward=lambda t, x: network(t, x) + size * t[:, None, None])

        return tuple(plant(network) for network in networks)

    return Claim(
        "both-ways",
        "Every site's logits depend on the letters of all sites and on their order, and not on "
        "time unless the network is told.",
        make,
        check,
        (
            dial("δ t is added to the logits", clocked),
            Control("sites see earlier ones only", causal),
        ),
    )


def relative() -> Claim[Any]:
    """Rotary scores depend on distances alone."""
    turns = 1e4 ** (-torch.arange(4, dtype=DOUBLE) / 4)

    def check(rotate: Any, trial: Trial) -> Iterator[Evidence]:
        q, k = torch.randn(2, 1, 1, 1, 8, generator=trial.rng(), dtype=DOUBLE)
        place = torch.arange(10, dtype=DOUBLE).unsqueeze(1) * turns
        turned = [rotate(v.expand(1, 10, 1, 8), place) for v in (q, k)]
        score = torch.einsum("bihc,bjhc->ij", *turned)
        size = float(score.abs().max())
        yield equal("scores, both sites moved by one", score[1:, 1:], score[:-1, :-1], scale=size)
        yield equal("lengths", turned[0].norm(dim=-1), q.norm().expand(1, 10, 1), scale=size)

    def uneven(rotate: Any, size: float) -> Any:
        return lambda v, place: rotate(v, place * (1 + size * place))

    return Claim(
        "relative-positions",
        "Rotary attention scores depend on the distance of two sites alone, and turning keeps "
        "lengths.",
        lambda: _rotate,
        check,
        (dial("angles θ(1 + δθ)", uneven),),
        formula=r"\langle R_i q, R_j k\rangle = \langle q, R_{j-i} k\rangle",
    )
