r"""The sphere: what every space owes, its worked example, its accuracy, and divergences on it.

    |det d exp_x(v)| = (sin r / r)^{n−1}, r = |v|
    div v = 1/sin θ [∂_θ(sin θ v_θ) + ∂_φ v_φ]

(semester II, R.1 and R.12; Y17 for the projector I − xxᵀ, which is one only on the sphere itself.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.divergences import exact_divergence, hutchinson_divergence
from genpath.testing import Claim, Control, Evidence, Trial, but, contracts, dial, equal, near
from genpath.testing.contracts import named

from ..spaces import Sphere
from .cases import DOUBLE, S2, points, row, tangents

__all__ = ["sphere"]

LEDGER = "the ledger prints nine decimals"
PRINTED = 6e-10


def sphere() -> tuple[Claim[Any], ...]:
    """The claims of ``space.manifold.sphere``."""
    return (
        *contracts.space(lambda: Sphere(2), points(2)),
        *named("circle", contracts.space(lambda: Sphere(1), points(1), rows=32)),
        *named("five", contracts.space(lambda: Sphere(5), points(5), rows=32)),
        example(),
        volume(),
        accuracy(),
        antipode(),
        divergence(),
        probe(),
    )


def longer(space: Sphere, size: float) -> Sphere:
    """Logarithms that are (1 + δ) times too long."""
    return but(space, log=lambda x, y: (1 + size) * space.log(x, y))


def farther(space: Sphere, size: float) -> Sphere:
    """Steps along (1 + δ) v."""
    return but(space, step=lambda x, v: space.step(x, (1 + size) * v))


def twisted(space: Sphere) -> Sphere:
    """Transport of the wrong sign of its correction: ⟨y, v⟩ x for the half of (x + y)."""
    return but(
        space,
        transport=lambda x, y, v: v - 2 * (y * v).sum(-1, keepdim=True) * x / (1 + (x * y).sum()),
    )


def example() -> Claim[Sphere]:
    """Numbers worked out by hand."""

    def check(space: Sphere, trial: Trial) -> Iterator[Evidence]:
        x, y = row(1.0, 2.0, 2.0) / 3, row(2.0, -1.0, 2.0) / 3
        v = space.log(x, y)

        def printed(what: str, found: Tensor, *true: float) -> Evidence:
            return near(what, found, row(*true).reshape(found.shape), PRINTED, LEDGER)

        yield printed("d(x, y)", space.distance(x, y), 1.110242335)
        yield printed("log_x y", v, 0.642640196, -0.780348809, 0.459028711)
        yield printed("exp_x(0.4 log_x y)", space.step(x, 0.4 * v), 0.549689163, 0.300019261,
                      0.779634701)  # fmt: skip
        tangent = space.project_tangent(x, row(2.0, -2.0, 1.0))
        moved = space.transport(x, y, tangent)
        yield printed("transport", moved, 0.153846154, -2.615384615, -1.461538462)
        yield equal("T log_x y = −log_y x", space.transport(x, y, v), -space.log(y, x))

    return Claim(
        "worked-example",
        "From x = (1, 2, 2)/3 to y = (2, −1, 2)/3 the distance, the logarithm, the point at 0.4 of "
        "the way and the transport of a tangent are the numbers found by hand.",
        lambda: Sphere(2),
        check,
        (
            dial("log × (1 + δ)", longer),
            dial("step along (1 + δ) v", farther),
            Control("transport along x instead of x + y", twisted),
        ),
        formula=r"d = 1.110242335, \quad \log_x y = (0.642640196, -0.780348809, 0.459028711)",
        entries=("R.1", "R-F1"),
    )


def volume() -> Claim[Sphere]:
    """The determinant of the derivative of the step."""

    def check(space: Sphere, trial: Trial) -> Iterator[Evidence]:
        n, rng = space.dimension, trial.rng()
        x = points(n)(24, rng)
        length = torch.linspace(0.05, 3.1, 24, dtype=DOUBLE)
        v = length[:, None] * tangents(space, x, 1.0, rng)
        basis = space.tangent_basis(x)
        slopes = [torch.func.jvp(lambda u: space.step(x, u), (v,), (e,))[1] for e in basis]
        end = space.tangent_basis(space.step(x, v))
        matrix = torch.stack([torch.stack([(s * e).sum(-1) for s in slopes], -1) for e in end], 1)
        theorem = (length.sin() / length) ** (n - 1)
        yield equal("|det d exp_x(v)|", torch.linalg.det(matrix).abs(), theorem, operations=1e3)
        area = {2: 4 * math.pi, 4: 8 * math.pi**2 / 3}[n]
        found = torch.tensor(math.exp(space.log_volume), dtype=DOUBLE)
        yield equal("the area of the sphere", found, torch.tensor(area, dtype=DOUBLE))
        shells = (length[1:] - length[:-1]).sum()
        yield near("the lengths cover the ball", shells, 3.05, 1e-12, "a telescoping sum")

    def larger(space: Sphere, size: float) -> Sphere:
        return but(space, log_volume=space.log_volume + math.log1p(size))

    return Claim(
        "volume",
        "A step maps the area of tangents to that of the sphere by (sin r / r)^(n−1), and the "
        "total area is that of S^n.",
        lambda: Sphere(4),
        check,
        (dial("step along (1 + δ) v", farther, 0.5), dial("area × (1 + δ)", larger)),
        formula=r"|\det d\exp_x(v)| = \left(\frac{\sin r}{r}\right)^{n-1}",
    )


def accuracy() -> Claim[tuple[Sphere, ...]]:
    """Digits at all distances, in both precisions."""

    def check(spaces: tuple[Sphere, ...], trial: Trial) -> Iterator[Evidence]:
        for dtype, bound in ((torch.float32, 2e-6), (DOUBLE, 1e-14)):
            name = str(dtype)[6:]
            because = f"{bound / torch.finfo(dtype).eps:.0f} roundings of numbers of size 1"
            for space in spaces:
                x = points(space.dimension, dtype)(200, trial.rng(name))
                for angle in (1e-6, 1e-3, 0.14, 0.15, 1.6, 3.0, math.pi - 1e-3, math.pi - 2e-6):
                    v = tangents(space, x, angle, trial.rng("v"))
                    y = space.step(x, v)
                    where = f"on S^{space.dimension} at {angle:.6g} in {name}"
                    gap = space.distance(x, y).double() - angle
                    yield near(f"distance {where}", gap, 0.0, bound, because)
                    back = space.step(x, space.log(x, y)) - y
                    yield near(f"exp(log) {where}", back, 0.0, bound, because)
                    if angle <= 3.0:
                        yield near(f"log(exp) {where}", space.log(x, y) - v, 0.0, bound, because)

    def each(plant: Callable[..., Sphere]) -> Callable[..., tuple[Sphere, ...]]:
        return lambda spaces, *size: tuple(plant(space, *size) for space in spaces)

    def arccos(space: Sphere) -> Sphere:
        return but(space, distance=lambda x, y: (x * y).sum(-1).clamp(-1, 1).arccos())

    def tight(space: Sphere) -> Sphere:
        def log(x: Tensor, y: Tensor) -> Tensor:
            c = (x * y).sum(-1, keepdim=True).clamp(-1, 1)
            return c.arccos() / (1 - c * c).sqrt().clamp_min(1e-30) * (y - c * x)

        return but(space, log=log)

    return Claim(
        "accuracy",
        "Distance, step and logarithm keep all digits at every distance, near 0 and near π too, "
        "in float32 and in float64.",
        lambda: (Sphere(1), Sphere(2), Sphere(5)),
        check,
        (
            dial("step along (1 + δ) v", each(farther)),
            Control("the distance by arccos", each(arccos)),
            Control("the logarithm by arccos", each(tight)),
        ),
        formula=r"\theta = 2\operatorname{atan2}(|x-y|, |x+y|)",
    )


def antipode() -> Claim[Sphere]:
    """What happens at the cut locus."""

    def check(space: Sphere, trial: Trial) -> Iterator[Evidence]:
        x = points(space.dimension)(40, trial.rng())
        v = space.log(x, -x)
        yield equal("|log_x(−x)| = π", v.norm(dim=-1), torch.full((40,), math.pi, dtype=DOUBLE))
        yield equal("exp_x log_x(−x) = −x", space.step(x, v), -x)
        u = space.tangent_noise(x, trial.rng("u"))
        moved = space.transport(x, -x, u)
        lengths = space.inner(-x, moved, moved), space.inner(x, u, u)
        yield equal("|Tu|² = |u|²", *lengths, scale=30.0)
        yield equal("back along the geodesic", space.step(-x, -space.transport(x, -x, v)), x)
        for name, end in (("x = y", x), ("y = −x", -x)):
            for f in (space.distance, space.log):
                z = end.clone().requires_grad_()
                value = f(x, z)
                (slope,) = torch.autograd.grad(value.sum(), z)
                finite = bool(value.isfinite().all() and slope.isfinite().all())
                yield equal(f"share of finite values and slopes, {name}", float(finite), 1.0)

    def naive(space: Sphere) -> Sphere:
        def log(x: Tensor, y: Tensor) -> Tensor:
            part = y - (x * y).sum(-1, keepdim=True) * x
            found: Tensor = space.distance(x, y)[:, None] * part / part.norm(dim=-1, keepdim=True)
            return found

        return but(space, log=log)

    def halved(space: Sphere, size: float) -> Sphere:
        return but(space, log=lambda x, y: (1 - size) * space.log(x, y))

    return Claim(
        "cut-locus",
        "At the antipode, and where points coincide, logarithm, distance and transport are finite "
        "with finite derivatives; the logarithm there is one of the shortest tangents.",
        lambda: Sphere(3),
        check,
        (
            dial("log × (1 − δ)", halved, 0.5),
            Control("the direction (y − ⟨x, y⟩x)/|…|, which is 0/0", naive),
        ),
        formula=r"|\log_x(-x)| = \pi, \qquad \exp_x \log_x(-x) = -x",
    )


# -- divergences -----------------------------------------------------------------------------


def field(t: Any, x: Any) -> Tensor:
    """P(sin x₂, x₁x₃, x₁² + 1) with the projector of the point x itself."""
    a, b, c = x.unbind(-1)
    raw = torch.stack([b.sin(), a * c, a**2 + 1], -1)
    return S2.project_tangent(x, raw)


def spherical(x: Tensor) -> Tensor:
    """1/sin θ [∂_θ(sin θ v_θ) + ∂_φ v_φ], by automatic differentiation in the two angles."""
    theta, phi = torch.atan2(torch.hypot(x[:, 0], x[:, 1]), x[:, 2]), torch.atan2(x[:, 1], x[:, 0])

    def parts(theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
        s, c, sp, cp = theta.sin(), theta.cos(), phi.sin(), phi.cos()
        v = field(None, torch.stack([s * cp, s * sp, c], -1))
        e_theta = torch.stack([c * cp, c * sp, -s], -1)
        e_phi = torch.stack([-sp, cp, 0 * s], -1)
        return s * (v * e_theta).sum(-1), (v * e_phi).sum(-1)

    one, zero = torch.ones_like(theta), torch.zeros_like(theta)
    first: Tensor = torch.func.jvp(parts, (theta, phi), (one, zero))[1][0]
    second: Tensor = torch.func.jvp(parts, (theta, phi), (zero, one))[1][1]
    return (first + second) / theta.sin()


def stretched(space: Sphere, size: float) -> Sphere:
    """The first vector of the basis is (1 + δ) times too long."""

    def basis(x: Tensor) -> Tensor:
        found = space.tangent_basis(x)
        return torch.cat([(1 + size) * found[:1], found[1:]])

    return but(space, tangent_basis=basis)


def away_from_poles(trial: Trial, count: int) -> Tensor:
    """Points where longitudes are good coordinates."""
    x = points(2)(2 * count, trial.rng("points"))
    return x[x[:, 2].abs() < 0.98][:count]


def divergence() -> Claim[Sphere]:
    """The exact divergence, and the ambient trace."""

    def check(space: Sphere, trial: Trial) -> Iterator[Evidence]:
        x = away_from_poles(trial, 100)
        t = torch.zeros(len(x), dtype=DOUBLE)
        found = exact_divergence(space, field, t, x)[1]
        # 1/sin θ is 5 at most
        yield equal("div v in spherical coordinates", found, spherical(x), operations=1e3)
        u = torch.tensor([0.3, -1.0, 0.8], dtype=DOUBLE)

        def trace(f: Any) -> Tensor:
            found: Tensor = torch.func.vmap(lambda y: torch.func.jacfwd(f)(y).trace())(x)
            return found

        def plain(t: Any, y: Any) -> Tensor:
            found: Tensor = u - (y @ u)[:, None] * y
            return found

        known = exact_divergence(space, plain, t, x)[1]
        yield equal("div of P u, whatever the extension", known, -2 * (x @ u))
        fine = trace(lambda y: space.project_tangent(y, u))
        yield equal("the ambient trace of the degree-0 extension", fine, -2 * (x @ u))
        rough = trace(lambda y: u - (y @ u) * y)
        yield equal("the ambient trace with I − xxᵀ is off by −2u·x", rough - fine, -2 * (x @ u))

    def unnormalised(space: Sphere) -> Sphere:
        def project(x: Tensor, v: Tensor) -> Tensor:
            return v - (x * v).sum(-1, keepdim=True) * x

        return but(space, project_tangent=project)

    return Claim(
        "divergence",
        "The divergence along an orthonormal basis is that in spherical coordinates. The ambient "
        "trace agrees with it for the projector of x/|x|, and is off by −2u·x for I − xxᵀ.",
        lambda: Sphere(2),
        check,
        (
            dial("the first basis vector × (1 + δ)", stretched),
            Control("the projector I − xxᵀ", unnormalised),
        ),
        formula=r"\operatorname{div} v = \operatorname{tr}(P\,Dv) = \tfrac{1}{\sin\theta}"
        r"\left[\partial_\theta(\sin\theta\, v_\theta) + \partial_\varphi v_\varphi\right]",
        entries=("R.12", "Y17"),
    )


@dataclass(frozen=True)
class Probes:
    """Probes whose mean second moment is the identity of R³, and the space that projects them."""

    space: Sphere
    scale: float = math.sqrt(3)


def probe() -> Claim[Probes]:
    """Hutchinson's estimate averaged over three probes is exact."""

    def check(probes: Probes, trial: Trial) -> Evidence:
        x = points(2)(64, trial.rng())
        t, total = torch.zeros(len(x), dtype=DOUBLE), torch.zeros(len(x), dtype=DOUBLE)
        turn = torch.linalg.qr(torch.randn(3, 3, dtype=DOUBLE, generator=trial.rng("turn")))[0]
        for axis in turn:
            xi = (probes.scale * axis).expand_as(x)
            total = total + hutchinson_divergence(probes.space, rough, t, x, xi)[1] / 3
        exact = exact_divergence(S2, rough, t, x)[1]
        return equal("E ⟨ξ, ∇_ξ v⟩", total, exact, operations=512)

    def rough(t: Any, x: Any) -> Tensor:
        """Tangent on the sphere only, so that the derivative along x must not count."""
        a, b, c = x.unbind(-1)
        raw = torch.stack([b.sin(), a * c, a**2 + 1], -1)
        found: Tensor = raw - (raw * x).sum(-1, keepdim=True) * x
        return found

    def ambient(probes: Probes) -> Probes:
        return Probes(but(probes.space, project_tangent=lambda x, v: v), probes.scale)

    def larger(probes: Probes, size: float) -> Probes:
        return Probes(probes.space, (1 + size) * probes.scale)

    return Claim(
        "hutchinson",
        "The estimate ⟨ξ, ∇_ξ v⟩ is a quadratic form in the ambient probe ξ, whose mean over "
        "probes of covariance I is the divergence: three orthogonal probes give it exactly.",
        lambda: Probes(Sphere(2)),
        check,
        (
            dial("ξ × (1 + δ)", larger),
            Control("the probe is not projected", ambient),
        ),
        formula=r"\mathbb{E}\,\langle \xi, \nabla_\xi v\rangle = \operatorname{div} v",
        entries=("R.12",),
    )
