"""Question: what does a step cost, how long to an accuracy, how fast are entropic plans, and what is a GPU worth?

python experiments/cost.py step       # seconds of a training step over a bare pass of the network
python experiments/cost.py accuracy   # seconds to a path KL of 0.3, 0.1 and 0.03 nats
python experiments/cost.py sinkhorn   # entropic plans beside POT's and GeomLoss's
python experiments/cost.py imports    # CPU time of imports and of --help over that of `import torch`
python experiments/cost.py gpu        # larger batches and plans on a GPU: three minutes of one
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import exp, log, sqrt
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import ot
import polars as pl
import torch
import tyro
from common import COLOURS, RESULTS, Cell, Rows, save
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import BlockwiseSinkhorn, Independent, MaxMin, MinibatchSinkhorn, OnlineSinkhorn, Problem, Regression
from sbridge.baselines.sinkhorn import geomloss_log_scaling
from sbridge.bench import Mixtures, bench, cells_of, chosen
from sbridge.evaluation import FLOOR, TRUTH, path_kl
from sbridge.networks import ResidualNetwork
from sbridge.plans import Plan, entropic_plan
from sbridge.problems.mixture import Mixture
from sbridge.solvers.budget import fitted_within
from sbridge.units import pot_reg

OUT = RESULTS / "cost"

# Seconds of a step


def step(rounds: int = 60, out: Path = OUT) -> None:
    """CPU time of a training step on one thread, over a forward and backward pass of the network at the same batch."""
    torch.set_num_threads(1)
    solvers: dict[str, MaxMin | Regression] = {
        "linear interpolant, product coupling": Regression(coupling=Independent),
        "max–min, product coupling": MaxMin(coupling=Independent),
        "max–min, online Sinkhorn": MaxMin(coupling=OnlineSinkhorn),
    }
    rows = Rows(out, "step")
    for dim in (2, 16):
        problem = Mixture(dim=dim, samples=20_000).build()
        for name, solver in solvers.items():
            rows.once(partial(step_cost, solver, problem, rounds), dim=dim, method=name)
    rows.table({"dim": "d", "method": "method", "ms": "ms a step", "bare": "ms of a bare pass", "ratio": "ratio"})


def step_cost(solver: MaxMin | Regression, problem: Problem, rounds: int) -> dict[str, Cell]:
    """Medians, taken in turn so that both see the same machine; the first rounds prepare."""
    network, x, t = ResidualNetwork()(problem.dim, 1.0, 1.0, 0.5), torch.randn(solver.batch, problem.dim), torch.rand(1)
    training, steps, bare = iter(solver.start(problem)), [], []
    before = 0
    for _ in range(rounds):
        begin = time.process_time()
        progress = next(training)
        middle = time.process_time()
        network(t, x).square().mean().backward()
        bare.append(time.process_time() - middle)
        steps.append((middle - begin) / (progress.step - before))
        before = progress.step
    found = 1e3 * median(steps[5:]), 1e3 * median(bare[5:])
    return {"ms": found[0], "bare": found[1], "ratio": found[0] / found[1]}


# Seconds to an accuracy

GOALS = (0.3, 0.1, 0.03)  # nats
KEYS = ("maxmin", "maxmin-product", "maxmin-potential", "fixed", "imf", "sf2m", "torchcfm", "potential", "pot")


def accuracy(
    budgets: tuple[float, ...] = (8.0, 15.0, 30.0, 60.0, 120.0),
    seeds: tuple[int, ...] = (0,),
    dims: tuple[int, ...] = (2, 16),
    methods: tuple[str, ...] = KEYS,
    jobs: int = 1,
    out: Path = OUT / "accuracy",
) -> None:
    """Seconds until the path KL is small enough (mixture, ε = 0.5), one training with its whole schedule per budget."""
    table = bench(cells_of(Mixtures(dims, epsilons=(0.5,)).cases(), chosen(methods), budgets, seeds), out, jobs)
    fits = table.filter(~pl.col("method").is_in([FLOOR, TRUTH])).drop_nulls("path_kl")
    curves = {
        key: sorted(part.select("fit_seconds", "path_kl").iter_rows())
        for key, part in fits.group_by("case", "method", maintain_order=True)
    }
    rows = Rows(out, "times")
    rows.replace(
        {"case": case, "method": method, **{f"to_{goal:g}": seconds_to(goal, curve) for goal in GOALS}}
        for (case, method), curve in curves.items()
    )
    goals = {f"to_{goal:g}": f"seconds to {goal:g} nats" for goal in GOALS}
    rows.table(
        {"case": "problem", "method": "method", **goals},
        "Interpolated between budgets on logarithmic axes.  < and >: all budgets, or none, reach the goal.",
    )


def seconds_to(goal: float, curve: Sequence[tuple[float, float]]) -> str:
    """When a curve of (seconds, nats) first falls to the goal."""
    if curve[0][1] <= goal:
        return f"< {curve[0][0]:.3g}"
    for (before, above), (after, below) in pairwise(curve):
        if below <= goal:
            share = log(above / goal) / log(above / below)
            return f"{exp(log(before) + share * log(after / before)):.3g}"
    return f"> {curve[-1][0]:.3g}"


# Entropic plans

TOLERANCE, DIM, LARGEST = 1e-3, 16, 100_000  # the largest number of points is for our own loop only
SIZES = {0.5: (2048, 4096, 8192, 16_384), 0.05: (2048, 4096)}
GEOMLOSS_LARGEST = 4096
Found = tuple[Tensor, int]
"""A potential g (n,), normalised so that it does not depend on n, and the number of iterations."""


def ours(x0: Tensor, x1: Tensor, epsilon: float) -> Found:
    found = entropic_plan(x0, x1, epsilon, TOLERANCE)
    return found.g, found.iterations


def pot(x0: Tensor, x1: Tensor, epsilon: float) -> Found:
    weights, cost = torch.full_like(x0[:, 0], 1 / len(x0)), torch.cdist(x0, x1).square()
    stop = TOLERANCE / sqrt(len(x1))
    _, found = ot.bregman.sinkhorn_log(weights, weights, cost, pot_reg(epsilon), stopThr=stop, log=True, warn=False)
    return found["log_v"] + log(len(x1)), found["niter"]


def pot_double(x0: Tensor, x1: Tensor, epsilon: float) -> Found:
    return pot(x0.double(), x1.double(), epsilon)


def geomloss(x0: Tensor, x1: Tensor, epsilon: float, iterations: int) -> Found:
    return geomloss_log_scaling(x0.double(), x1.double(), epsilon, iterations) + log(len(x1)), iterations


LOOPS: dict[str, list[Callable[[Tensor, Tensor, float], Found]]] = {
    "ours": [ours],
    "POT, float64": [pot_double],
    "POT, float32": [pot],
    "GeomLoss": [partial(geomloss, iterations=count) for count in (62, 250, 1000)],
}
"""Each method by its attempts, the first of which that reaches the tolerance counts."""


def sinkhorn(out: Path = OUT) -> None:
    """Seconds and memory of a plan to the same marginal error, one thread, each in a process of its own.

    The error is that of the potential found, recomputed in double precision with the other marginal exact.  POT stops
    by the Euclidean norm, set to the same sum of absolute errors if they are spread evenly.  GeomLoss has no stopping
    rule and is given 62, 250 and 1,000 iterations; the first that suffices counts.
    """
    rows = Rows(out, "sinkhorn")
    for epsilon, n, method in plans_wanted():
        rows.once(partial(first_good, method, n, epsilon), epsilon=epsilon, n=n, method=method)
    save(draw_plans(rows), out / "sinkhorn.png")
    titles = {"epsilon": "ε", "n": "points", "method": "method", "seconds": "seconds", "error": "marginal error"}
    rows.table({**titles, "iterations": "iterations", "megabytes": "MB"})


def plans_wanted() -> Iterator[tuple[float, int, str]]:
    """ε, points and method of every row."""
    for epsilon, sizes in SIZES.items():
        for n in sizes:
            yield from ((epsilon, n, name) for name in LOOPS if name != "GeomLoss" or n <= GEOMLOSS_LARGEST)
        yield epsilon, LARGEST, "ours"


def first_good(method: str, n: int, epsilon: float) -> dict[str, Cell]:
    """The first attempt whose error is small enough, or the last."""
    for attempt in range(len(LOOPS[method])):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            found = alone.submit(plan_cost, method, attempt, n, epsilon).result()
        if found["error"] <= TOLERANCE:
            break
    return dict(found)


def plan_cost(method: str, attempt: int, n: int, epsilon: float) -> dict[str, float]:
    """What one plan took in this process; its memory is the rise of the process's peak."""
    torch.set_num_threads(1)
    problem = Mixture(dim=DIM, epsilon=epsilon, samples=n, test_samples=10).build()
    x0, x1 = (x - x.mean(0) for x in (problem.x0, problem.x1))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    g, iterations = LOOPS[method][attempt](x0, x1, epsilon)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = Plan.of_potential(x0.double(), x1.double(), epsilon, g).error
    return {"seconds": seconds, "error": error, "iterations": iterations, "megabytes": (after - before) / 1024}


