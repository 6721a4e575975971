"""Claim: 20 random kills of workers, machines and the command itself lose no trial and repeat no finished one.

    .venv/bin/python experiments/faults.py                 # about fifteen minutes on two cores
    .venv/bin/python experiments/faults.py --kills 3

Three logical machines of one CPU each run a search of 12 short trials.  At random moments a random one of these is hit:
a worker (kill -9 of the process of a trial), a machine (Ray's processes on it end, a new one joins), or the command
(kill -9, then the same with --resume).  Trials go on from checkpoints; a share of a training that is reported with two
different times was done twice, and the log counts those.  In the end every trial has to be finished.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import RESULTS
from figures import Rows
from ray.cluster_utils import Cluster

from sbridge.tune.trial import REPORTS

FOLDER = RESULTS / "faults"
TRIALS, MACHINES = 12, 3
TITLES = {"kill": "kill", "hit": "hit", "seconds": "after (s)"}
TITLES |= {"finished": "trials finished", "twice": "shares done twice"}
SPACE = {"width": [64], "outer_width": [32], "batch": [512], "coupling": ["Independent"], "learn_gamma": [False]}
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


class Victim:
    """A search on logical machines, and ways to hurt it."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        self.cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
        self.machines = [self.cluster.add_node(**NODE) for _ in range(MACHINES)]
        (folder / "space.json").write_text(json.dumps(SPACE))
        self.words = [sys.executable, "-m", "sbridge", "tune", "gaussian", "--dim", "4", "--samples", "4000"]
        self.words += ["--trials", str(TRIALS), "--steps", str(steps), "--scheduler", "none", "--space"]
        self.words += [str(folder / "space.json"), "--out", str(folder / "out"), "--address", self.cluster.address]
        self.process = self._start()

    def _start(self, *more: str) -> subprocess.Popen[bytes]:
        with open(self.folder / "command.log", "ab") as log:
            return subprocess.Popen([*self.words, *more], stdout=log, stderr=log)

    def ended(self) -> bool:
        """Whether the command has ended by itself."""
        return self.process.poll() is not None

    def worker(self) -> None:
        """End the process of a trial."""
        found = subprocess.run(["pgrep", "-f", "ray::ImplicitFunc"], capture_output=True, text=True).stdout.split()
        ours = [int(word) for word in found if _started_by(int(word), os.getpid())]
        if ours:
            os.kill(random.choice(ours), signal.SIGKILL)

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

    def reports(self) -> list[set[tuple[int, float]]]:
        """What each trial has reported: shares of the training, and the seconds of it."""
        logs = sorted((self.folder / "out" / "trials").glob("*/result.json"))
        lines = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
        return [{(line["share"], line["train_seconds"]) for line in trial if "share" in line} for trial in lines]


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


def counted(victim: Victim) -> dict[str, Any]:
    """Trials that are done, and shares that were done more than once."""
    reports = victim.reports()
    twice = sum(len(reported) - len(dict(reported)) for reported in reports)
    return {"finished": float(sum(REPORTS in dict(reported) for reported in reports)), "twice": float(twice)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = RESULTS.parent / "runs" / f"faults-{options.kills}-{options.seed}-{os.getpid()}"
    folder.mkdir(parents=True)
    rows = Rows(FOLDER, "kills", TITLES)
    rows.rows.clear()
    victim, begin = Victim(folder, options.steps), time.monotonic()
    kill = 0
    while not victim.ended():
        time.sleep(random.uniform(10, 30))
        if kill < options.kills and not victim.ended():
            kill += 1
            hit = random.choice(["worker", "machine", "command"])
            getattr(victim, hit)()
            rows.add(kill=float(kill), hit=hit, seconds=time.monotonic() - begin, **counted(victim))
    rows.add(kill=float(kill), hit=f"end, exit code {victim.process.returncode}", seconds=time.monotonic() - begin,
             **counted(victim))
    victim.cluster.shutdown()
    lost = TRIALS - int(counted(victim)["finished"])
    print(f"{kill} kills, {lost} of {TRIALS} trials lost, exit code {victim.process.returncode}")
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
