"""Question: is every bad call answered by a sentence, does a hostile file act, and does a kill lose work?

    python experiments/robustness.py

calls: bad calls from Python and on the command line, damaged and hostile run folders; what is out of order is listed.
kills: commands that are killed at random moments and continued; the result must be the same to the last bit.
spreads: standard deviations of the ends over those of the data, on Gaussians of every size, dimension and ε.
memory: the peak of a transport over the size of its points, and of a fit of a million points in 50 dimensions.
threads: the same fit on one and on two threads.

Each part can be run alone, as in `robustness.py calls --sample 0.1`; `sbridge.cli` is called within this process.
"""

import os
import random
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from math import log
from pathlib import Path
from threading import Event, Thread
from typing import Literal

import numpy as np
import torch
import tyro
from calls import IN_ORDER, Case, answer, workspace
from calls.commands import command_cases, finished_run, prepare
from calls.folders import folder_cases
from calls.kills import killed, works
from calls.python import python_cases
from common import RESULTS, Cell, Rows

from sbridge import Regression, SchrodingerBridge, SpreadWarning
from sbridge.errors import DivergenceError, InputError
from sbridge.problems.gaussian import Gaussian

FAMILIES: Mapping[str, Callable[[], Iterable[Case]]] = {
    "Python": python_cases,
    "command line": command_cases,
    "folders": folder_cases,
}


def calls(out: Path = RESULTS / "robustness", sample: float = 1.0) -> None:
    """Make the bad calls, or a random sample of them, and count the answers that are out of order."""
    rows = Rows(out.absolute(), "calls")
    with workspace():
        prepare()
        finished_run()
        for family, cases in FAMILIES.items():
            rows.once(lambda cases=cases: _counted(_some(cases(), sample)), family=family, sample=sample)
    rows.table(
        {"family": "calls", "made": "made", "wrong": "out of order", "executed": "code executed", "which": "which"}
    )


def _counted(cases: Iterable[Case]) -> Mapping[str, Cell]:
    answers = {case.name: answer(case) for case in cases}
    wrong = {name: found for name, found in answers.items() if found != IN_ORDER}
    executed = Counter(found.startswith("code executed") for found in wrong.values())[True]
    which = "; ".join(f"{name}: {found}" for name, found in wrong.items()) or "none"
    return {"made": len(answers), "wrong": len(wrong), "executed": executed, "which": which}


def _some(cases: Iterable[Case], share: float) -> Iterator[Case]:
    generator = random.Random(0)
    return (case for case in cases if generator.random() < share)


def kills(out: Path = RESULTS / "robustness", rounds: int = 3, per_round: int = 4) -> None:
    """Kill recover, sample, bench, its workers and tune at random moments, and compare with runs left alone."""
    rows = Rows(out.absolute(), "kills")
    with workspace():
        prepare()
        run = finished_run()
        for name, work in works(run).items():
            for seed in range(rounds):
                call = partial(killed, work, per_round, seed)
                rows.once(lambda call=call: {"answer": call() or "same"}, command=name, seed=seed, kills=per_round)
    rows.table({"command": "command", "seed": "seed", "kills": "kills", "answer": "result"})


def spreads(
    out: Path = RESULTS / "robustness",
    epsilons: tuple[float, ...] = (1e-3, 1e-2, 0.1, 1.0, 10.0),
    dims: tuple[int, ...] = (1, 8, 64, 128, 512),
    scales: tuple[float, ...] = (1e-3, 1.0, 1e3),
    points: int = 2000,
    budget: str = "10s",
) -> None:
    """Fit Gaussians with the default solver and compare standard deviations at both ends; ε is in units of variance.

    A fit is in order if all standard deviations are within 15 % on ten times as many new points, or if it was refused
    or warned of.
    """
    rows = Rows(out, "spreads")
    for dim in dims:
        for epsilon in epsilons:
            for scale in scales:
                size = {"dim": dim, "epsilon": epsilon, "scale": scale}
                sizes = {"points": points, "budget": budget}
                rows.once(lambda size=size: _spread(**size, points=points, budget=budget), **size, **sizes)
    titles = {"dim": "d", "epsilon": "ε/variance", "scale": "scale", "forward": "forward", "backward": "backward"}
    note = f"Ratio farthest from 1 among all columns. {points:,} points a side, {budget} a fit at most."
    rows.table({**titles, "said": "said", "answer": "answer"}, note)