def draw_plans(rows: Rows) -> Figure:
    """Time and memory over n."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = [(epsilon, "seconds") for epsilon in SIZES] + [(0.5, "megabytes")]
    for axes, (epsilon, column) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for colour, method in zip(COLOURS, LOOPS, strict=False):
            found = rows.find(method=method, epsilon=epsilon)
            x, y = ([float(row[name]) for row in found] for name in ("n", column))
            axes.loglog(x, y, "o-", color=colour, label=method)
        axes.set(title=f"ε = {epsilon:g}", xlabel="points per side", ylabel=column)
    figure.axes[0].legend(fontsize=8)
    return figure


# A GPU

LARGER = (1, 4, 16)  # batches, over max–min's own
WARM, ROUNDS = 2, 6


def gpu(device: str = "cuda", budget: float = 25.0, samples: int = 200_000, out: Path = OUT) -> None:
    """Milliseconds of a step and the path KL of fits for growing batches, and seconds of a plan of 100,000 points."""
    steps, fits, plans = (Rows(out, f"gpu_{name}") for name in ("steps", "fits", "plans"))
    for epsilon in (0.5, 0.05):
        problem = Mixture(dim=DIM, epsilon=epsilon, samples=samples).build().to(device)
        for larger in LARGER:
            key = {"epsilon": epsilon, "device": device, "batch": MaxMin.batch * larger}
            steps.once(partial(step_milliseconds, larger, problem, device), **key)
            fits.once(partial(fitted, larger, problem, budget), **key)
        plans.once(partial(plan_seconds, problem, device), epsilon=epsilon, device=device)


def larger_solver(larger: int) -> MaxMin:
    """Batches and plans that many times as large; more points share a time, not more times."""
    plans = partial(MinibatchSinkhorn, batch=1024 * min(larger, 8))
    return MaxMin(batch=MaxMin.batch * larger, group=MaxMin.group * max(1, larger // 4), coupling=plans)


def clock(device: str) -> float:
    """The time, once the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def step_milliseconds(larger: int, problem: Problem, device: str) -> dict[str, Cell]:
    solver = larger_solver(larger)
    training = iter(solver.start(problem))
    for _ in range(WARM):
        next(training)
    begin = clock(device)
    for _ in range(ROUNDS):
        next(training)
    return {"ms": 1e3 * (clock(device) - begin) / ROUNDS / solver.round_steps}


