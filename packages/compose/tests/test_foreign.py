"""Strangers' networks: facts of tables, calls, roundings, fused attention, and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from genpath import Euclidean, TimeGrid
from genpath.errors import CapabilityError, DomainError
from genpath.samplers import Euler, integrate
from genpath.schedules import Scalar
from genpath_compose.dynamics import Composed
from genpath_compose.experts import DiffusionExpert
from genpath_compose.exponents import Exponent
from genpath_compose.foreign import ForeignExpert, denoiser_expert, noise_predictor
from genpath_compose.snr import (
    SnrSchedule,
    alphas_cumprod,
    cosine_betas,
    karras_schedule,
    linear_betas,
    scaled_linear_betas,
    table_schedule,
)

DOUBLE = torch.float64
TABLE = alphas_cumprod(linear_betas())
SHORT = alphas_cumprod(linear_betas(11, 0.01, 0.5))


@dataclass
class Output:
    """What diffusers' networks return: a value with a field, read by its name."""

    sample: Tensor

    def __getitem__(self, name: str) -> Tensor:
        return getattr(self, name)


class Convolutions(nn.Module):
    """An ε-network in the calling convention of diffusers' UNets."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        self.clock = nn.Linear(1, channels)
        self.calls = 0

    def forward(self, sample: Tensor, timestep: Tensor) -> Output:
        self.calls += 1
        hidden = self.first(sample) + self.clock(timestep[:, None].to(sample) / 10)[..., None, None]
        return Output(self.last(torch.tanh(hidden)))


class Attention(nn.Module):
    """One fused attention over four tokens."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.query = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        q, k, v = self.query(x).reshape(len(x), 1, x.shape[1], -1).chunk(3, -1)
        return scaled_dot_product_attention(q, k, v)[:, 0]


def normal_network(std: float, table: Tensor) -> Any:
    """E[ε | x] for data N(0, std²), on whole steps or fractions of them."""
    schedule, last = table_schedule(table), len(table) - 1

    def network(x: Tensor, step: Tensor) -> Tensor:
        alpha, beta, _ = (c[:, None] for c in schedule.coefficients(1 - step.to(x) / last))
        return alpha * x / (alpha**2 + beta**2 * std**2)

    return network


# -- tables ----------------------------------------------------------------------------------------


def test_published_tables_keep_their_known_signal():
    assert float(TABLE[0]) == 1 - 1e-4
    assert float(TABLE[-1]) == pytest.approx(4.0358e-5, rel=1e-4)
    assert float(alphas_cumprod(scaled_linear_betas())[-1]) == pytest.approx(0.00466, rel=1e-3)
    betas = cosine_betas()
    assert float(betas[0]) == pytest.approx(4.1284e-5, rel=1e-3) and float(betas[-1]) == 0.999
    u = torch.arange(1, 999, dtype=DOUBLE) / 1000  # before the last β is cut
    signal = torch.cos(0.5 * torch.pi * (u + 0.008) / 1.008) ** 2
    signal = signal / torch.cos(torch.tensor(0.5 * torch.pi * 0.008 / 1.008, dtype=DOUBLE)) ** 2
    torch.testing.assert_close(alphas_cumprod(betas)[:998], signal, rtol=1e-9, atol=0)


def test_the_grid_of_a_schedule_stands_on_whole_steps():
    schedule = table_schedule(TABLE)
    grid = schedule.grid(70)
    steps = schedule.step(torch.tensor(grid.times, dtype=DOUBLE))
    assert len(grid.times) == 71 and grid.times[0] == 0 and grid.times[-1] == 1
    assert float((steps - steps.round()).abs().max()) < 1e-9
    assert len(schedule.grid(5000).times) == 1000


@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
def test_two_steps_are_a_table(interpolation):
    schedule = table_schedule([0.9, 0.1], interpolation)
    snr = schedule.log_snr(torch.tensor([0.0, 0.5, 1.0], dtype=DOUBLE))
    torch.testing.assert_close(snr, 2.1972245773362196 * torch.tensor([-1.0, 0.0, 1.0]).double())


def test_a_cubic_rate_is_continuous_and_a_linear_one_jumps():
    ends = torch.tensor([0.7 - 1e-9, 0.7 + 1e-9], dtype=DOUBLE)  # a step of the table of 11
    gaps = [
        float(table_schedule(SHORT, kind).log_snr.rate(ends).diff().abs())
        for kind in ("cubic", "linear")
    ]
    assert gaps[0] < 1e-5 < 0.1 < gaps[1]


def test_the_ends_of_the_karras_levels():
    levels = karras_schedule(0.01, 50.0).noise_level(torch.tensor([0.0, 1.0], dtype=DOUBLE))
    torch.testing.assert_close(levels, torch.tensor([50.0, 0.01], dtype=DOUBLE))


def test_the_affine_schedule_declares_that_it_is_truncated():
    boundary = table_schedule(TABLE).affine.boundary
    assert not boundary.exact and boundary.base_variance == 1.0
    assert boundary.start["beta"] == pytest.approx(float(TABLE[-1]) ** 0.5)
    assert boundary.end["alpha"] == pytest.approx(0.01)


