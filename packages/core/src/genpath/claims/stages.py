r"""Claims of the stages: what a run leaves in its folder.

The first step of Adam moves every weight by the learning rate, against the sign of its gradient:
m̂/(√v̂ + ε) = g/(|g| + ε). Where all data are one point and all noise is small, the gradient of a
constant velocity v is v − c.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genpath.errors import ConfigError
from genpath.run.checkpoints import CHECKPOINT, TRAINING, read_checkpoint
from genpath.run.files import write_bytes, write_json
from genpath.run.folder import FINDINGS, METRICS, SAMPLES, Run
from genpath.run.progress import Display
from genpath.run.stages import Evaluate, Report, Sample, Train
from genpath.testing import Claim, Control, Evidence, Trial, but, dial, equal, exact, mean, near
from genpath.testing.evidence import refusal

from ._runs import BODY, POINT, TINY, VELOCITY, changed, new_run, small_world

__all__ = ["evaluate", "report", "sample", "train"]

DOUBLE = torch.float64


def _given(change: Callable[[Run], Run]) -> Callable[[Any], Any]:
    """A fault: the stage is given another run of the same folder."""
    return lambda stage: lambda run: stage(change(run))


# -- train ---------------------------------------------------------------------------------------


def train() -> tuple[Claim[Any], ...]:
    """Claims of ``stage.train``."""
    return (_first_step(), _goes_on())


def _first_step() -> Claim[Any]:
    rate = 0.01
    plain = ("data=claims.point", "base={name: gaussian, std: 1e-3}", "train.batch=8",
             f"train.lr={rate}", "train.clip=null")  # fmt: skip

    def check(stage: Any, trial: Trial) -> Iterator[Evidence]:
        before = torch.tensor(VELOCITY, dtype=DOUBLE)
        way = torch.tensor(POINT, dtype=DOUBLE) - before
        seed = int(torch.randint(1000, (), generator=trial.rng()))
        for average, share in (("null", 1.0), ("0.9", 9 / 11)):
            with small_world() as folder:
                more = (f"seed={seed}", "train.steps=1", "train.schedule=constant")
                run = new_run(folder, *plain, *more, f"train.ema={average}")
                stage(run)
                found = read_checkpoint(folder / CHECKPOINT).under("model/")["velocity"]
                because = "ε/|g| of 1e-8/0.5 times the learning rate"
                moved, true = found - before, share * rate * way.sign()
                yield near(f"the step, ema {average}", moved, true, 3e-8 * rate, because)
                loss = run.metrics()["metrics"]["train/loss"]
                because = "|v − c| times a mean of 8 draws of deviation 1e-3, six times it"
                yield near("the loss", loss, 0.5 * float(way.square().sum()), 4e-3, because)

    def faster(stage: Any, size: float) -> Any:
        def change(run: Run) -> Run:
            options = run.config.train
            return changed(run, train=replace(options, lr=(1 + size) * options.lr))

        return _given(change)(stage)

    def upward(run: Run) -> Run:
        objective: Any = run.assembly.objective
        vars(run.assembly)["objective"] = lambda *given: -objective(*given)
        return run

    def last(run: Run) -> Run:
        return changed(run, train=replace(run.config.train, ema=None))

    return Claim(
        "first-step",
        "The first step moves every weight by the learning rate towards the data; the average "
        "that is kept has gone 9/11 of the way.",
        Train,
        check,
        (
            dial("learning rate × (1 + δ)", faster),
            Control("the loss is negated", _given(upward)),
            Control("the last weights are kept for the average", _given(last)),
        ),
        formula=r"\theta_1 = \theta_0 - \eta\, \frac{g}{|g| + \epsilon}",
    )


class _Halting(Display):
    """A display that breaks off the work after seven steps."""

    @contextmanager
    def task(self, what: str, total: int, done: int = 0) -> Iterator[Any]:
        with super().task(what, total, done) as task:

            def update(done: int, note: str = "") -> None:
                if done == 7:
                    raise TimeoutError

            yield but(task, update=update)


def _goes_on() -> Claim[Any]:
    def check(stage: Any, trial: Trial) -> Iterator[Evidence]:
        seed = int(torch.randint(1000, (), generator=trial.rng()))
        plain = (f"seed={seed}", "train.steps=12", "train.batch=8", "train.checkpoint_every=4",
                 "train.log_every=3", "train.ema=0.9", "train.validate_every=0")  # fmt: skip
        with small_world() as folder:
            stage(new_run(folder / "whole", *plain))
            with suppress(TimeoutError):
                stage(new_run(folder / "parts", *plain, display=_Halting))
            kept = read_checkpoint(folder / "parts" / TRAINING).metadata["step"]
            yield exact("the step that it goes on after", kept, 4)
            stage(new_run(folder / "parts", *plain))
            for name in (CHECKPOINT, "metrics.jsonl"):
                whole, parts = ((folder / f / name).read_bytes() for f in ("whole", "parts"))
                yield exact(f"the same {name}", whole == parts)

    def momentum(stage: Any, size: float) -> Any:
        def change(run: Run) -> Run:
            from safetensors.torch import load, save

            path = run.folder / TRAINING
            if path.exists():
                key, header = _header(path)
                stored = load(path.read_bytes())
                for name in stored:
                    if name.startswith("optimizer/exp_avg/"):
                        stored[name] *= 1 + size
                write_bytes(path, save(stored, metadata={key: header}))
            return run

        return _given(change)(stage)

    def other_batches(run: Run) -> Run:
        late = (run.folder / TRAINING).exists()
        return but(run, rng=lambda what, step=0: Run.rng(run, what, step + late))

    return Claim(
        "goes-on",
        "A training that was broken off goes on from its last checkpoint and ends with the same "
        "files, bit for bit, as one that was not.",
        Train,
        check,
        (
            dial("the stored momentum × (1 + δ)", momentum),
            Control("batches of the next step, once it goes on", _given(other_batches)),
        ),
    )


def _header(path: Path) -> tuple[str, str]:
    """The one entry of a safetensors file's metadata."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        (entry,) = file.metadata().items()
    key, value = entry
    return str(key), str(value)


