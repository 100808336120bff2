"""The stage that samples a composition: certificate, particles, figures and numbers for the report.

It needs no data and trains nothing: its experts are runs, checkpoints or exact laws. What it leaves
is in the run's folder: samples.npz (rows without weights), metrics, figures, texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from genpath.errors import DomainError
from genpath.evaluation import Figure, Findings, Text
from genpath.run.assembly import default_dtype
from genpath.run.folder import SAMPLES, Run
from genpath.run.samples import to_cpu, write_samples
from genpath.run.stages import write_findings

from .alignment import align
from .bumps import bump
from .certificates import certificate_figure
from .components import SCHEDULES
from .compositions import Composition, parse
from .dynamics import Blend, Follow, Transport
from .experts import Expert
from .exponents import Exponent
from .options import BumpOptions, ResampleOptions
from .sampling import ComposedSample, sample
from .smc import Resample

__all__ = ["SampleComposition"]

MEASURED = {
    "compose/min_c": "least C_k(t) of the existence criterion; positive: the path exists",
    "compose/min_ess": "least share of effective particles, before a resampling",
    "compose/final_ess": "share of effective particles at the last time",
    "compose/log_normaliser": "estimate of log Z; its exp is unbiased, up to O(dt)",
    "compose/resamplings": "times at which particles were resampled",
    "compose/lineages": "first particles that have descendants at the last time",
}


@dataclass(frozen=True)
class SampleComposition:
    """Certify and sample a composition: the component ``stage.compose.sample``.

    Args: the options of `genpath_compose.options.ComposeOptions`.
    """

    experts: Mapping[str, Expert]
    product: str
    size: int | None = None
    bumps: Mapping[str, BumpOptions] = field(default_factory=dict)
    align: Any = None
    policy: Any = "error"
    margin: float = 0.0
    count: int = 4096
    steps: int = 500
    end: float = 0.99
    sigma: float = 1.0
    follow: str | None = None
    track: Any = "auto"
    divergence: Any = "exact"
    chunk: int | None = None
    resample: ResampleOptions = field(default_factory=ResampleOptions)

    def composition(self) -> Composition:
        """The composition that the options describe.

        Raises:
            DomainError: the text cannot be read, or a bump is on an unknown expert.
        """
        found = parse(self.product, {n: expert.named(n) for n, expert in self.experts.items()})
        if self.size is not None:
            found = found.sized(self.size)
        if self.align is not None:
            found = align(found, SCHEDULES[self.align]())
        unknown = set(self.bumps) - set(self.experts)
        if unknown:
            raise DomainError(
                "stage.compose.sample",
                "bumps name experts.",
                got=", ".join(sorted(unknown)),
                fix="the experts are: " + ", ".join(self.experts),
            )
        exponents = [self._bumped(term.expert.name, term.exponent) for term in found.terms]
        return found.with_exponents(exponents)

    def _bumped(self, name: str, exponent: Exponent) -> Exponent:
        options = self.bumps.get(name)
        if options is None:
            return exponent
        return exponent + bump(options.quadratic, options.ramp, tau=options.tau)

    def transport(self, target: Composition) -> Transport:
        """v*: the velocity of the expert to follow, or the blend of all.

        Raises:
            DomainError: no expert of the product has that name.
        """
        if self.follow is None:
            return Blend()
        names = [term.expert.name for term in target.terms]
        if self.follow not in names:
            raise DomainError(
                "stage.compose.sample",
                "particles follow an expert of the product.",
                got=repr(self.follow),
                fix="the experts are: " + ", ".join(names),
            )
        return Follow(names.index(self.follow))

    def __call__(self, run: Run) -> None:
        with default_dtype(run.config), run.display.task("sample", self.steps) as task:
            settings = self.resample
            target = self.composition()
            found = sample(
                target,
                self.count,
                run.rng("compose"),
                steps=self.steps,
                t_end=self.end,
                sigma=self.sigma,
                transport=self.transport(target),
                policy=self.policy,
                margin=self.margin,
                resample=Resample(
                    scheme=settings.scheme,
                    threshold=settings.threshold,
                    when=settings.when,
                    window=settings.window,
                ),
                track=self.track,
                divergence=self.divergence,
                chunk=self.chunk,
                dtype=torch.get_default_dtype(),
                callbacks=(lambda index, t, carry: task.update(index, f"t = {t:.3f}"),),
            )
            rows = found.draw(self.count, run.rng("compose-draw"))
        write_samples(run.folder / SAMPLES, to_cpu(rows))
        text = Text("What was sampled, and what can be trusted", found.report())
        findings = Findings(found.metrics, MEASURED, (), (text,))
        write_findings(run, "compose.sample", findings, figures(found))
        run.console.print(found.report(), highlight=False, markup=False, soft_wrap=True)


def figures(found: ComposedSample) -> list[Figure]:
    """The existence criterion over time, the weights over time, and the particles in a plane."""
    before = found.certificate if found.repaired is None else found.repaired.before
    after = None if found.repaired is None else found.repaired.after
    return [certificate_figure(before, after), _weights_figure(found), _cloud_figure(found)]


def _weights_figure(found: ComposedSample) -> Figure:
    particles = found.particles
    share = (particles.ess / max(len(found.x), 1)).tolist()

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.plot(list(particles.times)[-len(share) :], share, lw=1.2)
        for t in particles.resampled:
            axes.axvline(t, color="0.85", lw=0.8, zorder=0)
        axes.set(xlabel="t", ylabel="ESS / particles", ylim=(0, 1.05))

    caption = "Share of effective particles at each step; grey lines: resampling."
    return Figure("weights", "Weights", caption, draw, (8.0, 3.2))


def _cloud_figure(found: ComposedSample) -> Figure:
    rng = torch.Generator().manual_seed(0)
    x = found.draw(min(5000, len(found.x)), _on(rng, found.x)).detach().cpu().flatten(1)

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        if x.shape[1] == 1:
            axes.hist(x[:, 0].numpy(), bins=80, density=True, color="#1f6feb")
            axes.set(xlabel="x", ylabel="density")
            return
        axes.scatter(x[:, 0], x[:, 1], s=2, alpha=0.5, lw=0, color="#1f6feb")
        axes.set_aspect("equal")
        axes.set(xlabel="coordinate 0", ylabel="coordinate 1")

    caption = f"{len(x)} rows of the composed law, drawn by their weights; first two coordinates."
    return Figure("cloud", "Samples", caption, draw, (5.0, 5.0))


def _on(rng: torch.Generator, x: torch.Tensor) -> torch.Generator:
    if x.device.type == "cpu":
        return rng
    return torch.Generator(device=x.device).manual_seed(0)
