r"""Strangers' networks against exact fields, automatic differentiation and forward derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from genpath.divergences import exact_divergence
from genpath.schedules import Scalar
from genpath.spaces import Euclidean
from genpath.testing import Claim, Control, Evidence, Trial, at_most, but, dial, equal, mean
from genpath_interpolants import GaussianMixture, LinearPath, MixtureMarginal

from ..foreign import PREDICTIONS, ForeignExpert, denoiser_expert, noise_predictor
from ..snr import SnrSchedule, alphas_cumprod, cosine_betas, linear_betas, table_schedule

__all__ = ["claims"]

DOUBLE = torch.float64
PLANE = Euclidean(2)
TABLE = alphas_cumprod(linear_betas(40, 1e-3, 0.3))


def claims() -> tuple[Claim[Any], ...]:
    """Those of this file."""
    return (tables(), conversions(), noised(), denoisers(), reversed_derivatives())


def mixture() -> GaussianMixture:
    """Three components of different widths."""
    means = torch.tensor([[1.0, -0.5], [-1.2, 0.3], [0.2, 1.4]], dtype=DOUBLE)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
    return GaussianMixture(weights, means, torch.tensor([0.4, 0.7, 0.3], dtype=DOUBLE))


def marginal(schedule: SnrSchedule) -> MixtureMarginal:
    """The exact marginal of the mixture on the path of a schedule."""
    return MixtureMarginal(LinearPath(PLANE, schedule.affine, base="gaussian"), mixture())


def places(trial: Trial, count: int = 64) -> tuple[Tensor, Tensor]:
    """Times in (0.02, 0.98) and points."""
    rng = trial.rng("places")
    t = 0.02 + 0.96 * torch.rand(count, generator=rng, dtype=DOUBLE)
    return t, 1.5 * torch.randn(count, 2, generator=rng, dtype=DOUBLE)


# -- tables ----------------------------------------------------------------------------------------


def tables() -> Claim[Callable[..., SnrSchedule]]:
    """The table at its steps, and rates by automatic differentiation."""

    def check(build: Callable[..., SnrSchedule], trial: Trial) -> Iterator[Evidence]:
        for name, betas in (("linear", linear_betas(60)), ("cosine", cosine_betas(60))):
            product, running = 1.0, []
            for beta in betas.tolist():
                product *= 1 - beta
                running.append(product)
            for kind in ("cubic", "linear"):
                schedule = build(torch.tensor(running, dtype=DOUBLE), kind)
                where = f"{name} β, {kind}"
                t = torch.tensor([schedule.time(k) for k in range(60)], dtype=DOUBLE)
                alpha, beta, _ = schedule.coefficients(t)
                yield equal(f"{where}: ᾱ", beta**2, running, operations=1024)
                yield equal(f"{where}: 1 − ᾱ", alpha**2, [1 - a for a in running], operations=1024)
                s, _ = places(trial)
                slope = torch.func.jvp(schedule.log_snr, (s,), (torch.ones_like(s),))[1]
                yield equal(f"{where}: λ̇", schedule.log_snr.rate(s), slope, operations=4096)
                yield at_most(f"{where}: −λ̇", -schedule.log_snr.rate(s), 0.0, "monotone")
                for part in (schedule.affine.alpha, schedule.affine.beta):
                    slope = torch.func.jvp(part.value, (s,), (torch.ones_like(s),))[1]
                    yield equal(f"{where}: rates", part.rate(s), slope, operations=4096)

    def late(build: Any, size: float) -> Any:
        """A clock that is late by a part of a step."""

        def built(signal: Tensor, kind: str) -> SnrSchedule:
            right: SnrSchedule = build(signal, kind)
            shift = size / (len(signal) - 1)
            curve = Scalar(lambda t: right.log_snr((t - shift).clamp_min(0)), right.log_snr.rate)
            return replace(right, log_snr=curve)

        return built

    def fast(build: Any, size: float) -> Any:
        def built(signal: Tensor, kind: str) -> SnrSchedule:
            right: SnrSchedule = build(signal, kind)
            rate = right.log_snr.rate
            return replace(right, log_snr=Scalar(right.log_snr, lambda t: (1 + size) * rate(t)))

        return built

    return Claim(
        "table",
        "The schedule of a table has its signal powers at its steps, and the rates of what it is "
        "between them.",
        lambda: table_schedule,
        check,
        (dial("δ of a step late", late), dial("λ̇ × (1 + δ)", fast, 0.5)),
        formula=r"\beta^2(t_k)=\bar\alpha_k,\quad t_k=1-\tfrac{k}{N-1}",
        owes="existence",
    )


# -- predictions -----------------------------------------------------------------------------------

Build = Callable[[str], ForeignExpert]


def on_steps(prediction: str) -> ForeignExpert:
    """The exact predictions of the mixture, as a network on steps."""
    schedule = table_schedule(TABLE)
    law, last = marginal(schedule), len(TABLE) - 1

    def network(x: Tensor, step: Tensor) -> Tensor:
        t = 1 - step / last
        found = law.fields(("base_denoiser", "denoiser", "score"), t, x)
        alpha, beta = (c(t)[:, None] for c in (schedule.affine.alpha, schedule.affine.beta))
        return {
            "noise": found["base_denoiser"],
            "v": beta * found["base_denoiser"] - alpha * found["denoiser"],
            "data": found["denoiser"],
            "score": found["score"],
        }[prediction]

    return noise_predictor(network, TABLE, (2,), prediction=prediction, name=prediction)


def altered(name: str, fault: Callable[..., Tensor], size: float = 0.5) -> Control[Build]:
    """ε replaced by ``fault(t, x, expert, δ)``."""

    def plant(build: Build, size: float) -> Build:
        def built(prediction: str) -> ForeignExpert:
            right = build(prediction)
            return but(right, noise=lambda t, x: fault(t, x, right, size))

        return built

    return dial(name, plant, size)


def conversions() -> Claim[Build]:
    """Velocity, score and divergences of every prediction, against the exact marginal."""

    def check(build: Build, trial: Trial) -> Iterator[Evidence]:
        t, x = places(trial)
        law = marginal(table_schedule(TABLE))
        exact = law.fields(("velocity", "score"), t, x)
        names = ("velocity", "score", "velocity_divergence", "score_divergence")
        for prediction in PREDICTIONS:
            found = build(prediction).fields(names, t, x)
            for name in ("velocity", "score"):
                what = f"{prediction}: {name}"
                yield equal(what, found[name], exact[name], operations=1e5)
                div = exact_divergence(PLANE, law.field(name), t, x)[1]
                what, value = f"{what}_divergence", found[f"{name}_divergence"]
                yield equal(what, value, div, operations=1e6)

    def flipped(t: Tensor, x: Tensor, expert: ForeignExpert, size: float) -> Tensor:
        """v-prediction of ε with the sign of the other term wrong."""
        alpha = expert.schedule.coefficients(t)[0][:, None]
        return expert.noise(t, x) - size * alpha * x * (expert.name == "v")

    return Claim(
        "predictions",
        "A network that predicts noise, v, data or score on the steps of a table is the expert of "
        "one law path: its velocity, score and divergences are those of the exact marginal.",
        lambda: on_steps,
        check,
        (
            altered("ε × (1 + δ)", lambda t, x, e, d: (1 + d) * e.noise(t, x)),
            altered("v: the term α x × (1 − δ)", flipped, 1.0),
        ),
        formula=r"v=\tfrac12\dot\lambda\,\alpha(\alpha x-\varepsilon),\quad s=-\varepsilon/\alpha",
        entries=("L7.13",),
        owes="reverse",
    )


def noised() -> Claim[ForeignExpert]:
    """The equation of the noising process, with ∂_t log q by automatic differentiation."""

    def check(one: ForeignExpert, trial: Trial) -> Iterator[Evidence]:
        t, x = places(trial)
        law = marginal(one.schedule)
        rate = torch.func.jvp(lambda s: law.log_prob(s, x), (t,), (torch.ones_like(t),))[1]
        found = one.fields(("velocity", "score", "score_divergence"), t, x)
        s, half = found["score"], 0.5 * one.sigma(t) ** 2
        f, div_f = exact_divergence(PLANE, cast(Any, one.drift), t, x)
        change = div_f + (f * s).sum(1) - half * (found["score_divergence"] + s.square().sum(1))
        size = float(rate.abs().max())
        yield equal("∂_t log q", change, rate, operations=1e5, scale=size)
        flow = half[:, None] * s - f
        yield equal("v = −f + ½σ²s", flow, found["velocity"], operations=1e4)

    def drifted(one: ForeignExpert, size: float) -> ForeignExpert:
        return but(one, drift=lambda t, x: (1 + size) * one.drift(t, x))

    def louder(one: ForeignExpert, size: float) -> ForeignExpert:
        return but(one, sigma=lambda t: (1 + size) * one.sigma(t))

    return Claim(
        "noising",
        "Drift and noise of a stranger's expert are those of a noising process that its law path "
        "solves.",
        lambda: on_steps("noise"),
        check,
        (dial("f × (1 + δ)", drifted, 0.5), dial("σ × (1 + δ)", louder, 0.5)),
        formula=r"\partial_t\log q=\nabla\!\cdot\!f+f\!\cdot\!s-\tfrac{\sigma^2}{2}"
        r"(\nabla\!\cdot\!s+|s|^2)",
        entries=("L7.12",),
        owes="density",
    )


# -- noise levels ----------------------------------------------------------------------------------


def posterior_mean(y: Tensor, sigma: Tensor) -> Tensor:
    """E[x1 | x1 + σ z = y] of the mixture, written out for data that are not shrunk."""
    law = mixture()
    std = law.stds[:, 0]
    wide = std**2 + sigma[:, None] ** 2  # (batch, k)
    gap = y[:, None] - law.means
    logits = law.weights.log() - 0.5 * gap.square().sum(2) / wide - wide.log()
    means = law.means + (std**2 / wide)[..., None] * gap
    found: Tensor = (torch.softmax(logits, 1)[..., None] * means).sum(1)
    return found


def denoisers() -> Claim[Any]:
    """A denoiser of noise levels, its score in the coordinates of the data."""

    def network(prediction: str) -> Callable[[Tensor, Tensor], Tensor]:
        if prediction == "data":
            return posterior_mean
        return lambda y, sigma: (y - posterior_mean(y, sigma)) / sigma[:, None]

    def make(call: Any = None) -> dict[str, ForeignExpert]:
        return {n: denoiser_expert(network(n), (2,), prediction=n) for n in ("data", "noise")}

    def check(experts: dict[str, ForeignExpert], trial: Trial) -> Iterator[Evidence]:
        t, x = places(trial)
        for name, one in experts.items():
            sigma = (80 ** (1 / 7) + t * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
            y = x * (1 + sigma**2).sqrt()[:, None]
            # Tweedie in y, and the change of coordinates y = x/β
            there = (posterior_mean(y, sigma) - y) / sigma[:, None] ** 2
            reference = there * (1 + sigma**2).sqrt()[:, None]
            scale = float(reference.abs().max())
            yield equal(f"{name}: score", one.score(t, x), reference, operations=1e5, scale=scale)
            exact = marginal(one.schedule).velocity(t, x)
            scale = float(exact.abs().max())
            yield equal(f"{name}: velocity", one.velocity(t, x), exact, operations=1e5, scale=scale)

    def plant(experts: dict[str, ForeignExpert], size: float) -> dict[str, ForeignExpert]:
        """The state is not scaled to what the network knows."""

        def fault(one: ForeignExpert) -> ForeignExpert:
            def noise(t: Tensor, x: Tensor) -> Tensor:
                alpha, beta, _ = (c[:, None] for c in one.schedule.coefficients(t))
                mean = posterior_mean(x / beta**size, (alpha / beta)[:, 0])
                return (x - beta * mean) / alpha

            return but(one, noise=noise)

        return {name: fault(one) for name, one in experts.items()}

    def factor(experts: dict[str, ForeignExpert], size: float) -> dict[str, ForeignExpert]:
        return {
            n: but(one, noise=lambda t, x, one=one: (1 + size) * one.noise(t, x))
            for n, one in experts.items()
        }

    return Claim(
        "denoiser",
        "A denoiser of x1 + σ z is the expert of the path x = (x1 + σ z)/√(1+σ²): its score is "
        "that of Tweedie in the other coordinates.",
        make,
        check,
        (
            dial("y = x/β^(1−δ)", lambda e, d: plant(e, 1 - d), 0.5),
            dial("ε × (1 + δ)", factor, 0.5),
        ),
        formula=r"\nabla\log q_t(x)=\sqrt{1+\sigma^2}\,\frac{D(y,\sigma)-y}{\sigma^2}",
        owes="reverse",
    )


# -- derivatives in reverse ------------------------------------------------------------------------


class Opaque(torch.autograd.Function):
    """tanh(x W) that has a backward derivative and no forward one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        out = torch.tanh(x @ weight)
        ctx.save_for_backward(out, weight)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        out, weight = ctx.saved_tensors
        return (grads[0] * (1 - out**2)) @ weight.T, None


