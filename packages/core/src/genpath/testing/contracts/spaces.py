r"""What every space owes, for an instance and a way to draw its points.

On a smooth space, with P the projection onto tangents, e_i the basis at x and exp the step:

    P² = P,  ⟨Pu, v⟩ = ⟨u, Pv⟩                  ⟨e_i, e_j⟩ = δ_ij,  P e_i = e_i
    d(x, y)² = |log_x y|²,  d a distance         exp_x log_x y = y,  log_x exp_x v = v
    d/dh exp_x(hv) = v,  P d²/dh² exp_x(hv) = 0 at h = 0:  a geodesic
    E exp(i⟨ξ, b⟩) = exp(−|b|²/2) for the noise ξ and tangents b

On a finite space the neighbours of x are all points that differ from it in one site.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.spaces import FiniteSpace, Product, SmoothSpace
from genpath.states import batch_size, gather, leaves, map_state, per_row, repeat

from ..claims import Claim, Control, Trial, but, dial
from ..evidence import Evidence, at_most, equal, exact, mean
from ._leaves import between, flat, only, scaled

__all__ = ["space"]

Points = Callable[[int, torch.Generator], Any]


def space(
    make: Callable[[], Any],
    points: Points,
    *,
    radius: float = 1.0,
    rows: int = 64,
    operations: float = 4096,
    nearest: bool = True,
) -> tuple[Claim[Any], ...]:
    """The claims that every space owes: `SmoothSpace`, `FiniteSpace`, or a product of both.

    Args:
        make: makes the space.
        points: ``points(count, rng)``: rows of the space, in float64 where they are numbers; on a
            finite space they cover every letter of every site. Two of them lie at less than the
            injectivity radius from each other with probability 1.
        radius: tangents up to this length are stepped along: less than the injectivity radius.
        rows: how many points are drawn.
        operations: roundings that may add up, at the size of the points.
        nearest: whether `project` goes to the nearest point of the space in ambient coordinates;
            False where it promises less.

    Returns:
        Claims ``projection``; on a smooth space ``tangents``, ``metric``, ``exponential``,
        ``basis``, ``tangent-noise`` and, where it has one, ``transport``; on a finite space
        ``neighbours``; where nothing is smooth ``distance``.

    Example:
        >>> from genpath.spaces import Euclidean
        >>> normal = lambda n, rng: torch.randn(n, 2, generator=rng, dtype=torch.float64)
        >>> [claim.name for claim in space(lambda: Euclidean(2), normal)]
        ['projection', 'tangents', 'metric', 'exponential', 'basis', 'tangent-noise']
    """
    kit = _Kit(points, radius, rows, operations)
    one = make()
    smooth = isinstance(one, SmoothSpace) and one.dimension > 0
    finite = isinstance(one, FiniteSpace)
    if isinstance(one, Product):
        finite = any(isinstance(factor, FiniteSpace) for factor in one.factors.values())
    claims = [_projection(make, kit, smooth, nearest)]
    if smooth:
        claims += [f(make, kit) for f in (_tangents, _metric, _exponential, _basis, _noise)]
        if hasattr(one, "transport"):
            claims.append(_transport(make, kit))
    else:
        claims.append(_distance(make, kit))
    if finite:
        claims.append(_neighbours(make, kit))
    return tuple(claims)


class _Kit:
    """Points and tangents of a trial, and comparisons at their size."""

    def __init__(self, points: Points, radius: float, rows: int, operations: float) -> None:
        self.points, self.radius, self.rows, self.operations = points, radius, rows, operations

    def draw(self, trial: Trial, key: str = "points", count: int | None = None) -> Any:
        return self.points(self.rows if count is None else count, trial.rng(key))

    def ambient(self, thing: Any, x: Any, trial: Trial, key: str = "ambient") -> Any:
        """Normal numbers in the form of a tangent, not projected."""
        rng = trial.rng(key)
        like = thing.log(x, x)
        return map_state(lambda v: torch.randn(v.shape, generator=rng, dtype=v.dtype), like)

    def tangent(self, thing: Any, x: Any, trial: Trial) -> Any:
        """Tangents of lengths in (0, radius]."""
        v = thing.project_tangent(x, self.ambient(thing, x, trial, "tangent"))
        size = torch.rand(batch_size(x), generator=trial.rng("length"), dtype=torch.float64)
        length = thing.inner(x, v, v).sqrt().clamp_min(1e-12)
        factor = self.radius * (0.05 + 0.95 * size) / length
        return map_state(lambda leaf: per_row(factor.to(leaf.dtype), leaf) * leaf, v)

    def same(self, what: str, found: Any, true: Any, size: float | None = None) -> Evidence:
        if not isinstance(found, Tensor) or found.dim() != 1:
            found, true = flat(found), flat(true)
        if size is None and true.numel():
            size = max(1.0, float(true.abs().max()))
        return equal(what, found, true, operations=self.operations, scale=size)


def _projection(make: Callable[[], Any], kit: _Kit, smooth: bool, nearest: bool) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        x = kit.draw(trial)
        yield exact("points are in the space", bool(thing.contains(x).all()))
        yield kit.same("project keeps points", thing.project(x), x)
        empty = gather(x, torch.zeros(0, dtype=torch.long))
        yield exact("an empty batch stays empty", batch_size(thing.project(empty)), 0)
        if not smooth:
            return
        beside = between(x, map_state(lambda leaf: _wild(leaf, trial), x), 0.3)
        found = thing.project(beside)
        yield exact("a projected point is in the space", bool(thing.contains(found).all()))
        yield kit.same("project ∘ project = project", thing.project(found), found)
        for bad in (math.nan, math.inf):
            nowhere = map_state(lambda leaf, bad=bad: _lost(leaf, bad), x)
            yield exact(f"rows with {bad} in the space", int(thing.contains(nowhere).sum()), 0)
        if nearest:
            here = (flat(found) - flat(beside)).norm(dim=1)
            there = torch.cdist(flat(beside), flat(x)).min(1).values
            because = "project goes to the nearest point"
            yield at_most("distance to the projection", here, there, because, slack=1e-12)

    def push(thing: Any, size: float) -> Any:
        return but(thing, project=lambda x: scaled(thing.project(x), 1 + size))

    def slip(thing: Any) -> Any:
        return but(thing, project=lambda x: gather(thing.project(x), _rolled(batch_size(x))))

    fault = dial("project × (1 + δ)", push) if smooth else Control("rows are exchanged", slip)
    return Claim(
        "projection",
        "Projecting leads into the space, to its nearest point, and leaves its points where they "
        "are; a row with a NaN or an infinity is no point."
        if smooth and nearest
        else "Projecting leads into the space and leaves its points where they are.",
        make,
        check,
        (fault,),
        formula=r"\pi(x) \in M, \qquad \pi(x) = x \text{ for } x \in M",
    )


def _wild(leaf: Tensor, trial: Trial) -> Tensor:
    if not leaf.is_floating_point():
        return leaf
    return torch.randn(leaf.shape, generator=trial.rng(f"beside {leaf.shape}"), dtype=leaf.dtype)


def _lost(leaf: Tensor, bad: float) -> Tensor:
    if not leaf.is_floating_point() or leaf.numel() == 0:
        return leaf
    rows = leaf.reshape(leaf.shape[0], -1).clone()
    rows[:, -1] = bad
    return rows.reshape(leaf.shape)


def _rolled(count: int) -> Tensor:
    return torch.arange(count).roll(1)


def _tangents(make: Callable[[], Any], kit: _Kit) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        x = kit.draw(trial)
        u, v = (kit.ambient(thing, x, trial, key) for key in ("u", "v"))
        pu, pv = thing.project_tangent(x, u), thing.project_tangent(x, v)
        yield kit.same("P² = P", thing.project_tangent(x, pu), pu)
        size = 10.0 * thing.dimension
        yield kit.same("⟨Pu, v⟩ = ⟨u, Pv⟩", thing.inner(x, pu, v), thing.inner(x, u, pv), size)
        yield kit.same("⟨u, v⟩ = ⟨v, u⟩", thing.inner(x, pu, pv), thing.inner(x, pv, pu), size)
        yield at_most("−|Pu|²", -thing.inner(x, pu, pu), 0.0, "a metric is positive")

    def stretch(thing: Any, size: float) -> Any:
        return but(
            thing, project_tangent=lambda x, v: scaled(thing.project_tangent(x, v), 1 + size)
        )

    return Claim(
        "tangents",
        "The projection onto tangents is idempotent and self-adjoint for the inner product, which "
        "is symmetric and positive.",
        make,
        check,
        (dial("projection × (1 + δ)", stretch),),
        formula=r"P^2 = P, \qquad \langle Pu, v\rangle = \langle u, Pv\rangle",
    )


def _metric(make: Callable[[], Any], kit: _Kit) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        x = kit.draw(trial)
        y, z = (_moved(thing, x, kit.draw(trial, key)) for key in ("y", "z"))
        d = thing.distance(x, y)
        v = thing.log(x, y)
        size = max(1.0, float(d.max()) ** 2)
        yield kit.same("d(x, y)² = |log_x y|²", d**2, thing.inner(x, v, v), size)
        yield kit.same("d(x, y) = d(y, x)", d, thing.distance(y, x), size)
        yield kit.same("d(x, x) = 0", thing.distance(x, x), torch.zeros_like(d))
        yield kit.same("the logarithm is a tangent", thing.project_tangent(x, v), v)
        beyond = d - thing.distance(x, z) - thing.distance(z, y)
        yield at_most("d(x, y) − d(x, z) − d(z, y)", beyond, 0.0, "triangle", slack=1e-10 * size)

    return Claim(
        "metric",
        "The distance is the length of the logarithm; it is symmetric, vanishes at x and obeys "
        "the triangle inequality.",
        make,
        check,
        (
            dial("distance × (1 + δ)", _longer),
            dial("⟨u, v⟩ × (1 + δ)", _heavier),
            dial("log × (1 + δ)", _farther),
        ),
        formula=r"d(x, y)^2 = \langle \log_x y, \log_x y\rangle_x, \qquad "
        r"d(x, y) \le d(x, z) + d(z, y)",
    )


def _moved(thing: Any, x: Any, y: Any) -> Any:
    """y on the leaves that tangents move, x on the others."""
    return {**x, **only(y, thing.log(x, y))} if not isinstance(x, Tensor) else y


def _longer(thing: Any, size: float) -> Any:
    return but(thing, distance=lambda x, y: (1 + size) * thing.distance(x, y))


def _heavier(thing: Any, size: float) -> Any:
    return but(thing, inner=lambda x, u, v: (1 + size) * thing.inner(x, u, v))


def _farther(thing: Any, size: float) -> Any:
    return but(thing, log=lambda x, y: scaled(thing.log(x, y), 1 + size))


def _exponential(make: Callable[[], Any], kit: _Kit) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        x = kit.draw(trial)
        y = _moved(thing, x, kit.draw(trial, "y"))
        v = kit.tangent(thing, x, trial)
        end = thing.step(x, v)
        length = thing.inner(x, v, v).sqrt()
        yield kit.same("exp_x 0 = x", thing.step(x, scaled(v, 0.0)), x)
        yield exact("exp_x v is in the space", bool(thing.contains(end).all()))
        yield kit.same("log_x exp_x v = v", thing.log(x, end), v)
        yield kit.same("exp_x log_x y = y", thing.step(x, thing.log(x, y)), y)
        yield kit.same("d(x, exp_x v) = |v|", thing.distance(x, end), length)
        first, second = _derivatives(thing, x, v)
        yield kit.same("d/dh exp_x(hv) = v", only(first, v), v)
        bend = thing.project_tangent(x, only(second, v))
        yield kit.same("the second derivative has no tangent part", bend, scaled(bend, 0.0), 10.0)

    def overshoot(thing: Any, size: float) -> Any:
        return but(thing, step=lambda x, v: thing.step(x, scaled(v, 1 + size)))

    def back(thing: Any) -> Any:
        return but(thing, step=lambda x, v: thing.step(x, scaled(v, -1.0)))

    return Claim(
        "exponential",
        "A step follows the geodesic: it starts at x with velocity v and no acceleration along "
        "tangents, goes as far as v is long, and the logarithm undoes it.",
        make,
        check,
        (
            dial("step along (1 + δ) v", overshoot),
            Control("step along −v", back),
            dial("log × (1 + δ)", _farther),
        ),
        formula=r"\exp_x(\log_x y) = y, \qquad \tfrac{d}{dh}\exp_x(hv)\big|_0 = v, \qquad "
        r"P\,\tfrac{d^2}{dh^2}\exp_x(hv)\big|_0 = 0",
    )


def _derivatives(thing: Any, x: Any, v: Any) -> tuple[Any, Any]:
    """d/dh and d²/dh² of step(x, h v) at h = 0, on the leaves that v moves."""
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)

    def path(h: Tensor) -> Any:
        moved = thing.step(x, map_state(lambda leaf: h.to(leaf.dtype) * leaf, v))
        return only(moved, v)

    def rate(h: Tensor) -> Any:
        return torch.func.jvp(path, (h,), (one,))[1]

    first, second = torch.func.jvp(rate, (zero,), (one,))[:2]
    return first, second


def _basis(make: Callable[[], Any], kit: _Kit) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        x = kit.draw(trial, count=8)
        basis = thing.tangent_basis(x)
        count, rows = leaves(basis)[0].shape[:2]
        yield exact("as many vectors as dimensions", (count, rows), (thing.dimension, 8))
        every = repeat(x, count * count)
        left = map_state(lambda b: b.repeat_interleave(count, 0).flatten(0, 1), basis)
        right = map_state(lambda b: b.repeat(count, *[1] * (b.dim() - 1)).flatten(0, 1), basis)
        gram = thing.inner(every, left, right).reshape(count, count, rows)
        eye = torch.eye(count, dtype=gram.dtype).unsqueeze(-1).expand_as(gram)
        yield equal("⟨e_i, e_j⟩ = δ_ij", gram, eye, operations=kit.operations)
        flattened = map_state(lambda b: b.flatten(0, 1), basis)
        projected = thing.project_tangent(repeat(x, count), flattened)
        yield kit.same("P e_i = e_i", projected, flattened)

    def stretch(thing: Any, size: float) -> Any:
        def basis(x: Any) -> Any:
            found = thing.tangent_basis(x)
            return map_state(lambda b: torch.cat([(1 + size) * b[:1], b[1:]]), found)

        return but(thing, tangent_basis=basis)

    def short(thing: Any) -> Any:
        return but(
            thing, tangent_basis=lambda x: map_state(lambda b: b[1:], thing.tangent_basis(x))
        )

    return Claim(
        "basis",
        "The basis at x has as many vectors as the space has dimensions; they are tangent and "
        "orthonormal.",
        make,
        check,
        (dial("the first vector × (1 + δ)", stretch), Control("a vector is missing", short)),
        formula=r"\langle e_i, e_j\rangle_x = \delta_{ij}, \quad i, j = 1, \dots, \dim M",
    )


def _noise(make: Callable[[], Any], kit: _Kit) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        n = trial.count(20_000, 5_000)
        few = kit.draw(trial, count=2)
        x = gather(few, torch.arange(n) % 2)
        noise = thing.tangent_noise(x, trial.rng("noise"))
        again = thing.tangent_noise(x, trial.rng("noise"))
        yield exact("the seed fixes the noise", flat(noise), flat(again))
        yield kit.same("the noise is tangent", thing.project_tangent(x, noise), noise)
        basis = thing.tangent_basis(few)
        parts = []
        for i in range(thing.dimension):
            e = map_state(lambda b, i=i: b[i][torch.arange(n) % 2], basis)
            parts.append(thing.inner(x, only(noise, e), e))
        yield _normal(torch.stack(parts, 1))

    def louder(thing: Any, size: float) -> Any:
        return but(
            thing, tangent_noise=lambda x, rng: scaled(thing.tangent_noise(x, rng), 1 + size)
        )

    def uneven(thing: Any) -> Any:
        def noise(x: Any, rng: torch.Generator) -> Any:
            drawn = thing.tangent_noise(x, rng)
            e = map_state(lambda b: b[0], thing.tangent_basis(x))
            part = -0.5 * thing.inner(x, drawn, e)
            return map_state(lambda a, b: a + per_row(part.to(a.dtype), b) * b, drawn, e)

        return but(thing, tangent_noise=noise)

    return Claim(
        "tangent-noise",
        "The noise is tangent and standard normal: its characteristic function is that of N(0, I) "
        "in an orthonormal basis.",
        make,
        check,
        (dial("noise × (1 + δ)", louder, 0.5), Control("one direction is halved", uneven)),
        formula=r"\mathbb{E}\, e^{i\langle \xi, b\rangle} = e^{-|b|^2/2}",
    )


def _normal(c: Tensor) -> Evidence:
    """The characteristic function of N(0, I) at e_i, 2e_i, e_i + e_j and e_i − e_j."""
    i, j = torch.triu_indices(c.shape[1], c.shape[1], 1)
    at = torch.cat([c, 2 * c, c[:, i] + c[:, j], c[:, i] - c[:, j]], 1)
    sizes = (c.shape[1], c.shape[1], 2 * len(i))
    square = torch.tensor([1.0, 4.0, 2.0]).repeat_interleave(torch.tensor(sizes))
    true = torch.cat([torch.exp(-0.5 * square.double()), torch.zeros(at.shape[1])])
    return mean("E cos(b·ξ), E sin(b·ξ)", torch.cat([at.cos(), at.sin()], 1), true)


def _transport(make: Callable[[], Any], kit: _Kit) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        x, y = kit.draw(trial), kit.draw(trial, "y")
        u, v = (thing.project_tangent(x, kit.ambient(thing, x, trial, key)) for key in ("u", "v"))
        tu, tv = thing.transport(x, y, u), thing.transport(x, y, v)
        size = 10.0 * thing.dimension
        yield kit.same("⟨Tu, Tv⟩ = ⟨u, v⟩", thing.inner(y, tu, tv), thing.inner(x, u, v), size)
        yield kit.same("Tu is tangent at y", thing.project_tangent(y, tu), tu)
        ahead = thing.transport(x, y, thing.log(x, y))
        yield kit.same("T log_x y = −log_y x", ahead, scaled(thing.log(y, x), -1.0))

    def stretch(thing: Any, size: float) -> Any:
        return but(thing, transport=lambda x, y, v: scaled(thing.transport(x, y, v), 1 + size))

    def turn(thing: Any) -> Any:
        return but(thing, transport=lambda x, y, v: scaled(thing.transport(x, y, v), -1.0))

    return Claim(
        "transport",
        "Parallel transport is an isometry of tangent spaces, and carries the velocity of a "
        "geodesic along it.",
        make,
        check,
        (dial("transport × (1 + δ)", stretch), Control("the sign", turn)),
        formula=r"\langle Tu, Tv\rangle_y = \langle u, v\rangle_x, \qquad "
        r"T \log_x y = -\log_y x",
    )


def _distance(make: Callable[[], Any], kit: _Kit) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        x, y, z = (kit.draw(trial, key) for key in ("points", "y", "z"))
        d = thing.distance(x, y)
        same = (flat(x) == flat(y)).all(1)
        yield exact("d(x, y) = 0 where x = y only", bool(((d == 0) == same).all()))
        yield exact("d(x, x) = 0", thing.distance(x, x), torch.zeros_like(d))
        yield exact("d(x, y) = d(y, x)", d, thing.distance(y, x))
        beyond = d - thing.distance(x, z) - thing.distance(z, y)
        yield at_most("d(x, y) − d(x, z) − d(z, y)", beyond, 0.0, "triangle", slack=1e-5)

    return Claim(
        "distance",
        "The distance is symmetric, vanishes where the points are equal and only there, and obeys "
        "the triangle inequality.",
        make,
        check,
        (dial("distance + δ", lambda s, d: but(s, distance=lambda x, y: s.distance(x, y) + d)),),
        formula=r"d(x, y) \le d(x, z) + d(z, y)",
    )


def _neighbours(make: Callable[[], Any], kit: _Kit) -> Claim[Any]:
    def check(thing: Any, trial: Trial) -> Iterator[Evidence]:
        x, y = kit.draw(trial), kit.draw(trial, "y")
        found = thing.neighbours(x)
        count, rows = leaves(found)[0].shape[:2]
        states = map_state(lambda leaf: leaf.flatten(0, 1), found)
        yield exact("neighbours are in the space", bool(thing.contains(states).all()))
        nearby, here = flat(states).reshape(count, rows, -1), flat(x)
        differ = (nearby != here).sum(-1)
        yield exact("a neighbour differs in one site", differ, torch.ones_like(differ))
        twins = (nearby[:, None] == nearby[None]).all(-1).sum((0, 1))
        yield exact("no neighbour twice", twins, torch.full_like(twins, count))
        back = flat(thing.neighbours(states), 2).reshape(-1, count, rows, here.shape[1])
        mutual = (back == here).all(-1).any(0)
        yield exact("x is a neighbour of its neighbours", bool(mutual.all()))
        yield _complete(thing, x, y, nearby)

    def doubled(thing: Any) -> Any:
        def neighbours(x: Any) -> Any:
            return map_state(lambda f: torch.cat([f[1:2], f[1:]]), thing.neighbours(x))

        return but(thing, neighbours=neighbours)

    def left_out(thing: Any) -> Any:
        return but(thing, neighbours=lambda x: map_state(lambda f: f[1:], thing.neighbours(x)))

    def self_too(thing: Any) -> Any:
        def neighbours(x: Any) -> Any:
            return map_state(lambda f, a: torch.cat([a[None], f]), thing.neighbours(x), x)

        return but(thing, neighbours=neighbours)

    return Claim(
        "neighbours",
        "The neighbours of x are the points that differ from it in one site, each once; being "
        "neighbours is mutual.",
        make,
        check,
        (
            Control("a neighbour is left out", left_out),
            Control("x itself is among them", self_too),
            Control("one twice and one never", doubled),
        ),
        formula=r"y \in N(x) \iff |\{i : y_i \ne x_i\}| = 1",
    )


def _complete(thing: Any, x: Any, y: Any, nearby: Tensor) -> Evidence:
    """x with one site of y is among the neighbours of x, wherever it is another point."""
    absent = 0
    finite = getattr(thing, "factors", None)
    for name in [None] if isinstance(x, Tensor) else list(x):
        if name is not None and not isinstance(finite.get(name) if finite else None, FiniteSpace):
            continue
        mine, other = (x, y) if name is None else (x[name], y[name])
        rows, sites = mine.shape[0], mine.reshape(mine.shape[0], -1).shape[1]
        for site in range(sites):
            moved = mine.reshape(rows, -1).clone()
            moved[:, site] = other.reshape(rows, -1)[:, site]
            leaf = moved.reshape(mine.shape)
            state = leaf if name is None else {**x, name: leaf}
            apart = (leaf != mine).reshape(rows, -1).any(1) & thing.contains(state)
            present = (nearby == flat(state)).all(-1).any(0)
            absent += int((apart & ~present).sum())
    return exact("changes of one site that are missing", absent, 0)
