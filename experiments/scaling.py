"""Claims: two one-thread trials at once give at least 1.7 times the trials an hour of one process that runs them one by
one; Ray costs milliseconds a report; and 8 GPUs at a quarter a trial run 32 trials at once.

    .venv/bin/python experiments/scaling.py                # about ten minutes on two quiet cores
    .venv/bin/python experiments/scaling.py --trials 2 --steps 100

Times are wall-clock times of an otherwise idle machine; two bare processes without Ray say what it can give at most.
GPUs are logical: Ray places trials by what a machine is said to have, so the placement is real and the computing is
not.  The table of what a sweep over 100 GPUs needs is computed from the sizes and times measured here.
"""

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import ray
import torch
from figures import Cell, Rows
from ray import tune as ray_tune
from tune import asked

from sbridge import tuning
from sbridge.bench.pool import finished
from sbridge.problem import Problem
from sbridge.problems.mixture import Mixture
from sbridge.tuning.cluster import store_bytes
from sbridge.tuning.criteria import PathKL
from sbridge.tuning.search import SCHEDULERS, Candidates, conduct
from sbridge.tuning.space import Settings, own_settings, solver_of
from sbridge.tuning.trial import REPORTS, Work, for_search

GPUS, SHARE = 8, 0.25
SWEEP_GPUS, SWEEP_TRIALS = 100, 4000
EMPTY, MANY = 8, 41  # trials without a training, and reports of one
TITLES = {"how": "how", "hour": "trials an hour", "ratio": "over one process"}


def seconds(action: Callable[[], object]) -> float:
    """Wall-clock time of a call."""
    begin = perf_counter()
    action()
    return perf_counter() - begin


def serially(work: Work, settings: list[Settings]) -> None:
    """The same trials in this process: training, and the criterion as often."""
    torch.set_num_threads(1)
    for one in settings:
        training, looked = solver_of(one, work.steps).start(work.problem, work.random_state), 0
        for progress in training:
            if progress.step * REPORTS // progress.steps > looked:
                looked = progress.step * REPORTS // progress.steps
                work.criterion(training.bridge(), work.problem, torch.Generator().manual_seed(0))


def halved(work: Work, settings: list[Settings]) -> None:
    """The same in two processes, half of the trials each."""
    for _, reason in finished([settings[::2], settings[1::2]], partial(serially, work), jobs=2, threads=1):
        assert not reason, reason


def concurrently(work: Work, settings: list[Settings], concurrent: int, storage: str) -> None:
    """The same by Ray, which is running."""
    plan = Candidates({"settings": ray_tune.grid_search([dict(one) for one in settings])}, 1)
    placement = tuning.Placement(concurrent=concurrent)
    conduct(plan, SCHEDULERS["none"](), work, placement, storage, lambda study: None, print)


def throughput(work: Work, settings: list[Settings], out: Path) -> None:
    """Trials an hour in one process, in two, and by Ray with one and two at a time; starting them counts."""
    alone = seconds(partial(serially, work, settings))
    taken = {"one process, one by one": alone, "two processes, without Ray": seconds(partial(halved, work, settings))}
    for concurrent in (1, 2):
        with tempfile.TemporaryDirectory() as storage, tuning.connected(tuning.Placement(), work.problem):
            by_ray = partial(concurrently, work, settings, concurrent, storage)
            taken[f"Ray, {concurrent} at a time"] = seconds(by_ray)
    fill(out, "throughput", TITLES, [
        {"how": how, "hour": 3600 * len(settings) / lasted, "ratio": alone / lasted} for how, lasted in taken.items()
    ])


def fill(out: Path, name: str, titles: dict[str, str], found: list[dict[str, Cell]]) -> None:
    """A table of the machine's times, in place of an earlier one."""
    rows = Rows(out, name, titles)
    rows.fill(found)
    rows.write()


def empty(config: dict[str, int]) -> None:
    """A trial that only reports, with a checkpoint as large as a real one."""
    for _ in range(config["reports"]):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "training.pt").write_bytes(bytes(config["bytes"]))
            ray_tune.report({"criterion": 0.0}, checkpoint=ray_tune.Checkpoint.from_directory(folder))


def overhead(problem: Problem, size: int) -> dict[str, float]:
    """Milliseconds a trial and a report, and the driver's bytes a trial, from trials of 1 and of 41 reports."""
    taken = {}
    with tuning.connected(tuning.Placement(), problem), tempfile.TemporaryDirectory() as storage:
        for run, reports in enumerate((1, 1, MANY)):  # the first starts the process
            before = resident()
            taken[reports] = seconds(partial(empty_trials, reports, size, f"{storage}/{run}"))
            grown = max(resident() - before, 0)
    report = (taken[MANY] - taken[1]) / ((MANY - 1) * EMPTY)
    return {"report": 1e3 * report, "trial": 1e3 * (taken[1] / EMPTY - report), "driver": grown / EMPTY}


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def empty_trials(reports: int, size: int, storage: str) -> None:
    """Eight of them, one after the other."""
    space = {"reports": reports, "bytes": size}
    one_by_one = ray_tune.TuneConfig(num_samples=EMPTY, max_concurrent_trials=1, reuse_actors=True)
    kept = ray_tune.CheckpointConfig(num_to_keep=2)
    run = ray_tune.RunConfig(storage_path=storage, verbose=0, checkpoint_config=kept)
    trial = ray_tune.with_resources(empty, {"cpu": 1})
    ray_tune.Tuner(trial, param_space=space, tune_config=one_by_one, run_config=run).fit()


