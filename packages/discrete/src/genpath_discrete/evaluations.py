r"""Evaluations of models of text.

`NgramBaselines` says what counting letters achieves on the same held-out rows: a character given
its n−1 predecessors within the row, with one added to every count,

    p(c | context) = (N(context, c) + 1) / (N(context) + V)
    −log p(row) = Σ −log p(c | context)

The first characters of a row use the shorter contexts that they have. `TextSamples` shows samples,
how often each letter occurs in them and in the data, and how many of their words are words of the
training text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genpath.datasets import Dataset
from genpath.errors import CapabilityError
from genpath.evaluation import Figure, Findings, Scene, Text

__all__ = ["NgramBaselines", "TextSamples", "ngram_nll", "to_text"]

NAMES = ("unigram", "bigram", "trigram")


def to_text(rows: Tensor, alphabet: Sequence[str]) -> list[str]:
    """Each row of letters ``(count, length)`` as a string; a mask that is left prints as ▯.

    Example:
        >>> to_text(torch.tensor([[1, 0, 2], [0, 0, 1]]), "ab")
        ['ba▯', 'aab']
    """
    letters = [*alphabet, "▯"]
    return ["".join(letters[i] for i in row) for row in rows.tolist()]


def ngram_nll(train: Tensor, rows: Tensor, letters: int, n: int) -> Tensor:
    """−log p of each row, in nats, by add-one counts of (n−1) letters of context: ``(rows,)``.

    Args:
        train: rows to count ``(count, length)``.
        rows: rows to score ``(batch, length)``.
        letters: V.
        n: 1, 2 or 3; the table has V^n entries.

    Example:
        >>> ngram_nll(torch.tensor([[0, 0, 1]]), torch.tensor([[0]]), 2, 1)  # −log 3/5
        tensor([0.5108], dtype=torch.float64)
    """
    total = torch.zeros(rows.shape[0], dtype=torch.float64)
    for order in range(1, n + 1):
        counts = torch.bincount(_codes(train, letters, order).flatten(), minlength=letters**order)
        table = (counts.reshape(-1, letters) + 1).double()
        table = -torch.log(table / table.sum(1, keepdim=True)).flatten()
        scored = table[_codes(rows, letters, order)]
        total = total + (scored.sum(1) if order == n else scored[:, :1].sum(1))
    return total


def _codes(rows: Tensor, letters: int, order: int) -> Tensor:
    """The windows of ``order`` letters, each as one number: ``(rows, length − order + 1)``."""
    windows = rows.unfold(1, order, 1)
    powers = letters ** torch.arange(order - 1, -1, -1)
    return (windows * powers).sum(-1)


def _alphabet(data: Dataset, where: str) -> tuple[str, ...]:
    if data.alphabet is None:
        raise CapabilityError(where, "the data have an alphabet.", got=data.name)
    return data.alphabet


@dataclass(frozen=True)
class NgramBaselines:
    """n-gram cross-entropies on the test rows: ``evaluation.discrete.ngram_baselines``.

    Metrics: ``baseline/nll``, the unigram's, in nats per row, and ``baseline/{name}_bits``, bits
    per character, for unigram, bigram and trigram.

    Args:
        thin: count every ``thin``-th training row, so that rows that overlap count once.
    """

    thin: int = 1

    def __call__(self, scene: Scene) -> Findings:
        data = scene.data
        letters = len(_alphabet(data, "evaluation.discrete.ngram_baselines"))
        train, test = data.train.cpu()[:: self.thin], data.test.cpu()
        nll = [float(ngram_nll(train, test, letters, n).mean()) for n in (1, 2, 3)]
        per_letter = test.shape[1] * math.log(2)
        metrics = {"baseline/nll": nll[0]}
        metrics |= {f"baseline/{k}_bits": v / per_letter for k, v in zip(NAMES, nll, strict=True)}
        how = f"add-one counts of {train.numel()} training characters, on {len(test)} test rows"
        measured = {name: how for name in metrics}
        measured["baseline/nll"] = f"unigram, nats per row of {test.shape[1]}: {how}"
        return Findings(metrics, measured)


@dataclass(frozen=True)
class TextSamples:
    """Samples as text, with two numbers: ``evaluation.discrete.text_samples``.

    Metrics: ``samples/letter_tv``, the total variation between the frequencies of letters in the
    samples and in the test rows; ``samples/known_words`` and ``test/known_words``, the shares of
    words (rows' first and last ones, which may be cut, left out) that occur in the training rows.

    Args:
        shown: how many samples are shown.
    """

    shown: int = 4

    def __call__(self, scene: Scene) -> Findings:
        data, samples = scene.data, scene.samples.cpu()
        alphabet = _alphabet(data, "evaluation.discrete.text_samples")
        if len(samples) == 0:
            return Findings()
        test = data.test.cpu()
        ours, theirs = (_frequencies(rows, len(alphabet)) for rows in (samples, test))
        known = _words(to_text(data.train.cpu(), alphabet))
        shares = [_share(to_text(rows, alphabet), known) for rows in (samples, test)]
        metrics = {
            "samples/letter_tv": float(0.5 * (ours - theirs).abs().sum()),
            "samples/known_words": shares[0],
            "test/known_words": shares[1],
        }
        how = "share of words, whole ones of a row, that occur in the training rows"
        measured = {
            "samples/letter_tv": f"{len(samples)} samples against {len(test)} test rows",
            "samples/known_words": how,
            "test/known_words": how,
        }
        texts = [
            Text(f"Sample {i + 1}", body)
            for i, body in enumerate(to_text(samples[: self.shown], alphabet))
        ]
        texts.append(Text("A test row, for comparison", to_text(test[:1], alphabet)[0]))
        figure = Figure(
            "letter_frequencies",
            "How often each letter occurs",
            "Letters in order of their frequency in the test rows, on a logarithmic scale. Dots "
            "off the line are letters that the model writes too often or too rarely.",
            lambda figure: _plot(figure, ours, theirs, alphabet),
        )
        return Findings(metrics, measured, (figure,), tuple(texts))


def _frequencies(rows: Tensor, letters: int) -> Tensor:
    counts = torch.bincount(rows.flatten(), minlength=letters)[:letters].double()
    return counts / counts.sum()


def _words(texts: Sequence[str]) -> set[str]:
    return {word for text in texts for word in text.split()[1:-1]}


def _share(texts: Sequence[str], known: set[str]) -> float:
    words = [word for text in texts for word in text.split()[1:-1]]
    return sum(word in known for word in words) / max(len(words), 1)


def _plot(figure: Any, ours: Tensor, theirs: Tensor, alphabet: Sequence[str]) -> None:
    order = theirs.argsort(descending=True)[:60]
    axes, place = figure.subplots(), range(len(order))
    axes.plot(place, theirs[order].tolist(), color="0.4", label="test rows")
    axes.plot(place, ours[order].tolist(), "o", markersize=3, label="samples")
    axes.set_yscale("log")
    names = {" ": "␣", "\n": "↵"}
    axes.set_xticks(list(place), [names.get(alphabet[i], alphabet[i]) for i in order.tolist()])
    axes.tick_params(axis="x", labelsize=6)
    axes.set_ylabel("share of characters")
    axes.legend(frameon=False)
