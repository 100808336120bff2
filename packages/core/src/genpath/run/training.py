r"""Training: the stage that fits the network.

At step k, with everything random drawn from the generator of (seed, "train", k):

    t ~ U(0, 1),  (x0, x1) ~ coupling,  loss_k = mean of the objective
    gradient clipped at `clip`;  AdamW with learning rate lr(k);  average ← d ā + (1 − d) θ

    lr(k)   lr · k/warmup for k ≤ warmup, then half a cosine down to final_lr_fraction · lr
    d(k)    min(ema, (1 + k)/(10 + k)), so that the average forgets the first weights sooner

Averaging: Polyak & Juditsky 1992; AdamW: Loshchilov & Hutter 2019 (arXiv 1711.05101). Because no
random state is carried from step to step, weights, averages, moments and k are all that a resume
needs, and the resumed run is the uninterrupted one, number by number, on the same machine. Layers
that draw from torch's global state (dropout) do so from a seed of the step.

Losses stay on the device until they are logged; the check that they are finite is made there and
before every checkpoint, so a checkpoint is never made of weights behind a loss that was not.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genpath.errors import CheckpointError, NumericalError
from genpath.objectives import stratified_times
from genpath.run.assembly import default_dtype
from genpath.run.checkpoints import (
    CHECKPOINT,
    TRAINING,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from genpath.run.seeds import derive_seed

if TYPE_CHECKING:
    from genpath.config.schema import TrainOptions
    from genpath.run.folder import Run
    from genpath.run.progress import Task

__all__ = ["Stopped", "Trainer", "learning_rate", "train"]


class Stopped(KeyboardInterrupt):
    """Training was asked to stop, and has written its checkpoint.

    Args:
        step: the last step that is in the checkpoint.
        code: what the process should exit with: 128 + the signal's number.
    """

    def __init__(self, step: int, code: int = 130) -> None:
        super().__init__(f"stopped at step {step}")
        self.step, self.code = step, code


def learning_rate(options: TrainOptions, step: int) -> float:
    """The learning rate of a step, counted from 1.

    Example:
        >>> from genpath.config.schema import TrainOptions
        >>> learning_rate(TrainOptions(steps=100, lr=1.0, warmup=10), 5)
        0.5
    """
    if step <= options.warmup:
        return options.lr * step / options.warmup
    if options.schedule == "constant":
        return options.lr
    span = max(options.steps - options.warmup, 1)
    done = min((step - options.warmup) / span, 1.0)
    least = options.final_lr_fraction
    return options.lr * (least + (1 - least) * 0.5 * (1 + math.cos(math.pi * done)))


class Trainer:
    """The state of a training: weights, averages, moments, and the step that they belong to.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.options, self.assembly = run, run.config.train, run.assembly
        self.network: nn.Module = self.assembly.network
        self.parameters = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        fused = self.assembly.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()) or [torch.zeros(1, requires_grad=True)],
            lr=self.options.lr,
            betas=self.options.betas,
            weight_decay=self.options.weight_decay,
            fused=fused,
        )
        self.step = 0
        self.average = self._copy() if self.options.ema is not None else None
        self.best: dict[str, Tensor] | None = None
        self.best_validation = math.inf
        self.validation = math.nan
        self.recent: list[Tensor] = []
        self.last_logged: dict[str, float] = {}
        self.data_digest = self.assembly.data.digest()

    def _copy(self) -> dict[str, Tensor]:
        return {n: t.detach().clone() for n, t in self.network.state_dict().items()}

    # --- one step ---------------------------------------------------------------------------------

    def advance(self) -> None:
        """One step of the optimiser."""
        options, assembly, step = self.options, self.assembly, self.step + 1
        rng = self.run.rng("train", step)
        torch.manual_seed(derive_seed(self.run.config.seed, "network/train", step))
        with self._autocast():
            t = stratified_times(options.batch, rng, options.time == "stratified")
            pairs = assembly.coupling.pairs(options.batch, rng)
            loss = assembly.objective(assembly.model, pairs, t, rng).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = math.inf if options.clip is None else options.clip
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), limit)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(options, step)
        self.optimizer.step()
        self.step = step
        self._average()
        self.recent.append(torch.stack((loss.detach().to(norm.dtype), norm.detach())))

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = self.assembly.device.type
        if self.options.amp and torch.amp.is_autocast_available(kind):
            return torch.autocast(kind, dtype=torch.bfloat16)
        return nullcontext()

    @torch.no_grad()
    def _average(self) -> None:
        if self.average is None or self.options.ema is None:
            return
        decay = min(self.options.ema, (1 + self.step) / (10 + self.step))
        state = self.network.state_dict()
        moving = [n for n, t in state.items() if t.is_floating_point()]
        torch._foreach_lerp_(
            [self.average[n] for n in moving], [state[n] for n in moving], 1 - decay
        )
        for name in state.keys() - set(moving):
            self.average[name].copy_(state[name])

    # --- what is known of it ----------------------------------------------------------------------

    def check(self) -> Tensor:
        """Loss and gradient norm of each step since the last log ``(steps, 2)``.

        Raises:
            NumericalError: one is not finite; step and seed of the batch are named.
        """
        if not self.recent:
            return torch.full((1, 2), math.nan)
        values = torch.stack(self.recent).cpu()
        wrong = (~torch.isfinite(values)).any(1).nonzero().flatten()
        if len(wrong):
            first = self.step - len(self.recent) + 1
            self._refuse(first + int(wrong[0]), values[int(wrong[0])].tolist())
        return values

    def losses(self) -> tuple[float, float]:
        """Mean loss and gradient norm since they were last asked for."""
        loss, norm = self.check().double().mean(0).tolist()
        self.recent = []
        return loss, norm

    def _refuse(self, step: int, values: list[float]) -> None:
        path = self.run.folder / TRAINING
        good = "there is no earlier checkpoint"
        if path.exists():
            last = read_checkpoint(path).metadata["step"]
            good = f"the last good checkpoint is {path}, of step {last}"
        seed = derive_seed(self.run.config.seed, "train", step)
        raise NumericalError(
            f"train, step {step}",
            "loss and gradient are finite.",
            got=f"loss {values[0]:g}, gradient norm {values[1]:g}, batch seed {seed}",
            fix=f"lower train.lr, or lengthen train.warmup; {good}",
        )

    @torch.no_grad()
    def validate(self) -> float:
        """The loss on held-out rows, of the averaged weights, with the same noise every time."""
        options, assembly = self.options, self.assembly
        total = torch.zeros((), dtype=torch.float64, device=assembly.device)
        with self.evaluated():
            for index in range(options.validation_batches):
                rng = self.run.rng("validation", index)
                with self._autocast():
                    t = stratified_times(options.batch, rng)
                    pairs = assembly.validation_coupling.pairs(options.batch, rng)
                    total += assembly.objective(assembly.model, pairs, t, rng).mean()
        self.validation = float(total / options.validation_batches)
        if options.keep_best and self.validation < self.best_validation:
            self.best_validation = self.validation
            source = self.network.state_dict() if self.average is None else self.average
            self.best = {n: t.detach().clone() for n, t in source.items()}
        return self.validation

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """The network in evaluation mode, with averaged weights, inside the block."""
        self.network.eval()
        kept = None
        if self.average is not None:
            kept = self._copy()
            self.network.load_state_dict(self.average)
        try:
            yield
        finally:
            if kept is not None:
                self.network.load_state_dict(kept)
            self.network.train()

    # --- to disk and back -------------------------------------------------------------------------

    def save(self) -> None:
        """Write the training state, once the losses behind it are seen to be finite."""
        recent = self.check()
        self.run.lines.flush()
        tensors = {f"model/{n}": t for n, t in self.network.state_dict().items()}
        for prefix, weights in (("ema/", self.average), ("best/", self.best)):
            tensors |= {f"{prefix}{n}": t for n, t in (weights or {}).items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value)
        if self.recent:  # not yet logged: the next log line is the mean over all of them
            tensors["recent"] = recent
        write_checkpoint(
            self.run.folder / TRAINING,
            tensors,
            self.run.config,
            step=self.step,
            best_validation=None if self.best is None else self.best_validation,
            validation=None if math.isnan(self.validation) else self.validation,
            data_digest=self.data_digest,
        )

    def restore(self) -> bool:
        """Go on from the last training state, if there is one."""
        path = self.run.folder / TRAINING
        if not path.exists():
            return False
        stored = read_checkpoint(path)
        if stored.metadata["config_digest"] != self.run.config.digest():
            raise CheckpointError(str(path), "it belongs to the config of its folder.")
        load_weights(self.assembly, stored, stored.under("model/"))
        device = self.assembly.device
        if self.average is not None:
            self.average = {n: t.to(device) for n, t in stored.under("ema/").items()}
        self.best = {n: t.to(device) for n, t in stored.under("best/").items()} or None
        moments = stored.under("optimizer/")
        for name, parameter in self.parameters.items():
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if (value := moments.get(f"{key}/{name}")) is not None:
                    self.optimizer.state[parameter][key] = value.to(device)
        self.recent = list(stored.tensors.get("recent", torch.empty(0, 2)).to(device))
        self.step = stored.metadata["step"]
        for name in ("validation", "best_validation"):
            if (number := stored.metadata.get(name)) is not None:
                setattr(self, name, number)
        return True

    def finish(self) -> None:
        """Write the checkpoint of the weights that the run keeps."""
        if self.best is not None:
            weights, which = self.best, "best validation"
        elif self.average is not None:
            weights, which = self.average, "average"
        else:
            weights, which = self._copy(), "last"
        write_checkpoint(
            self.run.folder / CHECKPOINT,
            {f"model/{n}": t for n, t in weights.items()},
            self.run.config,
            step=self.step,
            weights=which,
            data_digest=self.data_digest,
        )


