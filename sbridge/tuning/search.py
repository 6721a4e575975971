"""A search over hyperparameters: which settings are tried, which trials are stopped early, and the run of it.

Random settings are drawn beforehand; Optuna's (tree-structured Parzen estimators; Akiba et al., arXiv 1907.10902)
depend on the trials before.  Successive halving (ASHA; Li et al., arXiv 1810.05934) looks at the trials after a quarter
and after half of their training, and stops those that are worse than the median: not earlier, because the rates are at
their height then and the order of the trials is not that of the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ray import tune as ray_tune
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from sbridge.errors import InputError
from sbridge.files import read_json, write_json
from sbridge.io import check_same
from sbridge.io.settings import describe
from sbridge.problem import Problem
from sbridge.solvers.maxmin import MaxMin
from sbridge.tuning.cluster import Placement, connected
from sbridge.tuning.figures import Curves, Importances, Parallel
from sbridge.tuning.objectives import objective_of
from sbridge.tuning.page import Part, write
from sbridge.tuning.space import Domain, LogUniform, Space
from sbridge.tuning.study import Study
from sbridge.tuning.trial import REPORTS, Work, apart, trial

__all__ = ["Plan", "Say", "conduct", "folder_of", "tune"]

_RETRIES = 3  # of a trial whose worker or machine was lost, each from its last checkpoint
_METRIC = {"metric": "objective", "mode": "min"}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """The trials of a search.

    Args:
        space: what Ray draws a trial's config from.
        samples: how often it does so.
        searcher: draws with the trials before in mind; None if independently.
    """

    space: Mapping[str, Any]
    samples: int
    searcher: Searcher | None = None


def _random(space: Space, trials: int, random_state: int) -> Plan:
    generator = np.random.default_rng(random_state)
    drawn = [space.draw(generator) for _ in range(trials)]
    return Plan({"settings": ray_tune.grid_search([*space.defaults(), *drawn][:trials])}, 1)


def _optuna(space: Space, trials: int, random_state: int) -> Plan:
    points = [{f"settings/{name}": own[name] for name in space.varied()} for own in space.defaults()]
    searcher = OptunaSearch(**_METRIC, points_to_evaluate=points or None, seed=random_state)
    return Plan({"settings": {name: _domain(one) for name, one in space.domains().items()}}, trials, searcher)


def _domain(domain: Domain) -> Any:
    if isinstance(domain, LogUniform):
        return ray_tune.loguniform(domain.low, domain.high)
    return ray_tune.choice(list(domain.values)) if len(domain.values) > 1 else domain.values[0]


def _halving() -> TrialScheduler:
    return ASHAScheduler("share", grace_period=REPORTS // 4, max_t=REPORTS, reduction_factor=2)


SEARCHES = {"random": _random, "optuna": _optuna}
SCHEDULERS: dict[str, Callable[[], TrialScheduler]] = {"asha": _halving, "none": FIFOScheduler}


def tune(
    problem: Problem,
    space: Space | None = None,
    *,
    out: str | Path,
    trials: int = 24,
    steps: int = MaxMin.steps,
    search: Literal["random", "optuna"] = "random",
    scheduler: Literal["asha", "none"] = "asha",
    placement: Placement | None = None,
    storage: str | None = None,
    resume: bool = False,
    random_state: int = 0,
    say: Say = print,
) -> Study:
    """What `sbridge.tune` does, which has the same arguments."""
    space, placement = space or Space(), placement or Placement()
    kept = apart(problem, random_state)
    work = Work(kept, objective_of(kept, random_state), steps, random_state, placement.threads, placement.device)
    kind = {"trials": trials, "search": search, "scheduler": scheduler}
    question = {"space": space.described(), **kind, **_facts(problem, work)}
    plan = SEARCHES[search](space, trials, random_state)
    with connected(placement, problem):  # before there is a folder, in case there is no room for a trial
        folder = folder_of(Path(out), question, resume)
        finish = partial(_finish, space=space, folder=folder, question={**question, "placement": str(placement)})
        return conduct(plan, SCHEDULERS[scheduler](), work, placement, storage or str(folder), finish, say)


def _facts(problem: Problem, work: Work) -> dict[str, Any]:
    facts = {"name": problem.name, "epsilon": problem.epsilon, "dim": problem.dim, "points": len(problem.x0)}
    objective, points = work.objective, len(work.problem.test0)
    judging = {"objective": objective.name, "meaning": objective.meaning, "judged_on": points}
    return {**facts, "steps": work.steps, **judging, "random_state": work.random_state}


def _finish(study: Study, space: Space, folder: Path, question: Mapping[str, Any]) -> None:
    study.write(folder)
    study.write_best(folder)
    asked = (
        f"Which settings of max–min do best here? The objective, {study.objective}, is {question['meaning']}. It is "
        f"computed on {question['judged_on']} points a side that no trial trains on. Each trial trains for "
        f"{question['steps']} steps of the default batch, or as many points. Placement: {question['placement']}."
    )
    parts: list[Part] = [Parallel(study, space), Curves(study), Importances(study, space)]
    write(folder, f"{question['name']}: search", [asked, _winner(study), *study.failures()], parts, question)


def _winner(study: Study) -> str:
    best = study.best
    found = f"Best is trial {best.number}: {best.objective}, after {best.seconds:.0f} s of training. " if best else ""
    return f"{found}Trials: {study.counted()}."


def folder_of(folder: Path, question: Mapping[str, Any], resume: bool) -> Path:
    """The folder of this search, made if need be.

    Raises:
        InputError: it holds one and `resume` is off, or one that is not the same.
    """
    folder = folder.absolute()  # a trial works in a folder of its own
    path = folder / "study.json"
    if path.exists() and not resume:
        raise InputError(f"{folder} holds a search already; resume it, or choose another folder")
    if path.exists():
        check_same(path, read_json(path), describe(question))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, describe(question))
    return folder


_say: ContextVar[Say] = ContextVar("say")  # Ray writes its callbacks to disk, which not every function can be


class _Announce(ray_tune.Callback):  # type: ignore[misc]
    """A line for each trial that ends, and for each that is tried again."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ended = sum(one.is_finished() for one in trials if one is not trial) + 1
        last = trial.last_result
        figure = f"failed: {last['failure']}" if "failure" in last else f"objective {last['objective']:.4g}"
        _say.get()(f"{ended} of {len(trials)} trials ended: {figure}")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _say.get()("a trial was lost with its worker and goes on from its checkpoint")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _say.get()(f"a trial was lost {_RETRIES + 1} times and is given up")