def reversed_derivatives() -> Claim[ForeignExpert]:
    """Divergences by backward passes: those of forward ones, and their mean over probes."""
    weight = torch.tensor([[0.7, -1.1], [0.4, 0.9]], dtype=DOUBLE)

    def expert(network: Callable[[Tensor, Tensor], Tensor]) -> ForeignExpert:
        return noise_predictor(network, TABLE, (2,))

    def make() -> ForeignExpert:
        return expert(lambda x, step: cast(Any, Opaque).apply(x, weight))

    def check(one: ForeignExpert, trial: Trial) -> Iterator[Evidence]:
        t, x = places(trial, 32)
        names = ("velocity", "velocity_divergence", "score_divergence")
        open_one = replace(expert(lambda x, step: torch.tanh(x @ weight)), derivative="forward")
        probe = torch.randn(x.shape, generator=trial.rng("probe"), dtype=DOUBLE)
        for words, along in (("exact", None), ("along a probe", probe)):
            found, reference = (e.fields(names, t, x, along) for e in (one, open_one))
            for name in names:
                yield equal(f"{words}: {name}", found[name], reference[name], operations=1e4)
        count = trial.count(40_000)
        many = torch.randn(count, 2, generator=trial.rng("probes"), dtype=DOUBLE)
        at = (t[:1].expand(count), x[:1].expand(count, 2))
        draws = one.fields(("score_divergence",), *at, many)["score_divergence"]
        # tr ∂tanh(xW) = Σ_k (1 − tanh²(xW)_k) W_kk
        trace = ((1 - torch.tanh(x[0] @ weight) ** 2) * weight.diagonal()).sum()
        alpha = one.schedule.coefficients(t[:1])[0]
        yield mean("E over probes", draws, float(-trace / alpha))

    def scaled(one: ForeignExpert, size: float) -> ForeignExpert:
        def derived(t: Tensor, x: Tensor, probe: Tensor | None) -> tuple[Tensor, Tensor]:
            eps, div = one._derived(t, x, probe)
            return eps, (1 + size) * div

        return but(one, _derived=derived)

    def other(one: ForeignExpert) -> ForeignExpert:
        """Another probe on the left than on the right."""

        def derived(t: Tensor, x: Tensor, probe: Tensor | None) -> tuple[Tensor, Tensor]:
            if probe is None:
                return one._derived(t, x, probe)
            eps, div = one._derived(t, x, probe.abs())
            return eps, div

        return but(one, _derived=derived)

    return Claim(
        "reverse-derivative",
        "Of a network without forward derivative, divergences by backward passes are those of "
        "forward ones, exact or along a probe, and the latter have the exact one as their mean.",
        make,
        check,
        (dial("div ε × (1 + δ)", scaled, 0.5), Control("|ξ| in place of ξ", other)),
        formula=r"\langle\xi,J\xi\rangle=\langle J^{\top}\xi,\xi\rangle,\quad "
        r"\mathbb E\langle\xi,J\xi\rangle=\operatorname{tr}J",
    )
