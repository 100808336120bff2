"""Claims about what a config names: experts, the resampling transform, and the stage."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genpath import Euclidean, Gaussian, Model
from genpath.samplers import Carry
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, exact, mean
from genpath_interpolants import LinearPath

from .. import components
from ..model_experts import ModelExpert
from ..tails import Tail

__all__ = ["boxes", "gaussian_mixture", "resampling", "reward", "run", "stage"]


def _line(trial: Trial, size: int = 12) -> tuple[Tensor, Tensor]:
    rng = trial.rng()
    t = 0.1 + 0.8 * torch.rand(size, generator=rng, dtype=torch.float64)
    return t, torch.randn(size, 1, generator=rng, dtype=torch.float64)


def _continuity(expert: Any, trial: Trial) -> Iterator[Evidence]:
    """∂_t log q + div v + v·s = 0, and s = ∇log q, each by differentiating log q."""
    t, x = _line(trial)
    names = ("velocity", "score", "velocity_divergence")
    found = expert.fields(names, t, x)
    rate = torch.func.jvp(lambda s: expert.log_prob(s, x), (t,), (torch.ones_like(t),))[1]
    flux = found["velocity_divergence"] + (found["velocity"] * found["score"]).sum(1)
    yield equal("∂_t log q and −div v − v·s", rate, -flux, operations=1e3)
    slope = torch.func.grad(lambda y: expert.log_prob(t, y).sum())(x)
    yield equal("∇log q and s", found["score"], slope, operations=1e3)


def _scaled(name: str) -> Any:
    """The expert with one field × (1 + δ)."""

    def plant(expert: Any, size: float) -> Any:
        plain = expert.fields

        def fields(names: Any, t: Tensor, x: Tensor, probe: Any = None) -> dict[str, Tensor]:
            found = dict(plain(names, t, x, probe))
            if name in found:
                found[name] = (1 + size) * found[name]
            return found

        return but(expert, fields=fields)

    return plant


def _exact(name: str, make: Any, statement: str) -> list[Claim[Any]]:
    controls = [
        dial("velocity × (1 + δ)", _scaled("velocity")),
        dial("score × (1 + δ)", _scaled("score")),
    ]
    return [
        Claim(
            name,
            statement,
            make,
            _continuity,
            controls,
            formula=r"\partial_t q+\nabla\!\cdot(qv)=0,\quad s=\nabla\log q",
            entries=("L8.1",),
            owes="density",
        )
    ]


def gaussian_mixture() -> list[Claim[Any]]:
    """The exact expert of a mixture of normal laws."""
    return _exact(
        "mixture-expert",
        lambda: components.gaussian_mixture(
            [[-1.0], [1.5]], [0.5, 0.8], [0.3, 0.7], "trigonometric"
        ),
        "The expert of a mixture moves its law: density, velocity and score belong together.",
    )


def boxes() -> list[Claim[Any]]:
    """The exact expert of a uniform law on boxes."""
    return _exact(
        "box-expert",
        lambda: components.boxes([[-1.0], [1.0]], [[0.0], [3.0]], None, "variance_preserving"),
        "The expert of boxes moves its law: density, velocity and score belong together.",
    )


def reward() -> list[Claim[Any]]:
    """A factor that does not move."""

    def check(expert: Any, trial: Trial) -> Iterator[Evidence]:
        rng = trial.rng()
        x = torch.randn(9, 2, generator=rng, dtype=torch.float64)
        t = torch.zeros(9, dtype=torch.float64)
        slope = torch.tensor([1.0, -2.0], dtype=torch.float64)
        centre = torch.tensor([0.5, 0.0], dtype=torch.float64)
        yield equal("∇r", expert.score(t, x), slope - 1.5 * (x - centre))
        found = expert.fields(("score_divergence", "velocity"), t, x)
        yield equal("Δr", found["score_divergence"], torch.full_like(t, -3.0))
        far = 1e6 * torch.nn.functional.normalize(x)
        kappa = -2 * expert.log_prob(t, far) / 1e12
        tail = expert.tail.precisions(t)[:, 0, 0]
        yield equal("−2 r(ru)/r² and its tail", kappa, tail, operations=1e11)

    return [
        Claim(
            "quadratic-reward",
            "The reward of a config has the gradient, the Laplacian and the tail of "
            "slope·x − ½ curvature |x − centre|².",
            lambda: components.reward([1.0, -2.0], 1.5, [0.5, 0.0]),
            check,
            [
                dial("score × (1 + δ)", _scaled("score")),
                Control("a flat tail", lambda e: but(e, tail=Tail(_flat))),
            ],
            entries=("L7.19",),
        )
    ]


def _flat(t: Tensor) -> Tensor:
    return torch.zeros_like(t)[:, None, None]


def run() -> list[Claim[Any]]:
    """A trained model as an expert."""

    def make() -> ModelExpert:
        path = LinearPath(Euclidean(1), base="gaussian")
        exact_one = components.gaussian_mixture([[1.0]], [0.5], None, "linear")

        def denoiser(t: Tensor, x: Any) -> Tensor:
            found: Tensor = exact_one.marginal.fields(("denoiser",), t, x)["denoiser"]
            return found

        return ModelExpert(Model(denoiser, path, Gaussian((1,)), "denoiser"))

    def check(expert: Any, trial: Trial) -> Iterator[Evidence]:
        t, x = _line(trial)
        names = ("velocity", "score", "velocity_divergence", "score_divergence")
        found = expert.fields(names, t, x)
        true = components.gaussian_mixture([[1.0]], [0.5], None, "linear").fields(names, t, x)
        for name in names:
            yield equal(name, found[name], true[name], operations=1e3)

    return [
        Claim(
            "model-expert",
            "A model that predicts a denoiser gives, as an expert, the velocity, the score and "
            "their divergences of the law that it knows, from one call.",
            make,
            check,
            [
                dial("velocity × (1 + δ)", _scaled("velocity")),
                dial("div s × (1 + δ)", _scaled("score_divergence")),
            ],
            entries=("L7.27",),
        )
    ]


def resampling() -> list[Claim[Any]]:
    """The transform between two steps."""

    def check(transform: Any, trial: Trial) -> Iterator[Evidence]:
        rng, n = trial.rng(), 4000
        x = torch.randn(n, generator=rng, dtype=torch.float64)
        carry = Carry({"x": x, "row": torch.arange(n)}, 1.5 * x)
        true = float((torch.softmax(1.5 * x, 0) * x).sum())
        found = [transform(carry, 0.5, rng) for _ in range(trial.count(40, 20))]
        means = torch.stack([f.state["x"].mean() for f in found])
        yield mean("mean of the new rows", means, true)
        yield exact(
            "facts move with their rows",
            bool(torch.equal(x[found[0].state["row"]], found[0].state["x"])),
        )
        yield exact("weights begin again", float(found[0].log_weight.abs().max()), 0.0)

    def shuffled(transform: Any) -> Any:
        def call(carry: Carry, t: float, rng: torch.Generator) -> Carry:
            new: Carry = transform(carry, t, rng)
            return replace(new, state={**new.state, "row": carry.state["row"]})

        return call

    return [
        Claim(
            "resample-transform",
            "The transform replaces weights by copies: the weighted mean stays on average, and "
            "everything that belongs to a row moves with it.",
            lambda: components.resample("systematic", 0.9, "ess", (0.0, 1.0)),
            check,
            [Control("a fact that is left behind", shuffled)],
            entries=("X15", "L7.22"),
        )
    ]


CONFIG = """
precision: float64
stages:
  - name: compose.sample
    experts:
      top: {{name: compose.gaussian_mixture, means: [[1.0]], schedule: trigonometric}}
      bottom: {{name: compose.gaussian_mixture, means: [[0.4]], schedule: linear}}
    product: {product}
    policy: {policy}
    margin: 0.1
    sigma: 0.8
    steps: 60
    count: 200
