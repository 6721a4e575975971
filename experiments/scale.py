"""Question: does a search with Ray use all cores, lose nothing when workers die, and find better settings?

    python experiments/scale.py throughput   # trials an hour with and without Ray: ten minutes on two quiet cores
    python experiments/scale.py faults       # 20 random kills during a search: ten minutes on two cores
    python experiments/scale.py search       # the best of 24 trials beside the defaults: 15 minutes

They need the extra `tune`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
import tyro
from common import RESULTS, Cell, Rows
from ray.cluster_utils import Cluster

from sbridge import Problem, tuning
from sbridge.bench.pool import finished
from sbridge.evaluation import path_kl
from sbridge.problems.mixture import Mixture
from sbridge.solvers.budget import fitted_within
from sbridge.solvers.maxmin import MaxMin
from sbridge.tuning.figures import importances
from sbridge.tuning.space import Settings, own_settings, solver_of

OUT = RESULTS / "scale"
WORK = RESULTS.parent / "runs" / "scale"
SHARES = 8  # reports of a trial, after each eighth of its training

# Throughput


def throughput(trials: int = 8, steps: int = 1500, out: Path = OUT) -> None:
    """Trials an hour of one process, of two without Ray, and of a search with one and two trials at a time."""
    rows, seeds = Rows(out, "throughput"), list(range(trials))
    ways: dict[str, Callable[[], object]] = {
        "one process": partial(serially, steps, seeds),
        "two processes, without Ray": partial(halved, steps, seeds),
        "Ray, 1 at a time": partial(searched, trials, steps, 1),
        "Ray, 2 at a time": partial(searched, trials, steps, 2),
    }
    for name, way in ways.items():
        rows.once(partial(trials_an_hour, way, trials), how=name, trials=trials, steps=steps)
    rows.table({"how": "how", "hour": "trials an hour"}, "Wall-clock time of an otherwise idle machine.")


def trials_an_hour(way: Callable[[], object], trials: int) -> dict[str, Cell]:
    begin = perf_counter()
    way()
    return {"hour": 3600 * trials / (perf_counter() - begin)}


def problem() -> Problem:
    return Mixture(dim=16, epsilon=0.5).build()


def serially(steps: int, seeds: list[int]) -> None:
    """Default fits, judged as often as a trial of a search."""
    torch.set_num_threads(1)
    data = problem()
    assert data.truth is not None
    for seed in seeds:
        training, judged = MaxMin(steps=steps).start(data, seed), 0
        for progress in training:
            if progress.step * SHARES // progress.steps > judged:
                judged = progress.step * SHARES // progress.steps
                path_kl(training.bridge(), data.truth, data.test0[:2048], torch.Generator().manual_seed(0))


def halved(steps: int, seeds: list[int]) -> None:
    """The same in two processes, half of the fits each."""
    for _, reason in finished([seeds[::2], seeds[1::2]], partial(serially, steps), jobs=2, threads=1):
        assert not reason, reason


def searched(trials: int, steps: int, concurrent: int) -> None:
    """A search in which all trials cost the same: only the rate varies, a little."""
    fixed = {name: tuning.Choice((value,)) for name, value in own_settings().items()}
    space, out = tuning.Space(**{**fixed, "rate": tuning.LogUniform(0.011, 0.013)}), WORK / f"throughput-{concurrent}"
    shutil.rmtree(out, ignore_errors=True)
    placement = tuning.Placement(concurrent=concurrent)
    tuning.tune(problem(), space, out=out, trials=trials, steps=steps, scheduler="none", placement=placement)


# Faults

MACHINES = 3
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
SPACE = {"width": [64], "depth": [3], "outer_width": [32], "batch": [512], "coupling": ["Independent"]}
SPACE |= {"learn_gamma": [False], "prior": [None]}


class Victim:
    """A search of short trials on three logical machines of one CPU each, and three ways to disturb it."""

    def __init__(self, folder: Path, trials: int, steps: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
        self.machines = [self.cluster.add_node(**NODE) for _ in range(MACHINES)]
        (folder / "space.json").write_text(json.dumps(SPACE))
        self.words = [sys.executable, "-m", "sbridge", "tune", "gaussian", "--dim", "4", "--samples", "4000"]
        self.words += ["--trials", str(trials), "--steps", str(steps), "--scheduler", "none", "--resume", "--space"]
        self.words += [str(folder / "space.json"), "--out", str(folder / "out"), "--address", self.cluster.address]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with open(self.folder / "command.log", "ab") as log:
            return subprocess.Popen(self.words, stdout=log, stderr=log)

    def worker(self) -> None:
        """kill -9 of the process of a trial, as soon as there is one."""
        while self.process.poll() is None:
            if ours := list(trial_processes()):
                os.kill(random.choice(ours), signal.SIGKILL)
                return
            time.sleep(0.5)

    def machine(self) -> None:
        """The loss of a machine; a new one joins."""
        place = random.randrange(MACHINES)
        self.cluster.remove_node(self.machines[place], allow_graceful=False)
        self.machines[place] = self.cluster.add_node(**NODE)

    def command(self) -> None:
        """kill -9 of the search, which is then resumed."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def reports(self) -> dict[str, set[tuple[int, float]]]:
        """What each trial has reported: shares of its training, with the seconds they took."""
        logs = (self.folder / "out" / "trials").glob("*/result.json")
        return {log.parent.name: set(reported(log)) for log in logs}

    def state(self) -> dict[str, float]:
        """Trials that are finished, and shares that were done twice (reported with two different times)."""
        found = self.reports().values()
        ended = sum(SHARES in dict(shares) for shares in found)
        return {"finished": ended, "twice": sum(len(shares) - len(dict(shares)) for shares in found)}


