r"""Sampling of a composition: certificate, start, particles, report.

    certify → error | warn | repair → start from p*_0 → move, weigh, resample → what can be trusted

A sampler that runs is no evidence that its target exists: numbers stay finite while no law is left
to sample. So the certificate comes first, and every result carries it, with the effective sample
size at each step, the estimate of log Z and the times of resampling, and says in words which of
these numbers forbid to trust the sample (course, L7.26, L7.28, L8.20, L8.22).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from genpath.errors import DomainError, ShapeError
from genpath.grids import TimeGrid
from genpath.laws import Law
from genpath.samplers import Callback, Euler, Sampler

from .certificates import Certificate, certify
from .compositions import Composition
from .dynamics import Blend, Composed, Sigma, Transport, X
from .errors import PathCollapseError, PathCollapseWarning
from .experts import Expert
from .normals import Normal
from .repairs import Repair, repair
from .smc import Particles, Resample, run_particles

__all__ = ["ComposedSample", "Policy", "sample"]

Policy = Literal["error", "warn", "repair"]
"""What to do with a composition that is not certified."""

FEW, FAMILIES = 0.01, 0.05
"""The shares of effective particles and of surviving lineages below which a result says so."""


@dataclass(frozen=True)
class ComposedSample:
    """Weighted particles of a composition, with what is known of them.

    Args:
        particles: states, log-weights, ESS and log Z, resampling times, ancestors.
        composition: that was sampled, after a repair the repaired one.
        certificate: of that composition on the grid that was used.
        repaired: what was changed; None if nothing was.
        log_start: log Z_0, where the start is known in closed form; else None.
    """

    particles: Particles
    composition: Composition
    certificate: Certificate
    repaired: Repair | None = None
    log_start: float | None = None

    @property
    def x(self) -> Tensor:
        """The particles ``(n, *event)``, to be used with their weights."""
        found: Tensor = self.particles.state[X]
        return found

    @property
    def weights(self) -> Tensor:
        """Self-normalised weights ``(n,)``."""
        return self.particles.weights()

    @property
    def log_normaliser(self) -> float:
        """log Z_T, or log Z_T/Z_0 where Z_0 is not known; exp of it is unbiased up to O(dt)."""
        return float(self.particles.log_normaliser) + (self.log_start or 0.0)

    def expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """E f under the composed law, by self-normalised weights."""
        values = function(self.x)
        shaped = self.weights.reshape(-1, *([1] * (values.dim() - 1)))
        return (shaped * values).sum(0)

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` rows without weights, by resampling."""
        found: Tensor = self.particles.draw(count, rng)[X]
        return found

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers of the report, by name."""
        found = {
            "compose/min_c": self.certificate.minimum,
            "compose/min_ess": self._share(float(self.particles.ess.min())),
            "compose/final_ess": self._share(float(self.particles.effective)),
            "compose/log_normaliser": self.log_normaliser,
            "compose/resamplings": float(len(self.particles.resampled)),
            "compose/lineages": float(self.particles.lineages()),
        }
        return found

    def _share(self, effective: float) -> float:
        return effective / max(len(self.x), 1)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the sample should not be trusted; empty where no number says so."""
        found, count = [], len(self.x)
        if self.certificate.status != "exists":
            found.append(
                f"the path is not certified ({self.certificate.status}): "
                + " ".join(self.certificate.reasons)
            )
        elif self.certificate.support.status == "violated":
            found.append("the target at t = 1 is not a law: " + self.certificate.support.words)
        least, last = (self.metrics[f"compose/{n}_ess"] for n in ("min", "final"))
        if last < FEW:
            found.append(f"the final weights are worth {last:.2%} of the particles")
        elif least < FEW:
            found.append(f"before a resampling the weights were worth {least:.2%} of the particles")
        lineages = self.particles.lineages()
        if lineages < FAMILIES * count:
            found.append(f"all particles descend from {lineages} of {count}")
        if not bool(torch.isfinite(self.x).all()):
            found.append("some particles are not finite")
        return tuple(found)

    def report(self) -> str:
        """The result in words.

        Example:
            >>> from genpath_compose.experts import FieldExpert
            >>> from genpath_compose.tails import Tail
            >>> tail = Tail(lambda t: torch.ones(len(t), 1, 1))
            >>> start = Normal.isotropic((1,))
            >>> q = FieldExpert(lambda t, x: (0 * x, -x), (1,), "q", tail=tail, start=start)
            >>> found = sample(q**2, 100, torch.Generator().manual_seed(0), steps=10)
            >>> print(found.report().splitlines()[0])
            q^(2): exists, min C = 2 at t = 0
        """
        c, p = self.certificate, self.particles
        times = ", ".join(f"{t:.3g}" for t in p.resampled[:12])
        more = f" and {len(p.resampled) - 12} more" if len(p.resampled) > 12 else ""
        known = "log Z" if self.log_start is not None else "log Z_T/Z_0"
        lines = [
            f"{self.composition}: {c.status}, {c.words()}",
            f"particles {len(self.x)}, ESS at least {float(p.ess.min()):.0f}, "
            f"at the end {float(p.effective):.0f}",
            f"{known} = {self.log_normaliser:.4f}",
            f"resampled at t = {times}{more}" if p.resampled else "never resampled",
            f"{p.lineages()} of the first particles have descendants",
        ]
        if self.repaired is not None:
            lines.insert(1, f"repaired: {self.repaired.words()}")
        lines += [f"DOUBT: {doubt}" for doubt in self.doubts]
        return "\n".join(lines)


