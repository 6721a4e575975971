"""Claim: a plan to the same marginal error takes a small part of POT's and GeomLoss's time, and memory linear in n.

    .venv/bin/python experiments/sinkhorn_speed.py

One thread.  Every plan is found in a process of its own; its memory is what the process's peak rises by.  The error is
that of the potential found, recomputed in double precision with the other marginal exact.  POT watches the Euclidean
norm, set to the same sum of absolutes if errors are spread evenly; GeomLoss has no stopping rule and takes the first of
62, 250 and 1,000 iterations that suffices, of which only the last try is counted.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from math import log, sqrt

import ot
import torch
from bench import RESULTS
from figures import COLOURS, Rows
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.baselines.sinkhorn import geomloss_log_scaling
from sbridge.plans import Plan, entropic_plan
from sbridge.problems.mixture import Mixture
from sbridge.units import pot_reg

TOLERANCE, DIM = 1e-3, 16
LARGEST = 100_000  # for ours alone
SIZES = {0.5: (2048, 4096, 8192, 16_384), 0.05: (2048, 4096)}
MOST = {"GeomLoss": 4096}  # points that it is given time for
Found = tuple[Tensor, int]
"""A potential g (n,), and the iterations it took."""


def ours(x0: Tensor, x1: Tensor, epsilon: float) -> Found:
    plan = entropic_plan(x0, x1, epsilon, TOLERANCE)
    return plan.g, plan.iterations


def pot(x0: Tensor, x1: Tensor, epsilon: float) -> Found:
    weights, cost = torch.full_like(x0[:, 0], 1 / len(x0)), torch.cdist(x0, x1).square()
    stop = TOLERANCE / sqrt(len(x1))
    _, found = ot.bregman.sinkhorn_log(weights, weights, cost, pot_reg(epsilon), stopThr=stop, log=True, warn=False)
    return found["log_v"] + log(len(x1)), found["niter"]


def pot_double(x0: Tensor, x1: Tensor, epsilon: float) -> Found:
    return pot(x0.double(), x1.double(), epsilon)


def geomloss(x0: Tensor, x1: Tensor, epsilon: float, iterations: int) -> Found:
    return geomloss_log_scaling(x0.double(), x1.double(), epsilon, iterations) + log(len(x1)), iterations


METHODS: dict[str, list[Callable[[Tensor, Tensor, float], Found]]] = {
    "ours": [ours],
    "POT, float64": [pot_double],
    "POT, float32": [pot],
    "GeomLoss": [partial(geomloss, iterations=count) for count in (62, 250, 1000)],
}
"""Each method by its tries, the first of which that reaches the tolerance counts."""


def measure(method: str, attempt: int, n: int, epsilon: float) -> dict[str, float]:
    """What one plan took, in this process."""
    torch.set_num_threads(1)
    problem = Mixture(dim=DIM, epsilon=epsilon, samples=n, test_samples=10).build()
    x0, x1 = (x - x.mean(0) for x in (problem.x0, problem.x1))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    g, iterations = METHODS[method][attempt](x0, x1, epsilon)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = Plan.of_potential(x0.double(), x1.double(), epsilon, g).error
    return {"seconds": seconds, "error": error, "iterations": iterations, "megabytes": (after - before) / 1024}


def apart(method: str, attempt: int, n: int, epsilon: float) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, method, str(attempt), str(n), str(epsilon)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def first_good(method: str, n: int, epsilon: float) -> dict[str, float]:
    """The first try whose error is small enough, or the last."""
    for attempt in range(len(METHODS[method])):
        found = apart(method, attempt, n, epsilon)
        if found["error"] <= TOLERANCE:
            break
    return found


def draw(rows: Rows) -> Figure:
    """Time and memory over n."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = [(f"ε = {epsilon:g}", "seconds", epsilon) for epsilon in SIZES]
    panels.append(("ε = 0.5", "megabytes", 0.5))
    for axes, (title, column, epsilon) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for colour, method in zip(COLOURS, METHODS, strict=False):
            found = rows.find(method=method, epsilon=f"{epsilon:g}")
            x, y = ([float(row[name]) for row in found] for name in ("n", column))
            axes.loglog(x, y, "o-", color=colour, label=method)
        axes.set(title=title, xlabel="points per side", ylabel=column)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    return figure


def wanted() -> Iterator[tuple[float, int, str]]:
    """ε, points and method of every row."""
    for epsilon, sizes in SIZES.items():
        for n in sizes:
            yield from ((epsilon, n, method) for method in METHODS if n <= MOST.get(method, n))
        yield epsilon, LARGEST, "ours"


def table() -> Rows:
    """All rows; those that are there are not computed again."""
    titles = {"epsilon": "ε", "n": "points", "method": "method", "seconds": "seconds", "ratio": "of ours"}
    titles |= {"error": "marginal error", "iterations": "iterations", "megabytes": "MB"}
    rows = Rows(RESULTS / "sinkhorn_speed", "speed", titles)
    for epsilon, n, method in wanted():
        key = {"epsilon": f"{epsilon:g}", "n": str(n), "method": method}
        if rows.missing(**key):
            found = first_good(method, n, epsilon)
            reference = rows.find(**key | {"method": "ours"})
            rows.add(**key, ratio=found["seconds"] / float(reference[0]["seconds"]) if reference else 1.0, **found)
    return rows


def main() -> None:
    rows = table()
    draw(rows).savefig(rows.path.with_suffix(".png"), dpi=160)
    rows.write()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
    else:
        main()
