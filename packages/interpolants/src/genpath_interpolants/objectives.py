r"""Objectives of an interpolant: quadratic, antithetic and implicit; and the excess over an oracle.

    L[g] = E[ ½|g(t, x_t)|² − Y·g(t, x_t) ] = ½ E|g − g*|² − ½ E|g*|²       g* = E[Y | x_t]

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, Theorems 7 and 8, eqs. 2.13, 2.16.) Y is
the path's target of what is predicted: ẋ_t for the velocity, −z/γ for the score, z for the noise,
x1, x0 and ∂_t I for the denoisers and the interpolant's velocity; a joint prediction sums the two.
It differs from the regression's ½|g − Y|² by ½|Y|², which does not depend on g: the gradients are
the same, but Y may have infinite variance (−z/γ at the ends), and L is −½ E|g*|² at its least.

*Antithetic.* (I, z) and (I, −z) are equally likely; with x± = I ± γz the mean of the two values is

    ¼(|g⁺|² + |g⁻|²) + z·(s⁺ − s⁻)/(2γ)                       score: → zᵀ∇s z as γ → 0
    ¼(|g⁺|² + |g⁻|²) − ½ ∂_t I·(b⁺ + b⁻) − γ̇/2 z·(b⁺ − b⁻)    velocity

so that the variance of the singular term stays bounded (sections 6.1 and B.4 there).

*Implicit.* By parts, −E[s·ŝ] = E div ŝ, so that no target is needed (Hyvärinen 2005):

    E[ ½|ŝ|² + div ŝ ] = ½ E|ŝ − s|² − ½ E|s|²
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.couplings import Pairs
from genpath.divergences import exact_divergence, pushforward
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.models import Model
from genpath.paths import Draw, ProbabilityPath, draw_with_target
from genpath.predictions import converted, plan
from genpath.states import Field, concatenate, describe, flat_event, map_state, per_row

from .diffusive import DiffusivePath
from .gaussianised import GaussianisedPath
from .general import InterpolantPath
from .latents import Latent
from .paths import LinearPath
from .point_mass import PointMassPath
from .times import TimeLaw, importance_times, time_law

__all__ = ["ExcessRisk", "ImplicitScore", "Quadratic", "excess_risk", "mirrored"]


@dataclass(frozen=True)
class Quadratic:
    """E[½|g|² − Y·g], least at g = E[Y | x_t]: the component ``objective.interpolants.quadratic``.

    The excess over the least value is ½ E|g − g*|²; the least value is −½ E|g*|², and no constant
    that depends on Y is added. With predict "diffusive_drift" the course's loss |u|² − 2 Y·u is
    twice this one. Predict "score" needs t away from the path's singular times, or ``antithetic``.

    Args:
        antithetic: average the draw and its `mirrored` one, in one network call on both.
        time: the law of the time: uniform, arcsine, logit_normal, or a `TimeLaw`.
        t_min, t_max: the interval of the times.

    The times ``(batch,)`` that a trainer draws uniformly from (0, 1) are mapped to the law, and the
    values weighted, so that the mean is that over uniform times of the interval.

    Raises:
        DomainError: an unknown law, or not 0 ≤ t_min < t_max ≤ 1.

    Example:
        >>> from genpath import Euclidean, Gaussian
        >>> model = Model(lambda t, x: 0 * x + 2, LinearPath(Euclidean(1)), Gaussian((1,)))
        >>> pairs = Pairs(torch.zeros(2, 1), torch.tensor([[1.0], [2.0]]))
        >>> Quadratic()(model, pairs, torch.tensor([0.1, 0.9]), torch.Generator())
        tensor([ 0., -2.])
    """

    antithetic: bool = False
    time: str | TimeLaw = "uniform"
    t_min: float = 0.0
    t_max: float = 1.0

    def __post_init__(self) -> None:
        _check_times("interpolants.quadratic", self.time, self.t_min, self.t_max)

    @property
    def minimiser(self) -> str:
        """Where it is least."""
        return "E[target | x_t = x]"

    def __call__(self, model: Model, pairs: Pairs, t: Tensor, rng: torch.Generator) -> Tensor:
        times, weight = importance_times(self.time, t, self.t_min, self.t_max)
        draw, target = draw_with_target(model.path, model.predict, times, pairs.x0, pairs.x1, rng)
        if not self.antithetic:
            return weight * _quadratic(model.field(draw.t, draw.state), target)
        other = mirrored(model.path, draw, model.predict)
        both = model.field(torch.cat([draw.t, other.t]), concatenate([draw.state, other.state]))
        targets = concatenate([target, model.path.target(model.predict, other)])
        first, second = _quadratic(both, targets).chunk(2)
        return weight * 0.5 * (first + second)


def _check_times(where: str, time: str | TimeLaw, t_min: float, t_max: float) -> None:
    time_law(time)
    if not 0 <= t_min < t_max <= 1:
        got = f"t_min {t_min:g}, t_max {t_max:g}"
        raise DomainError(where, "0 ≤ t_min < t_max ≤ 1.", got=got)


def _quadratic(value: Any, target: Any) -> Tensor:
    """½|g|² − Y·g of each row, over the entries of all leaves."""
    values, targets = (x if isinstance(x, Mapping) else {"": x} for x in (value, target))
    if {n: v.shape for n, v in values.items()} != {n: v.shape for n, v in targets.items()}:
        raise ShapeError(
            "interpolants.quadratic",
            "the network's output has the form of the target.",
            got=f"output {describe(value)}, target {describe(target)}",
        )
    terms = [flat_event((0.5 * v - targets[n]) * v).sum(1) for n, v in values.items()]
    return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]


def mirrored(path: ProbabilityPath, draw: Draw, predict: str = "velocity") -> Draw:
    """The draw with its symmetric noise negated: equally likely, at the same time and data.

    With a latent z it is x − 2γz, made from (x0, x1, −z). With a normal base and no latent, x0 is
    the noise: it is x − 2αx0, made from (−x0, x1). With both, z alone is negated, save for
    predict "score", whose target has both in it. A path of a kind of its own has a method
    ``mirrored(draw, predict)``.

    Args:
        path: the path that made the draw.
        draw: a draw of that path.
        predict: the name of what is predicted.

    Raises:
        CapabilityError: the path has neither a latent nor a normal base, or is of another kind.

    Example:
        >>> from genpath import Euclidean
        >>> path, one = LinearPath(Euclidean(1), base="gaussian"), torch.ones(1, 1)
        >>> draw = path.draw(0.25, one, one, torch.Generator())
        >>> mirrored(path, draw).state, mirrored(path, draw).x0
        (tensor([[-0.5000]]), tensor([[-1.]]))
    """
    own: Callable[[Draw, str], Draw] | None = getattr(path, "mirrored", None)
    if own is not None:
        return own(draw, predict)
    if isinstance(path, PointMassPath):  # the fact "start" stays what it is
        found = mirrored(path.diffusive, _moving(draw), predict)
        return replace(draw, state=_with(draw.state, found.state), latent=found.latent)
    if isinstance(path, DiffusivePath):
        return mirrored(path.marginal, draw, predict)
    if isinstance(path, GaussianisedPath):
        inner = replace(draw, state=path.inverse(draw.t, draw.state))
        found = mirrored(path.mixed, inner, predict)
        return replace(found, state=path.forward(draw.t, found.state))
    noise = _noise(path, draw)
    if not noise:
        raise CapabilityError(
            "antithetic",
            "the noise that is negated is a latent of the path, or a normal base.",
            got=f"{type(path).__name__} with neither",
            fix="choose a gamma other than none, base: gaussian where it holds, or antithetic: "
            "false",
        )
    if "z" in noise and predict != "score":
        noise.pop("x0", None)
    state = draw.state - 2 * torch.stack(list(noise.values())).sum(0)
    x0 = -draw.x0 if "x0" in noise else draw.x0
    z = -draw.latent if "z" in noise else draw.latent
    return replace(draw, state=state, x0=x0, latent=z)


def _noise(path: ProbabilityPath, draw: Draw) -> dict[str, Tensor]:
    """The parts of x_t whose sign may be changed: those of z and of a normal x0."""
    t, x0, z = draw.t, draw.x0, draw.latent
    found: dict[str, Tensor] = {}
    if isinstance(path, LinearPath):
        if z is not None:
            found["z"] = per_row(path.schedule.gamma(t), z) * z
        if path.base == "gaussian":
            found["x0"] = per_row(path.schedule.alpha(t), x0) * x0
    if isinstance(path, InterpolantPath):
        if isinstance(path.noise, Latent):
            found["z"] = path.noise.scaled(t, z)
        if path.alpha is not None:
            found["x0"] = per_row(path.alpha(t), x0) * x0
    return found


def _moving(draw: Draw) -> Draw:
    return replace(draw, state=draw.state["x"]) if isinstance(draw.state, Mapping) else draw


def _with(state: Any, moved: Tensor) -> Any:
    return {**state, "x": moved} if isinstance(state, Mapping) else moved


@dataclass(frozen=True)
class ImplicitScore:
    """E[½|ŝ|² + div ŝ], least at the score: ``objective.interpolants.implicit_score``.

    It needs draws of x_t only, no latent and no target. The least value is −½ E|s|², minus half
    the Fisher information (Hyvärinen 2005, JMLR 6, Theorem 1, with ½). The model predicts the
    score, or what the path's rules make it from.

    Args:
        divergence: "exact" (d forward derivatives), "hutchinson" (ξ·∇ŝ ξ for one probe of random
            signs) or "sliced" (the same, with ½(ξ·ŝ)² for ½|ŝ|²: Song et al. 2019,
            arXiv 1905.07510, eq. 7).
        time: the law of the time, as in `Quadratic`.
        t_min, t_max: the interval of the times.

    Raises:
        DomainError: an unknown divergence or law of the time, or not 0 ≤ t_min < t_max ≤ 1.

    Example:
        >>> from genpath import Euclidean, Gaussian
        >>> path = LinearPath(Euclidean(1), base="gaussian")
        >>> model = Model(lambda t, x: -x, path, Gaussian((1,)), "score")
        >>> pairs = Pairs(torch.full((1, 1), 2.0), torch.zeros(1, 1))
        >>> ImplicitScore()(model, pairs, torch.tensor([0.5]), torch.Generator())  # ½·1² − 1
        tensor([-0.5000])
    """

    divergence: Literal["exact", "hutchinson", "sliced"] = "exact"
    time: str | TimeLaw = "uniform"
    t_min: float = 0.0
    t_max: float = 1.0

    def __post_init__(self) -> None:
        _check_times("interpolants.implicit_score", self.time, self.t_min, self.t_max)
        if self.divergence not in ("exact", "hutchinson", "sliced"):
            raise DomainError(
                "interpolants.implicit_score",
                "divergence is exact, hutchinson or sliced.",
                got=repr(self.divergence),
            )

    @property
    def minimiser(self) -> str:
        """Where it is least."""
        return "∇log p_t(x)"

    def __call__(self, model: Model, pairs: Pairs, t: Tensor, rng: torch.Generator) -> Tensor:
        times, weight = importance_times(self.time, t, self.t_min, self.t_max)
        draw = model.path.draw(times, pairs.x0, pairs.x1, rng)
        if not isinstance(draw.state, Tensor):
            raise CapabilityError(
                "interpolants.implicit_score",
                "states are tensors.",
                got=describe(draw.state),
                fix="choose objective: interpolants.quadratic",
            )
        score = converted(model.path.rules, model.predict, model.field, "score")
        if self.divergence == "exact":
            value, trace = exact_divergence(model.path.space, score, draw.t, draw.state)
            return weight * (0.5 * flat_event(value.square()).sum(1) + trace)
        x = draw.state
        signs = torch.randint(0, 2, x.shape, generator=rng, device=x.device)
        probe = (2 * signs - 1).to(x.dtype)
        value, slope = pushforward(lambda y: score(draw.t, y), x, probe)
        trace = flat_event(probe * slope).sum(1)
        if self.divergence == "sliced":
            return weight * (0.5 * flat_event(probe * value).sum(1).square() + trace)
        return weight * (0.5 * flat_event(value.square()).sum(1) + trace)


# -- against an oracle -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ExcessRisk:
    """½ E|g − g*|² with its standard error, whole and per bin of time.

    Args:
        value, error: over all times.
        edges: of the bins, ``(bins + 1,)``.
        values, errors: per bin, ``(bins,)``; NaN in a bin with too few times.
        counts: how many draws fell in each.

    Example:
        >>> one = torch.ones(1)
        >>> print(ExcessRisk(0.5, 0.01, torch.tensor([0.0, 1.0]), 0.5 * one, 0.01 * one, one))
        ½E|g − g*|² = 0.5 ± 0.01
          t 0.000 to 1.000   0.5 ± 0.01
    """

    value: float
    error: float
    edges: Tensor
    values: Tensor
    errors: Tensor
    counts: Tensor

    def __str__(self) -> str:
        lines = [f"½E|g − g*|² = {self.value:.4g} ± {self.error:.2g}"]
        for j, (value, error) in enumerate(zip(self.values, self.errors, strict=True)):
            start, end = float(self.edges[j]), float(self.edges[j + 1])
            lines.append(f"  t {start:.3f} to {end:.3f}   {float(value):.4g} ± {float(error):.2g}")
        return "\n".join(lines)


@torch.no_grad()
def excess_risk(
    model: Model,
    oracle: Field,
    pairs: Pairs,
    t: Tensor,
    rng: torch.Generator,
    *,
    quantity: str | None = None,
    bins: int = 1,
) -> ExcessRisk:
    """½ E|g − g*|²: what the objective exceeds its least value by, against an exact field.

    It equals L[g] − L[g*] (arXiv 2303.08797, Theorem 7), without the variance of the target.
    Because s = −η/γ, the same error is ‖ŝ − s‖ = ‖η̂ − η‖/γ in another quantity.

    Args:
        model: the model.
        oracle: the exact field ``(t, x)`` of the quantity.
        pairs: endpoint pairs, ``(batch, *event)``.
        t: times ``(batch,)``; uniform ones give the objective's excess.
        rng: for the latent noise.
        quantity: what to compare; the model's prediction if None, else converted by the path's
            rules.
        bins: equal bins of [0, 1].

    Raises:
        CapabilityError: no rule leads from the prediction to the quantity.
        DomainError: fewer than two draws, or no bin.

    Example:
        >>> from genpath import Euclidean, Gaussian
        >>> model = Model(lambda t, x: x + 1, LinearPath(Euclidean(1)), Gaussian((1,)))
        >>> pairs = Pairs(torch.zeros(4, 1), torch.ones(4, 1))
        >>> found = excess_risk(model, lambda t, x: x, pairs, torch.rand(4), torch.Generator())
        >>> round(found.value, 4)
        0.5
    """
    if t.shape[0] < 2 or bins < 1:
        raise DomainError(
            "excess_risk", "there are two draws or more, and a bin.",
            got=f"{t.shape[0]} draws, {bins} bins",
        )  # fmt: skip
    name = quantity or model.predict
    plan(model.path.rules, [model.predict], name)
    draw = model.path.draw(t, pairs.x0, pairs.x1, rng)
    field = converted(model.path.rules, model.predict, model.field, name)
    gap = map_state(torch.sub, field(draw.t, draw.state), oracle(draw.t, draw.state))
    leaves = gap.values() if isinstance(gap, Mapping) else (gap,)
    values = torch.stack([0.5 * flat_event(x).double().square().sum(1) for x in leaves]).sum(0)
    index = (draw.t * bins).long().clamp(0, bins - 1)
    counts = torch.bincount(index, minlength=bins)
    zero = values.new_zeros(bins)
    means = zero.index_add(0, index, values) / counts
    spread = zero.index_add(0, index, (values - means[index]).square()) / (counts - 1)
    errors = torch.where(counts > 1, (spread / counts).sqrt(), torch.nan)
    return ExcessRisk(
        float(values.mean()),
        float(values.std() / values.shape[0] ** 0.5),
        torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=t.device),
        means,
        errors,
        counts,
    )