def conduct(
    plan: Plan,
    scheduler: TrialScheduler,
    work: Work,
    placement: Placement,
    storage: str,
    finish: Callable[[Study], None],
    say: Say,
) -> Study:
    """Run the trials by the Ray that is connected, or go on with those in `storage`.

    Whatever ends it, what there is goes to `finish`.

    Raises:
        KeyboardInterrupt: Ctrl-C; Ray notes it and stops by itself, because nothing may be raised inside its calls.
    """
    location = f"{storage.rstrip('/')}/trials"
    work = replace(work, location=location)
    _say.set(say)
    try:
        _tuner(plan, scheduler, work, placement, storage, location).fit()
    finally:
        study = Study.read(location, work.objective.name)
        finish(study)
    if any(trial.status == "unfinished" for trial in study.trials):
        raise KeyboardInterrupt
    return study


def _tuner(
    plan: Plan,
    scheduler: TrialScheduler,
    work: Work,
    placement: Placement,
    storage: str,
    location: str,
) -> ray_tune.Tuner:
    resources = {"cpu": placement.cpus_per_trial, "gpu": placement.gpus_per_trial}
    run = ray_tune.with_resources(ray_tune.with_parameters(trial, work=work), resources)
    if ray_tune.Tuner.can_restore(location):
        return ray_tune.Tuner.restore(location, run)
    return ray_tune.Tuner(
        run,
        param_space=dict(plan.space),
        tune_config=ray_tune.TuneConfig(
            **_METRIC,
            num_samples=plan.samples,
            search_alg=plan.searcher,
            scheduler=scheduler,
            max_concurrent_trials=placement.concurrent,
            trial_dirname_creator=str,
            reuse_actors=True,  # a process that has imported PyTorch serves the next trial too
        ),
        run_config=ray_tune.RunConfig(
            name="trials",
            storage_path=storage,
            failure_config=ray_tune.FailureConfig(max_failures=_RETRIES),
            checkpoint_config=ray_tune.CheckpointConfig(num_to_keep=3),  # a kill may leave the last ones unrecorded
            callbacks=[JsonLoggerCallback(), CSVLoggerCallback(), _Announce()],
            verbose=0,
        ),
    )
