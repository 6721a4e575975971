"""Commands that are killed at random moments and continued: their results must be the same to the last bit."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sbridge.bridge import Bridge

__all__ = ["Work", "killed", "works"]

_PROGRAM = (sys.executable, "-m", "sbridge")
_DATA = ("--x0", "a.npy", "--x1", "b.npy", "--epsilon", "0.5")


@dataclass(frozen=True)
class Work:
    """A command that can be continued.

    Args:
        first: its words.
        again: the words that continue it.
        out: what it writes.
        result: what must be the same, however often it was killed.
        worker: whether one of its worker processes is killed instead of the command.
    """

    first: Sequence[str]
    again: Sequence[str]
    out: Path
    result: Callable[[Path], object]
    worker: bool = False

    @cached_property
    def untouched(self) -> tuple[float, object]:
        """The seconds and the result without a kill."""
        _clear(self.out)
        begin = time.perf_counter()
        _finished(self.first)
        return time.perf_counter() - begin, self.result(self.out)


def works(run: str) -> dict[str, Work]:
    """The commands that are killed, by name, in a folder that holds the data and a finished run."""
    fit = ("recover", *_DATA, "--method", "maxmin", "--steps", "150", "--baselines", "pot", "--checkpoint-seconds")
    fit += ("0.3", "--out", "killed")
    contest = ("recover", "photos", "--steps", "100", "--baselines", "none", "--checkpoint-seconds", "0.3")
    contest += ("--out", "killed")
    moved = ("sample", run, "--input", "a.npy", "--out", "killed.csv", "--steps", "400")
    cells = ("bench", "gaussian", "--dims", "2", "--methods", "potential", "--out", "killed")
    search = ("tune", *_DATA, "--trials", "2", "--steps", "16", "--out", "killed")
    return {
        "recover": Work(fit, (*fit, "--resume"), Path("killed"), _bridge),
        "recover by default": Work(contest, (*contest, "--resume"), Path("killed"), _contest),
        "sample": Work(moved, moved, Path("killed.csv"), Path.read_bytes),
        "bench": Work(cells, cells, Path("killed"), _rows),
        "worker of bench": Work(cells, (*cells, "--retry"), Path("killed"), _rows, worker=True),
        "tune": Work(search, (*search, "--resume"), Path("killed"), _trials),
    }


def killed(work: Work, times: int, seed: int) -> str:
    """Kill a command at random moments, continue it after each, and compare; empty if the result is the same."""
    seconds, wanted = work.untouched
    _clear(work.out)
    moments = random.Random(seed)
    words = work.first
    for _ in range(times):
        _killed_after(words, moments.uniform(0, seconds), work.worker)
        words = work.again
    _finished(words)
    return "" if work.result(work.out) == wanted else "another result"


def _killed_after(words: Sequence[str], seconds: float, worker: bool) -> None:
    process = subprocess.Popen([*_PROGRAM, *words], start_new_session=True, **_quiet())
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        _kill_worker(process) if worker else os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _kill_worker(process: subprocess.Popen[bytes]) -> None:
    """Kill the next worker process that runs, if any does before the end."""
    while process.poll() is None:
        for child in map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
                return
        time.sleep(0.01)


def _finished(words: Sequence[str]) -> None:
    subprocess.run([*_PROGRAM, *words], check=True, **_quiet())


def _quiet() -> Mapping[str, int]:
    return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _clear(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _bridge(folder: Path) -> object:
    """All numbers of the bridge, and of the comparison but for the times."""
    state = Bridge.load(folder / "bridge.safetensors").state_dict()
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    return {name: tensor.tolist() for name, tensor in state.items()}, _without_times(rows)


def _contest(folder: Path) -> object:
    """The bridge, what each contender was worth, and the checks of the network, which need not be kept."""
    tried = [{**row, "seconds": ""} for row in csv.DictReader((folder / "tried.csv").read_text().splitlines())]
    return _bridge(folder), tried, (folder / "history.csv").read_bytes()


def _rows(folder: Path) -> object:
    records = sorted((folder / "cells").glob("*.json"))
    return {path.name: _without_times(json.loads(path.read_text())["result"]) for path in records}


def _trials(folder: Path) -> object:
    """The criteria of all trials; no finished one may be lost."""
    header, *lines = (folder / "trials.csv").read_text().splitlines()
    places = [header.split(",").index(name) for name in ("trial", "status", "criterion")]
    return [[line.split(",")[place] for place in places] for line in lines]


def _without_times(rows: Mapping[str, Mapping[str, object]]) -> object:
    times = ("fit_seconds", "move_seconds", "peak_memory")
    return {name: {key: value for key, value in row.items() if key not in times} for name, row in rows.items()}