@torch.no_grad()
def sample(
    target: Composition | Expert,
    count: int,
    rng: torch.Generator,
    *,
    steps: int = 500,
    t_end: float = 0.99,
    grid: TimeGrid | None = None,
    sigma: Sigma = 1.0,
    transport: Transport | None = None,
    policy: Policy = "error",
    margin: float = 0.0,
    resample: Resample | None = None,
    sampler: Sampler | None = None,
    start: Law | None = None,
    track: Literal["auto", "ito"] = "auto",
    divergence: Literal["exact", "hutchinson"] = "exact",
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
    callbacks: Iterable[Callback] = (),
    **more: Any,
) -> ComposedSample:
    """Certify a composition and sample it.

    Args:
        target: what is sampled.
        count: how many particles.
        rng: all randomness, on the device where particles live.
        steps, t_end: of a uniform grid from 0; exponents of a repair vanish at 0 and 1, and at
            t = 1 − the noise that experts share is gone, so the default stops a little before.
        grid: another grid, in place of both.
        sigma: σ ≥ 0; changes no law, only the spread of weights and the error of steps.
        transport: v*; Σ γ_i v_i by default, which needs no divergence.
        policy: what to do if the path is not certified: stop with `PathCollapseError`, warn and go
            on, or add the smallest bumps that give the margin.
        margin: δ: C_k(t) ≥ δ is asked for.
        resample: when and how; systematic below an ESS of half by default.
        sampler: of the generator; Euler by default.
        start: the law of particles at the first time, if not the product of the experts' starts.
        track, divergence: as of `Composed`.
        chunk: experts are called with at most so many particles at once, which bounds the memory of
            activations and derivatives; None for all.
        dtype: of the particles; torch's default if None.
        callbacks: watchers of the run.
        more: further arguments of `run_particles`: ``group``, ``log_weight``.

    Returns:
        The particles with their certificate and report.

    Raises:
        PathCollapseError: the path is not certified, under the policy "error".
        RepairError: no bump repairs it, with the reason, under the policy "repair".
        NumericalError: weights stopped being numbers, seen at the next resampling window.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> from genpath_compose.tails import Tail
        >>> tail = Tail(lambda t: torch.ones(len(t), 1, 1))
        >>> q = FieldExpert(
        ...     lambda t, x: (0 * x, -x), (1,), "q", tail=tail, start=Normal.isotropic((1,))
        ... )
        >>> found = sample(q**4, 4000, torch.Generator().manual_seed(0), steps=100)
        >>> abs(float(found.expectation(lambda x: x**2)) - 0.25) < 0.03
        True
    """
    composition = target.composition()
    if count < 1:
        raise DomainError("sample", "one particle or more.", got=f"count {count}")
    if policy not in ("error", "warn", "repair"):
        raise DomainError("sample", "policy is error, warn or repair.", got=repr(policy))
    times = TimeGrid.uniform(steps, 0.0, t_end) if grid is None else grid
    _check_times(composition, times)
    composition, certificate, repaired = examine(composition, times, policy, margin)
    law, log_start = start, None
    if law is None:
        law, log_start = composition.start(times.times[0])
        law = Normal(law.mean, law.precision, dtype or torch.get_default_dtype())
    x = law.sample(count, rng)
    if tuple(x.shape[1:]) != composition.event_shape:
        raise ShapeError(
            "sample",
            "the start has the points of the composition.",
            got=f"start {tuple(x.shape[1:])}, composition {composition.event_shape}",
        )
    composed = Composed(composition, sigma, transport or Blend(), track, divergence)
    particles = run_particles(
        composed.generator(),
        composed.state(x, times.times[0], rng),
        times,
        rng,
        sampler=Euler() if sampler is None else sampler,
        resample=Resample() if resample is None else resample,
        chunk=chunk,
        callbacks=callbacks,
        **more,
    )
    return ComposedSample(particles, composition, certificate, repaired, log_start)


def _check_times(composition: Composition, grid: TimeGrid) -> None:
    first, last = grid.times[0], grid.times[-1]
    if not grid.increasing:
        raise DomainError("sample", "time runs from noise to data.", got=f"{first:g} … {last:g}")
    for expert in composition.experts:
        low, high = expert.times
        if first < low - 1e-9 or last > high + 1e-9:
            raise DomainError(
                f"expert {expert.name}",
                "all experts are defined at all times of the grid.",
                got=f"it knows [{low:g}, {high:g}], the grid runs over [{first:g}, {last:g}]",
                fix="sample between times that all experts know, or change its clock: "
                "Reparameterised(expert, clock)",
            )


def examine(
    composition: Composition, grid: TimeGrid, policy: Policy, margin: float
) -> tuple[Composition, Certificate, Repair | None]:
    """The composition that may be sampled under a policy, with its certificate.

    Raises:
        PathCollapseError: it is not certified and the policy is "error".
        RepairError: no bump repairs it.
    """
    first, last = grid.times[0], grid.times[-1]
    certificate = certify(composition, t_start=first, t_end=last, margin=margin)
    supported = certificate.support.status != "violated"
    if certificate.keeps_margin and supported:
        return composition, certificate, None
    words = " ".join(certificate.reasons)
    if policy == "repair" and supported:
        mended = repair(composition, margin=margin, t_start=first, t_end=last)
        return mended.composition, mended.after, mended
    if policy == "warn":
        warnings.warn(
            f"{composition}: {certificate.status}: {words}", PathCollapseWarning, stacklevel=3
        )
        return composition, certificate, None
    fix = 'policy="warn" samples it nevertheless'
    if supported:
        fix = 'policy="repair" adds the smallest bumps that mend it; ' + fix
    if supported and all(e.affine is not None for e in composition.experts):
        fix = "align(composition, schedule) runs all experts on one schedule; " + fix
    raise PathCollapseError(
        "sample",
        "a composition is sampled where its path exists.",
        got=f"{certificate.status}: {words}",
        fix=fix,
    )
