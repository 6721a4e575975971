"""Claim: with its optimiser a drift step of max–min costs 2.1 bare forward and backward passes, 3.1 with its plan.

    .venv/bin/python experiments/step_time.py

Everything is timed in turn in one process, by CPU time on one thread; the median of each ratio is what counts.
"""

import csv
import time
from collections.abc import Callable
from statistics import median

import torch
from bench import RESULTS

from sbridge import Independent, MaxMin, OnlineSinkhorn, Regression
from sbridge.problems.mixture import Mixture
from sbridge.solvers.training import Training

REPEATS = 41


def seconds(action: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def bare(training: Training) -> None:
    """Forward and backward pass of the drift network at the same batch."""
    x = torch.randn(training.recipe.batch, training.pair.dim)
    training.optimiser.zero_grad()
    training.pair(torch.rand(len(x), 1), x).square().mean().backward()


def ratios(training: Training) -> dict[str, float]:
    """Median CPU time of a drift step, without and with its share of the outer step, over the bare pass."""
    steps = training.recipe.round_steps
    inner, whole = [], []
    for _ in range(REPEATS):
        base = seconds(lambda: [bare(training) for _ in range(steps)])
        inner.append(seconds(lambda: training.descend(training.draw(training.coupling, steps))) / base)
        whole.append(seconds(training.round) / base)
    return {"drift step": median(inner), "with the interpolant's step": median(whole)}


def main() -> None:
    torch.set_num_threads(1)
    solvers = {
        "linear interpolant, product coupling": Regression(coupling=Independent),
        "max–min, product coupling": MaxMin(coupling=Independent),
        "max–min, online Sinkhorn": MaxMin(coupling=OnlineSinkhorn),
    }
    (RESULTS / "step_time").mkdir(parents=True, exist_ok=True)
    with open(RESULTS / "step_time" / "ratios.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["dim", "solver", "drift step / bare pass", "with the interpolant's step / bare pass"])
        for dim in (2, 16):
            problem = Mixture(dim=dim, samples=20_000).build()
            for name, solver in solvers.items():
                row = [dim, name, *(f"{ratio:.2f}" for ratio in ratios(solver.start(problem)).values())]
                table.writerow(row)
                print(*row, sep="  ")


if __name__ == "__main__":
    main()