def _spread(dim: int, epsilon: float, scale: float, points: int, budget: str) -> Mapping[str, Cell]:
    problem = Gaussian(dim=dim, epsilon=epsilon, samples=points, test_samples=10 * points).build()
    x0, x1, test0, test1 = (scale * x.numpy() for x in (problem.x0, problem.x1, problem.test0, problem.test1))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit = SchrodingerBridge(epsilon * scale**2).fit(x0, x1, budget=budget)
        there, back = fit.transport(test0, random_state=0), fit.transport(test1, "backward", random_state=0)
    except (InputError, DivergenceError) as error:
        return {"said": f"refused: {error}", "answer": IN_ORDER}
    said = "; ".join(str(one.message).partition(". ")[0] for one in caught if one.category is SpreadWarning)
    ratios = {"forward": _worst(there, test1), "backward": _worst(back, test0)}
    near = all(abs(log(ratio)) < log(1.15) for ratio in ratios.values())
    return {**ratios, "said": said, "answer": "right" if near else "warned of" if said else "out of order"}


def _worst(x: np.ndarray, y: np.ndarray) -> float:
    """The ratio of standard deviations that is farthest from one."""
    ratios = x.std(0) / y.std(0)
    return float(ratios[np.abs(np.log(ratios)).argmax()])


def memory(
    out: Path = RESULTS / "robustness", sizes: tuple[str, ...] = ("100000x10", "1000000x10", "1000000x50")
) -> None:
    """Measure the largest memory of a transport beyond that of its points and of the program, each in a new process."""
    rows = Rows(out, "memory")
    for size in sizes:
        for kind in ("float32", "float64"):
            rows.once(lambda size=size, kind=kind: _measured(size, kind), points=size, kind=kind)
    rows.table(
        {"points": "points", "kind": "numbers", "megabytes": "their size (MB)", "times": "peak beyond them, over it"}
    )
    rows = Rows(out, "memory_of_fit")
    for kind in ("float32", "float64"):
        rows.once(lambda kind=kind: {"gigabytes": _printed("whole", sizes[-1], kind)[0]}, points=sizes[-1], kind=kind)
    note = "The default solver, with a budget of a minute, and a transport of all points; the caller's arrays included."
    rows.table({"points": "points a side", "kind": "numbers", "gigabytes": "peak of the process (GB)"}, note)


def _measured(size: str, kind: str) -> Mapping[str, Cell]:
    megabytes, times = _printed("peak", size, kind)
    return {"megabytes": megabytes, "times": times}


def _printed(part: str, size: str, kind: str) -> list[float]:
    """The numbers in the last line that a part prints in a new process."""
    done = subprocess.run([sys.executable, __file__, part, size, kind], check=True, capture_output=True, text=True)
    return list(map(float, done.stdout.splitlines()[-1].split()))


def whole(size: tyro.conf.Positional[str], kind: tyro.conf.Positional[Literal["float32", "float64"]]) -> None:
    """Print the peak in GB of a fit by the default solver and a transport of all points of x0."""
    shape, noise = tuple(map(int, size.split("x"))), np.random.default_rng(0)
    x0, x1 = (noise.standard_normal(shape, dtype=kind) for _ in range(2))
    x1 += 1
    SchrodingerBridge(0.5).fit(x0, x1, budget="1min").transport(x0, random_state=0)
    print(_memory("VmHWM") / 1e9)


def peak(size: tyro.conf.Positional[str], kind: tyro.conf.Positional[str]) -> None:
    """Print the size of points in MB, and the peak of a transport beyond them over that size."""
    rows, columns = map(int, size.split("x"))
    x = np.random.default_rng(0).normal(size=(rows, columns)).astype(kind)
    problem = Gaussian(dim=columns, samples=2000, test_samples=2000).build()
    bridge = Regression(steps=6, batch=64).solve(problem)
    bridge.transport(x[:20_000], steps=2)
    before, most, done = _memory("VmRSS"), [0], Event()

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], _memory("VmRSS"))

    watcher = Thread(target=watch)
    watcher.start()
    bridge.transport(x, steps=2)
    done.set()
    watcher.join()
    print(x.nbytes / 1e6, (most[0] - before) / x.nbytes)


def _memory(name: str) -> int:
    """Bytes of this process in memory: now (VmRSS), or most so far (VmHWM)."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def threads(out: Path = RESULTS / "robustness", steps: int = 300) -> None:
    """The same fit with the same seed on one and on two threads: the largest difference, in standard deviations."""
    rows = Rows(out, "threads")
    rows.once(lambda: {"difference": _difference(steps)}, steps=steps)
    rows.table({"steps": "steps", "difference": "largest difference of moved points (in standard deviations)"})


def _difference(steps: int) -> float:
    problem = Gaussian(dim=4, samples=4000, test_samples=1000).build()
    moved = []
    for count in (1, 2):
        torch.set_num_threads(count)
        moved.append(Regression(steps=steps).solve(problem).transport(problem.test0, random_state=0))
    return float((moved[0] - moved[1]).abs().max() / problem.test1.std())


def everything(out: Path = RESULTS / "robustness") -> None:
    """All parts."""
    for part in (calls, kills, spreads, memory, threads):
        part(out=out)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parts = {one.__name__: one for one in (everything, calls, kills, spreads, memory, threads, peak, whole)}
    tyro.extras.subcommand_cli_from_dict(parts, args=sys.argv[1:] or ["everything"])
