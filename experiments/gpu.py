"""Claim: a GPU takes a batch and plans many times as large in the time of a small one, and what that is worth.

    .venv/bin/python experiments/gpu.py --devices cuda --budget 25   # three minutes
    .venv/bin/python experiments/gpu.py                              # the times of the CPU too

steps.csv has the time of a step of max–min (its share of the interpolant's step and of the plans included) for growing
batches, plans.csv that of a whole entropic plan between 100,000 points a side, fits.csv the path KL of fits within the
budget on the mixture in 16 dimensions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
import tyro
from bench import RESULTS
from figures import Cell, Rows

from sbridge import BlockwiseSinkhorn, MaxMin, MinibatchSinkhorn
from sbridge.arrays import seeded
from sbridge.bench.budget import fitted_within
from sbridge.evaluation.metrics import path_kl
from sbridge.problem import Problem
from sbridge.problems.mixture import Mixture

DIM, EPSILONS, LARGER = 16, (0.5, 0.05), (1, 4, 16)
WARM, ROUNDS = 2, 6
Place = tuple[str, str, int]


def solver(larger: int) -> MaxMin:
    """Max–min with batches and plans that many times as large as its own; more points share a time, not more times."""
    plans = partial(MinibatchSinkhorn, batch=1024 * min(larger, 8))
    return MaxMin(batch=MaxMin.batch * larger, group=MaxMin.group * max(1, larger // 4), coupling=plans)


def synchronised(device: str) -> float:
    """The time, once the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
    return perf_counter()


def step_seconds(problem: Problem, larger: int, device: str) -> float:
    training = solver(larger).start(problem)
    for _ in range(WARM):
        training.round()
    begin = synchronised(device)
    for _ in range(ROUNDS):
        training.round()
    return (synchronised(device) - begin) / ROUNDS / training.recipe.round_steps


def fitted(problem: Problem, larger: int, budget: float) -> dict[str, Cell]:
    """Steps, seconds and path KL of a fit within the budget."""
    fit = fitted_within(solver(larger), problem, budget)
    assert problem.truth is not None
    found = path_kl(fit.bridge, problem.truth, problem.test0, seeded(0, problem.test0.device))
    return {"steps": fit.steps, "seconds": fit.seconds, "path_kl": found}


def plan_seconds(device: str, points: int) -> float:
    problem = Mixture(dim=DIM, epsilon=EPSILONS[0], samples=points).build().to(device)
    few = replace(problem, x0=problem.x0[:5000], x1=problem.x1[:5000])
    whole = BlockwiseSinkhorn(points=points)
    whole.solve(few)
    begin = synchronised(device)
    whole.solve(problem)
    return synchronised(device) - begin


def placed(devices: Sequence[str]) -> list[Place]:
    """Where it computes: what tables call it, the device, CPU threads."""
    cores = os.cpu_count() or 1
    on_cpu = [("CPU, 1 thread", "cpu", 1), (f"CPU, {cores} threads", "cpu", cores)]
    there = on_cpu if "cpu" in devices else []
    return there + ([(torch.cuda.get_device_name(), "cuda", 1)] if "cuda" in devices else [])


def main(
    devices: tuple[str, ...] = ("cpu", "cuda"),
    budget: float = 60.0,
    samples: int = 200_000,
    points: int = 100_000,
    out: Path = RESULTS / "gpu",
) -> None:
    places = placed(devices)
    steps, plans, fits = (Rows(out, name, {}) for name in ("steps", "plans", "fits"))
    problems = [Mixture(dim=DIM, epsilon=epsilon, samples=samples).build() for epsilon in EPSILONS]
    for where, device, threads in places:
        torch.set_num_threads(threads)
        for larger in LARGER:
            key = {"where": where, "batch": str(MaxMin.batch * larger)}
            if steps.missing(**key):
                steps.add(**key, ms=1000 * step_seconds(problems[0].to(device), larger, device))
    for where, device, threads in places[-2:]:  # the fastest two
        torch.set_num_threads(threads)
        key = {"where": where, "points": str(points)}
        if plans.missing(**key):
            plans.add(**key, seconds=plan_seconds(device, points))
    where, device, threads = places[-1]
    torch.set_num_threads(threads)
    for problem in problems:
        for larger in LARGER:
            key = {"epsilon": f"{problem.epsilon:g}", "where": where, "batch": str(MaxMin.batch * larger)}
            if fits.missing(**key):
                fits.add(**key, **fitted(problem.to(device), larger, budget))


if __name__ == "__main__":
    tyro.cli(main)
