"""Claim: 20 random kills of workers, machines and the command itself lose no trial and repeat no finished one.

    .venv/bin/python experiments/faults.py                 # about ten minutes on two cores
    .venv/bin/python experiments/faults.py --kills 3 --trials 6 --steps 2000

Three logical machines of one CPU each run a search of short trials.  Every 6 to 16 seconds one of these is hit: a
worker (kill -9 of the process of a trial), a machine (Ray's processes on it end, a new one joins), or the command
(kill -9, then the same with --resume).  Trials go on from checkpoints; a share of a training that is reported with two
different times was done twice, and the log counts those, and trials that were finished before a kill and are no more.
In the end every trial has to be finished.  An interrupted experiment goes on with the search and the kills to come.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bench import RESULTS
from figures import Cell, Rows
from ray.cluster_utils import Cluster
from tune import asked

from sbridge.tuning.trial import REPORTS

MACHINES = 3
TITLES = {"kill": "kill", "hit": "hit", "seconds": "at (s)", "finished": "trials finished"}
TITLES |= {"lost": "finished trials lost", "twice": "shares done twice"}
SPACE = {"width": [64], "depth": [3], "outer_width": [32], "batch": [512], "coupling": ["Independent"]}
SPACE |= {"learn_gamma": [False], "prior": [None]}
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
KINDS = ("worker", "machine", "command")


class Victim:
    """A search on logical machines, and ways to hurt it."""

    def __init__(self, folder: Path, trials: int, steps: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
        self.machines = [self.cluster.add_node(**NODE) for _ in range(MACHINES)]
        (folder / "space.json").write_text(json.dumps(SPACE))
        self.words = [sys.executable, "-m", "sbridge", "tune", "gaussian", "--dim", "4", "--samples", "4000"]
        self.words += ["--trials", str(trials), "--steps", str(steps), "--scheduler", "none", "--space"]
        self.words += [str(folder / "space.json"), "--out", str(folder / "out"), "--address", self.cluster.address]
        self.process = self._start("--resume")

    def _start(self, *more: str) -> subprocess.Popen[bytes]:
        with open(self.folder / "command.log", "ab") as log:
            return subprocess.Popen([*self.words, *more], stdout=log, stderr=log)

    def ended(self) -> bool:
        """Whether the command has ended by itself."""
        return self.process.poll() is not None

    def worker(self) -> None:
        """End the process of a trial, as soon as there is one."""
        while not (ours := self._workers()) and not self.ended():
            time.sleep(0.5)
        if ours:
            os.kill(random.choice(ours), signal.SIGKILL)

    def _workers(self) -> list[int]:
        found = subprocess.run(["pgrep", "-f", "ray::ImplicitFunc"], capture_output=True, text=True).stdout.split()
        return [int(word) for word in found if _started_by(int(word), os.getpid())]

    def machine(self) -> None:
        """End one, start another."""
        place = random.randrange(MACHINES)
        self.cluster.remove_node(self.machines[place], allow_graceful=False)
        self.machines[place] = self.cluster.add_node(**NODE)

    def command(self) -> None:
        """End the search, and go on with it."""
        self.process.kill()
        self.process.wait()
        self.process = self._start("--resume")

    def reports(self) -> dict[str, set[tuple[int, float]]]:
        """What each trial has reported: shares of the training, and the seconds of it."""
        logs = (self.folder / "out" / "trials").glob("*/result.json")
        lines = {log.parent.name: log.read_text().splitlines() for log in logs}
        return {name: {pair for line in those for pair in _pair(line)} for name, those in lines.items()}

    def finished(self) -> set[str]:
        """The trials that have reported their end."""
        return {name for name, reported in self.reports().items() if REPORTS in dict(reported)}

    def twice(self) -> int:
        """Shares of trainings that were done more than once."""
        return sum(len(reported) - len(dict(reported)) for reported in self.reports().values())


def _pair(line: str) -> list[tuple[int, float]]:
    """Share and seconds of a report; none of one that failed, or whose line is being written."""
    try:
        report: Mapping[str, float] = json.loads(line)
    except ValueError:
        return []
    return [(int(report["share"]), report["train_seconds"])] if "share" in report else []


def _started_by(process: int, ancestor: int) -> bool:
    """Whether a process descends from another."""
    while process > 1:
        if process == ancestor:
            return True
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return False
    return False


class Log:
    """The kills so far, and what of the search they have left."""

    def __init__(self, out: Path, victim: Victim) -> None:
        self.rows, self.victim, self.before = Rows(out, "kills", TITLES), victim, victim.finished()
        past = [float(row["seconds"]) for row in self.rows.rows]
        self.begin = time.monotonic() - max(past, default=0.0)

    @property
    def kills(self) -> int:
        """How many there were."""
        return len(self.rows.rows)

    def note(self, hit: str) -> None:
        """A line about the state after a hit."""
        now = self.victim.finished()
        state: dict[str, Cell] = {"finished": float(len(now)), "lost": float(len(self.before - now))}
        seconds = time.monotonic() - self.begin
        self.rows.add(kill=float(self.kills + 1), hit=hit, seconds=seconds, **state, twice=float(self.victim.twice()))
        self.before = now


def main() -> None:
    options = asked("faults", kills=20, trials=30, steps=6000, seed=0)
    folder = RESULTS.parent / "runs" / f"faults-{options.kills}-{options.trials}-{options.steps}-{options.seed}"
    victim = Victim(folder, options.trials, options.steps)
    log = Log(options.out, victim)
    while not victim.ended() and log.kills < options.kills:
        random.seed(options.seed + log.kills)
        time.sleep(random.uniform(6, 16))
        hit = random.choice(KINDS)
        getattr(victim, hit)()
        time.sleep(1)  # what was being written is there
        log.note(hit)
    code, lost = victim.process.wait(), options.trials - len(victim.finished())
    victim.cluster.shutdown()
    words = f"{log.kills} kills, {lost} of {options.trials} trials lost, exit code {code}"
    log.rows.write(f"After {time.monotonic() - log.begin:.0f} s: {words}.")
    sys.exit(bool(lost or code or log.kills < options.kills))


if __name__ == "__main__":
    main()
