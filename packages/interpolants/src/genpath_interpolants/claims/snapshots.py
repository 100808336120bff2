r"""Claims of paths through snapshots: normal samples at three times, whose marginals are known.

Between independent N(m_k, s_k²) and N(m_{k+1}, s_{k+1}²), in an interval of length h,

    p_t = N((1−s) m_k + s m_{k+1}, v)    v = (1−s)² s_k² + s² s_{k+1}² + a h s(1−s)

and on the line the velocity of any normal family is M' + V'/(2V) (x − M), by its quantiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from genpath.couplings import Independent
from genpath.laws import Gaussian
from genpath.models import ODE, SDE, Model
from genpath.paths import draw_with_target
from genpath.predictions import convert
from genpath.samplers import Euler, RungeKutta
from genpath.tableaus import RK4
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, exact, mean, near

from ..bridges import StaticBridge
from ..snapshots import MultiTimePath, SnapshotCoupling, Snapshots, push, snapshot_coupling
from .cases import DOUBLE, LINE, normal

__all__ = ["snapshots"]

MEANS, STDS = (0.0, 2.0, -1.0), (1.0, 0.5, 1.5)
KNOTS, SCALE = (0.0, 0.4, 1.0), 2.0


def snapshots() -> tuple[Claim[Any], ...]:
    """Claims of the topic ``interpolants.snapshots``."""
    return (_velocity(), _through(), _pieces())


def _moments(t: Tensor, a: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """M, V and their rates, with the two pieces written out."""
    s, r = t / 0.4, (t - 0.4) / 0.6
    first = t < 0.4
    mean = torch.where(first, 2.0 * s, 2.0 - 3.0 * r)
    early = (1 - s) ** 2 + s**2 * 0.25 + a * 0.4 * s * (1 - s)
    late = (1 - r) ** 2 * 0.25 + r**2 * 2.25 + a * 0.6 * r * (1 - r)
    early_rate = (-2 * (1 - s) + 0.5 * s) / 0.4 + a * (1 - 2 * s)
    late_rate = (-0.5 * (1 - r) + 4.5 * r) / 0.6 + a * (1 - 2 * r)
    return (
        mean,
        torch.where(first, early, late),
        torch.where(first, 5.0, -5.0).to(t),
        torch.where(first, early_rate, late_rate),
    )


def _exact(t: Tensor, x: Tensor, a: float = SCALE) -> Tensor:
    """M' + V'/(2V) (x − M)."""
    mean, variance, mean_rate, variance_rate = _moments(t, a)
    rate: Tensor = mean_rate + variance_rate / (2 * variance) * (x[:, 0] - mean)
    return rate[:, None]


def _coupling() -> SnapshotCoupling:
    laws = [Gaussian((1,), m, s, DOUBLE) for m, s in zip(MEANS, STDS, strict=True)]
    return SnapshotCoupling((Independent(*laws[:2]), Independent(*laws[1:])))


def _velocity() -> Claim[Any]:
    def check(path: MultiTimePath, trial: Trial) -> Iterator[Evidence]:
        rng, count = trial.rng(), trial.count(60_000)
        pairs = _coupling().pairs(count, rng)
        t = torch.rand(count, generator=rng, dtype=DOUBLE)
        draw, target = draw_with_target(path, "velocity", t, pairs.x0, pairs.x1, rng)
        x = draw.state
        early, y = (t < 0.4).to(t), x[:, 0]
        waves = [torch.ones_like(t), y, early * y, y.cos(), early * (t - 0.2) * y]
        features = torch.stack([*waves, (1 - early) * (t - 0.7) * y], 1)
        gap = (target - _exact(t, x)) * features
        yield mean("E[(ẋ − b) φ]", gap, 0.0)
        mean_, variance = _moments(t, SCALE)[:2]
        square = (x[:, 0] - mean_).square() - variance
        yield mean("E(x − M)² = V", square, 0.0)
        score = -(x - mean_[:, None]) / variance[:, None]
        inside = (path._local(t)[1] - 0.5).abs() < 0.499  # where 1/γ is not clipped
        wrong = (path.target("score", draw) - score) * features * inside[:, None]
        yield mean("E[(−z/γ − s) φ]", wrong, 0.0)
        given = {"interpolant_velocity": path.target("interpolant_velocity", draw),
                 "noise": path.target("noise", draw)}  # fmt: skip
        told = convert(path.rules, given, "velocity", t, x)
        yield equal("v + γ̇ z = ẋ", told, target, scale=float(target.abs().max()))
        joint = path.target("interpolant_velocity+noise", draw)
        again = convert(path.rules, {"interpolant_velocity+noise": joint}, "velocity", t, x)
        yield equal("from both at once", again, target, scale=float(target.abs().max()))

    def local_time(path: MultiTimePath) -> MultiTimePath:
        """The rate per unit of local time: 1/h is forgotten."""

        def target(name: str, draw: Any) -> Any:
            found = path.target(name, draw)
            return found * path._local(draw.t)[2][:, None] if name == "velocity" else found

        return but(path, target=target)

    def louder(path: MultiTimePath, size: float) -> MultiTimePath:
        return replace(path, gamma_scale=(1 + size) * path.gamma_scale)

    def unscaled(path: MultiTimePath) -> MultiTimePath:
        """γ² = a s(1−s) in every interval, whatever its length."""

        def draw(t: Tensor, x0: Tensor, x1: Tensor, rng: torch.Generator) -> Any:
            found = path.draw(t, x0, x1, rng)
            _, s, width = path._local(found.t)
            extra = (SCALE * s * (1 - s)).sqrt() - (SCALE * width * s * (1 - s)).sqrt()
            return replace(found, state=found.state + extra[:, None] * found.latent)

        return but(path, draw=draw)

    return Claim(
        "velocity",
        "The targets' conditional means are the velocity and the score of the piecewise normal "
        "path, in global time.",
        lambda: MultiTimePath(LINE, KNOTS, SCALE),
        check,
        (
            Control("the rate per local time", local_time),
            dial("a × (1 + δ)", louder, 0.5),
            Control("γ² without the length of the interval", unscaled),
        ),
        formula=r"b = \mathbb E\Big[\frac{x^{k+1}-x^k}{h} + \dot\gamma z\Big|x_t\Big],\quad "
        r"\gamma^2 = a\,h\,s(1-s)",
    )


@dataclass(frozen=True)
class Carried:
    """A model with the exact fields, and what carries rows."""

    model: Model
    carry: Callable[..., Tensor] = push


def _model() -> Carried:
    path = MultiTimePath(LINE, KNOTS, SCALE)

    def field(t: Tensor, x: Any) -> Tensor:
        mean_, variance = _moments(t, SCALE)[:2]
        score = -(x - mean_[:, None]) / variance[:, None]
        return torch.stack([_exact(t, x), score], 1)

    base = Gaussian((1,), MEANS[0], STDS[0], DOUBLE)
    return Carried(Model(field, path, base, "velocity+score"))


def _through() -> Claim[Any]:
    def check(thing: Carried, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        quantile = torch.linspace(-2, 2, 41, dtype=DOUBLE)[:, None]
        for start, end, first, last in ((0.0, 1.0, 0, 2), (0.4, 1.0, 1, 2)):
            rows = MEANS[first] + STDS[first] * quantile
            found = thing.carry(thing.model, ODE(), RungeKutta(RK4), rows, start, end, rng,
                                steps=40)  # fmt: skip
            true = MEANS[last] + STDS[last] * quantile
            because = "h⁴ of Runge–Kutta, h = 1/40, in each interval"
            yield near(f"quantiles from t = {start:g} to {end:g}", found, true, 1e-3, because)
        x = STDS[0] * normal(trial.count(8000, 3000), 1, rng=rng)
        found = thing.carry(thing.model, SDE(0.3), Euler(), x, 0.0, 1.0, rng, steps=40)
        both = torch.cat([found, (found - MEANS[2]).square()], 1)
        true = torch.tensor([MEANS[2], STDS[2] ** 2], dtype=DOUBLE)
        because = "h of Euler–Maruyama, h = 1/40, times rates of size 6"
        yield mean("moments of the SDE's end", both, true, allowance=0.15, because=because)

    def one_grid(thing: Carried) -> Carried:
        """From start to end in one go, over the knots: the flow is that of the first piece."""

        def carry(model: Model, dynamics: Any, sampler: Any, rows: Tensor, start: float,
                  end: float, rng: torch.Generator, steps: int) -> Tensor:  # fmt: skip
            path = replace(cast(MultiTimePath, model.path), knots=(0.0, 0.6, 1.0))
            bare = replace(model, path=path)
            return push(bare, dynamics, sampler, rows, start, end, rng, steps=steps)

        return replace(thing, carry=carry)

    def faster(thing: Carried, size: float) -> Carried:
        field: Any = thing.model.network
        return replace(
            thing, model=replace(thing.model, network=lambda t, x: (1 + size) * field(t, x))
        )

    return Claim(
        "through",
        "The flow of the exact velocity goes from each snapshot through all later ones, and so do "
        "the laws of its SDE.",
        _model,
        check,
        (dial("the fields × (1 + δ)", faster), Control("knots in other places", one_grid)),
        formula=r"X_{\tau_j \to \tau_k}\#\rho_j = \rho_k",
    )


def _pieces() -> Claim[Any]:
    def check(make: Callable[..., SnapshotCoupling], trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        states = tuple(k + normal(n, 2, rng=rng) for k, n in enumerate((30, 40, 50)))
        data = Snapshots(states, (2.0, 3.0, 5.0))
        yield exact("knots", torch.tensor(data.knots()), torch.tensor((0.0, 1 / 3, 1.0)))
        for pairing in ("independent", "optimal_transport", "entropic"):
            eps = 0.5 if pairing == "entropic" else None
            pairs = make(data, pairing, eps=eps).pairs(64, rng)
            for k in range(2):
                for side, source in ((pairs.x0, states[k]), (pairs.x1, states[k + 1])):
                    rows = torch.as_tensor(side)[:, k]
                    known = (rows[:, None] == source).all(2).any(1)
                    yield exact(f"{pairing}: ends are cells of their times", bool(known.all()))
            path = MultiTimePath(data.space, data.knots(), 0.3)
            x0, x1 = torch.as_tensor(pairs.x0), torch.as_tensor(pairs.x1)
            for t, true in ((0.0, x0[:, 0]), (1.0, x1[:, 1]), (data.knots()[1], x0[:, 1])):
                at = path.draw(t, x0, x1, rng).state
                yield near(f"{pairing}: x_t at a knot", at, true, 1e-12, "rounding")
        # in an interval of length h the bridge of √(2ε) W is that of ε h in unit time
        given = make(data, "entropic", eps=0.5).couplings
        found = [c.eps for c in given if isinstance(c, StaticBridge)]
        lengths = torch.tensor([0.5 / 3, 1.0 / 3], dtype=DOUBLE)
        yield equal("ε h", torch.tensor(found, dtype=DOUBLE), lengths)

    def late(make: Any) -> Any:
        """The intervals are exchanged."""

        def run(data: Any, pairing: Any, **more: Any) -> Any:
            found = make(data, pairing, **more)
            return SnapshotCoupling(tuple(reversed(found.couplings)))

        return run

    def loud(make: Any, size: float) -> Any:
        def run(data: Any, pairing: Any, eps: float | None = None) -> Any:
            return make(data, pairing, eps=None if eps is None else (1 + size) * eps)

        return run

    return Claim(
        "pieces",
        "Every interval pairs cells of its own two times, and at the knots the path is at them.",
        lambda: snapshot_coupling,
        check,
        (Control("the intervals are exchanged", late), dial("ε × (1 + δ)", loud)),
    )