# -- sample --------------------------------------------------------------------------------------


def sample() -> tuple[Claim[Any], ...]:
    """Claims of ``stage.sample``."""
    return (_seeded(), _decoded())


def _drawn(stage: Any, folder: Path, *changes: str) -> Any:
    stage(new_run(folder, *changes))
    with np.load(folder / SAMPLES) as file:
        return torch.from_numpy(file["samples"])


def _seeded() -> Claim[Any]:
    def check(stage: Any, trial: Trial) -> Iterator[Evidence]:
        seed = int(torch.randint(1000, (), generator=trial.rng()))
        with small_world() as folder:
            one = _drawn(stage, folder / "one", f"seed={seed}")
            two = _drawn(stage, folder / "two", f"seed={seed}")
            other = _drawn(stage, folder / "other", f"seed={seed + 1}")
            yield exact("rows", tuple(one.shape), (40, 2))
            yield exact("the same seed", two, one)
            files = [(folder / f / SAMPLES).read_bytes() for f in ("one", "two")]
            yield exact("the same file", files[0] == files[1])
            yield exact("rows that another seed gives too", int((one == other).all(1).sum()), 0)

    def unseeded(run: Run) -> Run:
        return changed(run, seed=int(torch.randint(10**9, ())))

    return Claim(
        "seeded",
        "Samples follow from the seed alone: the same seed gives the same file, and the next one "
        "no row of it.",
        Sample,
        check,
        (
            Control("noise of torch's global state", _given(unseeded)),
            Control("the seed is not used", _given(lambda run: changed(run, seed=0))),
        ),
    )


def _decoded() -> Claim[Any]:
    """From N(0, I), a constant velocity v in encoded units: m + s (z + v)."""

    def check(stage: Any, trial: Trial) -> Iterator[Evidence]:
        count = trial.count(8000, 4000)
        seed = int(torch.randint(10**6, (), generator=trial.rng()))
        changes = (f"seed={seed}", f"sample.count={count}", "sample.chunk=1500")
        with small_world() as folder:
            run = new_run(folder / "data", "codec=standardise")
            rows = run.assembly.data.train
            found = _drawn(stage, folder / "run", "codec=standardise", *changes)
        std = rows.std(0, correction=0)
        centre = rows.mean(0) + std * torch.tensor(VELOCITY, dtype=DOUBLE)
        yield exact("samples", len(found), count)
        moments = torch.cat([found, (found - centre) ** 2], 1)
        yield mean("means and variances", moments, torch.cat([centre, std**2]))

    def wider(stage: Any, size: float) -> Any:
        def change(run: Run) -> Run:
            codec: Any = run.assembly.model.codec
            model = replace(run.assembly.model, codec=but(codec, std=(1 + size) * codec.std))
            vars(run)["assembly"] = replace(run.assembly, model=model)
            return run

        return _given(change)(stage)

    def still(run: Run) -> Run:
        with torch.no_grad():
            for weight in run.assembly.network.parameters():
                weight.zero_()
        return run

    return Claim(
        "decoded",
        "As many samples as were asked for, in the data's units: a constant velocity moves the "
        "base law, and the codec carries it to the data's mean and deviation.",
        Sample,
        check,
        (
            dial("decoded with std × (1 + δ)", wider),
            Control("the velocity is left out", _given(still)),
        ),
        formula=r"x = m + s\,(z + v), \quad z \sim N(0, I)",
    )


# -- evaluate and report ---------------------------------------------------------------------------


