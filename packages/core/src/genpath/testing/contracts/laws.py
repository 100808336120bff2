r"""What every law owes: draws that its seed fixes and, where it has a density, that follow it.

    ∫ p = 1                                        by quadrature, or E_q[p/q] for a proposal q
    E[Δf + ⟨∇ log p, ∇f⟩] = 0, X ~ p               Stein's identity: integration by parts
    counts ~ p                                     χ² on a finite set

Stein's identity holds on R^d where p f′ vanishes at infinity, and on a closed manifold for every
smooth p (Δ is the Laplace–Beltrami operator). Its two derivatives are taken along the space's own
steps, ∂²/∂h² f(exp_x(h e_i)) summed over a basis, so that one check serves every smooth space. It
does not see the normalisation of p, which is the other claim's, and fails for densities that jump.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.laws import DensityLaw
from genpath.spaces import SmoothSpace
from genpath.states import batch_size, gather, leaves, map_state

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, equal, exact, frequencies, mean, near
from ._leaves import flat, only, repeated, scaled, waves
from .schedules import gauss_legendre

__all__ = ["law", "line"]

Nodes = Callable[[int], tuple[Any, Tensor]]


def law(
    make: Callable[[], Any],
    *,
    space: Any = None,
    nodes: Nodes | None = None,
    proposal: Any = None,
    cells: Callable[[], Any] | None = None,
    probabilities: Callable[[], Tensor] | None = None,
    draws: int = 20_000,
) -> tuple[Claim[Any], ...]:
    """The claims that every law owes.

    Args:
        make: makes the law, in float64 where its draws are numbers.
        space: where the draws live; a smooth one brings Stein's identity.
        nodes: ``nodes(m) → (points, weights)``, a quadrature of the space's volume; `line` on R.
        proposal: in the place of ``nodes``: a law q with a density whose tails are not lighter.
        cells: all states that a draw can be, on a finite set; in a state with facts, with them.
        probabilities: of the cells; by ``log_prob`` where left out.
        draws: how many, for the random checks.

    Returns:
        Claims ``draws``; ``density`` given ``nodes`` or ``proposal``; ``stein`` for a density on a
        smooth space; ``frequencies`` given ``cells``.

    Example:
        >>> from genpath.laws import Gaussian
        >>> from genpath.spaces import Euclidean
        >>> make = lambda: Gaussian((), dtype=torch.float64)
        >>> [claim.name for claim in law(make, space=Euclidean(), nodes=line(-9.0, 9.0))]
        ['draws', 'density', 'stein']
    """
    one = make()
    dense = isinstance(one, DensityLaw)
    claims = [_draws(make, space)]
    if nodes is not None or proposal is not None:
        claims.append(_density(make, nodes, proposal, draws))
    if dense and cells is None and isinstance(space, SmoothSpace):
        claims.append(_stein(make, space, draws))
    if cells is not None:
        claims.append(_frequencies(make, cells, probabilities, draws))
    return tuple(claims)


def line(low: float, high: float, panels: int = 8) -> Nodes:
    """Gauss–Legendre nodes on [low, high], ``panels`` equal pieces, for laws on R.

    Example:
        >>> points, weights = line(0.0, 1.0)(4)
        >>> points.shape, round(float(weights.sum()), 12)
        (torch.Size([32]), 1.0)
    """

    def nodes(count: int) -> tuple[Tensor, Tensor]:
        at, weights = gauss_legendre(count)
        half = (high - low) / (2 * panels)
        centres = low + half * (2 * torch.arange(panels, dtype=torch.float64) + 1)
        points = (centres[:, None] + half * at).reshape(-1)
        return points, (half * weights).repeat(panels)

    return nodes


def _varied(one: Any) -> bool:
    """Whether draws differ from each other."""
    rows = flat(one.sample(32, torch.Generator().manual_seed(0)))
    return bool((rows != rows[:1]).any())


def _draws(make: Callable[[], Any], space: Any) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        first, again = (thing.sample(33, trial.rng("draws")) for _ in range(2))
        yield exact("the seed fixes the draws", flat(first), flat(again))
        yield exact("as many rows as asked for", batch_size(first), 33)
        state = torch.random.get_rng_state()
        thing.sample(3, trial.rng("draws"))
        kept = torch.equal(state, torch.random.get_rng_state())
        yield exact("the global random state is left alone", kept)
        empty = thing.sample(0, trial.rng("draws"))
        kinds = [[(leaf.shape[1:], leaf.dtype) for leaf in leaves(x)] for x in (first, empty)]
        yield exact("no rows in the form of some", kinds[1], kinds[0])
        if space is not None:
            yield exact("draws are in the space", bool(space.contains(first).all()))
        if hasattr(thing, "log_prob"):
            shape = tuple(thing.log_prob(first).shape)
            yield exact("one log-density per row", shape, (33,))
            shape = tuple(thing.log_prob(empty).shape)
            yield exact("none for no rows", shape, (0,))

    def hidden(thing: Any) -> Any:
        def sample(count: int, rng: torch.Generator) -> Any:
            seed = int(torch.randint(2**31, ()))
            return thing.sample(count, torch.Generator(rng.device).manual_seed(seed))

        return but(thing, sample=sample)

    def long(thing: Any) -> Any:
        return but(thing, sample=lambda count, rng: thing.sample(count + 1, rng))

    return Claim(
        "draws",
        "Draws are rows of the space, fixed by the seed of their generator and by nothing else; "
        "no rows are no error.",
        make,
        check,
        (
            Control("one row too many", long),
            *((Control("the global random state is used", hidden),) if _varied(make()) else ()),
        ),
    )


def _lifted(thing: Any, size: float) -> Any:
    return but(thing, log_prob=lambda x: thing.log_prob(x) + size)


def _density(make: Callable[[], Any], nodes: Nodes | None, proposal: Any, draws: int) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Evidence:
        if nodes is None:
            x = proposal.sample(trial.count(draws), trial.rng())
            ratio = (thing.log_prob(x) - proposal.log_prob(x)).exp()
            return mean("E_q[p/q]", ratio, 1.0)
        totals = []
        for count in (24, 32):
            x, weights = nodes(count)
            totals.append(float((weights * thing.log_prob(x).exp()).sum()))
        error = abs(totals[1] - totals[0]) + 1e-12
        return near("∫ p", totals[1], 1.0, error, "what 24 → 32 nodes still move, and rounding")

    return Claim(
        "density",
        "The density integrates to 1.",
        make,
        check,
        (dial("log p + δ", _lifted),),
        formula=r"\int p\, \mathrm{d}\mathrm{vol} = 1",
    )


def _stein(make: Callable[[], Any], space: Any, draws: int) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Evidence:
        x = thing.sample(trial.count(draws), trial.rng("draws"))
        wave = waves(flat(x), 8, trial.rng("waves"))

        def f(rows: Tensor) -> Tensor:  # the coordinates see a tilt that waves may miss
            return torch.cat([wave(rows), rows[:, :4]], 1)

        basis = space.tangent_basis(x)
        total = torch.zeros(batch_size(x), f(flat(x)).shape[1], dtype=torch.float64)
        for i in range(space.dimension):
            e = map_state(lambda b, i=i: b[i], basis)
            slope, bend, score = _along(thing, space, x, e, f)
            total = total + bend + score[:, None] * slope
        return mean("E[Δf + ⟨∇ log p, ∇f⟩]", total, 0.0)

    def tilt(thing: Any, size: float) -> Any:
        return but(thing, log_prob=lambda x: thing.log_prob(x) + size * _first(x, space))

    def stray(thing: Any, size: float) -> Any:
        def sample(count: int, rng: torch.Generator) -> Any:
            x = thing.sample(count, rng)
            v = space.project_tangent(x, _gradient(x, space))
            return space.step(x, scaled(v, size * _spread(x, space)))

        return but(thing, sample=sample)

    return Claim(
        "stein",
        "The draws follow the density: Stein's identity holds for random waves and coordinates.",
        make,
        check,
        (dial("log p + δ x₁", tilt), dial("draws pushed by δ along x₁", stray)),
        formula=r"\mathbb{E}\left[\Delta f + \langle \nabla \log p, \nabla f\rangle\right] = 0",
    )


def _along(
    thing: Any, space: Any, x: Any, e: Any, f: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """∂f, ∂²f and ∂ log p along the geodesic from x in the direction e."""
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)

    def reached(h: Tensor) -> Any:
        return space.step(x, map_state(lambda leaf: h.to(leaf.dtype) * leaf, e))

    def rate(h: Tensor) -> Tensor:
        slope: Tensor = torch.func.jvp(lambda s: f(flat(reached(s))), (h,), (one,))[1]
        return slope

    slope, bend = torch.func.jvp(rate, (zero,), (one,))[:2]
    # a density that is constant keeps its tangent through 0·h
    score = torch.func.jvp(lambda h: thing.log_prob(reached(h)) + 0 * h, (zero,), (one,))[1]
    return slope, bend, score


def _moving(x: Any, space: Any) -> Any:
    return only(x, space.log(x, x))


def _first(x: Any, space: Any) -> Tensor:
    """The first coordinate of each row, in units of nothing."""
    return flat(_moving(x, space))[:, 0]


def _gradient(x: Any, space: Any) -> Any:
    """The ambient gradient of the first coordinate."""
    ambient = map_state(torch.zeros_like, _moving(x, space))
    first = leaves(ambient)[0]
    first.reshape(first.shape[0], -1)[:, :1] = 1.0
    return ambient


def _spread(x: Any, space: Any) -> float:
    rows = flat(_moving(x, space))
    return float(rows.std(0).max()) if len(rows) > 1 else 1.0


def _frequencies(
    make: Callable[[], Any],
    cells: Callable[[], Any],
    probabilities: Callable[[], Tensor] | None,
    draws: int,
) -> Claim[Any]:
    def chances(thing: Any) -> Tensor:
        if probabilities is None or hasattr(thing, "log_prob"):
            found: Tensor = thing.log_prob(cells()).exp()
            return found
        return probabilities()

    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        law = chances(thing)
        yield equal("Σ p", law.sum(), torch.ones((), dtype=law.dtype), operations=4 * len(law))
        if probabilities is not None:
            yield equal("p of the cells", law, probabilities().to(law.dtype), operations=256)
        x = flat(thing.sample(trial.count(draws), trial.rng()))
        match = (x[:, None] == flat(cells())[None]).all(-1)
        yield exact("draws that are no cell", int((~match.any(1)).sum()), 0)
        yield frequencies("counts of the cells", match.double().sum(0), law)

    def crowd(thing: Any, size: float) -> Any:
        rare = int(chances(thing).argmin())

        def sample(count: int, rng: torch.Generator) -> Any:
            x = thing.sample(count, rng)
            cell = gather(cells(), torch.tensor([rare]))
            joined = map_state(lambda a, b: torch.cat([a.to(b.dtype), b]), cell, x)
            return map_state(lambda leaf: leaf[1:], repeated(joined, size))

        return but(thing, sample=sample)

    dense = hasattr(make(), "log_prob")
    return Claim(
        "frequencies",
        "States are drawn as often as their probabilities say, which sum to 1.",
        make,
        check,
        (
            dial("a share δ of the draws is the rarest state", crowd, 0.5),
            *((dial("log p + δ", _lifted),) if dense else ()),
        ),
        formula=r"\mathbb{P}(X = x) = p(x), \qquad \sum_x p(x) = 1",
    )