def train(run: Run) -> None:
    """The stage ``train``: from the last training state, or from the start, to the last step.

    Raises:
        NumericalError: a loss or gradient stopped being finite.
        RunError: a file could not be written.
        Stopped: on Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    devices = [run.assembly.device] if run.assembly.device.type == "cuda" else []
    with default_dtype(run.config), torch.random.fork_rng(devices=devices):
        trainer = Trainer(run)
        resumed = trainer.restore()
        lines = [
            line
            for line in run.lines.read()
            if line.get("step", 0) <= trainer.step and "step" in line
        ]
        run.lines.replace(lines)
        for line in lines:
            trainer.last_logged.update(line)
        if not trainer.parameters:
            _keep(run, trainer)
            return
        if resumed and trainer.step < run.config.train.steps:
            run.console.print(f"train: going on after step {trainer.step}", highlight=False)
        trainer.network.train()
        start, first = time.monotonic(), trainer.step
        try:
            _loop(run, trainer)
        finally:
            _use_kept_weights(trainer)
        seconds = time.monotonic() - start
        metrics: dict[str, float] = {
            "model/parameters": sum(p.numel() for p in trainer.parameters.values())
        }
        measured = {"model/parameters": "weights of the network that are trained"}
        if "loss" in trainer.last_logged:
            metrics["train/loss"] = trainer.last_logged["loss"]
            measured["train/loss"] = (
                f"mean over the steps since the log before, {run.config.train.log_every} at most"
            )
        if not math.isnan(trainer.validation):
            metrics["validation/loss"] = min(trainer.validation, trainer.best_validation)
            kept = "best" if trainer.best is not None else "last"
            measured["validation/loss"] = (
                f"held-out rows, {run.config.train.validation_batches} batches with fixed noise, "
                f"{kept} validation"
            )
        run.add_metrics("train", metrics, measured)
        if trainer.step > first:
            speed = (trainer.step - first) / max(seconds, 1e-9)
            run.console.print(
                f"train: {trainer.step} steps, {speed:.3g} steps/s in the last {seconds:.1f} s",
                highlight=False,
            )


def _keep(run: Run, trainer: Trainer) -> None:
    """Training of a network without parameters: its checkpoint, and its loss on held-out rows."""
    words = "train: the network has no parameters to train, so that no step is made"
    run.console.print(words, highlight=False)
    metrics: dict[str, float] = {"model/parameters": 0}
    measured = {"model/parameters": "weights of the network that are trained"}
    if trainer.options.validate_every and run.config.objective is not None:
        metrics["validation/loss"] = trainer.validate()
        batches = trainer.options.validation_batches
        measured["validation/loss"] = f"held-out rows, {batches} batches with fixed noise"
    trainer.finish()
    _use_kept_weights(trainer)
    run.add_metrics("train", metrics, measured)


def _use_kept_weights(trainer: Trainer) -> None:
    """The run's network has the weights that the next stage should see."""
    weights = trainer.best or trainer.average
    if weights is not None:
        trainer.network.load_state_dict(weights)
    trainer.network.eval()


