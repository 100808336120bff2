"""Samplers: what they carry, refuse and build, in every dtype and for no rows."""

import importlib

import pytest
import torch

from genpath.errors import CapabilityError, ConfigError, DomainError, NumericalError
from genpath.generators import MarkovGenerator, flow
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.likelihoods import ODELikelihood, SolvedFlow
from genpath.models import ODE, Model
from genpath.noises import FactorNoise, ScalarNoise
from genpath.parts import Parts
from genpath.plugins import registry
from genpath.samplers import Euler, RungeKutta, integrate
from genpath.spaces import Euclidean, Product
from genpath_interpolants.adaptive import Adaptive, Calls
from genpath_interpolants.dynamics import DiffusiveSDE, Vanishing
from genpath_interpolants.paths import LinearPath
from genpath_interpolants.samplers import (
    Denoising,
    FinalDenoising,
    StochasticHeun,
    clipped,
    cosine,
    power,
)
from genpath_interpolants.schedules import (
    encoding_decoding_schedule,
    linear_schedule,
    mirror_schedule,
)

SAMPLERS = (StochasticHeun(), Denoising(), FinalDenoising(RungeKutta()), Adaptive())


def model(*shape, gamma="none", predict="velocity"):
    path = LinearPath(Euclidean(*shape), linear_schedule(gamma), "gaussian")
    return Model(lambda t, x: -x, path, Gaussian(shape), predict)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_keep_shape_and_dtype(sampler, shape, dtype, rng):
    gen = model(*shape).generator(ODE())
    for count in (3, 0):
        x = torch.randn(count, *shape, generator=rng, dtype=dtype)
        end = integrate(sampler, gen, x, (0.0, 0.5, 1.0), rng).state
        assert end.shape == x.shape and end.dtype == dtype and torch.isfinite(end).all()


def test_heun_moves_the_leaves_of_a_product_and_keeps_facts(rng):
    space = Product({"a": Euclidean(2), "b": Euclidean()})
    noise = FactorNoise({"a": ScalarNoise(1.0)})  # b has none

    def parts(t, state):
        return Parts({"a": -state["a"], "b": torch.ones_like(state["b"])}, noise)

    gen = MarkovGenerator(space, parts, {"velocity", "diffusion"})
    label = torch.tensor([3, 4])
    state = {"a": torch.zeros(2, 2), "b": torch.zeros(2), "label": label}
    end = integrate(StochasticHeun(), gen, state, TimeGrid.uniform(4), rng).state
    assert (end["a"] != 0).all() and torch.equal(end["label"], label)
    torch.testing.assert_close(end["b"], torch.ones(2))


def test_heun_refuses_curved_spaces(rng):
    gen = flow(Euclidean(1), lambda t, x: -x)
    integrate(StochasticHeun(), gen, torch.ones(1, 1), (0.0, 1.0), rng)
    sphere = type("Sphere", (), {"__getattr__": lambda self, name: None})()
    bent = MarkovGenerator(sphere, gen.evaluate, gen.has)
    with pytest.raises(CapabilityError, match="needs a flat space"):
        integrate(StochasticHeun(), bent, torch.ones(1, 1), (0.0, 1.0), rng)


def test_denoising_refuses_what_it_does_not_know(rng):
    x = torch.ones(2, 1)
    with pytest.raises(CapabilityError, match="without origin"):
        integrate(Denoising(), flow(Euclidean(1), lambda t, x: x), x, (0.0, 1.0), rng)
    with pytest.raises(CapabilityError, match="diffusion"):
        gen = model(1).generator(DiffusiveSDE(Vanishing(1.0)))
        integrate(Denoising(), gen, x, (0.0, 1.0), rng)
    path = LinearPath(Euclidean(1), linear_schedule("sqrt"))
    with pytest.raises(CapabilityError, match="no rule leads"):
        gen = ODE().generator(path, "velocity", lambda t, x: x)
        integrate(Denoising(), gen, x, (0.0, 1.0), rng)

    class Other:
        space, rules, schedule = Euclidean(1), (), None

    with pytest.raises(CapabilityError, match="spatially linear"):
        gen = ODE().generator(Other(), "velocity", lambda t, x: x)
        integrate(Denoising(), gen, x, (0.0, 1.0), rng)


