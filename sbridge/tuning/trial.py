"""One trial: a fit by the solver that everything else uses, which reports as it goes and can go on from a checkpoint.

A training is looked at `REPORTS` times, after equal shares of its steps.  Each time the bridge of that moment is judged
on points no trial trains on, and the training's whole state becomes Ray's checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
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
from sbridge.tuning.objectives import HeldOutCertificate, Objective
from sbridge.tuning.space import solver_of

__all__ = ["REPORTS", "Work", "apart", "placed", "trial"]

REPORTS = 8
_SALT = 0x7A1E5  # keeps the judging's random numbers from being those of the training


@dataclass(frozen=True)
class Work:
    """What all trials of a search share; it goes to Ray's object store once.

    Args:
        problem: to train on; its test points are those the objective is computed on.
        objective: what is minimised.
        steps: the budget, in steps of the default batch.
        random_state: seed of every trial.
        threads: of a trial.
        device: where it computes, "cpu" or "cuda".
        location: the folder that Ray keeps the trials in, a path or a URL.
        certified: whether the last report of a trial has its certificate too, with references for its own ε.
    """

    problem: Problem
    objective: Objective
    steps: int
    random_state: int
    threads: int
    device: str
    location: str = ""
    certified: bool = False


def apart(problem: Problem, random_state: int) -> Problem:
    """The problem whose test points are a tenth of its training points, 2,048 at most: its own stay unseen.

    So the points that choose among trials are not those that the answer is judged by in the end.
    """
    generator = torch.Generator(problem.x0.device).manual_seed(_SALT + random_state)
    (x0, test0), (x1, test1) = (set_aside(x, generator) for x in (problem.x0, problem.x1))
    count = min(len(test0), len(test1))
    return replace(problem, x0=x0, x1=x1, test0=test0[:count], test1=test1[:count])


def trial(config: Mapping[str, Any], work: Work) -> None:
    """Train with config["settings"], for config["epsilon"] where it is given; report what it takes and why it fails."""
    torch.set_num_threads(work.threads)
    try:
        _Trial(config, work).run()
    except (DivergenceError, InputError) as error:  # would come again, so Ray must not try again
        tune.report({"failure": str(error)})


class _Trial:
    """A training, how often it has been looked at, and the seconds it has taken."""

    def __init__(self, config: Mapping[str, Any], work: Work) -> None:
        self.work, self.problem = work, placed(work.problem, work.device)
        if "epsilon" in config:  # the exact bridge of another is not known
            self.problem = replace(self.problem, epsilon=config["epsilon"], truth=None)
        self.training: Training = solver_of(config["settings"], work.steps).start(self.problem, work.random_state)
        self.share, self.untold = 0, False
        self.report: dict[str, Any] = {"train_seconds": 0.0}
        self._restore()
        self.begin = perf_counter() - self.report["train_seconds"]

    def run(self) -> None:
        """To the end, or until Ray has seen enough."""
        if self.untold:
            self._tell()
        for progress in self.training:
            if progress.step * REPORTS // progress.steps > self.share:
                self.share = progress.step * REPORTS // progress.steps
                self._report()

    def _report(self) -> None:
        seconds, figure = perf_counter() - self.begin, self._judge()
        self.report = {
            **self.training.history[-1],
            "objective": figure.value,
            "objective_se": figure.standard_error,
            "share": self.share,
            "step": self.training.step,
            "train_seconds": seconds,
        }
        if self.work.certified and self.share == REPORTS:
            self.report |= self._certificate()
        self._tell()

    def _tell(self) -> None:
        with TemporaryDirectory() as folder:
            self._save(Path(folder))
            tune.report(self.report, checkpoint=tune.Checkpoint.from_directory(folder))

    def _judge(self) -> Estimate:
        return self.work.objective(self.training.bridge(), self.problem, self._generator())

    def _certificate(self) -> dict[str, Any]:
        references = HeldOutCertificate.of(self.problem, self.work.random_state)
        found = references.passage(self.training.bridge(), self._generator())
        figures = {"certificate": found.kl.value, "certificate_se": found.kl.standard_error}
        return {**figures, "doubt": "; ".join(found.doubts)}

    def _generator(self) -> torch.Generator:
        return torch.Generator(self.problem.x0.device).manual_seed(_SALT + self.work.random_state)

    def _save(self, folder: Path) -> None:
        save_training(folder / "training.pt", self.training, report=self.report)
        self.training.bridge().save(folder / "bridge.safetensors")

    def _restore(self) -> None:
        """Go on from the latest whole checkpoint; one that Ray does not know of is told it again, not done again."""
        known = tune.get_checkpoint()
        for checkpoint in _versions(self.work.location):
            with suppress(InputError):  # its writing was cut off by a kill
                self._load(checkpoint)
                self.untold = known is None or Path(checkpoint.path).name != Path(known.path).name
                return

    def _load(self, checkpoint: tune.Checkpoint) -> None:
        with checkpoint.as_directory() as folder:
            self.report = load_training(Path(folder) / "training.pt", self.training)["report"]
        self.share = int(self.report["share"])


def _versions(location: str) -> list[tune.Checkpoint]:
    """This trial's checkpoints, the latest first, those included that a kill kept Ray from noting down."""
    files, place = FileSystem.from_uri(location)
    folder = FileSelector(f"{place}/{tune.get_context().get_trial_name()}", allow_not_found=True)
    paths = [entry.path for entry in files.get_file_info(folder) if entry.base_name.startswith("checkpoint_")]
    return [tune.Checkpoint(path, files) for path in sorted(paths, reverse=True)]


def placed(problem: Problem, device: str) -> Problem:
    """The problem on the device that this process computes on.

    Raises:
        InputError: it is a GPU, and PyTorch finds none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("the trial was given a GPU, and PyTorch finds none there: check the installation of that node")
    return problem.to(device)
