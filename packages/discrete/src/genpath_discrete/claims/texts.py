"""Claims of the text that comes with Python, and of the evaluations of models of text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genpath.datasets import Dataset
from genpath.evaluation import Scene
from genpath.grids import TimeGrid
from genpath.models import Jump, Model
from genpath.samplers import Euler, Solver
from genpath.testing import (
    Claim,
    Control,
    Evidence,
    Trial,
    but,
    dial,
    equal,
    exact,
    near,
)

from ..data import split_text, topics
from ..evaluations import NgramBaselines, TextSamples, ngram_nll
from ..paths import MaskedPath
from ..spaces import Categorical
from .cases import DOUBLE, Field, states_of

__all__ = ["ngrams", "text", "text_samples"]


def text() -> tuple[Claim[Any], ...]:
    """Claims of ``data.discrete.topics``."""
    return (splits(), topics_of_python())


def splits() -> Claim[Any]:
    """No character is in two splits."""

    def check(split: Any, trial: Trial) -> Iterator[Evidence]:
        letters = tuple(chr(1000 + i) for i in range(64 * 40 + 5))
        parts = split("".join(letters), letters, 8, 8, 3)
        sets = [set(rows.flatten().tolist()) for rows in parts]
        yield exact("splits with characters", all(sets))
        for a, b in itertools.combinations(range(3), 2):
            yield exact(f"characters in split {a} and {b}", len(sets[a] & sets[b]), 0)
        for rows in parts:
            yield exact("rows are pieces of the text", bool((rows.diff(dim=1) == 1).all()))
        yield exact("training rows overlap", len(parts[0]) > 2 * len(sets[0]) / 8)

    def without_blocks(split: Any) -> Any:
        def other(text: str, alphabet: Any, length: int, block: int, stride: int) -> Any:
            train, validation, test = split(text, alphabet, length, block, stride)
            every = torch.arange(len(text)).unfold(0, length, stride)
            return every[: len(train)], validation, test

        return other

    def shuffled(split: Any) -> Any:
        return lambda *given: tuple(rows.flip(1) for rows in split(*given))

    return Claim(
        "splits",
        "Rows are pieces of the text, and no character is in two of training, validation and test, "
        "although training rows overlap.",
        lambda: split_text,
        check,
        (Control("training rows are cut anywhere", without_blocks), Control("backwards", shuffled)),
    )


def topics_of_python() -> Claim[Dataset]:
    """The text is that of the running Python."""

    def check(data: Dataset, trial: Trial) -> Iterator[Evidence]:
        from pydoc_data.topics import topics as texts

        whole = "".join(texts[key] for key in sorted(texts))
        assert data.alphabet is not None
        lines = ["".join(data.alphabet[i] for i in row) for row in data.test.tolist()]
        yield exact("test rows are in the text", all(line in whole for line in lines))
        for rows in (data.train, data.validation, data.test):
            yield exact("letters of the alphabet", bool(data.space.contains(rows).all()))
        held = 64 * (len(data.validation) + len(data.test))
        share = held / len(whole)
        yield near("share held out", share, 0.1, 0.05, "blocks of 512 letters, 90 % kept")
        yield exact("unit of bits", data.bits_per == ("character", 64))

    def reread(data: Dataset) -> Dataset:
        return but(data, alphabet=tuple(reversed(data.alphabet or ())))

    return Claim(
        "topics",
        "The rows are text of the running Python's help, with a tenth of it held out.",
        lambda: topics(length=64, block=8, stride=64),
        check,
        (Control("the alphabet is read backwards", reread),),
    )


def ngrams() -> tuple[Claim[Any], ...]:
    """Claims of ``evaluation.discrete.ngram_baselines``."""
    return (counting(), ngram_metrics())


def counting() -> Claim[Any]:
    """n-gram models are laws, with known values."""

    def check(nll: Any, trial: Trial) -> Iterator[Evidence]:
        train = torch.randint(0, 3, (20, 6), generator=trial.rng()) ** 2 % 3
        every = states_of(Categorical(3, (4,)))
        for n in (1, 2, 3):
            mass = torch.exp(-nll(train, every, 3, n)).sum()
            yield equal(f"Σ p, n = {n}", mass, 1.0, operations=1024)
        two = torch.exp(-nll(torch.tensor([[0, 0, 1]]), torch.tensor([[0, 1]]), 2, 2))
        yield equal("(2+1)/(3+2) · (1+1)/(2+2)", two, torch.tensor([0.3], dtype=DOUBLE))

    def raised(nll: Any, size: float) -> Any:
        return lambda *given: nll(*given) + size

    def unsmoothed(nll: Any) -> Any:
        return lambda train, rows, letters, n: nll(train.repeat(2, 1), rows, letters, n)

    return Claim(
        "laws",
        "The n-gram models are laws on rows of letters, by counts with one added.",
        lambda: ngram_nll,
        check,
        (dial("−log p + δ", raised), Control("half is added to every count", unsmoothed)),
        formula=r"p(c \mid w) = \frac{N(w, c) + 1}{N(w) + V}",
    )


ALPHABET = ("a", "b", " ")


def _rows(*lines: str) -> Tensor:
    return torch.tensor([[ALPHABET.index(letter) for letter in line] for line in lines])


def _scene(train: Tensor, test: Tensor, samples: Tensor) -> Scene:
    """Rows of eight letters of `ALPHABET`, and a model that nobody asks."""
    space = Categorical(3, (8,))
    data = Dataset("letters", space, train, test[:1], test, "made up", ALPHABET)
    path = MaskedPath(space)
    silent: Field = lambda t, x: torch.zeros(*x.shape, 3)  # noqa: E731
    model = Model(silent, path, path.base(), "logits")
    solver, rng = Solver(Euler(), TimeGrid.uniform(1)), torch.Generator()
    return Scene(model, data, samples, Jump(), solver, None, rng, torch.device("cpu"))


def _metered(score: Any, size: float) -> Any:
    """Metrics × (1 + δ)."""

    def wrong(scene: Scene) -> Any:
        found = score(scene)
        return but(found, metrics={k: (1 + size) * v for k, v in found.metrics.items()})

    return wrong


def ngram_metrics() -> Claim[Any]:
    """Bits of independent letters."""

    def check(score: Any, trial: Trial) -> Iterator[Evidence]:
        rows = torch.randint(0, 3, (500, 8), generator=trial.rng()) ** 2 % 3  # 0 or 1
        train, test = rows[:400], rows[400:]
        metrics = score(_scene(train, test, test)).metrics
        bits = [metrics[f"baseline/{name}_bits"] for name in ("unigram", "bigram", "trigram")]
        expected = 0.0
        for letter in (0, 1):
            share = float((test == letter).double().mean())
            chance = (int((train == letter).sum()) + 1) / (train.numel() + 3)
            expected -= share * math.log2(chance)
        yield equal("bits of the unigram", bits[0], expected, operations=1024)
        nats = bits[0] * 8 * math.log(2)
        yield equal("nats per row", metrics["baseline/nll"], nats, operations=1024)

    return Claim(
        "bits",
        "Bits per character of the unigram are the cross-entropy of the counted frequencies, and "
        "nats per row are bits times length · log 2.",
        lambda: NgramBaselines(),
        check,
        (dial("metrics × (1 + δ)", _metered),),
    )


def text_samples() -> tuple[Claim[Any], ...]:
    """Claims of ``evaluation.discrete.text_samples``."""

    def check(score: Any, trial: Trial) -> Iterator[Evidence]:
        train = _rows("a ab b a", "b ba a b")  # whole words: ab, b; ba, a
        test, samples = _rows("a ab bb "), _rows("a ab bb ", "aa aa aa")
        found = score(_scene(train, test, samples))
        frequencies = torch.tensor([[2, 3, 3], [8, 3, 5]], dtype=DOUBLE)
        frequencies = frequencies / frequencies.sum(1, keepdim=True)
        far = 0.5 * (frequencies[0] - frequencies[1]).abs().sum()
        yield equal("distance of letters", found.metrics["samples/letter_tv"], far)
        yield equal("known words of the samples", found.metrics["samples/known_words"], 0.5)
        yield equal("known words of the test", found.metrics["test/known_words"], 1.0)
        shown = [text.body for text in found.texts]
        yield exact("texts", shown == ["a ab bb ", "aa aa aa", "a ab bb "])

    return (
        Claim(
            "letters-and-words",
            "On rows that are counted by hand: the distance of letter frequencies, the shares of "
            "words that occur in training, and the rows as text.",
            lambda: TextSamples(shown=2),
            check,
            (dial("metrics × (1 + δ)", _metered),),
        ),
    )
