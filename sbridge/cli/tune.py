"""`sbridge tune`: search for the best settings of max–min on held-out points, on one machine or a cluster.

The folder is a run folder like that of `sbridge recover`: its bridge is the best trial's, evaluated on test points that
neither the trials nor the choice among them has used.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from sbridge.checks import Count, NotNegative, Positive, Seed
from sbridge.cli.options import Options
from sbridge.cli.question import built
from sbridge.cli.settings import configuration
from sbridge.cli.signals import Stopped
from sbridge.cli.stages import certify_run, verdict_of
from sbridge.cli.tables import print_comparison
from sbridge.display import note
from sbridge.errors import DivergenceError
from sbridge.evaluation import Evaluator
from sbridge.io import Run, check_vacant
from sbridge.problem import Problem
from sbridge.problems import Family
from sbridge.report.page import build
from sbridge.solvers.maxmin import MaxMin

__all__ = ["Tune"]

F = TypeVar("F", bound=Family)


@dataclass(frozen=True)
class Tune(Options, Generic[F]):
    """Search for the best hyperparameters of max–min on held-out points, with Ray: on this machine or a cluster.

    Give a bundled problem's name, or your own files: sbridge tune --x0 FILE --x1 FILE --epsilon NUMBER
    """

    problem: F
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/tune-PROBLEM)")] = (
        None
    )
    """Run folder to write: the best bridge, trials.csv, figures and report.html."""
    resume: bool = False
    """Continue the search in the folder: finished trials are kept, others resume from their checkpoints."""
    trust: bool = False
    """Resume a search that somebody else has made, or you on another machine.  Its state is a pickle of Ray's, which
    can run any code when it is read."""
    space: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """JSON file of what to vary: {"rate": {"low": 0.005, "high": 0.02}, "width": [64, 128], "batch": 512}.
    Hyperparameters that it does not name keep their default range."""
    trials: Count = 24
    """Number of trials; the first has the solver's own settings."""
    steps: Count = MaxMin.steps
    """Gradient steps of a trial with the default batch; all trials see as many points."""
    search: Literal["random", "optuna"] = "random"
    """How settings are chosen: at random, or by Optuna from the trials before."""
    scheduler: Literal["asha", "none"] = "asha"
    """asha: trials below the median after a quarter or half of their training are stopped."""
    concurrent: Annotated[Count | None, tyro.conf.arg(help_behavior_hint="(default: as many as fit)")] = None
    """Trials at the same time."""
    cpus_per_trial: Positive = 1
    """CPUs of a trial, which are its threads."""
    gpus_per_trial: NotNegative = 0
    """GPUs of a trial; with .25 four trials share one.  With 0 trials compute on the CPU."""
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="(default: this machine)")] = (
        None
    )
    """Address of a Ray cluster, or auto for the one of RAY_ADDRESS or this machine.  By default a private Ray is
    started, which cannot be reached from outside this machine, and stopped at the end."""
    storage: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="(default: the run folder)")] = None
    """Where the trials are stored: a path or URL (s3://…) that all machines of the cluster reach."""
    seed: Seed = 0
    """Seed of the search, of every trial and of the evaluation."""

    def run(self, command: str) -> None:
        """Search, evaluate the best bridge, and write the report.

        Raises:
            InputError: an option cannot be used, or Ray is not installed.
            DivergenceError: there are results, but some trials failed; the message says why.
            Stopped: by a signal; the folder holds the results so far.
        """
        from sbridge import tuning  # not at the head: everything else works without Ray

        folder = self.out or Path("runs") / f"tune-{self.problem.name}"
        try:
            with _as_interrupt(signal.SIGTERM):
                study = self._ask(tuning, folder, command)
        except (KeyboardInterrupt, Stopped):
            again = command if self.resume else f"{command} --resume"
            results = folder / "trials.csv"
            raise Stopped(signal.SIGINT, f"{results} has the results so far; continue with: {again}") from None
        print(f"{study.counted()} trials: {folder / 'search.html'}, {folder / 'trials.csv'}")
        if study.failed:
            raise DivergenceError(f"{len(study.failed)} trials failed, the first by: {study.failed[0].failure}")

    def _ask(self, tuning: Any, folder: Path, command: str) -> Any:
        placement = tuning.Placement(self.cpus_per_trial, self.gpus_per_trial, self.concurrent, self.address)
        space = tuning.read_space(self.space) if self.space else tuning.Space()
        problem = built(self.problem)
        with tuning.connected(placement, problem):  # before the folder is made: it may raise
            return self._search(tuning, folder, problem, placement, space, command)

    def _shared(self, folder: Path, placement: Any) -> dict[str, Any]:
        found = {"out": folder, "steps": self.steps, "placement": placement, "storage": self.storage}
        return {**found, "resume": self.resume, "trust": self.trust, "random_state": self.seed, "say": note}

    def _search(self, tuning: Any, folder: Path, problem: Problem, placement: Any, space: Any, command: str) -> Any:
        new = not (folder / "config.json").exists()
        run = self._open(folder, problem, space, command)
        kind = {"trials": self.trials, "search": self.search, "scheduler": self.scheduler}
        with run.withdrawn_if_refused(new):
            study = tuning.tune(problem, space, **kind, **self._shared(folder, placement))
        if study.best is not None:
            _evaluate(run, study.best, self.seed)
            print(f"report: {build(run)}")
        return study

    def _open(self, folder: Path, problem: Problem, space: Any, command: str) -> Run:
        execution = {"seed": self.seed, "space": space.described(), "trials": self.trials, "search": self.search}
        config = configuration(problem, self.problem, MaxMin(), (), execution, command)
        if self.resume and (folder / "config.json").exists():
            return Run.resume(folder, config)
        check_vacant(folder)
        return Run.create(folder, config, problem)


@contextmanager
def _as_interrupt(number: int) -> Iterator[None]:
    """Within, the signal acts as Ctrl-C, which Ray handles; another exception inside one of its calls would be lost."""
    before = signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(number, before)


def _evaluate(run: Run, best: Any, seed: int) -> None:
    """Compare the best bridge with the references, and certify it, on the run's own test points."""
    evaluator = Evaluator.of(run.problem, seed)
    name = next(iter(run.config["methods"]))
    row = {**evaluator.row(best.bridge()), "fit_seconds": best.seconds}
    comparison = evaluator.table({name: row, **evaluator.references()})
    comparison.to_json(run.path("comparison.json"))
    comparison.to_csv(run.path("comparison.csv"))
    certify_run(run, seed)
    print(verdict_of(run))
    print_comparison(comparison)
