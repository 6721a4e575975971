"""A search over hyperparameters: which settings are tried, which trials are stopped early, and the run of it.

Random settings are drawn before the search; Optuna's (tree-structured Parzen estimators; Akiba et al., arXiv
1907.10902) depend on the trials before.  Successive halving (ASHA; Li et al., arXiv 1810.05934) compares the trials
after a quarter and after half of their training, and stops those that are worse than the median.  Not earlier: the
learning rate is highest then, and the order of the trials is not yet that of the end.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pyarrow.fs import FileSystem
from ray import tune as ray_tune
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from sbridge.checks import Count, Seed, checked
from sbridge.errors import InputError
from sbridge.files import made_folder, read_json, write_json
from sbridge.io import check_same, owned
from sbridge.io.settings import describe, environment
from sbridge.problem import Problem
from sbridge.report.material import Exhibit
from sbridge.report.page import Origin, write_page
from sbridge.solvers.maxmin import MaxMin
from sbridge.tuning.cluster import Placement, connected
from sbridge.tuning.criteria import criterion_of
from sbridge.tuning.figures import importance_bars, parallel, trial_curves
from sbridge.tuning.snapshot import Snapshot, put_back
from sbridge.tuning.space import Domain, LogUniform, Space
from sbridge.tuning.study import Study
from sbridge.tuning.trial import REPORTS, RETRIES, Work, for_search, trial
from sbridge.tuning.trust import check_own, remember

__all__ = ["Candidates", "Say", "conduct", "folder_of", "tune", "write_search"]

_METRIC = {"metric": "criterion", "mode": "min"}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidates:
    """How the settings of the trials are chosen.

    Args:
        space: what Ray draws a trial's config from.
        samples: how many times.
        trials: how many trials that makes.
        searcher: chooses from the results of the trials before; None if the draws are independent.
    """

    space: Mapping[str, Any]
    samples: int
    trials: int
    searcher: Searcher | None = None


def _random(space: Space, trials: int, random_state: int) -> Candidates:
    generator = np.random.default_rng(random_state)
    drawn = [space.draw(generator) for _ in range(trials)]
    return Candidates({"settings": ray_tune.grid_search([*space.defaults(), *drawn][:trials])}, 1, trials)


def _optuna(space: Space, trials: int, random_state: int) -> Candidates:
    points = [{f"settings/{name}": own[name] for name in space.varied()} for own in space.defaults()]
    searcher = OptunaSearch(**_METRIC, points_to_evaluate=points or None, seed=random_state)
    settings = {name: _domain(one) for name, one in space.domains().items()}
    return Candidates({"settings": settings}, trials, trials, searcher)


def _domain(domain: Domain) -> Any:
    if isinstance(domain, LogUniform):
        return ray_tune.loguniform(domain.low, domain.high)
    return ray_tune.choice(list(domain.values)) if len(domain.values) > 1 else domain.values[0]


def _halving() -> TrialScheduler:
    return ASHAScheduler("share", grace_period=REPORTS // 4, max_t=REPORTS, reduction_factor=2)


SEARCHES = {"random": _random, "optuna": _optuna}
SCHEDULERS: dict[str, Callable[[], TrialScheduler]] = {"asha": _halving, "none": FIFOScheduler}


@checked
def tune(
    problem: Problem,
    space: Space | None = None,
    *,
    out: str | Path,
    trials: Count = 24,
    steps: Count = MaxMin.steps,
    search: Literal["random", "optuna"] = "random",
    scheduler: Literal["asha", "none"] = "asha",
    placement: Placement | None = None,
    storage: str | None = None,
    resume: bool = False,
    trust: bool = False,
    random_state: Seed = 0,
    say: Say = print,
) -> Study:
    """Search for the hyperparameters of max–min that are best on held-out points, with Ray: here or on a cluster.

    The first trial has the solver's own settings, if the space holds them.  A tenth of the training points, 2,048 at
    most, is kept from all trials to compute the criterion on; the problem's test points are not looked at.

    Args:
        problem: with the exact bridge known, path KL to it is minimised; otherwise the dual value of the fit's
            potential is maximised (`sbridge.tuning.criteria`).
        space: what is varied; the default says why.
        out: folder for search.html, trials.csv, curves.csv, figures/ and the best trial's bridge.safetensors and
            history.csv.
        trials: how many.
        steps: the budget of each, in steps of the default batch.
        search: how settings are chosen: at random, or by Optuna from the trials before.
        scheduler: whether poor trials are stopped early.
        placement: what a trial gets, and on which machines; by default one CPU, on this one.
        storage: where Ray keeps the trials, a path or a URL (s3://…) that every machine reaches; `out` by default.
        resume: go on with the search in `out`: finished trials are kept, others go on from their checkpoints.
        trust: resume a search that was made by somebody else, or on another machine.  Ray's state is a pickle, which
            can run any code when it is read.
        random_state: seed of the search and of every trial.
        say: is told how the search goes.

    Raises:
        InputError: Ray or Optuna is not installed, the folder holds another search, the storage cannot be written to,
            or the cluster has no room for a trial.
        KeyboardInterrupt: Ctrl-C; the folder has what was found, and the search can be resumed.
    """
    space, placement = space or Space(), placement or Placement()
    kept = for_search(problem, random_state)
    work = Work(kept, criterion_of(kept), steps, random_state, placement.threads, placement.device)
    kind = {"trials": trials, "search": search, "scheduler": scheduler}
    question = {"space": space.described(), **kind, **_facts(problem, work)}
    candidates = SEARCHES[search](space, trials, random_state)
    place = storage if storage is None else _writable(storage)
    with connected(placement, problem):  # before the folder is made: it may raise
        folder = folder_of(Path(out), question, resume, trust)
        finish = partial(_finish, space=space, folder=folder, question={**question, "placement": str(placement)})
        with owned(folder):
            return conduct(candidates, SCHEDULERS[scheduler](), work, placement, place or str(folder), finish, say)


def _writable(storage: str) -> str:
    """The storage as Ray takes it, with a whole path.

    Raises:
        InputError: it cannot be written to.
    """
    place = storage if "://" in storage else str(Path(storage).absolute())
    try:
        files, path = FileSystem.from_uri(place)
        files.create_dir(path)
    except (OSError, ValueError) as error:
        raise InputError(f"the storage {storage!r} cannot be written to: {error}") from error
    return place


def _facts(problem: Problem, work: Work) -> dict[str, Any]:
    facts = {"name": problem.name, "epsilon": problem.epsilon, "dim": problem.dim, "points": len(problem.x0)}
    criterion = {"criterion": work.criterion.name, "meaning": work.criterion.meaning}
    points = {"held_out_points": len(work.problem.test0)}
    return {**facts, "steps": work.steps, **criterion, **points, "random_state": work.random_state}


def _finish(study: Study, space: Space, folder: Path, question: Mapping[str, Any]) -> None:
    study.write(folder)
    study.write_best(folder)
    asked = (
        f"Which settings of max–min are best here? The criterion, {study.criterion}, is {question['meaning']}. It is "
        f"computed on {question['held_out_points']} points a side that no trial trains on. Each trial trains for "
        f"{question['steps']} steps of the default batch, or as many points. Placement: {question['placement']}."
    )
    exhibits = [*parallel(study, space), *trial_curves(study), *importance_bars(study, space)]
    write_search(folder, f"{question['name']}: search", [asked, _best(study), *study.failures()], exhibits, question)


def _best(study: Study) -> str:
    best = study.best
    found = f"Best is trial {best.number}: {best.criterion}, after {best.seconds:.0f} s of training. " if best else ""
    return f"{found}Trials: {study.counted()}."


def write_search(
    folder: Path, name: str, paragraphs: Sequence[str], exhibits: Sequence[Exhibit], settings: Mapping[str, Any]
) -> None:
    """Write search.html and figures/, which look like the report of a run."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    write_page(folder / "search.html", name, paragraphs, exhibits, Origin(command, environment(), settings))


def folder_of(folder: Path, question: Mapping[str, Any], resume: bool, trust: bool = False) -> Path:
    """The folder of this search; it is created if it does not exist.

    Raises:
        InputError: it holds a search and `resume` is off, or a search with other settings, or without `trust` a search
            that this user has not made.
    """
    folder = folder.absolute()  # a trial has its own working directory
    path = folder / "study.json"
    if path.exists() and not resume:
        raise InputError(f"{folder} holds a search already; resume it, or choose another folder")
    if path.exists():
        check_same(path, read_json(path), describe(question))
    if path.exists() and not trust:
        check_own(folder)
    elif not path.exists():
        remember(made_folder(folder))
    write_json(path, describe(question))
    return folder


_say: ContextVar[Say] = ContextVar("say")  # not an attribute: Ray pickles its callbacks


class _Announce(ray_tune.Callback):  # type: ignore[misc]
    """A line for each trial that ends or is resumed."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ended = sum(one.is_finished() for one in trials if one is not trial) + 1
        last = trial.last_result
        figure = f"failed: {last['failure']}" if "failure" in last else f"criterion {last['criterion']:.4g}"
        _say.get()(f"{ended} of {len(trials)} trials ended: {figure}")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _say.get()("a trial was lost with its process and resumes from its checkpoint")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _say.get()(f"a trial was lost {RETRIES + 1} times and is not tried again")


def conduct(
    candidates: Candidates,
    scheduler: TrialScheduler,
    work: Work,
    placement: Placement,
    storage: str,
    finish: Callable[[Study], None],
    say: Say,
) -> Study:
    """Run the trials with the connected Ray, or resume those in `storage`.

    However it ends, `finish` gets the study.

    Raises:
        KeyboardInterrupt: Ctrl-C, which Ray handles inside its calls, or Ray gave up a trial that it lost before its
            retries were used; raised here after it has stopped.
    """
    location = f"{storage.rstrip('/')}/trials"
    work = replace(work, location=location)
    _say.set(say)
    try:
        _tuner(candidates, scheduler, work, placement, storage, location).fit()
    finally:
        study = Study.read(location, work.criterion.name)
        finish(study)
    begun_all = len(study.trials) >= candidates.trials  # an interrupt may come between two trials
    if not begun_all or any(trial.status == "unfinished" for trial in study.trials):
        raise KeyboardInterrupt
    return study


def _tuner(
    candidates: Candidates,
    scheduler: TrialScheduler,
    work: Work,
    placement: Placement,
    storage: str,
    location: str,
) -> ray_tune.Tuner:
    resources = {"cpu": placement.cpus_per_trial, "gpu": placement.gpus_per_trial}
    run = ray_tune.with_resources(ray_tune.with_parameters(trial, work=work), resources)
    if put_back(location):
        return ray_tune.Tuner.restore(location, run, resume_errored=True)
    return ray_tune.Tuner(
        run,
        param_space=dict(candidates.space),
        tune_config=ray_tune.TuneConfig(
            **_METRIC,
            num_samples=candidates.samples,
            search_alg=candidates.searcher,
            scheduler=scheduler,
            max_concurrent_trials=placement.concurrent,
            trial_dirname_creator=str,
            reuse_actors=True,  # a process that has imported PyTorch runs the next trial too
        ),
        run_config=ray_tune.RunConfig(
            name="trials",
            storage_path=storage,
            failure_config=ray_tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=ray_tune.CheckpointConfig(num_to_keep=3),  # a kill may leave the last ones unrecorded
            callbacks=[JsonLoggerCallback(), CSVLoggerCallback(), _Announce(), Snapshot()],
            verbose=0,
        ),
    )