# -- calls -----------------------------------------------------------------------------------------


def test_one_network_call_gives_all_fields_of_images():
    network = Convolutions()
    expert = noise_predictor(network, SHORT, (1, 6, 6))
    t, x = torch.rand(3), torch.randn(3, 1, 6, 6)
    names = ("velocity", "score", "velocity_divergence", "score_divergence")
    found = expert.fields(names, t, x, torch.randn_like(x))
    assert network.calls == 1 and list(found) == list(names)
    assert [tuple(found[n].shape) for n in names] == [(3, 1, 6, 6)] * 2 + [(3,)] * 2
    expert.fields(("velocity", "score"), t, x)
    assert network.calls == 2


def test_the_network_is_told_fractions_or_whole_steps():
    told: list[Tensor] = []

    def network(x: Tensor, step: Tensor) -> Tensor:
        told.append(step)
        return x

    t, x = torch.tensor([0.0, 0.52, 1.0]), torch.ones(3, 1)
    for rounding in ("none", "nearest", "linear"):
        noise_predictor(network, SHORT, (1,), rounding=rounding).score(t, x)
    assert told[0].tolist() == pytest.approx([10.0, 4.8, 0.0], abs=1e-5)
    assert told[1].tolist() == [10, 5, 0] and told[1].dtype == torch.long
    assert told[2].tolist() == [9, 4, 0, 10, 5, 1]


def test_between_steps_two_calls_are_nearer_than_the_nearest():
    t, x = torch.tensor([0.55, 0.65], dtype=DOUBLE), torch.ones(2, 1, dtype=DOUBLE)
    network = normal_network(0.3, SHORT)
    scores = {
        r: noise_predictor(network, SHORT, (1,), rounding=r).score(t, x)
        for r in ("none", "nearest", "linear")
    }
    gaps = {r: float((scores[r] - scores["none"]).abs().max()) for r in ("nearest", "linear")}
    assert 0 < 5 * gaps["linear"] < gaps["nearest"]
    on_grid = torch.tensor([0.3, 0.6], dtype=DOUBLE)
    exact = noise_predictor(network, SHORT, (1,)).score(on_grid, x)
    for rounding in ("nearest", "linear"):
        found = noise_predictor(network, SHORT, (1,), rounding=rounding).score(on_grid, x)
        torch.testing.assert_close(found, exact)


def test_labels_and_learned_variances_are_matters_of_the_call():
    def network(x: Tensor, step: Tensor, label: Tensor) -> Tensor:
        return torch.cat([x * label[:, None], 0 * x], 1)

    def call(network: Any, x: Tensor, step: Tensor) -> Tensor:
        return network(x, step, torch.full((len(x),), 3.0))[:, :2]

    expert = noise_predictor(network, SHORT, (2,), call=call)
    t, x = torch.full((4,), 0.5), torch.randn(4, 2)
    alpha = expert.schedule.coefficients(t)[0][:, None]
    torch.testing.assert_close(expert.score(t, x), -3 * x / alpha)


def test_a_denoiser_is_told_unscaled_states_and_their_noise():
    told: list[Tensor] = []

    def network(y: Tensor, sigma: Tensor) -> Tensor:
        told.extend((y, sigma))
        return y

    denoiser_expert(network, (1,)).score(torch.tensor([0.0]), torch.ones(1, 1))
    assert float(told[0]) == pytest.approx(6401**0.5, rel=1e-4)
    assert float(told[1]) == pytest.approx(80.0, rel=1e-4)


def test_it_is_the_diffusion_expert_of_its_drift_and_noise():
    one = noise_predictor(normal_network(0.5, SHORT), SHORT, (2,))
    other = one.diffusion()
    assert isinstance(other, DiffusionExpert) and other.tail is one.tail
    t, x = torch.rand(5, dtype=DOUBLE), torch.randn(5, 2, dtype=DOUBLE)
    names = ("velocity", "score", "velocity_divergence", "score_divergence")
    for probe in (None, torch.randn(5, 2, dtype=DOUBLE)):
        found, reference = (e.fields(names, t, x, probe) for e in (one, other))
        for name in names:
            torch.testing.assert_close(found[name], reference[name])


def test_no_rows_in_no_rows_out():
    expert = noise_predictor(Convolutions(), SHORT, (1, 4, 4))
    found = expert.fields(("velocity", "score"), torch.ones(0), torch.ones(0, 1, 4, 4))
    assert found["velocity"].shape == (0, 1, 4, 4)


# -- derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("probed", [True, False])
@torch.no_grad()
def test_fused_attention_is_differentiated_in_reverse(probed):
    torch.manual_seed(0)
    network = Attention()
    t, x = torch.rand(3), torch.randn(3, 4, 8)
    probe = torch.randn_like(x) if probed else None
    names = ("velocity_divergence", "score_divergence")
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        with pytest.raises(CapabilityError, match="cannot be differentiated forward"):
            one = noise_predictor(network, SHORT, (4, 8), derivative="forward")
            one.fields(names, t, x, probe)
        found = noise_predictor(network, SHORT, (4, 8)).fields(names, t, x, probe)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        plain = noise_predictor(network, SHORT, (4, 8), derivative="forward")
        reference = plain.fields(names, t, x, probe)
    for name in names:
        torch.testing.assert_close(found[name], reference[name], rtol=1e-4, atol=1e-4)