def gathered(config: dict[str, str]) -> None:
    """A trial that waits until no further one has come for a while, and reports how many there are with it."""
    here, deadline, most = Path(config["folder"], str(os.getpid())), time.monotonic() + 300, 0
    here.touch()
    since = time.monotonic()
    while time.monotonic() < min(since + 30, deadline):
        count = sum(1 for _ in here.parent.iterdir())
        most, since = (count, time.monotonic()) if count > most else (most, since)
        time.sleep(0.5)
    here.unlink()
    ray_tune.report({"criterion": 0.0, "present": most})


def at_once() -> int:
    """The most trials of a quarter of a GPU that a search of 36 has at one time on a machine said to have eight."""
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    ray.init(address="local", num_cpus=1, num_gpus=GPUS, object_store_memory=80_000_000, **quiet)
    try:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as storage:
            config = ray_tune.TuneConfig(num_samples=round(GPUS / SHARE) + 4)
            run = ray_tune.RunConfig(storage_path=storage, verbose=0)
            trial = ray_tune.with_resources(gathered, {"cpu": 0, "gpu": SHARE})
            found = ray_tune.Tuner(trial, param_space={"folder": folder}, tune_config=config, run_config=run).fit()
            return max(result.metrics["present"] for result in found)
    finally:
        ray.shutdown()


def checkpoint_bytes(work: Work, settings: Settings) -> int:
    """Of a training's whole state."""
    training = solver_of(settings, work.steps).start(work.problem, 0)
    next(iter(training))
    with tempfile.TemporaryDirectory() as folder:
        torch.save(training.state_dict(), Path(folder, "training.pt"))
        return Path(folder, "training.pt").stat().st_size


def large_sweep(work: Work, size: int, costs: dict[str, float], trial_seconds: float) -> list[dict[str, Cell]]:
    """What 4,000 trials on 100 GPUs, four on each, need, if a trial takes as long there as on a CPU thread here."""
    at_a_time = SWEEP_GPUS / SHARE
    reports = at_a_time * REPORTS / trial_seconds
    driver = resident() + SWEEP_TRIALS * costs["driver"]
    rows: list[tuple[str, float, str, str]] = [
        ("trials at once", at_a_time, "", f"{SWEEP_GPUS} GPUs / {SHARE}"),
        ("object store of a machine", store_bytes(work.problem) / 1e6, "MB", "twice the data and 80 MB"),
        ("checkpoint", size / 1e6, "MB", "measured"),
        ("checkpoints kept", 3 * SWEEP_TRIALS * size / 1e9, "GB", f"3 for each of {SWEEP_TRIALS} trials"),
        ("checkpoint traffic", reports * size / 1e6, "MB/s", f"{REPORTS} in {trial_seconds:.0f} s"),
        ("reports", reports, "1/s", "trials at once × reports / seconds of a trial"),
        ("driver's time", reports * costs["report"] / 10, "%", "reports/s × ms a report"),
        ("driver's memory", driver / 1e9, "GB", f"this process's and {costs['driver'] / 1e3:.0f} kB a trial"),
    ]
    return [{"what": what, "value": value, "unit": unit, "how": how} for what, value, unit, how in rows]


def main() -> None:
    options = asked("scaling", trials=8, steps=1500)
    problem = Mixture(dim=16, epsilon=0.5).build()
    work = Work(for_search(problem, 0), PathKL(), options.steps, 0, 1, "cpu")
    own, generator = own_settings(), np.random.default_rng(0)
    rates = tuning.LogUniform(6e-3, 2e-2)
    throughput(work, [{**own, "rate": rates.at(generator.random())} for _ in range(options.trials)], options.out)
    size = checkpoint_bytes(work, own)
    costs = overhead(problem, size)
    ray_costs: list[dict[str, Cell]] = [{"what": what, "ms": costs[what]} for what in ("report", "trial")]
    fill(options.out, "overhead", {"what": "Ray's cost of a", "ms": "ms"}, ray_costs)
    titles = {"gpus": "logical GPUs", "share": "each trial's", "count": "trials at once"}
    fill(options.out, "placement", titles, [{"gpus": float(GPUS), "share": SHARE, "count": float(at_once())}])
    whole = seconds(partial(serially, Work(work.problem, work.criterion, 300, 0, 1, "cpu"), [own])) / 300 * 6000
    titles = {"what": "what", "value": "value", "unit": "unit", "how": "computed as"}
    fill(options.out, "sweep_of_100_gpus", titles, large_sweep(work, size, costs, whole))


if __name__ == "__main__":
    main()
