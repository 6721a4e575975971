"""Claims: two one-thread trials at once give at least 1.7 times the trials an hour of one process that runs them one by
one; Ray costs milliseconds a report; and 8 GPUs at a quarter a trial run 32 trials at once.

    .venv/bin/python experiments/scaling.py                # about ten minutes on two quiet cores
    .venv/bin/python experiments/scaling.py --trials 2 --steps 100

Times are wall-clock times of an otherwise idle machine.  GPUs are logical: Ray places trials by what a machine is said
to have, so the placement is real and the computing is not.  The table of what a sweep over 100 GPUs needs is computed
from the sizes and times measured here.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import ray
import torch
from bench import RESULTS
from figures import Rows
from ray import tune as ray_tune

from sbridge import tune
from sbridge.problem import Problem
from sbridge.problems.mixture import Mixture
from sbridge.tune.objectives import PathKL
from sbridge.tune.search import SCHEDULERS, Plan, conduct
from sbridge.tune.space import Settings, solver_of
from sbridge.tune.trial import REPORTS, Work, apart

FOLDER = RESULTS / "scaling"
GPUS, SHARE = 8, 0.25
SWEEP_GPUS, SWEEP_TRIALS = 100, 4000


def seconds(action: Callable[[], object]) -> float:
    """Wall-clock time of a call."""
    begin = perf_counter()
    action()
    return perf_counter() - begin


def serially(work: Work, settings: list[Settings]) -> None:
    """The same trials in this process: training, and the objective as often."""
    for one in settings:
        training, looked = solver_of(one, work.steps).start(work.problem, work.random_state), 0
        for progress in training:
            if progress.step * REPORTS // progress.steps > looked:
                looked = progress.step * REPORTS // progress.steps
                work.objective(training.bridge(), work.problem, torch.Generator().manual_seed(0))


def concurrently(work: Work, settings: list[Settings], concurrent: int, storage: str) -> None:
    """The same trials by Ray, which is running."""
    plan = Plan({"settings": ray_tune.grid_search([dict(one) for one in settings])}, 1)
    conduct(plan, SCHEDULERS["none"](), work, tune.Placement(concurrent=concurrent), storage, lambda study: None, print)


def throughput(work: Work, settings: list[Settings]) -> None:
    """Trials an hour in one process, and by Ray with one and two at a time."""
    rows = Rows(FOLDER, "throughput", {"how": "how", "hour": "trials an hour", "ratio": "over one process"})
    rows.rows.clear()
    alone = seconds(partial(serially, work, settings))
    rows.add(how="one process, one by one", hour=3600 * len(settings) / alone, ratio=1.0)
    for concurrent in (1, 2):
        with tempfile.TemporaryDirectory() as storage, tune.cluster.connected(tune.Placement(), work.problem):
            warm = [settings[0]] * concurrent  # processes that have imported what they need
            concurrently(Work(work.problem, work.objective, 40, 0, 1, "cpu"), warm, concurrent, f"{storage}/warm")
            taken = seconds(partial(concurrently, work, settings, concurrent, f"{storage}/measured"))
        rows.add(how=f"Ray, {concurrent} at a time", hour=3600 * len(settings) / taken, ratio=alone / taken)


def empty(config: dict[str, int]) -> None:
    """A trial that only reports, with a checkpoint as large as a real one."""
    for _ in range(config["reports"]):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "training.pt").write_bytes(bytes(config["bytes"]))
            ray_tune.report({"objective": 0.0}, checkpoint=ray_tune.Checkpoint.from_directory(folder))


def overhead(problem: Problem, size: int) -> dict[str, float]:
    """Milliseconds a trial and a report, from trials of 1 and of 41 reports."""
    taken = {}
    with tune.cluster.connected(tune.Placement(), problem), tempfile.TemporaryDirectory() as storage:
        for reports in (1, 1, 41):  # the first starts the process
            taken[reports] = seconds(partial(_empty_trials, reports, size, f"{storage}/{len(taken)}-{reports}"))
    report = (taken[41] - taken[1]) / (40 * 8)
    return {"report": 1e3 * report, "trial": 1e3 * (taken[1] / 8 - report)}


def _empty_trials(reports: int, size: int, storage: str) -> None:
    """Eight of them, one after the other."""
    space = {"reports": reports, "bytes": size}
    one_by_one = ray_tune.TuneConfig(num_samples=8, max_concurrent_trials=1, reuse_actors=True)
    kept = ray_tune.CheckpointConfig(num_to_keep=2)
    run = ray_tune.RunConfig(storage_path=storage, verbose=0, checkpoint_config=kept)
    trial = ray_tune.with_resources(empty, {"cpu": 1})
    ray_tune.Tuner(trial, param_space=space, tune_config=one_by_one, run_config=run).fit()


def at_once() -> int:
    """The most tasks of a quarter of a GPU that run at one time on a machine said to have eight."""

    @ray.remote(num_cpus=0, num_gpus=SHARE)
    class Trial:
        def ready(self) -> bool:
            return True

    ray.init(address="local", num_cpus=1, num_gpus=GPUS, include_dashboard=False, object_store_memory=80_000_000)
    try:
        asked = [Trial.remote() for _ in range(round(GPUS / SHARE) + 4)]
        ready, _ = ray.wait([one.ready.remote() for one in asked], num_returns=len(asked), timeout=120)
        return len(ready)
    finally:
        ray.shutdown()


def checkpoint_bytes(work: Work, settings: Settings) -> int:
    """Of a training's whole state."""
    training = solver_of(settings, work.steps).start(work.problem, 0)
    next(iter(training))
    with tempfile.TemporaryDirectory() as folder:
        torch.save(training.state_dict(), Path(folder, "training.pt"))
        return Path(folder, "training.pt").stat().st_size