def test_a_refusal_is_met_once():
    calls = []

    class Blind(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            calls.append(1)
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    expert = noise_predictor(lambda x, step: Blind.apply(x), SHORT, (2,))
    t, x = torch.rand(3), torch.randn(3, 2)
    for _ in range(3):
        expert.fields(("score_divergence",), t, x, torch.randn_like(x))
    assert len(calls) <= 4  # one in vain at most
    with torch.inference_mode():
        found = expert.fields(("score_divergence",), t, x)["score_divergence"]
    torch.testing.assert_close(found, -4 / expert.schedule.coefficients(t)[0])


def test_a_failing_network_is_not_taken_for_a_missing_derivative():
    def network(x: Tensor, step: Tensor) -> Tensor:
        raise RuntimeError("the weights are elsewhere")

    expert = noise_predictor(network, SHORT, (2,))
    with pytest.raises(RuntimeError, match="the weights are elsewhere"):
        expert.fields(("score_divergence",), torch.rand(2), torch.randn(2, 2))


# -- as an expert ----------------------------------------------------------------------------------


def test_two_tables_compose_and_weigh():
    """N(0, .5²)^γ · N(0, .8²) with a bump on γ, tracked by Itô, against the closed form."""
    other = alphas_cumprod(cosine_betas(31, most=0.9))
    first = noise_predictor(normal_network(0.5, SHORT), SHORT, (1,), name="first")
    second = noise_predictor(normal_network(0.8, other), other, (1,), name="second")
    bump = Exponent(1.0, Scalar(lambda t: t * (1 - t), lambda t: 1 - 2 * t))
    composed = Composed(first**bump * second, sigma=0.5)
    rng = torch.Generator().manual_seed(0)
    law, _ = composed.composition.start()
    x = law.sample(20_000, rng).double()
    state = composed.state(x, 0.0, rng)
    with torch.no_grad():
        end = integrate(Euler(), composed.generator(), state, TimeGrid.uniform(400), rng)
    weight = torch.softmax(end.log_weight, 0)
    variance = float((weight * end.state["x"][:, 0] ** 2).sum())
    precisions = []
    for expert, std in ((first, 0.5), (second, 0.8)):
        alpha, beta, _ = expert.schedule.coefficients(torch.ones(1, dtype=DOUBLE))
        precisions.append(1 / float(alpha**2 + beta**2 * std**2))
    # the starts are truncated: at t = 0 the tables keep 3 % and 0.03 % of the power
    assert variance == pytest.approx(1 / sum(precisions), rel=0.03)


def test_the_tail_is_that_of_the_noise():
    expert = noise_predictor(normal_network(0.5, SHORT), SHORT, (1,))
    t = torch.tensor([0.0, 0.5, 1.0], dtype=DOUBLE)
    assert expert.tail is not None and expert.start is not None
    alpha = expert.schedule.coefficients(t)[0]
    torch.testing.assert_close(expert.tail.precisions(t).flatten(), 1 / alpha**2)
    assert expert.start.event_shape == Euclidean(1).event_shape


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([0.9], "two or more numbers"),
        ([0.9, 0.0], "clamp_min"),
        ([1.0, 0.5], "two or more numbers"),
        ([0.9, 0.5, 0.6], "0.5 and 0.6 at steps 1 and 2"),
        (linear_betas(5), "not the β themselves"),
    ],
)
def test_what_is_no_table(table, words):
    with pytest.raises(DomainError, match=words):
        table_schedule(table)


def test_unknown_words_are_refused():
    with pytest.raises(DomainError, match="noise, v, data, score"):
        noise_predictor(None, SHORT, (1,), prediction="velocity")
    with pytest.raises(DomainError, match="none, nearest or linear"):
        noise_predictor(None, SHORT, (1,), rounding="floor")  # type: ignore[arg-type]
    with pytest.raises(DomainError, match="cubic or linear"):
        noise_predictor(None, SHORT, (1,), interpolation="spline")  # type: ignore[arg-type]
    with pytest.raises(DomainError, match="auto, forward, reverse"):
        noise_predictor(None, SHORT, (1,), derivative="both")
    with pytest.raises(DomainError, match="data or noise"):
        denoiser_expert(None, (1,), prediction="v")


def test_schedules_refuse_what_they_are_not():
    with pytest.raises(DomainError, match="does not decrease"):
        SnrSchedule(Scalar(lambda t: -t))
    with pytest.raises(DomainError, match="0 < σ_min < σ_max"):
        karras_schedule(1.0, 0.5)
    with pytest.raises(CapabilityError, match="has no steps"):
        karras_schedule().grid(5)


def test_a_foreign_expert_has_no_density():
    expert = noise_predictor(normal_network(0.5, SHORT), SHORT, (1,))
    assert isinstance(expert, ForeignExpert)
    with pytest.raises(CapabilityError, match="track its log-density"):
        expert.log_prob(torch.rand(1), torch.rand(1, 1))
