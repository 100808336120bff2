"""Claims about log-densities that are carried along by Itô's formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genpath.grids import TimeGrid
from genpath.samplers import Euler, integrate
from genpath.schedules import Scalar
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, mean, order

from ..compositions import Composition
from ..dynamics import Composed
from ..experts import FieldExpert
from ..exponents import Exponent
from ..normals import Normal
from ._scenes import DOUBLE, plane

__all__ = ["tracking"]


def tracking() -> list[Claim[Any]]:
    """ℓ_i by Itô, with the noise that moves the particle."""

    def check(composed: Composed, trial: Trial) -> Iterator[Evidence]:
        expert = composed.composition.experts[composed.tracked[0]]
        steps = [12, 24, 48, 96]
        errors = []
        rng = trial.rng("start")
        x = composed.composition.start()[0].sample(trial.count(6000, 4000), rng).to(DOUBLE)
        gen = composed.generator()
        for count in steps:
            noise = trial.rng(f"noise {count}")
            grid = TimeGrid.uniform(count, 0.0, 0.8)
            end = integrate(Euler(), gen, composed.state(x, 0.0, noise), grid, noise).state
            t = torch.full((len(x),), 0.8, dtype=DOUBLE)
            gap = end["log_density"][:, 0] - expert.log_prob(t, end["x"])
            errors.append(float(gap.abs().mean()))
        yield order("strong error of ℓ", [0.8 / n for n in steps], errors, 0.5)

    def make(sigma: Any = 0.9) -> Composed:
        return Composed(plane(), sigma, track="ito")

    def other_noise(composed: Composed) -> Any:
        gen, rng = composed.generator(), torch.Generator().manual_seed(1)

        def evaluate(t: Tensor, state: Any) -> Any:
            parts = gen.evaluate(t, state)
            inner: Any = parts.diffusion

            def moved(noise: Any) -> Any:
                fresh = torch.randn(noise["x"].shape, generator=rng, dtype=noise["x"].dtype)
                return {**inner(noise), "log_density": inner({"x": fresh})["log_density"]}

            return replace(parts, diffusion=but(inner, __call__=lambda z: moved(z)))

        return but(composed, generator=lambda: replace(gen, evaluate=evaluate))

    def without_trace(composed: Composed) -> Any:
        return _gained(composed, lambda v: v | {n: 0 * v[n] for n in v if n == "score_divergence"})

    def turned(composed: Composed) -> Any:
        return _gained(composed, lambda v: v | {n: -v[n] for n in v if n == "velocity_divergence"})

    controls = [
        Control("another dW for ℓ than for X", other_noise),
        Control("½ σ² div s dropped", without_trace),
        Control("the sign of div v", turned),
    ]
    matrix = torch.tensor([[0.7, 0.2], [0.0, 0.4]], dtype=DOUBLE)
    claims = [
        Claim(
            "tracked-log-density",
            "A log-density carried along by Itô's formula, with the noise that moves the particle, "
            "differs from the exact one by O(√dt).",
            make,
            check,
            controls,
            formula=r"d\ell_i=\big[D_i+\tfrac{\sigma^2}2(s^*\!\cdot s_i+\nabla\!\cdot s_i)\big]dt"
            r"+\sigma s_i\!\cdot dW",
            entries=("L8.19",),
        ),
        Claim(
            "tracked-matrix-noise",
            "The same under noise that is not isotropic: ½ a:∇s in place of ½ σ² div s.",
            lambda: make(matrix),
            check,
            [Control("½ a:∇s dropped", _without_matrix_trace), controls[0]],
            formula=r"d\ell_i=\big[D_i+\tfrac12(as^*)\!\cdot s_i+\tfrac12a{:}\nabla s_i\big]dt"
            r"+s_i\!\cdot\sigma dW",
            entries=("L8.19", "L7.15"),
        ),
        _hutchinson(),
    ]
    return claims


def _without_matrix_trace(composed: Composed) -> Any:
    return but(composed, _along_noise=lambda expert, t, x: x.new_zeros(len(x)))


def _gained(composed: Composed, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Any:
    gains = composed._gains
    return but(
        composed,
        _gains=lambda t, x, flow, push, values: gains(
            t, x, flow, push, [change(dict(v)) for v in values]
        ),
    )


def _hutchinson() -> Claim[Any]:
    def check(composed: Composed, trial: Trial) -> Evidence:
        rng, n = trial.rng(), trial.count(40_000, 20_000)
        x = torch.tensor([[0.7, -0.4]], dtype=DOUBLE).expand(n, 2).contiguous()
        state = composed.state(x, 0.0, rng)
        found = composed.generator()(0.4, state).velocity["log_density"][:, 0]
        plain = replace(composed, divergence="exact")
        true = plain.generator()(0.4, plain.state(x[:1], 0.0, rng)).velocity["log_density"][0, 0]
        return mean("drift of ℓ by probes", found, true)

    def loud(composed: Composed, size: float) -> Any:
        state = composed.state

        def louder(x: Tensor, t: float, rng: torch.Generator) -> dict[str, Tensor]:
            found = state(x, t, rng)
            if "probe" in found:
                found["probe"] = (1 + size) * found["probe"]
            return found

        return but(composed, state=louder)

    return Claim(
        "tracked-by-probes",
        "A divergence along the probe of a particle is right on average.",
        lambda: Composed(_correlated(), 0.9, track="ito", divergence="hutchinson"),
        check,
        [dial("probes × (1 + δ)", loud, 0.5)],
        entries=("L8.19",),
    )


def _correlated() -> Composition:
    """An expert whose Jacobian has entries off the diagonal, so that probes do not find it."""
    turn = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=DOUBLE)
    a = FieldExpert(
        lambda t, x: (torch.sin(x @ turn), -x @ turn), (2,), "a", start=Normal.isotropic((2,))
    )
    return a ** Exponent(1.0, Scalar(lambda t: t * (1 - t), lambda t: 1 - 2 * t))