def large_sweep(work: Work, size: int, costs: dict[str, float], trial_seconds: float) -> None:
    """What 4,000 trials on 100 GPUs, four on each, need, if a trial takes as long there as on a CPU thread here."""
    at_a_time = SWEEP_GPUS / SHARE
    reports_a_second = at_a_time * REPORTS / trial_seconds
    rows = Rows(FOLDER, "sweep_of_100_gpus", {"what": "what", "value": "value", "unit": "unit", "how": "computed as"})
    rows.rows.clear()
    for what, value, unit, how in (
        ("trials at once", at_a_time, "", f"{SWEEP_GPUS} GPUs / {SHARE}"),
        ("object store of a machine", tune.cluster.store_bytes(work.problem) / 1e6, "MB", "twice the data and 80 MB"),
        ("checkpoint", size / 1e6, "MB", "measured"),
        ("checkpoints kept", 2 * SWEEP_TRIALS * size / 1e9, "GB", f"2 for each of {SWEEP_TRIALS} trials"),
        ("checkpoint traffic", reports_a_second * size / 1e6, "MB/s", f"{REPORTS} in {trial_seconds:.0f} s"),
        ("reports", reports_a_second, "1/s", "trials at once × reports / seconds of a trial"),
        ("driver's time", reports_a_second * costs["report"] / 10, "%", "reports/s × ms a report"),
    ):
        rows.add(what=what, value=value, unit=unit, how=how)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    problem = Mixture(dim=16, epsilon=0.5).build()
    work = Work(apart(problem, 0), PathKL(), options.steps, 0, 1, "cpu")
    own = tune.Space().defaults()[0]
    generator = np.random.default_rng(0)
    settings = [{**own, "rate": tune.LogUniform(2e-3, 5e-3).at(generator.random())} for _ in range(options.trials)]
    throughput(work, settings)
    size = checkpoint_bytes(work, own)
    costs = overhead(problem, size)
    rows = Rows(FOLDER, "overhead", {"what": "Ray's cost of a", "ms": "ms"})
    rows.rows.clear()
    for what, value in costs.items():
        rows.add(what=what, ms=value)
    placed = Rows(FOLDER, "placement", {"gpus": "logical GPUs", "share": "each trial's", "count": "trials at once"})
    placed.rows.clear()
    placed.add(gpus=float(GPUS), share=SHARE, count=float(at_once()))
    whole = seconds(partial(serially, Work(work.problem, work.objective, 300, 0, 1, "cpu"), [own])) / 300 * 6000
    large_sweep(work, size, costs, whole)


if __name__ == "__main__":
    main()