def _louder(stage: Any, size: float) -> Any:
    """The stage, with numbers × (1 + δ) on their way to the file."""

    def change(run: Run) -> Run:
        def add(stage: str, metrics: Any, measured: Any) -> None:
            run.add_metrics(stage, {k: (1 + size) * v for k, v in metrics.items()}, measured)

        return but(run, add_metrics=add)

    return _given(change)(stage)


def evaluate() -> tuple[Claim[Any], ...]:
    """Claims of ``stage.evaluate``."""

    def check(stage: Any, trial: Trial) -> Iterator[Evidence]:
        seed = int(torch.randint(1000, (), generator=trial.rng()))
        with small_world() as folder:
            run = new_run(folder / "run", f"seed={seed}", "evaluate=[claims.shown]")
            for _ in range(2):  # the second replaces the first
                stage(run)
            with np.load(run.folder / SAMPLES) as file:
                total = torch.from_numpy(file["samples"]).sum()
            stored = json.loads((run.folder / METRICS).read_text())["metrics"]
            yield exact("numbers", sorted(stored), ["test/sum", "test/third", "test/tiny"])
            yield equal("of the stored samples", stored["test/sum"], total, operations=1)
            yield exact("3 × 1/3", 3 * stored["test/third"], 1.0)
            yield exact("a tiny number", stored["test/tiny"], TINY)
            texts = json.loads((run.folder / FINDINGS).read_text())["texts"]
            yield exact("texts", [text["body"] for text in texts], [BODY])
            lines = [line for line in run.lines.read() if line.get("stage") == "evaluate"]
            yield exact("lines of the record", len(lines), 1)
            twice = new_run(folder / "twice", "evaluate=[claims.shown, claims.shown]")
            yield refusal("a metric is measured once", lambda: stage(twice), ConfigError, "once")

    def single(run: Run) -> Run:
        def add(stage: str, metrics: Any, measured: Any) -> None:
            short = {name: float(np.float32(value)) for name, value in metrics.items()}
            run.add_metrics(stage, short, measured)

        return but(run, add_metrics=add)

    return (
        Claim(
            "numbers-as-measured",
            "What the evaluations return is in the folder bit for bit, once however often it is "
            "measured, and belongs to the stored samples; a name that is measured twice is "
            "refused.",
            Evaluate,
            check,
            (
                dial("numbers × (1 + δ)", _louder),
                Control("numbers of float32", _given(single)),
            ),
        ),
    )


class _Page(HTMLParser):
    """The cells of a page's table rows, and its blocks of plain text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.blocks: list[str] = []
        self._into: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "pre"):
            self._into = self.rows[-1] if tag == "td" else self.blocks
            self._into.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "pre"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data


def report() -> tuple[Claim[Any], ...]:
    """Claims of ``stage.report``."""
    known = {"test/nll": -1.23456789, "test/bits": 123456.789, "other/small": 1.23456e-7}

    def check(stage: Any, trial: Trial) -> Iterator[Evidence]:
        with small_world() as folder:
            run = new_run(folder)
            errors = {"test/nll_se": 0.0123, "baseline/nll": 2.3456}
            run.add_metrics("evaluate", known | errors, {"test/nll": "how <it> was & is"})
            write_json(folder / FINDINGS, {"texts": [{"title": "A text", "body": BODY}]})
            stage(run)
            page = _Page((folder / "report.html").read_text(encoding="utf-8"))
        cells = {row[0]: row for row in page.rows if row}
        because = "four digits, or one after the point"
        for name, value in known.items():
            shown = float(cells[name][1].split(" ± ")[0])
            yield near(name, shown, value, 5e-4 * abs(value), because)
        error = float(cells["test/nll"][1].partition(" ± ")[2] or "nan")
        yield near("its standard error", error, 0.0123, 5e-2 * 0.0123, "two digits")
        yield near("its baseline", float(cells["test/nll"][2]), 2.3456, 5e-4 * 2.3456, because)
        yield exact("how it was measured", cells["test/nll"][3], "how <it> was & is")
        yield exact("the text", BODY in page.blocks)

    def louder(stage: Any, size: float) -> Any:
        def change(run: Run) -> Run:
            def metrics() -> Any:
                found = Run.metrics(run)
                numbers = {name: (1 + size) * v for name, v in found["metrics"].items()}
                return {**found, "metrics": numbers}

            return but(run, metrics=metrics)

        return _given(change)(stage)

    def raw(stage: Any) -> Any:
        def call(run: Run) -> None:
            stage(run)
            path = run.folder / "report.html"
            path.write_text(html.unescape(path.read_text(encoding="utf-8")), encoding="utf-8")

        return call

    return (
        Claim(
            "numbers-shown",
            "The page shows every number to four digits with its standard error and beside its "
            "baseline, and texts as they are, whatever signs they hold.",
            Report,
            check,
            (
                dial("numbers × (1 + δ)", louder),
                Control("signs of HTML are not escaped", raw),
            ),
        ),
    )
