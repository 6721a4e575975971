"""One trial: a fit by `MaxMin` that reports to Ray while it trains, and resumes from its last checkpoint.

A trial reports `REPORTS` times, after equal shares of its steps: the criterion of its bridge at that time, and the
whole state of its training as a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from pyarrow.fs import FileSelector, FileSystem
from ray import tune

from sbridge.errors import DivergenceError, InputError
from sbridge.estimates import Estimate
from sbridge.io.checkpoint import load_training, save_training
from sbridge.problem import Problem
from sbridge.solvers.held_out import set_aside
from sbridge.solvers.training import Training
from sbridge.tuning.criteria import Criterion
from sbridge.tuning.space import solver_of

__all__ = ["REPORTS", "RETRIES", "Work", "for_search", "placed", "trial"]

REPORTS = 8
RETRIES = 3  # of a trial whose process or machine was lost, each from its last checkpoint
_SALT = 0x7A1E5  # so that the criterion's random numbers are not those of the training


@dataclass(frozen=True)
class Work:
    """What all trials of a search share; Ray stores it once.

    Args:
        problem: to train on; the criterion is computed on its test points.
        criterion: what is minimised.
        steps: the budget, in steps of the default batch.
        random_state: seed of every trial.
        threads: of a trial.
        device: of a trial, "cpu" or "cuda".
        location: Ray's folder of the trials, a path or a URL.
    """

    problem: Problem
    criterion: Criterion
    steps: int
    random_state: int
    threads: int
    device: str
    location: str = ""


def for_search(problem: Problem, random_state: int) -> Problem:
    """The problem with a tenth of its training points, at most 2,048, as test points; weighted ones are repeated.

    The problem's own test points are not used by the search, so they can evaluate its result.
    """
    generator = torch.Generator(problem.x0.device).manual_seed(_SALT + random_state)
    sides = zip((problem.x0, problem.x1), problem.weights, strict=True)
    (x0, test0), (x1, test1) = (set_aside(x, generator, weights) for x, weights in sides)
    count = min(len(test0), len(test1))
    return Problem(x0, x1, problem.epsilon, test0[:count], test1[:count], problem.name, problem.truth, problem.columns)


def trial(config: Mapping[str, Any], work: Work) -> None:
    """Train with config["settings"]; report the failure if it fails."""
    torch.set_num_threads(work.threads)
    try:
        _ReportedTraining(config, work).run()
    except (DivergenceError, InputError) as error:  # Ray would only repeat it
        tune.report({"failure": str(error)})


class _ReportedTraining:
    """A training, the share of it that is reported, and its last report."""

    def __init__(self, config: Mapping[str, Any], work: Work) -> None:
        self.work, self.problem = work, placed(work.problem, work.device)
        self.training: Training = solver_of(config["settings"], work.steps).start(self.problem, work.random_state)
        self.share = 0
        self.report: dict[str, Any] = {"train_seconds": 0.0}
        self._restore()
        self.begin = perf_counter() - self.report["train_seconds"]

    def run(self) -> None:
        """Train to the end, or until Ray stops the trial."""
        if self.share:  # restored; Ray may have lost the report that came with the checkpoint
            self._send()
        for progress in self.training:
            if progress.step * REPORTS // progress.steps > self.share:
                self.share = progress.step * REPORTS // progress.steps
                self._report()

    def _report(self) -> None:
        seconds, value = perf_counter() - self.begin, self._criterion()
        self.report = {
            **self.training.history[-1],
            "criterion": value.value,
            "criterion_se": value.standard_error,
            "share": self.share,
            "step": self.training.step,
            "train_seconds": seconds,
        }
        self._send()

    def _send(self) -> None:
        with TemporaryDirectory() as folder:
            self._save(Path(folder))
            tune.report(self.report, checkpoint=tune.Checkpoint.from_directory(folder))

    def _criterion(self) -> Estimate:
        return self.work.criterion(self.training.bridge(), self.problem, self._generator())

    def _generator(self) -> torch.Generator:
        return torch.Generator(self.problem.x0.device).manual_seed(_SALT + self.work.random_state)

    def _save(self, folder: Path) -> None:
        save_training(folder / "training.pt", self.training, report=self.report)
        self.training.bridge().save(folder / "bridge.safetensors")

    def _restore(self) -> None:
        """Resume from the latest complete checkpoint."""
        for checkpoint in _versions(self.work.location):
            with suppress(InputError):  # its writing was cut off by a kill
                self._load(checkpoint)
                return

    def _load(self, checkpoint: tune.Checkpoint) -> None:
        with checkpoint.as_directory() as folder:
            self.report = load_training(Path(folder) / "training.pt", self.training)["report"]
        self.share = int(self.report["share"])


def _versions(location: str) -> list[tune.Checkpoint]:
    """This trial's checkpoints, the latest first, with those that Ray did not record because it was killed."""
    files, place = FileSystem.from_uri(location)
    folder = FileSelector(f"{place}/{tune.get_context().get_trial_name()}", allow_not_found=True)
    paths = [entry.path for entry in files.get_file_info(folder) if entry.base_name.startswith("checkpoint_")]
    return [tune.Checkpoint(path, files) for path in sorted(paths, reverse=True)]


def placed(problem: Problem, device: str) -> Problem:
    """The problem on that device.

    Raises:
        InputError: the device is a GPU, and PyTorch finds none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("the trial was given a GPU, and PyTorch finds none there: check the installation of that node")
    return problem.to(device)