def _loop(run: Run, trainer: Trainer) -> None:
    options = trainer.options
    with _signals() as asked, run.display.task("train", options.steps, trainer.step) as task:
        while trainer.step < options.steps:
            trainer.advance()
            step, last = trainer.step, trainer.step == options.steps
            validates = bool(options.validate_every) and (
                last or step % options.validate_every == 0
            )
            saves = (
                last
                or bool(asked)
                or bool(options.checkpoint_every and step % options.checkpoint_every == 0)
            )
            if last or validates or step % options.log_every == 0:
                _log(run, trainer, validates)
            if saves:
                trainer.save()
            _tell(task, trainer)
            if asked:
                raise Stopped(step, 128 + asked[0])
        trainer.finish()


def _log(run: Run, trainer: Trainer, validates: bool) -> None:
    loss, norm = trainer.losses()
    line: dict[str, Any] = {
        "step": trainer.step,
        "loss": loss,
        "gradient_norm": norm,
        "lr": learning_rate(trainer.options, trainer.step),
    }
    if validates:
        line["validation_loss"] = trainer.validate()
    trainer.last_logged.update(line)
    run.lines.append(line)


def _tell(task: Task, trainer: Trainer) -> None:
    logged = trainer.last_logged
    note = f"loss {logged['loss']:.4g}" if "loss" in logged else ""
    if "validation_loss" in logged:
        note += f"  validation {logged['validation_loss']:.4g}"
    task.update(trainer.step, note)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM fills; a second one interrupts at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