def reported(log: Path) -> Iterator[tuple[int, float]]:
    """Share and seconds of every complete report; the last line may still be being written."""
    for line in log.read_text().splitlines():
        try:
            report: Mapping[str, float] = json.loads(line)
        except ValueError:
            continue
        if "share" in report:
            yield int(report["share"]), report["train_seconds"]


def trial_processes() -> Iterator[int]:
    """Ray's processes of trials that descend from this process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::ImplicitFunc" in (folder / "cmdline").read_bytes() and descends(int(folder.name), os.getpid()):
                yield int(folder.name)
        except OSError:  # it has ended
            continue


def descends(process: int, ancestor: int) -> bool:
    """Whether a process was started by another or by its descendants."""
    while process > 1 and process != ancestor:
        process = int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return process == ancestor


def faults(kills: int = 20, trials: int = 30, steps: int = 6000, seed: int = 0, out: Path = OUT) -> None:
    """Kill a worker, a machine or the command every 6 to 16 seconds; every trial has to be finished in the end."""
    rows, victim = Rows(out, "faults"), Victim(WORK / f"faults-{kills}-{trials}-{steps}-{seed}", trials, steps)
    for kill in range(1, kills + 1):
        if victim.process.poll() is not None:
            break
        rows.once(partial(struck, victim, seed + kill), kill=kill)
    code, ended = victim.process.wait(), victim.state()["finished"]
    victim.cluster.shutdown()
    titles = {"kill": "kill", "hit": "hit", "finished": "trials finished", "twice": "shares done twice"}
    rows.table(titles, f"{len(rows.rows)} kills, {ended:.0f} of {trials} trials finished, exit code {code}.")
    sys.exit(bool(code or ended < trials))


def struck(victim: Victim, seed: int) -> dict[str, Cell]:
    """Wait 6 to 16 seconds, kill a worker, a machine or the command, and count what is left of the search."""
    random.seed(seed)
    time.sleep(random.uniform(6, 16))
    hit = random.choice(("worker", "machine", "command"))
    getattr(victim, hit)()
    time.sleep(1)  # reports that were being written are complete
    return {"hit": hit, **victim.state()}


# Search


def search(trials: int = 24, steps: int = 3000, budget: float = 60.0, out: Path = OUT) -> None:
    """The best of a search beside the defaults, both fitted again in equal time with three seeds.

    The space leaves out the mixture potential, which on this benchmark is the family of the answer.  The points that
    judge the last fits were not seen by the search.
    """
    data, space = problem(), replace(tuning.Space(), prior=tuning.Choice((None,)))
    work, placement = WORK / f"search-{trials}-{steps}", tuning.Placement(concurrent=2)
    resume = (work / "study.json").exists()
    study = tuning.tune(data, space, out=work, trials=trials, steps=steps, placement=placement, resume=resume)
    assert study.best is not None
    rows, shares = Rows(out, "search"), Rows(out, "importances")
    shutil.copy(work / "trials.csv", out / "trials.csv")
    torch.set_num_threads(1)
    for seed in (1, 2, 3):
        for name, settings in (("defaults", own_settings()), ("best trial", study.best.settings)):
            rows.once(partial(refitted, data, settings, budget, seed), settings=name, seed=seed)
    shares.replace({"hyperparameter": name, "share": share} for name, share in importances(study, space).items())
    shares.table({"hyperparameter": "hyperparameter", "share": "share of the spread"})
    titles = {"settings": "settings", "seed": "seed", "path_kl": "path KL (nats)", "steps": "steps"}
    rows.table({**titles, "seconds": "fit (s)", "values": "values"}, f"Trials: {study.counted()}.")


def refitted(data: Problem, settings: Settings, budget: float, seed: int) -> dict[str, Cell]:
    """A fit within the budget, judged."""
    assert data.truth is not None
    fit = fitted_within(solver_of(settings, MaxMin.steps), data, budget, seed)
    found = path_kl(fit.bridge, data.truth, data.test0[:4000], torch.Generator().manual_seed(7))
    values = ", ".join(f"{name} {value}" for name, value in settings.items())
    return {"path_kl": found, "steps": fit.steps, "seconds": fit.seconds, "values": values}


if __name__ == "__main__":  # processes of their own import this script
    tyro.extras.subcommand_cli_from_dict({"throughput": throughput, "faults": faults, "search": search})
