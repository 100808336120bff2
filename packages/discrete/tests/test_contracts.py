"""What every public object owes the core: protocols, shapes, empty batches, products."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import genpath_discrete
from genpath.couplings import Pairs
from genpath.datasets import Dataset
from genpath.evaluation import Evaluation, Scene
from genpath.generators import MarkovGenerator, coupled, flow, product
from genpath.grids import TimeGrid
from genpath.jumps import Jumps
from genpath.laws import DensityLaw
from genpath.likelihoods import Likelihood
from genpath.models import Jump, Model
from genpath.objectives import Objective, Regression
from genpath.parts import Parts
from genpath.paths import MarkovianPath, ProductPath
from genpath.plugins import Collector
from genpath.samplers import Euler, Solver, integrate
from genpath.schedules import cosine_keep, linear_keep
from genpath.spaces import Euclidean, FiniteSpace, Product, SmoothSpace, Space
from genpath_discrete import plugin
from genpath_discrete.data import topics
from genpath_discrete.evaluations import NgramBaselines, TextSamples, to_text
from genpath_discrete.jumps import GoalJumps, MaskedJumps, MixtureJumps
from genpath_discrete.laws import Masked, Table, UniformLetters
from genpath_discrete.likelihoods import ELBO
from genpath_discrete.networks import Transformer
from genpath_discrete.objectives import MaskedELBO
from genpath_discrete.paths import MaskedPath, MixturePath
from genpath_discrete.spaces import Categorical

# the program of docs/index.md: the block that is shown, and run when the pages are built
EXAMPLE = r'```python exec="true" source="above"[^\n]*\n(.*?)```'
SHAPES = [(), (4,), (2, 3)]
shaped = pytest.mark.parametrize("shape", SHAPES)


def path_of(kind, shape, schedule=None):
    return kind(Categorical(3, shape), schedule or linear_keep())


def field(t, x):
    """A network that leans to letter 0: logits (batch, *event, 3)."""
    return torch.tensor([1.0, 0.0, 0.0]).expand(*x.shape, 3)


# -- spaces and laws -----------------------------------------------------------------------------


@shaped
@pytest.mark.parametrize("mask", [False, True])
def test_letters_are_a_finite_space(shape, mask, rng):
    space = Categorical(3, shape, mask)
    assert isinstance(space, Space) and isinstance(space, FiniteSpace)
    assert not isinstance(space, SmoothSpace)
    x = torch.randint(space.size, (5, *shape), generator=rng)
    assert bool(space.contains(x).all()) and torch.equal(space.project(x), x)
    assert not bool(space.contains(x + space.size).any())
    assert not bool(space.contains(x.float()).any())
    far = space.project(x + 0.4 + 10 * torch.randn(5, *shape, generator=rng))
    assert far.dtype == torch.int64 and bool(space.contains(far).all())
    assert torch.equal(space.project(x.float() + 0.4), x)
    near = space.neighbours(x)
    assert near.shape == (space.sites * (space.size - 1), 5, *shape)
    for states in near:
        assert bool(space.contains(states).all())
        assert space.distance(states, x).tolist() == [1.0] * 5
    empty = x[:0]
    assert space.contains(empty).shape == space.distance(empty, empty).shape == (0,)
    assert space.neighbours(empty).shape == (near.shape[0], 0, *shape)


def test_letters_are_a_factor_of_a_product(rng):
    space = Product({"x": Euclidean(2), "kind": Categorical(3, (4,))})
    state = {"x": torch.zeros(5, 2), "kind": torch.zeros(5, 4, dtype=torch.long)}
    other = {"x": state["x"] + 3.0, "kind": state["kind"] + 1}
    assert bool(space.contains(state).all())
    assert not bool(space.contains({**state, "kind": state["kind"] - 1}).any())
    assert space.distance(state, other).tolist() == pytest.approx([(18 + 16) ** 0.5] * 5)
    assert space.neighbours(state)["x"].shape == (8, 5, 2)
    assert space.project({**state, "kind": state["kind"] + 7})["kind"].unique().tolist() == [2]


@shaped
def test_base_laws_have_densities(shape, rng):
    space = Categorical(3, shape, mask=True)
    for law in (Masked(space), UniformLetters(space)):
        assert isinstance(law, DensityLaw)
        for count in (5, 0):
            x = law.sample(count, rng)
            assert x.shape == (count, *shape) and x.dtype == torch.int64
            assert law.log_prob(x).shape == (count,)
            assert bool(torch.isfinite(law.log_prob(x)).all())
    table = Table(torch.full((2, 2, 2), 0.125))
    assert isinstance(table, DensityLaw) and table.sample(0, rng).shape == (0, 3)
    assert table.logits(table.sample(4, rng)).shape == (4, 3, 2)


# -- paths and jumps -----------------------------------------------------------------------------


@shaped
@pytest.mark.parametrize("kind", [MaskedPath, MixturePath])
def test_paths_are_markovian_paths(kind, shape, rng):
    path = path_of(kind, shape)
    assert isinstance(path, MarkovianPath)
    assert path.predictions["logits"].output_shape == (*shape, 3)
    for count in (5, 0):
        x1 = UniformLetters(Categorical(3, shape)).sample(count, rng)
        x0 = path.base().sample(count, rng)
        draw = path.draw(torch.full((count,), 0.5), x0, x1, rng)
        assert draw.state.shape == (count, *shape) and bool(path.space.contains(draw.state).all())
        assert torch.equal(path.target("logits", draw), x1)
        assert torch.equal(path.draw(torch.ones(count), x0, x1, rng).state, x1)
        assert torch.equal(path.draw(torch.zeros(count), x0, x1, rng).state, x0)
        noised = path.renoise(0.5, 0.2, draw.state, rng)
        assert bool(path.space.contains(noised).all())
        assert torch.equal(path.renoise(0.5, 0.5, draw.state, rng), draw.state)
        gen = path.conditional_generator(x0, x1)
        end = integrate(Euler(), gen, x0, TimeGrid.uniform(3), rng).state
        assert torch.equal(end, x1)  # the bridge arrives, whatever the number of steps


@shaped
def test_jump_parts_have_their_shapes(shape, rng):
    t, x = torch.full((5,), 0.5), torch.zeros(5, *shape, dtype=torch.long)
    logits, goal = torch.randn(5, *shape, 3, generator=rng), x + 1
    parts = {
        4: MaskedJumps(logits, x == 0, linear_keep(), t),
        3: MixtureJumps(logits, x, linear_keep(), t),
        5: GoalJumps(goal, x, 5, linear_keep(), t),
    }
    for size, jumps in parts.items():
        assert isinstance(jumps, Jumps)
        target = jumps.targets(rng)
        assert jumps.intensity().shape == jumps.exposure(0.5, 0.6).shape == x.shape
        assert target.shape == x.shape and target.dtype == torch.int64
        assert bool(torch.isfinite(jumps.log_target(target)).all())
        found, rates = jumps.atoms(x)
        assert found.shape == (x[0].numel() * size, 5, *shape) and rates.shape == found.shape[:2]
        total = jumps.intensity().reshape(5, -1).sum(1)
        if size != 4:  # a masked site holds the mask, not the letter 0
            assert torch.allclose(rates.sum(0), total)
    state = torch.full_like(x, 3)
    assert torch.allclose(
        parts[4].atoms(state)[1].sum(0), parts[4].intensity().reshape(5, -1).sum(1)
    )


@pytest.mark.parametrize("schedule", [linear_keep(), cosine_keep()])
@pytest.mark.parametrize("kind", [MaskedPath, MixturePath])
def test_models_sample_data_and_nothing_else(kind, schedule, rng):
    path = path_of(kind, (4,), schedule)
    model = Model(field, path, path.base(), "logits")
    gen = model.generator(Jump())
    assert isinstance(gen, MarkovGenerator) and gen.has == {"jumps"}
    for count, steps in itertools.product((6, 0), (1, 7)):
        x = model.sample(count, Jump(), Euler(), TimeGrid.uniform(steps), rng)
        assert x.shape == (count, 4) and bool(Categorical(3, (4,)).contains(x).all())


def test_the_same_seed_gives_the_same_letters():
    path = path_of(MaskedPath, (8,))
    model = Model(field, path, path.base(), "logits")
    drawn = [
        model.sample(6, Jump(), Euler(), TimeGrid.uniform(5), torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_letters_move_beside_points_of_a_product(rng):
    path = path_of(MaskedPath, (4,))
    kinds = MarkovGenerator(
        path.space,
        lambda t, s: Parts(jumps=path.jumps(t, s["kind"], field(t, s["kind"]))),
        frozenset({"jumps"}),
    )
    points = MarkovGenerator(
        Euclidean(2), lambda t, s: Parts(velocity=-s["x"]), frozenset({"velocity"})
    )
    start = {
        "x": torch.ones(6, 2),
        "kind": path.base().sample(6, rng),
        "label": torch.arange(6),
    }
    gen = coupled({"x": points, "kind": kinds})
    end = integrate(Euler(), gen, start, TimeGrid.uniform(10), rng).state
    assert torch.allclose(end["x"], torch.full((6, 2), 0.9**10))
    assert bool(path.letters.contains(end["kind"]).all())
    assert torch.equal(end["label"], torch.arange(6))
    apart = product(
        {
            "x": flow(Euclidean(2), lambda t, x: -x),
            "kind": Model(field, path, path.base(), "logits").generator(Jump()),
        }
    )
    again = integrate(Euler(), apart, start, TimeGrid.uniform(10), rng).state
    assert torch.allclose(again["x"], end["x"])


def test_letters_keep_their_own_clock_on_a_product_path(rng):
    from genpath.schedules import Scalar

    letters = path_of(MaskedPath, (4,))
    both = ProductPath({"a": letters, "b": letters}, {"b": Scalar(lambda s: s**2, lambda s: 2 * s)})
    x1 = {n: UniformLetters(letters.letters).sample(20_000, rng) for n in "ab"}
    x0 = {n: letters.base().sample(20_000, rng) for n in "ab"}
    gen = both.conditional_generator(x0, x1)
    half = integrate(Euler(), gen, x0, TimeGrid.uniform(8, 0.0, 0.5), rng).state
    for name, kept in (("a", 0.5), ("b", 0.25)):
        share = (half[name] == x1[name]).double().mean()
        assert abs(float(share) - kept) < 4.5 * (kept * (1 - kept) / 80_000) ** 0.5


# -- what trains and scores ----------------------------------------------------------------------


@shaped
@pytest.mark.parametrize("estimator", ["time", "count"])
def test_the_bound_has_one_value_per_row(shape, estimator, rng):
    path = path_of(MaskedPath, shape)
    model = Model(field, path, path.base(), "logits")
    objective = MaskedELBO(estimator)
    assert isinstance(objective, Objective) and "log p" in objective.minimiser
    likelihood = ELBO(draws=3, estimator=estimator, chunk=2)
    assert isinstance(likelihood, Likelihood)
    for count in (5, 0):
        x1 = UniformLetters(path.letters).sample(count, rng)
        value = objective(model, Pairs(x1, x1), torch.rand(count, generator=rng), rng)
        found = likelihood(model, x1, rng)
        for each in (value, -found.value, found.standard_error):
            assert each.shape == (count,) and bool((each >= 0).all())


def test_a_mixture_path_trains_by_plain_cross_entropy(rng):
    path = path_of(MixturePath, (4,))
    model = Model(field, path, path.base(), "logits")
    x0, x1 = UniformLetters(path.letters).sample(10, rng).chunk(2)
    value = Regression("cross_entropy")(model, Pairs(x0, x1), torch.rand(5, generator=rng), rng)
    expected = -field(None, x1).log_softmax(-1).gather(-1, x1.unsqueeze(-1)).squeeze(-1).sum(1)
    assert torch.allclose(value, expected)


@shaped
@pytest.mark.parametrize("options", [{}, {"positions": "learned"}, {"window": 3}, {"time": True}])
def test_the_transformer_takes_any_event_and_an_empty_batch(shape, options):
    space = Categorical(3, shape, mask=True)
    network = Transformer(space, 8, 1, 2, **options)
    for count in (5, 0):
        x = torch.full((count, *shape), space.mask_id)
        assert network(torch.zeros(count), x).shape == (count, *shape, 3)
    network(torch.zeros(5), torch.zeros(5, *shape, dtype=torch.long)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


# -- data and evaluations ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text():
    return topics(length=64, block=8, stride=32)


def test_the_help_topics_are_a_data_set_of_text(text):
    assert isinstance(text, Dataset) and text.bits_per == ("character", 64)
    for rows in (text.train, text.validation, text.test):
        assert bool(text.space.contains(rows).all()) and rows.shape[1] == 64
    assert "sha256" in text.provenance and "Python" in text.provenance
    held = len(text.validation) + len(text.test)
    assert 0.03 < held * 64 / (held * 64 + len(text.train) * 32) < 0.2
    assert " the " in "".join(to_text(text.test, text.alphabet))


def test_evaluations_find_numbers_figures_and_texts(text, rng):
    path = MaskedPath(text.space)
    model = Model(field, path, path.base(), "logits")
    solver = Solver(Euler(), TimeGrid.uniform(4))
    scene = Scene(model, text, text.test[:5], Jump(), solver, None, rng, torch.device("cpu"))
    for evaluation in (NgramBaselines(thin=2), TextSamples(shown=2)):
        assert isinstance(evaluation, Evaluation)
    counted = NgramBaselines(thin=2)(scene).metrics
    bits = [counted[f"baseline/{n}_bits"] for n in ("trigram", "bigram", "unigram")]
    assert bits == sorted(bits) and bits[0] > 1.5 and bits[2] < 5.5
    assert counted["baseline/nll"] == pytest.approx(bits[2] * 64 * 0.6931471805599453)
    shown = TextSamples(shown=2)(scene)
    assert shown.metrics["samples/letter_tv"] < 0.5
    assert len(shown.texts) == 3 and len(shown.texts[0].body) == 64
    figure = pytest.importorskip("matplotlib.figure").Figure()
    shown.figures[0].draw(figure)
    assert figure.axes
    empty = Scene(model, text, text.test[:0], Jump(), solver, None, rng, torch.device("cpu"))
    assert TextSamples()(empty).metrics == {}


# -- the plugin ----------------------------------------------------------------------------------

EXPECTED = {
    ("space", "discrete.categorical"),
    ("law", "discrete.masked"),
    ("law", "discrete.uniform"),
    ("path", "discrete.masked"),
    ("path", "discrete.mixture"),
    ("network", "discrete.transformer"),
    ("objective", "discrete.masked_elbo"),
    ("likelihood", "discrete.elbo"),
    ("data", "discrete.topics"),
    ("evaluation", "discrete.ngram_baselines"),
    ("evaluation", "discrete.text_samples"),
}


def components():
    collector = Collector("discrete", "discrete", "genpath-discrete", "0.1.0")
    plugin.genpath_components(collector)
    return {(c.kind, c.name): c for c in collector.components}


def test_the_plugin_adds_its_components_and_each_can_be_loaded():
    found = components()
    assert set(found) == EXPECTED
    for component in found.values():
        assert callable(component.load()) and component.summary
        component.options_class()


def test_components_build_each_other():
    found, letters = components(), Categorical(3, (4,))
    # the schedule is core's; a built one is taken as it is
    path = found["path", "discrete.masked"].build({"schedule": cosine_keep()}, state_space=letters)
    assert isinstance(path, MaskedPath)
    base = found["law", "discrete.masked"].build(space=path.space)
    network = found["network", "discrete.transformer"].build(
        {"width": 8, "depth": 1, "heads": 2},
        space=path.space,
        prediction=path.predictions["logits"],
    )
    model = Model(network, path, base, "logits")
    rng = torch.Generator().manual_seed(0)
    x = model.sample(2, Jump(), Euler(), TimeGrid.uniform(3), rng)
    assert bool(letters.contains(x).all())
    for kind, name in (
        ("objective", "discrete.masked_elbo"),
        ("likelihood", "discrete.elbo"),
        ("evaluation", "discrete.ngram_baselines"),
        ("evaluation", "discrete.text_samples"),
    ):
        assert callable(found[kind, name].build())


def test_importing_the_plugin_imports_no_torch():
    code = (
        "import sys, genpath_discrete, genpath_discrete.plugin, genpath_discrete.options;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    eager = code.replace("genpath_discrete.options", "genpath_discrete.spaces")
    assert subprocess.run([sys.executable, "-c", eager], check=False).returncode == 1


def test_public_names_are_what_the_package_says():
    for name in genpath_discrete.__all__:
        assert getattr(genpath_discrete, name) is not None
    assert set(genpath_discrete.__all__) <= set(dir(genpath_discrete))


def test_the_example_of_the_documentation_runs_and_says_what_it_should(capsys):
    page = Path(__file__).parents[1] / "docs" / "index.md"
    (code,) = re.findall(EXAMPLE, page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, str(page), "exec"), {})
    *rows, last = capsys.readouterr().out.splitlines()
    for row in rows:
        distance, expected = (float(n) for n in re.findall(r"\d\.\d+", row))
        assert abs(distance - expected) < 4.5 * 0.5 / 40_000**0.5 + 0.0005
    bound, log_p = (float(n) for n in re.findall(r"-\d\.\d+", last))
    assert abs(bound - log_p) < 0.03  # tight, up to 2000 · 16 draws