def fitted(larger: int, problem: Problem, budget: float) -> dict[str, Cell]:
    """Steps, seconds and path KL of a fit within the budget."""
    fit = fitted_within(larger_solver(larger), problem, budget)
    assert problem.truth is not None
    generator = torch.Generator(problem.test0.device).manual_seed(0)
    found = path_kl(fit.bridge, problem.truth, problem.test0, generator)
    return {"steps": fit.steps, "seconds": fit.seconds, "path_kl": found}


def plan_seconds(problem: Problem, device: str) -> dict[str, Cell]:
    solver = BlockwiseSinkhorn(points=LARGEST)
    solver.solve(replace(problem, x0=problem.x0[:5000], x1=problem.x1[:5000]))
    begin = clock(device)
    solver.solve(problem)
    return {"points": LARGEST, "seconds": clock(device) - begin}


# Imports


def imports(repeats: int = 5, out: Path = OUT) -> None:
    """CPU time of a Python process that imports the package or prints its help, beside one that imports torch."""
    programs = {
        "import torch": "import torch",
        "import sbridge": "import sbridge, torch",
        "a solver and the estimator": "from sbridge import MaxMin, SchrodingerBridge",
        "sbridge --help": "from sbridge.cli import main; main(['--help'])",
    }
    medians = {name: median(cpu_seconds(program) for _ in range(repeats)) for name, program in programs.items()}
    rows, torch_seconds = Rows(out, "imports"), medians["import torch"]
    rows.replace({"what": name, "seconds": value, "ratio": value / torch_seconds} for name, value in medians.items())
    rows.table({"what": "program", "seconds": "CPU seconds", "ratio": "over import torch"})


def cpu_seconds(program: str) -> float:
    """CPU seconds of a process that runs the program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":  # every process of a benchmark imports this script
    tyro.extras.subcommand_cli_from_dict(
        {"step": step, "accuracy": accuracy, "sinkhorn": sinkhorn, "imports": imports, "gpu": gpu}
    )
