"""Kills runs and goes on with them: a process of its own, because its children are forked.

Usage: python run_killer.py FOLDER SEED KILLS. Prints one JSON object. The parent imports torch once
and never computes with it (autograd cannot be forked after use); every run is a forked child.
"""

from __future__ import annotations

import builtins
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich.table  # noqa: F401  # what every child would import anew
import torch
import torch._decomp.decompositions_for_jvp  # torch.func.jvp imports it
import torch._dynamo  # torch.optim imports it
from test_run_toys import quiet, results, toy_config, toy_registry

from genpath.plugins import using
from genpath.run import commands, files, run_config, stages, training  # noqa: F401

KILL_POINTS = ("half a write", "before the move", "after the move", "half a write", "in fsync")


def child(action: Callable[[], None]) -> int:
    """Fork, act, and leave without cleaning up."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        except KeyboardInterrupt:
            code = 130
        except BaseException as error:  # said by its words, which the tests read
            Path(sys.argv[1], "error.txt").write_text(f"{type(error).__name__}: {error}")
        finally:
            os._exit(code)
    return pid


def wait(pid: int) -> int:
    """The exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path) -> None:
    run_config(
        toy_config("evaluate=[{name: nll, max_examples: 20}]", "train.steps=150"), folder, quiet()
    )


def killed_in_write(folder: Path, point: str, count: int) -> None:
    """A run that kills itself at the count-th write of a training checkpoint."""
    seen = [0]

    def due(path: Any) -> bool:
        if "training.safetensors" in str(path):
            seen[0] += 1
            return seen[0] == count
        return False

    class Half:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Half:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            die()

    real_replace, real_fsync = os.replace, os.fsync

    def opened(path: Any, mode: str = "r", **more: Any) -> Any:
        file = builtins.open(path, mode, **more)  # noqa: SIM115
        if mode == "wb" and due(path):
            if point == "half a write":
                return Half(file)
            if point == "in fsync":
                os.fsync = lambda handle: die()
        return file

    def replaced(source: Any, target: Any) -> None:
        if due(target):
            if point == "after the move":
                real_replace(source, target)
            die()
        real_replace(source, target)

    if point in ("half a write", "in fsync"):
        files.open = opened  # type: ignore[attr-defined]
    else:
        os.replace = replaced
    run(folder)
    os.replace, os.fsync = real_replace, real_fsync


def without_moments(folder: Path) -> None:
    """The planted fault: a resume that forgets the optimiser's moments."""
    real = training.Trainer.restore

    def restore(self: Any) -> bool:
        found = real(self)
        self.optimizer.state.clear()
        return found

    training.Trainer.restore = restore  # type: ignore[method-assign]
    run(folder)


def in_place(folder: Path) -> None:
    """Another fault: a writer that writes over the old file, killed halfway."""

    def write(path: Path, data: bytes) -> None:
        half = len(data) // 2
        with open(path, "wb") as file:
            file.write(data[:half])
            file.flush()
            if path.name == "training.safetensors":
                die()
            file.write(data[half:])

    from genpath.run import checkpoints

    checkpoints.write_bytes = write  # type: ignore[attr-defined]
    run(folder)


def interrupted(root: Path, number: int) -> dict[str, Any]:
    """A run that gets one signal, some time after its first checkpoint, and is then run again."""
    folder = root / f"signal-{number}"
    pid = child(lambda: run(folder))
    while not (folder / "training.safetensors").exists():
        time.sleep(0.002)
    time.sleep(0.01)
    os.kill(pid, number)
    code = wait(pid)
    step = None
    if (folder / "training.safetensors").exists():
        from genpath.run import read_checkpoint

        step = read_checkpoint(folder / "training.safetensors").metadata["step"]
    again = wait(child(lambda: run(folder)))
    return {"code": code, "step": step, "again": again, "results": results(folder)}


def chains(root: Path, seed: int, kills: int, whole: float) -> list[dict[str, Any]]:
    """Runs that are killed again and again, then left alone; five of the kills inside a write."""
    random_ = random.Random(seed)
    report, done, writes = [], 0, list(enumerate(KILL_POINTS))
    while done < kills or writes:
        folder = root / f"killed-{len(report)}"
        causes: list[str] = []
        for _ in range(6):
            if writes and random_.random() < 0.5:
                index, point = writes.pop()
                count = 1 + index % 2
                pid = child(lambda f=folder, p=point, c=count: killed_in_write(f, p, c))  # type: ignore[misc]
                code, cause = wait(pid), f"{point}, checkpoint {count}"
            else:
                delay = random_.uniform(0.0, 0.6 * whole)
                pid = child(lambda f=folder: run(f))  # type: ignore[misc]
                time.sleep(delay)
                os.kill(pid, signal.SIGKILL)
                code, cause = wait(pid), f"after {delay:.3f} s"
            if code != -signal.SIGKILL:
                if "checkpoint" in cause:
                    writes.append((index, point))
                break
            causes.append(cause)
            done += 1
        final = wait(child(lambda f=folder: run(f)))  # type: ignore[misc]
        report.append(
            {"kills": causes, "final": final, "results": results(folder) if final == 0 else None}
        )
    return report


def main() -> None:
    root, seed, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    with using(toy_registry()):
        start = time.monotonic()
        codes = [wait(child(lambda: run(root / "reference")))]
        whole = time.monotonic() - start
        reference = results(root / "reference")
        found = chains(root, seed, kills, whole)
        signals = [interrupted(root, n) for n in (signal.SIGINT, signal.SIGTERM)]
        wait(child(lambda: killed_in_write(root / "fault", "before the move", 4)))
        codes.append(wait(child(lambda: without_moments(root / "fault"))))
        wait(child(lambda: in_place(root / "damaged")))
        codes.append(wait(child(lambda: run(root / "damaged"))))
    for entry in [*found, *signals]:
        got = entry.pop("results")
        entry["differs"] = None if got is None else [n for n in got if got[n] != reference[n]]
    fault = results(root / "fault")
    error = root / "error.txt"
    print(json.dumps({
        "codes": codes, "chains": found, "signals": signals, "whole": whole,
        "fault": [n for n in fault if fault[n] != reference[n]],
        "error": error.read_text() if error.exists() else "",
    }))  # fmt: skip


if __name__ == "__main__":
    main()
