# ruff: noqa: RUF009  # slot() and option() are dataclasses.field with metadata
"""Options of the components: what a config can set. No heavy library is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genpath.config.options import Slot, option, slot

__all__ = [
    "BoxExpertOptions",
    "BumpOptions",
    "ComposeOptions",
    "MixtureExpertOptions",
    "ResampleOptions",
    "RewardOptions",
    "RunExpertOptions",
]

ScheduleName = Literal["linear", "trigonometric", "variance_preserving", "ornstein_uhlenbeck"]


@dataclass(frozen=True)
class RunExpertOptions:
    """Options of ``expert.compose.run``.

    Example:
        >>> RunExpertOptions("runs/moons-1a2b3c4d").data_std is None
        True
    """

    folder: str = option(help="a run folder, or a checkpoint file")
    data_std: float | None = option(
        None,
        help="null: the data have compact support; a number: their tails are at most as wide as "
        "those of a normal law with this standard deviation",
        above=0,
    )
    facts: dict[str, int] | None = option(None, help="leaf: value, for the network: a label")


@dataclass(frozen=True)
class MixtureExpertOptions:
    """Options of ``expert.compose.gaussian_mixture``.

    Example:
        >>> MixtureExpertOptions(means=[[0.0, 1.0]]).schedule
        'linear'
    """

    means: list[list[float]] = option(help="one row per component")
    stds: list[float] | None = option(None, help="one per component; null for 1")
    weights: list[float] | None = option(None, help="one per component; null for equal ones")
    schedule: ScheduleName = option("linear", help="of x_t = α x0 + β x1, x0 ~ N(0, I)")


@dataclass(frozen=True)
class BoxExpertOptions:
    """Options of ``expert.compose.boxes``.

    Example:
        >>> BoxExpertOptions(lower=[[0.0]], upper=[[1.0]]).weights is None
        True
    """

    lower: list[list[float]] = option(help="lower corners, one row per box")
    upper: list[list[float]] = option(help="upper corners, one row per box")
    weights: list[float] | None = option(None, help="one per box; null: by volume")
    schedule: ScheduleName = option("linear", help="of x_t = α x0 + β x1, x0 ~ N(0, I)")


@dataclass(frozen=True)
class RewardOptions:
    """Options of ``expert.compose.reward``: r(x) = slope·x − ½ curvature |x − centre|².

    Example:
        >>> RewardOptions(slope=[1.0]).curvature
        0.0
    """

    slope: list[float] = option(help="one number per coordinate")
    curvature: float = option(0.0, help="of −½ curvature |x − centre|²", minimum=0)
    centre: list[float] | None = option(None, help="null for 0")


@dataclass(frozen=True)
class BumpOptions:
    """What is added to an exponent between its ends, which it leaves alone.

    Example:
        >>> BumpOptions(quadratic=3.0).ramp
        0.0
    """

    quadratic: float = option(0.0, help="B1 of B1 t (1 − t)")
    ramp: float = option(0.0, help="B2 of B2 min(t, τ(1 − t))")
    tau: float = option(10.0, help="τ of the ramp", above=0)


@dataclass(frozen=True)
class ResampleOptions:
    """Options of ``transform.compose.resample``, and of the stage's ``resample``.

    Example:
        >>> ResampleOptions().scheme
        'systematic'
    """

    scheme: Literal["systematic", "stratified", "residual", "multinomial", "ssp"] = option(
        "systematic", help="how ancestors are drawn"
    )
    threshold: float = option(
        0.5, help="resample where the ESS is below this share of the particles", above=0, maximum=1
    )
    when: Literal["ess", "every", "never"] = option("ess", help="at which steps")
    window: tuple[float, float] = option(
        (0.0, 1.0), help="times between which particles are resampled; weights are kept always"
    )


@dataclass(frozen=True)
class ComposeOptions:
    """Options of ``stage.compose.sample``.

    Example:
        >>> ComposeOptions(experts={}, product="a ** 1.4 * b / c").policy
        'error'
    """

    experts: dict[str, Slot] = slot("expert", help="name: expert, as the product calls them")
    product: str = option(
        help="the composition: names, numbers, *, /, **, a[0, 1] for coordinates, and presets"
    )
    size: int | None = option(None, help="coordinates of the state; null: as the experts say")
    bumps: dict[str, BumpOptions] = option(
        factory=dict, help="name: what is added to the exponents of this expert"
    )
    align: ScheduleName | None = option(
        None,
        help="run all experts on this schedule: what a composition exists by is then its "
        "exponents alone",
    )
    policy: Literal["error", "warn", "repair"] = option(
        "error", help="what to do with a composition that is not certified"
    )
    margin: float = option(0.0, help="δ: C(t) ≥ δ is asked for", minimum=0)
    count: int = option(4096, help="particles", minimum=1)
    steps: int = option(500, help="of a uniform grid", minimum=1)
    end: float = option(0.99, help="the last time", above=0, maximum=1)
    sigma: float = option(1.0, help="σ of the noise: changes no law", minimum=0)
    follow: str | None = option(
        None,
        help="the expert whose velocity particles follow, which needs divergences; null: the "
        "sum of all, weighted by their exponents, which needs none",
    )
    track: Literal["auto", "ito"] = option(
        "auto", help="log-densities: exact where experts have them, or all by Itô"
    )
    divergence: Literal["exact", "hutchinson"] = option("exact", help="of tracked experts")
    chunk: int | None = option(None, help="particles per call of an expert; null: all", minimum=1)
    resample: ResampleOptions = option(factory=ResampleOptions, help="when and how")