def test_denoising_takes_joint_predictions_and_a_mirror_path(rng):
    path = LinearPath(Euclidean(1), linear_schedule("sqrt"))
    both = lambda t, x: torch.stack((-x, 0 * x), 1)  # noqa: E731
    gen = ODE().generator(path, "velocity+noise", both)
    end = integrate(Denoising(), gen, torch.ones(2, 1), (0.0, 0.5, 1.0), rng).state
    assert torch.isfinite(end).all()
    mirror = LinearPath(Euclidean(1), mirror_schedule())
    score = lambda t, x: -x  # noqa: E731
    gen = ODE().generator(mirror, "score", score)
    x = torch.ones(2, 1)
    end = integrate(Denoising(), gen, x, (0.25, 0.5), rng).state
    # x1 + γ z: denoiser x + γ² s, noise −γ s
    variance = torch.tensor([0.25 * 0.75, 0.25])
    known = x - variance[0] * x + (variance[0] * variance[1]).sqrt() * x
    torch.testing.assert_close(end, known)


def test_the_data_mean_is_of_the_states_dtype_and_form(rng):
    gen = model(2, predict="base_denoiser").generator(ODE())
    mean, x = torch.tensor([1.0, -1.0], dtype=torch.float64), torch.zeros(3, 2)
    end = integrate(Denoising(mean), gen, x, (0.0, 0.25), rng).state
    torch.testing.assert_close(end, 0.25 * mean.float().expand(3, 2))


def test_final_denoising_takes_the_parts_of_its_sampler():
    assert FinalDenoising(Euler()).carries == {"velocity", "diffusion"}
    assert FinalDenoising(RungeKutta()).carries == {"velocity"}
    assert FinalDenoising(RungeKutta()).order == 2


# -- error control ---------------------------------------------------------------------------------


def test_adaptive_solves_likelihoods_as_a_fixed_grid_does(rng):
    m = model(2)
    data = torch.randn(5, 2, generator=rng)
    fixed = ODELikelihood(steps=200)(m, data, rng).value
    calls = Calls()
    found = ODELikelihood(Adaptive(1e-6, 1e-6, calls=calls), steps=1)(m, data, rng).value
    torch.testing.assert_close(found, fixed, atol=1e-4, rtol=0)
    assert 7 <= calls.evaluations < 100


def test_adaptive_takes_probes_as_facts(rng):
    solve = SolvedFlow(model(2).generator(ODE()), Adaptive(), 1, "hutchinson")
    x, log_det = solve(0.0, 1.0, torch.randn(4, 2, generator=rng), rng)
    assert x.shape == (4, 2) and log_det.shape == (4,)


def test_the_largest_error_costs_more_than_the_mean(rng):
    gen = flow(Euclidean(1), lambda t, x: torch.sin(6 * x) * (1 + t)[:, None])
    x, counts = torch.linspace(-3, 3, 400, dtype=torch.float64)[:, None], []
    for norm in ("rms", "max"):
        calls = Calls()
        integrate(Adaptive(1e-7, 1e-7, norm=norm, calls=calls), gen, x, (0.0, 1.0), rng)
        counts.append(calls.evaluations)
    assert counts[0] < counts[1]


def test_a_first_step_saves_the_search(rng):
    gen, counts = flow(Euclidean(1), lambda t, x: 0.1 * x), []
    for first in (None, 1.0):
        calls = Calls()
        integrate(Adaptive(first_step=first, calls=calls), gen, torch.ones(1, 1), (0.0, 1.0), rng)
        counts.append(calls.evaluations)
    assert counts[1] == 7 < counts[0]


def test_too_many_steps_are_refused(rng):
    gen = flow(Euclidean(1), lambda t, x: torch.sin(200 * t)[:, None] + 0 * x)
    with pytest.raises(NumericalError, match="at most 3 steps"):
        integrate(Adaptive(1e-8, 1e-8, max_steps=3), gen, torch.ones(1, 1), (0.0, 1.0), rng)