"""


def stage() -> list[Claim[Any]]:
    """The stage: the certificate of a config decides what happens."""

    def runs(text: str) -> tuple[str, dict[str, float]]:
        from rich.console import Console

        from genpath.config import Config
        from genpath.errors import GenpathError
        from genpath.run.commands import run_config

        with tempfile.TemporaryDirectory() as folder:
            console = Console(file=io.StringIO())
            try:
                done = run_config(Config.from_yaml(text), Path(folder) / "run", console)
            except GenpathError as error:
                return f"{type(error).__name__}: {error}", {}
            return "", done.metrics()["metrics"]

    def check(text: str, trial: Trial) -> Iterator[Evidence]:
        refused, _ = runs(text.format(product="top / bottom ** 0.7", policy="error"))
        yield exact("a path that collapses is refused", "PathCollapseError" in refused)
        _, found = runs(text.format(product="top / bottom ** 0.7", policy="repair"))
        yield exact("repaired up to its margin", abs(found.get("compose/min_c", 0) - 0.1) < 2e-3)
        _, fine = runs(text.format(product="top / bottom ** 0.4", policy="error"))
        yield exact("a path that exists is sampled", fine.get("compose/min_c", -1) > 0)

    return [
        Claim(
            "stage-certifies",
            "The stage samples nothing whose path is not certified, unless the config says so, and "
            "repairs it up to the margin that the config asks for.",
            lambda: CONFIG,
            check,
            [
                Control(
                    "a margin of zero",
                    lambda text: text.replace("margin: 0.1", "margin: 0.0"),
                )
            ],
            entries=("L7.28", "L8.5"),
        )
    ]
