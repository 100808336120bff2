"""Each refusal, by its words."""

import dataclasses

import pytest
import torch

import genpath_discrete
from genpath.couplings import Pairs
from genpath.datasets import Dataset
from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.evaluation import Scene
from genpath.grids import TimeGrid
from genpath.models import Jump, Model
from genpath.predictions import Prediction
from genpath.samplers import Euler, Solver
from genpath.schedules import linear_keep
from genpath.spaces import Euclidean
from genpath_discrete.data import split_text
from genpath_discrete.evaluations import NgramBaselines, TextSamples
from genpath_discrete.jumps import MaskedJumps, MixtureJumps
from genpath_discrete.laws import Masked, Table, masked, uniform
from genpath_discrete.likelihoods import ELBO
from genpath_discrete.networks import Transformer, transformer
from genpath_discrete.objectives import MaskedELBO
from genpath_discrete.paths import MaskedPath, MixturePath, masked as masked_path
from genpath_discrete.spaces import Categorical

SPACE = Categorical(3, (4,))
X = torch.zeros(2, 4, dtype=torch.long)
LOGITS = torch.zeros(2, 4, 3)
T = torch.full((2,), 0.5)


def table(rows):
    return Table(torch.tensor(rows))


REFUSALS = {
    "no letters": (lambda: Categorical(0), DomainError, "there is a letter"),
    "no mask": (lambda: SPACE.mask_id, CapabilityError, "the space has a mask"),
    "masked law without mask": (lambda: Masked(SPACE), CapabilityError, "set mask=True"),
    "event shape": (
        lambda: SPACE.contains(X[:, :3]),
        ShapeError,
        r"shape \(batch, 4\)",
    ),
    "unequal axes": (lambda: table([[0.5, 0.25, 0.25]]), DomainError, "one axis of length V"),
    "sum": (lambda: table([0.5, 0.4]), DomainError, "sum 0.9"),
    "negative": (lambda: table([1.5, -0.5]), DomainError, "minimum -0.5"),
    "law on R^d": (lambda: masked(Euclidean(2)), CapabilityError, "space of letters"),
    "uniform on R^d": (lambda: uniform(Euclidean(2)), CapabilityError, "codec: identity"),
    "path on R^d": (
        lambda: masked_path(linear_keep(), Euclidean(2)),
        CapabilityError,
        "path.discrete.masked: it lives on a space of letters",
    ),
    "logits and sites": (
        lambda: MaskedJumps(LOGITS[:, :3], X == 0, linear_keep(), T),
        ShapeError,
        "one row of logits per site",
    ),
    "logits and letters": (
        lambda: MixtureJumps(LOGITS[:1], X, linear_keep(), T),
        ShapeError,
        "without a mask column",
    ),
    "two times for four rows": (
        lambda: MaskedPath(SPACE).draw(torch.zeros(3), None, X, torch.Generator()),
        ShapeError,
        "one time per row",
    ),
    "objective's estimator": (
        lambda: MaskedELBO("mean"),
        DomainError,
        "estimator is one of time, count",
    ),
    "likelihood's estimator": (lambda: ELBO(estimator="mean"), DomainError, "'mean'"),
    "one draw": (lambda: ELBO(draws=1), DomainError, "a standard error needs two draws"),
    "heads": (lambda: Transformer(SPACE, 10, 1, 3), DomainError, "heads divides width"),
    "positions": (lambda: Transformer(SPACE, positions="none"), DomainError, "rotary or learned"),
    "odd heads": (lambda: Transformer(SPACE, 6, 1, 2), DomainError, "pairs of channels"),
    "even window": (lambda: Transformer(SPACE, window=4), DomainError, "it is odd, or 0"),
    "prediction": (
        lambda: transformer(SPACE, Prediction("velocity", (4,), True, "u")),
        DomainError,
        "set predict: logits",
    ),
    "short text": (lambda: split_text("abab", ("a", "b"), 8, 1, 8), DomainError, "holds a block"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_it_says_what_is_wrong(name):
    call, error, words = REFUSALS[name]
    with pytest.raises(error, match=words):
        call()


def model_of(path, predict="logits"):
    return Model(lambda t, x: LOGITS, path, path.base(), predict)


def test_the_bound_is_that_of_a_masked_path(rng):
    model = model_of(MixturePath(SPACE))
    for call in (
        lambda: MaskedELBO()(model, Pairs(X, X), T, rng),
        lambda: ELBO()(model, X, rng),
    ):
        with pytest.raises(CapabilityError, match="divergence: cross_entropy"):
            call()


def test_paths_predict_logits_only(rng):
    path = MaskedPath(SPACE)
    with pytest.raises(CapabilityError, match="choose one of logits"):
        model_of(path, "score")
    draw = path.draw(T, None, X, rng)
    with pytest.raises(DomainError, match="the prediction is 'logits'"):
        path.target("velocity", draw)


def test_text_needs_an_alphabet(rng):
    data = Dataset("letters", SPACE, X, X, X, "made up")
    path = MaskedPath(SPACE)
    solver = Solver(Euler(), TimeGrid.uniform(2))
    scene = Scene(model_of(path), data, X, Jump(), solver, None, rng, torch.device("cpu"))
    for evaluation in (NgramBaselines(), TextSamples()):
        with pytest.raises(CapabilityError, match="the data have an alphabet"):
            evaluation(scene)
    spelt = dataclasses.replace(data, alphabet=("a", "b", "c"))
    assert NgramBaselines()(dataclasses.replace(scene, data=spelt)).metrics


def test_unknown_names_are_unknown():
    with pytest.raises(AttributeError, match="no attribute 'Maskd'"):
        _ = genpath_discrete.Maskd