def test_adaptive_refuses_noise_and_wrong_options(rng):
    gen = model(1, gamma="sqrt").generator(DiffusiveSDE(0.5))
    with pytest.raises(CapabilityError, match="diffusion"):
        integrate(Adaptive(), gen, torch.ones(1, 1), (0.0, 1.0), rng)
    with pytest.raises(DomainError, match="tolerances are positive"):
        Adaptive(atol=0.0)
    with pytest.raises(DomainError, match="rms or max"):
        Adaptive(norm="mean")


def test_what_to_install_is_said(monkeypatch):
    known = importlib.import_module

    def without(name, *rest):
        if name == "torchdiffeq":
            raise ImportError(name)
        return known(name, *rest)

    monkeypatch.setattr("genpath_interpolants.adaptive.import_module", without)
    with pytest.raises(CapabilityError, match=r"genpath-interpolants\[adaptive\]"):
        Adaptive()


# -- grids and configs -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda n: power(n, 1.5), cosine, lambda n: clipped(n, 0.1, 0.9)])
def test_grids_have_their_steps_and_refuse_none(make):
    assert len(make(1)) == 2 and len(make(7)) == 8
    with pytest.raises(DomainError, match="at least one step"):
        make(0)


def test_grids_refuse_their_limits():
    with pytest.raises(DomainError, match="exponent is positive"):
        power(4, 0.0)
    with pytest.raises(DomainError, match="0 < start < end < 1"):
        clipped(4, 0.0, 0.9)
    assert power(4, 2.0, 1.0, 0.0).times == (1.0, 0.9375, 0.75, 0.4375, 0.0)


def test_models_and_likelihoods_step_on_kinks():
    path = LinearPath(Euclidean(1), encoding_decoding_schedule())
    seen = []

    def field(t, x):
        seen.append(float(t[0]))
        return -x

    m = Model(field, path, Gaussian((1,)))
    m.sample(2, ODE(), Euler(), TimeGrid.uniform(3), torch.Generator())
    assert seen == pytest.approx([0.0, 1 / 3, 0.5, 2 / 3])
    seen.clear()
    SolvedFlow(m.generator(ODE()), Euler(), 3)(1.0, 0.0, torch.ones(1, 1), torch.Generator())
    assert seen == pytest.approx([1.0, 2 / 3, 0.5, 1 / 3])


def build(name, **options):
    return registry().get("sampler", f"interpolants.{name}").build(options)


def test_a_config_builds_the_samplers():
    heun = build("stochastic_heun", steps=4, exponent=2.0)
    assert heun.sampler == StochasticHeun() and heun.grid == power(4, 2.0) and heun.calls == 8
    assert build("denoising", steps=3, start=0.1).grid == TimeGrid.uniform(3, 0.1)
    final = build("final_denoising", solver={"name": "euler", "steps": 2, "end": 0.9})
    assert final.sampler == FinalDenoising(Euler()) and final.grid.times == (0.0, 0.45, 0.9, 1.0)
    nested = {"name": "interpolants.stochastic_heun", "steps": 2, "end": 0.9}
    assert build("final_denoising", solver=nested).sampler == FinalDenoising(StochasticHeun())
    solver = build("adaptive", rtol=1e-3)
    assert solver.sampler == Adaptive(rtol=1e-3) and solver.grid.times == (0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("final_denoising", {"solver": {"name": "heun"}}, "end: 0.99"),
        ("final_denoising", {"solver": {"name": "heun", "start": 0.9, "end": 0.1}}, "t_f < 1"),
        ("adaptive", {"rtol": 0.0}, "rtol"),
        ("adaptive", {"norm": "mean"}, "norm"),
        ("denoising", {"exponent": 0.0}, "exponent"),
    ],
)
def test_a_config_is_refused_by_name(name, options, words):
    with pytest.raises((ConfigError, DomainError), match=words):
        build(name, **options)
